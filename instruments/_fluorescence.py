"""What all fluorescence microscopes share: the view, the dyes in it, what an operator is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.atoms import Window
from nanophantom.simcore.emitters import Dyes, HasDyes
from nanophantom.simcore.fields import Axis, Table
from nanophantom.simcore.parallel import available_memory_bytes
from nanophantom.simcore.runs import Cost
from nanophantom.simcore.specimens import Specimen
from nanophantom.simcore.store.layout import IDEAL_BYTES, QUICK_IDEAL_BYTES, SHARD_BYTES

if TYPE_CHECKING:
    from nanophantom.simcore.cameras.light import LightCamera
    from nanophantom.simcore.cameras.light_detectors import LightDetector
    from nanophantom.simcore.light.fluorophores import Fluorophore
    from nanophantom.simcore.light.psf import Optics

Floats = npt.NDArray[np.float64]

PROCESS_BYTES = 250_000_000
PLANNED_BYTES_A_PIXEL = 190
"""Maps, background and light of a planned camera, and the arrays of one frame."""
MOST_PIXELS_TOLD = 512 * 512


@dataclass(frozen=True)
class View:
    """The field that a camera or a scan sees, in the middle of the specimen.

    Attributes
    ----------
    shape
        Rows and columns.
    pixel_size_nm
        Edge of a pixel, referred to the specimen.
    """

    shape: tuple[int, int]
    pixel_size_nm: float

    @property
    def window(self) -> Window:
        """What is seen of the specimen; its corner is the centre of pixel (0, 0)."""
        ny, nx = self.shape
        return Window.centred(nx * self.pixel_size_nm, ny * self.pixel_size_nm)

    def in_image(self, x_nm: Floats, y_nm: Floats) -> tuple[Floats, Floats]:
        """Turn specimen coordinates into those of the image, 0 at the centre of pixel (0, 0)."""
        window = self.window
        return np.asarray(x_nm - window.x0_nm), np.asarray(y_nm - window.y0_nm)

    def pixels_nm(self) -> tuple[Floats, Floats]:
        """Return where pixels lie in the specimen: x, shape (1, nx), and y, shape (ny, 1)."""
        ny, nx = self.shape
        window = self.window
        x = window.x0_nm + self.pixel_size_nm * np.arange(nx)
        y = window.y0_nm + self.pixel_size_nm * np.arange(ny)
        return np.asarray(x[None, :], np.float64), np.asarray(y[:, None], np.float64)

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """Axes of an image."""
        return Axis("y", self.pixel_size_nm, "nm"), Axis("x", self.pixel_size_nm, "nm")

    def table(self) -> Table:
        """Return where the view lies: specimen coordinates of the centre of pixel (0, 0)."""
        window = self.window
        return {
            "x0_nm": np.array([window.x0_nm]),
            "y0_nm": np.array([window.y0_nm]),
            "pixel_size_nm": np.array([self.pixel_size_nm]),
        }


def require_dyes(specimen: Specimen, kind: str) -> HasDyes:
    """Return the specimen as one that fluoresces.

    Raises
    ------
    ValueError
        It doesn't.
    """
    if not isinstance(specimen, HasDyes):
        raise ValueError(
            f"sample: the microscope {kind!r} sees dyes, and this specimen has none; take a "
            "labelled one (nuclear-pores, origami, microtubules, atom-sites, ...)"
        )
    return specimen


def dyes_in(specimen: HasDyes, view: View, margin_nm: float) -> Dyes:
    """Return the dyes of the view and of a margin around it."""
    half = 0.5 * view.pixel_size_nm  # a pixel reaches half its size beyond its centre
    return specimen.dyes_within(view.window.grown(margin_nm + half))


def optics_settings(
    optics: Optics, fluorophore: Fluorophore, pixel_size_nm: float
) -> Mapping[str, Any]:
    """Return what an operator knows of the optics and the dye."""
    return {
        "pixel_size_nm": pixel_size_nm,
        "na": optics.na,
        "immersion_index": optics.immersion_index,
        "wavelength_nm": fluorophore.emission_nm,
        "excitation_nm": fluorophore.excitation_nm,
        "fluorophore": fluorophore.name,
    }


def dye_table(dyes: Dyes, view: View) -> dict[str, npt.NDArray[Any]]:
    """Return the dyes of a view as a truth table, in image coordinates."""
    x, y = view.in_image(dyes.positions_nm[:, 0], dyes.positions_nm[:, 1])
    chain = {"dye": dyes.dye, "label": dyes.label, "site": dyes.site}
    return {**chain, "x_nm": x, "y_nm": y, "z_nm": dyes.positions_nm[:, 2],
            "brightness": dyes.brightness}  # fmt: skip


def require_memory(shape: tuple[int, int], cameras: int = 1) -> None:
    """Refuse frames so large that planning them alone would fill the memory.

    Raises
    ------
    ValueError
        They would.
    """
    needed = PROCESS_BYTES + PLANNED_BYTES_A_PIXEL * cameras * shape[0] * shape[1]
    free = available_memory_bytes()
    if needed > free:
        raise ValueError(
            f"instrument.camera: frames of {shape[1]} x {shape[0]} pixels need about "
            f"{needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free; take fewer pixels"
        )


def frames_cost(
    shape: tuple[int, int],
    n_frames: int,
    cameras: int = 1,
    rows: float = 0.0,
    dyes: float = 0.0,
    cpu_s: float = 0.0,
    quick: bool = False,
) -> Cost:
    """Estimate what frames of a camera take, from above.

    Parameters
    ----------
    shape, n_frames, cameras
        Of the frames.
    rows
        Rows of all tables of emissions and of blinks.
    dyes
        Dyes in the truth.
    cpu_s
        Time of making the frames.
    quick
        Whether they are made in threads, and few of their noise-free images kept.
    """
    pixels = shape[0] * shape[1] * cameras
    ideals = 4 * n_frames * pixels
    kept = ideals if ideals <= (QUICK_IDEAL_BYTES if quick else IDEAL_BYTES) else 0
    told = 40 if pixels <= cameras * MOST_PIXELS_TOLD else 0  # maps, as text of the settings
    disk = 2 * n_frames * pixels + kept + 60 * rows + 120 * dyes + (60 + told) * pixels + 4e6
    shard = max(SHARD_BYTES, 10 * pixels)
    memory = PROCESS_BYTES + PLANNED_BYTES_A_PIXEL * pixels + 3 * shard + 100 * rows + 400 * dyes
    return Cost(int(memory), int(disk), cpu_s + 1e-6 * pixels)


def camera_known(camera: LightCamera, detector: LightDetector) -> Mapping[str, Any]:
    """Return what an operator knows of a camera, maps to four digits, as text has them.

    Maps of more than 512 x 512 pixels aren't told: as text they would fill the memory.
    """
    large = detector.shape[0] * detector.shape[1] > MOST_PIXELS_TOLD
    known = camera.settings(detector)
    if large and known["calibrated"]:
        known = {k: v for k, v in known.items() if not isinstance(v, np.ndarray)}
        known["calibrated"] = False
    return {
        name: np.round(np.asarray(value, np.float64), 4).tolist()
        if isinstance(value, np.ndarray)
        else value
        for name, value in known.items()
    }
