"""Thon rings: defocus and astigmatism of white-noise weak phase objects, known exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nanophantom.analysis.thon_rings import fit
from nanophantom.simcore.electrons.aberrations import chi
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.imaging import expected_image

FloatArray = npt.NDArray[np.float64]
ENERGY = 200.0


def film_image(
    n: int,
    pixel_A: float,
    coefficients: dict[str, float],
    seed: int,
    noise: float = 1.0,
    focal_spread_A: float = 30.0,
    amplitude_contrast: float = 0.0,
) -> FloatArray:
    """Return an n x n cut-out of a larger white-noise film, imaged by the linear transfer.

    White noise of 1 has a quarter of the power that a ring has at its top, 4 sin^2(chi).
    """
    rng = np.random.default_rng(seed)
    m = int(1.25 * n)
    ky, kx = np.fft.fftfreq(m, pixel_A)[:, None], np.fft.fftfreq(m, pixel_A)[None, :]
    k2 = kx**2 + ky**2
    phase = chi(coefficients, kx, ky, ENERGY) - np.arcsin(amplitude_contrast)
    damping = np.exp(-0.5 * (np.pi * wavelength(ENERGY) * k2 * focal_spread_A) ** 2)
    film = np.fft.fft2(rng.standard_normal((m, m)))
    image = np.fft.ifft2(film * 2 * np.sin(phase) * damping).real[:n, :n]
    return np.asarray(image + noise * rng.standard_normal((n, n)))


def settings(pixel_A: float, **more: Any) -> dict[str, Any]:
    return {"pixel_size_nm": pixel_A / 10, "energy_kev": ENERGY, **more}


def astigmatism_error_nm(found: dict[str, float], c12_nm: float, phi12_rad: float) -> float:
    """Return the length of the difference of C12 exp(2 i phi12)."""
    seen = found["c12_nm"] * np.exp(2j * np.radians(found["phi12_deg"]))
    return float(abs(seen - c12_nm * np.exp(2j * phi12_rad)))


@pytest.mark.parametrize("cs_mm", [0.0, 1.2, 2.7])
@pytest.mark.parametrize(
    ("defocus_nm", "pixel_A", "n"),
    [(-20, 0.2, 768), (-60, 0.3, 512), (-250, 0.6, 512), (-1000, 0.8, 512), (-3000, 1.5, 512)],
)
def test_defocus_is_found_within_one_percent_without_a_guess(
    cs_mm: float, defocus_nm: float, pixel_A: float, n: int
) -> None:
    """From -20 nm to -3 µm at any Cs; and astigmatism of 5 % within 1 % of the defocus."""
    if defocus_nm == -20 and cs_mm == 2.7:
        pixel_A = 0.4  # the rings of Cs need 400 Å of field to be resolved where defocus shows
    lens = {"C10": 10.0 * defocus_nm, "C30": cs_mm * 1e7, "C12": -0.5 * defocus_nm, "phi12": 0.7}
    found = fit(film_image(n, pixel_A, lens, 5), settings(pixel_A, c30_um=cs_mm * 1e3))
    assert found["defocus_nm"] == pytest.approx(defocus_nm, rel=0.01)
    assert astigmatism_error_nm(found, -0.05 * defocus_nm, 0.7) < 0.01 * abs(defocus_nm) + 0.2
    assert found["correlation"] > 0.8


def test_uncertainties_are_those_of_many_repetitions() -> None:
    """Over 20 films with noise as strong as a ring's top: errors over sigma have an rms of one.

    The rms of 20 normal numbers has a standard deviation of 16 %.
    """
    lens = {"C10": -1200.0, "C30": 1.2e7, "C12": 100.0, "phi12": 0.7}
    misses = []
    for seed in range(20):
        image = film_image(256, 0.5, lens, seed, noise=2.0)
        found = fit(image, settings(0.5, c30_um=1200.0, defocus_range_nm=(-200.0, -50.0)))
        turn = (found["phi12_deg"] - np.degrees(0.7) + 90) % 180 - 90
        misses.append(
            [
                (found["defocus_nm"] + 120) / found["defocus_sigma_nm"],
                (found["c12_nm"] - 10) / found["c12_sigma_nm"],
                turn / found["phi12_sigma_deg"],
            ]
        )
    rms = np.sqrt(np.mean(np.square(misses), axis=0))
    assert np.all(rms > 0.65)
    assert np.all(rms < 1.4)


@pytest.mark.parametrize("azimuth", [0.0, 0.5, 1.2, 2.0, 3.0])
def test_strong_astigmatism_is_found_at_any_azimuth(azimuth: float) -> None:
    """40 % of the defocus, where no ring is closed: amplitude within 1 %, azimuth within 1 deg."""
    lens = {"C10": -5000.0, "C30": 1.2e7, "C12": 2000.0, "phi12": azimuth}
    found = fit(film_image(384, 0.9, lens, 3), settings(0.9, c30_um=1200.0, max_c12_nm=250.0))
    assert found["defocus_nm"] == pytest.approx(-500, rel=0.01)
    assert found["c12_nm"] == pytest.approx(200, rel=0.01)
    assert abs((found["phi12_deg"] - np.degrees(azimuth) + 90) % 180 - 90) < 1


@pytest.mark.parametrize("defocus_nm", [-300.0, 300.0])
def test_spherical_aberration_tells_the_sign_of_the_defocus(defocus_nm: float) -> None:
    """Underfocus is a prior: with Cs in the rings and no prior the sign is found."""
    lens = {"C10": 10 * defocus_nm, "C30": 1.2e7}
    found = fit(film_image(512, 0.7, lens, 1), settings(0.7, c30_um=1200.0, underfocus=None))
    assert found["defocus_nm"] == pytest.approx(defocus_nm, rel=0.01)


def test_without_spherical_aberration_only_the_prior_tells_the_sign() -> None:
    """Rings of +-300 nm are the same: the answer is the one asked for, and equally good."""
    image = film_image(512, 0.7, {"C10": -3000.0, "C12": 200.0, "phi12": 0.4}, 1)
    under = fit(image, settings(0.7))
    over = fit(image, settings(0.7, underfocus=False))
    assert under["defocus_nm"] == pytest.approx(-300, rel=0.01)
    assert over["defocus_nm"] == pytest.approx(-under["defocus_nm"], rel=1e-3)
    assert (over["phi12_deg"] - under["phi12_deg"]) % 180 == pytest.approx(90, abs=0.5)
    assert over["correlation"] == pytest.approx(under["correlation"], abs=0.01)


def test_amplitude_contrast_is_counted() -> None:
    """asin(0.3) of phase is 1.5 nm of defocus at 0.5 1/Å: an error if ignored, none if given."""
    image = film_image(384, 0.6, {"C10": -1000.0}, 2, amplitude_contrast=0.3)
    given = fit(image, settings(0.6, amplitude_contrast=0.3))
    ignored = fit(image, settings(0.6))
    assert given["defocus_nm"] == pytest.approx(-100, abs=0.3)
    assert ignored["defocus_nm"] < -100.8


def test_the_full_imaging_of_a_film_with_counts_agrees() -> None:
    """Non-linear image of a 0.15 rad film at 800 e/Å², partially coherent: 1 % of defocus."""
    n, pixel_A = 384, 0.5
    rng = np.random.default_rng(8)
    k = np.hypot(np.fft.fftfreq(n, pixel_A)[:, None], np.fft.fftfreq(n, pixel_A)[None, :])
    # atoms of a finite width: a film whose spectrum falls off
    film = np.fft.ifft2(np.fft.fft2(rng.standard_normal((n, n))) / (1 + (2 * k) ** 2)).real
    wave_k = np.fft.fft2(np.exp(0.15j * film / film.std())) / n**2
    image = expected_image(
        wave_k,
        extent_A=(n * pixel_A, n * pixel_A),
        energy_kev=ENERGY,
        coefficients={"C10": -1500.0, "C12": 90.0, "phi12": 2.0, "C30": 1.2e7},
        shape=(n, n),
        focal_spread_A=35.0,
        convergence_mrad=0.1,
    )
    counts = rng.poisson(image * 800 * pixel_A**2)
    found = fit(counts, settings(pixel_A, c30_um=1200.0))
    assert found["defocus_nm"] == pytest.approx(-150, rel=0.01)
    assert astigmatism_error_nm(found, 9.0, 2.0) < 1.0
    # the focal spread's envelope leaves 10 % of contrast at 0.74 1/Å
    assert 0.13 < found["fit_resolution_nm"] < 0.25


def test_noise_alone_shows_no_rings() -> None:
    """Poisson noise: hardly any correlation is claimed, whatever is fitted to it."""
    image = np.random.default_rng(4).poisson(20, (256, 256))
    found = fit(image, settings(0.5, c30_um=1200.0))
    assert found["correlation"] < 0.5
    assert not np.isfinite(found["fit_resolution_nm"]) or found["correlation"] < 0.5


def test_wrong_requests_are_refused() -> None:
    """Each with a line that says what would be right."""
    image = np.random.default_rng(0).poisson(20, (64, 64))
    with pytest.raises(ValueError, match="pixel_size_nm"):
        fit(image, {"energy_kev": ENERGY})
    with pytest.raises(ValueError, match="shape"):
        fit(image[None], settings(0.5))
    with pytest.raises(ValueError, match="finite"):
        fit(image * np.nan, settings(0.5))
    with pytest.raises(ValueError, match="contradict"):
        fit(image, settings(0.5, defocus_range_nm=(10.0, 90.0)))
    with pytest.raises(ValueError, match="odd aberrations"):
        fit(image, settings(0.5, aberrations={"c21_nm": 100.0}))
    with pytest.raises(ValueError, match="twice"):
        fit(image, settings(0.5, c30_um=1.0, aberrations={"c30_um": 1.0}))
    with pytest.raises(ValueError, match="no contrast"):
        fit(np.full((64, 64), 7), settings(0.5))


def test_reflections_of_a_crystal_on_the_film_do_not_matter() -> None:
    """A lattice with ten times the film's contrast on a tenth of the field: 0.5 % of defocus.

    Without care for its reflections the fit is lost: -207 nm with a stiff level.
    """
    lens = {"C10": -1500.0, "C12": 90.0, "phi12": 2.0, "C30": 1.2e7}
    film = film_image(384, 0.5, lens, 4)
    y, x = np.arange(384)[:, None] * 0.5, np.arange(384)[None, :] * 0.5
    lattice = np.cos(2 * np.pi * (0.43 * x + 0.1 * y)) + np.cos(2 * np.pi * (0.43 * y - 0.1 * x))
    crystal = 10 * film.std() * lattice * (np.hypot(y - 90, x - 80) < 35)
    found = fit(film + crystal, settings(0.5, c30_um=1200.0))
    assert found["defocus_nm"] == pytest.approx(-150, rel=0.005)
    assert astigmatism_error_nm(found, 9.0, 2.0) < 1.0
