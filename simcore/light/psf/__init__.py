"""Point spread functions: Gaussian, Airy, Gibson-Lanni and vectorial, and renderers of spots.

``psf.table(optics, wavelength_nm, pixel_size_nm, z_range_nm, focus_nm)`` gives a
:class:`SpotRenderer`, which adds spots to images. Heights z are those of emitters above the
coverslip; the focus is the setting of the focus drive (see :mod:`pupil`). The energy of one photon
over the infinite image is 1 at every z.
"""

from __future__ import annotations

from nanophantom.simcore.light.psf.airy import AiryPsf
from nanophantom.simcore.light.psf.gaussian import GaussianPsf, GaussianSpots
from nanophantom.simcore.light.psf.gibson_lanni import GibsonLanniPsf
from nanophantom.simcore.light.psf.optics import Optics, collection_efficiency
from nanophantom.simcore.light.psf.spots import SpotRenderer
from nanophantom.simcore.light.psf.table import PsfTable
from nanophantom.simcore.light.psf.vectorial import VectorialPsf
from nanophantom.simcore.light.psf.zernike import Aberration
from nanophantom.simcore.models import one_of

Psf = one_of("type", GaussianPsf, AiryPsf, GibsonLanniPsf, VectorialPsf)
"""Annotation of a knob that holds any of the point spread functions."""

__all__ = [
    "Aberration",
    "AiryPsf",
    "GaussianPsf",
    "GaussianSpots",
    "GibsonLanniPsf",
    "Optics",
    "Psf",
    "PsfTable",
    "SpotRenderer",
    "VectorialPsf",
    "collection_efficiency",
]
