"""The task aberrations: measure the coefficients of a lens from a tableau of tilted beams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nanophantom.analysis.tilted_aberrations import (
    cartesian,
    components_of,
    error_limit_nm,
    named_coefficients,
    phase_radius_mrad,
)
from nanophantom.simcore.electrons.aberrations import ORDERS
from nanophantom.validation.tableau_limit import aberration_limit
from nanophantom.validation.task import Estimates, Score, Scores, Task, require_tables

if TYPE_CHECKING:
    from nanophantom.validation.drawing import Plate
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]
Component = tuple[int, int, int]

ANGLE_MRAD = 20.0
"""The semiangle at which errors are judged if there is no aperture."""
A_PER_NM = 10.0
UNITS = {1: ("nm", 1.0), 2: ("nm", 1.0), 3: ("µm", 1e3), 4: ("µm", 1e3), 5: ("mm", 1e6)}
"""Unit in which a coefficient of order n is told, and its length in nm."""
NAMES = {
    "C10": "defocus", "C12": "twofold astigmatism", "C21": "axial coma",
    "C23": "threefold astigmatism", "C30": "spherical aberration",
    "C32": "star aberration", "C34": "fourfold astigmatism",
    "C41": "fourth-order coma", "C43": "three-lobe aberration", "C45": "fivefold astigmatism",
    "C50": "fifth-order spherical aberration", "C52": "fifth-order star aberration",
    "C54": "rosette aberration", "C56": "sixfold astigmatism",
}  # fmt: skip


class AberrationMeasurement(Task):
    """Measure the aberrations of a lens from images of an amorphous film under tilted beams."""

    name = "aberrations"
    title = "Aberrations of the lens"
    default_algorithm = "nanophantom.analysis.aberration_tableau:find"
    inputs = ("image",)
    columns = ("order", "multiplicity", "real_nm", "imag_nm")
    optional_columns = ("sigma_real_nm", "sigma_imag_nm")
    contract = f"""\
find(images, settings) -> {{"order": (n,), "multiplicity": (n,), "real_nm": (n,), "imag_nm": (n,),
                           optional "sigma_real_nm": (n,), "sigma_imag_nm": (n,)}}

Receives
  images      counts, shape (frames, ny, nx): one amorphous film, one tilt of the beam a frame
  settings    a dict of nominal values: pixel_size_nm, energy_kev, beam_tilts_mrad (x, y of every
              frame), defocus_nm, c30_um and other aberrations as the operator believes them,
              focal_spread_nm, convergence_mrad, dose_e_per_A2
Returns       one row a coefficient C_nm of Krivanek's notation, each at most once
  order, multiplicity
              n and m: 1, 0 is the defocus (negative: underfocus), 1, 2 twofold astigmatism, 2, 1
              axial coma, 2, 3 threefold astigmatism, 3, 0 spherical aberration ...
  real_nm, imag_nm
              C cos(m phi) and C sin(m phi), phi from +x towards +y (down); imag_nm is 0 for m = 0.
              The phase is (2 pi / lambda) sum C alpha^(n+1) / (n+1) cos(m (phi - phi_nm))
  sigma_real_nm, sigma_imag_nm
              their standard uncertainties (optional)
Scored
  The truth is the actual lens, averaged over the frames; its defocus counts from the middle of
  the specimen. What isn't returned counts as left at its nominal value.
  flat_angle = semiangle up to which the phase of what is left (actual minus measured) stays
  below pi/4; flat_angle_before: of actual minus nominal. worst_error = largest error of a returned
  coefficient over its pi/4 limit (n+1) lambda / (8 alpha^(n+1)) at the aperture's semiangle
  ({ANGLE_MRAD:g} mrad if there is none). coverage = share of components within 1.96 sigma of the
  truth. cNM_error = length of found minus true as a vector (real, imag), with the Cramér-Rao bound
  of the tableau's power spectra as its limit; what isn't returned counts as known there.
"""

    def grade(self, estimates: Estimates, dataset: Observed) -> Scores:
        """Grade measured coefficients against the lens as it was."""
        return _scores(self.name, self.compare(estimates, dataset))

    def figures(self, dataset: Observed, estimates: Estimates, scores: Scores) -> list[Plate]:
        """Draw the tableau, the phase before and after correction, and every coefficient."""
        from nanophantom.validation import aberration_figures

        return aberration_figures.of_lens(dataset, self.compare(estimates, dataset))

    def compare(self, estimates: Estimates, dataset: Observed) -> Comparison:
        """Bring measured and true coefficients together: the ground of scores and figures."""
        read = self.read(estimates)
        found, sigma_nm = _found(self.name, read)
        require_tables(self, dataset, ("aberrations", "optics"))
        settings = dataset.settings
        actual, nominal = _lenses(dataset)
        angle = float(settings.get("aperture_mrad") or ANGLE_MRAD)
        names = tuple(dict.fromkeys(f"C{n}{m}" for n, m, _ in found))
        return Comparison(
            energy_kev=float(settings["energy_kev"]),
            angle_mrad=angle,
            components=tuple(components_of(names)) if names else (),
            found_nm=found,
            sigma_nm=sigma_nm,
            actual=actual,
            nominal=nominal,
            limit_nm=_limit(dataset, actual, names),
        )


@dataclass(frozen=True, eq=False)
class Comparison:
    """Measured coefficients beside those of the lens; coefficients in Å and rad."""

    energy_kev: float
    angle_mrad: float
    components: tuple[Component, ...]
    """Of the coefficients that were returned."""
    found_nm: dict[Component, float]
    sigma_nm: dict[Component, float] | None
    actual: dict[str, float]
    nominal: dict[str, float]
    limit_nm: dict[Component, float] | None
    """Cramér-Rao bounds; None without shot noise or a known film."""

    @property
    def names(self) -> tuple[str, ...]:
        """Coefficients that were returned."""
        return tuple(dict.fromkeys(f"C{n}{m}" for n, m, _ in self.components))

    def true_nm(self, component: Component) -> float:
        """Return a component of the actual lens."""
        return float(cartesian(self.actual, [component])[0]) / A_PER_NM

    def error_nm(self, component: Component) -> float:
        """Return found minus true."""
        return self.found_nm[component] - self.true_nm(component)

    def tolerance_nm(self, name: str) -> float:
        """Return the coefficient that alone turns the phase by pi / 4 at the angle."""
        return error_limit_nm(name, self.angle_mrad, self.energy_kev)

    @cached_property
    def before(self) -> dict[str, float]:
        """What nobody knew of: actual minus nominal, Å and rad."""
        every = components_of(ORDERS)
        return _tidy(every, cartesian(self.actual, every) - cartesian(self.nominal, every))

    @cached_property
    def after(self) -> dict[str, float]:
        """What is left after a correction by what was measured, Å and rad."""
        every = components_of(ORDERS)
        left = cartesian(self.actual, every) - cartesian(self.nominal, every)
        for i, component in enumerate(every):
            if component in self.found_nm:
                left[i] = -self.error_nm(component) * A_PER_NM
        return _tidy(every, left)

    @cached_property
    def measured(self) -> dict[str, float]:
        """The lens as measured, the rest nominal, Å and rad."""
        every = components_of(ORDERS)
        values = cartesian(self.nominal, every)
        for i, component in enumerate(every):
            if component in self.found_nm:
                values[i] = self.found_nm[component] * A_PER_NM
        return _tidy(every, values)


def _tidy(components: list[Component], values: Floats) -> dict[str, float]:
    named = named_coefficients(components, values)
    return {k: v for k, v in named.items() if named[f"C{k[-2:]}"] != 0}


def _found(
    task: str, read: Mapping[str, Floats]
) -> tuple[dict[Component, float], dict[Component, float] | None]:
    """Return the components in nm and their uncertainties by (n, m, part)."""
    quoted = "sigma_real_nm" in read and "sigma_imag_nm" in read
    found: dict[Component, float] = {}
    sigma: dict[Component, float] = {}
    for i, (n, m) in enumerate(zip(read["order"], read["multiplicity"], strict=True)):
        if f"C{n:g}{m:g}" not in ORDERS:
            known = ", ".join(f"{a}, {b}" for a, b in ORDERS.values())
            raise ValueError(
                f"task {task} knows no coefficient of order {n:g} and multiplicity {m:g}; "
                f"there are {known}"
            )
        order, fold = int(n), int(m)
        if (order, fold, 0) in found:
            raise ValueError(f"task {task} wants each coefficient once; C{order}{fold} comes twice")
        if fold == 0 and read["imag_nm"][i] != 0:
            raise ValueError(f"task {task}: C{order}0 has no azimuth; its imag_nm must be 0")
        for part, label in ((0, "real"), (1, "imag"))[: 2 if fold else 1]:
            found[order, fold, part] = float(read[f"{label}_nm"][i])
            if quoted:
                sigma[order, fold, part] = float(read[f"sigma_{label}_nm"][i])
    if quoted and any(s <= 0 for s in sigma.values()):
        raise ValueError(f"task {task} wants sigmas above zero, got {min(sigma.values()):g}")
    return found, sigma if quoted else None


def _lenses(dataset: Observed) -> tuple[dict[str, float], dict[str, float]]:
    """Return the actual lens, averaged over the frames, and the nominal one: Å and rad."""
    table = dataset.truth("aberrations")
    lenses = []
    for kind in ("actual", "nominal"):
        lens: dict[str, float] = {}
        for name, nm, deg in zip(
            table["name"], table[f"{kind}_nm"], table[f"{kind}_deg"], strict=True
        ):
            label = name.decode() if isinstance(name, bytes) else str(name)
            lens[label] = A_PER_NM * float(nm)
            if ORDERS[label][1]:
                lens[f"phi{label[1:]}"] = float(np.radians(deg))
        lenses.append(lens)
    actual, nominal = lenses
    frames = dataset.truth("optics")
    for name in ("C10", "C12", "C21"):
        fold = ORDERS[name][1]
        values = np.asarray(frames[f"{name.lower()}_nm"], np.float64) * A_PER_NM
        if not fold:
            actual[name] = float(values.mean())
            continue
        turned = np.exp(1j * fold * np.radians(frames[f"phi{name[1:]}_deg"]))
        mean = complex(np.mean(values * turned))
        actual[name], actual[f"phi{name[1:]}"] = abs(mean), float(np.angle(mean)) / fold
    if "atoms" in dataset.truth_tables and len(dataset.truth("atoms")["z_nm"]):
        z = np.asarray(dataset.truth("atoms")["z_nm"], np.float64)
        # the wave's lens counts from the exit face; rings see the middle of the film
        actual["C10"] += A_PER_NM * float(z.max() - z.mean())
    return actual, nominal


def _limit(
    dataset: Observed, actual: dict[str, float], names: tuple[str, ...]
) -> dict[Component, float] | None:
    """Return the bound of each component, nm; all of the returned ones unknown together."""
    frame = dataset.signal("image", 0, 1)[0]
    known = "specimen_spectrum" in dataset.truth_tables and frame.dtype.kind != "f"
    if not known or not names:
        return None
    settings = dataset.settings
    spectrum = dataset.truth("specimen_spectrum")
    components = components_of(names)
    fixed = {k: v for k, v in actual.items() if k.replace("phi", "C") not in names}
    step = np.array(
        [1e-3 * error_limit_nm(f"C{n}{m}", ANGLE_MRAD, float(settings["energy_kev"])) * A_PER_NM
         for n, m, _ in components]
    )  # fmt: skip
    covariance = aberration_limit(
        lambda values: {**fixed, **named_coefficients(components, values)},
        cartesian(actual, components),
        step,
        [(float(x), float(y)) for x, y in settings["beam_tilts_mrad"]],
        (frame.shape[0], frame.shape[1]),
        float(settings["pixel_size_nm"]),
        lambda k: np.interp(k, spectrum["k_per_nm"], spectrum["power_V2_nm4"], right=0.0),
        float(settings["dose_e_per_A2"]),
        float(settings["energy_kev"]),
        float(settings.get("focal_spread_nm") or 0.0),
        float(settings.get("convergence_mrad") or 0.0),
    )
    sigma = np.sqrt(np.diag(covariance)) / A_PER_NM
    return dict(zip(components, sigma.tolist(), strict=True))


def _scores(task: str, c: Comparison) -> Scores:
    before, after = (phase_radius_mrad(lens, c.energy_kev) for lens in (c.before, c.after))
    # a perfect answer is flat everywhere; no lens is asked for beyond that
    before, after = min(before, 1000.0), min(after, 1000.0)
    errors = {name: _length(c, name) for name in c.names}
    worst = max(c.names, key=lambda name: errors[name] / c.tolerance_nm(name), default=None)
    scores = [
        Score("flat_angle", after, len(c.components), "higher", "mrad",
              hint="semiangle within which the phase is right to pi/4 once the lens is corrected "
              "by what was measured"),
        Score("flat_angle_before", before, len(c.components), "higher", "mrad",
              hint="the same without any measurement: how well the lens was known"),
        Score("worst_error",
              None if worst is None else errors[worst] / c.tolerance_nm(worst), len(c.names),
              "lower",
              hint="nothing was returned" if worst is None else
              f"error of {NAMES[worst]} in units of what turns the phase by pi/4 at "
              f"{c.angle_mrad:g} mrad, the worst of all; below 1 is good enough"),
        _coverage(c),
    ]  # fmt: skip
    scores += [_coefficient_score(c, name, errors[name]) for name in c.names]
    missing = [n for n in ORDERS if n not in c.names and c.before.get(n)]
    notes = []
    if c.limit_nm is not None:
        notes.append(
            "The limit beside each error is the Cramér-Rao bound of the power spectra: a random "
            "film scatters them however many electrons are counted, so only more area, or more "
            "images, makes it lower."
        )
    if missing:
        listed = ", ".join(f"{n} ({NAMES[n]})" for n in missing)
        notes.append(f"Not measured, and left as they are: {listed}.")
    return Scores(task, tuple(scores), tuple(notes))


def _length(c: Comparison, name: str) -> float:
    n, m = ORDERS[name]
    return float(np.hypot.reduce([c.error_nm(i) for i in c.components if i[:2] == (n, m)]))


def _coefficient_score(c: Comparison, name: str, error_nm: float) -> Score:
    n, m = ORDERS[name]
    unit, length_nm = UNITS[n]
    own = [i for i in c.components if i[:2] == (n, m)]
    limit = None
    if c.limit_nm is not None:
        limit = float(np.hypot.reduce([c.limit_nm[i] for i in own])) / length_nm

    def told(values: list[float]) -> str:
        real, *imag = (v / length_nm for v in values)
        if not imag:
            return f"{real:.4g} {unit}".replace("-", "−")
        azimuth = np.degrees(np.arctan2(imag[0], real)) % 360 / m
        return f"{np.hypot(real, imag[0]):.4g} {unit} at {azimuth:.0f}°"

    true, found = (told([get(i) for i in own]) for get in (c.true_nm, c.found_nm.__getitem__))
    share = error_nm / c.tolerance_nm(name)
    hint = (
        f"{NAMES[name]}: {found} found, {true} true; the error is {share:.2g} of what turns the "
        f"phase by pi/4 at {c.angle_mrad:g} mrad"
    )
    return Score(f"{name}_error", error_nm / length_nm, len(own), "lower", unit, limit=limit,
                 hint=hint)  # fmt: skip


def _coverage(c: Comparison) -> Score:
    if c.sigma_nm is None or not c.components:
        return Score("coverage", None, 0, "higher", hint="no uncertainties were quoted")
    within = [abs(c.error_nm(i)) <= 1.96 * c.sigma_nm[i] for i in c.components]
    hint = "0.95 if the quoted uncertainties are honest; less: too sure, more: too cautious"
    return Score("coverage", float(np.mean(within)), len(within), "higher", hint=hint)
