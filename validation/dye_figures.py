"""Figures of the task dye-kinetics: frames and images, distributions, rates, what light costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from nanophantom.analysis.dye_kinetics import (
    FEWEST_BURSTS,
    Runs,
    bridged,
    resolution_of_bursts,
    runs_of,
    watched,
)
from nanophantom.analysis.localize import CameraSettings
from nanophantom.analysis.rendering import Frame, gaussian_image
from nanophantom.simcore.light.burst_laws import BurstLaws
from nanophantom.validation.drawing import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PINK,
    RED,
    Plate,
    gallery,
    plot,
    plots,
)
from nanophantom.validation.movie_figures import survival

if TYPE_CHECKING:
    from nanophantom.analysis.ring_correlation import LocalizationResolution
    from nanophantom.simcore.fields import Table
    from nanophantom.validation.tasks.dye_kinetics import Dye

Floats = npt.NDArray[np.float64]

COLOURS = (ORANGE, BLUE, GREEN, PINK, RED)
SEEN_LABEL = "in the movie, as analysed"
RENDERED_PX = 480
ZOOM_NM = 560.0
SMOOTH_RINGS = 15
BLOCK = 500
"""Frames in memory at a time."""
NAMES = {"palm": "PALM", "dstorm": "dSTORM", "paint": "DNA-PAINT"}
WORDS = {
    "on_time_s": "ON time",
    "off_time_s": "OFF time",
    "photons_per_burst": "photons a burst",
}


class _Seen:
    """A movie as the default analysis sees it."""

    def __init__(self, dye: Dye) -> None:
        self.dye = dye
        measured = dye.part.measured()
        movie = measured.signals["movie"].data
        self.spots, blind, _ = watched(movie, measured.settings)
        blocks = range(0, len(movie), BLOCK)
        total = sum(np.sum(movie[k : k + BLOCK], axis=0, dtype=np.float64) for k in blocks)
        camera = CameraSettings.read(measured.settings["camera"])
        self.mean = np.asarray(camera.electrons(np.asarray(total / len(movie))))
        """Of all frames, photoelectrons."""
        self.runs: Runs = bridged(runs_of(self.spots), blind)
        self.resolution: LocalizationResolution | None = None
        if len(self.runs.dye) >= FEWEST_BURSTS:
            self.resolution = resolution_of_bursts(self.spots)
        self.frame_s = float(dye.part.settings["frame_period_s"])

    @property
    def title(self) -> str:
        """What a figure calls it."""
        return NAMES.get(self.dye.name, self.dye.name)


def of_dyes(dyes: list[Dye]) -> list[Plate]:
    """Draw all figures."""
    seen = [_Seen(dye) for dye in dyes]
    return [
        _frames(seen),
        _rendered(seen),
        _distributions(seen),
        _rates(dyes),
        _light(dyes),
        _correlations(seen),
    ]


def _frames(seen: list[_Seen]) -> Plate:
    """Draw a full frame of each movie, and the mean of its frames."""
    images = {}
    for s in seen:
        part = s.dye.part
        n = np.bincount(s.spots["frame"], minlength=part.n_frames)
        k = int(np.argmax(n))
        images[f"{s.title}, frame {k}"] = part.signal("movie", k, k + 1)[0]
    for s in seen:
        images[f"{s.title}, mean"] = s.mean
    step = float(seen[0].dye.part.settings["pixel_size_nm"])
    figure, _ = gallery(images, step, across=len(seen))
    caption = (
        "Above: the frame of each movie in which most molecules shine; in others there are none "
        "or one. Below: the mean of all frames, less the camera's calibrated offsets, "
        "which is what a widefield microscope sees. The "
        "structure is the same in all; what differs is how its dyes blink."
    )
    return Plate("One structure, as each dye shows it", caption, figure, raster=True, wide=True)


def _rendered(seen: list[_Seen]) -> Plate:
    """Draw the images that localizations make, and where the true sites are."""
    settings, view = seen[0].dye.part.settings, seen[0].dye.part.truth("dyes")
    a = float(settings["pixel_size_nm"])
    ny, nx = seen[0].dye.part.signal("movie", 0, 1).shape[1:]
    side = min(ZOOM_NM, a * min(nx, ny))
    pixel = side / RENDERED_PX
    corner = _structure_near((a * nx / 2, a * ny / 2), view, side) - side / 2
    frame = Frame(float(corner[0]), float(corner[1]), RENDERED_PX, RENDERED_PX)
    images: dict[str, npt.NDArray[Any]] = {}
    for s in seen:
        x, y, u = (s.spots[c] for c in ("x_nm", "y_nm", "uncertainty_nm"))
        wide = np.maximum(u, 0.7 * pixel)
        images[s.title] = np.sqrt(gaussian_image(x, y, wide, pixel, frame).image)
    x, y = (np.asarray(view[c], np.float64) for c in ("x_nm", "y_nm"))
    images["true dyes"] = np.sqrt(gaussian_image(x, y, 3 * pixel, pixel, frame).image)
    figure, _ = gallery(images, pixel, across=len(images))
    told = "; ".join(
        f"{s.title} {len(s.spots['frame']):,} localizations, "
        f"{float(np.median(s.spots['uncertainty_nm'])):.2g} nm each"
        for s in seen
    )
    caption = (
        "A part of the field, each localization drawn as a Gaussian as wide as it is "
        f"uncertain (grey scale: root of the density). {told}. What a dye gives in one burst "
        "decides how wide its spots are, how often it comes back how many there are."
    )
    return Plate("The images they make", caption, figure, raster=True, wide=True)


def _structure_near(place: tuple[float, float], dyes: Table, side_nm: float) -> Floats:
    """Return the middle of the dyes around the one nearest to a place."""
    at = np.column_stack([np.asarray(dyes[c], np.float64) for c in ("x_nm", "y_nm")])
    nearest = at[np.argmin(np.hypot(*(at - place).T))]
    return np.asarray(at[np.abs(at - nearest).max(axis=1) < 0.6 * side_nm].mean(axis=0))


def _distributions(seen: list[_Seen]) -> Plate:
    """Draw lengths of bursts, dark times, photons and bursts of each dye, and what theory says."""
    figure = Figure(figsize=(10.8, 2.7 * len(seen)), layout="constrained")
    figure.patch.set_alpha(0)
    for row, s in enumerate(seen):
        on, off, light, number = (
            figure.add_subplot(len(seen), 4, 4 * row + k + 1) for k in range(4)
        )
        for axes in (on, off, light, number):
            axes.patch.set_alpha(0)
            for edge in ("top", "right"):
                axes.spines[edge].set_visible(False)
            axes.tick_params(labelsize=8)
        laws, runs, found = BurstLaws.of(s.dye.chain), s.runs, s.dye.found
        # A run of n frames outlasts n - 1 periods; from the second frame on it has no memory.
        length = np.asarray(runs.length[runs.length >= 2] - 1, np.float64)
        _times(on, length * s.frame_s, np.inf, laws.on_longer_than, found["on_time_s"],
               "burst, beyond two frames (s)")  # fmt: skip
        same = runs.dye[1:] == runs.dye[:-1]
        gap = np.asarray((runs.first[1:] - runs.last[:-1] - 1)[same], np.float64)
        _times(off, gap * s.frame_s, s.dye.part.n_frames * s.frame_s, laws.off_longer_than,
               found["off_time_s"], "dark time that ended (s)")  # fmt: skip
        _photons(light, runs.photons, laws, found["photons_per_burst"])
        _numbers(number, np.bincount(runs.dye), s.dye)
        on.set_ylabel(f"{s.title}\nshare longer", fontsize=9)
        if row == 0:
            on.legend(frameon=False, fontsize=7)
    caption = (
        "One row a dye. Bars and steps: what the frames show, in steps of a frame. Black, dashed: "
        "what the dye's true rates say in closed form; red: exponentials with the times that were "
        "found. Straight on this scale is a single rate; dark times bend down since the movie ends "
        "before long ones do, which the curves allow for. In PALM dark times shorter than a frame "
        "run bursts together: what is seen lasts longer than a burst. Photons fall short of theory "
        "where bursts are too dim to be seen or run into one. The last column counts what is seen "
        "of a dye; theory (dots) counts all bursts that begin in the movie, those at 0 never show."
    )
    return Plate("Bursts and dark times, seen and expected", caption, figure, wide=True)


def _times(
    axes: Any,
    values: Floats,
    movie_s: float,
    law: Callable[[Floats], Floats],
    found: float,
    label: str,
) -> None:
    """Draw times seen, in steps of a frame, and two laws as the length of the movie cuts them."""
    t, longer = survival(values, np.zeros(len(values), bool))
    axes.step(t, longer, where="post", color=BLUE, linewidth=1.4, label="seen")
    top = float(t.max())
    at = np.linspace(0, min(movie_s, top + 10 * found), 2000)
    axes.plot(at, _ended(at, law(at), movie_s), "--", color=INK, linewidth=1.1, label="theory")
    own = _ended(at, np.exp(-at / found), movie_s)
    axes.plot(at, own, color=RED, linewidth=1.1, alpha=0.8, label="found")
    axes.set_xlim(0, 1.1 * max(top, found))
    axes.set_yscale("log")
    axes.set_ylim(2e-3, 1.3)
    axes.set_xlabel(label, fontsize=8)


def _ended(at: Floats, longer: Floats, movie_s: float) -> Floats:
    """Return the share longer of times that end within a movie, begun at any time in it."""
    weight = np.clip(1 - 0.5 * (at[1:] + at[:-1]) / movie_s, 0, 1)
    beyond = np.append(-np.diff(longer) * weight, 0.0)[::-1].cumsum()[::-1]
    return np.asarray(beyond / beyond[0])


def _photons(axes: Any, photons: Floats, laws: BurstLaws, found: float) -> None:
    top = 4.5 * laws.mean_photons
    edges = np.linspace(0, top, 31)
    axes.hist(photons, edges, weights=np.full(len(photons), 1 / max(len(photons), 1)),
              color=BLUE, alpha=0.45)  # fmt: skip
    share = -np.diff(laws.at_least(np.rint(edges)))
    middle = 0.5 * (edges[1:] + edges[:-1])
    axes.plot(middle, share, "--", color=INK, linewidth=1.1)
    own = np.exp(-edges / found)
    axes.plot(middle, -np.diff(own), color=RED, linewidth=1.1, alpha=0.8)
    axes.set_xlabel("photons of a burst", fontsize=8)


def _numbers(axes: Any, number: npt.NDArray[np.int64], dye: Dye) -> None:
    predicted = dye.part.truth("prediction_bursts")
    chance = np.asarray(predicted["probability"])
    most = max(int(number.max(initial=1)), int(np.searchsorted(np.cumsum(chance), 0.99)))
    share = np.bincount(number[number > 0], minlength=most + 1)[: most + 1].astype(float)
    # Dyes that never show are unknown to the movie.
    share *= (1 - chance[0]) / max(share.sum(), 1)
    axes.bar(np.arange(most + 1), share, color=BLUE, alpha=0.45)
    k = np.arange(min(most + 1, len(chance)))
    axes.plot(k, chance[k], "o", color=INK, markersize=2.6)
    axes.set_xlabel("bursts of a dye", fontsize=8)


def _rates(dyes: list[Dye]) -> Plate:
    """Draw numbers found over true ones, with intervals, and chances side by side."""
    figure, (ratio, chance) = plots(10.4, 3.6, 2)
    for k, dye in enumerate(dyes):
        colour = COLOURS[k % len(COLOURS)]
        for place, quantity in enumerate(WORDS):
            true, at = dye.true[quantity], place + 0.2 * (k - (len(dyes) - 1) / 2)
            value, low, high = (dye.found[quantity + end] / true for end in ("", "_low", "_high"))
            label = NAMES.get(dye.name, dye.name) if place == 0 else None
            ratio.errorbar([at], [value], [[value - low], [high - value]], fmt="o", color=colour,
                           capsize=4, label=label)  # fmt: skip
            limit = 1.96 * dye.counting[quantity]
            ratio.bar([at], [2 * limit], 0.16, bottom=1 - limit, color=colour, alpha=0.2)
        value, low, high = (dye.found["last_burst" + end] for end in ("", "_low", "_high"))
        chance.errorbar([k], [value], [[value - low], [high - value]], fmt="o", color=colour,
                        capsize=4)  # fmt: skip
        chance.plot([k - 0.3, k + 0.3], [dye.true["last_burst"]] * 2, color=INK, linewidth=1.4,
                    label="true" if k == 0 else None)  # fmt: skip
    ratio.axhline(1, color=INK, linewidth=0.8)
    ratio.set_xticks(range(len(WORDS)), list(WORDS.values()))
    ratio.set_ylabel("found / true")
    chance.set_xticks(range(len(dyes)), [NAMES.get(d.name, d.name) for d in dyes])
    chance.set_ylabel("chance that a burst is the last")
    chance.set_ylim(-0.02, None)
    for axes in (ratio, chance):
        axes.legend(frameon=False, fontsize=9)
    told = "; ".join(
        f"{NAMES.get(d.name, d.name)}: ON {_pair(d, 'on_time_s', 's')}, "
        f"OFF {_pair(d, 'off_time_s', 's')}, {_pair(d, 'photons_per_burst', 'photons')}, "
        f"last {_pair(d, 'last_burst', '')}".rstrip()
        for d in dyes
    )
    caption = (
        "What the movies tell of each dye, over the truth, with 95 % intervals. Shaded: within so "
        "much chance alone would leave 95 % of the answers of someone who sees every burst "
        f"exactly. In numbers, found (true): {told}."
    )
    return Plate("Rates, found and true", caption, figure, wide=True)


def _pair(dye: Dye, quantity: str, unit: str) -> str:
    digits = ",.0f" if dye.true[quantity] >= 1000 else ".3g"
    return f"{dye.found[quantity]:{digits}} ({dye.true[quantity]:{digits}}) {unit}".rstrip()


def _light(dyes: list[Dye]) -> Plate:
    """Draw how many dyes are left against the light dose, and what photons a dye gave."""
    figure, (left, budget) = plots(10.4, 3.6, 2)
    for k, dye in enumerate(dyes):
        colour, name = COLOURS[k % len(COLOURS)], NAMES.get(dye.name, dye.name)
        table, settings = dye.part.truth("dyes"), dye.part.settings
        end = dye.part.n_frames * float(settings["frame_period_s"])
        t = np.linspace(0, end, 300)
        gone = np.sort(np.asarray(table["bleached_s"], np.float64))
        alive = 1 - np.searchsorted(gone, t, "right") / max(len(gone), 1)
        dose = t * float(settings["excitation_kw_per_cm2"])
        left.plot(dose, alive, color=colour, linewidth=1.5, label=f"{name}, {end:.3g} s")
        photons = np.sort(np.asarray(table["photons"], np.float64))
        mean = float(photons.mean())
        share = 1 - np.arange(len(photons)) / max(len(photons), 1)
        budget.step(np.maximum(photons, 1), share, color=colour, linewidth=1.5,
                    label=f"{name}, mean {mean:,.0f}")  # fmt: skip
    left.set_xlabel("exciting light so far (kJ/cm²)")
    left.set_ylabel("share of dyes not bleached")
    left.set_ylim(0, 1.04)
    budget.set_xscale("log")
    budget.set_xlim(100, None)
    budget.set_xlabel("photons of a dye in the movie")
    budget.set_ylabel("share of dyes with at least so many")
    for axes in (left, budget):
        axes.legend(frameon=False, fontsize=9)
    caption = (
        "What an image costs (truth). Left: dyes that are still alive against the dose of exciting "
        "light that the specimen has taken; before the first frame, light may already have "
        "bleached some. A docking site doesn't bleach: each imager that comes is a new one. Right: "
        "the photons that a dye or site gave while the movie ran, which is all there is to place "
        "it by. Much of the rest of the light falls on nothing, and on the cell."
    )
    return Plate("Light dose and photon budget (truth)", caption, figure, wide=True)


def _correlations(seen: list[_Seen]) -> Plate:
    figure, axes = plot(7.4, 4.0)
    finest = 0.02
    for k, s in enumerate(seen):
        if s.resolution is None:
            continue
        rings, found = s.resolution.rings, s.resolution.resolution_nm
        smooth = np.convolve(rings.correlation, np.ones(SMOOTH_RINGS) / SMOOTH_RINGS, "same")
        label = s.title if found is None else f"{s.title}: {found:.3g} nm"
        axes.plot(rings.frequency_per_nm, smooth, color=COLOURS[k % len(COLOURS)], linewidth=1.4,
                  label=label)  # fmt: skip
        finest = max(finest, 0.0 if found is None else 1 / found)
    axes.axhline(1 / 7, color=INK, linewidth=0.8, linestyle=":")
    axes.set_xlim(0, 1.5 * finest)
    axes.set_ylim(-0.1, 1.02)
    axes.set_xlabel("spatial frequency (1/nm)")
    axes.set_ylabel("correlation of two halves")
    axes.legend(frameon=False, fontsize=9, title="falls to 1/7 at")
    caption = (
        "Fourier ring correlation of two random halves of the bursts, each burst one place. It "
        "tells how well bursts of one dye fall on each other and how many there are: two on "
        "average in PALM, several in dSTORM and DNA-PAINT. What it doesn't tell is whether every "
        "site of the structure ever showed."
    )
    return Plate("Resolution", caption, figure)
