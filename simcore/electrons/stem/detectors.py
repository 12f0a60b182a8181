"""What a STEM detector weighs: geometry in scattering angles, as weights on frequencies."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Discriminator, Field, model_validator

from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.models import Model

Floats = npt.NDArray[np.float64]


class _Detector(Model):
    """A detector in the diffraction plane, centred on the optical axis unless shifted."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")
    """Name of the signal."""

    @property
    @abstractmethod
    def channels(self) -> tuple[str, ...]:
        """Names of the signals that it gives."""

    @property
    @abstractmethod
    def reach_mrad(self) -> float:
        """Largest angle that it looks at."""

    @abstractmethod
    def weigh(self, angle_x_mrad: Floats, angle_y_mrad: Floats) -> list[Floats]:
        """Return the weight of every direction, one array a channel."""

    def weights(self, kx: npt.ArrayLike, ky: npt.ArrayLike, energy_kev: float) -> Floats:
        """Return the weights of beams, (channels, ...), kx and ky in 1/Å (they broadcast)."""
        scale = 1e3 * wavelength(energy_kev)
        x, y = np.broadcast_arrays(np.asarray(kx) * scale, np.asarray(ky) * scale)
        return np.stack(self.weigh(x, y))


class AnnularDetector(_Detector):
    """A disk or a ring: bright field, annular bright field, annular dark field."""

    shape: Literal["annular"] = "annular"
    inner_mrad: float = Field(default=0.0, ge=0)
    """Inner radius; 0 makes it a disk."""
    outer_mrad: float = Field(gt=0)
    """Outer radius."""
    shift_mrad: tuple[float, float] = (0.0, 0.0)
    """Where its centre lies, (x, y)."""

    @model_validator(mode="after")
    def _a_ring(self) -> Self:
        if self.inner_mrad >= self.outer_mrad:
            raise ValueError(
                f"inner_mrad ({self.inner_mrad:g}) must be below outer_mrad ({self.outer_mrad:g})"
            )
        return self

    @property
    def channels(self) -> tuple[str, ...]:
        """One: its name."""
        return (self.name,)

    @property
    def reach_mrad(self) -> float:
        """Largest angle that it looks at."""
        return self.outer_mrad + math.hypot(*self.shift_mrad)

    def weigh(self, angle_x_mrad: Floats, angle_y_mrad: Floats) -> list[Floats]:
        """One inside, zero outside; edges belong to it."""
        r = np.hypot(angle_x_mrad - self.shift_mrad[0], angle_y_mrad - self.shift_mrad[1])
        slack = 1e-9 * self.outer_mrad
        inside = (r >= self.inner_mrad - slack) & (r <= self.outer_mrad + slack)
        return [inside.astype(np.float64)]


class SegmentedDetector(_Detector):
    """A ring cut into equal sectors, for differential phase contrast."""

    shape: Literal["segmented"] = "segmented"
    inner_mrad: float = Field(default=0.0, ge=0)
    """Inner radius."""
    outer_mrad: float = Field(gt=0)
    """Outer radius."""
    segments: int = Field(default=4, ge=2, le=64)
    """Number of sectors."""
    rotation_deg: float = 0.0
    """Azimuth of the middle of the first sector, from +x towards +y."""

    @model_validator(mode="after")
    def _a_ring(self) -> Self:
        if self.inner_mrad >= self.outer_mrad:
            raise ValueError(
                f"inner_mrad ({self.inner_mrad:g}) must be below outer_mrad ({self.outer_mrad:g})"
            )
        return self

    @property
    def channels(self) -> tuple[str, ...]:
        """One for each sector: name-0, name-1 ..."""
        return tuple(f"{self.name}-{i}" for i in range(self.segments))

    @property
    def reach_mrad(self) -> float:
        """Largest angle that it looks at."""
        return self.outer_mrad

    def weigh(self, angle_x_mrad: Floats, angle_y_mrad: Floats) -> list[Floats]:
        """One inside a sector; the direct beam and the border lines are shared by neighbours."""
        r = np.hypot(angle_x_mrad, angle_y_mrad)
        slack = 1e-9 * self.outer_mrad
        ring = (r >= self.inner_mrad - slack) & (r <= self.outer_mrad + slack)
        azimuth = np.arctan2(angle_y_mrad, angle_x_mrad) - math.radians(self.rotation_deg)
        half = math.pi / self.segments
        found = []
        for i in range(self.segments):
            off = np.abs((azimuth - 2 * half * i + math.pi) % (2 * math.pi) - math.pi)
            share = np.where(np.isclose(off, half, atol=1e-9), 0.5, (off < half) * 1.0)
            found.append(np.where(r > slack, share, 1 / self.segments) * ring)
        return found


class MomentDetector(_Detector):
    """An ideal first-moment detector: intensity and centre of mass inside a disk.

    Its signals are sum I, sum I x and sum I y (mrad); the centre of mass is their ratio.
    """

    shape: Literal["moments"] = "moments"
    outer_mrad: float = Field(gt=0)
    """Radius of the disk."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Three: name-sum, name-x, name-y."""
        return (f"{self.name}-sum", f"{self.name}-x", f"{self.name}-y")

    @property
    def reach_mrad(self) -> float:
        """Largest angle that it looks at."""
        return self.outer_mrad

    def weigh(self, angle_x_mrad: Floats, angle_y_mrad: Floats) -> list[Floats]:
        """1, x and y inside the disk."""
        inside = np.hypot(angle_x_mrad, angle_y_mrad) <= self.outer_mrad * (1 + 1e-9)
        return [inside * 1.0, inside * angle_x_mrad, inside * angle_y_mrad]


Detector = Annotated[AnnularDetector | SegmentedDetector | MomentDetector, Discriminator("shape")]


class Weights:
    """Weights of several detectors on the coefficients of a wave.

    Parameters
    ----------
    weights : (d, my, mx) or (d, p)
        Weight of every coefficient.
    names : d str
        Names of the signals.

    Attributes
    ----------
    place : (q,) int
        Where, in the flattened wave, any detector looks.
    values : (d, q) float32
        Weights there.
    """

    def __init__(self, weights: npt.NDArray[Any], names: Sequence[str]) -> None:
        flat = weights.reshape(len(names), -1)
        self.names = tuple(names)
        self.place = np.flatnonzero(np.any(flat != 0, axis=0))
        self.values = np.ascontiguousarray(flat[:, self.place], np.float32)

    @classmethod
    def of(
        cls,
        detectors: Sequence[_Detector],
        kx: npt.ArrayLike,
        ky: npt.ArrayLike,
        energy_kev: float,
        inside: npt.NDArray[np.bool_] | None = None,
    ) -> Self:
        """Collect what detectors weigh at frequencies; `inside` says which are ever occupied."""
        names = [channel for detector in detectors for channel in detector.channels]
        if len(set(names)) < len(names):
            raise ValueError(f"detectors: two signals have the same name: {', '.join(names)}")
        weights = np.concatenate([d.weights(kx, ky, energy_kev) for d in detectors])
        return cls(weights if inside is None else weights * inside, names)
