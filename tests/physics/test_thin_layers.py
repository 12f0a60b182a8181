"""Soft layers on a hard support: the bottom effect, and what it makes of images of thin things."""

import functools

import numpy as np
import pytest
from pydantic import ValidationError

from nanophantom.instruments.afm import AFM
from nanophantom.samples.filaments import Filaments
from nanophantom.samples.polymer_blend import PolymerBlend
from nanophantom.simcore.atoms import Window
from nanophantom.simcore.probes.cantilever import Cantilever
from nanophantom.simcore.probes.interaction import (
    CONTACT_NM,
    bottom_effect,
    force_nn,
    indentation_nm,
)
from nanophantom.simcore.probes.tapping import approach_curve
from nanophantom.simcore.probes.tapping_ode import steady_state
from nanophantom.simcore.runs import Run
from nanophantom.simcore.surfaces import Material

DNA = Filaments().material


def dna(thickness_nm):
    return DNA.model_copy(update={"thickness_nm": thickness_nm})


# ---- the law


def test_the_published_series_is_followed_where_it_holds():
    """Eq. 12 of Dimitriadis 2002 at chi = 1 (sum 4.2825), R = 1000 h: indentation h / 1000."""
    assert bottom_effect(0.01, 1e4, 10.0) == pytest.approx(4.2825, rel=1e-8)
    # chi = 0.5, R = 25 h, an indentation of h / 100: the divergence has added 3e-6.
    series = 1 + 1.133 / 2 + 1.283 / 4 + 0.769 / 8 + 0.0975 / 16
    assert bottom_effect(0.1, 250.0, 10.0) == pytest.approx(series, rel=4e-6)
    # Where it is claimed to hold, up to h / 10, no more than 0.31 % are added.
    chi = np.sqrt(10.0 * 1.0) / 10.0
    series = 1 + 1.133 * chi + 1.283 * chi**2 + 0.769 * chi**3 + 0.0975 * chi**4
    assert 1 < bottom_effect(1.0, 10.0, 10.0) / series < 1.0031


def test_the_series_agrees_with_another_derivation_for_thick_layers():
    """P. D. & R. Garcia, Biophys. J. 114 (2018) 2923: 1.133, 1.497, 1.469, 0.755; small chi."""
    for chi, apart in ((0.1, 0.003), (0.3, 0.04)):
        other = 1 + 1.133 * chi + 1.497 * chi**2 + 1.469 * chi**3 + 0.755 * chi**4
        assert bottom_effect(1e-4 * chi**2, 1e4, 1.0) == pytest.approx(other, rel=apart)


def test_a_half_space_and_a_very_thick_layer_are_hertzian():
    """Infinite thickness leaves the force as it was to the last bit; a thick layer nearly so."""
    for depth in (1e-6, 0.3, 7.0, 2000.0):
        d = CONTACT_NM - depth
        in_contact = CONTACT_NM - d
        pull = 2e-3 * np.pi * 10.0 * 50.0
        hertz = 4.0 / 3.0 * 0.42 * np.sqrt(10.0 * in_contact) * in_contact
        assert force_nn(d, 10.0, 0.42, 50.0, np.inf) == hertz - pull
        chi = np.sqrt(10.0 * depth) / 1e6
        thick = force_nn(d, 10.0, 0.42, 0.0, 1e6)
        stiffer = 1.133 * chi + 1.283 * chi**2
        assert thick / hertz - 1 == pytest.approx(stiffer, rel=1e-3, abs=1e-12)


@pytest.mark.parametrize("thickness", [0.25, 2.0, 100.0])
@pytest.mark.parametrize("modulus", [1e-6, 0.35, 3.0])
def test_the_force_grows_steadily_and_never_presses_through(thickness, modulus):
    """Monotonic beyond the support; loads up to 1 uN leave something of the layer."""
    layer = Material(modulus_gpa=modulus, poisson_ratio=0.4, thickness_nm=thickness)
    e_star = layer.reduced_modulus_gpa
    depth = thickness * np.concatenate([np.linspace(0, 1, 2000), 1 - np.geomspace(0.1, 1e-9, 500)])
    depth = np.unique(np.concatenate([depth, thickness * np.linspace(1, 10, 100)]))
    force = np.array([force_nn(CONTACT_NM - z, 5.0, e_star, 0.0, thickness) for z in depth])
    assert (np.diff(force) > 0).all()
    for load in (0.1, 10.0, 1000.0):
        deepest = indentation_nm(load, 5.0, layer)
        assert 0 < deepest < thickness
        assert deepest < indentation_nm(load, 5.0, layer.model_copy(update={"thickness_nm": None}))
        again = force_nn(CONTACT_NM - deepest, 5.0, e_star, 0.0, thickness)
        assert again == pytest.approx(load, rel=1e-3)


# ---- tapping


def test_averaged_and_followed_tapping_agree_on_a_thin_layer():
    """2 nm of DNA, A0 = 20 nm, k = 40 N/m, Q = 100: amplitude to 0.75 / Q + 0.05 %, peak to 5 %."""
    lever, layer = Cantilever(quality_factor=100.0), dna(2.0)
    curve = approach_curve(lever, 20.0, 10.0, layer)
    at = int(np.searchsorted(curve.amplitude_nm, 16.0))
    distance, amplitude, phase = (
        float(of[at]) for of in (curve.distance_nm, curve.amplitude_nm, curve.phase_deg)
    )
    cycle = steady_state(
        lever, 20.0, 10.0, layer, distance, amplitude_nm=amplitude, phase_deg=phase, steps=3000
    )
    assert cycle.amplitude_nm[0] == pytest.approx(curve.amplitude_nm[at], abs=20 * 0.008)
    assert cycle.phase_deg[0] == pytest.approx(curve.phase_deg[at], abs=1.0)
    assert cycle.peak_force_nn[0] == pytest.approx(curve.peak_force_nn[at], rel=0.05)


def test_thinner_layers_yield_less_at_the_same_amplitude():
    """Lowest point of the swing at 80 %: always over the support, the lower the thicker."""
    lowest = []
    for thickness in (0.25, 1.0, 2.0):
        curve = approach_curve(Cantilever(), 20.0, 10.0, dna(thickness))
        lowest.append(float(np.interp(16.0, curve.amplitude_nm, curve.distance_nm)) - 16.0)
        assert CONTACT_NM - lowest[-1] < thickness
    assert lowest[0] > lowest[1] > lowest[2]


def test_blends_have_a_contrast_of_phase():
    """Polystyrene and polyethylene, default tapping at 80 %: 5 to 30 degrees apart."""
    blend, phases = PolymerBlend(), []
    for material in (blend.matrix, blend.inclusions):
        curve = approach_curve(Cantilever(), 20.0, 10.0, material)
        phases.append(float(np.interp(16.0, curve.amplitude_nm, curve.phase_deg)))
    assert 5.0 < phases[1] - phases[0] < 30.0


# ---- images


@functools.cache
def strand():
    """The default filaments, with one of them in a view of 64 nm."""
    specimen = Filaments().make(Run(3))
    truth = specimen.truth()["filament_points"]
    return specimen, float(truth["x_nm"][170]), float(truth["y_nm"][170])


LEVER = {"stiffness_n_per_m": 0.05, "resonance_khz": 10.0, "quality_factor": 30.0}
MODES = {
    "tapping": {},
    "contact-0.1": {"imaging": {"mode": "contact", "setpoint_nn": 0.1}, "cantilever": LEVER},
    "contact-1": {"imaging": {"mode": "contact", "setpoint_nn": 1.0}, "cantilever": LEVER},
}


@functools.cache
def imaged(mode):
    """Height of a quick scan over a strand, by an instrument as it comes, and its truth."""
    specimen, x, y = strand()
    scan = {"width_px": 32, "height_px": 12, "pixel_size_nm": 2.0, "line_rate_hz": 1.0,
            "offset_nm": (x, y)}  # fmt: skip
    instrument = AFM.model_validate({"scan": scan, "noise": False, **MODES[mode]})
    acquisition = instrument.plan(specimen, Run(3))
    surface = acquisition.truth()["surface"]
    return acquisition.expose(0).signals["height"].astype(np.float64), surface


@pytest.mark.parametrize("mode", MODES)
def test_strands_stand_above_their_support(mode):
    """2 nm of DNA are measured as 0.5 to 1.7 nm, as they are in practice."""
    height, surface = imaged(mode)
    top = surface["height_nm"] > 1.9
    assert top.sum() > 5
    assert height[top].min() > 0.5
    assert height[top].max() < 1.75
    assert height[top].mean() < 1.7


@pytest.mark.parametrize("mode", MODES)
def test_there_is_no_trench_beside_a_strand(mode):
    """A tip that sinks into the flank of a strand is stopped by the mica: -0.1 nm at most."""
    height, surface = imaged(mode)
    bare = surface["material"] == 0
    assert (height - surface["height_nm"])[bare].min() > -0.1


def test_filaments_are_layers_as_thick_as_they_are_high():
    """Within 9 % of the height over the support; where two cross, up to two strands."""
    specimen, _, _ = strand()
    window = Window.centred(400, 400)
    surface = specimen.surface_within(window, (800, 800))
    x = window.x0_nm + 0.5 * np.arange(800)
    over = surface.heights_nm - specimen.support.heights(x, x)
    on = surface.material > 0
    layer = np.array([m.depth_nm for m in surface.materials])[surface.material]
    assert on.sum() > 1000
    assert np.abs(np.log2(layer[on] / over[on])).max() <= 0.125 + 1e-9
    assert over[~on].max() < 2.0 * 2**-1.1  # what is thinner than half a strand
    assert {m.name for m in surface.materials} > {"mica", "DNA, 2 nm", "DNA, 1 nm"}


def test_a_filament_of_given_thickness_is_refused():
    with pytest.raises(ValidationError, match=r"material\.thickness_nm"):
        Filaments(material=dna(2.0))
