"""Spectrum imaging as an instrument: counts, truth, backgrounds, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from nanophantom.instruments._edges import LossBackground, LossEdge, XRayEdge
from nanophantom.instruments._scanning import Scan
from nanophantom.instruments.spectrum_imaging import SpectrumImaging
from nanophantom.simcore.atoms import Atoms
from nanophantom.simcore.electrons.inelastic.x_rays import line_cross_section
from nanophantom.simcore.electrons.settings import Multislice
from nanophantom.simcore.electrons.stem.detectors import AnnularDetector, MomentDetector
from nanophantom.simcore.environment import Drift
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import FiniteAtoms

BARN_A2 = 1e-8


def titanium_and_oxygen(planes: int = 1) -> FiniteAtoms:
    """Two Ti columns and one O column, 0.4 nm apart."""
    sites = [(22, -0.2, 0.0), (22, 0.2, 0.0), (8, 0.0, 0.2)]
    numbers = [z for z, _, _ in sites] * planes
    xyz = [(x, y, 0.2 * plane) for plane in range(planes) for _, x, y in sites]
    return FiniteAtoms(Atoms.of(numbers, xyz, np.zeros(len(numbers)), "cluster"))


def instrument(**changes: Any) -> SpectrumImaging:
    settings: dict[str, Any] = {
        "edges": (XRayEdge(name="ti", element="Ti"), XRayEdge(name="o", element="O")),
        "detectors": (AnnularDetector(name="adf", inner_mrad=25, outer_mrad=40),),
        "scan": Scan(width_px=32, height_px=28, pixel_size_nm=0.05, dwell_us=1000),
        "multislice": Multislice(thermal_motion=False, margin_nm=0.1),
    }
    return SpectrumImaging(**(settings | changes))


@pytest.fixture(scope="module")
def thin() -> tuple[Any, Any]:
    """A thin cluster under the probe: the plan and its parts."""
    acquisition = instrument().plan(titanium_and_oxygen(), Run(1))
    return acquisition, acquisition.make_parts()


def test_a_recipe_names_edges_of_both_kinds_in_plain_words() -> None:
    """What stands in a YAML file is what is mapped; defaults fill the rest."""
    recipe = yaml.safe_load(
        """
        edges:
          - {name: ti, element: Ti, mode: eds, takeoff_deg: 25}
          - {name: sr, element: Sr, shell: L, mode: eds, solid_angle_sr: 0.7}
          - {name: o, element: O, mode: eels, collection_mrad: 60, window_ev: 40,
             background: {ratio: 3}}
        """
    )
    read = SpectrumImaging.model_validate(recipe)
    assert read.signal_names == ("adf", "ti", "sr", "o", "o-far", "o-near")
    assert isinstance(read.edges[1], XRayEdge)
    assert read.edges[1].x_ray.energy_ev == pytest.approx(1806, abs=3)  # Sr La
    text = yaml.safe_dump(read.model_dump(mode="json"))
    again = SpectrumImaging.model_validate(yaml.safe_load(text))
    assert again == read


def test_a_scan_counts_electrons_times_cross_section_times_atoms(thin) -> None:
    """Thin cluster: photons of a scan that holds its tails, sigma omega a Omega / 4 pi: 3 %."""
    acquisition, parts = thin
    frame, table = acquisition.expose(0, parts), acquisition.truth(parts)["edges"]
    pixel_A2 = 0.25
    for i, (name, z, atoms) in enumerate((("ti", 22, 2), ("o", 8, 1))):
        photons = frame.truth[f"ideal_{name}"].sum(dtype=float)
        electrons_per_A2 = acquisition.instrument.electrons / pixel_A2
        sigma = line_cross_section(z, "K", "Ka", 200.0) * 0.9 / (4 * np.pi)
        assert photons == pytest.approx(electrons_per_A2 * sigma * atoms, rel=3e-2)
        stated = table["sigma_barn"][i] * BARN_A2 * table["counts_per_ionization"][i]
        assert stated == pytest.approx(sigma, rel=1e-3)
        assert table["atoms"][i] == atoms


def test_every_map_shows_its_element_where_its_atoms_are(thin) -> None:
    """Brightest pixels of the two maps: on the atoms of the truth, within a pixel."""
    acquisition, parts = thin
    frame, atoms = acquisition.expose(0, parts), acquisition.truth(parts)["atoms"]
    for name, z in (("ti", 22), ("o", 8)):
        image = frame.truth[f"ideal_{name}"]
        y, x = np.unravel_index(image.argmax(), image.shape)
        own = atoms["number"] == z
        distance = np.hypot(atoms["x_nm"][own] - 0.05 * x, atoms["y_nm"][own] - 0.05 * y)
        assert distance.min() < 0.05


def test_the_series_over_the_cell_gives_what_probes_at_every_position_give() -> None:
    """The same drifting scan by both ways: equal to 1e-5 of the largest value."""
    few = instrument(
        scan=Scan(width_px=7, height_px=5, pixel_size_nm=0.06), drift=Drift(speed_nm_per_s=5.0)
    )
    acquisition = few.plan(titanium_and_oxygen(2), Run(1))
    maps = acquisition.maps
    assert not maps.is_series
    direct = maps.frame(0, acquisition.make_parts())
    maps.__dict__.update(is_series=True)
    maps.__dict__.pop("views", None)
    series = maps.frame(0, acquisition.make_parts())
    for name in direct:
        assert np.abs(series[name] - direct[name]).max() < 1e-5 * direct[name].max()


def test_frames_of_a_specimen_at_rest_share_their_probes() -> None:
    """Three scans without drift cost one; each is counted anew."""
    still = instrument(scan=Scan(width_px=6, height_px=5, pixel_size_nm=0.06, n_frames=3))
    acquisition = still.plan(titanium_and_oxygen(), Run(1))
    parts = acquisition.make_parts()
    assert len(parts) == 1
    one, two = (acquisition.expose(i, parts) for i in (0, 1))
    assert np.array_equal(one.truth["ideal_ti"], two.truth["ideal_ti"])
    assert not np.array_equal(one.signals["adf"], two.signals["adf"])


def test_counts_are_poisson_distributed_around_the_ideal(thin) -> None:
    """Chi squared of 896 pixels with expectations around 1e3: 1 within 4 standard errors."""
    bright = instrument(beam_current_pa=1000.0)
    frame = bright.plan(titanium_and_oxygen(), Run(5)).expose(0, thin[1])
    ideal = frame.truth["ideal_adf"].astype(float)
    chi2 = np.mean((frame.signals["adf"] - ideal) ** 2 / ideal)
    assert frame.signals["adf"].dtype == np.uint32
    assert abs(chi2 - 1) < 4 * np.sqrt(2 / ideal.size)


def test_other_detectors_are_read_as_in_a_stem() -> None:
    """Electrons for disks, sums of angles for first moments; counts don't change the edges'."""
    scan = Scan(width_px=4, height_px=3, pixel_size_nm=0.1)
    bf = AnnularDetector(name="bf", outer_mrad=10)
    frames = [
        instrument(scan=scan, detectors=detectors).plan(titanium_and_oxygen(), Run(1))
        for detectors in ((bf, MomentDetector(name="com", outer_mrad=45)), (bf,))
    ]
    units = {name: spec.unit for name, spec in frames[0].signals().items()}
    assert units == {
        "bf": "electrons",
        "com-sum": "electrons",
        "com-x": "electrons mrad",
        "com-y": "electrons mrad",
        "ti": "photons",
        "o": "photons",
    }
    many, few = (acquisition.expose(0) for acquisition in frames)
    assert many.signals["com-x"].dtype == np.float32
    assert np.array_equal(many.signals["ti"], few.signals["ti"])
    electrons = frames[0].instrument.electrons
    assert many.truth["ideal_com-sum"] == pytest.approx(electrons, rel=2e-2)


def test_an_element_that_is_not_there_gives_no_counts() -> None:
    """A map of zeros, and zero atoms in the truth."""
    both = (XRayEdge(name="ti", element="Ti"), XRayEdge(name="c", element="C"))
    small = Scan(width_px=4, height_px=4, pixel_size_nm=0.1)
    acquisition = instrument(edges=both, scan=small).plan(titanium_and_oxygen(), Run(1))
    parts = acquisition.make_parts()
    assert acquisition.expose(0, parts).signals["c"].sum() == 0
    assert acquisition.truth(parts)["edges"]["atoms"].tolist() == [2, 0]


def test_truth_counts_every_atom_once() -> None:
    """Areal densities times pixel areas, and compositions of columns, are the atoms in view."""
    coarse = instrument(scan=Scan(width_px=8, height_px=8, pixel_size_nm=0.1))
    acquisition = coarse.plan(titanium_and_oxygen(3), Run(1))
    truth = acquisition.truth(acquisition.make_parts())
    density = truth["areal_density"]
    assert density["Ti_per_nm2"].sum() * 0.1**2 == pytest.approx(6)
    assert density["O_per_nm2"].max() * 0.1**2 == pytest.approx(3)
    columns = truth["columns"]
    assert columns["n_Ti"].tolist() == [3, 3, 0]
    assert columns["n_O"].tolist() == [0, 0, 3]


def test_absorption_dims_soft_lines_of_thick_specimens_only() -> None:
    """40 planes of the cluster under 5 degrees: O K loses some per cent, Ti K almost nothing."""
    small = Scan(width_px=3, height_px=3, pixel_size_nm=0.1)
    signals = {}
    for absorption in (True, False):
        edges = tuple(
            XRayEdge(name=e.lower(), element=e, takeoff_deg=5.0, absorption=absorption)
            for e in ("Ti", "O")
        )
        acquisition = instrument(edges=edges, scan=small).plan(titanium_and_oxygen(40), Run(1))
        truth = acquisition.expose(0).truth
        signals[absorption] = [truth[f"ideal_{name}"].sum(dtype=float) for name in ("ti", "o")]
    titanium, oxygen = np.array(signals[True]) / np.array(signals[False])
    assert 0.99 < titanium < 1
    assert oxygen < titanium - 0.01


def test_two_windows_before_the_edge_tell_the_background_under_it() -> None:
    """A E^-r through the expectations of both windows, integrated under the edge: exact to 1e-5."""
    background = LossBackground(ratio=4.0, exponent=3.2, window_ev=25.0)
    edge = LossEdge(name="o", element="O", window_ev=40.0, background=background)
    scan = Scan(width_px=5, height_px=5, pixel_size_nm=0.1)
    acquisition = instrument(edges=(edge,), scan=scan).plan(titanium_and_oxygen(), Run(1))
    parts = acquisition.make_parts()
    frame, truth = acquisition.expose(0, parts).truth, acquisition.truth(parts)
    onset = acquisition.settings()["edges"]["o"]["onset_ev"]
    far, near = (float(frame[f"ideal_o-{w}"][0, 0]) for w in ("far", "near"))
    e = [np.linspace(a, b, 20001) for a, b in ((-50, -25), (-25, 0), (0, 40))]
    r = np.linspace(2, 5, 3001)
    shares = [[np.trapezoid((onset + x) ** -k, x) for x in e] for k in r[::300]]
    found = np.interp(far / near, [s[0] / s[1] for s in shares], r[::300])
    assert found == pytest.approx(3.2, abs=1e-3)
    under = near * np.trapezoid((onset + e[2]) ** -3.2, e[2])
    under /= np.trapezoid((onset + e[1]) ** -3.2, e[1])
    core = truth["core_signal"]["o"]
    assert frame["ideal_o"] == pytest.approx(core + under, rel=1e-5)
    assert under == pytest.approx(4.0 * core.mean(), rel=1e-5)


def test_plural_scattering_leaves_only_core_losses_in_their_window() -> None:
    """t / lambda = 0.5 and a window narrower than one loss: exp(-0.5); X-rays don't care."""
    edges = (
        LossEdge(name="o", element="O", window_ev=18.0),
        XRayEdge(name="ti", element="Ti"),
    )
    scan = Scan(width_px=3, height_px=3, pixel_size_nm=0.1)
    specimen = titanium_and_oxygen(6)
    plural = {"mean_free_path_nm": 2 * specimen.exit_nm}
    with_and_without = [
        instrument(edges=edges, scan=scan, plural_scattering=p).plan(specimen, Run(1)).expose(0)
        for p in (plural, None)
    ]
    some, all_of_it = (frame.truth for frame in with_and_without)
    assert some["ideal_o"] == pytest.approx(np.exp(-0.5) * all_of_it["ideal_o"], rel=1e-5)
    assert np.array_equal(some["ideal_ti"], all_of_it["ideal_ti"])
    assert np.array_equal(some["ideal_adf"], all_of_it["ideal_adf"])


@pytest.mark.parametrize("way", ["channelled", "double-channelled"])
def test_exact_inelastic_waves_are_on_offer_and_agree_with_the_local_potential(way) -> None:
    """Two planes of Ti and O, K edge of O, 40 mrad: on the O column within 12 %."""
    edges = (LossEdge(name="o", element="O", collection_mrad=40.0),)
    scan = Scan(width_px=1, height_px=1, pixel_size_nm=0.1)
    specimen = FiniteAtoms(Atoms.of([8, 8], [(0, 0, 0), (0, 0, 0.2)], [0, 0], "column"))
    margin = Multislice(thermal_motion=False, margin_nm=0.6, band_limit_mrad=60.0)
    signals = [
        instrument(edges=edges, scan=scan, multislice=margin, core_loss=how)
        .plan(specimen, Run(1))
        .expose(0)
        .truth["ideal_o"]
        for how in ("local", way)
    ]
    assert signals[0] == pytest.approx(signals[1], rel=0.12)
    assert signals[0] != pytest.approx(signals[1], rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edges": ()}, "edges: there is none"),
        ({"detectors": ()}, "detectors: there is none"),
        ({"edges": [{"name": "a", "element": "Xx"}]}, "no chemical symbol"),
        ({"edges": [{"name": "a", "element": "O", "mode": "eels", "shell": "L"}]}, "not filled"),
        ({"edges": [{"name": "a", "element": "Au"}], "energy_kev": 60.0}, "below the edge"),
        ({"edges": [{"name": "adf", "element": "O"}]}, "two signals have the same name"),
        ({"edges": [{"name": "a", "element": "O", "line": "La"}]}, "no K line that starts"),
        (
            {"edges": [LossEdge(name="a", element="B", background=LossBackground(window_ev=99))]},
            "don't fit",
        ),
        ({"multislice": Multislice(band_limit_mrad=30.0)}, "band_limit_mrad"),
    ],
)
def test_what_is_impossible_is_refused_in_one_line(changes, message) -> None:
    """Each refusal names what is wrong."""
    with pytest.raises(ValidationError, match=message):
        instrument(**changes)


def test_a_specimen_without_atoms_is_refused() -> None:
    """An empty view says so."""
    nothing = FiniteAtoms(Atoms.of([], [], [], "nothing"))
    with pytest.raises(ValueError, match="sample"):
        instrument().plan(nothing, Run(1))
