"""Richardson and Lucy's deconvolution: the likeliest image behind Poisson counts, step by step.

Counts y are Poisson numbers of mean ``H x + b``. Each step ``x <- x / H'1 * H'(y / (H x + b))``
never makes the image less likely (W. H. Richardson, J. Opt. Soc. Am. 62 (1972) 55; L. B. Lucy,
Astron. J. 79 (1974) 745; L. A. Shepp & Y. Vardi, IEEE Trans. Med. Imaging 1 (1982) 113). The image
first comes closer to the truth and then, fitting noise, goes away from it: when to stop is part of
the method. Counts that were held out tell: their likelihood peaks at a good place to stop.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy.fft

from nanophantom.analysis.fourier_shells import thin_counts

Floats = npt.NDArray[np.float64]
Boundary = Literal["open", "periodic"]


@dataclass(frozen=True, eq=False)
class Deconvolution:
    """A deconvolved image and how it came about.

    Attributes
    ----------
    image : (ny, nx)
        Mean counts that each place sends, wherever they fall.
    expected : (ny, nx)
        Mean counts of each pixel, background included, by this image. Without background it adds up
        to the counts after every step but the zeroth.
    log_likelihood : (iterations + 1,)
        Of the counts after each step, from the flat start on, without the term log(y!).
    held_out : (all iterations + 1,) or None
        Likelihood of held-out counts after each step, where some were held out.
    iterations
        Steps of the image: where `held_out` peaks, or as many as were asked for.
    """

    image: Floats
    expected: Floats
    log_likelihood: Floats
    held_out: Floats | None
    iterations: int


def richardson_lucy(
    counts: npt.ArrayLike,
    psf: npt.ArrayLike,
    background: npt.ArrayLike = 0.0,
    iterations: int = 50,
    *,
    boundary: Boundary = "open",
    held_out: np.random.Generator | None = None,
) -> Deconvolution:
    """Deconvolve an image of counts.

    Parameters
    ----------
    counts : (ny, nx)
        Counts from zero, photoelectrons say; whole numbers if some are held out.
    psf : (py, px)
        Image of a point, its middle at pixel (py // 2, px // 2); it is scaled to a sum of 1.
    background : scalar or (ny, nx)
        Known mean counts from elsewhere.
    iterations
        Steps; with held-out counts the most that are tried.
    boundary : {"open", "periodic"}
        "open": what lies beyond the border may shine into the image; it is estimated, too, and
        left away; "periodic": opposite borders meet, and the image adds up to the counts.
    held_out
        Halves the counts at random (each count by a coin), deconvolves one half and takes as many
        steps of all counts as make the other half likeliest. None takes all steps.

    Raises
    ------
    ValueError
        Counts, PSF or background are negative, not finite or don't fit together; nothing was
        counted, or counts were found where nothing can shine; or there is no step.
    """
    y, b, spread = _checked(counts, psf, background, iterations, boundary)
    steps, judged = iterations, None
    if held_out is not None:
        half, other = thin_counts(y, held_out)
        if half.sum() == 0:
            raise ValueError("counts: too few to hold some out")
        means = (mean for _, mean in _walk(half.astype(np.float64), 0.5 * b, spread, iterations))
        judged = np.array([_log_likelihood(other, mean) for mean in means])
        steps = int(judged.argmax())
    likelihood = np.empty(steps + 1)
    for step, (image, expected) in enumerate(_walk(y, b, spread, steps)):
        likelihood[step] = _log_likelihood(y, expected)
        last = image, expected
    return Deconvolution(spread.inside(last[0]), last[1], likelihood, judged, steps)


class _Spread:
    """The blur H and its transpose, by Fourier transforms on a field that may be larger."""

    def __init__(self, shape: tuple[int, int], psf: Floats, boundary: Boundary) -> None:
        self.shape = shape
        margin = (0, 0) if boundary == "periodic" else (psf.shape[0] // 2, psf.shape[1] // 2)
        field = (shape[0] + 2 * margin[0], shape[1] + 2 * margin[1])
        self.size = field
        if boundary == "open":  # the field and a PSF beyond it: opposite borders don't meet
            self.size = (
                scipy.fft.next_fast_len(field[0] + psf.shape[0], real=True),
                scipy.fft.next_fast_len(field[1] + psf.shape[1], real=True),
            )
        self.data = np.s_[margin[0] : margin[0] + shape[0], margin[1] : margin[1] + shape[1]]
        self.field = np.zeros(self.size)
        self.field[: field[0], : field[1]] = 1.0
        padded = np.zeros(self.size)
        padded[: psf.shape[0], : psf.shape[1]] = psf / psf.sum()
        centred = np.roll(padded, (-(psf.shape[0] // 2), -(psf.shape[1] // 2)), (0, 1))
        self.transfer = scipy.fft.rfft2(centred, workers=1)
        self.seen = self.back(np.ones(shape))

    def blur(self, image: Floats) -> Floats:
        spectrum = scipy.fft.rfft2(image, workers=1) * self.transfer
        blurred = scipy.fft.irfft2(spectrum, self.size, workers=1)[self.data]
        return np.asarray(np.maximum(blurred, 0.0))  # but for rounding it is

    def back(self, ratio: Floats) -> Floats:
        padded = np.zeros(self.size)
        padded[self.data] = ratio
        spectrum = scipy.fft.rfft2(padded, workers=1) * self.transfer.conj()
        returned = scipy.fft.irfft2(spectrum, self.size, workers=1)
        return np.asarray(np.maximum(returned, 0.0) * self.field)

    def inside(self, image: Floats) -> Floats:
        return np.asarray(image[self.data]).copy()


def _walk(y: Floats, b: Floats, spread: _Spread, steps: int) -> Iterator[tuple[Floats, Floats]]:
    """Yield image and expected counts, from the flat start on."""
    # places that no pixel sees (to rounding) stay dark
    visible = spread.seen > 1e-9 * spread.seen.max()
    image = np.where(visible, max(float((y - b).sum()), 0.01 * float(y.sum())) / y.size, 0.0)
    sensitivity = np.where(visible, spread.seen, 1.0)
    expected = spread.blur(image) + b
    yield image, expected
    for _ in range(steps):
        ratio = np.divide(y, expected, out=np.zeros_like(y), where=expected > 0.0)
        image = image * spread.back(ratio) / sensitivity
        expected = spread.blur(image) + b
        yield image, expected


def _log_likelihood(y: npt.NDArray[np.float64] | npt.NDArray[np.int64], mean: Floats) -> float:
    """Return sum(y log mean - mean); counts where the mean is 0 are impossible."""
    lit = y > 0
    if np.any(mean[lit] <= 0.0):
        return -np.inf
    return float((y[lit] * np.log(mean[lit])).sum() - mean.sum())


def _checked(
    counts: npt.ArrayLike,
    psf: npt.ArrayLike,
    background: npt.ArrayLike,
    iterations: int,
    boundary: Boundary,
) -> tuple[Floats, Floats, _Spread]:
    y, h = np.asarray(counts, np.float64), np.asarray(psf, np.float64)
    b = np.asarray(background, np.float64)
    for name, values in (("counts", y), ("psf", h), ("background", b)):
        if not np.isfinite(values).all() or np.any(values < 0):
            raise ValueError(f"{name} must be finite and from zero")
    if y.ndim != 2 or h.ndim != 2 or b.shape not in ((), y.shape):
        raise ValueError(
            f"counts and psf are images, background a number or an image like counts; got "
            f"{y.shape}, {h.shape}, {b.shape}"
        )
    if y.sum() == 0 or h.sum() == 0:
        raise ValueError("counts and psf must not be empty")
    if boundary not in ("open", "periodic"):
        raise ValueError(f"boundary must be open or periodic, got {boundary!r}")
    if boundary == "periodic" and (h.shape[0] > y.shape[0] or h.shape[1] > y.shape[1]):
        raise ValueError(f"a periodic psf {h.shape} must not be larger than counts {y.shape}")
    if iterations < 1:
        raise ValueError(f"iterations is {iterations}; take one or more")
    shape = (y.shape[0], y.shape[1])
    return y, np.broadcast_to(b, shape).copy(), _Spread(shape, h, boundary)
