"""Rings of sectors: from the signals of a segmented detector to the beam's deflection.

A segmented detector doesn't see the centre of mass itself, but each segment's share of the
electrons: the edge of the bright disk moves over the segments that hold it.

Every angle is in mrad; x runs along a row, y downwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SegmentedDetector:
    """Rings cut into equal sectors: quadrants, or 8 or 16 segments.

    Segments are counted ring by ring from the inside, in each ring from the sector that starts
    at `rotation_deg`, which is measured from x towards y (clockwise on the screen).

    Parameters
    ----------
    ring_edges_mrad : tuple of float
        Radii that bound the rings: (0, 30) is one ring, (0, 15, 30) are two.
    n_sectors : int
        Sectors of each ring, three or more.
    rotation_deg : float
        Azimuth at which the first sector starts.
    """

    ring_edges_mrad: tuple[float, ...]
    n_sectors: int = 4
    rotation_deg: float = 0.0

    def __post_init__(self) -> None:
        edges = np.asarray(self.ring_edges_mrad, np.float64)
        if len(edges) < 2 or edges[0] < 0 or not np.all(np.diff(edges) > 0):
            raise ValueError(
                f"ring_edges_mrad must rise from zero or above, got {self.ring_edges_mrad}"
            )
        if self.n_sectors < 3:
            raise ValueError(f"n_sectors must be 3 or more, got {self.n_sectors}")

    @property
    def n_segments(self) -> int:
        """Number of signals."""
        return (len(self.ring_edges_mrad) - 1) * self.n_sectors

    def vectors_mrad(self, semiangle_mrad: float) -> FloatArray:
        """Return the (n_segments, 2) vectors (x, y) by which the signals' shares are weighted.

        Segment j (r1 to r2, mid azimuth m_j, opening angle b) sees of an undeflected disk of
        semiangle a the share f_j, and its centroid there is
            R_j = u(m_j) * (2/3) (r2'^3 - r1^3) / (r2'^2 - r1^2) * sinc,  sinc = sin(b/2) / (b/2),
        with r2' = min(r2, a); segments wholly outside of the disk take their own centroid.
        A deflection d moves only the disk's edge, over which d f_j / d d = 2 sin(b/2) u(m_j) /
        (pi a) if r1 < a <= r2, zero otherwise. With shares s_j = f_j / sum f the estimate
            d = C sum_j R_j (s_j - s_j0),     C = (sum_j R_j (ds_j / dd)^T)^-1
        is the true shift of a uniform disk to first order. For quadrants it is the known
        pi a / 4 times (right half - left half) / sum.

        Raises
        ------
        ValueError
            If no ring holds the disk's edge: then a deflection changes no signal.
        """
        require_positive(semiangle_mrad=semiangle_mrad)
        a, edges = semiangle_mrad, self.ring_edges_mrad
        if not edges[0] < a <= edges[-1]:
            raise ValueError(
                f"the edge of the disk, {a} mrad, must lie on the detector, "
                f"{edges[0]} to {edges[-1]} mrad: its signals don't depend on a shift else"
            )
        opening = 2 * np.pi / self.n_sectors
        azimuth = np.deg2rad(self.rotation_deg) + opening * (np.arange(self.n_sectors) + 0.5)
        towards = np.stack([np.cos(azimuth), np.sin(azimuth)], axis=1)
        centroids, slopes, shares = [], [], []
        for r1, r2 in pairwise(edges):
            lit = min(r2, a) if r1 < a else r2
            radius = (2 / 3) * (lit**3 - r1**3) / (lit**2 - r1**2)
            centroids.append(radius * np.sin(opening / 2) / (opening / 2) * towards)
            edge = 2 * np.sin(opening / 2) / (np.pi * a) if r1 < a <= r2 else 0.0
            slopes.append(edge * towards)
            share = max(0.0, lit**2 - r1**2) / (self.n_sectors * a**2) if r1 < a else 0.0
            shares.append(np.full(self.n_sectors, share))
        # The sum over a full ring doesn't change to first order: ds_j/dd = df_j/dd / sum f.
        slope = np.concatenate(slopes) / np.sum(shares)
        centroid = np.concatenate(centroids)
        return np.asarray(centroid @ np.linalg.inv(centroid.T @ slope).T)

    def centre_of_mass(
        self,
        signals: npt.ArrayLike,
        semiangle_mrad: float,
        vacuum: npt.ArrayLike | None = None,
        beam_counts: float | None = None,
    ) -> tuple[FloatArray, FloatArray]:
        """Return the deflection (x_mrad, y_mrad) estimated from segment signals.

        Parameters
        ----------
        signals : (n_segments, ...) array
            Counts, or any unit common to all segments, dark level subtracted.
        semiangle_mrad : float
            Semiangle of the bright-field disk.
        vacuum : (n_segments,) array, optional
            Signals without specimen: what they tell as deflection is subtracted. A centred disk
            if not given.
        beam_counts : float, optional
            Expected sum over the segments; the sum of each position's signals if not given.

        Raises
        ------
        ValueError
            If the number of signals is wrong, or a sum isn't positive.
        """
        values = np.asarray(signals, np.float64)
        if values.ndim < 1 or values.shape[0] != self.n_segments:
            raise ValueError(f"signals have the shape ({self.n_segments}, ...), got {values.shape}")
        vectors = self.vectors_mrad(semiangle_mrad)
        total = np.sum(values, axis=0)
        if beam_counts is not None:
            require_positive(beam_counts=beam_counts)
            total = np.full(total.shape, float(beam_counts))
        if not np.all(total > 0):
            raise ValueError(
                "the sum of the segments must be positive everywhere; if it can be zero give "
                "beam_counts, the expected sum"
            )
        x, y = np.tensordot(vectors.T, values, axes=1) / total
        if vacuum is not None:
            reference = np.asarray(vacuum, np.float64)
            if reference.shape != (self.n_segments,) or not np.sum(reference) > 0:
                raise ValueError(f"vacuum needs {self.n_segments} signals with a positive sum")
            x0, y0 = vectors.T @ reference / np.sum(reference)
            x, y = x - x0, y - y0
        return x, y


def require_positive(**numbers: float) -> None:
    """Raise ValueError unless all numbers are finite and above zero; names the one that isn't."""
    for name, number in numbers.items():
        if not (np.isfinite(number) and number > 0):
            raise ValueError(f"{name} must be a positive number, got {number}")
