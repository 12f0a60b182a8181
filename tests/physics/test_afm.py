"""Images of the force microscope: what emerges in them is what loop, tip and scanner owe."""

import functools

import numpy as np
import pytest

from nanophantom.instruments.afm import AFM
from nanophantom.simcore.experiment import Experiment
from nanophantom.simcore.probes.height_sensor import HeightSensor
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import Specimen
from nanophantom.simcore.surfaces import Material, Surface

PIXEL_NM = 2.0
LINES, WIDTH = 6, 128


class Relief(Specimen):
    """A surface given by a function of x and y in nm."""

    def __init__(self, height):
        self.height, self.stuff = height, Material()

    def surface_within(self, window, shape):
        ny, nx = shape
        x = window.x0_nm + np.arange(nx) * (window.width_nm / nx)
        y = window.y0_nm + np.arange(ny) * (window.height_nm / ny)
        heights = np.broadcast_to(self.height(*np.meshgrid(x, y)), shape).astype(np.float64)
        return Surface.of_one_material(window, heights, self.stuff)

    def truth(self):
        return {}


def step_down(depth_nm, at_nm=-40.0):
    return Relief(lambda x, y: np.where(x < at_nm, depth_nm, 0.0))


def pit(depth_nm, edges=(-80.0, 80.0)):
    return Relief(lambda x, y: np.where((x > edges[0]) & (x < edges[1]), -depth_nm, 0.0))


def ball(radius_nm):
    def height(x, y):
        inside = radius_nm**2 - x**2 - y**2
        return np.where(inside > 0, radius_nm + np.sqrt(np.maximum(inside, 0.0)), 0.0)

    return Relief(height)


def afm(**changes):
    """A small quick scan; changes are dotted paths written with two underscores."""
    data = {
        "scan": {
            "width_px": WIDTH,
            "height_px": LINES,
            "pixel_size_nm": PIXEL_NM,
            "line_rate_hz": 1.0,
        },
        "noise": False,
    }
    for path, value in changes.items():
        node = data
        *way, last = path.split("__")
        for name in way:
            node = node.setdefault(name, {})
        node[last] = value
    return AFM.model_validate(data)


def image(instrument, specimen, seed=1):
    acquisition = instrument.plan(specimen, Run(seed))
    return acquisition, acquisition.expose(0)


def test_with_an_ideal_loop_the_height_is_what_the_tip_feels():
    """No error, no difference of trace and retrace, and the stage follows exactly."""
    _, frame = image(afm(controller__ideal=True, scan__line_rate_hz=30.0), pit(30.0))
    for way in ("", "_retrace"):
        np.testing.assert_allclose(
            frame.signals[f"height{way}"], frame.truth[f"felt{way}"], atol=1e-5
        )
        assert not frame.signals[f"error{way}"].any()
    np.testing.assert_allclose(frame.signals["height"], frame.signals["height_retrace"], atol=1e-5)


def test_a_sphere_gets_the_height_and_width_of_the_closed_form():
    """Sphere r = 5 under R = 10 nm: height 10, FWHM 2 sqrt(r (r + 2 R)) = 22.36 nm (row 1)."""
    instrument = afm(
        controller__ideal=True,
        scan__pixel_size_nm=0.5,
        scan__height_px=81,
        tip={"shape": "sphere-cone", "radius_nm": 10.0, "half_angle_deg": 20.0},
    )
    _, frame = image(instrument, ball(5.0))
    height = frame.signals["height"][40].astype(np.float64)
    above = np.flatnonzero(height > 5.0)
    width = len(above) * 0.5
    assert height.max() == pytest.approx(10.0, abs=0.02)
    assert width == pytest.approx(22.361, abs=0.5)  # a pixel
    x, y = frame.truth["path_x"][40], frame.truth["path_y"][40]
    closed = 5.0 - 10.0 + np.sqrt(np.maximum(15.0**2 - x**2 - y**2, 0.0))
    near = np.abs(x) < 10.0  # where both are spheres
    assert np.abs(height - closed)[near].max() < 0.10  # row 1: 0.10 nm at 0.5 nm a pixel


@pytest.mark.parametrize(("setpoint", "speed"), [(90.0, 4000.0), (70.0, 12000.0)])
def test_parachuting_behind_an_edge_has_the_slope_of_the_saturated_error(setpoint, speed):
    """Tapping over a deep step down, A0 = 20 nm, Ki = 2000/s: dz/dt = -Ki (A0 - Asp) (row 36)."""
    rate = 8.0
    instrument = afm(
        imaging={"mode": "tapping", "free_amplitude_nm": 20.0, "setpoint_percent": setpoint},
        controller={"proportional": 0.0, "integral_per_s": 2000.0},
        cantilever={"stiffness_n_per_m": 40.0, "resonance_khz": 1000.0, "quality_factor": 50.0},
        scan__line_rate_hz=rate,
    )
    acquisition, frame = image(instrument, step_down(200.0))
    line = frame.signals["height"][3].astype(np.float64)
    dwell = acquisition.afm.scan.knot_s(0)
    falls = np.diff(line) / dwell
    free = slice(52, 58)  # behind the edge at pixel 43.5, before it lands
    np.testing.assert_allclose(falls[free], -speed, rtol=0.02)


def test_tails_grow_with_speed_and_shrink_with_gain():
    """A student turns the knobs: rms of trace minus felt against line rate and integral gain."""

    def tail(**changes):
        _, frame = image(afm(controller__proportional=0.0, **changes), pit(30.0))
        return float(np.std(frame.signals["height"] - frame.truth["felt"]))

    slow, fast = tail(scan__line_rate_hz=0.5), tail(scan__line_rate_hz=4.0)
    assert fast > 2 * slow
    assert tail(scan__line_rate_hz=4.0, controller__integral_per_s=4000.0) < 0.6 * fast


def test_too_much_gain_rings():
    """Past what the lever's ring-down allows the loop oscillates on flat ground; below it is still.

    The lever (Q = 400, 300 kHz) turns the loop's phase by 90 degrees at f0 / 2 Q = 375 Hz and more.
    """

    def unrest(gain):
        instrument = afm(
            controller={"proportional": 0.0, "integral_per_s": gain}, scan__line_rate_hz=4.0
        )
        _, frame = image(instrument, pit(30.0))
        return float(np.ptp(frame.signals["error"][3, 118:]))

    assert unrest(1000.0) < 0.02
    assert unrest(8000.0) > 1.0


def test_ramp_shifts_trace_against_retrace_by_twice_the_lag():
    """On a slope s both ways lag by v s / Ki, so they differ by 2 v s / Ki (row 37), in contact.

    Contact on stiff matter: deflection follows the distance with slope one within 0.1 %.
    """
    slope = 0.05
    instrument = afm(
        imaging={"mode": "contact", "setpoint_nn": 5.0},
        cantilever={"stiffness_n_per_m": 0.2, "resonance_khz": 13.0, "quality_factor": 30.0},
        controller={"proportional": 0.0, "integral_per_s": 2000.0},
        detector__bandwidth_khz=1000.0,
        stage__resonance_khz=200.0,
        scan__line_rate_hz=4.0,
    )
    acquisition, frame = image(instrument, Relief(lambda x, y: slope * x))
    middle = slice(40, 88)
    gap = frame.signals["height_retrace"] - frame.signals["height"]
    speed = 1e3 * acquisition.afm.scan.speed_um_per_s(0)
    np.testing.assert_allclose(gap[:, middle].mean(), 2 * speed * slope / 2000.0, rtol=0.02)


def test_noise_of_a_free_loop_has_the_levers_thermal_part():
    """On flat ground the loop turns the lever's tremble into height noise below sqrt(kT / k)."""
    quiet, loud = (
        image(
            afm(noise=True, detector__noise_fm_per_sqrt_hz=0.0, cantilever__temperature_k=t),
            Relief(lambda x, y: 0.0 * x),
        )[1].signals["height"]
        for t in (0.0, 298.15)
    )
    assert np.ptp(quiet) < 1e-5
    assert 1e-4 < loud.std() < 0.01014  # 10.14 pm (row 18)


DISTURBED = {
    "scanner__drift": {"speed_nm_per_s": 0.05, "direction_deg": 30.0},
    "scanner__creep_percent_per_decade": 1.5,
    "scanner__line_jitter_nm": 0.5,
    "disturbances__mains_nm": (0.3,),
    "disturbances__noise_nm": 0.2,
    "disturbances__line_offset_nm": 0.3,
    "disturbances__step_rate": 3.0,
    "disturbances__scar_rate": 4.0,
    "sensor__noise_nm": 0.1,
    "sensor__spike_rate": 5.0,
    "detector__noise_fm_per_sqrt_hz": 200.0,
    "tip_life__pick_up_rate_per_s": 0.3,
}


@functools.lru_cache(maxsize=1)
def everything():
    instrument = afm(noise=True, scan__line_rate_hz=2.0, **DISTURBED)
    return image(instrument, ball(8.0))[1]


OFF = {
    "scanner__line_jitter_nm": 0.0,
    "disturbances__mains_nm": (),
    "disturbances__noise_nm": 0.0,
    "disturbances__line_offset_nm": 0.0,
    "disturbances__step_rate": 0.0,
    "disturbances__scar_rate": 0.0,
    "sensor__noise_nm": 0.0,
    "sensor__spike_rate": 0.0,
    "detector__noise_fm_per_sqrt_hz": 0.0,
    "tip_life__pick_up_rate_per_s": 0.0,
}
TRUTH_OF = {
    "scanner__line_jitter_nm": {"path_x", "path_y"},
    "disturbances__mains_nm": {"disturbance_z"},
    "disturbances__noise_nm": {"disturbance_z"},
    "disturbances__line_offset_nm": {"disturbance_z"},
    "disturbances__step_rate": {"disturbance_z"},
    "disturbances__scar_rate": {"disturbance_z", "scars"},
    "sensor__noise_nm": set(),
    "sensor__spike_rate": {"spikes"},
    "detector__noise_fm_per_sqrt_hz": set(),
    "tip_life__pick_up_rate_per_s": set(),
}


@pytest.mark.parametrize("switch", list(OFF))
def test_one_cause_is_turned_off_and_all_others_stay_as_drawn(switch):
    """Whatever else was drawn is bit-identical; the cause's own truth is not."""
    instrument = afm(noise=True, scan__line_rate_hz=2.0, **{**DISTURBED, switch: OFF[switch]})
    without, full = image(instrument, ball(8.0))[1], everything()
    causes = {"path_x", "path_y", "scanner_z", "disturbance_z", "scars", "spikes"}
    for name in causes - TRUTH_OF[switch]:
        if name == "scanner_z" and TRUTH_OF[switch] & {"path_x"}:
            continue
        np.testing.assert_array_equal(without.truth[name], full.truth[name], err_msg=name)
    for name in TRUTH_OF[switch]:
        assert not np.array_equal(without.truth[name], full.truth[name]), name
    assert not np.array_equal(without.signals["height"], full.signals["height"])


def test_sensor_is_all_that_differs_between_the_stage_and_the_record():
    """Recorded height minus noise, spikes and rounding of the sensor is the stage's position."""
    sensor = HeightSensor(noise_nm=0.2, spike_rate=10.0, quantization_nm=0.05)
    with_sensor = afm(noise=True).model_copy(update={"sensor": sensor})
    acquisition, recorded = image(with_sensor, ball(8.0))
    _, plain = image(afm(noise=True), ball(8.0))
    stage = np.stack([plain.signals["height"], plain.signals["height_retrace"]]).astype(np.float64)
    again = sensor.read(stage, 0, acquisition.run.rng)
    np.testing.assert_allclose(recorded.signals["height"], again.heights_nm[0], atol=0.051)
    np.testing.assert_array_equal(recorded.truth["spikes"], again.spikes[0])


def test_frames_made_alone_in_any_order_are_the_same():
    """Frame 2 alone has the bytes that it has after 0 and 1, wear and drift included."""
    instrument = afm(
        noise=True,
        scan__n_frames=3,
        scan__line_rate_hz=10.0,
        tip_life__wear_coefficient=1e-3,
        scanner__drift={"speed_nm_per_s": 0.1},
    )
    acquisition = instrument.plan(ball(8.0), Run(5))
    alone = acquisition.expose(2)
    experiment = Experiment.of(instrument.plan(ball(8.0), Run(5)))
    for name in alone.signals:
        np.testing.assert_array_equal(alone.signals[name], experiment.signal(name, 2, 3)[0])


def test_a_worn_tip_is_shorter_and_wider():
    """Archard: the height falls by the lost length, and the ball gets wider."""
    instrument = afm(
        scan__height_px=40,
        scan__n_frames=2,
        tip_life__wear_coefficient=2e-2,
        controller__ideal=True,
    )
    acquisition = instrument.plan(ball(8.0), Run(5))
    lines = acquisition.truth()["tip_lines"]
    first, last = (acquisition.expose(i).signals["height"].astype(np.float64) for i in (0, 1))
    worn = lines["shortened_nm"]
    assert worn[-1] > 0.5
    np.testing.assert_allclose(first[:, 5] - last[:, 5], worn[40:] - worn[:40], atol=0.02)
    area = [np.count_nonzero(f - f[20, 5] > 1.0) for f in (first, last)]
    assert area[1] > area[0]


def test_drift_strains_the_slow_axis_by_its_share_of_the_slow_speed():
    """1 nm/s along y while lines climb 4 nm/s: the true raster is compressed (row 41)."""
    instrument = afm(
        scan__height_px=64,
        scan__line_rate_hz=2.0,
        scanner__drift={"speed_nm_per_s": 1.0, "direction_deg": 90.0},
    )
    _, frame = image(instrument, ball(8.0))
    step = np.diff(frame.truth["path_y"][:, 60])
    np.testing.assert_allclose(step, 2.0 - 1.0 / 2.0, atol=1e-3)


def test_finer_samples_bring_a_steep_tip_deeper_into_a_narrow_trench():
    """W = 12 nm < 2 R: the tip goes in by R - sqrt(R^2 - W^2 / 4) = 2 nm (row 4), in fine steps."""

    def depth(**changes):
        trench = Relief(lambda x, y: np.where(np.abs(x + 1.0) < 6.0, -50.0, 0.0))
        acquisition, _ = image(afm(controller__ideal=True, **changes), trench)
        return -float(acquisition.truth()["surface"]["image_nm"].min())

    assert depth(surface_step_nm=0.25) == pytest.approx(10 - np.sqrt(100 - 36), abs=0.16)
    with pytest.raises(ValueError, match=r"0\.01 nm can't be afforded"):
        depth(surface_step_nm=0.01)


def test_the_least_wear_leaves_the_image_as_it_is():
    """A tip shortened by 1e-5 nm touches the same materials: strips are the whole map's rows."""

    class TwoStuffs(Relief):
        def surface_within(self, window, shape):
            one = super().surface_within(window, shape)
            x = window.x0_nm + np.arange(shape[1]) * (window.width_nm / shape[1])
            soft = np.broadcast_to(np.abs(x) < 20.0, shape).astype(np.uint8)
            stuffs = Material(), Material(name="soft", modulus_gpa=0.2)
            return Surface(window, one.heights_nm, soft, stuffs)

    specimen = TwoStuffs(ball(15.0).height)
    fresh, worn = (
        image(afm(tip_life__wear_coefficient=k, scan__line_rate_hz=10.0), specimen)[1]
        for k in (0.0, 1e-12)
    )
    for name in fresh.signals:
        np.testing.assert_allclose(worn.signals[name], fresh.signals[name], atol=0.01)


def test_a_gain_that_rings_is_told():
    """Notes warn of a gain beyond what lever or stage can bear, and only then."""
    flat = Relief(lambda x, y: 0.0 * x)
    for gain, rings in ((2000.0, False), (10_000.0, True)):
        notes = afm(controller__integral_per_s=gain).plan(flat, Run(1)).notes
        assert any("will ring" in note for note in notes) == rings


def test_impossible_recipes_are_refused_in_one_line():
    """Atoms without a surface, set points that can't be kept, numbers that don't fit frames."""
    from nanophantom.samples._family import Sample

    atoms = Sample.of_kind("nanoparticle-on-support").small().make(Run(1))
    with pytest.raises(ValueError, match="no surface that a tip could feel"):
        afm().plan(atoms, Run(1))
    with pytest.raises(ValueError, match="below 100, got 100"):
        afm(imaging={"mode": "tapping", "setpoint_percent": 100.0})
    with pytest.raises(ValueError, match="2 values for 1 frames"):
        afm(controller__integral_per_s=(1.0, 2.0))
