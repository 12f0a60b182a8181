"""Figures of the task localization: finds on frames, errors, recall, and the images they make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from nanophantom.analysis.rendering import Frame, gaussian_image, histogram_image
from nanophantom.analysis.ring_correlation import (
    localization_resolution,
    resolution_nm,
    ring_correlation,
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
from nanophantom.validation.localization_scores import (
    Compared,
    jaccard_against_density,
    pixel_bias,
    recall_against_photons,
)

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]

MOST_FRAMES = 4
CUT_PX = 32
"""Edge of the cut-outs of frames."""
MOST_POINTS = 5000
"""Errors drawn as points."""
RENDERED_PX = 700
"""Pixels along the longer side of a rendered image."""
ZOOM_NM = 1500.0
FEWEST_FOR_FRC = 200
FRC_PX = 2048
"""Most pixels along an edge of the images that are correlated."""
SAME_CROSSING = 0.15
"""Two readings of one falling curve may differ by so much: one of them is of the smoothed curve."""
DRAWN_WIDTH_NM = 10.0
"""Of finds in rendered images that don't quote an uncertainty."""


def of_localizations(dataset: Observed, c: Compared) -> list[Plate]:
    """Draw finds on frames, errors and bounds, recall, rendered images, ring correlation."""
    plates = []
    if len(c.true):
        plates.append(_on_frames(dataset, c))
    if len(c.pairs):
        plates.append(_errors(c))
    if len(c.true):
        plates.append(_recall(c))
    if len(c.pairs):
        found, true = _still(dataset, c)
        plates += _rendered(c, found, true)
        if len(c.places) >= FEWEST_FOR_FRC:
            plates.append(_correlation(c, found, true))
    return plates


def _on_frames(dataset: Observed, c: Compared) -> Plate:
    """Draw cut-outs of frames with emitters and finds."""
    a, (ny, nx) = c.imaging.pixel_size_nm, c.imaging.shape
    height, width = min(CUT_PX, ny), min(CUT_PX, nx)
    cuts = []
    for frame in _chosen(c):
        now = c.true.frame == frame
        mine = np.flatnonzero(now & c.asked if (now & c.asked).any() else now)
        x_nm, y_nm = c.true.x_nm[mine], c.true.y_nm[mine]
        middle = np.argmin(np.hypot(x_nm - np.median(x_nm), y_nm - np.median(y_nm)))
        x, y = float(x_nm[middle]) / a, float(y_nm[middle]) / a
        left = int(np.clip(round(x) - width // 2, 0, nx - width))
        top = int(np.clip(round(y) - height // 2, 0, ny - height))
        cuts.append((frame, left, top))
    images = {
        f"frame {frame}": dataset.signal("movie", frame, frame + 1)[0][
            top : top + height, left : left + width
        ]
        for frame, left, top in cuts
    }
    figure, all_axes = gallery(images, a)
    hit = np.zeros(len(c.places), bool)
    hit[c.pairs.found] = True
    for axes, (frame, left, top) in zip(all_axes, cuts, strict=True):
        corner = np.array([left, top]) * a
        limits = axes.get_xlim(), axes.get_ylim()
        now, told = c.true.frame == frame, c.places.frame == frame
        for which, dashes in ((now & c.asked, "-"), (now & ~c.asked, ":")):
            for x, y in zip(c.true.x_nm[which], c.true.y_nm[which], strict=True):
                axes.add_patch(_circle(x - corner[0], y - corner[1], 1.9 * a, dashes))
        for which, colour in (
            (told & hit, GREEN), (told & c.false, RED), (told & ~hit & ~c.false, SKY),
        ):  # fmt: skip
            axes.plot(c.places.x_nm[which] - corner[0], c.places.y_nm[which] - corner[1], "+",
                      color=colour, markersize=9, markeredgewidth=1.8, zorder=12,
                      path_effects=[withStroke(linewidth=3, foreground="black")])  # fmt: skip
        axes.set_xlim(*limits[0])
        axes.set_ylim(*limits[1])
    _legend(all_axes[0])
    caption = (
        "Cut-outs of raw frames. Yellow circles: where molecules really shine, dotted where they "
        "are too dim or too near to the frame's edge to be asked for. Crosses are finds: green "
        "hits, red false ones, light blue those that count neither way. An empty circle is a "
        "molecule that was missed; one cross in two circles, two molecules taken for one."
    )
    return Plate("Finds on the frames", caption, figure, raster=True, wide=True)


def _chosen(c: Compared) -> list[int]:
    """Return frames that show something: evenly spread over those with most emitters asked for."""
    frames, n = np.unique(c.true.frame[c.asked] if c.asked.any() else c.true.frame,
                          return_counts=True)  # fmt: skip
    rich = frames[n >= np.quantile(n, 0.5)]
    return [int(f) for f in rich[np.unique(np.linspace(0, len(rich) - 1, MOST_FRAMES).astype(int))]]


def _circle(x: float, y: float, radius: float, dashes: str) -> Any:
    from matplotlib.patches import Circle

    return Circle((x, y), radius, fill=False, edgecolor="#F0E442", linestyle=dashes,
                  linewidth=1.4, zorder=11)  # fmt: skip


def _legend(axes: Any) -> None:
    def of(label: str, **look: Any) -> Line2D:
        return Line2D([], [], linestyle="none", label=label, **look)

    ring: dict[str, Any] = {"marker": "o", "markerfacecolor": "none", "markeredgecolor": "#F0E442"}
    cross: dict[str, Any] = {"marker": "+", "markeredgewidth": 1.8}
    axes.legend(
        handles=[of("emitter", **ring), of("hit", color=GREEN, **cross),
                 of("false", color=RED, **cross)],
        loc="upper left", fontsize=8, facecolor="black", edgecolor="none", labelcolor="white",
        framealpha=0.6, handletextpad=0.2, borderpad=0.3,
    ).set_zorder(30)  # fmt: skip


def _errors(c: Compared) -> Plate:
    """Draw errors as points and as a histogram beside the bound, and against the pixels."""
    error, alone = c.errors_nm(), c.isolated_pairs
    error_z = c.errors_z_nm()
    figure, all_axes = plots(10.8, 3.8, 3 if error_z is None else 4)
    points, shape, waves = all_axes[:3]
    some = np.unique(np.linspace(0, len(error) - 1, min(len(error), MOST_POINTS)).astype(int))
    for which, colour, label in ((~alone, ORANGE, "others near by"), (alone, BLUE, "isolated")):
        k = some[which[some]]
        points.plot(error[k, 0], error[k, 1], ".", color=colour, markersize=2.5, alpha=0.5,
                    markeredgewidth=0, rasterized=True,
                    label=f"{label} ({which.sum():,})")  # fmt: skip
    reach = 3.5 * float(np.median(np.abs(error))) / 0.6745 + 1e-3
    points.set_xlim(-reach, reach)
    points.set_ylim(reach, -reach)
    points.set_aspect("equal")
    points.set_xlabel("error of x (nm)")
    points.set_ylabel("error of y (nm), down")
    points.legend(fontsize=8, markerscale=4, loc="upper left", framealpha=0.8, edgecolor="none")
    mine = alone if alone.any() else np.ones(len(error), bool)
    limit = c.bounded[1]
    spread = np.concatenate([limit.x_nm, limit.y_nm])
    _histogram(shape, error[mine].ravel(), spread, reach, "error of x and y (nm)")
    _waves(waves, c)
    caption = (
        "Found minus true places of the hits. Left: each a point; those with another molecule "
        "shining near by lie farther off. Second: of isolated molecules, beside what the best "
        "algorithm that photon noise allows would leave (dashed, Cramér-Rao). Then the mean error "
        "against where between two pixel centres the molecule lies: a wave means that finds are "
        "drawn to the pixels' middles or edges."
    )
    if error_z is not None:
        widest = 3.5 * float(np.median(np.abs(error_z))) / 0.6745 + 1e-3
        bound_z = np.zeros(0) if limit.z_nm is None else limit.z_nm
        _histogram(all_axes[3], error_z[mine], bound_z, widest, "error of z (nm)")
        caption += " Last: errors of the heights."
    return Plate("Errors and what noise allows", caption, figure, wide=True)


def _histogram(axes: Any, error: Floats, bounds: Floats, reach: float, label: str) -> None:
    edges = np.linspace(-reach, reach, 61)
    axes.hist(error, edges, density=True, color=BLUE, alpha=0.45, label="finds")
    if len(bounds):
        some = bounds[np.unique(np.linspace(0, len(bounds) - 1, 500).astype(int))]
        x = np.linspace(-reach, reach, 301)
        bell = np.exp(-0.5 * (x[:, None] / some) ** 2) / (np.sqrt(2 * np.pi) * some)
        axes.plot(x, bell.mean(axis=1), "--", color=INK, linewidth=1.4, label="bound")
    axes.set_xlabel(label)
    axes.set_ylabel("share per nm")
    axes.legend(frameon=False, fontsize=8, loc="upper right")


def _waves(axes: Any, c: Compared) -> None:
    bias = pixel_bias(c)
    axes.axhline(0, color=INK, linewidth=0.6, alpha=0.4)
    axes.set_xlabel("place from the pixel's centre (pixels)")
    axes.set_ylabel("mean error (nm)")
    if bias is None:
        axes.text(0.5, 0.5, "too few isolated hits", ha="center", transform=axes.transAxes)
        return
    for k, (name, colour, mark) in enumerate((("x", BLUE, "o"), ("y", RED, "s"))):
        axes.errorbar(bias.fraction + 0.01 * k, bias.mean_nm[k], 1.96 * bias.error_nm[k],
                      fmt=mark, color=colour, markersize=4, capsize=2, linewidth=1,
                      label=f"{name}, bars 95 %")  # fmt: skip
    axes.legend(frameon=False, fontsize=8)


def _recall(c: Compared) -> Plate:
    """Draw recall against photons, and the Jaccard index against density."""
    figure, (light, crowd) = plots(10.4, 3.6, 2)
    photons, recall, n = recall_against_photons(c)
    light.errorbar(photons, recall, _binomial(recall, n), fmt="o-", color=BLUE, markersize=4,
                   capsize=2, linewidth=1, label="all emitters in view, bars 95 %")  # fmt: skip
    dim = np.asarray(c.emissions["photons"], np.float64)[~c.asked & (c.snr < 5)]
    if len(dim):
        light.axvline(float(dim.max()), color=ORANGE, linestyle=":",
                      label="dimmer ones aren't asked for")  # fmt: skip
    light.set_xscale("log")
    light.set_xlabel("photons of the emitter in the frame")
    light.set_ylabel("recall")
    density, jaccard, n_all = jaccard_against_density(c)
    crowd.errorbar(density, jaccard, _binomial(jaccard, n_all), fmt="s-", color=GREEN,
                   markersize=4, capsize=2, linewidth=1)  # fmt: skip
    crowd.set_xlabel("other emitters per µm² around, in the same frame")
    crowd.set_ylabel("Jaccard index")
    for axes in (light, crowd):
        axes.set_ylim(0, 1.04)
    light.legend(frameon=False, fontsize=9, loc="lower right")
    caption = (
        "Left: which part of the molecules is found, dim ones and bright ones. Right: the Jaccard "
        "index (hits over hits, missed and false) where molecules shine alone and where several "
        "shine near each other at once: where spots overlap, two are taken for one."
    )
    return Plate("What is found", caption, figure, wide=True)


def _binomial(share: Floats, n: npt.NDArray[np.int64]) -> Floats:
    return np.asarray(1.96 * np.sqrt(share * (1 - share) / np.maximum(n, 1)))


def _still(dataset: Observed, c: Compared) -> tuple[Floats, Floats]:
    """Return places of finds and of emitters asked for, moved back by the true drift, (2, n)."""
    shift = np.zeros((2, dataset.n_frames))
    if "drift" in dataset.truth_tables:
        drift = dataset.truth("drift")
        shift = np.array([drift["dx_nm"], drift["dy_nm"]], np.float64)
    target = c.true.of(c.asked)
    return (
        np.array([c.places.x_nm, c.places.y_nm]) - shift[:, c.places.frame],
        np.array([target.x_nm, target.y_nm]) - shift[:, target.frame],
    )


def _rendered(c: Compared, found: Floats, true: Floats) -> list[Plate]:
    """Draw the super-resolved images: the whole view, and its busiest part."""
    ny, nx = c.imaging.shape
    a = c.imaging.pixel_size_nm
    step = max(nx, ny) * a / RENDERED_PX
    whole = Frame((step - a) / 2, (step - a) / 2, round(nx * a / step), round(ny * a / step))
    side = min(ZOOM_NM, nx * a, ny * a)
    x, y = _busiest(found, side)
    fine = side / 400
    part = Frame(x - side / 2, y - side / 2, 400, 400)
    plates = []
    for frame, pixel, title in ((whole, step, "The image made of finds"),
                                (part, fine, "Its busiest part")):  # fmt: skip
        images = {
            "found": np.sqrt(_drawn(found, _width(c), pixel, frame)),
            "truth: every emitter in its true place": np.sqrt(
                _drawn(true, np.median(_width(c), keepdims=True), pixel, frame)
            ),
        }
        figure, _ = gallery(images, pixel, across=2)
        plates.append(Plate(title, _RENDERED, figure, raster=True, wide=True))
    return plates


_RENDERED = (
    "Each find drawn as a Gaussian as wide as it is uncertain (10 nm if nothing is quoted), beside "
    "what a perfect algorithm would draw: every emitter that is asked for, as wide as the median "
    "find. Both are moved back by the true drift. The grey scale is the root of the density, so "
    "that single molecules can be seen beside dense places."
)


def _width(c: Compared) -> Floats:
    quoted = c.found.get("uncertainty_nm")
    return np.array([DRAWN_WIDTH_NM]) if quoted is None else quoted


def _drawn(at: Floats, width_nm: Floats, pixel_nm: float, frame: Frame) -> Floats:
    """Draw those in a frame; no narrower than half a pixel, no wider than a tenth of the frame."""
    inside = (
        (at[0] >= frame.x_nm) & (at[0] <= frame.x_nm + pixel_nm * frame.width_px)
        & (at[1] >= frame.y_nm) & (at[1] <= frame.y_nm + pixel_nm * frame.height_px)
    )  # fmt: skip
    sigma = np.broadcast_to(width_nm, inside.shape)[inside]
    sigma = np.clip(sigma, 0.5 * pixel_nm, 0.1 * pixel_nm * frame.width_px)
    return np.asarray(gaussian_image(at[0, inside], at[1, inside], sigma, pixel_nm, frame).image)


def _busiest(at: Floats, side_nm: float) -> Floats:
    """Return the middle of the square that holds most."""
    squares = np.floor(at / side_nm).astype(np.int64)
    best, n = np.unique(squares, axis=1, return_counts=True)
    return np.asarray((best[:, np.argmax(n)] + 0.5) * side_nm)


def _correlation(c: Compared, found: Floats, true: Floats) -> Plate:
    """Draw the Fourier ring correlation of two halves of the finds, and of finds and truth."""
    figure, (axes,) = plots(7.4, 3.8, 1)
    pixel = max(float(np.median(np.hypot(*c.errors_nm().T))), 0.2)
    ny, nx = c.imaging.shape
    side = min(min(nx, ny) * c.imaging.pixel_size_nm, FRC_PX * pixel)
    corner = _busiest(found, side) - side / 2
    frame = Frame(float(corner[0]), float(corner[1]), int(side / pixel), int(side / pixel))
    first, second = (histogram_image(at[0], at[1], pixel, frame).image for at in (found, true))
    here = ((found >= corner[:, None]) & (found < corner[:, None] + side)).all(axis=0)
    lowest, of_truth, of_halves = 0.0, "", ""
    if first.any() and second.any() and frame.width_px >= 16:
        k, frc = ring_correlation(first, second, pixel)
        at = resolution_nm(k, frc, 0.5)
        drawn = _smooth(frc)
        lowest = min(lowest, float(drawn.min()))
        of_truth = f" ({_where(k, drawn, 0.5, '1/2', at)})"
        axes.plot(k, drawn, color=GREEN, label="finds and truth")
    try:
        own = localization_resolution(
            c.places.frame[here], found[0, here], found[1, here], pixel_size_nm=pixel
        )
    except ValueError as problem:
        of_halves = f"none here: {problem}"
    else:
        k, drawn = own.rings.frequency_per_nm, _smooth(own.rings.correlation)
        lowest = min(lowest, float(drawn.min()))
        of_halves = _where(k, drawn, 1 / 7, "1/7", own.resolution_nm)
        axes.plot(k, drawn, color=BLUE, label="two halves of the finds")
    axes.axhline(0, color=INK, linewidth=0.6, alpha=0.4)
    axes.axhline(1 / 7, color=INK, linestyle=":", linewidth=1, label="1/7, for halves")
    axes.axhline(1 / 2, color=INK, linestyle="--", linewidth=1, label="1/2, for the truth")
    axes.set_xlabel("spatial frequency (1/nm)")
    axes.set_ylabel("correlation")
    axes.set_ylim(min(-0.1, 1.1 * lowest), 1.05)
    axes.legend(frameon=False, fontsize=9)
    caption = (
        "How far two images agree, detail by detail: towards the right ever finer ones. An "
        f"experimenter can only compare two halves of the data ({of_halves}). The halves drawn "
        "are alternate blocks of time: a blink lies in both only if it spans the border of two "
        "blocks, while halves tossed at random share most blinks and read too good. A molecule "
        "that shines again in another block agrees with itself here, too. The truth is known as "
        f"well{of_truth}. Taken from the {side / 1000:.3g} µm square that holds most finds. Curves "
        "are smoothed for the eye."
    )
    return Plate("Fourier ring correlation", caption, figure, wide=True)


def _where(k: Floats, drawn: Floats, threshold: float, name: str, for_good_nm: float | None) -> str:
    """Say where a drawn curve first falls below its threshold, and where for good if elsewhere.

    For good: by the rule of the analysis, which forgives a dip that what follows makes up for.
    """
    if for_good_nm is None:
        return "nothing is resolved"
    below = np.flatnonzero(drawn < threshold)
    if not len(below):
        return f"above {name} everywhere"
    i = int(below[0])
    first_nm = 1 / (
        k[0] if i == 0 else np.interp(-threshold, -drawn[i - 1 : i + 1], k[i - 1 : i + 1])
    )
    if abs(first_nm / for_good_nm - 1) < SAME_CROSSING:
        return f"{name} at {for_good_nm:.1f} nm"
    if first_nm < for_good_nm:
        return f"{name} at {for_good_nm:.1f} nm; smoothed as drawn, at {first_nm:.1f} nm"
    return (
        f"first below {name} at {first_nm:.1f} nm; it rises again, and with dips forgiven stays "
        f"above up to {for_good_nm:.1f} nm"
    )


def _smooth(curve: Floats) -> Floats:
    width = max(1, len(curve) // 60)
    kernel = np.ones(2 * width + 1)
    n = np.convolve(np.ones(len(curve)), kernel, "same")
    return np.asarray(np.convolve(curve, kernel, "same") / n)
