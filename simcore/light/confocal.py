"""Scanned spots: a focused beam excites, the detector sees what passes a pinhole behind it.

A dye at a distance r from the beam's axis and a height z gives, of the photons that it would give
in the beam's centre without a pinhole, ``h(r, z) = exc(r, z) left(r, z) det(r, z)``: the beam's
intensity relative to that of its focus, what a depleting beam leaves (see `sted`), and the part of
the dye's image that falls on the pinhole (C. J. R. Sheppard & T. Wilson, Opt. Lett. 3 (1978) 115).
By reciprocity the beam is the image of a dye at the exciting wavelength. All spots are round.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.interpolate
import scipy.special

from nanophantom.simcore.fields import read_only
from nanophantom.simcore.light.psf import GaussianPsf, Optics
from nanophantom.simcore.light.psf.optics import AIRY_RADIUS
from nanophantom.simcore.light.psf.pupil import PupilPsf, z_step
from nanophantom.simcore.light.psf.splines import axial_operator
from nanophantom.simcore.light.psf.table import planes_over

Floats = npt.NDArray[np.float64]
Spread = PupilPsf | GaussianPsf
Beam = Callable[[Floats, Floats], Floats]
"""Intensity of a beam at distances from its axis (r,) and heights above focus (planes, 1)."""

IDEAL_FWHM = 0.36933
"""Full width at half maximum of the Airy pattern squared, in units of wavelength / NA: an ideal
confocal microscope with a point for a pinhole and equal wavelengths."""
FAR = 0.03
"""Part of a beam's power that may fall beyond the reach to which a dye sees it."""
DIM = 3e-4
"""Intensity, relative to the brightest at that height, that may be left at the reach."""
LOST = 1e-3
"""Part of a dye's detected light that may fall beyond the reach to which it is drawn."""
FARTHEST_SIGMAS = 5.0
FINE = 100  # samples over the width at half maximum of the sharpest spot: linear to 1e-4 of it
COARSE = 32  # samples over the shortest period of light, bridged by a cubic spline


def airy_unit_nm(wavelength_nm: float, na: float) -> float:
    """Return the diameter of the Airy disc, 1.22 wavelength / NA, referred to the specimen."""
    return 2.0 * AIRY_RADIUS * wavelength_nm / na


def throughput(pinhole_au: npt.ArrayLike) -> Floats:
    """Return the part of an in-focus dye's light that passes a centred pinhole, for an Airy spot.

    ``1 - J0(v)^2 - J1(v)^2`` with v = 2 pi NA radius / wavelength (Lord Rayleigh, 1881).

    Parameters
    ----------
    pinhole_au
        Diameter in Airy units.
    """
    v = 2.0 * math.pi * AIRY_RADIUS * np.asarray(pinhole_au, np.float64)
    return np.asarray(1.0 - scipy.special.j0(v) ** 2 - scipy.special.j1(v) ** 2)


def through_pinhole(r_nm: Floats, density: Floats, radius_nm: float, period_nm: float) -> Floats:
    """Return the part of a round image that a disc takes in, by the distance of their centres.

    Parameters
    ----------
    r_nm : (n,)
        Even distances from 0 on, at which the image is known.
    density : (planes, n)
        The image of one photon, 1/nm^2.
    radius_nm
        Radius of the disc.
    period_nm
        Shortest period in the image, which sets the nodes of the quadrature.

    Returns
    -------
    (planes, m)
        For the first m of the distances, as far as the image is known across the disc.
    """
    periods = 2.0 * radius_nm / period_nm
    x, w = np.polynomial.legendre.leggauss(8 + math.ceil(3 * periods))
    u, weight = 0.5 * radius_nm * (x + 1.0), 0.5 * radius_nm * w
    n = 12 + math.ceil(5 * periods)
    phi = np.pi * (np.arange(n) + 0.5) / n  # half the circle: the other is its mirror image
    y, along = u[:, None] * np.sin(phi), u[:, None] * np.cos(phi)
    weights = np.broadcast_to((2 * np.pi / n * weight * u)[:, None], y.shape).ravel()
    image = _spline(r_nm, density)
    inside = r_nm[r_nm + radius_nm <= r_nm[-1] * (1 + 1e-12)]
    parts = [image(np.hypot(r + along, y).ravel()) @ weights for r in inside]
    return np.asarray(np.stack(parts, axis=1))


def round_density(
    psf: Spread, optics: Optics, wavelength_nm: float, r_nm: Floats, z_nm: Floats, focus_nm: float
) -> Floats:
    """Return the image of one photon by distance from its centre, (planes, r), 1/nm^2.

    Raises
    ------
    ValueError
        The image isn't round at some height.
    """
    probe = 0.35 * wavelength_nm / optics.na
    angles = np.linspace(0.0, np.pi, 7)[:-1] + 0.2
    ring = psf.density(
        optics, wavelength_nm, probe * np.cos(angles), probe * np.sin(angles), z_nm, focus_nm
    )
    if (np.ptp(ring, axis=1) > 1e-4 * ring.max()).any():
        raise ValueError(
            "psf: a scanning microscope needs round spots here; leave out fixed dipoles, "
            "astigmatism, masks and aberrations that aren't round"
        )
    return psf.density(optics, wavelength_nm, r_nm, np.zeros_like(r_nm), z_nm, focus_nm)


@dataclass(frozen=True, eq=False)
class ScanSpots:
    """What a dye sees of the beams, and the detector of the dye, by distance and height.

    Attributes
    ----------
    z_nm : (planes,)
        Even heights of dyes above the coverslip.
    r_nm : (n,)
        Even distances of the dye from the beam's axis.
    excitation, left, passed : (planes, n)
        Intensity relative to that of the aberration-free focus; part of the excited dyes that
        depletion leaves to shine; part of their collected light that passes the pinhole.
    depletion : (planes, n)
        Intensity of the depleting beam relative to its crest in focus; 0 without one.
    reach_nm, drawn_nm : (planes,)
        How far a dye sees the beams, and how far the detector sees a dye.
    """

    z_nm: Floats
    r_nm: Floats
    excitation: Floats
    left: Floats
    passed: Floats
    depletion: Floats
    reach_nm: Floats
    drawn_nm: Floats

    @property
    def emitted(self) -> Floats:
        """Photons that the dye gives, relative to those in the focus of the exciting beam."""
        return np.asarray(self.excitation * self.left)

    @property
    def detected(self) -> Floats:
        """Likewise those that pass the pinhole: the effective point spread function."""
        return np.asarray(self.excitation * self.left * self.passed)

    def planes(self, z_nm: Floats) -> Floats:
        """Return heights in planes of the tables.

        Raises
        ------
        ValueError
            A height lies outside them.
        """
        step = self.z_nm[1] - self.z_nm[0]
        u = (np.asarray(z_nm, np.float64) - self.z_nm[0]) / step
        if u.size and not (u.min() > -1e-6 and u.max() < len(self.z_nm) - 1 + 1e-6):
            raise ValueError(
                f"dyes lie at z = {np.min(z_nm):g} ... {np.max(z_nm):g} nm; the spots are known at "
                f"{self.z_nm[0]:g} ... {self.z_nm[-1]:g} nm"
            )
        return np.asarray(u)

    def coefficients(self, table: Floats) -> Floats:
        """Return the coefficients of a table's splines along z, (planes + 2, n)."""
        return read_only(np.ascontiguousarray(axial_operator(len(table)) @ table))

    def at(self, table: Floats, z_nm: float) -> Floats:
        """Return a table's profile at a height, (n,)."""
        spline = scipy.interpolate.CubicSpline(self.z_nm, table)
        return np.asarray(spline(z_nm))


def scan_spots(
    psf: Spread,
    optics: Optics,
    excitation_nm: float,
    emission_nm: float,
    z_range_nm: tuple[float, float],
    focus_nm: float = 0.0,
    pinhole_au: float | None = 1.0,
    depletion: Beam | None = None,
    remaining: Callable[[Floats], Floats] | None = None,
    finest_nm: float | None = None,
    sharp_nm: float | None = None,
) -> ScanSpots:
    """Tabulate the spots of a confocal microscope, with or without depletion.

    Parameters
    ----------
    psf, optics
        Of the objective, for all wavelengths.
    excitation_nm, emission_nm
        Wavelengths of beam and dye.
    z_range_nm, focus_nm
        Lowest and highest dye above the coverslip; the setting of the focus.
    pinhole_au
        Its diameter in Airy units of the emission; none: no pinhole.
    depletion
        Intensity of the depleting beam relative to its crest.
    remaining
        What is left of the excitation under a relative intensity of the depleting beam.
    finest_nm
        Width at half maximum of the sharpest spot; none: that of an ideal confocal microscope.
    sharp_nm
        Height at which the depleting beam is focused; none: that of the setting of the focus.

    Raises
    ------
    ValueError
        The point spread function isn't round, or the optics can't be.
    """
    shorter = min(excitation_nm, emission_nm)
    z = planes_over(z_range_nm, z_step(optics, shorter))
    radius = 0.0 if pinhole_au is None else 0.5 * pinhole_au * airy_unit_nm(emission_nm, optics.na)
    period = shorter / (2.0 * optics.na)
    farthest = _farthest(psf, optics, max(excitation_nm, emission_nm), z, focus_nm)
    steps = math.ceil((farthest + radius) * COARSE / period) + 2
    coarse: Floats = np.asarray(period / COARSE * np.arange(steps), np.float64)
    beam = round_density(psf, optics, excitation_nm, coarse, z, focus_nm)
    focused = round_density(psf, optics, excitation_nm, coarse, np.zeros(1), 0.0)[0]
    focus = focused[0]
    if focus < 1e-3 * focused.max():
        raise ValueError("psf: a scanning microscope needs a bright focus, not an upright dipole's")
    fine = min(finest_nm or math.inf, IDEAL_FWHM * shorter / optics.na) / FINE
    r: Floats = np.asarray(fine * np.arange(math.ceil(farthest / fine) + 1), np.float64)
    excitation = _resampled(coarse, beam / focus, r)
    passed = np.ones_like(excitation)
    if pinhole_au is not None:
        image = round_density(psf, optics, emission_nm, coarse, z, focus_nm)
        taken = through_pinhole(coarse, image, radius, period)
        passed = np.minimum(_resampled(coarse[: taken.shape[1]], taken, r), 1.0)
    dark, left = np.zeros_like(excitation), np.ones_like(excitation)
    if depletion is not None and remaining is not None:
        crest = focus_nm if sharp_nm is None else sharp_nm
        dark = _resampled(coarse, depletion(coarse, z[:, None] - crest), r)
        left = remaining(dark)
    reach = _reach(r, excitation, FAR)
    if depletion is not None:
        reach = np.maximum(reach, _reach(r, dark, FAR))
    drawn = np.minimum(_reach(r, excitation * left * passed, LOST), reach)
    tables = (read_only(t) for t in (z, r, excitation, left, passed, dark, reach, drawn))
    return ScanSpots(*tables)


def _farthest(
    psf: Spread, optics: Optics, wavelength_nm: float, z_nm: Floats, focus_nm: float
) -> float:
    if isinstance(psf, GaussianPsf):
        widths = psf.sigmas(optics, wavelength_nm, z_nm, focus_nm)
        return FARTHEST_SIGMAS * float(np.max(widths))
    few = z_nm[np.linspace(0, len(z_nm) - 1, 5).astype(int)]
    return psf.reach(optics, wavelength_nm, few, focus_nm, FAR)


def _spline(r: Floats, table: Floats) -> Any:
    """Return the splines of profiles, (planes, n), which are even about r = 0."""
    ends = ((1, np.zeros(len(table))), "not-a-knot")
    return scipy.interpolate.CubicSpline(r, table, axis=1, bc_type=ends)


def _resampled(coarse: Floats, table: Floats, r: Floats) -> Floats:
    spline = _spline(coarse, table)
    return np.asarray(np.maximum(spline(np.minimum(r, coarse[-1])), 0.0))


def _reach(r: Floats, table: Floats, outside: float) -> Floats:
    """Return, by plane, the distance beyond which a spot is dim and little of its light falls."""
    rings = np.cumsum(table * r, axis=1)
    little = rings >= (1.0 - outside) * np.maximum(rings[:, -1:], 1e-300)
    beyond = np.maximum.accumulate(table[:, ::-1], axis=1)[:, ::-1]
    dim = beyond <= DIM * np.maximum(table.max(axis=1, keepdims=True), 1e-300)
    enough = little & dim
    enough[:, -1] = True
    return np.asarray(r[enough.argmax(axis=1)])
