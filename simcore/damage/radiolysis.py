"""Radiolysis: how structure fades with the electrons that have passed.

A spatial frequency k loses its intensity as exp(-N / N_e(k)), N the fluence and N_e(k) its
critical dose; the amplitude goes as exp(-N / 2 N_e). Voltage, temperature and dose rate modify
the critical dose. Materials differ even in the sign of the effect of temperature, so nothing
here is applied unasked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, Self

import numpy as np
import numpy.typing as npt
from scipy import constants as codata

from nanophantom.simcore.damage.stopping import VoltageLaw, not_negative, voltage_scale

Floats = npt.NDArray[np.float64]
RepairKind = Literal["competing", "threshold"]

OPTIMAL_EXPOSURE: Final[float] = 2.51284
"""Exposure of best signal to noise, in critical doses: it solves e^(x / 2) = 1 + x."""
MEAN_SQUARE_GROWTH_A2_PER_E_PER_A2: Final[float] = 0.022
"""Growth of <u^2> per e/Å^2 in vitrified protein; published values run from 0.02 to 0.08."""


@dataclass(frozen=True)
class FadingLaw:
    """Critical dose of each spatial frequency: floor + amplitude k^-exponent, or a table.

    Use the constructors :meth:`constant`, :meth:`power`, :meth:`table` and :meth:`vitrified`.
    """

    floor_e_per_A2: float = 0.0
    amplitude_e_per_A2: float = 0.0
    exponent: float = 0.0
    nodes: tuple[tuple[float, float], ...] = ()
    """(k in 1/Å, critical dose in e/Å^2), k rising; takes the place of the power law."""
    factor: float = 1.0
    """What voltage and temperature do to all critical doses alike."""

    def __post_init__(self) -> None:
        numbers = (self.floor_e_per_A2, self.amplitude_e_per_A2, self.exponent)
        if not all(0 <= number < np.inf for number in numbers):
            raise ValueError(f"floor, amplitude and exponent must not be negative, got {numbers}")
        if not 0 < self.factor < np.inf:
            raise ValueError(f"a factor on the critical dose must be positive, got {self.factor}")
        if not self.nodes and self.floor_e_per_A2 + self.amplitude_e_per_A2 == 0:
            raise ValueError("a critical dose must be positive: give a floor or an amplitude")
        table = np.array(self.nodes or ((1.0, 1.0),), dtype=np.float64)
        if not (np.all((table > 0) & np.isfinite(table)) and np.all(np.diff(table[:, 0]) > 0)):
            raise ValueError("spacings must be positive and differ, critical doses be positive")

    @classmethod
    def constant(cls, critical_dose_e_per_A2: float) -> Self:
        """Return the law by which all spatial frequencies fade alike."""
        return cls(floor_e_per_A2=critical_dose_e_per_A2)

    @classmethod
    def power(cls, floor_e_per_A2: float, amplitude_e_per_A2: float, exponent: float) -> Self:
        """Return N_e(k) = floor + amplitude k^-exponent, k in 1/Å."""
        return cls(floor_e_per_A2, amplitude_e_per_A2, exponent)

    @classmethod
    def table(cls, spacing_A: Sequence[float], critical_dose_e_per_A2: Sequence[float]) -> Self:
        """Return a law through measured spots, straight in log k and log dose, constant outside.

        Parameters
        ----------
        spacing_A : sequence of float
            Spacing of each spot, in any order.
        critical_dose_e_per_A2 : sequence of float
            Its critical dose.

        Raises
        ------
        ValueError
            If the lengths differ, or the table is empty, or a number is not positive.
        """
        if len(spacing_A) != len(critical_dose_e_per_A2) or not len(spacing_A):
            raise ValueError(
                "a table needs one critical dose for each spacing, got "
                f"{len(critical_dose_e_per_A2)} for {len(spacing_A)}"
            )
        if min(spacing_A) <= 0:
            raise ValueError(f"spacings must be positive, got {min(spacing_A)} Å")
        spots = zip(spacing_A, critical_dose_e_per_A2, strict=True)
        return cls(nodes=tuple(sorted((1 / float(d), float(dose)) for d, dose in spots)))

    @classmethod
    def vitrified(cls, energy_kev: float = 300.0, law: VoltageLaw = "dose-weighting") -> Self:
        """Return the law of vitrified protein, N_e(k) = 2.81 + 0.245 k^-1.665 at 300 kV.

        T. Grant & N. Grigorieff, eLife 4 (2015) e06980; 0.8 of it at 200 kV.
        """
        return cls(2.81, 0.245, 1.665).scaled(float(voltage_scale(energy_kev, 300.0, law)))

    def scaled(self, factor: float) -> Self:
        """Return this law with all critical doses multiplied by a factor."""
        return replace(self, factor=self.factor * factor)

    def critical_dose(self, k_per_A: npt.ArrayLike) -> Floats:
        """Return N_e(k) in e/Å^2; infinite at k = 0 where the law has a power of k.

        Raises
        ------
        ValueError
            If a spatial frequency is negative or not finite.
        """
        k = not_negative(k_per_A, "k_per_A")
        if self.nodes:
            at, doses = np.log(np.array(self.nodes)).T
            log_k = np.log(np.maximum(k, self.nodes[0][0]))  # constant below the first node
            read: Floats = self.factor * np.exp(np.interp(log_k, at, doses))
            return read
        if self.amplitude_e_per_A2 == 0:
            return np.full_like(k, self.factor * self.floor_e_per_A2)
        with np.errstate(divide="ignore"):
            rising = self.amplitude_e_per_A2 * k**-self.exponent
        dose: Floats = self.factor * (self.floor_e_per_A2 + rising)
        return dose

    def intensity(self, k_per_A: npt.ArrayLike, fluence_e_per_A2: npt.ArrayLike) -> Floats:
        """Return what is left of the intensity at k, exp(-N / N_e(k)); arguments broadcast."""
        fluence = not_negative(fluence_e_per_A2, "fluence_e_per_A2")
        left: Floats = np.exp(-fluence / self.critical_dose(k_per_A))
        return left

    def amplitude(self, k_per_A: npt.ArrayLike, fluence_e_per_A2: npt.ArrayLike) -> Floats:
        """Return what is left of the amplitude at k, exp(-N / 2 N_e(k)); arguments broadcast."""
        left: Floats = np.sqrt(self.intensity(k_per_A, fluence_e_per_A2))
        return left


def critical_dose_vitrified(
    k_per_A: npt.ArrayLike, energy_kev: float = 300.0, law: VoltageLaw = "dose-weighting"
) -> Floats:
    """Return the critical dose of vitrified protein in e/Å^2: see :meth:`FadingLaw.vitrified`."""
    return FadingLaw.vitrified(energy_kev, law).critical_dose(k_per_A)


def optimal_exposure(critical_dose_e_per_A2: npt.ArrayLike) -> Floats:
    """Return the exposure at which a fading signal stands highest over shot noise, in e/Å^2.

    The largest (1 - exp(-N / 2 N_e))^2 / N, at 2.51284 N_e.
    """
    critical = np.asarray(critical_dose_e_per_A2, dtype=np.float64)
    return OPTIMAL_EXPOSURE * critical


def arrhenius_factor(
    temperature_k: float, activation_energy_eV: float, reference_k: float = 293.0
) -> float:
    """Return the factor on a critical dose by an activated step, exp[(E_a / k_B)(1/T - 1/T_ref)].

    With E_a > 0 the cold specimen lasts longer; materials that do the opposite have E_a < 0.

    Raises
    ------
    ValueError
        If a temperature is not positive and finite.
    """
    if not (0 < temperature_k < np.inf and 0 < reference_k < np.inf):
        raise ValueError(f"temperatures must be positive, got {temperature_k} and {reference_k} K")
    per_k = activation_energy_eV * codata.elementary_charge / codata.Boltzmann
    return float(np.exp(per_k * (1 / temperature_k - 1 / reference_k)))


def cryo_gain_factor(temperature_k: float, gain: float, cold_k: float, warm_k: float) -> float:
    """Return the factor on a critical dose that is known at ``warm_k`` by a measured gain.

    1 from ``warm_k`` up, ``gain`` from ``cold_k`` down, and its logarithm straight in between:
    no model, only a line through two measurements.

    Raises
    ------
    ValueError
        If the gain is not positive, or the temperatures are not in order.
    """
    if not 0 < gain < np.inf:
        raise ValueError(f"gain must be positive, got {gain}")
    if not 0 <= cold_k < warm_k < np.inf or not 0 <= temperature_k < np.inf:
        raise ValueError(
            f"temperatures must not be negative and cold_k be below warm_k, got {temperature_k}, "
            f"{cold_k} and {warm_k} K"
        )
    return float(gain ** np.interp(temperature_k, [cold_k, warm_k], [1.0, 0.0]))


def accumulated_damage(
    edges_s: npt.ArrayLike,
    flux_e_per_A2_s: npt.ArrayLike,
    sensitivity_A2_per_e: npt.ArrayLike,
    repair_per_s: npt.ArrayLike = 0.0,
    kind: RepairKind = "competing",
    initial: npt.ArrayLike = 0.0,
) -> Floats:
    """Return the damaged fraction D at the edges of intervals of constant flux, exactly.

    "competing": dD/dt = s f (1 - D) - r D; damage heals wherever it is, also in the dark.
    "threshold": dD/dt = max(0, s f - r) (1 - D); a flux below r / s does nothing, above it damage
    stays (form of the dose-rate threshold in Ultramicroscopy 113 (2012) 77). Without repair both
    are plain fading, D = 1 - exp(-s N) with s = 1 / N_e.

    Parameters
    ----------
    edges_s : array_like, shape (n + 1,)
        Times, rising.
    flux_e_per_A2_s : array_like, shape (n,)
        Flux f in each interval.
    sensitivity_A2_per_e : float or array_like
        s; an array (1 / N_e of many k, say) gives as many histories.
    repair_per_s : float or array_like
        r; broadcasts against the sensitivity.
    kind : {"competing", "threshold"}
        How repair acts.
    initial : float or array_like
        D at the first edge, from 0 to 1.

    Returns
    -------
    ndarray, shape (n + 1, ...)
        D at each edge.

    Raises
    ------
    ValueError
        If times don't rise, lengths don't fit, or a number is outside its range.
    """
    steps, fluxes = _intervals(edges_s, flux_e_per_A2_s)
    if kind not in ("competing", "threshold"):
        raise ValueError(f"kind must be 'competing' or 'threshold', got {kind!r}")
    sensitivity, repair, damage = np.broadcast_arrays(
        not_negative(sensitivity_A2_per_e, "sensitivity_A2_per_e"),
        not_negative(repair_per_s, "repair_per_s"),
        not_negative(initial, "initial"),
    )
    if np.any(damage > 1):
        raise ValueError(f"initial must lie within 0 and 1, got {damage.max()}")
    history = [damage]
    for step, flux in zip(steps, fluxes, strict=True):
        # each form relaxes to its steady state, D' = rate (steady - D)
        if kind == "competing":
            rate = sensitivity * flux + repair
            steady = np.divide(sensitivity * flux, rate, out=np.zeros_like(rate), where=rate > 0)
        else:
            rate = np.maximum(sensitivity * flux - repair, 0.0)
            steady = np.ones_like(rate)
        damage = damage - (steady - damage) * np.expm1(-rate * step)
        history.append(damage)
    return np.stack(history)


def effective_fluence(
    edges_s: npt.ArrayLike, flux_e_per_A2_s: npt.ArrayLike, threshold_flux_e_per_A2_s: float
) -> Floats:
    """Return the fluence that counts where only flux above a threshold damages, in e/Å^2.

    The integral of max(0, f - f_c) up to each edge, to stand in for N in a :class:`FadingLaw`;
    times s it is the integral of max(0, s f - r) with f_c = r / s.

    Parameters
    ----------
    edges_s : array_like, shape (n + 1,)
        Times, rising.
    flux_e_per_A2_s : array_like, shape (n,)
        Flux in each interval.
    threshold_flux_e_per_A2_s : float
        f_c.

    Returns
    -------
    ndarray, shape (n + 1,)

    Raises
    ------
    ValueError
        If times don't rise, lengths don't fit, or a flux is negative.
    """
    steps, fluxes = _intervals(edges_s, flux_e_per_A2_s)
    threshold = not_negative(threshold_flux_e_per_A2_s, "threshold_flux_e_per_A2_s")
    return np.concatenate([[0.0], np.cumsum(np.maximum(fluxes - threshold, 0.0) * steps)])


def remaining_mass(
    fluence_e_per_A2: npt.ArrayLike, characteristic_e_per_A2: float, plateau: float = 0.0
) -> Floats:
    """Return the fraction of mass left, plateau + (1 - plateau) exp(-N / N_m).

    Parameters
    ----------
    fluence_e_per_A2 : float or array_like
        N.
    characteristic_e_per_A2 : float
        N_m, at which 1 - 1/e of what can go has gone.
    plateau : float
        Fraction that never goes, from 0 to 1.

    Raises
    ------
    ValueError
        If an argument is outside its range.
    """
    fluence = not_negative(fluence_e_per_A2, "fluence_e_per_A2")
    if not (0 < characteristic_e_per_A2 < np.inf and 0 <= plateau <= 1):
        raise ValueError(
            "characteristic_e_per_A2 must be positive and plateau lie within 0 and 1, got "
            f"{characteristic_e_per_A2} and {plateau}"
        )
    left: Floats = plateau + (1 - plateau) * np.exp(-fluence / characteristic_e_per_A2)
    return left


def b_factor_growth_A2(
    fluence_e_per_A2: npt.ArrayLike,
    mean_square_A2_per_e_per_A2: float = MEAN_SQUARE_GROWTH_A2_PER_E_PER_A2,
) -> Floats:
    """Return the growth of the B factor, 8 pi^2 <u^2> with <u^2> in proportion to fluence, in Å^2.

    The default is that of the package parakeet for vitrified protein.

    Raises
    ------
    ValueError
        If an argument is negative or not finite.
    """
    fluence = not_negative(fluence_e_per_A2, "fluence_e_per_A2")
    slope = not_negative(mean_square_A2_per_e_per_A2, "mean_square_A2_per_e_per_A2")
    growth: Floats = 8 * np.pi**2 * slope * fluence
    return growth


def _intervals(edges_s: npt.ArrayLike, flux: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return durations and fluxes of intervals, checked."""
    edges = np.asarray(edges_s, dtype=np.float64)
    fluxes = not_negative(flux, "flux_e_per_A2_s")
    if edges.ndim != 1 or fluxes.shape != (len(edges) - 1,):
        raise ValueError(f"n + 1 edges go with n fluxes, got {edges.shape} and {fluxes.shape}")
    steps = np.diff(edges)
    if not (np.all(steps > 0) and np.all(np.isfinite(edges))):
        raise ValueError("edges_s must be finite and rise")
    return steps, fluxes
