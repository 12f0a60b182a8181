"""The task exit-wave: what is forgiven, what is measured, what is refused, and its limit."""

from types import SimpleNamespace

import numpy as np
import pytest

from nanophantom.analysis.exit_wave_restoration import find, without_pixels
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.validation.tasks import find_task
from nanophantom.validation.wave_comparison import Adjustment
from nanophantom.validation.wave_limit import linear_noise

TASK = find_task("exit-wave")
N, PIXEL_NM, ENERGY, APERTURE = 128, 0.025, 300.0, 16.0
LAM_NM = float(wavelength(ENERGY)) / 10
FOCI = np.linspace(-30.0, 20.0, 11)
DRIFT_NM = (0.012, -0.007)
SETTINGS = {
    "pixel_size_nm": PIXEL_NM,
    "energy_kev": ENERGY,
    "aperture_mrad": APERTURE,
    "focal_spread_nm": 2.0,
    "convergence_mrad": 0.2,
    "dose_e_per_A2": 1000.0,
    "defoci_nm": FOCI.tolist(),
}
K = np.hypot(*np.meshgrid(np.fft.fftfreq(N, PIXEL_NM), np.fft.fftfreq(N, PIXEL_NM)))


def wave_of(seed):
    """Columns at places drawn at random, cut at the aperture; and the places."""
    rng = np.random.default_rng(seed)
    at = rng.uniform(0, N * PIXEL_NM, (60, 2))
    y, x = np.indices((N, N)) * PIXEL_NM
    phase = sum(0.6 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * 0.035**2)) for cx, cy in at)
    spectrum = np.fft.fft2(np.exp((1j - 0.15) * phase))
    return np.fft.ifft2(spectrum * (1e-3 * APERTURE / LAM_NM >= K)), at


TRUE, PLACES = wave_of(1)


def observed(**settings):
    """Return what a grader may ask of a dataset."""
    n = len(FOCI)
    names = ["C10", "C12", "C30"]
    tables = {
        "exit_wave": {"real": TRUE.real, "imag": TRUE.imag},
        "drift": {"dx_nm": np.full(n, DRIFT_NM[0]), "dy_nm": np.full(n, DRIFT_NM[1])},
        "focus": {"nominal_nm": FOCI, "actual_nm": FOCI + 0.3},
        "optics": {
            "c10_nm": FOCI + 0.3,
            **{name: np.zeros(n) for name in ("c12_nm", "phi12_deg", "c21_nm", "phi21_deg")},
        },
        "aberrations": {
            "name": np.array(names),
            "actual_nm": np.array([FOCI[0] + 0.3, 0.0, -1e4]),
            "actual_deg": np.zeros(3),
        },
        "columns": {
            "x_nm": PLACES[:, 0],
            "y_nm": PLACES[:, 1],
            "n_atoms": np.full(60, 5),
            "number": np.full(60, 79),
        },
    }
    counts = np.random.default_rng(4).poisson(62.5, (n, N, N)).astype(np.uint16)
    return SimpleNamespace(
        n_frames=n,
        settings=SETTINGS | settings,
        signals=("image",),
        signal=lambda name, a=0, b=None: counts[a:b],
        truth_tables=tuple(tables),
        truth=lambda table: tables[table],
    )


DATA = observed()


def answer(wave):
    """Hand a wave in specimen coordinates in as it lies in frame 0."""
    ky, kx = np.fft.fftfreq(N, PIXEL_NM)[:, None], np.fft.fftfreq(N, PIXEL_NM)[None, :]
    ramp = np.exp(-2j * np.pi * (kx * DRIFT_NM[0] + ky * DRIFT_NM[1]))
    moved = np.fft.ifft2(np.fft.fft2(wave) * ramp)
    return {"wave_real": moved.real.ravel(), "wave_imag": moved.imag.ravel()}


def lens(wave, c10_nm=0.0, c12_nm=0.0, phi12=0.0):
    """See a wave through exp(-i chi) of a focus and a twofold astigmatism."""
    kx, ky = np.meshgrid(np.fft.fftfreq(N, PIXEL_NM), np.fft.fftfreq(N, PIXEL_NM))
    turn = np.cos(2 * (np.arctan2(ky, kx) - phi12))
    chi = np.pi * LAM_NM * K**2 * (c10_nm + c12_nm * turn)
    return np.fft.ifft2(np.fft.fft2(wave) * np.exp(-1j * chi))


def test_the_true_wave_scores_perfectly_whatever_its_factor():
    """The truth moved by the drift, as it is and times 0.7 exp(i): no error, finest resolution."""
    for factor in (1.0, 0.7 * np.exp(1j)):
        values = TASK.grade(answer(factor * TRUE), DATA).values()
        for name in ("wave_error", "wave_error_refocused", "phase_rmse", "amplitude_rmse",
                     "column_phase", "defocus_error", "astigmatism_error"):  # fmt: skip
            assert values[name] < 1e-3, name
        assert values["shift"] < 0.01
        assert values["resolution"] == pytest.approx(LAM_NM / APERTURE * 1e3, rel=1e-6)


def test_a_wave_of_wrong_sign_and_another_wave_fail():
    """No better than no answer: the error of the phase exceeds the phase itself."""
    compared = TASK.compare(answer(TRUE), DATA)
    seen = compared.sight.banded(compared.true)[compared.sight.inside]
    own = np.sqrt(np.mean(np.angle(seen / seen.mean()) ** 2))
    conjugate = TASK.grade(answer(TRUE.conj()), DATA).values()
    other = TASK.grade(answer(wave_of(2)[0]), DATA).values()
    for values in (conjugate, other):
        assert values["wave_error"] > 0.9
        assert values["phase_rmse"] > own
        assert values["resolution"] > 0.3
    flat = TASK.grade(answer(np.ones((N, N), complex)), DATA).values()
    assert flat["wave_error"] == pytest.approx(1, abs=1e-3)


def test_noise_of_known_strength_is_the_error_that_is_scored():
    """White noise: n_band sigma^2 <w^2> / N over the power of the scattered wave, within 5 %."""
    rng = np.random.default_rng(7)
    noise = 0.05 * (rng.standard_normal((N, N)) + 1j * rng.standard_normal((N, N)))
    compared = TASK.compare(answer(TRUE + noise), DATA)
    sight = compared.sight
    power = np.sum(np.abs(sight.spectrum(compared.true)[sight.band]) ** 2)
    share = 2 * 0.05**2 * np.mean(sight.window**2) * sight.band.sum() / N**2
    scores = TASK.grade(answer(TRUE + noise), DATA).values()
    assert scores["wave_error"] == pytest.approx(np.sqrt(share / power), rel=0.05)
    # the part of the noise in the band, half of it in the phase's direction
    amplitude = 0.05 * np.sqrt(sight.band.sum() / N**2)
    assert scores["amplitude_rmse"] == pytest.approx(amplitude, rel=0.06)


def test_errors_of_focus_and_astigmatism_are_told_and_undone():
    """2.5 nm of focus and 0.8 nm of astigmatism at 25°: found within 2 %, and set right."""
    blurred = lens(TRUE, 2.5, 0.8, np.radians(25))
    values = TASK.grade(answer(blurred), DATA).values()
    assert values["defocus_error"] == pytest.approx(2.5, rel=0.02)
    assert values["astigmatism_error"] == pytest.approx(0.8, rel=0.02)
    compared = TASK.compare(answer(blurred), DATA)
    band = compared.sight.band
    there, here = (np.fft.fft2(wave)[band] for wave in (TRUE, blurred))
    share = np.linalg.norm(here - there) / np.linalg.norm(there)
    assert values["wave_error"] == pytest.approx(share, rel=0.1)  # windowed or not
    assert values["wave_error_refocused"] < 0.03
    away = np.degrees(np.arctan2(compared.lens.c12b_nm, compared.lens.c12a_nm)) / 2
    assert away == pytest.approx(25, abs=1)
    assert compared.lens.c10_nm > 0


def test_a_small_shift_is_forgiven_and_told_a_large_one_is_not():
    """40 pm are a score of their own; 0.25 nm spoil the wave."""
    sight = TASK.compare(answer(TRUE), DATA).sight
    near, far = (Adjustment(dx_nm=-d).applied(TRUE, sight) for d in (0.04, 0.25))
    values = TASK.grade(answer(near), DATA).values()
    assert values["shift"] == pytest.approx(40, abs=0.5)
    assert values["wave_error"] < 0.01
    assert TASK.grade(answer(far), DATA)["wave_error"].value > 0.5


def test_the_limit_is_the_scatter_of_least_squares_on_noisy_images():
    """4000 draws of noise, solved one frequency at a time: variances within 8 %."""
    rng = np.random.default_rng(3)
    spread_A, convergence, lam = 20.0, 0.2e-3, 10 * LAM_NM
    foci_A = 10 * FOCI
    lenses = [{"C10": z, "C30": -1e5} for z in foci_A]
    for k_per_nm in (2.5, 6.0):
        k = k_per_nm / 10
        chi = np.pi * lam * k**2 * foci_A + np.pi / 2 * lam**3 * k**4 * -1e5
        slope = 2 * np.pi * lam * k * foci_A + 2 * np.pi * lam**3 * k**3 * -1e5
        damping = (np.pi * lam * k**2 * spread_A) ** 2 / 2 + (convergence / lam * slope) ** 2 / 2
        transfer = 0.9 * np.exp(-1j * chi - damping)
        design = np.stack([transfer, transfer.conj()], axis=1)
        noise = rng.standard_normal((2, len(foci_A), 4000)) * np.sqrt(0.01 / 2)
        found = np.linalg.lstsq(design, noise[0] + 1j * noise[1], rcond=None)[0]
        limit = linear_noise(
            np.array([k_per_nm]), np.zeros(1), lenses, ENERGY, 2.0, 0.2, 0.01, direct=0.9
        )
        for want, got in (
            (limit.wave, found[0]),
            (limit.phase, (found[0] - found[1]) / 2),
            (limit.amplitude, (found[0] + found[1]) / 2),
        ):
            assert np.mean(np.abs(got) ** 2) == pytest.approx(want[0], rel=0.08)


def test_the_limit_stands_beside_the_error_and_falls_with_the_root_of_the_dose():
    """Four times the electrons in as many counts a pixel: half the limit; none without noise."""
    few = TASK.grade(answer(TRUE), DATA)["wave_error"].limit
    more = observed(dose_e_per_A2=4000.0)
    counts = more.signal
    more.signal = lambda name, a=0, b=None: 4 * counts(name, a, b)
    assert TASK.grade(answer(TRUE), more)["wave_error"].limit == pytest.approx(few / 2, rel=1e-9)
    silent = observed()
    silent.signal = lambda name, a=0, b=None: counts(name, a, b).astype(np.float32)
    assert TASK.grade(answer(TRUE), silent)["wave_error"].limit is None


def test_answers_that_do_not_fit_are_refused():
    """Too few pixels, nothing but zeros, or a dataset of one focus."""
    short = {name: values[:-1] for name, values in answer(TRUE).items()}
    with pytest.raises(ValueError, match="one row for each of the 128 x 128 = 16384 pixels"):
        TASK.grade(short, DATA)
    with pytest.raises(ValueError, match="zero everywhere"):
        TASK.grade(answer(np.zeros((N, N), complex)), DATA)
    still = observed()
    tables = {name: still.truth(name) for name in still.truth_tables}
    tables["focus"] = {"actual_nm": np.full(len(FOCI), -5.0)}
    still.truth = tables.__getitem__
    with pytest.raises(ValueError, match="images at different foci"):
        TASK.grade(answer(TRUE), still)


def test_every_figure_has_words():
    """Five plates with titles and captions, drawn of a wave with an error."""
    estimates = answer(lens(TRUE, 1.0))
    plates = TASK.figures(DATA, estimates, TASK.grade(estimates, DATA))
    assert [plate.title for plate in plates] == [
        "Images of the series", "Exit wave: phase and amplitude", "Agreement against detail",
        "Phases of the columns", "Focus, found and true",
    ]  # fmt: skip
    assert all(len(plate.caption) > 100 for plate in plates)


def test_integration_over_pixels_is_undone():
    """A fringe of 0.2 nm keeps sinc(k p) of its contrast in pixels of 0.05 nm; all comes back."""
    x = (np.arange(64) * 0.05)[None, :]
    fringe = np.cos(2 * np.pi * x / 0.2) + 0 * x.T
    settings = {"pixel_size_nm": 0.05, "energy_kev": ENERGY, "aperture_mrad": 12.0}
    back = without_pixels((1 + np.sinc(0.25) * fringe)[None], settings)
    np.testing.assert_allclose(back[0], 1 + fringe, atol=1e-12)


def test_the_default_answer_is_the_wave_of_weak_images():
    """Noise-free images of a weak wave: its fine periods come back to 5 %.

    The series is made by the model of the analysis itself; what is tested is the way from images
    to columns: their order, their length and that the pixels are undone.
    """
    from nanophantom.analysis.exit_wave_model import FocalSeriesModel

    n = 48
    model = FocalSeriesModel((n, n), (0, 0), 0.25, ENERGY, 0.5, {}, 0.0, 0.0)
    rng = np.random.default_rng(0)
    size = len(model.kx)
    beams = 0.004 * (rng.standard_normal(size) + 1j * rng.standard_normal(size))
    beams[(model.row == 0) & (model.column == 0)] = 1
    blur = np.sinc(np.fft.fftfreq(n))[:, None] * np.sinc(np.fft.fftfreq(n))
    images = [model.image(beams, np.zeros(2), 10 * z) for z in FOCI]
    images = np.array([np.fft.ifft2(np.fft.fft2(image) * blur).real for image in images])
    found = find(
        images * 1e6 * 0.25**2,
        {**SETTINGS, "focal_spread_nm": 0.0, "convergence_mrad": 0.0, "dose_e_per_A2": 1e6,
         "aperture_mrad": 0.5 * float(wavelength(ENERGY)) * 1e3, "periodic": True, "align": False,
         "refine_defoci": None},
    )  # fmt: skip
    wave = (found["wave_real"] + 1j * found["wave_imag"]).reshape(n, n)
    true = model.wave(beams)
    fast = np.hypot(np.fft.fftfreq(n, 0.25)[:, None], np.fft.fftfreq(n, 0.25)) > 0.2
    here, there = (np.fft.fft2(w)[fast] for w in (wave, true))
    assert np.linalg.norm(here - there) < 0.05 * np.linalg.norm(there)
