"""A convergent probe: the beams inside its aperture, with their phases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.electrons.aberrations import chi
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.grid import Grid

Floats = npt.NDArray[np.float64]
Complexes = npt.NDArray[np.complex128]


@dataclass(frozen=True)
class Probe:
    """A focused electron wave.

    Attributes
    ----------
    energy_kev : float
    semiangle_mrad : float
        Radius of the aperture. Its edge is softened over one period of the cell's frequencies,
        each beam with the share of it that lies inside, so that the probe does not jump when
        the cell or the semiangle changes a little.
    coefficients : mapping
        Aberrations, see `aberrations` (C in Å, phi in rad).
    tilt_mrad : (x, y)
        Where the centre of the aperture lies.
    """

    energy_kev: float
    semiangle_mrad: float
    coefficients: Mapping[str, float]
    tilt_mrad: tuple[float, float] = (0.0, 0.0)

    def defocused(self, defocus_A: float) -> Probe:
        """Return the probe with its defocus C10 changed by this."""
        changed = {**self.coefficients, "C10": self.coefficients.get("C10", 0.0) + defocus_A}
        return replace(self, coefficients=changed)

    def amplitudes(self, kx: npt.ArrayLike, ky: npt.ArrayLike, spacing: Floats) -> Complexes:
        """Return amplitudes of beams, aberrations included, not normalised.

        Parameters
        ----------
        kx, ky : array_like
            Frequencies, 1/Å; they broadcast.
        spacing : (2, 2)
            The two periods of the lattice of frequencies as rows (x, y), 1/Å.
        """
        lam = float(wavelength(self.energy_kev))
        x = np.asarray(kx) - 1e-3 * self.tilt_mrad[0] / lam
        y = np.asarray(ky) - 1e-3 * self.tilt_mrad[1] / lam
        k = np.hypot(x, y)
        # Extent of one cell of the lattice along the radius
        safe = np.maximum(k, 1e-12)
        width = np.hypot(*(x * period[0] + y * period[1] for period in spacing)) / safe
        edge = 1e-3 * self.semiangle_mrad / lam
        share = np.clip((edge - k) / np.maximum(width, 1e-12) + 0.5, 0.0, 1.0)
        return np.asarray(share * np.exp(-1j * chi(self.coefficients, x, y, self.energy_kev)))


@dataclass(frozen=True, eq=False)
class Beams:
    """The plane waves of a cell's lattice of frequencies that a probe may be made of.

    Attributes
    ----------
    harmonics : (n, 2) int
        Indices (l, h) along y and x.
    kx, ky : (n,)
        Frequencies, 1/Å.
    spacing : (2, 2)
        Periods of the lattice of frequencies as rows (x, y), 1/Å: of h, of l.
    """

    harmonics: npt.NDArray[np.int64]
    kx: Floats
    ky: Floats
    spacing: Floats

    @classmethod
    def inside(cls, grid: Grid, probe: Probe) -> Beams:
        """Return the beams of a grid's cell inside the aperture of a probe.

        Raises
        ------
        ValueError
            The aperture reaches beyond the band limit of the grid.
        """
        ky, kx = grid.wave_frequencies
        place = np.argwhere(np.abs(probe.amplitudes(kx, ky, lattice(grid))) > 0)
        if not grid.wave_mask[tuple(place.T)].all():
            raise ValueError(
                f"the aperture of {probe.semiangle_mrad:g} mrad reaches beyond the band limit of "
                f"{1e3 * grid.k_max * float(wavelength(probe.energy_kev)):.4g} mrad"
            )
        half = np.array(grid.wave_shape) // 2
        harmonics = np.where(place > half, place - grid.wave_shape, place)
        every_ky, every_kx = np.broadcast_arrays(ky, kx)
        at = tuple(place.T)
        return cls(harmonics, every_kx[at], every_ky[at], lattice(grid))

    def __len__(self) -> int:
        return len(self.kx)

    def amplitudes(self, probe: Probe) -> Complexes:
        """Return the amplitudes (n,) of a probe at the origin, of intensity 1 in all."""
        amplitude = probe.amplitudes(self.kx, self.ky, self.spacing)
        norm = np.sqrt(np.sum(np.abs(amplitude) ** 2))
        if not norm > 0:
            raise ValueError("no beam lies inside the probe's aperture; the cell is too small")
        return np.asarray(amplitude / norm)

    def at(self, amplitudes: Complexes, x_A: float, y_A: float) -> Complexes:
        """Return the amplitudes of the probe moved to a position."""
        return np.asarray(amplitudes * np.exp(-2j * np.pi * (self.kx * x_A + self.ky * y_A)))

    def wave(self, amplitudes: Complexes, grid: Grid) -> npt.NDArray[Any]:
        """Return the Fourier coefficients of a wave on a grid, of its `wave_shape`."""
        wave = np.zeros(grid.wave_shape, complex)
        wave[tuple(self.harmonics.T)] = amplitudes  # negative harmonics count from the end
        return wave


def lattice(grid: Grid) -> Floats:
    """Return the periods of a grid's lattice of frequencies as rows (x, y): of h, of l; 1/Å."""
    ly, lx = grid.extent_A
    return np.array([[1 / lx, -grid.shear_A / (lx * ly)], [0.0, 1 / ly]])
