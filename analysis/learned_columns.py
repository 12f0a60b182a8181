"""A trained finder of atomic columns: a small U-Net, run without PyTorch.

The image is brought to one pixel size and freed of its slow background; the network turns it into
a map of where columns stand; maxima of this map are the columns. What it was trained on
stands in the recipe that is kept with the weights (:attr:`Network.recipe`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy import ndimage
from scipy.special import expit
from threadpoolctl import threadpool_limits

from nanophantom.analysis import unet
from nanophantom.analysis.registration import register

Floats = npt.NDArray[np.float64]
Images = npt.NDArray[np.float32]

WEIGHTS = Path(__file__).parent / "data" / "column_unet.npz"
"""The weights that come with the package."""
PIXEL_NM = 0.03
"""Pixel size that the network sees: Nyquist lies at 1 / (0.6 Å)."""
BACKGROUND_NM = 0.6
"""Standard deviation of the Gaussian whose mean counts as background."""
CLOSEST_NM = 0.09
"""Columns aren't closer than this."""
TILE_PX, OVERLAP_PX = 512, 112
"""Large images go through the network in tiles; the overlap is beyond what a pixel is told by."""
CONTRASTS = {"bright": (1,), "dark": (-1,), "auto": (1, -1)}


@dataclass(frozen=True, eq=False)
class Network:
    """A trained network.

    Attributes
    ----------
    weights
        Arrays by name, float32; see :func:`nanophantom.analysis.unet.shapes`.
    recipe
        How it was trained.
    min_score
        Least height of a maximum that counts as a column.
    """

    weights: Mapping[str, Images]
    recipe: Mapping[str, Any]

    @property
    def min_score(self) -> float:
        """Least height of a maximum that counts as a column."""
        return float(self.recipe["min_score"])

    def probability(self, standard: Images) -> Images:
        """Return how likely a column stands at each pixel of a standardised image, (ny, nx)."""
        ny, nx = standard.shape
        unit = 2 ** (len(unet.CHANNELS) - 1)
        heat = np.empty((ny, nx), np.float32)
        for y in range(0, ny, TILE_PX):
            for x in range(0, nx, TILE_PX):
                y0, x0 = max(0, y - OVERLAP_PX), max(0, x - OVERLAP_PX)
                tile = standard[y0 : y + TILE_PX + OVERLAP_PX, x0 : x + TILE_PX + OVERLAP_PX]
                rest = [-n % unit for n in tile.shape]
                padded = np.pad(tile, [(0, r) for r in rest])
                with threadpool_limits(1, "blas"):  # such small products gain nothing from more
                    logit = unet.forward(unet.NumPy(), self.weights, padded[None])[0]
                inside = logit[y - y0 : tile.shape[0], x - x0 : tile.shape[1]][:TILE_PX, :TILE_PX]
                heat[y : y + TILE_PX, x : x + TILE_PX] = expit(inside)
        return heat


def save(network: Network, file: Path) -> None:
    """Write weights, as half-precision numbers, and recipe into one .npz file."""
    arrays: dict[str, Any] = {name: w.astype(np.float16) for name, w in network.weights.items()}
    recipe = np.array(json.dumps(network.recipe))
    with file.open("wb") as out:  # savez would add .npz to the name
        np.savez_compressed(out, recipe=recipe, **arrays)


def load(file: Path = WEIGHTS) -> Network:
    """Read weights and recipe. Nothing is unpickled, so a file from elsewhere can't run code.

    Raises
    ------
    ValueError
        The file isn't there, or holds something else.
    """
    if not file.is_file():
        raise ValueError(f"there are no weights in {file}; nanophantom train columns makes them")
    try:
        with np.load(file, allow_pickle=False) as stored:
            recipe = json.loads(str(stored["recipe"]))
            weights = {name: stored[name].astype(np.float32) for name in unet.shapes()}
    except (KeyError, OSError, ValueError) as problem:
        raise ValueError(f"{file} doesn't hold the weights of a column finder: {problem}") from None
    for name, shape in unet.shapes().items():
        if weights[name].shape != shape or not np.isfinite(weights[name]).all():
            raise ValueError(f"{file}: weights {name} must be finite, of the shape {shape}")
    return Network(weights, recipe)


@cache
def packaged() -> Network:
    """Return the network that comes with the package."""
    return load()


LARGEST_PIXEL_NM = 0.05


def find(images: npt.ArrayLike, settings: Mapping[str, Any]) -> dict[str, Floats]:
    """Find the atomic columns of a series of images, or of one; registers a series first.

    Parameters
    ----------
    images : (frames, ny, nx) or (ny, nx) array
        Counts, or a signal linear in them.
    settings : mapping
        "pixel_size_nm"; if known "contrast": "bright" or "dark", as atoms look.

    Returns
    -------
    dict of (n,) arrays
        x_nm, y_nm in the coordinates of frame 0, the centre of pixel (0, 0) being the origin;
        score: height of the network's answer there, between 0 and 1.

    Raises
    ------
    ValueError
        The pixel size is missing or out of range, or the images are of another shape or not
        finite.
    """
    return find_with(packaged(), images, settings)


def find_with(
    network: Network, images: npt.ArrayLike, settings: Mapping[str, Any]
) -> dict[str, Floats]:
    """Find atomic columns with a given network; see :func:`find`."""
    if settings.get("pixel_size_nm") is None:
        raise ValueError('settings lack "pixel_size_nm": the width of a pixel in nm')
    contrast = settings.get("contrast") or "auto"
    if contrast not in CONTRASTS:
        raise ValueError(f'contrast must be "auto", "bright" or "dark", got {contrast!r}')
    stack = np.asarray(images)
    if stack.ndim not in (2, 3) or not len(stack):
        raise ValueError(
            f"images have the shape (frames, ny, nx) or (ny, nx) with a frame, got {stack.shape}"
        )
    if stack.ndim == 3:
        stack = stack[0] if len(stack) == 1 else register(stack).aligned_sum
    pixel_size_nm = float(settings["pixel_size_nm"])
    if pixel_size_nm > LARGEST_PIXEL_NM:
        raise ValueError(
            f"pixels of {pixel_size_nm:g} nm can't show atomic columns; the network knows pixels "
            f"of at most {LARGEST_PIXEL_NM:g} nm"
        )
    standard, step_nm = standardised(stack, pixel_size_nm)
    answers = []
    for sign in CONTRASTS[contrast]:
        y, x, score = _maxima(network.probability(sign * standard), CLOSEST_NM / PIXEL_NM)
        good = (score >= network.min_score) & standard.any()  # an even image shows nothing
        answers.append((y[good], x[good], score[good]))
    y, x, score = max(answers, key=lambda answer: float(answer[2].sum()))
    step_y_nm, step_x_nm = step_nm
    return {
        "x_nm": (x + 0.5) * step_x_nm - 0.5 * pixel_size_nm,
        "y_nm": (y + 0.5) * step_y_nm - 0.5 * pixel_size_nm,
        "score": score,
    }


def standardised(image: npt.ArrayLike, pixel_size_nm: float) -> tuple[Images, tuple[float, float]]:
    """Return an image as the network wants it.

    Its cosine series (the image goes on as in a mirror) is cut, or continued with zeros, at the
    frequency that the standard pixel can carry, so that white noise stays white; a Gaussian mean
    is taken away; what remains is divided by its standard deviation, which at low dose is that of
    the noise and at high dose that of the contrast.

    Returns
    -------
    image : (ny, nx) array
    step_nm : tuple of float
        Its pixel along y and x: the standard one, but for the rounding to whole pixels. Pixel i
        lies at (i + 1/2) step - pixel_size / 2 from the centre of the old first one.

    Raises
    ------
    ValueError
        The image is no finite, real (ny, nx) array that is 0.5 nm wide or more, or the pixel size
        is not positive.
    """
    raw = np.asarray(image)
    if not (np.isfinite(pixel_size_nm) and pixel_size_nm > 0):
        raise ValueError(f"pixel_size_nm must be a positive number, got {pixel_size_nm}")
    if raw.ndim != 2 or raw.dtype.kind not in "uifb":
        raise ValueError(f"an image holds real numbers (ny, nx), got {raw.dtype} {raw.shape}")
    if min(raw.shape) * pixel_size_nm < 0.5:
        raise ValueError(
            f"an image must be 0.5 nm wide or more, got {raw.shape} pixels of {pixel_size_nm:g} nm"
        )
    data = raw.astype(np.float64)
    if not np.isfinite(data).all():
        raise ValueError("an image must be finite: it holds NaN or infinite values")
    ny, nx = (max(1, round(n * pixel_size_nm / PIXEL_NM)) for n in data.shape)
    series = scipy.fft.dctn(data, norm="ortho", workers=1)[:ny, :nx]
    series = np.pad(series, [(0, ny - series.shape[0]), (0, nx - series.shape[1])])
    # harmonic j of n pixels oscillates at j / (2 n) cycles a pixel
    ky, kx = (np.pi * np.arange(n) / (n * PIXEL_NM) for n in (ny, nx))
    series *= 1 - np.exp(-0.5 * BACKGROUND_NM**2 * (ky[:, None] ** 2 + kx**2))
    flat = scipy.fft.idctn(series, norm="ortho", workers=1)
    scale = float(flat.std())
    even = scale <= 1e-9 * float(np.abs(data).max())  # all that is left is rounding
    standard = (0.0 * flat if even else flat / scale).astype(np.float32)
    return standard, (data.shape[0] * pixel_size_nm / ny, data.shape[1] * pixel_size_nm / nx)


def _maxima(heat: Images, distance_px: float) -> tuple[Floats, Floats, Floats]:
    """Return the local maxima, y, x and height, each the vertex of parabolas through logarithms.

    A Gaussian's logarithm is a parabola, so its centre is found exactly.
    """
    reach = int(distance_px)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = rows**2 + columns**2 <= distance_px**2
    peak = (heat == ndimage.maximum_filter(heat, footprint=disc)) & (heat > 0.02)
    y, x = np.nonzero(peak)
    log = np.log(np.maximum(np.pad(heat, 1, "edge"), 1e-6)).astype(np.float64)
    middle = log[y + 1, x + 1]

    def vertex(before: Floats, after: Floats) -> Floats:
        curvature = before + after - 2 * middle
        bent = curvature < -1e-6
        offset = 0.5 * (before - after) / np.where(bent, curvature, -1.0)
        return np.where(bent, np.clip(offset, -0.5, 0.5), 0.0)

    dy = vertex(log[y, x + 1], log[y + 2, x + 1])
    dx = vertex(log[y + 1, x], log[y + 1, x + 2])
    return y + dy, x + dx, heat[y, x].astype(np.float64)
