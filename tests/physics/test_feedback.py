"""The feedback loop: lags, parachutes, rings and trembles as its equations say."""

import math

import numpy as np
import pytest

from nanophantom.simcore.probes.cantilever import Cantilever
from nanophantom.simcore.probes.feedback import (
    ContactTable,
    Landscape,
    Loop,
    Stage,
    distance_at,
    drawn_noise,
    settled,
    stage_step,
)
from nanophantom.simcore.probes.loop_kernels import follow_line
from nanophantom.simcore.probes.tapping_swing import TappingTable, tapping_table
from nanophantom.simcore.surfaces import Material

SETPOINT_NM = 16.0
STIFF = Stage(resonance_khz=1000.0, quality_factor=1.0)
NO_TAPPING = TappingTable(np.zeros((1, 1, 2, 2)), False, 0.0, 1.0, 0.0, 1.0)
START_NM, STEP_NM, SAMPLES = -400.0, 0.5, 1600


def wall(lets_go_nm=300.0, snaps_nm=300.0):
    """An infinitely stiff surface: a touching lever is bent by just what it is pushed."""
    distance = START_NM + STEP_NM * np.arange(SAMPLES)
    ends = np.array([lets_go_nm]), np.array([snaps_nm])
    return ContactTable(START_NM, STEP_NM, -distance[None], np.zeros((1, SAMPLES)), *ends)


def loop_of(dt_s=1e-6, integral_per_s=2000.0, setpoint_nm=SETPOINT_NM, stage=STIFF, **changes):
    loop = Loop(
        tapping=False,
        dt_s=dt_s,
        proportional=0.0,
        integral_per_s=integral_per_s,
        setpoint_nm=setpoint_nm,
        stage=stage_step(stage, dt_s),
        low_nm=-1e4,
        high_nm=1e4,
        detected_share=1.0,
        ring_down_s=1e-3,
        thermal_nm=0.0,
        shaken_every=1,
        detector_nm=0.0,
    )
    return loop._replace(**changes)


def follow(loop, heights, knot_s, contact=None, x=None, delay_s=0.0, tapping=NO_TAPPING, rest=None):
    """Follow a profile sampled at every knot; return stage, detected, phase, felt, over time."""
    profile = np.asarray(heights, np.float64)
    land = Landscape(
        0.0,
        0.0,
        1.0,
        1.0,
        np.repeat(profile[None], 2, axis=0),
        np.zeros((2, len(profile)), "u1"),
        np.zeros(1),
    )
    x = np.arange(len(profile), dtype=np.float64) if x is None else x
    rest = float(profile[0]) - loop.setpoint_nm if rest is None else rest
    state = settled(loop, rest, 90.0, delay_s)
    out = np.empty((4, len(x)))
    none = np.zeros(len(x))
    steps = round(knot_s / loop.dt_s)
    normal = drawn_noise(loop, len(x) * steps, np.random.default_rng(1), np.random.default_rng(2))
    follow_line(
        loop, tapping, contact or wall(), land, x, none, none, steps, state.values, state.drives,
        *normal, out,
    )  # fmt: skip
    return out


@pytest.mark.parametrize("setpoint_nm", [2.0, 6.0, 9.0])
def test_parachuting_tip_comes_down_at_the_saturated_rate(setpoint_nm):
    """Free over a pit the error is the whole set point, so dz/dt = -Ki times it (row 36, ME12)."""
    profile = np.where(np.arange(400) < 100, 200.0, 0.0)
    clingless = wall(lets_go_nm=0.0, snaps_nm=0.0)
    stage = follow(loop_of(setpoint_nm=setpoint_nm), profile, 1e-3, clingless)[0]
    speed = np.diff(stage)[103:107] / 1e-3
    np.testing.assert_allclose(speed, -2000.0 * setpoint_nm, rtol=1e-6)


@pytest.mark.parametrize(("setpoint_nm", "depth"), [(2.0, 100.0), (6.0, 60.0)])
def test_length_of_the_tail_behind_a_step_down(setpoint_nm, depth):
    """Depth less the set point is fallen freely at Ki times it: the time until the tip lands."""
    ki = 2000.0
    profile, knot_s = np.where(np.arange(2000) < 100, depth, 0.0), 2e-5
    loop = loop_of(setpoint_nm=setpoint_nm)
    detected = follow(loop, profile, knot_s, wall(lets_go_nm=0.0, snaps_nm=0.0))[1]
    landed = np.flatnonzero(detected[101:] > 1e-6)[0] * knot_s
    np.testing.assert_allclose(landed, (depth - setpoint_nm) / (ki * setpoint_nm), rtol=0.02)


@pytest.mark.parametrize("frequency_hz", [50.0, 318.31, 900.0])
def test_error_of_a_sine_is_that_of_an_integral_loop(frequency_hz):
    """Error over height = f / sqrt(f^2 + fc^2) with fc = Ki / 2 pi (row 37)."""
    knots_a_period = 100
    n = 40 * knots_a_period
    amplitude = 0.5
    profile = amplitude * np.sin(2 * np.pi * np.arange(n) / knots_a_period)
    knot_s = 1.0 / (frequency_hz * knots_a_period)
    loop = loop_of(dt_s=knot_s / 40)
    _, detected, _, _ = follow(loop, profile, knot_s)
    late = detected[n // 2 :] - loop.setpoint_nm
    corner = 2000.0 / (2 * np.pi)
    wanted = amplitude * frequency_hz / math.hypot(frequency_hz, corner)
    np.testing.assert_allclose(np.sqrt(2) * late.std(), wanted, rtol=0.01)


def test_lag_on_a_ramp():
    """Behind a slope s the stage lags by v s / Ki (row 37)."""
    slope, knot_s, ki = 0.3, 1e-3, 2000.0
    stage, _, _, felt = follow(loop_of(integral_per_s=ki), slope * np.arange(300), knot_s)
    lag = (felt - stage)[200] - 16.0  # at rest the lever is bent by the set point
    np.testing.assert_allclose(lag, slope / knot_s / ki, rtol=0.01)


def test_trace_and_retrace_are_shifted_by_twice_the_lag():
    """There and back over a gentle wave the images are 2 v / Ki apart (row 37)."""
    n, knot_s, ki = 400, 2e-4, 2000.0
    wave = 0.05 * np.sin(2 * np.pi * np.arange(n) / 100)
    there = np.arange(n, dtype=np.float64)
    x = np.concatenate([np.tile(np.concatenate([there, there[::-1]]), 3)])
    stage = follow(loop_of(integral_per_s=ki), wave, knot_s, x=x)[0]
    trace, retrace = stage[4 * n : 5 * n], stage[5 * n :][::-1]
    inside = np.arange(50, 350)  # three waves, away from the turns
    waves = np.exp(2j * np.pi * inside / 100)
    turn = np.angle((retrace[inside] * waves).sum() / (trace[inside] * waves).sum())
    shift = turn / (2 * np.pi) * 100
    exact = 2 * math.atan(2 * np.pi / 100 / knot_s / ki) / (2 * np.pi) * 100
    np.testing.assert_allclose(abs(shift), exact, rtol=0.01)
    np.testing.assert_allclose(exact, 2 / (knot_s * ki), rtol=0.04)  # 2 v tau where it is small


def test_loop_rings_where_its_gain_passes_the_detectors_lag():
    """An integral loop behind a low pass of tau: poles s^2 tau + s + Ki = 0 (closed form).

    The step's overshoot is exp(-pi z / sqrt(1 - z^2)) with z = 1 / (2 sqrt(Ki tau)).
    """
    tau, dt = 2e-3, 1e-6
    profile = np.where(np.arange(400) < 50, 0.0, 1.0)
    for ki in (500.0, 2000.0):
        loop = loop_of(dt, ki, detected_share=-math.expm1(-dt / tau))
        stage = follow(loop, profile, 1e-4)[0] + 16.0
        damping = 0.5 / math.sqrt(ki * tau)
        overshoot = math.exp(-math.pi * damping / math.sqrt(1 - damping**2))
        np.testing.assert_allclose(stage.max() - 1.0, overshoot, rtol=0.02)


def test_stage_rings_at_its_own_resonance():
    """A kicked stage overshoots by exp(-pi z / sqrt(1 - z^2)), z = 1 / 2Q, half a period later."""
    stage, dt = Stage(resonance_khz=10.0, quality_factor=10.0), 1e-7
    a, b, c, d, e, f = stage_step(stage, dt)
    z, v, path = 0.0, 0.0, []
    for _ in range(2000):
        z, v = a * z + b * v + c, d * z + e * v + f
        path.append(z)
    damping = 1 / 20
    root = math.sqrt(1 - damping**2)
    np.testing.assert_allclose(max(path), 1 + math.exp(-math.pi * damping / root), rtol=1e-5)
    period = 1e-4 / root
    assert abs((np.argmax(path) + 1) * dt - period / 2) <= 2 * dt


def test_steps_of_any_length_move_the_stage_the_same():
    """The step is exact: ten short ones are one long one."""
    stage = Stage(resonance_khz=3.0, quality_factor=4.0)
    long, short = stage_step(stage, 1e-4), stage_step(stage, 1e-5)
    z, v = 0.3, -50.0
    wanted = (long[0] * z + long[1] * v + long[2] * 2.0, long[3] * z + long[4] * v + long[5] * 2.0)
    for _ in range(10):
        z, v = (
            short[0] * z + short[1] * v + short[2] * 2.0,
            short[3] * z + short[4] * v + short[5] * 2.0,
        )
    np.testing.assert_allclose((z, v), wanted, rtol=1e-10)


def test_the_drive_saturates_at_the_ends_of_the_travel():
    """A hill beyond the range is cut there, and the loop comes back without wind-up."""
    profile = np.concatenate([np.zeros(50), np.full(200, 30.0), np.zeros(100)])
    loop = loop_of(low_nm=-40.0, high_nm=4.0)
    stage = follow(loop, profile, 1e-3)[0]
    np.testing.assert_allclose(stage[100:245], 4.0, atol=1e-6)  # 14 would keep the set point
    np.testing.assert_allclose(stage[-1], -16.0, atol=1e-6)


def test_delay_moves_the_answer():
    """A loop whose drive is late by n steps answers n steps later."""
    profile = np.where(np.arange(60) < 20, 0.0, 1.0)
    prompt = follow(loop_of(1e-4, 100.0), profile, 1e-4)[0]
    late = follow(loop_of(1e-4, 100.0), profile, 1e-4, delay_s=5e-4)[0]
    first = [np.flatnonzero(np.abs(s + 16.0) > 1e-9)[0] for s in (prompt, late)]
    assert first[1] - first[0] == 5


def test_free_lever_trembles_as_equipartition_says():
    """A free lever's amplitude scatters by sqrt(kT / k) and forgets in 2 Q / omega (row 18)."""
    lever = Cantilever(stiffness_n_per_m=1.0, resonance_khz=300.0, quality_factor=400.0)
    tau, rms, dt, steps = lever.ring_down_s, lever.thermal_rms_nm, 4e-5, 200_000
    assert rms == pytest.approx(0.06416, rel=1e-3)
    table = tapping_table(lever, 20.0, 10.0, [Material()])
    for every in (1, 2):
        loop = loop_of(
            dt, 0.0, 20.0, tapping=True, ring_down_s=tau, thermal_nm=rms, shaken_every=every
        )
        detected = follow(loop, np.zeros(steps), dt, tapping=table, rest=100.0)[1] - 20.0
        independent = steps * dt / tau
        np.testing.assert_allclose(detected.std(), rms, rtol=4 / math.sqrt(independent))
        lag = round(tau / dt)
        np.testing.assert_allclose(
            np.mean(detected[lag:] * detected[:-lag]) / detected.var(),
            math.exp(-lag * dt / tau),
            atol=0.04,
        )


def test_detector_noise_is_that_of_its_bandwidth():
    """White noise behind a first-order low pass of share s: variance s / (2 - s) of its own."""
    loop = loop_of(1e-5, 0.0, detector_nm=0.5, detected_share=0.3)
    detected = follow(loop, np.zeros(100_000), 1e-5)[1] - SETPOINT_NM
    np.testing.assert_allclose(detected.std(), 0.5 * math.sqrt(0.3 / 1.7), rtol=0.01)


def test_contact_loop_keeps_the_force_and_jumps_off():
    """The touching lever lets go at one distance and snaps in at another."""
    contact = wall(lets_go_nm=5.0, snaps_nm=1.0)
    loop = loop_of(dt_s=1e-5, setpoint_nm=3.0)
    # A pit of 4 nm: the lever's deflection falls from 3 to -1 nm, still touching (lets go at 5).
    pit = np.where(np.arange(200) < 100, 4.0, 0.0)
    deflection = follow(loop, pit, 1e-5, contact)[1]
    assert deflection[100] == pytest.approx(-1.0, abs=0.06)
    # A pit of 20 nm: it hangs free, and the loop brings it down at Ki * 3 nm.
    pit = np.where(np.arange(400) < 100, 20.0, 0.0)
    stage, deflection, _, _ = follow(loop, pit, 1e-4, contact)
    assert deflection[103] == 0.0
    np.testing.assert_allclose(np.diff(stage)[103:112] / 1e-4, -6000.0, rtol=1e-6)


def test_an_unreachable_set_point_is_refused():
    """The amplitude never rises to a set point beyond what the curve holds, nor falls below."""
    distance = np.linspace(0.0, 30.0, 100)
    amplitude = np.clip(distance, 2.0, 20.0)
    assert distance_at(distance, amplitude, 10.0) == pytest.approx(10.0)
    for setpoint in (20.5, 1.0):
        with pytest.raises(ValueError, match="never reached"):
            distance_at(distance, amplitude, setpoint)
