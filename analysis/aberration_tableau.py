"""The default way from a Zemlin tableau to aberrations: choose the orders, measure, list them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from nanophantom.analysis.aberration_measurement import measure

Floats = npt.NDArray[np.float64]

THIRD_ORDER = ("C10", "C12", "C21", "C23", "C30")
FOURTH_ORDER = (*THIRD_ORDER, "C32", "C34", "C41", "C43", "C45")
A_PER_NM = 10.0


def find(images: npt.ArrayLike, settings: Mapping[str, Any]) -> dict[str, Floats]:
    """Measure as many aberrations as the tilts of a tableau determine.

    Parameters
    ----------
    images : (n, ny, nx) array
        Images of one amorphous film, one a tilt of the beam.
    settings : mapping
        As for :func:`nanophantom.analysis.aberration_measurement.measure`; "defocus_nm", if there,
        is the nominal defocus, true to a factor of two.

    Returns
    -------
    dict of (n,) arrays
        order and multiplicity of each coefficient, real_nm = C cos(m phi), imag_nm = C sin(m phi),
        and sigma_real_nm, sigma_imag_nm.

    Raises
    ------
    ValueError
        If a setting is missing or wrong, images and tilts don't match, or the tilts say too little.
    """
    known = {"orders": orders_for(settings.get("beam_tilts_mrad")), **settings}
    nominal = float(settings.get("defocus_nm") or 0.0)
    if nominal:
        known["underfocus"] = nominal < 0
        # the tilts change the apparent defocus too
        known["defocus_range_nm"] = tuple(sorted((0.3 * nominal, 2.0 * nominal)))
        known["max_c12_nm"] = 0.3 * abs(nominal)
    found = measure(images, known)
    components, covariance = found["components"], found["covariance_A2"]
    named = found["coefficients"]
    rows = []
    for n, m in dict.fromkeys((n, m) for n, m, _ in components):
        at = [i for i, component in enumerate(components) if component[:2] == (n, m)]
        strength = named[f"C{n}{m}"] / A_PER_NM
        angle = m * named.get(f"phi{n}{m}", 0.0)
        sigma = np.sqrt(np.diag(covariance)[at]) / A_PER_NM
        rows.append((n, m, strength * np.cos(angle), strength * np.sin(angle), sigma[0], sigma[-1]))
    names = ("order", "multiplicity", "real_nm", "imag_nm", "sigma_real_nm", "sigma_imag_nm")
    return dict(zip(names, np.array(rows, np.float64).T, strict=True))


def orders_for(tilts_mrad: npt.ArrayLike | None) -> tuple[str, ...]:
    """Return the coefficients that tilts determine: two rings of them give the fourth order."""
    tilts = np.asarray([] if tilts_mrad is None else tilts_mrad, np.float64).reshape(-1, 2)
    radii = np.hypot(*tilts.T)
    largest = float(radii.max(initial=0.0))
    outer = int(np.sum(radii > 0.8 * largest))
    inner = int(np.sum((radii > 0.2 * largest) & (radii < 0.8 * largest)))
    return FOURTH_ORDER if outer >= 8 and inner >= 5 else THIRD_ORDER
