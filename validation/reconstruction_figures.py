"""Figures of the task surface-reconstruction: image, truth and what was made of the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nanophantom.validation.drawing import BLUE, GREEN, INK, ORANGE, RED, Floats, Plate, plot, plots
from nanophantom.validation.height_drawing import (
    Map,
    height_maps,
    profiles,
    span_of,
    steepest_row,
    tip_map,
)
from nanophantom.validation.height_figures import pixel_of
from nanophantom.validation.tasks.surface_reconstruction import TOLERANCE_NM

if TYPE_CHECKING:
    from nanophantom.simcore.probes.tip_map import TipMap
    from nanophantom.validation.task import Observed
    from nanophantom.validation.tasks.surface_reconstruction import Reconstructed

CLOSE_NM = 200.0
"""Length of the profile that is drawn to scale."""
SMALLEST_ERROR_NM = 1e-3
"""Smaller ones are drawn there."""


def of_reconstruction(dataset: Observed, c: Reconstructed) -> list[Plate]:
    """Draw maps, a profile to scale, and how large errors are where."""
    pixel = pixel_of(dataset)
    return [_maps(c, pixel), _profile(c, pixel), _errors(c)]


def _maps(c: Reconstructed, pixel: tuple[float, float]) -> Plate:
    span = span_of(c.surface, c.image)
    error = c.found - c.surface
    depth = span[1] - span[0]
    edge = max(float(np.percentile(np.abs(error), 99)), 1e-3)
    maps = [
        Map("image (trace)", c.image, span=span),
        Map("true surface", c.surface, span=span),
        Map("reconstruction", c.found, span=span),
        Map("where it was called certain", np.where(c.certain, c.found, np.nan), span=span),
        Map("reconstruction − truth", error, signed=True, span=(-edge, edge)),
        _tip(c.tip, c.surface.shape, depth),
    ]
    figure, axes = height_maps(maps, pixel)
    axes[3].set_facecolor("#9db4c8")
    axes[5].set_facecolor("#9db4c8")
    wrong = int(np.sum(c.certain & (np.abs(error) > TOLERANCE_NM)))
    caption = (
        "The tip makes every particle wider (first picture). Eroding the image with the known tip "
        "takes that back (third) wherever the tip touched the surface. At the feet of particles "
        "and under their equators it never did: there the reconstruction is the highest surface "
        "that gives the same image, which is too high (red in the fifth picture, whose colours end "
        f"at ±{edge:.2g} nm). The fourth shows the heights that were called certain, blue is left "
        f"open; {wrong:,} of these pixels are wrong by over {TOLERANCE_NM:g} nm. Last, the tip "
        "seen along its axis, as large as it is on the scale of the other pictures."
    )
    return Plate("What the tip hid, and what came back", caption, figure, raster=True, wide=True)


def _tip(tip: TipMap, shape: tuple[int, ...], depth_nm: float) -> Map:
    """Return a picture of the tip in the middle of one as large as the image."""
    canvas = np.full(shape, np.nan)
    shown = tip_map("the tip, to scale", tip.heights_nm, depth_nm)
    rows = np.arange(tip.heights_nm.shape[0]) + shape[0] // 2 - tip.apex[0]
    columns = np.arange(tip.heights_nm.shape[1]) + shape[1] // 2 - tip.apex[1]
    fits = ((rows >= 0) & (rows < shape[0]))[:, None] & ((columns >= 0) & (columns < shape[1]))
    i, j = np.nonzero(fits)
    canvas[rows[i], columns[j]] = shown.values[i, j]
    return shown._replace(values=canvas)


def _profile(c: Reconstructed, pixel: tuple[float, float]) -> Plate:
    """Draw a stretch of a row around its highest point, to scale, with the tip that touches."""
    row = steepest_row(c.surface)
    top = int(np.argmax(c.surface[row]))
    nx = c.surface.shape[1]
    length = min(nx, max(8, round(CLOSE_NM / pixel[1])))
    start = min(max(top - length // 2, 0), nx - length)
    part = slice(start, start + length)
    x = np.asarray(np.arange(nx)[part] * pixel[1], np.float64)
    # The tip stands where the image of the highest particle falls off, a tip's half width away.
    beside = int(np.sum(np.any(c.tip.heights_nm > -np.ptp(c.surface[row, part]), axis=0))) // 3
    at = max(top - beside, start)
    columns = at + np.arange(c.tip.heights_nm.shape[1]) - c.tip.apex[1]
    outline = c.image[row, at] - c.tip.heights_nm[c.tip.apex[0]]
    low = float(min(c.surface[row, part].min(), c.found[row, part].min())) - 2.0
    high = float(c.image[row, part].max()) * 1.25 + 4.0
    shown = (columns >= start) & (columns < start + length) & np.isfinite(outline)
    height = 9.2 * (high - low) / (x[-1] - x[0]) + 1.3
    figure, axes = plot(10.4, float(np.clip(height, 2.6, 6.0)))
    tip_x, tip_z = columns[shown] * pixel[1], outline[shown]
    axes.fill_between(tip_x, tip_z, np.maximum(high, tip_z), color="#8d99ae", alpha=0.35,
                      linewidth=0, label="the tip")  # fmt: skip
    axes.plot(tip_x, tip_z, color="#8d99ae", linewidth=1)
    profiles(
        axes,
        x,
        {
            "true surface": (c.surface[row, part], {"color": INK, "linewidth": 2.0}),
            "image (trace)": (c.image[row, part], {"color": ORANGE, "linewidth": 1.2}),
            "reconstruction": (c.found[row, part], {"color": BLUE, "linewidth": 1.2}),
            "called certain": (
                np.where(c.certain[row, part], c.found[row, part], np.nan),
                {"color": GREEN, "linestyle": "", "marker": "o", "markersize": 3.4},
            ),
        },
    )
    axes.set_aspect("equal")
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(low, high)
    axes.legend(fontsize=8.5, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.22), ncol=5)
    caption = (
        f"Part of the row at y = {row * pixel[0]:.4g} nm, heights and widths on one scale. The "
        "image (orange) is the path of the tip's lowest point, while what touches is its flank. "
        "The reconstruction (blue) runs along the lowest parts of all tips that stood there: on "
        "the truth (black) where one touched it, above it in the clefts. Green: called certain."
    )
    return Plate("A profile to scale", caption, figure, wide=True)


def _errors(c: Reconstructed) -> Plate:
    """Draw how many pixels are wrong by more than so much."""
    figure, (left, right) = plots(10.4, 3.8, 2)
    error = c.found - c.surface
    curves = (
        ("image, all pixels", c.image - c.surface, ORANGE, "--"),
        ("reconstruction, all pixels", error, BLUE, "-"),
        ("called certain", error[c.certain], GREEN, "-"),
        ("best without noise, all pixels", c.best - c.surface, INK, ":"),
    )
    for label, errors, colour, dashes in curves:
        if not errors.size:
            continue
        size = np.sort(
            np.maximum(np.abs(np.asarray(errors, np.float64).ravel()), SMALLEST_ERROR_NM)
        )
        beyond: Floats = 1 - np.arange(size.size) / size.size
        left.loglog(size, beyond, color=colour, linestyle=dashes, linewidth=1.4, label=label)
    left.axvline(TOLERANCE_NM, color=RED, linewidth=0.8, alpha=0.7)
    left.set_xlim(5e-3, None)
    left.set_xlabel("error regardless of sign (nm)")
    left.set_ylabel("share of pixels with a larger one")
    left.legend(fontsize=8.5, frameon=False, loc="lower left")
    kinds = (
        ("certain, right", c.certain & (np.abs(error) <= TOLERANCE_NM), GREEN),
        ("certain, wrong", c.certain & (np.abs(error) > TOLERANCE_NM), RED),
        ("left open, tip can reach it", ~c.certain & c.reached, BLUE),
        ("left open, out of reach", ~c.certain & ~c.reached, "#8d99ae"),
    )
    for i, (label, where, colour) in enumerate(kinds):
        share = float(np.mean(where))
        right.barh(i, share, color=colour)
        right.text(share + 0.01, i, f"{label}: {100 * share:.2g} %", va="center", fontsize=9)
    right.set_yticks([])
    right.invert_yaxis()
    right.set_xlim(0, 1)
    right.set_xlabel("share of all pixels")
    caption = (
        "Left: how many pixels are wrong by more than so much. The dotted line is the best that "
        "erosion can do with this tip: what is out of its reach stays wrong by many nanometres "
        "even without noise. The green line should fall before the red mark at "
        f"{TOLERANCE_NM:g} nm. Right: the claims of certainty beside what the tip can reach."
    )
    return Plate("How wrong, and where", caption, figure, wide=True)
