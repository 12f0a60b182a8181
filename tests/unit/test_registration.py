"""Registration: shifts, sums and coverage of series whose drift is known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from nanophantom.analysis.registration import add_up, register

FloatArray = npt.NDArray[np.float64]


def crystal(
    shift: FloatArray, shape: tuple[int, int], contrast: float = 0.6, edge: bool = True
) -> FloatArray:
    """Return a lattice of 24 x 30 px, centred, moved by (dy, dx); mean about one.

    With an edge it's a disc in vacuum, like a particle; else it fills the frame and beyond.
    """
    ny, nx = shape
    y = np.arange(ny)[:, None] - shift[0]
    x = np.arange(nx)[None, :] - shift[1]
    lattice = 0.5 * contrast * np.cos(2 * np.pi * y / 24) * np.cos(2 * np.pi * x / 30)
    lattice += 0.15 * contrast * (np.cos(4 * np.pi * y / 24) + np.cos(4 * np.pi * x / 30))
    if not edge:
        return np.asarray(1 + lattice)
    radius = np.hypot(y - 0.45 * ny, x - 0.5 * nx)
    return np.asarray(1 + lattice / (1 + np.exp((radius - 0.3 * min(ny, nx)) / 4)))


def drift(n: int, rng: np.random.Generator, speed: float = 1.2, walk: float = 0.8) -> FloatArray:
    """Return a drift with a steady part and a random walk, zero in frame 0."""
    steps = rng.normal(0, walk, (n, 2)) + np.array([speed, -0.6 * speed])
    path = np.cumsum(steps, axis=0)
    return np.asarray(path - path[0])


def residual_rms(found: FloatArray, true: FloatArray) -> float:
    """Return the rms of what is left of the drift, the series' common position taken away."""
    error = found - true
    return float(np.sqrt(np.mean((error - error.mean(axis=0)) ** 2)))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_particle_at_04_counts_per_pixel_registers_without_a_lattice_jump(seed: int) -> None:
    """50 e/Å² at 0.09 Å pixels: below 0.1 px rms, and no frame off by more than half a pixel."""
    rng = np.random.default_rng(seed)
    path = drift(24, rng)
    shape = (768, 640)
    stack = np.array([rng.poisson(0.4 * crystal(d, shape, 1.0)) for d in path], np.uint16)
    found = register(stack)
    assert residual_rms(found.shifts_px, path) < 0.1
    assert np.max(np.abs(found.shifts_px - path)) < 0.5
    assert np.all(found.shifts_px[0] == 0)


def test_lattice_without_edges_follows_the_smooth_drift_beyond_its_period() -> None:
    """Every lattice vector fits as well: continuity alone decides, over two periods of drift."""
    rng = np.random.default_rng(5)
    path = drift(40, rng, speed=1.4, walk=0.5)
    stack = np.array(
        [rng.poisson(0.4 * crystal(d, (512, 512), edge=False)) for d in path], np.uint16
    )
    assert np.max(np.abs(path)) > 48
    found = register(stack)
    assert np.max(np.abs(found.shifts_px - path)) < 1


def test_sudden_jump_of_a_particle_is_followed() -> None:
    """The prior is for what the counts don't tell: 40 px in one frame are told by the edges."""
    rng = np.random.default_rng(6)
    path = drift(12, rng)
    path[6:] += np.array([24.0, -30.0])  # a lattice vector, the most tempting to overlook
    stack = np.array([rng.poisson(crystal(d, (512, 512))) for d in path], np.uint16)
    assert np.max(np.abs(register(stack).shifts_px - path)) < 0.5


def test_precision_is_near_the_limit_of_a_known_template() -> None:
    """A shift can't be known better than 1 / sum (dI/dy)**2 / I; 1.3 of this at 1 count."""
    rng = np.random.default_rng(7)
    path = drift(20, rng)
    shape = (512, 512)
    stack = np.array([rng.poisson(crystal(d, shape)) for d in path], np.uint16)
    image = crystal(np.zeros(2), shape)
    bound = 1 / np.sqrt(np.sum(np.gradient(image)[0] ** 2 / image))
    error = register(stack).shifts_px[:, 0] - path[:, 0]
    assert np.std(error) < 1.3 * bound


def test_noise_free_frames_give_exact_shifts_of_any_sign_gain_and_offset() -> None:
    """(dy, dx): what lies at p in frame 0 lies at p + shift in the frame, y and x told apart."""
    path = np.array([[0, 0], [3.25, -7.5], [-11.3, 4.7], [0.4, 12.6]])
    stack = np.array([crystal(d, (256, 320)) for d in path])
    np.testing.assert_allclose(register(stack).shifts_px, path, atol=0.02)
    np.testing.assert_allclose(register(-40 * stack + 500).shifts_px, path, atol=0.02)


def test_sum_lies_in_the_coordinates_of_frame_0() -> None:
    rng = np.random.default_rng(8)
    path = drift(16, rng)
    shape = (384, 448)
    stack = np.array([rng.poisson(10 * crystal(d, shape)) for d in path], np.uint16)
    found = register(stack)
    expected = 160 * crystal(np.zeros(2), shape)
    inside = found.coverage == 16
    z = ((found.aligned_sum - expected) / np.sqrt(expected))[inside]
    # Shifting by a Fourier phase keeps the noise white and its variance that of the counts.
    assert np.std(z) == pytest.approx(1, abs=0.03)
    # Where fewer frames contribute the sum is scaled up, and its variance with it.
    z = (found.aligned_sum - expected) / np.sqrt(expected * 16 / found.coverage)
    assert np.std(z[~inside]) == pytest.approx(1, abs=0.05)


def test_coverage_counts_the_frames_that_saw_a_pixel() -> None:
    """Nothing wraps round: a frame moved by (3, -2) shows nothing of three rows at one edge."""
    images = np.ones((2, 10, 12), np.uint16)
    total, coverage = add_up(images, np.array([[0.0, 0.0], [3.0, -2.0]]))
    expected = np.full((10, 12), 2)
    expected[7:, :] = 1
    expected[:, :2] = 1
    np.testing.assert_array_equal(coverage, expected)
    np.testing.assert_allclose(total, 2.0)


def test_blank_frames_are_left_where_their_neighbours_are() -> None:
    """Nothing to see: the prior alone places the frames, near zero, and says how little it is."""
    rng = np.random.default_rng(9)
    stack = rng.poisson(0.4, (6, 256, 256)).astype(np.uint16)
    found = register(stack)
    assert np.max(found.significance) < 7
    assert np.max(np.abs(found.shifts_px)) < 64


def test_one_frame_is_its_own_sum() -> None:
    image = np.arange(64, dtype=np.uint16).reshape(1, 8, 8)
    found = register(image)
    np.testing.assert_array_equal(found.aligned_sum, image[0])
    np.testing.assert_array_equal(found.coverage, 1)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.ones((16, 16)), "the shape"),
        (np.ones((2, 4, 16)), "sides of 8"),
        (np.full((2, 16, 16), np.nan), "finite"),
        (np.ones((2, 16, 16), complex), "real numbers"),
        (np.ones((3, 16, 16)), "no contrast"),
    ],
)
def test_what_is_no_series_is_refused(images: npt.NDArray[np.generic], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        register(images)
    with pytest.raises(ValueError, match="positive"):
        register(np.arange(512.0).reshape(2, 16, 16), max_shift_px=-1)
