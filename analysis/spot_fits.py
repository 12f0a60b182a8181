"""Positions of single spots from boxes of pixels, with the errors that the noise leaves.

Boxes hold photoelectrons. The spot is a Gaussian integrated over each pixel on a flat background;
its width is given, fitted, fitted along x and y, or tells the height (an astigmatic lens).
A camera's readout noise of variance v is taken in as if v more electrons had been expected and
counted (F. Huang et al., Nat. Methods 10 (2013) 653). An amplifying camera of excess noise F^2
multiplies all variances by it (K. I. Mortensen et al., Nat. Methods 7 (2010) 377).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline

from nanophantom.analysis import spot_fit_kernels as kernels

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int32]
Method = Literal["mle", "lsq"]
SpotModel = Literal["fixed", "free", "elliptical", "astigmatic"]

GRID_NM = 10.0
"""Step of the table of widths that the astigmatic fit interpolates."""


@dataclass(frozen=True, eq=False)
class Astigmatism:
    """Widths of a spot along x and y at each height z above the focal plane.

    Attributes
    ----------
    z_nm : (m,)
        Equally spaced; fits end within.
    sigma_x_nm, sigma_y_nm : (m,)
        Standard deviations of the spot.
    slope_x, slope_y : (m,)
        Their derivatives in z.
    """

    z_nm: Floats
    sigma_x_nm: Floats
    sigma_y_nm: Floats
    slope_x: Floats
    slope_y: Floats

    @classmethod
    def from_table(
        cls, z_nm: npt.ArrayLike, sigma_x_nm: npt.ArrayLike, sigma_y_nm: npt.ArrayLike
    ) -> Astigmatism:
        """Put a cubic spline through measured widths.

        Raises
        ------
        ValueError
            Fewer than four heights, heights not in order, or a width that isn't positive.
        """
        z, x, y = (np.asarray(a, float) for a in (z_nm, sigma_x_nm, sigma_y_nm))
        if z.ndim != 1 or len(z) < 4 or x.shape != z.shape or y.shape != z.shape:
            raise ValueError("a calibration needs z_nm, sigma_x_nm, sigma_y_nm: 4 or more of each")
        if not (np.diff(z) > 0).all():
            raise ValueError("z_nm of a calibration must increase")
        if not (x > 0).all() or not (y > 0).all():
            raise ValueError("widths of a calibration must be positive")
        grid = np.linspace(z[0], z[-1], max(4, math.ceil((z[-1] - z[0]) / GRID_NM) + 1))
        curves = CubicSpline(z, x), CubicSpline(z, y)
        return cls(grid, *(c(grid) for c in curves), *(c(grid, 1) for c in curves))

    @classmethod
    def from_focus(
        cls, sigma_nm: float, focus_nm: float, depth_nm: float, range_nm: float | None = None
    ) -> Astigmatism:
        """Return sigma sqrt(1 + ((z -+ focus) / depth)^2): x in focus at +focus, y at -focus.

        Parameters
        ----------
        sigma_nm, focus_nm, depth_nm
            Least width, height of the line foci, and depth of focus.
        range_nm
            Heights from minus to plus this can be fitted; by default up to focus + depth.
        """
        if not (sigma_nm > 0 and depth_nm > 0 and focus_nm != 0):
            raise ValueError("sigma_nm and depth_nm must be positive, focus_nm not zero")
        far = abs(focus_nm) + depth_nm if range_nm is None else range_nm
        z = np.linspace(-far, far, math.ceil(2 * far / GRID_NM) + 1)
        widths, slopes = [], []
        for u in ((z - focus_nm) / depth_nm, (z + focus_nm) / depth_nm):
            widths.append(sigma_nm * np.sqrt(1 + u**2))
            slopes.append(sigma_nm * u / depth_nm / np.sqrt(1 + u**2))
        return cls(z, *widths, *slopes)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Astigmatism:
        """Read the keywords of `from_table` or `from_focus`."""
        for make, keys in (
            (cls.from_table, {"z_nm", "sigma_x_nm", "sigma_y_nm"}),
            (cls.from_focus, {"sigma_nm", "focus_nm", "depth_nm"}),
        ):
            if keys <= set(settings):
                used = keys | ({"range_nm"} if "sigma_nm" in keys else set())
                return make(**{k: settings[k] for k in used if k in settings})
        raise ValueError(
            f"a calibration has {', '.join(sorted(settings)) or 'nothing'}; "
            "it needs z_nm, sigma_x_nm and sigma_y_nm, or sigma_nm, focus_nm and depth_nm"
        )

    def widths_nm(self, z_nm: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Return the widths along x and y at heights."""
        z = np.asarray(z_nm, float)
        x, y = (np.interp(z, self.z_nm, sigma) for sigma in (self.sigma_x_nm, self.sigma_y_nm))
        return np.asarray(x), np.asarray(y)

    def kernel_table(self, pixel_size_nm: float) -> kernels.Depth:
        """Return what the compiled fit takes: widths in pixels."""
        columns = (self.sigma_x_nm, self.sigma_y_nm, self.slope_x, self.slope_y)
        table = np.ascontiguousarray(np.stack(columns, axis=1) / pixel_size_nm)
        return kernels.Depth(float(self.z_nm[0]), float(self.z_nm[1] - self.z_nm[0]), table)


@dataclass(frozen=True, eq=False)
class SpotFits:
    """Fits of spots, a row each; lengths in pixels, z in nm, light in photoelectrons.

    Attributes
    ----------
    x_px, y_px : (n,)
        From the centre of the box's pixel (0, 0).
    photons, background : (n,)
        Of the whole spot; in a pixel.
    sigma_x_px, sigma_y_px : (n,)
        Widths, whether fitted, given or told by z.
    z_nm : (n,)
        NaN but for the astigmatic model.
    x_sd, y_sd, photons_sd, background_sd : (n,)
        Standard deviations that the noise leaves; NaN where the fit failed.
    fifth_sd, sixth_sd : (n,)
        Those of the width (free), of both widths (elliptical), or of z in nm (astigmatic).
    log_likelihood : (n,)
        Logarithm of the Poisson likelihood over that of a model equal to the data: minus half the
        deviance.
    chi_square : (n,)
        Sum of squared residuals over their expected variances.
    converged : (n,) bool
        False if the fit found no top of the likelihood, or left its bounds.
    steps : (n,) int32
        How many it took.
    """

    x_px: Floats
    y_px: Floats
    photons: Floats
    background: Floats
    sigma_x_px: Floats
    sigma_y_px: Floats
    z_nm: Floats
    x_sd: Floats
    y_sd: Floats
    photons_sd: Floats
    background_sd: Floats
    fifth_sd: Floats
    sixth_sd: Floats
    log_likelihood: Floats
    chi_square: Floats
    steps: Ints
    converged: Bools

    def __len__(self) -> int:
        return len(self.x_px)


def fit_spots(
    boxes: npt.ArrayLike,
    sigma_px: float = 1.0,
    *,
    method: Method = "mle",
    model: SpotModel = "fixed",
    variance: npt.ArrayLike | None = None,
    expected: npt.ArrayLike | None = None,
    excess_noise: float = 1.0,
    calibration: Astigmatism | None = None,
    pixel_size_nm: float | None = None,
    starts: npt.ArrayLike | None = None,
    places: npt.ArrayLike | None = None,
    rounds: int = 0,
    farthest_px: float = 2.5,
) -> SpotFits:
    """Fit one spot in each box of pixels.

    Parameters
    ----------
    boxes : (n, ny, nx)
        Photoelectrons.
    sigma_px
        Width of a spot in focus: known (model "fixed"), or where the fit starts.
    method
        "mle": greatest Poisson likelihood; "lsq": unweighted least squares.
    model
        Parameters besides x, y, photons and background: "fixed" none, "free" one width,
        "elliptical" one along x and one along y, "astigmatic" z.
    variance : broadcast to boxes, optional
        Of the readout noise, in photoelectrons squared.
    expected : broadcast to boxes, optional
        Photoelectrons expected besides the spot and its flat background: other spots, or an
        uneven background.
    excess_noise
        F^2: 2 for an EMCCD, 1 else.
    calibration, pixel_size_nm
        For "astigmatic": how the widths tell z.
    starts : (n, 4), optional
        x, y, photons, background; by default from the box's sum, centroid and edge.
    places : (n, 3) int, optional
        Frame, first row and first column of each box, sorted by frame; needed if `rounds`.
    rounds
        How often, at most, spots that light each other's boxes are fitted again, each with the
        others' light in its expectation.
    farthest_px
        How far from its start, along x or y, a spot may lie.

    Raises
    ------
    ValueError
        Arrays don't fit together, or a calibration is missing.
    """
    if method not in get_args(Method) or model not in get_args(SpotModel):
        raise ValueError(
            f"method {method!r} and model {model!r}: methods are {', '.join(get_args(Method))}, "
            f"models {', '.join(get_args(SpotModel))}"
        )
    data = np.ascontiguousarray(boxes, dtype=np.float32)
    if data.ndim != 3 or min(data.shape[1:]) < 3:
        raise ValueError(f"boxes have the shape {data.shape}; expected (n, ny, nx), 3 x 3 or more")
    depth = kernels.Depth(0.0, 1.0, np.ones((2, 4)))
    if model == "astigmatic":
        if calibration is None or pixel_size_nm is None:
            raise ValueError("the astigmatic model needs calibration and pixel_size_nm")
        depth = calibration.kernel_table(pixel_size_nm)
    known = np.zeros(data.shape, np.float32)
    if expected is not None:
        known += np.asarray(expected, np.float32)
    first = start_values(data - known) if starts is None else np.array(starts, float)
    if first.shape != (len(data), 4):
        raise ValueError(f"starts have the shape {first.shape}; expected ({len(data)}, 4)")
    where = np.zeros((len(data), 3), np.int32)
    if places is not None:
        where = np.ascontiguousarray(places, dtype=np.int32)
    if where.shape != (len(data), 3) or (np.diff(where[:, 0]) < 0).any():
        raise ValueError(f"places must have the shape ({len(data)}, 3) and be sorted by frame")
    if rounds and places is None:
        raise ValueError("rounds needs places: where each box lies")
    if variance is not None:
        noise = np.asarray(variance, np.float32) / np.float32(excess_noise)
        data, known = data + noise, known + noise
    out = np.empty((len(data), kernels.NUMBERS))
    kernels.fit_boxes(
        data,
        known,
        np.ascontiguousarray(first),
        where,
        rounds,
        float(sigma_px),
        float(farthest_px),
        get_args(SpotModel).index(model),
        get_args(Method).index(method),
        depth,
        out,
    )
    out[:, kernels.SD_X : kernels.LOG_LIKELIHOOD] *= math.sqrt(excess_noise)
    ends = {"steps": np.int32, "converged": np.bool_}
    columns: dict[str, Any] = {
        field.name: column.astype(ends.get(field.name, np.float64))
        for field, column in zip(fields(SpotFits), out.T, strict=True)
    }
    return SpotFits(**columns)


def start_values(boxes: npt.NDArray[np.float32]) -> Floats:
    """Return x, y, photons and background of boxes: edge's median, the rest's sum and centroid."""
    n, ny, nx = boxes.shape
    edge = np.concatenate(
        [boxes[:, (0, -1), :].reshape(n, -1), boxes[:, 1:-1, (0, -1)].reshape(n, -1)], 1
    )
    background = np.median(edge, axis=1)
    light = boxes - background[:, None, None]
    total = np.maximum(light.sum(axis=(1, 2)), 1.0)
    light = np.maximum(light, 0)
    weight = np.maximum(light.sum(axis=(1, 2)), 1e-9)
    x = light.sum(axis=1) @ np.arange(nx) / weight
    y = light.sum(axis=2) @ np.arange(ny) / weight
    return np.stack([x, y, total, background], axis=1).astype(np.float64)
