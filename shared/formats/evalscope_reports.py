"""EvalScope's reports, one a data set, and what they state; both the first and the second form of them."""

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from typing import Any

from shared.formats.evalscope_reviews import metric_name
from shared.formats.harness import Stated
from shared.formats.json_reading import finite_number

_DECIMALS = 4
_DECIMALS_OF_TOTALS = 3
"""A total is made of the subsets' rounded scores and rounded once more: its fourth digit may be off by one."""
_OLD_NAME = re.compile(
    r"(?P<aggregation>clipped_mean|weighted_mean|mean)_(?P<name>.+?)"
    r"(_(?P<of>pass|vote)@(?P<k>\d+)|_(?P<hat>pass)\^(?P<hat_k>\d+))?"
)
_ELSEWHERE = "mean of samples elsewhere"
"""Of subsets without reviews, or that share the samples of other subsets."""
_MEANS = ("mean", "micro_mean", "clipped_mean")


@dataclass(frozen=True, slots=True)
class _Metric:
    """What one metric of a report measures."""

    name: str
    kind: str
    per_question: bool
    label: str
    """What the report calls it."""


@dataclass(frozen=True, slots=True)
class Report:
    """A report as it was read."""

    dataset: str
    model: str
    value: Mapping[str, Any]

    @property
    def main_metric(self) -> str | None:
        """The metric that it says is its conclusion; reports of the first form do not say it."""
        match self.value.get("primary_metric_identity"):
            case {"name": str() as name}:
                return metric_name(name)
        return None

    @property
    def scales(self) -> dict[str, float]:
        """What a full score is of the metrics that are points out of 100."""
        found = {}
        for metric, value in self._metrics():
            match value.get("semantics"):
                case {"value_range": {"min": 0, "max": 100}}:
                    found[metric.name] = 100.0
        return found

    @property
    def incomplete(self) -> str | None:
        """Why its scores are not of all samples; None if they are, or it does not say."""
        match self.value.get("execution_summary"):
            case {"incomplete": True, "requested": int() as requested, "succeeded": int() as succeeded}:
                return f"{self.dataset}: {succeeded} of {requested} samples were answered"
        return None

    def subsets(self) -> dict[str, str | None]:
        """The subsets that are no sums of others, and the category of each unless it is the default one."""
        found: dict[str, str | None] = {}
        for _, category, subset in self._parts():
            if not subset.get("is_aggregate"):
                name = _category_name(category)
                found.setdefault(subset["name"], None if name == "default" else name)
        return found

    def metrics(self) -> list[str]:
        """The names of its metrics."""
        return list(dict.fromkeys(metric.name for metric, _ in self._metrics()))

    def aggregates(self) -> list[str]:
        """The subsets that are sums of others."""
        return list(dict.fromkeys(part["name"] for _, _, part in self._parts() if part.get("is_aggregate")))

    def expected(self, subset: str) -> int | None:
        """How many samples a subset has, as far as it says."""
        match self.value.get("execution_summary"):
            case {"subsets": {**subsets}}:
                match subsets.get(subset):
                    case {"requested": int() as requested}:
                        return requested
        counts = [_count(part) for metric, _, part in self._parts() if part["name"] == subset and metric.kind == "mean"]
        return max((count for count in counts if count is not None), default=None)

    def stated_of(self, subset: str, over_parts: Set[str], *, at_hand: bool = True) -> list[Stated]:
        """What it states of one subset. `over_parts` are metrics that it averages over parts of answers; `at_hand` is
        whether the task that it is told with has the subset's samples."""
        found = []
        for metric, _, part in self._parts():
            if part["name"] == subset and (value := finite_number(part.get("score"))) is not None:
                kind = _kind(metric, over_parts) if at_hand or metric.kind != "mean" else _ELSEWHERE
                found.append(
                    Stated(
                        metric=metric.name,
                        value=value,
                        kind=kind,
                        name=f"{metric.label} of {subset}",
                        per_question=metric.per_question,
                        scale=self.scales.get(metric.name, 1.0),
                        decimals=_DECIMALS,
                        # What is no mean over samples does not count samples either.
                        count=_count(part) if kind == "mean" else None,
                    )
                )
        return found

    def stated_over(self, tasks: Mapping[str, str], over_parts: Set[str]) -> list[Stated]:
        """What it states over several subsets. `tasks` has the task of each subset whose samples are at hand."""
        found: list[Stated | None] = []
        for metric, value in self._metrics():
            kind = _kind(metric, over_parts)
            total = partial(_total, metric, kind, scale=self.scales.get(metric.name, 1.0), tasks=tasks)
            categories = _dicts(value, "categories")
            every = [name for category in categories for name in _subset_names(category)]
            found.append(total(value.get("score"), self.dataset, every))
            for category in categories:
                names = _subset_names(category)
                where = self.dataset if len(categories) == 1 else f"{self.dataset}, {_category_name(category)}"
                if len(categories) > 1:
                    found.append(total(category.get("score"), where, names))
                found.append(total(category.get("macro_score"), f"{where}, macro", names, per_task=True))
        return [stated for stated in found if stated is not None]

    def _metrics(self) -> Iterator[tuple[_Metric, Mapping[str, Any]]]:
        for value in self.value["metrics"]:
            yield _metric(value), value

    def _parts(self) -> Iterator[tuple[_Metric, Mapping[str, Any], Mapping[str, Any]]]:
        for metric, value in self._metrics():
            for category in _dicts(value, "categories"):
                for subset in _dicts(category, "subsets"):
                    if isinstance(subset.get("name"), str):
                        yield metric, category, subset


def as_report(value: Any) -> Report | None:  # noqa: ANN401
    """The report that a JSON document is; None if it is none."""
    match value:
        case {"dataset_name": str() as dataset, "model_name": str() as model, "metrics": [*metrics]}:
            if all(isinstance(metric, dict) and isinstance(metric.get("categories"), list) for metric in metrics):
                return Report(dataset, model, value)
    return None


def _metric(value: Mapping[str, Any]) -> _Metric:
    match value.get("identity"):
        case {"name": str() as name, "aggregation": str() as kind}:
            said = value["identity"].get("dimensions")
            dimensions = dict(said) if isinstance(said, dict) else {}
            label = " ".join([name, kind, *(f"{axis}={at}" for axis, at in dimensions.items())])
            first_of_k = kind == "pass_at_k" and dimensions.pop("k", None) == 1
            if first_of_k or kind in _MEANS:
                kind = "mean" if not dimensions else "mean of a part"
            return _Metric(metric_name(name), kind, first_of_k, label)
    label = str(value.get("name"))
    old = _OLD_NAME.fullmatch(label)
    if old is None:  # of the first versions, which averaged and named nothing after that
        return _Metric(metric_name(label), "weighted_mean" if label.startswith("Weighted") else "mean", False, label)
    first_of_k = old["of"] == "pass" and old["k"] == "1"
    kind = f"{old['of'] or old['hat']}_at_k" if old["of"] or old["hat"] else old["aggregation"]
    return _Metric(metric_name(old["name"]), "mean" if first_of_k or kind in _MEANS else kind, first_of_k, label)


def _kind(metric: _Metric, over_parts: Set[str]) -> str:
    return "mean over parts of answers" if metric.kind == "mean" and metric.name in over_parts else metric.kind


def _total(
    metric: _Metric,
    kind: str,
    score: object,
    where: str,
    subsets: Sequence[str],
    *,
    tasks: Mapping[str, str],
    scale: float,
    per_task: bool = False,
) -> Stated | None:
    """What is stated over `subsets`; None if that is no more than what is stated of the only one."""
    value = finite_number(score)
    if value is None or len(subsets) == 1:
        return None
    at_hand = bool(subsets) and all(subset in tasks for subset in subsets)
    return Stated(
        metric=metric.name,
        value=value,
        kind=kind if at_hand or kind != "mean" else _ELSEWHERE,
        name=f"{metric.label} of {where}",
        tasks=[tasks[subset] for subset in subsets] if at_hand else (),
        per_task=per_task,
        per_question=metric.per_question,
        scale=scale,
        decimals=_DECIMALS_OF_TOTALS,
    )


def _subset_names(category: Mapping[str, Any]) -> list[str]:
    subsets = _dicts(category, "subsets")
    return [part["name"] for part in subsets if isinstance(part.get("name"), str) and not part.get("is_aggregate")]


def _category_name(category: Mapping[str, Any]) -> str:
    names = category.get("name")
    return str(names[0] if isinstance(names, list) and names else names)


def _dicts(value: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    members = value.get(name)
    return [member for member in members if isinstance(member, dict)] if isinstance(members, list) else []


def _count(part: Mapping[str, Any]) -> int | None:
    count = part.get("num")
    return count if type(count) is int and count >= 0 else None
