"""The sensor that records the height: the only thing that comes after the feedback loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nanophantom.simcore.models import Model
from nanophantom.simcore.scan_errors import Streams

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class HeightSensor(Model):
    """A height sensor and its converter: noise, spikes, rounding; without knobs, a perfect one."""

    noise_nm: float = Field(default=0.0, ge=0)
    """Standard deviation of its white noise, a pixel."""
    spike_rate: float = Field(default=0.0, ge=0, json_schema_extra={"dimensionless": True})
    """Mean number of pixels, in an image, that are hit by a spike of the electronics."""
    spike_nm: float = Field(default=10.0, ge=0)
    """Their typical height; each is drawn from half to one and a half of it, up or down."""
    quantization_nm: float = Field(default=0.0, ge=0)
    """Step of the converter; heights are rounded to the nearest. 0 for a converter without."""
    range_nm: Annotated[float, Field(gt=0)] | None = None
    """Span of the converter about 0: what lies beyond is recorded as its end; none: no end."""

    def read(self, heights_nm: Floats, frame: int, rng: Streams) -> Reading:
        """Record the heights of a frame: a pure function of its number.

        Parameters
        ----------
        heights_nm : (..., height, width)
            What the loop gave. Images of one frame (trace and retrace) are read together, stacked,
            so that each has noise of its own.
        frame
            Which frame it is.
        rng
            Gives the streams of the causes for the whole run, ``run.rng``: "sensor-noise:n" and
            "sensor-spikes:n" for frame n.

        Raises
        ------
        ValueError
            The heights aren't finite, or no image.
        """
        z = np.array(heights_nm, np.float64)
        if z.ndim < 2 or not np.isfinite(z).all():
            raise ValueError("heights_nm must be finite, of shape (..., height, width)")
        pixels = z.shape[-2] * z.shape[-1]
        if self.spike_rate > pixels:
            raise ValueError(
                f"spike_rate: {self.spike_rate:g} spikes don't fit into an image of {pixels} pixels"
            )
        if self.noise_nm:
            z += self.noise_nm * rng(f"sensor-noise:{frame}").standard_normal(z.shape)
        spikes = np.zeros(z.shape, np.bool_)
        if self.spike_rate and self.spike_nm:
            hit, size, sign = rng(f"sensor-spikes:{frame}").random((3, *z.shape))
            spikes = hit < self.spike_rate / pixels
            heights = self.spike_nm * (0.5 + size) * np.where(sign < 0.5, 1.0, -1.0)
            z += np.where(spikes, heights, 0.0)
        if self.quantization_nm:
            z = self.quantization_nm * np.rint(z / self.quantization_nm)
        saturated = np.zeros(z.shape, np.bool_)
        if self.range_nm is not None:
            saturated = np.abs(z) > self.range_nm / 2
            z = np.clip(z, -self.range_nm / 2, self.range_nm / 2)
        return Reading(z, spikes, saturated)


@dataclass(frozen=True, eq=False)
class Reading:
    """What a height sensor recorded, and where it went wrong; all of one shape.

    Attributes
    ----------
    heights_nm
        Recorded heights.
    spikes
        Pixels with a spike.
    saturated
        Pixels beyond the converter's range, which is recorded instead.
    """

    heights_nm: Floats
    spikes: Mask
    saturated: Mask
