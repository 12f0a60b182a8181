"""Verbs about learned analysers: train one, and hold it against the classical way."""

from __future__ import annotations

import json
from pathlib import Path

import click

from nanophantom.cli_common import json_option, progress_bars, refusing, seed_option


@click.command()
@click.argument("analyser", type=click.Choice(["columns"]))
@click.option(
    "-o", "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File."
)
@click.option("--steps", type=click.IntRange(min=1), help="Batches to learn from.")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=20.0,
    show_default=True,
    help="Stop learning after so much processor time of the learner.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that make examples, beside the one that learns.",
)
@seed_option
@json_option
def train(
    analyser: str,
    out: Path,
    steps: int | None,
    minutes: float,
    workers: int,
    seed: int | None,
    as_json: bool,
) -> None:
    """Train ANALYSER on examples that are made while it learns; needs PyTorch (extra [ml])."""
    with refusing():
        from nanophantom.validation.training import train as training

        with progress_bars(as_json) as tell:
            network = training.train(
                out,
                seed=training.SEED if seed is None else seed,
                steps=steps or training.STEPS,
                minutes=minutes,
                workers=workers,
                tell=tell,
            )
        if as_json:
            click.echo(json.dumps({"weights": str(out), "recipe": dict(network.recipe)}))
        else:
            click.echo(f"{out}: {network.recipe['steps']} steps, {network.recipe['seconds']}")


@click.command()
@click.argument("suite", type=click.Choice(["columns"]))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder.")
@click.option(
    "--weights",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A network of your own [the packaged one].",
)
@click.option("--images", type=click.IntRange(min=1), help="Specimens of each group.")
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True)
@seed_option
@json_option
def benchmark(
    suite: str,
    out: Path,
    weights: Path | None,
    images: int | None,
    workers: int,
    seed: int | None,
    as_json: bool,
) -> None:
    """Grade the learned and the classical finder of SUITE on the same images, against dose."""
    with refusing():
        from nanophantom.analysis import learned_columns
        from nanophantom.validation.training import curve

        network = learned_columns.load(weights or learned_columns.WEIGHTS)
        with progress_bars(as_json) as tell:
            results = curve.measure(
                network,
                images=images or curve.IMAGES,
                seed=curve.SEED if seed is None else seed,
                workers=workers,
                tell=tell,
            )
        files = curve.write(results, network, out)
        if as_json:
            click.echo(json.dumps([str(f) for f in files]))
        else:
            click.echo(curve.text(results))
            click.echo("\n".join(map(str, files)))
