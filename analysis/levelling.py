"""Take the background off a height image: its tilt, its bow and the offsets of its rows.

A scanned height is the specimen's plus what the scanner adds: a plane (nothing is mounted
level), a bow (a piezo tube swings) and an offset of every row (drift and 1/f noise between
lines). All are fitted to pixels of the ground, and so all ask the same: which pixels are ground?
A least-squares fit takes every pixel; the median of a row stands as long as less than half of it
is covered; a low quantile beyond that, and differences of neighbouring rows always, but their
errors add up as a random walk. :func:`level` starts from the differences and a slope that are
robust, takes what stands out of the densest level for features, fits the rest, and repeats; then
as if more than half were covered, from the most frequent slope. The flatter ground counts.

What levelling takes of the roughness itself is known too:
:mod:`nanophantom.analysis.kept_variance`.

Masks are true where a pixel is left out of the fit, as :func:`nanophantom.analysis.scars.find`
gives them. What was subtracted is the image less the result.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from nanophantom.analysis.polynomial_fit import background, row_backgrounds, want_rows
from nanophantom.analysis.robust import robust_sigma, shortest_interval

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
RowMethod = Literal["mean", "median", "quantile", "polynomial", "median_of_differences", "matched"]

DENSEST = 0.2
"""Share of the pixels whose shortest interval of heights is where the ground is looked for."""
LEAST_GROUND = 0.3
"""Share of the pixels that ground is expected to be at least."""
FLATTER = 0.9
"""Ground under features that cover more than half must be so much narrower to be believed."""
BROAD = 4.0
"""Standard deviation over width of the densest fifth (normal: 2.0) beyond which features are in."""
FEW = 0.05
"""A row with a smaller share of ground takes its offset from its neighbours."""
ENOUGH = 50_000
"""About how many pixels or facets tell a distribution; more are thinned out."""
ROUNDS = 12


@dataclass(frozen=True, eq=False)
class Levelled:
    """A levelled image and what was taken for ground.

    Attributes
    ----------
    image, background : (ny, nx)
        Their sum is the image that was given.
    features : (ny, nx) bool
        Pixels left out of the fit.
    """

    image: Floats
    background: Floats
    features: Bools


def plane(image: npt.ArrayLike, mask: npt.ArrayLike | None = None) -> Floats:
    """Return the image less its least-squares plane.

    Parameters
    ----------
    image : (ny, nx)
    mask : (ny, nx) bool, optional
        True where a pixel is left out of the fit.

    Raises
    ------
    ValueError
        The image isn't finite and two-dimensional, or the mask leaves too little.
    """
    return polynomial(image, 1, 1, mask, total_degree=1)


def polynomial(
    image: npt.ArrayLike,
    degree_x: int = 2,
    degree_y: int = 2,
    mask: npt.ArrayLike | None = None,
    total_degree: int | None = None,
) -> Floats:
    """Return the image less its least-squares polynomial, terms x**i y**j.

    Parameters
    ----------
    image : (ny, nx)
    degree_x, degree_y : int
        Largest i and j.
    mask : (ny, nx) bool, optional
        True where a pixel is left out of the fit.
    total_degree : int, optional
        Largest i + j.

    Raises
    ------
    ValueError
        The image isn't finite and two-dimensional, or the mask leaves too little.
    """
    z, ground = _checked(image, mask)
    return z - background(z, ground, degree_x, degree_y, total_degree)


def facet(image: npt.ArrayLike, mask: npt.ArrayLike | None = None) -> Floats:
    """Return the image less the plane to which most of its facets are parallel.

    A terraced surface has a mean plane that no terrace lies in. Here the plane has the most
    frequent slope: the mean of the local slopes, weighted with their nearness to that mean, until
    it stays. The spread of the weights is the distance within which a fifth of the slopes lie.

    Parameters
    ----------
    image : (ny, nx)
    mask : (ny, nx) bool, optional
        True where a pixel is left out.

    Raises
    ------
    ValueError
        The image isn't finite and two-dimensional, or the mask leaves too little.
    """
    z, ground = _checked(image, mask)
    slope = _most_frequent_slope(z, ground)
    y, x = np.ogrid[: z.shape[0], : z.shape[1]]
    level_z = z - slope[0] * y - slope[1] * x
    return np.asarray(level_z - np.mean(level_z[ground]))


def align_rows(
    image: npt.ArrayLike,
    method: RowMethod = "median",
    mask: npt.ArrayLike | None = None,
    degree: int = 1,
    fraction: float = 0.2,
) -> Floats:
    """Return the image less an offset, or a polynomial, of each of its rows.

    Parameters
    ----------
    image : (ny, nx)
    method : str
        "mean", "median" or "quantile" of the row; "polynomial" in x by least squares;
        "median_of_differences" from row to row; "matched": a mean of these differences with
        weight where both rows are flat and the differences alike.
    mask : (ny, nx) bool, optional
        True where a pixel is left out.
    degree : int
        Of the polynomial.
    fraction : float
        Of the row that lies below the quantile: low for particles on a ground, high for pits.

    Raises
    ------
    ValueError
        The image isn't finite and two-dimensional, the method isn't known, or the mask leaves
        too little of a row.
    """
    z, ground = _checked(image, mask)
    if method == "polynomial":
        return z - row_backgrounds(z, ground, degree)
    if method in ("median_of_differences", "matched"):
        steps = _matched_steps(z, ground) if method == "matched" else _median_steps(z, ground)
        aligned = z - np.concatenate([[0.0], np.cumsum(steps)])[:, None]
        return np.asarray(aligned - np.median(aligned[ground]))
    want_rows(ground, 1)
    if method == "mean":
        offsets = np.sum(z, axis=1, where=ground) / np.count_nonzero(ground, axis=1)
    elif method == "median":
        offsets = _row_quantile(z, ground, 0.5)
    elif method == "quantile":
        if not 0 <= fraction <= 1:
            raise ValueError(f"fraction of a quantile must lie in 0 to 1, got {fraction}")
        offsets = _row_quantile(z, ground, fraction)
    else:
        known = ", ".join(RowMethod.__args__)  # type: ignore[attr-defined]
        raise ValueError(f"method must be one of {known}, got {method!r}")
    return np.asarray(z - offsets[:, None])


def level(
    image: npt.ArrayLike,
    degree: int = 1,
    rows: Literal["median", "mean", "none"] = "median",
    mask: npt.ArrayLike | None = None,
    threshold: float = 3.5,
) -> Levelled:
    """Level an image on its ground, which is found on the way.

    Ground is the densest level of heights, all within `threshold` standard deviations of it. A
    polynomial and the rows' offsets are fitted to it and it is looked for again, until it stays.
    Rounded hills or pits may cover 70 % of the image, 60 % if rows are aligned; flat ones that
    cover more than half of it are its densest level themselves.

    Parameters
    ----------
    image : (ny, nx)
    degree : int
        Total degree of the polynomial in x and y.
    rows : {"median", "mean", "none"}
        How the ground of a row gives its offset; "none" leaves rows as they are.
    mask : (ny, nx) bool, optional
        True where a pixel is never ground.
    threshold : float
        In standard deviations of the ground, noise and roughness together.

    Raises
    ------
    ValueError
        The image isn't finite and two-dimensional, the mask leaves too little of it or (rows
        aligned) of a row, or a parameter is none of those above.
    """
    z, allowed = _checked(image, mask)
    if rows not in ("median", "mean", "none"):
        raise ValueError(f"rows must be 'median', 'mean' or 'none', got {rows!r}")
    if not threshold > 0:
        raise ValueError(f"threshold must be positive, got {threshold}")
    rest, ground = _on_ground(z, allowed, degree, rows, threshold, False)
    # A mask may leave no facets to see a slope in.
    with contextlib.suppress(ValueError):
        other = _on_ground(z, allowed, degree, rows, threshold, True)
        width, other_width = (shortest_interval(r[allowed], DENSEST)[1] for r in (rest, other[0]))
        features_too = robust_sigma(rest[ground] - np.median(rest[ground])) > BROAD * width
        if other_width < (width / FLATTER if features_too else width * FLATTER):
            rest, ground = other
    return Levelled(rest, z - rest, ~ground)


def _on_ground(
    z: Floats, allowed: Bools, degree: int, rows: str, threshold: float, covered: bool
) -> tuple[Floats, Bools]:
    """Return the levelled image and its ground; `covered` if features may be most of it."""
    start = _frequent_start if covered else _robust_start
    rest = z - start(z, allowed, rows != "none")
    ground = _ground(rest, allowed, threshold, covered)
    for _ in range(ROUNDS):
        rest = rest - background(rest, ground, degree, degree, degree)
        if rows != "none":
            rest = rest - _row_offsets(rest, ground, rows)[:, None]
        before, ground = ground, _ground(rest, allowed, threshold, covered)
        if np.count_nonzero(before != ground) <= 1e-4 * z.size:
            break
    return rest, ground


def _checked(image: npt.ArrayLike, mask: npt.ArrayLike | None) -> tuple[Floats, Bools]:
    """Return the image as float64 and which of its pixels may be fitted."""
    z = np.asarray(image, np.float64)
    if z.ndim != 2 or min(z.shape) < 2:
        raise ValueError(f"an image has two axes of 2 or more pixels, got the shape {z.shape}")
    if not np.all(np.isfinite(z)):
        raise ValueError("heights must be finite: the image holds NaN or infinite values")
    if mask is None:
        return z, np.ones(z.shape, bool)
    masked = np.asarray(mask)
    if masked.shape != z.shape or masked.dtype != bool:
        raise ValueError(
            f"a mask is boolean and of the image's shape {z.shape}, "
            f"got {masked.dtype} {masked.shape}"
        )
    if np.all(masked):
        raise ValueError("the mask leaves no pixel of the image: nothing to fit")
    return z, ~masked


def _row_quantile(z: Floats, ground: Bools, fraction: float) -> Floats:
    """Return a quantile of every row's ground, linear between its order statistics."""
    ordered = np.sort(np.where(ground, z, np.inf), axis=1)
    place = fraction * (np.count_nonzero(ground, axis=1) - 1)
    low, high = np.floor(place).astype(int), np.ceil(place).astype(int)
    row = np.arange(len(z))
    below, above = ordered[row, low], ordered[row, high]
    return np.asarray(below + (place - low) * (above - below))


def _pairs(ground: Bools) -> Bools:
    both = ground[1:] & ground[:-1]
    empty = np.flatnonzero(~np.any(both, axis=1))
    if len(empty):
        raise ValueError(f"the mask leaves rows {empty[0]} and {empty[0] + 1} no column in common")
    return both


def _median_steps(z: Floats, ground: Bools) -> Floats:
    return _row_quantile(np.diff(z, axis=0), _pairs(ground), 0.5)


def _matched_steps(z: Floats, ground: Bools) -> Floats:
    """Return the steps between rows, each difference weighted by how flat and usual it is."""
    both, d = _pairs(ground), np.diff(z, axis=0)
    steep = np.abs(np.gradient(z, axis=1))
    steep = np.maximum(steep[1:], steep[:-1])
    usual = _row_quantile(steep, both, 0.5)[:, None]
    flat = both / (1 + _over(steep, usual) ** 2)
    steps = _row_quantile(d, both, 0.5)
    for _ in range(5):
        away = np.abs(d - steps[:, None])
        scale = 1.4826 * _row_quantile(away, both, 0.5)[:, None]
        weights = flat / (1 + _over(away, scale) ** 2)
        steps = np.sum(weights * d, axis=1) / np.sum(weights, axis=1)
    return np.asarray(steps)


def _over(value: Floats, scale: Floats) -> Floats:
    """Return value / scale, a scale of zero taken for the tiniest one."""
    return value / np.maximum(scale, 1e-12 * np.max(value) + np.finfo(float).tiny)


def _robust_start(z: Floats, allowed: Bools, rows: bool) -> Floats:
    """Return a background that features can't tilt: medians of differences."""
    ny, nx = z.shape
    x = _median_slope(z, allowed, max(1, nx // 16)) * np.arange(nx)
    if rows:
        y = np.concatenate([[0.0], np.cumsum(_median_steps(z, allowed))])
    else:
        y = _median_slope(z.T, allowed.T, max(1, ny // 16)) * np.arange(ny)
    return np.asarray(y[:, None] + x[None, :])


def _frequent_start(z: Floats, allowed: Bools, rows: bool) -> Floats:
    """Return a background for more features than ground: of the most frequent slope.

    Rows follow from each other where they are flat; the densest level of one may be a feature.
    """
    down, along = _most_frequent_slope(z, allowed)
    x = along * np.arange(z.shape[1])
    y = down * np.arange(len(z))
    if rows:
        y = np.concatenate([[0.0], np.cumsum(_matched_steps(z - x, allowed))])
    return np.asarray(y[:, None] + x[None, :])


def _most_frequent_slope(z: Floats, ground: Bools) -> Floats:
    """Return the slope (y, x) per pixel to which most facets of 2 x 2 pixels are near."""
    whole = ground[1:, 1:] & ground[1:, :-1] & ground[:-1, 1:] & ground[:-1, :-1]
    if np.count_nonzero(whole) < 3:
        raise ValueError("the mask leaves no facets: three squares of 2 x 2 pixels or more wanted")
    diagonal, other = z[1:, 1:] - z[:-1, :-1], z[1:, :-1] - z[:-1, 1:]
    slopes = 0.5 * np.stack([diagonal + other, diagonal - other], axis=-1)[whole]
    slopes = slopes[:: max(1, len(slopes) // ENOUGH)]
    slope = np.median(slopes, axis=0)
    for _ in range(50):
        away = np.sum((slopes - slope) ** 2, axis=1)
        spread = np.quantile(away, DENSEST)
        if spread == 0:
            break  # a fifth of all facets have just this slope
        weights = np.exp(-0.5 * away / spread)
        step = weights @ slopes / np.sum(weights) - slope
        slope = slope + step
        if np.max(np.abs(step)) < 1e-9 * np.sqrt(spread):
            break
    return np.asarray(slope)


def _median_slope(z: Floats, allowed: Bools, lag: int) -> float:
    """Return the median of the differences along x over a lag, per pixel."""
    steps = (z[:, lag:] - z[:, :-lag])[allowed[:, lag:] & allowed[:, :-lag]]
    return float(np.median(steps)) / lag if len(steps) else 0.0


def _ground(rest: Floats, allowed: Bools, threshold: float, covered: bool) -> Bools:
    """Return the pixels of the densest level; if `covered`, grown from the narrowest it can be."""
    v = np.sort(rest[allowed])
    v = v[:: max(1, len(v) // ENOUGH)]
    centre, width = shortest_interval(v, DENSEST)
    sigma = robust_sigma(v - centre)
    if covered and width > 0:
        sigma = width / (2 * float(ndtri((1 + DENSEST / LEAST_GROUND) / 2)))
    for _ in range(20):
        near = v[np.abs(v - centre) <= threshold * sigma]
        before, centre = sigma, float(np.median(near))
        sigma = robust_sigma(near - centre)
        if abs(sigma - before) <= 1e-3 * before:
            break
    # Images without noise: rounding isn't a feature.
    sigma = max(sigma, 1e-12 * float(np.max(np.abs(rest))))
    return allowed & (np.abs(rest - centre) <= threshold * sigma)


def _row_offsets(rest: Floats, ground: Bools, how: str) -> Floats:
    """Return the rows' offsets; rows with hardly any ground take what is between their nearest."""
    count = np.count_nonzero(ground, axis=1)
    good = np.flatnonzero(count >= max(1.0, FEW * np.max(count)))
    if how == "mean":
        known = np.sum(rest[good], axis=1, where=ground[good]) / count[good]
    else:
        known = _row_quantile(rest[good], ground[good], 0.5)
    return np.asarray(np.interp(np.arange(len(rest)), good, known))
