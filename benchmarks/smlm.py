"""Localization microscopy: movies made and localized, beside Picasso on the same work, live.

128 x 128 pixels, spots of one pixel's sigma. Simulation: DNA-PAINT on 1350 sites, 1000 frames of
0.1 s, bound for 0.2 s every 15 s, 1000 photons a full frame; ours from the recipe to frames with
all their truth, and to the finished dataset (compressed, synced to the disk), Picasso's the loop of
its window without the window, to its .raw file. Localization, end to end with maximum likelihood:
about 20 spots a frame at random, 1000 photons, background 10; then 36 spots a frame 20 pixels
apart, whose errors stand beside the Cramér-Rao bound. Walls of the best of several rounds, all
processors, compiled before; peak memory is that of all processes together. Without Picasso
(`NANOPHANTOM_PICASSO_PYTHON`, or pip) our columns stand alone.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks import _picasso
from benchmarks._smlm_work import (
    BACKGROUND,
    EDGE,
    PIXEL_NM,
    SIGMA_PX,
    Judged,
    crowded,
    isolated,
    judge,
)
from benchmarks._watched import answer
from nanophantom.simcore.localization_files import read_picasso

FRAMES, LONG = 1000, 20_000
BOUND_NM = 4.095
"""Cramér-Rao bound of x in a box of seven pixels, averaged over places in a pixel."""

SIMULATE = """
import time
import numpy as np
from picasso import simulate
rng = np.random.default_rng(1)
n, frames, edge = 1350, given["frames"], given["edge"]
sites = np.zeros((5, n))
sites[:2] = rng.uniform(0, edge, (2, n))

def make():
    lit = np.zeros((n, frames), int)
    for i in range(n):
        lit[i] = simulate.distphotons(sites, 100, frames, 15000, 200, 10.0, 0.0, 1e9)[0]
    movie = np.zeros((frames, edge, edge))
    for i in range(frames):
        movie[i] = simulate.convertMovie(
            i, lit, sites, edge, frames, given["sigma"], 10.0, given["background"], 0, 0, [], [])
    movie = simulate.check_type(simulate.noisy_p(movie, given["background"]))
    simulate.saveMovie("picasso.raw", movie, {"Frames": frames})
    return int((lit > 0).sum())

best = float("inf")
for _ in range(given["rounds"]):
    start = time.perf_counter()
    spots = make()
    best = min(best, time.perf_counter() - start)
print(json.dumps({"seconds": best, "spots": spots}))
"""

LOCALIZE = """
import time
from picasso import io, localize
camera = {"Baseline": 0, "Sensitivity": 1.0, "Gain": 1, "Qe": 1.0, "Pixelsize": given["pixel"]}
spots = {"Min. Net Gradient": 1500, "Box Size": 7}

def find(movie, info):
    return localize.localize(movie, camera_info=camera, identification_parameters=spots,
                             movie_info=info, fitting_method="gaussmle", threaded=True)

movie, info = io.load_movie("movie.raw")
find(movie, info)
best = float("inf")
for _ in range(given["rounds"]):
    start = time.perf_counter()
    locs, notes = find(movie, info)
    best = min(best, time.perf_counter() - start)
io.save_locs("picasso_locs.hdf5", locs, notes)
print(json.dumps({"seconds": best, "localizations": len(locs)}))
"""


def ours(task: str, folder: Path, frames: int) -> tuple[dict[str, Any], float]:
    """Run one of our tasks in a process of its own; return its answer and its peak memory in MB."""
    here = Path(__file__).parents[1]
    command = [sys.executable, "-m", "benchmarks._smlm_ours", task, str(folder), str(frames)]
    return answer(command, here)


def main() -> None:
    """Print the table."""
    try:
        _picasso.interpreter()
        picasso = True
    except _picasso.NoPicassoError as reason:
        print(f"without Picasso: {reason}")
        picasso = False
    print(f"{'':46}{'ours':>10}{'Picasso':>10}{'ratio':>8}   goal")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _simulation(folder, picasso)
        _localization(folder, picasso)
        _memory(folder)


def _simulation(folder: Path, picasso: bool) -> None:
    made, used = ours("simulate", folder, FRAMES)
    theirs = memory = None
    if picasso:
        given = {"frames": FRAMES, "edge": EDGE, "sigma": SIGMA_PX, "background": BACKGROUND}
        told, memory = _picasso.watched(SIMULATE, folder, rounds=3, **given)
        theirs = told["spots"] / told["seconds"]
    for what in ("in_memory", "on_disk"):
        rate = made["spots"] / made[f"{what}_s"]
        _row(f"simulated spots/s, {what.replace('_', ' ')}", rate, theirs, "10 x", ".0f")
    _row("  peak memory, MB", used, memory, "< 600", ".0f")


def _localization(folder: Path, picasso: bool) -> None:
    rng = np.random.default_rng(2)
    for what, make in (("20 spots a frame", crowded), ("isolated", isolated)):
        movie, true = make(FRAMES, rng)
        np.save(folder / "movie.npy", movie)
        found, memory = ours("localize", folder, FRAMES)
        with np.load(folder / "ours.npz") as columns:
            own = judge({name: columns[name].astype(float) for name in columns}, true)
        rate = found["localizations"] / found["seconds"]
        theirs, their_rate, their_memory = None, None, None
        if picasso:
            told, their_memory = _picasso_localizes(folder, movie)
            their_rate = told["localizations"] / told["seconds"]
            theirs = judge(read_picasso(folder / "picasso_locs.hdf5"), true)
        _row(f"{what}: localizations/s", rate, their_rate, "3 x", ".0f")
        _row("  peak memory, MB", memory, their_memory, "< 600", ".0f")
        _quality(own, theirs, make is isolated)


def _picasso_localizes(folder: Path, movie: np.ndarray) -> tuple[dict[str, Any], float]:
    movie.astype("<u2").tofile(folder / "movie.raw")
    info = {"Byte Order": "<", "Data Type": "uint16", "Frames": len(movie)}
    info |= {"Height": EDGE, "Width": EDGE, "Pixelsize": PIXEL_NM}
    (folder / "movie.yaml").write_text(yaml.safe_dump(info))
    return _picasso.watched(LOCALIZE, folder, pixel=PIXEL_NM, rounds=5)


def _quality(own: Judged, theirs: Judged | None, alone: bool) -> None:
    if alone:
        bound = None if theirs is None else theirs.rms_x_nm / BOUND_NM
        _row(
            f"  rms of x / bound of {BOUND_NM} nm", own.rms_x_nm / BOUND_NM, bound, "< 1.03", ".3f"
        )
    jaccard, rmse = (None, None) if theirs is None else (theirs.jaccard, theirs.rmse_xy_nm)
    _row("  Jaccard index, 250 nm", own.jaccard, jaccard, ">= Picasso", ".4f")
    _row("  RMSE in the plane, nm", own.rmse_xy_nm, rmse, "<= Picasso", ".2f")


def _memory(folder: Path) -> None:
    """Print what long movies need beside short ones."""
    print(f"\n{'peak memory, MB':46}{FRAMES:>10}{LONG:>10}{'ratio':>8}   frames")
    (folder / "memory").mkdir()
    for task in ("simulate_once", "localize_dataset", "export_dataset"):
        short, long = (ours(task, folder / "memory", frames)[1] for frames in (FRAMES, LONG))
        print(f"  {task:44}{short:10.0f}{long:10.0f}{long / short:8.2f}", flush=True)


def _row(what: str, own: float, theirs: float | None, goal: str, form: str) -> None:
    beside = "" if theirs is None else f"{theirs:{form}}"
    ratio = "" if not theirs else f"{own / theirs:.2f}"
    print(f"{what:46}{own:>10{form}}{beside:>10}{ratio:>8}   {goal}", flush=True)


if __name__ == "__main__":
    main()
