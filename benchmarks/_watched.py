"""A program in a process of its own: its answer, and the memory that it and its children took."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

EVERY_S = 0.05


def answer(
    command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> tuple[dict[str, Any], float]:
    """Run a program that prints JSON last; return that and its peak memory in MB.

    The memory is the proportional set size of the whole tree of processes (pages that several
    share count once), looked at 20 times a second.

    Raises
    ------
    RuntimeError
        It failed; the message is the end of what it said.
    """
    peak = 0.0
    with tempfile.TemporaryFile("w+") as told, tempfile.TemporaryFile("w+") as wrong:
        program = subprocess.Popen(
            list(command),
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdout=told,
            stderr=wrong,
            text=True,
        )
        while program.poll() is None:
            peak = max(peak, _tree_mb(program.pid))
            time.sleep(EVERY_S)
        told.seek(0)
        wrong.seek(0)
        if program.returncode:
            raise RuntimeError(f"{Path(command[0]).name} failed: {wrong.read()[-2000:]}")
        values: dict[str, Any] = json.loads(told.read().splitlines()[-1])
    return values, peak


def _tree_mb(pid: int) -> float:
    """Return the memory of a process and its descendants, MB."""
    total = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.Error, OSError):
                total += _pss_bytes(process)
    return total / 1e6


def _pss_bytes(process: psutil.Process) -> int:
    try:
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    except (FileNotFoundError, StopIteration):
        return int(process.memory_info().rss)
