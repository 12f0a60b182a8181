"""What a crystal scatters of a focused probe, averaged over all places where the probe may stand.

A probe at r is a sum of plane waves, psi_r = sum_b a_b exp(2 pi i q_b (x - r)). A specimen
turns each into a wave S_b(k); at k the intensity is |sum_b a_b exp(-2 pi i q_b r) S_b(k)|^2.
Averaged over
r (a whole period of the specimen) the phases of two different beams cancel:
    I(k) = sum_b |a_b|^2 |S_b(k)|^2.
Aberrations, defocus and the source are gone; what is left are plane waves from every direction in
the aperture, one after another, each on a small piece of crystal. Thermal motion is that of
frozen phonons: in a supercell of a few cells the atoms are displaced at random.

Source: LeBeau, Findlay, Allen and Stemmer, Ultramicroscopy 110 (2010) 118 (position averaging);
Loane, Xu and Silcox, Acta Cryst. A47 (1991) 267 (frozen phonons).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from nanophantom.analysis.known_crystal import KnownCrystal
from nanophantom.simcore import parallel
from nanophantom.simcore.electrons.batch import BatchMultislice, Disk
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.debye_waller import displace, rms_displacement
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.multislice import Step
from nanophantom.simcore.electrons.potential import PotentialBuilder
from nanophantom.simcore.electrons.slicing import SLICE_THICKNESS_A, slice_atoms
from nanophantom.simcore.electrons.transmission import (
    SCAN_OVERSAMPLING,
    Transmission,
    fineness_for,
)

FloatArray = npt.NDArray[np.float64]
Read = TypeVar("Read")

JUST_NM = 0.03
"""Heat moves the mean depth of a plane of atoms by less."""


@dataclass(frozen=True, eq=False)
class PlaneWaves:
    """Plane waves through a known crystal with thermal motion.

    Attributes
    ----------
    crystal : KnownCrystal
    energy_kev : float
    k_max : float
        Band limit, 1/Å.
    depths_nm : rising
        Where the waves are read.
    width_nm : float
        Edges of the supercell, at least. Displacements are independent inside it, and repeat
        beyond: diffuse scattering is sampled at steps of wavelength over width.
    configurations : int
        Draws of the displacements; directions take them in turn.
    slice_thickness_A : float
    oversampling : float
        Nyquist frequency of the grid over the band limit. From 2 on a slice may scatter by any
        angle that leaves a wave below the band limit; with less the widest are missing, which
        matters where the intensity that stays is to be right to a per cent.
    """

    crystal: KnownCrystal
    energy_kev: float
    k_max: float
    depths_nm: Sequence[float]
    width_nm: float = 1.2
    configurations: int = 8
    slice_thickness_A: float = SLICE_THICKNESS_A
    oversampling: float = SCAN_OVERSAMPLING

    def intensities(
        self,
        directions_mrad: FloatArray,
        rng: np.random.Generator,
        read: Callable[[Disk, FloatArray], Read],
    ) -> list[Read]:
        """Send a plane wave from every direction and read what comes out at every depth.

        Parameters
        ----------
        directions_mrad : (n, 2)
            Angles (x, y) of the incident waves.
        rng
            Draws the displacements.
        read
            Called with the frequencies and the intensities (depths, my, mx) of each wave, parts
            of the incident one; its results are returned in the order of the directions.
        """
        grid = self.grid
        lam = float(wavelength(self.energy_kev))
        stacks = [self._sections(grid, rng) for _ in range(self.configurations)]

        def send(engine: BatchMultislice, i: int) -> Read:
            q0 = directions_mrad[i] * 1e-3 / lam
            disk = Disk.around(grid, (float(q0[0]), float(q0[1])))
            wave = np.zeros((1, *disk.inside.shape), np.complex64)
            wave.reshape(-1)[disk.place(np.zeros((1, 2), np.int64))] = 1.0
            seen = np.empty((len(self.depths_nm), *disk.inside.shape))
            for depth, section in enumerate(stacks[i % self.configurations]):
                wave = engine.propagate(wave, section, disk)
                seen[depth] = np.abs(wave[0]) ** 2
            return read(disk, seen)

        return parallel.map_threads(
            send, range(len(directions_mrad)), lambda: BatchMultislice(grid, self.energy_kev, 1)
        )

    @property
    def repeats(self) -> tuple[int, int]:
        """Cells of the supercell along both periods."""
        sides = np.linalg.norm(self.crystal.periods_nm, axis=1)
        m, n = np.ceil(self.width_nm / sides - 1e-9).astype(int).tolist()
        return m, n

    @property
    def grid(self) -> Grid:
        """The grid of the supercell."""
        (m, n), periods_A = self.repeats, 10 * self.crystal.periods_nm
        shear = float(n * periods_A[1, 0])
        extent = float(n * periods_A[1, 1]), float(m * periods_A[0, 0])
        return Grid.for_wave(extent, self.k_max, self.oversampling, shear)

    def _sections(self, grid: Grid, rng: np.random.Generator) -> list[list[Step]]:
        """Draw one configuration; return its slices from each depth to the next."""
        (m, n), periods_A = self.repeats, 10 * self.crystal.periods_nm
        slab = self.crystal.slab(max(self.depths_nm))
        cells = np.stack(np.meshgrid(np.arange(m), np.arange(n)), axis=-1).reshape(-1, 2)
        shifts = np.column_stack([cells @ periods_A, np.zeros(len(cells))])
        rest = (10 * slab.positions_nm[:, None, :] + shifts).reshape(-1, 3)
        numbers, b = (np.repeat(a, len(cells)) for a in (slab.numbers, slab.b_factors_A2))
        moved = displace(rest, rms_displacement(b), rng)
        elements = np.unique(numbers).tolist()
        transmit = Transmission(grid, self.energy_kev, fineness_for(elements))
        builder = PotentialBuilder(transmit.potential_grid, elements)
        # Slices are those of the resting atoms; each acts where heat has moved its mean depth.
        slices = slice_atoms(rest[:, 2], self.slice_thickness_A, numbers)
        planes = [float(np.average(moved[own, 2], weights=numbers[own])) for _, own in slices]
        ends = [*planes[1:], planes[-1]]
        steps: list[Step] = [
            (transmit(builder.project(numbers[own], moved[own, 0], moved[own, 1])), end - plane)
            for (_, own), plane, end in zip(slices, planes, ends, strict=True)
        ]
        resting = np.array([plane for plane, _ in slices])
        cuts = np.searchsorted(resting, 10 * (np.asarray(self.depths_nm) - JUST_NM)).tolist()
        return [steps[a:b] for a, b in zip([0, *cuts[:-1]], cuts, strict=True)]


def evenly_over_aperture(semiangle_mrad: float, count: int) -> FloatArray:
    """Return directions (count, 2) that fill a round aperture evenly: Vogel's spiral.

    H. Vogel, Math. Biosci. 44 (1979) 179.
    """
    i = np.arange(count)
    radius = semiangle_mrad * np.sqrt((i + 0.5) / count)
    azimuth = i * np.pi * (3 - np.sqrt(5))
    return np.column_stack([radius * np.cos(azimuth), radius * np.sin(azimuth)])


def lattice_over_aperture(semiangle_mrad: float, step_mrad: float) -> FloatArray:
    """Return the directions (n, 2) of a square lattice inside a round aperture."""
    reach = int(np.ceil(semiangle_mrad / step_mrad))
    axis = (np.arange(-reach, reach) + 0.5) * step_mrad
    x, y = (a.ravel() for a in np.meshgrid(axis, axis))
    inside = np.hypot(x, y) <= semiangle_mrad
    return np.column_stack([x[inside], y[inside]])
