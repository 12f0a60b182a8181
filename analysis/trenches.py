"""Widths, depths and side walls of trenches imaged with a known tip, and what can't be known.

Trenches run along y. Then only the silhouette of the tip along y matters, and the image comes down
to profiles: the lines are averaged in blocks, eroded by the silhouette, and measured; the blocks'
scatter is the uncertainty. What the tip couldn't touch stays unknown, and bounds are given:

- A wall as steep as the tip's flank may be steeper, up to upright and beyond; its angle is a lower
  bound, and the floor beside it may be wider.
- A trench narrower than the tip is wide at its depth isn't reached to the bottom; its depth is a
  lower bound: the tip stops where its width is the trench's, R - sqrt(R² - W²/4) for a sphere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nanophantom.analysis.robust import robust_sigma
from nanophantom.analysis.tip_deconvolution import reconstruct
from nanophantom.simcore.pixel_size import PixelSize, pixel_pair

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

RIM = (0.05, 0.3)
"""Depths, as shares of the whole one, through which a wall is extended to the top."""
WALL = (0.1, 0.55)
"""Depths between which a wall's slope is taken: above the fillet that a round tip leaves."""
FLOOR = 0.02
"""Share of the depth within which the image is at its lowest."""
SHALLOWEST = 0.02
"""Of the range of heights: less deep ones aren't trenches."""
BESIDE_PX = 3
"""Pixels of the top that belong to a trench on either side."""
LEAST_FLOOR_PX = 3
"""A floor is reached if the apex travelled over so many pixels of it."""


@dataclass(frozen=True)
class Wall:
    """A side wall.

    Attributes
    ----------
    top_nm
        Where it meets the top: x, pixel 0 at 0.
    angle_deg, angle_uncertainty_deg
        Against the horizontal, 90 for upright; and its standard uncertainty, in degrees.
    lower_bound
        True if it is as steep as the tip's flank: then it is this steep or steeper.
    """

    top_nm: float
    angle_deg: float
    angle_uncertainty_deg: float
    lower_bound: bool


@dataclass(frozen=True)
class Trench:
    """A trench. Uncertainties are standard ones and hold for what isn't a bound.

    Attributes
    ----------
    top_width_nm, top_width_uncertainty_nm
        Between the upper rims.
    depth_nm, depth_uncertainty_nm
        Of the lowest point reached, under the top.
    bottom_reached
        False if the tip stopped on the walls: the depth is a lower bound then.
    bottom_width_nm
        Of the floor, from the walls' slopes where they are known, from what the apex touched
        where they aren't; 0 if it wasn't reached.
    bottom_width_bounds_nm
        Least and largest width of the floor, walls not undercut.
    reached_fraction
        Least share of the floor that the apex touched, 0 to 1.
    left, right : Wall
    """

    top_width_nm: float
    top_width_uncertainty_nm: float
    depth_nm: float
    depth_uncertainty_nm: float
    bottom_reached: bool
    bottom_width_nm: float
    bottom_width_bounds_nm: tuple[float, float]
    reached_fraction: float
    left: Wall
    right: Wall


def measure(
    image: npt.ArrayLike,
    pixel_size_nm: PixelSize,
    tip_nm: npt.ArrayLike,
    apex: tuple[int, int] | None = None,
    *,
    blocks: int = 8,
) -> list[Trench]:
    """Measure all trenches of an image that it shows with both rims, from left to right.

    Parameters
    ----------
    image : (ny, nx)
        Heights in nm; trenches along y, walls across the lines. Offsets of lines and a tilt along
        x are taken off here.
    pixel_size_nm : float or (y, x)
    tip_nm, apex
        The tip, as for :func:`~nanophantom.analysis.tip_deconvolution.reconstruct`, wide enough
        for the depth.
    blocks : int
        Of neighbouring lines that are averaged.

    Raises
    ------
    ValueError
        The image or the tip isn't what is wanted, the tip is narrower than a trench is deep, or
        there is no trench.
    """
    z = np.asarray(image, np.float64)
    if z.ndim != 2 or not np.all(np.isfinite(z)):
        raise ValueError("an image has two axes and finite heights")
    if not 2 <= blocks <= len(z):
        raise ValueError(f"blocks must lie within 2 and the {len(z)} lines, got {blocks}")
    _, dx = pixel_pair(pixel_size_nm)
    silhouette, middle = tip_silhouette(tip_nm, apex)
    for _ in range(3):
        typical = np.median(z, axis=0)
        z = z - np.median(z - typical, axis=1)[:, None]
    mean = np.mean(z, axis=0)
    background, spans = _spans(mean)
    whole = [a >= 0 and b <= len(mean) for a, b in spans]
    if not any(whole):
        raise ValueError("no trench with both its rims stands out of the noise")
    plateau = np.ones(len(mean), bool)
    for first, last in spans:
        plateau[max(first, 0) : last] = False
    z = z - background
    profiles = np.array([np.mean(block, axis=0) for block in np.array_split(z, blocks)])
    profiles -= np.array([np.median(p[plateau]) for p in profiles])[:, None]
    noise = float(np.std(profiles[:, plateau]))
    flanks = _Tip(silhouette, middle, dx)
    surfaces = [reconstruct(p[None], silhouette[None], (0, middle)).heights_nm[0] for p in profiles]
    found = []
    reach = round(max(flanks.half_widths(min(float(np.ptp(profiles)), flanks.height))) / dx)
    for cut, seen in zip(_cuts(spans, reach, len(mean)), whole, strict=True):
        if not seen:
            continue
        measured = [
            _profile(p[cut], s[cut], cut.start, dx, flanks, noise)
            for p, s in zip(profiles, surfaces, strict=True)
        ]
        found.append(_together(np.array(measured), dx))
    return found


def tip_silhouette(
    tip_nm: npt.ArrayLike, apex: tuple[int, int] | None = None
) -> tuple[Floats, int]:
    """Return the outline of a tip looked at along y, 0 at its apex, and the apex's column.

    Raises
    ------
    ValueError
        The tip isn't two-dimensional, holds NaN, or nothing finite.
    """
    tip = np.asarray(tip_nm, np.float64)
    if tip.ndim != 2 or np.any(np.isnan(tip)) or not np.isfinite(tip.max(initial=-np.inf)):
        raise ValueError("a tip is a map of heights with a finite highest one, no NaN")
    outline = tip.max(axis=0) - tip.max()
    highest = np.flatnonzero(outline == 0)
    column = int(highest[len(highest) // 2]) if apex is None else int(apex[1])
    if not 0 <= column < len(outline) or outline[column] != 0:
        raise ValueError(f"the apex in column {column} isn't the highest point of the tip")
    return outline, column


def edge_broadening_nm(
    tip_nm: npt.ArrayLike,
    pixel_size_nm: PixelSize,
    height_nm: float,
    apex: tuple[int, int] | None = None,
) -> tuple[float, float]:
    """Return how far before an upright step of some height the flanks meet its upper rim.

    For a sphere sqrt(2 R h - h²), for a sphere-cone beyond its joint
    R cos a + (h - R (1 - sin a)) tan a.

    Returns
    -------
    left, right : float
        By the tip's left flank, on a step that lies to the left of it, and by its right one.

    Raises
    ------
    ValueError
        The tip isn't one, or its samples don't reach this height.
    """
    _, dx = pixel_pair(pixel_size_nm)
    return _Tip(*tip_silhouette(tip_nm, apex), dx).half_widths(height_nm)


def penetration_nm(
    tip_nm: npt.ArrayLike,
    pixel_size_nm: PixelSize,
    width_nm: float,
    apex: tuple[int, int] | None = None,
) -> float:
    """Return how deep a tip gets into a trench with upright walls.

    For a sphere R - sqrt(R² - W²/4).

    Raises
    ------
    ValueError
        The tip isn't one, or its samples are narrower than the trench.
    """
    _, dx = pixel_pair(pixel_size_nm)
    tip = _Tip(*tip_silhouette(tip_nm, apex), dx)
    low, high = 0.0, tip.height
    if sum(tip.half_widths(high)) < width_nm:
        raise ValueError(f"the tip's samples are narrower than {width_nm:g} nm: sample it wider")
    for _ in range(80):
        depth = (low + high) / 2
        low, high = (depth, high) if sum(tip.half_widths(depth)) < width_nm else (low, depth)
    return low


class _Tip:
    """The silhouette's flanks: how far out they are at a height over the apex."""

    def __init__(self, outline: Floats, middle: int, dx: float) -> None:
        self.flanks: list[tuple[Floats, Floats]] = []
        for flank in (outline[middle::-1], outline[middle:]):
            heights = np.maximum.accumulate(-flank)  # a tip's overhangs don't touch
            finite = np.isfinite(heights)
            at = np.arange(np.count_nonzero(finite), dtype=np.float64) * dx
            self.flanks.append((heights[finite], at))
            if not np.all(finite):  # upright beyond its last sample
                self.flanks[-1] = (np.append(heights[finite], np.inf), np.append(at, at[-1]))
        self.height = float(min(h[-1] for h, _ in self.flanks))

    def half_widths(self, height_nm: float) -> tuple[float, float]:
        if not 0 <= height_nm <= self.height:
            raise ValueError(
                f"the tip's samples reach {self.height:.4g} nm over its apex, "
                f"{height_nm:.4g} nm are needed: sample it wider"
            )
        left, right = (float(_interpolated(height_nm, h, at)) for h, at in self.flanks)
        return left, right


def _interpolated(height: float, heights: Floats, at: Floats) -> float:
    """Return the last place where a rising flank passes a height."""
    i = int(np.searchsorted(heights, height, side="right"))
    if i >= len(heights):
        return float(at[-1])
    if not np.isfinite(heights[i]):
        return float(at[i])
    return float(
        at[i - 1] + (at[i] - at[i - 1]) * (height - heights[i - 1]) / (heights[i] - heights[i - 1])
    )


def _spans(mean: Floats) -> tuple[Floats, list[tuple[int, int]]]:
    """Return the tilted top, and from where to where trenches lie, with a little of it.

    Spans of trenches that an edge cuts reach beyond it.
    """
    from skimage.filters import threshold_otsu

    otsu: Any = threshold_otsu
    x = np.arange(len(mean))
    lag = max(1, len(mean) // 16)
    top = np.median(mean[lag:] - mean[:-lag]) / lag * x
    for _ in range(8):
        flat = mean - top
        upper = flat >= otsu(flat)
        level = np.median(flat[upper])
        spread = robust_sigma(flat[upper] - level)
        near = upper & (np.abs(flat - level) <= 3 * spread + 1e-3 * float(np.ptp(flat)))
        top = top + np.polyval(np.polyfit(x[near], flat[near], 1), x)
    flat = mean - top
    noise = robust_sigma(flat[near])
    runs, count = ndimage.label(flat < -max(6 * noise, SHALLOWEST * float(np.ptp(flat))))
    spans = [
        (run.start - BESIDE_PX, run.stop + BESIDE_PX)
        for (run,) in ndimage.find_objects(runs)[:count]
        if run.stop - run.start >= 3
    ]
    return np.asarray(top), spans


def _cuts(spans: list[tuple[int, int]], reach: int, n: int) -> list[slice]:
    """Return trenches with what the tip may have rounded off beside them."""
    starts = [0, *(b for _, b in spans)]
    ends = [*(a for a, _ in spans), n]
    return [
        slice(max(a - reach, (a + starts[i]) // 2), min(b + reach, (b + ends[i + 1] + 1) // 2))
        for i, (a, b) in enumerate(spans)
    ]


def _profile(
    image: Floats, surface: Floats, first: int, dx: float, tip: _Tip, noise: float
) -> tuple[float, ...]:
    """Return what one profile of a trench tells, as numbers."""
    lowest = int(np.argmin(image))
    tolerance = max(3 * noise, FLOOR * abs(float(image[lowest])))
    on_floor = np.flatnonzero(image <= image[lowest] + tolerance)
    # Heights are means over pixels: the outer two of a floor have a part of the wall in them.
    inner = on_floor[1:-1] if len(on_floor) > 2 else [lowest]
    depth = -float(np.median(image[inner]))
    travel = (on_floor[-1] - on_floor[0]) * dx
    reached = len(on_floor) >= LEAST_FLOOR_PX
    walls = []
    lowest = int(np.argmin(surface))
    for side, branch in enumerate((surface[lowest::-1], surface[lowest:])):
        at = [_up(branch, -share * depth) * dx for share in (*RIM, *WALL)]
        slope = (at[0] - at[1]) / (RIM[1] - RIM[0])  # outwards, over the whole depth
        rim = at[0] + RIM[0] * slope
        run = at[2] - at[3]
        high, low = (tip.half_widths((1 - share) * depth)[side] for share in WALL)
        limited = run <= high - low + dx or not reached
        angle = np.rad2deg(np.arctan2((WALL[1] - WALL[0]) * depth, max(run, 0.0)))
        floor_at = at[2] - (1 - WALL[0]) * run / (WALL[1] - WALL[0])
        sign = -1 if side == 0 else 1
        walls.append(
            (
                (first + lowest) * dx + sign * rim,
                float(angle),
                float(limited),
                (first + lowest) * dx + sign * floor_at,
            )
        )
    return (depth, float(reached), travel, *walls[0], *walls[1])


def _up(branch: Floats, level: float) -> float:
    """Return the pixel, counted from the lowest, where a branch first passes a level upwards."""
    above = np.flatnonzero(branch >= level)
    if not len(above) or above[0] == 0:
        return float(len(branch) - 1 if not len(above) else 0)
    j = int(above[0])
    return float(j - 1 + (level - branch[j - 1]) / (branch[j] - branch[j - 1]))


def _together(blocks: Floats, dx: float) -> Trench:
    """Return the blocks' mean, with bounds."""
    mean = np.mean(blocks, axis=0)
    spread = np.std(blocks, axis=0, ddof=1) / np.sqrt(len(blocks))
    depth, _, travel, left, left_angle, _, left_floor, right, right_angle, _, right_floor = mean
    reached = bool(mean[1] > 0.5)
    left_limited, right_limited = bool(mean[5] > 0.5), bool(mean[9] > 0.5)
    top = right - left
    widths = blocks[:, 7] - blocks[:, 3]
    u_top = np.hypot(np.std(widths, ddof=1) / np.sqrt(len(widths)), dx / np.sqrt(6))
    # A wall whose slope isn't known ends between where the tip turned back and its upper rim.
    widest = (right if right_limited else right_floor) - (left if left_limited else left_floor)
    least = travel if left_limited or right_limited else widest
    if not reached:
        least = 0.0
    walls = []
    for place, angle, limited, u in (
        (left, left_angle, left_limited, spread[4]),
        (right, right_angle, right_limited, spread[8]),
    ):
        # a pixel's width of uncertainty in the run of the wall
        run = (WALL[1] - WALL[0]) * depth / np.tan(np.deg2rad(min(angle, 89.9)))
        rise = (WALL[1] - WALL[0]) * depth
        by_pixel = np.rad2deg(rise / (rise**2 + run**2)) * dx / np.sqrt(6)
        walls.append(Wall(float(place), float(angle), float(np.hypot(u, by_pixel)), limited))
    return Trench(
        top_width_nm=float(top),
        top_width_uncertainty_nm=float(u_top),
        depth_nm=float(depth),
        depth_uncertainty_nm=float(spread[0]),
        bottom_reached=reached,
        bottom_width_nm=float(least),
        bottom_width_bounds_nm=(float(least), float(max(widest, least))),
        reached_fraction=float(np.clip(travel / widest, 0, 1)) if reached else 0.0,
        left=walls[0],
        right=walls[1],
    )
