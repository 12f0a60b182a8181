"""Tasks on workers: all results, none of the workers' noise, nothing left behind.

Tasks are lambdas and functions of the standard library, which reach a worker without this file.
"""

from __future__ import annotations

import operator
import os
import signal
import threading
import time
from contextlib import closing
from functools import partial

import numpy as np
import psutil
import pytest

from nanophantom.simcore import fft, parallel
from nanophantom.simcore.parallel import available_memory_bytes, run_tasks, usable_cores


def pool_processes():
    return [p for p in psutil.Process().children() if "LokyProcess" in " ".join(p.cmdline())]


@pytest.mark.parametrize("workers", [1, 2])
def test_every_task_gives_its_result_once(workers):
    tasks = [partial(operator.mul, i, i) for i in range(20)]
    assert sorted(run_tasks(tasks, workers)) == [i * i for i in range(20)]
    assert list(run_tasks([], workers)) == []


def test_one_worker_is_this_process():
    assert list(run_tasks([os.getpid] * 3, workers=1)) == [os.getpid()] * 3
    assert list(run_tasks([os.getpid], workers=2, total=1)) == [os.getpid()]


def test_results_come_as_they_finish():
    tasks = [partial(lambda s: time.sleep(s) or s, s) for s in (1.0, 0.0, 0.0)]
    assert list(run_tasks(tasks, workers=2)) == [0.0, 0.0, 1.0]


def test_progress_counts_finished_tasks():
    seen = []
    list(run_tasks([int] * 5, workers=2, progress=seen.append))
    assert seen == [1, 2, 3, 4, 5]


def test_tasks_are_taken_as_workers_become_free():
    """Two run and two wait for each worker at most, so a long list never piles up."""
    taken = []

    def tasks():
        for i in range(50):
            taken.append(i)
            yield partial(time.sleep, 0.2)

    with closing(run_tasks(tasks(), workers=2)) as results:
        next(results)
        assert len(taken) <= 8


def test_a_worker_is_single_threaded_and_deaf_to_interrupts():
    def describe():
        import os
        import signal

        threads = [os.environ.get(f"{lib}_NUM_THREADS") for lib in ("OMP", "MKL", "OPENBLAS")]
        blocked = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
        return os.getpid() != parent, threads, blocked

    parent = os.getpid()
    assert list(run_tasks([describe] * 2, workers=2)) == [(True, ["1"] * 3, True)] * 2
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_workers_plan_with_the_wisdom_of_this_process():
    fft.plan((48, 48))

    def digest():
        from nanophantom.simcore import fft

        return fft.wisdom_hash()

    assert set(run_tasks([digest] * 4, workers=2)) == {fft.wisdom_hash()}


def test_large_arrays_reach_workers_unchanged():
    wave = np.arange(300_000, dtype=np.complex128)
    tasks = [partial(lambda parts: complex(parts["wave"].sum()), {"wave": wave})] * 3
    assert list(run_tasks(tasks, workers=2)) == [complex(wave.sum())] * 3


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_task_arrives_as_it_is(workers):
    with pytest.raises(ValueError, match="invalid literal for int"):
        list(run_tasks([partial(int, "x")] * 3, workers))


def test_a_dead_worker_is_one_clear_error():
    def die():
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(RuntimeError, match="a worker process died"):
        list(run_tasks([int, die, int], workers=2))
    assert list(run_tasks([int] * 3, workers=2)) == [0] * 3  # and the next run works


def test_closing_early_kills_the_workers_at_once():
    """And quietly: a warning would fail this test."""
    with closing(run_tasks([int] + [partial(time.sleep, 60)] * 3, workers=2)) as results:
        assert next(results) == 0
        assert len(pool_processes()) == 2
        start = time.monotonic()
    assert time.monotonic() - start < 10
    assert pool_processes() == []


def test_no_workers_are_refused():
    with pytest.raises(ValueError, match="workers is 0; at least one is needed"):
        run_tasks([int], workers=0)


def test_usable_cores_respect_affinity():
    everything = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(everything)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, everything)
    assert 1 <= usable_cores() <= len(everything)


def test_memory_respects_a_container_limit(tmp_path, monkeypatch):
    """Limit 4 GB, 3 GB used of which 1 GB is cache: 2 GB can be had."""
    assert 0 < available_memory_bytes() <= psutil.virtual_memory().total
    (tmp_path / "memory.max").write_text("4000000000\n")
    (tmp_path / "memory.current").write_text("3000000000\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 1000000000\nfile 7\n")
    monkeypatch.setattr(parallel.Path, "read_text", _own_group_is_root(parallel.Path.read_text))
    assert parallel._cgroup_room_bytes(tmp_path) == 2_000_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert parallel._cgroup_room_bytes(tmp_path) == float("inf")


def _own_group_is_root(read_text):
    return lambda path, *a: "0::/\n" if str(path) == "/proc/self/cgroup" else read_text(path, *a)


def _interrupted_in_compiled_code() -> None:
    raise SystemError("a compiled function returned a result with an exception set") from (
        KeyboardInterrupt()
    )


def test_an_interrupt_inside_compiled_code_is_an_interrupt() -> None:
    """numba hands Ctrl-C on as a SystemError; whoever waits for the task sees what it was."""
    with pytest.raises(KeyboardInterrupt):
        list(run_tasks([_interrupted_in_compiled_code], workers=1))


def _thread(seconds: float) -> str:
    time.sleep(seconds)
    return threading.current_thread().name


def test_short_tasks_run_in_threads_of_this_process() -> None:
    """Two at a time, results as they finish, at most one task waiting for a free thread."""
    taken = []

    def tasks():
        for seconds in (0.3, 0.0, 0.0, 0.0):
            taken.append(seconds)
            yield partial(_thread, seconds)

    with closing(run_tasks(tasks(), workers=2, in_threads=True)) as results:
        first = next(results)
        assert len(taken) <= 4
        names = [first, *results]
    assert len(names) == 4
    assert 1 <= len(set(names)) <= 2
    assert "MainThread" not in names
    assert pool_processes() == []


def test_a_task_that_fails_in_a_thread_ends_the_run() -> None:
    with pytest.raises(ZeroDivisionError):
        list(run_tasks([partial(divmod, 1, 0), int], workers=2, in_threads=True))
