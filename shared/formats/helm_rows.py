"""The rows of a HELM run: requests joined with their scores."""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from string import ascii_uppercase
from typing import Any

from shared.formats.harness import Ledger, Sample
from shared.formats.helm_files import (
    Completion,
    Instance,
    Part,
    Request,
    Result,
    Scored,
    predictions_of,
    rows_of,
    scalars,
    text_of,
)
from shared.formats.json_reading import Unreadable
from shared.formats.tree import File
from shared.submission import Status

_Key = tuple[str, int]
"""Instance and training trial."""
_Metrics = dict[_Key, dict[str, float]]
KINDS_MAX = 1000
"""Kinds of rows, by their fields, that are counted before they are told."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a run."""

    files: Mapping[Part, File]
    split: str | None
    metric: str | None
    by_letter: bool
    """Whether the model was shown all choices and names one by its letter."""

    def read(self, ledger: Ledger) -> Iterator[Sample]:
        """The samples, in the order of the requests; then those of which only the scores are there.

        Held in memory are the figures of the split's instances; their texts only where display files stand in.
        """
        metrics, fault = self._read_scores(ledger)
        requests = self._read_requests(ledger) if Part.REQUESTS in self.files else self._read_display(ledger, metrics)
        seen: set[_Key] = set()
        for request in requests:
            key = (request.instance.id, request.train_trial_index)
            own = metrics.get(key, {})
            if request.instance.perturbation:
                ledger.pass_over("perturbed copies of instances")
            elif request.instance.split != self.split:
                ledger.pass_over(f"rows of the {request.instance.split} split")
            elif key in seen:
                # Where each choice is asked about by itself, and calibrated, the figures say what came of all that.
                ledger.pass_over("further requests for the same instance")
            elif own or fault is None:
                seen.add(key)
                yield self._sample(request, own)
        for (id_, trial), own in metrics.items():
            if (id_, trial) not in seen:
                score = own.get(self.metric or "")
                status = Status.UNSCORED if score is None else Status.SCORED
                yield Sample(id=id_, attempt=trial, status=status, score=score, metrics=own)
        if fault is not None:
            raise fault

    def _read_scores(self, ledger: Ledger) -> tuple[_Metrics, Unreadable | None]:
        """The figures, and what is wrong with the file if it breaks off."""
        metrics: _Metrics = {}
        if Part.SCORES not in self.files:
            return metrics, None
        file = self.files[Part.SCORES]
        alone = not self.files.keys() & {Part.REQUESTS, Part.PREDICTIONS}  # else those are counted
        try:
            for number, (_, row) in enumerate(rows_of(file, Scored)):
                if not isinstance(row, Scored):
                    ledger.refuse(f"{file.path}:[{number}]", "it is no row of statistics")
                elif row.perturbation or not any(stat.name.split == self.split for stat in row.stats):
                    if alone and row.stats:
                        ledger.pass_over(
                            "perturbed copies of instances" if row.perturbation else "rows of another split"
                        )
                else:
                    own = metrics.setdefault((row.instance_id, row.train_trial_index), {})
                    for stat in row.stats:
                        name = stat.name
                        if name.perturbation or name.split not in (self.split, None):
                            continue  # a figure of other rows, which would stand in the place of this one's
                        if stat.mean is not None and isfinite(stat.mean):
                            own[sys.intern(stat.name.name)] = stat.mean
        except Unreadable as fault:
            return metrics, fault
        return metrics, None

    def _read_requests(self, ledger: Ledger) -> Iterator[Request]:
        file = self.files[Part.REQUESTS]
        shapes: Counter[tuple[tuple[str, ...], ...]] = Counter()
        try:
            for number, (row, request) in enumerate(rows_of(file, Request, "request_states")):
                if isinstance(request, Request):
                    shapes[_shape(row)] += 1
                    if len(shapes) > KINDS_MAX:
                        _leave(shapes, ledger)
                    yield request
                else:
                    ledger.refuse(f"{file.path}:request_states[{number}]", "it is no request of HELM's")
        finally:
            _leave(shapes, ledger)

    def _read_display(self, ledger: Ledger, metrics: _Metrics) -> Iterator[Request]:
        """Requests as `helm-summarize` repeats them, and their figures where there are no others."""
        if Part.PREDICTIONS not in self.files or Part.INSTANCES not in self.files:
            return
        instances = {
            row.id: row
            for _, row in rows_of(self.files[Part.INSTANCES], Instance)
            if isinstance(row, Instance) and not row.perturbation
        }
        for place, row in predictions_of(self.files):
            instance = instances.get(row.instance_id)
            if row.perturbation:
                ledger.pass_over("perturbed copies of instances")
            elif instance is None:
                ledger.refuse(place, "instances.json does not have its instance")
            else:
                if Part.SCORES not in self.files and instance.split == self.split:
                    told = {name: value for name, value in row.stats.items() if value is not None and isfinite(value)}
                    metrics.setdefault((row.instance_id, row.train_trial_index), told)
                texts = [text_of(reference.output) for reference in instance.references]
                letters = dict(zip(ascii_uppercase, texts, strict=False)) if self.by_letter else None
                result = Result(completions=[Completion(row.predicted_text)])
                yield Request(instance, row.train_trial_index, letters, row.reference_index, result)

    def _sample(self, request: Request, metrics: Mapping[str, float]) -> Sample:
        instance, result = request.instance, request.result
        letters = request.output_mapping
        references = [text_of(reference.output) for reference in instance.references]
        target = [text for text, it in zip(references, instance.references, strict=True) if "correct" in it.tags]
        if letters:
            letter_of = {text: letter for letter, text in reversed(letters.items())}
            target = [letter_of.get(text, text) for text in target]
        choices = list(letters.values()) if letters else references if request.reference_index is not None else []
        score = metrics.get(self.metric or "")
        status = Status.SCORED if score is not None else Status.UNSCORED
        if result is not None and not result.success:
            status, score = Status.ERROR, None
        return Sample(
            id=instance.id,
            attempt=request.train_trial_index,
            status=status,
            score=score,
            answer=_answer(request, references, metrics),
            target=None if not target else target[0] if len(target) == 1 else target,
            question=text_of(instance.input) or None,
            choices=choices,
            latency_ms=None if result is None or result.request_time is None else result.request_time * 1000,
            input_tokens=_whole(metrics.get("num_prompt_tokens")),
            output_tokens=_whole(metrics.get("num_output_tokens", metrics.get("num_completion_tokens"))),
            origin=_instance_origin(instance),
            metrics=metrics,
        )


def _leave(shapes: "Counter[tuple[tuple[str, ...], ...]]", ledger: Ledger) -> None:
    for shape, rows in shapes.items():
        ledger.leave(Counter(dict.fromkeys(_left_paths(shape), rows)))  # a Counter adds its counts
    shapes.clear()


def _answer(request: Request, references: Sequence[str], metrics: Mapping[str, float]) -> str | None:
    """What the model wrote, which is a letter where it was shown choices; the choice, where it was asked about each."""
    if request.reference_index is not None:
        predicted = metrics.get("predicted_index")
        return None if predicted is None or not 0 <= predicted < len(references) else references[round(predicted)]
    if request.result is None or not request.result.completions:
        return None
    return request.result.completions[0].text.strip()


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _instance_origin(instance: Instance) -> dict[str, Any]:
    origin: dict[str, Any] = {}
    if instance.sub_split:
        origin["sub_split"] = instance.sub_split
    if extra := scalars(instance.extra_data):
        origin["extra_data"] = extra
    return {"instance": origin} if origin else {}


_TAKEN = (
    frozenset(["instance", "train_trial_index", "output_mapping", "reference_index", "request_mode", "result"]),
    frozenset(["input", "references", "split", "sub_split", "id", "perturbation", "extra_data"]),
    frozenset(["success", "completions", "request_time", "request_datetime"]),
    frozenset(["text"]),
)
_WHERE = ("", "instance.", "result.", "result.completions.")


def _shape(row: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    """The keys of a request and of what is in it."""
    result = row.get("result") or {}
    completions = result.get("completions") or [{}]
    return (*map(tuple, (row, row["instance"], result, completions[0])), ("several",) * (len(completions) > 1))


def _left_paths(shape: tuple[tuple[str, ...], ...]) -> Iterator[str]:
    for where, keys, taken in zip(_WHERE, shape, _TAKEN, strict=False):
        yield from (f"{where}{key}" for key in keys if key not in taken)
    if shape[-1]:
        yield "result.completions after the first"
