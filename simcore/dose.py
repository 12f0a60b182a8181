"""The ledger of dose and time: every exposure of a specimen, in order.

Damage is a pure function of specimen, ledger and seed, so what the specimen is like at any time
can be said without making the frames before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nanophantom.simcore.atoms import Window
from nanophantom.simcore.fields import Table, read_only
from nanophantom.simcore.models import Model

Floats = npt.NDArray[np.float64]

ROUNDING = 1e-9
"""Part of a budget by which sums of doses may exceed it."""


class DoseBudget(Model):
    """Limits that end an acquisition before the exposure that would break them."""

    total_e_per_A2: float | None = Field(default=None, gt=0)
    """Most electrons that the specimen may get in all, those before the first frame included."""
    rate_e_per_A2_s: float | None = Field(default=None, gt=0)
    """Highest dose rate of an exposure."""


@dataclass(frozen=True, eq=False)
class Ledger:
    """All exposures of a specimen in the order of time; between them the beam is blanked.

    Attributes
    ----------
    start_s, length_s : (n,)
        Opening of the shutter, and how long it stays open.
    fluence_e_per_A2 : (n,)
        Electrons on the specimen in each exposure.
    energy_kev
        Beam energy.
    area
        What the beam falls on, in specimen coordinates.
    before_e_per_A2
        What the specimen got before the first exposure.
    stopped
        Why the acquisition ended early; empty if it didn't.
    """

    start_s: Floats
    length_s: Floats
    fluence_e_per_A2: Floats
    energy_kev: float
    area: Window
    before_e_per_A2: float = 0.0
    stopped: str = ""

    def __post_init__(self) -> None:
        for name in ("start_s", "length_s", "fluence_e_per_A2"):
            object.__setattr__(self, name, read_only(getattr(self, name)))

    def __len__(self) -> int:
        return len(self.start_s)

    @property
    def end_s(self) -> Floats:
        """Closing of the shutter."""
        return np.asarray(self.start_s + self.length_s)

    @property
    def rate_e_per_A2_s(self) -> Floats:
        """Dose rate of each exposure."""
        return np.asarray(self.fluence_e_per_A2 / self.length_s)

    @property
    def first_electron_s(self) -> float:
        """When the first electron came; those before the frames come at the first one's rate."""
        return float(self.start_s[0] - self.before_e_per_A2 / self.rate_e_per_A2_s[0])

    @property
    def cumulative_e_per_A2(self) -> Floats:
        """What the specimen got by the end of each exposure."""
        return np.asarray(self.before_e_per_A2 + np.cumsum(self.fluence_e_per_A2))

    def fluence_by(self, t_s: float | Floats) -> Floats:
        """Return the electrons per square ångström that fell on the specimen before a time."""
        times = np.column_stack([self.start_s, self.end_s]).ravel()
        after = self.cumulative_e_per_A2
        before = np.concatenate([[self.before_e_per_A2], after[:-1]])
        known = np.column_stack([before, after]).ravel()
        times = np.concatenate([[self.first_electron_s], times])
        return np.asarray(np.interp(t_s, times, np.concatenate([[0.0], known])))

    def within(self, budget: DoseBudget, where: str = "budget") -> Self:
        """Return the exposures that a budget allows, all before the first that it doesn't.

        Parameters
        ----------
        budget
            The limits.
        where
            Name of the field that sets them, for messages.

        Raises
        ------
        ValueError
            It doesn't allow even the first.
        """
        total, rate = budget.total_e_per_A2, budget.rate_e_per_A2_s
        slack = 1.0 + ROUNDING
        too_much = np.zeros(len(self), bool) if total is None else (
            self.cumulative_e_per_A2 > total * slack
        )  # fmt: skip
        too_fast = np.zeros(len(self), bool) if rate is None else (
            self.rate_e_per_A2_s > rate * slack
        )  # fmt: skip
        refused = np.flatnonzero(too_much | too_fast)
        if not len(refused):
            return self
        first = int(refused[0])
        reached = (
            f"exposure {first} would bring the specimen to "
            f"{self.cumulative_e_per_A2[first]:.4g} e/Å², beyond budget.total_e_per_A2 ({total:g})"
            if too_much[first]
            else f"exposure {first} has {self.rate_e_per_A2_s[first]:.4g} e/Å²/s, above "
            f"budget.rate_e_per_A2_s ({rate:g})"
        )
        if first == 0:
            raise ValueError(
                f"{where}: {reached}, so there is nothing to record; lower the dose of the first "
                "exposure or raise the budget"
            )
        return replace(
            self,
            start_s=self.start_s[:first],
            length_s=self.length_s[:first],
            fluence_e_per_A2=self.fluence_e_per_A2[:first],
            stopped=f"The dose budget ended the acquisition after {first} exposures: {reached}.",
        )

    def table(self) -> Table:
        """Return the ledger as named columns, a row an exposure."""
        n = len(self)
        area_nm2 = self.area.width_nm * self.area.height_nm
        return {
            "frame": np.arange(n),
            "start_s": self.start_s,
            "length_s": self.length_s,
            "dose_e_per_A2": self.fluence_e_per_A2,
            "rate_e_per_A2_s": self.rate_e_per_A2_s,
            "cumulative_e_per_A2": self.cumulative_e_per_A2,
            "energy_kev": np.full(n, self.energy_kev),
            "area_nm2": np.full(n, area_nm2),
            "electrons": self.fluence_e_per_A2 * 100.0 * area_nm2,
            "x0_nm": np.full(n, self.area.x0_nm),
            "x1_nm": np.full(n, self.area.x1_nm),
            "y0_nm": np.full(n, self.area.y0_nm),
            "y1_nm": np.full(n, self.area.y1_nm),
        }
