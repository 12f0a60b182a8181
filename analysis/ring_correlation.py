"""Fourier ring correlation of localization microscopy: the resolution an image has by itself.

Two halves of a table of localizations, drawn as histograms, agree up to a frequency; where their
correlation falls to 1/7 is the resolution (R. P. J. Nieuwenhuizen et al., Nat. Methods 10 (2013)
557; N. Banterle et al., J. Struct. Biol. 183 (2013) 363). For emitters without structure, a
Poisson number of localizations of each with mean L in a half, and a standard deviation s of each,
the correlation at frequency q is L h / (1 + L h), h = exp(-4 pi^2 s^2 q^2), and falls to 1/7 at a
period 2 pi s / sqrt(ln(6 L)).

How the table is halved is part of the result. A molecule that is localized repeatedly, in both
halves, agrees with itself: split at random, the localizations of one blink lie in both, and the
resolution reads too good. Blocks of time keep a blink together, up to those at a border; linking
(:mod:`~nanophantom.analysis.linking`) makes it one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nanophantom.analysis.fourier_shells import (
    ShellCorrelation,
    fourier_ring_correlation,
    soft_edge,
)
from nanophantom.analysis.rendering import enclosing_frame, histogram_image

Floats = npt.NDArray[np.float64]

SPLITS = ("random", "blocks", "odd-even")
TUKEY_EDGE = 0.125
"""Share of each side over which the window fades: a Tukey window of alpha 0.25."""


@dataclass(frozen=True, eq=False)
class LocalizationResolution:
    """The resolution of a table of localizations.

    Attributes
    ----------
    resolution_nm : float or None
        None if the halves don't agree significantly at any frequency.
    split : str
        How the table was halved: "random", "blocks" or "odd-even".
    rings : ShellCorrelation
        The curve, ring by ring, without smoothing, with its thresholds.
    """

    resolution_nm: float | None
    split: str
    rings: ShellCorrelation


def localization_resolution(
    frame: npt.ArrayLike,
    x_nm: npt.ArrayLike,
    y_nm: npt.ArrayLike,
    *,
    pixel_size_nm: float,
    split: str = "blocks",
    rng: np.random.Generator | None = None,
    blocks: int = 20,
    threshold: str | float = "1/7",
) -> LocalizationResolution:
    """Halve a table of localizations and return up to which period the halves agree.

    Parameters
    ----------
    frame : (n,) array of int
    x_nm, y_nm : (n,) array
    pixel_size_nm : float
        Of the histograms: a tenth of the resolution or less, since a pixel blurs too, and beyond
        half a period per pixel nothing is seen.
    split, rng, blocks
        See :func:`halves`.
    threshold : {"1/7", "half-bit", "3-sigma"} or float
        See :meth:`~nanophantom.analysis.fourier_shells.ShellCorrelation.threshold`.

    Raises
    ------
    ValueError
        For columns of unlike lengths, or as :func:`halves` and the histograms do.
    """
    x, y = np.asarray(x_nm, dtype=float), np.asarray(y_nm, dtype=float)
    second = halves(frame, split, rng, blocks)
    if not (x.shape == y.shape == second.shape):
        raise ValueError(
            f"columns must be of one length, got {second.shape}, {x.shape} and {y.shape}"
        )
    window = enclosing_frame(x, y, pixel_size_nm)
    first, last = (
        histogram_image(x[half], y[half], pixel_size_nm, window).image for half in (~second, second)
    )
    rings = fourier_ring_correlation(first, last, pixel_size_nm, _tukey(first.shape))
    return LocalizationResolution(rings.resolution_nm(threshold), split, rings)


def halves(
    frame: npt.ArrayLike,
    split: str = "blocks",
    rng: np.random.Generator | None = None,
    blocks: int = 20,
) -> npt.NDArray[np.bool_]:
    """Return which localizations make the second half.

    Parameters
    ----------
    frame : (n,) array of int
    split : {"random", "blocks", "odd-even"}
        "random": a coin for each localization. "blocks": the table in order of time is cut into
        `blocks` of as many localizations (whole frames), even ones against odd ones. "odd-even":
        by frame.
    rng : numpy.random.Generator, optional
        For "random", which wants it.
    blocks : int
        2 or more, even; many, so that bleaching and drift don't tell the halves apart, but each
        much longer than a blink.

    Raises
    ------
    ValueError
        For another split, a wrong number of blocks, or if a half is left empty.
    """
    f = np.asarray(frame)
    if f.ndim != 1 or f.size < 2:
        raise ValueError(f"two halves take a column of 2 or more localizations, got {f.shape}")
    if split == "random":
        if rng is None:
            raise ValueError('the split "random" wants rng, a numpy Generator')
        second = rng.random(f.size) < 0.5
    elif split == "blocks":
        if blocks < 2 or blocks % 2:
            raise ValueError(f"blocks must be an even number from 2, got {blocks}")
        edges = np.quantile(f, np.arange(1, blocks) / blocks, method="inverted_cdf")
        second = np.searchsorted(edges, f) % 2 == 1
    elif split == "odd-even":
        second = f % 2 == 1
    else:
        raise ValueError(f"the split must be one of {SPLITS}, got {split!r}")
    if second.all() or not second.any():
        raise ValueError(f'the split "{split}" leaves a half empty')
    return np.asarray(second)


def ring_correlation(
    image_a: npt.ArrayLike, image_b: npt.ArrayLike, pixel_size_nm: float
) -> tuple[Floats, Floats]:
    """Correlate two registered images ring by ring, under a Tukey window of alpha 0.25.

    Any two: halves of the data, two instruments' images of one specimen (on the same pixels), or
    an image and the truth. Against the truth the curve falls to 1/2 where that of two halves of
    the data would fall to 1/7, sqrt(2 c / (1 + c)) being the correlation with the truth if c is
    that of the halves (P. B. Rosenthal and R. Henderson, J. Mol. Biol. 333 (2003) 721).

    Returns
    -------
    frequencies_per_nm, frc : (rings,) arrays
        Rings are one Fourier pixel wide; the curve isn't smoothed.

    Raises
    ------
    ValueError
        If the arrays aren't two finite images of one shape, at least 16 pixels wide, or one has
        no contrast.
    """
    shape = np.shape(image_a)
    window = _tukey(shape) if len(shape) == 2 else None
    rings = fourier_ring_correlation(image_a, image_b, pixel_size_nm, window)
    return rings.frequency_per_nm, rings.correlation


def resolution_nm(
    frequencies_per_nm: npt.ArrayLike,
    frc: npt.ArrayLike,
    threshold: str | float = "1/7",
) -> float | None:
    """Return the period where a curve falls below the threshold for good.

    The curve isn't smoothed: the crossing is found by the rule of
    :meth:`~nanophantom.analysis.fourier_shells.ShellCorrelation.resolution_nm`, from as many rings
    around it as it takes to see the curve fall, at most a tenth of those below on either side.

    Parameters
    ----------
    frequencies_per_nm, frc : (rings,) arrays
        Evenly spaced rings from one step on, out to the sampling limit, of a square image: as
        :func:`ring_correlation` gives them.
    threshold : {"1/7", "half-bit", "3-sigma"} or float
        "1/7" for halves of the data, 0.5 against the truth.

    Returns
    -------
    float or None
        None if nothing is resolved; the period of the last ring if the curve never falls.

    Raises
    ------
    ValueError
        For columns of unlike lengths, fewer than 4 rings, or frequencies that don't rise from
        above 0.
    """
    k, c = np.asarray(frequencies_per_nm, dtype=float), np.asarray(frc, dtype=float)
    if k.ndim != 1 or k.shape != c.shape or len(k) < 4:
        raise ValueError(f"a curve is two columns of 4 rings or more, got {k.shape} and {c.shape}")
    if not (k[0] > 0 and np.all(np.diff(k) > 0)):
        raise ValueError("frequencies must rise from above 0")
    step = (k[-1] - k[0]) / (len(k) - 1)
    modes = np.pi * k / step  # half a ring one Fourier pixel wide
    return ShellCorrelation(k, c, modes, 0.5 / k[-1]).resolution_nm(threshold)


def _tukey(shape: tuple[int, ...]) -> Floats:
    return soft_edge(shape, TUKEY_EDGE)
