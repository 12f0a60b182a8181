"""Scattering cross-sections of atomic columns: normalised intensity integrated over a column.

In fractions of the beam the intensity is the probability that an electron is scattered to the
detector; its integral over the area of a column is a cross-section. Unlike the peak height it
hardly depends on probe, defocus, source size or small tilts, and it grows steadily with the
number of atoms.

Sources: E, MacArthur, Pennycook, Okunishi, D'Alfonso, Lugg, Allen and Nellist, Ultramicroscopy
133 (2013) 109 (integration over Voronoi cells); Van Aert et al., Ultramicroscopy 109 (2009) 1236
(Gaussians on a background).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import optimize, sparse
from scipy.sparse.linalg import splu
from scipy.spatial import KDTree

from nanophantom.analysis.filters import smooth
from nanophantom.analysis.noise import Noise

FloatArray = npt.NDArray[np.float64]

A2_PER_NM2 = 100.0
OPEN_CELL = 1.5
"""Default largest radius of a cell, in radii of a circle of the median cell's area.

Corners of square and hexagonal cells are at 1.25 and 1.10 radii; further out there is vacuum.
"""

EDGE_REACH = 1.25
"""Distance of the border, in largest radii: a column just beyond it would reach into the cell."""


def voronoi_cross_sections(
    image: npt.ArrayLike,
    pixel_size_nm: float,
    x_nm: npt.ArrayLike,
    y_nm: npt.ArrayLike,
    background: float = 0.0,
    beam_electrons: float | None = None,
    max_radius_nm: float | None = None,
) -> dict[str, npt.NDArray[np.generic]]:
    """Integrate an image over the Voronoi cells of its columns.

    A pixel that a border between two cells cuts is shared in proportion to the distance of its
    centre from the border; the sum over all cells is that of all pixels within reach.

    Parameters
    ----------
    image : (ny, nx) array
        Intensity in fractions of the beam.
    pixel_size_nm : float
        Width of a pixel.
    x_nm, y_nm : (n,) arrays
        Columns, from the centre of pixel (0, 0).
    background : float
        Fraction of the beam to subtract: a support film, or the detector's rest.
    beam_electrons : float, optional
        Electrons per pixel of the whole beam: the noise is then that of counting. Else it is
        measured from the image.
    max_radius_nm : float, optional
        Pixels further away belong to no column. 1.5 radii of the median cell if not given.

    Returns
    -------
    dict of (n,) arrays
        cross_section_A2; sigma_A2, its standard deviation by the noise of the image; area_A2 of
        the cell; edge: whether the image's border cuts the cell, or is so near that an
        unseen column beyond it would reach in; open: whether the cell ends at
        the largest radius, so not at neighbours on all sides.

    Raises
    ------
    ValueError
        If shapes or numbers are wrong, or a column lies outside of the image.
    """
    data, at = _checked(image, pixel_size_nm, x_nm, y_nm)
    variance = _variance(data, beam_electrons)
    ny, nx = data.shape
    n = len(at)
    rows, columns = (i.ravel() for i in np.indices((ny, nx)))
    distance, owner = KDTree(at).query(np.c_[rows, columns], k=[1, 2] if n > 1 else [1])
    distance, owner = np.asarray(distance, np.float64), np.asarray(owner, np.intp)
    first = owner[:, 0]
    border = (rows == 0) | (rows == ny - 1) | (columns == 0) | (columns == nx - 1)
    if max_radius_nm is None:
        cell = np.bincount(first, minlength=n)
        closed = np.bincount(first[border], minlength=n) == 0
        typical = np.median(cell[closed]) if np.any(closed) else np.median(cell)
        radius_px = OPEN_CELL * float(np.sqrt(max(1.0, typical) / np.pi))
    elif max_radius_nm > 0:
        radius_px = max_radius_nm / pixel_size_nm
    else:
        raise ValueError(f"max_radius_nm must be positive, got {max_radius_nm}")
    inside = distance[:, 0] <= radius_px
    near_border = border & (distance[:, 0] <= EDGE_REACH * radius_px)
    edge = np.bincount(first[near_border], minlength=n) > 0
    is_open = np.bincount(first[~inside], minlength=n) > 0

    share, second = np.ones(data.size), first
    if n > 1:
        second = owner[:, 1]
        apart = np.hypot(*(at[first] - at[second]).T)
        to_border = (distance[:, 1] ** 2 - distance[:, 0] ** 2) / (2 * np.maximum(apart, 1e-9))
        share = np.minimum(1.0, 0.5 + to_border)

    def over_cells(values: FloatArray, power: int = 1) -> FloatArray:
        own = np.bincount(first[inside], (share**power * values)[inside], n)
        others = np.bincount(second[inside], ((1 - share) ** power * values)[inside], n)
        return np.asarray(own + others, np.float64)

    area_A2 = A2_PER_NM2 * pixel_size_nm**2
    return {
        "cross_section_A2": area_A2 * over_cells(data.ravel() - background),
        "sigma_A2": area_A2 * np.sqrt(over_cells(variance.ravel(), power=2)),
        "area_A2": area_A2 * over_cells(np.ones(data.size)),
        "edge": edge,
        "open": is_open,
    }


def gaussian_cross_sections(
    image: npt.ArrayLike,
    pixel_size_nm: float,
    x_nm: npt.ArrayLike,
    y_nm: npt.ArrayLike,
    beam_electrons: float | None = None,
    edge_widths: float = 2.0,
) -> dict[str, npt.NDArray[np.generic]]:
    """Fit a Gaussian to each column, all of one width, on a constant background.

    Volumes and background are a linear least-squares fit, weighted with the noise, at the width
    that leaves the least residual. Overlapping columns share the intensity as the model says.

    Parameters
    ----------
    image, pixel_size_nm, x_nm, y_nm, beam_electrons
        As for :func:`voronoi_cross_sections`.
    edge_widths : float
        Columns nearer to the image's border than this many widths are flagged.

    Returns
    -------
    dict of (n,) arrays
        cross_section_A2: volumes; sigma_A2: from the fit's covariance at the width found; width_nm
        and background, the same for all; edge.

    Raises
    ------
    ValueError
        If shapes or numbers are wrong, a column lies outside of the image, or two coincide.
    """
    data, at = _checked(image, pixel_size_nm, x_nm, y_nm)
    weight = 1 / _variance(data, beam_electrons)
    n = len(at)
    widest = 0.25 * min(data.shape)
    if n > 1:
        nearest = KDTree(at).query(at, k=2)[0][:, 1]
        if np.min(nearest) < 0.5:
            raise ValueError("two columns coincide within half a pixel: each must be given once")
        widest = min(widest, 0.7 * float(np.median(nearest)))

    def fit(width_px: float) -> tuple[float, FloatArray, Callable[[FloatArray], FloatArray]]:
        design = _design(data.shape, at, width_px)
        normal = (design.T @ design.multiply(weight.reshape(-1, 1))).tocsc()
        solve = splu(normal).solve
        volumes = solve(design.T @ (weight * data).ravel())
        residual = data.ravel() - design @ volumes
        return float(residual**2 @ weight.ravel()), volumes, solve

    best = optimize.minimize_scalar(
        lambda log_width: fit(float(np.exp(log_width)))[0],
        bounds=(np.log(0.6), np.log(max(0.7, widest))),
        method="bounded",
        options={"xatol": 1e-4},
    )
    width_px = float(np.exp(best.x))
    _, volumes, solve = fit(width_px)
    variance = np.empty(n)
    for chunk in np.array_split(np.arange(n), n // 256 + 1):
        unit = np.zeros((n + 1, len(chunk)))
        unit[chunk, np.arange(len(chunk))] = 1
        variance[chunk] = solve(unit)[chunk, np.arange(len(chunk))]

    to_border = np.minimum(at, np.array(data.shape) - 1 - at).min(axis=1)
    area_A2 = A2_PER_NM2 * pixel_size_nm**2
    return {
        "cross_section_A2": area_A2 * volumes[:n],
        "sigma_A2": area_A2 * np.sqrt(variance),
        "width_nm": np.full(n, width_px * pixel_size_nm),
        "background": np.full(n, volumes[n]),
        "edge": to_border < edge_widths * width_px,
    }


def _design(shape: tuple[int, ...], at: FloatArray, width_px: float) -> sparse.csr_matrix:
    """Return the (pixels, n + 1) matrix of Gaussians of unit volume and of the background."""
    ny, nx = shape
    radius = int(np.ceil(5 * width_px))
    offset = np.arange(-radius, radius + 1)
    rows = np.rint(at[:, 0]).astype(int)[:, None] + offset
    columns = np.rint(at[:, 1]).astype(int)[:, None] + offset
    gy = np.exp(-0.5 * ((rows - at[:, :1]) / width_px) ** 2)
    gx = np.exp(-0.5 * ((columns - at[:, 1:]) / width_px) ** 2)
    values = gy[:, :, None] * gx[:, None, :] / (2 * np.pi * width_px**2)
    inside = ((rows >= 0) & (rows < ny))[:, :, None] & ((columns >= 0) & (columns < nx))[:, None, :]
    pixel = (rows[:, :, None] * nx + columns[:, None, :])[inside]
    which = np.broadcast_to(np.arange(len(at))[:, None, None], values.shape)[inside]
    spots = sparse.csr_matrix((values[inside], (pixel, which)), shape=(ny * nx, len(at)))
    return sparse.hstack([spots, np.ones((ny * nx, 1))], format="csr")


def _variance(data: FloatArray, beam_electrons: float | None) -> FloatArray:
    """Return the variance of a pixel, in fractions of the beam squared."""
    exposure = np.ones(data.shape)
    if beam_electrons is None:
        noise = Noise.of(data, exposure)
    elif beam_electrons > 0 and np.isfinite(beam_electrons):
        noise = Noise(1 / beam_electrons, is_counts=True)
    else:
        raise ValueError(f"beam_electrons must be a positive number, got {beam_electrons}")
    # A pixel's own counts would weigh a downward fluctuation too much: take the surroundings'.
    return noise.variance(smooth(data, 1.5), exposure)


def _checked(
    image: npt.ArrayLike, pixel_size_nm: float, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Return the image and the columns (n, 2) as (y, x) in pixels, or say what is wrong."""
    data = np.asarray(image)
    if data.ndim != 2 or min(data.shape) < 4 or data.dtype.kind not in "uif":
        raise ValueError(f"an image is real, (ny, nx) with 4 x 4 pixels or more, got {data.shape}")
    if not np.all(np.isfinite(data)):
        raise ValueError("an image must be finite: it holds NaN or infinite values")
    if not (np.isfinite(pixel_size_nm) and pixel_size_nm > 0):
        raise ValueError(f"pixel_size_nm must be a positive number, got {pixel_size_nm}")
    x, y = np.asarray(x_nm, np.float64), np.asarray(y_nm, np.float64)
    if x.ndim != 1 or x.shape != y.shape or not len(x):
        raise ValueError(f"x_nm and y_nm are of one shape (n,), got {x.shape} and {y.shape}")
    at = np.stack([y, x], axis=1) / pixel_size_nm
    outside = ~np.all((at >= -0.5) & (at <= np.array(data.shape) - 0.5), axis=1)
    if np.any(outside):
        raise ValueError(f"{int(np.sum(outside))} columns lie outside of the image")
    return data.astype(np.float64), at
