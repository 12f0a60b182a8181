"""Scars and spikes: how many are found, how many of those are true, and what filling in changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nanophantom.analysis import scars

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

NOISE_NM = 0.1


def flat(rng: np.random.Generator, n: int) -> Floats:
    return np.zeros((n, n))


def rough(rng: np.random.Generator, n: int) -> Floats:
    """Sq 2 nm, Gaussian autocorrelation over 30 px: slopes of one noise from row to row."""
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(n), np.fft.fftfreq(n), indexing="ij"))
    spectrum = np.fft.fft2(rng.normal(size=(n, n))) * np.exp(-((np.pi * k * 30) ** 2) / 2)
    z = np.fft.ifft2(spectrum).real
    return np.asarray(2 * z / np.std(z))


def terraces(rng: np.random.Generator, n: int) -> Floats:
    """Steps of 0.3 nm, three noises high like the scars, wavy, in any direction."""
    y, x = np.mgrid[:n, :n]
    a = rng.uniform(0, np.pi)
    return np.asarray(
        0.3 * np.floor((x * np.cos(a) + y * np.sin(a) + 3 * np.sin(x / 20)) / 40), np.float64
    )


def discs(rng: np.random.Generator, n: int) -> Floats:
    """Forty flat particles 10 nm high over a quarter of the image."""
    y, x = np.mgrid[:n, :n]
    z = np.zeros((n, n))
    for _ in range(40):
        cy, cx = rng.uniform(0, n, 2)
        z[(y - cy) ** 2 + (x - cx) ** 2 < rng.uniform(3, 15) ** 2] = 10
    return z


def domes(rng: np.random.Generator, n: int) -> Floats:
    """Forty half balls on posts: flanks of any slope, grooves between neighbours."""
    y, x = np.mgrid[:n, :n]
    z = np.zeros((n, n))
    for _ in range(40):
        r = rng.uniform(4, 15)
        cy, cx = rng.uniform(0, n, 2)
        d2 = (y - cy) ** 2 + (x - cx) ** 2
        z = np.maximum(z, np.where(d2 < r * r, r + np.sqrt(np.maximum(r * r - d2, 0)), 0))
    return z


def scarred(background: Any, seed: int, heights: tuple[float, float]) -> tuple[Floats, Bools]:
    """Return an image with up to 15 scars, 1 to 3 rows by 10 to 79 px, and where they are."""
    rng, n = np.random.default_rng(seed), 256
    z = background(rng, n)
    true = np.zeros((n, n), bool)
    for _ in range(15):
        rows, length = rng.integers(1, 4), rng.integers(10, 80)
        y, x = rng.integers(2, n - rows - 2), rng.integers(0, n - length)
        if np.any(true[y - 2 : y + rows + 2, max(x - 1, 0) : x + length + 1]):
            continue
        height = rng.choice([-1, 1]) * rng.uniform(*heights) * NOISE_NM
        z[y : y + rows, x : x + length] += height
        true[y : y + rows, x : x + length] = True
    z += NOISE_NM * rng.normal(size=(n, n)) + 0.2 * rng.normal(size=(n, 1))
    return z, true


def measured(background: Any, seeds: range, heights: tuple[float, float]) -> tuple[float, float]:
    """Return recall and precision, by pixels, over all seeds together."""
    both = found = there = 0
    for seed in seeds:
        image, true = scarred(background, seed, heights)
        mask = scars.find(image)
        both += np.count_nonzero(mask & true)
        found += np.count_nonzero(mask)
        there += np.count_nonzero(true)
    return both / there, both / found


def test_scars_of_three_noises_are_found_on_a_rough_surface() -> None:
    recall, precision = measured(rough, range(4), (3, 3))
    assert recall >= 0.95
    assert precision >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("background", [flat, rough, terraces])
def test_scars_of_three_noises_over_twenty_seeds(background: Any) -> None:
    recall, precision = measured(background, range(20), (3, 3))
    assert recall >= 0.95
    assert precision >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("background", [flat, rough, terraces, discs])
def test_scars_of_three_to_ten_noises_over_twenty_seeds(background: Any) -> None:
    recall, precision = measured(background, range(20), (3, 10))
    assert recall >= 0.95
    assert precision >= 0.9


@pytest.mark.slow
def test_little_of_domes_is_taken_for_scars_over_twenty_seeds() -> None:
    """On flanks steeper than a scar is high many are missed, but what is found is true."""
    assert measured(domes, range(20), (3, 10))[1] >= 0.9


@pytest.mark.parametrize("background", [flat, rough, terraces, discs])
def test_nothing_is_found_where_there_are_no_scars(background: Any) -> None:
    """False alarms: less than a pixel in a thousand."""
    rng = np.random.default_rng(11)
    image = background(rng, 256) + NOISE_NM * rng.normal(size=(256, 256))
    assert np.mean(scars.find(image)) < 1e-3


def test_scars_up_and_down_are_found_without_noise() -> None:
    y, x = np.mgrid[:64, :64]
    surface = np.sin(x / 9.0) + np.cos(y / 11.0)
    true = np.zeros((64, 64), bool)
    true[20:22, 10:40] = true[45, 5:30] = True
    image = surface + np.where(y < 30, 1.0, -1.0) * true
    assert np.array_equal(scars.find(image), true)


def test_spikes_are_found_and_only_if_wanted() -> None:
    rng = np.random.default_rng(12)
    image = NOISE_NM * rng.normal(size=(128, 128))
    true = np.zeros((128, 128), bool)
    true[5:125:17, 7:125:19] = True
    image += np.where(rng.random((128, 128)) < 0.5, 1.5, -1.5) * true
    assert np.mean(scars.find(image)[true]) > 0.97
    assert np.mean(true[scars.find(image)]) > 0.9
    assert not np.any(scars.find(image, spike_threshold=None) & true)


def test_masked_pixels_are_neither_found_nor_compared_with() -> None:
    image, true = scarred(flat, 3, (8, 8))
    assert not np.any(scars.find(image, mask=true) & true)


def test_inpainting_changes_nothing_outside_the_mask() -> None:
    """To the last bit; inside, a plane is continued exactly."""
    rng = np.random.default_rng(13)
    image = rng.normal(size=(90, 100))
    mask = rng.random((90, 100)) < 0.2
    mask[30:33, 10:80] = True
    filled = scars.inpaint(image, mask)
    assert np.array_equal(filled[~mask], image[~mask])
    assert np.all(filled[mask] != image[mask])
    assert np.array_equal(scars.inpaint(image, np.zeros_like(mask)), image)

    y, x = np.mgrid[:90, :100]
    plane = 0.3 * x - 0.7 * y + 2
    inner = mask.copy()
    inner[[0, -1]] = inner[:, [0, -1]] = False
    gaps = np.where(inner, np.nan, plane)
    assert np.max(np.abs(scars.inpaint(gaps, inner) - plane)) < 1e-11


def test_a_mended_image_has_its_roughness_back() -> None:
    """Sq with 3 % of the image eight noises off: within 1 % after mending."""
    clean, _ = scarred(rough, 4, (0, 0))
    image, _ = scarred(rough, 4, (30, 30))
    row = np.mean(clean, axis=1, keepdims=True)
    mended = scars.inpaint(image, scars.find(image))
    before, after = (np.sqrt(np.mean((z - clean) ** 2)) for z in (image, mended))
    assert before > 0.3
    assert after < 0.1
    assert np.std(mended - row) == pytest.approx(np.std(clean - row), rel=0.01)


def test_wrong_images_and_masks_are_refused() -> None:
    image = np.zeros((20, 20))
    hole = image.copy()
    hole[2, 3] = np.nan
    mask = np.zeros((20, 20), bool)
    with pytest.raises(ValueError, match="finite"):
        scars.find(hole)
    with pytest.raises(ValueError, match="7 rows"):
        scars.find(image[:6])
    with pytest.raises(ValueError, match="max_rows 1 to 6"):
        scars.find(image, max_rows=9)
    with pytest.raises(ValueError, match="spike_threshold"):
        scars.find(image, spike_threshold=0)
    with pytest.raises(ValueError, match="shape"):
        scars.find(image, mask=mask[:5])
    with pytest.raises(ValueError, match="no pixel"):
        scars.find(image, mask=~mask)
    with pytest.raises(ValueError, match="finite"):
        scars.inpaint(hole, mask)
    with pytest.raises(ValueError, match="boolean"):
        scars.inpaint(image, mask.astype(int))
    with pytest.raises(ValueError, match="no pixel"):
        scars.inpaint(image, ~mask)
