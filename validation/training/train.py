"""Train the learned finder of atomic columns on examples that are made while it learns.

One process scatters and images (:mod:`nanophantom.validation.training.examples`), another one
learns. The learner sees every example a few times, each time with another dose, other shot
noise, another crop, turned and mirrored (the mirror image of a specimen under a mirrored lens is
as possible as the specimen). At which step which specimens are known is fixed beforehand, so
that the speed of the machine decides about nothing but the time that it takes.
"""

from __future__ import annotations

import math
import multiprocessing
import resource
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nanophantom.analysis import unet
from nanophantom.analysis.learned_columns import (
    BACKGROUND_NM,
    PIXEL_NM,
    Network,
    find_with,
    load,
    save,
    standardised,
)
from nanophantom.simcore.runs import Run
from nanophantom.validation.matching import match
from nanophantom.validation.tasks.atomic_columns import BORDER_NM, MATCH_RADIUS_NM, View
from nanophantom.validation.training.examples import (
    COARSE,
    FOCI,
    LENSES,
    Example,
    make_examples,
)
from nanophantom.validation.training.scenes import TRAINING
from nanophantom.validation.training.structures import SEEN

Images = npt.NDArray[np.float32]
Tell = Callable[[str, int, int], None]

SEED = 1
STEPS = 1600
BATCH = 16
CROP_PX = 112
LEARNING_RATE = 2e-3
WARM_UP_STEPS = 60
DOSES_E_PER_A2 = (4.0, 4000.0)
"""Total doses, log-uniform."""
TARGET_NM = 0.036
"""Standard deviation of the Gaussian that stands for a column."""
FIRST_SPECIMENS = 6
STEPS_PER_SPECIMEN = 3
KNOWN_EXAMPLES = 3000
"""Older examples are forgotten."""
CALIBRATION_SPECIMENS = 32
CALIBRATION_DOSES_E_PER_A2 = (10.0, 20.0, 50.0, 200.0, 1000.0)
AHEAD = 8
"""Specimens that may wait for the learner."""


def train(
    file: Path,
    seed: int = SEED,
    steps: int = STEPS,
    minutes: float = 20.0,
    workers: int = 1,
    tell: Tell = lambda what, done, total: None,
) -> Network:
    """Train a network and write it, with its recipe, to a file.

    Parameters
    ----------
    file
        The .npz file to write.
    seed
        Decides about specimens, noise and first weights.
    steps
        Steps of the optimizer, each on a batch of crops; the learning rate falls to zero with the
        last one.
    minutes
        Stop learning after this much processor time of the learner even so: on a machine that
        nobody else uses, its time on the clock.
    workers
        Processes that make examples, beside the one that learns.
    tell
        Called with what is done, how much, and of how much.

    Raises
    ------
    ValueError
        PyTorch isn't installed, or a number is out of range.
    """
    torch = _torch()
    if steps < 1 or workers < 1 or not minutes > 0:
        raise ValueError("steps, workers and minutes must be positive")
    wall, cpu, children = time.perf_counter(), time.process_time(), _children_s()
    torch.set_num_threads(1)
    run = Run(seed)
    learner = Learner(torch, run, steps)
    rng = run.rng("learner")
    known: deque[Example] = deque(maxlen=KNOWN_EXAMPLES)
    losses: list[float] = []
    done, specimens = 0, 0
    with _Maker(run, workers) as maker:
        for step in range(steps):
            if time.process_time() - cpu > 60 * minutes:
                break
            while specimens < FIRST_SPECIMENS + step // STEPS_PER_SPECIMEN or not known:
                known.extend(next(maker))
                specimens += 1
            losses.append(learner.step(*batch(known, rng)))
            done = step + 1
            tell("learning", done, steps)
        learned = time.perf_counter() - wall
        fresh = [e for _ in range(CALIBRATION_SPECIMENS) for e in next(maker)[:1]]
    recipe = {
        "task": "atomic-columns",
        "network": {"kind": "U-Net", "channels": list(unet.CHANNELS), "pixel_nm": PIXEL_NM},
        "background_nm": BACKGROUND_NM,
        "seed": seed,
        "families": sorted(SEEN),
        "ranges": TRAINING.model_dump(mode="json"),
        "multislice": COARSE.model_dump(mode="json"),
        "specimens": specimens,
        "lenses_per_specimen": LENSES,
        "foci_per_lens": FOCI,
        "dose_e_per_A2": list(DOSES_E_PER_A2),
        "target_sigma_nm": TARGET_NM,
        "loss": "binary cross-entropy against Gaussians, border left out",
        "optimizer": {"kind": "Adam", "learning_rate": LEARNING_RATE, "schedule": "cosine"},
        "steps": done,
        "steps_asked_for": steps,
        "batch": BATCH,
        "crop_px": CROP_PX,
        "loss_by_tenth": [round(float(np.mean(part)), 4) for part in np.array_split(losses, 10)]
        if len(losses) >= 10
        else [],
        "threads": {"learner": 1, "makers": workers},
        "torch": str(torch.__version__),
        "nanophantom": version("nanophantom"),
        "min_score": 0.5,
    }
    weights = {name: tensor.detach().numpy() for name, tensor in learner.weights.items()}
    save(Network(weights, recipe), file)
    halved = load(file)  # graded as it will be used
    tell("calibration", 0, 1)
    min_score, f1 = calibrate(halved, fresh, run.rng("calibration"))
    tell("calibration", 1, 1)
    recipe |= {
        "min_score": min_score,
        "calibration_f1": f1,
        "seconds": {
            "learning_wall": round(learned, 1),
            "wall": round(time.perf_counter() - wall, 1),
            "processor_learner": round(time.process_time() - cpu, 1),
            "processor_makers": round(_children_s() - children, 1),
        },
    }
    network = Network(halved.weights, recipe)
    save(network, file)
    return network


class Learner:
    """The network in PyTorch, and its optimizer."""

    def __init__(self, torch: Any, run: Run, steps: int) -> None:
        self.torch = torch
        rng = run.rng("first weights")
        self.weights: dict[str, Any] = {}
        for name, shape in unet.shapes().items():
            # K. He et al., ICCV 2015, 1026: variance 2 / (inputs of a kernel)
            scale = math.sqrt(2 / math.prod(shape[1:])) if name.endswith("weight") else 0.0
            first = torch.tensor(scale * rng.standard_normal(shape), dtype=torch.float32)
            if len(shape) == 4:
                first = first.contiguous(memory_format=torch.channels_last)
            self.weights[name] = first.requires_grad_()
        self.optimizer = torch.optim.Adam(self.weights.values(), lr=LEARNING_RATE)

        def rate(step: int) -> float:
            warm = min(1.0, (step + 1) / WARM_UP_STEPS)
            return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))

        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, rate)

    def step(self, image: Images, target: Images, weight: Images) -> float:
        """Learn from a batch, each (n, ny, nx); return its loss."""
        torch = self.torch
        maps = torch.from_numpy(image[:, None]).contiguous(memory_format=torch.channels_last)
        logit = unet.forward(TorchOperations(torch), self.weights, maps)[:, 0]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            logit, torch.from_numpy(target), weight=torch.from_numpy(weight), reduction="sum"
        ) / float(weight.sum())
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights.values(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        return float(loss.detach())


class TorchOperations:
    """The network's five operations in PyTorch, on batches (n, channel, y, x)."""

    def __init__(self, torch: Any) -> None:
        self.torch, self.functional = torch, torch.nn.functional

    def convolved(self, maps: Any, weight: Any, bias: Any) -> Any:
        """Correlate, zero beyond the edges."""
        return self.functional.conv2d(maps, weight, bias, padding=weight.shape[-1] // 2)

    def rectified(self, maps: Any) -> Any:
        """Return the maps where positive, zero elsewhere."""
        return self.functional.relu(maps)

    def halved(self, maps: Any) -> Any:
        """Return the means of 2 x 2 pixels."""
        return self.functional.avg_pool2d(maps, 2)

    def doubled(self, maps: Any) -> Any:
        """Repeat each pixel twice along y and along x."""
        return self.functional.interpolate(maps, scale_factor=2, mode="nearest")

    def joined(self, one: Any, two: Any) -> Any:
        """Return the channels of both."""
        return self.torch.cat([one, two], 1)


def batch(
    known: Sequence[Example], rng: np.random.Generator, size: int = BATCH, crop_px: int = CROP_PX
) -> tuple[Images, Images, Images]:
    """Draw exposures of known examples.

    Returns
    -------
    image, target, weight
        Each of shape (size, crop_px, crop_px): the standardised image, Gaussians where columns
        stand, and zero in the border, where the task doesn't ask.
    """
    drawn = []
    for i in rng.integers(len(known), size=size):
        dose = float(np.exp(rng.uniform(*np.log(DOSES_E_PER_A2))))
        maps = exposed(known[i], dose, crop_px, rng)
        turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
        maps = np.rot90(maps, turns, axes=(1, 2))
        drawn.append(maps[:, :, ::-1] if mirrored else maps)
    image, target, weight = np.stack(drawn, axis=1)
    return image, target, weight


def exposed(
    example: Example, dose_e_per_A2: float, crop_px: int, rng: np.random.Generator
) -> Images:
    """Count electrons in a square part of an example.

    Returns
    -------
    ndarray
        Image, target and weight, shape (3, crop_px, crop_px), on the network's pixels.
    """
    pixel_nm = example.pixel_size_nm
    edge = round(crop_px * PIXEL_NM / pixel_nm)
    room = np.array(example.expected.shape) - edge
    if room.min() < 0:
        raise ValueError(f"a crop of {crop_px * PIXEL_NM:.2f} nm is larger than the example")
    y0, x0 = rng.integers(room + 1)
    crop = slice(y0, y0 + edge), slice(x0, x0 + edge)
    counts = example.counts(dose_e_per_A2, rng, crop)
    image, (step_y, step_x) = standardised(counts, pixel_nm)
    if example.contrast == "dark":
        image = -image
    x_nm, y_nm = example.columns_nm.T - pixel_nm * np.array([[x0], [y0]])
    y = (y_nm + pixel_nm / 2) / step_y - 0.5
    x = (x_nm + pixel_nm / 2) / step_x - 0.5
    target = gaussians(image.shape, y, x, TARGET_NM / PIXEL_NM)
    weight = np.zeros(image.shape, np.float32)
    border = math.ceil(BORDER_NM / PIXEL_NM)
    # A crop's own edge leaves all its columns to be learned; only the view's edge does not.
    full = np.array(example.expected.shape)
    low = [max(0, math.ceil((border * PIXEL_NM - o * pixel_nm) / PIXEL_NM)) for o in (y0, x0)]
    high = [
        min(n, n - math.ceil((border * PIXEL_NM - (f - o - edge) * pixel_nm) / PIXEL_NM))
        for n, f, o in zip(image.shape, full, (y0, x0), strict=True)
    ]
    weight[low[0] : high[0], low[1] : high[1]] = 1
    return np.stack([image, target, weight])


def gaussians(shape: tuple[int, ...], y: Any, x: Any, sigma: float) -> Images:
    """Return Gaussians of height one about points (pixels), the larger where they overlap."""
    rows, columns = np.arange(shape[0]), np.arange(shape[1])
    reach = int(4 * sigma) + 1
    picture = np.zeros(shape, np.float32)
    for yi, xi in zip(y, x, strict=True):
        i = slice(max(0, int(yi) - reach), max(0, int(yi) + reach + 2))
        j = slice(max(0, int(xi) - reach), max(0, int(xi) + reach + 2))
        r2 = (rows[i, None] - yi) ** 2 + (columns[None, j] - xi) ** 2
        picture[i, j] = np.maximum(picture[i, j], np.exp(-0.5 * r2 / sigma**2))
    return picture


def calibrate(
    network: Network, examples: Sequence[Example], rng: np.random.Generator
) -> tuple[float, dict[str, float]]:
    """Return the least score with the best F1, averaged over doses, and F1 at each dose there.

    On fresh examples of the families that training draws from, within 0.5 Å.
    """
    scores = np.arange(0.1, 0.8, 0.025)
    lenient = Network(network.weights, {**network.recipe, "min_score": float(scores[0])})
    doses = CALIBRATION_DOSES_E_PER_A2
    hits, claims, targets = np.zeros((3, len(doses), len(scores)))
    for d, dose in enumerate(doses):
        for example in examples:
            counts = example.counts(dose, rng)
            found = find_with(lenient, counts, example.settings)
            at = np.column_stack([found["x_nm"], found["y_nm"]])
            ny, nx = counts.shape
            inside = View(example.pixel_size_nm, nx, ny).holds(at, BORDER_NM)
            pairs = match(at, example.columns_nm, MATCH_RADIUS_NM)
            good = np.zeros(len(at), np.bool_)
            good[pairs.found] = True
            for s, least in enumerate(scores):
                kept = found["score"] >= least
                hits[d, s] += (kept & good).sum()
                claims[d, s] += (kept & (good | inside)).sum()
            targets[d] += len(example.columns_nm)
    f1 = 2 * hits / (claims + targets)
    best = int(f1.mean(axis=0).argmax())
    at_best = {f"{dose:g}": round(float(f), 4) for dose, f in zip(doses, f1[:, best], strict=True)}
    return round(float(scores[best]), 3), at_best


class _Maker(Iterator[list[Example]]):
    """Examples of one specimen after the other, made by other processes, a few ahead."""

    def __init__(self, run: Run, workers: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pool = ProcessPoolExecutor(workers, mp_context=context)
        self.run, self.index = run, 0
        self.waiting: deque[Future[list[Example]]] = deque()

    def __enter__(self) -> _Maker:
        return self

    def __exit__(self, *problem: object) -> None:
        self.pool.shutdown(cancel_futures=True)

    def __next__(self) -> list[Example]:
        while len(self.waiting) < AHEAD:
            address = self.run.at("specimen", self.index)
            self.waiting.append(self.pool.submit(make_examples, address))
            self.index += 1
        return self.waiting.popleft().result()


def _children_s() -> float:
    """Return the processor seconds of child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        raise ValueError('training needs PyTorch: pip install "nanophantom[ml]"') from None
    return torch
