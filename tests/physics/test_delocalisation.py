"""How far a lens spreads a point, and that the simulated margin holds it."""

import numpy as np
import pytest

from nanophantom.instruments.tem import TEM
from nanophantom.samples.crystal import Crystal
from nanophantom.simcore.electrons.delocalisation import delocalisation
from nanophantom.simcore.experiment import Experiment
from nanophantom.simcore.runs import Run


def test_defocus_spreads_by_angle_times_distance() -> None:
    assert delocalisation({"C10": -600.0}, 300, 25.0) == pytest.approx(600 * 0.025, rel=1e-9)


def test_spherical_aberration_spreads_by_the_cube_of_the_angle() -> None:
    assert delocalisation({"C30": 1.2e7}, 200, 12.0) == pytest.approx(1.2e7 * 0.012**3, rel=1e-9)


def test_beams_without_coherence_do_not_count() -> None:
    sharp = delocalisation({"C10": -600.0}, 300, 60.0)
    assert delocalisation({"C10": -600.0}, 300, 60.0, focal_spread_A=40.0) < 0.5 * sharp
    assert delocalisation({"C10": -600.0}, 300, 60.0, convergence_mrad=3.0) < 0.7 * sharp


@pytest.mark.parametrize("defocus_nm", [6.0, -60.0])
def test_the_chosen_margin_keeps_the_wrapped_edge_out_of_the_view(defocus_nm: float) -> None:
    """The image changes by less than 2 % of its contrast if the margin grows by 3 nm."""

    def image(margin_nm: float | None) -> np.ndarray:
        tem = TEM.model_validate(
            {
                "optics": {
                    "defocus_nm": defocus_nm,
                    "aperture_mrad": 25.0,
                    "focal_spread_nm": 1.0,
                    "aberrations": {"c30_um": -13.0},
                },
                "exposures": {"n_frames": 1},
                "camera": {"width_px": 96, "height_px": 80, "pixel_size_nm": 0.02},
                "multislice": {"thermal_motion": False, "margin_nm": margin_nm},
            }
        )
        foil = Crystal(file="srtio3.cif", thickness_nm=2.0).make(Run(1))
        acquisition = tem.plan(foil, Run(1))
        if margin_nm is None:
            chosen.append(acquisition.margin_nm)
        return Experiment.of(acquisition).truth("noise_free")["image"]

    chosen: list[float] = []
    automatic = image(None)
    wide = image(chosen[0] + 3.0)
    assert np.std(automatic - wide) < 0.02 * np.std(wide)
