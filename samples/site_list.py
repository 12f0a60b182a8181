"""Sites from a file: a person's own structure, to be labelled and looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import Field

from nanophantom.samples.building.labelled import LabelledSample, Structures
from nanophantom.samples.building.site_files import read_sites
from nanophantom.simcore.emitters import Floats, Sites
from nanophantom.simcore.runs import Run

BUNDLED = Path(__file__).parent / "data"
"""Folder of the lists that come with the package."""


class SiteList(LabelledSample):
    """Sites at the places that a file lists.

    A table (.csv, .txt, .tsv; commas, semicolons, tabs or blanks between) holds x and y in nm, and
    if it likes z, the number of the structure that a site belongs to (-1 for none) and of the part
    of it. Its first row may name the columns: x_nm, y_nm, z_nm, structure, part; without names
    they stand in this order. An .xyz file (number of atoms, a comment, then symbol x y z) is in Å,
    as all of those are. Lines that begin with # are skipped. Structures are numbered anew from 0
    in the order of their numbers in the file, which stand in the truth.
    """

    kind: Literal["site-list"] = "site-list"
    file: str
    """List of sites: a path, or the name of a bundled one (trefoil.csv)."""
    centred: bool = True
    """Move the middle of what they cover in x and y to the origin; false keeps the file's."""
    height_nm: float = Field(default=0.0, ge=-1e6, le=1e6)
    """What is added to their z."""

    @classmethod
    def small(cls) -> Self:
        """Return the bundled knot."""
        return cls(file="trefoil.csv")

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
        bundled = ", ".join(sorted(path.name for path in BUNDLED.glob("*.csv")))
        raise ValueError(f"file: there is no {self.file!r}; give a path, or one of {bundled}")

    def input_files(self) -> dict[str, Path]:
        """Return the list."""
        return {"file": self.file_path()}

    def build(self, run: Run) -> Structures:
        """Read the file; nothing is drawn."""
        columns = read_sites(self.file_path())
        places: Floats = np.stack([columns[a] for a in ("x_nm", "y_nm", "z_nm")], axis=1)
        if self.centred:
            low, high = places[:, :2].min(axis=0), places[:, :2].max(axis=0)
            places[:, :2] -= (low + high) / 2
        places[:, 2] += self.height_nm

        given = columns["structure"].astype(np.int64)
        numbers = np.unique(given[given >= 0])
        structure = np.where(given >= 0, np.searchsorted(numbers, given), -1)
        sums = np.zeros((len(numbers), 3))
        np.add.at(sums, structure[given >= 0], places[given >= 0])
        count = np.bincount(structure[given >= 0], minlength=len(numbers))
        centres = sums / count[:, None]
        reach = np.zeros(len(numbers))
        away = places[given >= 0] - centres[structure[given >= 0]]
        np.maximum.at(reach, structure[given >= 0], np.sqrt((away**2).sum(axis=1)))
        return Structures(
            sites=Sites(places, structure.astype(np.int32), columns["part"].astype(np.int32)),
            table={
                "x_nm": centres[:, 0],
                "y_nm": centres[:, 1],
                "z_nm": centres[:, 2],
                "angle_deg": np.zeros(len(numbers)),
                "size_nm": 2 * reach,
                "number_in_file": numbers,
            },
        )
