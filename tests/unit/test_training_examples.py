"""Examples that the learned finder of columns is trained on, and the learner itself."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner

from nanophantom.cli import main
from nanophantom.simcore.columns import find_truth_columns
from nanophantom.simcore.electrons.optics import ImagingOptics
from nanophantom.simcore.runs import Run
from nanophantom.validation.training import train as training
from nanophantom.validation.training.curve import Result
from nanophantom.validation.training.examples import (
    COARSE,
    Example,
    make_examples,
    shows_columns,
)
from nanophantom.validation.training.scenes import TRAINING, Ranges, draw, resolution_nm
from nanophantom.validation.training.structures import SEEN, UNSEEN

Floats = npt.NDArray[np.float64]
SMALL = Ranges(view_nm=3.6, pixel_sizes_nm=(0.03,), thickness_nm=(1.0, 2.0), film_share=0.0)
PLAIN = COARSE.model_copy(update={"thermal_configurations": 1})


def picture(pixel_nm: float, contrast: str = "bright") -> Example:
    """Return an example of Gaussian columns at known places."""
    rng = np.random.default_rng(2)
    i, j = np.mgrid[0:16, 0:16].reshape(2, -1)
    at = 0.27 * np.column_stack([i, j]) + rng.uniform(-0.02, 0.02, (256, 2))
    at = at[(at > 0.2).all(1) & (at < 3.8).all(1)]
    grid = np.arange(round(4.0 / pixel_nm)) * pixel_nm
    bells = [np.exp(-0.5 * ((grid - a[:, None]) / 0.05) ** 2) for a in (at[:, 1], at[:, 0])]
    sign = 1 if contrast == "bright" else -0.7
    intensity = 1 + sign * np.einsum("ny,nx->yx", *bells)
    expected = (100 * pixel_nm**2 * intensity).astype(np.float32)
    return Example(expected, pixel_nm, contrast, at, "made up")  # type: ignore[arg-type]


def test_gaussians_stand_where_they_are_told() -> None:
    """Height one at the point, the larger of two where they overlap, nothing far away."""
    drawn = training.gaussians((20, 30), [5.0, 5.0], [7.0, 9.0], 1.2)
    assert drawn[5, 7] == drawn[5, 9] == 1
    np.testing.assert_allclose(drawn[5, 8], np.exp(-0.5 / 1.2**2), rtol=1e-6)
    assert drawn[15, 25] == 0


@pytest.mark.parametrize("pixel_nm", [0.01, 0.0125, 0.016, 0.025, 0.032])
@pytest.mark.parametrize("contrast", ["bright", "dark"])
def test_targets_lie_on_the_columns_of_the_crop(pixel_nm: float, contrast: str) -> None:
    """Image and target of a crop agree: their correlation is largest without a shift, and high."""
    example = picture(pixel_nm, contrast)
    image, target, _ = training.exposed(example, 1e4, 112, np.random.default_rng(3))
    assert image.shape == (112, 112)
    agreement = {
        (dy, dx): np.corrcoef(
            np.roll(target, (dy, dx), (0, 1))[8:-8, 8:-8].ravel(), image[8:-8, 8:-8].ravel()
        )[0, 1]
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
    }
    assert max(agreement, key=agreement.__getitem__) == (0, 0)
    assert agreement[0, 0] > 0.9
    # The shift that a parabola finds between them is below a tenth of a pixel, 3 pm.
    for one, two in (((-1, 0), (1, 0)), ((0, -1), (0, 1))):
        before, here, after = agreement[one], agreement[0, 0], agreement[two]
        assert abs(0.5 * (before - after) / (before + after - 2 * here)) < 0.1


def test_the_border_of_the_view_is_left_out() -> None:
    """Whatever the crop, pixels within 0.2 nm of the view's edge have no weight, others have."""
    example = picture(0.02)
    rng = np.random.default_rng(4)
    for _ in range(20):
        _, _, weight = training.exposed(example, 10.0, 112, rng)
        assert set(np.unique(weight)) <= {0.0, 1.0}
        # 3.36 of 4 nm: of each pair of edges at most one comes within 0.2 nm of the view's
        assert (112 - 8) ** 2 <= weight.sum() <= 112**2
    whole = training.exposed(example, 10.0, 133, rng)[2]
    assert whole[7:-7, 7:-7].all()
    assert whole[:6].sum() == whole[:, :6].sum() == whole[-6:].sum() == whole[:, -6:].sum() == 0


def test_contrast_the_wrong_way_round_is_noticed() -> None:
    """Columns that are dark where the optics promises bright ones aren't learned from."""
    right = picture(0.02)
    wrong = Example(right.expected, 0.02, "dark", right.columns_nm, "made up")
    assert shows_columns(right)
    assert not shows_columns(wrong)


def test_examples_are_a_function_of_their_address() -> None:
    """The same address gives the same bytes, and every example meets its own promise."""
    one, two = (make_examples(Run(3).at("specimen", 1), SEEN, SMALL, PLAIN) for _ in range(2))
    assert one
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.expected, b.expected)
        np.testing.assert_array_equal(a.columns_nm, b.columns_nm)
        assert shows_columns(a)
        edge_nm = a.expected.shape[0] * a.pixel_size_nm
        # at least the task's border inside the frame, but for the drift between frames
        assert (a.columns_nm > 0.0).all()
        assert (a.columns_nm < edge_nm).all()
        assert a.family in SEEN


def test_counts_have_the_mean_and_the_variance_of_the_dose() -> None:
    """Poisson: mean and variance of the counts are dose times the expectation at 1 e/Å²."""
    flat = Example(np.full((200, 200), 0.04, np.float32), 0.02, "bright", np.zeros((0, 2)), "none")
    counts = flat.counts(50.0, np.random.default_rng(5)).astype(float)
    # 40 000 pixels of mean 2: standard errors 0.007 of the mean, 0.016 of the variance
    np.testing.assert_allclose(counts.mean(), 2.0, atol=0.03)
    np.testing.assert_allclose(counts.var(), 2.0, atol=0.07)


def test_what_is_kept_back_shares_no_structure_with_training() -> None:
    """No name, and no space group with the same sites, is on both sides."""
    assert not set(SEEN) & set(UNSEEN)
    seen = {(f.space_group, f.sites) for f in SEEN.values()}
    assert not seen & {(f.space_group, f.sites) for f in UNSEEN.values()}


def test_resolution_is_the_information_limit_or_the_aperture() -> None:
    """300 kV, 1.9687 pm: sqrt(pi lambda 4 nm / 2) = 0.1112 nm; lambda / 15 mrad = 0.1312 nm."""
    for aperture_mrad, limit_nm in ((40.0, 0.1112), (15.0, 0.1312)):
        optics = ImagingOptics(focal_spread_nm=4.0, aperture_mrad=aperture_mrad)
        np.testing.assert_allclose(resolution_nm(optics, 300), limit_nm, atol=1e-4)


@pytest.mark.parametrize("index", range(4))
def test_scenes_keep_columns_as_far_apart_as_the_lens_shows_them(index: int) -> None:
    """Heavy columns of more than one atom stand farther apart than the resolution."""
    calm = TRAINING.model_copy(update={"tilt_mrad": 0.0, "film_share": 0.0})
    scene = draw(Run(11).at("scene", index), UNSEEN, calm, PLAIN)
    planned = scene.tem.plan(scene.specimen, scene.run)
    columns = find_truth_columns(planned.atoms)
    asked = (2 * columns["number"] >= columns["number"].max()) & (columns["extent_nm"] < 0.02)
    asked &= columns["n_atoms"] > 2
    at = np.column_stack([columns["x_nm"], columns["y_nm"]])[asked]
    distance = np.hypot(*(at[:, None] - at).transpose(2, 0, 1))
    np.fill_diagonal(distance, np.inf)
    nearest = distance.min(axis=1)
    limit = max(0.12, resolution_nm(scene.tem.optics, scene.tem.energy_kev))
    # but for columns of two grains at their boundary
    assert np.quantile(nearest, 0.1) > 0.97 * limit


def test_pooled_scores_are_those_of_all_images_together() -> None:
    """Two images: 3 hits of 4 claims and 5 targets, 1 of 1 and 5: P 4/5, R 4/10, F1 8/15."""
    counted = np.zeros((2, 2, 8, 4))
    counted[0, :], counted[1, :] = (3, 4, 5, 3e-4), (1, 1, 5, 1e-4)
    learned = Result("two images", counted).table()["learned"]
    assert learned["precision"][0] == 0.8
    assert learned["recall"][0] == 0.4
    assert learned["f1"][0] == round(8 / 15, 3)
    assert learned["rmse_pm"][0] == 10.0
    nothing = Result("blank", np.zeros((1, 2, 8, 4))).table()["classical"]
    assert nothing["precision"] == [None] * 8


def test_the_learner_learns() -> None:
    """Twenty steps on one small batch lower its loss by a third."""
    torch = pytest.importorskip("torch")
    example, rng = picture(0.02), np.random.default_rng(6)
    few = training.batch([example], rng, size=2, crop_px=64)
    learner = training.Learner(torch, Run(1), steps=1000)
    losses = [learner.step(*few) for _ in range(40)]
    assert losses[-1] < 0.67 * losses[0]


def test_training_without_pytorch_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Exit code 2, and the line says what to install."""
    monkeypatch.setitem(sys.modules, "torch", None)
    ran = CliRunner().invoke(main, ["train", "columns", "-o", str(tmp_path / "w.npz")])
    assert ran.exit_code == 2
    assert "nanophantom[ml]" in ran.output


@pytest.mark.slow
def test_training_writes_weights_and_their_recipe(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two runs of three steps: the file is there, and equal seeds give equal weights."""
    pytest.importorskip("torch")
    monkeypatch.setattr(training, "FIRST_SPECIMENS", 1)
    monkeypatch.setattr(training, "CALIBRATION_SPECIMENS", 2)
    one, two = (training.train(tmp_path / f"{i}.npz", seed=5, steps=3) for i in range(2))
    assert one.recipe["steps"] == 3
    for name, weight in one.weights.items():
        np.testing.assert_array_equal(two.weights[name], weight)
