"""Transforms are right, and the same from run to run."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import scipy.fft

from nanophantom.simcore import fft

# Rounding of an FFT of n points: about eps sqrt(log2 n), in this file below 4 eps.
TOLERANCE = {d: 4 * np.finfo(d).eps for d in ("complex64", "complex128", "float32", "float64")}


def _noise(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    rng = np.random.default_rng(5)
    values = rng.standard_normal(shape)
    if dtype.startswith("complex"):
        values = values + 1j * rng.standard_normal(shape)
    return values.astype(dtype)


def _relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.fixture(params=["pyfftw", "scipy"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "scipy":
        monkeypatch.setattr(fft, "pyfftw", None)
    return str(request.param)


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize(
    ("shape", "axes", "padding"), [((48, 60), None, 0), ((5, 96), (-1,), 0), ((6, 64), (-1,), 8)]
)
def test_transform_agrees_with_scipy_and_returns(
    library: str, dtype: str, shape: tuple[int, ...], axes: tuple[int, ...] | None, padding: int
) -> None:
    """Forward equals scipy.fft, Parseval holds, inverse after forward multiplies by size."""
    transform = fft.Transform(shape, dtype, axes, padding)
    x = _noise(shape, dtype)
    inside = transform.data[..., : shape[-1]]
    inside[...] = x
    transform.forward()
    reference = scipy.fft.fftn(x.astype(complex), axes=axes)
    assert _relative(inside, reference) < TOLERANCE[dtype]
    power = np.sum(np.abs(inside.astype(complex)) ** 2) / transform.size
    assert power == pytest.approx(np.sum(np.abs(x.astype(complex)) ** 2), rel=1e-6)
    transform.inverse()
    assert _relative(inside / transform.size, x) < 2 * TOLERANCE[dtype]
    assert not transform.data[..., shape[-1] :].any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(40, 36), (30, 49)])
@pytest.mark.parametrize("axes", [None, (-1,)])
def test_real_transform_agrees_with_scipy_and_returns(
    library: str, dtype: str, shape: tuple[int, int], axes: tuple[int, ...] | None
) -> None:
    """The half spectrum equals scipy's, also for odd lengths; the way back multiplies by size."""
    transform = fft.RealTransform(shape, dtype, axes)
    x = _noise(shape, dtype)
    transform.real[...] = x
    reference = scipy.fft.rfftn(x.astype(float), axes=axes)
    assert _relative(transform.forward(), reference) < TOLERANCE[dtype]
    assert _relative(transform.inverse() / transform.size, x) < 2 * TOLERANCE[dtype]


def test_forward_kernel_is_exp_minus_two_pi_i() -> None:
    """A wave exp(+2 pi i 3 x / n) has its coefficient at +3, not -3: the package's sign."""
    transform = fft.Transform((16,), "complex128")
    transform.data[...] = np.exp(2j * np.pi * 3 * np.arange(16) / 16)
    spectrum = transform.forward()
    assert spectrum[3] == pytest.approx(16)
    assert np.abs(np.delete(spectrum, 3)).max() < 1e-14


@pytest.mark.parametrize("n", [1, 2, 11, 63, 65, 201, 257, 500, 961, 1890, 1921, 4000])
def test_fast_length_is_even_smooth_and_close(n: int) -> None:
    """No prime above 7, even, at least n, and at most 20 % more (or the next even number)."""
    length = fft.fast_length(n)
    assert length % 2 == 0
    assert n <= length <= max(1.2 * n, n + 2)
    for prime in (2, 3, 5, 7):
        while length % prime == 0:
            length //= prime
    assert length == 1


def test_wrong_requests_say_what_is_right() -> None:
    with pytest.raises(ValueError, match="complex64 or complex128"):
        fft.Transform((8, 8), "float32")
    with pytest.raises(ValueError, match="float32 or float64"):
        fft.RealTransform((8, 8), "complex64")
    with pytest.raises(ValueError, match="at least 1"):
        fft.Transform((0, 8))
    with pytest.raises(ValueError, match="at least 1"):
        fft.fast_length(0)


# ---- wisdom is global state of a process, so these run in processes of their own ----------------

_RUN = """
import hashlib, sys
import numpy as np
from nanophantom.simcore import fft
{before}
t = fft.Transform(({shape}), "complex64")
rng = np.random.default_rng(1)
t.data[...] = rng.standard_normal(t.data.shape)
t.forward()
print(hashlib.sha256(t.data.tobytes()).hexdigest(), fft.wisdom_hash())
{after}
"""


def _process(cache: Path, before: str = "", after: str = "", shape: str = "360, 420") -> list[str]:
    code = _RUN.format(before=before, after=after, shape=shape)
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.split()


def test_fresh_processes_agree_bit_for_bit(tmp_path: Path) -> None:
    """The first process measures and saves; it and all later ones give the same bytes."""
    first = _process(tmp_path)
    [saved] = (tmp_path / "nanophantom").iterdir()
    assert saved.suffix == ".wisdom"
    content = saved.read_bytes()
    assert first[1] == hashlib.sha256(content).hexdigest()
    assert [_process(tmp_path) for _ in range(2)] == [first, first]
    assert saved.read_bytes() == content


def test_handed_wisdom_gives_the_parents_bits_without_a_cache(tmp_path: Path) -> None:
    """A worker with another, empty cache computes what the parent does and writes nothing."""
    file = tmp_path / "handed"
    parent = _process(
        tmp_path / "a", after=f"open({str(file)!r}, 'wb').write(fft.wisdom())", shape="210, 216"
    )
    worker = _process(
        tmp_path / "b", before=f"fft.use_wisdom(open({str(file)!r}, 'rb').read())", shape="210, 216"
    )
    assert worker == parent
    assert not (tmp_path / "b").exists()


def test_shape_unknown_to_handed_wisdom_is_estimated_not_measured(tmp_path: Path) -> None:
    """Two workers with the same wisdom agree on a shape neither knows, and learn nothing."""
    handed = [_process(tmp_path / c, before="fft.use_wisdom(b'')") for c in "ab"]
    assert handed[0] == handed[1]
    assert handed[0][1] == hashlib.sha256(b"").hexdigest()
    check = """
import pyfftw
flags = []
original = pyfftw.FFTW
def spy(*args, flags, **kwargs):
    print(*flags)
    return original(*args, flags=flags, **kwargs)
pyfftw.FFTW = spy
fft.use_wisdom(b'')
"""
    flags = _process(tmp_path, before=check)
    assert "FFTW_ESTIMATE" in flags
    assert all(
        later == "FFTW_WISDOM_ONLY" for flag, later in pairwise(flags) if flag == "FFTW_MEASURE"
    )


def test_unwritable_and_damaged_caches_cost_nothing_but_time(tmp_path: Path) -> None:
    """A cache folder that is a file, or a file that is no wisdom, is no error."""
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    assert len(_process(blocked, shape="64, 64")) == 2
    _process(tmp_path, shape="64, 64")
    [saved] = (tmp_path / "nanophantom").iterdir()
    saved.write_bytes(b"no wisdom")
    assert len(_process(tmp_path, shape="64, 64")) == 2
    assert b"fftwf_wisdom" in saved.read_bytes()


def test_foreign_wisdom_is_refused(tmp_path: Path) -> None:
    check = """
try:
    fft.use_wisdom(b'no wisdom')
except ValueError as error:
    print(str(error).count('same version'))
"""
    assert _process(tmp_path, before=check, shape="8, 8")[0] == "1"
