"""Figures of any movie of blinking molecules: its frames, what shone in them, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.patheffects import withStroke

from nanophantom.simcore.fields import Table
from nanophantom.validation.drawing import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    RED,
    Plate,
    contrast,
    extent_of,
    gallery,
    plots,
)

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]
Image = npt.NDArray[np.float32]

MOST_FRAMES = 200
"""Frames, evenly spread, that make the mean and the maximum; the busiest is sought in them."""
FRAMES_SHOWN = 3
MOST_POINTS = 2000
"""Along a curve."""
MAPS = {
    "offset_map": ("offset", "ADU"),
    "gain_map": ("gain, relative", ""),
    "variance_map": ("log10 of the readout's variance", "e²"),
    "efficiency_map": ("efficiency, relative", ""),
    "dark_map": ("signal without light", "e"),
    "defects": ("defects", ""),
}


def is_movie(dataset: Observed) -> bool:
    """Say whether a dataset is a movie of single molecules with its emitters listed."""
    return "movie" in dataset.signals and "emissions" in dataset.frame_tables


def of_movie(dataset: Observed) -> list[Plate]:
    """Draw frames, projections with the true dyes, light against time, blinking, drift, camera."""
    plates = [_frames(dataset), _projections(dataset)]
    if dataset.n_frames > 1:
        plates.append(_traces(dataset))
    plates += _blinking(dataset)
    drift = dataset.truth("drift")
    if any(np.ptp(drift[name]) > 0 for name in ("dx_nm", "dy_nm", "dz_nm")):
        plates.append(_drift(drift))
    for k, name in enumerate(("camera_1", "camera_2")):
        if name in dataset.truth_tables:
            plates += _camera(dataset, name, k)
    return plates


def _frames(dataset: Observed) -> Plate:
    """Draw the first and the busiest frames of every camera, and the first without noise."""
    step = float(dataset.settings["pixel_size_nm"])
    shown, shine = _busiest(dataset)
    images: dict[str, npt.NDArray[Any]] = {}
    scales: list[tuple[float, float]] = []
    expected = "noise_free" in dataset.truth_tables
    for name in dataset.signals:
        camera = "" if name == "movie" else ", second camera"
        for i in shown:
            image = dataset.signal(name, i, i + 1)[0]
            images[f"frame {i}{camera}"] = image
            scales.append(contrast(image))
            if i == 0 and expected:
                images[f"frame 0{camera}: expectation"] = dataset.truth("noise_free")[name]
                scales.append(scales[-1])
    figure, all_axes = gallery(images, step, across=min(4, len(images)))
    for axes, image, (low, high) in zip(all_axes, images.values(), scales, strict=True):
        axes.images[0].set_clim(low, high)
        _tell_scale(axes, image, f"black {low:.3g}, white {high:.3g} ADU".replace("-", "−"))
    caption = f"Frames as the camera gave them, of {dataset.n_frames:,} in the movie"
    if dataset.n_frames > len(shown):
        n = min(dataset.n_frames, MOST_FRAMES)
        spread = "" if n == dataset.n_frames else f" of {n}, evenly spread,"
        caption += f": the first, and those{spread} in which most molecules shine"
    caption += "."
    if shine:
        caption += (
            " Each spot is one molecule (or several, closer than the spot is wide) that happens to "
            "shine in this frame; the grain is shot noise of the light and noise of the camera."
        )
    else:
        caption += (
            " No dye shines in any frame shown: what is seen is background, shot noise and noise "
            "of the camera."
        )
    if expected:
        caption += (
            " The expectation is what frame 0 would be without noise, on the same grey scale as "
            "the raw frame: no experiment shows it. Grain that remains in it is the camera's "
            "fixed pattern."
        )
    return Plate("Frames of the movie", caption, figure, raster=True, wide=True)


def _busiest(dataset: Observed) -> tuple[list[int], bool]:
    """Return the first frame and those with most emitters, and whether any dye shines in them."""
    sampled = np.unique(np.linspace(0, dataset.n_frames - 1, MOST_FRAMES).astype(int))
    emissions = dataset.frame_table("emissions")
    lit = np.asarray(emissions["frame"])[np.asarray(emissions["photons"]) > 0]
    number = np.bincount(lit, minlength=dataset.n_frames)
    later = sampled[1:]
    best = later[np.argsort(-number[later], kind="stable")[: FRAMES_SHOWN - 1]]
    shown = [0, *sorted(int(i) for i in best)]
    return shown, bool(number[shown].any())


def _tell_scale(axes: Any, image: npt.NDArray[Any], words: str) -> None:
    """Write into the darkest corner; the lower left one holds the scale bar."""
    rows, columns = max(1, image.shape[0] // 8), max(1, image.shape[1] * 2 // 3)
    corners = {
        ("right", "top"): image[:rows, -columns:],
        ("left", "top"): image[:rows, :columns],
        ("right", "bottom"): image[-rows:, -columns:],
    }
    across, along = min(corners, key=lambda corner: float(corners[corner].max()))
    axes.text(0.97 if across == "right" else 0.03, 0.965 if along == "top" else 0.035, words,
              transform=axes.transAxes, ha=across, va=along, fontsize=8.5, color="white",
              zorder=20, path_effects=[withStroke(linewidth=2.5, foreground="black")])  # fmt: skip


def _projections(dataset: Observed) -> Plate:
    """Draw mean and maximum of the frames, and the dyes over the maximum."""
    step = float(dataset.settings["pixel_size_nm"])
    mean, highest, used = projections(dataset)
    images = {"mean": mean, "maximum": highest, "maximum, with the true dyes": highest}
    figure, all_axes = gallery(images, step, across=3)
    dyes, axes = dataset.truth("dyes"), all_axes[2]
    limits = axes.get_xlim(), axes.get_ylim()
    shone = np.asarray(dyes["photons"]) > 0
    for which, colour, mark, label in (
        (~shone, RED, "x", "never on"),
        (shone, GREEN, ".", "shone"),
    ):
        if which.any():
            axes.plot(np.asarray(dyes["x_nm"])[which], np.asarray(dyes["y_nm"])[which], mark,
                      color=colour, markersize=3, linestyle="none", label=label, zorder=10,
                      rasterized=True)  # fmt: skip
    axes.set_xlim(*limits[0])
    axes.set_ylim(*limits[1])
    if len(shone):
        legend = axes.legend(loc="upper right", fontsize=8, facecolor="black", edgecolor="none",
                             labelcolor="white", framealpha=0.6, markerscale=2.5,
                             handletextpad=0.1)  # fmt: skip
        legend.set_zorder(30)
    within = extent_of(mean.shape, step)
    x, y = np.asarray(dyes["x_nm"]), np.asarray(dyes["y_nm"])
    here = (x > within[0]) & (x < within[1]) & (y > within[3]) & (y < within[2])
    which_frames = "all frames" if used == dataset.n_frames else f"{used} frames, evenly spread,"
    caption = (
        f"Mean and maximum of {which_frames} of the movie: the mean is the picture that a "
        "widefield microscope would take. Right: where the dyes really are "
        f"({int(here.sum()):,} in view, {int((here & ~shone).sum()):,} of which never shone while "
        "the movie ran). Spots hide what lies closer than their width; blinking separates it."
    )
    return Plate("All frames together, and the dyes", caption, figure, raster=True, wide=True)


def projections(dataset: Observed) -> tuple[Image, Image, int]:
    """Return mean and maximum of at most `MOST_FRAMES` frames, read one by one, and how many."""
    used = np.unique(np.linspace(0, dataset.n_frames - 1, MOST_FRAMES).astype(int))
    first = dataset.signal("movie", 0, 1)[0].astype(np.float32)
    total, highest = np.zeros_like(first), first.copy()
    for i in used:
        frame = dataset.signal("movie", i, i + 1)[0].astype(np.float32)
        total += frame
        np.maximum(highest, frame, out=highest)
    return total / np.float32(len(used)), highest, len(used)


def _traces(dataset: Observed) -> Plate:
    """Draw the photons of all emitters, and their number, frame by frame."""
    emissions, n = dataset.frame_table("emissions"), dataset.n_frames
    photons = np.bincount(emissions["frame"], emissions["photons"], minlength=n)
    number = np.bincount(emissions["frame"], minlength=n)
    t = np.asarray(dataset.truth("drift")["t_s"], np.float64)
    each = -(-n // MOST_POINTS)
    figure, (light, many) = plots(10.4, 3.4, 2)
    for axes, values, colour, label in (
        (light, photons / 1000, BLUE, "photons a frame, thousands"),
        (many, number, GREEN, "emitters in the frame"),
    ):
        axes.plot(_means(t, each), _means(values, each), color=colour, linewidth=0.8)
        axes.set_xlabel("time (s)")
        axes.set_ylabel(label)
        axes.set_ylim(0, None)
    averaged = "" if each == 1 else f" Each point is the mean of {each} frames."
    caption = (
        f"Light and emitters in view against time: {number.mean():.3g} emitters a frame on "
        f"average, {number.max()} at most. A falling curve means that dyes bleach, or that they "
        f"settle after the light went on.{averaged}"
    )
    return Plate("Emitters against time (truth)", caption, figure, wide=True)


def _means(values: npt.NDArray[Any], each: int) -> Floats:
    starts = np.arange(0, len(values), each)
    return np.asarray(np.add.reduceat(values, starts) / np.diff(np.append(starts, len(values))))


@dataclass(frozen=True, eq=False)
class BurstTimes:
    """Whole bursts of dyes and the dark times between them.

    Attributes
    ----------
    on_s, on_cut, photons
        One a burst; cut says that it was still on at the movie's end.
    off_s, off_cut
        From one burst's end to the next one's start; cut if the movie ended in it.
    """

    on_s: Floats
    on_cut: npt.NDArray[np.bool_]
    photons: Floats
    off_s: Floats
    off_cut: npt.NDArray[np.bool_]


def burst_times(blinks: Table, dyes: Table, end_s: float) -> BurstTimes:
    """Join stretches of constant rate to bursts, and find the dark times between them."""
    dye = np.asarray(blinks["dye"], np.int64)
    order = np.lexsort((blinks["start_s"], blinks["blink"], dye))
    dye, blink = dye[order], np.asarray(blinks["blink"])[order]
    start = np.asarray(blinks["start_s"], np.float64)[order]
    length = np.asarray(blinks["duration_s"], np.float64)[order]
    if not len(dye):
        none, no = np.zeros(0), np.zeros(0, bool)
        return BurstTimes(none, no, none, none, no)
    light = length * np.asarray(blinks["photons_per_s"], np.float64)[order]
    first = np.flatnonzero(np.r_[True, (np.diff(dye) != 0) | (np.diff(blink) != 0)])
    begin = start[first]
    end = np.maximum.reduceat(start + length, first)
    cut = end >= end_s - 1e-9
    owner = dye[first]
    followed = np.r_[owner[1:] == owner[:-1], False]
    known = np.argsort(dyes["dye"], kind="stable")
    row = known[np.searchsorted(np.asarray(dyes["dye"])[known], owner)]
    alive = ~np.isfinite(np.asarray(dyes["bleached_s"], np.float64)[row])
    waits = ~followed & ~cut & alive
    following = np.append(begin[1:], 0.0)
    return BurstTimes(
        on_s=end - begin,
        on_cut=cut,
        photons=np.add.reduceat(light, first),
        off_s=np.r_[(following - end)[followed], end_s - end[waits]],
        off_cut=np.r_[np.zeros(int(followed.sum()), bool), np.ones(int(waits.sum()), bool)],
    )


def survival(times: Floats, cut: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return the share of times that are longer, times cut short by the end of the movie included.

    The estimator of E. L. Kaplan and P. Meier, J. Am. Stat. Assoc. 53 (1958) 457.

    Returns
    -------
    t, longer : (k,)
        At the times that weren't cut, from 0 on.
    """
    order = np.lexsort((cut, times))
    t, ended = times[order], ~cut[order]
    at_risk = np.arange(len(t), 0, -1)
    longer = np.cumprod(1 - ended / at_risk)
    return np.r_[0.0, t[ended]], np.r_[1.0, longer[ended]]


def _blinking(dataset: Observed) -> list[Plate]:
    """Draw numbers, lengths and photons of bursts beside what the rates of the dye predict."""
    tables = dataset.truth_tables
    dyes, blinks = dataset.truth("dyes"), dataset.truth("blinks")
    if not len(blinks["dye"]) or "prediction_times" not in tables:
        return []
    told = dataset.settings
    end_s = (dataset.n_frames - 1) * float(told["frame_period_s"]) + float(told["exposure_s"])
    times = burst_times(blinks, dyes, end_s)
    predicted = dataset.truth("prediction_times")
    numbers, photons = dataset.truth("prediction_bursts"), dataset.truth("prediction_photons")
    figure, (count, brightness) = plots(10.4, 3.6, 2)
    _numbers(count, np.asarray(dyes["n_bursts"]), numbers)
    _longer(brightness, times.photons, times.on_cut,
            photons["photons"], photons["at_least"], "photons of a burst")  # fmt: skip
    brightness.set_ylabel("share of bursts with at least so many")
    caption = (
        f"What {len(dyes['dye']):,} dyes did in this movie (blue) beside what the rates of the dye "
        "predict in closed form (black), in the light of the middle of the field. Left: how often "
        "a dye shone; 0 are dyes that no analysis can find. Right: how bright bursts are; what the "
        "movie's end cut short counts as at least so bright (Kaplan–Meier)."
    )
    plates = [Plate("Blinking: bursts and photons (truth)", caption, figure, wide=True)]
    figure, all_axes = plots(10.4, 3.6, 2 if "off_s" in predicted and len(times.off_s) else 1)
    _longer(all_axes[0], times.on_s, times.on_cut, predicted["on_s"], predicted["on_longer"],
            "ON time (s)")  # fmt: skip
    all_axes[0].set_ylabel("share of bursts that are longer")
    if len(all_axes) > 1:
        _longer(all_axes[1], times.off_s, times.off_cut, predicted["off_s"],
                predicted["off_longer"], "dark time between two bursts (s)")  # fmt: skip
        all_axes[1].set_ylabel("share of dark times that are longer")
    caption = (
        "How long dyes shine and how long they stay dark between two bursts, simulated (blue) and "
        "predicted from the dye's rates (black). A straight line on this logarithmic scale is a "
        "single rate. Times that the movie's end cut short are taken into account (Kaplan–Meier); "
        "the last, thin part of the blue curve hangs on a few dyes."
    )
    return [*plates, Plate("Blinking: times (truth)", caption, figure, wide=True)]


def _numbers(axes: Any, simulated: npt.NDArray[Any], predicted: Mapping[str, Any]) -> None:
    n = np.asarray(predicted["bursts"])
    chance = np.asarray(predicted["probability"])
    most = int(max(simulated.max(initial=0), np.searchsorted(np.cumsum(chance), 0.995)))
    share = np.bincount(simulated, minlength=most + 1) / max(len(simulated), 1)
    each = max(1, (most + 1) // 40)
    edges = np.arange(0, most + 1, each)
    middle = edges + 0.5 * (each - 1)
    axes.bar(middle, np.add.reduceat(share, edges), width=0.85 * each, color=BLUE,
             alpha=0.5, label=f"simulated, mean {simulated.mean():.3g}")  # fmt: skip
    inside = n <= most
    grouped = np.add.reduceat(np.where(inside, chance, 0.0), edges[edges < len(n)])
    axes.plot(middle[edges < len(n)], grouped, "o", color=INK, markersize=4,
              label="predicted")  # fmt: skip
    axes.set_xlabel("bursts of a dye" if each == 1 else f"bursts of a dye, {each} numbers a bar")
    axes.set_ylabel("share of dyes")
    axes.legend(frameon=False, fontsize=9)


def _longer(
    axes: Any,
    values: Floats,
    cut: npt.NDArray[np.bool_],
    at: npt.NDArray[Any],
    predicted: npt.NDArray[Any],
    label: str,
) -> None:
    t, longer = survival(values, cut)
    some = np.unique(np.linspace(0, len(t) - 1, MOST_POINTS).astype(int))
    axes.step(t[some], longer[some], where="post", color=BLUE, linewidth=1.6,
              label=f"simulated ({len(values):,})")  # fmt: skip
    axes.plot(at, predicted, "--", color=INK, linewidth=1.2, label="predicted")
    axes.set_yscale("log")
    end = min(float(np.max(at)), 1.3 * float(np.max(values, initial=1e-9)))
    axes.set_xlim(0, end)
    axes.set_ylim(
        max(1e-3, 0.5 * min(float(longer.min()), float(np.interp(end, at, predicted)))), 1.3
    )
    axes.set_xlabel(label)
    axes.legend(frameon=False, fontsize=9)


def _drift(drift: Table) -> Plate:
    """Draw the specimen's motion against time and as a path."""
    each = -(-len(drift["t_s"]) // MOST_POINTS)
    thin = {name: np.asarray(values)[::each] for name, values in drift.items()}
    figure, (time, plane) = plots(10.4, 3.6, 2)
    for name, colour, label in (
        ("dx_nm", BLUE, "x, right"), ("dy_nm", RED, "y, down"), ("dz_nm", GREEN, "z, up"),
    ):  # fmt: skip
        time.plot(thin["t_s"], thin[name], color=colour, linewidth=1, label=label)
    time.set_xlabel("time (s)")
    time.set_ylabel("displacement (nm)")
    time.legend(frameon=False)
    plane.plot(thin["dx_nm"], thin["dy_nm"], color=INK, linewidth=0.8)
    plane.plot(thin["dx_nm"][:1], thin["dy_nm"][:1], "D", color=ORANGE, label="frame 0")
    plane.set_aspect("equal", adjustable="datalim")
    plane.invert_yaxis()
    plane.set_xlabel("x (nm)")
    plane.set_ylabel("y (nm), down")
    plane.legend(frameon=False)
    reach = float(np.hypot(drift["dx_nm"] - drift["dx_nm"][0],
                           drift["dy_nm"] - drift["dy_nm"][0]).max())  # fmt: skip
    caption = (
        "How the specimen moved while the movie was taken, against time and as a path. "
        f"Molecules lie up to {reach:.3g} nm from where they were in the first frame: without a "
        "correction, that blurs the image made of all frames."
    )
    return Plate("Drift (truth)", caption, figure, wide=True)


def _camera(dataset: Observed, name: str, k: int) -> list[Plate]:
    """Draw what differs from pixel to pixel of a camera; nothing if all are alike."""
    images, units = {}, {}
    for key, values in dataset.truth(name).items():
        label, unit = MAPS.get(key, (key.replace("_", " "), ""))
        image = np.asarray(values, np.float64)
        if np.ptp(image) == 0:
            continue
        if key == "variance_map":
            image = np.log10(np.maximum(image, 1e-6))
        images[label], units[label] = image, unit
    if not images:
        return []
    figure, _ = gallery(images, float(dataset.settings["pixel_size_nm"]), units=units,
                        across=min(4, len(images)))  # fmt: skip
    which = "" if k == 0 and "movie_2" not in dataset.signals else f" {k + 1}"
    caption = (
        "What differs from pixel to pixel of the camera, the same in every frame. What is equal in "
        "all pixels isn't shown."
    )
    if MAPS["variance_map"][0] in images:
        caption += " Pixels of large variance make false spots, if an analysis doesn't know them."
    return [Plate(f"The camera{which} (truth)", caption, figure, raster=True, wide=True)]
