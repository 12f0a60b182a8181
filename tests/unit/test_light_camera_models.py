"""Light cameras in recipes: presets, refusals, what the operator knows, warnings."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from nanophantom.simcore import units
from nanophantom.simcore.cameras import presets
from nanophantom.simcore.cameras.light import LightCamera
from nanophantom.simcore.cameras.light_sensors import Emccd, PhotonCounter, Scmos


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_default_is_a_perfect_counter() -> None:
    camera = LightCamera()
    assert (camera.sensor.type, camera.shape, camera.dtype) == ("ideal", (128, 128), "uint16")
    assert LightCamera(noise=False).dtype == "float32"
    assert camera.settings() == {
        "offset_adu": 0.0,
        "adu_per_electron": 1.0,
        "quantum_efficiency": 1.0,
        "em_gain": 1.0,
        "read_noise_e": 0.0,
        "excess_noise": 1.0,
        "calibrated": False,
    }


@pytest.mark.parametrize("name", presets.LIGHT_NAMES)
def test_a_preset_survives_a_round_trip_and_names_its_sources(name: str) -> None:
    camera = LightCamera.model_validate({"preset": name})
    assert LightCamera.model_validate(camera.model_dump()) == camera
    assert LightCamera.model_validate_json(camera.model_dump_json()) == camera
    entry = presets.read(presets.LIGHT)[name]
    assert entry["title"]
    assert all(field["source"] for field in entry["sensor"].values())
    told = presets.sources(name, presets.LIGHT)
    assert set(told) == set(entry["sensor"]) | set(entry.get("camera", {}))


def test_names_and_file_of_presets_agree() -> None:
    assert set(presets.LIGHT_NAMES) == set(presets.read(presets.LIGHT))


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        # SMLM Challenge 2016, NoiseModule.java
        (
            "smlm-challenge-evolve",
            {
                "quantum_efficiency": 0.9,
                "clock_induced_e": 0.002,
                "em_gain": 300.0,
                "read_noise_e": 74.4,
                "adu_per_electron": 1 / 45,
                "offset_adu": 100.0,
            },
        ),
        # Andor's specification of the iXon 897 at 17, 10, 5 and 1 MHz
        ("ixon-897-17mhz", {"read_noise_e": 89.0, "clock_induced_e": 0.0018}),
        ("ixon-897-10mhz", {"read_noise_e": 65.0, "clock_induced_e": 0.0018}),
        ("ixon-897-5mhz", {"read_noise_e": 37.0, "clock_induced_e": 0.0018}),
        ("ixon-897-1mhz", {"read_noise_e": 15.0, "clock_induced_e": 0.0018}),
        # Teledyne Photometrics' data sheet of the Kinetix22
        (
            "kinetix22",
            {
                "read_noise_e": 1.2,
                "adu_per_electron": 1 / 0.25,
                "dark_rate_per_s": 1.03,
                "offset_adu": 100.0,
            },
        ),
        # Hamamatsu's technical note; 0.46 electrons a unit
        ("orca-flash4", {"gain_spread": 0.003, "adu_per_electron": pytest.approx(1 / 0.46, 0.01)}),
    ],
)
def test_presets_hold_the_published_numbers(name: str, numbers: dict[str, Any]) -> None:
    sensor = LightCamera.model_validate({"preset": name}).sensor
    assert {field: getattr(sensor, field) for field in numbers} == numbers


@pytest.mark.parametrize(
    "said",
    [{"read_noise_e": 40.0}, {"type": "emccd", "read_noise_e": 40.0}, Emccd(read_noise_e=40.0)],
)
def test_what_a_recipe_says_stands_over_the_preset(said: Any) -> None:
    bare = LightCamera.model_validate({"preset": "ixon-897-17mhz"})
    camera = LightCamera.model_validate({"preset": "ixon-897-17mhz", "sensor": said})
    assert camera.sensor == bare.sensor.model_copy(update={"read_noise_e": 40.0})
    assert camera.pixel_size_um == 16.0
    assert LightCamera(preset="ixon-897-17mhz", pixel_size_um=8.0).pixel_size_um == 8.0


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ({"preset": "k3"}, "preset"),
        ({"preset": "kinetix22", "sensor": {"type": "emccd"}}, "leave one of them away"),
        ({"sensor": {"type": "film"}}, "ideal, emccd or scmos"),
        ({"sensor": {"type": "ideal", "read_noise_e": 1}}, "read_noise_e"),
        ({"sensor": {"type": "emccd", "em_gain": 0.5}}, "em_gain"),
        ({"sensor": {"type": "scmos", "rounding": "up"}}, "rounding"),
        ({"sensor": {"type": "scmos", "bits": 17}}, "bits"),
    ],
)
def test_impossible_recipes_are_refused_in_one_line(recipe: Any, says: str) -> None:
    with pytest.raises(ValidationError, match=says) as caught:
        LightCamera.model_validate(recipe)
    assert all("\n" not in error["msg"] for error in caught.value.errors())


@pytest.mark.parametrize("cls", [LightCamera, PhotonCounter, Emccd, Scmos])
def test_every_float_names_its_unit_or_is_marked(cls: Any) -> None:
    for name, field in cls.model_fields.items():
        if "float" in str(field.annotation):
            extra = field.json_schema_extra or {}
            assert bool(units.suffix_of(name)) != bool(extra.get("dimensionless")), name
        assert field.description, name


def test_the_operator_knows_the_maps_if_calibrated() -> None:
    camera = LightCamera(preset="orca-flash4", width_px=32, height_px=16)
    detector = camera.detector(rng(), 0.1)
    known, truth = camera.settings(detector), detector.truth()
    assert known["calibrated"] is True
    for name in ("offset_map", "gain_map", "variance_map"):
        assert known[name].dtype == np.float32
        assert np.array_equal(known[name], truth[name])
    plain = camera.model_copy(update={"calibrated": False}).settings(detector)
    assert plain["calibrated"] is False
    assert not [name for name in plain if name.endswith("_map")]
    even = LightCamera(preset="ixon-897-5mhz")
    assert even.settings(even.detector(rng(), 0.1))["calibrated"] is False


def test_a_wrong_belief_changes_what_is_told_and_not_what_is_read() -> None:
    wrong = {"assumed_offset_adu": 90.0, "assumed_adu_per_electron": 2.0}
    true = LightCamera(preset="orca-flash4", width_px=16, height_px=16)
    believing = LightCamera.model_validate({**true.model_dump(), **wrong})
    detectors = [camera.detector(rng(), 0.1) for camera in (true, believing)]
    photons = np.full(true.shape, 8.0)
    assert np.array_equal(*(d.read(photons, rng(2)) for d in detectors))
    known = believing.settings(detectors[1])
    assert (known["offset_adu"], known["adu_per_electron"]) == (90.0, 2.0)
    shift = known["offset_map"] - true.settings(detectors[0])["offset_map"]
    assert shift == pytest.approx(-10.0, abs=1e-4)


def test_an_impossible_exposure_is_refused() -> None:
    camera = LightCamera(width_px=16, height_px=16)
    detector = camera.detector(rng(), 0.1)
    with pytest.raises(ValueError, match="photons: shape"):
        detector.read(np.ones((3, 3)), rng())
    with pytest.raises(ValueError, match="photons: a mean number below zero or not a number"):
        detector.read(np.full(camera.shape, np.nan), rng())
    with pytest.raises(ValueError, match=r"^instrument\.camera: \d+ photons in a pixel overflow"):
        detector.read(np.full(camera.shape, 66000.0), rng())
    with pytest.raises(ValueError, match="exposure_s"):
        camera.detector(rng(), 0.0)


@pytest.mark.parametrize("name", ["ideal", "ixon-897-17mhz", "orca-flash4"])
def test_a_pickled_detector_reads_the_same(name: Any) -> None:
    detector = LightCamera(preset=name, width_px=32, height_px=16).detector(rng(), 0.1)
    copy = pickle.loads(pickle.dumps(detector))
    photons = np.full(detector.shape, 3.0)
    assert np.array_equal(detector.read(photons, rng(2)), copy.read(photons, rng(2)))


@pytest.mark.parametrize(
    ("name", "photons", "part"),
    [
        ("kinetix22", 1000.0, "12-bit converter"),
        ("orca-flash4", 34000.0, "full well"),
        ("smlm-challenge-evolve", 9000.0, "16-bit converter"),
        ("ideal", 60000.0, "16-bit counter"),
    ],
)
def test_a_camera_warns_of_saturation(name: Any, photons: float, part: str) -> None:
    camera = LightCamera(preset=name)
    (told,) = camera.notes(np.array([1.0, photons]))
    assert part in told
    assert camera.notes(photons / 2) == ()


def test_a_camera_warns_of_a_full_register_and_of_a_low_offset() -> None:
    sensor = {"type": "emccd", "register_well_e": 8e5, "adu_per_electron": 0.05, "offset_adu": 5.0}
    full, low = LightCamera.model_validate({"sensor": sensor}).notes(2500.0)
    assert "gain register" in full
    assert "offset of 5" in low
