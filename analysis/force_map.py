"""Maps of modulus, contact height and adhesion from a force volume: the default way.

Laws with adhesion are fitted to approach and retract together (`joint_force_fit`). Laws without,
and curves on which no pull is to be seen, are fitted on either way by itself (`force_fit`), and
each quantity is averaged with the weights of its uncertainties.

What parts the two baselines far away is drag: it lifts the lever on the way in and holds it down on
the way out, as if the base stood higher or lower, and is corrected for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nanophantom.analysis.contact_point import baseline, drag_nn
from nanophantom.analysis.force_fit import fit_many
from nanophantom.analysis.force_fit_curves import LAWS, Law
from nanophantom.analysis.joint_force_fit import coming_off, fit_both_ways
from nanophantom.simcore.probes.contact import PULL_OFF

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

NEEDED = "stiffness_n_per_m", "tip_radius_nm"
FARTHEST = 0.05
"""Share of the samples from which drag is told: far from where the tip comes off."""
FEWEST_BENDS = 8
"""Samples in contact from which their noise is told."""
QUANTITIES = "modulus_gpa", "contact_height_nm", "adhesion_nn"
UNCERTAINTIES = "modulus_sigma_gpa", "contact_sigma_nm", "adhesion_sigma_nn"


class _Ways(NamedTuple):
    """Approach and retract of many curves, each (curves, n) in the order of rising heights."""

    z: tuple[Floats, Floats]
    x: tuple[Floats, Floats]

    def some(self, which: npt.NDArray[np.intp]) -> _Ways:
        """Return some of the curves."""
        return _Ways(*((a[which], b[which]) for a, b in self))


def measure(
    z_approach: npt.ArrayLike,
    z_retract: npt.ArrayLike,
    approach: npt.ArrayLike,
    retract: npt.ArrayLike,
    settings: Mapping[str, Any],
) -> dict[str, npt.NDArray[Any]]:
    """Measure modulus, contact height and adhesion of every curve of a grid.

    Parameters
    ----------
    z_approach, z_retract : (rows, columns, n) arrays
        Heights of the lever's base, nm, falling and rising.
    approach, retract : (rows, columns, n) arrays
        Deflections, nm, positive where the tip is pushed up.
    settings : mapping
        stiffness_n_per_m, tip_radius_nm; maybe law ("hertz" by default), poisson_ratio (0 by
        default, which gives E*), tip with half_angle_deg (for law "sneddon").

    Returns
    -------
    dict of (m,) arrays
        row, column, modulus_gpa, contact_height_nm, adhesion_nn (0 for laws without), and standard
        uncertainties modulus_sigma_gpa, contact_sigma_nm, and adhesion_sigma_nn if the law has
        adhesion. Curves that can't be fitted are left out.

    Raises
    ------
    ValueError
        A setting is missing, or the arrays aren't curves on a grid.
    """
    missing = [name for name in NEEDED if name not in settings]
    if missing:
        raise ValueError(f"settings lack {', '.join(missing)}")
    law = settings.get("law", "hertz")
    if law not in LAWS:
        raise ValueError(f"settings: law must be one of {', '.join(LAWS)}, not {law!r}")
    arrays = [np.asarray(a, np.float64) for a in (z_approach, z_retract, approach, retract)]
    shape = arrays[2].shape
    if len(shape) != 3 or any(a.shape[:2] != shape[:2] for a in arrays):
        told = ", ".join(str(a.shape) for a in arrays)
        raise ValueError(
            f"curves on a grid have the shape (rows, columns, n), all four; got {told}"
        )
    rows, columns = shape[:2]
    down, up, way_in, way_out = (a.reshape(rows * columns, -1) for a in arrays)
    stiffness, radius = (float(settings[name]) for name in NEEDED)
    # one medium and one speed: the drag is that of all curves
    drag = drag_nn(down, way_in, up, way_out, stiffness, FARTHEST)
    lift_nm = float(np.median(drag)) / stiffness
    ways = _Ways((down[:, ::-1] + lift_nm, up - lift_nm), (way_in[:, ::-1], way_out))

    found = np.full((rows * columns, 3), np.nan)
    sigma = np.full((rows * columns, 3), np.nan)
    if law in ("dmt", "jkr"):
        found, sigma = _together(ways, stiffness, law, radius)
    rest = np.flatnonzero(np.isnan(found).any(axis=1))
    if rest.size:
        half_angle = settings.get("tip", {}).get("half_angle_deg")
        found[rest], sigma[rest] = _apart(ways.some(rest), stiffness, law, radius, half_angle)

    fitted = np.isfinite(found).all(axis=1)
    young = 1.0 - float(settings.get("poisson_ratio", 0.0)) ** 2
    answer: dict[str, npt.NDArray[Any]] = {}
    answer["row"], answer["column"] = np.divmod(np.flatnonzero(fitted), columns)
    for i, name in enumerate(QUANTITIES):
        factor = young if i == 0 else 1.0
        answer[name] = factor * found[fitted, i]
        if (sigma[fitted, i] > 0).all():  # not for adhesion by a law without
            answer[UNCERTAINTIES[i]] = factor * sigma[fitted, i]
    return answer


def _together(ways: _Ways, stiffness: float, law: Any, radius: float) -> tuple[Floats, Floats]:
    """Return E*, contact height and adhesion of both ways at once, (curves, 3), and their errors.

    NaN where it can't be.
    """
    lines = [baseline(z, x) for z, x in zip(*ways, strict=True)]
    noise = np.median([line.noise_nm for line in lines], axis=0)
    z, x = ways.z[1], ways.x[1]
    # a baseline's offset counts at the farthest sample
    slope = lines[1].tilt[:, None] * (z - z[:, -1:])
    off = coming_off(z, x - lines[1].offset_nm[:, None] - slope, noise)
    middle = 0.5 * (z[:, 0] + z[:, -1])
    offsets = [
        line.offset_nm - line.tilt * (heights[:, -1] - middle)
        for line, heights in zip(lines, ways.z, strict=True)
    ]
    tilt = np.mean([line.tilt for line in lines], axis=0)
    fits = fit_both_ways(
        ways.z,
        ways.x,
        stiffness,
        law,
        radius,
        np.stack([*offsets, tilt], axis=1),
        (noise, _noise_touching(z, x, off.before_nm, noise)),
        off,
    )
    pull = PULL_OFF[law] * np.pi * radius  # nN by mJ/m2
    found = np.stack([fits.e_star_gpa, fits.contact_nm, pull * fits.work_mj_per_m2], axis=1)
    sigma = np.stack(
        [fits.e_star_sigma_gpa, fits.contact_sigma_nm, pull * fits.work_sigma_mj_per_m2], axis=1
    )
    found[~fits.ok] = np.nan
    return found, sigma


def _noise_touching(z: Floats, x: Floats, last_nm: Floats, apart: Floats) -> Floats:
    """Return the noise of samples in contact, (curves,), by their second differences."""
    bends = np.diff(x, 2, axis=1)
    held = z[:, 2:] < last_nm[:, None]
    number = held.sum(axis=1)
    mean = (bends**2 * held).sum(axis=1) / np.maximum(number, 1)
    return np.asarray(np.where(number >= FEWEST_BENDS, np.sqrt(mean / 6.0), apart))


def _apart(
    ways: _Ways, stiffness: float, law: Law, radius: float, half_angle_deg: float | None
) -> tuple[Floats, Floats]:
    """Return the weighted means of fits to either way, (curves, 3), and their errors.

    Those of one way where the other failed, NaN where both did.
    """
    fits = [
        fit_many(z, x, stiffness, law, radius_nm=radius, half_angle_deg=half_angle_deg)
        for z, x in zip(*ways, strict=True)
    ]
    values = np.array([[f.modulus_gpa, f.contact_point_nm, f.adhesion_nn] for f in fits])
    sigmas = np.array(
        [[f.modulus_sigma_gpa, f.contact_sigma_nm, f.adhesion_sigma_nn] for f in fits]
    )
    ok = np.array([f.ok for f in fits])[:, None]
    # without noise, or without adhesion, both weigh alike
    known = ok & (sigmas > 0).all(axis=0)
    weight = np.where(known, 1.0 / np.where(known, sigmas, 1.0) ** 2, np.where(ok, 1.0, 0.0))
    total = weight.sum(axis=0)
    with np.errstate(invalid="ignore"):
        value = (weight * np.where(ok, values, 0.0)).sum(axis=0) / total
        spread = np.sqrt((weight**2 * np.where(ok, sigmas, 0.0) ** 2).sum(axis=0)) / total
    return value.T, spread.T
