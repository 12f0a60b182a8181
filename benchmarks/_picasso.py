"""Picasso in a Python environment of its own, for comparisons live.

It is large (1.7 GB) and pins what we don't, so it never shares our environment. The variable
NANOPHANTOM_PICASSO_PYTHON names an interpreter that has it; otherwise one is made under the
user's cache folder on first use.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks._watched import answer

VERSION = "0.11.3"
VARIABLE = "NANOPHANTOM_PICASSO_PYTHON"


class NoPicassoError(RuntimeError):
    """Picasso can't be had here; the message says why."""


def interpreter() -> Path:
    """Return a Python that imports Picasso, made now if there is none.

    Raises
    ------
    NoPicassoError
        The one named doesn't exist, or the installation failed.
    """
    if named := os.environ.get(VARIABLE):
        if not Path(named).exists():
            raise NoPicassoError(f"{VARIABLE} names {named}, which doesn't exist")
        return Path(named)
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = cache / "nanophantom" / f"picassosr-{VERSION}"
    python, done = folder / "bin" / "python", folder / "installed"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        package = f"picassosr=={VERSION}"
        for command in (
            [sys.executable, "-m", "venv", str(folder)],
            [str(python), "-m", "pip", "install", "--quiet", package],
        ):
            made = subprocess.run(command, capture_output=True, text=True, check=False)
            if made.returncode:
                said = (made.stderr or made.stdout).strip().splitlines()
                raise NoPicassoError(f"{package} can't be installed: {said[-1] if said else ''}")
        done.touch()
    return python


def run(script: str, folder: Path, **values: Any) -> dict[str, Any]:
    """Run a script that prints JSON last, in a folder, and return that.

    Parameters
    ----------
    script
        Python; ``given`` is a dict of the values.
    folder
        Where it runs; Picasso's settings land there too, not in the user's home.
    **values
        What JSON can hold.

    Raises
    ------
    NoPicassoError
        There is no Picasso.
    RuntimeError
        It failed; the message is the end of what it said.
    """
    return watched(script, folder, **values)[0]


def watched(script: str, folder: Path, **values: Any) -> tuple[dict[str, Any], float]:
    """Do as :func:`run` and return the peak memory of all its processes in MB, too."""
    head = f"import json\ngiven = json.loads({json.dumps(values)!r})\n"
    return answer(
        [str(interpreter()), "-c", head + script],
        folder,
        {"HOME": str(folder), "QT_QPA_PLATFORM": "offscreen"},
    )
