"""The surface under an image taken with a known tip, and where it is known for certain.

An image is the surface dilated by the tip. Its erosion by the tip is the highest surface that
makes the same image: the surface itself where the tip touched, and above it where it couldn't reach
(J. S. Villarrubia, J. Res. Natl. Inst. Stand. Technol. 102 (1997) 425). Noise of the image goes
into it, and its lowest pixels most, for it is a minimum: smooth before, or reckon with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.probes.certainty import certainty_map
from nanophantom.simcore.probes.dilation import checked_heights
from nanophantom.simcore.probes.paraboloid import paraboloid_map
from nanophantom.simcore.probes.tip_map import TipMap

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """A surface reconstructed from an image.

    Attributes
    ----------
    heights_nm : (ny, nx)
        Nowhere below the surface, for an image without noise taken with this tip.
    certain : (ny, nx)
        Where it is the surface itself: some pixel of the image can only have been made there.
    """

    heights_nm: FloatArray
    certain: npt.NDArray[np.bool_]


def reconstruct(
    image_nm: npt.ArrayLike,
    tip_nm: npt.ArrayLike,
    apex: tuple[int, int] | None = None,
    *,
    tolerance_nm: float = 1e-9,
) -> Reconstruction:
    """Return the surface under an image taken with a tip of any shape.

    Parameters
    ----------
    image_nm : (ny, nx)
        Heights, finite.
    tip_nm : (rows, columns)
        The tip as it stands over the image, apex upwards: minus the height of its own surface,
        from any level, on the pixels of the image and along its x and y (no reflection); -inf where
        there is no tip.
    apex : (row, column), optional
        The highest sample of the tip; by default it is looked for.
    tolerance_nm
        Tip and surface count as touching if they are no further apart, for `certain`.

    Raises
    ------
    ValueError
        The image isn't a finite map, the tip has no highest sample or the apex isn't it, or the
        tolerance is negative.
    """
    tip = TipMap.of(tip_nm, (1.0, 1.0))
    heights, certain = certainty_map(
        image_nm, tip.heights_nm, tip.apex if apex is None else apex, tolerance_nm
    )
    return Reconstruction(heights, certain)


def reconstruct_paraboloid(
    image_nm: npt.ArrayLike,
    pixel_size_nm: float | tuple[float, float],
    radius_nm: float,
    *,
    tolerance_nm: float = 1e-9,
) -> Reconstruction:
    """Return the surface under an image taken with a tip of which only the radius is known.

    The tip is a paraboloid with this radius at its apex. Parameters and errors as
    :func:`reconstruct`'s; `pixel_size_nm` is the distance between pixels, or those along (y, x).
    """
    image = checked_heights(image_nm, "an image")
    depth_nm = float(image.max() - image.min()) + tolerance_nm
    tip_nm, apex = paraboloid_map(radius_nm, pixel_size_nm, depth_nm)
    return reconstruct(image, tip_nm, apex, tolerance_nm=tolerance_nm)
