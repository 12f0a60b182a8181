"""A small acquisition for tests of store and workers: counts around a moving hill.

Tests put this folder on ``sys.path`` and import it by name (workers inherit the path). Run as a
script it makes, or goes on with, a dataset: ``toy.py FOLDER WORKERS EXPOSURE_S``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nanophantom.simcore.fields import Axis, Table
from nanophantom.simcore.parallel import run_tasks
from nanophantom.simcore.runs import Acquisition, Cost, Frame, Parts, Run, SignalSpec
from nanophantom.simcore.store import DatasetWriter, Receipt, ShardWriter

RECIPE = "scenario: toy\nseed: 5\n"


@dataclass(eq=False)
class Toy(Acquisition):
    """A hill of expected counts that drifts by half a pixel a frame."""

    n_frames: int = 10
    shape: tuple[int, int] = (16, 24)
    run: Run = field(default_factory=lambda: Run(5))
    exposure_s: float = 0.0

    def signals(self) -> Mapping[str, SignalSpec]:
        axes = (Axis("y", 0.02, "nm"), Axis("x", 0.05, "nm"))
        return {"image": SignalSpec(self.shape, "uint16", axes, "counts", ideal="ideal")}

    def settings(self) -> Mapping[str, Any]:
        return {"pixel_size_nm": 0.02, "energy_kev": np.float64(300.0), "tilt_mrad": (1, 2)}

    def expose(self, i: int, parts: Parts | None = None) -> Frame:
        time.sleep(self.exposure_s)
        y, x = np.indices(self.shape)
        hill = np.exp(-((y - 8) ** 2 + (x - 8 - 0.5 * i) ** 2) / 20)
        ideal = (5 + 200 * hill).astype(np.float32)
        counts = self.run.rng("counts", i).poisson(ideal).astype(np.uint16)
        truth = {"ideal": ideal, "shift_nm": np.float64(0.025 * i)}
        shining = {"emitter": np.arange(i % 3), "photons": np.full(i % 3, 10.0 * i)}
        return Frame(i, {"image": counts}, truth, {"shining": shining})

    def truth(self, parts: Parts | None = None) -> Mapping[str, Table]:
        frames = np.arange(self.n_frames)
        return {
            "drift": {"t_s": 0.1 * frames, "dx_nm": 0.025 * frames},
            "groups": {"name": np.array(["Träger", "particle"])},
            "noise_free": {"image": self.expose(0).truth["ideal"]},
        }

    def truth_outline(self) -> Mapping[str, str]:
        return {"drift": "path", "groups": "names", "noise_free": "first frame"}

    def cost(self) -> Cost:
        return Cost(1_000_000, 1_000_000, 0.1)


def write_shard(toy: Toy, shards: ShardWriter, shard: int) -> Receipt:
    """Make and write one shard: the task of a worker."""
    return shards.write(shard, [toy.expose(i) for i in shards.layout.frames(shard)])


def make(folder: Path, toy: Toy, workers: int, shard_frames: int | None = None) -> None:
    """Make a dataset, or what is missing of it."""
    if folder.exists():
        writer = DatasetWriter.resume(folder, RECIPE)
    else:
        writer = DatasetWriter.create(folder, toy, RECIPE, shard_frames=shard_frames)
    with writer:
        if not writer.has_truth:
            writer.write_truth(toy.truth())
        tasks = (partial(write_shard, toy, writer.shards, shard) for shard in writer.missing)
        for receipt in run_tasks(tasks, workers):
            writer.record(receipt)
        writer.finish({"workers": workers})


def file_bytes(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files of a dataset that must not depend on how it was made."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("provenance.json", "wisdom")
    }


if __name__ == "__main__":
    print("working", flush=True)  # noqa: T201
    try:
        slow = Toy(n_frames=40, exposure_s=float(sys.argv[3]))
        make(Path(sys.argv[1]), slow, int(sys.argv[2]), shard_frames=2)
    except KeyboardInterrupt:
        sys.exit(130)
