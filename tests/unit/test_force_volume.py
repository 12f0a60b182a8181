"""Force volumes: every curve is the one of its own place, and truth tells what it was."""

import numpy as np
import pytest

from nanophantom.instruments.force_volume import ForceVolume
from nanophantom.samples._family import Sample
from nanophantom.simcore.experiment import Experiment
from nanophantom.simcore.probes.cantilever import Cantilever
from nanophantom.simcore.probes.force_curves import ramps_to_trigger, simulate
from nanophantom.simcore.probes.force_parameters import ForceLaw, ForceParameters
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import Specimen
from nanophantom.simcore.surfaces import Material, Surface

HARD = Material(
    name="hard", modulus_gpa=1.0, poisson_ratio=0.3, work_of_adhesion_mj_per_m2=40.0
)  # Tabor parameter 0.8 at R = 10 nm
SOFT = Material(name="soft", modulus_gpa=0.05, poisson_ratio=0.5, work_of_adhesion_mj_per_m2=20.0)
RADIUS_NM, TRIGGER_NN, STIFFNESS = 10.0, 6.0, 2.0
LAWS = ("hertz", "sneddon", "dmt", "jkr")


class Relief(Specimen):
    """A surface given by functions of x and y in nm: its height, and where it is soft."""

    def __init__(self, height, soft):
        self.height, self.soft = height, soft

    def surface_within(self, window, shape):
        ny, nx = shape
        x = window.x0_nm + np.arange(nx) * (window.width_nm / nx)
        y = window.y0_nm + np.arange(ny) * (window.height_nm / ny)
        x, y = np.meshgrid(x, y)
        heights = np.broadcast_to(self.height(x, y), shape).astype(np.float64)
        material = np.broadcast_to(self.soft(x, y), shape).astype(np.uint8)
        return Surface(window, heights, material, (HARD, SOFT))

    def truth(self):
        return {}


def ball_on_floor(radius_nm=5.0):
    """A soft ball that stands on a hard floor."""

    def height(x, y):
        inside = radius_nm**2 - x**2 - y**2
        return np.where(inside > 0, radius_nm + np.sqrt(np.maximum(inside, 0.0)), 0.0)

    return Relief(height, lambda x, y: x**2 + y**2 < radius_nm**2)


def step(height_nm=20.0):
    """A soft terrace beside a hard floor; the wall lies at x = 0."""
    return Relief(lambda x, y: np.where(x >= 0, height_nm, 0.0), lambda x, y: x >= 0)


def volume(law="dmt", **changes):
    """A small grid; changes are dotted paths written with two underscores."""
    data = {
        "tip": {"shape": "sphere-cone", "radius_nm": RADIUS_NM, "half_angle_deg": 20.0},
        "cantilever": {"stiffness_n_per_m": STIFFNESS},
        "forces": {"law": law, "van_der_waals": law == "dmt"},
        "ramp": {"length_nm": 80.0, "samples": 200, "trigger_nn": TRIGGER_NN},
        "points": {"width_px": 21, "height_px": 3, "pixel_size_nm": 2.0},
        "noise": False,
    }
    for path, value in changes.items():
        node = data
        *way, last = path.split("__")
        for name in way:
            node = node.setdefault(name, {})
        node[last] = value
    return ForceVolume.model_validate(data)


def made(instrument, specimen=None, seed=1):
    return Experiment.of(instrument.plan(specimen or ball_on_floor(), Run(seed)))


def places(instrument):
    """Where the points of a grid lie on the specimen."""
    points = instrument.points
    x = (np.arange(points.width_px) - (points.width_px - 1) / 2) * points.pixel_size_nm
    y = (np.arange(points.height_px) - (points.height_px - 1) / 2) * points.pixel_size_nm
    return np.meshgrid(x, y)


@pytest.mark.parametrize("law", LAWS)
def test_every_curve_is_the_one_of_its_own_numbers(law):
    """Truth's numbers of one point, given to simulate() alone, make the recorded curve again."""
    data = made(volume(law))
    truth = data.truth("curves")
    lever = Cantilever(stiffness_n_per_m=STIFFNESS)
    acts = ForceLaw(law=law, van_der_waals=law == "dmt")
    approach, retract = data.signal("approach"), data.signal("retract")
    for i in (0, 10, 31, 45):
        one = ForceParameters.of(
            truth["e_star_gpa"][i],
            truth["work_of_adhesion_mj_per_m2"][i],
            RADIUS_NM,
            20.0,
            truth["contact_height_nm"][i],
        )
        down, up = ramps_to_trigger(one, lever, acts, TRIGGER_NN, 80.0, 200)
        beyond = down[0, -1] % (80.0 / 199)
        down, up = down - beyond, up - beyond  # the stage stands on whole steps
        curve = simulate(one, lever, acts, down, up)
        at = truth["row"][i], truth["column"][i]
        np.testing.assert_allclose(approach[at], curve.approach_nm[0], atol=2e-6)
        np.testing.assert_allclose(retract[at], curve.retract_nm[0], atol=2e-6)
        np.testing.assert_allclose(data.signal("z_approach")[at], down[0], atol=1e-5)
        np.testing.assert_allclose(data.signal("z_retract")[at], up[0], atol=1e-5)


@pytest.mark.parametrize("law", LAWS)
def test_every_approach_turns_at_the_first_sample_that_reaches_the_trigger(law):
    """The lever's force is the trigger or more only there, on hard and on soft, drag or not."""
    for drag in (0.0, 0.5):
        data = made(volume(law, forces__drag_nn=drag))
        approach = STIFFNESS * data.signal("approach").astype(float)
        assert (approach[..., -1] > TRIGGER_NN - 1e-4).all()
        assert (approach[..., -2] < TRIGGER_NN + 1e-4).all()
        turned = STIFFNESS * data.signal("retract")[..., 0]
        if drag:
            assert (turned < approach[..., -1]).all()
        else:
            np.testing.assert_allclose(turned, approach[..., -1], rtol=1e-6)
        assert data.truth("curves")["touched"].all()
        way = data.signal("z_approach").astype(float)
        np.testing.assert_allclose(way[..., 0] - way[..., -1], 80.0, rtol=1e-5)
        steps = way / (80.0 / 199)
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)


def test_contact_heights_follow_the_dilated_surface():
    """A ball r = 5 under a tip R = 10 nm: z = r - R + sqrt((R + r)^2 - x^2 - y^2), floor 0."""
    instrument = volume(points__pixel_size_nm=0.5, points__width_px=61)
    data = made(instrument)
    contact = data.truth("curves")["contact_height_nm"].reshape(3, 61)
    x, y = places(instrument)
    under = 225.0 - x**2 - y**2
    closed = np.maximum(5.0 - 10.0 + np.sqrt(np.maximum(under, 0.0)), 0.0)
    near = np.hypot(x, y) < 9.0  # where the ends of both touch
    assert np.abs(contact - closed)[near].max() < 0.1  # samples 0.5 nm apart: 0.1 nm
    assert contact[1, 30] == pytest.approx(10.0, abs=1e-6)
    assert (contact >= data.truth("surface")["height_nm"] - 1e-9).all()
    np.testing.assert_array_equal(contact, data.truth("surface")["image_nm"])


def test_the_material_is_that_of_the_place_touched():
    """Before a wall 20 nm high the tip's flank touches its edge: soft, though the floor is hard."""
    instrument = volume()
    data = made(instrument, step())
    truth, surface = data.truth("curves"), data.truth("surface")
    x, _ = places(instrument)
    # R = 10, 20 deg, 20 nm: the flank leaves the edge 14.28 nm before the wall
    soft = truth["material"].reshape(x.shape) == 1
    assert soft[x > -13.5].all()
    assert not soft[x < -15.0].any()
    assert (surface["height_nm"][x < -0.5] == 0).all()
    e_star = np.where(soft, SOFT.reduced_modulus_gpa, HARD.reduced_modulus_gpa)
    np.testing.assert_allclose(truth["e_star_gpa"], e_star.ravel())


def test_jumps_are_where_the_truth_says():
    """The greatest fall of the reading on approach and on retract, to a sample of 0.4 nm."""
    data = made(volume("dmt", cantilever__stiffness_n_per_m=0.5))
    truth = data.truth("curves")
    jumps = (("approach", "snap_in_height_nm"), ("retract", "pull_off_height_nm"))
    for signal, table in jumps:
        read, z = data.signal(signal), data.signal(f"z_{signal}")
        last = np.argmax(np.abs(np.diff(read, axis=-1)), axis=-1)[..., None]
        ends = [np.take_along_axis(z, last + i, -1).ravel() for i in (0, 1)]
        inside = (np.minimum(*ends) <= truth[table] + 1e-4) & (
            truth[table] - 1e-4 <= np.maximum(*ends)
        )
        assert inside.all()
    pull = 2e-3 * np.pi * RADIUS_NM * truth["work_of_adhesion_mj_per_m2"]
    np.testing.assert_allclose(truth["adhesion_nn"], pull)
    lowest = -0.5 * data.signal("retract").min(axis=-1).ravel()
    step_nn = 0.5 * 80.0 / 199  # the pull grows by k times a sample until it parts
    assert ((lowest <= pull + 1e-5) & (lowest > pull - step_nn)).all()


def test_noise_is_each_rows_own_whatever_the_order():
    """Row 2 alone is row 2 of all; rows differ; without noise the signal is its ideal."""
    noisy = volume(noise=True, sensor__noise_nm=0.1, cantilever__temperature_k=0.0)
    acquisition = noisy.plan(ball_on_floor(), Run(5))
    alone = acquisition.expose(2)
    data = made(noisy, seed=5)
    np.testing.assert_array_equal(alone.signals["approach"], data.signal("approach", 2, 3)[0])
    residual = data.signal("approach") - data.frame_truth("ideal_approach")
    assert residual.std() == pytest.approx(0.1, rel=0.03)  # 12 600 samples: 0.6 %
    assert abs(np.corrcoef(residual[0].ravel(), residual[1].ravel())[0, 1]) < 0.05
    quiet = made(volume())
    np.testing.assert_array_equal(quiet.signal("retract"), quiet.frame_truth("ideal_retract"))
    assert data.truth("calibration")["noise_nm"] == 0.1
    assert data.truth("calibration")["thermal_nm"] == 0


def test_wrong_calibration_is_told_to_the_operator_only():
    """10 % too stiff: settings say so and curves stay; a wrong sensitivity scales the reading."""
    right, wrong = made(volume()), made(volume(stiffness_error_percent=10.0))
    assert wrong.settings["stiffness_n_per_m"] == pytest.approx(1.1 * STIFFNESS)
    assert wrong.truth("calibration")["stiffness_n_per_m"] == STIFFNESS
    np.testing.assert_array_equal(right.signal("approach"), wrong.signal("approach"))
    sensor = {"noise_nm": 0.0, "sensitivity_nm_per_V": 50.0, "nominal_sensitivity_nm_per_V": 55.0}
    scaled = made(volume(noise=True, cantilever__temperature_k=0.0, sensor=sensor))
    np.testing.assert_allclose(scaled.signal("approach"), 1.1 * right.signal("approach"), atol=1e-5)


def test_settings_hold_no_secret():
    """What differs from point to point is truth; settings know law, tip, lever and trigger."""
    settings = made(volume()).settings
    known = {"law", "tip", "tip_radius_nm", "trigger_nn", "stiffness_n_per_m", "poisson_ratio",
             "pixel_size_nm", "width_px", "height_px", "instrument"}  # fmt: skip
    assert set(settings) == known


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"forces__law": "sneddon", "tip": {"shape": "paraboloid"}}, "needs a tip with half_angle"),
        ({"forces__law": "maugis"}, "law"),
        ({"ramp__trigger_nn": 0.0}, "trigger_nn"),
        ({"stiffness_error_percent": -100.0}, "stiffness_error_percent"),
    ],
)
def test_impossible_recipes_are_refused(changes, message):
    """A cone's law without a cone, a law that isn't there, no trigger, no stiffness."""
    with pytest.raises(ValueError, match=message):
        volume(**changes)


def test_what_cannot_be_measured_is_refused():
    """Atoms without a surface, rows beyond the grid, drag that sets the trigger off."""
    with pytest.raises(ValueError, match="no surface"):
        volume().plan(Sample.of_kind("crystal").small().make(Run(1)), Run(1))
    with pytest.raises(IndexError, match="row 3 of 3"):
        volume().plan(ball_on_floor(), Run(1)).expose(3)
    with pytest.raises(ValueError, match="trigger_nn must exceed the drag"):
        made(volume(forces__drag_nn=7.0))
