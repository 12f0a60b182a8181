"""Spots of a specimen that drifts along the axis, through an objective that is focused once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.light.psf import (
    AiryPsf,
    GaussianPsf,
    GibsonLanniPsf,
    Optics,
    SpotRenderer,
    VectorialPsf,
    collection_efficiency,
)
from nanophantom.simcore.light.psf.dipole_power import part_in_cone
from nanophantom.simcore.light.psf.spots import Image
from nanophantom.simcore.light.psf.widths import best_focus_nm

Floats = npt.NDArray[np.float64]
AnyPsf = GaussianPsf | AiryPsf | GibsonLanniPsf | VectorialPsf

TABLE_STEP_NM = 25.0
MOST_TABLES = 48


def drive_setting_nm(psf: AnyPsf, optics: Optics, wavelength_nm: float, height_nm: float) -> float:
    """Return where the focus drive stands when a dye at a height above the coverslip is sharp.

    The height itself where sample and immersion have one index; else light is refracted at the
    coverslip, and the setting is that which makes the spot of the unaberrated objective brightest.
    """
    if height_is_focus(psf, optics):
        return height_nm
    plain = psf
    if isinstance(psf, VectorialPsf):
        plain = psf.model_copy(update={"aberrations": (), "double_helix_zones": None})
    return best_focus_nm(plain, optics, wavelength_nm, height_nm)


def height_is_focus(psf: AnyPsf, optics: Optics) -> bool:
    """Whether raising a dye does what lowering the focus does."""
    return isinstance(psf, GaussianPsf | AiryPsf) or optics.matched


def relative_collection(
    psf: AnyPsf, optics: Optics, wavelength_nm: float, z_nm: npt.ArrayLike
) -> Floats:
    """Return how much of a dye's light is collected at each height, over that of the formula.

    Only vectorial optics know of more than the formula: supercritical light near a coverslip of
    higher index, and dipoles that stand fixed and shine most across their axis.

    Raises
    ------
    ValueError
        A dye lies below a coverslip on which sample and immersion differ.
    """
    z = np.asarray(z_nm, np.float64)
    if not isinstance(psf, VectorialPsf) or not z.size:
        return np.ones(z.shape)
    cone = collection_efficiency(optics.na, optics.immersion_index)
    if optics.matched:
        tilt = psf.dipole_tilt_deg
        part = cone if tilt is None else part_in_cone(optics.na, optics.immersion_index, tilt)
        return np.full(z.shape, part / cone)
    psf.check_heights(optics, z)
    # steps of a hundredth of height + 1000 nm: fields near the coverslip vary fastest
    low, high = (math.log1p(float(f(z)) / 1000.0) for f in (np.min, np.max))
    heights = 1000.0 * np.expm1(np.linspace(low, high, 2 + math.ceil((high - low) / 0.01)))
    return np.interp(z, heights, psf.collected(optics, wavelength_nm, heights) / cone)


@dataclass(frozen=True, eq=False)
class FocusedSpots:
    """Spots tabulated for all heights of dyes and all positions of the stage.

    Attributes
    ----------
    tables
        One where heights and focus are the same thing, else one a step of the stage.
    stage_nm
        Positions of the stage that the tables stand for; empty for a single table.
    """

    tables: tuple[SpotRenderer, ...]
    stage_nm: Floats

    @classmethod
    def of(
        cls,
        psf: AnyPsf,
        optics: Optics,
        wavelength_nm: float,
        pixel_size_nm: float,
        heights_nm: tuple[float, float],
        stage_nm: tuple[float, float],
        focus_nm: float,
    ) -> FocusedSpots:
        """Tabulate spots.

        Parameters
        ----------
        psf, optics, wavelength_nm, pixel_size_nm
            What spots look like.
        heights_nm
            Lowest and highest dye above the coverslip.
        stage_nm
            Lowest and highest position of the stage; 0 is where it stood when it was focused.
        focus_nm
            Height above the coverslip that was sharp then.

        Raises
        ------
        ValueError
            The stage moves so far that too many tables would be needed.
        """
        setting = drive_setting_nm(psf, optics, wavelength_nm, focus_nm)
        low, high = heights_nm
        if height_is_focus(psf, optics):
            reached = (low + stage_nm[0], high + stage_nm[1])
            one = psf.table(optics, wavelength_nm, pixel_size_nm, reached, setting)
            return cls((one,), np.zeros(0))
        if low < 0:
            raise ValueError(
                f"sample: a dye lies {-low:.3g} nm below the coverslip, where {psf.type} optics "
                "with an index of the sample unlike that of the immersion have no light from; "
                "raise the structures (height_nm)"
            )
        span = stage_nm[1] - stage_nm[0]
        n = 1 + math.ceil(span / TABLE_STEP_NM)
        if n > MOST_TABLES:
            raise ValueError(
                f"drift: the stage moves by {span:.0f} nm along the axis, and {psf.type} optics "
                "with an index of the sample unlike that of the immersion are tabulated for "
                f"{TABLE_STEP_NM * (MOST_TABLES - 1):.0f} nm at most; lower focus_speed_nm_per_s "
                "or focus_walk_nm_per_sqrt_s"
            )
        stages = np.linspace(*stage_nm, n)
        tables = tuple(
            psf.table(optics, wavelength_nm, pixel_size_nm, heights_nm, setting - float(s))
            for s in stages
        )
        return cls(tables, stages if n > 1 else np.zeros(0))

    @property
    def reach_nm(self) -> float:
        """How far from its centre a spot is drawn."""
        return max(table.reach_nm for table in self.tables)

    def at(self, z_nm: float, ny: int, nx: int, x: float, y: float) -> Image:
        """Return the image of one photon with the stage at its lowest; see `SpotRenderer.at`."""
        return self.tables[0].at(z_nm, ny, nx, x, y)

    @property
    def height_is_focus(self) -> bool:
        """Whether one table serves all positions of the stage."""
        return len(self.stage_nm) == 0

    def add(
        self,
        image: Image,
        x_px: Floats,
        y_px: Floats,
        z_nm: Floats,
        photons: Floats,
        stage_nm: float,
    ) -> None:
        """Add spots to an image, in place; between two tables their images are mixed linearly.

        Parameters
        ----------
        image, x_px, y_px, photons
            As in `SpotRenderer.add`.
        z_nm
            Heights above the coverslip.
        stage_nm
            Where the stage stands.
        """
        if len(self.tables) == 1:
            shift = stage_nm if self.height_is_focus else 0.0
            self.tables[0].add(image, x_px, y_px, z_nm + shift, photons)
            return
        place = np.interp(stage_nm, self.stage_nm, np.arange(len(self.tables)))
        k = min(int(place), len(self.tables) - 2)
        for table, part in ((self.tables[k], k + 1 - place), (self.tables[k + 1], place - k)):
            if part > 0:
                table.add(image, x_px, y_px, z_nm, part * photons)
