"""Two analyses of one movie: each spot as one molecule, and overlapping spots as several.

Both fit spots of the known width, so that they differ in nothing but the number of molecules. (With
a fitted width, a merged spot is placed farther off, and the dimmest are lost.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from nanophantom.analysis.localize import Columns, Movie, localize

SINGLE, MULTIPLE = 0, 1
COMMON = ("frame", "x_nm", "y_nm", "photons", "background", "uncertainty_nm")


def single(movie: Movie, settings: Mapping[str, Any]) -> Columns:
    """Localize with one molecule a spot, each fitted with the others' light expected."""
    return localize(movie, settings, model="fixed", emitters="single")


def multiple(movie: Movie, settings: Mapping[str, Any]) -> Columns:
    """Localize with as many molecules as a group of spots needs; see `multi_emitter`."""
    return localize(movie, settings, emitters="multiple")


def both(movie: Movie, settings: Mapping[str, Any]) -> Columns:
    """Return both tables as one, with the column `analysis`: 0 for single, 1 for multiple.

    Parameters
    ----------
    movie : (n, ny, nx)
        ADU; an array, or anything with a shape that slices like one along its first axis.
    settings
        See `localize`.
    """
    tables = [single(movie, settings), multiple(movie, settings)]
    which: npt.NDArray[np.int64] = np.repeat([SINGLE, MULTIPLE], [len(t["frame"]) for t in tables])
    return {
        "analysis": which,
        **{name: np.concatenate([table[name] for table in tables]) for name in COMMON},
    }
