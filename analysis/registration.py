"""Rigid registration of a noisy, drifting series of images.

A frame of 50 e/Å² has less than half a count per pixel: one frame says little about its own
shift, and a crystal offers a false answer at every lattice vector. Five things help:

* The power spectrum doesn't feel a shift, so its mean over the frames tells how much structure
  each ring of Fourier modes carries, and where Bragg peaks stand out of it.
* The modes are weighted so that their sum is a log-likelihood. The map of it is searched
  together with a prior that the specimen drifts smoothly.
* All pairs of frames, then of groups of them, must agree with each other (`pair_registration`).
* A slip by a lattice vector shows when the sum of all frames before it is compared with the sum
  of all after it.
* At last each frame is compared with the mean of all others, which holds what all pairs say.

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
from nanophantom.analysis.pair_registration import shifts_from_pairs
from nanophantom.analysis.shift_search import best_shift, nearby_shift


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
        elsewhere. Frames of mere noise reach 7: their shifts mean nothing.
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
    shifts = shifts_from_pairs(modes, stack, reach, smoothness_px)
    shifts = np.clip(shifts - shifts[0], -reach, reach)
    spectra = np.empty((n, len(modes.iy)), np.complex64)
    origin = np.zeros((n, 2), int)
    stale, settled = True, False
    for _ in range(iterations):
        if stale:
            # Each frame through one and the same window on the specimen, a part that all frames
            # saw: windows that differ would match best when moved onto each other.
            window = common_window(shifts, (ny, nx))
            origin = np.rint(shifts).astype(int)
            for i in range(n):
                spectra[i] = modes.of(stack[i], window, origin[i])
        modes = modes.with_measured_power(spectra, shifts - origin, window)
        search = _Search(modes, spectra, origin, reach, smoothness_px)
        before = shifts
        if not settled:
            shifts = np.clip(search.across_the_cuts(shifts), -reach, reach)
        shifts, significance = search.against_the_others(shifts, everywhere=not settled)
        settled = bool(np.all(np.abs(shifts - before) < 1))
        stale = bool(np.any(np.abs(shifts - origin) > 1))
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


@dataclass(frozen=True, eq=False)
class _Search:
    """The frames as spectra seen from whole-pixel origins, and how to improve their shifts."""

    modes: Modes
    spectra: Spectrum
    origin: npt.NDArray[np.int_]
    reach_px: float
    smoothness_px: float

    def moved_back(self, i: int, shifts: FloatArray) -> Spectrum:
        """Return the spectrum of a frame without its shift."""
        return np.asarray(self.spectra[i] * self.modes.phase(shifts[i] - self.origin[i]))

    def across_the_cuts(self, shifts: FloatArray) -> FloatArray:
        """Cut the series in two at every place and align what lies before and after.

        A slip by a unit cell leaves two crowds of frames, each content with itself: no single
        frame would leave its own.
        """
        n, shifts = len(shifts), shifts.copy()
        after = np.zeros(self.spectra.shape[1], np.complex64)
        for i in range(n):
            after += self.moved_back(i, shifts)
        before = np.zeros_like(after)
        for cut in range(1, n):
            own = self.moved_back(cut - 1, shifts)
            before += own
            after -= own
            terms = self.modes.correlation(after / (n - cut), before / cut, n - cut, cut)
            steps = np.diff(shifts[max(0, cut - 4) : cut + 4], axis=0)
            expected = np.median(steps, axis=0) - (shifts[cut] - shifts[cut - 1])
            peak = best_shift(self.modes, terms, expected, self.smoothness_px, self.reach_px)
            if np.any(np.abs(peak.shift) > 1):
                shifts[cut:] += peak.shift
                after *= self.modes.phase(peak.shift)
        return np.asarray(shifts - shifts[0])

    def against_the_others(
        self, shifts: FloatArray, everywhere: bool
    ) -> tuple[FloatArray, FloatArray]:
        """Align each frame with the mean of all others, everywhere in reach or near by only."""
        n, shifts = len(shifts), shifts.copy()
        significance = np.zeros(n)
        total = np.zeros(self.spectra.shape[1], np.complex64)
        for i in range(n):
            total += self.moved_back(i, shifts)
        for i in range(n):
            total -= self.moved_back(i, shifts)
            terms = self.modes.correlation(self.spectra[i], total / (n - 1), 1, n - 1)
            expected = np.mean([shifts[j] for j in (i - 1, i + 1) if 0 <= j < n], axis=0)
            origin, spread = self.origin[i], self.smoothness_px
            if everywhere:
                peak = best_shift(
                    self.modes, terms, expected - origin, spread, self.reach_px, -origin
                )
            else:
                start = shifts[i] - origin
                peak = nearby_shift(self.modes, terms, start, expected - origin, spread)
            shifts[i], significance[i] = peak.shift + origin, peak.significance
            total += self.moved_back(i, shifts)
        return shifts, significance


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
    if all(frame.min() == frame.max() for frame in stack):
        raise ValueError("images have no contrast: every frame is one grey, nothing can be aligned")
    return stack
