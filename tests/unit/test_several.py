"""Several microscopes on one specimen: each part reads like a dataset of its own."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from nanophantom.instruments.several import Several
from nanophantom.instruments.smlm import SMLM
from nanophantom.samples._family import Sample
from nanophantom.scenarios.recipe import load
from nanophantom.scenarios.remake import remake
from nanophantom.scenarios.run import make, plan
from nanophantom.simcore.experiment import Experiment
from nanophantom.simcore.runs import Run
from nanophantom.simcore.store import Dataset, verify
from nanophantom.validation.part_of import microscopes, part_of

CAMERA = {"width_px": 24, "height_px": 20}
PORES = {"kind": "nuclear-pores", "number": 4, "field_um": 2.0}
PALM = {"kind": "smlm", "camera": CAMERA, "n_frames": 5, "fluorophore": {"preset": "palm"}}
PAINT = {**PALM, "n_frames": 3, "fluorophore": {"preset": "dna-paint"}}
BOTH = {"kind": "several", "microscopes": {"palm": PALM, "paint": PAINT}}


@pytest.fixture(scope="module")
def both():
    specimen = Sample.read(PORES).make(Run(2))
    return Experiment.of(Several.model_validate(BOTH).plan(specimen, Run(2)), specimen)


def test_each_part_is_what_its_microscope_makes_alone(both):
    """Same specimen, same bytes, its own frame numbers, settings and truth."""
    assert microscopes(both) == ("palm", "paint")
    for name, recipe in (("palm", PALM), ("paint", PAINT)):
        specimen = Sample.read(PORES).make(Run(2))
        alone = Experiment.of(
            SMLM.model_validate(recipe).plan(specimen, Run(2).at(name, 0)), specimen
        )
        part = part_of(both, name)
        assert part.n_frames == alone.n_frames
        assert part.signals == alone.signals
        assert dict(part.settings) == dict(alone.settings)
        assert set(part.truth_tables) == set(alone.truth_tables)
        np.testing.assert_array_equal(part.signal("movie"), alone.signal("movie"))
        np.testing.assert_array_equal(part.ideal("movie", 2), alone.ideal("movie", 2))
        for column, values in alone.frame_table("emissions", 1, 3).items():
            np.testing.assert_array_equal(part.frame_table("emissions", 1, 3)[column], values)
        assert part.measured().signals["movie"].data.shape == (alone.n_frames, 20, 24)


def test_one_specimen_for_all(both):
    """The dyes of both views are the same molecules at the same places."""
    one, two = (part_of(both, name).truth("dyes") for name in ("palm", "paint"))
    _, i, j = np.intersect1d(one["dye"], two["dye"], return_indices=True)
    assert len(i) > 20
    for column in ("site", "x_nm", "y_nm", "z_nm"):
        np.testing.assert_array_equal(one[column][i], two[column][j])


def test_what_is_not_there_is_said(both):
    with pytest.raises(ValueError, match="no microscope 'sted' in these data; there are palm, pa"):
        part_of(both, "sted")
    alone = SMLM.small().plan(Sample.read(PORES).make(Run(2)), Run(2))
    assert microscopes(Experiment.of(alone)) == ()
    with pytest.raises(ValueError, match="there are none by name"):
        part_of(Experiment.of(alone), "palm")


def test_on_disk_it_is_verified_and_remade(tmp_path):
    recipe = tmp_path / "both.yaml"
    recipe.write_text(yaml.safe_dump({"name": "both", "sample": PORES, "instrument": BOTH}))
    make(plan(load(recipe), out=tmp_path / "both"), workers=1)
    assert verify(tmp_path / "both") == []
    assert remake(tmp_path / "both", 1) == []
    assert remake(tmp_path / "both", 6) == []
    part = part_of(Dataset(tmp_path / "both"), "paint")
    assert part.signal("movie").shape == (3, 20, 24)
    assert part.frame_table("emissions")["frame"].max(initial=0) < 3


@pytest.mark.parametrize(
    ("microscopes", "reason"),
    [
        ({"2nd one": PALM}, "'2nd one' is no name"),
        ({"all": BOTH}, "all: list its microscopes here instead of nesting them"),
        ({}, "at least 1"),
    ],
)
def test_bad_lists_are_refused(microscopes, reason):
    with pytest.raises(ValueError, match=reason):
        Several.model_validate({"microscopes": microscopes})


def test_a_microscope_that_can_not_look_is_named():
    crystal = Sample.of_kind("crystal").small().make(Run(1))
    with pytest.raises(ValueError, match=r"microscopes\.palm: sample: the microscope 'smlm' sees"):
        Several.model_validate(BOTH).plan(crystal, Run(1))
