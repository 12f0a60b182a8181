"""Point spread functions: scalar models against closed forms and published numbers, and tables."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import scipy.optimize
import scipy.special
from pydantic import TypeAdapter, ValidationError

from nanophantom.simcore.light.psf import (
    AiryPsf,
    GaussianPsf,
    GibsonLanniPsf,
    Optics,
    Psf,
    SpotRenderer,
    collection_efficiency,
    kernels,
    optics,
    splines,
    widths,
)
from nanophantom.simcore.light.psf.pupil import PupilPsf

Floats = npt.NDArray[np.float64]

OIL = Optics(na=1.4, immersion_index=1.515, sample_index=1.515)
AIRY, SCALAR = AiryPsf(), GibsonLanniPsf()


def on_pixels(
    psf: PupilPsf, of: Optics, wavelength: float, pixel: float, z: float, spot: Floats, at: Floats
) -> Floats:
    """Return the integral of the density over pixels `at` (n, 2) of a spot at (x, y), directly."""
    nodes, weights = np.polynomial.legendre.leggauss(4)
    gy, gx = (g.ravel() / 2 for g in np.meshgrid(nodes, nodes, indexing="ij"))
    w = np.outer(weights, weights).ravel() / 4
    x = (at[:, :1] - spot[0] + gx) * pixel
    y = (at[:, 1:] - spot[1] + gy) * pixel
    density = psf.density(of, wavelength, x.ravel(), y.ravel(), z)[0]
    return np.asarray(density.reshape(x.shape) @ w * pixel**2)


def worst_against_direct(psf: PupilPsf, of: Optics, z_range: tuple[float, float]) -> float:
    """Return the largest error of table spots, in units of their peak, at random places and z."""
    rng = np.random.default_rng(7)
    table = psf.table(of, 660.0, 110.0, z_range)
    worst = 0.0
    for z in rng.uniform(*z_range, 4):
        spot = 20 + rng.uniform(-0.5, 0.5, 2)
        image = table.at(z, 41, 41, spot[0], spot[1])
        core = np.rint(rng.normal(20, 2.5, (40, 2))).astype(int)
        at = np.concatenate([core, rng.integers(0, 41, (40, 2))])
        direct = on_pixels(psf, of, 660.0, 110.0, z, spot, at.astype(float))
        error = np.abs(image[at[:, 1], at[:, 0]] - direct).max()
        worst = max(worst, float(error / image.max()))
    return worst


@pytest.mark.parametrize(("wavelength", "na"), [(600.0, 1.4), (488.0, 0.9)])
def test_airy_pattern_has_its_width_its_dark_ring_and_the_energy_inside(
    wavelength: float, na: float
) -> None:
    """0.51450 and 0.60983 wavelength / NA, 0.83778 of the energy (first zero of J1: 3.8317)."""
    of = Optics(na=na, sample_index=1.518)
    unit = wavelength / na
    width = widths.lateral_fwhm_nm(AIRY, of, wavelength)
    assert width == pytest.approx(0.51450 * unit, rel=1e-4)
    assert optics.airy_fwhm_nm(wavelength, na) == pytest.approx(width, rel=1e-4)
    ring = np.linspace(0.55, 0.67, 241) * unit
    dark = ring[AIRY.density(of, wavelength, ring, 0 * ring, 0.0)[0].argmin()]
    assert dark == pytest.approx(optics.airy_radius_nm(wavelength, na), rel=1e-3)
    nodes, weights = np.polynomial.legendre.leggauss(40)
    r = 0.5 * 0.60983 * unit * (nodes + 1)
    inside = AIRY.density(of, wavelength, r, 0 * r, 0.0)[0] * 2 * np.pi * r
    assert inside @ weights * 0.5 * 0.60983 * unit == pytest.approx(0.83778, rel=1e-4)


@pytest.mark.parametrize(("na", "index"), [(1.4, 1.518), (0.7, 1.33)])
def test_airy_pattern_along_the_axis_is_a_squared_sinc(na: float, index: float) -> None:
    """sinc^2(u/4), u = 2 pi NA^2 z / (n lambda): Born & Wolf; width 1.7718 n lambda / NA^2."""
    of = Optics(na=na, sample_index=index)
    z = np.linspace(-1500.0, 1500.0, 31)
    axis = AIRY.density(of, 600.0, 0.0, 0.0, z, 100.0)[:, 0]
    u = 2 * np.pi * na**2 * (z - 100.0) / (index * 600.0)
    assert np.allclose(axis, np.pi * (na / 600.0) ** 2 * np.sinc(u / 4 / np.pi) ** 2, atol=1e-12)
    width = widths.axial_fwhm_nm(AIRY, of, 600.0)
    assert width == pytest.approx(1.7718 * index * 600.0 / na**2, rel=1e-4)
    assert optics.airy_axial_fwhm_nm(600.0, na, index) == pytest.approx(width, rel=1e-4)


def test_high_aperture_axial_width_is_that_of_its_band_and_tends_to_the_paraxial_one() -> None:
    """0.886 wavelength / (n - sqrt(n^2 - NA^2)) = 567.8 nm at NA 1.4, n 1.515, 600 nm."""
    assert optics.high_na_axial_fwhm_nm(600.0, 1.4, 1.515) == pytest.approx(567.8, rel=1e-3)
    low, paraxial = (
        f(600.0, 0.1, 1.5) for f in (optics.high_na_axial_fwhm_nm, optics.airy_axial_fwhm_nm)
    )
    assert low == pytest.approx(paraxial, rel=2e-3)


def test_gaussian_nearest_to_the_airy_pattern_has_sigma_0_21() -> None:
    """Least squares over the plane, equal peaks (Zhang et al., Appl. Opt. 46 (2007) 1819)."""
    r = np.linspace(0.001, 3.0, 3000) * 600.0 / 1.4
    airy = AIRY.density(OIL, 600.0, r, 0 * r, 0.0)[0] / AIRY.density(OIL, 600.0, 0.0, 0.0, 0.0)
    found = scipy.optimize.minimize_scalar(
        lambda s: float((((np.exp(-0.5 * (r / s) ** 2) - airy[0]) ** 2) * r).sum()),
        bounds=(40.0, 150.0),
        method="bounded",
    ).x
    default = GaussianPsf().sigma_at_focus(OIL, 600.0)
    assert default == pytest.approx(0.21 * 600.0 / 1.4)
    assert found == pytest.approx(default, rel=0.02)


@pytest.mark.parametrize(
    ("na", "index", "fraction"),
    [(1.4, 1.518, 0.3067), (1.49, 1.518, 0.4044), (1.2, 1.333, 0.2823), (0.8, 1.0, 0.2000)],
)
def test_collection_efficiency_is_the_solid_angle(na: float, index: float, fraction: float) -> None:
    """(1 - sqrt(1 - (NA/n)^2)) / 2; the knob transmission scales it."""
    assert collection_efficiency(na, index) == pytest.approx(fraction, abs=1e-4)
    if index > 1.0:
        of = Optics(na=na, immersion_index=index, transmission=0.5)
        assert of.collection_efficiency == pytest.approx(0.5 * fraction, abs=1e-4)


def test_gibson_lanni_matched_has_the_published_widths() -> None:
    """psfmodels 0.3.3, scalar, 600 nm, NA 1.4, n 1.515: 220.6 nm and 591 nm, within 1 %."""
    assert widths.lateral_fwhm_nm(SCALAR, OIL, 600.0) == pytest.approx(220.6, rel=0.01)
    assert widths.axial_fwhm_nm(SCALAR, OIL, 600.0) == pytest.approx(591.0, rel=0.01)


@pytest.mark.parametrize(
    ("depth", "width", "stage"), [(1000.0, 751.0, 1240.0), (3000.0, 975.0, 3440.0)]
)
def test_gibson_lanni_in_water_has_the_published_focal_shift_and_width(
    depth: float, width: float, stage: float
) -> None:
    """psfmodels 0.3.3, 600 nm, NA 1.4, oil 1.515 on water 1.33, within 3 %.

    Its stage is counted from where the emitter is in paraxial focus at stage = depth; ours from
    the coverslip in focus: ours is larger by depth (n_oil / n_water - 1).
    """
    of = Optics(na=1.4, immersion_index=1.515, sample_index=1.33)
    focus = widths.best_focus_nm(SCALAR, of, 600.0, depth)
    assert focus - depth * (1.515 / 1.33 - 1) == pytest.approx(stage, rel=0.03)
    assert widths.axial_fwhm_nm(SCALAR, of, 600.0, depth) == pytest.approx(width, rel=0.03)


def test_thickness_of_a_coverslip_matters_only_where_its_index_is_not_the_immersions() -> None:
    """Glass in place of as much oil of the same index changes nothing; in place of water it does.

    At low aperture the wrong coverslip is a mere defocus, which the setting at focus 0 removes.
    """

    def peak(na: float, index: float, micrometers: float) -> float:
        of = Optics(
            na=na,
            immersion_index=index,
            sample_index=index,
            coverslip_index=1.515,
            coverslip_thickness_um=micrometers,
            design_coverslip_thickness_um=170.0,
        )
        return float(SCALAR.density(of, 600.0, 0.0, 0.0, 0.0)[0, 0])

    assert peak(1.4, 1.515, 180.0) == pytest.approx(peak(1.4, 1.515, 170.0), rel=1e-9)
    assert peak(0.3, 1.33, 180.0) == pytest.approx(peak(0.3, 1.33, 170.0), rel=1e-3)
    assert peak(1.1, 1.33, 180.0) < 0.5 * peak(1.1, 1.33, 170.0)


def test_a_gaussian_spot_is_the_product_of_two_error_functions() -> None:
    """At any sub-pixel place, y down and x right, widths by height; 6e-7 is lost on an axis."""
    spots = GaussianPsf(sigma_nm=130.0, focal_depth_nm=350.0, astigmatism_nm=200.0).table(
        OIL, 660.0, 100.0, (-400.0, 400.0), 50.0
    )
    sx, sy = (1.3 * math.sqrt(1 + ((150.0 + c) / 350.0) ** 2) for c in (-200.0, 200.0))
    edges = np.arange(42) - 0.5

    def parts(centre: float, sigma: float) -> Floats:
        return np.asarray(np.diff(scipy.special.ndtr((edges - centre) / sigma)))

    image = spots.at(200.0, 41, 41, 22.3, 18.6)
    assert np.allclose(image, np.outer(parts(18.6, sy), parts(22.3, sx)), atol=3e-7)
    assert image.sum() == pytest.approx(1.0, abs=3e-6)
    assert spots.reach_nm == pytest.approx(5 * 130.0 * math.hypot(1.0, 650.0 / 350.0))


def test_astigmatic_widths_are_those_of_the_calibration() -> None:
    """sigma_x,y(z) = 130 sqrt(1 + ((z -+ 200)/350)^2): narrowest along x at +200 nm."""
    psf = GaussianPsf(sigma_nm=130.0, focal_depth_nm=350.0, astigmatism_nm=200.0)
    x, y = psf.sigmas(OIL, 660.0, [-200.0, 0.0, 200.0, 400.0])
    assert x == pytest.approx([197.42, 149.73, 130.0, 149.73], abs=0.01)
    assert y == pytest.approx([130.0, 149.73, 197.42, 258.0], abs=0.01)


def test_pixels_widen_a_spot_by_a_twelfth_of_their_square() -> None:
    """Variance of a pixel-integrated spot: sigma^2 + a^2 / 12 on average over sub-pixel places."""
    spots = GaussianPsf(sigma_nm=100.0).table(OIL, 660.0, 100.0, (0.0, 0.0))
    variances = []
    for x in (np.arange(8) + 0.5) / 8:
        row = spots.at(0.0, 31, 31, 15 + x, 15.0).sum(axis=0, dtype=float)
        variances.append((row @ (np.arange(31) - 15 - x) ** 2) / row.sum())
    assert np.mean(variances) == pytest.approx(1 + 1 / 12, rel=1e-4)


@pytest.mark.parametrize("psf", [AIRY, SCALAR], ids=lambda p: p.type)
def test_spots_of_a_table_agree_with_the_direct_integral(psf: PupilPsf) -> None:
    """To 1e-3 of the peak at random sub-pixel places and heights, far from the centre too."""
    of = Optics(na=1.4, immersion_index=1.518, sample_index=1.33)
    assert worst_against_direct(psf, of, (0.0, 700.0)) < 1e-3


@pytest.mark.parametrize("pixel", [65.0, 160.0])
def test_a_table_states_what_it_loses_and_keeps_the_rest(pixel: float) -> None:
    """Less than 1 % falls beyond the reach unless asked; the sum of pixels is what remains.

    Outside a square of half-width v Airy's pattern has about 0.9 * 2 / (pi v).
    """
    table = AIRY.table(OIL, 660.0, pixel, (-300.0, 300.0))
    assert (table.outside < 0.01).all()
    n = 2 * table.reach_px + 5
    for z in (-300.0, -110.0, 20.0, 300.0):
        total = table.at(z, n, n, n // 2 + 0.37, n // 2 - 0.21).sum(dtype=float)
        assert total == pytest.approx(1 - np.interp(z, table.z_nm, table.outside), abs=3e-4)
    half_width = (table.reach_nm + pixel / 2) * 2 * np.pi * 1.4 / 660.0
    assert table.outside[len(table.z_nm) // 2] == pytest.approx(1.8 / np.pi / half_width, rel=0.03)
    assert table.nbytes < 30e6


@pytest.mark.parametrize(
    "spots",
    [
        GaussianPsf(sigma_nm=120.0).table(OIL, 660.0, 100.0, (-300.0, 300.0)),
        AIRY.table(OIL, 660.0, 100.0, (-300.0, 300.0), reach_nm=2500.0),
    ],
    ids=["gaussian", "table"],
)
def test_spots_add_up_and_are_cut_at_the_border(spots: SpotRenderer) -> None:
    """An image is a window of a larger one; spots far outside leave nothing; photons scale."""
    assert isinstance(spots, SpotRenderer)
    rng = np.random.default_rng(3)
    x, y = rng.uniform(-60.0, 90.0, (2, 60))
    z, n = rng.uniform(-300.0, 300.0, 60), rng.uniform(10.0, 1000.0, 60)
    large, small = np.zeros((200, 200), np.float32), np.full((30, 40), 5.0, np.float32)
    spots.add(large, x + 80, y + 80, z, n)
    spots.add(small, x, y, z, n)
    assert np.allclose(small - 5.0, large[80:110, 80:120], atol=1e-4)
    one_by_one = np.zeros((200, 200), np.float32)
    for i in range(60):
        one_by_one += n[i] * spots.at(z[i], 200, 200, x[i] + 80, y[i] + 80)
    assert np.allclose(one_by_one, large, atol=1e-4)


def test_two_planes_of_focus_see_an_emitter_between_them_alike() -> None:
    """Biplane: an emitter in the middle is blurred equally, one above more in the lower plane."""
    lower, upper = widths.biplane(AIRY, OIL, 660.0, 100.0, (-400.0, 1000.0), 300.0, 500.0)
    middle = [s.at(300.0, 21, 21, 10, 10).max() for s in (lower, upper)]
    assert middle[0] == pytest.approx(middle[1], rel=1e-4)
    above = [s.at(550.0, 21, 21, 10, 10).max() for s in (lower, upper)]
    focus = AIRY.table(OIL, 660.0, 100.0, (0.0, 100.0)).at(0.0, 21, 21, 10, 10).max()
    assert above[1] == pytest.approx(focus, rel=1e-3)
    assert above[0] < 0.7 * above[1]


def test_full_width_is_measured_between_half_heights() -> None:
    """2.35482 sigma for a Gaussian; a peak that is cut is refused."""
    x = np.linspace(-3.0, 4.0, 50)
    assert widths.fwhm(x, np.exp(-0.5 * (x - 0.2) ** 2)) == pytest.approx(2.35482, rel=1e-4)
    with pytest.raises(ValueError, match="half its maximum"):
        widths.fwhm(x, np.exp(-0.05 * x**2))


def test_bessel_functions_of_all_orders_agree_with_scipy() -> None:
    """Where the argument exceeds the order, where it doesn't, and near zero: 1e-10."""
    x = np.concatenate([[0.0, 1e-9, 1e-3, 0.2], np.linspace(0.5, 170.0, 600)])
    for highest in (1, 2, 9, 60):
        ours = kernels.bessel(x, scipy.special.j0(x), scipy.special.j1(x), highest)
        for m in range(highest + 1):
            assert np.allclose(ours[m], scipy.special.jv(m, x), atol=1e-10)


def test_splines_integrate_over_pixels_and_end_as_cubics() -> None:
    """The integral of a cosine over a pixel is sinc times it; any cubic passes along z."""
    phases, n = 3, 90
    x = np.arange(n) / phases
    coefficients = splines.pixel_operator(n, phases) @ np.cos(1.1 * x)
    values = np.convolve(coefficients, [1 / 6, 4 / 6, 1 / 6], mode="valid")
    inner = x[splines.lost(phases) + 1 : n - splines.lost(phases) - 1]
    assert np.allclose(values, np.cos(1.1 * inner) * np.sinc(1.1 / 2 / np.pi), atol=2e-5)
    z = np.arange(7.0)
    c = splines.axial_operator(7) @ (z**3 - 4 * z**2 + 2)
    at = np.array([1.0, 23.0, 23.0, 1.0]) / 48  # weights in the middle between two samples
    middles = np.array([at @ c[i : i + 4] for i in range(6)])
    between = z[:-1] + 0.5
    assert np.allclose(middles, between**3 - 4 * between**2 + 2, atol=1e-9)


def test_what_cannot_be_is_refused() -> None:
    """One line says what is wrong."""
    with pytest.raises(ValidationError, match=r"na 1\.4 must be below immersion_index 1\.33"):
        Optics(na=1.4, immersion_index=1.33)
    with pytest.raises(ValidationError, match="astigmatism_nm needs focal_depth_nm"):
        GaussianPsf(astigmatism_nm=200.0)
    with pytest.raises(ValidationError, match="gaussian, airy, gibson-lanni or vectorial"):
        TypeAdapter(Psf).validate_python({"type": "lorentzian"})
    with pytest.raises(ValueError, match="above the coverslip"):
        SCALAR.table(Optics(), 660.0, 100.0, (-100.0, 100.0))
    table = AIRY.table(OIL, 660.0, 100.0, (0.0, 300.0), reach_nm=800.0)
    with pytest.raises(ValueError, match=r"z = 0 \.\.\. 500 nm; the table .* 0 \.\.\. 300 nm"):
        table.add(np.zeros((9, 9), np.float32), [4, 4], [4, 4], [0, 500], [1, 1])
    with pytest.raises(ValueError, match="float32"):
        table.add(np.zeros((9, 9)), [4], [4], [0], [1])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="y_px of spots must be finite"):
        table.add(np.zeros((9, 9), np.float32), [4], [np.nan], [0], [1])
    with pytest.raises(ValueError, match="photons of spots: one number a spot"):
        table.add(np.zeros((9, 9), np.float32), [4], [4], [0], [1, 2])
