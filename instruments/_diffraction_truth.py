"""The truth of a set of diffraction patterns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.fields import Table
from nanophantom.simcore.runs import Parts

if TYPE_CHECKING:
    from nanophantom.instruments._diffraction_acquisition import DiffractionAcquisition

Floats = npt.NDArray[np.float64]

BUDGET = ("kept", "lost", "stopped", "outside")
"""Where electrons go."""


def tables(planned: DiffractionAcquisition, made: Parts) -> Mapping[str, Table]:
    """Return thickness, centre, reflections, noise-free patterns, dose and the budget."""
    d = planned.diffraction
    frames = np.arange(planned.n_frames)
    thickness = np.array(planned.thicknesses_nm)
    x, y = d.camera.centre_px
    expected = [d.camera.expected(p, d.electrons_per_pattern) for p in planned.patterns(made)]
    budget = {name: planned.mean(name, made) for name in BUDGET}
    found: dict[str, Table] = {
        "thickness": {
            "frame": frames,
            "thickness_nm": np.repeat(thickness, d.n_frames)[: planned.n_frames],
        },
        "centre": {"x_px": np.array([x]), "y_px": np.array([y])},
        "patterns": {"thickness_nm": thickness, "expected": np.stack(expected)},
        "budget": {"thickness_nm": thickness, **budget},
        "atoms": planned.setup.configurations.atoms.table(),
        "dose": planned.ledger.table(),
    }
    if planned.history is not None:
        found |= planned.history.tables(np.zeros(3))
    if d.has_probe:
        found["aberrations"] = planned.tuned.table()
    if planned.setup.lattice_nm is not None:
        found["reflections"] = reflections(planned, planned.setup.lattice_nm)
    return found


def reflections(planned: DiffractionAcquisition, lattice_nm: Floats) -> Table:
    """Return where the zone's reflections fall, those on the camera, by angle."""
    d = planned.diffraction
    mrad_nm = 100.0 * float(wavelength(d.energy_kev))  # angle of a frequency of 1/nm
    reciprocal = mrad_nm * np.linalg.inv(lattice_nm).T
    longest = float(np.linalg.norm(lattice_nm, axis=1).max())
    n = int(d.camera.reach_mrad * longest / mrad_nm) + 1
    h, k = (axis.ravel() for axis in np.meshgrid(np.arange(-n, n + 1), np.arange(-n, n + 1)))
    x, y = (np.column_stack([h, k]) @ reciprocal).T
    cx, cy = d.camera.centre_px
    x_px, y_px = x / d.camera.pixel_size_mrad + cx, y / d.camera.pixel_size_mrad + cy
    height, width = d.camera.shape
    on = np.flatnonzero(
        (x_px > -0.5) & (x_px < width - 0.5) & (y_px > -0.5) & (y_px < height - 0.5)
    )
    on = on[np.argsort(np.hypot(x[on], y[on]), kind="stable")]
    return {
        "h": h[on],
        "k": k[on],
        "x_mrad": x[on],
        "y_mrad": y[on],
        "x_px": x_px[on],
        "y_px": y_px[on],
    }


def outline(planned: DiffractionAcquisition) -> Mapping[str, str]:
    """Return one line on every table of `tables`."""
    told = {
        "thickness": "depth from which each pattern comes",
        "centre": "where the direct beam falls on the camera",
        "patterns": "expected counts of a pattern of each thickness",
        "budget": "parts kept, lost at the band limit, stopped, beside the camera",
        "atoms": "element, resting position and B factor of every atom simulated",
        "dose": "the ledger: time, area, fluence, rate and energy of every exposure",
    }
    if planned.history is not None:
        told |= planned.history.outline()
    if planned.diffraction.has_probe:
        told["aberrations"] = "all aberration coefficients of the probe, nominal and actual"
    if planned.setup.lattice_nm is not None:
        told["reflections"] = "multiples of the lattice's periods: angles and pixels"
    return told
