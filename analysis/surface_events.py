"""The default way from a movie to its events: where and when atoms appear and vanish.

The frames are registered. Columns are looked for in the sum of all of them, where those that are
there for a while only are faint or missing: places at which parts of the movie differ from the
rest add these. Each of the sites then has its signal followed from frame to frame. What vanishes
while something appears next to it has hopped: the two events are one moment, measured twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from nanophantom.analysis.columns import find_columns
from nanophantom.analysis.movie_events import Contrast, detect_events, link_hops
from nanophantom.analysis.registration import Registration, register
from nanophantom.analysis.transient_sites import find_transient_sites

FloatArray = npt.NDArray[np.float64]

SAME_SITE_NM = 0.08
"""Columns nearer to each other than this are one."""
HOP_NM = 0.4
"""An atom hops no farther than this: neighbours of metals and oxides are nearer in projection."""
HOP_FRAMES = 2.0
"""The two events of a hop are found no farther apart than so many frames."""
AGREE = 4.0
"""Nor by more than so many standard deviations of their difference."""
NARROWEST_PX = 0.7
"""Spots are taken to be this wide at least, as their traces ask for."""


def find(images: npt.ArrayLike, settings: Mapping[str, Any]) -> dict[str, FloatArray]:
    """Find where and when atoms or columns of atoms appear and vanish.

    Parameters
    ----------
    images : (frames, ny, nx) array
        Counted electrons, or a multiple of them.
    settings : mapping
        "pixel_size_nm" and "exposure_s"; if known "frame_period_s" (the exposure otherwise),
        "counts_per_electron" (1), "contrast": "bright" or "dark", as atoms look.

    Returns
    -------
    dict of (events,) arrays, ordered in time
        x_nm, y_nm: the site in the coordinates of frame 0, the centre of pixel (0, 0) being the
        origin; t_s: time since the first frame's shutter opened; kind: +1 where an atom appears,
        -1 where one vanishes; sigma_t_s: standard deviation of t_s.

    Raises
    ------
    ValueError
        If a setting is missing or wrong, or the images aren't a movie of two frames or more.
    """
    pixel_nm, exposure_s = (_positive(settings, name) for name in ("pixel_size_nm", "exposure_s"))
    period_s = exposure_s
    if settings.get("frame_period_s") is not None:
        period_s = _positive(settings, "frame_period_s")
    stack = np.asarray(images)
    if stack.ndim != 3 or len(stack) < 2:
        raise ValueError(
            f"a movie has the shape (frames, ny, nx) with two frames or more, got {stack.shape}"
        )
    # A camera that misses electrons still counts the others one by one; more is a gain.
    gain = float(settings.get("counts_per_electron") or 1.0)
    if gain > 1.0:
        stack = stack / np.float32(gain)
    series = register(stack)
    sites_px, width_px, contrast = sites_of(stack, series, pixel_nm, settings.get("contrast"))
    events = detect_events(
        stack, series.shifts_px, sites_px, exposure_s, period_s, width_px, contrast
    )
    time_s, sigma_s = times_of_hops(events, sites_px, HOP_NM / pixel_nm, HOP_FRAMES * period_s)
    y_px, x_px = sites_px[events["site"]].T
    order = np.argsort(time_s, kind="stable")
    found = {
        "x_nm": x_px * pixel_nm,
        "y_nm": y_px * pixel_nm,
        "t_s": time_s,
        "kind": np.where(events["kind"] == "appears", 1.0, -1.0),
        "sigma_t_s": sigma_s,
    }
    return {name: values[order] for name, values in found.items()}


def times_of_hops(
    events: Mapping[str, npt.NDArray[Any]],
    sites_px: FloatArray,
    radius_px: float,
    max_dt_s: float,
) -> tuple[FloatArray, FloatArray]:
    """Return times and standard deviations of events, those of a hop brought together.

    Both events of a hop get the mean of their times, weighted with their inverse variances.
    """
    time, sigma = events["time_s"].copy(), events["sigma_time_s"].copy()
    hops = link_hops(dict(events), sites_px, radius_px, max_dt_s)
    for pair in np.column_stack([hops["vanishes"], hops["appears"]]):
        weight = sigma[pair] ** -2.0
        if np.ptp(time[pair]) <= AGREE * np.sqrt(np.sum(sigma[pair] ** 2)):
            time[pair] = np.sum(weight * time[pair]) / weight.sum()
            sigma[pair] = weight.sum() ** -0.5
    return time, sigma


def sites_of(
    stack: npt.NDArray[Any],
    series: Registration,
    pixel_size_nm: float,
    contrast: Contrast | None = None,
) -> tuple[FloatArray, float, Contrast]:
    """Return all sites (n, 2), (y, x) in pixels, the width of a column and how columns look.

    Raises
    ------
    ValueError
        If there is no column at all.
    """
    whole = find_columns(
        series.aligned_sum, pixel_size_nm, contrast or "auto", coverage=series.coverage
    )
    if not len(whole["x_nm"]):
        raise ValueError("no atoms stand out in the sum of all frames, so none can be followed")
    sign: Contrast = "bright" if np.median(whole["height"]) > 0 else "dark"
    width_px = max(NARROWEST_PX, float(np.median(whole["width_nm"])) / pixel_size_nm)
    sites = np.column_stack([whole["y_nm"], whole["x_nm"]]) / pixel_size_nm
    fleeting = find_transient_sites(
        stack,
        series.shifts_px,
        width_px,
        sign,
        known_sites_px=sites,
    )
    at_px = np.column_stack([fleeting["y_px"], fleeting["x_px"]])
    return with_new(sites, at_px, SAME_SITE_NM / pixel_size_nm), width_px, sign


def with_new(sites: FloatArray, more: FloatArray, distance: float) -> FloatArray:
    """Add those points, first come first served, that are as far as this from all before."""
    for point in more:
        if not len(sites) or KDTree(sites).query(point)[0] >= distance:
            sites = np.vstack([sites, point])
    return sites


def _positive(settings: Mapping[str, Any], name: str) -> float:
    """Return a setting that must be there and positive."""
    if settings.get(name) is None:
        raise ValueError(f"settings lack {name!r}")
    value = float(settings[name])
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a positive number, got {value}")
    return value
