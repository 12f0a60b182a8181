"""Scenarios about dose: what fades with it, and what light columns need of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nanophantom.simcore.store import Dataset
from nanophantom.validation.tasks import find_task


def run(command: Any, name: str, out: Path, *more: str) -> dict[str, Any]:
    done = command("run", name, "-o", out, "--json", *more)
    assert done.returncode == 0, done.stderr
    assert (out / "report.html").exists()
    scores: dict[str, Any] = json.loads(done.stdout)["scores"]
    return scores


@pytest.mark.slow
def test_mof_fading_recovers_the_assumed_law(command: Any, tmp_path: Path) -> None:
    """Twenty reflections or more, half of them within 8 %, the law within 5 %.

    Seeds 1, 2, 3: 24, 23, 22 reflections; 5.6, 3.1, 4.7 % (limit 4.9, 4.6, 4.5); law 2.0, 0.5,
    1.3 %; intervals hold .875, 1, 1.
    """
    scores = run(command, "mof-fading", tmp_path / "d")["fading"]
    assert scores["reflections"] >= 20
    assert scores["median_error"] < 8  # %
    assert scores["law_error"] < 5
    assert scores["coverage"] > 0.8


@pytest.mark.slow
def test_intervals_of_critical_doses_hold_the_truth_over_seeds(
    command: Any, tmp_path: Path
) -> None:
    """Twelve movies with their own drift and counts: 95 % intervals hold in .88 to .99 of all.

    Measured: .943 of 296 over seeds 1 to 13. One thermal configuration, which a movie keeps
    throughout, serves as well as two.
    """
    held: list[np.bool_] = []
    task: Any = find_task("fading")
    for seed in range(2, 14):
        out = tmp_path / str(seed)
        fewer = "instrument.multislice.thermal_configurations=1"
        run(command, "mof-fading", out, "--seed", str(seed), "--set", fewer)
        data = Dataset(out)
        held += task.compare(task.answer(data.measured()), data).held.tolist()
    assert len(held) > 200
    assert 0.88 <= np.mean(held) <= 0.99


@pytest.mark.slow
def test_light_columns_of_a_tem_image(command: Any, tmp_path: Path) -> None:
    """Oxygen beside heavy columns at 120 e/Å^2, both kinds to an F1 of .96.

    Seeds 1, 2, 3: light .989, .987, .994 and 12.6, 12.5, 12.2 pm (limit 8.9); heavy .992, .990,
    .995 and 3.6, 3.3, 3.4 pm (limit 3.0).
    """
    scores = run(command, "light-columns", tmp_path / "d")["light-columns"]
    assert scores["f1.light"] > 0.96
    assert scores["f1.heavy"] > 0.96
    assert scores["rmse.light"] < 16  # pm
    assert scores["rmse.heavy"] < 5


@pytest.mark.slow
def test_light_columns_by_annular_bright_field(command: Any, tmp_path: Path) -> None:
    """Oxygen by STEM at 157000 e/Å^2: F1 of .9 for it, of .96 for the heavy columns.

    Seed 1: light .958, 9.0 pm (limit 3.3), heavy 1, 3.2 pm (limit 0.6); seeds 2 and 3 with one
    thermal configuration instead of three: 1 and 1, 11.6 and 5.5 to 5.8 pm.
    """
    scores = run(command, "light-columns-abf", tmp_path / "d")["light-columns"]
    assert scores["f1.light"] > 0.9
    assert scores["f1.heavy"] > 0.96
    assert scores["confused"] < 0.04
    assert scores["rmse.light"] < 14  # pm
