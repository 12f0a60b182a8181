"""The exit wave of a specimen from a through-focus series of images.

Maximum likelihood (W. Coene, A. Thust, M. Op de Beeck and D. Van Dyck, Ultramicroscopy 64 (1996)
109-135): the wave whose images at all defoci are closest to those measured, partial coherence and
all non-linear terms in the model, the specimen's drift and, if wanted, the defoci found along
with it. The start is the linear solution, right for weak objects: least squares with the noise as
regularisation, as a Wiener filter. Its normal matrix, two by two for the beams k and -k,
preconditions the search (L-BFGS).

**What the images don't say.** Phases of long periods: images of the beams k and -k at defocus Z
differ from none by sin(pi lambda Z k^2), which is small up to k = 1 / sqrt(lambda Z) or so. With
noise such a phase fades to zero, with ``phase_transfer`` telling how much of it is left; a slow
phase ramp and the mean phase are lost at any dose. A common error of all defoci only propagates
the wave: the mean defocus is taken as given.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from nanophantom.analysis.exit_wave_model import FocalSeriesModel, Misfit
from nanophantom.analysis.exit_wave_start import (
    Normal,
    first_shifts,
    linear_solution,
    noise_to_signal,
)
from nanophantom.simcore.electrons.aberrations import chi_gradient
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.optics import Aberrations
from nanophantom.simcore.fft import fast_length

Floats = npt.NDArray[np.float64]
Complexes = npt.NDArray[np.complex128]


def restore(images: npt.ArrayLike, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Restore the exit wave of a focal series.

    Parameters
    ----------
    images : (n, ny, nx) array
        Counts, three images at least.
    settings : mapping
        "pixel_size_nm", "energy_kev", "defoci_nm" (n,; negative is underfocus) and
        "dose_e_per_A2" (of one image, or (n,); times the pixel's area the counts of the bare
        beam). If there are any, "c30_um" and other "aberrations" (names as in
        :class:`~nanophantom.simcore.electrons.optics.Aberrations`), "aperture_mrad",
        "focal_spread_nm", "convergence_mrad" (standard deviations). "refine_defoci": "step" (the
        common step) or "each"; the mean stays. "align": False if there is no drift.
        "periodic": True if the images go on periodically, as simulated ones may. "iterations": 100.

    Returns
    -------
    dict
        wave : (ny, nx) complex128
            At the exit face in the coordinates of image 0, 1 being the incident amplitude, up to
            the aperture (or where the focal spread ends all contrast). Its mean is real, positive.
        shifts_px : (n, 2) float64
            (dy, dx): what lies at p in image 0 lies at p + shift in image i.
        defoci_nm : (n,) float64
            As refined.
        residual : (n,) float64
            Rms difference of each image and its model over the noise of the bare beam's counts:
            about 1, or the square root of the mean intensity, if the model is right.
        resolution_nm : float
            Finest period of the wave.
        k_per_nm, phase_transfer, amplitude_transfer : (bins,) float64
            Part of a weak phase's, or absorption's, Fourier component at k that noise leaves.
        coarsest_phase_nm : float
            Period beyond which less than half of a phase's amplitude is left.

    Raises
    ------
    ValueError
        If a setting is missing or wrong, or the images don't match them.
    """
    stack, counts, pixel_A, defoci_A = _checked(images, settings)
    data = stack / counts[:, None, None]
    mean_counts = float(np.mean(counts))
    n, ny, nx = data.shape
    shifts_A = np.zeros((n, 2))
    if settings.get("align", True):
        whole = FocalSeriesModel((ny, nx), (0, 0), pixel_A, **_optics(pixel_A, settings))
        shifts_A = first_shifts(whole, data, defoci_A)
    model = _model((ny, nx), pixel_A, defoci_A, shifts_A, settings)
    noise = noise_to_signal(model, data, mean_counts)
    normal = Normal.of(model, defoci_A, noise)
    beams = linear_solution(model, normal, data, shifts_A, defoci_A)
    beams, shifts_A, defoci_A, last = _descend(
        model, normal, data, mean_counts, beams, shifts_A, defoci_A, settings
    )

    wave = model.wave(beams)
    mean = np.mean(wave)
    wave *= np.conj(mean) / abs(mean)
    k, phase_transfer, amplitude_transfer = normal.radial_transfer(model)
    lost = np.flatnonzero(phase_transfer < 0.5)
    below = lost[lost < np.argmax(phase_transfer)]
    return {
        "wave": wave,
        "shifts_px": shifts_A / pixel_A,
        "defoci_nm": defoci_A / 10,
        "residual": last.residual_rms,
        "resolution_nm": float(0.1 / np.hypot(model.kx, model.ky).max()),
        "k_per_nm": 10 * k,
        "phase_transfer": phase_transfer,
        "amplitude_transfer": amplitude_transfer,
        "coarsest_phase_nm": float(0.1 / k[below[-1]]) if len(below) else float("inf"),
    }


def _descend(
    model: FocalSeriesModel,
    normal: Normal,
    data: Floats,
    counts: float,
    beams: Complexes,
    shifts_A: Floats,
    defoci_A: Floats,
    settings: Mapping[str, Any],
) -> tuple[Complexes, Floats, Floats, Misfit]:
    """Minimise misfit and prior over the wave first, then over shifts and defoci as well."""
    n, size = len(data), len(beams)
    weight = counts * model.shape[0] * model.shape[1]
    root, cross = normal.inverse_root()
    root, cross = root / np.sqrt(weight), cross / np.sqrt(weight)
    prior = normal.noise * weight
    direct = int(np.flatnonzero((model.row == 0) & (model.column == 0))[0])
    root[direct], cross[direct] = 1 / np.sqrt(4 * n * weight), 0

    def spread(values: Complexes) -> Complexes:
        # symmetric as a real matrix, so it serves the gradient too
        return np.asarray(root * values + cross * values[model.opposite].conj())

    start_beams, start_shifts, start_defoci = beams, shifts_A, defoci_A
    unit_shift, unit_defocus = _units(model, data, counts)
    align = bool(settings.get("align", True))
    unit_shift *= align
    directions = _defocus_directions(defoci_A, settings.get("refine_defoci"))

    def unpack(x: Floats) -> tuple[Complexes, Floats, Floats]:
        waves = spread(x[:size] + 1j * x[size : 2 * size])
        moved = np.zeros((n, 2))
        if len(x) > 2 * size:
            moved = unit_shift * x[2 * size : 2 * size + 2 * n].reshape(n, 2)
            turned = unit_defocus * directions @ x[2 * size + 2 * n :]
        else:
            turned = np.zeros(n)
        return start_beams + waves, start_shifts + moved, start_defoci + turned

    def objective(x: Floats) -> tuple[float, Floats]:
        now, shifts, defoci = unpack(x)
        misfit = model.misfit(now, shifts, defoci, data, counts)
        scattered = now.copy()
        scattered[direct] = 0
        cost = misfit.cost + prior * float(np.sum(np.abs(scattered) ** 2))
        wave_gradient = spread(misfit.beams + 2 * prior * scattered)
        gradient = [wave_gradient.real, wave_gradient.imag]
        if len(x) > 2 * size:
            gradient += [unit_shift * misfit.shifts_A.ravel()]
            gradient += [unit_defocus * misfit.defoci_A @ directions]
        return cost, np.concatenate(gradient)

    iterations = int(settings.get("iterations") or 100)
    geometry = 2 * n + directions.shape[1] if align or directions.shape[1] else 0
    stages = [(2 * size, min(10, iterations)), (2 * size + geometry, iterations)]
    for unknowns, rounds in stages if geometry else [(2 * size, iterations)]:
        result = minimize(
            objective,
            np.zeros(unknowns),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": rounds, "maxcor": 12, "ftol": 1e-9, "gtol": 1e-6},
        )
        start_beams, start_shifts, start_defoci = unpack(result.x)
    # the search moves wave and images together as it likes: image 0 is where it starts from
    start_beams = start_beams * model.shift_factor(start_shifts[0])
    start_shifts = start_shifts - start_shifts[0]
    last = model.misfit(start_beams, start_shifts, start_defoci, data, counts)
    return start_beams, start_shifts, start_defoci, last


def _units(model: FocalSeriesModel, data: Floats, counts: float) -> tuple[float, float]:
    """Return the shift and the change of defocus, in Å, that a typical image can tell."""
    power = np.mean([np.abs(model.spectrum(d - d.mean())) ** 2 for d in data], axis=0)
    k2 = model.kx**2 + model.ky**2
    weight = counts * model.shape[0] * model.shape[1]
    steepness = weight * np.sum(4 * np.pi**2 * k2 / 2 * power) + 1e-30
    per_defocus = weight * np.sum(model.phase_per_A**2 * power) + 1e-30
    return float(steepness**-0.5), float(per_defocus**-0.5)


def _defocus_directions(defoci_A: Floats, refine: Any) -> Floats:
    """Return orthogonal directions (n, q) in which the defoci may move, their mean at rest."""
    n = len(defoci_A)
    if refine in (None, False):
        return np.zeros((n, 0))
    if refine == "step":
        away = defoci_A - defoci_A.mean()
        return np.asarray((away / np.linalg.norm(away))[:, None])
    if refine == "each":
        basis, _ = np.linalg.qr(np.column_stack([np.ones(n), np.eye(n)[:, 1:]]))
        return np.asarray(basis[:, 1:])
    raise ValueError(f'refine_defoci is "step", "each" or None, got {refine!r}')


def _optics(pixel_A: float, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the model's optics from the settings."""
    energy_kev = _number(settings, "energy_kev")
    wavelength_A = float(wavelength(energy_kev))
    named = dict(settings.get("aberrations") or {})
    if settings.get("c30_um") is not None:
        if "c30_um" in named:
            raise ValueError('c30_um is given twice: leave it away in "aberrations"')
        named["c30_um"] = settings["c30_um"]
    spread_A = 10 * _number(settings, "focal_spread_nm", 0.0)
    limits = [0.495 / pixel_A]
    if settings.get("aperture_mrad") is not None:
        limits.append(1e-3 * _number(settings, "aperture_mrad") / wavelength_A)
    if spread_A:
        # the envelope exp(-(pi lambda k^2 spread)^2 / 2) is down to a hundredth
        limits.append((np.sqrt(2 * np.log(100)) / (np.pi * wavelength_A * spread_A)) ** 0.5)
    return {
        "energy_kev": energy_kev,
        "k_max": float(min(limits)),
        "coefficients": Aberrations(**named).coefficients(),
        "focal_spread_A": spread_A,
        "convergence_rad": 1e-3 * _number(settings, "convergence_mrad", 0.0),
    }


def _model(
    frame: tuple[int, int],
    pixel_A: float,
    defoci_A: Floats,
    shifts_A: Floats,
    settings: Mapping[str, Any],
) -> FocalSeriesModel:
    """Return the model, its margin as wide as the lens spreads a point and the drift goes."""
    optics = _optics(pixel_A, settings)
    margin = [0, 0]
    if not settings.get("periodic"):
        k = np.linspace(0, optics["k_max"], 64)
        azimuth = np.linspace(0, 2 * np.pi, 24)[:, None]
        reach = 0.0
        for defocus in (defoci_A.min(), defoci_A.max()):
            lens = {**optics["coefficients"], "C10": float(defocus)}
            slope = chi_gradient(
                lens, k * np.cos(azimuth), k * np.sin(azimuth), optics["energy_kev"]
            )
            reach = max(reach, float(np.hypot(*slope).max()) / (2 * np.pi))
        for axis, n in enumerate(frame):
            drift = float(np.ptp(np.append(shifts_A[:, axis], 0))) / pixel_A
            # a margin of a quarter on each side makes the grid large enough
            margin[axis] = int(np.ceil(min(reach / pixel_A, n / 4) + drift)) + 2
            while fast_length(n + 2 * margin[axis]) != n + 2 * margin[axis]:
                margin[axis] += 1
    return FocalSeriesModel(frame, (margin[0], margin[1]), pixel_A, **optics)


def _checked(
    images: npt.ArrayLike, settings: Mapping[str, Any]
) -> tuple[Floats, Floats, float, Floats]:
    """Return images, counts of the bare beam (n,), pixel in Å and defoci in Å."""
    stack = np.asarray(images)
    if stack.ndim != 3 or len(stack) < 3 or min(stack.shape[1:]) < 16:
        raise ValueError(
            f"a focal series is (n, ny, nx), 3 images of 16 x 16 at least, got {stack.shape}"
        )
    if stack.dtype.kind not in "uif" or not np.isfinite(stack).all():
        raise ValueError("images must hold finite real numbers")
    pixel_A = 10 * _number(settings, "pixel_size_nm")
    defoci_nm = np.asarray(settings.get("defoci_nm"), np.float64)
    if defoci_nm.shape != (len(stack),) or not np.isfinite(defoci_nm).all():
        raise ValueError(f"defoci_nm must be {len(stack)} numbers, one an image, got {defoci_nm}")
    if np.ptp(defoci_nm) == 0:
        raise ValueError("a focal series needs different defoci")
    dose = np.asarray(settings.get("dose_e_per_A2"), np.float64)
    if dose.shape not in ((), (len(stack),)) or not np.all(dose > 0):
        raise ValueError(f"dose_e_per_A2 must be positive, one number or one an image, got {dose}")
    counts = np.broadcast_to(dose * pixel_A**2, (len(stack),)).astype(np.float64)
    data = stack.astype(np.float64)
    if not data.mean() > 0:
        raise ValueError("the images hold no counts")
    return data, counts, pixel_A, 10 * defoci_nm


def _number(settings: Mapping[str, Any], name: str, default: float | None = None) -> float:
    """Return a positive setting; with a default, one that may be missing or zero."""
    value = settings.get(name)
    value = default if value is None else float(value)
    if value is None or not isfinite(value) or value < 0 or (value == 0 and default is None):
        raise ValueError(f"settings need a positive {name!r}, got {settings.get(name)}")
    return value
