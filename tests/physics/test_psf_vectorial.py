"""The vectorial point spread function: dipoles, interfaces, aberrations, masks."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError

from nanophantom.simcore.light.focused_spots import relative_collection
from nanophantom.simcore.light.psf import (
    Aberration,
    AiryPsf,
    Optics,
    VectorialPsf,
    collection_efficiency,
    widths,
)
from nanophantom.simcore.light.psf.dipole_power import emitted_power
from nanophantom.simcore.light.psf.zernike import noll_order, zernike

Floats = npt.NDArray[np.float64]

FREE = VectorialPsf()
OIL = Optics(na=1.4, immersion_index=1.515, sample_index=1.515)
OIL_ON_WATER = Optics(na=1.4, immersion_index=1.515, sample_index=1.33)
AIR = Optics(na=0.2, immersion_index=1.0, sample_index=1.0, coverslip_index=1.0)


def square(half_nm: float, count: int) -> tuple[Floats, Floats]:
    """Return x and y of the points of a square grid about the origin."""
    axis = np.linspace(-half_nm, half_nm, count)
    x, y = np.meshgrid(axis, axis)
    return x.ravel(), y.ravel()


def centroid(psf: VectorialPsf, of: Optics, z: float, half_nm: float) -> Floats:
    """Return the centre of mass (x, y) of the light within a square, nm."""
    x, y = square(half_nm, 61)
    d = psf.density(of, 600.0, x, y, z)[0]
    return np.array([d @ x, d @ y]) / d.sum()


def by_brute_force(
    of: Optics, dipole: Floats, path: Floats, rho: Floats, phi: Floats, z: float, x: float, y: float
) -> tuple[float, Floats]:
    """Return the unscaled intensity at a point, and the pupil's, of a dipole seen at 600 nm.

    Straight from plane waves in vectors: each wave's field in the sample is the dipole less its
    part along the ray, over the axial wave number; s and p parts are transmitted, and turned from
    the ray's frame into the camera's. Nothing here is shared with the module.
    """
    k = 2 * np.pi / 600.0
    n1, n2, n3 = of.sample_index, of.coverslip_index, of.immersion_index
    sine = of.na * rho
    c1, c2, c3 = (np.sqrt(1 - (sine / n) ** 2 + 0j) for n in (n1, n2, n3))
    s_hat = np.stack([-np.sin(phi), np.cos(phi), 0 * phi])
    ray = np.stack([sine / n1 * np.cos(phi), sine / n1 * np.sin(phi), -c1])
    # p = s x ray, with the ray's complex cosine; upwards is +
    p_hat = np.stack([-s_hat[1] * c1, s_hat[0] * c1, s_hat[0] * ray[1] - s_hat[1] * ray[0]]) * -1.0
    e_s = np.einsum("i,i...->...", dipole, s_hat)
    e_p = np.einsum("i,i...->...", dipole, p_hat)
    for a, ca, b, cb in ((n1, c1, n2, c2), (n2, c2, n3, c3)):
        e_s = e_s * 2 * a * ca / (a * ca + b * cb)
        e_p = e_p * 2 * a * ca / (b * ca + a * cb)
    wave = n3 * c3 / (n1 * c1) * np.exp(1j * k * (n1 * c1 * z + path)) / np.sqrt(c3)
    ex = (e_p * np.cos(phi) - e_s * np.sin(phi)) * wave
    ey = (e_p * np.sin(phi) + e_s * np.cos(phi)) * wave
    area = np.exp(1j * k * of.na * rho * (np.cos(phi) * x + np.sin(phi) * y)) * rho
    intensity = abs((ex * area).sum()) ** 2 + abs((ey * area).sum()) ** 2
    return float(intensity), np.asarray(np.abs(ex) ** 2 + np.abs(ey) ** 2)


def test_free_dipole_has_the_published_widths_in_oil_and_in_water() -> None:
    """psfmodels 0.3.3, vectorial, 600 nm: 241.9 / 585 nm (NA 1.4) and 281.3 / 722 nm (NA 1.2)."""
    water = Optics(na=1.2, immersion_index=1.33, sample_index=1.33)
    for of, lateral, axial in ((OIL, 241.9, 585.0), (water, 281.3, 722.0)):
        assert widths.lateral_fwhm_nm(FREE, of, 600.0) == pytest.approx(lateral, rel=0.02)
        assert widths.axial_fwhm_nm(FREE, of, 600.0) == pytest.approx(axial, rel=0.02)


@pytest.mark.parametrize(
    ("depth", "width", "stage"), [(1000.0, 266.7, 1260.0), (3000.0, 281.1, 3440.0)]
)
def test_free_dipole_in_water_has_the_published_focus_and_width(
    depth: float, width: float, stage: float
) -> None:
    """psfmodels 0.3.3, vectorial, within 3 %; its stage counts from paraxial focus at depth."""
    focus = widths.best_focus_nm(FREE, OIL_ON_WATER, 600.0, depth)
    assert focus - depth * (1.515 / 1.33 - 1) == pytest.approx(stage, rel=0.03)
    lateral = widths.lateral_fwhm_nm(FREE, OIL_ON_WATER, 600.0, depth, focus)
    assert lateral == pytest.approx(width, rel=0.03)


def test_focus_in_water_moves_less_than_the_drive() -> None:
    """NA 1.49 oil into water: less than the paraxial ratio of indices, 0.876.

    Bratton and Shaevitz (PLoS One 10 (2015) e0134616) measured 0.57; brightest centres of the
    model's spots give 0.75.
    """
    of = Optics(na=1.49, immersion_index=1.518, sample_index=1.33)
    depth = np.array([0.0, 500.0, 1000.0, 1500.0])
    drive = [widths.best_focus_nm(FREE, of, 600.0, z) for z in depth]
    factor = np.polyfit(drive, depth, 1)[0]
    assert 0.55 < factor < 0.80


@pytest.mark.parametrize("na", [0.4, 1.2, 1.4, 1.49])
def test_in_a_matched_sample_the_solid_angle_is_collected_at_any_height(na: float) -> None:
    """The pupil's energy is that of the cone: sines, polarisations and apodisation agree."""
    of = Optics(na=na, immersion_index=1.518, coverslip_index=1.518, sample_index=1.518)
    expected = collection_efficiency(na, 1.518)
    assert FREE.collected(of, 600.0, [-300.0, 800.0]) == pytest.approx(expected, rel=1e-6)


def test_far_from_the_coverslip_what_the_interface_transmits_is_collected() -> None:
    """NA 1.49 takes in every ray from water; each carries Fresnel's power transmittance."""
    of = Optics(na=1.49, immersion_index=1.515, coverslip_index=1.515, sample_index=1.33)
    nodes, weights = np.polynomial.legendre.leggauss(400)
    t = 0.25 * np.pi * (nodes + 1)
    c1, c2 = 1.33 * np.cos(t), 1.515 * np.sqrt(1 - (1.33 / 1.515 * np.sin(t)) ** 2)
    s = 4 * c1 * c2 / (c1 + c2) ** 2
    p1, p2 = np.cos(t) / 1.33, np.sqrt(1 - (1.33 / 1.515 * np.sin(t)) ** 2) / 1.515
    p = 4 * p1 * p2 / (p1 + p2) ** 2
    transmitted = 0.25 * np.pi * weights @ ((s + p) / 4 * np.sin(t))
    far = FREE.collected(of, 600.0, [20_000.0])
    assert far == pytest.approx(transmitted, rel=2e-3)
    near = FREE.collected(of, 600.0, [0.0, 50.0, 100.0, 200.0])
    assert (np.diff(near) < 0).all()
    assert near[0] > 1.5 * transmitted


ON_GLASS = Optics(na=1.49, immersion_index=1.518, coverslip_index=1.518, sample_index=1.33)


def test_a_dye_near_glass_has_the_independently_integrated_power() -> None:
    """A sum over plane waves up to s = cosh 6, by 6e5 even steps, at 600 nm; and what NA 1.49
    collects of it."""
    z = [0.5, 50.0, 100.0, 200.0, 500.0]
    power = emitted_power(ON_GLASS, 600.0, z, None)
    assert power[[0, 1, 3, 4]] == pytest.approx([1.176, 1.056, 1.002, 0.995], abs=6e-4)
    collected = FREE.collected(ON_GLASS, 600.0, z)
    assert collected[[0, 1, 3, 4]] == pytest.approx([0.703, 0.658, 0.524, 0.460], abs=6e-4)


@pytest.mark.parametrize("tilt", [0.0, 90.0, 40.0, None])
@pytest.mark.parametrize("glass", [1.518, 1.33 / 1.518])
def test_all_power_near_an_interface_goes_up_or_down(tilt: float | None, glass: float) -> None:
    """What an objective of nearly all of the glass takes, and the upper half's radiation pattern,
    direct and reflected light together, are the whole; also under a thinner medium than the
    sample."""
    thin = glass < 1.0
    sample, below = (1.518, 1.33) if thin else (1.33, glass)
    na = below * (1.0 - 1e-9)
    of = Optics(na=na, immersion_index=below, coverslip_index=below, sample_index=sample)
    z = np.array([0.0, 30.0, 150.0, 900.0])
    power = emitted_power(of, 600.0, z, tilt)
    down = power * VectorialPsf(dipole_tilt_deg=tilt).collected(of, 600.0, z)
    steps = 40_000
    t = (np.arange(steps) + 0.5) / steps * np.pi / 2
    c = np.cos(t)
    other = np.sqrt((below / sample) ** 2 - np.sin(t) ** 2 + 0j)
    m2 = (below / sample) ** 2
    back = np.exp(4j * np.pi * sample / 600.0 * z[:, None] * c)
    s = np.abs(1 + (c - other) / (c + other) * back) ** 2
    r_p = (m2 * c - other) / (m2 * c + other)
    solid = np.sin(t) * np.pi / 2 / steps
    axial = 0.75 * np.abs(1 + r_p * back) ** 2 @ (np.sin(t) ** 2 * solid)
    across = 0.375 * (s + c**2 * np.abs(1 - r_p * back) ** 2) @ solid
    along = 1 / 3 if tilt is None else math.cos(math.radians(tilt)) ** 2
    up = along * axial + (1 - along) * across
    assert up + down == pytest.approx(power, rel=2e-4)


def test_power_is_that_of_a_free_dipole_where_nothing_reflects() -> None:
    """Far away, to 1e-4; and in a sample of the coverslip's or the immersion's index."""
    assert emitted_power(ON_GLASS, 600.0, 100_000.0, None) == pytest.approx(1.0, abs=1e-4)
    same = Optics(na=1.2, immersion_index=1.33, coverslip_index=1.4, sample_index=1.4)
    assert emitted_power(same, 600.0, [0.0, 80.0], 0.0) == pytest.approx(1.0, abs=1e-12)
    assert emitted_power(OIL, 600.0, [-50.0, 80.0], 0.0) == pytest.approx(1.0, abs=1e-12)
    with pytest.raises(ValueError, match="above the coverslip"):
        emitted_power(ON_GLASS, 600.0, -1.0, None)
    with pytest.raises(ValueError, match="above the coverslip"):
        relative_collection(FREE, ON_GLASS, 600.0, [-2000.0, 0.0])


@pytest.mark.parametrize(("na", "index"), [(0.5, 1.0), (1.2, 1.33), (1.4, 1.515)])
def test_of_a_fixed_dipole_the_cone_takes_what_its_pattern_sends_there(
    na: float, index: float
) -> None:
    """Along the axis (1 - 3c/2 + c^3/2)/2, across (1 - 3c/4 - c^3/4)/2, over (1 - c)/2 of the
    formula, from the pupil's energy as well; a dipole that rotates has the formula's."""
    of = Optics(na=na, immersion_index=index, coverslip_index=index, sample_index=index)
    c = math.sqrt(1 - (na / index) ** 2)
    axial, across = 0.5 * (1 - 1.5 * c + 0.5 * c**3), 0.5 * (1 - 0.75 * c - 0.25 * c**3)
    z = np.array([-200.0, 0.0, 300.0])
    for tilt in (0.0, 30.0, 90.0):
        along = math.cos(math.radians(tilt)) ** 2
        expected = along * axial + (1 - along) * across
        fixed = VectorialPsf(dipole_tilt_deg=tilt, dipole_azimuth_deg=20.0)
        relative = relative_collection(fixed, of, 600.0, z)
        assert relative == pytest.approx(expected / (0.5 * (1 - c)), rel=1e-12)
        assert fixed.collected(of, 600.0, z) == pytest.approx(expected, rel=1e-5)
    assert (relative_collection(FREE, of, 600.0, z) == 1.0).all()


@pytest.mark.parametrize("tilt", [0.0, 45.0, 90.0])
def test_a_nearly_matched_sample_is_as_bright_as_a_matched_one(tilt: float) -> None:
    """No jump of a fixed dipole's photons where the indices meet."""
    fixed = VectorialPsf(dipole_tilt_deg=tilt)
    near = OIL.model_copy(update={"sample_index": 1.5149})
    pair = [relative_collection(fixed, of, 600.0, 100.0) for of in (OIL, near)]
    assert pair[1] == pytest.approx(pair[0], rel=1e-3)


def test_photons_by_height_follow_the_pupil_over_a_deep_sample() -> None:
    """Interpolated to 5e-4 over 3 um."""
    z = np.concatenate([[0.0, 3000.0], np.random.default_rng(5).uniform(0.0, 600.0, 60)])
    expected = FREE.collected(ON_GLASS, 600.0, z) / collection_efficiency(1.49, 1.518)
    assert relative_collection(FREE, ON_GLASS, 600.0, z) == pytest.approx(expected, rel=5e-4)


def test_without_supercritical_light_only_the_whole_power_depends_on_height() -> None:
    """With an NA below the sample's index, what comes into the objective is the same anywhere."""
    of = Optics(na=1.2, immersion_index=1.515, sample_index=1.33)
    z = [0.0, 100.0, 2000.0]
    seen = FREE.collected(of, 600.0, z) * emitted_power(of, 600.0, z, None)
    assert np.ptp(seen) < 1e-12


def test_image_of_a_tilted_dipole_near_glass_is_the_sum_of_its_plane_waves() -> None:
    """At points off the centre, with aberrations and evanescent light, to 1e-3 of the peak."""
    of = Optics(na=1.49, immersion_index=1.518, coverslip_index=1.515, sample_index=1.33)
    aberrations = (Aberration(noll=6, rms_nm=40.0), Aberration(noll=7, rms_nm=-30.0))
    psf = VectorialPsf(dipole_tilt_deg=35.0, dipole_azimuth_deg=70.0, aberrations=aberrations)
    tilt, azimuth = math.radians(35.0), math.radians(70.0)
    dipole = np.array(
        [math.sin(tilt) * math.cos(azimuth), math.sin(tilt) * math.sin(azimuth), math.cos(tilt)]
    )
    n = 1200
    rho = ((np.arange(n) + 0.5) / n)[:, None]
    phi = (2 * np.pi * np.arange(128) / 128)[None]
    r, f = np.broadcast_arrays(rho, phi)
    oil = 1.518 * (np.sqrt(1 - (1.49 * rho / 1.518) ** 2) - 1)
    # Noll 6 and 7 as Noll wrote them
    wave = 40.0 * math.sqrt(6) * rho**2 * np.cos(2 * phi)
    wave = wave - 30.0 * math.sqrt(8) * (3 * rho**3 - 2 * rho) * np.sin(phi)
    path = wave - 250.0 * oil
    points = np.array([(0.0, 0.0), (150.0, -90.0), (-260.0, 310.0), (40.0, 500.0)])
    expected = []
    for x, y in points:
        intensity, pupil = by_brute_force(of, dipole, path, r, f, 120.0, x, y)
        expected.append(intensity * (1.49 / 600.0) ** 2 / (pupil * r).sum())
    ours = psf.density(of, 600.0, points[:, 0], points[:, 1], 120.0, 250.0)[0]
    peak = psf.density(of, 600.0, *square(600.0, 41), 120.0, 250.0).max()
    area = 2 * np.pi / (n * 128)
    assert np.allclose(ours, np.array(expected) * area, atol=1e-3 * peak)


def test_a_free_dipole_is_the_mean_of_fixed_ones() -> None:
    """Along x, y and z, each weighted by its power and by what is collected of it."""
    x, y = square(500.0, 9)
    turns = {"x": (90.0, 0.0), "y": (90.0, 90.0), "z": (0.0, 0.0)}
    total, weight = np.zeros(81), 0.0
    for tilt, azimuth in turns.values():
        fixed = VectorialPsf(dipole_tilt_deg=tilt, dipole_azimuth_deg=azimuth)
        power = float(emitted_power(OIL_ON_WATER, 600.0, 200.0, tilt)[0])
        collected = power * float(fixed.collected(OIL_ON_WATER, 600.0, 200.0)[0])
        total += collected * fixed.density(OIL_ON_WATER, 600.0, x, y, 200.0, 300.0)[0]
        weight += collected
    free = FREE.density(OIL_ON_WATER, 600.0, x, y, 200.0, 300.0)[0]
    assert np.allclose(total / weight, free, rtol=1e-9)
    power = float(emitted_power(OIL_ON_WATER, 600.0, 200.0, None)[0])
    assert weight / 3 == pytest.approx(power * float(FREE.collected(OIL_ON_WATER, 600.0, 200.0)[0]))


def test_an_upright_dipole_is_a_ring_and_a_tilted_one_leans_out_of_focus() -> None:
    """No light in the centre for tilt 0; a tilted dipole's spot shifts out of focus.

    With its upper end towards +x a dipole shines less into rays that go down towards -x, along
    its axis; the others reach a focal plane below the emitter displaced to +x, one above to -x.
    """
    upright = VectorialPsf(dipole_tilt_deg=0.0)
    x = np.linspace(0.0, 600.0, 61)
    profile = upright.density(OIL, 600.0, x, 0 * x, 0.0)[0]
    assert profile[0] < 1e-9 * profile.max()
    tilted = VectorialPsf(dipole_tilt_deg=45.0)
    above, below = (centroid(tilted, OIL, z, 900.0) for z in (250.0, -250.0))
    assert above[0] == pytest.approx(-below[0], rel=1e-6)
    assert above[0] > 30.0
    assert abs(above[1]) < 1e-6
    turned = VectorialPsf(dipole_tilt_deg=45.0, dipole_azimuth_deg=90.0)
    assert centroid(turned, OIL, 250.0, 900.0)[1] == pytest.approx(above[0], rel=1e-6)


def test_at_low_aperture_polarisation_no_longer_matters() -> None:
    """A free dipole at NA 0.1 has Airy's image, out of focus too, to NA^2."""
    of = Optics(na=0.1, immersion_index=1.0, sample_index=1.0, coverslip_index=1.0)
    x = np.linspace(0.0, 10_000.0, 30)
    for z in (0.0, 50_000.0):
        airy = AiryPsf().density(of, 600.0, x, 0 * x, z)[0]
        vectorial = FREE.density(of, 600.0, x, 0 * x, z)[0]
        assert np.allclose(vectorial, airy, atol=0.01 * airy.max())


def test_zernike_polynomials_are_nolls() -> None:
    """Orthonormal over the disc; orders as in Noll's table 1."""
    nodes, weights = np.polynomial.legendre.leggauss(24)
    rho, w = (0.5 * (nodes + 1))[:, None], (0.5 * weights)[:, None]
    phi = (2 * np.pi * np.arange(48) / 48)[None]
    z = np.array([zernike(j, rho, phi) for j in range(1, 29)])
    gram = np.einsum("iab,jab->ij", z * w * rho, z) * 2 / 48
    assert np.allclose(gram, np.eye(28), atol=1e-12)
    table = {
        1: (0, 0),
        2: (1, 1),
        3: (1, -1),
        4: (2, 0),
        5: (2, -2),
        6: (2, 2),
        7: (3, -1),
        8: (3, 1),
        9: (3, -3),
        10: (3, 3),
        11: (4, 0),
        12: (4, 2),
        22: (6, 0),
    }
    assert {j: noll_order(j) for j in table} == table


def test_tilt_shifts_and_defocus_moves_along_z() -> None:
    """Noll 2 and 3 of rms a: -2a/NA along x and y; Noll 4: sqrt(12) a paraxial waves of z."""
    a = 50.0
    for noll, axis in ((2, 0), (3, 1)):
        psf = VectorialPsf(aberrations=(Aberration(noll=noll, rms_nm=a),))
        line = np.linspace(-800.0, -200.0, 121)
        x, y = (line, 0 * line) if axis == 0 else (0 * line, line)
        peak = line[psf.density(AIR, 600.0, x, y, 0.0)[0].argmax()]
        assert peak == pytest.approx(-2 * a / 0.2, abs=5.0)
    psf = VectorialPsf(aberrations=(Aberration(noll=4, rms_nm=a),))
    z = np.linspace(0.0, 20_000.0, 401)
    brightest = z[psf.density(AIR, 600.0, 0.0, 0.0, z)[:, 0].argmax()]
    assert brightest == pytest.approx(4 * math.sqrt(3) * a / 0.2**2, rel=0.02)


def test_small_aberrations_dim_a_spot_as_marechal_says() -> None:
    """Strehl ratio exp(-(2 pi rms / wavelength)^2) of an evenly lit pupil, each polynomial."""
    plain = float(FREE.density(AIR, 600.0, 0.0, 0.0, 0.0)[0, 0])
    for noll in (5, 6, 7, 9, 11):
        psf = VectorialPsf(aberrations=(Aberration(noll=noll, rms_nm=30.0),))
        strehl = float(psf.density(AIR, 600.0, 0.0, 0.0, 0.0)[0, 0]) / plain
        assert strehl == pytest.approx(math.exp(-((2 * math.pi * 30.0 / 600.0) ** 2)), rel=0.01)


def test_astigmatism_makes_spots_narrow_in_x_above_focus_and_in_y_below() -> None:
    """Noll 6, positive; the image below is the one above with x and y exchanged."""
    psf = VectorialPsf(aberrations=(Aberration(noll=6, rms_nm=60.0),))
    x, y = (widths.lateral_fwhm_nm(psf, OIL, 660.0, 250.0, 0.0, d) for d in (0.0, 90.0))
    assert x < 0.8 * y
    low_x, low_y = (widths.lateral_fwhm_nm(psf, OIL, 660.0, -250.0, 0.0, d) for d in (0.0, 90.0))
    assert (low_x, low_y) == pytest.approx((y, x), rel=1e-6)
    table = psf.table(OIL, 660.0, 100.0, (-400.0, 400.0), reach_nm=1500.0)
    above, below = (table.at(z, 31, 31, 15, 15) for z in (250.0, -250.0))
    assert np.allclose(above, below.T, atol=1e-4 * above.max())


@pytest.mark.parametrize("zones", [3, 5])
def test_a_double_helix_turns_with_height(zones: int) -> None:
    """Two lobes; by psi / (2 zones), psi = pi NA^2 z / (n wavelength), from x to y, within 15 %."""
    psf = VectorialPsf(double_helix_zones=zones)
    of = Optics(na=0.3, immersion_index=1.0, sample_index=1.0, coverslip_index=1.0)
    x, y = square(7000.0, 101)
    angles = []
    for z in (0.0, 3000.0):
        d = psf.density(of, 600.0, x, y, z)[0]
        lobes = np.where(d > 0.4 * d.max(), d, 0.0)
        angles.append(0.5 * np.angle(lobes @ (x + 1j * y) ** 2))
        assert lobes @ x == pytest.approx(0.0, abs=1e-6)  # two alike, opposite each other
        assert d[len(d) // 2] < 0.05 * d.max()
    turned = (angles[1] - angles[0] + np.pi / 2) % np.pi - np.pi / 2
    assert turned == pytest.approx(np.pi * 0.3**2 * 3000.0 / 600.0 / (2 * zones), rel=0.15)


@pytest.mark.parametrize(
    "psf",
    [
        FREE,
        VectorialPsf(
            aberrations=(Aberration(noll=6, rms_nm=70.0), Aberration(noll=8, rms_nm=20.0))
        ),
        VectorialPsf(double_helix_zones=3),
        VectorialPsf(dipole_tilt_deg=50.0, dipole_azimuth_deg=20.0),
    ],
    ids=["free", "aberrations", "helix", "dipole"],
)
def test_tables_agree_with_the_density_and_keep_its_energy(psf: VectorialPsf) -> None:
    """Pixel sums to 1e-3 of the peak at random places and heights close to the coverslip."""
    of = Optics(na=1.49, immersion_index=1.518, sample_index=1.33)
    rng = np.random.default_rng(11)
    table = psf.table(of, 660.0, 110.0, (0.0, 500.0), 250.0, reach_nm=1650.0)
    nodes, weights = np.polynomial.legendre.leggauss(4)
    gy, gx = (g.ravel() / 2 for g in np.meshgrid(nodes, nodes, indexing="ij"))
    w = np.outer(weights, weights).ravel() / 4 * 110.0**2
    for z in rng.uniform(0.0, 500.0, 3):
        spot = 16 + rng.uniform(-0.5, 0.5, 2)
        image = table.at(z, 33, 33, spot[0], spot[1])
        at = np.rint(rng.normal(16, 4.0, (40, 2))).clip(2, 30).astype(int)
        x = (at[:, :1] - spot[0] + gx) * 110.0
        y = (at[:, 1:] - spot[1] + gy) * 110.0
        direct = psf.density(of, 660.0, x.ravel(), y.ravel(), z, 250.0)[0].reshape(x.shape) @ w
        assert np.abs(image[at[:, 1], at[:, 0]] - direct).max() < 1e-3 * image.max()
        inside = 1 - np.interp(z, table.z_nm, table.outside)
        assert image.sum() == pytest.approx(inside, abs=1.5e-3)


def test_what_cannot_be_is_refused() -> None:
    """One line says what is wrong."""
    with pytest.raises(ValidationError, match="dipole_azimuth_deg needs dipole_tilt_deg"):
        VectorialPsf(dipole_azimuth_deg=10.0)
    with pytest.raises(ValueError, match="too strong"):
        VectorialPsf(aberrations=(Aberration(noll=6, rms_nm=5000.0),)).density(
            OIL, 600.0, 0.0, 0.0, 0.0
        )
    with pytest.raises(ValueError, match="above the coverslip"):
        FREE.table(OIL_ON_WATER, 600.0, 100.0, (-1.0, 100.0))
