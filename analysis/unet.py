"""A small U-Net (O. Ronneberger et al., MICCAI 2015, LNCS 9351, 234), run by NumPy alone.

The network is written once, over five operations. NumPy's are here; another library with the same
five (PyTorch, for training) runs the same network with the same weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Maps = npt.NDArray[np.float32]
Weights = Mapping[str, Any]

CHANNELS = (12, 24, 48, 64, 64)
"""Feature maps at each level; every level has half the pixels of the one above, along an edge."""

CACHE_VALUES = 50_000
"""Numbers that a convolution handles at a time."""


class Operations(Protocol):
    """What the network is made of; maps have the axes (..., channel, y, x)."""

    def convolved(self, maps: Any, weight: Any, bias: Any) -> Any:
        """Correlate with kernels (out, in, 3, 3) or (out, in, 1, 1), zero beyond the edges."""

    def rectified(self, maps: Any) -> Any:
        """Return the maps where positive, zero elsewhere."""

    def halved(self, maps: Any) -> Any:
        """Return the means of 2 x 2 pixels."""

    def doubled(self, maps: Any) -> Any:
        """Repeat each pixel twice along y and along x."""

    def joined(self, one: Any, two: Any) -> Any:
        """Return the channels of both."""


def forward(ops: Operations, weights: Weights, image: Any, levels: int = len(CHANNELS)) -> Any:
    """Run the network.

    Parameters
    ----------
    ops
        The library that does it.
    weights
        Arrays by name; see :func:`shapes`.
    image
        Shape (..., 1, ny, nx), both edges multiples of 2^(levels - 1).

    Returns
    -------
    array
        Logits, shape (..., 1, ny, nx).
    """

    def block(maps: Any, name: str) -> Any:
        for part in ("first", "second"):
            at = f"{name}.{part}"
            maps = ops.convolved(maps, weights[f"{at}.weight"], weights[f"{at}.bias"])
            maps = ops.rectified(maps)
        return maps

    kept = []
    maps = image
    for level in range(levels):
        maps = block(ops.halved(maps) if level else maps, f"down{level}")
        kept.append(maps)
    for level in range(levels - 2, -1, -1):
        maps = block(ops.joined(kept[level], ops.doubled(maps)), f"up{level}")
    return ops.convolved(maps, weights["out.weight"], weights["out.bias"])


def shapes(channels: Sequence[int] = CHANNELS) -> dict[str, tuple[int, ...]]:
    """Return the shape of every array of weights, in the order in which they are used."""
    kernels: dict[str, tuple[int, int, int]] = {}
    for level, (above, here) in enumerate(pairwise((1, *channels))):
        kernels[f"down{level}.first"] = (here, above, 3)
        kernels[f"down{level}.second"] = (here, here, 3)
    for level in range(len(channels) - 2, -1, -1):
        here, below = channels[level], channels[level + 1]
        kernels[f"up{level}.first"] = (here, here + below, 3)
        kernels[f"up{level}.second"] = (here, here, 3)
    kernels["out"] = (1, channels[0], 1)
    found: dict[str, tuple[int, ...]] = {}
    for name, (out, into, edge) in kernels.items():
        found[f"{name}.weight"] = (out, into, edge, edge)
        found[f"{name}.bias"] = (out,)
    return found


class NumPy:
    """The five operations on single images, float32."""

    def convolved(self, maps: Maps, weight: Maps, bias: Maps) -> Maps:
        """Correlate: one matrix product for each stretch of pixels that fits into the cache."""
        edge = weight.shape[-1]
        (channels, ny, nx), pad = maps.shape, edge // 2
        # Rows lie one behind the other with zeros between them, so that a displaced image is the
        # same memory read from another place.
        wide = nx + 2 * pad
        flat = np.zeros((channels, (ny + 2 * pad + 1) * wide), np.float32)
        rows = flat[:, : (ny + 2 * pad) * wide].reshape(channels, ny + 2 * pad, wide)
        rows[:, pad : pad + ny, pad : pad + nx] = maps
        places = [dy * wide + dx for dy in range(edge) for dx in range(edge)]
        kernel = weight.transpose(0, 2, 3, 1).reshape(len(weight), -1)  # (out, place and channel)
        total = np.empty((len(weight), ny * wide), np.float32)
        step = max(256, CACHE_VALUES // kernel.shape[1])
        for start in range(0, ny * wide, step):
            stop = min(start + step, ny * wide)
            seen = np.concatenate([flat[:, start + at : stop + at] for at in places])
            total[:, start:stop] = kernel @ seen
        total += bias[:, None]
        return np.ascontiguousarray(total.reshape(len(weight), ny, wide)[:, :, :nx])

    def rectified(self, maps: Maps) -> Maps:
        """Return the maps where positive, zero elsewhere."""
        return np.maximum(maps, 0)

    def halved(self, maps: Maps) -> Maps:
        """Return the means of 2 x 2 pixels."""
        channels, ny, nx = maps.shape
        return np.asarray(maps.reshape(channels, ny // 2, 2, nx // 2, 2).mean(axis=(2, 4)))

    def doubled(self, maps: Maps) -> Maps:
        """Repeat each pixel twice along y and along x."""
        return maps.repeat(2, axis=1).repeat(2, axis=2)

    def joined(self, one: Maps, two: Maps) -> Maps:
        """Return the channels of both."""
        return np.concatenate([one, two])
