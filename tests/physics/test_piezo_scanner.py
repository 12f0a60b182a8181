"""The raster of a probe microscope, and what a piezo scanner makes of it."""

import math
import pickle

import numpy as np
import pytest
from pydantic import ValidationError

from nanophantom.simcore.environment import Drift, Vibration
from nanophantom.simcore.probes.line_scan import LineScan
from nanophantom.simcore.probes.piezo_scanner import PiezoScanner, ScannerMotion
from nanophantom.simcore.runs import Run

SMALL = {"width_px": 32, "height_px": 16, "pixel_size_nm": 2.0, "line_rate_hz": 2.0}
EVERYTHING = {
    "drift": Drift(
        speed_nm_per_s=0.3,
        walk_nm_per_sqrt_s=0.1,
        settling_nm=2.0,
        settling_time_s=20.0,
        vibrations=(Vibration(frequency_hz=30.0, amplitude_nm=0.2),),
    ),
    "z_speed_nm_per_s": 0.1,
    "z_settling_nm": 3.0,
    "hysteresis_percent": 2.0,
    "hysteresis_growth_percent": 10.0,
    "creep_percent_per_decade": 1.5,
    "moved_before_nm": (400.0, -300.0),
    "bow_nm": 50.0,
    "coupling_percent": 1.0,
    "tilt_x_deg": 1.0,
    "tilt_y_deg": -0.5,
    "ringing_nm": 1.0,
    "line_jitter_nm": 0.5,
}


def moving(seed: int = 1, scan: dict | None = None, **scanner) -> ScannerMotion:
    return PiezoScanner(**scanner).motion(LineScan(**(SMALL | (scan or {}))), Run(seed).rng)


# --- the raster ---------------------------------------------------------------------------------


@pytest.mark.parametrize("slow_axis", ["down", "up", "alternate"])
def test_pixels_of_both_ways_and_all_directions_lie_on_the_raster(slow_axis: str) -> None:
    """x exactly; y within the ramp of a line, whose mean is the row, in every frame."""
    scan = LineScan(**SMALL, slow_axis=slow_axis, n_frames=3, pixel_size_y_nm=3.0)
    x, y = scan.raster_nm()
    for frame in range(3):
        at_x, at_y = scan.nominal(frame)
        for image in scan.as_images(at_x, frame):
            assert np.array_equal(image, np.broadcast_to(x, scan.shape))
        assert np.allclose(at_y.mean(axis=1)[:: scan.direction(frame)], y, atol=1e-12)
        trace, retrace = scan.as_images(at_y, frame)
        sense = scan.direction(frame)
        assert np.allclose((trace - y[:, None]).mean(), -0.25 * 3.0 * sense, atol=1e-12)
        assert np.allclose((retrace - y[:, None]).mean(), 0.25 * 3.0 * sense, atol=1e-12)
        lines, _ = scan.as_images(np.arange(16)[:, None] * np.ones(scan.knots), frame)
        assert np.array_equal(lines[scan.rows(frame), 0], np.arange(16))


def test_the_tip_runs_at_one_speed_through_all_lines_of_a_frame() -> None:
    """Neighbouring knots are one step apart but at the turns, where they are one place."""
    scan = LineScan(**SMALL)
    x, y = (a.ravel() for a in scan.nominal(0))
    steps = np.abs(np.diff(x))
    turns = np.arange(scan.knots_a_way, x.size, scan.knots_a_way) - 1
    assert np.array_equal(np.flatnonzero(steps == 0.0), turns)
    assert np.allclose(np.delete(steps, turns), 2.0, atol=1e-12)
    assert np.allclose(np.diff(y), 2.0 / scan.knots, atol=1e-12)
    assert scan.speed_um_per_s(0) == pytest.approx(2e-3 / scan.knot_s(0), rel=1e-12)


def test_the_slow_axis_that_alternates_goes_on_where_it_was() -> None:
    scan = LineScan(**SMALL, slow_axis="alternate", n_frames=2)
    assert scan.nominal(0)[1][-1, -1] == pytest.approx(scan.nominal(1)[1][0, 0], abs=1e-12)


def test_times_run_on_through_frames_of_different_rates_and_pauses() -> None:
    scan = LineScan(**(SMALL | {"line_rate_hz": (2.0, 8.0)}), n_frames=2, pause_s=3.0)
    assert scan.starts_s.tolist() == [0.0, 11.0, 16.0]
    first, second = scan.times_s(0), scan.times_s(1)
    assert np.allclose(np.diff(first.ravel()), 0.5 / scan.knots)
    assert np.allclose(second[0, 0], 11.0 + 0.125 / scan.knots / 2)
    assert first[-1, -1] == pytest.approx(8.0 - 0.25 / scan.knots)


def test_a_turned_raster_is_the_raster_turned_and_its_window_holds_it() -> None:
    """By 90 degrees lines run down and follow one another to the left."""
    scan = LineScan(**SMALL, angle_deg=90.0, offset_nm=(100.0, -50.0))
    straight = LineScan(**SMALL)
    (x, y), (along, across) = scan.nominal(0), straight.nominal(0)
    assert np.allclose(y + 50.0, along, atol=1e-9)
    assert np.allclose(x - 100.0, -across, atol=1e-9)
    for angle in (0.0, 30.0, 90.0, 200.0):
        turned = LineScan(**SMALL, angle_deg=angle, offset_nm=(5.0, 7.0))
        assert turned.window.holds(*turned.nominal(0)).all()
        assert turned.window.width_nm < 84.0  # diagonal of 72 nm x 32 nm + margin: 79 nm


def test_what_makes_no_raster_is_refused() -> None:
    with pytest.raises(ValidationError, match="2 rates for 3 frames"):
        LineScan(line_rate_hz=(1.0, 2.0), n_frames=3)
    with pytest.raises(ValueError, match="no frame 1; frames are 0 to 0"):
        LineScan().times_s(1)
    with pytest.raises(ValueError, match=r"not \(lines, knots\)"):
        LineScan(**SMALL).as_images(np.zeros((16, 32)), 0)
    with pytest.raises(ValidationError):
        LineScan(line_rate_hz=0.0)
    assert LineScan(line_rate_hz=("500 mHz",)).line_rate_hz == (0.5,)


# --- the scanner --------------------------------------------------------------------------------


def test_a_perfect_scanner_follows_the_raster_to_the_last_bit() -> None:
    motion = moving()
    path, (x, y) = motion.path(0), motion.scan.nominal(0)
    assert np.array_equal(path.x_nm, x)
    assert np.array_equal(path.y_nm, y)
    assert not path.z_nm.any()
    assert not any(field.any() for field in motion.distortion(0).values())


def test_creep_has_its_published_value() -> None:
    """L(t) = L (1 + g lg(t / 0.1 s)): PI Ceramic, piezo tutorial; g = .015, t = 100 s -> 1.045."""
    scanner = PiezoScanner(creep_percent_per_decade=1.5)
    assert 1.0 + float(scanner.creep_nm(1.0, 100.0)) == pytest.approx(1.045, abs=1e-12)
    assert float(scanner.creep_nm(1.0, 0.1)) == 0.0
    assert float(scanner.creep_nm(1.0, 0.02)) == 0.0


def test_the_move_to_the_area_creeps_through_the_frames() -> None:
    """Along its own direction, counted from its own time; the slow axis' creep is taken off."""
    knobs = {"creep_percent_per_decade": 1.5, "waited_s": 10.0}
    after = moving(moved_before_nm=(400.0, -300.0), scan={"n_frames": 2}, **knobs)
    rested = moving(scan={"n_frames": 2}, **knobs)
    for frame in range(2):
        moved, still = after.path(frame), rested.path(frame)
        expected = 0.015 * np.log10((moved.t_s + 10.0) / 0.1)
        np.testing.assert_allclose(moved.x_nm - still.x_nm, 400.0 * expected, atol=1e-6)
        np.testing.assert_allclose(moved.y_nm - still.y_nm, -300.0 * expected, atol=1e-6)


def test_the_slow_axis_creeps_as_a_sum_of_small_moves_would() -> None:
    """Ramps and flybacks of five frames against 60 000 small moves, each creeping by itself."""
    scan = {"n_frames": 5, "slow_axis": "down", "pause_s": 1.5}
    motion = moving(creep_percent_per_decade=2.0, scan=scan)
    length, ramp_s, period_s = 16 * 2.0, 8.0, 9.5
    n = 12_000
    path = motion.path(4)
    crept = motion.distortion(4)["dy_nm"]
    for line in (0, 1, 7, 15):
        t = path.t_s[line, motion.scan.n_over]
        total = 0.0
        for frame in range(5):
            began = frame * period_s + (np.arange(n) + 0.5) / n * ramp_s
            since = t - began
            total += (length / n * np.log10(np.maximum(since, 0.1) / 0.1)).sum()
            flyback = -length if frame else -length / 2  # the first one from the middle
            total += flyback * math.log10((t - frame * period_s + 1.5) / 0.1)
        assert crept[line, 0] == pytest.approx(0.02 * total, abs=2e-5)  # of 1.3 nm


def test_flybacks_bend_the_first_line_and_alternating_frames_have_none() -> None:
    """g L lg(t / 0.1 s) is steep just after the flyback; ramps, old and new, undo a little."""
    bend = {}
    for slow_axis in ("down", "alternate"):
        scan = {"n_frames": 2, "pause_s": 0.1, "slow_axis": slow_axis}
        motion = moving(creep_percent_per_decade=2.0, scan=scan)
        crept = motion.path(1).y_nm[0] - motion.scan.nominal(1)[1][0]
        bend[slow_axis] = crept[-1] - crept[0]
    assert bend["down"] == pytest.approx(-0.02 * 32.0 * math.log10(0.6 / 0.1), rel=0.2)
    assert abs(bend["alternate"]) < 0.2 * abs(bend["down"])


def test_frames_do_not_creep_away_for_ever() -> None:
    """Ramps undo flybacks: the distortion of the 40th frame is that of the 20th within 0.5 %."""
    motion = moving(creep_percent_per_decade=2.0, scan={"n_frames": 41})
    at_20, at_40 = (motion.distortion(i)["dy_nm"] for i in (20, 40))
    assert np.abs(at_40 - at_20).max() < 0.005 * np.abs(at_20).max()


def play(drive: np.ndarray, threshold: float, state: float) -> np.ndarray:
    """A play operator, followed from sample to sample."""
    out = np.empty_like(drive)
    for i, x in enumerate(drive):
        state = min(max(state, x - threshold), x + threshold)
        out[i] = state
    return out


@pytest.mark.parametrize("travel", [20.0, 50.0, 100.0])
def test_hysteresis_is_that_of_evenly_spread_play_operators(travel: float) -> None:
    """A Prandtl-Ishlinskii sum with the same weights at all travels: loop in proportion to its
    square. The independent sum has 400 thresholds; it is scaled to reach the turning points."""
    density, amplitude = 0.004, travel / 2  # 1/nm, full range 100 nm
    there = np.linspace(-amplitude, amplitude, 81)
    cycle = np.concatenate([there, there[::-1]])
    step = 50.0 / 400
    thresholds = (np.arange(400) + 0.5) * step
    lone = 1.0 - density * amplitude / 2  # the share without hysteresis: turning points stay put
    summed = lone * cycle
    for r in thresholds[thresholds < amplitude]:
        summed += density * step * play(np.tile(cycle, 2), r, 0.0)[cycle.size :]
    # width of the loop w A^2 / 2 with A = travel / 2; of the travel at full range: w range / 8
    scanner = PiezoScanner(range_um=0.1, hysteresis_growth_percent=100 * density * 100.0 / 8)
    ways = np.repeat([1, -1], there.size)
    ours = cycle + scanner.hysteresis_nm(cycle, ways, travel)
    assert np.abs(ours - summed).max() < 2e-3 * travel * density * travel


def test_hysteresis_grows_from_small_to_large_travel_as_ceramics_do() -> None:
    """2 % of a small travel, 10 to 15 % of a large one (PI Ceramic, piezo tutorial), as found
    between trace and retrace; turning points stay."""
    knobs = {"hysteresis_percent": 2.0, "hysteresis_growth_percent": 10.0}
    found = {}
    for pixel_nm in (2.0, 2700.0):
        scan = {"pixel_size_nm": pixel_nm, "width_px": 33}
        motion = moving(scan=scan, **knobs)
        path = motion.path(0)
        trace, retrace = motion.scan.as_images(path.x_nm, 0)
        travel = motion.scan.travel_nm[1]
        found[pixel_nm] = 100 * (retrace - trace).max() / travel
        assert np.argmax(retrace[0] - trace[0]) == 16
        assert np.abs(path.x_nm).max() < travel / 2
    assert found[2.0] == pytest.approx(2.0, abs=0.01)
    assert 10.0 < found[2700.0] < 15.0


def test_hysteresis_pulls_frames_down_and_up_apart() -> None:
    """The slow axis lags either way: opposite displacements amid the frame."""
    motion = moving(scan={"slow_axis": "alternate", "n_frames": 2}, hysteresis_percent=4.0)
    down, up = (motion.distortion(i)["dy_nm"] for i in range(2))
    assert np.allclose(down + up[:, ::-1], 0.0, atol=0.1)
    assert down.min() == pytest.approx(-0.02 * 32.0, rel=0.01)
    assert up.max() == pytest.approx(0.02 * 32.0, rel=0.01)


@pytest.mark.parametrize(("slow_axis", "sense"), [("down", 1.0), ("up", -1.0)])
def test_drift_strains_the_slow_axis_by_the_ratio_of_speeds(slow_axis: str, sense: float) -> None:
    """1 nm/min, 256 lines at 1 Hz: 4.27 nm over the frame; the strain changes sign with the way."""
    drift = Drift(speed_nm_per_s=1 / 60, direction_deg=90.0)
    scan = LineScan(width_px=16, height_px=256, pixel_size_nm=2.0, slow_axis=slow_axis)
    motion = PiezoScanner(drift=drift).motion(scan, Run(1).rng)
    y, (_, nominal) = motion.path(0).y_nm, scan.nominal(0)
    moved = (y - nominal).ravel()
    full = (moved[0] - moved[-1]) * (256 * scan.knots) / (256 * scan.knots - 1)
    assert full == pytest.approx(4.27, rel=1e-3)
    strain = np.polyfit(nominal.ravel(), y.ravel(), 1)[0] - 1.0
    v_slow = 2.0 * 1.0  # nm/s
    assert strain == pytest.approx(-sense * (1 / 60) / v_slow, rel=1e-9)
    assert np.allclose(motion.path(0).x_nm, scan.nominal(0)[0], atol=1e-12)


def test_drift_and_settling_in_z_have_their_closed_form() -> None:
    motion = moving(z_speed_nm_per_s=-0.2, z_settling_nm=5.0, z_settling_time_s=4.0)
    path = motion.path(0)
    expected = -0.2 * path.t_s + 5.0 * (1.0 - np.exp(-path.t_s / 4.0))
    np.testing.assert_allclose(path.z_nm, expected, atol=1e-12)
    table = motion.table()
    np.testing.assert_allclose(table["drift_z_nm"], motion.z_drift_nm(table["t_s"]))


def test_bow_and_tilt_are_the_heights_they_name() -> None:
    """Bow belongs to the scanner, tilt to the specimen, which takes it along when it drifts."""
    scan = {"offset_nm": (4e4, 1e4)}
    bowed = moving(scan=scan, bow_nm=80.0, drift=Drift(speed_nm_per_s=100.0, direction_deg=0.0))
    x, y = bowed.scan.nominal(0)
    np.testing.assert_allclose(bowed.path(0).z_nm, 80.0 * (x**2 + y**2) / 5e4**2, rtol=1e-12)
    tilted = moving(tilt_x_deg=2.0, tilt_y_deg=-1.0, drift=Drift(speed_nm_per_s=3.0))
    path = tilted.path(0)
    plane = math.tan(math.radians(2.0)) * path.x_nm - math.tan(math.radians(1.0)) * path.y_nm
    np.testing.assert_allclose(path.z_nm, plane, atol=1e-12)


def test_coupling_shears_the_image_of_a_grating() -> None:
    """Each axis takes its part of the other: a symmetric shear, determinant 1 - c^2."""
    motion = moving(coupling_percent=3.0)
    path, (x, y) = motion.path(0), motion.scan.nominal(0)
    np.testing.assert_allclose(path.x_nm, x + 0.03 * y, atol=1e-12)
    np.testing.assert_allclose(path.y_nm, y + 0.03 * x, atol=1e-12)


def test_ringing_is_the_sum_over_all_turns_before() -> None:
    """Against damped sines added up over 400 turns, each of the other sign."""
    motion = moving(ringing_nm=1.5, ringing_hz=37.0, ringing_damping=0.03)
    scan, w = motion.scan, 2 * math.pi * 37.0
    after_turn = (np.arange(scan.knots_a_way) + 0.5) * scan.knot_s(0)
    expected = np.zeros(scan.knots_a_way)
    for turn in range(400):
        t = after_turn + turn * 0.25
        wave = np.exp(-0.03 * w * t) * np.sin(math.sqrt(1 - 0.03**2) * w * t)
        expected += (-1) ** turn * 1.5 * wave
    x = motion.path(0).x_nm - scan.nominal(0)[0]
    np.testing.assert_allclose(x[3, scan.knots_a_way :], expected, atol=1e-11)
    np.testing.assert_allclose(x[3, : scan.knots_a_way], -expected, atol=1e-11)
    assert x[0, scan.knots_a_way] > 0  # it shoots over the right turn to the right


def test_jitter_displaces_whole_lines_by_what_it_says() -> None:
    motion = moving(scan={"height_px": 2000, "width_px": 2}, line_jitter_nm=0.7)
    path, (x, y) = motion.path(0), motion.scan.nominal(0)
    for moved in (path.x_nm - x, path.y_nm - y):
        assert np.allclose(moved, moved[:, :1], atol=1e-10)
        assert moved[:, 0].std() == pytest.approx(0.7, rel=0.07)  # 1 sd is 1.6 %
        assert abs(np.corrcoef(moved[1:, 0], moved[:-1, 0])[0, 1]) < 0.1


def test_each_random_cause_is_drawn_alone() -> None:
    """Turning one off leaves the other's draw as it was, to the last bit."""
    drift = EVERYTHING["drift"]
    both = moving(drift=drift, line_jitter_nm=0.5)
    no_drift, no_jitter = moving(line_jitter_nm=0.5), moving(drift=drift)
    assert np.array_equal(both.jitter_nm, no_drift.jitter_nm)
    t = both.scan.times_s(0)
    assert np.array_equal(both.drift.at(t), no_jitter.drift.at(t))
    assert not np.array_equal(both.jitter_nm, moving(seed=2, line_jitter_nm=0.5).jitter_nm)


def test_a_frame_is_a_pure_function_of_its_number() -> None:
    """In any order, after pickling, in another process' shoes: the same bytes."""
    scan = {"n_frames": 3, "slow_axis": "alternate", "pause_s": 0.5}
    motion = moving(scan=scan, **EVERYTHING)
    again = pickle.loads(pickle.dumps(moving(scan=scan, **EVERYTHING)))
    late = again.path(2)
    for frame in (1, 0, 2):
        one, two = motion.path(frame), again.path(frame)
        for name in ("t_s", "x_nm", "y_nm", "z_nm"):
            assert np.array_equal(getattr(one, name), getattr(two, name))
            assert np.isfinite(getattr(one, name)).all()
    assert np.array_equal(late.x_nm, motion.path(2).x_nm)
    box = motion.window()
    x = np.stack([motion.path(i).x_nm for i in range(3)])
    assert (box.x0_nm, box.x1_nm) == (x.min(), x.max())


def test_truth_tables_hold_a_row_a_line() -> None:
    motion = moving(scan={"n_frames": 2, "slow_axis": "up"}, **EVERYTHING)
    table = motion.table()
    assert {len(column) for column in table.values()} == {32}
    assert table["row"][:3].tolist() == [15, 14, 13]
    dx, dy = motion.drift.at(table["t_s"])
    assert np.array_equal(table["drift_x_nm"], dx)
    assert np.array_equal(table["drift_y_nm"], dy)
    path, (x, y) = motion.path(1), motion.scan.nominal(1)
    field = motion.distortion(1)
    trace, retrace = motion.scan.as_images(path.x_nm - x, 1)
    assert np.array_equal(field["dx_nm"], trace)
    assert np.array_equal(field["dx_retrace_nm"], retrace)
    assert np.array_equal(field["dy_nm"], motion.scan.as_images(path.y_nm - y, 1)[0])


def test_a_scan_beyond_the_range_is_refused() -> None:
    with pytest.raises(ValueError, match="beyond its range of ±500 nm"):
        moving(range_um=1.0, scan={"offset_nm": (480.0, 0.0)})
    with pytest.raises(ValidationError):
        PiezoScanner(waited_s=0.05)
    with pytest.raises(ValidationError):
        PiezoScanner(ringing_damping=1.0)
