"""What lm-evaluation-harness writes: results files of v0.3 and v0.4, and the samples beside them.

v0.4 writes `results_<date>.json` and, if samples were asked for, one `samples_<task>_<date>.jsonl` a task beside it.
v0.3 writes one file, with no samples. What `simple_evaluate` gives, saved or sent as it is, has the samples within the
results. Which files those are is told in `shared.formats.lm_eval_files`, how lines become
samples in `lm_eval_samples`, what numbers are stated in `lm_eval_stated`.

**Models** are named as the harness names them, local paths included: only who ran it knows a better name, and says it
as `model_id` or as an alias in the registry. Paths in the cache of Hugging Face are turned back into the name there.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from shared.formats.harness import Finding, HarnessRun, NotReadable, ReadOptions, Stated, Task
from shared.formats.json_reading import finite_number, read_file, read_lines
from shared.formats.lm_eval_files import (
    SUFFIXES,
    WITHIN,
    date_of,
    gather,
    results_content,
    rows_within,
    samples_within,
    task_of,
)
from shared.formats.lm_eval_samples import Lines, Reading, begin
from shared.formats.lm_eval_stated import (
    Json,
    document_count,
    group_aggregates,
    member,
    read_groups,
    task_aggregates,
)
from shared.formats.tree import File, Tree

MODEL_ARGUMENTS = ("peft", "delta", "pretrained", "model", "path", "engine")
"""Where the harness looks for a model's name, in this order: an adapter comes with the model that it adapts."""
MODEL_MAX = 1000
"""Characters of a name that are looked at: the pattern's time grows with their square, and stops everything else."""
RANDOM_NAME = re.compile(r"[a-z0-9]{8}")
"""What the harness calls a model that none of its arguments names: something else each time."""
CACHED_MODEL = re.compile(r".*/models--([^/]+?)--([^/]+)/snapshots/[0-9a-f]+/?")
SECRET = re.compile(r"(?:.*_)?(?:api_key|auth_token|hf_token|secret|password)|token", re.IGNORECASE)
LOADERS = frozenset({"json", "csv", "text", "parquet", "arrow", "pandas", "xml", "webdataset", "imagefolder"})
"""`dataset_path`s that say how local files are read, not which data it is."""

RUN_FIELDS = (
    *("git_hash", "transformers_version", "max_length", "system_instruction_sha", "chat_template_sha"),
    "fewshot_as_multiturn",
)
TOLD_ONE_BY_ONE_MAX = 64
"""Tasks of which a run's configuration tells one by one."""


class LmEval:
    """Reads lm-evaluation-harness."""

    name = "lm-eval"
    title = "lm-evaluation-harness"

    def find(self, tree: Tree) -> Iterable[Finding]:
        """A results file and the samples beside it are one finding; samples without results one for each date."""
        folders: dict[str, list[File]] = defaultdict(list)
        for file in tree.values():
            if file.name.lower().endswith(SUFFIXES):
                folders[file.folder].append(file)
        for files in folders.values():
            for those in gather(files):
                yield Finding(self.name, those)

    def read(self, finding: Finding, options: ReadOptions) -> Sequence[HarnessRun]:
        """The one run of a finding. NotReadable if it names no model or is empty, Unreadable if it is broken."""
        first = finding.files[0]
        results = results_content(first)
        if results == {}:
            read_file(first)  # raises what is wrong with it
        results, files = ({}, finding.files) if results is None else (results, finding.files[1:])
        warnings: list[str] = []
        tasks = _tasks(results, first, files, options, warnings)
        if not tasks:
            raise NotReadable(f"{finding.place}: has neither samples beside it nor a number in it")
        return (
            HarnessRun(
                model_id=_model_id(results, options, warnings, finding.place),
                tasks=tasks,
                timestamp=_timestamp(results, first, options, warnings),
                harness_version=_text(results.get("lm_eval_version")),
                tokenizer_id=_text(_arguments(member(results, "config").get("model_args")).get("tokenizer")),
                config=_config(results),
                warnings=tuple(warnings),
            ),
        )


# --- the run


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _arguments(args: object) -> dict[str, Any]:
    """`model_args`, which newer versions write as an object and older ones as `name=value,name=value`."""
    if isinstance(args, dict):
        return dict(args)
    pairs = (part.partition("=") for part in args.split(",")) if isinstance(args, str) else ()
    return {name.strip(): value for name, equals, value in pairs if equals}


def _model_id(results: Json, options: ReadOptions, warnings: list[str], place: str) -> str:
    if options.model_id is not None:
        return options.model_id
    config = member(results, "config")
    arguments = _arguments(config.get("model_args"))
    named = next((str(arguments[name]) for name in MODEL_ARGUMENTS if arguments.get(name)), None)
    stated = _text(results.get("model_name"))
    if stated and named is None and config and RANDOM_NAME.fullmatch(stated):
        stated = None
    model = stated or named or _text(config.get("model"))
    if model is None:
        what = "samples without a results file" if not results else "a results file"
        raise NotReadable(f"{place}: {what} that names no model; say which as model_id")
    if cached := CACHED_MODEL.fullmatch(model[:MODEL_MAX]):
        return f"{cached[1]}/{cached[2]}"
    if model.startswith(("/", "./", "../", "~")):
        warnings.append(
            f"the model is known by its path, {model}; a model_id or an alias in the registry names it better"
        )
    return model


def _timestamp(results: Json, first: File, options: ReadOptions, warnings: list[str]) -> str | None:
    if (date := finite_number(results.get("date"))) is not None:
        try:
            return _rfc3339(datetime.fromtimestamp(date, UTC))
        except (ValueError, OverflowError, OSError):
            warnings.append("date is no time that a calendar has")
    if options.timestamp is not None:
        return options.timestamp
    if named := date_of(first):
        day, _, time = named.partition("T")
        try:
            moment = datetime.fromisoformat(f"{day}T{time.replace('-', ':')}").replace(tzinfo=UTC)
        except ValueError:
            return None
        warnings.append("the time is from the file's name, which has no zone: taken as UTC")
        return _rfc3339(moment)
    return None


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _config(results: Json) -> dict[str, Any]:
    """How the model was asked. What is the same for all tasks is said once, without the tasks' names."""
    config = member(results, "config")
    kept: dict[str, Any] = {name: value for name, value in config.items() if value not in (None, [], {}, "")}
    if arguments := _arguments(config.get("model_args")):
        kept["model_args"] = {name: value for name, value in arguments.items() if not SECRET.fullmatch(name)}
    for name in RUN_FIELDS:
        if results.get(name):
            kept[name] = results[name]
    configs = member(results, "configs")
    for name, by_task in (
        (
            "num_fewshot",
            member(results, "n-shot") or {task: member(configs, task).get("num_fewshot") for task in configs},
        ),
        ("generation_kwargs", {task: member(configs, task).get("generation_kwargs") for task in configs}),
    ):
        values = {task: value for task, value in by_task.items() if value is not None}
        one = next(iter(values.values()), None)
        if all(value == one for value in values.values()):
            if one is not None:
                kept[name] = one
        elif len(values) <= TOLD_ONE_BY_ONE_MAX:
            kept[name] = values
    hashes = member(results, "task_hashes")
    if 0 < len(hashes) <= TOLD_ONE_BY_ONE_MAX:
        kept["task_hashes"] = {task: str(value)[:16] for task, value in hashes.items()}
    return kept


# --- its tasks


def _tasks(
    results: Json, first: File, files: Sequence[File], options: ReadOptions, warnings: list[str]
) -> tuple[Task, ...]:
    rows = member(results, "results")
    groups = read_groups(results)
    by_task: dict[str, list[File]] = {name: [] for name in rows if name not in groups}
    for file in files:
        by_task.setdefault(task_of(file, results), []).append(file)
    sources: dict[str, tuple[list[File], list[Lines]]] = {
        name: (those, [partial(read_lines, file) for file in those]) for name, those in by_task.items()
    }
    for name, held in (samples_within(first) if member(results, WITHIN) else {}).items():
        if not by_task.get(name):
            sources[name] = [first], [partial(rows_within, first, name, held)]
    groups_of: dict[str, list[str]] = defaultdict(list)
    for group, leaves in groups.items():
        for name in leaves:
            groups_of[name].append(group)
    of_groups = group_aggregates(results, groups)
    tasks = []
    for name, (those, lines) in sources.items():
        stated = (*task_aggregates(results, name), *of_groups.get(name, ()))
        if those or stated:
            tasks.append(_task(results, name, those, lines, stated, groups, groups_of, options, warnings))
    return tuple(tasks)


def _task(
    results: Json,
    name: str,
    files: Sequence[File],
    lines: Sequence[Lines],
    stated: Sequence[Stated],
    groups: Mapping[str, Sequence[str]],
    groups_of: Mapping[str, Sequence[str]],
    options: ReadOptions,
    warnings: list[str],
) -> Task:
    config = member(member(results, "configs"), name)
    path, subset = _text(config.get("dataset_path")), _text(config.get("dataset_name"))
    if path in LOADERS:
        path = None
    within = sorted(groups_of.get(name, ()), key=lambda group: len(groups[group]))
    # Not `path/subset`: what stands after the last `/` is known as a data set's name, which a subset's is not.
    names = (name, f"{path}:{subset}" if path and subset else None, path, *within)
    version = member(results, "versions").get(name)
    own = [aggregate for aggregate in stated if not aggregate.tasks]
    reading = begin(lines, _reading(results, name, config, own), options, warnings)
    if options.filter is not None:  # the score is the first figure of its metric
        stated = sorted(stated, key=lambda aggregate: aggregate.metric != f"{reading.metric},{reading.filter}")
    origin = {"task": name, "subset": subset, "group": within[0] if within else None}
    return Task(
        names=tuple(dict.fromkeys(each for each in names if each)) or ("task",),
        samples=reading.samples if files else None,
        stated=stated,
        metric=reading.score,
        version=None if version is None else str(version),
        origin={key: value for key, value in origin.items() if value is not None},
        expected=document_count(results, name),
        files=files,
    )


def _reading(results: Json, name: str, config: Json, stated: Sequence[Stated]) -> Reading:
    told = [aggregate for aggregate in stated if not aggregate.kind.endswith("stderr")]
    means = {aggregate.metric: aggregate.value / aggregate.scale for aggregate in told}
    filters = [*_named(config.get("filter_list"), "name"), *(key.partition(",")[2] for key in means if "," in key)]
    metrics = [*_named(config.get("metric_list"), "metric"), *(key.partition(",")[0] for key in means)]
    return Reading(
        task=name,
        filters=tuple(dict.fromkeys(filters)),
        metrics=tuple(dict.fromkeys(metrics)),
        stated=means,
        means=frozenset(aggregate.metric for aggregate in told if aggregate.kind == "mean"),
        lower_is_better=frozenset(
            metric for metric, higher in member(member(results, "higher_is_better"), name).items() if higher is False
        ),
        rolling=config.get("output_type") == "loglikelihood_rolling",
    )


def _named(listed: object, key: str) -> list[str]:
    """The names in a list of objects."""
    those = listed if isinstance(listed, list) else []
    return [each[key] for each in those if isinstance(each, dict) and isinstance(each.get(key), str)]


LM_EVAL = LmEval()
