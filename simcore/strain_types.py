"""What strain fields share: their components, and how they stand in truth tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar, NamedTuple, Protocol, Self, cast

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.fields import Table

Floats = npt.NDArray[np.float64]


class PlaneStrain(NamedTuple):
    """Strain in a plane, and rotation, each of the shape of the points."""

    exx: Floats
    eyy: Floats
    exy: Floats
    rotation_rad: Floats


class SolidStrain(NamedTuple):
    """Strain of a solid without rotation, each of the shape of the points."""

    exx: Floats
    eyy: Floats
    ezz: Floats
    exy: Floats
    exz: Floats
    eyz: Floats


class PlaneField(Protocol):
    """Displacements in the plane across the beam."""

    def displacement(self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Return (ux, uy) in nm; not a number where there is no matter."""
        ...

    def continued(self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Return the same, steadily continued to where there is no matter."""
        ...


class Tabled:
    """Fields are frozen dataclasses of numbers; their table names the kind of field."""

    field: ClassVar[str]

    def table(self) -> Table:
        """Return the field as a table of one row: its kind, and every constant."""
        constants = asdict(cast(Any, self))
        return {"field": np.array([self.field])} | {k: np.array([v]) for k, v in constants.items()}

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Self:
        """Read a table of one row.

        Raises
        ------
        ValueError
            It is the table of another kind of field.
        """
        name = kind_of(table)
        if name != cls.field:
            raise ValueError(f"the table is that of the field {name!r}, not of {cls.field!r}")
        return cls(**{k: float(np.asarray(v)[0]) for k, v in table.items() if k != "field"})


def kind_of(table: Mapping[str, Any]) -> str:
    """Return which kind of field a table describes, or raise ValueError."""
    if "field" not in table:
        raise ValueError("a strain field's table needs a column 'field' that names its kind")
    name = np.asarray(table["field"])[0]
    return name.decode() if isinstance(name, bytes) else str(name)
