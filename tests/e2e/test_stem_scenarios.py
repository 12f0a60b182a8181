"""The STEM scenarios of the catalogue, run as a person would: scores and a report."""

import json
from pathlib import Path
from typing import Any

import pytest

from nanophantom.simcore.store import Dataset


def run(command: Any, name: str, out: Path) -> dict[str, Any]:
    done = command("run", name, "-o", out, "--json")
    assert done.returncode == 0, done.stderr
    assert (out / "report.html").exists()
    assert sum(f.stat().st_size for f in out.rglob("*") if f.is_file()) < 300e6
    scores: dict[str, Any] = json.loads(done.stdout)["scores"]
    return scores


@pytest.mark.slow
def test_stem_detectors_finds_the_oxygen_too(command: Any, tmp_path: Path) -> None:
    """Every column of strontium titanate, oxygen included, of the right kind, within 4 pm."""
    scores = run(command, "stem-detectors", tmp_path / "d")["stem-columns"]
    for kind in ("Sr", "Ti", "O"):
        assert scores[f"recall.{kind}"] == 1
        assert scores[f"kind.{kind}"] == 1
    assert scores["precision"] == 1
    assert scores["rmse"] < 4  # pm
    data = Dataset(tmp_path / "d")
    assert {"bf", "abf", "adf", "haadf", "dpc-3", "com-sum", "com-x"} <= set(data.signals)


@pytest.mark.slow
def test_frozen_phonon_convergence_estimates_honest_errors(command: Any, tmp_path: Path) -> None:
    """All errors within a factor of 1.5, the number for 1 % within a quarter."""
    scores = run(command, "frozen-phonon-convergence", tmp_path / "d")["phonon-convergence"]
    assert scores["honest"] == 1
    assert 0.75 < scores["needed"] < 1.25
    assert scores["exponent"] < 0.15
