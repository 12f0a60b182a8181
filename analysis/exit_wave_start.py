"""Where the restoration of an exit wave starts: the weak object's solution and the drift.

For a weak object the images are linear in the wave, and the beams k and -k of all images make a
problem of two unknowns: least squares, with the noise over the signal as regularisation (W. Coene
et al., Ultramicroscopy 64 (1996) 109-135, and the literature on linear restoration there).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft

from nanophantom.analysis.exit_wave_model import FocalSeriesModel
from nanophantom.analysis.modes import window_on

Floats = npt.NDArray[np.float64]
Complexes = npt.NDArray[np.complex128]

NEIGHBOURS = 4
"""Images of this many steps of defocus apart are compared for the first guess of the drift."""
SMOOTHNESS = 0.1
"""Weight of the drift's bends in the first guess, against that of a usual correlation peak."""


@dataclass(frozen=True, eq=False)
class Normal:
    """The linear problem's normal matrix for the pairs (c of k, conjugate of c of -k).

    [[first, cross], [conj(cross), second]] plus noise over signal on the diagonal, all beams.
    """

    first: Floats
    second: Floats
    cross: Complexes
    noise: float

    @classmethod
    def of(cls, model: FocalSeriesModel, defoci_A: Floats, noise: float) -> Normal:
        """Return the normal matrix of images at these defoci."""
        transfers = np.stack([model.linear_transfer(float(z)) for z in defoci_A])
        first = np.sum(np.abs(transfers) ** 2, axis=0)
        cross = np.sum(transfers * transfers[:, model.opposite], axis=0).conj()
        return cls(first, first[model.opposite], cross, noise)

    def solve(self, first: Complexes, second: Complexes) -> Complexes:
        """Return the first of the two unknowns for these right sides."""
        a, b = self.first + self.noise, self.second + self.noise
        return np.asarray((b * first - self.cross * second) / (a * b - np.abs(self.cross) ** 2))

    def inverse_root(self) -> tuple[Floats, Complexes]:
        """Return the first row of the matrix to the power of -1/2."""
        a, b = self.first + self.noise, self.second + self.noise
        root = np.sqrt(np.maximum(a * b - np.abs(self.cross) ** 2, 1e-300))
        # the root of a two by two matrix M is (M + root(det)) / root(trace + 2 root(det))
        scale = np.sqrt(a + b + 2 * root) / root
        denominator = a + b + 2 * root
        return scale * (b + root) / denominator, -scale * self.cross / denominator

    def radial_transfer(self, model: FocalSeriesModel) -> tuple[Floats, Floats, Floats]:
        """Return k (1/Å) and what the Wiener filter leaves of phases and of amplitudes there."""
        a, b = self.first + self.noise, self.second + self.noise
        determinant = a * b - np.abs(self.cross) ** 2
        # 1 - noise / (M + noise) for the vectors (1, -1) / root(2) and (1, 1) / root(2)
        even, odd = (a + b) / 2 / determinant, self.cross.real / determinant
        k = np.hypot(model.kx, model.ky)
        step = 1 / (model.pixel_A * max(model.shape))
        group = np.rint(k / step).astype(np.intp)
        size = np.bincount(group)
        known = (size > 0) & (np.arange(len(size)) > 0)
        means = [
            np.bincount(group, values)[known] / size[known]
            for values in (k, 1 - self.noise * (even + odd), 1 - self.noise * (even - odd))
        ]
        return means[0], means[1], means[2]


def linear_solution(
    model: FocalSeriesModel, normal: Normal, data: Floats, shifts_A: Floats, defoci_A: Floats
) -> Complexes:
    """Return the beams of a weak object from least squares with the noise as regularisation."""
    first = np.zeros(len(model.kx), np.complex128)
    second = np.zeros(len(model.kx), np.complex128)
    mean = float(data.mean())
    window = np.ones(model.frame)
    if max(model.margin):
        ny, nx = model.frame
        window = window_on(slice(0, ny), slice(0, nx), (ny, nx)).astype(np.float64)
    for image, shift, defocus in zip(data, shifts_A, defoci_A, strict=True):
        spectrum = model.spectrum((image - mean) * window) * model.shift_factor(shift).conj()
        transfer = model.linear_transfer(float(defocus))
        first += transfer.conj() * spectrum
        second += transfer[model.opposite] * spectrum
    beams: Complexes = normal.solve(first, second) / np.sqrt(mean)
    direct = (model.row == 0) & (model.column == 0)
    beams[direct] = 0
    scattered = float(np.sum(np.abs(beams) ** 2))
    # the direct beam has what the others leave; a start takes no more than half of it all
    if scattered > 0.5 * mean:
        beams *= np.sqrt(0.5 * mean / scattered)
        scattered = 0.5 * mean
    beams[direct] = np.sqrt(mean - scattered)
    return beams


def noise_to_signal(model: FocalSeriesModel, data: Floats, counts: float) -> float:
    """Return the variance of a beam's noise in one image over that of the beams themselves.

    The images' variance beyond the counts' own is twice the scattered intensity (fringes of all
    phases); without any the noise itself is taken for it.
    """
    variance = float(np.mean(np.var(data, axis=(1, 2)))) - 1 / counts
    scattered = max(variance, 0.1 / counts) / 2 / len(model.kx)
    return 1 / (counts * model.shape[0] * model.shape[1]) / scattered


def first_shifts(model: FocalSeriesModel, data: Floats, defoci_A: Floats) -> Floats:
    """Return the drift (n, 2) in Å from correlations of neighbours in the series.

    Thon rings of opposite sign would make two images anticorrelate: each spectrum is multiplied by
    its own sin(chi) first (R. R. Meyer, A. I. Kirkland and W. O. Saxton, Ultramicroscopy 92 (2002)
    89-109).
    """
    n, ny, nx = data.shape
    window = window_on(slice(0, ny), slice(0, nx), (ny, nx))
    spectra = []
    for image, defocus in zip(data, defoci_A, strict=True):
        spectrum = model.spectrum((image - image.mean()) * window)
        transfer = model.linear_transfer(float(defocus))
        sine = 1j * (transfer - transfer[model.opposite].conj())  # 2 sin(chi), odd part and all
        spectra.append(spectrum / (np.sqrt(np.abs(spectrum)) + 1e-12) * sine.conj())
    rows, right, trust = [], [], []
    for i in range(n):
        for j in range(max(0, i - NEIGHBOURS), i):
            peak, significance = _peak(model, spectra[i] * spectra[j].conj())
            rows.append(np.eye(n)[i] - np.eye(n)[j])
            right.append(peak)
            trust.append(significance**2)
    design, target = np.array(rows)[:, 1:], np.array(right)
    confidence = np.array(trust) / max(float(np.median(trust)), 1e-30)
    # an image without contrast, in focus, lies between its neighbours
    bends = SMOOTHNESS * np.diff(np.eye(n), 2, axis=0)[:, 1:]
    weight = confidence
    for _ in range(10):  # a false peak must not bend the path
        scaled = np.concatenate([design * weight[:, None], bends])
        wanted = np.concatenate([target * weight[:, None], np.zeros((len(bends), 2))])
        path = np.linalg.lstsq(scaled, wanted, rcond=None)[0]
        away = np.linalg.norm(target - design @ path, axis=1)
        usual = max(float(np.median(away)), 0.3)
        weight = confidence / (1 + (away / (2 * usual)) ** 2)
    return np.concatenate([np.zeros((1, 2)), path]) * model.pixel_A


def _peak(model: FocalSeriesModel, product: Complexes) -> tuple[Floats, float]:
    """Return where the correlation with this spectrum peaks, (dy, dx) in pixels, and how high.

    The height is in standard deviations of the correlation.
    """
    whole = np.zeros(model.shape, np.complex128)
    whole[model.row, model.column] = product
    correlation = fft.ifft2(whole, workers=1).real
    top = np.unravel_index(np.argmax(correlation), correlation.shape)
    height = float(correlation[top] / (np.std(correlation) + 1e-300))
    found = []
    for axis, n in enumerate(model.shape):
        at = [list(top) for _ in range(3)]
        for k, neighbour in enumerate(at):
            neighbour[axis] = (top[axis] + k - 1) % n
        before, here, after = (float(correlation[tuple(i)]) for i in at)
        bend = before + after - 2 * here
        rest = 0.5 * (before - after) / bend if bend < 0 else 0.0
        found.append((top[axis] + n // 2) % n - n // 2 + rest)
    return np.array(found), height
