"""Events in movies: false alarms, power against the ideal test, times, unlisted sites, hops."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from nanophantom.analysis.movie_events import (
    detect_events,
    events_in_traces,
    link_hops,
    penalty_for,
)
from nanophantom.analysis.site_traces import SiteTraces, site_traces
from nanophantom.analysis.transient_sites import find_transient_sites

FloatArray = npt.NDArray[np.float64]
SIGMA = 2.0


def spots(shape: tuple[int, int], at: FloatArray, height: FloatArray, ground: float) -> FloatArray:
    """Return Gaussian spots on a flat ground."""
    gy = np.exp(-0.5 * ((np.arange(shape[0])[:, None] - at[:, 0]) / SIGMA) ** 2)
    gx = np.exp(-0.5 * ((np.arange(shape[1])[:, None] - at[:, 1]) / SIGMA) ** 2)
    return np.asarray(ground + (gy * height) @ gx.T)


def square_lattice(side: int, spacing: float) -> FloatArray:
    axis = np.arange(12, side - 12, spacing)
    return np.array([(y + 0.37, x + 0.21) for y in axis for x in axis])


def random_traces(
    level: FloatArray, gain: float, ground: float, rng: np.random.Generator
) -> SiteTraces:
    """Return traces (sites, n) that are Poisson numbers of the given gain about these levels."""
    number = ground + level / gain
    signal = gain * (rng.poisson(number) - ground)
    error = np.full(level.shape, gain * np.sqrt(np.mean(number)))
    return SiteTraces(
        signal,
        error,
        np.full(len(level), gain),
        np.ones(level.shape, bool),
        np.ones(level.shape[1]),
    )


def test_the_penalty_gives_the_number_of_false_events_that_is_asked_for() -> None:
    """Sites * (2 exp(-h) + 2 n exp(-2 h)) with h put in."""
    for wanted, sites, n in ((0.1, 500, 100), (3.0, 40, 7), (1e-6, 10_000, 5000)):
        h = penalty_for(wanted, sites, n)
        assert sites * (2 * np.exp(-h) + 2 * n * np.exp(-2 * h)) == pytest.approx(wanted)
    assert penalty_for(1e9, 1, 2) == 0


@pytest.mark.parametrize("contrast_to_noise", [0.4, 1.0, 2.5])
def test_traces_without_events_give_no_more_false_events_than_stated(
    contrast_to_noise: float,
) -> None:
    """At 8 false events for 400 sites by 100 frames: 16 movies have fewer on average.

    Ville's bound holds at any contrast and is near where steps are small: at 0.4 standard
    deviations a frame more than an eighth of the stated number is found.
    """
    rng = np.random.default_rng(1)
    gain = 0.05
    ground = (1 / (contrast_to_noise * gain)) ** 2
    movies = [random_traces(np.ones((400, 100)), gain, ground, rng) for _ in range(16)]
    found = [len(events_in_traces(m, 1, 1, false_events=8)["site"]) for m in movies]
    assert np.mean(found) < 8
    if contrast_to_noise < 0.5:
        assert np.mean(found) > 1


@pytest.mark.parametrize("ground", [0.1, 1.0])
def test_movies_without_events_give_no_more_false_events_than_stated(ground: float) -> None:
    """196 sites by 40 drifting frames at 0.1 and 1 counts per pixel, 4 false events stated."""
    rng = np.random.default_rng(2)
    sites = square_lattice(164, 10)
    shifts = np.cumsum(rng.normal(0, 0.4, (40, 2)), axis=0)
    height = np.full(len(sites), ground)
    ideal = [spots((164, 164), sites + d, height, ground) for d in shifts]
    found = []
    for _ in range(6):
        movie = rng.poisson(ideal).astype(np.uint8)
        found.append(len(detect_events(movie, shifts, sites, 1, 1, SIGMA, "bright", 4)["site"]))
    assert len(sites) == 196
    assert np.mean(found) < 4


def ideal_detection(
    movie: npt.NDArray[np.uint8], full: FloatArray, void: FloatArray, sites: FloatArray, h: float
) -> npt.NDArray[np.bool_]:
    """Return where the likelihood ratio of the pixels says that a site is empty in the end.

    This knows levels, ground and spots, and that there is one change to look for.
    """
    ratio = np.log(void / full)
    found = []
    for y, x in np.rint(sites).astype(int):
        part = np.s_[y - 9 : y + 10, x - 9 : x + 10]
        of_frame = np.sum(movie[(slice(None), *part)] * ratio[part], axis=(1, 2))
        of_frame = of_frame - np.sum((void - full)[part])
        found.append(np.max(np.cumsum(of_frame[::-1])) > h)
    return np.array(found)


def detection(factor: float, rng: np.random.Generator) -> tuple[float, float]:
    """Return the shares of atoms gone for the last 5 of 30 frames that are found, and ideally.

    A spot's height is equal to the ground; `factor` is the ground in counts per pixel.
    """
    sites = square_lattice(164, 20)
    gone = np.arange(len(sites)) % 4 == 0
    height = np.full(len(sites), factor)
    full = spots((164, 164), sites, height, factor)
    after = spots((164, 164), sites, np.where(gone, 0, height), factor)
    void = np.full(full.shape, factor)
    ours, ideal = [], []
    h = penalty_for(0.1, len(sites), 30)
    for _ in range(8):
        movie = np.concatenate([rng.poisson([full] * 25), rng.poisson([after] * 5)])
        movie = movie.astype(np.uint8)
        events = detect_events(movie, np.zeros((30, 2)), sites, 1, 1, SIGMA)
        in_time = np.abs(events["time_s"] - 25) < 4
        ours.append(np.isin(np.flatnonzero(gone), events["site"][in_time]))
        ideal.append(ideal_detection(movie, full, void, sites[gone], h))
    return float(np.mean(ours)), float(np.mean(ideal))


def test_power_is_near_that_of_the_ideal_test() -> None:
    """Levels, ground and times unknown cost less than 30 % of the dose.

    At any dose the ideal test finds no fewer, and this one at 1.3 times the dose no fewer than it.
    """
    rng = np.random.default_rng(3)
    doses = 0.2 * 1.3 ** np.arange(7)
    ours, ideal = np.array([detection(dose, rng) for dose in doses]).T
    noise = 2 * np.sqrt(2 * 0.25 / 104)  # of the difference of two shares of 104 atoms
    assert ideal[0] < 0.5
    assert ours[-1] > 0.93
    assert np.all(ours <= ideal + noise)
    assert np.all(ours[1:] >= ideal[:-1] - noise)


@pytest.mark.parametrize("contrast", ["bright", "dark"])
def test_an_atom_that_leaves_and_comes_back_gives_both_events_in_time(contrast: str) -> None:
    """Times within a frame's exposure are told by the frame's own level, errors as stated.

    The exposures last 0.8 of the period; a site's atom goes and returns at random times.
    """
    rng = np.random.default_rng(4)
    sites = square_lattice(164, 14)
    n, exposure, period = 40, 0.4, 0.5
    sign = 1 if contrast == "bright" else -1
    goes = rng.uniform(4, 8, len(sites))
    comes = goes + rng.uniform(3, 6, len(sites))
    start = np.arange(n)[:, None] * period
    gone = np.clip((start + exposure - goes) / exposure, 0, 1)
    gone -= np.clip((start + exposure - comes) / exposure, 0, 1)
    shifts = np.cumsum(rng.normal(0, 0.4, (n, 2)), axis=0)
    ideal = [
        spots((164, 164), sites + d, sign * 2.7 * (1 - g), 3.0)
        for d, g in zip(shifts, gone, strict=True)
    ]
    events = detect_events(
        rng.poisson(ideal),
        shifts,
        sites,
        exposure,
        period,
        SIGMA,
        contrast,  # type: ignore[arg-type]
    )
    seen = site_traces(rng.poisson(ideal), shifts, sites, SIGMA).seen.all(axis=1)
    z, found = [], 0
    for site in np.flatnonzero(seen):
        mine = events["site"] == site
        assert events["kind"][mine].tolist() == ["vanishes", "appears"]
        error = events["time_s"][mine] - (goes[site], comes[site])
        z.extend(error / events["sigma_time_s"][mine])
        found += 1
    assert found > 80
    assert np.sqrt(np.mean(np.square(z))) == pytest.approx(1, abs=0.15)
    assert np.median(events["sigma_time_s"]) < 0.3 * period
    assert np.all(events["frame"] == np.floor(events["time_s"] / period))
    assert np.all(np.diff(events["time_s"]) >= 0)


def test_a_neighbour_that_vanishes_gives_no_event_of_its_own() -> None:
    """On a lattice of 4 widths only the site that empties is named, at 20 counts per pixel."""
    rng = np.random.default_rng(5)
    sites = square_lattice(100, 4 * SIGMA)
    height = np.full((12, len(sites)), 20.0)
    height[6:, 40] = 0
    movie = rng.poisson([spots((100, 100), sites, h, 20.0) for h in height])
    events = detect_events(movie, np.zeros((12, 2)), sites, 1, 1, SIGMA)
    assert events["site"].tolist() == [40]
    assert events["frame"].tolist() in ([5], [6])
    assert events["time_s"][0] == pytest.approx(6, abs=0.1)


def test_a_blanked_frame_and_a_flickering_beam_are_no_events() -> None:
    """Frames of 0, 0.5 and 1.5 times the dose, and one site that does empty, at 5 counts."""
    rng = np.random.default_rng(8)
    sites = square_lattice(100, 10)
    height = np.full((16, len(sites)), 5.0)
    height[9:, 12] = 0
    beam = np.array([1, 1, 0.5, 1, 1.5, 1, 0, 1, 1, 1, 0.5, 1, 1, 1.5, 1, 1])
    ideal = [b * spots((100, 100), sites, h, 5.0) for b, h in zip(beam, height, strict=True)]
    events = detect_events(rng.poisson(ideal), np.zeros((16, 2)), sites, 1, 1, SIGMA)
    assert events["site"].tolist() == [12]
    assert events["time_s"][0] == pytest.approx(9, abs=0.3)


def test_places_of_passing_atoms_are_found_on_a_drifting_lattice() -> None:
    """Three adatoms on hollow sites, each there for a part of the movie, and nothing else."""
    rng = np.random.default_rng(6)
    n, dose = 48, 0.8
    sites = square_lattice(200, 12)
    extra = sites[[40, 80, 130]] + 6.0
    there = np.zeros((n, 3))
    spans = ((0, 12), (18, 33), (30, 48))
    for k, (first, stop) in enumerate(spans):
        there[first:stop, k] = 1
    shifts = np.cumsum(rng.normal(0, 0.5, (n, 2)), axis=0)
    at = np.concatenate([sites, extra])
    movie = rng.poisson(
        [
            spots((200, 200), at + d, dose * np.r_[np.ones(len(sites)), 1.2 * t], dose)
            for d, t in zip(shifts, there, strict=True)
        ]
    )
    found = find_transient_sites(movie, shifts, SIGMA, known_sites_px=sites)
    assert len(found["y_px"]) == 3
    for (first, stop), (y, x) in zip(spans, extra, strict=True):
        near = np.hypot(found["y_px"] - y, found["x_px"] - x)
        k = int(np.argmin(near))
        assert near[k] < 1.0
        # The run of blocks, three frames each, lies in the atom's time and fills half of it.
        first_found, last_found = found["first_frame"][k], found["last_frame"][k]
        assert first - 3 <= first_found
        assert last_found <= stop + 2
        assert 2 * (last_found + 1 - first_found) >= stop - first


def test_a_movie_of_still_atoms_has_no_more_false_places_than_stated() -> None:
    """Four false places stated at 0.1 and at 3 counts per pixel: 6 movies have fewer, not none."""
    rng = np.random.default_rng(7)
    sites = square_lattice(128, 10)
    shifts = np.cumsum(rng.normal(0, 0.3, (16, 2)), axis=0)
    for dose in (0.1, 3.0):
        ideal = [spots((128, 128), sites + d, np.full(len(sites), dose), dose) for d in shifts]
        found = [
            len(find_transient_sites(rng.poisson(ideal), shifts, SIGMA, false_sites=4)["y_px"])
            for _ in range(6)
        ]
        assert 0.3 < np.mean(found) < 4


def test_hops_join_one_disappearance_with_one_appearance_near_by() -> None:
    """The nearest in place and time are joined; what is too far, too late or used up stays."""
    sites = np.array([[0.0, 0.0], [0.0, 5.0], [0.0, 9.0], [40.0, 0.0], [41.0, 0.0]])
    events = {
        "site": np.array([0, 1, 2, 3, 4]),
        "kind": np.array(["vanishes", "appears", "appears", "vanishes", "appears"]),
        "time_s": np.array([1.0, 1.1, 1.1, 5.0, 9.0]),
    }
    hops = link_hops(events, sites, 10, 0.5)
    assert hops["vanishes"].tolist() == [0]
    assert hops["appears"].tolist() == [1]
    assert hops["distance_px"].tolist() == [5.0]
    assert hops["dt_s"][0] == pytest.approx(0.1)
    assert 0 < hops["chance"][0] < 1
    none = {key: value[:0] for key, value in events.items()}
    assert len(link_hops(none, sites, 10, 0.5)["vanishes"]) == 0


def test_refusals() -> None:
    """One line says what is wrong."""
    movie, shifts, sites = np.ones((3, 32, 32)), np.zeros((3, 2)), np.array([[16.0, 16.0]])
    with pytest.raises(ValueError, match="contrast"):
        detect_events(movie, shifts, sites, 1, 1, SIGMA, "grey")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="exposure_s"):
        detect_events(movie, shifts, sites, 2, 1, SIGMA)
    with pytest.raises(ValueError, match="false_events"):
        detect_events(movie, shifts, sites, 1, 1, SIGMA, false_events=0)
    with pytest.raises(ValueError, match="no frame shows"):
        detect_events(movie, shifts, np.array([[160.0, 16.0]]), 1, 1, SIGMA)
    with pytest.raises(ValueError, match="2 frames"):
        find_transient_sites(movie[:1], shifts[:1], SIGMA)
    with pytest.raises(ValueError, match="false_sites"):
        find_transient_sites(movie, shifts, SIGMA, false_sites=-1)
    with pytest.raises(ValueError, match="positive"):
        link_hops({"site": sites, "kind": sites, "time_s": sites}, sites, 0, 1)
