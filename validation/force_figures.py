"""Figures of any force volume: its curves, and the truth behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.colors import LogNorm

from nanophantom.validation.drawing import BLUE, GREEN, INK, ORANGE, PINK, RED, Plate, plots
from nanophantom.validation.height_drawing import Map, height_maps, span_of

if TYPE_CHECKING:
    from nanophantom.simcore.fields import Table
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]

MATERIAL_COLOURS = (BLUE, ORANGE, GREEN, PINK, RED)
"""Of materials in the order of their index."""
LOG_FROM = 3.0
"""Where a quantity spans a ratio beyond this, its colours follow the logarithm."""
FAR = 0.2
"""Beyond this part of the way up from contact, a curve shows its baseline only."""
MOST_CURVES = 3
"""Materials whose curves are drawn."""


def is_force_volume(dataset: Observed) -> bool:
    """Say whether a dataset holds force curves on a grid."""
    return "z_approach" in dataset.signals and "curves" in dataset.truth_tables


def of_force_volume(dataset: Observed) -> list[Plate]:
    """Draw a curve of each material, and the maps that are true of the grid."""
    return [_curves(dataset), _truth(dataset)]


def picture(dataset: Observed) -> Floats:
    """Return what stands for the dataset in a list: the true contact heights."""
    return map_of(dataset, dataset.truth("curves")["contact_height_nm"])


def map_of(dataset: Observed, values: npt.ArrayLike) -> Floats:
    """Return a column of the table of curves as a map."""
    settings = dataset.settings
    shape = int(settings["height_px"]), int(settings["width_px"])
    return np.asarray(values, np.float64).reshape(shape)


def pixel_of(dataset: Observed) -> tuple[float, float]:
    """Return the distance of points along y and x, nm."""
    step = float(dataset.settings["pixel_size_nm"])
    return step, step


def names_of(dataset: Observed) -> list[str]:
    """Return the names of the materials."""
    names = np.asarray(dataset.truth("materials")["name"]).tolist()
    return [n.decode() if isinstance(n, bytes) else str(n) for n in names]


def logarithmic(axes: Any, span: tuple[float, float]) -> None:
    """Let the colours of a map follow the logarithm of its values."""
    image = axes.images[0]
    image.set_norm(LogNorm(*span))
    powers = 10.0 ** np.arange(np.floor(np.log10(span[0])), np.ceil(np.log10(span[1])) + 1)
    ticks = [t for t in np.outer(powers, (1, 2, 5)).ravel() if span[0] <= t <= span[1]]
    image.colorbar.set_ticks(ticks, labels=[f"{t:g}" for t in ticks])
    image.colorbar.minorticks_off()


def baseline_of(z_nm: Floats, deflection_nm: Floats, contact_nm: float) -> Floats:
    """Return the straight line, at all heights, through what was read far from the surface."""
    far = z_nm > contact_nm + FAR * (z_nm.max() - contact_nm)
    return np.asarray(np.polyval(np.polyfit(z_nm[far], deflection_nm[far], 1), z_nm))


def typical(dataset: Observed) -> dict[int, int]:
    """Return one curve of each material, the one whose contact height is in the middle."""
    truth = dataset.truth("curves")
    material = np.asarray(truth["material"])
    heights = np.asarray(truth["contact_height_nm"], np.float64)
    chosen = {}
    for m in np.unique(material)[:MOST_CURVES]:
        of_it = np.flatnonzero((material == m) & np.asarray(truth["touched"]))
        if len(of_it):
            chosen[int(m)] = int(of_it[np.argsort(heights[of_it])[len(of_it) // 2]])
    return chosen


def curve_of(dataset: Observed, name: str, i: int) -> Floats:
    """Return one curve of a signal by its index on the grid."""
    row, column = divmod(i, int(dataset.settings["width_px"]))
    return np.asarray(dataset.signal(name, row, row + 1)[0][column], np.float64)


def ideal_of(dataset: Observed, name: str, i: int) -> Floats:
    """Return the noise-free counterpart of one curve."""
    row, column = divmod(i, int(dataset.settings["width_px"]))
    return np.asarray(dataset.frame_truth(f"ideal_{name}", row, row + 1)[0][column], np.float64)


def _curves(dataset: Observed) -> Plate:
    chosen = typical(dataset)
    truth, names = dataset.truth("curves"), names_of(dataset)
    figure, all_axes = plots(10.8, 4.2, max(len(chosen), 1))
    for axes, (m, i) in zip(all_axes, chosen.items(), strict=False):
        contact = float(truth["contact_height_nm"][i])
        read = {}
        for name, colour, word in (
            ("approach", BLUE, "approach ↓"),
            ("retract", RED, "retract ↑"),
        ):
            z = curve_of(dataset, f"z_{name}", i) - contact
            read[name] = z, curve_of(dataset, name, i)
            axes.plot(z, read[name][1], color=colour, linewidth=0.9, alpha=0.75, label=word)
        z, x = read["approach"]
        axes.plot(
            z, baseline_of(z, x, 0.0), color=INK, linewidth=1.0, linestyle=":", label="baseline"
        )
        marks = (
            ("snap-in", "snap_in_height_nm", "v", BLUE, "approach"),
            ("pull-off", "pull_off_height_nm", "^", RED, "retract"),
        )
        for word, table, marker, colour, name in marks:
            place = float(truth[table][i]) - contact
            if not np.isfinite(place):
                continue
            at, values = read[name]
            lowest = float(values[np.abs(at - place) < 3 * np.abs(at[1] - at[0])].min())
            axes.plot([place], [lowest], marker, color=colour, markersize=7, label=word, zorder=6)
        axes.axvline(0.0, color=GREEN, linewidth=1.0, label="contact height")
        deep = -float(z.min())
        jump = float(np.nan_to_num(truth["pull_off_height_nm"][i] - contact))
        axes.set_xlim(-1.08 * deep, min(max(3.0 * jump, 1.5 * deep), float(z.max())))
        axes.set_title(names[m], fontsize=10.5)
        axes.set_xlabel("base over the contact height (nm)")
        axes.set_ylabel("deflection as read (nm)")
    all_axes[0].legend(fontsize=8.5, frameon=False, loc="upper right")
    caption = (
        "A force curve of each material, the part near the surface. From the right: the free lever "
        "reads the baseline, with its offset and tilt; attraction makes it snap in; then the "
        "surface bends it up, less steeply where it yields. On the way back adhesion holds the tip "
        "until the lever tears it off. Force is stiffness times deflection over the baseline."
    )
    return Plate("Force curves", caption, figure, wide=True)


def _truth(dataset: Observed) -> Plate:
    truth, surface = dataset.truth("curves"), dataset.truth("surface")
    contact = map_of(dataset, truth["contact_height_nm"])
    height = np.asarray(surface["height_nm"], np.float64)
    both = span_of(height, contact)
    maps = [
        Map("true surface", height, span=both),
        Map("contact height: dilated by the tip", contact, span=both),
        Map("indentation at the trigger", map_of(dataset, truth["indentation_nm"])),
        Map("Young's modulus", map_of(dataset, truth["modulus_gpa"]), "GPa"),
    ]
    if _sticky(truth):
        maps.append(Map("adhesion", map_of(dataset, truth["adhesion_nn"]), "nN"))
    figure, axes = height_maps(maps, pixel_of(dataset), across=3)
    modulus = np.asarray(truth["modulus_gpa"], np.float64)
    if modulus.max() > LOG_FROM * modulus.min():
        logarithmic(axes[3], (float(modulus.min()), float(modulus.max())))
    caption = (
        "The truth. The tip touches where its shape lets it (second picture), on the material that "
        "lies there. At the trigger force it has gone in by the third picture: an image recorded "
        "at constant force is the second minus the third, so soft places look lower than they are."
    )
    return Plate("The truth behind it", caption, figure, raster=True, wide=True)


def _sticky(truth: Table) -> bool:
    adhesion = np.asarray(truth["adhesion_nn"], np.float64)
    return bool(np.isfinite(adhesion).any() and np.nanmax(adhesion) > 0)
