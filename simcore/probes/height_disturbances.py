"""What moves tip and specimen in z besides the scanner: the feedback loop has to follow it all.

Pickup of the mains, 1/f noise, offsets between lines, jumps that last, and debris under the tip
for a part of a line (scars). These are real motions, before the loop; what its sensor adds after
it is :mod:`height_sensor`. Positive means that the specimen seems higher.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import scipy.fft
from pydantic import Field, NonNegativeFloat

from nanophantom.simcore.fields import Table
from nanophantom.simcore.models import Model
from nanophantom.simcore.probes.line_scan import LineScan
from nanophantom.simcore.scan_errors import Streams

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class HeightDisturbances(Model):
    """Motions of tip against specimen in z; an amplitude of 0 turns a cause off.

    They are taken at the knots of the raster: what is faster than half their rate appears as its
    alias. Each cause has a random stream of its own, so one that is turned off, or made stronger,
    leaves the others as they were.
    """

    mains_hz: float = Field(default=50.0, gt=0)
    """Frequency of the mains: 50 or 60 Hz."""
    mains_nm: Annotated[tuple[NonNegativeFloat, ...], Field(max_length=20)] = ()
    """Amplitudes at the mains' frequency, twice it, three times it and so on; their phases are
    drawn once, and time runs on from frame to frame."""
    noise_nm: float = Field(default=0.0, ge=0)
    """Standard deviation of 1/f noise, from the frequency of frames to half that of knots."""
    noise_exponent: float = Field(
        default=1.0, ge=0, le=3, json_schema_extra={"dimensionless": True}
    )
    """How steeply the noise falls, f^-exponent: 1 for 1/f noise, 2 for that of a random walk."""
    line_offset_nm: float = Field(default=0.0, ge=0)
    """Standard deviation of an offset that each line has for itself, there and back."""
    step_rate: float = Field(default=0.0, ge=0, le=1e5, json_schema_extra={"dimensionless": True})
    """Mean number, in a frame, of jumps of the height that last, through later frames too."""
    step_nm: float = Field(default=1.0, ge=0)
    """Their typical height; each is drawn from half to one and a half of it, up or down."""
    scar_rate: float = Field(default=0.0, ge=0, le=1e6, json_schema_extra={"dimensionless": True})
    """Mean number of scars in a frame, trace and retrace together."""
    scar_nm: float = Field(default=2.0, ge=0)
    """Their typical height; each is drawn from half to one and a half of it."""
    scar_length_nm: float = Field(default=100.0, gt=0)
    """Mean of their exponentially distributed lengths; they end with the way of the line at the
    latest."""
    scar_direction: Literal["both", "up", "down"] = "both"
    """Whether the tip is lifted by them, falls, or either with the same chance."""

    def draw(self, scan: LineScan, frame: int, rng: Streams) -> Disturbance:
        """Draw what disturbs a frame: a pure function of its number.

        Parameters
        ----------
        scan
            The raster.
        frame
            Which frame it is.
        rng
            Gives the streams of the causes for the whole run, ``run.rng``: "height-mains" and, for
            each frame n, "height-noise:n", "line-offsets:n", "height-steps:n" and "scars:n".
        """
        t = scan.times_s(frame)
        mains, steps = self._mains(rng), self._steps(scan, frame, rng)
        scars, under_tip = self._scars(scan, frame, rng)
        offsets = rng(f"line-offsets:{frame}").normal(0.0, 1.0, scan.height_px)
        offsets *= self.line_offset_nm
        layers: dict[str, Floats] = {}
        if any(self.mains_nm):
            sines = (
                a * np.sin(2 * np.pi * f * t + phase)
                for f, a, phase in zip(*mains.values(), strict=True)
            )
            layers["mains"] = np.asarray(sum(sines))
        if self.noise_nm:
            noise_rng = rng(f"height-noise:{frame}")
            noise = power_law_noise(t.size, self.noise_nm, self.noise_exponent, noise_rng)
            layers["noise"] = noise.reshape(t.shape)
        if self.line_offset_nm:
            layers["line offsets"] = np.repeat(offsets[:, None], scan.knots, axis=1)
        if len(steps["t_s"]):
            done = np.searchsorted(steps["t_s"], t, side="right")
            layers["steps"] = np.concatenate([[0.0], np.cumsum(steps["height_nm"])])[done]
        if len(scars["line"]):
            layers["scars"] = under_tip
        z = np.zeros(t.shape)
        for layer in layers.values():
            z += layer
        trace, retrace = scan.as_images(under_tip != 0, frame)
        return Disturbance(z, layers, mains, offsets, steps, scars, trace, retrace)

    def _mains(self, rng: Streams) -> Table:
        n = len(self.mains_nm)
        return {
            "frequency_hz": self.mains_hz * np.arange(1, n + 1),
            "amplitude_nm": np.array(self.mains_nm, np.float64),
            "phase_rad": rng("height-mains").uniform(0.0, 2 * np.pi, n),
        }

    def _steps(self, scan: LineScan, frame: int, rng: Streams) -> Table:
        """Draw the jumps of this frame and of all before it, in the order of time."""
        times: list[Floats] = [np.empty(0)]
        heights: list[Floats] = [np.empty(0)]
        starts = scan.starts_s
        for i in range(frame + 1) if self.step_rate and self.step_nm else ():
            stream = rng(f"height-steps:{i}")
            when, size, sign = stream.random((int(stream.poisson(self.step_rate)), 3)).T
            order = np.argsort(when)
            times.append(starts[i] + scan.frame_s(i) * when[order])
            heights.append(_signed(self.step_nm, size, sign, "both")[order])
        return {"t_s": np.concatenate(times), "height_nm": np.concatenate(heights)}

    def _scars(self, scan: LineScan, frame: int, rng: Streams) -> tuple[Table, Floats]:
        """Draw the scars of a frame: their table, and their heights at the knots, summed."""
        stream = rng(f"scars:{frame}")
        rate = self.scar_rate if self.scar_nm else 0.0
        place = stream.random((int(stream.poisson(rate)), 5))
        place[:, :3] = np.floor(place[:, :3] * (scan.height_px, 2, scan.width_px))
        place = place[np.lexsort(place[:, 2::-1].T)]  # in the order of time
        line, back, column = place[:, :3].astype(np.int64).T
        height = _signed(self.scar_nm, place[:, 3], place[:, 4], self.scar_direction)
        length = stream.standard_exponential(len(place)) * self.scar_length_nm / scan.step_nm[1]
        first = back * scan.knots_a_way + scan.n_over + column
        end = first + np.maximum(1, np.rint(length)).astype(np.int64)
        end = np.minimum(end, (1 + back) * scan.knots_a_way)
        under_tip = np.zeros((scan.height_px, scan.knots))
        for i in range(len(line)):
            under_tip[line[i], first[i] : end[i]] += height[i]
        start_s = scan.starts_s[frame] + line / scan.rate_hz(frame)
        table = {
            "line": line,
            "row": scan.rows(frame)[line],
            "retrace": back,
            "start_column": np.where(back == 1, scan.width_px - 1 - column, column),
            "length_px": end - first,
            "height_nm": height,
            "t_start_s": start_s + first * scan.knot_s(frame),
            "t_end_s": start_s + end * scan.knot_s(frame),
        }
        return table, under_tip


@dataclass(frozen=True, eq=False)
class Disturbance:
    """What disturbed a frame; positive where the specimen seems higher.

    Attributes
    ----------
    z_nm : (lines, knots)
        All causes together, in the order of time.
    layers
        Each cause that is at work, by its name, of the same shape; they add up to `z_nm`.
    mains
        frequency_hz, amplitude_nm and phase_rad (at t = 0) of its sines.
    line_offsets_nm : (lines,)
        Offset of each line.
    steps
        t_s and height_nm of the jumps of this frame and of all before it.
    scars
        line (in the order of time) and row, retrace (0 or 1), start_column (of the image, where it
        begins in time: a scar of the retrace extends from there to the left), length_px (what
        lies beyond the end of the line included), height_nm, t_start_s, t_end_s.
    scar_trace, scar_retrace : (height, width)
        Pixels during which debris lay under the tip.
    """

    z_nm: Floats
    layers: Mapping[str, Floats]
    mains: Table
    line_offsets_nm: Floats
    steps: Table
    scars: Table
    scar_trace: Mask
    scar_retrace: Mask


def power_law_noise(n: int, rms: float, exponent: float, rng: np.random.Generator) -> Floats:
    """Draw evenly sampled noise whose spectral density is in proportion to f^-exponent.

    Independent normal Fourier coefficients (J. Timmer & M. König, Astron. Astrophys. 300, 707
    (1995)) of a record twice as long, of which one half is kept, so that its ends are not alike.
    The density is that of frequencies from 1 / (length kept) to half the rate of samples.

    Parameters
    ----------
    n
        Number of samples.
    rms
        Standard deviation of the ensemble; that of one record scatters about it.
    exponent
        0 for white noise, 1 for 1/f noise.
    rng
        Stream of this cause.

    Returns
    -------
    (n,)
        The noise.

    Raises
    ------
    ValueError
        There are fewer than 3 samples, or the standard deviation is negative.
    """
    if n < 3 or rms < 0:
        raise ValueError(f"noise needs 3 samples or more and an rms of 0 or more, not {n}, {rms:g}")
    length = scipy.fft.next_fast_len(2 * n, real=True)
    cycles = np.arange(length // 2 + 1) * (n / length)  # in the time that is kept
    edges = np.append(cycles, cycles[-1] + n / length) - 0.5 * n / length
    edges = np.clip(edges, 1.0, n / 2)
    power = np.diff(np.log(edges) if exponent == 1 else edges ** (1 - exponent) / (1 - exponent))
    power[2 * cycles >= n] = 0.0  # has no partner at -f
    power *= rms**2 / power.sum()  # each frequency's share of the variance
    drawn = rng.standard_normal((len(cycles), 2))
    # c and its conjugate at -f add up to 2 Re(c exp(i w t)), of variance 2 <|c|^2>
    spectrum = np.sqrt(power / 4) * (drawn[:, 0] + 1j * drawn[:, 1])
    noise = scipy.fft.irfft(spectrum, length, norm="forward", overwrite_x=True, workers=1)
    return np.asarray(noise[:n], np.float64)


def _signed(typical: float, size: Floats, sign: Floats, direction: str) -> Floats:
    """Return heights of half to one and a half of the typical one from uniform numbers."""
    up = {"up": 1.0, "down": 0.0, "both": 0.5}[direction]
    return np.asarray(typical * (0.5 + size) * np.where(sign < up, 1.0, -1.0))
