"""Reading a person's own image: values, pixel size, and clear refusals."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest
import tifffile
from PIL import Image

from nanophantom.analysis.images import read_image
from nanophantom.validation import own_image

COUNTS = (np.arange(20 * 30, dtype=np.uint16) ** 2 % 4001).reshape(20, 30).astype(np.uint16)


def test_npy_keeps_values_and_knows_no_pixel_size(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", COUNTS)
    array, size = read_image(tmp_path / "a.npy")
    np.testing.assert_array_equal(array, COUNTS)
    assert array.dtype == np.uint16
    assert size is None


@pytest.mark.parametrize(
    ("unit", "nm"), [("nm", 1.0), ("um", 1e3), ("\\u00B5m", 1e3), ("Angstrom", 0.1), ("pm", 1e-3)]
)
def test_imagej_tiff_gives_the_pixel_size_in_its_unit(tmp_path: Path, unit: str, nm: float) -> None:
    """ImageJ writes pixels per unit into the resolution and the unit into the description."""
    path = tmp_path / "a.tif"
    size = 0.009 / nm
    tifffile.imwrite(
        path, COUNTS, imagej=True, resolution=(1 / size, 1 / size), metadata={"unit": unit}
    )
    array, measured = read_image(path)
    np.testing.assert_array_equal(array, COUNTS)
    assert measured == pytest.approx(0.009, rel=1e-5)


def test_imagej_stack_stays_a_stack(tmp_path: Path) -> None:
    stack = np.stack([COUNTS, COUNTS + 1, COUNTS + 2])
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "TYX"})
    array, size = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(array, stack)
    assert size is None


def test_ome_tiff_gives_its_physical_size(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    metadata = {
        "axes": "YX",
        "PhysicalSizeX": 8.5,
        "PhysicalSizeXUnit": "pm",
        "PhysicalSizeY": 8.5,
        "PhysicalSizeYUnit": "pm",
    }
    tifffile.imwrite(path, COUNTS, ome=True, metadata=metadata)
    array, size = read_image(path)
    np.testing.assert_array_equal(array, COUNTS)
    assert size == pytest.approx(0.0085)


def test_tiff_resolution_counts_per_centimetre_but_not_of_paper(tmp_path: Path) -> None:
    """1e9 pixels per cm are 0.01 nm each; 118 per cm (300 dpi) are ink, and inches always are."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, COUNTS, resolution=(1e9, 1e9), resolutionunit="CENTIMETER")
    assert read_image(path)[1] == pytest.approx(0.01)
    tifffile.imwrite(path, COUNTS, resolution=(118, 118), resolutionunit="CENTIMETER")
    assert read_image(path)[1] is None
    tifffile.imwrite(path, COUNTS, resolution=(300, 300), resolutionunit="INCH")
    assert read_image(path)[1] is None


def test_mrc_voxel_size_is_in_angstrom(tmp_path: Path) -> None:
    with mrcfile.new(tmp_path / "a.mrc") as mrc:
        mrc.set_data(COUNTS.astype(np.float32))
        mrc.voxel_size = 0.09
    array, size = read_image(tmp_path / "a.mrc")
    np.testing.assert_array_equal(array, COUNTS)
    assert size == pytest.approx(0.009)


def test_mrc_without_voxel_size_gives_none(tmp_path: Path) -> None:
    with mrcfile.new(tmp_path / "a.mrc") as mrc:
        mrc.set_data(COUNTS.astype(np.float32))
    assert read_image(tmp_path / "a.mrc")[1] is None


def test_colours_become_luminance(tmp_path: Path) -> None:
    """Weights of ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B."""
    picture = np.zeros((8, 9, 3), np.uint8)
    picture[..., 0], picture[..., 1], picture[..., 2] = 100, 50, 200
    expected = 0.299 * 100 + 0.587 * 50 + 0.114 * 200
    Image.fromarray(picture).save(tmp_path / "a.png")
    Image.fromarray(np.dstack([picture, np.full((8, 9), 7, np.uint8)])).save(tmp_path / "b.png")
    tifffile.imwrite(tmp_path / "c.tif", picture, photometric="rgb")
    for name in ("a.png", "b.png", "c.tif"):
        array, size = read_image(tmp_path / name)
        assert array.shape == (8, 9)
        np.testing.assert_allclose(array, expected)
        assert size is None


def test_grey_png_of_16_bits_keeps_its_values(tmp_path: Path) -> None:
    Image.fromarray(COUNTS).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[0], COUNTS)


def test_jpeg_is_read(tmp_path: Path) -> None:
    Image.fromarray(np.full((16, 16), 77, np.uint8)).save(tmp_path / "a.jpg")
    np.testing.assert_allclose(read_image(tmp_path / "a.jpg")[0], 77, atol=1)


def test_wrong_files_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.dm3").write_bytes(b"x")
    (tmp_path / "a.tif").write_bytes(b"not a tiff")
    (tmp_path / "a.mrc").write_bytes(b"not an mrc")
    (tmp_path / "a.png").write_bytes(b"not a png")
    np.save(tmp_path / "c.npy", COUNTS.astype(complex))
    np.save(tmp_path / "d.npy", COUNTS.ravel())
    np.save(tmp_path / "o.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    for name, message in [
        ("a.dm3", "can't read files of the kind '.dm3', only .jpeg"),
        ("none.tif", "there is no such file"),
        ("a.tif", "can't be read as .tif"),
        ("a.mrc", "can't be read as .mrc"),
        ("a.png", "can't be read as .png"),
        ("c.npy", "real numbers"),
        ("d.npy", r"\(ny, nx\)"),
        ("o.npy", "can't be read as .npy"),
    ]:
        with pytest.raises(ValueError, match=message) as caught:
            read_image(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_pixels_that_are_not_square_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", COUNTS, imagej=True, resolution=(100, 50), metadata={"unit": "nm"}
    )
    with pytest.raises(ValueError, match="pixels must be square"):
        read_image(tmp_path / "a.tif")


# --- a person's own image, analysed ----------------------------------------------------------


@pytest.fixture
def own_file(tmp_path: Path) -> Path:
    """Counts of 16 spots of 0.05 nm in an image of 1.6 nm."""
    grid = np.arange(80) * 0.02
    bells = sum(np.exp(-(((grid - c) / 0.05) ** 2) / 2) for c in (0.3, 0.6, 0.9, 1.2))
    counts = np.random.default_rng(1).poisson(20 + 60 * np.outer(bells, bells))
    np.save(tmp_path / "mine.npy", counts.astype(np.uint16))
    return tmp_path / "mine.npy"


def test_table_and_overlay_of_an_own_image_are_two_files(own_file: Path) -> None:
    """-o names the table; a picture's name is refused, as table and overlay would be one."""
    folder = own_file.parent
    with pytest.raises(ValueError, match=r"-o names the table, which ends in \.csv; .*new\.png"):
        own_image.analyse(own_file, "atomic-columns", "0.02 nm", folder / "new.png")
    result = own_image.analyse(own_file, "atomic-columns", "0.02 nm", folder / "new.csv")
    assert result["n"] == 16
    assert (folder / "new.csv").read_text().startswith("x_nm,y_nm")
    assert (folder / "new.png").read_bytes().startswith(b"\x89PNG")


def test_a_table_is_not_written_where_there_is_no_folder(own_file: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no folder .*nowhere"):
        own_image.analyse(
            own_file, "atomic-columns", "0.02 nm", own_file.parent / "nowhere" / "new.csv"
        )
