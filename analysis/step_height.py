"""Heights of steps, grooves and ridges after ISO 5436-1, with honest uncertainties.

On every line across an edge the levels on both sides and the tilt are fitted together,
Z = a X + b + h delta, leaving out the transition between them. A line has its own offset and
tilt, so what comes and goes between lines (row offsets, drift) isn't in h; what changes along a
line is. How much is told by the scatter of h from line to line, and how far neighbouring lines
err together by its autocorrelation.

So lines are to run along the fast axis of the scan, which is x. Along the slow one drift and
heights aren't to be told apart, and no scatter shows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage, optimize

from nanophantom.analysis.levelling import align_rows

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
PixelSize = float | tuple[float, float]

THRESHOLD = 5.0
"""An edge stands out of the noise of a profile by so many standard deviations."""
FAINTEST = 0.15
"""Of the strongest edge: fainter ones aren't looked for."""
STEEPEST_DEG = 60.0
"""Edges are looked for whose normal is this near to x."""
LINES_LOOKED_AT = 128
TURNS = 20
"""Rounds in which the profile and the offsets of lines are fitted to each other."""
CUT_OFF = 5.0
"""The sum over an autocorrelation ends at so many times the correlation length it gives."""


class Edge(NamedTuple):
    """An edge in a profile: its middle, its rise (down negative), and the width of 5 % to 95 %."""

    position_nm: float
    rise_nm: float
    width_nm: float


@dataclass(frozen=True, eq=False)
class StepHeight:
    """Height of one step, groove or ridge.

    Attributes
    ----------
    height_nm
        Of the far level over the near one; negative for a step down and a groove.
    uncertainty_nm
        Standard uncertainty of the mean.
    degrees_of_freedom
        Of this uncertainty: an interval is Student's t for so many times it.
    position_nm, width_nm
        Of the edge, or of the groove or ridge, along the direction of the profile.
    direction_deg
        Direction of the profile across the edge, from x to y.
    per_line_nm, tilt_nm_per_nm : (n,)
        Heights of the lines, and their slopes along x.
    """

    height_nm: float
    uncertainty_nm: float
    degrees_of_freedom: float
    position_nm: float
    width_nm: float
    direction_deg: float
    per_line_nm: Floats
    tilt_nm_per_nm: Floats


def find_edges(
    profile_nm: npt.ArrayLike, pixel_size_nm: float, scale_nm: float | None = None
) -> list[Edge]:
    """Return the edges of a profile, from its start to its end.

    The means before and behind every place are compared; a tilt adds the same everywhere.

    Parameters
    ----------
    profile_nm : (n,)
        Heights, tilted or not.
    pixel_size_nm : float
    scale_nm : float, optional
        Length of the means, below the distance of the nearest edges; 1/40 of the profile, or
        three pixels, by default.

    Raises
    ------
    ValueError
        The profile isn't finite and one-dimensional, or too short for the scale.
    """
    z = np.asarray(profile_nm, np.float64)
    if z.ndim != 1 or not np.all(np.isfinite(z)):
        raise ValueError("a profile has one axis and finite heights")
    if not pixel_size_nm > 0:
        raise ValueError(f"pixel_size_nm must be positive, got {pixel_size_nm}")
    m = max(3, round(len(z) / 40 if scale_nm is None else scale_nm / pixel_size_nm))
    if len(z) < 4 * m:
        raise ValueError(f"a profile of {len(z)} pixels is too short for means over {m}")
    contrast = _contrast(z, m)
    size = np.abs(contrast)
    noise = 1.4826 * float(np.median(size))
    highest = float(np.max(size))
    floor = 1e-9 * float(np.ptp(z))
    peaks = (size == ndimage.maximum_filter1d(size, 2 * m + 1)) & (
        size > max(THRESHOLD * noise, FAINTEST * highest, floor)
    )
    # A plateau of equal values counts once, and peaks that are near with it.
    places: list[int] = []
    for at in np.flatnonzero(peaks):
        if not places or at - places[-1] > m:
            places.append(int(at))
    return [_edge(z, at + m, _neighbours(places, at), m, pixel_size_nm) for at in places]


def steps(
    image: npt.ArrayLike,
    pixel_size_nm: PixelSize,
    *,
    direction_deg: float | None = None,
    exclude_nm: float | None = None,
    scale_nm: float | None = None,
    degree: int = 1,
) -> list[StepHeight]:
    """Return the heights of all straight parallel steps that cross an image's lines.

    Each is fitted with the terraces on both sides of it, up to the next edges.

    Parameters
    ----------
    image : (ny, nx)
        Heights in nm as they were measured; levelling isn't needed.
    pixel_size_nm : float or (y, x)
    direction_deg : float, optional
        Direction across the steps from x to y, -60 to 60; by default it is looked for.
    exclude_nm : float, optional
        Left out on both sides of an edge, across it; by default one and a half times the
        edge's own width from 5 % to 95 %, and at least three pixels.
    scale_nm : float, optional
        See :func:`find_edges`.
    degree : int
        Of the background along a line: 1 for its tilt, 2 for a bow too.

    Raises
    ------
    ValueError
        The image isn't finite and two-dimensional, shows no edge, or leaves too little of the
        terraces.
    """
    z, (dy, dx) = _checked(image, pixel_size_nm)
    direction = find_direction(z, (dy, dx)) if direction_deg is None else float(direction_deg)
    edges, across = _edges_across(z, (dy, dx), direction, scale_nm)
    gaps = [
        max(1.5 * e.width_nm, 3 * dx) if exclude_nm is None else float(exclude_nm) for e in edges
    ]
    found = []
    for i, edge in enumerate(edges):
        start = edges[i - 1].position_nm + gaps[i - 1] if i else -np.inf
        end = edges[i + 1].position_nm - gaps[i + 1] if i + 1 < len(edges) else np.inf
        beyond = across - edge.position_nm
        used = (across > start) & (across < end) & (np.abs(beyond) > gaps[i])
        found.append(
            _fit_lines(z, dx, used, beyond > 0, degree, edge.position_nm, edge.width_nm, direction)
        )
    return found


def grooves(
    image: npt.ArrayLike,
    pixel_size_nm: PixelSize,
    *,
    direction_deg: float | None = None,
    scale_nm: float | None = None,
    degree: int = 1,
) -> list[StepHeight]:
    """Return the heights of straight parallel grooves (negative) and ridges, after ISO 5436-1.

    Of a groove of the width W the middle third counts, and on both sides 2 W / 3 of the level
    surface, starting W / 3 from the edges. Two edges that follow one another, one down and one
    up, are a groove, up and down a ridge. What would reach over a neighbour's edge or over the
    border is cut off; at least W / 3 must remain on either side, or it isn't measured. Parameters
    as :func:`steps`'.

    Raises
    ------
    ValueError
        The image isn't finite and two-dimensional, or shows no groove or ridge with level
        surface on both sides.
    """
    z, (dy, dx) = _checked(image, pixel_size_nm)
    direction = find_direction(z, (dy, dx)) if direction_deg is None else float(direction_deg)
    edges, across = _edges_across(z, (dy, dx), direction, scale_nm)
    borders = [float(across.min()), *(e.position_nm for e in edges), float(across.max())]
    found: list[StepHeight] = []
    i = 0
    while i + 1 < len(edges):
        first, second = edges[i], edges[i + 1]
        width = second.position_nm - first.position_nm
        middle = first.position_nm + width / 2
        # A neighbour's edge is rounded too.
        start, end = (
            borders[i] + width / 3 * (i > 0),
            borders[i + 3] - width / 3 * (i + 2 < len(edges)),
        )
        room = min(first.position_nm - start, end - second.position_nm)
        if first.rise_nm * second.rise_nm > 0 or room < 2 * width / 3:
            i += 1
            continue
        off = np.abs(across - middle)
        inside = off < width / 6
        outside = (off > 5 * width / 6) & (off < 3 * width / 2) & (across > start) & (across < end)
        found.append(_fit_lines(z, dx, inside | outside, inside, degree, middle, width, direction))
        i += 2
    if not found:
        raise ValueError("no groove or ridge with level surface as wide as itself on both sides")
    return found


def fit_profile(
    profile_nm: npt.ArrayLike,
    pixel_size_nm: float,
    delta: npt.ArrayLike,
    used: npt.ArrayLike | None = None,
    degree: int = 1,
) -> tuple[float, float, float]:
    """Fit Z = a X + b + h delta to a single profile.

    Its uncertainty takes errors that go together along the profile into account, as far as the
    residuals show them: those longer than a terrace don't show. Prefer many lines.

    Parameters
    ----------
    profile_nm : (n,)
    pixel_size_nm : float
    delta : (n,)
        1 (or true) on the far level, 0 on the near one.
    used : (n,) bool, optional
        Pixels that count; all by default.
    degree : int
        Of the background.

    Returns
    -------
    height_nm, uncertainty_nm, tilt_nm_per_nm : float

    Raises
    ------
    ValueError
        Shapes differ, or pixels are too few to fix the height.
    """
    z, step = np.asarray(profile_nm, np.float64), np.asarray(delta, np.float64)
    which = np.ones(z.shape, bool) if used is None else np.asarray(used, bool)
    if z.ndim != 1 or z.shape != step.shape or z.shape != which.shape:
        raise ValueError("profile, delta and used must have the same single axis")
    terms, gain = _solver(which, step, degree)
    parameters = gain @ z[which]
    residual = np.zeros(len(z))
    residual[which] = z[which] - terms @ parameters
    influence = np.zeros(len(z))
    influence[which] = gain[-1]
    n = int(np.count_nonzero(which))
    # h errs by sum_i g_i e_i: its variance is the sum over lags of (g * g)(lag) R(lag)
    acf, pairs = (np.correlate(v, v, "full")[len(z) - 1 :] for v in (residual, which * 1.0))
    acf = acf / np.maximum(pairs, 1) * n / (n - len(parameters))
    weight = np.correlate(influence, influence, "full")[len(z) - 1 :]
    last = _window(acf / acf[0] if acf[0] > 0 else acf)
    variance = weight[0] * acf[0] + 2 * float(weight[1 : last + 1] @ acf[1 : last + 1])
    variance = max(variance / _kept(len(parameters), last, n), weight[0] * acf[0])
    return (
        float(parameters[-1]),
        float(np.sqrt(variance)),
        float(_slope(terms, parameters, which) / pixel_size_nm),
    )


def histogram_height(
    image: npt.ArrayLike, pixel_size_nm: PixelSize, *, slope: tuple[float, float] | None = None
) -> float:
    """Return the distance of the two peaks in the histogram of heights, always positive.

    It needs no straight edge, but two levels of which neither has less than a tenth of the
    image. The tilt is taken off first: that of the most frequent local slopes doesn't suffice
    where noise is strong, so it is fitted with the two levels, in turns. Rows must be aligned.

    Parameters
    ----------
    image : (ny, nx)
        Heights in nm.
    pixel_size_nm : float or (y, x)
    slope : (y, x), optional
        The tilt in nm per nm, if it is known.

    Raises
    ------
    ValueError
        The image isn't finite and two-dimensional, or has one level only.
    """
    z, (dy, dx) = _checked(image, pixel_size_nm)
    y, x = (v.astype(np.float64).ravel() for v in np.mgrid[: z.shape[0], : z.shape[1]])
    if slope is not None:
        flat = z.ravel() - slope[0] * dy * y - slope[1] * dx * x
    else:
        # most frequent differences over a short lag: an edge is crossed by few of them
        lag = [max(1, n // 16) for n in z.shape]
        tilt_y = np.median(z[lag[0] :] - z[: -lag[0]]) / lag[0]
        tilt_x = np.median(z[:, lag[1] :] - z[:, : -lag[1]]) / lag[1]
        flat = z.ravel() - tilt_y * y - tilt_x * x
        plane = np.stack([y - y.mean(), x - x.mean()])
        for _ in range(20):
            low, high, levels = _two_levels(flat)
            used = low | high
            terms = np.stack([*plane[:, used], low[used], high[used]], axis=1)
            fitted = np.linalg.lstsq(terms, flat[used], rcond=None)[0]
            flat = flat - fitted[:2] @ plane
            if np.max(np.abs(fitted[:2]) * z.shape) < 1e-6 * abs(levels[1] - levels[0]):
                break
    _, _, levels = _two_levels(flat)
    return float(levels[1] - levels[0])


def find_direction(image: npt.ArrayLike, pixel_size_nm: PixelSize) -> float:
    """Return the direction in degrees across straight parallel edges, from x to y, -60 to 60.

    It is the one in which the profile of the image has the strongest edges.

    Raises
    ------
    ValueError
        The image isn't finite and two-dimensional.
    """
    z, (dy, dx) = _checked(image, pixel_size_nm)
    aligned = align_rows(z, "median_of_differences")[:: max(1, len(z) // LINES_LOOKED_AT)]
    dy = dy * max(1, len(z) // LINES_LOOKED_AT)

    def blur(angle: float) -> float:
        profile, _ = _profile(aligned, (dy, dx), angle)
        return -float(np.sum(_contrast(profile, max(3, len(profile) // 40)) ** 4))

    coarse = np.arange(-STEEPEST_DEG, STEEPEST_DEG + 1, 2.0)
    best = float(coarse[np.argmin([blur(angle) for angle in coarse])])
    fine = best + np.arange(-2.0, 2.01, 0.25)
    best = float(fine[np.argmin([blur(angle) for angle in fine])])
    return float(
        optimize.minimize_scalar(
            blur, bounds=(best - 0.25, best + 0.25), method="bounded", options={"xatol": 0.01}
        ).x
    )


def mean_of_lines(per_line_nm: npt.ArrayLike) -> tuple[float, float, float]:
    """Return the mean of a sequence, its standard uncertainty and the degrees of freedom.

    Neighbours may err together: the variance of the mean is s²/n times the integrated
    autocorrelation 1 + 2 sum rho, summed up to five times itself (A. Sokal's rule).

    Raises
    ------
    ValueError
        There are fewer than three lines.
    """
    h = np.asarray(per_line_nm, np.float64)
    n = len(h)
    if n < 3:
        raise ValueError(f"scatter takes three lines or more, got {n}")
    d = h - np.mean(h)
    acf = np.correlate(d, d, "full")[n - 1 :] / np.arange(n, 0, -1)
    if acf[0] <= (1e-14 * np.max(np.abs(h))) ** 2:
        return float(np.mean(h)), 0.0, float(n - 1)
    rho = acf / acf[0]
    last = _window(rho)
    together = (1 + 2 * float(np.sum(rho[1 : last + 1]))) / _kept(1, last, n)
    together = min(max(0.5, together), n / 2)
    free = max(1.0, n / max(together, 1.0) - 1)
    variance = acf[0] / (n - together) * together
    return float(np.mean(h)), float(np.sqrt(variance)), float(free)


def _neighbours(places: list[int], at: int) -> tuple[int | None, int | None]:
    """Return the neighbours of a place in a rising list."""
    i = places.index(at)
    return (places[i - 1] if i else None), (places[i + 1] if i + 1 < len(places) else None)


def _checked(image: npt.ArrayLike, pixel_size_nm: PixelSize) -> tuple[Floats, tuple[float, float]]:
    z = np.asarray(image, np.float64)
    if z.ndim != 2 or z.shape[0] < 3 or z.shape[1] < 16:
        raise ValueError(f"an image needs 3 lines of 16 pixels or more, got the shape {z.shape}")
    if not np.all(np.isfinite(z)):
        raise ValueError("heights must be finite: the image holds NaN or infinite values")
    dy, dx = np.broadcast_to(np.asarray(pixel_size_nm, np.float64), 2)
    if not (0 < dy < np.inf and 0 < dx < np.inf):
        raise ValueError(f"pixel_size_nm must be positive, got {pixel_size_nm}")
    return z, (float(dy), float(dx))


def _contrast(z: Floats, m: int) -> Floats:
    """Return the mean of the next m heights less that of the m before, tilt taken off."""
    total = np.concatenate([[0.0], np.cumsum(z - z[0])])
    means = (total[m:] - total[:-m]) / m
    contrast = means[m:] - means[:-m]
    return np.asarray(contrast - np.median(contrast))


def _edge(
    z: Floats, at: int, near: tuple[int | None, int | None], m: int, pixel_size_nm: float
) -> Edge:
    """Return the edge near a pixel: levels on both sides, and where it passes between them."""
    before, after = near
    # levels are taken where neither this edge nor the next one is in the way
    start = max(0, at - 4 * m, 0 if before is None else (at + before + m) // 2)
    end = min(len(z), at + 4 * m, len(z) if after is None else (at + after + m) // 2 + 1)
    part = z[start:end]
    x = np.arange(len(part))
    middle = at - start
    far = np.abs(x - middle + 0.5) > min(m, 0.5 * min(middle, len(part) - middle))
    if np.count_nonzero(far & (x < middle)) < 2 or np.count_nonzero(far & (x >= middle)) < 2:
        far = np.ones(len(part), bool)
    _, gain = _solver(far, (x >= middle).astype(np.float64), 1)
    parameters = gain @ part[far]
    scale = np.linspace(-1, 1, len(part))
    rise = float(parameters[-1])
    share = (part - parameters[0] - parameters[1] * scale) / rise
    crossings = [_crossing(share, middle, level) for level in (0.05, 0.5, 0.95)]
    width = max(crossings[2] - crossings[0], 1.0)
    return Edge((start + crossings[1]) * pixel_size_nm, rise, width * pixel_size_nm)


def _crossing(share: Floats, middle: int, level: float) -> float:
    """Return where a profile from 0 to 1 passes a level, going out from its middle."""
    up = share >= level
    if level > 0.5:
        later = np.flatnonzero(up[max(middle - 1, 0) :])
        j = max(middle - 1, 0) + (int(later[0]) if len(later) else 0)
    else:
        earlier = np.flatnonzero(~up[: middle + 1])
        j = (int(earlier[-1]) if len(earlier) else middle) + 1
    j = min(max(j, 1), len(share) - 1)
    low, high = share[j - 1], share[j]
    return float(j - 1 + np.clip((level - low) / (high - low), 0, 1)) if high != low else float(j)


def _across(shape: tuple[int, ...], pixel: tuple[float, float], direction_deg: float) -> Floats:
    """Return the coordinate across the edges, 0 at the first pixel."""
    angle = np.deg2rad(direction_deg)
    y, x = np.ogrid[: shape[0], : shape[1]]
    return np.asarray(x * (pixel[1] * np.cos(angle)) + y * (pixel[0] * np.sin(angle)))


def _profile(z: Floats, pixel: tuple[float, float], direction_deg: float) -> tuple[Floats, float]:
    """Return the mean profile across the edges, by bins a pixel wide, and where it starts."""
    across = _across(z.shape, pixel, direction_deg)
    step = pixel[1]
    start = float(across.min())
    bins = np.rint((across - start) / step).astype(np.int64).ravel()
    count = np.bincount(bins)
    well = np.flatnonzero(count >= 0.2 * np.max(count))  # corners hold few pixels
    mean = np.bincount(bins, z.ravel())[well[0] : well[-1] + 1]
    return mean / count[well[0] : well[-1] + 1], start + float(well[0]) * step


def _edges_across(
    z: Floats, pixel: tuple[float, float], direction: float, scale_nm: float | None
) -> tuple[list[Edge], Floats]:
    if not abs(direction) <= STEEPEST_DEG:
        raise ValueError(
            f"direction_deg must lie within -60 to 60 so that lines cross the edges, "
            f"got {direction:g}; transpose an image that was scanned along y"
        )
    # Lines differ by an offset and a slope from the profile at their place, in turns.
    lines = align_rows(z, "median_of_differences")
    across = _across(z.shape, pixel, direction)
    for _ in range(TURNS):
        profile, start = _profile(lines, pixel, direction)
        places = (across - start) / pixel[1]
        lines = lines - _line_fits(lines - np.interp(places, np.arange(len(profile)), profile))
    profile, start = _profile(lines, pixel, direction)
    edges = [
        edge._replace(position_nm=edge.position_nm + start)
        for edge in find_edges(profile, pixel[1], scale_nm)
    ]
    if not edges:
        raise ValueError("no edge stands out of the noise: nothing to measure")
    return edges, across


def _line_fits(z: Floats) -> Floats:
    """Return the straight line fitted to every row."""
    x = np.linspace(-1, 1, z.shape[1])
    return np.asarray(np.mean(z, axis=1)[:, None] + np.outer(z @ x / (x @ x), x))


def _solver(used: Bools, delta: Floats, degree: int) -> tuple[Floats, Floats]:
    """Return the terms of the fit at the used pixels, and the matrix that gives its parameters."""
    if degree < 0:
        raise ValueError(f"degree must be 0 or more, got {degree}")
    x = np.linspace(-1, 1, len(used))
    terms = np.column_stack([np.polynomial.legendre.legvander(x, degree), delta])[used]
    if len(terms) <= terms.shape[1] or np.linalg.matrix_rank(terms, 1e-8) < terms.shape[1]:
        raise ValueError("too few pixels of both levels to fix a height and the tilt")
    return terms, np.linalg.pinv(terms)


def _slope(terms: Floats, parameters: Floats, used: Bools) -> float:
    """Return the mean slope per pixel of the fitted background."""
    if len(parameters) == 2:
        return 0.0
    x = np.linspace(-1, 1, len(used))
    coefficients = np.polynomial.legendre.legder(parameters[:-1])
    return float(
        np.mean(np.polynomial.legendre.legval(x[used], coefficients)) * 2 / (len(used) - 1)
    )


def _fit_lines(
    z: Floats,
    dx: float,
    used: Bools,
    far: Bools,
    degree: int,
    position_nm: float,
    width_nm: float,
    direction_deg: float,
) -> StepHeight:
    """Fit every line that has enough of both levels, and average."""
    near_count = np.count_nonzero(used & ~far, axis=1)
    far_count = np.count_nonzero(used & far, axis=1)
    least = 0.5 * np.array([near_count.max(), far_count.max()])
    rows = np.flatnonzero(
        (near_count >= max(least[0], degree + 2)) & (far_count >= max(least[1], 2))
    )
    if len(rows) < 3:
        raise ValueError(
            f"fewer than three lines have level surface on both sides of {position_nm:.4g} nm; "
            "lower exclude_nm or choose a direction"
        )
    heights, tilts = np.empty(len(rows)), np.empty(len(rows))
    solved: dict[bytes, tuple[Floats, Floats]] = {}
    for i, row in enumerate(rows):
        key = used[row].tobytes() + far[row].tobytes()
        if key not in solved:
            solved[key] = _solver(used[row], far[row].astype(np.float64), degree)
        terms, gain = solved[key]
        parameters = gain @ z[row, used[row]]
        heights[i] = parameters[-1]
        tilts[i] = _slope(terms, parameters, used[row]) / dx
    height, uncertainty, free = mean_of_lines(heights)
    return StepHeight(
        height, uncertainty, free, position_nm, width_nm, direction_deg, heights, tilts
    )


def _window(rho: Floats) -> int:
    """Return the last lag to sum up to: five times the correlation length of the sum so far."""
    together = 1 + 2 * np.cumsum(rho[1:])
    enough = np.flatnonzero(np.arange(1, len(rho)) >= CUT_OFF * together / 2)
    return int(enough[0]) + 1 if len(enough) else len(rho) - 1


def _kept(parameters: int, last: int, n: int) -> float:
    """Return the share that a fit leaves of the sum over lags of its residuals' autocorrelation.

    Every parameter takes about 1/n of the sum from the autocorrelation at each lag.
    """
    return max(0.25, 1 - parameters * (2 * last + 1) / n)


def _two_levels(flat: Floats) -> tuple[Bools, Bools, Floats]:
    """Return which pixels belong to the lower and the upper peak, and the peaks' places."""
    ordered = np.sort(flat)
    # Otsu: the split with the largest variance between both parts
    n = np.arange(1, len(ordered))
    total = np.cumsum(ordered)
    between = (total[:-1] / n - (total[-1] - total[:-1]) / (len(ordered) - n)) ** 2
    split = int(np.argmax(between * n * (len(ordered) - n))) + 1
    if not 0.1 * len(flat) < split < 0.9 * len(flat):
        raise ValueError("one of two levels has less than a tenth of the image")
    parts, masks = (ordered[:split], ordered[split:]), []
    levels = np.empty(2)
    rounding = 1e-12 * float(np.max(np.abs(flat)))
    for i, part in enumerate(parts):
        level = float(np.median(part))
        for _ in range(20):
            spread = 1.4826 * float(np.median(np.abs(part - level)))
            near = part[np.abs(part - level) <= 2.5 * spread + rounding]
            before, level = level, float(np.mean(near))
            if abs(level - before) <= 1e-6 * spread + rounding:
                break
        levels[i] = level
        masks.append(np.abs(flat - level) <= 2.5 * spread + rounding)
    return masks[0], masks[1], levels
