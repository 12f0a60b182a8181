"""Amorphous materials: their density, their units and the distances that these keep."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from ase.data import atomic_masses, atomic_numbers
from scipy import constants as codata

from nanophantom.samples.building.sequential_addition import Packing
from nanophantom.simcore.atoms import Floats, Ints
from nanophantom.simcore.electrons.constants import POTENTIAL_CONSTANT_V_A2
from nanophantom.simcore.electrons.scattering import scattering_factor

# Densities, over the usual one, at which arrivals were counted. The counts below made the density
# of every species right to 0.2 % or so in 8000 nm^3 of matter at each of these; elsewhere arrivals
# are interpolated.
PROGRESS = np.array([*np.arange(8) / 10, *np.arange(30, 47) / 40])

_CARBON_ARRIVALS = np.array([
    [0, 9.26, 19.5, 30.99, 44.06, 58.68, 75.37, 94.48, 105.14, 110.8, 116.72, 122.77,
     129.08, 135.72, 142.54, 149.85, 157.17, 165.02, 173.05, 181.65, 190.7, 199.86, 209.56,
     219.48, 230.12],
])  # fmt: skip
_ICE_ARRIVALS = np.array([
    [0, 3.47, 7.78, 13.36, 20.69, 30.4, 44.23, 64.63, 79.08, 87.63, 97.33, 108.12, 121.19,
     136.15, 153.13, 173.39, 196.99, 225.54, 258.51, 298.4, 345.59, 407.39, 480.4, 572.98,
     685.99],
])  # fmt: skip
_SILICON_NITRIDE_ARRIVALS = np.array([
    [0, 4.43, 10.03, 17.21, 26.8, 39.62, 57.9, 85.22, 104.38, 115.47, 128.3, 142.48, 159.16,
     177.99, 200.18, 226.11, 255.02, 290.8, 333.39, 382.53, 442.78, 514.78, 602.69, 712.49,
     842.54],
    [0, 5.79, 13.07, 22.04, 33.58, 48.96, 69.73, 98.83, 118.07, 129.47, 141.84, 155.83,
     171.37, 188.59, 207.96, 229.9, 254.57, 284.76, 318.63, 356.29, 401.7, 454.2, 513.96,
     585.05, 673.9],
])  # fmt: skip

# The water molecule: W. S. Benedict, N. Gailar & E. K. Plyler, J. Chem. Phys. 24 (1956) 1139.
_BOND_NM, _ANGLE_DEG = 0.09572, 104.52


@dataclass(frozen=True, eq=False)
class Glass:
    """An amorphous material made of units that keep their distance.

    Attributes
    ----------
    elements
        Chemical symbols of the species.
    formula
        How many atoms of each species a formula unit has.
    density_g_per_cm3
        Usual density.
    packing
        Units for `add_sequentially`.
    """

    elements: tuple[str, ...]
    formula: tuple[int, ...]
    density_g_per_cm3: float
    packing: Packing

    @property
    def numbers(self) -> Ints:
        """Atomic numbers of the species."""
        return np.array([atomic_numbers[e] for e in self.elements], dtype=np.int64)

    def per_nm3(self, density_g_per_cm3: float) -> Floats:
        """Return the number of atoms of each species in a cubic nanometre."""
        mass = float(np.dot(self.formula, atomic_masses[self.numbers]))
        units = density_g_per_cm3 * codata.Avogadro / mass * 1e-21
        return np.asarray(units * np.array(self.formula, dtype=np.float64))

    def mean_inner_potential_V(self, density_g_per_cm3: float) -> float:
        """Return the mean potential of neutral atoms of this density, V.

        (h^2 / 2 pi m e) sum_e n_e f_e(0). Bonds between atoms, which draw electrons into the space
        between them, lower it by some per cent.
        """
        forward = [float(scattering_factor(z, 0.0)) for z in self.numbers]
        per_A3 = self.per_nm3(density_g_per_cm3) * 1e-3
        return float(POTENTIAL_CONSTANT_V_A2 * np.dot(per_A3, forward))

    def spectrum_per_A(self, k_per_A: npt.ArrayLike, density_g_per_cm3: float) -> Floats:
        """Return the intensity that a unit volume scatters, sum_e n_e f_e(k)^2 S(k), in 1/Å.

        For molecules, turned at random, f^2 is P. Debye's average over the pairs of their atoms
        (Ann. Physik 351 (1915) 809). S(k) is the structure factor of hard spheres of the same
        number and of the mean excluded volume of the units.

        Parameters
        ----------
        k_per_A
            Spatial frequencies, any shape.
        density_g_per_cm3
            Density.
        """
        k = np.asarray(k_per_A, dtype=np.float64)
        packing = self.packing
        share = self.per_nm3(density_g_per_cm3)
        factors = [scattering_factor(z, k) for z in self.numbers]
        whole, square, mean = 0.0, np.zeros_like(k), np.zeros_like(k)
        for kind, places in enumerate(packing.offsets_nm * 10.0):
            atoms = [a for a, s in enumerate(packing.species[kind]) if s >= 0]
            species = packing.species[kind]
            per_A3 = share[species[atoms[0]]] / (species == species[atoms[0]]).sum() * 1e-3
            whole += per_A3
            for a in atoms:
                mean += per_A3 * factors[species[a]] * np.sinc(2 * k * np.linalg.norm(places[a]))
                for b in atoms:
                    apart = 2 * k * np.linalg.norm(places[a] - places[b])
                    square += per_A3 * factors[species[a]] * factors[species[b]] * np.sinc(apart)
        order = hard_sphere_structure_factor(k, whole, 10.0 * self._diameter_nm)
        return np.asarray(square + mean**2 / whole * (order - 1))

    @cached_property
    def _diameter_nm(self) -> float:
        """Diameter of the spheres whose excluded volume is the mean of that of the units."""
        cubes = self.packing.closest_nm**3
        if len(self.packing.species) == 1:  # molecules: the distance between their centres
            return float(self.packing.closest_nm[0, 0])
        x = np.array(self.formula) / sum(self.formula)
        return float((x @ cubes @ x) ** (1 / 3))


def hard_sphere_structure_factor(k_per_A: Floats, per_A3: float, diameter_A: float) -> Floats:
    """Return S(k) of hard spheres in the Percus-Yevick approximation.

    M. S. Wertheim, Phys. Rev. Lett. 10 (1963) 321; N. W. Ashcroft & J. Lekner, Phys. Rev. 145
    (1966) 83.

    Parameters
    ----------
    k_per_A
        Spatial frequencies 1/d (the wave number is 2 pi k), any shape.
    per_A3
        Number of spheres in a cubic ångström.
    diameter_A
        Their diameter.
    """
    eta = np.pi / 6 * per_A3 * diameter_A**3
    x = np.maximum(2 * np.pi * np.asarray(k_per_A) * diameter_A, 0.02)  # below, it is flat
    inner = (1 + 2 * eta) ** 2 / (1 - eta) ** 4
    slope = -((1 + eta / 2) ** 2) / (1 - eta) ** 4
    sine, cosine = np.sin(x), np.cos(x)
    direct = inner * x**3 * (sine - x * cosine)
    direct += 6 * eta * slope * x**2 * (2 * x * sine - (x**2 - 2) * cosine - 2)
    direct += eta * inner / 2 * ((4 * x**3 - 24 * x) * sine - (x**4 - 12 * x**2 + 24) * cosine + 24)
    return np.asarray(1 / (1 + 24 * eta * direct / x**6))


def _water() -> Floats:
    half = np.deg2rad(_ANGLE_DEG / 2)
    across, along = _BOND_NM * np.sin(half), _BOND_NM * np.cos(half)
    return np.array([[[0.0, 0.0, 0.0], [across, along, 0.0], [-across, along, 0.0]]])


CARBON = Glass(
    elements=("C",),
    formula=(1,),
    # of evaporated films: M. Wanner et al., Ultramicroscopy 106 (2006) 341
    density_g_per_cm3=1.75,
    packing=Packing(
        species=np.array([[0]]),
        offsets_nm=np.zeros((1, 1, 3)),
        # just below the bond of graphite, 0.142 nm
        closest_nm=np.array([[0.14]]),
        progress=PROGRESS,
        arrivals_per_nm3=_CARBON_ARRIVALS,
    ),
)

ICE = Glass(
    elements=("O", "H"),
    formula=(1, 2),
    # low-density amorphous ice, as vitrified: O. Mishima, L. D. Calvert & E. Whalley, Nature 314
    # (1985) 76
    density_g_per_cm3=0.94,
    packing=Packing(
        species=np.array([[0, 1, 1]]),
        offsets_nm=_water(),
        # Oxygens stand 0.276 nm apart in ice, bridged by a hydrogen; molecules that fall at random
        # would not become as dense as ice with that distance.
        closest_nm=np.array([[0.24, 0.14], [0.14, 0.14]]),
        progress=PROGRESS,
        arrivals_per_nm3=_ICE_ARRIVALS,
    ),
)

SILICON_NITRIDE = Glass(
    elements=("Si", "N"),
    formula=(3, 4),
    # films from the vapour at low pressure, 2.9 to 3.1: A. C. Adams in VLSI Technology, ed. S. M.
    # Sze (1983), chapter 3
    density_g_per_cm3=3.1,
    packing=Packing(
        species=np.array([[0], [1]]),
        offsets_nm=np.zeros((2, 1, 3)),
        # The Si-N bond is 0.173 nm long; as with ice, atoms that fall at random come closer.
        closest_nm=np.array([[0.20, 0.15], [0.15, 0.18]]),
        progress=PROGRESS,
        arrivals_per_nm3=_SILICON_NITRIDE_ARRIVALS,
    ),
)

GLASSES = {"carbon": CARBON, "ice": ICE, "silicon-nitride": SILICON_NITRIDE}
