"""Limits of position: closed forms, scaling, and an estimator that attains them."""

import numpy as np
import pytest
from scipy.integrate import quad

from nanophantom.validation.limits import position_limit, visibility

PIXEL_NM = 0.01
SIGMA_NM = 0.04
SIZE = 64
CENTRE_NM = np.array([0.3137, 0.3241])


def spot(electrons, background, centre_nm=CENTRE_NM, sigma_nm=(SIGMA_NM, SIGMA_NM)):
    """Return expected counts of a Gaussian spot on a constant background, counts a pixel."""
    y, x = np.indices((SIZE, SIZE)) * PIXEL_NM
    r2 = ((x - centre_nm[0]) / sigma_nm[0]) ** 2 + ((y - centre_nm[1]) / sigma_nm[1]) ** 2
    peak = electrons * PIXEL_NM**2 / (2 * np.pi * sigma_nm[0] * sigma_nm[1])
    return background + peak * np.exp(-r2 / 2)


def limit_of(image, radius_nm=0.28, centres_nm=CENTRE_NM):
    x, y = np.atleast_2d(centres_nm).T
    return position_limit(image, x, y, PIXEL_NM, radius_nm)


def test_spot_without_background_reaches_width_over_root_n():
    """With no background each electron tells the centre to within sigma: sigma / sqrt(N)."""
    limit = limit_of(spot(2000, 1e-9))
    expected = SIGMA_NM / np.sqrt(2000)
    np.testing.assert_allclose([limit.sigma_x_nm[0], limit.sigma_y_nm[0]], expected, rtol=2e-4)


@pytest.mark.parametrize("background", [0.05, 1.0, 20.0])
def test_spot_on_a_background_equals_mortensen(background):
    """Equation 5 of K. I. Mortensen et al., Nature Methods 7 (2010) 377, for a spot of N photons.

    var = sigma^2 / N / (1 + integral_0^1 ln t / (1 + t / tau) dt), tau = 2 pi sigma^2 b / (N a^2);
    the spot is sampled, not integrated over pixels, so sigma has no a^2 / 12 added.
    """
    electrons = 2000
    tau = 2 * np.pi * SIGMA_NM**2 * background / (electrons * PIXEL_NM**2)
    integral = quad(lambda t: np.log(t) / (1 + t / tau), 0, 1)[0]
    expected = np.sqrt(SIGMA_NM**2 / electrons / (1 + integral))
    limit = limit_of(spot(electrons, background))
    np.testing.assert_allclose([limit.sigma_x_nm[0], limit.sigma_y_nm[0]], expected, rtol=2e-4)


def test_small_patch_equals_the_radial_integral():
    """Within radius R: J = pi * integral_0^R (d lambda / dr)^2 / lambda r dr."""
    electrons, background, radius_nm = 500, 2.0, 0.12
    peak = electrons / (2 * np.pi * SIGMA_NM**2)  # per nm^2

    def information(r):
        bell = peak * np.exp(-(r**2) / (2 * SIGMA_NM**2))
        return np.pi * (bell * r / SIGMA_NM**2) ** 2 / (bell + background / PIXEL_NM**2) * r

    expected = 1 / np.sqrt(quad(information, 0, radius_nm)[0])
    limit = limit_of(spot(electrons, background), radius_nm)
    np.testing.assert_allclose(limit.sigma_x_nm[0], expected, rtol=1e-3)


def test_limit_falls_with_the_root_of_the_dose():
    """A hundred times the electrons: a tenth of the scatter."""
    image = spot(800, 3.0)
    few, many = limit_of(image).radial_nm[0], limit_of(100 * image).radial_nm[0]
    np.testing.assert_allclose(few / many, 10, rtol=1e-12)


def test_the_sharp_direction_is_known_better_and_axes_are_not_swapped():
    """A spot narrow along x: sigma_x / sigma_y is the ratio of its widths."""
    limit = limit_of(spot(5000, 1e-9, sigma_nm=(0.03, 0.045)))
    np.testing.assert_allclose(limit.sigma_x_nm[0] / limit.sigma_y_nm[0], 2 / 3, rtol=1e-4)


def test_nothing_limits_knowledge_of_what_is_not_in_view():
    """A column outside the image, or on a flat one, has no finite bound."""
    image = spot(800, 3.0)
    outside = np.array([CENTRE_NM, [2.0, 2.0]])
    sigma = limit_of(image, centres_nm=outside).sigma_x_nm
    assert np.isfinite(sigma[0])
    assert np.isinf(sigma[1])
    assert np.isinf(limit_of(np.full((SIZE, SIZE), 5.0)).sigma_x_nm[0])


def test_maximum_likelihood_attains_the_limit():
    """The shift of greatest likelihood scatters as the bound says, two columns side by side.

    400 noisy images, fitted by Fisher scoring with the analytic spot; the scatter of 800
    coordinates is itself known to 2.5 %, 10 % are allowed.
    """
    electrons, background, radius_nm = 600, 1.5, 0.12
    centres_nm = np.array([[0.2512, 0.3241], [0.4188, 0.3293]])

    def image(shift_nm):
        own = spot(electrons, background, centres_nm[0] + shift_nm)
        return own + spot(electrons, 0.0, centres_nm[1])

    y, x = np.indices((SIZE, SIZE)) * PIXEL_NM
    to_own, to_other = (np.hypot(x - c[0], y - c[1]) for c in centres_nm)
    patch = (to_own < radius_nm) & (to_own < to_other)
    truth = image(np.zeros(2))
    rng = np.random.default_rng(7)
    shifts = []
    for _ in range(400):
        counts, shift = rng.poisson(truth)[patch], np.zeros(2)
        for _ in range(8):
            expected = image(shift)[patch]
            own = spot(electrons, 0.0, centres_nm[0] + shift)[patch]
            away = np.array([x[patch], y[patch]]) - (centres_nm[0] + shift)[:, np.newaxis]
            slope = own * away / SIGMA_NM**2
            score = slope @ (counts / expected - 1)
            shift = shift + np.linalg.solve((slope / expected) @ slope.T, score)
        shifts.append(shift)
    bound = limit_of(truth, radius_nm, centres_nm)
    scatter = np.std(shifts, axis=0)
    np.testing.assert_allclose(scatter, [bound.sigma_x_nm[0], bound.sigma_y_nm[0]], rtol=0.1)
    assert np.abs(np.mean(shifts, axis=0) / scatter).max() < 4 / np.sqrt(400)


def test_visibility_is_what_a_matched_filter_measures():
    """Mean response to the column over its scatter on a flat patch, from 3000 noisy patches."""
    image = spot(150, 2.0)
    y, x = np.indices((SIZE, SIZE)) * PIXEL_NM
    patch = np.hypot(x - CENTRE_NM[0], y - CENTRE_NM[1]) < 0.12
    column = image[patch]
    flat = np.full(column.shape, column.mean())
    template = column - flat
    rng = np.random.default_rng(3)
    on_column = rng.poisson(column, (3000, column.size)) @ template
    on_flat = rng.poisson(flat, (3000, column.size)) @ template
    measured = (on_column.mean() - on_flat.mean()) / on_flat.std()
    predicted = visibility(image, *CENTRE_NM[:, np.newaxis], PIXEL_NM, 0.12)[0]
    np.testing.assert_allclose(measured, predicted, rtol=0.05)
    assert visibility(np.full((SIZE, SIZE), 4.0), *CENTRE_NM[:, np.newaxis], PIXEL_NM)[0] == 0
