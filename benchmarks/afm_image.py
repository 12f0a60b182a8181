"""A whole image of a force microscope: wall time of 256 x 256 pixels, trace and retrace.

Spheres of about 30 nm on silicon, 512 nm wide, one line a second: the loop takes some 13 million
steps at 50 kHz, with the lever's and the detector's noise; the noise-free truth is followed beside
it on the second core. All that a person waits for is in it: the surface, its dilation by the tip,
the tables of the lever, path, loop and truth; compiled code is warm. Beside it stands the time
that the oscillator itself, cycle by cycle, would take for the same image.
"""

from __future__ import annotations

import time

import numpy as np

from nanophantom.instruments.afm import AFM
from nanophantom.samples._family import Sample
from nanophantom.simcore.probes.tapping_ode import follow
from nanophantom.simcore.runs import Run
from nanophantom.simcore.surfaces import Material

ROUNDS = 5


def main() -> None:
    """Print the table."""
    specimen = Sample.of_kind("spheres").model_validate({}).make(Run(1))
    tapping = AFM()
    contact = AFM.model_validate(
        {
            "imaging": {"mode": "contact"},
            "cantilever": {"stiffness_n_per_m": 0.2, "resonance_khz": 13, "quality_factor": 30},
        }
    )
    print(f"{'':34}{'s':>8}   goal")
    for name, afm, goal in (("tapping", tapping, "1 s"), ("contact", contact, "")):
        times = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            acquisition = afm.plan(specimen, Run(1))
            acquisition.expose(0, acquisition.make_parts())
            times.append(time.perf_counter() - start)
        print(f"{name + ', 256 x 256, both ways':34}{min(times[1:]):8.2f}   {goal}")
    cycles = 2000
    start = time.perf_counter()
    follow(tapping.cantilever, 20.0, 10.0, Material(), np.full(cycles, 16.0))
    a_cycle = (time.perf_counter() - start) / cycles
    image = 256.0 * 1e3 * tapping.cantilever.resonance_khz * a_cycle
    print(f"{'the oscillator, cycle by cycle':34}{image:8.0f}   (from {cycles} cycles)")
