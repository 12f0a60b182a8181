"""Scenarios about the lens, as they stand in the catalogue, from recipe to scores and report."""

import json
from pathlib import Path
from typing import Any

import pytest

from nanophantom.simcore.store import Dataset


def run(command: Any, name: str, out: Path, seed: int) -> tuple[dict[str, float], str]:
    done = command("run", name, "-o", out, "--seed", seed, "--json")
    assert done.returncode == 0, done.stderr
    (scores,) = json.loads(done.stdout)["scores"].values()
    assert sum(f.stat().st_size for f in out.rglob("*") if f.is_file()) < 300e6
    return scores, (out / "report.html").read_text()


@pytest.mark.slow
def test_a_focal_series_gives_the_exit_wave_back(command: Any, tmp_path: Path) -> None:
    """Another seed than the catalogue's: near the limit of counting once the focus is right."""
    scores, page = run(command, "through-focus-series", tmp_path / "series", 7)
    data = Dataset(tmp_path / "series")
    graded = json.loads((tmp_path / "series" / "scores.json").read_text())["gradings"]
    limit = graded["exit-wave"]["scores"][0]["limit"]
    assert scores["wave_error_refocused"] < 1.8 * limit
    assert scores["wave_error_refocused"] < 0.2
    assert scores["resolution"] < 0.11
    assert scores["shift"] < 5.0
    assert len(set(data.settings["defoci_nm"])) == data.n_frames == 18
    assert "Focus, found and true" in page


@pytest.mark.slow
def test_a_tableau_tells_the_aberrations(command: Any, tmp_path: Path) -> None:
    """Another seed: the lens becomes flat to beyond 25 mrad, and the uncertainties hold."""
    scores, page = run(command, "probe-aberrations", tmp_path / "tableau", 7)
    assert scores["flat_angle_before"] < 10.0
    assert scores["flat_angle"] > 25.0
    assert scores["worst_error"] < 0.5
    assert scores["coverage"] > 0.7
    assert "Phase of the lens" in page
