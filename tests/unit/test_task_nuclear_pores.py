"""The tasks nuclear-pores and labelling: errors of known size, limits, and their algorithms."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nanophantom.analysis import pore_map, tube_map
from nanophantom.simcore.fields import Axis, Field, Measured
from nanophantom.validation.pore_truth import TruePores
from nanophantom.validation.tasks import find_task

PORES, TUBES = find_task("nuclear-pores"), find_task("labelling")
PIXEL_NM, SIDE = 100.0, 24
CORNER_NM = -1200.0
"""Where pixel (0, 0) lies on the specimen."""
SHIFT_NM = np.array([4.0, -6.0])
"""Mean drift."""
PERIOD_S, FRAMES = 0.02, 1000
KINETICS = {
    "on_time_s": 0.02,
    "off_time_s": 4.98,
    "photons_per_burst": 4000.0,
    "bursts_per_dye": 10.0,
}


def settings():
    camera = {"offset_adu": 100.0, "adu_per_electron": 2.0, "quantum_efficiency": 0.9}
    return {
        "pixel_size_nm": PIXEL_NM,
        "psf_sigma_nm": 100.0,
        "exposure_s": PERIOD_S,
        "frame_period_s": PERIOD_S,
        "dye_kinetics": KINETICS,
        "camera": camera,
    }


def dataset(tables, dye_xyz, site, shone):
    """Return what a grader may ask of a movie whose dyes shone once, or never."""
    n = len(site)
    x, y, z = dye_xyz.T
    tables = dict(tables)
    tables["view"] = {
        "x0_nm": np.array([CORNER_NM]),
        "y0_nm": np.array([CORNER_NM]),
        "pixel_size_nm": np.array([PIXEL_NM]),
    }
    tables["drift"] = {
        "dx_nm": SHIFT_NM[0] + np.linspace(-3, 3, FRAMES),
        "dy_nm": SHIFT_NM[1] + np.linspace(2, -2, FRAMES),
    }
    tables["dyes"] = {
        "dye": np.arange(n),
        "label": np.arange(n),
        "site": site,
        "x_nm": x - CORNER_NM,
        "y_nm": y - CORNER_NM,
        "z_nm": z,
    }
    # those that never shine in the movie burst before it
    tables["blinks"] = {
        "dye": np.arange(n),
        "blink": np.zeros(n, int),
        "start_s": np.where(shone, 1.0 + 0.01 * np.arange(n), -3.0),
        "duration_s": np.full(n, 0.03),
        "photons_per_s": np.full(n, 1e5),
    }
    movie = np.random.default_rng(1).poisson(120.0, (FRAMES, SIDE, SIDE)).astype(np.uint16)
    axes = (Axis("frame", 1.0, ""), Axis("y", PIXEL_NM, "nm"), Axis("x", PIXEL_NM, "nm"))
    field = Field(movie, axes, "ADU")
    return SimpleNamespace(
        truth_tables=tuple(tables),
        truth=lambda name: tables[name],
        settings=settings(),
        signals=("movie",),
        n_frames=FRAMES,
        signal=lambda name, a=0, b=None: movie[a:b],
        measured=lambda: Measured({"movie": field}, settings()),
    )


def pores(rng, efficiency=0.6, linker_nm=2.0, dark=0.1, tilt=0.0):
    """Return nine pores on a grid 500 nm apart, the last of them across the view's edge."""
    grid = 500.0 * np.indices((3, 3)).reshape(2, 9).T - 500.0
    grid[8] = [1150.0, 1150.0]
    owner, part = np.repeat(np.arange(9), 32), np.tile(np.repeat(np.arange(8), 4), 9)
    turn = 0.3 * np.arange(9)
    at = 2 * np.pi / 8 * part + turn[owner] + np.tile([-0.112, 0.112], 144)
    sites = np.stack(
        [
            grid[owner, 0] + 53.5 * np.cos(at),
            grid[owner, 1] + 53.5 * np.sin(at),
            np.tile([75.0, 75.0, 125.0, 125.0], 72),
        ],
        axis=1,
    )
    site = np.flatnonzero(rng.random(len(sites)) < efficiency)
    dyes = sites[site] + linker_nm * rng.standard_normal((len(site), 3))
    tables = {
        "specimen_pores": {"diameter_nm": np.array([107.0])},
        "specimen_structures": {
            "x_nm": grid[:, 0],
            "y_nm": grid[:, 1],
            "size_nm": np.full(9, 107.0),
            "angle_deg": np.rad2deg(turn),
            "tilt_deg": np.full(9, tilt),
            "ring_distance_nm": np.full(9, 50.0),
        },
        "specimen_sites": {
            "structure": owner,
            "part": part,
            "x_nm": sites[:, 0],
            "y_nm": sites[:, 1],
            "z_nm": sites[:, 2],
        },
    }
    return dataset(tables, dyes, site, rng.random(len(site)) >= dark)


def perfect(observed):
    true = TruePores.of(observed)
    n = len(true.x_nm)
    return {
        "x_nm": true.x_nm,
        "y_nm": true.y_nm,
        "diameter_nm": true.diameter_nm,
        "corners": true.corners_seen,
        "diameter_error_nm": np.full(n, 1.0),
        "labels": true.labels,
        "efficiency": np.full(n, true.efficiency),
        "efficiency_low": np.full(n, true.efficiency - 0.03),
        "efficiency_high": np.full(n, true.efficiency + 0.03),
    }


def test_perfect_answers_score_perfectly() -> None:
    """Nothing is left of any error, and the pore at the edge counts neither way."""
    observed = pores(np.random.default_rng(2))
    scores = PORES.grade(perfect(observed), observed)
    assert scores["f1"].value == scores["recall"].value == scores["precision"].value == 1
    assert scores["recall"].n == 8
    for name in ("diameter_rmse", "centre_rmse", "diameter_mean", "corners_rmse", "labels_rmse"):
        assert scores[name].value == pytest.approx(0, abs=1e-9)
    assert scores["efficiency_error"].value == 0
    assert scores["efficiency_error"].coverage == scores["corners_exact"].value == 1


def test_errors_of_known_size_are_found() -> None:
    """Wide by 2 nm, off by 5 nm, a corner too few, a false pore, an efficiency wrong by 0.1."""
    observed = pores(np.random.default_rng(3))
    answer = perfect(observed)
    answer["diameter_nm"] = answer["diameter_nm"] + 2.0
    answer["x_nm"] = answer["x_nm"] + 5.0
    answer["corners"] = answer["corners"] - 1
    for name in ("efficiency", "efficiency_low", "efficiency_high"):
        answer[name] = answer[name] - 0.1
    answer = {k: np.append(v, v[0]) for k, v in answer.items()}
    answer["x_nm"][-1] += 250.0
    scores = PORES.grade(answer, observed)
    assert scores["precision"].value == pytest.approx(8 / 9)
    assert scores["diameter_rmse"].bias == pytest.approx(2.0)
    assert scores["diameter_rmse"].coverage == 0
    assert scores["centre_rmse"].value == pytest.approx(5.0)
    assert scores["corners_rmse"].bias == pytest.approx(-1.0)
    assert scores["corners_exact"].value == 0
    assert scores["efficiency_error"].bias == pytest.approx(-0.1)
    assert scores["efficiency_error"].coverage == 0


def test_truth_tells_corners_and_dyes_that_never_shone() -> None:
    """Bursts before the movie light no corner; a dark label is a label all the same."""
    rng = np.random.default_rng(4)
    none, all_ = TruePores.of(pores(rng, dark=1.0)), TruePores.of(pores(rng, dark=0.0))
    assert none.corners_seen.sum() == none.labels_seen.sum() == 0
    assert none.corners_labelled.sum() > 60
    assert np.array_equal(all_.corners_seen, all_.corners_labelled)
    assert all_.linker_nm == pytest.approx(2.0, rel=0.15)
    # p = 0.6 shows a corner with 1 - 0.4^4
    assert TruePores.of(pores(rng, efficiency=1.0)).corners_labelled.min() == 8


def test_limit_of_a_diameter_is_what_a_fit_of_known_sites_scatters() -> None:
    """2 / sqrt(sum 1 / variance), against 400 least-squares fits with the sites known."""
    rng = np.random.default_rng(5)
    true = TruePores.of(pores(rng, efficiency=1.0, dark=0.0))
    at = 2 * np.pi / 8 * np.repeat(np.arange(8), 4)
    unit = np.exp(1j * at)
    # a spot 100 nm wide of 3000 * 0.9 electrons on pixels of 100 nm, and the linker
    s = math.sqrt(true.linker_nm**2 + (100.0**2 + 100.0**2 / 12) / (3000 * 0.9))
    noise = s * (rng.standard_normal((400, 32)) + 1j * rng.standard_normal((400, 32)))
    fitted = 2 * np.abs(((53.5 * unit + noise) * unit.conj()).mean(axis=1))
    assert true.diameter_limit_nm[0] == pytest.approx(fitted.std(), rel=0.12)


def test_limit_of_the_efficiency_is_the_scatter_of_corner_counts() -> None:
    """The standard error of p from corners that are counted without error, by 4000 draws."""
    true = TruePores.of(pores(np.random.default_rng(6)))
    p, n = true.efficiency, int(true.in_view.sum())
    q = 1 - (1 - p) ** 4
    # of many pores, where the law is normal, and back to this number of them
    counted = np.random.default_rng(7).binomial(8 * n * 100, q, 4000) / (8 * n * 100)
    scatter = (1 - (1 - counted) ** 0.25).std() * 10
    assert true.efficiency_limit == pytest.approx(scatter, rel=0.05)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"corners": np.full(9, 8.5)}, "whole numbers"),
        ({"corners": np.full(9, 9)}, "whole numbers"),
        ({"diameter_nm": np.zeros(9)}, "above zero"),
        ({"x_nm": np.full(9, np.nan)}, "finite"),
        ({"efficiency": np.linspace(0, 1, 9)}, "one number"),
        ({"efficiency": np.full(9, 60.0)}, "from 0 to 1"),
    ],
)
def test_answers_against_the_contract_are_refused(wrong, says) -> None:
    """Each with one line that says what is wrong."""
    observed = pores(np.random.default_rng(2))
    with pytest.raises(ValueError, match=says):
        PORES.grade(perfect(observed) | wrong, observed)


def test_nothing_found_and_wrong_units_are_graded() -> None:
    """No finds: recall 0; micrometres for nanometres: nothing matches."""
    observed = pores(np.random.default_rng(2))
    nothing = {name: np.zeros(0) for name in PORES.columns}
    assert PORES.grade(nothing, observed)["recall"].value == 0
    answer = perfect(observed)
    answer["x_nm"], answer["y_nm"] = answer["x_nm"] / 1000, answer["y_nm"] / 1000
    assert PORES.grade(answer, observed)["recall"].value == 0


def test_bursts_of_synthetic_pores_are_mapped() -> None:
    """Nine pores with bursts of 3 nm: all found, diameters and corners right, p in its interval."""
    rng = np.random.default_rng(8)
    observed = pores(rng, dark=0.0)
    true = TruePores.of(observed)
    each = rng.poisson(4.0, len(true.dyes_x_nm)) + 1
    x, y = (np.repeat(v, each) + rng.normal(0, 3.0, each.sum()) for v in
            (true.dyes_x_nm, true.dyes_y_nm))  # fmt: skip
    seen = {"x_nm": x, "y_nm": y, "uncertainty_nm": np.full(len(x), 3.0)}
    found = pore_map.mapped(seen)
    scores = PORES.grade({k: found[k] for k in (*PORES.columns, "efficiency")}, observed)
    assert scores["f1"].value == 1
    assert scores["diameter_rmse"].value < 4 * scores["diameter_rmse"].limit
    assert scores["corners_exact"].value >= 0.75
    assert found["efficiency_low"][0] < true.efficiency < found["efficiency_high"][0]


def test_visibility_is_what_blinking_dyes_show() -> None:
    """Chance to be seen and number of bursts, against 20 000 dyes played burst by burst."""
    rng = np.random.default_rng(9)
    dim = 400.0
    photons = dim + rng.exponential(4000.0, 20_000)
    told = pore_map.visibility(photons, FRAMES, settings())
    enough = math.exp(-np.quantile(photons, pore_map.DIMMEST) / 4000.0)
    seen = np.zeros(20_000, int)
    alive, t = rng.random(20_000) > 0.1, np.zeros(20_000)
    while alive.any():
        t[alive] += rng.exponential(5.0, alive.sum())
        alive &= t < FRAMES * PERIOD_S
        seen += alive & (rng.random(20_000) < enough)
        alive &= rng.random(20_000) > 0.1
    assert told.seen == pytest.approx((seen > 0).mean(), abs=0.01)
    assert told.bursts == pytest.approx(seen.mean(), rel=0.02)
    assert pore_map.visibility(photons, FRAMES, {}) is None


def tubes(rng, efficiency=0.2):
    """Return two crossing straight tubes of 25 nm, dyes 10 nm outside, and a third out of view."""
    angles, middles = np.deg2rad([20.0, 110.0, 0.0]), [(0.0, 100.0), (50.0, 0.0), (0.0, 5000.0)]
    s = np.arange(-2500, 2500, 2.0)
    sites, dyes, owner = [], [], []
    for k, (a, m) in enumerate(zip(angles, middles, strict=True)):
        phi = 2 * np.pi * rng.random(len(s))
        for r, into in ((12.5, sites), (22.5, dyes)):
            u, z = r * np.cos(phi), r * np.sin(phi)
            x = m[0] + s * np.cos(a) - u * np.sin(a)
            y = m[1] + s * np.sin(a) + u * np.cos(a)
            into.append(np.stack([x, y, 50 + z], axis=1))
        owner.append(np.full(len(s), k))
    sites, dyes, owner = (np.concatenate(v) for v in (sites, dyes, owner))
    site = np.flatnonzero(rng.random(len(sites)) < efficiency)
    tables = {
        "specimen_tubes": {"diameter_nm": np.array([25.0])},
        "specimen_structures": {
            "x_nm": np.array([m[0] for m in middles]),
            "y_nm": np.array([m[1] for m in middles]),
            "z_nm": np.full(3, 50.0),
            "angle_deg": np.rad2deg(angles),
            "size_nm": np.full(3, 5000.0),
            "end_to_end_nm": np.full(3, 5000.0),
            "diameter_nm": np.full(3, 25.0),
            "first_protofilament_deg": np.zeros(3),
        },
        "specimen_sites": {
            "structure": owner,
            "x_nm": sites[:, 0],
            "y_nm": sites[:, 1],
            "z_nm": sites[:, 2],
        },
        "specimen_labels": {"site": site},
    }
    return dataset(tables, dyes[site], site, np.ones(len(site), bool))


def test_tubes_of_dyes_are_measured_and_the_linkage_told() -> None:
    """Two crossing tubes whose dyes lie on 45 nm: found, 45 nm within 3, linkage 20 nm."""
    rng = np.random.default_rng(10)
    observed = tubes(rng)
    compared = TUBES.compare({name: np.zeros(0) for name in TUBES.columns}, observed)
    true = compared.true
    assert true.dyes_diameter_nm[:2] == pytest.approx(45.0, abs=1e-6)
    assert true.widest_nm == pytest.approx(45.0, abs=1e-6)
    assert true.offset_nm == pytest.approx(10.0)
    assert true.dyes_per_um[:2] == pytest.approx(100.0, rel=0.15)
    assert true.dark_share == pytest.approx(0.8, abs=0.02)
    x, y = (v + rng.normal(0, 4.0, len(v)) for v in (true.dye_x_nm, true.dye_y_nm))
    size = ((SIDE - 1) * PIXEL_NM,) * 2
    inside = (x > 0) & (x < size[0]) & (y > 0) & (y < size[1])
    found = tube_map.measured(x[inside], y[inside], np.full(inside.sum(), 4.0), size, 1.0)
    scores = TUBES.grade(found, observed)
    assert scores["f1"].value == 1
    assert scores["recall"].n == 2
    assert scores["diameter_rmse"].value < 3
    assert scores["linkage"].limit == pytest.approx(20.0)
    assert scores["linkage"].value == pytest.approx(20.0, abs=3)
    assert scores["dyes_error"].value < 10


def test_axes_off_the_tubes_are_false_and_structures_that_are_no_tubes_refused() -> None:
    """An axis 60 nm off matches nothing; pores are no tubes, and tubes no pores."""
    observed = tubes(np.random.default_rng(11))
    true = TUBES.compare({name: np.zeros(0) for name in TUBES.columns}, observed).true
    at = {"x_nm": true.ends_x_nm[:2].mean(axis=1), "y_nm": true.ends_y_nm[:2].mean(axis=1),
          "angle_deg": np.array([20.0, 110.0]), "diameter_nm": np.full(2, 45.0)}  # fmt: skip
    assert TUBES.grade(at, observed)["axis_rmse"].value == pytest.approx(0, abs=1e-6)
    assert TUBES.grade(at | {"angle_deg": np.array([200.0, 290.0])}, observed)["f1"].value == 1
    off = at | {"y_nm": at["y_nm"] + np.array([70.0, 0.0])}
    assert TUBES.grade(off, observed)["precision"].value == 0.5
    with pytest.raises(ValueError, match="no truth specimen_tubes"):
        TUBES.grade(at, pores(np.random.default_rng(1)))
    with pytest.raises(ValueError, match="no truth specimen_pores"):
        PORES.grade({name: np.zeros(0) for name in PORES.columns}, observed)


def test_figures_are_drawn() -> None:
    """Whatever was found, also nothing."""
    observed = pores(np.random.default_rng(2))
    for answer in (perfect(observed), {name: np.zeros(0) for name in PORES.columns}):
        plates = PORES.figures(observed, answer, PORES.grade(answer, observed))
        assert len(plates) == (8 if len(answer["x_nm"]) else 1)
        for plate in plates:
            FigureCanvasAgg(plate.figure).draw()
