"""What a dipole emits: its power near a coverslip, and the part that goes into a cone.

A dye that absorbs at a given rate, with a quantum yield near 1, gives a given number of photons.
What the coverslip does to the power of a dipole makes it emit sooner or later, not more often; it
decides only how its photons are shared between the objective and the rest of the world.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.light.psf.optics import Optics

Floats = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complex128]

PANEL_RAD = 12.0
"""Phase over which a panel of the quadrature extends, at most."""
NODES = 24


def axial_share(tilt_deg: float | None) -> float:
    """Return cos^2 of the angle to the axis; none: 1/3, the mean over all directions."""
    return 1.0 / 3.0 if tilt_deg is None else math.cos(math.radians(tilt_deg)) ** 2


def part_in_cone(na: float, index: float, tilt_deg: float | None) -> float:
    """Return the part of a dipole's light that goes into the objective's cone, no interface near.

    With c the cosine of half the cone's angle, ``(1 - 3c/2 + c^3/2) / 2`` of a dipole along the
    axis, ``(1 - 3c/4 - c^3/4) / 2`` of one across, by their patterns of radiation sin^2; averaged
    over directions, ``(1 - c) / 2``.
    """
    c = math.sqrt(1.0 - (na / index) ** 2)
    axial = 0.5 * (1.0 - 1.5 * c + 0.5 * c**3)
    across = 0.5 * (1.0 - 0.75 * c - 0.25 * c**3)
    along = axial_share(tilt_deg)
    return along * axial + (1.0 - along) * across


def emitted_power(
    optics: Optics, wavelength_nm: float, z_nm: npt.ArrayLike, tilt_deg: float | None
) -> Floats:
    """Return the power of a dipole above the coverslip over that in a sample without one.

    By the field that the coverslip's face sends back to the dipole (L. Novotny & B. Hecht,
    Principles of Nano-Optics, ch. 10), with s and c the sine and cosine in the sample::

        axial:   1 + 3/2 Re integral of s^3 / c r_p exp(2 i k z c) ds
        across:  1 + 3/4 Re integral of s / c (r_s - c^2 r_p) exp(2 i k z c) ds

    over s from 0 to infinity; beyond both media's propagating waves r is real and 1/c imaginary,
    and nothing is added. Glass ends far away; what its other face sends back is left out.

    Parameters
    ----------
    optics, wavelength_nm
        Indices of sample and coverslip; the vacuum wavelength.
    z_nm : (planes,) or scalar
        Heights above the coverslip.
    tilt_deg
        Angle from the axis; none: the dipole turns fast, and its power is the mean.

    Returns
    -------
    (planes,)
        1 where sample and immersion are matched: no face is counted there, and heights may be
        negative.

    Raises
    ------
    ValueError
        A dipole lies below the face.
    """
    z = np.atleast_1d(np.asarray(z_nm, np.float64))
    if optics.matched or optics.sample_index == optics.coverslip_index:
        return np.ones(len(z))
    if z.min() < 0:
        raise ValueError(f"a dipole must lie above the coverslip (z >= 0), got {z.min():g} nm")
    m2 = (optics.coverslip_index / optics.sample_index) ** 2
    twice_k = 4 * math.pi * optics.sample_index / wavelength_nm
    panels = 2 + math.ceil(twice_k * float(z.max()) / PANEL_RAD)
    c, dc = _cosines(m2, panels)
    glass = np.sqrt(m2 - 1.0 + c**2)  # cosine in the glass times the ratio of indices
    r_s = (c - glass) / (c + glass)
    r_p = (m2 * c - glass) / (m2 * c + glass)
    there_and_back = np.exp(1j * twice_k * z[:, None] * c)
    axial = 1.0 + 1.5 * (there_and_back @ ((1.0 - c**2) * r_p * dc)).real
    across = 1.0 + 0.75 * (there_and_back @ ((r_s - c**2 * r_p) * dc)).real
    along = axial_share(tilt_deg)
    return np.asarray(along * axial + (1.0 - along) * across)


def _cosines(m2: float, panels: int) -> tuple[Complex, Complex]:
    """Return nodes and weights over c = cos t in the sample, with s ds / c = -dc.

    From 0 to 1, and up the imaginary axis as far as light propagates in the glass; graded at the
    square roots' ends, where one of the cosines vanishes.
    """
    kink = math.sqrt(abs(m2 - 1.0))
    if m2 < 1.0:
        parts = [_graded(0.0, kink, panels), _graded(kink, 1.0, panels)]
    else:
        forbidden, weight = _graded(0.0, kink, panels)
        parts = [_graded(0.0, 1.0, panels), (1j * forbidden, -1j * weight)]
    c, dc = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return c.astype(np.complex128), dc.astype(np.complex128)


def _graded(low: float, high: float, panels: int) -> tuple[npt.NDArray[np.number], ...]:
    """Return nodes and weights of panels that are fine at both ends, as sin^2."""
    x, w = np.polynomial.legendre.leggauss(NODES)
    half = 0.25 * math.pi / panels
    t = (half * (2 * np.arange(panels)[:, None] + 1 + x)).ravel()
    weight = np.tile(half * w, panels)
    return low + (high - low) * np.sin(t) ** 2, (high - low) * np.sin(2 * t) * weight
