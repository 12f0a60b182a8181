"""Nuclear pores: Nup96, the ruler of super-resolution microscopy."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from pydantic import Field

from nanophantom.samples.building.labelled import FieldSample, Structures, refuse_too_many
from nanophantom.samples.building.scattered import Arrangement, arranged, turned
from nanophantom.samples.building.surfaces import draw_sizes
from nanophantom.simcore.atoms import Floats, Ints
from nanophantom.simcore.emitters import Sites
from nanophantom.simcore.runs import Run

CORNERS = 8


class NuclearPores(FieldSample):
    """Nup96 in nuclear pores: 32 sites each, at eight corners of two rings.

    A corner holds two sites of either ring, side by side on the ring: J. V. Thevathasan et al.,
    Nature Methods 16 (2019) 1045. Site numbers of a pore run over its lower ring and then over its
    upper one; the part of a site is its corner.
    """

    kind: Literal["nuclear-pores"] = "nuclear-pores"
    number: int = Field(default=300, ge=1, le=100_000)
    """How many there are in the field."""
    field_um: float = Field(default=8.0, gt=0, le=1000)
    """Edge of the square around the origin that holds their centres."""
    arrangement: Arrangement = "random"
    """At random places without overlap, on a square grid, or on a line along x."""
    spacing_nm: float | None = Field(default=None, gt=0, le=1e6)
    """Distance of neighbours on grid and line; by default they fill the field."""
    gap_nm: float = Field(default=20.0, ge=0, le=1e5)
    """Least distance between two pores, beyond their diameter."""
    diameter_nm: float = Field(default=107.0, gt=0, le=1000)
    """Diameter of the rings."""
    diameter_spread: float = Field(
        default=0.0, ge=0, le=0.3, json_schema_extra={"dimensionless": True}
    )
    """Standard deviation of the diameters over their mean."""
    ellipticity: float = Field(default=0.0, ge=0, le=0.8, json_schema_extra={"dimensionless": True})
    """Flattening 1 - b / a of every pore along a direction of its own, at the same area."""
    pair_nm: float = Field(default=12.0, ge=0, le=100)
    """Distance of the two sites of a corner in one ring."""
    ring_distance_nm: float = Field(default=50.0, ge=0, le=500)
    """Distance of the two rings along the pore's axis."""
    twist_deg: float = Field(default=0.0, ge=-45, le=45)
    """By how much the upper ring is turned against the lower one."""
    rotation_deg: float | None = Field(default=None, ge=-360, le=360)
    """In-plane rotation of every pore; by default each has a random one."""
    tilt_spread_deg: float = Field(default=0.0, ge=0, le=60)
    """Standard deviation of their tilts, about each of two axes in the plane."""
    height_nm: float = Field(default=100.0, ge=-1e6, le=1e6)
    """How high above the coverslip their middles lie."""

    @classmethod
    def small(cls) -> Self:
        """Return a dozen."""
        return cls(number=12, field_um=1.0)

    def build(self, run: Run) -> Structures:
        """Draw "places", "rotations", "tilts", and "shapes" where they differ."""
        n = self.number
        refuse_too_many(n * 4.0 * CORNERS, "number")
        diameters = draw_sizes(
            n, self.diameter_nm, "normal", self.diameter_spread, run.rng("shapes")
        )
        flat_deg = 180 * run.rng("flattening").random(n)
        widest = diameters.max() / np.sqrt(1 - self.ellipticity) + self.pair_nm
        centres = arranged(
            self.arrangement,
            n,
            self.field_nm,
            self.spacing_nm,
            widest + self.gap_nm,
            run.rng("places"),
        )
        if self.rotation_deg is None:
            angle = 360 * run.rng("rotations").random(n)
        else:
            angle = np.full(n, self.rotation_deg)
        lean = self.tilt_spread_deg * run.rng("tilts").standard_normal((n, 2))
        tilt, side = np.hypot(*lean.T), np.rad2deg(np.arctan2(lean[:, 1], lean[:, 0])) % 360

        pore, corner, ring = self.pore()
        pores = np.repeat(pore[None], n, axis=0)
        pores[:, :, :2] *= (diameters / self.diameter_nm)[:, None, None]
        flattened(pores, self.ellipticity, flat_deg - angle)
        middles = np.column_stack([centres, np.full(n, self.height_nm)])
        # einsum("nij,nmj->nmi") by matmul, which is faster
        positions = pores @ turned(angle, tilt, side).transpose(0, 2, 1) + middles[:, None]
        return Structures(
            sites=Sites(
                positions.reshape(-1, 3),
                np.repeat(np.arange(n, dtype=np.int32), len(pore)),
                np.tile(corner, n),
            ),
            table={
                "x_nm": middles[:, 0],
                "y_nm": middles[:, 1],
                "z_nm": middles[:, 2],
                "angle_deg": angle % 360,
                "size_nm": diameters,
                "tilt_deg": tilt,
                "tilt_direction_deg": side,
                "ellipticity": np.full(n, self.ellipticity),
                "long_axis_deg": flat_deg,
                "ring_distance_nm": np.full(n, self.ring_distance_nm),
            },
            site_columns={"ring": np.tile(ring, n)},
            further={
                "pores": {
                    "diameter_nm": np.array([self.diameter_nm]),
                    "pair_nm": np.array([self.pair_nm]),
                    "ring_distance_nm": np.array([self.ring_distance_nm]),
                }
            },
        )

    def pore(self) -> tuple[Floats, Ints, Ints]:
        """Return one pore: sites, shape (32, 3), the corner and the ring of each."""
        radius = self.diameter_nm / 2
        if self.pair_nm > self.diameter_nm * np.sin(np.pi / CORNERS):
            raise ValueError(
                f"pair_nm: {self.pair_nm:g} nm is wider than the distance of two corners; give "
                f"{self.diameter_nm * np.sin(np.pi / CORNERS):.3g} at most"
            )
        half = np.arcsin(self.pair_nm / 2 / radius)
        corner = np.repeat(np.arange(CORNERS), 2)
        at = 2 * np.pi * corner / CORNERS + half * np.tile([-1, 1], CORNERS)
        twist = np.deg2rad(self.twist_deg) / 2 * np.array([[-1], [1]])
        height = self.ring_distance_nm / 2 * np.array([[-1], [1]])
        x, y = radius * np.cos(at + twist), radius * np.sin(at + twist)
        sites = np.stack([x, y, np.broadcast_to(height, x.shape)], axis=-1).reshape(-1, 3)
        return sites, np.tile(corner, 2), np.repeat([0, 1], 2 * CORNERS)


def flattened(pores_nm: Floats, ellipticity: float, long_axis_deg: Floats) -> None:
    """Stretch pores, shape (n, m, 3), in place, along an axis in the plane of each."""
    if not ellipticity:
        return
    c, s = np.cos(np.deg2rad(long_axis_deg))[:, None], np.sin(np.deg2rad(long_axis_deg))[:, None]
    stretch = 1 / np.sqrt(1 - ellipticity)
    x, y = pores_nm[:, :, 0], pores_nm[:, :, 1]
    along, across = stretch * (c * x + s * y), (c * y - s * x) / stretch
    pores_nm[:, :, 0], pores_nm[:, :, 1] = c * along - s * across, s * along + c * across
