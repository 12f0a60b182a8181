"""Fast Fourier transforms whose result does not depend on when or where they were planned.

FFTW finds the fastest algorithm for a shape by timing candidates (``FFTW_MEASURE``), and two
candidates differ in the last bits. Plans are therefore measured once per machine and kept as
*wisdom* in the user's cache; every later process takes the same plan from there. A process that
was handed wisdom (`use_wisdom`: workers, a resumed dataset) never measures: a shape unknown to the
wisdom is planned with ``FFTW_ESTIMATE``, which is slower but deterministic.

Transforms run on one thread: the parallel axis of this package is the wave, frame or item.
Sign and scale: the forward kernel is exp(-2 pi i k x), the inverse exp(+2 pi i k x), and *neither
is normalised*: inverse after forward multiplies by `Transform.size`.
Where pyFFTW can't be imported `scipy.fft` does the same work behind the same classes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft

try:
    import pyfftw
except ImportError:  # pragma: no cover - the stand-in is tested by removing the name
    pyfftw = None

_REAL_TO_COMPLEX = {"float32": "complex64", "float64": "complex128"}
_SEPARATOR = b"\n%\n"  # between the double, single and long double parts of FFTW's wisdom

_loaded = False  # the cache file has been read
_handed: bytes | None = None  # wisdom this process was told to live with


class Transform:
    """In-place complex transform of one array that it owns.

    Parameters
    ----------
    shape : tuple of int
        Shape of the array.
    dtype : {"complex64", "complex128"}
    axes : tuple of int, optional
        Axes to transform; all by default. ``axes=(-1,)`` is a batch of row transforms.
    padding : int
        Points added to `data` at the end of the last axis and left alone by the transform. Rows
        of 2^n points all compete for the same few lines of the processor's cache when they are
        walked through across; 8 more points spread them out.

    Attributes
    ----------
    data : ndarray
        The SIMD-aligned buffer, zero at first. Write into it, call `forward` or `inverse`.
    size : int
        Number of points of one transform: ``inverse`` after ``forward`` multiplies by it.

    Raises
    ------
    ValueError
        If `dtype` is no complex type of FFTW or a length is not positive.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike = "complex64",
        axes: tuple[int, ...] | None = None,
        padding: int = 0,
    ) -> None:
        name = np.dtype(dtype).name
        if name not in _REAL_TO_COMPLEX.values():
            raise ValueError(f"dtype is {name}; a Transform needs complex64 or complex128")
        axes = _checked_axes(shape, axes)
        self.data: npt.NDArray[Any] = _empty_aligned((*shape[:-1], shape[-1] + padding), name)
        self.size = int(np.prod([shape[a] for a in axes]))
        array = self.data[..., : shape[-1]]
        if pyfftw is None:
            self._forward = _stand_in(scipy.fft.fftn, array, array, axes=axes)
            self._inverse = _stand_in(scipy.fft.ifftn, array, array, axes=axes, norm="forward")
        else:
            self._forward = _fftw(array, array, axes, "FFTW_FORWARD")
            self._inverse = _fftw(array, array, axes, "FFTW_BACKWARD")
        self.data[...] = 0

    def forward(self) -> npt.NDArray[Any]:
        """Replace `data` by its forward transform and return it."""
        self._forward()
        return self.data

    def inverse(self) -> npt.NDArray[Any]:
        """Replace `data` by its (unnormalised) inverse transform and return it."""
        self._inverse()
        return self.data


class RealTransform:
    """Transform between a real array and the half of its spectrum that is independent.

    Parameters
    ----------
    shape : tuple of int
        Shape of the real array; the last of `axes` is halved to ``n // 2 + 1`` in the spectrum.
    dtype : {"float32", "float64"}
        Type of the real array.
    axes : tuple of int, optional
        Axes to transform; all by default.

    Attributes
    ----------
    real, spectrum : ndarray
        The two SIMD-aligned buffers. Either direction may destroy its input.
    size : int
        Number of real points of one transform: ``inverse`` after ``forward`` multiplies by it.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike = "float32",
        axes: tuple[int, ...] | None = None,
    ) -> None:
        name = np.dtype(dtype).name
        if name not in _REAL_TO_COMPLEX:
            raise ValueError(f"dtype is {name}; a RealTransform needs float32 or float64")
        axes = _checked_axes(shape, axes)
        halved = list(shape)
        halved[axes[-1]] = shape[axes[-1]] // 2 + 1
        self.real: npt.NDArray[Any] = _empty_aligned(shape, name)
        self.spectrum: npt.NDArray[Any] = _empty_aligned(tuple(halved), _REAL_TO_COMPLEX[name])
        self.size = int(np.prod([shape[a] for a in axes]))
        if pyfftw is None:
            lengths = [shape[a] for a in axes]
            self._forward = _stand_in(scipy.fft.rfftn, self.real, self.spectrum, axes=axes)
            self._inverse = _stand_in(
                scipy.fft.irfftn, self.spectrum, self.real, s=lengths, axes=axes, norm="forward"
            )
        else:
            self._forward = _fftw(self.real, self.spectrum, axes, "FFTW_FORWARD")
            self._inverse = _fftw(self.spectrum, self.real, axes, "FFTW_BACKWARD")
        self.real[...] = 0
        self.spectrum[...] = 0

    def forward(self) -> npt.NDArray[Any]:
        """Transform `real` into `spectrum` and return it."""
        self._forward()
        return self.spectrum

    def inverse(self) -> npt.NDArray[Any]:
        """Transform `spectrum` (unnormalised) into `real` and return it."""
        self._inverse()
        return self.real


def plan(
    shape: tuple[int, ...],
    dtype: npt.DTypeLike = "complex64",
    axes: tuple[int, ...] | None = None,
) -> None:
    """Make sure that wisdom for this transform exists, so that workers find it.

    Does what building the `Transform` (complex `dtype`) or `RealTransform` (real `dtype`) does.
    """
    kind = RealTransform if np.dtype(dtype).name in _REAL_TO_COMPLEX else Transform
    kind(shape, dtype, axes)


def fast_length(n: int) -> int:
    """Smallest even length >= `n` that FFTW transforms fast.

    The length has no prime factor above 7 and, as short vectors of 4 or 8 numbers are the unit of
    work, is a multiple of 16 from 256 points on (of 4 from 64 on): measured, 1890 points take
    1.8 times as long as 1920, and 1050 points 1.3 times as long as 1120.

    Raises
    ------
    ValueError
        If `n` is not positive.
    """
    if n < 1:
        raise ValueError(f"n is {n}; a length is at least 1")
    step = 2 if n <= 64 else 4 if n <= 256 else 16
    length = -(-n // step) * step
    while not _is_smooth(length):
        length += step
    return length


def wisdom() -> bytes:
    """Return what FFTW knows, for `use_wisdom` in a worker or beside a dataset.

    Empty where scipy.fft stands in.
    """
    if _handed is not None:
        return _handed
    if pyfftw is None:
        return b""
    _load()
    return _SEPARATOR.join(_sorted(part) for part in pyfftw.export_wisdom())


def use_wisdom(data: bytes) -> None:
    """Plan from `data` alone from now on; what it does not know is planned with ESTIMATE.

    Call it before the first transform of a worker: plans made earlier keep their algorithm.

    Raises
    ------
    ValueError
        If FFTW can't read `data` (another build of FFTW wrote it, or it is no wisdom).
    """
    global _handed
    if pyfftw is not None:
        pyfftw.forget_wisdom()
        if data and not _import(data):
            raise ValueError(
                "this FFTW can't read the wisdom: it must come from wisdom() "
                "of the same version of pyFFTW"
            )
    _handed = bytes(data)


@contextlib.contextmanager
def only(data: bytes) -> Iterator[None]:
    """Plan from `data` alone inside a ``with`` block, as a worker does; then as before."""
    global _handed, _loaded
    before = _handed
    use_wisdom(data)
    try:
        yield
    finally:
        if before is None:
            _handed, _loaded = None, False  # the cache file is read again when it is needed
        else:
            use_wisdom(before)


def wisdom_hash() -> str:
    """SHA-256 of `wisdom`, in hexadecimal digits."""
    return hashlib.sha256(wisdom()).hexdigest()


def cache_file() -> Path:
    """Path of this user's wisdom for this processor and this pyFFTW."""
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    version = "none" if pyfftw is None else pyfftw.__version__
    processor = re.sub(r"[^a-z0-9]+", "-", _processor().lower()).strip("-")
    return Path(folder) / "nanophantom" / f"fftw-{processor}-{version}.wisdom"


def _fftw(
    source: npt.NDArray[Any], target: npt.NDArray[Any], axes: tuple[int, ...], direction: str
) -> Callable[[], None]:
    """Plan from wisdom; without it measure (and remember), or estimate if wisdom was handed in."""

    def build(*flags: str) -> Callable[[], None]:
        flags = (*flags, "FFTW_DESTROY_INPUT")
        plan = pyfftw.FFTW(source, target, axes=axes, direction=direction, flags=flags, threads=1)
        execute: Callable[[], None] = plan.execute
        return execute

    _load()
    with contextlib.suppress(RuntimeError):  # raised when the wisdom does not know the shape
        return build("FFTW_MEASURE", "FFTW_WISDOM_ONLY")
    if _handed is not None:
        return build("FFTW_ESTIMATE")
    build("FFTW_MEASURE")
    _save()
    # The plan just measured is used as any worker will use it: as rebuilt from the wisdom.
    return build("FFTW_MEASURE", "FFTW_WISDOM_ONLY")


def _stand_in(
    function: Callable[..., Any], source: npt.NDArray[Any], target: npt.NDArray[Any], **how: Any
) -> Callable[[], None]:
    """Bind a scipy.fft function to its arrays as a plan's ``execute`` is."""

    def execute() -> None:
        target[...] = function(source, workers=1, **how)

    return execute


def _empty_aligned(shape: tuple[int, ...], name: str) -> npt.NDArray[Any]:
    if pyfftw is None:
        return np.empty(shape, dtype=name)
    array: npt.NDArray[Any] = pyfftw.empty_aligned(shape, dtype=name)
    return array


def _checked_axes(shape: tuple[int, ...], axes: tuple[int, ...] | None) -> tuple[int, ...]:
    if min(shape, default=0) < 1:
        raise ValueError(f"shape is {shape}; every length is at least 1")
    return tuple(range(len(shape))) if axes is None else tuple(a % len(shape) for a in axes)


def _is_smooth(n: int) -> bool:
    for prime in (2, 3, 5, 7):
        while n % prime == 0:
            n //= prime
    return n == 1


def _load() -> None:
    """Read the cache file, once, unless wisdom was handed in."""
    global _loaded
    if _loaded or _handed is not None:
        return
    _loaded = True
    with contextlib.suppress(OSError):
        _import(cache_file().read_bytes())


def _save() -> None:
    """Write the cache file in one step; a cache that can't be written costs time, not results."""
    target = cache_file()
    with contextlib.suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            _import(target.read_bytes())  # what other processes learned meanwhile
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=target.name)
        with os.fdopen(handle, "wb") as file:
            file.write(wisdom())
        Path(name).replace(target)


def _sorted(part: bytes) -> bytes:
    """Sort the entries between the first and the last line: FFTW lists them in any order."""
    first, *entries, last = part.strip().split(b"\n")
    return b"\n".join([first, *sorted(entries), last])


def _import(data: bytes) -> bool:
    """Hand `data` to FFTW; True if single and double precision were understood."""
    parts = data.split(_SEPARATOR)
    if len(parts) != 3:
        return False
    double, single, _ = pyfftw.import_wisdom(tuple(parts))
    return bool(double and single)


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1]
    return platform.processor() or platform.machine()
