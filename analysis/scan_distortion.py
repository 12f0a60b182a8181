"""Undo what drift, jitter and a slow beam do to scanned images.

A scan reads one line after another. What moves between the lines (the specimen drifts, the beam
is shaken) displaces them as a whole; within a line little time passes. So a line has one
displacement. At its start the beam still comes back from the last line's end, an exponential in
the time since that all lines have alike. Along a line a scan is trustworthy, across lines it isn't:

* A second scan with the fast axis turned by 90 degrees is trustworthy where the first is not. The
  lines of each are fitted to the image that the other gives (C. Ophus, J. Ciston and C. T. Nelson,
  Ultramicroscopy 162 (2016) 1).
* In a series of scans the drift shows as the shift from frame to frame, jitter as what a line is
  off from the mean of all frames.
* What every scan has alike (scales, shear, the flyback) shows on a crystal whose lattice is known:
  :mod:`nanophantom.analysis.scan_calibration`.

A displacement (dy, dx) is where on the specimen a pixel really lies, less where the raster says.
It is `-shift` of :mod:`nanophantom.analysis.registration`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from nanophantom.analysis.lattice import FloatArray
from nanophantom.analysis.registration import register
from nanophantom.analysis.scan_calibration import STEADY, Flyback
from nanophantom.analysis.scan_lines import interpolated_image, resample, sample_places

SEEN = 0.8
"""A pixel with less than this part of its variance explained is taken for not seen."""
MODEL_ERROR = 0.03
"""Error of the interpolated image, a part of its standard deviation, even without noise."""
ROUNDS = 8


@dataclass(frozen=True, eq=False)
class CorrectedScan:
    """An image on the regular grid, and where its samples really lay.

    Attributes
    ----------
    image : (ny, nx)
        Weighted mean of the samples at each pixel.
    coverage : (ny, nx)
        Their number; zero where none came near, and the image is zero there.
    displacement_px : (scans, lines, 2)
        (dy, dx) of every line of every scan.
    """

    image: FloatArray
    coverage: FloatArray
    displacement_px: FloatArray


def correct_drift_pair(
    scan_x: npt.ArrayLike,
    scan_y: npt.ArrayLike,
    max_drift_px: float = 8.0,
    jitter_px: float = 0.3,
    flyback: Flyback = STEADY,
) -> CorrectedScan:
    """Combine two scans of one area whose fast axes are x and y.

    Parameters
    ----------
    scan_x : (n, n)
        Read along x: a row is a line.
    scan_y : (n, n)
        Read along y, and stored as the specimen lies: a column is a line, its first pixel the
        top one. (An image from a scan rotated by 90 degrees is first turned back.)
    max_drift_px : float
        Largest drift, along x and y, over a scan.
    jitter_px : float
        Standard deviation of how much the displacement differs from a line to the next.
    flyback : Flyback, optional
        Known from a crystal, see :func:`nanophantom.analysis.scan_calibration.fit_flyback`. The
        pair itself can't tell it: what it does to the rows of one scan looks as if the columns of
        the other were displaced.

    Returns
    -------
    CorrectedScan
        displacement_px[0] is of the rows of scan_x, [1] of the columns of scan_y; their mean is
        zero, as no scan tells where the specimen as a whole lies.

    Raises
    ------
    ValueError
        The scans aren't finite, square and of one shape, or a parameter isn't positive.
    """
    first, second = _checked(scan_x), _checked(scan_y)
    if first.shape != second.shape or first.shape[0] != first.shape[1]:
        raise ValueError(f"both scans must be n x n pixels, got {first.shape} and {second.shape}")
    if not (max_drift_px >= 0 and jitter_px > 0):
        raise ValueError("max_drift_px must not be negative, and jitter_px positive")
    # Lines are rows in both from here on; scan_y then has its coordinates swapped.
    lines = [_levelled(first), _levelled(second).T]
    n = len(first)
    start = _linear_drift(lines[0], lines[1], max_drift_px)
    along = np.arange(n) - (n - 1) / 2
    profile = flyback.displacement_px(np.arange(n))
    drift, between = along[:, None] * start[:2], start[2:]
    displacement, freedom = np.stack([drift - between / 2, drift + between / 2]), 0.1 * jitter_px
    for number in range(ROUNDS):
        # Lines move together at first, which bridges larger errors.
        displacement, roughness = _joint_step(lines, displacement, profile, freedom)
        freedom = float(np.clip(roughness, 2e-3, jitter_px)) if number >= 3 else jitter_px
    places = [sample_places((n, n), displacement[i], profile, turned=i == 1) for i in (0, 1)]
    image, coverage = resample(
        np.stack([first, second.T]),
        np.stack([p[0] for p in places]),
        np.stack([p[1] for p in places]),
        (n, n),
    )
    return CorrectedScan(image, coverage, displacement)


def correct_series(
    frames: npt.ArrayLike,
    line_times_s: npt.ArrayLike,
    max_shift_px: float | None = None,
    jitter_px: float = 0.3,
    low_pass_lines: float = 0.0,
    flyback: Flyback = STEADY,
) -> CorrectedScan:
    """Combine a series of scans of one area, fast axis x.

    The shifts of the frames are a drift path; between the frames' middles it is taken as
    straight, which shears and stretches each frame. Then each line is fitted to the mean of the
    frames. What all frames have alike can't be seen in this way.

    Parameters
    ----------
    frames : (frames, ny, nx)
        The scans in the order in which they were read.
    line_times_s : (frames, ny)
        When each line was read.
    max_shift_px : float, optional
        Of a frame against the first, see :func:`nanophantom.analysis.registration.register`.
    jitter_px : float
        Standard deviation of a line's displacement, if no low pass is asked for.
    low_pass_lines : float
        Standard deviation of a Gaussian over the lines of a frame that the displacements are
        averaged with; none if zero, as jitter needs.
    flyback : Flyback, optional
        Known from a crystal, see :func:`nanophantom.analysis.scan_calibration.fit_flyback`:
        frames have it alike.

    Raises
    ------
    ValueError
        Frames aren't two or more finite images, or times don't increase, one for each line.
    """
    stack = np.asarray(frames, np.float64)
    if stack.ndim != 3 or len(stack) < 2:
        raise ValueError(f"a series has the shape (frames, ny, nx) with two or more: {stack.shape}")
    times = np.asarray(line_times_s, np.float64)
    count, ny, nx = stack.shape
    if times.shape != (count, ny) or not np.all(np.diff(times.ravel()) > 0):
        raise ValueError(f"line_times_s must be ({count}, {ny}) and increase from line to line")
    if not (jitter_px > 0 and low_pass_lines >= 0):
        raise ValueError("jitter_px must be positive and low_pass_lines not negative")
    shift = register(stack, max_shift_px).shifts_px
    drift = -_path(np.mean(times, axis=1), shift, times)
    d = drift.copy()
    lines = [_levelled(frame) for frame in stack]
    still = flyback.displacement_px(np.arange(nx))
    for _ in range(4):
        sums, counts = np.zeros((ny, nx)), np.zeros((ny, nx))
        own = []
        for i in range(count):
            image, mask = interpolated_image(lines[i], d[i], still, turned=False)
            seen = mask > SEEN
            own.append((image * seen, 1.0 * seen))
            sums, counts = sums + own[i][0], counts + own[i][1]
        for i in range(count):
            others = counts - own[i][1]
            mean = (sums - own[i][0]) / np.maximum(others, 1.0)
            reference = mean, np.minimum(others, 1.0)
            moved = _improved_lines(lines[i], d[i], still, reference, drift[i], jitter_px)
            if low_pass_lines > 0:
                rest = ndimage.gaussian_filter1d(moved - drift[i], low_pass_lines, axis=0)
                moved = drift[i] + rest
            d[i] = moved
    places = [sample_places((ny, nx), d[i], still, False) for i in range(count)]
    image, coverage = resample(
        stack, np.stack([p[0] for p in places]), np.stack([p[1] for p in places]), (ny, nx)
    )
    return CorrectedScan(image, coverage, d)


def _checked(image: npt.ArrayLike) -> FloatArray:
    data = np.asarray(image, np.float64)
    if data.ndim != 2 or min(data.shape) < 16:
        raise ValueError(f"a scan is (ny, nx), 16 x 16 or larger, got {data.shape}")
    if not np.all(np.isfinite(data)):
        raise ValueError("a scan must be finite: it holds NaN or infinite values")
    return data


def _levelled(image: FloatArray) -> FloatArray:
    return np.asarray(image - np.mean(image))


def _path(middle_s: FloatArray, shift: FloatArray, times_s: FloatArray) -> FloatArray:
    """Return the shift (..., 2) at any times, straight between frames and beyond the ends."""
    piece = np.clip(np.searchsorted(middle_s, times_s) - 1, 0, len(middle_s) - 2)
    part = (times_s - middle_s[piece]) / (middle_s[piece + 1] - middle_s[piece])
    return np.asarray(shift[piece] + part[..., None] * (shift[piece + 1] - shift[piece]))


def _linear_drift(rows: FloatArray, columns: FloatArray, max_drift_px: float) -> FloatArray:
    """Return (vy, vx) per line and (oy, ox) between the scans for which both agree best.

    Tries drifts two pixels apart. For each both scans are straightened and correlated.
    """
    n = len(rows)
    window = np.hanning(n + 2)[1:-1]
    window = window[:, None] * window[None, :]
    steps = np.arange(-np.floor(max_drift_px / 2), np.floor(max_drift_px / 2) + 1) * 2 / n
    lag = fft.fftfreq(n, 1 / n)
    allowed = np.abs(lag) <= 2 * max_drift_px + 2
    best = (-np.inf, np.zeros(4))
    for v in product(steps, repeat=2):
        a = fft.fft2(window * _straightened(rows, v[0], v[1]), workers=1)
        b = fft.fft2(window * _straightened(columns, v[1], v[0]).T, workers=1)
        c = fft.ifft2(a * np.conj(b), workers=1).real
        c = c / np.sqrt(np.sum(np.abs(a) ** 2) * np.sum(np.abs(b) ** 2))
        c[~(allowed[:, None] & allowed[None, :])] = -np.inf
        y, x = np.unravel_index(np.argmax(c), c.shape)
        if c[y, x] > best[0]:
            best = float(c[y, x]), np.array([*v, lag[y], lag[x]])
    return best[1]


def _straightened(lines: FloatArray, across: float, along: float) -> FloatArray:
    """Return a scan as it looks without a drift, given in pixels per line from its middle."""
    middle = (len(lines) - 1) / 2
    # Line r lies at r + across (r - middle), and is displaced by along (r - middle).
    per_row = 1 / (1 + across)
    matrix = np.array([[per_row, 0.0], [-along * per_row, 1.0]])
    start = np.array([middle * (1 - per_row), along * middle * per_row])
    return np.asarray(ndimage.affine_transform(lines, matrix, start, order=1))


def _compared(
    lines: FloatArray,
    places: tuple[FloatArray, FloatArray],
    reference: tuple[FloatArray, FloatArray],
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return residuals and the reference's gradients (along y, x), over the residuals' sigma.

    All are zero where the reference holds nothing.
    """
    image, coverage = reference
    known = coverage > SEEN
    image = np.where(known, image, np.mean(image[known]))
    there = ndimage.map_coordinates(known.astype(np.float64), places, order=1, cval=0.0) > 0.99
    there &= (places[0] > 1) & (places[0] < image.shape[0] - 2)
    there &= (places[1] > 1) & (places[1] < image.shape[1] - 2)
    stencil = np.array([1.0, -8.0, 0.0, 8.0, -1.0]) / 12
    gradients = [
        ndimage.map_coordinates(ndimage.correlate1d(image, stencil, axis), places, order=1)
        for axis in (0, 1)
    ]
    rest = lines - ndimage.map_coordinates(image, places, order=3, mode="nearest")
    sigma = 1.4826 * float(np.median(np.abs(rest[there]))) if np.any(there) else 1.0
    sigma = float(np.hypot(sigma, MODEL_ERROR * np.std(lines))) + 1e-300
    weight = there / sigma
    return rest * weight, gradients[0] * weight, gradients[1] * weight


def _improved_lines(
    lines: FloatArray,
    d: FloatArray,
    profile: FloatArray,
    reference: tuple[FloatArray, FloatArray],
    about: FloatArray,
    jitter_px: float,
) -> FloatArray:
    """Move every line to where it fits a reference image best (one Gauss-Newton step).

    The prior keeps each displacement within about `jitter_px` of that of the drift.
    """
    places = sample_places((len(lines), lines.shape[1]), d, profile, turned=False)
    rest, *g = _compared(lines, places, reference)
    normal = np.einsum("cnm,enm->nce", g, g) + jitter_px**-2.0 * np.eye(2)
    right = np.einsum("cnm,nm->nc", g, rest) - jitter_px**-2.0 * (d - about)
    move = np.linalg.solve(normal, right[:, :, None])[:, :, 0]
    return np.asarray(d + np.clip(move, -1.0, 1.0))


def _joint_step(
    lines: list[FloatArray], d: FloatArray, profile: FloatArray, freedom_px: float
) -> tuple[FloatArray, float]:
    """Move all lines of both scans to where these agree best (one Gauss-Newton step).

    A sample of line j of one scan, at a place that line i of the other passes, tells of the
    difference of their displacements: rest = gradient.(d_j - d_i). All 4 n unknowns are solved
    for together, as the lines of either scan mean nothing without the other's.

    Returns the new displacements, and how much they typically differ from a line to the next: the
    step of the EM algorithm for the width of the prior.
    """
    n = len(lines[0])
    normal, right = np.zeros((2, n, 2, 2, n, 2)), np.zeros((2, n, 2))
    of = np.arange(n)
    for a, b in ((0, 1), (1, 0)):
        places = sample_places((n, n), d[a], profile, turned=a == 1)
        reference = interpolated_image(lines[b], d[b], profile, turned=b == 1)
        rest, *gradient = (v.ravel() for v in _compared(lines[a], places, reference))
        j = np.repeat(of, n)
        across = places[b].ravel()  # scan 1 counts its lines along x, scan 0 along y
        i = np.clip(np.rint(across), 0, n - 1).astype(np.intp)
        i = np.clip(np.rint(across - d[b, i, b]), 0, n - 1).astype(np.intp)
        for c, e in product((0, 1), repeat=2):
            gg = gradient[c] * gradient[e]
            normal[a, of, c, a, of, e] += np.bincount(j, gg, n)
            normal[b, of, c, b, of, e] += np.bincount(i, gg, n)
            cross = np.bincount(j * n + i, gg, n * n).reshape(n, n)
            normal[a, :, c, b, :, e] -= cross
            normal[b, :, e, a, :, c] -= cross.T
        for c in (0, 1):
            right[a, :, c] += np.bincount(j, gradient[c] * rest, n)
            right[b, :, c] -= np.bincount(i, gradient[c] * rest, n)

    stiffness = freedom_px**-2.0
    laplace = np.diag(np.r_[1.0, np.full(n - 2, 2.0), 1.0]) - np.eye(n, k=1) - np.eye(n, k=-1)
    for a, c in product((0, 1), repeat=2):
        # Free to drift as a whole and straight on, but for rounding.
        normal[a, :, c, a, :, c] += stiffness * laplace + 1e-3 * np.eye(n)
    step = np.diff(d, axis=1)
    tension = stiffness * (step - np.mean(step, axis=1, keepdims=True))
    right[:, :-1] += tension
    right[:, 1:] -= tension

    covariance = np.linalg.inv(normal.reshape(4 * n, 4 * n))
    moved = d + np.clip((covariance @ right.ravel()).reshape(2, n, 2), -1.0, 1.0)
    moved -= np.mean(moved, axis=(0, 1))
    variance = np.diagonal(covariance).reshape(2, n, 2)
    adjacent = np.append(np.diagonal(covariance, offset=2), [0.0, 0.0]).reshape(2, n, 2)
    of_step = variance[:, 1:] + variance[:, :-1] - 2 * adjacent[:, :-1]
    step = np.diff(moved, axis=1)
    step -= np.mean(step, axis=1, keepdims=True)
    return moved, float(np.sqrt(np.mean(step**2 + of_step)))
