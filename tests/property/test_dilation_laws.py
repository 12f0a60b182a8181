"""Laws of dilation, erosion and certainty, for any surface and any tip."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nanophantom.simcore.probes.certainty import certainty_map
from nanophantom.simcore.probes.dilation import dilate, dilate_rows, dilate_tracked, erode
from nanophantom.simcore.probes.paraboloid import dilate_paraboloid, erode_paraboloid

BOUND = 1e-12
side = st.integers(1, 12)
quick = settings(max_examples=120, deadline=None)


@st.composite
def surfaces(draw):
    """Rough maps; half of them of whole heights, which touch at several points at once."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    heights = rng.normal(0, draw(st.sampled_from([0.0, 0.5, 5.0])), (draw(side), draw(side)))
    return np.round(heights) if draw(st.booleans()) else heights


@st.composite
def tips(draw):
    """Any tips: odd, even, with gaps, wider than the map, the apex anywhere in them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    tip = -rng.exponential(3.0, (draw(side), draw(side)))
    tip = np.round(tip) if draw(st.booleans()) else tip
    tip[rng.random(tip.shape) < draw(st.sampled_from([0.0, 0.3]))] = -np.inf
    apex = (draw(st.integers(0, len(tip) - 1)), draw(st.integers(0, tip.shape[1] - 1)))
    tip[apex] = 0.0
    return tip, apex


@st.composite
def falling_tips(draw):
    """Tips that fall along rows and columns from the apex outwards, as most do."""
    tip, apex = draw(tips())
    falls_y, falls_x = (np.random.default_rng(n).exponential(2.0, n) for n in tip.shape)
    y = np.abs(np.arange(len(tip)) - apex[0])
    x = np.abs(np.arange(tip.shape[1]) - apex[1])
    falls_y, falls_x = np.cumsum(falls_y) - falls_y[0], np.cumsum(falls_x) - falls_x[0]
    return -(falls_y[y][:, None] + falls_x[x]), apex


def by_force(surface, tip, apex):
    """The definition, one offset after the other, on a surface continued at its edges."""
    image = np.full(surface.shape, -np.inf)
    y, x = np.indices(surface.shape)
    ny, nx = surface.shape
    for (i, j), t in np.ndenumerate(tip):
        row = np.clip(y + i - apex[0], 0, ny - 1)
        column = np.clip(x + j - apex[1], 0, nx - 1)
        image = np.maximum(image, surface[row, column] + t)
    return image


@quick
@given(surfaces(), tips())
def test_dilation_is_its_definition(surface, tip):
    image, row, column = dilate_tracked(surface, *tip)
    expected = by_force(surface, *tip)
    assert np.array_equal(dilate(surface, *tip), expected)
    assert np.array_equal(image, expected)
    assert np.all(surface[row, column] >= image)
    last = len(surface) - 1
    assert np.array_equal(dilate_rows(surface, *tip, last, last + 1)[0], expected[last])


@quick
@given(surfaces(), tips())
def test_the_image_lies_above_the_surface_and_its_erosion_between_them(surface, tip):
    image = dilate(surface, *tip)
    back = erode(image, *tip)
    assert np.all(image >= surface)
    assert np.all(back >= surface - BOUND)
    assert np.all(back <= image)


@quick
@given(surfaces(), falling_tips())
def test_the_erosion_makes_the_same_image_again(surface, tip):
    image = dilate(surface, *tip)
    assert np.abs(dilate(erode(image, *tip), *tip) - image).max() <= BOUND


@quick
@given(surfaces(), falling_tips())
def test_erosion_is_dilation_upside_down_with_the_tip_reflected(image, tip):
    t, (row, column) = tip
    reflected = (t[::-1, ::-1], (len(t) - 1 - row, t.shape[1] - 1 - column))
    assert np.abs(erode(image, *tip) + dilate(-image, *reflected)).max() <= BOUND


@quick
@given(surfaces(), surfaces(), tips(), st.floats(-50, 50))
def test_dilation_keeps_order_and_levels(one, other, tip, level):
    ny, nx = np.minimum(one.shape, other.shape)
    low = np.minimum(one[:ny, :nx], other[:ny, :nx])
    assert np.all(dilate(low, *tip) <= dilate(one[:ny, :nx], *tip))
    assert np.abs(dilate(low + level, *tip) - dilate(low, *tip) - level).max() <= BOUND


@quick
@given(surfaces(), tips(), st.integers(0, 2**32))
def test_what_is_certain_is_the_surface_whatever_lies_beyond(surface, tip, seed):
    """Beyond the image the surface goes its own way, no higher than within."""
    beyond = np.random.default_rng(seed).normal(0, 5.0, np.add(surface.shape, 24))
    beyond = np.minimum(beyond, surface.max())
    beyond[12:-12, 12:-12] = surface
    for world in (beyond, np.pad(surface, 12, "edge")):
        image = dilate(world, *tip)[12:-12, 12:-12]
        reconstruction, certain = certainty_map(image, *tip)
        assert np.array_equal(reconstruction, erode(image, *tip))
        assert np.all(reconstruction >= surface - BOUND)
        assert np.all((reconstruction - surface)[certain] <= BOUND)


@quick
@given(surfaces(), st.floats(0.05, 500), st.floats(0.1, 5), st.floats(0.1, 5))
def test_laws_of_the_paraboloid(surface, radius_nm, dy, dx):
    image = dilate_paraboloid(surface, radius_nm, (dy, dx))
    back = erode_paraboloid(image, radius_nm, (dy, dx))
    assert np.all(image >= surface)
    assert np.all(back >= surface - BOUND)
    assert np.abs(dilate_paraboloid(back, radius_nm, (dy, dx)) - image).max() <= BOUND


def test_a_touch_beyond_the_edge_as_deep_as_the_image_is_high_makes_a_pixel_uncertain():
    """The relief and the depth differ by rounding only, now this way, now that."""
    rng = np.random.default_rng(0)
    for high, deep in rng.uniform(0.1, 1.0, (200, 2)):
        world, tip = np.array([[high, -10.0, high]]), (np.array([[0.0, -deep]]), (0, 0))
        image = dilate(world, *tip)[:, :2]
        _, certain = certainty_map(image, *tip)
        assert image[0, 1] == high - deep
        assert not certain[0, 1]
