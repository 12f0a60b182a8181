"""From an exit wave to the image to be expected: lens, aperture, partial coherence.

The wave comes as its Fourier coefficients (the *beams*); the image is |psi(r)|^2 in units of the
incident intensity, without noise. No beam is lost but at the aperture, so the mean of the image
is the intensity that passed it: a dose can be counted through the optics.

Temporal coherence is an explicit incoherent average over defocus. Spatial coherence is the
quasi-coherent envelope exp(-sigma^2 |grad chi|^2 / 2) on the amplitude (J. Frank, Optik 38 (1973)
519-536; R. H. Wade & J. Frank, Optik 49 (1977) 81-92), taken anew at every defocus. An envelope on
the amplitude is meant for the interference with the direct beam; on its own it would also take
away intensity. A beam's interference with itself needs no coherence, so that is put right exactly:
the zero frequency of the image is set to the sum of |psi(k)|^2.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft
from numpy.polynomial.hermite_e import hermegauss

from nanophantom.simcore.electrons.aberrations import ORDERS, chi, chi_gradient
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.fft import Transform, fast_length

Floats = npt.NDArray[np.float64]
Complexes = npt.NDArray[np.complex64] | npt.NDArray[np.complex128]


def expected_image(
    wave_k: Complexes,
    *,
    extent_A: tuple[float, float],
    energy_kev: float,
    coefficients: Mapping[str, float],
    shape: tuple[int, int],
    aperture_mrad: float | None = None,
    focal_spread_A: float = 0.0,
    convergence_mrad: float = 0.0,
    tilt_mrad: tuple[float, float] = (0.0, 0.0),
    focal_points: int = 7,
) -> npt.NDArray[np.float32]:
    """Return the noise-free image of an exit wave.

    Parameters
    ----------
    wave_k : ndarray of complex, shape (my, mx)
        Fourier coefficients of the exit wave, psi(r) = sum_k wave_k exp(+2 pi i k r), in numpy's
        FFT order. The sum of |wave_k|^2 is the fraction of the incident intensity: a plane wave
        has wave_k[0, 0] = 1.
    extent_A : tuple of float
        Size (Ly, Lx) of the periodic field of view in Å.
    energy_kev : float
        Electron energy.
    coefficients : mapping of str to float
        Aberrations, see `aberrations` (C in Å, phi in rad).
    shape : tuple of int
        Pixels (ny, nx) of the image over the same field of view. The image is band-limited to
        them, not aliased; pixels coarser than the image's detail may ring slightly below zero.
    aperture_mrad : float, optional
        Semiangle of the objective aperture, a hard edge; none if not given.
    focal_spread_A : float
        Standard deviation of the defocus.
    convergence_mrad : float
        Standard deviation, along one axis, of the Gaussian distribution of illumination angles
        (the half-angle at 1/e is sqrt(2) times this).
    tilt_mrad : tuple of float
        Direction (x, y) of the illumination against the axis of the lens; beams then count from
        it. A tilted beam also shifts the whole image by grad chi / 2 pi, which is taken out, as
        an operator does with the image deflectors: columns stay where they are.
    focal_points : int
        Points of the Gauss-Hermite average over defocus. A quadrature of n points follows the
        damping of a beam up to a certain angle (for 7 points down to 3 %) and would then let its
        contrast come back. Beams beyond are given no contrast: they add to the image evenly.

    Returns
    -------
    ndarray of float32, shape (ny, nx)
        Intensity in units of the incident one: 1 everywhere for a transparent object.

    Raises
    ------
    ValueError
        If a parameter is out of its range or the wave is not two-dimensional and finite.
    """
    _check(wave_k, extent_A, shape, aperture_mrad)
    _check_coherence(focal_spread_A, convergence_mrad, focal_points)
    ky, kx = _frequencies(wave_k.shape, extent_A)
    k0x, k0y = (1e-3 * angle / wavelength(energy_kev) for angle in tilt_mrad)

    inside = np.hypot(ky + k0y, kx + k0x) <= _aperture_edge(aperture_mrad, energy_kev)
    passed = float(np.sum(np.abs(wave_k[inside]) ** 2, dtype=np.float64))
    if not np.isfinite(passed):
        raise ValueError("the exit wave must be finite")

    foci, weights, reach = _focal_quadrature(focal_points if focal_spread_A else 1)
    phase_per_A = np.pi * wavelength(energy_kev) * (kx**2 + ky**2 + 2 * (kx * k0x + ky * k0y))
    coherent = inside & (np.abs(phase_per_A) * focal_spread_A <= reach)
    rows, columns = coherent.any(axis=1), coherent.any(axis=0)
    block = np.ix_(rows, columns)
    ky, kx, phase_per_A = ky[rows], kx[:, columns], phase_per_A[block]
    beams = np.where(coherent, wave_k, 0)[block]

    # chi and its gradient are linear in the defocus: one evaluation serves all focal points
    still_x, still_y = chi_gradient(coefficients, k0x, k0y, energy_kev)
    phase = chi(coefficients, kx + k0x, ky + k0y, energy_kev) - (still_x * kx + still_y * ky)
    slope_x, slope_y = chi_gradient(coefficients, kx + k0x, ky + k0y, energy_kev)
    slope_x, slope_y = slope_x - still_x, slope_y - still_y
    slope_per_A = 2 * np.pi * wavelength(energy_kev)
    sigma_k = convergence_mrad * 1e-3 / wavelength(energy_kev)

    place, grid = _intensity_grid(ky * extent_A[0], kx * extent_A[1], shape)
    wave = Transform(grid, np.result_type(wave_k.dtype, np.complex64))
    intensity = np.zeros(grid, dtype=wave.data.real.dtype)
    for defocus, weight in zip(focal_spread_A * foci, weights, strict=True):
        gradient_squared = (slope_x + slope_per_A * defocus * kx) ** 2
        gradient_squared += (slope_y + slope_per_A * defocus * ky) ** 2
        transfer = np.exp(
            -0.5 * sigma_k**2 * gradient_squared - 1j * (phase + phase_per_A * defocus)
        )
        wave.data[...] = 0
        wave.data[place] = beams * transfer
        psi = wave.inverse()
        intensity += weight * (psi.real**2 + psi.imag**2)

    wave.data[...] = intensity
    spectrum: npt.NDArray[Any] = wave.forward() / wave.size
    spectrum[0, 0] = passed
    return _image(spectrum, shape).astype(np.float32)


def stopped_by_aperture(
    wave_k: Complexes,
    *,
    extent_A: tuple[float, float],
    energy_kev: float,
    aperture_mrad: float | None,
    tilt_mrad: tuple[float, float] = (0.0, 0.0),
) -> float:
    """Return the part of the incident intensity that the objective aperture stops.

    Parameters
    ----------
    wave_k, extent_A, energy_kev, aperture_mrad, tilt_mrad
        As for `expected_image`.

    Raises
    ------
    ValueError
        As for `expected_image`.
    """
    _check(wave_k, extent_A, (1, 1), aperture_mrad)
    ky, kx = _frequencies(wave_k.shape, extent_A)
    k0x, k0y = (1e-3 * angle / wavelength(energy_kev) for angle in tilt_mrad)
    stopped = np.hypot(ky + k0y, kx + k0x) > _aperture_edge(aperture_mrad, energy_kev)
    return float(np.sum(np.abs(wave_k[stopped]) ** 2, dtype=np.float64))


def contrast_transfer(
    k: npt.ArrayLike,
    *,
    energy_kev: float,
    coefficients: Mapping[str, float],
    aperture_mrad: float | None = None,
    focal_spread_A: float = 0.0,
    convergence_mrad: float = 0.0,
    azimuth_rad: float = 0.0,
) -> Floats:
    """Return sin(chi) and its envelopes: how a weak phase object's frequencies reach the image.

    A projected potential with Fourier coefficient V_k gives the image 2 sigma V_k times this. In
    expected_image the same comes out of the explicit average; here it is the closed form,
    sin(chi) exp(-(pi lambda k^2 Delta)^2 / 2) exp(-sigma_k^2 |grad chi|^2 / 2).

    Parameters
    ----------
    k : array_like, any shape
        Spatial frequency in 1/Å along one azimuth.
    energy_kev, coefficients, aperture_mrad, focal_spread_A, convergence_mrad
        As for `expected_image`.
    azimuth_rad : float
        Direction of k, from +x towards +y.

    Returns
    -------
    ndarray, shape of k
        Transfer between -1 and 1.

    Raises
    ------
    ValueError
        If a parameter is out of its range, or an aberration is odd (C21, C23, C41, ...): those
        shift the fringes as well, which a real transfer can't say.
    """
    odd = [name for name, (n, _) in ORDERS.items() if n % 2 == 0 and coefficients.get(name)]
    if odd:
        raise ValueError(f"a real transfer needs even aberrations, but {', '.join(odd)} is odd")
    _check_coherence(focal_spread_A, convergence_mrad)
    k = np.asarray(k, dtype=np.float64)
    kx, ky = k * np.cos(azimuth_rad), k * np.sin(azimuth_rad)
    slope_x, slope_y = chi_gradient(coefficients, kx, ky, energy_kev)
    sigma_k = convergence_mrad * 1e-3 / wavelength(energy_kev)
    temporal = (np.pi * wavelength(energy_kev) * k**2 * focal_spread_A) ** 2 / 2
    spatial = sigma_k**2 * (slope_x**2 + slope_y**2) / 2
    transfer = np.sin(chi(coefficients, kx, ky, energy_kev)) * np.exp(-temporal - spatial)
    return np.where(np.abs(k) <= _aperture_edge(aperture_mrad, energy_kev), transfer, 0.0)


def focal_spread(
    Cc_A: float,
    energy_kev: float,
    energy_spread_ev: float,
    voltage_instability: float = 0.0,
    current_instability: float = 0.0,
) -> float:
    """Return the standard deviation of the defocus, Cc sqrt((dE/E)^2 + (dV/V)^2 + (2 dI/I)^2).

    O. Scherzer's chromatic defocus (L. Reimer & H. Kohl, Transmission Electron Microscopy, 5th ed.
    2008), with Cc as manufacturers state it (the relativistic factor included).

    Parameters
    ----------
    Cc_A : float
        Coefficient of chromatic aberration in Å.
    energy_kev : float
        Electron energy.
    energy_spread_ev : float
        Standard deviation of the electrons' energy.
    voltage_instability, current_instability : float
        Relative standard deviations dV/V of the high voltage and dI/I of the lens current.

    Returns
    -------
    float
        Focal spread in Å.

    Raises
    ------
    ValueError
        If a parameter is negative or the energy is not positive.
    """
    if not energy_kev > 0:
        raise ValueError(f"energy_kev must be positive, got {energy_kev}")
    if not min(Cc_A, energy_spread_ev, voltage_instability, current_instability) >= 0:
        raise ValueError("Cc, energy spread and instabilities must be zero or positive")
    relative = np.array(
        [energy_spread_ev / (energy_kev * 1e3), voltage_instability, 2 * current_instability]
    )
    return float(Cc_A * np.sqrt(np.sum(relative**2)))


def fourier_resample(image: npt.NDArray[Any], shape: tuple[int, int]) -> npt.NDArray[Any]:
    """Return a periodic real image on another grid over the same area, by trigonometry.

    Finer pixels interpolate exactly; coarser ones keep the frequencies that they can show, and
    the mean. A frequency at the edge of an even grid is shared by its two signs.

    Parameters
    ----------
    image : ndarray of float, shape (my, mx)
        Periodic image.
    shape : tuple of int
        New number of pixels (ny, nx).

    Returns
    -------
    ndarray, shape (ny, nx)
        float32 for a float32 image, else float64.

    Raises
    ------
    ValueError
        If the image is not real and two-dimensional, or a number of pixels is not positive.
    """
    if image.ndim != 2 or np.iscomplexobj(image):
        raise ValueError("fourier_resample needs a real two-dimensional image")
    if min(shape) < 1:
        raise ValueError(f"shape must be positive, got {shape}")
    return _image(scipy.fft.fft2(image, norm="forward"), shape)


def _image(spectrum: Complexes, shape: tuple[int, int]) -> npt.NDArray[Any]:
    """Return the real image with this spectrum (the mean at zero), cropped or padded to shape.

    One transform of any length an image may have: not worth a measured plan, so scipy does it.
    """
    for axis in (0, 1):
        spectrum = _resized(spectrum, shape[axis], axis)
    image: npt.NDArray[Any] = scipy.fft.ifft2(spectrum, norm="forward", workers=1).real
    return image


def _resized(spectrum: Complexes, n: int, axis: int) -> Complexes:
    """Crop or pad the spectrum of a real signal along one axis to n frequencies."""
    old = np.moveaxis(spectrum, axis, 0)
    new = np.zeros((n, *old.shape[1:]), dtype=old.dtype)
    kept = min(n, len(old))
    positive, negative, edge = (kept + 1) // 2, (kept - 1) // 2, kept // 2
    new[:positive] = old[:positive]
    if negative:
        new[-negative:] = old[-negative:]
    if kept % 2 == 0:
        if n < len(old):  # both signs fall on the one edge frequency
            new[edge] = old[edge] + old[-edge]
        elif n > len(old):  # the edge frequency stood for both signs
            new[edge] = new[-edge] = old[edge] / 2
        else:
            new[edge] = old[edge]
    return np.moveaxis(new, 0, axis)


def _intensity_grid(
    row: Floats, column: Floats, shape: tuple[int, int]
) -> tuple[tuple[npt.NDArray[np.intp], ...], tuple[int, int]]:
    """Return where the beams go in a grid that holds |psi|^2 up to the image's frequencies.

    Beams with indices `row` (n, 1) and `column` (1, n) interfere at up to their full span, twice
    the band of the wave. What falls outside the image's own band may alias, but not into it.
    """
    indices = [np.rint(axis).astype(np.intp).ravel() for axis in (row, column)]
    grid = []
    for index, pixels in zip(indices, shape, strict=True):
        span = int(np.ptp(index))
        grid.append(fast_length(min(2 * span + 1, span + pixels // 2 + 1)))
    place = np.ix_(*(index % n for index, n in zip(indices, grid, strict=True)))
    return place, (grid[0], grid[1])


def _frequencies(shape: tuple[int, ...], extent_A: tuple[float, float]) -> tuple[Floats, Floats]:
    """Return ky (my, 1) and kx (1, mx) in 1/Å."""
    ky = np.fft.fftfreq(shape[0], extent_A[0] / shape[0]).astype(np.float64)
    kx = np.fft.fftfreq(shape[1], extent_A[1] / shape[1]).astype(np.float64)
    return ky[:, np.newaxis], kx[np.newaxis, :]


def _aperture_edge(aperture_mrad: float | None, energy_kev: float) -> float:
    """Return the highest frequency that passes the aperture, in 1/Å."""
    return np.inf if aperture_mrad is None else aperture_mrad * 1e-3 / wavelength(energy_kev)


@cache
def _focal_quadrature(points: int) -> tuple[Floats, Floats, float]:
    """Return nodes and weights of the average over a normal distribution, and their reach.

    The mean of exp(-i a x) over x ~ N(0, 1) is exp(-a^2 / 2). The reach is the a up to which the
    quadrature gives that within 0.01; beyond, its sum of a few cosines rises again up to one.
    """
    nodes, weights = hermegauss(points)
    weights = weights / weights.sum()
    a = np.linspace(0, np.sqrt(4 * points + 2), 4001)
    error = np.abs(weights @ np.cos(np.outer(nodes, a)) - np.exp(-(a**2) / 2))
    return nodes, weights, float(a[np.argmax(error > 0.01)])


def _check(
    wave_k: Complexes,
    extent_A: tuple[float, float],
    shape: tuple[int, int],
    aperture_mrad: float | None,
) -> None:
    if wave_k.ndim != 2:
        raise ValueError(f"wave_k must have two axes (ky, kx), got shape {wave_k.shape}")
    if not min(extent_A) > 0:
        raise ValueError(f"extent_A must be positive, got {extent_A}")
    if min(shape) < 1:
        raise ValueError(f"shape must be positive, got {shape}")
    if aperture_mrad is not None and not aperture_mrad > 0:
        raise ValueError(f"aperture_mrad must be positive or None, got {aperture_mrad}")


def _check_coherence(focal_spread_A: float, convergence_mrad: float, focal_points: int = 7) -> None:
    if not 0 <= focal_spread_A < np.inf:
        raise ValueError(f"focal_spread_A must be zero or positive, got {focal_spread_A}")
    if not 0 <= convergence_mrad < np.inf:
        raise ValueError(f"convergence_mrad must be zero or positive, got {convergence_mrad}")
    if not 3 <= focal_points <= 99:
        raise ValueError(f"focal_points must lie between 3 and 99, got {focal_points}")
