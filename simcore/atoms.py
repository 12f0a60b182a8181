"""Atoms at rest, and the window of the view that holds them."""

from __future__ import annotations

from dataclasses import dataclass

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
    """Atoms at rest: write-protected arrays of equal length.

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
    """

    numbers: Ints
    positions_nm: Floats
    b_factors_A2: Floats
    groups: Ints
    group_names: tuple[str, ...]

    def __post_init__(self) -> None:
        n = len(self.numbers)
        shapes = (self.positions_nm.shape, self.b_factors_A2.shape, self.groups.shape)
        if shapes != ((n, 3), (n,), (n,)):
            raise ValueError(f"{n} atoms need positions (n, 3), B factors (n,) and groups (n,)")
        if not (np.isfinite(self.positions_nm).all() and np.isfinite(self.b_factors_A2).all()):
            raise ValueError("positions and B factors of atoms must be finite")
        for name in ("numbers", "positions_nm", "b_factors_A2", "groups"):
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

    def select(self, keep: npt.NDArray[np.bool_] | Ints) -> Atoms:
        """Return the atoms that a mask or an index array names, in that order."""
        return Atoms(
            numbers=self.numbers[keep],
            positions_nm=self.positions_nm[keep],
            b_factors_A2=self.b_factors_A2[keep],
            groups=self.groups[keep],
            group_names=self.group_names,
        )

    def moved(self, positions_nm: Floats) -> Atoms:
        """Return the same atoms at other positions, shape (n, 3)."""
        return Atoms(self.numbers, positions_nm, self.b_factors_A2, self.groups, self.group_names)

    def __add__(self, other: Atoms) -> Atoms:
        names = (*self.group_names, *(n for n in other.group_names if n not in self.group_names))
        relabel = np.array([names.index(n) for n in other.group_names], dtype=np.int64)
        return Atoms(
            numbers=np.concatenate([self.numbers, other.numbers]),
            positions_nm=np.concatenate([self.positions_nm, other.positions_nm]),
            b_factors_A2=np.concatenate([self.b_factors_A2, other.b_factors_A2]),
            groups=np.concatenate([self.groups, relabel[other.groups]]),
            group_names=names,
        )

    def table(self) -> Table:
        """Return the atoms as named columns, as they stand in a dataset's truth."""
        x, y, z = self.positions_nm.T
        return {
            "number": self.numbers,
            "x_nm": x,
            "y_nm": y,
            "z_nm": z,
            "b_factor_A2": self.b_factors_A2,
            "group": self.groups,
        }
