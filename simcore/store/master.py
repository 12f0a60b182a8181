"""The index over the shards: one small HDF5 file that several packages open with calibration.

The signals are virtual datasets (relative paths, so the folder can move) in three layouts at
once: an EMD 1.0 tree (py4DSTEM, emdfile), HyperSpy's ``/Experiments`` and a NeXus ``NXdata``.
The latter two are soft links: readers that walk a file visit a hard-linked object only once.
"""

from __future__ import annotations

import h5py
import numpy as np

from nanophantom.simcore.fields import Axis
from nanophantom.simcore.runs import SignalSpec
from nanophantom.simcore.store.arrays import file_image
from nanophantom.simcore.store.layout import Layout

ROOT = "nanophantom"


def signal_path(name: str) -> str:
    """Return where a signal's dataset lies in the index."""
    return f"/{ROOT}/{name}/data"


def master_image(layout: Layout) -> bytes:
    """Return the bytes of ``master.emd``; only to be written when every shard is there."""

    def fill(file: h5py.File) -> None:
        file.attrs.update(
            emd_group_type="file",
            version_major=1,
            version_minor=0,
            authoring_program="nanophantom",
            file_format="HyperSpy",
            file_format_version="3.1",
            NX_class="NXroot",
            default="entry",
        )
        root = file.create_group(ROOT)
        root.attrs.update(emd_group_type="root", python_class="Root")
        entry = file.create_group("entry")
        entry.attrs.update(NX_class="NXentry", default=next(iter(layout.signals)))
        for name, spec in layout.signals.items():
            axes = (Axis("frame", 1.0, ""), *spec.axes)
            _add_emd(root, name, layout, spec, axes)
            n_frames = len(layout.frames_of(name))
            _add_hyperspy(file, name, spec, axes, n_frames)
            _add_nexus(entry, name, axes, (n_frames, *spec.shape))

    return file_image(fill)


def _add_emd(
    root: h5py.Group, name: str, layout: Layout, spec: SignalSpec, axes: tuple[Axis, ...]
) -> None:
    group = root.create_group(name)
    group.attrs.update(emd_group_type="array", python_class="Array")
    data = _virtual_dataset(group, name, layout, spec)
    data.attrs["units"] = spec.unit
    for number, axis in enumerate(axes):
        # Two values stand for a regular axis.
        dim = group.create_dataset(f"dim{number}", data=axis.coordinates(2))
        dim.attrs.update(name=axis.name, units=axis.unit)


def _virtual_dataset(
    group: h5py.Group, name: str, layout: Layout, spec: SignalSpec
) -> h5py.Dataset:
    """Map the shards one after another (h5py's own way would note the time)."""
    own = layout.frames_of(name)
    dtype, shape = np.dtype(spec.dtype), (len(own), *spec.shape)
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_obj_track_times(False)
    # A shard that gets lost reads as what no detector gives, not as zero counts.
    if dtype.kind in "iu":
        creation.set_fill_value(np.array(np.iinfo(dtype).max, dtype))
    elif dtype.kind in "fc":
        creation.set_fill_value(np.array(np.nan, dtype))
    whole = h5py.h5s.create_simple(shape)
    for shard in range(layout.n_shards):
        frames = layout.frames(shard)
        first, stop = max(frames.start, own.start), min(frames.stop, own.stop)
        if first >= stop:
            continue
        block = (stop - first, *spec.shape)
        whole.select_hyperslab((first - own.start,) + (0,) * len(spec.shape), block)
        source = Layout.measured_file(shard).encode(), name.encode()
        creation.set_virtual(whole, *source, h5py.h5s.create_simple(block))
    kind = h5py.h5t.py_create(dtype, logical=True)
    everything = h5py.h5s.create_simple(shape)
    return h5py.Dataset(h5py.h5d.create(group.id, b"data", kind, everything, creation))


def _add_hyperspy(
    file: h5py.File, name: str, spec: SignalSpec, axes: tuple[Axis, ...], n_frames: int
) -> None:
    group = file.create_group(f"Experiments/{name}")
    group["data"] = h5py.SoftLink(signal_path(name))
    for number, (axis, size) in enumerate(zip(axes, (n_frames, *spec.shape), strict=True)):
        group.create_group(f"axis-{number}").attrs.update(
            _type="UniformDataAxis",
            name=axis.name,
            scale=axis.step,
            offset=axis.start,
            units=axis.unit,
            size=size,
            navigate=number == 0,
            is_binned=False,
        )
    general = group.create_group("metadata/General")
    general.attrs["title"] = name
    signal = group.create_group("metadata/Signal")
    signal.attrs.update(signal_type="", quantity=f"{name} ({spec.unit})")
    group.create_group("original_metadata")
    group.create_group("learning_results")


def _add_nexus(
    entry: h5py.Group, name: str, axes: tuple[Axis, ...], shape: tuple[int, ...]
) -> None:
    group = entry.create_group(name)
    group["data"] = h5py.SoftLink(signal_path(name))
    group.attrs.update(NX_class="NXdata", signal="data")
    group.attrs["axes"] = np.array([axis.name for axis in axes], h5py.string_dtype())
    for axis, size in zip(axes, shape, strict=True):
        values = group.create_dataset(axis.name, data=axis.coordinates(size))
        values.attrs["units"] = axis.unit
