"""Backends of arrays and the transforms of batches of waves."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import scipy.fft

from nanophantom.simcore import arrays

SHAPE, WIDTH, COUNT = (12, 20), 7, 3


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_transforms_match_numpy(padded: bool, dtype: str) -> None:
    """Coefficients to samples and back, against numpy's transforms of the full array."""
    transform: arrays.WaveTransform = (
        arrays.PaddedTransform(COUNT, SHAPE, WIDTH, dtype, np, scipy.fft)
        if padded
        else arrays.PlannedTransform(COUNT, SHAPE, WIDTH, dtype)
    )
    rng = np.random.default_rng(0)
    given = (rng.standard_normal((2, COUNT, SHAPE[0], WIDTH)) * [[[[1]]], [[[1j]]]]).sum(axis=0)
    full = np.zeros((COUNT, *SHAPE), complex)
    full[:, :, :WIDTH] = given
    tolerance = 1e-5 if dtype == "complex64" else 1e-13
    for _ in range(2):  # nothing is left over from the first time
        transform.spectrum[...] = given
        transform.to_samples()
        assert transform.samples.dtype == dtype
        assert np.allclose(transform.samples, np.fft.ifft2(full, norm="forward"), atol=tolerance)
        factor = rng.standard_normal(SHAPE)
        transform.samples *= factor
        transform.to_spectrum()
        expected = np.fft.fft2(np.fft.ifft2(full, norm="forward") * factor)[:, :, :WIDTH]
        assert np.allclose(transform.spectrum, expected, atol=240 * tolerance)


def test_numpy_is_always_there() -> None:
    """The processor's backend moves nothing and knows its memory."""
    here = arrays.backend("numpy")
    assert arrays.available("numpy")
    data = np.arange(3.0)
    assert here.asarray(data) is data
    assert here.to_host(data) is data
    assert here.free_bytes() > 1 << 20
    assert isinstance(here.transform(1, SHAPE, WIDTH), arrays.PlannedTransform)


def test_a_missing_gpu_is_told_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without CuPy, without a driver and without a device; an unknown backend is refused."""
    monkeypatch.setitem(sys.modules, "cupy", None)  # as if it were not installed
    assert not arrays.available("cupy")
    assert "install nanophantom[gpu]" in arrays.available("cupy").reason
    with pytest.raises(ValueError, match=r"can't be used: CuPy can't be imported"):
        arrays.backend("cupy")

    class CUDARuntimeError(RuntimeError):
        pass

    def no_driver() -> int:
        raise CUDARuntimeError("cudaErrorInsufficientDriver")

    fake = ModuleType("cupy")
    runtime = SimpleNamespace(getDeviceCount=no_driver, CUDARuntimeError=CUDARuntimeError)
    fake.cuda = SimpleNamespace(runtime=runtime)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cupy", fake)
    assert "cudaErrorInsufficientDriver" in arrays.available("cupy").reason
    runtime.getDeviceCount = lambda: 0
    assert arrays.available("cupy").reason == "CUDA finds no GPU"
    runtime.getDeviceCount = lambda: 1
    assert arrays.available("cupy")
    with pytest.raises(ValueError, match="no backend 'tpu'"):
        arrays.available("tpu")  # type: ignore[arg-type]


def test_gpu_arrays_come_back() -> None:
    """Arrays to a GPU and back, transforms there. Skipped, with the reason, where there is none."""
    usable = arrays.available("cupy")
    if not usable:
        pytest.skip(usable.reason)
    there = arrays.backend("cupy")
    data = np.random.default_rng(2).standard_normal((COUNT, SHAPE[0], WIDTH)) + 0j
    transform = there.transform(COUNT, SHAPE, WIDTH, "complex128")
    transform.spectrum[...] = there.asarray(data)
    transform.to_samples()
    transform.to_spectrum()
    assert np.allclose(there.to_host(transform.spectrum) / np.prod(SHAPE), data, atol=1e-13)
    assert there.free_bytes() > 0
