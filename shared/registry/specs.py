"""What the registry knows: benchmarks with their metadata fields, models with their facts.

`shared.registry.load` reads it from files.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from enum import StrEnum
from functools import cached_property
from hashlib import sha256
from types import MappingProxyType
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationInfo,
    field_validator,
    model_validator,
)

from shared.names import BENCHMARK_NAME, FACTS, FIELD_NAME, ROW_KEYS, TextId
from shared.registry.spellings import (
    NamePattern,
    Value,
    fold,
    fold_pattern,
    name_pattern,
    pattern_fields,
    read_boolean,
    read_category,
    read_integer,
    read_number,
    show,
)

# Strict, for TOML has types of its own: "yes" is not true and "0.5" is no number.
_STRICT = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
_LIST = Field(default=(), strict=False)


class FieldType(StrEnum):
    """What values a metadata field takes."""

    CATEGORY = "category"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"

    @property
    def expected(self) -> str:
        """What a value must be, for a sentence."""
        return {"category": "a string", "integer": "a whole number", "number": "a number", "boolean": "true or false"}[
            self
        ]

    def fits(self, value: object) -> bool:
        """Whether a JSON value can be one of a field of this type; true and false are no numbers."""
        return _CHECKS[self](value)

    def stored(self, value: str | int | float) -> str | int | float:
        """A value that fits, as the SQL store keeps it: a number as a double however it was written; true as 1."""
        match self:
            case FieldType.NUMBER:
                return float(value)
            case FieldType.BOOLEAN:
                return int(value)
            case _:
                return value

    def read(self, value: object) -> Value | None:
        """A harness's value as one of this type: 3 for "Level 3", true for "yes"; None if it cannot be one."""
        read = _READINGS[self](value)
        return read if read is not None and self.fits(read) else None


CATEGORY_MAX = 300
"""Characters that a category may have."""

_CHECKS: Mapping[FieldType, Callable[[Any], bool]] = {
    FieldType.CATEGORY: lambda value: type(value) is str and len(value) <= CATEGORY_MAX,
    FieldType.INTEGER: lambda value: type(value) is int and -(2**63) <= value < 2**63,
    # Compared, because math.isfinite raises on an integer that no double can be.
    FieldType.NUMBER: lambda value: type(value) in (int, float) and abs(value) <= sys.float_info.max,
    FieldType.BOOLEAN: lambda value: type(value) is bool,
}

_READINGS: Mapping[FieldType, Callable[[object], Value | None]] = {
    FieldType.CATEGORY: read_category,
    FieldType.INTEGER: read_integer,
    FieldType.NUMBER: read_number,
    FieldType.BOOLEAN: read_boolean,
}


class Translated(BaseModel):
    """A text in the page's languages."""

    model_config = _STRICT

    en: str = Field(min_length=1)
    ko: str | None = None

    def read(self, language: str) -> str:
        """The text in `language`, in English where it is not there."""
        return self.ko if language == "ko" and self.ko else self.en


def _check_benchmark_name(name: str) -> str:
    if not BENCHMARK_NAME.fullmatch(name):
        raise ValueError(f"{name!r} must match {BENCHMARK_NAME.pattern}")
    return name


def _check_field_name(name: str) -> str:
    if not FIELD_NAME.fullmatch(name):
        raise ValueError(f"{name!r} must match {FIELD_NAME.pattern}")
    if name in ROW_KEYS:
        raise ValueError(f"{name!r} is a key of every answer's rows; choose another name")
    return name


def _check_value(value: object) -> Value:
    if isinstance(value, str | int | float):
        return value
    raise ValueError("must be a string, a number, true or false")


def _check_place(place: str) -> str:
    if not all(place.split(".")):
        raise ValueError(f"{place!r} must be names with a dot between them, such as 'doc.level'")
    return place


_Value = Annotated[Value, PlainValidator(_check_value)]


def _check_fit(value: Value, kind: FieldType | None) -> None:
    if kind is not None and not kind.fits(value):
        shown = str(value).lower() if isinstance(value, bool) else repr(value)  # as TOML writes it
        raise ValueError(f"{shown} is not {kind.expected}, which the type {str(kind)!r} asks for")


class FieldSpec(BaseModel):
    """A metadata field of a benchmark's questions."""

    model_config = _STRICT

    name: Annotated[str, AfterValidator(_check_field_name)]
    type: Annotated[FieldType, Field(strict=False)]
    description: Translated
    values: tuple[_Value, ...] = _LIST
    """The order in which values are shown; others follow in their natural order."""
    parent: str | None = None
    """The field that this one refines: each subject belongs to one category."""
    parent_values: Mapping[str, _Value] = {}
    """What the parent is, by this field's value: {"anatomy": "Other"}. It counts where an import does
    not tell the parent."""
    places: tuple[Annotated[str, AfterValidator(_check_place)], ...] = _LIST
    """Where harnesses keep it: paths into what a sample comes with, such as `doc.level`. The first that is there
    counts. None named: `doc`, `metadata` and the sample itself, under the field's name."""
    spellings: Mapping[str, _Value] = {}
    """What harnesses write for a value, where type and folding do not tell: {"24": 2024}."""

    @field_validator("values")
    @classmethod
    def _check_values(cls, values: tuple[Value, ...], info: ValidationInfo) -> tuple[Value, ...]:
        for value in values:
            _check_fit(value, info.data.get("type"))
        for value in values:
            if values.count(value) > 1:
                raise ValueError(f"{value!r} stands twice")
        return values

    @field_validator("spellings")
    @classmethod
    def _check_spellings(cls, spellings: Mapping[str, Value], info: ValidationInfo) -> Mapping[str, Value]:
        for value in spellings.values():
            _check_fit(value, info.data.get("type"))
        return spellings

    @model_validator(mode="after")
    def _check_parent_values(self) -> Self:
        if self.parent_values and self.parent is None:
            raise ValueError("parent_values: needs a parent")
        for text in self.parent_values:
            if self.read(text) is None:
                raise ValueError(f"parent_values: {text!r} is not {self.type.expected}, which this field takes")
        return self

    @cached_property
    def known(self) -> Mapping[str, Value]:
        """Values by their spellings, as they stand in the file and folded; empty where any value may come."""
        spelled: dict[str, Value] = dict(self.spellings)
        for value in (*self.spellings.values(), *self.parent_values, *self.values):
            read = self.type.read(value)
            if read is not None:
                spelled.setdefault(show(value), read)
        return {**{fold(text): value for text, value in reversed(spelled.items())}, **spelled}

    def read(self, value: object) -> Value | None:
        """A harness's value as one of this field, known values however they are spelled; None if it cannot be one."""
        text = show(value)
        if text in self.known:
            return self.known[text]
        folded, read = self.known.get(fold(text)), self.type.read(value)
        # "-3" folds to 3: of a category what is known comes first, of all else what it says.
        first, second = (folded, read) if self.type is FieldType.CATEGORY else (read, folded)
        return second if first is None else first

    @cached_property
    def parent_of(self) -> Mapping[Value, Value]:
        """The parent's value by this field's own."""
        read = ((self.read(text), parent) for text, parent in self.parent_values.items())
        return {value: parent for value, parent in read if value is not None}

    @cached_property
    def all_places(self) -> tuple[str, ...]:
        """The places to look at, in order."""
        return self.places or (f"doc.{self.name}", f"metadata.{self.name}", self.name)


_Score = Annotated[float, Field(ge=-1e100, le=1e100)]  # sums of squares stay finite
_NARROWEST = 1e-100  # and are not 0
_NARROWEST_SHARE = 1e-9  # of the largest score, of which means are told to 13 digits


class BenchmarkSpec(BaseModel):
    """A benchmark as one TOML file describes it."""

    model_config = _STRICT

    name: Annotated[str, AfterValidator(_check_benchmark_name)]
    title: Translated
    description: Translated
    fields: tuple[FieldSpec, ...] = Field(default=(), strict=False, max_length=32)
    score_min: _Score = 0.0
    score_max: _Score = 1.0
    chance_level: float | None = None
    """Expected mean score of guessing."""
    question_count: int | None = Field(default=None, gt=0)
    """Number of questions, where it is fixed; coverage of a run is measured against it."""
    harness_names: tuple[str, ...] = _LIST
    """What harnesses call this benchmark, beside its name; `mmlu_{subject}` stands for the name with each subject."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [field.name for field in self.fields]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"fields: {name!r} stands twice")
        for field in self.fields:
            if field.parent is not None and (field.parent not in names or field.parent == field.name):
                raise ValueError(f"fields.{field.name}.parent: {field.parent!r} is not another field of this benchmark")
            if self._is_its_own_ancestor(field.name):
                raise ValueError(f"fields.{field.name}.parent: the parents lead back to {field.name!r}")
            for value in field.parent_values.values():
                kind = next(other.type for other in self.fields if other.name == field.parent)
                if not kind.fits(value):
                    raise ValueError(f"fields.{field.name}.parent_values: {value!r} is not {kind.expected}")
        for name in self.harness_names:
            for field_name in pattern_fields(name):
                if field_name not in names:
                    raise ValueError(f"harness_names: {name!r}: {field_name!r} is no field of this benchmark")
        return self

    @model_validator(mode="after")
    def _check_scale(self) -> Self:
        if not self.score_min < self.score_max:
            raise ValueError("score_min must be less than score_max")
        if self.score_max - self.score_min < max(_NARROWEST, _NARROWEST_SHARE * max(-self.score_min, self.score_max)):
            raise ValueError("score_min and score_max are too close for means between them to be told apart")
        if self.chance_level is not None and not self.score_min <= self.chance_level <= self.score_max:
            raise ValueError("chance_level must lie between score_min and score_max")
        return self

    def _is_its_own_ancestor(self, name: str) -> bool:
        parents = {field.name: field.parent for field in self.fields}
        seen: set[str] = set()
        step = parents[name]
        while step is not None and step not in seen:
            seen.add(step)
            step = parents.get(step)
        return name in seen

    @cached_property
    def by_name(self) -> Mapping[str, FieldSpec]:
        """The fields by their names."""
        return MappingProxyType({field.name: field for field in self.fields})

    @cached_property
    def claimed_names(self) -> frozenset[str]:
        """The names that mean this benchmark as they are compared, its own among them; fields of patterns as `{}`."""
        return frozenset(map(fold_pattern, (self.name, *self.harness_names)))

    @cached_property
    def name_patterns(self) -> Sequence[NamePattern]:
        """Those of its harness names that hold fields."""
        texts = {field.name: {fold(text) for text in field.known} for field in self.fields}
        return [name_pattern(name, texts) for name in self.harness_names if "{" in name]

    @cached_property
    def fingerprint(self) -> str:
        """Changes when stored results would be projected differently; 16 hexadecimal digits."""
        shape = [
            *sorted(f"{field.name}:{field.type}" for field in self.fields),
            f"{self.score_min!r}…{self.score_max!r}",
        ]
        return sha256("\n".join(shape).encode()).hexdigest()[:16]


class ModelSpec(BaseModel):
    """A model's facts."""

    model_config = _STRICT

    id: TextId
    title: str = Field(min_length=1)
    vendor: TextId
    family: TextId
    version: str | None = None
    release_date: date | None = None
    open_weights: bool
    context_tokens: int | None = Field(default=None, gt=0)
    input_usd_per_mtok: float | None = Field(default=None, ge=0)
    """List price at release, US dollars a million input tokens."""
    output_usd_per_mtok: float | None = Field(default=None, ge=0)
    aliases: tuple[TextId, ...] = _LIST

    def fact(self, name: str) -> str:
        """The value of one of `FACTS`."""
        if name not in FACTS:
            raise KeyError(name)
        return str(getattr(self, name))


class Registry:
    """Everything registered, frozen. Build it with `shared.registry.load.load_registry`."""

    def __init__(self, benchmarks: Mapping[str, BenchmarkSpec], models: Mapping[str, ModelSpec]) -> None:
        self.benchmarks = MappingProxyType(dict(benchmarks))
        self.models = MappingProxyType(dict(models))
        self._canonical = {alias: model.id for model in models.values() for alias in (model.id, *model.aliases)}
        parts = [specs[name].model_dump_json() for specs in (self.benchmarks, self.models) for name in sorted(specs)]
        self.hash = sha256("\n".join(parts).encode()).hexdigest()[:16]

    def canonical_model(self, model_id: str) -> str:
        """The id that `model_id` is an alias of; itself, where nothing is registered."""
        return self._canonical.get(model_id, model_id)

    def model(self, model_id: str) -> ModelSpec | None:
        """The facts of a model under its id or an alias."""
        return self.models.get(self.canonical_model(model_id))
