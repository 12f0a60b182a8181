"""The default way from dark-field images to the atoms of every column.

Frames are registered and added up, columns found and integrated to cross-sections. Where the
crystal and the microscope are known a library of cross-sections is simulated and fitted with a free
scale (hybrid counting); where not, the groups of the cross-sections themselves must do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from nanophantom.analysis.atom_counting import count
from nanophantom.analysis.counting_library import library_for
from nanophantom.analysis.registration import register

MOST_ATOMS = 40
"""A library never goes beyond."""


def count_atoms(images: npt.ArrayLike, settings: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """Find the columns of dark-field images and count the atoms of each.

    Parameters
    ----------
    images : (frames, ny, nx) or (ny, nx) array
        Electrons counted.
    settings : mapping
        "pixel_size_nm" and "beam_electrons", electrons of the beam at each position of a frame;
        for a library "crystal", "energy_kev", "semiangle_mrad" and "detectors" (see
        `counting_library.library_for`), or a "library" of one's own; "sigma_scale" and all else
        that `atom_counting.count` takes.

    Returns
    -------
    dict of (n,) arrays
        x_nm, y_nm in frame 0, n_atoms, confidence, cross_section_A2, sigma_A2; with a library
        also expected_A2, the library's cross-section of that number of atoms.

    Raises
    ------
    ValueError
        A setting is missing or wrong, or images aren't finite with the shape (frames, ny, nx).
    """
    stack = np.asarray(images)
    if stack.ndim == 2:
        stack = stack[None]
    if stack.ndim != 3 or not len(stack):
        raise ValueError(
            f"images have the shape (frames, ny, nx) or (ny, nx) with a frame, got {stack.shape}"
        )
    total = np.asarray(stack[0] if len(stack) == 1 else register(stack).aligned_sum, np.float64)
    given = dict(settings)
    if given.get("beam_electrons") is not None:
        given["beam_electrons"] = float(given["beam_electrons"]) * len(stack)
    library = given.get("library")
    if library is None:
        library = given["library"] = _library(total, given)
    # The beam current is known to a per cent or so; what is left is the library's own error.
    given.setdefault("sigma_scale", 0.02)
    found = count(total, given)
    if library is not None:
        n = np.r_[0, library["n_atoms"]]
        expected = np.r_[0.0, library["cross_section_A2"]]
        found["expected_A2"] = np.interp(found["n_atoms"], n, expected)
    return found


def _library(total: npt.NDArray[np.float64], settings: Mapping[str, Any]) -> Any:
    """Simulate a library that reaches beyond the thickest column; None if too little is known."""
    if settings.get("beam_electrons") is None:
        return None
    one_group = {"method": "statistics", "first_count": 1, "max_components": 1}
    start = count(total, {**settings, **one_group})
    if not len(start["n_atoms"]):
        return None
    largest = 1.25 * float(np.max(start["cross_section_A2"]))
    for most in (12, 24, MOST_ATOMS):
        library = library_for(settings, most)
        if library is None or np.max(library["cross_section_A2"]) > largest:
            return library
    return library
