"""Widefield, confocal and STED microscopes: photons, bleaching and resolution as planned."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nanophantom.instruments._family import Instrument
from nanophantom.instruments.confocal import Confocal
from nanophantom.instruments.sim import SIM
from nanophantom.instruments.smlm import SMLM
from nanophantom.instruments.sted import Sted
from nanophantom.instruments.widefield import Widefield
from nanophantom.simcore.atoms import Window
from nanophantom.simcore.emitters import Dyes
from nanophantom.simcore.fields import Table
from nanophantom.simcore.light.fluorophores import Fluorophore
from nanophantom.simcore.light.psf.optics import airy_fwhm_nm
from nanophantom.simcore.light.psf.widths import fwhm
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import Specimen

RATE = 1e5
DYE = {"photons_per_s_per_kw_per_cm2": RATE, "excitation_nm": 640.0, "emission_nm": 670.0}
MATCHED = {"sample_index": 1.518}
SPOT = {"type": "gaussian", "sigma_nm": 110.0}
BUDGET = 2000.0


class Beads(Specimen):
    """Dyes at chosen places, in nm from the middle of the view."""

    def __init__(self, places_nm, brightness=1.0, **dye):
        self.places = np.atleast_2d(np.asarray(places_nm, float))
        self.brightness = np.broadcast_to(brightness, len(self.places)).astype(float)
        self.fluorophore = Fluorophore.model_validate({**DYE, **dye})

    def dyes_within(self, window: Window) -> Dyes:
        numbers = np.arange(len(self.places), dtype=np.int32)
        everything = Dyes(self.places, numbers, numbers, numbers, self.brightness)
        return everything.select(window.holds(self.places[:, 0], self.places[:, 1]))

    def truth(self) -> dict[str, Table]:
        return {}


class Bare(Specimen):
    """Nothing to see."""

    def truth(self) -> dict[str, Table]:
        return {}


def plan(kind, specimen, **knobs):
    """Plan a noise-free microscope without background and dark counts, unless asked for."""
    if kind is Widefield:
        size = {"width_px": 40, "height_px": 40, "noise": False}
        usual = {"camera": size, "exposure_s": 0.1, "illumination": {"excitation_kw_per_cm2": 0.05}}
    else:
        perfect = {"quantum_efficiency": 1.0, "dark_rate_per_s": 0.0, "noise": False}
        usual = {"width_px": 40, "height_px": 40, "detector": perfect}
    usual |= {"background": {"photons": 0.0}, "optics": MATCHED}
    return kind.model_validate({**usual, **knobs}).plan(specimen, Run(1))


def image(planned, i=0):
    return planned.expose(i).truth["ideal_image"].astype(np.float64)


# ---- resolution ----------------------------------------------------------------------------------


def test_a_bead_in_widefield_is_an_airy_spot_with_all_its_photons():
    """0.5145 wavelength / NA wide, and as a Gaussian would be wider by pixels of 40 nm; 500 photons
    in 0.1 s at 0.05 kW/cm2, of which the wings carry 1 % beyond the table and more out of view."""
    camera = {"width_px": 121, "height_px": 121, "noise": False}
    seen = image(plan(Widefield, Beads([[0, 0, 0]]), camera=camera, pixel_size_nm=40.0))
    line = seen.max(axis=0)
    expected = math.hypot(airy_fwhm_nm(670.0, 1.4), 2.35482 * 40.0 / math.sqrt(12))
    assert fwhm(40.0 * np.arange(len(line)), line) == pytest.approx(expected, rel=5e-3)
    assert 0.95 * 500.0 < seen.sum() < 500.0


@pytest.mark.parametrize("kind", [Confocal, Sted])
def test_beads_are_as_wide_as_the_settings_say(kind):
    planned = plan(kind, Beads([[0, 0, 0]]), width_px=301, height_px=9, pixel_size_nm=2.0,
                   psf={"type": "airy"})  # fmt: skip
    line = image(planned).max(axis=0)
    known = planned.settings()
    assert fwhm(2.0 * np.arange(301), line) == pytest.approx(known["resolution_nm"], rel=5e-3)
    assert known["psf_sigma_nm"] == pytest.approx(known["resolution_nm"] / 2.35482, rel=1e-5)


def dip(kind, **knobs):
    """Depth of the valley between two beads 90 nm apart."""
    planned = plan(kind, Beads([[-45, 0, 0], [45, 0, 0]]), pixel_size_nm=5.0, **knobs)
    line = image(planned).max(axis=0)
    return 1.0 - line[20] / line.max()


def test_depletion_separates_what_a_confocal_microscope_does_not():
    assert dip(Confocal) < 0.01
    shallow, deep = (dip(Sted, depletion={"saturation": s}) for s in (10.0, 60.0))
    assert 0.01 < shallow < deep
    assert deep > 0.8


def test_no_saturation_is_a_confocal_microscope():
    beads = Beads([[30, 80, 0], [-400, 100, 0]])
    sted = plan(Sted, beads, depletion={"saturation": 0.0}, pixel_size_nm=50.0)
    np.testing.assert_allclose(image(sted), image(plan(Confocal, beads)), rtol=1e-9)


def test_a_pinhole_keeps_out_light_from_other_planes():
    """A sheet of dyes 1.2 um out of focus: weak behind a pinhole, as bright as ever without."""
    x, y = np.meshgrid(np.arange(-4000.0, 4001.0, 100.0), np.arange(-4000.0, 4001.0, 100.0))
    sheet = Beads(np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], axis=1))
    small = {"width_px": 10, "height_px": 10}
    light = {
        (pinhole, focus): image(
            plan(Confocal, sheet, pinhole_au=pinhole, focus_nm=focus, **small)
        ).mean()
        for pinhole in (1.0, None)
        for focus in (0.0, 1200.0)
    }
    assert light[1.0, 1200.0] < 0.15 * light[1.0, 0.0]
    assert light[None, 1200.0] == pytest.approx(light[None, 0.0], rel=0.04)


# ---- photons -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Widefield, Confocal, Sted])
def test_images_are_linear_in_brightness(kind):
    places = [[30, 80, 0], [-200, 100, 0]]
    seen = {
        b: image(plan(kind, Beads(places, b), psf=SPOT))
        for b in ((1.0, 1.0), (3.0, 1.0), (2.0, 0.0))
    }
    both = seen[1.0, 1.0] + seen[2.0, 0.0]
    np.testing.assert_allclose(seen[3.0, 1.0], both, rtol=1e-5, atol=1e-6)


def test_the_brightest_pixel_of_a_scan():
    """Rate x intensity x dwell x what a pinhole of 1 Airy unit passes in focus, 83.78 %."""
    planned = plan(Confocal, Beads([[0, 0, 0]]), dwell_us=20.0)
    assert image(planned).max() == pytest.approx(RATE * 10.0 * 20e-6 * 0.8378, rel=1e-3)


@pytest.mark.parametrize("kind", [Widefield, Confocal])
def test_less_aperture_collects_less_light(kind):
    """(1 - sqrt(1 - (NA/n)^2)) / 2: 0.2000 for 0.8 in air, 0.3067 for the reference."""
    dry = {"na": 0.8, "immersion_index": 1.0, "sample_index": 1.0}
    open_ = {} if kind is Widefield else {"pinhole_au": None}
    bright, dim = (
        image(plan(kind, Beads([[0, 0, 0]]), psf=SPOT, optics=optics, **open_)).sum()
        for optics in (MATCHED, dry)
    )
    assert dim / bright == pytest.approx(0.2 / 0.30673, rel=1e-4)


GLASS = {"na": 1.49, "coverslip_index": 1.518}
STEADY = {"photons_per_s_per_kw_per_cm2": RATE / 10, "excitation_nm": 640.0, "emission_nm": 600.0}


def photons_a_second(kind, bead, psf, optics):
    """Photons per s and kW/cm2 that a steady dye's microscope says it brings; SIM: that it draws,
    over the stripes' light."""
    knobs = {"psf": psf, "optics": optics, "background": {"photons": 0.0}}
    if kind in (Widefield, SMLM):
        knobs["illumination"] = {"excitation_kw_per_cm2": 1.0}
    if kind in (SIM, SMLM):
        knobs |= {"exposure_s": 0.1, "camera": {"width_px": 61, "height_px": 61, "noise": False}}
        planned = kind.model_validate(knobs).plan(bead, Run(1))
        if kind is SMLM:
            return planned.expose(0).tables["emissions"]["photons"][0] / 0.1
        offered = planned._offered(0)[0]
        return image_of(planned) / offered * RATE / 10
    planned = plan(kind, bead, **knobs)
    if kind is Widefield:
        return planned.truth()["dyes"]["photons_per_s"][0]
    return planned.photons[0] / planned.recipe.dwell_s / planned.recipe.excitation_kw_per_cm2


def image_of(planned):
    """Photons of a raw image, and what its table of spots leaves out."""
    z = planned.dyes.positions_nm[0, 2]
    spot = planned.renderer.at(z, 61, 61, 30.0, 30.0).sum()
    return planned._photons(0).sum() / spot


@pytest.mark.parametrize("kind", [SMLM, Widefield, SIM, Confocal])
@pytest.mark.parametrize(("z", "part"), [(0.5, 0.703), (50.0, 0.658), (500.0, 0.460)])
def test_near_glass_all_microscopes_collect_the_same_part(kind, z, part):
    """NA 1.49, water on glass, 600 nm, a dye that rotates: parts of its whole power there, by an
    independent sum over plane waves; the reference's objective collects 0.3067."""
    bead = Beads([[0, 0, z]], photon_budget=None)
    bead.fluorophore = Fluorophore.model_validate(STEADY)
    seen = photons_a_second(kind, bead, {"type": "vectorial"}, GLASS)
    assert seen / (RATE / 10) * 0.30673 == pytest.approx(part, abs=1e-3)


@pytest.mark.parametrize("kind", [SMLM, Widefield, SIM])
def test_of_a_fixed_dipole_all_cameras_see_its_pattern_in_the_cone(kind):
    """NA 1.2 in water: upright (1 - 3c/2 + c^3/2)/2 of its light, c the cosine of the cone's half
    angle; lying down (1 - 3c/4 - c^3/4)/2."""
    c = math.sqrt(1 - (1.2 / 1.33) ** 2)
    parts = {0.0: 0.5 * (1 - 1.5 * c + 0.5 * c**3), 90.0: 0.5 * (1 - 0.75 * c - 0.25 * c**3)}
    bead = Beads([[0, 0, 0]])
    bead.fluorophore = Fluorophore.model_validate(STEADY)
    water = {"na": 1.2, "immersion_index": 1.33, "sample_index": 1.33}
    for tilt, part in parts.items():
        psf = {"type": "vectorial", "dipole_tilt_deg": tilt}
        seen = photons_a_second(kind, bead, psf, water)
        assert seen / (RATE / 10) * 0.30673 == pytest.approx(part, rel=1e-3)


@pytest.mark.parametrize("kind", [Widefield, Confocal, Sted])
def test_focus_follows_the_dye(kind):
    """In a matched sample a dye at 500 nm looks, focus there, as one at the coverslip does; below
    focus it gives less light in the middle."""
    near, far, blurred = (
        image(plan(kind, Beads([[0, 0, z]]), focus_nm=focus)).max()
        for z, focus in ((0.0, 0.0), (500.0, 500.0), (0.0, 500.0))
    )
    assert far == pytest.approx(near, rel=1e-4)
    assert blurred < 0.5 * near


def test_light_background_and_specimen_change_as_asked_in_widefield():
    """Total reflection: exp(-z / d); a beam of 4 um; drift; a background that fades to 1/e."""
    light = {"excitation_kw_per_cm2": 0.05, "mode": "tirf", "profile": "gaussian", "fwhm_um": 4.0}
    places = [[0, 0, 0], [2000, 0, 100]]
    knobs = {"optics": {"sample_index": 1.33}, "psf": SPOT, "illumination": light}
    drift = {"speed_nm_per_s": 300.0, "direction_deg": 0.0}
    moving = plan(Widefield, Beads(places), n_frames=3, drift=drift, **knobs)
    depth = 640.0 / (4 * np.pi * math.sqrt((1.518 * math.sin(math.radians(66))) ** 2 - 1.33**2))
    rates = moving.truth()["dyes"]["photons_per_s"]
    assert rates[1] / rates[0] == pytest.approx(0.5 * math.exp(-100.0 / depth), rel=1e-9)
    columns = [np.average(np.arange(30), weights=image(moving, i)[:, :30].sum(axis=0))
               for i in range(3)]  # fmt: skip
    np.testing.assert_allclose(np.diff(columns), 0.3, atol=2e-3)  # 30 nm a frame of 0.1 s
    fading = {"photons": 10.0, "fading_time_s": 0.1, "lasting": 0.0}
    empty = plan(Widefield, Beads([[0, 0, 0]], 0.0), psf=SPOT, n_frames=2, background=fading)
    assert image(empty, 1).mean() / image(empty, 0).mean() == pytest.approx(math.exp(-1), rel=1e-5)


def test_the_detector_counts_a_part_and_counts_in_the_dark():
    detector = {"quantum_efficiency": 0.5, "dark_rate_per_s": 1e5, "noise": True}
    dark = plan(Confocal, Beads([[0, 0, 0]]), width_px=100, height_px=100, detector=detector,
                background={"photons": 6.0}, excitation_kw_per_cm2=1e-6)  # fmt: skip
    counts = dark.expose(0).signals["image"].astype(float)
    # 0.5 x 6 photons + 1e5 /s x 10 us = 4 counts, Poisson: 3 standard errors of 1e4 pixels
    assert counts.mean() == pytest.approx(4.0, abs=3 * 0.02)
    assert counts.var() == pytest.approx(4.0, abs=3 * math.sqrt((4 + 2 * 16) / 1e4))
    assert image(dark).mean() == pytest.approx(4.0, rel=1e-6)


# ---- bleaching -----------------------------------------------------------------------------------

GRID = np.array([[40.0 * i, 40.0 * j, 0.0] for i in range(-25, 25) for j in range(-25, 25)])


def test_in_widefield_all_drawn_photons_arrive_and_their_mean_is_the_budget():
    """2500 dyes; exponential photons: mean within 4 standard errors, sum over frames to 1e-5."""
    planned = plan(Widefield, Beads(GRID, photon_budget=BUDGET), psf=SPOT, n_frames=120,
                   exposure_s=0.2)  # fmt: skip
    dyes = planned.truth()["dyes"]
    assert dyes["photon_budget"].mean() == pytest.approx(BUDGET, rel=4 / 50)
    assert dyes["photon_budget"].std() == pytest.approx(BUDGET, rel=8 / 50)
    assert dyes["bleached_s"].max() < 24.0
    total = sum(image(planned, i).sum() for i in range(120))
    assert total == pytest.approx(dyes["photon_budget"].sum(), rel=1e-5)


def test_light_between_exposures_is_off():
    """A dye that lives 0.35 s in the light, in exposures of 0.1 s each 1 s, goes dark at 3.05 s."""
    planned = plan(Widefield, Beads([[0, 0, 0]], photon_budget=1e9), psf=SPOT,
                   frame_period_s=1.0, n_frames=6)  # fmt: skip
    planned.lit_s = np.array([0.35])
    assert planned.bleached_s[0] == pytest.approx(3.05)
    sums = [image(planned, i).sum() for i in range(6)]
    np.testing.assert_allclose(np.array(sums) / sums[0], [1, 1, 1, 0.5, 0, 0], atol=1e-4)


def test_light_before_the_first_frame_bleaches():
    """After a time T in the light, exp(-rate T / budget) of the dyes are left."""
    light = {"excitation_kw_per_cm2": 0.05, "before_s": 0.4}
    planned = plan(Widefield, Beads(GRID, photon_budget=BUDGET), psf=SPOT, illumination=light)
    left = (planned.truth()["dyes"]["bleached_s"] > 0).mean()
    expected = math.exp(-RATE * 0.05 * 0.4 / BUDGET)
    assert left == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 2500))


def test_under_a_beam_all_drawn_photons_arrive():
    """Without a pinhole, what all scans count of each dye is what was drawn for it."""
    planned = plan(Confocal, Beads(GRID[::25], photon_budget=BUDGET), psf=SPOT, n_frames=60,
                   pinhole_au=None, width_px=64, height_px=64)  # fmt: skip
    dyes = planned.truth()["dyes"]
    assert np.isfinite(dyes["bleached_s"]).all()
    total = sum(image(planned, i).sum() for i in range(60))
    assert total == pytest.approx(dyes["photon_budget"].sum(), rel=1e-6)


def test_a_dye_goes_dark_in_the_middle_of_a_scan():
    """Until its pixel a scan shows it as if it stayed; from there on, and ever after, nothing."""
    one = Beads([[0, 0, 0]], photon_budget=3000.0)
    planned, stays = plan(Confocal, one, n_frames=4), plan(Confocal, Beads([[0, 0, 0]]))
    planned.lives[:] = 1.4 * planned.taken  # it takes 1.4 scans
    planned.frame, planned.pixel, planned.part, _ = again = planned._bleaching()
    k, pixel, part = (int(again[0][0]), int(again[1][0]), float(again[2][0]))
    whole, dying = image(stays).ravel(), image(planned, k).ravel()
    assert k == 1
    np.testing.assert_allclose(image(planned, 0).ravel(), whole, rtol=1e-6)
    np.testing.assert_allclose(dying[:pixel], whole[:pixel], rtol=1e-6)
    assert dying[pixel] == pytest.approx(part * whole[pixel], rel=1e-6)
    assert not dying[pixel + 1 :].any()
    assert not image(planned, 2).any()
    seconds = (1600 + pixel + part) * planned.recipe.dwell_s
    assert planned.truth()["dyes"]["bleached_s"][0] == pytest.approx(seconds)


def test_a_doughnut_bleaches_in_proportion_to_its_light():
    """A scan takes rate x saturation x dwell x the doughnut's integral over pixels; with a power of
    2 in the law, four times as much at twice the intensity; and images fade faster."""
    taken = {}
    for saturation, power in ((20.0, 1.0), (40.0, 1.0), (20.0, 2.0), (40.0, 2.0)):
        beam = {"saturation": saturation, "bleaching_power": power, "residual": 0.0}
        # brightness 0: only the doughnut bleaches it
        one = plan(Sted, Beads([[0, 0, 0]], 0.0, photon_budget=1e4), depletion=beam,
                   width_px=220, height_px=220)  # fmt: skip
        taken[saturation, power] = one.taken[0]
        spots = one.spots
        part = np.where(spots.r_nm <= spots.reach_nm[0], spots.depletion[0], 0.0) ** power
        area = 2 * np.pi * np.trapezoid(spots.r_nm * part, spots.r_nm) / 20.0**2
        expected = 2.0 * 10e-6 * saturation**power * area
        assert taken[saturation, power] == pytest.approx(expected, rel=2e-3)
    assert taken[40.0, 1.0] == pytest.approx(2 * taken[20.0, 1.0], rel=5e-3)
    assert taken[40.0, 2.0] == pytest.approx(4 * taken[20.0, 2.0], rel=5e-3)
    faded = {}
    for rate in (0.0, 20.0):
        beam = {"bleaching_rate_per_s": rate}
        planned = plan(Sted, Beads(GRID, photon_budget=1e5), n_frames=2, depletion=beam)
        faded[rate] = image(planned, 1).sum() / image(planned, 0).sum()
    assert faded[20.0] < 0.7 * faded[0.0]


# ---- what is refused -----------------------------------------------------------------------------


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="sees dyes"):
        plan(Confocal, Bare())
    with pytest.raises(ValueError, match="don't switch"):
        Widefield.model_validate({"illumination": {"activation_kw_per_cm2": 0.1}})
    for kind in (Widefield, Confocal):
        with pytest.raises(ValueError, match="imagers"):
            kind.model_validate({"background": {"free_imager_depth_nm": 100.0}})
    with pytest.raises(ValueError, match="overflow"):
        plan(Confocal, Beads([[0, 0, 0]]), excitation_kw_per_cm2=1e5, dwell_us=1e3,
             detector={}).expose(0)  # fmt: skip


@pytest.mark.parametrize("kind", ["smlm", "widefield", "sim", "confocal", "sted"])
def test_focus_is_the_height_that_is_sharp_in_every_microscope(kind):
    """Vectorial light of a dye 800 nm deep in water under oil: of focal planes at 500, 800 and
    1100 nm, that of the dye is brightest."""
    peaks = []
    for focus in (500.0, 800.0, 1100.0):
        knobs: dict = {
            "psf": {"type": "vectorial"},
            "focus_nm": focus,
            "background": {"photons": 0},
        }
        if kind in ("confocal", "sted"):
            knobs |= {"width_px": 41, "height_px": 41, "pixel_size_nm": 30, "pinhole_au": 0.7}
            knobs["detector"] = {"noise": False}
        else:
            knobs["camera"] = {"width_px": 24, "height_px": 24, "noise": False}
        recipe = Instrument.read({"kind": kind, **knobs})
        specimen = Beads([[0.0, 0.0, 800.0]])
        signal = next(iter(recipe.plan(specimen, Run(1)).expose(0).signals.values()))
        peaks.append(signal.max())
    assert peaks[1] > 1.1 * max(peaks[0], peaks[2])
