"""Site traces: signals of known spots in drifting frames, and the noise they say they have."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from nanophantom.analysis.site_traces import site_traces

FloatArray = npt.NDArray[np.float64]
SIGMA = 2.0


def spots(shape: tuple[int, int], at: FloatArray, height: FloatArray, ground: float) -> FloatArray:
    """Return Gaussian spots on a flat ground."""
    gy = np.exp(-0.5 * ((np.arange(shape[0])[:, None] - at[:, 0]) / SIGMA) ** 2)
    gx = np.exp(-0.5 * ((np.arange(shape[1])[:, None] - at[:, 1]) / SIGMA) ** 2)
    return np.asarray(ground + (gy * height) @ gx.T)


def square_lattice(side: int, spacing: float, margin: float) -> FloatArray:
    axis = np.arange(margin, side - margin, spacing)
    return np.array([(y + 0.37, x + 0.21) for y in axis for x in axis])


def test_overlapping_spots_of_a_drifting_lattice_are_told_apart_without_noise() -> None:
    """Spots 4 widths apart, one vanishing: every signal within 1 % of the mean height."""
    rng = np.random.default_rng(1)
    sites = square_lattice(128, 4 * SIGMA, 8)
    shifts = np.cumsum(rng.normal(0, 0.6, (20, 2)), axis=0)
    heights = np.tile(rng.uniform(0.5, 1.5, len(sites))[:, None], (1, 20))
    heights[100, 10:] = 0
    movie = np.array(
        [spots((128, 128), sites + d, heights[:, i], 1.0) for i, d in enumerate(shifts)]
    )
    traces = site_traces(movie, shifts, sites, SIGMA)
    assert traces.seen.mean() > 0.95
    assert np.max(np.abs(traces.signal - heights)[traces.seen]) < 0.01


def test_noise_is_as_stated_for_lattice_and_single_spot() -> None:
    """Standard error within 2 % of the scatter, no bias, third cumulant within 10 %."""
    rng = np.random.default_rng(2)
    at = np.array([[30.3, 31.1]])
    ideal = spots((62, 62), at, np.array([0.5]), 0.2)
    traces = site_traces(
        rng.poisson(ideal, (8_000, 62, 62)).astype(np.uint8), np.zeros((8_000, 2)), at, SIGMA
    )
    error = traces.signal[0] - 0.5
    assert np.mean(error) == pytest.approx(0, abs=4 * error.std() / np.sqrt(8_000))
    assert np.mean(traces.standard_error) == pytest.approx(error.std(), rel=0.02)
    assert np.mean(error**3) / np.var(error) == pytest.approx(traces.gain[0], rel=0.1)

    sites = square_lattice(96, 4 * SIGMA, 8)
    height = rng.uniform(0.5, 1.5, len(sites))
    ideal = spots((96, 96), sites, height, 1.0)
    movie = rng.poisson(ideal, (300, 96, 96)).astype(np.uint16)
    traces = site_traces(movie, np.zeros((300, 2)), sites, SIGMA)
    seen = traces.seen.all(axis=1)
    z = ((traces.signal - height[:, None]) / traces.standard_error)[seen]
    assert np.mean(z) == pytest.approx(0, abs=0.03)
    assert np.std(z) == pytest.approx(1, abs=0.02)


def test_a_single_spot_is_measured_nearly_as_well_as_on_a_known_ground() -> None:
    """Fisher: variance ground / (pi s²) for a faint spot on a known ground.

    The ground's mean over a window of 21² px, measured too, costs 4 pi s² / 21² = 11.4 %.
    """
    rng = np.random.default_rng(3)
    at = np.array([[30.3, 31.1]])
    movie = rng.poisson(1.0, (500, 62, 62))
    traces = site_traces(movie, np.zeros((500, 2)), at, SIGMA)
    fisher = 1 / (np.pi * SIGMA**2)
    measured = fisher / (1 - 4 * np.pi * SIGMA**2 / 21**2)
    assert np.mean(traces.standard_error) ** 2 == pytest.approx(measured, rel=0.03)
    assert np.var(traces.signal) == pytest.approx(measured, rel=0.25)


def test_drift_by_fractions_of_a_pixel_adds_no_noise_and_a_shaded_ground_no_bias() -> None:
    """On a ground that rises by half across the frame, a drifting spot scatters as a still one."""
    rng = np.random.default_rng(4)
    at = np.array([[40.0, 41.0]])
    shifts = rng.uniform(-6, 6, (2000, 2))
    shifts[0] = 0
    slope = np.linspace(0.75, 1.25, 80)[None, :]
    movie = np.array(
        [rng.poisson(slope * spots((80, 80), at + d, np.array([1.0]), 0) + slope) for d in shifts],
        np.uint8,
    )
    traces = site_traces(movie, shifts, at, SIGMA)
    true = np.interp(at[0, 1] + shifts[:, 1], np.arange(80), slope[0])
    z = (traces.signal[0] - true) / traces.standard_error[0]
    assert np.mean(z) == pytest.approx(0, abs=4 / np.sqrt(2000))
    assert np.std(z) == pytest.approx(1, abs=4 / np.sqrt(4000))


def test_sites_that_leave_the_frame_are_marked_and_dark_spots_are_negative() -> None:
    """Within three widths of the edge a site isn't seen: signal 0, standard error infinite."""
    at = np.array([[30.0, 12.0], [30.0, 40.0]])
    shifts = np.array([[0.0, 0.0], [0.0, -7.0]])
    movie = np.array([spots((60, 60), at + d, np.array([-0.6, -0.6]), 1.0) for d in shifts])
    traces = site_traces(movie, shifts, at, SIGMA)
    assert traces.seen.tolist() == [[True, False], [True, True]]
    assert traces.signal[0, 1] == 0
    assert np.isinf(traces.standard_error[0, 1])
    np.testing.assert_allclose(traces.signal[traces.seen], -0.6, atol=2e-3)


def test_blank_frames_and_empty_places_say_nothing() -> None:
    """A frame of a blanked beam isn't seen; where nothing was counted the error isn't zero."""
    rng = np.random.default_rng(6)
    at = np.array([[30.0, 20.0], [30.0, 65.0]])
    movie = rng.poisson(spots((60, 90), at[:1], np.array([1.0]), 1.0), (6, 60, 90))
    movie[:, :, 45:] = 0
    movie[3] = 0
    traces = site_traces(movie, np.zeros((6, 2)), at, SIGMA)
    assert traces.seen[:, 3].tolist() == [False, False]
    assert traces.seen.sum() == 10
    assert np.all(traces.standard_error > 0)
    assert np.all(np.isfinite(traces.signal))
    assert np.all(traces.relative_dose > 0)


def test_refusals() -> None:
    """One line says what is wrong."""
    movie, shifts, sites = np.ones((3, 32, 32)), np.zeros((3, 2)), np.array([[16.0, 16.0]])
    with pytest.raises(ValueError, match="shape"):
        site_traces(movie[0], shifts, sites, SIGMA)
    with pytest.raises(ValueError, match="shifts_px"):
        site_traces(movie, shifts[:2], sites, SIGMA)
    with pytest.raises(ValueError, match="nowhere negative"):
        site_traces(-movie, shifts, sites, SIGMA)
    with pytest.raises(ValueError, match="spot_sigma_px"):
        site_traces(movie, shifts, sites, 0.3)
    with pytest.raises(ValueError, match="merge"):
        site_traces(movie, shifts, np.array([[16.0, 16.0], [16.5, 16.0]]), SIGMA)
    with pytest.raises(ValueError, match="empty"):
        site_traces(0 * movie, shifts, sites, SIGMA)
