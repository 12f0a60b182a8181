"""A surface from a file: a measured or computed height map."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field
from scipy import ndimage

from nanophantom.samples._family import Sample
from nanophantom.samples.building.surfaces import SurfaceSpecimen, on_grid
from nanophantom.simcore.fields import Table, read_only
from nanophantom.simcore.height_files import HeightFile, read_height_map
from nanophantom.simcore.runs import Run
from nanophantom.simcore.surfaces import Floats, Material

BUNDLED = Path(__file__).parent / "data"
"""Folder of the height maps that come with the package."""
Extent = Annotated[float, Field(gt=0, le=1e6)]


class HeightMap(Sample):
    """Heights from a file (.gwy, .gsf, .tif, .npy), their middle at the origin.

    Between the file's points heights are interpolated; beyond the outermost ones each goes on at
    the height of the nearest.
    """

    kind: Literal["height-map"] = "height-map"
    file: str
    """Height map: a path, or the name of a bundled one (spheres.gsf)."""
    channel: str | int | None = None
    """Title or number of a channel of a .gwy file; without it the first one of heights."""
    pixel_size_nm: Extent | tuple[Extent, Extent] | None = None
    """Edge of a pixel, or its extents (y, x); it replaces what the file says."""
    height_unit: str | None = None
    """Unit of the heights where the file has none (m, um, nm, pm, ...); nm for .tif and .npy."""
    interpolation: Literal["linear", "cubic"] = "linear"
    """Between points: by straight lines, or smoothly by cubic splines, which overshoot at steps."""
    material: Material = Material()
    """What it is made of."""

    @classmethod
    def small(cls) -> Self:
        """Return the bundled spheres."""
        return cls(file="spheres.gsf")

    def file_path(self) -> Path:
        """Return the file: as named from the current directory, else the bundled one.

        Raises
        ------
        ValueError
            There is neither.
        """
        for path in (Path(self.file).expanduser(), BUNDLED / self.file):
            if path.is_file():
                return path
        bundled = ", ".join(sorted(path.name for path in BUNDLED.glob("*.gsf")))
        raise ValueError(f"file: there is no {self.file!r}; give a path, or one of {bundled}")

    def input_files(self) -> dict[str, Path]:
        """Return the height map."""
        return {"file": self.file_path()}

    def make(self, run: Run) -> MapSpecimen:
        """Read the file; nothing is drawn."""
        read = read_height_map(self.file_path(), self.channel, self.height_unit)
        size = self.pixel_size_nm
        if size is None:
            size = read.pixel_size_nm
        elif not isinstance(size, tuple):
            size = (size, size)
        if size is None:
            raise ValueError(f"pixel_size_nm: {self.file} doesn't tell it; give one")
        return MapSpecimen(self, read, size)


class MapSpecimen(SurfaceSpecimen):
    """A height map and what lies between its points."""

    def __init__(
        self, recipe: HeightMap, read: HeightFile, pixel_size_nm: tuple[float, float]
    ) -> None:
        (ny, nx), (py, px) = read.heights_nm.shape, pixel_size_nm
        super().__init__(
            recipe.material,
            (
                f"The surface is {read.name!r} of {Path(recipe.file).name}, {nx} x {ny} points "
                f"{px:.4g} x {py:.4g} nm apart ({nx * px:.4g} x {ny * py:.4g} nm); beyond, its rim "
                "goes on.",
            ),
        )
        self.recipe, self.map_nm, self.pixel_size_nm = recipe, read.heights_nm, pixel_size_nm
        coefficients = self.map_nm
        if recipe.interpolation == "cubic":
            for axis in (0, 1):
                if self.map_nm.shape[axis] > 1:
                    coefficients = ndimage.spline_filter1d(coefficients, 3, axis, mode="mirror")
        self.coefficients = read_only(coefficients)

    def heights(self, x_nm: Floats, y_nm: Floats) -> Floats:
        """Return heights in nm where columns x, shape (nx,), meet rows y, shape (ny,)."""
        ny, nx = self.map_nm.shape
        columns = np.clip(x_nm / self.pixel_size_nm[1] + (nx - 1) / 2, 0, nx - 1)
        rows = np.clip(y_nm / self.pixel_size_nm[0] + (ny - 1) / 2, 0, ny - 1)
        degree: Literal[1, 3] = 3 if self.recipe.interpolation == "cubic" else 1
        return on_grid(self.coefficients, columns, rows, "mirror", degree)

    def truth(self) -> Mapping[str, Table]:
        """Return what the map is: its size, range and root mean square height."""
        (ny, nx), (py, px) = self.map_nm.shape, self.pixel_size_nm
        values = {
            "columns": nx,
            "rows": ny,
            "pixel_width_nm": px,
            "pixel_height_nm": py,
            "lowest_nm": self.map_nm.min(),
            "highest_nm": self.map_nm.max(),
            "sq_nm": self.map_nm.std(),
        }
        return {"height_map": {name: np.array([value]) for name, value in values.items()}}
