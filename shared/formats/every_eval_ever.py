"""Every Eval Ever: aggregate files of schema 0.0.1 to 0.3.0, and their instance-level `_samples.jsonl`.

A file says when it was made (`retrieved_timestamp`, and mostly the end of `evaluation_id`), which is not when the model
was asked. Neither becomes part of a run's name or time: a leaderboard that is fetched again, and says the same, is the
same run; one that says something else is another. The time is `evaluation_timestamp`, or the importer's word.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain, islice
from json import dumps
from pathlib import PurePosixPath
from typing import Any

from shared.formats.every_eval_ever_export import is_export, read_export
from shared.formats.every_eval_ever_samples import INLINE, Chosen, SampleRows
from shared.formats.every_eval_ever_schema import (
    Aggregate,
    Result,
    is_percent,
    metric_in,
    number_in,
    read_aggregate,
    read_time,
    stated_sha256,
    text_in,
    uncertainties,
)
from shared.formats.harness import (
    ExportedRun,
    Finding,
    HarnessRun,
    ReadOptions,
    Stated,
    Task,
)
from shared.formats.json_reading import Unreadable, read_file
from shared.formats.tree import File, Tree

NAME = "every_eval_ever"
_KEYS = (b'"schema_version"', b'"evaluation_id"', b'"evaluation_results"', b'"retrieved_timestamp"')
_OUR_KEYS = ("evaluation_id", "evaluation_results", "model_info")
_RUN_KEY_MAX = 100
_CONFIG_TEXT_MAX = 1000
_LATEST_KNOWN = (0, 3)
_WARNINGS_MAX = 10
_METRICS_SHOWN = 5


class EveryEvalEver:
    """Reads aggregate files, with their samples where those are there."""

    name = NAME
    title = "Every Eval Ever"

    def find(self, tree: Tree) -> Iterable[Finding]:
        """An aggregate file with the samples file that it names, or that bears its name and lies beside it."""
        taken: set[str] = set()
        for file in tree.values():
            if not file.name.lower().endswith(".json") or file.path in taken:
                continue
            head = file.head()
            if not any(key in head for key in _KEYS):
                continue
            try:
                document = read_file(file)
            except Unreadable:
                continue
            if not isinstance(document, dict) or not all(key in document for key in _OUR_KEYS):
                continue
            samples = _samples_file(tree, file, document)
            if samples is not None and samples.path not in taken:
                taken.add(samples.path)
                yield Finding(NAME, (file, samples))
            else:
                yield Finding(NAME, (file,))

    def read(self, finding: Finding, options: ReadOptions) -> Sequence[HarnessRun | ExportedRun]:
        """The one run of a finding. NotReadable names the key that is not as the schema has it."""
        file, samples = finding.files[0], finding.files[1] if len(finding.files) > 1 else None
        document = read_file(file)
        if is_export(document):
            return [read_export(file, document, samples)]
        aggregate = read_aggregate(file, document)
        return [_Reading(file, document, aggregate, samples, options).run()]


def _samples_file(tree: Tree, file: File, document: Mapping[str, Any]) -> File | None:
    """The samples that a file names, by the path in it or by the path's end; else the one of its own name beside it."""
    beside = f"{file.folder}/" if file.folder else ""
    details = document.get("detailed_evaluation_results")
    stated = details.get("file_path") if isinstance(details, dict) else None
    if isinstance(stated, str) and stated:
        for path in (stated, beside + stated, beside + PurePosixPath(stated).name):
            if path in tree and path != file.path:
                return tree[path]
        ends = [other for other in tree.values() if other.path.endswith("/" + stated.lstrip("./"))]
        if len(ends) == 1:
            return ends[0]
    return tree.get(f"{beside}{file.name[: -len('.json')]}_samples.jsonl")


@dataclass(frozen=True, slots=True)
class _Entry:
    """One stated result, with what its names mean."""

    result: Result
    dataset: str | None
    repository: str | None
    task: str
    metric: str


class _Reading:
    """What is read of one aggregate file."""

    def __init__(
        self, file: File, document: dict[str, Any], aggregate: Aggregate, samples: File | None, options: ReadOptions
    ) -> None:
        self._file, self._document, self._aggregate = file, document, aggregate
        self._samples, self._options = samples, options
        self._warnings: list[str] = []
        self._told: dict[str, dict[str, None]] = {}
        """Results by what is to be told of them."""
        self._is_inspect = aggregate.source_metadata.get("source_name") == "inspect_ai"
        self._collection = aggregate.evaluation_id.partition("/")[0]
        self._is_helm = self._collection.startswith("helm")
        named = {_folded(result.evaluation_name) for result in aggregate.evaluation_results}
        self._suite = next((part for part in aggregate.evaluation_id.split("/") if _folded(part) in named), None)
        """Before 0.2.0 no result named its dataset: then it is the one that the file's own id names."""

    def run(self) -> HarnessRun:
        aggregate = self._aggregate
        self._warn_of_version()
        groups: dict[tuple[str, str | None], list[_Entry]] = {}
        for result in aggregate.evaluation_results:
            entry = self._entry(result)
            key = (entry.dataset, None) if self._is_inspect and entry.dataset else (entry.task, entry.dataset)
            groups.setdefault(key, []).append(entry)
        chosen = [self._choose(_told_apart(entries)) for entries in groups.values()]
        tasks = [
            self._task(entries, first, stated, chosen, number) for number, (entries, first, stated) in enumerate(chosen)
        ]
        details = aggregate.detailed_evaluation_results
        if self._samples is None and isinstance(details, dict) and details.get("file_path"):
            self._warnings.append(
                f"the samples file {details['file_path']} is not among the files: aggregates alone are taken"
            )
        return HarnessRun(
            model_id=self._options.model_id or aggregate.model_info.id or aggregate.model_info.name or "",
            tasks=tasks,
            timestamp=self._timestamp() or self._options.timestamp,
            run_key=self._run_key(),
            harness_version=aggregate.schema_version,
            config=self._config(),
            warnings=[*dict.fromkeys(self._warnings), *self._scale_warnings()],
        )

    def _tell(self, what: str, entry: _Entry) -> None:
        self._told.setdefault(what, {})[entry.result.evaluation_name] = None

    def _scale_warnings(self) -> Iterator[str]:
        for what, metrics in islice(self._told.items(), _WARNINGS_MAX):
            more = len(metrics) - _METRICS_SHOWN
            named = ", ".join(islice(metrics, _METRICS_SHOWN)) + (f" and {more} more" if more > 0 else "")
            yield f"{what}: {named}"
        if len(self._told) > _WARNINGS_MAX:
            yield f"and {len(self._told) - _WARNINGS_MAX} more scales"

    def _warn_of_version(self) -> None:
        parts = re.match(r"(\d+)\.(\d+)", self._aggregate.schema_version)
        if parts is None or (int(parts[1]), int(parts[2])) > _LATEST_KNOWN:
            self._warnings.append(
                f"schema_version {self._aggregate.schema_version[:40]!r} is not one of 0.0.1 to 0.3.0: "
                "read as if it were 0.3.0"
            )

    def _entry(self, result: Result) -> _Entry:
        source = result.source_data if isinstance(result.source_data, dict) else self._aggregate.source_data
        source = source if isinstance(source, dict) else {}
        dataset, repository = (text_in(source.get(key)) for key in ("dataset_name", "hf_repo"))
        config, name = result.metric_config, result.evaluation_name
        metric = text_in(config.get("metric_id")) or text_in(config.get("metric_name"))
        if self._is_helm or (dataset and name.startswith(f"{dataset} - ")):
            task, _, of_name = name.rpartition(" - ")
            if task and of_name:
                return _Entry(result, dataset, repository, task, metric or of_name)
        dataset = dataset or (self._collection if self._is_helm else self._suite)
        return _Entry(result, dataset, repository, name, metric or metric_in(config.get("evaluation_description")))

    def _choose(self, entries: list[_Entry]) -> tuple[list[_Entry], _Entry, list[Stated]]:
        wanted = self._options.metric
        first = next((entry for entry in entries if wanted in (entry.metric, entry.result.evaluation_name)), entries[0])
        ordered = [first, *(entry for entry in entries if entry is not first)]
        return ordered, first, [stated for entry in ordered for stated in self._stated(entry, tells=entry is first)]

    def _stated(self, entry: _Entry, *, tells: bool) -> Iterator[Stated]:
        result, config = entry.result, entry.result.metric_config
        details, value = result.score_details, result.score_details.score
        low, high = number_in(config.get("min_score")), number_in(config.get("max_score"))
        if value is None or not math.isfinite(value):
            self._warnings.append("stated scores that are no finite numbers are left out")
            return
        if (low is not None and value < low) or (high is not None and value > high):
            self._warnings.append(
                "stated scores outside their own bounds (min_score, max_score) are left out: "
                "converters write -1 where a leaderboard has none"
            )
            return
        scale = 100.0 if is_percent(config) else 1.0
        if tells:
            self._tell_of_scale(entry, low, high, scale)
        uncertainty = details.uncertainty if isinstance(details.uncertainty, dict) else {}
        count = uncertainty.get("num_samples")
        yield Stated(entry.metric, value, scale=scale, count=count if type(count) is int and count > 0 else None)
        for kind, number in uncertainties(details, uncertainty):
            yield Stated(entry.metric, number, kind=kind, scale=scale)

    def _tell_of_scale(self, entry: _Entry, low: float | None, high: float | None, scale: float) -> None:
        config = entry.result.metric_config
        if scale == 1.0 and low is not None and high is not None and (low, high) != (0.0, 1.0):
            self._tell(f"is on a scale from {low:g} to {high:g}", entry)
        if config.get("lower_is_better") is True:
            self._tell("is better where it is less", entry)
        if config.get("score_type") == "levels":
            self._tell("is a level: its numbers are those of level_names, from 0", entry)

    def _task(
        self,
        entries: list[_Entry],
        first: _Entry,
        stated: list[Stated],
        chosen: Sequence[tuple[list[_Entry], _Entry, list[Stated]]],
        number: int,
    ) -> Task:
        rows = self._rows(entries, first, chosen, number)
        details = self._aggregate.detailed_evaluation_results
        total = details.get("total_rows") if isinstance(details, dict) and len(chosen) == 1 == len(entries) else None
        is_part = first.dataset and _folded(first.task) != _folded(first.dataset) and not self._is_inspect
        return Task(
            names=self._names(first),
            samples=rows.samples if rows is not None else None,
            stated=stated,
            metric=first.metric,
            origin={"task": first.task} | ({"subset": first.task} if is_part else {}),
            expected=total if type(total) is int and rows is not None else None,
            files=(self._samples,) if rows is not None and self._samples is not None else (),
        )

    def _rows(
        self,
        entries: list[_Entry],
        first: _Entry,
        chosen: Sequence[tuple[list[_Entry], _Entry, list[Stated]]],
        number: int,
    ) -> SampleRows | None:
        inline = self._document.get(INLINE)
        if self._samples is None and not isinstance(inline, list):
            return None
        details = self._aggregate.detailed_evaluation_results
        groups = [group for group, _, _ in chosen]
        choice = Chosen(
            metric=first.metric,
            result_id=first.result.evaluation_result_id,
            names=_own_names([first], [group for group in groups if group is not entries]),
            others=_own_names(entries, [group for group in groups if group is not entries]) | _result_ids(entries),
            known=frozenset(name for name, count in Counter(chain(*map(_row_names, groups))).items() if count == 1)
            | frozenset(entry.result.evaluation_name for group in groups for entry in group)
            | frozenset().union(*map(_result_ids, groups)),
            takes_all=len(chosen) == 1 == len(entries),
            reports=number == 0,
            is_percent=is_percent(first.result.metric_config),
            checksum=stated_sha256(details),
        )
        return SampleRows(self._file, self._samples, inline if isinstance(inline, list) else None, choice)

    def _names(self, entry: _Entry) -> list[str]:
        """Names from the most exact to the most general. Inspect's evaluation_name is a scorer, and no task."""
        if self._is_inspect and (entry.dataset or entry.repository):
            names = [entry.dataset, entry.repository]
        elif entry.dataset and _folded(entry.dataset) not in _folded(entry.task):
            names = [f"{entry.dataset}:{entry.task}", entry.dataset, entry.repository]
        else:
            names = [entry.task, entry.result.evaluation_name, entry.dataset, entry.repository]
            if self._is_helm:
                names.insert(1, f"{self._collection}:{entry.task}")
        return list(dict.fromkeys(name for name in (*names, self._collection) if name))

    def _timestamp(self) -> str | None:
        stated = [self._aggregate.evaluation_timestamp]
        if stated == [None]:
            stated = [result.evaluation_timestamp for result in self._aggregate.evaluation_results]
        times = [moment for moment in map(read_time, stated) if moment is not None]
        if not times and any(value is not None for value in stated):
            self._warnings.append("evaluation_timestamp has no time zone, so it is no instant: left out")
        return min(times, default=None)

    def _run_key(self) -> str:
        """The evaluation_id without the time at its end, and what tells this file from another of the same id.

        Left out of that are the times and paths that change whenever a converter runs again.
        """
        stem = _WITHOUT_TIME.sub("", self._aggregate.evaluation_id)
        details = self._document.get("detailed_evaluation_results")
        passing = ("evaluation_id", "retrieved_timestamp", "schema_version", "detailed_evaluation_results")
        lasting = {key: value for key, value in self._document.items() if key not in passing}
        if isinstance(details, dict):
            lasting["rows"] = details.get("total_rows")
        digest = sha256(dumps(lasting, sort_keys=True).encode()).hexdigest()[:12]
        return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', stem)[:_RUN_KEY_MAX].strip('-')}-{digest}".strip("-")

    def _config(self) -> dict[str, Any]:
        source, info = self._aggregate.source_metadata, self._document["model_info"]
        config: dict[str, Any] = {
            "evaluation_id": _WITHOUT_TIME.sub("", self._aggregate.evaluation_id),
            "eval_library": {key: text_in(self._aggregate.eval_library.get(key)) for key in ("name", "version")},
            "source_metadata": _scalars(source),
            "model_info": _scalars(info) | _scalars(info.get("additional_details")),
        }
        generation = self._aggregate.evaluation_results[0].generation_config
        if isinstance(generation, dict):
            config["generation"] = _scalars(generation) | _scalars(generation.get("generation_args"))
        return {key: value for key, value in config.items() if value and value != {"name": None, "version": None}}


_WITHOUT_TIME = re.compile(r"/(?:\d{9,}(?:\.\d+)?|\d{4}-\d{2}-\d{2}T[^/]*)/?$")


def _folded(name: str) -> str:
    return re.sub(r"[\W_]+", "-", name.casefold())


def _told_apart(entries: list[_Entry]) -> list[_Entry]:
    """The entries of a task, with a metric name of its own each."""
    seen: set[str] = set()
    told = []
    for entry in entries:
        details = entry.result.score_details.details
        tab = text_in(details.get("tab")) if isinstance(details, dict) else None
        metric = entry.metric
        candidates = [metric, f"{metric} ({tab or entry.result.evaluation_name})"]
        candidates += [f"{candidates[1]} {number}" for number in range(2, len(entries) + 2)]
        metric = next(candidate for candidate in candidates if candidate not in seen)
        seen.add(metric)
        told.append(_Entry(entry.result, entry.dataset, entry.repository, entry.task, metric))
    return told


def _row_names(entries: Iterable[_Entry]) -> frozenset[str]:
    """What rows of the entries may have as their evaluation_name."""
    return frozenset(
        name for entry in entries for name in (entry.result.evaluation_name, entry.dataset, entry.task) if name
    )


def _own_names(entries: Sequence[_Entry], others: Iterable[Sequence[_Entry]]) -> frozenset[str]:
    """The names that rows of the entries may have, without those that rows of others may have too."""
    shared = frozenset().union(*map(_row_names, others))
    return (_row_names(entries) - shared) | {entry.result.evaluation_name for entry in entries}


def _result_ids(entries: Iterable[_Entry]) -> frozenset[str]:
    return frozenset(entry.result.evaluation_result_id for entry in entries if entry.result.evaluation_result_id)


def _scalars(value: object) -> dict[str, Any]:
    """The entries of an object that are short."""
    if not isinstance(value, dict):
        return {}
    return {
        key: item
        for key, item in value.items()
        if isinstance(item, bool | int)
        or (isinstance(item, str) and 0 < len(item) <= _CONFIG_TEXT_MAX)
        or (isinstance(item, float) and math.isfinite(item))
    }


EVERY_EVAL_EVER = EveryEvalEver()
