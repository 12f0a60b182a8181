"""The electron wave obeys closed forms, conservation laws and published numbers."""

from __future__ import annotations

import numpy as np
import pytest

from nanophantom.simcore.electrons.constants import interaction_constant, wavelength
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.multislice import (
    ExitWave,
    Multislice,
    exit_wave,
    plane_wave,
    propagate,
)
from nanophantom.simcore.electrons.potential import PotentialBuilder
from nanophantom.simcore.electrons.slicing import slice_atoms

Array = np.ndarray


def _crystal(
    edge_A: float, basis: list[tuple[int, float, float, float]], cells: tuple[int, int, int]
) -> tuple[Array, Array]:
    """Stack cubic cells; basis: atomic number and fractional coordinates."""
    nx, ny, nz = cells
    origins = np.array([(i, j, k) for i in range(nx) for j in range(ny) for k in range(nz)])
    sites = np.array([b[1:] for b in basis])
    positions = edge_A * (origins[:, None, :] + sites[None, :, :]).reshape(-1, 3)
    return np.tile([b[0] for b in basis], len(origins)), positions


FCC = [(0.0, 0.0, 0.0), (0.5, 0.5, 0.0), (0.5, 0.0, 0.5), (0.0, 0.5, 0.5)]
GOLD = [(79, *site) for site in FCC]
STRONTIUM_TITANATE = [
    (38, 0.0, 0.0, 0.0),
    (22, 0.5, 0.5, 0.5),
    (8, 0.5, 0.5, 0.0),
    (8, 0.5, 0.0, 0.5),
    (8, 0.0, 0.5, 0.5),
]


def _thermal(positions: Array, rms_A: float = 0.08) -> Array:
    displaced = positions + np.random.default_rng(4).normal(0, rms_A, positions.shape)
    displaced[:, 2] -= displaced[:, 2].min()
    return displaced


def _scattered_error(wave: Array, reference: Array) -> float:
    """Relative L2 difference, in units of the scattered wave of the reference."""
    scattered = reference.copy()
    scattered[0, 0] = 0
    return float(np.linalg.norm(wave - reference) / np.linalg.norm(scattered))


# ---- free space --------------------------------------------------------------------------------


def test_gaussian_beam_spreads_as_the_closed_form_says() -> None:
    """Over 2000 Å a Gaussian of w0 = 3 Å follows w(z)^2 = w0^2 (1 + (z / z_R)^2) and its phase.

    B. E. A. Saleh and M. C. Teich, Fundamentals of Photonics, eq. 3.1-7.
    """
    energy, waist, z = 200.0, 3.0, 2000.0
    grid = Grid.for_wave((60.0, 60.0), k_max=1.5)
    ky, kx = grid.wave_frequencies
    k2 = kx**2 + ky**2
    # exp(-r^2 / w0^2) about (x, y) = (20, 30), as Fourier coefficients of the 60 Å cell
    centre = np.exp(-2j * np.pi * (20 * kx + 30 * ky))
    wave = np.pi * waist**2 / 60**2 * np.exp(-((np.pi * waist) ** 2) * k2) * centre
    far = propagate(wave, [(None, 500.0), (None, 1500.0)], grid, energy, dtype="complex128")
    my, mx = grid.wave_shape
    psi = np.fft.ifft2(far.wave_k, norm="forward")
    y, x = np.meshgrid(np.arange(my) * 60 / my, np.arange(mx) * 60 / mx, indexing="ij")
    r2 = (x - 20) ** 2 + (y - 30) ** 2
    rayleigh = np.pi * waist**2 / wavelength(energy)
    q = 1 + 1j * z / rayleigh
    expected = np.exp(-r2 / (waist**2 * q)) / q
    assert np.abs(psi - expected).max() < 1e-5
    assert far.n_slices == 0


def test_grating_images_itself_at_the_talbot_distance() -> None:
    """A grating of period a returns after 2 a^2 / lambda, shifted by a / 2 after half of it.

    Lord Rayleigh, Phil. Mag. 11, 196 (1881).
    """
    energy, period = 300.0, 5.0
    grid = Grid.for_wave((10.0, 20.0), k_max=2.0)
    wave = plane_wave(grid)
    wave[0, 4] = wave[0, -4] = 0.3  # 20 Å / 4 = 5 Å along x
    talbot = 2 * period**2 / wavelength(energy)
    returned = propagate(wave, [(None, talbot)], grid, energy, dtype="complex128")
    np.testing.assert_allclose(returned.wave_k, wave, atol=1e-12)
    halfway = propagate(wave, [(None, talbot / 2)], grid, energy, dtype="complex128")
    wave[0, 4] = wave[0, -4] = -0.3
    np.testing.assert_allclose(halfway.wave_k, wave, atol=1e-12)


def test_tilted_beam_walks_sideways_towards_its_tilt() -> None:
    """In the frame of the beam a wave moves by tilt times distance: 10 mrad x 300 Å = 3 Å in +x."""
    energy = 300.0
    grid = Grid.for_wave((40.0, 40.0), k_max=1.5)
    ky, kx = grid.wave_frequencies
    wave = np.exp(-((np.pi * 3.0) ** 2) * (kx**2 + ky**2)).astype(complex)
    straight = propagate(wave, [(None, 300.0)], grid, energy, dtype="complex128").wave_k
    tilted = propagate(wave, [(None, 300.0)], grid, energy, (10.0, -4.0), "complex128").wave_k
    shifted = straight * np.exp(-2j * np.pi * (3.0 * kx - 1.2 * ky))
    inside = grid.wave_mask
    np.testing.assert_allclose(tilted[inside], shifted[inside], atol=1e-12)


def test_going_back_returns_the_wave() -> None:
    """Negative distances and potentials in reverse order undo a specimen, but for what was lost."""
    numbers, positions = _crystal(3.905, STRONTIUM_TITANATE, (3, 3, 1))
    grid = Grid.for_wave((11.715, 11.715), k_max=5.0)
    potential = 0.2 * PotentialBuilder(grid, numbers, dtype="float64").project(
        numbers, positions[:, 0], positions[:, 1]
    )
    engine = Multislice(grid, 300.0, dtype="complex128")
    start = plane_wave(grid)
    there = engine.propagate(start, [(potential, 2.0), (potential, 3.0)])
    back = engine.propagate(there.wave_k, [(None, -3.0), (-potential, -2.0), (-potential, 0.0)])
    assert there.lost < 1e-5
    assert np.abs(there.wave_k - start).max() > 0.02
    assert np.abs(back.wave_k - start).max() < 2 * there.lost


# ---- one slice ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_transmission_has_modulus_one_and_the_right_phase(dtype: str) -> None:
    """exp(i sigma V) for phases up to 60 rad: error below 5e-7 (3e-6 where V itself rounds)."""
    grid = Grid((64, 64), (10.0, 10.0), k_max=0.15)  # the wave is the mean of t over the grid
    engine = Multislice(grid, 300.0, dtype=dtype)
    sigma = interaction_constant(300.0)
    for phase in (0.0, 1e-3, 0.5, 0.785, 1.0, 2.3, -0.4, -3.0, 7.0, 20.0, -60.0):
        potential = np.full(grid.shape, phase / sigma)
        out = engine.propagate(plane_wave(grid), [(potential, 0.0)]).wave_k[0, 0]
        rounded = 6e-8 * abs(phase) if dtype == "complex64" else 0.0
        assert abs(out - np.exp(1j * phase)) < 5e-7 + rounded
        assert abs(abs(out) - 1) < 3e-7


def test_weak_phase_object_scatters_in_proportion_to_its_potential() -> None:
    """psi_k = i sigma V_k to first order: the error falls with the square of V."""
    numbers, positions = np.array([6, 14]), np.array([[3.3, 4.1], [7.2, 5.9]])
    grid = Grid.for_wave((10.0, 12.0), k_max=3.0)
    builder = PotentialBuilder(grid, numbers, dtype="float64")
    potential = builder.project(numbers, positions[:, 0], positions[:, 1])
    coefficients = np.fft.fft2(potential, norm="forward")
    (oy, ox), (my, mx) = grid.order, grid.wave_shape
    errors = []
    for strength in (1e-2, 1e-3):
        steps = [(strength * potential, 0.0)]
        wave = propagate(plane_wave(grid), steps, grid, 200.0, dtype="complex128").wave_k
        rows, columns = np.arange(-oy, oy + 1), np.arange(-ox, ox + 1)
        born = np.zeros((my, mx), complex)
        born[np.ix_(rows, columns)] = coefficients[np.ix_(rows, columns)]
        born *= 1j * interaction_constant(200.0) * strength * grid.wave_mask
        born[0, 0] += 1
        errors.append(np.linalg.norm(wave - born))
    assert errors[1] < 2e-4 * np.linalg.norm(born[1:])
    assert errors[1] / errors[0] == pytest.approx(1e-2, rel=0.05)


@pytest.mark.parametrize(("dtype", "tolerance"), [("complex64", 1e-5), ("complex128", 1e-12)])
def test_intensity_is_conserved_over_150_slices(dtype: str, tolerance: float) -> None:
    """Kept plus lost, counted independently, is 1: gold, 300 Å, 42 % of the beam lost.

    What single precision leaves, 4e-8 a slice, is the rounding of FFTW's constants.
    """
    numbers, positions = _crystal(4.078, GOLD, (3, 4, 75))
    grid = Grid.for_wave((16.312, 12.234), k_max=3.0, oversampling=3)
    result = exit_wave(numbers, _thermal(positions), grid, 300.0, dtype=dtype)
    assert result.n_slices == 150
    assert result.lost > 0.1
    assert result.kept == pytest.approx(np.sum(np.abs(result.wave_k.astype(complex)) ** 2))
    assert abs(result.kept + result.lost - 1) < tolerance


@pytest.mark.parametrize("tilt_mrad", [(0.0, 0.0), (6.0, -9.0)])
@pytest.mark.parametrize(("dtype", "tolerance"), [("complex64", 5e-6), ("complex128", 1e-6)])
def test_agrees_with_the_textbook_on_the_whole_grid(
    tilt_mrad: tuple[float, float], dtype: str, tolerance: float
) -> None:
    """The blocked transforms give what fft2, a full-size t and a full-size propagator give."""
    numbers, positions = _crystal(3.905, STRONTIUM_TITANATE, (2, 3, 6))
    positions = _thermal(positions)
    grid = Grid.for_wave((11.715, 7.81), k_max=4.0)
    depth = positions[:, 2].max() + 1.5
    result = exit_wave(numbers, positions, grid, 200.0, 2.0, tilt_mrad, depth, dtype=dtype)

    builder = PotentialBuilder(grid, numbers, dtype="float64")
    lam, sigma = wavelength(200.0), interaction_constant(200.0)
    (ny, nx), (dy, dx) = grid.shape, grid.sampling_A
    ky, kx = np.fft.fftfreq(ny, dy)[:, None], np.fft.fftfreq(nx, dx)[None, :]
    disk = kx**2 + ky**2 <= grid.k_max**2
    k0x, k0y = 1e-3 * tilt_mrad[0] / lam, 1e-3 * tilt_mrad[1] / lam
    path = (kx + k0x) ** 2 + (ky + k0y) ** 2 - k0x**2 - k0y**2
    psi, lost = np.ones((ny, nx), complex), 0.0
    slices = slice_atoms(positions[:, 2], 2.0, numbers)
    ends = [s.z_A for s in slices[1:]] + [depth]
    for (plane, atoms), end in zip(slices, ends, strict=True):
        potential = builder.exact(numbers[atoms], positions[atoms, 0], positions[atoms, 1])
        spectrum = np.fft.fft2(psi * np.exp(1j * sigma * potential), norm="forward")
        lost += np.sum(np.abs(spectrum[~disk]) ** 2)
        spectrum = spectrum * disk * np.exp(-1j * np.pi * lam * (end - plane) * path)
        psi = np.fft.ifft2(spectrum, norm="forward")

    (oy, ox), (my, mx) = grid.order, grid.wave_shape
    rows, columns = np.arange(-oy, oy + 1), np.arange(-ox, ox + 1)
    expected = np.zeros((my, mx), complex)
    expected[np.ix_(rows, columns)] = spectrum[np.ix_(rows, columns)]
    assert _scattered_error(result.wave_k, expected) < tolerance
    assert result.lost == pytest.approx(lost, rel=1e-5)


# ---- dynamical diffraction ---------------------------------------------------------------------


def _bloch(potential_k: Array, grid: Grid, energy_kev: float, depths_A: list[float]) -> list[Array]:
    """Solve d psi_g / dz = i sum_h (-pi lambda g^2 delta_gh + sigma V_(g-h)) psi_h exactly.

    The Bloch wave method in the forward-scattering (high-energy) approximation for a potential
    that is constant along z: eigenvectors of the Hermitian structure matrix (L.-M. Peng,
    S. L. Dudarev and M. J. Whelan, High-Energy Electron Diffraction and Microscopy, chapter 5).
    """
    beams = np.argwhere(grid.wave_mask)
    g = np.where(beams > np.array(grid.wave_shape) // 2, beams - grid.wave_shape, beams)
    length = np.array(grid.extent_A)
    difference = g[:, None, :] - g[None, :, :]
    matrix = interaction_constant(energy_kev) * potential_k[difference[..., 0], difference[..., 1]]
    matrix -= np.diag(np.pi * wavelength(energy_kev) * np.sum((g / length) ** 2, axis=1))
    values, vectors = np.linalg.eigh(matrix)
    incident = vectors.conj().T @ (np.all(g == 0, axis=1)).astype(complex)
    waves = []
    for depth in depths_A:
        wave = np.zeros(grid.wave_shape, complex)
        wave[tuple(beams.T)] = vectors @ (np.exp(1j * values * depth) * incident)
        waves.append(wave)
    return waves


@pytest.mark.parametrize(
    ("edge_A", "basis", "direct_beam"),
    [(4.078, GOLD, (0.878, 0.805)), (3.905, STRONTIUM_TITANATE, (0.608, 0.419))],
    ids=["gold", "SrTiO3"],
)
def test_perfect_crystal_equals_bloch_waves(
    edge_A: float,
    basis: list[tuple[int, float, float, float]],
    direct_beam: tuple[float, float],
) -> None:
    """All 300 beam intensities of the projected crystal, 50 and 200 Å thick, to 1e-4.

    The multislice takes thin layers of the mean potential. Each layer loses to beyond k_max in
    proportion to its thickness squared, so the sum approaches the solution linearly: the limit is
    taken from layers of 0.1 and 0.05 Å (Richardson).
    """
    energy = 200.0
    grid = Grid.for_wave((edge_A, edge_A), k_max=2.5, oversampling=3)  # V up to 2 k_max
    numbers, positions = _crystal(edge_A, basis, (1, 1, 1))
    builder = PotentialBuilder(grid, numbers, dtype="float64")
    potential = builder.project(numbers, positions[:, 0], positions[:, 1]) / edge_A
    exact = _bloch(np.fft.fft2(potential, norm="forward"), grid, energy, [50.0, 200.0])
    engine = Multislice(grid, energy, dtype="complex128")

    def thick(wave: Array, depth_A: float, layer_A: float) -> Array:
        layers = [(layer_A * potential, layer_A)] * (round(depth_A / layer_A) - 1)
        ends = [(None, layer_A / 2)], [(layer_A * potential, layer_A / 2)]
        return engine.propagate(wave, [*ends[0], *layers, *ends[1]]).wave_k

    coarse = fine = plane_wave(grid)
    for more_A, reference, direct in zip((50.0, 150.0), exact, direct_beam, strict=True):
        coarse, fine = thick(coarse, more_A, 0.1), thick(fine, more_A, 0.05)
        limit = 2 * fine - coarse
        assert np.abs(np.abs(limit) ** 2 - np.abs(reference) ** 2).max() < 1e-4
        assert np.abs(limit - reference).max() < 1e-3
        assert abs(limit[0, 0]) ** 2 == pytest.approx(direct, abs=1e-3)


def test_two_beams_exchange_all_intensity_over_the_extinction_distance() -> None:
    """With V = 2 U cos(2 pi x / a) at the Bragg angle, I_g = sin^2(sigma U z): pendellösung.

    P. B. Hirsch et al., Electron Microscopy of Thin Crystals, eq. 8.33. Short periods make the
    other beams' excitation errors so large that they hardly take part.
    """
    energy, period, strength = 100.0, 1.0, 0.5  # keV, Å, V
    grid = Grid.for_wave((1.0, period), k_max=2.4, oversampling=3)
    x = np.arange(grid.shape[1]) * grid.sampling_A[1]
    per_A = np.broadcast_to(2 * strength * np.cos(2 * np.pi * x / period), grid.shape)
    bragg_mrad = 1e3 * wavelength(energy) / (2 * period)
    extinction_A = np.pi / (interaction_constant(energy) * strength)
    n = 4000
    layer = extinction_A / n
    engine = Multislice(grid, energy, tilt_mrad=(-bragg_mrad, 0.0), dtype="complex128")
    for fraction in (0.25, 0.5, 1.0):
        steps = [(layer * per_A, layer)] * int(n * fraction)
        wave = engine.propagate(plane_wave(grid), steps).wave_k
        expected = np.sin(0.5 * np.pi * fraction * 2) ** 2
        assert abs(wave[0, 1]) ** 2 == pytest.approx(expected, abs=2e-3)
        assert abs(wave[0, 0]) ** 2 == pytest.approx(1 - expected, abs=2e-3)


# ---- atoms -------------------------------------------------------------------------------------


def test_moving_a_specimen_by_a_fraction_of_a_pixel_moves_its_wave() -> None:
    """Shifting all atoms multiplies every coefficient by exp(-2 pi i k shift), to 1e-4."""
    numbers, positions = _crystal(3.905, STRONTIUM_TITANATE, (3, 3, 10))
    positions = _thermal(positions)
    grid = Grid.for_wave((11.715, 11.715), k_max=4.0)
    shift = np.array([0.37 * grid.sampling_A[1], 0.61 * grid.sampling_A[0], 0.0])
    engine = Multislice(grid, 300.0, numbers)
    here = engine.exit_wave(numbers, positions).wave_k
    there = engine.exit_wave(numbers, positions + shift).wave_k
    ky, kx = grid.wave_frequencies
    undone = there * np.exp(2j * np.pi * (ky * shift[1] + kx * shift[0]))
    assert _scattered_error(undone, here) < 1e-4


# ---- convergence -------------------------------------------------------------------------------


def _imaging_part(wave: ExitWave, grid: Grid) -> Array:
    ky, kx = grid.wave_frequencies
    return wave.wave_k * (np.hypot(ky, kx) < 1.2)


def test_error_falls_with_the_slice_thickness() -> None:
    """Amorphous carbon, 40 Å: the error of the imaging part is proportional to the thickness."""
    rng = np.random.default_rng(2)
    positions = rng.uniform(0, 1, (1600, 3)) * [20.0, 20.0, 40.0]
    numbers = np.full(1600, 6)
    grid = Grid.for_wave((20.0, 20.0), k_max=2.5)
    engine = Multislice(grid, 300.0, [6])
    limit = _imaging_part(engine.exit_wave(numbers, positions, 0.1, 40.0), grid)
    errors = [
        _scattered_error(_imaging_part(engine.exit_wave(numbers, positions, t, 40.0), grid), limit)
        for t in (4.0, 2.0, 1.0)
    ]
    assert errors[0] < 0.04
    assert errors[1] < 0.02
    assert errors[1] < 0.6 * errors[0]
    assert errors[2] < 0.6 * errors[1]


def test_error_falls_with_band_limit_and_oversampling() -> None:
    """SrTiO3, 40 Å, imaging part, against k_max = 10 1/Å: 1.3 %, 0.8 %, 0.5 % of the scattering.

    At k_max = 4 1/Å oversampling 3 halves the error of oversampling 2, for SrTiO3 and for gold.
    """

    def coefficients(basis: list[tuple[int, float, float, float]], k_max: float, os: int) -> Array:
        numbers, positions = _crystal(4.0, basis, (2, 2, 10))
        grid = Grid.for_wave((8.0, 8.0), k_max, os)
        wave = _imaging_part(exit_wave(numbers, _thermal(positions), grid, 300.0), grid)
        low = np.arange(-9, 10)
        return np.fft.ifftshift(wave[np.ix_(low, low)])

    limit = coefficients(STRONTIUM_TITANATE, 10.0, 3)
    errors = [
        _scattered_error(coefficients(STRONTIUM_TITANATE, k_max, 3), limit)
        for k_max in (2.5, 4.0, 6.0)
    ]
    assert errors[0] < 0.015
    assert errors[1] < 0.7 * errors[0]
    assert errors[2] < 0.7 * errors[1]
    for basis, worst in ((STRONTIUM_TITANATE, 0.02), (GOLD, 0.15)):
        limit = coefficients(basis, 10.0, 3)
        plain, finer = (_scattered_error(coefficients(basis, 4.0, os), limit) for os in (2, 3))
        assert plain < worst
        assert finer < 0.6 * plain


# ---- bookkeeping -------------------------------------------------------------------------------


def test_same_bytes_twice_and_vacuum_may_be_split() -> None:
    """A wave doesn't depend on what an engine did before, nor on how vacuum is cut up."""
    numbers, positions = _crystal(3.905, STRONTIUM_TITANATE, (3, 3, 3))
    grid = Grid.for_wave((11.715, 11.715), k_max=4.0)
    engine = Multislice(grid, 300.0, [8, 22, 38])
    first = engine.exit_wave(numbers, positions)
    engine.exit_wave(numbers, positions + 0.7)
    second = engine.exit_wave(numbers, positions)
    third = exit_wave(numbers, positions, grid, 300.0)
    assert first.wave_k.tobytes() == second.wave_k.tobytes() == third.wave_k.tobytes()
    assert first.lost == second.lost == third.lost

    potential = PotentialBuilder(grid, numbers).project(numbers, positions[:, 0], positions[:, 1])
    whole = engine.propagate(plane_wave(grid), [(potential, 10.0), (potential, 1.0)])
    parts = engine.propagate(
        plane_wave(grid),
        [(potential, 2.5), (None, 2.5), (None, 5.0), (potential, 0.25), (None, 0.75)],
    )
    assert parts.wave_k.tobytes() == whole.wave_k.tobytes()


def test_complex_transmission_equals_its_potential() -> None:
    """t = exp(i sigma V) handed over as a complex array gives the same wave."""
    grid = Grid.for_wave((10.0, 10.0), k_max=3.0)
    potential = PotentialBuilder(grid, [38]).project([38], [3.0], [4.0])
    t = np.exp(1j * interaction_constant(200.0) * potential.astype(float))
    from_v = propagate(plane_wave(grid), [(potential, 5.0)], grid, 200.0)
    from_t = propagate(plane_wave(grid), [(t, 5.0)], grid, 200.0)
    assert _scattered_error(from_t.wave_k, from_v.wave_k) < 2e-6


def test_wrong_requests_are_refused() -> None:
    grid = Grid.for_wave((10.0, 10.0), k_max=3.0)
    with pytest.raises(ValueError, match="positions_A has shape"):
        exit_wave([6], [[0.0, 0.0]], grid, 300.0)
    with pytest.raises(ValueError, match="depth_A is 1"):
        exit_wave([6], [[0.0, 0.0, 2.0]], grid, 300.0, depth_A=1.0)
    with pytest.raises(ValueError, match="not finite"):
        exit_wave([6], [[0.0, np.inf, 2.0]], grid, 300.0)
    with pytest.raises(ValueError, match="not finite"):
        exit_wave([6], [[0.0, 0.0, np.nan]], grid, 300.0)
    with pytest.raises(ValueError, match="wave_shape"):
        propagate(np.ones((3, 3), complex), [], grid, 300.0)
    with pytest.raises(ValueError, match="a slice has shape"):
        propagate(plane_wave(grid), [(np.zeros((3, 3)), 1.0)], grid, 300.0)
    with pytest.raises(ValueError, match="wave is not finite"):
        propagate(plane_wave(grid), [(np.full(grid.shape, np.nan), 1.0)], grid, 300.0)
    with pytest.raises(ValueError, match="thickness_A"):
        slice_atoms([1.0], 0.0)
