"""Structured illumination: striped light, and what passes a microscope of which spatial frequency.

Stripes ``I = 1/2 [1 + m cos(2 pi k . r + phase)]`` mix with a structure's frequencies: each image
holds the structure thrice, as it is (order 0, strength 1/2) and shifted by -k and +k (orders of
strength m/4). Frequencies up to the cutoff of the objective plus abs(k) so get into the images
(M. G. L. Gustafsson, J. Microsc. 198 (2000) 82).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nanophantom.simcore.fields import Table
from nanophantom.simcore.models import Model

Floats = npt.NDArray[np.float64]

PURE: dict[str, Any] = {"dimensionless": True}

N_ANGLES = 3
N_PHASES = 3
N_RAW = N_ANGLES * N_PHASES
"""Raw images that make one."""
OF_THE_CUTOFF = 0.92
"""Usual finest stripes: part of the largest frequency that the objective can bring in."""


def cutoff_per_nm(na: float, wavelength_nm: float) -> float:
    """Return the largest spatial frequency that an objective passes, 2 NA / wavelength.

    Raises
    ------
    ValueError
        The aperture or the wavelength isn't positive.
    """
    if not (na > 0 and wavelength_nm > 0):
        raise ValueError(f"na {na:g} and wavelength_nm {wavelength_nm:g} must be positive")
    return 2.0 * na / wavelength_nm


def sim_cutoff_per_nm(na: float, wavelength_nm: float, pattern_per_nm: float) -> float:
    """Return the largest frequency of a reconstruction: the objective's plus the stripes'."""
    return cutoff_per_nm(na, wavelength_nm) + pattern_per_nm


def optical_transfer(frequency_per_nm: npt.ArrayLike, cutoff_per_nm: float) -> Floats:
    """Return the transfer function of an evenly filled round pupil, 1 at frequency 0.

    ``(2 / pi) (acos s - s sqrt(1 - s^2))``, s the frequency over the cutoff: the overlap of two
    pupils (J. W. Goodman, Introduction to Fourier Optics, section 6.3).
    """
    s = np.minimum(np.abs(np.asarray(frequency_per_nm, np.float64)) / cutoff_per_nm, 1.0)
    return np.asarray(2.0 / math.pi * (np.arccos(s) - s * np.sqrt(1.0 - s**2)))


class StripedLight(Model):
    """Striped light: three directions, three phases each, and how far it is from what was set.

    Errors are drawn once; the operator knows the settings only.
    """

    excitation_kw_per_cm2: float = Field(default=0.2, gt=0, le=1000)
    """Intensity that full light without stripes would have, that of the brightest places under
    stripes of full contrast; the mean is half."""
    spacing_nm: float | None = Field(default=None, gt=0, le=1e5)
    """Distance of the stripes; none: 1 / 0.92 of the finest that the objective can bring in."""
    first_angle_deg: float = Field(default=10.0, ge=-360, le=360)
    """Direction, from x towards y (down), in which the light of the first three frames varies; that
    of the others is turned by 60 and 120 degrees."""
    modulation: tuple[float, float, float] = Field(default=(0.9, 0.9, 0.9), json_schema_extra=PURE)
    """Contrast m of the stripes of each direction, 0 to 1."""
    spacing_error_percent: float = Field(default=0.5, ge=0, le=20)
    """Standard deviation of the distance of the stripes, drawn for each direction."""
    angle_error_deg: float = Field(default=0.3, ge=0, le=20)
    """Standard deviation of each direction."""
    phase_step_error_percent: float = Field(default=0.0, ge=-50, le=50)
    """How much longer than 120 degrees every step of the phase is."""
    phase_jitter_deg: float = Field(default=3.0, ge=0, le=90)
    """Standard deviation of the phase of each frame."""

    def spacing(self, na: float, excitation_nm: float) -> float:
        """Return the nominal distance of the stripes, nm.

        Raises
        ------
        ValueError
            They are finer than the objective can make, or a modulation lies beyond 0 to 1.
        """
        if not all(0 <= m <= 1 for m in self.modulation):
            raise ValueError(f"pattern.modulation: each from 0 to 1, got {self.modulation}")
        finest = 1.0 / cutoff_per_nm(na, excitation_nm)
        spacing = finest / OF_THE_CUTOFF if self.spacing_nm is None else self.spacing_nm
        if spacing < finest:
            raise ValueError(
                f"pattern.spacing_nm: an objective of NA {na:g} makes stripes of {finest:.1f} nm "
                f"or more with light of {excitation_nm:g} nm, not {spacing:g} nm"
            )
        return spacing

    def nominal(self, na: float, excitation_nm: float) -> dict[str, Any]:
        """Return what the operator set: spacing_nm, k_per_nm, angles_deg, phases_deg."""
        spacing = self.spacing(na, excitation_nm)
        return {
            "spacing_nm": spacing,
            "k_per_nm": 1.0 / spacing,
            "angles_deg": [self.first_angle_deg + 60.0 * a for a in range(N_ANGLES)],
            "phases_deg": [120.0 * p for p in range(N_PHASES)],
        }

    def draw(
        self, na: float, excitation_nm: float, n_frames: int, rng: np.random.Generator
    ) -> Table:
        """Draw the stripes of every frame; frame i has direction i // 3 mod 3 and phase i mod 3.

        Returns
        -------
        dict
            frame, angle (number of the direction), angle_deg, kx_per_nm, ky_per_nm, phase_deg in
            the middle of the view (0 to 360), modulation.
        """
        spacing_rng, angle_rng, phase_rng = rng.spawn(3)
        frame = np.arange(n_frames)
        angle, step = frame // N_PHASES % N_ANGLES, frame % N_PHASES
        longer = 1.0 + 0.01 * self.spacing_error_percent * spacing_rng.standard_normal(N_ANGLES)
        spacing = self.spacing(na, excitation_nm) * longer
        directions = self.first_angle_deg + 60.0 * np.arange(N_ANGLES)
        directions += self.angle_error_deg * angle_rng.standard_normal(N_ANGLES)
        start = phase_rng.uniform(0.0, 360.0, N_ANGLES)
        step_deg = 120.0 * (1.0 + 0.01 * self.phase_step_error_percent)
        jitter = self.phase_jitter_deg * phase_rng.standard_normal(n_frames)
        turned = np.radians(directions[angle])
        return {
            "frame": frame,
            "angle": angle,
            "angle_deg": directions[angle],
            "kx_per_nm": np.cos(turned) / spacing[angle],
            "ky_per_nm": np.sin(turned) / spacing[angle],
            "phase_deg": (start[angle] + step_deg * step + jitter) % 360.0,
            "modulation": np.asarray(self.modulation)[angle],
        }


def striped(patterns: Table, i: int, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike) -> Floats:
    """Return the light of frame i at places, 0 to 1; coordinates from the middle of the view."""
    kx, ky = float(patterns["kx_per_nm"][i]), float(patterns["ky_per_nm"][i])
    phase = math.radians(float(patterns["phase_deg"][i]))
    x, y = np.asarray(x_nm, np.float64), np.asarray(y_nm, np.float64)
    wave = np.cos(2.0 * math.pi * (kx * x + ky * y) + phase)
    return np.asarray(0.5 * (1.0 + float(patterns["modulation"][i]) * wave))
