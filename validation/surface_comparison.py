"""Compare a map of heights with the true surface, whatever shift, plane and scale it has.

Where the pixels of a frame really lay is in the truth as paths. A map that is to be right has the
surface at its raster, less what can't be known from images: a shift, a plane, and the shear by a
scanner whose axes are coupled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nanophantom.analysis.both_ways import Passes
from nanophantom.analysis.levelling import plane
from nanophantom.simcore.pixel_size import nominal_pixel

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

MOST_FRAMES = 2
MARGIN_PX = 3
"""Pixels left out beyond the largest displacement, where the true raster ends."""
FARTHEST_PX = 6.0
"""How far from the true mean displacement a map's shift is looked for."""
ON_GROUND_NM = 0.5
"""By how much the tip may stand above the ground under its apex where it touches just that."""


@dataclass(frozen=True, eq=False)
class SurfaceComparison:
    """A clean map and the raw trace beside the truth.

    Attributes
    ----------
    clean, reference, clean_error, raw, raw_reference, raw_error : (ny, nx)
        Maps less the plane of their errors, and the truth where they were taken.
    used, ground : (ny, nx) bool
        Pixels that are compared, and those of them on bare ground.
    displacement_px, displacement_error_px : (2, ny, nx)
        (dy, dx) of frame 0 less the calibration and the mean, and the error of what was said.
    place_px : (2, ny, nx)
        Where on the true raster (row, column) the pixels of the clean map are.
    scar_said, scar_true, spikes : (ny, nx) bool
        Of the trace of frame 0.
    """

    clean: Floats
    reference: Floats
    clean_error: Floats
    raw: Floats
    raw_reference: Floats
    raw_error: Floats
    used: Bools
    ground: Bools
    displacement_px: Floats
    displacement_error_px: Floats
    place_px: Floats
    scar_said: Bools
    scar_true: Bools
    spikes: Bools
    calibration_px: float
    jitter_px: float
    drift_nm_per_s: tuple[float, float]
    drift_error_nm_per_s: float
    noise_nm: float
    images: int

    @property
    def rmse_nm(self) -> float:
        """Of the clean map."""
        return rms(self.clean_error[self.used])

    @property
    def raw_rmse_nm(self) -> float:
        """Of the recorded trace."""
        return rms(self.raw_error[self.used])

    @property
    def background_nm(self) -> float:
        """Of the clean map on bare ground, about its mean there."""
        return float(np.std(self.clean_error[self.ground]))

    @property
    def raw_background_nm(self) -> float:
        """Of the recorded trace on bare ground, about its mean there."""
        return float(np.std(self.raw_error[self.ground]))

    @property
    def distortion_px(self) -> float:
        """Of the displacements said, both axes together."""
        return rms(np.hypot(*self.displacement_error_px))

    @property
    def raw_distortion_px(self) -> float:
        """If none are said."""
        return rms(np.hypot(*self.displacement_px))

    @property
    def drift_speed_nm_per_s(self) -> float:
        """Of the specimen in the image, creep of the scanner included."""
        return float(np.hypot(*self.drift_nm_per_s))

    @property
    def limit_nm(self) -> float | None:
        """Noise of the mean of all images; None without noise."""
        return self.noise_nm / np.sqrt(self.images) if self.noise_nm > 0 else None

    @property
    def scar_hits(self) -> int:
        """Scarred pixels that were found."""
        return int((self.scar_said & self.scar_true).sum())

    @property
    def scars_true(self) -> int:
        """Scarred pixels."""
        return int(self.scar_true.sum())

    @property
    def scars_said(self) -> int:
        """Pixels called scarred, less those with a spike alone."""
        return int((self.scar_said & ~(self.spikes & ~self.scar_true)).sum())


def compared(dataset: Observed, maps: Mapping[str, Floats]) -> SurfaceComparison:
    """Compare a clean map with the truth.

    Parameters
    ----------
    maps
        height_nm, scar, dx_nm, dy_nm, drift_x_nm_per_s, drift_y_nm_per_s, each (ny, nx).
    """
    frames = min(dataset.n_frames, MOST_FRAMES)
    shape = maps["height_nm"].shape
    pixel = pixel_yx(dataset)
    d = displacements_px(dataset, frames)
    calibration = _calibration(d)
    true = d - calibration - np.mean(d[0] - calibration, axis=(1, 2), keepdims=True)
    said = np.stack([maps["dy_nm"], maps["dx_nm"]]) / pixel[:, None, None]
    off = said - true[0]

    truth = dataset.truth("surface")
    image = np.asarray(truth["image_nm"], np.float64)
    raw = np.asarray(dataset.signal("height", 0, 1)[0], np.float64)
    reach = float(np.max(np.abs(d))) + FARTHEST_PX
    used = np.zeros(shape, np.bool_)
    margin = min(int(np.ceil(reach)) + MARGIN_PX, min(shape) // 4)
    used[margin:-margin, margin:-margin] = True
    grid = np.indices(shape) + calibration
    places, errors, references = [], [], []
    starts = np.mean(d - calibration, axis=(0, 2, 3)), np.mean(d[0] - calibration, axis=(1, 2))
    for z, start in zip((maps["height_nm"], raw), starts, strict=True):
        place = grid + _best_shift(z, image, grid, start, used)[:, None, None]
        reference = ndimage.map_coordinates(image, place, order=3, mode="nearest")
        places.append(place)
        references.append(reference)
        errors.append(without_plane(z - reference, used))
    under_apex = np.asarray(truth["height_nm"], np.float64)
    bare = (np.asarray(truth["material"]) == 0) & (image - under_apex < ON_GROUND_NM)
    ground = used & (ndimage.map_coordinates(bare.astype(np.float64), places[0], order=1) > 0.99)
    times = np.stack([Passes.of(dataset.settings, f, shape).row_s for f in range(frames)])
    drift = -_slope(np.mean(d, axis=3) * pixel[:, None], times)
    told = np.array([maps["drift_y_nm_per_s"][0, 0], maps["drift_x_nm_per_s"][0, 0]])
    noise, images = _noise(dataset, frames)
    return SurfaceComparison(
        clean=references[0] + errors[0],
        reference=references[0],
        clean_error=errors[0],
        raw=references[1] + errors[1],
        raw_reference=references[1],
        raw_error=errors[1],
        used=used,
        ground=ground if ground.any() else used,
        displacement_px=true[0],
        displacement_error_px=off - np.mean(off, axis=(1, 2), keepdims=True),
        place_px=places[0],
        scar_said=maps["scar"] > 0,
        scar_true=frame_truth(dataset, "scars", 0) > 0,
        spikes=frame_truth(dataset, "spikes", 0) > 0,
        calibration_px=rms(
            np.hypot(*(calibration - np.mean(calibration, axis=(1, 2))[:, None, None]))
        ),
        jitter_px=_jitter_px(dataset),
        drift_nm_per_s=(float(drift[1]), float(drift[0])),
        drift_error_nm_per_s=float(np.hypot(*(told - drift))),
        noise_nm=noise,
        images=images,
    )


def pixel_yx(dataset: Observed) -> Floats:
    """Return the nominal pixel along y and x, nm."""
    return np.array(nominal_pixel(dataset.settings))


def frame_truth(dataset: Observed, name: str, frame: int) -> Floats:
    """Return one image of what is known of a frame."""
    return np.asarray(dataset.frame_truth(name, frame, frame + 1)[0], np.float64)


def displacements_px(
    dataset: Observed, frames: int, ways: tuple[str, ...] = ("", "_retrace")
) -> Floats:
    """Return (frames, 2, ny, nx): where pixels lay less where the raster says, mean of the ways."""
    pixel, view = pixel_yx(dataset), dataset.truth("view")
    angle = np.radians(float(view["angle_deg"][0]))
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])  # (y, x)
    found = []
    for f in range(frames):
        x, y = (np.mean([frame_truth(dataset, a + w, f) for w in ways], axis=0)
                for a in ("path_x", "path_y"))  # fmt: skip
        place = np.stack([y - float(view["y0_nm"][0]), x - float(view["x0_nm"][0])])
        along = np.einsum("ij,jyx->iyx", turned, place) / pixel[:, None, None]
        found.append(along - np.indices(x.shape))
    return np.stack(found)


def without_plane(values: Floats, used: Bools) -> Floats:
    """Return values less the plane that fits them best where they are used."""
    return plane(values, ~used)


def rms(values: Floats) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


def of_lines(dataset: Observed, table: str, column: str, frame: int) -> Floats:
    """Return a value that each line has, (ny,) from the top row of a frame down."""
    lines = dataset.truth(table)
    values = np.asarray(lines[column], np.float64)[np.asarray(lines["frame"]) == frame]
    down = dataset.settings["slow_axis"][frame] == "down"
    return np.asarray(values if down else values[::-1], np.float64)


def _calibration(d: Floats) -> Floats:
    """Return what the coupling of the scanner's axes does, (2, ny, nx): the same in every frame.

    x += c y and y += c x shear the raster, or stretch it where lines are turned: a symmetric
    matrix without trace. How places change along lines tells it; drift and creep don't show there,
    since in the mean of both ways every pixel of a line has the same time.
    """
    _, _, ny, nx = d.shape
    x, y = np.arange(nx) - (nx - 1) / 2, np.arange(ny) - (ny - 1) / 2
    shear, stretch = np.mean(d, axis=(0, 2)) @ x / (x @ x)
    return np.stack([shear * x - stretch * y[:, None], stretch * x + shear * y[:, None]])


def _jitter_px(dataset: Observed) -> float:
    """Return how far, typically, the jitter displaces the lines of frame 0."""
    pixel = pixel_yx(dataset)
    along, across = (
        of_lines(dataset, "motion", f"jitter_{name}_nm", 0) for name in ("along", "across")
    )
    return rms(np.hypot(along / pixel[1], across / pixel[0]))


def _best_shift(z: Floats, image: Floats, grid: Floats, start: Floats, used: Bools) -> Floats:
    """Return the shift (y, x) by which a map fits the truth best: Gauss and Newton."""
    shift = np.asarray(start, np.float64).copy()
    slopes = np.gradient(image)
    for _ in range(20):
        place = grid + shift[:, None, None]
        reference, *slope = (
            ndimage.map_coordinates(a, place, order=o, mode="nearest")
            for a, o in ((image, 3), (slopes[0], 1), (slopes[1], 1))
        )
        design = np.stack([without_plane(s, used)[used] for s in slope], axis=1)
        step = np.linalg.lstsq(design, without_plane(z - reference, used)[used], rcond=None)[0]
        shift = np.clip(shift + step, start - FARTHEST_PX, start + FARTHEST_PX)
        if np.max(np.abs(step)) < 1e-4:
            break
    return np.asarray(shift)


def _slope(displacement: Floats, times_s: Floats) -> Floats:
    """Return the slope (y, x) of (frames, 2, ny) against times (frames, ny)."""
    t = times_s - np.mean(times_s)
    return np.asarray(np.einsum("fy,fiy->i", t, displacement) / np.sum(t**2))


def _noise(dataset: Observed, frames: int) -> tuple[float, int]:
    """Return the rms noise of recorded heights, spikes apart, and over how many images."""
    squares = []
    for f in range(frames):
        for way in ("", "_retrace"):
            noise = np.asarray(dataset.signal(f"height{way}", f, f + 1)[0], np.float64)
            noise = noise - frame_truth(dataset, f"ideal_height{way}", f)
            squares.append(float(np.var(noise[frame_truth(dataset, f"spikes{way}", f) == 0])))
    return float(np.sqrt(np.mean(squares))), len(squares)
