"""Random rough surfaces: roughness, correlation, spectrum and distribution that were asked for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import gamma, kv

from nanophantom.samples.building.surfaces import Tile
from nanophantom.samples.rough_surface import (
    RoughSurface,
    rough_tile,
    tile_correlation_length_nm,
)
from nanophantom.simcore.atoms import Window
from nanophantom.simcore.runs import Run


def autocorrelation(form: str, hurst: float, r: np.ndarray) -> np.ndarray:
    """Return closed forms at r in units of the length in the spectrum."""
    if form == "gaussian":
        return np.exp(-(r**2))
    # of (1 + q^2)^(-1-H): Matern's, exp(-r) for H = 1/2
    return 2 ** (1 - hurst) / gamma(hurst) * r**hurst * kv(hurst, r)


@pytest.mark.parametrize(
    ("form", "hurst"), [("gaussian", 0.0), ("exponential", 0.5), ("self-affine", 0.8)]
)
def test_rough_tiles_have_the_roughness_and_correlation_asked_for(form: str, hurst: float) -> None:
    """Mean square, correlation length and autocorrelation, averaged over tiles.

    All within four standard errors; these come from the spread of the tiles and are 1 to 3 %. For
    the spectra with tails the waves left out, shorter than T/8, take 1.5 % of the variance or so,
    which is given to the others: allowed for by 0.02 in the autocorrelation.
    """
    n, T = 20, 10.0
    tiles = [
        rough_tile(3.0, T, 200.0, np.random.default_rng(seed), form, hurst or None)
        for seed in range(n)
    ]
    square = np.array([(tile.heights_nm**2).mean() for tile in tiles])
    assert abs(square.mean() - 9) < 4 * square.std() / n**0.5
    assert square.std() / n**0.5 < 0.03 * 9
    length = np.array([tile_correlation_length_nm(tile) for tile in tiles])
    assert abs(length.mean() - T) < 4 * length.std() / n**0.5
    assert length.std() / n**0.5 < 0.03 * T
    # where the closed form falls to 1/e, in units of its own length
    unit = np.linspace(0.3, 3, 2000)
    one_over_e = np.interp(-np.exp(-1), -autocorrelation(form, hurst, unit), unit)
    x, y = np.arange(0, 200, 1.5), np.arange(0, 200, 3.0)
    for lag in (3.0, 6.0, 15.0):
        product = (
            np.array([(t.heights(x, y) * t.heights(x + lag, y)).mean() for t in tiles])
            / square.mean()
        )
        expected = autocorrelation(form, hurst, np.array(lag / T * one_over_e))
        tails = 0.0 if form == "gaussian" else 0.02
        assert abs(product.mean() - expected) < 4 * product.std() / n**0.5 + tails


@pytest.mark.parametrize(
    ("form", "hurst"), [("exponential", None), ("self-affine", 0.3), ("self-affine", 0.8)]
)
def test_short_waves_fall_off_by_the_hurst_exponent(form: str, hurst: float | None) -> None:
    """From k = 2/T to 6/T the density falls as k^(-2-2H).

    The narrower band holds 2000 modes, which is 0.02 in the exponent; the 1 beside (2 pi k xi)^2
    moves it by 0.02 at most.
    """
    T = 10.0
    tile = rough_tile(1.0, T, 400.0, np.random.default_rng(7), form, hurst)
    n = len(tile.heights_nm)
    density = np.abs(np.fft.fft2(tile.heights_nm)) ** 2
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(n), np.fft.fftfreq(n))) / tile.step_nm
    low, high = ((k > 0.95 * at / T) & (k < 1.05 * at / T) for at in (2.0, 6.0))
    assert low.sum() / 2 > 2000  # a real field: half of the modes are independent
    slope = np.log(density[high].mean() / density[low].mean()) / np.log(3)
    assert slope == pytest.approx(-2 - 2 * (0.5 if hurst is None else hurst), abs=4 * 0.02 + 0.02)
    assert density[k > 8.001 / T].max() < 1e-12 * density.max()


def test_the_truth_of_a_rough_surface_tells_of_the_tile_drawn() -> None:
    specimen = RoughSurface(sq_nm=3, correlation_length_nm=10, period_nm=200).make(Run(4))
    (told,) = specimen.truth().values()
    surface = specimen.surface_within(Window(31, 231, -400, -200), (200, 200))
    assert told["sq_nm"][0] == 3
    assert told["sq_of_tile_nm"][0] == pytest.approx(surface.heights_nm.std(), rel=1e-4)
    assert told["sq_of_tile_nm"][0] != pytest.approx(3, rel=1e-4)
    assert told["correlation_length_of_tile_nm"][0] == pytest.approx(10, rel=0.2)


def test_rough_heights_are_gaussian() -> None:
    """Skewness 0 and kurtosis 3 over a tile of 1600 correlation areas, within 4 standard errors."""
    z = rough_tile(1.0, 10.0, 400.0, np.random.default_rng(5)).heights_nm
    assert abs((z**3).mean() / z.std() ** 3) < 4 * np.sqrt(6 / 1600)
    assert abs((z**4).mean() / z.std() ** 4 - 3) < 4 * np.sqrt(24 / 1600)
    assert z.mean() == pytest.approx(0, abs=1e-12)


def test_a_tile_goes_through_its_samples_and_follows_waves_between_them() -> None:
    """A sine of eight samples a wave is met to (2 pi / 8)^4 / 384 or better, everywhere."""
    n, period = 64, 100.0
    k = 2 * np.pi * 8 / period
    at = np.arange(n) * period / n
    tile = Tile(np.sin(k * at)[None, :] * np.cos(k * at)[:, None], period)
    np.testing.assert_allclose(tile.heights(at, at - period), tile.heights_nm, atol=1e-12)
    x, y = np.linspace(-130, 260, 777), np.linspace(-300, 90, 555)
    wanted = np.sin(k * x)[None, :] * np.cos(k * y)[:, None]
    assert np.abs(tile.heights(x, y) - wanted).max() < 2 * (2 * np.pi / 8) ** 4 / 384
