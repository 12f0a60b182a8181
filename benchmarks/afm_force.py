"""Force curves: simulated and fitted by the thousand on one core, errors over their bound.

A curve has 1000 samples. Simulated curves go in and out, with thermal noise, sensor noise and a
tilted baseline. The best of several rounds counts.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from nanophantom.analysis.contact_point import METHODS, contact_point_nm
from nanophantom.analysis.force_fit import fit_many
from nanophantom.analysis.force_fit_curves import ADHESIVE, Law
from nanophantom.analysis.pull_off import PullOff, pull_off
from nanophantom.simcore.probes import contact
from nanophantom.simcore.probes.cantilever import Cantilever
from nanophantom.simcore.probes.force_curves import (
    DeflectionSensor,
    ForceCurves,
    ForceLaw,
    ForceParameters,
    ramps_to_trigger,
    simulate,
)

Floats = npt.NDArray[np.float64]
SAMPLES = 1000
LEVER = Cantilever(stiffness_n_per_m=0.5)


def best_s(work: Callable[[], Any], rounds: int = 5) -> float:
    """Return the shortest time of several rounds, after one that compiles."""
    work()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def streams(name: str) -> np.random.Generator:
    """Return the stream of a cause."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def recorded(law: Law, curves: int, samples: int = SAMPLES) -> ForceCurves:
    """Return curves on materials of many moduli, as an instrument records them."""
    rng = np.random.default_rng(1)
    adhesion = rng.uniform(30.0, 60.0, curves) if law in ADHESIVE else 0.0
    radius = 100.0 if law == "jkr" else 20.0
    e_star = 10 ** rng.uniform(-1.5, -1.0, curves) * (1.0 if law == "jkr" else 10.0)
    heights = rng.uniform(-5.0, 5.0, curves)
    parameters = ForceParameters.of(e_star, adhesion, radius, 20.0, heights)
    force = ForceLaw.model_validate({"law": law})
    ramps = ramps_to_trigger(parameters, LEVER, force, 30.0, 250.0, samples)
    sensor = DeflectionSensor(noise_nm=0.1, tilt_percent=0.2, offset_nm=3.0)
    return simulate(parameters, LEVER, force, *ramps, sensor, streams)


def row(what: str, curves: int, seconds: float, goal: str = "") -> None:
    """Print one line of the table."""
    print(f"{what:38}{curves / seconds:12.0f}{10_000 * seconds / curves:16.2f}   {goal}")


def bounds() -> None:
    """Print how Hertz's fit of a soft specimen compares with the least-squares bound."""
    e_star, radius, k = 1e-6 / 0.75, 2500.0, 0.1
    trigger = float(contact.hertz_force_nn(1000.0, radius, e_star))
    parameters = ForceParameters.of(e_star, 0.0, radius)
    lever, law = Cantilever(stiffness_n_per_m=k, temperature_k=0.0), ForceLaw(law="hertz")
    ramps = ramps_to_trigger(parameters, lever, law, trigger, 3000.0 + trigger / k, SAMPLES)
    ideal = simulate(parameters, lever, law, *ramps)
    rng = np.random.default_rng(2)
    print("\n1 kPa, sphere of 2.5 um, 1 um deep, 2 um of baseline, 2000 curves")
    print(f"{'noise pN':>10}{'sd E %':>9}{'bound':>8}{'bias %':>9}{'sd CP nm':>10}{'bound':>8}")
    for noise_pn, modulus, point in ((10, 0.12, 0.6), (50, 0.57, 2.8), (200, 2.5, 12.3)):
        x = ideal.approach_nm + 1e-3 * noise_pn / k * rng.standard_normal((2000, SAMPLES))
        fit = fit_many(ideal.z_approach_nm, x, k, radius_nm=radius, tilt=False)
        error = 100.0 * (fit.modulus_gpa / e_star - 1.0)
        print(
            f"{noise_pn:10d}{error.std():9.3f}{modulus:8.2f}{error.mean():9.3f}"
            f"{fit.contact_point_nm.std():10.2f}{point:8.1f}"
        )


def main() -> None:
    """Print the tables."""
    print(f"{'':38}{'curves/s':>12}{'s per 10 000':>16}   goal")
    laws: tuple[Law, ...] = ("hertz", "sneddon", "dmt", "jkr")
    for law in laws:
        seconds = best_s(partial(recorded, law, 2000, SAMPLES // 2), 3)
        row(f"simulated, {law}, 500 in, 500 out", 2000, seconds, "5 s")
    for law in laws:
        c = recorded(law, 1000)
        adhesion: PullOff | None = None
        if law in ADHESIVE:
            seconds = best_s(partial(pull_off, c.z_retract_nm, c.retract_nm, 0.5))
            row(f"pull-off read, {law}", 1000, seconds)
            adhesion = pull_off(c.z_retract_nm, c.retract_nm, 0.5)

        def fit(law: Law = law, c: ForceCurves = c, adhesion: PullOff | None = adhesion) -> Any:
            z, x = c.z_retract_nm, c.retract_nm
            radius, angle = c.parameters.radius_nm, 20.0
            return fit_many(
                z, x, 0.5, law, radius_nm=radius, half_angle_deg=angle, adhesion=adhesion
            )

        found, true = fit(), c.parameters.e_star_gpa
        row(f"fitted, {law}", 1000, best_s(fit), "1000 curves/s" if law == "hertz" else "")
        error = (found.modulus_gpa - true)[found.ok]
        z_score = error / found.modulus_sigma_gpa[found.ok]
        print(
            f"    ok {found.ok.mean():.1%}, modulus off by "
            f"{100 * np.median(np.abs(error) / true[found.ok]):.2f} % (median), "
            f"in its 95 % interval {np.mean(np.abs(z_score) < 1.96):.1%}"
        )
    c = recorded("hertz", 200)
    for method in METHODS:
        seconds = best_s(partial(contact_point_nm, c.z_approach_nm, c.approach_nm, method))
        error_nm = contact_point_nm(c.z_approach_nm, c.approach_nm, method)
        error_nm = error_nm - c.parameters.contact_height_nm
        row(f"contact point, {method}", 200, seconds)
        print(f"    bias {error_nm.mean():.2f} nm, sd {error_nm.std():.2f} nm")
    bounds()
