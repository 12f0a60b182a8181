"""How fast a feedback loop can scan: the closed forms of high-speed force microscopy.

T. Ando, T. Uchihashi & T. Fukuma, Prog. Surf. Sci. 83 (2008) 337: every element of the loop delays
it, and the delays set the frequency f_B up to which it follows.
"""

from __future__ import annotations

import math

from nanophantom.simcore.probes.cantilever import Cantilever
from nanophantom.simcore.probes.feedback import Stage


def loop_bandwidth_hz(
    lever: Cantilever, stage: Stage, *, parachuting_s: float = 0.0, delay_s: float = 0.0
) -> float:
    """Return the feedback bandwidth f_B of amplitude modulation, at a phase lag of 45 degrees.

    ``f_B = (f_c / 8) / (1 + 2 Q_c / pi + 2 Q_s f_c / (pi f_s) + 2 f_c (t_p + d))``: the reading of
    an amplitude takes half a cycle, lever and stage their ring-down, parachuting and electronics
    the rest.

    Parameters
    ----------
    parachuting_s
        Mean time t_p that the tip is off the surface behind edges.
    delay_s
        Further delays d: integration in the controller, converters.

    Raises
    ------
    ValueError
        A time is negative.
    """
    if parachuting_s < 0 or delay_s < 0:
        raise ValueError("parachuting_s and delay_s must be 0 or more")
    lever_hz, stage_hz = 1e3 * lever.resonance_khz, 1e3 * stage.resonance_khz
    delays = 1.0 + 2.0 * lever.quality_factor / math.pi
    delays += 2.0 * stage.quality_factor * lever_hz / (math.pi * stage_hz)
    delays += 2.0 * lever_hz * (parachuting_s + delay_s)
    return lever_hz / 8.0 / delays


def frame_rate_hz(bandwidth_hz: float, wavelength_nm: float, lines: int, width_nm: float) -> float:
    """Return the fastest frame rate, ``R = wavelength f_B / (2 N W)``.

    Parameters
    ----------
    bandwidth_hz
        Of the loop.
    wavelength_nm
        Of the finest corrugation that it has to follow.
    lines, width_nm
        Lines N of a frame and their length W; both ways are scanned.

    Raises
    ------
    ValueError
        A number isn't positive.
    """
    if not (bandwidth_hz > 0 and wavelength_nm > 0 and lines > 0 and width_nm > 0):
        raise ValueError("bandwidth_hz, wavelength_nm, lines and width_nm must be positive")
    return wavelength_nm * bandwidth_hz / (2.0 * lines * width_nm)
