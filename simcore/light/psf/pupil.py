"""Point spread functions that come from a pupil: what Airy, Gibson-Lanni and vectorial share.

A model says which fields the objective's pupil holds and how their phase changes with the height
of the emitter and with the focus. Everything else is here: the image at points, and tables of it.

Heights z are those of the emitter above the coverslip's upper face. The focus is what the focus
drive shows: by how much the objective was raised from where an emitter at the coverslip is in
paraxial focus. In a sample of the immersion's index an emitter at z = focus is in focus; in water
seen through oil, focus moves less than the drive (:func:`widths.best_focus_nm` gives the setting).
"""

from __future__ import annotations

import math
from abc import abstractmethod

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.light.psf import table
from nanophantom.simcore.light.psf.harmonics import Complex, Harmonics, radial_nodes
from nanophantom.simcore.light.psf.optics import Optics
from nanophantom.simcore.light.psf.table import PsfTable
from nanophantom.simcore.models import Model

Floats = npt.NDArray[np.float64]

OUTSIDE = 0.01
"""Energy that may fall beyond a table's reach unless said otherwise."""
FARTHEST = 24.0
"""Longest reach that is tried, in units of wavelength / NA."""


class PupilPsf(Model):
    """A point spread function computed from the pupil of the objective."""

    @abstractmethod
    def fields(self, optics: Optics, wavelength_nm: float, rho: Floats, phi: Floats) -> Complex:
        """Return the fields in the pupil of an emitter in focus at the coverslip.

        Parameters
        ----------
        optics, wavelength_nm
            The objective; the vacuum wavelength.
        rho, phi : (k, 1), (1, angles)
            Pupil coordinates; see :mod:`zernike`.

        Returns
        -------
        (fields, k, angles)
            Fields whose intensities add: polarisations, dipoles.
        """

    @abstractmethod
    def path_nm(self, optics: Optics, rho: Floats, z_nm: Floats, focus_nm: Floats) -> Complex:
        """Return the optical path that height and focus add, (planes, k).

        An imaginary part is the decay of an evanescent wave.
        """

    def angles(self) -> int:
        """Return how many angles sample the fields."""
        return 8

    def breaks(self, optics: Optics) -> tuple[float, ...]:
        """Return the radii in the pupil at which the fields have a kink or a step."""
        return (optics.sample_index / optics.na,)

    def check_heights(self, optics: Optics, z_nm: Floats) -> None:
        """Refuse emitters that lie where the model has no sample.

        Raises
        ------
        ValueError
            An emitter lies below the coverslip's face, on which sample and immersion differ.
        """
        if not optics.matched and z_nm.min() < 0:
            raise ValueError(
                f"emitters must lie above the coverslip (z >= 0), got z = {z_nm.min():g} nm; only "
                "where sample_index equals immersion_index is there nothing to lie below"
            )

    def pupil(
        self,
        optics: Optics,
        wavelength_nm: float,
        z_nm: npt.ArrayLike,
        focus_nm: npt.ArrayLike,
        radius_nm: float,
    ) -> Harmonics:
        """Return the pupil in circular harmonics, good for images up to a radius.

        Parameters
        ----------
        z_nm, focus_nm : (planes,) or scalar
            Height of the emitter and setting of the focus in each plane.
        radius_nm
            Largest distance from the image's centre.
        """
        if not wavelength_nm > 0:
            raise ValueError(f"wavelength_nm must be positive, got {wavelength_nm:g}")
        z, focus = np.broadcast_arrays(np.atleast_1d(z_nm), np.atleast_1d(focus_nm))
        z, focus = z.astype(np.float64), focus.astype(np.float64)
        self.check_heights(optics, z)
        k = 2 * math.pi / wavelength_nm
        rim = self.path_nm(optics, np.array([0.0, 0.7, 0.97, 1.0]), z, focus).real
        turns = k * (np.abs(np.ptp(rim, axis=1)).max() + optics.na * radius_nm)
        rho, weight = radial_nodes(self.breaks(optics), 32 + math.ceil(0.75 * turns))
        n = self.angles()
        phi = 2 * np.pi * np.arange(n)[None] / n
        fields = self.fields(optics, wavelength_nm, rho[:, None], phi)
        depth = np.exp(1j * k * self.path_nm(optics, rho, z, focus))
        return Harmonics.of(fields, depth, rho, weight, k * optics.na)

    def density(
        self,
        optics: Optics,
        wavelength_nm: float,
        x_nm: npt.ArrayLike,
        y_nm: npt.ArrayLike,
        z_nm: npt.ArrayLike,
        focus_nm: npt.ArrayLike = 0.0,
    ) -> Floats:
        """Return the image of a photon at points, without pixels or tables.

        Parameters
        ----------
        x_nm, y_nm : (points,)
            Distance from the emitter.
        z_nm, focus_nm : (planes,) or scalar
            Height of the emitter above the coverslip, and setting of the focus.

        Returns
        -------
        (planes, points)
            Energy per nm^2; the integral over the infinite plane is 1.
        """
        x, y = np.atleast_1d(x_nm).astype(np.float64), np.atleast_1d(y_nm).astype(np.float64)
        r = np.hypot(x, y)
        pupil = self.pupil(optics, wavelength_nm, z_nm, focus_nm, float(r.max()))
        return pupil.density(r, np.arctan2(y, x))

    def reach(
        self,
        optics: Optics,
        wavelength_nm: float,
        z_nm: npt.ArrayLike,
        focus_nm: npt.ArrayLike,
        outside: float = OUTSIDE,
    ) -> float:
        """Return the radius beyond which no more than a given energy falls in any plane, nm.

        Sharp pupils spread light far: of the Airy pattern, 1 % falls beyond 10 wavelength / NA,
        of a vectorial one of high NA twice as far. No radius is longer than 24 wavelength / NA.
        """
        unit = wavelength_nm / optics.na
        pupil = self.pupil(optics, wavelength_nm, z_nm, focus_nm, FARTHEST * unit)
        step = 0.1 * unit
        r = step * np.arange(10 * FARTHEST)
        density = pupil.mean_density(r)
        rings = np.cumsum(2 * np.pi * r * density, axis=1) * step
        # Euler and Maclaurin's term: in the middle the rings grow in proportion to r
        inside = rings + np.pi * density[:, :1] * step**2 / 6.0
        beyond = (1.0 - inside).max(axis=0)
        return float(r[min(int(np.count_nonzero(beyond > outside)), len(r) - 1)])

    def table(
        self,
        optics: Optics,
        wavelength_nm: float,
        pixel_size_nm: float,
        z_range_nm: tuple[float, float],
        focus_nm: float = 0.0,
        *,
        z_step_nm: float | None = None,
        reach_nm: float | None = None,
        outside: float = OUTSIDE,
    ) -> PsfTable:
        """Sample the image over pixels for emitters at any z, at one setting of the focus.

        Parameters
        ----------
        optics, wavelength_nm
            The objective; the vacuum wavelength of the light.
        pixel_size_nm
            Size of a camera pixel at the specimen.
        z_range_nm
            Lowest and highest height of emitters above the coverslip.
        focus_nm
            Setting of the focus: see the module's text.
        z_step_nm
            Distance of the table's planes; none takes a twelfth of the shortest period along z.
        reach_nm
            How far from its centre a spot is drawn; none: see :meth:`reach`.
        outside
            Energy that may fall beyond the reach. Masks with sharp steps scatter more beyond any;
            the table says what it loses.
        """
        if not pixel_size_nm > 0:
            raise ValueError(f"pixel_size_nm must be positive, got {pixel_size_nm:g}")
        if z_step_nm is None:
            z_step_nm = z_step(optics, wavelength_nm)
        z = table.planes_over(z_range_nm, z_step_nm)
        if reach_nm is None:
            few = z[np.linspace(0, len(z) - 1, 5).astype(int)]
            reach_nm = self.reach(optics, wavelength_nm, few, focus_nm, outside)
        elif not reach_nm > 0:
            raise ValueError(f"reach_nm must be positive, got {reach_nm:g}")
        corner = math.sqrt(2.0) * (reach_nm + (table.GRID_MARGIN + 2) * pixel_size_nm)
        pupil = self.pupil(optics, wavelength_nm, z, focus_nm, corner)
        period = wavelength_nm / (2.0 * optics.na)
        return table.build(pupil, z, pixel_size_nm, reach_nm, period, wavelength_nm, focus_nm)


def z_step(optics: Optics, wavelength_nm: float) -> float:
    """Return a step along z that a cubic spline bridges: a twelfth of the shortest period there.

    Where the aperture exceeds the sample's index, evanescent light fades towards greater heights;
    the step is then no more than half its decay length.
    """
    n, na = optics.sample_index, optics.na
    if na < n:
        return wavelength_nm / (n - math.sqrt(n**2 - na**2)) / 12.0
    decay = wavelength_nm / (4 * math.pi * math.sqrt(na**2 - n**2)) if na > n else math.inf
    return min(wavelength_nm / n / 12.0, 0.5 * decay)
