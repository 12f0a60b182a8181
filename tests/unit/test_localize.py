"""Movies to tables: what is found, in which units, and that nothing depends on the machine."""

import tracemalloc

import numpy as np
import pytest
from scipy.spatial import KDTree
from scipy.special import erf

from nanophantom.analysis import localize as module
from nanophantom.analysis.localization_precision import cramer_rao
from nanophantom.analysis.localize import localize
from nanophantom.analysis.spot_detection import SpotFinder, find_spots, temporal_median

IDEAL = {"offset_adu": 0.0, "adu_per_electron": 1.0, "quantum_efficiency": 1.0}
SETTINGS = {"pixel_size_nm": 100.0, "psf_sigma_nm": 100.0, "camera": IDEAL}


def expectation(shape, frame, x, y, photons, background, sigma_x=1.0, sigma_y=None):
    """Return frames of Gaussian spots integrated over pixels (places in pixels)."""
    mean = np.full(shape, float(background))
    _, ny, nx = shape
    for f, x0, y0, light in zip(frame, x, y, np.broadcast_to(photons, len(x)), strict=True):
        column, row = (
            0.5 * np.diff(erf((np.arange(n + 1) - 0.5 - c) / (np.sqrt(2) * s)))
            for n, c, s in ((nx, x0, sigma_x), (ny, y0, sigma_y or sigma_x))
        )
        mean[f] += light * np.outer(row, column)
    return mean


def scattered(frames=200, per_frame=20, size=128, photons=1000, background=10, seed=3):
    """Return the counts of spots at random places, at least 4 px from the edge, and the truth."""
    rng = np.random.default_rng(seed)
    n = rng.poisson(per_frame, frames)
    frame = np.repeat(np.arange(frames), n)
    x, y = rng.uniform(4, size - 5, (2, len(frame)))
    mean = expectation((frames, size, size), frame, x, y, photons, background)
    return rng.poisson(mean).astype(np.uint16), frame, x, y


def match(frame, x, y, found, within_px=2.5):
    """Return pairs of rows of the truth and the table, the nearest first, within a distance."""
    apart = 1e4  # between frames
    truth = KDTree(np.stack([frame * apart, x, y], 1))
    table = KDTree(np.stack([found["frame"] * apart, found["x_nm"] / 100, found["y_nm"] / 100], 1))
    near = truth.sparse_distance_matrix(table, within_px, output_type="coo_matrix")
    seen: tuple[set[int], set[int]] = (set(), set())
    pairs = []
    for k in np.argsort(near.data, kind="stable"):
        i, j = int(near.row[k]), int(near.col[k])
        if i not in seen[0] and j not in seen[1]:
            seen[0].add(i)
            seen[1].add(j)
            pairs.append((i, j))
    return np.array(pairs)


@pytest.fixture(scope="module")
def crowd():
    return scattered()


def test_crowded_movie_is_localized_better_than_a_peer_does(crowd):
    """Jaccard index and RMSE (greedy, 250 nm) on 20 spots a frame of 128 x 128 pixels.

    Picasso 0.11.3's likelihood fits reach 0.959 and 24.7 nm on such a movie, its least squares
    20.9 nm.
    """
    counts, frame, x, y = crowd
    found = localize(counts, SETTINGS)
    i, j = match(frame, x, y, found).T
    jaccard = len(i) / (len(frame) + len(found["frame"]) - len(i))
    dx, dy = found["x_nm"][j] - 100 * x[i], found["y_nm"][j] - 100 * y[i]
    assert jaccard > 0.975
    assert np.sqrt(np.mean(dx**2 + dy**2)) < 16.0
    # what a person would look at first: merged pairs have a chi-square far above 1
    single = found["chi_square"][j] < 2
    assert np.sqrt(np.mean(dx[single] ** 2 + dy[single] ** 2)) < 7.5
    assert single.mean() > 0.97


def test_isolated_spots_scatter_as_stated_and_as_physics_allows(crowd):
    counts, frame, x, y = crowd
    found = localize(counts, SETTINGS)
    gap = KDTree(np.stack([frame * 1e4, x, y], 1)).query(np.stack([frame * 1e4, x, y], 1), 2)[0]
    pairs = match(frame, x, y, found)
    i, j = pairs[gap[pairs[:, 0], 1] > 10].T
    assert len(i) > 1500
    errors = np.concatenate([found["x_nm"][j] - 100 * x[i], found["y_nm"][j] - 100 * y[i]])
    limit = cramer_rao(100, 100, 1000, 10, box_px=7).x_nm
    assert np.std(errors) / limit == pytest.approx(1, abs=0.05)  # 1.7 % standard error
    assert abs(errors.mean()) < 0.3
    assert found["uncertainty_nm"][j].mean() == pytest.approx(limit, rel=0.01)
    assert found["photons"][j].mean() == pytest.approx(1000, rel=5e-3)
    assert found["background"][j].mean() == pytest.approx(10, rel=5e-3)
    assert found["chi_square"][j].mean() == pytest.approx(1, abs=0.02)


def test_nearly_all_isolated_spots_are_found_and_nearly_nothing_else():
    """Recall above 0.99, and fewer than 1e-4 false positives per pixel and frame."""
    grid = 10.0 + 18.0 * np.arange(7)
    rng = np.random.default_rng(2)
    y, x = (g.ravel() for g in np.meshgrid(grid, grid, indexing="ij"))
    frame = np.repeat(np.arange(40), len(x))
    x, y = (np.tile(g, 40) + rng.uniform(-0.5, 0.5, 40 * len(g)) for g in (x, y))
    counts = rng.poisson(expectation((40, 128, 128), frame, x, y, 1000, 10))
    found = localize(counts, SETTINGS)
    pairs = match(frame, x, y, found, within_px=1.0)
    assert len(pairs) > 0.99 * len(frame)
    assert len(found["frame"]) - len(pairs) < 1e-4 * counts.size


@pytest.mark.parametrize("background", [0.1, 1.0, 10.0, 300.0])
def test_false_positives_are_as_many_as_asked_for(background):
    """Of frames without spots, in dim and bright light: 1e-4 per pixel, within a factor of 2."""
    frames = np.random.default_rng(4).poisson(background, (40, 128, 128)).astype(np.float32)
    rate = len(find_spots(frames, 1.0, false_positives=1e-4)) / frames.size
    assert 0.4e-4 < rate < 1.3e-4


def test_false_positives_of_noisy_cameras():
    """EMCCD (gamma register) and sCMOS (a variance of its own in each pixel)."""
    rng = np.random.default_rng(4)
    electrons = rng.poisson(3.0, (60, 128, 128))
    frames = np.where(electrons > 0, rng.gamma(np.maximum(electrons, 1)), 0).astype(np.float32)
    rate = len(find_spots(frames, 1.0, false_positives=1e-4, excess_noise=2)) / frames.size
    assert 0.4e-4 < rate < 1.6e-4
    variance = rng.lognormal(0.5, 1.2, (128, 128))
    frames = (electrons + np.sqrt(variance) * rng.standard_normal(electrons.shape)).astype("f4")
    options = {"false_positives": 1e-4}
    known = len(find_spots(frames, 1.0, read_variance=variance, **options)) / frames.size
    naive = len(find_spots(frames, 1.0, **options)) / frames.size
    assert known < 1.3e-4
    assert naive > 5 * known


def test_edges_are_no_more_prone_to_false_positives():
    """There the filter meets the edge's own pixels several times, whose noise then adds up."""
    rng = np.random.default_rng(8)
    for b, read_variance in ((10.0, 0.0), (2.0, 2.56)):
        noise = rng.normal(0, read_variance**0.5, (1500, 40, 40))
        frames = (rng.poisson(b, noise.shape) + noise).astype(np.float32)
        options = {"read_variance": read_variance, "false_positives": 1e-4}
        found = find_spots(frames, 1.0, **options)
        from_edge = np.minimum.reduce([found.x, 39 - found.x, found.y, 39 - found.y])
        assert 20 < (from_edge < 3).sum() < 1.2e-4 * 1500 * (40**2 - 34**2)


def test_dim_spots_are_found():
    """100 photons on 10 a pixel: 8 standard deviations for the best filter with a known level."""
    counts, frame, x, y = scattered(60, per_frame=5, photons=100, seed=6)
    spots = find_spots(counts, 1.0)
    found = {
        "frame": spots.frame,
        "x_nm": 100 * spots.starts[:, 0],
        "y_nm": 100 * spots.starts[:, 1],
    }
    assert len(match(frame, x, y, found)) > 0.85 * len(frame)


def test_rows_columns_frames_and_photons_are_told_in_the_table():
    """One spot in frame 3, at x 21.25 and y 9.5 px, read by an offset, amplifying camera."""
    camera = {
        "offset_adu": 100.0,
        "adu_per_electron": 0.2,
        "em_gain": 50.0,
        "quantum_efficiency": 0.8,
        "read_noise_e": 40.0,
        "excess_noise": 2,
    }
    photons = expectation((5, 24, 40), [3], [21.25], [9.5], 5000, 20.0)
    adu = 100 + 0.2 * 50 * 0.8 * photons
    found = localize(
        adu, {**SETTINGS, "pixel_size_nm": 80.0, "psf_sigma_nm": 80.0, "camera": camera}
    )
    assert found["frame"].tolist() == [3]
    assert found["x_nm"] == pytest.approx([21.25 * 80], abs=0.02)
    assert found["y_nm"] == pytest.approx([9.5 * 80], abs=0.02)
    assert found["photons"] == pytest.approx([5000], rel=1e-3)
    assert found["background"] == pytest.approx([20], rel=1e-2)
    # excess noise doubles the variance; the register's gain makes the read noise small
    limit = cramer_rao(
        80, 80, 4000, 16, box_px=7, x_px=0.25, y_px=0.5, read_variance=0.8**2 / 2, excess_noise=2
    )
    assert found["uncertainty_nm"] == pytest.approx(
        [np.hypot(limit.x_nm, limit.y_nm) / 2**0.5], rel=1e-3
    )


def test_maps_of_a_camera_are_used():
    """Offsets and gains of single pixels, known to the operator, leave no trace."""
    rng = np.random.default_rng(1)
    offset, gain = 100 + 5 * rng.standard_normal((24, 40)), rng.uniform(0.8, 1.2, (24, 40))
    photons = expectation((2, 24, 40), [1], [21.25], [9.5], 3000, 20.0)
    adu = offset + 2.0 * gain * 0.7 * photons
    camera = {
        "offset_adu": 100.0,
        "adu_per_electron": 2.0,
        "quantum_efficiency": 0.7,
        "offset_map": offset.tolist(),
        "gain_map": gain.tolist(),
        "variance_map": np.full((24, 40), 2.0).tolist(),
    }
    found = localize(adu, {**SETTINGS, "camera": camera})
    assert found["frame"].tolist() == [1]
    assert found["x_nm"] == pytest.approx([2125], abs=0.02)
    assert found["photons"] == pytest.approx([3000], rel=1e-3)


def test_spots_at_the_edge_are_localized():
    """Their boxes lie inside the frame; a box that ends beyond it would lose them."""
    x, y = np.array([1.0, 38.2, 20.0, 0.3]), np.array([12.0, 22.4, 0.6, 0.4])
    counts = np.random.default_rng(0).poisson(expectation((1, 24, 40), [0] * 4, x, y, 3000, 5))
    found = localize(counts, SETTINGS)
    assert len(match(np.zeros(4, int), x, y, found, within_px=0.15)) == 4
    assert len(found["frame"]) == 4


def test_models_and_methods_give_their_columns():
    counts, *_ = scattered(4, seed=9)
    common = {"frame", "x_nm", "y_nm", "photons", "background", "uncertainty_nm"}
    for options, own in (
        ({}, {"z_nm"}),
        ({"model": "fixed"}, {"sigma_nm"}),
        ({"model": "free", "method": "lsq"}, {"sigma_nm"}),
        ({"model": "elliptical"}, {"sigma_x_nm", "sigma_y_nm", "uncertainty_x_nm"}),
        ({"model": "astigmatic"}, {"z_nm", "uncertainty_z_nm", "sigma_x_nm"}),
    ):
        calibration = {"sigma_nm": 100.0, "focus_nm": 200.0, "depth_nm": 350.0}
        found = localize(counts, {**SETTINGS, "calibration": calibration}, **options)
        assert common | own <= set(found)
        assert len({len(column) for column in found.values()}) == 1
        assert len(found["frame"]) > 60
        assert all(np.isfinite(column).all() for column in found.values())


class OnDisk:
    """A movie that can only be read by slices of frames, and notes how many at a time."""

    def __init__(self, counts, repeats=1):
        self.counts = counts
        self.shape = (repeats * len(counts), *counts.shape[1:])
        self.most = 0

    def __getitem__(self, frames):
        self.most = max(self.most, frames.stop - frames.start)
        return self.counts[np.arange(frames.start, frames.stop) % len(self.counts)]


def test_threads_and_blocks_leave_the_table_as_it_is(crowd, monkeypatch):
    counts = crowd[0][:50]
    whole = localize(counts, SETTINGS, threads=1)
    monkeypatch.setattr(module, "BLOCK_BYTES", 20 * 2 * 128**2)
    movie = OnDisk(counts)
    for threads in (1, 2, 3):
        found = localize(movie, SETTINGS, threads=threads)
        assert all(np.array_equal(found[name], whole[name]) for name in whole)
    assert movie.most <= 20


def test_a_long_movie_needs_no_more_memory_than_a_short_one(crowd, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_BYTES", 2 * 2**20)
    peaks = []
    for repeats in (1, 4):
        tracemalloc.start()
        found = localize(OnDisk(crowd[0][:100], repeats), SETTINGS, threads=2)
        peaks.append(tracemalloc.get_traced_memory()[1] - sum(c.nbytes for c in found.values()))
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 2e6


@pytest.mark.slow
def test_memory_of_full_blocks(crowd):
    """20 000 frames of 128 x 128 pixels are 655 MB; less than 200 MB are needed."""
    tracemalloc.start()
    found = localize(OnDisk(crowd[0], 100), SETTINGS, threads=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found["frame"]) > 380_000
    assert peak < 200e6


def test_uneven_background_is_told_from_the_frames_around():
    """A bright filament behind blinking spots: without its median, it is found as spots."""
    rng = np.random.default_rng(7)
    i, j = np.mgrid[:48, :64]
    ridge = 60 * np.exp(-0.5 * ((i - 20 - 4 * np.sin(j / 4)) / 1.3) ** 2)
    frame = np.arange(60)
    x, y = rng.uniform(8, 56, 60), rng.uniform(8, 40, 60)
    counts = rng.poisson(expectation((60, 48, 64), frame, x, y, 1000, 5) + ridge)
    plain = localize(counts, SETTINGS)
    found = localize(counts, SETTINGS, background_frames=60)
    assert np.abs(temporal_median(counts) - ridge - 5).mean() < 1.5
    pairs = match(frame, x, y, found, within_px=1.0)
    assert len(pairs) >= 59
    assert len(found["frame"]) - len(pairs) < 2e-5 * counts.size
    assert len(plain["frame"]) > 3 * len(frame)
    i, j = pairs.T
    errors = np.concatenate([found["x_nm"][j] / 100 - x[i], found["y_nm"][j] / 100 - y[i]])
    assert np.sqrt(np.mean(errors**2)) < 0.12


def test_false_positives_on_a_known_uneven_background():
    """A filament twelve times as bright as what lies around it: its own noise is allowed for."""
    i, j = np.mgrid[:48, :64]
    ridge = 5 + 60 * np.exp(-0.5 * ((i - 20 - 4 * np.sin(j / 4)) / 1.3) ** 2)
    frames = np.random.default_rng(0).poisson(np.broadcast_to(ridge, (300, 48, 64))).astype("f4")
    finder = SpotFinder((48, 64), 1.0, false_positives=1e-4)
    rate = len(finder.find(frames, temporal_median(frames))) / frames.size
    assert 0.4e-4 < rate < 1.4e-4


def test_empty_movies_give_empty_tables():
    found = localize(np.zeros((3, 32, 32), np.uint16), SETTINGS)
    assert all(len(column) == 0 for column in found.values())


def test_what_cannot_be_localized_is_refused():
    movie = np.zeros((3, 32, 32), np.uint16)
    for message, settings, options in (
        ("pixel_size_nm", {**SETTINGS, "pixel_size_nm": 0}, {}),
        ("lack offset_adu", {**SETTINGS, "camera": {}}, {}),
        ("must be positive", {**SETTINGS, "camera": {**IDEAL, "adu_per_electron": 0}}, {}),
        ("box_px is 8", SETTINGS, {"box_px": 8}),
        ("calibration", SETTINGS, {"model": "astigmatic"}),
        ("background_frames is 2", SETTINGS, {"background_frames": 2}),
        ("false_positives is 0", SETTINGS, {"false_positives": 0}),
        ("method 'ls'", SETTINGS, {"method": "ls"}),
    ):
        with pytest.raises(ValueError, match=message):
            localize(movie, settings, **options)
    with pytest.raises(ValueError, match="smaller than a spot's box"):
        SpotFinder((8, 8), 1.0)
    with pytest.raises(ValueError, match="expected \\(n, ny, nx\\)"):
        localize(movie[0], SETTINGS)
