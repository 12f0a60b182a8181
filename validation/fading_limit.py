"""How precisely a critical dose can be known: the Cramér-Rao bound of a fading amplitude."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

Floats = npt.NDArray[np.float64]


def critical_dose_limit(
    snr: npt.ArrayLike,
    critical_dose_e_per_A2: npt.ArrayLike,
    dose_per_frame_e_per_A2: npt.ArrayLike,
    before_e_per_A2: float = 0.0,
) -> Floats:
    """Bound the standard deviation of ln N_c of reflections that fade as exp(-N / N_c).

    The coefficient of frame i is A s_i with s_i = (d_i / mean d) exp(-N_i / 2 N_c), N_i the fluence
    in the middle of its exposure, plus complex noise of the power B d_i / mean d. Amplitude and
    phase of A are unknown, shifts known. With w_i = s_i^2 / (d_i / mean d) the Fisher information
    of ln N_c, the amplitude's share taken off, is
    2 (|A|^2 / B) (sum w g^2 - (sum w g)^2 / sum w), g_i = N_i / 2 N_c. The phase has no share.

    Parameters
    ----------
    snr
        |A|^2 / B of each reflection in a frame of the mean dose, nothing faded; shape (spots,).
    critical_dose_e_per_A2
        N_c, shape (spots,).
    dose_per_frame_e_per_A2
        d_i, shape (frames,).
    before_e_per_A2
        Fluence before the first frame.

    Returns
    -------
    (spots,) array
        Infinite without signal.
    """
    dose = np.asarray(dose_per_frame_e_per_A2, np.float64)
    N = before_e_per_A2 + np.cumsum(dose) - 0.5 * dose
    g = 0.5 * N / np.asarray(critical_dose_e_per_A2, np.float64)[:, np.newaxis]
    w = dose / dose.mean() * np.exp(-2 * g)
    spread = np.sum(w * g**2, axis=1) - np.sum(w * g, axis=1) ** 2 / np.sum(w, axis=1)
    with np.errstate(divide="ignore"):
        return np.asarray(1 / np.sqrt(2 * np.asarray(snr, np.float64) * spread), np.float64)


def median_of_bells(sigma: npt.ArrayLike) -> float:
    """Return the median |x| of numbers x from normal distributions of these deviations about 0.

    m at which the mean of erf(m / (sqrt(2) sigma)) is one half.
    """
    deviations = np.asarray(sigma, np.float64)

    def excess(m: float) -> float:
        return float(np.mean(special.erf(m / (np.sqrt(2) * deviations)))) - 0.5

    return float(optimize.brentq(excess, 0.6 * deviations.min(), 0.7 * deviations.max()))
