"""EvalScope: `outputs/<time>/{configs,predictions,reviews,reports}/<model>/…`, of both generations, and reports alone.

A finding is one model's part of one outputs folder. Reviews hold the samples, reports what EvalScope states of them,
predictions the tokens and times; files that lie elsewhere or have other names are known by what is in them.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from shared.formats.evalscope_reports import Report, as_report
from shared.formats.evalscope_reviews import (
    first_row,
    is_prediction,
    is_review,
    metric_name,
    metrics_of,
    model_of,
    read_reviews,
)
from shared.formats.folder_times import NO_ZONE, folder_time
from shared.formats.harness import Finding, HarnessRun, NotReadable, ReadOptions, Stated, Task
from shared.formats.json_reading import Unreadable, read_file, read_value
from shared.formats.tree import File, Tree
from shared.timestamps import canonical_timestamp

REPORT_MAX_BYTES = 64 * 1024 * 1024
FIRST_LINE_MAX_BYTES = 16 * 1024 * 1024
_NO_SUBSET = ("", "default")
_PARTS = ("reports", "reviews", "predictions")
_ROW_BEGINS = re.compile(rb'\s*\{\s*"(index|id|answer_id|sample_score|target|input|messages|choices|model)"\s*:')


@dataclass(slots=True)
class _Output:
    """One model's files in one outputs folder, or beside one another without such folders."""

    root: str
    reports: list[File] = field(default_factory=list)
    reviews: list[File] = field(default_factory=list)
    predictions: list[File] = field(default_factory=list)


class EvalScope:
    """Reader of EvalScope's outputs."""

    name = "evalscope"
    title = "EvalScope"

    def find(self, tree: Tree) -> Iterable[Finding]:
        """One finding a model and outputs folder; predictions alone are none, for nothing scored them."""
        outputs: dict[tuple[str, str], _Output] = {}
        for file in tree.values():
            if (known := _look_at(file)) is not None:
                part, model = known
                root, folder = _place_of(file)
                output = outputs.setdefault((root, folder if folder is not None else model), _Output(root))
                getattr(output, part).append(file)
        configured: set[str] = set()
        for output in _with_nameless(outputs):
            if not output.reports and not output.reviews:
                continue
            files = [*output.reports, *output.reviews, *output.predictions]
            if output.root not in configured and files[0].folder != output.root:
                configured.add(output.root)
                files += [file for file in tree.within(_join(output.root, "configs")) if _is_config(file)]
            yield Finding(format=self.name, files=files)

    def read(self, finding: Finding, options: ReadOptions) -> Sequence[HarnessRun]:
        """One run. NotReadable if no file says which model it is of."""
        files: dict[str, list[File]] = defaultdict(list)
        for file in finding.files:
            part, _ = _look_at(file) or ("configs", "")
            files[part].append(file)
        reports = [report for file in files["reports"] if (report := as_report(read_file(file))) is not None]
        rows = {file.path: first_row(file) for file in (*files["reviews"], *files["predictions"])}
        config = _read_config(files["configs"])
        said = _model(reports, config, rows.values())
        if config.get("model_id") not in (None, said):  # of another model that was asked into the same folder
            config = {}
        model = options.model_id or said
        if model is None:
            raise NotReadable(
                f"{finding.place}: neither reports nor predictions are there to say which model it is; name the model"
            )
        warnings: list[str] = []
        tasks = list(_tasks(reports, files["reviews"], files["predictions"], rows, config, options, warnings))
        return [
            HarnessRun(
                model_id=model,
                tasks=tasks,
                timestamp=_timestamp(rows.values(), config, finding, options, warnings),
                harness_version=_text(config.get("evalscope_version")),
                config={name: value for name, value in config.items() if name in _CONFIG_KEPT},
                incomplete="; ".join(why for report in reports if (why := report.incomplete)) or None,
                warnings=warnings,
            )
        ]


EVALSCOPE = EvalScope()


def _tasks(
    reports: Sequence[Report],
    reviews: Sequence[File],
    predictions: Sequence[File],
    rows: Mapping[str, Mapping[str, Any]],
    config: Mapping[str, Any],
    options: ReadOptions,
    warnings: list[str],
) -> Iterator[Task]:
    """A task for each file of reviews, and for each subset of a data set that has none."""
    by_dataset = {report.dataset: report for report in reports}
    known = sorted({*by_dataset, *config.get("datasets", ())}, key=len, reverse=True)
    asked = {_stem(file): file for file in predictions}
    reviewed: dict[str, list[tuple[str, File | None]]] = defaultdict(list)
    for reviewed_file in reviews:
        stem = _stem(reviewed_file)
        dataset = next((name for name in known if stem == name or stem.startswith(f"{name}_")), stem)
        # The first generation says the subset in each line.
        said = rows[reviewed_file.path].get("subset_name")
        if dataset == stem and isinstance(said, str):
            dataset = stem.removesuffix(f"_{said}")
        reviewed[dataset].append((said if isinstance(said, str) else stem[len(dataset) + 1 :], reviewed_file))
    for dataset in dict.fromkeys([*by_dataset, *reviewed]):
        report = by_dataset.get(dataset)
        categories = report.subsets() if report else {}
        scales = report.scales if report else {}
        parts: Sequence[tuple[str, File | None]] = (
            reviewed.get(dataset) or [(subset, None) for subset in categories] or [("", None)]
        )
        names = {subset: f"{dataset}_{subset}" if subset not in _NO_SUBSET else dataset for subset, _ in parts}
        at_hand = {subset: names[subset] for subset, file in parts if file}
        over_parts = frozenset().union(*(metrics_of(rows[file.path])[1] for _, file in parts if file))
        for position, (subset, file) in enumerate(parts):
            row = rows[file.path] if file else {}
            metric = _metric(options, report, row, names[subset], warnings)
            stated: list[Stated] = report.stated_of(subset, over_parts) if report else []
            if report and position == 0:
                others = report.aggregates() + [name for name in categories if at_hand and name not in at_hand]
                stated += [said for name in others for said in report.stated_of(name, over_parts, at_hand=False)]
                stated += report.stated_over(at_hand, over_parts)
            category = categories.get(subset)
            yield Task(
                names=list(dict.fromkeys([names[subset], dataset])),
                own_name=dataset,
                samples=partial(read_reviews, file, asked.get(_stem(file)), metric, scales) if file else None,
                stated=stated,
                metric=metric,
                version=_text(config.get("versions", {}).get(dataset)),
                origin={"dataset": dataset, "subset": subset} | ({"category": category} if category else {}),
                expected=report.expected(subset) if report else None,
                files=[file] if file else (),
            )


def _metric(
    options: ReadOptions, report: Report | None, row: Mapping[str, Any], task: str, warnings: list[str]
) -> str | None:
    """The metric that is the score: the one asked for, the report's main one, the review's main one."""
    there = metrics_of(row)[0] if row else (report.metrics() if report else [])
    if options.metric:
        if (asked := metric_name(options.metric)) in there:
            return asked
        warnings.append(f"{task} has no metric {options.metric}; there are {', '.join(there) or 'none'}")
    main = report.main_metric if report else None
    return main if main in there else next(iter(there), None)


def _model(reports: Sequence[Report], config: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> str | None:
    """The model by EvalScope's own name for it, else by the one that its answers came with."""
    named = [*(report.model for report in reports), _text(config.get("model_id")), *map(model_of, rows)]
    return next(filter(None, named), None)


def _timestamp(
    rows: Iterable[Mapping[str, Any]],
    config: Mapping[str, Any],
    finding: Finding,
    options: ReadOptions,
    warnings: list[str],
) -> str | None:
    """When the first answer came; else the time that the outputs folder was named by."""
    created = [row["created"] for row in rows if isinstance(row.get("created"), int) and 0 < row["created"] < 2**33]
    if created:
        return canonical_timestamp(datetime.fromtimestamp(min(created), UTC).isoformat())
    root = PurePosixPath(_place_of(finding.files[0])[0]).name
    named = folder_time(str(config.get("work_dir", ""))) or folder_time(root)
    if named and not options.timestamp:
        warnings.append(NO_ZONE)
        return named
    return options.timestamp


def _look_at(file: File) -> tuple[str, str] | None:
    """What of an outputs folder a file is, by its content, and the model that it says, "" if none; None if neither."""
    if not file.name.endswith((".json", ".jsonl")):
        return None
    head = file.head()
    try:
        if b'"dataset_name"' in head and file.size <= REPORT_MAX_BYTES:
            report = as_report(read_file(file))
            if report is not None:
                return "reports", report.model
        if _ROW_BEGINS.match(head):
            with file.open() as stream:
                row = read_value(stream.readline(FIRST_LINE_MAX_BYTES))
            if is_review(row) or is_prediction(row):
                return "reviews" if is_review(row) else "predictions", model_of(row) or ""
    except (Unreadable, ValueError):
        return None
    return None


def _place_of(file: File) -> tuple[str, str | None]:
    """The outputs folder that a file lies in, and the model's in it; its own folder where there is no such layout."""
    folders = PurePosixPath(file.path).parts[:-1]
    for at in range(len(folders) - 2, -1, -1):
        if folders[at] in _PARTS:
            return "/".join(folders[:at]), folders[at + 1]
    return file.folder, None


def _stem(file: File) -> str:
    """`<dataset>_<subset>`: what stands behind the model's folder, for a subset may be called `Biology/Medicine`."""
    root, model = _place_of(file)
    path = PurePosixPath(file.path).with_suffix("")
    return path.name if model is None else "/".join(path.relative_to(root).parts[2:])


def _with_nameless(outputs: Mapping[tuple[str, str], _Output]) -> list[_Output]:
    """The outputs, those files that say no model put to the only model beside them."""
    for (root, model), output in outputs.items():
        others = [other for key, other in outputs.items() if key[0] == root and key[1]]
        if not model and len(others) == 1:
            others[0].reviews += output.reviews
            others[0].predictions += output.predictions
            output.reviews, output.predictions = [], []
    return list(outputs.values())


def _is_config(file: File) -> bool:
    return file.name.endswith((".yaml", ".yml"))


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


_CONFIG_KEPT = ("generation_config", "limit", "seed", "repeats", "eval_type", "eval_backend", "stream", "few_shot_num")
_CONFIG_LINE = re.compile(r"( *)([\w.-]+):(?: (.*))?")


def _read_config(files: Sequence[File]) -> dict[str, Any]:
    """What is wanted of the task's YAML file, which EvalScope writes with a key a line: no keys to APIs, no prompts."""
    found: dict[str, Any] = {}
    path: list[str] = []
    for line in files[0].head(REPORT_MAX_BYTES).decode("utf-8", "replace").splitlines() if files else ():
        if path == ["datasets"] and line.startswith("- "):
            found.setdefault("datasets", []).append(line[2:].strip())
            continue
        match = _CONFIG_LINE.fullmatch(line)
        if match is None:
            continue
        indent, key, text = len(match[1]) // 2, match[2], match[3]
        path[indent:] = [key]
        value = _scalar(text)
        match path:
            case [_] if text and key in (*_CONFIG_KEPT, "evalscope_version", "model_id", "work_dir"):
                found[key] = value
            case ["generation_config", _] if text:
                found.setdefault("generation_config", {})[key] = value
            case ["evaluation_identity", "benchmarks", dataset, "evaluation_version"] if text:
                found.setdefault("versions", {})[dataset] = value
            case ["dataset_args", dataset, "few_shot_num"] if text:
                found.setdefault("few_shot_num", {})[dataset] = value
    return found


def _scalar(text: str | None) -> object:
    try:
        value: object = read_value((text or "null").encode())
    except ValueError:
        return (text or "").strip("'")
    return value


def _text(value: object) -> str | None:
    return None if value is None else str(value)
