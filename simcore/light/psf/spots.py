"""What every renderer of spots can do, whatever its point spread function."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]


@runtime_checkable
class SpotRenderer(Protocol):
    """Adds spots of known photon numbers to images, integrated over the pixels."""

    @property
    def reach_nm(self) -> float:
        """How far from its centre a spot is drawn, along x and y."""
        ...

    def add(
        self,
        image: Image,
        x_px: npt.ArrayLike,
        y_px: npt.ArrayLike,
        z_nm: npt.ArrayLike,
        photons: npt.ArrayLike,
    ) -> None:
        """Add spots to an image, in place.

        Parameters
        ----------
        image : (ny, nx) float32
            Expected photons of each pixel.
        x_px, y_px : (n,)
            Centres; pixel (0, 0) has its own at x = 0, y = 0. What falls beyond the border is cut.
        z_nm : (n,)
            Heights of the emitters above the coverslip.
        photons : (n,)
            Expected photons on the whole, infinite camera.
        """
        ...

    def at(self, z_nm: float, ny: int, nx: int, x: float, y: float) -> Image:
        """Return the image of one photon: shape (ny, nx), centred at pixel x, y."""
        ...


def columns(
    image: Image,
    x_px: npt.ArrayLike,
    y_px: npt.ArrayLike,
    z_nm: npt.ArrayLike,
    photons: npt.ArrayLike,
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the spots as float64 arrays for a kernel, checked.

    Raises
    ------
    ValueError
        The image is not a writable 2-D float32 array; the columns differ in length or hold
        something that is not finite.
    """
    if image.dtype != np.float32 or image.ndim != 2 or not image.flags.c_contiguous:
        raise ValueError(
            f"image must be a contiguous 2-D float32 array, got {image.dtype} {image.shape}"
        )
    if not image.flags.writeable:
        raise ValueError("image is write-protected; spots are added in place")
    named = {"x_px": x_px, "y_px": y_px, "z_nm": z_nm, "photons": photons}
    arrays = [np.ascontiguousarray(values, np.float64) for values in named.values()]
    for name, values in zip(named, arrays, strict=True):
        if values.shape != (arrays[0].size,):
            raise ValueError(
                f"{name} of spots: one number a spot ({arrays[0].size}), got {values.shape}"
            )
        if not np.isfinite(values).all():
            raise ValueError(f"{name} of spots must be finite")
    x, y, z, n = arrays
    return x, y, z, n
