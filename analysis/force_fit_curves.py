"""Force curves made ready for a fit, and their samples told apart: free, in contact, left out.

Which samples a fit can use depends on what the curve shows. Where the surface pulls, samples are
neither baseline nor contact by Hertz's law; where noise has picked the largest pull, those next to
it say too much. All arrays run over curves first, and samples from far to near.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from nanophantom.analysis import force_fit_kernels as kernels
from nanophantom.analysis.contact_point import baseline, curves_of, far_samples, for_each
from nanophantom.analysis.pull_off import CLEAR, RESOLUTION, PullOff
from nanophantom.simcore.probes.contact import checked

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Classes = npt.NDArray[np.int8]

Law = Literal["hertz", "sneddon", "punch", "dmt", "jkr"]
LAWS: tuple[Law, ...] = get_args(Law)
ADHESIVE: tuple[Law, ...] = ("dmt", "jkr")

MARGIN = 4
"""Samples next to the largest pull that are left out: noise has picked them."""


class Curves(NamedTuple):
    """Checked curves from far to near, what is known of them before a fit, and of the tip."""

    z: Floats
    x: Floats
    flat: Floats
    noise: Floats
    line: Floats  # b and t at the middle of the ramp, and the largest pull
    far: int  # samples that are baseline for certain
    lowest: npt.NDArray[np.intp]
    sticky: Bools
    seen: Floats  # largest pull as read off / k, and its error
    stiffness: Floats
    radius: Floats
    half_angle_deg: Floats
    tilt: bool


def prepared(
    z_nm: npt.ArrayLike,
    deflection_nm: npt.ArrayLike,
    stiffness_n_per_m: npt.ArrayLike,
    laws: Sequence[Law],
    radius_nm: npt.ArrayLike | None,
    half_angle_deg: npt.ArrayLike | None,
    tilt: bool,
    fraction: float,
) -> Curves:
    """Check all that was given; take the baseline's first guess and look for attraction.

    Parameters as :func:`nanophantom.analysis.force_fit.fit_many`'s; `laws` are all that are to be
    fitted, `fraction` is the share of the samples that surely don't touch.

    Raises
    ------
    ValueError
        The curves aren't curves (:func:`nanophantom.analysis.contact_point.curves_of`), or what
        a law needs of tip, lever or specimen is missing or impossible.
    """
    z, x = curves_of(z_nm, deflection_nm)
    n = len(x)
    stiffness = for_each("stiffness_n_per_m", checked("stiffness_n_per_m", stiffness_n_per_m), n)
    radius, angle = np.ones(n), np.ones(n)
    for law in laws:
        if law not in LAWS:
            raise ValueError(f"law must be one of {', '.join(LAWS)}, not {law!r}")
        if law == "sneddon":
            if half_angle_deg is None:
                raise ValueError("sneddon needs half_angle_deg, the half angle of the cone")
            angle = for_each("half_angle_deg", checked("half_angle_deg", half_angle_deg), n)
            if (angle >= 90).any():
                raise ValueError("half_angle_deg must be below 90")
        elif radius_nm is None:
            raise ValueError(f"{law} needs radius_nm, the radius of the tip")
        else:
            radius = for_each("radius_nm", checked("radius_nm", radius_nm), n)
    line = baseline(z, x, fraction, tilt)
    flat = x - line.offset_nm[:, None] - line.tilt[:, None] * (z - z[:, :1])
    least = flat.min(axis=1)
    noise = np.maximum(line.noise_nm, RESOLUTION * np.ptp(flat, axis=1))
    half = 0.5 * (z[:, 0] - z[:, -1])
    guess = np.stack([line.offset_nm - line.tilt * half, line.tilt * half, -least], axis=1)
    return Curves(
        z=z,
        x=x,
        flat=flat,
        noise=noise,
        line=guess,
        lowest=np.argmin(flat, axis=1),
        sticky=least < -CLEAR * noise,
        far=far_samples(flat.shape[1], fraction),
        seen=np.full((n, 2), np.inf),
        stiffness=stiffness,
        radius=radius,
        half_angle_deg=angle,
        tilt=tilt,
    )


def with_adhesion(c: Curves, adhesion: PullOff | None) -> Curves:
    """Return the curves with the pull-off as one more reading."""
    if adhesion is None:
        return c
    seen = np.stack([adhesion.adhesion_nn, adhesion.sigma_nn], axis=-1)
    if seen.shape != (len(c.x), 2) or not (seen[:, 1] > 0).all():
        raise ValueError(f"adhesion must be of {len(c.x)} curves, with positive sigma_nn")
    return c._replace(seen=seen / c.stiffness[:, None])


def without_attraction(c: Curves) -> Classes:
    """Leave out where the surface pulls; the contact point parts the other samples."""
    classes = np.full(c.x.shape, kernels.EITHER, np.int8)
    column = np.arange(c.x.shape[1])
    pulls = column >= _attraction_begins(c)[:, None]
    pushes = (column > c.lowest[:, None]) & (c.flat > 0)
    first_push = np.where(pushes.any(axis=1), np.argmax(pushes, axis=1), c.x.shape[1])
    pulls &= column < first_push[:, None]
    classes[pulls & c.sticky[:, None]] = kernels.LEFT_OUT
    return classes


def parted(c: Curves, hidden: tuple[Floats, Floats]) -> Classes:
    """Part the samples at the largest pull, or at Hertz's contact point if there is none."""
    n = c.x.shape[1]
    column = np.arange(n)
    step = (c.z[:, 0] - c.z[:, -1]) / (n - 1)
    height, sigma = hidden
    guard = np.maximum(3.0 * sigma, 2.0 * step)[:, None]
    z = np.broadcast_to(c.z, c.x.shape)
    apart = np.where(
        c.sticky[:, None], column < _attraction_begins(c)[:, None], z > height[:, None] + guard
    )
    touching = np.where(
        c.sticky[:, None], column > c.lowest[:, None] + MARGIN, z < height[:, None] - guard
    )
    classes = np.full(c.x.shape, kernels.LEFT_OUT, np.int8)
    classes[apart] = kernels.APART
    classes[touching] = kernels.TOUCHING
    return classes


def _attraction_begins(c: Curves) -> npt.NDArray[np.intp]:
    """Return the index from which on, coming from afar, the surface pulls.

    That is twice as far from the largest pull as where a single sample shows it: the tail goes on
    below the noise.
    """
    column = np.arange(c.x.shape[1])
    free = (column < c.lowest[:, None]) & (c.flat > -2.0 * c.noise[:, None])
    last = np.where(free.any(axis=1), c.x.shape[1] - 1 - np.argmax(free[:, ::-1], axis=1), 0)
    return np.maximum(2 * last - c.lowest - 2, np.minimum(c.far, last))
