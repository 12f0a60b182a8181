"""The conventions page, line by line, on an asymmetric specimen: an L of single gold atoms."""

import numpy as np
import pytest

from nanophantom.instruments.tem import TEM
from nanophantom.simcore.atoms import Atoms
from nanophantom.simcore.cameras import Camera
from nanophantom.simcore.electrons.optics import Aberrations, ImagingOptics
from nanophantom.simcore.environment import Drift
from nanophantom.simcore.experiment import Experiment
from nanophantom.simcore.fields import Array
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import FiniteAtoms

STEP = 0.02  # nm
SHAPE = (80, 96)
# (x, y) of the atoms in nm from the centre of the view: an L, its foot to the right
POINTS = np.array([[-0.5, -0.4], [-0.5, 0.3], [0.37, 0.3]])


def few_atoms(positions_nm: Array, number: int = 79) -> FiniteAtoms:
    return FiniteAtoms(Atoms.of([number] * len(positions_nm), positions_nm, 0.0))


def microscope(**knobs: object) -> TEM:
    base: dict[str, object] = {
        "exposures": {"n_frames": 2, "exposure_s": 1.0},
        "camera": Camera(
            width_px=SHAPE[1], height_px=SHAPE[0], pixel_size_nm=STEP, shot_noise=False
        ),
        "optics": ImagingOptics(
            defocus_nm=6.0,
            aberrations=Aberrations(c30_um=-13.0),
            aperture_mrad=25.0,
            focal_spread_nm=2.0,
        ),
        "multislice": {"thermal_motion": False, "margin_nm": 0.3, "oversampling": 3},
    }
    return TEM.model_validate({**base, **knobs})


def look(tem: TEM, positions_nm: Array) -> Experiment:
    return Experiment.of(tem.plan(few_atoms(positions_nm), Run(1)))


def flat(points: Array = POINTS, z_nm: float = 0.5) -> Array:
    return np.column_stack([points, np.full(len(points), z_nm)])


def centroid(
    image: Array, x_nm: float, y_nm: float, radius_nm: float = 0.16
) -> tuple[float, float]:
    """Centre of the bright blob near a point, in camera coordinates (nm)."""
    y, x = np.indices(image.shape) * STEP
    near = np.hypot(x - x_nm, y - y_nm) < radius_nm
    weight = np.where(near, np.clip(image - np.median(image), 0, None), 0.0) ** 2
    return float((weight * x).sum() / weight.sum()), float((weight * y).sum() / weight.sum())


def camera_coordinates(points: Array) -> Array:
    """Specimen coordinates start at the centre of the view, the camera's at pixel (0, 0)."""
    return points + np.array([(SHAPE[1] - 1) / 2, (SHAPE[0] - 1) / 2]) * STEP


def test_arrays_are_y_x_with_y_down_and_pixel_centre_coordinates() -> None:
    experiment = look(microscope(), flat())
    image = experiment.ideal("image", 0)
    assert image.shape == SHAPE
    for x, y in camera_coordinates(POINTS):
        assert centroid(image, x, y) == pytest.approx((x, y), abs=0.003)


def test_true_columns_are_where_the_atoms_appear() -> None:
    columns = look(microscope(), flat()).truth("columns")
    found = np.column_stack([columns["x_nm"], columns["y_nm"]])
    expected = camera_coordinates(POINTS)
    order, wanted = np.lexsort(found.T), np.lexsort(expected.T)
    np.testing.assert_allclose(found[order], expected[wanted], atol=1e-9)


def test_drift_carries_the_columns_along_with_its_sign_and_blur() -> None:
    drift = Drift(speed_nm_per_s=0.1, direction_deg=30.0)
    experiment = look(microscope(drift=drift), flat())
    path = experiment.truth("drift")
    # middle of the second exposure of one second each: 1.5 s at 0.1 nm/s, 30 degrees downwards
    assert path["dx_nm"][1] == pytest.approx(0.15 * np.cos(np.pi / 6), abs=1e-9)
    assert path["dy_nm"][1] == pytest.approx(0.15 * 0.5, abs=1e-9)
    for i in (0, 1):
        d = np.array([path["dx_nm"][i], path["dy_nm"][i]])
        for x, y in camera_coordinates(POINTS) + d:
            assert centroid(experiment.ideal("image", i), x, y) == pytest.approx((x, y), abs=0.004)


def test_drift_and_blur_keep_the_dose() -> None:
    still = look(microscope(), flat())
    moved = look(microscope(drift=Drift(speed_nm_per_s=0.05, direction_deg=0.0)), flat())
    assert moved.ideal("image", 1).mean() == pytest.approx(still.ideal("image", 1).mean(), rel=2e-3)


def test_negative_defocus_is_underfocus_and_positive_cs_wants_it() -> None:
    """With positive Cs, Scherzer's underfocus shows a light atom dark (E. J. Kirkland, ch. 3)."""
    optics = {"aperture_mrad": 12.0, "aberrations": {"c30_um": 1300.0}, "defocus_nm": -60.0}
    tem = microscope(optics=optics, energy_kev=200)
    image = Experiment.of(
        tem.plan(few_atoms(flat(np.array([[0.0, 0.0]])), number=14), Run(1))
    ).ideal("image", 0)
    at = camera_coordinates(np.zeros((1, 2)))[0] / STEP
    assert image[round(at[1]), round(at[0])] < 0.97 * np.median(image)
    over = microscope(optics={**optics, "defocus_nm": 20.0}, energy_kev=200)
    other = Experiment.of(
        over.plan(few_atoms(flat(np.array([[0.0, 0.0]])), number=14), Run(1))
    ).ideal("image", 0)
    assert other[round(at[1]), round(at[0])] > image[round(at[1]), round(at[0])]


@pytest.mark.parametrize(
    ("defocus_nm", "c30_um", "aperture_mrad", "looks"),
    [(7.0, -13.0, 30.0, "bright"), (-60.0, 1200.0, 12.0, "dark"), (-60.0, 0.0, 8.0, "dark")],
)
def test_the_operator_is_told_whether_atoms_look_bright_or_dark(
    defocus_nm: float, c30_um: float, aperture_mrad: float, looks: str
) -> None:
    """What the settings say of the contrast is what a silicon atom's image shows."""
    optics = {
        "defocus_nm": defocus_nm,
        "aberrations": {"c30_um": c30_um},
        "aperture_mrad": aperture_mrad,
    }
    tem = microscope(optics=optics, energy_kev=200)
    middle = flat(np.array([[0.0, 0.0]]))
    experiment = Experiment.of(tem.plan(few_atoms(middle, number=14), Run(1)))
    image = experiment.ideal("image", 0)
    x, y = camera_coordinates(np.zeros((1, 2)))[0] / STEP
    at_atom = image[round(y), round(x)]
    assert experiment.settings["contrast"] == looks
    assert (at_atom > np.median(image)) == (looks == "bright")


def test_stage_tilt_about_x_moves_the_lower_edge_down_the_beam() -> None:
    """Two atoms one above the other in z separate along y when the stage turns about x."""
    tall = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 4.0]])
    tem = microscope(stage_tilt_mrad=(50.0, 0.0))
    atoms = look(tem, tall).truth("atoms")
    order = np.argsort(atoms["z_nm"])
    assert np.diff(atoms["x_nm"][order])[0] == pytest.approx(0.0, abs=1e-9)
    # positive about x takes +y to +z and +z to -y
    assert np.diff(atoms["y_nm"][order])[0] == pytest.approx(-4.0 * np.sin(0.05), abs=1e-9)


def test_a_tilted_beam_leaves_a_thin_specimen_in_place() -> None:
    """Defocus times tilt (18 pm here) is aligned away: columns stay at their truth.

    Without an aperture: one that isn't centred on the beam passes a single side band at its
    edge, which shifts columns for good.
    """
    optics = ImagingOptics(defocus_nm=6.0)
    tem = microscope(beam_tilt_mrad=(3.0, 0.0), optics=optics)
    image = look(tem, flat(z_nm=0.0)).ideal("image", 0)
    for x, y in camera_coordinates(POINTS):
        assert centroid(image, x, y) == pytest.approx((x, y), abs=0.004)


def test_a_tilted_beam_carries_deep_atoms_along() -> None:
    """Seen from the exit face, an atom 10 nm upstream appears displaced by depth times tilt."""
    positions = np.array([[-0.4, 0.0, 0.0], [0.4, 0.0, 10.0]])
    optics = ImagingOptics(defocus_nm=0.0, aperture_mrad=20.0)
    straight = look(microscope(optics=optics), positions).ideal("image", 0)
    tilted = look(microscope(optics=optics, beam_tilt_mrad=(5.0, 0.0)), positions).ideal("image", 0)
    x, y = camera_coordinates(np.array([[-0.4, 0.0]]))[0]

    def dark_centre(image: Array) -> float:
        rows = slice(round(y / STEP) - 12, round(y / STEP) + 13)
        columns = slice(round(x / STEP) - 12, round(x / STEP) + 16)
        change = (image[rows, columns] - np.median(image)) ** 2
        return float((change.sum(axis=0) * np.arange(change.shape[1])).sum() / change.sum()) * STEP

    assert dark_centre(tilted) - dark_centre(straight) == pytest.approx(0.05, abs=0.015)
