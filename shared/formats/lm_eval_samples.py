"""Samples of lm-evaluation-harness: one line for each document and filter.

**Ids** are the first 16 digits of `doc_hash`, made of the document as the harness makes it where it wrote none.
`doc_id` is only the place in a task's list, and with `--samples` not even that, while the hash stays the same under
other limits, filters and models. Documents that are the same to the letter are attempts at one question.

**Filters**: the rows of one are samples, those of the others give numbers only. They stand in the same order, but whole
blocks apart, so each filter that something is stated of is read by a cursor of its own: nothing is held but what the
cursors are apart.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, TypeAlias

from shared.first_seen import FirstSeen
from shared.formats.harness import Ledger, ReadOptions, Sample
from shared.formats.json_reading import Unreadable, finite_number
from shared.formats.lm_eval_answers import read_answer
from shared.formats.lm_eval_documents import read_document
from shared.submission import Status

PEEKED_ROWS = 50
"""Rows that are looked at to choose filter and metric."""
APART_MAX = 10_000
"""Rows that another filter's cursor may be ahead of the samples."""
KINDS_MAX = 1000
"""Kinds of rows, by their fields, that are counted before they are told: some documents have fields of their own."""
NO_FILTER = "none"
"""What the harness calls the filter of tasks that define none."""

ROW_FIELDS = frozenset(
    {
        *("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"),
        *("doc_hash", "prompt_hash", "target_hash"),
    }
)
TAKEN_FIELDS = frozenset({"doc", "target", "filtered_resps", "filter", "metrics", "doc_hash"})

_NO_PLACE = 2**32 - 1

Lines: TypeAlias = Callable[[], Iterator[tuple[str, Any]]]
"""Reads place and value of each line of a file, or of each element of a list; each call begins anew."""
_Row = dict[str, Any]
_Key = tuple[str, int | str | None]
"""Which document a row is about: its id, and its place."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a task's samples are read; what there is to choose is chosen by `begin`."""

    task: str
    filters: Sequence[str] = ()
    """Those of the task, in the harness's order, as far as it is known."""
    metrics: Sequence[str] = ()
    """Likewise."""
    stated: Mapping[str, float] = field(default_factory=dict)
    """What is stated of each `metric,filter`, on a scale to 1."""
    means: frozenset[str] = frozenset()
    """Those of them that are means: without samples only these could be a score."""
    lower_is_better: frozenset[str] = frozenset()
    rolling: bool = False
    """Whether the target is a whole page, whose likelihood was asked for."""
    lines: Sequence[Lines] = ()
    filter: str = NO_FILTER
    metric: str | None = None
    """The one that is the score; None if none is a number from 0 to 1, where more is better."""

    @property
    def score(self) -> str | None:
        """What the score is called: with its filter, where that is not the first."""
        if self.metric is None or not self.filters or self.filter == self.filters[0]:
            return self.metric
        return f"{self.metric},{self.filter}"

    def samples(self, ledger: Ledger) -> Iterator[Sample]:
        """One for each document, in the order of the files."""
        return _Pass(self, ledger).samples()


def begin(lines: Sequence[Lines], reading: Reading, options: ReadOptions, warnings: list[str]) -> Reading:
    """`reading`, with the filter and the metric that the options, or else the first rows, say."""
    rows = _peek(lines, reading.filters)
    names = tuple(dict.fromkeys([*(name for _, name in rows), *reading.filters])) or (NO_FILTER,)
    chosen = names[0]
    if options.filter is not None:
        if options.filter in names:
            chosen = options.filter
        else:
            warnings.append(
                f"{reading.task}: has no filter {options.filter}, only {', '.join(names)}: {chosen} is taken"
            )
    of_chosen = [row for row, name in rows if name == chosen]
    metrics = tuple(dict.fromkeys([*(name for row in of_chosen[:1] for name in _metrics(row)), *reading.metrics]))
    metric = next((name for name in metrics if _can_score(name, chosen, reading, of_chosen)), None)
    if options.metric is not None:
        wanted = options.metric.removesuffix(f",{chosen}")
        if wanted in metrics:
            metric = wanted
        else:
            warnings.append(f"{reading.task}: has no metric {wanted}, only {', '.join(metrics)}: {metric} is taken")
    return replace(reading, lines=lines, filters=names if rows else reading.filters, filter=chosen, metric=metric)


def _peek(lines: Sequence[Lines], filters: Sequence[str]) -> list[tuple[_Row, str]]:
    rows: list[tuple[_Row, str]] = []
    try:
        for _, row, name in islice(_rows(lines, filters), PEEKED_ROWS):
            if isinstance(row, dict):
                rows.append((row, name))
    except Unreadable:
        pass  # is told when the samples are read
    return rows


def _can_score(metric: str, filter_name: str, reading: Reading, rows: Sequence[_Row]) -> bool:
    stated = reading.stated.get(f"{metric},{filter_name}", reading.stated.get(metric))
    if stated is not None and math.isnan(stated):  # one sample without a number makes the whole mean one
        stated = None
    if metric in reading.lower_is_better or (stated is not None and not 0 <= stated <= 1):
        return False
    if not rows:
        return stated is not None and not reading.means.isdisjoint((metric, f"{metric},{filter_name}"))
    numbers = [number for row in rows if (number := _number(row.get(metric))) is not None]
    return bool(numbers) and all(0 <= number <= 1 for number in numbers)


def _rows(lines: Sequence[Lines], filters: Sequence[str]) -> Iterator[tuple[str, object, str]]:
    """Place, row and filter of each line.

    Older versions did not write the filter: a document's rows are then those of the filters, in their order.
    """
    asked: Counter[_Key | None] = Counter()
    first = filters[0] if filters else NO_FILTER
    for read in lines:
        for place, row in read():
            name = first
            if type(row) is dict:
                said = row.get("filter")
                if said is not None:
                    name = str(said)
                elif len(filters) > 1:
                    key = _key(row)
                    name = filters[asked[key] % len(filters)]
                    asked[key] += 1
            yield place, row, name


def _key(row: _Row) -> _Key | None:
    hashed, place, doc = row.get("doc_hash"), row.get("doc_id"), row.get("doc")
    if not isinstance(place, int | str):
        place = None
    if isinstance(hashed, str) and hashed:
        return hashed[:16], place
    if doc:
        text = json.dumps(doc, indent=2, ensure_ascii=False)  # as the harness does
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16], place
    return None if place is None else (str(place), place)


def _metrics(row: _Row) -> Sequence[str]:
    names = row.get("metrics")
    if isinstance(names, list):
        return [name for name in names if isinstance(name, str)]
    return [name for name in row if name not in ROW_FIELDS]


def _number(value: object) -> float | None:
    kind = type(value)
    if kind is float or kind is int or kind is bool:
        return finite_number(value)
    return None


class _OtherFilter:
    """The numbers in the rows of a filter that is not taken, found by document."""

    def __init__(self, reading: Reading, name: str) -> None:
        self._name = name
        self._rows = self._read(reading)
        self._ahead: dict[_Key | None, dict[str, float]] = {}

    def _read(self, reading: Reading) -> Iterator[tuple[_Key | None, dict[str, float]]]:
        try:
            for _, row, name in _rows(reading.lines, reading.filters):
                if name == self._name and isinstance(row, dict):
                    numbers = ((metric, _number(row.get(metric))) for metric in _metrics(row))
                    yield _key(row), {f"{metric},{name}": number for metric, number in numbers if number is not None}
        except Unreadable:
            return  # is told by whoever reads the samples

    def take(self, key: _Key) -> dict[str, float]:
        found = self._ahead.pop(key, None)
        while found is None and len(self._ahead) < APART_MAX:
            other, numbers = next(self._rows, (None, None))
            if numbers is None:
                break
            if other == key:
                found = numbers
            else:
                self._ahead[other] = numbers
        return found or {}


class _Pass:
    """One time through a task's files."""

    def __init__(self, reading: Reading, ledger: Ledger) -> None:
        self._reading = reading
        self._ledger = ledger
        self._places = FirstSeen()
        self._again: dict[str, set[int]] = {}
        """Places of documents that came more than once."""
        self._left: Counter[tuple[tuple[str, ...], ...]] = Counter()
        stated = {metric.partition(",")[2] for metric in reading.stated if "," in metric}
        self._others = [_OtherFilter(reading, name) for name in reading.filters if name in stated - {reading.filter}]

    def samples(self) -> Iterator[Sample]:
        ledger, taken = self._ledger, self._reading.filter
        if self._reading.metric is None:
            ledger.warn(
                f"{self._reading.task}: no metric is a number from 0 to 1, more being better: samples are unscored"
            )
        try:
            for place, row, name in _rows(self._reading.lines, self._reading.filters):
                if isinstance(row, Unreadable):
                    ledger.refuse(place, "is cut short" if row.reason.endswith("within this line)") else "is not JSON")
                elif not isinstance(row, dict):
                    ledger.refuse(place, "is not an object")
                elif name != taken:
                    ledger.pass_over(f"the same answers under another filter: {name}")
                elif (key := _key(row)) is None:
                    ledger.refuse(place, "has neither doc_hash, doc nor doc_id")
                elif (attempt := self._attempt(key)) is None:
                    ledger.refuse(place, "is there already, by doc_hash and doc_id")
                else:
                    yield self._sample(row, key, attempt)
        finally:
            self._leave()

    def _attempt(self, key: _Key) -> int | None:
        """How many other documents of the same text came before; None if this very one did."""
        text, place = key
        position = place if isinstance(place, int) and 0 <= place < _NO_PLACE else _NO_PLACE
        before = len(self._places)
        first = self._places.setdefault(text, position)
        if len(self._places) > before:
            return 0
        again = self._again.setdefault(text, {first})
        if position != _NO_PLACE and position in again:
            return None
        again.add(position if position != _NO_PLACE else -len(again))
        return len(again) - 1

    def _sample(self, row: _Row, key: _Key, attempt: int) -> Sample:
        reading = self._reading
        names = _metrics(row)
        metrics: dict[str, float] = {}
        dropped = []
        for name in names:
            number = _number(row.get(name))
            if number is None:
                dropped.append(name)
            else:
                metrics[f"{name},{reading.filter}"] = number
        for other in self._others:
            metrics.update(other.take(key))
        document = read_document(row.get("doc"))
        self._left[tuple(row), tuple(names), tuple(dropped), document.dropped] += 1
        if len(self._left) > KINDS_MAX:
            self._leave()
        score = None if reading.metric is None else metrics.get(f"{reading.metric},{reading.filter}")
        if score is not None and not 0 <= score <= 1:
            score = None
        if score is None and reading.metric is not None:
            self._ledger.warn(f"{reading.task}: a sample without a number from 0 to 1 as {reading.metric} is unscored")
        choices, answer, target = read_answer(row, document.choices, metric=reading.metric, rolling=reading.rolling)
        return Sample(
            id=key[0],
            attempt=attempt,
            status=Status.UNSCORED if score is None else Status.SCORED,
            score=score,
            answer=answer,
            target=target,
            question=document.question,
            choices=choices,
            origin={"doc": document.metadata},
            metrics=metrics,
        )

    def _leave(self) -> None:
        """Tell of the fields that had no place: counted by kind of row until now, which is quicker."""
        for (fields, names, dropped, of_document), rows in self._left.items():
            without = [name for name in fields if name not in TAKEN_FIELDS and name not in names]
            left = (*without, *dropped, *(f"doc.{name}" for name in of_document))
            self._ledger.leave(Counter(dict.fromkeys(left, rows)))
        self._left.clear()
