"""A randomly rough surface: Gaussian heights of a given roughness and correlation length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

import numpy as np
import scipy.fft
from pydantic import Field, model_validator
from scipy.optimize import brentq
from scipy.special import j0

from nanophantom.samples._family import Sample
from nanophantom.samples.building.surfaces import SurfaceSpecimen, Tile
from nanophantom.simcore.fields import Table
from nanophantom.simcore.runs import Run
from nanophantom.simcore.surfaces import Floats, Material

Autocorrelation = Literal["gaussian", "exponential", "self-affine"]
SHORTEST = {"gaussian": 0.5, "exponential": 0.125, "self-affine": 0.125}
"""Shortest wavelength over the correlation length, where none is asked for."""
_RADII = 4000  # points of k over which spectra are integrated


class RoughSurface(Sample):
    """A Gaussian random field of heights, without end.

    The autocorrelation of heights r apart is exp(-r^2/T^2) if gaussian and exp(-r/T) if
    exponential; a self-affine surface of Hurst exponent H has the spectral density
    (1 + (2 pi k xi)^2)^(-1-H), for H = 0.5 the exponential one: G. Palasantzas, Phys. Rev. B 48
    (1993) 14472. In all of them the autocorrelation falls to 1/e at the correlation length T, which
    holds with the shortest waves left out. Heights are drawn once in a tile that repeats itself
    without a seam; their mean over it is 0.
    """

    kind: Literal["rough-surface"] = "rough-surface"
    sq_nm: float = Field(default=2.0, gt=0, le=1000)
    """Root mean square height Sq that is expected; what the tile happens to have is in the
    truth."""
    correlation_length_nm: float = Field(default=20.0, gt=0, le=1e5)
    """Distance T at which the autocorrelation of heights has fallen to 1/e."""
    autocorrelation: Autocorrelation = "gaussian"
    """Its form: gaussian (smooth), exponential or self-affine (rough at all scales)."""
    hurst: float | None = Field(
        default=None, ge=0.1, le=1, json_schema_extra={"dimensionless": True}
    )
    """Hurst exponent of a self-affine surface, 0.8 unless told; the smaller the more jagged."""
    shortest_nm: float | None = Field(default=None, gt=0, le=1e5)
    """Shortest wavelength; without it an eighth of the correlation length, and for a gaussian
    surface, which has nothing so short, half of it."""
    period_nm: float = Field(default=2000.0, gt=0, le=1e6)
    """Edge of the tile, at least ten correlation lengths."""
    material: Material = Material()
    """What it is made of."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.hurst is not None and self.autocorrelation != "self-affine":
            raise ValueError(f"hurst: a {self.autocorrelation} surface has none; leave it out")
        least = 10 * self.correlation_length_nm
        if self.period_nm < least:
            raise ValueError(
                f"period_nm: {self.period_nm:g} nm is too little for a correlation length of "
                f"{self.correlation_length_nm:g} nm; at least {least:g} nm"
            )
        return self

    @classmethod
    def small(cls) -> Self:
        """Return a tile of 200 nm."""
        return cls(period_nm=200.0)

    def make(self, run: Run) -> RoughSpecimen:
        """Draw the tile from the stream "roughness"."""
        tile = rough_tile(
            self.sq_nm,
            self.correlation_length_nm,
            self.period_nm,
            run.rng("roughness"),
            self.autocorrelation,
            self.hurst,
            self.shortest_nm,
        )
        return RoughSpecimen(self, tile)


class RoughSpecimen(SurfaceSpecimen):
    """A rough tile that repeats itself."""

    def __init__(self, recipe: RoughSurface, tile: Tile) -> None:
        note = f"The roughness repeats itself every {recipe.period_nm:g} nm."
        super().__init__(recipe.material, (note,))
        self.recipe, self.tile = recipe, tile

    def heights(self, x_nm: Floats, y_nm: Floats) -> Floats:
        """Return heights in nm where columns x, shape (nx,), meet rows y, shape (ny,)."""
        return self.tile.heights(x_nm, y_nm)

    def truth(self) -> Mapping[str, Table]:
        """Return Sq and correlation length: those asked for and those of the tile drawn."""
        values = {
            "sq_nm": self.recipe.sq_nm,
            "sq_of_tile_nm": float(self.tile.heights_nm.std()),
            "correlation_length_nm": self.recipe.correlation_length_nm,
            "correlation_length_of_tile_nm": tile_correlation_length_nm(self.tile),
            "period_nm": self.recipe.period_nm,
        }
        return {"roughness": {name: np.array([value]) for name, value in values.items()}}


def rough_tile(
    sq_nm: float,
    correlation_length_nm: float,
    period_nm: float,
    rng: np.random.Generator,
    autocorrelation: Autocorrelation = "gaussian",
    hurst: float | None = None,
    shortest_nm: float | None = None,
) -> Tile:
    """Draw a rough tile; the parameters are the knobs of `RoughSurface`.

    Raises
    ------
    ValueError
        The waves left in can't have so short a correlation length, or the tile is too large.
    """
    if shortest_nm is None:
        shortest_nm = SHORTEST[autocorrelation] * correlation_length_nm
    if hurst is None:
        hurst = 0.5 if autocorrelation == "exponential" else 0.8

    def power(k: Floats, length: float) -> Floats:
        q = (2 * np.pi * length * k) ** 2
        gaussian = autocorrelation == "gaussian"
        return np.asarray(np.exp(-q / 4) if gaussian else (1 + q) ** (-1 - hurst))

    # the length in the spectrum with which what is left of it falls to 1/e at T
    k = np.linspace(0, 1 / shortest_nm, _RADII)

    def excess(length: float) -> float:
        density = power(k, length) * k
        left = (density * j0(2 * np.pi * k * correlation_length_nm)).sum() / density.sum()
        return float(left - np.exp(-1))

    low, high = 0.05 * correlation_length_nm, 20 * correlation_length_nm
    if not excess(low) < 0 < excess(high):
        raise ValueError(
            f"shortest_nm: waves of {shortest_nm:g} nm and longer can't have a correlation length "
            f"of {correlation_length_nm:g} nm; allow shorter ones"
        )
    length = float(brentq(excess, low, high, rtol=1e-9))
    return Tile.gaussian(lambda k: power(k, length), sq_nm, period_nm, shortest_nm, rng)


def tile_correlation_length_nm(tile: Tile) -> float:
    """Return the distance at which a tile's autocorrelation, over all directions, is 1/e."""
    n = len(tile.heights_nm)
    spectrum = scipy.fft.rfft2(tile.heights_nm - tile.heights_nm.mean(), workers=1)
    acf = scipy.fft.irfft2(np.abs(spectrum) ** 2, s=(n, n), workers=1)
    lag = np.minimum(np.arange(n), n - np.arange(n))
    r = np.hypot(lag[:, None], lag)
    ring = np.rint(r).astype(np.int64).ravel()
    count = np.bincount(ring)
    mean_r = np.bincount(ring, r.ravel()) / count
    mean_acf = np.bincount(ring, acf.ravel()) / count / acf[0, 0]
    below = int(np.argmax(mean_acf < np.exp(-1)))
    return tile.step_nm * float(
        np.interp(-np.exp(-1), -mean_acf[below - 1 : below + 1], mean_r[below - 1 : below + 1])
    )
