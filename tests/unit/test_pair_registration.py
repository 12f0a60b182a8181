"""All pairs: outliers are overruled, and no unit-cell jump where plain correlation fails."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import fft

from nanophantom.analysis.pair_registration import Pairs, continued, positions_from_pairs
from nanophantom.analysis.registration import register
from nanophantom.validation.drift_limit import drift_limit

FloatArray = npt.NDArray[np.float64]
MARGIN = 40


class Particle:
    """A crystalline disc (9 px lattice) with an edge on an amorphous film, mean about one."""

    def __init__(self, side_px: int, amorphous: float) -> None:
        rng = np.random.default_rng(1)
        n = side_px + 2 * MARGIN
        y, x = np.arange(n)[:, None] - n / 2, np.arange(n)[None, :] - n / 2
        self.ky, self.kx = fft.fftfreq(n)[:, None], fft.rfftfreq(n)[None, :]
        lattice = np.zeros((n, n))
        for angle in 0.3 + np.pi / 3 * np.arange(3):
            lattice += np.cos(2 * np.pi / 9 * (np.cos(angle) * x + np.sin(angle) * y)) / 6
        inside = 1 / (1 + np.exp((np.hypot(y + 3, x - 5) - 0.3 * side_px) / 3))
        film = fft.rfft2(rng.normal(size=(n, n))) * np.exp(
            -((np.hypot(self.ky, self.kx) / 0.2) ** 4)
        )
        grain = fft.irfft2(film, (n, n))
        image = 1 + (lattice - 0.1) * inside + amorphous * grain / grain.std()
        self.spectrum = fft.rfft2(np.maximum(image, 0.05))
        self.n = n

    def at(self, shift: FloatArray) -> FloatArray:
        phase = np.exp(-2j * np.pi * (self.ky * shift[0] + self.kx * shift[1]))
        image = fft.irfft2(self.spectrum * phase, (self.n, self.n))
        return np.maximum(image[MARGIN:-MARGIN, MARGIN:-MARGIN], 0)

    def series(
        self, n: int, dose: float, rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.uint16], FloatArray]:
        angle = rng.uniform(0, 2 * np.pi)
        steps = rng.normal(0, 0.5, (n, 2)) + 0.6 * np.array([np.sin(angle), np.cos(angle)])
        path = np.cumsum(steps, axis=0)
        path -= path[0]
        return np.array([rng.poisson(dose * self.at(d)) for d in path], np.uint16), path


def correlated_with(frame: FloatArray, reference: FloatArray, reach: int = 40) -> FloatArray:
    """Return the shift at the highest value of the plain cross-correlation."""
    spectrum = fft.rfft2(frame - frame.mean()) * np.conj(fft.rfft2(reference - reference.mean()))
    correlation = np.roll(fft.irfft2(spectrum, frame.shape), (reach, reach), (0, 1))
    top = np.argmax(correlation[: 2 * reach + 1, : 2 * reach + 1])
    return np.array(np.unravel_index(top, (2 * reach + 1, 2 * reach + 1))) - float(reach)


def jumps(found: FloatArray, true: FloatArray) -> int:
    """Return how many frames lie off by more than 2 px; a unit cell is 9 px."""
    error = found - true
    error -= np.median(error, axis=0)
    return int(np.sum(np.hypot(error[:, 0], error[:, 1]) > 2))


def test_no_unit_cell_jump_at_a_fifth_of_a_count_where_plain_correlation_fails() -> None:
    """0.2 counts a pixel, 30 frames: none of 3 x 30 frames jumps.

    The plain correlation with frame 0, and a chain along the sum of the frames aligned so far,
    lose most of the 30 frames of a series.
    """
    particle = Particle(384, 0.08)
    first, chained = 0, 0
    for seed in range(3):
        stack, path = particle.series(30, 0.2, np.random.default_rng(seed))
        assert jumps(register(stack).shifts_px, path) == 0
        if seed > 0:
            continue
        frames = stack.astype(np.float64)
        to_first = np.array([correlated_with(frame, frames[0]) for frame in frames])
        first += jumps(to_first, path)
        chain, total = np.zeros((30, 2)), frames[0].copy()
        for i in range(1, 30):
            chain[i] = correlated_with(frames[i], total)
            total += np.roll(frames[i], -chain[i].astype(int), (0, 1))
        chained += jumps(chain, path)
    assert first > 15
    assert chained > 15


@pytest.mark.slow
def test_precision_is_within_a_fifth_of_the_bound_of_an_unknown_specimen() -> None:
    """1 count a pixel, 24 frames, 20 seeds: the median residual is 1.2 times the bound or less."""
    particle = Particle(192, 0.05)
    limit = np.sqrt(np.mean(drift_limit(particle.at(np.zeros(2)), 24) ** 2))
    ratio = []
    for seed in range(20):
        stack, path = particle.series(24, 1.0, np.random.default_rng(seed))
        error = register(stack).shifts_px - path
        ratio.append(np.sqrt(np.mean((error - error.mean(axis=0)) ** 2)) / limit)
    assert np.median(ratio) < 1.2
    assert np.median(ratio) > 0.9  # nobody beats the bound


def pairs_of(positions: FloatArray) -> Pairs:
    n = len(positions)
    return Pairs(positions[:, None] - positions[None], np.ones((n, n)), np.ones((n, n)))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_pairs_off_by_a_unit_cell_are_found_and_overruled(seed: int) -> None:
    """A fifth of 66 pairs took one of six neighbouring unit cells: the positions stay exact."""
    rng = np.random.default_rng(seed)
    positions = rng.normal(0, 10, (12, 2))
    positions -= positions.mean(axis=0)
    pairs = pairs_of(positions)
    wrong = np.zeros((12, 12), bool)
    upper = np.transpose(np.triu_indices(12, 1))
    for i, j in rng.choice(upper, 13, replace=False):
        angle = np.pi / 3 * rng.integers(6)
        cell = 9 * np.array([np.sin(angle), np.cos(angle)])
        pairs.shifts[i, j] += cell
        pairs.shifts[j, i] -= cell
        wrong[i, j] = wrong[j, i] = True
    found, overruled = positions_from_pairs(pairs)
    np.testing.assert_array_equal(overruled, wrong)
    np.testing.assert_allclose(found, positions, atol=1e-9)


def test_all_pairs_average_the_noise_of_each() -> None:
    """Of n positions with noise s a pair, least squares leave s sqrt((n-1)/n²) each."""
    rng = np.random.default_rng(4)
    n, s = 16, 0.1
    error = []
    for _ in range(40):
        pairs = pairs_of(np.zeros((n, 2)))
        noise = np.triu(rng.normal(0, s, (2, n, n)), 1)
        pairs.shifts[...] += np.moveaxis(noise - noise.transpose(0, 2, 1), 0, -1)
        error.append(positions_from_pairs(pairs)[0])
    # 40 x 16 x 2 values: their rms is known to 3 %.
    assert np.std(error) == pytest.approx(s * np.sqrt(n - 1) / n, rel=0.1)


def test_precise_pairs_weigh_more() -> None:
    """Three positions on a line: 0-2 says 3, by way of 1 it's 1 + 1 with four times the weight.

    Minimising 4 (a-1)² + 4 (b-1)² + (a+b-3)² gives a = b = 7/6.
    """
    pairs = pairs_of(np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]))
    pairs.shifts[2, 0, 0], pairs.shifts[0, 2, 0] = 3.0, -3.0
    pairs.precision[:] = [[0, 4, 1], [4, 0, 4], [1, 4, 0]]
    found, overruled = positions_from_pairs(pairs)
    assert not overruled.any()
    np.testing.assert_allclose(np.diff(found[:, 0]), 7 / 6)


def test_runs_go_on_where_the_last_one_leads() -> None:
    """Three runs of a straight drift, each about its own mean, join to a nearly straight line."""
    frames = np.arange(30)
    runs = np.array_split(frames, 3)
    straight = frames[:, None] * np.array([1.5, -0.7])
    pieces = np.concatenate([straight[run] - straight[run].mean(axis=0) for run in runs])
    joined = continued(pieces, list(runs))
    # A run of 10 is believed to 82.5 / 83.5 of its slope: 0.18 px short after 10 frames.
    np.testing.assert_allclose(np.diff(joined, axis=0), np.diff(straight, axis=0), atol=0.19)
