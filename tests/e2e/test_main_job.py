"""The main job in small: a recipe becomes a dataset, scores and a report; again, split, resumed."""

import hashlib
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import numpy as np
import pytest
import yaml

from nanophantom.simcore.store import Dataset

SAME = ("shards", "truth", "inputs", "manifest.jsonl", "master.emd", "recipe.yaml")


def digest(folder: Path) -> dict[str, str]:
    files = [f for name in SAME for f in [folder / name, *(folder / name).glob("*")] if f.is_file()]
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def test_a_run_answers_with_scores_and_leaves_dataset_and_report(
    dataset: Path, answer: dict[str, Any]
) -> None:
    scores = answer["scores"]["atomic-columns"]
    assert scores["recall"] > 0.95
    assert scores["precision"] > 0.9
    assert 0 < scores["rmse"] < 10.0  # pm
    page = (dataset / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert not (dataset / "parts").exists()


def test_the_truth_that_was_promised_is_there(dataset: Path) -> None:
    data = Dataset(dataset)
    assert data.complete
    wanted = {"atoms", "columns", "drift", "drift_path", "dose", "noise_free", "intensity"}
    assert wanted <= set(data.truth_tables)
    budget = data.truth("intensity")
    total = budget["kept"] + budget["lost_at_band_limit"]
    np.testing.assert_allclose(total, 1.0, atol=1e-5)
    assert data.signal("image").dtype == np.uint16
    assert data.settings["pixel_size_nm"] == 0.014
    # what is measured scatters about its noise-free frame as electrons do
    ideal, counts = data.frame_truth("ideal"), data.signal("image").astype(float)
    assert ((counts - ideal) ** 2).mean() == pytest.approx(ideal.mean(), rel=0.02)


def test_no_truth_stands_in_a_measured_file(dataset: Path) -> None:
    import h5py

    for shard in (dataset / "shards").glob("*.h5"):
        with h5py.File(shard) as file:
            assert set(file) == {"image"}
    settings = json.loads((dataset / "dataset.json").read_text())["settings"]
    assert "seed" not in settings


def test_any_number_of_workers_gives_the_same_bytes(
    dataset: Path, recipe_file: Path, tmp_path: Path, command: Any
) -> None:
    done = command("run", recipe_file, "-o", tmp_path / "one", "--workers", 1, "--json")
    assert done.returncode == 0, done.stderr
    assert digest(tmp_path / "one") == digest(dataset)


def test_the_datasets_own_recipe_makes_it_again(
    dataset: Path, tmp_path: Path, command: Any
) -> None:
    done = command("run", dataset / "recipe.yaml", "-o", tmp_path / "again", "--json")
    assert done.returncode == 0, done.stderr
    assert digest(tmp_path / "again") == digest(dataset)


def test_a_killed_run_resumes_to_the_same_bytes(
    dataset: Path, recipe_file: Path, tmp_path: Path, command: Any, cache: str
) -> None:
    out = tmp_path / "killed"
    words = [sys.executable, "-m", "nanophantom.cli", "run", str(recipe_file), "-o", str(out)]
    for wait_for in ("parts/configuration-0000.npz", "shards/000000.h5"):
        extra = ["--resume"] if out.exists() else []
        process = Popen(
            [*words, *extra],
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
            env={**os.environ, "XDG_CACHE_HOME": cache},
        )
        deadline = time.time() + 120
        while not (out / wait_for).exists() and process.poll() is None and time.time() < deadline:
            time.sleep(0.01)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    done = command("run", recipe_file, "-o", out, "--resume", "--json")
    assert done.returncode == 0, done.stderr
    assert digest(out) == digest(dataset)


def test_turning_the_drift_off_changes_nothing_else(
    dataset: Path, recipe_file: Path, tmp_path: Path, command: Any
) -> None:
    still = ("instrument.drift.speed_nm_per_s=0", "instrument.drift.walk_nm_per_sqrt_s=0")
    words = [w for s in still for w in ("--set", s)]
    done = command("run", recipe_file, "-o", tmp_path / "still", "--json", *words)
    assert done.returncode == 0, done.stderr
    moving, resting = Dataset(dataset), Dataset(tmp_path / "still")
    assert not resting.truth("drift")["dx_nm"].any()
    # the larger view of the moving one holds more atoms; those in both moved alike with the heat
    np.testing.assert_allclose(
        moving.truth("intensity")["kept"], resting.truth("intensity")["kept"], atol=2e-3
    )
    one, two = (d.truth("noise_free")["image"] for d in (moving, resting))
    assert np.std(one - two) < 0.01 * np.std(two)


def test_verify_finds_what_was_altered(dataset: Path, tmp_path: Path, command: Any) -> None:
    assert command("verify", dataset).returncode == 0
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    shard = copy / "shards" / "000001.h5"
    data = bytearray(shard.read_bytes())
    data[-100] ^= 1
    shard.write_bytes(data)
    (copy / "truth" / "000002.h5").unlink()
    done = command("verify", copy)
    assert done.returncode == 1
    assert "shards/000001.h5" in done.stdout
    assert "truth/000002.h5" in done.stdout


def test_exports_open_in_their_readers_with_calibration(
    dataset: Path, tmp_path: Path, command: Any
) -> None:
    import mrcfile
    import tifffile

    counts = Dataset(dataset).signal("image")
    for form in ("tiff", "mrc", "csv"):
        done = command("export", dataset, "--to", form, "-o", tmp_path / form)
        assert done.returncode == 0, done.stderr
    tif = next((tmp_path / "tiff").glob("image.tif*"))
    np.testing.assert_array_equal(tifffile.imread(tif), counts)
    with mrcfile.open(next((tmp_path / "mrc").glob("image.mrc"))) as mrc:
        np.testing.assert_array_equal(mrc.data, counts)
        assert float(mrc.voxel_size.x) == pytest.approx(0.14, rel=1e-6)
    header = next((tmp_path / "csv").glob("*columns.csv")).read_text().splitlines()[0]
    assert "x_nm" in header


def test_a_corpus_draws_every_item_and_grades_it(
    recipe_file: Path, tmp_path: Path, command: Any
) -> None:
    data = yaml.safe_load(recipe_file.read_text())
    data["instrument"]["exposures"] = {
        "n_frames": 2,
        "dose_e_per_A2": {"uniform": [100, "400 e/Å^2"]},
    }
    data["instrument"]["optics"]["defocus_nm"] = {"choice": ["60 Å", 7.0, 8.0]}
    data["instrument"]["camera"].update(width_px=128, height_px=128)
    data["instrument"]["multislice"]["thermal_configurations"] = 1
    varied = tmp_path / "varied.yaml"
    varied.write_text(yaml.safe_dump(data))
    done = command("run", varied, "-o", tmp_path / "corpus", "--count", 3, "--json")
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)["scores"]
    assert sorted(scores) == ["000000", "000001", "000002"]
    items = [Dataset(tmp_path / "corpus" / "items" / name) for name in sorted(scores)]
    doses = [item.recipe["instrument"]["exposures"]["dose_e_per_A2"] for item in items]
    assert len(set(doses)) == 3
    assert all(100 <= d <= 400 for d in doses)
    assert len({item.truth("drift")["dx_nm"][-1] for item in items}) == 3
    assert (tmp_path / "corpus" / "report.html").exists()
    # any item can be made again alone, from its own recipe
    alone = command(
        "run", items[2].path / "recipe.yaml", "-o", tmp_path / "alone", "--workers", 1, "--json"
    )
    assert alone.returncode == 0, alone.stderr
    assert digest(tmp_path / "alone") == digest(items[2].path)
    again = command("run", varied, "-o", tmp_path / "corpus", "--count", 3, "--resume", "--json")
    assert again.returncode == 0, again.stderr
