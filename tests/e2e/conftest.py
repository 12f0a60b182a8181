"""Small runs shared by the end-to-end tests, made through the command line as a person would."""

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

SMALL: dict[str, Any] = {
    "name": "small",
    "title": "A small gold particle on ceria",
    "seed": 11,
    "sample": {
        "kind": "nanoparticle-on-support",
        "n_atoms": 200,
        "support_thickness_nm": 3.2,
        "surface_y_nm": 0.8,
    },
    "instrument": {
        "kind": "tem",
        "optics": {
            "defocus_nm": 7.0,
            "aberrations": {"c30_um": -13.0},
            "aperture_mrad": 30.0,
            "focal_spread_nm": 2.0,
        },
        "exposures": {"n_frames": 6, "dose_e_per_A2": 300},
        "camera": {"width_px": 256, "height_px": 256, "pixel_size_nm": 0.014},
        "drift": {"speed_nm_per_s": 0.02, "walk_nm_per_sqrt_s": 0.01},
        "multislice": {"thermal_configurations": 3, "margin_nm": 0.4},
    },
    "tasks": ["atomic-columns"],
}

Run = Callable[..., subprocess.CompletedProcess[str]]


# FFT plans are measured once for the session, whatever other processes of this user learn.
CACHE = tempfile.mkdtemp(prefix="nanophantom-cache-")
atexit.register(shutil.rmtree, CACHE, ignore_errors=True)


def nanophantom(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "nanophantom.cli", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "XDG_CACHE_HOME": CACHE},
        check=False,
    )


@pytest.fixture(scope="session")
def command() -> Run:
    return nanophantom


@pytest.fixture(scope="session")
def cache() -> str:
    return CACHE


@pytest.fixture(scope="session")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL, sort_keys=False))
    return path


@pytest.fixture(scope="session")
def dataset(recipe_file: Path) -> Path:
    """One finished run of the small recipe; tests that change it must copy it."""
    out = recipe_file.parent / "dataset"
    done = nanophantom("run", recipe_file, "-o", out, "--json")
    assert done.returncode == 0, done.stderr
    (recipe_file.parent / "answer.json").write_text(done.stdout)
    return out


@pytest.fixture(scope="session")
def answer(dataset: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((dataset.parent / "answer.json").read_text())
    return result
