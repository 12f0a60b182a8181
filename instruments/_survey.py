"""What a specimen holds over a large view, found out piece by piece; and a specimen turned."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.atoms import Atoms, Window
from nanophantom.simcore.fields import Table
from nanophantom.simcore.specimens import HasAtoms, HasFields, HasThickness, Specimen

Floats = npt.NDArray[np.float64]

PIECE_NM = 20.0
"""Edge of the pieces, so that memory holds the atoms of one of them only."""


@dataclass(frozen=True)
class Survey:
    """What there is in view.

    Attributes
    ----------
    n_atoms
        Their number.
    numbers
        Atomic numbers, each once.
    depth_nm
        The exit face, or the deepest atom: z counts from the entrance face.
    """

    n_atoms: int
    numbers: tuple[int, ...]
    depth_nm: float

    @classmethod
    def of(cls, specimen: Specimen, window: Window) -> Survey:
        """Look at a specimen through a window.

        Raises
        ------
        ValueError
            The specimen has neither atoms nor fields there.
        """
        n_atoms, numbers, depth = 0, set[int](), 0.0
        if isinstance(specimen, HasAtoms):
            for piece in _pieces(window):
                atoms = specimen.atoms_within(piece)
                n_atoms += len(atoms)
                numbers |= set(np.unique(atoms.numbers).tolist())
                depth = max(depth, float(atoms.positions_nm[:, 2].max(initial=0.0)))
        layers = specimen.fields_within(window, (8, 8)) if isinstance(specimen, HasFields) else ()
        if n_atoms == 0 and not layers:
            raise ValueError(
                "sample: nothing lies in view; enlarge the view or move the sample"
                if isinstance(specimen, HasAtoms | HasFields)
                else "sample: an electron microscope needs a specimen made of atoms or fields"
            )
        depth = max([depth, *(layer.z_nm for layer in layers)])
        if isinstance(specimen, HasThickness):
            depth = max(depth, specimen.exit_nm)
        return cls(n_atoms, tuple(sorted(numbers)), depth)


def _pieces(window: Window) -> list[Window]:
    """Cut a window into pieces of equal size."""
    nx = math.ceil(window.width_nm / PIECE_NM)
    ny = math.ceil(window.height_nm / PIECE_NM)
    x = np.linspace(window.x0_nm, window.x1_nm, nx + 1).tolist()
    y = np.linspace(window.y0_nm, window.y1_nm, ny + 1).tolist()
    return [Window(x[j], x[j + 1], y[i], y[i + 1]) for i in range(ny) for j in range(nx)]


class Turned(Specimen):
    """A specimen of atoms on a tilted stage, turned about the middle of the view and its depth.

    Parameters
    ----------
    specimen
        Untilted.
    tilt_mrad : (x, y)
        Rotation about the x axis, then about the y axis.
    depth_nm
        Its extent along the beam.

    Raises
    ------
    ValueError
        The specimen is made of fields.
    """

    def __init__(self, specimen: Specimen, tilt_mrad: tuple[float, float], depth_nm: float) -> None:
        if not isinstance(specimen, HasAtoms) or isinstance(specimen, HasFields):
            raise ValueError(
                "stage_tilt_mrad: a specimen made of fields can't be tilted; "
                "set it to [0, 0] or make the film of atoms"
            )
        self.specimen, self.depth_nm = specimen, depth_nm
        (sx, sy), (cx, cy) = np.sin(1e-3 * np.array(tilt_mrad)), np.cos(1e-3 * np.array(tilt_mrad))
        about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
        about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        self.rotation: Floats = about_y @ about_x

    def atoms_within(self, window: Window) -> Atoms:
        """Return the atoms whose (x, y), after the rotation, lie in the window."""
        # Where the window's corners were before, at either face; z is what takes them there.
        pivot = np.array([0.0, 0.0, self.depth_nm / 2])
        edge = self.rotation[2]
        corners = []
        for x in (window.x0_nm, window.x1_nm):
            for y in (window.y0_nm, window.y1_nm):
                for face in (-self.depth_nm / 2 - 0.1, self.depth_nm / 2 + 0.1):
                    # R^T (x, y, z) has the height `face`: (R^T)_zz z = face - what x and y give
                    z = (face - self.rotation[0, 2] * x - self.rotation[1, 2] * y) / edge[2]
                    corners.append(self.rotation.T @ np.array([x, y, z]))
        x, y, _ = np.array(corners).T
        before = Window(x.min() - 0.1, x.max() + 0.1, y.min() - 0.1, y.max() + 0.1)
        atoms = cast(HasAtoms, self.specimen).atoms_within(before)
        turned = atoms.rotated(self.rotation, pivot)
        return turned.select(window.holds(turned.positions_nm[:, 0], turned.positions_nm[:, 1]))

    def truth(self) -> Mapping[str, Table]:
        """Return what the untilted specimen tells."""
        return self.specimen.truth()
