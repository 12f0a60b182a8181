"""The command line. Every verb imports what it needs when it is called, so help is quick."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from nanophantom import cli_training
from nanophantom.cli_common import (
    FAILED,
    existing_folder,
    json_option,
    progress_bars,
    refusing,
    seed_option,
    set_option,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="nanophantom")
def main() -> None:
    """Virtual instruments of nanocharacterization with exact ground truth."""


@main.command("list")
@click.option("--barrier", type=click.IntRange(1, 100), help="Only scenarios for this barrier.")
@json_option
def list_(barrier: int | None, as_json: bool) -> None:
    """List the catalogue: name, barriers, one line."""
    with refusing():
        from nanophantom.scenarios import recipe

        rows = []
        for name in recipe.catalogue():
            data = recipe.load(name)
            if barrier is None or barrier in data.get("barriers", []):
                rows.append({k: data.get(k) for k in ("name", "barriers", "title")})
        if as_json:
            click.echo(json.dumps(rows, ensure_ascii=False))
            return
        for row in rows:
            barriers = ", ".join(str(b) for b in row["barriers"] or [])
            click.echo(f"{row['name']:<20} {row['title']}  [barriers {barriers}]")
        if not rows:
            click.echo(f"no scenario expresses barrier {barrier} yet")


@main.command()
@click.argument("recipe_name", metavar="RECIPE")
@set_option
@seed_option
@json_option
def show(recipe_name: str, changes: tuple[str, ...], seed: int | None, as_json: bool) -> None:
    """Print the resolved recipe, what it costs and what truth it will hold."""
    with refusing():
        from nanophantom.scenarios import recipe, run
        from nanophantom.simcore.specimens import truth_tables
        from nanophantom.validation import folder as grade

        scenario = recipe.resolve(recipe.change(recipe.load(recipe_name), changes), seed=seed)
        specimen, acquisition = run.prepare(scenario)
        known = (*acquisition.truth_outline(), *truth_tables(specimen))
        grade.check_tasks(scenario.tasks, acquisition.signals(), known)
        cost, truth = acquisition.cost(), dict(acquisition.truth_outline())
        if as_json:
            document = {
                "recipe": scenario.model_dump(mode="json"),
                "cost": vars(cost),
                "frames": acquisition.n_frames,
                "truth": truth,
                "notes": [*specimen.notes, *acquisition.notes],
            }
            click.echo(json.dumps(document, ensure_ascii=False))
            return
        click.echo(recipe.to_yaml(scenario))
        click.echo(f"# frames   {acquisition.n_frames}")
        for name, spec in acquisition.signals().items():
            shape = " x ".join(str(n) for n in spec.shape)
            click.echo(f"# signal   {name}: {shape} {spec.dtype}, {spec.unit}")
        click.echo(f"# cost     {run.describe(cost)}")
        for name, line in truth.items():
            click.echo(f"# truth    {name}: {line}")
        for note in (*specimen.notes, *acquisition.notes):
            click.echo(f"# note     {note}")


@main.command()
@click.argument("kind", required=False)
def schema(kind: str | None) -> None:
    """Print the JSON schema of a recipe (for editors), or of one KIND of sample or instrument."""
    with refusing():
        from nanophantom.scenarios import schemas

        document = schemas.scenario() if kind is None else schemas.of_kind(kind)
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))


@main.command()
@click.argument("task", required=False)
def contract(task: str | None) -> None:
    """Print what an algorithm for TASK is given, must return, and how it is scored."""
    with refusing():
        from nanophantom.validation.tasks import find_task, task_names

        for name in [task] if task else task_names():
            found = find_task(name)
            click.echo(f"{name}: {found.title}\n{found.contract}")


@main.command()
@click.argument("recipe_name", metavar="RECIPE")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder to write [./NAME].")
@set_option
@seed_option
@click.option("--count", type=click.IntRange(min=1), help="Make a corpus of this many items.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes [usable cores].")
@click.option("--resume", is_flag=True, help="Finish a run that was stopped.")
@json_option
def run(
    recipe_name: str,
    out: Path | None,
    changes: tuple[str, ...],
    seed: int | None,
    count: int | None,
    workers: int | None,
    resume: bool,
    as_json: bool,
) -> None:
    """Run a recipe: make its dataset, analyse it blind, score it, write report.html."""
    with refusing():
        from nanophantom.scenarios import recipe
        from nanophantom.scenarios import run as runner
        from nanophantom.validation import folder as grade
        from nanophantom.validation import report

        start = time.perf_counter()
        data = recipe.change(recipe.load(recipe_name), changes)
        plan = runner.plan(data, out=out, seed=seed, count=count, resume=resume)
        grade.check_tasks(plan.tasks, plan.acquisition.signals(), plan.truth_names)
        quiet = as_json
        if not quiet:
            click.echo(f"{plan.name}: {plan.summary}", err=True)
            for note in plan.acquisition.notes:
                click.echo(note, err=True)
        try:
            with progress_bars(quiet) as progress:
                runner.make(plan, workers=workers, progress=progress)
                unanswered: list[str] = []
                scores = grade.grade_folder(plan.out, progress=progress, unanswered=unanswered)
                page = report.write(plan.out)
        except KeyboardInterrupt:
            click.echo(f"stopped; {plan.resume_hint}", err=True)
            sys.exit(FAILED)
        except (OSError, MemoryError, RuntimeError):
            click.echo(plan.resume_hint, err=True)
            raise
        for line in unanswered:
            click.echo(line, err=True)
        if as_json:
            click.echo(
                json.dumps(
                    {
                        "dataset": str(plan.out),
                        "scores": grade.plain(scores),
                        "wall_s": round(time.perf_counter() - start, 2),
                        "report": str(page),
                    }
                )
            )
        else:
            _print_scores(scores)
            click.echo(f"dataset  {plan.out}\nreport   {page}")
        if unanswered:
            sys.exit(FAILED)


def _print_scores(scores: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    from nanophantom.validation import folder as grade

    for title, rows in grade.tables(scores):
        table = Table(title=title, title_justify="left")
        for head in ("score", "value", "limit", "n"):
            table.add_column(head, justify="left" if head == "score" else "right")
        for row in rows:
            table.add_row(*row)
        Console().print(table)


@main.command()
@click.argument("folder", metavar="DIR", type=existing_folder)
@click.option(
    "--remake",
    type=click.IntRange(min=0),
    metavar="FRAME",
    help="Make this frame of a dataset again, alone, and compare its bytes.",
)
@json_option
def verify(folder: Path, remake: int | None, as_json: bool) -> None:
    """Check every file of a dataset or corpus against its manifest."""
    with refusing():
        from nanophantom.simcore import store

        problems = store.verify(folder)
        if remake is not None and not problems:
            from nanophantom.scenarios.remake import remake as make_again

            problems = make_again(folder, remake)
        if as_json:
            click.echo(json.dumps({"dataset": str(folder), "problems": problems}))
        elif problems:
            for problem in problems:
                click.echo(problem)
        else:
            again = "" if remake is None else f"; frame {remake}, made again alone, is the same"
            click.echo(f"{folder}: every file is there and unaltered{again}")
        if problems:
            sys.exit(FAILED)


@main.command()
@click.argument("folder", metavar="DIR", type=existing_folder)
@click.option("--with", "algorithm", metavar="MODULE:FUNCTION", help="Grade this function, blind.")
@click.option(
    "--predictions",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Grade a file of estimates: CSV, or localizations of Picasso or ThunderSTORM.",
)
@click.option("--task", help="Grade one task only.")
@json_option
def score(
    folder: Path, algorithm: str | None, predictions: Path | None, task: str | None, as_json: bool
) -> None:
    """Grade an algorithm on a dataset: the default one, your function, or your results.

    A function gets the measured data and the nominal settings, nothing else; "nanophantom
    contract" says what it must return.
    """
    with refusing():
        from nanophantom.validation import folder as grade

        scores = grade.grade_folder(
            folder, algorithm=algorithm, predictions=predictions, only_task=task
        )
        if not any(scores.values()):
            raise ValueError(f"{folder}: its recipe names no task; choose one with --task")
        if as_json:
            click.echo(json.dumps({"dataset": str(folder), "scores": grade.plain(scores)}))
        else:
            _print_scores(scores)


@main.command()
@click.argument("folder", metavar="DIR", type=existing_folder)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Page to write.")
def report(folder: Path, out: Path | None) -> None:
    """Write one self-contained HTML page about a dataset."""
    with refusing():
        from nanophantom.validation import report as page

        click.echo(page.write(folder, out))


@main.command()
@click.argument("folder", metavar="DIR", type=existing_folder)
@click.option(
    "--to",
    "format_",
    required=True,
    metavar="FORMAT",
    help="tiff, ome-tiff, mrc, csv, gwy, gsf, picasso or thunderstorm.",
)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder [DIR/export].")
@json_option
def export(folder: Path, format_: str, out: Path | None, as_json: bool) -> None:
    """Write files for other programs.

    Images as TIFF, OME-TIFF, MRC or Gwyddion files (gwy, gsf), movies and true localizations for
    Picasso or ThunderSTORM, truth tables as CSV.
    """
    with refusing():
        from nanophantom.simcore.export import export as write
        from nanophantom.simcore.store import Dataset

        files = write(Dataset(folder), format_, out or folder / "export")
        click.echo(json.dumps([str(f) for f in files]) if as_json else "\n".join(map(str, files)))


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--task", default="atomic-columns", show_default=True, help="What to look for.")
@click.option(
    "--pixel-size", metavar="QUANTITY", help='e.g. "0.02 nm"; read from the file if it says.'
)
@click.option(
    "--settings",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML of what else you know (localization: psf_sigma_nm, camera).",
)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="CSV to write [FILE.TASK.csv].")
@json_option
def analyse(
    file: Path,
    task: str,
    pixel_size: str | None,
    settings: Path | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Run the analysis layer on an image of your own; writes a table and an overlay picture."""
    with refusing():
        from nanophantom.validation import own_image

        result = own_image.analyse(file, task, pixel_size, out, settings)
        if as_json:
            click.echo(json.dumps(result))
        else:
            click.echo(f"{result['n']} found\n{result['table']}\n{result['overlay']}")


main.add_command(cli_training.train)
main.add_command(cli_training.benchmark)

if __name__ == "__main__":
    main()
