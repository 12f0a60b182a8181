"""Geometric phase analysis against strains that are known in closed form.

All images are drawn as I(x') = lattice(x' - u(x')) with u given at the image's own points x', so
the truth is exact at any strain: F**-1 = 1 - du/dx'.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from nanophantom.analysis.geometric_phase import (
    GeometricPhase,
    find_reflections,
    geometric_phase,
)
from nanophantom.analysis.lattice import Strain, strain_of

FloatArray = npt.NDArray[np.float64]
G = np.array([[0.117, 0.013], [-0.009, 0.104]])
"""Reflections (gx, gy) in cycles a pixel."""
BIAS = 5e-4


def lattice(x: FloatArray, y: FloatArray, g: FloatArray = G) -> FloatArray:
    """Return columns of atoms: two sets of fringes and their product, from 0 to 1."""
    first, second = (0.5 + 0.5 * np.cos(2 * np.pi * (k[0] * x + k[1] * y)) for k in g)
    return np.asarray(first * second)


def grid(size: int) -> tuple[FloatArray, FloatArray]:
    y, x = np.mgrid[:size, :size].astype(np.float64)
    return x, y


def truth(back: FloatArray, reference: tuple[slice, slice]) -> Strain:
    """Return the strain from du/dx' (2, 2, ny, nx), [i, j] = du_i/dx'_j, relative to a region's.

    The lattice of the region is itself the perfect one times F0, so that F = F_rel F0.
    """
    at_reference = np.eye(2) - np.mean(back[(..., *reference)], axis=(2, 3))
    inverse = np.eye(2) - np.moveaxis(back, (0, 1), (-2, -1))
    return strain_of(np.linalg.inv(inverse) @ at_reference)


def numeric_gradient(
    u: Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray]],
    x: FloatArray,
    y: FloatArray,
) -> FloatArray:
    h = 1e-4
    along_x = [(a - b) / (2 * h) for a, b in zip(u(x + h, y), u(x - h, y), strict=True)]
    along_y = [(a - b) / (2 * h) for a, b in zip(u(x, y + h), u(x, y - h), strict=True)]
    return np.array([[along_x[i], along_y[i]] for i in (0, 1)])


def worst(found: GeometricPhase, true: Strain, where: npt.NDArray[np.bool_]) -> float:
    assert np.sum(where) > 1000
    maps = found.exx, found.eyy, found.exy, found.rotation_rad
    return float(max(np.max(np.abs(m - t)[where]) for m, t in zip(maps, true, strict=True)))


def test_reflections_of_a_lattice_are_found_in_noise() -> None:
    """Both within a twentieth of a sample of the spectrum, at 2 counts a pixel."""
    x, y = grid(256)
    found = find_reflections(np.random.default_rng(1).poisson(8 * lattice(x, y)))
    for g in G:
        error = np.min(np.hypot(*(np.abs(found) - np.abs(g)).T))
        assert error < 0.05 / 256


@pytest.mark.parametrize(
    "gradient",
    [
        [[0.02, 0.0], [0.0, 0.0]],
        [[0.0, 0.0], [0.0, -0.03]],
        [[0.0, 0.03], [0.0, 0.0]],  # shear: exy and a rotation
        [[0.0, -0.02], [0.02, 0.0]],  # a rotation: +x towards +y
        [[0.04, 0.01], [-0.02, -0.05]],
    ],
)
def test_a_uniform_strain_is_exact(gradient: list[list[float]]) -> None:
    """Between the reference lattices of a crystal and of the same crystal under strain."""
    x, y = grid(300)
    b = np.array(gradient)
    plain = geometric_phase(lattice(x, y), G)
    image = lattice(x - b[0, 0] * x - b[0, 1] * y, y - b[1, 0] * x - b[1, 1] * y)
    strained = geometric_phase(image, G)
    change = strained.reflections_per_px.T @ np.linalg.inv(plain.reflections_per_px.T)
    found = strain_of(np.linalg.inv(change).T)
    expected = strain_of(np.linalg.inv(np.eye(2) - b))
    assert np.max(np.abs(np.array(found) - np.array(expected))) < 1e-5
    assert worst(strained, Strain(*np.zeros((4, 300, 300))), strained.valid) < BIAS / 5


def test_a_linear_gradient_of_strain_has_no_bias() -> None:
    """exx from 0 to 4 % across the image, and a bending that turns it by as much."""

    def u(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        return 5e-5 * x**2 + 1e-5 * x * y, 3e-5 * x * y - 2e-5 * y**2

    x, y = grid(400)
    ux, uy = u(x, y)
    found = geometric_phase(lattice(x - ux, y - uy), G, reference=(40, 60, 40, 60))
    back = numeric_gradient(u, x, y)
    exact = truth(back, np.s_[40:60, 40:60])
    assert np.ptp(exact.exx[found.valid]) > 0.025
    assert worst(found, exact, found.valid) < BIAS


def inclusion(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return u of a disc (radius 60 px) with 2 % misfit: e r inside, e R**2 / r outside."""
    r = np.maximum(np.hypot(x - 200, y - 200), 1e-9)
    radial = 0.02 * np.where(r < 60, r, 60**2 / r)
    return radial * (x - 200) / r, radial * (y - 200) / r


def test_a_misfit_inclusion_has_no_bias_off_its_interface() -> None:
    """Four resolutions from the jump, inside and outside."""
    x, y = grid(400)
    ux, uy = inclusion(x, y)
    found = geometric_phase(lattice(x - ux, y - uy), reference=(40, 90, 40, 360))
    true = truth(numeric_gradient(inclusion, x, y), np.s_[40:90, 40:360])
    r = np.hypot(x - 200, y - 200)
    off = np.abs(r - 60) > 4 * found.resolution_px
    assert np.mean(found.exx[r < 25]) == pytest.approx(np.mean(true.exx[r < 25]), abs=BIAS)
    assert np.mean(true.exx[r < 25]) > 0.018
    assert worst(found, true, found.valid & off) < BIAS


def edge_dislocation(
    x: FloatArray, y: FloatArray, b: float = 1 / 0.117, nu: float = 0.3
) -> tuple[FloatArray, FloatArray]:
    """Return u of an edge dislocation, Burgers vector (b, 0), in an isotropic body.

    J. P. Hirth and J. Lothe, Theory of Dislocations (1982), eq. 3-45.
    """
    x, y = x - 255.5, y - 255.5
    r2 = x**2 + y**2
    ux = b / (2 * np.pi) * (np.arctan2(y, x) + x * y / (2 * (1 - nu) * r2))
    uy = -b / (2 * np.pi) * ((1 - 2 * nu) / (4 * (1 - nu)) * np.log(r2)) - b / (2 * np.pi) * (
        x**2 - y**2
    ) / (4 * (1 - nu) * r2)
    return ux, uy


def test_the_field_of_a_dislocation_has_no_bias_away_from_its_core() -> None:
    """Hirth and Lothe's field; the average under the resolution costs (r0 / r)**2 of a strain."""
    g = np.array([[0.117, 0.0], [0.0, 0.104]])
    x, y = grid(512)
    ux, uy = edge_dislocation(x, y)
    found = geometric_phase(lattice(x - ux, y - uy, g), g)
    back = numeric_gradient(edge_dislocation, x, y)
    back[0, 1][np.abs(back[0, 1]) > 1] = 0  # the difference across the cut of arctan2
    inverse = np.eye(2) - np.moveaxis(back, (0, 1), (-2, -1))
    change = g.T @ np.linalg.inv(found.reflections_per_px.T)  # the mean of the image at rest
    rest = np.linalg.inv(change).T
    true = strain_of(np.linalg.inv(inverse) @ np.linalg.inv(rest))
    r = np.hypot(x - 255.5, y - 255.5)
    assert worst(found, true, found.valid & (r > 70)) < BIAS
    assert np.max(np.abs(true.exy[found.valid & (r > 70)])) > 0.01


def test_a_burgers_circuit_closes_but_for_the_burgers_vector() -> None:
    """The phase winds once around the core in one set of fringes and not at all in the other."""
    g = np.array([[0.117, 0.0], [0.0, 0.104]])
    x, y = grid(512)
    ux, uy = edge_dislocation(x, y)
    found = geometric_phase(lattice(x - ux, y - uy, g), g)
    around = np.linspace(0, 2 * np.pi, 721)
    rows = 256 + np.rint(80 * np.sin(around)).astype(int)
    columns = 256 + np.rint(80 * np.cos(around)).astype(int)
    phase = np.angle(found.fringes[:, rows, columns])
    turns = np.sum(np.angle(np.exp(1j * np.diff(phase, axis=1))), axis=1) / (2 * np.pi)
    # P = -2 pi g.u, and u gains (b, 0) with b = 1 / 0.117
    assert turns == pytest.approx([-1, 0], abs=1e-9)


def test_the_displacement_is_that_of_the_inclusion() -> None:
    x, y = grid(400)
    ux, uy = inclusion(x, y)
    found = geometric_phase(lattice(x - ux, y - uy), G, reference=(40, 360, 40, 360))
    u = found.displacement_px()
    assert np.all(np.isnan(u[0]) == ~found.valid)
    far = found.valid & (np.abs(np.hypot(x - 200, y - 200) - 60) > 30)
    for measured, true in zip(u, (ux, uy), strict=True):
        # up to what is uniform: the reference region's mean strain and rotation
        design = np.stack([x[far], y[far], np.ones(np.sum(far))], axis=1)
        rest = (measured - true)[far]
        rest = rest - design @ np.linalg.lstsq(design, rest, rcond=None)[0]
        assert np.max(np.abs(rest)) < 0.02


def chi_squared(found: GeometricPhase) -> FloatArray:
    """Return mean squares of exx, eyy, exy, rotation over their quoted sigma (truth: zero)."""
    maps = found.exx, found.eyy, found.exy, found.rotation_rad
    sigma = found.sigma_exx, found.sigma_eyy, found.sigma_exy, found.sigma_exy
    return np.array([np.mean((m / s)[found.valid] ** 2) for m, s in zip(maps, sigma, strict=True)])


NOISY = 1.7 * G
"""Finer fringes: more independent places in an image to take the statistics of."""


@pytest.mark.parametrize("variance_given", [True, False])
def test_white_noise_gives_the_quoted_uncertainty(variance_given: bool) -> None:
    """Mean square over sigma**2 is 1 within 5 %, for each component, over 14 images."""
    rng = np.random.default_rng(2)
    x, y = grid(256)
    clean = lattice(x, y, NOISY)
    found = [
        geometric_phase(
            clean + rng.normal(0, 0.3, clean.shape),
            NOISY,
            variance=0.09 if variance_given else None,
        )
        for _ in range(14)
    ]
    assert np.mean([chi_squared(f) for f in found], axis=0) == pytest.approx(np.ones(4), rel=0.05)


def test_counts_give_the_quoted_uncertainty() -> None:
    """Poisson noise is strong where the columns are: it isn't white, and sigma knows."""
    rng = np.random.default_rng(3)
    x, y = grid(256)
    expected = 0.2 + 6 * lattice(x, y, NOISY)
    chi = []
    for _ in range(14):
        counts = rng.poisson(expected)
        chi.append(chi_squared(geometric_phase(counts, NOISY, variance=counts)))
    assert np.mean(chi, axis=0) == pytest.approx(np.ones(4), rel=0.05)


def test_noise_falls_with_the_square_of_the_resolution() -> None:
    """sigma goes with 1/r**2; at 1.5 times the default it is 2.25 times less, and still right."""
    rng = np.random.default_rng(4)
    x, y = grid(256)
    image = lattice(x, y) + rng.normal(0, 0.3, (256, 256))
    fine = geometric_phase(image, G, 7.0)
    coarse = geometric_phase(image, G, 10.5)
    ratio = np.median(fine.sigma_exx) / np.median(coarse.sigma_exx)
    assert ratio == pytest.approx(2.25, rel=0.03)
    assert np.std(fine.exx[coarse.valid]) / np.std(coarse.exx[coarse.valid]) == pytest.approx(
        2.25, rel=0.25
    )


def test_vacuum_is_not_valid() -> None:
    """Half of the image holds no crystal: nothing of it is called valid beyond the edge."""
    rng = np.random.default_rng(5)
    x, y = grid(300)
    expected = np.where(x < 150, 1 + 10 * lattice(x, y), 1.0)
    found = geometric_phase(rng.poisson(expected))
    assert not np.any(found.valid[:, 170:])
    assert np.mean(found.valid[40:260, 40:125]) > 0.99


def test_what_cannot_be_measured_is_refused() -> None:
    x, y = grid(128)
    noise = np.random.default_rng(6).normal(size=(128, 128))
    with pytest.raises(ValueError, match="no fringes stand out"):
        geometric_phase(noise)
    with pytest.raises(ValueError, match="one direction only"):
        geometric_phase(np.cos(2 * np.pi * 0.1 * x))
    with pytest.raises(ValueError, match="collinear"):
        geometric_phase(lattice(x, y), [[0.1, 0.0], [0.2, 0.0]])
    with pytest.raises(ValueError, match="stand out nowhere"):
        geometric_phase(lattice(x, y), G, reference=(0, 10, 0, 10))
    with pytest.raises(ValueError, match="finite"):
        geometric_phase(np.full((32, 32), np.nan))
