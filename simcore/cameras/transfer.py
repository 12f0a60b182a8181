r"""How much of each spatial frequency a sensor passes, and at which price in noise.

An electron that is scattered sideways in the sensor is detected in another place. That moves
Poisson events, so the events stay independent and only their expectation is blurred: by the factor
*M_pre*, the characteristic function of the displacement and of the pixel's area. What happens after
the events are drawn (charge or light that spreads, the weighting of neighbours) blurs events and
their noise alike: by *M_post*. With n arriving electrons a pixel, a fraction *efficiency* of them
detected, and a relative variance v of what one of them deposits::

    signal          n efficiency M_pre M_post
    noise power     n efficiency (1 + v) M_post^2
    MTF             M_pre M_post
    NNPS            noise power / (n efficiency)^2 = (1 + v) M_post^2 / (n efficiency)
    DQE             MTF^2 / (n NNPS) = DQE_0 M_pre^2,    DQE_0 = efficiency / (1 + v)

(the definitions of NNPS and DQE: R. R. Meyer & A. I. Kirkland, Microsc. Res. Tech. 49 (2000) 269;
G. McMullan et al., Ultramicroscopy 109 (2009) 1126). So a measured MTF and DQE say which blur is
which. Since a displacement has a probability density, M_pre can't exceed the pixel's own sinc, nor
fall arbitrarily late and steeply: DQE <= DQE_0 sinc^2, and a scattering part that a Gaussian at the
steepest describes. A measured pair that asks for more gets the nearest DQE that is possible.

Frequencies q are in units of the Nyquist frequency, k in cycles per pixel: q = 2 |k|.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import scipy.optimize

Floats = npt.NDArray[np.float64]

SINC_HALF, SINC_NYQUIST = float(np.sinc(0.25)), float(np.sinc(0.5))
IDEAL_DQE = (1.0, SINC_HALF**2, SINC_NYQUIST**2)
"""DQE of a perfect counter at 0, 1/2 and 1 Nyquist: the pixel's area alone."""
GAUSSIAN = 2.0  # the largest power of q whose falling exponential belongs to a probability


@dataclass(frozen=True)
class Curve:
    """A radial transfer function: 1 - weight + weight exp(-rate q^power).

    With weight 1 and power 2 a Gaussian blur, with power 1 a Lorentzian; a smaller weight leaves
    some sharp and spreads the rest into a Lorentzian halo.
    """

    weight: float
    rate: float
    power: float

    def __call__(self, q: npt.ArrayLike) -> Floats:
        """Return the transfer at a frequency in units of Nyquist."""
        spread = np.exp(-self.rate * np.asarray(q, dtype=np.float64) ** self.power)
        return np.asarray(1.0 - self.weight + self.weight * spread)

    @classmethod
    def through(cls, half: float, nyquist: float) -> Self:
        """Return the curve of two values, at 1/2 and 1 Nyquist.

        Raises
        ------
        ValueError
            Not 1 > half > nyquist > 0.
        """
        if not 1.0 > half > nyquist > 0.0:
            raise ValueError(
                f"no blur passes {half:.3g} at half of Nyquist and {nyquist:.3g} at Nyquist; "
                "the second must be smaller, and both between 0 and 1"
            )
        power = math.log2(math.log(nyquist) / math.log(half))
        if power >= 1.0:
            return cls(1.0, -math.log(nyquist), power)
        kept = (1.0 - nyquist) / (1.0 - half) - 1.0  # exp(-rate / 2)
        return cls((1.0 - half) / (1.0 - kept), -2.0 * math.log(kept), 1.0)


def pixel_area(ky: npt.ArrayLike, kx: npt.ArrayLike) -> Floats:
    """Return what integration over a square pixel passes, at frequencies in cycles per pixel."""
    return np.asarray(np.sinc(np.asarray(ky)) * np.sinc(np.asarray(kx)))


@dataclass(frozen=True)
class Response:
    """The two blurs of a sensor.

    Attributes
    ----------
    scatter
        Of electrons before they are detected, beside the pixel's area.
    spread
        Of the signal after; none: it stays in its pixel.
    """

    scatter: Curve
    spread: Curve | None

    def before(self, ky: npt.ArrayLike, kx: npt.ArrayLike) -> Floats:
        """Return M_pre, at frequencies in cycles per pixel, also beyond Nyquist."""
        return pixel_area(ky, kx) * self.scatter(_nyquist_units(ky, kx))

    def after(self, ky: npt.ArrayLike, kx: npt.ArrayLike) -> Floats:
        """Return M_post, at frequencies in cycles per pixel."""
        q = _nyquist_units(ky, kx)
        return np.ones_like(q) if self.spread is None else self.spread(q)


@functools.lru_cache(maxsize=256)
def response(mtf: tuple[float, float] | None, dqe: tuple[float, float, float]) -> Response:
    """Find the blurs of a measured sensor.

    Parameters
    ----------
    mtf
        At 1/2 and 1 Nyquist, along an axis; none: nothing spreads after detection.
    dqe
        At 0, 1/2 and 1 Nyquist, along an axis.

    Raises
    ------
    ValueError
        A curve that rises, or leaves 0 ... 1.
    """
    zero, half, nyquist = dqe
    if not (0.0 < zero <= 1.0 and 1.0 >= half > nyquist > 0.0):
        raise ValueError(f"dqe: {dqe} must lie between 0 and 1 and fall from 1/2 to 1 Nyquist")
    try:
        scatter = _scatter(zero, half, nyquist)
    except ValueError as why:
        raise ValueError(f"dqe: {why} (after the pixel's own area and the value at 0)") from None
    if mtf is None:
        return Response(scatter, None)
    if not 1.0 > mtf[0] > mtf[1] > 0.0:
        raise ValueError(f"mtf: {mtf} must lie between 0 and 1 and fall")
    rest = (
        mtf[0] / (SINC_HALF * float(scatter(0.5))),
        mtf[1] / (SINC_NYQUIST * float(scatter(1.0))),
    )
    if min(rest) >= 1.0:
        return Response(scatter, None)  # the electrons' own scatter blurs that much already
    try:
        return Response(scatter, Curve.through(min(rest[0], 1.0 - 1e-6), rest[1]))
    except ValueError as why:
        raise ValueError(f"mtf: {why} (after what the dqe leaves of the signal)") from None


def _scatter(zero: float, half: float, nyquist: float) -> Curve:
    """Return the curve of a DQE, or the nearest one whose displacements are probabilities."""
    wanted = (
        math.sqrt(half / zero) / SINC_HALF,
        math.sqrt(nyquist / zero) / SINC_NYQUIST,
    )
    if max(wanted) < 1.0 - 1e-9:
        curve = Curve.through(*wanted)
        if curve.power <= GAUSSIAN:
            return curve

    def miss(rate: float) -> float:
        at_half = zero * (SINC_HALF * math.exp(-rate / 4.0)) ** 2
        at_nyquist = zero * (SINC_NYQUIST * math.exp(-rate)) ** 2
        return (at_half - half) ** 2 + (at_nyquist - nyquist) ** 2

    found = scipy.optimize.minimize_scalar(miss, bounds=(0.0, 20.0), options={"xatol": 1e-9})
    rate = float(found.x)
    return Curve(1.0, rate if rate > 1e-6 else 0.0, GAUSSIAN)


def _nyquist_units(ky: npt.ArrayLike, kx: npt.ArrayLike) -> Floats:
    return 2.0 * np.hypot(np.asarray(ky, dtype=np.float64), np.asarray(kx, dtype=np.float64))
