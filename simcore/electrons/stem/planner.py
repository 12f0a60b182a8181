"""Which method simulates a scan: exact if that is about as fast, else with an error that is stated.

Exact methods are compared by their cost alone. An approximation is considered only where an error
was asked for, and then has to show it: its stated error (`stated_error`) is measured before it is
chosen. The search starts with the cheapest, and stops when what it would still gain is less than a
fifth of the exact calculation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.stem.costs import (
    EXACT,
    Choice,
    Cost,
    Scan,
    cost,
    interpolated_beams,
)
from nanophantom.simcore.electrons.stem.stated_error import Controls, StatedError

WORTH = 0.8
"""An approximation takes at most this part of the time of the best exact method."""
FACTORS = (8, 6, 4, 3, 2)
RINGS = (2, 3, 4, 5, 6, 8)
WINDOWS = (1.0, 1.5, 2.0, 3.0, 4.0)
"""Windows that are tried, in units of the probe's geometric width."""

Measure = Callable[[Choice], float]
"""Returns the stated error of an approximation, as a part of a signal's mean."""


@dataclass(frozen=True)
class Plan:
    """The method chosen for a scan.

    Attributes
    ----------
    method : Choice
    seconds : float
        Estimated; with the trials that led to an approximation.
    bytes : int
        Estimated.
    stated_error : float or None
        0 if exact; None where a forced approximation was not measured.
    why : str
        In a few words.
    warning : str or None
        If a forced method does not meet the requested error, what it misses and what would not.
    """

    method: Choice
    seconds: float
    bytes: int
    stated_error: float | None
    why: str
    warning: str | None = None

    def __str__(self) -> str:
        if self.method.exact:
            error = "exact"
        elif self.stated_error is None:
            error = "error unknown"
        else:
            error = f"error at most {_percent(self.stated_error)}"
        cost = f"about {_time(self.seconds)}, {_memory(self.bytes)}"
        return f"{self.method}: {self.why}, {cost}, {error}"


def plan(
    scan: Scan,
    requested_error: float = 0.0,
    measure: Measure | None = None,
    probe_width_A: float | None = None,
    forced: Choice | None = None,
) -> Plan:
    """Choose the method for a scan.

    Parameters
    ----------
    scan : Scan
    requested_error : float
        Largest stated error that is accepted, as a part of a signal's mean; 0: exact only.
    measure : callable, optional
        Measures stated errors (`measured_by`). Without it no approximation is chosen.
    probe_width_A : float, optional
        Width of the probe's geometric cone (`windows.probe_reach_A`): what has a narrower window
        is not even tried. Without it no window is.
    forced : Choice, optional
        Take this one. If its stated error exceeds the requested one, the plan carries a warning.

    Raises
    ------
    ValueError
        The error is negative, no exact method fits in the memory, or a forced one does not exist
        for this specimen or needs more memory.
    """
    if not requested_error >= 0:
        raise ValueError(f"requested_error is {requested_error}; it is zero or positive")
    exact = _fitting(scan, _exact_methods(scan))
    if forced is not None:
        return _forced(scan, forced, requested_error, measure, exact)
    if not exact:
        least = min(cost(scan, m).bytes for m in _exact_methods(scan))
        raise ValueError(
            f"no method fits in {_memory(scan.budget_bytes)}: the smallest needs {_memory(least)}; "
            "allow more memory (calculation.memory_gb), or simulate a smaller cell or lower angles"
        )
    best, price = exact[0]
    if requested_error == 0 or measure is None:
        return Plan(best, price.seconds, price.bytes, 0.0, _why(scan, best))
    spent = scan_of_controls(scan)
    for method, own in _fitting(scan, _approximations(scan, probe_width_A)):
        total = spent + own.trial_seconds + own.seconds
        if total > WORTH * price.seconds:
            continue
        spent += own.trial_seconds
        stated = measure(method)
        if stated <= requested_error:
            why = f"{_why(scan, method)} instead of {_time(price.seconds)} exactly"
            return Plan(method, total, own.bytes, stated, why)
    return Plan(best, price.seconds, price.bytes, 0.0, _why(scan, best))


def measured_by(controls: Controls, thickness_A: float) -> Callable[[Choice], StatedError]:
    """Return a function that measures an approximation at control positions.

    Its results' `overall` is what `plan` wants: ``lambda m: measured(m).overall``.

    Parameters
    ----------
    controls : Controls
    thickness_A : float
        Distance from the first slice to the plane of the exit waves.
    """

    def measured(method: Choice) -> StatedError:
        if method.name == "prism":
            return controls.interpolated((int(method.value), int(method.value)))
        if method.name == "parents":
            return controls.parents(thickness_A, int(method.value))
        if method.name == "window":
            return controls.window(method.value)
        return controls.state(controls.exact)

    return measured


def scan_of_controls(scan: Scan) -> float:
    """Return the seconds that the control positions take by multislice."""
    return cost(scan, Choice("multislice")).trial_seconds


def _exact_methods(scan: Scan) -> list[Choice]:
    return [Choice(name) for name in EXACT if name != "unit-cell" or scan.unit_cells is not None]


def _approximations(scan: Scan, width_A: float | None) -> list[Choice]:
    edge = min(scan.grid.edges_A)
    found = [Choice("parents", n) for n in RINGS if 1 + 3 * n * (n + 1) < scan.beams]
    if width_A is None:
        return found
    least = max(width_A, 8 / scan.grid.k_max)
    found += [Choice("prism", f) for f in FACTORS if edge / f >= least]
    found += [Choice("window", round(w * least, 2)) for w in WINDOWS if w * least < edge]
    return found


def _fitting(scan: Scan, methods: Iterable[Choice]) -> list[tuple[Choice, Cost]]:
    """Sort what fits in the memory by cost."""
    priced = [(method, cost(scan, method)) for method in methods]
    fits = [(m, c) for m, c in priced if c.bytes <= scan.budget_bytes]
    return sorted(fits, key=lambda pair: pair[1].seconds)


def _forced(
    scan: Scan,
    method: Choice,
    requested: float,
    measure: Measure | None,
    exact: list[tuple[Choice, Cost]],
) -> Plan:
    own = cost(scan, method)
    if own.bytes > scan.budget_bytes:
        raise ValueError(
            f"{method} needs {_memory(own.bytes)}; {_memory(scan.budget_bytes)} are allowed"
        )
    stated = 0.0 if method.exact else None if measure is None else measure(method)
    warning = None
    if stated is None or stated > requested:
        known = "unknown" if stated is None else _percent(stated)
        wish = _percent(requested) if requested else "none"
        warning = f"{method}: its stated error is {known}, the requested one {wish}"
        if exact:
            best, price = exact[0]
            warning += f"; {best} is exact in about {_time(price.seconds)}"
    return Plan(method, own.seconds, own.bytes, stated, _why(scan, method), warning)


def _why(scan: Scan, method: Choice) -> str:
    probes = f"{scan.positions * scan.probes} probes"
    if method.name == "multislice":
        return f"{probes}, {scan.beams} beams"
    if method.name == "unit-cell":
        my, mx = scan.unit_cells or (1, 1)
        return f"{scan.beams} beams on one of {my} x {mx} unit cells instead of {probes}"
    if method.name == "matrix":
        return f"{scan.beams} beams instead of {probes}"
    if method.name == "parents":
        n = int(method.value)
        return f"{1 + 3 * n * (n + 1)} of {scan.beams} beams instead of {probes}"
    if method.name == "prism":
        left = interpolated_beams(scan.beams, int(method.value))
        return f"{left} of {scan.beams} beams for {probes}"
    return f"{probes} in part of the {_size(scan.grid)} cell"


def _size(grid: Grid) -> str:
    return " x ".join(f"{edge:.0f}" for edge in grid.edges_A) + " Å"


def _percent(error: float) -> str:
    return f"{100 * error:.2g} %"


def _time(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds:.2g} s"
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 36_000 else f"{seconds / 3600:.0f} h"


def _memory(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.2g} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"
