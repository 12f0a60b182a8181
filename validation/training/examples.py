"""Examples to learn from: expected counts of an exposure, and the columns it should reveal.

The exit wave is the dear part. One specimen is scattered through once and then imaged by several
lenses at several foci. Dose and shot noise are left to the learner, who draws them afresh whenever
an example comes round again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nanophantom.analysis.learned_columns import standardised
from nanophantom.simcore.cameras.detector import PerfectCounter
from nanophantom.simcore.electrons.contrast import sign_of_contrast
from nanophantom.simcore.electrons.settings import Multislice
from nanophantom.simcore.experiment import Experiment
from nanophantom.simcore.runs import Run
from nanophantom.simcore.schedule import Exposures, Series
from nanophantom.validation.tasks.atomic_columns import AtomicColumns
from nanophantom.validation.training.scenes import TRAINING, Ranges, draw
from nanophantom.validation.training.structures import SEEN, Family

Floats = npt.NDArray[np.float64]

LENSES, FOCI = 2, 3
"""Each lens images the specimen near its own focus and at two others."""
FOCUS = 0.8, 1.25
"""Those, relative to the lens's own."""
FEWEST_TARGETS = 6
"""A specimen that shows fewer columns teaches little."""
LEAST_HEIGHT, LEAST_SHARE = 0.5, 0.9
"""This share of the columns stands out by this many standard deviations of the image."""
VIEW = slice(None), slice(None)
COARSE = Multislice(thermal_configurations=3, band_limit_mrad=45.0, margin_nm=0.8)
"""Scattering as it is computed for training: barely beyond what the optics passes."""


@dataclass(frozen=True, eq=False)
class Example:
    """One exposure without noise.

    Attributes
    ----------
    expected
        Expected counts of each pixel at 1 e/Å^2, shape (ny, nx).
    pixel_size_nm, contrast
        What an operator knows: pixel size, and how atoms look.
    columns_nm
        Positions (x, y) of the columns that the task atomic-columns asks for, shape (n, 2).
    family
        Name of the structure type.
    """

    expected: npt.NDArray[np.float32]
    pixel_size_nm: float
    contrast: Literal["bright", "dark"]
    columns_nm: Floats
    family: str

    def counts(
        self, dose_e_per_A2: float, rng: np.random.Generator, crop: tuple[slice, slice] = VIEW
    ) -> npt.NDArray[np.integer]:
        """Count the electrons of an exposure, in a part of the view."""
        electrons = np.float32(dose_e_per_A2) * self.expected[crop]
        counter = PerfectCounter(electrons.shape, counts_per_electron=1.0, noisy=True)
        return counter.read(electrons, rng)

    @property
    def settings(self) -> dict[str, Any]:
        """What an operator tells a finder."""
        return {"pixel_size_nm": self.pixel_size_nm, "contrast": self.contrast}


def make_examples(
    run: Run,
    families: Mapping[str, Family] = SEEN,
    ranges: Ranges = TRAINING,
    multislice: Multislice = COARSE,
) -> list[Example]:
    """Draw one specimen and take pictures of it.

    Returns
    -------
    list of Example
        Those that show their columns as told (:func:`shows_columns`); none if the specimen has
        hardly any (cut too small, or tilted too far).
    """
    scene = draw(run, families, ranges, multislice)
    parts = None
    made: list[Example] = []
    for lens in range(LENSES):
        optics = scene.tem.optics if lens == 0 else scene.lens(lens)
        factors = run.rng("foci", lens).uniform(*FOCUS, FOCI - 1)
        foci = tuple(optics.defocus_nm * f for f in (1.0, *factors))
        tem = scene.tem.model_copy(
            update={
                "optics": optics,
                "series": Series(defoci_nm=foci),
                "exposures": Exposures(n_frames=FOCI, dose_e_per_A2=1.0, exposure_s=1.0),
                "camera": scene.tem.camera.model_copy(update={"shot_noise": False}),
            }
        )
        planned = tem.plan(scene.specimen, run)
        # A series of foci has exit waves that hold for any lens.
        parts = parts or planned.make_parts()
        frames = [planned.expose(i, parts) for i in range(FOCI)]
        columns, moved = _targets(Experiment(planned, parts, frames))
        if len(columns) < FEWEST_TARGETS:
            return []
        for frame, defocus_nm, way in zip(frames, foci, moved, strict=True):
            focused = optics.model_copy(update={"defocus_nm": defocus_nm})
            bright = sign_of_contrast(focused, tem.energy_kev) > 0
            example = Example(
                frame.truth["ideal"],
                tem.camera.pixel_size_nm,
                "bright" if bright else "dark",
                columns + way,
                scene.family,
            )
            if shows_columns(example):
                made.append(example)
    return made


def shows_columns(example: Example) -> bool:
    """Say whether the columns look as the optics promises: bright, or dark.

    In a crystal that is too thick for a weak phase they may look the other way round, or lie
    between the maxima. An operator would go to a thinner place, or focus anew.
    """
    image, (step_y, step_x) = standardised(example.expected, example.pixel_size_nm)
    x, y = (example.columns_nm.T + example.pixel_size_nm / 2) / [[step_x], [step_y]] - 0.5
    height = ndimage.map_coordinates(image, [y, x], order=1, mode="nearest")
    sign = 1 if example.contrast == "bright" else -1
    return float(np.mean(sign * height > LEAST_HEIGHT)) >= LEAST_SHARE


def _targets(experiment: Experiment) -> tuple[Floats, Floats]:
    """Return the columns that the task asks for at zero drift, (n, 2), and each frame's drift."""
    nothing = {"x_nm": np.zeros(0), "y_nm": np.zeros(0)}
    compared = AtomicColumns().compare(nothing, experiment)
    drift = experiment.truth("drift")
    there = compared.there_nm[compared.target] - compared.drift_nm
    return there, np.column_stack([drift["dx_nm"], drift["dy_nm"]])
