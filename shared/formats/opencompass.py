"""OpenCompass: `outputs/default/<time>/{configs,predictions,results,summary}`, and the files of its result stations.

A finding is one model's part of one such folder, or one station file. A results file has scores in percent and, unless
they were switched off, the details of each question; predictions add the gold answers and tokens that details lack.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from shared.formats.folder_times import NO_ZONE, folder_time
from shared.formats.harness import Finding, HarnessRun, NotReadable, ReadOptions, Stated, Task
from shared.formats.json_reading import Unreadable, read_members
from shared.formats.opencompass_results import Results, is_detail, outline, read_details
from shared.formats.tree import File, Tree

_BEGINS_PREDICTIONS = re.compile(rb'\s*\{\s*"\d+"\s*:\s*\{')
_BEGINS_STATION = re.compile(rb'\s*\{\s*"predictions"\s*:\s*\[\s*\{')
_SHARD = re.compile(r"(?P<dataset>.+)_(?P<shard>\d+)")
_HEAD_BYTES = 64 * 1024
_CONFIG_KEPT = frozenset(
    {"path", "max_out_len", "max_seq_len", "temperature", "generation_kwargs", "gen_config", "model_kwargs", "mode"}
)


class OpenCompass:
    """Reader of OpenCompass's outputs."""

    name = "opencompass"
    title = "OpenCompass"

    def find(self, tree: Tree) -> Iterable[Finding]:
        """One finding a model and outputs folder, and one a station file; predictions without results are none."""
        folders = {file.folder for file in tree.values()}
        results: dict[tuple[str, str | None], list[File]] = {}
        for file in tree.values():
            if not file.name.endswith(".json"):
                continue
            head = file.head(_HEAD_BYTES)
            if _BEGINS_STATION.match(head):
                if _is_station(file):
                    yield Finding(format=self.name, files=[file])
                continue
            root, model = _place_of(file)
            if _is_results(file, head, laid_out=model is not None and _is_outputs(root, model, folders)):
                # Results that lie about by themselves do not say whose they are: each is for itself.
                results.setdefault((root, model) if model is not None else (file.path, None), []).append(file)
        told: set[str] = set()
        for (root, model), scored in results.items():
            files = list(scored)
            if model is not None:
                asked = tree.within(_join(root, f"predictions/{model}"))
                files += [file for file in asked if _BEGINS_PREDICTIONS.match(file.head(256))]
                if root not in told:
                    told.add(root)
                    files += tree.within(_join(root, "configs")) + tree.within(_join(root, "summary"))
            yield Finding(format=self.name, files=files)

    def read(self, finding: Finding, options: ReadOptions) -> Sequence[HarnessRun]:
        """One run. NotReadable where the model is neither said nor the name of a folder."""
        first = finding.files[0]
        if _BEGINS_STATION.match(first.head()):
            return [_read_station(first, options)]
        root, model = _place_of(first)
        if options.model_id is None and model is None:
            raise NotReadable(f"{finding.place}: a results file does not say which model it is of; name the model")
        files: dict[str, list[File]] = {}
        for file in finding.files:
            files.setdefault(_part_of(file), []).append(file)
        warnings: list[str] = []
        found = [(file, outline(file)) for file in files["results"]]
        stems = {PurePosixPath(file.path).stem for file, _ in found}
        shards = _shards(files.get("predictions", ()), stems)
        unscored = sorted(shards.keys() - stems)
        tasks = [
            _task(result, _name_of(file, result, model), file, shards.get(PurePosixPath(file.path).stem, ()), options)
            for file, result in found
        ]
        for (file, result), task in zip(found, tasks, strict=True):
            warnings += [f"{file.path}: {text}" for text in _faults(result, task, options)]
        configs = files.get("configs", ())
        return [
            HarnessRun(
                model_id=options.model_id or model or "",
                tasks=tasks,
                timestamp=_timestamp(root, finding.files, options, warnings),
                config=_read_config(configs, model or ""),
                incomplete=f"there are predictions without results: {', '.join(unscored)}" if unscored else None,
                warnings=warnings,
            )
        ]


OPENCOMPASS = OpenCompass()


def _task(result: Results, name: str, file: File, predictions: Sequence[File], options: ReadOptions) -> Task:
    metric = result.metric(options.metric)
    return Task(
        names=list(dict.fromkeys([name, *([result.dataset] if result.dataset else [])])),
        samples=partial(read_details, file, result, metric, predictions) if result.scored else None,
        stated=_stated(result, metric),
        metric=metric,
        origin={"dataset": name},
        expected=None if result.cut else result.answers or None,
        files=[file],
    )


def _stated(result: Results, metric: str | None) -> list[Stated]:
    """What the results state: the score in percent, G-Pass@k as means over the questions', all else as it is."""
    found = []
    for label, value in result.numbers.items():
        name = result.plain_name(label)
        part, _, of_part = name.rpartition("/")
        if part and result.numbers.get(of_part) == value:
            continue  # the only subdivision's, which is the whole
        known = name == metric or name in result.per_question
        found.append(
            Stated(
                metric=name,
                value=value,
                kind="mean" if known else "figure",
                name=label,
                scale=100.0 if known else 1.0,
                count=result.answers or None if name == metric and not result.cut else None,
            )
        )
    return found


def _faults(result: Results, task: Task, options: ReadOptions) -> Iterator[str]:
    if result.error:
        yield f"OpenCompass could not score it: {result.error}"
    if result.cut and not result.scored:
        yield f"it cannot be read to the end: {result.cut}"  # else whoever reads the samples says so
    elif result.rows and not result.scored:
        yield "its details do not say which answers are right, so only the total is taken"
    if options.metric and task.metric != options.metric:
        yield f"it has no metric {options.metric} of each answer; there are {', '.join(result.metrics) or 'none'}"


def _read_station(file: File, options: ReadOptions) -> HarnessRun:
    result = outline(file, station=True)
    model = options.model_id or result.model
    if model is None:
        raise NotReadable(f"{file.path}: it says no model; name the model")
    task = _task(result, result.dataset or PurePosixPath(file.path).parent.name or "unknown", file, (), options)
    return HarnessRun(
        model_id=model,
        tasks=[task],
        timestamp=options.timestamp,
        warnings=list(_faults(result, task, options)),
    )


def _is_station(file: File) -> bool:
    with file.open() as stream:
        try:
            _, _, value = next(read_members(stream, file.path, into={"predictions"}))
        except (Unreadable, StopIteration):
            return False
    return isinstance(value, dict) and ("prediction" in value or "origin_prompt" in value)


def _is_results(file: File, head: bytes, *, laid_out: bool) -> bool:
    """Whether a file has scores, and details that are OpenCompass's; scores alone are enough where the folders are."""
    if not head.lstrip().startswith(b"{") or not (laid_out or b'"details"' in head):
        return False
    some = False
    with file.open() as stream:
        try:
            for key, inner, value in read_members(stream, file.path, into={"details"}):
                if key == "details" and inner is not None:
                    return (inner == "type" and value in ("GEN", "PPL")) or is_detail(value)
                if isinstance(key, int) or isinstance(value, dict) or key == "details":
                    return False
                some |= key == "error" or (isinstance(value, int | float) and not isinstance(value, bool))
        except Unreadable:
            return laid_out and some
    return laid_out and some


def _is_outputs(root: str, model: str, folders: set[str]) -> bool:
    """Whether a folder is one of OpenCompass's, by what lies beside its results."""
    beside = {_join(root, part) for part in (f"predictions/{model}", f"logs/eval/{model}", "summary")}
    return bool(beside & folders) or folder_time(PurePosixPath(root).name) is not None


def _place_of(file: File) -> tuple[str, str | None]:
    """The outputs folder that a results file lies in, and the model whose it is; None where there is no such layout."""
    folders = PurePosixPath(file.path).parts[:-1]
    for at in range(len(folders) - 2, -1, -1):
        if folders[at] == "results":
            return "/".join(folders[:at]), "/".join(folders[at + 1 :])
    return file.folder, None


def _part_of(file: File) -> str:
    if file.name.endswith(".py"):
        return "configs"
    if not file.name.endswith(".json"):
        return "summary"
    return "predictions" if _BEGINS_PREDICTIONS.match(file.head(256)) else "results"


def _shards(files: Iterable[File], scored: set[str]) -> dict[str, list[File]]:
    """The files of predictions of each data set, in order. As in OpenCompass, shards count only without the whole.

    A name that was scored is a data set's, though it ends as a shard's does.
    """
    whole = {PurePosixPath(file.path).stem: [file] for file in files if file.name.endswith(".json")}
    numbered: dict[str, dict[int, File]] = {}
    for stem, [file] in whole.items():
        if stem not in scored and (match := _SHARD.fullmatch(stem)):
            numbered.setdefault(match["dataset"], {})[int(match["shard"])] = file
    found = dict(whole)
    for dataset, shards in numbered.items():
        if dataset not in whole and 0 in shards:
            found[dataset] = [shards[number] for number in range(len(shards)) if number in shards]
            for file in shards.values():
                del found[PurePosixPath(file.path).stem]
    return found


def _name_of(file: File, result: Results, model: str | None) -> str:
    """The data set's: the file's where OpenCompass named it, else what its questions say."""
    stem = PurePosixPath(file.path).stem
    return stem if model is not None else result.dataset or stem


def _timestamp(root: str, files: Sequence[File], options: ReadOptions, warnings: list[str]) -> str | None:
    """The time that the outputs folder was named by, as the configuration, the folder or the summary's name says."""
    configs = [file for file in files if _part_of(file) == "configs"]
    said = [line for file in configs for line in _text(file).splitlines() if line.startswith("work_dir")]
    summaries = [file.name for file in files if _part_of(file) == "summary"]
    named = next(filter(None, map(folder_time, ("".join(said), PurePosixPath(root).name, " ".join(summaries)))), None)
    if named and not options.timestamp:
        warnings.append(NO_ZONE)
        return named
    return options.timestamp


def _read_config(files: Sequence[File], model: str) -> dict[str, Any]:
    """How the model was asked, from the Python file that OpenCompass writes its configuration to. It is never run."""
    for file in files:
        try:
            statements = ast.parse(_text(file)).body
        except (SyntaxError, ValueError, RecursionError):
            continue
        for statement in statements:
            match statement:
                case ast.Assign(targets=[ast.Name(id="models")], value=ast.List(elts=models)):
                    for found in map(_literal, models):
                        if isinstance(found, dict) and found.get("abbr") == model:
                            return {name: value for name, value in found.items() if name in _CONFIG_KEPT}
    return {}


def _literal(node: ast.expr) -> Any:  # noqa: ANN401
    """What an expression of constants, lists and `dict(…)` says; None for anything else."""
    match node:
        case ast.Constant(value=str() | int() | float() | None as value):
            return value
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_literal(item) for item in items]
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords):
            return {keyword.arg: _literal(keyword.value) for keyword in keywords if keyword.arg}
    return None


def _text(file: File) -> str:
    return file.head(4 * 1024 * 1024).decode("utf-8", "replace")


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
