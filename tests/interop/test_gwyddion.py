"""Gwyddion itself opens what is exported, with the same numbers (Debian's package gwyddion)."""

import shutil
import subprocess

import gwyfile
import numpy as np
import pytest

from nanophantom.instruments.afm import AFM
from nanophantom.samples._family import Sample
from nanophantom.scenarios import run as runner
from nanophantom.simcore.export import export
from nanophantom.simcore.store import Dataset

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(shutil.which("gwyddion") is None, reason="gwyddion isn't installed"),
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gwyddion") / "small"
    data = {
        "name": "small",
        "sample": Sample.of_kind("spheres").small().model_dump(mode="json"),
        "instrument": AFM.small().model_dump(mode="json"),
    }
    runner.make(runner.plan(data, out=folder, seed=1), workers=1)
    return Dataset(folder)


def gwyddion(*arguments):
    """Return what Gwyddion says; it exits with 0 even where it complains."""
    told = subprocess.run(["gwyddion", *map(str, arguments)], capture_output=True, timeout=60)
    assert told.returncode == 0
    return (told.stdout + told.stderr).decode()


@pytest.mark.parametrize("to", ["gwy", "gsf"])
def test_gwyddion_opens_every_file(dataset, tmp_path, to):
    """Its own check finds nothing to complain of; a cut-off file it does complain of."""
    files = export(dataset, to, tmp_path)
    assert gwyddion("--check", *files) == ""
    broken = tmp_path / f"broken.{to}"
    broken.write_bytes(files[0].read_bytes()[:300])
    assert "broken" in gwyddion("--check", broken)


def test_gwyddion_reads_the_same_heights(dataset, tmp_path):
    """What it writes again holds our heights in metres, at our size."""
    files = [export(dataset, to, tmp_path / to)[0] for to in ("gwy", "gsf")]
    gwyddion(f"--convert-to-gwy={tmp_path / 'again.gwy'}", *files)
    fields = gwyfile.util.get_datafields(gwyfile.load(str(tmp_path / "again.gwy")))
    height = dataset.signal("height", 0, 1)[0].astype(np.float64)
    np.testing.assert_allclose(fields["height"].data, 1e-9 * height, rtol=1e-6, atol=1e-15)
    assert fields["height"].xreal == pytest.approx(1e-9 * 12 * 4.0)
    assert fields["height"].yreal == pytest.approx(1e-9 * 10 * 4.0)
    assert {"height_retrace", "error", "truth surface height"} <= set(fields)
