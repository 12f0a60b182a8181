"""What all verbs of the command line share: options, refusals, progress bars."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from nanophantom.scenarios.parts import Progress

WRONG_REQUEST, FAILED = 2, 1

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
set_option = click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="PATH=VALUE",
    help='Change one field, e.g. instrument.optics.defocus_nm=-8 (or ="-80 Å").',
)
seed_option = click.option("--seed", type=click.IntRange(min=0), help="Root seed.")
existing_folder = click.Path(exists=True, file_okay=False, path_type=Path)


@contextmanager
def refusing() -> Iterator[None]:
    """Turn a refusal into lines on stderr and exit code 2; a failure of the system into 1."""
    try:
        yield
    except ValueError as problem:
        for line in str(problem).splitlines():
            click.echo(f"error: {line}", err=True)
        sys.exit(WRONG_REQUEST)
    except OSError as problem:
        where = f" ({problem.filename})" if problem.filename else ""
        click.echo(f"failed: {problem.strerror or problem}{where}", err=True)
        sys.exit(FAILED)
    except (MemoryError, RuntimeError) as problem:
        click.echo(f"failed: {problem or type(problem).__name__}", err=True)
        sys.exit(FAILED)


@contextmanager
def progress_bars(quiet: bool) -> Iterator[Progress]:
    """Yield a callback ``(what, done, total)`` that draws bars with rate and time left."""
    if quiet:
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    bars = Progress(
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    with bars:
        known: dict[str, Any] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in known:
                known[what] = bars.add_task(what, total=total, rate="")
            task = next(t for t in bars.tasks if t.id == known[what])
            speed = done / task.elapsed if task.elapsed else 0.0
            bars.update(known[what], completed=done, total=total, rate=f"{speed:5.2f}/s")

        yield tell
