"""All atomic columns of a thin crystal, heavy and light, and which of them are light.

By TEM, at negative spherical aberration and overfocus, every column of a thin crystal is a peak;
the peak of a heavy one is higher and narrower. A filter that is matched to those is wrong for the
others, and most light columns would drown at low dose. So the columns are sought twice: first in
the image, then in what is left when the Gaussians fitted to those found are taken away, where a
wider filter is best. Widths of weak peaks are uncertain, and heights with them; so all heights are
then measured with one width, that of the strongest. They fall into two groups; the lower is light.
That holds for crystals of a few nanometres: in thicker ones, heavy columns turn dark again. The
light columns are at last located with one width, that of their own kind.

By STEM, annular bright field shows all columns as dips, and dark field those that are heavy: its
brightness goes about as Z^1.7, so that less than 0.31 of the brightest columns' tells of less than
half of their atomic number.

No crystal is assumed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from nanophantom.analysis.columns import Contrast, find_columns
from nanophantom.analysis.registration import add_up, register
from nanophantom.analysis.stem_columns import dark_rings

FloatArray = npt.NDArray[np.float64]
Columns = dict[str, FloatArray]

LEAST_DISTANCE_NM = 0.1
"""Columns of a zone axis aren't closer than this."""
LEAST_RELATIVE_HEIGHT = 0.1
"""A light column's peak, in units of the noise, over that of strong ones in the same pass."""
LIGHT_AT_MOST = 0.7
"""Two groups of columns are told apart if the mean of the lower is less than this part of the
higher; else all are heavy."""
ROUNDS = 4
"""Steps of Gauss's and Newton's method to a column's place."""
HALF_THE_NUMBER = 0.5**1.7
"""Brightness in dark field of half the atomic number."""
FAINTEST = 0.05
"""Brightness in dark field, relative to the brightest, below which differences don't count."""
PATCH_NM = 0.04
"""The dark field of a column is the mean within this radius."""


def find(signals: Mapping[str, npt.ArrayLike], settings: Mapping[str, Any]) -> Columns:
    """Find all columns, and say which are light.

    Parameters
    ----------
    signals : mapping of (frames, ny, nx) arrays
        By name: "image", counts of a TEM; or those of annular STEM detectors, one of them within
        the beam's cone (annular bright field), one outside (dark field).
    settings : mapping
        pixel_size_nm; of a TEM contrast, "bright" or "dark" as columns look (found out if not
        given); of a STEM semiangle_mrad and detectors, what each looks at, by name.

    Returns
    -------
    dict of (n,) arrays
        x_nm, y_nm in the coordinates of frame 0, the centre of pixel (0, 0) being the origin;
        light, 1 or 0; sigma_nm, standard deviation of x and of y.

    Raises
    ------
    ValueError
        A setting is missing, or there is neither a TEM image nor both STEM detectors.
    """
    if settings.get("pixel_size_nm") is None:
        raise ValueError('settings lack "pixel_size_nm": the width of a pixel in nm')
    stacks = {name: np.asarray(data) for name, data in signals.items()}
    stacks = {name: data[None] if data.ndim == 2 else data for name, data in stacks.items()}
    if "image" in stacks:
        return in_tem_images(
            stacks["image"], float(settings["pixel_size_nm"]), settings.get("contrast") or "auto"
        )
    return in_stem_signals(stacks, settings)


def in_tem_images(stack: npt.NDArray[Any], pixel_size_nm: float, contrast: Contrast) -> Columns:
    """Find the columns of a drifting TEM series; the lower peaks are the light ones."""
    series = register(stack)
    image = series.aligned_sum.astype(np.float64)
    found = find_twice(image, pixel_size_nm, contrast, series.coverage)
    strong = np.abs(found["height"]) >= _median(np.abs(found["height"]))
    sharp = refitted(image, found, _median(found["width_nm"][strong]), pixel_size_nm)
    light = is_lower(np.abs(sharp["height"]))
    return _answer(image, found, light, pixel_size_nm)


def in_stem_signals(stacks: Mapping[str, npt.NDArray[Any]], settings: Mapping[str, Any]) -> Columns:
    """Find the columns in annular bright field; those without dark field are the light ones."""
    if settings.get("semiangle_mrad") is None or settings.get("detectors") is None:
        raise ValueError('settings of a STEM need "semiangle_mrad" and "detectors"')
    semiangle = float(settings["semiangle_mrad"])
    dark = dark_rings(settings)
    bright = [
        name
        for name, ring in settings["detectors"].items()
        if ring.get("shape") == "annular" and 0 < ring.get("inner_mrad", 0.0) < semiangle
    ]
    if not (dark and bright):
        raise ValueError(
            "light columns need a TEM image, or annular bright field and dark field: rings within "
            "and outside of the beam's cone"
        )
    pixel_size_nm = float(settings["pixel_size_nm"])
    every = [stacks[name].astype(np.float64) for name in (bright[0], *dark)]
    # Each signal in units of its own shot noise, and so that columns are bright in all of them.
    weighed = [signal / np.sqrt(max(float(signal.mean()), 1e-9)) for signal in every]
    shifts = register(np.sum(weighed[1:], axis=0) - weighed[0]).shifts_px
    image, coverage = add_up(every[0].astype(np.float32), shifts)
    found = find_twice(image.astype(np.float64), pixel_size_nm, "dark", coverage)
    dark_field = np.sum([add_up(stacks[name], shifts)[0] for name in dark], axis=0)
    brightness = _patch_means(dark_field, found, pixel_size_nm)
    light = is_dark(brightness)
    return _answer(image.astype(np.float64), found, light, pixel_size_nm)


def find_twice(
    image: FloatArray,
    pixel_size_nm: float,
    contrast: Contrast,
    coverage: npt.ArrayLike | None = None,
) -> Columns:
    """Find columns, take their Gaussians away, and look for more in what is left.

    Parameters
    ----------
    image : (ny, nx) array
    pixel_size_nm : float
    contrast : {"auto", "bright", "dark"}
    coverage : (ny, nx) array, optional
        How many frames each pixel is the mean of.

    Returns
    -------
    dict of (n,) arrays
        See :func:`nanophantom.analysis.columns.find_columns`.
    """

    def search(image: FloatArray, contrast: Contrast) -> Columns:
        found = find_columns(
            image,
            pixel_size_nm,
            contrast,
            coverage,
            LEAST_DISTANCE_NM,
            min_relative_height=LEAST_RELATIVE_HEIGHT,
        )
        high_y, high_x = ((size - 1) * pixel_size_nm for size in image.shape)
        seen = (found["x_nm"] >= 0) & (found["x_nm"] <= high_x)
        seen &= (found["y_nm"] >= 0) & (found["y_nm"] <= high_y)
        return {name: values[seen] for name, values in found.items()}

    first = search(image, contrast)
    if not len(first["x_nm"]):
        return first
    sign: Contrast = "bright" if np.median(first["height"]) > 0 else "dark"
    second = search(image - _painted(first, image.shape, pixel_size_nm), sign)
    tree = KDTree(np.column_stack([first["x_nm"], first["y_nm"]]))
    away = tree.query(np.column_stack([second["x_nm"], second["y_nm"]]))[0] > LEAST_DISTANCE_NM
    return {name: np.concatenate([first[name], second[name][away]]) for name in first}


def is_lower(values: FloatArray) -> npt.NDArray[np.bool_]:
    """Return which values belong to the lower of two groups; none where there is but one group.

    They are told apart by their square roots: those of counts scatter alike, high or low.
    """
    lower = two_groups(np.sqrt(np.maximum(values, 0.0)))
    if lower.any() and values[lower].mean() > LIGHT_AT_MOST * values[~lower].mean():
        return np.zeros(len(values), np.bool_)
    return lower


def is_dark(brightness: FloatArray) -> npt.NDArray[np.bool_]:
    """Return which columns have the dark field of less than half of the greatest atomic number.

    Heavy columns may be of several kinds, as far apart as they are from the light ones, but not
    by as great a ratio: so groups are made of logarithms.
    """
    if not len(brightness):
        return np.zeros(0, np.bool_)
    brightest = float(np.quantile(brightness, 0.9))
    if brightest <= 0:
        return np.zeros(len(brightness), np.bool_)
    relative = np.maximum(brightness / brightest, 0.0)
    lower = two_groups(np.log(relative + FAINTEST))
    if lower.any() and relative[lower].mean() > HALF_THE_NUMBER:
        return np.zeros(len(brightness), np.bool_)
    return lower


def two_groups(values: FloatArray) -> npt.NDArray[np.bool_]:
    """Return which values lie below the cut that leaves the least scatter about two means.

    N. Otsu, IEEE Trans. Syst. Man Cybern. 9 (1979) 62, for values instead of a histogram.
    """
    n = len(values)
    lower = np.zeros(n, np.bool_)
    if n < 2:
        return lower
    order = np.argsort(values)
    ordered = values[order]
    count = np.arange(1, n)
    below = np.cumsum(ordered)[:-1]
    apart = (ordered.sum() - below) / (n - count) - below / count
    lower[order[: int(np.argmax(count * (n - count) * apart**2)) + 1]] = True
    return lower


def refitted(
    image: FloatArray, found: Columns, width_nm: float, pixel_size_nm: float, rounds: int = 0
) -> Columns:
    """Fit columns anew, all with one width, their neighbours' Gaussians taken away.

    Height and background by least squares within twice the width, then all of it with the
    position in some rounds of Gauss's and Newton's method. The variance for the uncertainty is
    that of the image without columns, in proportion to the local mean as of counts.

    Returns
    -------
    dict of (n,) arrays
        x_nm, y_nm, sigma_nm, height; where a fit leaves its column, the old position stays.
    """
    width = width_nm / pixel_size_nm
    rest = image - _painted(found, image.shape, pixel_size_nm)
    gain = float(np.var(rest)) / max(float(image.mean()), 1e-12)
    position = np.column_stack([found["y_nm"], found["x_nm"]]) / pixel_size_nm
    height, sigma = found["height"].copy(), found["sigma_nm"].copy()
    for k, (y0, x0) in enumerate(position.copy()):
        rows, columns = (
            np.arange(max(0, int(at - 2 * width)), min(size, int(at + 2 * width) + 2))
            for at, size in zip((y0, x0), image.shape, strict=True)
        )
        y, x = (a.ravel().astype(np.float64) for a in np.meshgrid(rows, columns, indexing="ij"))
        r2 = (y - y0) ** 2 + (x - x0) ** 2
        inside = r2 <= (2 * width + 0.5) ** 2
        y, x, r2 = y[inside], x[inside], r2[inside]
        window = y.astype(int), x.astype(int)
        old = found["width_nm"][k] / pixel_size_nm
        alone = rest[window] + found["height"][k] * np.exp(-0.5 * r2 / old**2)

        bell = np.exp(-0.5 * r2 / width**2)
        flat = np.stack([bell, np.ones_like(bell)], axis=1)
        p = np.array([y0, x0, *np.linalg.lstsq(flat, alone, rcond=None)[0]])
        height[k] = p[2]
        J = np.ones((len(bell), 4))
        for _ in range(rounds):
            bell = np.exp(-0.5 * ((y - p[0]) ** 2 + (x - p[1]) ** 2) / width**2)
            J[:, 0] = p[2] * (y - p[0]) / width**2 * bell
            J[:, 1] = p[2] * (x - p[1]) / width**2 * bell
            J[:, 2] = bell
            step = np.linalg.lstsq(J, alone - p[2] * bell - p[3], rcond=None)[0]
            step[:2] = np.clip(step[:2], -0.5 * width, 0.5 * width)
            p += step
        if rounds and np.hypot(p[0] - y0, p[1] - x0) < 1.5 * width and p[2] * height[k] > 0:
            level = max(float(image[window].mean()), 0.1 * float(image.mean()))
            variance = gain * level * np.diag(np.linalg.pinv(J.T @ J))
            sigma[k] = np.sqrt(0.5 * (variance[0] + variance[1])) * pixel_size_nm
            position[k], height[k] = p[:2], p[2]
    return {
        "x_nm": position[:, 1] * pixel_size_nm,
        "y_nm": position[:, 0] * pixel_size_nm,
        "sigma_nm": sigma,
        "height": height,
    }


def _answer(
    image: FloatArray, found: Columns, light: npt.NDArray[np.bool_], pixel_size_nm: float
) -> Columns:
    """Return the columns, the light ones located with a width of their own."""
    where = {name: found[name].copy() for name in ("x_nm", "y_nm", "sigma_nm")}
    if light.any():
        clear = light & (found["significance"] >= _median(found["significance"][light]))
        own = refitted(image, found, _median(found["width_nm"][clear]), pixel_size_nm, ROUNDS)
        for name, values in where.items():
            values[light] = own[name][light]
    return {**where, "light": light.astype(np.float64)}


def _median(values: FloatArray) -> float:
    """Return the median, zero of nothing."""
    return float(np.median(values)) if len(values) else 0.0


def _painted(found: Columns, shape: tuple[int, ...], pixel_size_nm: float) -> FloatArray:
    """Return the Gaussians of all columns found, as an image."""
    canvas = np.zeros(shape)
    names = ("y_nm", "x_nm", "height", "width_nm")
    for y, x, height, width in zip(*(found[name] for name in names), strict=True):
        reach = 4 * width
        rows, columns = (
            slice(
                max(0, int((at - reach) / pixel_size_nm)),
                max(0, int((at + reach) / pixel_size_nm) + 2),
            )
            for at in (y, x)
        )
        dy = np.arange(shape[0])[rows, None] * pixel_size_nm - y
        dx = np.arange(shape[1])[None, columns] * pixel_size_nm - x
        canvas[rows, columns] += height * np.exp(-0.5 * (dy**2 + dx**2) / width**2)
    return canvas


def _patch_means(image: npt.NDArray[Any], found: Columns, pixel_size_nm: float) -> FloatArray:
    """Return the mean around each column, less the darkest tenth of the image."""
    y, x = np.indices(image.shape) * pixel_size_nm
    radius = max(PATCH_NM, 0.8 * pixel_size_nm)
    floor = float(np.quantile(image, 0.1))
    means = [
        image[np.hypot(x - px, y - py) <= radius].mean() - floor
        for px, py in zip(found["x_nm"], found["y_nm"], strict=True)
    ]
    return np.array(means, np.float64)
