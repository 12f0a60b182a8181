"""Localize single molecules in a movie: from counts of a camera to a table of places.

Block by block (the movie may be on disk, and larger than the memory), frames are converted to
photoelectrons with what the operator knows of the camera; spots are found (`spot_detection`) and
fitted (`spot_fits`); those that light each other's boxes are fitted again with the others' light in
the expectation, until their places settle. Where many spots overlap, all emitters of a group are
fitted at once instead, and more are looked for in what is left over (`multi_emitter`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from nanophantom.analysis.multi_emitter import EmitterFits, fit_emitters
from nanophantom.analysis.spot_detection import FALSE_POSITIVES, SpotFinder, temporal_median
from nanophantom.analysis.spot_fit_kernels import cut_boxes
from nanophantom.analysis.spot_fits import Astigmatism, Method, SpotFits, SpotModel, fit_spots
from nanophantom.simcore.parallel import map_threads

Singles = npt.NDArray[np.float32]
Columns = dict[str, npt.NDArray[Any]]
Emitters = Literal["single", "multiple"]

BLOCK_BYTES = 32 * 2**20
"""Of the movie, read at a time."""
GROUP_PIXELS = 2**18
"""Of the frames that a thread works on at a time."""
ROUNDS = 5
"""Of fits that know their neighbours."""


class Movie(Protocol):
    """Frames that can be read some at a time: an array, or a dataset on disk."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, ny, nx)."""
        ...

    def __getitem__(self, frames: slice, /) -> Any:
        """Return some frames, as an array."""
        ...


@dataclass(frozen=True, eq=False)
class CameraSettings:
    """What an operator knows of the camera: numbers, or maps of the size of a frame.

    Attributes
    ----------
    offset_adu
        Reading without light.
    adu_per_electron
        Rise of the reading per photoelectron, the EM gain included.
    read_variance
        In photoelectrons squared, before the EM gain.
    excess_noise
        F^2: variance of the amplified photoelectrons over their mean.
    quantum_efficiency
        Photoelectrons per photon.
    """

    offset_adu: Singles
    adu_per_electron: Singles
    read_variance: Singles
    excess_noise: float
    quantum_efficiency: float

    @classmethod
    def read(cls, camera: Mapping[str, Any]) -> CameraSettings:
        """Read settings.

        Parameters
        ----------
        camera
            offset_adu, adu_per_electron, quantum_efficiency; and, where the camera has them,
            em_gain, read_noise_e (rms, at the output of the register), excess_noise, and the maps
            offset_map, gain_map (relative), variance_map (electrons squared).

        Raises
        ------
        ValueError
            A number is missing or not positive.
        """
        for key in ("offset_adu", "adu_per_electron", "quantum_efficiency"):
            if key not in camera:
                raise ValueError(f"the camera's settings lack {key}")
        em_gain = float(camera.get("em_gain", 1.0))
        gain = np.float32(camera["adu_per_electron"] * em_gain)
        excess_noise, efficiency = camera.get("excess_noise", 1.0), camera["quantum_efficiency"]
        if not (gain > 0 and efficiency > 0 and excess_noise >= 1):
            raise ValueError(
                f"adu_per_electron x em_gain {gain} and quantum_efficiency {efficiency} of a "
                f"camera must be positive, excess_noise {excess_noise} at least 1"
            )
        offset, variance = camera.get("offset_map"), camera.get("variance_map")
        relative = camera.get("gain_map")
        relative = 1.0 if relative is None else relative
        offset = camera["offset_adu"] if offset is None else offset
        variance = camera.get("read_noise_e", 0.0) ** 2 if variance is None else variance
        return cls(
            np.asarray(offset, np.float32),
            gain * np.asarray(relative, np.float32),
            np.asarray(variance, np.float32) / np.float32(em_gain**2),
            float(excess_noise),
            float(efficiency),
        )

    def electrons(self, frames: npt.NDArray[Any]) -> Singles:
        """Return frames of ADU as photoelectrons."""
        counts = np.subtract(frames, self.offset_adu, dtype=np.float32)
        counts *= np.float32(1) / self.adu_per_electron
        return np.asarray(counts)


@dataclass(frozen=True, eq=False)
class _Plan:
    """How to localize; the same for all frames."""

    shape: tuple[int, int]
    camera: CameraSettings
    pixel_size_nm: float
    sigma_px: float
    method: Method
    model: SpotModel
    false_positives: float
    box_px: int
    background_frames: int | None
    rounds: int
    calibration: Astigmatism | None
    emitters: Emitters

    def finder(self) -> SpotFinder:
        camera = self.camera
        options = (camera.read_variance, camera.excess_noise, self.false_positives)
        return SpotFinder(self.shape, self.sigma_px, *options)


def localize(
    movie: Movie,
    settings: Mapping[str, Any],
    *,
    method: Method = "mle",
    model: SpotModel | None = None,
    false_positives: float = FALSE_POSITIVES,
    box_px: int | None = None,
    background_frames: int | None = None,
    rounds: int = ROUNDS,
    emitters: Emitters = "single",
    threads: int | None = None,
) -> Columns:
    """Localize the single molecules of a movie.

    Parameters
    ----------
    movie : (n, ny, nx)
        ADU; an array, or anything with a shape that slices like one along its first axis.
    settings
        pixel_size_nm, psf_sigma_nm (standard deviation of a spot in focus), camera (see
        `CameraSettings.read`), and calibration for an astigmatic lens (see `Astigmatism`).
    method, model
        See `fit_spots`. By default "astigmatic" where the settings hold a calibration of an
        astigmatic lens, else "free": the greatest Poisson likelihood, each spot's width fitted:
        photons and uncertainties then hold for spots out of focus and for a width that isn't quite
        known (10 % off, they are wrong by 6 %). Where it is known, "fixed" is faster and loses
        fewer of the dimmest spots; places are as good, close pairs' too.
    false_positives
        How many spots may be found, of a pixel in a frame without any. Times the pixels of a
        frame, how many false localizations a frame has.
    box_px
        Edge of the square of pixels that is fitted, odd; by default 3 widths to either side.
    background_frames
        Take the median of so many frames for their uneven background; by default it is flat in
        each spot's box.
    rounds
        How often, at most, spots that light each other's boxes are fitted again; 0: each alone.
    emitters
        "single": one emitter a spot that is seen. "multiple": spots that are too long are split,
        and more are looked for behind the first, as `fit_emitters` does: better from one emitter
        in some hundred squared widths on. It has the model "fixed" and the method "mle"; the width
        of the spots must be known to 5 % (see `movie_width`).
    threads
        The result doesn't depend on it.

    Returns
    -------
    dict
        One entry a localization, sorted by frame: frame (from 0), x_nm, y_nm (from the centre of
        pixel (0, 0)), z_nm (astigmatic; above the focal plane), photons on the camera, background
        (photons in a pixel),
        sigma_nm or sigma_x_nm and sigma_y_nm, uncertainty_nm (standard deviation along x or y that
        the noise leaves; also as uncertainty_x_nm, uncertainty_y_nm if the widths differ),
        uncertainty_z_nm (astigmatic), uncertainty_photons, log_likelihood (over that of a model
        equal to the counts) and chi_square (per degree of freedom: about 1 for a single spot;
        merged pairs lie far above). Fits that failed are left out.

    Raises
    ------
    ValueError
        A setting is missing or out of range.
    """
    if emitters not in get_args(Emitters):
        raise ValueError(f"emitters is {emitters!r}; it must be 'single' or 'multiple'")
    several = emitters == "multiple"
    if several and (method != "mle" or model not in (None, "fixed") or settings.get("calibration")):
        raise ValueError('emitters "multiple" has method "mle", model "fixed" and no calibration')
    usual: SpotModel = "astigmatic" if settings.get("calibration") else "free"
    model = "fixed" if several else model or usual
    plan = _plan(
        movie, settings, method, model, false_positives, box_px, background_frames, rounds, emitters
    )
    pixels = math.prod(plan.shape)
    per_group = background_frames or max(1, GROUP_PIXELS // pixels)
    n, tables = int(movie.shape[0]), []
    bytes_per_frame = pixels * np.asarray(movie[0:1]).dtype.itemsize
    per_block = max(1, BLOCK_BYTES // bytes_per_frame // per_group) * per_group
    for start in range(0, n, per_block):
        block = np.asarray(movie[start : min(start + per_block, n)])
        firsts = range(0, len(block), per_group)

        def work(finder: SpotFinder, k: int, start: int = start, block: Any = block) -> Columns:
            return _localize(plan, finder, start + k, block[k : k + per_group])

        tables += map_threads(work, firsts, plan.finder, threads)
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def _plan(
    movie: Movie,
    settings: Mapping[str, Any],
    method: Method,
    model: SpotModel,
    false_positives: float,
    box_px: int | None,
    background_frames: int | None,
    rounds: int,
    emitters: Emitters,
) -> _Plan:
    if len(movie.shape) != 3 or movie.shape[0] < 1:
        raise ValueError(f"the movie has the shape {movie.shape}; expected (n, ny, nx), n > 0")
    for key in ("pixel_size_nm", "psf_sigma_nm"):
        if not settings.get(key, 0) > 0:
            raise ValueError(f"settings need {key}, positive; got {settings.get(key)}")
    if "camera" not in settings:
        raise ValueError("settings need camera: offset_adu, adu_per_electron, quantum_efficiency")
    shape = (int(movie.shape[1]), int(movie.shape[2]))
    pixel = float(settings["pixel_size_nm"])
    sigma_px = float(settings["psf_sigma_nm"]) / pixel
    widest = 1.5 * sigma_px if model == "astigmatic" else sigma_px
    box = 2 * math.ceil(3.0 * widest) + 1 if box_px is None else box_px
    if box % 2 == 0 or not 3 <= box <= min(shape):
        raise ValueError(f"box_px is {box}; it must be odd, from 3 to the frame's {min(shape)}")
    if background_frames is not None and background_frames < 5:
        raise ValueError(f"background_frames is {background_frames}; a median needs 5 or more")
    calibration = None
    if model == "astigmatic":
        if settings.get("calibration") is None:
            raise ValueError("the astigmatic model needs the setting calibration")
        calibration = Astigmatism.from_settings(settings["calibration"])
    return _Plan(
        shape,
        CameraSettings.read(settings["camera"]),
        pixel,
        sigma_px,
        method,
        model,
        false_positives,
        box,
        background_frames,
        rounds,
        calibration,
        emitters,
    )


def _localize(plan: _Plan, finder: SpotFinder, first: int, frames: npt.NDArray[Any]) -> Columns:
    """Return the table of some frames, the first of which has the number `first`."""
    electrons = plan.camera.electrons(frames)
    background = temporal_median(electrons) if plan.background_frames else None
    spots = finder.find(electrons, background)
    if plan.emitters == "multiple":
        uneven = None if background is None else background - background.min()
        several = fit_emitters(
            electrons,
            plan.sigma_px,
            spots=spots,
            variance=plan.camera.read_variance,
            expected=uneven,
            excess_noise=plan.camera.excess_noise,
            box_px=plan.box_px,
            false_positives=plan.false_positives,
        )
        return _columns_of_several(plan, several, first, uneven)
    ny, nx = plan.shape
    half = plan.box_px // 2
    # at the edge of the frame, the box lies inside and the spot off its middle
    top = np.clip(spots.y - half, 0, ny - plan.box_px)
    left = np.clip(spots.x - half, 0, nx - plan.box_px)
    corner = np.stack([left, top, np.zeros_like(top), np.zeros_like(top)], axis=1)
    places = np.ascontiguousarray(np.stack([spots.frame, top, left], axis=1), dtype=np.int32)
    expected = None
    if background is not None:
        expected = _cut(plan, background[None], places * [0, 1, 1])
        expected -= expected.min(axis=(1, 2), keepdims=True)  # the flat part is fitted
    variance: Singles | None = None
    if plan.camera.read_variance.ndim == 2:
        variance = _cut(plan, plan.camera.read_variance[None], places * [0, 1, 1])
    elif plan.camera.read_variance > 0:
        variance = plan.camera.read_variance
    fits = fit_spots(
        _cut(plan, electrons, places),
        plan.sigma_px,
        method=plan.method,
        model=plan.model,
        variance=variance,
        expected=expected,
        excess_noise=plan.camera.excess_noise,
        calibration=plan.calibration,
        pixel_size_nm=plan.pixel_size_nm,
        starts=spots.starts - corner,
        places=places,
        rounds=plan.rounds,
    )
    if expected is not None:
        fits.background[:] += expected.mean(axis=(1, 2))
    return _columns(plan, fits, spots.frame + np.int32(first), left, top)


def _cut(plan: _Plan, frames: Singles, places: npt.NDArray[Any]) -> Singles:
    boxes = np.empty((len(places), plan.box_px, plan.box_px), np.float32)
    cut_boxes(np.ascontiguousarray(frames), np.ascontiguousarray(places, np.int32), boxes)
    return boxes


def _columns(
    plan: _Plan,
    fits: SpotFits,
    frame: npt.NDArray[np.int32],
    left: npt.NDArray[np.int32],
    top: npt.NDArray[np.int32],
) -> Columns:
    nm, photons = plan.pixel_size_nm, 1.0 / plan.camera.quantum_efficiency
    table: Columns = {
        "frame": frame,
        "x_nm": (fits.x_px + left) * nm,
        "y_nm": (fits.y_px + top) * nm,
        "photons": fits.photons * photons,
        "background": fits.background * photons,
    }
    if plan.model in ("fixed", "free"):
        table["sigma_nm"] = fits.sigma_x_px * nm
    else:
        table["sigma_x_nm"], table["sigma_y_nm"] = fits.sigma_x_px * nm, fits.sigma_y_px * nm
        table["uncertainty_x_nm"], table["uncertainty_y_nm"] = fits.x_sd * nm, fits.y_sd * nm
    if plan.model == "astigmatic":
        table["z_nm"], table["uncertainty_z_nm"] = fits.z_nm, fits.fifth_sd
    unknowns = {"fixed": 4, "free": 5, "elliptical": 6, "astigmatic": 5}[plan.model]
    table["uncertainty_nm"] = np.sqrt(0.5 * (fits.x_sd**2 + fits.y_sd**2)) * nm
    table["uncertainty_photons"] = fits.photons_sd * photons
    table["log_likelihood"] = fits.log_likelihood
    table["chi_square"] = fits.chi_square / plan.camera.excess_noise / (plan.box_px**2 - unknowns)
    return _kept(plan, table, fits.converged)


def _columns_of_several(
    plan: _Plan, fits: EmitterFits, first: int, uneven: Singles | None
) -> Columns:
    nm, photons = plan.pixel_size_nm, 1.0 / plan.camera.quantum_efficiency
    background = fits.background
    if uneven is not None:
        last_row, last_column = np.array(plan.shape) - 1
        y = np.clip(np.rint(fits.y_px), 0, last_row).astype(int)
        x = np.clip(np.rint(fits.x_px), 0, last_column).astype(int)
        background = background + uneven[y, x]
    freedom = np.maximum(fits.pixels - 3 * fits.group_size - 1, 1)
    table: Columns = {
        "frame": fits.frame + np.int32(first),
        "x_nm": fits.x_px * nm,
        "y_nm": fits.y_px * nm,
        "photons": fits.photons * photons,
        "background": background * photons,
        "sigma_nm": np.full(len(fits), plan.sigma_px * nm),
        "uncertainty_nm": np.sqrt(0.5 * (fits.x_sd**2 + fits.y_sd**2)) * nm,
        "uncertainty_photons": fits.photons_sd * photons,
        "log_likelihood": fits.log_likelihood,
        "chi_square": fits.chi_square / plan.camera.excess_noise / freedom,
    }
    return _kept(plan, table, fits.converged)


def _kept(plan: _Plan, table: Columns, converged: npt.NDArray[np.bool_]) -> Columns:
    """Leave out fits that failed; a place outside the frame is that of a middle that isn't seen."""
    nm = plan.pixel_size_nm
    inside = (np.abs(table["x_nm"] / nm - (plan.shape[1] - 1) / 2) <= plan.shape[1] / 2) & (
        np.abs(table["y_nm"] / nm - (plan.shape[0] - 1) / 2) <= plan.shape[0] / 2
    )
    return {name: column[converged & inside] for name, column in table.items()}
