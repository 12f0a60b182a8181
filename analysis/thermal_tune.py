"""Calibrate a lever by its own thermal motion: stiffness and sensitivity.

The steps of a calibration, each of which stands alone:

1. :func:`sensitivity_nm_per_V`: the inverse optical lever sensitivity (InvOLS) from a force curve
   on a stiff surface;
2. :func:`~nanophantom.analysis.resonance_fit.power_spectrum` of the free lever's deflection
   (Welch);
3. :func:`~nanophantom.analysis.resonance_fit.fit_resonance`: a resonator and a white floor by
   maximum likelihood;
4. :func:`thermal_stiffness`, from the area under the resonance (J. L. Hutter and J. Bechhoefer,
   Rev. Sci. Instrum. 64 (1993) 1868), :func:`sader_stiffness`, from its place and width, or with a
   known stiffness :func:`contactless_sensitivity_nm_per_V`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nanophantom.analysis.resonance_fit import Resonance
from nanophantom.simcore.probes.beam import optical_gains, thermal_shares
from nanophantom.simcore.probes.cantilever import BOLTZMANN_NN_NM_PER_K
from nanophantom.simcore.probes.hydrodynamics import AIR, Fluid, sader_stiffness_n_per_m


class Estimate(NamedTuple):
    """A measured number and its standard uncertainty."""

    value: float
    sd: float


def thermal_stiffness(
    resonance: Resonance,
    temperature_k: float = 298.15,
    sensitivity_nm_per_V: Estimate | float = 1.0,
    *,
    optical_lever: bool = True,
) -> Estimate:
    """Return the static stiffness (N/m) of a rectangular lever by the thermal motion of mode 1.

    ``k = 0.9707 kT / <x^2>``; with an optical lever that was calibrated on a stiff surface
    ``k = 0.8174 kT / <x^2>``, because the slope of the mode isn't that of the calibration (Butt and
    Jaschke, Nanotechnology 6 (1995) 1).

    Parameters
    ----------
    resonance
        Fitted to mode 1.
    temperature_k
        Of the lever.
    sensitivity_nm_per_V
        InvOLS if the record was in V; 1 for a record in nm.
    optical_lever
        False if the motion of the end itself was recorded (interferometer).

    Raises
    ------
    ValueError
        Temperature or sensitivity is not positive.
    """
    scale = _estimate(sensitivity_nm_per_V, "sensitivity_nm_per_V")
    variance_nm2 = resonance.variance * scale.value**2
    value = _shared_energy_nn_nm(temperature_k, optical_lever) / variance_nm2
    relative = math.hypot(resonance.sd[2] / resonance.variance, 2.0 * scale.sd / scale.value)
    return Estimate(value, value * relative)


def sader_stiffness(
    resonance: Resonance, length_um: float, width_um: float, fluid: Fluid = AIR
) -> Estimate:
    """Return the static stiffness (N/m) of a rectangular lever by Sader's method.

    Its uncertainty is that of resonance and quality factor alone. See
    :func:`nanophantom.simcore.probes.hydrodynamics.sader_stiffness_n_per_m`.

    Raises
    ------
    ValueError
        A length is not positive, or the Reynolds number is out of range.
    """
    khz, q = 1e-3 * resonance.resonance_hz, resonance.quality_factor

    def stiffness(khz: float, quality: float) -> float:
        return sader_stiffness_n_per_m(khz, quality, length_um, width_um, fluid)

    value = stiffness(khz, q)
    step = 1e-4 * khz
    by_khz = (stiffness(khz + step, q) - stiffness(khz - step, q)) / (2.0 * step)
    slopes = np.array([1e-3 * by_khz, value / q])
    return Estimate(value, math.sqrt(float(slopes @ resonance.covariance[:2, :2] @ slopes)))


def contactless_sensitivity_nm_per_V(
    resonance: Resonance, stiffness_n_per_m: Estimate | float, temperature_k: float = 298.15
) -> Estimate:
    """Return the InvOLS (nm/V) of an optical lever from a record in V and a known stiffness.

    ``sqrt(0.8174 kT / (k <V^2>))``; the tip doesn't touch anything (M. J. Higgins et al., Rev. Sci.
    Instrum. 77 (2006) 013701).

    Raises
    ------
    ValueError
        Temperature or stiffness is not positive.
    """
    k = _estimate(stiffness_n_per_m, "stiffness_n_per_m")
    energy = _shared_energy_nn_nm(temperature_k, optical_lever=True)
    value = math.sqrt(energy / (k.value * resonance.variance))
    relative = 0.5 * math.hypot(resonance.sd[2] / resonance.variance, k.sd / k.value)
    return Estimate(value, value * relative)


def sensitivity_nm_per_V(
    height_nm: npt.ArrayLike,
    deflection_V: npt.ArrayLike,
    within: tuple[float, float] = (0.2, 0.9),
) -> Estimate:
    """Return the InvOLS (nm/V): the inverse slope of a force curve in contact, stiff surface.

    A line is fitted where the curve lies between two shares of its rise over the baseline, the
    median of the quarter of the curve that is farthest from the surface. What the surface gives
    way, the lever's stiffness over the contact's, adds to the sensitivity by that share.

    Parameters
    ----------
    height_nm : (n,)
        Height of the lever's base over the surface, in either order of time, one direction.
    deflection_V : (n,)
        Deflection; it may grow or fall in contact.
    within
        The two shares.

    Raises
    ------
    ValueError
        The curve isn't finite, or has fewer than five samples between the shares.
    """
    z, v = np.asarray(height_nm, np.float64), np.asarray(deflection_V, np.float64)
    if z.ndim != 1 or z.shape != v.shape or z.size < 16:
        raise ValueError("a curve needs heights and deflections of at least 16 samples")
    if not (np.isfinite(z).all() and np.isfinite(v).all()):
        raise ValueError("heights and deflections must be finite")
    if not 0 < within[0] < within[1] <= 1:
        raise ValueError(f"within must be two growing shares from 0 to 1, not {within}")
    order = np.argsort(-z, kind="stable")  # from far to near
    z, v = z[order], v[order]
    rise = v - np.median(v[: z.size // 4])
    top = float(rise[-max(3, z.size // 100) :].mean())
    share = rise / top if top else np.zeros_like(rise)
    # The samples are chosen by a line through them: chosen by their own noise, they would bend it.
    first = int(np.flatnonzero(share < within[0])[-1]) + 1 if (share < within[0]).any() else 0
    last = int(np.argmax(share > within[1])) if (share > within[1]).any() else z.size
    for _ in range(3):
        if last - first < 5:
            raise ValueError(
                f"only {max(last - first, 0)} samples lie between {within[0]:g} and {within[1]:g} "
                "of the rise in contact; five are needed"
            )
        x, y = z[first:last] - z[first:last].mean(), rise[first:last]
        slope = float(x @ y / (x @ x))
        if slope * top >= 0:
            raise ValueError("the deflection doesn't grow where the lever comes down")
        line = (y.mean() + slope * (z - z[first:last].mean())) / top
        scatter = y - line[first:last] * top
        slope_sd = math.sqrt(float(scatter @ scatter) / (x.size - 2) / float(x @ x))
        first, last = (int(i) for i in np.searchsorted(line, within))
    return Estimate(1.0 / abs(slope), slope_sd / slope**2)


def _shared_energy_nn_nm(temperature_k: float, optical_lever: bool) -> float:
    """Return k <x^2> of mode 1 as it is reported."""
    if not (temperature_k > 0 and math.isfinite(temperature_k)):
        raise ValueError(f"temperature_k must be finite and positive, not {temperature_k:g}")
    gain = float(optical_gains(1)[0]) if optical_lever else 1.0
    return BOLTZMANN_NN_NM_PER_K * temperature_k * float(thermal_shares(1)[0]) * gain**2


def _estimate(number: Estimate | float, name: str) -> Estimate:
    estimate = number if isinstance(number, Estimate) else Estimate(float(number), 0.0)
    if not (estimate.value > 0 and estimate.sd >= 0 and math.isfinite(estimate.value)):
        raise ValueError(f"{name} must be finite and positive, not {estimate.value:g}")
    return estimate
