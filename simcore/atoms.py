"""Atoms at rest, and the window of the view that holds them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.fields import Table, read_only

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Window:
    """A rectangle across the beam, in nm; the specimen's origin is the centre of the view."""

    x0_nm: float
    x1_nm: float
    y0_nm: float
    y1_nm: float

    @classmethod
    def centred(cls, width_nm: float, height_nm: float) -> Window:
        """Return a window of this size around the origin."""
        return cls(-width_nm / 2, width_nm / 2, -height_nm / 2, height_nm / 2)

    @classmethod
    def everywhere(cls) -> Window:
        """Return a window without borders."""
        return cls(-math.inf, math.inf, -math.inf, math.inf)

    @property
    def width_nm(self) -> float:
        """Extent along x."""
        return self.x1_nm - self.x0_nm

    @property
    def height_nm(self) -> float:
        """Extent along y."""
        return self.y1_nm - self.y0_nm

    def grown(self, margin_nm: float) -> Window:
        """Return the window with a margin on every side."""
        return Window(
            self.x0_nm - margin_nm,
            self.x1_nm + margin_nm,
            self.y0_nm - margin_nm,
            self.y1_nm + margin_nm,
        )

    def holds(self, x_nm: Floats, y_nm: Floats) -> npt.NDArray[np.bool_]:
        """Say which points lie inside (lower edges included, upper edges not)."""
        inside_x = (x_nm >= self.x0_nm) & (x_nm < self.x1_nm)
        inside_y = (y_nm >= self.y0_nm) & (y_nm < self.y1_nm)
        return np.asarray(inside_x & inside_y)


@dataclass(frozen=True, eq=False)
class Atoms:
    """Atoms at rest, and what is known of their motion: write-protected arrays.

    Attributes
    ----------
    numbers
        Atomic numbers, shape (n,).
    positions_nm
        Equilibrium positions (x, y, z), shape (n, 3); x to the right, y down, z along the beam.
    b_factors_A2
        Isotropic Debye-Waller factors B = 8 pi^2 <u^2> in Å^2, shape (n,).
    groups
        Index into ``group_names`` of the part of the specimen each atom belongs to, shape (n,).
    group_names
        Names of the parts ("particle", "support").
    u_aniso_A2
        Anisotropic mean square displacements <u_i u_j> in Å^2, shape (n, 3, 3), symmetric; where
        given, atoms move by them and not by their B factors.
    snapshots_nm
        Displacements from the resting places in a supplied trajectory, shape (snapshots, n, 3);
        they hold how atoms move together. An atom without a trajectory has NaN throughout.
    """

    numbers: Ints
    positions_nm: Floats
    b_factors_A2: Floats
    groups: Ints
    group_names: tuple[str, ...]
    u_aniso_A2: Floats | None = None
    snapshots_nm: Floats | None = None

    def __post_init__(self) -> None:
        n = len(self.numbers)
        shapes = (self.positions_nm.shape, self.b_factors_A2.shape, self.groups.shape)
        if shapes != ((n, 3), (n,), (n,)):
            raise ValueError(f"{n} atoms need positions (n, 3), B factors (n,) and groups (n,)")
        if not (np.isfinite(self.positions_nm).all() and np.isfinite(self.b_factors_A2).all()):
            raise ValueError("positions and B factors of atoms must be finite")
        tensors, snapshots = self.u_aniso_A2, self.snapshots_nm
        if tensors is not None and not (
            tensors.shape == (n, 3, 3)
            and np.isfinite(tensors).all()
            and np.allclose(tensors, tensors.swapaxes(1, 2), rtol=0, atol=1e-9)
        ):
            raise ValueError(f"u_aniso_A2 must be finite symmetric tensors of shape ({n}, 3, 3)")
        if snapshots is not None:
            if snapshots.shape != (len(snapshots), n, 3) or len(snapshots) == 0:
                raise ValueError(f"snapshots_nm must have shape (snapshots, {n}, 3)")
            lost = np.isnan(snapshots)
            if np.isinf(snapshots).any() or (lost.any(axis=(0, 2)) != lost.all(axis=(0, 2))).any():
                raise ValueError("snapshots_nm must be finite, or NaN throughout for an atom")
        for name in ("numbers", "positions_nm", "b_factors_A2", "groups"):
            object.__setattr__(self, name, read_only(getattr(self, name)))
        for name in ("u_aniso_A2", "snapshots_nm"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, read_only(getattr(self, name)))

    @classmethod
    def of(
        cls,
        numbers: npt.ArrayLike,
        positions_nm: npt.ArrayLike,
        b_factors_A2: npt.ArrayLike,
        group: str = "specimen",
    ) -> Atoms:
        """Build atoms that all belong to one part; a single B factor serves them all."""
        z = np.asarray(numbers, dtype=np.int64)
        return cls(
            numbers=z,
            positions_nm=np.asarray(positions_nm, dtype=np.float64).reshape(len(z), 3),
            b_factors_A2=np.broadcast_to(np.asarray(b_factors_A2, np.float64), z.shape).copy(),
            groups=np.zeros(len(z), np.int64),
            group_names=(group,),
        )

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def tensors_A2(self) -> Floats:
        """Mean square displacements as tensors, shape (n, 3, 3); B / 8 pi^2 where isotropic."""
        if self.u_aniso_A2 is not None:
            return self.u_aniso_A2
        return np.asarray((self.b_factors_A2 / (8 * np.pi**2))[:, None, None] * np.eye(3))

    def select(self, keep: npt.NDArray[np.bool_] | Ints) -> Atoms:
        """Return the atoms that a mask or an index array names, in that order."""
        return Atoms(
            numbers=self.numbers[keep],
            positions_nm=self.positions_nm[keep],
            b_factors_A2=self.b_factors_A2[keep],
            groups=self.groups[keep],
            group_names=self.group_names,
            u_aniso_A2=None if self.u_aniso_A2 is None else self.u_aniso_A2[keep],
            snapshots_nm=None if self.snapshots_nm is None else self.snapshots_nm[:, keep],
        )

    def moved(self, positions_nm: Floats) -> Atoms:
        """Return the same atoms at other positions, shape (n, 3)."""
        return replace(self, positions_nm=positions_nm)

    def rotated(self, rotation: Floats, about_nm: npt.ArrayLike = (0.0, 0.0, 0.0)) -> Atoms:
        """Return the atoms, their tensors and their displacements rotated about a point.

        Parameters
        ----------
        rotation
            Rotation matrix R, shape (3, 3): r -> R (r - about) + about, U -> R U R^T.
        about_nm
            The point that stays, (x, y, z).
        """
        pivot = np.asarray(about_nm, dtype=np.float64)
        tensors, snapshots = self.u_aniso_A2, self.snapshots_nm
        if tensors is not None:
            tensors = rotation @ tensors @ rotation.T
            tensors = (tensors + tensors.swapaxes(1, 2)) / 2
        return replace(
            self,
            positions_nm=(self.positions_nm - pivot) @ rotation.T + pivot,
            u_aniso_A2=tensors,
            snapshots_nm=None if snapshots is None else snapshots @ rotation.T,
        )

    def __add__(self, other: Atoms) -> Atoms:
        """Return both; of two trajectories as many snapshots remain as both have."""
        names = (*self.group_names, *(n for n in other.group_names if n not in self.group_names))
        relabel = np.array([names.index(n) for n in other.group_names], dtype=np.int64)
        isotropic = self.u_aniso_A2 is None and other.u_aniso_A2 is None
        return Atoms(
            numbers=np.concatenate([self.numbers, other.numbers]),
            positions_nm=np.concatenate([self.positions_nm, other.positions_nm]),
            b_factors_A2=np.concatenate([self.b_factors_A2, other.b_factors_A2]),
            groups=np.concatenate([self.groups, relabel[other.groups]]),
            group_names=names,
            u_aniso_A2=None if isotropic else np.concatenate([self.tensors_A2, other.tensors_A2]),
            snapshots_nm=_joined(self, other),
        )

    def table(self) -> Table:
        """Return the atoms as named columns, as they stand in a dataset's truth."""
        x, y, z = self.positions_nm.T
        columns = {
            "number": self.numbers,
            "x_nm": x,
            "y_nm": y,
            "z_nm": z,
            "b_factor_A2": self.b_factors_A2,
            "group": self.groups,
        }
        if self.u_aniso_A2 is not None:
            for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)):
                columns[f"u_{'xyz'[i]}{'xyz'[j]}_A2"] = self.u_aniso_A2[:, i, j]
        return columns


def _joined(one: Atoms, two: Atoms) -> Floats | None:
    """Return the displacements of both; NaN for atoms that come without a trajectory."""
    known = [len(a.snapshots_nm) for a in (one, two) if a.snapshots_nm is not None]
    if not known:
        return None
    common = min(known)
    parts = [
        np.full((common, len(a), 3), np.nan) if a.snapshots_nm is None else a.snapshots_nm[:common]
        for a in (one, two)
    ]
    return np.concatenate(parts, axis=1)
