"""Rigid registration of a noisy, drifting series of images.

A frame of 50 e/Å² has less than half a count per pixel: one frame says little about its own
shift, and a crystal offers a false answer at every lattice vector. Four things help:

* The power spectrum doesn't feel a shift, so its mean over the frames tells which Fourier
  modes carry structure. Only these modes are kept and compared.
* Each frame is compared with the running mean of those already aligned, which soon has
  little noise; then, to convergence, with the mean of all others.
* The modes are weighted so that their sum is a log-likelihood. The map of it is searched
  together with a prior that the specimen drifts smoothly.
* Lattice vectors differ in likelihood by the edges of the crystal only. A good mean of the
  others tells them apart, hence the full search is repeated with it.

The shift is the maximum of a trigonometric polynomial, found by Newton's method to any fraction
of a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft

from nanophantom.analysis.modes import (
    FloatArray,
    Image,
    Modes,
    Spectrum,
    common_window,
    frequencies,
    overlap,
)

CANDIDATES = 8
"""How many peaks of the correlation are compared at their exact tops."""


@dataclass(frozen=True, eq=False)
class Registration:
    """Where each frame lies, and what the aligned frames add up to.

    Attributes
    ----------
    shifts_px : (n, 2) float64
        (dy, dx) of each frame: what lies at p in frame 0 lies at p + shift in frame i.
    aligned_sum : (ny, nx) float32
        Sum of the frames in the coordinates of frame 0, normalised to n frames everywhere.
    coverage : (ny, nx) int32
        How many frames contributed to each pixel (frame 0 always does).
    significance : (n,) float64
        Height of each frame's correlation peak in standard deviations of the correlation
        elsewhere. Frames of mere noise reach 6: their shifts mean nothing.
    """

    shifts_px: FloatArray
    aligned_sum: Image
    coverage: npt.NDArray[np.int32]
    significance: FloatArray


def register(
    images: npt.ArrayLike,
    max_shift_px: float | None = None,
    smoothness_px: float = 4.0,
    iterations: int = 3,
) -> Registration:
    """Find the drift of a series and add its frames up.

    Parameters
    ----------
    images : (n, ny, nx) array
        The frames: counts or floats of any gain and offset.
    max_shift_px : float, optional
        Largest shift from frame 0 that is considered, along y and x; a quarter of the
        shorter side if not given.
    smoothness_px : float
        Standard deviation of the prior: how far a frame may lie from where its neighbours
        lead to expect it. It decides only where the counts don't.
    iterations : int
        How often each frame is compared with the mean of the others.

    Raises
    ------
    ValueError
        If the images aren't a finite (n, ny, nx) stack of at least 8 x 8 pixels, or a
        parameter isn't positive.

    Notes
    -----
    With F the spectrum of the frame and T that of the mean of m others, noise power N per
    frame and signal power S, F given T is Gaussian about T S/(S + N/m), so that the
    log-likelihood of a shift d is the sum over modes of
    Re(F T* exp(2 pi i k d)) S / (N S + (N**2 + N S)/m).
    """
    stack = _checked(images)
    n, ny, nx = stack.shape
    reach = min(ny, nx) / 4 if max_shift_px is None else float(max_shift_px)
    if not (reach > 0 and smoothness_px > 0 and iterations > 0):
        raise ValueError("max_shift_px, smoothness_px and iterations must be positive")
    if n == 1:
        return Registration(
            np.zeros((1, 2)),
            stack[0].astype(np.float32),
            np.ones((ny, nx), np.int32),
            np.zeros(1),
        )

    modes = Modes.carrying_signal(stack)
    shifts = _chain(modes, stack, reach, smoothness_px)
    origin = np.zeros((n, 2), int)
    spectra = np.empty((n, len(modes.iy)), np.complex64)
    # Each frame through one and the same window on the specimen, a part that all frames saw:
    # windows that differ would match best when moved onto each other, by whole lattice vectors.
    window = common_window(shifts, (ny, nx))
    stale = np.ones(n, bool)
    for _ in range(iterations):
        for i in np.flatnonzero(stale):
            origin[i] = np.rint(shifts[i])
            spectra[i] = modes.of(stack[i], window, origin[i])
        modes = modes.with_measured_power(spectra, shifts - origin)
        shifts, significance = _against_the_others(
            modes, spectra, origin, shifts, reach, smoothness_px
        )
        stale = np.any(np.abs(shifts - origin) > 1, axis=1)
    shifts = shifts - shifts[0]
    aligned_sum, coverage = add_up(stack, shifts)
    return Registration(shifts, aligned_sum, coverage, significance)


def add_up(
    images: npt.NDArray[np.generic], shifts_px: FloatArray
) -> tuple[Image, npt.NDArray[np.int32]]:
    """Sum the frames (n, ny, nx), each moved back by its shift, and count them per pixel.

    Whole pixels are moved by slicing, so nothing wraps round. The rest, at most half a pixel,
    is a Fourier phase, which leaves white noise white (an interpolation would smooth it).
    """
    n, ny, nx = images.shape
    total = np.zeros((ny, nx), np.float32)
    coverage = np.zeros((ny, nx), np.int32)
    ky, kx = frequencies(ny, nx)
    for image, shift in zip(images, shifts_px, strict=True):
        whole = np.rint(shift).astype(int)
        frame = image.astype(np.float32)
        rest = shift - whole
        if np.any(rest != 0):
            spectrum = fft.rfft2(frame, workers=1)
            spectrum *= np.exp(2j * np.pi * ky * rest[0]).astype(np.complex64)
            spectrum *= np.exp(2j * np.pi * kx * rest[1]).astype(np.complex64)
            frame = fft.irfft2(spectrum, s=(ny, nx), workers=1)
        (to_y, from_y), (to_x, from_x) = overlap(ny, whole[0]), overlap(nx, whole[1])
        total[to_y, to_x] += frame[from_y, from_x]
        coverage[to_y, to_x] += 1
    total *= np.float32(n) / np.maximum(coverage, 1)
    return total, coverage


def _chain(
    modes: Modes, stack: npt.NDArray[np.generic], reach: float, smoothness_px: float
) -> FloatArray:
    """Align each frame with the running mean of those before it; return the shifts (n, 2)."""
    n, (ny, nx) = len(stack), modes.shape
    shifts = np.zeros((n, 2))
    total, count = np.zeros((ny, nx), np.float32), np.zeros((ny, nx), np.float32)
    for i in range(n):
        if i > 0:
            recent = shifts[max(0, i - 6) : i]
            # Divided by one step too many: few steps tell little of the speed to come.
            velocity = (recent[-1] - recent[0]) / len(recent)
            expected = np.clip(recent[-1] + velocity, -reach, reach)
            origin = np.rint(expected).astype(int)
            # Mean and frame are compared through the same window: what both saw.
            window = common_window(np.stack([np.zeros(2, int), origin]), (ny, nx))
            frame = modes.of(stack[i], window, origin)
            mean = modes.of(total / np.maximum(count, 1), window, np.zeros(2, int))
            terms = modes.correlation(frame, mean, i)
            rest, _ = _best_shift(modes, terms, expected - origin, reach, smoothness_px, origin)
            shifts[i] = origin + rest
        whole = np.rint(shifts[i]).astype(int)
        (to_y, from_y), (to_x, from_x) = overlap(ny, whole[0]), overlap(nx, whole[1])
        total[to_y, to_x] += stack[i][from_y, from_x]
        count[to_y, to_x] += 1
    return shifts


def _against_the_others(
    modes: Modes,
    spectra: Spectrum,
    origin: npt.NDArray[np.int_],
    shifts: FloatArray,
    reach: float,
    smoothness_px: float,
) -> tuple[FloatArray, FloatArray]:
    """Align each frame with the mean of all others as they lie now."""
    n = len(spectra)
    shifts = shifts.copy()
    significance = np.zeros(n)
    total = np.zeros(spectra.shape[1], np.complex64)
    for i in range(n):
        total += spectra[i] * modes.phase(shifts[i] - origin[i])
    for i in range(n):
        own = spectra[i] * modes.phase(shifts[i] - origin[i])
        terms = modes.correlation(spectra[i], (total - own) / (n - 1), n - 1)
        neighbours = [shifts[j] for j in (i - 1, i + 1) if 0 <= j < n]
        expected = np.mean(neighbours, axis=0) - origin[i]
        shift, significance[i] = _best_shift(
            modes, terms, expected, reach, smoothness_px, origin[i]
        )
        shifts[i] = shift + origin[i]
        total += spectra[i] * modes.phase(shift) - own
    return shifts, significance


def _best_shift(
    modes: Modes,
    terms: npt.NDArray[np.complex128],
    expected: FloatArray,
    reach: float,
    smoothness_px: float,
    origin: npt.NDArray[np.int_],
) -> tuple[FloatArray, float]:
    """Return the most probable shift and the height of its peak over the noise."""
    if not len(terms):
        return expected, 0.0
    ny, nx = modes.shape
    # The map on a grid twice as fine as its finest mode asks for.
    gy = min(ny, fft.next_fast_len(int(4 * np.max(np.abs(modes.ky)) * ny) + 8))
    gx = min(nx, fft.next_fast_len(int(4 * np.max(modes.kx) * nx) + 8, real=True))
    grid = np.zeros((gy, gx // 2 + 1), np.complex64)
    row = np.rint(modes.ky * ny).astype(int) % gy
    # The half plane of irfft2 counts its modes twice by itself.
    grid[row, modes.ix] = terms / modes.multiplicity
    likelihood = fft.irfft2(grid, s=(gy, gx), workers=1) * np.float32(gy * gx)
    dy, dx = fft.fftfreq(gy, 1 / ny), fft.fftfreq(gx, 1 / nx)
    rows = np.flatnonzero(np.abs(dy + origin[0]) <= reach + ny / gy)
    columns = np.flatnonzero(np.abs(dx + origin[1]) <= reach + nx / gx)
    dy, dx = dy[rows], dx[columns]
    posterior = likelihood[np.ix_(rows, columns)]
    posterior -= 0.5 * ((dy[:, None] - expected[0]) / smoothness_px) ** 2
    posterior -= 0.5 * ((dx[None, :] - expected[1]) / smoothness_px) ** 2

    # Lattice vectors give peaks of nearly the same height, and the grid meets none of them at
    # its very top: climb the best of them all before choosing.
    step = np.array([ny / gy, nx / gx])
    climbed = []
    for _ in range(CANDIDATES):
        y, x = np.unravel_index(np.argmax(posterior), posterior.shape)
        start = np.array([dy[y], dx[x]])
        climbed.append(_climb(modes, terms, start, expected, smoothness_px, step))
        around = (np.abs(dy - dy[y]) <= 3 * step[0], np.abs(dx - dx[x]) <= 3 * step[1])
        posterior[np.ix_(*around)] = -np.inf
    shift, _, height = max(climbed, key=lambda candidate: candidate[1])
    noise = float(np.sqrt(0.5 * np.sum(np.abs(terms) ** 2)))
    return shift, height / max(noise, 1e-30)


def _climb(
    modes: Modes,
    terms: npt.NDArray[np.complex128],
    start: FloatArray,
    expected: FloatArray,
    smoothness_px: float,
    step_px: FloatArray,
) -> tuple[FloatArray, float, float]:
    """Follow the exact log-posterior from a grid node to its maximum (Newton's method).

    Returns the shift, the log-posterior and the log-likelihood there.
    """
    wy, wx = 2 * np.pi * modes.ky, 2 * np.pi * modes.kx
    prior = 1 / smoothness_px**2

    def wave(shift: FloatArray) -> npt.NDArray[np.complex128]:
        return np.asarray(terms * np.exp(1j * (wy * shift[0] + wx * shift[1])))

    shift = start.astype(np.float64)
    for _ in range(8):
        here = wave(shift)
        gradient = np.array([-np.sum(wy * here.imag), -np.sum(wx * here.imag)])
        gradient -= (shift - expected) * prior
        yy, yx, xx = (np.sum(w * here.real) for w in (wy**2, wy * wx, wx**2))
        curvature = np.array([[yy + prior, yx], [yx, xx + prior]])
        if np.linalg.eigvalsh(curvature)[0] <= 0:
            break
        move = np.clip(np.linalg.solve(curvature, gradient), -step_px, step_px)
        shift += move
        if np.max(np.abs(move)) < 1e-3:
            break
    if np.any(np.abs(shift - start) > 2 * step_px):
        shift = start
    height = float(np.sum(wave(shift).real))
    return shift, height - 0.5 * prior * float(np.sum((shift - expected) ** 2)), height


def _checked(images: npt.ArrayLike) -> npt.NDArray[np.generic]:
    """Return the stack as it is, or say what is wrong with it."""
    stack = np.asarray(images)
    if stack.ndim != 3 or stack.shape[0] < 1 or min(stack.shape[1:]) < 8:
        raise ValueError(
            f"a series has the shape (frames, ny, nx) with sides of 8 or more, got {stack.shape}"
        )
    if stack.dtype.kind not in "uif":
        raise ValueError(f"images must hold real numbers, got {stack.dtype}")
    if stack.dtype.kind == "f" and not all(np.isfinite(frame).all() for frame in stack):
        raise ValueError("images must be finite: they hold NaN or infinite values")
    return stack
