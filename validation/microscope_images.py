"""Images of one structure by several microscopes, and how fine each is by the truth.

An image is correlated with the map of the true dyes, ring by ring of frequencies: a curve that
stays at 1 as far as the image is right, however faint its fine detail is, and falls to 1/2 where
the image is as often wrong as right. On a Siemens star the contrast of the spokes at every radius
tells, beside, how faint it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.ndimage

from nanophantom.analysis.ring_correlation import resolution_nm, ring_correlation
from nanophantom.validation.part_of import part_of

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]

SAMPLE_NM = 4.0
"""Pixel, at most, into which true dyes are sorted before frequencies that an image can't hold are
taken away."""
SEEN = 0.1
"""Contrast, relative to that of the structure, at which spokes are still told apart."""
FULL = 4.0 / math.pi
"""Contrast 2 abs(c_N) / c_0 of sharp spokes as wide as their gaps."""
RIM = 0.97
"""Part of the star's radius within which its contrast is measured: its border blurs, too."""
STEP = 1.06
"""Ratio of the periods at which contrast is measured."""
NEIGHBOURS = (-3, -2, 2, 3)
"""Numbers of spokes, relative to the true one, that hold nothing but noise."""


@dataclass(frozen=True, eq=False)
class Picture:
    """An image of a microscope.

    Attributes
    ----------
    name
        The microscope's, with "deconvolved" behind it for such an image.
    microscope
        The microscope's.
    image : (ny, nx)
    pixel_nm
        Edge of a pixel.
    x0_nm, y0_nm
        Centre of its first pixel, from that of the microscope's first pixel.
    """

    name: str
    microscope: str
    image: Floats
    pixel_nm: float
    x0_nm: float
    y0_nm: float

    @property
    def deconvolved(self) -> bool:
        """Whether it is a second, sharpened image of its microscope."""
        return self.name != self.microscope


@dataclass(frozen=True, eq=False)
class Star:
    """A Siemens star in a microscope's image."""

    x_nm: float
    y_nm: float
    radius_nm: float
    spokes: int
    angle_deg: float


@dataclass(frozen=True, eq=False)
class Fineness:
    """How fine an image is.

    Attributes
    ----------
    truth : (ny, nx)
        The map of true dyes with the frequencies that the image's pixels can hold.
    frequencies_per_nm, correlation : (rings,)
        Correlation with the truth.
    resolution_nm
        Period at which it falls to 1/2; None if there is no correlation.
    periods_nm, contrast, noise : (radii,)
        Of a star's spokes: contrast relative to the structure's own, and its standard error.
    resolved_nm
        Shortest period down to which contrast is at least a tenth; None without a star, or if the
        rim isn't resolved.
    """

    truth: Floats
    frequencies_per_nm: Floats
    correlation: Floats
    resolution_nm: float | None
    periods_nm: Floats
    contrast: Floats
    noise: Floats
    resolved_nm: float | None


def title_of(picture: Picture) -> str:
    """Return what an image is called on a page."""
    name = picture.microscope.replace("_", " ")
    name = {"sim": "SIM", "sted": "STED", "smlm": "SMLM"}.get(name, name)
    return f"{name}, deconvolved" if picture.deconvolved else name


def pictures(found: Mapping[str, Floats], names: tuple[str, ...], task: str) -> list[Picture]:
    """Read a table of pixels as images.

    Raises
    ------
    ValueError
        A number is none of a microscope, or the pixels of an image aren't those of a square grid.
    """
    number = found["microscope"]
    kind = found.get("deconvolved", np.zeros_like(number))
    wrong = ~np.isin(number, np.arange(len(names))) | ~np.isin(kind, (0, 1))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"task {task} wants microscope from 0 to {len(names) - 1} and deconvolved 0 or 1; row "
            f"{row} has {number[row]:g} and {kind[row]:g}"
        )
    read = []
    for i, microscope in enumerate(names):
        for sharpened in (0, 1):
            mine = (number == i) & (kind == sharpened)
            if not mine.any():
                continue
            name = f"{microscope}_deconvolved" if sharpened else microscope
            x, y, value = (found[column][mine] for column in ("x_nm", "y_nm", "value"))
            image, pixel, x0, y0 = _grid(x, y, value, name)
            read.append(Picture(name, microscope, image, pixel, x0, y0))
    return read


def _grid(x: Floats, y: Floats, value: Floats, name: str) -> tuple[Floats, float, float, float]:
    columns, rows = np.unique(np.round(x, 4)), np.unique(np.round(y, 4))
    told = f"the pixels of {name} aren't those of a square grid of 16 x 16 or more"
    if min(len(columns), len(rows)) < 16 or len(columns) * len(rows) != len(x):
        raise ValueError(f"{told}: {len(x)} rows, {len(columns)} x, {len(rows)} y")
    pixel = (columns[-1] - columns[0]) / (len(columns) - 1)
    j = np.rint((x - columns[0]) / pixel).astype(int)
    i = np.rint((y - rows[0]) / pixel).astype(int)
    off = max(np.abs(x - columns[0] - j * pixel).max(), np.abs(y - rows[0] - i * pixel).max())
    image = np.full((len(rows), len(columns)), np.nan)
    if off > 0.01 * pixel or i.max() >= len(rows) or j.max() >= len(columns):
        raise ValueError(f"{told}: distances of x and y differ")
    image[i, j] = value
    if np.isnan(image).any():
        raise ValueError(f"{told}: some are told twice")
    return image, float(pixel), float(columns[0]), float(rows[0])


def mean_drift(dataset: Observed, microscope: str) -> tuple[float, float]:
    """Return how far the specimen lay to the right and down, on average while it was imaged."""
    own = part_of(dataset, microscope)
    if "drift" not in own.truth_tables:
        return 0.0, 0.0
    drift = own.truth("drift")
    return float(np.mean(drift["dx_nm"])), float(np.mean(drift["dy_nm"]))


def true_dyes(dataset: Observed, microscope: str) -> tuple[Floats, Floats]:
    """Return where dyes lie, on average over the frames, from the first recorded pixel's centre."""
    dyes, (dx, dy) = part_of(dataset, microscope).truth("dyes"), mean_drift(dataset, microscope)
    return np.asarray(dyes["x_nm"] + dx, np.float64), np.asarray(dyes["y_nm"] + dy, np.float64)


def star_in(dataset: Observed, microscope: str) -> Star | None:
    """Return where a microscope sees the specimen's star; None if it isn't one."""
    if "specimen_structures" not in dataset.truth_tables:
        return None
    table = dataset.truth("specimen_structures")
    if "spokes" not in table:
        return None
    view = part_of(dataset, microscope).truth("view")
    dx, dy = mean_drift(dataset, microscope)
    return Star(
        float(table["x_nm"][0] - view["x0_nm"][0] + dx),
        float(table["y_nm"][0] - view["y0_nm"][0] + dy),
        0.5 * float(table["size_nm"][0]),
        int(table["spokes"][0]),
        float(table["angle_deg"][0]),
    )


def fineness(picture: Picture, x_nm: Floats, y_nm: Floats, star: Star | None) -> Fineness:
    """Compare an image with the true dyes, and with the star that they make."""
    truth = true_map(picture, x_nm, y_nm)
    # the border's level is background, and no matter of frequencies of the structure
    level = outer_level(picture.image)
    even = float(np.ptp(picture.image)) == 0.0
    side = min(picture.image.shape)
    if even:
        frequencies, correlation, resolution = np.zeros(0), np.zeros(0), None
    else:
        frequencies, correlation = ring_correlation(
            (picture.image - level)[:side, :side], truth[:side, :side], picture.pixel_nm
        )
        resolution = resolution_nm(frequencies, correlation, 0.5)
    none = np.zeros(0)
    curve = (none, none, none) if star is None else spoke_contrast(picture, star)
    return Fineness(truth, frequencies, correlation, resolution, *curve, resolved_nm(*curve))


def outer_level(image: Floats) -> float:
    """Return the median of the outermost twentieth of an image."""
    edge = max(1, min(image.shape) // 20)
    inside = np.zeros(image.shape, bool)
    inside[edge:-edge, edge:-edge] = True
    return float(np.median(image[~inside]))


def true_map(picture: Picture, x_nm: Floats, y_nm: Floats) -> Floats:
    """Return dyes a pixel, with the frequencies only that an image of such pixels can hold.

    Dyes are sorted into a grid that is finer by an odd number; of its spectrum the middle is kept.
    Without that, frequencies beyond would fold back onto those of the image.
    """
    ny, nx = picture.image.shape
    finer = math.ceil(picture.pixel_nm / SAMPLE_NM) // 2 * 2 + 1
    inside = []
    for nm, first, n in ((y_nm, picture.y0_nm, ny), (x_nm, picture.x0_nm, nx)):
        # the middle one of the parts of a pixel has its centre in common with it
        edges = (np.arange(n * finer + 1) / finer - 0.5) * picture.pixel_nm + first
        inside.append((nm, edges))
    (y, rows), (x, columns) = inside
    fine = np.histogram2d(y, x, bins=(rows, columns))[0]
    middle = (finer - 1) // 2
    spectrum = np.fft.fftshift(scipy.fft.fft2(np.roll(fine, (-middle, -middle), (0, 1)), workers=1))
    top, left = (finer * ny) // 2 - ny // 2, (finer * nx) // 2 - nx // 2
    kept = np.fft.ifftshift(spectrum[top : top + ny, left : left + nx])
    return np.asarray(scipy.fft.ifft2(kept, workers=1).real)


# ---- the star --------------------------------------------------------------------------------


def spoke_contrast(picture: Picture, star: Star) -> tuple[Floats, Floats, Floats]:
    """Return periods, and contrast of the spokes there over the structure's own, with its error.

    At a radius r the image along the circle is a row of N bright and N dark stretches. Contrast is
    the part of its Nth harmonic that is in step with the true spokes, so that noise, which is in
    step with nothing, adds nothing on average; how large noise is, harmonics beside tell.
    """
    longest = 2.0 * np.pi * RIM * star.radius_nm / star.spokes
    shortest = max(2.0 * picture.pixel_nm, 0.005 * longest)
    n = max(2, int(math.log(longest / shortest) / math.log(STEP)))
    periods: Floats = longest * STEP ** -np.arange(n, dtype=np.float64)
    level = outer_level(picture.image)
    contrast, noise = np.zeros(n), np.zeros(n)
    for k, period in enumerate(periods):
        r0 = period * star.spokes / (2.0 * np.pi)
        rings = np.maximum(1, math.ceil(r0 * (STEP - 1.0) / (0.5 * picture.pixel_nm)))
        radii = r0 * STEP ** ((np.arange(rings) + 0.5) / rings - 0.5)
        m = max(8 * star.spokes, math.ceil(2 * np.pi * r0 / (0.5 * picture.pixel_nm)))
        angle = 2.0 * np.pi * np.arange(m) / m
        x = star.x_nm + radii[:, None] * np.cos(angle) - picture.x0_nm
        y = star.y_nm + radii[:, None] * np.sin(angle) - picture.y0_nm
        seen = scipy.ndimage.map_coordinates(
            picture.image, [y / picture.pixel_nm, x / picture.pixel_nm], order=3, mode="nearest"
        )
        around = seen.mean(axis=0) - level
        total = around.mean()
        if total <= 0.0:
            continue
        in_step = np.exp(-1j * star.spokes * (angle - np.radians(star.angle_deg)))
        contrast[k] = 2.0 * float((around * in_step).mean().real) / total / FULL
        beside = [
            abs((around * np.exp(-1j * (star.spokes + d) * angle)).mean()) ** 2 for d in NEIGHBOURS
        ]
        noise[k] = 2.0 * math.sqrt(0.5 * float(np.mean(beside))) / total / FULL
    return periods, contrast, noise


def resolved_nm(periods_nm: Floats, contrast: Floats, noise: Floats) -> float | None:
    """Return the shortest period down to which contrast stays above a tenth and twice its noise.

    From the rim inwards the contrast of three neighbouring radii is averaged (their noise isn't:
    few dyes make it, and neighbours share them); between the last that is seen and the first that
    isn't, the logarithm of the period is interpolated.
    """
    if len(periods_nm) < 4:
        return None
    mean = scipy.ndimage.uniform_filter1d(contrast, 3, mode="nearest")
    error = scipy.ndimage.uniform_filter1d(noise, 3, mode="nearest")
    needed = np.maximum(SEEN, 2.0 * error)
    lost = np.flatnonzero(mean < needed)
    if len(lost) == 0:
        return float(periods_nm[-1])
    k = int(lost[0])
    if k == 0:
        return None
    above, below = mean[k - 1] - needed[k - 1], mean[k] - needed[k]
    part = above / (above - below)
    return float(periods_nm[k - 1] * (periods_nm[k] / periods_nm[k - 1]) ** part)
