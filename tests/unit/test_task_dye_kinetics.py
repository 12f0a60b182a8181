"""The task dye-kinetics: its grader on made answers, and the analysis on made runs of frames."""

import numpy as np
import pytest

from nanophantom.analysis import dye_kinetics as analysis
from nanophantom.analysis.dye_kinetics import Interval, Runs
from nanophantom.instruments.several import Several
from nanophantom.samples.origami import Origami
from nanophantom.simcore.experiment import Experiment
from nanophantom.simcore.fields import Measured
from nanophantom.simcore.runs import Run
from nanophantom.validation.tasks import find_task
from nanophantom.validation.tasks.dye_kinetics import QUANTITIES

TASK = find_task("dye-kinetics")


@pytest.fixture(scope="module")
def data():
    """Return two short movies of few origami."""
    camera = {"width_px": 24, "height_px": 24}
    common = {"kind": "smlm", "n_frames": 300, "camera": camera, "background": {"photons": 2}}
    instrument = Several(
        microscopes={
            "palm": {**common, "fluorophore": {"preset": "palm"}, "exposure_s": 0.02,
                     "illumination": {"excitation_kw_per_cm2": 1.0, "activation_kw_per_cm2": 0.3}},
            "paint": {**common, "fluorophore": {"preset": "dna-paint", "concentration_nM": 40},
                      "exposure_s": 0.2, "illumination": {"excitation_kw_per_cm2": 0.1}},
        }
    )  # fmt: skip
    sample = Origami(number=4, arrangement="grid", pitch_nm=900, field_um=1.8, rows=3, columns=3,
                     spacing_nm=120, height_nm=0)  # fmt: skip
    specimen = sample.make(Run(5))
    return Experiment.of(instrument.plan(specimen, Run(5)), specimen)


def truth_of(data):
    """Return the calibrated numbers, which stand in the settings, as an answer."""
    told = {"movie": np.arange(2.0)}
    for quantity in QUANTITIES:
        values = []
        for name in ("palm", "paint"):
            known = data.settings[name]["dye_kinetics"]
            last = 1 / known["bursts_per_dye"] if "bursts_per_dye" in known else 0.0
            values.append(last if quantity == "last_burst" else known[quantity])
        told[quantity] = np.array(values)
        told[f"{quantity}_low"] = 0.9 * told[quantity]
        told[f"{quantity}_high"] = 1.1 * told[quantity] + 0.01
    return told


def test_truth_has_no_error(data):
    """The grader's closed forms against those that the instrument tells whoever calibrated it."""
    scores = TASK.grade(truth_of(data), data)
    assert scores["off"].value < 1e-6
    assert scores["coverage"].value == 1
    assert scores["last_burst_off.palm"].value < 1e-6
    assert scores["last_burst_off.paint"].value == 0


def test_errors_are_told_in_percent_and_intervals_miss(data):
    told = truth_of(data)
    for end in ("", "_low", "_high"):
        told["on_time_s" + end] = told["on_time_s" + end] * np.array([1.5, 1.0])
    scores = TASK.grade(told, data)
    assert scores["on_time_off.palm"].value == pytest.approx(50)
    assert scores["on_time_off.paint"].value == pytest.approx(0, abs=1e-6)
    assert scores["worst"].value == pytest.approx(50)
    assert scores["off"].value == pytest.approx(50 / np.sqrt(6))
    assert scores["coverage"].value == pytest.approx(7 / 8)
    # 0.5 of it off, 0.15 the half width below: 1.96 standard uncertainties
    expected = 1.96 * 0.5 / 0.15
    assert scores["z_rms"].value == pytest.approx(expected / np.sqrt(scores["z_rms"].n), rel=1e-6)


def test_limit_is_that_of_counting_bursts(data):
    scores = TASK.grade(truth_of(data), data)
    table = data.truth("palm_blinks")
    assert scores["on_time_off.palm"].limit == pytest.approx(100 / np.sqrt(len(table["dye"])))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda told: told | {"movie": np.zeros(2)}, "every movie from 0"),
        (lambda told: {name: v[:1] for name, v in told.items()}, "every movie from 0"),
        (lambda told: told | {"on_time_s": np.full(2, np.nan)}, "finite"),
        (lambda told: told | {"off_time_s_low": np.full(2, 1e9)}, "off_time_s_low <= off_time_s"),
        (lambda told: {name: v for name, v in told.items() if name != "last_burst"}, "missing"),
    ],
)
def test_answers_that_break_the_contract_are_refused(data, spoil, said):
    with pytest.raises(ValueError, match=said):
        TASK.grade(spoil(truth_of(data)), data)


def test_algorithms_dont_learn_the_kinetics(data):
    measured = data.measured()
    assert isinstance(measured, Measured)
    told = TASK.handed(measured).settings
    for name in ("palm", "paint"):
        assert not {"dye_kinetics", "fluorophore"} & set(told[name])
        assert "psf_sigma_nm" in told[name]


def test_small_movies_are_analysed_and_drawn(data):
    """Of so few bursts the answer is rough: within a factor of two."""
    measured = data.measured()
    told = TASK.answer(measured)
    known = [data.settings[name]["dye_kinetics"]["on_time_s"] for name in ("palm", "paint")]
    assert told["on_time_s"] == pytest.approx(known, rel=0.5)
    plates = TASK.figures(data, told, TASK.grade(told, data))
    assert len(plates) == 6


def made_runs(rng, dyes, on, off, last, shortest, n_frames):
    """Play dyes of the rates told (in frames), and keep the frames that show them."""
    rows = []
    for dye in range(dyes):
        t, bursts = rng.uniform(0, n_frames / 4), []
        while t < n_frames:
            end = t + rng.exponential(on)
            bursts.append((t, end))
            if rng.random() < last:
                break
            t = end + rng.exponential(off)
        light = np.zeros(n_frames)
        for a, b in bursts:
            first, stop = int(a), min(int(np.ceil(b)), n_frames)
            k = np.arange(first, stop)
            light[first:stop] += np.minimum(b, k + 1) - np.maximum(a, k)
        frame = np.flatnonzero(light > shortest)
        rows.append((np.full(len(frame), dye), frame, light[frame]))
    dye, frame, light = (np.concatenate(column) for column in zip(*rows, strict=True))
    return analysis.runs_of({"dye": dye, "frame": frame, "photons": 1000 * light})


@pytest.mark.parametrize(
    ("on", "off", "last"),
    [(2.75, 4.3, 0.52), (0.75, 300.0, 0.07), (5.0, 500.0, 0.0)],
    ids=["PALM", "dSTORM", "PAINT"],
)
def test_rates_are_found_through_frames_thresholds_and_the_end(on, off, last):
    """Bursts that frames cut, join and miss: within 5 %, 3 points, from some thousand bursts."""
    rng = np.random.default_rng(7)
    runs = made_runs(rng, 1500 if last > 0.5 else 500, on, off, last, 0.2, 4000)
    found = analysis.kinetics(runs, Interval(1000, 1000, 1000), 4000, 1.0, 200.0)
    assert found["on_time_s"].value == pytest.approx(on, rel=0.05)
    assert found["off_time_s"].value == pytest.approx(off, rel=0.07)
    assert found["photons_per_burst"].value == pytest.approx(1000 * on, rel=0.05)
    assert found["last_burst"].value == pytest.approx(last, abs=0.03)
    low, high = found["last_burst"][1:]
    assert low <= last <= high


def test_without_corrections_it_would_be_wrong():
    """Mean lengths of runs and gaps, as they are, are off by a half and a fifth."""
    rng = np.random.default_rng(8)
    runs = made_runs(rng, 1500, 2.75, 4.3, 0.52, 0.2, 4000)
    same = runs.dye[1:] == runs.dye[:-1]
    gaps = (runs.first[1:] - runs.last[:-1] - 1)[same]
    assert runs.length.mean() > 1.3 * 2.75
    assert len(runs.dye) / len(np.unique(runs.dye)) < 0.9 / 0.52
    assert abs(gaps.mean() - 4.3) > 0.1


def test_runs_hidden_by_a_pair_are_joined():
    runs = Runs(np.array([0, 0, 1]), np.array([3, 9, 20]), np.array([5, 12, 21]), np.ones(3))
    hidden = np.array([[0, 6], [0, 7], [0, 8], [1, 22]])
    joined = analysis.bridged(runs, hidden)
    assert joined.first.tolist() == [3, 20]
    assert joined.last.tolist() == [12, 21]
    assert joined.photons.tolist() == [2, 1]
    assert len(analysis.bridged(runs, hidden[1:]).dye) == 3  # not all of the time


def test_share_of_dark_times_that_are_told_against_a_simulation():
    rng = np.random.default_rng(9)
    n, w, shortest = 200_000, 0.3, 0.25
    dark, phase = rng.exponential(1 / w, n), rng.random(n)
    # The frame of the burst's end, and that of the next one's start, show it or not.
    seen_to = np.where(phase > shortest, 0, -1)
    start = phase + dark
    seen_from = np.where(np.ceil(start) - start > shortest, np.floor(start), np.floor(start) + 1)
    told = seen_from - seen_to - 1 >= 1
    share, hidden = analysis._dark_times_told(w, shortest)
    assert share == pytest.approx(told.mean(), abs=0.005)
    assert hidden == pytest.approx(np.where(told, 0, dark).mean(), abs=0.01)
