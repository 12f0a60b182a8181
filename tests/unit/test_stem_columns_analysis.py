"""Columns from several detectors: found, measured and sorted on images made in closed form."""

import numpy as np
import pytest

from nanophantom.analysis import stem_columns
from nanophantom.simcore.electrons.constants import wavelength

STEP_NM = 0.02
SIZE = 72
ENERGY_KEV = 200.0
SETTINGS = {
    "pixel_size_nm": STEP_NM,
    "energy_kev": ENERGY_KEV,
    "semiangle_mrad": 20.0,
    "detectors": {
        "abf": {"shape": "annular", "inner_mrad": 10.0, "outer_mrad": 20.0},
        "haadf": {"shape": "annular", "inner_mrad": 60.0, "outer_mrad": 180.0},
        "com": {"shape": "moments", "outer_mrad": 40.0},
        "dpc": {
            "shape": "segmented",
            "inner_mrad": 5.0,
            "outer_mrad": 25.0,
            "segments": 4,
            "rotation_deg": 0.0,
        },
    },
}


def perovskite():
    """Return positions (n, 2) and kinds: strontium-like, titanium-like, oxygen-like columns."""
    a, points, kinds = 0.39, [], []
    for i in range(-1, 5):
        for j in range(-1, 5):
            for (u, v), kind in (((0, 0), 0), ((0.5, 0.5), 1), ((0.5, 0), 2), ((0, 0.5), 2)):
                points.append((0.11 + (i + u) * a, 0.07 + (j + v) * a))
                kinds.append(kind)
    return np.array(points), np.array(kinds)


def bells(points, heights, width_nm):
    """Return a sum of Gaussians and its slopes (per nm) along x and y."""
    y, x = np.mgrid[:SIZE, :SIZE] * STEP_NM
    total, slope_x, slope_y = np.zeros((3, SIZE, SIZE))
    for (px, py), height in zip(points, heights, strict=True):
        bell = height * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * width_nm**2))
        total += bell
        slope_x -= bell * (x - px) / width_nm**2
        slope_y -= bell * (y - py) / width_nm**2
    return total, slope_x, slope_y


def recorded(electrons=2000.0, n_frames=2, seed=1, oxygen=0.2):
    """Return signals: dark field that doesn't see oxygen, deflections that do, with shot noise."""
    points, kinds = perovskite()
    rng = np.random.default_rng(seed)
    dark = 0.004 + bells(points, np.choose(kinds, (0.06, 0.03, 0.0005)), 0.045)[0]
    bright = 0.4 - bells(points, np.choose(kinds, (0.1, 0.08, 0.05)), 0.045)[0]
    _, slope_x, slope_y = bells(points, np.choose(kinds, (0.4, 0.3, oxygen)), 0.05)
    # theta = lambda / (2 pi) grad phase
    mrad = 1e3 * 0.1 * wavelength(ENERGY_KEV) / (2 * np.pi)
    x, y = mrad * slope_x, mrad * slope_y
    shape = (n_frames, SIZE, SIZE)
    n = rng.poisson(electrons, shape)
    scatter = np.sqrt(n) * 10.0  # mrad: rms angle of one electron in the disk
    a = 20.0
    # A uniform disk moved by d: quadrants gain 2 sin(45 deg) d / (pi a) of the beam towards d.
    quarter = (a**2 - 5.0**2) / (4 * a**2)
    gain = 2 * np.sin(np.pi / 4) / (np.pi * a)
    towards = [(1, 0), (0, 1), (-1, 0), (0, -1)]
    signals = {
        "abf": rng.poisson(electrons * bright, shape),
        "haadf": rng.poisson(electrons * dark, shape),
        "com-sum": n,
        "com-x": n * x + scatter * rng.standard_normal(shape),
        "com-y": n * y + scatter * rng.standard_normal(shape),
    }
    for i, (ux, uy) in enumerate(towards):
        share = quarter + gain * (ux * x + uy * y)
        signals[f"dpc-{i}"] = rng.poisson(electrons * share, shape)
    return signals


def compared(found, border_nm=0.1):
    """Return errors (n, 2) of the finds inside a border, their kinds and the true ones.

    Every column inside the border must have been found, and every find must be a column.
    """
    points, kinds = perovskite()
    at = np.column_stack([found["x_nm"], found["y_nm"]])
    distance = np.hypot(*np.moveaxis(at[:, None] - points[None], 2, 0))
    middle = ((points > border_nm) & (points < SIZE * STEP_NM - border_nm)).all(axis=1)
    assert distance[:, middle].min(axis=0).max() < 0.05
    inside = ((at > border_nm) & (at < SIZE * STEP_NM - border_nm)).all(axis=1)
    assert distance[inside].min(axis=1).max() < 0.05
    nearest = distance[:, middle].argmin(axis=0)
    return at[nearest] - points[middle], found["kind"][nearest], kinds[middle]


def test_all_columns_are_found_measured_and_sorted():
    """Columns of three kinds: each found, within 4 pm, and of the right kind."""
    error, kind, true_kind = compared(stem_columns.find(recorded(), SETTINGS))
    assert len(error) > 30
    assert np.sqrt(np.mean(error**2)) < 0.004
    np.testing.assert_array_equal(kind, true_kind)


def test_one_frame_is_enough():
    """Without a second frame to measure the noise from; also as a plain image (ny, nx)."""
    signals = recorded(electrons=4000.0, n_frames=1)
    error, kind, true_kind = compared(stem_columns.find(signals, SETTINGS))
    assert np.sqrt(np.mean(error**2)) < 0.004
    np.testing.assert_array_equal(kind, true_kind)
    plain = stem_columns.find({name: stack[0] for name, stack in signals.items()}, SETTINGS)
    np.testing.assert_array_equal(plain["x_nm"], stem_columns.find(signals, SETTINGS)["x_nm"])


@pytest.mark.parametrize("kept", ["com", "dpc", "abf"])
def test_any_of_the_light_signals_is_enough(kept):
    """First moments, sectors, or annular bright field alone beside the dark field."""
    signals = {k: v for k, v in recorded().items() if k.startswith((kept, "haadf"))}
    detectors = {k: v for k, v in SETTINGS["detectors"].items() if k in (kept, "haadf")}
    error, _, _ = compared(stem_columns.find(signals, SETTINGS | {"detectors": detectors}))
    assert np.abs(error).max() < 0.02


def test_columns_that_are_not_there_are_not_found():
    """Without oxygen in any signal no third kind appears."""
    signals = recorded(oxygen=0.0)
    found = stem_columns.find({k: v for k, v in signals.items() if k != "abf"}, SETTINGS)
    points, kinds = perovskite()
    at = np.column_stack([found["x_nm"], found["y_nm"]])
    inside = ((at > 0.1) & (at < SIZE * STEP_NM - 0.1)).all(axis=1)
    nearest = kinds[np.hypot(*np.moveaxis(at[:, None] - points[None], 2, 0)).argmin(axis=1)]
    assert set(nearest[inside].tolist()) == {0, 1}
    assert set(found["kind"].tolist()) == {0.0, 1.0}


def test_phase_of_sectors_and_of_moments_is_the_one_put_in():
    """Both come back as the phase whose gradient deflected the beam, but for slow waves."""
    signals = {k: v.sum(axis=0).astype(float) for k, v in recorded(1e6, 1).items()}
    points, kinds = perovskite()
    truth = bells(points, np.choose(kinds, (0.4, 0.3, 0.2)), 0.05)[0]
    truth -= truth.mean()
    for name in ("com", "dpc"):
        found = stem_columns.phase_of(name, signals, SETTINGS)
        inner = (slice(8, -8), slice(8, -8))
        slope = np.polyfit(truth[inner].ravel(), found[inner].ravel(), 1)[0]
        assert abs(slope - 1) < 0.05
        assert np.corrcoef(truth[inner].ravel(), found[inner].ravel())[0, 1] > 0.99


def test_kinds_are_groups_that_stand_apart():
    """Three groups are three kinds, the brightest first; one bell is one kind."""
    rng = np.random.default_rng(5)
    groups = [
        100 + 3 * rng.standard_normal(9),
        55 + 3 * rng.standard_normal(7),
        rng.normal(5, 3, 8),
    ]
    order = rng.permutation(24)
    kinds = np.repeat([0, 1, 2], (9, 7, 8))[order]
    np.testing.assert_array_equal(stem_columns.kinds_of(np.concatenate(groups)[order]), kinds)
    assert not stem_columns.kinds_of(100 + 5 * rng.standard_normal(30)).any()
    assert stem_columns.kinds_of(np.zeros(0)).shape == (0,)


def test_what_is_missing_is_named():
    """A setting, a dark field, a signal of light columns."""
    signals = recorded(n_frames=1)
    with pytest.raises(ValueError, match='lack "energy_kev"'):
        stem_columns.find(signals, {k: v for k, v in SETTINGS.items() if k != "energy_kev"})
    only = {"detectors": {"abf": SETTINGS["detectors"]["abf"]}}
    with pytest.raises(ValueError, match="no dark field"):
        stem_columns.find({"abf": signals["abf"]}, SETTINGS | only)
    only = {"detectors": {"haadf": SETTINGS["detectors"]["haadf"]}}
    with pytest.raises(ValueError, match="no detector shows light columns"):
        stem_columns.find({"haadf": signals["haadf"]}, SETTINGS | only)
