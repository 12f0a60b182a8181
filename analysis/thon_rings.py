"""Defocus and twofold astigmatism from the Thon rings of one image.

A weak phase object's spectrum is transferred by 2 sin(chi), so the power spectrum of an image of
an amorphous film is b(k) + a(k) sin^2(chi): rings (F. Thon, Z. Naturforsch. 21a (1966) 476-478) on
a background of noise and inelastic scattering. Envelopes and the object's own spectrum make a and
b slow functions of k, which are fitted along with chi, a few splines each.

The fit goes in two steps. Sector profiles of the spectrum, divided by their smooth mean, are
correlated with -cos(2 chi) over the whole range of defocus and astigmatism, from coarse (low
frequencies, wide steps) to fine. From the best candidate on, all pixels are fitted at once by
Gauss and Newton. A pixel of a power spectrum scatters by as much as its mean, which gives the
uncertainties.

**The sign.** sin^2(chi) doesn't change if all aberrations change sign. The sign of the defocus
shows only through a spherical aberration that is known and bends the phase by a rad or more within
the rings, or through a known amplitude contrast. Else the setting ``underfocus`` has to say it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import asin, atan2, cos, degrees, hypot, isfinite, pi, radians, sin
from typing import Any

import numpy as np
import numpy.typing as npt

from nanophantom.analysis.ring_spectrum import Rings, Step, agreement, minimise
from nanophantom.simcore.electrons.aberrations import ORDERS, chi, chi_gradient
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.optics import Aberrations

Floats = npt.NDArray[np.float64]

SECTORS = 18
"""Sectors of the half plane whose profiles are searched."""
BANDS = 6
"""Bands of k, each with its own visibility of the rings, in the search."""
CANDIDATES = 200
"""Candidates that each level of the search hands to the next, finer one."""
NO_AZIMUTH_DEG = 180 / 12**0.5
"""Standard deviation of an azimuth that nothing is known of."""


def fit(image: npt.ArrayLike, settings: Mapping[str, Any]) -> dict[str, float]:
    """Measure the defocus and the twofold astigmatism of an image.

    Parameters
    ----------
    image : (ny, nx) array
        Counts, or a signal linear in them, of an object with a broad spectrum.
    settings : mapping
        "pixel_size_nm", "energy_kev"; and if known "c30_um" and other even "aberrations" (names
        as in :class:`~nanophantom.simcore.electrons.optics.Aberrations`), "underfocus" (True by
        default: defocus negative; False: positive; None: either), "defocus_range_nm" (low, high),
        "max_c12_nm", "amplitude_contrast" (share of the contrast, 0 by default),
        "resolution_range_nm" (coarsest, finest period that is looked at).

    Returns
    -------
    dict of float
        defocus_nm, c12_nm, phi12_deg (0 to 180) with defocus_sigma_nm, c12_sigma_nm,
        phi12_sigma_deg; fit_resolution_nm: the finest period that still shows rings;
        correlation: of the spectrum's modulation with that of the model where rings are seen,
        1 being all that a periodogram with its own scatter can show.

    Raises
    ------
    ValueError
        If a setting is missing or wrong, or the image isn't a finite one of 32 x 32 pixels.
    """
    energy_kev = positive_number(settings, "energy_kev")
    rings = Rings.of(image, positive_number(settings, "pixel_size_nm"), settings)
    known = known_aberrations(settings)
    return fit_rings(rings, energy_kev, known, settings).report()


@dataclass(frozen=True, eq=False)
class Found:
    """Defocus and astigmatism, the latter as C12 cos(2 phi12) and C12 sin(2 phi12), in Å."""

    parameters: Floats
    covariance: Floats
    resolution_nm: float
    correlation: float

    def report(self) -> dict[str, float]:
        """Return the numbers that :func:`fit` returns."""
        c10, c12, phi12, sigma = polar(self.parameters, self.covariance)
        return {
            "defocus_nm": c10 / 10,
            "c12_nm": c12 / 10,
            "phi12_deg": degrees(phi12),
            "defocus_sigma_nm": sigma[0] / 10,
            "c12_sigma_nm": sigma[1] / 10,
            "phi12_sigma_deg": min(degrees(sigma[2]), NO_AZIMUTH_DEG),
            "fit_resolution_nm": self.resolution_nm,
            "correlation": self.correlation,
        }


def fit_rings(
    rings: Rings, energy_kev: float, known: Mapping[str, float], settings: Mapping[str, Any]
) -> Found:
    """Search and refine (C10, C12) given the other aberrations in Å and rad."""
    wavelength_A = float(wavelength(energy_kev))
    amplitude = float(settings.get("amplitude_contrast") or 0.0)
    if not -1 < amplitude < 1:
        raise ValueError(f"amplitude_contrast lies between -1 and 1, got {amplitude}")

    def base(rings: Rings) -> Floats:
        return chi(known, rings.kx, rings.ky, energy_kev) - asin(amplitude)

    parameters = _search(rings, base(rings), wavelength_A, *_ranges(rings, wavelength_A, settings))
    for _ in range(3):
        # where the rings are too narrow for the field of view they say nothing, and where none
        # are left their splines are better used elsewhere
        found = {**known, "C10": parameters[0], "C12": hypot(*parameters[1:])}
        rings = rings.up_to(resolved_frequency(rings, found, energy_kev))
        fixed, slopes = base(rings), defocus_slopes(rings, energy_kev)

        def step(
            p: Floats, part: Rings = rings, fixed: Floats = fixed, slopes: Floats = slopes
        ) -> Step:
            return part.step(fixed + p @ slopes, slopes)

        parameters, last = minimise(step, parameters)
        phase = fixed + parameters @ slopes
        resolution_nm, correlation = agreement(rings, phase)
        if np.isfinite(resolution_nm):
            rings = rings.up_to(max(0.115 / resolution_nm, 0.3 * rings.k_max))
    return Found(parameters, last.covariance(), resolution_nm, correlation)


def resolved_frequency(rings: Rings, coefficients: Mapping[str, float], energy_kev: float) -> float:
    """Return the frequency up to which neighbouring rings are two steps apart at least, 1/Å."""
    kx, ky = rings.kx, rings.ky
    k = np.hypot(kx, ky)
    slope = np.hypot(*chi_gradient(coefficients, kx, ky, energy_kev))
    narrow = slope * 2 * rings.dk > pi
    # beyond the tenth ring or so at any rate: a few shells there must be
    least = float(k.min()) + 40 * rings.dk
    return max(float(k[narrow].min()), least) if narrow.any() else rings.k_max


def defocus_slopes(rings: Rings, energy_kev: float) -> Floats:
    """Return how C10, C12 cos(2 phi12) and C12 sin(2 phi12) turn the phase, (3, n) rad/Å."""
    unit: list[dict[str, float]] = [{"C10": 1.0}, {"C12": 1.0}, {"C12": 1.0, "phi12": pi / 4}]
    return np.stack([chi(c, rings.kx, rings.ky, energy_kev) for c in unit])


def polar(
    parameters: Floats, covariance: Floats
) -> tuple[float, float, float, tuple[float, float, float]]:
    """Return C10, C12, phi12 (0 to pi) and their standard deviations from Cartesian ones."""
    c10, a, b = (float(p) for p in parameters)
    c12, twice = hypot(a, b), atan2(b, a)
    along = np.array([cos(twice), sin(twice)])
    across = np.array([-sin(twice), cos(twice)])
    part = covariance[1:, 1:]
    s10 = float(np.sqrt(covariance[0, 0]))
    s12 = float(np.sqrt(along @ part @ along))
    s_phi = float(np.sqrt(across @ part @ across)) / (2 * max(c12, 1e-12))
    return c10, c12, (twice / 2) % pi, (s10, s12, min(s_phi, radians(NO_AZIMUTH_DEG)))


def known_aberrations(settings: Mapping[str, Any]) -> dict[str, float]:
    """Return the settings' "aberrations" and "c30_um" in Å and rad, but C10 and C12."""
    named = dict(settings.get("aberrations") or {})
    if settings.get("c30_um") is not None:
        if "c30_um" in named:
            raise ValueError('c30_um is given twice: leave it away in "aberrations"')
        named["c30_um"] = settings["c30_um"]
    known = Aberrations(**named).coefficients()
    odd = [name for name, (n, _) in ORDERS.items() if n % 2 == 0 and name in known]
    if odd and settings.get("beam_tilts_mrad") is None:
        raise ValueError(f"rings say nothing of odd aberrations: leave {', '.join(odd)} away")
    return {k: v for k, v in known.items() if k not in ("C12", "phi12")}


def _ranges(
    rings: Rings, wavelength_A: float, settings: Mapping[str, Any]
) -> tuple[float, float, float]:
    """Return the least and the greatest defocus and the greatest astigmatism, in Å."""
    # rings at half the greatest frequency lie 1 / (2 lambda Z k) apart: 2.5 pixels at least
    farthest = 1 / (2 * wavelength_A * 0.5 * rings.k_max * 2.5 * rings.dk)
    underfocus = settings.get("underfocus", True)
    low, high = -farthest, farthest
    if settings.get("defocus_range_nm") is not None:
        low, high = (10 * float(z) for z in settings["defocus_range_nm"])
        if not (low < high and isfinite(low) and isfinite(high)):
            raise ValueError(f"defocus_range_nm is (low, high), got {low / 10, high / 10}")
    if underfocus is not None:
        low, high = (low, min(high, 0.0)) if underfocus else (max(low, 0.0), high)
        if low >= high:
            raise ValueError("defocus_range_nm and underfocus contradict each other")
    widest = settings.get("max_c12_nm")
    widest_A = 0.1 * max(abs(low), abs(high)) if widest is None else 10 * float(widest)
    if not 0 <= widest_A < np.inf:
        raise ValueError(f"max_c12_nm must be zero or positive, got {widest}")
    return low, high, widest_A


def _search(
    rings: Rings, base: Floats, wavelength_A: float, low: float, high: float, widest: float
) -> Floats:
    """Return the (C10, a, b) in Å whose rings correlate best with the sectors' profiles."""
    k_max = rings.k_max
    # as many candidates at first as can be gone through in a moment
    k_top = k_max
    while _count(wavelength_A, k_top, low, high, widest) > 100_000:
        k_top /= 2**0.25
    profiles = _Profiles.of(rings, base)
    candidates = np.empty((0, 3))
    while True:
        step = 1 / (4 * wavelength_A * k_top**2)  # moves 2 chi by pi / 2 at k_top
        if not len(candidates):
            line = np.arange(-np.floor(widest / (2 * step)), widest / (2 * step) + 1e-9)
            a, b = (2 * step * grid.ravel() for grid in np.meshgrid(line, line))
            disc = np.hypot(a, b) <= widest * (1 + 1e-9)
            c10 = np.arange(low, high + step, step)
            z, i = (grid.ravel() for grid in np.meshgrid(c10, np.flatnonzero(disc)))
            candidates = np.stack([z, a[i], b[i]], axis=1)
        else:
            offsets = np.stack(np.meshgrid(*3 * [[-1.0, 0.0, 1.0]]), axis=-1).reshape(-1, 3)
            fine = candidates[:, None, :] + offsets * step * np.array([1.0, 2.0, 2.0])
            candidates = np.unique(np.round(fine.reshape(-1, 3), 6), axis=0)
            candidates = candidates[np.hypot(*candidates[:, 1:].T) <= widest + 2 * step]
        candidates = candidates[
            np.abs(candidates[:, 0] - (low + high) / 2) <= (high - low) / 2 + step
        ]
        score = profiles.score(candidates, wavelength_A, k_top, step)
        best = np.argsort(score)[::-1][:CANDIDATES]
        candidates = candidates[best]
        if k_top >= k_max:
            return np.asarray(candidates[0])
        k_top = min(k_top * 2**0.5, k_max)


def _count(wavelength_A: float, k: float, low: float, high: float, widest: float) -> float:
    step = 1 / (4 * wavelength_A * k**2)
    return float((1 + (high - low) / step) * (1 + pi / 4 * (widest / step) ** 2))


@dataclass(frozen=True, eq=False)
class _Profiles:
    """Radial profiles of the normalised spectrum in sectors: (shells, SECTORS)."""

    k: Floats
    azimuth: Floats
    base: Floats
    excess: Floats
    pixels: Floats

    @classmethod
    def of(cls, rings: Rings, base: Floats) -> _Profiles:
        turn = np.arctan2(rings.ky, rings.kx) % pi / pi * SECTORS
        cell = rings.shell * SECTORS + np.minimum(turn.astype(np.intp), SECTORS - 1)
        size = len(rings.slow) * SECTORS

        def table(values: Floats | None = None) -> Floats:
            return np.bincount(cell, values, size).reshape(-1, SECTORS).astype(np.float64)

        pixels = table()
        k = np.hypot(rings.kx, rings.ky)
        radius = rings.sums(k) / np.maximum(rings.sums(), 1e-9)
        return cls(
            radius,
            (np.arange(SECTORS) + 0.5) * pi / SECTORS,
            table(base) / np.maximum(pixels, 1),
            table(rings.power - 1),
            pixels,
        )

    def score(self, candidates: Floats, wavelength_A: float, k_top: float, step: float) -> Floats:
        """Return what rings of each candidate explain of the profiles below k_top."""
        a, b = candidates[:, 1], candidates[:, 2]
        toward = [np.cos(2 * self.azimuth), np.sin(2 * self.azimuth)]
        seen = candidates[:, :1] + np.outer(a, toward[0]) + np.outer(b, toward[1])
        lowest = float(seen.min())
        z = lowest + step / 2 * np.arange(int((seen.max() - lowest) / (step / 2)) + 2)
        index = np.rint((seen - lowest) / (step / 2)).astype(np.intp)
        # bands of equal width up to the frequency in hand
        ends = np.linspace(0, np.searchsorted(self.k, k_top, "right"), BANDS + 1).astype(int)
        score = np.zeros(len(candidates))
        for start, stop in pairwise(ends):
            if stop - start < 2:
                continue
            part = slice(start, stop)
            # sums over the band of cos(2 (turn + base)) and its square, times pixels or excess
            turn = 2 * pi * wavelength_A * np.outer(z, self.k[part] ** 2)
            c, s = np.cos(turn), np.sin(turn)
            twice_c, twice_s = 2 * c**2 - 1, 2 * s * c
            base, n, excess = 2 * self.base[part], self.pixels[part], self.excess[part]
            total = np.maximum(n.sum(axis=0), 1.0)
            mean = (c @ (n * np.cos(base)) - s @ (n * np.sin(base))) / total
            product = c @ (excess * np.cos(base)) - s @ (excess * np.sin(base))
            product = mean * excess.sum(axis=0) - product
            square = twice_c @ (n * np.cos(2 * base)) - twice_s @ (n * np.sin(2 * base))
            square = (total + square) / 2 - total * mean**2 + 0.05 * total
            agree, weight = np.zeros(len(candidates)), np.zeros(len(candidates))
            for sector in range(SECTORS):
                agree += product[index[:, sector], sector]
                weight += square[index[:, sector], sector]
            score += np.maximum(agree, 0) ** 2 / weight
        return score


def positive_number(settings: Mapping[str, Any], name: str) -> float:
    """Return a setting that has to be there and to be positive."""
    value = settings.get(name)
    if value is None or not (isfinite(float(value)) and float(value) > 0):
        raise ValueError(f"settings need a positive {name!r}, got {value}")
    return float(value)
