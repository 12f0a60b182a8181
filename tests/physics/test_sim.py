"""Structured illumination: raw images are what the formula says, and are put together rightly."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest

from nanophantom.analysis.fourier_shells import fourier_ring_correlation, soft_edge
from nanophantom.analysis.sim_orders import unmixing
from nanophantom.analysis.sim_reconstruction import estimate, reconstruct, with_errors
from nanophantom.instruments.sim import SIM
from nanophantom.simcore.emitters import Dyes
from nanophantom.simcore.light.fluorophores import Fluorophore
from nanophantom.simcore.light.sim_patterns import (
    StripedLight,
    cutoff_per_nm,
    optical_transfer,
    sim_cutoff_per_nm,
)
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import Specimen

GREEN = {"excitation_nm": 488.0, "emission_nm": 520.0}
CUTOFF = 2 * 1.4 / 520
PIXEL_NM = 65.0


class Beads(Specimen):
    """Dyes at chosen places, in nm from the middle of the view."""

    def __init__(self, places_nm, **dye):
        self.places = np.asarray(places_nm, float)
        self.fluorophore = Fluorophore.model_validate({**GREEN, **dye})

    def dyes_within(self, window):
        n = np.arange(len(self.places), dtype=np.int32)
        everything = Dyes(self.places, n, n, n, np.ones(len(n)))
        return everything.select(window.holds(self.places[:, 0], self.places[:, 1]))

    def truth(self):
        return {}


def plan(specimen, n=128, seed=1, **knobs):
    camera = {"width_px": n, "height_px": n, **knobs.pop("camera", {})}
    return SIM.model_validate({"camera": camera, **knobs}).plan(specimen, Run(seed))


def threads_and_pairs(n, threads=40):
    """Wavy threads all over the view, and in its middle two lines 120 nm apart, alone."""
    rng = np.random.default_rng(3)
    width = 1.1 * n * PIXEL_NM
    places = []
    for _ in range(threads):
        steps = int(width / 25.0)
        turn = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.03, steps))
        start = rng.uniform(-width / 2, width / 2, 2)
        places.append(start + np.cumsum(25.0 * np.stack([np.cos(turn), np.sin(turn)], 1), axis=0))
    threads_nm = np.concatenate(places)
    far = (abs(threads_nm[:, 0]) > 900) | (abs(threads_nm[:, 1]) > 900)
    y = np.arange(-800.0, 800.0, 25.0)
    lines = [np.stack([np.full(len(y), x), y], 1) for x in (-60.0, 60.0)]
    flat = np.concatenate([threads_nm[far], *lines])
    return Beads(np.column_stack([flat, np.zeros(len(flat))]))


@functools.cache
def scene(n=192, exposure_s=0.06):
    """Two noisy sets of raw images of one specimen, settings, and true stripes."""
    acquisition = plan(threads_and_pairs(n), n, exposure_s=exposure_s)
    means = [acquisition._photons(i) for i in range(9)]
    two = [np.array([np.random.default_rng(s).poisson(m) for m in means]) for s in (1, 2)]
    return two, np.array(means), acquisition.settings(), acquisition.truth()["patterns"]


@functools.cache
def stripes_of(which):
    """Return what is found in the first or second noisy set, or in the means (2)."""
    two, means, settings, _ = scene()
    return estimate([*two, means][which], settings)


def errors(found, patterns):
    """Return the largest errors of k (in cutoffs), phases (deg) and modulation."""
    worst = np.zeros(3)
    for a, stripes in enumerate(found):
        kx, ky = patterns["kx_per_nm"][3 * a], patterns["ky_per_nm"][3 * a]
        off = math.hypot(stripes.kx_per_nm - kx, stripes.ky_per_nm - ky) / CUTOFF
        away = (stripes.phases_deg - patterns["phase_deg"][3 * a : 3 * a + 3] + 180) % 360 - 180
        contrast = abs(stripes.modulation - patterns["modulation"][3 * a])
        worst = np.maximum(worst, [off, np.abs(away).max(), contrast])
    return worst


def test_stripes_double_the_cutoff():
    """520 nm, NA 1.4, stripes of 0.92 of the finest at 488 nm: 185.7 -> 93.8 nm, x 1.980."""
    stripes = 1 / StripedLight().spacing(1.4, 488.0)
    assert stripes == pytest.approx(0.92 * 2 * 1.4 / 488)
    assert 1 / cutoff_per_nm(1.4, 520.0) == pytest.approx(185.7, rel=1e-3)
    assert 1 / sim_cutoff_per_nm(1.4, 520.0, stripes) == pytest.approx(93.8, rel=1e-3)
    assert sim_cutoff_per_nm(1.4, 520.0, stripes) / CUTOFF == pytest.approx(1.980, rel=1e-3)
    # two overlapping pupils half a cutoff apart: 2/pi (pi/3 - sqrt(3)/4) = 0.39100
    np.testing.assert_allclose(
        optical_transfer([0.0, 0.5, 1.0, 2.0], 1.0), [1.0, 0.39100, 0.0, 0.0], atol=1e-5
    )


def test_a_dye_shines_as_the_stripes_at_its_place():
    """I = 1/2 [1 + m cos(2 pi k . r + phase)], at the dye's own place, not its pixel's; a bead of
    1e5 photons/s per kW/cm2 in 0.2 kW/cm2 for 20 ms gives 400 in full light."""
    spot = np.array([213.0, -121.0, 0.0])
    exact = {"spacing_error_percent": 0.0, "angle_error_deg": 0.0, "phase_jitter_deg": 0.0}
    acquisition = plan(Beads([spot]), pattern={**exact, "modulation": (0.9, 0.5, 0.0)},
                       psf={"type": "gaussian"}, background={"photons": 0.0})  # fmt: skip
    stripes = acquisition.truth()["patterns"]
    np.testing.assert_array_equal(stripes["angle"], [0, 0, 0, 1, 1, 1, 2, 2, 2])
    np.testing.assert_allclose(np.diff(stripes["phase_deg"])[[0, 1, 3, 4]] % 360, 120.0)
    totals = np.array([acquisition._photons(i).sum() for i in range(9)])
    for a, m in enumerate((0.9, 0.5, 0.0)):
        angle = math.radians(10.0 + 60.0 * a)
        turns = (math.cos(angle) * spot[0] + math.sin(angle) * spot[1]) * 0.92 * 2.8 / 488
        phase = 2 * math.pi * turns + np.radians(stripes["phase_deg"][3 * a : 3 * a + 3])
        np.testing.assert_allclose(
            totals[3 * a : 3 * a + 3], 200.0 * (1 + m * np.cos(phase)), rtol=2e-5, atol=1e-3
        )


def test_dyes_give_their_photons_and_no_more():
    """Nine images of 200 photons each use up a budget of 300 of nearly all dyes: each gives
    min(budget, light), and the images hold just that."""
    places = [[300.0 * i, 300.0 * j, 0.0] for i in range(-8, 9) for j in range(-8, 9)]
    acquisition = plan(Beads(places, photon_budget=300.0), psf={"type": "gaussian"},
                       background={"photons": 0.0})  # fmt: skip
    dyes = acquisition.truth()["dyes"]
    offered = np.sum([acquisition._offered(i) for i in range(9)], axis=0)
    expected = np.minimum(dyes["photon_budget"], offered)
    got = sum(float(acquisition._photons(i).sum(dtype=float)) for i in range(9))
    assert got == pytest.approx(expected.sum(), rel=1e-4)
    bleached = dyes["bleach_frame"] >= 0
    np.testing.assert_array_equal(bleached, dyes["photon_budget"] <= offered)
    n = len(places)
    assert dyes["photon_budget"].mean() == pytest.approx(300.0, rel=4 / math.sqrt(n))
    strength = acquisition.truth()["patterns"]["order_0"]
    given = [float(acquisition._photons(i).sum(dtype=float)) for i in range(9)]
    alive = np.array([g / acquisition._offered(i).sum() for i, g in enumerate(given)])
    np.testing.assert_allclose(strength, 0.5 * alive, rtol=1e-3)
    assert strength[0] > strength[4] > strength[8] > 0


def test_the_specimen_drifts_under_the_stripes():
    """The stripes stay; a bead that moves by a spacing along k sees the same light again."""
    acquisition = plan(Beads([[0.0, 0.0, 0.0]]), psf={"type": "gaussian"}, n_timepoints=2,
                       drift={"speed_nm_per_s": 3000.0, "direction_deg": 0.0})  # fmt: skip
    drift = acquisition.truth()["drift"]
    assert drift["dx_nm"][9] - drift["dx_nm"][0] == pytest.approx(3000 * 9 * 0.02)
    stripes = acquisition.truth()["patterns"]
    for i in (0, 4, 17):
        turns = stripes["kx_per_nm"][i] * drift["dx_nm"][i]
        phase = 2 * math.pi * turns + math.radians(stripes["phase_deg"][i])
        assert acquisition._offered(i)[0] == pytest.approx(200 * (1 + 0.9 * math.cos(phase)))


def test_stripes_are_found_exactly_without_noise():
    """The model of the estimate is that of the microscope: k within 2e-5 cutoffs, 0.2 degrees."""
    off, phase, contrast = errors(stripes_of(2), scene()[3])
    assert off < 2e-5
    assert phase < 0.2
    assert contrast < 0.01
    assert all(abs(s.coherence - 1.0) < 0.01 for s in stripes_of(2))


def test_stripes_are_found_in_noisy_images():
    """k within 1e-3 cutoffs, phases within 2 degrees, with jitter of 3 degrees a frame and errors
    of spacing and direction."""
    for which in (0, 1):
        off, phase, contrast = errors(stripes_of(which), scene()[3])
        assert off < 1e-3
        assert phase < 2.0
        assert contrast < 0.03


def dip(image, pixel_nm):
    """Depth of the valley between the two lines, relative to the lower crest."""
    middle = image.shape[0] // 2
    half = int(600 / pixel_nm)
    profile = image[middle - half : middle + half].mean(axis=0)[middle - 5 : middle + 6]
    crest = min(profile[:5].max(), profile[6:].max())
    return 1.0 - profile[5] / crest


def test_two_lines_of_120_nm_are_resolved():
    """Widefield has no frequency of 1 / 120 nm, its cutoff being 1 / 185.7 nm; Rayleigh asks for a
    valley of 26 % for points, 19 % for slits."""
    (raw, _), _, settings, _ = scene()
    found = reconstruct(raw, settings, stripes_of(0))
    assert dip(found.image, found.pixel_size_nm) > 0.26
    assert dip(found.widefield, found.pixel_size_nm) < 0.0
    assert found.image.sum() / 4 == pytest.approx(raw.mean(axis=0).sum(), rel=0.1)  # less borders


def reach_per_nm(one, two, pixel_nm, cutoff):
    """Return the frequency at which the correlation of two images falls to 1/7.

    Beyond its cutoff there is nothing in an image but what a window carries there.
    """
    rings = fourier_ring_correlation(one, two, pixel_nm, soft_edge(one.shape, 0.5))
    below = (rings.correlation < 1 / 7) & (rings.frequency_per_nm < cutoff)
    return rings.frequency_per_nm[below.argmax()] if below.any() else cutoff


def test_resolution_gains_over_widefield():
    """Correlation of two noisy images falls to 1/7 at a frequency 1.7 times as large, or more."""
    two, _, settings, _ = scene()
    first, second = (reconstruct(two[i], settings, stripes_of(i)) for i in (0, 1))
    pixel = first.pixel_size_nm
    sim = reach_per_nm(first.image, second.image, pixel, first.cutoff_per_nm)
    widefield = reach_per_nm(first.widefield, second.widefield, pixel, CUTOFF)
    assert sim / widefield > 1.7


def test_wrong_stripes_make_artefacts():
    """Stripes that are wrong by 2 % in k or by (0, 40, -40) degrees spoil the image, against that
    of the noise-free data; the found ones cost at most a fifth more than the noise."""
    (raw, _), means, settings, _ = scene()
    best = reconstruct(means, settings, stripes_of(2))
    found = reconstruct(raw, settings, best.stripes)

    def error(stripes):
        image = reconstruct(raw, settings, stripes).image
        return np.linalg.norm(image - best.image) / np.linalg.norm(best.image)

    noise = np.linalg.norm(found.image - best.image) / np.linalg.norm(best.image)
    assert error(stripes_of(0)) < 1.2 * noise
    assert error([with_errors(s, k_factor=1.02) for s in best.stripes]) > 3 * noise
    wrong = [with_errors(s, phase_errors_deg=[0.0, 40.0, -40.0]) for s in best.stripes]
    assert error(wrong) > 3 * noise


def test_what_can_not_be_is_refused():
    with pytest.raises(ValueError, match=r"makes stripes of 174\.3 nm or more"):
        StripedLight(spacing_nm=150.0).spacing(1.4, 488.0)
    with pytest.raises(ValueError, match="too alike to separate"):
        unmixing([0.0, 0.0, 2.0])
    _, means, settings, _ = scene()
    with pytest.raises(ValueError, match="9 finite raw images"):
        reconstruct(means[:6], settings)
    with pytest.raises(ValueError, match="too coarse"):
        estimate(means, {**settings, "pixel_size_nm": 100.0})
