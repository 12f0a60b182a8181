"""Every registered kind earns its place: the same suite runs over all of them."""

import inspect
import pickle
import typing

import numpy as np
import pytest
import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from nanophantom.instruments._family import Instrument
from nanophantom.samples._family import Sample
from nanophantom.scenarios.scenario import Scenario
from nanophantom.simcore import units
from nanophantom.simcore.atoms import Window
from nanophantom.simcore.emitters import HasDyes
from nanophantom.simcore.experiment import Experiment
from nanophantom.simcore.models import Family, Model
from nanophantom.simcore.runs import Run
from nanophantom.simcore.specimens import HasAtoms, Specimen
from nanophantom.simcore.surfaces import HasSurface

KINDS = [(family, kind) for family in (Sample, Instrument) for kind in family.kinds()]
ids = [kind for _, kind in KINDS]


@pytest.fixture(params=KINDS, ids=ids)
def cls(request: pytest.FixtureRequest) -> type[Family]:
    family, kind = request.param
    return family.of_kind(kind)


def models_of(model: type[Model]) -> list[type[Model]]:
    found = [model]
    for field in model.model_fields.values():
        for part in (field.annotation, *typing.get_args(field.annotation)):
            if inspect.isclass(part) and issubclass(part, Model):
                found += models_of(part)
    return found


def test_yaml_and_pickle_round_trip(cls: type[Family]) -> None:
    small = cls.small()
    again = cls.model_validate(yaml.safe_load(yaml.safe_dump(small.model_dump(mode="json"))))
    assert again == small
    assert pickle.loads(pickle.dumps(small)) == small


def test_an_unknown_key_is_refused(cls: type[Family]) -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        cls.model_validate({**cls.small().model_dump(), "no_such_knob": 1})


def test_the_kind_and_every_knob_say_what_they_are(cls: type[Family]) -> None:
    assert (cls.__doc__ or "").strip()
    for model in models_of(cls):
        for name, field in model.model_fields.items():
            assert name == "kind" or field.description, f"{model.__name__}.{name} has no docstring"


def is_float(field: FieldInfo) -> bool:
    parts = [field.annotation, *typing.get_args(field.annotation)]
    return float in parts


def test_every_float_names_its_unit_or_is_marked_dimensionless(cls: type[Family]) -> None:
    for model in models_of(cls):
        for name, field in model.model_fields.items():
            if is_float(field):
                extra = field.json_schema_extra
                marked = isinstance(extra, dict) and extra.get("dimensionless")
                assert units.suffix_of(name) or marked, f"{model.__name__}.{name} has no unit"


def test_scenario_floats_name_their_units() -> None:
    for model in models_of(Scenario):
        for name, field in model.model_fields.items():
            assert not is_float(field) or units.suffix_of(name)


@pytest.mark.parametrize("kind", Sample.kinds())
def test_a_sample_is_the_same_for_the_same_run(kind: str) -> None:
    sample = Sample.of_kind(kind).small()
    one, two = sample.make(Run(3)), sample.make(Run(3))
    if isinstance(one, HasAtoms):
        assert isinstance(two, HasAtoms)
        window = Window.centred(3.0, 3.0)
        first, second = (s.atoms_within(window).positions_nm for s in (one, two))
    elif isinstance(one, HasDyes):
        assert isinstance(two, HasDyes)
        window = Window.centred(2000.0, 2000.0)
        first, second = (s.dyes_within(window).positions_nm for s in (one, two))
    else:
        assert isinstance(one, HasSurface)
        assert isinstance(two, HasSurface)
        window = Window.centred(600.0, 600.0)
        first, second = (s.surface_within(window, (100, 100)).heights_nm for s in (one, two))
        assert np.ptp(first) > 0
    np.testing.assert_array_equal(first, second)
    assert len(first) > 0


def without_noise(data: object) -> object:
    """Switch noise off wherever an instrument has it."""
    if isinstance(data, dict):
        off = ("shot_noise", "noise")
        return {k: False if k in off else without_noise(v) for k, v in data.items()}
    return [without_noise(v) for v in data] if isinstance(data, list | tuple) else data


def small_experiment(kind: str, noise: bool = True) -> Experiment:
    instrument = Instrument.of_kind(kind).small()
    if not noise:
        quiet = without_noise(instrument.model_dump())
        assert quiet != instrument.model_dump(), "the kind has no knob shot_noise or noise"
        instrument = type(instrument).model_validate(quiet)
    return Experiment.of(instrument.plan(specimen_for(kind), Run(3)))


def specimen_for(kind: str) -> Specimen:
    """Return something that an instrument can look at: atoms, a surface for a tip, or dyes."""
    sample = "nanoparticle-on-support"
    if kind in ("afm", "force-volume"):
        sample = "spheres"
    if kind in ("smlm", "several", "widefield", "confocal", "sted", "sim"):
        sample = "nuclear-pores"
    return Sample.of_kind(sample).small().make(Run(3))


def with_ideal(kind: str) -> dict[str, str]:
    """Name the signals whose noise-free expectation is stored, and the truth that holds it."""
    instrument = Instrument.of_kind(kind).small()
    signals = instrument.plan(specimen_for(kind), Run(3)).signals()
    return {name: spec.ideal for name, spec in signals.items() if spec.ideal is not None}


@pytest.mark.parametrize("kind", Instrument.kinds())
def test_without_noise_measured_equals_ideal(kind: str) -> None:
    experiment = small_experiment(kind, noise=False)
    for name in with_ideal(kind):
        for i in range(len(experiment.frames_of(name))):
            np.testing.assert_array_equal(
                experiment.signal(name, i, i + 1)[0], experiment.ideal(name, i)
            )


@pytest.mark.parametrize("kind", Instrument.kinds())
def test_turning_noise_off_leaves_every_truth_unchanged(kind: str) -> None:
    noisy, quiet = small_experiment(kind), small_experiment(kind, noise=False)
    assert noisy.truth_tables == quiet.truth_tables
    for table in noisy.truth_tables:
        for column, values in noisy.truth(table).items():
            np.testing.assert_array_equal(values, quiet.truth(table)[column])
    for name in with_ideal(kind).values():
        np.testing.assert_array_equal(noisy.frame_truth(name), quiet.frame_truth(name))


@pytest.mark.parametrize("kind", Instrument.kinds())
def test_the_outline_names_the_truth_that_there_is(kind: str) -> None:
    instrument = Instrument.of_kind(kind).small()
    acquisition = instrument.plan(specimen_for(kind), Run(3))
    assert set(acquisition.truth_outline()) == set(acquisition.truth())
    for name, spec in acquisition.signals().items():
        frame = acquisition.expose(spec.frames[0] if spec.frames else 0)
        assert frame.signals[name].shape == spec.shape
        assert frame.signals[name].dtype == spec.dtype


@pytest.mark.parametrize("kind", Instrument.kinds())
def test_a_frame_made_alone_equals_the_frame_of_the_series(kind: str) -> None:
    instrument = Instrument.of_kind(kind).small()
    specimen = specimen_for(kind)
    series = Experiment.of(instrument.plan(specimen, Run(3)))
    again = pickle.loads(pickle.dumps(instrument.plan(specimen, Run(3))))
    for name in series.signals:
        own = series.frames_of(name)
        alone, last = again.expose(own[-1]), len(own) - 1
        np.testing.assert_array_equal(alone.signals[name], series.signal(name, last, last + 1)[0])
        for table, columns in alone.tables.items():
            kept = series.frame_table(table, own[-1], own[-1] + 1)
            for column, values in columns.items():
                np.testing.assert_array_equal(values, kept[column])
