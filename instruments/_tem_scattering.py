"""From atoms to images: scatter through the configurations, and image with the lens as it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nanophantom.instruments._zero_loss import ZeroLoss
from nanophantom.simcore.electrons import multislice
from nanophantom.simcore.electrons.band import Band
from nanophantom.simcore.electrons.cell import Cell
from nanophantom.simcore.electrons.configurations import Configurations
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.imaging import ImageFormation, stopped_by_aperture
from nanophantom.simcore.fields import Array
from nanophantom.simcore.schedule import Angles

if TYPE_CHECKING:
    from nanophantom.instruments.tem import TEM

Images = npt.NDArray[np.float32]


class Lens(NamedTuple):
    """What a frame is imaged with: frames of an equal lens and specimen share their image."""

    coefficients: tuple[tuple[str, float], ...]
    tilts_mrad: tuple[Angles, ...]


@dataclass(frozen=True, eq=False)
class Scattering:
    """The scattering and imaging of one specimen; what a frame's image is made of."""

    tem: TEM
    cell: Cell
    configurations: Configurations
    zero_loss: ZeroLoss | None

    @property
    def bandwidth_per_A(self) -> float:
        """Highest spatial frequency of an image: twice that of the waves that pass."""
        angle = min(self.tem.optics.aperture_mrad or math.inf, self.tem.band_limit_mrad)
        return 2 * math.sin(angle * 1e-3) / float(wavelength(self.tem.energy_kev))

    @property
    def oversampling(self) -> int:
        """Samples per camera pixel edge, enough for the image's whole bandwidth."""
        return max(1, math.ceil(self.bandwidth_per_A * 2 * self.cell.pixel_nm * 10.0))

    @cached_property
    def band(self) -> Band:
        """The frequencies of an image; an unfiltered background has others."""
        limit = self.bandwidth_per_A
        if self.zero_loss is not None and self.tem.energy_filter == "none":
            limit = math.inf
        return Band.within(self.image_shape, self.cell.extent_A, min(limit, 1e6))

    @property
    def image_shape(self) -> tuple[int, int]:
        """Samples of an image of the whole cell."""
        f = self.oversampling
        return self.cell.shape[0] * f, self.cell.shape[1] * f

    def engine(self, tilt_mrad: Angles) -> multislice.Multislice:
        """Return the engine for a tilt of the beam."""
        return multislice.Multislice(self.configurations.grid, self.tem.energy_kev, (), tilt_mrad)

    def scatter(
        self, tilt_mrad: Angles, configuration: int, changed: Configurations | None = None
    ) -> dict[str, Array]:
        """Send a tilted plane wave through one thermal configuration.

        Parameters
        ----------
        tilt_mrad
            Tilt of the beam.
        configuration
            Which one.
        changed
            The specimen as it has become; none: as it was at the beginning.

        Returns
        -------
        dict
            ``wave_k``, the Fourier coefficients of the exit wave, zero-loss where that is asked
            for; the fractions of the incident intensity ``kept`` in the wave, ``lost`` at the
            band limit and ``stopped`` by the aperture, before any loss of energy.
        """
        tem, configurations = self.tem, changed or self.configurations
        wave = self.engine(tilt_mrad).propagate(
            multislice.plane_wave(configurations.grid), configurations.steps(configuration)
        )
        stopped = stopped_by_aperture(
            wave.wave_k,
            extent_A=wave.extent_A,
            energy_kev=tem.energy_kev,
            aperture_mrad=tem.optics.aperture_mrad,
            tilt_mrad=tilt_mrad,
            aperture_shift_mrad=tem.optics.aperture_shift_mrad,
        )
        wave_k = wave.wave_k
        if self.zero_loss is not None:
            wave_k = self.zero_loss.attenuated(wave_k, configurations.grid.wave_mask)
        return {
            "wave_k": wave_k,
            "kept": np.array(wave.kept),
            "lost": np.array(wave.lost),
            "stopped": np.array(stopped),
        }

    def formation(self, lens: Lens, tilt_mrad: Angles) -> ImageFormation:
        """Return the partially coherent lens."""
        tem, optics, grid = self.tem, self.tem.optics, self.configurations.grid
        return ImageFormation(
            grid.wave_shape,
            extent_A=grid.extent_A,
            energy_kev=tem.energy_kev,
            coefficients=dict(lens.coefficients),
            aperture_mrad=optics.aperture_mrad,
            aperture_shift_mrad=optics.aperture_shift_mrad,
            focal_spread_A=optics.focal_spread_A(tem.energy_kev),
            convergence_mrad=optics.convergence_mrad,
            tilt_mrad=tilt_mrad,
            shape=self.image_shape,
        )

    def image(self, formation: ImageFormation, part: Mapping[str, Array]) -> Images:
        """Return the image of one exit wave on the cell's grid; 1 is the bare beam."""
        image = formation.image(part["wave_k"])
        if self.zero_loss is not None and self.tem.energy_filter == "none":
            passed = float(part["kept"] - part["stopped"])
            image += np.float32(passed) * self._background
        return image

    def mean_image(self, changed: Configurations, lens: Lens) -> Images:
        """Return the image of a changed specimen, averaged over tilts and configurations."""
        total = np.zeros(self.image_shape)
        for tilt in lens.tilts_mrad:
            formation = self.formation(lens, tilt)
            for c in range(changed.count):
                total += self.image(formation, self.scatter(tilt, c, changed))
        total /= len(lens.tilts_mrad) * changed.count
        return total.astype(np.float32)

    @cached_property
    def _background(self) -> Images:
        """Part of the electrons that lost energy, where they lost it."""
        assert self.zero_loss is not None
        return (1.0 - self.zero_loss.factor(self.image_shape)).astype(np.float32)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without what can be computed from the rest."""
        state = self.__dict__.copy()
        for name in ("_background", "band"):
            state.pop(name, None)
        return state
