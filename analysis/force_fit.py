"""Modulus, contact point and adhesion of force curves, by least squares.

Contact point, modulus, adhesion and the baseline's offset and tilt are fitted together, to the
deflection over the height of the base (:mod:`nanophantom.analysis.force_fit_kernels`). For white
noise that is the likeliest answer, so its scatter is the smallest there can be. A contact point
fixed too early or late by another method, instead, costs modulus: 10 nm in 1 um makes 2 %.

Uncertainties come from the residuals, those apart and in contact on their own (a lever that touches
trembles less), and count correlated samples as fewer. The laws are those of
:mod:`nanophantom.simcore.probes.contact`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nanophantom.analysis import force_fit_kernels as kernels
from nanophantom.analysis.contact_point import BASELINE, for_each
from nanophantom.analysis.force_fit_curves import (
    ADHESIVE,
    Curves,
    Law,
    parted,
    prepared,
    with_adhesion,
    without_attraction,
)
from nanophantom.analysis.pull_off import CLEAR, PullOff
from nanophantom.simcore.probes.contact import PULL_OFF

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Classes = npt.NDArray[np.int8]

FEWEST_TOUCHING = 10
"""Samples in contact that a fit needs."""
WIDEST = 0.25
"""Relative error of a modulus that a fit has found nevertheless."""


@dataclass(frozen=True, eq=False)
class ForceFits:
    """One law fitted to curves; arrays (curves,), NaN where a fit failed; sigma: standard errors.

    Attributes
    ----------
    law
        Which one.
    modulus_gpa, modulus_sigma_gpa
        Young's modulus for the Poisson ratio that was given; E* for 0.
    contact_point_nm, contact_sigma_nm
        Height of the base at which the undeflected tip would touch.
    work_of_adhesion_mj_per_m2, work_sigma_mj_per_m2
        0 for laws without adhesion.
    adhesion_nn, adhesion_sigma_nn
        The pull that belongs to it: 2 pi R w (DMT), 1.5 pi R w (JKR).
    offset_nm, tilt
        Baseline: reading far away, at the farthest sample, and its rise by that of the base.
    noise_apart_nm, noise_touching_nm
        Rms residuals.
    correlated_samples
        Samples that are worth one independent one; 1 for white noise.
    reduced_chi2
        Sum of squares by that of the noise which neighbouring samples show, per degree of freedom:
        about 1 for the right law and white noise, more for a wrong law.
    surprise
        -2 ln(likelihood) for white noise, plus a constant; inf where the fit didn't converge.
    ok
        It converged, the contact point lies on the ramp, the curve is pressed clear of noise and
        tells its modulus to better than a quarter.
    """

    law: Law
    modulus_gpa: Floats
    modulus_sigma_gpa: Floats
    contact_point_nm: Floats
    contact_sigma_nm: Floats
    work_of_adhesion_mj_per_m2: Floats
    work_sigma_mj_per_m2: Floats
    adhesion_nn: Floats
    adhesion_sigma_nn: Floats
    offset_nm: Floats
    tilt: Floats
    noise_apart_nm: Floats
    noise_touching_nm: Floats
    correlated_samples: Floats
    reduced_chi2: Floats
    surprise: Floats
    ok: Bools


class ModelChoice(NamedTuple):
    """Fits of several laws to the same samples, and which is likeliest.

    Attributes
    ----------
    laws
        Which were fitted.
    best
        Index of the law with the lowest criterion, (curves,); -1 where no fit is ok.
    aic
        Akaike's criterion less the lowest, (curves, laws); inf where a fit didn't converge.
    weight
        exp(-aic / 2) over its sum: the odds of each law, (curves, laws).
    fits
        One by law.
    """

    laws: tuple[Law, ...]
    best: npt.NDArray[np.intp]
    aic: Floats
    weight: Floats
    fits: tuple[ForceFits, ...]


def fit_many(
    z_nm: npt.ArrayLike,
    deflection_nm: npt.ArrayLike,
    stiffness_n_per_m: npt.ArrayLike,
    law: Law = "hertz",
    *,
    radius_nm: npt.ArrayLike | None = None,
    half_angle_deg: npt.ArrayLike | None = None,
    poisson_ratio: npt.ArrayLike = 0.0,
    adhesion: PullOff | None = None,
    tilt: bool = True,
    baseline_fraction: float = BASELINE,
) -> ForceFits:
    """Fit a law of contact to each curve.

    Hertz, Sneddon and the punch know no attraction: where a curve shows one, its samples are left
    out. DMT and JKR are fitted to all that lies behind the largest pull, and to the pull-off if it
    is given: the shape of a curve alone tells adhesion poorly, that of an approach hardly at all.

    Parameters
    ----------
    z_nm, deflection_nm
        Heights of the base and deflections, (n,) or (curves, n), of approach or retract.
    stiffness_n_per_m
        Of the lever, a number or (curves,).
    law
        "hertz" (sphere), "sneddon" (cone), "punch" (flat cylinder), "dmt" or "jkr" (sphere).
    radius_nm
        Of sphere or punch, a number or (curves,).
    half_angle_deg
        Of the cone, a number or (curves,).
    poisson_ratio
        Of the specimen, a number or (curves,): E = E* (1 - nu^2). 0 gives E*.
    adhesion
        What :mod:`nanophantom.analysis.pull_off` read off the retracts: one more reading for DMT
        and JKR.
    tilt
        Whether the baseline is tilted; False holds it level, which pays if it is.
    baseline_fraction
        Share of the samples, the farthest, that surely don't touch: the search starts from them.

    Raises
    ------
    ValueError
        The curves aren't curves (:func:`nanophantom.analysis.contact_point.curves_of`), or what
        the law needs of tip, lever or specimen is missing or impossible.
    """
    curves = prepared(
        z_nm,
        deflection_nm,
        stiffness_n_per_m,
        [law],
        radius_nm,
        half_angle_deg,
        tilt,
        baseline_fraction,
    )
    nu = _poisson(poisson_ratio, len(curves.x))
    if law not in ADHESIVE:
        return _fitted(curves, law, without_attraction(curves), nu)
    classes = parted(curves, _hidden_contacts(curves))
    return _fitted(with_adhesion(curves, adhesion), law, classes, nu)


def modulus_at(
    contact_point_nm: npt.ArrayLike,
    z_nm: npt.ArrayLike,
    deflection_nm: npt.ArrayLike,
    stiffness_n_per_m: npt.ArrayLike,
    *,
    radius_nm: npt.ArrayLike,
    poisson_ratio: npt.ArrayLike = 0.0,
    tilt: bool = True,
    baseline_fraction: float = BASELINE,
) -> Floats:
    """Return the modulus (GPa) that Hertz's law gives with contact points held, (curves,).

    Least squares of the force over the indentation behind the contact point; for contact points
    of other methods (:mod:`nanophantom.analysis.contact_point`), a number or (curves,). All errors
    of theirs go into the modulus.

    Raises
    ------
    ValueError
        See :func:`fit_many`; or a contact point lies behind the end of its curve.
    """
    c = prepared(
        z_nm,
        deflection_nm,
        stiffness_n_per_m,
        ["hertz"],
        radius_nm,
        None,
        tilt,
        baseline_fraction,
    )
    at = for_each("contact_point_nm", contact_point_nm, len(c.x))
    depth = np.maximum(at[:, None] - c.z - c.flat, 0.0)
    form = 4.0 / 3.0 * np.sqrt(c.radius)[:, None] * depth**1.5
    if not (form > 0).any(axis=1).all():
        raise ValueError("contact_point_nm must lie above the end of each curve")
    force = c.stiffness[:, None] * c.flat
    e_star = (force * form).sum(axis=1) / (form**2).sum(axis=1)
    return np.asarray((1.0 - _poisson(poisson_ratio, len(c.x)) ** 2) * e_star)


def compare_models(
    z_nm: npt.ArrayLike,
    deflection_nm: npt.ArrayLike,
    stiffness_n_per_m: npt.ArrayLike,
    laws: Sequence[Law] = ("hertz", "dmt", "jkr"),
    *,
    radius_nm: npt.ArrayLike | None = None,
    half_angle_deg: npt.ArrayLike | None = None,
    poisson_ratio: npt.ArrayLike = 0.0,
    adhesion: PullOff | None = None,
    tilt: bool = True,
    baseline_fraction: float = BASELINE,
) -> ModelChoice:
    """Fit several laws to the same samples and weigh them by Akaike's criterion.

    All laws answer for the samples behind the largest pull, so that one without adhesion pays for
    what it can't explain. Parameters as for :func:`fit_many`.
    """
    if not laws:
        raise ValueError("laws must name at least one")
    curves = prepared(
        z_nm,
        deflection_nm,
        stiffness_n_per_m,
        laws,
        radius_nm,
        half_angle_deg,
        tilt,
        baseline_fraction,
    )
    nu = _poisson(poisson_ratio, len(curves.x))
    classes = parted(curves, _hidden_contacts(curves))
    curves = with_adhesion(curves, adhesion)
    fits = tuple(_fitted(curves, law, classes, nu) for law in laws)
    # a wrong law leaves correlated residuals; the law that leaves the least tells the noise
    shared = np.min([np.where(f.ok, f.correlated_samples, np.inf) for f in fits], axis=0)
    fitted = np.array([2.0 * _free(law, tilt).sum() for law in laws])
    any_ok = np.isfinite(shared)
    shared = np.where(any_ok, shared, 1.0)
    aic = np.stack([f.surprise / shared for f in fits], axis=1) + fitted
    aic[any_ok] -= aic[any_ok].min(axis=1, keepdims=True)
    weight = np.where(any_ok[:, None], np.exp(-0.5 * aic), 0.0)
    weight /= np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)
    best = np.where(any_ok, np.argmin(aic, axis=1), -1)
    return ModelChoice(tuple(laws), best, aic, weight, fits)


# ---- before the fit ------------------------------------------------------------------------------


def _poisson(ratio: npt.ArrayLike, curves: int) -> Floats:
    nu = for_each("poisson_ratio", np.asarray(ratio, np.float64), curves)
    if not ((nu > -1.0) & (nu <= 0.5)).all():
        raise ValueError("poisson_ratio must lie above -1 and not above 0.5")
    return nu


def _hidden_contacts(c: Curves) -> tuple[Floats, Floats]:
    """Return contact points and errors by Hertz's law, where no pull tells where contact begins."""
    height, sigma = np.zeros(len(c.x)), np.zeros(len(c.x))
    smooth = np.flatnonzero(~c.sticky)
    if smooth.size:
        part = c._replace(
            z=c.z if len(c.z) == 1 else c.z[smooth],
            x=c.x[smooth],
            line=c.line[smooth],
            flat=c.flat[smooth],
            noise=c.noise[smooth],
            seen=np.full((smooth.size, 2), np.inf),
            stiffness=c.stiffness[smooth],
            radius=c.radius[smooth],
            half_angle_deg=c.half_angle_deg[smooth],
        )
        classes = np.full(part.x.shape, kernels.EITHER, np.int8)
        fit = _fitted(part, "hertz", classes, np.zeros(smooth.size))
        height[smooth], sigma[smooth] = fit.contact_point_nm, fit.contact_sigma_nm
    return height, sigma


# ---- the fit -------------------------------------------------------------------------------------


def _free(law: Law, tilt: bool) -> Bools:
    return np.array([True, True, law in ADHESIVE, True, tilt])


def _fitted(c: Curves, law: Law, classes: Classes, poisson_ratio: Floats) -> ForceFits:
    """Fit a law to samples that are told apart, and put the result in units."""
    curves = len(c.x)
    k, radius = c.stiffness, c.radius
    code, shape = {
        "hertz": (kernels.SPHERE, 4.0 / 3.0 * np.sqrt(radius) / k),
        "dmt": (kernels.SPHERE, 4.0 / 3.0 * np.sqrt(radius) / k),
        "sneddon": (kernels.CONE, 2.0 / np.pi * np.tan(np.deg2rad(c.half_angle_deg)) / k),
        "punch": (kernels.PUNCH, 2.0 * radius / k),
        "jkr": (kernels.JKR, radius),
    }[law]
    p = np.zeros((curves, kernels.PARAMETERS))
    covariance = np.zeros((curves, kernels.PARAMETERS, kernels.PARAMETERS))
    told = np.zeros((curves, kernels.NUMBERS))
    line = c.line if law in ADHESIVE else c.line * [1.0, 1.0, 0.0]
    kernels.fit_curves(
        code,
        c.z,
        c.x,
        classes,
        line,
        c.noise,
        c.seen if law in ADHESIVE else np.full_like(c.seen, np.inf),
        shape,
        k,
        _free(law, c.tilt),
        p,
        covariance,
        told,
    )
    sigma = np.sqrt(np.maximum(np.diagonal(covariance, axis1=1, axis2=2), 0.0))
    ok = told[:, kernels.CONVERGED] > 0
    ok &= told[:, kernels.TOUCHED] >= FEWEST_TOUCHING
    ok &= (p[:, kernels.HEIGHT] < c.z[:, 0]) & (p[:, kernels.HEIGHT] > c.z[:, -1])
    ok &= c.flat[:, -3:].mean(axis=1) > CLEAR * c.noise / np.sqrt(3.0)
    ok &= np.isfinite(sigma).all(axis=1)
    ok &= sigma[:, kernels.MODULUS] < WIDEST * p[:, kernels.MODULUS]

    if law == "jkr":
        root = p[:, kernels.PULL]
        work, work_sigma = 1e3 * root**2, 2e3 * np.abs(root) * sigma[:, kernels.PULL]
        pull, pull_sigma = (PULL_OFF["jkr"] * np.pi * radius * w for w in (work, work_sigma))
    else:
        pull, pull_sigma = (k * a[:, kernels.PULL] for a in (p, sigma))
        work, work_sigma = (1e3 * f / (2.0 * np.pi * radius) for f in (pull, pull_sigma))
    # a law answers for the pull-off, too
    off = np.where(np.isfinite(c.seen[:, 1]), c.seen[:, 0] - pull / k, 0.0) / c.seen[:, 1]
    surprise = told[:, kernels.SURPRISE] + off**2
    half = 0.5 * (c.z[:, 0] - c.z[:, -1])
    young = 1.0 - poisson_ratio**2

    def told_if_ok(values: Floats) -> Floats:
        return np.where(ok, values, np.nan)

    return ForceFits(
        law=law,
        modulus_gpa=told_if_ok(young * p[:, kernels.MODULUS]),
        modulus_sigma_gpa=told_if_ok(young * sigma[:, kernels.MODULUS]),
        contact_point_nm=told_if_ok(p[:, kernels.HEIGHT]),
        contact_sigma_nm=told_if_ok(sigma[:, kernels.HEIGHT]),
        work_of_adhesion_mj_per_m2=told_if_ok(work),
        work_sigma_mj_per_m2=told_if_ok(work_sigma),
        adhesion_nn=told_if_ok(pull),
        adhesion_sigma_nn=told_if_ok(pull_sigma),
        offset_nm=told_if_ok(p[:, kernels.OFFSET] + p[:, kernels.TILT]),
        tilt=told_if_ok(p[:, kernels.TILT] / half),
        noise_apart_nm=told_if_ok(told[:, kernels.NOISE_APART]),
        noise_touching_nm=told_if_ok(told[:, kernels.NOISE_TOUCHING]),
        correlated_samples=told_if_ok(told[:, kernels.CORRELATION]),
        reduced_chi2=told_if_ok(told[:, kernels.CHI2]),
        surprise=np.where(told[:, kernels.CONVERGED] > 0, surprise, np.inf),
        ok=ok,
    )
