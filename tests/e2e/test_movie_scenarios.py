"""Scenarios of specimens that change while they are filmed, run as a person would."""

import json
from pathlib import Path
from typing import Any

import pytest

from nanophantom.simcore.store import Dataset


def run(command: Any, name: str, out: Path) -> tuple[dict[str, Any], str]:
    done = command("run", name, "-o", out, "--json")
    assert done.returncode == 0, done.stderr
    assert sum(f.stat().st_size for f in out.rglob("*") if f.is_file()) < 450e6
    scores: dict[str, Any] = json.loads(done.stdout)["scores"]
    return scores, (out / "report.html").read_text()


@pytest.mark.slow
def test_gold_on_ceria_finds_columns_and_hops(command: Any, tmp_path: Path) -> None:
    """Columns to 4 pm with nothing missed; most events of hopping columns, hardly a false one."""
    scores, page = run(command, "gold-on-ceria", tmp_path / "d")
    columns, events = scores["atomic-columns"], scores["movie-events"]
    assert columns["recall"] >= 0.99
    assert columns["precision"] >= 0.99
    assert columns["rmse"] < 4.0  # pm
    assert events["recall"] >= 0.7
    assert events["precision"] >= 0.8
    assert events["time_error"] < 0.2  # s; a frame takes 0.4 s
    assert "Where atoms hopped" in page
    assert {"gas", "camera", "hopping_units"} <= set(Dataset(tmp_path / "d").truth_tables)


@pytest.mark.slow
def test_knock_on_graphene_gives_the_cross_section(command: Any, tmp_path: Path) -> None:
    """Nearly every lost atom is found, and the cross section is right as far as they are many."""
    scores, page = run(command, "knock-on-graphene", tmp_path / "d")
    result = scores["knock-on"]
    assert result["f1"] > 0.95
    assert result["error_in_limits"] < 2.5
    assert result["covered"] == 1
    assert result["time_error"] < 1.0  # s; a frame takes 5 s
    assert "Survivors" in page
