"""What noise allows a force curve to tell: Cramér-Rao bounds of modulus, contact and adhesion.

Lever and contact are two springs in series. At the base height z the lever's deflection x obeys
k x = F(delta) with the indentation delta = z_contact - z - x, so a parameter p of the law moves
the reading by

    dx/dp = (dF/dp) / (k + F'),    dx/dz_contact = F' / (k + F'),    F' = dF/d delta.

Readings scatter by the sensor's noise and the lever's thermal tremble, kT / (k + F'). The bound is
the inverse of the Fisher information of all samples in contact and on the baseline, with modulus,
adhesion, contact height, the baseline's offset on either way and its common tilt unknown.

The place where the tip comes off tells much as well: z_contact + pull / k, known to a sample's
step. Where it snaps in depends on forces at a distance, which contact laws leave open; what that
tells is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.probes import contact

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

STEP = 1e-5
"""Relative step of numerical derivatives."""
LEAST_GRIP = 0.1
"""Samples with k + F' below this share of k are about to jump: their reading isn't linear."""


@dataclass(frozen=True)
class ForceLimit:
    """Least standard deviations of one curve.

    Attributes
    ----------
    modulus
        Of the logarithm of the modulus: a relative error.
    contact_nm
        Of the contact height.
    adhesion_nn
        Of the largest pull; 0 for laws without adhesion.
    """

    modulus: float
    contact_nm: float
    adhesion_nn: float


def force_limit(
    law: str,
    e_star_gpa: float,
    adhesion_mj_per_m2: float,
    radius_nm: float,
    half_angle_deg: float,
    stiffness_n_per_m: float,
    z_nm: tuple[Floats, Floats],
    indentation_nm: tuple[Floats, Floats],
    touching: tuple[Bools, Bools],
    noise_nm: float,
    thermal_nm: float,
) -> ForceLimit | None:
    """Return the Cramér-Rao bounds of a curve, or None where it has no noise or too few samples.

    Parameters
    ----------
    law
        "hertz", "sneddon", "dmt" or "jkr".
    e_star_gpa, adhesion_mj_per_m2, radius_nm, half_angle_deg, stiffness_n_per_m
        True numbers of contact and lever.
    z_nm
        Heights of the base on approach and on retract, each (n,).
    indentation_nm
        True indentation at each sample; only that of touching ones matters.
    touching
        Which samples are taken in contact.
    noise_nm, thermal_nm
        Standard deviations of the sensor's noise and of the free lever's tremble.
    """
    if noise_nm <= 0 and thermal_nm <= 0:
        return None
    k, sticky = stiffness_n_per_m, law in ("dmt", "jkr") and adhesion_mj_per_m2 > 0
    middle = float(np.mean(np.concatenate(z_nm)))
    rows, weights = [], []
    for way in range(2):
        inside = touching[way]
        delta = indentation_nm[way][inside]
        by_e, by_w, slope = _derivatives(
            law, delta, e_star_gpa, adhesion_mj_per_m2, radius_nm, half_angle_deg
        )
        columns = np.zeros((len(inside), 6))  # ln E*, w, contact height, two offsets, tilt
        grip = k + slope
        columns[inside, :3] = np.stack([by_e, by_w, slope], axis=1) / grip[:, None]
        columns[:, 3 + way] = 1.0
        columns[:, 5] = z_nm[way] - middle
        variance = np.full(len(inside), noise_nm**2 + thermal_nm**2)
        variance[inside] = noise_nm**2 + thermal_nm**2 * np.clip(k / np.maximum(grip, k), 0, 1)
        kept = np.ones(len(inside), np.bool_)
        kept[inside] = grip > LEAST_GRIP * k
        rows.append(columns[kept])
        weights.append(1.0 / variance[kept])
    if sticky:
        place, step = (
            _coming_off(law, e_star_gpa, adhesion_mj_per_m2, radius_nm, k),
            np.median(np.abs(np.diff(z_nm[1]))),
        )
        rows.append(np.array([[*place, 1.0, 0.0, 0.0, 0.0]]))
        weights.append(np.array([12.0 / step**2]))
    design, weight = np.concatenate(rows), np.concatenate(weights)
    if not sticky:
        design = np.delete(design, 1, axis=1)
    scale = np.sqrt((weight[:, None] * design**2).sum(axis=0))
    if not (scale > 0).all():
        return None
    design = design / scale
    information = design.T @ (weight[:, None] * design)
    if np.linalg.cond(information) > 1e12:
        return None
    sigma = np.sqrt(np.diag(np.linalg.inv(information))) / scale
    pull = contact.PULL_OFF.get(law, 0.0) * np.pi * radius_nm  # nN by mJ/m2
    return ForceLimit(
        modulus=float(sigma[0]),
        contact_nm=float(sigma[2 if sticky else 1]),
        adhesion_nn=float(pull * sigma[1]) if sticky else 0.0,
    )


def limit_of_curve(dataset: Observed, i: int) -> ForceLimit | None:
    """Return the bounds of one curve of a force volume, by its row in the truth's table.

    None where its noise was left out.
    """
    truth, calibration = dataset.truth("curves"), dataset.truth("calibration")
    row, column = int(truth["row"][i]), int(truth["column"][i])
    z, indentation, touching = [], [], []
    for way, end in (("approach", "snap_in_height_nm"), ("retract", "pull_off_height_nm")):
        base = np.asarray(dataset.signal(f"z_{way}", row, row + 1)[0][column], np.float64)
        ideal = dataset.frame_truth(f"ideal_{way}", row, row + 1)[0][column]
        if np.array_equal(ideal, dataset.signal(way, row, row + 1)[0][column]):
            return None
        delta = float(truth["contact_height_nm"][i]) - base - np.asarray(ideal, np.float64)
        jump = float(truth[end][i])
        z.append(base)
        indentation.append(delta)
        touching.append(base < jump if np.isfinite(jump) else delta >= 0)
    return force_limit(
        str(dataset.settings["law"]),
        float(truth["e_star_gpa"][i]),
        float(truth["work_of_adhesion_mj_per_m2"][i]),
        float(truth["radius_nm"][i]),
        float(truth["half_angle_deg"][i]),
        float(calibration["stiffness_n_per_m"][0]),
        (z[0], z[1]),
        (indentation[0], indentation[1]),
        (touching[0], touching[1]),
        float(calibration["noise_nm"][0]),
        float(calibration["thermal_nm"][0]),
    )


def _derivatives(
    law: str, delta: Floats, e_star: float, w: float, radius: float, half_angle: float
) -> tuple[Floats, Floats, Floats]:
    """Return dF/d ln E*, dF/dw and dF/d delta at indentations, by central differences."""
    if law not in ("hertz", "sneddon", "dmt", "jkr"):
        raise ValueError(f"law must be hertz, sneddon, dmt or jkr, not {law!r}")

    def force(d: Floats, e: float, adhesion: float) -> Floats:
        if law == "sneddon":
            return contact.cone_force_nn(d, half_angle, e)
        if law == "jkr":
            return contact.jkr_force_nn(d, radius, e, adhesion, "unloading")
        pull = contact.dmt_pull_off_nn(radius, adhesion) if law == "dmt" else 0.0
        return np.asarray(contact.hertz_force_nn(d, radius, e) - pull)

    return (
        _central(lambda h: force(delta, e_star * np.exp(h), w), STEP),
        _central(lambda h: force(delta, e_star, w * np.exp(h)), STEP) / max(w, 1e-300),
        _central(lambda h: force(delta + h, e_star, w), STEP),
    )


def _coming_off(law: str, e_star: float, w: float, radius: float, k: float) -> tuple[float, float]:
    """Return by how much the base's height at pull-off rises with ln E* and with w."""

    def height(e: float, adhesion: float) -> Floats:
        """Return it over the contact height."""
        if law == "dmt":
            return contact.dmt_pull_off_nn(radius, adhesion) / k
        last = contact.jkr_pull_off(radius, e, adhesion, k)
        return np.asarray(-last.indentation_nm - last.force_nn / k)

    return (
        float(_central(lambda h: height(e_star * np.exp(h), w), STEP)),
        float(_central(lambda h: height(e_star, w * np.exp(h)), STEP) / w),
    )


def _central(f: Callable[[float], Floats], h: float) -> Floats:
    return np.asarray((f(h) - f(-h)) / (2 * h))
