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
from typing import Any

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.electrons.aberrations import ORDERS, chi, chi_gradient
from nanophantom.simcore.electrons.coherence import focal_quadrature
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.resample import image_of_spectrum
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
    aperture_shift_mrad: tuple[float, float] = (0.0, 0.0),
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
    aperture_shift_mrad : tuple of float
        Centre (x, y) of the aperture, counted from the axis of the lens. Where it stops the direct
        beam (dark field), coherence is counted from its centre, and the shift that the lens gives
        a beam through its centre is taken out.
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
    formation = ImageFormation(
        wave_k.shape,
        extent_A=extent_A,
        energy_kev=energy_kev,
        coefficients=coefficients,
        shape=shape,
        aperture_mrad=aperture_mrad,
        aperture_shift_mrad=aperture_shift_mrad,
        focal_spread_A=focal_spread_A,
        convergence_mrad=convergence_mrad,
        tilt_mrad=tilt_mrad,
        focal_points=focal_points,
        dtype=np.result_type(wave_k.dtype, np.complex64),
    )
    return formation.image(wave_k)


class ImageFormation:
    """A lens made ready for many exit waves of one cell.

    Parameters
    ----------
    wave_shape : tuple of int
        Shape (my, mx) of the exit waves.
    extent_A, energy_kev, coefficients, shape, aperture_mrad, aperture_shift_mrad, \
    focal_spread_A, convergence_mrad, tilt_mrad, focal_points
        As for `expected_image`.
    dtype : {"complex64", "complex128"}
        Precision.

    Raises
    ------
    ValueError
        As for `expected_image`.
    """

    def __init__(
        self,
        wave_shape: tuple[int, ...],
        *,
        extent_A: tuple[float, float],
        energy_kev: float,
        coefficients: Mapping[str, float],
        shape: tuple[int, int],
        aperture_mrad: float | None = None,
        aperture_shift_mrad: tuple[float, float] = (0.0, 0.0),
        focal_spread_A: float = 0.0,
        convergence_mrad: float = 0.0,
        tilt_mrad: tuple[float, float] = (0.0, 0.0),
        focal_points: int = 7,
        dtype: npt.DTypeLike = "complex64",
    ) -> None:
        _check(wave_shape, extent_A, shape, aperture_mrad)
        _check_coherence(focal_spread_A, convergence_mrad, focal_points)
        self.wave_shape, self.shape = wave_shape, shape
        ky, kx = _frequencies(wave_shape, extent_A)
        lam = wavelength(energy_kev)
        k0x, k0y = (1e-3 * angle / lam for angle in tilt_mrad)
        kax, kay = (1e-3 * angle / lam for angle in aperture_shift_mrad)
        edge = _aperture_edge(aperture_mrad, energy_kev)
        self._inside = np.hypot(ky + k0y - kay, kx + k0x - kax) <= edge

        # beams interfere with the direct one or, where it is stopped, about the aperture's centre
        direct = np.hypot(k0y - kay, k0x - kax) <= edge
        krx, kry = (k0x, k0y) if direct else (kax, kay)
        qx, qy = kx + (k0x - krx), ky + (k0y - kry)
        foci, weights, reach = focal_quadrature(focal_points if focal_spread_A else 1)
        phase_per_A = np.pi * lam * (qx**2 + qy**2 + 2 * (qx * krx + qy * kry))
        self._coherent = self._inside & (np.abs(phase_per_A) * focal_spread_A <= reach)
        rows, columns = self._coherent.any(axis=1), self._coherent.any(axis=0)
        self._block = np.ix_(rows, columns)
        ky, qy, kx, qx = ky[rows], qy[rows], kx[:, columns], qx[:, columns]
        phase_per_A = phase_per_A[self._block]

        # chi and its gradient are linear in the defocus: one evaluation serves all focal points
        still_x, still_y = chi_gradient(coefficients, krx, kry, energy_kev)
        phase = chi(coefficients, kx + k0x, ky + k0y, energy_kev) - (still_x * qx + still_y * qy)
        slope_x, slope_y = chi_gradient(coefficients, kx + k0x, ky + k0y, energy_kev)
        slope_x, slope_y = slope_x - still_x, slope_y - still_y
        slope_per_A = 2 * np.pi * lam
        sigma_k = convergence_mrad * 1e-3 / lam
        self._weights = weights
        self._transfers = []
        for defocus in focal_spread_A * foci:
            gradient_squared = (slope_x + slope_per_A * defocus * qx) ** 2
            gradient_squared += (slope_y + slope_per_A * defocus * qy) ** 2
            transfer = np.exp(
                -0.5 * sigma_k**2 * gradient_squared - 1j * (phase + phase_per_A * defocus)
            )
            self._transfers.append(transfer.astype(dtype))

        self._place, grid = _intensity_grid(ky * extent_A[0], kx * extent_A[1], shape)
        self._wave = Transform(grid, dtype)

    def image(self, wave_k: Complexes) -> npt.NDArray[np.float32]:
        """Return the noise-free image of an exit wave; see `expected_image`.

        Raises
        ------
        ValueError
            If the wave has another shape than announced or is not finite.
        """
        if wave_k.shape != self.wave_shape:
            raise ValueError(f"wave_k has shape {wave_k.shape}; {self.wave_shape} was announced")
        passed = float(np.sum(np.abs(wave_k[self._inside]) ** 2, dtype=np.float64))
        if not np.isfinite(passed):
            raise ValueError("the exit wave must be finite")
        beams = np.where(self._coherent, wave_k, 0)[self._block]
        wave = self._wave
        intensity = np.zeros(wave.data.shape, dtype=wave.data.real.dtype)
        for transfer, weight in zip(self._transfers, self._weights, strict=True):
            wave.data[...] = 0
            wave.data[self._place] = beams * transfer
            psi = wave.inverse()
            intensity += weight * (psi.real**2 + psi.imag**2)

        wave.data[...] = intensity
        spectrum: npt.NDArray[Any] = wave.forward() / wave.size
        spectrum[0, 0] = passed
        return image_of_spectrum(spectrum, self.shape).astype(np.float32)


def stopped_by_aperture(
    wave_k: Complexes,
    *,
    extent_A: tuple[float, float],
    energy_kev: float,
    aperture_mrad: float | None,
    tilt_mrad: tuple[float, float] = (0.0, 0.0),
    aperture_shift_mrad: tuple[float, float] = (0.0, 0.0),
) -> float:
    """Return the part of the incident intensity that the objective aperture stops.

    Parameters
    ----------
    wave_k, extent_A, energy_kev, aperture_mrad, tilt_mrad, aperture_shift_mrad
        As for `expected_image`.

    Raises
    ------
    ValueError
        As for `expected_image`.
    """
    _check(wave_k.shape, extent_A, (1, 1), aperture_mrad)
    ky, kx = _frequencies(wave_k.shape, extent_A)
    k0x, k0y = (
        1e-3 * (tilt - shift) / wavelength(energy_kev)
        for tilt, shift in zip(tilt_mrad, aperture_shift_mrad, strict=True)
    )
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


def _check(
    wave_shape: tuple[int, ...],
    extent_A: tuple[float, float],
    shape: tuple[int, int],
    aperture_mrad: float | None,
) -> None:
    if len(wave_shape) != 2:
        raise ValueError(f"wave_k must have two axes (ky, kx), got shape {wave_shape}")
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
