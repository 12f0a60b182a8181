"""Gram matrices: the images that they give are those of multislice, for any probe they cover."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.multislice import Step
from nanophantom.simcore.electrons.potential import PotentialBuilder
from nanophantom.simcore.electrons.stem.detectors import (
    AnnularDetector,
    MomentDetector,
    SegmentedDetector,
    Weights,
)
from nanophantom.simcore.electrons.stem.fourier_image import FourierImage
from nanophantom.simcore.electrons.stem.gram import GramMatrices, gram
from nanophantom.simcore.electrons.stem.probe import Probe
from nanophantom.simcore.electrons.stem.s_matrix import gram_matrices
from nanophantom.simcore.electrons.stem.scan import Slices, scan
from nanophantom.simcore.electrons.transmission import Transmission

Array = npt.NDArray[Any]
ENERGY = 100.0
DETECTORS = (
    AnnularDetector(name="bf", outer_mrad=8.0),
    AnnularDetector(name="adf", inner_mrad=30.0, outer_mrad=90.0),
    SegmentedDetector(name="dpc", inner_mrad=5.0, outer_mrad=25.0, rotation_deg=20.0),
    MomentDetector(name="com", outer_mrad=90.0),
)


def _disordered(grid: Grid, seed: int = 4) -> Slices:
    """Six slices of random atoms, some heavy: nothing is periodic but the cell."""
    rng = np.random.default_rng(seed)
    numbers = np.array([79, 38, 22, 8, 8, 6, 6, 14])
    transmission = Transmission(grid, ENERGY, 2)
    builder = PotentialBuilder(transmission.potential_grid, numbers)
    steps: list[Step] = []
    for _ in range(6):
        u, v = rng.uniform(0, 1, (2, len(numbers)))
        x = u * grid.extent_A[1] + v * grid.shear_A
        steps.append((transmission(builder.project(numbers, x, v * grid.extent_A[0])), 3.0))
    return Slices(lambda: iter(steps), steps, 1)


def _weights(grid: Grid) -> Weights:
    ky, kx = grid.wave_frequencies
    return Weights.of(DETECTORS, kx, ky, ENERGY, grid.wave_mask)


@pytest.fixture(scope="module", params=[0.0, 4.0], ids=["rectangular", "oblique"])
def case(request: pytest.FixtureRequest) -> tuple[Grid, Slices, GramMatrices]:
    """A disordered specimen and its matrices for a probe of 20 mrad."""
    grid = Grid.for_wave((13.0, 11.0), 0.1 / 0.037, 1.5, shear_A=request.param)
    slices = _disordered(grid)
    return grid, slices, gram_matrices(Probe(ENERGY, 20.0, {}), slices, grid, _weights(grid))


@pytest.mark.parametrize(
    "probe",
    [
        Probe(ENERGY, 20.0, {}),
        Probe(ENERGY, 20.0, {"C10": -120.0, "C12": 30.0, "phi12": 0.7, "C21": 500.0, "C30": 3e5}),
        Probe(ENERGY, 12.0, {"C10": 60.0}),
        Probe(ENERGY, 9.0, {}, (6.0, -4.0)),
    ],
    ids=["ideal", "aberrated", "smaller", "off-axis"],
)
def test_images_equal_multislice_for_any_probe_within_the_aperture(
    case: tuple[Grid, Slices, GramMatrices], probe: Probe
) -> None:
    """All signals of all detectors at positions off any raster, to 1e-5 of the largest.

    First moments, which may vanish, are compared with intensity times rms angle.
    """
    grid, slices, matrices = case
    positions = np.random.default_rng(2).uniform(-5, 20, (5, 2))
    image = matrices.image(probe).at(positions).T
    exact = scan(probe, positions, slices, grid, _weights(grid)).values
    size = np.abs(exact).max(axis=0)
    total, xx, yy = (size[matrices.names.index(f"com-{n}")] for n in ("sum", "xx", "yy"))
    size[matrices.names.index("com-x")] = np.sqrt(total * xx)
    size[matrices.names.index("com-y")] = np.sqrt(total * yy)
    size[matrices.names.index("com-xy")] = np.sqrt(xx * yy)
    assert (np.abs(image - exact).max(axis=0) < 1e-5 * size).all()


def test_defocus_average_and_source_size_are_what_they_say(
    case: tuple[Grid, Slices, GramMatrices],
) -> None:
    """The mean over foci of single images; a convolution with the source, done by quadrature."""
    _, _, matrices = case
    foci, shares = np.array([-40.0, 0.0, 40.0]), np.array([0.25, 0.5, 0.25])
    position = np.array([[4.1, 3.3]])
    each = [matrices.image(Probe(ENERGY, 20.0, {"C10": f})).at(position) for f in foci]
    mean = matrices.defocus_average(foci, shares).at(position)
    assert mean == pytest.approx(np.tensordot(shares, each, 1), rel=1e-6)

    sigma = 0.4
    nodes, weights = np.polynomial.hermite_e.hermegauss(12)
    x, y = np.meshgrid(nodes, nodes)
    around = position + sigma * np.column_stack([x.ravel(), y.ravel()])
    share = np.outer(weights, weights).ravel() / (2 * np.pi)
    image = matrices.image()
    assert image.blurred(sigma).at(position)[:, 0] == pytest.approx(
        image.at(around) @ share, rel=1e-6, abs=1e-9
    )


def test_a_raster_of_any_size_gives_the_same_values_as_single_positions(
    case: tuple[Grid, Slices, GramMatrices],
) -> None:
    """on_raster against at."""
    _, _, matrices = case
    image = matrices.image()
    x, y = np.linspace(0, 9, 7), np.linspace(-3, 5, 5)
    every_x, every_y = np.meshgrid(x, y)
    flat = image.at(np.column_stack([every_x.ravel(), every_y.ravel()]))
    assert image.on_raster(x, y) == pytest.approx(flat.reshape(-1, 5, 7), rel=1e-9, abs=1e-12)


def test_a_probe_beyond_the_beams_is_refused(case: tuple[Grid, Slices, GramMatrices]) -> None:
    """One line says what the matrices are for."""
    _, _, matrices = case
    with pytest.raises(ValueError, match="within 20 mrad"):
        matrices.image(Probe(ENERGY, 25.0, {}))
    with pytest.raises(ValueError, match="100 keV"):
        matrices.image(Probe(200.0, 10.0, {}))


def test_gram_is_the_weighted_product_and_does_not_depend_on_threads() -> None:
    """Against numpy in double precision, for positive and signed weights; same bits."""
    rng = np.random.default_rng(1)
    waves = (rng.normal(size=(300, 900)) + 1j * rng.normal(size=(300, 900))).astype(np.complex64)
    weights = Weights(np.stack([rng.uniform(0, 1, 900), rng.normal(size=900)]), ("a", "b"))
    found = gram(waves, weights, threads=1)
    for matrix, w in zip(found, weights.values, strict=True):
        exact = (waves.astype(complex) * w) @ waves.conj().T
        assert np.abs(matrix - exact).max() < 1e-5 * np.abs(exact).max()
        assert np.array_equal(matrix, matrix.conj().T)
    assert np.array_equal(found, gram(waves, weights, threads=3))


def test_a_fourier_image_of_one_fringe_is_that_fringe() -> None:
    """A cosine with its frequency on an oblique lattice."""
    coefficients = np.zeros((1, 3, 5), complex)
    coefficients[0, 2, 3] = coefficients[0, 0, 1] = 0.5  # harmonics (1, 1) and (-1, -1)
    image = FourierImage(coefficients, ("s",), (6.0, 4.0), 1.5)
    kx, ky = 1 / 4.0, (1 - 1.5 / 4.0) / 6.0
    xy = np.array([[0.3, 0.9], [2.0, 5.0]])
    assert image.at(xy)[0] == pytest.approx(np.cos(2 * np.pi * (kx * xy[:, 0] + ky * xy[:, 1])))
    damped = np.exp(-2 * np.pi**2 * 0.2**2 * (kx**2 + ky**2))
    assert image.blurred(0.2).at(xy)[0] == pytest.approx(damped * image.at(xy)[0])
