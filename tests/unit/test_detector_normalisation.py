"""The detector's angles and levels from a map of it, and images in fractions of the beam."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from nanophantom.analysis.detector_normalisation import map_detector, normalise

FloatArray = npt.NDArray[np.float64]
PIXEL_MRAD = 1.5
INNER, OUTER = 40.0, 150.0
DARK, BRIGHT = 900.0, 8000.0


def annulus(
    rng: np.random.Generator | None,
    slope: float = 0.0,
    noise: float = 120.0,
    n: int = 240,
    hole: tuple[float, float] = (118.3, 121.6),
) -> FloatArray:
    """Return a map of an annulus, anti-aliased, whose sensitivity rises along x."""
    rows, columns = np.indices((n, n))
    r = PIXEL_MRAD * np.hypot(rows - hole[0], columns - hole[1])
    data = np.clip(0.5 + (OUTER - r) / PIXEL_MRAD, 0, 1)
    data *= np.clip(0.5 + (r - INNER) / PIXEL_MRAD, 0, 1)
    data *= BRIGHT * (1 + slope * PIXEL_MRAD * (columns - hole[1]))
    return DARK + data + (rng.normal(0, noise, data.shape) if rng is not None else 0.0)


def test_angles_centre_and_levels_of_an_annulus() -> None:
    """Angles within 0.05 px; areas of 12 other positions: the stated sigma is honest."""
    rng = np.random.default_rng(1)
    pulls_inner, pulls_outer = [], []
    for _ in range(12):
        at = tuple(119.5 + rng.uniform(-3, 3, 2))
        found = map_detector(annulus(rng, hole=(at[0], at[1])), PIXEL_MRAD)
        assert np.hypot(found.centre_px[0] - at[0], found.centre_px[1] - at[1]) < 0.05
        assert np.hypot(found.hole_px[0] - at[0], found.hole_px[1] - at[1]) < 0.1
        assert abs(found.inner_mrad - INNER) < 0.06 * PIXEL_MRAD
        assert abs(found.outer_mrad - OUTER) < 0.03 * PIXEL_MRAD
        pulls_inner.append((found.inner_mrad - INNER) / found.sigma_inner_mrad)
        pulls_outer.append((found.outer_mrad - OUTER) / found.sigma_outer_mrad)
    for pulls in (pulls_inner, pulls_outer):
        assert 0.3 < np.sqrt(np.mean(np.square(pulls))) < 1.5


def test_levels_are_right_within_their_own_uncertainties() -> None:
    """Chi-squared of 24 maps for the mean sensitivity and the dark level."""
    rng = np.random.default_rng(2)
    pulls = []
    for _ in range(24):
        found = map_detector(annulus(rng, noise=700.0, n=230), PIXEL_MRAD)
        pulls.append(
            [
                (found.dark - DARK) / found.sigma_dark,
                (found.sensitivity - BRIGHT) / found.sigma_sensitivity,
            ]
        )
    rms = np.sqrt(np.mean(np.square(pulls), axis=0))
    np.testing.assert_allclose(rms, 1, atol=4 / np.sqrt(48))
    assert found.inhomogeneity < 0.01


def test_inhomogeneity_is_that_of_a_linear_slope_and_free_of_noise() -> None:
    """s = 1 + g x over an annulus: variance g^2 (R^2 + r^2) / 4."""
    g = 5e-4
    found = map_detector(annulus(np.random.default_rng(3), slope=g, noise=400.0), PIXEL_MRAD)
    inset = 3 * PIXEL_MRAD  # levels are measured away from the edges
    truth = g * np.sqrt(((OUTER - inset) ** 2 + (INNER + inset) ** 2) / 4)
    assert found.inhomogeneity == pytest.approx(truth, rel=0.03)


def test_flux_weighting_takes_the_sensitivity_where_the_electrons_are() -> None:
    """Sensitivity 1 + h r and flux r^-4: the mean of r is the ratio of two integrals."""
    rows, columns = np.indices((240, 240))
    r = PIXEL_MRAD * np.hypot(rows - 118.3, columns - 121.6)
    h = 1e-3
    data = DARK + BRIGHT * (1 + h * r) * ((r > INNER) & (r < OUTER))
    found = map_detector(data, PIXEL_MRAD, flux_exponent=4)
    r1, r2 = INNER + 3.4 * PIXEL_MRAD, OUTER - 3.4 * PIXEL_MRAD
    mean_r = 2 * (1 / r1 - 1 / r2) / (1 / r1**2 - 1 / r2**2)
    assert found.sensitivity / BRIGHT == pytest.approx(1 + h * mean_r, rel=2e-3)
    plain = map_detector(data, PIXEL_MRAD)
    assert plain.sensitivity / BRIGHT - 1 > 1.4 * h * mean_r
    np.testing.assert_allclose(
        found.ring_sensitivity, BRIGHT * (1 + h * found.ring_mrad), rtol=1e-3
    )


def test_fractions_and_their_systematic_uncertainty_are_honest() -> None:
    """The whole chain, 36 times: map, vacuum, image of 0.07 of the beam."""
    rng = np.random.default_rng(4)
    truth, ratio, pulls = 0.07, 0.8, []
    for _ in range(36):
        detector = map_detector(annulus(rng, noise=1500.0, n=230), PIXEL_MRAD)
        vacuum = DARK + rng.normal(0, 300, (20, 20))
        image = np.full((4, 4), DARK + truth * ratio * BRIGHT)
        given = ratio * (1 + rng.normal(0, 0.002))
        result = normalise(image, detector, vacuum, given, 0.002 * ratio)
        pulls.append((result.fraction[0, 0] - truth) / result.sigma_systematic()[0, 0])
    assert np.sqrt(np.mean(np.square(pulls))) == pytest.approx(1, abs=4 / np.sqrt(72))
    exact = map_detector(annulus(None), PIXEL_MRAD)
    assert normalise(image, exact, beam_ratio=ratio).fraction == pytest.approx(truth, rel=1e-9)


def test_a_cut_detector_needs_its_outer_angle() -> None:
    data = annulus(None)[60:200, 60:200]
    with pytest.raises(ValueError, match="give outer_mrad"):
        map_detector(data, PIXEL_MRAD)
    with pytest.raises(ValueError, match="no hole"):
        map_detector(np.pad(np.full((60, 60), 9.0), 20), PIXEL_MRAD)
    with pytest.raises(ValueError, match="same everywhere"):
        map_detector(np.ones((40, 40)), PIXEL_MRAD)
    wide = annulus(None)[20:220, 10:]
    found = map_detector(wide, PIXEL_MRAD, outer_mrad=OUTER)
    assert found.inner_mrad == pytest.approx(INNER, abs=0.06 * PIXEL_MRAD)
    assert found.sensitivity == pytest.approx(BRIGHT, rel=1e-9)
