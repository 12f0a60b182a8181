"""Known crystals, plane waves that stand for an average over positions, thickness and counts."""

import numpy as np
import pytest

from nanophantom.analysis import cbed_thickness
from nanophantom.analysis.counting_library import column_library, library_for
from nanophantom.analysis.known_crystal import KnownCrystal
from nanophantom.analysis.position_average import (
    PlaneWaves,
    evenly_over_aperture,
    lattice_over_aperture,
)
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.stem.detectors import AnnularDetector
from nanophantom.simcore.electrons.stem.probe import Beams, Probe
from nanophantom.simcore.electrons.stem.unit_cell import UnitCell, supercell_grid, unit_cell_gram

A_NM = 0.3905  # strontium titanate
TITANATE = {
    "cell_nm": (A_NM * np.eye(3)).tolist(),
    "numbers": [38, 22, 8, 8, 8],
    "positions_nm": (
        A_NM * np.array([[0, 0, 0], [1, 1, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1]]) / 2
    ).tolist(),
    "b_factors_A2": [0.62, 0.44, 0.73, 0.73, 0.73],
}


def gold(b_factor_A2=0.6):
    """Return gold with [110] along z and [001] along x, by its primitive cell."""
    a = 0.40782
    x, z = np.array([0, 0, 1]), np.array([1, 1, 0]) / np.sqrt(2)
    turn = np.stack([x, np.cross(z, x), z])
    cell = a / 2 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) @ turn.T
    return KnownCrystal(cell, np.array([79]), np.zeros((1, 3)), np.array([b_factor_A2]))


def test_a_slab_of_gold_110_has_the_columns_of_the_textbook():
    """Cell across [110]: a by a / sqrt 2, two columns, atoms a / sqrt 2 apart along them."""
    crystal = gold()
    np.testing.assert_allclose(
        crystal.periods_nm, [[0.40782, 0], [0, 0.40782 / np.sqrt(2)]], atol=1e-9
    )
    spacing, columns = crystal.column_spacing_nm()
    assert columns == 2
    np.testing.assert_allclose(spacing, 0.40782 / np.sqrt(2))
    slab = crystal.slab(5 * spacing)
    assert len(slab.numbers) == 10
    assert (np.diff(slab.positions_nm[:, 2]) >= 0).all()


def test_n_cells_of_a_crystal_hold_n_times_the_atoms_of_one():
    """The plane at the depth itself is left out, whatever rounding does."""
    crystal = KnownCrystal.of(TITANATE)
    for n in (1, 7, 40):
        slab = crystal.slab(n * A_NM)
        assert np.bincount(slab.numbers)[[8, 22, 38]].tolist() == [3 * n, n, n]
    np.testing.assert_allclose(crystal.period_along_beam_nm(), A_NM)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"numbers": [38]}, "numbers and b_factors_A2"),
        ({"cell_nm": np.zeros((3, 3))}, "must have a volume"),
        ({"cell_nm": None}, "cell_nm is"),
    ],
)
def test_a_crystal_that_cannot_be_is_refused(changes, message):
    """Shapes that don't match, a flat cell, a cell that is no matrix."""
    with pytest.raises(ValueError, match=message):
        KnownCrystal.of({**TITANATE, **changes})
    with pytest.raises(ValueError, match="b_factors_A2 is missing"):
        KnownCrystal.of({k: v for k, v in TITANATE.items() if k != "b_factors_A2"})


def test_columns_of_a_compound_and_a_crystal_off_axis_are_refused():
    """Titanate's columns differ; a turned cell has no period along x."""
    with pytest.raises(ValueError, match="several elements"):
        KnownCrystal.of(TITANATE).column_spacing_nm()
    c, s = np.cos(0.3), np.sin(0.3)
    turned = A_NM * np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    with pytest.raises(ValueError, match="isn't periodic across the beam"):
        _ = KnownCrystal.of({**TITANATE, "cell_nm": turned}).periods_nm


def test_plane_waves_give_the_mean_of_a_scan_over_the_cell():
    """A resting crystal: a detector's mean over all probe positions, by two calculations.

    One scans a defocused probe over the cell, by the Gram matrices of the scattering matrix; the
    other sends the beams of the same aperture one by one and knows nothing of phases.
    """
    crystal = KnownCrystal.of({**TITANATE, "b_factors_A2": [0.0] * 5})
    energy, angle, cells = 200.0, 12.0, 4
    k_max = 0.06 / float(wavelength(energy))
    detectors = [AnnularDetector(name="bf", outer_mrad=8.0),
                 AnnularDetector(name="adf", inner_mrad=25.0, outer_mrad=55.0)]  # fmt: skip
    slab = crystal.slab(cells * A_NM)
    probe = Probe(energy, angle, {"C10": 120.0})
    column = UnitCell(10 * crystal.periods_nm, slab.numbers, 10 * slab.positions_nm)
    gram = unit_cell_gram(probe, column, (8, 8), k_max, detectors, threads=1)
    image = gram.defocus_average(np.zeros(1), np.ones(1), probe)
    axis = (np.arange(8) + 0.5) / 8 * 10 * A_NM
    places = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    scanned = image.at(places).mean(axis=1)

    waves = PlaneWaves(crystal, energy, k_max, [cells * A_NM], width_nm=0.3, configurations=1)

    beams = Beams.inside(supercell_grid(column.vectors_A, (8, 8), k_max), probe)

    def read(disk, seen):
        at = disk.kx, disk.ky, energy, beams.spacing
        return [np.sum(d.weights(*at)[0] * seen[0]) for d in detectors]

    weights = np.abs(beams.amplitudes(probe)) ** 2
    directions = 1e3 * float(wavelength(energy)) * np.column_stack([beams.kx, beams.ky])
    averaged = weights @ np.array(waves.intensities(directions, np.random.default_rng(1), read))
    np.testing.assert_allclose(averaged, scanned, rtol=1e-3)


def test_directions_fill_the_aperture_evenly():
    """Half of the area holds half of the directions, and their mean is the axis."""
    for directions in (evenly_over_aperture(10.0, 400), lattice_over_aperture(10.0, 0.5)):
        r = np.hypot(*directions.T)
        assert r.max() <= 10
        np.testing.assert_allclose(np.mean(r < 10 / np.sqrt(2)), 0.5, atol=0.02)
        np.testing.assert_allclose(directions.mean(axis=0), 0, atol=0.1)


def test_cross_sections_rise_with_every_atom_and_repeat_with_other_displacements():
    """Each atom adds, no column scatters more than its cell receives, and draws agree.

    One configuration of one column scatters by 13 % about the mean; 8 of them with 36 columns
    leave 0.8 % in each library, 1.1 % between two: 3.5 % are three standard deviations.
    """
    one, other = (
        column_library(gold(), 3, 300.0, 16.0, 40.0, 80.0, np.random.default_rng(seed), 24)
        for seed in (2, 3)
    )
    assert one["n_atoms"].tolist() == [1, 2, 3]
    sections = one["cross_section_A2"]
    assert (np.diff(sections) > 0).all()
    assert 0 < sections[-1] < 100 * 0.40782**2 / np.sqrt(2) / 2
    np.testing.assert_allclose(other["cross_section_A2"], sections, rtol=0.035)


def test_a_library_wants_to_know_crystal_and_detector():
    """Without a crystal, or a ring among the detectors, there is none."""
    known = {"energy_kev": 300, "semiangle_mrad": 16, "detectors": {}, "crystal": TITANATE}
    assert library_for({**known, "crystal": None}, 4) is None
    assert library_for(known, 4) is None


SETTINGS = {
    "crystal": TITANATE,
    "energy_kev": 200.0,
    "semiangle_mrad": 10.0,
    "pixel_size_mrad": 2.0,
    "thickest_nm": 12.0,
}
SHAPE = (26, 26)


def test_library_patterns_keep_to_the_electrons_there_are():
    """Parts of the beam: all of it from thin crystals, less and less as it scatters away."""
    thickness, patterns = cbed_thickness.library_for(SETTINGS, SHAPE)
    total = patterns.sum(axis=(1, 2))
    np.testing.assert_allclose(np.diff(thickness), 2 * A_NM)
    assert 0.97 < total[0] <= 1 + 1e-6
    assert (np.diff(total) < 0).all()


def test_thickness_of_drawn_patterns_is_found_within_its_uncertainty():
    """Counts drawn from the library itself: errors over quoted sigma have a spread of one."""
    thickness, patterns = cbed_thickness.library_for(SETTINGS, SHAPE)
    rng = np.random.default_rng(7)
    which = np.repeat([5, 8, 11], 8)
    counts = rng.poisson(3e4 * patterns[which])
    found = cbed_thickness.measure(counts, SETTINGS)
    assert found["pattern"].tolist() == list(range(24))
    pull = (found["thickness_nm"] - thickness[which]) / found["sigma_nm"]
    assert abs(pull.mean()) < 0.7  # 24 draws: known to 0.2, and the fit of edges adds to sigma
    assert 0.5 < pull.std() < 1.5


def test_patterns_beyond_the_library_are_left_out_and_wrong_input_is_refused():
    """An empty pattern has no answer; settings without a crystal can't give one."""
    _, patterns = cbed_thickness.library_for(SETTINGS, SHAPE)
    counts = np.round(1e5 * patterns[[6, 6]]).astype(int)
    counts[0] = 0
    assert cbed_thickness.measure(counts, SETTINGS)["pattern"].tolist() == [1]
    with pytest.raises(ValueError, match="settings lack crystal"):
        cbed_thickness.measure(counts, {**SETTINGS, "crystal": None})
    with pytest.raises(ValueError, match="patterns have the shape"):
        cbed_thickness.measure(np.zeros((2, 2, 3, 3)), SETTINGS)
