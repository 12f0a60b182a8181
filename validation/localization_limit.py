"""What physics allows of each emitter: how clearly it is seen, and how precisely it is placed.

A spot is taken as a Gaussian as wide as the operator's beads, integrated over the pixels; the
camera as it is. Light is in photoelectrons where nothing else is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.special import erf

from nanophantom.analysis.localize import CameraSettings

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]

BOX_SIGMAS = 5.0
"""Half the edge of the square of pixels whose information is summed, in widths of the spot."""
AT_ONCE = 2048
"""Emitters whose boxes are in memory at a time."""


@dataclass(frozen=True, eq=False)
class Imaging:
    """Spots and camera of a movie, as far as the bounds depend on them."""

    shape: tuple[int, int]
    pixel_size_nm: float
    sigma_nm: float
    """Width of a spot in focus."""
    focus_nm: float
    quantum_efficiency: float
    excess_noise: float
    variance: npt.NDArray[np.float32]
    """Of the readout, in photoelectrons squared: a number, or a map (ny, nx)."""
    heights_nm: Floats | None = None
    """Above the focal plane, where the widths along x and y are known; None: they tell nothing."""
    widths_x_nm: Floats | None = None
    widths_y_nm: Floats | None = None
    one_camera: bool = True
    """False where a second camera shares the photons in parts that aren't told."""

    @classmethod
    def of(cls, dataset: Observed) -> Imaging:
        """Read a dataset's settings and, where there is one, the true map of the pixels' noise."""
        settings: Mapping[str, Any] = dataset.settings
        camera = CameraSettings.read(settings["camera"])
        variance = camera.read_variance
        if "camera_1" in dataset.truth_tables and "variance_map" in dataset.truth("camera_1"):
            gain = float(settings["camera"].get("em_gain", 1.0))
            maps = dataset.truth("camera_1")
            dark = np.asarray(maps.get("dark_map", 0.0), np.float32)  # its shot noise stays
            variance = np.asarray(maps["variance_map"], np.float32) / np.float32(gain**2) + dark
        ny, nx = dataset.signal("movie", 0, 1).shape[1:]
        table = settings.get("calibration")
        z, s_x, s_y = (
            None if table is None else np.asarray(table[column], np.float64)
            for column in ("z_nm", "sigma_x_nm", "sigma_y_nm")
        )
        return cls(
            (int(ny), int(nx)),
            float(settings["pixel_size_nm"]),
            float(settings["psf_sigma_nm"]),
            float(settings.get("focus_nm", 0.0)),
            camera.quantum_efficiency,
            camera.excess_noise,
            variance,
            z,
            s_x,
            s_y,
            "movie_2" not in dataset.signals,
        )

    def widths(self, z_nm: Floats) -> tuple[Floats, Floats]:
        """Return the widths of spots along x and y, heights being above the coverslip."""
        if self.heights_nm is None or self.widths_x_nm is None or self.widths_y_nm is None:
            same = np.full(len(z_nm), self.sigma_nm)
            return same, same
        z = z_nm - self.focus_nm
        return (
            np.asarray(np.interp(z, self.heights_nm, self.widths_x_nm)),
            np.asarray(np.interp(z, self.heights_nm, self.widths_y_nm)),
        )

    def in_calibration(self, z_nm: Floats) -> npt.NDArray[np.bool_]:
        """Say for which heights the widths are known."""
        if self.heights_nm is None:
            return np.ones(len(z_nm), bool)
        z = z_nm - self.focus_nm
        return np.asarray((z > self.heights_nm[0]) & (z < self.heights_nm[-1]))


@dataclass(frozen=True, eq=False)
class Bounds:
    """Least standard deviations, one an emitter; NaN where the width of the spot isn't known."""

    x_nm: Floats
    y_nm: Floats
    photons: Floats
    """On the camera."""
    background: Floats
    """Photons a pixel."""
    z_nm: Floats | None
    """None where the shape of the spot doesn't tell the height."""


def signal_to_noise(imaging: Imaging, photons: Floats, background: Floats, z_nm: Floats) -> Floats:
    """Return N / sqrt(F^2 (N + 4 pi s_x s_y b) + 4 pi s_x s_y v) of each emitter.

    That is the photometric signal-to-noise ratio over the 4 pi s^2 pixels that a matched filter
    looks at: N photoelectrons on a background of b a pixel, read with the variance v, an excess
    noise factor F^2. The criterion of A. Rose (J. Opt. Soc. Am. 38 (1948) 196) asks for about 5.
    """
    s_x, s_y = (s / imaging.pixel_size_nm for s in imaging.widths(z_nm))
    area = 4 * np.pi * s_x * s_y
    n, b = imaging.quantum_efficiency * photons, imaging.quantum_efficiency * background
    v = float(np.median(imaging.variance))
    noise = np.sqrt(imaging.excess_noise * (n + area * b) + area * v)
    return np.divide(n, noise, out=np.zeros_like(n), where=noise > 0)


def bounds(
    imaging: Imaging,
    x_nm: Floats,
    y_nm: Floats,
    z_nm: Floats,
    photons: Floats,
    background: Floats,
    box_px: int | None = None,
) -> Bounds:
    """Return the Cramér-Rao bounds of place, photons and background, all unknown at once.

    The Fisher information is sum over pixels of dmu dmu^T / (F^2 mu + v), as that of
    `analysis.localization_precision.cramer_rao`, for many emitters, each at its place between the
    pixels, with the readout noise v of the pixels around it. Pixels outside the frame tell nothing.

    Parameters
    ----------
    x_nm, y_nm, z_nm
        True places in the image, z above the coverslip; shape (n,).
    photons, background
        Expected on the camera, shape (n,).
    box_px
        Edge of the square of pixels that is looked at, odd; none: all that see the widest spot.
    """
    n, a = len(x_nm), imaging.pixel_size_nm
    astigmatic = imaging.heights_nm is not None
    found = np.full((n, 5 if astigmatic else 4), np.nan)
    s_x, s_y = imaging.widths(z_nm)
    tilt_x, tilt_y = (
        (high - low) / 2.0
        for high, low in zip(imaging.widths(z_nm + 1.0), imaging.widths(z_nm - 1.0), strict=True)
    )
    efficiency = imaging.quantum_efficiency
    good = np.flatnonzero(imaging.in_calibration(z_nm) & (photons > 0))
    widest = float(max(np.max(s_x, initial=0.0), np.max(s_y, initial=0.0))) / a
    half = int(np.ceil(BOX_SIGMAS * widest)) if box_px is None else box_px // 2
    for start in range(0, len(good), AT_ONCE):
        k = good[start : start + AT_ONCE]
        column, e_x, d_x, w_x = _profiles(x_nm[k] / a, s_x[k] / a, half)
        row, e_y, d_y, w_y = _profiles(y_nm[k] / a, s_y[k] / a, half)
        light = efficiency * photons[k][:, None, None]
        slopes = [
            light * e_y[:, :, None] * d_x[:, None, :],
            light * d_y[:, :, None] * e_x[:, None, :],
            e_y[:, :, None] * e_x[:, None, :],
            np.ones((len(k), 2 * half + 1, 2 * half + 1)),
        ]
        if astigmatic:
            tilted_x, tilted_y = (t[k][:, None, None] / a for t in (tilt_x, tilt_y))
            slopes.append(
                light
                * (
                    tilted_x * e_y[:, :, None] * w_x[:, None, :]
                    + tilted_y * w_y[:, :, None] * e_x[:, None, :]
                )
            )
        mean = light * slopes[2] + efficiency * background[k][:, None, None]
        weight = _seen(imaging, row, column) / (
            imaging.excess_noise * mean + _variance(imaging, row, column) + 1e-12
        )
        found[k] = _inverted(slopes, weight)
    return Bounds(
        found[:, 0] * a,
        found[:, 1] * a,
        found[:, 2] / efficiency,
        found[:, 3] / efficiency,
        found[:, 4] if astigmatic else None,
    )


def _profiles(
    centre_px: Floats, sigma_px: Floats, half: int
) -> tuple[npt.NDArray[np.int64], Floats, Floats, Floats]:
    """Return pixels around places, the light in each row of them, its slopes in place and width."""
    pixels = np.rint(centre_px).astype(np.int64)[:, None] + np.arange(-half, half + 1)
    edges = np.concatenate([pixels - 0.5, pixels[:, -1:] + 0.5], axis=1)
    u = (edges - centre_px[:, None]) / sigma_px[:, None]
    gauss = np.exp(-0.5 * u**2) / (np.sqrt(2 * np.pi) * sigma_px[:, None])
    light = 0.5 * np.diff(erf(u / np.sqrt(2)), axis=1)
    return pixels, light, -np.diff(gauss, axis=1), -np.diff(u * gauss, axis=1)


def _seen(imaging: Imaging, row: npt.NDArray[np.int64], column: npt.NDArray[np.int64]) -> Floats:
    ny, nx = imaging.shape
    rows, columns = (row >= 0) & (row < ny), (column >= 0) & (column < nx)
    return (rows[:, :, None] & columns[:, None, :]).astype(np.float64)


def _variance(
    imaging: Imaging, row: npt.NDArray[np.int64], column: npt.NDArray[np.int64]
) -> npt.NDArray[Any]:
    if imaging.variance.ndim == 0:
        return imaging.variance
    ny, nx = imaging.shape
    rows, columns = np.clip(row, 0, ny - 1), np.clip(column, 0, nx - 1)
    return imaging.variance[rows[:, :, None], columns[:, None, :]]


def _inverted(slopes: list[Floats], weight: Floats) -> Floats:
    """Return the roots of the diagonals of the inverse information, NaN where there is none."""
    n = len(slopes)
    d = np.stack([s.reshape(len(s), -1) for s in slopes], axis=1)
    information = (d * weight.reshape(len(weight), 1, -1)) @ d.transpose(0, 2, 1)
    scale = np.sqrt(np.diagonal(information, axis1=1, axis2=2))
    scale = np.where(scale > 0, scale, 1.0)
    correlation = information / (scale[:, :, None] * scale[:, None, :])
    good = np.linalg.det(correlation) > 1e-10
    found = np.full((len(weight), n), np.nan)
    inverse = np.linalg.inv(correlation[good])
    found[good] = np.sqrt(np.diagonal(inverse, axis1=1, axis2=2)) / scale[good]
    return found
