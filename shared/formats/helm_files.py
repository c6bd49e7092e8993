"""The files of a HELM run: which is which, and what is read of their rows."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Any

import msgspec

from shared.formats.json_reading import Unreadable, read_members
from shared.formats.tree import File
from shared.submission import learn

HEAD_BYTES = 64 * 1024
"""Enough to tell a row of statistics from other rows that begin with an instance's id."""
SHORT_TEXT = 200
"""Characters of a text that may become metadata."""


class Text(msgspec.Struct):
    text: str = ""


class Reference(msgspec.Struct):
    output: Text | str
    tags: list[str] = []


class Instance(msgspec.Struct):
    id: str
    input: Text | str
    references: list[Reference] = []
    split: str | None = None
    sub_split: str | None = None
    perturbation: Any = None
    extra_data: Any = None


class Completion(msgspec.Struct):
    text: str = ""


class Result(msgspec.Struct):
    success: bool = True
    completions: list[Completion] = []
    request_time: float | None = None


class Request(msgspec.Struct):
    """An element of `request_states`."""

    instance: Instance
    train_trial_index: int = 0
    output_mapping: dict[str, str] | None = None
    reference_index: int | None = None
    result: Result | None = None


class Name(msgspec.Struct):
    name: str
    split: str | None = None
    sub_split: str | None = None
    perturbation: Any = None


class Stat(msgspec.Struct):
    name: Name
    mean: float | None = None


class Scored(msgspec.Struct):
    """An element of `per_instance_stats.json`; an instance has one of them for each of the run's metric classes."""

    instance_id: str
    stats: list[Stat]
    train_trial_index: int = 0
    perturbation: Any = None


class Prediction(msgspec.Struct):
    """An element of `display_predictions.json`."""

    instance_id: str
    predicted_text: str = ""
    train_trial_index: int = 0
    perturbation: Any = None
    reference_index: int | None = None
    stats: dict[str, float | None] = {}


learn(Request, Stat, Scored, Prediction)


class Part(StrEnum):
    """A file of a run's folder, by what it holds."""

    RUN_SPEC = "run_spec.json"
    SCENARIO = "scenario.json"
    REQUESTS = "scenario_state.json"
    STATS = "stats.json"
    SCORES = "per_instance_stats.json"
    PREDICTIONS = "display_predictions.json"
    INSTANCES = "instances.json"
    DISPLAY_REQUESTS = "display_requests.json"


_BEGINNINGS = [
    (Part.RUN_SPEC, re.compile(rb'\s*\{\s*"name"\s*:\s*"(?s:.*?)"scenario_spec"\s*:\s*\{')),
    (Part.SCENARIO, re.compile(rb'\s*\{\s*"name"\s*:\s*"(?s:.*?)"definition_path"\s*:\s*"')),
    (Part.REQUESTS, re.compile(rb'\s*\{\s*"adapter_spec"\s*:\s*\{\s*"method"\s*:')),
    (Part.STATS, re.compile(rb'\s*\[\s*\{\s*"name"\s*:\s*\{\s*"name"\s*:\s*"')),
    (Part.INSTANCES, re.compile(rb'\s*\[\s*\{\s*"input"\s*:\s*\{\s*"text"\s*:')),
]
_ROWS_OF_INSTANCES = re.compile(rb'\s*\[\s*\{\s*"instance_id"\s*:\s*"')
_ROW_KINDS = {
    b"stats": Part.SCORES,
    b"predicted_text": Part.PREDICTIONS,
    b"request": Part.DISPLAY_REQUESTS,
}
_ROW_KIND = re.compile(rb'"train_trial_index"\s*:\s*\d+\s*,\s*"(stats|predicted_text|request)"\s*:')
REPEATING = (Part.PREDICTIONS, Part.INSTANCES, Part.DISPLAY_REQUESTS)


def part_of(file: File) -> Part | None:
    """What a file of HELM's is, by how it begins."""
    head = file.head(4096)
    if _ROWS_OF_INSTANCES.match(head):
        kind = _ROW_KIND.search(head) or _ROW_KIND.search(file.head(HEAD_BYTES))
        return _ROW_KINDS[kind[1]] if kind else None
    return next((part for part, beginning in _BEGINNINGS if beginning.match(head)), None)


def mapping_of(value: Any) -> dict[str, Any]:  # noqa: ANN401
    """An object's members; none of what is no object."""
    return value if isinstance(value, dict) else {}


def scalars(value: Any, longest: int = SHORT_TEXT) -> dict[str, Any]:  # noqa: ANN401
    """Those of an object's members that are numbers, truths or texts up to `longest` characters."""
    return {
        key: item
        for key, item in mapping_of(value).items()
        if isinstance(item, int | float | bool) or (isinstance(item, str) and len(item) <= longest)
    }


def rows_of(file: File, kind: type, member: str | None = None) -> Iterator[tuple[dict[str, Any], Any]]:
    """Each element of a file's array, or of its member's: as it is, and as `kind`; a ValidationError stands for one
    that is none. Unreadable, after what could be read, where the file breaks off."""
    with file.open() as stream:
        for key, index, value in read_members(stream, file.path, into=() if member is None else (member,)):
            if member is not None and (key != member or index is None):
                continue
            try:
                yield value, msgspec.convert(value, kind)
            except msgspec.ValidationError as error:
                yield mapping_of(value), error


def metrics_by_split(stats: Sequence[Stat], files: Mapping[Part, File]) -> dict[str | None, set[str]]:
    """The splits that were evaluated, unperturbed, and the metrics that each has, from the shortest file that tells."""
    found: defaultdict[str | None, set[str]] = defaultdict(set)
    for stat in stats or _all_stats(files):
        if stat.mean is not None and not stat.name.perturbation:
            found[stat.name.split].add(stat.name.name)
    if not found and Part.INSTANCES in files:
        names = {name for _, row in _before_fault(predictions_of(files)) for name in row.stats}
        for _, row in _before_fault(rows_of(files[Part.INSTANCES], Instance)):
            if isinstance(row, Instance) and not row.perturbation:
                found[row.split] |= names
    if not found and Part.REQUESTS in files:
        for _, row in _before_fault(rows_of(files[Part.REQUESTS], Request, "request_states")):
            if isinstance(row, Request) and not row.instance.perturbation:
                found[row.instance.split] |= set()
    return dict(found)


def _all_stats(files: Mapping[Part, File]) -> Iterator[Stat]:
    if Part.SCORES in files:
        for _, row in _before_fault(rows_of(files[Part.SCORES], Scored)):
            if isinstance(row, Scored) and not row.perturbation:
                yield from row.stats


def _before_fault(rows: Iterator[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
    """What can be read of a file; that it breaks off is told when its rows are taken."""
    with suppress(Unreadable):
        yield from rows


def predictions_of(files: Mapping[Part, File]) -> Iterator[tuple[str, Prediction]]:
    """Place and content of the predictions that are some."""
    if Part.PREDICTIONS in files:
        file = files[Part.PREDICTIONS]
        for number, (_, row) in enumerate(rows_of(file, Prediction)):
            if isinstance(row, Prediction):
                yield f"{file.path}:[{number}]", row


def text_of(value: Text | str) -> str:
    """The text of an input or output, which very old files have without an object around it."""
    return value if isinstance(value, str) else value.text
