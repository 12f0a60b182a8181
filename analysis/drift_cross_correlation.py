"""Drift of localizations by redundant cross-correlation, and what every way to drift needs.

The movie is cut into segments, each drawn as an image, and *every pair* of them is correlated: n
segments have n (n - 1) / 2 distances, many more than the n - 1 shifts sought, which are their
least-squares solution; pairs that disagree with it are left out (Y. Wang et al., Opt. Express 22
(2014) 15982).

Signs: a localization lies at its molecule's place plus the drift. Only differences of drift can be
seen, so that every drift here has the mean zero over the frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import fft
from scipy.interpolate import CubicSpline
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from nanophantom.analysis.robust import robust_sigma

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MOST_PIXELS = 1 << 28
"""Of all segments' images together: 2 GB of transforms."""
OUTLYING = 5.0
"""Robust standard deviations by which a pair's distance may differ from the solution."""


@dataclass(frozen=True, eq=False)
class Segments:
    """Localizations sorted by frame and cut into segments of time; empty ones are left away.

    Attributes
    ----------
    order : (n,) array of int64
        That sorts the table by frame.
    starts : (segments + 1,) array of int64
        Segment s holds the localizations starts[s] ... starts[s + 1] of the sorted table.
    mean_frames : (segments,) array
        Of the localizations of each.
    frames : int
        Of the movie.
    """

    order: Ints
    starts: Ints
    mean_frames: Floats
    frames: int

    def sorted_column(self, values: npt.ArrayLike, name: str) -> Floats:
        """Return a column in the order of the frames."""
        column = np.asarray(values, dtype=float)
        if column.shape != self.order.shape:
            raise ValueError(
                f"{name} must have {len(self.order)} entries, as frame has, got {column.shape}"
            )
        if not np.isfinite(column).all():
            raise ValueError(f"{name} must be finite")
        return column[self.order]


def segments_of(frame: npt.ArrayLike, frames: int | None, frames_per_segment: int) -> Segments:
    """Cut a movie into segments; a short rest goes to the last one.

    Raises
    ------
    ValueError
        If the frames are no whole numbers from 0 below `frames`, or localizations lie in fewer
        than two segments.
    """
    f = np.asarray(frame)
    if f.ndim != 1 or f.size == 0 or not np.issubdtype(f.dtype, np.integer) or f.min() < 0:
        raise ValueError("frame must be a column of whole numbers from 0, one or more")
    frames = int(f.max()) + 1 if frames is None else int(frames)
    if f.max() >= frames:
        raise ValueError(f"frame {f.max()} lies beyond a movie of {frames} frames")
    if frames_per_segment < 1:
        raise ValueError(f"a segment is one frame or longer, got {frames_per_segment}")
    order = np.argsort(f, kind="stable")
    segment = np.minimum(f[order] // frames_per_segment, max(1, frames // frames_per_segment) - 1)
    starts = np.flatnonzero(np.diff(segment, prepend=-1))
    if len(starts) < 2:
        raise ValueError(
            f"a drift takes localizations in two or more segments of {frames_per_segment} frames"
        )
    counts = np.diff(starts, append=f.size)
    means = np.add.reduceat(f[order].astype(float), starts) / counts
    return Segments(order, np.append(starts, f.size).astype(np.int64), means, frames)


def drift_at_frames(mean_frames: Floats, shifts: Floats, frames: int) -> Floats:
    """Return the cubic spline through the segments' shifts at every frame, its mean zero.

    Beyond the first and the last segment's mean frame it goes on straight.
    """
    if len(mean_frames) < 4:
        spline = CubicSpline(mean_frames, shifts, bc_type="natural")
    else:
        spline = CubicSpline(mean_frames, shifts)
    t = np.arange(frames, dtype=float)
    inside = np.clip(t, mean_frames[0], mean_frames[-1])
    drift = spline(inside) + (t - inside)[:, None] * spline(inside, 1)
    return np.asarray(drift - drift.mean(axis=0))


def without_drift(
    frame: npt.ArrayLike, drift_nm: Floats, *columns_nm: npt.ArrayLike
) -> tuple[Floats, ...]:
    """Return columns of positions, x then y (then z), less the drift of their frames."""
    f = np.asarray(frame)
    if len(columns_nm) > drift_nm.shape[1]:
        raise ValueError(
            f"the drift has {drift_nm.shape[1]} axes, got {len(columns_nm)} columns of positions"
        )
    if f.size and (f.min() < 0 or f.max() >= len(drift_nm)):
        raise ValueError(f"frames lie outside the drift's, 0 to {len(drift_nm) - 1}")
    return tuple(
        np.asarray(column, dtype=float) - drift_nm[f, axis]
        for axis, column in enumerate(columns_nm)
    )


def cross_correlation_drift(
    frame: npt.ArrayLike,
    x_nm: npt.ArrayLike,
    y_nm: npt.ArrayLike,
    *,
    frames: int | None = None,
    frames_per_segment: int = 500,
    pixel_size_nm: float = 20.0,
    max_shift_nm: float = 500.0,
) -> Floats:
    """Return the drift in every frame, its mean over the frames zero.

    Parameters
    ----------
    frame : (n,) array of int
        From 0, in any order.
    x_nm, y_nm : (n,) array
    frames : int, optional
        Of the movie; by default up to the last localization.
    frames_per_segment : int
        Each segment must show the structure by itself; time and memory grow as the square of
        their number, and as their number.
    pixel_size_nm : float
        Of the segments' images, about twice a localization's standard deviation. They are
        smoothed by one pixel, the peak of a correlation is found between them.
    max_shift_nm : float
        The farthest apart along x or y that two segments may lie.

    Returns
    -------
    (frames, 2) array
        Where the specimen lies, x then y.

    Raises
    ------
    ValueError
        For columns of unlike lengths or not finite, fewer than two segments with localizations,
        or a parameter out of range.
    """
    segments = segments_of(frame, frames, frames_per_segment)
    x = segments.sorted_column(x_nm, "x_nm")
    y = segments.sorted_column(y_nm, "y_nm")
    if not (pixel_size_nm > 0 and max_shift_nm >= 4 * pixel_size_nm):
        raise ValueError(
            f"pixels must be above 0 and a fourth of max_shift_nm or less, got {pixel_size_nm} "
            f"and {max_shift_nm} nm"
        )
    spectra, shape = _spectra(x, y, segments.starts, pixel_size_nm, max_shift_nm)
    first, second = np.triu_indices(len(spectra), 1)
    reach = int(max_shift_nm / pixel_size_nm)
    distances = np.array(
        [
            _distance_px(fft.irfft2(spectra[b] * spectra[a].conj(), shape, workers=1), reach)
            for a, b in zip(first, second, strict=True)
        ]
    )
    shifts = _agreed(first, second, distances * pixel_size_nm, len(spectra), pixel_size_nm)
    return drift_at_frames(segments.mean_frames, shifts, segments.frames)


def _spectra(
    x: Floats, y: Floats, starts: Ints, pixel_nm: float, margin_nm: float
) -> tuple[npt.NDArray[np.complex64], tuple[int, int]]:
    """Return the transform of each segment's smooth image, and the images' shape.

    The image is `margin_nm` longer than the field, so that no shift wraps round.
    """
    ix = ((x - x.min()) / pixel_nm).astype(np.intp)
    iy = ((y - y.min()) / pixel_nm).astype(np.intp)
    margin = int(np.ceil(margin_nm / pixel_nm)) + 3
    ny, nx = (int(fft.next_fast_len(int(i.max()) + 1 + margin, real=True)) for i in (iy, ix))
    if (len(starts) - 1) * ny * nx > MOST_PIXELS:
        raise ValueError(
            f"{len(starts) - 1} images of {nx} x {ny} pixels are more than 2^28: take larger "
            "pixels or longer segments"
        )
    smooth = np.exp(-2 * np.pi**2 * (fft.fftfreq(ny)[:, None] ** 2 + fft.rfftfreq(nx) ** 2)).astype(
        np.float32
    )
    spectra = np.empty((len(starts) - 1, ny, nx // 2 + 1), np.complex64)
    for s, (start, stop) in enumerate(pairwise(starts)):
        flat = iy[start:stop] * nx + ix[start:stop]
        image = np.bincount(flat, minlength=ny * nx).reshape(ny, nx).astype(np.float32)
        spectra[s] = fft.rfft2(image, workers=1) * smooth
    return spectra, (ny, nx)


def _distance_px(correlation: npt.NDArray[np.float32], reach: int) -> Floats:
    """Return where a correlation peaks (x, y), between pixels and within `reach` of the origin.

    A Gaussian on a flat background is fitted to the 5 x 5 pixels about the greatest: a paraboloid
    to the logarithm, each pixel weighted by its value squared (H. Guo, IEEE Signal Process. Mag.
    28(5) (2011) 134).
    """
    ny, nx = correlation.shape
    reach_y, reach_x = min(reach, (ny - 7) // 2), min(reach, (nx - 7) // 2)
    rows, columns = np.arange(-reach_y - 2, reach_y + 3), np.arange(-reach_x - 2, reach_x + 3)
    near = correlation[np.ix_(rows, columns)].astype(float)
    inner = near[2:-2, 2:-2]
    j, i = np.unravel_index(int(np.argmax(inner)), inner.shape)
    patch = near[j : j + 5, i : i + 5] - np.median(near)
    v, u = np.mgrid[-2:3, -2:3]
    good = patch > 0.1 * patch[2, 2]
    u, v, w = u[good].astype(float), v[good].astype(float), patch[good]
    top = np.array([float(i - reach_x), float(j - reach_y)])
    if good.sum() < 8:
        return top
    terms = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=1)
    _, b, c, d, e, f = np.linalg.lstsq(w[:, None] * terms, w * np.log(w), rcond=None)[0]
    curvature = 4 * d * f - e * e
    if d >= 0 or curvature <= 0:
        return top
    off = np.array([e * c - 2 * f * b, e * b - 2 * d * c]) / curvature
    return np.asarray(top + np.clip(off, -1, 1))


def _agreed(
    first: npt.NDArray[np.intp],
    second: npt.NDArray[np.intp],
    distances: Floats,
    segments: int,
    pixel_nm: float,
) -> Floats:
    """Return the shifts that agree best with the distances, (segments, 2), outliers left out.

    The worst pairs go first, up to a tenth of what is left at a time, as long as the others still
    connect all segments. What differs by less than a tenth of a pixel is no outlier.
    """
    kept = np.ones(len(distances), dtype=bool)
    while True:
        a, b = first[kept], second[kept]
        design = np.zeros((len(a), segments))
        design[np.arange(len(a)), b] = 1
        design[np.arange(len(a)), a] = -1
        shifts = np.linalg.lstsq(design, distances[kept], rcond=None)[0]
        residual = distances - (shifts[second] - shifts[first])
        size = np.hypot(*residual.T)
        limit = OUTLYING * max(robust_sigma(residual[kept]), 0.02 * pixel_nm)
        bad = np.flatnonzero(kept & (size > limit))
        worst = bad[np.argsort(-size[bad])][: max(1, kept.sum() // 10)]
        fewer = kept.copy()
        fewer[worst] = False
        if not len(worst) or not _connected(first[fewer], second[fewer], segments):
            return np.asarray(shifts)
        kept = fewer


def _connected(a: npt.NDArray[np.intp], b: npt.NDArray[np.intp], segments: int) -> bool:
    links = coo_array((np.ones(len(a)), (a, b)), shape=(segments, segments))
    return bool(connected_components(links, directed=False)[0] == 1)
