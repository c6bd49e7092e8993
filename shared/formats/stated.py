"""Data of a result that has no samples: the score that the harness states, and its other figures."""

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from shared.formats.harness import Task


def stated_data(tasks: Sequence[Task]) -> bytes:
    """The JSON text of it: `score`, where every task states one of the same metric, and what is stated of each task."""
    figures = {
        task.names[0]: {
            (stated.name or stated.metric) + ("" if stated.kind == "mean" else f" ({stated.kind})"): stated.value
            for stated in task.stated
        }
        for task in tasks
    }
    data: dict[str, Any] = {"stated": figures}
    scores = [_stated_score(task) for task in tasks]
    told = [score for score in scores if score is not None]
    if told and len(told) == len(scores) and len({task.metric for task in tasks}) == 1:
        counts = [_stated_count(task) for task in tasks]
        weights = [count or 0 for count in counts] if all(counts) else [1] * len(told)
        mean = sum(score * weight for score, weight in zip(told, weights, strict=True)) / sum(weights)
        data = {"score": mean, **data}
        if len(told) > 1:
            data["score_of"] = f"{len(told)} tasks, weighted " + ("by their samples" if all(counts) else "equally")
    return msgspec.json.encode(data)


def _stated_score(task: Task) -> float | None:
    """The stated mean of the metric that is the score, never another's; the first from 0 to 1 where none is named."""
    means = [stated for stated in task.stated if stated.kind == "mean" and math.isfinite(stated.value)]
    if task.metric is None:
        return next((score for stated in means if 0 <= (score := stated.value / stated.scale) <= 1), None)
    of_metric = (stated for stated in means if task.metric in (stated.metric, stated.metric.partition(",")[0]))
    return next((stated.value / stated.scale for stated in of_metric), None)


def _stated_count(task: Task) -> int | None:
    return task.expected or next((stated.count for stated in task.stated if stated.count), None)
