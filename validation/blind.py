"""Run an outsider's function in a process of its own that is given measured data only.

The process starts in a fresh temporary folder with the signals and ``settings.json``;
its arguments and environment name no dataset, recipe or seed. This keeps an honest function
blind, it isn't a prison: code that searches the disk on purpose can find what it wants.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import nanophantom
from nanophantom.simcore.fields import Array, Measured

SIGNALS, SETTINGS = "signals", "settings.json"
RESULT, PROBLEM = "result.npz", "problem.txt"
TIMEOUT_S = 600.0
MAPPED_BYTES = 256_000_000
"""Larger signals are handed over as arrays that are read from disk where they are used."""

# What a Python program needs of its environment; everything else stays behind.
_ENVIRONMENT = (
    "PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT",
    "VIRTUAL_ENV", "CONDA_PREFIX", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NUMBA_CACHE_DIR",
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS",
)  # fmt: skip


def run_blind(
    algorithm: str,
    measured: Measured,
    inputs: Sequence[str] = ("image",),
    timeout_s: float = TIMEOUT_S,
) -> dict[str, Array]:
    """Call ``module:function`` on measured data in its own process and return its columns.

    Parameters
    ----------
    algorithm
        ``"module:function"``; modules of the caller's current directory are found.
    measured
        All that the function may see.
    inputs
        Signals whose arrays it is called with, in this order, followed by the settings. Empty: it
        is called with one dict of all signals by name.
    timeout_s
        How long it may take.

    Returns
    -------
    dict
        The arrays that the function returned, by name.

    Raises
    ------
    ValueError
        The function wasn't found, failed, took too long or returned no mapping of number arrays:
        one line that names the function and the reason.

    Notes
    -----
    What the function prints appears on this process's standard error.
    """
    module, colon, function = algorithm.partition(":")
    if not (module and colon and function.isidentifier()):
        raise ValueError(f"algorithm {algorithm!r} must be written module:function, mine:find say")
    request = {"algorithm": algorithm, "inputs": list(inputs), "look_in": str(Path.cwd())}
    with tempfile.TemporaryDirectory(prefix="nanophantom-blind-") as folder:
        desk = Path(folder)
        handed = inputs or tuple(measured.signals)
        (desk / SIGNALS).mkdir()
        for number, name in enumerate(handed):
            _save_signal(desk / SIGNALS / f"{number:03d} {name}.npy", measured.signals[name].data)
        (desk / SETTINGS).write_text(json.dumps(dict(measured.settings), default=_plain))
        status = _run_child(desk, json.dumps(request), timeout_s, algorithm)
        if (desk / PROBLEM).exists():
            raise ValueError((desk / PROBLEM).read_text(encoding="utf-8"))
        if not (desk / RESULT).exists():
            raise ValueError(f"{algorithm} ended without a result ({_meaning(status)})")
        with np.load(desk / RESULT, allow_pickle=False) as result:
            return {name.removeprefix("column "): result[name] for name in result.files}


def _run_child(desk: Path, request: str, timeout_s: float, algorithm: str) -> int:
    """Run the child to its end and return its exit status."""
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    # A checkout that was never installed is found where this process found it.
    home_of_package = str(Path(str(nanophantom.__file__)).resolve().parents[1])
    search = [*filter(None, [os.environ.get("PYTHONPATH")]), home_of_package]
    environment["PYTHONPATH"] = os.pathsep.join(search)
    child = subprocess.Popen(
        [sys.executable, "-m", "nanophantom.validation.blind"],
        cwd=desk,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        child.communicate(request, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise ValueError(f"{algorithm} took longer than {timeout_s:g} s and was stopped") from None
    finally:
        _end(child)
    return child.returncode


def _end(child: subprocess.Popen[str]) -> None:
    """Stop the child, and on POSIX whatever it started."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
    else:
        child.kill()
    child.wait()


def _save_signal(path: Path, frames: Array) -> None:
    """Write a signal, in blocks if it is on disk itself."""
    if isinstance(frames, np.ndarray):
        np.save(path, frames)
        return
    copy = np.lib.format.open_memmap(path, "w+", frames.dtype, frames.shape)
    block = max(1, 32_000_000 // max(1, copy[:1].nbytes))
    for start in range(0, len(frames), block):
        copy[start : start + block] = frames[start : start + block]
    copy.flush()


def _save(path: Path, arrays: Mapping[str, Array]) -> None:
    np.savez(path, **arrays)  # type: ignore[arg-type]


def _meaning(status: int) -> str:
    if status < 0:
        return f"killed by {signal.Signals(-status).name}: a crash, or out of memory"
    return f"exit status {status}"


def _plain(value: Any) -> Any:
    """Turn numpy's numbers and arrays into what JSON knows."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"settings hold a {type(value).__name__}, which JSON doesn't know")


# --- in the child -----------------------------------------------------------------------------


def _child() -> None:
    """Do what the request on standard input asks, and leave a result or a problem."""
    request = json.loads(sys.stdin.readline())
    os.dup2(2, 1)  # C code prints to the descriptor, Python to the stream: both go to stderr
    sys.path.insert(0, request["look_in"])
    algorithm = request["algorithm"]
    arrays = {}
    for file in sorted(Path(SIGNALS).iterdir()):
        large = file.stat().st_size > MAPPED_BYTES  # "c": what is written stays in memory
        frames = np.load(file, mmap_mode="c" if large else None, allow_pickle=False)
        arrays[file.stem.split(" ", 1)[1]] = frames
    data = list(arrays.values()) if request["inputs"] else [arrays]
    settings = json.loads(Path(SETTINGS).read_text())
    desk = Path.cwd()
    try:
        returned = _find(algorithm)(*data, settings)
        columns = _columns(algorithm, returned)
    except _NoAnswerError as refusal:
        problem = str(refusal)
    except BaseException as error:  # SystemExit too: whatever ended it is worth a line
        problem = f"{algorithm} failed: {_last_line(error)}"
    else:
        _save(desk / RESULT, columns)
        return
    (desk / PROBLEM).write_text(problem, encoding="utf-8")


class _NoAnswerError(Exception):
    """A reason that needs no traceback."""


def _find(algorithm: str) -> Any:
    module_name, _, function_name = algorithm.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise
        raise _NoAnswerError(
            f"{algorithm}: there is no module {error.name!r} here or among the installed packages"
        ) from None
    function = getattr(module, function_name, None)
    if not callable(function):
        raise _NoAnswerError(
            f"{algorithm}: module {module_name!r} has no function {function_name!r}"
        )
    return function


def _columns(algorithm: str, returned: Any) -> dict[str, Array]:
    """Check that the function returned arrays of numbers by name."""
    want = f"{algorithm} must return a mapping of names to arrays of numbers"
    if not isinstance(returned, Mapping):
        raise _NoAnswerError(f"{want}, got {type(returned).__name__}")
    columns = {}
    for name, values in returned.items():
        try:
            column = np.asarray(values)
        except ValueError:  # ragged lists
            raise _NoAnswerError(f"{want}; {name!r} is a ragged {type(values).__name__}") from None
        if not isinstance(name, str) or column.dtype.kind not in "biufc":
            raise _NoAnswerError(f"{want}; {name!r} holds {column.dtype}")
        columns[f"column {name}"] = column
    return columns


def _last_line(error: BaseException) -> str:
    """Return the last line of the traceback and where it happened."""
    reason = " ".join("".join(traceback.format_exception_only(error)).split())
    frames = traceback.extract_tb(error.__traceback__)
    here = str(Path(__file__).resolve())
    theirs = [frame for frame in frames if str(Path(frame.filename).resolve()) != here]
    if not theirs:
        return reason
    return f"{reason} ({Path(theirs[-1].filename).name}, line {theirs[-1].lineno})"


if __name__ == "__main__":
    _child()
