"""What an Inspect log says of a whole evaluation: its task, model, and the metrics that it states. Pure.

Fields are read as every version since 2024 wrote them; what is of no use here is not looked at.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from shared.formats.harness import HarnessRun, NotReadable, Stated, Task
from shared.formats.inspect_sample import Scoring, is_short
from shared.formats.json_reading import finite_number
from shared.submission import learn
from shared.timestamps import canonical_timestamp

SETTING_MAX_BYTES = 4096
"""Of one setting, as JSON; larger ones are left to the raw input."""

_KINDS = {"accuracy": "mean", "mean": "mean", "stderr": "stderr"}
_IDENTITIES = ("mean", "median", "mode", "max")
"""Reducers that leave a single epoch as it is."""
_RUN_KEY = re.compile(r"[A-Za-z0-9._-]+")
_OTHER_LANGUAGE = re.compile(r"(?!EN)[A-Z]{2}_[A-Z]{2}|default")
"""Of MMLU's translations, which the same task asks; `default` are all of them. They are no MMLU."""
_CONFIG = ("limit", "sample_id", "epochs", "epochs_reducer", "message_limit", "token_limit", "time_limit")


class Dataset(msgspec.Struct):
    """What the questions were taken from."""

    name: str | None = None
    sample_ids: list[Any] | None = None


class Spec(msgspec.Struct):
    """What was evaluated: known when an evaluation begins."""

    task: str
    model: str
    created: str | None = None
    eval_id: str | None = None
    run_id: str | None = None
    task_id: str | None = None
    eval_set_id: str | None = None
    task_version: str | int | None = None
    task_display_name: str | None = None
    task_registry_name: str | None = None
    task_args: dict[str, Any] | None = None
    solver: str | None = None
    dataset: Dataset | None = None
    model_generate_config: dict[str, Any] | None = None
    model_args: dict[str, Any] | None = None
    config: dict[str, Any] | None = None
    packages: dict[str, Any] | None = None
    revision: dict[str, Any] | None = None
    scorers: list[dict[str, Any]] | None = None


class Metric(msgspec.Struct):
    """One figure."""

    name: str | None = None
    value: Any = None
    params: dict[str, Any] | None = None
    options: dict[str, Any] | None = None
    """What `params` was called."""
    group: str | None = None


class Score(msgspec.Struct):
    """The figures of a scorer, or of one key of the scores that it gives."""

    name: str
    scorer: str | None = None
    reducer: str | None = None
    scored_samples: int | None = None
    metrics: dict[str, Metric] = {}


class Headline(msgspec.Struct):
    """Which of the scores its author holds to be the one to look at."""

    scorer: str | None = None
    score: str | None = None


class Results(msgspec.Struct):
    """What was stated at the end."""

    total_samples: int | None = None
    logged_samples: int | None = None
    scores: list[Score] = []
    headline: Headline | None = None
    scorer: dict[str, Any] | None = None
    """Before there could be several: the one, and its metrics beside it."""
    metrics: dict[str, Metric] | None = None


class Stats(msgspec.Struct):
    """When it ran."""

    started_at: str | None = None


class Log(msgspec.Struct):
    """A log without its samples."""

    eval: Spec
    status: str = "started"
    plan: dict[str, Any] | None = None
    results: Results | None = None
    stats: Stats | None = None
    error: Any = None
    invalidated: bool | None = False

    @property
    def scores(self) -> list[Score]:
        """What is stated, by scorer."""
        results = self.results or Results()
        if results.scorer is not None and not results.scores:
            name = str(results.scorer.get("name") or "score")
            return [Score(name=name, scorer=name, metrics=results.metrics or {})]
        return results.scores

    @property
    def epochs(self) -> int:
        """How often each question was asked."""
        epochs = (self.eval.config or {}).get("epochs")
        return epochs if type(epochs) is int and epochs > 0 else 1

    @property
    def expected(self) -> int | None:
        """How many samples there should be; None if the log does not say it."""
        if self.results is not None and self.results.total_samples is not None:
            return self.results.total_samples
        ids = self.eval.dataset.sample_ids if self.eval.dataset else None
        return len(ids) * self.epochs if ids else None


learn(Log)


def read_log(value: Mapping[str, Any]) -> Log:
    """A log's head; ValueError if it is none. Samples in `value` are not looked at."""
    return msgspec.convert(value, Log)


def scoring_of(log: Log, metric: str | None = None) -> Scoring:
    """How to read the samples: by `metric` (a scorer, or `scorer.key`) if it is named, else by what is stated first.

    NotReadable if the log has no such scorer.
    """
    told = [score for score in log.scores if score.metrics] or log.scores
    stated = [(score.scorer or score.name, score.name) for score in told]
    planned = [scorer for scorer in log.eval.scorers or [] if "name" in scorer]
    names = [name for name, _ in stated] + [str(scorer["name"]) for scorer in planned]
    if metric is not None:
        return _chosen(metric, log.eval.model, stated, names)
    headline = (log.results.headline if log.results else None) or Headline()
    for scorer, name in stated:
        if headline.scorer in (None, scorer) and headline.score in (None, name):
            return Scoring(log.eval.model, scorer, None if name == scorer else name)
    if not names:
        return Scoring(log.eval.model)
    return Scoring(log.eval.model, names[0], None if stated else _first_key(planned[0].get("metrics")))


def _first_key(metrics: Any) -> str | None:  # noqa: ANN401
    """Which of a scorer's numbers will be stated first, where metrics are planned for each by itself."""
    groups = metrics if isinstance(metrics, list) else [metrics]
    # A group has a list of metrics by key; a metric by itself, of the whole score, has a name, and is stated first.
    if not groups or not all(type(group) is dict and set(map(type, group.values())) == {list} for group in groups):
        return None
    key: str = next(iter(groups[0]))
    return None if "*" in key else key


def _chosen(metric: str, model: str, stated: list[tuple[str, str]], names: list[str]) -> Scoring:
    for scorer, name in stated:
        if metric == f"{scorer}.{name}" and name != scorer:
            return Scoring(model, scorer, name)
    # The longest first: a scorer's own name may hold a point.
    for name in sorted(names, key=len, reverse=True):
        if metric == name:
            key = next((key for scorer, key in stated if scorer == name != key), None)
            return Scoring(model, name, key)
        if metric.startswith(f"{name}."):
            return Scoring(model, name, metric[len(name) + 1 :])
    if names:
        allowed = dict.fromkeys(name if name == scorer else f"{scorer}.{name}" for scorer, name in stated)
        raise NotReadable(f"no scorer is called {metric!r}; the log has {', '.join(allowed or dict.fromkeys(names))}")
    scorer, _, key = metric.partition(".")
    return Scoring(model, scorer, key or None)


def run_of(log: Log, task: Task, warnings: list[str]) -> HarnessRun:
    """The run that a log is of."""
    spec = log.eval
    key = spec.eval_id or "-".join(part for part in (spec.run_id, spec.task_id) if part)
    return HarnessRun(
        model_id=spec.model,
        tasks=[task],
        timestamp=_timestamp(log, warnings),
        run_key=key if _RUN_KEY.fullmatch(key) else None,
        harness_version=_version(spec),
        config=_settings(log),
        incomplete=_incomplete(log),
        warnings=warnings,
    )


def task_names(spec: Spec) -> list[str]:
    """What the task is called: with its package, without, and what its questions were taken from."""
    names = [spec.task, spec.task.rpartition("/")[2], spec.task_registry_name, spec.task_display_name]
    language = (spec.task_args or {}).get("language")
    if isinstance(language, str) and _OTHER_LANGUAGE.fullmatch(language):
        names = [f"{name}_{language}" for name in names if name]
    names.append(spec.dataset.name if spec.dataset else None)
    return list(dict.fromkeys(name for name in names if name)) or ["task"]


def task_origin(spec: Spec) -> dict[str, Any]:
    """What of the evaluation could be metadata of all its questions."""
    origin: dict[str, Any] = {"task": spec.task}
    if spec.dataset and spec.dataset.name:
        origin["dataset"] = spec.dataset.name
    if args := {key: value for key, value in (spec.task_args or {}).items() if is_short(value)}:
        origin["task_args"] = args
    return origin


def stated_by(log: Log) -> Iterator[Stated]:
    """Every metric that the log states, as an aggregate over the questions' means."""
    for score in log.scores:
        scorer = score.scorer or score.name
        metric = scorer if score.name == scorer else f"{scorer}.{score.name}"
        for key, figure in score.metrics.items():
            yield Stated(
                metric=metric,
                value=math.nan if (value := finite_number(figure.value)) is None else value,
                kind=_kind(key, figure, score.reducer, log.epochs),
                name=f"{metric}/{key}" + (f" ({score.reducer})" if score.reducer else ""),
                per_question=_is_reduced(score, log),
                count=score.scored_samples,
            )


def _kind(key: str, figure: Metric, reducer: str | None, epochs: int) -> str:
    name = (figure.name or key).rpartition("/")[2]
    settings = figure.params or figure.options or {}
    # One of several figures of a metric has its own label as its name: a group called "mean" is no mean over all.
    kind = f"{name} of {figure.group}" if figure.group not in (None, name) else _KINDS.get(name, name)
    if settings.get("cluster"):
        kind = f"clustered {name}"
    if reducer in (None, "mean") or (epochs == 1 and reducer in _IDENTITIES):
        return kind
    return f"{name} of {reducer}"


def _is_reduced(score: Score, log: Log) -> bool:
    """Whether the figures are over questions, and not over attempts.

    They are, unless reduction was switched off or a metric asks for each attempt, which its count tells. Of a single
    epoch only where samples share an id, and then fewer were scored than there are.
    """
    expected, scored = log.expected or 0, score.scored_samples
    if log.epochs == 1:
        return scored is not None and scored < expected
    if (log.eval.config or {}).get("epochs_reducer") == []:
        return False
    return score.reducer is not None or (scored or 0) <= expected / log.epochs


def _timestamp(log: Log, warnings: list[str]) -> str | None:
    for stated in (log.eval.created, log.stats.started_at if log.stats else None):
        if stated:
            try:
                return canonical_timestamp(stated)
            except ValueError:
                warnings.append(f"the time {stated[:40]!r} has no offset, or is none: it is not taken")
    return None


def _version(spec: Spec) -> str | None:
    version = (spec.packages or {}).get("inspect_ai")
    return version if isinstance(version, str) else None


def _incomplete(log: Log) -> str | None:
    if log.status != "success":
        message = str(log.error.get("message") or "").strip() if isinstance(log.error, dict) else ""
        told = message.splitlines()[0][:200] if message else ""
        return f"its status is {log.status}" + (f": {told}" if told else "")
    results = log.results or Results()
    if results.logged_samples is not None and results.logged_samples < (results.total_samples or 0):
        return f"{results.logged_samples:,} of {results.total_samples:,} samples were run"
    return None


def _settings(log: Log) -> dict[str, Any]:
    spec, plan = log.eval, log.plan or {}
    steps = plan.get("steps")
    planned = plan.get("config")
    generation = {**(planned if isinstance(planned, dict) else {}), **(spec.model_generate_config or {})}
    settings = {
        "task_args": spec.task_args,
        "model_args": spec.model_args,
        "generation": {key: value for key, value in generation.items() if value is not None},
        "solver": spec.solver,
        "steps": [step.get("solver") for step in steps if type(step) is dict] if isinstance(steps, list) else None,
        **{key: (spec.config or {}).get(key) for key in _CONFIG},
        "commit": (spec.revision or {}).get("commit"),
        "run_id": spec.run_id,
        "task_id": spec.task_id,
        "eval_set_id": spec.eval_set_id,
    }
    return {key: value for key, value in settings.items() if value not in (None, {}, []) and _can_be_kept(value)}


def _can_be_kept(setting: object) -> bool:
    try:
        return len(json.dumps(setting, allow_nan=False)) <= SETTING_MAX_BYTES
    except ValueError:
        return False
