"""Cross-sections of columns of 1, 2, 3 ... atoms of a known crystal, by simulation.

The cross-section of a column is its share of the detector's signal, averaged over all positions
of the probe, times the area of its cell. Such an average needs plane waves only, and no probe (see
`position_average`); all numbers of atoms come from one pass through the crystal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from nanophantom.analysis.known_crystal import KnownCrystal
from nanophantom.analysis.position_average import PlaneWaves, evenly_over_aperture
from nanophantom.simcore.electrons.batch import Disk
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.stem.detectors import AnnularDetector

FloatArray = npt.NDArray[np.float64]

DIRECTIONS = 96
"""Plane waves that stand for the aperture; with 8 draws of the displacements the cross-sections
of gold columns repeat to about half a per cent."""
A2_PER_NM2 = 100.0


def column_library(
    crystal: KnownCrystal,
    most_atoms: int,
    energy_kev: float,
    semiangle_mrad: float,
    inner_mrad: float,
    outer_mrad: float,
    rng: np.random.Generator,
    directions: int = DIRECTIONS,
) -> dict[str, npt.NDArray[Any]]:
    """Simulate the cross-sections of columns in a crystal that is 1, 2, 3 ... atoms thick.

    Parameters
    ----------
    crystal : KnownCrystal
        Of one element, its columns along the beam.
    most_atoms : int
        Of the thickest column.
    energy_kev, semiangle_mrad
        Of the probe.
    inner_mrad, outer_mrad
        Of the annular detector.
    rng
        Draws the thermal displacements.
    directions : int
        Plane waves that stand for the aperture.

    Returns
    -------
    dict
        "n_atoms" and "cross_section_A2", the library that `atom_counting.count` takes.

    Raises
    ------
    ValueError
        The crystal's columns differ, or it has none along the beam.
    """
    spacing_nm, columns = crystal.column_spacing_nm()
    n = np.arange(1, most_atoms + 1)
    detector = AnnularDetector(name="adf", inner_mrad=inner_mrad, outer_mrad=outer_mrad)
    k_max = np.sin(1.02e-3 * outer_mrad) / float(wavelength(energy_kev))
    waves = PlaneWaves(
        crystal,
        energy_kev,
        float(k_max),
        (n * spacing_nm).tolist(),
        slice_thickness_A=10 * spacing_nm * 1.01,
    )
    grid = waves.grid
    spacing = np.array(
        [
            [1 / grid.extent_A[1], -grid.shear_A / (grid.extent_A[0] * grid.extent_A[1])],
            [0.0, 1 / grid.extent_A[0]],
        ]
    )

    def read(disk: Disk, seen: FloatArray) -> FloatArray:
        weight = detector.weights(disk.kx, disk.ky, energy_kev, spacing)[0] * disk.inside
        return np.tensordot(seen, weight, axes=2)

    fractions = waves.intensities(evenly_over_aperture(semiangle_mrad, directions), rng, read)
    area_A2 = A2_PER_NM2 * abs(float(np.linalg.det(crystal.periods_nm))) / columns
    return {"n_atoms": n, "cross_section_A2": area_A2 * np.mean(fractions, axis=0)}


def library_for(settings: Mapping[str, Any], most_atoms: int) -> dict[str, Any] | None:
    """Return the library for an operator's settings; None if they don't tell enough.

    Needed are "crystal" (see `KnownCrystal`), "energy_kev", "semiangle_mrad", and one annular
    detector among "detectors".
    """
    needed = "crystal", "energy_kev", "semiangle_mrad", "detectors"
    if any(settings.get(name) is None for name in needed):
        return None
    rings = [d for d in settings["detectors"].values() if d.get("shape", "annular") == "annular"]
    outermost = max(rings, key=lambda d: float(d["outer_mrad"]), default=None)
    if outermost is None:
        return None
    return column_library(
        KnownCrystal.of(settings["crystal"]),
        most_atoms,
        float(settings["energy_kev"]),
        float(settings["semiangle_mrad"]),
        float(outermost.get("inner_mrad", 0.0)),
        float(outermost["outer_mrad"]),
        np.random.default_rng(20130614),
    )
