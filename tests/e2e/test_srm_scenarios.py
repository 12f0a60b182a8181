"""The scenario of one structure under several light microscopes, run as a person would."""

import json
from pathlib import Path
from typing import Any

import pytest

from nanophantom.simcore.store import Dataset


@pytest.mark.slow
def test_five_microscopes_resolve_what_their_physics_allows(command: Any, tmp_path: Path) -> None:
    """Each comes near its limit and none gets below; each is finer than the one before.

    Over seeds 1 to 4: resolution 251-254 (widefield), 186-192 (confocal), 134-138 (SIM), 68-70
    (STED), 17.5-18.3 nm (SMLM); resolved 297-301, 237-238, 142-144, 72-77, 26-35 nm.
    """
    done = command("run", "srm-one-structure-five-microscopes", "-o", tmp_path / "d", "--json")
    assert done.returncode == 0, done.stderr
    assert sum(f.stat().st_size for f in (tmp_path / "d").rglob("*") if f.is_file()) < 150e6
    scores: dict[str, Any] = json.loads(done.stdout)["scores"]["microscope-comparison"]

    # wavelength / (2 NA) = 238.6 nm is what passes the objective, 296.2 nm what keeps a tenth
    assert 238.6 < scores["resolution.widefield"] < 262
    assert scores["resolved.widefield"] == pytest.approx(296.2, rel=0.03)
    assert 200 < scores["resolved.widefield_deconvolved"] < 255
    # Airy patterns multiplied: 210.9 nm with a closed pinhole, but it is open to 0.6 units
    assert 211 < scores["resolved.confocal"] < 250
    assert scores["resolution.confocal"] < 205
    # 122.4 nm: objective and stripes together
    assert 122.4 < scores["resolution.sim"] < 142
    assert 122.4 < scores["resolved.sim"] < 150
    # 1.243 x 50.4 nm by the square-root law; a real doughnut's spots are 10 to 20 % wider
    assert 62.7 < scores["resolved.sted"] < 85
    assert scores["resolution.sted"] < 85
    assert 9.2 < scores["resolution.smlm"] < 21
    assert scores["resolved.smlm"] < 50

    order = ["widefield", "confocal", "sim", "sted", "smlm"]
    resolved = [scores[f"resolved.{name}"] for name in order]
    assert resolved == sorted(resolved, reverse=True)
    assert scores["bleached.sted"] > 10 * scores["bleached.confocal"]

    page = (tmp_path / "d" / "report.html").read_text()
    for title in ("One structure, all microscopes", "Across the spokes", "What resolution costs"):
        assert title in page
    assert {f"{name}_dyes" for name in order} <= set(Dataset(tmp_path / "d").truth_tables)
