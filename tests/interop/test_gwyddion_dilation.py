"""Dilation and erosion against Gwyddion's own library, run live (Debian's libgwyprocess2)."""

import ctypes

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from nanophantom.simcore.probes.dilation import dilate, erode

pytestmark = pytest.mark.peer


class Gwyddion:
    """The few functions of libgwyprocess2 that are needed."""

    def __init__(self):
        try:
            for needed in ("libgobject-2.0.so.0", "libgwyddion2.so.0"):
                ctypes.CDLL(needed, mode=ctypes.RTLD_GLOBAL)
            self.lib = ctypes.CDLL("libgwyprocess2.so.0")
        except OSError:
            pytest.skip("libgwyprocess2 isn't installed")
        self.lib.gwy_process_type_init()
        self.lib.gwy_data_field_new.restype = ctypes.c_void_p
        self.lib.gwy_data_field_new.argtypes = (
            [ctypes.c_int] * 2 + [ctypes.c_double] * 2 + [ctypes.c_int]
        )
        self.lib.gwy_data_field_get_data.restype = ctypes.POINTER(ctypes.c_double)
        self.lib.gwy_data_field_get_data.argtypes = [ctypes.c_void_p]
        go_on = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_double)(lambda _: 1)
        told = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p)(lambda _: 1)
        self.callbacks = go_on, told
        for name in ("gwy_tip_dilation", "gwy_tip_erosion"):
            getattr(self.lib, name).argtypes = [ctypes.c_void_p] * 3 + [type(go_on), type(told)]

    def field(self, values):
        ny, nx = values.shape
        field = self.lib.gwy_data_field_new(nx, ny, float(nx), float(ny), 1)
        data = np.ascontiguousarray(values, np.float64)
        ctypes.memmove(self.lib.gwy_data_field_get_data(field), data.ctypes.data, data.nbytes)
        return field

    def run(self, name, tip, surface):
        """Return the result; a tip's lowest value lies at 0 there."""
        result = self.field(np.zeros_like(surface))
        getattr(self.lib, name)(
            self.field(tip - tip.min()), self.field(surface), result, *self.callbacks
        )
        data = self.lib.gwy_data_field_get_data(result)
        return np.ctypeslib.as_array(data, surface.shape).copy()


@pytest.fixture(scope="module")
def gwyddion():
    return Gwyddion()


@pytest.mark.parametrize("lopsided", [False, True])
def test_dilation_and_erosion_are_gwyddions(gwyddion, lopsided):
    """The same image to 1e-12 of nm, up to a common offset, for tips with and without symmetry."""
    rng = np.random.default_rng(3)
    surface = 20 * gaussian_filter(rng.normal(size=(160, 140)), 3)
    u = np.arange(-10.0, 11.0)
    across = np.where(u > 0, u**2 / 20, u**2 / 6) if lopsided else u**2 / 9
    tip = -(u[:, None] ** 2 / 8 + across)
    image = dilate(surface, tip, (10, 10))
    theirs = gwyddion.run("gwy_tip_dilation", tip, surface)
    assert np.abs((theirs - image) - np.median(theirs - image)).max() < 1e-12
    eroded = gwyddion.run("gwy_tip_erosion", tip, image)
    difference = eroded - erode(image, tip, (10, 10))
    assert np.abs(difference - np.median(difference)).max() < 1e-12
