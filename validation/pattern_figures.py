"""Figures of any dataset of diffraction patterns: what was measured, and without noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from nanophantom.validation.drawing import Plate

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed

SHOWN = 4
"""Patterns that are drawn, spread evenly over the frames."""
DARKEST = 1e-3
"""What is drawn black, relative to the brightest pixel."""


def is_patterns(dataset: Observed) -> bool:
    """Say whether a dataset's pixels are angles and nothing but angles."""
    settings = dataset.settings
    return "pixel_size_mrad" in settings and "pixel_size_nm" not in settings


def of_patterns(dataset: Observed) -> list[Plate]:
    """Draw some of the patterns, each above its noise-free expectation."""
    name = dataset.signals[0]
    frames = np.unique(np.rint(np.linspace(0, dataset.n_frames - 1, SHOWN)).astype(int)).tolist()
    measured = [np.asarray(dataset.signal(name, i, i + 1)[0], np.float64) for i in frames]
    ideal = [np.asarray(dataset.ideal(name, i), np.float64) for i in frames]
    step = float(dataset.settings["pixel_size_mrad"])
    ny, nx = measured[0].shape
    extent = (-nx / 2 * step, nx / 2 * step, ny / 2 * step, -ny / 2 * step)
    norm = logarithmic(measured)
    figure = Figure(figsize=(10.4, 4.7), layout="constrained")
    figure.patch.set_alpha(0)
    panels = figure.subplots(2, len(frames), sharex=True, sharey=True, squeeze=False)
    shown: Any = None
    thickness_nm = _thicknesses(dataset)
    for column, i in enumerate(frames):
        for axes, image in (
            (panels[0, column], measured[column]),
            (panels[1, column], ideal[column]),
        ):
            shown = axes.imshow(
                np.maximum(image, norm.vmin or 0.0), cmap="magma", norm=norm, extent=extent
            )
        told = "" if thickness_nm is None else f": {thickness_nm[i]:.2f} nm"
        panels[0, column].set_title(f"pattern {i}{told}", fontsize=11)
        panels[1, column].set_xlabel("angle x (mrad)")
    panels[0, 0].set_ylabel("measured\nangle y, down (mrad)")
    panels[1, 0].set_ylabel("without noise (truth)\nangle y, down (mrad)")
    figure.colorbar(shown, ax=panels.ravel().tolist(), label="electrons a pixel, logarithmic")
    total = np.mean([image.sum() for image in measured])
    caption = (
        f"{len(frames)} of the {dataset.n_frames} diffraction patterns as the camera counted them, "
        f"about {total:,.0f} electrons each, and below what they would be without counting noise. "
        "The scale is logarithmic: black is a thousandth of the brightest pixel, or less."
    )
    return [Plate("Diffraction patterns", caption, figure, wide=True)]


def logarithmic(images: Sequence[npt.NDArray[Any]]) -> LogNorm:
    """Return one logarithmic scale for several patterns of counts."""
    brightest = max(1.0, *(float(image.max()) for image in images))
    return LogNorm(max(DARKEST * brightest, 0.5 if brightest > 5 else DARKEST), brightest)


def _thicknesses(dataset: Observed) -> npt.NDArray[np.float64] | None:
    """Return the true thickness behind every frame, if the truth tells it."""
    if "thickness" not in dataset.truth_tables:
        return None
    return np.asarray(dataset.truth("thickness")["thickness_nm"], np.float64)
