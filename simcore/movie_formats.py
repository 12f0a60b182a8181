"""Movies of light microscopes as other programs open them: OME-TIFF, and Picasso's .raw.

OME-TIFF files tell the size of a pixel, when each frame was exposed and for how long, and the
camera: ``Detector/@Gain`` is the gain of the electron multiplication, ``@AmplificationGain`` the
counts (ADU) a photoelectron after it, ``@Offset`` the counts without light. What has no place in
the model stands in a map annotation under the names of our settings. Picasso wants photoelectrons a
count ("Sensitivity") instead. Sources: OME data model 2016-06, https://www.openmicroscopy.org/Schemas;
Picasso's documentation, "Files" and "Localize", https://picassosr.readthedocs.io.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import h5py
import numpy as np
import numpy.typing as npt
import tifffile

from nanophantom.simcore.fields import Array

OME_TYPES = {
    "uint8": "uint8",
    "int8": "int8",
    "uint16": "uint16",
    "int16": "int16",
    "uint32": "uint32",
    "int32": "int32",
    "float32": "float",
    "float64": "double",
}
"""What OME-TIFF holds, and what OME calls it."""
RAW_TYPES = ("uint8", "uint16", "uint32", "float32")
"""What is written to Picasso's .raw files."""

_SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
_CLASSIC_TIFF_BYTES = 2**32 - 2**27
"""Larger files need the offsets of BigTIFF; pages have a directory each."""


def scalars(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Return the settings that are single values, those of a nested group under its name."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", v) for inner, v in scalars(value))
        else:
            yield name, value


# --- OME-TIFF ------------------------------------------------------------------------------


def write_ome_tiff(
    path: Path,
    pages: Iterable[Array],
    shape: tuple[int, int, int],
    dtype: npt.DTypeLike,
    pixel_size_nm: tuple[float, float],
    settings: Mapping[str, Any],
    name: str = "movie",
) -> None:
    """Write a movie page by page.

    Parameters
    ----------
    path
        Its name ends in .ome.tif.
    pages
        Images of one type, as many as ``shape`` says.
    shape
        Frames, rows, columns.
    dtype
        Type of the images, one of `OME_TYPES`.
    pixel_size_nm
        Extents (y, x) of a pixel at the specimen.
    settings
        Nominal settings. Their exposure_s, frame_period_s, na, wavelength_nm and camera have places
        of their own.
    name
        What the image is called.

    Raises
    ------
    ValueError
        OME-TIFF has no such type.
    """
    kind = np.dtype(dtype)
    text = ome_xml(shape, kind, pixel_size_nm, settings, name)
    size = math.prod(shape) * kind.itemsize + 400 * shape[0] + len(text)
    tifffile.imwrite(
        path,
        iter(pages),
        shape=shape,
        dtype=kind,
        bigtiff=size > _CLASSIC_TIFF_BYTES,
        photometric="minisblack",
        description=text.encode(),
        metadata=None,
    )


def ome_xml(
    shape: tuple[int, int, int],
    dtype: npt.DTypeLike,
    pixel_size_nm: tuple[float, float],
    settings: Mapping[str, Any],
    name: str = "movie",
) -> str:
    """Return the OME-XML of a movie; parameters as in :func:`write_ome_tiff`."""
    kind = np.dtype(dtype).name
    if kind not in OME_TYPES:
        raise ValueError(f"{name} holds {kind}; OME-TIFF holds {', '.join(OME_TYPES)}")
    frames, ny, nx = shape
    camera = settings.get("camera") or {}
    told = {key: value for key, value in scalars(settings) if isinstance(value, str | int | float)}
    told |= {"frame_base": 0, "origin": "x, y from the centre of pixel (0, 0), y down"}
    gains = {
        "Gain": camera.get("em_gain"),
        "Offset": camera.get("offset_adu"),
        "AmplificationGain": camera.get("adu_per_electron"),
    }
    detector = _element("Detector", {**gains, "ID": "Detector:0"})
    objective = _element("Objective", {"LensNA": settings.get("na"), "ID": "Objective:0"})
    wavelength = settings.get("wavelength_nm")
    colour = {"EmissionWavelength": wavelength, "EmissionWavelengthUnit": "nm"}
    settings_of_detector = {"ID": "Detector:0", "Gain": gains["Gain"], "Offset": gains["Offset"]}
    channel = _element(
        "Channel",
        {"ID": "Channel:0:0", "Name": name, "SamplesPerPixel": 1, **(colour if wavelength else {})},
        _element("DetectorSettings", settings_of_detector) if camera else "",
        "<LightPath/>",
    )
    pixels = {
        "ID": "Pixels:0",
        "DimensionOrder": "XYCZT",
        "Type": OME_TYPES[kind],
        "SizeX": nx,
        "SizeY": ny,
        "SizeC": 1,
        "SizeZ": 1,
        "SizeT": frames,
        "PhysicalSizeX": abs(pixel_size_nm[1]),
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": abs(pixel_size_nm[0]),
        "PhysicalSizeYUnit": "nm",
    }
    image = _element(
        "Image",
        {"ID": "Image:0", "Name": name},
        "<InstrumentRef ID='Instrument:0'/><ObjectiveSettings ID='Objective:0'/>",
        _element(
            "Pixels",
            pixels,
            channel,
            _element("TiffData", {"IFD": 0, "PlaneCount": frames}),
            *_planes(frames, settings),
        ),
        "<AnnotationRef ID='Annotation:0'/>",
    )
    notes = "".join(f"<M K={quoteattr(key)}>{escape(str(told[key]))}</M>" for key in told)
    header = {
        "xmlns": _SCHEMA,
        "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
        "xsi:schemaLocation": f"{_SCHEMA} {_SCHEMA}/ome.xsd",
        "Creator": "nanophantom",
    }
    return '<?xml version="1.0" encoding="UTF-8"?>' + _element(
        "OME",
        header,
        _element("Instrument", {"ID": "Instrument:0"}, detector if camera else "", objective),
        image,
        "<StructuredAnnotations><MapAnnotation ID='Annotation:0'><Value>",
        notes,
        "</Value></MapAnnotation></StructuredAnnotations>",
    )


def _planes(frames: int, settings: Mapping[str, Any]) -> Iterator[str]:
    """Return when each frame's shutter opened and how long it stayed open, where that is known."""
    exposure_s = settings.get("exposure_s")
    if exposure_s is None:
        return
    period_s = settings.get("frame_period_s")
    for i in range(frames):  # in seconds, which is OME's default
        opened = None if period_s is None else round(i * period_s, 9)
        times = {"DeltaT": opened, "ExposureTime": exposure_s}
        yield _element("Plane", {"TheC": 0, "TheZ": 0, "TheT": i, **times})


def _element(name: str, attributes: Mapping[str, Any], *children: str) -> str:
    """Return an XML element; attributes that are None are left out."""
    told = "".join(f" {k}={quoteattr(str(v))}" for k, v in attributes.items() if v is not None)
    inside = "".join(children)
    return f"<{name}{told}>{inside}</{name}>" if inside else f"<{name}{told}/>"


# --- Picasso --------------------------------------------------------------------------------


def write_raw(path: Path, pages: Iterable[Array]) -> None:
    """Write images one after another, little-endian, without any header."""
    with path.open("wb") as file:
        for page in pages:
            file.write(page.astype(page.dtype.newbyteorder("<"), copy=False).tobytes())


def picasso_movie_info(
    shape: tuple[int, int, int],
    dtype: npt.DTypeLike,
    pixel_size_nm: tuple[float, float],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what the .yaml beside a .raw holds: the movie, and the camera for Picasso's localize.

    Parameters
    ----------
    shape
        Frames, rows, columns.
    dtype
        Type of the images, one of `RAW_TYPES`.
    pixel_size_nm
        Extents (y, x) of a pixel at the specimen; they must be the same.
    settings
        Nominal settings; exposure_s, frame_period_s and camera are used.

    Raises
    ------
    ValueError
        Pixels aren't square, which Picasso takes for granted, or .raw has no such type.
    """
    y, x = (abs(size) for size in pixel_size_nm)
    if not math.isclose(y, x, rel_tol=1e-6):
        raise ValueError(f"Picasso's pixels are square; these are {x:g} nm by {y:g} nm")
    kind = np.dtype(dtype)
    if kind.name not in RAW_TYPES:
        raise ValueError(f"the movie holds {kind}; a .raw movie holds {', '.join(RAW_TYPES)}")
    frames, ny, nx = (int(n) for n in shape)
    info: dict[str, Any] = {
        "Byte Order": "<",
        "Data Type": kind.name,
        "Frames": frames,
        "Height": ny,
        "Width": nx,
        "Generated by": "nanophantom",
        "Pixelsize": x,
    }
    camera = settings.get("camera")
    if camera:
        info |= {
            "Baseline": float(camera.get("offset_adu", 0.0)),
            "Sensitivity": 1 / float(camera.get("adu_per_electron", 1.0)),
            "Gain": float(camera.get("em_gain", 1.0)),
            "Qe": float(camera.get("quantum_efficiency", 1.0)),
        }
    times = {"Exposure (s)": "exposure_s", "Frame period (s)": "frame_period_s"}
    info |= {told: float(settings[ours]) for told, ours in times.items() if ours in settings}
    return {**info, "Origin": "centre of pixel (0, 0), y down", "Frame base": 0}


def has_pixel_maps(settings: Mapping[str, Any]) -> bool:
    """Return whether something is known of every pixel of the camera."""
    return any(
        f"{of}_map" in (settings.get("camera") or {}) for of in ("offset", "variance", "gain")
    )


def write_picasso_maps(path: Path, settings: Mapping[str, Any]) -> None:
    """Write the maps of an sCMOS camera as Picasso's camera calibration (``_scmos_calib.hdf5``).

    Offset in ADU, variance in ADU², gain in ADU a photoelectron: what Picasso 0.11 asks for. What
    isn't known of every pixel is the same for all.
    """
    camera = settings["camera"]
    offset, variance, relative = np.broadcast_arrays(
        np.asarray(camera.get("offset_map", camera.get("offset_adu", 0.0)), float),
        np.asarray(camera.get("variance_map", camera.get("read_noise_e", 0.0) ** 2), float),
        np.asarray(camera.get("gain_map", 1.0), float),
    )
    gain = float(camera.get("adu_per_electron", 1.0)) * relative
    with h5py.File(path, "w") as file:
        for name, values in (("offset", offset), ("variance", variance * gain**2), ("gain", gain)):
            file.create_dataset(name, data=values.astype(np.float32))
        file.attrs["metadata"] = json.dumps({"Generated by": "nanophantom"})
