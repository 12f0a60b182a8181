"""Widths and focal shifts next to psfmodels, run live (``pip install psfmodels``)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nanophantom.simcore.light.psf import GibsonLanniPsf, Optics, VectorialPsf

pytestmark = pytest.mark.peer

MODELS = {"scalar": GibsonLanniPsf(), "vectorial": VectorialPsf()}


@pytest.mark.parametrize("model", ["scalar", "vectorial"])
@pytest.mark.parametrize("depth_nm", [0.0, 1000.0])
def test_images_agree_with_psfmodels_over_planes_of_focus(model: str, depth_nm: float) -> None:
    """NA 1.4, oil on water, pixels of 20 nm, to 1 % of the brightest one.

    psfmodels counts its stage from where an emitter is in paraxial focus at stage = depth, and
    scales a stack to a maximum of 1. It integrates over pixels: these are small enough to compare
    with points.
    """
    psfmodels: Any = pytest.importorskip("psfmodels")
    stage = depth_nm * 1.2 + np.linspace(-400.0, 400.0, 9)
    n, step = 61, 20.0
    theirs = psfmodels.make_psf(
        z=stage / 1e3,
        nx=n,
        dxy=step / 1e3,
        pz=depth_nm / 1e3,
        model=model,
        wvl=0.6,
        NA=1.4,
        ns=1.33,
        ni=1.515,
        ni0=1.515,
        ng=1.515,
        ng0=1.515,
    )
    of = Optics(na=1.4, immersion_index=1.515, coverslip_index=1.515, sample_index=1.33)
    axis = (np.arange(n) - n // 2) * step
    x, y = np.meshgrid(axis, axis)
    focus = stage + depth_nm * (1.515 / 1.33 - 1)
    ours = MODELS[model].density(of, 600.0, x.ravel(), y.ravel(), depth_nm, focus)
    ours = ours.reshape(theirs.shape)
    # equal energies of a plane, within the square, in place of equal maxima
    ours /= ours.sum(axis=(1, 2), keepdims=True)
    theirs = theirs / theirs.sum(axis=(1, 2), keepdims=True)
    assert np.abs(ours - theirs).max() < 0.01 * ours.max()
