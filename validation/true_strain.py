"""The true strain of a specimen, at places of an image, relative to the crystal that is known.

The truth file holds the displacement field in closed form. What an image of a sheet shows is that
field's strain. What an image of a particle shows are columns, each at the mean place of its atoms:
the strain of their pattern is the gradient of the displacement averaged along the beam. It isn't
the averaged strain: where the thickness changes, neighbouring columns average over different
depths, which their distance shows and no atom's strain does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.strain_fields import (
    HoleInSheet,
    MisfittingSphere,
    PlaneStrain,
    StrainField,
    UniformStrain,
    field_of,
    reference_of,
)

if TYPE_CHECKING:
    from nanophantom.simcore.fields import Table
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

NEAR_NM = 0.4
"""Nearer than this to a surface, to an interface or to the edge of a hole is near it."""
STEP_NM = 1e-4
"""Half the distance over which mean displacements are differentiated."""


@dataclass(frozen=True, eq=False)
class MeanColumns:
    """Displacements of a particle's columns: averaged along the beam through the whole particle.

    Attributes
    ----------
    field
        The displacement of every atom.
    normals, distances_nm
        Facets before straining, (n, 3) and (n,), from the middle; none for a ball.
    """

    field: MisfittingSphere
    normals: Floats
    distances_nm: Floats

    def faces(self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Return where lines along the beam enter and leave; not a number where they miss."""
        x = np.asarray(x_nm, np.float64) - self.field.x_nm
        y = np.asarray(y_nm, np.float64) - self.field.y_nm
        if not len(self.normals):
            left = self.field.diameter_nm**2 / 4 - x**2 - y**2
            half = np.sqrt(np.where(left > 0, left, np.nan))
            return self.field.z_nm - half, self.field.z_nm + half
        low, high = np.full(x.shape, -np.inf), np.full(x.shape, np.inf)
        for (a, b, c), distance in zip(self.normals, self.distances_nm, strict=True):
            room = distance - a * x - b * y
            if abs(c) < 1e-9:  # a facet along the beam
                high = np.where(room < 0, -np.inf, high)
            elif c > 0:
                high = np.minimum(high, room / c)
            else:
                low = np.maximum(low, room / c)
        met = np.where(high > low, 0.0, np.nan)
        return self.field.z_nm + low + met, self.field.z_nm + high + met

    def displacement(self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Return (ux, uy) in nm; not a number beside the particle."""
        return self.field.mean_displacement(x_nm, y_nm, *self.faces(x_nm, y_nm))

    def continued(self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Return the same, beside the particle the displacement at the depth of its middle."""
        ux, uy = self.displacement(x_nm, y_nm)
        beside = self.field.displacement(x_nm, y_nm, self.field.z_nm)
        return np.where(np.isnan(ux), beside[0], ux), np.where(np.isnan(uy), beside[1], uy)

    def strain(self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike) -> PlaneStrain:
        """Return the gradient of `displacement`: what distances of columns show."""
        x, y = np.asarray(x_nm, np.float64), np.asarray(y_nm, np.float64)

        def slope(dx: float, dy: float) -> tuple[Floats, Floats]:
            ahead, behind = self.displacement(x + dx, y + dy), self.displacement(x - dx, y - dy)
            return tuple((a - b) / (2 * STEP_NM) for a, b in zip(ahead, behind, strict=True))  # type: ignore[return-value]

        (xx, yx), (xy, yy) = slope(STEP_NM, 0.0), slope(0.0, STEP_NM)
        return PlaneStrain(xx, yy, (xy + yx) / 2, (yx - xy) / 2)


@dataclass(frozen=True, eq=False)
class TrueStrain:
    """Strain at places in frame 0 of an image.

    Attributes
    ----------
    field
        As the truth file holds it.
    shown
        What an image shows of it: the field of a sheet, the mean of a particle's columns.
    origin_nm
        Where the origin of the specimen lies in frame 0, (x, y).
    """

    field: StrainField
    shown: UniformStrain | HoleInSheet | MeanColumns
    origin_nm: tuple[float, float]

    @classmethod
    def of(cls, dataset: Observed, table: Table, shape: tuple[int, int]) -> TrueStrain:
        """Read the field of a dataset whose frames are (ny, nx); table: specimen_strain_field.

        Raises
        ------
        ValueError
            The stage is tilted: the field lies in the specimen.
        """
        if any(dataset.settings.get("stage_tilt_mrad", ())):
            raise ValueError("the true strain isn't known of a specimen on a tilted stage")
        pixel_nm = float(dataset.settings["pixel_size_nm"])
        drift = dataset.truth("drift")
        ny, nx = shape  # the specimen's origin lies in the middle of the view
        origin = (
            (nx - 1) / 2 * pixel_nm + float(drift["dx_nm"][0]),
            (ny - 1) / 2 * pixel_nm + float(drift["dy_nm"][0]),
        )
        field = field_of(table)
        if not isinstance(field, MisfittingSphere):
            return cls(field, field, origin)
        normals, distances = np.empty((0, 3)), np.empty(0)
        if "specimen_facets" in dataset.truth_tables:
            facets = dataset.truth("specimen_facets")
            normals = np.column_stack([facets[f"normal_{axis}"] for axis in "xyz"])
            distances = np.asarray(facets["distance_nm"], np.float64)
        return cls(field, MeanColumns(field, normals, distances), origin)

    @property
    def centre_nm(self) -> tuple[float, float]:
        """Where the middle of the particle or of the hole lies in frame 0; else the origin."""
        x, y = self.origin_nm
        if isinstance(self.field, MisfittingSphere | HoleInSheet):
            return x + self.field.x_nm, y + self.field.y_nm
        return x, y

    def at(self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike) -> PlaneStrain:
        """Return strain and rotation at places in frame 0; not a number where there's no matter."""
        return self.shown.strain(*self._reference(x_nm, y_nm))

    def near_edge(self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike) -> Bools:
        """Say which places lie near a surface, an interface or the edge of a hole."""
        x, y = self._reference(x_nm, y_nm)
        near = np.zeros(x.shape, np.bool_)
        for angle in np.arange(12) * np.pi / 6:
            beside = x + NEAR_NM * np.cos(angle), y + NEAR_NM * np.sin(angle)
            near |= np.isnan(self.shown.displacement(*beside)[0])
        if isinstance(self.field, MisfittingSphere):
            from_middle = np.hypot(x - self.field.x_nm, y - self.field.y_nm)
            near |= np.abs(from_middle - self.field.core_diameter_nm / 2) < NEAR_NM
        return near

    def _reference(self, x_nm: npt.ArrayLike, y_nm: npt.ArrayLike) -> tuple[Floats, Floats]:
        x = np.asarray(x_nm, np.float64) - self.origin_nm[0]
        y = np.asarray(y_nm, np.float64) - self.origin_nm[1]
        if isinstance(self.field, HoleInSheet):
            x, y = _out_of_middle(self.field, x, y)
        return reference_of(self.shown, x, y)


def _out_of_middle(hole: HoleInSheet, x_nm: Floats, y_nm: Floats) -> tuple[Floats, Floats]:
    """Return points, those deep in a hole moved outwards to half its radius, still in the hole.

    In the very middle the direction of the nearest edge, and so the continued field, jumps.
    """
    x, y = x_nm - hole.x_nm, y_nm - hole.y_nm
    r, least = np.hypot(x, y), hole.diameter_nm / 4
    scale = np.maximum(1.0, least / np.maximum(r, 1e-12))
    x = np.where(r > 1e-12, scale * x, least)
    return x + hole.x_nm, np.where(r > 1e-12, scale * y, 0.0) + hole.y_nm
