"""What surface samples share: sampling, seamless tiles, places without overlap, bumps on a floor.

A surface extends without end. What chance put there is drawn once, in a square tile around the
origin that repeats itself without a seam, so the same places have the same heights whatever the
window and the sampling.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numba
import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy import ndimage, sparse

from nanophantom.simcore.atoms import Window
from nanophantom.simcore.fields import read_only
from nanophantom.simcore.specimens import Specimen, sample_points
from nanophantom.simcore.surfaces import Floats, Material, Surface

Ints = npt.NDArray[np.int64]
Owners = npt.NDArray[np.int32]
MOST_SAMPLES = 6000
"""Largest number of samples along the edge of a tile."""
_TRIES = 2000  # random places that a disc is offered before the tile counts as full


class SurfaceSpecimen(Specimen):
    """A surface of one material whose heights are a function of the place."""

    def __init__(self, material: Material, notes: tuple[str, ...] = ()) -> None:
        self.material, self._notes = material, notes

    @abstractmethod
    def heights(self, x_nm: Floats, y_nm: Floats) -> Floats:
        """Return heights in nm where columns x, shape (nx,), meet rows y, shape (ny,)."""

    def surface_within(self, window: Window, shape: tuple[int, int]) -> Surface:
        """Return the surface sampled over a window, shape (ny, nx)."""
        return Surface.of_one_material(
            window, self.heights(*sample_points(window, shape)), self.material
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about choices made on the way."""
        return self._notes


@dataclass(frozen=True, eq=False)
class Tile:
    """Heights on a square grid that repeats itself, joined by cubic splines.

    Attributes
    ----------
    heights_nm
        Shape (n, n); sample [i, j] lies at x = j period / n, y = i period / n, and as much again
        in every other tile.
    period_nm
        Edge of the tile.
    """

    heights_nm: Floats
    period_nm: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "heights_nm", read_only(self.heights_nm))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the heights only; the splines are made again where they are needed."""
        return type(self), (self.heights_nm, self.period_nm)

    @cached_property
    def splines(self) -> Floats:
        """Coefficients of the cubic B-splines, shape (n, n)."""
        return read_only(ndimage.spline_filter(self.heights_nm, order=3, mode="grid-wrap"))

    @classmethod
    def gaussian(
        cls,
        power: Callable[[Floats], Floats],
        rms_nm: float,
        period_nm: float,
        shortest_nm: float,
        rng: np.random.Generator,
    ) -> Tile:
        """Draw a Gaussian random field.

        White noise is filtered in reciprocal space to the spectrum. Harmonics shorter than
        `shortest_nm` and the mean are left out; three samples lie on the shortest one.

        Parameters
        ----------
        power
            Its spectral density but for a factor: from k in 1/nm, any shape.
        rms_nm
            Square root of the expected variance; a single tile's own is near it.
        period_nm
            Edge of the tile.
        shortest_nm
            Shortest wavelength.
        rng
            Where the noise comes from.

        Raises
        ------
        ValueError
            The tile would be larger than 6000 x 6000 samples, or holds less than one wave.
        """
        n = int(np.ceil(3 * period_nm / shortest_nm))
        if n > MOST_SAMPLES:
            raise ValueError(
                f"period_nm: {period_nm:g} nm in waves as short as {shortest_nm:.3g} nm needs "
                f"{n} x {n} samples, at most {MOST_SAMPLES}; lower the period, or leave out more "
                "short waves"
            )
        n = scipy.fft.next_fast_len(max(n, 8), real=True)
        k = np.hypot(scipy.fft.fftfreq(n)[:, None], scipy.fft.rfftfreq(n)) * (n / period_nm)
        density = np.where((k > 0) & (k <= 1 / shortest_nm), power(np.where(k > 0, k, 1.0)), 0.0)
        twice = np.full(k.shape[1], 2.0)  # harmonics whose conjugates aren't listed
        twice[0] = 1.0
        if n % 2 == 0:
            twice[-1] = 1.0
        total = (density * twice).sum()
        if not total > 0:
            raise ValueError(f"period_nm: a tile of {period_nm:g} nm holds none of the waves")
        spectrum = scipy.fft.rfft2(rng.standard_normal((n, n)), workers=1)
        spectrum *= rms_nm * n * np.sqrt(density / total)
        return cls(scipy.fft.irfft2(spectrum, s=(n, n), workers=1), period_nm)

    @property
    def step_nm(self) -> float:
        """Distance between samples."""
        return self.period_nm / len(self.heights_nm)

    def heights(self, x_nm: Floats, y_nm: Floats) -> Floats:
        """Return heights where columns x, shape (nx,), meet rows y, shape (ny,)."""
        return on_grid(self.splines, x_nm / self.step_nm, y_nm / self.step_nm, "wrap")


def on_grid(
    coefficients: Floats,
    columns: Floats,
    rows: Floats,
    ends: Literal["wrap", "mirror"],
    degree: Literal[1, 3] = 3,
) -> Floats:
    """Evaluate a two-dimensional B-spline where columns meet rows.

    Parameters
    ----------
    coefficients
        Of cubic splines as `scipy.ndimage.spline_filter` makes them, or the values themselves for
        degree 1; shape (ny, nx).
    columns, rows
        Places along x and y in samples, shapes (mx,) and (my,).
    ends
        How the coefficients go on beyond the last ones: "wrap" or "mirror".
    degree
        1 for straight lines between samples, 3 for cubic splines.

    Returns
    -------
    ndarray
        Shape (my, mx).
    """
    ny, nx = coefficients.shape
    across = _weights(columns, nx, ends, degree)
    down = _weights(rows, ny, ends, degree)
    # of both orders the one whose intermediate result is smaller
    if len(rows) * nx <= len(columns) * ny:
        return np.ascontiguousarray((across @ (down @ coefficients).T).T)
    return np.ascontiguousarray(down @ (across @ coefficients.T).T)


def _weights(places: Floats, n: int, ends: Literal["wrap", "mirror"], degree: int) -> Any:
    """Return the sparse matrix from n coefficients to the values at some places, (len, n)."""
    first = np.floor(places).astype(np.int64)
    t = (places - first)[:, None]
    if degree == 1:
        weights = np.concatenate([1 - t, t], axis=1)
    else:
        weights = np.concatenate(
            [(1 - t) ** 3, 4 - 6 * t**2 + 3 * t**3, 1 + 3 * (t + t**2 - t**3), t**3], axis=1
        )
        weights /= 6.0
        first -= 1
    taps = first[:, None] + np.arange(degree + 1)
    if ends == "wrap":
        taps %= n
    else:
        taps = n - 1 - np.abs(n - 1 - np.abs(taps)) if n > 1 else np.zeros_like(taps)
    where = (np.repeat(np.arange(len(places)), degree + 1), taps.ravel())
    return sparse.csr_array((weights.ravel(), where), shape=(len(places), n))


def places_without_overlap(
    radii_nm: Floats, period_nm: float, gap_nm: float, rng: np.random.Generator
) -> Floats:
    """Return random places of discs in a tile that repeats itself, so that none overlap.

    The larger ones come first, each at a random place where it doesn't meet an earlier one, nor
    the copy of one in the next tile.

    Parameters
    ----------
    radii_nm
        Shape (n,).
    period_nm
        Edge of the tile, which is centred on the origin.
    gap_nm
        Least distance between the rims of two discs; a negative one lets them overlap by as much.
    rng
        Where the places come from.

    Returns
    -------
    ndarray
        x and y in nm, in the order of the radii, shape (n, 2).

    Raises
    ------
    ValueError
        There is no room.
    """
    radii = np.asarray(radii_nm, np.float64)
    order = np.argsort(-radii, kind="stable")
    if len(radii) and 2 * radii.max() + gap_nm > period_nm:
        raise ValueError(
            f"period_nm: {period_nm:g} nm is no room for something {2 * radii.max():.3g} nm wide"
        )
    sorted_places, placed = _place(radii[order], period_nm, gap_nm, _TRIES, rng)
    if placed < len(radii):
        cover = np.pi * (radii**2).sum() / period_nm**2
        raise ValueError(
            f"there is room for {placed} of {len(radii)} without overlap (together they would cover"
            f" {100 * cover:.0f} %); ask for fewer or smaller ones, or a smaller gap"
        )
    places = np.empty((len(radii), 2))
    places[order] = sorted_places
    return places


@numba.njit(cache=True)
def _place(radii: Floats, period: float, gap: float, tries: int, rng: Any) -> Any:
    """Place discs one after another; return their places and how many found one."""
    places = np.empty((len(radii), 2))
    for k in range(len(radii)):
        for trial in range(tries + 1):
            if trial == tries:
                return places, k
            x, y = (rng.random() - 0.5) * period, (rng.random() - 0.5) * period
            free = True
            for j in range(k):
                dx, dy = places[j, 0] - x, places[j, 1] - y
                dx -= period * np.round(dx / period)
                dy -= period * np.round(dy / period)
                least = max(radii[k] + radii[j] + gap, 0.0)
                if dx * dx + dy * dy < least * least:
                    free = False
                    break
            if free:
                places[k, 0], places[k, 1] = x, y
                break
    return places, len(radii)


def copies_within(
    places_nm: Floats, reach_nm: Floats, period_nm: float, x_nm: Floats, y_nm: Floats
) -> tuple[Ints, Floats]:
    """Return the copies of things in a repeating tile that reach into a window.

    Parameters
    ----------
    places_nm
        Shape (n, 2), x and y in the tile around the origin.
    reach_nm
        How far each reaches from its place, shape (n,).
    period_nm
        Edge of the tile.
    x_nm, y_nm
        Samples of the window, rising, shapes (nx,) and (ny,).

    Returns
    -------
    which : ndarray
        Index of the thing that each copy is of, shape (m,).
    where_nm : ndarray
        Where each copy lies, shape (m, 2).
    """
    most = float(np.max(reach_nm, initial=0.0))
    shifts = [
        period_nm * np.arange(np.floor(low / period_nm - 0.5), np.ceil(high / period_nm + 0.5) + 1)
        for low, high in ((a[0] - most, a[-1] + most) for a in (x_nm, y_nm))
    ]
    sx, sy = (grid.reshape(-1, 1) for grid in np.meshgrid(*shifts))
    x, y = sx + places_nm[:, 0], sy + places_nm[:, 1]
    seen = (x + reach_nm >= x_nm[0]) & (x - reach_nm <= x_nm[-1])
    seen &= (y + reach_nm >= y_nm[0]) & (y - reach_nm <= y_nm[-1])
    which = np.broadcast_to(np.arange(len(places_nm)), x.shape)[seen]
    return which, np.stack([x[seen], y[seen]], axis=1)


def raise_bumps(
    heights_nm: Floats,
    x_nm: Floats,
    y_nm: Floats,
    centres_nm: Floats,
    reach_nm: Floats,
    top_nm: Callable[[int, Floats], Floats],
) -> Owners:
    """Raise a surface, in place, to the tops of bumps where those are higher.

    Parameters
    ----------
    heights_nm
        The surface, shape (ny, nx); changed.
    x_nm, y_nm
        Where its columns and rows lie, rising, shapes (nx,) and (ny,).
    centres_nm
        Middles of the bumps, shape (n, 2).
    reach_nm
        Radii of the discs that they cover, shape (n,).
    top_nm
        From the number of a bump and squared distances from its middle (nm^2, any shape, none
        beyond the reach's square) to heights of its top.

    Returns
    -------
    ndarray
        Which bump is on top, -1 where none is, int32, shape (ny, nx).
    """
    owner = np.full(heights_nm.shape, -1, np.int32)
    cx, cy = centres_nm[:, 0], centres_nm[:, 1]
    left, right = (
        np.searchsorted(x_nm, cx - reach_nm),
        np.searchsorted(x_nm, cx + reach_nm, "right"),
    )
    top, bottom = (
        np.searchsorted(y_nm, cy - reach_nm),
        np.searchsorted(y_nm, cy + reach_nm, "right"),
    )
    for n, (x, y) in enumerate(centres_nm):
        part = (slice(top[n], bottom[n]), slice(left[n], right[n]))
        squared = (y_nm[part[0], None] - y) ** 2 + (x_nm[part[1]] - x) ** 2
        inside = squared <= reach_nm[n] ** 2
        height = np.where(inside, top_nm(n, np.minimum(squared, reach_nm[n] ** 2)), -np.inf)
        higher = height > heights_nm[part]
        heights_nm[part] = np.where(higher, height, heights_nm[part])
        owner[part][higher] = n
    return owner


def draw_sizes(
    n: int,
    median_nm: float,
    distribution: Literal["lognormal", "normal"],
    spread: float,
    rng: np.random.Generator,
) -> Floats:
    """Return random sizes, shape (n,).

    Parameters
    ----------
    n
        How many.
    median_nm
        Their median.
    distribution, spread
        "lognormal", with the geometric standard deviation (1 for all alike), or "normal", with the
        standard deviation over the median; sizes below a tenth of the median are drawn again.
    rng
        Where they come from.
    """
    if distribution == "lognormal":
        return np.asarray(median_nm * np.exp(np.log(spread) * rng.standard_normal(n)))
    sizes = median_nm * (1 + spread * rng.standard_normal(n))
    while (small := sizes < 0.1 * median_nm).any():
        sizes[small] = median_nm * (1 + spread * rng.standard_normal(int(small.sum())))
    return np.asarray(sizes)
