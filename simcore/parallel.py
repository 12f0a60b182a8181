"""Independent tasks on every processor, results as they finish.

Many tasks go to worker processes, one thread each (`run_tasks`). Inside a task, work on large
shared arrays (the probes of one scan, say) may use the processors that no other worker needs as
threads (`map_threads`).

A task is a picklable callable without arguments (``functools.partial(function, ...)``). It should
take half a second or more, write what is large to disk and return what is small. Nothing about
the result depends on how many workers there are: a task draws its random numbers by address, FFT
plans come from one set of wisdom, and no library inside a worker splits its sums over threads.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, ThreadPoolExecutor, wait
from multiprocessing import resource_tracker as python_tracker
from pathlib import Path
from typing import TypeVar, cast

import joblib
import psutil
from joblib.externals.loky.backend import resource_tracker as loky_tracker

from nanophantom.simcore import fft

T = TypeVar("T")
Engine = TypeVar("Engine")
Item = TypeVar("Item")
Task = Callable[[], T]
Progress = Callable[[int], None]
"""Called with the number of finished tasks after each."""

_threads: int | None = None  # of a task here; None: nobody shares the machine with it
_planning = threading.Lock()


def usable_cores() -> int:
    """Return the number of processors that this process may use (affinity, container limits)."""
    return int(joblib.cpu_count())


def run_tasks(
    tasks: Iterable[Task[T]],
    workers: int | None = None,
    progress: Progress | None = None,
    total: int | None = None,
    in_threads: bool = False,
) -> Generator[T, None, None]:
    """Run tasks on worker processes and yield their results in the order they finish.

    Workers ignore Ctrl-C; the parent kills them when the generator is closed. Wrap it in
    ``contextlib.closing``, so that this happens at once wherever the interruption comes.

    Parameters
    ----------
    tasks
        Picklable callables without arguments, taken as workers become free. Large arrays bound
        to them are handed over through shared memory, once.
    workers
        Number of processes; 1 runs everything here. By default one a usable processor.
    progress
        Called in this process with the number of tasks finished so far.
    total
        Number of tasks, if known: no more workers than that are started.
    in_threads
        Use threads of this process instead: for short tasks that leave Python's lock to others.

    Raises
    ------
    ValueError
        ``workers`` is less than 1.
    RuntimeError
        A worker process died.
    """
    workers = usable_cores() if workers is None else workers
    if workers < 1:
        raise ValueError(f"workers is {workers}; at least one is needed")
    wanted = workers
    if total is not None:
        workers = max(1, min(workers, total))
    spare = wanted // workers
    if workers == 1:
        return _run(_here(tasks, spare), progress)
    if in_threads:
        return _run(_on_threads(tasks, workers), progress)
    return _run(_on_workers(tasks, workers, spare), progress)


def threads_here() -> int:
    """Return the number of threads that a task in this process may use."""
    return usable_cores() if _threads is None else _threads


def map_threads(
    function: Callable[[Engine, Item], T],
    items: Sequence[Item],
    engine: Callable[[], Engine],
    threads: int | None = None,
) -> list[T]:
    """Call a function with every item, on several threads; return the results in order.

    Parameters
    ----------
    function
        Called with an engine and an item. It should spend its time where Python's lock is
        released: FFTs, compiled loops, large array operations.
    items
        What there is to do.
    engine
        Makes the working arrays and plans that a thread needs for itself, once a thread.
    threads
        Number of threads; by default what `threads_here` says.
    """
    threads = min(threads or threads_here(), max(1, len(items)))
    if threads == 1:
        own = engine() if items else None
        return [function(cast(Engine, own), item) for item in items]
    kept = threading.local()

    def call(item: Item) -> T:
        if not hasattr(kept, "engine"):
            with _planning:  # FFTW's planner is not safe in threads
                kept.engine = engine()
        return function(kept.engine, item)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(call, items))


def _run(results: Generator[T, None, None], progress: Progress | None) -> Generator[T, None, None]:
    with contextlib.closing(results):
        for done, result in enumerate(results, start=1):
            if progress is not None:
                progress(done)
            yield result


def _here(tasks: Iterable[Task[T]], threads: int) -> Generator[T, None, None]:
    global _threads
    for task in tasks:
        before, _threads = _threads, threads
        try:
            result = _call(task)
        finally:
            _threads = before
        yield result


def _on_threads(tasks: Iterable[Task[T]], threads: int) -> Generator[T, None, None]:
    """Keep every thread busy and one task waiting, so that no results pile up."""
    todo = iter(tasks)
    with ThreadPoolExecutor(threads) as pool:
        running = {pool.submit(_call, task) for task in itertools.islice(todo, threads + 1)}
        try:
            while running:
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for task in itertools.islice(todo, len(finished)):
                    running.add(pool.submit(_call, task))
                for future in finished:
                    yield future.result()
        finally:
            for future in running:
                future.cancel()


def _on_workers(tasks: Iterable[Task[T]], workers: int, threads: int) -> Generator[T, None, None]:
    with joblib.parallel_config(
        "loky",
        inner_max_num_threads=1,
        initializer=_start_worker,
        initargs=(fft.wisdom(), threads),
    ):
        pool = joblib.Parallel(
            n_jobs=workers,
            return_as="generator_unordered",
            batch_size=1,
            pre_dispatch="2*n_jobs",
        )
    results: Generator[T, None, None] | None = None
    try:
        with _interrupts_held():
            results = pool(joblib.delayed(_call)(task) for task in tasks)
        for result in results:  # noqa: UP028 ("yield from" would pass closing on to joblib first)
            yield result
    except BrokenExecutor as problem:
        raise RuntimeError(
            "a worker process died: it was killed, or the machine ran out of memory; "
            "use fewer workers (what is finished is kept: --resume)"
        ) from problem
    finally:
        if results is not None:
            with warnings.catch_warnings():  # joblib warns about the tasks that closing gives up
                warnings.simplefilter("ignore")
                results.close()


def _call(task: Task[T]) -> T:
    try:
        return task()
    except SystemError as problem:
        # Ctrl-C inside compiled code: numba wraps it.
        if isinstance(problem.__cause__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise


def _start_worker(wisdom: bytes, threads: int) -> None:
    global _threads
    _threads = threads
    fft.use_wisdom(wisdom)


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back while workers start, so that none is left half-started.

    The workers inherit the blocked signal and never see a Ctrl-C themselves. Blocking is not
    enough for this process: a thread of a library may still take the signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread is ever interrupted
        return
    # Started later, with the workers, these helpers of theirs would unblock the signal.
    loky_tracker.ensure_running()
    python_tracker.ensure_running()
    interrupted = threading.Event()
    handler = signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    blocks = hasattr(signal, "pthread_sigmask")  # not on Windows
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if blocks else set()
    try:
        yield
        if interrupted.is_set():
            time.sleep(0.3)  # joblib's own thread stops without complaint once it has the tasks
    finally:
        if blocks:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
        if interrupted.is_set():
            signal.raise_signal(signal.SIGINT)


def available_memory_bytes() -> int:
    """Return the memory that can be had without swapping, container limits included."""
    return int(min(psutil.virtual_memory().available, _cgroup_room_bytes()))


def _cgroup_room_bytes(root: Path = Path("/sys/fs/cgroup")) -> float:
    """Return what the tightest control group (v2) of this process leaves, infinity if none."""
    try:
        own = Path("/proc/self/cgroup").read_text().strip().rpartition("::")[2].lstrip("/")
    except OSError:
        return math.inf
    room = math.inf
    for group in (root / own, *(root / own).parents):
        with contextlib.suppress(OSError, ValueError, IndexError):
            limit = int((group / "memory.max").read_text())  # ValueError: "max", no limit
            used = int((group / "memory.current").read_text())
            statistics = (group / "memory.stat").read_text()
            cache = int(statistics.split("inactive_file ")[1].split()[0])
            room = min(room, limit - used + cache)
        if group == root:
            break
    return max(0, room)
