"""Random specimens and random microscopes: what a finder of columns may meet."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy.spatial import cKDTree

from nanophantom.instruments.tem import TEM
from nanophantom.samples.amorphous_film import AmorphousFilm
from nanophantom.samples.crystal import Crystal
from nanophantom.samples.stack import GAP_NM, stacked
from nanophantom.simcore.atoms import Atoms, Window
from nanophantom.simcore.cameras import Camera
from nanophantom.simcore.columns import find_truth_columns
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.optics import Aberrations, ImagingOptics
from nanophantom.simcore.electrons.settings import Multislice
from nanophantom.simcore.environment import Drift
from nanophantom.simcore.models import Model
from nanophantom.simcore.runs import Run
from nanophantom.simcore.schedule import Exposures
from nanophantom.simcore.specimens import FiniteAtoms, Specimen
from nanophantom.validation.training.structures import Family

Floats = npt.NDArray[np.float64]
Range = tuple[float, float]

Direction = tuple[int, int, int]

ZONE_AXES: tuple[Direction, ...] = (
    (0, 0, 1),
    (0, 1, 0),
    (1, 1, 0),
    (0, 1, 1),
    (1, 1, 1),
    (1, 1, 2),
    (1, 2, 0),
)
NM_PER_A = 0.1
GRAIN_GAP_NM = 0.2
"""Between the faces of two grains: atoms don't overlap."""
TRIES = 200


class Ranges(Model):
    """What specimens and microscopes are drawn from; pairs are the ends of a range."""

    energies_kev: tuple[float, ...] = (80.0, 120.0, 300.0)
    """Beam energies, one of which is taken."""
    pixel_sizes_nm: tuple[float, ...] = (0.01, 0.0125, 0.016, 0.02, 0.025, 0.032)
    """Camera pixels, one of which is taken."""
    view_nm: float = Field(default=4.0, gt=1)
    """Edge of the square view."""
    aperture_mrad: Range = (22.0, 42.0)
    """Objective aperture, uniform."""
    c30_um: Range = (2.0, 30.0)
    """Magnitude of the spherical aberration, log-uniform; either sign."""
    scherzer: Range = Field(default=(0.5, 1.5), json_schema_extra={"dimensionless": True})
    """Defocus over -1.2 sqrt(lambda C30), which gives the broadest band of one sign; uniform."""
    c12_nm: float = 3.0
    """Largest twofold astigmatism; uniform from zero, as the next two."""
    c21_nm: float = 60.0
    """Largest axial coma."""
    c23_nm: float = 60.0
    """Largest threefold astigmatism."""
    focal_spread_nm: Range = (0.8, 4.0)
    """Focal spread, uniform."""
    convergence_mrad: Range = (0.05, 0.4)
    """Spread of the illumination angles, uniform."""
    drift_nm_per_frame: Range = (0.0, 0.06)
    """Way of the specimen during an exposure, uniform."""
    thickness_nm: Range = (1.0, 6.0)
    """Thickness of the crystal before it is cut, log-uniform."""
    stretch_percent: float = 3.0
    """Largest change of the lattice constants, either way."""
    strain_percent: float = 1.5
    """Largest component of a homogeneous strain, either way."""
    tilt_mrad: float = 5.0
    """Standard deviation of the crystal's tilt about either axis."""
    b_factor_A2: Range = (0.2, 1.2)
    """Debye-Waller factor of each element, uniform."""
    film_nm: Range = (0.5, 4.0)
    """Thickness of a carbon film before or behind the crystal, uniform."""
    film_share: float = Field(default=0.5, ge=0, le=1, json_schema_extra={"dimensionless": True})
    """How many of the specimens lie on such a film."""
    closest_nm: float = 0.12
    """No zone axis is taken whose target columns come closer than this, or than the lens shows."""


TRAINING = Ranges()
"""What training draws from."""


@dataclass(frozen=True)
class Scene:
    """A specimen under a microscope.

    Attributes
    ----------
    family, compound
        Name of the structure type, and of the crystal.
    specimen
        What is looked at.
    tem
        The microscope, set for one exposure at 1 e/Å^2.
    run
        Where the random streams of this scene begin.
    ranges
        What it was drawn from.
    """

    family: str
    compound: str
    specimen: Specimen
    tem: TEM
    run: Run
    ranges: Ranges

    def lens(self, index: int) -> ImagingOptics:
        """Draw another lens of the same aperture for the same column."""
        rng = self.run.rng("lens", index)
        return _lens(self.ranges, self.tem.energy_kev, self.aperture_mrad, rng)

    @cached_property
    def aperture_mrad(self) -> float:
        """Semi-angle of the objective aperture."""
        assert self.tem.optics.aperture_mrad is not None
        return self.tem.optics.aperture_mrad


def draw(run: Run, families: Mapping[str, Family], ranges: Ranges, multislice: Multislice) -> Scene:
    """Draw a scene: first the microscope, then a crystal whose columns it can show.

    Raises
    ------
    ValueError
        The microscope shows the columns of no crystal along any of the zone axes.
    """
    rng = run.rng("scene")
    energy_kev = float(rng.choice(ranges.energies_kev))
    pixel_nm = float(rng.choice(ranges.pixel_sizes_nm))
    width_px = round(ranges.view_nm / pixel_nm)
    optics = _lens(ranges, energy_kev, rng.uniform(*ranges.aperture_mrad), rng)
    exposure = Exposures(n_frames=1, dose_e_per_A2=1.0, exposure_s=1.0)
    tem = TEM(
        energy_kev=energy_kev,
        optics=optics,
        exposures=exposure,
        camera=Camera(width_px=width_px, height_px=width_px, pixel_size_nm=pixel_nm),
        drift=Drift(speed_nm_per_s=rng.uniform(*ranges.drift_nm_per_frame)),
        multislice=multislice,
    )
    closest_nm = max(ranges.closest_nm, resolution_nm(optics, energy_kev))
    # what lies in the cell, and what a tilt moves into its corners
    half_nm = ranges.view_nm / 2 + tem.margin_nm + 1.0
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "crystal.cif"
        for _ in range(TRIES):
            family = str(rng.choice(list(families)))
            crystal, compound = _crystal(families[family], file, ranges, rng)
            if _spacing_nm(crystal, run) >= closest_nm:
                break
        else:
            raise ValueError(f"no crystal has columns {closest_nm:.3f} nm apart; widen the ranges")
        atoms = _shaped(crystal, closest_nm, half_nm, run, rng)
    layers: list[Specimen] = [FiniteAtoms(atoms)]
    if rng.random() < ranges.film_share:
        film = AmorphousFilm(
            made_of="field", thickness_nm=rng.uniform(*ranges.film_nm), slab_nm=ranges.film_nm[1]
        )
        layers.insert(int(rng.integers(2)), film.make(run))
    gaps = [GAP_NM] * (len(layers) - 1)
    specimen = stacked(layers, [f"layer {i}" for i in range(len(layers))], gaps)
    return Scene(family, compound, specimen, tem, run, ranges)


def resolution_nm(optics: ImagingOptics, energy_kev: float) -> float:
    """Return the finest spacing that a lens shows, nm.

    The larger one of lambda / alpha and the information limit sqrt(pi lambda Delta / 2) (J. C. H.
    Spence, High-Resolution Electron Microscopy, 4th ed., Oxford 2013, eq. 4.11).
    """
    lam_nm = NM_PER_A * float(wavelength(energy_kev))
    spread_nm = NM_PER_A * optics.focal_spread_A(energy_kev)
    limit = math.sqrt(math.pi * lam_nm * spread_nm / 2)
    if optics.aperture_mrad is not None:
        limit = max(limit, 1e3 * lam_nm / optics.aperture_mrad)
    return limit


def _lens(
    ranges: Ranges, energy_kev: float, aperture_mrad: float, rng: np.random.Generator
) -> ImagingOptics:
    """Draw a corrected lens near the focus at which atoms are seen best."""
    c30_um = _log_uniform(rng, ranges.c30_um) * float(rng.choice([-1, 1]))
    c30_nm, lam_nm = 1e3 * c30_um, NM_PER_A * float(wavelength(energy_kev))
    best_nm = -math.copysign(1.2 * math.sqrt(lam_nm * abs(c30_nm)), c30_nm)
    return ImagingOptics(
        defocus_nm=best_nm * rng.uniform(*ranges.scherzer),
        aberrations=Aberrations(
            c30_um=c30_um,
            c12_nm=rng.uniform(0, ranges.c12_nm),
            phi12_deg=rng.uniform(0, 180),
            c21_nm=rng.uniform(0, ranges.c21_nm),
            phi21_deg=rng.uniform(0, 360),
            c23_nm=rng.uniform(0, ranges.c23_nm),
            phi23_deg=rng.uniform(0, 120),
        ),
        aperture_mrad=aperture_mrad,
        focal_spread_nm=rng.uniform(*ranges.focal_spread_nm),
        convergence_mrad=rng.uniform(*ranges.convergence_mrad),
    )


def _crystal(
    family: Family, file: Path, ranges: Ranges, rng: np.random.Generator
) -> tuple[Crystal, str]:
    """Draw a foil of one of a family's compounds, along a zone axis, turned about the beam."""
    compound = family.compounds[int(rng.integers(len(family.compounds)))]
    family.write(compound, 1 + rng.uniform(-1, 1) * ranges.stretch_percent / 100, file)
    zone_axis = ZONE_AXES[int(rng.integers(len(ZONE_AXES)))]
    xx, yy, xy = rng.uniform(-1, 1, 3) * ranges.strain_percent
    tilt_x, tilt_y = rng.normal(0, ranges.tilt_mrad, 2)
    crystal = Crystal(
        file=str(file),
        zone_axis=zone_axis,
        x_axis=_across(zone_axis, rng),
        thickness_nm=_log_uniform(rng, ranges.thickness_nm),
        tilt_mrad=(tilt_x, tilt_y),
        strain_xx_percent=xx,
        strain_yy_percent=yy,
        strain_xy_percent=xy,
        b_factors_A2={e: rng.uniform(*ranges.b_factor_A2) for e in dict.fromkeys(compound.symbols)},
    )
    return crystal, "".join(compound.symbols)


def _across(zone_axis: Direction, rng: np.random.Generator) -> Direction:
    """Draw a direction that isn't along the zone axis: any azimuth, nearly."""
    while True:
        u, v, w = (int(n) for n in rng.integers(-9, 10, 3))
        if np.cross(zone_axis, (u, v, w)).any():
            return u, v, w


def _spacing_nm(crystal: Crystal, run: Run) -> float:
    """Return the least distance of the heavier columns of a crystal that isn't tilted."""
    foil = crystal.model_copy(update={"tilt_mrad": (0.0, 0.0)}).make(run)
    columns = find_truth_columns(foil.atoms_within(Window.centred(2.0, 2.0)))
    heavy = 2 * columns["number"] >= columns["number"].max()
    at = np.column_stack([columns["x_nm"], columns["y_nm"]])[heavy]
    return float(cKDTree(at).query(at, k=2)[0][:, 1].min())


def _shaped(
    crystal: Crystal, closest_nm: float, half_nm: float, run: Run, rng: np.random.Generator
) -> Atoms:
    """Cut a crystal: a foil as it is, one with an edge or a wedge, a bicrystal, or a particle."""
    grain = _grain(crystal, half_nm, run, rng)
    form = rng.choice(["foil", "edge", "bicrystal", "particle"], p=[0.25, 0.25, 0.15, 0.35])
    if form == "foil":
        return grain
    middle = np.array([*rng.uniform(-0.7, 0.7, 2), crystal.thickness_nm / 2])
    if form == "particle":
        normals = rng.normal(size=(int(rng.integers(8, 15)), 3))
        distances = rng.uniform(0.9, 2.0, len(normals))
        return _behind(grain, normals, distances, middle)
    normals = rng.normal(size=(1, 3)) * [1.0, 1.0, 0.4]
    grain_1 = _behind(grain, normals, np.zeros(1), middle)
    if form == "edge":
        return grain_1
    tilt_x, tilt_y = rng.normal(0, 30, 2)  # most second grains are off their axis
    for choice in rng.permutation(len(ZONE_AXES)):
        zone_axis = ZONE_AXES[choice]
        other = crystal.model_copy(
            update={
                "zone_axis": zone_axis,
                "x_axis": _across(zone_axis, rng),
                "tilt_mrad": (tilt_x, tilt_y),
            }
        )
        if _spacing_nm(other, run) >= closest_nm:
            break
    grain_2 = _grain(other, half_nm, run, rng)
    return grain_1 + _behind(grain_2, -normals, np.full(1, -GRAIN_GAP_NM), middle)


def _grain(crystal: Crystal, half_nm: float, run: Run, rng: np.random.Generator) -> Atoms:
    """Return a piece of an endless foil, taken from anywhere."""
    dx, dy = rng.uniform(-1, 1, 2)
    window = Window(dx - half_nm, dx + half_nm, dy - half_nm, dy + half_nm)
    atoms = crystal.make(run).atoms_within(window)
    return atoms.moved(atoms.positions_nm - np.array([dx, dy, 0.0]))


def _behind(atoms: Atoms, normals: Floats, distances_nm: Floats, middle_nm: Floats) -> Atoms:
    """Return the atoms behind all faces: normals (n, 3), distances (n,) from the middle."""
    unit = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    return atoms.select(((atoms.positions_nm - middle_nm) @ unit.T <= distances_nm).all(axis=1))


def _log_uniform(rng: np.random.Generator, ends: Range) -> float:
    low, high = np.log(ends)
    return float(np.exp(rng.uniform(low, high)))
