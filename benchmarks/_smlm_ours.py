"""Our part of the comparison: ``python -m benchmarks._smlm_ours TASK FOLDER FRAMES``.

TASK is one of the functions here; it prints JSON. "movie.npy" lies in the folder for `localize`, a
dataset for `localize_dataset`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks._smlm_work import SETTINGS, paint_recipe

ROUNDS = 7


def simulate(folder: Path, frames: int) -> dict[str, float]:
    """Make frames in memory, and datasets from the recipe to the finished folder; the best of some.

    Frames are made with all their truth, each dropped when the next is there.
    """
    from nanophantom.scenarios import run
    from nanophantom.simcore.parallel import map_threads
    from nanophantom.simcore.store import Dataset

    in_memory = on_disk = np.inf
    for k in range(ROUNDS):
        start = time.perf_counter()
        planned = run.plan(paint_recipe(frames), out=folder / f"ours_{k}")
        expose = planned.acquisition.expose
        map_threads(lambda _, i, make=expose: make(i).index, range(frames), lambda: None)
        in_memory = min(in_memory, time.perf_counter() - start)
        start = time.perf_counter()
        run.make(run.plan(paint_recipe(frames), out=folder / f"ours_{k}"))
        on_disk = min(on_disk, time.perf_counter() - start)
    spots = len(Dataset(folder / "ours_0").frame_table("emissions")["frame"])
    return {"in_memory_s": in_memory, "on_disk_s": on_disk, "spots": spots}


def simulate_once(folder: Path, frames: int) -> dict[str, float]:
    """Make one dataset, to see how much memory that takes."""
    from nanophantom.scenarios import run

    run.make(run.plan(paint_recipe(frames), out=folder / f"frames_{frames}"))
    return {}


def localize(folder: Path, frames: int) -> dict[str, float]:
    """Localize a movie in memory; the best of several rounds after one that compiles."""
    from nanophantom.analysis.localize import localize as work

    movie = np.load(folder / "movie.npy")[:frames]
    work(movie[:20], SETTINGS)
    best = np.inf
    for _ in range(ROUNDS):
        start = time.perf_counter()
        found = work(movie, SETTINGS)
        best = min(best, time.perf_counter() - start)
    np.savez(folder / "ours.npz", **{name: found[name] for name in ("frame", "x_nm", "y_nm")})
    return {"seconds": best, "localizations": len(found["frame"])}


def localize_dataset(folder: Path, frames: int) -> dict[str, float]:
    """Localize a dataset from disk, to see how much memory that takes."""
    from nanophantom.analysis.localize import localize as work
    from nanophantom.simcore.store import Dataset
    from nanophantom.simcore.store.reader import StoredFrames

    dataset = Dataset(folder / f"frames_{frames}")
    movie = StoredFrames(dataset, "movie", range(frames))
    return {"localizations": len(work(movie, dataset.settings)["frame"])}


def export_dataset(folder: Path, frames: int) -> dict[str, float]:
    """Export a dataset to OME-TIFF and Picasso, to see how much memory that takes."""
    from nanophantom.simcore.export import export
    from nanophantom.simcore.store import Dataset

    dataset = Dataset(folder / f"frames_{frames}")
    for to in ("ome-tiff", "picasso"):
        export(dataset, to, folder / f"{to}_{frames}")
    return {}


TASKS = {
    task.__name__: task
    for task in (simulate, simulate_once, localize, localize_dataset, export_dataset)
}

if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))))
