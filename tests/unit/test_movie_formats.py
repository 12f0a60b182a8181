"""Exported movies hold the measured counts and what a microscopist must know to use them."""

from __future__ import annotations

import sys
import tracemalloc
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))
from spots import CAMERA, PIXEL_NM, Spots
from toy import Toy, make

from nanophantom.simcore import movie_formats
from nanophantom.simcore.export import export
from nanophantom.simcore.store import Dataset

OME = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("movies") / "spots"
    make(folder, Spots(), workers=1, shard_frames=5)
    return Dataset(folder)


def test_ome_tiff_holds_every_frame_and_the_noise_free_ones(dataset, tmp_path):
    measured, ideal = export(dataset, "ome-tiff", tmp_path)
    assert (measured.name, ideal.name) == ("movie.ome.tif", "truth_ideal.ome.tif")
    with tifffile.TiffFile(measured) as tiff:
        assert tiff.is_ome
        assert (tiff.series[0].axes, tiff.series[0].shape) == ("TYX", (12, 34, 52))
        np.testing.assert_array_equal(tiff.asarray(), dataset.signal("movie"))
    np.testing.assert_array_equal(tifffile.imread(ideal), dataset.frame_truth("ideal"))


def test_ome_xml_tells_pixels_times_and_camera(dataset, tmp_path):
    """Pixel size in nm, exposure and start of each plane, offset and both gains of the detector."""
    measured, _ = export(dataset, "ome-tiff", tmp_path)
    root = ET.fromstring(tifffile.tiffcomment(measured))
    pixels = root.find(f"{OME}Image/{OME}Pixels").attrib
    assert (float(pixels["PhysicalSizeX"]), pixels["PhysicalSizeXUnit"]) == (PIXEL_NM, "nm")
    assert (pixels["SizeX"], pixels["SizeY"], pixels["SizeT"]) == ("52", "34", "12")
    planes = root.findall(f".//{OME}Plane")
    assert [int(plane.attrib["TheT"]) for plane in planes] == list(range(12))
    assert {plane.attrib["ExposureTime"] for plane in planes} == {"0.03"}
    assert float(planes[3].attrib["DeltaT"]) == pytest.approx(0.15)
    detector = root.find(f".//{OME}Detector").attrib
    assert float(detector["Offset"]) == CAMERA["offset_adu"]
    assert float(detector["AmplificationGain"]) == CAMERA["adu_per_electron"]
    assert float(detector["Gain"]) == CAMERA["em_gain"]
    assert root.find(f".//{OME}DetectorSettings").attrib["ID"] == detector["ID"]
    assert root.find(f".//{OME}Objective").attrib["LensNA"] == "1.4"
    assert root.find(f".//{OME}Channel").attrib["EmissionWavelength"] == "670.0"
    notes = {m.attrib["K"]: m.text for m in root.iter(f"{OME}M")}
    assert notes["camera.quantum_efficiency"] == "0.8"
    assert notes["frame_base"] == "0"


def test_settings_are_text_in_xml_whatever_they_hold():
    """Signs that mean something to XML do no harm; maps of pixels stay out."""
    settings = {"note": '<a & "b">', "camera": {"offset_adu": 1.0, "offset_map": [[1.0, 2.0]]}}
    text = movie_formats.ome_xml((2, 3, 4), "uint16", (1.0, 2.0), settings, 'mo"vie')
    root = ET.fromstring(text)
    notes = {m.attrib["K"]: m.text for m in root.iter(f"{OME}M")}
    assert notes["note"] == '<a & "b">'
    assert "camera.offset_map" not in notes
    assert root.find(f"{OME}Image").attrib["Name"] == 'mo"vie'
    assert root.find(f".//{OME}Plane") is None  # no exposure is known


def test_raw_movie_is_the_counts_and_its_yaml_the_camera(dataset, tmp_path):
    """Sensitivity is photoelectrons a count, the reciprocal of ours: 1/2.5 = 0.4."""
    files = {f.name for f in export(dataset, "picasso", tmp_path)}
    assert files == {"movie.raw", "movie.yaml", "truth_locs.hdf5", "truth_locs.yaml"}
    info = yaml.safe_load((tmp_path / "movie.yaml").read_text())
    shape = (info["Frames"], info["Height"], info["Width"])
    assert (info["Byte Order"], info["Data Type"], shape) == ("<", "uint16", (12, 34, 52))
    movie = np.fromfile(tmp_path / "movie.raw", "<u2").reshape(shape)
    np.testing.assert_array_equal(movie, dataset.signal("movie"))
    camera = [info[key] for key in ("Baseline", "Sensitivity", "Gain", "Qe", "Pixelsize")]
    assert camera == [200.0, 0.4, 1.0, 0.8, 110.0]


def test_thunderstorm_gets_an_imagej_stack_and_the_camera_in_its_words(dataset, tmp_path):
    files = {f.name for f in export(dataset, "thunderstorm", tmp_path)}
    assert files == {"movie.tif", "camera.yaml", "truth_locs.csv", "truth_locs.csv.yaml"}
    with tifffile.TiffFile(tmp_path / "movie.tif") as tiff:
        assert tiff.is_imagej
        np.testing.assert_array_equal(tiff.asarray(), dataset.signal("movie"))
    setup = yaml.safe_load((tmp_path / "camera.yaml").read_text())
    assert setup == {
        "Pixel size [nm]": 110.0,
        "Base level [A/D counts]": 200.0,
        "Photoelectrons per A/D count": 0.4,
        "EM gain": 1.0,
        "Quantum efficiency": 0.8,
    }


def test_pixel_maps_go_along_in_adu(tmp_path):
    """2 e² of read noise at 2.5 ADU/e and a gain of 1.2 are 2 · (2.5 · 1.2)² = 18 ADU²."""
    maps = {
        "offset_map": np.full((34, 52), 201.0).tolist(),
        "variance_map": np.full((34, 52), 2.0).tolist(),
        "gain_map": np.full((34, 52), 1.2).tolist(),
    }
    make(tmp_path / "data", Spots(2, camera=CAMERA | maps), workers=1)
    export(Dataset(tmp_path / "data"), "picasso", tmp_path / "out")
    with h5py.File(tmp_path / "out/movie_scmos_calib.hdf5") as file:
        assert {name: float(file[name][3, 4]) for name in file} == pytest.approx(
            {"offset": 201.0, "variance": 18.0, "gain": 3.0}
        )
        assert file["offset"].shape == (34, 52)


class TwoPlanes(Spots):
    """Two cameras, the second with another offset."""

    def signals(self):
        (spec,) = super().signals().values()
        return {"movie": spec, "movie_2": replace(spec, ideal=None)}

    def settings(self):
        return {**super().settings(), "camera_2": CAMERA | {"offset_adu": 300.0}}

    def expose(self, i, parts=None):
        frame = super().expose(i)
        both = {"movie": frame.signals["movie"], "movie_2": frame.signals["movie"] + 100}
        return replace(frame, signals={k: v.astype(np.uint16) for k, v in both.items()})


def test_every_movie_goes_with_its_own_camera(tmp_path):
    """Offsets of 200 and 300 ADU in the notes of the two movies."""
    make(tmp_path / "data", TwoPlanes(2), workers=1)
    export(Dataset(tmp_path / "data"), "picasso", tmp_path / "out")
    export(Dataset(tmp_path / "data"), "ome-tiff", tmp_path / "out")
    for name, offset in (("movie", 200.0), ("movie_2", 300.0)):
        assert yaml.safe_load((tmp_path / f"out/{name}.yaml").read_text())["Baseline"] == offset
        text = tifffile.tiffcomment(tmp_path / f"out/{name}.ome.tif")
        assert float(ET.fromstring(text).find(f".//{OME}Detector").attrib["Offset"]) == offset


def test_oblong_pixels_are_refused_by_picasso_alone(tmp_path):
    """The toy's pixels are 0.02 nm by 0.05 nm."""
    make(tmp_path / "data", Toy(), workers=1)
    dataset = Dataset(tmp_path / "data")
    with pytest.raises(ValueError, match=r"square; these are 0\.05 nm by 0\.02 nm"):
        export(dataset, "picasso", tmp_path / "p")
    files = export(dataset, "ome-tiff", tmp_path / "o")
    assert [f.name for f in files] == ["image.ome.tif", "truth_ideal.ome.tif"]
    pixels = ET.fromstring(tifffile.tiffcomment(files[0])).find(f".//{OME}Pixels").attrib
    assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeY"]) == ("0.05", "0.02")


@pytest.mark.parametrize("name", ["a.raw", "a.ome.tif"])
def test_memory_is_that_of_a_page_not_of_the_movie(tmp_path, name):
    """2000 frames of 64 KB are 131 MB; writing them holds less than 8 MB at any time."""
    shape, path = (2000, 128, 256), tmp_path / name
    pages = (np.full(shape[1:], i, np.uint16) for i in range(shape[0]))
    tracemalloc.start()
    if name == "a.raw":
        movie_formats.write_raw(path, pages)
    else:
        times = {"exposure_s": 0.1, "frame_period_s": 0.1}
        movie_formats.write_ome_tiff(path, pages, shape, "uint16", (1.0, 1.0), times)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6
    assert path.stat().st_size >= 2 * np.prod(shape)
    if name == "a.ome.tif":
        assert tifffile.imread(path, key=1999)[5, 5] == 1999
