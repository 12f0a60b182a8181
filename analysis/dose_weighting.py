"""The exposure filter: add the frames of a movie up, each trusted as far as damage left it.

Radiation fades the Fourier amplitudes of a specimen as exp(-N / 2 N_e(k)), N being the fluence it
received and N_e(k) the critical dose at spatial frequency k. Shot noise doesn't fade. Of all
weighted sums of counts the one with weights in proportion to the surviving amplitude has the best
signal-to-noise ratio at each frequency, whatever the dose of each frame: signal and variance both
go with it (Grant & Grigorieff, eLife 4 (2015) e06980).

Frequencies are in 1/Å and doses in e/Å², as critical doses are published.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

FloatArray = npt.NDArray[np.float64]
CriticalDose = Callable[[FloatArray], npt.ArrayLike] | npt.ArrayLike
"""N_e(k) in e/Å² for k > 0 in 1/Å, or its values at the frequencies asked for."""

OPTIMAL_EXPOSURE = 2.512862
"""Fluence, in units of N_e, at which a plain sum's signal-to-noise ratio is greatest.

It goes as (1 - exp(-x)) / sqrt(x) with x = N / 2 N_e: exp(x) = 1 + 2 x, x = 1.256431.
"""


def mid_exposures(
    n: int, dose_per_frame_e_per_A2: npt.ArrayLike, pre_exposure_e_per_A2: float = 0.0
) -> tuple[FloatArray, FloatArray]:
    """Return the fluence in the middle of each of n frames, and the dose of each, in e/Å².

    Raises
    ------
    ValueError
        If a dose isn't positive, there isn't one for all or one for each frame, or the
        pre-exposure is negative.
    """
    doses = np.asarray(dose_per_frame_e_per_A2, float)
    if doses.shape not in ((), (n,)):
        raise ValueError(f"one dose for all or one for each of {n} frames, got {doses.shape}")
    doses = np.broadcast_to(doses, (n,))
    if not np.all(np.isfinite(doses) & (doses > 0)):
        raise ValueError("the dose of a frame must be positive")
    if not 0 <= pre_exposure_e_per_A2 < np.inf:
        raise ValueError(f"the pre-exposure must be 0 or more, got {pre_exposure_e_per_A2}")
    return pre_exposure_e_per_A2 + np.cumsum(doses) - 0.5 * doses, doses


def surviving_amplitude(
    fluence_e_per_A2: float, critical_dose_e_per_A2: FloatArray, cut: bool = False
) -> FloatArray:
    """Return exp(-N / 2 N_e), zero beyond the optimal exposure if `cut`."""
    amplitude = np.exp(-0.5 * fluence_e_per_A2 / critical_dose_e_per_A2)
    if cut:
        amplitude[fluence_e_per_A2 > OPTIMAL_EXPOSURE * critical_dose_e_per_A2] = 0
    return np.asarray(amplitude)


def exposure_weights(
    n: int,
    k_per_A: npt.ArrayLike,
    dose_per_frame_e_per_A2: npt.ArrayLike,
    critical_dose: CriticalDose,
    pre_exposure_e_per_A2: float = 0.0,
    cut: bool = False,
) -> FloatArray:
    """Return the factors for the transforms of n frames of counts, (n, *k.shape).

    They are normalised such that the weighted sum has the white noise of the plain sum:
    sum(dose weight^2) = sum(dose). With frames of equal dose this is the division by the root of
    the sum of squares of Grant & Grigorieff.

    Parameters
    ----------
    n : int
        Number of frames.
    k_per_A : array
        Spatial frequencies; k = 0, the mean, doesn't fade.
    dose_per_frame_e_per_A2 : float or (n,) array
    critical_dose : callable or array of k's shape
    pre_exposure_e_per_A2 : float
        Fluence before the first frame.
    cut : bool
        Leave a frequency away from the frames whose middle lies beyond its optimal exposure.

    Raises
    ------
    ValueError
        If doses or critical doses aren't positive, or a frequency is cut from all frames.
    """
    fluences, doses = mid_exposures(n, dose_per_frame_e_per_A2, pre_exposure_e_per_A2)
    N_e = _critical_doses(np.asarray(k_per_A, float), critical_dose)
    weights = np.stack([surviving_amplitude(N, N_e, cut) for N in fluences])
    return weights / _noise_gain(np.tensordot(doses, weights**2, 1), float(np.sum(doses)))


def dose_weighted_sum(
    frames: npt.ArrayLike,
    shifts_px: npt.ArrayLike | None,
    dose_per_frame_e_per_A2: npt.ArrayLike,
    pixel_size_nm: float,
    critical_dose: CriticalDose,
    pre_exposure_e_per_A2: float = 0.0,
    cut: bool = False,
) -> FloatArray:
    """Add the frames of a movie up with the exposure filter.

    Each frame is moved back by its shift. Where it saw nothing of frame 0's field it counts with
    its mean: signal and noise fade together towards those edges.

    Parameters
    ----------
    frames : (n, ny, nx) array
        Counts, not divided by the dose.
    shifts_px : (n, 2) array or None
        (dy, dx): what lies at p in frame 0 lies at p + shift in frame i. None: registered.
    dose_per_frame_e_per_A2 : float or (n,) array
    pixel_size_nm : float
    critical_dose : callable or (ny, nx // 2 + 1) array
        N_e(k), or its values on the grid of rfft2.
    pre_exposure_e_per_A2, cut
        See :func:`exposure_weights`.

    Returns
    -------
    (ny, nx) float64
        Sum in the coordinates of frame 0; its mean is the plain sum's.

    Raises
    ------
    ValueError
        If the frames aren't a finite (n, ny, nx) stack, shifts don't fit or leave nothing in
        common, or a dose isn't positive.
    """
    stack = np.asarray(frames)
    if stack.ndim != 3 or stack.dtype.kind not in "uif" or not np.isfinite(stack).all():
        raise ValueError(f"frames must be a finite real (n, ny, nx) stack, got {stack.shape}")
    n, ny, nx = stack.shape
    shifts = np.zeros((n, 2)) if shifts_px is None else np.asarray(shifts_px, float)
    if shifts.shape != (n, 2) or not np.all(np.abs(shifts) < [ny, nx]):
        raise ValueError(f"shifts must be ({n}, 2) pixels within the image, got {shifts.shape}")
    if not pixel_size_nm > 0:
        raise ValueError(f"pixel_size_nm must be positive, got {pixel_size_nm}")
    fluences, doses = mid_exposures(n, dose_per_frame_e_per_A2, pre_exposure_e_per_A2)
    ky, kx = fft.fftfreq(ny)[:, None], fft.rfftfreq(nx)[None, :]
    N_e = _critical_doses(np.hypot(ky, kx) / (10 * pixel_size_nm), critical_dose)

    total = np.zeros((ny, nx // 2 + 1), complex)
    variance = np.zeros_like(N_e)
    for frame, shift, fluence, dose in zip(stack, shifts, fluences, doses, strict=True):
        weight = surviving_amplitude(float(fluence), N_e, cut)
        total += weight * _spectrum_moved_back(frame, shift)
        variance += dose * weight**2
    total /= _noise_gain(variance, float(np.sum(doses)))
    return np.asarray(fft.irfft2(total, (ny, nx), workers=1))


def _critical_doses(k_per_A: FloatArray, critical_dose: CriticalDose) -> FloatArray:
    """Return N_e on the grid, infinite at k = 0."""
    if callable(critical_dose):
        N_e = np.full(k_per_A.shape, np.inf)
        N_e[k_per_A > 0] = critical_dose(k_per_A[k_per_A > 0])
    else:
        values = np.asarray(critical_dose, float)
        if values.shape not in ((), k_per_A.shape):
            raise ValueError(f"critical doses must have the shape {k_per_A.shape}, {values.shape}")
        N_e = np.where(k_per_A > 0, values, np.inf)
    if not np.all(N_e > 0):
        raise ValueError("critical doses must be positive")
    return N_e


def _noise_gain(variance: FloatArray, total_dose: float) -> FloatArray:
    """Return the factor by which the weights would change the noise of the plain sum."""
    if np.any(variance <= 0):
        raise ValueError("a frequency is beyond its optimal exposure in all frames: don't cut")
    return np.asarray(np.sqrt(variance / total_dose))


def _spectrum_moved_back(frame: npt.NDArray[Any], shift: FloatArray) -> npt.NDArray[np.complex128]:
    """Return rfft2 of the frame moved by -shift, with its mean where it saw nothing."""
    ny, nx = frame.shape
    whole = np.rint(shift).astype(int)
    dy, dx = (int(step) for step in whole)
    moved = np.full((ny, nx), np.mean(frame, dtype=np.float64))
    to_y, to_x = slice(max(0, -dy), ny - max(0, dy)), slice(max(0, -dx), nx - max(0, dx))
    from_y, from_x = slice(max(0, dy), ny + min(0, dy)), slice(max(0, dx), nx + min(0, dx))
    moved[to_y, to_x] = frame[from_y, from_x]
    rest = shift - whole
    turns = fft.fftfreq(ny)[:, None] * rest[0] + fft.rfftfreq(nx)[None, :] * rest[1]
    return np.asarray(fft.rfft2(moved, workers=1) * np.exp(2j * np.pi * turns))
