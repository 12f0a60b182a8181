"""Bursts: the chains of many dyes played out event by event, and what frames see of them.

Nothing is rounded to frames. A dye's next jump comes when the integral of its rate reaches an
exponential number of mean one; under light that changes in steps that integral is a polygon, so
the moment is found exactly, in steps that double, however many steps of light lie between (D. T.
Gillespie, J. Phys. Chem. 81 (1977) 2340, with the time change of Poisson processes). Each dye draws
from its own stream of random numbers, which hangs on its number: what becomes of it doesn't depend
on which others are there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.fields import Table, read_only
from nanophantom.simcore.light import burst_kernels as kernels
from nanophantom.simcore.light.markov import Chain, Kinetics

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

MOST_ROWS = 2**31 - 1
AT_ONCE = 65536  # dyes whose balance is solved for together
FRAMES_A_BLOCK = 64


@dataclass(frozen=True, eq=False)
class Light:
    """Light that changes in steps.

    Attributes
    ----------
    edges_s : (m + 1,)
        When each step begins, and the end of the last: the time that is played. Dyes are in their
        start state at the first, which may lie before the first frame, at negative times.
    excitation_kw_per_cm2, activation_kw_per_cm2 : (m,)
        Irradiance in each step.
    """

    edges_s: Floats
    excitation_kw_per_cm2: Floats
    activation_kw_per_cm2: Floats

    def __post_init__(self) -> None:
        edges = np.ascontiguousarray(self.edges_s, np.float64)
        if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0.0).all():
            raise ValueError("edges_s of light: two or more times that rise")
        if not np.isfinite(edges).all():
            raise ValueError("edges_s of light must be finite")
        object.__setattr__(self, "edges_s", read_only(edges))
        for name in ("excitation_kw_per_cm2", "activation_kw_per_cm2"):
            values = np.ascontiguousarray(getattr(self, name), np.float64)
            if values.shape != (len(edges) - 1,):
                raise ValueError(f"{name} of light: one value for each of {len(edges) - 1} steps")
            if not (np.isfinite(values).all() and (values >= 0.0).all()):
                raise ValueError(f"{name} of light must be finite and >= 0")
            object.__setattr__(self, name, read_only(values))

    @classmethod
    def steady(
        cls,
        duration_s: float,
        excitation_kw_per_cm2: float = 1.0,
        activation_kw_per_cm2: float = 0.0,
        start_s: float = 0.0,
    ) -> Light:
        """Return light that doesn't change."""
        levels = (np.array([excitation_kw_per_cm2]), np.array([activation_kw_per_cm2]))
        return cls(np.array([start_s, start_s + duration_s]), *levels)


@dataclass(frozen=True, eq=False)
class Bursts:
    """When dyes shine: one row for each stretch of constant photon rate, sorted by start.

    A burst whose rate changes, by light or from one bright state to another, has several rows of
    one `blink`. Where the excitation is off there is no row, and a burst goes on through it.

    Attributes
    ----------
    dye : (n,) int32
        Which of the dyes played, from 0.
    start_s, duration_s : (n,) float64
        When it begins, and how long it lasts.
    photons_per_s : (n,) float32
        Photons on the camera.
    blink : (n,) int32
        Number of the burst of this dye, from 0.
    end_state : (n_dyes,) int16
        Number of the state of each dye at the end.
    bleach_s : (n_dyes,) float64
        When it went dark for good; inf if it is alive.
    until_s
        End of what was played, where bursts are cut.
    """

    dye: Ints
    start_s: Floats
    duration_s: Floats
    photons_per_s: Floats32
    blink: Ints
    end_state: npt.NDArray[np.int16]
    bleach_s: Floats
    until_s: float

    def __len__(self) -> int:
        return len(self.dye)

    @property
    def end_s(self) -> Floats:
        """When each row ends."""
        return self.start_s + self.duration_s

    @property
    def photons(self) -> Floats:
        """Photons expected of each row."""
        return self.photons_per_s * self.duration_s

    def table(self) -> Table:
        """Return the rows as a truth table."""
        names = ("dye", "blink", "start_s", "duration_s", "photons_per_s")
        return {name: getattr(self, name) for name in names}

    def blinks(self) -> Table:
        """Return a table of whole bursts, sorted by dye and number.

        Returns
        -------
        dict
            dye, blink; start_s, end_s; photons, expected of all its rows; cut, whether it was in
            progress when play ended.
        """
        order = np.lexsort((self.start_s, self.blink, self.dye))
        dye, blink = self.dye[order], self.blink[order]
        new = np.ones(len(order), bool)
        new[1:] = (np.diff(dye) != 0) | (np.diff(blink) != 0)
        first = np.flatnonzero(new)
        last = np.append(first[1:], len(order))[: len(first)] - 1
        end = self.end_s[order][last]
        photons = np.add.reduceat(self.photons[order], first) if len(first) else np.zeros(0)
        return {
            "dye": dye[first],
            "blink": blink[first],
            "start_s": self.start_s[order][first],
            "end_s": end,
            "photons": photons,
            "cut": end >= self.until_s,
        }


def play(
    kinetics: Kinetics | Chain,
    light: Light,
    dyes: int | npt.ArrayLike,
    rng: np.random.Generator,
    *,
    excitation: npt.ArrayLike | None = None,
    activation: npt.ArrayLike | None = None,
    brightness: npt.ArrayLike | None = None,
) -> Bursts:
    """Play the chains of dyes out in time, exactly.

    Parameters
    ----------
    kinetics
        Of all the dyes: `Fluorophore.kinetics()`. A `Chain` stands for itself at an excitation of
        1 kW/cm2.
    light
        What the schedule says, and how long it lasts.
    dyes
        How many, or the number of each: (n,) whole numbers >= 0 on which its chance hangs.
    rng
        Gives one key of 128 bits.
    excitation, activation : (n,), optional
        Light at each dye relative to the schedule: uneven illumination.
    brightness : (n,), optional
        Photon rate of each dye relative to that of the fluorophore.

    Returns
    -------
    Bursts

    Raises
    ------
    ValueError
        A shape doesn't fit, a factor is negative, or there are more than 2^31 - 1 rows.
    """
    kinetics = Kinetics.of(kinetics) if isinstance(kinetics, Chain) else kinetics
    numbers = np.arange(dyes) if isinstance(dyes, int | np.integer) else np.asarray(dyes)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu" or (numbers < 0).any():
        raise ValueError("dyes: how many, or an array of their numbers, whole and >= 0")
    n = len(numbers)
    factors = {"excitation": excitation, "activation": activation, "brightness": brightness}
    each = {name: _for_each(name, values, n) for name, values in factors.items()}
    key = rng.integers(0, 2**64, 2, dtype=np.uint64)
    exciting, activating = light.excitation_kw_per_cm2, light.activation_kw_per_cm2
    lengths = np.diff(light.edges_s)
    changes = np.flatnonzero(np.diff(exciting, prepend=-1.0) != 0.0)  # where rows are split
    arguments = (
        key, numbers.astype(np.uint64), each["excitation"], each["activation"], each["brightness"],
        *_off_diagonal(kinetics), kinetics.photons_per_s_per_kw_per_cm2,
        kinetics.bright, kinetics.final & ~kinetics.bright,
        _cumulative_start(kinetics, light, each["excitation"], each["activation"]),
        np.ascontiguousarray(light.edges_s), np.ascontiguousarray(exciting),
        np.ascontiguousarray(activating),
        np.concatenate([[0.0], np.cumsum(exciting * lengths)]),
        np.concatenate([[0.0], np.cumsum(activating * lengths)]),
        np.searchsorted(changes, np.arange(len(exciting)), side="right") - 1,
        np.append(light.edges_s[changes], light.edges_s[-1]),
    )  # fmt: skip
    rows = np.zeros(n + 1, np.int64)
    end_state, bleach = np.empty(n, np.int16), np.empty(n)
    none = _columns(0)
    kernels.play(*arguments, False, rows, *none, end_state, bleach)
    np.cumsum(rows, out=rows)
    total = int(rows[-1])
    if total > MOST_ROWS:
        raise ValueError(f"{total:.2g} bursts are too many; play fewer dyes or a shorter time")
    dye, start, duration, rate, blink = _columns(total)
    kernels.play(*arguments, True, rows, dye, start, duration, rate, blink, end_state, bleach)
    order = np.argsort(start, kind="stable")
    return Bursts(
        dye=read_only(dye[order]),
        start_s=read_only(start[order]),
        duration_s=read_only(duration[order]),
        photons_per_s=read_only(rate[order]),
        blink=read_only(blink[order]),
        end_state=read_only(end_state),
        bleach_s=read_only(bleach),
        until_s=float(light.edges_s[-1]),
    )


def _for_each(name: str, values: npt.ArrayLike | None, n: int) -> Floats:
    if values is None:
        return np.ones(n)
    array = np.ascontiguousarray(values, np.float64)
    if array.shape != (n,) or not np.isfinite(array).all() or (array < 0.0).any():
        raise ValueError(f"{name}: one finite factor >= 0 for each of {n} dyes")
    return array


def _columns(n: int) -> tuple[Ints, Floats, Floats, Floats32, Ints]:
    numbers = np.empty(n, np.int32), np.empty(n, np.int32)
    return numbers[0], np.empty(n), np.empty(n), np.empty(n, np.float32), numbers[1]


def _off_diagonal(kinetics: Kinetics) -> tuple[Floats, Floats, Floats]:
    dark, exc, act = (
        np.ascontiguousarray(Q - np.diag(np.diag(Q)))
        for Q in (kinetics.dark, kinetics.excitation, kinetics.activation)
    )
    return dark, exc, act


def _cumulative_start(kinetics: Kinetics, light: Light, exc: Floats, act: Floats) -> Floats:
    """Return the cumulative probability of the start states: one row for all, or one a dye."""
    if kinetics.start is not None:
        return np.cumsum(kinetics.start)[None]
    levels = light.excitation_kw_per_cm2[0], light.activation_kw_per_cm2[0]
    pairs, which = np.unique(np.stack([exc, act], axis=1), axis=0, return_inverse=True)
    starts = np.empty((len(pairs), len(kinetics.names)))
    for k in range(0, len(pairs), AT_ONCE):
        f, g = (pairs[k : k + AT_ONCE] * levels).T[:, :, None, None]
        Q = kinetics.dark + f * kinetics.excitation + g * kinetics.activation
        starts[k : k + AT_ONCE] = kinetics.balance(Q)
    cumulative = np.cumsum(starts, axis=1)
    return cumulative if len(pairs) == 1 else cumulative[which.ravel()]


# ---- frames --------------------------------------------------------------------------------------


class Exposures:
    """Which bursts shine into which frame, and with how many photons.

    Frames are evenly spaced, so arithmetic tells which ones a burst touches. What is kept is which
    rows touch each block of 64 frames: a dye that shines all the time costs one number a block.

    Parameters
    ----------
    bursts
        All rows.
    frame_start_s : (n_frames,)
        When the shutter opens; evenly spaced.
    exposure_s
        How long it stays open; no longer than from one opening to the next.

    Raises
    ------
    ValueError
        Frames are not evenly spaced, or the exposure doesn't fit between them.
    """

    def __init__(self, bursts: Bursts, frame_start_s: npt.ArrayLike, exposure_s: float) -> None:
        self.bursts = bursts
        self.first_s, self.period_s, self.n_frames = _even(frame_start_s, exposure_s)
        self.exposure_s = float(exposure_s)
        self._start, self._duration = bursts.start_s, bursts.duration_s
        blocks = -(-self.n_frames // FRAMES_A_BLOCK)
        open_s = (FRAMES_A_BLOCK - 1) * self.period_s + self.exposure_s
        length = FRAMES_A_BLOCK * self.period_s
        self._offsets, self._rows, _ = _listed(bursts, self.first_s, length, open_s, blocks, False)

    def of(self, frame: int) -> tuple[Ints, Floats]:
        """Return the rows that shine into a frame, in order, and the photons expected of each.

        Raises
        ------
        ValueError
            There is no such frame.
        """
        if not 0 <= frame < self.n_frames:
            raise ValueError(f"there is no frame {frame}; there are {self.n_frames} from 0")
        block = frame // FRAMES_A_BLOCK
        rows = self._rows[self._offsets[block] : self._offsets[block + 1]]
        start = self.first_s + frame * self.period_s
        b = self.bursts
        columns = (b.start_s, b.duration_s, b.photons_per_s)
        return kernels.in_window(rows, *columns, start, start + self.exposure_s)


def exposed(
    bursts: Bursts, frame_start_s: npt.ArrayLike, exposure_s: float
) -> tuple[npt.NDArray[np.int64], Ints, Floats32]:
    """Return all rows of all frames at once: the truth table of who shone into which frame.

    Parameters
    ----------
    bursts, frame_start_s, exposure_s
        As in `Exposures`.

    Returns
    -------
    offsets : (n_frames + 1,) int64
        Frame k has entries offsets[k] ... offsets[k + 1].
    rows : (n,) int32
        Rows of `bursts`, in order within each frame.
    photons : (n,) float32
        Photons expected: rate times exact overlap.
    """
    first, period, n = _even(frame_start_s, exposure_s)
    return _listed(bursts, first, period, float(exposure_s), n, True)


def photons_in_frame(
    bursts: Bursts, rows: npt.ArrayLike, frame_start_s: float, exposure_s: float
) -> Floats:
    """Return the photons expected of some rows in one exposure: rate times exact overlap."""
    i = np.asarray(rows)
    start, end = bursts.start_s[i], bursts.start_s[i] + bursts.duration_s[i]
    overlap = np.minimum(end, frame_start_s + exposure_s) - np.maximum(start, frame_start_s)
    return np.asarray(bursts.photons_per_s[i] * np.maximum(overlap, 0.0), np.float64)


def _even(frame_start_s: npt.ArrayLike, exposure_s: float) -> tuple[float, float, int]:
    starts = np.atleast_1d(np.asarray(frame_start_s, np.float64))
    n = len(starts)
    if n == 0 or not np.isfinite(starts).all() or not 0.0 < exposure_s < math.inf:
        raise ValueError("frame_start_s: one or more finite times; exposure_s: finite, above 0")
    period = (starts[-1] - starts[0]) / (n - 1) if n > 1 else exposure_s
    off = np.abs(starts - (starts[0] + period * np.arange(n))).max()
    if not period > 0.0 or off > 1e-6 * period:
        raise ValueError("frame_start_s must be evenly spaced and rise")
    if exposure_s > period * (1.0 + 1e-9):
        raise ValueError(
            f"exposure_s: {exposure_s:g} s doesn't fit into {period:g} s between frames"
        )
    return float(starts[0]), float(period), n


def _listed(
    bursts: Bursts, first: float, period: float, exposure: float, n: int, photons: bool
) -> tuple[npt.NDArray[np.int64], Ints, Floats32]:
    window = (bursts.start_s, bursts.duration_s, bursts.photons_per_s, first, period, exposure, n)
    offsets = np.zeros(n + 1, np.int64)
    kernels.list_rows(*window, offsets, False, np.empty(0, np.int32), np.empty(0, np.float32))
    np.cumsum(offsets, out=offsets)
    rows = np.empty(offsets[-1], np.int32)
    values = np.empty(offsets[-1] if photons else 0, np.float32)
    kernels.list_rows(*window, offsets, True, rows, values)
    return offsets, rows, values
