"""Errors of the scanning system, and the path of the probe over a drifting specimen."""

import itertools
import math
import pickle

import numpy as np
import pytest
from pydantic import ValidationError

from nanophantom.instruments._scanning import Scan, ScanPath
from nanophantom.simcore.electrons.cell import Cell
from nanophantom.simcore.environment import Drift
from nanophantom.simcore.runs import Run
from nanophantom.simcore.scan_errors import ScanErrors, ScanTiming, pink_corners_hz

ALL = {
    "mains_nm": (0.05, 0.0, 0.02),
    "noise_nm": 0.03,
    "line_jitter_nm": 0.04,
    "flyback_nm": 0.2,
}


def path(seed: int = 1, drift: Drift | None = None, scan=None, **errors) -> ScanPath:
    shape = {"width_px": 40, "height_px": 24, "n_frames": 2, "pixel_size_nm": 0.1}
    raster = Scan(**(shape | (scan or {})), errors=ScanErrors(**errors))
    return ScanPath.of(raster, drift or Drift(), Run(seed).rng)


def test_a_perfect_scanner_leads_the_probe_exactly_along_its_raster() -> None:
    perfect = path()
    x, y = Scan(width_px=40, height_px=24, pixel_size_nm=0.1).raster_nm()
    assert np.array_equal(perfect.x_nm[1], np.broadcast_to(x, (24, 40)))
    assert np.array_equal(perfect.y_nm[0], np.broadcast_to(y[:, None], (24, 40)))
    assert not perfect.scan_x_nm.any()
    assert perfect.scan_x_nm.base is not None  # a view of one number: takes no memory
    assert not any(perfect.scan_x_nm.strides)


def test_linear_drift_is_exact_at_every_dwell() -> None:
    """Also before the first knot of the walk and after the last one."""
    drift = Drift(speed_nm_per_s=3.0, direction_deg=60.0)
    drifting = path(drift=drift)
    np.testing.assert_allclose(
        drifting.drift_x_nm, 3.0 * math.cos(math.radians(60)) * drifting.t_s, atol=1e-13
    )
    np.testing.assert_allclose(
        drifting.drift_y_nm, 3.0 * math.sin(math.radians(60)) * drifting.t_s, atol=1e-13
    )


def test_the_probe_stands_at_raster_plus_scan_error_less_drift() -> None:
    drift = Drift(speed_nm_per_s=2.0, walk_nm_per_sqrt_s=0.1, settling_nm=1.0)
    both = path(drift=drift, **ALL)
    x, y = Scan(width_px=40, height_px=24, pixel_size_nm=0.1).raster_nm()
    np.testing.assert_allclose(both.x_nm, x + both.scan_x_nm - both.drift_x_nm, atol=1e-14)
    np.testing.assert_allclose(both.y_nm, y[:, None] + both.scan_y_nm - both.drift_y_nm, atol=1e-14)
    table = both.table()
    assert np.array_equal(table["dx_nm"], both.drift_x_nm)
    assert np.array_equal(table["scan_y_nm"], both.scan_y_nm)
    np.testing.assert_allclose(
        table["x_nm"] + table["dx_nm"] - table["scan_x_nm"],
        np.broadcast_to(0.1 * np.arange(40), (2, 24, 40)),
        atol=1e-13,
    )


def test_scan_errors_and_drift_dont_change_each_other() -> None:
    drift = Drift(walk_nm_per_sqrt_s=0.5)
    both, only_drift, only_errors = path(drift=drift, **ALL), path(drift=drift), path(**ALL)
    assert np.array_equal(both.drift_x_nm, only_drift.drift_x_nm)
    assert np.array_equal(both.scan_y_nm, only_errors.scan_y_nm)


@pytest.mark.parametrize("cause", list(ALL))
def test_a_cause_turned_off_leaves_the_others_as_they_were(cause: str) -> None:
    off = () if cause == "mains_nm" else 0.0
    whole, rest, own = path(**ALL), path(**(ALL | {cause: off})), path(**{cause: ALL[cause]})
    np.testing.assert_allclose(whole.scan_x_nm, rest.scan_x_nm + own.scan_x_nm, atol=1e-15)
    np.testing.assert_allclose(whole.scan_y_nm, rest.scan_y_nm + own.scan_y_nm, atol=1e-15)
    assert np.abs(own.scan_x_nm).max() > 0


@pytest.mark.parametrize("hz", [50.0, 60.0])
def test_mains_deflect_at_their_harmonics_with_the_amplitudes_given(hz: float) -> None:
    """A long line without flyback over 0.5 s: its spectrum has the harmonics' lines, no others."""
    n = 5000
    line = path(
        scan={"width_px": n, "height_px": 1, "n_frames": 1, "dwell_us": 100.0, "flyback_us": 0},
        mains_hz=hz, mains_nm=(0.05, 0.0, 0.02), mains_direction_deg=30.0,
    )  # fmt: skip
    for deflection, part in ((line.scan_x_nm, math.sqrt(3) / 2), (line.scan_y_nm, 0.5)):
        amplitude = 2 * np.abs(np.fft.rfft(deflection[0, 0])) / n
        cycles = round(hz * n * 1e-4)
        assert amplitude[cycles] == pytest.approx(0.05 * part, rel=1e-9)
        assert amplitude[3 * cycles] == pytest.approx(0.02 * part, rel=1e-9)
        assert np.delete(amplitude, [cycles, 3 * cycles]).max() < 1e-12


def test_lines_scanned_in_step_with_the_mains_are_all_displaced_alike() -> None:
    """A period of 20 ms a line at 50 Hz: the same displacement at a position of every line."""
    synchronous = path(
        scan={"dwell_us": 400.0, "flyback_us": 4000.0, "n_frames": 1}, mains_nm=(0.1,)
    ).scan_x_nm[0]
    np.testing.assert_allclose(synchronous - synchronous[0], 0.0, atol=1e-11)
    assert np.ptp(synchronous[0]) > 0.01


def pink_density(f: np.ndarray, timing: ScanTiming, rms_nm: float) -> np.ndarray:
    """Return the one-sided spectral density of relaxation processes seen once a dwell, nm^2/Hz.

    Each is an AR(1) process: 2 dt s^2 (1 - r^2) / (1 - 2 r cos(2 pi f dt) + r^2).
    """
    dt, corners = timing.dwell_us * 1e-6, pink_corners_hz(timing)
    r = np.exp(-2 * np.pi * corners * dt)[:, None]
    each = (1 - r**2) / (1 - 2 * r * np.cos(2 * np.pi * f * dt) + r**2)
    return 2 * dt * rms_nm**2 * each.mean(axis=0)


LONG = ScanTiming(100, 4096, 1, 10.0, 0.0)


def test_corner_frequencies_span_frame_to_dwells_and_make_one_over_f() -> None:
    """The density is rms^2 / (M ln r f) within 3 % from ten corners on to a third of the rate."""
    corners = pink_corners_hz(LONG)
    assert corners[0] == pytest.approx(1 / (4096 * 1e-5))
    assert corners[-1] == pytest.approx(0.25 / 1e-5)
    ratio = corners[1] / corners[0]
    assert 1 < ratio <= 4.0 + 1e-9
    np.testing.assert_allclose(corners[1:] / corners[:-1], ratio, rtol=1e-12)
    f = np.geomspace(10 * corners[0], 0.33 / 1e-5, 50)
    law = 0.5**2 / (len(corners) * math.log(ratio) * f)
    np.testing.assert_allclose(pink_density(f, LONG, 0.5), law, rtol=0.033)


def test_pink_noise_has_its_standard_deviation_and_its_spectrum() -> None:
    """Against the closed form in seven bands of 800 records, within 3 %.

    The narrowest band averages 800 x 8 periodogram values, known to 1 / sqrt(6400) = 1.2 %.
    """
    n, dwell_s, density, variance = 4096, 1e-5, np.zeros(2049), []
    for seed in range(4):
        for deflection in ScanErrors(noise_nm=0.5).displacements(LONG, "x", Run(seed).rng):
            density += np.mean(np.abs(np.fft.rfft(deflection)) ** 2, axis=0) / 8
            variance.append(np.mean(deflection**2))
    density *= 2 * dwell_s / n
    assert math.sqrt(np.mean(variance)) == pytest.approx(0.5, rel=0.02)
    expected = pink_density(np.fft.rfftfreq(n, dwell_s), LONG, 0.5)
    bands = itertools.pairwise(np.geomspace(8, 2048, 8).round().astype(int))
    seen = [np.mean(density[a:b] / expected[a:b]) for a, b in bands]
    np.testing.assert_allclose(seen, 1.0, atol=0.03)


def test_pink_noise_goes_on_from_line_to_line_as_time_does() -> None:
    """Neighbours across the flyback are correlated less the longer it takes, as an exact mean.

    The correlation of the sum at a lag is the mean of exp(-2 pi f_m lag).
    """
    for flyback_us in (0.0, 300.0):
        timing = ScanTiming(20_000, 8, 20_000, 10.0, flyback_us)
        x, _ = ScanErrors(noise_nm=1.0).displacements(timing, "x", Run(2).rng)
        lag = (10.0 + flyback_us) * 1e-6
        rates = 2 * np.pi * pink_corners_hz(timing)
        # half the mean square of steps is 1 - correlation, free of the slow wander
        step = 0.5 * np.mean((x[1:, 0] - x[:-1, -1]) ** 2)
        assert step == pytest.approx(1 - np.mean(np.exp(-rates * lag)), rel=0.05)


def test_pink_noise_doesnt_depend_on_how_the_work_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    timing = ScanTiming(50, 30, 25, 10.0, 500.0)
    whole, _ = ScanErrors(noise_nm=1.0).displacements(timing, "x", Run(2).rng)
    monkeypatch.setattr("nanophantom.simcore.scan_errors._BLOCK", 100)
    parts, _ = ScanErrors(noise_nm=1.0).displacements(timing, "x", Run(2).rng)
    assert np.array_equal(whole, parts)


def test_jitter_displaces_whole_lines_with_its_standard_deviation() -> None:
    jittered = path(scan={"width_px": 3, "height_px": 5000}, line_jitter_nm=0.02)
    for deflection in (jittered.scan_x_nm, jittered.scan_y_nm):
        assert np.array_equal(deflection[..., 0], deflection[..., 2])
        assert deflection[..., 0].std() == pytest.approx(0.02, rel=4 / math.sqrt(2 * 10_000))
    both = np.corrcoef(jittered.scan_x_nm[..., 0].ravel(), jittered.scan_y_nm[..., 0].ravel())
    assert abs(both[0, 1]) < 0.04


def test_flyback_decays_along_every_line() -> None:
    late = path(flyback_nm=0.3, flyback_time_us=80.0)
    since_start = (np.arange(40) + 0.5) * 10.0
    expected = np.broadcast_to(0.3 * np.exp(-since_start / 80.0), late.scan_x_nm.shape)
    np.testing.assert_allclose(late.scan_x_nm, expected, rtol=1e-12)
    assert not late.scan_y_nm.any()


def test_with_lines_along_y_time_runs_down_the_columns() -> None:
    """Times, drift, jitter and flyback follow the lines; the raster stays where it was."""
    down = path(scan={"fast_axis": "y"}, drift=Drift(speed_nm_per_s=2.0, direction_deg=0.0),
                flyback_nm=0.3, flyback_time_us=80.0)  # fmt: skip
    assert down.t_s.shape == (2, 24, 40)
    line_s = 24 * 10e-6
    np.testing.assert_allclose(np.diff(down.t_s, axis=1), 10e-6, rtol=1e-6)
    np.testing.assert_allclose(np.diff(down.t_s, axis=2), line_s + 500e-6, rtol=1e-9)
    assert down.t_s[1, 0, 0] == pytest.approx(40 * (line_s + 500e-6) + 5e-6)
    np.testing.assert_allclose(down.drift_x_nm, 2.0 * down.t_s, atol=1e-13)
    assert not down.scan_x_nm.any()
    np.testing.assert_allclose(
        down.scan_y_nm[1, :, 7], 0.3 * np.exp(-(np.arange(24) + 0.5) * 10.0 / 80.0), rtol=1e-12
    )
    np.testing.assert_allclose(down.x_nm + down.drift_x_nm, path().x_nm, atol=1e-14)
    jitter = path(scan={"fast_axis": "y"}, line_jitter_nm=0.1).scan_x_nm
    assert np.array_equal(jitter[:, 0], jitter[:, -1])
    assert np.ptp(jitter[0, 0]) > 0.1


def test_the_pair_of_scans_sees_the_same_drift_as_a_shear_the_other_way() -> None:
    """Drift to the right over lines along x shears the image; over lines along y it stretches."""
    drift = Drift(speed_nm_per_s=5.0, direction_deg=0.0)
    across, down = path(drift=drift), path(drift=drift, scan={"fast_axis": "y"})
    slope_y, slope_x = (np.diff(across.drift_x_nm[0], axis=a).mean() for a in (0, 1))
    assert slope_y > 50 * slope_x
    slope_y, slope_x = (np.diff(down.drift_x_nm[0], axis=a).mean() for a in (0, 1))
    assert slope_x > 50 * slope_y


def test_still_is_the_raster_over_a_specimen_at_rest_without_scan_errors() -> None:
    still = path(drift=Drift(speed_nm_per_s=9.0), **ALL).still()
    np.testing.assert_allclose(still.x_nm, path().x_nm[:1], atol=1e-13)
    np.testing.assert_allclose(still.y_nm, path().y_nm[:1], atol=1e-13)
    assert not still.drift_x_nm.any()
    assert not still.scan_x_nm.any()


def test_the_simulated_cell_holds_what_drift_and_scan_errors_reach() -> None:
    """Late by 4 nm at the line start against a drift of -3 nm: 7 nm on each side."""
    scan = Scan(width_px=40, height_px=24, pixel_size_nm=0.1,
                errors=ScanErrors(flyback_nm=4.0, flyback_time_us=1e5))  # fmt: skip
    end_s = scan.timing.lines * scan.timing.period_s
    drift = Drift(speed_nm_per_s=3.0 / end_s, direction_deg=180.0)
    far = ScanPath.of(scan, drift, Run(1).rng)
    reach = np.abs(far.reach.dx_nm).max()
    assert reach == pytest.approx(7.0, abs=0.3)
    cell = Cell.around(scan, far.reach, 0.5)
    assert cell.margin[1] * 0.1 >= reach + 0.5
    assert np.all(cell.window.holds(far.x_nm.ravel(), far.y_nm.ravel()))


def test_a_path_survives_pickling() -> None:
    for errors in ({}, ALL):
        planned = path(**errors)
        again = pickle.loads(pickle.dumps(planned))
        assert np.array_equal(again.x_nm, planned.x_nm)
        assert np.array_equal(again.scan_x_nm, planned.scan_x_nm)


def test_amplitudes_are_read_with_units() -> None:
    assert ScanErrors(mains_nm=("30 pm", 0.01)).mains_nm == pytest.approx((0.03, 0.01))
    assert ScanErrors(mains_hz="0.06 kHz").mains_hz == pytest.approx(60.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mains_hz": 0.0}, {"mains_nm": (-0.1,)}, {"noise_nm": -1.0}, {"line_jitter_nm": -1.0},
        {"flyback_time_us": 0.0}, {"mains_nm": (0.1,) * 21},
    ],
)  # fmt: skip
def test_impossible_errors_are_refused(wrong) -> None:
    with pytest.raises(ValidationError):
        ScanErrors(**wrong)
