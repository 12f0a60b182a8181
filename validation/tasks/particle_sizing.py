"""The task particle-sizing: how large particles are that a known tip made wider."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.probes.tip_map import TipMap
from nanophantom.validation.height_figures import pixel_of
from nanophantom.validation.matching import match
from nanophantom.validation.task import Estimates, Score, Scores, Task, require_tables
from nanophantom.validation.true_heights import (
    TrueParticles,
    noise_of_mean_nm,
    particles_in_view,
    tip_of,
)

if TYPE_CHECKING:
    from nanophantom.validation.drawing import Plate
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

OF_PARTICLES = ("specimen_particles", "specimen_size_distribution")
"""Told by the specimens spheres and rough-nanoparticles."""


class ParticleSizing(Task):
    """Find particles on a rough support and measure them without the width of the tip."""

    name = "particle-sizing"
    title = "Sizes of particles without the width of the tip"
    default_algorithm = "nanophantom.analysis.particle_sizes:find"
    inputs = ("height", "height_retrace")
    needs = ("surface", "tip", "view", *OF_PARTICLES)
    needs_because = "they come from the afm, and from the samples spheres and rough-nanoparticles"
    columns = ("x_nm", "y_nm", "diameter_nm")
    optional_columns = ("sigma_nm", "height_nm", "apparent_nm")
    contract = """\
find(height, height_retrace, settings)
  -> {"x_nm": (n,), "y_nm": (n,), "diameter_nm": (n,), optional "sigma_nm", "height_nm",
      "apparent_nm": (n,)}

Receives
  height          recorded heights in nm, shape (frames, ny, nx)
  height_retrace  the same on the way back, stored from left to right as well
  settings        a dict of nominal values: pixel_size_nm (along x), pixel_size_y_nm, line_rate_hz,
                  setpoint_nm, integral_per_s, ..., and tip, the tip as it was characterised when
                  new (shape, radius_nm, half_angle_deg, ...)
Returns
  x_nm, y_nm      middles of the particles in the first frame; the centre of pixel (0, 0) is the
                  origin, y points down
  diameter_nm     of the particle seen from above
  sigma_nm        its standard uncertainty
  height_nm       from its foot, the support under it, to its top
  apparent_nm     the width at half height that the image shows, the tip's included; it is only
                  set beside the truth
Scored
  A find matches a particle no farther away than a quarter of the particles' median diameter, one
  to one. Asked for are particles whose whole image fits into the view: those farther from the
  border than their radius and the tip's half width at their height. Others are neither right nor
  wrong. recall = matched / asked for, precision = matched / finds, f1 = their harmonic mean; rmse,
  bias of the matched diameters; median_error = difference of the matched diameters' medians;
  coverage = share of diameters within 1.96 sigma_nm; height_rmse; apparent_excess = by how many
  percent apparent widths exceed the diameters, on average. The limit beside rmse is the Cramér-Rao
  bound of the noise, for spheres on a foot of unknown height.
"""

    def grade(self, estimates: Estimates, dataset: Observed) -> Scores:
        """Grade finds and sizes against the true particles."""
        return _scores(self.name, self.compare(estimates, dataset))

    def figures(self, dataset: Observed, estimates: Estimates, scores: Scores) -> list[Plate]:
        """Draw finds over the image, sizes found against true ones, and their distributions."""
        from nanophantom.validation import particle_figures

        return particle_figures.of_sizes(dataset, self.compare(estimates, dataset))

    def compare(self, estimates: Estimates, dataset: Observed) -> Sized:
        """Match finds and particles: the ground of scores and figures."""
        found = self.read(estimates)
        for name in ("diameter_nm", "sigma_nm", "height_nm", "apparent_nm"):
            if name in found and len(found[name]) and not (found[name] > 0).all():
                raise ValueError(
                    f"task {self.name} wants {name} above zero, got {found[name].min():g}"
                )
        require_tables(self, dataset, self.needs)
        ny, nx = np.shape(dataset.truth("surface")["height_nm"])
        step_y, step_x = pixel_of(dataset)
        width, height = (nx - 1) * step_x, (ny - 1) * step_y
        true = particles_in_view(dataset, width, height)
        tip = tip_of(dataset)
        margin = true.diameter_nm / 2 + half_width_nm(tip, true.height_nm)
        target = _to_border(true.x_nm, true.y_nm, width, height) >= margin
        radius = 0.25 * float(np.median(true.diameter_nm)) if len(true.x_nm) else 1.0
        places = np.column_stack([found["x_nm"], found["y_nm"]])
        pairs = match(places, np.column_stack([true.x_nm, true.y_nm]), radius)
        hit = target[pairs.true]
        # Whatever lies as near to the border as particles that aren't asked for isn't false.
        near = _to_border(found["x_nm"], found["y_nm"], width, height) < np.max(margin, initial=0)
        false = ~near
        false[pairs.found] = False
        return Sized(
            found=found,
            true=true,
            target=target,
            hit_found=pairs.found[hit],
            hit_true=pairs.true[hit],
            false=false,
            limit_nm=diameter_limit(
                true.diameter_nm, tip_radius_nm(tip), (step_y, step_x), noise_of_mean_nm(dataset)
            ),
            tip_radius_nm=tip_radius_nm(tip),
        )


@dataclass(frozen=True, eq=False)
class Sized:
    """Finds beside particles."""

    found: dict[str, Floats]
    true: TrueParticles
    """All whose middle is in view."""
    target: Bools
    """Those that are asked for."""
    hit_found: Ints
    hit_true: Ints
    """Pairs of a find and a particle that is asked for."""
    false: Bools
    """Finds where nothing is."""
    limit_nm: Floats
    """Bound of every particle's diameter."""
    tip_radius_nm: float

    @property
    def error_nm(self) -> Floats:
        """Diameter found minus true, of the pairs."""
        return self.found["diameter_nm"][self.hit_found] - self.true_nm

    @property
    def true_nm(self) -> Floats:
        """True diameters of the pairs."""
        return self.true.diameter_nm[self.hit_true]

    def of_hits(self, column: str) -> Floats | None:
        """Return an optional column of the pairs."""
        return self.found[column][self.hit_found] if column in self.found else None


def half_width_nm(tip: TipMap, height_nm: Floats) -> Floats:
    """Return the farthest that a tip reaches from its axis within heights over its apex."""
    away = np.hypot(*tip.offsets_nm).ravel()
    order = np.argsort(-tip.heights_nm.ravel(), kind="stable")
    depth, widest = -tip.heights_nm.ravel()[order], np.maximum.accumulate(away[order])
    return np.asarray(widest[np.searchsorted(depth, height_nm, side="right") - 1])


def tip_radius_nm(tip: TipMap) -> float:
    """Return the radius of a tip's end, of as little of it as shows a curvature."""
    depth = 0.05 * float(-np.min(tip.heights_nm, where=np.isfinite(tip.heights_nm), initial=0.0))
    while True:
        try:
            return tip.apex_radius_nm(depth)
        except ValueError:
            depth *= 2
            if not depth < 1e6:
                raise


def diameter_limit(
    diameter_nm: Floats, tip_radius_nm: float, pixel_nm: tuple[float, float], noise_nm: float
) -> Floats:
    """Bound the precision with which noise lets spheres be measured on feet of unknown height.

    Above half its height the image of a sphere of radius r by one of radius R is
    z0 + r - R + sqrt((R + r)^2 - rho^2). With g = dz/dr the Fisher information of r, the height z0
    of the foot being unknown too, is (sum g^2 - (sum g)^2 / n) / sigma^2 over the n pixels; the
    place is independent of both, by symmetry.

    Parameters
    ----------
    diameter_nm
        Shape (n,).
    noise_nm
        Standard deviation of a pixel; taken as white.

    Returns
    -------
    ndarray
        Bounds of the diameters, (n,).
    """
    bounds = np.empty(len(diameter_nm))
    for k, r in enumerate(np.asarray(diameter_nm, np.float64) / 2):
        reach = np.sqrt(r * (r + 2 * tip_radius_nm))
        y, x = (np.arange(-np.ceil(reach / p), np.ceil(reach / p) + 1) * p for p in pixel_nm)
        rho = np.hypot(y[:, None], x[None, :])
        rho = rho[rho <= reach]
        both = r + tip_radius_nm
        g = 1 + both / np.sqrt(both**2 - rho**2)
        information = float(np.sum((g - g.mean()) ** 2))
        bounds[k] = 2 * noise_nm / np.sqrt(information) if information > 0 else np.inf
    return bounds


def _to_border(x: Floats, y: Floats, width: float, height: float) -> Floats:
    return np.minimum(np.minimum(x, width - x), np.minimum(y, height - y))


def _scores(task: str, c: Sized) -> Scores:
    hits, targets = len(c.hit_found), int(c.target.sum())
    claims = hits + int(c.false.sum())
    true = c.true_nm
    scores = [
        Score("f1", 2 * hits / (targets + claims) if targets + claims else None, targets, "higher",
              hint="recall and precision in one number (harmonic mean)"),
        Score("recall", hits / targets if targets else None, targets, "higher",
              hint=f"{hits} of the {targets} particles that are wholly in view were found"),
        Score("precision", hits / claims if claims else None, claims, "higher",
              hint=f"{hits} of {claims} finds are particles"),
    ]  # fmt: skip
    notes = [
        f"{len(c.target) - targets} of the {len(c.target)} particles in view are so near to the "
        "border that their image is cut; they count neither way."
    ]
    if not hits:
        scores.append(Score("rmse", None, 0, "lower", "nm", hint="not defined: none was found"))
        return Scores(task, tuple(scores), tuple(notes))
    error = c.error_nm
    bias, spread = float(error.mean()), float(error.std())
    limits = c.limit_nm[c.hit_true]
    limit = float(np.sqrt(np.mean(limits**2)))
    sigma = c.of_hits("sigma_nm")
    coverage = None if sigma is None else float(np.mean(np.abs(error) <= 1.96 * sigma))
    middle = float(np.median(true + error) - np.median(true))
    scores += [
        Score("rmse", float(np.sqrt(np.mean(error**2))), hits, "lower", "nm",
              limit=limit if 0 < limit < np.inf else None, bias=bias, spread=spread,
              coverage=coverage, hint="typical error of a diameter (root mean square)"),
        Score("bias", abs(bias), hits, "lower", "nm",
              hint=f"on average particles are found {abs(bias):.2g} nm "
              f"{'wider' if bias > 0 else 'narrower'} than they are"),
        Score("median_error", abs(middle), hits, "lower", "nm",
              hint=f"the median diameter is {np.median(true):.2f} nm, found was "
              f"{np.median(true + error):.2f} nm"),
    ]  # fmt: skip
    if coverage is not None:
        scores.append(
            Score("coverage", coverage, hits, "higher",
                  hint="0.95 if the quoted uncertainties are honest; less: too sure, more: too "
                  "cautious")
        )  # fmt: skip
    height = c.of_hits("height_nm")
    if height is not None:
        wrong = height - c.true.height_nm[c.hit_true]
        scores.append(
            Score("height_rmse", float(np.sqrt(np.mean(wrong**2))), hits, "lower", "nm",
                  bias=float(wrong.mean()), spread=float(wrong.std()),
                  hint="typical error of a height from the foot, which the particle hides")
        )  # fmt: skip
    apparent = c.of_hits("apparent_nm")
    if apparent is not None:
        excess = apparent / true - 1
        expected = 2 * np.sqrt((true / 2) * (true / 2 + 2 * c.tip_radius_nm)) / true - 1
        scores.append(
            Score("apparent_excess", 100 * float(excess.mean()), hits, "lower", "%",
                  hint=f"the image shows particles {100 * excess.mean():.0f} % wider than they "
                  f"are; spheres under a sphere of {c.tip_radius_nm:.3g} nm would be "
                  f"{100 * expected.mean():.0f} % wider at half height")
        )  # fmt: skip
        notes.append(
            "The width in the image is no measure of a particle: at half height it is "
            "2 sqrt(r (r + 2 R)) for a sphere of radius r under a tip of radius R, "
            f"here {apparent.mean():.1f} nm on average in place of {true.mean():.1f} nm."
        )
    notes.append(
        "The limit is the Cramér-Rao bound of the noise for spheres of unknown size, place and "
        "foot under a perfectly known tip. The loop's lag, the pixels between which the tip comes "
        "down, neighbours and the shape of the support around are not in it."
    )
    return Scores(task, tuple(scores), tuple(notes))
