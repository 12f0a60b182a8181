"""Multislice of many waves at a time, on the processor or on a GPU.

The same calculation as `multislice` (a wave is its Fourier coefficients on a disk; transmission
function, cut, Fresnel propagator), written for a batch of waves in terms of `arrays.Backend`. On
the processor it is the faster one where grids are small, as the unit cell of a crystal, on a GPU
for every grid.

A wave here is psi(r) = exp(2 pi i q0 r) u(r) with u periodic over the cell of the grid: Bloch's
form. Its frequencies are k = q0 + G with the harmonics G of the cell, and the disk |k| <= k_max is
centred on k = 0 whatever q0 is. A transmission function multiplies u. Coefficients are counted from
the lowest harmonic in the disk: that multiplies u by a plane wave, which commutes with t.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.arrays import Backend, backend
from nanophantom.simcore.electrons.constants import interaction_constant, wavelength
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.multislice import ExitWave, Step

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_SLACK = 1 + 1e-9  # of the disk's radius, as in Grid.wave_mask
_PROPAGATORS_KEPT = 16


@dataclass(frozen=True, eq=False)
class Disk:
    """The frequencies k = q0 + G inside the band limit, as an array of coefficients.

    Attributes
    ----------
    low : (l, h)
        Harmonics along y and x of the first coefficient.
    kx, ky : (my, mx)
        Frequencies, q0 included, 1/Å. The shape is the same for every q0 of a grid.
    inside : (my, mx) bool
        Which lie in the disk.
    """

    low: tuple[int, int]
    kx: Floats
    ky: Floats
    inside: npt.NDArray[np.bool_]

    @classmethod
    def around(cls, grid: Grid, q0: tuple[float, float] = (0.0, 0.0)) -> Disk:
        """Return the disk of a grid for waves of one q0, (x, y) in 1/Å.

        Raises
        ------
        ValueError
            The disk does not fit on the grid.
        """
        (Ly, Lx), shear = grid.extent_A, grid.shear_A
        radius = [grid.k_max * _SLACK * edge for edge in grid.edges_A]  # in harmonics
        (my, mx) = shape = tuple(int(np.floor(2 * r)) + 1 for r in radius)
        if my > grid.shape[0] or mx > grid.shape[1]:
            raise ValueError(f"the grid is {grid.shape}; the disk needs {shape} samples at least")
        along_y, along_x = q0[0] * shear + q0[1] * Ly, q0[0] * Lx
        low = int(np.ceil(-radius[0] - along_y)), int(np.ceil(-radius[1] - along_x))
        kx = np.broadcast_to((low[1] + np.arange(mx))[None, :] / Lx, (my, mx))
        ky = ((low[0] + np.arange(my))[:, None] - kx * shear) / Ly
        kx, ky = kx + q0[0], ky + q0[1]
        return cls(low, kx, ky, kx**2 + ky**2 <= grid.k_max**2 * _SLACK)

    def place(self, harmonics: Ints) -> Ints:
        """Return where harmonics (n, 2), along y and x, lie in the flattened array.

        Raises
        ------
        ValueError
            One lies outside the array.
        """
        at = np.asarray(harmonics) - np.asarray(self.low)
        if (at < 0).any() or (at >= self.inside.shape).any():
            raise ValueError("a harmonic lies outside the band limit")
        return np.asarray(at[:, 0] * self.inside.shape[1] + at[:, 1], np.int64)


class BatchMultislice:
    """Multislice calculations of a fixed number of waves on one grid.

    Parameters
    ----------
    grid : Grid
    energy_kev : float
    count : int
        Waves under way at a time.
    tilt_mrad : (x, y)
        Direction of the incident beam; the wave's frame moves with it, as in `Multislice`.
    device : Backend, optional
        Where to calculate; numpy by default.
    dtype : {"complex64", "complex128"}
    """

    def __init__(
        self,
        grid: Grid,
        energy_kev: float,
        count: int,
        tilt_mrad: tuple[float, float] = (0.0, 0.0),
        device: Backend | None = None,
        dtype: npt.DTypeLike = "complex64",
    ) -> None:
        if count < 1:
            raise ValueError(f"count is {count}; at least one wave is needed")
        self.grid = grid
        self.count = count
        self.device = backend("numpy") if device is None else device
        self.dtype = np.dtype(dtype)
        self._wavelength_A = float(wavelength(energy_kev))
        self._sigma = float(interaction_constant(energy_kev))
        self._k0 = [1e-3 * angle / self._wavelength_A for angle in tilt_mrad]
        width = Disk.around(grid).inside.shape[1]
        self._waves = self.device.transform(count, grid.shape, width, dtype)
        self._disk: Disk | None = None
        self._propagators: dict[float, Any] = {}

    def propagate(
        self, waves: Any, steps: Iterable[Step], disk: Disk, lost: Floats | None = None
    ) -> Any:
        """Send waves through slices.

        Parameters
        ----------
        waves : (n, my, mx) complex
            Coefficients on the disk, at most `count` waves.
        steps
            Transmission functions (or projected potentials, V Å, where real; None where empty)
            on the grid, and the distance from each to the next, Å.
        disk : Disk
            Of the waves' q0.
        lost : (n,) float64, optional
            The intensity that each wave loses beyond the band limit is added to it.

        Returns
        -------
        (n, my, mx) complex
            A new array of the backend.

        Raises
        ------
        ValueError
            A shape does not fit.
        """
        n, (my, mx) = len(waves), disk.inside.shape
        if n > self.count or waves.shape[1:] != (my, mx):
            raise ValueError(
                f"waves have shape {waves.shape}; at most ({self.count}, {my}, {mx}) fits"
            )
        if disk is not self._disk:
            self._disk, self._propagators = disk, {}
        n_points = float(np.prod(self.grid.shape))
        inside = self.device.asarray(disk.inside)
        psi = self._waves
        psi.spectrum[...] = 0
        # Times the number of samples, as transforms leave it and propagators take it.
        psi.spectrum[:n, :my] = n_points * self.device.asarray(waves, self.dtype)
        distance = 0.0
        for transmission, step_A in steps:
            if transmission is not None:
                psi.spectrum *= self._propagator(distance)
                psi.to_samples()
                psi.samples *= self._transmission(transmission)
                before = _intensity(psi.samples[:n]) / n_points if lost is not None else 0.0
                psi.to_spectrum()
                if lost is not None:
                    after = _intensity(psi.spectrum[:n, :my] * inside) / n_points**2
                    lost += self.device.to_host(before - after)
                distance = 0.0
            distance += step_A
        psi.spectrum *= self._propagator(distance)
        return psi.spectrum[:n, :my].copy()

    def _transmission(self, given: npt.NDArray[Any]) -> Any:
        if given.shape != self.grid.shape:
            raise ValueError(f"a slice has shape {given.shape}; the grid has {self.grid.shape}")
        if given.dtype.kind == "c":
            return self.device.asarray(given, self.dtype)
        return self.device.xp.exp(1j * self._sigma * self.device.asarray(given)).astype(self.dtype)

    def _propagator(self, distance_A: float) -> Any:
        """Fresnel propagator exp(-i pi lambda dz (|k + k0|^2 - |k0|^2)) inside the disk, 0 beyond.

        Divided by the number of samples: the scale of the transforms is rounded together with
        changing phases, not in the same direction in every slice.
        """
        key = round(distance_A, 9)  # differences of depths differ in their last bits
        known = self._propagators.get(key)
        if known is not None:
            return known
        disk = self._disk
        assert disk is not None
        kx, ky = disk.kx, disk.ky
        k0x, k0y = self._k0
        path = kx**2 + ky**2 + 2 * (k0x * kx + k0y * ky)
        turn = np.zeros((self.grid.shape[0], kx.shape[1]), complex)
        turn[: len(kx)] = disk.inside * np.exp(-1j * np.pi * self._wavelength_A * distance_A * path)
        turn /= float(np.prod(self.grid.shape))
        if len(self._propagators) >= _PROPAGATORS_KEPT:
            self._propagators.clear()
        made = self._propagators[key] = self.device.asarray(turn, self.dtype)
        return made


def exit_waves(
    waves_k: Sequence[npt.NDArray[Any]] | Callable[[int], npt.NDArray[Any]],
    count: int,
    slices: Sequence[Step] | Callable[[], Iterable[Step]],
    grid: Grid,
    energy_kev: float,
    read: Callable[[int, ExitWave], Any],
    tilt_mrad: tuple[float, float] = (0.0, 0.0),
    device: Backend | None = None,
    dtype: npt.DTypeLike = "complex64",
) -> list[Any]:
    """Send many waves through slices, a batch at a time, and read something off each exit wave.

    What `stem.scan.exit_waves` does one wave a thread: probes, beams of a scattering matrix and
    plane waves alike. Potentials and transmission functions are made by the processor.

    Parameters
    ----------
    waves_k
        Incident waves, of the grid's `wave_shape`, or a function that makes the i-th one.
    count
        How many there are.
    slices
        All slices, kept on the device as far as a quarter of its memory goes; or a function
        that makes them again for every batch.
    grid, energy_kev, tilt_mrad, dtype
        As for `Multislice`.
    read
        Called with index and exit wave; the results are returned in order, the waves forgotten.
    device : Backend, optional
        Where to calculate; numpy by default.
    """
    if count == 0:
        return []
    device = backend("numpy") if device is None else device
    make = waves_k if callable(waves_k) else waves_k.__getitem__
    room = device.free_bytes() // 4
    points = int(np.prod(grid.shape))
    wave_bytes = 4 * np.dtype(dtype).itemsize * points  # what transforms need included
    at_once = min(device.batch_points // points, room // wave_bytes, count)
    at_once = max(at_once, 1)
    engine = BatchMultislice(grid, energy_kev, at_once, tilt_mrad, device, dtype)
    disk = Disk.around(grid)
    corner = tuple(np.array(grid.wave_shape) // 2)  # the wave's harmonics are -corner ... corner
    # In the disk's array the harmonics -h ... h come in order; its last row or column may be empty.
    part = tuple(slice(-h - low, h - low + 1) for h, low in zip(corner, disk.low, strict=True))
    again = slices if callable(slices) else _moved(slices, device, room).__iter__
    n_slices = 0

    def counted() -> Iterator[Step]:
        nonlocal n_slices
        n_slices = 0
        for given, step_A in again():
            n_slices += given is not None
            yield given, step_A

    results: list[Any] = []
    for first in range(0, count, at_once):
        some = range(first, min(first + at_once, count))
        waves = np.zeros((len(some), *disk.inside.shape), dtype)
        lost = np.zeros(len(some))
        for own, i in zip(waves, some, strict=True):
            given = make(i)
            if given.shape != grid.wave_shape:
                raise ValueError(
                    f"wave_k has shape {given.shape}; the grid's wave_shape is {grid.wave_shape}"
                )
            own[part] = np.fft.fftshift(given)
            lost[i - first] = np.sum(np.abs(given[~grid.wave_mask]) ** 2, dtype=np.float64)
        behind = device.to_host(engine.propagate(waves, counted(), disk, lost))
        for i, wave, loss in zip(some, behind, lost, strict=True):
            wave_k = np.fft.ifftshift(wave[part])
            kept = float(_intensity(wave_k[None])[0])
            if not np.isfinite(kept + loss):
                raise ValueError("the wave is not finite; neither was the incident wave or a slice")
            out = ExitWave(wave_k, grid.extent_A, float(energy_kev), kept, float(loss), n_slices)
            results.append(read(i, out))
    return results


def _moved(slices: Sequence[Step], device: Backend, room_bytes: int) -> list[Step]:
    """Copy slices to a device, those that are one array once, until the room is filled."""
    there: dict[int, Any] = {}
    moved: list[Step] = []
    for given, step_A in slices:
        if given is None or device.name == "numpy":
            moved.append((given, step_A))
            continue
        if id(given) not in there and given.nbytes <= room_bytes:
            there[id(given)] = device.asarray(given)
            room_bytes -= given.nbytes
        moved.append((there.get(id(given), given), step_A))
    return moved


def _intensity(waves: Any) -> Any:
    """Return the sum of |psi|^2 of every wave of a batch, in double precision."""
    squares = waves.real**2 + waves.imag**2
    return squares.sum(axis=(1, 2), dtype=np.float64)
