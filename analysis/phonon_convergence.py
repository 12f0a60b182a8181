"""How far an average over frozen thermal configurations still is from the infinite one.

Images that average the first N_1 < N_2 < ... of the same configurations are nested. The blocks
that each adds to the one before,

    B_j = (N_j I_j - N_{j-1} I_{j-1}) / n_j,    n_j = N_j - N_{j-1},

share no configuration: they are independent, of variance s^2 / n_j, s^2 being that of a single
configuration at a pixel. Their weighted scatter about the last image, sum_j n_j (B_j - I_K)^2 /
(K - 1), is s^2 without bias, and the error of I_N is s / sqrt(N). In particular the difference of
I_N and I_2N has the variance s^2 / 2N: it is as large as the error of the better of the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def estimate(images: npt.ArrayLike, settings: Mapping[str, Any]) -> dict[str, FloatArray]:
    """Estimate the error of nested averages, and how many configurations one percent takes.

    Parameters
    ----------
    images : (frames, ny, nx) array
        Noise-free images of the same places; frame j averages the first N_j configurations.
    settings : mapping
        "configurations_of_frame": the N_j, rising.

    Returns
    -------
    dict of (frames,) arrays
        n_configurations; error: rms difference from the infinite average over the mean of the
        image; n_for_one_percent: configurations for an error of 0.01; block_size and block_error:
        n_j and what an average of so many is off by, from that block alone; exponent: of
        block_error against block_size, which the law s / sqrt(n) wants to be -0.5.

    Raises
    ------
    ValueError
        Fewer than two frames, numbers that don't rise, or a dark image.
    """
    stack = np.asarray(images, np.float64)
    numbers = np.asarray(settings.get("configurations_of_frame") or (), np.float64)
    if stack.ndim != 3 or len(stack) < 2 or len(numbers) != len(stack):
        raise ValueError(
            "images have the shape (frames, ny, nx) with two frames or more, and settings tell "
            f"configurations_of_frame, one a frame; got {stack.shape} and {len(numbers)}"
        )
    added = np.diff(numbers, prepend=0.0)
    if (added <= 0).any():
        raise ValueError(f"configurations_of_frame must rise, got {numbers.astype(int).tolist()}")
    mean = float(stack[-1].mean())
    if not mean > 0:
        raise ValueError("the images are dark: an error relative to their mean isn't defined")

    sums = stack * numbers[:, None, None]
    blocks = np.diff(sums, axis=0, prepend=np.zeros((1, *stack.shape[1:]))) / added[:, None, None]
    off = np.mean((blocks - stack[-1]) ** 2, axis=(1, 2))
    single = np.sqrt(np.sum(added * off) / (len(stack) - 1)) / mean
    # B_j - I_K has the variance s^2 (1 / n_j - 1 / N_K), B_j itself s^2 / n_j.
    block_error = np.sqrt(off / (1.0 - added / numbers[-1])) / mean
    exponent = -0.5  # that of the law, where all blocks are alike
    if np.ptp(added) > 0 and (block_error > 0).all():
        exponent = float(np.polyfit(np.log(added), np.log(block_error), 1)[0])
    return {
        "n_configurations": numbers,
        "error": single / np.sqrt(numbers),
        "n_for_one_percent": np.full(len(numbers), (single / 0.01) ** 2),
        "block_size": added,
        "block_error": block_error,
        "exponent": np.full(len(numbers), exponent),
    }
