"""The truth of a TEM series: what was there, what the lens was like, where the beam went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import scipy.fft

from nanophantom.simcore.columns import find_truth_columns
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.fields import Table
from nanophantom.simcore.runs import Parts

if TYPE_CHECKING:
    from nanophantom.instruments._tem_acquisition import TEMAcquisition

OUTLINE = {
    "atoms": "element, resting position and B factor of every atom simulated",
    "groups": "names of the specimen's parts",
    "columns": "position, composition and spread of every atomic column",
    "drift": "mean displacement of the specimen in every frame",
    "drift_path": "the displacement inside the exposures, finely sampled",
    "dose": "the ledger: time, area, fluence, rate and energy of every exposure",
    "focus": "nominal and actual defocus of every frame",
    "aberrations": "all aberration coefficients, nominal and actual, at the start",
    "optics": "actual low-order aberrations and beam tilt of every frame",
    "exit_wave": "mean exit wave of the first frame's tilt, as far as the aperture passes it",
    "noise_free": "expected counts of the first frame at zero drift",
    "intensity": "intensity kept, lost at the band limit, stopped by the aperture",
}
ZERO_LOSS = {"zero_loss": "local thickness, and the part of the electrons that lost no energy"}


def outline(planned: TEMAcquisition) -> Mapping[str, str]:
    """Return one line on every table of `tables`."""
    told = OUTLINE if planned.zero_loss is None else OUTLINE | ZERO_LOSS
    if planned.tem.camera.sensor.type != "ideal":
        told = {**told, "camera": "what is fixed in the sensor: gain errors, dark signal, defects"}
    if planned.film is not None:
        told = {**told, "beam_induced_motion": "the displacement field that the beam drives"}
    if planned.tem.gas is not None:
        told = {**told, "gas": "parts of the electrons that the gas leaves, scatters and stops"}
    return told if planned.history is None else told | planned.history.outline()


def tables(planned: TEMAcquisition, made: Parts) -> Mapping[str, Table]:
    """Return all tables; those with pixels lie on the camera's."""
    n = planned.n_frames
    cell, tem = planned.cell, planned.tem
    y0, x0 = cell.corner_nm
    my, mx = cell.margin
    origin = np.array([x0 + mx * cell.pixel_nm, y0 + my * cell.pixel_nm, 0.0])
    atoms = planned.atoms.moved(planned.atoms.positions_nm - origin)
    tilts = np.array(tem.beam_tilts_mrad[:n])
    found: dict[str, Table] = {
        "atoms": atoms.table(),
        "groups": {"name": np.array(atoms.group_names, dtype="S")},
        "columns": find_truth_columns(atoms),
        "drift": planned.path.frame_means(),
        "drift_path": planned.path.table(),
        "dose": planned.ledger.table(),
        "focus": planned.tuned.focus(),
        "aberrations": planned.tuned.table(),
        "optics": {
            **planned.tuned.frames(),
            "beam_tilt_x_mrad": tilts[:, 0],
            "beam_tilt_y_mrad": tilts[:, 1],
        },
        "exit_wave": exit_wave(planned, made),
        "noise_free": {"image": planned.noise_free(made)},
        "intensity": intensity_budget(planned, made),
    }
    if planned.zero_loss is not None:
        found["zero_loss"] = planned.zero_loss.table(cell)
    fixed = planned.detector.truth()
    if fixed:
        found["camera"] = fixed
    if planned.film is not None:
        found["beam_induced_motion"] = planned.film.table()
        dy, dx = zip(*(planned.displacements_nm(i) for i in range(n)), strict=True)
        found["drift"] = {
            **found["drift"],
            "dx_nm": np.array([d.mean() for d in dx]),
            "dy_nm": np.array([d.mean() for d in dy]),
        }
        found["drift_path"] = {
            **found["drift_path"],
            "dx_nm": np.concatenate(dx),
            "dy_nm": np.concatenate(dy),
        }
    if tem.gas is not None:
        found["gas"] = tem.gas.table(tem.energy_kev, tem.optics.aperture_mrad)
    if planned.history is not None:
        found |= planned.history.tables(origin)
    return found


def intensity_budget(planned: TEMAcquisition, made: Parts) -> Table:
    """Return where the incident intensity went, for every tilt and thermal configuration."""
    count = planned.configurations.count
    pairs = [(t, c) for t in range(len(planned.tilts_mrad)) for c in range(count)]
    parts = [made[planned.part_name(planned.tilts_mrad[t], c)] for t, c in pairs]
    budget = {
        "configuration": np.array([c for _, c in pairs]),
        "kept": np.array([float(part["kept"]) for part in parts]),
        "lost_at_band_limit": np.array([float(part["lost"]) for part in parts]),
        "stopped_by_aperture": np.array([float(part["stopped"]) for part in parts]),
    }
    if len(planned.tilts_mrad) > 1:
        tilts = np.array([planned.tilts_mrad[t] for t, _ in pairs])
        budget |= {"beam_tilt_x_mrad": tilts[:, 0], "beam_tilt_y_mrad": tilts[:, 1]}
    return budget


def exit_wave(planned: TEMAcquisition, made: Parts) -> Table:
    """Return the mean exit wave over the thermal configurations, on the pixels of the view.

    It is what a restoration can find: the coherent part, of the first frame's first tilt, as far
    as the objective aperture passes it; at the exit face, without lens and drift; 1 is the
    amplitude of the incident wave, and the phase of a tilted beam is left out.
    """
    tilt = planned.lenses[0].tilts_mrad[0]
    count = planned.configurations.count
    mean = np.zeros(planned.grid.wave_shape, np.complex128)
    for c in range(count):
        mean += made[planned.part_name(tilt, c)]["wave_k"]
    mean /= count
    aperture = planned.tem.optics.aperture_mrad
    if aperture is not None:
        lam = float(wavelength(planned.tem.energy_kev))
        ky, kx = planned.grid.wave_frequencies
        ax, ay = planned.tem.optics.aperture_shift_mrad
        from_centre = np.hypot(1e3 * lam * kx + tilt[0] - ax, 1e3 * lam * ky + tilt[1] - ay)
        mean = np.where(from_centre <= aperture, mean, 0)
    wave = planned.cell.crop(_sampled(mean, planned.cell.shape))
    return {"real": wave.real.astype(np.float32), "imag": wave.imag.astype(np.float32)}


def _sampled(
    wave_k: npt.NDArray[np.complex128], shape: tuple[int, int]
) -> npt.NDArray[np.complex128]:
    """Return a wave on the samples of its cell; what they can't show is left out."""
    for axis, n in enumerate(shape):
        harmonic = np.rint(np.fft.fftfreq(wave_k.shape[axis], 1 / wave_k.shape[axis])).astype(int)
        shown = np.flatnonzero(np.abs(harmonic) < n / 2)
        wide = np.zeros((n, wave_k.shape[1]) if axis == 0 else (wave_k.shape[0], n), complex)
        place = (
            (harmonic[shown] % n, slice(None)) if axis == 0 else (slice(None), harmonic[shown] % n)
        )
        wide[place] = np.take(wave_k, shown, axis)
        wave_k = wide
    return np.asarray(scipy.fft.ifft2(wave_k, norm="forward", workers=1))
