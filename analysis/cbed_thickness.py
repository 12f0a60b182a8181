"""The default way from position-averaged diffraction patterns of a known crystal to its thickness.

A library of patterns is simulated for every whole number of lattice periods along the beam (see
`position_average`), and each measured pattern is fitted with it (see `pacbed`).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from nanophantom.analysis import pacbed
from nanophantom.analysis.known_crystal import KnownCrystal
from nanophantom.analysis.position_average import PlaneWaves, lattice_over_aperture
from nanophantom.simcore.electrons.batch import Disk
from nanophantom.simcore.electrons.constants import wavelength

FloatArray = npt.NDArray[np.float64]

DIRECTIONS_A_PIXEL = 2
"""Directions of incidence along a pixel's edge: a whole number, so that every pixel of a disk gets
as many, wherever its disk's centre falls between pixels."""
LIBRARY_STEP_NM = 0.7
"""Thicknesses of the library are at least so far apart; contrast changes over several nm."""
THICKEST_NM = 40.0
WIDTH_NM = 1.1
"""Of the supercell whose atoms move independently."""
CONFIGURATIONS = 12
BAND = 1.3
"""Band limit of the waves in units of the largest angle on the camera."""
OVERSAMPLING = 2.0
"""See `PlaneWaves`."""
NEEDED = "crystal", "energy_kev", "semiangle_mrad", "pixel_size_mrad"


def measure(patterns: npt.ArrayLike, settings: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """Measure the thickness behind every pattern.

    Parameters
    ----------
    patterns : (n, ny, nx) or (ny, nx) array
        Electrons counted.
    settings : mapping
        "crystal" (see `KnownCrystal`), "energy_kev", "semiangle_mrad", "pixel_size_mrad"; maybe
        "thickest_nm", the end of the library, 40 by default.

    Returns
    -------
    dict of (n,) arrays
        pattern, its index; thickness_nm; sigma_nm; chi2 and confidence of the fit. A pattern that
        fits best at the end of the library, or not at all, is left out.

    Raises
    ------
    ValueError
        A setting is missing or wrong, or patterns aren't counts of the shape (n, ny, nx).
    """
    stack = np.asarray(patterns)
    if stack.ndim == 2:
        stack = stack[None]
    if stack.ndim != 3 or not len(stack):
        raise ValueError(
            f"patterns have the shape (n, ny, nx) or (ny, nx) with a pattern, got {stack.shape}"
        )
    thickness_nm, library = library_for(settings, (int(stack.shape[1]), int(stack.shape[2])))
    found = []
    for i, pattern in enumerate(stack):
        try:
            match = pacbed.match(pattern, thickness_nm, library)
        except ValueError:  # beyond the library, or empty
            continue
        found.append((i, match.thickness_nm, match.sigma_nm, match.chi2, match.confidence))
    columns = np.array(found, np.float64).reshape(-1, 5).T
    names = "pattern", "thickness_nm", "sigma_nm", "chi2", "confidence"
    return dict(zip(names, columns, strict=True))


def library_for(
    settings: Mapping[str, Any], shape: tuple[int, int]
) -> tuple[FloatArray, npt.NDArray[np.float32]]:
    """Simulate patterns of a known crystal at all thicknesses; the last few are kept in memory.

    Parameters
    ----------
    settings
        As for `measure`.
    shape
        Pixels (height, width); the direct beam falls in the middle.

    Returns
    -------
    thickness_nm : (m,)
    patterns : (m, height, width)
        Parts of the incident electrons.
    """
    missing = [name for name in NEEDED if settings.get(name) is None]
    if missing:
        raise ValueError(f"settings lack {', '.join(missing)}; a thickness needs a library")
    crystal = json.dumps(
        {name: np.asarray(values).tolist() for name, values in settings["crystal"].items()}
    )
    numbers = (float(settings[name]) for name in NEEDED[1:])
    return _library(crystal, *numbers, float(settings.get("thickest_nm") or THICKEST_NM), shape)


@functools.lru_cache(maxsize=4)
def _library(
    crystal_json: str,
    energy_kev: float,
    semiangle_mrad: float,
    pixel_mrad: float,
    thickest_nm: float,
    shape: tuple[int, int],
) -> tuple[FloatArray, npt.NDArray[np.float32]]:
    crystal = KnownCrystal.of(json.loads(crystal_json))
    period_nm = crystal.period_along_beam_nm()
    step_nm = period_nm * max(1, round(LIBRARY_STEP_NM / period_nm))
    depths_nm = step_nm * np.arange(1, int(thickest_nm / step_nm) + 1)
    mrad = 1e3 * float(wavelength(energy_kev))  # angle of a frequency of 1/Å
    reach_mrad = 0.5 * pixel_mrad * float(np.hypot(*shape))
    k_max = BAND * max(reach_mrad, semiangle_mrad) / mrad
    waves = PlaneWaves(
        crystal,
        energy_kev,
        k_max,
        depths_nm.tolist(),
        WIDTH_NM,
        CONFIGURATIONS,
        oversampling=OVERSAMPLING,
    )
    height, width = shape

    def read(disk: Disk, seen: FloatArray) -> tuple[npt.NDArray[np.intp], FloatArray]:
        """Return the pixels that are hit, and the intensities (depths, pixels) there."""
        column = np.rint(disk.kx * mrad / pixel_mrad + (width - 1) / 2).astype(np.intp)
        row = np.rint(disk.ky * mrad / pixel_mrad + (height - 1) / 2).astype(np.intp)
        on = disk.inside & (row >= 0) & (row < height) & (column >= 0) & (column < width)
        return (row * width + column)[on], seen[:, on]

    directions = lattice_over_aperture(semiangle_mrad, pixel_mrad / DIRECTIONS_A_PIXEL)
    patterns = np.zeros((len(depths_nm), height * width))
    for pixels, values in waves.intensities(directions, np.random.default_rng(20100118), read):
        for total, own in zip(patterns, values, strict=True):
            total += np.bincount(pixels, own, len(total))
    patterns /= len(directions)
    images = patterns.reshape(-1, height, width).astype(np.float32)
    return np.asarray(depths_nm, np.float64), np.asarray(images)
