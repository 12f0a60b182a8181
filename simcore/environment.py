"""What moves while the instrument looks: the specimen's motion, drawn once, known at any time.

A specimen drifts at a constant velocity, settles after its holder was inserted, walks at random
and vibrates. :class:`Drift` holds the knobs, :class:`Motion` what was drawn, :class:`Path` its
samples inside the exposures of an acquisition.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.special
from pydantic import Field

from nanophantom.simcore.fields import Table
from nanophantom.simcore.models import Model

Floats = npt.NDArray[np.float64]

SAMPLES_PER_EXPOSURE = 8
"""Points of the path inside one exposure; the blur of a frame is the mean over them."""
MOST_SAMPLES_PER_EXPOSURE = 64
"""Points of the path inside one exposure of a specimen that vibrates, at most."""
MOST_SAMPLES = 20_000_000
"""Points of a path; vibrations are sampled more coarsely where there would be more."""


@dataclass(frozen=True, eq=False)
class Path:
    """A displacement path: times (s) and displacements (nm), write-protected by convention.

    Attributes
    ----------
    t_s, dx_nm, dy_nm
        Shape (frames, samples): evenly spaced in every exposure, about its middle.
    """

    t_s: Floats
    dx_nm: Floats
    dy_nm: Floats

    def frame_means(self) -> Table:
        """Return mean time and displacement of every frame."""
        return {
            "frame": np.arange(len(self.t_s)),
            "t_s": self.t_s.mean(axis=1),
            "dx_nm": self.dx_nm.mean(axis=1),
            "dy_nm": self.dy_nm.mean(axis=1),
        }

    def table(self) -> Table:
        """Return every sample of the path."""
        return {"t_s": self.t_s.ravel(), "dx_nm": self.dx_nm.ravel(), "dy_nm": self.dy_nm.ravel()}


@dataclass(frozen=True, eq=False)
class Oscillations:
    """Sines of time in the plane: ``amplitude sin(2 pi frequency t + phase)``, summed.

    Attributes
    ----------
    frequency_hz, phase : (n,)
        Frequencies, and phases at t = 0 (rad).
    amplitude_nm : (n, 2)
        Amplitudes along x and y.
    """

    frequency_hz: Floats
    amplitude_nm: Floats
    phase: Floats

    def add_to(self, dx_nm: Floats, dy_nm: Floats, t_s: Floats) -> None:
        """Add the displacements at some times to two arrays, in place."""
        for f, (ax, ay), phase in zip(
            self.frequency_hz, self.amplitude_nm, self.phase, strict=True
        ):
            if ax or ay:
                sine = np.sin(2 * np.pi * f * t_s + phase)
                dx_nm += ax * sine
                dy_nm += ay * sine


@dataclass(frozen=True, eq=False)
class Motion:
    """The specimen's motion as drawn; time runs from the opening of frame 0's shutter.

    Attributes
    ----------
    velocity_nm_per_s
        Constant drift (x, y).
    settling_nm, settling_time_s
        How far (x, y) the specimen settles in the end, and the time constant.
    vibrations
        Those of the specimen against the beam.
    knots_s, walk_nm : (n,), (n, 2)
        The random walk, from 0 at time 0. It is Brownian from knot to knot and straight between
        two of them; after the last one it stays.
    """

    velocity_nm_per_s: tuple[float, float]
    settling_nm: tuple[float, float]
    settling_time_s: float
    vibrations: Oscillations
    knots_s: Floats
    walk_nm: Floats

    def at(self, t_s: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Return the displacement (dx, dy) at any times, nm.

        ``v t + A (1 - exp(-t / tau)) + walk + vibrations``: zero at time 0, up to vibrations.
        """
        t = np.asarray(t_s, np.float64)
        settled = -np.expm1(-t / self.settling_time_s)
        dx, dy = (
            np.asarray(v * t + np.interp(t, self.knots_s, walk) + a * settled)
            for v, walk, a in zip(
                self.velocity_nm_per_s, self.walk_nm.T, self.settling_nm, strict=True
            )
        )
        self.vibrations.add_to(dx, dy, t)
        return dx, dy


class Vibration(Model):
    """One vibration of the specimen against the beam."""

    frequency_hz: float = Field(gt=0)
    """Frequency."""
    amplitude_nm: float = Field(ge=0)
    """Amplitude of the sine; its phase is drawn."""
    direction_deg: float | None = None
    """Direction (0 = to the right, 90 = down); none draws one."""


class Drift(Model):
    """Motion of the specimen: constant drift, settling, a random walk and vibrations.

    Holders drift by 0.1 to 1 nm per minute, and for some 10 to 30 minutes after insertion faster,
    while they settle.
    """

    speed_nm_per_s: float = Field(default=0.0, ge=0)
    """Constant drift speed."""
    direction_deg: float | None = None
    """Direction of the constant drift (0 = to the right, 90 = down); none draws one."""
    walk_nm_per_sqrt_s: float = Field(default=0.0, ge=0)
    """Strength of the random walk: its standard deviation on each axis after one second."""
    settling_nm: float = Field(default=0.0, ge=0)
    """How far the specimen still settles after the start, as 1 - exp(-t / settling_time_s), in a
    direction that is drawn."""
    settling_time_s: float = Field(default=1200.0, gt=0)
    """Time constant of the settling."""
    vibrations: tuple[Vibration, ...] = Field(default=(), max_length=8)
    """Vibrations; each blurs frames that are long against its period, and ripples faster scans."""

    def motion(
        self, n_frames: int, exposure_s: float, period_s: float, rng: np.random.Generator
    ) -> Motion:
        """Draw the motion during an acquisition.

        The same draws are made whatever the strengths, so a knob set to zero leaves the others
        unchanged. The walk has its knots in the middles of eighths of every exposure and at the
        end of the last one.

        Parameters
        ----------
        n_frames
            Number of exposures (of a scan: lines).
        exposure_s, period_s
            Length of an exposure, and time from one opening to the next.
        rng
            Stream of this cause.
        """
        settling_rng, vibration_rng = rng.spawn(2)
        drawn = rng.uniform(0.0, 360.0)
        direction = drawn if self.direction_deg is None else self.direction_deg
        inside = _times(n_frames, exposure_s, period_s, samples_of_exposure(()))
        times = np.append(inside.ravel(), (n_frames - 1) * period_s + exposure_s)
        steps = np.sqrt(np.diff(times, prepend=0.0))[:, None]
        walk = np.cumsum(rng.standard_normal((times.size, 2)) * steps, axis=0)
        walk *= self.walk_nm_per_sqrt_s
        return Motion(
            velocity_nm_per_s=vector(self.speed_nm_per_s, direction),
            settling_nm=vector(self.settling_nm, settling_rng.uniform(0.0, 360.0)),
            settling_time_s=self.settling_time_s,
            vibrations=self._vibrating(vibration_rng),
            knots_s=np.concatenate([[0.0], times]),
            walk_nm=np.concatenate([np.zeros((1, 2)), walk]),
        )

    def path(
        self, n_frames: int, exposure_s: float, period_s: float, rng: np.random.Generator
    ) -> Path:
        """Draw the motion and sample it in the exposures; see :meth:`motion`."""
        motion = self.motion(n_frames, exposure_s, period_s, rng)
        cycles = [v.frequency_hz * exposure_s for v in self.vibrations if v.amplitude_nm]
        most = min(MOST_SAMPLES_PER_EXPOSURE, MOST_SAMPLES // n_frames)
        t = _times(n_frames, exposure_s, period_s, samples_of_exposure(cycles, most))
        return Path(t, *motion.at(t))

    def _vibrating(self, rng: np.random.Generator) -> Oscillations:
        draws = rng.uniform(0.0, 360.0, (len(self.vibrations), 2))  # direction and phase of each
        amplitude = [
            vector(v.amplitude_nm, drawn if v.direction_deg is None else v.direction_deg)
            for v, (drawn, _) in zip(self.vibrations, draws, strict=True)
        ]
        return Oscillations(
            np.array([v.frequency_hz for v in self.vibrations], np.float64),
            np.array(amplitude, np.float64).reshape(-1, 2),
            np.radians(draws[:, 1]),
        )


def samples_of_exposure(cycles: Sequence[float], most: int = MOST_SAMPLES_PER_EXPOSURE) -> Floats:
    """Return the times in an exposure, in parts of it, whose mean blurs as its vibrations do.

    The mean of ``exp(2 pi i k d)`` over a vibration is a sum over its harmonics, ``J_m(2 pi k a)``
    times the mean of ``exp(i m omega t)``. Evenly spaced samples take the latter wrongly where a
    harmonic meets their own frequency, so their number, and for fast vibrations their span (within
    a percent of the exposure), are chosen to keep away from that: the fewest for which all
    harmonics are right to a part in a thousand, else those that come nearest. Sums and differences
    of several vibrations count as harmonics, and so do their neighbours by one period in the
    exposure, which slow motion feels.

    Parameters
    ----------
    cycles
        Periods of every vibration in one exposure.
    most
        Samples that may be taken.

    Returns
    -------
    (n,)
        Evenly spaced about 1/2.
    """
    chosen, span = SAMPLES_PER_EXPOSURE, 1.0
    if cycles:
        highest = {1: 8, 2: 6, 3: 5, 4: 4}.get(len(cycles), 3)
        orders = np.array(_harmonics(len(cycles), highest))
        # the strongest that each is for 2 pi k a <= 2
        weights = np.prod(np.where(orders, scipy.special.jv(np.abs(orders), 2.0), 1.0), axis=1)
        x = (orders @ np.asarray(cycles, np.float64))[:, None] + np.array([-1.0, 0.0, 1.0])
        weights = weights[:, None] * np.array([0.2, 1.0, 0.2])
        spans = 1.0 + np.linspace(-0.01, 0.01, 41)[:, None, None]
        least = np.inf
        for n in range(SAMPLES_PER_EXPOSURE, max(most, SAMPLES_PER_EXPOSURE) + 1):
            errors = np.sqrt(
                np.sum((weights * (_mean_of_samples(x * spans, n) - np.sinc(x))) ** 2, axis=(1, 2))
            )
            if errors.min() < least:
                chosen, span, least = n, float(spans.flat[errors.argmin()]), errors.min()
            if least < 1e-3:
                break
    return 0.5 + span * ((np.arange(chosen) + 0.5) / chosen - 0.5)


def _mean_of_samples(x: Floats, n: int) -> Floats:
    """Return the mean of exp(2 pi i x s) over n samples, the middles of equal parts of ±1/2."""
    below = n * np.sin(np.pi * x / n)
    meets = np.abs(below) < 1e-9  # x is a multiple of n: all samples have the same phase
    even = np.cos(np.pi * x) * np.cos(np.pi * x / n)
    return np.asarray(np.where(meets, even, np.sin(np.pi * x) / np.where(meets, 1.0, below)))


def _harmonics(n: int, order: int) -> list[tuple[int, ...]]:
    """Return all n whole numbers whose magnitudes sum up to at most an order."""
    if n == 1:
        return [(m,) for m in range(-order, order + 1)]
    return list(
        itertools.chain.from_iterable(
            ((m, *rest) for rest in _harmonics(n - 1, order - abs(m)))
            for m in range(-order, order + 1)
        )
    )


def _times(n_frames: int, exposure_s: float, period_s: float, parts: Floats) -> Floats:
    """Return the times at some parts of every exposure, (frames, parts)."""
    return np.asarray(np.arange(n_frames)[:, None] * period_s + parts * exposure_s)


def vector(length: float, direction_deg: float) -> tuple[float, float]:
    """Return the vector (x, y) of a length and direction (0 = to the right, 90 = down)."""
    angle = np.radians(direction_deg)
    return length * float(np.cos(angle)), length * float(np.sin(angle))
