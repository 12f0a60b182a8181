"""Picasso itself opens, localizes and writes what we exchange with it (in its own environment)."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from benchmarks import _picasso

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))
from spots import CAMERA, PIXEL_NM, Spots
from toy import make

from nanophantom.scenarios import run as runner
from nanophantom.simcore import localization_files
from nanophantom.simcore.export import export
from nanophantom.simcore.store import Dataset
from nanophantom.validation.grade import grade_dataset, read_predictions
from nanophantom.validation.tasks import find_task

pytestmark = pytest.mark.peer

LOCALIZE = """
import os
import numpy as np
from picasso import io, localize
movie, info = io.load_movie(given["movie"])
maps = "movie_scmos_calib.hdf5"
camera = {key: info[0][key] for key in ("Baseline", "Sensitivity", "Gain", "Qe", "Pixelsize")}
locs, info = localize.localize(
    movie,
    camera_info=camera,
    identification_parameters={"Min. Net Gradient": given["gradient"], "Box Size": 7},
    movie_info=info,
    fitting_method="gaussmle",
    camera_calibration=io.load_camera_calibration(maps) if os.path.exists(maps) else None,
    threaded=False,
)
io.save_locs("found_locs.hdf5", locs, info)
print(json.dumps({name: locs[name].tolist() for name in ("frame", "x", "y", "photons", "lpx")}))
"""
LOAD = """
import numpy as np
from picasso import io
locs, info = io.load_locs(given["locs"])
print(json.dumps({"info": info, **{name: locs[name].tolist() for name in locs.columns}}))
"""
PIXELS = """
import numpy as np
from picasso import io
movie, info = io.load_movie(given["movie"])
frames = np.stack([np.asarray(movie[i]) for i in range(len(movie))]).astype(float)
print(json.dumps({"shape": frames.shape, "frames": frames.sum(axis=(1, 2)).tolist(),
                  "corner": frames[1, :3, :5].tolist(), "sizes": [info[0][k] for k in (
                  "Frames", "Height", "Width")]}))
"""


@pytest.fixture(scope="module", autouse=True)
def picasso():
    try:
        _picasso.interpreter()
    except _picasso.NoPicassoError as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A movie of 60 frames, exported, and localized by Picasso."""
    folder = tmp_path_factory.mktemp("picasso")
    make(folder / "data", Spots(60), workers=1)
    dataset = Dataset(folder / "data")
    export(dataset, "picasso", folder / "out")
    found = _picasso.run(LOCALIZE, folder / "out", movie="movie.raw", gradient=3000)
    return dataset, folder / "out", {name: np.array(values) for name, values in found.items()}


def paired(true, found):
    """Return rows of the truth and of what was found within a pixel of them, frame by frame."""
    rows = []
    for frame in np.unique(true["frame"]):
        a, b = np.flatnonzero(true["frame"] == frame), np.flatnonzero(found["frame"] == frame)
        places = np.stack([found["x_nm"][b], found["y_nm"][b]], axis=1)
        wanted = np.stack([true["x_nm"][a], true["y_nm"][a]], axis=1)
        distance, nearest = cKDTree(places).query(wanted, distance_upper_bound=PIXEL_NM)
        rows += [(i, b[j]) for i, j, d in zip(a, nearest, distance, strict=True) if np.isfinite(d)]
    return np.array(rows).T


def test_picasso_finds_our_emitters_where_they_are(exported):
    """All of them, in their frames; mean offset below 0.02 pixels in x and in y; photons to 5 %.

    A reflection, an exchange of x and y, a half pixel or a frame too many would each lose nearly
    every match: the arrangement has no symmetry and the number of emitters changes every frame.
    """
    dataset, folder, _ = exported
    true = dataset.frame_table("emissions")
    found = read_predictions(folder / "found_locs.hdf5", dataset.settings)
    ours, theirs = paired(true, found)
    assert len(ours) == len(true["frame"]) == len(found["frame"])
    for axis in ("x_nm", "y_nm"):
        offset_px = (found[axis][theirs] - true[axis][ours]) / PIXEL_NM
        assert abs(offset_px.mean()) < 0.02
        assert offset_px.std() < 0.06
    ratio = found["photons"][theirs] / true["photons"][ours]
    assert ratio.mean() == pytest.approx(1.0, abs=0.05)
    assert found["background"].mean() == pytest.approx(Spots().background, rel=0.2)


def test_what_picasso_writes_we_read_as_its_own_numbers(exported):
    """Its file through our reader, against the numbers Picasso printed, turned over by hand."""
    dataset, folder, printed = exported
    read = read_predictions(folder / "found_locs.hdf5", dataset.settings)
    np.testing.assert_array_equal(read["frame"], printed["frame"])
    np.testing.assert_allclose(read["x_nm"], 110.0 * printed["x"], rtol=1e-6)
    np.testing.assert_allclose(read["y_nm"], 110.0 * printed["y"], rtol=1e-6)
    np.testing.assert_allclose(read["photons"], printed["photons"] / 0.8, rtol=1e-6)
    np.testing.assert_allclose(read["uncertainty_x_nm"], 110.0 * printed["lpx"], rtol=1e-6)
    (folder / "found_locs.yaml").unlink()  # what Picasso keeps inside the file is enough
    again = localization_files.read_picasso(folder / "found_locs.hdf5")
    np.testing.assert_array_equal(again["x_nm"], read["x_nm"])


def test_picasso_loads_our_table_with_equal_values(exported):
    """Every row of the truth, its frames from 0, in camera pixels, with our notes."""
    dataset, folder, _ = exported
    true = dataset.frame_table("emissions")
    loaded = _picasso.run(LOAD, folder, locs="truth_locs.hdf5")
    (info,) = loaded.pop("info")
    assert info["Pixelsize"] == PIXEL_NM
    assert min(loaded["frame"]) == 0
    np.testing.assert_array_equal(loaded["frame"], true["frame"])
    np.testing.assert_allclose(loaded["x"], true["x_nm"] / PIXEL_NM, rtol=1e-6)
    np.testing.assert_allclose(loaded["y"], true["y_nm"] / PIXEL_NM, rtol=1e-6)
    electrons = CAMERA["quantum_efficiency"] * true["photons"]
    np.testing.assert_allclose(loaded["photons"], electrons, rtol=1e-6)


@pytest.mark.parametrize(("to", "file"), [("picasso", "movie.raw"), ("ome-tiff", "movie.ome.tif")])
def test_picasso_opens_our_movies_with_the_same_counts(exported, tmp_path, to, file):
    dataset, _, _ = exported
    export(dataset, to, tmp_path)
    seen = _picasso.run(PIXELS, tmp_path, movie=file)
    movie = dataset.signal("movie").astype(float)
    assert seen["sizes"] == seen["shape"] == list(movie.shape)
    assert seen["corner"] == movie[1, :3, :5].tolist()
    assert seen["frames"] == movie.sum(axis=(1, 2)).tolist()


@pytest.mark.parametrize("camera", ["ixon-897-10mhz", "orca-flash4"])
def test_picasso_understands_the_microscope_and_its_cameras(tmp_path, camera):
    """Places to 0.02 pixels and photons to 5 % by EMCCD and sCMOS as our files describe them.

    Of emitters alone within ten pixels that give 500 photons or more; counts, offset, gain,
    electron multiplication and the maps of sCMOS pixels all come from what was exported.
    """
    dye = {"preset": "dna-paint", "photons_per_s_per_kw_per_cm2": 2e4, "concentration_nM": 15.0}
    data = {
        "name": "movie",
        "seed": 3,
        "sample": {
            "kind": "random-field",
            "field_um": 12.0,
            "sites_per_um2": 3.0,
            "labelling": {"dye": dye},
        },
        "instrument": {
            "kind": "smlm",
            "n_frames": 400,
            "exposure_s": 0.1,
            "pixel_size_nm": 100.0,
            "camera": {"preset": camera, "width_px": 120, "height_px": 104},
            "psf": {"type": "gaussian", "sigma_nm": 110.0},
            "background": {"photons": 5.0},
            "illumination": {"excitation_kw_per_cm2": 1.0},
        },
    }
    runner.make(runner.plan(data, out=tmp_path / "data"), workers=1)
    dataset = Dataset(tmp_path / "data")
    export(dataset, "picasso", tmp_path / "out")
    known = dataset.settings["camera"]
    adu_per_photon = known["adu_per_electron"] * known["em_gain"] * known["quantum_efficiency"]
    gradient = 600 * adu_per_photon
    printed = _picasso.run(LOCALIZE, tmp_path / "out", movie="movie.raw", gradient=gradient)
    found = read_predictions(tmp_path / "out/found_locs.hdf5", dataset.settings)
    true = dataset.frame_table("emissions")
    ours, theirs = paired(true, found)
    inside = (true["x_nm"] > 500) & (true["x_nm"] < 11_400) & (true["y_nm"] > 500)
    inside &= (true["y_nm"] < 9800) & (true["photons"] > 500)
    places = np.stack([true["x_nm"], true["y_nm"], 1e6 * true["frame"]], axis=1)
    alone = cKDTree(places).query(places, k=2)[0][:, 1] > 1000
    clear = (inside & alone)[ours]
    assert clear.sum() > 300
    ours, theirs = ours[clear], theirs[clear]
    assert len(ours) > 0.97 * (inside & alone).sum()
    for axis in ("x_nm", "y_nm"):
        offset_px = (found[axis][theirs] - true[axis][ours]) / 100.0
        assert abs(offset_px.mean()) < 0.02
    ratio = found["photons"][theirs] / true["photons"][ours]
    assert ratio.mean() == pytest.approx(1.0, abs=0.05)
    _scored_alike(dataset, tmp_path / "out", printed, known["quantum_efficiency"])


def _scored_alike(dataset, folder, printed, efficiency):
    """The file's scores are those of the numbers; the exported truth has none but right finds."""
    task = find_task("localization")
    by_hand = {
        "frame": np.array(printed["frame"]),
        "x_nm": 100 * np.array(printed["x"]),
        "y_nm": 100 * np.array(printed["y"]),
        "photons": np.array(printed["photons"]) / efficiency,
    }
    expected = task.grade(by_hand, dataset).values()
    _, scores = grade_dataset(dataset, "localization", predictions=folder / "found_locs.hdf5")
    for name in ("jaccard", "rmse_xy", "bias_x", "bias_y", "photons_bias", "jaccard.all"):
        assert scores[name].value == pytest.approx(expected[name], rel=1e-4, abs=1e-5)
    _, perfect = grade_dataset(dataset, "localization", predictions=folder / "truth_locs.hdf5")
    assert perfect["jaccard.all"].value == 1.0
    assert perfect["rmse_xy.all"].value < 1e-2
