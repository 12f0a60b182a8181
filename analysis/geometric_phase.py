"""Strain from an image of a lattice by geometric phase analysis (GPA).

One set of lattice fringes exp(2 pi i g.x) of the reference crystal, displaced by u, is seen as
exp(2 pi i g.(x' - u)) at x' = x + u: its phase less that of the reference is P = -2 pi g.u, and
its local reciprocal vector is g' = g + grad P / 2 pi. Two of them give the whole deformation,
(g1', g2') = F**-T (g1, g2), without any assumption of small strain (M. J. Hytch, E. Snoeck and
R. Kilaas, Ultramicroscopy 74 (1998) 131).

Each set of fringes is cut out with a Gaussian around its reflection: in real space the image,
multiplied by exp(-2 pi i g.x), is averaged under a Gaussian of standard deviation 1/(2 pi s).
That is the resolution. Gradients are taken of the complex image, so no phase is ever unwrapped
for a strain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from nanophantom.analysis.lattice import Strain, checked_vectors, cross, strain_of
from nanophantom.analysis.noise import Noise

FloatArray = npt.NDArray[np.float64]
ComplexArray = npt.NDArray[np.complex128]
BoolArray = npt.NDArray[np.bool_]
Box = tuple[int, int, int, int]

MASK_SHARE = 0.2
"""Default mask: its standard deviation in distances to the nearest other reflection."""
LEAST_NEIGHBOUR = 0.03
"""Reflections with less than this part of the power of those chosen don't disturb them."""
MARGIN = 4.0
"""Nearer to the image's edge than so many resolutions the fringes are cut off."""
LEAST_SIGNAL_TO_NOISE = 5.0
"""Fringes weaker than this in their own noise have no phase."""


@dataclass(frozen=True, eq=False)
class GeometricPhase:
    """Strain maps in the frame of the image, x to the right and y down.

    A point x of the reference lies at x' = x + u; all maps are given at x'. A positive rotation
    turns +x towards +y.

    Attributes
    ----------
    exx, eyy, exy, rotation_rad : (ny, nx)
        Components of du/dx, see :func:`nanophantom.analysis.lattice.strain_of`.
    sigma_exx, sigma_eyy, sigma_exy : (ny, nx)
        Their standard deviations from the noise of the image; that of the rotation is
        sigma_exy.
    valid : (ny, nx)
        Where both sets of fringes are strong enough and whole. Elsewhere the maps mean nothing.
    reflections_per_px : (2, 2)
        Rows (gx, gy) of the reference lattice.
    fringes : (2, ny, nx) complex
        Amplitude and phase P of each set relative to the reference.
    resolution_px : float
        Standard deviation of the Gaussian that the maps are averaged under.
    """

    exx: FloatArray
    eyy: FloatArray
    exy: FloatArray
    rotation_rad: FloatArray
    sigma_exx: FloatArray
    sigma_eyy: FloatArray
    sigma_exy: FloatArray
    valid: BoolArray
    reflections_per_px: FloatArray
    fringes: ComplexArray
    resolution_px: float

    def displacement_px(self) -> FloatArray:
        """Return u (2, ny, nx), as (ux, uy), with zero mean; not a number where not valid.

        The phases are unwrapped over the valid region. Around a dislocation they can't be:
        a cut is left, across which u jumps by the Burgers vector.
        """
        from skimage.restoration import unwrap_phase

        unwrap: Any = unwrap_phase
        phases = [
            np.ma.filled(unwrap(np.ma.array(np.angle(f), mask=~self.valid)), np.nan)
            for f in self.fringes
        ]
        # P_k = -2 pi g_k.u for both k
        back = np.linalg.inv(-2 * np.pi * self.reflections_per_px)
        u = np.einsum("ik,kyx->iyx", back, np.stack(phases))
        return np.asarray(u - np.nanmean(u, axis=(1, 2), keepdims=True))


def geometric_phase(
    image: npt.ArrayLike,
    reflections_per_px: npt.ArrayLike | None = None,
    resolution_px: float | None = None,
    reference: npt.ArrayLike | Box | None = None,
    variance: npt.ArrayLike | None = None,
    min_amplitude: float = 0.2,
) -> GeometricPhase:
    """Measure strain relative to a reference region of the same image.

    Parameters
    ----------
    image : (ny, nx)
        Any signal in which the lattice shows.
    reflections_per_px : (2, 2), optional
        Two rows (gx, gy), cycles a pixel. Found by :func:`find_reflections` if not given. They
        need be no better than the mask is wide: the reference region sets them.
    resolution_px : float, optional
        Standard deviation r of the average in real space; the mask's in reciprocal space is
        1/(2 pi r). By default a fifth of the way to the nearest other reflection.
    reference : (ny, nx) of bool, or (y0, y1, x0, x1), optional
        Where strain and rotation are zero on average: the whole valid region if not given.
    variance : number or (ny, nx), optional
        Variance of the noise of a pixel; the image itself if it holds counts. Measured from the
        image if not given.
    min_amplitude : float
        Least amplitude of valid fringes, relative to their median in the reference region.

    Raises
    ------
    ValueError
        The image isn't finite and 16 x 16 or larger, no two sets of fringes stand out, or no
        part of the reference region is valid.
    """
    data = _checked(image)
    if reflections_per_px is None:
        g, spacing = _found_reflections(data)
    else:
        g = checked_vectors(reflections_per_px, "reflections_per_px")
        pairs = np.stack([g[0], g[1], g[0] - g[1], g[0] + g[1]])
        spacing = float(np.min(np.hypot(*pairs.T)))
    r = 1 / (2 * np.pi * MASK_SHARE * spacing) if resolution_px is None else float(resolution_px)
    if not 0.5 <= r <= min(data.shape) / 10:
        raise ValueError(f"resolution_px must be from 0.5 to a tenth of the image, it is {r:.3g}")

    flat = data - np.mean(data)
    fringes, gradients = zip(*(_fringes(flat, k, r) for k in g), strict=True)
    amplitude = np.abs(np.stack(fringes))
    noise = _phase_noise(data, variance, g, np.stack(fringes), r)
    # Circular to first order, the noise of a phase is that of its gradient times sqrt(2) r.
    to_noise = 1 / (np.sqrt(2) * r * np.sqrt(np.stack([noise[0, 0], noise[1, 1]])))
    whole = _inside(data.shape, r) & np.all(to_noise > LEAST_SIGNAL_TO_NOISE, axis=0)

    region = _region(reference, data.shape) & whole
    if not np.any(region):
        raise ValueError(
            "the fringes stand out nowhere in the reference region, four resolutions from the "
            "edges: choose another region or other reflections"
        )
    strong = amplitude > min_amplitude * np.median(amplitude[:, region], axis=1)[:, None, None]
    valid = whole & np.all(strong, axis=0)
    region &= valid

    slopes = np.stack(
        [
            np.imag(np.conj(f) * d) / np.maximum(np.abs(f) ** 2, 1e-300)
            for f, d in zip(fringes, gradients, strict=True)
        ]
    )  # (reflection, axis x or y, ny, nx): grad P
    mean = np.mean(slopes[:, :, region], axis=-1)
    g_reference = g + mean / (2 * np.pi)
    local = g[:, :, None, None] + slopes / (2 * np.pi)
    strain, sigma = _strain(local, g_reference, noise)

    y, x = (np.arange(n) for n in data.shape)
    turned = [
        f * np.exp(-1j * (m[0] * x[None, :] + m[1] * y[:, None]))
        for f, m in zip(fringes, mean, strict=True)
    ]
    turned = [f * np.exp(-1j * np.angle(np.sum(f[region]))) for f in turned]
    return GeometricPhase(*strain, *sigma, valid, g_reference, np.stack(turned), r)


def find_reflections(image: npt.ArrayLike) -> FloatArray:
    """Return two reflections, rows (gx, gy) in cycles a pixel, that suit strain best.

    The noise of a strain goes with 1/(amplitude * |g|), so the reflection with the largest
    product comes first, and then the best that is 30 degrees or more away from it.

    Raises
    ------
    ValueError
        No two sets of fringes stand out from the spectrum.
    """
    return _found_reflections(_checked(image))[0]


def _found_reflections(data: FloatArray) -> tuple[FloatArray, float]:
    """Return two reflections and the distance of the nearest other one to either."""
    ny, nx = data.shape
    window = np.hanning(ny + 2)[1:-1, None] * np.hanning(nx + 2)[None, 1:-1]
    flat = (data - np.sum(data * window) / np.sum(window)) * window
    power = np.abs(fft.fftshift(fft.fft2(flat, workers=1))) ** 2
    ky, kx = (fft.fftshift(fft.fftfreq(n)) for n in (ny, nx))
    k = np.hypot(ky[:, None], kx[None, :])
    peak = (power == ndimage.maximum_filter(power, 5, mode="wrap")) & (k > 4 / min(ny, nx))
    # The spectrum of noise is exponential: 30 means is one false peak in exp(30).
    floor = 30 * np.median(power[k > 0.1]) / np.log(2)
    peak &= power > max(floor, 1e-4 * np.max(power[peak], initial=0.0))
    peak &= (np.abs(ky) < 0.45)[:, None] & (np.abs(kx) < 0.45)[None, :]
    rows, columns = np.nonzero(peak)
    g = np.stack(
        [
            kx[columns] + _top(power, rows, columns, 1) / nx,
            ky[rows] + _top(power, rows, columns, 0) / ny,
        ],
        axis=1,
    )
    half = (g[:, 0] > 1e-9) | ((np.abs(g[:, 0]) <= 1e-9) & (g[:, 1] > 0))
    merit = np.where(half, power[rows, columns] * np.sum(g**2, axis=1), 0.0)
    if not np.any(merit > 0):
        raise ValueError("no fringes stand out from the image's spectrum: give the reflections")
    first = g[np.argmax(merit)]
    length = np.hypot(*g.T)
    apart = np.abs(cross(first, g)) >= 0.5 * np.hypot(*first) * length
    if not np.any(apart & half):
        raise ValueError("fringes run in one direction only: give the second reflection")
    best = [int(np.argmax(merit)), int(np.argmax(np.where(apart, merit, -1.0)))]
    chosen, height = g[best], power[rows, columns]
    shortest = float(np.min(np.hypot(*chosen.T)))
    # What lies closer than a third of the way to the origin is the same reflection, of a part
    # of the image under strain.
    distance = np.hypot(*(g[None, :, :] - chosen[:, None, :]).transpose(2, 0, 1))
    strong = height > LEAST_NEIGHBOUR * np.min(height[best])
    others = distance[(distance > shortest / 3) & strong]
    return chosen, float(min(shortest, np.min(others, initial=np.inf)))


def _top(
    power: FloatArray, rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp], axis: int
) -> FloatArray:
    """Return where between samples the parabola through the log of a peak has its top."""
    dy, dx = (1, 0) if axis == 0 else (0, 1)
    ny, nx = power.shape
    low, mid, high = (
        np.log(power[(rows + s * dy) % ny, (columns + s * dx) % nx] + 1e-300) for s in (-1, 0, 1)
    )
    bend = np.minimum(low + high - 2 * mid, -1e-12)
    return np.asarray(np.clip(0.5 * (low - high) / bend, -0.5, 0.5))


def _gaussian_filtered(image: ComplexArray, r: float) -> list[ComplexArray]:
    """Return the image averaged under a Gaussian, and the derivatives of that along x and y.

    Beyond its edges the image is zero.
    """
    ny, nx = image.shape
    pad = int(np.ceil(6 * r))
    size = [fft.next_fast_len(n + pad) for n in (ny, nx)]
    ky, kx = fft.fftfreq(size[0])[:, None], fft.fftfreq(size[1])[None, :]
    spectrum = fft.fft2(image, s=size, workers=1)
    spectrum *= np.exp(-2 * (np.pi * r) ** 2 * (ky**2 + kx**2))
    factors: list[npt.ArrayLike] = [1.0, 2j * np.pi * kx, 2j * np.pi * ky]
    return [fft.ifft2(spectrum * f, workers=1)[:ny, :nx] for f in factors]


def _wave(shape: tuple[int, ...], g: FloatArray) -> ComplexArray:
    """Return exp(-2 pi i g.x)."""
    y, x = (np.exp(-2j * np.pi * c * np.arange(n)) for n, c in zip(shape, g[::-1], strict=True))
    return np.asarray(y[:, None] * x[None, :])


def _fringes(flat: FloatArray, g: FloatArray, r: float) -> tuple[ComplexArray, ComplexArray]:
    """Return the complex fringes (ny, nx) of a reflection and their gradient (2, ny, nx)."""
    fringes, along_x, along_y = _gaussian_filtered(flat * _wave(flat.shape, g), r)
    return fringes, np.stack([along_x, along_y])


def _phase_noise(
    data: FloatArray,
    variance: npt.ArrayLike | None,
    g: FloatArray,
    fringes: ComplexArray,
    r: float,
) -> FloatArray:
    """Return covariances (2, 2, ny, nx) of the slopes of two phases along one axis (x or y).

    The slope of a phase is the image under a kernel, the derivative of a Gaussian times
    sin(2 pi g.x' - phase), over the amplitude. So white noise of variance v gives the slopes the
    covariance sum(v K_k K_l). The product of two sines is one wave of k - l less one of k + l:
    these are the components of v there, for a Poisson image those of the image itself. Slopes
    along x and along y are uncorrelated, as far as v varies slowly or in lattice periods.
    """
    if variance is None:
        noise = Noise.of(data, np.ones(data.shape))
        v = noise.level * data if noise.is_counts else np.full(data.shape, noise.level)
    else:
        v = np.array(np.broadcast_to(np.asarray(variance, np.float64), data.shape))
        if not (np.all(np.isfinite(v)) and np.mean(v) >= 0):
            raise ValueError("variance must be finite and not negative")
    gain = 1 / (8 * np.pi * r**4)  # sum of the squares of the Gaussian's derivative
    inside = np.maximum(
        _gaussian_filtered(np.ones(data.shape, complex), r / np.sqrt(2))[0].real, 0.1
    )

    def component(q: FloatArray) -> ComplexArray:
        return gain * _gaussian_filtered(v * _wave(v.shape, q), r / np.sqrt(2))[0] / inside

    amplitude = np.maximum(np.abs(fringes), 1e-300)
    unit = np.conj(fringes) / amplitude
    covariance = np.empty((2, 2, *data.shape))
    for k, m in ((0, 0), (0, 1), (1, 1)):
        same = component(g[k] - g[m]) * unit[k] * np.conj(unit[m])
        sum_ = component(g[k] + g[m]) * unit[k] * unit[m]
        covariance[k, m] = 0.5 * np.real(same - sum_) / (amplitude[k] * amplitude[m])
        covariance[m, k] = covariance[k, m]
    floor = 1e-24 * gain  # rounding
    for k in (0, 1):
        covariance[k, k] = np.maximum(covariance[k, k], floor)
    return covariance


def _strain(
    local: FloatArray, reference: FloatArray, noise: FloatArray
) -> tuple[Strain, tuple[FloatArray, FloatArray, FloatArray]]:
    """Return strain from local reciprocal vectors (2, 2, ny, nx), rows g, and its uncertainty."""
    # Columns: (g1', g2') = F**-T (g1, g2), so F = (G' G**-1)**-T.
    inverse_transposed = np.einsum("kiyx,kj->yxij", local, np.linalg.inv(reference.T))
    deformation = np.linalg.inv(inverse_transposed).swapaxes(-1, -2)
    # To first order du_j/dx_i = -sum_k (G**-1)_kj dP_k/dx_i / 2 pi, the same for i = x and y.
    t = -np.linalg.inv(reference) / (2 * np.pi)
    xx, yy = (np.einsum("k,m,kmyx->yx", t[j], t[j], noise) for j in (0, 1))
    sigma = np.sqrt(xx), np.sqrt(yy), 0.5 * np.sqrt(xx + yy)
    return strain_of(deformation), sigma


def _inside(shape: tuple[int, ...], r: float) -> BoolArray:
    margin = int(np.ceil(MARGIN * r))
    inside = np.zeros(shape, bool)
    inside[margin : shape[0] - margin, margin : shape[1] - margin] = True
    return inside


def _region(reference: npt.ArrayLike | Box | None, shape: tuple[int, ...]) -> BoolArray:
    """Return the reference region as a mask."""
    if reference is None:
        return np.ones(shape, bool)
    given = np.asarray(reference)
    if given.shape == (4,):
        y0, y1, x0, x1 = given.tolist()
        if not (0 <= y0 < y1 <= shape[0] and 0 <= x0 < x1 <= shape[1]):
            raise ValueError(f"the reference box (y0, y1, x0, x1) must lie inside {shape}: {given}")
        region = np.zeros(shape, bool)
        region[int(y0) : int(y1), int(x0) : int(x1)] = True
        return region
    if given.shape != shape or given.dtype != bool:
        raise ValueError(f"reference is a mask of bool {shape} or a box of four numbers")
    return np.array(given)


def _checked(image: npt.ArrayLike) -> FloatArray:
    data = np.asarray(image, np.float64)
    if data.ndim != 2 or min(data.shape) < 16:
        raise ValueError(f"an image is (ny, nx), 16 x 16 or larger, got {data.shape}")
    if not np.all(np.isfinite(data)):
        raise ValueError("an image must be finite: it holds NaN or infinite values")
    return data
