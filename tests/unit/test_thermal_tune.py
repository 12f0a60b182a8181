"""Calibration of a lever by its thermal motion: exact spectra, noisy records, stated errors."""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import numpy as np
import pytest

from nanophantom.analysis import resonance_fit, thermal_tune
from nanophantom.analysis.resonance_fit import Resonance, Spectrum
from nanophantom.analysis.thermal_tune import Estimate
from nanophantom.simcore.probes.beam import BeamLever
from nanophantom.simcore.probes.cantilever import Cantilever
from nanophantom.simcore.probes.hydrodynamics import AIR, WATER, Fluid
from nanophantom.simcore.probes.thermal import ThermalModes

SOFT = BeamLever(length_um=200.0, width_um=20.0, thickness_um=0.6, internal_quality_factor=1e6)
STIFF = Cantilever(stiffness_n_per_m=2.0, resonance_khz=70.0, quality_factor=200.0)
FLOOR_FM = 100.0


def exact(modes: ThermalModes, highest_hz: float, bins: int = 20_000) -> Spectrum:
    frequency = np.arange(1, bins + 1) * highest_hz / bins
    return Spectrum(frequency, modes.density_nm2_per_hz(frequency) + (1e-6 * FLOOR_FM) ** 2)


# --- exact spectra ------------------------------------------------------------------------------


@pytest.mark.parametrize("optical", [True, False])
def test_exact_spectrum_gives_the_stiffness(optical: bool) -> None:
    """Three modes and a floor, no noise: all numbers to 1e-3, with the factor of each detector."""
    modes = ThermalModes.of_cantilever(STIFF)
    modes = modes.seen_by_optical_lever() if optical else modes
    found = resonance_fit.fit_resonance(exact(modes, 4e5))
    assert found.resonance_hz == pytest.approx(70e3, rel=1e-6)
    assert found.quality_factor == pytest.approx(200.0, rel=1e-3)
    # The floor of the fit holds the tails of the other modes too.
    assert found.floor == pytest.approx(1e-8, rel=0.01)
    k = thermal_tune.thermal_stiffness(found, optical_lever=optical)
    assert k.value == pytest.approx(2.0, rel=1e-3)
    wrong = thermal_tune.thermal_stiffness(found, optical_lever=not optical)
    assert abs(wrong.value / 2.0 - 1) > 0.15


@pytest.mark.parametrize(("fluid", "tolerance"), [(AIR, 1e-3), (WATER, 2e-3)])
def test_both_methods_agree_on_an_exact_spectrum(fluid: Fluid, tolerance: float) -> None:
    """A soft lever, Q 17 in air and 1.3 in water, where the second mode's flank is no flat floor.

    In water that costs 1.2e-3.
    """
    modes = ThermalModes.of_beam(SOFT, fluid).seen_by_optical_lever()
    found = resonance_fit.fit_resonance(exact(modes, 0.2e6))
    thermal = thermal_tune.thermal_stiffness(found)
    sader = thermal_tune.sader_stiffness(found, SOFT.length_um, SOFT.width_um, fluid)
    assert thermal.value == pytest.approx(SOFT.stiffness_n_per_m, rel=tolerance)
    assert sader.value == pytest.approx(SOFT.stiffness_n_per_m, rel=tolerance)


def test_volts_and_their_sensitivity() -> None:
    """A record in V with its InvOLS is one in nm; the way back gives the InvOLS without contact."""
    modes = ThermalModes.of_cantilever(STIFF).seen_by_optical_lever()
    nm = exact(modes, 4e5)
    volts = resonance_fit.fit_resonance(Spectrum(nm.frequency_hz, nm.density / 55.0**2))
    k = thermal_tune.thermal_stiffness(volts, 298.15, Estimate(55.0, 1.1))
    assert k.value == pytest.approx(2.0, rel=1e-3)
    # 2 % of the sensitivity are 4 % of the stiffness.
    spectrum = volts.sd[2] / volts.variance
    assert k.sd / k.value == pytest.approx(math.hypot(0.04, spectrum), rel=1e-6)
    back = thermal_tune.contactless_sensitivity_nm_per_V(volts, 2.0)
    assert back.value == pytest.approx(55.0, rel=1e-3)
    hot = thermal_tune.thermal_stiffness(volts, 2 * 298.15, 55.0)
    assert hot.value == pytest.approx(2 * k.value)


# --- records ------------------------------------------------------------------------------------


def tuned(
    modes: ThermalModes, rate_hz: float, samples: int, seed: int, segment: int = 2**14
) -> Resonance:
    record = modes.record_nm(samples, rate_hz, np.random.default_rng(seed), FLOOR_FM)
    return resonance_fit.fit_resonance(resonance_fit.power_spectrum(record, rate_hz, segment))


def test_spectrum_keeps_the_mean_square() -> None:
    """White noise: flat, of the right level, and scattered as its number of looks says."""
    rate, n = 1e4, 2**17
    noise = np.random.default_rng(3).standard_normal(n)
    spectrum = resonance_fit.power_spectrum(noise, rate, 256)
    inner = spectrum.density[3:-3]
    assert inner.mean() == pytest.approx(2 / rate, rel=0.01)
    # Sums over many bins: 64 groups of 16 segments' length each.
    means = []
    for part in noise.reshape(64, -1):
        one = resonance_fit.power_spectrum(part, rate, 256)
        means.append(one.density[3:-3].mean())
    expected = 1 / math.sqrt(one.looks * inner.size)
    assert np.std(means) / np.mean(means) == pytest.approx(expected, rel=0.25)


def test_line_hardly_wider_than_a_bin() -> None:
    """Q 1300 at 20 kHz, 15 Hz wide, in bins of 12 Hz: the expected spectrum knows the taper."""
    line = Cantilever(stiffness_n_per_m=1.0, resonance_khz=20.0, quality_factor=1300.0)
    modes = ThermalModes.of_cantilever(line, 1)
    rate, segment = 1e5, 8192
    template = resonance_fit.power_spectrum(np.random.default_rng(1).random(2**17), rate, segment)
    used = np.ones(template.frequency_hz.size, np.bool_)
    shape = resonance_fit.expected_density(template, used, 20e3, 1300.0)
    density = modes.variance_nm2[0] * shape + 1e-8
    found = resonance_fit.fit_resonance(replace(template, density=density))
    assert found.resonance_hz == pytest.approx(20e3, rel=1e-6)
    assert found.quality_factor == pytest.approx(1300.0, rel=1e-3)
    assert found.variance == pytest.approx(modes.variance_nm2[0], rel=1e-3)
    naive = resonance_fit.fit_resonance(Spectrum(template.frequency_hz, density))
    assert abs(naive.quality_factor / 1300 - 1) > 0.01
    shorter = resonance_fit.power_spectrum(np.random.default_rng(1).random(2**17), rate, 2048)
    used = np.ones(shorter.frequency_hz.size, np.bool_)
    shape = resonance_fit.expected_density(shorter, used, 20e3, 1300.0)
    with pytest.raises(ValueError, match=r"take segments of at least 9\d\d\d samples"):
        resonance_fit.fit_resonance(replace(shorter, density=modes.variance_nm2[0] * shape + 1e-8))


def test_tuning_a_noisy_record() -> None:
    """0.7 s of a lever in air: both stiffnesses within 5 % and three of their stated errors."""
    modes = ThermalModes.of_beam(SOFT, AIR).seen_by_optical_lever()
    found = tuned(modes, 8e5, 2**19, 4)
    k = SOFT.stiffness_n_per_m
    for estimate in (
        thermal_tune.thermal_stiffness(found),
        thermal_tune.sader_stiffness(found, SOFT.length_um, SOFT.width_um),
    ):
        assert estimate.value == pytest.approx(k, rel=0.05)
        assert abs(estimate.value - k) < 3 * estimate.sd
        assert estimate.sd < 0.04 * k


CASES = {
    "air": (ThermalModes.of_beam(SOFT, AIR), SOFT.stiffness_n_per_m, 8e5, 2**20),
    "water": (ThermalModes.of_beam(SOFT, WATER), SOFT.stiffness_n_per_m, 5e5, 2**20),
    "stiff": (ThermalModes.of_cantilever(STIFF), 2.0, 4e5, 2**20),
}


@functools.cache
def pulls(case: str, seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """Return deviations of resonance, Q, k over their stated errors, and relative ones of k."""
    modes, k, rate, samples = CASES[case]
    modes = modes.seen_by_optical_lever()
    rows, relative = [], []
    for seed in range(seeds):
        found = tuned(modes, rate, samples, seed)
        stiffness = thermal_tune.thermal_stiffness(found)
        true = (1e3 * modes.resonance_khz[0], modes.quality_factor[0], k)
        values = (found.resonance_hz, found.quality_factor, stiffness.value)
        stated = (*found.sd[:2], stiffness.sd)
        rows.append((np.array(values) - true) / stated)
        relative.append(stiffness.value / k - 1)
    return np.array(rows), np.array(relative)


@pytest.mark.slow
@pytest.mark.parametrize("case", list(CASES))
def test_stated_errors_cover_the_truth(case: str) -> None:
    """40 records each: k to 5 % rms, no bias, and pulls of unit spread (sd of it: 0.11)."""
    deviations, relative = pulls(case, 40)
    assert np.sqrt(np.mean(relative**2)) < 0.05
    assert np.all(np.abs(deviations.mean(axis=0)) < 3.5 / math.sqrt(40))
    spread = np.sqrt(np.mean(deviations**2, axis=0))
    assert np.all((spread > 0.7) & (spread < 1.35))
    assert np.mean(np.abs(deviations) < 2) > 0.88


def test_mains_and_drift_beside_a_resonance_need_only_its_place() -> None:
    """A line and 1/f noise higher than the resonance, outside the band."""
    modes = ThermalModes.of_cantilever(STIFF).seen_by_optical_lever()
    rate, n = 4e5, 2**18
    rng = np.random.default_rng(1)
    record = modes.record_nm(n, rate, rng, FLOOR_FM)
    time = np.arange(n) / rate
    walk = np.cumsum(rng.standard_normal(n))
    disturbed = record + np.sin(2 * math.pi * 5e3 * time) + 0.01 * walk
    spectrum = resonance_fit.power_spectrum(disturbed, rate)
    found = resonance_fit.fit_resonance(spectrum, near_hz=60e3)
    clean = resonance_fit.fit_resonance(resonance_fit.power_spectrum(record, rate))
    # The walk adds to the floor, whose scatter is not the same.
    assert found.resonance_hz == pytest.approx(clean.resonance_hz, rel=1e-3)
    assert found.variance == pytest.approx(clean.variance, rel=0.05)


# --- sensitivity --------------------------------------------------------------------------------


def curve(noise_V: float, rng: np.random.Generator, sign: float = 1.0) -> tuple:
    """A stiff surface at z = 0, 50 nm/V, a pull of 0.1 V just before contact."""
    z = np.linspace(300.0, -120.0, 2000)
    deflection = np.where(z < 0, -z / 50.0, 0.0) - 0.1 * np.exp(-np.maximum(z, 0) / 3.0) * (z > 0)
    return z, sign * deflection + 0.37 + noise_V * rng.standard_normal(z.size)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_sensitivity_of_an_exact_curve(sign: float) -> None:
    """Either sign of the detector, either order of time, an offset."""
    z, v = curve(0.0, np.random.default_rng(0), sign)
    assert thermal_tune.sensitivity_nm_per_V(z, v).value == pytest.approx(50.0, rel=1e-9)
    back = thermal_tune.sensitivity_nm_per_V(z[::-1], v[::-1])
    assert back.value == pytest.approx(50.0, rel=1e-9)


def test_sensitivity_of_noisy_curves_and_its_stated_error() -> None:
    """200 curves with 1 % noise: no bias, and pulls of unit spread (sd of it: 0.05)."""
    estimates = [
        thermal_tune.sensitivity_nm_per_V(*curve(0.02, np.random.default_rng(seed)))
        for seed in range(200)
    ]
    deviations = np.array([(e.value - 50.0) / e.sd for e in estimates])
    assert abs(deviations.mean()) < 0.25
    assert deviations.std() == pytest.approx(1, abs=0.15)
    assert max(e.sd for e in estimates) < 0.15


# --- refusals -----------------------------------------------------------------------------------


def test_what_cannot_be_calibrated_is_refused() -> None:
    flat = np.linspace(0, 1, 100)
    with pytest.raises(ValueError, match="at least 256 finite samples"):
        resonance_fit.power_spectrum(flat, 1e3)
    with pytest.raises(ValueError, match="segment must be"):
        resonance_fit.power_spectrum(np.zeros(300), 1e3, 400)
    with pytest.raises(ValueError, match="grow evenly"):
        resonance_fit.fit_resonance(Spectrum(flat**2, flat + 1))
    with pytest.raises(ValueError, match="finite and positive"):
        resonance_fit.fit_resonance(Spectrum(flat, np.zeros(100)))
    spectrum = exact(ThermalModes.of_cantilever(STIFF), 4e5, 2000)
    with pytest.raises(ValueError, match="longer segments or a wider band"):
        resonance_fit.fit_resonance(spectrum, band_hz=(69e3, 70e3))
    with pytest.raises(ValueError, match="no bin"):
        resonance_fit.fit_resonance(spectrum, near_hz=4e6)
    found = resonance_fit.fit_resonance(spectrum)
    with pytest.raises(ValueError, match="temperature_k"):
        thermal_tune.thermal_stiffness(found, 0.0)
    with pytest.raises(ValueError, match="sensitivity_nm_per_V"):
        thermal_tune.thermal_stiffness(found, 300.0, -2.0)
    with pytest.raises(ValueError, match="stiffness_n_per_m"):
        thermal_tune.contactless_sensitivity_nm_per_V(found, 0.0)
    z = np.linspace(100, 0, 50)
    with pytest.raises(ValueError, match="two growing shares"):
        thermal_tune.sensitivity_nm_per_V(z, z, (0.9, 0.2))
    with pytest.raises(ValueError, match="samples lie between"):
        thermal_tune.sensitivity_nm_per_V(z, np.where(z < 1, 1.0, 0.0))
