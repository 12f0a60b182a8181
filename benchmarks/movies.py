"""Low-dose movies: a hundred drifting frames against one exit wave and a hundred detector frames.

A gold particle on ceria, static and without heat, 1024 x 1024 pixels, 0.1 and 1 electrons a pixel
and frame, by an ideal counter and by a counting camera with coincidence and gain errors. All work
on one processor; the exit wave is scattered, imaged and made ready as for any frame. Medians of
three rounds in turns, in the processor's time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from nanophantom.api import instrument, sample
from nanophantom.simcore.runs import Run

FRAMES = 100
ROUNDS = 3
GOAL = 1.5
CAMERAS: dict[str, dict[str, Any]] = {
    "ideal counter": {},
    "counting camera": {
        "sensor": {
            "type": "counting",
            "frame_rate_hz": 400.0,
            "gain_reference": 5000.0,
            "dead_fraction": 1e-5,
        }
    },
}


def main() -> None:
    """Print the table."""
    print(f"{'seconds':30}{'exit wave':>11}{'detector':>10}{'movie':>8}   ratio   goal")
    specimen = sample("nanoparticle-on-support").make(Run(1))
    for name, knobs in CAMERAS.items():
        for electrons in (0.1, 1.0):
            tem = instrument(
                "tem",
                exposures={
                    "n_frames": FRAMES,
                    "dose_e_per_A2": electrons / 0.09**2,
                    "exposure_s": 0.1,
                },
                camera={"pixel_size_nm": 0.009, **knobs},
                drift={"speed_nm_per_s": 0.02, "walk_nm_per_sqrt_s": 0.02},
                multislice={"thermal_motion": False},
            )
            _row(f"{name}, {electrons:g} e/pixel", tem.plan(specimen, Run(1)))


def _row(name: str, planned: Any) -> None:
    """Measure one movie."""
    parts = planned.make_parts()
    electrons = planned.electrons(parts, 0)
    planned.detector.read(electrons, planned.run.rng("counts", 0))

    def read_all() -> None:
        for i in range(FRAMES):
            planned.detector.read(electrons, planned.run.rng("counts", i))

    def expose_all(made: Any) -> None:
        for i in range(FRAMES):
            planned.expose(i, made)

    rounds = []
    for _ in range(ROUNDS):
        made: dict[str, Any] = {}
        wave = _seconds(lambda made=made: made.update(planned.make_parts()))
        planned.__dict__.pop("_known", None)
        frames = _seconds(read_all)
        movie = wave + _seconds(lambda made=made: expose_all(made))
        rounds.append((wave, frames, movie))
    wave, frames, movie = np.median(rounds, axis=0)
    ratio = movie / (wave + frames)
    print(f"{name:30}{wave:11.2f}{frames:10.2f}{movie:8.2f}{ratio:8.2f}{GOAL:7.1f}", flush=True)


def _seconds(work: Callable[[], None]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
