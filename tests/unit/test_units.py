"""Quantities: every spelling of a unit that a person may type means the same length."""

import pytest

from nanophantom.simcore import units


@pytest.mark.parametrize(
    "text", ["2.35 Å", "2.35 \u212b", "2.35 A", "2.35 angstrom", "0.235 nm", "235 pm", "0.235"]
)
def test_all_spellings_of_a_length_agree(text: str) -> None:
    assert units.parse(text, "pixel_size_nm") == pytest.approx(0.235, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("300 keV", "energy_kev", 300.0),
        ("0.3 MeV", "energy_kev", 300.0),
        ("-80 Å", "defocus_nm", -8.0),
        ("20 e/angstrom^2", "dose_e_per_A2", 20.0),
        ("20 e/Å²", "dose_e_per_A2", 20.0),
        ("2000 electrons/nm^2", "dose_e_per_A2", 20.0),
        ("20 e-/A^2", "dose_e_per_A2", 20.0),
        ("1.5 mm", "c30_um", 1500.0),
        ("90 deg", "stage_tilt_mrad", 1570.7963267948966),
        ("25 degC", "temperature_k", 298.15),
        ("0.62 A^2", "b_factor_A2", 0.62),
        ("3 %", "strain_xx_percent", 3.0),
        ("1 nm/min", "speed_nm_per_s", 1 / 60),
        ("400 ms", "exposure_s", 0.4),
        ("1e-3 um", "margin_nm", 1.0),
    ],
)
def test_quantities_convert_to_the_unit_in_the_name(text: str, name: str, value: float) -> None:
    assert units.parse(text, name) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [
        ("5 kg", "defocus_nm", "wrong kind of unit"),
        ("5 parsnips", "defocus_nm", "not known"),
        ("soon", "defocus_nm", "not a number"),
        ("5 nm", "n_frames", "without a unit"),
        ("20 e", "dose_e_per_A2", "wrong kind"),
    ],
)
def test_a_wrong_quantity_is_refused_with_the_reason(text: str, name: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        units.parse(text, name)


def test_the_longest_suffix_wins() -> None:
    assert units.suffix_of("dose_e_per_A2") == "_e_per_A2"
    assert units.suffix_of("speed_nm_per_s") == "_nm_per_s"
    assert units.suffix_of("n_frames") is None
    assert units.symbol("exposure_s") == "s"
