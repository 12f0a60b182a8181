"""A new instrument is one file: recipes, schema, driver, store and grading take it as it is."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

import nanophantom.instruments
from nanophantom.instruments._family import Instrument
from nanophantom.scenarios import recipe, run, schemas
from nanophantom.simcore.store import Dataset, verify

SHADOW = '''
"""A shadow projector: every atom darkens the pixel it falls on."""
from typing import Literal

import numpy as np
from pydantic import Field

from nanophantom.instruments._family import Instrument
from nanophantom.simcore.atoms import Window
from nanophantom.simcore.fields import Axis
from nanophantom.simcore.runs import Acquisition, Cost, Frame, SignalSpec
from nanophantom.simcore.cameras import Camera


class Shadow(Instrument):
    """Light that atoms stop, one exposure after another."""

    kind: Literal["shadow"] = "shadow"
    n_frames: int = Field(default=3, ge=1)
    """Number of frames."""
    dose_e_per_A2: float = Field(default=100.0, gt=0)
    """Quanta a frame."""
    camera: Camera = Camera(width_px=64, height_px=48, pixel_size_nm=0.05)
    """Detector."""

    def plan(self, specimen, run):
        width, height = self.camera.width_px * 0.05, self.camera.height_px * 0.05
        return ShadowSeries(self, specimen.atoms_within(Window.centred(width, height)), run)


class ShadowSeries(Acquisition):
    def __init__(self, shadow, atoms, run):
        self.shadow, self.atoms, self.run, self.n_frames = shadow, atoms, run, shadow.n_frames

    def signals(self):
        axes = (Axis("y", 0.05, "nm"), Axis("x", 0.05, "nm"))
        camera = self.shadow.camera
        return {"image": SignalSpec(camera.shape, camera.dtype, axes, "quanta", ideal="ideal")}

    def settings(self):
        return {"pixel_size_nm": self.shadow.camera.pixel_size_nm}

    def expose(self, i, parts=None):
        camera, (x, y, _) = self.shadow.camera, self.atoms.positions_nm.T
        hits, _, _ = np.histogram2d(y, x, bins=camera.shape, range=[[-1.2, 1.2], [-1.6, 1.6]])
        arriving = camera.electrons(np.exp(-0.3 * hits).astype("f4"), self.shadow.dose_e_per_A2)
        detector = camera.detector(self.run.rng("camera"), exposure_s=1.0)
        image = detector.read(arriving, self.run.rng("counts", i))
        return Frame(i, {"image": image}, {"ideal": detector.ideal(arriving)})

    def truth(self, parts=None):
        return {"atoms": self.atoms.table()}

    def truth_outline(self):
        return {"atoms": "every atom"}

    def cost(self):
        return Cost(memory_bytes=100_000_000, disk_bytes=1_000_000, cpu_s=0.1)
'''


@pytest.fixture
def shadow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Drop the file into a folder that the instruments' package also looks into."""
    folder = tmp_path / "more_instruments"
    folder.mkdir()
    (folder / "shadow.py").write_text(SHADOW)
    path = [*nanophantom.instruments.__path__, str(folder)]
    monkeypatch.setattr(nanophantom.instruments, "__path__", path)
    importlib.invalidate_caches()
    yield folder
    sys.modules.pop("nanophantom.instruments.shadow", None)


def test_one_file_makes_an_instrument(shadow: Path, tmp_path: Path) -> None:
    assert "shadow" in Instrument.kinds()
    assert "dose_e_per_A2" in schemas.of_kind("shadow")["properties"]
    data = {
        "name": "toy",
        "sample": {"kind": "crystal", "file": "srtio3.cif", "thickness_nm": 2.0},
        "instrument": {"kind": "shadow", "dose_e_per_A2": "5000 e/nm^2"},
    }
    plan = run.plan(data, out=tmp_path / "toy")
    run.make(plan, workers=1)
    dataset = Dataset(tmp_path / "toy")
    assert dataset.complete
    assert verify(tmp_path / "toy") == []
    assert dataset.recipe["instrument"]["dose_e_per_A2"] == pytest.approx(50.0)
    ideal, counts = dataset.ideal("image", 1), dataset.signal("image", 1, 2)[0]
    assert abs(counts.mean() / ideal.mean() - 1) < 0.05
    assert np.unique(ideal).size > 1


def test_its_knobs_are_checked_like_any_other(shadow: Path) -> None:
    data = {"name": "toy", "sample": {"kind": "crystal", "file": "srtio3.cif"}}
    with pytest.raises(recipe.RecipeError, match="did you mean 'n_frames'"):
        recipe.resolve({**data, "instrument": {"kind": "shadow", "n_frame": 2}})
