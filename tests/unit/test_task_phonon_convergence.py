"""The task phonon-convergence and its analysis, on images whose scatter is known."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nanophantom.analysis.phonon_convergence import estimate
from nanophantom.simcore.runs import Run
from nanophantom.validation.tasks import find_task

TASK = find_task("phonon-convergence")
NUMBERS = [1, 2, 4, 8, 16, 32]
SETTINGS = {"configurations_of_frame": NUMBERS, "pixel_size_nm": 0.02}
MEAN, SIGMA, SIDE = 50.0, 5.0, 40
"""Of a pixel: a single configuration is off by 10 % of the mean, 100 are needed for 1 %."""


def observed(n_held_back=64, seed=3, sigma=SIGMA):
    """Return a dataset of independent configurations with Gaussian scatter."""
    rng = np.random.default_rng(seed)
    each = MEAN + sigma * rng.standard_normal((32 + n_held_back, SIDE, SIDE))
    images = np.stack([each[:n].mean(axis=0) for n in NUMBERS]).astype(np.float32)
    tables = {
        "converged": {"haadf": each[32:].mean(axis=0)},
        "scatter": {"haadf": each[32:].std(axis=0, ddof=1)},
        "converged_over": {"n_configurations": np.array([n_held_back])},
        "columns": {"x_nm": np.array([0.2, 0.6]), "y_nm": np.array([0.2, 0.6]),
                    "number": np.array([38, 22])},
    }  # fmt: skip
    return SimpleNamespace(
        n_frames=6,
        settings=SETTINGS,
        signals=("haadf",),
        signal=lambda name, a=0, b=None: images[a:b],
        truth_tables=tuple(tables),
        truth=lambda name: tables[name],
    )


def test_scatter_of_known_size_is_estimated_from_nested_averages():
    """10 % a configuration: 10 / sqrt(N) %, 100 for one percent, exponent -1/2."""
    found = estimate(observed().signal("haadf"), SETTINGS)
    # 5 degrees of freedom at each of 1600 pixels: the estimate is known to 0.8 %
    np.testing.assert_allclose(found["error"], 0.1 / np.sqrt(NUMBERS), rtol=0.03)
    np.testing.assert_allclose(found["n_for_one_percent"], 100, rtol=0.06)
    np.testing.assert_allclose(found["exponent"], -0.5, atol=0.02)
    np.testing.assert_array_equal(found["block_size"], [1, 1, 2, 4, 8, 16])
    np.testing.assert_allclose(found["block_error"], 0.1 / np.sqrt([1, 1, 2, 4, 8, 16]), rtol=0.08)


def test_difference_of_n_and_2n_is_the_error_of_2n():
    """The rule of thumb in the docstring."""
    images = observed().signal("haadf").astype(float)
    for j in range(5):
        seen = np.sqrt(np.mean((images[j] - images[j + 1]) ** 2)) / MEAN
        np.testing.assert_allclose(seen, 0.1 / np.sqrt(NUMBERS[j + 1]), rtol=0.06)


def test_the_analysis_is_graded_as_right():
    """All ratios near one, all honest."""
    data = observed()
    scores = TASK.grade(estimate(data.signal("haadf"), SETTINGS), data)
    assert scores["honest"].value == 1
    assert scores["worst"].value < 1.05
    np.testing.assert_allclose([scores["ratio"].value, scores["needed"].value], 1, atol=0.05)


def test_true_error_leaves_the_references_own_error_out():
    """With as few as 4 configurations in the reference the truth at N = 32 stays 10 / sqrt(32) %.

    Left in, it would be sqrt(1 + 32 / 4) = 3 times as large.
    """
    said = {"n_configurations": NUMBERS, "error": [0.1] * 6, "n_for_one_percent": [100.0] * 6}
    true = TASK.compare(said, observed(n_held_back=4)).true[""]
    np.testing.assert_allclose(true[-1], 0.1 / np.sqrt(32), rtol=0.15)
    np.testing.assert_allclose(true[0], 0.1, rtol=0.06)


@pytest.mark.parametrize(("factor", "honest"), [(1.4, 1.0), (1.6, 0.0), (1 / 1.6, 0.0)])
def test_wrong_errors_are_seen(factor, honest):
    """Honest within a factor of 1.5, above or below; the ratio tells the factor."""
    said = {
        "n_configurations": NUMBERS,
        "error": factor * 0.1 / np.sqrt(NUMBERS),
        "n_for_one_percent": np.full(6, 100 * factor**2),
    }
    scores = TASK.grade(said, observed())
    assert scores["honest"].value == honest
    np.testing.assert_allclose(scores["ratio"].value, factor, rtol=0.04)
    np.testing.assert_allclose(scores["needed"].value, factor**2, rtol=0.06)
    assert scores["exponent"].value is None


def test_an_error_that_does_not_fall_is_seen():
    """Who says 10 % for every N is honest once or twice only."""
    said = {"n_configurations": NUMBERS, "error": [0.1] * 6, "n_for_one_percent": [100.0] * 6}
    scores = TASK.grade(said, observed())
    assert scores["honest"].value == pytest.approx(2 / 6)
    np.testing.assert_allclose(scores["worst"].value, np.sqrt(32), rtol=0.05)


def test_answers_that_break_the_contract_are_refused():
    """Other numbers of configurations, and errors that aren't positive."""
    said = {"n_configurations": [1, 2], "error": [0.1, 0.1], "n_for_one_percent": [9.0, 9.0]}
    with pytest.raises(ValueError, match="one row a frame"):
        TASK.grade(said, observed())
    said = {"n_configurations": NUMBERS, "error": [0.0] * 6, "n_for_one_percent": [9.0] * 6}
    with pytest.raises(ValueError, match="wants error above zero"):
        TASK.grade(said, observed())
    with pytest.raises(ValueError, match="must rise"):
        estimate(np.ones((2, 4, 4)), {"configurations_of_frame": [4, 2]})
    with pytest.raises(ValueError, match="two frames or more"):
        estimate(np.ones((1, 4, 4)), {"configurations_of_frame": [4]})


def test_figures_are_drawn():
    """Images, the curve, and the kinds of columns."""
    data = observed()
    said = estimate(data.signal("haadf"), SETTINGS)
    plates = TASK.figures(data, said, TASK.grade(said, data))
    assert len(plates) == 3
    for plate in plates:
        FigureCanvasAgg(plate.figure).draw()


# --- the knob of the instrument ------------------------------------------------------------------


def study(**changes):
    """Return a tiny scan of one layer of strontium titanate: a study of convergence."""
    from nanophantom.instruments._scanning import Calculation, Scan
    from nanophantom.instruments.stem import STEM
    from nanophantom.simcore.electrons.optics import ProbeOptics
    from nanophantom.simcore.electrons.settings import Multislice
    from nanophantom.simcore.electrons.stem.detectors import AnnularDetector

    values = {
        "energy_kev": 100.0,
        "probe": ProbeOptics(semiangle_mrad=15.0),
        "detectors": (AnnularDetector(name="haadf", inner_mrad=30.0, outer_mrad=50.0),),
        "scan": Scan(width_px=8, height_px=6, pixel_size_nm=0.05, n_frames=3),
        "shot_noise": False,
        "configurations_of_frame": (1, 2, 3),
        "multislice": Multislice(thermal_configurations=5, margin_nm=0.1),
        "calculation": Calculation(method="scattering-matrix"),
    }
    return STEM(**values | changes)


def test_frames_average_the_first_configurations_and_truth_the_others():
    """N I_N - (N-1) I_(N-1) is one configuration; all five make up frame 3 and the reference."""
    from nanophantom.samples.crystal import Crystal

    specimen = Crystal.small().make(Run(1))
    acquisition = study().plan(specimen, Run(1))
    parts = acquisition.make_parts()
    images = [acquisition.expose(i, parts).signals["haadf"].astype(float) for i in range(3)]
    truth = acquisition.truth(parts)
    everything = (3 * images[2] + 2 * truth["converged"]["haadf"]) / 5
    np.testing.assert_allclose(everything, truth["noise_free"]["haadf"], rtol=1e-5)
    assert truth["converged_over"]["n_configurations"].tolist() == [2]
    assert np.abs(images[0] - images[1]).max() > 1e-3 * images[0].mean()
    # two values: half their difference is the mean's distance, sqrt(1/2) of it the deviation
    assert truth["scatter"]["haadf"].mean() > 0
    assert acquisition.settings()["configurations_of_frame"] == [1, 2, 3]
    assert {"converged", "scatter", "converged_over"} <= set(acquisition.truth_outline())


def test_impossible_studies_are_refused():
    """Another number of frames, more configurations than there are."""
    with pytest.raises(ValueError, match="asks for one a frame"):
        study(configurations_of_frame=(1, 2))
    with pytest.raises(ValueError, match="asks for 6 thermal configurations; multislice has 5"):
        study(configurations_of_frame=(1, 2, 6))
