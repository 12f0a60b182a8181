"""The counting scenarios from recipe to report, and the coverage of their intervals over seeds."""

import json
from functools import cache

import numpy as np
import pytest
from click.testing import CliRunner

from nanophantom.cli import main
from nanophantom.scenarios import recipe
from nanophantom.scenarios.scenario import Scenario
from nanophantom.simcore.experiment import Experiment
from nanophantom.simcore.fields import Measured
from nanophantom.validation.tasks import find_task

TASK = find_task("molecule-counting")


def run(name, out, *options):
    """Run a recipe of the catalogue; return its task's scores and the report's text."""
    result = CliRunner().invoke(main, ["run", name, "-o", str(out), "--json", *options])
    assert result.exit_code == 0, result.output
    (scores,) = json.loads(result.stdout.strip().splitlines()[-1])["scores"].values()
    return scores, (out / "report.html").read_text(encoding="utf-8")


@cache
def compared(name, seed):
    """Make the whole movie of a seed, count, and set it beside the truth."""
    scenario = Scenario.model_validate({**recipe.load(name), "seed": seed})
    specimen = scenario.sample.make(scenario.run())
    acquisition = scenario.instrument.plan(specimen, scenario.run())
    seen = Experiment.of(acquisition, specimen)
    measured = seen.measured()
    assert isinstance(measured, Measured)
    return TASK.compare(TASK.answer(measured), seen)


@pytest.mark.slow
def test_molecules_are_counted_by_their_blinks(tmp_path):
    """Every cluster found, few wrong by more than bursts themselves scatter.

    Measured: bias 5.6 % in this movie, 1.8 % too many over 29 movies (single ones -8 to 11 %);
    rmse 2.3 to 3.5 molecules, coverage 0.94 (1033 clusters; single movies 0.86 to 1).
    """
    scores, page = run("smlm-blinking-counting", tmp_path / "out")
    assert scores["bias"] < 13
    assert scores["rmse"] < 4.5
    assert scores["coverage"] > 0.8
    assert scores["recall"] == scores["precision"] == 1
    for title in ("Counted and true", "From bursts to blinks", "What wrong kinetics do"):
        assert title in page


@pytest.mark.slow
def test_docking_sites_are_counted_by_dark_times(tmp_path):
    """Every origami found, sites to less than one.

    Measured: bias 2.1 % in this movie, 0.3 % over 24 movies; rmse 0.55 to 1.1 sites, coverage 0.95
    (864 clusters).
    """
    scores, page = run("smlm-qpaint", tmp_path / "out")
    assert scores["bias"] < 6
    assert scores["rmse"] < 1.4
    assert scores["coverage"] > 0.8
    assert scores["recall"] == scores["precision"] == 1
    assert "What wrong kinetics do" in page


@pytest.mark.slow
@pytest.mark.parametrize(("name", "most_bias"), [("smlm-blinking-counting", 4), ("smlm-qpaint", 3)])
def test_the_intervals_of_200_clusters_cover_the_truth(name, most_bias):
    """The first 200 clusters of six whole movies (seeds 101 to 106), localized and linked.

    Measured: 0.960 by blinks, bias -1.6 %; 0.960 by dark times, bias -0.9 %.
    """
    movies = [compared(name, seed) for seed in range(101, 107)]
    covered = np.concatenate([c.covered for c in movies])[:200]
    assert len(covered) == 200
    assert 0.91 <= covered.mean() <= 0.98
    true = np.concatenate([c.true for c in movies])
    found = np.concatenate([c.of_pairs("molecules") for c in movies])
    assert abs(100 * (found.sum() / true.sum() - 1)) < most_bias


@pytest.mark.slow
def test_a_calibration_wrong_by_20_percent_shows_as_predicted():
    """Six movies: bias moves by the predicted factor; the intervals fail.

    Measured: +15.5 % and -14.3 %, coverage 0.80 and 0.91 in place of 0.95.
    """
    movies = [compared("smlm-blinking-counting", seed) for seed in range(101, 107)]
    for k in range(2):  # bursts a dye too few, too many
        bias = np.array([c.recounts[k].bias for c in movies])
        right = np.array([c.of_pairs("molecules").sum() / c.true.sum() for c in movies])
        expected = np.array([c.recounts[k].expected for c in movies])
        np.testing.assert_allclose(1 + bias, right * expected, rtol=1e-9)
        assert 0.1 < abs(expected.mean() - 1) < 0.25
    assert np.mean([c.recounts[0].coverage for c in movies]) < 0.88
