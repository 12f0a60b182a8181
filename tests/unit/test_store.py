"""The dataset folder: what goes in comes out, and damage is always noticed."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))
from toy import RECIPE, Toy, file_bytes, make, write_shard

from nanophantom.simcore.runs import Frame
from nanophantom.simcore.store import Corpus, Dataset, DatasetWriter, require_space, verify
from nanophantom.simcore.store.layout import plan_layout


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A complete dataset of ten frames in three shards; copy it before touching it."""
    folder = tmp_path_factory.mktemp("store") / "toy"
    make(folder, Toy(), workers=1, shard_frames=4)
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "toy"))


def started(folder, shards, **options):
    """An unfinished dataset with the first few shards made."""
    toy = Toy()
    with DatasetWriter.create(folder, toy, RECIPE, shard_frames=4, **options) as writer:
        writer.write_truth(toy.truth())
        for shard in range(shards):
            writer.record(write_shard(toy, writer.shards, shard))
    return writer


# --- round trip ------------------------------------------------------------------------------


def test_what_the_acquisition_made_is_what_is_read(finished):
    toy, dataset = Toy(), Dataset(finished)
    frames = [toy.expose(i) for i in range(10)]
    assert dataset.complete
    assert dataset.n_frames == 10
    assert dataset.signals == ("image",)
    assert dataset.recipe == {"scenario": "toy", "seed": 5}
    assert dataset.settings == {"pixel_size_nm": 0.02, "energy_kev": 300.0, "tilt_mrad": [1, 2]}
    image = dataset.signal("image", 3, 9)  # across a border of shards
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image, [f.signals["image"] for f in frames[3:9]])
    shifts = dataset.frame_truth("shift_nm")
    np.testing.assert_array_equal(shifts, [f.truth["shift_nm"] for f in frames])
    np.testing.assert_array_equal(dataset.ideal("image", 5), frames[5].truth["ideal"])
    assert dataset.truth_tables == ("drift", "groups", "noise_free")
    for table, columns in toy.truth().items():
        read = dataset.truth(table)
        assert list(read) == list(columns)
        for name, values in columns.items():
            np.testing.assert_array_equal(read[name], values)


def test_measured_is_what_an_operator_sees(finished):
    measured = Dataset(finished).measured()
    field = measured.signals["image"]
    assert [axis.name for axis in field.axes] == ["frame", "y", "x"]
    assert [axis.step for axis in field.axes] == [1.0, 0.02, 0.05]
    assert field.unit == "counts"
    assert set(measured.signals) == {"image"}


def test_no_truth_in_a_measured_file(finished):
    for file in sorted((finished / "shards").iterdir()):
        with h5py.File(file) as shard:
            names = []
            shard.visit(names.append)
        assert names == ["image"]


def test_ideal_that_is_not_stored_is_made_again(tmp_path):
    toy = Toy()
    with DatasetWriter.create(tmp_path / "toy", toy, RECIPE, store_ideal=False) as writer:
        writer.write_truth(toy.truth())
        for shard in writer.missing:
            writer.record(write_shard(toy, writer.shards, shard))
        writer.finish()
    dataset = Dataset(tmp_path / "toy")
    assert dataset.frame_truth_names == ("shift_nm",)
    with pytest.raises(ValueError, match="hand over the acquisition"):
        dataset.ideal("image", 2)
    np.testing.assert_array_equal(dataset.ideal("image", 2, toy), toy.expose(2).truth["ideal"])
    assert verify(dataset.path) == []


# --- layout ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_frames", "shape"), [(1, (8, 8)), (40, (1024, 1024)), (100_000, (64, 64)), (9, (8192, 8192))]
)
def test_shards_are_small_and_many(n_frames, shape):
    """Below 16 MB raw (or one frame), and as many as 32 where there are that many frames."""
    plan = plan_layout(Toy(n_frames, shape))
    frame_bytes = shape[0] * shape[1] * (2 + 4 * plan.stores_ideal)
    assert plan.shard_frames == 1 or plan.shard_frames * frame_bytes <= 16e6
    assert plan.n_shards >= min(n_frames, 20)
    assert [i for k in range(plan.n_shards) for i in plan.frames(k)] == list(range(n_frames))


def test_noise_free_frames_above_a_gigabyte_are_not_stored():
    assert plan_layout(Toy(238, (1024, 1024))).stores_ideal  # 238 * 4 MiB = 0.998 GB
    assert not plan_layout(Toy(239, (1024, 1024))).stores_ideal


def test_an_acquisition_without_frames_is_refused():
    with pytest.raises(ValueError, match="at least one frame"):
        plan_layout(Toy(0))


# --- same bytes ------------------------------------------------------------------------------


def test_bytes_depend_on_neither_time_nor_place_nor_order(finished, tmp_path):
    time.sleep(1.1)  # HDF5 counts seconds
    toy = Toy()
    with DatasetWriter.create(tmp_path / "elsewhere", toy, RECIPE, shard_frames=4) as writer:
        for shard in (2, 0, 1):
            writer.record(write_shard(toy, writer.shards, shard))
        writer.write_truth(toy.truth())
        writer.finish({"seconds": 1.0})
    assert file_bytes(tmp_path / "elsewhere") == file_bytes(finished)


def test_nothing_in_the_folder_names_where_it_was_made(finished):
    for path in finished.rglob("*"):
        if path.is_file():
            assert str(finished.parent).encode() not in path.read_bytes(), path


# --- refusals --------------------------------------------------------------------------------


def test_an_existing_folder_is_refused(finished):
    with pytest.raises(ValueError, match=r"exists; name another folder \(-o\).*--resume"):
        DatasetWriter.create(finished, Toy(), RECIPE)


def test_what_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not a nanophantom dataset"):
        Dataset(tmp_path)
    (tmp_path / "dataset.json").write_text('{"format": "somebody else\'s"}')
    with pytest.raises(ValueError, match="not a nanophantom dataset"):
        Dataset(tmp_path)


def test_a_damaged_header_is_refused(copy):
    header = json.loads((copy / "dataset.json").read_text())
    del header["signals"]
    (copy / "dataset.json").write_text(json.dumps(header))
    with pytest.raises(ValueError, match="is damaged: it lacks signals"):
        Dataset(copy)


@pytest.mark.parametrize("text", [None, "a: [", "- a list", b"\xff"])
def test_a_damaged_recipe_is_refused(copy, text):
    file = copy / "recipe.yaml"
    file.unlink() if text is None else file.write_bytes(os.fsencode(text))
    with pytest.raises(
        ValueError, match=r"recipe\.yaml is .*damaged.*nanophantom verify"
    ) as caught:
        _ = Dataset(copy).recipe
    assert "\n" not in str(caught.value)


def test_a_damaged_manifest_is_refused(copy):
    rewrite(copy / "manifest.jsonl", "{", "")
    with pytest.raises(ValueError, match=r"manifest\.jsonl: line 1 is damaged; restore it"):
        Dataset(copy)
    (copy / "manifest.jsonl").unlink()
    with pytest.raises(ValueError, match=r"manifest\.jsonl is missing or unreadable; restore it"):
        Dataset(copy)


def test_a_newer_format_is_refused(copy):
    header = json.loads((copy / "dataset.json").read_text())
    (copy / "dataset.json").write_text(json.dumps(header | {"version": 2}))
    for refused in (Dataset, lambda path: DatasetWriter.resume(path, RECIPE)):
        with pytest.raises(ValueError, match="format version 2"):
            refused(copy)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (Frame(1, {"image": np.zeros((16, 24), "u2")}, {"ideal": 0}), "holds frames 0 to 0"),
        (Frame(0, {"image": np.zeros((16, 24), "u4")}, {"ideal": 0}), r"uint32 \(16, 24\)"),
        (Frame(0, {"image": np.zeros((16, 23), "u2")}, {"ideal": 0}), r"uint16 \(16, 23\)"),
        (Frame(0, {"counts": np.zeros((16, 24), "u2")}, {"ideal": 0}), r"signals \['counts'\]"),
        (Frame(0, {"image": np.zeros((16, 24), "u2")}, {}), "no noise-free"),
        (
            Frame(0, {"image": np.zeros((16, 24), "u2")}, {"ideal": 0, "x/y": 0}),
            "frame truth name 'x/y'",
        ),
    ],
)
def test_a_frame_that_breaks_its_word_is_refused(tmp_path, frame, message):
    with (
        DatasetWriter.create(tmp_path / "toy", Toy(), RECIPE, shard_frames=1) as writer,
        pytest.raises(ValueError, match=message),
    ):
        writer.write_shard(0, [frame])


def test_truth_that_can_not_be_stored_is_refused(tmp_path):
    with DatasetWriter.create(tmp_path / "toy", Toy(), RECIPE) as writer:
        with pytest.raises(ValueError, match=r"atoms\.kind holds object"):
            writer.write_truth({"atoms": {"kind": np.array([None, 1])}})
        with pytest.raises(ValueError, match="truth table name 'a b'"):
            writer.write_truth({"a b": {}})


def test_require_space_names_what_is_needed_and_what_is_free(tmp_path):
    require_space(tmp_path / "not" / "there" / "yet", 1000)
    with pytest.raises(ValueError, match=r"may take 1e\+03 TB and .* are free"):
        require_space(tmp_path, 10**15)


# --- unfinished ------------------------------------------------------------------------------


def test_frames_not_made_yet_raise_instead_of_reading_as_zeros(tmp_path):
    started(tmp_path / "toy", 1)
    dataset = Dataset(tmp_path / "toy")
    assert not dataset.complete
    assert dataset.signal("image", 0, 4).any()
    for read in (dataset.signal, dataset.frame_truth):
        with pytest.raises(ValueError, match="lacks frames 4 to 7"):
            read("image" if read == dataset.signal else "ideal", 2, 6)


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (5, 4), (0, 11)])
def test_frames_that_do_not_exist_raise(finished, start, stop):
    with pytest.raises(ValueError, match="has frames 0 to 10"):
        Dataset(finished).signal("image", start, stop)


def test_unknown_names_are_answered_with_the_known(finished):
    dataset = Dataset(finished)
    with pytest.raises(ValueError, match="it has image"):
        dataset.signal("haadf")
    with pytest.raises(ValueError, match="it has drift, groups, noise_free"):
        dataset.truth("atoms")
    with pytest.raises(ValueError, match="it has ideal, shift_nm"):
        dataset.frame_truth("drift")


def test_finishing_early_is_refused(tmp_path):
    started(tmp_path / "toy", 2)
    with (
        DatasetWriter.resume(tmp_path / "toy", RECIPE) as writer,
        pytest.raises(ValueError, match=r"still lacks shards \[2\]"),
    ):
        writer.finish()


def test_resume_keeps_what_is_whole_and_redoes_the_rest(finished, tmp_path):
    """A lost file, a damaged one, a torn manifest, leftovers: the same bytes in the end."""
    folder = tmp_path / "toy"
    started(folder, 3)
    (folder / "truth/000001.h5").unlink()
    damage(folder / "shards/000002.h5")
    (folder / "shards/000003.h5.77.tmp").write_bytes(b"half")
    with (folder / "manifest.jsonl").open("ab") as manifest:
        manifest.write(b'{"file": "shards/0000')
    kept = (folder / "shards/000000.h5").stat().st_mtime_ns
    with DatasetWriter.resume(folder, RECIPE) as writer:
        assert writer.has_truth
        assert writer.missing == (1, 2)
    make(folder, Toy(), workers=1)
    assert (folder / "shards/000000.h5").stat().st_mtime_ns == kept
    assert file_bytes(folder) == file_bytes(finished)


@pytest.mark.parametrize("full_at", [1, 2, 3])
def test_a_full_disk_costs_only_the_open_shard(finished, tmp_path, monkeypatch, full_at):
    """The disk fills up at the shard, at its truth, or at the manifest's line about them."""
    folder, toy = tmp_path / "toy", Toy()
    started(folder, 1)
    writer = DatasetWriter.resume(folder, RECIPE)
    before = file_bytes(folder)
    calls, fsync = 0, os.fsync

    def full(descriptor):
        nonlocal calls
        if os.fstat(descriptor).st_mode & 0o040000 == 0:  # a file, not a folder
            calls += 1
            if calls == full_at:
                raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with writer, pytest.raises(OSError, match="No space left"):
        writer.record(write_shard(toy, writer.shards, 1))
    monkeypatch.undo()
    after = file_bytes(folder)
    assert not [name for name in after if name.endswith(".tmp")]
    assert {name: after[name] for name in before} == before
    make(folder, toy, workers=1)
    assert file_bytes(folder) == file_bytes(finished)


# --- integrity -------------------------------------------------------------------------------


def damage(file):
    """Flip one bit in the middle of a file."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def rewrite(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def replace_recorded(folder, file):
    """Alter a shard and forge its line in the manifest and the seal on that."""
    from nanophantom.simcore.store import manifest

    with h5py.File(folder / file, "r+") as shard:
        shard["image"][0, 0, 0] += 1
    lines = manifest.read_manifest(folder)
    forged = manifest.describe(file, (folder / file).read_bytes(), (4, 8), lines[file].sums)
    seal = manifest.write_manifest(folder, lines | {file: forged})
    header = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(header | {"manifest_sha256": seal}))


def test_a_sound_dataset_has_no_problems(finished):
    assert verify(finished) == []


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (lambda d: (d / "shards/000001.h5").unlink(), "shards/000001.h5: missing"),
        (lambda d: (d / "truth/run.h5").unlink(), "truth/run.h5: missing"),
        (lambda d: (d / "master.emd").unlink(), "master.emd: missing"),
        (lambda d: (d / "wisdom").unlink(), "wisdom: missing"),
        (lambda d: (d / "manifest.jsonl").unlink(), "manifest.jsonl is missing"),
        (lambda d: damage(d / "shards/000001.h5"), "shards/000001.h5: altered"),
        (lambda d: damage(d / "truth/000002.h5"), "truth/000002.h5: altered"),
        (lambda d: damage(d / "recipe.yaml"), "recipe.yaml: altered"),
        (lambda d: rewrite(d / "manifest.jsonl", "57", "58"), "manifest.jsonl: altered"),
        (lambda d: (d / "shards/000007.h5").write_bytes(b"?"), "shards/000007.h5: not in"),
        (lambda d: (d / "truth/000001.h5.9.tmp").write_bytes(b"?"), "interrupted run"),
        (lambda d: replace_recorded(d, "shards/000001.h5"), "sum of 'image' differs"),
        (lambda d: rewrite(d / "dataset.json", '"version": 1', '"version": 2'), "version 2"),
        (lambda d: rewrite(d / "dataset.json", '_frames": 10', '_frames": 14'), "12 to 13 are mis"),
        (lambda d: rewrite(d / "dataset.json", "true", "false"), "unfinished"),
    ],
)
def test_every_harm_is_found(copy, harm, problem):
    harm(copy)
    assert any(problem in found for found in verify(copy)), verify(copy)


def test_reading_a_damaged_chunk_raises(copy):
    """HDF5's own checksum (fletcher32) notices without the manifest."""
    damage(copy / "truth/000001.h5")
    with pytest.raises(ValueError, match="damaged"):
        Dataset(copy).frame_truth("ideal", 4, 8)


def test_verify_walks_a_corpus(finished, tmp_path):
    corpus = Corpus.create(tmp_path / "corpus", RECIPE, 3)
    for number in (0, 1):
        shutil.copytree(finished, corpus.item(number))
    assert verify(corpus.path) == ["items/000002: missing"]
    (corpus.item(1) / "shards/000000.h5").unlink()
    assert verify(corpus.path)[0] == "items/000001/shards/000000.h5: missing"
    with pytest.raises(ValueError, match="open one of those in its items/"):
        Dataset(corpus.path)
    with pytest.raises(ValueError, match="exists"):
        Corpus.create(corpus.path, RECIPE, 3)
    assert Corpus.resume(corpus.path, RECIPE).n_items == 3
