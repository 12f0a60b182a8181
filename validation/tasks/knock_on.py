"""Task knock-on: how often the beam knocks atoms out of a sheet, and which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from ase.data import chemical_symbols
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from nanophantom.simcore.damage.processes import KnockOn as KnockOnProcess
from nanophantom.simcore.fields import Table
from nanophantom.validation.task import Estimates, Score, Scores, Task, require_tables
from nanophantom.validation.tasks.atomic_columns import BORDER_NM, View

if TYPE_CHECKING:
    from nanophantom.validation.drawing import Plate
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MATCH_RADIUS_NM = 0.07
MATCH_FRAMES = 1.0
BOND_FACTOR = 1.3
NEIGHBOURS = 3


class KnockOn(Task):
    """Measure a displacement cross section by counting the atoms that leave a sheet."""

    name = "knock-on"
    title = "Atoms knocked out of a sheet"
    default_algorithm = "nanophantom.analysis.knock_on_losses:measure"
    inputs = ("image",)
    needs = ("events",)
    needs_because = "they come from a sample of kind evolving, whose processes move or take atoms"
    columns = ("x_nm", "y_nm", "t_s", "cross_section_barn", "low_barn", "high_barn")
    optional_columns = ("sigma_t_s", "neighbours")
    contract = f"""\
measure(images, settings) -> {{"x_nm": (n,), "y_nm": (n,), "t_s": (n,), "cross_section_barn": (n,),
                              "low_barn": (n,), "high_barn": (n,), optional "sigma_t_s": (n,),
                              "neighbours": (n,)}}

Receives
  images      what the camera counted, shape (frames, ny, nx)
  settings    a dict of nominal values: pixel_size_nm, energy_kev, exposure_s, frame_period_s,
              doses_e_per_A2 (of every frame), counts_per_electron; contrast ("bright" or "dark")
Returns, one row an atom that was lost
  x_nm, y_nm          where it stood in frame 0; the centre of pixel (0, 0) is the origin, x points
                      right, y down
  t_s                 when it was lost, from the opening of the first frame's shutter
  sigma_t_s           its standard uncertainty (optional)
  neighbours          how many neighbours it had then (optional)
  cross_section_barn  for the loss of an atom with {NEIGHBOURS} neighbours (one number, repeated)
  low_barn, high_barn its 95 % interval (one number each, repeated)
Scored
  cross_section_error = difference of the logarithms, estimated to true cross section, without its
  sign; the true one is the law that the specimen was played with: McKinley and Feshbach, averaged
  over the atom's velocity along the beam. The limit beside it is that of counting, 1 / root of the
  number of atoms with {NEIGHBOURS} neighbours that were lost in view; error_in_limits is their
  ratio. covered = 1 if the interval holds the true value.
  Atoms lost at least {BORDER_NM:g} nm inside frame 0 are targets; answers are matched one to one
  within {MATCH_RADIUS_NM:g} nm and {MATCH_FRAMES:g} frame: recall, precision, f1 and time_error
  (rms) of the atoms lost. Answers in the border count neither for nor against.
"""

    def grade(self, estimates: Estimates, dataset: Observed) -> Scores:
        """Grade the cross section and the atoms lost against the truth."""
        return _scores(self.name, self.compare(estimates, dataset))

    def figures(self, dataset: Observed, estimates: Estimates, scores: Scores) -> list[Plate]:
        """Draw the sheet before and after, the atoms lost, the survivors, and the result."""
        from nanophantom.validation import knock_on_figures

        return knock_on_figures.of_losses(dataset, self.compare(estimates, dataset))

    def compare(self, estimates: Estimates, dataset: Observed) -> KnockOnComparison:
        """Match atoms lost with the truth: the ground of scores and figures."""
        found = self.read(estimates)
        stated = []
        for name in ("cross_section_barn", "low_barn", "high_barn"):
            values = found[name]
            if len(values) and (np.ptp(values) > 0 or values[0] < 0):
                raise ValueError(
                    f"task {self.name} wants {name} to be one number, zero or more, in all rows"
                )
            stated.append(float(values[0]) if len(values) else np.nan)
        if len(found["t_s"]) and not stated[1] <= stated[0] <= stated[2]:
            raise ValueError(
                f"task {self.name} wants low_barn <= cross_section_barn <= high_barn, got "
                f"{stated[1]:g}, {stated[0]:g}, {stated[2]:g}"
            )
        sigma_s = found.get("sigma_t_s")
        if sigma_s is not None and (sigma_s <= 0).any():
            raise ValueError(f"task {self.name} wants sigma_t_s above zero, got {sigma_s.min():g}")
        truth = require_tables(self, dataset, ("atoms", "events", "drift", "dose"))
        process = _process_of(dataset)
        energy_kev = float(dataset.settings["energy_kev"])
        period_s = float(dataset.settings.get("frame_period_s") or dataset.settings["exposure_s"])
        drift_nm = np.array([truth["drift"]["dx_nm"][0], truth["drift"]["dy_nm"][0]], np.float64)
        ny, nx = dataset.signal("image", 0, 1).shape[1:]
        view = View(float(dataset.settings["pixel_size_nm"]), nx, ny)

        events = truth["events"]
        end_s = dataset.n_frames * period_s
        t_s = np.asarray(events["t_s"], np.float64)
        lost = np.asarray(events["lost"], bool) & (t_s >= 0) & (t_s <= end_s)
        left = neighbours_at_loss(truth["atoms"], events)[lost]
        true_nm = np.column_stack([events["from_x_nm"], events["from_y_nm"]])[lost] + drift_nm
        t_s = t_s[lost]
        target = view.holds(true_nm, BORDER_NM)

        at = np.column_stack([found["x_nm"], found["y_nm"]])

        def pairs(rows: Ints, of: Ints) -> tuple[Ints, Ints]:
            apart = np.linalg.norm(at[rows][:, None] - true_nm[of][None], axis=2)
            late = np.abs(found["t_s"][rows][:, None] - t_s[of][None])
            allowed = (apart <= MATCH_RADIUS_NM) & (late <= MATCH_FRAMES * period_s)
            cost = (apart / MATCH_RADIUS_NM) ** 2 + (late / period_s) ** 2
            far = 3.0 * (1 + min(allowed.shape, default=0))
            i, j = linear_sum_assignment(np.where(allowed, cost, far))
            good = allowed[i, j]
            return rows[i[good]], of[j[good]]

        everything, targets = np.arange(len(at)), np.flatnonzero(target)
        hit_found, hit_true = pairs(everything, targets)
        rest = np.setdiff1d(everything, hit_found)
        symbol = chemical_symbols[int(np.bincount(truth["atoms"]["number"]).argmax())]
        resting = process.model_copy(update={"velocity_variance_m2_s2": {symbol: 0.0}})
        atoms_nm = np.column_stack([truth["atoms"]["x_nm"], truth["atoms"]["y_nm"]]) + drift_nm
        return KnockOnComparison(
            found_nm=at,
            found_s=found["t_s"],
            sigma_s=sigma_s,
            found_barn=(stated[0], stated[1], stated[2]),
            true_barn=process.cross_section_barn(symbol, NEIGHBOURS, energy_kev),
            static_barn=resting.cross_section_barn(symbol, NEIGHBOURS, energy_kev),
            edge_barn=process.cross_section_barn(symbol, NEIGHBOURS - 1, energy_kev),
            energy_kev=energy_kev,
            true_nm=true_nm,
            true_s=t_s,
            true_neighbours=left,
            target=target,
            n_atoms=int(view.holds(atoms_nm, BORDER_NM).sum()),
            hit_found=hit_found,
            hit_true=hit_true,
            missed=np.setdiff1d(targets, hit_true),
            false=rest[view.holds(at[rest], BORDER_NM)],
            in_view=view.holds(at, BORDER_NM),
            dose=truth["dose"],
            period_s=period_s,
        )


@dataclass(frozen=True, eq=False)
class KnockOnComparison:
    """Answers beside truth: atoms lost in frame 0's coordinates, cross sections in barn."""

    found_nm: Floats
    found_s: Floats
    sigma_s: Floats | None
    found_barn: tuple[float, float, float]
    """Estimate, lower and upper end of its interval; not a number without answers."""
    true_barn: float
    static_barn: float
    """What the cross section were if the atoms stood still."""
    edge_barn: float
    """The true one of atoms with two neighbours."""
    energy_kev: float
    true_nm: Floats
    true_s: Floats
    true_neighbours: Ints
    """Neighbours of each atom when it was lost."""
    target: npt.NDArray[np.bool_]
    n_atoms: int
    """In view, inside the border, in the beginning."""
    hit_found: Ints
    hit_true: Ints
    missed: Ints
    false: Ints
    in_view: npt.NDArray[np.bool_]
    """Which answers lie inside the border."""
    dose: Table
    period_s: float

    @property
    def n_pristine(self) -> int:
        """Atoms with all neighbours that were lost in view."""
        return int(np.sum(self.target & (self.true_neighbours == NEIGHBOURS)))

    @property
    def error_s(self) -> Floats:
        """Found minus true times of the hits."""
        return self.found_s[self.hit_found] - self.true_s[self.hit_true]


def neighbours_at_loss(atoms: Table, events: Table) -> Ints:
    """Return how many neighbours each atom of the log had when it left its place.

    Parameters
    ----------
    atoms, events
        Truth tables of these names.
    """
    place = np.column_stack([atoms[f"{axis}_nm"] for axis in "xyz"]).astype(np.float64)
    tree = cKDTree(place)
    reach = BOND_FACTOR * float(np.median(tree.query(place, k=2)[0][:, 1]))
    near = tree.query_ball_point(place, reach)
    there = np.ones(len(place), bool)
    left = []
    for atom in np.asarray(events["atom"], np.int64).tolist():
        left.append(int(np.sum(there[near[atom]])) - 1)
        there[atom] = False
    return np.array(left, np.int64)


def _process_of(dataset: Observed) -> KnockOnProcess:
    """Return the process that the specimen was played with."""
    recipe: Any = getattr(dataset, "recipe", None) or {}
    for process in recipe.get("sample", {}).get("processes") or ():
        if process.get("process") == "knock-on":
            known = {k: v for k, v in process.items() if k in KnockOnProcess.model_fields}
            return KnockOnProcess(**known)
    raise ValueError(
        "task knock-on can't grade this dataset: its recipe has no sample with a process knock-on"
    )


def _scores(task: str, c: KnockOnComparison) -> Scores:
    hits, targets, false = len(c.hit_found), int(c.target.sum()), len(c.false)
    claims = hits + false
    estimate, low, high = c.found_barn
    scores = []
    limit = 1 / np.sqrt(c.n_pristine) if c.n_pristine else None
    usable = np.isfinite(estimate) and estimate > 0 and c.true_barn > 0
    if usable:
        off = float(np.log(estimate / c.true_barn))
        told = (
            f"{estimate:.3g} barn ({low:.3g} to {high:.3g}) were found, {c.true_barn:.3g} are true"
        )
        scores.append(Score("cross_section_error", abs(off), c.n_pristine, "lower", limit=limit,
                            bias=off, hint=told))  # fmt: skip
        if limit is not None:
            scores.append(Score("error_in_limits", abs(off) / limit, c.n_pristine, "lower",
                                hint="the error over that of counting; below 2 in 95 % of all "
                                "movies"))  # fmt: skip
    else:
        scores.append(Score("cross_section_error", None, c.n_pristine, "lower",
                            hint="not defined: there is no cross section above zero"))  # fmt: skip
    if np.isfinite(estimate):
        inside = float(low <= c.true_barn <= high)
        hint = "1 if the 95 % interval holds the true cross section"
        scores.append(Score("covered", inside, 1, "higher", hint=hint))
    scores += [
        Score("recall", hits / targets if targets else None, targets, "higher",
              hint=f"{hits} of the {targets} atoms that were lost in view were found"),
        Score("precision", hits / claims if claims else None, claims, "higher",
              hint=f"{hits} of the {claims} atoms that were claimed were lost"),
        Score("f1", 2 * hits / (claims + targets) if claims + targets else None, targets, "higher",
              hint="recall and precision in one number (harmonic mean)"),
    ]  # fmt: skip
    if hits:
        coverage = None
        if c.sigma_s is not None:
            coverage = float(np.mean(np.abs(c.error_s) <= 1.96 * c.sigma_s[c.hit_found]))
        scores.append(
            Score("time_error", float(np.sqrt(np.mean(c.error_s**2))), hits, "lower", "s",
                  bias=float(c.error_s.mean()), spread=float(c.error_s.std()), coverage=coverage,
                  hint="typical difference of the time found from the true one (rms); a frame "
                  f"comes every {c.period_s:g} s")
        )  # fmt: skip
    notes = [
        f"Of {c.n_atoms} atoms in view {targets} were lost, {c.n_pristine} of them with all three "
        f"neighbours. Such atoms have a cross section of {c.true_barn:.3g} barn at "
        f"{c.energy_kev:g} kV; if they stood still it would be {c.static_barn:.3g} barn. Those "
        f"with two neighbours have {c.edge_barn:.3g} barn: vacancies grow, and don't count.",
        "Displaced atoms leave for good: nothing heals, and the sheet doesn't relax.",
    ]
    return Scores(task, tuple(scores), tuple(notes))
