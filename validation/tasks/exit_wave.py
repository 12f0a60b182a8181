"""The task exit-wave: restore the wave behind the specimen from a through-focus series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.electrons.aberrations import ORDERS
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.fields import Table
from nanophantom.validation.task import Estimates, Score, Scores, Task, require_tables
from nanophantom.validation.wave_comparison import (
    Adjustment,
    Sight,
    at_points,
    band_error,
    best_adjustment,
    resolved_period_nm,
    ring_correlation,
    scaled,
)
from nanophantom.validation.wave_limit import WaveNoise, linear_noise

if TYPE_CHECKING:
    from nanophantom.validation.drawing import Plate
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]
Complexes = npt.NDArray[np.complex128]

BORDER_NM = 0.5
LEAST_ATOMS = 2
PM_PER_NM = 1000.0


class ExitWave(Task):
    """Restore the complex wave behind the specimen from images at many foci."""

    name = "exit-wave"
    title = "Exit wave of a focal series"
    default_algorithm = "nanophantom.analysis.exit_wave_restoration:find"
    inputs = ("image",)
    columns = ("wave_real", "wave_imag")
    contract = f"""\
find(images, settings) -> {{"wave_real": (ny * nx,), "wave_imag": (ny * nx,)}}

Receives
  images      counts, shape (frames, ny, nx), one focus a frame
  settings    a dict of nominal values: pixel_size_nm, energy_kev, defoci_nm (one a frame; negative
              is underfocus), dose_e_per_A2 of one frame, c30_um and other aberrations,
              aperture_mrad, focal_spread_nm, convergence_mrad
Returns
  wave_real, wave_imag
              the wave at the exit face, pixel by pixel, row after row (wave.ravel() of a (ny, nx)
              array), in the coordinates of frame 0; 1 is the amplitude of the bare beam
Scored
  The truth is the specimen's mean wave over thermal motion, up to the aperture's edge, moved by the
  true drift of frame 0. A constant complex factor and a common shift of at most 0.1 nm
  are forgiven: the shift is a score of its own. The outer {BORDER_NM:g} nm of the view fade out.
  What counts is the band of spatial frequencies from 1 / sqrt(pi lambda R), R the range of the
  foci, where the series turns the phase by one rad, to the aperture's edge (or where the focal
  spread leaves 13 % of the contrast).
  wave_error = |found - true| / |true| of the scattered wave in the band (root of summed squares);
  wave_error_refocused = the same once a common error of the focus and of the twofold astigmatism
  is undone: defocus_error and astigmatism_error. What is the same in all images can't be told
  from a property of the wave; a microscopist sets it right afterwards.
  phase_rmse, amplitude_rmse: rms differences over the pixels, of the waves within the band and
  before that correction; column_phase: the same at the atomic columns, sampled at their true
  places. resolution = period at which the Fourier ring correlation of found and true wave falls
  to 1/2. The limit beside errors is what counting leaves of the best linear restoration.
"""

    def grade(self, estimates: Estimates, dataset: Observed) -> Scores:
        """Grade a wave against the true one."""
        return _scores(self.name, self.compare(estimates, dataset))

    def figures(self, dataset: Observed, estimates: Estimates, scores: Scores) -> list[Plate]:
        """Draw the series, the wave beside the true one, and where they differ."""
        from nanophantom.validation import exit_wave_figures

        return exit_wave_figures.of_wave(dataset, self.compare(estimates, dataset))

    def compare(self, estimates: Estimates, dataset: Observed) -> Comparison:
        """Bring the wave found and the true one together: the ground of scores and figures."""
        columns = self.read(estimates)
        truth = require_tables(
            self, dataset, ("exit_wave", "drift", "focus", "optics", "aberrations")
        )
        true = np.asarray(truth["exit_wave"]["real"]) + 1j * np.asarray(truth["exit_wave"]["imag"])
        ny, nx = true.shape
        if len(columns["wave_real"]) != ny * nx:
            raise ValueError(
                f"task {self.name} wants one row for each of the {ny} x {nx} = {ny * nx} pixels, "
                f"row after row; got {len(columns['wave_real'])}"
            )
        found = (columns["wave_real"] + 1j * columns["wave_imag"]).reshape(ny, nx)

        settings = dataset.settings
        focus_nm = np.asarray(truth["focus"]["actual_nm"], np.float64)
        lam_nm = float(wavelength(settings["energy_kev"])) / 10
        sight = Sight(
            (ny, nx), float(settings["pixel_size_nm"]), lam_nm, BORDER_NM, _band(settings, focus_nm)
        )
        drift = Adjustment(-float(truth["drift"]["dx_nm"][0]), -float(truth["drift"]["dy_nm"][0]))
        true = drift.applied(true, sight)
        found = scaled(found, true, sight)
        shift = best_adjustment(found, true, sight, refocus=False)
        lens = best_adjustment(found, true, sight, refocus=True)
        x_nm, y_nm, numbers = _columns_inside(dataset, sight, drift)
        return Comparison(
            sight=sight,
            true=true,
            found=scaled(shift.applied(found, sight), true, sight),
            refocused=scaled(lens.applied(found, sight), true, sight),
            shift=shift,
            lens=lens,
            column_x_nm=x_nm,
            column_y_nm=y_nm,
            column_number=numbers,
            noise=_noise(dataset, truth, sight, abs(sight.mean(true))),
        )


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two waves brought together, (ny, nx) in the coordinates of frame 0."""

    sight: Sight
    true: Complexes
    found: Complexes
    """Times the best constant factor, the common shift undone."""
    refocused: Complexes
    """The same, with the common error of focus and astigmatism undone as well."""
    shift: Adjustment
    lens: Adjustment
    column_x_nm: Floats
    """Atomic columns of two atoms or more inside the view, in frame 0."""
    column_y_nm: Floats
    column_number: Floats
    """Atomic number of the heaviest element."""
    noise: WaveNoise | None
    """Variances in the band that counting leaves; None without shot noise."""

    @property
    def limit(self) -> float | None:
        """Least relative error of the scattered wave."""
        if self.noise is None:
            return None
        weight = float(np.mean(self.sight.window**2))
        signal = float(np.sum(np.abs(self.sight.spectrum(self.true)[self.sight.band]) ** 2))
        return float(np.sqrt(weight * np.sum(self.noise.wave) / signal))

    def pixel_limit(self, part: Literal["phase", "amplitude"], wave: Complexes) -> float | None:
        """Return the scatter that counting leaves of phase or amplitude where the wave is this."""
        if self.noise is None:
            return None
        if part == "amplitude":
            return float(np.sqrt(np.sum(self.noise.amplitude)))
        return float(np.sqrt(np.sum(self.noise.phase)) * _rms(1 / np.maximum(np.abs(wave), 0.1)))

    def phase_difference(self, wave: Complexes) -> Floats:
        """Return the phase of a wave minus that of the true one within the band, (ny, nx)."""
        banded = self.sight.banded(wave) * self.sight.banded(self.true).conj()
        return np.asarray(np.angle(banded))

    def column_phases(self, wave: Complexes) -> Floats:
        """Return the phases at the columns within the band."""
        seen = self.sight.banded(wave)
        here = at_points(seen, self.column_x_nm, self.column_y_nm, self.sight.pixel_nm)
        return np.asarray(np.angle(here / self.sight.mean(wave)))


def _band(settings: Any, focus_nm: Floats) -> tuple[float, float]:
    """Return the coarsest and the finest frequency that count, 1/nm."""
    lam_nm = float(wavelength(settings["energy_kev"])) / 10
    depth = float(np.ptp(focus_nm))
    if not depth > 0:
        raise ValueError("task exit-wave needs images at different foci; this dataset has one")
    ends = [0.49 / float(settings["pixel_size_nm"])]
    if settings.get("aperture_mrad"):
        ends.append(1e-3 * float(settings["aperture_mrad"]) / lam_nm)
    if settings.get("focal_spread_nm"):
        # exp(-(pi lambda k^2 spread)^2 / 2) is exp(-2)
        ends.append(np.sqrt(2 / (np.pi * lam_nm * float(settings["focal_spread_nm"]))))
    return float(1 / np.sqrt(np.pi * lam_nm * depth)), float(min(ends))


def _noise(
    dataset: Observed, truth: dict[str, Table], sight: Sight, direct: float
) -> WaveNoise | None:
    """Return the variances in the band that counting leaves, from the lens as it really was."""
    image = dataset.signal("image")
    if image.dtype.kind == "f":
        return None
    settings = dataset.settings
    still = truth["aberrations"]
    lens: dict[str, float] = {}
    for name, strength, azimuth in zip(
        still["name"], still["actual_nm"], still["actual_deg"], strict=True
    ):
        label = name.decode() if isinstance(name, bytes) else str(name)
        if strength:
            lens[label] = 10 * float(strength)
            if ORDERS[label][1]:
                lens[f"phi{label[1:]}"] = float(np.radians(azimuth))
    frames = truth["optics"]
    lenses = [
        {
            **lens,
            "C10": 10 * float(frames["c10_nm"][i]),
            "C12": 10 * float(frames["c12_nm"][i]),
            "phi12": float(np.radians(frames["phi12_deg"][i])),
            "C21": 10 * float(frames["c21_nm"][i]),
            "phi21": float(np.radians(frames["phi21_deg"][i])),
        }
        for i in range(len(frames["c10_nm"]))
    ]
    bare = float(settings["dose_e_per_A2"]) * (10 * sight.pixel_nm) ** 2
    power = float(image.mean()) / bare**2 / (sight.shape[0] * sight.shape[1])
    ky, kx = (np.broadcast_to(k, sight.shape)[sight.band] for k in sight.frequencies)
    return linear_noise(
        kx,
        ky,
        lenses,
        float(settings["energy_kev"]),
        float(settings.get("focal_spread_nm") or 0.0),
        float(settings.get("convergence_mrad") or 0.0),
        power,
        direct,
    )


def _columns_inside(
    dataset: Observed, sight: Sight, drift: Adjustment
) -> tuple[Floats, Floats, Floats]:
    """Return x, y in frame 0 and atomic number of the columns that are asked for."""
    if "columns" not in dataset.truth_tables:
        return np.zeros(0), np.zeros(0), np.zeros(0)
    table = dataset.truth("columns")
    x = np.asarray(table["x_nm"], np.float64) - drift.dx_nm
    y = np.asarray(table["y_nm"], np.float64) - drift.dy_nm
    (ny, nx), border = sight.shape, BORDER_NM
    keep = (np.asarray(table["n_atoms"]) >= LEAST_ATOMS) & (x > border) & (y > border)
    keep &= (x < (nx - 1) * sight.pixel_nm - border) & (y < (ny - 1) * sight.pixel_nm - border)
    return x[keep], y[keep], np.asarray(table["number"], np.float64)[keep]


def _scores(task: str, c: Comparison) -> Scores:
    sight = c.sight
    coarsest, finest = (1 / k for k in sight.band_per_nm)
    n = int(sight.band.sum())
    pixels = int(sight.inside.sum())
    true = sight.banded(c.true)[sight.inside]
    found = sight.banded(c.found)[sight.inside]
    phase = c.phase_difference(c.found)[sight.inside]
    set_right = c.phase_difference(c.refocused)[sight.inside]
    amplitude = np.abs(found) - np.abs(true)
    k, correlation = ring_correlation(c.found, c.true, sight)
    resolution = resolved_period_nm(k, correlation, sight)
    scores = [
        Score("wave_error", band_error(c.found, c.true, sight), n, "lower", limit=c.limit,
              hint=f"what is wrong of the scattered wave with periods from {coarsest:.2f} to "
              f"{finest:.3f} nm, as a share of it (0: perfect; 1: as bad as no answer)"),
        Score("wave_error_refocused", band_error(c.refocused, c.true, sight), n, "lower",
              limit=c.limit,
              hint="the same after a common error of focus and twofold astigmatism is undone"),
        Score("defocus_error", abs(c.lens.c10_nm), 1, "lower", "nm",
              hint="the wave lies this far from the exit face: "
              f"{c.lens.c10_nm:+.2f} nm of focus".replace("-", "−")),
        Score("astigmatism_error", c.lens.c12_nm, 1, "lower", "nm",
              hint="twofold astigmatism that is left in the wave"),
        Score("shift", PM_PER_NM * float(np.hypot(c.shift.dx_nm, c.shift.dy_nm)), 1, "lower", "pm",
              hint="the wave as a whole is displaced by this much in frame 0"),
        Score("phase_rmse", _rms(phase), pixels, "lower", "rad",
              limit=c.pixel_limit("phase", true),
              bias=float(phase.mean()), spread=float(phase.std()),
              hint=f"typical error of the phase in a pixel; {_rms(set_right):.2g} rad once focus "
              "and astigmatism are set right"),
        Score("amplitude_rmse", _rms(amplitude), pixels, "lower",
              limit=c.pixel_limit("amplitude", true),
              bias=float(amplitude.mean()), spread=float(amplitude.std()),
              hint="typical error of the amplitude in a pixel; 1 is that of the bare beam"),
        _column_score(c),
        Score("resolution", resolution, n, "lower", "nm", limit=finest,
              hint="finest period at which the correlation with the true wave is 1/2 or more"),
    ]  # fmt: skip
    notes = [
        "The limit is the error that counting alone leaves of the best linear restoration with "
        "this many electrons and this lens, if foci and drift are known. It holds for a weak "
        "object; the beams of a strong one also interfere with each other, and the restoration "
        "that knows it may come out a little below or above.",
        "An aberration that is the same in all images can't be told from a property of the wave "
        "itself: a common error of the foci moves the wave along the beam, an unknown twofold "
        "astigmatism turns its phases, and the images fit as well. What these two do to the wave "
        "is undone in wave_error_refocused.",
    ]
    return Scores(task, tuple(scores), tuple(notes))


def _column_score(c: Comparison) -> Score:
    if not len(c.column_x_nm):
        return Score("column_phase", None, 0, "lower", "rad", hint="no atomic column is in view")
    error, set_right = (
        np.angle(np.exp(1j * (c.column_phases(wave) - c.column_phases(c.true))))
        for wave in (c.found, c.refocused)
    )
    wave = at_points(c.sight.banded(c.true), c.column_x_nm, c.column_y_nm, c.sight.pixel_nm)
    return Score(
        "column_phase", _rms(error), len(error), "lower", "rad",
        limit=c.pixel_limit("phase", wave),
        bias=float(error.mean()), spread=float(error.std()),
        hint="typical error of the phase at an atomic column, what tells how many atoms it has; "
        f"{_rms(set_right):.2g} rad once focus and astigmatism are set right",
    )  # fmt: skip


def _rms(values: Floats | Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
