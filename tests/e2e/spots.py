"""A movie of spots at known places, for tests of formats: uneven in x, y and time.

Tests put this folder on ``sys.path`` and import it by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import erf

from nanophantom.simcore.fields import Axis, Table
from nanophantom.simcore.runs import Acquisition, Cost, Frame, Parts, Run, SignalSpec

PIXEL_NM = 110.0
CAMERA = {
    "offset_adu": 200.0,
    "adu_per_electron": 2.5,
    "quantum_efficiency": 0.8,
    "em_gain": 1.0,
    "read_noise_e": 0.0,
    "excess_noise": 1,
}
PLACES_PX = np.array([(7, 9), (40, 8), (22, 13), (11, 24), (36, 26), (43, 27), (18, 19)], float)
"""x, y of the emitters' mean places; no reflection, turn or exchange maps them on themselves."""


def spot(shape: tuple[int, int], x: float, y: float, sigma: float) -> np.ndarray:
    """Return a Gaussian of sum 1 integrated over pixels; all lengths in pixels."""

    def along(n: int, centre: float) -> np.ndarray:
        edges = (np.arange(n + 1) - 0.5 - centre) / (np.sqrt(2) * sigma)
        return np.diff(erf(edges)) / 2

    return np.outer(along(shape[0], y), along(shape[1], x))


@dataclass(eq=False)
class Spots(Acquisition):
    """Seven emitters that wander by half a pixel from frame to frame; the first few are lit."""

    n_frames: int = 12
    shape: tuple[int, int] = (34, 52)
    photons: float = 2000.0
    background: float = 5.0
    run: Run = field(default_factory=lambda: Run(7))
    camera: dict[str, Any] = field(default_factory=lambda: dict(CAMERA))

    def signals(self) -> Mapping[str, SignalSpec]:
        axes = (Axis("y", PIXEL_NM, "nm"), Axis("x", PIXEL_NM, "nm"))
        return {"movie": SignalSpec(self.shape, "uint16", axes, "ADU", ideal="ideal")}

    def settings(self) -> Mapping[str, Any]:
        return {
            "pixel_size_nm": PIXEL_NM,
            "exposure_s": 0.03,
            "frame_period_s": 0.05,
            "na": 1.4,
            "wavelength_nm": 670.0,
            "psf_sigma_nm": 1.1 * PIXEL_NM,
            "camera": self.camera,
        }

    def lit(self, i: int) -> Table:
        """Return the emitters of a frame."""
        n = 3 + i % 5
        places = PLACES_PX[:n] + self.run.rng("places", i).uniform(-0.5, 0.5, (n, 2))
        x, y = PIXEL_NM * places.T
        photons = self.photons * (1 + 0.1 * np.arange(n))
        numbers = {"blink": np.zeros(n, np.int32), "dye": np.arange(n, dtype=np.int32)}
        return {**numbers, "x_nm": x, "y_nm": y, "z_nm": np.zeros(n), "photons": photons}

    def expose(self, i: int, parts: Parts | None = None) -> Frame:
        lit, known = self.lit(i), self.camera
        light = np.full(self.shape, self.background)
        for x, y, photons in zip(lit["x_nm"], lit["y_nm"], lit["photons"], strict=True):
            light += photons * spot(self.shape, x / PIXEL_NM, y / PIXEL_NM, 1.1)
        electrons = self.run.rng("counts", i).poisson(known["quantum_efficiency"] * light)
        adu = known["offset_adu"] + known["adu_per_electron"] * electrons
        ideal = known["offset_adu"] + (
            known["adu_per_electron"] * known["quantum_efficiency"] * light
        )
        return Frame(
            i,
            {"movie": np.rint(adu).astype(np.uint16)},
            {"ideal": ideal.astype(np.float32)},
            {"emissions": lit},
        )

    def truth(self, parts: Parts | None = None) -> Mapping[str, Table]:
        return {"places": {"x_px": PLACES_PX[:, 0], "y_px": PLACES_PX[:, 1]}}

    def truth_outline(self) -> Mapping[str, str]:
        return {"places": "mean places"}

    def cost(self) -> Cost:
        return Cost(1_000_000, 1_000_000, 0.1)


def emissions(movie: Spots) -> dict[str, np.ndarray]:
    """Return what shone in all frames, as one table."""
    tables = [movie.lit(i) for i in range(movie.n_frames)]
    frames = np.repeat(np.arange(movie.n_frames), [len(table["dye"]) for table in tables])
    columns = {name: np.concatenate([t[name] for t in tables]) for name in tables[0]}
    return {"frame": frames, **columns}
