"""Gram matrices: all that a detector can tell of a specimen, for any probe at any position.

A probe is a sum of plane waves (beams) inside its aperture, with amplitudes a_b. If S_bk is the
coefficient k of the exit wave of beam b, a detector of weights w sees

    I = sum_k w_k |sum_b a_b S_bk|^2 = sum_bc a_b conj(a_c) G_bc,
    G_bc = sum_k w_k S_bk conj(S_ck).

The specimen enters through the small Hermitian matrix G alone; position, defocus, aberrations,
aperture and source are in the amplitudes and can be chosen afterwards. Moving the probe by r turns
a_b by exp(-2 pi i k_b r): the image is a Fourier series whose coefficient at the frequency
k_c - k_b is a_b conj(a_c) G_bc, summed over all pairs at that distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from nanophantom.simcore import parallel
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.stem.detectors import Weights
from nanophantom.simcore.electrons.stem.fourier_image import FourierImage, empty, mean
from nanophantom.simcore.electrons.stem.probe import Beams, Probe

Complexes = npt.NDArray[np.complex64] | npt.NDArray[np.complex128]
_ROWS = 128  # rows of a Gram matrix made at a time
_COLUMNS = 1 << 13  # coefficients k summed in single precision before they join the total


@dataclass(frozen=True, eq=False)
class Block:
    """Beams that interfere with each other, and their Gram matrices.

    Attributes
    ----------
    beams : (n,) int
        Which of the beams.
    matrices : (channels, n, n) complex
    """

    beams: npt.NDArray[np.int64]
    matrices: Complexes


@dataclass(frozen=True, eq=False)
class GramMatrices:
    """Gram matrices of several detectors for the beams of a probe.

    Attributes
    ----------
    probe : Probe
        For which they were made: its aperture is the largest that can be used.
    beams : Beams
    grid : Grid
        Whose cell the images repeat over.
    names : channels str
    blocks : sequence of Block
        One block for a general specimen; of a crystal, the beams that differ by its reciprocal
        lattice vectors form one, and others don't interfere.
    kept : (n,)
        Part of each beam's intensity that stayed below the band limit.
    """

    probe: Probe
    beams: Beams
    grid: Grid
    names: tuple[str, ...]
    blocks: Sequence[Block]
    kept: npt.NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        for block in self.blocks:
            n = len(block.beams)
            if block.matrices.shape != (len(self.names), n, n):
                raise ValueError(
                    f"a block of {n} beams has matrices of shape {block.matrices.shape}; for "
                    f"{len(self.names)} signals it is {(len(self.names), n, n)}"
                )

    def mean_kept(self) -> float:
        """Return the part of a probe's intensity that stayed, averaged over its positions."""
        kept = np.ones(len(self.beams)) if self.kept is None else self.kept
        return float(np.abs(self.beams.amplitudes(self.probe)) ** 2 @ kept)

    def image(self, probe: Probe | None = None) -> FourierImage:
        """Return the images of a probe, by default the one they were made for.

        Raises
        ------
        ValueError
            The probe's energy is another, or its aperture reaches beyond the beams.
        """
        probe = self.probe if probe is None else probe
        if probe.energy_kev != self.probe.energy_kev:
            raise ValueError(
                f"these matrices are for {self.probe.energy_kev:g} keV, the probe has "
                f"{probe.energy_kev:g} keV"
            )
        wanted = Beams.inside(self.grid, probe).harmonics
        known = {(int(y), int(x)) for y, x in self.beams.harmonics}
        if not all((int(y), int(x)) in known for y, x in wanted):
            raise ValueError(
                f"these matrices are for apertures within {self.probe.semiangle_mrad:g} mrad "
                f"around {self.probe.tilt_mrad}; make new ones for a larger probe"
            )
        amplitudes = self.beams.amplitudes(probe)
        harmonics = self.beams.harmonics
        reach = (np.ptp(harmonics[:, 0]), np.ptp(harmonics[:, 1]))
        series = empty(self.grid, (int(reach[0]), int(reach[1])), self.names)
        for block in self.blocks:
            _add_pairs(
                series.coefficients,
                block.matrices,
                amplitudes[block.beams],
                harmonics[block.beams],
            )
        return series

    def defocus_average(
        self, foci_A: npt.ArrayLike, weights: npt.ArrayLike, probe: Probe | None = None
    ) -> FourierImage:
        """Return the images averaged over a spread of the defocus."""
        chosen = self.probe if probe is None else probe
        foci, shares = np.atleast_1d(foci_A), np.atleast_1d(weights)
        return mean(
            (float(w), self.image(chosen.defocused(float(f))))
            for f, w in zip(foci, shares, strict=True)
        )


def gram(waves: Complexes, weights: Weights, threads: int | None = None) -> Complexes:
    """Return the Gram matrices (channels, n, n) of n exit waves.

    Parameters
    ----------
    waves : (n, q) complex
        Coefficients of the exit waves where any detector looks (`weights.place`).
    weights : Weights
    threads : int, optional
        Blocks under way at a time. The sums don't depend on it.
    """
    n = len(waves)
    matrices = np.zeros((len(weights.names), n, n), np.complex128)
    starts = range(0, n, _ROWS)
    with threadpool_limits(1, user_api="blas"):  # sums in an order of our own
        for channel, values in enumerate(weights.values):
            seen = np.flatnonzero(values)
            for first in range(0, len(seen), _COLUMNS):
                part = seen[first : first + _COLUMNS]
                right = waves[:, part]
                left = right * values[part]
                np.conj(right, out=right)

                def add(_: None, start: int, left=left, right=right, to=matrices[channel]) -> None:  # type: ignore[no-untyped-def]
                    rows = slice(start, start + _ROWS)
                    to[rows, start:] += left[rows] @ right[start:].T

                parallel.map_threads(add, starts, lambda: None, threads)
    for matrix in matrices:  # Hermitian: the lower half mirrors the upper one
        lower = np.tril_indices(n, -1)
        matrix[lower] = matrix.conj().T[lower]
        np.fill_diagonal(matrix, matrix.diagonal().real)
    return matrices


@numba.njit(cache=True)
def _add_pairs(
    series: npt.NDArray[np.complex128],
    matrices: Complexes,
    amplitudes: npt.NDArray[np.complex128],
    harmonics: npt.NDArray[np.int64],
) -> None:
    """Add a_b conj(a_c) G_bc to the coefficient at k_c - k_b, for all pairs and channels."""
    centre_y, centre_x = series.shape[1] // 2, series.shape[2] // 2
    for channel in range(len(matrices)):
        for b in range(len(amplitudes)):
            for c in range(len(amplitudes)):
                y = centre_y + harmonics[c, 0] - harmonics[b, 0]
                x = centre_x + harmonics[c, 1] - harmonics[b, 1]
                pair = amplitudes[b] * np.conj(amplitudes[c])
                series[channel, y, x] += pair * matrices[channel, b, c]
