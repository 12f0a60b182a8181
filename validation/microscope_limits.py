"""How fine a microscope's image can be, by theory, from its settings and what its dyes gave."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import scipy.integrate
import scipy.optimize
import scipy.special

from nanophantom.analysis.localization_precision import mortensen_likelihood
from nanophantom.simcore.light.sim_patterns import cutoff_per_nm, optical_transfer
from nanophantom.simcore.light.sted import resolution_nm as sted_resolution_nm
from nanophantom.validation.microscope_images import SEEN
from nanophantom.validation.part_of import part_of

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]

OF_A_FWHM = 0.5 * math.pi / math.sqrt(-math.log(2.0) * math.log(SEEN))
"""Period at which a Gaussian spot leaves a tenth of the contrast, over its width at half maximum:
the transfer is exp(-(pi w / p)^2 / (4 ln 2))."""


@dataclass(frozen=True)
class Theory:
    """What theory says of an image.

    Attributes
    ----------
    kind
        "widefield", "confocal", "sted", "sim" or "smlm".
    resolution_nm
        Shortest period that can be right; None where nothing but noise ends it.
    resolved_nm
        Period at which spokes keep a tenth of their contrast; None if none is known.
    why
        In words.
    """

    kind: str
    resolution_nm: float | None
    resolved_nm: float | None
    why: str


def kind_of(dataset: Observed, microscope: str) -> str:
    """Return what kind of microscope it is, by its signals and settings."""
    own = part_of(dataset, microscope)
    if "movie" in own.signals:
        return "smlm"
    if "raw" in own.signals:
        return "sim"
    if "saturation" in own.settings:
        return "sted"
    return "confocal" if "dwell_s" in own.settings else "widefield"


def theory(dataset: Observed, microscope: str, *, deconvolved: bool = False) -> Theory:
    """Return the limits of a microscope's image."""
    own, kind = part_of(dataset, microscope), kind_of(dataset, microscope)
    told: Mapping[str, Any] = own.settings
    na, emission, excitation = (
        float(told[name]) for name in ("na", "wavelength_nm", "excitation_nm")
    )
    passed = cutoff_per_nm(na, emission)
    if kind == "widefield" and deconvolved:
        why = f"nothing below {1 / passed:.0f} nm passes: what is seen there is a guess"
        return Theory(kind, 1 / passed, None, why)
    if kind == "widefield":
        why = f"the objective passes nothing below {1 / passed:.0f} nm"
        return Theory(kind, 1 / passed, airy_period_nm(na, emission), why)
    if kind == "confocal":
        both = passed + cutoff_per_nm(na, excitation)
        why = "Airy patterns of both wavelengths multiplied, as with a closed pinhole"
        return Theory(kind, 1 / both, confocal_period_nm(na, excitation, emission), why)
    if kind == "sim":
        finest = 1 / (passed + float(told["pattern"]["k_per_nm"]))
        why = "the objective's largest frequency plus that of the stripes"
        return Theory(kind, finest, finest, why)
    if kind == "sted":
        width = sted_resolution_nm(excitation, na, float(told["saturation"]))
        why = f"spots {width:.1f} nm wide, wavelength / (2 NA sqrt(1 + saturation))"
        return Theory(kind, None, OF_A_FWHM * width, why)
    sigma = burst_precision_nm(told, float(own.truth("background")["photons"].mean()))
    why = f"bursts of mean brightness are placed to {sigma:.1f} nm at best"
    spokes = math.pi * sigma * math.sqrt(2.0 / -math.log(SEEN))
    return Theory(kind, frc_of_bursts_nm(bursts_of_dyes(own), sigma), spokes, why)


def airy_period_nm(na: float, wavelength_nm: float) -> float:
    """Return the period at which an objective's transfer is a tenth."""
    cutoff = cutoff_per_nm(na, wavelength_nm)
    part = scipy.optimize.brentq(lambda s: float(optical_transfer(s, 1.0)) - SEEN, 0.0, 1.0)
    return 1.0 / (float(part) * cutoff)


def confocal_period_nm(na: float, excitation_nm: float, emission_nm: float) -> float:
    """Return the period at which the transfer of an ideal confocal microscope is a tenth.

    Its spot is the product of the Airy patterns at both wavelengths.
    """
    r = np.linspace(1e-6, 20.0 * emission_nm / na, 20_001)
    spot = np.ones_like(r)
    for wavelength in (excitation_nm, emission_nm):
        v = 2.0 * np.pi * na / wavelength * r
        spot *= (2.0 * scipy.special.j1(v) / v) ** 2
    whole = scipy.integrate.simpson(spot * r, x=r)

    def excess(q: float) -> float:
        transfer = scipy.integrate.simpson(spot * r * scipy.special.j0(2 * np.pi * q * r), x=r)
        return float(transfer / whole) - SEEN

    top = cutoff_per_nm(na, excitation_nm) + cutoff_per_nm(na, emission_nm)
    return 1.0 / float(scipy.optimize.brentq(excess, 1e-3 * top, top))


def burst_precision_nm(settings: Mapping[str, Any], background: float) -> float:
    """Return the least standard error of a burst of mean brightness.

    Its photons come in as many frames as it touches on average, 1 + ON time / exposure, and with
    the background of all of them.
    """
    known, camera = settings["dye_kinetics"], settings["camera"]
    efficiency = float(camera["quantum_efficiency"])
    frames = 1.0 + float(known["on_time_s"]) / float(settings["exposure_s"])
    return mortensen_likelihood(
        float(settings["psf_sigma_nm"]),
        float(settings["pixel_size_nm"]),
        efficiency * float(known["photons_per_burst"]),
        efficiency * background * frames,
        float(camera.get("excess_noise", 1.0)),
    )


def bursts_of_dyes(own: Observed) -> npt.NDArray[np.int64]:
    """Return how many bursts each dye began or went on with in the movie."""
    dyes, blinks = own.truth("dyes"), own.truth("blinks")
    end_s = own.n_frames * float(own.settings["frame_period_s"])
    during = (blinks["start_s"] + blinks["duration_s"] > 0) & (blinks["start_s"] < end_s)
    pairs = np.unique(np.stack([blinks["dye"][during], blinks["blink"][during]]), axis=1)
    place = np.searchsorted(dyes["dye"], pairs[0])
    return np.asarray(np.bincount(place, minlength=len(dyes["dye"])), np.int64)


def frc_of_bursts_nm(bursts: npt.NDArray[np.int64], sigma_nm: float) -> float | None:
    """Return the period at which an image of bursts correlates with its dyes by a half.

    With K bursts of a dye, each off by a standard deviation s along x and y, and n dyes ::

        FRC(q)^2 = (sum K)^2 h / (n [sum K + h sum K (K - 1)]),   h = exp(-4 pi^2 s^2 q^2)

    For Poisson numbers of mean L that is L h / (1 + L h), as of two halves of 2 L together (R. P.
    J. Nieuwenhuizen et al., Nat. Methods 10 (2013) 557). None if so few dyes burst that it is
    never reached.
    """
    n, k = len(bursts), float(bursts.sum())
    repeated = float((bursts * (bursts - 1.0)).sum())
    per_h = k**2 - 0.25 * n * repeated
    if per_h <= 0.0 or k == 0.0:
        return None
    h = 0.25 * n * k / per_h
    return None if h >= 1.0 else 2.0 * math.pi * sigma_nm / math.sqrt(-math.log(h))
