"""Differential phase contrast: where the beam's centre of mass goes, and the phase behind it.

A thin specimen of projected potential V(x, y) multiplies the electron wave by exp(+i sigma V).
With psi = p exp(i sigma V) the mean transverse wave vector at one probe position is
    <k> = integral psi* (-i / 2 pi) grad psi = sigma / (2 pi) * (|p|^2 correlated with grad V)
(the probe's own mean wave vector is zero), so the electron is drawn towards the nuclei, where V
is highest. As angles theta = lambda <k>, and the phase phi = sigma V (blurred by the probe's
intensity) follows by integration of grad phi = 2 pi theta / lambda.

Sources: Müller et al., Nat. Commun. 5 (2014) 5653 (centre of mass and field); Lazic, Bosch and
Lazar, Ultramicroscopy 160 (2016) 265 (integrated centre of mass and iDPC).

Every angle is in mrad; x runs along a row, y downwards; images are (ny, nx).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import constants, fft

from nanophantom.analysis.segmented_detector import SegmentedDetector as SegmentedDetector
from nanophantom.analysis.segmented_detector import require_positive
from nanophantom.simcore.electrons.constants import interaction_constant, wavelength

FloatArray = npt.NDArray[np.float64]

VACUUM_PERMITTIVITY_E_PER_V_NM = constants.epsilon_0 / constants.e * 1e-9


def centre_of_mass(
    data: npt.ArrayLike,
    pixel_mrad: float,
    centre_px: tuple[float, float] | None = None,
    mask: npt.ArrayLike | None = None,
    beam_counts: float | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Return the centre of mass (x_mrad, y_mrad) of diffraction patterns.

    Parameters
    ----------
    data : (..., ny, nx) array
        Patterns in counts, the scan's axes first.
    pixel_mrad : float
        Angle that a detector pixel subtends.
    centre_px : (float, float), optional
        Row and column of the undeflected beam; that of the mean pattern if not given, which
        makes the mean deflection zero.
    mask : (ny, nx) array, optional
        Weight of each detector pixel: zero for dead ones, or a disk that cuts off noise.
    beam_counts : float, optional
        Expected counts of a pattern. Given, the first moment is divided by it instead of by the
        pattern's own sum, which sparse patterns need (some may be empty).

    Raises
    ------
    ValueError
        If shapes or numbers are wrong, or a pattern is empty and `beam_counts` isn't given.
    """
    patterns = np.asarray(data)
    if patterns.ndim < 2 or patterns.dtype.kind not in "uif":
        raise ValueError(f"patterns are real with shape (..., ny, nx), got {patterns.shape}")
    require_positive(pixel_mrad=pixel_mrad)
    ny, nx = patterns.shape[-2:]
    if mask is None:
        by_row = patterns.sum(axis=-1, dtype=np.float64)
        by_column = patterns.sum(axis=-2, dtype=np.float64)
    else:
        weight = np.asarray(mask, np.float64)
        if weight.shape != (ny, nx):
            raise ValueError(f"mask has the shape {weight.shape}, the patterns {(ny, nx)}")
        by_row = np.einsum("...yx,yx->...y", patterns, weight)
        by_column = np.einsum("...yx,yx->...x", patterns, weight)
    counts = by_row.sum(axis=-1)
    if not np.all(np.isfinite(counts)):
        raise ValueError("patterns must be finite: they hold NaN or infinite values")
    if beam_counts is not None:
        require_positive(beam_counts=beam_counts)
        divisor = np.full(counts.shape, float(beam_counts))
    elif np.all(counts > 0):
        divisor = counts
    else:
        raise ValueError(
            f"{int(np.sum(counts <= 0))} patterns have no counts, so no centre of mass: "
            "give beam_counts, the expected counts of a pattern"
        )
    rows, columns = np.arange(ny), np.arange(nx)
    if centre_px is None:
        total = float(np.sum(counts))
        centre_px = float(np.sum(by_row @ rows)) / total, float(np.sum(by_column @ columns)) / total
    # The moment about the centre, not the moment less the centre: empty patterns give zero.
    y = by_row @ (rows - centre_px[0]) / divisor
    x = by_column @ (columns - centre_px[1]) / divisor
    return x * pixel_mrad, y * pixel_mrad


@dataclass(frozen=True)
class ScanRotation:
    """How the detector lies to the scan.

    `apply` first turns y around if `mirrored`, then rotates by `rotation_deg` (from x to y).
    """

    rotation_deg: float
    mirrored: bool
    curl_share: float
    """Power of the curl that is left over that of curl and divergence: zero without noise."""

    def apply(self, x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return the deflections (x, y) along the axes of the scan."""
        vx, vy = np.asarray(x, np.float64), np.asarray(y, np.float64)
        vy = -vy if self.mirrored else vy
        c, s = np.cos(np.deg2rad(self.rotation_deg)), np.sin(np.deg2rad(self.rotation_deg))
        return c * vx - s * vy, s * vx + c * vy


def scan_rotation(x_mrad: npt.ArrayLike, y_mrad: npt.ArrayLike) -> ScanRotation:
    """Estimate rotation and handedness between scan and detector from the deflections.

    A gradient has no curl. Rotating the vectors by t makes the curl C cos t + D sin t, with C
    and D the curl and divergence measured; its power is least at
        2 t = atan2(-2 <C D>, <D^2> - <C^2>).
    White noise adds the same to <C^2> and <D^2> and nothing to <C D>: no bias. Of t and
    t + 180 deg the one is taken whose integrated phase has its outliers upwards (skewness > 0), as
    atoms on a flat ground have. A mirrored detector is found as the handedness with less curl.

    Raises
    ------
    ValueError
        If the images differ in shape, are smaller than 4 x 4, or don't vary.
    """
    x, y = _vector_field(x_mrad, y_mrad)
    found = []
    for mirrored in (False, True):
        vy = -y if mirrored else y
        (dy_vy, dx_vy), (dy_vx, dx_vx) = np.gradient(vy), np.gradient(x)
        curl, div = dx_vy - dy_vx, dx_vx + dy_vy
        cc, dd, cd = np.mean(curl**2), np.mean(div**2), np.mean(curl * div)
        if not cc + dd > 0:
            raise ValueError("the deflections are the same everywhere: they tell no rotation")
        t = 0.5 * np.arctan2(-2 * cd, dd - cc)
        left = 0.5 * (cc + dd) - np.hypot(0.5 * (dd - cc), cd)
        found.append(ScanRotation(float(np.rad2deg(t)), mirrored, float(left / (cc + dd))))
    best = min(found, key=lambda rotation: rotation.curl_share)
    integrated = integrate(
        *best.apply(x, y), 1.0, periodic=False, high_pass_per_nm=2 / min(x.shape)
    )
    if np.mean(integrated**3) < 0:
        turned = (best.rotation_deg + 360) % 360 - 180
        best = ScanRotation(turned, best.mirrored, best.curl_share)
    return best


def integrate(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    step_nm: float,
    periodic: bool = False,
    high_pass_per_nm: float | None = None,
) -> FloatArray:
    """Return the image, of zero mean, whose gradient comes nearest to the vectors (x, y).

    The least-squares solution in Fourier space, F = (kx X + ky Y) / (2 pi i k^2). White noise of
    standard deviation s in each component comes out with the spectrum s / (2 pi k): low
    frequencies are noisy, which a high pass holds down.

    Parameters
    ----------
    x, y : (ny, nx) arrays
        Components of the gradient per nm.
    step_nm : float
        Distance of scan positions.
    periodic : bool
        Whether the field goes on at the opposite edge. If not, the mean gradient is
        integrated as a plane and the rest in a domain of twice the size, in which the image is
        mirrored at its edges and so the normal component antisymmetric (Bon, Monneret and
        Wattellier, Appl. Opt. 51 (2012) 5698).
    high_pass_per_nm : float, optional
        Spatial frequencies k are multiplied by 1 - exp(-k^2 / (2 kc^2)), kc being this.

    Raises
    ------
    ValueError
        If the shapes differ or a number is out of range.
    """
    vx, vy = _vector_field(x, y)
    require_positive(step_nm=step_nm)
    if high_pass_per_nm is not None:
        require_positive(high_pass_per_nm=high_pass_per_nm)
    if periodic:
        return _integrate_periodic(vx, vy, step_nm, high_pass_per_nm)
    ny, nx = vx.shape
    mean_x, mean_y = np.mean(vx), np.mean(vy)
    if high_pass_per_nm is None:
        rest_x, rest_y = vx - mean_x, vy - mean_y
        plane = mean_x * _centred(nx)[None, :] + mean_y * _centred(ny)[:, None]
    else:  # a ramp is the lowest frequency of all
        rest_x, rest_y, plane = vx, vy, np.zeros((ny, nx))
    whole_x = np.concatenate([rest_x, -rest_x[:, ::-1]], axis=1)
    whole_x = np.concatenate([whole_x, whole_x[::-1]], axis=0)
    whole_y = np.concatenate([rest_y, rest_y[:, ::-1]], axis=1)
    whole_y = np.concatenate([whole_y, -whole_y[::-1]], axis=0)
    whole = _integrate_periodic(whole_x, whole_y, step_nm, high_pass_per_nm)
    return np.asarray(whole[:ny, :nx] + plane * step_nm)


def phase(
    x_mrad: npt.ArrayLike,
    y_mrad: npt.ArrayLike,
    step_nm: float,
    energy_kev: float,
    periodic: bool = False,
    high_pass_per_nm: float | None = None,
) -> FloatArray:
    """Return the phase in rad, of zero mean, that deflects by (x, y): iCoM, or iDPC.

    Parameters are those of :func:`integrate`, with the deflections and the electrons' energy.
    """
    per_nm = 2 * np.pi * 1e-3 / (0.1 * wavelength(energy_kev))
    x, y = _vector_field(x_mrad, y_mrad)
    return integrate(per_nm * x, per_nm * y, step_nm, periodic, high_pass_per_nm)


def projected_potential_v_nm(
    x_mrad: npt.ArrayLike,
    y_mrad: npt.ArrayLike,
    step_nm: float,
    energy_kev: float,
    periodic: bool = False,
    high_pass_per_nm: float | None = None,
) -> FloatArray:
    """Return the projected potential in V nm, of zero mean, blurred by the probe's intensity.

    The phase over the interaction constant (rad / (V nm)); parameters as for :func:`phase`.
    """
    rad_per_v_nm = 10 * interaction_constant(energy_kev)
    return np.asarray(
        phase(x_mrad, y_mrad, step_nm, energy_kev, periodic, high_pass_per_nm) / rad_per_v_nm
    )


def divergence(
    x: npt.ArrayLike, y: npt.ArrayLike, step_nm: float, periodic: bool = False
) -> FloatArray:
    """Return the divergence of the deflections (dDPC) per nm: negative at nuclei.

    Spectral derivatives if the field is periodic, else central differences (one-sided at the
    edges).

    Raises
    ------
    ValueError
        If the shapes differ or the step isn't positive.
    """
    vx, vy = _vector_field(x, y)
    require_positive(step_nm=step_nm)
    if not periodic:
        return np.asarray(np.gradient(vx, step_nm, axis=1) + np.gradient(vy, step_nm, axis=0))
    ky, kx = _frequencies(vx.shape, step_nm)
    spectrum = kx * fft.rfft2(vx, workers=1) + ky * fft.rfft2(vy, workers=1)
    return np.asarray(fft.irfft2(2j * np.pi * spectrum, s=vx.shape, workers=1))


def charge_density_e_per_nm2(
    x_mrad: npt.ArrayLike,
    y_mrad: npt.ArrayLike,
    step_nm: float,
    energy_kev: float,
    periodic: bool = False,
) -> FloatArray:
    """Return the projected charge density in e / nm^2, positive at nuclei, blurred by the probe.

    Poisson's equation, rho = -epsilon_0 laplace V, with grad V = 2 pi theta / (lambda sigma)
    (Müller et al. 2014). Parameters as for :func:`phase`.
    """
    v_per_mrad = 2 * np.pi * 1e-3 / (wavelength(energy_kev) * interaction_constant(energy_kev))
    slope = divergence(x_mrad, y_mrad, step_nm, periodic)
    return np.asarray(-VACUUM_PERMITTIVITY_E_PER_V_NM * v_per_mrad * slope)


def _integrate_periodic(
    x: FloatArray, y: FloatArray, step_nm: float, high_pass_per_nm: float | None
) -> FloatArray:
    ky, kx = _frequencies(x.shape, step_nm)
    k2 = kx**2 + ky**2
    k2[k2 == 0] = np.inf  # the mean, and what alternates from pixel to pixel, have no gradient
    spectrum = kx * fft.rfft2(x, workers=1) + ky * fft.rfft2(y, workers=1)
    spectrum *= -0.5j / np.pi / k2
    if high_pass_per_nm is not None:
        spectrum *= -np.expm1(-k2 / (2 * high_pass_per_nm**2))
    return np.asarray(fft.irfft2(spectrum, s=x.shape, workers=1))


def _frequencies(shape: tuple[int, ...], step_nm: float) -> tuple[FloatArray, FloatArray]:
    """Return ky (ny, 1) and kx (1, nx // 2 + 1) per nm, zero at the sampling limit.

    There the derivative of a real image has no sign.
    """
    ny, nx = shape
    ky, kx = fft.fftfreq(ny, step_nm), fft.rfftfreq(nx, step_nm)
    if ny % 2 == 0:
        ky[ny // 2] = 0
    if nx % 2 == 0:
        kx[-1] = 0
    return ky[:, None], kx[None, :]


def _centred(n: int) -> FloatArray:
    return np.asarray(np.arange(n) - (n - 1) / 2, np.float64)


def _vector_field(x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    vx, vy = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if vx.ndim != 2 or vx.shape != vy.shape or min(vx.shape) < 4:
        raise ValueError(
            f"x and y are images of one shape (ny, nx), 4 x 4 or more, got {vx.shape}, {vy.shape}"
        )
    if not (np.all(np.isfinite(vx)) and np.all(np.isfinite(vy))):
        raise ValueError("deflections must be finite: they hold NaN or infinite values")
    return vx, vy
