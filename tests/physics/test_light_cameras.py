"""Light cameras against closed forms: samplers, the gain register, maps, conversion."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats

from nanophantom.simcore.cameras import kernels, presets, sampling_tables
from nanophantom.simcore.cameras.light import LightCamera

Array = npt.NDArray[Any]
QUIET = {"read_noise_e": 0.0, "offset_adu": 0.0}


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def camera(edge: int = 512, **more: Any) -> LightCamera:
    return LightCamera.model_validate({"width_px": edge, "height_px": edge, **more})


def frames(cam: LightCamera, photons: float, count: int = 1, exposure_s: float = 0.05) -> Array:
    detector = cam.detector(rng(1), exposure_s)
    flat = np.full(cam.shape, photons, dtype=np.float32)
    return np.stack([detector.read(flat, rng(2, i)) for i in range(count)])


def assert_moments(x: Array, mean: float, variance: float) -> None:
    """Mean and variance within three standard errors, the latter from the fourth moment."""
    x = x.astype(np.float64)
    m2, m4 = scipy.stats.moment(x, [2, 4], axis=None)
    assert abs(x.mean() - mean) < 3 * math.sqrt(variance / x.size)
    assert abs(m2 - variance) < 3 * math.sqrt((m4 - m2 * m2) / x.size)


# ---- samplers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mean", [0.03, 0.12, 0.9, 3.99, 4.0, 10.0, 37.3, 127.99, 128.01, 400.0])
def test_every_number_of_photons_has_its_poisson_probability(mean: float) -> None:
    """Down to 6e-7: each number expected five times or more among 8 million is its own class."""
    mean, size, rounds = float(np.float32(mean)), 1 << 21, 4
    photons = np.full(size, mean, dtype=np.float32)
    counts, seen = np.empty(size, dtype=np.uint16), np.zeros(600)
    for i in range(rounds):
        kernels.count_all(photons, 1.0, kernels.draw_key(rng(3, i)), counts)
        seen += np.bincount(counts, minlength=600)
    n, k = size * rounds, np.arange(600)
    assert abs(seen @ k / n - mean) < 3 * math.sqrt(mean / n)
    assert abs(seen @ (k - mean) ** 2 / n - mean) < 3 * math.sqrt((mean + 2 * mean**2) / n)
    expected = n * scipy.stats.poisson(mean).pmf(k)
    own = expected >= 5
    classes = [np.append(x[own], n - x[own].sum()) for x in (seen, expected)]
    if classes[1][-1] < 1:  # the rest, too rare for a class
        assert classes[0][-1] < 10
        classes = [x[:-1] * n / x[:-1].sum() for x in classes]
    assert scipy.stats.chisquare(*classes).pvalue > 1e-3


def test_tables_of_poisson_numbers_hold_the_probabilities() -> None:
    """What a table's columns share out is the law itself, to a unit of 2^-64."""
    for numerator, denominator, bits in ((124, 1, 8), (4, 1, 8), (31, 8, 5), (1, 8, 5)):
        weights = sampling_tables.poisson_weights(numerator, denominator, bits)
        room, shared = 1 << (64 - bits), [0] * len(weights)
        for column, word in enumerate(sampling_tables.alias_table(weights, bits)):
            threshold, other = word >> bits, word & ((1 << bits) - 1)
            shared[column] += threshold
            shared[other] += room - threshold
        assert shared == weights
        law = scipy.stats.poisson(numerator / denominator)
        assert np.array(weights, float) / 2.0**64 == pytest.approx(
            law.pmf(np.arange(1 << bits)), rel=1e-12, abs=1e-18
        )
        assert law.sf((1 << bits) - 1) < 1e-18


def test_the_ziggurat_gives_normal_numbers() -> None:
    """Classes of equal probability, the tail beyond the lowest layer, and the fourth moment."""
    zero, none = np.zeros((1024, 2048), np.float32), np.zeros(1024, np.float32)
    drawn = zero.copy()
    kernels.add_readout(drawn, zero, zero, 1.0, none, zero[0], kernels.draw_key(rng(4)))
    x = drawn.ravel().astype(np.float64)
    u = scipy.stats.norm.cdf(x)
    assert scipy.stats.chisquare(np.bincount((u * 997).astype(int), minlength=997)).pvalue > 1e-3
    for edge in (3.0, sampling_tables.ZIGGURAT_EDGE, 4.2):
        for beyond in (x > edge, x < -edge):
            expected = x.size * scipy.stats.norm.sf(edge)
            assert abs(beyond.sum() - expected) < 3.5 * math.sqrt(expected)
    assert_moments(x, 0.0, 1.0)
    assert abs(np.mean(x**4) - 3.0) < 3 * math.sqrt(96 / x.size)
    assert abs(np.mean(x[1:] * x[:-1])) < 3 / math.sqrt(x.size)


def test_the_tail_of_the_ziggurat_is_the_normal_one() -> None:
    """Beyond the lowest layer, drawn by itself: on the side of the number that led there."""
    state = tuple(kernels.draw_key(rng(14)))
    tail = np.empty(20000)
    for i in range(tail.size):
        kept, tail[i], words = kernels._beside_the_core(0, (-1.0) ** i, state)
        state = tuple(np.uint64(word) for word in words)
        assert kept
    assert np.all(np.sign(tail[:-1]) == -np.sign(tail[1:]))
    beyond = scipy.stats.norm.sf(abs(tail)) / scipy.stats.norm.sf(sampling_tables.ZIGGURAT_EDGE)
    assert scipy.stats.kstest(beyond, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("electrons", [1, 2, 7, 300])
def test_a_register_makes_gamma_numbers(electrons: int) -> None:
    """Of n electrons come x with the density x^(n-1) exp(-x/g) / (g^n Gamma(n))."""
    signal = np.full(1 << 20, electrons, dtype=np.float32)
    kernels.multiply(signal, 300.0, np.inf, kernels.draw_key(rng(5)))
    law = scipy.stats.gamma(electrons, scale=300.0)
    u = law.cdf(signal.astype(np.float64))
    assert scipy.stats.chisquare(np.bincount((u * 499).astype(int), minlength=499)).pvalue > 1e-3
    assert_moments(signal, law.mean(), law.var())


def test_no_electron_leaves_no_signal() -> None:
    signal = np.zeros(1000, dtype=np.float32)
    kernels.multiply(signal, 300.0, np.inf, kernels.draw_key(rng(6)))
    assert not signal.any()


# ---- the gain register ---------------------------------------------------------------------------


def test_excess_noise_is_two_where_536_stages_have_1_976() -> None:
    """Row 39: of one electron, F^2 = E[x^2] / E[x]^2.

    The exact law of a register is carried from stage to stage by its generating function, in each
    of which an electron becomes two with a probability p, (1 + p)^536 = 300. Closed form of its
    F^2: 2 (g - 1) / (g (1 + p)) + 1 / g (M. S. Robbins & B. J. Hadwen, IEEE Trans. Electron
    Devices 50 (2003) 1227).
    """
    stages, gain = 536, 300.0
    p = gain ** (1 / stages) - 1
    s = np.exp(-2j * np.pi * np.arange(16384) / 16384)
    for _ in range(stages):
        s = (1 - p) * s + p * s * s
    law, x = np.fft.ifft(s).real, np.arange(16384)
    assert law @ x == pytest.approx(gain, rel=1e-9)
    staged = law @ x**2 / gain**2
    assert staged == pytest.approx(2 * (gain - 1) / (gain * (1 + p)) + 1 / gain, rel=1e-9)
    assert staged == pytest.approx(1.976, rel=5e-4)

    signal = np.ones(1 << 21, dtype=np.float32)
    kernels.multiply(signal, gain, np.inf, kernels.draw_key(rng(7)))
    amounts = signal.astype(np.float64)
    assert np.mean(amounts**2) / amounts.mean() ** 2 == pytest.approx(2.0, rel=0.005)
    cumulative = np.cumsum(law)[np.arange(0, 3000, 10)]
    drawn = np.searchsorted(np.sort(amounts), np.arange(0, 3000, 10) + 0.5) / amounts.size
    assert abs(drawn - cumulative).max() == pytest.approx(0.0047, abs=0.0013)  # exact: 0.00473


@pytest.mark.parametrize("gain", [30.0, 300.0])
@pytest.mark.parametrize("photons", [2.5, 10.0, 40.0])
def test_moments_of_the_challenge_camera(photons: float, gain: float) -> None:
    """Row 40, at its gain and a tenth: the floor costs half a unit and adds 1/12."""
    cam = camera(1024, preset="smlm-challenge-evolve", sensor={"em_gain": gain})
    electrons = 0.9 * photons + 0.002
    mean = 99.5 + electrons * gain / 45
    variance = (electrons * 2 * gain**2 + 74.4**2) / 45**2 + 1 / 12
    if (photons, gain) == (10.0, 300.0):
        assert (mean, variance) == pytest.approx((159.51, 803.0), rel=1e-4)
    assert_moments(frames(cam, photons), mean, variance)


def test_clock_induced_charge_lights_single_dark_pixels() -> None:
    """One electron exceeds a level t with the probability exp(-t / g)."""
    sensor = {"clock_induced_e": 0.004, "dark_rate_per_s": 0.02}
    dark = frames(camera(1024, preset="ixon-897-10mhz", sensor=sensor), 0.0, 2, exposure_s=0.1)
    level = 5.5 * 65.0  # electrons; noise alone reaches it in 2e-8 of the pixels
    expected = dark.size * 0.006 * math.exp(-(level - 65.0**2 / 600.0) / 300.0)
    above = np.sum((dark - 100.0) * 5.0 > level)
    assert abs(above - expected) < 3 * math.sqrt(expected)


def test_a_gain_of_one_reads_past_the_register() -> None:
    sensor = {"type": "emccd", "em_gain": 1.0, "clock_induced_e": 0.0, "adu_per_electron": 1.0}
    cam = camera(1024, sensor={**sensor, **QUIET, "quantum_efficiency": 1.0})
    assert_moments(frames(cam, 50.0), 50.0, 50.0)
    assert cam.settings()["excess_noise"] == 1.0


# ---- maps and photon transfer --------------------------------------------------------------------


def test_photon_transfer_curve() -> None:
    """The variance rises with the mean by the gain from the read noise's, plus 1/12 of rounding."""
    sensor = {"type": "scmos", "adu_per_electron": 2.17, "read_noise_e": 1.6, "bits": 16}
    cam = camera(1024, sensor=sensor)
    lit = [frames(cam, photons).astype(np.float64) for photons in (0.0, 20.0, 100.0, 500.0)]
    mean = np.array([x.mean() for x in lit])
    variance = np.array([x.var() for x in lit])
    floor = (1.6 * 2.17) ** 2 + 1 / 12
    assert mean == pytest.approx(100 + 0.9 * 2.17 * np.array([0, 20, 100, 500]), rel=1e-3)
    assert (variance[1:] - floor) / (mean[1:] - 100) == pytest.approx(2.17, rel=0.006)
    assert variance[0] == pytest.approx(floor, rel=0.006)


def test_an_operator_can_measure_the_maps() -> None:
    """Dark frames give offset and variance, flat ones the gain: every pixel within its errors."""
    cam = camera(32, preset="orca-flash4", sensor={"dark_rate_per_s": 0.0, "hot_fraction": 0.0})
    detector = cam.detector(rng(1), 0.01)
    count = 1500
    dark, lit = (
        np.stack(
            [detector.read(np.full(cam.shape, n, np.float32), rng(8, i)) for i in range(count)]
        )
        for n in (0.0, 400.0)
    )
    known = detector.calibration()
    gain = known["gain_map"] * 2.17
    variance = known["variance_map"] * gain**2 + 1 / 12
    electrons = (lit.mean(axis=0) - dark.mean(axis=0)) / gain
    for measured, true, error in (
        (dark.mean(axis=0), known["offset_map"], np.sqrt(variance / count)),
        (dark.var(axis=0), variance, variance * math.sqrt(2 / count)),
        (electrons, 0.82 * 400.0, np.sqrt(2 * variance / gain**2 + 328.0) / math.sqrt(count)),
    ):
        off = (measured - true) / error
        assert abs(off.mean()) < 3 / math.sqrt(off.size)
        assert off.std() == pytest.approx(1.0, abs=0.07)


def test_maps_have_the_means_that_the_recipe_states() -> None:
    sensor = {
        "type": "scmos",
        "offset_spread_adu": 3.0,
        "gain_spread": 0.02,
        "efficiency_spread": 0.03,
        "read_noise_e": 1.6,
        "read_noise_spread": 0.35,
        "noisy_fraction": 0.02,
        "noisy_factor": 7.1,
        "dark_rate_per_s": 2.0,
        "dark_spread": 0.4,
        "hot_fraction": 0.001,
        "hot_rate_per_s": 500.0,
    }
    truth = camera(1024, sensor=sensor).detector(rng(9), 0.5).truth()
    maps = {name: array.astype(np.float64) for name, array in truth.items()}
    hot = truth["defects"] == 2
    assert hot.mean() == pytest.approx(0.001, rel=0.1)
    for name, mean, spread in (
        ("offset_map", 100.0, 3.0),
        ("gain_map", 1.0, 0.02),
        ("efficiency_map", 1.0, 0.03),
    ):
        assert maps[name].mean() == pytest.approx(mean, abs=3 * spread / 1024)
        assert maps[name].std() == pytest.approx(spread, rel=0.004)
    assert maps["dark_map"][~hot].mean() == pytest.approx(1.0, abs=0.002)
    assert maps["dark_map"][~hot].std() == pytest.approx(0.4, rel=0.01)
    assert maps["dark_map"][hot].mean() == pytest.approx(251.0, abs=0.1)
    noise = np.sqrt(maps["variance_map"])
    assert math.sqrt(maps["variance_map"].mean()) == pytest.approx(1.6, rel=0.01)
    assert np.median(noise) == pytest.approx(1.0, abs=0.03)  # ORCA-Flash4: median 1.0 of rms 1.6
    assert np.mean(noise > 4.0) == pytest.approx(0.018, abs=0.002)


def test_one_map_leaves_the_others_unchanged() -> None:
    def truth(**more: Any) -> dict[str, Array]:
        return camera(64, preset="orca-flash4", sensor=more).detector(rng(1), 0.1).truth()

    usual = truth()
    assert set(usual) == {"offset_map", "gain_map", "variance_map", "dark_map", "defects"}
    for knob, its in (("offset_spread_adu", "offset_map"), ("gain_spread", "gain_map")):
        without = truth(**{knob: 0.0})
        assert set(usual) - set(without) == {its}
        for name, array in without.items():
            assert np.array_equal(array, usual[name])


# ---- conversion ----------------------------------------------------------------------------------


def test_rounding_down_costs_half_a_unit() -> None:
    """The same frame in both roundings: each pixel one unit less or none, half a unit in mean."""
    down, near = (
        frames(camera(512, preset="kinetix22", sensor={"rounding": how}), 20.0).astype(int)
        for how in ("floor", "round")
    )
    assert set(np.unique(near - down)) == {0, 1}
    assert np.mean(near - down) == pytest.approx(0.5, abs=3 * 0.5 / 512)
    ideal = [
        camera(512, preset="kinetix22", sensor={"rounding": how}).settings()["offset_adu"]
        for how in ("floor", "round")
    ]
    assert ideal == [99.5, 100.0]


@pytest.mark.parametrize(
    ("sensor", "top"),
    [
        ({"type": "scmos", "bits": 12, "adu_per_electron": 4.0}, 4095),
        ({"type": "scmos", "full_well_e": 1000.0, "adu_per_electron": 4.0}, 4100),
        ({"type": "emccd", "full_well_e": 50.0, "em_gain": 1.0, "adu_per_electron": 4.0}, 300),
        ({"type": "emccd", "register_well_e": 8e5, "adu_per_electron": 0.05}, 40100),
        ({"type": "emccd", "adu_per_electron": 0.2}, 65535),
    ],
)
def test_what_is_full_first_ends_the_range(sensor: dict[str, Any], top: int) -> None:
    """Converter, full well and gain register; and dark pixels never wrap round below zero."""
    cam = camera(64, sensor={**sensor, "read_noise_e": 0.0})
    bright = frames(cam, 3e5)
    assert bright.dtype == np.uint16
    assert np.all(bright == top)
    noisy = camera(64, sensor={**sensor, "read_noise_e": 1e4, "offset_adu": 0.0})
    assert np.any(frames(noisy, 0.0) == 0)
    assert np.all(frames(noisy, 0.0) <= 2**noisy.sensor.bits - 1)


@pytest.mark.parametrize("efficiency", [0.25, 0.9])
def test_quantum_efficiency_thins_the_photons(efficiency: float) -> None:
    """Poisson numbers of the smaller mean, in the counter and behind a quiet converter."""
    for sensor in ({"type": "ideal"}, {"type": "scmos", **QUIET}):
        cam = camera(1024, sensor={**sensor, "quantum_efficiency": efficiency})
        assert_moments(frames(cam, 20.0), 20.0 * efficiency, 20.0 * efficiency)


# ---- expectation, streams ------------------------------------------------------------------------


@pytest.mark.parametrize("name", presets.LIGHT_NAMES)
def test_the_mean_of_many_frames_is_the_ideal(name: str) -> None:
    """In every pixel of an uneven frame, within the error that the noise gives it."""
    cam = camera(48, preset=name, sensor={} if name == "ideal" else {"dark_rate_per_s": 30.0})
    detector = cam.detector(rng(1), 0.05)
    photons = rng(2).uniform(2.0, 30.0, cam.shape).astype(np.float32)
    read = np.stack([detector.read(photons, rng(10, i)) for i in range(600)]).astype(float)
    error = read.std(axis=0) / math.sqrt(len(read))
    off = (read.mean(axis=0) - detector.ideal(photons)) / error
    assert abs(off.mean()) < 3 / math.sqrt(off.size)
    assert off.std() == pytest.approx(1.0, abs=0.06)
    silent = camera(48, **{**cam.model_dump(), "noise": False})
    calm = silent.detector(rng(1), 0.05).read(photons, rng(3))
    assert calm.dtype == silent.dtype == "float32"
    assert np.array_equal(calm, detector.ideal(photons))


@pytest.mark.parametrize("name", presets.LIGHT_NAMES)
def test_settings_turn_readout_into_photons(name: str) -> None:
    cam = camera(512, preset=name)
    detector = cam.detector(rng(1), 0.05)
    known = cam.settings(detector)
    adu = detector.read(np.full(cam.shape, 25.0, np.float32), rng(11)).astype(float)
    per_photon = known["adu_per_electron"] * known["em_gain"] * known["quantum_efficiency"]
    photons = (adu - known.get("offset_map", known["offset_adu"])) / per_photon
    photons = photons / known.get("gain_map", 1.0)
    error = 3 * photons.std() / math.sqrt(photons.size)
    assert photons.mean() == pytest.approx(25.0, abs=error)


def test_switching_one_noise_off_leaves_the_others_draws_unchanged() -> None:
    """Without read noise the same electrons arrive, and the register makes as many of them."""
    read = {
        noise: frames(
            camera(
                256,
                sensor={"type": "scmos", "adu_per_electron": 100.0, "read_noise_e": noise},
            ),
            9.0,
        ).astype(float)
        for noise in (0.0, 0.05)
    }
    assert np.any(read[0.0] != read[0.05])
    assert np.array_equal(np.rint((read[0.05] - 100) / 100), (read[0.0] - 100) / 100)
    multiplied = [
        frames(camera(256, preset="ixon-897-1mhz", sensor={"read_noise_e": noise}), 9.0)
        for noise in (0.0, 15.0)
    ]
    difference = np.subtract(*(x.astype(float) for x in multiplied)) / 0.2
    assert difference.std() == pytest.approx(15.0, rel=0.03)  # nothing but the read noise
    plain, lifted = (
        frames(camera(256, sensor={"type": "emccd", "em_gain": gain, **single, **QUIET}), 0.5)
        for gain, single in (
            (1.0, {"clock_induced_e": 0.0, "adu_per_electron": 1.0}),
            (1000.0, {"clock_induced_e": 0.0, "adu_per_electron": 0.05}),
        )
    )
    assert not lifted[plain == 0].any()  # where none arrives without a register, none does with it
    assert np.mean(lifted[plain == 1]) == pytest.approx(50.0, rel=0.03)


@pytest.mark.parametrize("name", presets.LIGHT_NAMES)
def test_equal_streams_give_equal_bytes(name: str) -> None:
    cam = camera(64, preset=name)
    first, again = (cam.detector(rng(1), 0.1) for _ in range(2))
    photons = np.full(cam.shape, 12.0)
    frame = first.read(photons, rng(12))
    assert frame.tobytes() == again.read(photons, rng(12)).tobytes()
    assert frame.tobytes() != again.read(photons, rng(13)).tobytes()
