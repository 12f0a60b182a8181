"""Four-dimensional STEM: patterns on a camera, tiles of specimen, and what the truth says."""

import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError

from nanophantom.analysis import dpc
from nanophantom.instruments._survey import Turned
from nanophantom.instruments._tiling import Tiling, first_samples, tile_shape
from nanophantom.instruments.four_d_stem import FourDSTEM, FourDSTEMAcquisition
from nanophantom.instruments.stem import STEM
from nanophantom.samples.crystal import Crystal
from nanophantom.scenarios import run as driver
from nanophantom.simcore.atoms import Atoms, Window
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.stem.pixelated import Binning, PixelatedDetector
from nanophantom.simcore.electrons.stem.probe import Probe
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import FieldLayer, FiniteAtoms, Specimen, sample_points
from nanophantom.simcore.store import Dataset, DatasetWriter

Floats = npt.NDArray[np.float64]
KEV = 200.0
WAVELENGTH_NM = float(wavelength(KEV)) / 10


class Sheet(Specimen):
    """A thin phase object without end: transmission exp(i phase(x, y)), lengths in nm."""

    def __init__(self, phase: Callable[[Floats, Floats], Floats]) -> None:
        self.phase = phase

    def fields_within(self, window: Window, shape: tuple[int, int]) -> Sequence[FieldLayer]:
        x, y = sample_points(window, shape)
        phase = self.phase(x[None, :], y[:, None]) + np.zeros(shape)
        return [FieldLayer(0.0, phase_rad=phase)]

    def truth(self) -> dict[str, Any]:
        return {}


def microscope(**changed: Any) -> FourDSTEM:
    """Return a small microscope without noise: a line of positions, a window of 6 nm.

    The aperture's edge is soft over a period of the window's frequencies, 0.4 mrad.
    """
    settings: dict[str, Any] = {
        "scan": {"width_px": 5, "height_px": 1, "pixel_size_nm": 0.13},
        "camera": {"width_px": 32, "height_px": 30, "pixel_size_mrad": 2.0},
        "probe": {"semiangle_mrad": 20.0},
        "shot_noise": False,
        "multislice": {"margin_nm": 3.0},
    }
    return FourDSTEM.model_validate(settings | changed)


def planned(specimen: Specimen, **changed: Any) -> FourDSTEMAcquisition:
    return microscope(**changed).plan(specimen, Run(1))


# --- the camera ------------------------------------------------------------------------------


def binned(camera: PixelatedDetector, grid: Grid, wave: npt.NDArray[Any]) -> tuple[Floats, Floats]:
    pattern, moments = np.zeros(camera.shape, np.float32), np.zeros(3)
    Binning.of(camera, grid, KEV).add(wave, 1.0, pattern, moments)
    return pattern.astype(float), moments


@pytest.mark.parametrize("pixel_mrad", [0.37, 1.0, 5.3])
def test_a_camera_that_sees_all_frequencies_gets_all_of_the_intensity(pixel_mrad: float) -> None:
    """Pixels much smaller and much larger than the cells of the frequencies share them exactly."""
    grid = Grid.for_wave((31.0, 24.0), 2.0)
    rng = np.random.default_rng(1)
    wave = (rng.standard_normal((*grid.wave_shape, 2)) @ [1, 1j]) * grid.wave_mask
    wave /= np.sqrt(np.sum(np.abs(wave) ** 2))
    n = int(2 * 52 / pixel_mrad) + 4
    camera = PixelatedDetector(width_px=n + 3, height_px=n, pixel_size_mrad=pixel_mrad)
    pattern, moments = binned(camera, grid, wave)
    assert pattern.sum() == pytest.approx(1.0, abs=2e-6)
    # shared in proportion to area, so the pattern's moments are those of the wave, about the axis
    rows, columns = (np.arange(m) - c for m, c in zip(camera.shape, camera.centre_px, strict=True))
    ky, kx = grid.wave_frequencies
    mrad = 1e3 * float(wavelength(KEV))
    intensity = np.abs(wave) ** 2
    assert moments == pytest.approx(
        [1.0, mrad * np.sum(intensity * kx), mrad * np.sum(intensity * ky)], rel=1e-12
    )
    fine = 1e-3 if pixel_mrad < 1 else 0.3  # a pixel larger than a cell moves it to its middle
    assert pixel_mrad * np.sum(pattern * columns[None, :]) == pytest.approx(moments[1], abs=fine)
    assert pixel_mrad * np.sum(pattern * rows[:, None]) == pytest.approx(moments[2], abs=fine)


def test_a_beam_is_shared_out_by_area_and_cut_at_the_edge_of_the_camera() -> None:
    """One coefficient of 2 x 2 mrad on pixels of 3 mrad: the overlaps are known by hand."""
    edge = 1e3 * float(wavelength(KEV)) / 2.0  # Å, a lattice of 2 mrad
    grid = Grid.for_wave((edge, edge), 40 / (2 * edge))
    camera = PixelatedDetector(width_px=4, height_px=5, pixel_size_mrad=3.0)
    wave = np.zeros(grid.wave_shape, complex)
    wave[-2, 1] = 1.0  # at x = 2, y = -4 mrad: x from 1 to 3, y from -5 to -3
    pattern, moments = binned(camera, grid, wave)
    expected = np.zeros((5, 4))
    # pixels of x end at -6, -3, 0, 3, 6; of y at -7.5, -4.5, -1.5 ...
    expected[0, 2], expected[1, 2] = 0.25, 0.75
    np.testing.assert_allclose(pattern, expected, atol=1e-7)
    np.testing.assert_allclose(moments, [1.0, 2.0, -4.0], rtol=1e-12)
    wave[:] = 0
    wave[4, 0] = 1.0  # y = 8: from 7 to 9, the camera ends at 7.5
    assert binned(camera, grid, wave)[0].sum() == pytest.approx(0.25, abs=1e-7)


def test_more_electrons_than_a_counter_holds_are_refused() -> None:
    camera = PixelatedDetector(width_px=4, height_px=4)
    with pytest.raises(ValueError, match="overflow a 16-bit counter"):
        camera.read(np.full((4, 4), 7e4, np.float32), np.random.default_rng(1))


# --- patterns ----------------------------------------------------------------------------------


def test_without_a_specimen_the_pattern_is_the_aperture() -> None:
    """The disk's radius is the semiangle in pixels, its intensity uniform, its sum the beam."""
    vacuum = planned(Sheet(lambda x, y: 0 * x * y))
    pattern = vacuum.ideal(0)[0] / vacuum.stem.electrons
    assert pattern.sum() == pytest.approx(1.0, abs=1e-6)
    row, column = vacuum.stem.camera.centre_px
    y, x = np.indices(pattern.shape, float)
    r_mrad = 2.0 * np.hypot(y - row, x - column)
    assert r_mrad[pattern > 1e-9].max() < 20 + 2.0  # soft over 0.4 mrad, pixels of 2 mrad
    # The edge is soft over 2 % of the radius, so where it is may be off by half of that.
    inside = pattern[r_mrad < 20 - 2.0]
    assert inside == pytest.approx(np.full(inside.size, inside.mean()), rel=1e-5)
    assert inside.mean() == pytest.approx(4.0 / (np.pi * 20.0**2), rel=1e-2)
    # a uniform disk of radius a has the mean square radius a^2 / 2, a square pixel p^2 / 6 more
    edge = np.sqrt(2 * (np.sum(pattern * r_mrad**2) - 2.0**2 / 6))
    assert edge == pytest.approx(20.0, rel=1e-2)


WINDOW_NM = 6.0
SOFT = 1 + 2 * np.sqrt(2) / np.pi * 1e3 * WAVELENGTH_NM / WINDOW_NM / (3 * 20.0)
"""What the soft edge of the aperture does to the blur, to first order in its width over the radius.

Over the extent w of a lattice cell along the radius (on average over azimuth 2 sqrt(2) / pi
periods) the amplitude falls from 1 to 0. If linearly, the overlap of two apertures keeps its area
and the sum of |a|^2 is less by w / 3 R; if as a square root, the sum is exact and the overlap, in
whose rim the amplitude is 2/3 instead of 1/2, is larger by w / 3 R. Normalised it is the same.
"""


def aperture_overlap(q_per_nm: float, semiangle_mrad: float) -> float:
    """Return the Fourier transform of an unaberrated probe's intensity: two circles' overlap."""
    u = q_per_nm * WAVELENGTH_NM / (2e-3 * semiangle_mrad)
    return float(2 / np.pi * (np.arccos(u) - u * np.sqrt(1 - u**2)))


def sine(strength: float) -> Sheet:
    """Return a sheet with a phase of period 1 nm along x and 1.5 nm along y."""
    return Sheet(
        lambda x, y: strength * (np.sin(2 * np.pi * x) + 0.5 * np.cos(2 * np.pi * y / 1.5))
    )


@pytest.mark.parametrize("source_size_nm", [0.0, 0.15])
def test_the_centre_of_mass_of_a_phase_object_is_its_gradient_blurred_by_the_probe(
    source_size_nm: float,
) -> None:
    """<k> = grad phase / 2 pi blurred by |p|^2, exact for any strength of the phase.

    For a sine the blur is a factor: the overlap of two aperture disks, and exp(-2 pi^2 q^2 s^2)
    for a source of standard deviation s. For the soft edge see `SOFT`.
    """
    acquisition = planned(
        sine(0.8),
        probe={"semiangle_mrad": 20.0, "source_size_nm": source_size_nm},
    )
    frame = acquisition.expose(0)
    x, y = acquisition.path.x_nm[0, 0], acquisition.path.y_nm[0, 0]
    s = source_size_nm / np.sqrt(8 * np.log(2))
    mrad = 1e3 * WAVELENGTH_NM
    blur = [aperture_overlap(q, 20.0) * np.exp(-2 * (np.pi * q * s) ** 2) for q in (1, 1 / 1.5)]
    blur = [SOFT * b for b in blur]
    gradient_x = 0.8 * np.cos(2 * np.pi * x) * blur[0]
    gradient_y = -0.4 / 1.5 * np.sin(2 * np.pi * y / 1.5) * blur[1]
    largest = mrad * 0.8 * blur[0]
    np.testing.assert_allclose(frame.truth["com_x_mrad"], mrad * gradient_x, atol=1e-3 * largest)
    np.testing.assert_allclose(frame.truth["com_y_mrad"], mrad * gradient_y, atol=1e-3 * largest)
    # and the camera, which sees all of it, says the same
    counts = frame.signals["patterns"]
    com = dpc.centre_of_mass(counts, 2.0, acquisition.stem.camera.centre_px)
    np.testing.assert_allclose(com[0], frame.truth["com_x_mrad"], atol=1e-3 * largest)
    np.testing.assert_allclose(com[1], frame.truth["com_y_mrad"], atol=1e-3 * largest)


# --- tiles -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crystal() -> Specimen:
    return Crystal(file="srtio3.cif", thickness_nm=1.6).make(Run(1))


THERMAL = {
    "scan": {"width_px": 7, "height_px": 3, "pixel_size_nm": 0.1},
    "camera": {"width_px": 30, "height_px": 30, "pixel_size_mrad": 2.0},
    "multislice": {"margin_nm": 1.25, "thermal_configurations": 2},
    "drift": {"speed_nm_per_s": 5.0, "direction_deg": 30.0},
}


def retiled(
    acquisition: FourDSTEMAcquisition, lines: int, positions: int, keeps: bool
) -> FourDSTEMAcquisition:
    patterns = acquisition.patterns
    first = first_samples(patterns.path, patterns.window, slice(None), slice(None))
    shape = tile_shape(first, patterns.window, lines, positions)
    tiled = replace(patterns, tiling=Tiling(shape, lines, positions, keeps), _kept={})
    again = pickle.loads(pickle.dumps(acquisition))
    again.patterns = tiled
    return again


@pytest.mark.parametrize(("lines", "positions", "keeps"), [(1, 1, False), (1, 3, False)])
def test_where_tiles_end_makes_no_difference(
    crystal: Specimen, lines: int, positions: int, keeps: bool
) -> None:
    """Thermal atoms in one tile for 3 x 7 positions, in short ones and in one for each."""
    whole = planned(crystal, **THERMAL)
    assert whole.patterns.tiling.positions == 7
    assert whole.patterns.tiling.keeps
    other = retiled(whole, lines, positions, keeps)
    probe = Probe(KEV, 20.0, whole.tuned.coefficients(2))
    a, b = (each.patterns.line(0, 2, probe) for each in (whole, other))
    difference = np.abs(a.patterns - b.patterns).sum(axis=(1, 2))
    assert difference.max() < 1e-3
    np.testing.assert_allclose(a.moments, b.moments, atol=1e-2)


def test_a_line_made_alone_equals_that_of_the_scan(crystal: Specimen) -> None:
    """Whether tiles are at hand from the line before, or have to be made, to the last bit."""
    settings = {**THERMAL, "shot_noise": True, "detectors": DETECTORS}
    first = planned(crystal, **settings)
    in_turn = [first.expose(i) for i in range(first.n_frames)][2]
    alone = planned(crystal, **settings).expose(2)
    assert first.patterns._kept
    resumed = pickle.loads(pickle.dumps(first))
    assert not resumed.patterns._kept
    for other in (alone, resumed.expose(2)):
        for name, signal in in_turn.signals.items():
            np.testing.assert_array_equal(signal, other.signals[name])
        for name, truth in in_turn.truth.items():
            np.testing.assert_array_equal(truth, other.truth[name])


DETECTORS = [
    {"name": "bf", "outer_mrad": 12.0},
    {"name": "adf", "inner_mrad": 24, "outer_mrad": 28},
]


def test_other_detectors_see_what_the_camera_sees(crystal: Specimen) -> None:
    """A disk and a ring, against pixels finer than the frequencies, each by its share inside."""
    camera = {"width_px": 120, "height_px": 120, "pixel_size_mrad": 0.5}
    acquisition = planned(crystal, **{**THERMAL, "camera": camera}, detectors=DETECTORS)
    frame = acquisition.expose(1)
    fine = (np.arange(120 * 4) + 0.5) / 8 - 30.0
    r = np.hypot(fine[:, None], fine[None, :])
    for name, (inner, outer) in {"bf": (0.0, 12.0), "adf": (24.0, 28.0)}.items():
        share = ((r >= inner) & (r < outer)).reshape(120, 4, 120, 4).mean(axis=(1, 3))
        seen = np.sum(frame.signals["patterns"] * share, axis=(1, 2))
        np.testing.assert_allclose(frame.signals[name], seen, rtol=1e-2)


def test_detectors_see_what_those_of_a_stem_see(crystal: Specimen) -> None:
    """The same thermal atoms in another cell; what differs is how finely angles are sampled."""
    settings = {**THERMAL, "detectors": DETECTORS, "shot_noise": False}
    settings["multislice"] = {
        **settings["multislice"],
        "band_limit_mrad": 51.0,
        "thermal_configurations": 1,
    }
    scan = {**settings.pop("scan"), "height_px": 1}
    acquisition = planned(crystal, **settings, scan=scan)
    del settings["camera"]
    stem = STEM.model_validate({**settings, "scan": scan}).plan(crystal, Run(1))
    frame, image = acquisition.expose(0), stem.expose(0)
    for name in ("bf", "adf"):
        mine = frame.signals[name] / acquisition.stem.electrons
        theirs = image.signals[name][0] / stem.stem.electrons
        np.testing.assert_allclose(mine, theirs, atol=1e-2 * theirs.max())


# --- datasets ----------------------------------------------------------------------------------


def recipe(**changed: Any) -> dict[str, Any]:
    instrument = microscope(**{**THERMAL, "shot_noise": True, "beam_current_pa": 8.0, **changed})
    return {
        "name": "cube",
        "seed": 5,
        "sample": {"kind": "crystal", "file": "srtio3.cif", "thickness_nm": 1.6},
        "instrument": instrument.model_dump(mode="json"),
    }


def test_the_centre_of_mass_of_a_dataset_is_the_true_one_within_noise(tmp_path: Path) -> None:
    """Read back blind: the deviations, over sqrt(variance of the angle / electrons), are normal."""
    driver.make(driver.plan(recipe(), out=tmp_path / "cube"), workers=1)
    dataset = Dataset(tmp_path / "cube")
    known = dataset.settings
    counts = dataset.signal("patterns")
    assert counts.shape == (3, 7, 30, 30)
    assert counts.dtype == np.uint16
    x, y = dpc.centre_of_mass(counts, known["mrad_per_px"], tuple(known["centre_px"]))
    ideal = np.stack([dataset.ideal("patterns", i) for i in range(3)])
    row, column = known["centre_px"]
    theta_y, theta_x = 2.0 * (np.arange(30) - row), 2.0 * (np.arange(30) - column)
    scores = []
    for found, angle, axis, name in (
        (x, theta_x, 2, "com_x_mrad"),
        (y, theta_y, 3, "com_y_mrad"),
    ):
        along = ideal.sum(axis=axis)
        n = along.sum(axis=-1)
        variance = along @ angle**2 / n - (along @ angle / n) ** 2
        scores.append((found - dataset.frame_truth(name)) / np.sqrt(variance / n))
    z = np.array(scores)
    assert np.mean(z**2) == pytest.approx(1.0, abs=4 * np.sqrt(2 / z.size))
    assert abs(np.mean(z)) < 4 / np.sqrt(z.size)
    positions = dataset.truth("probe_positions")
    assert positions["x_nm"].shape == (1, 3, 7)
    # the specimen drifts to the lower right, so the probe falls behind the raster
    raster = 0.1 * np.arange(7)
    assert np.all(np.diff(raster - positions["x_nm"][0, 0]) > 0)
    assert len(dataset.truth("columns")["x_nm"]) > 0


def test_patterns_that_were_not_stored_are_made_again_bit_by_bit(tmp_path: Path) -> None:
    data = recipe()
    acquisition = driver.plan(data, out=tmp_path / "unused").acquisition
    frames = [acquisition.expose(i) for i in range(acquisition.n_frames)]
    path = tmp_path / "cube"
    with DatasetWriter.create(path, acquisition, "name: cube", store_ideal=False) as writer:
        for k in writer.missing:
            writer.record(writer.shards.write(k, [frames[i] for i in writer.layout.frames(k)]))
    dataset = Dataset(path)
    again = driver.plan(data, out=tmp_path / "again").acquisition
    assert "ideal_patterns" not in dataset.frame_truth_names
    for i in (2, 0):
        np.testing.assert_array_equal(
            dataset.ideal("patterns", i, again), frames[i].truth["ideal_patterns"]
        )
    assert isinstance(again, FourDSTEMAcquisition)
    np.testing.assert_array_equal(again.ideal(1), frames[1].truth["ideal_patterns"])


# --- what is refused, and what is large --------------------------------------------------------


def test_a_band_limit_below_the_corners_of_the_camera_is_refused() -> None:
    with pytest.raises(ValidationError, match="aperture and detectors reach"):
        microscope(multislice={"band_limit_mrad": 40.0})
    with pytest.raises(ValidationError, match="two signals have the same name"):
        microscope(detectors=[{"name": "patterns", "outer_mrad": 5.0}])


def test_an_empty_view_and_a_tilted_sheet_are_refused() -> None:
    far = FiniteAtoms(Atoms.of([6], [[90.0, 0.0, 0.0]], 0.0))
    with pytest.raises(ValueError, match="nothing lies in view"):
        planned(far)
    with pytest.raises(ValueError, match="can't be tilted"):
        planned(sine(0.1), stage_tilt_mrad=(10.0, 0.0))


def test_a_turned_specimen_gives_all_atoms_of_any_window() -> None:
    """Against turning every atom there is, for windows far from the pivot too."""
    rng = np.random.default_rng(3)
    places = np.c_[rng.uniform(-60, 60, (40000, 2)), rng.uniform(0, 20, 40000)]
    specimen = FiniteAtoms(Atoms.of(np.full(40000, 6), places, 0.0))
    turned = Turned(specimen, (120.0, -70.0), 20.0)
    everything = specimen.atoms.rotated(turned.rotation, (0, 0, 10.0)).positions_nm
    for x, y in ((0.0, 0.0), (40.0, -35.0), (-20.0, 45.0)):
        window = Window(x, x + 6.0, y, y + 4.0)
        found = turned.atoms_within(window).positions_nm
        wanted = everything[window.holds(everything[:, 0], everything[:, 1])]
        assert len(wanted) > 10
        np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_a_wide_field_takes_memory_for_a_tile_only() -> None:
    """Two lines over 400 nm: the tiles of 4 nm steps are short, their memory within the budget."""
    wide = planned(
        Crystal(file="srtio3.cif", thickness_nm=4.0).make(Run(1)),
        scan={"width_px": 101, "height_px": 2, "pixel_size_nm": 4.0},
        multislice={"margin_nm": 1.0},
        calculation={"memory_gb": 0.05},
    )
    tiling = wide.patterns.tiling
    assert tiling.positions < 10
    assert wide.patterns.memory_bytes < 0.06e9


SCAN = """
import resource
from nanophantom.instruments.stem import STEM
from nanophantom.instruments.four_d_stem import FourDSTEM
from nanophantom.samples.crystal import Crystal
from nanophantom.simcore.runs import Run
stem = FourDSTEM(
    scan=dict(width_px=32, height_px=32, pixel_size_nm=0.02),
    multislice=dict(thermal_configurations=2),
)
specimen = Crystal(file="srtio3.cif", thickness_nm=2.0).make(Run(1))
acquisition = stem.plan(specimen, Run(1))
for i in range(acquisition.n_frames):
    acquisition.expose(i)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(peak, acquisition.cost().memory_bytes)
"""


@pytest.mark.slow
def test_a_scan_of_32_x_32_patterns_of_128_x_128_stays_below_two_gigabytes() -> None:
    """Peak resident memory of a process of its own, and the estimate of it, which is no less."""
    done = subprocess.run([sys.executable, "-c", SCAN], capture_output=True, text=True, check=True)
    peak, estimate = map(int, done.stdout.split())
    assert peak < 2e9
    assert peak < 1.2 * estimate
