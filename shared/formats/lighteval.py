"""lighteval: one results file a run, and the answers in Parquet files beside it, one a task.

The time of a run stands only in the names that lighteval gives its files and folders; it is local time. Rows `all` and
`…:_average` are no tasks; their standard errors are means of the subtasks', which is no standard error of anything.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from shared.formats.harness import Finding, HarnessRun, NotReadable, ReadOptions, Stated, Task
from shared.formats.json_reading import Unreadable, finite_number, read_file
from shared.formats.lighteval_details import Details, describe, is_details, read_details
from shared.formats.tree import File, Tree
from shared.timestamps import canonical_timestamp

NO_ZONE = "the run's time is taken from the names of its files, which tell no time zone: it was read as UTC"
AVERAGE_ERRORS = "standard errors of averages over tasks are means of the tasks' errors: they are not taken"
CONFIG_TEXT_MAX = 500
SUITES = frozenset(
    {"lighteval", "leaderboard", "harness", "helm", "bigbench", "original", "extended", "custom", "community"}
    | {"multilingual", "test"}
)
ALL = "all"
AVERAGE = ":_average"
STDERR = "_stderr"

_HEAD = re.compile(rb'\A(?:\xef\xbb\xbf)?\s*\{\s*"config_general"\s*:\s*\{')
_HEAD_KEYS = (b'"config_general"', b'"lighteval_sha"')
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}[-:]\d{2}[-:]\d{2}(?:\.\d+)?")
_DETAILS_NAME = re.compile(rf"details_(?P<task>.+)_{_DATE.pattern}\.parquet")


class LightEval:
    """lighteval's results and details, since the columns of the details have names of their own."""

    name = "lighteval"
    title = "lighteval"

    def find(self, tree: Tree) -> Iterable[Finding]:
        """Each results file with the details of the same date; details without one by their folder."""
        results = [file for path, file in tree.items() if path.endswith(".json") and _is_results(file)]
        details = [file for path, file in tree.items() if path.endswith(".parquet") and is_details(file)]
        of_results: dict[str, list[File]] = {file.path: [] for file in results}
        alone: dict[str, list[File]] = defaultdict(list)
        for file in details:
            owner = _owner(file, results)
            (of_results[owner.path] if owner else alone[file.folder]).append(file)
        for file in results:
            yield Finding(self.name, [file, *of_results[file.path]])
        for files in alone.values():
            yield Finding(self.name, files)

    def read(self, finding: Finding, options: ReadOptions) -> Sequence[HarnessRun]:
        """The run that a results file tells of, its answers from the details; several where one task was run with
        several numbers of examples. NotReadable without a model or a task."""
        main = finding.files[0]
        document = {} if main.name.endswith(".parquet") else _read_results(main)
        general = _table(document, "config_general")
        model = options.model_id or general.get("model_name") or _table(general, "model_config").get("model_name")
        if not isinstance(model, str) or not model:
            raise NotReadable(f"{finding.place} does not say which model was run: say it as model_id")
        keys = [key for key in _table(document, "results") if key != ALL and AVERAGE not in key]
        details = {file: describe(file) for file in finding.files if file.name.endswith(".parquet")}
        files = _by_task(keys, details)
        plans = [
            _Plan(key, document, file, details[file].metrics if file else ())
            for key in dict.fromkeys([*keys, *files])
            for file in [files.get(key)]
        ]
        if not plans:
            raise NotReadable(f"{finding.place} names no task in its results")
        offered = sorted({metric for plan in plans for metric in (*plan.means, *plan.in_rows)})
        if options.metric and options.metric not in offered:
            raise NotReadable(f"{finding.place} has no metric {options.metric!r}, only {', '.join(offered) or 'none'}")
        timestamp = _timestamp(finding.files)
        warnings = [NO_ZONE] if timestamp else []
        if any(key.endswith(STDERR) for name in _averages(document) for key in _table(document, "results", name)):
            warnings.append(AVERAGE_ERRORS)
        return [
            HarnessRun(
                model_id=model,
                tasks=_tasks(those, document, options),
                timestamp=timestamp,
                harness_version=_sha(general),
                config=_config(general, those),
                warnings=warnings,
            )
            for those in _without_repetition(plans)
        ]


LIGHTEVAL = LightEval()


@dataclass(frozen=True, slots=True)
class _Plan:
    """A task as the results name it, and the file with its answers."""

    key: str
    document: Mapping[str, Any]
    file: File | None
    in_rows: Sequence[str] = ()
    """The metrics that the rows have as numbers."""

    @property
    def name(self) -> str:
        """Without suite and number of examples: `mmlu:anatomy`."""
        return split_key(self.key)[1]

    @property
    def shots(self) -> str | None:
        """How many examples it was given."""
        return split_key(self.key)[2]

    @property
    def means(self) -> dict[str, float]:
        """The aggregates that are no errors, by metric, in the file's order."""
        figures = _table(self.document, "results", self.key)
        return {
            metric: number
            for metric, value in figures.items()
            if (number := _number(value)) is not None
            and not (metric.endswith(STDERR) and metric.removesuffix(STDERR) in figures)
        }

    def choose_metric(self, wanted: str | None) -> str | None:
        """The wanted metric if the task has it, else the first that the rows have, too."""
        if wanted in self.means or wanted in self.in_rows:
            return wanted
        both = (metric for metric in self.means if metric in self.in_rows)
        return next(both, next(iter(self.means), next(iter(self.in_rows), None)))

    @property
    def config(self) -> Mapping[str, Any]:
        """The task's own configuration; older versions call it without the number of examples."""
        configs = _table(self.document, "config_tasks")
        suite, name, _ = split_key(self.key)
        names = (self.key, f"{suite}|{name}" if suite else name, name)
        return next((value for name in names if isinstance(value := configs.get(name), dict)), {})

    @property
    def expected(self) -> int | None:
        """How many samples there are."""
        count = self.config.get("effective_num_docs")
        return count if type(count) is int and count > 0 else None


def split_key(key: str) -> tuple[str | None, str, str | None]:
    """Suite, name and number of examples of a task: `suite|task|5|0`, `task|5`, or with `:` where it was told so."""
    parts = key.split("|")
    if len(parts) == 1 and parts[0].partition(":")[0] in SUITES:
        parts = key.split(":", 1)
        name, _, shots = parts[1].rpartition(":")
        parts = [parts[0], name, shots] if shots.isdigit() else parts
    numbers = [part for part in parts[1:] if part.isdigit()]
    words = [part for index, part in enumerate(parts) if not index or not part.isdigit()]
    suite, name = (words[0], "|".join(words[1:])) if len(words) > 1 else (None, words[0])
    return suite, name, numbers[0] if numbers else None


def _is_results(file: File) -> bool:
    head = file.head()
    return bool(_HEAD.match(head)) or all(key in head for key in _HEAD_KEYS)


def _dates(file: File) -> list[str]:
    """The dates in a file's name and its folder's, the name's first."""
    folder = file.folder.rpartition("/")[2]
    return [date.replace(":", "-") for text in (file.name, folder) for date in _DATE.findall(text)]


def _owner(details: File, results: Sequence[File]) -> File | None:
    """The results file that details belong to: of the same date, in the same or the nearest folder; or the only one."""
    dates = set(_dates(details))
    same = [file for file in results if dates & set(_dates(file))]
    if not same and len(results) == 1 and not (dates and _dates(results[0])):
        same = list(results)
    return max(same, key=lambda file: (_shared_parts(file, details), file.path), default=None)


def _shared_parts(left: File, right: File) -> int:
    return len(set(left.folder.split("/")) & set(right.folder.split("/")))


def _table(document: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """The object under keys; empty if there is none."""
    value: Any = document
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, dict) else {}


def _read_results(file: File) -> dict[str, Any]:
    document = read_file(file)
    if not isinstance(document, dict) or not isinstance(document.get("results"), dict):
        raise Unreadable(file.path, "is no results file of lighteval: it has no results")
    return document


def _by_task(keys: Sequence[str], details: Mapping[File, Details]) -> dict[str, File]:
    """The details of each task: by the rows' own name of it, else by the file's."""
    found: dict[str, File] = {}
    for file, of_rows in details.items():
        in_name = _DETAILS_NAME.fullmatch(file.name)
        told = [name for name in (of_rows.task, in_name and in_name["task"]) if name]
        if not told:
            raise NotReadable(f"{file.path} has no rows and no name that says which task it is")
        exact = next((name for name in told if name in keys), None)
        alike = [key for key in keys if split_key(key)[1] in {split_key(name)[1] for name in told}]
        key = exact or (alike[0] if alike else told[0])
        if key in found:
            raise NotReadable(f"{file.path} and {found[key].path} both are details of {key}: import them one by one")
        found[key] = file
    return found


def _averages(document: Mapping[str, Any]) -> list[str]:
    return [key for key in _table(document, "results") if AVERAGE in key or key == ALL]


def _without_repetition(plans: Sequence[_Plan]) -> Iterator[list[_Plan]]:
    """The tasks in runs that have each name once."""
    left = list(plans)
    while left:
        first = list({plan.name: plan for plan in reversed(left)}.values())[::-1]
        yield [plan for plan in left if plan in first]
        left = [plan for plan in left if plan not in first]


def _tasks(plans: Sequence[_Plan], document: Mapping[str, Any], options: ReadOptions) -> list[Task]:
    averages: dict[str, list[Stated]] = defaultdict(list)
    for key in _averages(document):
        if key == ALL:
            continue
        group, shots = split_key(key)[1].removesuffix(AVERAGE), split_key(key)[2]
        names = [plan.name for plan in plans if plan.name.partition(":")[0] == group and plan.shots == shots]
        if names:
            averages[names[0]] += [
                Stated(metric, value, name=f"{metric} ({group}{AVERAGE})", tasks=names, per_task=True)
                for metric, value in _Plan(key, document, None).means.items()
            ]
    return [_task(plan, averages[plan.name], options) for plan in plans]


def _task(plan: _Plan, averages: Sequence[Stated], options: ReadOptions) -> Task:
    figures = _table(plan.document, "results", plan.key)
    stated = [Stated(metric, value, count=plan.expected) for metric, value in plan.means.items()]
    for metric in plan.means:
        error = figures.get(metric + STDERR)
        if (number := _number(error)) is not None:
            stated.append(Stated(metric, number, "stderr", count=plan.expected))
    chosen = plan.choose_metric(options.metric)
    base, _, subset = plan.name.partition(":")
    dataset = plan.config.get("hf_repo")
    version = _table(plan.document, "versions").get(plan.key)
    names = [plan.name, base, *([dataset] if isinstance(dataset, str) and dataset else [])]
    return Task(
        names=list(dict.fromkeys(names)),
        samples=partial(read_details, plan.file, chosen) if plan.file else None,
        stated=[*stated, *averages],
        metric=chosen,
        version=str(version) if type(version) in (str, int, float) else None,
        origin={"subset": subset} if subset else {},
        expected=plan.expected,
        files=[plan.file] if plan.file else [],
    )


def _timestamp(files: Sequence[File]) -> str | None:
    """The first date in the names, the main file's before the others'."""
    for date in (date for file in files for date in _dates(file)):
        day, _, time = date.partition("T")
        try:
            return canonical_timestamp(f"{day}T{time.replace('-', ':')}Z")
        except ValueError:
            continue
    return None


def _sha(general: Mapping[str, Any]) -> str | None:
    sha = general.get("lighteval_sha")
    return sha if isinstance(sha, str) and sha not in ("", "?") else None


def _config(general: Mapping[str, Any], plans: Sequence[_Plan]) -> dict[str, Any]:
    """Short settings of the run and the model, and how many examples each task was given."""
    config = {key: value for key, value in _short(general).items() if "time" not in key and key != "lighteval_sha"}
    model = _table(general, "model_config")
    told = {
        "model_config": _short(model),
        "generation_parameters": _short(
            _table(model, "generation_parameters") or _table(general, "generation_parameters")
        ),
    }
    shots = {plan.shots for plan in plans}
    told["num_fewshots"] = {plan.name: plan.shots for plan in plans} if len(shots) > 1 else {}
    config |= {key: value for key, value in told.items() if value}
    if len(shots) == 1 and None not in shots:
        config["num_fewshots"] = next(iter(shots))
    return config


def _number(value: object) -> float | None:
    """A figure, infinite ones and NaN too."""
    return value if isinstance(value, float) else finite_number(value) if type(value) is int else None


def _short(table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in table.items()
        if type(value) in (int, float, bool) or (type(value) is str and len(value) <= CONFIG_TEXT_MAX)
    }
