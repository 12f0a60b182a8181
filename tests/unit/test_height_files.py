"""Height maps as files: what is written stands in them as the formats say; what is read is checked.

.gwy and .gsf are taken apart here by hand, after Gwyddion's user guide ("Format of Gwyddion Files",
"Simple Field Files"), so that the libraries that write them aren't their own judges.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from nanophantom.simcore.height_files import read_height_map
from nanophantom.simcore.height_formats import write_gsf, write_gwy

HEIGHTS = np.random.default_rng(0).normal(0, 3, (5, 7)) + 100


# --- .gwy taken apart and put together by hand


def text_at(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(b"\0", at)
    return data[at:end].decode(), end + 1


def object_at(data: bytes, at: int) -> tuple[tuple[str, dict[str, Any]], int]:
    """Type name, NUL, uint32 size of the components, components: name, NUL, type, value."""
    name, at = text_at(data, at)
    (size,) = struct.unpack_from("<I", data, at)
    at += 4
    end, components = at + size, {}
    while at < end:
        key, at = text_at(data, at)
        kind, at = chr(data[at]), at + 1
        if kind == "o":
            value, at = object_at(data, at)
        elif kind == "s":
            value, at = text_at(data, at)
        elif kind == "b":
            value, at = bool(data[at]), at + 1
        elif kind in "id":
            (value,) = struct.unpack_from("<" + kind, data, at)
            at += struct.calcsize("<" + kind)
        elif kind == "D":
            (n,) = struct.unpack_from("<I", data, at)
            value, at = np.frombuffer(data, "<f8", n, at + 4), at + 4 + 8 * n
        else:
            raise AssertionError(f"component {key} of type {kind!r}")
        components[key] = (kind, value)
    assert at == end
    return (name, components), at


def take_apart(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    assert data[:4] == b"GWYP"
    (name, components), end = object_at(data, 4)
    assert name == "GwyContainer"
    assert end == len(data)
    return components


def packed(name: str, *components: tuple[str, str, bytes]) -> bytes:
    body = b"".join(k.encode() + b"\0" + t.encode() + v for k, t, v in components)
    return name.encode() + b"\0" + struct.pack("<I", len(body)) + body


def unit(text: str) -> bytes:
    return packed("GwySIUnit", ("unitstr", "s", text.encode() + b"\0"))


def field(values: np.ndarray, xreal: float, yreal: float, xy: str | None, z: str | None) -> bytes:
    components = [
        ("xres", "i", struct.pack("<i", values.shape[1])),
        ("yres", "i", struct.pack("<i", values.shape[0])),
        ("xreal", "d", struct.pack("<d", xreal)),
        ("yreal", "d", struct.pack("<d", yreal)),
    ]
    components += [("si_unit_xy", "o", unit(xy))] if xy is not None else []
    components += [("si_unit_z", "o", unit(z))] if z is not None else []
    data = struct.pack("<I", values.size) + values.astype("<f8").tobytes()
    return packed("GwyDataField", *components, ("data", "D", data))


def gwy_file(path: Path, *channels: tuple[int, str | None, bytes]) -> Path:
    components = []
    for number, title, data in channels:
        components.append((f"/{number}/data", "o", data))
        if title is not None:
            components.append((f"/{number}/data/title", "s", title.encode() + b"\0"))
        components.append((f"/{number}/mask", "o", data))
    path.write_bytes(b"GWYP" + packed("GwyContainer", *components))
    return path


def test_gwy_holds_every_channel_in_base_units(tmp_path: Path) -> None:
    path = tmp_path / "scan.gwy"
    write_gwy(
        path,
        {
            "Height": (HEIGHTS, (3.0, 2.0), "nm"),
            "Ampl. error µ": (HEIGHTS[:3], 2.0, "mV"),
            "P": (HEIGHTS, 2.0, "deg"),
        },
        offset_nm=(-40.0, 25.0),
        metadata={"Setpoint": "16 nm", "X": "1"},
    )
    found = take_apart(path)
    expected = [
        ("Height", HEIGHTS * 1e-9, 14e-9, 15e-9, "m"),
        ("Ampl. error µ", HEIGHTS[:3] * 1e-3, 14e-9, 6e-9, "V"),
        ("P", HEIGHTS, 14e-9, 10e-9, "deg"),
    ]
    for number, (title, values, xreal, yreal, base) in enumerate(expected):
        assert found[f"/{number}/data/title"] == ("s", title)
        assert found[f"/{number}/data/visible"] == ("b", True)
        kind, (name, data) = found[f"/{number}/data"]
        assert (kind, name) == ("o", "GwyDataField")
        assert (data["xres"], data["yres"]) == (("i", values.shape[1]), ("i", values.shape[0]))
        for key, value in (("xreal", xreal), ("yreal", yreal), ("xoff", 25e-9), ("yoff", -40e-9)):
            assert data[key] == ("d", pytest.approx(value, rel=1e-12))
        assert data["si_unit_xy"] == ("o", ("GwySIUnit", {"unitstr": ("s", "m")}))
        assert data["si_unit_z"] == ("o", ("GwySIUnit", {"unitstr": ("s", base)}))
        assert data["data"][0] == "D"
        np.testing.assert_allclose(data["data"][1].reshape(values.shape), values, rtol=1e-15)
        meta = found[f"/{number}/meta"]
        assert meta == ("o", ("GwyContainer", {"Setpoint": ("s", "16 nm"), "X": ("s", "1")}))


def test_gwy_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "scan.gwy"
    write_gwy(path, {"A": (HEIGHTS, 2.0, "V"), "Z": (HEIGHTS, (3.0, 2.0), "nm")})
    read = read_height_map(path)  # the first one of lengths
    assert read.name == "Z"
    assert read.pixel_size_nm == pytest.approx((3.0, 2.0), rel=1e-12)
    np.testing.assert_allclose(read.heights_nm, HEIGHTS, rtol=1e-14)
    np.testing.assert_array_equal(read_height_map(path, channel="Z").heights_nm, read.heights_nm)
    np.testing.assert_array_equal(read_height_map(path, channel=1).heights_nm, read.heights_nm)
    assert not read.heights_nm.flags.writeable


@pytest.mark.parametrize(("z", "scale"), [("m", 1e9), ("nm", 1.0), ("pm", 1e-3), ("Å", 0.1)])
def test_a_gwy_file_made_by_hand_is_read_in_its_units(tmp_path: Path, z: str, scale: float) -> None:
    path = gwy_file(
        tmp_path / "hand.gwy",
        (2, None, field(HEIGHTS, 14.0, 20.0, "nm", z)),
        (0, "Phase", field(HEIGHTS, 14.0, 20.0, "nm", "deg")),
    )
    read = read_height_map(path)
    np.testing.assert_allclose(read.heights_nm, scale * HEIGHTS, rtol=1e-14)
    assert read.pixel_size_nm == pytest.approx((4.0, 2.0))
    assert read.name == "channel 2"


def test_a_gwy_channel_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    heights, volts = (field(HEIGHTS, 1e-8, 1e-8, "m", z) for z in ("m", "V"))
    path = gwy_file(tmp_path / "a.gwy", (0, "Height", heights), (1, "Height", heights))
    listed = r"0 'Height' \(m\), 1 'Height' \(m\)"
    with pytest.raises(ValueError, match=rf"^channel: a\.gwy has no 'Phase'; it has {listed}$"):
        read_height_map(path, channel="Phase")
    with pytest.raises(ValueError, match=rf"^channel: a\.gwy has several 'Height'.*{listed}$"):
        read_height_map(path, channel="Height")
    path = gwy_file(tmp_path / "b.gwy", (0, "Error", volts))
    with pytest.raises(ValueError, match=r"b\.gwy has no heights; it has 0 'Error' \(V\)"):
        read_height_map(path)
    with pytest.raises(ValueError, match=r"'Error' of b\.gwy is in 'V', no unit of length"):
        read_height_map(path, channel="Error")
    path.write_bytes(b"GWYP" + packed("GwyContainer"))
    with pytest.raises(ValueError, match=r"b\.gwy holds no image"):
        read_height_map(path)


def test_heights_without_a_unit_need_one(tmp_path: Path) -> None:
    path = gwy_file(tmp_path / "a.gwy", (0, "Z", field(HEIGHTS, 1e-8, 1e-8, None, None)))
    with pytest.raises(ValueError, match=r"'Z' of a\.gwy names no unit; give height_unit"):
        read_height_map(path)
    read = read_height_map(path, height_unit="um")
    np.testing.assert_allclose(read.heights_nm, 1e3 * HEIGHTS)
    assert read.pixel_size_nm is None
    write_gsf(tmp_path / "b.gsf", HEIGHTS, 1.0)
    with pytest.raises(ValueError, match=r"^height_unit: the heights of b\.gsf are in m; leave it"):
        read_height_map(tmp_path / "b.gsf", height_unit="nm")


# --- .gsf


@pytest.mark.parametrize("name", ["H", "He", "Hei", "Heig µ"])
def test_gsf_has_header_padding_and_single_precision_data(tmp_path: Path, name: str) -> None:
    path = tmp_path / "map.gsf"
    write_gsf(path, HEIGHTS, (3.0, 2.0), name, offset_nm=(-40.0, 25.0))
    data = path.read_bytes()
    end = data.index(b"\0")
    magic, *lines = data[:end].decode().splitlines()
    assert magic == "Gwyddion Simple Field 1.0"
    assert data[end - 1 : end] == b"\n"
    header = dict(line.split(" = ") for line in lines)
    assert (header["XRes"], header["YRes"]) == ("7", "5")
    for key, value in (("XReal", 14e-9), ("YReal", 15e-9), ("XOffset", 25e-9), ("YOffset", -4e-8)):
        assert float(header[key]) == pytest.approx(value)
    assert (header["XYUnits"], header["ZUnits"], header["Title"]) == ("m", "m", name)
    start = 4 * (end // 4 + 1)  # one to four NULs, to a multiple of four
    assert data[end:start] == b"\0" * (start - end)
    values = np.frombuffer(data[start:], "<f4").reshape(5, 7)
    np.testing.assert_allclose(values, 1e-9 * HEIGHTS, rtol=1e-7)
    read = read_height_map(path)
    np.testing.assert_allclose(read.heights_nm, HEIGHTS, rtol=1e-7)
    assert read.pixel_size_nm == pytest.approx((3.0, 2.0))
    assert read.name == name


def test_a_gsf_header_by_hand(tmp_path: Path) -> None:
    def file(*lines: str) -> Path:
        head = "".join(f"{line}\n" for line in ("Gwyddion Simple Field 1.0", *lines)).encode()
        path = tmp_path / "hand.gsf"
        path.write_bytes(head + b"\0" * (4 - len(head) % 4) + HEIGHTS.astype("<f4").tobytes())
        return path

    read = read_height_map(file("XRes=7", "YRes = 5", "ZUnits = um"))
    np.testing.assert_allclose(read.heights_nm, 1e3 * HEIGHTS, rtol=1e-7)
    assert read.pixel_size_nm is None
    assert read.name == "hand"
    with pytest.raises(ValueError, match="is in 'V', no unit of length"):
        read_height_map(file("XRes = 7", "YRes = 5", "ZUnits = V"))
    with pytest.raises(ValueError, match=r"^file: hand\.gsf can't be read: "):
        read_height_map(file("XRes = 7", "YRes = 6", "ZUnits = m"))


# --- .tif and .npy


def test_tif_scales(tmp_path: Path) -> None:
    path = tmp_path / "map.tif"
    image = HEIGHTS.astype(np.float32)
    # pixels of 2 nm by 4 nm: 5e6 and 2.5e6 to the centimetre
    tifffile.imwrite(path, image, resolution=(5_000_000, 2_500_000), resolutionunit="CENTIMETER")
    read = read_height_map(path)
    assert read.pixel_size_nm == pytest.approx((4.0, 2.0))
    np.testing.assert_array_equal(read.heights_nm, image)
    assert read.name == "map"
    for unit_name, nm in (("nm", 1.0), ("\\u00B5m", 1e3), ("micron", 1e3)):
        tifffile.imwrite(
            path, image, imagej=True, resolution=(0.5, 0.25), metadata={"unit": unit_name}
        )
        assert read_height_map(path).pixel_size_nm == pytest.approx((4.0 * nm, 2.0 * nm))
    tifffile.imwrite(path, image, resolution=(72, 72), resolutionunit="INCH")  # a screen's
    assert read_height_map(path).pixel_size_nm is None
    tifffile.imwrite(path, (100 * HEIGHTS).astype(np.uint16))
    counts = read_height_map(path, height_unit="pm")
    np.testing.assert_allclose(counts.heights_nm, 1e-3 * np.floor(100 * HEIGHTS))
    assert counts.pixel_size_nm is None


def test_npy_is_in_nanometres_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "map.npy"
    np.save(path, HEIGHTS)
    read = read_height_map(path)
    np.testing.assert_array_equal(read.heights_nm, HEIGHTS)
    assert read.pixel_size_nm is None
    np.testing.assert_allclose(read_height_map(path, height_unit="m").heights_nm, 1e9 * HEIGHTS)


# --- what can't be read or written


def test_what_is_no_height_map_is_refused(tmp_path: Path) -> None:
    def saved(array: np.ndarray) -> Path:
        np.save(tmp_path / "a.npy", array)
        return tmp_path / "a.npy"

    with pytest.raises(ValueError, match=r"^file: there is no .*missing\.gwy$"):
        read_height_map(tmp_path / "missing.gwy")
    with pytest.raises(ValueError, match=r"^file: map\.txt is none of \.gwy, \.gsf, \.tif"):
        read_height_map(tmp_path / "map.txt")
    holes = HEIGHTS.copy()
    holes[1, 2:4] = np.nan
    with pytest.raises(ValueError, match=r"a\.npy has 2 heights that aren't finite"):
        read_height_map(saved(holes))
    with pytest.raises(ValueError, match=r"shape \(2, 5, 7\); a map of heights has \(ny, nx\)"):
        read_height_map(saved(np.stack([HEIGHTS, HEIGHTS])))
    with pytest.raises(ValueError, match="complex128, no real numbers"):
        read_height_map(saved(HEIGHTS + 0j))
    with pytest.raises(ValueError, match=r"^file: a\.npy can't be read: .*allow_pickle"):
        read_height_map(saved(np.array([[None]])))
    with pytest.raises(ValueError, match="has no channels to choose from"):
        read_height_map(saved(HEIGHTS), channel="Height")
    with pytest.raises(ValueError, match="height_unit: 'inch' is none of m, mm"):
        read_height_map(saved(HEIGHTS), height_unit="inch")
    stack = tmp_path / "stack.tif"
    tifffile.imwrite(stack, np.zeros((3, 8, 8), np.float32), photometric="minisblack")
    with pytest.raises(ValueError, match=r"stack\.tif holds 3 images, not one"):
        read_height_map(stack)
    tifffile.imwrite(stack, np.zeros((8, 8, 3), np.uint8), photometric="rgb")
    with pytest.raises(ValueError, match=r"shape \(8, 8, 3\)"):
        read_height_map(stack)


@pytest.mark.parametrize("suffix", ["gwy", "gsf", "tif", "npy"])
def test_garbage_and_files_cut_short_are_refused_in_one_line(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"map.{suffix}"
    if suffix == "gwy":
        write_gwy(path, {"Height": (HEIGHTS, 1.0, "nm")})
    elif suffix == "gsf":
        write_gsf(path, HEIGHTS, 1.0)
    elif suffix == "tif":
        tifffile.imwrite(path, HEIGHTS)
    else:
        np.save(path, HEIGHTS)
    whole = path.read_bytes()
    for data in (b"", b"no such thing", whole[: len(whole) // 2], whole[:40]):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=rf"^file: map\.{suffix} can't be read: .") as refusal:
            read_height_map(path)
        assert "\n" not in str(refusal.value)


def test_what_can_not_be_written_is_refused(tmp_path: Path) -> None:
    gwy, gsf = tmp_path / "a.gwy", tmp_path / "a.gsf"
    holes = np.where(HEIGHTS > 100, np.inf, HEIGHTS)
    for write, match in (
        (lambda: write_gwy(gwy, {}), "nothing to write"),
        (lambda: write_gwy(gsf, {"Z": (HEIGHTS, 1.0, "nm")}), r"must end in \.gwy"),
        (lambda: write_gwy(gwy, {"Z": (HEIGHTS, 1.0, "ell")}), "unit 'ell' of 'Z' isn't known"),
        (lambda: write_gwy(gwy, {"Z": (holes, 1.0, "nm")}), r"Z: \d+ values aren't finite"),
        (lambda: write_gwy(gwy, {"Z": (HEIGHTS[0], 1.0, "nm")}), r"Z: an image has shape \(ny"),
        (lambda: write_gwy(gwy, {"Z": (HEIGHTS, 0.0, "nm")}), "pixel_size_nm must be positive"),
        (lambda: write_gwy(gwy, {"Z\0": (HEIGHTS, 1.0, "nm")}), "can't hold a NUL"),
        (lambda: write_gsf(gwy, HEIGHTS, 1.0), r"must end in \.gsf"),
        (lambda: write_gsf(gsf, HEIGHTS, 1.0, "a = b"), 'neither "=" nor line breaks'),
        (lambda: write_gsf(gsf, holes, 1.0), "values aren't finite"),
    ):
        with pytest.raises(ValueError, match=match):
            write()
    assert not gwy.exists()
    assert not gsf.exists()
