"""Run the benchmarks named on the command line, or all."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from pathlib import Path

import benchmarks


def main() -> None:
    """Import each benchmark, say what it is, and call its ``main``."""
    known = [m.name for m in pkgutil.iter_modules(benchmarks.__path__) if m.name[0] != "_"]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Speed and convergence of the instruments."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{' or '.join(known)}; else all")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="picture of the convergence")
    asked = parser.parse_args()
    if unknown := sorted(set(asked.names) - set(known)):
        parser.error(f"unknown benchmark {', '.join(unknown)}; there are {', '.join(known)}")
    names = asked.names or known
    if asked.plot and "convergence" not in names:
        parser.error("--plot draws the benchmark convergence, which isn't among those named")
    for name in names:
        module = importlib.import_module(f"benchmarks.{name}")
        print(f"== {name}: {str(module.__doc__).splitlines()[0]}", flush=True)
        module.main(**({"plot": asked.plot} if name == "convergence" else {}))


main()
