"""The raster of a probe microscope: there and back along a line, line after line, in time.

The tip never rests: it runs to +x at a constant speed (trace), turns, and runs back over the same
places (retrace), while the slow axis climbs steadily. The raster is known at knots, one a pixel on
either way, at equal intervals of time. Arrays in the order of time are (lines, knots); images are
(y, x), both ways stored from left to right.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from nanophantom.simcore.atoms import Window
from nanophantom.simcore.models import Model

Floats = npt.NDArray[np.float64]
Array = npt.NDArray[Any]
Rate = Annotated[float, Field(gt=0, le=1e5)]


class LineScan(Model):
    """A raster of lines, each scanned there and back."""

    width_px: int = Field(default=256, ge=2, le=16384)
    """Pixels in a line."""
    height_px: int = Field(default=256, ge=1, le=16384)
    """Lines."""
    pixel_size_nm: float = Field(default=2.0, gt=0)
    """Step from one pixel of a line to the next."""
    pixel_size_y_nm: float | None = Field(default=None, gt=0)
    """Step from line to line; none: the same as along the line."""
    line_rate_hz: Rate | tuple[Rate, ...] = 1.0
    """Lines a second, there and back; a list gives every frame its own."""
    overscan_percent: float = Field(default=5.0, ge=0, le=100)
    """What the tip travels beyond either end of a line, of its length; at least a pixel."""
    angle_deg: float = 0.0
    """Direction of the lines on the specimen (0 = to the right, 90 = down): turns the raster."""
    offset_nm: tuple[float, float] = (0.0, 0.0)
    """Centre of the raster on the specimen (x, y)."""
    slow_axis: Literal["down", "up", "alternate"] = "down"
    """Which way the lines follow one another; alternate goes down first, then up, and so on."""
    n_frames: int = Field(default=1, ge=1, le=100_000)
    """Images of the same area, one after another."""
    pause_s: float = Field(default=0.0, ge=0)
    """Time between two frames; the slow axis flies back at its beginning, at once."""

    @model_validator(mode="after")
    def _a_rate_for_every_frame(self) -> Self:
        rates = self.line_rate_hz
        if isinstance(rates, tuple) and len(rates) != self.n_frames:
            raise ValueError(
                f"line_rate_hz lists {len(rates)} rates for {self.n_frames} frames; "
                "give one number, or one for each frame"
            )
        return self

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels along y and along x."""
        return self.height_px, self.width_px

    @property
    def step_nm(self) -> tuple[float, float]:
        """Distance of pixels along y and along x."""
        along = self.pixel_size_nm
        return along if self.pixel_size_y_nm is None else self.pixel_size_y_nm, along

    @property
    def n_over(self) -> int:
        """Knots beyond either end of a line."""
        return max(1, math.ceil(self.overscan_percent / 100 * self.width_px))

    @property
    def knots_a_way(self) -> int:
        """Knots of a line in one direction, those beyond its ends included."""
        return self.width_px + 2 * self.n_over

    @property
    def knots(self) -> int:
        """Knots of a line, there and back."""
        return 2 * self.knots_a_way

    @property
    def travel_nm(self) -> tuple[float, float]:
        """Way between the turning points of the slow axis and of the fast one, (y, x)."""
        return self.height_px * self.step_nm[0], self.knots_a_way * self.step_nm[1]

    def rate_hz(self, frame: int) -> float:
        """Return the lines a second of a frame."""
        self._check(frame)
        rates = self.line_rate_hz
        return rates[frame] if isinstance(rates, tuple) else rates

    def knot_s(self, frame: int) -> float:
        """Return the time from one knot to the next."""
        return 1.0 / (self.rate_hz(frame) * self.knots)

    def frame_s(self, frame: int) -> float:
        """Return the time that the lines of a frame take."""
        return self.height_px / self.rate_hz(frame)

    def speed_um_per_s(self, frame: int) -> float:
        """Return the speed of the tip along its lines."""
        return 2e-3 * self.travel_nm[1] * self.rate_hz(frame)

    @property
    def starts_s(self) -> Floats:
        """When each frame begins, and at last when one more would, (frames + 1,)."""
        rates = np.broadcast_to(np.asarray(self.line_rate_hz, np.float64), self.n_frames)
        return np.concatenate([[0.0], np.cumsum(self.height_px / rates + self.pause_s)])

    def direction(self, frame: int) -> int:
        """Return which way the slow axis goes in a frame: 1 is down, -1 up."""
        self._check(frame)
        up = self.slow_axis == "up" or (self.slow_axis == "alternate" and frame % 2 == 1)
        return -1 if up else 1

    def rows(self, frame: int) -> npt.NDArray[np.int64]:
        """Return the row of the image that each line fills, in the order of time."""
        return np.arange(self.height_px)[:: self.direction(frame)]

    def times_s(self, frame: int) -> Floats:
        """Return when the tip is at the knots, (lines, knots); 0 is the start of the first frame.

        A knot lies in the middle of its interval, so the turns lie between two knots.
        """
        count = np.arange(self.height_px * self.knots) + 0.5
        times = self.starts_s[frame] + count * self.knot_s(frame)
        return np.asarray(times.reshape(self.height_px, self.knots))

    def raster_nm(self) -> tuple[Floats, Floats]:
        """Return x (width) and y (height) of the pixels; the origin is their centre."""
        x, y = (
            np.asarray((np.arange(n) - (n - 1) / 2) * step, np.float64)
            for n, step in zip(self.shape[::-1], self.step_nm[::-1], strict=True)
        )
        return x, y

    def drive_nm(self, frame: int) -> tuple[Floats, Floats]:
        """Return what the axes are told: the fast one (knots,), the slow one (lines, knots).

        The fast axis follows a triangle, whose knots are the same places on both ways. The slow
        one is a ramp, as that of most instruments: it passes the place of a row when the line
        turns, and is a quarter of a row before it amid the trace, after it amid the retrace.
        """
        n = self.knots_a_way
        there = (np.arange(n) - (n - 1) / 2) * self.step_nm[1]
        lines = (np.arange(self.height_px * self.knots) + 0.5) / self.knots
        ramp = (lines - self.height_px / 2) * (self.step_nm[0] * self.direction(frame))
        return np.concatenate([there, there[::-1]]), ramp.reshape(self.height_px, self.knots)

    def placed(self, along_nm: Floats, across_nm: Floats) -> tuple[Floats, Floats]:
        """Return places (x, y) on the specimen of what is counted along the raster's axes."""
        cos, sin = _cos_sin(self.angle_deg)
        x0, y0 = self.offset_nm
        return (
            np.asarray(cos * along_nm - sin * across_nm + x0),
            np.asarray(sin * along_nm + cos * across_nm + y0),
        )

    def nominal(self, frame: int) -> tuple[Floats, Floats]:
        """Return where on the specimen the knots should be, (x, y), each (lines, knots)."""
        return self.placed(*self.drive_nm(frame))

    def as_images(self, values: Array, frame: int) -> tuple[Array, Array]:
        """Cut what was met in time into images of trace and retrace.

        Parameters
        ----------
        values
            Shape (lines, knots), in the order of time.
        frame
            Which frame it is.

        Returns
        -------
        trace, retrace : (height, width)
            Views: left to right, top row first, without what lies beyond the ends of lines.
        """
        if values.shape != (self.height_px, self.knots):
            raise ValueError(
                f"values have shape {values.shape}, not (lines, knots) = "
                f"({self.height_px}, {self.knots})"
            )
        ordered = values[:: self.direction(frame)]
        n, first, last = self.knots_a_way, self.n_over, self.n_over + self.width_px
        return ordered[:, first:last], ordered[:, n + first : n + last][:, ::-1]

    @property
    def window(self) -> Window:
        """What the tip visits if all goes well: the box around the turned raster."""
        height, width = self.travel_nm
        cos, sin = (abs(c) for c in _cos_sin(self.angle_deg))
        half_x, half_y = (width * cos + height * sin) / 2, (width * sin + height * cos) / 2
        x, y = self.offset_nm
        return Window(x - half_x, x + half_x, y - half_y, y + half_y)

    def _check(self, frame: int) -> None:
        if not 0 <= frame < self.n_frames:
            raise ValueError(f"there is no frame {frame}; frames are 0 to {self.n_frames - 1}")


def _cos_sin(angle_deg: float) -> tuple[float, float]:
    """Return cosine and sine, exact for an angle of 0."""
    angle = math.radians(angle_deg)
    return math.cos(angle), math.sin(angle)
