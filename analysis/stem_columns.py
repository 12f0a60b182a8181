"""All atomic columns, heavy and light, from the signals of several STEM detectors at once.

Dark field sees the heavy columns and tells their kinds apart by brightness; light ones drown in
the tails of their neighbours. Phase contrast (the integrated centre of mass, or that of a
segmented detector) rises with the potential itself and shows both. So the heavy columns are
measured in dark field, all columns are looked for in the phase, and what the phase alone sees is
light. The kind of a column is then read from its dark-field brightness. No crystal is assumed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import KDTree

from nanophantom.analysis.columns import find_columns
from nanophantom.analysis.dpc import SegmentedDetector, phase
from nanophantom.analysis.registration import add_up, register

FloatArray = npt.NDArray[np.float64]
Signals = Mapping[str, npt.ArrayLike]

SAME_COLUMN_NM = 0.06
"""What two signals see closer together than this is one column."""
LOWEST_FREQUENCY_PER_NM = 1.0
"""Integration turns white noise into slow waves; nothing below this is atomic."""
LEAST_RELATIVE_HEIGHT = 0.15
"""A light column's peak is at least this part of a strong one's."""
LEAST_SIGNIFICANCE = 5.0
"""A peak is higher than so many standard deviations of the noise (A. Rose's criterion)."""
COLUMN_WIDTH_NM = 0.03
"""Standard deviation of the narrow Gaussian that looks for columns."""
LEAST_STEP = 0.15
"""Kinds of columns differ in brightness by this part of the brightest."""
LARGEST_NUMBER_OF_KINDS = 4


def find(signals: Signals, settings: Mapping[str, Any]) -> dict[str, FloatArray]:
    """Find the atomic columns that several detectors see together.

    Parameters
    ----------
    signals : mapping of (frames, ny, nx) or (ny, nx) arrays
        By name; a detector of several channels has one entry each (dpc-0, dpc-1; com-sum, com-x,
        com-y, electrons and electrons times mrad).
    settings : mapping
        pixel_size_nm, energy_kev, semiangle_mrad and detectors: what each one looks at, by name
        ({"shape": "annular", "inner_mrad": 60, "outer_mrad": 100}, say).

    Returns
    -------
    dict of (n,) arrays
        x_nm, y_nm in the coordinates of frame 0, the centre of pixel (0, 0) being the origin;
        kind: 0 for the columns that are brightest in dark field, 1 for the next kind and so on;
        dark_field: brightness at the column in the outermost ring, electrons a pixel.

    Raises
    ------
    ValueError
        A setting is missing, or no detector shows a dark field, or none a phase.
    """
    for name in ("pixel_size_nm", "energy_kev", "semiangle_mrad", "detectors"):
        if settings.get(name) is None:
            raise ValueError(f'settings lack "{name}"')
    pixel_size_nm = float(settings["pixel_size_nm"])
    arrays = {name: np.asarray(data) for name, data in signals.items()}
    stacks = {name: data[None] if data.ndim == 2 else data for name, data in arrays.items()}
    rings = dark_rings(settings)
    if not rings:
        raise ValueError("no annular detector lies outside of the aperture: there's no dark field")

    shifts = register(np.sum([stacks[name] for name in rings], axis=0, dtype=np.float64)).shifts_px
    images, coverage = _added_up(stacks, shifts, slice(None))
    dark = np.sum([images[name] for name in rings], axis=0)
    heavy = find_columns(dark, pixel_size_nm, "bright", coverage=coverage)

    peaks = sharpened(light_image(images, settings), pixel_size_nm)
    noise = _noise_between_frames(stacks, shifts, settings, pixel_size_nm)
    everything = _maxima(peaks, noise, pixel_size_nm)
    position = _joined(_positions(heavy), everything)
    brightness = _brightness(images[rings[-1]], position / pixel_size_nm, 0.04 / pixel_size_nm)
    return {
        "x_nm": position[:, 0],
        "y_nm": position[:, 1],
        "kind": kinds_of(brightness).astype(np.float64),
        "dark_field": brightness,
    }


def dark_rings(settings: Mapping[str, Any]) -> list[str]:
    """Return the annular detectors that the undiffracted disk doesn't touch, innermost first."""
    semiangle = float(settings["semiangle_mrad"])
    rings = {
        name: float(detector.get("inner_mrad", 0.0))
        for name, detector in settings["detectors"].items()
        if detector.get("shape") == "annular" and detector.get("inner_mrad", 0.0) >= semiangle
    }
    return sorted(rings, key=lambda name: rings[name])


def light_image(images: Mapping[str, FloatArray], settings: Mapping[str, Any]) -> FloatArray:
    """Return the image in which light columns stand out bright.

    The phase from first moments if they were recorded, else from a segmented detector, else
    annular bright field turned over.

    Raises
    ------
    ValueError
        None of these was recorded.
    """
    semiangle = float(settings["semiangle_mrad"])
    shapes = {name: d.get("shape", "annular") for name, d in settings["detectors"].items()}
    for wanted in ("moments", "segmented"):
        for name, shape in shapes.items():
            if shape == wanted:
                return phase_of(name, images, settings)
    for name, detector in settings["detectors"].items():
        if 0 < detector.get("inner_mrad", 0.0) < semiangle:
            return -images[name]
    raise ValueError(
        "no detector shows light columns: record first moments, segments or annular bright field"
    )


def phase_of(
    name: str, images: Mapping[str, FloatArray], settings: Mapping[str, Any]
) -> FloatArray:
    """Return the phase (rad, zero mean) from the channels of one detector: iCoM or iDPC."""
    detector = settings["detectors"][name]
    if detector["shape"] == "moments":
        total = np.maximum(images[f"{name}-sum"], 1.0)
        x, y = images[f"{name}-x"] / total, images[f"{name}-y"] / total
    else:
        n = int(detector["segments"])
        # The analysis counts azimuths from a sector's edge, the detector from its middle.
        geometry = SegmentedDetector(
            (float(detector["inner_mrad"]), float(detector["outer_mrad"])),
            n,
            float(detector["rotation_deg"]) - 180.0 / n,
        )
        channels = np.stack([images[f"{name}-{i}"] for i in range(n)])
        x, y = geometry.centre_of_mass(channels, float(settings["semiangle_mrad"]))
    return phase(
        x - x.mean(),
        y - y.mean(),
        float(settings["pixel_size_nm"]),
        float(settings["energy_kev"]),
        high_pass_per_nm=LOWEST_FREQUENCY_PER_NM,
    )


def sharpened(image: FloatArray, pixel_size_nm: float) -> FloatArray:
    """Return an image filtered with a narrow Gaussian less a broad one: columns stand out.

    Between bright neighbours a weak column is a shoulder in the image and a peak in this one.
    """
    narrow, broad = (w / pixel_size_nm for w in (COLUMN_WIDTH_NM, 2 * COLUMN_WIDTH_NM))
    return np.asarray(
        ndimage.gaussian_filter(image, narrow, mode="nearest")
        - ndimage.gaussian_filter(image, broad, mode="nearest"),
        np.float64,
    )


def kinds_of(brightness: FloatArray) -> npt.NDArray[np.int64]:
    """Sort columns into kinds by their brightness, 0 being the brightest.

    The largest number of groups (up to four) with the least scatter about their means that are
    still apart: by more than three times their common standard deviation between the nearest
    members, and by 15 % of the brightest between the means.
    """
    n = len(brightness)
    kind = np.zeros(n, np.int64)
    if n == 0:
        return kind
    order = np.argsort(brightness)[::-1]
    values = brightness[order]
    for k in range(min(LARGEST_NUMBER_OF_KINDS, n // 2), 1, -1):
        cuts = _least_scatter(values, k)
        groups = np.split(values, cuts)
        means = np.array([group.mean() for group in groups])
        within = np.sqrt(sum(float(np.sum((g - g.mean()) ** 2)) for g in groups) / (n - k))
        gaps = values[np.array(cuts) - 1] - values[cuts]
        apart = gaps > 3 * within
        if apart.all() and (-np.diff(means) > LEAST_STEP * abs(means[0])).all():
            kind[order] = np.searchsorted(cuts, np.arange(n), side="right")
            return kind
    return kind


def _least_scatter(values: FloatArray, k: int) -> list[int]:
    """Return where to cut sorted values into k runs of least scatter about their means."""
    n = len(values)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    squares = np.concatenate([[0.0], np.cumsum(values**2)])

    def scatter(i: int, j: int) -> float:
        return float(max(squares[j] - squares[i] - (sums[j] - sums[i]) ** 2 / (j - i), 0.0))

    # best[j]: least scatter of the first j values in so many runs, and where these are cut
    best: list[tuple[float, list[int]]] = [(0.0, [])]
    best += [(scatter(0, j), []) for j in range(1, n + 1)]
    for _ in range(k - 1):
        longer: list[tuple[float, list[int]]] = [(np.inf, [])] * (n + 1)
        for j in range(2, n + 1):
            trials = [(best[i][0] + scatter(i, j), i) for i in range(1, j)]
            least, i = min(trials)
            longer[j] = (least, [*best[i][1], i])
        best = longer
    return best[n][1]


def _added_up(
    stacks: Mapping[str, npt.NDArray[Any]], shifts: FloatArray, frames: slice
) -> tuple[dict[str, FloatArray], FloatArray]:
    """Return the sum of some frames of every signal, moved back, and their coverage."""
    images: dict[str, FloatArray] = {}
    coverage = np.ones(1)
    for name, stack in stacks.items():
        total, counted = add_up(stack[frames].astype(np.float32), shifts[frames])
        images[name], coverage = total.astype(np.float64), counted.astype(np.float64)
    return images, coverage


def _noise_between_frames(
    stacks: Mapping[str, npt.NDArray[Any]],
    shifts: FloatArray,
    settings: Mapping[str, Any],
    pixel_size_nm: float,
) -> float:
    """Return the noise of the sharpened light image, from two halves of the frames.

    From a single frame, what varies from pixel to pixel stands for it, filtered alike.
    """
    if len(shifts) > 1:
        halves = [
            sharpened(
                light_image(_added_up(stacks, shifts, slice(i, None, 2))[0], settings),
                pixel_size_nm,
            )
            for i in (0, 1)
        ]
        return float(np.std(halves[0] - halves[1]) / 2)
    images = {name: stack[0].astype(np.float64) for name, stack in stacks.items()}
    image = light_image(images, settings)
    rough = image - ndimage.median_filter(image, 3)
    return float(np.std(sharpened(rough, pixel_size_nm)))


def _maxima(image: FloatArray, noise: float, pixel_size_nm: float) -> FloatArray:
    """Return positions (n, 2), (x, y) in nm, of the maxima that aren't noise, in parts of pixels.

    The top of the parabola through a maximum and its two neighbours along each axis.
    """
    side = 2 * max(1, round(0.7 * SAME_COLUMN_NM / pixel_size_nm)) + 1
    peak = image == ndimage.maximum_filter(image, side)
    peak[[0, -1], :] = peak[:, [0, -1]] = False
    y, x = np.nonzero(peak & (image > LEAST_SIGNIFICANCE * noise))
    if len(y):
        strong = image[y, x] >= LEAST_RELATIVE_HEIGHT * np.quantile(image[y, x], 0.9)
        y, x = y[strong], x[strong]
    top = image[y, x]
    offsets = []
    for dy, dx in ((0, 1), (1, 0)):
        low, high = image[y - dy, x - dx], image[y + dy, x + dx]
        bend = np.minimum(low + high - 2 * top, -1e-300)
        offsets.append(np.clip(0.5 * (low - high) / bend, -0.5, 0.5))
    return np.column_stack([x + offsets[0], y + offsets[1]]) * pixel_size_nm


def _positions(found: Mapping[str, FloatArray]) -> FloatArray:
    return np.column_stack([found["x_nm"], found["y_nm"]])


def _joined(heavy: FloatArray, everything: FloatArray) -> FloatArray:
    """Return all heavy columns, and of the others those that aren't one of them."""
    if not (len(heavy) and len(everything)):
        return np.concatenate([heavy, everything])
    distance = KDTree(heavy).query(everything)[0]
    return np.concatenate([heavy, everything[distance > SAME_COLUMN_NM]])


def _brightness(image: FloatArray, position_px: FloatArray, radius_px: float) -> FloatArray:
    """Return the mean within a radius of each position, less the darkest tenth of the image."""
    y, x = np.indices(image.shape)
    background = float(np.mean(image[image <= np.quantile(image, 0.1)]))
    means = [
        image[(x - px) ** 2 + (y - py) ** 2 <= max(radius_px, 0.8) ** 2].mean() - background
        for px, py in position_px
    ]
    return np.array(means, np.float64)
