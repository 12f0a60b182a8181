"""One self-contained HTML page about a dataset or a corpus: no script, no network."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

from nanophantom.simcore.store import Corpus, Dataset, is_corpus
from nanophantom.simcore.store.files import require_folder, write_whole
from nanophantom.simcore.store.layout import read_recipe
from nanophantom.validation import figures
from nanophantom.validation.drawing import BLUE, INK, Plate
from nanophantom.validation.force_figures import is_force_volume
from nanophantom.validation.grade import read_estimates, read_scores
from nanophantom.validation.part_of import microscopes, part_of
from nanophantom.validation.settings_in_words import settings_in_words
from nanophantom.validation.task import Score, Scores
from nanophantom.validation.tasks import find_task

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed

PAGE = "report.html"
DOTS_PER_INCH = 150
MANY_GROUPS = 3
"""With more parts of the specimen than this, limits and n have no columns of their own."""
TARGETS = ("coverage", "crlb_ratio")
"""Scores whose names open so have a target instead of a limit."""
THUMBNAILS = 100
"""A corpus page shows pictures of at most so many items."""

_LABELS = {"f1": "F1", "rmse": "Error (RMSE)"}
# Text stays text in the plots, in the page's own font.
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10.5,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def write(folder: Path | str, out: Path | str | None = None) -> Path:
    """Write the page of a dataset or a corpus and return its path.

    Raises
    ------
    ValueError
        The folder is neither or isn't complete, or the page's own folder isn't there.
    """
    if out is not None:
        require_folder(Path(out))
    if is_corpus(folder):
        made = [Dataset(item) for item in Corpus(folder).items if item.exists()]
        return write_corpus_report(made, folder, out)
    return write_report(Dataset(folder), out)


def write_report(dataset: Dataset, out: Path | str | None = None) -> Path:
    """Write the page of one dataset with all gradings that are kept beside it.

    Parameters
    ----------
    dataset
        A complete dataset.
    out
        File to write; ``report.html`` in the dataset's folder if not given.
    """
    if not dataset.complete:
        raise ValueError(f"{dataset.path} isn't complete; finish it with --resume first")
    with mpl.rc_context(_STYLE):
        gradings = [
            _grading(dataset, label, scores) for label, scores in read_scores(dataset).items()
        ]
        plates = _html_of(figures.of_dataset(dataset), "data")
    story = _provenance(dataset)
    page = _template("report.html.j2").render(
        title=dataset.recipe.get("title") or dataset.recipe.get("name") or dataset.path.name,
        name=dataset.recipe.get("name", dataset.path.name),
        description=dataset.recipe.get("description", ""),
        shape=_shape_in_words(dataset),
        gradings=gradings,
        plates=plates,
        settings=settings_in_words(dataset.settings),
        notes=story.pop("notes", []),
        provenance=_flat({"seed": dataset.recipe.get("seed"), **story}),
        recipe=read_recipe(dataset.path),
    )
    return _written(page, Path(out) if out is not None else dataset.path / PAGE)


def write_corpus_report(
    items: Sequence[Dataset], folder: Path | str, out: Path | str | None = None
) -> Path:
    """Write one page about a corpus: a line of scores and a small picture for every item.

    Parameters
    ----------
    items
        The corpus's datasets.
    folder
        The corpus's folder, to which links to the items' own pages are relative.
    out
        File to write; ``report.html`` in the corpus's folder if not given.
    """
    folder = Path(folder)
    graded = [read_scores(item) for item in items]
    with mpl.rc_context(_STYLE):
        pictures = [
            _png(figures.thumbnail(item)) if item.complete else "" for item in items[:THUMBNAILS]
        ]
    pictures += [""] * (len(items) - len(pictures))
    recipe_file = folder / "recipe.yaml"
    recipe = items[0].recipe if items else {}
    page = _template("corpus.html.j2").render(
        title=recipe.get("title") or folder.name,
        name=folder.name,
        description=recipe.get("description", ""),
        tables=_corpus_tables(items, graded, pictures, folder),
        n_items=len(items),
        recipe=recipe_file.read_text(encoding="utf-8") if recipe_file.exists() else "",
    )
    return _written(page, Path(out) if out is not None else folder / PAGE)


# --- what stands on the page -------------------------------------------------------------------


def _grading(dataset: Dataset, label: str, scores: Scores) -> dict[str, Any]:
    """Return one grading as the template wants it, with its figures."""
    task = find_task(scores.task)
    plates = task.figures(dataset, read_estimates(dataset, label), scores)
    groups = tuple(dict.fromkeys(score.group for score in scores if score.group is not None))
    by_key = {score.key: score for score in scores}
    first: dict[str, Score] = {}
    for score in scores:  # a score may be there for parts of the specimen only
        if score.name not in first or score.group is None:
            first[score.name] = score
    rows = [
        {
            "name": _label(name),
            "hint": score.hint,
            "whole": _cell(by_key.get(name)),
            "parts": [_cell(by_key.get(f"{name}.{group}")) for group in groups],
        }
        for name, score in first.items()
    ]
    return {
        "title": task.title,
        "algorithm": scores.algorithm,
        "own": scores.algorithm != task.default_algorithm,
        "contract": task.contract,
        "groups": groups,
        "whole": any(score.group is None for score in scores),
        "many": len(groups) > MANY_GROUPS,
        "rows": rows,
        "notes": scores.notes,
        "plates": _html_of(plates, label),
        "anchor": re.sub(r"[^A-Za-z0-9]+", "-", label),
    }


def _label(name: str) -> str:
    """Return a score's name in words: ``within_one`` is "Within one"."""
    return _LABELS.get(name, name.replace("_", " ").capitalize())


def _cell(score: Score | None) -> dict[str, str]:
    """Return value, limit, their ratio and n as text; empty where a group has no such score.

    "best" is the limit with its word before it. What a score should be, neither more nor less, is a
    target: no ratio.
    """
    if score is None:
        return {"value": "", "limit": "", "best": "", "ratio": "", "n": ""}
    target = score.name.startswith(TARGETS)
    limited = score.value is not None and score.limit and not target
    limit = _number(score.limit, score.unit) if score.limit is not None else ""
    best = f"{'target' if target else 'limit'} {limit}" if limit else ""
    return {
        "value": _number(score.value, score.unit),
        "limit": best if target else limit,
        "best": best,
        "ratio": f"{score.value / score.limit:.2f} × limit" if limited else "",  # type: ignore[operator]
        "n": f"{score.n:,}",
    }


def _number(value: float | None, unit: str = "") -> str:
    """Return three significant digits with the unit; what isn't quite 1 doesn't read as 1."""
    if value is None:
        return "–"
    if not unit and 0.9995 <= value < 1:
        return "> 0.999"
    return f"{f'{value:#.3g}'.rstrip('.')} {unit}".rstrip()


def _shape_in_words(dataset: Observed) -> str:
    """Return how many frames of what size, in a sentence's words; of every microscope."""
    parts = microscopes(dataset)
    if parts:
        return "; ".join(f"{name}: {_shape_in_words(part_of(dataset, name))}" for name in parts)
    name = dataset.signals[0]
    ny, nx = dataset.signal(name, 0, 1).shape[-2:]
    if is_force_volume(dataset):
        step_nm = dataset.settings["pixel_size_nm"]
        size = f"{ny * step_nm:.4g} nm × {dataset.n_frames * step_nm:.4g} nm"
        return f"force curves on {ny} × {dataset.n_frames} points, {size}, of {nx} samples each way"
    frames = "one frame" if dataset.n_frames == 1 else f"{dataset.n_frames} frames"
    pixel_size_nm = dataset.settings.get("pixel_size_nm")
    step_y_nm = dataset.settings.get("pixel_size_y_nm", pixel_size_nm)
    size = f", {_length(nx * pixel_size_nm)} × {_length(ny * step_y_nm)}" if pixel_size_nm else ""
    return f"{frames} of {nx} × {ny} pixels{size}"


def _length(nm: float) -> str:
    return f"{nm:.3g} nm" if nm < 1000 else f"{nm / 1000:.3g} µm"


def _provenance(dataset: Dataset) -> dict[str, Any]:
    path = dataset.path / "provenance.json"
    try:
        story: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {}
    except (OSError, ValueError) as problem:
        raise ValueError(
            f"{path} is damaged; remove it, and the page goes without what it told"
        ) from problem
    return story


def _flat(data: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested names as rows: ``{"versions": {"numpy": "2"}}`` is ("numpy", "2")."""
    rows: list[tuple[str, str]] = []
    for name, value in data.items():
        if isinstance(value, Mapping):
            rows += _flat(value, prefix=f"{name} ")
        else:
            rows.append((f"{prefix}{name}".replace("_", " "), str(value)))
    return rows


def _corpus_tables(
    items: Sequence[Dataset],
    graded: Sequence[Mapping[str, Scores]],
    pictures: Sequence[str],
    folder: Path,
) -> list[dict[str, Any]]:
    """Return one table for each grading that any item has; one row an item, then the mean."""
    tables = []
    for label in dict.fromkeys(name for gradings in graded for name in gradings):
        of_items = [gradings.get(label) for gradings in graded]
        known = [scores for scores in of_items if scores is not None]
        whole = {s.name for s in known[0] if s.group is None}
        keys = [s.key for s in known[0] if s.group is None or s.name not in whole]
        unit = {s.key: s.unit for s in known[0]}
        columns = {
            key: [None if scores is None else scores.values().get(key) for scores in of_items]
            for key in keys
        }
        rows = [
            {
                "name": item.path.name,
                "link": _page_of(item, folder),
                "picture": pictures[i],
                "cells": [_number(columns[key][i]) for key in keys],
            }
            for i, item in enumerate(items)
        ]
        tables.append(
            {
                "title": find_task(known[0].task).title,
                "algorithm": known[0].algorithm,
                "heads": [(_label(key), unit[key]) for key in keys],
                "rows": rows,
                "mean": [_mean(columns[key]) for key in keys],
            }
        )
    if tables:
        return tables
    rows = [
        {
            "name": item.path.name,
            "link": _page_of(item, folder),
            "picture": pictures[i],
            "cells": [],
        }
        for i, item in enumerate(items)
    ]
    return [{"title": "Items", "algorithm": "", "heads": [], "rows": rows, "mean": []}]


def _page_of(item: Dataset, folder: Path) -> str:
    """Return the link to an item's own page, if it has one."""
    if not (item.path / PAGE).exists() or not item.path.is_relative_to(folder):
        return ""
    return (item.path / PAGE).relative_to(folder).as_posix()


def _mean(values: Sequence[float | None]) -> tuple[str, str]:
    """Return mean and standard deviation of the values that are defined."""
    known = [value for value in values if value is not None]
    if not known:
        return "–", ""
    return _number(float(np.mean(known))), f"± {np.std(known, ddof=1):.2g}" if len(
        known
    ) > 1 else ""


# --- figures into the page ---------------------------------------------------------------------


def _html_of(plates: Sequence[Plate], section: str) -> list[dict[str, Any]]:
    """Return the plates of a section with their figures as pieces of HTML."""
    pieces = []
    for i, plate in enumerate(plates):
        label = html.escape(f"{plate.title}. {plate.caption}")
        if plate.raster:
            picture = f'<img alt="{label}" src="{_png(plate.figure)}">'
        else:
            picture = _svg(plate.figure, label, salt=f"{section} {i}")
        pieces.append(
            {"title": plate.title, "caption": plate.caption, "html": picture, "wide": plate.wide}
        )
    return pieces


def _png(figure: Figure) -> str:
    """Return a figure as a data URI: a PNG of at most 256 colours."""
    figure.set_dpi(DOTS_PER_INCH)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    out = io.BytesIO()
    picture.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
        out, "PNG", optimize=False
    )
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def _svg(figure: Figure, label: str, salt: str) -> str:
    """Return a figure as SVG to stand in the page: its colours of text, its fonts, no links.

    Ids inside are hashes of contents and salt: equal plots give equal bytes, and no two figures
    of a page share an id if each has its own salt.
    """
    out = io.StringIO()
    figure.set_dpi(DOTS_PER_INCH)  # of rasterized parts
    canvas: Any = FigureCanvasSVG(figure)
    with mpl.rc_context({"svg.hashsalt": salt}):
        canvas.print_svg(out, metadata={"Date": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'(<g) id="[^"]*"', r"\1", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = svg.replace(INK, "currentColor").replace(BLUE.lower(), "var(--accent)")
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1; font-family: inherit", svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1).rstrip()


def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("nanophantom.validation", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(name)


def _written(page: str, path: Path) -> Path:
    write_whole(path, page.encode())
    return path
