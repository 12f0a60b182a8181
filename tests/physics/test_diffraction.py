"""Diffraction patterns: angles, disks, conservation, rocking curves, Bragg lines."""

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter

from nanophantom.instruments._diffraction_projector import Projector
from nanophantom.instruments.diffraction import Diffraction
from nanophantom.samples.amorphous_film import AmorphousFilm
from nanophantom.samples.crystal import Crystal
from nanophantom.simcore.atoms import Atoms
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.experiment import Experiment
from nanophantom.simcore.fields import Array
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import FiniteAtoms, Specimen

LAMBDA = float(wavelength(300.0))
STO_A = 3.905  # lattice constant of the strontium titanate file, Å


def camera(width: int, height: int, pixel_mrad: float, **more: object) -> dict[str, object]:
    return {
        "width_px": width,
        "height_px": height,
        "pixel_size_mrad": pixel_mrad,
        "shot_noise": False,
        **more,
    }


def look(specimen: Specimen, **knobs: object) -> Experiment:
    still = {"multislice": {"thermal_motion": False}, "electrons_per_pattern": 1.0}
    model = Diffraction.model_validate({**still, **knobs})
    return Experiment.of(model.plan(specimen, Run(1)))


def srtio3(thickness_nm: float) -> Specimen:
    return Crystal(file="srtio3.cif", thickness_nm=thickness_nm).make(Run(1))


def light_lattice(a_nm: float, layers: int, number: int = 3) -> FiniteAtoms:
    """A square lattice of light atoms, one layer every 0.4 nm."""
    n = np.arange(-int(6 / a_nm), int(6 / a_nm) + 1) * a_nm
    x, y, z = (v.ravel() for v in np.meshgrid(n, n, 0.4 * np.arange(layers)))
    return FiniteAtoms(Atoms.of([number] * x.size, np.column_stack([x, y, z]), 0.0))


# --- the camera ----------------------------------------------------------------------------------


def test_pixels_share_out_the_pattern_without_gain_or_loss() -> None:
    """A camera that sees the whole band counts all of it, wherever its centre and pixels lie."""
    grid = Grid.for_wave((31.0, 24.0), 1.0)
    rng = np.random.default_rng(2)
    wave = rng.standard_normal(grid.wave_shape) + 1j * rng.standard_normal(grid.wave_shape)
    total = np.sum(np.abs(wave) ** 2)
    for pixel_mrad in (0.31, 0.83, 2.9):
        projector = Projector(grid, 300.0, (180, 170), pixel_mrad, (83.3, 91.7))
        intensities = projector.intensities(projector.real_space(wave))
        assert intensities.sum() == pytest.approx(total, rel=1e-12)
        assert projector.blurred(intensities, 0.7).sum() == pytest.approx(total, rel=1e-9)
        if pixel_mrad > 0.5:  # else the camera is smaller than the band
            assert projector.on_camera(intensities).sum() == pytest.approx(total, rel=1e-12)


def test_a_single_beam_falls_on_its_pixels() -> None:
    """The beam (l, h) = (3, -2) of a cell makes an angle lambda (h / Lx, l / Ly), y down."""
    grid = Grid.for_wave((60.0, 50.0), 1.0)
    wave = np.zeros(grid.wave_shape, complex)
    wave[3, -2] = 1.0
    projector = Projector(grid, 300.0, (61, 81), 0.1, (40.0, 30.0))
    seen = projector.on_camera(projector.intensities(projector.real_space(wave)))
    y, x = np.indices(seen.shape)
    centre = np.array([(seen * x).sum(), (seen * y).sum()]) / seen.sum()
    wanted = np.array([40.0, 30.0]) + 1e3 * LAMBDA * np.array([-2 / 50, 3 / 60]) / 0.1
    np.testing.assert_allclose(centre, wanted, atol=0.3)  # a window's pattern ends on the camera
    peak = np.unravel_index(np.argmax(seen), seen.shape)
    np.testing.assert_allclose(peak[::-1], wanted, atol=1.0)


def test_electrons_are_kept_lost_or_beside_the_camera() -> None:
    for knobs in (
        {"mode": "cbed", "probe": {"semiangle_mrad": 8.0}},
        {"mode": "cbed", "probe": {"semiangle_mrad": 8.0, "source_size_nm": 0.1}},
        {
            "mode": "lacbed",
            "probe": {"semiangle_mrad": 12.0, "defocus_nm": 80.0},
            "diameter_nm": 1.0,
        },
    ):
        seen = look(srtio3(2.0), camera=camera(64, 48, 0.8), **knobs)
        budget = {k: float(v[0]) for k, v in seen.truth("budget").items()}
        assert budget["kept"] + budget["lost"] == pytest.approx(1.0, abs=1e-5)
        counted = seen.ideal("image", 0).sum() + budget["outside"] + budget["stopped"]
        assert counted == pytest.approx(budget["kept"], abs=1e-5)


# --- selected areas ------------------------------------------------------------------------------


def test_spots_of_a_crystal_fall_where_the_camera_length_says() -> None:
    """SrTiO3 [001]: spots every lambda / a = 5.042 mrad, about a centre that is off the middle."""
    seen = look(
        srtio3(3.0),
        mode="saed",
        diameter_nm=8.0,
        camera=camera(160, 120, 0.2, centre_offset_mrad=[1.3, -0.7]),
    )
    pattern = seen.ideal("image", 0)
    spots = seen.truth("reflections")
    centre = seen.truth("centre")
    assert centre["x_px"][0] == pytest.approx(79.5 + 6.5)
    assert centre["y_px"][0] == pytest.approx(59.5 - 3.5)
    angle = np.hypot(spots["x_mrad"], spots["y_mrad"])
    assert angle[1:5] == pytest.approx([1e3 * LAMBDA / STO_A] * 4, rel=1e-3)
    y, x = np.indices(pattern.shape)
    strong = np.flatnonzero((spots["h"] + spots["k"]) % 2 == 0)[:9]  # 000, {110}, {200}
    assert angle[strong[8]] == pytest.approx(2e3 * LAMBDA / STO_A, rel=1e-3)
    for i in strong:
        cx, cy = spots["x_px"][i], spots["y_px"][i]
        near = np.where(np.hypot(x - cx, y - cy) < 4.0, pattern, 0.0).astype(float)
        near = np.clip(near - 0.2 * near.max(), 0.0, None)  # above the direct beam's tail
        found = (near * x).sum() / near.sum(), (near * y).sum() / near.sum()
        assert found == pytest.approx((cx, cy), abs=0.1)  # 0.02 mrad
    # half way between spots there is nothing
    assert pattern[round(centre["y_px"][0]), round(centre["x_px"][0] + 12.6)] < 1e-3 * pattern.max()


def test_illumination_angles_blur_spots_to_their_standard_deviation() -> None:
    sharp, soft = (
        look(
            light_lattice(0.4, 1),
            mode="saed",
            diameter_nm=6.0,
            convergence_mrad=sigma,
            camera=camera(121, 121, 0.1),
        ).ideal("image", 0)
        for sigma in (0.0, 0.5)
    )
    blurred = gaussian_filter(sharp.astype(float), 5.0)  # 0.5 mrad
    middle = slice(20, 101)
    np.testing.assert_allclose(
        soft[middle, middle], blurred[middle, middle], atol=0.01 * blurred.max()
    )
    assert soft.max() < 0.5 * sharp.max()


# --- convergent beams ----------------------------------------------------------------------------


def one_atom() -> FiniteAtoms:
    return FiniteAtoms(Atoms.of([6], [[0.1, -0.2, 0.0]], 0.0))


@pytest.mark.parametrize("semiangle_mrad", [6.0, 15.5])
def test_the_disk_of_a_convergent_beam_has_the_radius_of_its_semiangle(
    semiangle_mrad: float,
) -> None:
    seen = look(
        one_atom(),
        mode="cbed",
        probe={"semiangle_mrad": semiangle_mrad},
        camera=camera(170, 170, 0.2),
    )
    pattern = seen.ideal("image", 0)
    bright = pattern > 0.5 * np.median(pattern[75:95, 75:95])
    assert np.sqrt(bright.sum() * 0.04 / np.pi) == pytest.approx(semiangle_mrad, rel=0.01)


def test_thicknesses_of_one_pass_are_those_of_passes_of_their_own() -> None:
    knobs = {"mode": "cbed", "probe": {"semiangle_mrad": 8.0}, "camera": camera(40, 40, 1.0)}
    foil = srtio3(6.0)
    both = look(foil, thicknesses_nm=[1.95 * 2, 5.9], **knobs)
    assert both.n_frames == 2
    np.testing.assert_allclose(both.truth("thickness")["thickness_nm"], [3.9, 5.9])
    for i, t in enumerate((3.9, 5.9)):
        alone = look(foil, thicknesses_nm=[t], **knobs)
        peak = alone.ideal("image", 0).max()
        np.testing.assert_allclose(
            both.ideal("image", i), alone.ideal("image", 0), atol=1e-5 * peak
        )
    one, two = both.ideal("image", 0), both.ideal("image", 1)
    assert np.abs(one - two).max() > 0.1 * one.max()
    with pytest.raises(ValueError, match=r"thicknesses_nm: 9 nm was asked for"):
        look(foil, thicknesses_nm=[9.0], **knobs)


def test_a_position_average_is_the_mean_over_places_in_the_cell() -> None:
    """Two by two places lie a quarter and three quarters of the way along a = 3.905 Å."""
    knobs = {
        "mode": "cbed",
        "probe": {"semiangle_mrad": 15.0},
        "camera": camera(48, 48, 1.0),
    }
    foil = srtio3(3.0)
    quarter = STO_A / 40

    def numbers(margin_nm: float) -> dict[str, object]:
        return {"multislice": {"thermal_motion": False, "margin_nm": margin_nm}}

    averaged = look(
        foil, positions="averaged", positions_per_axis=2, **knobs, **numbers(2.5)
    ).ideal("image", 0)
    single = [
        # in a cell of the same width
        look(foil, position_nm=[x, y], **knobs, **numbers(2.5 + quarter)).ideal("image", 0)
        for x in (-quarter, quarter)
        for y in (-quarter, quarter)
    ]
    np.testing.assert_allclose(averaged, np.mean(single, axis=0), atol=0.01 * averaged.max())
    with pytest.raises(ValueError, match="averaged needs a crystal"):
        look(one_atom(), positions="averaged", **knobs)


def test_a_ronchigram_of_an_amorphous_film_has_contrast_inside_its_aperture() -> None:
    film = AmorphousFilm(made_of="field", thickness_nm=3.0).make(Run(2))
    seen = look(
        film,
        mode="cbed",
        probe={"semiangle_mrad": 30.0, "defocus_nm": -40.0, "aberrations": {"c30_um": 5.0}},
        camera=camera(80, 80, 1.0),
    )
    pattern = seen.ideal("image", 0)
    y, x = np.indices(pattern.shape) - 39.5
    inside, outside = np.hypot(x, y) < 28, np.hypot(x, y) > 34
    assert np.std(pattern[inside]) > 0.05 * np.mean(pattern[inside])
    assert pattern[outside].mean() < 0.05 * pattern[inside].mean()


# --- rocking -------------------------------------------------------------------------------------


def test_precession_integrates_over_the_rocking_curve() -> None:
    """Kinematic: layers c apart add up as sin(pi N c s) / sin(pi c s) of the excitation error s.

    s = -lambda (g^2 + 2 k0 g) / 2 for a beam tilted to k0; precession is the mean over azimuths.
    """
    layers, c, g, angle, azimuths = 24, 4.0, 2 / 4.0, 12.0, 8
    foil = light_lattice(0.4, layers, number=1)
    knobs = {"diameter_nm": 8.0, "camera": camera(101, 101, 0.25)}

    def spots(specimen: Specimen, **more: object) -> float:
        """Sum over the four reflections {200}."""
        pattern = look(specimen, **knobs, **more).ideal("image", 0)
        y, x = np.indices(pattern.shape)
        total = 0.0
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            at = 50 + 1e3 * LAMBDA * g / 0.25 * np.array([dx, dy])
            total += float(pattern[np.hypot(x - at[0], y - at[1]) < 7].sum())
        return total

    precession = {"angle_mrad": angle, "azimuths": azimuths}
    aperture = spots(FiniteAtoms(Atoms.of([1], [[4.55, 0.0, 0.0]], 0.0)), mode="saed")
    straight = spots(foil, mode="saed") - aperture  # what a bare aperture scatters there
    precessed = spots(foil, mode="precession", precession=precession) - aperture

    phi = 2 * np.pi * np.arange(azimuths) / azimuths
    s = -LAMBDA / 2 * (g**2 + 2 * g * 1e-3 * angle / LAMBDA * np.cos(phi))
    s0 = -LAMBDA / 2 * g**2

    def laue(s: Array) -> Array:
        return (np.sin(np.pi * layers * c * s) / np.sin(np.pi * c * s)) ** 2

    ratio = float(np.mean(laue(s)) / laue(np.array(s0)))
    assert precessed / straight == pytest.approx(ratio, rel=0.03)
    assert not 0.8 < ratio < 1.25  # or the test would prove nothing


def test_a_large_angle_dark_field_disk_is_bright_where_bragg_says() -> None:
    """In the disk of g the Bragg condition holds half way out, at lambda g / 2 = 4.92 mrad."""
    foil = light_lattice(0.2, 75, number=6)
    theta = 1e3 * LAMBDA / 2.0
    seen = look(
        foil,
        mode="lacbed",
        probe={"semiangle_mrad": 12.0, "defocus_nm": 150.0},
        diameter_nm=0.9,
        reflection_mrad=[theta, 0.0],
        camera=camera(121, 81, 0.5),
    )
    pattern = seen.ideal("image", 0)
    x = 0.5 * (np.arange(121) - 60)
    profile = pattern[30:51].sum(axis=0)
    assert x[np.argmax(profile)] == pytest.approx(theta / 2, abs=0.75)
    # nothing comes from outside the disk of this reflection
    y = 0.5 * (np.arange(81) - 40)
    beyond = np.hypot(x[None, :] - theta, y[:, None]) > 12.0 + 5.5
    assert pattern[beyond].max() == 0.0
    assert pattern.sum() > 1e-3


# --- refusals and the camera's stop --------------------------------------------------------------


@pytest.mark.parametrize(
    ("knobs", "complaint"),
    [
        ({"mode": "saed", "positions": "averaged"}, "only cbed averages"),
        ({"mode": "lacbed"}, "needs a larger defocus"),
        ({"thicknesses_nm": [2.0, 1.0]}, "must rise"),
        ({"aberration_drift": {"c10_nm_per_s": 1.0}}, "stands still"),
        (
            {
                "mode": "cbed",
                "probe": {"semiangle_mrad": 30},
                "multislice": {"band_limit_mrad": 20},
            },
            "below what the probe holds",
        ),
    ],
)
def test_what_can_not_be_is_refused(knobs: dict, complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        Diffraction.model_validate(knobs)


def test_a_beam_stop_hides_the_direct_beam_and_nothing_else() -> None:
    knobs = {"mode": "saed", "diameter_nm": 3.0}
    plain = look(srtio3(2.0), camera=camera(64, 64, 0.4), **knobs).ideal("image", 0)
    hidden = look(srtio3(2.0), camera=camera(64, 64, 0.4, beam_stop_mrad=2.5), **knobs)
    pattern = hidden.ideal("image", 0)
    y, x = np.indices(pattern.shape) - 31.5
    stopped = np.hypot(x, y) * 0.4 <= 2.5
    assert not pattern[stopped].any()
    np.testing.assert_array_equal(pattern[~stopped], plain[~stopped])


def test_a_preset_gives_the_probe() -> None:
    model = Diffraction.model_validate({"preset": "uncorrected-200kv", "mode": "cbed"})
    assert model.energy_kev == 200.0
    assert model.probe.aberrations.c30_um == 1200.0
    assert model.tuning.c12_nm > 0
