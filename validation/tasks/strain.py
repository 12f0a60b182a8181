"""Task strain: map how a known crystal is strained, from a stack of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from nanophantom.analysis.known_crystal import KnownCrystal
from nanophantom.analysis.peak_pairs import peak_pairs
from nanophantom.analysis.strain_map import projected_lattice
from nanophantom.validation.limits import position_limit
from nanophantom.validation.task import Estimates, Score, Scores, Task, require_tables
from nanophantom.validation.tasks.atomic_columns import BORDER_NM, View, steady_columns
from nanophantom.validation.true_strain import NEAR_NM, MeanColumns, TrueStrain

if TYPE_CHECKING:
    from nanophantom.validation.drawing import Plate
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

PARTS = "exx", "eyy", "exy"
ANSWERED_NM = 0.2
"""A column counts as answered if there is a place as near as this."""


class StrainTask(Task):
    """Map the strain of a crystal that the operator knows."""

    name = "strain"
    title = "Strain map"
    default_algorithm = "nanophantom.analysis.strain_map:find"
    beside: ClassVar[str] = "nanophantom.analysis.strain_map:by_geometric_phase"
    """Another algorithm, which the figures show on the same data."""
    inputs = ("image",)
    columns = ("x_nm", "y_nm", *PARTS)
    optional_columns = tuple(f"sigma_{part}" for part in PARTS)
    contract = f"""\
find(images, settings) -> {{"x_nm": (n,), "y_nm": (n,), "exx": (n,), "eyy": (n,), "exy": (n,),
                           optional "sigma_exx", "sigma_eyy", "sigma_exy": (n,) each}}

Receives
  images         counts, shape (frames, ny, nx)
  settings       a dict of nominal values: pixel_size_nm, contrast ("bright" or "dark": how atoms
                 look), energy_kev, dose_e_per_A2 ..., and crystal: cell_nm, numbers, positions_nm,
                 b_factors_A2 of the crystal that the operator put in, unstrained, its axes those of
                 the camera (x right, y down) and of the beam
Returns
  x_nm, y_nm     places in frame 0 of the algorithm's own choice; the centre of pixel (0, 0) is the
                 origin, x points right, y down
  exx, eyy, exy  strain there relative to that crystal: the symmetric part of du/dx (0.01 is 1 %)
  sigma_...      standard uncertainties (optional, all three or none)
Scored
  The truth is what ideal columns would show: the gradient of the displacement averaged along the
  beam, at the places answered. Places without matter aren't graded; their share is told.
  rmse = root mean square error of the three components, in percent strain; of each component;
  and of places nearer than {NEAR_NM:g} nm to a surface, an interface or the edge of a hole apart
  from the interior; bias = rms of the three mean errors; spread = what remains; coverage = share
  of true values within 1.96 sigma; answered = share of the columns in view (at least
  {BORDER_NM:g} nm inside frame 0, through the whole movie) with a place within {ANSWERED_NM:g} nm.
  The limit beside rmse is what is left if columns are located at the Cramér-Rao bound of the
  counts, and a lattice is fitted to each and its neighbours within one cell. A coarser map can be
  less noisy than that.
"""

    def grade(self, estimates: Estimates, dataset: Observed) -> Scores:
        """Grade strain against the true one."""
        return _scores(self.name, self.compare(estimates, dataset))

    def figures(self, dataset: Observed, estimates: Estimates, scores: Scores) -> list[Plate]:
        """Draw maps of truth, answer and error, a profile, and another algorithm's answer."""
        from nanophantom.validation import strain_figures

        return strain_figures.of_strain(dataset, self, self.compare(estimates, dataset))

    def compare(self, estimates: Estimates, dataset: Observed) -> Comparison:
        """Put strain found beside the truth: the ground of scores and figures."""
        found = self.read(estimates)
        quoted = [name for name in self.optional_columns if name in found]
        if quoted and len(quoted) < len(PARTS):
            raise ValueError(f"task {self.name} wants all of {self.optional_columns} or none")
        sigma = np.column_stack([found[name] for name in quoted]) if quoted else None
        if sigma is not None and (sigma <= 0).any():
            raise ValueError(f"task {self.name} wants uncertainties above zero")
        names = ("specimen_strain_field", "columns", "drift", "noise_free")
        truth = require_tables(self, dataset, names)
        if "crystal" not in dataset.settings:
            raise ValueError(f"task {self.name} can't grade this dataset: no crystal in settings")

        image = np.asarray(truth["noise_free"]["image"], np.float64)
        counted = dataset.signal("image", 0, 1).dtype.kind != "f"
        expected = image * dataset.n_frames if counted else None
        field = TrueStrain.of(dataset, truth["specimen_strain_field"], (*image.shape,))
        at = np.column_stack([found["x_nm"], found["y_nm"]])
        true = np.column_stack(field.at(*at.T)[:3]) if len(at) else np.empty((0, 3))
        matter = np.asarray(np.isfinite(true).all(axis=1), np.bool_)

        pixel_nm = float(dataset.settings["pixel_size_nm"])
        columns = truth["columns"]
        standing = np.column_stack([columns["x_nm"], columns["y_nm"]]).astype(np.float64)
        steady = np.ones(len(standing), np.bool_)
        if "events" in dataset.truth_tables:
            steady = steady_columns(columns, dataset.truth("events"))
        lattice = projected_lattice(KnownCrystal.of(dataset.settings["crystal"]))
        limit = _limit(expected, standing, steady, lattice, pixel_nm)
        drift = np.array([truth["drift"]["dx_nm"][0], truth["drift"]["dy_nm"][0]], np.float64)
        there = standing + drift
        asked = steady & View(pixel_nm, image.shape[1], image.shape[0]).holds(there, BORDER_NM)
        nearest = cKDTree(there[steady]).query(at)[1] if len(at) and steady.any() else None
        return Comparison(
            at_nm=at,
            found=np.column_stack([found[part] for part in PARTS]),
            sigma=sigma,
            true=true,
            matter=matter,
            near=field.near_edge(*at.T) if len(at) else np.empty(0, np.bool_),
            limit=np.full(true.shape, np.nan) if nearest is None else limit[steady][nearest],
            columns_nm=there[asked],
            field=field,
        )


@dataclass(frozen=True, eq=False)
class Comparison:
    """Strain found and true, (n, 3) each: exx, eyy, exy at n places."""

    at_nm: Floats
    found: Floats
    sigma: Floats | None
    true: Floats
    matter: Bools
    """Where there is matter, and so a true strain."""
    near: Bools
    """Which places are near a surface, an interface or the edge of a hole."""
    limit: Floats
    """What the counts allow at the nearest column; not a number where unknown."""
    columns_nm: Floats
    """The columns that the algorithm is asked for, (m, 2)."""
    field: TrueStrain

    @property
    def answered(self) -> Bools:
        """Which columns have a place near by."""
        if not len(self.at_nm) or not len(self.columns_nm):
            return np.zeros(len(self.columns_nm), np.bool_)
        return np.asarray(cKDTree(self.at_nm).query(self.columns_nm)[0] <= ANSWERED_NM)

    @property
    def error(self) -> Floats:
        """Found minus true."""
        return np.asarray(self.found - self.true)


def _limit(
    expected: Floats | None, at_nm: Floats, steady: Bools, lattice: Floats, pixel_nm: float
) -> Floats:
    """Return the least standard deviations of strain at columns, (n, 3); not a number if unknown.

    What local lattice fits make of positions at their Cramér-Rao bound.
    """
    limit = np.full((len(at_nm), 3), np.nan)
    if expected is None or not len(at_nm):
        return limit
    radial_nm = position_limit(expected, at_nm[:, 0], at_nm[:, 1], pixel_nm).radial_nm
    seen = np.flatnonzero(np.isfinite(radial_nm) & steady)
    if len(seen) < 9:
        return limit
    fit = peak_pairs(at_nm[seen], radial_nm[seen] / np.sqrt(2), reference=lattice)
    limit[seen] = np.column_stack([fit.sigma_exx, fit.sigma_eyy, fit.sigma_exy])
    return limit


def _scores(task: str, c: Comparison) -> Scores:
    hits = int(c.answered.sum())
    n_columns = len(c.columns_nm)
    answered = Score(
        "answered", hits / n_columns if n_columns else None, n_columns, "higher",
        hint=f"{hits} of the {n_columns} columns in view have an answer within {ANSWERED_NM:g} nm",
    )  # fmt: skip
    outside = int((~c.matter).sum())
    graded = c.matter
    if not graded.any():
        empty = Score("rmse", None, 0, "lower", "%", hint="no place with matter was answered")
        return Scores(task, (answered, empty))
    size = 100 * _rms(c.true[graded])
    scores = [
        _rmse(c, graded, [0, 1, 2], None,
              f"typical error of a component; the strain itself is {size:.2f} % (rms)"),
        answered,
    ]  # fmt: skip
    scores += [_rmse(c, graded, [i], part, f"of {part} alone") for i, part in enumerate(PARTS)]
    for name, mine in (("interior", graded & ~c.near), ("edge", graded & c.near)):
        hint = f"places {'within' if name == 'edge' else 'farther than'} {NEAR_NM:g} nm " + (
            "of" if name == "edge" else "from"
        )
        if mine.any():
            hint += " a surface, an interface or the edge of a hole"
            scores.append(_rmse(c, mine, [0, 1, 2], name, hint))
    whole = scores[0]
    n = 3 * int(graded.sum())
    mean = 100 * c.error[graded].mean(axis=0)
    told = ", ".join(f"{part} {m:+.3f} %" for part, m in zip(PARTS, mean, strict=True))
    scores += [
        Score("bias", whole.bias, n, "lower", "%",
              hint=f"mean errors: {told}".replace("-", "−")),
        Score("spread", whole.spread, n, "lower", "%", limit=whole.limit,
              hint="scatter that is left when the mean errors are taken away"),
    ]  # fmt: skip
    if whole.coverage is not None:
        hint = "0.95 if the quoted uncertainties are honest; less: too sure, more: too cautious"
        scores.append(Score("coverage", whole.coverage, n, "higher", hint=hint))
    notes = [
        "Strain is relative to the unstrained crystal that the operator put in; the truth takes "
        "the microscope's magnification as exact, a real one is known to a percent or so.",
    ]
    if isinstance(c.field.shown, MeanColumns):
        notes.append(
            "Through the particle the strain changes along the beam. The truth is the gradient of "
            "the displacement averaged along each column, which is what ideal columns show."
        )
    if whole.limit is not None:
        notes.append(
            "The limit propagates the Cramér-Rao bound of the columns' positions to a lattice fit "
            "over one cell to either side. It holds no error of resolution (where strain changes "
            "within the fit), of thermal motion or of columns that don't look where they are, as "
            "at an edge, where the tails of neighbours on one side are missing."
        )
    if outside:
        notes.append(
            f"Places where there is no matter aren't graded: {outside} of {len(c.matter)}."
        )
    return Scores(task, tuple(scores), tuple(notes))


def _rmse(c: Comparison, places: Bools, parts: list[int], group: str | None, hint: str) -> Score:
    """Return the error of some components at some places, in percent."""
    error = 100 * c.error[places][:, parts]
    mean = error.mean(axis=0)
    limits = 100 * c.limit[places][:, parts]
    known = np.isfinite(limits)
    coverage = None
    if c.sigma is not None:
        coverage = float(np.mean(np.abs(error) <= 1.96 * 100 * c.sigma[places][:, parts]))
    return Score(
        "rmse",
        _rms(error),
        error.size,
        "lower",
        "%",
        group=group,
        limit=_rms(limits[known]) if known.any() else None,
        bias=_rms(mean),
        spread=_rms(error - mean),
        coverage=coverage,
        hint=hint,
    )


def _rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(values**2)))
