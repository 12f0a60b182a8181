"""Multislice: an electron wave through a specimen, slice by slice.

In every slice the wave is multiplied with the transmission function t = exp(i sigma V) of the
projected potential and then propagated over free space (J. M. Cowley and A. F. Moodie, Acta Cryst.
10, 609 (1957); E. J. Kirkland, Advanced Computing in Electron Microscopy, chapter 6).

Here the wave *is* its Fourier coefficients on the disk |k| <= k_max. For a slice it is evaluated
on the samples of the grid, multiplied with t there, transformed back and cut to the disk. With the
Nyquist frequency of the grid at 2 k_max or more, the product is free of aliasing inside the disk,
so t is used as it is: of modulus 1 exactly, not band-limited. What the cut removes is intensity
scattered beyond k_max; it is summed where it is cut, so that ``kept + lost = 1`` checks the whole
calculation and ``lost`` says how much of the beam the chosen k_max can't follow.

A slice costs less than two two-dimensional FFTs of the grid: see `wave_kernels` for the half
transformed array between the two loops (`_transmit_rows`, `_columns`) below.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.electrons import wave_kernels as kernels
from nanophantom.simcore.electrons.constants import interaction_constant, wavelength
from nanophantom.simcore.electrons.grid import Grid, frequencies
from nanophantom.simcore.electrons.gridding import PADDING, block_size, blocks
from nanophantom.simcore.electrons.potential import PotentialBuilder
from nanophantom.simcore.electrons.scattering import ScatteringTable
from nanophantom.simcore.electrons.slicing import SLICE_THICKNESS_A, Slice, slice_atoms
from nanophantom.simcore.fft import Transform

Step = tuple[npt.NDArray[Any] | None, float]  # transmission of a slice, distance to the next one
Maps = npt.NDArray[Any] | None  # (channels, ny, nx): what to weigh |psi(r)|^2 of a slice with


@dataclass(frozen=True)
class ExitWave:
    """Wave behind the specimen.

    Attributes
    ----------
    wave_k : (my, mx) complex
        Fourier coefficients in numpy's FFT order, an array just large enough for the disk
        |k| <= k_max: psi(r) = sum_k wave_k exp(2 pi i k r). A plane wave of intensity 1 is
        ``wave_k[0, 0] = 1``. With a tilted beam k counts from the direction of the beam.
    extent_A : (Ly, Lx)
        Edges of the periodic cell, Å; coefficient [i, j] belongs to ky = i / Ly, kx = j / Lx.
    energy_kev : float
    kept : float
        Summed |wave_k|^2.
    lost : float
        Intensity scattered beyond k_max, summed over all slices. ``kept + lost`` is the incident
        intensity, in single precision to 1e-7 a slice (rounding of the transforms).
    n_slices : int
        Number of slices with atoms.
    watched : (n_slices, channels) float64, or None
        Mean over the cell of |psi(r)|^2 times each map that was watched, slice by slice.
    """

    wave_k: npt.NDArray[Any]
    extent_A: tuple[float, float]
    energy_kev: float
    kept: float
    lost: float
    n_slices: int
    watched: npt.NDArray[np.float64] | None = None


class Multislice:
    """Multislice calculations on one grid.

    Holds transforms, filters and working arrays (25 bytes per sample of the grid), so that a
    second wave costs no preparation.

    Parameters
    ----------
    grid : Grid
    energy_kev : float
        Kinetic energy of the electrons, keV.
    numbers_present : iterable of int
        Atomic numbers that may occur in `exit_wave`; not needed for `propagate`.
    tilt_mrad : (x, y)
        Direction of the incident beam. The wave is described in the frame that moves with the
        beam: exp(2 pi i k0 r), k0 = tilt / wavelength, is left out of it.
    table : {"lobato", "kirkland"}
        Parametrization of the scattering factors.
    dtype : {"complex64", "complex128"}
        Precision.
    """

    def __init__(
        self,
        grid: Grid,
        energy_kev: float,
        numbers_present: Iterable[int] = (),
        tilt_mrad: tuple[float, float] = (0.0, 0.0),
        table: ScatteringTable = "lobato",
        dtype: npt.DTypeLike = "complex64",
    ) -> None:
        self.grid = grid
        self.energy_kev = float(energy_kev)
        self.dtype = np.dtype(dtype)
        self._real_type = np.empty(0, self.dtype).real.dtype
        self._wavelength_A = wavelength(self.energy_kev)
        self._sigma = interaction_constant(self.energy_kev)
        self._tilt_k0 = 1e-3 * np.asarray(tilt_mrad, np.float64) / self._wavelength_A

        self._last_distance_A = np.nan
        self._last_propagator: tuple[npt.NDArray[Any], ...] = ()

        numbers_present = tuple(numbers_present)
        self._potentials = (
            PotentialBuilder(grid, numbers_present, table, self._real_type)
            if numbers_present
            else None
        )
        (ny, nx), (my, mx) = grid.shape, grid.wave_shape
        self._rows = Transform((block_size(nx), nx), self.dtype, axes=(-1,))
        self._cols = Transform((block_size(ny), ny), self.dtype, axes=(-1,), padding=PADDING)
        self._half = np.zeros((ny, mx), self.dtype)
        # Harmonics along y inside the disk, for each kx.
        harmonics = np.fft.fftfreq(my, 1 / my).round().astype(np.int64)[:, None]
        self._lowest = np.where(grid.wave_mask, harmonics, my).min(axis=0)
        self._highest = np.where(grid.wave_mask, harmonics, -my).max(axis=0)

    def exit_wave(
        self,
        numbers: npt.ArrayLike,
        positions_A: npt.ArrayLike,
        slice_thickness_A: float = SLICE_THICKNESS_A,
        depth_A: float | None = None,
    ) -> ExitWave:
        """Send a plane wave through atoms; see the function `exit_wave`."""
        z = np.asarray(numbers, np.int64)
        xyz = np.asarray(positions_A, np.float64)
        if xyz.ndim != 2 or xyz.shape != (z.size, 3):
            raise ValueError(f"positions_A has shape {xyz.shape}; for {z.size} atoms ({z.size}, 3)")
        exit_A = float(xyz[:, 2].max(initial=0.0)) if depth_A is None else float(depth_A)
        if (xyz[:, 2] > exit_A).any():
            raise ValueError(f"depth_A is {exit_A}; the deepest atom lies at {xyz[:, 2].max()}")
        slices = slice_atoms(xyz[:, 2], slice_thickness_A, weights=z)
        return self.propagate(plane_wave(self.grid), self._steps(slices, z, xyz, exit_A))

    def _steps(
        self,
        slices: list[Slice],
        z: npt.NDArray[np.int64],
        xyz: npt.NDArray[np.float64],
        exit_A: float,
    ) -> Iterator[Step]:
        if slices and self._potentials is None:
            raise ValueError("numbers_present was empty; announce the elements of the atoms")
        ends = [s.z_A for s in slices[1:]] + [exit_A]
        for (plane, atoms), end in zip(slices, ends, strict=False):
            assert self._potentials is not None
            potential = self._potentials.project(z[atoms], xyz[atoms, 0], xyz[atoms, 1])
            yield potential, end - plane

    def propagate(
        self, wave_k: npt.NDArray[Any], steps: Iterable[Step], watch: Iterable[Maps] | None = None
    ) -> ExitWave:
        """Send a wave through given slices; see `propagate_all`."""
        return self.propagate_all([wave_k], steps, watch)[0]

    def propagate_all(
        self,
        waves_k: Sequence[npt.NDArray[Any]],
        steps: Iterable[Step],
        watch: Iterable[Maps] | None = None,
    ) -> list[ExitWave]:
        """Send several waves through given slices in one pass over them.

        Each slice is asked for once, serves all waves, and may then be forgotten: the way to go
        where the transmission functions of a specimen don't fit in memory. A wave under way takes
        the memory of a half transformed array, (ny, 2 order + 1).

        Parameters
        ----------
        waves_k, steps
            As for the function `propagate`.
        watch : iterable of (channels, ny, nx), optional
            Maps that weigh |psi(r)|^2 where the wave meets a slice, one stack for each step; it is
            asked for after the step, so both may be made together. None where there is nothing
            to watch. The means over the cell are the `ExitWave.watched`; they are exact if maps
            hold no frequency beyond 2 (Nyquist - k_max).
        """
        waves = [self._admitted(wave_k) for wave_k in waves_k]
        lost = [
            float(np.sum(np.abs(wave_k[~self.grid.wave_mask]) ** 2, dtype=np.float64))
            for wave_k in waves_k
        ]
        halves = [self._half, *(np.zeros_like(self._half) for _ in waves[1:])]
        seen: list[list[npt.NDArray[np.float64]]] = [[] for _ in waves]
        watched = (
            ((step, None) for step in steps) if watch is None else zip(steps, watch, strict=True)
        )
        n_slices = 0
        distance = 0.0  # to travel before the next transmission
        for (transmission, step_A), maps in watched:
            if transmission is None:
                distance += step_A
                continue
            self._check_slice(transmission)
            wanted = self.dtype if np.iscomplexobj(transmission) else self._real_type
            transmission = np.ascontiguousarray(transmission, wanted)
            if maps is not None:
                maps = self._checked_maps(maps)
            for i, (wave, half) in enumerate(zip(waves, halves, strict=True)):
                if n_slices == 0:
                    self._fresnel(wave, distance)
                    lost[i] += self._columns(half, None, enter=wave)
                else:
                    lost[i] += self._columns(half, distance)
                sums = np.zeros(0 if maps is None else len(maps))
                lost[i] += self._transmit_rows(half, transmission, maps, sums)
                seen[i].append(sums / float(self.grid.shape[0] * self.grid.shape[1]))
            distance = step_A
            n_slices += 1
        for i, (wave, half) in enumerate(zip(waves, halves, strict=True)):
            if n_slices:
                lost[i] += self._columns(half, distance, leave=wave)
            else:
                self._fresnel(wave, distance)
        return [
            self._exit_wave(wave, loss, n_slices, None if watch is None else _stacked(sums))
            for wave, loss, sums in zip(waves, lost, seen, strict=True)
        ]

    def _admitted(self, wave_k: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if wave_k.shape != self.grid.wave_shape:
            raise ValueError(
                f"wave_k has shape {wave_k.shape}; the grid's wave_shape is {self.grid.wave_shape}"
            )
        wave = wave_k.astype(self.dtype)
        wave[~self.grid.wave_mask] = 0
        return wave

    def _check_slice(self, transmission: npt.NDArray[Any]) -> None:
        if transmission.shape != self.grid.shape:
            raise ValueError(
                f"a slice has shape {transmission.shape}; the grid has {self.grid.shape}"
            )

    def _checked_maps(self, maps: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if maps.ndim != 3 or maps.shape[1:] != self.grid.shape:
            raise ValueError(
                f"maps to watch have shape {maps.shape}; they are (channels, *{self.grid.shape})"
            )
        return np.ascontiguousarray(maps, self._real_type)

    def _exit_wave(
        self,
        wave: npt.NDArray[Any],
        lost: float,
        n_slices: int,
        watched: npt.NDArray[np.float64] | None,
    ) -> ExitWave:
        kept = float(np.sum(np.abs(wave.astype(np.complex128)) ** 2))
        if not np.isfinite(kept + lost):
            raise ValueError("the wave is not finite; neither was the incident wave or a slice")
        return ExitWave(wave, self.grid.extent_A, self.energy_kev, kept, lost, n_slices, watched)

    def _transmit_rows(
        self,
        half: npt.NDArray[Any],
        transmission: npt.NDArray[Any],
        maps: Maps,
        sums: npt.NDArray[np.float64],
    ) -> float:
        """From psi(y, kx) through psi(y, x) t(y, x) back to psi(y, kx), some rows at a time.

        Where there are maps, what they weigh of |psi(y, x)|^2 is added to the sums.
        """
        rows = self._rows.data
        lost = 0.0
        for start, count in blocks(self.grid.shape[0], len(rows)):
            kernels.widen_rows(half, start, count, rows)
            self._rows.inverse()
            if maps is not None:
                kernels.weigh_rows(rows, start, count, maps, sums)
            kernels.transmit(rows, start, count, transmission, self._sigma)
            self._rows.forward()
            lost += kernels.narrow_rows(rows, start, count, half)
        ny, nx = self.grid.shape
        return lost / (float(nx) ** 2 * ny)

    def _columns(
        self,
        half: npt.NDArray[Any],
        distance_A: float | None,
        enter: npt.NDArray[Any] | None = None,
        leave: npt.NDArray[Any] | None = None,
    ) -> float:
        """From psi(y, kx) to psi(ky, kx), over a distance, and back, some columns at a time.

        The first time the wave enters as psi(ky, kx), the last time it leaves as such.
        """
        cols = self._cols.data
        n_points = float(self.grid.shape[0] * self.grid.shape[1])
        propagator = None if distance_A is None else self._propagator(distance_A)
        lost = 0.0
        for start, count in blocks(half.shape[1], len(cols)):
            if enter is not None:
                kernels.widen_columns(enter, start, count, cols, self.grid.shape[0])
            else:
                assert propagator is not None
                kernels.gather_columns(half, start, count, cols)
                self._cols.forward()
                lost += kernels.fresnel_columns(
                    cols, start, count, self._lowest, self._highest, *propagator
                )
            if leave is not None:
                kernels.narrow_columns(cols, self.grid.shape[0], start, count, leave)
            else:
                self._cols.inverse()
                kernels.scatter_columns(cols, start, count, half)
        return lost / n_points**2

    def _fresnel(self, wave: npt.NDArray[Any], distance_A: float) -> None:
        ky, kx = self.grid.wave_frequencies
        k0x, k0y = self._tilt_k0
        path = kx**2 + 2 * k0x * kx + ky**2 + 2 * k0y * ky
        wave *= np.exp(-1j * np.pi * self._wavelength_A * distance_A * path)

    def _propagator(self, distance_A: float) -> tuple[npt.NDArray[Any], ...]:
        """Fresnel propagator exp(-i pi lambda dz (|k + k0|^2 - |k0|^2)) as `fresnel_columns` wants.

        With ky = l / Ly - c, c = kx shear / Ly, the square of ky holds l^2, c^2 and -2 l c: two
        factors, one along each axis, and a phase that turns steadily with l.
        """
        if distance_A == self._last_distance_A:
            return self._last_propagator
        ny, nx = self.grid.shape
        ky = frequencies(ny, self.grid.extent_A[0])
        kx = self.grid.wave_frequencies[1][0]
        k0x, k0y = self._tilt_k0
        turn = -1j * np.pi * self._wavelength_A * distance_A
        slant = kx * self.grid.shear_A / self.grid.extent_A[0]
        along_y = np.exp(turn * (ky**2 + 2 * k0y * ky))
        along_x = np.exp(turn * (kx**2 + 2 * k0x * kx + slant**2 - 2 * k0y * slant))
        along_x /= float(ny * nx)
        twist = np.exp(-2 * turn * slant / self.grid.extent_A[0])
        self._last_distance_A = distance_A
        self._last_propagator = (
            along_y.astype(self.dtype),
            along_x.astype(self.dtype),
            twist if self.grid.shear_A else twist[:0],
        )
        return self._last_propagator


def exit_wave(
    numbers: npt.ArrayLike,
    positions_A: npt.ArrayLike,
    grid: Grid,
    energy_kev: float,
    slice_thickness_A: float = SLICE_THICKNESS_A,
    tilt_mrad: tuple[float, float] = (0.0, 0.0),
    depth_A: float | None = None,
    table: ScatteringTable = "lobato",
    dtype: npt.DTypeLike = "complex64",
) -> ExitWave:
    """Send a plane wave through atoms.

    Parameters
    ----------
    numbers : (n,) int
        Atomic numbers.
    positions_A : (n, 3) float
        Positions x, y, z in Å; the beam travels along +z. The cell repeats periodically in x and y.
    grid : Grid
    energy_kev : float
        Kinetic energy of the electrons, keV.
    slice_thickness_A : float
        Largest thickness of a slice, Å; see `slice_atoms`.
    tilt_mrad : (x, y)
        Direction of the incident beam, mrad.
    depth_A : float, optional
        Plane of the exit wave, Å; that of the deepest atom by default.
    table : {"lobato", "kirkland"}
        Parametrization of the scattering factors.
    dtype : {"complex64", "complex128"}
        Precision.

    Returns
    -------
    ExitWave

    Raises
    ------
    ValueError
        If shapes don't match, a position is not finite or an atom lies behind `depth_A`.
    """
    elements = np.unique(np.asarray(numbers, np.int64)).tolist()
    engine = Multislice(grid, energy_kev, elements, tilt_mrad, table, dtype)
    return engine.exit_wave(numbers, positions_A, slice_thickness_A, depth_A)


def propagate(
    wave_k: npt.NDArray[Any],
    steps: Iterable[Step],
    grid: Grid,
    energy_kev: float,
    tilt_mrad: tuple[float, float] = (0.0, 0.0),
    dtype: npt.DTypeLike = "complex64",
) -> ExitWave:
    """Send any wave through given slices.

    Parameters
    ----------
    wave_k : (my, mx) complex
        Fourier coefficients of the wave in front of the first slice, of the grid's `wave_shape`.
    steps : iterable of (transmission, distance_A)
        The transmission function of a slice and the distance from its plane to the next one. A
        complex array (ny, nx) is the transmission function, a real one the projected potential in
        V Å, and None is empty space: successive empty slices are one Fresnel step.
    grid, energy_kev, tilt_mrad, dtype
        As in `exit_wave`.

    Returns
    -------
    ExitWave

    Raises
    ------
    ValueError
        If a shape does not fit the grid.
    """
    return Multislice(grid, energy_kev, (), tilt_mrad, dtype=dtype).propagate(wave_k, steps)


def _stacked(sums: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """Return what was watched as (n_slices, channels); zero where nothing was."""
    channels = max((len(s) for s in sums), default=0)
    padded = [s if len(s) else np.zeros(channels) for s in sums]
    return np.array(padded, np.float64).reshape(len(sums), channels)


def plane_wave(grid: Grid) -> npt.NDArray[np.complex128]:
    """Coefficients (my, mx) of the plane wave psi = 1."""
    wave = np.zeros(grid.wave_shape, complex)
    wave[0, 0] = 1
    return wave
