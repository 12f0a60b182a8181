"""Reconstruct structured illumination: separate orders, shift them home, join them by Wiener.

Every direction's orders m = 0, +1, -1 hold ``c_m S(q) O(q + m k)`` once they are shifted home; all
of them are joined into ::

    S(q) = sum conj(c_m O(q + m k)) D_m(q + m k) / (sum |c_m O(q + m k)|^2 + w^2) A(q)

on a grid of half the pixel (M. G. L. Gustafsson, J. Microsc. 198 (2000) 82), with a Wiener constant
w and an apodization A that falls to zero at the new cutoff.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft

from nanophantom.analysis.fourier_shells import soft_edge
from nanophantom.analysis.localize import CameraSettings
from nanophantom.analysis.sim_orders import Grid, unmixing
from nanophantom.analysis.sim_parameters import EDGE, Stripes, find_stripes
from nanophantom.simcore.light.sim_patterns import N_ANGLES, N_PHASES, N_RAW, cutoff_per_nm

Floats = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complex128]

FINER = 2
"""Pixels of the reconstruction in one of the camera."""


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """An image beyond the objective's cutoff, and what belongs to it.

    Attributes
    ----------
    image : (2 ny, 2 nx)
        Photons a raw pixel of the mean raw image, sharper; may fall below 0. Pixel (0, 0) has its
        centre where raw pixel (0, 0) has it.
    widefield : (2 ny, 2 nx)
        Mean of the raw images, on the same pixels and with the same filter for one order only.
    pixel_size_nm
        Half of the raw images'.
    cutoff_per_nm
        Largest frequency: that of the objective plus that of the finest stripes.
    stripes
        Those that it was made with, by direction.
    """

    image: Floats
    widefield: Floats
    pixel_size_nm: float
    cutoff_per_nm: float
    stripes: tuple[Stripes, ...]


def photons(raw: npt.ArrayLike, settings: Mapping[str, Any]) -> Floats:
    """Return counts of a camera as photons on it, by what the operator knows of the camera."""
    camera = CameraSettings.read(settings["camera"])
    electrons = camera.electrons(np.asarray(raw)).astype(np.float64)
    return np.asarray(electrons / camera.quantum_efficiency)


def estimate(raw: npt.ArrayLike, settings: Mapping[str, Any]) -> tuple[Stripes, ...]:
    """Find the stripes of all directions in nine raw images.

    Parameters
    ----------
    raw : (9, ny, nx)
        Counts; image i has direction i // 3 and phase i % 3.
    settings
        pixel_size_nm, na, wavelength_nm (of the emission), camera (see
        :class:`~nanophantom.analysis.localize.CameraSettings`) and pattern: k_per_nm, angles_deg
        (3), phases_deg (3), nominal.

    Raises
    ------
    ValueError
        As :func:`~nanophantom.analysis.sim_parameters.find_stripes` says; or there are not nine.
    """
    images = _nine(photons(raw, settings))
    cutoff = cutoff_per_nm(settings["na"], settings["wavelength_nm"])
    pattern = settings["pattern"]
    found = []
    for a in range(N_ANGLES):
        angle = np.radians(pattern["angles_deg"][a])
        k = pattern["k_per_nm"] * np.array([np.cos(angle), np.sin(angle)])
        three = images[N_PHASES * a : N_PHASES * (a + 1)]
        nominal = (float(k[0]), float(k[1]))
        found.append(
            find_stripes(three, settings["pixel_size_nm"], cutoff, nominal, pattern["phases_deg"])
        )
    return tuple(found)


def reconstruct(
    raw: npt.ArrayLike,
    settings: Mapping[str, Any],
    stripes: Sequence[Stripes] | None = None,
    *,
    wiener: float = 0.05,
) -> Reconstruction:
    """Reconstruct one image of nine raw ones.

    Parameters
    ----------
    raw, settings
        As :func:`estimate` takes them.
    stripes
        Stripes of the three directions; none: they are found in the images. Wrong ones make
        artefacts: a wrong k or phase leaves ripples of the stripes' period and ghosts.
    wiener
        The constant w, against a transfer function of 1 at frequency 0: noise over signal where
        the structure is just lost. Smaller is sharper and noisier.

    Raises
    ------
    ValueError
        There are not nine finite images or three directions, or `wiener` isn't positive.
    """
    images = _nine(photons(raw, settings))
    if not wiener > 0:
        raise ValueError(f"wiener is {wiener:g}; it must be positive")
    stripes = estimate(raw, settings) if stripes is None else tuple(stripes)
    if len(stripes) != N_ANGLES:
        raise ValueError(f"nine images have three directions, got stripes of {len(stripes)}")
    pixel = float(settings["pixel_size_nm"])
    cutoff = cutoff_per_nm(settings["na"], settings["wavelength_nm"])
    ny, nx = images.shape[1:]
    fine = Grid((FINER * ny, FINER * nx), pixel / FINER, cutoff)
    tapered = images * soft_edge((ny, nx), EDGE)
    numerator = np.zeros(fine.shape, np.complex128)
    strength = np.zeros(fine.shape)
    zeros: list[Complex] = []
    for a, found in enumerate(stripes):
        three = tapered[N_PHASES * a : N_PHASES * (a + 1)]
        separate = unmixing(np.radians(found.phases_deg), found.levels)
        orders = np.tensordot(separate, three, 1)
        level = float(tapered.sum() / (N_RAW * orders[0].real.sum()))  # bleaching so far
        for m, order in zip((0, 1, -1), orders, strict=True):
            kx, ky = m * found.kx_per_nm, m * found.ky_per_nm
            home = _finer(level * order) * fine.wave(-kx, -ky)
            transfer = fine.transfer(kx, ky, pixel) * (0.5 * found.modulation if m else 1.0)
            numerator += transfer * scipy.fft.fft2(home, workers=1)
            strength += transfer**2
            if m == 0:
                zeros.append(scipy.fft.fft2(home, workers=1))
    largest = cutoff + max(np.hypot(s.kx_per_nm, s.ky_per_nm) for s in stripes)
    image = _filtered(numerator, strength, wiener, fine, largest)
    alone = fine.transfer(pixel_size_nm=pixel)
    mean = np.asarray(alone * np.sum(zeros, axis=0), np.complex128)
    widefield = _filtered(mean, N_ANGLES * alone**2, wiener, fine, cutoff)
    return Reconstruction(image, widefield, pixel / FINER, float(largest), stripes)


def with_errors(
    stripes: Stripes, *, k_factor: float = 1.0, phase_errors_deg: npt.ArrayLike = 0.0
) -> Stripes:
    """Return stripes that are wrong on purpose, to see what artefacts they make."""
    return replace(
        stripes,
        kx_per_nm=stripes.kx_per_nm * k_factor,
        ky_per_nm=stripes.ky_per_nm * k_factor,
        phases_deg=stripes.phases_deg + np.asarray(phase_errors_deg, np.float64),
    )


def _filtered(
    numerator: Complex, strength: Floats, wiener: float, grid: Grid, cutoff: float
) -> Floats:
    """Return the Wiener quotient with the apodization cos(pi q / 2 cutoff), as an image."""
    radius = np.minimum(np.hypot(*grid.frequencies()) / cutoff, 1.0)
    spectrum = numerator / (strength + wiener**2) * np.cos(0.5 * np.pi * radius)
    return np.asarray(scipy.fft.ifft2(spectrum, workers=1).real)


def _finer(image: Complex) -> Complex:
    """Interpolate by zeros around the spectrum; values stay, pixel (0, 0) keeps its centre."""
    ny, nx = image.shape
    spectrum = np.fft.fftshift(scipy.fft.fft2(image, workers=1))
    fine = np.zeros((FINER * ny, FINER * nx), np.complex128)
    y0, x0 = FINER * ny // 2 - ny // 2, FINER * nx // 2 - nx // 2
    fine[y0 : y0 + ny, x0 : x0 + nx] = spectrum
    whole = scipy.fft.ifft2(np.fft.ifftshift(fine), workers=1)
    return np.asarray(FINER**2 * whole, np.complex128)


def _nine(images: Floats) -> Floats:
    if images.ndim != 3 or len(images) != N_RAW or not np.isfinite(images).all():
        raise ValueError(f"one image is made of 9 finite raw images, got shape {images.shape}")
    return images
