"""The default ways from a drifting series of a known crystal to a map of its strain.

Frames are registered and added up. Then either columns are found, located as the tops of a smoothed
image and a lattice fitted around each (peak pairs), or the phases of two sets of fringes are
followed (geometric phase analysis). The strain is relative to the crystal that the operator put in,
as it would be without strain.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import KDTree

from nanophantom.analysis.columns import Contrast, find_columns
from nanophantom.analysis.geometric_phase import GeometricPhase, geometric_phase
from nanophantom.analysis.known_crystal import KnownCrystal
from nanophantom.analysis.lattice import Strain, cross, strain_of
from nanophantom.analysis.noise import Noise
from nanophantom.analysis.peak_pairs import ColumnStrain, peak_pairs
from nanophantom.analysis.peak_tops import peak_tops
from nanophantom.analysis.registration import register

FloatArray = npt.NDArray[np.float64]

MOST_INDEX = 3
"""Lattice vectors with indices up to this are projected; primitive cells need no more."""
FILTER_WIDTHS, FILTER_SPACINGS = 1.3, 0.22
"""The filter's width in widths of the columns, and at most in distances of neighbours: wide enough
that what the lens draws into a column counts little, and neighbours stay apart."""
WHOLE_WIDTHS, LEAST_EXPOSURE = 3.0, 0.5
"""Columns must lie so many filter widths inside of what at least half of the frames show."""
LEAST_SPACING_NM = 0.08
"""Columns that would be closer than this aren't columns: the beam isn't along a zone axis."""


def find(images: npt.ArrayLike, settings: Mapping[str, Any]) -> dict[str, FloatArray]:
    """Measure the strain at every atomic column, from the columns around it.

    Parameters
    ----------
    images : (frames, ny, nx) or (ny, nx) array
        Counts, or a signal linear in them.
    settings : mapping
        "pixel_size_nm"; if known "contrast": "bright" or "dark", as atoms look, and "crystal"
        (see `KnownCrystal.of`), which strain is relative to. Without it the median lattice of the
        image counts as unstrained.

    Returns
    -------
    dict of (n,) arrays
        x_nm, y_nm in frame 0; exx, eyy, exy and rotation_rad, x to the right and y down;
        sigma_exx, sigma_eyy, sigma_exy: standard uncertainties.

    Raises
    ------
    ValueError
        The pixel size is missing, the images are of the wrong shape, or there is no lattice.
    """
    total, coverage, pixel_nm = _summed(images, settings)
    contrast: Contrast = settings.get("contrast") or "auto"
    columns = find_columns(total, pixel_nm, contrast, coverage)
    points, sigma_nm = _located(total, coverage, pixel_nm, columns)
    strain = _honest_peak_pairs(points, sigma_nm, _unstrained(settings))
    # Where even that doesn't explain what a fit leaves, its own misfit says how wrong it may be.
    cautious = np.sqrt(np.maximum(strain.misfit, 1.0))
    answer = {"x_nm": points[:, 0], "y_nm": points[:, 1]}
    answer |= {name: getattr(strain, name) for name in ("exx", "eyy", "exy", "rotation_rad")}
    answer |= {
        f"sigma_{e}": cautious * getattr(strain, f"sigma_{e}") for e in ("exx", "eyy", "exy")
    }
    return {name: values[strain.valid] for name, values in answer.items()}


def by_geometric_phase(images: npt.ArrayLike, settings: Mapping[str, Any]) -> dict[str, FloatArray]:
    """Measure the strain by geometric phase analysis, on a grid half its resolution fine.

    Parameters, answer and errors are those of :func:`find`.
    """
    total, _, pixel_nm = _summed(images, settings)
    lattice = _unstrained(settings)
    reflections: FloatArray | None = None
    if lattice is not None:
        reflections = np.asarray(pixel_nm * np.linalg.inv(lattice).T, np.float64)
    phase = geometric_phase(total, reflections)
    strain = phase if reflections is None else _relative_to(reflections, phase)
    step = max(1, int(phase.resolution_px / 2))
    at = np.zeros(total.shape, bool)
    at[step // 2 :: step, step // 2 :: step] = True
    at &= phase.valid
    y, x = np.nonzero(at)
    answer = {"x_nm": x * pixel_nm, "y_nm": y * pixel_nm}
    answer |= {name: getattr(strain, name)[at] for name in ("exx", "eyy", "exy", "rotation_rad")}
    return answer | {f"sigma_{e}": getattr(phase, f"sigma_{e}")[at] for e in ("exx", "eyy", "exy")}


def projected_lattice(crystal: KnownCrystal) -> FloatArray:
    """Return the two shortest vectors between equal columns, seen along the beam, (2, 2) rows.

    Raises
    ------
    ValueError
        The beam isn't along a zone axis: the projected lattice is too fine to be seen.
    """
    index = np.array(list(product(range(-MOST_INDEX, MOST_INDEX + 1), repeat=3)))
    vectors = index @ crystal.cell_nm[:, :2]
    length = np.hypot(*vectors.T)
    vectors = vectors[length > 1e-6]
    vectors = vectors[np.argsort(np.round(np.hypot(*vectors.T), 9), kind="stable")]
    area = np.abs(cross(vectors[0], vectors))
    apart = area > 1e-3 * np.hypot(*vectors[0]) * np.hypot(*vectors.T)
    if not np.any(apart) or np.hypot(*vectors[0]) < LEAST_SPACING_NM:
        raise ValueError("the known crystal shows no columns: its zone axis must lie along z")
    return np.stack([vectors[0], vectors[np.argmax(apart)]])


def _located(
    total: FloatArray, coverage: FloatArray, pixel_nm: float, columns: Mapping[str, FloatArray]
) -> tuple[FloatArray, FloatArray]:
    """Return where columns stand (n, 2) and how well that is known (n,), in nm."""
    x, y = columns["x_nm"] / pixel_nm, columns["y_nm"] / pixel_nm
    if len(x) < 2:
        raise ValueError("fewer than two columns were found: there is no strain to measure")
    points = np.column_stack([x, y])
    spacing = float(np.median(KDTree(points).query(points, 2)[0][:, 1]))
    width = float(np.median(columns["width_nm"])) / pixel_nm
    exposure = coverage / np.max(coverage)
    seen = np.maximum(exposure, 1e-3)
    variance = np.maximum(Noise.of(total, exposure).variance(total, seen), 0.0)
    filter_px = max(0.5, min(FILTER_WIDTHS * width, FILTER_SPACINGS * spacing))
    sign = float(np.sign(np.median(columns["height"])))
    x, y, sigma = peak_tops(total, x, y, filter_px, variance, sign)
    found = np.isfinite(x)
    # Nearer to the edge the filter lacks a part of the image.
    side = 2 * int(np.ceil(WHOLE_WIDTHS * filter_px)) + 1
    whole = ndimage.minimum_filter(exposure, side, mode="constant") > LEAST_EXPOSURE
    row, column = (np.rint(v[found]).astype(int) for v in (y, x))
    found[found] = whole[
        np.clip(row, 0, total.shape[0] - 1), np.clip(column, 0, total.shape[1] - 1)
    ]
    return np.column_stack([x, y])[found] * pixel_nm, sigma[found] * pixel_nm


def _honest_peak_pairs(
    points_nm: FloatArray, sigma_nm: FloatArray, lattice_nm: FloatArray | None
) -> ColumnStrain:
    """Return the strain at columns with uncertainties no smaller than the fits' own residuals.

    What electrons don't explain (thermal motion, neighbours' tails, thickness, changes of strain
    within a neighbourhood) shows as a misfit above one; a variance that is the same for all
    columns is then added to those of counting until the median misfit is one.
    """
    extra = 0.0
    for _ in range(8):
        spread = np.sqrt(sigma_nm**2 + extra)
        strain = peak_pairs(points_nm, spread, reference=lattice_nm)
        misfit = float(np.nanmedian(strain.misfit[strain.valid]))
        if misfit <= 1.02:
            break
        extra += (misfit - 1) * float(np.median(spread)) ** 2
    return strain


def _summed(
    images: npt.ArrayLike, settings: Mapping[str, Any]
) -> tuple[FloatArray, FloatArray, float]:
    """Return the registered sum, how many frames each pixel has, and the pixel size."""
    if settings.get("pixel_size_nm") is None:
        raise ValueError('settings lack "pixel_size_nm": the width of a pixel in nm')
    stack = np.asarray(images)
    if stack.ndim == 2:
        stack = stack[None]
    if stack.ndim != 3 or not len(stack):
        raise ValueError(
            f"images have the shape (frames, ny, nx) or (ny, nx) with a frame, got {stack.shape}"
        )
    pixel_nm = float(settings["pixel_size_nm"])
    if len(stack) == 1:
        return stack[0].astype(np.float64), np.ones(stack.shape[1:]), pixel_nm
    series = register(stack)
    total = np.asarray(series.aligned_sum, np.float64)
    return total, np.asarray(series.coverage, np.float64), pixel_nm


def _unstrained(settings: Mapping[str, Any]) -> FloatArray | None:
    """Return the known crystal's projected lattice, None if no crystal is known."""
    crystal = settings.get("crystal")
    return None if crystal is None else projected_lattice(KnownCrystal.of(crystal))


def _relative_to(reflections: FloatArray, phase: GeometricPhase) -> Strain:
    """Return the strain relative to a known lattice, not to the mean one of the image.

    With reciprocal vectors as rows, G = G_mean F**-1 in the image, so relative to G_known the
    deformation is F G_mean**-1 G_known.
    """
    shear, turn = phase.exy, phase.rotation_rad
    deformation = np.stack(
        [
            np.stack([1 + phase.exx, shear - turn], axis=-1),
            np.stack([shear + turn, 1 + phase.eyy], axis=-1),
        ],
        axis=-2,
    )
    return strain_of(deformation @ np.linalg.inv(phase.reflections_per_px) @ reflections)
