"""Convergence of the main job's exit wave and image with slices, sampling and phonons.

The recipe gold-on-ceria is taken as it stands (300 kV, 30 mrad aperture, its lens), once with a
smaller particle and view, and once with each of three perfect crystals in place of its specimen.
One setting at a time is varied around the product's defaults, the thermal configuration stays the
same, and the error is the difference from that setting close to its limit (in the row `defaults`
from all of them close to it):

wave
    Relative L2 difference of the beams inside the aperture, over the scattered ones among them.
image
    Root mean square difference of the noise-free images, over the standard deviation (the
    contrast) of the image near the limit.
cost
    Samples of the grid times slices, over those of the defaults.

Thermal configurations are compared with each other: the image averaged over N of them with the
average over all. If sqrt(N) times the error is constant, the error is statistical.

What it means for the job: how far the columns found in the noise-free image move.

Last, what no setting can tighten: all this projects whole atoms into planes. The exit waves of the
crystals are compared with those of thin slabs of the three-dimensional potential.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.interpolate import RectBivariateSpline
from scipy.spatial import KDTree

from nanophantom.analysis.columns import find_columns
from nanophantom.instruments.tem import TEM, TEMAcquisition
from nanophantom.samples.crystal import Crystal
from nanophantom.scenarios.recipe import change, load, resolve
from nanophantom.scenarios.run import prepare
from nanophantom.simcore.atoms import Atoms, Window
from nanophantom.simcore.electrons.constants import POTENTIAL_CONSTANT_V_A2, wavelength
from nanophantom.simcore.electrons.debye_waller import displace, rms_displacement
from nanophantom.simcore.electrons.grid import Grid, frequencies, oversampling_for
from nanophantom.simcore.electrons.imaging import expected_image
from nanophantom.simcore.electrons.multislice import Step, exit_wave, plane_wave, propagate
from nanophantom.simcore.electrons.potential import BAND
from nanophantom.simcore.electrons.scattering import scattering_factor
from nanophantom.simcore.electrons.slicing import SLICE_THICKNESS_A
from nanophantom.simcore.runs import Run

Floats = npt.NDArray[np.float64]
Beams = npt.NDArray[np.complex64]

# The main job, small enough for a reference that costs a hundred times as much.
SMALLER = (
    "sample.of.n_atoms=300",
    "sample.of.surface_y_nm=0.5",
    "sample.of.adatom_columns=0",
    "sample.processes=[]",
    "instrument.camera.width_px=352",
    "instrument.camera.height_px=352",
    "instrument.drift.speed_nm_per_s=0",
    "instrument.drift.walk_nm_per_sqrt_s=0",
)
VARIED = {
    "slice_A": (4.0, 3.0, 2.0, 1.0, 0.5),
    "band_mrad": (40.0, 50.0, 60.0, 80.0, 100.0),
    "oversampling": (1.5, 2.0, 3.0, 4.0),
}
CRYSTALS: dict[str, tuple[str, tuple[int, int, int], float, tuple[int, int]]] = {
    "Au [110] 4 nm": ("gold.cif", (1, 1, 0), 4.0, (6, 4)),
    "SrTiO3 [001] 5 nm": ("srtio3.cif", (0, 0, 1), 5.0, (4, 4)),
    "CeO2 [110] 3 nm": ("ceo2.cif", (1, 1, 0), 3.0, (4, 3)),
}  # file, zone axis, thickness in nm, periods of the cell along y and x
CONFIGURATIONS, ALL_CONFIGURATIONS = (1, 2, 4, 8, 16, 32), 64
WHOLE = (slice(None), slice(None))
REACH_A = 4.0  # of an atom's potential along the beam
COLOURS = ("#000000", "#e69f00", "#0072b2", "#009e73")


class Settings(NamedTuple):
    """What decides how finely the scattering is computed."""

    slice_A: float
    band_mrad: float
    oversampling: float


LIMIT = Settings(slice_A=0.1, band_mrad=200.0, oversampling=8.0)  # of one setting at a time
FINE = Settings(slice_A=0.25, band_mrad=200.0, oversampling=4.0)  # all together
TIGHTER = Settings(slice_A=1.0, band_mrad=100.0, oversampling=4.0)  # affordable
SOLID = Settings(slice_A=0.25, band_mrad=120.0, oversampling=3.0)  # slabs of the 3D potential


class Scattered(NamedTuple):
    """Beams inside the aperture, and the samples times slices that they took."""

    beams: Beams
    work: float


class Row(NamedTuple):
    """One line of the table."""

    setting: str
    value: float
    wave: float
    image: float
    cost: float


@dataclass(eq=False)
class Specimen:
    """Atoms at rest in a periodic cell, under the microscope of the main job."""

    name: str
    tem: TEM
    atoms: Atoms
    extent_A: tuple[float, float]
    corner_A: tuple[float, float] = (0.0, 0.0)
    view: tuple[slice, slice] = WHOLE
    known: dict[tuple[Settings, int], Scattered] = field(default_factory=dict)

    @property
    def defaults(self) -> Settings:
        """What the product chooses if nobody says otherwise."""
        return Settings(
            SLICE_THICKNESS_A,
            self.tem.band_limit_mrad,
            self.tem.multislice.oversampling or oversampling_for(self.atoms.numbers),
        )

    def scattered(self, settings: Settings, configuration: int = 0) -> Scattered:
        """Scatter through one thermal configuration, or remember it."""
        if (settings, configuration) not in self.known:
            self.known[settings, configuration] = self._scatter(settings, configuration)
        return self.known[settings, configuration]

    def _scatter(self, settings: Settings, configuration: int) -> Scattered:
        grid, positions_A = self.grid(settings), self.displaced_A(configuration)
        numbers, energy_kev = self.atoms.numbers, self.tem.energy_kev
        wave = exit_wave(
            numbers, positions_A, grid, energy_kev, settings.slice_A, depth_A=self.depth_A
        )
        return Scattered(self.inside(wave.wave_k), float(np.prod(grid.shape)) * wave.n_slices)

    @property
    def depth_A(self) -> float:
        """Plane of the exit wave, behind all displaced atoms."""
        return 10 * float(self.atoms.positions_nm[:, 2].max()) + 1

    def grid(self, settings: Settings) -> Grid:
        """Return the grid as the instrument chooses it."""
        k_max = math.sin(1e-3 * settings.band_mrad) / wavelength(self.tem.energy_kev)
        return Grid.for_wave(self.extent_A, k_max, settings.oversampling)

    def displaced_A(self, configuration: int) -> Floats:
        """Return the positions of the atoms in one thermal configuration."""
        y0, x0 = self.corner_A
        at_rest = 10 * self.atoms.positions_nm - np.array([x0, y0, 0.0])
        rms = rms_displacement(self.atoms.b_factors_A2)
        return displace(at_rest, rms, Run(1).rng("phonons", configuration))

    def inside(self, wave_k: Beams) -> Beams:
        """Return the beams of a wave that pass the aperture, as a smaller array."""
        k_aperture = 1e-3 * self.aperture_mrad / wavelength(self.tem.energy_kev)
        ky, kx = (
            np.arange(-int(k_aperture * length), int(k_aperture * length) + 1)
            for length in self.extent_A
        )
        k = np.hypot(ky[:, None] / self.extent_A[0], kx[None, :] / self.extent_A[1])
        passed = np.where(k <= k_aperture, wave_k[np.ix_(ky, kx)], 0)
        return np.asarray(np.fft.ifftshift(passed), np.complex64)

    @property
    def aperture_mrad(self) -> float:
        """Semiangle of the objective aperture."""
        aperture = self.tem.optics.aperture_mrad
        assert aperture is not None
        return aperture

    def image(self, settings: Settings, configuration: int = 0) -> Floats:
        """Return the noise-free image in the view."""
        optics, pixel_A = self.tem.optics, 10 * self.tem.camera.pixel_size_nm
        ny, nx = (round(length / pixel_A) for length in self.extent_A)
        whole = expected_image(
            self.scattered(settings, configuration).beams,
            extent_A=self.extent_A,
            energy_kev=self.tem.energy_kev,
            coefficients=optics.coefficients(),
            aperture_mrad=optics.aperture_mrad,
            focal_spread_A=10 * optics.focal_spread_nm,
            convergence_mrad=optics.convergence_mrad,
            shape=(ny, nx),
        )
        return whole[self.view].astype(np.float64)

    def row(self, label: str, value: float, settings: Settings, limit: Settings) -> Row:
        """Return how far some settings are from others near the limit."""
        (beams, work), (reference, _) = self.scattered(settings), self.scattered(limit)
        return Row(
            label,
            value,
            _wave_error(beams, reference),
            _relative(self.image(settings), self.image(limit)),
            work / self.scattered(self.defaults).work,
        )

    def rows(self) -> list[Row]:
        """Return the errors of the defaults, of tighter settings, and of one at a time."""
        rows = [
            self.row("defaults", math.nan, self.defaults, FINE),
            self.row("tighter", math.nan, TIGHTER, FINE),
        ]
        for setting, values in VARIED.items():
            limit = self.defaults._replace(**{setting: getattr(LIMIT, setting)})
            rows += [self.row(setting, v, limit._replace(**{setting: v}), limit) for v in values]
        return rows

    def thermal_images(self) -> Floats:
        """Return the image of every thermal configuration."""
        return np.stack([self.image(self.defaults, c) for c in range(ALL_CONFIGURATIONS)])


def thermal_errors(images: Floats) -> list[float]:
    """Return the relative errors of the mean image of each of the numbers of configurations.

    Disjoint sets of N out of M are compared with the mean of all M. The deviation of a set from a
    mean that contains it is smaller by sqrt(1 - N/M) than that from the true mean.
    """
    mean = images.mean(axis=0)
    found = []
    for n in CONFIGURATIONS:
        sets = images.reshape(-1, n, *mean.shape).mean(axis=1)
        squares = [_relative(one, mean) ** 2 for one in sets]
        found.append(float(np.sqrt(np.mean(squares) / (1 - n / len(images)))))
    return found


def column_shift_pm(image: Floats, truth: Floats, tem: TEM) -> float:
    """Return the rms distance, along one axis, by which columns found in two images differ."""
    pixel_nm, exposures = tem.camera.pixel_size_nm, tem.exposures
    electrons = exposures.n_frames * exposures.dose_e_per_A2 * (10 * pixel_nm) ** 2
    moved, still = (find_columns(one * electrons, pixel_nm, "bright") for one in (image, truth))
    here, there = (np.stack([t["y_nm"], t["x_nm"]], axis=1) for t in (moved, still))
    distance, nearest = KDTree(there).query(here)
    same = distance < 0.03
    return float(1e3 * np.sqrt(np.mean((here[same] - there[nearest[same]]) ** 2)))


def _wave_error(beams: Beams, reference: Beams) -> float:
    scattered = reference.copy()
    scattered[0, 0] = 0
    return float(np.linalg.norm(beams - reference) / np.linalg.norm(scattered))


def _relative(image: Floats, truth: Floats) -> float:
    return float(np.sqrt(np.mean((image - truth) ** 2)) / np.std(truth))


def slabs(specimen: Specimen, grid: Grid, thickness_A: float) -> Iterator[Step]:
    """Cut the potential itself, not the set of atoms, into slabs; a sum over atoms.

    The part of an atom's V_k between its nucleus and a plane at distance z is the integral of
    f(sqrt(k^2 + q^2)) sin(2 pi q z) / (2 pi q) over the frequency q along the beam.
    """
    ky, kx = (frequencies(n, length) for n, length in zip(grid.shape, grid.extent_A, strict=True))
    kept = np.nonzero(np.hypot(ky[:, None], kx[None, :]) <= BAND * min(grid.nyquist))
    ky, kx = ky[kept[0]], kx[kept[1]]
    k_kept = np.hypot(ky, kx)
    q = np.arange(0.0, 40.0, 0.02)
    k = np.linspace(0, BAND * min(grid.nyquist), 500)
    z = np.linspace(-REACH_A, REACH_A, 401)
    towards_z = 2 * z * np.sinc(2 * np.outer(q, z)) * 0.02
    towards_z[0] /= 2
    area = grid.extent_A[0] * grid.extent_A[1]
    n = math.ceil((specimen.depth_A + 2 * REACH_A) / thickness_A)
    spectra = np.zeros((n, len(kx)), complex)
    for number in np.unique(specimen.atoms.numbers):
        factor = scattering_factor(int(number), np.hypot(k[:, None], q))
        part = RectBivariateSpline(k, z, POTENTIAL_CONSTANT_V_A2 / area * factor @ towards_z)
        for x, y, depth in specimen.displaced_A(0)[specimen.atoms.numbers == number]:
            edges = np.arange(n + 1) * thickness_A - REACH_A - depth
            near = np.flatnonzero((edges[1:] > -REACH_A) & (edges[:-1] < REACH_A))
            bounds = np.clip(edges[near[0] : near[-1] + 2], -REACH_A, REACH_A)
            shares = np.diff(part(k, bounds), axis=1)
            radial = np.stack([np.interp(k_kept, k, share) for share in shares.T])
            spectra[near] += radial * np.exp(-2j * np.pi * (kx * x + ky * y))
    yield None, thickness_A / 2 - REACH_A
    for spectrum in spectra:
        potential_k = np.zeros(grid.shape, complex)
        potential_k[kept] = spectrum
        yield np.fft.ifft2(potential_k, norm="forward").real, thickness_A
    # from where the next slab would act back to the plane of the exit wave
    yield None, specimen.depth_A + REACH_A - (n + 0.5) * thickness_A


def specimens() -> list[Specimen]:
    """Return the small main job and crystals of gold, SrTiO3 and ceria, in cells of 16 Å."""
    _, planned = prepare(resolve(change(load("gold-on-ceria"), SMALLER)))
    assert isinstance(planned, TEMAcquisition)
    cell = planned.cell
    my, mx = cell.margin
    y0, x0 = cell.corner_nm
    job = Specimen(
        "gold on ceria, small",
        planned.tem,
        planned.atoms,
        cell.extent_A,
        corner_A=(10 * y0, 10 * x0),
        view=(slice(my, my + cell.view[0]), slice(mx, mx + cell.view[1])),
    )
    return [job, *(crystal(name, planned.tem) for name in CRYSTALS)]


def crystal(name: str, tem: TEM, periods: tuple[int, int] | None = None) -> Specimen:
    """Return a foil of a cubic crystal, so many periods high and wide."""
    file, zone_axis, thickness_nm, usual = CRYSTALS[name]
    foil = Crystal(file=file, zone_axis=zone_axis, thickness_nm=thickness_nm).make(Run(1))
    edge_nm = float(np.linalg.norm(foil.cell_nm[0]))
    height, width = periods or usual
    height_nm = height * (edge_nm / math.sqrt(2) if zone_axis == (1, 1, 0) else edge_nm)
    atoms = foil.atoms_within(Window(0.0, width * edge_nm, 0.0, height_nm))
    return Specimen(name, tem, atoms, (10 * height_nm, 10 * width * edge_nm))


def solid_errors(specimen: Specimen) -> list[float]:
    """Return wave errors of the defaults, of TIGHTER and of SOLID against solid atoms."""
    grid, energy_kev = specimen.grid(SOLID), specimen.tem.energy_kev
    steps = slabs(specimen, grid, SOLID.slice_A)
    solid = specimen.inside(propagate(plane_wave(grid), steps, grid, energy_kev).wave_k)
    projected = (specimen.defaults, TIGHTER, SOLID)
    return [_wave_error(specimen.scattered(settings).beams, solid) for settings in projected]


def main(plot: Path | None = None) -> None:
    """Print the tables; draw them into a file if one is given."""
    drawn: dict[str, tuple[list[Row], list[float]]] = {}
    for specimen in specimens():
        d, (ly, lx) = specimen.defaults, specimen.extent_A
        print(
            f"{specimen.name}: {len(specimen.atoms)} atoms, {ly:.0f} x {lx:.0f} Å; defaults: "
            f"slices {d.slice_A:g} Å, {d.band_mrad:g} mrad, oversampling {d.oversampling:g}"
        )
        rows, images = specimen.rows(), specimen.thermal_images()
        drawn[specimen.name] = rows, thermal_errors(images)
        _print_rows(*drawn[specimen.name])
        if specimen.view != WHOLE:
            _print_columns(specimen, images)
    print("wave error against the three-dimensional potential, in cells of 2 x 2 periods")
    print(f"  {'':22}{'defaults':>10}{'tighter':>10}{'thin slices, 120 mrad':>24}")
    for name in CRYSTALS:
        of_defaults, of_tighter, of_thin = solid_errors(crystal(name, specimen.tem, (2, 2)))
        print(f"  {name:22}{of_defaults:10.2%}{of_tighter:10.2%}{of_thin:24.2%}")
    if plot is not None:
        _draw(drawn, plot)


def _print_rows(rows: list[Row], thermal: list[float]) -> None:
    print(f"  {'':22}{'wave':>10}{'image':>10}{'cost':>8}")
    for row in rows:
        value = "" if math.isnan(row.value) else f"{row.value:g}"
        print(f"  {row.setting:14}{value:>6}  {row.wave:10.2%}{row.image:10.2%}{row.cost:8.2f}")
    for n, error in zip(CONFIGURATIONS, thermal, strict=True):
        print(f"  {'phonons, N':14}{n:6d}{'':12}{error:10.2%}    sqrt(N) x: {n**0.5 * error:.1%}")


def _print_columns(specimen: Specimen, images: Floats) -> None:
    defaults, tem = specimen.defaults, specimen.tem
    fine = specimen.image(FINE)
    print("  columns move by (rms along one axis)")
    for label, settings in (("defaults", defaults), ("tighter", TIGHTER)):
        print(f"    {label:18}{column_shift_pm(specimen.image(settings), fine, tem):6.2f} pm")
    for n in CONFIGURATIONS:
        few, others = images[:n].mean(axis=0), images[n:].mean(axis=0)
        # the others' own error adds in quadrature
        shift = column_shift_pm(few, others, tem) * math.sqrt(1 - n / len(images))
        print(f"    {'phonons, N':14}{n:4d}{shift:6.2f} pm")


def _draw(drawn: dict[str, tuple[list[Row], list[float]]], file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.2), layout="constrained")
    axes = figure.subplots(1, 4, sharey=True)
    panels = {**VARIED, "phonons": tuple(map(float, CONFIGURATIONS))}
    names = ("slice thickness (Å)", "band limit (mrad)", "oversampling", "thermal configurations")
    for ax, name, (setting, values) in zip(axes, names, panels.items(), strict=True):
        for colour, (specimen, (rows, thermal)) in zip(COLOURS, drawn.items(), strict=True):
            error = [row.image for row in rows if row.setting == setting] or thermal
            ax.loglog(values, 100 * np.array(error), "o-", color=colour, ms=4, label=specimen)
        ax.set_xticks(values, [f"{v:g}" for v in values])
        ax.set_xticks([], minor=True)
        ax.set_xlabel(name)
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("image error (% of contrast)")
    axes[0].legend(fontsize=8)
    figure.savefig(file, dpi=110)
