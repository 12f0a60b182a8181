"""From what several light microscopes recorded to one image each of the same structure.

Images of a camera or a scanner are taken as they are, less the camera's offset; a camera's is
deconvolved as well (`richardson_lucy`). Nine raw images under stripes are joined
(`sim_reconstruction`), and a movie of blinking molecules is localized, freed of drift, linked and
rendered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.special

from nanophantom.analysis.localize import CameraSettings
from nanophantom.analysis.pore_map import bursts
from nanophantom.analysis.rendering import Frame, gaussian_image
from nanophantom.analysis.richardson_lucy import richardson_lucy
from nanophantom.analysis.sim_reconstruction import reconstruct

Floats = npt.NDArray[np.float64]
Columns = dict[str, npt.NDArray[Any]]

MOST_STEPS = 200
"""Of Richardson and Lucy's deconvolution; held-out counts tell how many are taken."""
FINEST_NM = 8.0
"""Pixel of rendered localizations: some standard errors of one."""
FINER = 9
"""Samples of a spot along a pixel, over which it is averaged."""
BORDER_PX = 2
"""Width of the frame of pixels that tell the background: structures lie inside."""


def find(signals: Mapping[str, Any], settings: Mapping[str, Any]) -> Columns:
    """Make an image of what each microscope recorded.

    Parameters
    ----------
    signals
        ``NAME_image`` (frames, ny, nx), ``NAME_raw`` (9, ny, nx) or ``NAME_movie`` (frames, ny,
        nx) of the microscopes by name.
    settings
        Nominal settings of each under its name.

    Returns
    -------
    dict of columns, one row a pixel
        microscope (its number in the order of the settings, from 0), deconvolved (1 or 0), x_nm,
        y_nm (of the pixel's centre, from that of the first pixel recorded) and value.

    Raises
    ------
    ValueError
        There is nothing of a microscope that an image could be made of.
    """
    tables = []
    for number, (name, known) in enumerate(settings.items()):
        if f"{name}_movie" in signals:
            tables.append(_table(number, 0, *rendered(signals[f"{name}_movie"], known)))
        elif f"{name}_raw" in signals:
            joined = reconstruct(signals[f"{name}_raw"], known)
            tables.append(_table(number, 0, joined.image, joined.pixel_size_nm))
        elif f"{name}_image" in signals:
            counted = electrons(signals[f"{name}_image"], known)
            pixel_nm = float(known["pixel_size_nm"])
            tables.append(_table(number, 0, counted, pixel_nm))
            if "exposure_s" in known:  # a camera
                tables.append(_table(number, 1, deconvolved(counted, known), pixel_nm))
        else:
            raise ValueError(f"the microscope {name} has no image, raw or movie")
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def electrons(frames: npt.ArrayLike, settings: Mapping[str, Any]) -> Floats:
    """Return the mean of frames in photoelectrons."""
    camera = CameraSettings.read(settings["camera"])
    return np.asarray(camera.electrons(np.asarray(frames)).mean(axis=0), np.float64)


def deconvolved(counts: Floats, settings: Mapping[str, Any]) -> Floats:
    """Deconvolve a camera's image by the Airy pattern of its objective.

    Half of the photoelectrons is held out, by a coin each (the coins are the same in every run),
    and tells where to stop.
    """
    pixel_nm = float(settings["pixel_size_nm"])
    psf = airy_image(settings["na"], settings["wavelength_nm"], pixel_nm)
    whole = np.rint(np.maximum(counts, 0.0))
    coins = np.random.default_rng(0)
    return richardson_lucy(whole, psf, border_level(whole), MOST_STEPS, held_out=coins).image


def border_level(image: Floats) -> float:
    """Return the median of the outermost pixels."""
    inside = np.zeros(image.shape, bool)
    inside[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX] = True
    return float(np.median(image[~inside]))


def airy_image(na: float, wavelength_nm: float, pixel_nm: float, radius_au: float = 5.0) -> Floats:
    """Return the Airy pattern averaged over pixels, out to some radii of the Airy disc."""
    half = math.ceil(radius_au * 0.61 * wavelength_nm / na / pixel_nm)
    n = 2 * half + 1
    along = ((np.arange(n * FINER) + 0.5) / FINER - 0.5 - half) * pixel_nm
    v = 2.0 * np.pi * na / wavelength_nm * np.hypot(along[None], along[:, None])
    v[v == 0.0] = 1e-9
    pattern = (2.0 * scipy.special.j1(v) / v) ** 2
    return np.asarray(pattern.reshape(n, FINER, n, FINER).mean(axis=(1, 3)))


def rendered(movie: Any, settings: Mapping[str, Any]) -> tuple[Floats, float, float]:
    """Return an image of the bursts in a movie, its pixel, and where its first pixel lies."""
    pixel_nm = float(settings["pixel_size_nm"])
    # a whole number of pixels in one of the camera's, the outer edges in common
    parts = math.ceil(pixel_nm / FINEST_NM)
    fine_nm = pixel_nm / parts
    first = -0.5 * (pixel_nm - fine_nm)
    ny, nx = movie.shape[1:]
    seen = bursts(movie, settings)
    frame = Frame(first, first, nx * parts, ny * parts)
    sigma = np.maximum(seen["uncertainty_nm"], 0.3 * fine_nm)
    drawn = gaussian_image(seen["x_nm"], seen["y_nm"], sigma, fine_nm, frame)
    return drawn.image, fine_nm, first


def _table(
    number: int, deconvolved: int, image: Floats, pixel_nm: float, first_nm: float = 0.0
) -> Columns:
    """Return an image pixel by pixel."""
    ny, nx = image.shape
    y, x = np.mgrid[:ny, :nx].reshape(2, -1) * pixel_nm + first_nm
    n = np.full(image.size, number)
    return {
        "microscope": n,
        "deconvolved": np.full_like(n, deconvolved),
        "x_nm": x,
        "y_nm": y,
        "value": image.ravel(),
    }
