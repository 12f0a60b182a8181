"""Labelling: from the sites on structures to labels, and to the dyes on those.

A site binds a label or doesn't; the label sits at the end of a linker, carries some dyes, and a
part of those fluoresces. Each of these chances has a stream of its own and is drawn for every
site, so a site that is labelled at an efficiency of 0.3 has the same label with the same dyes at
0.6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from nanophantom.simcore.emitters import Dyes, Floats, Ints, Sites
from nanophantom.simcore.fields import Table, read_only
from nanophantom.simcore.light.fluorophores import Fluorophore
from nanophantom.simcore.models import Model, one_of
from nanophantom.simcore.runs import Run


class NoLinker(Model):
    """Labels that sit on their sites."""

    type: Literal["none"] = "none"
    """Nothing between site and label."""

    def offsets_nm(self, n: int, outward: Floats | None, rng: np.random.Generator) -> Floats:
        """Return vectors from sites to labels, shape (n, 3)."""
        return np.zeros((n, 3))


class FixedLinker(Model):
    """Linkers of one length that point anywhere."""

    type: Literal["fixed"] = "fixed"
    """One length, in directions that are uniform on the sphere."""
    length_nm: float = Field(default=3.5, gt=0, le=1000)
    """From site to dye: 3.5 nm is about the size of a self-labelling tag or a nanobody; a primary
    and a secondary antibody together reach 17.5 nm, which turns the 25 nm of a microtubule into
    60 nm."""
    outward: bool = False
    """Point into the half of space outside the structure only, for labels that can't get in; for
    sites on a tube, a filament or a particle."""

    def offsets_nm(self, n: int, outward: Floats | None, rng: np.random.Generator) -> Floats:
        """Return vectors from sites to labels, shape (n, 3)."""
        vectors = rng.standard_normal((n, 3))
        vectors *= (self.length_nm / np.sqrt((vectors**2).sum(axis=1)))[:, None]
        if self.outward:
            if outward is None:
                raise ValueError(
                    "labelling.linker.outward: these sites have no inside; leave it out (it is "
                    "for microtubules, filament-network and atom-sites)"
                )
            vectors[(vectors * outward).sum(axis=1) < 0] *= -1
        return vectors


class GaussianLinker(Model):
    """Floppy linkers: the label is normally distributed about its site."""

    type: Literal["gaussian"] = "gaussian"
    """Normally distributed along x, y and z alike."""
    sd_nm: float = Field(default=2.0, gt=0, le=1000)
    """Standard deviation along each axis; the mean length is sqrt(8 / pi) of it."""

    def offsets_nm(self, n: int, outward: Floats | None, rng: np.random.Generator) -> Floats:
        """Return vectors from sites to labels, shape (n, 3)."""
        return self.sd_nm * rng.standard_normal((n, 3))


Linker = one_of("type", NoLinker, FixedLinker, GaussianLinker)


class Labelling(Model):
    """How sites are labelled, and with what."""

    efficiency: float = Field(default=0.6, ge=0, le=1, json_schema_extra={"dimensionless": True})
    """Probability that a site binds a label."""
    linker: Linker = FixedLinker()  # type: ignore[valid-type]
    """What lies between a site and its label."""
    dyes_per_label: float = Field(
        default=1.0, ge=0, le=1000, json_schema_extra={"dimensionless": True}
    )
    """Number of dyes on a label, or its mean: the degree of labelling."""
    dyes_distribution: Literal["fixed", "poisson"] = "fixed"
    """The same number on every label, or Poisson numbers, as on antibodies, where some have none.
    """
    dye_spread_nm: float = Field(default=0.0, ge=0, le=1000)
    """Standard deviation, along each axis, of the dyes about their label's place."""
    fluorescent_fraction: float = Field(
        default=1.0, ge=0, le=1, json_schema_extra={"dimensionless": True}
    )
    """Probability that a dye can fluoresce at all; fluorescent proteins that mature badly have
    0.4 to 0.6."""
    dye: Fluorophore = Fluorophore(preset="dstorm")
    """What the dyes are."""

    @model_validator(mode="after")
    def _whole_dyes(self) -> Self:
        if self.dyes_distribution == "fixed" and self.dyes_per_label % 1:
            raise ValueError(
                f"dyes_per_label: {self.dyes_per_label:g} is no whole number; give one, or set "
                "dyes_distribution to poisson"
            )
        return self

    def dye_numbers(self, n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Return how many dyes each of n labels carries."""
        if self.dyes_distribution == "fixed":
            return np.full(n, int(self.dyes_per_label))
        return rng.poisson(self.dyes_per_label, n)

    def brightness(self, n: int, rng: np.random.Generator) -> Floats:
        """Return log-normal brightness of mean 1 and the dye's coefficient of variation."""
        variance = np.log1p(self.dye.brightness_cv**2)
        return np.asarray(np.exp(np.sqrt(variance) * rng.standard_normal(n) - variance / 2))


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels, and all their dyes.

    Attributes
    ----------
    positions_nm : (n, 3)
        x, y, z of the labels.
    site : (n,) int32
        The site that each has bound.
    dyes : Dyes
        All dyes, those that stay dark too, in the order of their numbers and of their labels.
    fluoresces : (m,) bool
        Which of them can fluoresce.
    """

    positions_nm: Floats
    site: Ints
    dyes: Dyes
    fluoresces: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        for name in ("positions_nm", "site", "fluoresces"):
            object.__setattr__(self, name, read_only(getattr(self, name)))

    def fluorescing(self) -> Dyes:
        """Return the dyes that can fluoresce."""
        return self.dyes.select(self.fluoresces)

    def tables(self) -> Mapping[str, Table]:
        """Return labels and dyes as truth tables."""
        x, y, z = self.positions_nm.T
        dyes = self.dyes
        dye_x, dye_y, dye_z = dyes.positions_nm.T
        return {
            "labels": {
                "label": np.arange(len(self.site)),
                "site": self.site,
                "x_nm": x,
                "y_nm": y,
                "z_nm": z,
            },
            "dyes": {
                "dye": dyes.dye,
                "label": dyes.label,
                "site": dyes.site,
                "x_nm": dye_x,
                "y_nm": dye_y,
                "z_nm": dye_z,
                "fluoresces": self.fluoresces,
                "brightness": dyes.brightness,
            },
        }


def label(sites: Sites, labelling: Labelling, run: Run, outward: Floats | None = None) -> Labels:
    """Label sites.

    Parameters
    ----------
    sites
        Where labels can bind.
    labelling
        How they do.
    run
        Address of the streams "labels" (which sites), "linkers", "dyes" (how many), "dye places",
        "fluorescent" and "brightness".
    outward
        Unit vectors that point out of the structure at each site, shape (n, 3), if it has an
        inside.

    Raises
    ------
    ValueError
        The linker is to point outward, and there is no inside.
    """
    n = len(sites)
    bound = run.rng("labels").random(n) < labelling.efficiency
    linker: NoLinker | FixedLinker | GaussianLinker = labelling.linker
    offsets = linker.offsets_nm(n, outward, run.rng("linkers"))

    # the dyes of all sites, so that those of one don't depend on which others are labelled
    owner = np.repeat(np.arange(n), labelling.dye_numbers(n, run.rng("dyes")))
    fluoresces = run.rng("fluorescent").random(len(owner)) < labelling.fluorescent_fraction
    brightness = labelling.brightness(len(owner), run.rng("brightness"))
    scatter = labelling.dye_spread_nm
    around = (
        scatter * run.rng("dye places").standard_normal((len(owner), 3))
        if scatter
        else np.zeros((1, 3))
    )

    there = bound[owner]
    site = np.flatnonzero(bound).astype(np.int32)
    number = (np.cumsum(bound) - 1).astype(np.int32)
    places = sites.positions_nm + offsets
    owner = owner[there]
    return Labels(
        positions_nm=places[site],
        site=site,
        dyes=Dyes(
            positions_nm=places[owner] + (around[there] if scatter else around),
            dye=np.arange(len(owner), dtype=np.int32),
            label=number[owner],
            site=owner.astype(np.int32),
            brightness=brightness[there],
        ),
        fluoresces=fluoresces[there],
    )
