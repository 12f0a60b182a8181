"""Make one frame of a dataset again, alone, and compare it byte for byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nanophantom.scenarios import recipe
from nanophantom.scenarios.run import prepare
from nanophantom.scenarios.scenario import Scenario
from nanophantom.simcore import fft
from nanophantom.simcore.runs import joined
from nanophantom.simcore.store import Dataset
from nanophantom.simcore.store.layout import RECIPE, WISDOM


def remake(folder: Path, frame: int) -> list[str]:
    """Make a frame from the dataset's own recipe, without any other, and compare.

    Parameters
    ----------
    folder
        A finished dataset; its files are only read.
    frame
        Which frame.

    Returns
    -------
    list of str
        What differs, a line each; nothing where all signals and truths have the same bytes.

    Raises
    ------
    ValueError
        There is no such frame, or the recipe can't be read.
    """
    dataset = Dataset(folder)
    if not 0 <= frame < dataset.n_frames:
        raise ValueError(f"{folder} has the frames 0 to {dataset.n_frames - 1}, no frame {frame}")
    scenario = Scenario.model_validate(recipe.load(folder / RECIPE))
    with fft.only((folder / WISDOM).read_bytes()):
        _, acquisition = prepare(scenario)
        made = acquisition.expose(frame)
    differences = []
    for name, values in made.signals.items():
        own = frame - dataset.layout.frames_of(name).start
        kept = dataset.signal(name, own, own + 1)[0]
        if kept.tobytes() != np.ascontiguousarray(values).tobytes():
            differences.append(f"frame {frame}: signal {name!r} differs from the one kept")
    for name in dataset.frame_truth_names:
        if frame not in dataset.layout.range_of(name):
            continue
        own = frame - dataset.layout.range_of(name).start
        kept = dataset.frame_truth(name, own, own + 1)[0]
        if kept.tobytes() != np.ascontiguousarray(made.truth[name]).tobytes():
            differences.append(f"frame {frame}: truth {name!r} differs from the one kept")
    for name in made.tables:
        again = joined([(frame, made.tables[name])])
        for column, values in dataset.frame_table(name, frame, frame + 1).items():
            if values.tobytes() != np.ascontiguousarray(again[column]).tobytes():
                differences.append(f"frame {frame}: {name}.{column} differs from the one kept")
    return differences
