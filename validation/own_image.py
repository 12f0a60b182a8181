"""The analysis layer on a person's own image: a table and an overlay picture, no truth."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from matplotlib.figure import Figure

from nanophantom.analysis.images import read_image
from nanophantom.simcore import units
from nanophantom.simcore.fields import Axis, Field, Measured
from nanophantom.simcore.store.files import require_folder, write_whole
from nanophantom.validation.grade import as_csv
from nanophantom.validation.tasks import find_task


def analyse(
    file: Path,
    task_name: str,
    pixel_size: str | None = None,
    out: Path | None = None,
    settings_file: Path | None = None,
) -> dict[str, Any]:
    """Run a task's own algorithm on an image file.

    Parameters
    ----------
    file
        TIFF, MRC, PNG, JPEG or NumPy file: an image or a stack of frames.
    task_name
        What to look for.
    pixel_size
        A length ("0.02 nm"); the file's own calibration serves if it has one.
    out
        CSV to write (``.csv``); beside the image by default. The overlay is a PNG of the same name.
    settings_file
        YAML of what else the operator knows, for tasks that need it: a localization wants
        psf_sigma_nm and camera.

    Returns
    -------
    dict
        ``n`` found, and the paths of ``table`` and ``overlay``.

    Raises
    ------
    ValueError
        Unknown task, unreadable image, no pixel size, a name that isn't one of a CSV, a folder
        that isn't there, or a file that exists already.
    """
    task = find_task(task_name)
    if len(task.inputs) != 1:
        raise ValueError(
            f"task {task_name} needs several signals of one scan; an image file holds one"
        )
    image, calibrated_nm = read_image(file)
    table = file.with_name(f"{file.stem}.{task_name}.csv") if out is None else out
    if table.suffix.lower() != ".csv":
        raise ValueError(f"-o names the table, which ends in .csv; {table} doesn't")
    overlay = table.with_suffix(".png")
    require_folder(table)
    for path in (table, overlay):
        if path.exists():
            raise ValueError(f"{path} exists; move it, or name another file with -o")
    if pixel_size is not None:
        step_nm = units.parse(pixel_size, "pixel_size_nm")
        if not step_nm > 0:
            raise ValueError(f"--pixel-size: {pixel_size!r} is not above zero")
    elif calibrated_nm is not None:
        step_nm = calibrated_nm
    else:
        raise ValueError(f'{file} says no pixel size; give it: --pixel-size "0.02 nm"')
    stack = image if image.ndim == 3 else image[None]
    axes = (Axis("frame", 1.0, ""), Axis("y", step_nm, "nm"), Axis("x", step_nm, "nm"))
    settings = {**_settings(settings_file), "pixel_size_nm": step_nm}
    measured = Measured({task.inputs[0]: Field(stack, axes, "counts")}, settings)
    found = task.answer(measured)
    write_whole(overlay, _overlay(stack[0], found, step_nm))
    write_whole(table, as_csv(found).encode())
    return {"n": len(next(iter(found.values()))), "table": str(table), "overlay": str(overlay)}


def _settings(file: Path | None) -> dict[str, Any]:
    """Read what an operator knows from a YAML file."""
    if file is None:
        return {}
    try:
        told = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as problem:
        reason = str(problem).splitlines()[0]
        raise ValueError(f"--settings: {file} can't be read: {reason}") from None
    if not isinstance(told, dict):
        raise ValueError(f"--settings: {file} holds no settings (psf_sigma_nm: 130, say)")
    return told


def _overlay(image: Any, found: Any, step_nm: float) -> bytes:
    """Draw the first frame with a ring around every position found in it."""
    here = np.asarray(found["frame"]) == 0 if "frame" in found else slice(None)
    x_nm, y_nm = np.asarray(found["x_nm"])[here], np.asarray(found["y_nm"])[here]
    ny, nx = image.shape
    extent = (-0.5 * step_nm, (nx - 0.5) * step_nm, (ny - 0.5) * step_nm, -0.5 * step_nm)
    figure = Figure(figsize=(9.0, 9.0 * ny / nx + 0.6), layout="constrained")
    axes = figure.add_subplot()
    low, high = np.percentile(image, (0.5, 99.5))
    axes.imshow(image, cmap="gray", extent=extent, vmin=low, vmax=max(high, low + 1e-12))
    axes.plot(x_nm, y_nm, "o", mfc="none", mec="#e69f00", ms=6, mew=0.9)
    axes.set(xlabel="x (nm)", ylabel="y (nm)", title=f"{len(x_nm)} found")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    return content.getvalue()
