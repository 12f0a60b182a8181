"""The tasks: one file each, found by its name (``atomic-columns`` is ``atomic_columns.py``)."""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import entry_points

from nanophantom.simcore.models import did_you_mean
from nanophantom.validation.task import Task

ENTRY_POINTS = "nanophantom.tasks"
"""Entry points of this group let another package add tasks."""


def task_names() -> list[str]:
    """Return the names of all tasks, without importing them."""
    return sorted(_modules())


def find_task(name: str) -> Task:
    """Import the file of one task and return the task.

    Raises
    ------
    ValueError
        There is no such task; the message names one that is alike, or all of them.
    """
    modules = _modules()
    if name not in modules:
        raise ValueError(f"there is no task {name!r}{did_you_mean(name, modules)}")
    module = importlib.import_module(modules[name])
    for value in vars(module).values():
        if (
            isinstance(value, type)
            and issubclass(value, Task)
            and value.__module__ == module.__name__
            and value.name == name
        ):
            return value()
    raise ValueError(f"{modules[name]} declares no task {name!r}")


def _modules() -> dict[str, str]:
    found = {
        module.name.replace("_", "-"): f"{__name__}.{module.name}"
        for module in pkgutil.iter_modules(__path__)
    }
    for entry in entry_points(group=ENTRY_POINTS):
        found[entry.name] = entry.value.split(":")[0]
    return found
