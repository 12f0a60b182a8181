"""The periodic cell of a simulation: a camera's view with a margin, and the atoms in it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from nanophantom.simcore import fft
from nanophantom.simcore.atoms import Atoms, Window
from nanophantom.simcore.environment import Path
from nanophantom.simcore.fields import Array
from nanophantom.simcore.specimens import HasAtoms

LARGEST_CELL_PX = 20_000
BEYOND_NM = 0.5
"""Atoms so far outside the cell count as neighbours of those inside."""


class Raster(Protocol):
    """What looks at a rectangle of the specimen: a camera, or a scan."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        ...

    @property
    def pixel_size_nm(self) -> float:
        """Edge of a pixel."""
        ...


@dataclass(frozen=True)
class Cell:
    """The periodic cell that is simulated: the camera's view with a margin on every side."""

    pixel_nm: float
    view: tuple[int, int]
    margin: tuple[int, int]
    shape: tuple[int, int]
    centre_nm: tuple[float, float] = (0.0, 0.0)
    """Specimen coordinates (y, x) of the view's centre."""

    @classmethod
    def around(cls, camera: Raster, path: Path, margin_nm: float) -> Cell:
        """Choose a cell in whole camera pixels that holds the view wherever it drifts.

        The drift's share is rounded up to quarters of a nanometre, so that seeds that drift
        a little differently share FFT sizes.
        """
        reach = [math.ceil(4 * np.abs(d).max(initial=0.0)) / 4 for d in (path.dy_nm, path.dx_nm)]
        least = [
            n + 2 * math.ceil((margin_nm + r) / camera.pixel_size_nm)
            for n, r in zip(camera.shape, reach, strict=True)
        ]
        if max(least) > LARGEST_CELL_PX:
            raise ValueError(
                f"instrument: the simulated area would be {max(least)} pixels wide (at most "
                f"{LARGEST_CELL_PX}): the camera's view, {max(reach):.2f} nm of drift and a margin "
                f"of {margin_nm:.2f} nm for what the lens spreads; lower camera, drift, "
                "optics.defocus_nm or optics.aperture_mrad, or set multislice.margin_nm"
            )
        ny, nx = (fft.fast_length(n) for n in least)
        height, width = camera.shape
        return cls(
            pixel_nm=camera.pixel_size_nm,
            view=camera.shape,
            margin=((ny - height) // 2, (nx - width) // 2),
            shape=(ny, nx),
        )

    @property
    def extent_A(self) -> tuple[float, float]:
        """Edges (Ly, Lx) of the cell, Å."""
        return self.shape[0] * self.pixel_nm * 10.0, self.shape[1] * self.pixel_nm * 10.0

    @property
    def corner_nm(self) -> tuple[float, float]:
        """Specimen coordinates (y, x) of the centre of the cell's first pixel."""
        (height, width), (my, mx) = self.view, self.margin
        y, x = self.centre_nm
        return (
            y + (-(height - 1) / 2 - my) * self.pixel_nm,
            x + (-(width - 1) / 2 - mx) * self.pixel_nm,
        )

    @property
    def window(self) -> Window:
        """The cell as a window of the specimen, from half a pixel before its first one."""
        y0, x0 = self.corner_nm
        half = self.pixel_nm / 2
        return Window(
            x0 - half,
            x0 - half + self.extent_A[1] / 10,
            y0 - half,
            y0 - half + self.extent_A[0] / 10,
        )

    def atoms_of(self, specimen: HasAtoms, tilt_mrad: tuple[float, float]) -> Atoms:
        """Return the specimen's atoms in the cell, after a rotation of the stage.

        Positions are in specimen coordinates (nm, origin at the centre of the view).
        """
        if tilt_mrad == (0.0, 0.0):
            return specimen.atoms_within(self.window)
        turned = self._turned(specimen, tilt_mrad)
        x, y, _ = turned.positions_nm.T
        return turned.select(self.window.holds(x, y))

    def places_beyond(
        self, specimen: HasAtoms, tilt_mrad: tuple[float, float]
    ) -> npt.NDArray[np.float64]:
        """Return where atoms stand just outside the cell, (n, 3): neighbours of those inside."""
        if tilt_mrad == (0.0, 0.0):
            around = specimen.atoms_within(self.window.grown(BEYOND_NM))
        else:
            around = self._turned(specimen, tilt_mrad)
        x, y, _ = around.positions_nm.T
        near = self.window.grown(BEYOND_NM).holds(x, y) & ~self.window.holds(x, y)
        return np.asarray(around.positions_nm[near])

    def _turned(self, specimen: HasAtoms, tilt_mrad: tuple[float, float]) -> Atoms:
        """Return all atoms that a rotation of the stage may bring into the cell, rotated."""
        window = self.window
        depth = depth_nm(specimen.atoms_within(window))
        sine = math.sin(max(abs(t) for t in tilt_mrad) * 1e-3)
        slack = (1 / math.sqrt(1 - sine**2) - 1) * max(window.width_nm, window.height_nm)
        return _tilted(
            specimen.atoms_within(window.grown(depth * sine + slack + BEYOND_NM)), tilt_mrad
        )

    def crop(self, image: Array) -> Array:
        """Cut the camera's view out of the cell."""
        (height, width), (my, mx) = self.view, self.margin
        return image[my : my + height, mx : mx + width]


def depth_nm(atoms: Atoms) -> float:
    """Return the extent of atoms along the beam."""
    return float(np.ptp(atoms.positions_nm[:, 2])) if len(atoms) else 0.0


def _tilted(atoms: Atoms, tilt_mrad: tuple[float, float]) -> Atoms:
    """Rotate about the x axis, then about the y axis, through the middle of the thickness."""
    ax, ay = (t * 1e-3 for t in tilt_mrad)
    about_x = np.array(
        [[1, 0, 0], [0, np.cos(ax), -np.sin(ax)], [0, np.sin(ax), np.cos(ax)]], dtype=np.float64
    )
    about_y = np.array(
        [[np.cos(ay), 0, np.sin(ay)], [0, 1, 0], [-np.sin(ay), 0, np.cos(ay)]], dtype=np.float64
    )
    z = atoms.positions_nm[:, 2]
    middle = np.array([0.0, 0.0, (z.min() + z.max()) / 2 if len(z) else 0.0])
    turned = atoms.rotated(about_y @ about_x, middle)
    positions = turned.positions_nm.copy()
    positions[:, 2] -= positions[:, 2].min(initial=0.0)
    return turned.moved(positions)
