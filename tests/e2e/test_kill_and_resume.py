"""Whatever stops a run, going on gives the very bytes of a run that nothing stopped."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from toy import RECIPE, Toy, file_bytes, make

from nanophantom.simcore.store import Corpus, Dataset, DatasetWriter, verify

SCRIPT = Path(__file__).with_name("toy.py")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The bytes of the script's dataset, made here in one go (exposure times don't matter)."""
    folder = tmp_path_factory.mktemp("undisturbed") / "toy"
    make(folder, Toy(n_frames=40), workers=1, shard_frames=2)
    assert verify(folder) == []
    return file_bytes(folder)


def start(folder, workers, exposure_s=0.02, **options):
    """Start the script in a process group of its own; return once it is at work."""
    process = subprocess.Popen(
        [sys.executable, SCRIPT, folder, str(workers), str(exposure_s)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    return process


def kill_group(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.communicate()


def test_one_and_two_workers_give_the_same_bytes(undisturbed, tmp_path):
    make(tmp_path / "toy", Toy(n_frames=40), workers=2, shard_frames=2)
    assert file_bytes(tmp_path / "toy") == undisturbed


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_times_and_resumed(undisturbed, tmp_path, seed):
    """SIGKILL, to the parent alone (its workers live on for a while) or to all of them."""
    rng = np.random.default_rng(seed)
    folder = tmp_path / "toy"
    processes = []
    made = [0]
    for kill in range(6):
        process = start(folder, workers=1 + kill % 2)
        processes.append(process)
        time.sleep(rng.uniform(0.0, 0.3) + 0.4 * (kill % 2))  # a pool needs time to start
        if kill % 4 == 3:
            process.kill()
            process.wait()
        else:
            kill_group(process)
        if folder.exists():
            made.append(sum("shards/" in line for line in manifest_lines(folder)))
    for process in processes:
        kill_group(process)
        process.stdout.close()
        process.stderr.close()
    assert made == sorted(made)  # nothing that was finished is lost
    assert made[-1] > 0
    make(folder, Toy(n_frames=40), workers=1, shard_frames=2)
    assert file_bytes(folder) == undisturbed
    assert verify(folder) == []


def manifest_lines(folder):
    return (folder / "manifest.jsonl").read_text().splitlines()


@pytest.mark.parametrize("delay_s", [0.0, 0.1, 0.5, 1.5])
def test_interrupt_stops_promptly_and_quietly(undisturbed, tmp_path, delay_s):
    """Ctrl-C reaches the whole group: no worker complains, none survives, the run goes on."""
    process = start(tmp_path / "toy", workers=2, exposure_s=0.3)
    time.sleep(delay_s)
    workers = psutil.Process(process.pid).children(recursive=True)
    begin = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert time.monotonic() - begin < 10
    assert "Traceback" not in errors
    _, alive = psutil.wait_procs(workers, timeout=5)
    assert alive == []
    assert not (tmp_path / "toy").exists() or not Dataset(tmp_path / "toy").complete
    make(tmp_path / "toy", Toy(n_frames=40), workers=1, shard_frames=2)
    assert file_bytes(tmp_path / "toy") == undisturbed


@pytest.mark.parametrize(
    ("limit_bytes", "fails"), [(3000, "run.h5"), (9000, "000000.h5"), (20_000, "master.emd")]
)
def test_a_disk_that_takes_no_more_and_resumed(undisturbed, tmp_path, limit_bytes, fails):
    """Real writes fail half-way: at the run's truth, a frame's truth, or the index."""
    assert max(len(undisturbed[file]) for file in undisturbed if fails in file) > limit_bytes
    process = start(
        tmp_path / "toy",
        workers=1,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes)),
    )
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"[Errno {errno.EFBIG}]" in errors
    assert not Dataset(tmp_path / "toy").complete
    assert list(tmp_path.rglob("*.tmp")) == []
    make(tmp_path / "toy", Toy(n_frames=40), workers=1, shard_frames=2)
    assert file_bytes(tmp_path / "toy") == undisturbed


def test_a_disk_that_is_full_at_once_leaves_nothing(tmp_path):
    """60 blocks of 1 KiB hold the recipe, not the plans of the FFTs: no hidden folder stays."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60 * 1024, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            DatasetWriter.create(tmp_path / "toy", Toy(), RECIPE, wisdom=bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_no_dataset_is_started_where_there_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("mine")
    for parent in (tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(ValueError, match=f"there is no folder {parent}"):
            DatasetWriter.create(parent / "toy", Toy(), RECIPE)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_can_not_be_resumed_is_called_what_it_is(tmp_path):
    """Somebody's folder, a corpus taken for a dataset, a dataset taken for a corpus."""
    (tmp_path / "mine").mkdir()
    Corpus.create(tmp_path / "corpus", RECIPE, 2)
    DatasetWriter.create(tmp_path / "toy", Toy(), RECIPE).close()
    for resume, name, message in (
        (DatasetWriter.resume, "mine", "holds no dataset that was started"),
        (Corpus.resume, "mine", "holds no corpus that was started"),
        (DatasetWriter.resume, "corpus", "is a corpus; resume it with its --count"),
        (Corpus.resume, "toy", "is a single dataset; resume it without --count"),
    ):
        with pytest.raises(ValueError, match=f"{name} {message}"):
            resume(tmp_path / name, RECIPE)


def test_inputs_travel_with_the_dataset(tmp_path):
    structure = tmp_path / "gold.cif"
    structure.write_text("data_gold")
    writer = DatasetWriter.create(tmp_path / "toy", Toy(), RECIPE, [structure])
    writer.close()
    assert (tmp_path / "toy/inputs/gold.cif").read_text() == "data_gold"
    other = tmp_path / "other" / "gold.cif"
    other.parent.mkdir()
    other.write_text("data_silver")
    with pytest.raises(ValueError, match=r"two different input files are called gold\.cif"):
        DatasetWriter.create(tmp_path / "new", Toy(), RECIPE, [structure, other])


def test_an_input_that_has_changed_is_not_resumed(tmp_path):
    """The dataset's own copy decides; the old file put back goes on."""
    structure = tmp_path / "gold.cif"
    structure.write_text("data_gold")
    DatasetWriter.create(tmp_path / "toy", Toy(), RECIPE, [structure]).close()
    structure.write_text("data_silver")
    with pytest.raises(ValueError, match=r"gold\.cif has changed since this dataset was started"):
        DatasetWriter.resume(tmp_path / "toy", RECIPE, [structure])
    structure.unlink()
    with pytest.raises(ValueError, match=r"gold\.cif can't be read"):
        DatasetWriter.resume(tmp_path / "toy", RECIPE, [structure])
    structure.write_text("data_gold")
    DatasetWriter.resume(tmp_path / "toy", RECIPE, [structure]).close()


def test_resuming_with_another_recipe_is_refused(tmp_path):
    DatasetWriter.create(tmp_path / "toy", Toy(), RECIPE).close()
    with pytest.raises(ValueError, match="started with another recipe"):
        DatasetWriter.resume(tmp_path / "toy", RECIPE + "# changed\n")
    with pytest.raises(ValueError, match="nothing to resume"):
        DatasetWriter.resume(tmp_path / "nowhere", RECIPE)


def test_two_writers_at_once_are_refused(tmp_path):
    with (
        DatasetWriter.create(tmp_path / "toy", Toy(), RECIPE),
        pytest.raises(ValueError, match="another process is writing"),
    ):
        DatasetWriter.resume(tmp_path / "toy", RECIPE)
    DatasetWriter.resume(tmp_path / "toy", RECIPE).close()


def test_a_damaged_input_can_not_be_resumed(tmp_path):
    structure = tmp_path / "gold.cif"
    structure.write_text("data_gold")
    DatasetWriter.create(tmp_path / "toy", Toy(), RECIPE, [structure]).close()
    (tmp_path / "toy/inputs/gold.cif").write_text("data_good")
    with pytest.raises(ValueError, match=r"inputs/gold\.cif: altered.*start again"):
        DatasetWriter.resume(tmp_path / "toy", RECIPE)
