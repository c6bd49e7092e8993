"""Files of lm-evaluation-harness: which are results, which are samples, and which belong together.

What a file is is told by what is in it. Results and samples of one run bear the same date in their names; where one of
them was renamed, they are put together if only one results file can be meant, by the task's name or by the hash of all
its documents, which results state.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec

from shared.formats.json_reading import VALUE_MAX_BYTES, Unreadable, read_file, read_lines, read_value
from shared.formats.lm_eval_stated import Json, member
from shared.formats.tree import File
from shared.submission import learn

SUFFIXES = (".json", ".jsonl", ".ndjson")
DATE = re.compile(r"_(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)$")
FIRST_KEY = re.compile(rb"(?:\xef\xbb\xbf)?\s*\{\s*\"([^\"]*)\"\s*:")
RESULTS_KEYS = frozenset(
    {
        *("results", "groups", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better", "n-samples"),
        *("config", "git_hash", "date", "lm_eval_version", "chat_template", "chat_template_sha", "samples"),
    }
)
"""With one of these a results file begins, also if its keys were sorted."""
ROW_KEYS = frozenset({"doc", "target", "resps", "filtered_resps"})
"""What every line of samples has."""
WITHIN = "samples"
"""Where samples are in a results file, if they are."""
HASHES = ("doc_hash", "prompt_hash", "target_hash")
"""What the hash of a task is made of, line by line."""


@dataclass(frozen=True, slots=True)
class _Run:
    """A results file, and the samples that belong to it by their tasks."""

    file: File
    content: Json
    samples: list[File] = field(default_factory=list)
    tasks: set[str] = field(default_factory=set)

    def take(self, file: File) -> None:
        self.samples.append(file)
        self.tasks.add(task_of(file, self.content))


def gather(files: Sequence[File]) -> Iterator[tuple[File, ...]]:
    """The files of one folder that belong together, results first; samples without results by date."""
    runs: list[_Run] = []
    samples: list[File] = []
    for file in files:
        if (content := results_content(file)) is not None:
            runs.append(_Run(file, content))
        elif is_samples(file):
            samples.append(file)
    rest: list[File] = []
    for file in samples:
        date = date_of(file)
        run = next((run for run in runs if date is not None and date_of(run.file) == date), None)
        rest.append(file) if run is None else run.take(file)
    dates = {date_of(file) for file in rest} - {None}
    alone: dict[str | None, list[File]] = defaultdict(list)
    for file in rest:
        date = date_of(file)
        possible = [run for run in runs if len(dates) < 2 and _may_own(run, file)]
        alone[date].append(file) if len(possible) != 1 else possible[0].take(file)
    for run in runs:
        yield run.file, *sorted(run.samples, key=lambda file: file.path)
    for those in alone.values():
        yield tuple(those)


def _may_own(run: _Run, file: File) -> bool:
    """Whether samples could be of a run although the dates in the names do not say so."""
    if date_of(file) is not None and date_of(run.file) is not None:
        return False
    task = task_of(file, run.content)
    return task in member(run.content, "results") and task not in run.tasks


def results_content(file: File) -> Json | None:
    """What is in a results file; None if it is something else.

    {} if it cannot be read, but its name says that it is one: then that is to be told. Of samples that are in it, as
    `simple_evaluate` gives them, only the tasks' names are kept: `samples_within` reads them.
    """
    first = FIRST_KEY.match(file.head())
    if first is None or first[1].decode(errors="replace") not in RESULTS_KEYS:
        return None
    try:
        value = read_file(file)
    except Unreadable:
        return {} if file.name.startswith("results_") and date_of(file) else None
    if not isinstance(value, dict) or not _is_results(value):
        return None
    return {**value, WITHIN: dict.fromkeys(member(value, WITHIN))}


class _Within(msgspec.Struct):
    samples: dict[str, list[msgspec.Raw]] = {}


learn(_Within)


def samples_within(file: File) -> Mapping[str, Sequence[Any]]:
    """The samples in a results file, by task: each as `row_within` takes it. The file's bytes stay in memory with them.

    Unreadable if the file is too large for that, or no JSON.
    """
    if file.size <= VALUE_MAX_BYTES:
        with file.open() as stream, suppress(msgspec.DecodeError, UnicodeDecodeError):  # NaN, for one
            return msgspec.json.decode(stream.read(), type=_Within).samples
    samples = member(read_file(file), WITHIN)
    return {task: rows for task, rows in samples.items() if isinstance(rows, list)}


def rows_within(file: File, task: str, rows: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Place and value of each of a task's samples in a results file."""
    for number, row in enumerate(rows):
        yield f"{file.path}: samples.{task}[{number}]", read_value(bytes(row)) if type(row) is msgspec.Raw else row


def _is_results(value: Json) -> bool:
    rows = value.get("results")
    return (
        "config_general" not in value  # which is lighteval's
        and isinstance(rows, dict)
        and rows != {}
        and all(isinstance(row, dict) for row in rows.values())
        and isinstance(value.get("versions"), dict)
        and (isinstance(value.get("configs"), dict) or "model" in member(value, "config"))
    )


def is_samples(file: File) -> bool:
    """Whether the first line is one of samples; if it is broken, whether the name says so."""
    head = file.head()
    named = file.name.startswith("samples_")
    if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] not in (b"{", b"[") or not (named or b'"doc' in head):
        return False
    try:
        _, row = next(read_lines(file), ("", None))
    except Unreadable:
        return named
    return row.keys() >= ROW_KEYS if isinstance(row, dict) else named and isinstance(row, Unreadable)


def _stem(file: File) -> str:
    return file.name.rpartition(".")[0]


def date_of(file: File) -> str | None:
    """The date that its name ends with, as it is written there: with `-` for `:`, and no zone."""
    found = DATE.search(_stem(file))
    return found[1] if found else None


def task_of(file: File, results: Json) -> str:
    """The task that a file holds the samples of, by its name; by what is in it where the name says nothing.

    v0.4.0 put the model before the task, and no date behind it.
    """
    name = DATE.sub("", _stem(file)).removeprefix("samples_")
    tasks = member(results, "results")
    if name in tasks or (file.name.startswith("samples_") and date_of(file)):
        return name
    ending = max((task for task in tasks if name.endswith(f"_{task}")), key=len, default=None)
    return ending or _hashed_task(file, results) or name


def _hashed_task(file: File, results: Json) -> str | None:
    """The task of which the results say that its samples have these hashes, in this order."""
    tasks = {text: task for task, text in member(results, "task_hashes").items() if isinstance(text, str)}
    if not tasks:
        return None
    digest = hashlib.sha256()
    try:
        for _, row in read_lines(file):
            digest.update("".join(str(row[name]) for name in HASHES).encode())
    except (Unreadable, KeyError, TypeError):
        return None
    return tasks.get(digest.hexdigest())
