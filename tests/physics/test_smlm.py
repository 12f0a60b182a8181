"""The localization microscope: photons are conserved, and every knob does what physics says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nanophantom.instruments.smlm import SMLM
from nanophantom.simcore.atoms import Window
from nanophantom.simcore.emitters import Dyes
from nanophantom.simcore.experiment import Experiment
from nanophantom.simcore.fields import Table
from nanophantom.simcore.light.background import Background
from nanophantom.simcore.light.fluorophores import Fluorophore
from nanophantom.simcore.light.illumination import Illumination
from nanophantom.simcore.light.psf import GibsonLanniPsf, Optics, VectorialPsf
from nanophantom.simcore.light.psf.widths import best_focus_nm
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import Specimen

BEAD = {"photons_per_s_per_kw_per_cm2": 1e5}
PIXEL_NM = 100.0


class Beads(Specimen):
    """Dyes at chosen places, in nm from the middle of the view."""

    def __init__(self, places_nm, dye=None):
        self.places = np.atleast_2d(np.asarray(places_nm, float))
        self.fluorophore = Fluorophore.model_validate(dye or BEAD)

    def dyes_within(self, window: Window) -> Dyes:
        n = len(self.places)
        numbers = np.arange(n, dtype=np.int32)
        everything = Dyes(self.places, numbers, numbers, numbers, np.ones(n))
        return everything.select(window.holds(self.places[:, 0], self.places[:, 1]))

    def truth(self) -> dict[str, Table]:
        return {}


def movie(places_nm, dye=None, seed=1, **knobs):
    """Let the microscope look at some dyes, without background unless asked for."""
    camera = {"width_px": 32, "height_px": 24, "noise": False, **knobs.pop("camera", {})}
    usual = {"n_frames": 3, "exposure_s": 0.02, "background": {"photons": 0.0}, "camera": camera}
    recipe = SMLM.model_validate({**usual, **knobs})
    return Experiment.of(recipe.plan(Beads(places_nm, dye), Run(seed)))


def centre_nm(image):
    """Centre of mass of an image, from the centre of pixel (0, 0)."""
    y, x = np.indices(image.shape)
    total = image.sum()
    return PIXEL_NM * (x * image).sum() / total, PIXEL_NM * (y * image).sum() / total


def test_a_bead_stands_where_the_truth_says_with_all_its_photons():
    """Image x = place - x0, y downwards; 1e5 photons/s per kW/cm2 at 0.8 kW/cm2 for 20 ms, of which
    an objective of NA 1.4 in oil 1.518 brings all that the numbers of the dye mean."""
    data = movie([[130.0, -310.0, 0.0]])
    spot = data.frame_table("emissions", 1, 2)
    window = Window.centred(3200.0, 2400.0)
    assert spot["x_nm"][0] == pytest.approx(130.0 - window.x0_nm)
    assert spot["y_nm"][0] == pytest.approx(-310.0 - window.y0_nm)
    assert spot["photons"][0] == pytest.approx(1600.0, rel=1e-6)
    image = data.signal("movie", 1, 2)[0]
    assert image.sum() == pytest.approx(1600.0, rel=1e-3)
    assert centre_nm(image) == pytest.approx((spot["x_nm"][0], spot["y_nm"][0]), abs=0.02)


def test_less_aperture_collects_less_light():
    """(1 - sqrt(1 - (NA/n)^2)) / 2: 0.2000 for 0.8 in air, 0.3067 for the reference."""
    optics = {"na": 0.8, "immersion_index": 1.0, "coverslip_index": 1.515}
    data = movie([[0.0, 0.0, 0.0]], optics=optics)
    assert data.frame_table("emissions")["photons"][0] == pytest.approx(
        1600.0 * 0.2 / 0.30673, rel=1e-4
    )


BLINKER = {
    "photons_per_s_per_kw_per_cm2": 1e5,
    "states": [{"name": "on", "brightness": 1.0}, {"name": "off"}],
    "transitions": [
        {"source": "on", "to": "off", "rate_per_s": 120.0},
        {"source": "off", "to": "on", "rate_per_s": 60.0},
    ],
    "start": "stationary",
}


def test_frames_share_out_exactly_what_dyes_emit():
    """Bursts of 8 ms in frames of 20 ms: without pauses between frames, the photons of all frames
    are those of all bursts, dye by dye."""
    grid = [[300.0 * i, 300.0 * j, 0.0] for i in range(-4, 5) for j in range(-3, 4)]
    data = movie(grid, BLINKER, n_frames=40)
    spots, dyes = data.frame_table("emissions"), data.truth("dyes")
    gained = np.bincount(spots["dye"], spots["photons"], minlength=len(dyes["dye"]))
    np.testing.assert_allclose(gained, dyes["photons"], rtol=1e-5)
    blinks = data.truth("blinks")
    total = (blinks["duration_s"] * blinks["photons_per_s"]).sum()
    assert gained.sum() == pytest.approx(total, rel=1e-6)
    # on for a third of 0.8 s, 63 dyes: 1.3440e6 photons, within 4 standard errors of that (the
    # variance of the ON time of a telegraph of rates k, l over T is about 2 k l T / (k + l)^3)
    spread = math.sqrt(2 * 120 * 60 * 0.8 / 180**3 * 63) * 8e4
    assert gained.sum() == pytest.approx(8e4 * 0.8 * 63 / 3, abs=4 * spread)


def test_a_pause_between_frames_loses_its_part_of_the_light():
    """A steady bead exposed for 20 of 50 ms gives each frame 20 ms of light."""
    data = movie([[0.0, 0.0, 0.0]], frame_period_s=0.05)
    np.testing.assert_allclose(data.frame_table("emissions")["photons"], 1600.0, rtol=1e-6)
    np.testing.assert_allclose(data.truth("drift")["t_s"], [0.01, 0.06, 0.11])


def test_the_specimen_drifts_in_all_three_directions():
    drift = {"speed_nm_per_s": 5000.0, "direction_deg": 90.0, "focus_speed_nm_per_s": 2000.0}
    data = movie([[0.0, 0.0, 10.0]], drift=drift)
    spots, path = data.frame_table("emissions"), data.truth("drift")
    np.testing.assert_allclose(np.diff(spots["y_nm"]), 100.0, rtol=1e-5)
    np.testing.assert_allclose(spots["x_nm"], spots["x_nm"][0])
    np.testing.assert_allclose(spots["z_nm"], 10.0 + path["dz_nm"], rtol=1e-6)
    np.testing.assert_allclose(path["dz_nm"], 2000.0 * path["t_s"])
    for i in range(3):
        assert centre_nm(data.signal("movie", i, i + 1)[0])[1] == pytest.approx(
            spots["y_nm"][i], abs=0.05
        )


def test_a_walk_out_of_focus_has_the_stated_strength():
    """Steps of 2 nm/sqrt(s) over frames of 0.02 s: s.d. 0.283 nm, 1000 steps."""
    drift = {"focus_walk_nm_per_sqrt_s": 2.0}
    path = SMLM.model_validate({"n_frames": 1001, "exposure_s": 0.02, "drift": drift}).plan(
        Beads([[0.0, 0.0, 0.0]]), Run(4)
    ).truth()["drift"]  # fmt: skip
    steps = np.diff(path["dz_nm"])
    assert path["dz_nm"][0] == 0.0
    assert steps.std() == pytest.approx(2.0 * math.sqrt(0.02), rel=3 / math.sqrt(2000))


def test_colour_shifts_and_magnifies():
    chromatic = {"x_nm": 40.0, "y_nm": -25.0, "magnification_percent": 1.0}
    data = movie([[1000.0, -500.0, 0.0]], chromatic=chromatic)
    spot = data.frame_table("emissions", 0, 1)
    assert spot["x_nm"][0] - 1600.0 == pytest.approx(1000.0 * 1.01 + 40.0)
    assert spot["y_nm"][0] - 1200.0 == pytest.approx(-500.0 * 1.01 - 25.0)


def test_total_reflection_lights_what_is_near_the_glass():
    """d = 647 / (4 pi sqrt(1.518^2 sin^2 70 deg - 1.33^2)) = 97.4 nm, from the formula alone; the
    ratio of two dyes 150 nm apart in height is exp(-150 / d)."""
    dye = {**BEAD, "excitation_nm": 647.0}
    light = {"mode": "tirf", "tirf_angle_deg": 70.0}
    data = movie([[-600.0, 0.0, 20.0], [600.0, 0.0, 170.0]], dye, illumination=light)
    photons = data.frame_table("emissions", 0, 1)["photons"]
    d = 647 / (4 * math.pi * math.sqrt((1.518 * math.sin(math.radians(70))) ** 2 - 1.33**2))
    assert photons[1] / photons[0] == pytest.approx(math.exp(-150 / d), rel=1e-5)
    below = Illumination(mode="tirf", tirf_angle_deg=50.0)
    with pytest.raises(ValueError, match=r"tirf_angle_deg: 50 is below the critical angle of 61"):
        below.penetration_nm(647.0, 1.518, 1.33)


def test_a_gaussian_beam_lights_the_middle():
    """Half the light at half the FWHM, for dyes and background alike."""
    light = {"profile": "gaussian", "fwhm_um": 2.0}
    data = movie(
        [[0.0, 0.0, 0.0], [1000.0, 0.0, 0.0]], illumination=light, background={"photons": 8.0}
    )
    photons = data.frame_table("emissions", 0, 1)["photons"]
    assert photons[1] / photons[0] == pytest.approx(0.5, rel=1e-6)
    background = data.truth("background")["photons"]
    assert background[12, 16] == pytest.approx(8.0)
    assert background[12, 26] == pytest.approx(4.0, rel=1e-6)


def test_two_cameras_see_two_planes():
    """Each gets its part of the light; a dye in a camera's plane is as narrow there as a single
    camera's in focus."""
    psf = {"type": "gaussian", "sigma_nm": 130.0, "focal_depth_nm": 350.0}
    planes = {"distance_nm": 400.0, "part": 0.6}
    data = movie([[0.0, 0.0, 200.0]], psf=psf, biplane=planes)
    one = movie([[0.0, 0.0, 200.0]], psf=psf, focus_nm=200.0)
    first, second = (data.signal(name, 0, 1)[0] for name in ("movie", "movie_2"))
    focused = one.signal("movie", 0, 1)[0]
    assert first.sum() == pytest.approx(0.6 * 1600.0, rel=2e-3)
    np.testing.assert_allclose(second, 0.4 * focused, atol=1e-3)
    assert first.max() < 0.6 * focused.max() * 0.6
    assert data.frame_table("emissions")["photons"][0] == pytest.approx(1600.0, rel=1e-6)


def test_imagers_in_solution_make_a_background():
    """c N_A V R t: 10 nM in 100 nm x 100 nm x 150 nm is 0.0090332 molecules, at 8e4 photons/s."""
    dye = {**BLINKER, "concentration_nM": 10.0}
    data = movie([[0.0, 0.0, 0.0]], dye, background={"photons": 2.0, "free_imager_depth_nm": 150.0})
    expected = 2.0 + 10e-9 * 6.02214e23 * 1e3 * 1.5e-21 * 8e4 * 0.02
    assert data.truth("background")["photons"][0, 0] == pytest.approx(expected, rel=1e-5)


def test_a_background_fades_to_what_lasts():
    fading = {"photons": 100.0, "fading_time_s": 0.02, "lasting": 0.25}
    data = movie([[9e4, 9e4, 0.0]], background=fading)
    levels = data.signal("movie").mean(axis=(1, 2))
    t = data.truth("drift")["t_s"]
    np.testing.assert_allclose(levels, 100 * (0.25 + 0.75 * np.exp(-t / 0.02)), rtol=1e-5)


def test_a_structured_background_has_the_stated_statistics():
    """Log-normal of mean 1 and s.d. 0.4 of the logarithm, correlated as the square of the filter:
    exp(-r^2 / 4 s^2)."""
    background = Background(structure=0.4, structure_size_um=0.3)
    field = background.pattern((512, 512), 100.0, np.random.default_rng(5))
    logs = np.log(field)
    independent = 512**2 / (4 * math.pi * 3.0**2)
    assert logs.std() == pytest.approx(0.4, rel=4 / math.sqrt(2 * independent))
    assert field.mean() == pytest.approx(1.0, abs=4 * 0.42 / math.sqrt(independent))
    g = (logs - logs.mean()) / logs.std()
    assert (g[:, 4:] * g[:, :-4]).mean() == pytest.approx(math.exp(-16 / 36), abs=0.03)


def test_light_before_the_movie_spends_the_first_bursts():
    """Dyes that start ON leave it at 50 / s: after 0.1 s of light a part exp(-5) is still on."""
    dye = {
        "photons_per_s_per_kw_per_cm2": 1e5,
        "states": [{"name": "on", "brightness": 1.0}, {"name": "gone", "final": True}],
        "transitions": [{"source": "on", "to": "gone", "rate_per_s": 50.0}],
        "start": "on",
    }
    places = [[x, y, 0.0] for x in range(-1500, 1500, 50) for y in range(-1100, 1100, 50)]
    n = len(places)
    at_once = movie(places, dye, n_frames=1, exposure_s=1e-4)
    later = movie(places, dye, n_frames=1, exposure_s=1e-4, illumination={"before_s": 0.1})
    assert len(at_once.frame_table("emissions")["dye"]) == n
    left, expected = len(later.frame_table("emissions")["dye"]), n * math.exp(-5.0)
    assert left == pytest.approx(expected, abs=4 * math.sqrt(expected))


def test_blinking_does_not_depend_on_camera_optics_or_view():
    """A dye's bursts are its own, whoever looks, and whichever neighbours are in view."""
    grid = [[300.0 * i, 0.0, 0.0] for i in range(-4, 5)]
    one = movie(grid, BLINKER, n_frames=5).truth("blinks")
    sharp = {"type": "gaussian", "sigma_nm": 60.0}
    two = movie(grid, BLINKER, n_frames=5, psf=sharp, camera={"width_px": 16}).truth("blinks")
    shared = np.isin(one["dye"], np.unique(two["dye"]))
    assert shared.sum() == len(two["dye"]) > 10
    np.testing.assert_array_equal(one["start_s"][shared], two["start_s"])


def test_frames_can_be_made_alone_and_in_any_order():
    recipe = SMLM.model_validate({"n_frames": 6, "camera": {"width_px": 24, "height_px": 20}})
    plan = recipe.plan(Beads([[0.0, 50.0, 0.0], [300.0, 0.0, 0.0]], BLINKER), Run(7))
    forwards = [plan.expose(i).signals["movie"] for i in range(6)]
    again = recipe.plan(Beads([[0.0, 50.0, 0.0], [300.0, 0.0, 0.0]], BLINKER), Run(7))
    for i in (4, 1, 5):
        np.testing.assert_array_equal(again.expose(i).signals["movie"], forwards[i])


def test_a_calibration_on_beads_finds_the_widths():
    """Holtzer's widths at the heights where an operator measures, to 0.5 %."""
    psf = {"type": "gaussian", "sigma_nm": 130.0, "focal_depth_nm": 350.0, "astigmatism_nm": 200.0}
    settings = movie([[0.0, 0.0, 0.0]], psf=psf).settings
    table = settings["calibration"]
    z = np.array(table["z_nm"])
    np.testing.assert_allclose(
        table["sigma_x_nm"], 130 * np.sqrt(1 + ((z - 200) / 350) ** 2), rtol=5e-3
    )
    np.testing.assert_allclose(
        table["sigma_y_nm"], 130 * np.sqrt(1 + ((z + 200) / 350) ** 2), rtol=5e-3
    )
    assert "calibration" not in movie([[0.0, 0.0, 0.0]]).settings


def test_what_can_not_be_is_refused():
    with pytest.raises(ValueError, match=r"a frame each 0.01 s can't be exposed for 0.02 s"):
        SMLM(exposure_s=0.02, frame_period_s=0.01)
    with pytest.raises(ValueError, match="activating light is 0 all the time"):
        Illumination(activation_end_kw_per_cm2=0.0)


VECTORIAL = {"type": "vectorial"}


def test_light_near_the_coverslip_is_collected_best():
    """NA 1.49 in oil on water collects supercritical light: more at 20 nm than at 800 nm, as the
    objective's own curve says, and more than any objective without it would."""
    optics = {"na": 1.49}
    places = [[-800.0, 0.0, 20.0], [800.0, 0.0, 800.0]]
    photons = movie(places, psf=VECTORIAL, optics=optics).frame_table("emissions", 0, 1)["photons"]
    model, objective = VectorialPsf(), Optics(na=1.49)
    near, far = model.collected(objective, 590.0, [20.0, 800.0])
    assert photons[0] / photons[1] == pytest.approx(near / far, rel=1e-2)
    assert photons[0] / photons[1] > 1.3


def test_the_stage_moves_the_coverslip_too():
    """On water under oil the stage's drift is a change of focus: the frame is that of a microscope
    whose drive was lowered by the drift, not that of a dye that rose."""
    drift = {"focus_speed_nm_per_s": 5000.0}
    data = movie([[0.0, 0.0, 100.0]], psf={"type": "gibson-lanni"}, drift=drift, focus_nm=100.0)
    objective, model = Optics(), GibsonLanniPsf()
    setting = best_focus_nm(model, objective, 590.0, 100.0)
    for i in range(3):
        moved = data.truth("drift")["dz_nm"][i]
        spots = model.table(objective, 590.0, PIXEL_NM, (100.0, 100.0), setting - moved)
        expected = 1600.0 * spots.at(100.0, 24, 32, 16.0, 12.0)
        image = data.signal("movie", i, i + 1)[0]
        np.testing.assert_allclose(image, expected, atol=2e-3 * expected.max())
    with pytest.raises(ValueError, match=r"dye lies 20 nm below the coverslip, where gibson-lanni"):
        movie([[0.0, 0.0, -20.0]], psf={"type": "gibson-lanni"})
    with pytest.raises(ValueError, match=r"the stage moves by 2000 nm along the axis"):
        movie(
            [[0.0, 0.0, 1.0]], psf=VECTORIAL, drift={"focus_speed_nm_per_s": 5e4},
        )  # fmt: skip


@pytest.mark.parametrize("psf", [VECTORIAL, {"type": "gibson-lanni"}, {"type": "airy"}])
def test_a_dye_at_the_height_of_focus_is_sharpest(psf):
    """Of focal planes at 400, 700 and 1000 nm, that at the dye's height gives the brightest pixel;
    on water under oil the drive has to stand elsewhere for that."""
    peaks = [
        movie([[0.0, 0.0, 700.0]], psf=psf, focus_nm=focus, n_frames=1).signal("movie").max()
        for focus in (400.0, 700.0, 1000.0)
    ]
    assert peaks[1] > 1.2 * max(peaks[0], peaks[2])


def test_bursts_before_the_movie_do_not_count_in_it():
    """Dyes that start ON and leave it at 50 / s for good: after 0.1 s exp(-5) of them have a burst
    in the movie, as the prediction says, with the photons that frames get of it."""
    dye = {
        "photons_per_s_per_kw_per_cm2": 1e5,
        "states": [{"name": "on", "brightness": 1.0}, {"name": "gone", "final": True}],
        "transitions": [{"source": "on", "to": "gone", "rate_per_s": 50.0}],
        "start": "on",
    }
    places = [[x, y, 0.0] for x in range(-1500, 1500, 50) for y in range(-1100, 1100, 50)]
    data = movie(places, dye, n_frames=20, illumination={"before_s": 0.1})
    dyes, predicted = data.truth("dyes"), data.truth("prediction_bursts")
    seen = (dyes["n_bursts"] > 0).mean()
    assert predicted["probability"][1] == pytest.approx(math.exp(-5.0), rel=1e-6)
    assert seen == pytest.approx(math.exp(-5.0), abs=4 * math.sqrt(math.exp(-5.0) / len(places)))
    framed = data.frame_table("emissions")["photons"].sum()
    assert dyes["photons"].sum() == pytest.approx(framed, rel=1e-5)


def test_the_prediction_follows_light_that_rises():
    """PALM-like dyes that the activating light wakes, under a ramp and with light before the
    movie: the mean number of bursts in the movie agrees with 2000 dyes within 4 s.e."""
    dye = {
        "photons_per_s_per_kw_per_cm2": 1e5,
        "states": [
            {"name": "asleep"},
            {"name": "awake", "brightness": 1.0},
            {"name": "gone", "final": True},
        ],
        "transitions": [
            {"source": "asleep", "to": "awake", "activation_per_s_per_kw_per_cm2": 10.0},
            {"source": "awake", "to": "asleep", "rate_per_s": 30.0},
            {"source": "awake", "to": "gone", "rate_per_s": 10.0},
        ],
        "start": "asleep",
    }
    light = {"activation_end_kw_per_cm2": 0.5, "before_s": 0.5, "activation_kw_per_cm2": 0.02}
    places = [[x, y, 0.0] for x in range(-1500, 1500, 75) for y in range(-1125, 1125, 45)]
    data = movie(places, dye, n_frames=50, illumination=light)
    predicted, simulated = data.truth("prediction_bursts"), data.truth("dyes")["n_bursts"]
    mean = (predicted["bursts"] * predicted["probability"]).sum()
    assert mean > 0.5
    assert simulated.mean() == pytest.approx(mean, abs=4 * simulated.std() / math.sqrt(2000))
    assert "off_s" not in data.truth("prediction_times")


def test_imagers_shine_where_the_light_is():
    dye = {**BLINKER, "concentration_nM": 10.0}
    background = {"photons": 0.0, "free_imager_depth_nm": 150.0}
    light = {"profile": "gaussian", "fwhm_um": 2.0}
    photons = movie([[9e4, 9e4, 0.0]], dye, background=background, illumination=light).truth(
        "background"
    )["photons"]
    assert photons[12, 26] / photons[12, 16] == pytest.approx(0.5, rel=1e-5)


def test_a_frame_tells_how_many_bursts_of_a_dye_it_saw():
    """Bursts of 8 ms in frames of 60 ms: the sum over frames is the number of all overlaps of
    bursts with frames, counted here from the table of blinks."""
    data = movie([[0.0, 0.0, 0.0]], BLINKER, n_frames=20, exposure_s=0.06)
    spots, blinks = data.frame_table("emissions"), data.truth("blinks")
    first = np.floor(blinks["start_s"] / 0.06).astype(int)
    last = np.floor((blinks["start_s"] + blinks["duration_s"]) / 0.06).astype(int)
    overlaps = (np.minimum(last, 19) - first + 1).sum()
    assert spots["bursts"].sum() == overlaps
    assert spots["bursts"].max() > 1
