"""Precision and recall against dose: the learned finder beside the classical one.

Both get the same single exposures, and are graded by the task atomic-columns. The specimens are
new ones of the families that training draws from, ones of families that it never saw, those
under a microscope that it never saw, and the particle of the scenario gold-on-ceria. They
are scattered through more finely than training's were.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from nanophantom.analysis import atomic_columns
from nanophantom.analysis.learned_columns import Network, find_with
from nanophantom.instruments.tem import TEM
from nanophantom.samples.nanoparticle_on_support import NanoparticleOnSupport
from nanophantom.simcore.cameras import Camera
from nanophantom.simcore.electrons.settings import Multislice
from nanophantom.simcore.environment import Drift
from nanophantom.simcore.experiment import Experiment
from nanophantom.simcore.runs import Run
from nanophantom.simcore.schedule import Exposures
from nanophantom.simcore.specimens import Specimen
from nanophantom.validation.drawing import BLUE, INK, ORANGE
from nanophantom.validation.tasks.atomic_columns import AtomicColumns
from nanophantom.validation.training.examples import FEWEST_TARGETS, Example, shows_columns
from nanophantom.validation.training.scenes import TRAINING, Ranges, draw
from nanophantom.validation.training.structures import SEEN, UNSEEN

Tell = Callable[[str, int, int], None]
Counted = npt.NDArray[np.float64]

DOSES_E_PER_A2 = (5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 2000.0)
IMAGES = 10
SEED = 1000
FINE = Multislice(thermal_configurations=6)
ELSEWHERE = Ranges(
    energies_kev=(200.0,), pixel_sizes_nm=(0.014, 0.022), c30_um=(1.0, 60.0), view_nm=5.0
)
"""A microscope of an energy and of pixels that training never saw."""
FINDERS = ("classical", "learned")
GROUPS = (
    "known structures",
    "unseen structures",
    "unseen structures, unseen microscope",
    "gold on ceria",
)
TRIES = 20


@dataclass(frozen=True, eq=False)
class Result:
    """What both finders did on the images of one group.

    Attributes
    ----------
    group
        Name of the group.
    counted
        Hits, claims that count, targets and the sum of squared errors of the hits in nm^2, shape
        (images, finders, doses, 4).
    """

    group: str
    counted: Counted

    def table(self) -> dict[str, Any]:
        """Return precision, recall, F1 and rmse of each finder at each dose, all images pooled."""
        hits, claims, targets, squares = np.moveaxis(self.counted.sum(axis=0), -1, 0)
        f1 = _ratio(2 * hits, claims + targets)
        each = _ratio(2 * self.counted[..., 0], self.counted[..., 1] + self.counted[..., 2])
        rmse_pm = 1e3 * np.sqrt(_ratio(squares, hits))
        return {
            "group": self.group,
            "images": len(self.counted),
            "targets": int(targets[0, 0]),
            "images_where_learned_f1_is_higher": (each[:, 1] > each[:, 0]).sum(axis=0).tolist(),
            **{
                finder: {
                    "precision": _plain(_ratio(hits, claims)[i]),
                    "recall": _plain(_ratio(hits, targets)[i]),
                    "f1": _plain(f1[i]),
                    "rmse_pm": _plain(rmse_pm[i], 1),
                }
                for i, finder in enumerate(FINDERS)
            },
        }


def measure(
    network: Network,
    images: int = IMAGES,
    seed: int = SEED,
    workers: int = 2,
    tell: Tell = lambda what, done, total: None,
) -> list[Result]:
    """Grade both finders on images of every group.

    Parameters
    ----------
    network
        The learned finder.
    images
        Specimens of each group, one image of each at each dose.
    seed
        Decides about specimens and noise; those of training are others in any case.
    workers
        Processes.
    tell
        Called with what is done, how much, and of how much.
    """
    run = Run(seed)
    jobs = [(group, i) for group in GROUPS for i in range(images)]
    counted: list[Counted] = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        work = partial(_grade_image, network, run)
        for one in pool.map(work, *zip(*jobs, strict=True)):
            counted.append(one)
            tell("grading", len(counted), len(jobs))
    return [
        Result(group, np.stack(counted[k * images : (k + 1) * images]))
        for k, group in enumerate(GROUPS)
    ]


def write(results: list[Result], network: Network, folder: Path) -> tuple[Path, Path]:
    """Write the table, columns.json, and the picture, columns.png; return both files."""
    folder.mkdir(parents=True, exist_ok=True)
    table, picture = folder / "columns.json", folder / "columns.png"
    document = {
        "doses_e_per_A2": list(DOSES_E_PER_A2),
        "groups": [result.table() for result in results],
        "recipe": dict(network.recipe),
    }
    table.write_text(json.dumps(document, indent=1) + "\n")
    draw_curves(results).savefig(picture, dpi=110)
    return table, picture


def text(results: list[Result]) -> str:
    """Return a table of precision, recall and F1 of both finders at each dose."""
    lines = []
    for result in results:
        table = result.table()
        lines += ["", f"{table['group']}: {table['images']} images, {table['targets']} columns"]
        lines.append("  e/Å²   classical P    R    F1     learned P    R    F1   rmse (pm)")
        for d, dose in enumerate(DOSES_E_PER_A2):
            row = [f"{dose:6g}  "]
            for finder in FINDERS:
                values = [table[finder][name][d] for name in ("precision", "recall", "f1")]
                row.append("".join("     –" if v is None else f"{v:6.2f}" for v in values))
            errors = [table[finder]["rmse_pm"][d] for finder in FINDERS]
            row.append(" / ".join("–" if e is None else f"{e:.0f}" for e in errors))
            lines.append("   ".join(row))
    return "\n".join(lines)


def draw_curves(results: list[Result]) -> Figure:
    """Draw F1, precision and recall of both finders against dose, one panel a group."""
    figure = Figure(figsize=(3.3 * len(results), 3.6), layout="constrained")
    every = np.atleast_1d(figure.subplots(1, len(results), sharey=True))
    for axes, result in zip(every, results, strict=True):
        table = result.table()
        for finder, colour in zip(FINDERS, (ORANGE, BLUE), strict=True):
            for name, style, width in (
                ("f1", "-", 2.2),
                ("precision", "--", 1),
                ("recall", ":", 1),
            ):
                values = [np.nan if v is None else v for v in table[finder][name]]
                label = "F1" if name == "f1" else name
                axes.plot(
                    DOSES_E_PER_A2,
                    values,
                    style,
                    lw=width,
                    color=colour,
                    label=f"{finder}, {label}",
                )
        axes.set_xscale("log")
        axes.set_ylim(0, 1.02)
        axes.set_title(f"{result.group}\n({table['targets']} columns)", fontsize=9, color=INK)
        axes.set_xlabel("dose (e/Å²)")
        axes.grid(alpha=0.3)
    every[0].set_ylabel("within 0.5 Å")
    every[0].legend(fontsize=7)
    return figure


def _grade_image(network: Network, run: Run, group: str, index: int) -> Counted:
    """Let both finders look at one specimen at every dose; shape (finders, doses, 4)."""
    run = run.at(group, index)
    experiment, example = _picture(run, group)
    task, counted = AtomicColumns(), np.zeros((len(FINDERS), len(DOSES_E_PER_A2), 4))
    for d, dose in enumerate(DOSES_E_PER_A2):
        counts = example.counts(dose, run.rng("counts", d))
        settings = {**experiment.settings, "dose_e_per_A2": dose}
        answers = atomic_columns.find(counts, settings), find_with(network, counts, settings)
        for f, answer in enumerate(answers):
            found = {name: answer[name] for name in task.columns}
            compared = task.compare(found, experiment)
            hits, false = len(compared.hit_found), len(compared.false)
            squares = float((compared.error_nm**2).sum())
            counted[f, d] = hits, hits + false, compared.target.sum(), squares
    return counted


def _picture(run: Run, group: str) -> tuple[Experiment, Example]:
    """Draw specimens until one shows its columns as the optics promises; image it once."""
    for k in range(TRIES):
        specimen, tem = _scene(run.at("try", k), group)
        experiment = Experiment.of(tem.plan(specimen, run))
        nothing = {"x_nm": np.zeros(0), "y_nm": np.zeros(0)}
        compared = AtomicColumns().compare(nothing, experiment)
        expected = experiment.ideal("image", 0).astype(np.float32)
        settings = experiment.settings
        columns = compared.there_nm[compared.target]
        example = Example(expected, settings["pixel_size_nm"], settings["contrast"], columns, group)
        if len(columns) >= FEWEST_TARGETS and shows_columns(example):
            return experiment, example
    raise RuntimeError(f"none of {TRIES} specimens of {group!r} shows its columns")


def _scene(run: Run, group: str) -> tuple[Specimen, TEM]:
    """Draw a specimen of a group, and a microscope set for one exposure of 1 e/Å^2."""
    if group == "gold on ceria":
        return _gold_on_ceria(run)
    families = SEEN if group == "known structures" else UNSEEN
    scene = draw(run, families, ELSEWHERE if "microscope" in group else TRAINING, FINE)
    return scene.specimen, scene.tem


def _gold_on_ceria(run: Run) -> tuple[Specimen, TEM]:
    """Return the scenario's kind of particle, of some size and tilt, under its microscope."""
    rng = run.rng("gold on ceria")
    tilt_x, tilt_y = rng.normal(0, 3, 2)
    sample = NanoparticleOnSupport(
        n_atoms=int(rng.integers(300, 1000)), tilt_mrad=(tilt_x, tilt_y), surface_y_nm=1.0
    )
    tem = TEM(
        exposures=Exposures(n_frames=1, dose_e_per_A2=1.0),
        camera=Camera(width_px=480, height_px=480, pixel_size_nm=0.0125),
        drift=Drift(speed_nm_per_s=0.02),
        multislice=FINE,
    )
    return sample.make(run), tem


def _ratio(part: Any, whole: Any) -> Counted:
    """Return part / whole, NaN where there is no whole."""
    out = np.full(np.shape(whole), np.nan)
    return np.asarray(np.divide(part, whole, out=out, where=whole > 0))


def _plain(values: Counted, digits: int = 3) -> list[float | None]:
    """Return numbers as JSON knows them, None for NaN."""
    return [None if np.isnan(v) else round(float(v), digits) for v in values]
