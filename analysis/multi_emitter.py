"""Positions of molecules whose spots overlap: all emitters of a group in one fit.

As in 3D-DAOSTORM (H. Babcock et al., Opt. Nanoscopy 1 (2012) 6), what the first fit leaves over is
looked through for more emitters, and everything is fitted again, until nothing is left:

1. The spots that are seen at once are fitted, those nearer than four widths together.
2. A spot that is too long for one emitter is tried as two; an emitter is tried at each top of the
   residual. It stays if it lifts the likelihood by more than noise does.
3. 1 and 2 again, until no emitter is added. Those that the others don't need are taken away.

Spots are Gaussians of one known width, integrated over each pixel; `movie_width` tells the width
from a movie. A group has one flat background.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

from nanophantom.analysis import multi_emitter_kernels as kernels
from nanophantom.analysis import multi_emitter_search as search
from nanophantom.analysis.spot_detection import FALSE_POSITIVES, SpotFinder, Spots
from nanophantom.analysis.spot_fits import fit_spots

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int32]

FALSE_SPLITS = 1e-3
"""Default: of emitters that are alone, how many noise makes two."""
WIDTH_ERROR = 0.05
"""Default: how far off, relatively, the width of the spots may be."""
ROUNDS = 10
"""Of searches for more emitters; they end earlier if there are none."""
MOST_PER_WIDTH2 = 1.0
"""How many emitters, at most, for a square of a spot's width: more than can be told apart."""
SWEEPS = 4
"""Of fits of all groups, at most, in the end, each with the others as they are."""
SETTLED_PX = 0.01
"""They end earlier if no emitter moves farther."""
GOOD_CHI_SQUARE_SD = 3.0
"""Spots whose chi-square is further from its mean are no single ones, for `movie_width`."""
LEAST_SINGLE = 10
"""Spots that tell a width."""


@dataclass(frozen=True, eq=False)
class EmitterFits:
    """Emitters, a row each, sorted by frame; lengths in pixels, light in photoelectrons.

    Attributes
    ----------
    frame : (n,) int32
    x_px, y_px : (n,)
        From the centre of pixel (0, 0).
    photons, background : (n,)
        Of the emitter; of its group, in a pixel.
    x_sd, y_sd, photons_sd, background_sd : (n,)
        Standard deviations that the noise leaves, from the information of the whole group; NaN
        where the fit failed. That of a background that is held at its least is NaN.
    log_likelihood, chi_square : (n,)
        Of the group's boxes; see `SpotFits`.
    pixels, group_size : (n,) int32
        How many pixels and emitters the group has.
    converged : (n,) bool
        False if the fit found no top of the likelihood, or a place is known to no better than
        half a box.
    """

    frame: Ints
    x_px: Floats
    y_px: Floats
    photons: Floats
    background: Floats
    x_sd: Floats
    y_sd: Floats
    photons_sd: Floats
    background_sd: Floats
    log_likelihood: Floats
    chi_square: Floats
    pixels: Ints
    group_size: Ints
    converged: Bools

    def __len__(self) -> int:
        return len(self.x_px)


def fit_emitters(
    frames: npt.ArrayLike,
    sigma_px: float,
    *,
    spots: Spots | None = None,
    variance: npt.ArrayLike = 0.0,
    expected: npt.ArrayLike | None = None,
    excess_noise: float = 1.0,
    box_px: int | None = None,
    false_positives: float = FALSE_POSITIVES,
    false_splits: float = FALSE_SPLITS,
    width_error: float = WIDTH_ERROR,
    rounds: int = ROUNDS,
) -> EmitterFits:
    """Find and fit all emitters of frames; their spots may overlap.

    Parameters
    ----------
    frames : (n, ny, nx)
        Photoelectrons.
    sigma_px
        Width of a spot.
    spots
        Where to start; by default what `SpotFinder` finds.
    variance : scalar or (ny, nx)
        Of the readout noise, in photoelectrons squared.
    expected : (ny, nx), optional
        Photoelectrons expected besides the emitters and a flat background.
    excess_noise
        F^2: 2 for an EMCCD, 1 else.
    box_px
        Edge of the square of pixels around an emitter that is fitted, odd; by default 3 widths to
        either side.
    false_positives
        How many emitters may be found, of a pixel in a frame without any. Farther than three
        widths from others, one must stand out as a spot of that significance does.
    false_splits
        How many emitters that are alone may be told to be two. Nearer to others, an emitter must
        lift 2 log L by more than chi-square of three degrees of freedom exceeds with this
        probability (times the excess noise).
    width_error
        How far off sigma_px may be, relatively, before bright spots that are too wide are split:
        an emitter near to others must lift 2 log L by 2 N width_error^2 more, which is what
        splitting N such photons gains. It also lets the shape of a spot differ as much from a
        Gaussian. Pairs closer than 2 sqrt(2 width_error) widths look the same, and stay one.
    rounds
        How often, at most, more emitters are looked for; 0: those of `spots`, however dim.

    Raises
    ------
    ValueError
        Arrays don't fit together, or a parameter is out of its range.
    """
    data = np.asarray(frames, np.float32)
    if data.ndim != 3:
        raise ValueError(f"frames have the shape {data.shape}; expected (n, ny, nx)")
    if not 0.0 < false_splits <= 0.5:
        raise ValueError(f"false_splits is {false_splits}; it must lie above 0, up to 0.5")
    if not 0.0 <= width_error < 0.5:
        raise ValueError(f"width_error is {width_error}; it must lie from 0 to below 0.5")
    shape: tuple[int, int] = (data.shape[1], data.shape[2])
    box = 2 * math.ceil(3.0 * sigma_px) + 1 if box_px is None else box_px
    if box % 2 == 0 or not 3 <= box <= min(shape):
        raise ValueError(f"box_px is {box}; it must be odd, from 3 to the frame's {min(shape)}")
    finder = SpotFinder(shape, sigma_px, variance, excess_noise, false_positives)
    known = np.zeros(shape) if expected is None else np.array(np.broadcast_to(expected, shape))
    if spots is None:
        spots = finder.find(data, None if expected is None else known.astype(np.float32))
    noise = np.broadcast_to(np.asarray(variance, np.float64) / excess_noise, shape)
    rules = kernels.Rules(
        float(sigma_px),
        box // 2,
        float(chi2.isf(false_splits, 3)) * excess_noise,
        2.0 * width_error**2,
        finder.threshold**2 * excess_noise,
        float(excess_noise),
    )
    ends = np.searchsorted(spots.frame, np.arange(len(data) + 1))
    room = math.ceil(MOST_PER_WIDTH2 * (shape[0] + box) * (shape[1] + box) / sigma_px**2)
    rows = []
    for f, (first, end) in enumerate(pairwise(ends)):
        start = spots.starts[first:end]
        most = min(room, 20 + 10 * len(start)) + len(start)
        counts = data[f].astype(np.float64) + noise
        rows.append(_fit_frame(counts, known + noise, start, most, rules, rounds))
    table = np.concatenate(rows)
    table[:, kernels.SD_X : kernels.LOG_LIKELIHOOD] *= math.sqrt(excess_noise)
    sure = np.maximum(table[:, kernels.SD_X], table[:, kernels.SD_Y]) < 0.5 * box
    table[:, kernels.CONVERGED] *= sure
    kinds = {"pixels": np.int32, "group_size": np.int32, "converged": np.bool_}
    columns: dict[str, Any] = {
        field.name: column.astype(kinds.get(field.name, np.float64))
        for field, column in zip(fields(EmitterFits)[1:], table.T, strict=True)
    }
    frame = np.repeat(np.arange(len(rows), dtype=np.int32), [len(some) for some in rows])
    return EmitterFits(frame, **columns)


def _fit_frame(
    counts: Floats, known: Floats, starts: Floats, most: int, rules: kernels.Rules, rounds: int
) -> Floats:
    """Fit all emitters of a frame, up to `most`; return their table, (n, NUMBERS).

    `known` is the expectation besides emitters and their flat backgrounds; `starts` are x, y,
    photons and background of the emitters that are seen at once.
    """
    count, half, width = len(starts), rules.half, rules.width
    emitters, looked = np.zeros((most, kernels.NUMBERS)), np.zeros(most, np.int32)
    label = np.zeros(most, np.int32)
    if count == 0:
        return emitters[:0]
    everyone = np.arange(most, dtype=np.int32)
    planes = np.zeros((kernels.PLANES, *counts.shape))
    planes[kernels.DATA], planes[kernels.KNOWN] = counts, known
    light, level = planes[kernels.LIGHT], planes[kernels.LEVEL]
    model, least = slice(kernels.BACKGROUND + 1), search.TRIED * math.sqrt(rules.excess_noise)
    emitters[:count, model] = np.maximum(
        starts, [-np.inf, -np.inf, kernels.LEAST_PHOTONS, kernels.LEAST_BACKGROUND]
    )

    def fit(kind: int) -> float:
        before = emitters[:count, :2].copy()
        label[:count] = search.groups(before, kernels.LINK * width)
        change(kind, np.arange(label[:count].max() + 1))
        return float(np.abs(emitters[:count, :2] - before).max())

    def expect() -> Floats:
        return np.asarray(known + level + np.maximum(light, 0.0))

    def change(kind: int, of: npt.ArrayLike, *columns: npt.ArrayLike) -> int:
        proposals = np.zeros((np.size(of), 6))
        for k, column in enumerate((of, *columns)):
            proposals[:, k] = column
        return int(kernels.change(kind, proposals, emitters, count, label, looked, planes, rules))

    kernels.add_light(emitters, everyone[:count], light, width)
    fit(kernels.FIT)
    for _ in range(rounds):
        before, here = count, emitters[:count]
        search.spread_background(here[:, :2], here[:, kernels.BACKGROUND], half, level)
        new = np.flatnonzero(looked[:count] == 0)
        looked[new] = 1
        excess, dx, dy = search.splits(counts, expect(), emitters[new, :3], half, width).T
        long = excess >= least
        count = change(kernels.SPLIT, new[long], dx[long], dy[long])
        x, y, photons, deviations = search.tops(counts, expect(), half, width, least).T
        around = level[y.astype(int), x.astype(int)]
        count = change(kernels.ADD, np.full(len(x), -1), x, y, photons, around, deviations)
        if count == before:
            break
        fit(kernels.FIT)
    here = emitters[:count]
    search.spread_background(here[:, :2], here[:, kernels.BACKGROUND], half, level)
    if rounds > 0:
        change(kernels.DROP, np.arange(count))
        emitters = emitters[:count][np.isfinite(emitters[:count, kernels.X])]
        alone = search.alone(emitters[:, :2], kernels.AROUND * width)
        loss = search.losses(counts, expect(), emitters[:, :3], half, width)
        emitters = emitters[~(alone & (loss < rules.alone))]
        count = len(emitters)
        light[:] = 0.0
        kernels.add_light(emitters, everyone[:count], light, width)
    for _ in range(SWEEPS):
        if count == 0 or fit(kernels.FIT_WITH_ERRORS) < SETTLED_PX:
            break
    return emitters[:count]


def movie_width(
    frames: npt.ArrayLike,
    sigma_px: float,
    *,
    variance: npt.ArrayLike = 0.0,
    excess_noise: float = 1.0,
) -> float:
    """Return the width of the spots of a movie, in pixels: the weighted mean of single ones'.

    Single are spots without another one within four widths, whose chi-square is as it should be.

    Parameters
    ----------
    frames : (n, ny, nx)
        Photoelectrons; at low density, or enough of them that there are some single spots.
    sigma_px
        A guess, within 30 % or so.
    variance, excess_noise
        See `fit_emitters`.

    Raises
    ------
    ValueError
        Fewer than ten single spots, or frames of a wrong shape.
    """
    data = np.asarray(frames, np.float32)
    if data.ndim != 3:
        raise ValueError(f"frames have the shape {data.shape}; expected (n, ny, nx)")
    shape: tuple[int, int] = (data.shape[1], data.shape[2])
    spots = SpotFinder(shape, sigma_px, variance, excess_noise).find(data)
    half = math.ceil(3.0 * sigma_px)
    inside = (np.minimum(spots.x, spots.y) >= half) & (
        np.maximum(spots.x - shape[1], spots.y - shape[0]) < -half
    )
    apart = np.ones(len(spots), bool)
    ends = np.searchsorted(spots.frame, np.arange(len(data) + 1))
    for first, end in pairwise(ends):
        places = spots.starts[first:end, :2]
        far = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1))
        apart[first:end] = (far < kernels.LINK * sigma_px).sum(axis=1) == 1
    chosen = np.flatnonzero(inside & apart)
    if len(chosen) < LEAST_SINGLE:
        raise ValueError(f"{len(chosen)} single spots; {LEAST_SINGLE} are needed to tell a width")
    reach = np.arange(-half, half + 1)
    y, x = (spots.y[chosen, None] + reach)[:, :, None], (spots.x[chosen, None] + reach)[:, None]
    noise = np.broadcast_to(np.asarray(variance, np.float32), shape)
    fits = fit_spots(
        data[spots.frame[chosen, None, None], y, x],
        sigma_px,
        model="free",
        variance=noise[y, x],
        excess_noise=excess_noise,
    )
    freedom = len(reach) ** 2 - 5
    excess = fits.chi_square / excess_noise / freedom - 1.0
    single = fits.converged & (excess < GOOD_CHI_SQUARE_SD * math.sqrt(2.0 / freedom))
    if single.sum() < LEAST_SINGLE:
        raise ValueError(f"{single.sum()} single spots; {LEAST_SINGLE} are needed to tell a width")
    weight = fits.fifth_sd[single] ** -2.0
    return float(np.average(fits.sigma_x_px[single], weights=weight))
