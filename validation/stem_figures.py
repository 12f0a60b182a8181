"""Figures of the task stem-columns: what each detector sees, and what was found with all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Wedge
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

from nanophantom.analysis.stem_columns import phase_of
from nanophantom.validation.drawing import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PINK,
    RED,
    SKY,
    Floats,
    Plate,
    contrast,
    extent_of,
    gallery,
    plot,
    scale_bar,
)
from nanophantom.validation.figures import average, pixel_size_of

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed
    from nanophantom.validation.tasks.stem_columns import Found

KIND_COLOURS = (GREEN, SKY, RED, ORANGE, PINK)
"""From the heaviest kind of column to the lightest."""
WORDS = {
    "bf": "bright field",
    "abf": "annular bright field",
    "adf": "annular dark field",
    "haadf": "high-angle dark field",
}
PATCH_NM = 0.04
"""A column's brightness is the mean within this radius."""
PM_PER_NM = 1000.0


def of_detectors(dataset: Observed, found: Found) -> list[Plate]:
    """Draw images of all detectors, their geometry, contrast and profiles, and what was found."""
    measured = views(
        {name: average(dataset, name)[0].astype(np.float64) for name in dataset.signals},
        dataset.settings,
    )
    ideal = views(
        {name: np.asarray(a, np.float64) for name, a in dataset.truth("noise_free").items()},
        dataset.settings,
    )
    plates = [_images(dataset, found, measured), _geometry(dataset)]
    if found.target.any():
        plates += [_who_sees_what(dataset, found, measured, ideal)]
        profile = _profile(dataset, found, measured, ideal)
        plates += [profile] if profile is not None else []
    plates.append(_hits(dataset, found, measured))
    if len(found.hit_found):
        plates.append(_errors(found))
    return plates


def views(signals: Mapping[str, Floats], settings: Mapping[str, Any]) -> dict[str, Floats]:
    """Return the images that a microscopist looks at: rings as they are, phases of the others."""
    images: dict[str, Floats] = {}
    for name, detector in settings["detectors"].items():
        if detector["shape"] == "annular":
            inner, outer = detector["inner_mrad"], detector["outer_mrad"]
            word = WORDS.get(name, name)
            images[f"{word} ({inner:g}–{outer:g} mrad)"] = signals[name]
        else:
            word = "iDPC" if detector["shape"] == "segmented" else "iCoM"
            images[f"{word} phase ({name})"] = phase_of(name, signals, settings)
    return images


def _images(dataset: Observed, found: Found, measured: Mapping[str, Floats]) -> Plate:
    """Draw all images, measured, with the true columns marked."""
    units = {name: "rad" if "phase" in name else "electrons" for name in measured}
    figure, all_axes = gallery(measured, pixel_size_of(dataset), across=3, units=units)
    for axes in all_axes:
        _mark_kinds(axes, found, 4.5)
    _kind_legend(all_axes[0], found)
    caption = (
        f"The same area by every detector, all {dataset.n_frames} frames moved back by the true "
        "drift (to whole pixels) and averaged. Rings: true places of the columns, coloured by "
        "their heaviest element. Dark field is bright at heavy columns only; annular bright field "
        "is dark at all; the integrated phases are bright at all. iDPC: phase from the sectors of "
        "a segmented detector; iCoM: from the centre of mass. Black and white are each image's own."
    )
    return Plate("What every detector sees", caption, figure, raster=True, wide=True)


def _mark_kinds(axes: Any, found: Found, size: float) -> None:
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    for rank, _ in enumerate(found.kind_names):
        mine = found.kind == rank
        axes.plot(*found.there_nm[mine].T, "o", markersize=size, markerfacecolor="none",
                  markeredgewidth=1.1, markeredgecolor=KIND_COLOURS[rank % 5])  # fmt: skip
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)


def _kind_legend(axes: Any, found: Found) -> None:
    handles = [
        Line2D([], [], marker="o", linestyle="", markerfacecolor="none", markeredgewidth=1.4,
               markeredgecolor=KIND_COLOURS[rank % 5], label=name)
        for rank, name in enumerate(found.kind_names)
    ]  # fmt: skip
    axes.legend(handles=handles, loc="upper right", fontsize=8.5, framealpha=0.85,
                edgecolor="none", handletextpad=0.1, borderpad=0.3)  # fmt: skip


def _geometry(dataset: Observed) -> Plate:
    """Draw the detectors in the plane of diffraction angles."""
    detectors = dataset.settings["detectors"]
    semiangle = float(dataset.settings["semiangle_mrad"])
    figure, axes = plot(5.4, 5.6)
    reach = max(float(d["outer_mrad"]) for d in detectors.values())
    colours = (BLUE, GREEN, ORANGE, RED)
    rings = [n for n, d in detectors.items() if d["shape"] == "annular"]
    for i, name in enumerate(rings):
        inner, outer = float(detectors[name]["inner_mrad"]), float(detectors[name]["outer_mrad"])
        colour = colours[i % 4]
        axes.add_patch(
            Wedge(
                (0, 0),
                outer,
                180,
                360,
                width=outer - inner,
                color=colour,
                alpha=0.35,
                linewidth=0,
                label=f"{name}: {inner:g}–{outer:g}",
            )
        )
    others = [n for n in detectors if n not in rings]
    for name, colour in zip(others, (INK, PINK), strict=False):
        detector = detectors[name]
        outer, inner = float(detector["outer_mrad"]), float(detector.get("inner_mrad", 0.0))
        axes.add_patch(Wedge((0, 0), outer, 0, 180, width=outer - inner, fill=False,
                             edgecolor=colour, linewidth=1.4,
                             linestyle="--" if detector["shape"] == "moments" else "-",
                             label=f"{name}: {inner:g}–{outer:g}"))  # fmt: skip
        if detector["shape"] != "segmented":
            continue
        n = int(detector["segments"])
        for k in range(n):
            edge = np.deg2rad(float(detector["rotation_deg"]) + (k + 0.5) * 360.0 / n)
            if np.sin(edge) < 1e-9:  # the sectors of the lower half aren't drawn
                continue
            axes.plot(*np.array([[inner, outer]]) * [[np.cos(edge)], [np.sin(edge)]],
                      color=colour, linewidth=1.4)  # fmt: skip
    axes.add_patch(Circle((0, 0), semiangle, fill=False, color=SKY, linewidth=2.2,
                          label=f"edge of the beam: {semiangle:g}"))  # fmt: skip
    axes.set_xlim(-1.05 * reach, 1.05 * reach)
    axes.set_ylim(-1.05 * reach, 1.05 * reach)
    axes.set_aspect("equal")
    axes.set_xlabel("scattering angle along x (mrad)")
    axes.set_ylabel("scattering angle along y (mrad)")
    axes.legend(frameon=False, fontsize=8.5, ncols=3, loc="lower center",
                bbox_to_anchor=(0.5, 1.0), title="angles in mrad", title_fontsize=8.5)  # fmt: skip
    caption = (
        "Where the detectors look in the diffraction plane: rings in the lower half; sectors and "
        "the first-moment disk (dashed) in the upper half. All go all the way round. Inside the "
        "blue circle lies the undiffracted cone of the beam: bright field. Outside is dark without "
        "a specimen."
    )
    return Plate("Detectors on the diffraction disk", caption, figure)


def _who_sees_what(
    dataset: Observed, found: Found, measured: Mapping[str, Floats], ideal: Mapping[str, Floats]
) -> Plate:
    """Draw contrast and contrast to noise of each kind of column in each image, as a table."""
    step = pixel_size_of(dataset)
    names = list(ideal)
    contrasts, clarity = np.zeros((2, len(names), len(found.kind_names)))
    for i, name in enumerate(names):
        image = ideal[name]
        patches = _patch_means(image, found.at_rest_nm[found.target], step)
        far = _far_from_columns(image.shape, found.at_rest_nm, step)
        away = float(image[far].mean())
        # The noise of a patch: what is measured less what is right, columns being moved alike.
        seen = _patch_means(measured[name], found.there_nm[found.target], step)
        for rank in range(len(found.kind_names)):
            mine = found.kind[found.target] == rank
            contrasts[i, rank] = patches[mine].mean() - away
            spread = float(np.std((seen - patches)[mine])) / np.sqrt(max(1 - 1 / mine.sum(), 0.5))
            clarity[i, rank] = abs(contrasts[i, rank]) / max(spread, 1e-12)
        if "phase" not in name:
            contrasts[i] *= 100 / away
    figure, axes = plot(5.4, 0.52 * len(names) + 1.6)
    shown = axes.imshow(np.log10(np.clip(clarity, 1, 100)), cmap="cividis", vmin=0, vmax=2,
                        aspect="auto")  # fmt: skip
    for i, name in enumerate(names):
        for rank in range(len(found.kind_names)):
            value = contrasts[i, rank]
            text = f"{value:+.2f} rad" if "phase" in name else f"{value:+.0f} %"
            dark = np.log10(max(clarity[i, rank], 1)) < 1.1
            axes.text(rank, i, text.replace("-", "−"), ha="center", va="center", fontsize=9.5,
                      color="white" if dark else "black")  # fmt: skip
    axes.set_yticks(range(len(names)), [name.split(" (")[0] for name in names])
    axes.set_xticks(range(len(found.kind_names)), [f"{name} columns" for name in found.kind_names])
    axes.tick_params(length=0)
    bar = figure.colorbar(shown, ax=axes, ticks=[0, 0.5, 1, 1.5, 2])
    bar.ax.set_yticklabels(["≤ 1", "3", "10", "30", "≥ 100"])
    bar.set_label("contrast over its scatter from column to column")
    caption = (
        "Numbers: how much brighter (+) or darker (−) the columns are than the space between them, "
        "without noise; in percent, for phases in radians. Colour: that contrast over the scatter "
        "that noise and drift give it from column to column, all frames together; a column "
        "with less than about 5 is hard to find."
    )
    return Plate("Which detector sees which column", caption, figure)


def _patch_means(image: Floats, points_nm: Floats, step_nm: float) -> Floats:
    y, x = np.indices(image.shape) * step_nm
    return np.array([image[np.hypot(x - px, y - py) <= PATCH_NM].mean() for px, py in points_nm])


def _far_from_columns(shape: tuple[int, ...], points_nm: Floats, step_nm: float) -> Any:
    """Return the twentieth of the pixels that lie farthest from any column."""
    y, x = np.indices(shape) * step_nm
    distance = cKDTree(points_nm).query(np.column_stack([x.ravel(), y.ravel()]))[0]
    return (distance >= np.quantile(distance, 0.95)).reshape(shape)


def _profile(
    dataset: Observed, found: Found, measured: Mapping[str, Floats], ideal: Mapping[str, Floats]
) -> Plate | None:
    """Draw all images along a line from a heavy column over a light one to another kind."""
    corners = _way(found)
    if corners is None:
        return None
    step = pixel_size_of(dataset)
    places = found.at_rest_nm[corners]
    drawn = found.there_nm[corners]
    length = np.hypot(*np.diff(places, axis=0).T)
    stops = np.concatenate([[0.0], np.cumsum(length)])
    s = np.linspace(0, stops[-1], 160)

    def along(image: Floats, points: Floats) -> Floats:
        x, y = (np.interp(s, stops, points[:, k]) / step for k in (0, 1))
        return np.asarray(map_coordinates(image, [y, x], order=3, mode="nearest"))

    figure = Figure(figsize=(10.8, 3.6), layout="constrained")
    figure.patch.set_alpha(0)
    all_axes = figure.subplots(2, -(-len(ideal) // 2), sharex=True).ravel()
    for axes in all_axes:
        axes.set_visible(False)
    for axes, name in zip(all_axes, ideal, strict=False):
        axes.set_visible(True)
        axes.patch.set_alpha(0)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        axes.plot(s, along(measured[name], drawn), color=INK, linewidth=0.9, alpha=0.6)
        axes.plot(s, along(ideal[name], places), color=BLUE, linewidth=1.8)
        for at, column in zip(stops, corners, strict=True):
            colour = KIND_COLOURS[found.kind[column] % 5]
            axes.axvline(at, color=colour, linewidth=1.2, linestyle="--")
        unit = "rad" if "phase" in name else "electrons"
        axes.set_ylabel(unit, fontsize=9)
        axes.set_title(name.split(" (")[0], fontsize=10)
        axes.tick_params(labelsize=8.5)
        axes.set_xticks(stops, [f"{found.kind_names[found.kind[c]]}\n{at:.2f}"
                                for at, c in zip(stops, corners, strict=True)])  # fmt: skip
        axes.tick_params(labelbottom=True)
    figure.supxlabel("distance along the line (nm); dashed: columns", fontsize=10)
    route = "–".join(found.kind_names[found.kind[c]] for c in corners)
    caption = (
        f"Every image along the line {route} that turns at its middle column: noise-free (blue) "
        "and measured, all frames averaged (thin). In dark field the light column hardly "
        "shows; in the phases it stands up as a peak of its own, in annular bright field as a "
        "dip."
    )
    return Plate(f"Profiles along {route}", caption, figure, wide=True)


def _way(found: Found) -> list[int] | None:
    """Return columns of the heaviest, the lightest and a middle kind that are neighbours."""
    rank = len(found.kind_names) - 1
    light = np.flatnonzero(found.target & (found.kind == rank))
    if rank < 1 or not len(light):
        return None
    middle = found.there_nm[found.target].mean(axis=0)
    turn = int(light[np.argmin(np.hypot(*(found.there_nm[light] - middle).T))])
    ends: list[int] = []
    for kind in (0, min(1, rank - 1)):
        mine = np.flatnonzero(found.target & (found.kind == kind))
        mine = np.setdiff1d(mine, ends)
        if not len(mine):
            return None
        ends.append(
            int(mine[np.argmin(np.hypot(*(found.there_nm[mine] - found.there_nm[turn]).T))])
        )
    return [ends[0], turn, ends[1]]


def _hits(dataset: Observed, found: Found, measured: Mapping[str, Floats]) -> Plate:
    """Draw hits, misses and false finds of each kind over a dark-field and a phase image."""
    step = pixel_size_of(dataset)
    dark = [name for name in measured if "dark field" in name] or list(measured)
    phase = [name for name in measured if "phase" in name] or list(measured)
    figure = Figure(figsize=(10.8, 5.7), facecolor="black")
    for i, name in enumerate((dark[-1], phase[-1])):
        axes = figure.add_axes((0.503 * i, 0, 0.497, 0.945))
        axes.set_axis_off()
        axes.set_title(name, color="white", fontsize=10.5, pad=4)
        image = measured[name]
        extent_nm = extent_of(image.shape, step)
        low, high = contrast(image)
        axes.imshow(image, cmap="gray", vmin=low, vmax=high + 0.4 * (high - low), extent=extent_nm)
        scale_bar(axes, extent_nm)
        for rank, kind in enumerate(found.kind_names):
            hit = found.hit_found[found.kind[found.hit_column] == rank]
            axes.plot(*found.found_nm[hit].T, "o", markersize=13, markerfacecolor="none",
                      markeredgewidth=1.6, markeredgecolor=KIND_COLOURS[rank % 5],
                      label=f"{kind}: {len(hit)} hits")  # fmt: skip
        wrong = found.hit_found[~found.kind_right]
        axes.plot(*found.found_nm[wrong].T, "D", markersize=6, color="white",
                  label=f"{len(wrong)} of the wrong kind")  # fmt: skip
        axes.plot(*found.there_nm[found.missed].T, "s", markersize=12, markerfacecolor="none",
                  markeredgecolor="yellow", markeredgewidth=1.8,
                  label=f"{len(found.missed)} missed")  # fmt: skip
        axes.plot(*found.found_nm[found.false].T, "X", markersize=10, color=PINK,
                  markeredgecolor="w", label=f"{len(found.false)} false")  # fmt: skip
        if i:
            axes.legend(loc="upper right", fontsize=9, framealpha=0.9, edgecolor="none",
                        markerscale=0.6)  # fmt: skip
    caption = (
        "Answers over the outermost dark field (left) and a phase (right), both of all frames. "
        "Circles are hits, coloured by what the column truly is. Columns whose centre appears "
        "within 0.1 nm of the edge aren't asked for."
    )
    return Plate("Found columns", caption, figure, raster=True, wide=True)


def _errors(found: Found) -> Plate:
    figure, axes = plot(5.4, 4.6)
    error_pm = PM_PER_NM * found.error_nm
    for rank, kind in enumerate(found.kind_names):
        mine = found.kind[found.hit_column] == rank
        axes.plot(*error_pm[mine].T, "osD^v"[rank % 5], color=KIND_COLOURS[rank % 5],
                  markersize=6, label=kind)  # fmt: skip
    limit = PM_PER_NM * found.limit_nm[found.hit_column]
    limit = limit[np.isfinite(limit)]
    if len(limit):
        radius = float(np.sqrt(np.mean(limit**2)))
        axes.add_patch(Circle((0, 0), radius, fill=False, color=INK, linewidth=2,
                              label="physical limit (rms)"))  # fmt: skip
    reach = 1.15 * max(float(np.abs(error_pm).max()), 1e-3)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(reach, -reach)
    axes.set_aspect("equal")
    axes.axhline(0, color=INK, linewidth=0.6, alpha=0.5)
    axes.axvline(0, color=INK, linewidth=0.6, alpha=0.5)
    axes.set_xlabel("error in x (pm)")
    axes.set_ylabel("error in y (pm), down")
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    caption = (
        "Found minus true position of every hit. The dark circle is what counting statistics "
        "alone would leave. What is wider comes from random drift between the lines of a scan, "
        "which differs from frame to frame, from few thermal configurations, and from neighbours' "
        "tails."
    )
    return Plate("Errors of position", caption, figure)
