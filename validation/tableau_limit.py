"""What counting leaves of the aberrations: the Cramér-Rao bound of a tableau's power spectra.

Under a beam tilted by tau a thin film of potential V gives the contrast sigma V(k) i (T+ - T-*),
T± = exp(-i [chi(tau ± k) - chi(tau)]) times the envelopes of both coherences. Its power spectrum is
sigma^2 P_V(k) |T+ - T-*|^2 and that of counting, 1 / dose, on top. The film is random, so each
pixel of a periodogram is distributed exponentially about its expectation p and carries the Fisher
information (d ln p / d a)(d ln p / d b) about two aberrations a, b. Neighbouring pixels of the
spectrum of an image are independent if no window is laid on it. Film, envelopes and dose count as
known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.electrons.aberrations import chi, chi_gradient
from nanophantom.simcore.electrons.constants import interaction_constant, wavelength

Floats = npt.NDArray[np.float64]
Lens = Mapping[str, float]

STRIDE = 2
"""One row and column of a spectrum in so many stands for the others."""


def ring_power(
    lens: Lens,
    tilt_mrad: tuple[float, float],
    kx_per_nm: Floats,
    ky_per_nm: Floats,
    energy_kev: float,
    focal_spread_nm: float,
    convergence_mrad: float,
) -> Floats:
    """Return |T+ - T-*|^2: 4 sin^2 chi without tilt and with full coherence.

    Parameters
    ----------
    lens
        Aberrations, Å and rad.
    tilt_mrad
        Tilt (x, y) of the beam.
    kx_per_nm, ky_per_nm : (n,) arrays
        Frequencies.
    """
    lam = float(wavelength(energy_kev))
    qx, qy = (1e-3 * t / lam for t in tilt_mrad)
    kx, ky = kx_per_nm / 10, ky_per_nm / 10
    origin, still = chi(lens, qx, qy, energy_kev), chi_gradient(lens, qx, qy, energy_kev)

    def side(sign: int) -> npt.NDArray[np.complex128]:
        px, py = qx + sign * kx, qy + sign * ky
        slope = chi_gradient(lens, px, py, energy_kev)
        path = np.pi * lam * (px**2 + py**2 - qx**2 - qy**2)
        temporal = 0.5 * (10 * focal_spread_nm * path) ** 2
        steepness = (slope[0] - still[0]) ** 2 + (slope[1] - still[1]) ** 2
        spatial = 0.5 * (1e-3 * convergence_mrad / lam) ** 2 * steepness
        turn = chi(lens, px, py, energy_kev) - origin
        return np.asarray(np.exp(-1j * turn - temporal - spatial))

    return np.asarray(np.abs(side(1) - side(-1).conj()) ** 2)


def information(power: Callable[[Floats], Floats], at: Floats, step: Floats) -> Floats:
    """Return the Fisher matrix of exponentially distributed values about their parameters.

    Parameters
    ----------
    power
        Expectations (n,) for parameters (p,).
    at, step : (p,)
        Parameters, and steps for the derivatives.
    """
    here = power(at)
    slopes = []
    for i, h in enumerate(step):
        away = np.zeros_like(at)
        away[i] = h
        slopes.append((power(at + away) - power(at - away)) / (2 * h * here))
    design = np.stack(slopes)
    return np.asarray(design @ design.T)


def aberration_limit(
    lens: Callable[[Floats], Lens],
    at: Floats,
    step: Floats,
    tilts_mrad: Sequence[tuple[float, float]],
    shape: tuple[int, int],
    pixel_nm: float,
    film_power_V2_nm4: Callable[[Floats], Floats],
    dose_e_per_A2: float,
    energy_kev: float,
    focal_spread_nm: float,
    convergence_mrad: float,
) -> Floats:
    """Return the covariance (p, p) that no unbiased measurement of the parameters goes below.

    Parameters
    ----------
    lens
        Gives the aberrations (Å, rad) for parameters (p,).
    at, step : (p,)
        True parameters, and steps for derivatives.
    tilts_mrad
        One an image.
    shape, pixel_nm
        Of an image.
    film_power_V2_nm4
        Spectral density of the film's projected potential at k in 1/nm.
    """
    kx, ky = (np.fft.fftfreq(n, pixel_nm)[::STRIDE] for n in (shape[1], shape[0]))
    x, y = (grid.ravel() for grid in np.meshgrid(kx, ky))
    half = (x > 0) & (np.hypot(x, y) < 0.5 / pixel_nm)
    x, y = x[half], y[half]
    per_volt_nm = 10 * interaction_constant(energy_kev)
    film = per_volt_nm**2 * film_power_V2_nm4(np.hypot(x, y))
    film = film * (np.sinc(x * pixel_nm) * np.sinc(y * pixel_nm)) ** 2
    counting = 1 / (100 * dose_e_per_A2)
    total = np.zeros((len(at), len(at)))
    for tilt in tilts_mrad:

        def power(values: Floats, tilt: tuple[float, float] = tilt) -> Floats:
            rings = ring_power(
                lens(values), tilt, x, y, energy_kev, focal_spread_nm, convergence_mrad
            )
            return np.asarray(film * rings + counting)

        total += STRIDE**2 * information(power, at, step)
    scale = 1 / np.sqrt(np.diag(total))
    return np.asarray(np.linalg.inv(total * np.outer(scale, scale)) * np.outer(scale, scale))
