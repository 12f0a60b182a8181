"""Rectangular levers: beam theory, the fluid around them and their thermal motion."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.integrate import quad
from scipy.special import kv

from nanophantom.simcore.probes import beam, hydrodynamics, thermal
from nanophantom.simcore.probes.beam import BeamLever
from nanophantom.simcore.probes.cantilever import BOLTZMANN_NN_NM_PER_K, Cantilever
from nanophantom.simcore.probes.hydrodynamics import AIR, WATER, Fluid
from nanophantom.simcore.probes.thermal import ThermalModes

FORCE_LEVER = BeamLever(length_um=225.0, width_um=38.0, thickness_um=7.0)
SOFT = BeamLever(length_um=200.0, width_um=20.0, thickness_um=0.6)


# --- beam ---------------------------------------------------------------------------------------


def test_stiffness_and_resonance_of_a_silicon_beam() -> None:
    """Euler-Bernoulli: f0 = 0.16154 (t / L^2) sqrt(E / rho), k = E w t^3 / 4 L^3."""
    f0 = 0.16154 * 7e-6 / (225e-6) ** 2 * math.sqrt(169e9 / 2330) / 1e3
    assert FORCE_LEVER.vacuum_resonances_khz()[0] == pytest.approx(f0, rel=1e-4)
    assert FORCE_LEVER.vacuum_resonances_khz()[0] == pytest.approx(190.2, rel=1e-3)
    assert FORCE_LEVER.stiffness_n_per_m == pytest.approx(48.35, rel=1e-3)


def test_roots_ratios_and_mass_of_the_modes() -> None:
    """Textbook values of a clamped beam, and the equation of the roots itself."""
    a = beam.wave_numbers(30)
    assert np.allclose(np.cos(a) * np.cosh(np.minimum(a, 30)), -1, rtol=0, atol=1e-6 * np.exp(a))
    assert a[:3] == pytest.approx([1.875104069, 4.694091133, 7.854757438], rel=1e-9)
    assert beam.frequency_ratios(3) == pytest.approx([1.0, 6.26689, 17.54748], rel=1e-5)
    assert beam.effective_mass_ratio() == pytest.approx(0.24267, rel=1e-4)
    k, f = FORCE_LEVER.stiffness_n_per_m, 1e3 * FORCE_LEVER.vacuum_resonances_khz()[0]
    mass_kg = 1e-12 * FORCE_LEVER.mass_ng
    assert math.sqrt(k / (0.242672 * mass_kg)) / (2 * math.pi) == pytest.approx(f, rel=1e-5)


@pytest.mark.parametrize("mode", [1, 2, 5, 20])
def test_mode_shapes_obey_the_beam(mode: int) -> None:
    """Clamped, of height 1 and unbent at the end, and mean square 1/4: mass a quarter."""
    s = np.linspace(0, 1, 20001)
    shape, slope = beam.mode_shape(mode, s)
    assert shape[0] == pytest.approx(0, abs=1e-12)
    assert slope[0] == pytest.approx(0, abs=1e-9)
    assert shape[-1] == pytest.approx(1, abs=1e-12)
    assert np.trapezoid(shape**2, s) == pytest.approx(0.25, rel=1e-5)
    assert np.gradient(shape, s)[1:-1] == pytest.approx(slope[1:-1], abs=2e-4 * mode**3)
    curvature = np.gradient(slope, s)
    assert abs(curvature[-1]) < 1e-3 * np.abs(curvature).max()


def test_factors_of_the_optical_lever() -> None:
    """Shares .9707 and .8174, chi 1.0897; over all modes the slope's variance is 4/3 kT/k.

    Butt and Jaschke, Nanotechnology 6 (1995) 1.
    """
    shares, gains = beam.thermal_shares(100), beam.optical_gains(100)
    assert shares[0] == pytest.approx(0.9707, rel=1e-4)
    assert 1 / gains[0] == pytest.approx(1.0897, rel=1e-4)
    assert shares[0] * gains[0] ** 2 == pytest.approx(0.8174, rel=1e-4)
    assert shares.sum() == pytest.approx(1, abs=1e-7)
    # The terms fall as 1/n^2; what 100 modes leave out is (16/3) / (pi^2 100).
    assert (shares * gains**2).sum() + 16 / 3 / (math.pi**2 * 100) == pytest.approx(4 / 3, abs=1e-4)


def test_lever_gives_its_cantilever() -> None:
    lever = SOFT.cantilever(None, 300.0)
    assert lever.stiffness_n_per_m == pytest.approx(SOFT.stiffness_n_per_m)
    assert lever.resonance_khz == pytest.approx(SOFT.vacuum_resonances_khz()[0])
    assert (lever.quality_factor, lever.temperature_k) == (3e4, 300.0)
    modal = SOFT.cantilever(None, modal_stiffness=True)
    assert modal.stiffness_n_per_m / lever.stiffness_n_per_m == pytest.approx(1 / 0.970688)


# --- fluid --------------------------------------------------------------------------------------


def blade_in_stokes_flow(reynolds: float, points: int = 200) -> complex:
    """Return Gamma of a thin blade by the boundary integral of unsteady Stokes flow.

    Forces on |x| < 1 (half width 1) make the velocity 1 everywhere on the blade; the kernel is the
    transverse 2-D Stokeslet 2 (K0 + K1/R - 1/R^2), R = lambda |x|, lambda^2 = -i Re. Forces are
    Chebyshev polynomials over sqrt(1 - x^2); the logarithm is integrated in closed form.
    """
    rate = np.sqrt(-1j * reynolds)
    n = np.arange(points)
    x = np.cos((n + 0.5) * np.pi / points)
    distance = np.abs(x[:, None] - x) + np.eye(points)
    r = rate * distance
    smooth = 2 * (kv(0, r) + kv(1, r) / r - 1 / r**2) + np.log(distance)
    np.fill_diagonal(smooth, -np.log(rate / 2) - np.euler_gamma - 0.5)
    polynomials = np.cos(np.outer(np.arccos(x), n))
    logarithm = np.where(n == 0, np.pi * np.log(2), np.pi / np.maximum(n, 1))
    matrix = np.pi / points * smooth @ polynomials + polynomials * logarithm
    total = np.pi * np.linalg.solve(matrix, np.ones(points))[0]
    return complex(4j * total / reynolds)


@pytest.mark.parametrize("reynolds", [1e-4, 1e-2, 0.3, 1.4549, 10.0, 60.0])
def test_hydrodynamic_function_solves_the_flow_around_a_blade(reynolds: float) -> None:
    """Sader states 0.1 % for his correction."""
    exact = blade_in_stokes_flow(reynolds)
    gamma = complex(hydrodynamics.hydrodynamic_function(reynolds))
    assert gamma.real == pytest.approx(exact.real, rel=1e-3)
    assert gamma.imag == pytest.approx(exact.imag, rel=1e-3)


def test_stiffness_of_the_published_lever() -> None:
    """The example of Sader's published code (Rev. Sci. Instrum. 70 (1999) 3967): 0.1573 N/m."""
    reynolds = hydrodynamics.reynolds_number(17.36, 29.0, AIR)
    gamma = complex(hydrodynamics.hydrodynamic_function(reynolds))
    assert reynolds == pytest.approx(1.4549, rel=1e-4)
    assert gamma.real == pytest.approx(3.2717, rel=1e-4)
    assert gamma.imag == pytest.approx(3.1725, rel=1e-4)
    k = hydrodynamics.sader_stiffness_n_per_m(17.36, 55.5, 397.0, 29.0)
    assert k == pytest.approx(0.1573, rel=1e-3)
    factor = math.pi / 4 * beam.effective_mass_ratio()
    assert pytest.approx(factor, rel=1e-6) == hydrodynamics.SADER_FACTOR


@pytest.mark.parametrize("fluid", [AIR, WATER])
def test_wet_lever_betrays_its_stiffness(fluid: Fluid) -> None:
    """Resonance and damping in the fluid, put into Sader's formula, give back E w t^3 / 4 L^3."""
    lever = FORCE_LEVER
    wet = hydrodynamics.immersed_resonance(
        float(lever.vacuum_resonances_khz()[0]), 38.0, 7.0, lever.density_g_per_cm3, fluid
    )
    k = hydrodynamics.sader_stiffness_n_per_m(*wet, lever.length_um, lever.width_um, fluid)
    assert k == pytest.approx(lever.stiffness_n_per_m, rel=1e-5)


def test_added_mass_in_water() -> None:
    """A fluid without viscosity adds the mass of the cylinder around the beam, pi rho b^2 / 4.

    W.-H. Chu (1963): f = f_vac / sqrt(1 + pi rho b / 4 rho_c h). At Re = 7000 the boundary layers
    add 5 % more mass; that falls as Re^-1/2, so two Reynolds numbers lead to the limit, to the 1 %
    that the next order and ten times the 0.1 % of the function allow.
    """
    dry = 100.0
    mass = math.pi * 1.0 * 40.0 / (4 * 2.33 * 4.0)

    def added(viscosity: float) -> tuple[float, float]:
        thin = Fluid(density_g_per_cm3=1.0, viscosity_pa_s=viscosity)
        wet, quality = hydrodynamics.immersed_resonance(dry, 40.0, 4.0, 2.33, thin)
        assert quality > 15
        return hydrodynamics.reynolds_number(wet, 40.0, thin) ** -0.5, (dry / wet) ** 2 - 1

    (layer_1, mass_1), (layer_2, mass_2) = added(2e-5), added(5e-5)
    limit = mass_1 - layer_1 * (mass_2 - mass_1) / (layer_2 - layer_1)
    assert limit == pytest.approx(mass, rel=0.01)
    assert 1.03 < mass_1 / mass < 1.07


def test_water_lowers_resonance_and_quality_of_every_mode() -> None:
    """Both; more so for lower modes, because thin layers drag less mass."""
    f_air, q_air = SOFT.resonances(AIR, 3)
    f_water, q_water = SOFT.resonances(WATER, 3)
    f_vacuum, _ = SOFT.resonances(None, 3)
    assert ((f_water < f_air) & (f_air < f_vacuum) & (q_water < q_air)).all()
    assert (np.diff(f_water / f_vacuum) > 0).all()
    assert (np.diff(q_water) > 0).all()
    internal = SOFT.model_copy(update={"internal_quality_factor": 50.0})
    fluid_only = 1 / (1 / q_air - 1 / 3e4)
    assert internal.resonances(AIR, 3)[1] == pytest.approx(1 / (1 / fluid_only + 1 / 50))


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="Reynolds number must lie within"):
        hydrodynamics.hydrodynamic_function([1.0, 2e4])
    with pytest.raises(ValueError, match="must be positive"):
        hydrodynamics.sader_stiffness_n_per_m(10.0, 50.0, 200.0, 0.0)
    with pytest.raises(ValueError, match="number of modes"):
        beam.wave_numbers(0)
    with pytest.raises(ValueError, match="positions on the beam"):
        beam.mode_shape(1, 1.2)
    with pytest.raises(ValidationError):
        BeamLever(thickness_um=0.0)
    with pytest.raises(ValueError, match="at least one sample"):
        ThermalModes.of_cantilever(Cantilever()).motion_nm(0, 1e6, np.random.default_rng(1))


# --- thermal motion -----------------------------------------------------------------------------


def test_thermal_force_and_motion_at_resonance() -> None:
    """29.55 fN and 295.5 fm per root Hz for 40 N/m, 300 kHz, Q 400 at 298 K."""
    lever = Cantilever(temperature_k=298.0)
    force = thermal.force_density_fn_per_sqrt_hz(lever)
    assert force == pytest.approx(29.56, rel=1e-3)
    one = ThermalModes(np.array([40.0]), np.array([300.0]), np.array([400.0]), np.ones(1), 298.0)
    at_resonance = 1e6 * math.sqrt(float(one.density_nm2_per_hz(3e5)))
    assert at_resonance == pytest.approx(295.6, rel=1e-3)
    assert at_resonance == pytest.approx(force * 400 / 40, rel=1e-12)
    assert lever.ring_down_s == pytest.approx(424.4e-6, rel=1e-3)


@pytest.mark.parametrize("quality", [0.4, 0.5, 0.7, 3.0, 40.0])
def test_density_and_correlation_are_a_fourier_pair(quality: float) -> None:
    """Damping stronger and weaker than critical; area 1."""
    lags = np.array([0.0, 0.1, 0.4, 1.0])

    def transformed(lag: float) -> float:
        def density(f: float) -> float:
            return float(thermal.resonance_density(f, 1.0, quality))

        if lag == 0:
            near, _ = quad(density, 0, 3, points=[1.0], limit=200)
            return near + quad(density, 3, np.inf)[0]
        turn = 2 * math.pi * lag
        near, _ = quad(lambda f: density(f) * math.cos(turn * f), 0, 3, points=[1.0], limit=200)
        return near + quad(density, 3, np.inf, weight="cos", wvar=turn)[0]

    correlation = thermal.resonance_correlation(lags, 1.0, quality)
    assert correlation == pytest.approx([transformed(lag) for lag in lags], abs=1e-6)


@pytest.mark.parametrize("quality", [0.6, 5.0, 400.0])
@pytest.mark.parametrize("turn", [0.01, 0.7, 9.0])
def test_steps_of_any_length_are_exact(turn: float, quality: float) -> None:
    """One step carries the correlation on and leaves the equilibrium as it is."""
    step, factor = thermal._propagator(turn, quality)
    assert step @ step.T + factor @ factor.T == pytest.approx(np.eye(2), abs=1e-12)
    correlation = thermal.resonance_correlation(turn / (2 * math.pi), 1.0, quality)
    assert step[0, 0] == pytest.approx(float(correlation), abs=1e-12)
    half, _ = thermal._propagator(turn / 2, quality)
    assert half @ half == pytest.approx(step, abs=1e-12)


@pytest.mark.parametrize(("stiffness", "rms_pm"), [(0.1, 202.9), (1.0, 64.16), (40.0, 10.14)])
def test_equipartition(stiffness: float, rms_pm: float) -> None:
    """sqrt(kT / k) at 298.15 K over 20000 ring-downs, three modes; 2 %."""
    lever = Cantilever(stiffness_n_per_m=stiffness, resonance_khz=50.0, quality_factor=20.0)
    modes = ThermalModes.of_cantilever(lever, 3)
    samples = 300_000
    rate = samples / (20_000 * lever.ring_down_s)
    motion = modes.motion_nm(samples, rate, np.random.default_rng(5))
    rms = 1e3 * motion.std(axis=1)
    shares = beam.thermal_shares(3)
    assert rms == pytest.approx(rms_pm * np.sqrt(shares), rel=0.02)
    assert 1e3 * motion.sum(axis=0).std() == pytest.approx(rms_pm, rel=0.02)
    assert 1e3 * lever.thermal_rms_nm == pytest.approx(rms_pm, rel=1e-3)
    # Modes don't know of each other.
    assert np.abs(np.corrcoef(motion) - np.eye(3)).max() < 0.02


def test_spectrum_of_a_record_is_the_density_and_the_floor() -> None:
    """Around two modes, far over the bins, and between them on the detector's floor; 3 %."""
    lever = Cantilever(stiffness_n_per_m=1.0, resonance_khz=20.0, quality_factor=10.0)
    modes = ThermalModes.of_cantilever(lever, 3).seen_by_optical_lever()
    rate, floor = 4e6, 200.0
    record = modes.record_nm(2**20, rate, np.random.default_rng(2), floor)
    power = np.abs(np.fft.rfft(record)) ** 2 * 2 / (rate * record.size)
    frequency = np.fft.rfftfreq(record.size, 1 / rate)
    expected = modes.density_nm2_per_hz(frequency) + (1e-6 * floor) ** 2
    for low, high in ((1e4, 3e4), (1e5, 1.5e5), (2e5, 3e5), (5e5, 1.5e6)):
        band = (frequency > low) & (frequency < high)
        assert (power[band] / expected[band]).mean() == pytest.approx(1, abs=0.05)
    assert modes.variance_nm2[0] == pytest.approx(
        0.8174 * BOLTZMANN_NN_NM_PER_K * 298.15 / 1.0, rel=1e-3
    )


def test_record_is_a_function_of_its_seed_and_a_cold_lever_is_quiet() -> None:
    modes = ThermalModes.of_beam(SOFT, WATER)
    first, again = (modes.record_nm(1000, 1e6, np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(first, again)
    cold = ThermalModes.of_beam(SOFT, WATER, temperature_k=0.0)
    assert not cold.record_nm(1000, 1e6, np.random.default_rng(7)).any()
    with pytest.raises(ValueError, match="must not be negative"):
        modes.record_nm(10, 1e6, np.random.default_rng(7), -1.0)
