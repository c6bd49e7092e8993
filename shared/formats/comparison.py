"""Compares the aggregates that a harness states with what its rows come to."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from shared.formats.harness import HarnessRun, Sample, Stated, Task, shown
from shared.imports import ComparedAggregate

RELATIVE_TOLERANCE = 1e-9
"""Of figures that were not rounded: sums of floats in another order."""


class Tally:
    """Counts, sums and sums of squares of one task's metrics."""

    __slots__ = ("_by_question", "cut_short", "rows", "sums")

    def __init__(self, *, by_question: bool) -> None:
        self.rows = 0
        self.sums: dict[str, list[float]] = {}
        """Metric → count, sum, sum of squares."""
        self._by_question: dict[str, dict[str, list[float]]] | None = {} if by_question else None
        """Metric → question → count and sum; kept only where the harness states a mean over questions."""
        self.cut_short = False
        """Whether its samples could not be read to the end."""

    def add(self, sample: Sample) -> None:
        """Count a sample."""
        self.rows += 1
        for metric, value in sample.metrics.items():
            if value != value:  # noqa: PLR0124 - NaN: the harness leaves it out
                continue
            sums = self.sums.get(metric)
            if sums is None:
                sums = self.sums[metric] = [0, 0.0, 0.0]
            sums[0] += 1
            sums[1] += value
            sums[2] += value * value
            if self._by_question is not None:
                of_question = self._by_question.setdefault(metric, {}).setdefault(sample.id, [0, 0.0])
                of_question[0] += 1
                of_question[1] += value

    def over_questions(self, metric: str) -> list[float]:
        """Count, sum and sum of squares of the questions' means."""
        means = [total / count for count, total in (self._by_question or {}).get(metric, {}).values()]
        return [len(means), sum(means), sum(mean * mean for mean in means)]


class Tallies:
    """The tallies of a run's tasks."""

    def __init__(self, run: HarnessRun) -> None:
        needed = any(stated.per_question for task in run.tasks for stated in task.stated)
        self._tallies = {id(task): Tally(by_question=needed) for task in run.tasks}

    def of(self, task: Task) -> Tally:
        """The tally of one task."""
        return self._tallies[id(task)]


def compare(run: HarnessRun, tallies: Tallies) -> Iterator[ComparedAggregate]:
    """Each stated figure of a run beside what the samples come to, in the order in which they are stated."""
    by_name = {task.names[0]: task for task in run.tasks}
    for task in run.tasks:
        for stated in task.stated:
            over = [by_name[name] for name in stated.tasks if name in by_name] if stated.tasks else [task]
            missing = sum(name not in by_name for name in stated.tasks)
            yield _compare(task, stated, over, missing, tallies)


def _compare(task: Task, stated: Stated, over: Sequence[Task], missing: int, tallies: Tallies) -> ComparedAggregate:
    those = [tallies.of(one) for one in over]
    samples = sum(tally.rows for tally in those)
    sums = [
        (tally.over_questions(stated.metric) if stated.per_question else tally.sums.get(stated.metric, [0, 0.0, 0.0]))
        for tally in those
    ]
    note = _why_not(stated, over, those, sums, missing)
    recomputed = None if note else _recompute(stated, sums)
    if recomputed is not None and not math.isfinite(recomputed):
        recomputed, note = None, "the samples' figures are too large to be added up"
    difference = agrees = None
    if recomputed is not None and math.isfinite(stated.value):
        difference = recomputed - stated.value
        agrees = abs(difference) <= _tolerance(stated)
        counted = int(sum(count for count, _, _ in sums))
        if not agrees and stated.count is not None and stated.count != counted:
            note = f"it is stated over {stated.count:,} samples, and {counted:,} are in the files"
        elif not agrees and any(tally.cut_short for tally in those):
            note = "the samples could not be read to the end"
        elif not agrees and (expected := sum(one.expected or 0 for one in over)) > samples:
            note = f"{expected:,} samples were expected, and {samples:,} are in the files"
    return ComparedAggregate(
        task=shown(task.names[0]),
        name=shown(stated.name or stated.metric),
        kind=stated.kind,
        stated=stated.value if math.isfinite(stated.value) else None,
        recomputed=recomputed,
        difference=difference,
        agrees=agrees,
        samples=samples,
        note=note,
    )


def _why_not(
    stated: Stated, over: Sequence[Task], tallies: Sequence[Tally], sums: Sequence[Sequence[float]], missing: int
) -> str | None:
    """Why it cannot be recomputed; None if it can."""
    reasons = {
        "only means and their standard errors are recomputed": stated.kind not in ("mean", "stderr"),
        "it is stated as not a number": not math.isfinite(stated.value),
        "the samples are not in the files": all(task.samples is None for task in over),
        "the samples of some of its tasks are not in the files": missing or any(task.samples is None for task in over),
        "no sample could be read": not all(tally.rows for tally in tallies),
        "the samples do not have this figure": any(not count for count, _, _ in sums),
        "an error needs two samples": stated.kind == "stderr" and sum(count for count, _, _ in sums) < 2,
        "the error of a mean over tasks is not recomputed": stated.kind == "stderr" and stated.per_task,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _recompute(stated: Stated, sums: Sequence[Sequence[float]]) -> float:
    if stated.per_task:
        return stated.scale * sum(total / count for count, total, _ in sums) / len(sums)
    count = sum(counted for counted, _, _ in sums)
    total = sum(total for _, total, _ in sums)
    squares = sum(squares for _, _, squares in sums)
    mean = total / count
    if stated.kind == "mean":
        return stated.scale * mean
    variance = (squares - total * mean) / (count - 1)
    if variance < 0:  # by rounding; NaN, of sums that are infinite, stays
        variance = 0.0
    return stated.scale * math.sqrt(variance / count)


def _tolerance(stated: Stated) -> float:
    if stated.decimals is not None:
        return 0.5000001 * 10.0**-stated.decimals
    # The variance of values that are nearly all alike is a small difference of large sums.
    return RELATIVE_TOLERANCE * max(1.0, abs(stated.value)) * (10 if stated.kind == "stderr" else 1)


def counts(aggregates: Sequence[ComparedAggregate]) -> tuple[int, int, int]:
    """How many agree, differ, and could not be recomputed."""
    found = Counter(aggregate.agrees for aggregate in aggregates)
    return found[True], found[False], found[None]
