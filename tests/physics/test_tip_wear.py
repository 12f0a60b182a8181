"""Wear, particles and fractures: Archard's volumes, and a tip that is a function of the line."""

import math
import pickle

import numpy as np
import pytest

from nanophantom.simcore.probes.array_tip import ArrayTip
from nanophantom.simcore.probes.sphere_cone import cone_section, cone_volume
from nanophantom.simcore.probes.tip_body import Body, Particle, Plane, Point, Sections
from nanophantom.simcore.probes.tip_changes import TipHistory, TipLife
from nanophantom.simcore.probes.tips import DoubleTip, Paraboloid, Pyramid, SphereCone
from nanophantom.simcore.streams import stream

APEX = Point(0.0, 0.0, 0.0)


def played(tip, life, lines=256, seed=1, **settings):
    """Return a history of lines of 1 s and 2 um each under 5 nN."""
    given = {
        "distance_nm_per_line": 2000.0,
        "force_nn": 5.0,
        "line_times_s": np.arange(float(lines)),
        "step_nm": (1.0, 1.0),
        "depth_nm": 15.0,
        "rng": lambda cause: stream(seed, (cause,)),
    }
    return TipHistory.of(tip, life, lines=lines, **(given | settings))


def surface_of(history, line):
    """Return the tip's surface in the fresh tip's frame: x, y and height of every sample."""
    state = history.state_at(line)
    y, x = state.tip.offsets_nm
    return x + state.apex_nm[0], y + state.apex_nm[1], state.shortened_nm - state.tip.heights_nm


def test_archard_wears_a_paraboloid_to_the_published_flat():
    """k_w = 1e-4, 10 nN, 1 m, 10 GPa: 1e5 nm^3; pi R h^2 = V gives h, the flat sqrt(2 R h)."""
    life = TipLife(wear_coefficient=1e-4, hardness_gpa=10.0)
    history = played(Paraboloid(), life, 1, distance_nm_per_line=1e9, force_nn=10.0)
    end = history.state_at(1)
    assert history.worn_volume_nm3(0) == 0.0
    assert history.worn_volume_nm3(1) == pytest.approx(1e5, rel=1e-12)
    assert end.shortened_nm == pytest.approx(56.4, rel=1e-3)
    assert end.flat_radius_nm == pytest.approx(33.6, rel=1e-3)
    assert end.shortened_nm == pytest.approx(math.sqrt(1e5 / (math.pi * 10.0)), rel=1e-7)
    assert end.flat_radius_nm == pytest.approx(math.sqrt(20.0 * end.shortened_nm), rel=1e-4)
    # the volume within 1 nm of the flat over that of the fresh one: (h + 1)^2 - h^2
    assert end.radius_nm == pytest.approx(10.0 * (2 * end.shortened_nm + 1), rel=1e-4)


def test_every_line_of_a_worn_sphere_cone_has_lost_archards_volume():
    """The height of the plane answers the closed form of the volume, from the first line on."""
    tip = SphereCone()
    history = played(tip, TipLife(wear_coefficient=2e-3), 1024)
    worn = 2e-3 * 5.0 * 2000.0 * np.arange(1025) / 10.0
    np.testing.assert_allclose(history.worn_nm3, worn, rtol=1e-12)
    lost = [cone_volume(h, 10.0, 20.0) for h in history.shortened_nm]
    np.testing.assert_allclose(lost, worn, rtol=1e-6)
    flats = [cone_section(h, 10.0, 20.0) for h in history.shortened_nm]
    np.testing.assert_allclose(history.flat_radius_nm, flats, rtol=1e-4)
    assert history.shortened_nm[-1] > 10.0 * (1 - math.sin(math.radians(20.0)))  # into the cone


@pytest.mark.parametrize(
    "tip",
    [
        Pyramid(n_sides=3, rotation_deg=20.0),
        Pyramid(n_sides=4),
        DoubleTip(separation_nm=25.0, height_difference_nm=1.0),
    ],
)
def test_wear_takes_archards_volume_off_any_shape(tip):
    """The volume below the plane, by fine samples of the fresh tip, is the volume of the law."""
    history = played(tip, TipLife(wear_coefficient=2e-2), 64)
    fine = tip.sampled((0.1, 0.1), 12.0)
    for line in (4, 30, 64):
        height = float(history.shortened_nm[line])
        assert fine.volume_nm3(height) == pytest.approx(history.worn_nm3[line], rel=1e-3)
        flat = math.pi * history.flat_radius_nm[line] ** 2
        assert fine.area_nm2(height) == pytest.approx(flat, rel=5e-3)


def test_the_map_of_a_worn_tip_is_the_fresh_one_cut_at_the_plane():
    """Same flanks, flat up to the truth's radius, to the 1e-3 nm that maps may differ."""
    history = played(SphereCone(), TipLife(wear_coefficient=1e-3), 512)
    x, y, height = surface_of(history, 400)
    fresh = -SphereCone().profile_nm(x, y)
    np.testing.assert_allclose(height, np.maximum(fresh, history.shortened_nm[400]), atol=1e-3)
    flat = history.tip_at(400).heights_nm == 0.0
    assert flat.sum() == pytest.approx(math.pi * history.flat_radius_nm[400] ** 2, rel=0.1)


def test_load_and_distance_of_each_line_count():
    """Lines without load or without sliding wear nothing; the rest as F s."""
    life, lines = TipLife(wear_coefficient=1e-2, hardness_gpa=5.0), 4
    history = played(
        SphereCone(), life, lines, force_nn=[0, 3, 3, 1], distance_nm_per_line=[1e3, 1e3, 0, 2e3]
    )
    np.testing.assert_allclose(history.worn_nm3, [0, 0, 6, 6, 10], rtol=1e-12)
    table = history.tables()["tip"]
    np.testing.assert_array_equal(table["line"], np.arange(lines))
    np.testing.assert_allclose(table["worn_volume_nm3"], [0, 0, 6, 6])


def test_nothing_happens_by_default():
    """One and the same map for all lines, the shape's own samples and radius, and no events."""
    tip = Pyramid()
    history = played(tip, TipLife())
    assert all(history.tip_at(line) is history.tip_at(0) for line in (0, 100, 256))
    fresh = tip.sampled((1.0, 1.0), 15.0)
    np.testing.assert_array_equal(history.tip_at(256).heights_nm, fresh.heights_nm)
    assert history.state_at(256).radius_nm == pytest.approx(tip.radius_nm, rel=1e-12)
    assert history.state_at(256).shortened_nm == 0.0
    events = history.tables()["tip_events"]
    assert all(column.size == 0 for column in events.values())
    assert (events["line"].dtype.kind, events["kind"].dtype.kind) == ("i", "U")


def test_the_tip_is_a_function_of_the_line():
    """Any order, any copy, however often: the same maps; equal states share one."""
    life = TipLife(wear_coefficient=1e-3, pick_up_rate_per_s=0.02, break_rate_per_s=0.02)
    history, again = (played(SphereCone(), life) for _ in range(2))
    copy = pickle.loads(pickle.dumps(history))
    order = np.random.default_rng(0).permutation(257)
    forth = {line: history.tip_at(line).heights_nm for line in range(257)}
    for line in order:
        np.testing.assert_array_equal(again.tip_at(line).heights_nm, forth[line])
        np.testing.assert_array_equal(copy.tip_at(line).heights_nm, forth[line])
    slow = played(SphereCone(), TipLife(wear_coefficient=1e-11))
    assert slow.tip_at(0) is slow.tip_at(256)


def test_each_cause_has_a_stream_of_its_own():
    """Neither the other cause, nor wear, nor a longer acquisition changes what is drawn."""

    def drawn(life, end_s=255.0, seed=1):
        return life.events(np.array([0.0, end_s]), lambda cause: stream(seed, (cause,)))

    both = TipLife(pick_up_rate_per_s=0.03, break_rate_per_s=0.05)
    mixed = drawn(both)
    assert mixed == drawn(both)
    assert mixed == sorted(mixed)
    assert mixed != drawn(both, seed=2)
    for kind, life in (
        ("pick-up", TipLife(pick_up_rate_per_s=0.03, wear_coefficient=1e-3)),
        ("break", TipLife(break_rate_per_s=0.05, particle_radius_nm=9.0)),
    ):
        chosen = [event for event in mixed if event.kind == kind]
        longer = drawn(life, 600.0)
        assert len(longer) > len(chosen) > 0
        assert [event for event in longer if event.t_s <= 255.0] == chosen


def test_events_come_at_their_rate():
    """Counts of a Poisson process over 400 seeds: rate times time, sizes log-normal."""
    life = TipLife(pick_up_rate_per_s=0.1)
    times, seeds = np.array([7.0, 107.0]), range(400)
    drawn = [life.events(times, lambda cause, s=s: stream(s, (cause,))) for s in seeds]
    counts = [len(events) for events in drawn]
    assert np.mean(counts) == pytest.approx(10.0, abs=4 * math.sqrt(10 / 400))
    assert np.var(counts, ddof=1) == pytest.approx(10.0, rel=4 * math.sqrt(2 / 399))
    sizes = np.log([event.size_nm / 3.0 for events in drawn for event in events])
    assert sizes.mean() == pytest.approx(0.0, abs=4 * 0.3 / math.sqrt(sizes.size))
    assert sizes.std() == pytest.approx(0.3, rel=4 / math.sqrt(2 * sizes.size))


def test_an_event_takes_effect_at_the_first_line_after_it():
    """The line before has the tip as it was, up to wear."""
    history = played(SphereCone(), TipLife(break_rate_per_s=0.02))
    events = history.events
    assert events["line"].size >= 2
    np.testing.assert_array_equal(events["line"], np.ceil(events["t_s"]))
    line = int(events["line"][0])
    assert history.tip_at(line - 1) is history.tip_at(0)
    assert not np.array_equal(history.tip_at(line).heights_nm, history.tip_at(0).heights_nm)


def test_a_particle_becomes_the_apex_where_it_hangs_lowest():
    """Half a sphere on the tip's surface: its bottom is the apex, its radius the effective one."""
    life = TipLife(pick_up_rate_per_s=0.01, particle_radius_nm=4.0, particle_offset_nm=3.0)
    history = played(SphereCone(), life)
    events = {name: column[0] for name, column in history.events.items()}
    line, radius = int(events["line"]), events["size_nm"]
    turn = math.radians(events["direction_deg"])
    place = events["offset_nm"] * np.array([math.cos(turn), math.sin(turn)])
    state = history.state_at(line)
    np.testing.assert_allclose(state.apex_nm, place, atol=1e-6)
    surface = -float(SphereCone().profile_nm(*place))
    assert state.shortened_nm == pytest.approx(surface - radius, abs=1e-9)
    assert events["shortened_nm"] == pytest.approx(surface - radius, abs=1e-9)
    assert events["radius_before_nm"] == pytest.approx(10.0, rel=1e-7)
    # cap volumes of 1 nm: (r - 1/3) / (R - 1/3) of the fresh effective radius
    expected = 10.0 * (radius - 1 / 3) / (10.0 - 1 / 3)
    assert state.radius_nm == pytest.approx(expected, rel=1e-3)
    x, y, height = surface_of(history, line)
    r2 = radius**2 - (x - place[0]) ** 2 - (y - place[1]) ** 2
    particle = np.where(r2 >= 0, surface - np.sqrt(np.maximum(r2, 0)), np.inf)
    np.testing.assert_allclose(
        height, np.minimum(-SphereCone().profile_nm(x, y), particle), atol=1e-6
    )


def test_a_level_fracture_is_a_truncation():
    """Without tilt a fragment leaves the flat of its height, under the old apex."""
    life = TipLife(break_rate_per_s=0.01, fracture_tilt=0.0)
    history = played(SphereCone(), life)
    line, size = int(history.events["line"][0]), float(history.events["size_nm"][0])
    state = history.state_at(line)
    assert state.apex_nm == (0.0, 0.0)
    assert state.shortened_nm == pytest.approx(size, rel=1e-12)
    assert state.flat_radius_nm == pytest.approx(cone_section(size, 10.0, 20.0), rel=1e-3)


def test_a_tilted_fracture_moves_the_apex_downhill():
    """The new apex is where the plane leaves the sphere on its low side, by hand in its plane."""
    history = played(SphereCone(), TipLife(break_rate_per_s=0.01, fracture_tilt=1.0))
    events = {name: column[0] for name, column in history.events.items()}
    size, turn = events["size_nm"], math.radians(events["direction_deg"])
    slope = math.tan(math.radians(events["tilt_deg"]))
    assert slope > 0.02
    # R - sqrt(R^2 - q^2) = size - slope q, on the low side at the distance q
    R = 10.0
    b, c = slope * (R - size), size * (2 * R - size)
    q = (-b + math.sqrt(b * b + (1 + slope**2) * c)) / (1 + slope**2)
    apex = history.state_at(int(events["line"])).apex_nm
    np.testing.assert_allclose(apex, (-q * math.cos(turn), -q * math.sin(turn)), atol=1e-5)
    assert events["shortened_nm"] == pytest.approx(size - slope * q, abs=1e-6)
    assert 0 < events["shortened_nm"] < size
    x, y, height = surface_of(history, int(events["line"]))
    plane = size + slope * (x * math.cos(turn) + y * math.sin(turn))
    expected = np.maximum(-SphereCone().profile_nm(x, y), plane)
    np.testing.assert_allclose(height, expected, atol=1e-6)


def test_wear_goes_on_with_what_events_have_left():
    """Between two events the volume between the planes is Archard's, whatever the shape is."""
    life = TipLife(wear_coefficient=5e-3, pick_up_rate_per_s=0.01, break_rate_per_s=0.01)
    history = played(SphereCone(), life)
    assert len(history.bodies) >= 4
    y, x = np.mgrid[-25:25:0.05, -25:25:0.05]
    for k, body in enumerate(history.bodies):
        lines = np.flatnonzero(history.body == k)
        if lines.size < 3:
            continue
        height = body.heights_nm(x, y)
        assert height.min() >= history.shortened_nm[lines[0]] - 1e-6  # nothing lower than the apex
        gone = np.maximum(history.shortened_nm[lines[-1]] - height, 0.0).sum() * 0.05**2
        lost = history.worn_nm3[lines[-1]] - history.worn_nm3[lines[0]]
        assert gone == pytest.approx(lost, rel=5e-3)


def test_what_cannot_be_is_refused(tmp_path):
    """Falling times, negative loads, too many events and a tip that is worn away get one line."""
    with pytest.raises(ValueError, match="256 times that don't decrease"):
        played(SphereCone(), TipLife(), line_times_s=np.arange(256.0)[::-1])
    with pytest.raises(ValueError, match="must not be negative"):
        played(SphereCone(), TipLife(), force_nn=-1.0)
    with pytest.raises(ValueError, match="a break rate of 100 per s makes 25500 events"):
        played(SphereCone(), TipLife(break_rate_per_s=100.0))
    with pytest.raises(ValueError, match="at most 2049"):
        played(SphereCone(), TipLife(wear_coefficient=1.0), step_nm=(0.02, 0.02))
    np.save(tmp_path / "tip.npy", SphereCone().sampled((1.0, 1.0), 5.0).heights_nm)
    short = ArrayTip(file=str(tmp_path / "tip.npy"), pixel_size_nm=1.0)
    with pytest.raises(ValueError, match=r"all of its map and more; lower wear_coefficient"):
        played(short, TipLife(wear_coefficient=0.1))


def test_sections_are_those_of_the_shape():
    """Quadrature along the spiral against the closed forms of a cut sphere with a particle."""
    body = Body(SphereCone()).with_change(Particle(0.0, 0.0, 0.0, 3.0))
    apex = body.lowest(APEX, 1.0)
    assert apex == (0.0, 0.0, -3.0)
    sections = Sections.of(body, apex, 8.0)
    half_ball = 2 / 3 * math.pi * 27  # below the fresh apex there is only half of the particle
    assert sections.volume(3.0) == pytest.approx(half_ball, rel=1e-4)
    assert sections.rise(half_ball) == pytest.approx(3.0, rel=1e-4)
    assert sections.area(6.0) == pytest.approx(math.pi * 51.0, rel=1e-3)  # 10^2 - 7^2
    cut = body.with_change(Plane(-1.0))
    assert cut.lowest(apex, 0.0) == (0.0, 0.0, -1.0)
