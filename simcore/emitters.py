"""What fluorescence microscopes see of a specimen: sites, the labels on them, the dyes on those.

Positions are in nm in the specimen's frame: x to the right, y down, z up from the coverslip into
the specimen, away from the objective. The specimen's origin lies in the middle of the view.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.atoms import Window
from nanophantom.simcore.fields import Table, read_only

if TYPE_CHECKING:
    from nanophantom.simcore.light.fluorophores import Fluorophore

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Sites:
    """Places on structures where a label can bind.

    Attributes
    ----------
    positions_nm : (n, 3)
        x, y, z.
    structure : (n,) int32
        Which structure (pore, origami, filament, cluster) a site belongs to, from 0.
    part : (n,) int32
        Which part of it (corner of a pore, protofilament), from 0 in each structure.
    """

    positions_nm: Floats
    structure: Ints
    part: Ints

    def __post_init__(self) -> None:
        n = len(self.positions_nm)
        if self.positions_nm.shape != (n, 3) or not np.isfinite(self.positions_nm).all():
            raise ValueError("positions_nm of sites must be finite, shape (n, 3)")
        for name in ("structure", "part"):
            values = np.asarray(getattr(self, name), np.int32)
            if values.shape != (n,):
                raise ValueError(f"{name} of sites: one number a site, got shape {values.shape}")
            object.__setattr__(self, name, read_only(values))
        object.__setattr__(self, "positions_nm", read_only(np.asarray(self.positions_nm, float)))

    def __len__(self) -> int:
        return len(self.positions_nm)

    def table(self) -> Table:
        """Return the sites as a truth table."""
        x, y, z = self.positions_nm.T
        numbers = {"site": np.arange(len(self)), "structure": self.structure, "part": self.part}
        return {**numbers, "x_nm": x, "y_nm": y, "z_nm": z}


@dataclass(frozen=True, eq=False)
class Dyes:
    """Dye molecules that can fluoresce, and the chain that leads back to their sites.

    Attributes
    ----------
    positions_nm : (n, 3)
        x, y, z.
    dye, label, site : (n,) int32
        Number of the dye itself, of its label and of its site, in the specimen's tables.
    brightness : (n,)
        Photon rate relative to that of the fluorophore; 1 on average.
    """

    positions_nm: Floats
    dye: Ints
    label: Ints
    site: Ints
    brightness: Floats

    def __post_init__(self) -> None:
        n = len(self.positions_nm)
        if self.positions_nm.shape != (n, 3) or not np.isfinite(self.positions_nm).all():
            raise ValueError("positions_nm of dyes must be finite, shape (n, 3)")
        for name in ("dye", "label", "site", "brightness"):
            values = np.asarray(getattr(self, name))
            if values.shape != (n,):
                raise ValueError(f"{name} of dyes: one number a dye, got shape {values.shape}")
            object.__setattr__(self, name, read_only(values))
        object.__setattr__(self, "positions_nm", read_only(self.positions_nm))

    def __len__(self) -> int:
        return len(self.positions_nm)

    def select(self, keep: npt.NDArray[np.bool_]) -> Dyes:
        """Return some of the dyes; they keep their numbers."""
        chain = (self.dye[keep], self.label[keep], self.site[keep])
        return Dyes(self.positions_nm[keep], *chain, self.brightness[keep])


@runtime_checkable
class HasDyes(Protocol):
    """A specimen that fluoresces."""

    @property
    def fluorophore(self) -> Fluorophore:
        """What all its dyes are."""
        ...

    def dyes_within(self, window: Window) -> Dyes:
        """Return the dyes whose (x, y) lie in the window."""
        ...
