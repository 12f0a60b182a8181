"""Thickness, and tilt, from a position-averaged convergent-beam pattern (PACBED).

Averaged over whole unit cells the pattern doesn't depend on probe position, defocus or source
size, but its intensity within the disks oscillates with thickness. It is compared with a
library of simulated patterns,
    expected counts = scale * library(thickness, tilt), moved and rotated, + background,
interpolated between the library's thicknesses and tilts. All unknowns are fitted together by Fisher
scoring, for counts the maximum of the Poisson likelihood; the uncertainties come from its
curvature. Pixels at the sharp edges of disks, where interpolation errs, weigh less. Without counts
the least-squares fit is the greatest normalised cross-correlation.

Source: LeBeau, Findlay, Allen and Stemmer, Ultramicroscopy 110 (2010) 118.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage, signal
from scipy.interpolate import CubicSpline
from scipy.special import xlogy

FloatArray = npt.NDArray[np.float64]
NoiseModel = Literal["poisson", "unknown"]

LEAST_EXPECTATION = 0.01
"""Pixels expected darker than this, relative to the mean, get no more weight than it."""
CANDIDATES = 3
"""Thicknesses, maxima of the coarse comparison, from which fits start."""


@dataclass(frozen=True, eq=False)
class Match:
    """The library's pattern that fits best."""

    thickness_nm: float
    sigma_nm: float
    tilt_mrad: tuple[float, float]
    """(x, y); zero for a library without tilts."""
    sigma_tilt_mrad: tuple[float, float]
    shift_px: tuple[float, float]
    """(row, column) by which the pattern is moved against the library's."""
    sigma_shift_px: tuple[float, float]
    """By noise: disks sharper than a pixel leave an error of some hundredths of a pixel."""
    scale: float
    background: float
    chi2: float
    """Of Poisson noise and interpolation, per degree of freedom; above one the uncertainties are
    enlarged by its root. One by definition if the noise is unknown."""
    correlation: float
    """Normalised cross-correlation of pattern and fit."""
    confidence: float
    """Probability of this maximum among those found, all thicknesses equally likely before."""


def thickness(pattern: npt.ArrayLike, settings: Mapping[str, Any]) -> dict[str, float]:
    """Return the thickness of a specimen from its PACBED pattern.

    Parameters
    ----------
    pattern : (ny, nx) array
        Counts, on the angular scale of the library.
    settings : mapping
        "library": {"thickness_nm": (n,), "patterns": (n, ny, nx)}, or with "tilt_mrad": (m, 2) of
        (x, y) and patterns (m, n, ny, nx); "rotation_deg": by which the pattern is turned against
        the library, from x to y, 0 by default; "noise": "poisson" (default) or "unknown".

    Returns
    -------
    dict
        thickness_nm, sigma_nm, tilt_x_mrad, tilt_y_mrad, sigma_tilt_x_mrad, sigma_tilt_y_mrad,
        chi2, correlation, confidence: see :class:`Match`.

    Raises
    ------
    ValueError
        As :func:`match`, or if the library is missing.
    """
    library = settings.get("library")
    if library is None:
        raise ValueError('settings lack "library": thickness_nm and patterns')
    if not {"thickness_nm", "patterns"} <= set(library):
        raise ValueError(f'a library has "thickness_nm" and "patterns", got {sorted(library)}')
    found = match(
        pattern,
        library["thickness_nm"],
        library["patterns"],
        library.get("tilt_mrad"),
        float(settings.get("rotation_deg") or 0.0),
        settings.get("noise") or "poisson",
    )
    return {
        "thickness_nm": found.thickness_nm,
        "sigma_nm": found.sigma_nm,
        "tilt_x_mrad": found.tilt_mrad[0],
        "tilt_y_mrad": found.tilt_mrad[1],
        "sigma_tilt_x_mrad": found.sigma_tilt_mrad[0],
        "sigma_tilt_y_mrad": found.sigma_tilt_mrad[1],
        "chi2": found.chi2,
        "correlation": found.correlation,
        "confidence": found.confidence,
    }


def match(
    pattern: npt.ArrayLike,
    thickness_nm: npt.ArrayLike,
    patterns: npt.ArrayLike,
    tilt_mrad: npt.ArrayLike | None = None,
    rotation_deg: float = 0.0,
    noise: NoiseModel = "poisson",
) -> Match:
    """Fit a library of patterns to a measured one.

    Parameters
    ----------
    pattern : (ny, nx) array
        Counts (any unit if the noise is unknown), on the library's angular scale; its
        centre needn't be the library's.
    thickness_nm : (n,) array
        Rising; steps well below the extinction distances, as patterns are interpolated.
    patterns : (n, ny, nx) or (m, n, ny, nx) array
        In any unit common to all.
    tilt_mrad : (m, 2) array, optional
        (x, y) of each of m tilts: all points of a grid, three values or more along an axis.
    rotation_deg : float
        By which the pattern is turned against the library, from x to y.
    noise : {"poisson", "unknown"}
        If unknown all pixels weigh the same, and the residual tells the noise.

    Raises
    ------
    ValueError
        If shapes or values are wrong, or the best fit lies at the end of the library.
    """
    data = np.asarray(pattern, np.float64)
    library = _Library.checked(thickness_nm, patterns, tilt_mrad, rotation_deg)
    if data.shape != library.shape:
        raise ValueError(f"the pattern has the shape {data.shape}, the library's {library.shape}")
    if not np.all(np.isfinite(data)) or not np.ptp(data) > 0:
        raise ValueError("the pattern must be finite and not the same everywhere")
    if noise not in ("poisson", "unknown"):
        raise ValueError(f'noise must be "poisson" or "unknown", got {noise!r}')
    if noise == "poisson" and np.min(data) < 0:
        raise ValueError('counts must not be negative: correct the offset, or noise "unknown"')
    fits = [_fit(data, library, start, noise) for start in _starts(data, library)]
    fits.sort(key=lambda fit: -fit.log_likelihood)
    best = fits[0]
    others = [f for f in fits[1:] if abs(f.values[0] - best.values[0]) > 3 * best.sigmas[0]]
    odds = [
        f.sigmas[0]
        / best.sigmas[0]
        * np.exp((f.log_likelihood - best.log_likelihood) / max(1.0, best.chi2))
        for f in others
    ]
    for name, axis, value in zip(
        ("thickness_nm", "tilt x", "tilt y"),
        (library.thickness_nm, *library.tilt_axes_mrad),
        best.values,
        strict=False,
    ):
        if len(axis) > 1 and not axis[0] < value < axis[-1]:
            raise ValueError(
                f"the pattern fits best at the end of the library, {name} {value:.4g}: extend it "
                f"beyond {axis[0]:.4g} to {axis[-1]:.4g}"
            )
    v, s = best.values, best.sigmas
    return Match(
        thickness_nm=float(v[0]),
        sigma_nm=float(s[0]),
        tilt_mrad=(float(v[1]), float(v[2])),
        sigma_tilt_mrad=(float(s[1]), float(s[2])),
        shift_px=(float(v[3]), float(v[4])),
        sigma_shift_px=(float(s[3]), float(s[4])),
        scale=float(v[5]),
        background=float(v[6]),
        chi2=best.chi2,
        correlation=best.correlation,
        confidence=float(1 / (1 + np.sum(odds))),
    )


@dataclass(frozen=True, eq=False)
class _Library:
    """Patterns over tilt and thickness, and how they are laid over a measured one."""

    thickness_nm: FloatArray
    tilt_axes_mrad: tuple[FloatArray, FloatArray]  # x and y, one value where it doesn't vary
    patterns: npt.NDArray[Any]  # (tilts x, tilts y, thicknesses, ny, nx)
    rotation: FloatArray  # matrix on (row, column)

    @classmethod
    def checked(
        cls,
        thickness_nm: npt.ArrayLike,
        patterns: npt.ArrayLike,
        tilt_mrad: npt.ArrayLike | None,
        rotation_deg: float,
    ) -> _Library:
        t, stack = np.asarray(thickness_nm, np.float64), np.asarray(patterns)
        if tilt_mrad is None and stack.ndim == 3:
            stack = stack[None]
        tilts = np.zeros((1, 2)) if tilt_mrad is None else np.asarray(tilt_mrad, np.float64)
        if t.ndim != 1 or len(t) < 4 or not np.all(np.diff(t) > 0):
            raise ValueError("a library has 4 thicknesses or more, in rising order")
        if tilts.ndim != 2 or tilts.shape[1] != 2:
            raise ValueError(f"tilt_mrad has the shape (m, 2), got {tilts.shape}")
        if stack.ndim != 4 or stack.shape[:2] != (len(tilts), len(t)) or min(stack.shape[2:]) < 8:
            raise ValueError(
                f"{len(t)} thicknesses and {len(tilts)} tilts need patterns of the shape "
                f"([{len(tilts)}, ]{len(t)}, ny, nx) with 8 x 8 pixels or more, got {stack.shape}"
            )
        if not np.all(np.isfinite(stack)):
            raise ValueError("the library's patterns must be finite")
        x, y = np.unique(tilts[:, 0]), np.unique(tilts[:, 1])
        grid = len(x), len(y)
        order = np.lexsort((tilts[:, 1], tilts[:, 0]))
        nodes = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
        if 2 in grid or nodes.shape != tilts.shape or not np.array_equal(nodes, tilts[order]):
            raise ValueError(
                "tilt_mrad must be all points of a grid, with one or at least three values in x "
                f"and in y; got {len(tilts)} tilts with {grid[0]} values in x, {grid[1]} in y"
            )
        c, s = np.cos(np.deg2rad(rotation_deg)), np.sin(np.deg2rad(rotation_deg))
        # x' = c x - s y, y' = s x + c y, written for (y, x).
        rotation = np.array([[c, s], [-s, c]])
        return cls(t, (x, y), stack[order].reshape(*grid, *stack.shape[1:]), rotation)

    @property
    def shape(self) -> tuple[int, int]:
        return self.patterns.shape[3], self.patterns.shape[4]

    @property
    def varies(self) -> npt.NDArray[np.bool_]:
        """Which components (x, y) of the tilt the library varies."""
        return np.array([len(axis) > 1 for axis in self.tilt_axes_mrad])

    def blend(self, values: FloatArray) -> FloatArray:
        """Return (4, ny, nx): the pattern at a thickness and tilt, and its slopes with these."""
        over_t = _spline_weights(self.thickness_nm, values[0])
        over_x, over_y = (
            _spline_weights(axis, tilt)
            for axis, tilt in zip(self.tilt_axes_mrad, values[1:3], strict=True)
        )
        by_t = np.tensordot(self.patterns, over_t, axes=(2, 1))  # (x, y, ny, nx, 2)
        at_t, with_t = by_t[..., 0], by_t[..., 1]
        turns = (at_t, 0, 0), (with_t, 0, 0), (at_t, 1, 0), (at_t, 0, 1)
        return np.array(
            [np.tensordot(np.outer(over_x[i], over_y[j]), p, axes=2) for p, i, j in turns]
        )

    def lay(self, image: FloatArray, shift: FloatArray, order: int = 3) -> FloatArray:
        """Rotate and move an image; zero where it doesn't reach."""
        where = self._source(shift)
        return np.asarray(ndimage.map_coordinates(image, where, order=order, mode="constant"))

    def covers(self, shift: FloatArray) -> npt.NDArray[np.bool_]:
        """Return which pixels of the measured pattern the library reaches."""
        last = np.array(self.shape)[:, None, None] - 1
        where = self._source(shift)
        return np.asarray(np.all((where >= 0) & (where <= last), axis=0))

    def lay_back(self, data: FloatArray, shift: FloatArray) -> FloatArray:
        """Bring a measured pattern into the library's frame; its mean where it doesn't reach."""
        middle = (np.array(self.shape) - 1) / 2
        grid = np.indices(self.shape) - middle[:, None, None]
        where = np.tensordot(self.rotation, grid, axes=1) + (middle + shift)[:, None, None]
        mean = float(np.mean(data))
        return np.asarray(ndimage.map_coordinates(data, where, order=1, cval=mean))

    def _source(self, shift: FloatArray) -> FloatArray:
        middle = (np.array(self.shape) - 1) / 2
        grid = np.indices(self.shape) - (middle + shift)[:, None, None]
        return np.asarray(np.tensordot(self.rotation.T, grid, axes=1) + middle[:, None, None])


def _spline_weights(nodes: FloatArray, at: float) -> FloatArray:
    """Return (2, n): weights of the nodes in a cubic spline's value, and in its slope."""
    if len(nodes) == 1:
        return np.array([[1.0], [0.0]])
    spline = CubicSpline(nodes, np.eye(len(nodes)))
    return np.array([spline(at), spline(at, 1)])


def _slope(image: FloatArray, axis: int) -> FloatArray:
    """Return the derivative per pixel of the cubic spline through the pixels."""
    coefficients = ndimage.spline_filter1d(image, 3, axis, mode="mirror")
    return np.asarray(ndimage.correlate1d(coefficients, [-0.5, 0, 0.5], axis, mode="mirror"))


def _starts(data: FloatArray, library: _Library) -> list[FloatArray]:
    """Return (thickness, tilt x, tilt y, shift y, shift x) at the best coarse matches."""
    stack = library.patterns
    template = np.mean(stack, axis=(0, 1, 2), dtype=np.float64)
    shift, score = np.zeros(2), np.zeros(stack.shape[:3])
    norm = np.std(stack, axis=(3, 4), dtype=np.float64)
    if not np.all(norm > 0):
        raise ValueError("a pattern of the library is the same everywhere")
    # First the outline of the disks tells the centre, then the pattern that is the most alike.
    for _ in range(2):
        laid = library.lay(np.asarray(template), np.zeros(2), order=1)
        match = signal.correlate(data - data.mean(), laid - np.mean(laid), method="fft")
        peak = np.unravel_index(int(np.argmax(match)), match.shape)
        shift = np.array(peak, np.float64) - (np.array(data.shape) - 1)
        back = library.lay_back(data, shift)
        score = np.tensordot(stack, back - back.mean(), axes=2) / norm
        best = np.unravel_index(int(np.argmax(score)), score.shape)
        template = np.asarray(stack[best], np.float64)
    along = np.max(score, axis=(0, 1))
    padded = np.r_[-np.inf, along, -np.inf]
    peaks = np.flatnonzero((padded[1:-1] >= padded[:-2]) & (padded[1:-1] >= padded[2:]))
    starts = []
    for i in peaks[np.argsort(-along[peaks], kind="stable")][:CANDIDATES]:
        at = np.unravel_index(int(np.argmax(score[:, :, i])), score.shape[:2])
        tilt = [axis[j] for axis, j in zip(library.tilt_axes_mrad, at, strict=True)]
        starts.append(np.r_[library.thickness_nm[i], tilt, shift])
    return starts


@dataclass(frozen=True, eq=False)
class _Fit:
    """Values and standard deviations of t, tilt x, y, shift y, x, scale, background."""

    values: FloatArray
    sigmas: FloatArray
    log_likelihood: float
    chi2: float
    correlation: float


def _fit(
    data: FloatArray, library: _Library, start: FloatArray, noise: NoiseModel, most_rounds: int = 25
) -> _Fit:
    """Improve all unknowns together by Fisher scoring."""
    values = np.r_[start, 0.0, 0.0]
    free = np.r_[True, library.varies, True, True, True, True]
    axes = library.thickness_nm, *library.tilt_axes_mrad
    low, high = (np.array([axis[end] for axis in axes]) for end in (0, -1))
    steps = [np.max(np.diff(axis), initial=0.0) for axis in axes]
    reach = np.r_[steps, 1.0, 1.0]
    for step in range(most_rounds + 1):
        shape, *slopes = library.blend(values)
        shift, used = values[3:5], library.covers(values[3:5])
        if np.sum(used) < 0.25 * data.size:
            raise ValueError("the pattern lies too far from the library's centre: centre it first")
        laid = library.lay(shape, shift)
        basis = np.stack([laid, np.ones(data.shape)], axis=-1)[used]
        measured = data[used]
        if step == 0:  # a linear fit for scale and background
            values[5:] = np.linalg.lstsq(basis, measured, rcond=None)[0]
        scale = values[5]
        model = basis @ values[5:]
        floor = LEAST_EXPECTATION * max(float(np.mean(np.abs(measured))), 1e-300)
        # At sharp edges interpolation errs by as much as its order makes a difference.
        error = scale * (basis[:, 0] - library.lay(shape, shift, order=1)[used])
        variance = np.maximum(model, floor) + error**2
        weight = 1 / variance if noise == "poisson" else np.ones(model.shape)
        slopes = [slope for slope, varied in zip(slopes, free, strict=False) if varied]
        columns = [scale * library.lay(slope, shift)[used] for slope in slopes]
        columns += [-scale * _slope(laid, axis)[used] for axis in (0, 1)]
        jacobian = np.stack([*columns, *basis.T])
        fisher = (jacobian * weight) @ jacobian.T
        size = np.sqrt(np.maximum(np.diag(fisher), 1e-300))
        inverse = np.linalg.pinv(fisher / np.outer(size, size), hermitian=True) / np.outer(
            size, size
        )
        move = np.zeros(7)
        move[free] = inverse @ (jacobian @ (weight * (measured - model)))
        sigmas = np.zeros(7)
        sigmas[free] = np.sqrt(np.diag(inverse))
        move[:5] = np.clip(move[:5], -reach, reach)
        moved = values + move
        moved[:3] = np.clip(moved[:3], low, high)
        if step == most_rounds or np.all(np.abs(moved - values) <= 1e-3 * sigmas):
            break
        values = moved
    residual = measured - model
    freedom = len(measured) - int(np.sum(free))
    chi2 = float(residual**2 @ weight) / freedom
    if noise == "poisson":
        expected = np.maximum(model, floor)
        # Less that of a perfect fit, so that shifts which leave other pixels away compare.
        log_ratio = xlogy(measured, expected / np.maximum(measured, 1e-300))
        log_likelihood = float(np.sum(log_ratio - expected + measured))
        sigmas *= np.sqrt(max(1.0, chi2))
    else:
        log_likelihood = -0.5 * len(measured) * float(np.log(chi2))
        sigmas *= np.sqrt(chi2)
        chi2 = 1.0
    correlation = float(np.corrcoef(measured, model)[0, 1])
    return _Fit(values, sigmas, log_likelihood, chi2, correlation)
