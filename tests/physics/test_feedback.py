"""The feedback loop: lags, parachutes, rings and trembles as its equations say."""

import math

import numpy as np
import pytest

from nanophantom.simcore.probes.feedback import (
    Landscape,
    Loop,
    Response,
    Stage,
    follow_line,
    setpoint_distance,
    settled,
    stage_step,
)

FREE_NM = 20.0
STIFF = Stage(resonance_khz=1000.0, quality_factor=1.0)


def hard_wall():
    """Tapping on an infinitely stiff surface: the amplitude is the distance, at most 20 nm."""
    start, step = -5.0, 0.02
    distance = start + step * np.arange(2000)
    amplitude = np.clip(distance, 0.0, FREE_NM)[None]
    phase = np.degrees(np.arcsin(amplitude / FREE_NM))
    none = np.zeros(1)
    return Response(start, step, amplitude, phase, none, none)


def tapping(dt_s=1e-6, integral_per_s=2000.0, setpoint=0.8, stage=STIFF, **changes):
    loop = Loop(
        tapping=True,
        dt_s=dt_s,
        proportional=0.0,
        integral_per_s=integral_per_s,
        setpoint_nm=setpoint * FREE_NM,
        free_nm=FREE_NM,
        stage=stage_step(stage, dt_s),
        low_nm=-1e4,
        high_nm=1e4,
        detected_share=1.0,
        ring_down_s=1e-9,
        thermal_nm=0.0,
        detector_nm=0.0,
    )
    return loop._replace(**changes)


def follow(loop, heights, knot_s, response=None, x=None, delay_s=0.0, seed=1):
    """Follow a profile sampled at every knot; return stage, detected, phase, felt, over time."""
    response = response or hard_wall()
    profile = np.asarray(heights, np.float64)
    land = Landscape(
        0.0, 0.0, 1.0, 1.0, np.repeat(profile[None], 2, axis=0), np.zeros((2, len(profile)), "u1")
    )
    x = np.arange(len(profile), dtype=np.float64) if x is None else x
    state = settled(loop, response, float(profile[0]), 0, delay_s)
    out = np.empty((4, len(x)))
    none = np.zeros(len(x))
    thermal, noise = np.random.default_rng(seed), np.random.default_rng(seed + 1)
    steps = round(knot_s / loop.dt_s)
    follow_line(
        loop, response, land, x, none, none, steps, state.values, state.drives, thermal, noise, out
    )
    return out


@pytest.mark.parametrize(("setpoint", "rate"), [(0.9, -4000.0), (0.7, -12000.0), (0.55, -18000.0)])
def test_parachuting_tip_comes_down_at_the_saturated_rate(setpoint, rate):
    """Free over a pit the error is A0 - Asp, so dz/dt = -Ki (A0 - Asp) (row 36, ME12)."""
    profile = np.where(np.arange(400) < 100, 200.0, 0.0)
    stage = follow(tapping(setpoint=setpoint), profile, 1e-3)[0]
    speed = np.diff(stage)[105:109] / 1e-3
    np.testing.assert_allclose(speed, rate, rtol=1e-6)


@pytest.mark.parametrize(("setpoint", "depth"), [(0.9, 100.0), (0.7, 60.0)])
def test_length_of_the_tail_behind_a_step_down(setpoint, depth):
    """Height - (A0 - Asp) is fallen freely at Ki (A0 - Asp): the time until the tip lands."""
    ki, gap = 2000.0, FREE_NM * (1 - setpoint)
    profile, knot_s = np.where(np.arange(2000) < 100, depth, 0.0), 2e-5
    _, detected, _, _ = follow(tapping(setpoint=setpoint), profile, knot_s)
    landed = np.flatnonzero(detected[101:] < FREE_NM - 1e-6)[0] * knot_s
    np.testing.assert_allclose(landed, (depth - gap) / (ki * gap), rtol=0.02)


@pytest.mark.parametrize("frequency_hz", [50.0, 318.31, 900.0])
def test_error_of_a_sine_is_that_of_an_integral_loop(frequency_hz):
    """Error over height = f / sqrt(f^2 + fc^2) with fc = Ki / 2 pi (row 37)."""
    knots_a_period = 100
    n = 40 * knots_a_period
    amplitude = 0.5
    profile = amplitude * np.sin(2 * np.pi * np.arange(n) / knots_a_period)
    knot_s = 1.0 / (frequency_hz * knots_a_period)
    loop = tapping(dt_s=knot_s / 40)
    _, detected, _, _ = follow(loop, profile, knot_s)
    late = detected[n // 2 :] - loop.setpoint_nm
    corner = 2000.0 / (2 * np.pi)
    wanted = amplitude * frequency_hz / math.hypot(frequency_hz, corner)
    np.testing.assert_allclose(np.sqrt(2) * late.std(), wanted, rtol=0.01)


def test_lag_on_a_ramp():
    """Behind a slope s the stage lags by v s / Ki (row 37)."""
    slope, knot_s, ki = 0.3, 1e-3, 2000.0
    stage, _, _, felt = follow(tapping(integral_per_s=ki), slope * np.arange(300), knot_s)
    lag = (felt - stage)[200] + 16.0  # at rest the lever is the set point above the surface
    np.testing.assert_allclose(lag, slope / knot_s / ki, rtol=0.01)


def test_trace_and_retrace_are_shifted_by_twice_the_lag():
    """There and back over a gentle wave the images are 2 v / Ki apart (row 37)."""
    n, knot_s, ki = 400, 2e-4, 2000.0
    wave = 0.05 * np.sin(2 * np.pi * np.arange(n) / 100)
    there = np.arange(n, dtype=np.float64)
    x = np.concatenate([np.tile(np.concatenate([there, there[::-1]]), 3)])
    stage = follow(tapping(integral_per_s=ki), wave, knot_s, x=x)[0]
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
        loop = tapping(dt, ki, detected_share=-math.expm1(-dt / tau))
        stage = follow(loop, profile, 1e-4)[0] - 16.0
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
    loop = tapping(low_nm=-40.0, high_nm=36.0)
    stage = follow(loop, profile, 1e-3)[0]
    np.testing.assert_allclose(stage[100:245], 36.0, atol=1e-6)  # 46 would keep the set point
    np.testing.assert_allclose(stage[-1], 16.0, atol=1e-6)


def test_delay_moves_the_answer():
    """A loop whose drive is late by n steps answers n steps later."""
    profile = np.where(np.arange(60) < 20, 0.0, 1.0)
    prompt = follow(tapping(1e-4, 100.0), profile, 1e-4)[0]
    late = follow(tapping(1e-4, 100.0), profile, 1e-4, delay_s=5e-4)[0]
    first = [np.flatnonzero(np.abs(s - 16.0) > 1e-9)[0] for s in (prompt, late)]
    assert first[1] - first[0] == 5


def test_free_lever_trembles_as_equipartition_says():
    """A free lever's amplitude scatters by sqrt(kT / k) and forgets in 2 Q / omega."""
    tau, rms, dt = 5e-4, 0.3, 5e-5
    response = hard_wall()
    free = response._replace(near=np.full_like(response.near, FREE_NM))
    loop = tapping(dt, 0.0, 1.0, setpoint_nm=FREE_NM, ring_down_s=tau, thermal_nm=rms)
    detected = follow(loop, np.zeros(200_000), dt, response=free)[1] - FREE_NM
    correlation_steps = 2 * tau / dt
    np.testing.assert_allclose(
        detected.std(), rms, rtol=4 * math.sqrt(correlation_steps / 200_000 / 2)
    )
    lag = round(tau / dt)
    np.testing.assert_allclose(
        np.mean(detected[lag:] * detected[:-lag]) / detected.var(), math.exp(-1), atol=0.03
    )


def test_contact_loop_keeps_the_force_and_jumps_off():
    """A soft branch table: the touching lever lets go at the one distance and snaps at another."""
    start, step = -30.0, 0.05
    at = start + step * np.arange(1600)
    touching, free = (-at)[None], np.zeros((1, 1600))
    response = Response(start, step, touching, free, np.array([5.0]), np.array([1.0]))
    loop = tapping(tapping=False, setpoint_nm=3.0, dt_s=1e-5)
    assert setpoint_distance(loop, response, 0) == pytest.approx(-3.0)
    # A pit of 4 nm: the lever's deflection falls from 3 to -1 nm, still touching (lets go at 5).
    pit = np.where(np.arange(200) < 100, 4.0, 0.0)
    _, deflection, _, _ = follow(loop, pit, 1e-5, response=response)
    assert deflection[100] == pytest.approx(-1.0, abs=0.05)
    # A pit of 20 nm: it hangs free, and the loop brings it down at Ki * 3 nm.
    pit = np.where(np.arange(400) < 100, 20.0, 0.0)
    stage, deflection, _, _ = follow(loop, pit, 1e-4, response=response)
    assert deflection[105] == 0.0
    np.testing.assert_allclose(np.diff(stage)[105:115] / 1e-4, -6000.0, rtol=1e-6)


def test_an_unreachable_set_point_is_refused():
    """The amplitude never falls to a set point below what the table holds."""
    response = hard_wall()
    with pytest.raises(ValueError, match="never reached"):
        setpoint_distance(tapping(setpoint=1.01), response, 0)
