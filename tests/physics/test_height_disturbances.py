"""What moves the height besides the specimen, before the feedback loop and after it."""

import itertools
import math
import pickle

import numpy as np
import pytest
from pydantic import ValidationError

from nanophantom.simcore.probes.height_disturbances import (
    Disturbance,
    HeightDisturbances,
    power_law_noise,
)
from nanophantom.simcore.probes.height_sensor import HeightSensor
from nanophantom.simcore.probes.line_scan import LineScan
from nanophantom.simcore.runs import Run

SCAN = LineScan(width_px=64, height_px=48, pixel_size_nm=2.0, line_rate_hz=1.0, n_frames=4)
CAUSES = {
    "mains": {"mains_nm": (0.5, 0.0, 0.2)},
    "noise": {"noise_nm": 0.3},
    "line offsets": {"line_offset_nm": 0.4},
    "steps": {"step_rate": 6.0, "step_nm": 1.5},
    "scars": {"scar_rate": 30.0, "scar_nm": 2.0, "scar_length_nm": 40.0},
}


def drawn(frame: int = 0, scan: LineScan = SCAN, seed: int = 1, **knobs) -> Disturbance:
    return HeightDisturbances(**knobs).draw(scan, frame, Run(seed).rng)


# --- all causes ---------------------------------------------------------------------------------


def test_nothing_disturbs_without_knobs() -> None:
    quiet = drawn()
    assert quiet.z_nm.shape == (48, SCAN.knots)
    assert not quiet.z_nm.any()
    assert not quiet.layers
    assert not quiet.scar_trace.any()


@pytest.mark.parametrize("off", CAUSES)
def test_each_cause_is_turned_off_alone(off: str) -> None:
    """The layers of the others stay the same to the last bit, and add up to the whole."""
    everything = drawn(2, **{k: v for knobs in CAUSES.values() for k, v in knobs.items()})
    others = [knobs for cause, knobs in CAUSES.items() if cause != off]
    without = drawn(2, **{k: v for knobs in others for k, v in knobs.items()})
    assert set(everything.layers) == set(CAUSES)
    assert set(without.layers) == set(CAUSES) - {off}
    for cause, layer in without.layers.items():
        assert np.array_equal(layer, everything.layers[cause])
    np.testing.assert_allclose(sum(everything.layers.values()), everything.z_nm, atol=1e-12)
    np.testing.assert_allclose(
        everything.z_nm - without.z_nm, everything.layers[off], rtol=0, atol=1e-12
    )
    assert np.array_equal(drawn(2, **CAUSES[off]).z_nm, everything.layers[off])


@pytest.mark.parametrize(
    "amplitude", ["mains_nm", "noise_nm", "line_offset_nm", "step_nm", "scar_nm"]
)
def test_an_amplitude_of_zero_is_off(amplitude: str) -> None:
    """In the truth too: no layer, no events, no mask."""
    knobs = next(knobs for knobs in CAUSES.values() if amplitude in knobs)
    zero = (0.0,) if amplitude == "mains_nm" else 0.0
    quiet = drawn(**(knobs | {amplitude: zero}))
    assert not quiet.layers
    assert not quiet.z_nm.any()
    assert not quiet.line_offsets_nm.any()
    assert len(quiet.steps["t_s"]) == len(quiet.scars["line"]) == 0
    assert not quiet.scar_trace.any()
    assert not quiet.scar_retrace.any()


def test_no_two_causes_share_a_stream() -> None:
    """Every stream is asked for once, before the loop and after it."""
    asked: list[str] = []

    def rng(name: str) -> np.random.Generator:
        asked.append(name)
        return Run(1).rng(name)

    knobs = {k: v for cause in CAUSES.values() for k, v in cause.items()}
    HeightDisturbances(**knobs).draw(SCAN, 0, rng)
    HeightSensor(noise_nm=0.1, spike_rate=3.0).read(np.zeros((2, 48, 64)), 0, rng)
    assert len(set(asked)) == len(asked) == 7


def test_a_frame_is_a_pure_function_of_its_number() -> None:
    knobs = {k: v for cause in CAUSES.values() for k, v in cause.items()}
    ahead = [drawn(i, **knobs) for i in (3, 0, 2)]
    again = [pickle.loads(pickle.dumps(drawn(i, **knobs))) for i in (0, 2, 3)]
    assert np.array_equal(ahead[0].z_nm, again[2].z_nm)
    assert np.array_equal(ahead[1].z_nm, again[0].z_nm)
    assert not np.array_equal(ahead[0].layers["noise"], ahead[2].layers["noise"])
    assert not np.array_equal(ahead[0].z_nm, drawn(3, seed=2, **knobs).z_nm)


# --- mains --------------------------------------------------------------------------------------


def test_mains_make_stripes_of_speed_over_frequency() -> None:
    """50 Hz at 2 um/s: a period of 40 nm, to the bin of the spectrum; and its full amplitude."""
    scan = LineScan(width_px=460, height_px=8, pixel_size_nm=2.0, overscan_percent=4.3)
    assert scan.speed_um_per_s(0) == pytest.approx(2.0, abs=1e-12)
    trace, retrace = scan.as_images(drawn(scan=scan, mains_nm=(0.5,)).z_nm, 0)
    for image in (trace, retrace):
        spectrum = np.abs(np.fft.rfft(image, axis=1)) * 2 / 460
        assert (spectrum.argmax(axis=1) == 23).all()  # 920 nm / 23 = 40 nm
        assert np.allclose(spectrum[:, 23], 0.5, atol=1e-9)


@pytest.mark.parametrize(
    ("rate_hz", "upright"), [(1.0, True), (2.0, True), (0.8, False), (50 / 49, True), (0.99, False)]
)
def test_stripes_stand_upright_iff_lines_take_whole_periods(rate_hz: float, upright: bool) -> None:
    """50 Hz times the time of a line a whole number: every line meets the same phase."""
    scan = LineScan(width_px=64, height_px=16, line_rate_hz=rate_hz)
    z = drawn(scan=scan, mains_nm=(0.5,)).z_nm
    assert np.allclose(z, z[:1], atol=1e-9) == upright
    shift = 2 * math.pi * (50 / rate_hz % 1)
    harmonic = np.exp(-2j * np.pi * 50 * scan.times_s(0)[0])
    phase = np.angle((z * harmonic).sum(axis=1))
    turned = np.angle(np.exp(1j * (np.diff(phase) - shift)))
    assert np.abs(turned).max() < 0.1


def test_harmonics_keep_their_phases_and_run_on_between_frames() -> None:
    """Each phase is its own: a harmonic more leaves the first ones as they were."""
    one, two = drawn(mains_nm=(0.5, 0.2)), drawn(mains_nm=(0.5, 0.2, 0.1))
    assert np.array_equal(two.mains["phase_rad"][:2], one.mains["phase_rad"])
    later, t = drawn(3, mains_nm=(0.5,)), SCAN.times_s(3)
    expected = 0.5 * np.sin(2 * np.pi * 50 * t + later.mains["phase_rad"][0])
    assert np.allclose(later.z_nm, expected, atol=1e-9)
    assert later.mains["phase_rad"][0] == one.mains["phase_rad"][0]


# --- 1/f noise ----------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_noise_has_its_spectrum_and_its_strength(exponent: float) -> None:
    """Slope of the mean periodogram of 200 records (Hann window) within .03, its level and the
    rms within 3 %: the variance is the integral of the density from 1 / length to half the rate."""
    rng, n = np.random.default_rng(3), 4096
    noise = np.stack([power_law_noise(n, 0.7, exponent, rng) for _ in range(200)])
    hann = np.hanning(n + 1)[:n]
    power = (np.abs(np.fft.rfft(noise * hann, axis=1)) ** 2).mean(axis=0)
    k = np.arange(len(power))
    band = (k >= 8) & (k < 1500)
    slope = np.polyfit(np.log(k[band]), np.log(power[band]), 1, w=np.sqrt(1 / k[band]))[0]
    assert slope == pytest.approx(-exponent, abs=0.03)
    assert math.sqrt((noise**2).mean()) == pytest.approx(0.7, rel=0.03)
    whole = {0.0: n / 2 - 1, 1.0: math.log(n / 2), 2.0: 1 - 2 / n}[exponent]  # over the band
    density = 0.7**2 * k[band] ** -exponent / whole
    level = power[band] / density / ((hann**2).sum() * n / 2)
    assert np.median(level) == pytest.approx(1.0, rel=0.03)


def test_noise_of_a_frame_is_not_tied_at_its_ends() -> None:
    """A record half as long as the period drawn: first and last values of 1/f^2 noise part."""
    rng = np.random.default_rng(5)
    ends = np.array([power_law_noise(1024, 1.0, 2.0, rng)[[0, -1]] for _ in range(100)])
    assert np.abs(ends[:, 0] - ends[:, 1]).mean() > 0.5


def test_noise_runs_through_lines_without_a_break() -> None:
    """Steps from line to line are as small as those inside lines."""
    z = drawn(noise_nm=1.0, noise_exponent=2.0).z_nm
    inside, between = np.diff(z, axis=1), z[1:, 0] - z[:-1, -1]
    assert between.std() == pytest.approx(inside.std(), rel=0.4)


# --- offsets, steps, scars ----------------------------------------------------------------------


def test_line_offsets_lift_whole_lines() -> None:
    scan = LineScan(width_px=2, height_px=4000, line_rate_hz=100.0)
    d = drawn(scan=scan, line_offset_nm=0.4)
    assert np.array_equal(d.z_nm, np.broadcast_to(d.line_offsets_nm[:, None], d.z_nm.shape))
    assert d.line_offsets_nm.std() == pytest.approx(0.4, rel=0.05)  # 1 sd is 1.1 %
    assert abs(d.line_offsets_nm.mean()) < 0.03


def test_steps_last_through_later_frames() -> None:
    """The height before frame n is the sum of all earlier jumps; the table tells it all."""
    frames = [drawn(i, **CAUSES["steps"]) for i in range(4)]
    for earlier, later in itertools.pairwise(frames):
        n = len(earlier.steps["t_s"])
        assert np.array_equal(later.steps["t_s"][:n], earlier.steps["t_s"])
        assert later.z_nm[0, 0] == pytest.approx(earlier.z_nm[-1, -1], abs=1e-12)
    last = frames[-1]
    t = SCAN.times_s(3)
    pairs = zip(last.steps["t_s"], last.steps["height_nm"], strict=True)
    assert np.allclose(last.z_nm, sum(h * (t >= at) for at, h in pairs), atol=1e-12)
    assert (np.diff(last.steps["t_s"]) > 0).all()
    size = np.abs(last.steps["height_nm"])
    assert 0.75 <= size.min() <= size.max() <= 2.25


def test_steps_and_scars_are_as_many_as_their_rates_say() -> None:
    """Poisson numbers: the means of 300 draws within 4 standard errors, variance like the mean."""
    tiny = LineScan(width_px=2, height_px=1, line_rate_hz=1.0)
    knobs = {"step_rate": 3.0, "scar_rate": 5.0}
    many = [drawn(scan=tiny, seed=s, **knobs) for s in range(300)]
    for rate, count in (
        (3.0, [len(d.steps["t_s"]) for d in many]),
        (5.0, [len(d.scars["line"]) for d in many]),
    ):
        assert np.mean(count) == pytest.approx(rate, abs=4 * math.sqrt(rate / 300))
        assert np.var(count) / rate == pytest.approx(1.0, abs=4 * math.sqrt(2 / 300))


@pytest.mark.parametrize("slow_axis", ["down", "up"])
def test_the_table_of_scars_is_what_is_under_the_tip(slow_axis: str) -> None:
    """Heights, places, masks and times of all scars, drawn again from the table alone."""
    scan = LineScan(width_px=64, height_px=48, slow_axis=slow_axis)
    d = drawn(scan=scan, **CAUSES["scars"])
    trace, retrace = scan.as_images(d.z_nm, 0)
    again = np.zeros((2, 48, 64))
    for i in range(len(d.scars["line"])):
        row, way, start, length, height = (
            d.scars[key][i] for key in ("row", "retrace", "start_column", "length_px", "height_nm")
        )
        left = start if way == 0 else max(0, start - length + 1)
        right = start + length if way == 0 else start + 1
        again[way, row, left:right] += height
    np.testing.assert_allclose(trace, again[0], atol=1e-12)
    np.testing.assert_allclose(retrace, again[1], atol=1e-12)
    assert np.array_equal(d.scar_trace, again[0] != 0)
    assert np.array_equal(d.scar_retrace, again[1] != 0)
    t = scan.times_s(0)
    during = np.zeros(t.shape, bool)
    for begin, end in zip(d.scars["t_start_s"], d.scars["t_end_s"], strict=True):
        during |= (t > begin) & (t < end)
    assert np.array_equal(during, d.z_nm != 0)


def test_scars_have_the_lengths_heights_and_signs_asked_for() -> None:
    scan = LineScan(width_px=4096, height_px=64, pixel_size_nm=1.0)
    d = drawn(scan=scan, scar_rate=4000.0, scar_nm=2.0, scar_length_nm=50.0)
    begins = np.where(
        d.scars["retrace"] == 1, 4095 - d.scars["start_column"], d.scars["start_column"]
    )
    whole = begins < 3500  # not cut off by the end of the line
    assert d.scars["length_px"][whole].mean() == pytest.approx(50.0, rel=0.06)  # 1 sd is 1.7 %
    height = d.scars["height_nm"]
    assert np.abs(height).mean() == pytest.approx(2.0, rel=0.02)
    assert (height > 0).mean() == pytest.approx(0.5, abs=0.04)
    assert d.scars["retrace"].mean() == pytest.approx(0.5, abs=0.04)
    up = drawn(scan=scan, scar_rate=400.0, scar_direction="up").scars["height_nm"]
    assert (up > 0).all()


def test_what_cannot_disturb_is_refused() -> None:
    with pytest.raises(ValueError, match="no frame 4"):
        drawn(4)
    with pytest.raises(ValueError, match="3 samples or more"):
        power_law_noise(2, 1.0, 1.0, np.random.default_rng(0))
    for knobs in ({"scar_rate": -1.0}, {"mains_nm": (-0.1,)}, {"scar_length_nm": 0.0}):
        with pytest.raises(ValidationError):
            HeightDisturbances(**knobs)


# --- the sensor, after the loop -----------------------------------------------------------------


def test_a_perfect_sensor_gives_back_what_it_got() -> None:
    z = np.random.default_rng(0).normal(size=(2, 30, 40))
    reading = HeightSensor().read(z, 0, Run(1).rng)
    assert np.array_equal(reading.heights_nm, z)
    assert not reading.spikes.any()
    assert not reading.saturated.any()
    assert not np.shares_memory(reading.heights_nm, z)


def test_sensor_noise_is_white_of_its_strength_and_differs_from_image_to_image() -> None:
    z = np.zeros((2, 200, 200))
    sensor = HeightSensor(noise_nm=0.05)
    trace, retrace = sensor.read(z, 0, Run(1).rng).heights_nm
    assert trace.std() == pytest.approx(0.05, rel=0.02)  # 1 sd is .35 %
    other = sensor.read(z, 1, Run(1).rng).heights_nm[0]
    for again in (retrace, other, np.roll(trace, 1, axis=1), np.roll(trace, 1, axis=0)):
        assert abs((trace * again).mean()) < 5 * 0.05**2 / 200
    assert np.array_equal(sensor.read(z, 1, Run(1).rng).heights_nm[0], other)


def test_spikes_are_where_the_mask_says_and_as_many_as_asked_for() -> None:
    z = np.random.default_rng(0).normal(size=(2, 300, 300))
    quiet, spiky = HeightSensor(noise_nm=0.1), HeightSensor(noise_nm=0.1, spike_rate=400.0)
    without, hit = (s.read(z, 0, Run(1).rng) for s in (quiet, spiky))
    difference = hit.heights_nm - without.heights_nm
    assert np.array_equal(difference != 0, hit.spikes)  # the noise is the same to the last bit
    assert hit.spikes.sum() == pytest.approx(800, abs=4 * math.sqrt(800))
    size = np.abs(difference[hit.spikes])
    assert 5.0 <= size.min() <= size.max() <= 15.0
    assert (difference[hit.spikes] > 0).mean() == pytest.approx(0.5, abs=0.08)


def test_a_converter_rounds_and_adds_a_twelfth_of_its_squared_step() -> None:
    z = np.random.default_rng(0).uniform(-50.0, 50.0, (400, 400))
    recorded = HeightSensor(quantization_nm=0.25).read(z, 0, Run(1).rng).heights_nm
    assert np.array_equal(recorded / 0.25, np.rint(recorded / 0.25))
    assert np.abs(recorded - z).max() <= 0.125
    assert (recorded - z).std() == pytest.approx(0.25 / math.sqrt(12), rel=0.01)
    small = np.full((4, 4), 0.1)  # without dither, less than half a step is lost
    assert not HeightSensor(quantization_nm=0.25).read(small, 0, Run(1).rng).heights_nm.any()


def test_a_converter_ends_at_its_range_and_says_where() -> None:
    z = np.array([[-30.0, -20.0, 0.0, 20.0, 20.5]])
    reading = HeightSensor(range_nm=40.0).read(z, 0, Run(1).rng)
    assert reading.heights_nm.tolist() == [[-20.0, -20.0, 0.0, 20.0, 20.0]]
    assert reading.saturated.tolist() == [[True, False, False, False, True]]


def test_a_sensor_refuses_what_it_cannot_read() -> None:
    with pytest.raises(ValueError, match="must be finite"):
        HeightSensor().read(np.full((2, 2), np.nan), 0, Run(1).rng)
    with pytest.raises(ValueError, match="of shape"):
        HeightSensor().read(np.zeros(5), 0, Run(1).rng)
    with pytest.raises(ValueError, match="don't fit"):
        HeightSensor(spike_rate=5.0).read(np.zeros((2, 2)), 0, Run(1).rng)
