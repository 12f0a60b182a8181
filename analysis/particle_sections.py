"""Top and width of one particle, from a height image and its sections below the top.

Near a sphere's equator no tip gets; a section at a depth t below the top has the area
pi t (d - t), whatever the sphere stands on, and that of a spheroid of height h has the area
pi D² f (1 - f) with f = t / h. Where another particle touches, the tip reaches no flank: these
directions are left out.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Shape = Literal["sphere", "spheroid"]

DEPTHS = (0.24, 0.28, 0.32, 0.36)
"""Sections are taken so deep below the top, in heights: slopes of 59 to 74 degrees of a sphere."""
CLEFT_DEG = 60.0
"""What lies so near to the direction of a touching particle isn't measured: no tip gets there."""
LEAST_OPEN = 0.2
"""Share of the circle that must be left; with less all of it is measured after all."""
SECTION_PX = 0.03
"""Standard uncertainty of a section's diameter, in pixels, from its outline."""
PLACE_PX = 0.15
"""Standard uncertainty of a width, in pixels, since a pixel is a mean over the way through it."""


def lateral_diameter(
    heights: Floats,
    own: Bools,
    around: list[Floats],
    top: tuple[float, float, float],
    height: tuple[float, float],
    u_top: float,
    pixel: tuple[float, float],
    shape: Shape,
) -> tuple[float, float, bool]:
    """Return a particle's diameter by its sections, its standard uncertainty, and if flanks show.

    Parameters
    ----------
    heights : (ny, nx)
        Heights without the tip's width, nm.
    own : (ny, nx) bool
        Pixels of the particle.
    around
        Tops (y, x) in nm of the particles that touch it.
    top
        Its own (y, x, height), nm.
    height
        Of the top over the support, and its standard uncertainty.
    u_top
        Standard uncertainty of the top.
    pixel : (y, x)
        In nm.
    shape
        Which law the sections follow.
    """
    h, u_height = height
    depths = np.array(DEPTHS) * h
    free, share = facing_no_neighbour(own, around, top[:2], pixel)
    open_share = share if share >= LEAST_OPEN else 1.0
    seen = free if share >= LEAST_OPEN else own
    areas = np.array([area_above(heights, seen, top[2] - t, pixel) for t in depths]) / open_share
    spheres = depths + areas / (np.pi * depths)
    spheroids = 2 * np.sqrt(areas / (np.pi * 4 * np.array(DEPTHS) * (1 - np.array(DEPTHS))))
    # d = t + A/(pi t) and D = sqrt(A/(pi f (1 - f))), f = t/h: how errors of the outline, the
    # top and the height go in
    outline, f = SECTION_PX * np.sqrt(pixel[0] * pixel[1]), float(np.mean(DEPTHS))
    place = PLACE_PX * max(pixel)
    if shape == "sphere":
        width = float(np.mean(spheres))
        over = width / (f * h) - 1
        parts: tuple[float, ...] = (
            2 * np.sqrt(max(over, 1.0)) * outline,
            (over - 1) * u_top,
            float(np.std(spheres)),
            place,
        )
    else:
        width = float(np.mean(spheroids))
        parts = (
            outline / np.sqrt(f * (1 - f)),
            width * (1 - 2 * f) / (2 * f * (1 - f)) * u_top / h,
            width * (1 - 2 * f) / (2 * (1 - f)) * u_height / h,
            float(np.std(spheroids)),
            place,
        )
    return width, root_sum(parts), share >= LEAST_OPEN


def root_sum(parts: tuple[float, ...]) -> float:
    """Return the standard uncertainty that independent parts make."""
    return float(np.sqrt(np.sum(np.square(parts))))


def top_vertex(
    heights: Floats, own: Bools, pixel: tuple[float, float], radius_nm: float
) -> tuple[float, float, float]:
    """Return place (y, x) in nm and height of the vertex of a paraboloid fitted to the top."""
    row, column = np.unravel_index(np.argmax(np.where(own, heights, -np.inf)), heights.shape)
    y, x = np.ogrid[: heights.shape[0], : heights.shape[1]]
    y_nm, x_nm = (y - row) * pixel[0], (x - column) * pixel[1]
    near = own & (np.hypot(y_nm, x_nm) <= max(radius_nm, 1.5 * max(pixel)))
    highest = (float(row * pixel[0]), float(column * pixel[1]), float(heights[row, column]))
    if np.count_nonzero(near) < 8:
        return highest
    v, u = (np.broadcast_to(c, own.shape)[near] for c in (y_nm, x_nm))
    terms = np.stack([np.ones(len(u)), u, v, u * u, u * v, v * v], axis=1)
    c = np.linalg.lstsq(terms, heights[near], rcond=None)[0]
    bend = np.array([[2 * c[3], c[4]], [c[4], 2 * c[5]]])
    if not np.all(np.linalg.eigvalsh(bend) < 0):
        return highest
    at = np.linalg.solve(bend, -c[1:3])
    if np.hypot(*at) > max(radius_nm, 1.5 * max(pixel)):
        return highest
    return highest[0] + float(at[1]), highest[1] + float(at[0]), float(c[0] + c[1:3] @ at / 2)


def facing_no_neighbour(
    own: Bools, around: list[Floats], top: tuple[float, float], pixel: tuple[float, float]
) -> tuple[Bools, float]:
    """Return a particle's pixels in directions free of clefts, and the share of the circle."""
    y, x = np.ogrid[: own.shape[0], : own.shape[1]]
    angle = np.arctan2(y * pixel[0] - top[0], x * pixel[1] - top[1])
    circle = np.linspace(-np.pi, np.pi, 720, endpoint=False)
    free, open_circle = np.ones(own.shape, bool), np.ones(len(circle), bool)
    for place in around:
        towards = np.arctan2(place[0] - top[0], place[1] - top[1])
        for directions, kept in ((angle, free), (circle, open_circle)):
            off = np.abs((directions - towards + np.pi) % (2 * np.pi) - np.pi)
            kept &= off > np.deg2rad(CLEFT_DEG)
    share = float(np.mean(open_circle))
    return own & free, share


def area_above(heights: Floats, own: Bools, height_nm: float, pixel: tuple[float, float]) -> float:
    """Return the area above a height; the outline's pixels count in part, after their slope."""
    slope_y, slope_x = np.gradient(heights)
    across = np.maximum(np.hypot(slope_y, slope_x), 1e-12)
    share = np.clip(0.5 + (heights - height_nm) / across, 0.0, 1.0)
    return float(np.sum(share[own])) * pixel[0] * pixel[1]
