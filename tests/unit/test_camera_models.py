"""Cameras in recipes: presets, refusals, and the curves behind MTF and DQE."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from nanophantom.simcore import units
from nanophantom.simcore.cameras import Camera, CountingSensor, IntegratingSensor, presets, transfer


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


# ---- recipes and presets -------------------------------------------------------------------------


def test_the_default_is_a_perfect_counter() -> None:
    camera = Camera()
    assert camera.sensor.type == "ideal"
    assert (camera.shape, camera.dtype, camera.counts_per_electron) == ((1024, 1024), "uint16", 1.0)
    assert Camera(shot_noise=False).dtype == "float32"


@pytest.mark.parametrize("name", presets.NAMES)
def test_a_preset_survives_a_round_trip_and_names_its_sources(name: str) -> None:
    camera = Camera.model_validate({"preset": name})
    assert Camera.model_validate(camera.model_dump()) == camera
    assert Camera.model_validate_json(camera.model_dump_json()) == camera
    entry = presets.read()[name]
    assert entry["title"]
    assert all(field["source"] for field in entry["sensor"].values())
    assert presets.sources(name)["mtf" if "mtf" in entry["sensor"] else "dqe"]


def test_names_and_file_of_presets_agree() -> None:
    assert set(presets.NAMES) == set(presets.read())


@pytest.mark.parametrize(
    "said",
    [
        {"read_noise": 1.5},
        {"type": "integrating", "read_noise": 1.5},
        IntegratingSensor(read_noise=1.5),
    ],
)
def test_what_a_recipe_says_stands_over_the_preset(said: Any) -> None:
    bare = Camera(preset="falcon-2-200kv").sensor
    assert isinstance(bare, IntegratingSensor)
    sensor = Camera.model_validate({"preset": "falcon-2-200kv", "sensor": said}).sensor
    assert sensor == bare.model_copy(update={"read_noise": 1.5})


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ({"preset": "k3"}, "preset"),
        ({"preset": "ccd-80kv", "sensor": {"type": "counting"}}, "leave one of them away"),
        ({"preset": "ccd-80kv", "sensor": 3}, "sensor"),
        ({"sensor": {"type": "film"}}, "ideal, counting or integrating"),
        ({"sensor": {"type": "ideal", "read_noise": 1}}, "read_noise"),
        ({"sensor": {"type": "counting", "dqe": [0.9, 0.2, 0.3]}}, "fall from 1/2 to 1"),
        ({"sensor": {"type": "counting", "dqe": [0.9, 0.2, 0.19]}}, "no blur passes"),
        ({"sensor": {"type": "counting", "mtf": [0.3, 0.4]}}, "mtf"),
        ({"sensor": {"type": "counting", "dqe": [0.9, 0.5, 0.02], "mtf": [0.1, 0.09]}}, "mtf"),
        ({"sensor": {"type": "integrating", "efficiency": 0.5, "dqe": [0.6, 0.4, 0.1]}}, "below"),
        ({"sensor": {"type": "counting", "dead_fraction": 0.3, "hot_fraction": 0.3}}, "half"),
    ],
)
def test_impossible_recipes_are_refused_in_one_line(recipe: Any, says: str) -> None:
    with pytest.raises(ValidationError, match=says) as caught:
        Camera.model_validate(recipe)
    assert all("\n" not in error["msg"] for error in caught.value.errors())


@pytest.mark.parametrize("cls", [Camera, CountingSensor, IntegratingSensor])
def test_every_float_names_its_unit_or_is_marked(cls: Any) -> None:
    for name, field in cls.model_fields.items():
        if "float" in str(field.annotation):
            extra = field.json_schema_extra or {}
            assert bool(units.suffix_of(name)) != bool(extra.get("dimensionless")), name
        assert field.description, name


# ---- electrons -----------------------------------------------------------------------------------


def test_electrons_are_dose_times_area() -> None:
    camera = Camera(width_px=16, height_px=32, pixel_size_nm=0.02)
    intensity = np.full(camera.shape, 0.5, dtype=np.float32)
    intensity[0, 0] = -5e-5  # rounding
    electrons = camera.electrons(intensity, 100.0)
    assert electrons.dtype == np.float32
    assert electrons[1, 1] == pytest.approx(0.5 * 100.0 * 0.2**2)
    assert electrons[0, 0] == 0.0
    assert camera.mean_electrons(100.0) == pytest.approx(4.0)


@pytest.mark.parametrize("wrong", [-2e-4, np.nan])
def test_an_impossible_intensity_is_refused(wrong: float) -> None:
    camera = Camera(width_px=16, height_px=16)
    intensity = np.ones(camera.shape)
    intensity[3, 4] = wrong
    with pytest.raises(ValueError, match="below zero"):
        camera.electrons(intensity, 1.0)
    with pytest.raises(ValueError, match="below zero or not a number"):
        camera.detector(rng(), 1.0).read(intensity - 1.0, rng())


def test_a_perfect_counter_refuses_to_overflow() -> None:
    camera = Camera(width_px=16, height_px=16)
    detector = camera.detector(rng(), 1.0)
    with pytest.raises(ValueError, match=r"^instrument\.camera: \d+ electrons in a pixel overflow"):
        detector.read(np.full(camera.shape, 66000.0), rng())
    with pytest.raises(ValueError, match="shape"):
        detector.read(np.ones((3, 3)), rng())
    with pytest.raises(ValueError, match="exposure_s"):
        camera.detector(rng(), 0.0)


@pytest.mark.parametrize("name", [None, "falcon-2-200kv", "k2-like-300kv"])
def test_a_pickled_detector_reads_the_same(name: Any) -> None:
    camera = Camera(preset=name, width_px=32, height_px=16)
    detector = camera.detector(rng(), 1.0)
    copy = pickle.loads(pickle.dumps(detector))
    electrons = np.full(camera.shape, 3.0)
    assert np.array_equal(detector.read(electrons, rng(2)), copy.read(electrons, rng(2)))


def test_truth_holds_what_the_sensor_has() -> None:
    small = {"width_px": 16, "height_px": 16}
    assert Camera(**small).detector(rng(), 1.0).truth() == {}
    bare = Camera.model_validate({**small, "sensor": {"type": "counting"}})
    assert bare.detector(rng(), 1.0).truth() == {}
    full = Camera.model_validate({**small, "preset": "ccd-80kv"}).detector(rng(), 1.0).truth()
    assert {name: str(array.dtype) for name, array in full.items()} == {
        "gain": "float32",
        "dark": "float32",
        "defects": "uint8",
    }
    dark = {"sensor": {"type": "counting", "dark_rate_hz": 0.5, "dark_spread": 0.4}}
    camera = Camera.model_validate({"width_px": 512, "height_px": 512, **dark})
    rates = camera.detector(rng(), 4.0).truth()["dark"].astype(float)
    assert rates.mean() == pytest.approx(2.0, rel=0.005)
    assert rates.std() == pytest.approx(0.8, rel=0.01)


# ---- curves --------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [(0.9, 0.5), (0.6, 0.36), (0.487, 0.436), (0.3, 0.01)])
def test_a_curve_goes_through_its_points_and_falls(values: tuple[float, float]) -> None:
    curve = transfer.Curve.through(*values)
    assert curve([0.0, 0.5, 1.0]) == pytest.approx((1.0, *values), rel=1e-12)
    assert np.all(np.diff(curve(np.linspace(0, 4, 100))) <= 0)


@pytest.mark.parametrize("name", presets.NAMES)
def test_electrons_are_displaced_with_a_probability(name: str) -> None:
    """The scatter before detection has no negative part: else no events could follow it."""
    scatter = Camera.model_validate({"preset": name}).sensor._response.scatter  # type: ignore[union-attr]
    assert least_density(scatter) > -1e-9
    assert least_density(transfer.Curve(1.0, 1.0, 3.0)) < -1e-4  # what the limits keep out


def least_density(curve: transfer.Curve) -> float:
    """Return the least density of displacements, seen through a window that has none below zero."""
    k = np.fft.fftfreq(256, 1 / 8)  # cycles a pixel, eight samples each
    window = 1 - abs(k) / 4
    through = curve(2 * np.hypot(k[:, None], k)) * window[:, None] * window
    return float(np.fft.ifft2(through).real.min())


@pytest.mark.parametrize("dqe", [(0.45, 0.51, 0.15), (0.5, 0.41, 0.09), (0.89, 0.79, 0.29)])
def test_a_dqe_beyond_displacement_gets_the_nearest(dqe: tuple[float, float, float]) -> None:
    """Falcon III (InSilicoTEM's curves): no Gaussian comes nearer, and sinc^2 bounds it."""
    response = transfer.response(None, dqe)

    def miss(scatter: transfer.Curve) -> float:
        found = dqe[0] * transfer.Response(scatter, None).before(0.0, [0.25, 0.5]) ** 2
        return float(np.sum((found - dqe[1:]) ** 2))

    best = miss(response.scatter)
    assert (
        best <= min(miss(transfer.Curve(1.0, rate, 2.0)) for rate in np.linspace(0, 2, 401)) + 1e-9
    )
    assert np.all(response.before(0.0, [0.25, 0.5]) <= transfer.pixel_area(0.0, [0.25, 0.5]))


def test_an_ideal_pixel_passes_its_sinc() -> None:
    k = np.linspace(0, 1.5, 7)
    for sensor in (Camera().sensor, CountingSensor(), IntegratingSensor()):
        assert sensor.transfer(0.0, k) == pytest.approx(np.sinc(k), abs=1e-12)
        assert sensor.dqe_at(k, 0.0) == pytest.approx(np.sinc(k) ** 2, abs=1e-12)


def test_read_noise_lowers_the_dqe_at_few_electrons() -> None:
    """efficiency n / (n (1 + v) + s^2 / efficiency) at zero frequency."""
    sensor = IntegratingSensor(
        efficiency=0.8, dqe=(0.4, 0.2, 0.05), mtf=(0.3, 0.1), read_noise=2.0, bits=None
    )
    assert sensor.dqe_at(0.0, 0.0, electrons=5.0) == pytest.approx(0.8 / (2.0 + 4.0 / (0.8 * 5.0)))
    assert sensor.dqe_at(0.0, 0.5, electrons=1e9) == pytest.approx(0.05, rel=1e-4)


def test_coincidence_lowers_the_dqe() -> None:
    """x / (exp(x) - 1) for x electrons a pixel and internal frame."""
    sensor = CountingSensor(frame_rate_hz=100.0)
    x = 0.7
    assert sensor.dqe_at(0.0, 0.0, 70.0, 1.0) == pytest.approx(x / np.expm1(x))


def test_a_camera_warns_of_saturation_and_of_coincidence():
    """90 electrons a pixel in a second fill an active pixel; of a counter's most coincide."""
    dose = 90.0 / 0.09**2
    (full,) = Camera(preset="team-maps-80kv", pixel_size_nm=0.009).notes(dose, 1.0)
    assert "of the camera's range" in full
    (lost,) = Camera(preset="k2-like-300kv", pixel_size_nm=0.009).notes(dose, 1.0)
    assert "coincide" in lost
    assert Camera(preset="k2-like-300kv", pixel_size_nm=0.009).notes(dose / 90, 1.0) == ()
