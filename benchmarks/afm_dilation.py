"""Dilation by a tip: seconds, and how much faster than scipy's, which gives the same image.

A rough surface of 512 x 512 samples (Gaussian, correlation length 16 nm, 1 nm a sample) lies under
a tip of 65 x 65 (sphere of 10 nm on a cone of 20 degrees half angle): one thread, the processor's
time, the best of several rounds, all in one run. The paraboloid has the sphere's radius and no
end; it stands beside scipy's dilation by the 65 x 65 samples about its apex.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nanophantom.simcore.probes.certainty import certainty_map
from nanophantom.simcore.probes.dilation import dilate, dilate_tracked, erode
from nanophantom.simcore.probes.paraboloid import dilate_paraboloid
from nanophantom.simcore.probes.sphere_cone import cone_height

Floats = npt.NDArray[np.float64]
EDGE, REACH, RADIUS_NM, HALF_ANGLE_DEG = 512, 32, 10.0, 20.0
APEX = (REACH, REACH)


def rough(sq_nm: float, blur_px: float) -> Floats:
    """Return a Gaussian surface of mean zero that repeats."""
    white = np.random.default_rng(0).normal(size=(EDGE, EDGE))
    heights = ndimage.gaussian_filter(white, blur_px, mode="wrap")
    return np.asarray(sq_nm * heights / heights.std())


def best_s(work: Callable[[], Any], rounds: int = 7) -> float:
    """Return the shortest processor time of several rounds, after one that compiles."""
    work()
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    """Print the table."""
    u = np.arange(-REACH, REACH + 1.0)
    tip = -cone_height(np.hypot(u[:, None], u), RADIUS_NM, HALF_ANGLE_DEG)
    paraboloid = -(u[:, None] ** 2 + u**2) / (2 * RADIUS_NM)
    for name, heights in (("high", rough(10.0, 8.0)), ("low", rough(1.0, 8.0))):
        print(f"surface {name}, {np.ptp(heights):.0f} nm from its lowest to its highest sample")
        expected = ndimage.grey_dilation(heights, structure=tip, mode="nearest")
        image = dilate(heights, tip, APEX)
        scipy_s = best_s(lambda h=heights: ndimage.grey_dilation(h, structure=tip, mode="nearest"))
        parabola_s = best_s(
            lambda h=heights: ndimage.grey_dilation(h, structure=paraboloid, mode="nearest")
        )
        rows: list[tuple[str, float, float, str]] = [
            ("scipy.ndimage.grey_dilation", scipy_s, scipy_s, ""),
            ("dilation", best_s(lambda h=heights: dilate(h, tip, APEX)), scipy_s, "10"),
            ("with contacts", best_s(lambda h=heights: dilate_tracked(h, tip, APEX)), scipy_s, ""),
            ("erosion", best_s(lambda i=image: erode(i, tip, APEX)), scipy_s, ""),
            (
                "erosion and certainty map",
                best_s(lambda i=image: certainty_map(i, tip, APEX)),
                scipy_s,
                "",
            ),
            (
                "dilation by a paraboloid",
                best_s(lambda h=heights: dilate_paraboloid(h, RADIUS_NM, 1.0)),
                parabola_s,
                "40",
            ),
        ]
        print(f"{'':30}{'ms':>8}{'x scipy':>9}   goal")
        for what, seconds, reference_s, goal in rows:
            print(f"{what:30}{1e3 * seconds:8.1f}{reference_s / seconds:9.1f}   {goal}")
        print(f"largest difference from scipy: {np.abs(image - expected).max():.1e} nm")
