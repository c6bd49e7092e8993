"""What a results file of lm-evaluation-harness states: of tasks and of groups of tasks, by metric and filter."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shared.formats.harness import Stated
from shared.formats.json_reading import finite_number

NOT_METRICS = frozenset({"alias", "name", "sample_len", "sample_count", "samples"})
AGGREGATIONS = {
    "f1": "f1",
    "mcc": "matthews_corrcoef",
    "perplexity": "perplexity",
    "ppl": "perplexity",
    "word_perplexity": "weighted_perplexity",
    "byte_perplexity": "weighted_perplexity",
    "bits_per_byte": "bits_per_byte",
    "brier_score": "brier_score",
    "bleu": "bleu",
    "chrf": "chrf",
    "chrf++": "chrf++",
    "ter": "ter",
    "bypass": "bypass",
}
"""The harness's own, for metrics whose task names none; all others are means."""
COUNT_MAX = 2**53
MEANS = frozenset({"mean", "nanmean"})
PERCENT = frozenset({"exact", "HasAns_exact", "HasAns_f1", "NoAns_exact", "NoAns_f1", "best_exact", "best_f1"})
"""What the script of SQuAD 2 gives, which counts to 100; one of them alone may be another task's."""

Json = Mapping[str, Any]


def member(value: Json, key: str) -> Json:
    """The object under a key; an empty one if there is none."""
    inner = value.get(key)
    return inner if isinstance(inner, dict) else {}


def document_count(results: Json, name: str) -> int | None:
    """How many documents a task had."""
    for count in (
        member(member(results, "results"), name).get("sample_len"),
        member(member(results, "n-samples"), name).get("effective"),
    ):
        if type(count) is int and 0 <= count < COUNT_MAX:
            return count
    return None


def read_groups(results: Json) -> dict[str, tuple[str, ...]]:
    """The tasks, not groups, below each group; groups without any are left out."""
    below = {
        name: [str(each) for each in names]
        for name, names in member(results, "group_subtasks").items()
        if isinstance(names, list) and names
    }

    def leaves(name: str) -> Iterator[str]:
        """Each group below is gone through once, for the ways to it may be very many."""
        seen = {name}
        ways = [iter(below[name])]
        while ways:
            each = next(ways[-1], None)
            if each is None:
                ways.pop()
            elif each not in below:
                yield each
            elif each not in seen:
                seen.add(each)
                ways.append(iter(below[each]))

    return {name: tuple(dict.fromkeys(leaves(name))) for name in below}


def _aggregates(row: Json) -> Iterator[tuple[str, bool, float]]:
    """The numbers of a row: of what (`metric,filter`, in v0.3 `metric`), whether its standard error, the value."""
    for key, value in row.items():
        if key in NOT_METRICS or isinstance(value, bool) or not isinstance(value, int | float):
            continue  # "N/A" stands where there is no standard error
        if isinstance(value, int) and finite_number(value) is None:
            continue
        name, comma, filter_name = key.partition(",")
        metric = name.removesuffix("_stderr")
        yield f"{metric}{comma}{filter_name}", metric != name, float(value)


def _aggregation(config: Json, metric: str) -> str:
    listed = config.get("metric_list")
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, dict) and entry.get("metric") == metric and entry.get("aggregation") is not None:
            named = str(entry["aggregation"])
            if named.isidentifier():
                return named
            code = re.search(r"def (\w+)|<function (\w+)", named)
            return (code[1] or code[2]) if code else "custom"
    return AGGREGATIONS.get(metric, "mean")


def task_aggregates(results: Json, name: str) -> Iterator[Stated]:
    """What is stated of a task, infinite numbers included."""
    config = member(member(results, "configs"), name)
    row = member(member(results, "results"), name)
    is_squad = sum(key.partition(",")[0] in PERCENT for key in row) > 1
    for metric, is_error, value in _aggregates(row):
        scale = 100.0 if is_squad and metric.partition(",")[0] in PERCENT else 1.0
        aggregation = _aggregation(config, metric.partition(",")[0])
        kind = "mean" if aggregation in MEANS else aggregation
        if is_error:
            kind = "stderr" if aggregation == "mean" else f"{aggregation} stderr"
        yield Stated(metric=metric, value=value, kind=kind, scale=scale, count=document_count(results, name))


def group_aggregates(results: Json, groups: Mapping[str, Sequence[str]]) -> dict[str, list[Stated]]:
    """What is stated of groups, by the first of the tasks that it goes over."""
    rows = member(results, "results")
    stated: dict[str, list[Stated]] = defaultdict(list)
    for group, leaves in groups.items():
        row = {**member(member(results, "groups"), group), **member(rows, group)}
        for metric, is_error, value in _aggregates(row):
            those = {task: member(rows, task)[metric] for task in leaves if metric in member(rows, task)}
            if not those:
                continue
            counts = [document_count(results, task) or 0 for task in those]
            configs = member(results, "configs")
            aggregations = {_aggregation(member(configs, task), metric.partition(",")[0]) for task in those}
            kind = "mean" if aggregations <= MEANS else f"mean of {', '.join(sorted(aggregations))}"
            stated[next(iter(those))].append(
                Stated(
                    metric=metric,
                    value=value,
                    kind="pooled stderr" if is_error else kind,
                    name=f"{group}: {metric}",
                    tasks=tuple(those),
                    per_task=not is_error and _is_unweighted(value, list(those.values()), counts),
                    count=sum(counts) or None,
                )
            )
    return stated


def _is_unweighted(value: float, means: Sequence[object], counts: Sequence[int]) -> bool:
    """Whether a group's mean is that of its tasks, whatever their size.

    The files do not say (`weight_by_size`), the numbers do. Where tasks are of one size it is the same.
    """
    numbers = [number for mean in means if (number := finite_number(mean)) is not None]
    if len(numbers) != len(counts) or not all(counts):
        return False
    weighted = sum(mean * count for mean, count in zip(numbers, counts, strict=True)) / sum(counts)
    return abs(sum(numbers) / len(numbers) - value) < 1e-9 <= abs(weighted - value)
