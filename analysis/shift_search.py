"""The most probable shift, from the Fourier terms of its log-likelihood.

The log-likelihood of a shift is a trigonometric polynomial, the sum over modes of
Re(terms exp(2 pi i k d)). A map of it finds the peaks that come into question; Newton's method
follows each to its very top, at any fraction of a pixel.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import fft

from nanophantom.analysis.modes import FloatArray, Modes, Spectrum

CANDIDATES = 8
"""How many peaks are climbed at most; lattice vectors give peaks of nearly the same height."""

LOST_BETWEEN_NODES = 0.35
"""A peak stands at most this share of its height above the highest node of the map."""


class Peak(NamedTuple):
    """Where the posterior peaks."""

    shift: FloatArray
    posterior: float
    likelihood: float
    significance: float  # the likelihood in standard deviations of it elsewhere
    precision: float = 0.0  # curvature of the likelihood, the mean along y and x, 1/px^2
    margin: float = 0.0  # how far the posterior of the runner-up lies below


def best_shift(
    modes: Modes,
    terms: Spectrum,
    expected: FloatArray,
    spread_px: float,
    reach_px: float,
    origin: FloatArray | None = None,
) -> Peak:
    """Return the highest peak of the posterior of a shift.

    Parameters
    ----------
    modes, terms
        From `Modes.correlation`.
    expected : (2,) float64
        Centre of the prior.
    spread_px : float
        Its standard deviation.
    reach_px : float
        No shift is considered that leads further than this from the `origin`.
    origin : (2,) float64, optional
        Zero if not given.
    """
    centre = np.zeros(2) if origin is None else np.asarray(origin, np.float64)
    expected = np.asarray(expected, np.float64)
    if not len(terms):
        return Peak(expected, 0.0, 0.0, 0.0)
    polynomial = _Polynomial(modes, terms)
    dy, dx, likelihood = polynomial.map(centre, reach_px)
    posterior = likelihood - (0.5 * ((dy - expected[0]) / spread_px) ** 2)[:, None]
    posterior -= (0.5 * ((dx - expected[1]) / spread_px) ** 2)[None, :]
    tops: list[Peak] = []
    while len(tops) < CANDIDATES:
        y, x = np.unravel_index(np.argmax(posterior), posterior.shape)
        headroom = LOST_BETWEEN_NODES * abs(likelihood[y, x])
        if len(tops) > 1 and posterior[y, x] + headroom < tops[0].posterior:
            break
        # Two steps give the height to a part in a thousand, which is enough to choose by.
        tops.append(polynomial.climb(np.array([dy[y], dx[x]]), expected, spread_px, steps=2))
        tops.sort(key=lambda top: -top.posterior)
        step = 3 * polynomial.step_px
        posterior[np.ix_(np.abs(dy - dy[y]) <= step[0], np.abs(dx - dx[x]) <= step[1])] = -np.inf
    best = polynomial.climb(tops[0].shift, expected, spread_px)
    return best._replace(margin=tops[0].posterior - tops[1].posterior)


def nearby_shift(
    modes: Modes, terms: Spectrum, start: FloatArray, expected: FloatArray, spread_px: float
) -> Peak:
    """Return the peak of the posterior that a start lies on."""
    if not len(terms):
        return Peak(start, 0.0, 0.0, 0.0)
    return _Polynomial(modes, terms).climb(start, expected, spread_px)


class _Polynomial:
    """The log-likelihood as a matrix of terms, rows of ky by columns of kx."""

    def __init__(self, modes: Modes, terms: Spectrum) -> None:
        ny, nx = modes.shape
        row = np.where(modes.iy < (ny + 1) // 2, modes.iy, modes.iy - ny)
        # Twice as fine as the finest mode asks for.
        gy = min(ny, fft.next_fast_len(int(4 * np.max(np.abs(row))) + 8))
        gx = min(nx, fft.next_fast_len(int(4 * np.max(modes.ix)) + 8, real=True))
        self.row, self.terms = row, terms
        self.ix, self.multiplicity = modes.ix, modes.multiplicity
        self.shape, self.grid = (ny, nx), (gy, gx)
        self.step_px = np.array([ny / gy, nx / gx])
        # Only rows and columns that hold modes.
        top, right = int(np.max(np.abs(row))), int(np.max(modes.ix))
        # Double precision: products of matrices add up in another order on other machines, and a
        # shift shouldn't depend on it.
        self.matrix = np.zeros((2 * top + 1, right + 1), np.complex128)
        self.matrix[row, modes.ix] = terms
        self.wy = 2 * np.pi * fft.ifftshift(np.arange(-top, top + 1)) / ny
        self.wx = 2 * np.pi * np.arange(right + 1) / nx
        self.noise = max(float(np.sqrt(0.5 * np.sum(np.abs(terms) ** 2))), 1e-30)

    def map(
        self, origin: FloatArray, reach_px: float
    ) -> tuple[FloatArray, FloatArray, npt.NDArray[np.float32]]:
        """Return dy, dx and the log-likelihood at these, within reach of the origin."""
        (ny, nx), (gy, gx) = self.shape, self.grid
        half = np.zeros((gy, gx // 2 + 1), np.complex64)
        # The half plane of irfft2 counts its modes twice by itself.
        half[self.row % gy, self.ix] = self.terms / self.multiplicity.astype(np.float32)
        values = fft.irfft2(half, s=(gy, gx), workers=1) * np.float32(gy * gx)
        dy, dx = fft.fftfreq(gy, 1 / ny), fft.fftfreq(gx, 1 / nx)
        rows = np.flatnonzero(np.abs(dy - origin[0]) <= reach_px + self.step_px[0])
        columns = np.flatnonzero(np.abs(dx - origin[1]) <= reach_px + self.step_px[1])
        return dy[rows], dx[columns], values[np.ix_(rows, columns)]

    def climb(
        self, start: FloatArray, expected: FloatArray, spread_px: float, steps: int = 8
    ) -> Peak:
        """Follow the log-posterior from a node to its maximum (Newton's method)."""
        precision = 1 / spread_px**2

        def derivatives(shift: FloatArray) -> npt.NDArray[np.complex128]:
            """Return the sums over modes of wy^a wx^b terms exp(i w d), (3, 3)."""
            y, x = np.exp(1j * self.wy * shift[0]), np.exp(1j * self.wx * shift[1])
            left = np.stack([y, self.wy * y, self.wy**2 * y])
            right = np.stack([x, self.wx * x, self.wx**2 * x], axis=1)
            return np.asarray((left @ self.matrix) @ right)

        shift = start.astype(np.float64)
        sums = derivatives(shift)
        for _ in range(steps):
            gradient = -np.array([sums[1, 0].imag, sums[0, 1].imag])
            gradient -= (shift - expected) * precision
            curvature = np.array(
                [[sums[2, 0].real, sums[1, 1].real], [sums[1, 1].real, sums[0, 2].real]]
            ) + precision * np.eye(2)
            if curvature[0, 0] <= 0 or np.linalg.det(curvature) <= 0:
                break  # no top anywhere near
            move = np.clip(np.linalg.solve(curvature, gradient), -self.step_px, self.step_px)
            shift = shift + move
            sums = derivatives(shift)
            if np.max(np.abs(move)) < 1e-3:
                break
        if np.any(np.abs(shift - start) > 2 * self.step_px):
            shift, sums = start, derivatives(start)
        height = float(sums[0, 0].real)
        away = float(np.sum((shift - expected) ** 2))
        sharpness = 0.5 * float(sums[2, 0].real + sums[0, 2].real)
        posterior = height - 0.5 * precision * away
        return Peak(shift, posterior, height, height / self.noise, max(sharpness, 0.0))
