"""Models: one declaration of a knob serves recipe, shell, schema, documentation and lab.

A :class:`Model` is a frozen pydantic model that refuses unknown keys and reads quantities
with units. A :class:`Family` is a Model with a ``kind``: each file in the family's folder
holds one kind, found by its file name and imported only when a recipe asks for it.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import operator
import pkgutil
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Annotated, Any, ClassVar, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    SerializeAsAny,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic.fields import FieldInfo

from nanophantom.simcore import units


class Model(BaseModel):
    """A frozen set of knobs: unknown keys refused, ``"2.35 Å"`` accepted where a unit is named."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
        ser_json_inf_nan="strings",
        use_attribute_docstrings=True,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _read_quantity(cls, value: Any, info: ValidationInfo) -> Any:
        """Convert text with a unit to the unit in the field's name, in tuples too."""
        if info.field_name is None:
            return value
        if isinstance(value, bool) and not _takes_bool(cls.model_fields[info.field_name]):
            raise ValueError(f"must not be {str(value).lower()}; this is no switch")
        if units.suffix_of(info.field_name):
            return _convert(value, info.field_name)
        return value

    @classmethod
    def knobs(cls) -> dict[str, FieldInfo]:
        """Return the declared fields, for documentation, schema and lab page."""
        return dict(cls.model_fields)


def _takes_bool(field: FieldInfo) -> bool:
    return bool in (field.annotation, *get_args(field.annotation))


def _convert(value: Any, name: str) -> Any:
    if isinstance(value, str) and value.strip().lower().lstrip("+-") not in ("nan", "inf"):
        return units.parse(value, name)
    if isinstance(value, list | tuple):
        return tuple(_convert(item, name) for item in value)
    return value


class Family(Model):
    """A Model with a ``kind``; the concrete kinds live one to a file in ``folder``."""

    folder: ClassVar[str]
    """Import name of the package whose modules are the kinds."""
    entry_point_group: ClassVar[str]
    """Entry points of this group let another package add kinds."""

    kind: str

    @classmethod
    def small(cls) -> Self:
        """Return a cheap example for tests; the defaults stay realistic."""
        return cls.model_validate({})

    @classmethod
    def kinds(cls) -> dict[str, str]:
        """Return ``{kind: module name}`` of everything that can be asked for, without imports."""
        package = importlib.import_module(cls.folder)
        found = {
            module.name.replace("_", "-"): f"{cls.folder}.{module.name}"
            for module in pkgutil.iter_modules(package.__path__)
            if not module.ispkg and not module.name.startswith("_")
        }
        for entry in entry_points(group=cls.entry_point_group):
            found[entry.name] = entry.value.split(":")[0]
        return dict(sorted(found.items()))

    @classmethod
    def of_kind(cls, kind: str) -> type[Self]:
        """Import the file of one kind and return its class.

        Raises
        ------
        ValueError
            There is no such kind; the message lists those that exist.
        """
        modules = cls.kinds()
        if kind not in modules:
            raise ValueError(f"there is no kind {kind!r}{did_you_mean(kind, modules)}")
        module = importlib.import_module(modules[kind])
        for value in vars(module).values():
            if (
                isinstance(value, type)
                and issubclass(value, cls)
                and value.__module__ == module.__name__
                and value.model_fields["kind"].default == kind
            ):
                return value
        raise ValueError(f"{modules[kind]} declares no {cls.__name__} of kind {kind!r}")

    @classmethod
    def read(cls, data: Any) -> Any:
        """Turn ``{"kind": ..., ...}`` into the model of that kind; pass a model through."""
        if isinstance(data, cls):
            return data
        if not isinstance(data, Mapping):
            raise ValueError(f"must be a mapping with a 'kind'; kinds: {', '.join(cls.kinds())}")
        if "kind" not in data:
            raise ValueError(f"has no 'kind'; kinds: {', '.join(cls.kinds())}")
        return cls.of_kind(str(data["kind"])).model_validate(dict(data))

    @classmethod
    def schema_of_all_kinds(cls) -> dict[str, Any]:
        """Return one JSON schema for every kind of this family, for editors."""
        return {"oneOf": [cls.of_kind(kind).model_json_schema() for kind in cls.kinds()]}


def member(family: type[Family]) -> Any:
    """Return the annotation of a field that holds any kind of a family."""
    return Annotated[
        SerializeAsAny[family],  # type: ignore[valid-type, misc]
        BeforeValidator(family.read),
        WithJsonSchema({"type": "object", "title": family.__name__, "required": ["kind"]}),
    ]


def one_of(tag: str, *models: type[Model]) -> Any:
    """Return the annotation of a field that holds one of some models.

    Parameters
    ----------
    tag
        Name of the field, a literal with a default in each of the models, that tells them apart; a
        recipe has to give it.
    *models
        The models.
    """
    names = [str(model.model_fields[tag].default) for model in models]

    def read(value: Any) -> str:
        if isinstance(value, Mapping):
            return str(value.get(tag, ""))
        return str(getattr(value, tag, ""))

    tagged = [Annotated[m, Tag(n)] for m, n in zip(models, names, strict=True)]
    union: Any = functools.reduce(operator.or_, tagged)
    known = ", ".join(names[:-1]) + f" or {names[-1]}" if len(names) > 1 else names[0]
    message = f"{tag} must be {known}"
    return Annotated[
        union, Discriminator(read, custom_error_type=tag, custom_error_message=message)
    ]


def did_you_mean(word: str, known: Mapping[str, Any] | list[str]) -> str:
    """Return ``"; did you mean ...?"`` or the list of what is known."""
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(names)}"
