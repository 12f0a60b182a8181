"""Task atomic-columns: find where the atomic columns stand in a stack of micrographs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from nanophantom.simcore.fields import Table
from nanophantom.validation.limits import position_limit, visibility
from nanophantom.validation.matching import match
from nanophantom.validation.task import Better, Estimates, Score, Scores, Task, require_tables

if TYPE_CHECKING:
    from nanophantom.validation.drawing import Plate
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

MATCH_RADIUS_NM = 0.05
BORDER_NM = 0.2
LEAST_ATOMS = 2
LARGEST_EXTENT_NM = 0.05
PM_PER_NM = 1000.0
NM_PER_A = 0.1


class AtomicColumns(Task):
    """Find the heavy atomic columns of a crystal in a noisy, drifting stack of frames."""

    name = "atomic-columns"
    title = "Atomic column positions"
    default_algorithm = "nanophantom.analysis.atomic_columns:find"
    inputs = ("image",)
    columns = ("x_nm", "y_nm")
    optional_columns = ("sigma_nm",)
    least_atoms: ClassVar[int] = LEAST_ATOMS
    contract = f"""\
find(images, settings) -> {{"x_nm": (n,), "y_nm": (n,), optional "sigma_nm": (n,)}}

Receives
  images      counts, shape (frames, ny, nx)
  settings    a dict of nominal values: pixel_size_nm always; maybe dose_e_per_A2, defocus_nm,
              energy_kev, exposure_s, contrast ("bright" or "dark": how atoms look)
Returns
  x_nm, y_nm  column positions in frame 0; the centre of pixel (0, 0) is the origin, x points
              right, y down
  sigma_nm    standard uncertainty of each of the two coordinates (optional)
Scored
  Targets are the columns of at least {LEAST_ATOMS} atoms whose heaviest element has at least half
  the atomic number of the heaviest in view, whose atoms stand within {LARGEST_EXTENT_NM:g} nm (rms)
  of one axis, and which lie at least {BORDER_NM:g} nm inside frame 0.
  Positions found are matched to targets one to one within {MATCH_RADIUS_NM:g} nm: as many as
  possible, then as near as possible. What is left and lies on another column, or in the border,
  counts neither for nor against; all else is a false find. Of a specimen that changes, neither
  columns of which half the atoms left or moved, nor places to which atoms moved, are targets or
  mistakes.
  recall = hits / targets, precision = hits / (hits + false finds), f1 their harmonic mean;
  rmse = root mean square distance of the hits from the truth, split into bias (the mean shift)
  and spread (what remains about it), in pm; coverage = fraction of coordinates within
  1.96 sigma_nm of the truth. The limit beside rmse is the Cramér-Rao bound of the counts.
"""

    def grade(self, estimates: Estimates, dataset: Observed) -> Scores:
        """Grade positions found against the columns that are there."""
        return _scores(self.name, self.compare(estimates, dataset))

    def figures(self, dataset: Observed, estimates: Estimates, scores: Scores) -> list[Plate]:
        """Draw hits, misses and false finds, and the errors of the hits."""
        from nanophantom.validation import column_figures

        return column_figures.of_columns(dataset, self.compare(estimates, dataset))

    def compare(self, estimates: Estimates, dataset: Observed) -> Comparison:
        """Match positions found with the truth: the ground of scores and figures."""
        found = self.read(estimates)
        sigma_nm = found.get("sigma_nm")
        if sigma_nm is not None and (sigma_nm <= 0).any():
            raise ValueError(f"task {self.name} wants sigma_nm above zero, got {sigma_nm.min():g}")
        truth = require_tables(self, dataset, ("columns", "drift", "noise_free"))
        pixel_size_nm = float(dataset.settings["pixel_size_nm"])
        expected_counts = np.asarray(truth["noise_free"]["image"], np.float64) * dataset.n_frames

        columns = truth["columns"]
        x, y = np.asarray(columns["x_nm"], np.float64), np.asarray(columns["y_nm"], np.float64)
        limit_nm = position_limit(expected_counts, x, y, pixel_size_nm).radial_nm
        if dataset.signal("image", 0, 1).dtype.kind == "f":  # shot noise is off: nothing limits
            limit_nm = np.full(len(x), np.inf)
        clarity = visibility(expected_counts, x, y, pixel_size_nm)
        drift_nm = np.array([truth["drift"]["dx_nm"][0], truth["drift"]["dy_nm"][0]], np.float64)
        there = np.column_stack([x, y]) + drift_nm
        view = View(pixel_size_nm, expected_counts.shape[1], expected_counts.shape[0])
        visited = np.empty((0, 2))
        steady = np.ones(len(x), np.bool_)
        if "events" in dataset.truth_tables:
            events = dataset.truth("events")
            steady = steady_columns(columns, events)
            visited = visited_places(events) + drift_nm
        target = _targets(columns, there, view, self.least_atoms) & steady

        positions = np.column_stack([found["x_nm"], found["y_nm"]])
        targets, others = np.flatnonzero(target), np.flatnonzero(~target)
        hits = match(positions, there[targets], MATCH_RADIUS_NM)
        rest = np.setdiff1d(np.arange(len(positions)), hits.found)
        for places in (there[others], visited):
            excused = rest[match(positions[rest], places, MATCH_RADIUS_NM).found]
            rest = np.setdiff1d(rest, excused)
        names = dataset.truth("groups")["name"] if "groups" in dataset.truth_tables else ()
        budget = dataset.truth("intensity") if "intensity" in dataset.truth_tables else {}
        n_configurations = len(budget.get("configuration", (0,)))
        return Comparison(
            found_nm=positions,
            sigma_nm=sigma_nm,
            there_nm=there,
            drift_nm=drift_nm,
            target=target,
            group=np.asarray(columns.get("group", np.zeros(len(x))), np.int64),
            group_names=tuple(_text(name) for name in names),
            limit_nm=limit_nm,
            visibility=clarity,
            hit_found=hits.found,
            hit_column=targets[hits.true],
            missed=np.setdiff1d(targets, targets[hits.true]),
            false=rest[view.holds(positions[rest], BORDER_NM)],
            n_configurations=n_configurations,
            off_rest_nm=off_rest_nm(columns, target, n_configurations),
        )


@dataclass(frozen=True)
class View:
    """The rectangle that the camera sees."""

    pixel_size_nm: float
    nx: int
    ny: int

    def holds(self, points_nm: Floats, border_nm: float = 0.0) -> Bools:
        """Say which points, shape (n, 2), lie at least this far inside the frame's edge."""
        edge = np.array([self.nx, self.ny]) * self.pixel_size_nm - self.pixel_size_nm / 2
        low, high = border_nm - self.pixel_size_nm / 2, edge - border_nm
        return np.asarray(((points_nm >= low) & (points_nm <= high)).all(axis=1))


@dataclass(frozen=True, eq=False)
class Comparison:
    """Estimates beside truth: positions (x, y) in frame 0 and indices into them."""

    found_nm: Floats
    sigma_nm: Floats | None
    there_nm: Floats
    """All columns, targets or not."""
    drift_nm: Floats
    """Drift of frame 0, shape (2,): subtract it to get to the noise-free image."""
    target: Bools
    group: Ints
    group_names: tuple[str, ...]
    limit_nm: Floats
    """Radial Cramér-Rao bound of each column; infinite out of view or without shot noise."""
    visibility: Floats
    hit_found: Ints
    """Indices of the hits in ``found_nm``; ``hit_column`` holds those in ``there_nm``."""
    hit_column: Ints
    missed: Ints
    """Indices in ``there_nm``."""
    false: Ints
    """Indices in ``found_nm``."""
    n_configurations: int
    """Thermal configurations that the data are an average of."""
    off_rest_nm: float
    """How far that average leaves the targets off their resting places: radial, rms."""

    @property
    def thermal_note(self) -> str:
        """Say what the finite number of configurations adds to any algorithm's error, if any."""
        if not self.off_rest_nm:
            return ""
        return (
            f"The data average {self.n_configurations} thermal configurations, which leaves the "
            f"columns {self.off_rest_nm * PM_PER_NM:.2g} pm (rms) off their resting places; this "
            "is part of every algorithm's error and not of the limit; more configurations "
            "(instrument.multislice.thermal_configurations) make it smaller."
        )

    @property
    def error_nm(self) -> Floats:
        """Found minus true position of the hits, shape (n, 2)."""
        return self.found_nm[self.hit_found] - self.there_nm[self.hit_column]

    def within(self, group: int) -> Comparison:
        """Return the part about one group; a false find goes to its nearest column's group."""
        mine = self.group[self.hit_column] == group
        false_group = self.group[cKDTree(self.there_nm).query(self.found_nm[self.false])[1]]
        return replace(
            self,
            target=self.target & (self.group == group),
            hit_found=self.hit_found[mine],
            hit_column=self.hit_column[mine],
            missed=self.missed[self.group[self.missed] == group],
            false=self.false[false_group == group],
        )


def steady_columns(columns: Table, events: Table) -> Bools:
    """Say which columns kept more than half of their atoms where they stood, shape (n,).

    Parameters
    ----------
    columns, events
        Truth tables of these names: the columns at the beginning, and every atom that left its
        place since then.
    """
    _, first = np.unique(np.asarray(events["atom"]), return_index=True)  # from where it started
    homes = np.column_stack([events["from_x_nm"], events["from_y_nm"]])[first]
    axes = np.column_stack([columns["x_nm"], columns["y_nm"]])
    if not len(homes) or not len(axes):
        return np.ones(len(axes), np.bool_)
    distance, nearest = cKDTree(axes).query(homes)
    left = np.bincount(nearest[distance <= MATCH_RADIUS_NM], minlength=len(axes))
    return np.asarray(2 * left < np.asarray(columns["n_atoms"]))


def visited_places(events: Table) -> Floats:
    """Return where atoms came to stand, shape (n, 2): each place once."""
    places = np.column_stack([events["to_x_nm"], events["to_y_nm"]]).astype(np.float64)
    places = places[np.isfinite(places).all(axis=1)]
    return np.unique(np.round(places, 3), axis=0).reshape(-1, 2)


def off_rest_nm(columns: Table, target: Bools, n_configurations: int) -> float:
    """Return how far thermal motion leaves the targets off their resting places, rms.

    The mean over n_atoms atoms and N configurations of displacements with <u^2> = B / (8 pi^2)
    along each axis. Of a single configuration the truth doesn't say whether anything moved in
    it, and it counts as at rest.
    """
    if n_configurations < 2 or "b_factor_A2" not in columns or not target.any():
        return 0.0
    u2_A2 = np.asarray(columns["b_factor_A2"], np.float64)[target] / (8 * np.pi**2)
    averaged_over = np.asarray(columns["n_atoms"])[target] * n_configurations
    return float(np.sqrt(np.mean(2 * u2_A2 / averaged_over))) * NM_PER_A


def _targets(columns: Table, there_nm: Floats, view: View, least_atoms: int) -> Bools:
    """Say which columns an algorithm is asked for (see the contract)."""
    in_view = view.holds(there_nm)
    if not in_view.any():
        return np.zeros(len(there_nm), np.bool_)
    number = np.asarray(columns["number"])
    return np.asarray(
        (2 * number >= number[in_view].max())
        & (np.asarray(columns["n_atoms"]) >= least_atoms)
        & (np.asarray(columns["extent_nm"]) <= LARGEST_EXTENT_NM)
        & view.holds(there_nm, BORDER_NM)
    )


def _scores(task: str, whole: Comparison) -> Scores:
    if not whole.target.any():
        reason = "this view holds no column that the task asks for"
        empty = [
            *(
                Score(name, None, 0, "higher", hint=reason)
                for name in ("recall", "precision", "f1")
            ),
            Score("rmse", None, 0, "lower", "pm", hint=reason),
        ]
        note = (
            "There are no target columns: seen along the beam, no heavy atoms line up within "
            f"{LARGEST_EXTENT_NM:g} nm (off a zone axis, or outside the view), so there is "
            "nothing to grade."
        )
        return Scores(task, tuple(empty), (note,))
    scores = _scores_of(whole, group=None)
    groups = np.unique(whole.group[whole.target])
    if len(groups) > 1:
        for index in groups.tolist():
            named = index < len(whole.group_names)
            name = whole.group_names[index] if named else f"group {index}"
            scores += _scores_of(whole.within(index), group=name)
    notes = []
    if np.isfinite(whole.limit_nm[whole.target]).any():
        clarity = float(np.median(whole.visibility[whole.target]))
        notes = [
            "The limit is the Cramér-Rao bound: the least scatter that any unbiased algorithm can "
            "have with this many electrons, if drift and the columns' shapes are known to it.",
            f"Half of the target columns stand out from a flat area by more than {clarity:.1f} "
            "times the noise (all frames together); finding one blindly takes about 5.",
        ]
    if whole.thermal_note:
        notes.append(whole.thermal_note)
    limits = whole.limit_nm[whole.hit_column]
    if np.any(np.isfinite(limits)) and np.nanmax(limits) > MATCH_RADIUS_NM / 3:
        notes.append(
            f"A find farther than {MATCH_RADIUS_NM * PM_PER_NM:.0f} pm from every column counts as "
            "false. Where the limit comes near that, this cuts the errors of the hits short, and "
            "they may lie below the limit."
        )
    if not len(whole.hit_found):
        notes.append("No target was hit, so errors of position are not defined.")
    return Scores(task, tuple(scores), tuple(notes))


def _scores_of(part: Comparison, group: str | None) -> list[Score]:
    """Return the scores of the whole view or of one group."""
    hits, targets, false = len(part.hit_found), int(part.target.sum()), len(part.false)
    claims = hits + false

    def score(
        name: str, value: float | None, n: int, better: Better, hint: str, **more: Any
    ) -> Score:
        return Score(name, value, n, better, group=group, hint=hint, **more)

    detection = [
        score("recall", hits / targets, targets, "higher",
              f"{hits} of the {targets} columns that are there were found"),
        score("precision", hits / claims if claims else None, claims, "higher",
              f"{hits} of the {claims} columns that were claimed are real" if claims
              else "not defined: nothing was found"),
        score("f1", 2 * hits / (hits + false + targets), targets, "higher",
              "recall and precision in one number (harmonic mean)"),
    ]  # fmt: skip
    if not hits:
        undefined = "not defined: no target was hit"
        return [*detection, score("rmse", None, 0, "lower", undefined, unit="pm")]

    error_pm = part.error_nm * PM_PER_NM
    mean_x, mean_y = error_pm.mean(axis=0)
    rmse = _rms(np.hypot(error_pm[:, 0], error_pm[:, 1]))
    bias = float(np.hypot(mean_x, mean_y))
    spread = _rms(np.hypot(error_pm[:, 0] - mean_x, error_pm[:, 1] - mean_y))
    limits = part.limit_nm[part.hit_column] * PM_PER_NM
    limit = _rms(limits[np.isfinite(limits)]) if np.isfinite(limits).any() else None
    errors = [
        score("rmse", rmse, hits, "lower", "typical distance of a find from the true column",
              unit="pm", limit=limit, bias=bias, spread=spread, coverage=_coverage(part)),
        score("bias", bias, hits, "lower",
              "all finds are shifted together on average by "
              f"{mean_x:+.2f} pm (right) and {mean_y:+.2f} pm (down)".replace("-", "−"), unit="pm"),
        score("spread", spread, hits, "lower",
              "random scatter that is left when the common shift is taken away",
              unit="pm", limit=limit),
    ]  # fmt: skip
    coverage = _coverage(part)
    if coverage is not None:
        hint = "0.95 if the quoted uncertainties are honest; less: too sure, more: too cautious"
        errors.append(score("coverage", coverage, 2 * hits, "higher", hint))
    return [*detection, *errors]


def _coverage(part: Comparison) -> float | None:
    """Return the fraction of the hits' coordinates within 1.96 quoted sigma of the truth."""
    if part.sigma_nm is None or not len(part.hit_found):
        return None
    sigma_nm = part.sigma_nm[part.hit_found][:, np.newaxis]
    return float(np.mean(np.abs(part.error_nm) <= 1.96 * sigma_nm))


def _rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
