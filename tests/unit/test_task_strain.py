"""The task strain: its truth, errors of known size, the limit, the adapters, what is refused."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nanophantom.analysis import strain_map
from nanophantom.analysis.known_crystal import KnownCrystal
from nanophantom.simcore.strain_fields import HoleInSheet, MisfittingSphere, UniformStrain
from nanophantom.validation.tasks import find_task
from nanophantom.validation.true_strain import MeanColumns, TrueStrain

TASK = find_task("strain")
PIXEL_NM, SHAPE, DRIFT_NM = 0.015, (300, 320), (0.03, -0.02)
SPACING_NM = 0.2
CRYSTAL = {
    "cell_nm": (SPACING_NM * np.eye(3)).tolist(),
    "numbers": [79],
    "positions_nm": [[0.0, 0.0, 0.0]],
    "b_factors_A2": [0.5],
}
MIDDLE_NM = np.array([(SHAPE[1] - 1) / 2, (SHAPE[0] - 1) / 2]) * PIXEL_NM
BALL = MisfittingSphere(2.0, 4.0, 0.03, 170.0, 280.0, 60.0, x_nm=0.1, y_nm=-0.1, z_nm=2.0)
NONE = np.empty((0, 3)), np.empty(0)


def places(field):
    """Return where the nodes of a square lattice come to stand, from the specimen's origin."""
    node = SPACING_NM * np.stack(np.meshgrid(*2 * [np.arange(-14, 15)]), axis=-1).reshape(-1, 2)
    shown = MeanColumns(field, *NONE) if isinstance(field, MisfittingSphere) else field
    return node + np.column_stack(shown.displacement(*node.T))


def observed(field, frames=3, counts=400.0, width_nm=0.04):
    """Return what a grader may ask of a dataset: Gaussian columns on a strained lattice."""
    at = places(field) + MIDDLE_NM
    size = PIXEL_NM * np.array(SHAPE[::-1])
    at = at[np.isfinite(at).all(axis=1) & (at > -0.1).all(axis=1) & (at < size + 0.1).all(axis=1)]
    y, x = (np.arange(n) * PIXEL_NM for n in SHAPE)
    bell_x = np.exp(-((x[None] - at[:, :1]) ** 2) / 2 / width_nm**2)
    bell_y = np.exp(-((y[None] - at[:, 1:]) ** 2) / 2 / width_nm**2)
    image = 0.2 * counts + counts * bell_y.T @ bell_x
    n = len(at)
    tables = {
        "specimen_strain_field": field.table(),
        "columns": {
            "x_nm": at[:, 0], "y_nm": at[:, 1], "n_atoms": np.full(n, 9),
            "number": np.full(n, 79), "extent_nm": np.zeros(n),
        },
        "drift": {"dx_nm": np.full(frames, DRIFT_NM[0]), "dy_nm": np.full(frames, DRIFT_NM[1]),
                  "t_s": np.arange(frames)},
        "noise_free": {"image": image},
    }  # fmt: skip
    rng = np.random.default_rng(7)
    moved = 0.2 * counts + counts * (
        np.exp(-((y[None] - at[:, 1:] - DRIFT_NM[1]) ** 2) / 2 / width_nm**2).T
        @ np.exp(-((x[None] - at[:, :1] - DRIFT_NM[0]) ** 2) / 2 / width_nm**2)
    )
    stack = rng.poisson(np.broadcast_to(moved, (frames, *SHAPE))).astype(np.uint16)
    settings = {"pixel_size_nm": PIXEL_NM, "contrast": "bright", "crystal": CRYSTAL}
    return SimpleNamespace(
        n_frames=frames,
        settings=settings,
        signals=("image",),
        signal=lambda name, a=0, b=None: stack[a:b],
        truth_tables=tuple(tables),
        truth=lambda table: tables[table],
        measured=lambda: SimpleNamespace(
            signals={"image": SimpleNamespace(data=stack)}, settings=settings
        ),
    )


UNIFORM = UniformStrain(0.01, -0.005, 0.004)
PLAIN = observed(UNIFORM)


def answer(data=PLAIN, exx=0.01, eyy=-0.005, exy=0.004, **more):
    columns = data.truth("columns")
    at = columns["x_nm"] + DRIFT_NM[0], columns["y_nm"] + DRIFT_NM[1]
    ones = np.ones(len(at[0]))
    told = {"x_nm": at[0], "y_nm": at[1], "exx": exx * ones, "eyy": eyy * ones, "exy": exy * ones}
    return told | {name: value * ones for name, value in more.items()}


def test_perfect_answer_has_perfect_scores():
    """The true strain at every column: no error, every column answered."""
    scores = TASK.grade(answer(), PLAIN)
    assert scores["answered"].value == 1
    assert scores["rmse"].value < 1e-9


def test_common_error_is_bias_in_percent():
    """All exx 0.002 too large: 0.2 % of one component in three, none of the others."""
    scores = TASK.grade(answer(exx=0.012), PLAIN)
    np.testing.assert_allclose(scores["rmse.exx"].value, 0.2, rtol=1e-9)
    np.testing.assert_allclose(scores["rmse"].value, 0.2 / np.sqrt(3), rtol=1e-9)
    np.testing.assert_allclose(scores["bias"].value, 0.2 / np.sqrt(3), rtol=1e-9)
    assert scores["rmse.eyy"].value < 1e-9
    assert scores["spread"].value < 1e-9


def test_coverage_is_that_of_the_quoted_uncertainties():
    """Errors drawn with the sigma that is quoted: 95 % held; half of it quoted: 67 %."""
    rng = np.random.default_rng(5)
    told = answer()
    for part in ("exx", "eyy", "exy"):
        told[part] = told[part] + 0.001 * rng.standard_normal(len(told[part]))
    for factor, expected in ((1.0, 0.95), (0.5, 0.673)):
        quoted = {f"sigma_{p}": np.full(len(told["exx"]), factor * 1e-3) for p in
                  ("exx", "eyy", "exy")}  # fmt: skip
        coverage = TASK.grade(told | quoted, PLAIN)["coverage"].value
        np.testing.assert_allclose(coverage, expected, atol=0.03)


def test_limit_is_that_of_a_fit_to_nine_columns():
    """Nodes -1, 0, 1 along x, three rows: var exx = s^2 / (6 a^2), s the bound of a column."""
    from nanophantom.validation.limits import position_limit

    limit = TASK.compare(answer(), PLAIN).limit[:, 0]
    columns = PLAIN.truth("columns")
    bound = position_limit(
        3 * PLAIN.truth("noise_free")["image"], columns["x_nm"], columns["y_nm"], PIXEL_NM
    )
    s = float(np.median(bound.radial_nm)) / np.sqrt(2)
    np.testing.assert_allclose(np.median(limit), s / (np.sqrt(6) * SPACING_NM), rtol=0.03)


def test_one_easy_place_doesn_t_answer():
    """A single place: perfect there, and nearly nothing answered."""
    one = {name: values[:1] for name, values in answer().items()}
    assert TASK.grade(one, PLAIN)["answered"].value < 0.02


def test_nothing_and_places_without_matter_are_graded():
    """No place at all, or all of them in a hole: no error is defined, nothing breaks."""
    hole = HoleInSheet(diameter_nm=2.0, eyy=0.01)
    data = observed(hole)
    inside = {k: np.zeros(3) for k in ("exx", "eyy", "exy")}
    middle = MIDDLE_NM + DRIFT_NM
    inside |= {"x_nm": middle[0] + np.array([0, 0.3, 0.6]), "y_nm": np.full(3, middle[1])}
    for told in (inside, {k: v[:0] for k, v in inside.items()}):
        scores = TASK.grade(told, data)
        assert scores["rmse"].value is None
        assert scores["answered"].value == 0


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"exx": np.nan}, "finite"),
        ({"sigma_exx": 1e-3}, "all of"),
        ({"sigma_exx": -1e-3, "sigma_eyy": 1e-3, "sigma_exy": 1e-3}, "above zero"),
    ],
)
def test_wrong_answers_are_refused(change, complaint):
    """Not a number, one uncertainty alone, a negative one: one line says what is wrong."""
    with pytest.raises(ValueError, match=complaint):
        TASK.grade(answer(**change), PLAIN)


def test_true_strain_of_a_ball_is_the_closed_form_of_columns():
    """The numerical gradient of mean displacements against MisfittingSphere.column_strain."""
    rng = np.random.default_rng(2)
    x, y = rng.uniform(-1.25, 1.25, (2, 200))
    mean = MeanColumns(BALL, *NONE).strain(x, y)
    for got, want in zip(mean[:3], BALL.column_strain(x, y)[:3], strict=True):
        np.testing.assert_allclose(got, want, atol=2e-6)


def test_true_strain_of_a_cube_is_that_of_its_chords():
    """Facets at 1.5 nm all around: the thickness is even, so the mean strain is the columns'."""
    normals = np.concatenate([np.eye(3), -np.eye(3)])
    cube = MeanColumns(BALL, normals, np.full(6, 1.5))
    x, y = np.array([0.1, 0.9, -1.0]), np.array([-0.1, 0.7, 0.4])
    low, high = cube.faces(x, y)
    np.testing.assert_allclose((low, high), ([0.5] * 3, [3.5] * 3))
    want = BALL.mean_strain(x, y, low, high)
    np.testing.assert_allclose(cube.strain(x, y)[:3], want[:3], atol=1e-6)
    assert np.isnan(cube.strain(1.7, 0.0)[0])


def test_places_near_interface_and_surface_are_told():
    """A ball's core ends at 1 nm, the ball at 2 nm from (0.1, -0.1): 0.4 nm around is near."""
    data = observed(BALL)
    field = TrueStrain.of(data, BALL.table(), SHAPE)
    np.testing.assert_allclose(field.centre_nm, MIDDLE_NM + DRIFT_NM + [0.1, -0.1])
    x, y = field.centre_nm
    radius = np.array([0.3, 0.8, 1.5, 1.9])
    np.testing.assert_array_equal(field.near_edge(x + radius, np.full(4, y)), [0, 1, 0, 1])


def test_the_middle_of_a_hole_has_no_strain():
    """Everywhere in a hole, its very middle too, the true strain is not a number."""
    hole = HoleInSheet(diameter_nm=2.0, eyy=0.01)
    field = TrueStrain(hole, hole, (3.0, 3.0))
    x = 3.0 + np.array([0.0, 1e-9, 0.01, 0.5, 0.9])
    assert np.isnan(field.at(x, np.full(5, 3.0))[0]).all()
    assert np.isfinite(field.at(4.2, 3.0)[0])


@pytest.mark.parametrize(
    ("find", "largest"), [(strain_map.find, 0.25), (strain_map.by_geometric_phase, 0.15)]
)
def test_adapters_measure_uniform_strain_relative_to_the_known_crystal(find, largest):
    """Both algorithms: no bias, honest uncertainties, and errors near what the counts leave."""
    told = find(PLAIN.signal("image"), PLAIN.settings)
    scores = TASK.grade(told, PLAIN)
    assert scores["rmse"].value < largest
    assert scores["bias"].value < 0.02
    assert 0.85 < scores["coverage"].value <= 1
    assert scores["answered"].value > 0.65  # GPA leaves out four resolutions at the edges


def test_without_a_crystal_the_image_is_its_own_reference():
    """Uniform strain is then invisible: the median strain is zero."""
    settings = {"pixel_size_nm": PIXEL_NM, "contrast": "bright"}
    told = strain_map.find(PLAIN.signal("image", 0, 1), settings)
    assert abs(np.median(told["exx"])) < 5e-4


def test_projected_lattice_of_gold_along_110():
    """fcc along [110]: columns a sqrt(3/8) apart, two to a cell of a x a / sqrt 2."""
    a = 0.408
    primitive = a * np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    turn = np.array([[1, -1, 0], [0, 0, 2**0.5], [-1, -1, 0]]) / 2**0.5
    vectors = strain_map.projected_lattice(
        KnownCrystal(primitive @ turn.T, np.array([79]), np.zeros((1, 3)), np.zeros(1))
    )
    np.testing.assert_allclose(np.hypot(*vectors.T), a * np.sqrt(3 / 8), rtol=1e-9)
    np.testing.assert_allclose(abs(np.linalg.det(vectors)), a**2 / np.sqrt(8), rtol=1e-9)


def test_off_a_zone_axis_nothing_is_projected():
    """A crystal that shows no columns is refused."""
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0]
    with pytest.raises(ValueError, match="zone axis"):
        strain_map.projected_lattice(
            KnownCrystal(0.2 * turn, np.array([79]), np.zeros((1, 3)), np.zeros(1))
        )


def test_figures_are_drawn():
    """Maps, profile and the second algorithm's maps of a strained particle draw."""
    data = observed(BALL)
    told = strain_map.find(data.signal("image"), data.settings)
    plates = TASK.figures(data, told, TASK.grade(told, data))
    titles = [plate.title for plate in plates]
    assert "Strain maps" in titles
    assert "Strain maps by geometric phase" in titles
    for plate in plates:
        FigureCanvasAgg(plate.figure).draw()
