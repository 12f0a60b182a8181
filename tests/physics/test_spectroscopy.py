"""X-rays and core losses of a scanned probe: closed forms, channelling, what a collector sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nanophantom.simcore.atoms import Atoms
from nanophantom.simcore.electrons.configurations import Configurations
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.inelastic.hydrogenic import partial_cross_section
from nanophantom.simcore.electrons.inelastic.ionization import bote_salvat
from nanophantom.simcore.electrons.inelastic.shells import atomic_shell
from nanophantom.simcore.electrons.inelastic.transition import IonizationDensity
from nanophantom.simcore.electrons.inelastic.x_rays import absorption_factor
from nanophantom.simcore.electrons.multislice import Multislice, Step, plane_wave
from nanophantom.simcore.electrons.settings import Multislice as Settings
from nanophantom.simcore.electrons.stem.core_loss import (
    ChannelledLoss,
    CollectedDensity,
    collected_share,
    share_left_in_window,
)
from nanophantom.simcore.electrons.stem.detectors import AnnularDetector, Weights
from nanophantom.simcore.electrons.stem.probe import Beams, Probe
from nanophantom.simcore.electrons.stem.spectroscopy import (
    IonizationMaps,
    WatchedSlices,
    escape,
    scan_watched,
)
from nanophantom.simcore.electrons.stem.whole_cell import image_of_cell, whole_cell
from nanophantom.simcore.electrons.transmission import Transmission, finer
from nanophantom.simcore.runs import Run

Array = npt.NDArray[Any]

KV = 200.0
EDGE_A = 3.905
SITES = [(38, 0.0, 0.0, 0.0), (22, 0.5, 0.5, 0.5), (8, 0.5, 0.5, 0.0), (8, 0.5, 0.0, 0.5),
         (8, 0.0, 0.5, 0.5)]  # fmt: skip
SIGMA = {(z, s): float(bote_salvat(z, s, KV)) for z, s in ((22, "K"), (8, "K"), (38, "L3"))}
DENSITY = {key: IonizationDensity(atomic_shell(*key), KV, value) for key, value in SIGMA.items()}
EDGES = [(z, density) for (z, _), density in DENSITY.items()]
ADF = [AnnularDetector(name="adf", inner_mrad=40, outer_mrad=70)]


def strontium_titanate(cells: tuple[int, int, int]) -> tuple[Array, Array]:
    corners = np.array(list(np.ndindex(*cells)), float)
    numbers = np.tile([site[0] for site in SITES], len(corners))
    basis = np.array([site[1:] for site in SITES])
    return numbers, ((corners[:, None, :] + basis) * EDGE_A).reshape(-1, 3)


def crystal(numbers: Array, xyz_A: Array, grid: Grid, fineness: int = 2) -> Configurations:
    atoms = Atoms.of(numbers, xyz_A / 10, np.zeros(len(numbers)), "crystal")
    return Configurations(
        atoms, (), (0.0, 0.0), finer(grid, fineness), Settings(thermal_motion=False), KV, Run(0)
    )


def watched(configurations: Configurations, grid: Grid, edges: Any = EDGES) -> WatchedSlices:
    transmission = Transmission(grid, KV, configurations.grid.shape[0] // grid.shape[0])
    maps = IonizationMaps(grid, edges)
    return WatchedSlices.of(configurations, 0, transmission, maps, 10**9)


def scanned(
    probe: Probe, positions: Any, slices: WatchedSlices, grid: Grid, **more: Any
) -> npt.NDArray[np.float64]:
    ky, kx = grid.wave_frequencies
    weights = Weights.of(ADF, kx, ky, KV, grid.wave_mask)
    ones = np.ones(len(slices.maps))
    return scan_watched(probe, positions, slices, grid, weights, lambda z: ones, **more).values


def probe_wave(probe: Probe, x: float, y: float, grid: Grid) -> Array:
    beams = Beams.inside(grid, probe)
    return beams.wave(beams.at(beams.amplitudes(probe), x, y), grid)


# --- one slice: closed forms ---------------------------------------------------------------------


def test_a_plane_wave_ionizes_number_times_cross_section_over_area() -> None:
    """N sigma / A for every edge, atoms anywhere, to single precision."""
    grid = Grid.for_wave((11.0, 13.0), 3.0, 1.5)
    rng = np.random.default_rng(5)
    numbers = rng.choice([8, 22, 38, 79], 60)
    x, y = rng.uniform(0, 13, 60), rng.uniform(0, 11, 60)
    maps = IonizationMaps(grid, EDGES).project(numbers, x, y)
    vacuum = np.zeros(grid.shape, np.float32)
    out = Multislice(grid, KV).propagate(plane_wave(grid), [(vacuum, 0.0)], [maps])
    wanted = [(numbers == z).sum() * s / grid.area_A2 for (z, _), s in SIGMA.items()]
    assert out.watched is not None
    assert out.watched[0] == pytest.approx(wanted, rel=2e-6)


def test_a_probe_much_wider_than_the_atom_ionizes_intensity_times_cross_section() -> None:
    """1.5 mrad: an Airy disk of 10 Å radius over one Ti atom gives I(r_atom) sigma within 0.5 %."""
    edge = 60.0
    grid = Grid.for_wave((edge, edge), 1.0, 1.5)
    vacuum = np.zeros(grid.shape, np.float32)
    maps = IonizationMaps(grid, EDGES[:1]).project([22], [31.3], [28.9])
    wave = probe_wave(Probe(KV, 1.5, {}), 30.0, 30.0, grid)
    ky, kx = grid.wave_frequencies
    psi = np.sum(wave * np.exp(2j * np.pi * (kx * 31.3 + ky * 28.9)))
    out = Multislice(grid, KV).propagate(wave, [(vacuum, 0.0)], [maps])
    assert out.watched is not None
    wanted = float(abs(psi) ** 2) / grid.area_A2 * SIGMA[22, "K"]
    assert out.watched[0, 0] == pytest.approx(wanted, rel=5e-3)


def test_what_is_watched_is_the_integral_of_intensity_and_potential() -> None:
    """A 20 mrad probe beside Ti: 1/A sum over beams of psi psi'* M(k - k'), in double precision."""
    grid = Grid.for_wave((9.0, 8.0), 2.0, 1.5)
    wave = probe_wave(Probe(KV, 20.0, {"C10": 40.0, "C21": 300.0, "phi21": 0.4}), 4.1, 4.4, grid)
    maps = IonizationMaps(grid, EDGES[:1], "float64").project([22], [4.37], [4.91])
    vacuum = np.zeros(grid.shape)
    engine = Multislice(grid, KV, dtype="complex128")
    out = engine.propagate(wave, [(vacuum, 0.0)], [maps])
    place = np.nonzero(wave)
    ky, kx = (np.broadcast_to(k, wave.shape)[place] for k in grid.wave_frequencies)
    m = DENSITY[22, "K"].coefficients(kx - kx[:, None], ky - ky[:, None], 4.37, 4.91)
    wanted = (wave[place].conj()[None, :] * wave[place][:, None] * m).sum().real / grid.area_A2
    assert out.watched is not None
    assert out.watched[0, 0] == pytest.approx(wanted, rel=1e-7)


def test_maps_have_the_structure_factors_of_exact_positions() -> None:
    """Gridded against summed directly: 2e-6 of the largest value."""
    grid = Grid.for_wave((11.0, 13.0), 3.0, 1.5)
    rng = np.random.default_rng(6)
    numbers = rng.choice([8, 22, 38], 40)
    x, y = rng.uniform(0, 13, 40), rng.uniform(0, 11, 40)
    maps = IonizationMaps(grid, EDGES)
    found, exact = maps.project(numbers, x, y), maps.exact(numbers, x, y)
    assert np.abs(found - exact).max() < 2e-6 * exact.max()


def test_the_signal_of_an_atom_does_not_depend_on_where_samples_lie() -> None:
    """A focused probe on a Ti atom at ten places between samples: equal to 1e-5."""
    grid = Grid.for_wave((8.0, 8.0), 2.5, 1.5)
    maps, vacuum = IonizationMaps(grid, EDGES[:1]), np.zeros(grid.shape, np.float32)
    engine = Multislice(grid, KV)
    signals = []
    for x, y in np.random.default_rng(2).uniform(3, 5, (10, 2)):
        wave = probe_wave(Probe(KV, 25.0, {}), x, y, grid)
        out = engine.propagate(wave, [(vacuum, 0.0)], [maps.project([22], [x], [y])])
        assert out.watched is not None
        signals.append(float(out.watched[0, 0]))
    assert np.ptp(signals) < 1e-5 * np.mean(signals)


# --- the pass over the slices --------------------------------------------------------------------


def test_watching_changes_no_bit_of_the_wave_and_threads_no_bit_of_the_signals() -> None:
    """With and without maps; slices kept or made anew for every pass; one thread or two."""
    grid = Grid.for_wave((2 * EDGE_A, 2 * EDGE_A), 2.0, 1.5)
    configurations = crystal(*strontium_titanate((2, 2, 2)), grid)
    slices = watched(configurations, grid)
    assert slices.kept is not None
    probe = Probe(KV, 20.0, {})
    wave = probe_wave(probe, 1.0, 2.0, grid)
    engine = Multislice(grid, KV)
    plain = engine.propagate(wave, slices.steps)
    seen = engine.propagate(wave, slices.steps, [maps for _, maps in slices])
    assert np.array_equal(plain.wave_k, seen.wave_k)
    assert (plain.kept, plain.lost, plain.watched) == (seen.kept, seen.lost, None)
    positions = np.random.default_rng(1).uniform(0, 7, (5, 2))
    transmission = Transmission(grid, KV, 2)
    thrifty = WatchedSlices.of(configurations, 0, transmission, IonizationMaps(grid, EDGES), 10**5)
    assert thrifty.kept is None
    one = scanned(probe, positions, slices, grid, threads=1)
    assert np.array_equal(one, scanned(probe, positions, slices, grid, threads=2))
    assert np.array_equal(one, scanned(probe, positions, thrifty, grid, threads=2))
    assert len({id(maps) for _, maps in slices}) == 2  # a crystal's planes are made once


def test_atoms_spread_over_slabs_are_ionized_once_each() -> None:
    """Finite projection, atoms at any depth: every one in the slab of its nucleus."""
    grid = Grid.for_wave((8.0, 8.0), 2.0, 1.5)
    rng = np.random.default_rng(4)
    xyz = rng.uniform(0, 8, (30, 3))
    numbers = rng.choice([8, 22], 30)
    atoms = Atoms.of(numbers, xyz / 10, np.zeros(30), "glass")
    settings = Settings(thermal_motion=False, projection="finite")
    glass = Configurations(atoms, (), (0.0, 0.0), finer(grid, 2), settings, KV, Run(0))
    slices = watched(glass, grid)
    seen = np.concatenate([place.atoms for place, _ in slices])
    assert sorted(seen) == list(range(30))
    for place, _ in slices:
        assert np.abs(xyz[place.atoms, 2] - place.z_A).max(initial=0.0) <= 1.0 + 1e-9


def test_maps_of_a_wrong_shape_or_number_are_refused() -> None:
    """One stack of maps of the grid's shape for every slice."""
    grid = Grid.for_wave((8.0, 8.0), 2.0, 1.5)
    slices: list[Step] = [(np.zeros(grid.shape, np.float32), 1.0)] * 2
    good = np.zeros((1, *grid.shape), np.float32)
    with pytest.raises(ValueError, match="maps to watch have shape"):
        Multislice(grid, KV).propagate(plane_wave(grid), slices, [good[0], good[0]])
    with pytest.raises(ValueError, match="shorter"):
        Multislice(grid, KV).propagate(plane_wave(grid), slices, [good])


def test_a_raster_over_the_cell_holds_the_image_everywhere() -> None:
    """4 h + 1 positions along an edge: the series equals probes at other positions to 2e-6."""
    grid = Grid.for_wave((EDGE_A, 2 * EDGE_A), 2.0, 1.5)
    slices = watched(crystal(*strontium_titanate((2, 1, 3)), grid), grid)
    probe = Probe(KV, 20.0, {"C10": 30.0})
    names = ("adf", "Ti", "O", "Sr")
    raster = scanned(probe, whole_cell(grid, probe), slices, grid)
    image = image_of_cell(raster, names, grid, probe)
    elsewhere = np.random.default_rng(3).uniform(0, 8, (6, 2))
    wanted = scanned(probe, elsewhere, slices, grid).T
    assert np.abs(image.at(elsewhere) / wanted - 1).max() < 1e-5


# --- strontium titanate --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def maps_of_a_crystal() -> dict[int, Array]:
    """EDS images of SrTiO3 [001] on a raster over one cell, by thickness in cells."""
    grid = Grid.for_wave((2 * EDGE_A, 2 * EDGE_A), 2.0, 1.5)
    probe = Probe(KV, 20.0, {})
    fine = np.arange(0, 16) / 16 * EDGE_A
    made = {}
    for cells in (1, 5):
        slices = watched(crystal(*strontium_titanate((2, 2, cells)), grid), grid)
        values = scanned(probe, whole_cell(grid, probe), slices, grid)
        image = image_of_cell(values, ("adf", "Ti", "O", "Sr"), grid, probe)
        made[cells] = image.on_raster(fine, fine)
    return made


def test_maps_of_a_thin_crystal_sum_to_cross_section_times_atoms(maps_of_a_crystal) -> None:
    """One cell thick: the mean over the cell is sigma N / A within 1 %, for every element."""
    atoms = {"Ti": 1, "O": 3, "Sr": 1}
    mean = maps_of_a_crystal[1][1:].mean(axis=(1, 2))
    wanted = [n * s / EDGE_A**2 for n, s in zip(atoms.values(), SIGMA.values(), strict=True)]
    assert mean == pytest.approx(wanted, rel=1e-2)


@pytest.mark.parametrize("cells", [1, 5])
def test_each_element_is_brightest_where_its_columns_are(maps_of_a_crystal, cells) -> None:
    """Ti at the middle, Sr at the corner; O at the middle of the edges beats Sr columns."""
    _, titanium, oxygen, strontium = maps_of_a_crystal[cells]
    assert np.unravel_index(titanium.argmax(), titanium.shape) == (8, 8)
    assert np.unravel_index(strontium.argmax(), strontium.shape) == (0, 0)
    assert oxygen[8, 0] > 1.3 * oxygen[0, 0]
    assert oxygen[0, 8] == pytest.approx(oxygen[8, 0], rel=1e-4)


def test_channelling_makes_a_column_brighter_than_its_atoms(maps_of_a_crystal) -> None:
    """5 cells (2 nm): the probe on Sr stays with its column; more than 5 times one cell."""
    thin, thick = (maps_of_a_crystal[n][3, 0, 0] for n in (1, 5))
    assert 5 * 1.1 < thick / thin < 5 * 3


def test_oxygen_is_less_localized_than_titanium() -> None:
    """FWHM of the signal of one atom under a 25 mrad probe: O K wider than Ti K."""
    grid = Grid.for_wave((14.0, 14.0), 2.5, 1.5)
    vacuum = np.zeros(grid.shape, np.float32)
    width = {}
    for number, edge in ((22, EDGES[0]), (8, EDGES[1])):
        maps = IonizationMaps(grid, [edge]).project([number], [7.0], [7.0])
        profile = []
        distance = np.linspace(0, 1.5, 31)
        for d in distance:
            wave = probe_wave(Probe(KV, 25.0, {}), 7.0 + d, 7.0, grid)
            out = Multislice(grid, KV).propagate(wave, [(vacuum, 0.0)], [maps])
            assert out.watched is not None
            profile.append(float(out.watched[0, 0]))
        width[number] = 2 * np.interp(-0.5, -np.array(profile) / profile[0], distance)
    assert width[8] > 1.15 * width[22]


# --- X-rays on their way out ---------------------------------------------------------------------


def test_absorption_over_many_slices_is_that_of_a_foil() -> None:
    """Mean over the depth of a crystal: (1 - exp(-chi t)) / (chi t)."""
    grid = Grid.for_wave((EDGE_A, EDGE_A), 3.0, 1.5)
    numbers, xyz = strontium_titanate((1, 1, 80))
    configurations = crystal(numbers, xyz, grid)
    attenuation, takeoff = 5000.0, np.radians(15)
    share = escape(configurations, attenuation, takeoff)
    leaves = np.array([share(z) for z in np.arange(160) * EDGE_A / 2])
    mass_u = 87.62 + 47.867 + 3 * 15.999
    density = mass_u * 1.66053906660 / EDGE_A**3  # g/cm^3
    foil = absorption_factor(attenuation, density, 80 * EDGE_A / 10, takeoff)
    assert np.all(np.diff(leaves) < 0)
    # Both planes of the cell, SrO and TiO2, emit half of the X-rays here
    assert leaves.mean() == pytest.approx(float(foil), rel=2e-3)


# --- core losses ---------------------------------------------------------------------------------


def test_the_collected_share_of_directions_is_the_overlap_of_two_disks() -> None:
    """Limits in closed form, and the integral over all angles is the area of the collector."""
    assert collected_share([0.0, 9.9, 10.1], 0.0, 10.0).tolist() == [1.0, 1.0, 0.0]
    assert collected_share(0.0, 20.0, 10.0) == pytest.approx(0.25)
    assert collected_share([4.99, 25.0], 10.0, 15.0).tolist() == [1.0, 0.0]
    theta = np.linspace(0, 26, 40001)
    whole = np.trapezoid(2 * np.pi * theta * collected_share(theta, 10.0, 15.0), theta)
    assert whole == pytest.approx(np.pi * 15**2, rel=1e-6)
    # equal disks, a radius apart: 2/3 - sqrt(3) / (2 pi)
    assert collected_share(1.0, 1.0, 1.0) == pytest.approx(2 / 3 - np.sqrt(3) / (2 * np.pi))


@pytest.mark.parametrize(("Z", "name", "beta"), [(22, "K", 50), (8, "K", 20), (22, "L", 30)])
def test_the_collected_potential_integrates_to_the_partial_cross_section(Z, name, beta) -> None:
    """Parallel light: sigma(beta, Delta) within 0.6 % (angles are those of the mean loss)."""
    shell = atomic_shell(Z, name)
    found = CollectedDensity(shell, KV, 50.0, beta).cross_section_A2
    assert found == pytest.approx(partial_cross_section(shell, KV, beta * 1e-3, 50.0), rel=6e-3)


@pytest.mark.parametrize(("alpha", "beta"), [(20.0, 50.0), (25.0, 20.0)])
def test_the_collected_potential_is_the_sum_of_squared_potentials(alpha, beta) -> None:
    """M(k) against |H_n'(r)|^2 on a grid of 40 Å: within 2e-4 of M(0)."""
    density = CollectedDensity(atomic_shell(8, "K"), KV, 50.0, beta, alpha)
    length, pixels = 40.0, 512
    k = np.fft.fftfreq(pixels, length / pixels)
    kx, ky = np.meshgrid(k, k)
    per_mrad = 1e-3 / float(wavelength(KV))
    share = collected_share(np.hypot(kx, ky), alpha * per_mrad, beta * per_mrad)
    h = density.potential.coefficients(kx, ky) * np.sqrt(share)
    grid_density = sum(np.abs(np.fft.ifft2(one)) ** 2 for one in h)
    reference = np.fft.fft2(grid_density).real[0, :200] * (pixels / length) ** 2
    assert np.abs(density.radial(k[:200]) / reference[0] - reference / reference[0]).max() < 2e-4


def _one_plane(grid: Grid, x: float, y: float) -> tuple[list[Step], list[Array]]:
    return [(np.zeros(grid.shape, np.float32), 0.0)], [np.array([[x, y]])]


@pytest.mark.parametrize(("beta", "k_max"), [(20.0, 2.0), (60.0, 3.2)])
def test_averaged_over_the_cell_the_local_approximation_is_exact(beta, k_max) -> None:
    """One free Ti atom, K edge, 20 mrad: mean over all positions equal within 0.5 %.

    The mean over positions is the sum over beams, each for itself. Disks of angles hold a few
    hundred frequencies of a 16 Å cell, which count their areas to some 0.2 %.
    """
    grid = Grid.for_wave((16.0, 16.0), k_max, 1.5)
    local = CollectedDensity(atomic_shell(22, "K"), KV, 50.0, beta, 20.0)
    probe = Probe(KV, 20.0, {})
    beams = Beams.inside(grid, probe)
    share = np.abs(beams.amplitudes(probe)) ** 2
    steps, places = _one_plane(grid, 6.0, 6.0)
    exact = ChannelledLoss(grid, local.potential, beta)
    total = 0.0
    for i, (a, b) in enumerate(beams.harmonics):
        if not 0 <= a <= b:  # what mirrors of the square make of one beam is counted with it
            continue
        mirrors = {(s * u, t * v) for u, v in ((a, b), (b, a)) for s in (1, -1) for t in (1, -1)}
        wave = beams.wave(np.eye(1, len(beams), i, dtype=complex)[0], grid)
        total += len(mirrors) * share[i] * float(exact.of(wave, steps, places)[0])
    assert total == pytest.approx(local.cross_section_A2 / grid.area_A2, rel=5e-3)


@pytest.mark.parametrize(
    ("name", "beta", "within"), [("L", 40.0, 0.06), ("L", 100.0, 5e-3), ("K", 100.0, 1e-2)]
)
def test_on_a_column_the_local_approximation_is_close_to_double_channelling(
    name, beta, within
) -> None:
    """Ti in 0.8 nm of SrTiO3, 20 mrad: 5.4 % at 40 mrad (L), 0.3 % (L) and 0.7 % (K) at 100."""
    cells = 3 if name == "L" else 2  # the L edge reaches further
    grid = Grid.for_wave((cells * EDGE_A, cells * EDGE_A), 4.1, 2.0)
    numbers, xyz = strontium_titanate((cells, cells, 2))
    configurations = crystal(numbers, xyz, grid)
    local = CollectedDensity(atomic_shell(22, name), KV, 50.0, beta, 20.0)
    slices = watched(configurations, grid, [(22, local)])
    places = slices.places_A(22)
    assert sorted(map(len, places)) == [0, 0, cells**2, cells**2]
    column = (0.5 * EDGE_A, 0.5 * EDGE_A)
    found = scanned(Probe(KV, 20.0, {}), [column], slices, grid)[0, 1]
    wave = probe_wave(Probe(KV, 20.0, {}), *column, grid)
    exact = ChannelledLoss(grid, local.potential, beta, double=True).of(wave, slices.steps, places)
    assert found == pytest.approx(exact.sum(), rel=within)


def test_double_channelling_in_free_space_is_single() -> None:
    """Nothing behind the atom but vacuum: where electrons are collected makes no difference."""
    grid = Grid.for_wave((10.0, 10.0), 3.0, 1.5)
    steps, places = _one_plane(grid, 5.0, 5.2)
    steps = [(steps[0][0], 30.0)]
    potential = CollectedDensity(atomic_shell(8, "K"), KV, 50.0, 30.0).potential
    wave = probe_wave(Probe(KV, 20.0, {}), 5.3, 4.8, grid)
    one, two = (
        ChannelledLoss(grid, potential, 30.0, double).of(wave, steps, places)
        for double in (False, True)
    )
    assert two == pytest.approx(one, rel=1e-6)


def test_a_collector_beyond_the_band_limit_is_refused() -> None:
    """It would see angles that were never computed."""
    grid = Grid.for_wave((8.0, 8.0), 2.0, 1.5)
    potential = CollectedDensity(atomic_shell(8, "K"), KV, 50.0, 30.0).potential
    with pytest.raises(ValueError, match="collection_mrad"):
        ChannelledLoss(grid, potential, 60.0)


def test_the_share_left_in_a_window_obeys_its_limits() -> None:
    """Thin: all of it. A window below one loss: only electrons without another loss."""
    arguments = (atomic_shell(8, "K"), KV, 60.0, 30.0)
    assert share_left_in_window(*arguments, 0.0, 20.0) == pytest.approx(1.0)
    assert share_left_in_window(*arguments, 0.7, 60.0) == pytest.approx(np.exp(-0.7))
    shares = [share_left_in_window(*arguments, t, 20.0) for t in (0.2, 0.5, 1.0)]
    assert 1 > shares[0] > shares[1] > shares[2] > np.exp(-1.0)
