"""The work that localizers are compared on: movies with known spots, and how answers are judged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree
from scipy.special import erf

Floats = npt.NDArray[np.float64]
Columns = dict[str, Floats]

EDGE, PIXEL_NM, SIGMA_PX = 128, 100.0, 1.0
PHOTONS, BACKGROUND, SPOTS = 1000.0, 10.0, 20
REACH_NM = 250.0
"""A localization at most so far from an emitter finds it (SMLM challenge)."""


def crowded(frames: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.uint16], Columns]:
    """Return a movie with a Poisson number of spots a frame, and where they are.

    Anywhere but in the outermost five pixels: Picasso leaves out what is nearer to the edge than
    half a box.
    """
    counts = rng.poisson(SPOTS, frames)
    return _movie(frames, counts, rng.uniform(5.0, EDGE - 6.0, (counts.sum(), 2)), rng)


def isolated(frames: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.uint16], Columns]:
    """Return a movie of 36 spots a frame, 20 pixels apart, each anywhere in its pixel."""
    axis = np.arange(14.0, EDGE - 10, 20)
    grid = np.stack([a.ravel() for a in np.meshgrid(axis, axis)], axis=1)
    places = np.tile(grid, (frames, 1)) + rng.uniform(-0.5, 0.5, (frames * len(grid), 2))
    return _movie(frames, np.full(frames, len(grid)), places, rng)


def _movie(
    frames: int, counts: npt.NDArray[np.int64], xy_px: Floats, rng: np.random.Generator
) -> tuple[npt.NDArray[np.uint16], Columns]:
    """Expose Gaussian spots integrated over the pixels of a camera that counts photons."""
    edges = np.arange(EDGE + 1) - 0.5
    integral = erf((edges - xy_px[..., None]) / (np.sqrt(2) * SIGMA_PX)) / 2
    along = np.diff(integral, axis=-1)
    ends = np.cumsum(counts)
    movie = np.empty((frames, EDGE, EDGE), np.uint16)
    for i, (start, stop) in enumerate(zip(ends - counts, ends, strict=True)):
        x, y = along[start:stop, 0], along[start:stop, 1]
        movie[i] = rng.poisson(BACKGROUND + PHOTONS * (y.T @ x))
    frame = np.repeat(np.arange(frames), counts).astype(float)
    return movie, {"frame": frame, "x_nm": PIXEL_NM * xy_px[:, 0], "y_nm": PIXEL_NM * xy_px[:, 1]}


@dataclass(frozen=True)
class Judged:
    """How well emitters were found.

    Attributes
    ----------
    jaccard
        Matches over matches, misses and false ones together.
    rmse_xy_nm
        Root mean square distance of the matches in the plane.
    rms_x_nm
        Root mean square error of x of the matches.
    """

    jaccard: float
    rmse_xy_nm: float
    rms_x_nm: float


def judge(found: Columns, true: Columns) -> Judged:
    """Match greedily, the nearest first, and judge."""
    far = 10 * REACH_NM  # from one frame to the next
    a, b = (np.stack([t["x_nm"], t["y_nm"], far * t["frame"]], axis=1) for t in (found, true))
    near = cKDTree(a).sparse_distance_matrix(cKDTree(b), REACH_NM, output_type="ndarray")
    taken_a, taken_b = np.zeros(len(a), bool), np.zeros(len(b), bool)
    pairs = []
    for i, j, _ in near[np.argsort(near["v"])].tolist():
        if not (taken_a[i] or taken_b[j]):
            taken_a[i] = taken_b[j] = True
            pairs.append((i, j))
    i, j = np.array(pairs).T
    error = a[i, :2] - b[j, :2]
    return Judged(
        len(pairs) / (len(a) + len(b) - len(pairs)),
        float(np.sqrt((error**2).sum(axis=1).mean())),
        float(np.sqrt((error[:, 0] ** 2).mean())),
    )


def paint_recipe(frames: int) -> dict[str, object]:
    """Return the recipe of a DNA-PAINT movie: 1350 sites, bound for 0.2 s every 15 s, 0.1 s frames.

    A bound site gives 1000 photons a frame; about 27 spots a frame, most of them cut by its ends.
    """
    transitions = [
        {"source": "bound", "to": "free", "rate_per_s": 5.0},
        {"source": "bound", "to": "blocked", "excitation_per_s_per_kw_per_cm2": 0.0},
    ]
    dye = {
        "preset": "dna-paint",
        "concentration_nM": 200 / 3,
        "photons_per_s_per_kw_per_cm2": 1e4,
        "transitions": transitions,
    }
    field_um = EDGE * PIXEL_NM / 1000
    return {
        "name": "paint",
        "seed": 1,
        "sample": {
            "kind": "random-field",
            "field_um": field_um,
            "sites_per_um2": 1350 / field_um**2,
            "contrast": 0.0,
            "labelling": {"efficiency": 1.0, "linker": {"type": "none"}, "dye": dye},
        },
        "instrument": {
            "kind": "smlm",
            "n_frames": frames,
            "exposure_s": 0.1,
            "pixel_size_nm": PIXEL_NM,
            "camera": {"width_px": EDGE, "height_px": EDGE},
            "psf": {"type": "gaussian", "sigma_nm": SIGMA_PX * PIXEL_NM},
            "background": {"photons": BACKGROUND},
            "illumination": {"excitation_kw_per_cm2": 1.0},
        },
    }


SETTINGS = {
    "pixel_size_nm": PIXEL_NM,
    "exposure_s": 0.1,
    "psf_sigma_nm": SIGMA_PX * PIXEL_NM,
    "camera": {
        "offset_adu": 0.0,
        "adu_per_electron": 1.0,
        "quantum_efficiency": 1.0,
        "em_gain": 1.0,
        "read_noise_e": 0.0,
        "excess_noise": 1,
    },
}
"""What is known of the movies."""
