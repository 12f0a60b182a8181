"""A lever's thermal motion: its spectrum, its correlation and exact records of it in time.

Every mode is a resonator driven by a white force of one-sided density ``4 k kT / (omega_0 Q)``,
which keeps its mean square motion at kT / k. Because the equation of motion is linear, one sample
of position and velocity gives the next with no error of a time step, however long it is:
``s' = M s + noise`` with M = exp(A dt) and the covariance 1 - M M^T, in units of the thermal rms
(S. Chandrasekhar, Rev. Mod. Phys. 15 (1943) 1; D. T. Gillespie, Phys. Rev. E 54 (1996) 2084).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import numba
import numpy as np
import numpy.typing as npt
from scipy.linalg import expm

from nanophantom.simcore.probes.beam import (
    BeamLever,
    frequency_ratios,
    optical_gains,
    stiffness_ratios,
)
from nanophantom.simcore.probes.cantilever import BOLTZMANN_NN_NM_PER_K, Cantilever
from nanophantom.simcore.probes.hydrodynamics import AIR, Fluid

Floats = npt.NDArray[np.float64]


def force_density_fn_per_sqrt_hz(lever: Cantilever) -> float:
    """Return the thermal force on the tip, sqrt(4 k kT / (omega_0 Q)), one-sided."""
    kt = BOLTZMANN_NN_NM_PER_K * lever.temperature_k
    damping = lever.stiffness_n_per_m / (lever.omega_per_s * lever.quality_factor)
    return 1e6 * math.sqrt(4.0 * kt * damping)


def resonance_density(
    frequency_hz: npt.ArrayLike, resonance_hz: float, quality_factor: float
) -> Floats:
    """Return the one-sided spectral density (1/Hz) of a resonator in thermal motion, of area 1.

    ``(2 / (pi f0 Q)) / ((1 - r^2)^2 + (r / Q)^2)``, r = f / f0.
    """
    r = np.asarray(frequency_hz, np.float64) / resonance_hz
    peak = 2.0 / (math.pi * resonance_hz * quality_factor)
    return np.asarray(peak / ((1.0 - r * r) ** 2 + (r / quality_factor) ** 2))


def resonance_correlation(
    lag_s: npt.ArrayLike, resonance_hz: float, quality_factor: float
) -> Floats:
    """Return the autocorrelation of the same motion, 1 at lag 0.

    The Fourier transform of :func:`resonance_density`; holds for strong damping too.
    """
    t = 2.0 * math.pi * resonance_hz * np.abs(np.asarray(lag_s, np.float64))
    decay = 0.5 / quality_factor
    squared = 1.0 - decay * decay
    if abs(squared) < 1e-8:  # critically damped
        return np.asarray(np.exp(-t) * (1.0 + t))
    if squared > 0:
        swing = math.sqrt(squared)
        ringing = np.cos(swing * t) + decay / swing * np.sin(swing * t)
        return np.asarray(np.exp(-decay * t) * ringing)
    creep = math.sqrt(-squared)
    slow = (1.0 + decay / creep) * np.exp(-t / (decay + creep))
    fast = (1.0 - decay / creep) * np.exp(-t * (decay + creep))
    return np.asarray(0.5 * (slow + fast))


@dataclass(frozen=True, eq=False)
class ThermalModes:
    """Modes of a lever in thermal motion.

    Attributes
    ----------
    stiffness_n_per_m, resonance_khz, quality_factor : (modes,)
        Of each mode, as motions of the tip.
    gain : (modes,)
        Motion that is reported over the motion of the tip; ones for the motion itself.
    temperature_k
        Temperature.
    """

    stiffness_n_per_m: Floats
    resonance_khz: Floats
    quality_factor: Floats
    gain: Floats
    temperature_k: float

    @classmethod
    def of_cantilever(cls, lever: Cantilever, count: int = 3) -> Self:
        """Return modes of a lever of which only the first is known.

        The others are those of a rectangular beam, with the lever's stiffness as the static one
        and quality factors that grow with the root of the frequency, as thin boundary layers make
        them.

        Raises
        ------
        ValueError
            `count` is not within 1 and 100.
        """
        ratios = frequency_ratios(count)
        return cls(
            lever.stiffness_n_per_m * stiffness_ratios(count),
            lever.resonance_khz * ratios,
            lever.quality_factor * np.sqrt(ratios),
            np.ones(count),
            lever.temperature_k,
        )

    @classmethod
    def of_beam(
        cls,
        beam: BeamLever,
        fluid: Fluid | None = AIR,
        temperature_k: float = 298.15,
        count: int = 3,
    ) -> Self:
        """Return modes of a rectangular lever in a fluid (None: in vacuum).

        Raises
        ------
        ValueError
            The hydrodynamic function isn't known for this lever in this fluid.
        """
        resonance, quality = beam.resonances(fluid, count)
        stiffness = beam.stiffness_n_per_m * stiffness_ratios(count)
        return cls(stiffness, resonance, quality, np.ones(count), temperature_k)

    def seen_by_optical_lever(self) -> Self:
        """Return the modes as slopes at the end show them, calibrated by a static force there."""
        return replace(self, gain=optical_gains(len(self.gain)))

    @property
    def variance_nm2(self) -> Floats:
        """Mean square of each mode's reported motion, gain^2 kT / k_n."""
        kt = BOLTZMANN_NN_NM_PER_K * self.temperature_k
        return np.asarray(self.gain**2 * kt / self.stiffness_n_per_m)

    def density_nm2_per_hz(self, frequency_hz: npt.ArrayLike) -> Floats:
        """Return the one-sided spectral density of the reported motion, all modes."""
        f = np.asarray(frequency_hz, np.float64)
        density = np.zeros(f.shape)
        modes = zip(self.variance_nm2, self.resonance_khz, self.quality_factor, strict=True)
        for variance, khz, quality in modes:
            density += variance * resonance_density(f, 1e3 * khz, quality)
        return density

    def motion_nm(self, samples: int, rate_hz: float, rng: np.random.Generator) -> Floats:
        """Return a record of each mode's reported motion, exact at the instants of sampling.

        The motion is in equilibrium from the first sample on. A mode beyond half the rate is
        folded back, as by a converter without a filter in front.

        Parameters
        ----------
        samples
            Length of the record.
        rate_hz
            Samples per second.
        rng
            Source of randomness.

        Returns
        -------
        (modes, samples)
            nm.

        Raises
        ------
        ValueError
            `samples` or `rate_hz` is not positive.
        """
        if samples < 1 or not (rate_hz > 0 and math.isfinite(rate_hz)):
            raise ValueError("a record needs at least one sample and a positive finite rate")
        motion = np.empty((len(self.gain), samples))
        scales = np.sqrt(self.variance_nm2)
        for n, row in enumerate(motion):
            turn = 2e3 * math.pi * float(self.resonance_khz[n]) / rate_hz
            _follow(
                *_propagator(turn, self.quality_factor[n]), rng.standard_normal((samples, 2)), row
            )
            row *= scales[n]
        return motion

    def record_nm(
        self,
        samples: int,
        rate_hz: float,
        rng: np.random.Generator,
        floor_fm_per_sqrt_hz: float = 0.0,
    ) -> Floats:
        """Return the record of a thermal tune, (samples,) nm: all modes and the detector's noise.

        Parameters
        ----------
        samples, rate_hz, rng
            See :meth:`motion_nm`.
        floor_fm_per_sqrt_hz
            White noise of the detector, as a motion; filtered at half the rate.

        Raises
        ------
        ValueError
            `samples` or `rate_hz` is not positive, or the noise is negative.
        """
        if not floor_fm_per_sqrt_hz >= 0:
            raise ValueError(f"floor_fm_per_sqrt_hz must not be negative: {floor_fm_per_sqrt_hz:g}")
        record = self.motion_nm(samples, rate_hz, rng).sum(axis=0)
        noise = 1e-6 * floor_fm_per_sqrt_hz * math.sqrt(rate_hz / 2.0)
        return np.asarray(record + noise * rng.standard_normal(samples))


def _propagator(turn: float, quality_factor: float) -> tuple[Floats, Floats]:
    """Return M and the factor F of the noise, F F^T = 1 - M M^T, over a time of `turn` radians.

    The state is (position, velocity / omega_0), both over their thermal rms.
    """
    step = expm(turn * np.array([[0.0, 1.0], [-1.0, -1.0 / quality_factor]]))
    lost = np.eye(2) - step @ step.T
    factor = np.zeros((2, 2))
    factor[1, 1] = math.sqrt(lost[1, 1])
    factor[0, 1] = lost[0, 1] / factor[1, 1]
    # The position's own noise grows with the cube of the time: in short steps all that is left of
    # it is rounding, of either sign.
    factor[0, 0] = math.sqrt(max(lost[0, 0] - factor[0, 1] ** 2, 0.0))
    return step, factor


@numba.njit(cache=True, nogil=True)
def _follow(step: Floats, factor: Floats, normal: Floats, position: Floats) -> None:
    """Write the positions; `normal` (samples, 2), the first row of which is the first state."""
    x, v = normal[0, 0], normal[0, 1]
    position[0] = x
    for i in range(1, position.size):
        kick = factor[0, 0] * normal[i, 0] + factor[0, 1] * normal[i, 1]
        x, v = (
            step[0, 0] * x + step[0, 1] * v + kick,
            step[1, 0] * x + step[1, 1] * v + factor[1, 1] * normal[i, 1],
        )
        position[i] = x
