"""Exported files, and the index over the shards, carry the same numbers and the calibration."""

from __future__ import annotations

import csv
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import mrcfile
import numpy as np
import pytest
import tifffile

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))
from toy import Toy, make

from nanophantom.simcore.export import export
from nanophantom.simcore.fields import Axis
from nanophantom.simcore.runs import Frame, SignalSpec
from nanophantom.simcore.store import Dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "toy"
    make(folder, Toy(), workers=1, shard_frames=4)
    return Dataset(folder)


@pytest.fixture
def copy(dataset, tmp_path):
    return Path(shutil.copytree(dataset.path, tmp_path / "toy"))


def test_tiff_is_an_imagej_stack_with_pixel_size(dataset, tmp_path):
    """0.05 nm by 0.02 nm pixels are 20 and 50 pixels per nm."""
    files = export(dataset, "tiff", tmp_path / "new")
    assert [file.name for file in files] == [
        "image.tif",
        "truth_ideal.tif",
        "truth_noise_free_image.tif",
    ]
    expected = {"image.tif": dataset.signal("image"), "truth_ideal.tif": _ideals(dataset)}
    for file in files[:2]:
        with tifffile.TiffFile(file) as tiff:
            assert tiff.is_imagej
            assert tiff.imagej_metadata["unit"] == "nm"
            assert tiff.imagej_metadata["frames"] == 10
            assert tiff.pages[0].resolution == (20.0, 50.0)
            assert tiff.series[0].dtype == expected[file.name].dtype
            np.testing.assert_array_equal(tiff.asarray(), expected[file.name])
    with tifffile.TiffFile(files[2]) as tiff:
        np.testing.assert_array_equal(tiff.asarray(), dataset.truth("noise_free")["image"])
        assert tiff.pages[0].resolution == (20.0, 50.0)


def test_mrc_is_a_valid_stack_with_voxel_size_in_angstrom(dataset, tmp_path):
    files = export(dataset, "mrc", tmp_path)
    expected = {"image.mrc": dataset.signal("image"), "truth_ideal.mrc": _ideals(dataset)}
    for file in files[:2]:
        values = expected[file.name]
        assert mrcfile.validate(file)
        with mrcfile.open(file) as mrc:
            assert mrc.is_image_stack()
            np.testing.assert_array_equal(mrc.data, values)
            assert mrc.voxel_size.x == pytest.approx(0.5)
            assert mrc.voxel_size.y == pytest.approx(0.2)
            assert mrc.header.dmin == values.min()
            assert mrc.header.dmax == values.max()
            assert mrc.header.dmean == pytest.approx(values.mean(dtype=float), rel=1e-6)
            assert mrc.header.rms == pytest.approx(values.std(dtype=float), rel=1e-6)


def test_csv_reads_back_as_the_same_numbers(dataset, tmp_path):
    files = export(dataset, "csv", tmp_path)
    assert {file.name for file in files} == {
        "truth_drift.csv",
        "truth_groups.csv",
        "truth_frames.csv",
        "truth_shining.csv",
    }
    with (tmp_path / "truth_drift.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["t_s", "dx_nm"]
    drift = dataset.truth("drift")
    np.testing.assert_array_equal(np.array(rows, float), np.stack(list(drift.values()), axis=1))
    assert (tmp_path / "truth_groups.csv").read_text("utf-8").split() == [
        "name",
        "Träger",
        "particle",
    ]
    assert (tmp_path / "truth_frames.csv").read_text().startswith("frame,shift_nm\n0,0.0\n1,0.025")
    shining = (tmp_path / "truth_shining.csv").read_text().split()
    assert shining[:4] == ["frame,emitter,photons", "1,0,10.0", "2,0,20.0", "2,1,20.0"]
    assert len(shining) == 1 + 9  # 0, 1 and 2 rows by turns in ten frames


@pytest.mark.parametrize("to", ["tiff", "mrc", "csv"])
def test_an_existing_target_is_refused_and_untouched(dataset, tmp_path, to):
    first = export(dataset, to, tmp_path)
    first[1].write_bytes(b"mine")
    first[0].unlink()
    with pytest.raises(ValueError, match=f"already has {first[1].name}"):
        export(dataset, to, tmp_path)
    assert first[1].read_bytes() == b"mine"
    assert not first[0].exists()


def test_an_unknown_format_is_refused(dataset, tmp_path):
    with pytest.raises(ValueError, match="no export to 'png'; formats: tiff, mrc, csv"):
        export(dataset, "png", tmp_path)


def test_missing_frames_leave_no_half_file(dataset, tmp_path):
    """A shard that can't be read stops the export; no part of a stack is left."""
    shard = dataset.path / "shards/000002.h5"
    hidden = shard.rename(shard.with_name("hidden"))
    try:
        with pytest.raises(ValueError, match="missing or damaged"):
            export(dataset, "tiff", tmp_path)
    finally:
        hidden.rename(shard)
    assert list(tmp_path.iterdir()) == []


@dataclass(eq=False)
class Other(Toy):
    """A toy whose signal has another type or number of dimensions."""

    value: np.ndarray = None  # type: ignore[assignment]

    def signals(self) -> Mapping[str, SignalSpec]:
        axes = tuple(Axis(name, 2.0, "1/nm") for name in "abc"[: self.value.ndim])
        return {"signal": SignalSpec(self.value.shape, str(self.value.dtype), axes, "1")}

    def expose(self, i, parts=None):
        return Frame(i, {"signal": self.value + self.value.dtype.type(i)}, {})

    def truth(self, parts=None):
        return {}


def made(tmp_path, value):
    make(tmp_path / "data", Other(3, value=value), workers=1)
    return Dataset(tmp_path / "data")


@pytest.mark.parametrize("dtype", ["uint8", "int8", "float32", "float64", "uint16", "int16"])
@pytest.mark.parametrize("to", ["tiff", "mrc"])
def test_types_are_kept_or_widened(tmp_path, dtype, to):
    value = np.arange(12, dtype=dtype).reshape(3, 4)
    (file,) = export(made(tmp_path, value), to, tmp_path / "out")
    read = tifffile.imread(file) if to == "tiff" else mrcfile.read(file)
    np.testing.assert_array_equal(read, [value, value + 1, value + 2])


@pytest.mark.parametrize("to", ["tiff", "mrc"])
def test_a_type_without_counterpart_is_refused(tmp_path, to):
    """32-bit counts would lose digits as float32: that is said, not done."""
    dataset = made(tmp_path, np.zeros((3, 4), "uint32"))
    with pytest.raises(ValueError, match="signal holds uint32, which the format can't"):
        export(dataset, to, tmp_path / "out")


def test_frames_of_three_dimensions_are_unrolled_into_pages(tmp_path):
    value = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    (file,) = export(made(tmp_path, value), "mrc", tmp_path / "out")
    with mrcfile.open(file) as mrc:
        np.testing.assert_array_equal(mrc.data, np.concatenate([value, value + 1, value + 2]))
        assert mrc.voxel_size.x == 0  # an axis in 1/nm has no size in Å


def test_curves_are_a_row_a_frame(tmp_path):
    dataset = made(tmp_path, np.array([0.5, 2.0]))
    assert export(dataset, "tiff", tmp_path / "out") == []
    (file,) = export(dataset, "csv", tmp_path / "out")
    assert file.read_text() == "frame,signal_0,signal_1\n0,0.5,2.0\n1,1.5,3.0\n2,2.5,4.0\n"


def _ideals(dataset):
    return dataset.frame_truth("ideal")


# --- the index -------------------------------------------------------------------------------


def test_the_index_opens_anywhere_with_calibrated_axes(copy, tmp_path, monkeypatch):
    """All three layouts lead to the same pixels after the folder has moved."""
    expected = Dataset(copy).signal("image")
    moved = copy.rename(tmp_path / "moved")
    monkeypatch.chdir("/")
    with h5py.File(moved / "master.emd") as index:
        for place in ("nanophantom/image", "Experiments/image", "entry/image"):
            np.testing.assert_array_equal(index[place]["data"], expected)
        emd = index["nanophantom/image"]
        assert emd.attrs["emd_group_type"] == "array"
        assert emd["data"].attrs["units"] == "counts"
        for number, (name, step, unit) in enumerate(
            [("frame", 1.0, ""), ("y", 0.02, "nm"), ("x", 0.05, "nm")]
        ):
            np.testing.assert_array_equal(emd[f"dim{number}"], [0, step])
            assert emd[f"dim{number}"].attrs["units"] == unit
            axis = index[f"Experiments/image/axis-{number}"].attrs
            assert (axis["name"], axis["scale"], axis["units"]) == (name, step, unit)
            assert axis["size"] == expected.shape[number]
        np.testing.assert_allclose(index["entry/image/x"], 0.05 * np.arange(24))
        assert index["entry/image/x"].attrs["units"] == "nm"


def test_a_lost_shard_shows_as_full_scale_in_the_index(copy):
    (copy / "shards/000001.h5").unlink()
    with h5py.File(copy / "master.emd") as index:
        assert (index["nanophantom/image/data"][4:8] == 65535).all()


@pytest.fixture(scope="module")
def heights(tmp_path_factory):
    """Two small frames of a force microscope."""
    from nanophantom.instruments.afm import AFM
    from nanophantom.samples._family import Sample
    from nanophantom.scenarios import run as runner

    data = {
        "name": "heights",
        "sample": Sample.of_kind("spheres").small().model_dump(mode="json"),
        "instrument": AFM.small().model_dump(mode="json"),
    }
    folder = tmp_path_factory.mktemp("heights") / "d"
    runner.make(runner.plan(data, out=folder, seed=1), workers=1)
    return Dataset(folder)


def test_gwy_holds_every_channel_of_a_frame_in_si_units(heights, tmp_path):
    """Channels, truth and settings of frame 1; heights in metres, 48 nm wide."""
    import gwyfile

    files = export(heights, "gwy", tmp_path)
    assert [f.name for f in files] == ["frame_0.gwy", "frame_1.gwy"]
    container = gwyfile.load(str(files[1]))
    fields = gwyfile.util.get_datafields(container)
    assert {"height", "height_retrace", "error", "truth ideal_height", "truth surface height"} <= (
        set(fields)
    )
    measured = heights.signal("height", 1, 2)[0].astype(np.float64)
    np.testing.assert_allclose(fields["height"].data, 1e-9 * measured, rtol=1e-12)
    assert fields["height"].xreal == pytest.approx(48e-9)
    assert container["/0/meta"]["tip.shape"] == "sphere-cone"


def test_gsf_is_one_map_of_heights_a_file(heights, tmp_path):
    """Both frames of every channel in nm; phases and settings have no place in it."""
    names = {f.name for f in export(heights, "gsf", tmp_path)}
    assert {"height_0.gsf", "height_1.gsf", "error_retrace_1.gsf"} <= names
    assert "truth_surface_height.gsf" in names


def test_tables_of_a_force_microscope_go_to_csv(heights, tmp_path):
    """Every table of the truth that has rows, the tip's life among them."""
    names = {f.name for f in export(heights, "csv", tmp_path)}
    assert {"truth_tip_lines.csv", "truth_motion.csv", "truth_loop.csv"} <= names


def test_images_of_electrons_are_no_maps_of_heights(dataset, tmp_path):
    with pytest.raises(ValueError, match="frames of this dataset are none; export"):
        export(dataset, "gwy", tmp_path / "none")
    assert not (tmp_path / "none").exists()
