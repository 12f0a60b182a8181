"""Local (non-rigid) registration: a specimen or a scan that distorts while it is looked at.

After the rigid registration the view is divided into patches, and each is tracked by itself.
A patch has few counts, so frames are taken together in short bins, and what the patches say is
made one smooth field: polynomials in x and y times polynomials in time. Patches that contradict
it by much more than most others fell for a neighbouring unit cell, and are left away.

The field is relative to frame 0. Each patch has an unknown shift of its own in common to all
frames (nobody knows where it would lie undistorted), which is fitted too and forgotten. Where
patches move no more than chance makes them, there is no field.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numba
import numpy as np
import numpy.typing as npt
from scipy import stats

from nanophantom.analysis.modes import FloatArray, Image, Modes, window_on
from nanophantom.analysis.registration import Registration, register
from nanophantom.analysis.shift_search import best_shift

CHANCE = 1e-3
"""A field that chance alone would fit so well more rarely than this is taken for real."""

REJECTED = 4.0
"""A patch that lies off the smooth field by more robust standard deviations is left away."""


@dataclass(frozen=True, eq=False)
class LocalRegistration:
    """Where each part of each frame lies.

    Attributes
    ----------
    shifts_px : (n, 2) float64
        (dy, dx) of each frame as a whole, from the rigid registration.
    coefficients : (2, space, time) float64
        Of the field along y and x: products of monomials in space up to `space_order` and of
        monomials in time of order 1 to `time_order`, all scaled to -1...1 or 0...1.
    shape : (ny, nx)
    space_order, time_order : int
    used : (bins, patches) bool
        The patches that the field was fitted to.
    """

    shifts_px: FloatArray
    coefficients: FloatArray
    shape: tuple[int, int]
    space_order: int
    time_order: int
    used: npt.NDArray[np.bool_]

    def at(self, frame: float, y_px: npt.ArrayLike, x_px: npt.ArrayLike) -> FloatArray:
        """Return the distortion (2, ...) at points of frame 0: what the rigid shift leaves.

        ``frame`` is a number between 0 and n - 1; between two frames it interpolates.
        """
        space = _in_space(y_px, x_px, self.shape, self.space_order)
        time = _in_time(frame, len(self.shifts_px), self.time_order)
        field = np.tensordot(self.coefficients @ time, space, axes=(1, 0))
        return np.asarray(field, np.float64)

    def displacement_px(self, frame: int) -> FloatArray:
        """Return (2, ny, nx): what lies at p in frame 0 lies at p + displacement in the frame."""
        y, x = np.indices(self.shape)
        return np.asarray(self.shifts_px[frame][:, None, None] + self.at(frame, y, x))


def register_locally(
    images: npt.ArrayLike,
    rigid: Registration | None = None,
    patches: int = 6,
    space_order: int = 2,
    time_order: int = 4,
    bins: int = 16,
    reach_px: float = 6.0,
    iterations: int = 2,
) -> LocalRegistration:
    """Find the displacement field of every frame of a series.

    Parameters
    ----------
    images : (n, ny, nx) array
        The frames: counts or floats of any gain and offset.
    rigid : Registration, optional
        Where the frames lie as a whole; found by `register` if not given.
    patches : int
        Along each side. They overlap by half.
    space_order : int
        Highest total order of the field in x and y.
    time_order : int
        Highest order in time.
    bins : int
        Number of runs of consecutive frames that are added up to track the patches; no more
        than frames.
    reach_px : float
        Largest displacement of a patch from the present field that is considered.
    iterations : int
        How often the patches are followed along the field found last and tracked again.

    Raises
    ------
    ValueError
        The stack isn't one of frames, there are too few of them for the order in time or too few
        patches for that in space, patches would be smaller than 32 pixels or show too little, or
        a parameter isn't positive.
    """
    stack = np.asarray(images)
    if min(patches, space_order, time_order, iterations, reach_px) <= 0:
        raise ValueError("patches, orders, iterations and reach_px must be positive")
    rigid = register(stack) if rigid is None else rigid
    n, ny, nx = stack.shape
    bins = min(bins, n)
    if bins <= time_order:
        raise ValueError(f"time_order {time_order} takes {time_order + 1} bins of frames or more")
    if patches <= space_order:
        raise ValueError(f"space_order {space_order} takes {space_order + 1} patches a side")
    # Patches lie where all frames see them, displaced ones too.
    start = np.ceil(np.maximum(0, -rigid.shifts_px.min(axis=0)) + reach_px / 2)
    stop = np.array([ny, nx]) - np.ceil(np.maximum(0, rigid.shifts_px.max(axis=0)) + reach_px / 2)
    size_y, size_x = (2 * (stop - start) / (patches + 1)).astype(int)
    if min(size_y, size_x) < 32:
        raise ValueError(f"patches of {size_y} x {size_x} px are too small: ask for fewer")

    corners = [
        (int(y), int(x))
        for y in np.linspace(start[0], stop[0] - size_y, patches)
        for x in np.linspace(start[1], stop[1] - size_x, patches)
    ]
    overlap = len(corners) * size_y * size_x / float(np.prod(stop - start))
    runs = np.array_split(np.arange(n), bins)
    centre_y = np.array([y + (size_y - 1) / 2 for y, _ in corners])
    centre_x = np.array([x + (size_x - 1) / 2 for _, x in corners])
    terms = len(_in_space(0.0, 0.0, (ny, nx), space_order))
    found = LocalRegistration(
        rigid.shifts_px,
        np.zeros((2, terms, time_order)),
        (ny, nx),
        space_order,
        time_order,
        np.ones((bins, len(corners)), bool),
    )
    for _ in range(iterations):
        # What the field found so far doesn't explain: patches of frames warped back through it.
        sums, coverage = np.zeros((bins, ny, nx), np.float32), np.zeros((bins, ny, nx), np.int32)
        for total, count, run in zip(sums, coverage, runs, strict=True):
            for i in run:
                _sample(stack[i], found.displacement_px(i), total, count)
        left, weights = np.zeros((bins, len(corners), 2)), np.zeros((bins, len(corners)))
        for patch, (y, x) in enumerate(corners):
            part = (slice(None), slice(y, y + size_y), slice(x, x + size_x))
            left[:, patch], weights[:, patch] = _tracked(sums[part], coverage[part], reach_px)
        middle = np.array([found.at(run.mean(), centre_y, centre_x).T for run in runs])
        found = _smooth_field(found, middle + left, weights, centre_y, centre_x, runs, overlap)
    return found


def add_up_warped(
    images: npt.ArrayLike, registration: LocalRegistration
) -> tuple[Image, npt.NDArray[np.int32]]:
    """Sum the frames, each sampled where the field says, and count them per pixel.

    Keys' cubic convolution (IEEE Trans. ASSP 29 (1981) 1153): its weights add up to one, so that
    an even illumination stays as it is. Counts are a density per pixel of the camera, which
    a specimen that stretches doesn't change.

    Returns
    -------
    total : (ny, nx) float32
        In the coordinates of frame 0, normalised to n frames everywhere.
    coverage : (ny, nx) int32
        How many frames contributed to each pixel.
    """
    stack = np.asarray(images)
    n, ny, nx = stack.shape
    if n != len(registration.shifts_px) or (ny, nx) != registration.shape:
        raise ValueError(
            f"images are {stack.shape}, the registration is of "
            f"{(len(registration.shifts_px), *registration.shape)}"
        )
    total = np.zeros((ny, nx), np.float32)
    coverage = np.zeros((ny, nx), np.int32)
    for i, image in enumerate(stack):
        _sample(image, registration.displacement_px(i), total, coverage)
    total *= np.float32(n) / np.maximum(coverage, 1)
    return total, coverage


def _tracked(
    sums: Image, coverage: npt.NDArray[np.int32], reach_px: float
) -> tuple[FloatArray, FloatArray]:
    """Return how far a patch has moved in each of its sums (bins, ny, nx) of warped frames.

    Returns
    -------
    left : (bins, 2) float64
    weight : (bins,) float64
        Of each in an average, 1/px²; zero where the patch left the view.
    """
    seen = np.flatnonzero(coverage.min(axis=(1, 2)) > 0)
    left, weight = np.zeros((len(sums), 2)), np.zeros(len(sums))
    if len(seen) < 2:
        return left, weight
    means = sums[seen] / coverage[seen]
    shape = means.shape[1:]
    window = window_on(slice(0, shape[0]), slice(0, shape[1]), shape)
    modes = Modes.carrying_signal(means)
    spectra = np.array([modes.of(mean, window) for mean in means])
    # Sampling has smoothed the noise, so that its power must be measured at each frequency.
    modes = modes.with_measured_power(spectra, np.zeros((len(seen), 2)), window)
    total = spectra.sum(axis=0)
    for b, own in zip(seen, spectra, strict=True):
        others = len(seen) - 1
        terms = modes.correlation(own, (total - own) / others, 1, others)
        peak = best_shift(modes, terms, np.zeros(2), reach_px / 2, reach_px)
        left[b], weight[b] = peak.shift, peak.precision
    return left, weight


def _smooth_field(
    found: LocalRegistration,
    places: FloatArray,
    weights: FloatArray,
    centre_y: FloatArray,
    centre_x: FloatArray,
    runs: list[npt.NDArray[np.intp]],
    overlap: float,
) -> LocalRegistration:
    """Fit the field and an offset a patch to the places (bins, patches, 2) by least squares."""
    bins, patches = weights.shape
    space = _in_space(centre_y, centre_x, found.shape, found.space_order)  # (space, patches)
    middles = np.array([run.mean() for run in runs])
    time = _in_time(middles, len(found.shifts_px), found.time_order)  # (time, bins)
    field = np.einsum("sp,tb->bpst", space, time).reshape(bins * patches, -1)
    offset = np.tile(np.eye(patches), (bins, 1))
    design = np.concatenate([field, offset], axis=1)
    values = places.reshape(-1, 2)
    seen = weights.ravel() > 0
    used = seen.copy()
    for _ in range(5):
        root = np.sqrt(weights.ravel() * used)[:, None]
        solution = np.linalg.lstsq(design * root, values * root, rcond=1e-9)[0]
        off = (values - design @ solution) * np.sqrt(weights.ravel())[:, None]
        spread = 1.4826 * np.median(np.abs(off[used]))
        kept = seen & (np.hypot(off[:, 0], off[:, 1]) <= REJECTED * spread + 1e-12)
        if np.array_equal(kept, used):
            break
        used = kept
    coefficients = solution[: field.shape[1]].T.reshape(found.coefficients.shape)
    # Is it more than noise? The F test of the fit with a field against that with offsets only.
    alone = np.linalg.lstsq(offset * root, values * root, rcond=1e-9)[0]
    without = float(np.sum(((values - offset @ alone) * root) ** 2))
    with_field = float(np.sum(((values - design @ solution) * root) ** 2))
    # Patches that overlap share their noise, and say less than so many patches would.
    gained, shared = 2 * field.shape[1], max(1.0, overlap)
    free = 2 * (int(used.sum()) - design.shape[1])
    if free <= 0:
        raise ValueError("too few patches show enough to be tracked: lower the orders")
    by_chance = stats.f.isf(CHANCE, gained, free / shared) * shared * with_field / free
    if (without - with_field) / gained < by_chance:
        coefficients = np.zeros_like(coefficients)
    return replace(found, coefficients=coefficients, used=used.reshape(bins, patches))


def _in_space(
    y_px: npt.ArrayLike,
    x_px: npt.ArrayLike,
    shape: tuple[int, int],
    order: int,
) -> FloatArray:
    """Return the monomials v^a u^b, a + b <= order, at points scaled to -1...1."""
    v = 2 * np.asarray(y_px, np.float64) / (shape[0] - 1) - 1
    u = 2 * np.asarray(x_px, np.float64) / (shape[1] - 1) - 1
    return np.array([v**a * u**b for a in range(order + 1) for b in range(order + 1 - a)])


def _in_time(frame: npt.ArrayLike, n: int, order: int) -> FloatArray:
    """Return t, t², ... with t from 0 in the first to 1 in the last frame."""
    t = np.asarray(frame, np.float64) / max(n - 1, 1)
    return np.array([t**k for k in range(1, order + 1)])


def _sample(
    image: npt.NDArray[np.generic],
    displacement: FloatArray,
    total: Image,
    coverage: npt.NDArray[np.int32],
) -> None:
    """Add an image to the total, warped back through its displacement."""
    _add_sampled(np.ascontiguousarray(image, np.float32), displacement, total, coverage)


@numba.njit(cache=True)
def _keys(t: float) -> tuple[float, float, float, float]:
    """Weights of the pixels -1, 0, 1, 2 for a point at t between 0 and 1."""
    return (
        0.5 * t * (-1 + t * (2 - t)),
        1 + 0.5 * t * t * (3 * t - 5),
        0.5 * t * (1 + t * (4 - 3 * t)),
        0.5 * t * t * (t - 1),
    )


@numba.njit(cache=True, nogil=True)
def _add_sampled(
    image: npt.NDArray[np.float32],
    displacement: FloatArray,
    total: npt.NDArray[np.float32],
    coverage: npt.NDArray[np.int32],
) -> None:
    """Add the image, sampled at each pixel's place plus its displacement, where it reaches."""
    ny, nx = image.shape
    for i in range(ny):
        for j in range(nx):
            y, x = i + displacement[0, i, j], j + displacement[1, i, j]
            if y < 0 or x < 0 or y > ny - 1 or x > nx - 1:
                continue
            iy, ix = min(int(y), ny - 2), min(int(x), nx - 2)
            wy, wx = _keys(y - iy), _keys(x - ix)
            value = 0.0
            for a in range(4):
                row = min(max(iy + a - 1, 0), ny - 1)
                for b in range(4):
                    column = min(max(ix + b - 1, 0), nx - 1)
                    value += wy[a] * wx[b] * image[row, column]
            total[i, j] += value
            coverage[i, j] += 1
