"""The task microscope-comparison: one structure as several light microscopes resolve it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nanophantom.validation.microscope_images import (
    SEEN,
    Fineness,
    Picture,
    Star,
    fineness,
    pictures,
    star_in,
    title_of,
    true_dyes,
)
from nanophantom.validation.microscope_limits import Theory, kind_of, theory
from nanophantom.validation.part_of import microscopes, part_of
from nanophantom.validation.task import Estimates, Score, Scores, Task

if TYPE_CHECKING:
    from nanophantom.validation.drawing import Plate
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Seen:
    """An image, how fine it is, and how fine it could be."""

    picture: Picture
    fineness: Fineness
    theory: Theory
    star: Star | None


@dataclass(frozen=True)
class Light:
    """What an image cost.

    Attributes
    ----------
    dyes
        In view.
    bleached
        Part of them that went dark before the last frame had ended.
    photons_per_dye
        That the microscope collected, a dye on average.
    """

    dyes: int
    bleached: float
    photons_per_dye: float


class MicroscopeComparison(Task):
    """Make an image of what each of several microscopes recorded of one structure."""

    name = "microscope-comparison"
    title = "One structure under several microscopes"
    default_algorithm = "nanophantom.analysis.five_images:find"
    inputs = ()
    columns = ("microscope", "x_nm", "y_nm", "value")
    optional_columns = ("deconvolved",)
    contract = f"""\
find(signals, settings)
  -> {{"microscope": (n,), "x_nm": (n,), "y_nm": (n,), "value": (n,), optional "deconvolved": (n,)}}

Receives
  signals         a dict of arrays: NAME_image (frames, ny, nx) of a camera or a scanner, NAME_raw
                  (9, ny, nx) under stripes, NAME_movie (frames, ny, nx) of blinking molecules
  settings        a dict of the microscopes' nominal settings by name, each a dict: pixel_size_nm,
                  na, wavelength_nm, excitation_nm, camera, and what belongs to its kind
Returns           images, pixel by pixel in any order; any square pixels that suit
  microscope      number of the microscope in the order of the settings, from 0
  x_nm, y_nm      centre of the pixel, from that of the first pixel that the microscope recorded; y
                  points down; where the specimen lay on average over the microscope's frames
  value           brightness; its unit doesn't matter
  deconvolved     1 for a second, sharpened image of the same microscope, else 0
Scored, image by image
  resolution      period at which the image's Fourier ring correlation with the true dyes falls to
                  1/2, nm. It asks what is right, not how strong it is.
  resolved        on a Siemens star: shortest period at which the spokes keep {100 * SEEN:.0f} % of their contrast
  bleached        part of the dyes that the microscope bleached; no algorithm can change it
"""  # noqa: E501

    def grade(self, estimates: Estimates, dataset: Observed) -> Scores:
        """Grade images against the true dyes."""
        seen = self.compare(estimates, dataset)
        names = microscopes(dataset)
        light = {name: light_of(dataset, name) for name in names}
        scores = [*_finest(seen)]
        for name in names:
            own = [s for s in seen if s.picture.microscope == name]
            if not own:
                scores.append(Score("resolution", None, 0, "lower", "nm", group=name,
                                    hint="not defined: no image of it was given"))  # fmt: skip
            for s in own:
                scores += _scores(s)
            scores.append(Score("bleached", light[name].bleached, light[name].dyes, "lower",
                                group=name, hint="part of the dyes that went dark while the "
                                "image was taken; no algorithm changes this"))  # fmt: skip
        return Scores(self.name, tuple(scores), _notes(seen, light))

    def figures(self, dataset: Observed, estimates: Estimates, scores: Scores) -> list[Plate]:
        """Draw the images side by side, their middles, profiles, correlations, and costs."""
        from nanophantom.validation import microscope_figures

        seen = self.compare(estimates, dataset)
        light = {name: light_of(dataset, name) for name in microscopes(dataset)}
        return microscope_figures.of_microscopes(dataset, seen, light)

    def compare(self, estimates: Estimates, dataset: Observed) -> list[Seen]:
        """Compare every image with the truth: the ground of scores and figures."""
        found = self.read(estimates)
        names = microscopes(dataset)
        if not names:
            raise ValueError(
                f"task {self.name} can't grade this dataset: it wants the instrument several"
            )
        for name in names:
            missing = [t for t in ("dyes", "view") if t not in part_of(dataset, name).truth_tables]
            if missing:
                raise ValueError(
                    f"task {self.name} can't grade this dataset: no truth {name}_{missing[0]}; it "
                    "compares fluorescence microscopes"
                )
        return [
            Seen(
                picture,
                fineness(picture, *true_dyes(dataset, picture.microscope), star),
                theory(dataset, picture.microscope, deconvolved=picture.deconvolved),
                star,
            )
            for picture in pictures(found, names, self.name)
            for star in [star_in(dataset, picture.microscope)]
        ]


def _finest(seen: list[Seen]) -> list[Score]:
    """Return the scores of the finest image."""
    scores = []
    asked = f"shortest period of spokes that keep {100 * SEEN:.0f} % of their contrast"
    for name, told, values in (
        ("resolution", "shortest period at which an image agrees with the true dyes, however faint "
         "it is", [s.fineness.resolution_nm for s in seen]),
        ("resolved", asked, [s.fineness.resolved_nm for s in seen if s.star is not None]),
    ):  # fmt: skip
        known = [value for value in values if value is not None]
        if values:
            scores.append(Score(name, min(known, default=None), len(values), "lower", "nm",
                                hint=f"{told}; first the finest of all images"))  # fmt: skip
    return scores


def _scores(s: Seen) -> list[Score]:
    fine, limits, name = s.fineness, s.theory, s.picture.name
    hint = limits.why
    if fine.resolution_nm is None:
        hint = "not defined: the image agrees with the true dyes at no period"
    scores = [Score("resolution", fine.resolution_nm, len(fine.correlation), "lower", "nm",
                    group=name, limit=limits.resolution_nm, hint=hint)]  # fmt: skip
    if s.star is not None:
        hint = limits.why
        if fine.resolved_nm is None:
            hint = "not defined: spokes aren't seen even at the rim"
        scores.append(Score("resolved", fine.resolved_nm, len(fine.periods_nm), "lower", "nm",
                            group=name, limit=limits.resolved_nm, hint=hint))  # fmt: skip
    return scores


def _notes(seen: list[Seen], light: Mapping[str, Light]) -> tuple[str, ...]:
    notes = [
        "Resolution is what agrees with the truth however faint it is, and needs light; resolved "
        "is what has contrast, and needs narrow spots. They are two answers to one question.",
        "Limits. " + " ".join(f"{title_of(s.picture)}: {s.theory.why}." for s in seen),
        "All microscopes see the same dyes. Each sees them fresh: none was bleached by another. "
        "Photons that they collected of a dye, on average: "
        + ", ".join(f"{name} {cost.photons_per_dye:,.0f}" for name, cost in light.items())
        + ".",
    ]
    if any(s.theory.kind == "smlm" for s in seen):
        notes.append(
            "Where two molecules blink at once, nearer than a spot is wide, one place between them "
            "may be found: localizations between the spokes, which cost contrast at every period. "
            "Few dyes lie in the star's middle: there chance, not the optics, ends what is seen."
        )
    if any(s.theory.kind == "sted" for s in seen):
        notes.append(
            "The square-root law for STED takes a doughnut a little steeper than a real one: real "
            "spots are 10 to 20 % wider."
        )
    return tuple(notes)


def light_of(dataset: Observed, microscope: str) -> Light:
    """Return what a microscope's image cost."""
    own, kind = part_of(dataset, microscope), kind_of(dataset, microscope)
    dyes = own.truth("dyes")
    n = len(dyes["x_nm"])
    if "bleach_frame" in dyes:
        bleached = np.asarray(dyes["bleach_frame"]) >= 0
    else:
        bleached = np.asarray(dyes["bleached_s"]) < own.n_frames * own.settings["frame_period_s"]
    if kind == "smlm":
        photons = float(np.sum(dyes["photons"]))
    else:
        from nanophantom.analysis.five_images import electrons

        signal = "raw" if kind == "sim" else "image"
        frames = np.asarray(own.signal(signal))
        counted = electrons(frames, own.settings).sum() * len(frames)
        efficiency = float(own.settings["camera"]["quantum_efficiency"])
        ground = np.asarray(own.truth("background")["photons"], np.float64)
        background = np.broadcast_to(ground, frames.shape[1:]).sum() * len(frames)
        photons = float(counted / efficiency - background)
    return Light(n, float(bleached.mean()) if n else 0.0, max(photons, 0.0) / max(n, 1))
