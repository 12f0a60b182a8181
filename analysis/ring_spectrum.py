"""The power spectrum of an image as rings on a background, and the fit of their phase.

A weak phase object's spectrum is transferred by 2 sin(chi), so its image's power spectrum is
b(k) + a(k) sin^2(chi). Envelopes, noise and the object's own spectrum make a and b slow functions
of k: splines, that are linear and follow chi by themselves. What remains to be fitted are the
few numbers that chi is made of. A pixel of a periodogram scatters by as much as its mean, which
gives the uncertainties; a window that tapers the image's edges lets neighbours share their noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage
from scipy.interpolate import BSpline

from nanophantom.analysis.modes import window_on

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

PIECES = 8
"""Splines that make up a(k), and b(k)."""
LEVEL_PIECES = 5
"""Splines of the logarithm of the level that the power is divided by: too stiff to follow rings."""
SPOT = 20.0
"""Pixels that exceed their shell's median by this factor are a crystal's, not the film's."""


@dataclass(frozen=True, eq=False)
class Rings:
    """The power spectrum's half plane as a list of pixels, divided by its smooth mean.

    Attributes
    ----------
    kx, ky : (n,) float64
        Spatial frequency, 1/Å.
    power : (n,) float64
        Power over its smooth radial mean: about 1.
    shell : (n,) intp
        Ring of one frequency step's width that the pixel belongs to.
    slow : (shells, PIECES) float64
        Cubic splines in k that make up a(k) and b(k).
    dk : float
        Frequency step, 1/Å.
    leak : float
        How many pixels share one independent value, because the window correlates them.
    """

    kx: Floats
    ky: Floats
    power: Floats
    shell: Indices
    slow: Floats
    dk: float
    leak: float

    @classmethod
    def of(cls, image: npt.ArrayLike, pixel_size_nm: float, settings: Mapping[str, Any]) -> Rings:
        """Return the power spectrum between the settings' "resolution_range_nm"."""
        data = np.asarray(image)
        if data.ndim != 2 or min(data.shape) < 32:
            raise ValueError(f"an image has the shape (ny, nx) of 32 or more, got {data.shape}")
        if data.dtype.kind not in "uif" or not np.isfinite(data).all():
            raise ValueError("the image must hold finite real numbers")
        ny, nx = data.shape
        step_A = 10 * pixel_size_nm
        window = window_on(slice(0, ny), slice(0, nx), (ny, nx)).astype(np.float64)
        values = data - np.sum(data * window) / np.sum(window)
        power = np.abs(fft.rfft2(values * window, workers=1)) ** 2
        ky, kx = fft.fftfreq(ny, step_A)[:, None], fft.rfftfreq(nx, step_A)[None, :]
        k = np.hypot(ky, kx)

        nyquist, dk = 0.5 / step_A, 1 / (step_A * max(ny, nx))
        coarsest, finest = settings.get("resolution_range_nm") or (None, None)
        low = 0.1 / coarsest if coarsest else max(4 * dk, 0.04 * nyquist)
        high = 0.1 / finest if finest else 0.9 * nyquist
        if not 0 < low < high <= nyquist or high - low < 12 * dk:
            raise ValueError(
                f"resolution_range_nm {coarsest, finest} leaves no rings: periods go from coarse "
                f"to fine, the finest being {0.1 / nyquist:.4g} nm"
            )
        # the conjugate half of the first column says nothing new
        inside = (k >= low) & (k < high) & ((kx > 0) | (ky > 0))
        if not np.any(power[inside] > 0):
            raise ValueError("the image has no contrast: there is nothing to fit")
        spots = np.zeros_like(inside)
        spots[inside] = _spots(power[inside], ((k[inside] - low) / dk).astype(np.intp))
        # with the feet of each, that a finite crystal has
        inside &= ~ndimage.binary_dilation(spots, iterations=4)
        shell = ((k[inside] - low) / dk).astype(np.intp)
        slow = _splines(int(shell.max()) + 1, PIECES)
        rings = cls(
            np.broadcast_to(kx, k.shape)[inside],
            np.broadcast_to(ky, k.shape)[inside],
            power[inside],
            shell,
            slow,
            dk,
            float(ny * nx * np.sum(window**4) / np.sum(window**2) ** 2),
        )
        return replace(rings, power=rings.power / rings._smooth_mean()[shell])

    def up_to(self, k_max: float) -> Rings:
        """Return the part of the spectrum below a frequency."""
        keep = np.hypot(self.kx, self.ky) <= k_max
        shell = self.shell[keep]
        slow = _splines(int(shell.max()) + 1, PIECES)
        return replace(
            self, kx=self.kx[keep], ky=self.ky[keep], power=self.power[keep], shell=shell, slow=slow
        )

    @property
    def k_max(self) -> float:
        """Greatest frequency, 1/Å."""
        return float(np.hypot(self.kx, self.ky).max())

    def sums(self, values: Floats | None = None) -> Floats:
        """Return the sum of the values (or the number of pixels) in each shell."""
        total = np.bincount(self.shell, values, len(self.slow))
        return np.asarray(total, np.float64)

    def visibility(self, phase: Floats) -> tuple[Floats, Floats, float, Floats, Floats]:
        """Fit b(k) + a(k) sin^2(phase) to the power.

        Returns b and a of the shells, the sum of squared residuals, sin^2 (phase), and the
        inverse of the normal matrix.
        """
        square: Floats = np.sin(phase) ** 2
        inverse = np.asarray(np.linalg.inv(self._normal(square)), np.float64)
        right = [self.slow.T @ self.sums(self.power), self.slow.T @ self.sums(self.power * square)]
        solution = inverse @ np.concatenate(right)
        b = np.asarray(self.slow @ solution[:PIECES])
        a = np.asarray(self.slow @ solution[PIECES:])
        cost = float(np.sum((self.power - b[self.shell] - a[self.shell] * square) ** 2))
        return b, a, cost, square, inverse

    def step(self, phase: Floats, slopes: Floats) -> Step:
        """Return the Gauss-Newton equations for parameters that move the phase by slopes (q, n).

        a(k) and b(k) follow each step by themselves: they are projected out.
        """
        b, a, cost, square, inverse = self.visibility(phase)
        a_here = np.maximum(a, 0)[self.shell]
        model = b[self.shell] + a[self.shell] * square
        jacobian = slopes * (a_here * np.sin(2 * phase))
        for row in jacobian:
            moved = [self.slow.T @ self.sums(row), self.slow.T @ self.sums(row * square)]
            along = inverse @ np.concatenate(moved)
            row -= (self.slow @ along[:PIECES])[self.shell]
            row -= (self.slow @ along[PIECES:])[self.shell] * square
        scattered = jacobian * np.abs(model)
        return Step(
            cost,
            jacobian @ (self.power - model),
            jacobian @ jacobian.T,
            self.leak * (scattered @ scattered.T),
        )

    def _normal(self, square: Floats) -> Floats:
        H = self.slow
        counts, first, second = self.sums(), self.sums(square), self.sums(square**2)
        blocks = [[H.T * counts @ H, H.T * first @ H], [H.T * first @ H, H.T * second @ H]]
        normal: Floats = np.block(blocks)
        # a piece without a ring in it can't tell a from b: a grain of ridge lets it be
        return normal + 1e-4 * np.mean(np.diag(normal)) * np.eye(2 * PIECES)

    def _smooth_mean(self) -> Floats:
        """Return the smooth radial mean of the shells."""
        counts = np.maximum(self.sums(), 1e-9)
        profile = self.sums(self.power) / counts
        slow = _splines(len(counts), LEVEL_PIECES)
        log = np.log(np.maximum(profile, 1e-12 * profile.max()))
        for _ in range(8):  # the mean of the rings, not of their logarithm
            smooth = np.exp(log)
            target = log + profile / smooth - 1
            weight = slow.T * counts
            log = slow @ np.linalg.solve(
                weight @ slow + 1e-6 * np.eye(LEVEL_PIECES), weight @ target
            )
        return np.asarray(np.exp(log))


@dataclass(frozen=True, eq=False)
class Step:
    """Gauss-Newton equations: cost, gradient, normal matrix, and the gradient's covariance."""

    cost: float
    gradient: Floats
    normal: Floats
    scatter: Floats

    def covariance(self) -> Floats:
        """Return the covariance of the parameters (sandwich of the scatter)."""
        inverse = np.linalg.pinv(self.normal, rcond=1e-14, hermitian=True)
        return np.asarray(inverse @ self.scatter @ inverse)


def minimise(
    step: Callable[[Floats], Step], start: Floats, rounds: int = 30, tolerance: float = 1e-3
) -> tuple[Floats, Step]:
    """Levenberg and Marquardt's descent; `step(parameters)` returns a Step.

    Ends when a step is below `tolerance` standard deviations of each parameter.
    """
    parameters = start
    here = step(parameters)
    damping = 1e-3
    for _ in range(rounds):
        scale = np.diag(here.normal) + 1e-30
        move = np.linalg.solve(here.normal + damping * np.diag(scale), here.gradient)
        there = step(parameters + move)
        if there.cost <= here.cost:
            parameters, here, damping = parameters + move, there, damping / 5
            sigma = np.sqrt(np.maximum(np.diag(here.covariance()), 1e-30))
            if np.all(np.abs(move) < tolerance * sigma):
                break
        else:
            damping *= 8
            if damping > 1e8:
                break
    return parameters, here


def agreement(rings: Rings, phase: Floats) -> tuple[float, float]:
    """Return the finest period in nm with rings, and the correlation up to there.

    The correlation is that of the power with the model, both less what is smooth in k, and the
    power's own scatter (a periodogram's: its mean) taken out of its variance.
    """
    b, a, _, square, _ = rings.visibility(phase)
    n = np.maximum(rings.sums(), 1)
    weighted = rings.slow * np.sqrt(n)[:, None]
    smooth = rings.slow @ np.linalg.lstsq(weighted, rings.sums(square) / np.sqrt(n), rcond=None)[0]
    ring = square - smooth[rings.shell]
    level = (b + a * smooth)[rings.shell]
    excess = rings.power - level

    width = max(4, len(n) // 24)
    group = np.arange(len(n)) // width
    agree = np.bincount(group, rings.sums(ring * excess))
    scatter = np.sqrt(rings.leak * np.bincount(group, rings.sums((ring * level) ** 2)) + 1e-30)
    seen = np.flatnonzero(agree > 4 * scatter)
    if not len(seen):
        return float("inf"), 0.0
    inside = rings.shell < (int(seen[-1]) + 1) * width
    model = a[rings.shell] * ring
    # an exponential variable's square has twice the mean squared: half of power^2 is the model's
    product = float(np.sum((excess * model)[inside]))
    own = float(np.sum((0.5 * rings.power**2 - level * (level + 2 * model))[inside]))
    strength = float(np.sum((model**2)[inside]))
    correlation = max(product, 0.0) / max(np.sqrt(max(own, 0.0) * strength), 1e-30)
    k = np.hypot(rings.kx, rings.ky)
    return float(0.1 / k[inside].max()), min(float(correlation), 1.0)


def _spots(power: Floats, shell: Indices) -> npt.NDArray[np.bool_]:
    """Return which pixels are Bragg reflections: far above what their shell's scatter explains."""
    order = np.lexsort((power, shell))
    counts = np.bincount(shell)
    median = power[order][np.cumsum(counts) - counts + np.minimum(counts // 2, counts - 1)]
    return np.asarray(power > SPOT * median[shell])


def _splines(n: int, count: int) -> Floats:
    """Return `count` cubic B-splines over n shells with equally spaced knots, (n, count)."""
    knots = np.arange(-3.0, count + 1)
    at = np.linspace(0, count - 3, n, endpoint=False)
    return np.asarray(BSpline.design_matrix(at, knots, 3).toarray()[:, :count])
