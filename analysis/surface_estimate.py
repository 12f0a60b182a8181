"""The surface under a force microscope's image, from trace, retrace and the tip that took them.

Where the loop's lag is too low going up a hill, it is too high coming down: trace and retrace are
averaged, each put on the image's rows first, for the slow axis never stops. A plane is taken off,
the image is eroded by the tip, and where the reconstruction can be trusted is told: where the tip's
contact can only have been there, unless it is steep. A contact's place is known to half a pixel at
best, and on a steep flank that alone is a large height.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter
from scipy import ndimage

from nanophantom.analysis.levelling import level
from nanophantom.analysis.tip_deconvolution import reconstruct
from nanophantom.simcore.pixel_size import nominal_pixel
from nanophantom.simcore.probes.tip_map import TipMap
from nanophantom.simcore.probes.tip_shape import ProbeTip
from nanophantom.simcore.probes.tips import Tip

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SURE_NM = 0.5
"""A height that is called certain should be wrong by less than this."""
FELLOWS = 2
"""Contacts among a pixel and its eight neighbours that make it certain. A single one may be noise;
and noise lifts half of what the tip touched, which would then count as not touched."""


def find(
    height: npt.ArrayLike, height_retrace: npt.ArrayLike, settings: Mapping[str, Any]
) -> dict[str, npt.NDArray[Any]]:
    """Answer the task surface-reconstruction.

    Parameters
    ----------
    height, height_retrace : (frames, ny, nx)
        Recorded heights in nm, both ways stored from left to right; the first frame is used.
    settings
        Nominal: pixel_size_nm, pixel_size_y_nm, angle_deg, tip, and of the scan knots_a_line and
        slow_axis are read.

    Returns
    -------
    dict of (ny * nx,) arrays
        row, column, height_nm over the mean of the support, and certain (0 or 1).
    """
    image = levelled_mean(height, height_retrace, settings)
    tip = tip_on_pixels(settings, float(np.ptp(image)))
    heights, certain = surface_under(image, tip)
    row, column = np.indices(image.shape)
    return {
        "row": row.ravel(),
        "column": column.ravel(),
        "height_nm": heights.ravel(),
        "certain": certain.ravel().astype(np.int64),
    }


def levelled_mean(
    height: npt.ArrayLike, height_retrace: npt.ArrayLike, settings: Mapping[str, Any]
) -> Floats:
    """Return the first frame's mean of trace and retrace, (ny, nx), over its support's plane.

    Parameters
    ----------
    height, height_retrace : (frames, ny, nx)
    settings
        Of the scan, knots_a_line and slow_axis say where trace and retrace lie between the rows;
        without them they count as on the rows.
    """
    trace, back = (np.asarray(h, np.float64) for h in (height, height_retrace))
    if trace.ndim != 3 or trace.shape != back.shape or not len(trace):
        raise ValueError(
            "height and height_retrace must be equally large, (frames, ny, nx), got "
            f"{trace.shape} and {back.shape}"
        )
    below = rows_below(settings, trace.shape[2])
    image = (on_rows(trace[0], below) + on_rows(back[0], -below)) / 2
    levelled = level(image, 1, rows="none")
    return np.asarray(levelled.image - np.mean(levelled.image[~levelled.features]))


def rows_below(settings: Mapping[str, Any], width_px: int) -> Floats:
    """Return by how many rows the trace of the first frame lies below its row, (width_px,).

    The slow axis goes on evenly while a line is scanned there and back: the trace is half a row
    ahead of the row's place at its beginning and on it where it turns, the retrace the opposite.
    """
    if "knots_a_line" not in settings or "slow_axis" not in settings:
        return np.zeros(width_px)
    knots = int(settings["knots_a_line"])
    beyond = (knots // 2 - width_px) // 2
    below = (beyond + np.arange(width_px) + 0.5) / knots - 0.5
    return np.asarray(below if settings["slow_axis"][0] == "down" else -below)


def on_rows(image: Floats, below: Floats) -> Floats:
    """Return an image, whose columns were scanned so many rows below their place, at its place."""
    row, column = np.indices(image.shape)
    at = np.stack([row - below, column])
    return np.asarray(ndimage.map_coordinates(image, at, order=3, mode="nearest"), np.float64)


def tip_on_pixels(settings: Mapping[str, Any], depth_nm: float) -> TipMap:
    """Return the tip as it was characterised, sampled on the pixels of the image.

    Parameters
    ----------
    settings
        tip (a tip's own description: shape, radius_nm, ...), pixel_size_nm and pixel_size_y_nm.
    depth_nm
        Height of what it imaged.

    Raises
    ------
    ValueError
        The tip isn't told, or lines ran along other axes than those in which it is described.
    """
    if "tip" not in settings:
        raise ValueError("settings tell no tip: it is needed to undo what it did to the image")
    if float(settings.get("angle_deg", 0.0)) % 360 != 0:
        raise ValueError("the tip is described along x and y; scan with angle_deg 0 to use it")
    tip: ProbeTip = TypeAdapter(Tip).validate_python(settings["tip"])
    return tip.sampled(nominal_pixel(settings), depth_nm)


def surface_under(image: npt.ArrayLike, tip: TipMap) -> tuple[Floats, Bools]:
    """Return the surface under a noisy image, and where it can be trusted, both (ny, nx).

    Parameters
    ----------
    image : (ny, nx)
        Heights in nm, levelled.
    tip
        On the same pixels.
    """
    found = reconstruct(image, tip.heights_nm, tip.apex)
    flat = steepest_nm(found.heights_nm) < 2 * SURE_NM
    contacts = (found.certain & flat).astype(np.int64)
    nearby = ndimage.convolve(contacts, np.ones((3, 3), np.int64), mode="constant")
    return found.heights_nm, np.asarray((nearby >= FELLOWS) & flat)


def steepest_nm(heights: Floats) -> Floats:
    """Return the largest rise or fall from each pixel to its neighbours, per pixel of distance."""
    ny, nx = heights.shape
    around = np.pad(heights, 1, mode="edge")
    steepest = np.zeros_like(heights)
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        for sign in (1, -1):
            y, x = 1 + sign * dy, 1 + sign * dx
            rise = np.abs(around[y : y + ny, x : x + nx] - heights) / np.hypot(dy, dx)
            np.maximum(steepest, rise, out=steepest)
    return steepest
