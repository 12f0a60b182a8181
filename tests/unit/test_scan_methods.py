"""The ways to compute a scan, as the STEM uses them: they agree, and say what they do."""

from __future__ import annotations

import numpy as np
import pytest

from nanophantom.instruments._scanning import Calculation, Scan
from nanophantom.instruments.stem import STEM
from nanophantom.samples.crystal import Crystal
from nanophantom.simcore.electrons.optics import ProbeOptics
from nanophantom.simcore.electrons.settings import Multislice
from nanophantom.simcore.electrons.stem.detectors import AnnularDetector
from nanophantom.simcore.runs import Run

CRYSTAL = Crystal(file="srtio3.cif", thickness_nm=1.2).make(Run(1))


def _stem(method: str = "auto", moving: bool = False, **calculation: object) -> STEM:
    return STEM(
        energy_kev=100.0,
        probe=ProbeOptics(semiangle_mrad=20.0),
        shot_noise=False,
        scan=Scan(width_px=5, height_px=4, pixel_size_nm=0.06),
        detectors=(
            AnnularDetector(name="bf", outer_mrad=15.0),
            AnnularDetector(name="adf", inner_mrad=25.0, outer_mrad=60.0),
        ),
        multislice=Multislice(
            thermal_motion=moving, thermal_configurations=2, margin_nm=0.35, band_limit_mrad=75.0
        ),
        calculation=Calculation.model_validate({"method": method, **calculation}),
    )


def _images(stem: STEM) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:  # type: ignore[type-arg]
    planned = stem.plan(CRYSTAL, Run(1))
    return dict(planned.expose(0).signals), planned.notes


@pytest.mark.parametrize(
    ("method", "tolerance"),
    [
        ("scattering-matrix", 1e-5),
        ("parents", 0.05),
        ("prism", 0.6),
        ("windows", 0.3),
    ],
)
def test_every_method_gives_the_images_of_multislice(method: str, tolerance: float) -> None:
    """Exact ones to 1e-5; the others as well as their stated error says."""
    exact, notes = _images(_stem("multislice", moving=True))
    assert "exact" in notes[0]
    found, notes = _images(_stem(method, moving=True, window_nm=0.9))
    for name, image in found.items():
        error = np.sqrt(np.mean((image - exact[name]) ** 2)) / exact[name].mean()
        assert error < tolerance, (method, name, error)
    assert any("error at most" in note for note in notes) == (tolerance > 1e-3)
    if tolerance > 1e-3:
        stated = float(notes[0].split("error at most ")[1].split(" %")[0]) / 100
        assert error <= stated
        assert notes[1].startswith("warning")


def test_a_static_crystal_by_its_unit_cell_is_the_same_nearly() -> None:
    """The supercell differs from the cell with margins by sampling alone."""
    found, notes = _images(_stem("unit-cell"))
    assert "unit cell" in notes[0]
    exact, _ = _images(_stem("multislice"))
    for name, image in found.items():
        assert np.sqrt(np.mean((image - exact[name]) ** 2)) < 0.06 * exact[name].mean()


def test_an_approximation_is_taken_only_where_its_stated_error_is_small_enough() -> None:
    """5 % asked for: the stated error is below; nothing asked for: exact."""
    _, notes = _images(_stem(moving=True, largest_error=0.05))
    assert "exact" in notes[0] or float(notes[0].split("at most ")[1].split(" %")[0]) <= 5
    _, notes = _images(_stem(moving=True))
    assert "exact" in notes[0]


def test_the_unit_cell_is_refused_where_there_is_none() -> None:
    """Atoms that move make every cell different."""
    with pytest.raises(ValueError, match="static crystal"):
        _stem("unit-cell", moving=True).plan(CRYSTAL, Run(1))
