"""Drift and creep of a pair of scans: displacements against those that made the pair."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nanophantom.analysis import height_drift

Floats = npt.NDArray[np.float64]
Motion = Callable[[Floats], Floats]

N = 96
SPAN_S = 2.0 * N
"""Two frames of N rows, a second each."""


def rough(rng: np.random.Generator, length_px: float = 10.0) -> Callable[[Floats, Floats], Floats]:
    """Return a rough surface of Sq 1 nm as a function of places: a sum of 300 plane waves."""
    k = rng.normal(size=(300, 2)) * np.sqrt(2) / length_px
    phase = rng.uniform(0, 2 * np.pi, 300)

    def height(y: Floats, x: Floats) -> Floats:
        # cos(a + b) of row and column, and of the row's own displacement in x.
        waves = np.exp(1j * (np.outer(y, k[:, 0]) + phase))
        columns = np.exp(1j * np.outer(np.arange(x.shape[1]), k[:, 1]))
        moved = np.exp(1j * np.outer(x[:, 0], k[:, 1]))
        return np.asarray(np.sqrt(2 / 300) * ((waves * moved) @ columns.T).real)

    return height


def times(way: str, n: int = N, line_s: float = 1.0) -> Floats:
    down = np.arange(n) * line_s
    return np.stack([down, (2 * n - 1) * line_s - down if way == "up" else n * line_s + down])


def pair(
    surface: Callable[[Floats, Floats], Floats],
    displacement: Motion,
    t: Floats,
    rng: np.random.Generator | None = None,
    noise: float = 0.0,
    velocity_z: float = 0.0,
) -> Floats:
    """Scan a surface twice, each row displaced as at its time."""
    frames = []
    for row_times in t:
        n = len(row_times)
        d = displacement(row_times)
        z = surface(np.arange(n) + d[:, 0], np.arange(n)[None, :] + d[:, 1:])
        z = z + velocity_z * row_times[:, None]
        if rng is not None:  # of pixels, and offsets of rows
            z = z + noise * (rng.normal(size=(n, n)) + rng.normal(size=(n, 1)))
        frames.append(z)
    return np.array(frames)


def error_px(found: height_drift.DriftCorrection, displacement: Motion, t: Floats) -> float:
    """Return the rms error of all rows' displacements, their common mean apart."""
    true = displacement(t)
    return float(np.sqrt(np.mean((found.displacement_px - true + np.mean(true, axis=(0, 1))) ** 2)))


def drift(t: Floats) -> Floats:
    return np.stack([0.03 * t, -0.02 * t], axis=-1)


def creep(t: Floats) -> Floats:
    decades = np.log10((t + 1) / 0.1)  # one line after the move
    return np.stack([0.01 * t + 2 * decades, -decades], axis=-1)


def relaxation(t: Floats) -> Floats:
    gone = np.exp(-t / (0.15 * SPAN_S))
    return np.stack([0.01 * t + 4 * gone, 3 * gone - 0.01 * t], axis=-1)


FORMS: dict[str, Motion] = {"linear": drift, "creep": creep, "exponential": relaxation}


def misplaced(form: str, way: str, seed: int, noise: float) -> tuple[float, str]:
    """Return the error of a pair's displacements and the form that was found."""
    rng = np.random.default_rng(seed)
    t = times(way)
    found = height_drift.correct(pair(rough(rng), FORMS[form], t, rng, noise), t, 1.0)
    return error_px(found, FORMS[form], t), found.model


def test_rows_are_placed_without_noise() -> None:
    """Far below the 0.1 px wanted; the form of the motion is recognized."""
    error, found = misplaced("exponential", "up", 1, 0.0)
    assert error < 0.05
    assert found == "exponential"


@pytest.mark.slow
@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("form", FORMS)
def test_rows_are_placed_over_twenty_seeds(form: str, way: str) -> None:
    """Each of them without noise, with noise and offsets of rows a tenth of Sq in the mean.

    Worst is a relaxation seen down and up, of which only what differs about the turn is seen.
    """
    clean, noisy = ([misplaced(form, way, s, noise) for s in range(20)] for noise in (0.0, 0.1))
    assert max(error for error, _ in clean) < 0.05
    assert all(found == form for _, found in clean)
    assert np.mean([error for error, _ in noisy]) < 0.1


def test_drift_stretches_the_slow_axis_by_its_share_of_the_speed() -> None:
    """1 nm/min, 256 lines at 1 Hz: 4.27 nm over a frame; a strain v_d / v_slow, its sign turned.

    Down and up frame of one surface differ by twice the strain, which is measured on the rows'
    displacements and on the images: a row of the down frame is found in the up frame.
    """
    n, v, pixel = 256, 1 / 60, 1.0
    t = times("up", n)

    def moving(t: Floats) -> Floats:
        return np.stack([-v / pixel * t, 0 * t], axis=-1)

    frames = pair(rough(np.random.default_rng(2), 15), moving, t)
    found = height_drift.correct(frames, t, pixel, model="linear")
    assert found.velocity_nm_per_s[0] == pytest.approx(v, rel=1e-3)
    assert found.velocity_nm_per_s[1] == pytest.approx(0, abs=1e-3 * v)
    strain = np.array([np.polyfit(np.arange(n), d, 1)[0] for d in found.displacement_px[..., 0]])
    slow = pixel / 1.0  # nm/s
    assert np.allclose(strain, [-v / slow, v / slow], rtol=1e-3)
    over_frame = abs(strain[0]) * n * pixel
    assert over_frame == pytest.approx(4.27, rel=1e-3)


def test_creep_tells_how_far_a_move_goes_on() -> None:
    """A move of 100 nm that creeps by 1.5 % a decade: after 100 s it has become 104.5 nm.

    L (1 + g lg(t / 0.1 s)), Physik Instrumente's tutorial on piezos.
    """
    move_nm, g = 100.0, 0.015
    t = times("up") + 1.0

    def creeping(t: Floats) -> Floats:
        return np.stack([move_nm * (1 + g * np.log10(t / 0.1)), 0 * t], axis=-1)

    frames = pair(rough(np.random.default_rng(9)), creeping, t)
    found = height_drift.correct(frames, t, 1.0, start_s=0.0)
    assert found.model == "creep"
    after = move_nm + found.creep_nm_per_decade[0] * np.log10(100 / 0.1)
    assert after == pytest.approx(104.5, abs=0.2)
    assert error_px(found, creeping, t) < 0.02


def test_corrected_frames_agree_and_show_the_surface() -> None:
    rng = np.random.default_rng(3)
    t = times("up")
    surface = rough(rng)
    frames = pair(surface, drift, t)
    found = height_drift.correct(frames, t, (0.5, 0.25))
    mean = np.mean(drift(t), axis=(0, 1))
    true = surface(np.arange(N) + mean[0], np.arange(N)[None, :] + np.full((N, 1), mean[1]))
    seen = found.coverage == 2
    assert np.mean(seen) > 0.85
    assert np.sqrt(np.mean((found.image - true)[seen] ** 2)) < 0.01
    assert np.sqrt(np.mean((frames[0] - true)[seen] ** 2)) > 0.2  # before
    assert found.residual_nm < 0.005
    assert found.residual_px < 0.02
    assert np.allclose(found.velocity_nm_per_s, [-0.03 * 0.5, 0.02 * 0.25], rtol=1e-2)


@pytest.mark.slow
def test_noise_is_all_that_is_left_between_the_frames() -> None:
    rng = np.random.default_rng(4)
    t = times("up")
    found = height_drift.correct(pair(rough(rng), drift, t, rng, 0.1), t, 1.0)
    # Interpolation takes some of the noise away.
    assert 0.07 < found.residual_nm < 0.1
    assert found.residual_px < 0.05


@pytest.mark.parametrize("way", ["up", pytest.param("down", marks=pytest.mark.slow)])
def test_drift_in_z_tells_from_the_slopes_or_from_the_levels(way: str) -> None:
    """Up and down by how the slow axis tilts; twice down by how much higher the second lies."""
    rng = np.random.default_rng(5)
    t = times(way)
    frames = pair(rough(rng), drift, t, velocity_z=0.005)
    found = height_drift.correct(frames, t, 1.0, model="linear")
    assert found.velocity_z_nm_per_s == pytest.approx(0.005, rel=0.02)
    both = found.coverage == 2
    assert abs(np.mean((found.corrected[1] - found.corrected[0])[both])) < 0.01


@pytest.mark.slow
def test_a_frame_may_strain_by_a_sixth() -> None:
    """Drift of 0.17 rows a row: the rows read first and last differ by 27 px."""
    t = times("up", 160)

    def fast(t: Floats) -> Floats:
        return np.stack([-t / 6, t / 12], axis=-1) / 2

    frames = pair(rough(np.random.default_rng(6)), fast, t)
    found = height_drift.correct(frames, t, 1.0, max_shift_px=40)
    assert error_px(found, fast, t) < 0.05


@pytest.mark.slow
def test_scars_can_be_masked() -> None:
    rng = np.random.default_rng(7)
    t = times("up")
    frames = pair(rough(rng), drift, t)
    mask = np.zeros(frames.shape, bool)
    for f, y in enumerate((20, 60)):
        mask[f, y : y + 2, 15:80] = True
    frames[mask] = np.nan
    found = height_drift.correct(frames, t, 1.0, mask=mask)
    assert error_px(found, drift, t) < 0.05


def test_pairs_that_cannot_be_aligned_are_refused() -> None:
    rng = np.random.default_rng(8)
    t = times("up")
    noise = rng.normal(size=(2, N, N))
    frames = pair(rough(rng), drift, t)
    hole = frames.copy()
    hole[0, 3, 4] = np.nan
    wrong: list[tuple[Any, Any, dict[str, Any], str]] = [
        (noise, t, {}, "in common|still differ|faster"),
        (np.zeros((2, N, N)), t, {}, "in common"),
        (hole, t, {}, "finite"),
        (frames[0], t, {}, "pair"),
        (frames[:, :20], t[:, :20], {}, "32 or more"),
        (frames, t[:, :9], {}, "one per row"),
        (frames, np.stack([t[0], t[0]]), {}, "same times_s"),
        (frames, np.zeros((2, N)), {}, "rise or fall"),
        (frames, t, {"pixel_size_nm": 0.0}, "pixel_size_nm"),
        (frames, t, {"model": "cubic"}, "model"),
        (frames, t, {"max_shift_px": -1}, "max_shift_px"),
        (frames, t, {"start_s": 5.0}, "start_s"),
        (frames, t, {"mask": np.zeros((N, N), bool)}, "mask"),
    ]
    for images, row_times, settings, match in wrong:
        with pytest.raises(ValueError, match=match):
            height_drift.correct(images, row_times, **{"pixel_size_nm": 1.0, **settings})
