"""Scenarios about drift and dose, as they stand in the catalogue, from recipe to scores."""

import json
from pathlib import Path
from typing import Any

import pytest

from nanophantom.simcore.store import Dataset


def run(command: Any, name: str, out: Path, seed: int) -> tuple[dict[str, Any], str]:
    done = command("run", name, "-o", out, "--seed", seed, "--json")
    assert done.returncode == 0, done.stderr
    assert sum(f.stat().st_size for f in out.rglob("*") if f.is_file()) < 300e6
    gradings = json.loads((out / "scores.json").read_text())["gradings"]
    (graded,) = gradings.values()
    scores = {
        s["name"] if s["group"] is None else f"{s['name']}.{s['group']}": s
        for s in graded["scores"]
    }
    return scores, (out / "report.html").read_text()


@pytest.mark.slow
def test_drift_of_a_low_dose_stack_is_found(command: Any, tmp_path: Path) -> None:
    """Another seed than the catalogue's, whose 1 to 3 gave 0.98 to 1.36 pm; limit 0.77."""
    scores, page = run(command, "drifting-stack", tmp_path / "stack", 7)
    assert scores["rms"]["value"] < 2 * scores["rms"]["limit"]
    assert scores["jumps"]["value"] == 0
    assert scores["resolution"]["value"] < 0.12
    data = Dataset(tmp_path / "stack")
    assert data.signal("image", 0, 1).mean() < 0.5
    assert {"beam_induced_motion", "camera", "drift_path"} <= set(data.truth_tables)
    assert "Local motion, true and found" in page


@pytest.mark.slow
def test_columns_appear_with_dose(command: Any, tmp_path: Path) -> None:
    """Another seed than the catalogue's.

    Seeds 1 to 3 gave an F1 of 0.9 from 70 to 100 e/Å² on, 0.31 to 0.36 at 20 and 0.994 to 1 at 200
    e/Å², a precision of 0.985 and more, and at 100 e/Å² errors of 1.14 to 1.28 of the limit.
    """
    scores, page = run(command, "low-dose-series", tmp_path / "series", 7)
    assert scores["dose_for_f1"]["value"] <= 100
    assert scores["f1.dose 20"]["value"] > 0.2
    assert scores["f1.dose 200"]["value"] > 0.97
    assert scores["precision"]["value"] > 0.95
    rmse = scores["rmse.dose 100"]
    assert rmse["value"] < 1.5 * rmse["limit"]
    data = Dataset(tmp_path / "series")
    assert sum(data.settings["doses_e_per_A2"]) <= 2000
    assert "What denoising makes of a low dose" in page
