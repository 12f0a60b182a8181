"""Approach and retract of a sticky tip fitted together, with the place where it comes off.

Both ways share modulus, adhesion, contact height and the tilt of the baseline; each has an offset
of its own. The tip comes off at the height z_contact + pull / k (JKR: less the last contact's
indentation), which a curve shows to within a sample's step. That one number ties adhesion to the
contact height, which samples in contact hardly tell apart where the contact is stiffer than the
lever: errors become several times smaller than those of a fit to the samples alone.

So the parameters are modulus, adhesion and that height, which stays within the step where the
curve shows it. The model is :func:`nanophantom.simcore.probes.force_curves.simulate` on its way
out; the fit is Levenberg's and Marquardt's for all curves at once. Samples near the surface but
apart are left out: forces at a distance aren't part of the laws of contact.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.probes.cantilever import Cantilever
from nanophantom.simcore.probes.contact import (
    PULL_OFF,
    dmt_pull_off_nn,
    hertz_indentation_nm,
    jkr_pull_off,
    jkr_under_load,
)
from nanophantom.simcore.probes.force_curves import simulate
from nanophantom.simcore.probes.force_parameters import ForceLaw, ForceParameters
from nanophantom.simcore.probes.interaction import CONTACT_NM

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

CURVES_AT_ONCE = 256
MOST_STEPS = 25
ENOUGH = 0.01
"""A gain in chi^2 that isn't worth another step: a tenth of a standard error."""
MOST_DAMPING = 1e4
"""Beyond it a curve is at an end: any way leads the tip off too early."""
CHANGE = 1e-4
"""Change of a parameter for its numerical derivative."""
E_STAR_GPA = 1e-7, 1e3
"""Where moduli are looked for; a curve that asks for one beyond has no indentation to show."""
BISECTIONS = 30
UNSEEN = 0.1
"""A pull at a distance below this part of a sample's noise does no harm."""
LN_E, LN_W, OFF, OFFSET_IN, OFFSET_OUT, TILT, PARAMETERS = range(7)


@dataclass(frozen=True, eq=False)
class JointFits:
    """Arrays (curves,); sigmas are standard errors.

    Attributes
    ----------
    e_star_gpa, e_star_sigma_gpa
        Reduced modulus.
    contact_nm, contact_sigma_nm
        Contact height.
    work_mj_per_m2, work_sigma_mj_per_m2
        Work of adhesion.
    reduced_chi2
        About 1 where the noise that was given is all there is.
    ok
        Whether the fit converged.
    """

    e_star_gpa: Floats
    e_star_sigma_gpa: Floats
    contact_nm: Floats
    contact_sigma_nm: Floats
    work_mj_per_m2: Floats
    work_sigma_mj_per_m2: Floats
    reduced_chi2: Floats
    ok: Bools


class ComingOff(NamedTuple):
    """Where each retract shows the tip to come off: heights of the samples before and after it."""

    before_nm: Floats
    after_nm: Floats
    seen: Bools

    @property
    def middle_nm(self) -> Floats:
        """Return the height between the two."""
        return 0.5 * (self.before_nm + self.after_nm)


def coming_off(z_nm: Floats, flat_nm: Floats, noise_nm: Floats) -> ComingOff:
    """Find where the tip comes off: where half of the largest pull is gone.

    Parameters
    ----------
    z_nm, flat_nm
        Heights of the base, rising, and deflections without their baseline, (curves, n).
    noise_nm
        Of a sample, (curves,); a pull of less than five of them isn't seen.
    """
    curves, n = flat_nm.shape
    lowest, least = np.argmin(flat_nm, axis=1), flat_nm.min(axis=1)
    gone = (np.arange(n) > lowest[:, None]) & (flat_nm > 0.5 * least[:, None])
    after = np.argmax(gone, axis=1)
    seen = gone.any(axis=1) & (least < -5.0 * noise_nm) & (after > 0)
    after = np.where(seen, after, 1)
    rows = np.arange(curves)
    return ComingOff(z_nm[rows, after - 1], z_nm[rows, after], seen)


def fit_both_ways(
    z_nm: tuple[Floats, Floats],
    deflection_nm: tuple[Floats, Floats],
    stiffness_n_per_m: float,
    law: Literal["dmt", "jkr"],
    radius_nm: float,
    lines_nm: Floats,
    noise_nm: tuple[Floats, Floats],
    off: ComingOff,
) -> JointFits:
    """Fit a law with adhesion to both ways of each curve.

    Parameters
    ----------
    z_nm, deflection_nm
        Of approach and of retract, both in the order of rising heights, (curves, n).
    stiffness_n_per_m, law, radius_nm
        Of lever, contact and tip.
    lines_nm
        First guess of the baselines: their offsets at the middle of the ramp on approach and on
        retract, and their tilt, (curves, 3).
    noise_nm
        Standard deviations of a sample apart and in contact, each (curves,).
    off
        Of :func:`coming_off`; curves where it isn't seen aren't fitted.
    """
    curves = len(lines_nm)
    found = np.full((curves, OFF + 1), np.nan)
    sigma = np.full((curves, OFF + 1), np.nan)
    chi2, ok = np.full(curves, np.nan), np.zeros(curves, np.bool_)
    todo = np.flatnonzero(off.seen)
    for first in range(0, len(todo), CURVES_AT_ONCE):
        i = todo[first : first + CURVES_AT_ONCE]
        some = _Some(
            z=(z_nm[0][i], z_nm[1][i]),
            x=(deflection_nm[0][i], deflection_nm[1][i]),
            k=stiffness_n_per_m,
            law=law,
            radius=radius_nm,
            noise=(noise_nm[0][i], noise_nm[1][i]),
            off=ComingOff(off.before_nm[i], off.after_nm[i], off.seen[i]),
        )
        found[i], sigma[i], chi2[i], ok[i] = some.fitted(lines_nm[i])
    e_star, work = np.exp(found[:, LN_E]), np.exp(found[:, LN_W])
    return JointFits(
        e_star,
        e_star * sigma[:, LN_E],
        found[:, OFF],
        sigma[:, OFF],
        work,
        work * sigma[:, LN_W],
        chi2,
        ok,
    )


@dataclass(frozen=True, eq=False)
class _Some:
    """Some curves, few enough for all derivatives of their samples to be held at once."""

    z: tuple[Floats, Floats]
    x: tuple[Floats, Floats]
    k: float
    law: Literal["dmt", "jkr"]
    radius: float
    noise: tuple[Floats, Floats]
    off: ComingOff

    def contact_nm(self, p: Floats) -> Floats:
        """Return contact heights, as far below the place where the tip comes off as it takes."""
        e_star, work = np.exp(p[:, LN_E]), np.exp(p[:, LN_W])
        if self.law == "dmt":
            return np.asarray(p[:, OFF] - dmt_pull_off_nn(self.radius, work) / self.k)
        last = jkr_pull_off(self.radius, e_star, work, self.k)
        return np.asarray(p[:, OFF] + last.indentation_nm + last.force_nn / self.k)

    def contact(self, p: Floats) -> tuple[Floats, Floats]:
        """Return the deflections of a tip that was pressed and comes out, approach and retract.

        Both ways follow that branch: once a tip has snapped in, it carries the load on it.
        """
        parameters = ForceParameters.of(
            np.exp(p[:, LN_E]), np.exp(p[:, LN_W]), self.radius, 20.0, self.contact_nm(p)
        )
        lever = Cantilever(stiffness_n_per_m=self.k, temperature_k=0.0)
        law = ForceLaw(law=self.law, van_der_waals=False)
        model = []
        for z in self.z:
            down = np.stack([z[:, -1] + 1.0, z[:, 0]], axis=1)
            model.append(simulate(parameters, lever, law, down, z).ideal_retract_nm)
        return np.where(self.snapped_in, model[0], 0.0), model[1]

    @functools.cached_property
    def snapped_in(self) -> Bools:
        """Which samples of the approach lie behind the lowest reading, that of the jump."""
        tail = self.x[0].shape[1] // 4
        away = self.x[0][:, -tail:] - self.x[0][:, -tail:].mean(axis=1, keepdims=True)
        far = self.z[0][:, -tail:] - self.z[0][:, -tail:].mean(axis=1, keepdims=True)
        tilt = (away * far).sum(axis=1) / (far**2).sum(axis=1)
        flat = self.x[0] - tilt[:, None] * self.z[0]
        return np.asarray(np.arange(flat.shape[1]) < np.argmin(flat, axis=1)[:, None] - 1)

    def weights(self, p: Floats) -> tuple[Floats, Floats]:
        """Return 1 / variance of each sample, 0 for those that no law of contact is asked about.

        In contact are those behind the jump, and on retract those before the tip comes off. Apart
        are those beyond the reach of van der Waals forces and twice as far away as a sample shows
        any pull.
        """
        pull_nm = dmt_pull_off_nn(self.radius, np.exp(p[:, LN_W])) / self.k
        reach = CONTACT_NM * np.sqrt(pull_nm / (UNSEEN * self.noise[0]))
        both = []
        for way, (z, x) in enumerate(zip(self.z, self.x, strict=True)):
            flat = x - self.line(p, way)
            column, lowest = np.arange(z.shape[1]), np.argmin(flat, axis=1)[:, None]
            free = (column > lowest) & (flat > -2.0 * self.noise[0][:, None])
            beyond = 2 * np.argmax(free, axis=1)[:, None] - lowest + 2
            apart = (column > beyond) & (z > (self.contact_nm(p) + reach)[:, None])
            held = z <= self.off.before_nm[:, None] if way else self.snapped_in
            near, far = (1.0 / s[:, None] ** 2 for s in (self.noise[1], self.noise[0]))
            both.append(np.where(held, near, np.where(apart, far, 0.0)))
        return both[0], both[1]

    def line(self, p: Floats, way: int) -> Floats:
        """Return the baseline on approach (0) or retract (1)."""
        middle = 0.5 * (self.z[1][:, :1] + self.z[1][:, -1:])
        offset = p[:, OFFSET_IN + way, None]
        return np.asarray(offset + p[:, TILT, None] * (self.z[way] - middle))

    def residuals(self, p: Floats) -> tuple[Floats, Floats]:
        """Return reading less model, approach and retract."""
        into, out = self.contact(p)
        return self.x[0] - into - self.line(p, 0), self.x[1] - out - self.line(p, 1)

    def squares(
        self, p: Floats, residuals: tuple[Floats, Floats], weights: tuple[Floats, Floats]
    ) -> Floats:
        """Return chi^2 of each curve."""
        total = (p[:, OFF] - self.off.middle_nm) ** 2 * self.place_weight
        for r, w in zip(residuals, weights, strict=True):
            total = total + (w * r**2).sum(axis=1)
        return np.asarray(np.where(np.isfinite(total), total, np.inf))

    @property
    def place_weight(self) -> Floats:
        """Return 1 / variance of a place that is known to a sample's step."""
        return np.asarray(12.0 / (self.off.after_nm - self.off.before_nm) ** 2)

    def normal(
        self, p: Floats, residuals: tuple[Floats, Floats], weights: tuple[Floats, Floats]
    ) -> tuple[Floats, Floats]:
        """Return J'WJ and J'Wr, (curves, PARAMETERS, PARAMETERS) and (curves, PARAMETERS)."""
        middle = 0.5 * (self.z[1][:, :1] + self.z[1][:, -1:])
        design = [np.zeros((len(p), PARAMETERS, z.shape[1])) for z in self.z]
        for a in (LN_E, LN_W, OFF):
            moved = p.copy()
            moved[:, a] += CHANGE
            for way, shifted in enumerate(self.residuals(moved)):
                slope = (residuals[way] - shifted) / CHANGE
                held = self.z[way] < p[:, OFF, None]
                design[way][:, a] = np.where(held, slope, 0.0)
        for way in range(2):
            design[way][:, OFFSET_IN + way] = 1.0
            design[way][:, TILT] = self.z[way] - middle
        matrix = np.zeros((len(p), PARAMETERS, PARAMETERS))
        vector = np.zeros((len(p), PARAMETERS))
        matrix[:, OFF, OFF] = self.place_weight
        vector[:, OFF] = self.place_weight * (self.off.middle_nm - p[:, OFF])
        for d, r, w in zip(design, residuals, weights, strict=True):
            weighted = d * w[:, None, :]
            matrix += weighted @ d.transpose(0, 2, 1)
            vector += (weighted @ r[:, :, None])[:, :, 0]
        return matrix, vector

    def first_guess(self, lines_nm: Floats) -> Floats:
        """Return parameters by the largest pull, the place where it ends, and the deepest sample.

        The modulus is the one with which the load at the deepest sample takes the tip from the
        place where it comes off to there; it is found by bisection.
        """
        p = np.zeros((len(lines_nm), PARAMETERS))
        p[:, OFF], p[:, OFFSET_IN:] = self.off.middle_nm, lines_nm
        flat = self.x[1] - self.line(p, 1)
        pull_nn = -self.k * flat.min(axis=1)
        p[:, LN_W] = np.log(pull_nn / (PULL_OFF[self.law] * np.pi * self.radius))
        work, load = np.exp(p[:, LN_W]), self.k * np.maximum(flat[:, 0], 0.0)
        low, high = (np.full(len(p), math.log(e)) for e in E_STAR_GPA)
        for _ in range(BISECTIONS):
            p[:, LN_E] = 0.5 * (low + high)
            e_star = np.exp(p[:, LN_E])
            if self.law == "dmt":
                depth = hertz_indentation_nm(load + pull_nn, self.radius, e_star)
            else:
                depth = jkr_under_load(load, self.radius, e_star, work).indentation_nm
            too_soft = self.contact_nm(p) - depth < self.z[1][:, 0] + flat[:, 0]
            low, high = np.where(too_soft, p[:, LN_E], low), np.where(too_soft, high, p[:, LN_E])
        return p

    def fitted(self, lines_nm: Floats) -> tuple[Floats, Floats, Floats, Bools]:
        """Return ln E*, ln w and contact height, (curves, 3), errors, chi^2, and what converged."""
        p = self.first_guess(lines_nm)
        weights = self.weights(p)
        residuals = self.residuals(p)
        best = self.squares(p, residuals, weights)
        damping = np.full(len(p), 1e-2)
        arrived = np.zeros(len(p), np.bool_)
        step_nm = self.off.after_nm - self.off.before_nm
        for _ in range(MOST_STEPS):
            matrix, vector = self.normal(p, residuals, weights)
            matrix, scale = _scaled(matrix, damping)
            step = np.linalg.solve(matrix, (vector / scale)[:, :, None])[:, :, 0] / scale
            step[:, :OFF] = np.clip(step[:, :OFF], -1.0, 1.0)
            trial = p + step
            low, high = self.off.before_nm + 1e-3 * step_nm, self.off.after_nm
            trial[:, OFF] = np.clip(trial[:, OFF], low, high)
            trial[arrived] = p[arrived]
            tried = self.residuals(trial)
            value = self.squares(trial, tried, weights)
            better = value <= best
            arrived |= (better & (best - value < ENOUGH)) | (damping > MOST_DAMPING)
            p = np.where(better[:, None], trial, p)
            best = np.where(better, value, best)
            for old, new in zip(residuals, tried, strict=True):
                old[better] = new[better]
            damping *= np.where(better, 0.1, 10.0)
            if arrived.all():
                break
        matrix, scale = _scaled(self.normal(p, residuals, weights)[0], np.zeros(len(p)))
        samples = sum((w > 0).sum(axis=1) for w in weights)
        chi2 = best / np.maximum(samples + 1 - PARAMETERS, 1)
        covariance = np.linalg.inv(matrix) / (scale[:, :, None] * scale[:, None, :])
        covariance = covariance[:, : OFF + 1, : OFF + 1] * np.maximum(chi2, 1.0)[:, None, None]
        # from the place where the tip comes off to the contact height
        turn = np.tile(np.eye(OFF + 1), (len(p), 1, 1))
        for a in (LN_E, LN_W):
            moved = p.copy()
            moved[:, a] += CHANGE
            turn[:, OFF, a] = (self.contact_nm(moved) - self.contact_nm(p)) / CHANGE
        variance = np.diagonal(turn @ covariance @ turn.transpose(0, 2, 1), axis1=1, axis2=2)
        sigma = np.sqrt(np.maximum(variance, 0.0))
        found = np.column_stack([p[:, :OFF], self.contact_nm(p)])
        softest, stiffest = (math.log(e) for e in E_STAR_GPA)
        ok = arrived & (p[:, LN_E] > softest) & (p[:, LN_E] < stiffest)
        return found, sigma, chi2, ok & np.isfinite(sigma).all(axis=1)


def _scaled(matrix: Floats, damping: Floats) -> tuple[Floats, Floats]:
    """Return normal matrices scaled to a diagonal of 1 + damping, and the roots of the diagonal."""
    scale = np.sqrt(np.maximum(np.diagonal(matrix, axis1=1, axis2=2), 1e-300))
    scaled = matrix / (scale[:, :, None] * scale[:, None, :])
    scaled += (damping + 1e-12)[:, None, None] * np.eye(PARAMETERS)
    return scaled, scale
