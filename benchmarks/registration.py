"""Registration of low-signal stacks: seconds, precision over its bound, unit-cell jumps.

The object is a crystalline disc with an edge on an amorphous film, one count a pixel or less. The
residual is the rms over frames, the series' common position taken away, and the bound that of a
series whose specimen is unknown. A frame has jumped if it lies off by more than 2 px.
"""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from nanophantom.analysis.registration import register
from nanophantom.validation.drift_limit import drift_limit

Floats = npt.NDArray[np.float64]
SEEDS = 20


class Particle:
    """A crystalline disc with an edge on an amorphous film, mean about one, at any shift."""

    def __init__(self, side_px: int, rng: np.random.Generator, amorphous: float = 0.08) -> None:
        self.side, self.margin = side_px, 64
        n = side_px + 2 * self.margin
        y, x = np.arange(n)[:, None] - n / 2, np.arange(n)[None, :] - n / 2
        self.ky, self.kx = np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n)[None, :]
        directions = 0.3 + np.pi / 3 * np.arange(3)
        lattice = sum(np.cos(2 * np.pi / 9 * (np.cos(a) * x + np.sin(a) * y)) for a in directions)
        inside = 1 / (1 + np.exp((np.hypot(y + 3, x - 5) - 0.3 * side_px) / 3))
        film = np.fft.rfft2(rng.normal(size=(n, n)))
        film *= np.exp(-((np.hypot(self.ky, self.kx) / 0.2) ** 4))
        grain = np.fft.irfft2(film, (n, n))
        image = 1 + (lattice / 6 - 0.1) * inside + amorphous * grain / grain.std()
        self.spectrum, self.n = np.fft.rfft2(np.maximum(image, 0.05)), n

    def at(self, shift: Floats) -> Floats:
        """Return the image (side, side), moved by (dy, dx)."""
        phase = np.exp(-2j * np.pi * (self.ky * shift[0] + self.kx * shift[1]))
        image = np.fft.irfft2(self.spectrum * phase, (self.n, self.n))
        inner = slice(self.margin, self.margin + self.side)
        return np.maximum(image[inner, inner], 0)


def drift(n: int, rng: np.random.Generator, speed: float, walk: float) -> Floats:
    """Return n shifts (n, 2): a constant velocity and a random walk, zero in frame 0."""
    direction = rng.uniform(0, 2 * np.pi)
    steps = rng.normal(0, walk, (n, 2))
    steps += speed * np.array([np.sin(direction), np.cos(direction)])
    path = np.cumsum(steps, axis=0)
    return np.asarray(path - path[0])


def series(
    particle: Particle, path: Floats, dose: float, rng: np.random.Generator
) -> npt.NDArray[np.uint16]:
    """Return the counts of all frames at a dose in counts a pixel and frame."""
    return np.array([rng.poisson(dose * particle.at(d)) for d in path], np.uint16)


def seconds(n: int = 100, side_px: int = 1024) -> tuple[float, float]:
    """Return wall and processor seconds of one registration."""
    rng = np.random.default_rng(0)
    stack = series(Particle(side_px, rng), drift(n, rng, 0.6, 0.5), 0.4, rng)
    wall, processor = time.perf_counter(), time.process_time()
    register(stack)
    return time.perf_counter() - wall, time.process_time() - processor


def residuals(dose: float, n: int = 30, side_px: int = 384) -> tuple[Floats, Floats]:
    """Return the residual over its bound and the share of jumped frames, one a seed."""
    particle = Particle(side_px, np.random.default_rng(1))
    limit = np.sqrt(np.mean(drift_limit(dose * particle.at(np.zeros(2)), n) ** 2))
    ratio, jumped = np.zeros(SEEDS), np.zeros(SEEDS)
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        path = drift(n, rng, 0.6, 0.5)
        error = register(series(particle, path, dose, rng)).shifts_px - path
        ratio[seed] = np.sqrt(np.mean((error - error.mean(axis=0)) ** 2)) / limit
        off = error - np.median(error, axis=0)
        jumped[seed] = np.mean(np.hypot(off[:, 0], off[:, 1]) > 2)
    return ratio, jumped


def main() -> None:
    """Print seconds, residuals over bounds and jumps."""
    wall, processor = seconds()
    print(f"100 frames of 1024 x 1024: {wall:.1f} s, {processor:.1f} s of one processor")
    print(f"{'counts/px':>10}{'residual/bound':>16}{'worst':>8}{'jumped':>9}  ({SEEDS} seeds)")
    for dose in (0.05, 0.1, 0.2, 0.4, 1.0):
        ratio, jumped = residuals(dose)
        print(f"{dose:10.2f}{np.median(ratio):16.2f}{ratio.max():8.2f}{jumped.mean():9.2%}")
