"""Figures of any dataset of images: what was measured, and the truth behind it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from nanophantom.validation.drawing import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PINK,
    RED,
    SKY,
    Floats,
    Plate,
    gallery,
    grey_scale,
    map_axes,
    micrograph,
    plot,
    plots,
)
from nanophantom.validation.force_figures import is_force_volume, of_force_volume, picture
from nanophantom.validation.height_figures import is_heights, of_heights
from nanophantom.validation.movie_figures import is_movie, of_movie
from nanophantom.validation.part_of import microscopes, part_of
from nanophantom.validation.pattern_figures import is_patterns, of_patterns

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed

ELEMENT_COLOURS = (ORANGE, BLUE, RED, GREEN, PINK, SKY)
"""From the heaviest element to the lightest."""
SIGNALS_APART = 3
"""More signals than this are shown side by side in one figure."""
FRAMES_AVERAGED = 200
"""At most so many frames go into the average that the report shows."""


def of_dataset(dataset: Observed) -> list[Plate]:
    """Draw what any dataset of images has: data, noise-free truth, drift, dose, atoms.

    Of several microscopes one after the other, each figure's title opening with its microscope.
    """
    parts = microscopes(dataset)
    if parts:
        return [
            replace(plate, title=f"{name} — {plate.title}")
            for name in parts
            for plate in of_dataset(part_of(dataset, name))
        ]
    if is_movie(dataset):
        return of_movie(dataset)
    if is_patterns(dataset):
        return of_patterns(dataset)
    if is_heights(dataset):
        return of_heights(dataset)
    if is_force_volume(dataset):
        return of_force_volume(dataset)
    plates = [*_frames(dataset)]
    tables = dataset.truth_tables
    if "noise_free" in tables:
        plates.append(_noise_free(dataset))
    if "atoms" in tables and len(dataset.truth("atoms")["number"]):
        plates.append(_atoms(dataset))
    if "dyes" in tables and len(dataset.truth("dyes")["x_nm"]):
        plates.append(_dyes(dataset))
    if "drift" in tables and np.ptp(drift_of(dataset), axis=0).any():
        plates.append(_drift_plot(dataset))
    if "dose" in tables and dataset.n_frames > 1:
        plates.append(_dose(dataset))
    return plates


def thumbnail(dataset: Observed, size_inch: float = 1.4) -> Figure:
    """Return a small picture of a dataset's first frame (or its noise-free image).

    Of several microscopes, that of the first.
    """
    parts = microscopes(dataset)
    if parts:
        return thumbnail(part_of(dataset, parts[0]), size_inch)
    if "noise_free" in dataset.truth_tables:
        image = next(iter(dataset.truth("noise_free").values()))
    elif is_force_volume(dataset):
        image = picture(dataset)
    else:
        image = dataset.signal(dataset.signals[0], 0, 1)[0]
    if is_patterns(dataset):
        return micrograph(np.log1p(image), None, width_inch=size_inch, bar=False)[0]
    return micrograph(image, pixel_size_of(dataset), width_inch=size_inch, bar=False)[0]


def _frames(dataset: Observed) -> list[Plate]:
    """Draw the first frame of every signal that is an image, and the average of all frames."""
    plates = []
    pixel_size_nm = pixel_size_of(dataset)
    if len(dataset.signals) > SIGNALS_APART:
        return [_all_signals(dataset)]
    for name in dataset.signals:
        frame = dataset.signal(name, 0, 1)[0]
        if frame.ndim != 2:
            continue
        figure, low, high = micrograph(frame, pixel_size_nm)
        of_signal = f" ({name})" if len(dataset.signals) > 1 else ""
        number = f"Frame 0 of {dataset.n_frames}" if dataset.n_frames > 1 else "The frame"
        grain = (
            f"The grain is shot noise: {_quanta(dataset)} arrive by chance, one by one."
            if frame.dtype.kind in "iu"
            else f"Single {_quanta(dataset)} weren't counted: this is the expectation, without "
            "shot noise."
        )
        caption = (
            f"{number} as the detector gave it: mean {frame.mean():.3g} counts a pixel. {grain} "
            f"{grey_scale(low, high)}"
        )
        plates.append(Plate(f"Measured frame{of_signal}", caption, figure, raster=True))
        if dataset.n_frames == 1 or "drift" not in dataset.truth_tables or not _alike(dataset):
            continue
        mean, used = average(dataset, name)
        figure, low, high = micrograph(mean, pixel_size_nm)
        which = "All" if used == dataset.n_frames else f"The first {used} of"
        caption = (
            f"{which} {dataset.n_frames} frames, moved back by the true drift (to whole pixels) "
            f"and averaged: what a perfect drift correction would make of the data. "
            f"{grey_scale(low, high)}"
        )
        plates.append(Plate(f"Aligned average{of_signal}", caption, figure, raster=True))
    return plates


def _quanta(dataset: Observed) -> str:
    """Return what the images are made of."""
    return "photons" if "dyes" in dataset.truth_tables else "electrons"


def _all_signals(dataset: Observed) -> Plate:
    """Draw the first frame of every signal that is an image, side by side."""
    frames = {name: dataset.signal(name, 0, 1)[0] for name in dataset.signals}
    images = {name: frame for name, frame in frames.items() if frame.ndim == 2}
    figure, _ = gallery(images, pixel_size_of(dataset))
    caption = (
        f"Frame 0 of {dataset.n_frames} as each of the {len(images)} signals gave it. The grain is "
        f"shot noise: {_quanta(dataset)} arrive by chance, one by one. Black and white are each "
        "image's own."
    )
    return Plate("Measured signals", caption, figure, raster=True, wide=True)


def _alike(dataset: Observed) -> bool:
    """Say whether all frames are taken at the same focus and tilt, so that a mean makes sense."""
    foci = dataset.settings.get("defoci_nm") or (0.0,)
    tilts = dataset.settings.get("beam_tilts_mrad") or ((0.0, 0.0),)
    return len(set(foci)) == 1 and len({tuple(tilt) for tilt in tilts}) == 1


def average(dataset: Observed, signal: str) -> tuple[npt.NDArray[np.float32], int]:
    """Average frames in the coordinates of frame 0, moved by the true drift in whole pixels.

    Returns
    -------
    image : array (ny, nx)
        Mean counts a pixel; pixels that no frame shows hold the mean of the others.
    used : int
        Number of frames in it.
    """
    used = min(dataset.n_frames, FRAMES_AVERAGED)
    drift_nm = drift_of(dataset)
    steps = np.rint((drift_nm - drift_nm[0]) / pixel_size_of(dataset)).astype(int)
    shape = dataset.signal(signal, 0, 1).shape[1:]
    total, seen = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for i in range(used):
        (to_x, from_x), (to_y, from_y) = (_overlap(int(step)) for step in steps[i])
        frame = dataset.signal(signal, i, i + 1)[0]
        total[to_y, to_x] += frame[from_y, from_x]
        seen[to_y, to_x] += 1
    mean = np.divide(total, seen, out=np.zeros_like(total), where=seen > 0)
    mean[seen == 0] = mean[seen > 0].mean()
    return mean, used


def _overlap(step: int) -> tuple[slice, slice]:
    """Return where pixels go, and where they come from, to undo a shift of whole pixels."""
    if step >= 0:
        return slice(None, -step or None), slice(step, None)
    return slice(-step, None), slice(None, step)


def _noise_free(dataset: Observed) -> Plate:
    images = dataset.truth("noise_free")
    if len(images) > 1:
        figure, _ = gallery(images, pixel_size_of(dataset))
        caption = (
            "The truth behind the frames: what every signal would be without shot noise and "
            "without drift. No experiment shows these images. Black and white are each image's "
            f"own.{_intensity_budget(dataset)}"
        )
        return Plate("Noise-free signals", caption, figure, raster=True, wide=True)
    image = next(iter(images.values()))
    figure, low, high = micrograph(image, pixel_size_of(dataset))
    caption = (
        "The truth behind the frames: the expected counts without shot noise and without drift. "
        f"No experiment shows this image. {grey_scale(low, high)}{_intensity_budget(dataset)}"
    )
    return Plate("Noise-free image", caption, figure, raster=True)


def _intensity_budget(dataset: Observed) -> str:
    """Say where the beam's intensity went, if the instrument kept account of it."""
    if "intensity" not in dataset.truth_tables:
        return ""
    budget = dataset.truth("intensity")
    kept, lost = (100 * float(np.mean(budget[name])) for name in ("kept", "lost_at_band_limit"))
    story = (
        f" Of the beam, {lost:.2f} % was scattered beyond the band limit of the simulation and is "
        f"lost; {kept:.2f} % left the specimen inside it"
    )
    if "stopped_by_aperture" not in budget:
        return f"{story}."
    stopped = 100 * float(np.mean(budget["stopped_by_aperture"]))
    return f"{story}; the aperture then stopped {stopped:.2f} %."


def _atoms(dataset: Observed) -> Plate:
    from ase.data import chemical_symbols

    atoms = dataset.truth("atoms")
    number = np.asarray(atoms["number"])
    ny, nx = frame_shape(dataset)
    pixel_size_nm = pixel_size_of(dataset)
    figure, axes = plot(5.4, 5.4 * max(0.4, min(1.4, ny / nx)))
    map_axes(axes, nx * pixel_size_nm, ny * pixel_size_nm)
    points_per_nm = 5.4 * 72 * 0.78 / (nx * pixel_size_nm)
    elements = np.unique(number)[::-1]
    for i, element in enumerate(elements.tolist()):
        mine = number == element
        axes.plot(
            atoms["x_nm"][mine],
            atoms["y_nm"][mine],
            "o",
            markersize=max(0.7, (0.16 if i == 0 else 0.11) * points_per_nm),
            markeredgewidth=0,
            color=ELEMENT_COLOURS[i % len(ELEMENT_COLOURS)],
            label=f"{chemical_symbols[element]} ({mine.sum():,})",
            zorder=10 - i,
            rasterized=True,
        )
    legend = axes.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=min(3, len(elements)),
        columnspacing=1.2,
        handletextpad=0.3,
        frameon=False,
    )
    for handle in legend.legend_handles:
        handle.set_markersize(7)
    caption = (
        f"The specimen seen along the beam: {len(number):,} atoms in and around the view. Where "
        "atoms stand behind each other they form the columns that the image shows."
    )
    return Plate("Atoms (truth)", caption, figure)


def _dyes(dataset: Observed) -> Plate:
    dyes = dataset.truth("dyes")
    image = dataset.signal(dataset.signals[0], 0, 1)[0]
    figure, _, _ = micrograph(image, pixel_size_of(dataset))
    axes = figure.axes[0]
    limits = axes.get_xlim(), axes.get_ylim()
    x, y = np.asarray(dyes["x_nm"]), np.asarray(dyes["y_nm"])
    axes.plot(x, y, ".", color=GREEN, markersize=3, markeredgewidth=0, rasterized=True)
    axes.set_xlim(*limits[0])
    axes.set_ylim(*limits[1])
    low_x, high_x, low_y, high_y = min(limits[0]), max(limits[0]), min(limits[1]), max(limits[1])
    inside = (x > low_x) & (x < high_x) & (y > low_y) & (y < high_y)
    caption = (
        f"The first frame with the places of the dyes: {inside.sum():,} in view (green), of all "
        "heights. What lies closer than a spot is wide, the image can't separate."
    )
    return Plate("Dyes (truth)", caption, figure, raster=True)


def _drift_plot(dataset: Observed) -> Plate:
    frames = dataset.truth("drift")
    path = dataset.truth("drift_path" if "drift_path" in dataset.truth_tables else "drift")
    figure, (time, plane) = plots(10.4, 3.6, 2)
    for name, colour, symbol, marker in (
        ("dx_nm", BLUE, "x, right", "o"),
        ("dy_nm", RED, "y, down", "s"),
    ):
        time.plot(path["t_s"], path[name], color=colour, linewidth=1)
        time.plot(frames["t_s"], frames[name], marker, color=colour, markersize=4, label=symbol)
    time.set_xlabel("time (s)")
    time.set_ylabel("displacement (nm)")
    time.legend(frameon=False)
    plane.plot(path["dx_nm"], path["dy_nm"], color=INK, linewidth=0.8, alpha=0.7)
    plane.plot(frames["dx_nm"], frames["dy_nm"], "o", color=BLUE, markersize=4, label="frames")
    plane.plot(frames["dx_nm"][:1], frames["dy_nm"][:1], "D", color=ORANGE, label="frame 0")
    plane.set_aspect("equal", adjustable="datalim")
    plane.invert_yaxis()
    plane.set_xlabel("x (nm)")
    plane.set_ylabel("y (nm), down")
    plane.legend(frameon=False)
    reach_nm = float(np.hypot(*(drift_of(dataset) - drift_of(dataset)[0]).T).max())
    caption = (
        "How the specimen moved under the beam while the frames were taken: against time (left) "
        "and as a path (right). Markers are the mean positions during each exposure; frames lie up "
        f"to {reach_nm:.2g} nm apart from the first."
    )
    return Plate("Drift (truth)", caption, figure, wide=True)


def _dose(dataset: Observed) -> Plate:
    dose = dataset.truth("dose")
    figure, axes = plot(5.4, 3.4)
    frame, total = np.asarray(dose["frame"]), np.asarray(dose["cumulative_e_per_A2"])
    axes.fill_between(frame, total, step="mid", color=BLUE, alpha=0.25, linewidth=0)
    axes.step(frame, total, where="mid", color=BLUE)
    axes.set_ylim(0, None)
    axes.set_xlabel("frame")
    axes.set_ylabel("dose so far (e/Å²)")
    each = np.asarray(dose["dose_e_per_A2"])
    caption = (
        f"Electrons that went through each Å² of the specimen: {each.mean():.3g} e/Å² a frame on "
        f"average, {total[-1]:.4g} e/Å² in all. More dose means less noise, and more damage."
    )
    return Plate("Dose", caption, figure)


def drift_of(dataset: Observed) -> Floats:
    """Return the mean displacement of each frame, shape (frames, 2), (x, y) in nm."""
    drift = dataset.truth("drift")
    return np.column_stack([drift["dx_nm"], drift["dy_nm"]]).astype(np.float64)


def frame_shape(dataset: Observed) -> tuple[int, int]:
    """Return rows and columns of the first signal's frames."""
    shape = dataset.signal(dataset.signals[0], 0, 1).shape
    return int(shape[-2]), int(shape[-1])


def pixel_size_of(dataset: Observed) -> float:
    """Return the nominal distance of pixels."""
    return float(dataset.settings["pixel_size_nm"])
