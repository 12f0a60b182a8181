"""What graders ask of the truth of height maps: the tip, particles in view, restless heights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.probes.tip_map import TipMap
from nanophantom.validation.height_figures import first_of

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]

WAYS = ("", "_retrace")


def tip_of(dataset: Observed) -> TipMap:
    """Return the fresh tip."""
    table = dataset.truth("tip")
    row, column = (int(i) for i in table["apex"])
    step_y, step_x = (float(s) for s in table["step_nm"])
    return TipMap(np.asarray(table["height_nm"], np.float64), (row, column), (step_y, step_x))


def on_pixels(tip: TipMap, pixel_nm: tuple[float, float]) -> TipMap:
    """Return a finely sampled tip on the pixels of an image, whose size is a multiple of its step.

    Raises
    ------
    ValueError
        It isn't.
    """
    every = [round(p / s) for p, s in zip(pixel_nm, tip.step_nm, strict=True)]
    if any(
        n < 1 or abs(n * s - p) > 1e-6 * p
        for n, s, p in zip(every, tip.step_nm, pixel_nm, strict=True)
    ):
        raise ValueError(f"pixels of {pixel_nm} nm are no multiple of the tip's {tip.step_nm} nm")
    (row, column), (down, along) = tip.apex, every
    heights = tip.heights_nm[row % down :: down, column % along :: along]
    return TipMap(heights, (row // down, column // along), pixel_nm)


def noise_of_mean_nm(dataset: Observed) -> float:
    """Return the rms of all that made trace and retrace of frame 0 restless, in their mean."""
    restless = np.zeros(())
    for way in WAYS:
        ideal = np.asarray(dataset.frame_truth(f"ideal_height{way}", 0, 1)[0], np.float64)
        moved = np.asarray(dataset.frame_truth(f"disturbance_z{way}", 0, 1)[0], np.float64)
        restless = restless + (first_of(dataset, f"height{way}") - ideal + moved) / len(WAYS)
    return float(np.std(restless))


@dataclass(frozen=True, eq=False)
class TrueParticles:
    """Particles whose middle lies in view, (n,) each; pixel (0, 0) lies at the origin."""

    x_nm: Floats
    y_nm: Floats
    diameter_nm: Floats
    height_nm: Floats


def particles_in_view(dataset: Observed, width_nm: float, height_nm: float) -> TrueParticles:
    """Return the particles of a specimen that repeats itself whose middles lie in the image.

    Parameters
    ----------
    width_nm, height_nm
        From the centre of the first pixel to that of the last one.
    """
    table, view = dataset.truth("specimen_particles"), dataset.truth("view")
    period = float(dataset.truth("specimen_size_distribution")["period_nm"][0])
    x0, y0 = float(view["x0_nm"][0]), float(view["y0_nm"][0])
    angle = np.deg2rad(float(view["angle_deg"][0]))
    x, y = (np.asarray(table[name], np.float64) for name in ("x_nm", "y_nm"))
    # Every copy that may lie within a diagonal of pixel (0, 0).
    far = int(np.ceil((np.hypot(width_nm, height_nm) + np.hypot(x0, y0)) / period)) + 1
    copies = period * np.arange(-far, far + 1)
    across = (x + copies[:, None, None] - x0) + 0 * copies[None, :, None]
    down = (y + copies[None, :, None] - y0) + 0 * copies[:, None, None]
    along = np.cos(angle) * across + np.sin(angle) * down
    down = np.cos(angle) * down - np.sin(angle) * across
    inside = (along >= 0) & (along <= width_nm) & (down >= 0) & (down <= height_nm)
    which = np.nonzero(inside)[2]
    return TrueParticles(
        along[inside],
        down[inside],
        np.asarray(table["diameter_nm"], np.float64)[which],
        np.asarray(table["height_nm"], np.float64)[which],
    )
