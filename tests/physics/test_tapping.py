"""Tapping: the averaged model against closed forms, conservation laws and the full oscillator."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest

from nanophantom.simcore.probes.cantilever import Cantilever
from nanophantom.simcore.probes.loop_kernels import advance_tapping
from nanophantom.simcore.probes.tapping import (
    approach_curve,
    conservative_phase_deg,
    dissipated_ev,
    free_power_pw,
    hertz_peak_force_nn,
    virial_mean_force_nn,
)
from nanophantom.simcore.probes.tapping_ode import follow, steady_state
from nanophantom.simcore.probes.tapping_swing import tapping_table, thermal_kick_nm
from nanophantom.simcore.surfaces import Material

AIR = Cantilever(stiffness_n_per_m=40.0, resonance_khz=300.0, quality_factor=400.0)
SOFTER = Cantilever(stiffness_n_per_m=40.0, resonance_khz=300.0, quality_factor=150.0)
LIQUID = Cantilever(stiffness_n_per_m=0.1, resonance_khz=30.0, quality_factor=3.0)
SILICA = Material(modulus_gpa=70.0, poisson_ratio=0.17, work_of_adhesion_mj_per_m2=50.0)
POLYMER = Material(
    modulus_gpa=2.0, poisson_ratio=0.35, work_of_adhesion_mj_per_m2=50.0, viscosity_pa_s=50.0
)
PROTEIN = Material(modulus_gpa=0.1, poisson_ratio=0.5, work_of_adhesion_mj_per_m2=1.0)


@functools.cache
def curve_of(lever, free, material):
    return approach_curve(lever, free, 10.0, material)


@functools.cache
def table_of(lever, free, *materials):
    return tapping_table(lever, free, 10.0, materials)


def hertzian(modulus_gpa):
    return Material(modulus_gpa=modulus_gpa, poisson_ratio=0.0, work_of_adhesion_mj_per_m2=0.0)


def at(curve, distance, name):
    return float(np.interp(distance, curve.distance_nm, getattr(curve, name)))


def swing(amplitude, phase_deg):
    return amplitude * math.sin(math.radians(phase_deg)), -amplitude * math.cos(
        math.radians(phase_deg)
    )


def settled(lever, free, radius, material, distance, curve):
    """The oscillator at a distance, started in the state that the curve gives."""
    start = {name: at(curve, distance, name) for name in ("amplitude_nm", "phase_deg")}
    done = steady_state(lever, free, radius, material, distance, **start)
    return {name: float(values[0]) for name, values in vars(done).items()}


# ---- the free lever ----


def test_free_lever_loses_what_its_damping_takes():
    """k A0^2 w0 / 2 Q: 37.70 pW, 784.3 eV a cycle, k = 40 N/m, Q = 400, 300 kHz, A0 = 20 nm."""
    power = free_power_pw(AIR, 20.0)
    assert power == pytest.approx(37.70, rel=1e-3)
    assert power * 1e-12 / 300e3 / 1.602176634e-19 == pytest.approx(784.3, rel=1e-3)


def test_thermal_noise_at_resonance():
    """295.6 fm/sqrt(Hz) at resonance and a force of 29.56 fN/sqrt(Hz), Q = 400, 298 K.

    Two quadratures of variance kT / k that relax in tau make a line of height 2 tau kT / k.
    """
    height = math.sqrt(2.0 * AIR.ring_down_s * AIR.thermal_rms_nm**2) * 1e6
    assert height == pytest.approx(295.6, rel=1e-3)
    assert height * AIR.stiffness_n_per_m / AIR.quality_factor == pytest.approx(29.56, rel=1e-3)


def test_ring_down_of_the_oscillator():
    """Far from the surface the swing spirals into the free one in 2 Q / w0 = 424.4 us."""
    done = follow(AIR, 20.0, 10.0, hertzian(1.0), np.full(600, 1e3), amplitude_nm=35.0,
                  phase_deg=40.0, steps=200)  # fmt: skip
    away = done.amplitude_nm * np.exp(1j * np.radians(done.phase_deg)) - 20j
    tau = 599 / 300e3 / np.log(abs(away[0] / away[-1]))
    assert tau == pytest.approx(424.4e-6, rel=1e-3)
    turned = np.degrees(np.angle(away[-1] / away[0]))
    assert abs(turned) < 0.5  # the damped lever rings at w0 sqrt(1 - 1 / 4 Q^2)


def test_thermal_swing_of_the_oscillator():
    """Its white force makes quadratures of variance kT / k that relax in tau, as `thermal_kick_nm`.

    Of both the height of the line at resonance within 2 %; variance and tau within 4 % (three
    standard errors at 12 600 ring-downs).
    """
    lever = Cantilever(stiffness_n_per_m=40.0, resonance_khz=300.0, quality_factor=50.0)
    cycles, far = 200_000, 1e4
    rng = np.random.default_rng(1)
    done = follow(lever, 1.0, 10.0, hertzian(1.0), np.full(cycles, far), steps=100, rng=rng)
    away = done.amplitude_nm * np.exp(1j * np.radians(done.phase_deg)) - 1j
    away = away[1000:]

    tau = lever.quality_factor / math.pi  # in cycles
    # Means over a cycle of such a process: their variance and their correlation at lag 1, 2.
    mean_of = 2 * tau**2 * (1 / tau - 1 + math.exp(-1 / tau))
    variance = np.mean(abs(away) ** 2) / 2 / mean_of
    lags = [np.mean((away[lag:] * away[:-lag].conj()).real) for lag in (1, 9)]
    found_tau = 8 / math.log(lags[0] / lags[1])
    assert variance == pytest.approx(lever.thermal_rms_nm**2, rel=0.04)
    assert found_tau == pytest.approx(tau, rel=0.04)
    assert math.sqrt(variance * found_tau / (lever.thermal_rms_nm**2 * tau)) == pytest.approx(
        1.0, rel=0.02
    )

    dt = 5e-6
    kick, kept = thermal_kick_nm(lever, dt), math.exp(-dt / lever.ring_down_s)
    assert kick**2 / (1 - kept**2) == pytest.approx(lever.thermal_rms_nm**2, rel=1e-12)


# ---- steady tapping: closed forms ----


@pytest.mark.parametrize("ratio", [0.5, 0.8])
def test_conservative_phase(ratio):
    """phase = asin(A/A0), 180 degrees minus it where the surface attracts (Cleveland 1998)."""
    closed = {0.5: (30.00, 150.00), 0.8: (53.13, 126.87)}[ratio]
    assert conservative_phase_deg(ratio) == pytest.approx(closed[0], abs=0.005)
    assert conservative_phase_deg(ratio, repulsive=False) == pytest.approx(closed[1], abs=0.005)
    tapping = steady_state(AIR, 20.0, 10.0, hertzian(100.0), 20.0 * ratio)
    reached = float(tapping.amplitude_nm[0]) / 20.0
    assert reached == pytest.approx(ratio, abs=0.005)
    assert tapping.phase_deg[0] == pytest.approx(conservative_phase_deg(reached), abs=0.1)
    # Small free amplitudes are drawn, not repelled.
    curve = curve_of(AIR, 1.0, SILICA)
    drawn = ~curve.repulsive & (curve.distance_nm > 1.0)
    distance = float(np.interp(ratio, curve.amplitude_nm[drawn], curve.distance_nm[drawn]))
    seen = settled(AIR, 1.0, 10.0, SILICA, max(distance, 1.09), curve)
    assert seen["phase_deg"] == pytest.approx(
        conservative_phase_deg(seen["amplitude_nm"], repulsive=False), abs=0.1
    )


@pytest.mark.parametrize(
    ("modulus", "distance", "ratio", "peak"),
    [(100.0, 16.0, 0.799, 23.98), (100.0, 18.0, 0.898, 19.75)],
)
def test_forces_on_a_hertzian_flat(modulus, distance, ratio, peak):
    """Mean force k A0 / 2Q sqrt(1 - r^2) to 0.5 % and peak force in closed form to 2 %.

    The peaks are those that an independent integration of the same lever gave.
    """
    seen = steady_state(AIR, 20.0, 10.0, hertzian(modulus), distance)
    assert seen.amplitude_nm[0] / 20.0 == pytest.approx(ratio, abs=5e-4)
    reached = float(seen.amplitude_nm[0]) / 20.0
    assert virial_mean_force_nn(AIR, 20.0, reached) == pytest.approx(
        float(seen.mean_force_nn[0]), rel=5e-3
    )
    assert seen.peak_force_nn[0] == pytest.approx(peak, rel=2e-3)
    closed = hertz_peak_force_nn(AIR, 20.0, reached, 10.0, modulus)
    assert closed == pytest.approx(float(seen.peak_force_nn[0]), rel=0.02)


def test_closed_forms_give_the_tabulated_forces():
    """0.6015 nN and 23.68, 19.57 nN at A/A0 = .799, .898, E* = 100 GPa; 7.00 at .858, 1.1 GPa."""
    assert virial_mean_force_nn(AIR, 20.0, 0.799) == pytest.approx(0.6015, abs=3e-4)
    assert hertz_peak_force_nn(AIR, 20.0, 0.799, 10.0, 100.0) == pytest.approx(23.68, abs=0.02)
    assert hertz_peak_force_nn(AIR, 20.0, 0.898, 10.0, 100.0) == pytest.approx(19.57, abs=0.02)
    assert hertz_peak_force_nn(AIR, 20.0, 0.858, 10.0, 1.1) == pytest.approx(7.00, abs=0.01)


def test_mean_pull_of_a_swing_that_does_not_touch():
    """The mean of -C / z^2 over a harmonic swing is -C D / (D^2 - A^2)^1.5; phase by the virial."""
    curve = curve_of(AIR, 5.0, SILICA)
    pull = 2e-3 * math.pi * 10.0 * 50.0 * 0.165**2
    for distance in (5.6, 6.0, 8.0):
        i = int(np.argmin(abs(curve.distance_nm - distance)))
        mean, amplitude = curve.mean_force_nn[i], curve.amplitude_nm[i]
        center = curve.distance_nm[i] + mean / AIR.stiffness_n_per_m
        assert not curve.repulsive[i]
        assert mean == pytest.approx(-pull * center / (center**2 - amplitude**2) ** 1.5, rel=2e-3)
        # <cos t / (D + A cos t)^2> = -A / (D^2 - A^2)^1.5
        cosine = -2 * 400 * pull * amplitude / (center**2 - amplitude**2) ** 1.5 / (40 * 5)
        assert math.cos(math.radians(curve.phase_deg[i])) == pytest.approx(cosine, rel=2e-3)


# ---- steady tapping: the averaged model against the oscillator ----


@pytest.mark.parametrize(
    ("lever", "material", "distances"),
    [(AIR, SILICA, (10.0, 16.0, 19.0, 20.4)), (SOFTER, POLYMER, (10.0, 18.0, 19.8))],
)
def test_averaged_tapping_is_that_of_the_oscillator(lever, material, distances):
    """A to 0.25 % of A0, phase to 0.2 degrees, forces to 3 %, energy to 3 %; A0 = 20 nm."""
    curve = curve_of(lever, 20.0, material)
    for distance in distances:
        seen = settled(lever, 20.0, 10.0, material, distance, curve)
        assert at(curve, distance, "amplitude_nm") == pytest.approx(seen["amplitude_nm"], abs=0.05)
        assert at(curve, distance, "phase_deg") == pytest.approx(seen["phase_deg"], abs=0.2)
        assert at(curve, distance, "mean_force_nn") == pytest.approx(
            seen["mean_force_nn"], rel=0.03
        )
        assert at(curve, distance, "peak_force_nn") == pytest.approx(
            seen["peak_force_nn"], rel=0.03, abs=0.01
        )
        assert at(curve, distance, "dissipated_ev") == pytest.approx(
            seen["dissipated_ev"], rel=0.03, abs=0.05
        )


def test_phase_tells_the_energy_that_the_sample_took():
    """Of the oscillator's amplitude and phase alone: sin(phase) = A/A0 + Q E / (pi k A A0)."""
    for distance in (10.0, 17.0):
        done = steady_state(SOFTER, 20.0, 10.0, POLYMER, distance)
        told = dissipated_ev(SOFTER, 20.0, done.amplitude_nm, done.phase_deg)
        assert done.dissipated_ev[0] > 10.0
        assert told[0] == pytest.approx(done.dissipated_ev[0], rel=0.01)


def test_two_states_at_one_distance_and_the_curve_takes_the_higher():
    """Just inside, adhesive silica keeps a free swing drawn, and a repelled one repelled, which
    is the curve's; a swing followed in time keeps to the one it has, as the oscillator does."""
    sticky = Material(work_of_adhesion_mj_per_m2=200.0)
    curve, distance = curve_of(AIR, 5.0, sticky), 4.86
    assert at(curve, distance, "phase_deg") < 90.0
    high = settled(AIR, 5.0, 10.0, sticky, distance, curve)
    low = steady_state(AIR, 5.0, 10.0, sticky, distance)
    assert high["phase_deg"] < 90.0 < low.phase_deg[0]
    assert high["amplitude_nm"] == pytest.approx(at(curve, distance, "amplitude_nm"), abs=0.01)
    assert low.amplitude_nm[0] < high["amplitude_nm"] - 0.5
    table = table_of(AIR, 5.0, sticky)
    drawn = (5.0, 90.0), float(low.amplitude_nm[0])
    repelled = (high["amplitude_nm"], high["phase_deg"]), high["amplitude_nm"]
    for start, seen in (drawn, repelled):
        state = (*swing(*start), 0.0, 0.0, math.inf)
        for _ in range(200):
            state = advance_tapping(*state, distance, 0.05, 0, table)
        u, v = state[:2]
        assert math.hypot(u, v) == pytest.approx(seen, abs=0.02)


@pytest.mark.parametrize("lever", [AIR, LIQUID])
def test_curve_is_an_even_grid_from_stilled_to_free(lever):
    """Even, increasing, free at its end, nearly still at its start or a free amplitude deep."""
    curve = curve_of(lever, 5.0, SILICA if lever is AIR else PROTEIN)
    assert np.ptp(np.diff(curve.distance_nm)) < 1e-9
    assert np.diff(curve.distance_nm).min() > 0
    assert curve.amplitude_nm[-1] == pytest.approx(5.0, abs=1e-3)
    assert curve.amplitude_nm.max() <= 5.0 + 1e-3
    assert curve.amplitude_nm[0] < 0.05 or curve.distance_nm[0] < -4.9
    assert (curve.repulsive == (curve.phase_deg < 90.0)).mean() > 0.99


def test_curve_in_liquid_is_that_of_the_oscillator():
    """At Q = 3 harmonic averaging is 10 % off; the curve agrees to 0.5 % of A0 and 2 % of force."""
    curve = curve_of(LIQUID, 5.0, PROTEIN)
    for distance in (1.0, 3.0, 4.5):
        seen = steady_state(LIQUID, 5.0, 10.0, PROTEIN, distance)
        assert at(curve, distance, "amplitude_nm") == pytest.approx(
            float(seen.amplitude_nm[0]), abs=0.025
        )
        assert at(curve, distance, "peak_force_nn") == pytest.approx(
            float(seen.peak_force_nn[0]), rel=0.02
        )


# ---- tapping in time ----


def test_free_growth_starts_with_the_phase():
    """Off the surface the swing spirals to the free one: from 0.8 A0 at 53 degrees it doesn't grow
    at first; step for step the exact solution, and the oscillator to 0.03 nm."""
    table = table_of(AIR, 20.0, SILICA)
    start = swing(16.0, 53.13)
    tau = AIR.quality_factor / math.pi
    seen = follow(AIR, 20.0, 10.0, SILICA, np.full(400, 60.0), amplitude_nm=16.0, phase_deg=53.13,
                  steps=200)  # fmt: skip
    state = advance_tapping(*start, 0.0, 0.0, math.inf, 60.0, 0.5 / tau, 0, table)
    for cycle in range(400):
        u, v = state[:2]
        kept = math.exp(-(cycle + 0.5) / tau)
        exact = 20.0 + kept * (start[0] - 20.0), kept * start[1]
        assert (u, v) == pytest.approx(exact, abs=1e-4)
        assert math.hypot(u, v) == pytest.approx(seen.amplitude_nm[cycle], abs=0.03)
        state = advance_tapping(*state, 60.0, 1.0 / tau, 0, table)


@pytest.mark.parametrize(
    ("lever", "material", "rise", "error"),
    [(AIR, POLYMER, 3.0, 0.3), (SOFTER, POLYMER, 3.0, 0.25), (SOFTER, POLYMER, -3.0, 0.05)],
)
def test_step_of_the_surface_is_answered_as_by_the_oscillator(lever, material, rise, error):
    """From 0.8 A0, cycle by cycle for three ring-downs; relaxing to the new amplitude is nm off."""
    curve = curve_of(lever, 20.0, material)
    table = table_of(lever, 20.0, SILICA, material)
    touched = curve.repulsive
    distance = float(np.interp(16.0, curve.amplitude_nm[touched], curve.distance_nm[touched]))
    phase = at(curve, distance, "phase_deg")
    tau = lever.quality_factor / math.pi
    cycles = math.ceil(3.0 * tau)
    seen = follow(lever, 20.0, 10.0, material, np.full(cycles, distance - rise), amplitude_nm=16.0,
                  phase_deg=phase)  # fmt: skip
    state = (*swing(16.0, phase), 0.0, 0.0, math.inf)
    for _ in range(100):  # the surface's rates at rest
        state = advance_tapping(*state, distance, 1e-3, 1, table)
    found = []
    for cycle in range(cycles):
        state = advance_tapping(*state, distance - rise, (1.0 if cycle else 0.5) / tau, 1, table)
        found.append(math.hypot(*state[:2]))
    assert abs(np.array(found) - seen.amplitude_nm).max() < error
    target = at(curve, distance - rise, "amplitude_nm")
    relaxed = target + (16.0 - target) * np.exp(-(np.arange(cycles) + 0.5) / tau)
    assert abs(relaxed - seen.amplitude_nm).max() > 2 * error


@pytest.mark.parametrize(
    ("lever", "speed_nm_per_s", "height_nm", "error"),
    [
        (AIR, 1e4, 6.0, 0.1),
        (SOFTER, 1e4, 6.0, 0.1),
        (AIR, 2e3, 4.0, 0.05),
        (AIR, -1e4, -10.0, 0.05),
    ],
)
def test_moving_surface_is_followed_as_by_the_oscillator(lever, speed_nm_per_s, height_nm, error):
    """A tip led over slopes as in an image, in steps of a loop at 50 kHz: nowhere off by more."""
    curve, table = curve_of(lever, 20.0, POLYMER), table_of(lever, 20.0, POLYMER)
    touched = curve.repulsive
    distance = float(np.interp(16.0, curve.amplitude_nm[touched], curve.distance_nm[touched]))
    phase = at(curve, distance, "phase_deg")
    tau = lever.quality_factor / math.pi
    cycles = math.ceil((height_nm / speed_nm_per_s + 5e-4) * 1e3 * lever.resonance_khz)
    rise = speed_nm_per_s * (np.arange(cycles) + 0.5) / (1e3 * lever.resonance_khz)
    rise = np.clip(rise, min(0.0, height_nm), max(0.0, height_nm))
    seen = follow(lever, 20.0, 10.0, POLYMER, distance - rise, amplitude_nm=16.0, phase_deg=phase)
    state = (*swing(16.0, phase), 0.0, 0.0, math.inf)
    for _ in range(400):
        state = advance_tapping(*state, distance, 0.05, 0, table)
    for first in range(0, cycles - 6, 6):  # six cycles are 20 us
        state = advance_tapping(*state, distance - rise[first + 3], 6 / tau, 0, table)
        assert math.hypot(*state[:2]) == pytest.approx(seen.amplitude_nm[first + 5], abs=error)


@pytest.mark.parametrize(
    ("lever", "free", "material"),
    [(AIR, 20.0, SILICA), (SOFTER, 20.0, POLYMER), (LIQUID, 5.0, PROTEIN)],
)
def test_swing_comes_to_rest_on_the_approach_curve(lever, free, material):
    """Where it settles, in steps long or short, is what the balances say."""
    curve = curve_of(lever, free, material)
    table = table_of(lever, free, material)
    for distance in (0.2 * free, 0.6 * free, 0.9 * free, free + 2.0):
        for step in (0.02, 0.3):
            start = swing(at(curve, distance, "amplitude_nm"), at(curve, distance, "phase_deg"))
            state = (*start, 0.0, 0.0, math.inf)
            for _ in range(math.ceil(12 / step)):
                state = advance_tapping(*state, distance, step, 0, table)
            u, v = state[:2]
            assert math.hypot(u, v) == pytest.approx(at(curve, distance, "amplitude_nm"), abs=0.01)
            assert 90.0 + math.degrees(math.atan2(v, u)) == pytest.approx(
                at(curve, distance, "phase_deg"), abs=0.15
            )


def test_crash_stills_the_lever():
    """Deep below the surface the amplitude dies."""
    for lever, free, material in ((AIR, 20.0, SILICA), (LIQUID, 5.0, PROTEIN)):
        table = table_of(lever, free, material)
        state = free, 0.0, 0.0, 0.0, math.inf
        amplitudes = []
        for _ in range(400):
            state = advance_tapping(*state, -3.0 * free, 0.05, 0, table)
            amplitudes.append(math.hypot(*state[:2]))
        assert max(amplitudes) <= free
        assert amplitudes[-1] < 0.05 * free


# ---- refusals ----


def test_bad_input_is_refused():
    """Radii, amplitudes, steps, distances that mean nothing."""
    with pytest.raises(ValueError, match="positive"):
        approach_curve(AIR, 0.0, 10.0, SILICA)
    with pytest.raises(ValueError, match="positive"):
        tapping_table(AIR, 20.0, -1.0, [SILICA])
    with pytest.raises(ValueError, match="materials"):
        tapping_table(AIR, 20.0, 10.0, [])
    with pytest.raises(ValueError, match="one value a cycle"):
        follow(AIR, 20.0, 10.0, SILICA, np.array([np.nan]))
    with pytest.raises(ValueError, match="100 or more"):
        follow(AIR, 20.0, 10.0, SILICA, np.ones(3), steps=10)
    with pytest.raises(ValueError, match="stiff"):
        follow(LIQUID, 20.0, 10.0, hertzian(1e3), np.full(20, -20.0), steps=100)
    with pytest.raises(ValueError, match="positive"):
        follow(AIR, -20.0, 10.0, SILICA, np.ones(3))


# ---- wider sweep ----


@pytest.mark.slow
@pytest.mark.parametrize("quality", [20.0, 40.0, 150.0, 400.0])
@pytest.mark.parametrize(
    ("stiffness", "free", "adhesion", "more"),
    [(40.0, 20.0, 50.0, 0.0), (2.0, 50.0, 50.0, 0.0), (2.0, 10.0, 1.0, 0.0), (0.1, 5.0, 1.0, 0.01)],
)
@pytest.mark.parametrize("modulus", [0.1, 1.0, 10.0, 100.0])
def test_stated_error_of_averaging(stiffness, free, adhesion, more, quality, modulus):
    """Amplitudes within 0.75 / Q + 0.05 % of A0, from 0.3 to 0.9 A0; 1 % more for k = 0.1 N/m."""
    lever = Cantilever(stiffness_n_per_m=stiffness, resonance_khz=70.0, quality_factor=quality)
    material = Material(modulus_gpa=modulus, poisson_ratio=0.3, work_of_adhesion_mj_per_m2=adhesion)
    curve = curve_of(lever, free, material)
    for share in (0.3, 0.5, 0.7, 0.9):
        seen = settled(lever, free, 10.0, material, share * free, curve)
        off = abs(at(curve, share * free, "amplitude_nm") - seen["amplitude_nm"])
        assert off < (0.75 / quality + 5e-4 + more) * free
