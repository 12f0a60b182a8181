"""Thermal displacements: limits of the Debye model, published B factors, statistics."""

import numpy as np
import pytest
from ase.data import atomic_masses, atomic_numbers
from scipy import constants as codata
from scipy.integrate import quad
from scipy.stats import kstest

from nanophantom.simcore.atoms import Atoms
from nanophantom.simcore.electrons.debye_waller import (
    _debye_temperatures,
    b_factor_debye,
    cholesky_factors,
    debye_temperature,
    displace,
    displace_by_tensors,
    rms_displacement,
    thermal_positions,
)


def debye_b_by_integration(Z, temperature_k, theta_k):
    """Return B from the phonon spectrum: 8 pi^2 (hbar / 2 M) <coth(hbar w / 2 k T) / w>."""
    mass = atomic_masses[Z] * codata.atomic_mass
    edge = codata.Boltzmann * theta_k / codata.hbar

    def density_times_amplitude(w):
        occupation = 1 / np.tanh(codata.hbar * w / (2 * codata.Boltzmann * temperature_k))
        return 3 * w**2 / edge**3 * occupation / w

    knee = min(5 * temperature_k / theta_k, 0.9)
    mean, _ = quad(
        lambda u: edge * density_times_amplitude(u * edge), 0, 1, points=[knee], epsrel=1e-10
    )
    return 8 * np.pi**2 * codata.hbar / (2 * mass) * mean * 1e20


@pytest.mark.parametrize("temperature", [4, 40, 90, 293, 1200])
@pytest.mark.parametrize("symbol", ["C", "Si", "Au"])
def test_closed_form_equals_the_integral_over_the_debye_spectrum(symbol, temperature):
    """The dilogarithm gives what the density of states integrates to."""
    Z = atomic_numbers[symbol]
    expected = debye_b_by_integration(Z, temperature, debye_temperature(Z))
    assert b_factor_debye(Z, temperature) == pytest.approx(expected, rel=1e-7)


def test_hot_crystals_move_in_proportion_to_temperature():
    """B -> 6 h^2 T / (M k Theta^2), the classical limit, with the first quantum correction."""
    theta, mass = 165.0, atomic_masses[79] * codata.atomic_mass
    for temperature in (5e3, 5e4):
        classical = 6 * codata.h**2 * temperature / (mass * codata.k * theta**2) * 1e20
        x = theta / temperature
        b = b_factor_debye(79, temperature, theta)
        assert b == pytest.approx(classical * (1 + x**2 / 36), rel=1e-8)


def test_cold_crystals_keep_their_zero_point_motion():
    """At 0 K B = 3 h^2 / (2 M k Theta), and the limit is reached smoothly."""
    theta, mass = 1914.5, atomic_masses[6] * codata.atomic_mass
    zero_point = 1.5 * codata.h**2 / (mass * codata.k * theta) * 1e20
    assert b_factor_debye(6, 0, theta) == pytest.approx(zero_point, rel=1e-12)
    assert b_factor_debye(6, 0.01, theta) == pytest.approx(zero_point, rel=1e-9)


# B at room temperature calculated from measured phonons: V. F. Sears & S. A. Shelley, Acta Cryst.
# A47 (1991) 441 (independent of the data that the Debye temperatures come from)
SEARS_293_K = {
    "Li": 4.9, "Na": 6.6, "Al": 0.81, "K": 10.7, "V": 0.58, "Cr": 0.263, "Fe": 0.34, "Cu": 0.56,
    "Nb": 0.45, "Mo": 0.220, "Pd": 0.45, "Ag": 0.73, "Ta": 0.32, "W": 0.161, "Pt": 0.37,
    "Au": 0.62, "Pb": 2.11,
}  # fmt: skip


@pytest.mark.parametrize(("symbol", "published"), SEARS_293_K.items())
def test_room_temperature_b_factors_of_metals(symbol, published):
    """17 metals agree with Sears & Shelley within 3.5 % (Au, Cu within 1.4 %)."""
    assert b_factor_debye(atomic_numbers[symbol], 293) == pytest.approx(published, rel=0.035)


@pytest.mark.parametrize(
    ("symbol", "published", "tolerance"),
    [
        # V. F. Sears & S. A. Shelley (1991), their list of measured values at room temperature
        ("Ni", 0.37, 0.02),
        ("Cu", 0.57, 0.01),
        ("Si", 0.45, 0.02),
        ("Ge", 0.57, 0.01),
    ],
)
def test_room_temperature_b_factors_measured(symbol, published, tolerance):
    """Measured values, where the calculated ones are disputed (Ni, Si, Ge), and Cu."""
    assert b_factor_debye(atomic_numbers[symbol], 293) == pytest.approx(published, rel=tolerance)


def test_gold_at_room_temperature():
    """Gold at 293 K: 0.62 Å^2 (Peng et al. 1996 at 270 K, 0.5714, scaled to 293 K)."""
    assert b_factor_debye(79, 293) == pytest.approx(0.62, rel=0.01)


@pytest.mark.parametrize(
    ("symbol", "temperature", "published"),
    [
        # Peng, Ren, Dudarev & Whelan, Acta Cryst. A52 (1996) 456, table 1: the quantum regime,
        # which the Debye temperatures (their 270 K) were not taken from
        ("Be", 85, 0.3637),
        ("C", 85, 0.1299),
        ("Al", 90, 0.3374),
        ("Si", 140, 0.2607),
        ("Cr", 90, 0.1274),
        ("Fe", 90, 0.1493),
        ("Ni", 85, 0.1502),
    ],
)
def test_cold_b_factors_of_peng(symbol, temperature, published):
    """Zero-point motion and heat together: within 5 % of sums over real phonon spectra."""
    assert b_factor_debye(atomic_numbers[symbol], temperature) == pytest.approx(published, rel=0.05)


@pytest.mark.parametrize(("temperature", "low", "high"), [(100, 29.7, 30.0), (300, 57.7, 59.5)])
def test_silicon_powder_refinements(temperature, low, high):
    """<u^2> of Si in 1e-4 Å^2 from two refinements of one powder (PMC8086158, table 2)."""
    u_squared = rms_displacement(b_factor_debye(14, temperature)) ** 2 * 1e4
    assert low * 0.97 < u_squared < high


def test_every_listed_element_gives_a_sensible_b_factor():
    """All tabulated Debye temperatures give an rms between 0.03 and 0.5 Å at 293 K."""
    for symbol in _debye_temperatures():
        rms = rms_displacement(b_factor_debye(atomic_numbers[symbol], 293))
        assert 0.03 < rms < 0.5, symbol


def test_unknown_elements_are_named_and_bad_temperatures_refused():
    """Oxygen has no Debye temperature of its own."""
    with pytest.raises(ValueError, match="known for O: give its B factor"):
        b_factor_debye(8, 293)
    assert b_factor_debye(8, 293, debye_temperature_k=500) > 0
    with pytest.raises(ValueError, match="temperature_k must be zero or positive"):
        b_factor_debye(79, -1)
    with pytest.raises(ValueError, match="debye_temperature_k must be positive"):
        b_factor_debye(79, 293, 0)
    with pytest.raises(ValueError, match="B factor must be zero or positive"):
        rms_displacement(-0.1)


def test_displacements_have_the_asked_variance_in_every_direction():
    """Each axis of each kind of atom has its own rms; axes and atoms are independent."""
    n = 100_000
    rms = np.where(np.arange(n) % 2, 0.05, 0.12)
    at_rest = np.random.default_rng(1).uniform(0, 50, (n, 3))
    u = displace(at_rest, rms, np.random.default_rng(2)) - at_rest
    for kind, expected in ((0, 0.12), (1, 0.05)):
        # the variance of 50 000 normal numbers scatters by sqrt(2/n) = 0.6 %: four sigma
        np.testing.assert_allclose(u[kind::2].var(axis=0), expected**2, rtol=0.025)
        assert np.abs(u[kind::2].mean(axis=0)).max() < 4 * expected / np.sqrt(n / 2)
    correlation = np.corrcoef(u.T) - np.eye(3)
    assert np.abs(correlation).max() < 4 / np.sqrt(n)
    neighbours = np.corrcoef(u[:-1, 0], u[1:, 0])[0, 1]
    assert abs(neighbours) < 4 / np.sqrt(n)


def test_atoms_of_a_lattice_move_independently_and_normally():
    """Places that differ in one coordinate only, by one lattice constant, share nothing."""
    grid = np.indices((50, 50, 40)).reshape(3, -1).T * 3.905
    rms = 0.1
    one = displace(grid, rms, np.random.default_rng(1)) - grid
    two = displace(grid, rms, np.random.default_rng(2)) - grid
    n = len(grid)
    assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 4 / np.sqrt(3 * n)
    cube = one.reshape(50, 50, 40, 3)
    for shifted in (cube[1:], cube[:, 1:], cube[:, :, 1:]):
        here = cube[: shifted.shape[0], : shifted.shape[1], : shifted.shape[2]]
        assert abs(np.corrcoef(here.ravel(), shifted.ravel())[0, 1]) < 4 / np.sqrt(3 * n)
    for axis in range(
        3
    ):  # Kolmogorov-Smirnov distance of n normal numbers: 1.95 / sqrt(n) at 0.1 %
        assert kstest(one[:, axis] / rms, "norm").statistic < 1.95 / np.sqrt(n)


def test_an_atom_moves_alike_whatever_else_is_in_view():
    """A part of the atoms, in another order, gets the same displacements, bit for bit."""
    at_rest = np.random.default_rng(1).uniform(-40, 40, (500, 3))
    everything = displace(at_rest, 0.08, np.random.default_rng(4))
    some = np.random.default_rng(5).permutation(500)[:200]
    np.testing.assert_array_equal(
        displace(at_rest[some], 0.08, np.random.default_rng(4)), everything[some]
    )


def test_displaced_atoms_scatter_like_a_debye_waller_factor():
    """The mean of exp(2 pi i k u) over atoms is exp(-B k^2 / 4)."""
    b, k, n = 0.62, 0.8, 200_000
    at_rest = np.random.default_rng(9).uniform(0, 50, (n, 3))
    u = displace(at_rest, rms_displacement(b), np.random.default_rng(3)) - at_rest
    mean = np.exp(2j * np.pi * k * u[:, 0]).mean()
    assert abs(mean - np.exp(-b * k**2 / 4)) < 4 / np.sqrt(n)


def test_one_atoms_amplitude_does_not_move_the_others():
    """The same generator moves all other atoms bit-identically; zero rms leaves an atom at rest."""
    at_rest = np.random.default_rng(4).uniform(0, 10, (20, 3))
    rms = np.full(20, 0.08)
    before = displace(at_rest, rms, np.random.default_rng(5))
    rms[7] = 0.0
    after = displace(at_rest, rms, np.random.default_rng(5))
    np.testing.assert_array_equal(after[7], at_rest[7])
    np.testing.assert_array_equal(np.delete(after, 7, axis=0), np.delete(before, 7, axis=0))


def test_positions_and_amplitudes_must_fit():
    """Wrong shapes and negative amplitudes raise."""
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"\(n, 3\)"):
        displace(np.zeros((4, 2)), 0.1, rng)
    with pytest.raises(ValueError, match="one number or 4"):
        displace(np.zeros((4, 3)), np.full(3, 0.1), rng)
    with pytest.raises(ValueError, match="zero or positive"):
        displace(np.zeros((4, 3)), -0.1, rng)


# --- anisotropic motion ---

U_A2 = np.array([[0.020, 0.004, -0.003], [0.004, 0.011, 0.002], [-0.003, 0.002, 0.006]])


def turn(x, y, z):
    """Return a rotation about x, then y, then z."""
    matrix = np.eye(3)
    for axis, angle in enumerate((x, y, z)):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        step = np.eye(3)
        step[i, i] = step[j, j] = np.cos(angle)
        step[i, j], step[j, i] = -np.sin(angle), np.sin(angle)
        matrix = step @ matrix
    return matrix


def anisotropic(n, tensor):
    """Return n atoms in random places with one tensor, at 1000 times the density of matter."""
    places = np.random.default_rng(3).uniform(0, 5, (n, 3))
    one = Atoms.of(np.full(n, 38), places, 0.5)
    return Atoms(
        one.numbers,
        one.positions_nm,
        one.b_factors_A2,
        one.groups,
        one.group_names,
        u_aniso_A2=np.broadcast_to(tensor, (n, 3, 3)).copy(),
    )


def test_displacements_have_the_covariance_of_the_tensor():
    """<u_i u_j> = U_ij; an entry's variance over n atoms is (U_ii U_jj + U_ij^2) / n."""
    n = 200_000
    atoms = anisotropic(n, U_A2)
    moved = thermal_positions(atoms, 0, np.random.default_rng(1))
    u = 10 * (moved - atoms.positions_nm)
    spread = np.sqrt((np.outer(np.diag(U_A2), np.diag(U_A2)) + U_A2**2) / n)
    assert (np.abs(u.T @ u / n - U_A2) < 4 * spread).all()
    assert (np.abs(u.mean(axis=0)) < 4 * np.sqrt(np.diag(U_A2) / n)).all()


def test_an_isotropic_tensor_is_a_b_factor():
    """U = B / (8 pi^2) in every direction gives bit-identical displacements."""
    b = np.array([0.3, 0.62, 1.5])
    places = np.random.default_rng(3).uniform(0, 5, (3, 3))
    plain = Atoms.of([8, 22, 38], places, b)
    tensors = Atoms(
        plain.numbers, places, b, plain.groups, plain.group_names, u_aniso_A2=plain.tensors_A2
    )
    one, two = (thermal_positions(a, 0, np.random.default_rng(6)) for a in (plain, tensors))
    np.testing.assert_array_equal(one, two)


def test_b_factors_move_atoms_as_displace_does():
    """In nm what `displace` gives in Å, to the last bit but one."""
    atoms = Atoms.of(np.full(50, 79), np.random.default_rng(3).uniform(0, 5, (50, 3)), 0.62)
    positions = thermal_positions(atoms, 4, np.random.default_rng(6))
    expected = displace(
        atoms.positions_nm * 10, rms_displacement(atoms.b_factors_A2), np.random.default_rng(6)
    )
    np.testing.assert_allclose(positions * 10, expected, rtol=4e-16)


def test_a_rotated_crystal_moves_along_rotated_axes():
    """The covariance of rotated atoms is R U R^T, whose eigenvalues are those of U."""
    rotation = turn(0.3, -1.1, 2.0)
    atoms = anisotropic(2, U_A2).rotated(rotation, (1.0, 2.0, 3.0))
    np.testing.assert_allclose(atoms.u_aniso_A2[0], rotation @ U_A2 @ rotation.T, atol=1e-17)
    np.testing.assert_allclose(
        np.linalg.eigvalsh(atoms.u_aniso_A2[0]), np.linalg.eigvalsh(U_A2), rtol=1e-12
    )
    back = atoms.rotated(rotation.T, (1.0, 2.0, 3.0))
    np.testing.assert_allclose(back.u_aniso_A2[1], U_A2, atol=1e-16)
    np.testing.assert_allclose(back.positions_nm, anisotropic(2, U_A2).positions_nm, atol=1e-14)


def test_rotated_displacements_scatter_like_the_rotated_tensor():
    """The mean of exp(2 pi i k u) is exp(-2 pi^2 k U k), for k in any direction."""
    rotation, n = turn(0.7, 0.2, -0.4), 200_000
    atoms = anisotropic(n, U_A2).rotated(rotation)
    u = 10 * (thermal_positions(atoms, 0, np.random.default_rng(2)) - atoms.positions_nm)
    for k in np.array([[1.0, 0, 0], [0, 1.2, 0.5], [-0.4, 0.8, 1.1]]):
        expected = np.exp(-2 * np.pi**2 * k @ rotation @ U_A2 @ rotation.T @ k)
        assert abs(np.exp(2j * np.pi * u @ k).mean() - expected) < 4 / np.sqrt(n)


def test_an_atom_with_a_tensor_moves_alike_whatever_else_is_in_view():
    atoms = anisotropic(300, U_A2)
    some = np.random.default_rng(5).permutation(300)[:100]
    everything = thermal_positions(atoms, 0, np.random.default_rng(4))
    np.testing.assert_array_equal(
        thermal_positions(atoms.select(some), 0, np.random.default_rng(4)), everything[some]
    )


def test_cholesky_factors_of_tensors_without_motion_along_some_direction():
    """Flat, linear and no motion; L L^T = U to rounding, where LAPACK would refuse."""
    line = np.outer([1.0, 2, -1], [1.0, 2, -1]) * 1e-3
    plane = line + np.outer([0.0, 1, 1], [0.0, 1, 1]) * 2e-3
    tensors = np.stack([U_A2, line, plane, np.zeros((3, 3)), np.diag([0.0, 0.01, 0.0])])
    factor = cholesky_factors(tensors)
    np.testing.assert_allclose(factor @ factor.swapaxes(1, 2), tensors, atol=1e-12)
    np.testing.assert_array_equal(factor, np.tril(factor))


def test_impossible_tensors_are_refused():
    rng = np.random.default_rng(0)
    for bad in (np.diag([0.01, -0.001, 0.01]), [[0.0, 0.01, 0], [0.01, 0.1, 0], [0, 0, 0.1]]):
        with pytest.raises(ValueError, match="negative eigenvalue"):
            displace_by_tensors(np.zeros((1, 3)), np.array([bad]), rng)
    with pytest.raises(ValueError, match=r"tensors must have shape \(4, 3, 3\)"):
        displace_by_tensors(np.zeros((4, 3)), np.zeros((3, 3, 3)), rng)


def test_tensors_stand_in_the_table_of_atoms():
    table = anisotropic(2, U_A2).table()
    assert [n for n in table if n.startswith("u_")] == [
        "u_xx_A2", "u_yy_A2", "u_zz_A2", "u_xy_A2", "u_xz_A2", "u_yz_A2",
    ]  # fmt: skip
    assert table["u_xz_A2"].tolist() == [-0.003, -0.003]
    assert "u_xx_A2" not in Atoms.of([6], [[0, 0, 0]], 0.5).table()
