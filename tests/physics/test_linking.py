"""Linking blinks: counts against the truth, precision of merged localizations, the longest gap."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from nanophantom.analysis.linking import choose_max_gap, dark_times, link, merge
from nanophantom.analysis.nearest_neighbour_precision import nearest_neighbour_precision

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
SIGMA_NM = 10.0


class Blinks(NamedTuple):
    """Localizations of blinking molecules, sorted by frame."""

    frame: Ints
    x_nm: Floats
    y_nm: Floats
    molecule: Ints
    longest_gap: int


def blinking(
    molecules: int,
    frames: int,
    seed: int,
    *,
    on_frames: float = 4.0,
    dark_frames: float = 5.0,
    blinks: float = 3.0,
    field_nm: float = 20_000.0,
    sites: int = 0,
) -> Blinks:
    """Let each molecule light up once, with geometric numbers of blinks, frames on and off.

    With `sites` the molecules lie on so many places, instead of anywhere.
    """
    rng = np.random.default_rng(seed)
    place = rng.uniform(0, field_nm, (sites or molecules, 2))
    at = rng.integers(0, sites, molecules) if sites else np.arange(molecules)
    bursts = rng.geometric(1 / blinks, molecules)
    molecule = np.repeat(np.arange(molecules), bursts)
    first_burst = np.diff(molecule, prepend=-1) > 0
    on = rng.geometric(1 / on_frames, len(molecule))
    dark = np.where(first_burst, 0, rng.geometric(1 / dark_frames, len(molecule)))
    elapsed = np.cumsum(on + dark) - on
    offset = np.maximum.accumulate(np.where(first_burst, elapsed, 0))
    start = rng.integers(0, frames, molecules)[molecule] + elapsed - offset
    burst = np.repeat(np.arange(len(on)), on)
    within = np.arange(len(burst)) - np.repeat(np.cumsum(on) - on, on)
    frame, m = start[burst] + within, molecule[burst]
    order = np.argsort(frame, kind="stable")
    frame, m = frame[order], m[order]
    xy = place[at[m]] + SIGMA_NM * rng.standard_normal((len(m), 2))
    return Blinks(frame, xy[:, 0].copy(), xy[:, 1].copy(), m, int(dark.max()))


def uncertainty(b: Blinks) -> Floats:
    return np.full(len(b.frame), SIGMA_NM)


@pytest.mark.parametrize("fixed_radius", [False, True])
def test_with_the_gap_from_the_truth_molecules_are_counted_within_3_percent(
    fixed_radius: bool,
) -> None:
    """3000 molecules of 3 blinks each; the groups also hold the right localizations."""
    b = blinking(3000, 20_000, 1)
    group = link(
        b.frame,
        b.x_nm,
        b.y_nm,
        uncertainty(b),
        max_gap=b.longest_gap,
        radius_nm=60.0 if fixed_radius else None,
    )
    assert group.max() + 1 == pytest.approx(3000, rel=0.03)
    shuffled = np.random.default_rng(0).permutation(len(group))
    pairs = (group[shuffled] == group) == (b.molecule[shuffled] == b.molecule)
    together = b.molecule[1:] == b.molecule[:-1]
    assert pairs.mean() > 0.999
    assert np.mean((group[1:] == group[:-1])[together]) > 0.98


def test_without_a_gap_bursts_are_counted() -> None:
    """The gap 0 links successive frames only: as many groups as ON bursts, within 3 %."""
    b = blinking(2000, 20_000, 2)
    order = np.lexsort((b.frame, b.molecule))
    breaks = (np.diff(b.frame[order]) > 1) | (np.diff(b.molecule[order]) > 0)
    group = link(b.frame, b.x_nm, b.y_nm, uncertainty(b), max_gap=0)
    assert group.max() + 1 == pytest.approx(1 + breaks.sum(), rel=0.03)


def test_the_share_of_partners_lost_is_that_of_the_radius() -> None:
    """At k sigmas exp(-k^2 / 2) of pairs are left apart: 13.5 % at 2, 1.1 % at 3."""
    rng = np.random.default_rng(3)
    n = 40_000
    frame = np.tile([0, 1], n)
    x = np.repeat(1000.0 * (np.arange(n) % 200), 2) + 10 * rng.standard_normal(2 * n)
    y = np.repeat(1000.0 * (np.arange(n) // 200), 2) + 10 * rng.standard_normal(2 * n)
    for k in (2.0, 3.0):
        lost = link(frame, x, y, np.full(2 * n, 10.0), radius_sigmas=k).max() + 1 - n
        expected = n * np.exp(-(k**2) / 2)
        assert abs(lost - expected) < 4 * np.sqrt(expected)


def test_one_frame_never_shares_a_blink_and_the_nearest_pair_is_joined() -> None:
    group = link([0, 0, 1, 1], [0.0, 8.0, 7.0, 1.0], [0.0] * 4, radius_nm=20.0)
    assert group.tolist() == [0, 1, 1, 0]
    driven_out = link([0, 0, 1, 1], [0.0, 8.0, 5.0, 7.0], [0.0] * 4, radius_nm=20.0)
    assert driven_out.tolist() == [0, 1, 0, 1]  # 5 is nearer to 8, but 7 is the nearest
    later = link([0, 3], [0.0, 0.0], [0.0, 0.0], radius_nm=5.0, max_gap=1)
    assert later.tolist() == [0, 1]
    assert link([0, 3], [0.0, 0.0], [0.0, 0.0], radius_nm=5.0, max_gap=2).tolist() == [0, 0]


def test_order_of_the_table_does_not_matter() -> None:
    b = blinking(500, 2000, 4)
    group = link(b.frame, b.x_nm, b.y_nm, uncertainty(b), max_gap=9)
    mixed = np.random.default_rng(1).permutation(len(group))
    again = link(b.frame[mixed], b.x_nm[mixed], b.y_nm[mixed], uncertainty(b), max_gap=9)
    assert np.array_equal(again, group[mixed])


@pytest.mark.parametrize("k", [4, 25, 100])
def test_merged_localizations_scatter_by_sigma_over_root_k(k: int) -> None:
    """RESI (Reinhardt et al., Nature 617 (2023) 711): K localizations of a site, merged."""
    rng = np.random.default_rng(k)
    sites = 4000
    group = np.repeat(np.arange(sites), k)
    sigma = rng.uniform(5, 20, len(group))
    xy = sigma * rng.standard_normal((2, len(group)))
    table = {
        "frame": np.arange(len(group)),
        "x_nm": xy[0],
        "y_nm": xy[1],
        "photons": np.full(len(group), 100.0),
        "uncertainty_nm": sigma,
    }
    for weight, variance in (
        ("uncertainty", 1 / (k * np.mean(1 / sigma**2))),
        ("equal", np.mean(sigma**2) / k),
        ("photons", np.mean(sigma**2) / k),
    ):
        merged = merge(group, table, weight)
        tolerance = 4 / np.sqrt(4 * sites) + 0.5 / k  # of an s.d. from 2 x sites values
        scatter = np.sqrt(np.mean(merged["x_nm"] ** 2 + merged["y_nm"] ** 2) / 2)
        stated = np.sqrt(np.mean(merged["uncertainty_nm"] ** 2))
        assert scatter == pytest.approx(stated, rel=4 / np.sqrt(4 * sites))
        assert scatter == pytest.approx(np.sqrt(variance), rel=tolerance)
    assert np.all(merged["photons"] == 100 * k)
    assert np.array_equal(merged["frame"], k * np.arange(sites))
    assert np.all(merged["length"] == k)


def test_the_gap_comes_from_the_dark_times() -> None:
    """600 places, each with 8 molecules one after the other, of 3 blinks each.

    The mean dark times are found within 10 %, and linking with the gap chosen counts the
    molecules within 3 %.
    """
    b = blinking(4800, 100_000, 5, sites=600)
    place = link(b.frame, b.x_nm, b.y_nm, uncertainty(b), max_gap=200_000)
    choice = choose_max_gap(dark_times(b.frame, place))
    assert choice.blink_frames == pytest.approx(5, rel=0.1)
    assert choice.blink_share == pytest.approx(2 * 8 / (2 * 8 + 7), rel=0.05)
    group = link(b.frame, b.x_nm, b.y_nm, uncertainty(b), max_gap=choice.max_gap)
    assert group.max() + 1 == pytest.approx(4800, rel=0.03)


@pytest.mark.parametrize("sites", [0, 100])
def test_nearest_neighbours_tell_the_precision_within_3_percent(sites: int) -> None:
    """Anywhere in the field, and in clusters of which others shine at the same time."""
    b = blinking(30_000, 3000, 6, on_frames=2.5, blinks=1.0, field_nm=12_800.0, sites=sites)
    within = 25.0 * np.random.default_rng(7).standard_normal((2, 30_000)) * (sites > 0)
    x, y = b.x_nm + within[0, b.molecule], b.y_nm + within[1, b.molecule]
    found = nearest_neighbour_precision(b.frame, x, y)
    assert found.precision_nm == pytest.approx(SIGMA_NM, rel=0.03)
    assert found.shining_on == pytest.approx(1 - 1 / 2.5, rel=0.03)


def test_an_empty_table_stays_empty() -> None:
    nothing: list[float] = []
    group = link(nothing, nothing, nothing, radius_nm=1.0)
    merged = merge(group, {"frame": nothing, "x_nm": nothing, "y_nm": nothing}, "equal")
    assert all(len(column) == 0 for column in (group, *merged.values()))


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="uncertainty_nm, or a fixed radius_nm"):
        link([0], [0.0], [0.0])
    with pytest.raises(ValueError, match="x_nm must have 2 entries"):
        link([0, 1], [0.0], [0.0, 1.0], radius_nm=1.0)
    with pytest.raises(ValueError, match="has no localization"):
        merge([0, 2], {"frame": [0, 1], "x_nm": [0, 0], "y_nm": [0, 0]}, "equal")
    with pytest.raises(ValueError, match='want the column "photons"'):
        merge([0, 0], {"frame": [0, 1], "x_nm": [0, 0], "y_nm": [0, 0]}, "photons")
    with pytest.raises(ValueError, match="one population only"):
        choose_max_gap(np.random.default_rng(0).geometric(0.1, 5000))
    b = np.random.default_rng(1).uniform(0, 20_000, (2, 8000))
    with pytest.raises(ValueError, match="no molecule seems to shine on"):
        nearest_neighbour_precision(np.arange(8000) % 50, *b)
