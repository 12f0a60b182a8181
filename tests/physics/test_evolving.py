"""Specimens that change while instruments look at them."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError

from nanophantom.instruments.diffraction import Diffraction
from nanophantom.instruments.four_d_stem import FourDSTEM
from nanophantom.instruments.spectrum_imaging import SpectrumImaging
from nanophantom.instruments.stem import STEM
from nanophantom.instruments.tem import TEM
from nanophantom.samples.crystal import Crystal
from nanophantom.samples.evolving import Evolving
from nanophantom.samples.graphene import Graphene
from nanophantom.samples.stack import Stack
from nanophantom.simcore.atoms import Atoms, Window
from nanophantom.simcore.cameras import Camera
from nanophantom.simcore.damage.fading import ContrastFading, Faded
from nanophantom.simcore.damage.processes import KnockOn
from nanophantom.simcore.dose import Ledger
from nanophantom.simcore.electrons import multislice
from nanophantom.simcore.electrons.settings import Multislice
from nanophantom.simcore.environment import Path
from nanophantom.simcore.experiment import Experiment
from nanophantom.simcore.history import EventLog, History, replayed
from nanophantom.simcore.runs import Run
from nanophantom.simcore.schedule import Exposures
from nanophantom.simcore.specimens import FiniteAtoms, Specimen

Floats = npt.NDArray[np.float64]

GONE = (np.nan, np.nan, np.nan)
CRYSTAL = {"kind": "crystal", "file": "srtio3.cif", "thickness_nm": 1.0}
CELL_NM = 0.3905
"""Edge of the cell of SrTiO3 in the crystal file."""


class Scripted(FiniteAtoms):
    """Atoms whose events are written down: (time, atom, place)."""

    def __init__(self, atoms: Atoms, *events: tuple[float, int, tuple[float, float, float]]):
        super().__init__(atoms)
        self.events = events

    def history(self, atoms: Atoms, beyond_nm: Any, ledger: Ledger, run: Run) -> History:
        rows = [(t, atom, place, 0) for t, atom, place in self.events]
        return History(atoms, ledger, EventLog.of(rows, ("script",)))

    def film_motion(self, half_width_nm: float, half_height_nm: float, run: Run) -> None:
        return None


def few(thickness_nm: float = 0.4) -> Atoms:
    """Return five heavy atoms in two planes."""
    z = thickness_nm
    places = [[0, 0, 0], [0.4, 0.2, 0], [-0.4, -0.3, z], [0.3, -0.35, z], [-0.35, 0.35, z]]
    return Atoms.of([79, 38, 79, 47, 38], places, 0.4)


def without(atoms: Atoms, lost: int) -> FiniteAtoms:
    return FiniteAtoms(atoms.select(np.arange(len(atoms)) != lost))


def made(seed: int = 3, **knobs: Any) -> Specimen:
    return Evolving.model_validate({"of": CRYSTAL, **knobs}).make(Run(seed))


def mass_loss(critical: float, **knobs: Any) -> dict[str, Any]:
    return {"process": "mass-loss", "critical_fluence_e_per_A2": critical, **knobs}


def tem(**knobs: Any) -> TEM:
    base: dict[str, Any] = {
        "exposures": {"n_frames": 3, "dose_e_per_A2": 100.0, "exposure_s": 0.5},
        "camera": {"width_px": 48, "height_px": 40, "pixel_size_nm": 0.03},
        "multislice": {"thermal_motion": False, "margin_nm": 0.3},
    }
    return TEM.model_validate({**base, **knobs})


def stem(**knobs: Any) -> STEM:
    base: dict[str, Any] = {
        "scan": {"width_px": 7, "height_px": 6, "pixel_size_nm": 0.12, "n_frames": 2},
        "detectors": [{"name": "adf", "inner_mrad": 25.0, "outer_mrad": 60.0}],
        "multislice": {"thermal_motion": False, "margin_nm": 0.3},
    }
    return STEM.model_validate({**base, **knobs})


def diffraction(**knobs: Any) -> Diffraction:
    base: dict[str, Any] = {
        "n_frames": 3, "diameter_nm": 2.0, "electrons_per_pattern": 1e5,
        "camera": {"width_px": 64, "height_px": 64, "pixel_size_mrad": 0.5},
        "multislice": {"thermal_motion": False},
    }  # fmt: skip
    return Diffraction.model_validate({**base, **knobs})


# --- TEM: frames that are made alone, and states that are averaged --------------------------------


def test_the_last_frame_of_a_movie_is_the_same_bytes_when_it_is_made_alone() -> None:
    """Events, drift and a counting camera with all its noise; also after a pickle."""
    look = tem(
        energy_kev=300.0,
        exposures={"n_frames": 4, "dose_e_per_A2": 60.0, "dead_time_s": 0.2,
                   "before_e_per_A2": 30.0},
        camera={"preset": "k2-like-300kv", "width_px": 48, "height_px": 40, "pixel_size_nm": 0.03},
        drift={"speed_nm_per_s": 0.05, "walk_nm_per_sqrt_s": 0.02},
        multislice={"thermal_configurations": 2, "margin_nm": 0.2, "states_per_exposure": 3},
    )  # fmt: skip
    processes = [mass_loss(400.0, elements=["O"]), {"process": "fading",
                 "critical_dose_e_per_A2": 300.0}]  # fmt: skip
    planned = look.plan(made(processes=processes), Run(3))
    movie = Experiment.of(planned)
    assert len(planned.history.log) > 20  # type: ignore[union-attr]
    assert len(planned.scenes(3)) == 3
    assert np.ptp(movie.truth("drift")["dx_nm"]) > 0
    alone = look.plan(made(processes=processes), Run(3)).expose(3)
    carried = pickle.loads(pickle.dumps(look.plan(made(processes=processes), Run(3)))).expose(3)
    for frame in (alone, carried):
        assert frame.signals["image"].tobytes() == movie.signal("image")[3].tobytes()
        assert frame.truth["ideal"].tobytes() == movie.ideal("image", 3).tobytes()


@pytest.mark.parametrize("share", [0.1, 0.73])
def test_a_frame_averages_two_states_by_the_time_that_each_holds(share: float) -> None:
    """One atom goes at a share of the second frame's exposure."""
    look = tem(exposures={"n_frames": 3, "dose_e_per_A2": 100.0, "exposure_s": 0.5,
                          "dead_time_s": 0.3})  # fmt: skip
    movie = Experiment.of(look.plan(Scripted(few(), (0.8 + share * 0.5, 1, GONE)), Run(1)))
    before = Experiment.of(look.plan(FiniteAtoms(few()), Run(1))).ideal("image", 0)
    after = Experiment.of(look.plan(without(few(), 1), Run(1))).ideal("image", 0)
    assert np.abs(before - after).max() > 0.05 * before.mean()
    expected = (before, share * before + (1 - share) * after, after)
    for i, image in enumerate(expected):
        np.testing.assert_allclose(movie.ideal("image", i), image, rtol=2e-6, atol=0)


def led(planned: Any, dx_nm: npt.ArrayLike, dy_nm: npt.ArrayLike) -> Any:
    """Let a planned movie follow another path, the same number of samples in every frame."""
    dx, dy = np.asarray(dx_nm, float), np.asarray(dy_nm, float)
    planned.path = Path(np.zeros_like(dx), dx, dy)
    return planned


def test_drift_and_events_meet_in_a_frame_sample_by_sample() -> None:
    """The state before the event is seen where the specimen was then, the other where it went."""
    look = tem(drift={"speed_nm_per_s": 0.4, "direction_deg": 0.0})
    image = look.plan(Scripted(few(), (0.25, 1, GONE)), Run(1)).expose(0).truth["ideal"]
    x = 0.4 * 0.5 * (np.arange(8) + 0.5) / 8  # in the middles of eighths of the exposure
    halves = [
        led(look.plan(specimen, Run(1)), half[None], 0 * half[None]).expose(0).truth["ideal"]
        for specimen, half in ((FiniteAtoms(few()), x[:4]), (without(few(), 1), x[4:]))
    ]
    np.testing.assert_allclose(image, np.mean(halves, axis=0), rtol=5e-6)


def test_more_events_than_states_are_sampled_at_equal_times() -> None:
    events = [(0.01 * i, 0, (0.02 * i, 0.0, 0.0)) for i in range(1, 50)]
    look = tem(multislice={"thermal_motion": False, "margin_nm": 0.3, "states_per_exposure": 2})
    movie = look.plan(Scripted(few(), *events), Run(1))
    assert [m.events for m, _ in movie.scenes(0)] == [12, 37]  # by 0.125 s and by 0.375 s
    images = []
    for number in (12, 37):
        places = few().positions_nm.copy()
        places[0, 0] = 0.02 * number
        images.append(look.plan(FiniteAtoms(few().moved(places)), Run(1)).expose(0).truth["ideal"])
    np.testing.assert_allclose(movie.expose(0).truth["ideal"], np.mean(images, 0), rtol=2e-6)


def test_what_happened_before_the_first_frame_is_there_from_the_start() -> None:
    look = tem()
    movie = look.plan(Scripted(few(), (-2.0, 3, GONE)), Run(1))
    expected = look.plan(without(few(), 3), Run(1)).expose(0).truth["ideal"]
    np.testing.assert_allclose(movie.expose(0).truth["ideal"], expected, rtol=2e-6)


# --- what stays when an atom goes -----------------------------------------------------------------


def crystal_configurations(**settings: Any) -> Any:
    look = tem(multislice={"thermal_configurations": 2, "margin_nm": 0.3, **settings})
    return look.plan(made(), Run(3)).configurations


@pytest.mark.parametrize("projection", ["infinite", "finite"])
def test_the_same_atoms_make_the_same_slices_bit_for_bit(projection: str) -> None:
    first = crystal_configurations(projection=projection, thermal_configurations=1)
    again = first.changed(first.atoms)
    for c in range(1):
        for one, two in zip(first.steps(c), again.steps(c), strict=True):
            assert one[1] == two[1]
            assert (one[0] is None) == (two[0] is None)
            if one[0] is not None:
                np.testing.assert_array_equal(one[0], two[0])


def test_an_atom_that_goes_leaves_all_other_slices_as_they_were() -> None:
    """Thermal displacements, planes and potentials; also after the first plane's last atom."""
    first = crystal_configurations()
    z = first.atoms.positions_nm[:, 2]
    for lost in ([int(np.argmax(first.atoms.numbers))], np.flatnonzero(z == z.max())[:-1]):
        keep = ~np.isin(np.arange(len(z)), lost)
        changed = first.changed(first.atoms.select(keep))
        np.testing.assert_array_equal(changed.positions_A(1), first.positions_A(1)[keep])
        pairs = list(zip(first.steps(1), changed.steps(1), strict=True))
        assert all(one[1] == two[1] for one, two in pairs)
        differ = [i for i, (a, b) in enumerate(pairs)
                  if a[0] is not None and not np.array_equal(a[0], b[0])]  # fmt: skip
        assert len(differ) == 1


def test_a_whole_plane_or_everything_may_go() -> None:
    first = crystal_configurations()
    z = first.atoms.positions_nm[:, 2]
    for keep in (z < z.max(), z > z.min(), z < 0):
        changed = first.changed(first.atoms.select(keep))
        total = sum(distance for _, distance in changed.steps(0))
        assert total == pytest.approx(first.exit_A, abs=1e-9)


@pytest.mark.parametrize("projection", ["infinite", "finite"])
def test_an_atom_that_goes_changes_the_exit_wave_only_near_it(projection: str) -> None:
    """A sheet with thermal motion: what changes beyond 0.8 nm is 1e-3 of the atom's own mark."""
    step = 0.213
    x, y = (v.ravel() for v in np.meshgrid(step * np.arange(-6, 7), step * np.arange(-6, 7)))
    sheet = Atoms.of(np.full(len(x), 6), np.column_stack([x, y, np.zeros(len(x))]), 0.5)
    look = tem(
        camera={"width_px": 80, "height_px": 80, "pixel_size_nm": 0.03},
        multislice={"thermal_configurations": 1, "margin_nm": 0.2, "projection": projection},
    )
    first = look.plan(FiniteAtoms(sheet), Run(1)).configurations
    lost = int(np.argmin(np.hypot(*first.atoms.positions_nm[:, :2].T)))
    changed = first.changed(first.atoms.select(np.arange(len(first.atoms)) != lost))
    engine = multislice.Multislice(first.grid, 80.0)
    waves = [
        np.fft.ifft2(engine.propagate(multislice.plane_wave(c.grid), c.steps(0)).wave_k,
                     norm="forward")
        for c in (first, changed)
    ]  # fmt: skip
    difference = np.abs(waves[0] - waves[1])
    ny, nx = difference.shape
    ly, lx = (edge / 10 for edge in first.grid.extent_A)
    px, py = first.positions_A(0)[lost, :2] / 10
    away_y = (np.arange(ny) * ly / ny - py + ly / 2) % ly - ly / 2
    away_x = (np.arange(nx) * lx / nx - px + lx / 2) % lx - lx / 2
    far = np.hypot(away_y[:, None], away_x[None]) > 0.8
    assert difference.max() > 0.1
    assert np.sqrt(np.mean(difference[far] ** 2)) < 1e-3 * difference.max()
    assert np.sum(difference[far] ** 2) < 1e-3 * np.sum(difference**2)


def test_truth_alone_tells_the_atoms_of_every_frame() -> None:
    planned = tem().plan(made(processes=[mass_loss(200.0)]), Run(3))
    movie = Experiment.of(planned)
    for i in range(3):
        t = float(planned.ledger.end_s[i])
        table, there = replayed(movie.truth("atoms"), movie.truth("events"), t)
        history = planned.history
        assert history is not None
        atoms = history.at(history.moment(t))
        np.testing.assert_array_equal(table["number"][there], atoms.numbers)
        away = table["x_nm"][there] - atoms.positions_nm[:, 0]
        assert np.ptp(away) < 1e-12


def test_charges_and_elements_may_leave_to_the_last_atom() -> None:
    """Neither ions nor an element that is gone, nor an empty specimen, stop the image."""
    ions = {"Sr": 2, "Ti": 4, "O": -2}
    settings = {"thermal_configurations": 1, "margin_nm": 0.1, "ionic_charges": ions}
    small = {"width_px": 32, "height_px": 32, "pixel_size_nm": 0.03}
    look = tem(camera=small, multislice=settings)
    no_oxygen = look.plan(made(processes=[mass_loss(1e-3, elements=["O"])]), Run(1))
    assert np.isfinite(no_oxygen.expose(2).truth["ideal"]).all()
    empty = look.plan(made(processes=[mass_loss(1e-3)]), Run(1))
    np.testing.assert_allclose(empty.expose(2).truth["ideal"], 100.0 * 0.3**2, rtol=1e-5)


@pytest.mark.parametrize("instrument", [tem, diffraction])
def test_a_perfect_sheet_has_no_edge_at_the_border_of_the_view(instrument: Any) -> None:
    """Graphene at 80 kV, far below its threshold: edges would go, but there are none in it."""
    knock = {
        "process": "knock-on", "velocity_variance_m2_s2": {"C": 3.17e5},
        "displacement": {"C": {"energy_ev": 22.0, "by_coordination_ev": {1: 12.0, 2: 14.0}}},
    }  # fmt: skip
    dose = {"n_frames": 1, "before_e_per_A2": 2e7}
    knobs = {"exposures": dose} if instrument is tem else dose
    look = instrument(energy_kev=80.0, **knobs)
    whole = look.plan(made(of={"kind": "graphene"}, processes=[knock]), Run(1))
    assert len(whole.history.log) == 0
    pierced = {"kind": "graphene", "hole_diameter_nm": 0.3}
    hole = look.plan(made(of=pierced, processes=[knock]), Run(1))
    assert len(hole.history.log) > 3


# --- fading ---------------------------------------------------------------------------------------


def mean_left(rate: Floats, begin: float, end: float) -> Floats:
    """Return the mean of exp(-rate N) over a stretch of the fluence."""
    rise = rate * (end - begin)
    return np.asarray(np.exp(-rate * begin) * -np.expm1(-rise) / rise)


def test_reflections_fade_by_their_own_critical_dose_and_the_mean_stays() -> None:
    """Five by five unit cells in a periodic cell of six by six: all strong Fourier coefficients."""
    law = {"process": "fading", "spacings_nm": [0.1, 0.2, 0.4, 1.0],
           "critical_doses_e_per_A2": [40.0, 80.0, 300.0, 900.0]}  # fmt: skip
    look = tem(
        exposures={"n_frames": 3, "dose_e_per_A2": 100.0, "before_e_per_A2": 20.0},
        camera={"width_px": 80, "height_px": 80, "pixel_size_nm": CELL_NM / 16},
        optics={"aperture_mrad": 12.0, "defocus_nm": -20.0, "aberrations": {"c30_um": 1.0}},
        multislice={"thermal_motion": False, "margin_nm": 0.19},
    )
    movie = look.plan(made(processes=[law]), Run(1))
    static = look.plan(made(), Run(1)).expose(0).truth["ideal"]
    assert movie.cell.shape == (96, 96)  # whole unit cells
    spectrum = np.fft.rfft2(static.astype(float))
    k = np.hypot(np.fft.fftfreq(80, 1 / 80)[:, None], np.fft.rfftfreq(80, 1 / 80)) / (50 * CELL_NM)
    strong = (np.abs(spectrum) > 1e-3 * np.abs(spectrum[0, 0])) & (k > 0) & (k < 1.0)
    assert strong.sum() >= 10
    critical = np.exp(np.interp(np.log(k[strong]), np.log([0.1, 0.25, 0.5, 1.0]),
                                np.log([900.0, 300.0, 80.0, 40.0])))  # fmt: skip
    for i in range(3):
        faded = np.fft.rfft2(movie.expose(i).truth["ideal"].astype(float))
        begin = 20.0 + 100.0 * i
        expected = mean_left(0.5 / critical, begin, begin + 100.0)
        ratio = faded[strong] / spectrum[strong]
        np.testing.assert_allclose(ratio, expected, rtol=0, atol=1e-4)
        assert faded[0, 0] == pytest.approx(spectrum[0, 0], rel=1e-6)


@pytest.mark.parametrize("dose", [1.0, 60.0, 3000.0])
def test_two_causes_of_fading_act_at_once_over_any_exposure(dose: float) -> None:
    """Rates add inside the average; an exposure may be many critical doses long."""
    ledger = Exposures(n_frames=3, dose_e_per_A2=dose, dead_time_s=0.1).ledger(
        300.0, Window.everywhere()
    )
    causes = [ContrastFading(critical_dose_e_per_A2=30.0), ContrastFading(material="vitrified "
              "protein")]  # fmt: skip
    faded = Faded.of(causes, ledger)
    k = np.array([0.02, 0.1, 0.33, 0.8])
    rate = 1 / 30.0 + 1 / (0.245 * k**-1.665 + 2.81)  # Grant & Grigorieff, eLife 4 (2015) e06980
    np.testing.assert_allclose(faded.critical_dose(k), 1 / rate, rtol=1e-9)
    for i in range(3):
        begin, end = i * dose, (i + 1) * dose
        amplitude, intensity = (mean_left(r, begin, end) for r in (rate / 2, rate))
        np.testing.assert_allclose(faded.amplitude(k, i), amplitude, rtol=0, atol=1e-4)
        np.testing.assert_allclose(faded.intensity(k, i), intensity, rtol=0, atol=1e-4)
    assert faded.amplitude(np.zeros(1), 2) == 1.0


def test_fading_that_heals_reaches_the_steady_state_of_its_law() -> None:
    """dD/dt = s f (1 - D) - r D: in a long exposure what is left tends to r / (s f + r)."""
    ledger = Exposures(n_frames=2, dose_e_per_A2=5e3, exposure_s=100.0).ledger(
        300.0, Window.everywhere()
    )
    cause = ContrastFading(critical_dose_e_per_A2=10.0, repair_hz=5.0)  # s f = 5 / s
    faded = Faded.of([cause], ledger)
    k = np.array([0.3])
    assert faded.intensity(k, 1) == pytest.approx(0.5, rel=1e-9)
    assert faded.amplitude(k, 1) == pytest.approx(np.sqrt(0.5), rel=1e-9)


def test_nothing_fades_below_a_threshold_of_the_dose_rate() -> None:
    cause = ContrastFading(critical_dose_e_per_A2=10.0, threshold_rate_e_per_A2_s=50.0)
    k = np.array([0.1, 1.0])
    for rate, counted in ((50.0, 0.0), (80.0, 30.0)):
        ledger = Exposures(n_frames=1, dose_e_per_A2=rate, exposure_s=1.0).ledger(
            200.0, Window.everywhere()
        )
        left = Faded.of([cause], ledger).intensity(k, 0)
        expected = mean_left(np.full(2, 0.1), 0.0, counted) if counted else 1.0
        np.testing.assert_allclose(left, expected, rtol=1e-9)


# --- diffraction ----------------------------------------------------------------------------------


def test_fading_spots_lose_to_broad_halos_and_no_electron_is_lost() -> None:
    """A pattern less exp(-N / N_c), averaged, times the first one is even round the beam and wide.

    A halo is the ring means of what the spots lost, convolved with a Gaussian of 0.06 1/Å: its
    transform is that of the rings times exp(-2 pi^2 sigma^2 q^2).
    """
    law = {"process": "fading", "critical_dose_e_per_A2": 200.0, "amplitude_e_per_A2": 30.0}
    look = diffraction(energy_kev=200.0)
    movie = look.plan(made(processes=[law]), Run(1))
    first = np.asarray(look.plan(made(), Run(1)).expose(0).truth["ideal"], float)
    y, x = np.indices(first.shape)
    radius = np.hypot(y - 31.5, x - 31.5)
    k = radius * 0.5e-3 / 0.025079  # wavelength at 200 kV, Å
    direct = radius < 1.5
    rate = 1.0 / (200.0 + 30.0 * np.maximum(k, 1e-3) ** -1.665)
    ring = np.rint(radius).astype(int)
    dose, sigma_px = look.dose_e_per_A2, 0.06 * 0.025079 / 0.5e-3
    n = 2 * len(first)  # mirrored at its edges, the pattern repeats after twice its size
    q = np.fft.fftfreq(n)
    spread = np.exp(-2 * np.pi**2 * sigma_px**2 * (q[:, None] ** 2 + q[None, :] ** 2))
    for i in range(3):
        pattern = np.asarray(movie.expose(i).truth["ideal"], float)
        assert pattern.sum() == pytest.approx(first.sum(), rel=1e-5)
        left = np.where(direct, 1.0, mean_left(rate, i * dose, (i + 1) * dose))
        assert left[~direct].min() < 0.8
        lost = ((1 - left) * first).ravel()
        means = np.bincount(ring.ravel(), lost) / np.maximum(np.bincount(ring.ravel()), 1)
        mirrored = np.pad(means[ring], (0, len(first)), mode="symmetric")
        halo = np.fft.ifft2(np.fft.fft2(mirrored) * spread).real[: len(first), : len(first)]
        np.testing.assert_allclose(pattern - left * first, halo, atol=2e-3 * halo.max())


def test_a_pattern_averages_two_states_by_the_time_that_each_holds() -> None:
    look = diffraction(exposure_s=1.0)
    movie = look.plan(Scripted(few(), (1.3, 1, GONE)), Run(1))
    before = look.plan(FiniteAtoms(few()), Run(1)).expose(0).truth["ideal"]
    after = look.plan(without(few(), 1), Run(1)).expose(0).truth["ideal"]
    for i, expected in enumerate((before, 0.3 * before + 0.7 * after, after)):
        np.testing.assert_allclose(movie.expose(i).truth["ideal"], expected, rtol=2e-5, atol=1e-4)


def test_bragg_intensities_of_a_disordering_crystal_fall_as_the_square_of_what_is_untouched() -> (
    None
):
    """exp(-2 N / N_c) in a thin, kinematic crystal; statistics of its sites: 4 sigma."""
    look = diffraction(
        energy_kev=300.0, n_frames=3, electrons_per_pattern=2e4, diameter_nm=5.0,
        camera={"width_px": 80, "height_px": 80, "pixel_size_mrad": 0.5},
    )  # fmt: skip
    critical = 3.0 * look.dose_e_per_A2
    process = {"process": "amorphization", "critical_fluence_e_per_A2": critical,
               "displacement_rms_nm": 0.3}  # fmt: skip
    thin = {**CRYSTAL, "thickness_nm": 0.8}
    planned = look.plan(made(of=thin, processes=[process]), Run(2))
    first = np.asarray(look.plan(made(of=thin), Run(2)).expose(0).truth["ideal"], float)
    y, x = np.indices(first.shape)
    spacing_px = 0.019687 / (10 * CELL_NM) / 0.5e-3  # from spot to spot
    spots, grounds = [], []
    for h, k in ((1, 1), (1, -1), (-1, 1), (-1, -1), (2, 0), (0, 2), (-2, 0), (0, -2)):
        away = np.hypot(y - 39.5 - k * spacing_px, x - 39.5 - h * spacing_px)
        spots.append(away < 1.6)
        grounds.append((away > 3.0) & (away < 5.0))

    def bragg(pattern: Floats) -> float:
        return float(sum(
            pattern[s].sum() - s.sum() * np.median(pattern[g])
            for s, g in zip(spots, grounds, strict=True)
        ))  # fmt: skip

    n_heavy = np.count_nonzero(planned.history.atoms.numbers > 8) / 2  # type: ignore[union-attr]
    for i in range(3):
        t = look.dose_e_per_A2 * np.array([i, i + 1]) / critical
        expected = float(mean_left(np.array([2.0]), *t)[0])
        fraction = float(np.exp(-t.mean()))
        sigma = 2 * np.sqrt((1 - fraction) / (fraction * n_heavy))
        ratio = bragg(np.asarray(planned.expose(i).truth["ideal"], float)) / bragg(first)
        assert abs(ratio / expected - 1) < 4 * sigma < 0.4
        assert abs(ratio / np.sqrt(expected) - 1) > 4 * sigma or i == 0  # not as f itself


# --- STEM -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["auto", "multislice"])
def test_dwells_before_an_event_see_the_old_specimen_and_those_after_it_the_new(
    method: str,
) -> None:
    look = stem(calculation={"method": method})
    times = look.plan(FiniteAtoms(few()), Run(1)).path.t_s
    when = float(times[0, 3, 3]) - 1e-9  # just before the middle of this dwell
    planned = look.plan(Scripted(few(), (when, 0, GONE)), Run(1))
    movie = Experiment.of(planned)
    before = Experiment.of(look.plan(FiniteAtoms(few()), Run(1)))
    after = Experiment.of(look.plan(without(few(), 0), Run(1)))
    old = times < when
    assert old[0].sum() == 3 * 7 + 3
    for i in range(2):
        expected = np.where(old[i], before.ideal("adf", i), after.ideal("adf", i))
        np.testing.assert_allclose(movie.ideal("adf", i), expected, rtol=1e-5, atol=1e-6)
    assert np.abs(before.ideal("adf", 1) - after.ideal("adf", 1)).max() > 1.0
    alone = look.plan(Scripted(few(), (when, 0, GONE)), Run(1)).expose(1)
    assert alone.signals["adf"].tobytes() == movie.signal("adf")[1].tobytes()


def test_both_methods_scan_a_changing_crystal_alike() -> None:
    ideals = []
    for method in ("scattering-matrix", "multislice"):
        look = stem(
            calculation={"method": method},
            scan={"width_px": 6, "height_px": 5, "pixel_size_nm": 0.08, "n_frames": 2},
            multislice={"thermal_configurations": 1, "margin_nm": 0.2, "states_per_exposure": 2},
        )
        crystal = made(processes=[mass_loss(5e3, elements=["O"])])
        planned = look.plan(crystal, Run(3))
        assert planned.images.is_series == (method != "multislice")
        assert len(planned.images.changed_scenes) >= 3
        ideals.append(Experiment.of(planned).ideal("adf", 1))
    np.testing.assert_allclose(ideals[0], ideals[1], rtol=1e-3)


# --- budgets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("evolves", [False, True])
@pytest.mark.parametrize("kind", ["tem", "stem", "diffraction"])
def test_a_budget_ends_an_acquisition_and_everything_tells_the_same_number(
    kind: str, evolves: bool
) -> None:
    specimen = Scripted(few(), (0.1, 1, GONE)) if evolves else FiniteAtoms(few())
    if kind == "tem":
        base: Any = {"n_frames": 5, "dose_e_per_A2": 10.0, "before_e_per_A2": 5.0}
        look: Any = tem(exposures={**base, "budget": {"total_e_per_A2": 35.0}}, series={
            "defoci_nm": [1.0, 2.0, 3.0, 4.0, 5.0]})  # fmt: skip
        dose = 10.0
    else:
        bare: Any = stem if kind == "stem" else diffraction
        scan = {"scan": {"width_px": 4, "height_px": 3, "pixel_size_nm": 0.2, "n_frames": 5}}
        knobs: Any = scan if kind == "stem" else {"n_frames": 5}
        one = bare(**knobs)
        dose = one.ledger().fluence_e_per_A2[0] if kind == "stem" else one.dose_e_per_A2
        look = bare(before_e_per_A2=0.5 * dose, budget={"total_e_per_A2": 3.5 * dose}, **knobs)
    planned = look.plan(specimen, Run(1))
    movie = Experiment.of(planned)
    assert planned.n_frames == movie.n_frames == 3
    assert movie.settings["n_frames"] == 3
    assert "exposure 3" in planned.ledger.stopped
    table = movie.truth("dose")
    assert len(table["frame"]) == 3
    np.testing.assert_allclose(table["cumulative_e_per_A2"], dose * (0.5 + np.arange(1, 4)))
    if kind == "tem":
        assert movie.settings["defoci_nm"] == [1.0, 2.0, 3.0]
        np.testing.assert_allclose(movie.truth("focus")["actual_nm"], [1.0, 2.0, 3.0])
        assert len(movie.settings["doses_e_per_A2"]) == 3
    if kind == "stem":
        assert movie.truth("probe_positions")["t_s"].shape[0] == 3
    for name in movie.signals:
        assert len(movie.signal(name)) == 3
    with pytest.raises(IndexError):
        planned.expose(3)


def test_frames_of_a_shortened_movie_are_those_of_the_whole_one() -> None:
    """Drift and events are drawn alike; TEM, with its cell held fixed by a margin."""
    whole, short = (
        tem(exposures={"n_frames": 4, "dose_e_per_A2": 50.0, "budget": {"total_e_per_A2": limit}})
        .plan(made(processes=[mass_loss(300.0)]), Run(2))
        for limit in (200.0, 120.0)
    )  # fmt: skip
    assert (whole.n_frames, short.n_frames) == (4, 2)
    one, two = whole.expose(1), short.expose(1)
    np.testing.assert_array_equal(one.signals["image"], two.signals["image"])


# --- the film -------------------------------------------------------------------------------------


def centres(image: Floats, near_px: Floats, reach: int = 7) -> Floats:
    """Return centres of mass (x, y) of the contrast squared about some places, in pixels."""
    found = []
    for x, y in near_px:
        j, i = round(float(x)), round(float(y))
        rows, columns = np.arange(i - reach, i + reach + 1), np.arange(j - reach, j + reach + 1)
        part = (image[np.ix_(rows, columns)] / np.median(image) - 1) ** 2
        found.append([(part.sum(0) @ columns) / part.sum(), (part.sum(1) @ rows) / part.sum()])
    return np.array(found)


def test_the_film_carries_markers_where_its_field_says() -> None:
    """Nine atoms, against r + d(r, N) with the field of truth; to 2 pm, after a jump of 0.15 nm."""
    px = 0.02
    at = np.array([-1.4, 0.0, 1.4])
    x, y = (v.ravel() for v in np.meshgrid(at, at))
    markers = Atoms.of(np.full(9, 79), np.column_stack([x, y, np.zeros(9)]), 0.0)

    class Film(Scripted):
        def film_motion(self, half_width_nm: float, half_height_nm: float, run: Run) -> Any:
            motion = Evolving.model_validate({"of": CRYSTAL, "film": {
                "jump_nm": 0.15, "local_nm": 0.06, "shear_percent": 0.5,
                "critical_fluence_e_per_A2": 40.0}}).film  # fmt: skip
            return motion.draw(run.rng("film"), half_width_nm, half_height_nm)

    look = tem(
        exposures={"n_frames": 3, "dose_e_per_A2": 30.0},
        camera={"width_px": 200, "height_px": 200, "pixel_size_nm": px},
        optics={"defocus_nm": 4.0, "aberrations": {"c30_um": 0.0}, "aperture_mrad": 30.0},
        multislice={"thermal_motion": False, "margin_nm": 0.3},
    )
    planned = look.plan(Film(markers), Run(5))
    still = look.plan(FiniteAtoms(markers), Run(5)).expose(0).truth["ideal"]
    rest_px = np.column_stack([x, y]) / px + 99.5
    rest = centres(still, rest_px)
    np.testing.assert_allclose(rest, rest_px, atol=0.05)
    drift = planned.truth(None)["drift"]
    film = planned.film
    assert film is not None
    for i in range(3):
        fluence = 30.0 * (i + 0.5)
        dx, dy = film.displacement_nm(x, y, fluence)
        ux, uy = film.uniform_nm(fluence)
        moved = np.column_stack([dx - ux + drift["dx_nm"][i], dy - uy + drift["dy_nm"][i]])
        assert np.ptp(moved[:, 0]) > 0.02  # the field is not uniform
        seen = centres(planned.expose(i).truth["ideal"], rest_px + moved / px)
        np.testing.assert_allclose((seen - rest) * px, moved, rtol=0, atol=2e-3)
        samples = film.uniform_nm(30.0 * (i + (np.arange(8) + 0.5) / 8))
        np.testing.assert_allclose(drift["dx_nm"][i], samples[0].mean(), atol=1e-12)
        np.testing.assert_allclose(drift["dy_nm"][i], samples[1].mean(), atol=1e-12)


def test_a_uniform_jump_is_a_drift() -> None:
    """The same image as of a static specimen that is led along the same path."""
    film = {"jump_nm": 0.2, "jump_direction_deg": 30.0, "critical_fluence_e_per_A2": 80.0}
    planned = tem().plan(made(film=film), Run(1))
    assert planned.film is not None
    assert planned.film.is_uniform
    grown = -np.expm1(-(100.0 * (np.arange(24) + 0.5) / 8) / 80.0).reshape(3, 8)
    dy, dx = zip(*(planned.displacements_nm(i) for i in range(3)), strict=True)
    np.testing.assert_allclose(dx, 0.2 * np.cos(np.pi / 6) * grown, atol=1e-12)
    np.testing.assert_allclose(dy, 0.2 * np.sin(np.pi / 6) * grown, atol=1e-12)
    table = Experiment.of(planned).truth("drift")
    np.testing.assert_allclose(table["dx_nm"], np.mean(dx, axis=1), atol=1e-12)
    np.testing.assert_allclose(table["dy_nm"], np.mean(dy, axis=1), atol=1e-12)
    margin = 0.3 + planned.film.largest_nm(300.0)
    still = tem(multislice={"thermal_motion": False, "margin_nm": margin}).plan(made(), Run(1))
    assert still.cell == planned.cell
    for i in range(3):
        expected = led(still, dx, dy).expose(i).truth["ideal"]
        np.testing.assert_allclose(planned.expose(i).truth["ideal"], expected, rtol=2e-6)


# --- refusals -------------------------------------------------------------------------------------

FADING = {"process": "fading", "critical_dose_e_per_A2": 50.0}


def refusal(instrument: Any, **sample: Any) -> str:
    with pytest.raises(ValueError) as refused:
        instrument.plan(made(**sample), Run(1))
    line = str(refused.value)
    assert "\n" not in line
    assert len(line) < 250
    return line


def test_scans_and_convergent_beams_refuse_fading() -> None:
    assert "fading acts on images and patterns of a broad beam" in refusal(
        stem(), processes=[FADING]
    )
    cbed = diffraction(mode="cbed", n_frames=1, camera={"pixel_size_mrad": 1.0, "width_px": 32,
                       "height_px": 32})  # fmt: skip
    assert "no meaning for the disks of cbed" in refusal(cbed, processes=[FADING])


@pytest.mark.parametrize("kind", [FourDSTEM, SpectrumImaging])
def test_other_instruments_refuse_a_specimen_that_changes(kind: Any) -> None:
    line = refusal(kind.small(), processes=[mass_loss(10.0)])
    assert line.startswith("sample.kind:")
    assert "tem, stem and diffraction" in line


def test_what_has_no_order_in_time_is_refused() -> None:
    several = diffraction(thicknesses_nm=[0.4, 0.8], n_frames=1)
    assert "no order in time" in refusal(several, processes=[mass_loss(10.0)])
    study = stem(
        configurations_of_frame=[1, 2], calculation={"method": "scattering-matrix"},
        multislice={"thermal_configurations": 4, "margin_nm": 0.2},
    )  # fmt: skip
    assert "doesn't change" in refusal(study, processes=[mass_loss(10.0)])


def test_an_evolving_sample_of_an_evolving_one_is_refused() -> None:
    inner = {"kind": "evolving", "of": CRYSTAL, "processes": [mass_loss(10.0)]}
    with pytest.raises(ValidationError, match="it evolves already"):
        Evolving.model_validate({"of": inner})


def test_a_part_that_is_not_there_is_refused() -> None:
    line = refusal(
        tem(), processes=[{"process": "rotation", "group": "particle", "rate_deg_per_s": 1.0}]
    )
    assert "no part 'particle'" in line


def test_as_many_doses_as_steps_of_a_series() -> None:
    with pytest.raises(ValidationError, match=r"doses_e_per_A2 \(3\) is no multiple of the 5"):
        tem(series={"defoci_nm": [1.0, 2.0, 3.0, 4.0, 5.0]},
            exposures={"doses_e_per_A2": [10.0, 20.0, 30.0]})  # fmt: skip
    two_each = tem(series={"defoci_nm": [1.0, 2.0]}, exposures={"doses_e_per_A2": [1.0] * 4})
    assert two_each.defoci_nm == (1.0, 1.0, 2.0, 2.0)


def test_a_tilted_sheet_has_no_false_edges():
    """At 80 kV and 2e7 e/Å² a perfect sheet loses 1e-5 atoms, a border taken for an edge many."""
    run = Run(1)
    specimen = Evolving(
        of=Graphene(),
        processes=(
            KnockOn(
                displacement={"C": {"energy_ev": 21.14, "by_coordination_ev": {2: 12.0, 1: 9.0}}},
                velocity_variance_m2_s2={"C": 3.17e5},
            ),
        ),
    ).make(run)
    tem = TEM(
        energy_kev=80.0,
        stage_tilt_mrad=(20.0, 0.0),
        exposures=Exposures(n_frames=2, dose_e_per_A2=1e7),
        camera=Camera(width_px=64, height_px=64, pixel_size_nm=0.02, shot_noise=False),
        multislice=Multislice(thermal_motion=False),
    )
    assert len(tem.plan(specimen, run).history.log) == 0


def test_a_changing_layer_of_a_stack_is_refused():
    """A stack would not play its processes, so it says so."""
    stack = Stack(layers=(Evolving.small(), Crystal.small()))
    with pytest.raises(ValueError, match=r"layers\.0: an evolving sample can't be a layer"):
        stack.make(Run(1))


def test_a_film_that_folds_is_refused_when_planned():
    """Not only when a frame is made."""
    run = Run(1)
    specimen = Evolving(of=Crystal.small(), film={"local_nm": 5.0}).make(run)
    with pytest.raises(ValueError, match="fold"):
        TEM.small().plan(specimen, run)


def test_what_a_scan_cannot_show_or_a_recipe_leaves_open_is_refused() -> None:
    """The motion of a film in a scan, a process without a name, a rotation that doesn't turn."""
    film = made(film={"jump_nm": 0.1})
    with pytest.raises(ValueError, match=r"sample\.film: .* broad beam of a tem"):
        stem().plan(film, Run(1))
    with pytest.raises(ValidationError, match="process must be knock-on, "):
        made(processes=[{"critical_fluence_e_per_A2": 3.0}])
    with pytest.raises(ValidationError, match="nothing turns"):
        made(processes=[{"process": "rotation", "group": "specimen"}])
