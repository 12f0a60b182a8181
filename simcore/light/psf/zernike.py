"""Aberrations and phase masks in the pupil: Zernike polynomials and the double helix.

Pupil coordinates: radius rho from 0 to 1 at the rim, angle phi from x (right) towards y (down),
as on the camera.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nanophantom.simcore.models import Model

Floats = npt.NDArray[np.float64]


class Aberration(Model):
    """One Zernike polynomial of the wavefront.

    The polynomials are R. J. Noll's (J. Opt. Soc. Am. 66 (1976) 207): 4 defocus, 5 oblique and 6
    vertical astigmatism, 7 and 8 coma along y and x, 9 and 10 trefoil, 11 spherical aberration.
    The light's phase is multiplied by exp(+2 pi i path / wavelength). A positive number 6 makes a
    spot narrow in x above the focal plane and narrow in y below.
    """

    noll: int = Field(ge=2, le=66)
    """Noll's number of the polynomial."""
    rms_nm: float
    """Root mean square of the optical path over the pupil, with its sign."""

    def path_nm(self, rho: Floats, phi: Floats) -> Floats:
        """Return the optical path over the pupil."""
        return self.rms_nm * zernike(self.noll, rho, phi)


def noll_order(j: int) -> tuple[int, int]:
    """Return radial order n and azimuthal order m of Noll's polynomial j; m < 0 is a sine."""
    if j < 1:
        raise ValueError(f"Noll's numbers begin at 1, got {j}")
    n, k = 0, j - 1
    while k > n:
        n += 1
        k -= n
    m = n % 2 + 2 * ((k + (n + 1) % 2) // 2)
    return n, m if j % 2 == 0 else -m


def zernike(j: int, rho: npt.ArrayLike, phi: npt.ArrayLike) -> Floats:
    """Return Noll's Zernike polynomial j; its mean square over the unit disc is 1."""
    n, signed_m = noll_order(j)
    m = abs(signed_m)
    r, angle = np.asarray(rho, np.float64), np.asarray(phi, np.float64)
    radial = np.zeros_like(r)
    for s in range((n - m) // 2 + 1):
        below = math.factorial(s) * math.factorial((n + m) // 2 - s)
        below *= math.factorial((n - m) // 2 - s)
        radial += (-1) ** s * math.factorial(n - s) / below * r ** (n - 2 * s)
    if m == 0:
        return np.asarray(math.sqrt(n + 1) * radial * np.ones_like(angle))
    wave = np.cos(m * angle) if signed_m > 0 else np.sin(m * angle)
    return np.asarray(math.sqrt(2 * (n + 1)) * radial * wave)


def zone_radii(zones: int) -> tuple[float, ...]:
    """Return the inner borders of the zones of equal area of a double-helix mask."""
    return tuple(math.sqrt(k / zones) for k in range(1, zones))


def double_helix(zones: int, rho: npt.ArrayLike, phi: npt.ArrayLike) -> Floats:
    """Return the phase of a mask that turns a spot into two lobes that rotate with z, rad.

    Zones of equal area carry vortices of charge 1, 3, 5 ... from the centre outwards (S. Prasad,
    Opt. Lett. 38 (2013) 585, whose charges 1, 2, 3 ... give one lobe). Defocus z shifts the phase
    of zone l by ``-psi (2l - 1) / (2 zones)`` on average, psi = pi NA^2 z / (n wavelength): what a
    rotation by ``psi / (2 zones)``, from x towards y, does. The lobes turn faster by a tenth,
    because zones count more at their outer borders.
    """
    zone = np.clip(np.floor(zones * np.asarray(rho, np.float64) ** 2), 0, zones - 1)
    return np.asarray((2 * zone + 1) * np.asarray(phi, np.float64))
