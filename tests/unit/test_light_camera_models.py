"""Light cameras in recipes: presets, refusals, what the operator knows, warnings."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError

from nanophantom.simcore import units
from nanophantom.simcore.cameras import presets
from nanophantom.simcore.cameras.light import LightCamera
from nanophantom.simcore.cameras.light_detectors import LightDetector
from nanophantom.simcore.cameras.light_sensors import Emccd, PhotonCounter, Scmos


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed or 1)


def square(edge: int, **more: Any) -> LightCamera:
    return LightCamera.model_validate({"width_px": edge, "height_px": edge, **more})


def frames(detector: LightDetector, photons: float, count: int) -> npt.NDArray[np.float64]:
    flat = np.full(detector.shape, photons, dtype=np.float32)
    read = [detector.read(flat, rng(int(photons), i)) for i in range(count)]
    return np.stack(read).astype(np.float64)


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
    dark = truth["dark_map"]
    expected = {
        "offset_map": truth["offset_map"] + known["adu_per_electron"] * truth["gain_map"] * dark,
        "gain_map": truth["gain_map"],
        "variance_map": truth["variance_map"] + dark,
    }
    for name, values in expected.items():
        assert known[name].dtype == np.float32
        assert known[name] == pytest.approx(values, rel=1e-6)
    plain = camera.model_copy(update={"calibrated": False}).settings(detector)
    assert plain["calibrated"] is False
    assert plain["offset_adu"] == pytest.approx(expected["offset_map"].mean())
    assert plain["read_noise_e"] == camera.sensor.read_noise_e
    assert not [name for name in plain if name.endswith("_map")]
    even = LightCamera(preset="ixon-897-5mhz")
    assert even.settings(even.detector(rng(), 0.1))["calibrated"] is False


@pytest.mark.parametrize("rounding", ["round", "floor"])
def test_told_maps_are_those_of_dark_frames_on_hot_pixels_too(rounding: str) -> None:
    """Offset within three standard errors, variance within 5 %: dark signal is in both.

    The truth keeps the causes apart; the photons of lit frames come out right on hot pixels, and
    in the mean with what an operator without maps is told.
    """
    sensor = {"rounding": rounding, "dark_spread": 0.3, "hot_fraction": 0.2, "hot_rate_per_s": 600}
    cam = square(24, preset="orca-flash4", sensor=sensor)
    detector = cam.detector(rng(1), 0.5)
    count = 5000
    dark, lit = (frames(detector, photons, count) for photons in (0.0, 50.0))
    known, truth = cam.settings(detector), detector.truth()
    hot = truth["defects"] == 2
    gain = known["adu_per_electron"] * known["gain_map"]
    assert known["offset_map"] == pytest.approx(
        truth["offset_map"] + gain * truth["dark_map"], abs=1e-3
    )
    assert known["variance_map"] == pytest.approx(truth["variance_map"] + truth["dark_map"])
    assert np.all(truth["dark_map"][hot] > 300.0)
    assert np.max(truth["variance_map"]) < 300.0

    error = dark.std(axis=0) / math.sqrt(count)
    off = (dark.mean(axis=0) - known["offset_map"]) / error
    assert abs(off.mean()) < 3 / math.sqrt(off.size)
    assert off.std() == pytest.approx(1.0, abs=0.09)
    assert abs(off[hot].mean()) < 3 / math.sqrt(hot.sum())
    for which in (hot, ~hot):
        seen = (dark.var(axis=0) - 1 / 12) / gain**2 / known["variance_map"]
        assert seen[which].mean() == pytest.approx(1.0, abs=3 * math.sqrt(2 / count / which.sum()))
    assert np.mean(abs(seen[hot] - 1.0) < 0.05) > 0.97  # 2.5 standard errors
    assert dark.mean() == pytest.approx(known["offset_adu"], abs=3 * error.mean() / hot.size**0.5)

    photons = (lit.mean(axis=0) - known["offset_map"]) / gain / known["quantum_efficiency"]
    error = lit.std(axis=0) / gain / known["quantum_efficiency"] / math.sqrt(count)
    assert abs(((photons - 50.0) / error)[hot].mean()) < 3 / math.sqrt(hot.sum())
    plain = cam.model_copy(update={"calibrated": False}).settings(detector)
    assert plain["offset_adu"] == known["offset_adu"] == pytest.approx(known["offset_map"].mean())
    per_photon = plain["adu_per_electron"] * plain["quantum_efficiency"]
    mean = (lit.mean() - plain["offset_adu"]) / per_photon
    # Three standard errors: of the mean of 576 gains, whose spread is 0.003, and of the noise.
    noise = lit.std(axis=0).mean() / per_photon / 50.0 / math.sqrt(lit.size)
    assert mean == pytest.approx(50.0, rel=3 * math.hypot(0.003 / 24, noise))


@pytest.mark.parametrize(("full_well_e", "end"), [(400.0, 1700.0), (5000.0, 4095.0)])
def test_a_hot_pixel_that_is_full_in_the_dark_stands_at_its_end(
    full_well_e: float, end: float
) -> None:
    """At the full well or the converter's last number, whereas the ideal goes on."""
    even = {"offset_spread_adu": 0.0, "gain_spread": 0.0, "full_well_e": full_well_e}
    sensor = {**even, "hot_fraction": 0.1, "hot_rate_per_s": 2000.0}
    cam = square(32, preset="kinetix22", sensor=sensor)
    detector = cam.detector(rng(1), 1.0)
    hot = detector.truth()["defects"] == 2
    assert detector.calibration()["offset_map"][hot] == pytest.approx(end)
    assert frames(detector, 0.0, 20)[:, hot].mean() == pytest.approx(end, abs=1.0)
    assert np.all(detector.ideal(np.zeros(cam.shape))[hot] > 8000.0)


def test_dark_frames_of_a_register_have_the_told_offset() -> None:
    """Dark signal and clock-induced charge, multiplied: the same in every pixel, so no maps."""
    sensor = {"clock_induced_e": 0.05, "dark_rate_per_s": 0.5, "rounding": "floor"}
    cam = square(512, preset="ixon-897-1mhz", sensor=sensor)
    detector = cam.detector(rng(1), 0.1)
    known = cam.settings(detector)
    dark, lit = (frames(detector, photons, 4) for photons in (0.0, 3.0))
    per_electron = known["adu_per_electron"] * known["em_gain"]
    assert known["offset_adu"] == pytest.approx(cam.sensor.offset_adu - 0.5 + 0.1 * per_electron)
    assert abs(dark.mean() - known["offset_adu"]) < 3 * dark.std() / math.sqrt(dark.size)
    photons = (lit - known["offset_adu"]) / per_electron / known["quantum_efficiency"]
    assert abs(photons.mean() - 3.0) < 3 * photons.std() / math.sqrt(photons.size)
    assert not [name for name in known if name.endswith("_map")]


def test_a_wrong_belief_changes_what_is_told_and_not_what_is_read() -> None:
    wrong = {"assumed_offset_adu": 90.0, "assumed_adu_per_electron": 2.0}
    true = LightCamera(preset="orca-flash4", width_px=16, height_px=16)
    believing = LightCamera.model_validate({**true.model_dump(), **wrong})
    detectors = [camera.detector(rng(), 0.1) for camera in (true, believing)]
    photons = np.full(true.shape, 8.0)
    assert np.array_equal(*(d.read(photons, rng(2)) for d in detectors))
    known = believing.settings(detectors[1])
    assert (known["offset_adu"], known["adu_per_electron"]) == (90.0, 2.0)
    usual = true.settings(detectors[0])
    shift = known["offset_map"] - usual["offset_map"]
    assert shift == pytest.approx(90.0 - usual["offset_adu"], abs=1e-4)
    assert known["offset_map"].mean() == pytest.approx(90.0)


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
