"""Modes of the TEM: series, tilts, hollow cone, dark field, drifting lenses, lost energy."""

import pickle

import numpy as np
import pytest
from pydantic import ValidationError

from nanophantom.instruments.tem import TEM
from nanophantom.samples.amorphous_film import AmorphousFilm
from nanophantom.samples.crystal import Crystal
from nanophantom.simcore.atoms import Atoms
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.imaging import expected_image
from nanophantom.simcore.experiment import Experiment
from nanophantom.simcore.fields import Array
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import FiniteAtoms

OPTICS = {
    "defocus_nm": 6.0,
    "aberrations": {"c30_um": -13.0},
    "aperture_mrad": 25.0,
    "focal_spread_nm": 2.0,
}


def microscope(**knobs: object) -> TEM:
    base = {
        "exposures": {"dose_e_per_A2": 100.0},
        "camera": {"width_px": 64, "height_px": 48, "pixel_size_nm": 0.02},
        "optics": OPTICS,
        "multislice": {"thermal_configurations": 2, "margin_nm": 0.3},
        "drift": {"speed_nm_per_s": 0.01},
    }
    return TEM.model_validate({**base, **knobs})


def specimen() -> FiniteAtoms:
    return FiniteAtoms(Atoms.of([79, 14, 38], [[0, 0, 0], [0.3, 0.1, 0.4], [-0.3, 0.2, 0.8]], 0.5))


def look(tem: TEM) -> Experiment:
    return Experiment.of(tem.plan(specimen(), Run(1)))


def frames(n: int) -> dict[str, object]:
    return {"n_frames": n, "dose_e_per_A2": 100.0}


def test_a_frame_of_a_focal_series_is_the_image_at_that_defocus_bit_for_bit() -> None:
    foci = (-4.0, 2.0, 8.0)
    series = look(microscope(series={"defoci_nm": foci}))
    assert series.n_frames == 3
    for i, defocus_nm in enumerate(foci):
        optics = {**OPTICS, "defocus_nm": defocus_nm}
        single = look(microscope(optics=optics, exposures=frames(3)))
        np.testing.assert_array_equal(series.ideal("image", i), single.ideal("image", i))
        np.testing.assert_array_equal(series.signal("image")[i], single.signal("image")[i])
    np.testing.assert_allclose(series.truth("focus")["actual_nm"], foci)
    assert series.settings["defoci_nm"] == list(foci)


def test_a_ramp_of_the_focus_may_hold_several_exposures_at_each_step() -> None:
    ramp = {"defocus_start_nm": -3.0, "defocus_step_nm": "15 Å", "n_foci": 3}
    tem = microscope(series=ramp, exposures=frames(6))
    assert tem.defoci_nm == pytest.approx((-3.0, -3.0, -1.5, -1.5, 0.0, 0.0), abs=1e-12)
    assert TEM.model_validate(tem.model_dump()) == tem
    with pytest.raises(ValidationError, match="no multiple of the 3 steps"):
        microscope(series=ramp, exposures=frames(4))


@pytest.mark.parametrize(
    ("series", "complaint"),
    [
        ({}, "needs defoci_nm"),
        ({"defocus_start_nm": 1.0}, "needs defocus_start_nm, defocus_step_nm and n_foci"),
        ({"defoci_nm": [1.0, 2.0], "beam_tilts_mrad": [[1.0, 0.0]]}, "2 foci and 1 beam tilts"),
        (
            {"defoci_nm": [1.0], "defocus_start_nm": 0.0, "defocus_step_nm": 1.0, "n_foci": 2},
            "not both",
        ),
    ],
)
def test_a_series_that_can_not_be_is_refused(series: dict, complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        microscope(series=series)


def test_a_hollow_cone_is_the_mean_over_its_tilts() -> None:
    tilts = [[4.0, 0.0], [0.0, 4.0], [-4.0, 0.0], [0.0, -4.0]]
    tableau = look(microscope(series={"beam_tilts_mrad": tilts}, drift={}))
    cone = look(microscope(hollow_cone={"cone_mrad": 4.0, "azimuths": 4}, drift={}))
    mean = np.mean([tableau.ideal("image", i) for i in range(4)], axis=0)
    np.testing.assert_allclose(cone.ideal("image", 0), mean, rtol=2e-6)
    one, two = tableau.ideal("image", 0), tableau.ideal("image", 2)
    assert np.std(one - two) > 0.02 * np.std(one)  # or the test would prove nothing
    assert tableau.settings["beam_tilts_mrad"] == tilts


def square_lattice() -> tuple[FiniteAtoms, float]:
    """A thin square lattice of gold, period 0.4 nm: in a cell of whole periods it is periodic."""
    a = 0.4
    x, y = (a * (v - 8) for v in np.meshgrid(np.arange(40), np.arange(40)))
    places = np.column_stack([x.ravel() - 4.13, y.ravel() - 4.13, np.zeros(x.size)])
    return FiniteAtoms(Atoms.of([79] * x.size, places, 0.0)), a


def dark_field(**knobs: object) -> tuple[Array, float]:
    lattice, a = square_lattice()
    tem = microscope(
        camera={"width_px": 84, "height_px": 84, "pixel_size_nm": 0.05, "shot_noise": False},
        multislice={"thermal_motion": False, "margin_nm": 0.29},
        exposures=frames(1),
        drift={},
        **knobs,
    )
    planned = tem.plan(lattice, Run(1))
    ly, lx = planned.cell.extent_A
    assert ly == pytest.approx(48.0)  # twelve periods: the lattice meets itself at the edges
    assert lx == pytest.approx(48.0)
    return planned.expose(0).truth["ideal"] / tem.camera.mean_electrons(100.0), a


def test_dark_field_of_one_reflection_is_even_and_has_its_intensity() -> None:
    """One beam alone interferes with nothing: no contrast, and |psi_g|^2 of the exit wave."""
    theta = 1e3 * float(wavelength(300.0)) / 4.0  # first order of 4 Å: 4.92 mrad
    optics = {"aperture_mrad": 2.0, "aperture_shift_mrad": [theta, 0.0]}
    image, _ = dark_field(optics=optics)
    assert np.std(image) < 1e-4 * np.mean(image)
    lattice, _ = square_lattice()
    tem = microscope(
        optics=optics,
        camera={"width_px": 84, "height_px": 84, "pixel_size_nm": 0.05},
        multislice={"thermal_motion": False, "margin_nm": 0.29},
        exposures=frames(1),
        drift={},
    )
    wave = tem.plan(lattice, Run(1)).scatter((0.0, 0.0), 0)["wave_k"]
    assert np.mean(image) == pytest.approx(float(abs(wave[0, 12]) ** 2), rel=1e-4)
    assert abs(wave[0, 12]) ** 2 > 2e-4


def test_dark_field_of_two_reflections_shows_their_fringe() -> None:
    """Beams (1, 0) and (2, 0) interfere with the lattice's period; all others are stopped."""
    theta = 1e3 * float(wavelength(300.0)) / 4.0
    optics = {"aperture_mrad": 0.8 * theta, "aperture_shift_mrad": [1.5 * theta, 0.0]}
    image, _ = dark_field(optics=optics)
    spectrum = np.abs(np.fft.fft2(image[:80, :80])) / 6400
    spectrum[0, 0], mean = 0.0, spectrum[0, 0]
    row, column = np.unravel_index(np.argmax(spectrum), spectrum.shape)
    assert row == 0
    assert min(column, 80 - column) == 10  # 4 nm view, period 0.4 nm
    assert spectrum.max() > 0.3 * mean


def test_a_beam_tilted_onto_the_reflection_gives_the_same_dark_field_of_a_thin_object() -> None:
    theta = 1e3 * float(wavelength(300.0)) / 4.0
    displaced, _ = dark_field(optics={"aperture_mrad": 2.0, "aperture_shift_mrad": [theta, 0.0]})
    tilted, _ = dark_field(optics={"aperture_mrad": 2.0}, beam_tilt_mrad=[-theta, 0.0])
    assert np.mean(tilted) == pytest.approx(np.mean(displaced), rel=1e-5)


def test_an_aperture_centred_on_the_beam_of_a_tilted_lens_changes_nothing_in_bright_field() -> None:
    """The direct beam inside a displaced aperture stays the reference: the mean is what passes."""
    rng = np.random.default_rng(5)
    wave = rng.standard_normal((31, 31)) + 1j * rng.standard_normal((31, 31))
    wave /= np.sqrt(np.sum(np.abs(wave) ** 2))
    kwargs = {
        "extent_A": (20.0, 20.0),
        "energy_kev": 200.0,
        "coefficients": {"C10": -300.0},
        "shape": (40, 40),
        "aperture_mrad": 8.0,
        "focal_spread_A": 30.0,
        "convergence_mrad": 0.3,
    }
    k = np.fft.fftfreq(31, 20 / 31)
    angle = 1e3 * float(wavelength(200.0)) * k
    passed = np.hypot(angle[None, :] - 3.0, angle[:, None] + 1.0) <= 8.0
    image = expected_image(wave, aperture_shift_mrad=(3.0, -1.0), **kwargs)
    assert image.mean() == pytest.approx(np.sum(np.abs(wave[passed]) ** 2), rel=1e-5)


def test_the_lens_drifts_and_the_truth_says_how() -> None:
    """A frame of a drifting lens is that of a still lens with the coefficients in the truth."""
    tem = microscope(
        aberration_drift={"c10_nm_per_s": 5.0, "c12_walk_nm_per_sqrt_s": 3.0},
        exposures={**frames(3), "exposure_s": 1.0},
    )
    drifting = look(tem)
    lens = drifting.truth("optics")
    np.testing.assert_allclose(lens["c10_nm"] - 6.0, 5.0 * np.array([0.5, 1.5, 2.5]))
    optics = {
        **OPTICS,
        "defocus_nm": lens["c10_nm"][2],
        "aberrations": {
            "c30_um": -13.0,
            "c12_nm": lens["c12_nm"][2],
            "phi12_deg": lens["phi12_deg"][2],
        },
    }
    still = look(microscope(optics=optics, exposures={**frames(3), "exposure_s": 1.0}))
    np.testing.assert_allclose(
        drifting.ideal("image", 2), still.ideal("image", 2), rtol=1e-4, atol=1e-5
    )
    assert drifting.settings["defoci_nm"] == [6.0] * 3
    alone = pickle.loads(pickle.dumps(tem.plan(specimen(), Run(1)))).expose(2)
    np.testing.assert_array_equal(alone.signals["image"], drifting.signal("image")[2])


def test_the_operator_is_told_only_nominal_aberrations() -> None:
    experiment = look(microscope(tuning={"c12_nm": 2.0, "c30_um": 1.0}))
    table = experiment.truth("aberrations")
    row = {name: i for i, name in enumerate(table["name"])}
    assert table["nominal_nm"][row["C30"]] == pytest.approx(-13_000.0)
    assert abs(table["actual_nm"][row["C30"]] + 13_000.0) > 10.0
    assert table["nominal_nm"][row["C12"]] == 0.0
    assert table["actual_nm"][row["C12"]] > 0.0
    assert experiment.settings["c30_um"] == -13.0
    assert experiment.settings["aberrations"] == {}


def test_the_exit_wave_in_the_truth_makes_the_noise_free_image() -> None:
    """Without lens, aperture and heat the image is |psi|^2, integrated over the pixels."""
    tem = microscope(
        optics={"defocus_nm": 0.0},
        camera={"width_px": 96, "height_px": 96, "pixel_size_nm": 0.01},
        multislice={"thermal_motion": False, "margin_nm": 0.3},
        exposures=frames(1),
        drift={},
    )
    experiment = look(tem)
    wave = experiment.truth("exit_wave")
    intensity = wave["real"].astype(float) ** 2 + wave["imag"].astype(float) ** 2
    image = experiment.truth("noise_free")["image"] / tem.camera.mean_electrons(100.0)
    # pixels of 0.01 nm integrate over little: both agree to the curvature within one
    assert np.corrcoef(intensity.ravel(), image.ravel())[0, 1] > 0.99
    assert intensity.mean() == pytest.approx(image.mean(), rel=1e-3)


def test_a_film_made_of_a_field_is_imaged_and_keeps_the_dose() -> None:
    film = AmorphousFilm(made_of="field", thickness_nm=4.0).make(Run(3))
    tem = microscope(optics={**OPTICS, "defocus_nm": -80.0}, exposures=frames(1), drift={})
    experiment = Experiment.of(tem.plan(film, Run(1)))
    image = experiment.ideal("image", 0) / tem.camera.mean_electrons(100.0)
    budget = experiment.truth("intensity")
    passed = float(budget["kept"][0] - budget["stopped_by_aperture"][0])
    assert image.mean() == pytest.approx(passed, rel=0.02)  # the view is a part of the cell
    assert np.std(image) > 0.02
    assert len(experiment.truth("atoms")["number"]) == 0


@pytest.mark.parametrize("energy_filter", ["zero-loss", "none"])
def test_a_foil_is_attenuated_by_its_thickness_over_the_mean_free_path(energy_filter: str) -> None:
    """Zero-loss images of a foil lose exp(-t / lambda); without a filter the dose stays."""
    foil = Crystal(file="srtio3.cif", thickness_nm=4.0).make(Run(1))
    knobs = {"exposures": frames(1), "drift": {}}
    plain = Experiment.of(microscope(**knobs).plan(foil, Run(1)))
    tem = microscope(inelastic_mean_free_path_nm=20.0, energy_filter=energy_filter, **knobs)
    lossy = Experiment.of(tem.plan(foil, Run(1)))
    before, after = (e.truth("noise_free")["image"] for e in (plain, lossy))
    table = lossy.truth("zero_loss")
    t = table["thickness_nm"].mean()
    assert 3.4 < t < 4.01  # from the first plane of atoms to the last
    factor = np.exp(-t / 20.0)
    assert table["factor"].mean() == pytest.approx(factor, rel=1e-3)
    budget = plain.truth("intensity")
    passed = np.mean(budget["kept"] - budget["stopped_by_aperture"])
    lost = (1.0 - factor) * passed * tem.camera.mean_electrons(100.0)
    background = lost if energy_filter == "none" else 0.0
    np.testing.assert_allclose(after.mean(), factor * before.mean() + background, rtol=1e-4)
    assert np.std(after) == pytest.approx(factor * np.std(before), rel=0.02)


def test_the_band_limit_must_hold_what_a_displaced_aperture_passes() -> None:
    optics = {"aperture_mrad": 10.0, "aperture_shift_mrad": [30.0, 0.0]}
    assert microscope(optics=optics).band_limit_mrad >= 40.0
    with pytest.raises(ValidationError, match="angles that were never computed"):
        microscope(optics=optics, multislice={"band_limit_mrad": 35.0})
