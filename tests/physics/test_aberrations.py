"""The aberration function: closed forms, symmetry, gradient, published CTF zeros."""

import numpy as np
import pytest
from scipy.optimize import brentq

from nanophantom.simcore.electrons.aberrations import (
    NAMES,
    ORDERS,
    chi,
    chi_gradient,
    scherzer_defocus,
    scherzer_resolution,
)
from nanophantom.simcore.electrons.constants import wavelength

ENERGY = 200.0
LAMBDA = wavelength(ENERGY)
KX, KY = np.meshgrid(np.linspace(-1.3, 1.1, 13), np.linspace(-0.9, 1.4, 11))
# one of each, of a size that bends the phase by some rad at 1 1/Å
ONE_OF_EACH = {
    name: (0.4 if name.startswith("phi") else 2e3 * 40 ** int(name[1])) for name in NAMES
}


def test_the_names_are_the_fourteen_aberrations_to_fifth_order():
    """C10 to C56 with an azimuth for all but the round ones."""
    assert NAMES == (
        "C10", "C12", "phi12", "C21", "phi21", "C23", "phi23", "C30", "C32", "phi32", "C34",
        "phi34", "C41", "phi41", "C43", "phi43", "C45", "phi45", "C50", "C52", "phi52", "C54",
        "phi54", "C56", "phi56",
    )  # fmt: skip


def test_each_term_is_the_textbook_polar_form():
    """chi = (2 pi / lambda) C alpha^(n+1) / (n+1) cos(m (phi - phi_nm)) for all 14 terms."""
    alpha, phi = LAMBDA * np.hypot(KX, KY), np.arctan2(KY, KX)
    for name, (n, m) in ORDERS.items():
        azimuth = 0.7 if m else 0.0
        coefficients = {name: 3.3e4, f"phi{n}{m}": azimuth} if m else {name: 3.3e4}
        angular = np.cos(m * (phi - azimuth))
        expected = 2 * np.pi / LAMBDA * 3.3e4 * alpha ** (n + 1) / (n + 1) * angular
        np.testing.assert_allclose(
            chi(coefficients, KX, KY, ENERGY), expected, rtol=1e-11, atol=1e-12
        )


def test_defocus_and_spherical_aberration_are_the_known_ones():
    """chi = pi lambda C10 k^2 + (pi / 2) C30 lambda^3 k^4."""
    k2 = KX**2 + KY**2
    expected = np.pi * LAMBDA * -650.0 * k2 + np.pi / 2 * 1.2e7 * LAMBDA**3 * k2**2
    phase = chi({"C10": -650.0, "C30": 1.2e7}, KX, KY, ENERGY)
    np.testing.assert_allclose(phase, expected, rtol=1e-12)


def test_a_sum_of_aberrations_is_the_sum_of_their_phases():
    """chi and its gradient are linear in the coefficients C."""
    parts = [{n: ONE_OF_EACH[n] for n in (c, f"phi{c[1:]}") if n in NAMES} for c in ORDERS]
    together = chi(ONE_OF_EACH, KX, KY, ENERGY)
    np.testing.assert_allclose(
        together, sum(chi(part, KX, KY, ENERGY) for part in parts), rtol=1e-10
    )
    gx, gy = chi_gradient(ONE_OF_EACH, KX, KY, ENERGY)
    gradients = [chi_gradient(part, KX, KY, ENERGY) for part in parts]
    np.testing.assert_allclose(gx, sum(g[0] for g in gradients), rtol=1e-10)
    np.testing.assert_allclose(gy, sum(g[1] for g in gradients), rtol=1e-10)


def test_gradient_equals_finite_differences_of_every_term():
    """Central differences of all 14 terms agree to 1e-7 of the largest slope."""
    h = 1e-4
    for name, (n, m) in ORDERS.items():
        coefficients = {name: ONE_OF_EACH[name]} | ({f"phi{n}{m}": 0.3} if m else {})
        gx, gy = chi_gradient(coefficients, KX, KY, ENERGY)
        dx = chi(coefficients, KX + h, KY, ENERGY) - chi(coefficients, KX - h, KY, ENERGY)
        dy = chi(coefficients, KX, KY + h, ENERGY) - chi(coefficients, KX, KY - h, ENERGY)
        scale = max(np.abs(gx).max(), np.abs(gy).max())
        np.testing.assert_allclose(gx, dx / (2 * h), atol=1e-7 * scale)
        np.testing.assert_allclose(gy, dy / (2 * h), atol=1e-7 * scale)


def test_each_term_has_its_rotational_symmetry_and_no_higher():
    """Turned by 2 pi / m the phase is the same; turned by pi / m it changes sign."""
    for name, (n, m) in ORDERS.items():
        coefficients = {name: 1e4} | ({f"phi{n}{m}": 0.2} if m else {})
        k = KX + 1j * KY
        phase = chi(coefficients, k.real, k.imag, ENERGY)
        turned = k * np.exp(2j * np.pi / (m or 7))
        scale = np.abs(phase).max()
        np.testing.assert_allclose(
            chi(coefficients, turned.real, turned.imag, ENERGY), phase, atol=1e-11 * scale
        )
        if m:
            half = k * np.exp(1j * np.pi / m)
            np.testing.assert_allclose(
                chi(coefficients, half.real, half.imag, ENERGY), -phase, atol=1e-11 * scale
            )


def test_the_azimuth_turns_the_aberration_from_x_towards_y():
    """chi is largest along phi_nm: C21 along +y (downwards) for phi21 = pi / 2."""
    coma = {"C21": 1e4, "phi21": np.pi / 2}
    assert chi(coma, 0.0, 0.5, ENERGY) > 0 > chi(coma, 0.0, -0.5, ENERGY)
    assert chi(coma, 0.5, 0.0, ENERGY) == pytest.approx(0, abs=1e-12)
    astigmatism = {"C12": 100.0, "phi12": np.pi / 4}
    assert chi(astigmatism, 0.4, 0.4, ENERGY) > 0 > chi(astigmatism, 0.4, -0.4, ENERGY)


def test_nothing_is_singular_on_the_axis():
    """At k = 0 phase and gradient of all terms are zero, exactly."""
    assert chi(ONE_OF_EACH, 0.0, 0.0, ENERGY) == 0
    assert chi_gradient(ONE_OF_EACH, 0.0, 0.0, ENERGY) == (0, 0)
    assert chi({}, 0.3, 0.1, ENERGY) == 0


def test_frequencies_broadcast():
    """A row of kx and a column of ky give the whole plane."""
    kx, ky = KX[:1], KY[:, :1]
    np.testing.assert_array_equal(
        chi(ONE_OF_EACH, kx, ky, ENERGY), chi(ONE_OF_EACH, KX, KY, ENERGY)
    )
    assert chi_gradient(ONE_OF_EACH, kx, ky, ENERGY)[1].shape == KX.shape


def test_zeros_of_the_contrast_transfer_function():
    """300 kV, Cs 2.7 mm, 1.5 µm underfocus: 0.05823, 0.08239, 0.10097 1/Å (closed form, to 1e-3).

    sin chi = 0 where pi lambda C10 k^2 + (pi / 2) C30 lambda^3 k^4 = -pi n.
    """
    optics = {"C10": -1.5e4, "C30": 2.7e7}
    for k_expected in (0.05823, 0.08239, 0.10097):
        near = (k_expected * 0.97, k_expected * 1.03)
        k = brentq(lambda k: np.sin(chi(optics, k, 0.0, 300.0)), *near)
        assert k == pytest.approx(k_expected, rel=1e-3)


@pytest.mark.parametrize(
    ("energy", "cs_mm", "defocus_nm", "resolution_nm"),
    [
        (200, 1.2, 65.8, 0.2448),
        (300, 1.2, 58.3, 0.2042),
        (300, 2.7, 87.5, 0.2501),
        (100, 1.2, 80.0, 0.3278),
    ],
)
def test_scherzer_values(energy, cs_mm, defocus_nm, resolution_nm):
    """-1.2 sqrt(Cs lambda) and 0.66 Cs^(1/4) lambda^(3/4), to the digits of the table."""
    assert scherzer_defocus(cs_mm * 1e7, energy) == pytest.approx(-10 * defocus_nm, abs=0.5)
    assert scherzer_resolution(cs_mm * 1e7, energy) == pytest.approx(10 * resolution_nm, abs=5e-4)


def test_scherzer_defocus_opens_one_dark_pass_band():
    """Up to its first zero at 2.4^(-1/2) Cs^(1/4) lambda^(3/4) sin chi is negative: atoms dark."""
    optics = {"C10": scherzer_defocus(1.2e7, ENERGY), "C30": 1.2e7}
    k_zero = np.sqrt(2.4) / (1.2e7**0.25 * LAMBDA**0.75)
    assert np.sin(chi(optics, k_zero, 0.0, ENERGY)) == pytest.approx(0, abs=1e-12)
    band = np.sin(chi(optics, np.linspace(0.02, 0.995, 100) * k_zero, 0.0, ENERGY))
    assert np.all(band < 0)
    assert 1 / k_zero == pytest.approx(scherzer_resolution(1.2e7, ENERGY), rel=0.025)


def test_wrong_names_and_values_are_refused():
    """The error names what is wrong and what would be right."""
    with pytest.raises(ValueError, match="unknown aberrations C11, defocus: use C10"):
        chi({"defocus": 1.0, "C11": 2.0}, 0.1, 0.1, ENERGY)
    with pytest.raises(ValueError, match="unknown aberrations phi30"):
        chi_gradient({"phi30": 1.0}, 0.1, 0.1, ENERGY)
    with pytest.raises(ValueError, match="C30 must be finite"):
        chi({"C30": np.nan}, 0.1, 0.1, ENERGY)
    with pytest.raises(ValueError, match="energy_kev"):
        chi({}, 0.1, 0.1, 0.0)
    with pytest.raises(ValueError, match="positive C30"):
        scherzer_defocus(-1e7, ENERGY)
    with pytest.raises(ValueError, match="positive C30"):
        scherzer_resolution(0.0, ENERGY)
