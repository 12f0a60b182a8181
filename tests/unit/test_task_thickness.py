"""The task thickness: errors of known size, the limit of counting, and what is refused."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nanophantom.validation.limits import thickness_limit
from nanophantom.validation.tasks import find_task

TASK = find_task("thickness")
THICK_NM = np.linspace(4.0, 30.0, 14)
COUNTS, PERIOD_NM, CONTRAST = 100.0, 20.0, 0.4


def expected_patterns(pixels=16):
    """Return patterns whose every pixel beats with thickness, each with a phase of its own."""
    phase = np.linspace(0, 2 * np.pi, pixels * pixels, endpoint=False).reshape(pixels, pixels)
    turn = 2 * np.pi * THICK_NM[:, None, None] / PERIOD_NM
    return COUNTS * (1 + CONTRAST * np.sin(turn + phase))


def observed(repeats=2, dtype=np.uint32):
    """Return what a grader may ask of a dataset: some patterns of each thickness."""
    patterns = expected_patterns()
    n = repeats * len(THICK_NM)
    tables = {
        "thickness": {"frame": np.arange(n), "thickness_nm": np.repeat(THICK_NM, repeats)},
        "patterns": {"thickness_nm": THICK_NM, "expected": patterns},
    }
    return SimpleNamespace(
        n_frames=n,
        settings={"pixel_size_mrad": 1.0},
        signals=("image",),
        signal=lambda name, a=0, b=None: np.repeat(patterns, repeats, 0).astype(dtype)[a:b],
        truth_tables=tuple(tables),
        truth=lambda table: tables[table],
    )


def answer(error_nm=0.0, **more):
    true = np.repeat(THICK_NM, 2)
    return {"pattern": np.arange(len(true)), "thickness_nm": true + error_nm, **more}


def test_perfect_answer_has_perfect_scores():
    """Every true thickness: no error of any sort, everything answered."""
    values = TASK.grade(answer(), observed()).values()
    assert values["rmse"] == values["error"] == values["bias"] == values["outliers"] == 0
    assert values["answered"] == 1


def test_a_common_error_is_bias_and_its_way_is_told():
    """All 0.3 nm too thin: rmse = error = bias = 0.3 nm, no spread."""
    scores = TASK.grade(answer(-0.3), observed())
    for name in ("rmse", "error", "bias"):
        np.testing.assert_allclose(scores[name].value, 0.3, rtol=1e-9)
    assert scores["spread"].value < 1e-12
    assert "thinner" in scores["bias"].hint


def test_rmse_splits_into_bias_and_spread():
    """rmse^2 = bias^2 + spread^2; errors of 0.1 + 0.2 and 0.1 - 0.2 nm: 0.1 and 0.2."""
    error = 0.1 + 0.2 * np.tile([1, -1], len(THICK_NM))
    rmse = TASK.grade(answer(error), observed())["rmse"]
    np.testing.assert_allclose([rmse.bias, rmse.spread], [0.1, 0.2], rtol=1e-9)
    np.testing.assert_allclose(rmse.value**2, rmse.bias**2 + rmse.spread**2, rtol=1e-9)


def test_another_maximum_is_an_outlier():
    """Seven of 28 answers off by 5 nm: a quarter of outliers."""
    error = np.where(np.arange(28) % 4 == 0, 5.0, 0.0)
    np.testing.assert_allclose(TASK.grade(answer(error), observed())["outliers"].value, 0.25)


def test_patterns_without_an_answer_are_counted():
    """Half of the patterns answered: answered 0.5, and the error is that of the others."""
    half = {name: values[::2] for name, values in answer(0.1).items()}
    scores = TASK.grade(half, observed())
    assert scores["answered"].value == 0.5
    np.testing.assert_allclose(scores["error"].value, 0.1, rtol=1e-9)
    nothing = {name: values[:0] for name, values in half.items()}
    assert TASK.grade(nothing, observed())["rmse"].value is None


def test_coverage_tells_honest_from_boastful_uncertainties():
    """Errors of 0.1 nm: sigma 0.1 nm holds always, 0.04 nm (1.96 of them are 0.078) never."""
    error = 0.1 * np.tile([1, -1], len(THICK_NM))
    honest, boast = (
        TASK.grade(answer(error, sigma_nm=np.full(28, s)), observed())["coverage"].value
        for s in (0.1, 0.04)
    )
    assert (honest, boast) == (1, 0)


def test_limit_is_the_cramer_rao_bound():
    """lambda = N (1 + c sin(2 pi t / p + phi)), all phases: J = M N (2 pi / p)^2 (1 - sqrt(1-c^2)).

    The mean of c^2 cos^2 / (1 + c sin) over the phase is 1 - sqrt(1 - c^2); M = 256 pixels. The
    spline through 2 nm steps of a 20 nm period errs by (2 pi / 10)^4 / 180 = 0.09 %, more at the
    three outermost thicknesses.
    """
    information = 256 * COUNTS * (2 * np.pi / PERIOD_NM) ** 2 * (1 - np.sqrt(1 - CONTRAST**2))
    bound = thickness_limit(expected_patterns(), THICK_NM)
    np.testing.assert_allclose(bound[3:-3], information**-0.5, rtol=2e-3)
    limit = TASK.grade(answer(), observed())["rmse"].limit
    np.testing.assert_allclose(limit, information**-0.5, rtol=0.01)
    assert TASK.grade(answer(), observed(dtype=np.float32))["rmse"].limit is None
    assert np.isinf(thickness_limit(expected_patterns()[:3], THICK_NM[:3])).all()


def test_an_efficient_estimator_reaches_the_limit():
    """The likeliest thickness of 300 drawn patterns scatters as the bound says (4 % known)."""
    rng = np.random.default_rng(4)
    middle = expected_patterns()[7]
    fine = np.linspace(-0.8, 0.8, 321)
    phase = np.linspace(0, 2 * np.pi, 256, endpoint=False)
    turn = 2 * np.pi * (THICK_NM[7] + fine[:, None]) / PERIOD_NM
    model = COUNTS * (1 + CONTRAST * np.sin(turn + phase))
    drawn = rng.poisson(middle.ravel(), (300, 256))
    best = fine[np.argmax(drawn @ np.log(model).T - model.sum(axis=1), axis=1)]
    bound = thickness_limit(expected_patterns(), THICK_NM)[7]
    np.testing.assert_allclose(best.std(), bound, rtol=0.12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pattern": np.arange(28) + 0.5}, "pattern to be whole"),
        ({"pattern": np.arange(28) + 1}, "from 0 to 27"),
        ({"pattern": np.zeros(28)}, "at most once"),
        ({"sigma_nm": np.zeros(28)}, "sigma_nm above zero"),
        ({"thickness_nm": np.full(28, np.nan)}, "all finite"),
    ],
)
def test_what_breaks_the_contract_is_refused(changes, message):
    """Indices that aren't whole, beyond the patterns or doubled; uncertainties of zero; NaN."""
    with pytest.raises(ValueError, match=message):
        TASK.grade({**answer(), **changes}, observed())


def test_figures_without_a_library_show_found_against_true():
    """Settings that name no crystal give no library: only the plot of thicknesses is drawn."""
    data = observed()
    given = answer(0.1, sigma_nm=np.full(28, 0.1))
    plates = TASK.figures(data, given, TASK.grade(given, data))
    assert len(plates) == 1
    FigureCanvasAgg(plates[0].figure).draw()


def test_figures_with_a_library_show_patterns_and_likelihood(monkeypatch):
    """With a library: measured, match and difference; found against true; likelihood."""
    from nanophantom.analysis import cbed_thickness

    patterns = expected_patterns() / expected_patterns().sum()
    monkeypatch.setattr(cbed_thickness, "library_for", lambda *_: (THICK_NM, patterns))
    data = observed()
    given = answer(0.1)
    plates = TASK.figures(data, given, TASK.grade(given, data))
    assert len(plates) == 3
    for plate in plates:
        FigureCanvasAgg(plate.figure).draw()
