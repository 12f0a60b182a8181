"""The aberrations of a lens from a Zemlin tableau: diffractograms of a film under tilted beams.

With the beam tilted by tau the film is imaged through chi expanded about tau. A weak phase
object's diffractogram then shows sin^2 of the even part of that expansion,

    [chi(tau + k) + chi(tau - k)] / 2 - chi(tau)

(F. Zemlin, K. Weiss, P. Schiske, W. Kunath and K.-H. Herrmann, Ultramicroscopy 3 (1978) 49-60;
the odd part only moves the Fourier components). It is itself a set of even aberrations, the
*apparent* ones: with omega the complex angle, chi is made of Re(c omega^p conj(omega)^q), and the
binomial theorem for (tau + omega)^p conj(tau + omega)^q says what each coefficient adds to them.
All is linear in the coefficients. The apparent defocus and astigmatism, the terms of second order
in omega, hold for instance

    C10 + 2 C30 |tau|^2 + (4/3) C21 tau cos(phi_tau - phi21)   of defocus,

so least squares over the tilts give coma, threefold astigmatism and Cs: that is the start. Then all
diffractograms are fitted at once, pixel by pixel, by one set of coefficients. Derivatives of chi of
first order shift images and are not measured here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import degrees
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from nanophantom.analysis.ring_spectrum import Rings, Step, agreement, minimise
from nanophantom.analysis.thon_rings import (
    Found,
    fit_rings,
    known_aberrations,
    positive_number,
    resolved_frequency,
)
from nanophantom.analysis.tilted_aberrations import (
    EVEN,
    Component,
    apparent,
    cartesian,
    components_of,
    error_limit_nm,
    named_coefficients,
    phase_radius_mrad,
    tilt_matrix,
)
from nanophantom.simcore.electrons.aberrations import ORDERS, chi

__all__ = ["apparent", "error_limit_nm", "measure", "phase_radius_mrad", "solve"]

Floats = npt.NDArray[np.float64]
DEFAULT_ORDERS: Final[tuple[str, ...]] = ("C10", "C12", "C21", "C23", "C30")
UNITS: Final[dict[int, tuple[str, float]]] = {
    1: ("nm", 10.0),
    2: ("nm", 10.0),
    3: ("um", 1e4),
    4: ("um", 1e4),
    5: ("mm", 1e7),
}
"""Unit in which a coefficient of order n is reported, and its length in Å."""


def measure(images: npt.ArrayLike, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Measure the aberrations of the lens that took the images of a tableau.

    Parameters
    ----------
    images : (n, ny, nx) array
        Images of one amorphous film, one a tilt: counts, or a signal linear in them.
    settings : mapping
        "beam_tilts_mrad", (n, 2) as (x, y); "orders": names such as "C21" of what is fitted
        (C10, C12, C21, C23, C30 by default); and all that
        :func:`nanophantom.analysis.thon_rings.fit` takes. Nominal "aberrations" and "c30_um" help
        the start, and stay as they are where they aren't among the orders. "underfocus" and
        "defocus_range_nm" are to hold for the apparent defocus of every image.

    Returns
    -------
    dict
        As of :func:`solve`; and "defocus_nm", "c12_nm", "phi12_deg" are the lens's own. For each
        image "apparent_defocus_nm", "apparent_c12_nm", "apparent_phi12_deg",
        "fit_resolution_nm", "correlation": (n,) arrays.

    Raises
    ------
    ValueError
        If a setting is missing or wrong, images and tilts don't match, or the tilts don't
        determine the orders asked for.

    Notes
    -----
    The sign of all coefficients together hangs on the sign of the defocus, see
    :mod:`nanophantom.analysis.thon_rings`.
    """
    stack = np.asarray(images)
    tilts = np.asarray(settings.get("beam_tilts_mrad"), np.float64)
    if stack.ndim != 3 or tilts.shape != (len(stack), 2) or not np.isfinite(tilts).all():
        raise ValueError(
            "a tableau is (n, ny, nx) images with beam_tilts_mrad of shape (n, 2), got "
            f"{stack.shape} and {tilts.shape}"
        )
    energy_kev = positive_number(settings, "energy_kev")
    pixel_size_nm = positive_number(settings, "pixel_size_nm")
    components = components_of(settings.get("orders") or DEFAULT_ORDERS)
    _require_determined(tilts, components)
    nominal = known_aberrations(settings)
    fitted = {f"C{n}{m}" for n, m, _ in components}
    fixed = {k: v for k, v in nominal.items() if k.replace("phi", "C") not in fitted}

    spectra = [Rings.of(image, pixel_size_nm, settings) for image in stack]
    single = []
    for rings, tilt in zip(spectra, tilts, strict=True):
        higher = {k: v for k, v in apparent(nominal, tilt).items() if k[-2] in "35"}
        single.append(fit_rings(rings, energy_kev, higher, settings))
    start = _linear_start(tilts, single, components, fixed)
    parameters, last, spectra = _fit_all(
        spectra, tilts, single, components, fixed, start, energy_kev, settings
    )

    result = _report(components, parameters, last.covariance())
    coefficients = {**fixed, **result["coefficients"]}
    result["coefficients"] = coefficients
    seen = [apparent(coefficients, tilt) for tilt in tilts]
    shift = np.arcsin(float(settings.get("amplitude_contrast") or 0.0))
    agreed = [
        agreement(rings, chi(c, rings.kx, rings.ky, energy_kev) - shift)
        for rings, c in zip(spectra, seen, strict=True)
    ]
    return result | {
        "apparent_defocus_nm": np.array([c.get("C10", 0.0) / 10 for c in seen]),
        "apparent_c12_nm": np.array([c.get("C12", 0.0) / 10 for c in seen]),
        "apparent_phi12_deg": np.array([degrees(c.get("phi12", 0.0)) % 180 for c in seen]),
        "fit_resolution_nm": np.array([a[0] for a in agreed]),
        "correlation": np.array([a[1] for a in agreed]),
    }


def solve(
    tilts_mrad: npt.ArrayLike,
    defocus_nm: npt.ArrayLike,
    c12_nm: npt.ArrayLike,
    phi12_deg: npt.ArrayLike,
    sigmas: npt.ArrayLike | None = None,
    orders: Sequence[str] = DEFAULT_ORDERS,
) -> dict[str, Any]:
    """Solve for the aberrations that explain apparent defocus and astigmatism at some tilts.

    Parameters
    ----------
    tilts_mrad : (n, 2) array
        Tilts (x, y) of the beam.
    defocus_nm, c12_nm, phi12_deg : (n,) arrays
        Apparent defocus and twofold astigmatism of each image.
    sigmas : (n, 3) array, optional
        Standard deviations of the three, in nm, nm and degrees. 1 nm if not given, with the
        covariance then scaled to the residuals.
    orders : sequence of str
        Coefficients to solve for, "C10" to "C56".

    Returns
    -------
    dict
        "defocus_nm", "c12_nm", "phi12_deg", "c21_nm", ..., "c30_um", ... (names as in
        :class:`~nanophantom.simcore.electrons.optics.Aberrations`), with "defocus_sigma_nm",
        "c12_sigma_nm", "phi12_sigma_deg", ...; "coefficients": the same in Å and rad, as
        :func:`nanophantom.simcore.electrons.aberrations.chi` takes them; "components": the
        Cartesian parts (n, m, 0: C cos(m phi) or 1: C sin(m phi)), with their "covariance_A2".

    Raises
    ------
    ValueError
        If shapes don't match, a name is unknown, or the tilts don't determine the orders.
    """
    tilts = np.asarray(tilts_mrad, np.float64)
    columns = [np.asarray(v, np.float64) for v in (defocus_nm, c12_nm, phi12_deg)]
    if tilts.ndim != 2 or tilts.shape[1] != 2 or any(c.shape != (len(tilts),) for c in columns):
        raise ValueError(
            "tilts_mrad is (n, 2), and defocus_nm, c12_nm, phi12_deg are (n,), got "
            f"{tilts.shape} and {[c.shape for c in columns]}"
        )
    components = components_of(orders)
    _require_determined(tilts, components)
    n = len(tilts)
    errors = np.ones((n, 3)) if sigmas is None else np.asarray(sigmas, np.float64)
    if errors.shape != (n, 3) or not np.all(errors > 0):
        raise ValueError(f"sigmas are positive, of shape {(n, 3)}, got shape {errors.shape}")
    z, c12, twice = columns[0], columns[1], 2 * np.radians(columns[2])
    values = 10 * np.stack([z, c12 * np.cos(twice), c12 * np.sin(twice)], axis=1)
    scatter = np.zeros((n, 3, 3))
    # without sigmas an azimuth is as good as its amplitude; of no astigmatism it says nothing
    across = np.maximum(2 * c12 * np.radians(errors[:, 2]), errors[:, 1])
    across = errors[:, 1] if sigmas is None else across
    for i in range(n):
        turn = np.array(
            [[np.cos(twice[i]), -np.sin(twice[i])], [np.sin(twice[i]), np.cos(twice[i])]]
        )
        scatter[i, 0, 0] = errors[i, 0] ** 2
        scatter[i, 1:, 1:] = turn * np.array([errors[i, 1], across[i]]) ** 2 @ turn.T
    parameters, covariance, residuals = _least_squares(tilts, values, 100 * scatter, components)
    if sigmas is None:
        freedom = max(residuals.size - len(components), 1)
        covariance = covariance * float(np.sum(residuals**2)) / freedom
    return _report(components, parameters, covariance)


def _require_determined(tilts: Floats, components: Sequence[Component]) -> None:
    design = np.concatenate([tilt_matrix(components, tilt)[:3] for tilt in tilts])
    norms = np.linalg.norm(design, axis=0)
    missing = [f"C{n}{m}" for (n, m, _), norm in zip(components, norms, strict=True) if norm == 0]
    if not missing and np.linalg.cond(design / norms) < 1e4:
        return
    asked = ", ".join(dict.fromkeys(f"C{n}{m}" for n, m, _ in components))
    raise ValueError(
        f"these {len(tilts)} tilts don't determine {asked}: take more tilts, at two radii or more "
        "and six azimuths for orders above three"
    )


def _least_squares(
    tilts: Floats, values: Floats, scatter: Floats, components: Sequence[Component]
) -> tuple[Floats, Floats, Floats]:
    """Return parameters, covariance and weighted residuals; values (n, 3) in Å."""
    rows, right = [], []
    for tilt, value, covariance in zip(tilts, values, scatter, strict=True):
        whiten = np.linalg.inv(np.linalg.cholesky(covariance))
        rows.append(whiten @ tilt_matrix(components, tilt)[:3])
        right.append(whiten @ value)
    design, target = np.concatenate(rows), np.concatenate(right)
    scale = np.linalg.norm(design, axis=0)
    inverse = np.linalg.inv((design / scale).T @ (design / scale)) / np.outer(scale, scale)
    parameters = inverse @ (design.T @ target)
    return parameters, inverse, (target - design @ parameters).reshape(-1, 3)


def _linear_start(
    tilts: Floats,
    single: Sequence[Found],
    components: Sequence[Component],
    fixed: Mapping[str, float],
) -> Floats:
    """Solve for the components from single fits, those that don't belong being weighted down."""
    values = np.stack([found.parameters for found in single])
    for value, tilt in zip(values, tilts, strict=True):
        value -= cartesian(apparent(fixed, tilt), EVEN[:3])
    scatter = np.stack([found.covariance for found in single])
    # what the model of a single image leaves out is no better than a thousandth of the defocus
    scatter = scatter + (1e-3 * np.median(np.abs(values[:, 0]))) ** 2 * np.eye(3)
    weight = np.ones(len(values))
    for _ in range(10):
        parameters, _, residuals = _least_squares(
            tilts, values, scatter / weight[:, None, None], components
        )
        strange = np.sqrt(np.mean(residuals**2 / weight[:, None], axis=1))
        usual = max(float(np.median(strange)), 1.0)
        weight = 1 / (1 + (strange / (3 * usual)) ** 2) ** 2
    return parameters


def _fit_all(
    spectra: Sequence[Rings],
    tilts: Floats,
    single: Sequence[Found],
    components: Sequence[Component],
    fixed: Mapping[str, float],
    start: Floats,
    energy_kev: float,
    settings: Mapping[str, Any],
) -> tuple[Floats, Step, list[Rings]]:
    """Fit one set of components to all diffractograms: first to coarse periods, then to all."""
    shift = np.arcsin(float(settings.get("amplitude_contrast") or 0.0))
    matrices = [tilt_matrix(components, tilt) for tilt in tilts]
    parameters = start
    for share in (0.5, 0.75, 1.0):
        parts, bases, slopes = [], [], []
        for rings, tilt, found, matrix in zip(spectra, tilts, single, matrices, strict=True):
            now = apparent({**fixed, **named_coefficients(components, parameters)}, tilt)
            finest = resolved_frequency(rings, now, energy_kev)
            if np.isfinite(found.resolution_nm):
                finest = min(finest, 0.115 / found.resolution_nm)
            part = rings.up_to(share * finest)
            parts.append(part)
            bases.append(chi(apparent(fixed, tilt), part.kx, part.ky, energy_kev) - shift)
            used = np.flatnonzero(np.any(matrix != 0, axis=1))
            even = np.stack([_unit_phase(EVEN[i], part, energy_kev) for i in used])
            slopes.append(matrix[used].T @ even)

        def step(p: Floats, parts: Any = parts, bases: Any = bases, slopes: Any = slopes) -> Step:
            steps = [
                part.step(base + p @ slope, slope)
                for part, base, slope in zip(parts, bases, slopes, strict=True)
            ]
            return Step(
                sum(s.cost for s in steps),
                np.sum([s.gradient for s in steps], axis=0),
                np.sum([s.normal for s in steps], axis=0),
                np.sum([s.scatter for s in steps], axis=0),
            )

        parameters, last = minimise(step, parameters, rounds=12, tolerance=0.02)
    return parameters, last, parts


def _unit_phase(component: Component, rings: Rings, energy_kev: float) -> Floats:
    """Return the phase that 1 Å of a component makes."""
    return chi(named_coefficients([component], np.ones(1)), rings.kx, rings.ky, energy_kev)


def _report(components: Sequence[Component], values: Floats, covariance: Floats) -> dict[str, Any]:
    """Return the coefficients in the units of the optics, with standard deviations."""
    named = named_coefficients(components, values)
    result: dict[str, Any] = {}
    for name, (n, m) in ORDERS.items():
        if name not in named:
            continue
        unit, length_A = UNITS[n]
        label = "defocus" if name == "C10" else name.lower()
        result[f"{label}_{unit}"] = named[name] / length_A
        at = [i for i, component in enumerate(components) if component[:2] == (n, m)]
        own = covariance[np.ix_(at, at)]
        if not m:
            result[f"{label}_sigma_{unit}"] = float(np.sqrt(own[0, 0])) / length_A
            continue
        angle = m * named[f"phi{n}{m}"]
        along = np.array([np.cos(angle), np.sin(angle)])
        across = np.array([-np.sin(angle), np.cos(angle)])
        result[f"{label}_sigma_{unit}"] = float(np.sqrt(along @ own @ along)) / length_A
        sigma = float(np.sqrt(across @ own @ across)) / (m * max(named[name], 1e-12))
        result[f"phi{n}{m}_deg"] = degrees(named[f"phi{n}{m}"])
        # of a coefficient that is lost in noise the azimuth is anything
        result[f"phi{n}{m}_sigma_deg"] = min(degrees(sigma), 360 / m / 12**0.5)
    return result | {
        "coefficients": named,
        "components": tuple(components),
        "covariance_A2": covariance,
    }
