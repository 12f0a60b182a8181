"""The task clean-surface: its grader on truth itself, its adapter on what was added to it."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from nanophantom.analysis.both_ways import Passes, Ways, combined, without_mains
from nanophantom.analysis.height_drift import correct
from nanophantom.analysis.slow_axis_creep import ramp_creep_px
from nanophantom.instruments.afm import AFM
from nanophantom.samples.rough_nanoparticles import RoughNanoparticles
from nanophantom.simcore.experiment import Experiment
from nanophantom.simcore.probes.line_scan import LineScan
from nanophantom.simcore.probes.piezo_scanner import PiezoScanner
from nanophantom.simcore.runs import Run
from nanophantom.validation.artefact_causes import causes
from nanophantom.validation.surface_comparison import displacements_px, rms, without_plane
from nanophantom.validation.tasks import find_task

TASK = find_task("clean-surface")
N = 96


def microscope(**changes):
    """Return a small microscope in contact mode with every artefact."""
    data = {
        "tip": {"shape": "sphere-cone", "radius_nm": 10.0, "half_angle_deg": 20.0},
        "cantilever": {"stiffness_n_per_m": 0.2, "resonance_khz": 13.0, "quality_factor": 30.0},
        "imaging": {"mode": "contact", "setpoint_nn": 2.0},
        "controller": {"integral_per_s": 2500.0},
        "scan": {"width_px": N, "height_px": N, "pixel_size_nm": 4.0, "line_rate_hz": 2.06,
                 "slow_axis": "alternate", "n_frames": 2, "angle_deg": 30.0},
        "scanner": {"range_um": 1.0, "bow_nm": 5.0, "coupling_percent": 0.5, "tilt_x_deg": 0.5,
                    "z_speed_nm_per_s": 0.02, "line_jitter_nm": 0.4,
                    "creep_percent_per_decade": 0.3, "moved_before_nm": (100.0, -150.0),
                    "drift": {"speed_nm_per_s": 0.2, "direction_deg": 35.0}},
        "disturbances": {"mains_nm": (0.25, 0.0, 0.1), "noise_nm": 0.2, "line_offset_nm": 0.5,
                         "scar_rate": 40.0, "scar_nm": 3.0, "scar_length_nm": 60.0,
                         "step_rate": 1.0},
        "sensor": {"noise_nm": 0.12, "spike_rate": 30.0, "spike_nm": 8.0},
    }  # fmt: skip
    return AFM.model_validate(data | changes)


@pytest.fixture(scope="module")
def dataset():
    run = Run(3)
    sample = RoughNanoparticles(
        number=90, median_diameter_nm=40.0, height_ratio=0.25, period_nm=900.0
    )
    return Experiment.of(microscope().plan(sample.make(run), run))


@pytest.fixture(scope="module")
def answer(dataset):
    return TASK.answer(dataset.measured())


def perfect(dataset):
    """Return the answer that the truth gives."""
    true = displacements_px(dataset, 2)
    t = np.stack([Passes.of(dataset.settings, f, (N, N)).row_s for f in (0, 1)])
    zero = {name: np.zeros(N * N) for name in TASK.columns}
    row, column = np.indices((N, N)).reshape(2, -1)
    bare = TASK.compare(zero | {"row": row, "column": column}, dataset)
    # the shear by the scanner's coupled axes, that the raster of a map has
    calibration = true[0] - bare.displacement_px
    calibration -= calibration.mean(axis=(1, 2), keepdims=True)
    mean = true.mean(axis=(0, 2, 3))
    place = np.indices((N, N)) + calibration + mean[:, None, None] + 0.37
    image = dataset.truth("surface")["image_nm"]
    height = ndimage.map_coordinates(image, place, order=3, mode="nearest")
    drift = -np.polyfit(t.ravel(), 4.0 * true.mean(axis=3).transpose(0, 2, 1).reshape(-1, 2), 1)[0]
    dy, dx = 4.0 * bare.displacement_px.reshape(2, -1)
    return {
        "row": row, "column": column, "height_nm": height.ravel(),
        "scar": dataset.frame_truth("scars", 0, 1).ravel(), "dx_nm": dx, "dy_nm": dy,
        "drift_x_nm_per_s": np.full(N * N, drift[1]), "drift_y_nm_per_s": np.full(N * N, drift[0]),
    }  # fmt: skip


def test_the_truth_scores_perfectly(dataset):
    """Errors vanish, every scar is hit; a tilt, common shifts and shuffled rows cost nothing."""
    said = perfect(dataset)
    order = np.random.default_rng(0).permutation(N * N)
    said["height_nm"] = said["height_nm"] + 0.02 * said["row"] - 0.01 * said["column"] + 7.0
    said["dx_nm"] = said["dx_nm"] + 11.0
    values = TASK.grade({k: v[order] for k, v in said.items()}, dataset).values()
    for name in ("rmse", "background", "distortion", "drift_error"):
        assert values[name] < 1e-4, name
    assert values["scar_recall"] == 1
    assert values["scar_precision"] == 1
    assert values["rmse_raw"] > 0.5
    assert values["distortion_raw"] > 0.5


def test_known_errors_are_scored_as_they_are(dataset):
    """Noise of 0.5 nm, displacements off by 0.3 px on one axis, drift by (0.03, 0.04) nm/s."""
    said, rng = perfect(dataset), np.random.default_rng(1)
    said["height_nm"] = said["height_nm"] + 0.5 * rng.standard_normal(N * N)
    said["dx_nm"] = said["dx_nm"] + 1.2 * (-1.0) ** said["row"]
    said["drift_x_nm_per_s"] = said["drift_x_nm_per_s"] + 0.03
    said["drift_y_nm_per_s"] = said["drift_y_nm_per_s"] - 0.04
    said["scar"] = np.roll(said["scar"].reshape(N, N), 1, axis=0).ravel()
    values = TASK.grade(said, dataset).values()
    np.testing.assert_allclose(values["rmse"], 0.5, rtol=0.03)
    np.testing.assert_allclose(values["background"], 0.5, rtol=0.05)
    np.testing.assert_allclose(values["distortion"], 0.3, rtol=1e-6)
    np.testing.assert_allclose(values["drift_error"], 0.05, rtol=1e-6)
    assert values["scar_recall"] < 0.1
    wrong_unit = perfect(dataset)
    wrong_unit["height_nm"] = 1e3 * wrong_unit["height_nm"]
    assert TASK.grade(wrong_unit, dataset)["rmse"].value > 100


def test_limit_is_the_noise_over_the_root_of_four(dataset):
    """Sensor noise of 0.12 nm (lever and detector are quiet) of two frames, there and back."""
    limit = TASK.grade(perfect(dataset), dataset)["rmse"].limit
    np.testing.assert_allclose(limit, 0.06, rtol=0.02)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"row": np.zeros(N * N)}, "one row for each of the 96 x 96 pixels"),
        ({"scar": np.full(N * N, 0.5)}, "scar to be 0 or 1"),
        ({"drift_x_nm_per_s": np.arange(N * N)}, "the same in every row"),
        ({"height_nm": np.full(N * N, np.nan)}, "all finite"),
        ({"dx_nm": np.zeros(3)}, "has the shape"),
    ],
)
def test_answers_against_the_contract_are_refused(dataset, change, words):
    """In one line that says what was wanted."""
    with pytest.raises(ValueError, match=words):
        TASK.grade(perfect(dataset) | change, dataset)


def test_empty_answer_is_refused(dataset):
    """Nothing isn't a map."""
    with pytest.raises(ValueError, match="got 0 rows"):
        TASK.grade({name: np.empty(0) for name in TASK.columns}, dataset)


def test_adapter_cleans(dataset, answer):
    """Heights and geometry get better by what is measured here, less a margin."""
    values = TASK.grade(answer, dataset).values()
    assert values["rmse"] < 0.6 * values["rmse_raw"]
    assert values["background"] < 0.45 * values["background_raw"]
    assert values["distortion"] < 0.5 * values["distortion_raw"]
    assert values["drift_error"] < 0.02  # nm/s, of 0.2
    assert values["scar_recall"] > 0.85
    assert values["scar_precision"] > 0.8


def test_one_frame_is_cleaned_without_drift(dataset):
    """No pair, no drift: displacements are zero."""
    measured = dataset.measured()
    first = {k: np.asarray(v.data[:1]) for k, v in measured.signals.items()}
    module, _, function = TASK.default_algorithm.partition(":")
    find = getattr(__import__(module, fromlist=[function]), function)
    said = find(first["height"], first["height_retrace"], dict(measured.settings))
    assert not np.any(said["dx_nm"])
    assert np.std(said["height_nm"]) > 1


def test_causes_add_up_to_the_raw_error(dataset, answer):
    """The gallery leaves nothing out: its images sum to recorded minus truth, less a plane."""
    c = TASK.compare(answer, dataset)
    found = causes(dataset, c)
    total = without_plane(np.sum([cause.image for cause in found], axis=0), c.used)
    assert rms((total - c.raw_error)[c.used]) < 1e-4
    names = {cause.name for cause in found}
    assert {"mains", "scars", "offsets of lines", "spikes", "1/f noise"} <= names
    by_name = {cause.name: cause for cause in found}
    for name in ("mains", "scars", "spikes", "bow and tilt"):
        assert by_name[name].left_nm < 0.25 * by_name[name].raw_nm, name
    np.testing.assert_allclose(by_name["1/f noise"].raw_nm, 0.2, rtol=0.35)
    np.testing.assert_allclose(by_name["mains"].raw_nm, np.hypot(0.25, 0.1) / 2**0.5, rtol=0.05)


def test_figures_are_drawn(dataset, answer):
    """All plates, with their words; that they render the scenario's own test shows."""
    plates = TASK.figures(dataset, answer, TASK.grade(answer, dataset))
    assert len(plates) == 6
    for plate in plates:
        assert len(plate.caption) > 60


def test_times_are_those_of_the_raster():
    """Worked out from nominal settings, for both directions of the slow axis."""
    scan = LineScan(width_px=20, height_px=12, slow_axis="alternate", n_frames=2, line_rate_hz=3.0)
    settings = {
        "knots_a_line": scan.knots,
        "line_rate_hz": [3.0, 3.0],
        "slow_axis": ["down", "up"],
        "frame_starts_s": scan.starts_s[:-1].tolist(),
    }
    for frame in (0, 1):
        passes = Passes.of(settings, frame, scan.shape)
        trace, retrace = scan.as_images(scan.times_s(frame), frame)
        np.testing.assert_allclose(passes.trace_s, trace, rtol=1e-12)
        np.testing.assert_allclose(passes.retrace_s, retrace, rtol=1e-12)
        np.testing.assert_allclose(passes.row_s, 0.5 * (trace + retrace)[:, 0], rtol=1e-12)
        _, across = scan.nominal(frame)
        there, back = scan.as_images(across, frame)
        np.testing.assert_allclose(
            np.broadcast_to(passes.apart_px, scan.shape), (there - back) / scan.step_nm[0],
            atol=1e-9,
        )  # fmt: skip


def test_creep_of_the_ramps_is_that_of_the_scanner():
    """For 1 % a decade, both frames of a pair with a pause between them."""
    scan = LineScan(width_px=20, height_px=40, pixel_size_nm=3.0, slow_axis="alternate",
                    n_frames=2, line_rate_hz=(2.0, 3.0), pause_s=2.5)  # fmt: skip
    table = PiezoScanner(creep_percent_per_decade=1.0).motion(scan, Run(0).rng).table()
    t = table["t_s"].reshape(2, -1)
    t[1] = t[1, ::-1]
    starts = scan.starts_s[:-1]
    crept = ramp_creep_px(t, starts, starts + np.array([20.0, 40 / 3]), 40)
    crept[1] = crept[1, ::-1]
    np.testing.assert_allclose(3.0 * crept.ravel(), table["slow_axis_creep_nm"], atol=1e-12)


def test_amount_of_ramp_creep_is_found_from_the_pair():
    """Of 1 % a decade and a drift, rows are found to 0.05 px; without the course not to 0.3."""
    n, rng = N, np.random.default_rng(2)
    t = np.stack([np.arange(n) + 0.5, 2 * n + 0.5 - np.arange(n)])
    starts, ends = np.array([0.0, n + 1.0]), np.array([n, 2 * n + 1.0])
    course = ramp_creep_px(t, starts, ends, n)
    true = np.stack([1.0 * course + 0.03 * t, -0.02 * t], axis=-1)
    k, phase = rng.normal(size=(2, 200, 1, 1)) / 7, rng.uniform(0, 6.3, (200, 1, 1))
    x = np.arange(n)
    frames = np.array([
        np.mean(np.cos(k[0] * (x + d[:, 0])[:, None] + k[1] * (x + d[:, 1:]) + phase), axis=0)
        for d in true
    ])  # fmt: skip

    def error(**more):
        found = correct(frames, t, 1.0, model="linear", **more).displacement_px
        return rms(found - true + true.mean(axis=(0, 1)))

    assert error(course_px=course) < 0.05
    assert error() > 0.3


def ways(seed=0, hum_nm=0.0, hum_hz=50.0):
    """Return both ways over a bumpy surface with noise, and their times."""
    rng = np.random.default_rng(seed)
    settings = {"knots_a_line": 2 * N + 8, "line_rate_hz": [1.03], "slow_axis": ["down"],
                "frame_starts_s": [0.0]}  # fmt: skip
    passes = Passes.of(settings, 0, (N, N))
    y, x = np.mgrid[:N, :N]

    def surface(row):
        return 3 * np.sin(x / 9) * np.cos(row / 7)

    both = [
        surface(y + sign * passes.apart_px / 2) + 0.1 * rng.standard_normal((N, N))
        + hum_nm * np.sin(2 * np.pi * hum_hz * t + 1.0)
        for sign, t in ((1, passes.trace_s), (-1, passes.retrace_s))
    ]  # fmt: skip
    return both, passes, surface(y)


@pytest.mark.parametrize("hum_hz", [50.0, 60.0])
def test_mains_are_taken_off(hum_hz):
    """Of 0.3 nm at either frequency less than 2 % is left; without any, nothing is touched."""
    both, passes, _ = ways(hum_nm=0.3, hum_hz=hum_hz)
    without, _, _ = ways()
    (cleaned,) = without_mains([Ways.of(*both, passes)])
    hum = both[0] - without[0]
    np.testing.assert_allclose(rms(hum), 0.3 / 2**0.5, rtol=0.02)
    assert rms(cleaned.trace - without[0]) < 0.02 * rms(hum)
    (untouched,) = without_mains([Ways.of(*without, passes)])
    np.testing.assert_array_equal(untouched.trace, without[0])


def test_scars_are_told_to_their_way():
    """One in the trace, one in the retrace, one longer than half a line; a spike is no scar."""
    both, passes, surface = ways()
    both[0][30, 20:50] += 1.5
    both[1][60, 40:60] -= 1.5
    both[1][75, 10:80] += 2.0
    both[0][10, 10] += 5.0
    found = combined(Ways.of(*both, passes))
    in_trace, in_retrace = np.zeros((2, N, N), bool)
    in_trace[30, 20:50] = True
    in_retrace[60, 40:60] = in_retrace[75, 10:80] = True
    assert np.count_nonzero(found.scar ^ in_trace) <= 2
    assert np.count_nonzero(found.scar_retrace ^ in_retrace) <= 2
    assert not found.hidden.any()
    # 0.1 nm of either way: what is repaired has that of one, the rest that of two
    assert rms(found.image - surface) < 0.09
    assert np.max(np.abs(found.image - surface)) < 0.6


def test_a_dataset_without_drift_tables_is_refused():
    """The task says which truth it misses."""
    bare = SimpleNamespace(truth_tables=("surface",))
    with pytest.raises(ValueError, match="no truth view, motion"):
        TASK.compare({name: np.zeros(4) for name in TASK.columns}, bare)
