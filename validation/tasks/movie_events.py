"""Task movie-events: find when and where atoms, or columns of them, appear and vanish."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from nanophantom.simcore.fields import Table
from nanophantom.validation.task import Better, Estimates, Score, Scores, Task, require_tables
from nanophantom.validation.tasks.atomic_columns import BORDER_NM, View
from nanophantom.validation.true_events import TrueEvents, true_events

if TYPE_CHECKING:
    from nanophantom.validation.drawing import Plate
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MATCH_RADIUS_NM = 0.1
MATCH_FRAMES = 1.0
SPOT_RADIUS_NM = 0.12
SPOT_WIDTHS_NM = (0.025, 0.03, 0.035, 0.04, 0.045, 0.05, 0.06)


class MovieEvents(Task):
    """Find the events of a specimen that changes while it is filmed."""

    name = "movie-events"
    title = "Events in the movie"
    default_algorithm = "nanophantom.analysis.surface_events:find"
    inputs = ("image",)
    needs = ("events",)
    needs_because = "they come from a sample of kind evolving, whose processes move or take atoms"
    columns = ("x_nm", "y_nm", "t_s", "kind")
    optional_columns = ("sigma_t_s",)
    contract = f"""\
find(images, settings) -> {{"x_nm": (n,), "y_nm": (n,), "t_s": (n,), "kind": (n,),
                           optional "sigma_t_s": (n,)}}

Receives
  images      what the camera counted, shape (frames, ny, nx)
  settings    a dict of nominal values: pixel_size_nm, exposure_s, frame_period_s,
              counts_per_electron; contrast ("bright" or "dark": how atoms look)
Returns
  x_nm, y_nm  where an atom, or a column of atoms, appeared or vanished, in frame 0; the centre of
              pixel (0, 0) is the origin, x points right, y down
  t_s         when, from the moment at which the first frame's shutter opened
  kind        +1: something appeared there, -1: it vanished. A hop is both, at two places
  sigma_t_s   standard uncertainty of t_s (optional)
Scored
  Atoms that move together are one event at the place that they leave and one where they arrive.
  Targets are the events at least {BORDER_NM:g} nm inside frame 0 that change a site by more than
  half of its atoms, for at least one frame: a stay, or an absence, that is shorter than the time
  from frame to frame is neither asked for nor held against.
  Answers are matched to targets of their kind one to one, within {MATCH_RADIUS_NM:g} nm and
  {MATCH_FRAMES:g} frame: as many as possible, then as near as possible. recall, precision, f1 as
  usual; false = answers that are no event; time_error = rms difference of the times of the hits.
  The limit beside it is exposure / d', where d' is how clearly one frame shows the column: the
  Cramér-Rao bound of the part of the exposure during which it was there; no more than a uniform
  guess within the frame.
"""

    def grade(self, estimates: Estimates, dataset: Observed) -> Scores:
        """Grade events found against the events that happened."""
        return _scores(self.name, self.compare(estimates, dataset))

    def figures(self, dataset: Observed, estimates: Estimates, scores: Scores) -> list[Plate]:
        """Draw where atoms hopped, the sites' signals in time, and a table."""
        from nanophantom.validation import event_figures

        return event_figures.of_events(dataset, self.compare(estimates, dataset))

    def compare(self, estimates: Estimates, dataset: Observed) -> EventComparison:
        """Match events found with the truth: the ground of scores and figures."""
        found = self.read(estimates)
        if not np.isin(found["kind"], (-1, 1)).all():
            raise ValueError(f"task {self.name} wants kind to be +1 (appears) or -1 (vanishes)")
        sigma_s = found.get("sigma_t_s")
        if sigma_s is not None and (sigma_s <= 0).any():
            raise ValueError(f"task {self.name} wants sigma_t_s above zero, got {sigma_s.min():g}")
        truth = require_tables(self, dataset, ("atoms", "events", "drift", "dose"))
        drift_nm = np.array([truth["drift"]["dx_nm"][0], truth["drift"]["dy_nm"][0]], np.float64)
        exposure_s = float(dataset.settings["exposure_s"])
        period_s = float(dataset.settings.get("frame_period_s") or exposure_s)
        true = true_events(truth["atoms"], truth["events"], dataset.n_frames * period_s)
        ny, nx = dataset.signal("image", 0, 1).shape[1:]
        view = View(float(dataset.settings["pixel_size_nm"]), nx, ny)
        there = true.at_nm + drift_nm
        asked = view.holds(there, BORDER_NM) & true.changes & (true.stay_s >= period_s)

        positions = np.column_stack([found["x_nm"], found["y_nm"]])
        at, t_s, kind = positions, found["t_s"], found["kind"].astype(np.int64)

        def pairs(rows: Ints, of: Ints) -> tuple[Ints, Ints]:
            return _matched(
                (at[rows], t_s[rows], kind[rows]), (there[of], true.t_s[of], true.kind[of]),
                MATCH_FRAMES * period_s,
            )  # fmt: skip

        everything = np.arange(len(t_s))
        targets, others = np.flatnonzero(asked), np.flatnonzero(~asked)
        i, j = pairs(everything, targets)
        rest = np.setdiff1d(everything, i)
        rest = np.setdiff1d(rest, rest[pairs(rest, others)[0]])
        return EventComparison(
            found_nm=positions,
            found_s=t_s,
            found_kind=kind,
            sigma_s=sigma_s,
            true=true,
            there_nm=there,
            target=asked,
            hit_found=i,
            hit_true=targets[j],
            missed=np.setdiff1d(targets, targets[j]),
            false=rest[view.holds(positions[rest], BORDER_NM)],
            limit_s=_time_limits(dataset, true, exposure_s),
            period_s=period_s,
        )


@dataclass(frozen=True, eq=False)
class EventComparison:
    """Answers beside truth; indices into both."""

    found_nm: Floats
    found_s: Floats
    found_kind: Ints
    sigma_s: Floats | None
    true: TrueEvents
    there_nm: Floats
    """Where the true events are in frame 0, shape (m, 2)."""
    target: npt.NDArray[np.bool_]
    hit_found: Ints
    """Indices of the hits among the answers; ``hit_true`` among the true events."""
    hit_true: Ints
    missed: Ints
    false: Ints
    limit_s: Floats
    """Of every true event; infinite where it isn't known."""
    period_s: float

    @property
    def error_s(self) -> Floats:
        """Found minus true time of the hits."""
        return self.found_s[self.hit_found] - self.true.t_s[self.hit_true]


def _matched(
    found: tuple[Floats, Floats, Ints], true: tuple[Floats, Floats, Ints], within_s: float
) -> tuple[Ints, Ints]:
    """Match (place, time, kind) one to one: most pairs first, then the nearest in both."""
    apart = np.linalg.norm(found[0][:, None] - true[0][None], axis=2) / MATCH_RADIUS_NM
    late = np.abs(found[1][:, None] - true[1][None]) / within_s
    allowed = (apart <= 1) & (late <= 1) & (found[2][:, None] == true[2][None])
    cost = np.where(allowed, apart**2 + late**2, 3.0 * (min(allowed.shape, default=0) + 1))
    i, j = linear_sum_assignment(cost)
    good = allowed[i, j]
    return np.asarray(i[good], np.int64), np.asarray(j[good], np.int64)


def _time_limits(dataset: Observed, true: TrueEvents, exposure_s: float) -> Floats:
    """Return exposure / d' of every event, d' of its atoms where they stood in the beginning."""
    limit = np.full(len(true.t_s), np.inf)
    counted = dataset.signal("image", 0, 1).dtype.kind in "iu"
    if not counted or "noise_free" not in dataset.truth_tables or not len(limit):
        return limit
    electrons = np.asarray(dataset.truth("noise_free")["image"], np.float64)
    electrons = electrons / max(1.0, float(dataset.settings.get("counts_per_electron") or 1.0))
    pixel_nm = float(dataset.settings["pixel_size_nm"])
    began, event = np.unique(np.round(true.began_nm, 3), axis=0, return_inverse=True)
    clarity = np.array([spot_clarity(electrons, place / pixel_nm, pixel_nm) for place in began])
    clarity = clarity[event.reshape(-1)]
    seen = clarity > 0
    limit[seen] = exposure_s * np.minimum(1 / clarity[seen], 1 / np.sqrt(12))
    return limit


def spot_clarity(electrons: Floats, at_px: Floats, pixel_size_nm: float) -> float:
    """Return d' of one frame for a spot: how clearly it says that the spot is there.

    A Gaussian on a sloping plane is fitted to the noise-free picture within `SPOT_RADIUS_NM`, its
    width the best of `SPOT_WIDTHS_NM`. With h g its part and λ the picture, d'^2 = sum of
    (h g)^2 / λ, what an observer gains who knows both pictures. Zero where the radius isn't seen.

    Parameters
    ----------
    electrons
        Expected in each pixel of a frame.
    at_px
        (x, y) of the spot.
    """
    ny, nx = electrons.shape
    radius = SPOT_RADIUS_NM / pixel_size_nm
    x0, y0 = at_px
    if not (radius <= x0 <= nx - 1 - radius and radius <= y0 <= ny - 1 - radius):
        return 0.0
    rows, columns = (
        np.arange(int(np.ceil(c - radius)), int(np.floor(c + radius)) + 1) for c in (y0, x0)
    )
    y, x = (a.ravel() for a in np.meshgrid(rows - y0, columns - x0, indexing="ij"))
    inside = np.hypot(x, y) <= radius
    y, x = y[inside], x[inside]
    picture = electrons[np.ix_(rows, columns)].ravel()[inside]
    best = (np.inf, 0.0)
    for width_nm in SPOT_WIDTHS_NM:
        g = np.exp(-(x**2 + y**2) / 2 * (pixel_size_nm / width_nm) ** 2)
        parts = np.column_stack([g, np.ones(len(g)), x, y])
        fit, *_ = np.linalg.lstsq(parts, picture, rcond=None)
        off = float(np.sum((picture - parts @ fit) ** 2))
        lit = picture > 0
        gain = float(np.sqrt(np.sum((fit[0] * g[lit]) ** 2 / picture[lit])))
        best = min(best, (off, gain))
    return best[1]


def _scores(task: str, c: EventComparison) -> Scores:
    hits, targets, false = len(c.hit_found), int(c.target.sum()), len(c.false)
    claims = hits + false

    def score(name: str, value: float | None, n: int, better: Better, hint: str) -> Score:
        return Score(name, value, n, better, hint=hint)

    scores = [
        score("recall", hits / targets if targets else None, targets, "higher",
              f"{hits} of the {targets} events that happened were found" if targets
              else "not defined: nothing happened that the task asks for"),
        score("precision", hits / claims if claims else None, claims, "higher",
              f"{hits} of the {claims} events that were claimed did happen" if claims
              else "not defined: nothing was found"),
        score("f1", 2 * hits / (claims + targets) if claims + targets else None, targets, "higher",
              "recall and precision in one number (harmonic mean)"),
        score("false", float(false), claims, "lower", "events that were claimed and aren't any"),
    ]  # fmt: skip
    notes = []
    if hits:
        error, limits = c.error_s, c.limit_s[c.hit_true]
        limits = limits[np.isfinite(limits)]
        coverage = None
        if c.sigma_s is not None:
            coverage = float(np.mean(np.abs(error) <= 1.96 * c.sigma_s[c.hit_found]))
        scores.append(
            Score("time_error", float(np.sqrt(np.mean(error**2))), hits, "lower", "s",
                  limit=float(np.sqrt(np.mean(limits**2))) if len(limits) else None,
                  bias=float(error.mean()), spread=float(error.std()), coverage=coverage,
                  hint="typical difference of the time found from the true one (rms); a frame "
                  f"comes every {c.period_s:g} s")
        )  # fmt: skip
        if coverage is not None:
            hint = "0.95 if the quoted uncertainties are honest; less: too sure"
            scores.append(score("coverage", coverage, hits, "higher", hint))
        notes.append(
            "The limit of the time is that of a single event whose site, levels and drift are "
            "known. A hop is two events at one moment: an algorithm that knows this comes below "
            "the limit, by up to the root of two. The matching cuts errors beyond "
            f"{MATCH_FRAMES:g} frame off."
        )
    else:
        hint = "not defined: no event was hit"
        scores.append(Score("time_error", None, 0, "lower", "s", hint=hint))
    brief = int(np.sum(c.true.changes & (c.true.stay_s < c.period_s)))
    if brief:
        notes.append(
            f"{brief} events begin or end a stay (or an absence) shorter than a frame; they count "
            "neither for nor against."
        )
    if len(c.missed):
        stay = c.true.stay_s[c.missed] / c.period_s
        notes.append(
            f"{len(c.missed)} events were missed; the stays (or absences) beside them last "
            f"{stay.min():.1f} to {stay.max():.1f} frames."
        )
    return Scores(task, tuple(scores), tuple(notes))


def table_of(c: EventComparison) -> Table:
    """Return targets and false answers in the order of time, for a reader.

    Columns: t_s (true), found_s, error_s, sigma_s, x_nm, y_nm, kind, n_atoms; not a number where
    there is none.
    """
    partner = np.full(len(c.true.t_s), -1)
    partner[c.hit_true] = c.hit_found
    nan = float("nan")
    rows = []
    for k in np.flatnonzero(c.target):
        f = partner[k]
        found = c.found_s[f] if f >= 0 else nan
        sigma = c.sigma_s[f] if f >= 0 and c.sigma_s is not None else nan
        rows.append((c.true.t_s[k], found, found - c.true.t_s[k], sigma, *c.there_nm[k],
                     c.true.kind[k], c.true.n_atoms[k]))  # fmt: skip
    for f in c.false:
        sigma = nan if c.sigma_s is None else c.sigma_s[f]
        rows.append((nan, c.found_s[f], nan, sigma, *c.found_nm[f], c.found_kind[f], 0))
    rows.sort(key=lambda row: row[1] if np.isnan(row[0]) else row[0])
    names = ("t_s", "found_s", "error_s", "sigma_s", "x_nm", "y_nm", "kind", "n_atoms")
    values = np.array(rows, np.float64).reshape(-1, len(names))
    return dict(zip(names, values.T, strict=True))
