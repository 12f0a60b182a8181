"""Local registration: a known doming is recovered from noisy counts, and none is invented."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from nanophantom.analysis.local_registration import (
    LocalRegistration,
    add_up_warped,
    register_locally,
)
from nanophantom.analysis.registration import add_up, register

FloatArray = npt.NDArray[np.float64]
SIDE, FRAMES, MARGIN = 384, 30, 40


def structure() -> FloatArray:
    """Return a film of grains of 5 px and more, mean one, with a crystalline disc in it."""
    rng = np.random.default_rng(3)
    n = SIDE + 2 * MARGIN
    y, x = np.arange(n)[:, None] - n / 2, np.arange(n)[None, :] - n / 2
    grain = ndimage.gaussian_filter(rng.normal(size=(n, n)), 1.5)
    lattice = np.cos(2 * np.pi * (y + 0.3 * x) / 9) + np.cos(2 * np.pi * (x - 0.3 * y) / 9)
    inside = 1 / (1 + np.exp((np.hypot(y, x) - 0.4 * SIDE) / 3))
    return np.asarray(np.maximum(1 + 0.2 * grain / grain.std() + 0.12 * lattice * inside, 0.05))


def doming(amplitude_px: float, frame: int, y: FloatArray, x: FloatArray) -> FloatArray:
    """Return the true distortion: a quadratic of x and y that saturates with dose."""
    v, u = 2 * y / (SIDE - 1) - 1, 2 * x / (SIDE - 1) - 1
    grown = amplitude_px * (1 - np.exp(-frame / (FRAMES / 4)))
    return grown * np.array([0.7 * v**2 + 0.3 * u * v, 0.5 * u**2 - 0.5 * v])


def series(
    amplitude_px: float, dose: float, seed: int
) -> tuple[npt.NDArray[np.uint16], FloatArray, FloatArray]:
    """Return the counts, the rigid drift, and the undistorted image."""
    rng = np.random.default_rng(seed)
    path = np.cumsum(rng.normal(0, 0.3, (FRAMES, 2)) + np.array([0.2, -0.1]), axis=0)
    path -= path[0]
    image = structure()
    spline = ndimage.spline_filter(image)
    y, x = np.indices((SIDE, SIDE)).astype(np.float64)
    frames = []
    for i, shift in enumerate(path):
        # What lies at p in frame 0 lies at q = p + shift + doming(p): solve for p.
        at_y, at_x = y - shift[0], x - shift[1]
        for _ in range(6):
            away = doming(amplitude_px, i, at_y, at_x)
            at_y, at_x = y - shift[0] - away[0], x - shift[1] - away[1]
        place = [at_y + MARGIN, at_x + MARGIN]
        ideal = ndimage.map_coordinates(spline, place, order=3, prefilter=False)
        frames.append(rng.poisson(dose * np.maximum(ideal, 0)))
    return np.array(frames, np.uint16), path, image[MARGIN:-MARGIN, MARGIN:-MARGIN]


def test_doming_of_3_px_is_recovered_to_a_tenth_of_a_pixel_at_one_count() -> None:
    """Better than the rigid registration by five times, and the sum is sharper for it."""
    stack, path, image = series(3.0, 1.0, 7)
    rigid = register(stack)
    local = register_locally(stack, rigid)
    y, x = np.mgrid[20:364:16, 20:364:16].astype(np.float64)
    true = np.array([path[i][:, None, None] + doming(3.0, i, y, x) for i in range(FRAMES)])
    found = np.array([rigid.shifts_px[i][:, None, None] + local.at(i, y, x) for i in range(FRAMES)])
    left = found - true
    left_rigid = rigid.shifts_px[:, :, None, None] - true
    for error in (left, left_rigid):
        error -= error.mean(axis=(0, 2, 3), keepdims=True)
    assert np.sqrt(np.mean(left**2)) < 0.1
    assert np.sqrt(np.mean(left**2)) < 0.2 * np.sqrt(np.mean(left_rigid**2))

    inner = (slice(20, -20), slice(20, -20))

    def likeness(total: npt.NDArray[np.float32]) -> float:
        return float(np.corrcoef(total[inner].ravel(), image[inner].ravel())[0, 1])

    assert (
        likeness(add_up_warped(stack, local)[0])
        > likeness(add_up(stack, rigid.shifts_px)[0]) + 0.05
    )


def test_no_distortion_is_found_where_there_is_none() -> None:
    """The field is zero: what the patches seem to do is what chance makes them do."""
    stack, _, _ = series(0.0, 0.5, 1)
    local = register_locally(stack, patches=5)
    assert np.all(local.coefficients == 0)


def test_half_a_pixel_is_still_seen_for_real() -> None:
    """The decision isn't always no: 0.5 px of doming at 2 counts a pixel is found."""
    stack, _, _ = series(0.5, 2.0, 7)
    local = register_locally(stack, patches=5)
    y, x = np.mgrid[20:364:16, 20:364:16].astype(np.float64)
    last = FRAMES - 1
    left = local.at(last, y, x) - doming(0.5, last, y, x)
    left -= left.mean(axis=(1, 2), keepdims=True)
    assert np.any(local.coefficients != 0)
    assert np.sqrt(np.mean(left**2)) < 0.08


def warped(coefficients: FloatArray, n: int = 3) -> LocalRegistration:
    shifts = np.linspace([0, 0], [2.5, -1.25], n)
    return LocalRegistration(shifts, coefficients, (64, 80), 1, 1, np.ones((1, 1), bool))


def test_even_illumination_stays_even_and_coverage_counts() -> None:
    stretch = np.zeros((2, 3, 1))
    stretch[0, 2, 0] = 1.5  # dy grows with y
    total, coverage = add_up_warped(np.full((3, 64, 80), 7, np.uint16), warped(stretch))
    np.testing.assert_allclose(total, 21, rtol=1e-6)
    assert coverage.max() == 3
    assert coverage[:, 0].max() == 1  # later frames moved by -0.6 and -1.25 px don't reach it


def test_a_straight_slope_is_sampled_exactly_where_the_field_says() -> None:
    """Cubic convolution reproduces straight lines: frame i shows y + dy at y."""
    registration = warped(np.zeros((2, 3, 1)))
    ramp = np.broadcast_to(np.arange(64.0)[:, None], (3, 64, 80))
    total, coverage = add_up_warped(ramp, registration)
    inner = (slice(4, -4), slice(4, -4))
    assert np.all(coverage[inner] == 3)
    np.testing.assert_allclose(total[inner], (3 * ramp[0] + 3.75)[inner], rtol=1e-5)


def test_displacement_is_shift_plus_field() -> None:
    field = np.zeros((2, 3, 1))
    field[1, 0, 0] = 0.8
    registration = warped(field)
    np.testing.assert_allclose(registration.displacement_px(2)[:, 5, 9], [2.5, -0.45])
    np.testing.assert_allclose(registration.displacement_px(0), 0)


def test_what_cannot_be_tracked_is_refused() -> None:
    stack = np.arange(12 * 64 * 64, dtype=np.uint16).reshape(12, 64, 64) % 7
    rigid = register(stack[:1])
    with pytest.raises(ValueError, match="positive"):
        register_locally(stack, rigid, patches=0)
    with pytest.raises(ValueError, match="bins of frames"):
        register_locally(stack[:4], rigid)
    with pytest.raises(ValueError, match="too small"):
        register_locally(stack, rigid)
    with pytest.raises(ValueError, match="patches a side"):
        register_locally(stack, rigid, patches=2)
    with pytest.raises(ValueError, match="the registration is of"):
        add_up_warped(np.ones((3, 32, 32)), warped(np.zeros((2, 3, 1))))
