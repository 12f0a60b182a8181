"""A localization microscope's movie: the dyes blink, frame by frame, through the optics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nanophantom.instruments import _smlm_truth
from nanophantom.instruments._fluorescence import (
    MOST_PIXELS_TOLD,
    View,
    camera_known,
    frames_cost,
    optics_settings,
    require_dyes,
    require_memory,
)
from nanophantom.simcore.emitters import Dyes, HasDyes
from nanophantom.simcore.fields import Table
from nanophantom.simcore.light.bead_calibration import BeadScan
from nanophantom.simcore.light.bursts import Bursts, Exposures, Light, play
from nanophantom.simcore.light.fluorophores import REFERENCE_COLLECTION
from nanophantom.simcore.light.focused_spots import FocusedSpots, relative_collection
from nanophantom.simcore.runs import Acquisition, Cost, Frame, Parts, Run, SignalSpec
from nanophantom.simcore.specimens import Specimen

if TYPE_CHECKING:
    from nanophantom.instruments.smlm import SMLM

Image = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
MOVIES = ("movie", "movie_2")
FAR_NM = 3000.0
"""Dyes so far outside the view may decide over which heights spots are tabulated."""


class SMLMAcquisition(Acquisition):
    """A movie that is planned: when each dye shines, where the specimen is, what the camera is."""

    in_threads = True

    def __init__(self, recipe: SMLM, specimen: Specimen, run: Run) -> None:
        self.recipe, self.run = recipe, run
        self.n_frames = recipe.n_frames
        labelled = require_dyes(specimen, recipe.kind)
        require_memory(recipe.camera.shape, len(self.focal_planes_nm))
        self.fluorophore = recipe.fluorophore or labelled.fluorophore
        self.view = View(recipe.camera.shape, recipe.pixel_size_nm)
        self.drift = recipe.drift.frames(
            recipe.n_frames, recipe.exposure_s, recipe.period_s, run.rng("drift")
        )
        self.renderers, self.dyes = self._optics(labelled)
        self.detectors = [
            recipe.camera.detector(run.rng(f"camera {k + 1}"), recipe.exposure_s)
            for k in range(len(self.renderers))
        ]
        self.light = self._light()
        self.bursts = self._blinking()
        starts = np.arange(self.n_frames) * recipe.period_s
        self.exposures = Exposures(self.bursts, starts, recipe.exposure_s)
        self.lit = recipe.illumination.relative(*self.view.pixels_nm())
        self.background = self._background()
        self.imagers = np.asarray(self.free_imagers * self.lit, np.float32)
        self.dye_px = self._in_pixels(self.dyes.positions_nm)
        self.beads = BeadScan.of(
            recipe.psf, recipe.optics, self.fluorophore.emission_nm, recipe.pixel_size_nm,
            self.focal_planes_nm[0],
        )  # fmt: skip

    # ---- drawn once ----------------------------------------------------------------------------

    @property
    def focal_planes_nm(self) -> tuple[float, ...]:
        """Height above the coverslip that each camera sees sharply."""
        recipe = self.recipe
        focus = recipe.focus_nm + recipe.chromatic.z_nm
        if recipe.biplane is None:
            return (focus,)
        return focus - recipe.biplane.distance_nm / 2, focus + recipe.biplane.distance_nm / 2

    @property
    def camera_parts(self) -> tuple[float, ...]:
        """Part of the light that each camera gets."""
        biplane = self.recipe.biplane
        return (1.0,) if biplane is None else (biplane.part, 1.0 - biplane.part)

    @property
    def collected(self) -> float:
        """Photons on the camera over those that the reference objective would bring there."""
        return self.recipe.optics.collection_efficiency / REFERENCE_COLLECTION

    def _optics(self, labelled: HasDyes) -> tuple[list[FocusedSpots], Dyes]:
        """Tabulate spots over the heights where dyes are; find the dyes that they bring in."""
        recipe, dz = self.recipe, self.drift["dz_nm"]
        z = labelled.dyes_within(self.view.window.grown(FAR_NM)).positions_nm[:, 2]
        low, high = (float(f(z)) if len(z) else 0.0 for f in (np.min, np.max))
        renderers = [
            FocusedSpots.of(
                recipe.psf, recipe.optics, self.fluorophore.emission_nm, recipe.pixel_size_nm,
                (low, high), (float(dz.min()), float(dz.max())), plane,
            )
            for plane in self.focal_planes_nm
        ]  # fmt: skip
        wandered = max(float(np.abs(self.drift[c]).max()) for c in ("dx_nm", "dy_nm"))
        shifted = abs(recipe.chromatic.x_nm) + abs(recipe.chromatic.y_nm)
        margin = max(r.reach_nm for r in renderers) + wandered + shifted
        return renderers, labelled.dyes_within(self.view.window.grown(margin))

    def _light(self) -> Light:
        """Return the light of the whole experiment, from before the first frame on."""
        recipe, light = self.recipe, self.recipe.illumination
        end_s = (recipe.n_frames - 1) * recipe.period_s + recipe.exposure_s
        steps = light.activation_steps(end_s)
        times = [t for t, _ in steps]
        times[0] = -light.before_s
        return Light(
            np.array([*times, end_s]),
            np.full(len(steps), light.excitation_kw_per_cm2),
            np.array([level for _, level in steps]),
        )

    def _blinking(self) -> Bursts:
        """Play every dye's switching in the light that it gets."""
        recipe, light = self.recipe, self.recipe.illumination
        x, y, z = self.dyes.positions_nm.T
        depth_nm = light.penetration_nm(
            self.fluorophore.excitation_nm,
            recipe.optics.immersion_index,
            recipe.optics.sample_index,
        )
        relative = light.relative(x, y)
        brought = self.collected * relative_collection(
            recipe.psf, recipe.optics, self.fluorophore.emission_nm, z
        )
        return play(
            self.fluorophore.kinetics(),
            self.light,
            self.dyes.dye,
            self.run.rng("blinking"),
            excitation=relative * np.exp(-np.maximum(z, 0.0) / depth_nm),
            activation=relative,
            brightness=self.dyes.brightness * brought,
        )

    def _background(self) -> Image:
        """Return the background at the start, without imagers: photons a pixel of all cameras."""
        recipe = self.recipe
        pattern = recipe.background.pattern(
            self.view.shape, recipe.pixel_size_nm, self.run.rng("background")
        )
        return np.asarray(recipe.background.photons * pattern * self.lit, np.float32)

    @property
    def free_imagers(self) -> float:
        """Photons that imagers in solution add to a pixel and frame in the middle of the field."""
        recipe, dye = self.recipe, self.fluorophore
        depth_nm = recipe.background.free_imager_depth_nm
        if depth_nm == 0 or dye.concentration_nM == 0:
            return 0.0
        rate = dye.photons_per_s(recipe.illumination.excitation_kw_per_cm2) * self.collected
        volume_um3 = recipe.pixel_size_nm**2 * depth_nm * 1e-9
        return dye.free_imagers_per_um3 * volume_um3 * rate * recipe.exposure_s

    def _in_pixels(self, positions_nm: Floats) -> Floats:
        """Return where the image of each place lies: x and y in pixels, shape (2, n)."""
        chromatic = self.recipe.chromatic
        larger = 1 + chromatic.magnification_percent / 100
        x = positions_nm[:, 0] * larger + chromatic.x_nm
        y = positions_nm[:, 1] * larger + chromatic.y_nm
        return np.stack(self.view.in_image(x, y)) / self.recipe.pixel_size_nm

    # ---- frames --------------------------------------------------------------------------------

    def expose(self, i: int, parts: Parts | None = None) -> Frame:
        """Make frame ``i``: the photons of the exact overlap of every ON time with its exposure."""
        spots, background = self._emissions(i), self.background_of(i)
        signals, truth = {}, {}
        for k, renderer in enumerate(self.renderers):
            photons = self.camera_parts[k] * background
            x, y, z, n = (spots[c] for c in ("x_px", "y_px", "height_nm", "photons"))
            stage_nm = float(self.drift["dz_nm"][i])
            renderer.add(photons, x, y, z, self.camera_parts[k] * n, stage_nm)
            photons = np.maximum(photons, np.float32(0.0))  # splines ring by a part in a million
            detector = self.detectors[k]
            signals[MOVIES[k]] = detector.read(photons, self.run.rng(f"read {k + 1}", i))
            truth[f"ideal_{MOVIES[k]}"] = detector.ideal(photons)
        return Frame(i, signals, truth, {"emissions": self._listed(spots, background)})

    def background_of(self, i: int) -> Image:
        faded = self.recipe.background.at(float(self.drift["t_s"][i]))
        return np.asarray(self.background * np.float32(faded) + self.imagers)

    def _emissions(self, i: int) -> dict[str, npt.NDArray[Any]]:
        """Return what shines in a frame, one row a dye: places on the camera and photons."""
        rows, photons = self.exposures.of(i)
        dye, blink = self.bursts.dye[rows], self.bursts.blink[rows]
        dye, first, whose = np.unique(dye, return_index=True, return_inverse=True)
        a = self.recipe.pixel_size_nm
        x, y = self.dye_px[:, dye]
        return {
            "row": dye,
            "blink": blink[first],
            "bursts": self._bursts_of(whose, blink, len(dye)),
            "x_px": x + self.drift["dx_nm"][i] / a,
            "y_px": y + self.drift["dy_nm"][i] / a,
            "height_nm": self.dyes.positions_nm[dye, 2],
            "z_nm": self.dyes.positions_nm[dye, 2] + self.drift["dz_nm"][i],
            "photons": np.bincount(whose, photons, minlength=len(dye)),
        }

    @staticmethod
    def _bursts_of(
        whose: npt.NDArray[np.intp], blink: npt.NDArray[np.int32], n: int
    ) -> npt.NDArray[np.int32]:
        """Count the different bursts that each dye has in a frame; rows come in order of time."""
        if len(whose) == n:  # each dye has one row
            return np.ones(n, np.int32)
        order = np.argsort(whose, kind="stable")
        new = np.ones(len(order), bool)
        new[1:] = (np.diff(whose[order]) != 0) | (np.diff(blink[order]) != 0)
        return np.bincount(whose[order], new, minlength=n).astype(np.int32)

    def _listed(self, spots: Mapping[str, npt.NDArray[Any]], background: Image) -> Table:
        """Return the truth of a frame: what shone inside the view, one row a dye.

        A dye may end a burst and begin the next within a frame: `blink` is the first of them,
        `bursts` their number, and `photons` the light of all.
        """
        ny, nx = self.view.shape
        column, row = np.rint(spots["x_px"]), np.rint(spots["y_px"])
        seen = (column >= 0) & (column < nx) & (row >= 0) & (row < ny) & (spots["photons"] > 0)
        here = {name: values[seen] for name, values in spots.items()}
        a = self.recipe.pixel_size_nm
        return {
            "dye": self.dyes.dye[here["row"]],
            "blink": here["blink"],
            "bursts": here["bursts"],
            "x_nm": np.asarray(here["x_px"] * a, np.float32),
            "y_nm": np.asarray(here["y_px"] * a, np.float32),
            "z_nm": np.asarray(here["z_nm"], np.float32),
            "photons": np.asarray(here["photons"], np.float32),
            "background": background[row[seen].astype(int), column[seen].astype(int)],
        }

    # ---- what is told --------------------------------------------------------------------------

    def signals(self) -> Mapping[str, SignalSpec]:
        """Return the movie, two of them if there are two planes."""
        camera, axes = self.recipe.camera, self.view.axes
        return {
            name: SignalSpec(camera.shape, camera.dtype, axes, "ADU", f"ideal_{name}")
            for name in MOVIES[: len(self.renderers)]
        }

    def settings(self) -> Mapping[str, Any]:
        """Return what an operator knows: times, optics, camera, and widths measured on beads."""
        recipe = self.recipe
        known = {
            **optics_settings(recipe.optics, self.fluorophore, recipe.pixel_size_nm),
            "exposure_s": recipe.exposure_s,
            "frame_period_s": recipe.period_s,
            "excitation_kw_per_cm2": recipe.illumination.excitation_kw_per_cm2,
            "focus_nm": recipe.focus_nm,
            "dye_kinetics": _smlm_truth.summary(_smlm_truth.chain_in_the_middle(self)),
            "psf_sigma_nm": self.beads.sigma_nm,
            "camera": camera_known(recipe.camera, self.detectors[0]),
        }
        if self.beads.curve is not None:
            known["calibration"] = self.beads.curve
        if recipe.biplane is not None:
            known["camera_2"] = camera_known(recipe.camera, self.detectors[1])
            known["plane_distance_nm"] = recipe.biplane.distance_nm
        return known

    def truth(self, parts: Parts | None = None) -> Mapping[str, Table]:
        """Return dyes, their blinks, predictions of the kinetics, drift, background, cameras."""
        return _smlm_truth.tables(self)

    def truth_outline(self) -> Mapping[str, str]:
        """Return what the truth will hold."""
        return _smlm_truth.outline(self)

    def cost(self) -> Cost:
        """Estimate from pixels and from the rows of the tables; measured on one core."""
        cameras, shape = len(self.renderers), self.view.shape
        rows = float((self.bursts.duration_s / self.recipe.period_s + 1.5).sum())
        cpu_s = self.n_frames * (2e-4 + 3e-8 * shape[0] * shape[1] * cameras) + 1e-5 * rows
        return frames_cost(shape, self.n_frames, cameras, rows, len(self.dyes), cpu_s, quick=True)

    @property
    def notes(self) -> tuple[str, ...]:
        """Say how many dyes blink, and warn of a camera that saturates."""
        told: tuple[str, ...] = (
            f"{len(self.dyes)} dyes ({self.fluorophore.name}) in or beside the view shine in "
            f"{len(self.bursts)} stretches of constant rate; times are exact, not rounded to "
            "frames.",
        )
        if not len(self.bursts):
            told = (
                "warning: no dye shines in this movie; look at the dye's rates, at "
                "illumination.activation_kw_per_cm2, and at how long the movie is.",
            )
        if self.view.shape[0] * self.view.shape[1] > MOST_PIXELS_TOLD:
            told += ("Maps of so many pixels aren't told to the analysis.",)
        peak = float(self.background_of(0).max())
        return told + self.recipe.camera.notes(peak)
