"""The task drift and its analysis, on stacks whose path and local motion are known."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nanophantom.analysis.drift_path import find, shift_deviation_px
from nanophantom.simcore.beam_motion import BeamInducedMotion
from nanophantom.validation.aligned_sums import FilmMotion, half_sums, rigid, with_film
from nanophantom.validation.drift_limit import drift_limit
from nanophantom.validation.specimen_counts import specimen_counts
from nanophantom.validation.tasks import find_task

TASK = find_task("drift")
PIXEL_NM, SIDE, FRAMES, COUNTS = 0.02, 128, 16, 2.0
SETTINGS = {"pixel_size_nm": PIXEL_NM, "counts_per_electron": 0.8}


def particle(y, x):
    """Return the expected counts of a round lattice of 11 x 13 px in vacuum at some places (px)."""
    lattice = np.cos(2 * np.pi * y / 11) * np.cos(2 * np.pi * x / 13)
    radius = np.hypot(y - 60, x - 66)
    return COUNTS * (1 + 0.7 * lattice / (1 + np.exp((radius - 38) / 3)))


def path(seed=2):
    """Return a drift of 0.12 nm and a random walk, (frames, 2) along x and y, nm."""
    rng = np.random.default_rng(seed)
    steps = np.array([0.008, -0.004]) + rng.normal(0, 0.008, (FRAMES, 2))
    return np.cumsum(steps, axis=0)


def observed(seed=2, film=None, noisy=True):
    """Return a stack that moves along the path and, if asked, distorts."""
    true = path(seed)
    rng = np.random.default_rng(seed + 100)
    y, x = np.arange(float(SIDE))[:, None], np.arange(float(SIDE))[None, :]
    tables = {
        "drift": {"t_s": 0.5 * np.arange(FRAMES), "dx_nm": true[:, 0], "dy_nm": true[:, 1]},
        "noise_free": {"image": particle(y, x)},
        "dose": {
            "dose_e_per_A2": np.full(FRAMES, 8.0),
            "cumulative_e_per_A2": 8.0 * np.arange(1, FRAMES + 1),
        },
    }
    if film is not None:
        tables["beam_induced_motion"] = film.table()
    images = []
    data = SimpleNamespace(
        n_frames=FRAMES,
        settings=SETTINGS,
        signals=("image",),
        signal=lambda name, a=0, b=None: images[a:b],
        truth_tables=tuple(tables),
        truth=lambda name: tables[name],
    )
    for i, (dx, dy) in enumerate(true / PIXEL_NM):
        at_y, at_x = y - dy, x - dx
        if film is not None:
            local_y, local_x = FilmMotion.of(data, (SIDE, SIDE)).local_nm(i, at_y, at_x) / PIXEL_NM
            at_y, at_x = at_y - local_y, at_x - local_x
        ideal = particle(at_y, at_x)
        images.append(rng.poisson(ideal).astype(np.uint16) if noisy else ideal)
    images = np.array(images)
    return data


def answer(shift_nm=(0.0, 0.0), noise_nm=0.0, **more):
    """Return the true path as an answer relative to frame 0, shifted, with errors."""
    said = path() - path()[0] + shift_nm
    said = said + np.random.default_rng(7).normal(0, noise_nm, said.shape)
    return {"frame": np.arange(FRAMES), "dx_nm": said[:, 0], "dy_nm": said[:, 1], **more}


def bowing(local_nm):
    """Return a film that bows."""
    motion = BeamInducedMotion(local_nm=local_nm, critical_fluence_e_per_A2=60.0)
    half = SIDE * PIXEL_NM / 2
    return motion.draw(np.random.default_rng(4), half, half)


def test_the_true_path_scores_perfectly_wherever_it_begins():
    """Only motion counts: an answer relative to frame 0, or to another origin, is right."""
    for shift in ((0.0, 0.0), (0.3, -0.2)):
        scores = TASK.grade(answer(shift), observed())
        assert scores["rms"].value == pytest.approx(0, abs=1e-9)
        assert scores["jumps"].value == 0
        assert scores["resolution"].value == pytest.approx(scores["resolution"].limit)


def test_frames_may_come_in_any_order():
    said = {name: column[::-1] for name, column in answer().items()}
    assert TASK.grade(said, observed())["rms"].value == pytest.approx(0, abs=1e-9)


def test_errors_of_known_size_are_seen_in_pm_and_in_px():
    """One frame off by 32 pm: rms = 32 sqrt(1/16 - 1/16²) = 7.75 pm about the common mean."""
    said = answer()
    said["dx_nm"][5] += 0.032
    scores = TASK.grade(said, observed())
    right = 32 * np.sqrt(1 / 16 - 1 / 256)
    assert scores["rms"].value == pytest.approx(right)
    assert scores["rms_px"].value == pytest.approx(right / 20)
    assert scores["worst"].value == pytest.approx(30)


def test_a_slip_by_a_unit_cell_is_one_jump_and_back_is_another():
    """From frame 9 on by 11 px = 0.22 nm: one jump; a single frame alone: two."""
    slipped, single = answer(), answer()
    slipped["dy_nm"][9:] += 0.22
    single["dy_nm"][9] += 0.22
    assert TASK.grade(slipped, observed())["jumps"].value == 1
    assert TASK.compare(slipped, observed()).jumps.tolist() == [9]
    assert TASK.grade(single, observed())["jumps"].value == 2


def test_wrong_sign_or_unit_is_graded_far_off():
    right = answer()
    for factor in (-1, 10):
        said = {**right, "dx_nm": factor * right["dx_nm"], "dy_nm": factor * right["dy_nm"]}
        assert TASK.grade(said, observed())["rms"].value > 50


def test_coverage_is_that_of_the_quoted_uncertainties():
    """Errors of 3 pm quoted as 3 pm hold in about 95 % of 32 coordinates, as 1 pm in half."""
    honest = TASK.grade(answer(noise_nm=0.003, sigma_nm=np.full(FRAMES, 0.003)), observed())
    proud = TASK.grade(answer(noise_nm=0.003, sigma_nm=np.full(FRAMES, 0.001)), observed())
    assert honest["coverage"].value > 0.84
    assert proud["coverage"].value < 0.75


def test_limit_is_the_joint_bound_in_pm():
    image = observed().truth("noise_free")["image"]
    limit = TASK.grade(answer(), observed())["rms"].limit
    assert limit == pytest.approx(np.hypot(*drift_limit(image, FRAMES)) * 20)
    noiseless = observed(noisy=False)
    assert TASK.grade(answer(), noiseless)["rms"].limit is None


def test_the_sensors_pattern_is_no_structure():
    """Gain, dark signal and a hot pixel on an even image: what is left is even."""
    rng = np.random.default_rng(1)
    gain, dark = rng.normal(1, 0.05, (32, 32)), rng.uniform(0, 0.1, (32, 32))
    hot = np.zeros((32, 32), np.uint8)
    hot[4, 5] = 2
    image = 3.0 * gain + dark + 50.0 * hot
    data = SimpleNamespace(
        settings={"counts_per_electron": 0.8},
        truth_tables=("noise_free", "camera"),
        truth={
            "noise_free": {"image": image},
            "camera": {"gain": gain, "dark": dark, "defects": hot},
        }.__getitem__,
    )
    np.testing.assert_allclose(specimen_counts(data), 3.0, rtol=1e-6)


def test_the_true_field_undoes_what_the_film_did():
    """Noise-free frames, moved back by path and local motion, are all alike: to 0.4 % rms.

    By the path alone they aren't, by ten times as much.
    """
    film = bowing(0.03)
    data = observed(film=film, noisy=False)
    true = path()
    move = with_film(true, PIXEL_NM, FilmMotion.of(data, (SIDE, SIDE)))
    stack = data.signal("image")
    margin = (24, 24)
    even, odd = half_sums(stack, move, margin)
    assert np.std(even - odd) / np.mean(even) < 0.004
    even, odd = half_sums(stack[[0, -1]], rigid(true[[0, -1]], PIXEL_NM), margin)
    assert np.std(even - odd) / np.mean(even) > 0.04


def test_structure_alone_decides_what_a_rigid_shift_feels():
    """Noise-free frames of a film that bows a little: registration finds the weighted mean.

    The local motion is 20 pm (rms), of which the particle feels 3 pm more than the view's
    mean, zero. Found is what the formula says, to 1 pm.
    """
    film = bowing(0.02)
    data = observed(film=film, noisy=False)
    felt = FilmMotion.of(data, (SIDE, SIDE)).of_structure_nm(specimen_counts(data))
    assert np.linalg.norm(felt[-1] - felt[0]) > 0.003
    scores = TASK.grade(find(data.signal("image"), SETTINGS), data)
    assert scores["rms"].value < 1.0
    assert scores["rms_view"].value > 1.5 * scores["rms"].value


def test_the_analysis_comes_near_the_limit_and_says_so():
    """2 counts a pixel, 16 frames: within 1.5 of the bound, sigma within 25 % of it, no jump."""
    data = observed()
    found = find(data.signal("image"), SETTINGS)
    scores = TASK.grade(found, data)
    assert scores["rms"].value < 1.5 * scores["rms"].limit
    assert scores["jumps"].value == 0
    assert scores["coverage"].value > 0.8
    bound = float(np.mean(drift_limit(specimen_counts(data), FRAMES)))
    assert np.mean(shift_deviation_px(data.signal("image"))) == pytest.approx(bound, rel=0.25)


def test_answers_that_break_the_contract_are_refused():
    said = answer()
    with pytest.raises(ValueError, match="every frame from 0 to 15 once"):
        TASK.grade({name: column[1:] for name, column in said.items()}, observed())
    with pytest.raises(ValueError, match="every frame from 0 to 15 once"):
        TASK.grade({name: np.array([]) for name in said}, observed())
    broken = said["dx_nm"].copy()
    broken[3] = np.nan
    with pytest.raises(ValueError, match=r"dx_nm\[3\] is nan"):
        TASK.grade({**said, "dx_nm": broken}, observed())
    with pytest.raises(ValueError, match="sigma_nm above zero"):
        TASK.grade({**said, "sigma_nm": np.zeros(FRAMES)}, observed())
    with pytest.raises(ValueError, match="pixel_size_nm"):
        find(np.ones((4, 32, 32)), {})
    with pytest.raises(ValueError, match="2 or more"):
        find(np.ones((1, 32, 32)), SETTINGS)


def test_figures_are_drawn():
    """Sums, path, errors, resolution; and the arrows of a film that moves."""
    for film, plates in ((None, 4), (bowing(0.02), 5)):
        data = observed(film=film)
        said = answer()
        drawn = TASK.figures(data, said, TASK.grade(said, data))
        assert len(drawn) == plates
        for plate in drawn:
            FigureCanvasAgg(plate.figure).draw()
