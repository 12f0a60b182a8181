"""Tables of localizations keep origin, frame base and units through other programs' formats."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))
from spots import Spots
from toy import make

from nanophantom.simcore import localization_files as files
from nanophantom.simcore.store import Dataset
from nanophantom.validation.grade import read_predictions

PIXEL_NM, QE = 110.0, 0.8
SETTINGS = {"pixel_size_nm": PIXEL_NM, "camera": {"quantum_efficiency": QE}}
TABLE = {
    "frame": np.array([0, 0, 3]),
    "x_nm": np.array([0.0, 55.0, 1234.5]),
    "y_nm": np.array([110.0, 0.25, 77.0]),
    "z_nm": np.array([-150.0, 0.0, 320.0]),
    "photons": np.array([1000.0, 250.0, 31.0]),
    "background": np.array([10.0, 3.0, 0.5]),
    "sigma_nm": np.array([130.0, 140.0, 150.0]),
    "uncertainty_nm": np.array([4.0, 8.5, 12.0]),
}
INFO = files.picasso_info(5, (34, 52), PIXEL_NM, QE)


def same(read, expected, rtol=1e-12):
    assert set(read) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(read[name], values, rtol=rtol, atol=1e-9, err_msg=name)


# --- Picasso -------------------------------------------------------------------------------


def test_picasso_table_is_in_camera_pixels_and_photoelectrons(tmp_path):
    """By hand: 1234.5 nm are 11.222727 pixels of 110 nm; 31 photons at a QE of 0.8 are 24.8."""
    files.write_picasso(tmp_path / "a_locs.hdf5", TABLE, INFO)
    with h5py.File(tmp_path / "a_locs.hdf5") as file:
        rows = file["locs"][:]
        embedded = json.loads(file["metadata"][()])
    assert rows.dtype.names == ("frame", "x", "y", "z", "photons", "sx", "sy", "bg", "lpx", "lpy")
    assert rows["frame"].tolist() == [0, 0, 3]
    assert rows["x"][2] == pytest.approx(11.222727, rel=1e-6)
    assert rows["z"][2] == 320.0
    assert rows["photons"][2] == pytest.approx(24.8, rel=1e-6)
    assert rows["bg"][0] == pytest.approx(8.0)
    assert rows["lpy"][1] == pytest.approx(8.5 / 110)
    notes = yaml.safe_load((tmp_path / "a_locs.yaml").read_text())
    assert embedded == [notes]
    assert [notes[k] for k in ("Frames", "Height", "Width", "Pixelsize")] == [5, 34, 52, 110.0]
    assert notes["Frame base"] == 0
    assert notes["Origin"].startswith("x, y in camera pixels from the centre of pixel (0, 0)")


def test_picasso_round_trip_in_single_precision(tmp_path):
    """What was written comes back, through our reader and through the predictions of score."""
    path = tmp_path / "a_locs.hdf5"
    files.write_picasso(path, TABLE, INFO)
    same(files.read_picasso(path), TABLE, rtol=1e-6)
    same(read_predictions(path, SETTINGS), TABLE, rtol=1e-6)
    path.with_suffix(".yaml").unlink()  # what is inside the file is enough
    same(files.read_picasso(path), TABLE, rtol=1e-6)


def test_widths_that_differ_keep_their_axes(tmp_path):
    """sx and sy, lpx and lpy; the single number is their rms."""
    table = {name: TABLE[name] for name in ("frame", "x_nm", "y_nm")}
    table |= {"sigma_x_nm": np.array([100.0, 110.0, 120.0]), "sigma_y_nm": np.full(3, 150.0)}
    files.write_picasso(tmp_path / "a.hdf5", table, INFO)
    read = files.read_picasso(tmp_path / "a.hdf5")
    np.testing.assert_allclose(read["sigma_x_nm"], table["sigma_x_nm"], rtol=1e-6)
    np.testing.assert_allclose(read["sigma_y_nm"], table["sigma_y_nm"], rtol=1e-6)
    assert read["sigma_nm"][0] == pytest.approx(np.sqrt((100**2 + 150**2) / 2))
    assert not any(name.startswith("uncertainty") for name in read)  # it wasn't known


def test_a_long_table_is_written_in_blocks(tmp_path):
    """250 000 rows from an iterator are the same rows, in both formats."""
    frame = np.arange(250_000)
    pieces = [
        {"frame": part, "x_nm": 0.5 * part, "y_nm": 1.0 * part} for part in (frame[:3], frame[3:])
    ]
    files.write_picasso(tmp_path / "a.hdf5", iter(pieces), INFO)
    with h5py.File(tmp_path / "a.hdf5") as file:
        np.testing.assert_array_equal(file["locs"]["frame"], frame)
    files.write_csv(tmp_path / "a.csv", iter(pieces))
    np.testing.assert_array_equal(files.read_csv(tmp_path / "a.csv")["x_nm"], 0.5 * frame)


def test_pixel_size_must_be_known_and_agree(tmp_path):
    """Neither guessed nor silently overruled."""
    path = tmp_path / "a.hdf5"
    files.write_picasso(path, TABLE, INFO)
    with pytest.raises(ValueError, match="Pixelsize of 110 nm, the movie's is 100 nm"):
        files.read_picasso(path, pixel_size_nm=100.0)
    with h5py.File(path, "a") as file:
        del file["metadata"]
    path.with_suffix(".yaml").unlink()
    with pytest.raises(ValueError, match="nothing tells its Pixelsize"):
        files.read_picasso(path)
    same(files.read_picasso(path, 110.0, QE), TABLE, rtol=1e-6)


def test_files_that_are_no_tables_of_picasso_are_refused(tmp_path):
    (tmp_path / "a.hdf5").write_text("x")
    with pytest.raises(ValueError, match=r"predictions .*a.hdf5 can't be read as HDF5"):
        read_predictions(tmp_path / "a.hdf5")
    with h5py.File(tmp_path / "b.hdf5", "w") as file:
        file["other"] = [1, 2]
    with pytest.raises(ValueError, match="no dataset locs with columns frame, x and y"):
        files.read_picasso(tmp_path / "b.hdf5")


# --- ThunderSTORM ---------------------------------------------------------------------------


def test_thunderstorm_counts_from_the_corner_and_from_frame_1(tmp_path):
    """By hand: x = 1234.5 nm from the centre of pixel 0 is 1289.5 nm from its corner."""
    path = tmp_path / "a.csv"
    files.write_thunderstorm(path, TABLE, PIXEL_NM)
    header, *rows = path.read_text().splitlines()
    assert header == (
        '"id","frame","x [nm]","y [nm]","z [nm]","sigma [nm]","intensity [photon]",'
        '"offset [photon]","uncertainty_xy [nm]"'
    )
    assert rows[2] == "3,4,1289.5,132.0,320.0,150.0,31.0,0.5,12.0"
    same(files.read_thunderstorm(path, PIXEL_NM), TABLE)
    same(read_predictions(path, SETTINGS), TABLE)


@pytest.mark.parametrize(
    "header",
    [
        "id,frame,x [nm],y [nm],sigma [nm],intensity [photon],offset [photon],uncertainty [nm]",
        '\ufeff"ID","Frame","X [nm]","Y [nm]","Sigma [nm]","Intensity [photon]","Offset [photon]",'
        '"Uncertainty_xy [nm]"',
        "id,frame,x [px],y [px],sigma [px],intensity [photon],offset [photon],uncertainty_xy [px]",
        "id,frame,x [um],y [um],sigma [um],intensity [photon],offset [photon],uncertainty [µm]",
    ],
)
def test_headers_of_other_versions_and_units(tmp_path, header):
    """The same localization in nm, pixels of 110 nm and µm."""
    unit = 110.0 if "[px]" in header else 1000.0 if "[um]" in header else 1.0
    lengths = [repr(nm / unit) for nm in (385.0, 165.0, 121.0, 9.9)]
    row = f"1.0,2.0,{lengths[0]},{lengths[1]},{lengths[2]},500,7,{lengths[3]}"
    (tmp_path / "a.csv").write_text(f"{header}\n{row}\n", encoding="utf-8")
    expected = {
        "frame": [1], "x_nm": [330.0], "y_nm": [110.0], "sigma_nm": [121.0], "photons": [500.0],
        "background": [7.0], "uncertainty_nm": [9.9],
    }  # fmt: skip
    same(read_predictions(tmp_path / "a.csv", SETTINGS), expected)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("frame,x [nm],y [nm]\n0,1,1\n", "frame 0; ThunderSTORM counts frames from 1"),
        ("frame,x [nm]\n1,1\n", r"lacks y \[nm\]"),
        ("frame,x [nm],y [nm],intensity [ADU]\n1,1,1,1\n", r"intensity \[ADU\] must be in photons"),
        ("frame,x [nm],y [inch]\n1,1,1\n", r"y \[inch\] must be in nm, um or px"),
        ("frame,x [nm],y [nm]\n1,1\n", "row 2: 2 cells, not 3"),
    ],
)
def test_what_thunderstorm_would_not_write_is_refused(tmp_path, text, reason):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=reason):
        files.read_localizations(tmp_path / "a.csv", SETTINGS)


def test_the_corner_needs_a_pixel_size(tmp_path):
    files.write_thunderstorm(tmp_path / "a.csv", TABLE, PIXEL_NM)
    with pytest.raises(ValueError, match="pixel_size_nm must be known"):
        read_predictions(tmp_path / "a.csv", {})


# --- plain CSV, and what is never written -----------------------------------------------------


def test_own_csv_tells_its_conventions_and_reads_back_exactly(tmp_path):
    files.write_csv(tmp_path / "a.csv", TABLE)
    first, header, *_ = (tmp_path / "a.csv").read_text().splitlines()
    assert first.startswith("# frame from 0; x, y from the centre of pixel (0, 0)")
    assert header.split(",") == list(TABLE)
    for name, values in read_predictions(tmp_path / "a.csv").items():
        np.testing.assert_array_equal(values, TABLE[name])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"x_nm": np.array([1.0, np.nan, 2.0])}, "x_nm: 1 values aren't finite"),
        ({"photons": np.ones(2)}, "photons: one number a localization"),
        ({"frame": np.array([0, 1.5, 2])}, "frame: whole numbers from 0"),
    ],
)
def test_damaged_tables_are_not_written(tmp_path, change, reason):
    for write in (
        lambda path, table: files.write_picasso(path.with_suffix(".hdf5"), table, INFO),
        lambda path, table: files.write_thunderstorm(path, table, PIXEL_NM),
        files.write_csv,
    ):
        with pytest.raises(ValueError, match=reason):
            write(tmp_path / "a.csv", TABLE | change)


# --- the truth of a movie ---------------------------------------------------------------------


def test_exported_truth_is_the_emissions(tmp_path):
    """truth_locs in both formats, read as anybody's predictions, are the table itself."""
    from nanophantom.simcore.export import export

    make(tmp_path / "data", Spots(), workers=1, shard_frames=5)
    dataset = Dataset(tmp_path / "data")
    true = dataset.frame_table("emissions")
    assert true["frame"].max() == 11
    export(dataset, "picasso", tmp_path / "p")
    export(dataset, "thunderstorm", tmp_path / "t")
    export(dataset, "csv", tmp_path / "c")
    for path, rtol in (("p/truth_locs.hdf5", 1e-6), ("t/truth_locs.csv", 1e-12)):
        read = read_predictions(tmp_path / path, dataset.settings)
        for name in ("frame", "x_nm", "y_nm", "z_nm", "photons"):
            np.testing.assert_allclose(read[name], true[name], rtol=rtol, atol=1e-9)
    notes = yaml.safe_load((tmp_path / "t/truth_locs.csv.yaml").read_text())
    assert notes["frame_base"] == 1
    plain = files.read_csv(tmp_path / "c/truth_emissions.csv")
    assert set(plain) == set(true)
    np.testing.assert_array_equal(plain["x_nm"], true["x_nm"])
