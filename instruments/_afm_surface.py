"""The surface as the tip feels it: sampled finely enough, dilated by the tip of the moment."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

from nanophantom.simcore.atoms import Window
from nanophantom.simcore.fields import Array
from nanophantom.simcore.probes.dilation import dilate_rows_tracked, dilate_tracked
from nanophantom.simcore.probes.feedback import Landscape
from nanophantom.simcore.probes.line_scan import LineScan
from nanophantom.simcore.probes.tip_map import TipMap
from nanophantom.simcore.probes.tip_shape import ProbeTip
from nanophantom.simcore.specimens import Specimen
from nanophantom.simcore.surfaces import HasSurface, Surface

Floats = npt.NDArray[np.float64]

RADIUS_STEPS = 8.0
"""Samples to a tip's radius R. Between samples, s apart, the surface is straight: a sphere of
radius r comes out too low by up to s^2 / 8 (1 / r + 1 / R) for each axis."""
PIXEL_STEPS = 2
"""Samples along a pixel's edge, at least."""
MOST_SAMPLES = 16_000_000
"""Samples of a surface, at most."""
MOST_PRODUCTS = 1.5e10
"""Samples of a surface times those of the tip, at most: some seconds of dilation."""
REFUSED_SAMPLES, REFUSED_PRODUCTS = 64_000_000, 3e11
"""More than this isn't made, whoever asks."""
MOST_SAMPLES_A_PIXEL = 16
"""Samples along a pixel's edge, at most."""
RELIEF_SAMPLES = 256
"""Samples along each edge for a first look at the surface's relief."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Where a surface is sampled: pixels of the scan cut evenly, and a margin for the tip.

    Attributes
    ----------
    window
        What is sampled.
    shape
        Samples (ny, nx).
    """

    window: Window
    shape: tuple[int, int]

    @classmethod
    def around(
        cls,
        visited: Window,
        margin_nm: float,
        on_nm: tuple[float, float],
        pixel_nm: tuple[float, float],
        finest_nm: float,
        most_products: float,
    ) -> Grid:
        """Return a grid over a window and a margin.

        Parameters
        ----------
        visited
            Where the tip goes.
        margin_nm
            How far the tip touches beside its apex.
        on_nm
            A pixel's place (x, y), which becomes a sample.
        pixel_nm
            Pixel of the scan (y, x).
        finest_nm
            Samples are at most so far apart, if that can be afforded.
        most_products
            What can: samples of the surface times those of the tip.
        """
        window = visited.grown(margin_nm + 2 * max(pixel_nm))
        extent = window.height_nm, window.width_nm
        cuts = [min(math.ceil(p / finest_nm - 1e-9), MOST_SAMPLES_A_PIXEL) for p in pixel_nm]
        while True:
            steps = [p / n for p, n in zip(pixel_nm, cuts, strict=True)]
            ny, nx = (math.ceil(e / s) for e, s in zip(extent, steps, strict=True))
            touched = math.prod(1.0 + 2.0 * margin_nm / s for s in steps)
            if ny * nx <= MOST_SAMPLES and ny * nx * touched <= most_products:
                break
            if max(cuts) == 1:
                break
            cuts = [max(1, n - 1) for n in cuts]
        if ny * nx > REFUSED_SAMPLES or ny * nx * touched > REFUSED_PRODUCTS:
            raise ValueError(
                f"scan.pixel_size_nm: the tip visits {extent[1]:.3g} x {extent[0]:.3g} nm, drift "
                f"and flanks included: {ny * nx:.2g} samples at one a pixel, each touched by "
                f"{touched:.2g} of the tip, are too many; take larger pixels, less drift or a "
                "slimmer tip"
            )
        # Samples lie on the pixels where lines aren't turned.
        x0 = on_nm[0] - math.ceil((on_nm[0] - window.x0_nm) / steps[1]) * steps[1]
        y0 = on_nm[1] - math.ceil((on_nm[1] - window.y0_nm) / steps[0]) * steps[0]
        ny, nx = ny + 2, nx + 2
        return cls(Window(x0, x0 + nx * steps[1], y0, y0 + ny * steps[0]), (ny, nx))

    @property
    def step_nm(self) -> tuple[float, float]:
        """Distance between samples (y, x)."""
        return self.window.height_nm / self.shape[0], self.window.width_nm / self.shape[1]


def sampled(
    specimen: Specimen,
    visited: Window,
    tip: ProbeTip,
    scan: LineScan,
    step_nm: float | None = None,
) -> Surface:
    """Return the specimen's surface wherever the tip touches it, finely enough for the tip.

    Parameters
    ----------
    visited
        Where the tip's apex goes.
    scan
        Its pixels are samples of the surface where lines aren't turned.
    step_nm
        Samples are at most so far apart; None: as far as suits the tip and can be afforded.

    Raises
    ------
    ValueError
        The specimen has no surface, or the step can't be afforded.
    """
    first_look = _surface(specimen, visited, (RELIEF_SAMPLES, RELIEF_SAMPLES)).heights_nm
    margin = tip.reach_nm(1.1 * float(np.ptp(first_look)) + 1.0)
    x, y = (float(c[0]) for c in scan.raster_nm())
    first = scan.placed(np.array(x), np.array(y))
    grid = Grid.around(
        visited,
        margin,
        (float(first[0]), float(first[1])),
        scan.step_nm,
        min(tip.radius_nm / RADIUS_STEPS, *(p / PIXEL_STEPS for p in scan.step_nm))
        if step_nm is None
        else step_nm,
        MOST_PRODUCTS if step_nm is None else REFUSED_PRODUCTS,
    )
    if step_nm is not None and max(grid.step_nm) > step_nm * (1 + 1e-9):
        raise ValueError(
            f"surface_step_nm: {step_nm:g} nm can't be afforded over this scan (at most "
            f"{MOST_SAMPLES_A_PIXEL} samples along a pixel, {MOST_SAMPLES / 1e6:g} million in all, "
            f"{REFUSED_PRODUCTS:g} times those of the tip); {max(grid.step_nm):.3g} nm can"
        )
    return _surface(specimen, grid.window, grid.shape)


def _surface(specimen: Specimen, window: Window, shape: tuple[int, int]) -> Surface:
    if not isinstance(specimen, HasSurface):
        raise ValueError(
            "sample: it has no surface that a tip could feel; take one of the surface kinds "
            "(step, grating, spheres, spikes, rough-surface, height-map, ...; atoms go through "
            "atomic-surface)"
        )
    return specimen.surface_within(window, shape)


def felt(
    surface: Surface, tip: TipMap, rests_nm: Sequence[float] | None = None
) -> Mapping[str, Array]:
    """Return a surface as the tip meets it: what it comes to rest on, and of which material.

    The heights are those of `Landscape`: without rests the surface dilated by the tip.

    Parameters
    ----------
    rests_nm
        How far over each material the lever rests at the set point. A tip that sinks into soft
        things beside it is stopped by the hard ones under it: of all that it might touch that
        counts which holds it highest. None: all are equally hard.
    """
    over = _over(surface, rests_nm)
    heights, row, column = dilate_tracked(
        surface.heights_nm + over[surface.material], tip.heights_nm, tip.apex
    )
    return {"heights_nm": heights, "material": surface.material[row, column], "over_nm": over}


def _over(surface: Surface, rests_nm: Sequence[float] | None) -> Floats:
    """Return how much farther than over the first material the lever rests over each."""
    rests = np.zeros(len(surface.materials)) if rests_nm is None else np.array(rests_nm)
    return np.asarray(rests - rests[0], np.float64)


def landscape(surface: Surface, made: Mapping[str, Array]) -> Landscape:
    """Return a whole map as the loop reads it."""
    step_y, step_x = surface.step_nm
    window = surface.window
    return Landscape(
        window.x0_nm,
        window.y0_nm,
        step_x,
        step_y,
        made["heights_nm"],
        made["material"],
        made["over_nm"],
    )


def strip(
    surface: Surface,
    tip: TipMap,
    low_nm: float,
    high_nm: float,
    rests_nm: Sequence[float] | None = None,
) -> Landscape:
    """Return the landscape of the rows that a line crosses, for the tip of that line.

    Parameters
    ----------
    low_nm, high_nm
        Smallest and largest y of the line.
    rests_nm
        As :func:`felt`.
    """
    over = _over(surface, rests_nm)
    step_y, step_x = surface.step_nm
    ny = len(surface.heights_nm)
    first = min(max(math.floor((low_nm - surface.window.y0_nm) / step_y), 0), ny - 2)
    last = min(max(math.ceil((high_nm - surface.window.y0_nm) / step_y), first + 1), ny - 1)
    heights, row, column = dilate_rows_tracked(
        surface.heights_nm + over[surface.material], tip.heights_nm, tip.apex, first, last + 1
    )
    return Landscape(
        surface.window.x0_nm,
        surface.window.y0_nm + first * step_y,
        step_x,
        step_y,
        heights,
        surface.material[row, column],
        over,
    )


def at_pixels(surface: Surface, values: Floats, scan: LineScan) -> Floats:
    """Return a map's values at the nominal places of the pixels, bilinear, (height, width).

    Where lines aren't turned, pixels lie on samples, and nothing is interpolated.
    """
    row, column = _places(surface, scan)
    return np.asarray(
        map_coordinates(values, np.stack([row, column]), order=1, mode="nearest"), np.float64
    )


def nearest(surface: Surface, values: Array, scan: LineScan) -> Array:
    """Return a map's values at the samples next to the nominal places of the pixels."""
    row, column = _places(surface, scan)
    return np.asarray(values[np.rint(row).astype(int), np.rint(column).astype(int)])


def _places(surface: Surface, scan: LineScan) -> tuple[Floats, Floats]:
    """Return where the pixels lie among the samples, rows and columns."""
    x, y = scan.placed(*np.meshgrid(*scan.raster_nm()))
    step_y, step_x = surface.step_nm
    row, column = (y - surface.window.y0_nm) / step_y, (x - surface.window.x0_nm) / step_x
    return np.round(row, 9), np.round(column, 9)
