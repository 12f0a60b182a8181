"""The height of a step as the distance of the two peaks in the histogram of heights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nanophantom.analysis.robust import robust_sigma
from nanophantom.analysis.step_edges import checked_image
from nanophantom.simcore.pixel_size import PixelSize

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def histogram_height(
    image: npt.ArrayLike, pixel_size_nm: PixelSize, *, slope: tuple[float, float] | None = None
) -> float:
    """Return the distance of the two peaks in the histogram of heights, always positive.

    It needs no straight edge, but two levels of which neither has less than a tenth of the
    image. The tilt is taken off first: that of the most frequent local slopes doesn't suffice
    where noise is strong, so it is fitted with the two levels, in turns. Rows must be aligned.

    Parameters
    ----------
    image : (ny, nx)
        Heights in nm.
    pixel_size_nm : float or (y, x)
    slope : (y, x), optional
        The tilt in nm per nm, if it is known.

    Raises
    ------
    ValueError
        The image isn't finite and two-dimensional, or has one level only.
    """
    z, (dy, dx) = checked_image(image, pixel_size_nm)
    y, x = (v.astype(np.float64).ravel() for v in np.mgrid[: z.shape[0], : z.shape[1]])
    if slope is not None:
        flat = z.ravel() - slope[0] * dy * y - slope[1] * dx * x
    else:
        # most frequent differences over a short lag: an edge is crossed by few of them
        lag = [max(1, n // 16) for n in z.shape]
        tilt_y = np.median(z[lag[0] :] - z[: -lag[0]]) / lag[0]
        tilt_x = np.median(z[:, lag[1] :] - z[:, : -lag[1]]) / lag[1]
        flat = z.ravel() - tilt_y * y - tilt_x * x
        plane = np.stack([y - y.mean(), x - x.mean()])
        for _ in range(20):
            low, high, levels = _two_levels(flat)
            used = low | high
            terms = np.stack([*plane[:, used], low[used], high[used]], axis=1)
            fitted = np.linalg.lstsq(terms, flat[used], rcond=None)[0]
            flat = flat - fitted[:2] @ plane
            if np.max(np.abs(fitted[:2]) * z.shape) < 1e-6 * abs(levels[1] - levels[0]):
                break
    _, _, levels = _two_levels(flat)
    return float(levels[1] - levels[0])


def _two_levels(flat: Floats) -> tuple[Bools, Bools, Floats]:
    """Return which pixels belong to the lower and the upper peak, and the peaks' places."""
    ordered = np.sort(flat)
    # Otsu: the split with the largest variance between both parts
    n = np.arange(1, len(ordered))
    total = np.cumsum(ordered)
    between = (total[:-1] / n - (total[-1] - total[:-1]) / (len(ordered) - n)) ** 2
    split = int(np.argmax(between * n * (len(ordered) - n))) + 1
    if not 0.1 * len(flat) < split < 0.9 * len(flat):
        raise ValueError("one of two levels has less than a tenth of the image")
    parts, masks = (ordered[:split], ordered[split:]), []
    levels = np.empty(2)
    rounding = 1e-12 * float(np.max(np.abs(flat)))
    for i, part in enumerate(parts):
        level = float(np.median(part))
        for _ in range(20):
            spread = robust_sigma(part - level)
            near = part[np.abs(part - level) <= 2.5 * spread + rounding]
            before, level = level, float(np.mean(near))
            if abs(level - before) <= 1e-6 * spread + rounding:
                break
        levels[i] = level
        masks.append(np.abs(flat - level) <= 2.5 * spread + rounding)
    return masks[0], masks[1], levels
