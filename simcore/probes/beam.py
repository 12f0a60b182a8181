"""A rectangular lever from its dimensions: stiffness, flexural modes, what an optical lever sees.

A beam of length L, width w and thickness t, clamped at one end, after Euler and Bernoulli. Its
modes have wave numbers a/L with ``1 + cos a cosh a = 0`` and, as motions of the free end, masses
of a quarter of the beam's. So, with the static stiffness ``k = E w t^3 / 4 L^3``,

    omega_n^2 = (a_n^4 / 12) E t^2 / (rho L^4),      k_n = k a_n^4 / 12.

By equipartition a mode holds the share ``k / k_n = 12 / a_n^4`` of the end's thermal motion; the
shares of all modes add up to one.

An optical lever sees the slope at the end, not the height. It is calibrated with a force at the
end, where the slope is 3/2 of the height over L; in a mode it isn't
(H.-J. Butt and M. Jaschke, Nanotechnology 6 (1995) 1; R. Proksch et al., Nanotechnology 15 (2004)
1344).
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy.optimize import brentq

from nanophantom.simcore.models import Model
from nanophantom.simcore.probes.cantilever import Cantilever
from nanophantom.simcore.probes.hydrodynamics import AIR, Fluid, immersed_resonance

Floats = npt.NDArray[np.float64]


@cache
def _root(mode: int) -> float:
    middle = (mode - 0.5) * math.pi
    return float(
        brentq(lambda a: math.cos(a) + 1.0 / math.cosh(a), middle - 0.5, middle + 0.5, xtol=1e-15)
    )


def wave_numbers(count: int) -> Floats:
    """Return a_n = 1.8751, 4.6941, 7.8548, ... of the first `count` modes.

    Raises
    ------
    ValueError
        `count` is not within 1 and 100.
    """
    if not 1 <= count <= 100:
        raise ValueError(f"the number of modes must be 1 to 100, not {count}")
    return np.array([_root(n) for n in range(1, count + 1)])


def frequency_ratios(count: int) -> Floats:
    """Return the resonances of the first modes over that of mode 1, in vacuum."""
    a = wave_numbers(count)
    return np.asarray((a / a[0]) ** 2)


def stiffness_ratios(count: int) -> Floats:
    """Return k_n / k = a_n^4 / 12 of the first modes: modal over static stiffness."""
    return np.asarray(wave_numbers(count) ** 4 / 12.0)


def effective_mass_ratio() -> float:
    """Return k / omega_1^2 over the mass of the beam, 3 / a_1^4 = 0.24267."""
    return 3.0 / _root(1) ** 4


def mode_shape(mode: int, position: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return the shape of a mode and its slope, with the free end at height 1.

    Parameters
    ----------
    mode
        1 for the fundamental.
    position
        Distance from the clamp over L, 0 to 1, any shape.

    Returns
    -------
    shape, slope
        Height, and its derivative by `position`.

    Raises
    ------
    ValueError
        There is no such mode, or a position lies beyond the beam.
    """
    a = float(wave_numbers(mode)[-1])
    s = np.asarray(position, np.float64)
    if not ((s >= 0) & (s <= 1)).all():
        raise ValueError("positions on the beam must lie within 0 (clamp) and 1 (free end)")

    # cosh as - cos as - sigma (sinh as - sin as); 1 - sigma is taken apart, or high modes cancel.
    def raw(s: Floats) -> tuple[Floats, Floats]:
        rise = math.exp(-a) + math.cos(a) - math.sin(a)
        fall = 1.0 + 2.0 * math.exp(-a) * math.sin(a) - math.exp(-2.0 * a)
        sigma = 1.0 + 2.0 * math.exp(-a) * rise / fall
        growing = -rise / fall * np.exp(a * (s - 1.0))
        fading = 0.5 * (1.0 + sigma) * np.exp(-a * s)
        height = growing + fading - np.cos(a * s) + sigma * np.sin(a * s)
        slope = a * (growing - fading + np.sin(a * s) + sigma * np.cos(a * s))
        return np.asarray(height), np.asarray(slope)

    height, slope = raw(s)
    end = float(raw(np.ones(1))[0][0])
    return height / end, slope / end


def optical_gains(count: int) -> Floats:
    """Return the motion an optical lever reports over the true motion of the end, mode by mode.

    It was calibrated by a static force at the end: ``(2/3) phi'(1) / phi(1)``, 0.9177 for mode 1,
    whose inverse is chi = 1.0897 (spot of light small and at the end).
    """
    ends = [mode_shape(n, np.ones(1))[1] for n in range(1, count + 1)]
    return np.asarray(2.0 / 3.0 * np.concatenate(ends))


def thermal_shares(count: int) -> Floats:
    """Return each mode's share 12 / a_n^4 of the end's thermal variance kT / k."""
    return np.asarray(1.0 / stiffness_ratios(count))


class BeamLever(Model):
    """A rectangular lever by its dimensions and material; a silicon one for tapping by default."""

    length_um: float = Field(default=125.0, gt=0, le=1e4)
    """Length."""
    width_um: float = Field(default=30.0, gt=0, le=1e3)
    """Width."""
    thickness_um: float = Field(default=4.0, gt=0, le=100)
    """Thickness."""
    modulus_gpa: float = Field(default=169.0, gt=0, le=2000)
    """Young's modulus along the lever; 169 for silicon along <110>."""
    density_g_per_cm3: float = Field(default=2.33, gt=0, le=30)
    """Density of the material."""
    internal_quality_factor: float = Field(
        default=3e4, ge=1, le=1e6, json_schema_extra={"dimensionless": True}
    )
    """Quality factor of all modes in vacuum; in a fluid its losses add to the fluid's."""

    @property
    def stiffness_n_per_m(self) -> float:
        """Static stiffness at the free end, E w t^3 / 4 L^3."""
        slender = self.thickness_um / self.length_um
        return 1e3 * self.modulus_gpa * self.width_um * slender**3 / 4.0

    @property
    def mass_ng(self) -> float:
        """Mass of the beam, nanogram."""
        return self.density_g_per_cm3 * self.length_um * self.width_um * self.thickness_um * 1e-3

    def vacuum_resonances_khz(self, count: int = 1) -> Floats:
        """Return the resonances of the first modes in vacuum."""
        bar_speed_m_per_s = 1e3 * math.sqrt(self.modulus_gpa / self.density_g_per_cm3)
        slope = self.thickness_um / self.length_um**2
        a = wave_numbers(count)
        return np.asarray(1e3 * a**2 * slope * bar_speed_m_per_s / (2.0 * math.pi * math.sqrt(12)))

    def resonances(self, fluid: Fluid | None = AIR, count: int = 1) -> tuple[Floats, Floats]:
        """Return resonances (kHz) and quality factors of the first modes.

        Parameters
        ----------
        fluid
            What surrounds the lever; None for vacuum.
        count
            How many modes.

        Raises
        ------
        ValueError
            The hydrodynamic function isn't known for such a lever in this fluid.
        """
        vacuum = self.vacuum_resonances_khz(count)
        if fluid is None:
            return vacuum, np.full(count, self.internal_quality_factor)
        size = (self.width_um, self.thickness_um, self.density_g_per_cm3)
        wet = np.array([immersed_resonance(float(f), *size, fluid) for f in vacuum])
        return wet[:, 0], 1.0 / (1.0 / wet[:, 1] + 1.0 / self.internal_quality_factor)

    def cantilever(
        self,
        fluid: Fluid | None = AIR,
        temperature_k: float = 298.15,
        *,
        modal_stiffness: bool = False,
    ) -> Cantilever:
        """Return the lever's first mode in a fluid (None: in vacuum).

        Parameters
        ----------
        fluid
            What surrounds the lever.
        temperature_k
            Of the lever.
        modal_stiffness
            False: the static stiffness, which force curves and contact feel and a calibration
            states. True: that of the swinging mode, 3 % more.

        Raises
        ------
        ValueError
            The hydrodynamic function isn't known here, or the lever is damped too strongly to be
            taken for a resonator (Q < 0.6).
        """
        resonance, quality = self.resonances(fluid)
        ratio = float(stiffness_ratios(1)[0]) if modal_stiffness else 1.0
        return Cantilever(
            stiffness_n_per_m=self.stiffness_n_per_m * ratio,
            resonance_khz=float(resonance[0]),
            quality_factor=float(quality[0]),
            temperature_k=temperature_k,
        )
