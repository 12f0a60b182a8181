"""Comparison of localizations with the emitters of every frame, and what is read from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

from nanophantom.simcore.fields import Table
from nanophantom.validation.localization_limit import Bounds, Imaging, bounds, signal_to_noise
from nanophantom.validation.localization_matching import (
    AXIAL_RADIUS_NM,
    RADIUS_NM,
    Places,
    density_per_um2,
    greedy,
    match_frames,
    near_pairs,
    nearest_neighbour_nm,
    optimal,
)
from nanophantom.validation.matching import Matches

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

LEAST_SNR = 5.0
"""Emitters with a lower signal-to-noise ratio may be found, but aren't asked for (Rose)."""
BORDER_SIGMAS = 2.0
"""Emitters nearer to the frame's edge than so many widths of a spot aren't asked for either."""
ISOLATED_SIGMAS = 6.0
"""An emitter without another one so many widths around has its box for itself."""
MOST_BOUNDS = 20_000
"""Emitters whose bounds are worked out; of more, evenly spread ones."""
DENSITY_RADIUS_NM = 1000.0
PIXEL_BINS = 10


@dataclass(frozen=True)
class Counts:
    """Hits, misses and false finds; where there is nothing to find, ratios are None."""

    hits: int
    missed: int
    false: int

    @property
    def jaccard(self) -> float | None:
        """Hits over everything that is there or was claimed."""
        return self._of(self.hits, self.hits + self.missed + self.false)

    @property
    def recall(self) -> float | None:
        """Hits over what is there."""
        return self._of(self.hits, self.hits + self.missed)

    @property
    def precision(self) -> float | None:
        """Hits over what was claimed."""
        return self._of(self.hits, self.hits + self.false)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of recall and precision."""
        return self._of(2 * self.hits, 2 * self.hits + self.missed + self.false)

    def _of(self, part: int, whole: int) -> float | None:
        return part / whole if whole and self.hits + self.missed else None


@dataclass(frozen=True, eq=False)
class Compared:
    """Finds beside emitters; columns of finds as they were told."""

    found: dict[str, Floats]
    emissions: Table
    imaging: Imaging
    places: Places
    """Of the finds."""
    true: Places
    """Of the emitters, z above the focal plane."""
    snr: Floats
    """Of the emitters."""
    asked: Bools
    """Emitters that are asked for: bright enough, and far enough from the edge of the frame."""
    pairs: Matches
    """Finds and emitters that are asked for, matched as the challenge does."""
    false: Bools
    """Finds that belong to no emitter at all and don't lie at the edge."""
    all_pairs: Matches
    """Finds matched with all emitters alike, as the challenge does."""
    optimal_pairs: Matches
    """As `pairs`, with as many pairs as can be."""
    isolated: Bools
    """Emitters without another in their boxes."""

    @property
    def counts(self) -> Counts:
        """Of the emitters that are asked for."""
        hits = len(self.pairs)
        return Counts(hits, int(self.asked.sum()) - hits, int(self.false.sum()))

    @property
    def counts_of_all(self) -> Counts:
        """Of all emitters, however dim, as the challenge counts."""
        hits = len(self.all_pairs)
        return Counts(hits, len(self.true) - hits, len(self.places) - hits)

    @property
    def counts_at_best(self) -> Counts:
        """Of the emitters that are asked for, matched as well as can be."""
        more = len(self.optimal_pairs) - len(self.pairs)
        own = self.counts
        return Counts(own.hits + more, own.missed - more, max(0, own.false - more))

    @cached_property
    def hit(self) -> Bools:
        """Say which emitters are matched, of those asked for."""
        hit = np.zeros(len(self.true), bool)
        hit[self.pairs.true] = True
        return hit

    def errors_nm(self, pairs: Matches | None = None) -> Floats:
        """Return found minus true places of pairs, (n, 2)."""
        p = self.pairs if pairs is None else pairs
        return np.column_stack(
            [
                self.places.x_nm[p.found] - self.true.x_nm[p.true],
                self.places.y_nm[p.found] - self.true.y_nm[p.true],
            ]
        )

    def errors_z_nm(self, pairs: Matches | None = None) -> Floats | None:
        """Return found minus true heights of pairs; None if no heights were told."""
        p = self.pairs if pairs is None else pairs
        if self.places.z_nm is None or self.true.z_nm is None:
            return None
        return np.asarray(self.places.z_nm[p.found] - self.true.z_nm[p.true])

    def of_pairs(self, column: str) -> Floats | None:
        """Return an optional column of the finds that are matched."""
        return self.found[column][self.pairs.found] if column in self.found else None

    def true_of_pairs(self, column: str) -> Floats:
        """Return a true column of the emitters that are matched."""
        return np.asarray(self.emissions[column], np.float64)[self.pairs.true]

    @cached_property
    def bounded(self) -> tuple[Ints, Bounds]:
        """Pairs whose bounds are known, as rows of `pairs`, and the bounds of their emitters."""
        n = len(self.pairs)
        rows = np.unique(np.linspace(0, n - 1, min(n, MOST_BOUNDS)).astype(np.int64))
        if not self.imaging.one_camera:
            rows = rows[:0]
        x, y, z, photons, background = (
            np.asarray(self.emissions[c], np.float64)[self.pairs.true[rows]]
            for c in ("x_nm", "y_nm", "z_nm", "photons", "background")
        )
        limit = bounds(self.imaging, x, y, z, photons, background)
        good = np.isfinite(limit.x_nm)
        if limit.z_nm is not None:
            good &= np.isfinite(limit.z_nm)
        return rows[good], Bounds(
            limit.x_nm[good],
            limit.y_nm[good],
            limit.photons[good],
            limit.background[good],
            None if limit.z_nm is None else limit.z_nm[good],
        )

    @cached_property
    def isolated_pairs(self) -> Bools:
        """Say which pairs have isolated emitters."""
        return np.asarray(self.isolated[self.pairs.true])


def compare(
    found: dict[str, Floats],
    dataset: Observed,
    radius_nm: float = RADIUS_NM,
    axial_radius_nm: float = AXIAL_RADIUS_NM,
) -> Compared:
    """Match finds with what shone in each frame.

    Emitters that are asked for are matched first. A find that is left over and lies within the
    radius of an emitter that isn't asked for, or at the edge of the frame, isn't false.

    Parameters
    ----------
    found
        Columns frame, x_nm, y_nm and any others.
    dataset
        With the frame table "emissions".
    """
    imaging = Imaging.of(dataset)
    emissions = dataset.frame_table("emissions")
    x, y, z, photons, background = (
        np.asarray(emissions[c], np.float64)
        for c in ("x_nm", "y_nm", "z_nm", "photons", "background")
    )
    true = Places(np.asarray(emissions["frame"], np.int64), x, y, z - imaging.focus_nm)
    places = Places(
        found["frame"].astype(np.int64), found["x_nm"], found["y_nm"], found.get("z_nm")
    )
    snr = signal_to_noise(imaging, photons, background, z)
    margin = BORDER_SIGMAS * imaging.sigma_nm
    asked = (snr >= LEAST_SNR) & (_to_edge(imaging, x, y) >= margin)
    target = np.flatnonzero(asked)
    near = near_pairs(places, true.of(target), radius_nm, axial_radius_nm)
    pairs, best = (match_near(near, len(places), len(target)) for match_near in (greedy, optimal))
    left = np.ones(len(places), bool)
    left[pairs.found] = False
    others = near_pairs(places, true.of(~asked), radius_nm, axial_radius_nm)
    false = left & (_to_edge(imaging, places.x_nm, places.y_nm) >= margin)
    false[others.found] = False
    return Compared(
        found=found,
        emissions=emissions,
        imaging=imaging,
        places=places,
        true=true,
        snr=snr,
        asked=asked,
        pairs=Matches(pairs.found, target[pairs.true], pairs.distance),
        false=false,
        all_pairs=match_frames(places, true, radius_nm, axial_radius_nm),
        optimal_pairs=Matches(best.found, target[best.true], best.distance),
        isolated=~np.isfinite(nearest_neighbour_nm(true, ISOLATED_SIGMAS * imaging.sigma_nm)),
    )


def efficiency(jaccard: float, rmse_nm: float, alpha_per_nm: float = 1.0) -> float:
    """Return 100 - sqrt((100 - 100 J)^2 + alpha^2 RMSE^2), the challenge's figure of merit in %.

    RMSE is that of the 2-D distance for alpha 1 / nm (lateral), that of the height for 0.5 / nm
    (axial). It may be below zero. D. Sage et al., Nat. Methods 16 (2019) 387.
    """
    return float(100.0 - np.hypot(100.0 - 100.0 * jaccard, alpha_per_nm * rmse_nm))


def crlb_ratio(c: Compared) -> tuple[float | None, int]:
    """Return by how much errors of isolated emitters exceed their bounds, and of how many.

    The root of the mean of (error / bound)^2 over x and y: 1 for the best unbiased algorithm.
    """
    rows, limit = c.bounded
    alone = c.isolated_pairs[rows]
    if not alone.any():
        return None, 0
    error = c.errors_nm()[rows[alone]]
    u, v = error[:, 0] / limit.x_nm[alone], error[:, 1] / limit.y_nm[alone]
    return float(np.sqrt(0.5 * np.mean(u**2 + v**2))), int(alone.sum())


def crlb_ratio_z(c: Compared) -> tuple[float | None, int]:
    """Return the same of heights."""
    rows, limit = c.bounded
    alone, error = c.isolated_pairs[rows], c.errors_z_nm()
    if error is None or limit.z_nm is None or not alone.any():
        return None, 0
    u = error[rows[alone]] / limit.z_nm[alone]
    return float(np.sqrt(np.mean(u**2))), int(alone.sum())


@dataclass(frozen=True, eq=False)
class PixelBias:
    """Mean error along x or y against the true place between two pixels' centres.

    Attributes
    ----------
    fraction
        Middles of the bins, from -0.5 to 0.5 pixels; shape (bins,).
    mean_nm, error_nm
        Mean errors, less the overall mean, and their standard errors; shape (2, bins), x and y.
        NaN where a bin has fewer than two.
    rms_nm
        Of the means, the part that chance explains taken off.
    p_value
        Chance that an algorithm without such a bias shows as much.
    """

    fraction: Floats
    mean_nm: Floats
    error_nm: Floats
    rms_nm: float
    p_value: float


def pixel_bias(c: Compared, bins: int = PIXEL_BINS) -> PixelBias | None:
    """Test whether errors depend on where between the pixels an emitter lies (chi-square).

    Of isolated emitters: the errors that overlap makes repeat themselves from frame to frame. None
    with fewer than ten of them a bin.
    """
    alone = c.isolated_pairs
    if alone.sum() < 10 * bins:
        return None
    errors, a = c.errors_nm()[alone], c.imaging.pixel_size_nm
    true = c.true.of(c.pairs.true[alone])
    places = np.column_stack([true.x_nm, true.y_nm]) / a
    part = places - np.rint(places)
    which = np.clip(np.floor((part + 0.5) * bins).astype(np.int64), 0, bins - 1)
    mean, spread = np.full((2, 2, bins), np.nan)
    freedom = 0
    for axis in (0, 1):
        error = errors[:, axis] - errors[:, axis].mean()
        n = np.bincount(which[:, axis], minlength=bins)
        enough = n >= 2
        total = np.bincount(which[:, axis], error, minlength=bins)
        square = np.bincount(which[:, axis], error**2, minlength=bins)
        m = total[enough] / n[enough]
        mean[axis, enough] = m
        variance = np.maximum(square[enough] / n[enough] - m**2, 0) / (n[enough] - 1)
        spread[axis, enough] = np.sqrt(variance)
        freedom += int(enough.sum()) - 1
    seen = spread > 0
    chi_square = float(np.sum((mean[seen] / spread[seen]) ** 2))
    systematic = float(np.mean(mean[seen] ** 2 - spread[seen] ** 2)) if seen.any() else 0.0
    return PixelBias(
        fraction=(np.arange(bins) + 0.5) / bins - 0.5,
        mean_nm=mean,
        error_nm=spread,
        rms_nm=float(np.sqrt(max(systematic, 0.0))),
        p_value=float(chi2.sf(chi_square, max(freedom, 1))) if seen.any() else 1.0,
    )


def recall_against_photons(c: Compared, bins: int = 12) -> tuple[Floats, Floats, Ints]:
    """Return recall in bins of photons, of all emitters in view, dim ones too.

    Returns
    -------
    photons : (k,)
        Geometric middles of the bins that hold emitters.
    recall, n : (k,)
    """
    photons = np.asarray(c.emissions["photons"], np.float64)
    if not len(photons):
        return np.zeros(0), np.zeros(0), np.zeros(0, np.int64)
    found = np.zeros(len(photons), bool)
    found[c.all_pairs.true] = True
    low, high = np.percentile(photons, [0.5, 100.0])
    edges = np.geomspace(max(low, 1e-3 * high), 1.0001 * high, bins + 1)
    which = np.clip(np.searchsorted(edges, photons, side="right") - 1, 0, bins - 1)
    n = np.bincount(which, minlength=bins)
    hits = np.bincount(which, found, minlength=bins)
    some = n > 0
    middle = np.sqrt(edges[1:] * edges[:-1])
    return middle[some], hits[some] / n[some], n[some]


def jaccard_against_density(c: Compared, bins: int = 6) -> tuple[Floats, Floats, Ints]:
    """Return the Jaccard index where few and where many emitters shine at once.

    The density of an emitter, or of a false find, is that of the other emitters that are asked for
    up to 1 um around it, in its frame.

    Returns
    -------
    density_per_um2, jaccard, n : (k,)
        n counts hits, misses and false finds.
    """
    target = c.true.of(c.asked)
    here = density_per_um2(target, target, DENSITY_RADIUS_NM, themselves=True)
    beside = density_per_um2(c.places.of(c.false), target, DENSITY_RADIUS_NM, themselves=False)
    if not len(here):
        return np.zeros(0), np.zeros(0), np.zeros(0, np.int64)
    one = 1e6 / (np.pi * DENSITY_RADIUS_NM**2)
    most = max(float(here.max()), one)
    edges = np.unique(np.r_[-0.5, np.geomspace(0.5, most / one + 1.0, bins)]) * one
    which, false = (np.searchsorted(edges, d) - 1 for d in (here, beside))
    hits = np.bincount(which, c.hit[c.asked], minlength=len(edges))[: len(edges) - 1]
    n = np.bincount(which, minlength=len(edges))[: len(edges) - 1]
    mean = np.bincount(which, here, minlength=len(edges))[: len(edges) - 1]
    n_false = np.bincount(np.minimum(false, len(edges) - 2), minlength=len(edges))[: len(edges) - 1]
    some = n > 0
    total = (n + n_false)[some]
    return mean[some] / n[some], hits[some] / total, total


def _to_edge(imaging: Imaging, x_nm: Floats, y_nm: Floats) -> Floats:
    """Return the distance to the outer edge of the outermost pixels, negative outside."""
    ny, nx = imaging.shape
    a = imaging.pixel_size_nm
    left, top = x_nm + a / 2, y_nm + a / 2
    return np.minimum(np.minimum(left, nx * a - left), np.minimum(top, ny * a - top))
