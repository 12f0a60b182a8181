"""Probes in local windows: only the part of a large cell that a probe visits is propagated.

A probe that is narrow all the way through a specimen need not be propagated through all of a large
cell. Here each probe travels in a small periodic window around its position, through cuts of the
cell's own transmission functions: the cost falls with the window's area. Samples of the window are
samples of the cell; where between them the probe stands is in the phases of its beams, exactly.

What is lost: the window repeats, so a wave that leaves it on one side comes back on the other, and
frequencies, the detectors' edges among them, are sampled more coarsely. Both errors shrink as the
window grows and vanish when it is the cell. There is no rule that bounds them for all specimens
(columns guide waves, amorphous matter spreads them): `stated_error` measures them, and looks for
the smallest window that meets a given bound.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nanophantom.simcore import parallel
from nanophantom.simcore.electrons import wave_kernels
from nanophantom.simcore.electrons.aberrations import chi
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.multislice import Multislice, Step
from nanophantom.simcore.electrons.stem.detectors import Detector, Weights
from nanophantom.simcore.electrons.stem.probe import Beams, Probe, lattice
from nanophantom.simcore.electrons.stem.scan import Signals, Slices
from nanophantom.simcore.fft import fast_length

Floats = npt.NDArray[np.float64]
Complexes = npt.NDArray[np.complex128]


def window_grid(grid: Grid, size_A: float) -> Grid:
    """Return the grid of a window: a part of a cell, with the same samples and band limit.

    Parameters
    ----------
    grid : Grid
        Of the cell.
    size_A : float
        Edges of the window, at least, Å; it is rounded up to a length of fast transforms. An edge
        that would come out as long as the cell's, or longer, is the cell's.

    Raises
    ------
    ValueError
        The size is not positive, or below one period of the band limit.
    """
    if not size_A > 2 / grid.k_max:
        raise ValueError(f"the window is {size_A:g} Å wide; at least {2 / grid.k_max:.3g} Å needed")
    counts = []
    for n, edge in zip(grid.shape, grid.edges_A, strict=True):
        wanted = fast_length(int(np.ceil(size_A / edge * n - 1e-9)))
        counts.append(min(wanted, n))
    return part_of(grid, (counts[0], counts[1]))


def part_of(grid: Grid, shape: tuple[int, int]) -> Grid:
    """Return the grid of so many samples of a larger one (a sheared cell's parts are sheared)."""
    ny, nx = (part / n for part, n in zip(shape, grid.shape, strict=True))
    extent = grid.extent_A[0] * ny, grid.extent_A[1] * nx
    return Grid(shape, extent, grid.k_max, grid.shear_A * ny)


def coarse_beams(probe: Probe, window: Grid, cell: Grid) -> tuple[Beams, Complexes]:
    """Return the beams of a probe in a window, and their amplitudes (of intensity 1 in all).

    A beam of the window stands for those of the cell around it: it carries their intensity, so
    that the aperture's edge lies where it lies for the cell. Its phase is its own.

    Raises
    ------
    ValueError
        The aperture reaches beyond the band limit.
    """
    intensity = _gathered(_intensity(probe, cell), cell, window, window.wave_shape)
    places = np.argwhere(intensity > 0)
    at = tuple(places.T)
    if not window.wave_mask[at].all():
        raise ValueError(
            f"the aperture of {probe.semiangle_mrad:g} mrad reaches beyond the band limit of "
            f"{1e3 * window.k_max * float(wavelength(probe.energy_kev)):.4g} mrad"
        )
    ky, kx = (k[at] for k in np.broadcast_arrays(*window.wave_frequencies))
    harmonics = _harmonics(window.wave_shape[0])[at[0]], _harmonics(window.wave_shape[1])[at[1]]
    beams = Beams(np.column_stack(harmonics), kx, ky, lattice(window))
    k0 = 1e-3 * np.asarray(probe.tilt_mrad) / float(wavelength(probe.energy_kev))
    phase = chi(probe.coefficients, kx - k0[0], ky - k0[1], probe.energy_kev)
    return beams, np.sqrt(intensity[at] / intensity.sum()) * np.exp(-1j * phase)


def coarse_weights(
    detectors: Sequence[Detector],
    probe: Probe,
    window: Grid,
    cell: Grid,
    shape: tuple[int, int] | None = None,
) -> Weights:
    """Return detectors' weights on the coarser frequencies of a window.

    The weight of a coefficient is the mean over those of the cell around it, and inside the
    aperture the mean weighted with the probe's intensity: in vacuum every signal is exact.

    Parameters
    ----------
    detectors : sequence of Detector
    probe : Probe
    window, cell : Grid
    shape : (ny, nx), optional
        Of the array of coefficients, by default the window's `wave_shape`.
    """
    shape = window.wave_shape if shape is None else shape
    names = [name for d in detectors for name in (*d.channels, *d.moments)]
    if len(set(names)) < len(names):
        raise ValueError(f"detectors: two signals have the same name: {', '.join(names)}")
    ky, kx = cell.wave_frequencies
    edges = lattice(cell)
    fine = np.concatenate([d.weights(kx, ky, probe.energy_kev, edges) for d in detectors])
    fine = fine * cell.wave_mask
    beam = _intensity(probe, cell)
    lit = _gathered(beam, cell, window, shape)
    mean = _gathered(fine, cell, window, shape)
    seen = _gathered(fine * beam, cell, window, shape)
    return Weights(np.where(lit > 0, seen / np.where(lit > 0, lit, 1.0), mean), names)


def _intensity(probe: Probe, cell: Grid) -> Floats:
    """Return the intensity of a probe at all frequencies of a cell."""
    beams = Beams.inside(cell, probe)
    intensity = np.zeros(cell.wave_shape)
    intensity[tuple(beams.harmonics.T)] = np.abs(beams.amplitudes(probe)) ** 2
    return intensity


def _gathered(values: Floats, cell: Grid, window: Grid, shape: tuple[int, int]) -> Floats:
    """Average over the frequencies of a cell that each one of a window stands for.

    Both are thought as tiles that fill the plane; a tile of the cell on the border between two of
    the window counts for each with the part that it covers.
    """
    overlaps = []
    for axis in (0, 1):
        ratio = cell.edges_A[axis] / window.edges_A[axis]
        coarse = ratio * _harmonics(shape[axis])[:, None]
        fine = _harmonics(cell.wave_shape[axis])[None, :]
        until = np.minimum(coarse + ratio / 2, fine + 0.5)
        since = np.maximum(coarse - ratio / 2, fine - 0.5)
        overlaps.append(np.maximum(until - since, 0.0) / ratio)
    return np.asarray(overlaps[0] @ values @ overlaps[1].T)


def _harmonics(n: int) -> npt.NDArray[np.int64]:
    return np.fft.fftfreq(n, 1 / n).round().astype(np.int64)


def scan(
    probe: Probe,
    positions_A: npt.ArrayLike,
    slices: Slices,
    grid: Grid,
    detectors: Sequence[Detector],
    size_A: float,
    tilt_mrad: tuple[float, float] = (0.0, 0.0),
    threads: int | None = None,
) -> Signals:
    """Scan a probe, each position in its own window of the cell.

    Parameters
    ----------
    probe : Probe
    positions_A : (n, 2)
        Where it stands, (x, y); beyond the cell's edges the cell repeats.
    slices : Slices
        Of the whole cell.
    grid : Grid
        Of the whole cell.
    detectors : sequence of Detector
    size_A : float
        Edges of the window, at least; see `window_grid`.
    tilt_mrad, threads
        As for `scan.exit_waves`.

    Returns
    -------
    Signals
        With an error that nothing in it tells: see `stated_error`.
    """
    window = window_grid(grid, size_A)
    beams, amplitudes = coarse_beams(probe, window, grid)
    weights = coarse_weights(detectors, probe, window, grid)
    corners, local = place(np.asarray(positions_A, np.float64).reshape(-1, 2), grid, window)
    engine = functools.partial(Multislice, window, probe.energy_kev, (), tilt_mrad)

    def read(wave: npt.NDArray[Any]) -> Floats:
        sums = np.empty(len(weights.names))
        wave_kernels.weighted_intensities(wave.reshape(-1), weights.values, weights.place, sums)
        return sums

    def start(i: int) -> npt.NDArray[Any]:
        return beams.wave(beams.at(amplitudes, *local[i]), window)

    def send(own: Multislice, some: range) -> list[tuple[Floats, float, float]]:
        if slices.kept is not None:
            out = [own.propagate(start(i), _cut(slices.kept, corners[i], window)) for i in some]
            return [(read(exit_.wave_k), exit_.kept, exit_.lost) for exit_ in out]
        # Slices are made anew: each is cut for all waves of the group before the next is made.
        waves, lost = [start(i) for i in some], np.zeros(len(some))
        for step in slices.steps():
            for j, i in enumerate(some):
                exit_ = own.propagate(waves[j], _cut([step], corners[i], window))
                waves[j] = exit_.wave_k
                lost[j] += exit_.lost
        kept = [float(np.sum(np.abs(wave.astype(complex)) ** 2)) for wave in waves]
        return [(read(wave), k, float(x)) for wave, k, x in zip(waves, kept, lost, strict=True)]

    threads = threads or parallel.threads_here()
    if slices.kept is not None:
        size = 1
    else:
        # One pass makes all slices: as many waves share it as fit where those of the cell would.
        room = slices.waves_at_once * int(np.prod(grid.wave_shape))
        size = max(1, room // (int(np.prod(window.wave_shape)) * threads))
        size = min(size, -(-len(local) // threads))
    groups = [range(i, min(i + size, len(local))) for i in range(0, len(local), size)]
    found = [one for g in parallel.map_threads(send, groups, engine, threads) for one in g]
    values, kept_parts, lost_parts = zip(*found, strict=True)
    return Signals(np.array(values), np.array(kept_parts), np.array(lost_parts))


def place(positions_A: Floats, grid: Grid, window: Grid) -> tuple[npt.NDArray[np.int64], Floats]:
    """Centre windows on positions.

    Returns
    -------
    corners : (n, 2) int
        First sample (y, x) of each window, inside the cell.
    local_A : (n, 2)
        The positions (x, y) as seen from there: within half a sample of the window's centre.
    """
    v = positions_A[:, 1] / grid.extent_A[0]
    u = (positions_A[:, 0] - v * grid.shear_A) / grid.extent_A[1]
    samples = np.column_stack([v, u]) * grid.shape
    first = np.round(samples).astype(np.int64) - np.array(window.shape) // 2
    rest = (samples - first) / grid.shape
    y = rest[:, 0] * grid.extent_A[0]
    x = rest[:, 1] * grid.extent_A[1] + rest[:, 0] * grid.shear_A
    return first % np.array(grid.shape), np.column_stack([x, y])


def probe_reach_A(probe: Probe, thickness_A: float) -> float:
    """Return the width of the geometric cone of a probe at its widest inside a specimen, Å.

    The probe is focused at a distance -C10 behind the entrance face; its cone is widest at one of
    the faces. A window narrower than that can't hold even the unscattered probe.
    """
    defocus = float(probe.coefficients.get("C10", 0.0))
    farthest = max(abs(defocus), abs(defocus + thickness_A))
    diffraction = float(wavelength(probe.energy_kev)) / (1e-3 * probe.semiangle_mrad)
    return 2e-3 * probe.semiangle_mrad * farthest + diffraction


def _cut(steps: Sequence[Step], corner: npt.NDArray[np.int64], window: Grid) -> Iterator[Step]:
    """Cut a window out of slices that repeat periodically."""
    for transmission, distance in steps:
        if transmission is None:
            yield None, distance
            continue
        part = transmission
        for axis in (0, 1):
            first, count, n = int(corner[axis]), window.shape[axis], part.shape[axis]
            if first + count <= n:
                part = part[first : first + count] if axis == 0 else part[:, first : first + count]
            else:
                part = np.take(part, range(first, first + count), axis, mode="wrap")
        yield part, distance
