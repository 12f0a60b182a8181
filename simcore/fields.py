"""Arrays that know their axes, and what an analysis may see of an experiment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Table = Mapping[str, Array]
"""Columns of equal length by name; a name carries its unit (``x_nm``)."""


def read_only(array: npt.ArrayLike) -> Array:
    """Return the array write-protected (a view: the caller's own array is untouched)."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True)
class Axis:
    """One axis of a regular grid: the centre of pixel ``i`` lies at ``start + i * step``."""

    name: str
    step: float
    unit: str
    start: float = 0.0

    def coordinates(self, n: int) -> npt.NDArray[np.float64]:
        """Return the centres of ``n`` pixels."""
        return np.asarray(self.start + self.step * np.arange(n), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Field:
    """A read-only array with one :class:`Axis` a dimension and the unit of its values."""

    data: Array
    axes: tuple[Axis, ...]
    unit: str

    def __post_init__(self) -> None:
        if self.data.ndim != len(self.axes):
            raise ValueError(f"{self.data.ndim} dimensions need as many axes, got {len(self.axes)}")
        if isinstance(self.data, np.ndarray):  # frames on disk can't be written to anyway
            object.__setattr__(self, "data", read_only(self.data))


@dataclass(frozen=True, eq=False)
class Measured:
    """All that an analysis may see: signals, and the settings an operator would know.

    ``signals`` maps a name to a :class:`Field` whose first axis is the frame; ``settings``
    holds nominal values (nominal defocus, nominal pixel size), named with their units.
    """

    signals: Mapping[str, Field]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "signals", MappingProxyType(dict(self.signals)))
        object.__setattr__(self, "settings", MappingProxyType(dict(self.settings)))
