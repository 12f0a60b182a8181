"""Cross-sections of columns: known volumes, conservation of the sum, honest uncertainties."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from nanophantom.analysis.scattering_cross_sections import (
    gaussian_cross_sections,
    voronoi_cross_sections,
)

FloatArray = npt.NDArray[np.float64]
PIXEL_NM = 0.01
WIDTH_PX = 5.0


def lattice(shape: tuple[int, int], spacing: float = 25.3, hexagonal: bool = False) -> FloatArray:
    """Return sites (y, x) in pixels that fill the image and lie in it."""
    j, i = np.mgrid[-60:60, -60:60]
    y = (np.sqrt(0.75) if hexagonal else 1.0) * spacing * j + 9.4
    x = spacing * (i + (0.5 * (j % 2) if hexagonal else 0)) + 7.7
    keep = (y > 0) & (y < shape[0] - 1) & (x > 0) & (x < shape[1] - 1)
    return np.stack([y[keep], x[keep]], axis=1)


def paint(shape: tuple[int, int], sites: FloatArray, volumes_A2: FloatArray) -> FloatArray:
    """Return the sum of Gaussians of these volumes, in fractions of the beam."""
    image = np.zeros(shape)
    rows, columns = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
    scale = 1 / (2 * np.pi * WIDTH_PX**2 * (PIXEL_NM * 10) ** 2)
    for (y, x), v in zip(sites, volumes_A2, strict=True):
        g = np.exp(-0.5 * ((rows - y) / WIDTH_PX) ** 2)
        image += scale * v * g * np.exp(-0.5 * ((columns - x) / WIDTH_PX) ** 2)
    return image


@pytest.mark.parametrize("hexagonal", [False, True])
def test_a_perfect_lattice_gives_each_cell_the_volume_of_a_column(hexagonal: bool) -> None:
    """What flows out of a cell flows in from the neighbours: exact for cells away from the border.

    Pixels cut by cell borders are shared in proportion: 0.2 % at 25 px between columns.
    """
    shape = (210, 240)
    j, i = np.mgrid[-4:14, -4:14]  # the lattice goes on beyond the image
    y = (np.sqrt(0.75) if hexagonal else 1.0) * 25.3 * j + 9.4
    x = 25.3 * (i + (0.5 * (j % 2) if hexagonal else 0)) + 7.7
    everywhere = np.c_[y.ravel(), x.ravel()]
    image = paint(shape, everywhere, np.full(len(everywhere), 0.8))
    sites = lattice(shape, hexagonal=hexagonal)
    result = voronoi_cross_sections(image, PIXEL_NM, sites[:, 1] * PIXEL_NM, sites[:, 0] * PIXEL_NM)
    inner = ~result["edge"]
    assert np.sum(inner) > 25
    np.testing.assert_allclose(result["cross_section_A2"][inner], 0.8, rtol=2e-3)
    cell = (2.53**2) * (np.sqrt(0.75) if hexagonal else 1.0)
    np.testing.assert_allclose(result["area_A2"][inner], cell, rtol=2e-3)
    assert not np.any(result["open"][inner])


def test_the_sum_over_the_cells_is_that_of_the_image() -> None:
    rng = np.random.default_rng(1)
    image = rng.random((60, 70))
    x, y = rng.uniform(0, 0.69, 15), rng.uniform(0, 0.59, 15)
    result = voronoi_cross_sections(image, PIXEL_NM, x, y, max_radius_nm=2.0)
    assert np.sum(result["cross_section_A2"]) == pytest.approx(np.sum(image) * 0.01, rel=1e-12)
    assert np.sum(result["area_A2"]) == pytest.approx(60 * 70 * 0.01, rel=1e-12)
    less = voronoi_cross_sections(image, PIXEL_NM, x, y, background=0.2, max_radius_nm=2.0)
    np.testing.assert_allclose(
        less["cross_section_A2"], result["cross_section_A2"] - 0.2 * result["area_A2"], atol=1e-12
    )


def test_cells_at_the_border_and_at_the_vacuum_are_flagged() -> None:
    shape = (300, 300)
    sites = lattice(shape)
    particle = sites[np.hypot(*(sites - 150).T) < 90]
    on_border = np.concatenate([particle, [[3.0, 150.0]]])
    image = paint(shape, on_border, np.ones(len(on_border)))
    result = voronoi_cross_sections(
        image, PIXEL_NM, on_border[:, 1] * PIXEL_NM, on_border[:, 0] * PIXEL_NM, max_radius_nm=0.19
    )
    neighbours = np.sum(
        np.hypot(*(particle[:, None] - particle[None]).transpose(2, 0, 1)) < 26, axis=1
    )
    np.testing.assert_array_equal(result["open"][:-1], neighbours < 5)
    assert result["open"][-1]
    filled = voronoi_cross_sections(image, PIXEL_NM, sites[:, 1] * PIXEL_NM, sites[:, 0] * PIXEL_NM)
    outermost = np.any((sites == sites.min(axis=0)) | (sites == sites.max(axis=0)), axis=1)
    np.testing.assert_array_equal(filled["edge"], outermost)


@pytest.mark.parametrize("known_dose", [True, False])
def test_stated_uncertainties_are_the_spread_by_counting_noise(known_dose: bool) -> None:
    """RMS pull over 8 noisy images, for both ways to integrate."""
    rng = np.random.default_rng(2)
    shape, electrons = (150, 160), 300.0
    sites = lattice(shape)
    volumes = rng.uniform(0.5, 1.5, len(sites))
    ideal = paint(shape, sites, volumes) + 0.01
    x, y = sites[:, 1] * PIXEL_NM, sites[:, 0] * PIXEL_NM
    truth = voronoi_cross_sections(ideal, PIXEL_NM, x, y, beam_electrons=electrons)
    voronoi, gaussian = [], []
    for _ in range(8):
        image = rng.poisson(ideal * electrons) / electrons
        dose = electrons if known_dose else None
        cells = voronoi_cross_sections(image, PIXEL_NM, x, y, beam_electrons=dose)
        error = cells["cross_section_A2"] - truth["cross_section_A2"]
        voronoi.append(error / cells["sigma_A2"])
        fits = gaussian_cross_sections(image, PIXEL_NM, x, y, beam_electrons=dose)
        gaussian.append((fits["cross_section_A2"] - volumes) / fits["sigma_A2"])
    for pulls in (voronoi, gaussian):
        rms = np.sqrt(np.mean(np.square(pulls)))
        assert rms == pytest.approx(1, abs=4 / np.sqrt(2 * np.size(pulls)) + 0.02)


def test_gaussians_separate_what_overlaps_and_see_the_background() -> None:
    """No noise: volumes within 1e-6, although neighbours differ by a factor of five."""
    shape = (120, 130)
    sites = lattice(shape, spacing=16.0)
    volumes = np.where(np.arange(len(sites)) % 2, 1.0, 0.2)
    image = paint(shape, sites, volumes) + 0.03
    fits = gaussian_cross_sections(
        image, PIXEL_NM, sites[:, 1] * PIXEL_NM, sites[:, 0] * PIXEL_NM, beam_electrons=100
    )
    np.testing.assert_allclose(fits["cross_section_A2"], volumes, rtol=1e-3)
    np.testing.assert_allclose(fits["background"], 0.03, rtol=1e-3)
    np.testing.assert_allclose(fits["width_nm"], WIDTH_PX * PIXEL_NM, rtol=1e-3)
    to_border = np.min(np.minimum(sites, np.array([119, 129]) - sites), axis=1)
    np.testing.assert_array_equal(fits["edge"], to_border < 2 * WIDTH_PX)


def test_wrong_input_is_refused() -> None:
    image = np.ones((20, 20))
    with pytest.raises(ValueError, match="1 columns lie outside"):
        voronoi_cross_sections(image, 0.01, [0.05, 0.5], [0.05, 0.05])
    with pytest.raises(ValueError, match="of one shape"):
        voronoi_cross_sections(image, 0.01, [], [])
    with pytest.raises(ValueError, match="coincide"):
        gaussian_cross_sections(image, 0.01, [0.05, 0.05], [0.05, 0.05])
    with pytest.raises(ValueError, match="beam_electrons must be"):
        voronoi_cross_sections(image, 0.01, [0.05], [0.05], beam_electrons=-1)
