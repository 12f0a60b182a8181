"""Amorphous films: density, distances and spectrum, the same whatever window is asked for."""

from __future__ import annotations

import pickle
from itertools import pairwise

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.integrate import quad
from scipy.spatial import cKDTree

from nanophantom.samples.amorphous_film import AmorphousFilm
from nanophantom.samples.building.amorphous import (
    CARBON,
    GLASSES,
    ICE,
    hard_sphere_structure_factor,
)
from nanophantom.samples.building.places import white_noise
from nanophantom.samples.building.sequential_addition import add_sequentially
from nanophantom.simcore.atoms import Window
from nanophantom.simcore.electrons.constants import POTENTIAL_CONSTANT_V_A2
from nanophantom.simcore.electrons.scattering import scattering_factor
from nanophantom.simcore.runs import Run

WIDE = Window.centred(11, 11)


@pytest.fixture(scope="module", params=list(GLASSES))
def film(request):
    specimen = AmorphousFilm(material=request.param, thickness_nm=5.0).make(Run(3))
    return specimen, specimen.atoms_within(WIDE)


# --- atoms ---

# g/cm^3 by molar mass and Avogadro's number: 1.75 of C; 0.94 of H2O; 3.1 of Si3N4
PER_NM3 = {6: 87.74, 8: 31.42, 1: 62.84, 14: 39.92, 7: 53.23}


def test_density_and_stoichiometry(film):
    """Within 0.5 % of the weighed density; 605 nm^3 of random matter scatter by 0.2 % or so."""
    _, atoms = film
    for number in np.unique(atoms.numbers):
        found = (atoms.numbers == number).sum() / (11 * 11 * 5)
        assert found == pytest.approx(PER_NM3[int(number)], rel=5e-3), number


@pytest.mark.parametrize(
    ("material", "share"),
    [("carbon", 0.72), ("carbon", 1.14), ("ice", 0.72), ("silicon-nitride", 1.02)],
)
def test_other_densities_are_met_too(material, share):
    """Between the densities of the tables; the number in 400 nm^3 scatters by 0.5 % at most."""
    glass = GLASSES[material]
    density = share * glass.density_g_per_cm3
    film = AmorphousFilm(material=material, thickness_nm=4.0, density_g_per_cm3=density)
    atoms = film.make(Run(8)).atoms_within(Window.centred(10, 10))
    expected = share * sum(PER_NM3[int(z)] for z in glass.numbers) * 400
    assert len(atoms) == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("material", list(GLASSES))
def test_no_two_units_come_closer_than_they_may(material):
    """g(r) = 0 between different units below the smallest distance of every pair of species.

    Just above it there are pairs: among thousands the closest lies within 5 % of it.
    """
    packing = GLASSES[material].packing
    positions, species, unit = add_sequentially(packing, 1.0, (0, 0, 0), (6, 6, 4), 11)
    i, j = cKDTree(positions).query_pairs(0.26, output_type="ndarray").T
    apart = unit[i] != unit[j]
    i, j = i[apart], j[apart]
    distance = np.linalg.norm(positions[i] - positions[j], axis=1)
    for (a, b), least in np.ndenumerate(packing.closest_nm):
        mine = (np.minimum(species[i], species[j]) == min(a, b)) & (
            np.maximum(species[i], species[j]) == max(a, b)
        )
        assert least <= distance[mine].min() < 1.05 * least


def test_water_molecules_keep_their_shape_and_their_distance():
    """O-H 0.09572 nm and H-O-H 104.52 degrees; oxygens 0.24 nm apart; oriented at random."""
    film = AmorphousFilm(material="ice", thickness_nm=3.0).make(Run(1))
    atoms = film.atoms_within(Window.centred(6, 6))
    oxygen, hydrogen = (atoms.positions_nm[atoms.numbers == z] for z in (8, 1))
    inner = Window.centred(5.5, 5.5)
    oxygen = oxygen[inner.holds(oxygen[:, 0], oxygen[:, 1])]
    distance, partner = cKDTree(hydrogen).query(oxygen, k=3)
    np.testing.assert_allclose(distance[:, :2], 0.09572, atol=1e-9)
    assert distance[:, 2].min() >= 0.14
    arms = hydrogen[partner[:, :2]] - oxygen[:, None]
    angle = np.rad2deg(np.arccos((arms[:, 0] * arms[:, 1]).sum(axis=1) / 0.09572**2))
    np.testing.assert_allclose(angle, 104.52, atol=1e-4)
    assert cKDTree(oxygen).query(oxygen, k=2)[0][:, 1].min() >= 0.24
    # dipoles point everywhere: their mean is zero, their second moments are 1/3
    dipole = arms.sum(axis=1)
    dipole /= np.linalg.norm(dipole, axis=1, keepdims=True)
    n = len(dipole)
    assert np.abs(dipole.mean(axis=0)).max() < 4 / np.sqrt(3 * n)
    np.testing.assert_allclose(dipole.T @ dipole / n, np.eye(3) / 3, atol=4 * 0.3 / np.sqrt(n))


def test_atoms_of_a_place_do_not_depend_on_the_window(film):
    """A part asked for alone, also far from the origin, holds the same atoms, bit for bit."""
    specimen, atoms = film
    part = Window(1.3, 4.1, -5.2, -3.3)
    alone = specimen.atoms_within(part)
    x, y, _ = atoms.positions_nm.T
    inside = atoms.select(part.holds(x, y))
    order = [np.lexsort(a.positions_nm.T) for a in (alone, inside)]
    np.testing.assert_array_equal(alone.positions_nm[order[0]], inside.positions_nm[order[1]])
    np.testing.assert_array_equal(alone.numbers[order[0]], inside.numbers[order[1]])


def test_atoms_fill_the_film_evenly_up_to_its_faces_and_differ_by_seed():
    """Layers of 1 nm at both faces and in the middle hold alike; so do places far away."""
    film = AmorphousFilm(thickness_nm=6.0).make(Run(3))
    z = film.atoms_within(WIDE).positions_nm[:, 2]
    assert z.min() >= 0
    assert z.max() < 6
    counts = np.histogram(z, 6, (0, 6))[0]
    np.testing.assert_allclose(counts, 121 * PER_NM3[6], rtol=0.02)
    far = film.atoms_within(Window(500, 504, -1000, -996))
    assert len(far) == pytest.approx(16 * 6 * PER_NM3[6], rel=0.02)
    other = AmorphousFilm(thickness_nm=6.0).make(Run(4)).atoms_within(Window.centred(2, 2))
    same = film.atoms_within(Window.centred(2, 2))
    assert not np.isin(other.positions_nm[:, 0], same.positions_nm[:, 0]).any()


def test_a_film_of_billions_of_atoms_is_refused():
    film = AmorphousFilm(thickness_nm=100.0).make(Run(0))
    with pytest.raises(ValueError, match=r"^thickness_nm: .* would hold 8,774,\d{3},\d{3} atoms"):
        film.atoms_within(Window.centred(1000, 1000))


def radial_power(image, pitch, bins):
    """Mean |transform|^2 over the area in rings of |k|, per unit area: V^2 nm^4."""
    n = len(image)
    spectrum = np.abs(np.fft.fft2(image - image.mean())) ** 2 * pitch**4 / (n * pitch) ** 2
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(n, pitch), np.fft.fftfreq(n, pitch)))
    ring = np.digitize(k.ravel(), bins)
    count = np.bincount(ring, minlength=len(bins) + 1)[1:-1]
    return np.bincount(ring, spectrum.ravel(), len(bins) + 1)[1:-1] / count, count


@pytest.mark.parametrize(("material", "tolerance"), [("carbon", 0.1), ("ice", 0.15)])
def test_atoms_scatter_with_the_spectrum_that_the_truth_states(material, tolerance):
    """Intensity of the atoms in a square against n t sum f^2 S, S from hard spheres.

    Those are in equilibrium; random sequential addition differs from them by some per cent.
    """
    length, thickness = 6.0, 3.0
    film = AmorphousFilm(material=material, thickness_nm=thickness).make(Run(5))
    # rings of 5 nm^-1 from 5 to 35 nm^-1, on a square cut out of the film: a window of sin^2
    # takes the streaks of its edges away
    atoms = film.atoms_within(Window(0, length, 0, length))
    x, y = atoms.positions_nm[:, 0], atoms.positions_nm[:, 1]
    weight = (np.sin(np.pi * x / length) * np.sin(np.pi * y / length)) ** 2
    h = np.arange(1, 280, 5)
    hx, hy = np.meshgrid(h, h)
    k = np.hypot(hx, hy).ravel() / length
    ex, ey = (np.exp(-2j * np.pi * np.outer(h, c) / length) for c in (x, y))
    amplitude = np.zeros((len(h),) * 2, dtype=complex)
    for z in np.unique(atoms.numbers):
        mine = atoms.numbers == z
        factor = scattering_factor(int(z), k / 10).reshape(amplitude.shape)
        amplitude += factor * ((ey[:, mine] * weight[mine]) @ ex[:, mine].T)
    volume_A3 = (length * 10) ** 2 * thickness * 10 * (3 / 8) ** 2  # mean of sin^4 is 3/8
    measured = (np.abs(amplitude) ** 2).ravel() / volume_A3
    expected = film.glass.spectrum_per_A(k / 10, film.density_g_per_cm3)
    for low in (5, 10, 15, 20, 25, 30):
        ring = (k >= low) & (k < low + 5)
        ratio = measured[ring].sum() / expected[ring].sum()
        noise = 1 / np.sqrt(ring.sum())
        assert ratio == pytest.approx(1, abs=tolerance + 3 * noise), low


# --- fields ---


def test_the_random_field_has_the_stated_spectrum_and_mean():
    """C^2 t n f^2 S within the statistics of the rings, mean V0 t within that of a window."""
    film = AmorphousFilm(made_of="field", thickness_nm=4.0, slab_nm=2.0).make(Run(2))
    layers = film.fields_within(Window.centred(40, 40), (1000, 1000))
    assert [layer.z_nm for layer in layers] == [1.0, 3.0]
    bins = np.array([0.2, 0.5, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9.9])  # 1/nm; complete up to 10
    middle = [quad(lambda k: k, a, b)[0] for a, b in pairwise(bins)]
    for layer in layers:
        image = layer.potential_V_nm
        # a cosine-edged square: mean of its square (3/8)^2
        edge = np.sin(np.pi * (np.arange(1000) + 0.5) / 1000) ** 2
        power, count = radial_power((image - image.mean()) * np.outer(edge, edge), 0.04, bins)
        expected = [
            quad(lambda k: k * film.power_V2_nm4(np.array(k), 2.0), a, b)[0] / m
            for (a, b), m in zip(pairwise(bins), middle, strict=True)
        ]
        # the window makes neighbours alike: (35/18)^2 coefficients count as one
        noise = 1 / np.sqrt(count / 2 / (35 / 18) ** 2)
        ratio = power / (3 / 8) ** 2 / np.array(expected)
        assert (np.abs(ratio - 1) < 4 * noise).all(), ratio
        # the mean of N wavelengths: sqrt(P(0)) / length
        spread = np.sqrt(film.power_V2_nm4(np.array(0.0), 2.0)) / 40
        assert image.mean() == pytest.approx(2 * film.mean_inner_potential_V, abs=4 * spread)
    one, two = (layer.potential_V_nm.ravel() for layer in layers)
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.02


def test_without_order_the_spectrum_is_n_f_squared():
    """Far beyond the first rings S = 1; for carbon that is n f^2."""
    k = np.array([3.0, 4.0, 5.0])
    expected = 0.08774 * scattering_factor(6, k) ** 2
    np.testing.assert_allclose(CARBON.spectrum_per_A(k, 1.75), expected, rtol=0.03)


def test_a_molecule_of_water_scatters_like_its_atoms_together_and_apart():
    """k -> 0 without order: (f_O + 2 f_H)^2; k -> infinity: f_O^2 + 2 f_H^2."""
    thin = 1e-6  # g/cm^3: no order between molecules
    per_A3 = 0.03342 * thin
    f_o, f_h = (float(scattering_factor(z, 0.0)) for z in (8, 1))
    together = ICE.spectrum_per_A(np.array(0.0), thin)
    assert together == pytest.approx(per_A3 * (f_o + 2 * f_h) ** 2, rel=1e-3)
    k = np.linspace(4, 6, 2001)
    f_o, f_h = (scattering_factor(z, k) for z in (8, 1))
    apart = ICE.spectrum_per_A(k, thin).mean()
    assert apart == pytest.approx((per_A3 * (f_o**2 + 2 * f_h**2)).mean(), rel=0.01)


def test_hard_spheres_at_k_zero_are_as_stiff_as_percus_and_yevick_say():
    """S(0) = (1 - eta)^4 / (1 + 2 eta)^2; and S -> 1 far out."""
    eta, diameter = 0.2, 2.0
    density = eta / (np.pi / 6 * diameter**3)
    order = hard_sphere_structure_factor(np.array([0.0, 200.0]), density, diameter)
    assert order[0] == pytest.approx((1 - eta) ** 4 / (1 + 2 * eta) ** 2, rel=1e-3)
    assert order[1] == pytest.approx(1, abs=1e-4)


def test_the_field_of_a_place_does_not_depend_on_the_window():
    film = AmorphousFilm(made_of="field", thickness_nm=1.0).make(Run(2))
    (whole,) = film.fields_within(Window(-6, 6, -6, 6), (400, 400))
    (part,) = film.fields_within(Window(-3, 1.5, 0, 4.5), (150, 150))
    inside = whole.potential_V_nm[200:350, 100:250]
    assert np.abs(part.potential_V_nm - inside).max() < 1e-3 * inside.std()


def test_a_field_has_no_atoms_and_atoms_no_field():
    field = pickle.loads(pickle.dumps(AmorphousFilm(made_of="field").make(Run(2))))
    assert len(field.atoms_within(WIDE)) == 0
    assert AmorphousFilm().make(Run(2)).fields_within(WIDE, (8, 8)) == ()


def test_white_noise_is_white_normal_and_tied_to_its_place():
    noise = white_noise(-500, 300, 1000, 800, 2, np.uint64(77))
    n = noise.size
    assert abs(noise.mean()) < 4 / np.sqrt(n)
    assert noise.var() == pytest.approx(1, abs=4 * np.sqrt(2 / n))
    for other in (noise[1:, :], noise[:, 1:]):
        here = noise[: other.shape[0], : other.shape[1]]
        assert abs((here * other).mean()) < 4 / np.sqrt(n)
    np.testing.assert_array_equal(
        white_noise(-100, 350, 20, 30, 2, np.uint64(77)), noise[50:80, 400:420]
    )
    assert not np.isin(white_noise(-100, 350, 20, 30, 3, np.uint64(77)), noise).any()


# --- mean inner potential ---


def test_mean_inner_potential_of_carbon_lies_in_the_published_range():
    """7.8 to 10.7 V; 9.09 V at 1.75 g/cm^3: M. Wanner et al., Ultramicroscopy 106 (2006) 341."""
    assert 7.8 < CARBON.mean_inner_potential_V(1.75) < 10.7


def test_mean_inner_potential_is_the_mean_of_the_atoms_potential(film):
    """h^2 / (2 pi m e) sum of f(0) over the atoms of a volume."""
    specimen, atoms = film
    total = sum(
        (atoms.numbers == z).sum() * float(scattering_factor(int(z), 0.0))
        for z in np.unique(atoms.numbers)
    )
    mean = POTENTIAL_CONSTANT_V_A2 * total / (605 * 1e3)
    stated = specimen.truth()["film"]["mean_inner_potential_V"][0]
    assert mean == pytest.approx(stated, rel=5e-3)


def test_b_factors_are_assumed_or_the_recipes():
    sample = AmorphousFilm(material="ice", thickness_nm=1.0, b_factors_A2={"O": 0.4})
    film = sample.make(Run(0))
    atoms = film.atoms_within(Window.centred(1, 1))
    assert set(atoms.b_factors_A2[atoms.numbers == 8]) == {0.4}
    assert set(atoms.b_factors_A2[atoms.numbers == 1]) == {1.5}
    assert film.notes == ("B factors: O 0.4 Å² (recipe), H 1.5 Å² (assumed).",)
    with pytest.raises(ValueError, match=r"^b_factors_A2: there is no 'C' in ice"):
        sample.model_copy(update={"b_factors_A2": {"C": 0.4}}).make(Run(0))


def test_impossible_films_are_refused():
    with pytest.raises(ValueError, match=r"^density_g_per_cm3: .* give 2\.01 at most"):
        AmorphousFilm(density_g_per_cm3=3.5).make(Run(0))
    with pytest.raises(ValueError, match=r"^mean_inner_potential_V: atoms bring their own"):
        AmorphousFilm(mean_inner_potential_V=9.0).make(Run(0))
    with pytest.raises(ValidationError, match="material"):
        AmorphousFilm(material="glass")
    film = AmorphousFilm(made_of="field", mean_inner_potential_V=9.09, density_g_per_cm3=3.5)
    assert film.make(Run(0)).mean_inner_potential_V == 9.09
