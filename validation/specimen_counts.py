"""The counts that come from the specimen alone: what a sensor's own pattern would feign is out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import ndimage

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]


def specimen_counts(dataset: Observed) -> Floats:
    """Return the expected electrons of the first frame without drift, as an even sensor sees them.

    Gain errors, dark signal and defects stand still while the specimen moves: they look like
    structure, but tell nothing of where it lies. What they do to the noise-free image is undone;
    defects take the median of their surroundings. The readout of a sensor that gives several units
    an electron is divided by their number per arriving electron: what such a sensor loses and adds
    is left out, so that a bound that follows from it is too low by the root of its DQE.
    """
    counts = np.asarray(dataset.truth("noise_free")["image"], np.float64)
    counts = counts / max(float(dataset.settings.get("counts_per_electron") or 1.0), 1.0)
    sensor = dataset.truth("camera") if "camera" in dataset.truth_tables else {}
    if "dark" in sensor:
        counts = np.maximum(counts - np.asarray(sensor["dark"], np.float64), 0.0)
    if "gain" in sensor:
        counts = counts / np.asarray(sensor["gain"], np.float64)
    if "defects" in sensor:
        bad = np.asarray(sensor["defects"]) > 0
        counts = np.where(bad, ndimage.median_filter(counts, 5), counts)
    return counts
