"""Exit waves restored from focal series of waves that are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nanophantom.analysis.exit_wave import restore
from nanophantom.analysis.exit_wave_model import FocalSeriesModel
from nanophantom.analysis.modes import window_on
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.imaging import expected_image

FloatArray = npt.NDArray[np.float64]
ComplexArray = npt.NDArray[np.complex128]
ENERGY = 300.0
PIXEL_A = 0.25
APERTURE = 14.0
K_MAX = APERTURE * 1e-3 / wavelength(ENERGY)
LENS = {"C30": 5e4, "C21": 600.0, "phi21": 0.8}
FOCI = np.linspace(-60.0, 20.0, 13)
SETTINGS = {
    "pixel_size_nm": PIXEL_A / 10,
    "energy_kev": ENERGY,
    "aperture_mrad": APERTURE,
    "aberrations": {"c30_um": 5.0, "c21_nm": 60.0, "phi21_deg": np.degrees(0.8)},
    "defoci_nm": FOCI,
}


def columns(n: int, seed: int, peak: tuple[float, float] = (0.3, 1.2)) -> ComplexArray:
    """Return a periodic exit wave: Gaussian phase peaks 3.2 Å apart, absorbing 10 % of their phase.

    Cut at the aperture, as no image knows more.
    """
    rng = np.random.default_rng(seed)
    length = n * PIXEL_A
    at = np.arange(n) * PIXEL_A
    phase = np.zeros((n, n))
    for y in np.arange(0.5, length - 1, 3.2):
        for x in np.arange(0.5, length - 1, 3.2):
            away = [
                (at - c - rng.normal(0, 0.2) + length / 2) % length - length / 2 for c in (y, x)
            ]
            profile = [np.exp(-(d**2) / (2 * 0.6**2)) for d in away]
            phase += rng.uniform(*peak) * np.outer(profile[0], profile[1])
    return cut(np.exp((1j - 0.1) * phase))


def frequency(shape: tuple[int, ...]) -> FloatArray:
    ky, kx = (np.fft.fftfreq(n, PIXEL_A) for n in shape)
    return np.asarray(np.hypot(ky[:, None], kx[None, :]))


def cut(wave: ComplexArray) -> ComplexArray:
    return np.asarray(np.fft.ifft2(np.fft.fft2(wave) * (frequency(wave.shape) <= K_MAX)))


def series(wave: ComplexArray, shifts_px: FloatArray | None = None, **optics: Any) -> FloatArray:
    """Return the noise-free images of a periodic wave at all foci, the specimen displaced."""
    n = len(wave)
    wave_k = np.fft.fft2(wave) / wave.size
    k = np.fft.fftfreq(n)
    images = []
    for i, focus in enumerate(FOCI):
        dy, dx = (0.0, 0.0) if shifts_px is None else shifts_px[i]
        ramp = np.exp(-2j * np.pi * (k[:, None] * dy + k[None, :] * dx))
        images.append(
            expected_image(
                wave_k * ramp,
                extent_A=(n * PIXEL_A, n * PIXEL_A),
                energy_kev=ENERGY,
                coefficients={**LENS, "C10": 10 * focus},
                shape=(n, n),
                aperture_mrad=APERTURE,
                **optics,
            )
        )
    return np.array(images, np.float64)


def error(
    found: ComplexArray,
    true: ComplexArray,
    band: tuple[float, float] = (0.0, np.inf),
    inner: bool = False,
) -> float:
    """Return the relative L2 error of the scattered wave between two frequencies in 1/Å.

    `inner`: where a window that fades over an eighth of each side sees it.
    """
    true = true * np.exp(-1j * np.angle(true.mean()))
    difference, scattered = found - true, true - true.mean()
    if inner:
        ny, nx = true.shape
        window = window_on(slice(0, ny), slice(0, nx), (ny, nx))
        difference, scattered = difference * window, scattered * window
    k = frequency(true.shape)
    inside = (k > band[0]) & (k <= band[1])
    power = [np.sum(np.abs(np.fft.fft2(d)[inside]) ** 2) for d in (difference, scattered)]
    return float(np.sqrt(power[0] / power[1]))


@pytest.mark.parametrize(
    ("spread_A", "convergence", "pixel_A"), [(0.0, 0.0, 0.3), (40.0, 3e-4, 0.3), (40.0, 3e-4, 0.4)]
)
def test_model_is_expected_image_and_its_derivatives_are_right(
    spread_A: float, convergence: float, pixel_A: float
) -> None:
    """A strong random wave: the same image to 2e-4, gradients against differences to 1e-6.

    The pixel of 0.4 Å is too coarse for |psi|^2, which is then formed on a finer grid.
    """
    rng = np.random.default_rng(0)
    lens = {"C30": 1e7, "C21": 1000.0, "phi21": 0.4}
    model = FocalSeriesModel((24, 20), (4, 6), pixel_A, ENERGY, 0.8, lens, spread_A, convergence)
    size = len(model.kx)
    beams = 0.05 * (rng.standard_normal(size) + 1j * rng.standard_normal(size))
    beams[(model.row == 0) & (model.column == 0)] = 1
    wave_k = np.zeros(model.shape, np.complex128)
    wave_k[model.row, model.column] = beams
    ny, nx = model.shape
    image = expected_image(
        wave_k,
        extent_A=(ny * pixel_A, nx * pixel_A),
        energy_kev=ENERGY,
        coefficients={**lens, "C10": -300.0},
        shape=(ny, nx),
        focal_spread_A=spread_A,
        convergence_mrad=1e3 * convergence,
        focal_points=9,
    )[4:-4, 6:-6]
    still, one = np.zeros((1, 2)), np.array([-300.0])
    same = model.misfit(beams, still, one, image[None].astype(np.float64), 1.0)
    assert same.residual_rms[0] < 2e-4 * image.std()

    data, counts = rng.uniform(0.5, 1.5, (3, 24, 20)), 7.0
    shifts, defoci = rng.normal(size=(3, 2)), np.array([-300.0, -500.0, -800.0])
    here = model.misfit(beams, shifts, defoci, data, counts)
    turn = rng.standard_normal(size) + 1j * rng.standard_normal(size)
    move, focus = rng.normal(size=(3, 2)), rng.normal(size=3)
    for step, derivative in (
        ((1e-5 * turn, 0 * move, 0 * focus), 1e-5 * np.sum((here.beams.conj() * turn).real)),
        ((0 * turn, 1e-5 * move, 0 * focus), 1e-5 * np.sum(here.shifts_A * move)),
        ((0 * turn, 0 * move, 1e-3 * focus), 1e-3 * np.sum(here.defoci_A * focus)),
    ):
        costs = [
            model.misfit(
                beams + s * step[0], shifts + s * step[1], defoci + s * step[2], data, counts
            )
            for s in (1, -1)
        ]
        assert (costs[0].cost - costs[1].cost) / 2 == pytest.approx(derivative, rel=1e-6)


@pytest.mark.parametrize(
    ("optics", "more"),
    [
        ({}, {}),
        (
            {"focal_spread_A": 25.0, "convergence_mrad": 0.2},
            {"focal_spread_nm": 2.5, "convergence_mrad": 0.2},
        ),
    ],
)
def test_without_noise_the_wave_itself_comes_back(
    optics: dict[str, float], more: dict[str, float]
) -> None:
    """Peaks of up to 1.2 rad, absorbing, coherent or not: 1 % of L2, within the aperture."""
    wave = columns(64, 1)
    dose = 1e8
    found = restore(
        series(wave, **optics) * dose * PIXEL_A**2,
        {**SETTINGS, **more, "dose_e_per_A2": dose, "periodic": True, "align": False},
    )
    assert error(found["wave"], wave) < 0.01
    mean = found["wave"].mean()
    assert mean.real > 0
    assert abs(mean.imag) < 1e-12
    assert abs(mean) == pytest.approx(abs(wave.mean()), rel=1e-3)
    assert found["resolution_nm"] == pytest.approx(0.1 / K_MAX, rel=0.02)


def test_error_falls_with_the_root_of_the_dose() -> None:
    """250, 1000 and 4000 e/Å² an image: half the error each time, within 10 %, in the passed band.

    And the residuals are those of the counts: rms one times the root of the mean intensity.
    """
    wave = columns(64, 2)
    images = series(wave)
    errors = []
    for dose in (250.0, 1000.0, 4000.0):
        counts = np.random.default_rng(5).poisson(images * dose * PIXEL_A**2)
        settings = {**SETTINGS, "dose_e_per_A2": dose, "periodic": True, "align": False}
        found = restore(counts, settings)
        errors.append(error(found["wave"], wave, (0.2, np.inf)))
        assert np.mean(found["residual"]) == pytest.approx(np.sqrt(images.mean()), rel=0.04)
    assert errors[1] < 0.08
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.1)


def test_drift_of_a_field_without_edges_is_undone() -> None:
    """A window of 80 px on a larger specimen that drifts by up to 9 px; 1000 e/Å² an image.

    Shifts within 0.1 px rms, and the wave in the coordinates of image 0 within 12 %.
    """
    rng = np.random.default_rng(3)
    wave = columns(144, 1)
    shifts = np.cumsum(rng.normal(0.5, 0.7, (len(FOCI), 2)), axis=0)
    shifts -= shifts[0]
    assert np.abs(shifts).max() > 4
    part = slice(32, 112)
    dose = 1000.0
    counts = rng.poisson(series(wave, shifts)[:, part, part] * dose * PIXEL_A**2)
    found = restore(counts, {**SETTINGS, "dose_e_per_A2": dose, "iterations": 60})
    assert np.sqrt(np.mean((found["shifts_px"] - shifts) ** 2)) < 0.1
    assert np.all(found["shifts_px"][0] == 0)
    assert error(found["wave"], wave[part, part], (0.1, np.inf), inner=True) < 0.12
    assert found["wave"].shape == (80, 80)


@pytest.mark.parametrize("refine", ["step", "each"])
def test_a_wrong_focal_step_is_found(refine: str) -> None:
    """Nominal step 8 % too large: defoci within 0.1 nm rms about the same mean, wave as before."""
    wave = columns(64, 4)
    dose = 4000.0
    counts = np.random.default_rng(6).poisson(series(wave) * dose * PIXEL_A**2)
    nominal = FOCI.mean() + 1.08 * (FOCI - FOCI.mean())
    settings = {**SETTINGS, "defoci_nm": nominal, "dose_e_per_A2": dose}
    settings |= {"periodic": True, "align": False}
    found = restore(counts, {**settings, "refine_defoci": refine})
    assert np.sqrt(np.mean((found["defoci_nm"] - FOCI) ** 2)) < 0.1
    assert found["defoci_nm"].mean() == pytest.approx(FOCI.mean(), abs=1e-6)
    assert np.all(found["shifts_px"] == 0)
    assert error(found["wave"], wave, (0.2, np.inf)) < 0.05
    assert np.mean(restore(counts, settings)["residual"]) > 1.05 * np.mean(found["residual"])


def test_slow_phases_fade_and_slow_amplitudes_stay() -> None:
    """What noise leaves of a phase is what phase_transfer says: at 4 /nm all, at 0.5 /nm little.

    Two gratings of 0.1 rad, or 10 % of absorption, at 200 e/Å² an image.
    """
    n, dose = 80, 200.0
    x = np.arange(n) / n
    slow, fast = np.cos(2 * np.pi * 1 * x), np.cos(2 * np.pi * 8 * x)  # 20 Å and 2.5 Å
    grating = 0.1 * np.broadcast_to(slow + fast, (n, n))
    left = {}
    for kind, wave in (("phase", np.exp(1j * grating)), ("amplitude", np.exp(-grating))):
        counts = np.random.default_rng(7).poisson(series(wave) * dose * PIXEL_A**2)
        settings = {**SETTINGS, "dose_e_per_A2": dose, "periodic": True, "align": False}
        found = restore(counts, settings)
        scattered = np.fft.fft2(found["wave"] / found["wave"].mean())[0] / n**2
        seen = scattered.imag if kind == "phase" else -scattered.real
        left[kind] = [2 * float(seen[q]) / 0.1 for q in (1, 8)]
        transfer = [
            float(np.interp(q / (n * PIXEL_A / 10), found["k_per_nm"], found[f"{kind}_transfer"]))
            for q in (1, 8)
        ]
        assert left[kind][1] == pytest.approx(1, abs=0.15)
        assert transfer[1] > 0.8
        if kind == "phase":
            assert transfer[0] < 0.5
            assert found["coarsest_phase_nm"] < 2.5
        else:
            assert transfer[0] > 0.9
            assert left[kind][0] == pytest.approx(1, abs=0.15)
    assert left["phase"][0] < 0.7


def test_wrong_requests_are_refused() -> None:
    """Each with a line that says what would be right."""
    images = np.full((4, 32, 32), 10)
    good = {**SETTINGS, "defoci_nm": [-30, -20, -10, 0], "dose_e_per_A2": 100.0}
    with pytest.raises(ValueError, match="3 images"):
        restore(images[:2], good)
    with pytest.raises(ValueError, match="one an image"):
        restore(images, {**good, "defoci_nm": [-30, -20, -10]})
    with pytest.raises(ValueError, match="different defoci"):
        restore(images, {**good, "defoci_nm": [-30] * 4})
    with pytest.raises(ValueError, match="dose_e_per_A2"):
        restore(images, {**good, "dose_e_per_A2": None})
    with pytest.raises(ValueError, match="pixel_size_nm"):
        restore(images, {**good, "pixel_size_nm": -1})
    with pytest.raises(ValueError, match="refine_defoci"):
        restore(images, {**good, "refine_defoci": "all"})
    with pytest.raises(ValueError, match="finite"):
        restore(images * np.inf, good)


def test_the_bare_beam_is_a_plane_wave() -> None:
    """Constant images at the dose: 1 everywhere, no drift, and no division by what isn't there."""
    settings = {**SETTINGS, "dose_e_per_A2": 200.0}
    images = np.full((len(FOCI), 32, 40), 200.0 * PIXEL_A**2)
    found = restore(images, settings)
    np.testing.assert_allclose(found["wave"], 1, atol=1e-9)
    np.testing.assert_allclose(found["shifts_px"], 0, atol=1e-9)
