"""From a drifting, counted movie to the critical dose of each of its reflections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from nanophantom.analysis.dose_weighting import mid_exposures
from nanophantom.analysis.fading import EVERLASTING, critical_doses, pooled_law
from nanophantom.analysis.registration import register

FloatArray = npt.NDArray[np.float64]

MERE_NOISE = 6.0
"""Height that the correlation peak of a frame of mere noise reaches, in standard deviations."""


def find(images: npt.ArrayLike, settings: Mapping[str, Any]) -> dict[str, FloatArray]:
    """Find the reflections of a movie, and after which dose each has faded.

    The frames are registered, and each reflection's coefficients fitted in phase. Where the counts
    don't allow that, its powers are fitted, which no shift changes.

    Parameters
    ----------
    images : (frames, ny, nx) array
        Counts, or a signal linear in them.
    settings : mapping
        pixel_size_nm; doses_e_per_A2, of every frame (or dose_e_per_A2, of each);
        before_e_per_A2, what the specimen got before, 0 if not given.

    Returns
    -------
    dict of (n,) arrays
        spacing_nm; critical_dose_e_per_A2, after which an intensity has fallen to 1/e;
        low_e_per_A2, high_e_per_A2: its 95 % interval (a thousand times the last fluence where no
        upper end was found); law_e_per_A2: what a power law fitted to all reflections together
        says at that spacing; ky_per_nm, kx_per_nm; significance.

    Raises
    ------
    ValueError
        A setting is missing or wrong, or the images aren't a movie of 3 frames or more.
    """
    doses = settings.get("doses_e_per_A2") or settings.get("dose_e_per_A2")
    if doses is None or settings.get("pixel_size_nm") is None:
        raise ValueError('settings lack "pixel_size_nm" or "dose_e_per_A2", that of each frame')
    movie = np.asarray(images)
    if movie.ndim != 3 or len(movie) < 3:
        raise ValueError(f"fading needs a movie (frames, ny, nx) of 3 or more, got {movie.shape}")
    pixel_size_nm = float(settings["pixel_size_nm"])
    before = float(settings.get("before_e_per_A2") or 0.0)
    fluence, _ = mid_exposures(len(movie), doses, before)

    series = register(movie)
    clear = float(np.median(series.significance)) > MERE_NOISE
    shifts = series.shifts_px if clear else None
    spots, fits = critical_doses(movie, doses, pixel_size_nm, before, shifts)

    k_per_A = 0.1 / spots.d_spacing_nm
    law = np.full(len(fits), np.nan)
    if fits:
        enough = len(np.unique(np.round(k_per_A, 6))) >= 3
        law = pooled_law(fits, k_per_A, "power" if enough else "constant")(k_per_A)
    most = EVERLASTING * fluence[-1]
    return {
        "spacing_nm": spots.d_spacing_nm,
        "critical_dose_e_per_A2": np.minimum([f.critical_dose_e_per_A2 for f in fits], most),
        "low_e_per_A2": np.array([f.lower_e_per_A2 for f in fits]),
        "high_e_per_A2": np.minimum([f.upper_e_per_A2 for f in fits], most),
        "law_e_per_A2": np.minimum(law, most),
        "ky_per_nm": spots.ky_per_nm,
        "kx_per_nm": spots.kx_per_nm,
        "significance": np.array([f.significance for f in fits]),
    }
