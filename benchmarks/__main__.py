"""Run the benchmarks named on the command line, or all."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import benchmarks


def main() -> None:
    """Import each benchmark and call its ``main``."""
    known = [m.name for m in pkgutil.iter_modules(benchmarks.__path__) if m.name != "__main__"]
    unknown = sorted(set(sys.argv[1:]) - set(known))
    if unknown:
        sys.exit(f"unknown benchmark {', '.join(unknown)}; there are {', '.join(known)}")
    for name in sys.argv[1:] or known:
        importlib.import_module(f"benchmarks.{name}").main()


main()
