"""What a STEM detector weighs: geometry in scattering angles, as weights on frequencies."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Discriminator, Field, Tag, model_validator

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
    def counted(self) -> tuple[str, ...]:
        """Those of its signals that are numbers of electrons."""
        return self.channels

    @property
    def moments(self) -> tuple[str, ...]:
        """Names of further sums that its noise needs; not signals."""
        return ()

    @property
    @abstractmethod
    def reach_mrad(self) -> float:
        """Largest angle that it looks at."""

    def count(
        self, expected: Mapping[str, Floats], rng: np.random.Generator
    ) -> dict[str, npt.NDArray[Any]]:
        """Draw what is read out for expected signals (and `moments`), in electrons."""
        return {name: rng.poisson(np.maximum(expected[name], 0.0)) for name in self.channels}

    @abstractmethod
    def weigh(self, angle_x_mrad: Floats, angle_y_mrad: Floats, spacing: Floats) -> list[Floats]:
        """Return the weight of every direction, one array a channel and moment.

        `spacing` (2, 2) are the periods of the lattice of directions, mrad.
        """

    def weights(
        self,
        kx: npt.ArrayLike,
        ky: npt.ArrayLike,
        energy_kev: float,
        spacing: npt.ArrayLike | None = None,
    ) -> Floats:
        """Return the weights of beams.

        Parameters
        ----------
        kx, ky : array_like
            Frequencies, 1/Å; they broadcast.
        energy_kev : float
        spacing : (2, 2), optional
            Periods of the lattice of frequencies as rows (x, y), 1/Å: at an edge each beam then
            counts with the share of its cell of the lattice that lies inside. The coarse lattice
            of a small cell would otherwise give a detector an area that is off by some percent.

        Returns
        -------
        (channels + moments, ...)
        """
        scale = 1e3 * wavelength(energy_kev)
        x, y = np.broadcast_arrays(np.asarray(kx) * scale, np.asarray(ky) * scale)
        cell = np.zeros((2, 2)) if spacing is None else np.asarray(spacing) * scale
        return np.stack(self.weigh(x, y, cell))


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

    def weigh(self, angle_x_mrad: Floats, angle_y_mrad: Floats, spacing: Floats) -> list[Floats]:
        """One inside, zero outside; edges belong to it."""
        x, y = angle_x_mrad - self.shift_mrad[0], angle_y_mrad - self.shift_mrad[1]
        return [_ring(x, y, self.inner_mrad, self.outer_mrad, spacing)]


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

    def weigh(self, angle_x_mrad: Floats, angle_y_mrad: Floats, spacing: Floats) -> list[Floats]:
        """One inside a sector; what lies on a border is shared by its neighbours."""
        ring = _ring(angle_x_mrad, angle_y_mrad, self.inner_mrad, self.outer_mrad, spacing)
        r = np.hypot(angle_x_mrad, angle_y_mrad)
        azimuth = np.arctan2(angle_y_mrad, angle_x_mrad) - math.radians(self.rotation_deg)
        half = math.pi / self.segments
        border = np.maximum(np.abs(spacing).max(), 1e-9 * self.outer_mrad)
        shares = []
        for i in range(self.segments):
            off = np.abs((azimuth - 2 * half * i + math.pi) % (2 * math.pi) - math.pi)
            inward = r * np.sin(np.clip(half - off, -math.pi / 2, math.pi / 2))
            shares.append(np.clip(inward / border + 0.5, 0.0, 1.0))
        total = np.sum(shares, axis=0)
        return [ring * share / total for share in shares]


class MomentDetector(_Detector):
    """An ideal first-moment detector: intensity and centre of mass inside a disk.

    Its signals are sum I, sum I x and sum I y (mrad); the centre of mass is their ratio. Counting
    is as on a camera of many small pixels: the number of electrons n is Poisson distributed, and
    the sums of x and y over n electrons are drawn with their exact mean and covariance (n times
    that of one electron), normally distributed.
    """

    shape: Literal["moments"] = "moments"
    outer_mrad: float = Field(gt=0)
    """Radius of the disk."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Three: name-sum, name-x, name-y."""
        return (f"{self.name}-sum", f"{self.name}-x", f"{self.name}-y")

    @property
    def counted(self) -> tuple[str, ...]:
        """The sum of the intensity."""
        return self.channels[:1]

    @property
    def moments(self) -> tuple[str, ...]:
        """Second moments, which decide the noise of the first."""
        return (f"{self.name}-xx", f"{self.name}-xy", f"{self.name}-yy")

    @property
    def reach_mrad(self) -> float:
        """Largest angle that it looks at."""
        return self.outer_mrad

    def weigh(self, angle_x_mrad: Floats, angle_y_mrad: Floats, spacing: Floats) -> list[Floats]:
        """1, x, y and their products inside the disk."""
        one = _ring(angle_x_mrad, angle_y_mrad, 0.0, self.outer_mrad, spacing)
        x, y = one * angle_x_mrad, one * angle_y_mrad
        return [one, x, y, x * angle_x_mrad, x * angle_y_mrad, y * angle_y_mrad]

    def count(
        self, expected: Mapping[str, Floats], rng: np.random.Generator
    ) -> dict[str, npt.NDArray[Any]]:
        """Draw the number of electrons, then the sums of their angles."""
        names = (*self.channels, *self.moments)
        total, x, y, xx, xy, yy = (np.asarray(expected[name]) for name in names)
        n = rng.poisson(np.maximum(total, 0.0))
        mean_x, mean_y = (np.divide(s, total, where=total > 0, out=0 * total) for s in (x, y))
        per_electron = [
            np.divide(s, total, where=total > 0, out=0 * total) - m
            for s, m in ((xx, mean_x**2), (xy, mean_x * mean_y), (yy, mean_y**2))
        ]
        # Cholesky factor of the 2 x 2 covariance of one electron
        a = np.sqrt(np.maximum(per_electron[0], 0.0))
        b = np.divide(per_electron[1], a, where=a > 0, out=0 * a)
        c = np.sqrt(np.maximum(per_electron[2] - b**2, 0.0))
        u, v = rng.standard_normal((2, *total.shape)) * np.sqrt(n)
        drawn = (n, n * mean_x + a * u, n * mean_y + b * u + c * v)
        return dict(zip(self.channels, drawn, strict=True))


def _ring(x: Floats, y: Floats, inner: float, outer: float, spacing: Floats) -> Floats:
    """Return the share of every direction's cell that lies between two radii."""
    r = np.hypot(x, y)
    safe = np.maximum(r, 1e-12)
    width = np.hypot(*(x * period[0] + y * period[1] for period in spacing)) / safe
    width = np.maximum(width, 1e-9 * outer)
    outside = np.clip((inner - r) / width + 0.5, 0.0, 1.0) if inner else 0.0
    return np.asarray(np.clip((outer - r) / width + 0.5, 0.0, 1.0) - outside)


def _shape(detector: Any) -> str:
    """Return which kind of detector a recipe's mapping or a Model is; a ring if it doesn't say."""
    if isinstance(detector, Mapping):
        return str(detector.get("shape", "annular"))
    return str(getattr(detector, "shape", ""))


Detector = Annotated[
    Annotated[AnnularDetector, Tag("annular")]
    | Annotated[SegmentedDetector, Tag("segmented")]
    | Annotated[MomentDetector, Tag("moments")],
    Discriminator(
        _shape,
        custom_error_type="shape",
        custom_error_message="shape must be annular, segmented or moments",
    ),
]
"""Any of the detectors, told apart by ``shape``."""


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
        spacing: npt.ArrayLike | None = None,
    ) -> Self:
        """Collect what detectors weigh at frequencies.

        Parameters
        ----------
        detectors
            With names that differ.
        kx, ky, energy_kev, spacing
            As for a detector's `weights`.
        inside
            Which of the frequencies are ever occupied.
        """
        names = [name for d in detectors for name in (*d.channels, *d.moments)]
        if len(set(names)) < len(names):
            raise ValueError(f"detectors: two signals have the same name: {', '.join(names)}")
        weights = np.concatenate([d.weights(kx, ky, energy_kev, spacing) for d in detectors])
        return cls(weights if inside is None else weights * inside, names)
