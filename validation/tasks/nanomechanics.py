"""The task nanomechanics: modulus, contact height and adhesion of every curve of a force volume."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import erf

from nanophantom.simcore.fields import Table
from nanophantom.validation.force_limit import ForceLimit, limit_of_curve
from nanophantom.validation.task import Estimates, Score, Scores, Task, require_tables

if TYPE_CHECKING:
    from nanophantom.validation.drawing import Plate
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LIMITED_CURVES = 24
"""Curves of each material whose bounds are taken."""
HELD = 1.96
"""Standard uncertainties to either side that hold 95 % of normal errors."""


class Nanomechanics(Task):
    """Measure modulus, contact height and adhesion at every point of a grid of force curves."""

    name = "nanomechanics"
    title = "Modulus, topography and adhesion from force curves"
    default_algorithm = "nanophantom.analysis.force_map:measure"
    inputs = ("z_approach", "z_retract", "approach", "retract")
    needs = ("curves", "calibration")
    needs_because = "they are those of a force volume"
    columns = ("row", "column", "modulus_gpa", "contact_height_nm", "adhesion_nn")
    optional_columns = ("modulus_sigma_gpa", "contact_sigma_nm", "adhesion_sigma_nn")
    contract = """\
measure(z_approach, z_retract, approach, retract, settings) -> equally long 1-D columns "row",
"column", "modulus_gpa", "contact_height_nm", "adhesion_nn"; optional "modulus_sigma_gpa",
"contact_sigma_nm", "adhesion_sigma_nn"

Receives
  z_approach, z_retract  height of the lever's base, nm, shape (rows, columns, samples)
  approach, retract      deflection of the lever as it was read, nm, positive where the tip is
                         pushed up; with noise, offset and tilt
  settings               a dict of nominal values: stiffness_n_per_m, tip_radius_nm, tip,
                         poisson_ratio, law ("hertz", "sneddon", "dmt" or "jkr"), trigger_nn,
                         pixel_size_nm, width_px, height_px
Returns
  row, column            which curve, counted from 0; each at most once
  modulus_gpa            E = E* (1 - nu^2) with the nominal poisson_ratio nu, above 0
  contact_height_nm      height of the base at which the undeflected tip would just touch
  adhesion_nn            the largest pull on the way out, positive
  ..._sigma_...          their standard uncertainties (optional), above 0
Scored, for all curves and for each material
  answered = curves with an answer / all curves; modulus_error = median relative error of the
  modulus regardless of sign, bias its median with sign; modulus_rmse = root mean square of
  ln(found / true); contact_rmse and adhesion_rmse = root mean square errors; material = share of
  the answers whose modulus is nearest (as a ratio) to that of the material that is there;
  height_crosstalk = how much more the contact height errs on one material than on another;
  coverage_... = share of the true values within 1.96 sigma. True is E* (1 - nu^2) with the true
  reduced modulus E* and the nominal nu: curves tell no more. Limits are Cramér-Rao bounds of the
  noise for one who knows the law, the lever and the tip.
"""

    def grade(self, estimates: Estimates, dataset: Observed) -> Scores:
        """Grade the answers against the truth of every curve."""
        return _scores(self.name, self.compare(estimates, dataset))

    def figures(self, dataset: Observed, estimates: Estimates, scores: Scores) -> list[Plate]:
        """Draw maps of truth, answer and error, distributions, fitted curves, a profile."""
        from nanophantom.validation import nanomechanics_figures

        return nanomechanics_figures.of_nanomechanics(dataset, self.compare(estimates, dataset))

    def compare(self, estimates: Estimates, dataset: Observed) -> Comparison:
        """Put answers beside the truth: the ground of scores and figures."""
        found = self.read(estimates)
        tables = require_tables(self, dataset, ("curves", "calibration", "materials", "surface"))
        truth = tables["curves"]
        shape = int(truth["row"].max()) + 1, int(truth["column"].max()) + 1
        row, column = found["row"], found["column"]
        for name, place, length in zip(("row", "column"), (row, column), shape, strict=True):
            if np.any(place != np.rint(place)) or np.any((place < 0) | (place >= length)):
                raise ValueError(
                    f"task {self.name} wants {name} to be whole, from 0 to {length - 1}"
                )
        index = (row * shape[1] + column).astype(np.int64)
        if len(np.unique(index)) < len(index):
            raise ValueError(f"task {self.name} wants each curve at most once")
        for name in ("modulus_gpa", *self.optional_columns):
            if name in found and (found[name] <= 0).any():
                raise ValueError(
                    f"task {self.name} wants {name} above zero, got {found[name].min():g}"
                )
        nu = float(dataset.settings["poisson_ratio"])
        material = np.asarray(truth["material"], np.int64)
        names = [n.decode() if isinstance(n, bytes) else str(n)
                 for n in np.asarray(tables["materials"]["name"]).tolist()]  # fmt: skip
        there = np.unique(material)
        calibration = tables["calibration"]
        stiffness = float(calibration["stiffness_n_per_m"][0])
        surface = tables["surface"]
        return Comparison(
            shape=shape,
            index=index,
            modulus_gpa=found["modulus_gpa"],
            contact_nm=found["contact_height_nm"],
            adhesion_nn=found["adhesion_nn"],
            modulus_sigma_gpa=found.get("modulus_sigma_gpa"),
            contact_sigma_nm=found.get("contact_sigma_nm"),
            adhesion_sigma_nn=found.get("adhesion_sigma_nn"),
            true_modulus_gpa=np.asarray(truth["e_star_gpa"], np.float64) * (1 - nu**2),
            true_contact_nm=np.asarray(truth["contact_height_nm"], np.float64),
            true_adhesion_nn=np.asarray(truth["adhesion_nn"], np.float64),
            touched=np.asarray(truth["touched"], np.bool_),
            indentation_nm=np.asarray(truth["indentation_nm"], np.float64),
            material=material,
            names={int(i): names[i] for i in there},
            limits={int(i): _limit_on(dataset, truth, int(i)) for i in there},
            poisson_percent=_poisson_percent(tables["materials"], nu),
            dilation_rms_nm=float(
                np.std(np.asarray(surface["image_nm"]) - np.asarray(surface["height_nm"]))
            ),
            stiffness_percent=100 * (float(dataset.settings["stiffness_n_per_m"]) / stiffness - 1),
        )


@dataclass(frozen=True, eq=False)
class Comparison:
    """Answers beside truth. The truth is of all curves, shape (curves,), row by row."""

    shape: tuple[int, int]
    """Rows and columns of the grid."""
    index: Ints
    """Which curve each answer is about, shape (answers,)."""
    modulus_gpa: Floats
    contact_nm: Floats
    adhesion_nn: Floats
    modulus_sigma_gpa: Floats | None
    contact_sigma_nm: Floats | None
    adhesion_sigma_nn: Floats | None
    true_modulus_gpa: Floats
    """E* (1 - nu^2) with the nominal nu."""
    true_contact_nm: Floats
    true_adhesion_nn: Floats
    """NaN where the tip didn't touch and part."""
    touched: npt.NDArray[np.bool_]
    indentation_nm: Floats
    """At the end of the approach."""
    material: Ints
    names: dict[int, str]
    """Names of the materials that are on the grid."""
    limits: dict[int, ForceLimit | None]
    """Bounds of a curve on each of them."""
    poisson_percent: dict[str, float]
    """By how much the modulus of each material is off if its Poisson's ratio is the nominal one."""
    dilation_rms_nm: float
    """Image by the tip minus surface."""
    stiffness_percent: float
    """Nominal stiffness over the true one."""

    def map_of(self, values: Floats) -> Floats:
        """Return answers as a map, NaN where there is none."""
        filled = np.full(self.shape[0] * self.shape[1], np.nan)
        filled[self.index] = values
        return filled.reshape(self.shape)

    @property
    def log_error(self) -> Floats:
        """Logarithm of found over true modulus."""
        return np.asarray(np.log(self.modulus_gpa / self.true_modulus_gpa[self.index]))

    def nearest_material(self) -> Ints:
        """Return the material whose modulus is nearest to each answer, as a ratio."""
        numbers = np.array(sorted(self.names), np.int64)
        typical = [np.log(np.median(self.true_modulus_gpa[self.material == m])) for m in numbers]
        distance = np.abs(np.log(self.modulus_gpa)[:, None] - np.array(typical))
        return np.asarray(numbers[np.argmin(distance, axis=1)])


def _limit_on(dataset: Observed, truth: Table, material: int) -> ForceLimit | None:
    """Return the bounds on a material: root mean squares of some of its curves.

    All turn at the same force, but samples lie elsewhere on each.
    """
    of_it = np.flatnonzero((truth["material"] == material) & np.asarray(truth["touched"]))
    some = of_it[:: max(len(of_it) // LIMITED_CURVES, 1)][:LIMITED_CURVES]
    limits = [limit_of_curve(dataset, int(i)) for i in some]
    known = [astuple(limit) for limit in limits if limit is not None]
    if not known or len(known) < len(some):
        return None
    return ForceLimit(*np.sqrt(np.mean(np.square(known), axis=0)).tolist())


def _poisson_percent(materials: Table, nu: float) -> dict[str, float]:
    """Return by how much E* (1 - nu^2) differs from each material's modulus, if it does."""
    names = [n.decode() if isinstance(n, bytes) else str(n) for n in materials["name"].tolist()]
    own = np.asarray(materials["poisson_ratio"], np.float64)
    off = 100 * ((1 - nu**2) / (1 - own**2) - 1)
    return {name: float(p) for name, p in zip(names, off, strict=True) if abs(p) > 0.05}


def _scores(task: str, c: Comparison) -> Scores:
    curves, answers = len(c.material), len(c.index)
    told = f"{answers} of the {curves} curves were given an answer"
    answered = Score("answered", answers / curves, curves, "higher", hint=told)
    graded = c.touched[c.index]
    if not graded.any():
        hint = "not defined: no curve in contact has an answer"
        return Scores(task, (Score("modulus_error", None, 0, "lower", "%", hint=hint), answered))
    on = c.material[c.index]
    groups: list[tuple[str | None, npt.NDArray[np.bool_]]] = [(None, graded)]
    if len(c.names) > 1:
        groups += [(name, graded & (on == m)) for m, name in c.names.items()]
    groups = [(name, which) for name, which in groups if which.any()]
    scores = [s for name, which in groups for s in _of_modulus(c, name, which)]
    scores += [_of_contact(c, name, which) for name, which in groups]
    parted = (c.true_adhesion_nn > 0)[c.index]  # NaN where it didn't part, 0 for Hertz
    scores += [
        _of_adhesion(c, name, which & parted) for name, which in groups if (which & parted).any()
    ]
    if len(groups) > 2:
        scores += _of_materials(c, groups)
    scores.append(answered)
    scores += _coverages(c, graded, parted)
    return Scores(task, tuple(scores), _notes(c))


def _rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _median_of_normals(sigma: Floats) -> float:
    """Return the median of the absolute values of normal numbers with these standard deviations."""
    each, number = np.unique(sigma, return_counts=True)

    def held(m: float) -> float:
        return float((erf(m / (each * np.sqrt(2))) * number).sum() / len(sigma) - 0.5)

    return float(brentq(held, 0.0, 2.0 * float(each.max())))


def _bounds(c: Comparison, which: npt.NDArray[np.bool_], name: str) -> Floats | None:
    """Return the bound of each answer, or None where one isn't known."""
    limits = [c.limits[int(m)] for m in c.material[c.index[which]]]
    if any(limit is None for limit in limits):
        return None
    return np.array([getattr(limit, name) for limit in limits], np.float64)


def _of_modulus(c: Comparison, group: str | None, which: npt.NDArray[np.bool_]) -> list[Score]:
    log = c.log_error[which]
    relative = 100 * np.expm1(log)
    bound = _bounds(c, which, "modulus")
    bias = float(np.median(relative))
    way = "stiffer" if bias > 0 else "softer"
    n = len(log)
    median = None if bound is None else 100 * _median_of_normals(bound)
    return [
        Score("modulus_error", float(np.median(np.abs(relative))), n, "lower", "%", group,
              limit=median, bias=bias, spread=float(np.std(relative)),
              coverage=_held(c.modulus_sigma_gpa, c.modulus_gpa, c.true_modulus_gpa, c.index,
                             which),
              hint="half of the moduli are off by less than this"),
        Score("modulus_bias", abs(bias), n, "lower", "%", group,
              hint=f"the median modulus is {abs(bias):.2g} % {way} than the true one"),
        Score("modulus_rmse", 100 * _rms(log), n, "lower", "%", group,
              limit=None if bound is None else 100 * _rms(bound),
              hint="root mean square of ln(found / true): feels outliers, which a median doesn't"),
    ]  # fmt: skip


def _of_contact(c: Comparison, group: str | None, which: npt.NDArray[np.bool_]) -> Score:
    error = (c.contact_nm - c.true_contact_nm[c.index])[which]
    bound = _bounds(c, which, "contact_nm")
    return Score(
        "contact_rmse", _rms(error), len(error), "lower", "nm", group,
        limit=None if bound is None else _rms(bound),
        bias=float(error.mean()), spread=float(error.std()),
        coverage=_held(c.contact_sigma_nm, c.contact_nm, c.true_contact_nm, c.index, which),
        hint="typical error of the height at which tip and surface touch",
    )  # fmt: skip


def _of_adhesion(c: Comparison, group: str | None, which: npt.NDArray[np.bool_]) -> Score:
    error = (c.adhesion_nn - c.true_adhesion_nn[c.index])[which]
    bound = _bounds(c, which, "adhesion_nn")
    return Score(
        "adhesion_rmse", _rms(error), len(error), "lower", "nN", group,
        limit=_rms(bound) if bound is not None and bound.any() else None,
        bias=float(error.mean()), spread=float(error.std()),
        coverage=_held(c.adhesion_sigma_nn, c.adhesion_nn, c.true_adhesion_nn, c.index, which),
        hint="typical error of the largest pull on the way out",
    )  # fmt: skip


def _of_materials(
    c: Comparison, groups: list[tuple[str | None, npt.NDArray[np.bool_]]]
) -> list[Score]:
    """Tell materials apart by their modulus, and see whether heights know of them."""
    right = c.nearest_material() == c.material[c.index]
    scores = [
        Score("material", float(right[which].mean()), int(which.sum()), "higher", group=name,
              hint="share of the curves whose modulus tells the right material")
        for name, which in groups
    ]  # fmt: skip
    error = c.contact_nm - c.true_contact_nm[c.index]
    means = [float(error[which].mean()) for _, which in groups[1:]]
    pressed = [float(c.indentation_nm[c.index[which]].mean()) for _, which in groups[1:]]
    scores.append(
        Score("height_crosstalk", max(means) - min(means), int(groups[0][1].sum()), "lower", "nm",
              hint="step that the contact heights have wrongly between materials; the heights at "
              f"the trigger force have {max(pressed) - min(pressed):.2g} nm")
    )  # fmt: skip
    return scores


def _held(
    sigma: Floats | None, found: Floats, true: Floats, index: Ints, which: npt.NDArray[np.bool_]
) -> float | None:
    if sigma is None:
        return None
    return float(np.mean((np.abs(found - true[index]) <= HELD * sigma)[which]))


def _coverages(
    c: Comparison, graded: npt.NDArray[np.bool_], parted: npt.NDArray[np.bool_]
) -> list[Score]:
    hint = "0.95 if the quoted uncertainties are honest; less: too sure, more: too cautious"
    quoted = (
        ("coverage_modulus", c.modulus_sigma_gpa, c.modulus_gpa, c.true_modulus_gpa, graded),
        ("coverage_contact", c.contact_sigma_nm, c.contact_nm, c.true_contact_nm, graded),
        ("coverage_adhesion", c.adhesion_sigma_nn, c.adhesion_nn, c.true_adhesion_nn,
         graded & parted),
    )  # fmt: skip
    scores = []
    for name, sigma, found, true, which in quoted:
        held = _held(sigma, found, true, c.index, which) if which.any() else None
        if held is not None:
            scores.append(Score(name, held, int(which.sum()), "higher", hint=hint))
    return scores


def _notes(c: Comparison) -> tuple[str, ...]:
    notes = [
        "A force curve tells the reduced modulus E* = E / (1 − ν²) only; graded is E* (1 − ν²) "
        "with the nominal Poisson's ratio ν."
    ]
    if c.poisson_percent:
        off = ", ".join(f"{name} {p:+.1f} %" for name, p in c.poisson_percent.items())
        notes[0] += f" Taken for Young's modulus it would be off by as much again: {off}."
    notes.append(
        "Contact heights trace the surface as the tip dilates it, and are graded against that: "
        f"it differs from the true surface by {c.dilation_rms_nm:.2g} nm (standard deviation)."
    )
    if abs(c.stiffness_percent) > 1e-9:
        notes.append(
            f"The operator's stiffness is off by {c.stiffness_percent:+.3g} %: moduli and "
            "adhesion follow it one to one, and no analysis can tell."
        )
    if any(limit is not None for limit in c.limits.values()):
        notes.append(
            "Limits are Cramér-Rao bounds: the least scatter that any unbiased algorithm can have "
            "with this noise, one curve at a time, if it knows law, lever and tip perfectly and "
            "the rest (modulus, contact, adhesion, baseline) from the curve."
        )
    return tuple(notes)
