"""Sums of a drifting stack, moved back by one path or another, and how far they resolve.

The frames are sampled where the specimen's points lie in them, by cubic splines, and added up: the
even ones and the odd ones apart, whose agreement tells the resolution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline

from nanophantom.analysis.fourier_shells import ShellCorrelation, fourier_ring_correlation
from nanophantom.simcore.beam_motion import MotionField
from nanophantom.simcore.warping import warp

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]
Displacement = Callable[[int], Floats]
"""Of a frame: (2, ny, nx), along y and x, in pixels; or (2, 1, 1), the same everywhere."""


@dataclass(frozen=True, eq=False)
class FilmMotion:
    """The non-uniform part of the motion that the beam drives, in every frame.

    Attributes
    ----------
    field
        The motion as a function of place and fluence.
    fluence_e_per_A2 : (frames,)
        What the specimen had got in the middle of each exposure.
    pixel_size_nm, shape
        Of the view.
    """

    field: MotionField
    fluence_e_per_A2: Floats
    pixel_size_nm: float
    shape: tuple[int, int]

    @classmethod
    def of(cls, dataset: Observed, shape: tuple[int, ...]) -> Self:
        """Read the truth tables "beam_induced_motion" and "dose"."""
        table: Any = dataset.truth("beam_induced_motion")
        field = MotionField(
            half_width_nm=float(table["half_width_nm"][0]),
            half_height_nm=float(table["half_height_nm"][0]),
            saturating_nm=np.column_stack([table["saturating_x_nm"], table["saturating_y_nm"]]),
            critical_e_per_A2=np.asarray(table["critical_fluence_e_per_A2"], np.float64),
            slow_nm_A2_per_e=np.column_stack(
                [table["slow_x_nm_A2_per_e"], table["slow_y_nm_A2_per_e"]]
            ),
        )
        dose: Any = dataset.truth("dose")
        middle = np.asarray(dose["cumulative_e_per_A2"]) - np.asarray(dose["dose_e_per_A2"]) / 2
        return cls(field, middle, float(dataset.settings["pixel_size_nm"]), (shape[0], shape[1]))

    def local_nm(self, frame: int, y_px: npt.ArrayLike, x_px: npt.ArrayLike) -> Floats:
        """Return how far points at rest lie off the view's mean motion, (2, ...): along y and x."""
        fluence = self.fluence_e_per_A2[frame]
        x = (np.asarray(x_px) - (self.shape[1] - 1) / 2) * self.pixel_size_nm
        y = (np.asarray(y_px) - (self.shape[0] - 1) / 2) * self.pixel_size_nm
        dx, dy = self.field.displacement_nm(x, y, fluence)
        ux, uy = self.field.uniform_nm(fluence)
        return np.stack([dy - uy, dx - ux])

    @property
    def rms_nm(self) -> Floats:
        """Root mean square of the local displacement over the view, in every frame."""
        grown = -np.expm1(
            -self.fluence_e_per_A2[:, None, None] / self.field.critical_e_per_A2[:, None]
        )
        slow = self.field.slow_nm_A2_per_e * self.fluence_e_per_A2[:, None, None]
        amplitudes = self.field.saturating_nm * grown + slow
        return np.asarray(np.sqrt(np.sum(amplitudes[:, 1:] ** 2, axis=(1, 2))), np.float64)

    def of_structure_nm(self, counts: Floats) -> Floats:
        """Return (frames, 2), along x and y: the local motion as a rigid registration feels it.

        The shift of most likelihood between a picture λ and the same displaced by a small field d
        is M⁻¹ sum (∇λ)(∇λ)ᵀ d / λ with M = sum (∇λ)(∇λ)ᵀ / λ.
        """
        slope_y, slope_x = (
            CubicSpline(np.arange(n), counts, axis=axis)(np.arange(n), 1)
            for axis, n in enumerate(counts.shape)
        )
        weight = np.divide(1.0, counts, out=np.zeros_like(counts), where=counts > 0)
        yy, xx, yx = (
            weight * slope_y**2,
            weight * slope_x**2,
            weight * slope_y * slope_x,
        )
        information = np.array([[yy.sum(), yx.sum()], [yx.sum(), xx.sum()]])
        if np.linalg.matrix_rank(information) < 2:  # nothing to see, or along one direction only
            return np.zeros((len(self.fluence_e_per_A2), 2))
        y, x = np.arange(self.shape[0])[:, None], np.arange(self.shape[1])
        felt = []
        for frame in range(len(self.fluence_e_per_A2)):
            dy, dx = self.local_nm(frame, y, x)
            pull = [np.sum(yy * dy + yx * dx), np.sum(yx * dy + xx * dx)]
            felt.append(np.linalg.solve(information, pull)[::-1])
        return np.array(felt)


def rigid(path_nm: Floats, pixel_size_nm: float) -> Displacement:
    """Return the displacement by a path (frames, 2), along x and y, about its mean."""
    shifts = (path_nm - path_nm.mean(axis=0))[:, ::-1] / pixel_size_nm
    return lambda frame: np.asarray(shifts[frame][:, None, None])


def with_film(path_nm: Floats, pixel_size_nm: float, film: FilmMotion) -> Displacement:
    """Return the displacement by a path and, on top of it, the local motion of the film."""
    whole = rigid(path_nm, pixel_size_nm)
    # What the sum shows in a pixel lies at rest where the mean displacement hasn't brought it yet.
    middle_x, middle_y = path_nm.mean(axis=0) / pixel_size_nm
    y, x = np.arange(film.shape[0])[:, None] - middle_y, np.arange(film.shape[1]) - middle_x

    def move(frame: int) -> Floats:
        return np.asarray(whole(frame) + film.local_nm(frame, y, x) / pixel_size_nm)

    return move


def margin_px(path_nm: Floats, pixel_size_nm: float) -> tuple[int, int]:
    """Return how far from the edges (y, x) every frame of a path saw the specimen."""
    reach = np.abs(path_nm - path_nm.mean(axis=0)).max(axis=0)[::-1] / pixel_size_nm
    return int(np.ceil(reach[0])) + 2, int(np.ceil(reach[1])) + 2


def half_sums(
    stack: npt.NDArray[np.generic], displacement: Displacement, margin: tuple[int, int]
) -> tuple[Floats, Floats]:
    """Return the sums of the even and of the odd frames, moved back; the margin is cut off.

    An odd last frame is left away. A margin that would leave less than half of a side is cut to
    that: a path that leads out of the view is wrong, and the sum shall show it.
    """
    n, ny, nx = stack.shape
    my, mx = min(margin[0], ny // 4), min(margin[1], nx // 4)
    sums = np.zeros((2, ny, nx))
    for i in range(n // 2 * 2):
        dy, dx = (
            np.ascontiguousarray(np.broadcast_to(-d, (ny, nx)), np.float64) for d in displacement(i)
        )
        sums[i % 2] += warp(stack[i].astype(np.float32), dy, dx)
    even, odd = sums[:, my : ny - my, mx : nx - mx]
    return even, odd


def correlate(halves: tuple[Floats, Floats], pixel_size_nm: float) -> ShellCorrelation:
    """Return the Fourier ring correlation of the two halves."""
    return fourier_ring_correlation(*halves, pixel_size_nm)


def resolution_nm(
    stack: npt.NDArray[np.generic],
    path_nm: Floats,
    pixel_size_nm: float,
    margin: tuple[int, int],
    film: FilmMotion | None = None,
) -> float | None:
    """Return the period at which the halves of the sum correlate by 1/7; None: they don't."""
    move = (
        rigid(path_nm, pixel_size_nm) if film is None else with_film(path_nm, pixel_size_nm, film)
    )
    halves = half_sums(stack, move, margin)
    if any(np.ptp(half) == 0 for half in halves):
        return None
    return correlate(halves, pixel_size_nm).resolution_nm()
