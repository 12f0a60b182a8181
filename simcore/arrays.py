"""Arrays and Fourier transforms on the processor or on a GPU, behind one set of names.

Physics that is written in terms of a `Backend` (``backend.xp`` is numpy or CuPy, a `WaveTransform`
takes waves to real space and back) runs on either. CuPy is optional (extra ``[gpu]``); it is
imported when it is asked for and `available` says why it can't be used.

Waves of a multislice occupy a band of frequencies that is narrower than what their samples could
hold. On the processor transforms leave out the empty columns: `WaveTransform` knows the band.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from nanophantom.simcore import fft
from nanophantom.simcore.parallel import available_memory_bytes

Name = Literal["numpy", "cupy"]


@dataclass(frozen=True)
class Available:
    """Whether a backend can be used, and if not, why: false in a condition then."""

    reason: str = ""

    def __bool__(self) -> bool:
        return not self.reason


class WaveTransform(ABC):
    """Takes a batch of waves from Fourier coefficients to samples and back.

    Parameters
    ----------
    count : int
        Number of waves.
    shape : (ny, nx)
        Samples of each.
    width : int
        Coefficients are kept for the harmonics 0 ... width - 1 along x; harmonics along y
        are those of ny samples.
    dtype : {"complex64", "complex128"}

    Attributes
    ----------
    spectrum : (count, ny, width)
        Coefficients: written before `to_samples`, read after `to_spectrum`.
    samples : (count, ny, nx)
        psi(r) = sum_k spectrum exp(2 pi i k r): found by `to_samples`, may be changed in place,
        consumed by `to_spectrum`, which gives ny nx times the coefficients.
    """

    spectrum: Any
    samples: Any

    @abstractmethod
    def to_samples(self) -> None:
        """Find `samples` from `spectrum`, which is lost."""

    @abstractmethod
    def to_spectrum(self) -> None:
        """Find `spectrum` from `samples`, which are lost; not normalised."""


class PlannedTransform(WaveTransform):
    """On the processor, with planned transforms in place that skip columns outside the band."""

    def __init__(
        self, count: int, shape: tuple[int, int], width: int, dtype: npt.DTypeLike = "complex64"
    ) -> None:
        ny, nx = shape
        self._width = width
        self._columns = fft.Transform((count, ny, width), dtype, axes=(1,))
        self._rows = fft.Transform((count, ny, nx), dtype, axes=(2,))
        self.spectrum = self._columns.data
        self.samples = self._rows.data

    def to_samples(self) -> None:
        """Transform the columns of the band, then all rows."""
        self._columns.inverse()
        self.samples[:, :, : self._width] = self.spectrum
        self.samples[:, :, self._width :] = 0
        self._rows.inverse()

    def to_spectrum(self) -> None:
        """Transform all rows, then the columns of the band."""
        self._rows.forward()
        self.spectrum[...] = self.samples[:, :, : self._width]
        self._columns.forward()


class PaddedTransform(WaveTransform):
    """Two-dimensional transforms of all samples by a module with the interface of scipy.fft."""

    def __init__(
        self,
        count: int,
        shape: tuple[int, int],
        width: int,
        dtype: npt.DTypeLike,
        xp: Any,
        transforms: Any,
    ) -> None:
        self._width = width
        self._fft = transforms
        self.samples = xp.zeros((count, *shape), dtype)
        self.spectrum = xp.zeros((count, shape[0], width), dtype)

    def to_samples(self) -> None:
        """Fill up with zeros and transform."""
        self.samples[:, :, : self._width] = self.spectrum
        self.samples[:, :, self._width :] = 0
        self.samples = self._fft.ifft2(self.samples, axes=(1, 2), norm="forward", overwrite_x=True)

    def to_spectrum(self) -> None:
        """Transform and keep the band."""
        self.samples = self._fft.fft2(self.samples, axes=(1, 2), overwrite_x=True)
        self.spectrum[...] = self.samples[:, :, : self._width]


@dataclass(frozen=True, eq=False)
class Backend:
    """Where arrays live.

    Attributes
    ----------
    name : {"numpy", "cupy"}
    xp : module
        numpy, or cupy with the same functions.
    """

    name: Name
    xp: Any

    def asarray(self, array: npt.ArrayLike, dtype: npt.DTypeLike | None = None) -> Any:
        """Return an array of this backend; a copy only where it must move or change type."""
        return self.xp.asarray(array, dtype)

    def to_host(self, array: Any) -> npt.NDArray[Any]:
        """Return an array as one of numpy; on the processor the same."""
        return np.asarray(array if self.name == "numpy" else self.xp.asnumpy(array))

    def transform(
        self, count: int, shape: tuple[int, int], width: int, dtype: npt.DTypeLike = "complex64"
    ) -> WaveTransform:
        """Return transforms for a batch of waves, see `WaveTransform`."""
        if self.name == "numpy":
            return PlannedTransform(count, shape, width, dtype)
        transforms = importlib.import_module("cupyx.scipy.fft")
        return PaddedTransform(count, shape, width, dtype, self.xp, transforms)

    @property
    def batch_points(self) -> int:
        """Points that a batch of waves should have: few enough for a cache, or to fill a GPU."""
        return 1 << 16 if self.name == "numpy" else 1 << 25

    def free_bytes(self) -> int:
        """Return the memory that arrays may still take."""
        if self.name == "numpy":
            return available_memory_bytes()
        # Memory that CuPy keeps for its next arrays counts as free.
        free, _ = self.xp.cuda.runtime.memGetInfo()
        return int(free) + int(self.xp.get_default_memory_pool().free_bytes())


def available(name: Name = "cupy") -> Available:
    """Say whether a backend can be used: CuPy is installed and finds a GPU.

    Raises
    ------
    ValueError
        There is no backend of this name.
    """
    if name == "numpy":
        return Available()
    if name != "cupy":
        raise ValueError(f"there is no backend {name!r}; choose 'numpy' or 'cupy'")
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as problem:
        why = str(problem.__cause__ or problem).strip().splitlines()[0]  # CuPy says it in a page
        return Available(f"CuPy can't be imported ({why}); install nanophantom[gpu]")
    try:
        count = int(cupy.cuda.runtime.getDeviceCount())
    except cupy.cuda.runtime.CUDARuntimeError as problem:
        return Available(f"CUDA finds no GPU ({problem})")
    return Available() if count else Available("CUDA finds no GPU")


def backend(name: Name = "numpy") -> Backend:
    """Return the backend of this name.

    Raises
    ------
    ValueError
        It can't be used, or does not exist.
    """
    usable = available(name)
    if not usable:
        raise ValueError(f"the backend {name!r} can't be used: {usable.reason}")
    return Backend(name, np if name == "numpy" else importlib.import_module("cupy"))
