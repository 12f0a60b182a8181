"""The task stem-columns: every atomic column, heavy and light, from many STEM detectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from ase.data import chemical_symbols
from scipy.ndimage import map_coordinates

from nanophantom.validation.drawing import Plate
from nanophantom.validation.limits import position_limit
from nanophantom.validation.matching import match
from nanophantom.validation.task import (
    Better,
    Estimates,
    Score,
    Scores,
    Task,
    require_tables,
)

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

LEAST_ATOMS = 4
LARGEST_EXTENT_NM = 0.03
BORDER_NM = 0.1
MATCH_RADIUS_NM = 0.05
PM_PER_NM = 1000.0


class StemColumns(Task):
    """Find every atomic column in the signals of several STEM detectors, and tell the kinds."""

    name = "stem-columns"
    title = "All atomic columns, heavy and light"
    default_algorithm = "nanophantom.analysis.stem_columns:find"
    inputs = ()
    withheld = ("crystal",)
    columns = ("x_nm", "y_nm", "kind")
    contract = f"""\
find(signals, settings) -> {{"x_nm": (n,), "y_nm": (n,), "kind": (n,)}}

Receives
  signals     a dict of all signals by name, each of shape (frames, ny, nx): electrons for annular
              detectors (bf, abf, haadf ...) and the sectors of a segmented one (dpc-0, dpc-1 ...);
              for first moments com-sum in electrons, com-x and com-y in electrons times mrad
  settings    a dict of nominal values: pixel_size_nm, energy_kev, semiangle_mrad, defocus_nm and
              detectors: what each looks at, by name ({{"haadf": {{"shape": "annular",
              "inner_mrad": 60, "outer_mrad": 100}}}}); crystal is withheld
Returns
  x_nm, y_nm  column positions in frame 0; the centre of pixel (0, 0) is the origin, x points
              right, y down
  kind        0 for columns of the heaviest kind, 1 for the next heavy, and so on
Scored
  Targets are all columns of at least {LEAST_ATOMS} atoms that stand within {LARGEST_EXTENT_NM:g} nm
  (rms) of one axis and appear at least {BORDER_NM:g} nm inside frame 0. A column appears where the
  probe stood on it, so drift during the scan moves it. A column's kind is that of its heaviest
  element.
  Positions found are matched to targets one to one within {MATCH_RADIUS_NM:g} nm. What is left and
  lies on another column, or in the border, counts neither for nor against; all else is a false
  find.
  recall = hits / targets, precision = hits / (hits + false finds), f1 their harmonic mean;
  kind = part of the hits whose kind is right; rmse = root mean square distance of the hits from
  the truth, bias the length of its mean, in pm. All of them also for each kind of column.
"""

    def grade(self, estimates: Estimates, dataset: Observed) -> Scores:
        """Grade columns found against those that are there."""
        scores = _scores(self.name, self.compare(estimates, dataset))
        secret = [name for name in self.withheld if name in dataset.settings]
        if not secret:
            return scores
        note = f"Algorithms weren't told what stands among the settings as {', '.join(secret)}."
        return replace(scores, notes=(*scores.notes, note))

    def figures(self, dataset: Observed, estimates: Estimates, scores: Scores) -> list[Plate]:
        """Draw every detector's image, what each sees, the phase, hits and misses."""
        from nanophantom.validation import stem_figures

        return stem_figures.of_detectors(dataset, self.compare(estimates, dataset))

    def compare(self, estimates: Estimates, dataset: Observed) -> Found:
        """Match columns found with the truth: the ground of scores and figures."""
        found = self.read(estimates)
        truth = require_tables(self, dataset, ("columns", "probe_positions", "noise_free"))
        pixel_size_nm = float(dataset.settings["pixel_size_nm"])
        columns, images = truth["columns"], truth["noise_free"]
        shape = next(iter(images.values())).shape
        at_rest = np.column_stack([columns["x_nm"], columns["y_nm"]]).astype(np.float64)
        there = appears_at(at_rest, truth["probe_positions"], pixel_size_nm)
        number = np.asarray(columns["number"])
        solid = (np.asarray(columns["n_atoms"]) >= LEAST_ATOMS) & (
            np.asarray(columns["extent_nm"]) <= LARGEST_EXTENT_NM
        )
        target = solid & _inside(there, shape, pixel_size_nm, BORDER_NM)

        limit_nm, limited_by = np.full(len(there), np.inf), disjoint(dataset.settings["detectors"])
        shot_noise = [s for s in limited_by if dataset.signal(s, 0, 1).dtype.kind in "iu"]
        if shot_noise:
            counts = np.stack([images[name] for name in shot_noise]) * float(dataset.n_frames)
            limit_nm = position_limit(counts, at_rest[:, 0], at_rest[:, 1], pixel_size_nm).radial_nm

        positions = np.column_stack([found["x_nm"], found["y_nm"]])
        targets, others = np.flatnonzero(target), np.flatnonzero(~target)
        hits = match(positions, there[targets], MATCH_RADIUS_NM)
        rest = np.setdiff1d(np.arange(len(positions)), hits.found)
        excused = rest[match(positions[rest], there[others], MATCH_RADIUS_NM).found]
        rest = np.setdiff1d(rest, excused)
        budget = dataset.truth("intensity") if "intensity" in dataset.truth_tables else {}
        # A part is one configuration, or some lines of it: configuration-0007-frame-...
        parts = {bytes(name)[:18] for name in np.asarray(budget.get("part", ()), "S")}
        n_configurations = max(1, len(parts))
        # Kinds are ranks of those in view, heaviest first.
        elements = np.unique(number[target])[::-1]
        kind = np.searchsorted(-elements, -number)
        return Found(
            found_nm=positions,
            found_kind=np.rint(found["kind"]).astype(np.int64),
            at_rest_nm=at_rest,
            there_nm=there,
            number=number,
            kind=kind,
            kind_names=tuple(chemical_symbols[int(z)] for z in elements),
            target=target,
            limit_nm=limit_nm,
            limited_by=tuple(shot_noise),
            n_configurations=n_configurations,
            thermal_nm=_thermal_nm(columns, target, n_configurations),
            hit_found=hits.found,
            hit_column=targets[hits.true],
            missed=np.setdiff1d(targets, targets[hits.true]),
            false=rest[_inside(positions[rest], shape, pixel_size_nm, BORDER_NM)],
        )


@dataclass(frozen=True, eq=False)
class Found:
    """Estimates beside truth; positions are (x, y) in nm, the rest indices into them."""

    found_nm: Floats
    found_kind: Ints
    at_rest_nm: Floats
    """All columns on the specimen at rest, as in the noise-free images."""
    there_nm: Floats
    """All columns as they appear in frame 0."""
    number: Ints
    kind: Ints
    """Rank of each column's heaviest element among those of the targets."""
    kind_names: tuple[str, ...]
    target: Bools
    limit_nm: Floats
    limited_by: tuple[str, ...]
    """The signals whose counts the limit is about."""
    n_configurations: int
    thermal_nm: float
    """How far thermal motion leaves the targets off their resting places, rms."""
    hit_found: Ints
    hit_column: Ints
    missed: Ints
    false: Ints

    @property
    def error_nm(self) -> Floats:
        """Found minus true position of the hits, shape (n, 2)."""
        return self.found_nm[self.hit_found] - self.there_nm[self.hit_column]

    @property
    def kind_right(self) -> Bools:
        """Which of the hits were given the right kind."""
        return np.asarray(self.found_kind[self.hit_found] == self.kind[self.hit_column])


def appears_at(points_nm: Floats, path: Mapping[str, Any], pixel_size_nm: float) -> Floats:
    """Return where points of the specimen at rest appear in the raster of frame 0.

    The probe stands on a point when raster = point + displacement - scan error then; they vary so
    little from pixel to pixel that looking it up where the point is thought to be, and again
    there, converges.
    """
    moved = [
        np.asarray(path[f"d{axis}_nm"], np.float64)[0]
        - np.asarray(path[f"scan_{axis}_nm"], np.float64)[0]
        for axis in "xy"
    ]
    there = points_nm.copy()
    for _ in range(6):
        where = (there[:, ::-1] / pixel_size_nm).T
        shift = [map_coordinates(d, where, order=1, mode="nearest") for d in moved]
        there = points_nm + np.column_stack(shift)
    return there


def disjoint(detectors: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Return signals of counted electrons that share none, segments first, then from inside."""

    def bounds(detector: Mapping[str, Any]) -> tuple[float, float]:
        return float(detector.get("inner_mrad", 0.0)), float(detector["outer_mrad"])

    rings = {n: d for n, d in detectors.items() if d["shape"] in ("annular", "segmented")}
    order = sorted(rings, key=lambda n: (rings[n]["shape"] != "segmented", bounds(rings[n])))
    taken: list[str] = []
    for name in order:
        low, high = bounds(rings[name])
        centred = not any(rings[name].get("shift_mrad", (0, 0)))
        free = all(
            high <= bounds(rings[other])[0] or low >= bounds(rings[other])[1] for other in taken
        )
        if centred and free:
            taken.append(name)
    return tuple(signal for name in taken for signal in channels_of(name, rings[name]))


def channels_of(name: str, detector: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of a detector's counted signals."""
    if detector["shape"] == "segmented":
        return tuple(f"{name}-{i}" for i in range(int(detector["segments"])))
    return (name,)


def _thermal_nm(columns: Mapping[str, Any], target: Bools, n_configurations: int) -> float:
    """Return the rms distance that the mean of N configurations leaves, <u^2> = B / (8 pi^2)."""
    if n_configurations < 2 or "b_factor_A2" not in columns or not target.any():
        return 0.0
    u2_A2 = np.asarray(columns["b_factor_A2"], np.float64)[target] / (8 * np.pi**2)
    averaged_over = np.asarray(columns["n_atoms"])[target] * n_configurations
    return 0.1 * float(np.sqrt(np.mean(2 * u2_A2 / averaged_over)))


def _inside(points_nm: Floats, shape: tuple[int, ...], pixel_nm: float, border_nm: float) -> Bools:
    high = (np.array(shape[::-1]) - 0.5) * pixel_nm - border_nm
    low = border_nm - pixel_nm / 2
    return np.asarray(((points_nm >= low) & (points_nm <= high)).all(axis=1))


def _scores(task: str, found: Found) -> Scores:
    if not found.target.any():
        reason = "this view holds no column that the task asks for"
        names = ("recall", "precision", "f1", "kind")
        empty = tuple(Score(name, None, 0, "higher", hint=reason) for name in names)
        return Scores(task, (*empty, Score("rmse", None, 0, "lower", "pm", hint=reason)))
    everywhere = np.ones(len(found.there_nm), np.bool_)
    scores = _scores_of(found, everywhere, None)
    for rank, name in enumerate(found.kind_names):
        scores += _scores_of(found, found.kind == rank, name)
    moved_pm = PM_PER_NM * (found.there_nm - found.at_rest_nm)[found.target]
    notes = [
        "Positions are those at which the probe stood on a column: between the top and the bottom "
        f"of frame 0 drift moved the columns by up to {np.ptp(moved_pm, axis=0).max():.1f} pm.",
    ]
    if found.limited_by:
        notes.append(
            "The limit is the Cramér-Rao bound of the counts of "
            f"{', '.join(found.limited_by)} together: detectors that share no electron, so that "
            "their information adds. First moments resolve angles more finely than these do and "
            "may hold a little more. Algorithms that know more than a shift of each column's own "
            "patch (equal columns, a lattice) can do better."
        )
    if found.thermal_nm > 0:
        notes.append(
            f"An average over {found.n_configurations} thermal configurations leaves the targets "
            f"{PM_PER_NM * found.thermal_nm:.1f} pm (rms) off their resting places if all atoms "
            "of a column count alike, and more since those near the entrance face count most. This "
            "is part of every algorithm's error and not of the limit; more configurations "
            "(instrument.multislice.thermal_configurations) make it smaller."
        )
    return Scores(task, tuple(scores), tuple(notes))


def _scores_of(found: Found, mine: Bools, group: str | None) -> list[Score]:
    """Return the scores of some of the columns."""
    hit = mine[found.hit_column]
    nearest = np.array(
        [np.argmin(np.hypot(*(found.there_nm - p).T)) for p in found.found_nm[found.false]], int
    )
    hits, targets = int(hit.sum()), int((found.target & mine).sum())
    false = int(mine[nearest].sum())
    claims = hits + false

    def score(
        name: str, value: float | None, n: int, better: Better, hint: str, **more: Any
    ) -> Score:
        return Score(name, value, n, better, group=group, hint=hint, **more)

    scores = [
        score("recall", hits / targets if targets else None, targets, "higher",
              f"{hits} of the {targets} columns that are there were found"),
        score("precision", hits / claims if claims else None, claims, "higher",
              f"{hits} of the {claims} columns that were claimed are real"),
        score("f1", 2 * hits / (claims + targets) if targets else None, targets, "higher",
              "recall and precision in one number (harmonic mean)"),
    ]  # fmt: skip
    if not hits:
        undefined = "not defined: no column was hit"
        return [*scores, score("kind", None, 0, "higher", undefined),
                score("rmse", None, 0, "lower", undefined, unit="pm")]  # fmt: skip
    right = int(found.kind_right[hit].sum())
    error_pm = PM_PER_NM * found.error_nm[hit]
    mean_x, mean_y = error_pm.mean(axis=0)
    limits = PM_PER_NM * found.limit_nm[found.hit_column[hit]]
    known = limits[np.isfinite(limits)]
    rmse = float(np.sqrt(np.mean(np.sum(error_pm**2, axis=1))))
    spread = float(np.sqrt(np.mean(np.sum((error_pm - [mean_x, mean_y]) ** 2, axis=1))))
    bias = float(np.hypot(mean_x, mean_y))
    shift = f"{mean_x:+.2f} pm (right) and {mean_y:+.2f} pm (down)".replace("-", "−")
    return [
        *scores,
        score("kind", right / hits, hits, "higher",
              f"{right} of the {hits} hits were given the right kind (heaviest element)"),
        score("rmse", rmse, hits, "lower", "typical distance of a find from the true column",
              unit="pm", limit=float(np.sqrt(np.mean(known**2))) if len(known) else None,
              bias=bias, spread=spread),
        score("bias", bias, hits, "lower", f"all finds are shifted together by {shift}", unit="pm"),
    ]  # fmt: skip
