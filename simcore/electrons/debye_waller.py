"""Thermal motion: B factors from the Debye model, and atoms displaced by it.

B = 8 pi^2 <u^2> with <u^2> the mean square displacement along one axis. The Debye temperatures
are those that reproduce published thermal displacements, not heat capacities: the latter give a
B that is 27 % too small for Si and 17 % for Cu. They hold for the elemental crystals; an atom in
a compound wants its own B factor.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources

import numpy as np
import numpy.typing as npt
from ase.data import atomic_masses, chemical_symbols
from scipy import constants as codata
from scipy.special import spence

from nanophantom.simcore.atoms import Atoms
from nanophantom.simcore.streams import numbers_of_places

Floats = npt.NDArray[np.float64]


def b_factor_debye(Z: int, temperature_k: float, debye_temperature_k: float | None = None) -> float:
    """Return the B factor of an atom in the Debye model, zero-point motion included.

    B = 6 h^2 / (M k_B Theta) [phi(x) / x + 1/4], x = Theta / T,
    phi(x) = (1/x) integral_0^x t / (e^t - 1) dt: B. E. Warren, X-ray Diffraction (1969); L.-M.
    Peng, S. L. Dudarev and M. J. Whelan, High-Energy Electron Diffraction and Microscopy (2004).

    Parameters
    ----------
    Z : int
        Atomic number; the mass is the standard atomic weight.
    temperature_k : float
        Temperature of the crystal in K; 0 leaves the zero-point motion.
    debye_temperature_k : float, optional
        Theta in K; from the table of the elements unless given.

    Returns
    -------
    float
        B in Å^2.

    Raises
    ------
    ValueError
        If the temperature is negative, or the element's Debye temperature is neither known nor
        given.
    """
    if not 0 <= temperature_k < np.inf:
        raise ValueError(f"temperature_k must be zero or positive, got {temperature_k}")
    theta = debye_temperature(Z) if debye_temperature_k is None else debye_temperature_k
    if not 0 < theta < np.inf:
        raise ValueError(f"debye_temperature_k must be positive, got {theta}")
    mass = atomic_masses[Z] * codata.atomic_mass
    scale = 6 * codata.Planck**2 / (mass * codata.Boltzmann * theta) * 1e20
    if temperature_k == 0:
        return float(scale / 4)
    x = theta / temperature_k
    return float(scale * (_bose_integral(x) / x**2 + 1 / 4))


def _bose_integral(x: float) -> float:
    """Return the integral of t / (e^t - 1) from 0 to x, with the dilogarithm."""
    occupied = -np.expm1(-x)  # 1 - e^-x; spence(1 - z) is Li2(z)
    return float(x * np.log(occupied) + np.pi**2 / 6 - spence(occupied))


def debye_temperature(Z: int) -> float:
    """Return the Debye temperature of an elemental crystal in K.

    From the displacements of Peng, Ren, Dudarev & Whelan, Acta Cryst. A52 (1996) 456 where they
    list the element (from X-ray diffraction for Si and Ge), else from Kittel's table of heat
    capacities (then B may be off by 30 %); the data file says which.

    Raises
    ------
    ValueError
        If no value is known; oxygen, for instance, has none outside its compounds.
    """
    symbol = chemical_symbols[Z] if 1 <= Z < len(chemical_symbols) else f"Z = {Z}"
    known = _debye_temperatures()
    if symbol not in known:
        raise ValueError(f"no Debye temperature is known for {symbol}: give its B factor")
    return known[symbol]


def rms_displacement(b_factors: npt.ArrayLike) -> Floats:
    """Return root mean square displacements along one axis, sqrt(B / 8 pi^2), in Å.

    Parameters
    ----------
    b_factors : float or array_like
        B in Å^2, zero or positive.

    Raises
    ------
    ValueError
        If a B is negative or not finite.
    """
    b = np.asarray(b_factors, dtype=np.float64)
    if not np.all((b >= 0) & np.isfinite(b)):
        raise ValueError(f"a B factor must be zero or positive, got {b.min()}")
    return np.asarray(np.sqrt(b / (8 * np.pi**2)))


def displace(positions: Floats, rms: npt.ArrayLike, rng: np.random.Generator) -> Floats:
    """Return atoms displaced by thermal motion: each on its own, alike in all directions.

    This is the Einstein model of one frozen-phonon configuration. The generator gives one key; an
    atom's displacement is a function of this key and of the atom's own resting place. So the same
    atom moves alike whatever else is in view, in whatever order: a larger view, or another atom's
    B factor, leaves it where it was.

    Parameters
    ----------
    positions : ndarray, shape (n, 3)
        Equilibrium positions in Å, no two alike.
    rms : float or array_like, shape (n,)
        Root mean square displacement along one axis in Å.
    rng : numpy.random.Generator
        Source of the key.

    Returns
    -------
    ndarray, shape (n, 3)
        Displaced positions in Å.

    Raises
    ------
    ValueError
        If positions are not (n, 3), or rms is negative or has another length.
    """
    steps = _steps(positions, rng)
    amplitude = np.asarray(rms, dtype=np.float64)
    if amplitude.shape not in ((), positions.shape[:1]):
        raise ValueError(f"rms must be one number or {len(positions)}, got {amplitude.shape}")
    if not np.all((amplitude >= 0) & np.isfinite(amplitude)):
        raise ValueError("rms displacements must be zero or positive, and finite")
    displaced: Floats = positions + amplitude.reshape(-1, 1) * steps
    return displaced


def displace_by_tensors(positions: Floats, tensors: Floats, rng: np.random.Generator) -> Floats:
    """Return atoms displaced by anisotropic thermal motion, each on its own.

    As `displace`; the displacements have the covariance <u_i u_j> = U_ij, as those of L x have
    for the Cholesky factor U = L L^T and three standard normal numbers x.

    Parameters
    ----------
    positions : ndarray, shape (n, 3)
        Equilibrium positions in Å.
    tensors : ndarray, shape (n, 3, 3)
        Mean square displacements in Å^2, symmetric, without negative eigenvalues.
    rng : numpy.random.Generator
        Source of the key.

    Raises
    ------
    ValueError
        If shapes don't fit, or a tensor has a negative eigenvalue.
    """
    if tensors.shape != (len(positions), 3, 3):
        raise ValueError(f"tensors must have shape ({len(positions)}, 3, 3), got {tensors.shape}")
    steps = _steps(positions, rng)
    displaced: Floats = positions + np.einsum("nij,nj->ni", cholesky_factors(tensors), steps)
    return displaced


def cholesky_factors(tensors: Floats) -> Floats:
    """Return the lower triangular L with L L^T = U of many tensors, shape (n, 3, 3).

    Unlike LAPACK's, it takes tensors with eigenvalues of zero: an atom that doesn't move along
    some direction.

    Raises
    ------
    ValueError
        If a tensor has a negative eigenvalue.
    """
    slack = 1e-9 * np.abs(tensors).max(axis=(1, 2), initial=0.0) + 1e-30
    factor = np.zeros_like(tensors)
    for j in range(3):
        for i in range(j, 3):
            rest = tensors[:, i, j] - (factor[:, i, :j] * factor[:, j, :j]).sum(axis=1)
            if i == j:
                if not (rest >= -slack).all():
                    raise ValueError("mean square displacements have a negative eigenvalue")
                moves = rest > slack
                factor[:, j, j] = np.sqrt(np.where(moves, rest, 0.0))
            else:
                if not (moves | (np.abs(rest) <= np.sqrt(slack * tensors[:, i, i] + slack))).all():
                    raise ValueError("mean square displacements have a negative eigenvalue")
                np.divide(rest, factor[:, j, j], out=factor[:, i, j], where=moves)
    return factor


def thermal_positions(atoms: Atoms, configuration: int, rng: np.random.Generator) -> Floats:
    """Return the atoms of one frozen-phonon configuration.

    Atoms with a trajectory stand where its snapshot has them. The others move by the Einstein
    model, isotropically by their B factors or anisotropically by their tensors; their displacement
    depends on the generator's key and their own resting place alone.

    Parameters
    ----------
    atoms : Atoms
    configuration : int
        Number of the configuration, from 0; it chooses the snapshot.
    rng : numpy.random.Generator
        Source of the key of this configuration's Einstein motion.

    Returns
    -------
    ndarray, shape (n, 3)
        Positions in nm.

    Raises
    ------
    ValueError
        If the trajectory has fewer snapshots.
    """
    at_rest = atoms.positions_nm * 10.0
    if atoms.u_aniso_A2 is None:
        moved = displace(at_rest, rms_displacement(atoms.b_factors_A2), rng) / 10.0
    else:
        moved = displace_by_tensors(at_rest, atoms.u_aniso_A2, rng) / 10.0
    if atoms.snapshots_nm is None:
        return moved
    available = len(atoms.snapshots_nm)
    if not 0 <= configuration < available:
        raise ValueError(
            f"there is no thermal configuration {configuration}: the trajectory has {available} "
            f"snapshots; ask for {available} configurations at most"
        )
    snapshot = atoms.snapshots_nm[configuration]
    return np.where(np.isnan(snapshot), moved, atoms.positions_nm + snapshot)


def _steps(positions: Floats, rng: np.random.Generator) -> Floats:
    """Return three standard normal numbers for each atom, shape (n, 3), by one key."""
    if positions.ndim != 2 or positions.shape[1] != 3:
        raise ValueError(f"positions must have shape (n, 3), got {positions.shape}")
    key = rng.integers(0, 2**64, dtype=np.uint64)
    return _normal_numbers_of_places(positions, key)


def _normal_numbers_of_places(positions: Floats, key: np.uint64) -> Floats:
    """Return three standard normal numbers for each place, shape (n, 3).

    Box and Muller's method makes them of the uniform numbers that hang on the place.
    """
    uniform = numbers_of_places(positions, key, 4).T
    radius = [np.sqrt(-2 * np.log(u)) for u in uniform[:2]]
    angle = [2 * np.pi * u for u in uniform[2:]]
    pairs = (radius[0] * np.cos(angle[0]), radius[0] * np.sin(angle[0]))
    return np.stack([*pairs, radius[1] * np.cos(angle[1])], axis=1)


@cache
def _debye_temperatures() -> dict[str, float]:
    """Read the table: element symbol to Debye temperature in K."""
    file = resources.files("nanophantom.simcore.electrons") / "data" / "debye_temperatures.json"
    elements = json.loads(file.read_text(encoding="utf-8"))["elements"]
    return {symbol: float(entry["theta_k"]) for symbol, entry in elements.items()}
