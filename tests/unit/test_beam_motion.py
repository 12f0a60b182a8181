"""Beam-induced motion of a supported film, and the resampling that carries images along."""

import json
import math
import pickle

import numpy as np
import pytest
import scipy.ndimage
from numpy.polynomial import legendre
from pydantic import ValidationError

from nanophantom.simcore.beam_motion import BeamInducedMotion, MotionField, warp
from nanophantom.simcore.runs import Run

W, H = 30.0, 20.0
ALL = {
    "jump_nm": 2.0,
    "local_nm": 0.3,
    "creep_nm": 0.1,
    "magnification_percent": 0.4,
    "shear_percent": 0.2,
}
X, Y = np.meshgrid(np.linspace(-W, W, 41), np.linspace(-H, H, 31))


def field(seed: int = 1, **knobs) -> MotionField:
    return BeamInducedMotion(**knobs).draw(Run(seed).rng("beam-motion"), W, H)


def test_without_motion_nothing_moves() -> None:
    assert BeamInducedMotion().absent
    assert not BeamInducedMotion(shear_percent=0.1).absent
    still = field()
    assert still.is_uniform
    assert still.largest_nm(1e3) == 0.0
    assert not np.any(still.displacement_nm(X, Y, 50.0))


def test_nothing_has_moved_before_the_first_electron() -> None:
    moving = field(**ALL)
    assert not np.any(moving.displacement_nm(X, Y, 0.0))
    assert not np.any(moving.uniform_nm(0.0))
    assert not np.any(moving.warp_nm(X[0], Y[:, 0], 0.0))


def test_the_jump_saturates_monotonically_as_one_minus_exp() -> None:
    """d (1 - exp(-N / N0)): 63 % at N0, all of it in the end; everywhere alike."""
    jump = field(jump_nm=2.0, jump_direction_deg=30.0, critical_fluence_e_per_A2=4.0)
    assert jump.is_uniform
    fluence = np.array([0.0, 1e-6, 1.0, 4.0, 20.0, 1e4])
    dx, dy = jump.uniform_nm(fluence)
    expected = 2.0 * (1 - np.exp(-fluence / 4.0))
    np.testing.assert_allclose(dx, expected * math.sqrt(3) / 2, rtol=1e-9)
    np.testing.assert_allclose(dy, expected / 2, rtol=1e-9)
    assert np.all(np.diff(dx) > 0)
    everywhere = jump.displacement_nm(X, Y, 4.0)[0]
    np.testing.assert_allclose(everywhere, 2.0 * (1 - math.exp(-1)) * math.sqrt(3) / 2)


def view_mean(values: np.ndarray) -> float:
    """Mean over the view of values at the nodes of Gauss and Legendre, exact for polynomials."""
    _, weights = legendre.leggauss(8)
    return float(np.einsum("y,x,yx", weights, weights, values) / 4)


@pytest.mark.parametrize("seed", range(5))
def test_local_motion_has_the_root_mean_square_given_and_no_mean(seed: int) -> None:
    """Exactly, in every draw; it is bowing, free of shift, magnification and shear."""
    nodes, _ = legendre.leggauss(8)
    x, y = W * nodes, H * nodes[:, None]
    local = field(seed, local_nm=0.3)
    dx, dy = local.displacement_nm(x, y, 1e9)
    assert view_mean(dx**2 + dy**2) == pytest.approx(0.3**2, rel=1e-12)
    for moved in (dx, dy):
        for against in (1.0, x / W, y / H):
            assert view_mean(moved * against) == pytest.approx(0.0, abs=1e-14)
    assert not local.is_uniform
    assert not np.any(local.uniform_nm(50.0))


def test_creep_goes_on_in_proportion_with_the_shape_of_the_local_motion() -> None:
    nodes, _ = legendre.leggauss(8)
    creep = field(creep_nm=0.2)
    dx, dy = creep.displacement_nm(W * nodes, H * nodes[:, None], 100.0)
    assert math.sqrt(view_mean(dx**2 + dy**2)) == pytest.approx(0.2, rel=1e-12)
    np.testing.assert_allclose(creep.displacement_nm(X, Y, 300.0)[0],
                               3 * creep.displacement_nm(X, Y, 100.0)[0], rtol=1e-12)  # fmt: skip
    fast = field(local_nm=0.2).displacement_nm(X, Y, 1e9)
    np.testing.assert_allclose(creep.displacement_nm(X, Y, 100.0), fast, atol=1e-12)


def test_charging_magnifies_and_shears_with_a_fluence_of_its_own() -> None:
    """The gradient is m 1 + s (cos, sin; sin, -cos): its eigenvalues are m + s and m - s."""
    charged = field(
        magnification_percent=0.4, shear_percent=0.2, charging_fluence_e_per_A2=12.0, jump_nm=1.0
    )
    grown = 1 - math.exp(-1)
    at_origin = np.array(charged.displacement_nm(0.0, 0.0, 12.0))
    gradient = np.column_stack([
        np.array(charged.displacement_nm(1.0, 0.0, 12.0)) - at_origin,
        np.array(charged.displacement_nm(0.0, 1.0, 12.0)) - at_origin,
    ])  # fmt: skip
    np.testing.assert_allclose(gradient, gradient.T, atol=1e-15)
    np.testing.assert_allclose(
        np.linalg.eigvalsh(gradient), [0.002 * grown, 0.006 * grown], rtol=1e-10
    )
    shrunk = field(magnification_percent=-0.5).displacement_nm(10.0, -4.0, 1e9)
    np.testing.assert_allclose(np.array(shrunk), [-0.05, 0.02], rtol=1e-12)


@pytest.mark.parametrize("cause", list(ALL))
def test_a_knob_at_zero_leaves_the_other_causes_as_they_were(cause: str) -> None:
    fluence = np.array([1.0, 7.0, 60.0])[:, None, None]
    whole, rest, own = (
        np.array(field(**knobs).displacement_nm(X, Y, fluence))
        for knobs in (ALL, ALL | {cause: 0.0}, {cause: ALL[cause]})
    )
    np.testing.assert_allclose(whole, rest + own, atol=1e-14)
    assert np.abs(own).max() > 0.01


def test_a_given_direction_leaves_the_bowing_as_it_was() -> None:
    given = field(jump_nm=1.0, jump_direction_deg=0.0, local_nm=0.3)
    assert np.array_equal(
        given.saturating_nm[3:], field(jump_nm=1.0, local_nm=0.3).saturating_nm[3:]
    )


def test_directions_and_bowing_are_drawn_evenly() -> None:
    """600 seeds: the mean of uniform unit vectors is below 3 / sqrt(600)."""
    drawn = [field(seed, jump_nm=1.0, local_nm=1.0).saturating_nm for seed in range(600)]
    assert np.linalg.norm(np.mean([d[0] for d in drawn], axis=0)) < 0.12
    bowing = np.array([d[3:] for d in drawn])
    np.testing.assert_allclose(np.mean(bowing**2, axis=0), 1 / 14, rtol=0.3)


def test_the_table_of_truth_gives_the_field_exactly() -> None:
    """The documented formula with NumPy's Legendre polynomials, from the columns through JSON."""
    moving = field(**ALL)
    table = {k: json.loads(json.dumps(v.tolist())) for k, v in moving.table().items()}
    fluence, dx, dy = 17.3, 0.0, 0.0
    for row in (dict(zip(table, v, strict=True)) for v in zip(*table.values(), strict=True)):
        m, n = row["order_x"], row["order_y"]
        u, v = X / row["half_width_nm"], Y / row["half_height_nm"]
        shape = math.sqrt((2 * m + 1) * (2 * n + 1))
        shape = shape * legendre.legval(u, np.eye(m + 1)[m]) * legendre.legval(v, np.eye(n + 1)[n])
        grown = 1 - math.exp(-fluence / row["critical_fluence_e_per_A2"])
        dx = dx + shape * (row["saturating_x_nm"] * grown + row["slow_x_nm_A2_per_e"] * fluence)
        dy = dy + shape * (row["saturating_y_nm"] * grown + row["slow_y_nm_A2_per_e"] * fluence)
    np.testing.assert_allclose(moving.displacement_nm(X, Y, fluence), (dx, dy), atol=1e-14)


def test_the_largest_displacement_bounds_all_in_view_at_any_fluence() -> None:
    rng = np.random.default_rng(3)
    for seed in range(10):
        moving = field(seed, **ALL)
        x, y = rng.uniform(-W, W, 2000), rng.uniform(-H, H, 2000)
        seen = np.abs(moving.displacement_nm(x, y, rng.uniform(0, 40.0, 2000))).max()
        assert 0.8 * moving.largest_nm(40.0) < seen <= 1.001 * moving.largest_nm(40.0)


def test_places_and_fluences_broadcast() -> None:
    dx, dy = field(**ALL).displacement_nm(X[0], Y[:, :1], np.array([1.0, 2.0])[:, None, None])
    assert dx.shape == dy.shape == (2, *X.shape)
    one = field(**ALL).displacement_nm(X, Y, 2.0)
    np.testing.assert_allclose(dx[1], one[0], atol=1e-15)


def test_what_is_seen_is_traced_back_to_where_it_was_at_rest() -> None:
    """r + d(r) + moved = p within 1e-7 nm, with local displacements of nearly a nanometre."""
    moving, moved = field(**ALL), (0.7, -1.1)
    x, y = X[0], Y[:, 0]
    dx, dy = moving.warp_nm(x, y, 30.0, moved)
    rest_x, rest_y = x - moved[0] - dx, y[:, None] - moved[1] - dy
    there = moving.displacement_nm(rest_x, rest_y, 30.0)
    local_x, local_y = (a - u for a, u in zip(there, moving.uniform_nm(30.0), strict=True))
    np.testing.assert_allclose(rest_x + local_x + moved[0], X, atol=1e-7)
    np.testing.assert_allclose(rest_y + local_y + moved[1], Y, atol=1e-7)
    assert np.hypot(dx, dy).max() > 0.7


def test_a_motion_that_folds_the_film_is_refused() -> None:
    with pytest.raises(ValueError, match="folds the film"):
        field(local_nm=40.0).warp_nm(X[0], Y[:, 0], 50.0)


def test_a_field_survives_pickling() -> None:
    moving = field(**ALL)
    again = pickle.loads(pickle.dumps(moving))
    assert np.array_equal(again.displacement_nm(1.0, 2.0, 3.0), moving.displacement_nm(1.0, 2.0, 3))


# --- warping -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("period_px", "error"), [(4, 0.028), (6, 4.2e-3), (8, 1.2e-3), (12, 2.2e-4), (16, 7e-5)]
)
def test_a_wave_is_displaced_as_the_analytic_one(period_px: int, error: float) -> None:
    """A unit wave sampled so many times a period, by a field that varies over half a pixel.

    Errors as of cubic splines: they fall with the fourth power of the sampling.
    """
    n = 16 * period_px
    y, x = np.mgrid[:n, :n].astype(float)
    wave = lambda y, x: np.cos(2 * np.pi * (x + 2 * y / 16) / period_px)  # noqa: E731
    dx, dy = 0.37 + 0.5 * np.sin(2 * np.pi * y / n), 0.2 * np.cos(2 * np.pi * x / n)
    warped = warp(wave(y, x), dy, dx)
    assert np.abs(warped - wave(y - dy, x - dx)).max() < error


def peak(image: np.ndarray, step: float) -> np.ndarray:
    """Return (x, y) of the maximum from its centre: a paraboloid through log of 3 x 3 pixels."""
    i, j = np.unravel_index(image.argmax(), image.shape)
    v, u = (a.ravel() - 1 for a in np.mgrid[:3, :3])
    terms = np.column_stack([np.ones(9), u, v, u**2, u * v, v**2])
    near = np.log(image[i - 1 : i + 2, j - 1 : j + 2].ravel())
    _, bx, by, xx, xy, yy = np.linalg.lstsq(terms, near)[0]
    off = np.linalg.solve([[2 * xx, xy], [xy, 2 * yy]], [-bx, -by])
    return (np.array([j, i]) + off - (len(image) - 1) / 2) * step


@pytest.mark.parametrize("rest", [(0.0, 0.0), (-1.7, 1.2), (1.9, 1.9), (0.8, -1.6)])
def test_an_atom_under_a_drawn_field_lands_where_the_truth_says(rest) -> None:
    """A Gaussian of 50 pm at 10 pm a pixel: its peak within 0.02 pm of r + d(r), 10-70 pm off."""
    step, n = 0.01, 600
    moving = BeamInducedMotion(**(ALL | {"local_nm": 0.05, "creep_nm": 0.0})).draw(
        Run(4).rng("beam-motion"), step * n / 2, step * n / 2
    )
    axis = (np.arange(n) - (n - 1) / 2) * step
    spot = np.exp(-((axis - rest[0]) ** 2 + (axis[:, None] - rest[1]) ** 2) / 0.005)
    dx, dy = moving.warp_nm(axis, axis, 20.0)
    moved = np.array(moving.displacement_nm(*rest, 20.0)) - np.array(moving.uniform_nm(20.0))
    assert 0.01 < np.hypot(*moved) < 0.15
    found = peak(np.maximum(warp(spot, dy / step, dx / step), 1e-9), step)
    np.testing.assert_allclose(found, rest + moved, atol=2e-5)


def test_warping_is_the_periodic_cubic_spline_of_scipy() -> None:
    rng = np.random.default_rng(1)
    image, (dy, dx) = rng.random((37, 52)), rng.normal(0, 30, (2, 37, 52))
    y, x = np.mgrid[:37, :52]
    reference = scipy.ndimage.map_coordinates(image, [y - dy, x - dx], order=3, mode="grid-wrap")
    np.testing.assert_allclose(warp(image, dy, dx), reference, atol=1e-13)


def test_without_displacement_an_image_stays_as_it_is() -> None:
    image = np.random.default_rng(1).random((20, 30)).astype(np.float32)
    before, zero = image.copy(), np.zeros((20, 30))
    warped = warp(image, zero, zero)
    assert warped.dtype == np.float32
    np.testing.assert_allclose(warped, image, atol=1e-6)
    assert np.array_equal(image, before)


def test_empty_film_stays_at_the_bare_beam_and_area_preserving_motion_keeps_the_total() -> None:
    """1 stays 1, compressed or not; a shear flow x + f(y), which has Jacobian 1, keeps the sum."""
    rng = np.random.default_rng(2)
    compressing = np.cumsum(rng.normal(0, 0.02, (64, 64)), axis=1)
    flat = warp(np.ones((64, 64), np.float32), 0 * compressing, compressing)
    np.testing.assert_allclose(flat, 1.0, atol=2e-6)
    image = scipy.ndimage.gaussian_filter(rng.random((64, 64)), 2.0, mode="wrap")
    flow = np.broadcast_to(3.3 * np.sin(2 * np.pi * np.arange(64) / 64)[:, None], (64, 64))
    assert warp(image, 0 * flow, flow).mean() == pytest.approx(image.mean(), rel=1e-12)
    both = warp(image, 0.4 + 0 * flow, flow)
    assert both.mean() == pytest.approx(image.mean(), rel=1e-4)


def test_a_part_of_the_result_is_the_same_as_cut_from_all_of_it() -> None:
    rng = np.random.default_rng(4)
    image, (dy, dx) = rng.random((40, 50)), rng.normal(0, 2, (2, 40, 50))
    part = warp(image, dy[7:21, 30:50], dx[7:21, 30:50], (7, 30))
    assert np.array_equal(part, warp(image, dy, dx)[7:21, 30:50])


def test_displacements_of_two_shapes_and_images_of_integers_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        warp(np.ones((4, 4)), np.zeros((4, 4)), np.zeros((4, 5)))
    with pytest.raises(ValueError, match="float32"):
        warp(np.ones((4, 4), int), np.zeros((4, 4)), np.zeros((4, 4)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"jump_nm": -1.0}, {"local_nm": -1.0}, {"critical_fluence_e_per_A2": 0.0},
        {"magnification_percent": 11.0}, {"shear_percent": -0.1},
    ],
)  # fmt: skip
def test_impossible_motion_is_refused(wrong) -> None:
    with pytest.raises(ValidationError):
        BeamInducedMotion(**wrong)
