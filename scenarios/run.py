"""Make the dataset or the corpus of a recipe: plan, refuse, work in parallel, resume.

The driver knows nothing of physics: it makes an acquisition's parts on any worker, hands them
to the workers that expose frames, and lets the store keep what is finished.
"""

from __future__ import annotations

import functools
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nanophantom.scenarios import recipe
from nanophantom.scenarios.parts import KeptParts, Progress, make_parts
from nanophantom.scenarios.scenario import Scenario
from nanophantom.simcore import fft, parallel
from nanophantom.simcore.models import Model
from nanophantom.simcore.runs import Acquisition, Cost
from nanophantom.simcore.specimens import Specimen, truth_tables
from nanophantom.simcore.store import Corpus, Dataset, DatasetWriter, is_corpus, require_space
from nanophantom.simcore.store.writer import Receipt, ShardWriter

PARTS = "parts"


@dataclass
class Plan:
    """A validated request: what to make and where, nothing written yet."""

    data: dict[str, Any]
    out: Path
    name: str
    tasks: tuple[str, ...]
    count: int | None
    resume: bool
    scenario: Scenario
    specimen: Specimen
    acquisition: Acquisition
    cost: Cost

    @property
    def summary(self) -> str:
        """One line on what will be made."""
        items = "" if self.count is None else f"{self.count} items of "
        frames = self.acquisition.n_frames
        return f"{items}{frames} frame{'s' * (frames != 1)}, {describe(self.cost)}"

    @property
    def truth_names(self) -> tuple[str, ...]:
        """Names of the truth tables that there will be."""
        return (*self.acquisition.truth_outline(), *truth_tables(self.specimen))

    @property
    def resume_hint(self) -> str:
        """What to say after a stop."""
        return f"what was finished is kept in {self.out}; run the same command with --resume"


def prepare(scenario: Scenario) -> tuple[Specimen, Acquisition]:
    """Build the specimen and plan the acquisition of one item.

    Raises
    ------
    ValueError
        Sample and instrument don't fit, or a file can't be used.
    """
    run = scenario.run()
    try:
        specimen = scenario.sample.make(run)
    except ValueError as problem:
        raise ValueError(_located("sample", scenario.sample, str(problem))) from problem
    try:
        return specimen, scenario.instrument.plan(specimen, run)
    except ValueError as problem:
        raise ValueError(_located("instrument", scenario.instrument, str(problem))) from problem


def _located(part: str, model: Model, message: str) -> str:
    """Put the path of the part before a message that names one of its fields, or nothing."""
    first = re.match(r"[A-Za-z_0-9]+", message)
    if first and first.group() in ("sample", "instrument"):
        return message
    known = first is not None and first.group() in model.knobs()
    return f"{part}.{message}" if known else f"{part}: {message}"


def describe(cost: Cost, times: int = 1) -> str:
    """Return a cost in words."""
    disk, memory = cost.disk_bytes * times / 1e6, cost.memory_bytes / 1e6
    return (
        f"about {cost.cpu_s * times:.0f} s of processor time, {memory:.0f} MB of memory a "
        f"worker, up to {disk:.0f} MB of disk"
    )


def plan(
    data: Mapping[str, Any],
    out: Path | None = None,
    seed: int | None = None,
    count: int | None = None,
    resume: bool = False,
) -> Plan:
    """Validate a recipe and everything that can be refused before the start.

    Raises
    ------
    ValueError
        The recipe is wrong, the folder exists (or doesn't, to resume), disk or memory are short.
    """
    data = dict(data)
    if seed is not None:
        data["seed"] = seed
    scenario = recipe.resolve(data)
    folder = Path(scenario.name) if out is None else out
    _check_folder(folder, count, resume)
    specimen, acquisition = prepare(scenario)
    cost = acquisition.cost()
    planned = Plan(
        data=data,
        out=folder,
        name=scenario.name,
        tasks=scenario.tasks,
        count=count,
        resume=resume,
        scenario=scenario,
        specimen=specimen,
        acquisition=acquisition,
        cost=cost,
    )
    free = parallel.available_memory_bytes()
    if cost.memory_bytes > free:
        raise ValueError(
            f"this needs about {cost.memory_bytes / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB "
            "are free; make the view (instrument.camera) or the band limit smaller"
        )
    if not resume:
        require_space(folder, cost.disk_bytes * (count or 1))
    return planned


def _check_folder(folder: Path, count: int | None, resume: bool) -> None:
    """Refuse a place where nothing can be written, or that holds something else."""
    if not folder.parent.is_dir():
        raise ValueError(f"{folder}: there is no folder {folder.parent}; make it, or change -o")
    if not resume:
        if folder.is_dir():
            raise ValueError(
                f"{folder} exists; name another folder with -o, or finish it with --resume"
            )
        if folder.exists():
            raise ValueError(f"{folder} is a file; name another folder with -o")
    elif not folder.exists():
        raise ValueError(f"{folder} doesn't exist, so there is nothing to resume")
    elif is_corpus(folder) and count is None:
        raise ValueError(
            f"{folder} is a corpus; resume it with its --count {Corpus(folder).n_items}"
        )
    elif not is_corpus(folder) and not (folder / "dataset.json").is_file():
        raise ValueError(f"{folder} holds no dataset that was started; name another folder with -o")
    elif not is_corpus(folder) and count is not None:
        raise ValueError(f"{folder} is a single dataset; resume it without --count")


def make(
    planned: Plan,
    workers: int | None = None,
    progress: Progress = lambda what, done, total: None,
    finish: Callable[[Path], None] | None = None,
) -> None:
    """Make everything that is planned and not there yet.

    Parameters
    ----------
    planned
        The request.
    workers
        Processes; the result doesn't depend on their number.
    progress
        Told about every finished piece.
    finish
        Called with the folder of every item once it is complete, on the worker that made it
        (grading, say); must be picklable.
    """
    n_workers = parallel.usable_cores() if workers is None else workers
    n_workers = max(1, min(n_workers, int(_memory_for(planned.cost))))
    if planned.count is None:
        item = Item(planned.out, planned.scenario, planned.resume)
        item.make(planned.specimen, planned.acquisition, n_workers, progress)
        if finish is not None:
            finish(planned.out)
    else:
        _make_corpus(planned, n_workers, progress, finish)


def _memory_for(cost: Cost) -> float:
    return 0.9 * parallel.available_memory_bytes() / max(1, cost.memory_bytes)


# --- one item ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Item:
    """One dataset to be made: where, from what, and whether some of it is there."""

    folder: Path
    scenario: Scenario
    resume: bool = False
    wisdom: bytes = b""
    """FFT plans to use; empty learns them."""

    def make(
        self,
        specimen: Specimen,
        acquisition: Acquisition,
        workers: int,
        progress: Progress,
    ) -> None:
        """Make parts, then frames, then the index; skip what is finished."""
        start = time.perf_counter()
        inputs, text = _self_contained(self.scenario)
        if self.resume and (self.folder / "recipe.yaml").exists():
            if Dataset(self.folder).complete and _same(self.folder, text):
                return
            writer = DatasetWriter.resume(self.folder, text, inputs)
        else:
            wisdom = self.wisdom or _learned(acquisition)
            writer = DatasetWriter.create(
                self.folder, acquisition, text, inputs=inputs, wisdom=wisdom
            )
        # from here on FFT plans come from the dataset's own wisdom, on this process as on workers
        with writer, fft.only(writer.wisdom):
            self._fill(writer, specimen, acquisition, workers, progress)
            writer.finish(
                {
                    "wisdom_sha256": fft.wisdom_hash(),
                    "wall_s": round(time.perf_counter() - start, 3),
                    "workers": workers,
                    "notes": [*specimen.notes, *acquisition.notes],
                }
            )
        shutil.rmtree(self.folder / PARTS, ignore_errors=True)

    def _fill(
        self,
        writer: DatasetWriter,
        specimen: Specimen,
        acquisition: Acquisition,
        workers: int,
        progress: Progress,
    ) -> None:
        if writer.missing or not writer.has_truth:
            parts = make_parts(self.folder / PARTS, acquisition, workers, progress)
        if not writer.has_truth:
            writer.write_truth({**acquisition.truth(parts), **truth_tables(specimen)})
        todo = writer.missing
        total = acquisition.n_frames
        done = total - sum(len(writer.layout.frames(k)) for k in todo)
        progress("frames", done, total)
        tasks = (
            functools.partial(_expose_shard, acquisition, self.folder, writer.shards, k)
            for k in todo
        )
        made = parallel.run_tasks(
            tasks, workers, total=len(todo), in_threads=acquisition.in_threads
        )
        with closing(made) as receipts:
            for receipt in receipts:
                writer.record(receipt)
                done += len(writer.layout.frames(receipt.shard))
                progress("frames", done, total)


def _learned(acquisition: Acquisition) -> bytes:
    """Plan an acquisition's FFTs here and return the wisdom that knows them."""
    acquisition.warm_up()
    return fft.wisdom()


def _same(folder: Path, text: str) -> bool:
    if (folder / "recipe.yaml").read_text(encoding="utf-8") != text:
        raise ValueError(f"{folder} holds another recipe's data; name another folder with -o")
    return True


def _self_contained(scenario: Scenario) -> tuple[list[Path], str]:
    """Return the files a recipe refers to, and the recipe as it stands beside their copies."""
    data = scenario.model_dump(mode="json")
    files: list[Path] = []
    for whose, knobs in {
        "sample": scenario.sample.input_files(),
        "instrument": scenario.instrument.input_files(),
    }.items():
        for knob, file in knobs.items():
            *way, last = knob.split(".")
            place = data[whose]
            for name in way:
                place = place[int(name) if name.isdigit() else name]
            place[last] = f"inputs/{file.name}"
            if any(other.name == file.name and other != file for other in files):
                raise ValueError(
                    f"{whose}.{knob}: two different files are called {file.name}, and a dataset "
                    "keeps copies of both; rename one"
                )
            if file not in files:
                files.append(file)
    return files, yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)


def _expose_shard(
    acquisition: Acquisition, folder: Path, shards: ShardWriter, shard: int
) -> Receipt:
    parts = KeptParts(folder / PARTS, tuple(acquisition.parts()))
    frames = [shards.kept(acquisition.expose(i, parts)) for i in shards.layout.frames(shard)]
    return shards.write(shard, frames)


# --- corpora -------------------------------------------------------------------------------


def _make_corpus(
    planned: Plan,
    workers: int,
    progress: Progress,
    finish: Callable[[Path], None] | None,
) -> None:
    """Make items side by side, each on one worker."""
    assert planned.count is not None
    scenarios = [recipe.resolve(planned.data, item=k) for k in range(planned.count)]
    text = yaml.safe_dump(planned.data, sort_keys=False, allow_unicode=True, width=100)
    if planned.resume and is_corpus(planned.out):
        corpus = Corpus.resume(planned.out, text)
        if corpus.n_items != planned.count:
            raise ValueError(f"{planned.out} is a corpus of {corpus.n_items}: --count must agree")
    else:
        corpus = Corpus.create(planned.out, text, planned.count)

    def tasks() -> Iterator[Callable[[], None]]:
        for k, scenario in enumerate(scenarios):
            folder = corpus.item(k)
            begun = (folder / "dataset.json").exists()
            wisdom = b"" if begun else _learned(prepare(scenario)[1])
            yield functools.partial(_make_item, Item(folder, scenario, begun, wisdom), finish)

    done = 0
    progress("items", done, planned.count)
    with closing(parallel.run_tasks(tasks(), workers, total=planned.count)) as finished:
        for _ in finished:
            done += 1
            progress("items", done, planned.count)


def _make_item(item: Item, finish: Callable[[Path], None] | None) -> None:
    specimen, acquisition = prepare(item.scenario)
    item.make(specimen, acquisition, 1, lambda what, done, total: None)
    if finish is not None:
        finish(item.folder)


def folders_of(path: Path) -> tuple[Path, ...]:
    """Return the dataset folders below a path: itself, or the items of a corpus."""
    return Corpus(path).items if is_corpus(path) else (path,)
