"""The task aberrations: coefficients graded, angles in closed form, refusals, and the limit."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from nanophantom.analysis.aberration_tableau import FOURTH_ORDER, THIRD_ORDER, orders_for
from nanophantom.analysis.tilted_aberrations import apparent
from nanophantom.simcore.electrons.aberrations import ORDERS, chi
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.validation.tableau_limit import aberration_limit, information, ring_power
from nanophantom.validation.tasks import find_task

TASK = find_task("aberrations")
ENERGY = 300.0
LAM_NM = float(wavelength(ENERGY)) / 10
TILTS = [(0.0, 0.0), *((12 * np.cos(a), 12 * np.sin(a)) for a in np.arange(6) * np.pi / 3)]
LENS_NM = {"C10": (-250.0, 0.0), "C12": (17.0, 40.0), "C21": (180.0, 200.0), "C30": (900.0, 0.0)}
"""(strength, azimuth in degrees); nominally -250 nm of focus and nothing else."""


def observed(drift_nm=0.0, **tables):
    """Return what a grader may ask of a dataset: a lens and seven frames of a film."""
    n = len(TILTS)
    names = list(ORDERS)
    strength = np.array([LENS_NM.get(name, (0.0, 0.0))[0] for name in names])
    azimuth = np.array([LENS_NM.get(name, (0.0, 0.0))[1] for name in names])
    truth = {
        "aberrations": {
            "name": np.array(names),
            "nominal_nm": np.where(np.array(names) == "C10", -250.0, 0.0),
            "nominal_deg": np.zeros(len(names)),
            "actual_nm": strength,
            "actual_deg": azimuth,
        },
        "optics": {
            "c10_nm": -250.0 + drift_nm * np.arange(n),
            "c12_nm": np.full(n, 17.0),
            "phi12_deg": np.full(n, 40.0),
            "c21_nm": np.full(n, 180.0),
            "phi21_deg": np.full(n, 200.0),
        },
        "specimen_spectrum": {
            "k_per_nm": np.linspace(0, 40, 41),
            "power_V2_nm4": 0.02 * np.exp(-np.linspace(0, 8, 41)),
        },
        **tables,
    }
    counts = np.random.default_rng(1).poisson(250, (n, 96, 96)).astype(np.uint16)
    return SimpleNamespace(
        n_frames=n,
        settings={
            "pixel_size_nm": 0.05, "energy_kev": ENERGY, "beam_tilts_mrad": TILTS,
            "dose_e_per_A2": 1000.0, "focal_spread_nm": 2.5, "convergence_mrad": 0.1,
            "aperture_mrad": None,
        },
        signals=("image",),
        signal=lambda name, a=0, b=None: counts[a:b],
        truth_tables=tuple(truth),
        truth=lambda table: truth[table],
    )  # fmt: skip


DATA = observed()


def answer(lens_nm=LENS_NM, sign=1.0, sigma_nm=None, **add_nm):
    """Return a lens as rows; add_nm changes real parts by name."""
    rows = []
    for name, (strength, azimuth) in lens_nm.items():
        n, m = ORDERS[name]
        value = sign * strength * np.exp(1j * m * np.radians(azimuth)) + add_nm.get(name, 0.0)
        rows.append((n, m, value.real, value.imag if m else 0.0))
    columns = dict(
        zip(("order", "multiplicity", "real_nm", "imag_nm"), np.array(rows).T, strict=True)
    )
    if sigma_nm is not None:
        columns |= {f"sigma_{part}_nm": np.full(len(rows), sigma_nm) for part in ("real", "imag")}
    return columns


def test_the_lens_itself_scores_perfectly():
    """No error in any coefficient, and the phase is flat as far as anybody asks."""
    values = TASK.grade(answer(), DATA).values()
    assert values["flat_angle"] > 500
    assert values["worst_error"] < 1e-9
    for name in LENS_NM:
        assert values[f"{name}_error"] < 1e-9


def test_a_lens_of_wrong_sign_fails():
    """All signs turned: twice as wrong as no measurement, and flat to a smaller angle."""
    values = TASK.grade(answer(sign=-1.0), DATA).values()
    assert values["flat_angle"] < values["flat_angle_before"]
    assert values["worst_error"] > 100
    assert values["C12_error"] == pytest.approx(34)


def test_an_error_of_known_size_has_its_closed_form():
    """3 nm of focus: that error, and pi C10 alpha^2 / lambda = pi / 4 at the flat angle."""
    values = TASK.grade(answer(C10=3.0), DATA).values()
    assert values["C10_error"] == pytest.approx(3)
    assert values["flat_angle"] == pytest.approx(1e3 * np.sqrt(LAM_NM / 4 / 3), rel=1e-3)
    # in units of 2 lambda / (8 alpha^2) at 20 mrad
    assert values["worst_error"] == pytest.approx(3 / (LAM_NM / 4 / 0.02**2), rel=1e-6)


def test_what_is_not_returned_is_left_at_its_nominal_value():
    """Only the focus answered: the rest of the lens stays, and the flat angle with it."""
    some = {name: LENS_NM[name] for name in ("C10", "C21")}
    whole, part = (TASK.grade(answer(lens), DATA) for lens in (LENS_NM, some))
    assert part["flat_angle"].value < 10 < whole["flat_angle"].value
    assert any("C12 (twofold astigmatism)" in note for note in part.notes)
    nothing = {name: np.zeros(0) for name in TASK.columns}
    values = TASK.grade(nothing, DATA).values()
    assert values["flat_angle"] == pytest.approx(values["flat_angle_before"])
    assert values["worst_error"] is None


def test_the_truth_is_the_mean_lens_from_the_middle_of_the_specimen():
    """A focus that drifts by 1 nm a frame is 3 nm on in the mean; half of 4 nm of atoms adds 2."""
    drifting = observed(drift_nm=1.0)
    assert TASK.grade(answer(C10=3.0), drifting)["C10_error"].value == pytest.approx(0, abs=1e-9)
    thick = observed(atoms={"z_nm": np.array([0.0, 1.0, 3.0, 4.0])})
    assert TASK.grade(answer(C10=2.0), thick)["C10_error"].value == pytest.approx(0, abs=1e-9)


def test_coverage_tells_honest_from_boastful_uncertainties():
    """Errors of 1 nm in three parts of six: within 1.96 sigma of 1 nm, not of 0.4 nm."""
    honest, boast = (
        TASK.grade(answer(sigma_nm=s, C10=1.0, C12=1.0, C21=-1.0), DATA)["coverage"]
        for s in (1.0, 0.4)
    )
    assert (honest.value, honest.n) == (1.0, 6)
    assert boast.value == pytest.approx(3 / 6)
    assert TASK.grade(answer(), DATA)["coverage"].value is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"multiplicity": [0, 2, 2, 0]}, "no coefficient of order 2 and multiplicity 2"),
        ({"order": [1, 1, 1, 3], "multiplicity": [0, 2, 2, 0]}, "C12 comes twice"),
        ({"imag_nm": [1.0, 0.0, 0.0, 0.0]}, "C10 has no azimuth"),
        ({"sigma_real_nm": np.zeros(4), "sigma_imag_nm": np.ones(4)}, "sigmas above zero"),
    ],
)
def test_answers_that_break_the_contract_are_refused(change, reason):
    with pytest.raises(ValueError, match=reason):
        TASK.grade(answer() | {k: np.asarray(v) for k, v in change.items()}, DATA)


def test_rings_under_a_tilt_are_those_of_the_apparent_aberrations():
    """Full coherence: 4 sin^2 of chi about the tilted axis, to rounding."""
    rng = np.random.default_rng(0)
    kx, ky = rng.uniform(-6, 6, (2, 300))
    lens = {"C10": -2500.0, "C12": 200.0, "phi12": 0.4, "C21": 2e3, "phi21": 2.0, "C30": 1e5}
    for tilt in TILTS[:3]:
        seen = chi(apparent(lens, tilt), kx / 10, ky / 10, ENERGY)
        power = ring_power(lens, tilt, kx, ky, ENERGY, 0.0, 0.0)
        np.testing.assert_allclose(power, 4 * np.sin(seen) ** 2, atol=1e-9)


def test_maximum_likelihood_reaches_the_bound_and_does_not_beat_it():
    """150 random spectra, the focus fitted to each: its scatter is the bound's within 12 %."""
    k = np.linspace(1.0, 6.0, 3000)
    film, counting = 0.2 * np.exp(-k / 3), 0.05

    def power(values):
        return film * ring_power({"C10": values[0]}, (0.0, 0.0), k, 0 * k, ENERGY, 2.5, 0.1) + (
            counting
        )

    bound = 1 / np.sqrt(information(power, np.array([-2500.0]), np.array([0.1]))[0, 0])
    rng = np.random.default_rng(6)
    found = []
    for _ in range(150):
        spectrum = power([-2500.0]) * rng.exponential(size=k.size)

        def cost(c10, spectrum=spectrum):
            p = power([c10])
            return np.sum(spectrum / p + np.log(p))

        reach = 6 * bound
        best = minimize_scalar(cost, bounds=(-2500 - reach, -2500 + reach), method="bounded")
        found.append(best.x)
    assert np.std(found) == pytest.approx(bound, rel=0.12)  # 2 sigma of 150 draws
    assert np.mean(found) == pytest.approx(-2500, abs=3 * bound / np.sqrt(150))


def test_the_limit_falls_with_the_root_of_the_area():
    """Twice the view's edge: half the limit; and it stands beside every coefficient."""
    limits = [
        np.sqrt(np.diag(aberration_limit(
            lambda v: {"C10": v[0], "C30": v[1]}, np.array([-2500.0, 9e3]), np.array([1.0, 100.0]),
            TILTS, (n, n), 0.05, lambda k: 0.02 * np.exp(-k / 5), 1000.0, ENERGY, 2.5, 0.1,
        )))
        for n in (96, 192)
    ]  # fmt: skip
    np.testing.assert_allclose(limits[0] / limits[1], 2, rtol=0.1)
    scores = TASK.grade(answer(), DATA)
    assert all(scores[f"{name}_error"].limit > 0 for name in LENS_NM)


def test_tilts_decide_what_is_asked_of_them():
    """One ring gives the third order's axial part; two rings all to the fourth."""
    ring = [(r * np.cos(a), r * np.sin(a)) for r in (12, 24) for a in np.arange(10) * np.pi / 5]
    assert orders_for(TILTS) == orders_for(None) == THIRD_ORDER
    assert orders_for([(0.0, 0.0), *ring]) == FOURTH_ORDER


def test_every_figure_has_words():
    """Four plates with titles and captions."""
    estimates = answer(C10=1.0, sigma_nm=1.0)
    plates = TASK.figures(DATA, estimates, TASK.grade(estimates, DATA))
    assert [plate.title for plate in plates] == [
        "Tableau: measured and fitted rings", "Phase of the lens",
        "Coefficients, true and found", "Probe through the same lens",
    ]  # fmt: skip
    assert all(len(plate.caption) > 100 for plate in plates)
