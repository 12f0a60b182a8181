"""Inelastic signals of a scanned probe: X-rays and core losses that follow its channelling.

An atom in the wave psi of one electron is ionized with the probability integral I(r) M(r - r_atom)
d2r, where I = |psi|^2 / A is the intensity (psi has a mean square of 1 over the cell of area A)
and M an effective local potential of the shell (C. Dwyer, Ultramicroscopy 104 (2005) 141; L. J.
Allen, A. J. D'Alfonso & S. D. Findlay, Ultramicroscopy 151 (2015) 11): `IonizationDensity` for
X-rays, which come from all losses, `core_loss.CollectedDensity` for electrons in a spectrometer.
All atoms of an element in a slice together make one map

    mu(r) = sum_atoms M(r - r_atom) = 1/A sum_k M(k) exp(2 pi i k r) sum_atoms exp(-2 pi i k r_atom)

without unit, and the probability of a slice is the mean of |psi|^2 mu over the cell: N sigma / A
for a plane wave. Maps have the Fourier coefficients of the atoms' exact positions up to 2/3 of the
Nyquist frequency of the wave's grid. With that at 1.5 k_max, the mean over the samples is the
integral, exactly; finer detail of M than the band limit k_max is left out.
"""

from __future__ import annotations

import functools
import itertools
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from ase.data import atomic_masses

from nanophantom.simcore import parallel
from nanophantom.simcore.electrons import wave_kernels
from nanophantom.simcore.electrons.configurations import Configurations
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.gridding import Gridding, Layer
from nanophantom.simcore.electrons.multislice import ExitWave, Maps, Multislice, Step
from nanophantom.simcore.electrons.stem.core_loss import ChannelledLoss
from nanophantom.simcore.electrons.stem.detectors import Weights
from nanophantom.simcore.electrons.stem.probe import Beams, Probe
from nanophantom.simcore.electrons.stem.scan import Signals
from nanophantom.simcore.electrons.transmission import Transmission

Floats = npt.NDArray[np.float64]

_G_PER_CM2 = 1.66053906660e-24 / 1e-16  # one atomic mass unit on one Å^2


class Density(Protocol):
    """An effective local potential: `IonizationDensity`, `CollectedDensity`."""

    def radial(self, k: npt.ArrayLike) -> Floats:
        """Return M(|k|) in Å^2; k in 1/Å."""
        ...


class IonizationMaps:
    """Makes maps of where a slice is ionized.

    Parameters
    ----------
    grid : Grid
        Of the waves.
    edges : sequence of (int, Density)
        Atomic number and effective potential of each channel; one element may come twice.
    dtype : {"float32", "float64"}

    Raises
    ------
    ValueError
        If the grid has fewer than 10 samples along an axis.
    """

    def __init__(
        self, grid: Grid, edges: Sequence[tuple[int, Density]], dtype: npt.DTypeLike = "float32"
    ) -> None:
        self.grid = grid
        self.numbers = tuple(int(z) for z, _ in edges)
        self._gridding = Gridding(grid, dtype)
        self.dtype = self._gridding.dtype
        self._coefficients = [m.radial(self._gridding.k) / grid.area_A2 for _, m in edges]
        self._filters = [self._gridding.filter(c) for c in self._coefficients]

    def __len__(self) -> int:
        return len(self.numbers)

    def project(
        self, numbers: npt.ArrayLike, x_A: npt.ArrayLike, y_A: npt.ArrayLike
    ) -> npt.NDArray[Any]:
        """Return mu (channels, ny, nx) of some atoms; elements without an edge don't count."""
        z, x, y = np.asarray(numbers, np.int64), np.asarray(x_A, float), np.asarray(y_A, float)
        maps = np.zeros((len(self), *self.grid.shape), self.dtype)
        for element in set(self.numbers) & set(z.tolist()):
            own = z == element
            bumps = self._gridding.bumps(x[own], y[own])
            weights = np.ones(len(bumps.order), self.dtype)
            for c, number in enumerate(self.numbers):
                if number == element:
                    maps[c] = self._gridding.sum([Layer(self._filters[c], bumps, weights)])
        return maps

    def exact(
        self, numbers: npt.ArrayLike, x_A: npt.ArrayLike, y_A: npt.ArrayLike
    ) -> npt.NDArray[Any]:
        """As `project`, with the structure factors summed directly in double precision."""
        z, x, y = np.asarray(numbers, np.int64), np.asarray(x_A, float), np.asarray(y_A, float)
        return np.array(
            [
                self._gridding.exact([(c, x[z == n], y[z == n], np.ones(int((z == n).sum())))])
                for n, c in zip(self.numbers, self._coefficients, strict=True)
            ]
        ).reshape(-1, *self.grid.shape)


class Located(NamedTuple):
    """A step of a multislice calculation, where it lies, and which atoms are ionized there."""

    step: Step
    z_A: float
    atoms: npt.NDArray[np.int64]


def located(
    configurations: Configurations, configuration: int, transmission: Transmission
) -> Iterator[Located]:
    """Give the steps of a configuration, each with the atoms that lie nearest to its plane.

    Where the potential of an atom is spread over slabs, it is ionized in that of its nucleus.
    Empty space has no atoms.
    """
    depth = configurations.positions_A(configuration)[:, 2]
    order = np.argsort(depth, kind="stable")
    steps = configurations.steps(configuration, transmission)
    here, given, step = 0.0, 0, next(steps, None)
    while step is not None:
        matter, distance = step
        following = next(steps, None)
        stop = given
        if matter is not None:
            border = np.inf if following is None else here + distance / 2
            stop = max(given, int(np.searchsorted(depth[order], border, side="right")))
        yield Located(step, here, order[given:stop])
        here, given, step = here + distance, stop, following


@dataclass(frozen=True, eq=False)
class WatchedSlices:
    """Slices, and the maps that are watched in them.

    Attributes
    ----------
    configurations, configuration
        The specimen.
    maps
        Makes the maps.
    give
        Gives the located steps each time it is called.
    waves_at_once : int
        How many waves share a pass over the slices where these are made anew each time.
    kept : list of (Located, maps), or None
        All of them, where they fit in memory.
    """

    configurations: Configurations
    configuration: int
    maps: IonizationMaps
    give: Callable[[], Iterator[Located]]
    waves_at_once: int
    kept: list[tuple[Located, Maps]] | None

    @classmethod
    def of(
        cls,
        configurations: Configurations,
        configuration: int,
        transmission: Transmission,
        maps: IonizationMaps,
        budget_bytes: int,
    ) -> WatchedSlices:
        """Make the slices of a configuration; keep them if they take half the budget at most."""
        _, distinct = configurations.slice_count(configuration)
        a_slice = int(np.prod(maps.grid.shape)) * (8 + maps.dtype.itemsize * len(maps))
        wave = 8 * maps.grid.shape[0] * maps.grid.wave_shape[1]
        wave += 24 * int(np.prod(maps.grid.wave_shape))
        give = functools.partial(located, configurations, configuration, transmission)
        passing = max(1, budget_bytes // 2 // wave)
        made = cls(configurations, configuration, maps, give, passing, None)
        fits = distinct * a_slice <= budget_bytes // 2
        return replace(made, waves_at_once=1, kept=list(made)) if fits else made

    def __iter__(self) -> Iterator[tuple[Located, Maps]]:
        """Give the located steps, each with its maps; None where there is nothing to watch.

        Steps that share transmission function and atoms, as in a crystal, share their maps, which
        live as long as that function does.
        """
        if self.kept is not None:
            yield from self.kept
            return
        positions = self.configurations.positions_A(self.configuration)
        numbers = self.configurations.atoms.numbers
        shared: dict[tuple[int, bytes], tuple[Any, npt.NDArray[Any]]] = {}
        for place in self.give():
            matter = place.step[0]
            if matter is None or not len(place.atoms):
                yield place, None
                continue
            z, (x, y, _) = numbers[place.atoms], positions[place.atoms].T
            key = id(matter), _identity(z, x, y)
            if key not in shared:
                forget = functools.partial(_forget, shared, key)
                made = self.maps.project(z, x, y)
                shared[key] = weakref.ref(matter, forget), made
            yield place, shared[key][1]

    @property
    def steps(self) -> list[Step]:
        """All steps at once."""
        return [place.step for place, _ in self]

    def places_A(self, number: int) -> list[Floats]:
        """Return the positions (n, 2) of an element's atoms, step by step."""
        positions = self.configurations.positions_A(self.configuration)[:, :2]
        wanted = self.configurations.atoms.numbers == number
        return [positions[place.atoms[wanted[place.atoms]]] for place, _ in self]


def _identity(numbers: npt.NDArray[np.int64], x_A: Floats, y_A: Floats) -> bytes:
    """Return what tells atoms from others in projection, to 1e-6 Å."""
    rows = np.column_stack([numbers, np.rint(1e6 * x_A), np.rint(1e6 * y_A)])
    return rows[np.lexsort(rows.T)].tobytes()


def _forget(shared: dict[tuple[int, bytes], Any], key: tuple[int, bytes], _: Any) -> None:
    shared.pop(key, None)


Counted = Callable[[float], Floats]
"""What an ionization at a depth (Å) counts, channel by channel."""


def escape(
    configurations: Configurations, mass_attenuation_cm2_g: float, takeoff_rad: float
) -> Callable[[float], float]:
    """Return the share of X-rays that leaves the specimen, as a function of the depth in Å.

    exp(-(mu / rho) m / sin(takeoff)), m the mass for each area that lies above, on the side where
    the beam enters and the detector stands. Of the atoms at that depth itself half are above. The
    mass is that of the whole cell at rest, spread evenly over it.

    Parameters
    ----------
    configurations : Configurations
    mass_attenuation_cm2_g : float
        mu / rho of the specimen's mean composition, cm^2/g.
    takeoff_rad : float
        Angle between the foil's surface and the way to the detector.

    Raises
    ------
    ValueError
        If the take-off angle is not in (0, pi/2].
    """
    if not 0 < takeoff_rad <= np.pi / 2:
        raise ValueError(f"takeoff_rad must be above 0 and at most pi/2, got {takeoff_rad}")
    atoms = configurations.atoms
    planes, plane = np.unique(np.rint(atoms.positions_nm[:, 2] * 1e4), return_inverse=True)
    mass = np.bincount(plane, atomic_masses[atoms.numbers], minlength=len(planes))
    above = (np.cumsum(mass) - mass / 2) / configurations.grid.area_A2 * _G_PER_CM2
    depth_A = planes * 1e-3

    def share(z_A: float) -> float:
        areal = float(np.interp(z_A, depth_A, above))
        return float(np.exp(-mass_attenuation_cm2_g * areal / np.sin(takeoff_rad)))

    return share


def scan_watched(
    probe: Probe,
    positions_A: npt.ArrayLike,
    watched: WatchedSlices,
    grid: Grid,
    weights: Weights,
    counted: Counted,
    tilt_mrad: tuple[float, float] = (0.0, 0.0),
    threads: int | None = None,
    dtype: npt.DTypeLike = "complex64",
) -> Signals:
    """Scan a probe; weigh what arrives on detectors, and what is ionized on the way.

    Parameters
    ----------
    probe : Probe
    positions_A : (n, 2)
        Where it stands, (x, y).
    watched : WatchedSlices
    grid : Grid
    weights : Weights
        Of detectors, on the grid's `wave_frequencies`.
    counted
        What an ionization counts.
    tilt_mrad, threads, dtype
        As for `scan.exit_waves`.

    Returns
    -------
    Signals
        Values of the detectors, then of the watched channels.
    """
    positions = np.asarray(positions_A, np.float64).reshape(-1, 2)
    beams = Beams.inside(grid, probe)
    amplitudes = beams.amplitudes(probe)
    engine = functools.partial(Multislice, grid, probe.energy_kev, (), tilt_mrad, dtype=dtype)

    def make(i: int) -> npt.NDArray[Any]:
        return beams.wave(beams.at(amplitudes, *positions[i]), grid)

    def read(out: ExitWave, counts: Floats) -> tuple[Floats, float, float]:
        seen = np.empty(len(weights.names))
        wave_kernels.weighted_intensities(
            out.wave_k.reshape(-1), weights.values, weights.place, seen
        )
        assert out.watched is not None
        # einsum, since the bits of a matrix product may depend on the number of threads
        ionized = np.einsum("sc,sc->c", out.watched, counts)
        return np.concatenate([seen, ionized]), out.kept, out.lost

    def send(own: Multislice, some: range) -> list[tuple[Floats, float, float]]:
        matter: list[float] = []

        def noted(pairs: Iterable[tuple[Located, Maps]]) -> Iterator[Maps]:
            for place, maps in pairs:
                if place.step[0] is not None:
                    matter.append(place.z_A)
                yield maps

        # The pass asks for a step and then for its maps: the two copies go hand in hand
        first, second = itertools.tee(watched)
        waves = [make(i) for i in some]
        through = own.propagate_all(waves, (place.step for place, _ in first), noted(second))
        counts = np.array([counted(z) for z in matter]).reshape(len(matter), len(watched.maps))
        return [read(out, counts) for out in through]

    count = len(positions)
    threads = threads or parallel.threads_here()
    size = 1
    if watched.kept is None:
        threads = min(threads, watched.waves_at_once)
        size = max(1, min(watched.waves_at_once // threads, -(-count // threads)))
    groups = [range(i, min(i + size, count)) for i in range(0, count, size)]
    found = [one for some in parallel.map_threads(send, groups, engine, threads) for one in some]
    values, kept, lost = zip(*found, strict=True)
    return Signals(np.array(values), np.array(kept), np.array(lost))


def scan_losses(
    probe: Probe,
    positions_A: npt.ArrayLike,
    watched: WatchedSlices,
    number: int,
    loss: Callable[[], ChannelledLoss],
    grid: Grid,
    threads: int | None = None,
) -> Floats:
    """Return the probability (n,) of a collected core loss at every position of a probe.

    Parameters
    ----------
    probe, positions_A, watched, grid, threads
        As for `scan_watched`.
    number : int
        Atomic number of the atoms that are ionized.
    loss
        Makes what computes it, once for each thread.
    """
    positions = np.asarray(positions_A, np.float64).reshape(-1, 2)
    beams = Beams.inside(grid, probe)
    amplitudes = beams.amplitudes(probe)
    steps, places_A = watched.steps, watched.places_A(number)

    def one(own: ChannelledLoss, i: int) -> float:
        wave = beams.wave(beams.at(amplitudes, *positions[i]), grid)
        return float(own.of(wave, steps, places_A).sum())

    return np.array(parallel.map_threads(one, range(len(positions)), loss, threads))
