"""Cameras: pixels a second and core, beside numpy's Poisson numbers alone.

One frame of 1024 x 1024 pixels, uneven by a half either way, whose mean numbers of electrons stand
in the head of the table. "Counting" is the whole chain of a counter (gain errors, dark events,
coincidence in internal frames, defects, saturation, 16 bits), "integrating" that of a sensor
without blur (events, deposits, gain, dark signal, noise, conversion); the best of seven rounds, in
the processor's time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from nanophantom.simcore.cameras import Camera

ELECTRONS = (0.1, 1.0, 20.0)
EDGE = 1024
ROUNDS = 7
FIXED = {
    "gain_reference": 5000.0,
    "dark_rate_hz": 1e-3,
    "dead_fraction": 1e-5,
    "hot_fraction": 1e-5,
}
NOISE = {"read_noise": 0.3, "row_noise": 0.03, "column_noise": 0.03, "offset_adu": 100.0}
CAMERAS: dict[str, dict[str, Any]] = {
    "ideal": {},
    "counting": {"sensor": {"type": "counting", "frame_rate_hz": 400.0, **FIXED}},
    "counting, larger coincidence area": {"preset": "k2-like-300kv"},
    "counting, blurred (FFT)": {"preset": "falcon-3-counting-300kv"},
    "integrating": {
        "sensor": {"type": "integrating", "dqe": (0.6, 0.45, 0.2), "bits": 16, **FIXED, **NOISE}
    },
    "integrating, blurred (FFT)": {"preset": "falcon-2-200kv"},
}


def main() -> None:
    """Print the table."""
    head = "".join(f"{n:>9g}" for n in ELECTRONS)
    print(f"{'Mpixel/s a core at electrons a pixel':40}{head}   goal")
    rng = np.random.default_rng(1)
    uneven = rng.uniform(0.5, 1.5, (EDGE, EDGE)).astype(np.float32)
    frames = [n * uneven for n in ELECTRONS]
    for name, recipe in CAMERAS.items():
        camera = Camera.model_validate({"width_px": EDGE, "height_px": EDGE, **recipe})
        read = camera.detector(rng, 1.0).read
        goal = "30 at 1" if name == "counting" else ""
        _print(name, [mpixel_per_s(partial(read, frame, rng)) for frame in frames], goal)
    name = "numpy, Poisson numbers alone"
    _print(name, [mpixel_per_s(partial(rng.poisson, frame)) for frame in frames])


def mpixel_per_s(frame: Callable[[], Any]) -> float:
    """Return the speed at which a frame is made, after one that compiles."""
    frame()
    seconds = []
    for _ in range(ROUNDS):
        start = time.process_time()
        frame()
        seconds.append(time.process_time() - start)
    return EDGE * EDGE / min(seconds) / 1e6


def _print(name: str, speeds: list[float], goal: str = "") -> None:
    print(f"{name:40}{''.join(f'{s:9.1f}' for s in speeds)}   {goal}".rstrip(), flush=True)


if __name__ == "__main__":
    main()
