"""Task dye-kinetics: tell from a movie by which rates its dye blinks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.light.burst_laws import BurstLaws
from nanophantom.simcore.light.markov import Chain
from nanophantom.validation.part_of import microscopes, part_of
from nanophantom.validation.task import Estimates, Score, Scores, Task, require_tables

if TYPE_CHECKING:
    from nanophantom.simcore.fields import Measured
    from nanophantom.validation.drawing import Plate
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]

QUANTITIES = {
    "on_time_s": "how long a burst lasts",
    "off_time_s": "how long the dark time between two bursts of a dye lasts",
    "photons_per_burst": "photons of a burst on the camera",
    "last_burst": "chance that a burst is the dye's last one",
}
ENDS = ("low", "high")
HIDDEN = ("dye_kinetics", "fluorophore")


class DyeKinetics(Task):
    """Find ON time, OFF time, photons a burst and the chance of bleaching of a blinking dye."""

    name = "dye-kinetics"
    title = "Kinetics of blinking dyes"
    default_algorithm = "nanophantom.analysis.dye_kinetics:find"
    inputs = ()
    needs_because = "they come from the instrument smlm"
    columns = (
        "movie", *QUANTITIES, *(f"{name}_{end}" for name in QUANTITIES for end in ENDS),
    )  # fmt: skip
    optional_columns = ("photons_per_s", "dyes", "runs", "precision_nm", "resolution_nm")
    contract = """\
find(movies, settings)
  -> one row a movie: {"movie", "on_time_s", "off_time_s", "photons_per_burst", "last_burst",
     each of the four also as "..._low" and "..._high", optional "photons_per_s", "dyes", "runs",
     "precision_nm", "resolution_nm"}

Receives
  movies        by name: "movie", or "<microscope>_movie" of several; ADU, (frames, ny, nx)
  settings      nominal values: pixel_size_nm, psf_sigma_nm, exposure_s, frame_period_s, camera; of
                several microscopes, under each one's name. The dye's kinetics aren't among them
Returns
  movie         number of the movie, from 0, each once
  on_time_s     mean length of a burst; off_time_s of the dark time between two bursts of a dye
  photons_per_burst  mean, on the camera
  last_burst    chance that a burst is the last one of its dye: bleached. 0 for docking sites
  ..._low, ..._high  95 % interval
  precision_nm  usual standard deviation of a localization; resolution_nm; 0 if none is told
Scored
  off = how far a number lies from the truth, in % (last_burst: in percentage points), of each dye;
  the limit is what counting leaves to someone who sees every burst of the movie exactly. z_rms =
  rms of error over the half width of the interval times 1.96; coverage = share of the intervals
  that hold the truth. Of precision and resolution only what is told is written down.
"""

    def grade(self, estimates: Estimates, dataset: Observed) -> Scores:
        """Grade kinetics found against the dye's rates."""
        return _scores(self.name, self.compare(estimates, dataset))

    def figures(self, dataset: Observed, estimates: Estimates, scores: Scores) -> list[Plate]:
        """Draw frames and images, distributions, rates found and true, and what light costs."""
        from nanophantom.validation import dye_figures

        return dye_figures.of_dyes(self.compare(estimates, dataset))

    def handed(self, measured: Measured) -> Measured:
        """Return measured data without what is known of the dyes."""
        told = super().handed(measured)
        return replace(told, settings=_without(told.settings))

    def compare(self, estimates: Estimates, dataset: Observed) -> list[Dye]:
        """Set the kinetics found beside the true ones, movie by movie."""
        found = self.read(estimates)
        names = [n for n in microscopes(dataset) if "movie" in part_of(dataset, n).signals]
        parts = [(n, part_of(dataset, n)) for n in names] or [("movie", dataset)]
        if not np.array_equal(np.sort(found["movie"]), np.arange(len(parts))):
            raise ValueError(f"task {self.name} wants every movie from 0 to {len(parts) - 1} once")
        order = np.argsort(found["movie"])
        rows = {name: column[order] for name, column in found.items()}
        for quantity in QUANTITIES:
            low, value, high = (rows[c] for c in (f"{quantity}_low", quantity, f"{quantity}_high"))
            if not ((low <= value) & (value <= high)).all() or (low < 0).any():
                raise ValueError(
                    f"task {self.name} wants 0 <= {quantity}_low <= {quantity} <= {quantity}_high"
                )
        dyes = []
        for k, (name, part) in enumerate(parts):
            require_tables(self, part, ("kinetics", "states", "blinks", "dyes"))
            told = {column: float(values[k]) for column, values in rows.items()}
            dyes.append(Dye.of(name, part, told))
        return dyes


@dataclass(frozen=True, eq=False)
class Dye:
    """One movie: what was found of its dye, and what is true.

    Attributes
    ----------
    name
        Of the microscope.
    part
        Its data.
    found
        Columns of the answer.
    true
        Of each of `QUANTITIES`.
    counting
        Relative standard deviation that counting leaves each of them (last_burst: absolute).
    bursts
        In the movie.
    """

    name: str
    part: Observed
    found: dict[str, float]
    true: dict[str, float]
    counting: dict[str, float]
    bursts: int
    chain: Chain

    @classmethod
    def of(cls, name: str, part: Observed, found: dict[str, float]) -> Dye:
        """Read the truth of a movie."""
        chain = chain_of(part)
        laws = BurstLaws.of(chain)
        last = float(np.clip(1 - (laws.entry @ laws.again).sum(), 0, 1))
        true = {
            "on_time_s": laws.mean_on_s,
            "off_time_s": laws.mean_off_s,
            "photons_per_burst": laws.mean_photons,
            "last_burst": 0.0 if last < 1e-9 else last,
        }
        blinks = part.truth("blinks")
        settings = part.settings
        end = (part.n_frames - 1) * float(settings["frame_period_s"]) + float(
            settings["exposure_s"]
        )
        start = np.asarray(blinks["start_s"], np.float64)
        seen = (start + np.asarray(blinks["duration_s"], np.float64) > 0) & (start < end)
        dye, blink = (np.asarray(blinks[c], np.int64)[seen] for c in ("dye", "blink"))
        bursts = np.unique(dye * (int(blink.max(initial=0)) + 1) + blink)
        n = max(len(bursts), 1)
        waits = max(n - len(np.unique(dye)), 1)
        counting = {
            "on_time_s": 1 / math.sqrt(n),
            "off_time_s": 1 / math.sqrt(waits),
            "photons_per_burst": math.sqrt((1 + 1 / true["photons_per_burst"]) / n),
            "last_burst": math.sqrt(true["last_burst"] * (1 - true["last_burst"]) / n),
        }
        return cls(name, part, found, true, counting, len(bursts), chain)

    def error(self, quantity: str) -> float:
        """Return found minus true: relative, for last_burst absolute."""
        off = self.found[quantity] - self.true[quantity]
        return off if quantity == "last_burst" else off / self.true[quantity]

    def holds(self, quantity: str) -> bool:
        """Say whether the interval holds the truth."""
        low, high = (self.found[f"{quantity}_{end}"] for end in ENDS)
        return low <= self.true[quantity] <= high

    def z(self, quantity: str) -> float | None:
        """Return the error in standard uncertainties; None for an interval without width."""
        off = self.found[quantity] - self.true[quantity]
        far = self.found[f"{quantity}_{'low' if off > 0 else 'high'}"]
        width = abs(far - self.found[quantity])
        return 1.96 * off / width if width > 0 else None

    @property
    def dose_kj_per_cm2(self) -> float:
        """Exciting light that fell on the specimen during the movie."""
        settings = self.part.settings
        seconds = self.part.n_frames * float(settings["frame_period_s"])
        return float(settings["excitation_kw_per_cm2"]) * seconds


def chain_of(part: Observed) -> Chain:
    """Return the dye's states and rates from the truth of a movie."""
    states, kinetics = part.truth("states"), part.truth("kinetics")
    names = [str(name) for name in states["name"]]
    Q = np.zeros((len(names), len(names)))
    rows = zip(kinetics["source"], kinetics["to"], kinetics["rate_per_s"], strict=True)
    for source, to, rate in rows:
        Q[names.index(str(source)), names.index(str(to))] += rate
    np.fill_diagonal(Q, -Q.sum(axis=1))
    photons = np.asarray(states["photons_per_s"], np.float64)
    final = np.all(Q == 0, axis=1)
    start = np.asarray(states["start"], np.float64)
    return Chain(Q, photons, start, tuple(names), photons > 0, final)


def _without(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without(value) if isinstance(value, dict) and key != "camera" else value
        for key, value in settings.items()
        if key not in HIDDEN
    }


def _scores(task: str, dyes: list[Dye]) -> Scores:
    pairs = [(dye, quantity) for dye in dyes for quantity in QUANTITIES]
    relative = [(d, q) for d, q in pairs if q != "last_burst"]
    zs = [z for z in (d.z(q) for d, q in pairs) if z is not None]
    worst = max(relative, key=lambda pair: abs(pair[0].error(pair[1])))
    scores = [
        Score("off", 100 * _rms([d.error(q) for d, q in relative]), len(relative), "lower", "%",
              limit=100 * _rms([d.counting[q] for d, q in relative]),
              hint="typical error of ON times, OFF times and photons a burst, all dyes"),
        Score("coverage", float(np.mean([d.holds(q) for d, q in pairs])), len(pairs), "higher",
              limit=0.95, hint="share of the 95 % intervals that hold the truth; of so few, one "
              "or two may miss"),
        Score("z_rms", _rms(zs) if zs else None, len(zs), "lower", limit=1.0,
              hint="errors in units of what the intervals quote: 1 if they are honest"),
        Score("worst", 100 * abs(worst[0].error(worst[1])), len(relative), "lower", "%",
              hint=f"the largest of these errors: {worst[1]} of {worst[0].name}"),
    ]  # fmt: skip
    for quantity, words in QUANTITIES.items():
        for dye in dyes:
            unit = "% points" if quantity == "last_burst" else "%"
            digits = ",.0f" if dye.true[quantity] >= 1000 else ".3g"
            told = f"{dye.found[quantity]:{digits}} found, {dye.true[quantity]:{digits}} true"
            scores.append(
                Score(f"{quantity.removesuffix('_s')}_off", 100 * abs(dye.error(quantity)),
                      dye.bursts, "lower", unit, group=dye.name,
                      limit=100 * dye.counting[quantity], hint=f"{words}: {told} ({dye.name})")
            )  # fmt: skip
    for column, words in (
        ("precision_nm", "usual standard deviation of a localization, as the movie tells it"),
        ("resolution_nm", "period down to which two halves of the bursts agree"),
    ):
        scores += [
            Score(column.removesuffix("_nm"), dye.found[column] or None, dye.bursts, "lower", "nm",
                  group=dye.name, hint=words)
            for dye in dyes
            if column in dye.found
        ]  # fmt: skip
    return Scores(task, tuple(scores), tuple(_notes(dyes)))


def _notes(dyes: list[Dye]) -> list[str]:
    light = "; ".join(
        f"{d.name} {d.dose_kj_per_cm2:.3g} kJ/cm² in "
        f"{d.part.n_frames * float(d.part.settings['frame_period_s']):.3g} s"
        for d in dyes
    )
    return [
        "Truth are the rates of the dye in the middle of the field at the coverslip. Limits are "
        "what counting leaves to someone who sees when each burst of the movie begins and ends: "
        "1/sqrt(n) of n bursts, or of the dark times that ended. Times that the movie's end cuts "
        "off tell a little more, frames and missed bursts leave less.",
        "Precision is told by molecules that shine in two frames on end: where bursts are shorter "
        "than frames, by the brightest of them, better than the usual one. Neither precision nor "
        "resolution is graded.",
        f"Exciting light on the specimen: {light}.",
    ]


def _rms(values: list[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
