"""Zemlin tableaus of a film whose lens is known: coefficients, their covariance, flat angles."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nanophantom.analysis.aberration_measurement import (
    apparent,
    error_limit_nm,
    measure,
    phase_radius_mrad,
    solve,
)
from nanophantom.analysis.tilted_aberrations import cartesian
from nanophantom.simcore.electrons.aberrations import ORDERS, chi
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.imaging import expected_image

FloatArray = npt.NDArray[np.float64]
ENERGY = 300.0
UNCORRECTED = {
    "C10": -5000.0,
    "C12": 300.0,
    "phi12": 0.7,
    "C21": 8000.0,
    "phi21": 1.2,
    "C23": 5000.0,
    "phi23": 0.4,
    "C30": 1.2e7,
}
CORRECTED = {
    "C10": -3000.0,
    "C12": 30.0,
    "phi12": 0.7,
    "C21": 1000.0,
    "phi21": 1.2,
    "C23": 800.0,
    "phi23": 0.4,
    "C30": 5e4,
    "C32": 2e4,
    "phi32": 0.5,
    "C34": 3e4,
    "phi34": 0.3,
}
EIGHT = [(0.0, 0.0)] + [(8 * np.cos(a), 8 * np.sin(a)) for a in np.arange(8) * np.pi / 4]
TWO_RINGS = [
    (0.0, 0.0),
    *[(15 * np.cos(a), 15 * np.sin(a)) for a in np.arange(6) * np.pi / 3],
    *[(30 * np.cos(a), 30 * np.sin(a)) for a in np.arange(10) * np.pi / 5],
]


def even_part(
    coefficients: dict[str, float], tilt_mrad: Any, kx: FloatArray, ky: FloatArray
) -> FloatArray:
    """Return [chi(tau + k) + chi(tau - k)] / 2 - chi(tau), straight from chi."""
    tx, ty = np.asarray(tilt_mrad) * 1e-3 / wavelength(ENERGY)
    both = chi(coefficients, tx + kx, ty + ky, ENERGY) + chi(coefficients, tx - kx, ty - ky, ENERGY)
    return np.asarray(both / 2 - chi(coefficients, tx, ty, ENERGY))


def tableau(
    coefficients: dict[str, float], tilts: Any, n: int, pixel_A: float, seed: int, noise: float
) -> FloatArray:
    """Return images of a white-noise film, cut out of larger ones; noise 2 is a ring's top."""
    rng = np.random.default_rng(seed)
    m = int(1.25 * n)
    ky, kx = np.fft.fftfreq(m, pixel_A)[:, None], np.fft.fftfreq(m, pixel_A)[None, :]
    damping = np.exp(-0.5 * (np.pi * wavelength(ENERGY) * (kx**2 + ky**2) * 25) ** 2)
    images = []
    for tilt in tilts:
        film = np.fft.fft2(rng.standard_normal((m, m)))
        spectrum = film * 2 * np.sin(even_part(coefficients, tilt, kx, ky)) * damping
        image = np.fft.ifft2(spectrum).real[:n, :n]
        images.append(image + noise * rng.standard_normal((n, n)))
    return np.array(images)


def error_nm(name: str, found: dict[str, Any], true: dict[str, float]) -> float:
    """Return |difference| of a coefficient as a vector of amplitude and azimuth, in nm."""
    n, m = ORDERS[name]
    components = [(n, m, 0), (n, m, 1)] if m else [(n, m, 0)]
    return float(
        np.linalg.norm(cartesian(found["coefficients"], components) - cartesian(true, components))
        / 10
    )


def chi_square(found: dict[str, Any], true: dict[str, float]) -> float:
    """Return the squared error in units of its covariance, per component."""
    components = found["components"]
    away = cartesian(found["coefficients"], components) - cartesian(true, components)
    return float(away @ np.linalg.solve(found["covariance_A2"], away)) / len(away)


def random_lens(rng: np.random.Generator) -> dict[str, float]:
    """Return all coefficients to fifth order, each of about a rad at 15 mrad."""
    lens = {}
    for name, (n, m) in ORDERS.items():
        lens[name] = rng.normal() * wavelength(ENERGY) * (n + 1) / (2 * np.pi * 0.015 ** (n + 1))
        if m:
            lens[f"phi{n}{m}"] = rng.uniform(-3, 3)
    return lens


def test_apparent_aberrations_are_the_even_part_about_the_tilt() -> None:
    """All orders to the fifth, random: equal to chi itself within rounding."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        lens, tilt = random_lens(rng), rng.uniform(-20, 20, 2)
        kx, ky = rng.uniform(-0.7, 0.7, (2, 200))
        want = even_part(lens, tilt, kx, ky)
        seen = chi(apparent(lens, tilt), kx, ky, ENERGY)
        np.testing.assert_allclose(seen, want, atol=1e-10 * np.abs(want).max())


def test_apparent_defocus_and_astigmatism_have_their_closed_forms() -> None:
    """Cs: 2 C30 tau^2 and C30 tau^2 along the tilt; coma 4/3 and 2/3; threefold 2 C23 tau.

    Half the sum and half the difference of the second derivatives of chi.
    """
    tau, tilt = 5e-3, (0.0, 5.0)
    cs = apparent({"C30": 1.2e7}, tilt)
    assert cs["C10"] == pytest.approx(2 * 1.2e7 * tau**2)
    assert cs["C12"] == pytest.approx(1.2e7 * tau**2)
    assert cs["phi12"] == pytest.approx(np.pi / 2)
    assert cs["C30"] == pytest.approx(1.2e7)
    coma = apparent({"C21": 3e3, "phi21": np.pi / 2}, tilt)
    assert coma["C10"] == pytest.approx(4 / 3 * 3e3 * tau)
    assert coma["C12"] == pytest.approx(2 / 3 * 3e3 * tau)
    assert coma["phi12"] == pytest.approx(np.pi / 2)
    threefold = apparent({"C23": 3e3}, tilt)
    assert threefold["C10"] == pytest.approx(0, abs=1e-12)
    assert threefold["C12"] == pytest.approx(2 * 3e3 * tau)


@pytest.mark.parametrize(
    ("tilts", "orders"),
    [
        (EIGHT, ("C10", "C12", "C21", "C23", "C30")),
        (TWO_RINGS, ("C10", "C12", "C21", "C23", "C30", "C32", "C34", "C41", "C43", "C45")),
    ],
)
def test_exact_tableaus_are_solved_exactly(tilts: Any, orders: tuple[str, ...]) -> None:
    """Linear least squares, no noise: the very coefficients, three orders or four."""
    lens = random_lens(np.random.default_rng(1))
    lens = {k: v for k, v in lens.items() if k.replace("phi", "C") in orders}
    seen = [apparent(lens, tilt) for tilt in tilts]
    found = solve(
        tilts,
        [s["C10"] / 10 for s in seen],
        [s["C12"] / 10 for s in seen],
        [np.degrees(s["phi12"]) for s in seen],
        orders=orders,
    )
    for name in orders:
        assert error_nm(name, found, lens) < 1e-6 * abs(lens[name]) / 10 + 1e-6
    label = found["c30_um"]
    assert label == pytest.approx(lens["C30"] / 1e4)


def test_covariance_of_the_linear_solution_is_that_of_repetitions() -> None:
    """300 tableaus with errors of 1 nm: chi^2 per component has mean one within 3 sigma."""
    rng = np.random.default_rng(2)
    seen = [apparent(UNCORRECTED, tilt) for tilt in EIGHT]
    z = np.array([s["C10"] for s in seen]) / 10
    vector = np.array([s["C12"] * np.exp(2j * s["phi12"]) for s in seen]) / 10
    squares = []
    for _ in range(300):
        noisy = vector + rng.normal(size=9) + 1j * rng.normal(size=9)
        c12, phi12 = np.abs(noisy), np.degrees(np.angle(noisy)) / 2
        sigmas = np.stack([np.ones(9), np.ones(9), np.degrees(0.5 / c12)], axis=1)
        found = solve(EIGHT, z + rng.normal(size=9), c12, phi12, sigmas)
        squares.append(chi_square(found, UNCORRECTED))
    # each is chi^2 of 8 degrees of freedom over 8: variance 2/8
    assert np.mean(squares) == pytest.approx(1, abs=3 * np.sqrt(2 / 8 / 300) + 0.02)


def test_tilts_that_do_not_determine_the_orders_are_refused() -> None:
    """One ring of tilts can't part C30 from defocus; four can't give the fourth order."""
    ring = [(8 * np.cos(a), 8 * np.sin(a)) for a in np.arange(4) * np.pi / 2]
    with pytest.raises(ValueError, match="don't determine"):
        solve([(0.0, 0.0)], [1.0], [0.0], [0.0])
    with pytest.raises(ValueError, match="don't determine"):
        solve(ring, *np.zeros((3, 4)), orders=("C10", "C12", "C21", "C23", "C30", "C41", "C43"))
    with pytest.raises(ValueError, match="orders are"):
        solve(EIGHT, *np.zeros((3, 9)), orders=("C10", "C31"))
    with pytest.raises(ValueError, match="beam_tilts_mrad"):
        measure(np.zeros((3, 64, 64)), {"energy_kev": 300, "pixel_size_nm": 0.05})


def test_an_uncorrected_lens_is_measured() -> None:
    """Eight tilts of 8 mrad, 256 px, noise at half a ring's top: nothing known at the start.

    Tolerances: C10 0.5 nm, C12 0.3 nm, C21 and C23 25 nm, Cs 0.3 %; all within 4 sigma.
    """
    images = tableau(UNCORRECTED, EIGHT, 256, 0.7, 1, noise=1.0)
    found = measure(images, {"pixel_size_nm": 0.07, "energy_kev": ENERGY, "beam_tilts_mrad": EIGHT})
    assert found["defocus_nm"] == pytest.approx(-500, abs=0.5)
    assert found["c30_um"] == pytest.approx(1200, rel=0.003)
    assert error_nm("C12", found, UNCORRECTED) < 0.3
    assert error_nm("C21", found, UNCORRECTED) < 25
    assert error_nm("C23", found, UNCORRECTED) < 25
    assert chi_square(found, UNCORRECTED) < 16 / 3
    assert found["c21_sigma_nm"] < 10
    assert np.all(found["correlation"] > 0.8)


def test_a_corrected_lens_is_measured_to_the_fourth_order() -> None:
    """Tilts of 15 and 30 mrad: C21 and C23 within 25 nm, third order within 0.3 um of zero to 5.

    That is less than pi / 4 at 20 mrad for each of them, and C41, C43 come out as zero.
    """
    orders = ("C10", "C12", "C21", "C23", "C30", "C32", "C34", "C41", "C43")
    images = tableau(CORRECTED, TWO_RINGS, 224, 0.5, 1, noise=1.0)
    found = measure(
        images,
        {
            "pixel_size_nm": 0.05,
            "energy_kev": ENERGY,
            "beam_tilts_mrad": TWO_RINGS,
            "orders": orders,
            "defocus_range_nm": (-600.0, -100.0),
        },
    )
    limits_nm = {"C10": 0.4, "C12": 0.5, "C21": 25, "C23": 25, "C30": 300, "C32": 300, "C34": 300}
    for name, limit in limits_nm.items():
        error = error_nm(name, found, CORRECTED)
        assert error < limit, name
        assert error < error_limit_nm(name, 20.0, ENERGY), name
    assert chi_square(found, CORRECTED) < 16 / 5


def test_errors_with_noise_are_as_the_covariance_says() -> None:
    """Four tableaus with noise as strong as a ring's top: chi^2 per component of about one.

    32 degrees of freedom in all: one +- 0.25; up to 1.8 allows for what the model leaves out.
    """
    squares = []
    for seed in range(4):
        images = tableau(UNCORRECTED, EIGHT, 160, 0.8, seed, noise=2.0)
        known = {"defocus_range_nm": (-700.0, -200.0), "max_c12_nm": 150.0}
        found = measure(
            images,
            {"pixel_size_nm": 0.08, "energy_kev": ENERGY, "beam_tilts_mrad": EIGHT, **known},
        )
        squares.append(chi_square(found, UNCORRECTED))
    assert 0.4 < np.mean(squares) < 1.8


def test_the_full_imaging_under_tilt_agrees() -> None:
    """Non-linear images of a 0.1 rad film, 1000 e/Å² each, by expected_image(tilt_mrad=...)."""
    n, pixel_A = 256, 0.6
    rng = np.random.default_rng(3)
    images = []
    for tilt in EIGHT:
        film = rng.standard_normal((n, n))
        image = expected_image(
            np.fft.fft2(np.exp(0.1j * film)) / n**2,
            extent_A=(n * pixel_A, n * pixel_A),
            energy_kev=ENERGY,
            coefficients=UNCORRECTED,
            shape=(n, n),
            focal_spread_A=20.0,
            convergence_mrad=0.05,
            tilt_mrad=tilt,
        )
        images.append(rng.poisson(image * 1000 * pixel_A**2))
    found = measure(
        images,
        {
            "pixel_size_nm": pixel_A / 10,
            "energy_kev": ENERGY,
            "beam_tilts_mrad": EIGHT,
            "c30_um": 1000.0,
        },
    )
    assert found["defocus_nm"] == pytest.approx(-500, abs=1.0)
    assert found["c30_um"] == pytest.approx(1200, rel=0.005)
    assert error_nm("C12", found, UNCORRECTED) < 1.0
    assert error_nm("C21", found, UNCORRECTED) < 50
    assert error_nm("C23", found, UNCORRECTED) < 50


def test_phase_radius_of_spherical_aberration_is_the_fourth_root() -> None:
    """|chi| = (pi / 2 lambda) C30 alpha^4 = pi / 4 at (lambda / 2 C30)^(1/4): 5.35 mrad."""
    radius = phase_radius_mrad({"C30": 1.2e7}, ENERGY)
    assert radius == pytest.approx(1e3 * (wavelength(ENERGY) / 2 / 1.2e7) ** 0.25, rel=1e-6)
    assert phase_radius_mrad({}, ENERGY) == np.inf


@pytest.mark.parametrize("name", sorted(ORDERS))
def test_error_limit_is_where_the_phase_radius_is(name: str) -> None:
    """A coefficient at its limit for 18 mrad is flat up to 18 mrad, for each of them."""
    limit_A = 10 * error_limit_nm(name, 18.0, ENERGY)
    lens = {name: limit_A, f"phi{name[1:]}": 0.3} if ORDERS[name][1] else {name: limit_A}
    assert phase_radius_mrad(lens, ENERGY) == pytest.approx(18, rel=1e-4)


def test_balanced_aberrations_reach_farther_than_their_sum() -> None:
    """Defocus of -sqrt(lambda C30 / 2) against Cs: chi has its minimum at -pi / 4 ... closed form.

    chi = (2 pi / lambda)(C10 a^2 / 2 + C30 a^4 / 4) has its extreme -pi C10^2 / (2 lambda C30);
    a hair below pi / 4 there, it crosses +pi / 4 at a^2 = (1 + sqrt 2) |C10| / C30.
    """
    C30 = 1.2e7
    C10 = -np.sqrt(wavelength(ENERGY) * C30 / 2) * 0.9999
    radius = phase_radius_mrad({"C10": C10, "C30": C30}, ENERGY)
    assert radius == pytest.approx(1e3 * np.sqrt((1 + np.sqrt(2)) * -C10 / C30), rel=1e-3)
