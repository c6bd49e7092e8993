"""An aggregate file of Every Eval Ever, as far as it is read: whatever of the schemas 0.0.1 to 0.3.0 it follows."""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from shared.formats.harness import NotReadable
from shared.formats.json_reading import finite_number
from shared.formats.tree import File
from shared.submission import learn
from shared.timestamps import canonical_timestamp, from_microseconds


class Model(msgspec.Struct):
    id: str | None = None
    name: str | None = None


class Score(msgspec.Struct):
    score: float | None
    uncertainty: Any = None
    confidence_interval: Any = None
    details: Any = None


class Result(msgspec.Struct):
    evaluation_name: str
    score_details: Score
    metric_config: dict[str, Any] = {}
    evaluation_result_id: str | None = None
    evaluation_timestamp: Any = None
    source_data: Any = None
    generation_config: Any = None


class Aggregate(msgspec.Struct):
    schema_version: str
    evaluation_id: str
    model_info: Model
    evaluation_results: list[Result]
    evaluation_timestamp: Any = None
    source_data: Any = None
    source_metadata: dict[str, Any] = {}
    eval_library: dict[str, Any] = {}
    detailed_evaluation_results: Any = None


learn(Aggregate)


def read_aggregate(file: File, document: Any) -> Aggregate:  # noqa: ANN401
    try:
        aggregate = msgspec.convert(document, Aggregate, strict=True)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        key = path.rstrip("`").removeprefix(".")
        raise NotReadable(
            f"{file.path}: {key + ': ' if key else ''}{reason.replace('`', chr(39))}; expected is a file as the "
            "schemas 0.0.1 to 0.3.0 of Every Eval Ever have it"
        ) from None
    if not (aggregate.model_info.id or aggregate.model_info.name):
        raise NotReadable(f"{file.path}: model_info.id: is missing; it is the name of the model")
    if not aggregate.evaluation_results:
        raise NotReadable(f"{file.path}: evaluation_results: is empty; nothing was measured")
    return aggregate


def metric_in(description: object) -> str:
    """The metric that a description begins with: "Exact Match on MATH Level 5", "accuracy"."""
    match = _METRIC.match(description) if isinstance(description, str) else None
    return match[1] if match else "score"


_METRIC = re.compile(r"([\w@.-]{1,30}(?: [\w@.-]{1,30}){0,2}?)(?: on .+)?$")


def is_percent(config: Mapping[str, Any]) -> bool:
    unit = config.get("metric_unit")
    if isinstance(unit, str) and unit:
        return unit.lower() in ("percent", "percentage", "%")
    return config.get("min_score") == 0 and config.get("max_score") == 100


def uncertainties(details: Score, uncertainty: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    error = uncertainty.get("standard_error")
    method = error.get("method") if isinstance(error, dict) else None
    value = number_in(error.get("value") if isinstance(error, dict) else error)
    if value is not None:
        yield ("stderr" if method in (None, "analytic", "analytical", "clt") else f"stderr ({method})"), value
    deviation = number_in(uncertainty.get("standard_deviation"))
    if deviation is not None:
        yield "standard deviation", deviation
    interval = uncertainty.get("confidence_interval", details.confidence_interval)
    if isinstance(interval, dict):
        for end in ("lower", "upper"):
            bound = number_in(interval.get(end))
            if bound is not None:
                yield f"confidence interval, {end}", bound
    older = details.details if isinstance(details.details, dict) else {}
    for key, kind in (("stddev", "standard deviation"), ("confidence_interval", "confidence interval, half")):
        number = number_in(older.get(key))
        if number is not None:
            yield kind, number


def stated_sha256(details: object) -> str | None:
    if not isinstance(details, dict) or details.get("hash_algorithm") not in (None, "sha256"):
        return None
    return text_in(details.get("checksum"))


def read_time(value: object) -> str | None:
    """An instant as a canonical timestamp: RFC 3339 with an offset, or seconds since 1970; None if it is neither."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            return canonical_timestamp(str(value).strip())
        except ValueError:
            pass
        try:
            seconds = Decimal(str(value).strip())
        except InvalidOperation:
            return None
        if seconds.is_finite() and 0 < seconds < 100_000_000_000:  # the year 5138
            return from_microseconds(int(seconds * 1_000_000))
    return None


def text_in(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def number_in(value: object) -> float | None:
    return None if isinstance(value, bool) else finite_number(value)
