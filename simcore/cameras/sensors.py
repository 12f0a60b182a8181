"""Sensors: the knobs of what stands behind the screen, and how well it sees.

All signals before the converter are in electrons: the mean signal of one detected electron is 1.
Frequencies are in cycles per pixel, along y and x.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Discriminator, Field, Tag, model_validator

from nanophantom.simcore.cameras import detector, transfer
from nanophantom.simcore.cameras.detector import Detector
from nanophantom.simcore.models import Model

Floats = npt.NDArray[np.float64]
Shape = tuple[int, int]
Fraction = Annotated[float, Field(gt=0, le=1)]

PURE: dict[str, Any] = {"dimensionless": True}
ROUNDING = 1.0 / 12.0  # variance of a number that is rounded to integers


class Counter(Model):
    """A perfect counter: it misses some electrons and adds nothing of its own."""

    type: Literal["ideal"] = "ideal"
    """Which sensor this is."""
    efficiency: float = Field(default=1.0, gt=0, le=1, json_schema_extra=PURE)
    """Fraction of the arriving electrons that is counted."""

    @property
    def readout_dtype(self) -> str:
        """Type of what is read out."""
        return "uint16"

    @property
    def counts_per_electron(self) -> float:
        """Mean readout per arriving electron at a low rate."""
        return self.efficiency

    def transfer(self, ky: npt.ArrayLike, kx: npt.ArrayLike) -> Floats:
        """Return the part of the MTF that acts before events are drawn: the pixel's area."""
        return transfer.pixel_area(ky, kx)

    def mtf_at(self, ky: npt.ArrayLike, kx: npt.ArrayLike) -> Floats:
        """Return the modulation transfer function."""
        return self.transfer(ky, kx)

    def dqe_at(
        self, ky: npt.ArrayLike, kx: npt.ArrayLike, electrons: float = 0.0, exposure_s: float = 1.0
    ) -> Floats:
        """Return the detective quantum efficiency; a perfect counter's is the same at any dose."""
        return self.efficiency * self.transfer(ky, kx) ** 2

    def detector(
        self, shape: Shape, rng: np.random.Generator, exposure_s: float, noisy: bool
    ) -> Detector:
        """Return the detector; nothing in it is fixed by chance."""
        return detector.PerfectCounter(shape, self.counts_per_electron, noisy)


class RealSensor(Model):
    """What counting and integrating sensors share."""

    mtf: tuple[Fraction, Fraction] | None = Field(default=None, json_schema_extra=PURE)
    """Modulation transfer at 1/2 and 1 Nyquist; none: nothing spreads after detection."""
    dqe: tuple[Fraction, Fraction, Fraction] = Field(
        default=transfer.IDEAL_DQE, json_schema_extra=PURE
    )
    """Detective quantum efficiency at 0, 1/2 and 1 Nyquist, at many electrons and a low rate."""
    gain_reference: float | None = Field(default=None, gt=0, json_schema_extra=PURE)
    """Electrons a pixel in the gain reference, whose noise stays as a pattern of relative variance
    1 / this; none: no gain error."""
    dark_rate_hz: float = Field(default=0.0, ge=0)
    """Mean dark signal of a pixel, electrons a second. In an integrating sensor its own shot noise,
    that of many small charges, counts as read noise."""
    dark_spread: float = Field(default=0.0, ge=0, le=10, json_schema_extra=PURE)
    """Standard deviation of the pixels' dark rates, relative to the mean."""
    dead_fraction: float = Field(default=0.0, ge=0, le=0.5, json_schema_extra=PURE)
    """Fraction of the pixels that don't respond."""
    hot_fraction: float = Field(default=0.0, ge=0, le=0.5, json_schema_extra=PURE)
    """Fraction of the pixels that glow."""
    hot_rate_hz: float = Field(default=1000.0, ge=0)
    """Dark signal of a hot pixel, electrons a second."""
    adu_per_electron: float = Field(default=1.0, gt=0, json_schema_extra=PURE)
    """Readout units per detected electron."""
    offset_adu: float = Field(default=0.0, ge=0, json_schema_extra=PURE)
    """Readout of no signal. Keep it several times the noise: the converter ends at 0."""
    bits: int | None = Field(default=16, ge=1, le=24)
    """Of the converter, whose numbers end at 0 and at 2^bits - 1; none: real numbers, no end."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        self._response  # noqa: B018 - raises where no blur has this MTF and DQE
        if self.dead_fraction + self.hot_fraction > 0.5:
            raise ValueError("dead_fraction and hot_fraction make more than half of the pixels")
        return self

    @property
    def _response(self) -> transfer.Response:
        return transfer.response(self.mtf, self.dqe)

    @property
    def _efficiency(self) -> float:
        return self.dqe[0]

    @property
    def _converter(self) -> detector.Converter:
        return detector.Converter(self.adu_per_electron, self.offset_adu, self.bits)

    @property
    def readout_dtype(self) -> str:
        """Type of what is read out."""
        return self._converter.dtype

    @property
    def counts_per_electron(self) -> float:
        """Mean readout per arriving electron at a low rate."""
        return self._efficiency * self.adu_per_electron

    def transfer(self, ky: npt.ArrayLike, kx: npt.ArrayLike) -> Floats:
        """Return the part of the MTF that acts before events are drawn, also beyond Nyquist."""
        return self._response.before(ky, kx)

    def mtf_at(self, ky: npt.ArrayLike, kx: npt.ArrayLike) -> Floats:
        """Return the modulation transfer function."""
        return self._response.before(ky, kx) * self._response.after(ky, kx)

    def _maps(self, shape: Shape, rng: np.random.Generator, exposure_s: float) -> detector.Maps:
        """Draw gain errors, dark rates and defects, each from its own stream."""
        keys = rng.integers(0, 2**63, 3)
        gains, darks, places = (np.random.Generator(np.random.PCG64(int(k))) for k in keys)
        gain = np.ones(shape, dtype=np.float32)
        if self.gain_reference is not None:
            n = self.gain_reference
            gain = gains.standard_gamma(n, shape, dtype=np.float32) / np.float32(n)
        dark = np.full(shape, self.dark_rate_hz * exposure_s, dtype=np.float32)
        if self.dark_spread > 0.0:
            variance = self.dark_spread**2
            dark *= darks.standard_gamma(1.0 / variance, shape, dtype=np.float32)
            dark *= np.float32(variance)
        defects = np.zeros(shape, dtype=np.uint8)
        if self.dead_fraction + self.hot_fraction > 0.0:
            lot = places.random(shape, dtype=np.float32)
            defects[lot < self.dead_fraction] = detector.DEAD
            defects[lot > 1.0 - self.hot_fraction] = detector.HOT
            dark[defects == detector.HOT] += np.float32(self.hot_rate_hz * exposure_s)
        return detector.Maps(gain, dark, defects)

    def _parts(self, shape: Shape, rng: np.random.Generator, exposure_s: float) -> dict[str, Any]:
        """Return what both kinds of detector are made of."""
        spread = None
        if self._response.spread is not None:
            ky, kx = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])
            spread = self._response.after(ky, kx).astype(np.float32)
        has_defects = self.dead_fraction + self.hot_fraction > 0.0
        has_dark = self.dark_rate_hz > 0.0 or (self.hot_fraction > 0.0 and self.hot_rate_hz > 0.0)
        has = {
            "gain": self.gain_reference is not None,
            "dark": has_dark,
            "defects": has_defects,
        }
        return {
            "counts_per_electron": self.counts_per_electron,
            "efficiency": self._efficiency,
            "maps": self._maps(shape, rng, exposure_s),
            "spread": spread,
            "converter": self._converter,
            "has": tuple(name for name, own in has.items() if own),
        }


class CountingSensor(RealSensor):
    """Counts single electrons in many short internal frames."""

    type: Literal["counting"] = "counting"
    """Which sensor this is."""
    frame_rate_hz: float | None = Field(default=None, gt=0)
    """Internal frames a second; electrons that meet in one count once. None: none ever meet."""
    coincidence_area_px: float = Field(default=1.0, ge=1, json_schema_extra=PURE)
    """Pixels in which they meet. The loss is exact for an area of 1; for a larger one it is the
    loss of an evenly lit neighbourhood, taken at each pixel's own rate."""

    def frames(self, exposure_s: float) -> float:
        """Return the number of internal frames of an exposure, at least 1; 0: no coincidence."""
        return (
            0.0 if self.frame_rate_hz is None else max(1.0, round(self.frame_rate_hz * exposure_s))
        )

    def dqe_at(
        self, ky: npt.ArrayLike, kx: npt.ArrayLike, electrons: float = 0.0, exposure_s: float = 1.0
    ) -> Floats:
        """Return the detective quantum efficiency of a flat exposure.

        Counts of a mean m(n) = N p, p = (1 - exp(-x)) / A, x = A efficiency n / N in N internal
        frames have the variance N p (1 - p), and the DQE at 0 is n (dm/dn)^2 / variance: for A = 1
        efficiency x / (exp(x) - 1). Where events spread, rounding adds 1/12 readout unit squared.
        Dark events are left out.

        Parameters
        ----------
        ky, kx
            Frequencies, cycles per pixel.
        electrons
            That arrive at a pixel during the exposure; 0: few.
        exposure_s
            Length of the exposure.
        """
        before, after = self._response.before(ky, kx), self._response.after(ky, kx)
        if electrons == 0.0:
            return self._efficiency * before**2
        slope, variance = self._statistics(self._efficiency * electrons, exposure_s)
        rounded = self._response.spread is not None and self.bits is not None
        added = ROUNDING / self.adu_per_electron**2 if rounded else 0.0
        noise = variance * after**2 + added
        return np.asarray(electrons * (self._efficiency * slope * before * after) ** 2 / noise)

    def _statistics(self, detected: float, exposure_s: float) -> tuple[float, float]:
        """Return the slope of the mean count and the variance of the counts, before they spread."""
        frames, area = self.frames(exposure_s), self.coincidence_area_px
        if frames == 0.0:
            return 1.0, detected
        p = -math.expm1(-area * detected / frames) / area
        return math.exp(-area * detected / frames), frames * p * (1.0 - p)

    def detector(
        self, shape: Shape, rng: np.random.Generator, exposure_s: float, noisy: bool
    ) -> Detector:
        """Draw what is fixed and return the detector."""
        return detector.CountingDetector(
            shape=shape,
            noisy=noisy,
            frames=self.frames(exposure_s),
            coincidence_area_px=self.coincidence_area_px,
            **self._parts(shape, rng, exposure_s),
        )


class IntegratingSensor(RealSensor):
    """Adds up what the electrons deposit, directly or as light, and reads it once."""

    type: Literal["integrating"] = "integrating"
    """Which sensor this is."""
    efficiency: float = Field(default=1.0, gt=0, le=1, json_schema_extra=PURE)
    """Fraction of the arriving electrons that is detected. What the DQE at 0 lacks beyond it is
    the varying deposit: of relative variance efficiency / DQE(0) - 1."""
    read_noise: float = Field(default=0.0, ge=0, json_schema_extra=PURE)
    """Standard deviation of a pixel's readout without signal, electrons."""
    row_noise: float = Field(default=0.0, ge=0, json_schema_extra=PURE)
    """Standard deviation of what a row has in common in one frame, electrons."""
    column_noise: float = Field(default=0.0, ge=0, json_schema_extra=PURE)
    """Standard deviation of what a column has in common in one frame, electrons."""
    full_well: float | None = Field(default=None, gt=0, json_schema_extra=PURE)
    """Signal at which a pixel saturates, electrons; none: the converter ends first."""

    @model_validator(mode="after")
    def _detects_enough(self) -> Self:
        if self.dqe[0] > self.efficiency:
            raise ValueError(
                f"efficiency ({self.efficiency:g}) is below the DQE at 0 ({self.dqe[0]:g})"
            )
        return self

    @property
    def _efficiency(self) -> float:
        return self.efficiency

    @property
    def deposit_variance(self) -> float:
        """Relative variance of what one detected electron deposits."""
        return self.efficiency / self.dqe[0] - 1.0

    def dqe_at(
        self, ky: npt.ArrayLike, kx: npt.ArrayLike, electrons: float = 0.0, exposure_s: float = 1.0
    ) -> Floats:
        """Return the detective quantum efficiency of a flat exposure.

        Readout and rounding add a variance s^2 without correlation:
        efficiency M_pre^2 / (1 + v + s^2 / (efficiency n M_post^2)). Row and column noise stand on
        the axes of the spectrum and are left out.

        Parameters
        ----------
        ky, kx
            Frequencies, cycles per pixel.
        electrons
            That arrive at a pixel; 0: so many that the readout adds nothing.
        exposure_s
            Of no influence here.
        """
        before, after = self._response.before(ky, kx), self._response.after(ky, kx)
        excess: Floats | float = 1.0 + self.deposit_variance
        if electrons > 0.0:
            rounding = 0.0 if self.bits is None else ROUNDING / self.adu_per_electron**2
            added = self.read_noise**2 + rounding
            excess = excess + added / (self.efficiency * electrons * after**2)
        return np.asarray(self.efficiency * before**2 / excess)

    def detector(
        self, shape: Shape, rng: np.random.Generator, exposure_s: float, noisy: bool
    ) -> Detector:
        """Draw what is fixed and return the detector."""
        return detector.IntegratingDetector(
            shape=shape,
            noisy=noisy,
            deposit_variance=self.deposit_variance,
            read_noise=self.read_noise,
            row_noise=self.row_noise,
            column_noise=self.column_noise,
            full_well=np.inf if self.full_well is None else self.full_well,
            **self._parts(shape, rng, exposure_s),
        )


def _type_of(data: Any) -> str:
    if isinstance(data, dict):
        return str(data.get("type", "ideal"))
    return str(getattr(data, "type", "ideal"))


Sensor = Annotated[
    Annotated[Counter, Tag("ideal")]
    | Annotated[CountingSensor, Tag("counting")]
    | Annotated[IntegratingSensor, Tag("integrating")],
    Discriminator(
        _type_of,
        custom_error_type="sensor_type",
        custom_error_message="has no such 'type'; a sensor is ideal, counting or integrating",
    ),
]
"""Any sensor; its ``type`` says which."""
