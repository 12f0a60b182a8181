"""The task microscope-comparison, on images whose blur is known, and its analysis."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.ndimage
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nanophantom.analysis import five_images
from nanophantom.instruments.several import Several
from nanophantom.samples._family import Sample
from nanophantom.simcore.experiment import Experiment
from nanophantom.simcore.light.sim_patterns import cutoff_per_nm, optical_transfer
from nanophantom.simcore.runs import Run
from nanophantom.validation import microscope_limits as limits
from nanophantom.validation.microscope_images import (
    Picture,
    Star,
    fineness,
    pictures,
    spoke_contrast,
    true_map,
)
from nanophantom.validation.tasks import find_task

TASK = find_task("microscope-comparison")
PIXEL, SIDE = 20.0, 180
MIDDLE = 0.5 * (SIDE - 1) * PIXEL + 3.0
STAR = Star(MIDDLE, MIDDLE, 1500.0, 20, 0.0)


def star_dyes(n, seed=1):
    """Return dyes at random in the spokes of STAR."""
    rng = np.random.default_rng(seed)
    angle = 2 * np.pi / 20 * (rng.integers(20, size=n) + rng.random(n) / 2 - 0.25)
    r = STAR.radius_nm * np.sqrt(rng.random(n))
    return STAR.x_nm + r * np.cos(angle), STAR.y_nm + r * np.sin(angle)


def picture_of(image, pixel=PIXEL, first=0.0):
    return Picture("eye", "eye", np.asarray(image, float), pixel, first, first)


def blurred(sigma_nm, dyes=None, shift_px=0.0):
    """Return dyes, and their image through a Gaussian spot, drawn on fine pixels."""
    x, y = star_dyes(60_000) if dyes is None else dyes
    fine = PIXEL / 5
    edges = (np.arange(5 * SIDE + 1) / 5 - 0.5) * PIXEL
    dyes = np.histogram2d(y, x, bins=(edges, edges))[0]
    spread = scipy.ndimage.gaussian_filter(dyes, sigma_nm / fine, truncate=6)
    spread = np.roll(spread, round(5 * shift_px), 1)
    return x, y, picture_of(spread[2::5, 2::5])  # samples at the pixels' centres


def test_contrast_is_the_transfer_of_the_spot():
    """Gaussian spots leave exp(-2 pi^2 s^2 / p^2) of the contrast of spokes of period p."""
    _, _, picture = blurred(50.0)
    periods, contrast, noise = spoke_contrast(picture, STAR)
    expected = np.exp(-2 * np.pi**2 * 50.0**2 / periods**2)
    near = (periods > 120) & (periods < 350)  # the rim's border blurs beyond
    np.testing.assert_allclose(contrast[near], expected[near], atol=0.03)
    assert noise[near].max() < 0.03


def test_the_resolved_period_is_where_a_tenth_is_left():
    """2.93 s for a Gaussian: pi s sqrt(2 / ln 10)."""
    for sigma in (40.0, 60.0):
        x, y, picture = blurred(sigma)
        found = fineness(picture, x, y, STAR)
        assert found.resolved_nm == pytest.approx(np.pi * sigma * np.sqrt(2 / np.log(10)), rel=0.04)


def test_blur_alone_costs_no_agreement():
    """Without noise an image agrees with its dyes, though 1 % of the finest contrast is left."""
    x, y, picture = blurred(25.0)
    clean = fineness(picture, x, y, STAR)
    before = clean.frequencies_per_nm < np.sqrt(np.log(100) / (2 * np.pi**2)) / 25.0
    assert clean.correlation[before].min() > 0.97


def test_shot_noise_ends_agreement_where_theory_says():
    """L photons of a dye, spots of s: L h / (1 + L h) = 1/4 at a period 2 pi s / sqrt(ln 3 L).

    As of bursts that are each placed to s: photons are that, too. Dyes have no structure here.
    """
    sigma, photons, rng = 25.0, 8.0, np.random.default_rng(2)
    x, y, picture = blurred(sigma, rng.uniform(0, (SIDE - 1) * PIXEL, (2, 20_000)))
    mean = photons * len(x) * picture.image.clip(0) / picture.image.sum()
    found = fineness(picture_of(rng.poisson(mean)), x, y, None)
    expected = 2 * np.pi * sigma / np.sqrt(np.log(3 * photons))
    assert found.resolution_nm == pytest.approx(expected, rel=0.04)
    assert found.resolved_nm is None


def test_a_shifted_image_is_wrong_and_an_empty_one_resolves_nothing():
    """Half a period of shift turns agreement round; light without structure agrees with nothing."""
    x, y, right = blurred(30.0)
    _, _, shifted = blurred(30.0, shift_px=3.0)
    seen = fineness(right, x, y, STAR).resolution_nm
    assert fineness(shifted, x, y, STAR).resolution_nm > 2.5 * seen
    for image in (np.ones((SIDE, SIDE)), np.random.default_rng(3).poisson(50.0, (SIDE, SIDE))):
        nothing = fineness(picture_of(image), x, y, STAR)
        assert nothing.resolution_nm is None
        assert nothing.resolved_nm is None


def test_the_true_map_has_dyes_at_their_places_and_no_folded_frequencies():
    """A dye between pixels becomes its band-limited image: sum 1, mean phase exact."""
    nx, ny, x, y = 48, 40, 431.0, 283.0
    picture = Picture("eye", "eye", np.zeros((ny, nx)), PIXEL, 40.0, -20.0)
    spectrum = np.fft.fft2(true_map(picture, np.array([x]), np.array([y])))
    assert spectrum[0, 0].real == pytest.approx(1.0, abs=1e-12)
    for row, column in ((0, 3), (4, 0), (-7, 11)):
        place = column / nx * (x - 40.0) + row / ny * (y + 20.0)
        expected = np.exp(-2j * np.pi * place / PIXEL)
        # dyes are sorted into cells of 4 nm: phases are right to 2 nm
        assert abs(spectrum[row, column] - expected) < 2 * np.pi * 2.9 / PIXEL * 11 / 40


def test_limits_are_the_closed_forms():
    """Where the Airy transfer is a tenth; the square-root law; a confocal spot between."""
    period = limits.airy_period_nm(1.4, 668.0)
    assert optical_transfer(1 / period, cutoff_per_nm(1.4, 668.0)) == pytest.approx(0.1, abs=1e-9)
    # exp(-(pi w / p)^2 / (4 ln 2)) = 1/10
    p = limits.OF_A_FWHM
    assert np.exp(-((np.pi / p) ** 2) / (4 * np.log(2))) == pytest.approx(0.1, abs=1e-12)
    # the transfer of a product of two Airy spots lies under that of one, but goes twice as far:
    # its width at half maximum is 0.718 of one's, its period at a tenth nearly so
    confocal = limits.confocal_period_nm(1.4, 600.0, 600.0)
    assert confocal / limits.airy_period_nm(1.4, 600.0) == pytest.approx(0.72, abs=0.03)


@pytest.mark.parametrize("mean", [1.0, 5.0])
def test_bursts_of_poisson_numbers_agree_with_dyes_as_the_closed_form_says(mean):
    """L h / (1 + L h) = 1/4: a period 2 pi s / sqrt(ln(3 L))."""
    bursts = np.random.default_rng(5).poisson(mean, 400_000)
    expected = 2 * np.pi * 3.0 / np.sqrt(np.log(3 * mean))
    assert limits.frc_of_bursts_nm(bursts, 3.0) == pytest.approx(expected, rel=0.01)
    assert limits.frc_of_bursts_nm(np.array([1, 0, 0, 0, 0, 0]), 3.0) is None


def pixels(image, pixel, number=0, **more):
    y, x = np.mgrid[: len(image), : len(image[0])].reshape(2, -1) * pixel
    return {"microscope": np.full(x.size, float(number)), "x_nm": x, "y_nm": y,
            "value": np.ravel(image), **more}  # fmt: skip


def test_pixels_in_any_order_make_the_image():
    """Rows are sorted by place; pixel size and first pixel are found."""
    image = np.random.default_rng(6).random((17, 23))
    table = pixels(image, 12.5)
    order = np.random.default_rng(7).permutation(image.size)
    (read,) = pictures({k: v[order] for k, v in table.items()}, ("eye",), "t")
    np.testing.assert_array_equal(read.image, image)
    assert (read.name, read.pixel_nm, read.x0_nm, read.y0_nm) == ("eye", 12.5, 0.0, 0.0)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: {**t, "microscope": t["microscope"] + 2}, "microscope from 0 to 1"),
        (lambda t: {**t, "microscope": t["microscope"] + 0.5}, "microscope from 0 to 1"),
        (lambda t: {k: v[:-1] for k, v in t.items()}, "square grid"),
        (lambda t: {**t, "x_nm": t["x_nm"] ** 1.1}, "distances of x and y differ"),
        (lambda t: {**t, "y_nm": 2.0 * t["y_nm"]}, "square grid"),
        (lambda t: {k: v[:100] for k, v in t.items()}, "16 x 16"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(change, told):
    table = change(pixels(np.ones((20, 20)), 10.0))
    with pytest.raises(ValueError, match=told) as refused:
        pictures(table, ("eye", "other"), "t")
    assert "\n" not in str(refused.value)


def test_the_spot_for_deconvolution_is_the_airy_pattern():
    """Its width at half maximum is 0.5145 wavelength / NA (M. Born & E. Wolf)."""
    spot = five_images.airy_image(1.4, 668.0, 5.0, radius_au=1.0)
    middle = len(spot) // 2
    row = spot[middle, middle:]
    half = np.interp(-0.5 * row[0], -row[:40], 5.0 * np.arange(40))
    assert 2 * half == pytest.approx(0.5145 * 668.0 / 1.4, rel=0.005)
    np.testing.assert_allclose(spot, spot.T)


# ---- a small run ------------------------------------------------------------------------------

CAMERA = {"preset": "orca-flash4", "width_px": 36, "height_px": 36}
BRIGHT = {"exposure_s": 0.1, "pixel_size_nm": 65, "focus_nm": 50, "camera": CAMERA}
SCAN = {"pixel_size_nm": 40, "width_px": 58, "height_px": 58, "focus_nm": 50}
MICROSCOPES = {
    "widefield": {"kind": "widefield", **BRIGHT},
    "confocal": {"kind": "confocal", **SCAN, "dwell_us": 20},
    "sim": {"kind": "sim", **BRIGHT, "pattern": {"excitation_kw_per_cm2": 0.05}},
    "sted": {"kind": "sted", **SCAN, "dwell_us": 10},
}


def experiment(*names):
    star = {"kind": "siemens-star", "field_um": 1.9, "spokes": 10, "sites_per_um2": 1500}
    specimen = Sample.read(star).make(Run(4))
    several = Several.model_validate({"microscopes": {n: MICROSCOPES[n] for n in names}})
    return Experiment.of(several.plan(specimen, Run(4)), specimen)


@pytest.fixture(scope="module")
def small():
    return experiment("widefield", "confocal")


def graded_in_order(dataset, order):
    """Let the default analysis answer; check what physics says of its grades."""
    estimates = TASK.answer(dataset.measured())
    scores = TASK.grade(estimates, dataset)
    values = scores.values()
    told = scores["resolved.widefield"]
    assert told.value == pytest.approx(told.limit, rel=0.08)
    assert values["resolved.widefield_deconvolved"] < told.value
    for metric in ("resolution", "resolved"):
        found = [values[f"{metric}.{name}"] for name in order]
        assert found == sorted(found, reverse=True)
        for name in order[:3]:  # nothing beyond what optics pass
            assert values[f"{metric}.{name}"] > 0.97 * scores[f"{metric}.{name}"].limit
    return estimates, scores


def test_a_confocal_image_is_finer_than_a_widefield_one(small):
    """The default analysis, graded; widefield resolves what the Airy transfer says."""
    graded_in_order(small, ("widefield", "confocal"))


@pytest.mark.slow
def test_each_microscope_gives_an_image_and_finer_ones_resolve_more():
    """Stripes beyond, a depleting beam further; dyes pay for it. All is drawn."""
    dataset = experiment("widefield", "confocal", "sim", "sted")
    estimates, scores = graded_in_order(dataset, ("widefield", "confocal", "sim", "sted"))
    assert scores["bleached.sted"].value > scores["bleached.widefield"].value
    plates = TASK.figures(dataset, estimates, scores)
    assert plates[0].title == "One structure, all microscopes"
    for plate in plates:
        FigureCanvasAgg(plate.figure).draw()


def test_truth_scores_best_and_a_missing_image_is_told(small):
    """The widefield image replaced by the true dyes is finer than any; the others have none."""
    dyes = small.truth("widefield_dyes")
    edges = (np.arange(36 * 6 + 1) / 6 - 0.5) * 65.0
    image = np.histogram2d(dyes["y_nm"], dyes["x_nm"], bins=(edges, edges))[0]
    table = pixels(image, 65.0 / 6)
    table["x_nm"] -= 0.5 * (65.0 - 65.0 / 6)
    table["y_nm"] -= 0.5 * (65.0 - 65.0 / 6)
    scores = TASK.grade(table, small)
    assert scores["resolution.widefield"].value < 25
    assert scores["resolved.widefield"].value < 100
    assert scores["resolution.confocal"].value is None
    assert "no image" in scores["resolution.confocal"].hint


def test_other_datasets_are_refused():
    """A single microscope, or several that see no dyes."""
    one = SimpleNamespace(signals=("image",), settings={}, truth_tables=(), n_frames=1)
    with pytest.raises(ValueError, match="several"):
        TASK.grade(pixels(np.ones((20, 20)), 10.0), one)
    with pytest.raises(ValueError, match="has no image, raw or movie"):
        five_images.find({}, {"eye": {}})
