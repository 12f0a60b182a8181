"""Tables of frames, signals that not all frames hold, and signals read from disk in slices."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))
from toy import Toy, make

from nanophantom.simcore.experiment import Experiment
from nanophantom.simcore.fields import Axis
from nanophantom.simcore.runs import Frame, Parts, SignalSpec, joined
from nanophantom.simcore.store import Dataset, reader, verify
from nanophantom.simcore.store.master import signal_path


@dataclass(eq=False)
class Two(Toy):
    """Frames 0 to 5 are images; 6 to 9 are profiles of another detector, without a table."""

    def signals(self) -> Mapping[str, SignalSpec]:
        image = replace(super().signals()["image"], frames=(0, 6))
        axis = (Axis("x", 1.0, "nm"),)
        profile = SignalSpec((5,), "float32", axis, "counts", ideal="smooth", frames=(6, 10))
        return {"image": image, "profile": profile}

    def expose(self, i: int, parts: Parts | None = None) -> Frame:
        if i < 6:
            return super().expose(i)
        profile = np.full(5, i, np.float32)
        return Frame(i, {"profile": profile}, {"smooth": profile, "shift_nm": np.float64(i)})


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two") / "two"
    make(folder, Two(), workers=1, shard_frames=4)
    return folder


def test_a_table_of_a_length_of_its_own_in_every_frame(tmp_path):
    """Rows come back with their frame, across shards, from disk as from memory."""
    make(tmp_path / "toy", Toy(), workers=1, shard_frames=4)
    for data in (Dataset(tmp_path / "toy"), Experiment.of(Toy())):
        assert data.frame_tables == ("shining",)
        table = data.frame_table("shining", 1, 6)
        np.testing.assert_array_equal(table["frame"], [1, 2, 2, 4, 5, 5])
        np.testing.assert_array_equal(table["emitter"], [0, 0, 1, 0, 0, 1])
        np.testing.assert_array_equal(table["photons"], 10.0 * table["frame"])
        assert len(data.frame_table("shining")["frame"]) == 9
        with pytest.raises(ValueError, match="no frame table 'dark'"):
            data.frame_table("dark")


@pytest.mark.parametrize(
    "tables",
    [
        [(0, {"a": np.zeros(2)}), (1, {"b": np.zeros(2)})],
        [(0, {"a": np.zeros(2), "b": np.zeros(3)})],
        [(0, {"frame": np.zeros(2)})],
    ],
)
def test_tables_that_do_not_fit_together_are_refused(tables):
    with pytest.raises(ValueError, match="same columns in every frame, equally long"):
        joined(tables)


def test_a_signal_of_some_frames_counts_its_own(two):
    """Each signal is a stack of the frames that hold it: read, indexed and verified as such."""
    toy = Two()
    for data in (Dataset(two), Experiment.of(toy)):
        assert data.signal("image").shape == (6, 16, 24)
        np.testing.assert_array_equal(data.signal("profile")[:, 0], [6, 7, 8, 9])
        np.testing.assert_array_equal(data.signal("profile", 1, 3)[:, 0], [7, 8])
        np.testing.assert_array_equal(data.signal("image", 3, 6)[2], toy.expose(5).signals["image"])
        np.testing.assert_array_equal(data.ideal("profile", 2), np.full(5, 8))
        assert data.frame_truth("shift_nm").shape == (10,)
        assert data.frame_table("shining", 6, 10)["frame"].shape == (0,)
        assert data.measured().signals["profile"].data.shape == (4, 5)
    dataset = Dataset(two)
    assert verify(two) == []
    with pytest.raises(ValueError, match="has frames 0 to 4"):
        dataset.signal("profile", 2, 6)
    with h5py.File(two / "master.emd") as index:
        np.testing.assert_array_equal(index[signal_path("profile")][:, 4], [6, 7, 8, 9])
        np.testing.assert_array_equal(index[signal_path("image")][()], dataset.signal("image"))


def test_a_large_signal_is_read_as_it_is_sliced(two, monkeypatch):
    """What stands for it slices, iterates and turns into an array like one."""
    monkeypatch.setattr(reader, "READ_AT_ONCE_BYTES", 1000)
    dataset = Dataset(two)
    lazy, whole = dataset.measured().signals["image"].data, dataset.signal("image")
    assert isinstance(lazy, reader.StoredFrames)
    assert (lazy.shape, lazy.dtype, len(lazy)) == (whole.shape, whole.dtype, 6)
    for key in (slice(None), slice(1, 5), slice(5, 0, -2), -1, (slice(2, 4), 3), (2, 3, 4)):
        np.testing.assert_array_equal(lazy[key], whole[key])
    assert lazy[3:3].shape == (0, 16, 24)
    np.testing.assert_array_equal(np.stack(list(lazy)), whole)
    np.testing.assert_array_equal(np.asarray(lazy), whole)
    with pytest.raises(TypeError, match="by number or slice"):
        lazy[[0, 1]]
    part = dataset.measured(2, 5).signals["image"].data
    np.testing.assert_array_equal(np.asarray(part), whole[2:5])
