"""Light that comes from no emitter: even, structured, fading, and that of imagers in solution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft
from pydantic import Field

from nanophantom.simcore.models import Model

Floats = npt.NDArray[np.float64]

PURE: dict[str, Any] = {"dimensionless": True}


class Background(Model):
    """Background light, in photons that fall on a pixel during one exposure."""

    photons: float = Field(default=10.0, ge=0, le=1e6, json_schema_extra=PURE)
    """Mean photons a pixel and frame in the middle of the field at the start."""
    structure: float = Field(default=0.0, ge=0, le=2, json_schema_extra=PURE)
    """Standard deviation of its logarithm over the field: cells are not evenly bright. 0: even."""
    structure_size_um: float = Field(default=1.5, gt=0, le=1000)
    """Size of its bright and dark patches: standard deviation of the filter that makes them."""
    fading_time_s: float | None = Field(default=None, gt=0)
    """Time constant with which it fades; none: it doesn't."""
    lasting: float = Field(default=0.3, ge=0, le=1, json_schema_extra=PURE)
    """Part of it that doesn't fade."""

    free_imager_depth_nm: float = Field(default=0.0, ge=0, le=1e5)
    """Depth of solution whose imagers are lit and seen (100 to 200 nm in total reflection); they
    add their light to the background of DNA-PAINT. 0: none of it."""

    def at(self, t_s: float) -> float:
        """Return the background at a time relative to that at the start."""
        if self.fading_time_s is None:
            return 1.0
        return self.lasting + (1 - self.lasting) * math.exp(-t_s / self.fading_time_s)

    def pattern(
        self, shape: tuple[int, int], pixel_size_nm: float, rng: np.random.Generator
    ) -> Floats:
        """Draw how the background is spread over the pixels; 1 on average over many draws.

        ``exp(structure * g - structure^2 / 2)`` with g a Gaussian random field of variance 1,
        white noise that a Gaussian filter of `structure_size_um` smooths.
        """
        if self.structure == 0:
            return np.ones(shape)
        width_px = self.structure_size_um * 1e3 / pixel_size_nm
        padded = tuple(scipy.fft.next_fast_len(n + math.ceil(6 * width_px)) for n in shape)
        noise = rng.standard_normal(padded)
        ky, kx = np.fft.fftfreq(padded[0])[:, None], np.fft.rfftfreq(padded[1])
        transfer = np.exp(-2 * np.pi**2 * width_px**2 * (ky**2 + kx**2))
        smooth = scipy.fft.irfft2(scipy.fft.rfft2(noise, workers=1) * transfer, padded, workers=1)
        both = np.concatenate([np.arange(padded[1] // 2 + 1), np.arange(1, (padded[1] + 1) // 2)])
        variance = (transfer[:, both] ** 2).mean()  # of the field, by Parseval
        field = smooth[: shape[0], : shape[1]] / math.sqrt(variance)
        return np.asarray(np.exp(self.structure * field - self.structure**2 / 2))
