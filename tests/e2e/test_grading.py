"""Blind grading: a reader's function, results in a file, and finders that should fail."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nanophantom.simcore.store import Dataset


def test_a_readers_function_is_graded_blind_on_the_same_data(
    dataset: Path, tmp_path: Path, command: Any
) -> None:
    (tmp_path / "mine.py").write_text(
        "import os, sys\n"
        "from nanophantom.analysis.atomic_columns import find as default\n"
        "def find(images, settings):\n"
        "    seen = ' '.join([os.getcwd(), *sys.argv, *os.listdir('.'), *map(str, settings)])\n"
        "    assert 'recipe' not in seen and 'seed' not in seen and 'truth' not in seen, seen\n"
        "    return default(images, settings)\n"
    )
    done = command("score", dataset, "--with", "mine:find", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    mine = json.loads(done.stdout)["scores"]["atomic-columns"]
    default = json.loads(command("score", dataset, "--json").stdout)["scores"]["atomic-columns"]
    assert mine == pytest.approx(default, rel=1e-9)  # another process may add up in other order


def test_predictions_in_a_file_are_graded(dataset: Path, tmp_path: Path, command: Any) -> None:
    truth, drift = Dataset(dataset).truth("columns"), Dataset(dataset).truth("drift")
    lines = [
        f"{x + drift['dx_nm'][0]},{y + drift['dy_nm'][0]}"
        for x, y in zip(truth["x_nm"], truth["y_nm"], strict=True)
    ]
    (tmp_path / "found.csv").write_text("\n".join(["x_nm,y_nm", *lines]))
    done = command("score", dataset, "--predictions", tmp_path / "found.csv", "--json")
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)["scores"]["atomic-columns"]
    assert scores["recall"] == 1.0
    assert scores["precision"] == 1.0
    assert scores["rmse"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("def find(images, settings): return {'x_nm': [1.0]}", "y_nm"),
        ("def find(images, settings): raise KeyError('oops')", "oops"),
        ("def find(images, settings): return None", "mine:find"),
        ("def other(images, settings): return None", "find"),
    ],
)
def test_a_function_that_breaks_the_contract_gets_one_line(
    dataset: Path, tmp_path: Path, command: Any, code: str, says: str
) -> None:
    (tmp_path / "mine.py").write_text(code)
    done = command("score", dataset, "--with", "mine:find", cwd=tmp_path)
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert says in errors[0]


@pytest.mark.slow
def test_a_finder_that_returns_the_reference_lattice_fails_on_a_strained_copy(
    dataset: Path, recipe_file: Path, tmp_path: Path, command: Any
) -> None:
    """Positions memorised from the unstrained particle: good there, lost under 5 % strain."""
    strain = (
        "sample.strain_xx_percent=5",
        "sample.strain_yy_percent=-5",
        "sample.strain_xy_percent=4",
    )
    words = [w for s in strain for w in ("--set", s)]
    done = command("run", recipe_file, "-o", tmp_path / "strained", "--json", *words)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["scores"]["atomic-columns"]
    truth = Dataset(dataset).truth("columns")
    lines = [f"{x},{y}" for x, y in zip(truth["x_nm"], truth["y_nm"], strict=True)]
    (tmp_path / "lattice.csv").write_text("\n".join(["x_nm,y_nm", *lines]))
    words = ["--predictions", tmp_path / "lattice.csv", "--json"]
    at_home = json.loads(command("score", dataset, *words).stdout)["scores"]["atomic-columns"]
    abroad = json.loads(command("score", tmp_path / "strained", *words).stdout)["scores"][
        "atomic-columns"
    ]
    assert at_home["recall.particle"] == 1.0
    assert found["recall.particle"] > 0.9  # the honest finder follows the strain
    assert abroad["recall.particle"] < 0.6
    assert abroad["rmse.particle"] > 3 * found["rmse.particle"]


@pytest.mark.slow
def test_recall_falls_with_dose(recipe_file: Path, tmp_path: Path, command: Any) -> None:
    recalls = []
    for dose in (300, 20, 5):
        out = tmp_path / str(dose)
        words = ("--set", f"instrument.exposures={{n_frames: 1, dose_e_per_A2: {dose}}}", "--json")
        done = command("run", recipe_file, "-o", out, *words)
        assert done.returncode == 0, done.stderr
        recalls.append(json.loads(done.stdout)["scores"]["atomic-columns"]["recall"])
    assert recalls[0] > 0.9
    assert recalls[0] > recalls[1] + 0.1
    assert recalls[1] > recalls[2] + 0.1


def test_a_persons_own_image_is_analysed(dataset: Path, tmp_path: Path, command: Any) -> None:
    data = Dataset(dataset)
    image = data.signal("image").sum(axis=0).astype(np.float32) * 37.5 + 120  # a camera's gain
    np.save(tmp_path / "mine.npy", image)
    done = command("analyse", tmp_path / "mine.npy", "--pixel-size", "0.14 Å", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    n_true = int((data.truth("columns")["n_atoms"] > 1).sum())
    assert 0.3 * n_true < result["n"] < 2 * n_true
    assert Path(result["overlay"]).stat().st_size > 10_000
    assert Path(result["table"]).read_text().startswith("x_nm,y_nm")
    np.save(tmp_path / "bare.npy", image)
    blank = command("analyse", tmp_path / "bare.npy")
    assert blank.returncode == 2
    assert "pixel size" in blank.stderr


def test_wrong_requests_exit_with_2_and_write_nothing(
    dataset: Path, recipe_file: Path, tmp_path: Path, command: Any
) -> None:
    new = ("run", recipe_file, "-o", tmp_path / "new")
    huge = "{width_px: 16384, height_px: 16384, pixel_size_nm: 0.01}"
    requests = [
        ("run", recipe_file, "-o", dataset),  # exists
        (*new, "--resume"),  # nothing to resume
        (*new, "--set", "tasks=[atomic-colums]"),
        (*new, "--set", "sample={kind: crystal, file: no.cif}"),
        (*new, "--set", "instrument.camera.pixel_size_nm=2 kg"),
        (*new, "--set", f"instrument.camera={huge}"),
        ("run", "no-such-scenario", "-o", tmp_path / "new"),
        ("score", dataset, "--task", "nonsense"),
        ("score", tmp_path),
        ("schema", "nonsense"),
    ]
    for words in requests:
        done = command(*words)
        assert done.returncode == 2, (words, done.stdout, done.stderr)
        errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        assert len(errors) == 1, (words, done.stderr)
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "new").exists()
