"""The learned finder of columns: coordinates, arithmetic, the file of weights, and refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree

from nanophantom.analysis import learned_columns, unet
from nanophantom.analysis.learned_columns import (
    PIXEL_NM,
    Network,
    find,
    find_with,
    load,
    save,
    standardised,
)

Floats = npt.NDArray[np.float64]
SIGMA_NM = 0.05


def spots(pixel_nm: float, edge_nm: float, points_nm: Floats, height: float) -> Floats:
    """Return Gaussians of 0.05 nm on a background of one."""
    grid = np.arange(round(edge_nm / pixel_nm)) * pixel_nm
    bells = [
        np.exp(-0.5 * ((grid - at[:, None]) / SIGMA_NM) ** 2)
        for at in (points_nm[:, 1], points_nm[:, 0])
    ]
    return np.asarray(1 + height * np.einsum("ny,nx->yx", *bells))


def lattice(edge_nm: float) -> Floats:
    """Return places (x, y) of a turned lattice of 0.24 x 0.21 nm in the lower left half."""
    i, j = np.mgrid[-40:40, -40:40].reshape(2, -1)
    at = np.column_stack([0.24 * i * 0.96 - 0.21 * j * 0.28, 0.24 * i * 0.28 + 0.21 * j * 0.96])
    return at[(at > 0.3).all(1) & (at < edge_nm - 0.3).all(1) & (at[:, 0] < at[:, 1])]


def random_network(seed: int = 3) -> Network:
    """Return a network of random weights."""
    rng = np.random.default_rng(seed)
    weights = {
        name: np.asarray(rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:])), np.float32)
        for name, shape in unet.shapes().items()
    }
    return Network(weights, {"min_score": 0.5})


@pytest.mark.parametrize("pixel_nm", [0.009, 0.0125, 0.03, 0.037])
def test_standardised_image_lies_where_it_says(pixel_nm: float) -> None:
    """The centroid of a lone spot, put through the stated pixels, is the spot's place."""
    place = np.array([[1.31, 2.07]])
    image, (step_y, step_x) = standardised(spots(pixel_nm, 4.0, place, 5.0), pixel_nm)
    assert abs(step_y / PIXEL_NM - 1) < 0.02
    y, x = np.unravel_index(image.argmax(), image.shape)
    near = np.maximum(image[y - 4 : y + 5, x - 4 : x + 5], 0) ** 2  # the Gaussian, not its foot
    rows, columns = np.mgrid[y - 4 : y + 5, x - 4 : x + 5]
    found_y = ((near * rows).sum() / near.sum() + 0.5) * step_y - pixel_nm / 2
    found_x = ((near * columns).sum() / near.sum() + 0.5) * step_x - pixel_nm / 2
    np.testing.assert_allclose([found_x, found_y], place[0], atol=1.5e-3)


def test_noise_stays_white_and_has_unit_variance() -> None:
    """Counts at 0.01 nm, cut to 0.03 nm: neighbours are independent but for the background."""
    counts = np.random.default_rng(1).poisson(0.2, (600, 600))
    image, _ = standardised(counts, 0.01)
    np.testing.assert_allclose(image.std(), 1, rtol=1e-5)
    np.testing.assert_allclose(image.mean(), 0, atol=1e-3)
    neighbours = float((image[:, 1:] * image[:, :-1]).mean())
    # 40 000 pixels: 1 / sqrt(40 000) = 0.005
    assert abs(neighbours) < 0.02


def test_convolution_is_a_correlation_with_zeros_beyond_the_edges() -> None:
    """NumPy's sum of matrix products equals scipy's correlation, channel by channel."""
    rng = np.random.default_rng(4)
    maps, weight = rng.normal(size=(3, 11, 14)), rng.normal(size=(2, 3, 3, 3))
    bias = rng.normal(size=2)
    mine = unet.NumPy().convolved(
        maps.astype(np.float32), weight.astype(np.float32), bias.astype(np.float32)
    )
    for out in range(2):
        parts = [
            ndimage.correlate(m, w, mode="constant") for m, w in zip(maps, weight[out], strict=True)
        ]
        np.testing.assert_allclose(mine[out], bias[out] + sum(parts), atol=2e-5)


def test_tiles_are_seamless(monkeypatch: pytest.MonkeyPatch) -> None:
    """In tiles of 128 pixels the answer is the same as at once: the overlap is wide enough."""
    image = np.random.default_rng(5).normal(size=(70, 400)).astype(np.float32)
    network = random_network()
    whole = network.probability(image)
    monkeypatch.setattr(learned_columns, "TILE_PX", 128)
    np.testing.assert_allclose(network.probability(image), whole, atol=1e-5)


def test_a_very_sure_answer_does_not_overflow() -> None:
    """Logits of thousands give 0 and 1, without a warning."""
    network = random_network()
    sure = {**network.weights, "out.weight": 1e4 * network.weights["out.weight"]}
    image = np.random.default_rng(9).normal(size=(64, 64)).astype(np.float32)
    heat = Network(sure, network.recipe).probability(image)
    assert np.isin(np.unique(heat.round(3)), [0, 1]).mean() > 0.1
    assert ((heat >= 0) & (heat <= 1)).all()


def test_pytorch_and_numpy_run_the_same_network() -> None:
    """Logits of random weights agree to the rounding of single precision."""
    torch = pytest.importorskip("torch")
    from nanophantom.validation.training.train import TorchOperations

    network = random_network()
    image = np.random.default_rng(6).normal(size=(1, 64, 96)).astype(np.float32)
    theirs = unet.forward(
        TorchOperations(torch),
        {name: torch.from_numpy(w) for name, w in network.weights.items()},
        torch.from_numpy(image[None]),
    )
    mine = unet.forward(unet.NumPy(), network.weights, image)
    np.testing.assert_allclose(mine, theirs[0].numpy(), atol=1e-4 * float(np.abs(mine).max()))


@pytest.mark.parametrize("pixel_nm", [0.0125, 0.022])
@pytest.mark.parametrize("contrast", ["bright", "dark"])
def test_columns_of_a_clear_lattice_are_found_where_they_are(
    pixel_nm: float, contrast: str
) -> None:
    """Spots of high dose: 98 % found within 20 pm, and nothing else, whatever the pixel."""
    there = lattice(5.0)
    sign = 1 if contrast == "bright" else -0.6
    expected = 2000 * pixel_nm**2 * 1e2 * spots(pixel_nm, 5.0, there, sign)
    counts = np.random.default_rng(7).poisson(expected)
    settings = {"pixel_size_nm": pixel_nm, "contrast": contrast}
    found = find(counts, settings)
    at = np.column_stack([found["x_nm"], found["y_nm"]])
    distance, _ = cKDTree(at).query(there)
    assert (distance < 0.02).mean() > 0.98
    assert len(at) < 1.02 * len(there)
    assert ((found["score"] > 0) & (found["score"] <= 1)).all()
    told = find(counts, {"pixel_size_nm": pixel_nm})
    assert abs(len(told["x_nm"]) - len(at)) < 0.02 * len(at)  # the sign is found as well


def test_a_series_is_registered_and_answered_in_frame_0() -> None:
    """Frames that drift apart give the columns of the first one."""
    there, rng, pixel_nm = lattice(4.0), np.random.default_rng(8), 0.02
    step = np.array([0.02, -0.04])
    frames = [rng.poisson(20 * spots(pixel_nm, 4.0, there + i * step, 1.0)) for i in range(4)]
    found = find(np.array(frames), {"pixel_size_nm": pixel_nm, "contrast": "bright"})
    at = np.column_stack([found["x_nm"], found["y_nm"]])
    distance, index = cKDTree(at).query(there)
    hit = distance < 0.05
    assert hit.mean() > 0.95
    assert np.abs((at[index] - there)[hit].mean(axis=0)).max() < 0.005


def test_weights_survive_the_file_at_half_precision(tmp_path: Path) -> None:
    """What is loaded is what was saved, to 11 bits."""
    network, file = random_network(), tmp_path / "weights.npz"
    save(network, file)
    again = load(file)
    assert again.recipe == network.recipe
    for name, weight in network.weights.items():
        np.testing.assert_allclose(again.weights[name], weight, rtol=2**-10, atol=1e-7)


class Bomb:
    """An object whose unpickling writes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


def test_a_file_that_holds_a_pickle_is_refused_unread(tmp_path: Path) -> None:
    """Nothing is unpickled, so a file from elsewhere runs no code."""
    file, mark = tmp_path / "weights.npz", tmp_path / "ran"
    weights = dict(random_network().weights)
    weights["out.bias"] = np.array([Bomb(mark)], dtype=object)  # type: ignore[assignment]
    np.savez(file, recipe=np.array(json.dumps({"min_score": 0.5})), **weights)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="doesn't hold the weights"):
        load(file)
    assert not mark.exists()


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    """No file, another file, and weights of another shape."""
    with pytest.raises(ValueError, match="no weights in"):
        load(tmp_path / "none.npz")
    other = tmp_path / "other.npz"
    np.savez(other, a=np.zeros(3))
    with pytest.raises(ValueError, match="doesn't hold the weights"):
        load(other)
    network = random_network()
    save(Network({**network.weights, "out.bias": np.zeros(2, np.float32)}, network.recipe), other)
    with pytest.raises(ValueError, match=r"out\.bias must be finite"):
        load(other)


@pytest.mark.parametrize(
    ("images", "settings", "message"),
    [
        (np.zeros((64, 64)), {}, "pixel_size_nm"),
        (np.zeros((64, 64)), {"pixel_size_nm": -0.02}, "positive"),
        (np.zeros((64, 64)), {"pixel_size_nm": 0.02, "contrast": "grey"}, "contrast"),
        (np.zeros(64), {"pixel_size_nm": 0.02}, "shape"),
        (np.zeros((8, 8)), {"pixel_size_nm": 0.02}, r"0\.5 nm wide"),
        (np.full((64, 64), np.nan), {"pixel_size_nm": 0.02}, "finite"),
        (np.zeros((64, 64), complex), {"pixel_size_nm": 0.02}, "real numbers"),
    ],
)
def test_what_is_wrong_is_said(images: Any, settings: dict[str, Any], message: str) -> None:
    """One line says what is wrong with the images or the settings."""
    with pytest.raises(ValueError, match=message):
        find_with(random_network(), images, settings)


def test_an_even_image_holds_no_columns() -> None:
    """No contrast at all: an empty answer, not a division by zero."""
    found = find(np.full((80, 80), 7), {"pixel_size_nm": 0.02, "contrast": "bright"})
    assert all(len(column) == 0 for column in found.values())


def test_packaged_weights_are_small_and_say_where_they_come_from() -> None:
    """Less than 1.5 MB, trained within 20 minutes on each of two cores, on known families only."""
    from nanophantom.validation.training.structures import SEEN, UNSEEN

    assert learned_columns.WEIGHTS.stat().st_size < 1.5e6
    recipe = learned_columns.packaged().recipe
    assert set(recipe["families"]) == set(SEEN)
    assert not set(recipe["families"]) & set(UNSEEN)
    seconds = recipe["seconds"]
    assert max(seconds["processor_learner"], seconds["processor_makers"]) < 1200
    assert recipe["steps"] == recipe["steps_asked_for"]
    assert 0 < recipe["min_score"] < 1


def test_the_finder_needs_no_pytorch() -> None:
    """With every import of torch forbidden, the finder still answers."""
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np\n"
        "from nanophantom.analysis.learned_columns import find\n"
        "counts = np.random.default_rng(1).poisson(2.0, (64, 64))\n"
        "print(sorted(find(counts, {'pixel_size_nm': 0.03})))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stdout.strip() == "['score', 'x_nm', 'y_nm']", ran.stderr
