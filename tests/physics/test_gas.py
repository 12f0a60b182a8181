"""Scattering by gas around the specimen."""

from __future__ import annotations

import numpy as np
import pytest

from nanophantom.simcore.electrons.gas import Gas, langmore_smith_nm2
from nanophantom.simcore.runs import Run


@pytest.mark.parametrize(
    ("species", "at_1_mbar", "at_10_mbar"),
    [("H2", 0.992, 0.926), ("N2", 0.971, 0.743), ("O2", 0.967, 0.716), ("Ar", 0.963, 0.689)],
)
def test_unscattered_fraction_is_that_of_the_formula(species, at_1_mbar, at_10_mbar):
    """exp(-sigma p L / k T) by Langmore and Smith, 300 kV, 5.4 mm, 298 K, three digits."""
    assert Gas(species=species, pressure_mbar=1.0).unscattered(300) == pytest.approx(
        at_1_mbar, abs=6e-4
    )
    assert Gas(species=species, pressure_mbar=10.0).unscattered(300) == pytest.approx(
        at_10_mbar, abs=6e-3
    )


def test_elastic_cross_section_of_carbon_doubles_from_300_to_100_kv():
    """Measured 2.01 (Peet et al. 2019); the formula gives 1.994."""
    ratio = langmore_smith_nm2(6, 100)[0] / langmore_smith_nm2(6, 300)[0]
    assert ratio == pytest.approx(1.994, abs=0.002)


def test_inelastic_cross_section_of_carbon_from_300_to_100_kv():
    """The formula's ratio of inelastic cross sections is 1.824."""
    ratio = langmore_smith_nm2(6, 100)[1] / langmore_smith_nm2(6, 300)[1]
    assert ratio == pytest.approx(1.824, abs=0.002)


def test_no_electron_is_counted_twice():
    """Unscattered, background and stopped sum to one, each between zero and one."""
    for aperture in (None, 5.0, 30.0):
        table = Gas(species="N2", pressure_mbar=20.0).table(200, aperture)
        assert sum(float(v[0]) for v in table.values()) == pytest.approx(1.0)
        assert all(-1e-12 <= float(v[0]) <= 1.0 for v in table.values())


def test_thin_gas_is_proportional_to_its_pressure():
    """Half the pressure scatters half as much."""
    one, two = (Gas(species="O2", pressure_mbar=p).unscattered(300) for p in (0.05, 0.1))
    assert (1 - two) / (1 - one) == pytest.approx(2.0, rel=2e-3)


def test_gas_takes_contrast_from_an_image_as_it_says():
    """Contrast falls to the unscattered fraction of the electrons that arrive."""
    from nanophantom.api import instrument
    from nanophantom.samples.crystal import Crystal

    run = Run(1)
    specimen = Crystal.small().make(run)
    knobs = {
        "exposures": {"n_frames": 1},
        "camera": {"width_px": 64, "height_px": 64, "pixel_size_nm": 0.02, "shot_noise": False},
        "multislice": {"thermal_motion": False, "margin_nm": 0.2},
    }
    gas = Gas(species="N2", pressure_mbar=50.0)
    clear = instrument("tem", **knobs).plan(specimen, run).expose(0).signals["image"]
    foggy = instrument("tem", gas=gas.model_dump(), **knobs).plan(specimen, run)
    seen = foggy.expose(0).signals["image"]
    share = gas.unscattered(300)
    assert np.std(seen) / np.std(clear) == pytest.approx(share, rel=1e-4)
    lost = gas.table(300, foggy.tem.optics.aperture_mrad)["stopped"][0]
    arrived = foggy.tem.camera.mean_electrons(50.0)
    background = (1 - share - lost) * arrived
    np.testing.assert_allclose(seen, share * clear + background, rtol=1e-4)
