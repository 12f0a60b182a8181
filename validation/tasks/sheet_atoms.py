"""Task sheet-atoms: find every atom of a sheet, one by one, and tell where it stands."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nanophantom.validation.tasks.atomic_columns import (
    BORDER_NM,
    MATCH_RADIUS_NM,
    AtomicColumns,
)

if TYPE_CHECKING:
    from nanophantom.validation.task import Estimates, Observed, Scores

FAR_FROM_LIMIT = 2.0
"""Where the spread is so many times its limit, the report says what may be the cause."""


class SheetAtoms(AtomicColumns):
    """Find the single atoms of a sheet that the beam eats away."""

    name = "sheet-atoms"
    title = "Atoms of the sheet"
    least_atoms = 1
    contract = f"""\
find(images, settings) -> {{"x_nm": (n,), "y_nm": (n,), optional "sigma_nm": (n,)}}

Receives
  images      counts, shape (frames, ny, nx)
  settings    a dict of nominal values: pixel_size_nm always; maybe dose_e_per_A2, defocus_nm,
              energy_kev, exposure_s, contrast ("bright" or "dark": how atoms look), crystal
Returns
  x_nm, y_nm  positions of atoms in frame 0; the centre of pixel (0, 0) is the origin, x points
              right, y down
  sigma_nm    standard uncertainty of each of the two coordinates (optional)
Scored
  Targets are the places of single atoms (or of several behind each other) whose heaviest element
  has at least half the atomic number of the heaviest in view, that stay where they are through the
  whole movie and lie at least {BORDER_NM:g} nm inside frame 0.
  Positions found are matched to targets one to one within {MATCH_RADIUS_NM:g} nm: as many as
  possible, then as near as possible. Atoms that leave or move during the movie, places to which
  atoms move, and the border count neither for nor against; all else is a false find.
  recall = hits / targets, precision = hits / (hits + false finds), f1 their harmonic mean;
  rmse = root mean square distance of the hits from the truth, split into bias (the mean shift)
  and spread (what remains about it), in pm; coverage = fraction of coordinates within
  1.96 sigma_nm of the truth. The limit beside rmse is the Cramér-Rao bound of the counts.
"""

    def grade(self, estimates: Estimates, dataset: Observed) -> Scores:
        """Grade positions found against the atoms that are there."""
        scores = super().grade(estimates, dataset)
        spread = scores.values().get("spread")
        limit = None if spread is None else scores["spread"].limit
        if spread is None or limit is None or spread < FAR_FROM_LIMIT * limit:
            return scores
        note = (
            "The scatter is far above the limit. Coma and astigmatism that are left in the lens "
            "move bright dots off their atoms, by picometres and alike for all atoms with the same "
            "surroundings: the two sublattices apart, all of one together. More electrons don't "
            "help; differences within a sublattice, and so strain, aren't touched."
        )
        return replace(scores, notes=(*scores.notes, note))
