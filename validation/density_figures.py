"""Figures of the task density: frames, curves against density, who is found, maps of artefacts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke

from nanophantom.analysis.rendering import Frame, gaussian_image
from nanophantom.validation.density_scores import (
    ENOUGH,
    NEAR_SIGMAS,
    OFF_NM,
    REGIMES,
    Curve,
    Series,
    curve,
    falls_below,
)
from nanophantom.validation.drawing import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    RED,
    SKY,
    Plate,
    gallery,
    plots,
)
from nanophantom.validation.localization_scores import LEAST_SNR

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

CUT_PX = 28
"""Edge of the cut-outs of frames."""
RENDERED_PX = 640
"""Pixels along the longer side of a rendered image."""
DRAWN_NM = 15.0
"""Width of finds whose uncertainty isn't quoted, and of emitters."""
LOOK = {"single": (BLUE, "o-"), "multiple": (ORANGE, "s-"), "": (BLUE, "o-")}
LABEL = {"single": "one molecule a spot", "multiple": "several molecules a spot", "": "finds"}
YELLOW = "#F0E442"


def of_density(dataset: Observed, by_name: Mapping[str, Series]) -> list[Plate]:
    """Draw frames with finds, scores against density, recall, and where artefacts lie."""
    one = next(iter(by_name.values()))
    if not one.compared.asked.any():
        return []
    curves = {name: curve(series) for name, series in by_name.items()}
    return [
        _frames(dataset, by_name),
        _scores(curves),
        _crowding(by_name, curves),
        *_maps(dataset, by_name),
    ]


def _frames(dataset: Observed, by_name: Mapping[str, Series]) -> Plate:
    """Draw one cut-out of a frame of each regime, under each analysis."""
    one = next(iter(by_name.values()))
    imaging = one.compared.imaging
    a, (ny, nx) = imaging.pixel_size_nm, imaging.shape
    height, width = min(CUT_PX, ny), min(CUT_PX, nx)
    top, left = _most_asked(one, height, width)
    chosen = _typical_frames(one)
    images = {
        f"{LABEL[name]}: {one.density_per_um2[frame]:.2g} per µm²": dataset.signal(
            "movie", frame, frame + 1
        )[0][top : top + height, left : left + width]
        for name in by_name
        for frame in chosen
    }
    figure, all_axes = gallery(images, a, across=len(chosen))
    corner = np.array([left, top]) * a
    for axes, (name, frame) in zip(
        all_axes, [(name, frame) for name in by_name for frame in chosen], strict=True
    ):
        c = by_name[name].compared
        limits = axes.get_xlim(), axes.get_ylim()
        now, told = c.true.frame == frame, c.places.frame == frame
        for which, dashes in ((now & c.asked, "-"), (now & ~c.asked, ":")):
            for x, y in zip(c.true.x_nm[which], c.true.y_nm[which], strict=True):
                axes.add_patch(
                    Circle((x - corner[0], y - corner[1]), imaging.sigma_nm, fill=False,
                           edgecolor=YELLOW, linestyle=dashes, linewidth=1.1, zorder=11)
                )  # fmt: skip
        hit = np.zeros(len(c.places), bool)
        hit[c.pairs.found] = True
        for which, colour in (
            (told & hit, GREEN), (told & c.false, RED), (told & ~hit & ~c.false, SKY),
        ):  # fmt: skip
            axes.plot(c.places.x_nm[which] - corner[0], c.places.y_nm[which] - corner[1], "+",
                      color=colour, markersize=8, markeredgewidth=1.6, zorder=12,
                      path_effects=[withStroke(linewidth=2.8, foreground="black")])  # fmt: skip
        axes.set_xlim(*limits[0])
        axes.set_ylim(*limits[1])
    all_axes[0].legend(
        handles=[_sign("emitter", marker="o", markerfacecolor="none", markeredgecolor=YELLOW),
                 _sign("hit", marker="+", markeredgewidth=1.8, color=GREEN),
                 _sign("false", marker="+", markeredgewidth=1.8, color=RED)],
        loc="upper left", fontsize=8, facecolor="black", edgecolor="none", labelcolor="white",
        framealpha=0.6, handletextpad=0.2, borderpad=0.3,
    ).set_zorder(30)  # fmt: skip
    caption = (
        "The same part of three raw frames, from few molecules to many; each row under one "
        "analysis. Yellow circles (one width of a spot): where molecules really shine, dotted "
        "those too dim to be asked for. Crosses: finds, green hits, red false, light blue neither. "
        "A circle without a cross is a molecule that was missed. A green cross well off its circle "
        "still counts as a hit up to 250 nm: see the error below."
    )
    return Plate("Frames of low and high density", caption, figure, raster=True, wide=True)


def _sign(label: str, **look: Any) -> Line2D:
    return Line2D([], [], linestyle="none", label=label, **look)


def _typical_frames(one: Series) -> list[int]:
    """Return for each regime that there is the frame nearest to its middle, the densest at last."""
    chosen = []
    for low, high in REGIMES.values():
        frames = np.flatnonzero((one.density_per_um2 >= low) & (one.density_per_um2 < high))
        frames = frames[one.density_per_um2[frames] > 0]
        if len(frames):
            density = one.density_per_um2[frames]
            goal = np.quantile(density, 0.9)
            chosen.append(int(frames[np.argmin(np.abs(density - goal))]))
    return chosen


def _most_asked(one: Series, height: int, width: int) -> tuple[int, int]:
    """Return the top left pixel of the part of the view with most emitters of all frames."""
    c = one.compared
    a, (ny, nx) = c.imaging.pixel_size_nm, c.imaging.shape
    counts = np.zeros((ny + 1, nx + 1))
    y, x = (np.rint(at[c.asked] / a).astype(int) for at in (c.true.y_nm, c.true.x_nm))
    np.add.at(counts, (y + 1, x + 1), 1)
    total = counts.cumsum(axis=0).cumsum(axis=1)
    inside = (
        total[height:, width:] - total[:-height, width:]
        - total[height:, :-width] + total[:-height, :-width]
    )  # fmt: skip
    top, left = np.unravel_index(np.argmax(inside), inside.shape)
    return int(top), int(left)


def _scores(curves: Mapping[str, Curve]) -> Plate:
    """Draw Jaccard index, error and efficiency against density."""
    figure, (jaccard, error, efficiency) = plots(10.8, 3.6, 3)
    top = 1.0
    for name, line in curves.items():
        colour, mark = LOOK[name]
        look: dict[str, Any] = {"color": colour, "markersize": 4, "linewidth": 1.3}
        bar = 1.96 * np.sqrt(line.jaccard * (1 - line.jaccard) / np.maximum(line.n, 1))
        jaccard.errorbar(line.density, line.jaccard, bar, fmt=mark, capsize=2, label=LABEL[name],
                         **look)  # fmt: skip
        at = falls_below(line.density, line.jaccard)
        if at is not None:
            jaccard.plot([at, at], [0, ENOUGH], ":", color=colour, linewidth=1.2)
            jaccard.annotate(f"{at:.2g}", (at, 0.02), textcoords="offset points", xytext=(3, 0),
                             color=colour, fontsize=9)  # fmt: skip
        error.plot(line.density, line.rmse_nm, mark, label=LABEL[name], **look)
        efficiency.plot(line.density, line.efficiency, mark, label=LABEL[name], **look)
        top = max(top, float(np.nanmax(line.rmse_nm, initial=1.0)))
    line = next(iter(curves.values()))
    error.plot(line.density, line.bound_nm, "--", color=INK, linewidth=1.2,
               label="bound of a spot alone")  # fmt: skip
    jaccard.axhline(ENOUGH, color=INK, linewidth=0.8, linestyle="--", alpha=0.6)
    jaccard.set_ylim(0, 1.04)
    error.set_ylim(0, 1.08 * top)
    jaccard.set_ylabel("Jaccard index")
    error.set_ylabel("rms distance from the truth (nm)")
    efficiency.set_ylabel("efficiency (%)")
    for axes in (jaccard, error, efficiency):
        _density_axis(axes, line)
    jaccard.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 0.08))
    error.legend(frameon=False, fontsize=8, loc="upper left")
    caption = (
        "Each point: all frames of about that density. Left: the Jaccard index, hits over hits, "
        f"missed and false (bars 95 %); dotted, where it falls below {ENOUGH:g}. Middle: the error "
        "of hits; dashed, the least that photon noise allows where no neighbour disturbs. Right: "
        "both in one number, the efficiency of the localization challenges; 100 is perfect."
    )
    return Plate("What density does", caption, figure, wide=True)


def _density_axis(axes: Any, line: Curve) -> None:
    axes.set_xscale("log")
    axes.set_xlabel("emitters per µm² and frame")
    low, high = float(line.density.min()), float(line.density.max())
    ticks = [t for t in (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20) if low <= t <= high * 1.2]
    if len(ticks) > 1:
        axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
        axes.minorticks_off()


def _crowding(by_name: Mapping[str, Series], curves: Mapping[str, Curve]) -> Plate:
    """Draw how many emitters are alone, which kinds are found, and finds off the structure."""
    figure, (alone, kinds, off) = plots(10.8, 3.6, 3)
    line = next(iter(curves.values()))
    c = next(iter(by_name.values())).compared
    radius = NEAR_SIGMAS * c.imaging.sigma_nm
    alone.plot(line.density, line.alone, "o", color=GREEN, markersize=5, label="counted")
    alone.plot(line.density, line.alone_expected, "-", color=INK, linewidth=1.3,
               label="expected on this structure")  # fmt: skip
    alone.plot(line.density, line.alone_if_even, "--", color=INK, linewidth=1.2,
               label="if even: exp(−πρr²)")  # fmt: skip
    alone.set_ylim(0, 1.04)
    alone.set_ylabel(f"share with no other within {radius:.0f} nm")
    alone.legend(frameon=False, fontsize=8, loc="lower left")
    _density_axis(alone, line)

    width = 0.8 / len(by_name)
    labels = ("alone", "overlapping", "dim")
    for i, (name, one) in enumerate(by_name.items()):
        c = one.compared
        colour = LOOK[name][0]
        for j, which in enumerate((c.isolated, one.near, c.snr < 2 * LEAST_SNR)):
            mine = c.asked & which
            if not mine.any():
                continue
            recall = float(c.hit[mine].mean())
            at = j + (i - (len(by_name) - 1) / 2) * width
            kinds.bar(at, recall, 0.92 * width, color=colour, label=LABEL[name] if j == 0 else None)
            kinds.text(at, recall + 0.015, f"{recall:.2f}", ha="center", fontsize=8, color=INK)
    kinds.set_xticks(range(len(labels)), labels)
    kinds.set_ylim(0, 1.3)
    kinds.set_yticks(np.linspace(0, 1, 6))
    kinds.set_ylabel("recall, all frames")
    kinds.legend(frameon=False, fontsize=8, loc="upper right")

    for name, part in curves.items():
        colour, mark = LOOK[name]
        bar = 196.0 * np.sqrt(part.off * (1 - part.off) / np.maximum(part.finds, 1))
        off.errorbar(part.density, 100 * part.off, bar, fmt=mark, color=colour, markersize=4,
                     capsize=2, linewidth=1.3, label=LABEL[name])  # fmt: skip
    off.set_ylim(bottom=0)
    off.set_ylabel(f"finds > {OFF_NM:g} nm from every dye (%)")
    off.legend(frameon=False, fontsize=8, loc="upper left")
    _density_axis(off, line)
    caption = (
        f"Left: how many emitters have nobody within {NEAR_SIGMAS:g} widths of a spot; on thin "
        "structures the others are nearer than they would be if spread evenly at the same density "
        "(dashed). Middle: who is found: emitters with nobody within 6 widths, with somebody "
        f"within {NEAR_SIGMAS:g}, and dim ones (signal-to-noise ratio 5 to 10). Right: finds that "
        "lie where nothing is: two spots on neighbouring structures taken for one between them."
    )
    return Plate("Why: neighbours", caption, figure, wide=True)


def _maps(dataset: Observed, by_name: Mapping[str, Series]) -> list[Plate]:
    """Draw the images made of dense frames and of all others, with finds off the structure."""
    one = next(iter(by_name.values()))
    low = REGIMES["dense"][0]
    plates = []
    for frames, title, told in (
        (one.density_per_um2 >= low, "The image made of dense frames",
         f"Only frames with {low:g} emitters per µm² or more."),
        (one.density_per_um2 < low, "The image made of the other frames",
         f"Frames with fewer than {low:g} emitters per µm²."),
    ):  # fmt: skip
        if one.compared.asked[frames[one.compared.true.frame]].any():
            plates.append(_map(dataset, by_name, frames, title, told))
    return plates


def _map(
    dataset: Observed, by_name: Mapping[str, Series], frames: Bools, title: str, told: str
) -> Plate:
    c = next(iter(by_name.values())).compared
    a, (ny, nx) = c.imaging.pixel_size_nm, c.imaging.shape
    step = max(nx, ny) * a / RENDERED_PX
    frame = Frame((step - a) / 2, (step - a) / 2, round(nx * a / step), round(ny * a / step))
    drift = dataset.truth("drift")
    shift = np.column_stack([drift["dx_nm"], drift["dy_nm"]]).astype(np.float64)

    def drawn(at: Floats, width_nm: Floats | float) -> Floats:
        width = np.clip(width_nm, 0.5 * step, 100.0)
        return np.sqrt(gaussian_image(at[:, 0], at[:, 1], width, step, frame).image)

    mine = frames[c.true.frame]
    true = np.column_stack([c.true.x_nm, c.true.y_nm])[mine] - shift[c.true.frame[mine]]
    images = {"truth: every emitter": drawn(true, DRAWN_NM)}
    dots = []
    for name, one in by_name.items():
        p = one.compared.places
        here = frames[p.frame]
        at = np.column_stack([p.x_nm, p.y_nm]) - shift[p.frame]
        quoted = one.compared.found.get("uncertainty_nm")
        images[LABEL[name]] = drawn(at[here], DRAWN_NM if quoted is None else quoted[here])
        dots.append((at[here & one.off], int(here.sum())))
    figure, all_axes = gallery(images, step, across=3)
    counts = []
    for axes, name, (at, n) in zip(all_axes[1:], by_name, dots, strict=True):
        limits = axes.get_xlim(), axes.get_ylim()
        x, y = at[:, 0] - frame.x_nm, at[:, 1] - frame.y_nm
        axes.plot(x, y, ".", color="#ff5a36", markersize=2.4, markeredgewidth=0, alpha=0.8,
                  zorder=12)  # fmt: skip
        axes.set_xlim(*limits[0])
        axes.set_ylim(*limits[1])
        counts.append(f"{LABEL[name]}: {len(at):,} of {n:,}")
    caption = (
        f"{told} Each find a Gaussian as wide as it says it is uncertain; the grey scale is the "
        f"root of the density. Red dots: finds more than {OFF_NM:g} nm from every dye, where "
        f"nothing is ({'; '.join(counts)})."
    )
    return Plate(title, caption, figure, raster=True, wide=True)
