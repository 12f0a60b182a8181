"""Tuning errors, drifting lenses, focal spread, and presets of whole columns."""

import math

import numpy as np
import pytest
from pydantic import ValidationError

from nanophantom.instruments import _presets
from nanophantom.instruments.tem import TEM
from nanophantom.simcore.electrons.aberrations import chi
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.optics import ImagingOptics, ProbeOptics, focal_quadrature
from nanophantom.simcore.electrons.tuning import AberrationDrift, Tuned, Tuning, add
from nanophantom.simcore.runs import Run


def test_the_error_of_tuning_has_the_stated_standard_deviation_on_each_axis() -> None:
    """2000 draws: the standard deviation is known to 1.6 %, four of those are allowed."""
    tuning = Tuning(c10_nm=3.0, c12_nm=2.0, c30_um=1.0)
    nominal = {"C10": 50.0, "C12": 30.0, "phi12": 0.4}
    drawn = [tuning.actual(nominal, Run(s).rng("tuning")) for s in range(2000)]
    c10 = np.array([d["C10"] for d in drawn])
    assert c10.mean() == pytest.approx(50.0, abs=4 * 30 / math.sqrt(2000))
    assert c10.std() == pytest.approx(30.0, rel=0.064)
    c12 = np.array([d["C12"] * np.exp(2j * d["phi12"]) for d in drawn]) - 30 * np.exp(0.8j)
    for part in (c12.real, c12.imag):
        assert part.mean() == pytest.approx(0.0, abs=4 * 20 / math.sqrt(2000))
        assert part.std() == pytest.approx(20.0, rel=0.064)
    assert np.std([d["C30"] for d in drawn]) == pytest.approx(1e4, rel=0.064)
    assert not any("C21" in d for d in drawn)


def test_one_aberration_turned_off_leaves_the_others_as_they_were() -> None:
    both = Tuning(c12_nm=2.0, c21_nm=9.0).actual({}, Run(4).rng("tuning"))
    one = Tuning(c21_nm=9.0).actual({}, Run(4).rng("tuning"))
    assert one["C21"] == both["C21"]
    assert one["phi21"] == both["phi21"]


def test_adding_aberrations_adds_their_phases() -> None:
    """chi is linear in C exp(i m phi): the sum of two lenses is the lens of the sum."""
    kx, ky = np.random.default_rng(3).uniform(-1, 1, (2, 50))
    for name, m in (("C12", 2), ("C21", 1), ("C34", 4), ("C10", 0)):
        first = {name: 40.0, **({f"phi{name[1:]}": 0.3} if m else {})}
        second = {name: 25.0, **({f"phi{name[1:]}": -0.9} if m else {})}
        both = dict(first)
        add(both, name, 25.0 * complex(np.exp(-0.9j * m)))
        total = chi(first, kx, ky, 200.0) + chi(second, kx, ky, 200.0)
        np.testing.assert_allclose(chi(both, kx, ky, 200.0), total, atol=1e-12)


def test_aberrations_walk_with_the_square_root_of_time_and_drift_in_proportion() -> None:
    drift = AberrationDrift(c10_nm_per_s=0.5, c12_walk_nm_per_sqrt_s=0.2)
    t = np.array([1.0, 4.0, 100.0])
    paths = [drift.path(t, Run(s).rng("drift")) for s in range(1500)]
    np.testing.assert_allclose(paths[0]["C10"].real, 5.0 * t)
    walks = np.array([p["C12"] for p in paths])
    for i, time in enumerate(t):
        assert walks[:, i].real.std() == pytest.approx(2.0 * math.sqrt(time), rel=0.08)
        assert walks[:, i].imag.std() == pytest.approx(2.0 * math.sqrt(time), rel=0.08)
    assert not np.any(paths[0]["C21"])
    assert AberrationDrift().still
    assert not drift.still


def test_the_lens_of_a_series_follows_its_nominal_foci() -> None:
    tuned = Tuned.draw(
        Tuning(c10_nm=1.0),
        AberrationDrift(c10_nm_per_s=2.0),
        {"C10": 0.0, "C30": 1e5},
        [0.5, 1.5],
        Run(1).rng("tuning"),
        Run(1).rng("drift"),
        (-5.0, 7.0),
    )
    table = tuned.focus()
    np.testing.assert_allclose(table["nominal_nm"], [-5.0, 7.0])
    error = table["actual_nm"] - table["nominal_nm"]
    assert np.diff(error)[0] == pytest.approx(2.0)
    assert tuned.coefficients(1)["C30"] == 1e5


# --- focal spread --------------------------------------------------------------------------------


def test_the_focal_spread_follows_from_the_chromatic_aberration() -> None:
    """Cc dE / E: 1.2 mm, 0.7 eV full width, 200 kV make 1.784 nm of standard deviation."""
    for lens in (ImagingOptics, ProbeOptics):
        optics = lens(cc_mm=1.2, energy_spread_fwhm_ev=0.7)
        assert optics.focal_spread_A(200.0) == pytest.approx(17.84, abs=0.01)
        assert lens().focal_spread_A(200.0) == 0.0
        assert lens(focal_spread_nm=3.0).focal_spread_A(200.0) == 30.0
        with pytest.raises(ValidationError, match="give one of them"):
            lens(cc_mm=1.2, focal_spread_nm=3.0)
    # voltage 1 ppm and current 1 ppm: Cc sqrt(1 + 4) 1e-6
    noisy = ImagingOptics(cc_mm=1.0, voltage_instability_ppm=1.0, current_instability_ppm=1.0)
    assert noisy.focal_spread_A(300.0) == pytest.approx(10.0 * math.sqrt(5), rel=1e-9)


def test_the_quadrature_over_the_focus_has_the_moments_of_a_gaussian() -> None:
    nodes, weights, reach = focal_quadrature(7)
    for power, moment in ((0, 1.0), (1, 0.0), (2, 1.0), (4, 3.0), (6, 15.0)):
        assert float(weights @ nodes**power) == pytest.approx(moment, abs=1e-9)
    assert reach > 2.0


def test_the_source_of_a_probe_is_stated_by_its_full_width() -> None:
    assert ProbeOptics(source_size_nm=0.1).source_sigma_A == pytest.approx(0.42466, abs=1e-5)


# --- presets -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", _presets.NAMES)
def test_every_preset_is_a_microscope_and_survives_a_round_trip(name: str) -> None:
    tem = TEM(preset=name)
    assert tem.energy_kev == float(name.split("-")[1].removesuffix("kv"))
    assert TEM.model_validate(tem.model_dump(mode="json")) == tem
    assert 3.0 < tem.optics.focal_spread_A(tem.energy_kev) < 60.0
    assert tem.tuning.c12_nm > 0
    if "corrected" in name.split("-")[0] and not name.startswith("un"):
        assert abs(tem.optics.aberrations.c30_um) < 20.0
    for sources in (_presets.sources("imaging"), _presets.sources("probe")):
        for number in leaves(sources.get(name, {})):
            assert number.endswith(")")
            assert len(number.split("(", 1)[1]) > 4


def leaves(tree: dict) -> list[str]:
    return [x for v in tree.values() for x in (leaves(v) if isinstance(v, dict) else [v])]


def test_a_probe_takes_its_half_of_a_preset() -> None:
    for name in _presets.NAMES[:3]:
        knobs = _presets.knobs(name, "probe")
        ProbeOptics.model_validate(knobs["probe"])
        Tuning.model_validate(knobs["tuning"])
    with pytest.raises(ValueError, match="has no probe"):
        _presets.knobs("cryo-300kv", "probe")


def test_the_recipe_wins_over_its_preset_at_any_depth() -> None:
    plain = TEM(preset="corrected-300kv")
    changed = TEM.model_validate(
        {
            "preset": "corrected-300kv",
            "optics": {"aberrations": {"c50_mm": 4.0}},
            "tuning": {"c12_nm": 0},
        }
    )
    assert changed.optics.aberrations.c50_mm == 4.0
    assert changed.tuning.c12_nm == 0.0
    assert changed.optics.aberrations.c30_um == plain.optics.aberrations.c30_um
    assert changed.optics.defocus_nm == plain.optics.defocus_nm
    assert changed.tuning.c21_nm == plain.tuning.c21_nm
    # of a model only what was set counts
    modelled = TEM(preset="corrected-300kv", optics=ImagingOptics(defocus_nm=-3.0))
    assert modelled.optics.defocus_nm == -3.0
    assert modelled.optics.cc_mm == plain.optics.cc_mm
    # a stated focal spread replaces what it would be computed from
    stated = TEM.model_validate({"preset": "corrected-300kv", "optics": {"focal_spread_nm": 4.0}})
    assert stated.optics.focal_spread_A(300.0) == 40.0
    assert stated.optics.cc_mm == 0.0


def test_an_unknown_preset_is_refused_with_the_list() -> None:
    with pytest.raises(ValidationError, match=r"no 'titan'; there are uncorrected-200kv"):
        TEM.model_validate({"preset": "titan"})


@pytest.mark.parametrize("name", ["corrected-300kv", "corrected-80kv"])
def test_a_corrected_preset_keeps_residual_aberrations_below_a_quarter_wave(name: str) -> None:
    """Three standard deviations of each reach a phase of pi/4 at the aperture's edge, and no more.

    M. Haider, S. Uhlemann & J. Zach, Ultramicroscopy 81 (2000) 163: the usual criterion.
    """
    tem = TEM(preset=name)
    aperture = tem.optics.aperture_mrad
    assert aperture is not None
    edge = 1e-3 * aperture / float(wavelength(tem.energy_kev))
    per = {"nm": 10.0, "um": 1e4, "mm": 1e7}
    for field, sigma in tem.tuning:
        symbol, unit = field.split("_")
        if sigma and symbol != "c10":  # the focus is set on purpose
            phase = abs(
                float(chi({symbol.upper(): 3 * sigma * per[unit]}, edge, 0.0, tem.energy_kev))
            )
            assert phase == pytest.approx(math.pi / 4, rel=0.1), field


def test_derived_numbers_of_presets_follow_from_their_formulas() -> None:
    """Scherzer's focus and probe; Lichte's focus, phase plateau of 2 pi/3, for negative Cs."""
    bare = _presets.knobs("uncorrected-200kv", "imaging")["optics"]
    probe = _presets.knobs("uncorrected-200kv", "probe")["probe"]
    length, Cs = float(wavelength(200.0)), bare["aberrations"]["c30_um"] * 1e4
    assert bare["defocus_nm"] * 10 == pytest.approx(-1.2 * math.sqrt(Cs * length), rel=0.01)
    edge = 1e-3 * probe["semiangle_mrad"] / length
    lens = {"C10": probe["defocus_nm"] * 10, "C30": Cs}
    phase = np.array([float(chi(lens, k, 0.0, 200.0)) for k in np.linspace(0.0, edge, 201)])
    assert phase.min() == pytest.approx(-math.pi / 2, rel=0.01)
    assert phase[-1] == pytest.approx(0.0, abs=0.1)
    for name, d_A in (("corrected-300kv", 0.8), ("corrected-80kv", 1.1)):
        kev = float(name.split("-")[1].removesuffix("kv"))
        optics = _presets.knobs(name, "imaging")["optics"]
        lens = {"C10": optics["defocus_nm"] * 10, "C30": optics["aberrations"]["c30_um"] * 1e4}
        phase = np.array([float(chi(lens, k, 0.0, kev)) for k in np.linspace(0.0, 1 / d_A, 201)])
        assert phase.max() == pytest.approx(2 * math.pi / 3, rel=0.03)
        lichte = -0.75 * lens["C30"] * float(wavelength(kev)) ** 2 / d_A**2
        assert lens["C10"] == pytest.approx(lichte, rel=0.03)


def test_presets_show_their_sources_in_the_schema() -> None:
    shown = TEM.model_json_schema()["properties"]["preset"]["presets"]["imaging"]
    assert "Tecnai F20" in shown["uncorrected-200kv"]["optics"]["cc_mm"]
