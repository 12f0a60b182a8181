"""Thickness and tilt from PACBED against patterns in closed form, two beams for each disk."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import erf

from nanophantom.analysis import pacbed

FloatArray = npt.NDArray[np.float64]
N = 64
RADIUS_PX = 8.0
SPOT_PX = 18.0
MRAD_PER_PX = 0.5
EXTINCTION_NM = {(1, 0): 40.0, (-1, 0): 40.0, (0, 1): 55.0, (0, -1): 55.0}


def pattern(
    t_nm: float,
    tilt: tuple[float, float] = (0.0, 0.0),
    shift: tuple[float, float] = (0.0, 0.0),
    rotation_deg: float = 0.0,
    edge_px: float = 1.2,
) -> FloatArray:
    """Return two-beam disks, I_g = sin^2(pi t q) / (xi q)^2, q^2 = s^2 + 1 / xi^2.

    The deviation s goes with the angle along g (x right, y down), to which the tilt adds.
    """
    c, s = np.cos(np.deg2rad(rotation_deg)), np.sin(np.deg2rad(rotation_deg))
    rows = np.arange(N)[:, None] - (N - 1) / 2 - shift[0]
    columns = np.arange(N)[None, :] - (N - 1) / 2 - shift[1]
    x, y = c * columns + s * rows, -s * columns + c * rows

    def disk(x: FloatArray, y: FloatArray) -> FloatArray:
        return np.asarray(0.5 - 0.5 * erf((np.hypot(x, y) - RADIUS_PX) / edge_px))

    image, left = np.zeros((N, N)), np.ones((N, N))
    for (gx, gy), xi in EXTINCTION_NM.items():

        def rocking(x: FloatArray, y: FloatArray, g: Any = (gx, gy), xi: float = xi) -> FloatArray:
            along = g[0] * (MRAD_PER_PX * x + tilt[0]) + g[1] * (MRAD_PER_PX * y + tilt[1])
            deviation = 0.006 + 0.004 * along  # per nm
            q = np.hypot(deviation, 1 / xi)
            return np.asarray((np.sin(np.pi * t_nm * q) / (xi * q)) ** 2)

        u, v = x - gx * SPOT_PX, y - gy * SPOT_PX
        image += 0.25 * disk(u, v) * rocking(u, v)
        left -= 0.25 * rocking(x, y)
    return image + disk(x, y) * left


THICKNESS_NM = np.arange(4.0, 90.0, 3.0)
LIBRARY = np.array([pattern(t) for t in THICKNESS_NM])
AREA = float(np.sum(pattern(30.0)))


@pytest.mark.parametrize("t", [9.3, 26.2, 81.0])
def test_thickness_is_unbiased_and_its_uncertainty_honest(t: float) -> None:
    """2e5 electrons, 8 patterns, unknown centre, background: bias below 1 % and 4 sigma."""
    rng = np.random.default_rng(int(t))
    errors, sigmas, shift_pulls = [], [], []
    for _ in range(8):
        shift = rng.uniform(-4, 4, 2)
        ideal = 2e5 / AREA * pattern(t, shift=(shift[0], shift[1])) + 2.0
        found = pacbed.match(rng.poisson(ideal), THICKNESS_NM, LIBRARY)
        errors.append(found.thickness_nm - t)
        sigmas.append(found.sigma_nm)
        shift_pulls += list((np.array(found.shift_px) - shift) / np.array(found.sigma_shift_px))
        assert found.confidence > 0.99
        assert 0.8 < found.chi2 < 1.1  # below one by interpolation errors that are less than feared
        assert found.background == pytest.approx(2, abs=0.2)
    assert abs(np.mean(errors)) < 0.01 * t
    assert abs(np.mean(errors)) < 4 * np.mean(sigmas) / np.sqrt(8)
    pulls = np.array(errors) / np.array(sigmas)
    assert np.sqrt(np.mean(pulls**2)) == pytest.approx(1, abs=4 / np.sqrt(16))
    assert np.sqrt(np.mean(np.square(shift_pulls))) == pytest.approx(1, abs=4 / np.sqrt(32))


def test_disks_sharper_than_a_pixel_do_not_bias_the_thickness() -> None:
    """Cubic interpolation alone errs by 0.3 nm here: its error is part of the weights."""
    rng = np.random.default_rng(11)
    sharp = np.array([pattern(t, edge_px=0.1) for t in THICKNESS_NM])
    errors = []
    for _ in range(4):
        shift = rng.uniform(-4, 4, 2)
        ideal = pattern(47.9, shift=(shift[0], shift[1]), rotation_deg=2, edge_px=0.1)
        counts = rng.poisson(1e7 / AREA * ideal + 2.0)
        found = pacbed.match(counts, THICKNESS_NM, sharp, rotation_deg=2)
        errors.append(found.thickness_nm - 47.9)
        assert abs(errors[-1]) < 4 * found.sigma_nm
        assert found.sigma_nm < 0.03
    assert abs(np.mean(errors)) < 0.02


def test_uncertainty_goes_with_the_root_of_the_dose() -> None:
    """Without a background sigma is proportional to N^-1/2, less what edges lose in weight."""
    sigmas = [
        pacbed.match(dose / AREA * pattern(31.0), THICKNESS_NM, LIBRARY).sigma_nm
        for dose in (1e4, 1e6)
    ]
    assert sigmas[0] / sigmas[1] == pytest.approx(10, rel=0.01)


def test_rotation_is_taken_into_account_and_its_sense_is_from_x_to_y() -> None:
    turned = 1e4 * pattern(44.0, rotation_deg=4.0, shift=(1.3, -2.6))
    right = pacbed.match(turned, THICKNESS_NM, LIBRARY, rotation_deg=4.0, noise="unknown")
    wrong = pacbed.match(turned, THICKNESS_NM, LIBRARY, rotation_deg=-4.0, noise="unknown")
    assert right.correlation > 0.9999 > wrong.correlation
    assert right.thickness_nm == pytest.approx(44.0, rel=1e-3)
    assert right.shift_px == pytest.approx((1.3, -2.6), abs=5e-3)


def test_least_squares_serve_where_the_unit_is_unknown() -> None:
    """White noise: pulls over 10 patterns."""
    rng = np.random.default_rng(7)
    pulls = []
    for _ in range(10):
        data = -3.0 + 0.7 * (pattern(38.4, shift=(0.4, 0.2)) + rng.normal(0, 0.1, (N, N)))
        found = pacbed.match(data, THICKNESS_NM, LIBRARY, noise="unknown")
        assert found.scale == pytest.approx(0.7, rel=0.05)
        pulls.append((found.thickness_nm - 38.4) / found.sigma_nm)
    assert np.sqrt(np.mean(np.square(pulls))) == pytest.approx(1, abs=4 / np.sqrt(20))


def test_tilt_and_thickness_are_found_together() -> None:
    """Tilts on a grid of 1.5 mrad; pulls of thickness and both tilts over 4 patterns."""
    rng = np.random.default_rng(8)
    axis = (-3.0, -1.5, 0.0, 1.5, 3.0)
    tilts = np.array([(x, y) for x in axis for y in axis])
    t_nm = np.arange(20.0, 45.0, 3.0)
    library = np.array([[pattern(t, (x, y)) for t in t_nm] for x, y in tilts])
    pulls = []
    for _ in range(4):
        tilt = rng.uniform(-2.0, 2.0, 2)
        ideal = 3e5 / AREA * pattern(33.3, (tilt[0], tilt[1]), shift=(0.7, -1.2))
        result = pacbed.thickness(
            rng.poisson(ideal),
            {"library": {"thickness_nm": t_nm, "patterns": library, "tilt_mrad": tilts}},
        )
        assert abs(result["thickness_nm"] / 33.3 - 1) < 0.02
        pulls.append(
            [
                (result["thickness_nm"] - 33.3) / result["sigma_nm"],
                (result["tilt_x_mrad"] - tilt[0]) / result["sigma_tilt_x_mrad"],
                (result["tilt_y_mrad"] - tilt[1]) / result["sigma_tilt_y_mrad"],
            ]
        )
    assert np.sqrt(np.mean(np.square(pulls))) == pytest.approx(1, abs=4 / np.sqrt(24))


def test_confidence_tells_how_often_the_right_one_of_two_maxima_is_taken() -> None:
    """40 electrons a pattern; over 100 patterns 0.914 stated, 0.940 right."""
    rng = np.random.default_rng(13)
    stated, right = [], []
    for _ in range(14):
        counts = rng.poisson(40 / AREA * pattern(38.0))
        found = pacbed.match(counts, THICKNESS_NM, LIBRARY)
        stated.append(found.confidence)
        right.append(abs(found.thickness_nm - 38.0) < 4 * found.sigma_nm)
    assert np.mean(stated) < 0.98  # at this dose there is doubt
    spread = np.sqrt(np.sum(np.array(stated) * (1 - np.array(stated))))
    assert abs(np.sum(right) - np.sum(stated)) < 3 * spread


def test_plain_entry_and_refusals() -> None:
    counts = 500 * pattern(52.0)
    library = {"thickness_nm": THICKNESS_NM, "patterns": LIBRARY}
    result = pacbed.thickness(counts, {"library": library})
    assert result["thickness_nm"] == pytest.approx(52.0, rel=1e-3)
    assert 0 < result["sigma_nm"] < 1
    with pytest.raises(ValueError, match='lack "library"'):
        pacbed.thickness(counts, {})
    with pytest.raises(ValueError, match="a library has"):
        pacbed.thickness(counts, {"library": {"patterns": LIBRARY}})
    with pytest.raises(ValueError, match="end of the library"):
        pacbed.match(500 * pattern(20.0), THICKNESS_NM[8:], LIBRARY[8:])
    with pytest.raises(ValueError, match="must not be negative"):
        pacbed.match(counts - 1, THICKNESS_NM, LIBRARY)
    with pytest.raises(ValueError, match="the pattern has the shape"):
        pacbed.match(counts[:-1], THICKNESS_NM, LIBRARY)
    with pytest.raises(ValueError, match="in rising order"):
        pacbed.match(counts, THICKNESS_NM[::-1], LIBRARY)
