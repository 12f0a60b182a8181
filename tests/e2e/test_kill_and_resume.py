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
from toy import Toy, file_bytes, make

from nanophantom.simcore.store import Dataset, verify

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
