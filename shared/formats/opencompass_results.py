"""What is in a results file of OpenCompass: figures in percent, and the details of each question.

The details are a list, one element a question with a value for each replica (`example_abbr`), or the older objects by
index (`{"type": "GEN", "0": {…}}`) and plain lists. They are read one by one.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.formats.harness import Ledger, Sample
from shared.formats.json_reading import Unreadable, finite_number, read_file, read_members
from shared.formats.tree import File
from shared.submission import Status

_CORRECT = ("correct", "is_correct", "cascade_correct")
_ANSWERS = ("pred", "predictions", "prediction", "extracted_answer")
_TARGETS = ("answer", "references", "reference", "refr", "ref", "gold", "target")
_TAKEN = frozenset({*_CORRECT, *_ANSWERS, *_TARGETS, "example_abbr"})
_MAIN_METRICS = (
    "score",
    "auc_score",
    "accuracy",
    "humaneval_pass@1",
    "rouge1",
    "avg_toxicity_score",
    "bleurt_diff",
    "matthews_correlation",
    "truth",
    "f1",
    "exact_match",
    "extract_rate",
)
"""In the order in which OpenCompass's own summary takes a data set's metric."""
_NO_METRICS = ("bp", "sys_len", "ref_len", "type")
_RUNS = re.compile(r"(?P<name>.+) \((?P<runs>\d{1,9}) runs average\)")
_RUNS_MAX = 10_000
"""Times that a question was asked; beyond that it is nothing that anybody did."""
_SHORT = 200
_POSITION_DIGITS = 16


@dataclass(slots=True)
class Results:
    """A results file without its details."""

    numbers: dict[str, float] = field(default_factory=dict)
    """Every figure, by the name that the file has for it."""
    rows: int = 0
    """How many details there are."""
    answers: int = 0
    """How many answers those are of."""
    scored: bool = False
    """Whether any of them says if an answer was right."""
    per_question: list[str] = field(default_factory=list)
    """The figures that each question has one of, such as G-Pass@4_0.5."""
    dataset: str | None = None
    model: str | None = None
    error: str | None = None
    """Why OpenCompass could not score it."""
    cut: str | None = None
    """Why it cannot be read to the end."""
    station: bool = False

    @property
    def replicas(self) -> int:
        """How often each question was asked."""
        runs = (int(match["runs"]) for name in self.numbers if (match := _RUNS.fullmatch(name)))
        return max((number for number in runs if number <= _RUNS_MAX), default=1)

    @property
    def metrics(self) -> list[str]:
        """The names of its figures, without how many runs they are means of."""
        return [self.plain_name(name) for name in self.numbers if name not in _NO_METRICS]

    def plain_name(self, label: str) -> str:
        """A figure's name without how many runs it is the mean of."""
        match = _RUNS.fullmatch(label)
        return match["name"] if match else label

    def metric(self, asked: str | None) -> str | None:
        """The one that is the score: that asked for, else the one that OpenCompass's summary takes."""
        # What is said of each answer is whether it is right: no other figure's part, unless each question has one.
        if asked in self.metrics and (asked in self.per_question or not self.scored):
            return asked
        # G-Pass@k and the figures of subdivisions are made of the same answers, and no score of theirs.
        named = [name for name in self.metrics if name not in self.per_question and "/" not in name]
        return min(named, key=_rank, default=None)


def outline(file: File, *, station: bool = False) -> Results:
    """What a results file says, its details only counted; `station` if it is one of a result station.

    Of a file that is cut short, what stands before that. Unreadable if it is a station's.
    """
    result = Results(station=station)
    try:
        for key, inner, value in _members(file, station):
            _note(result, key, inner, value)
    except Unreadable as error:
        if station:
            raise
        result.cut = error.reason
    return result


def _note(result: Results, key: str | int, inner: str | int | None, value: Any) -> None:  # noqa: ANN401
    if key == "cfg" and result.station:
        result.model, result.dataset = _abbr(value, "models"), _abbr(value, "datasets")
    elif key == "details":
        if inner is not None and isinstance(value, dict):
            _count(result, value)
    elif key == "error":
        result.error = str(value)[:_SHORT]
    elif not isinstance(value, bool) and (figure := finite_number(value)) is not None:
        result.numbers[str(key)] = figure


def is_detail(value: object) -> bool:
    """Whether a value is the detail of a question, in any of the forms."""
    if not isinstance(value, dict):
        return False
    flagged, answered = (any(name in value for name in names) for names in (_CORRECT, _ANSWERS))
    return "example_abbr" in value or (answered and (flagged or any(name in value for name in _TARGETS)))


def read_details(
    file: File, result: Results, metric: str | None, predictions: Sequence[File], ledger: Ledger
) -> Iterator[Sample]:
    """The samples in a results file, in its order, a question's replicas together. Unreadable if it ends midway.

    What each was asked is not among them: a prompt holds instructions, examples and the model's own template.
    """
    told = _Predictions(predictions, ledger)
    size = max(1, result.rows // result.replicas)
    for key, inner, detail in _members(file, result.station):
        if key != "details" or inner is None or inner == "type":
            continue
        place = f"{file.path}:details[{inner}]"
        if not isinstance(detail, dict) or not str(inner).isdecimal():
            ledger.refuse(place, "is no detail of a question")
            continue
        position = int(inner) if len(str(inner)) < _POSITION_DIGITS else -1
        if position < 0:
            ledger.refuse(place, "has no position that a data set has")
            continue
        figures = {
            name: figure for name in result.per_question if (figure := finite_number(detail.get(name))) is not None
        }
        ledger.leave(f"details.{name}" for name in detail if name not in _TAKEN and name not in figures)
        runs = _runs(detail, result)
        if runs is None:  # one element an answer: all questions of the first replica, then all of the second
            yield _sample(str(position % size), position // size, detail, metric, figures, told.of(position))
            continue
        for run in range(runs):
            # Predictions stand in that order, whatever the details do.
            prediction = told.of(run * result.rows + position)
            yield _sample(_question_id(detail, position), run, _of_run(detail, run, runs), metric, figures, prediction)


def _runs(detail: Mapping[str, Any], result: Results) -> int | None:
    """How many replicas a detail has lists of; None if it is of one answer."""
    flag = _first(detail, _CORRECT)
    if isinstance(flag, list):
        return len(flag)
    return result.replicas if "example_abbr" in detail else None


def _sample(
    question: str,
    attempt: int,
    values: Mapping[str, Any],
    metric: str | None,
    figures: Mapping[str, float],
    told: "_Told",
) -> Sample:
    right = finite_number(_first(values, _CORRECT))
    score = figures.get(metric, right) if metric else right
    target = _first(values, _TARGETS)
    target = told.gold if target is None else target
    return Sample(
        id=question,
        attempt=attempt,
        status=Status.UNSCORED if score is None else Status.SCORED,
        score=score,
        answer=_first(values, _ANSWERS),
        target=target[0] if isinstance(target, list) and len(target) == 1 else target,
        input_tokens=told.input_tokens,
        output_tokens=told.output_tokens,
        metrics=figures if score is None else {metric or "accuracy": score, **figures},
    )


@dataclass(frozen=True, slots=True)
class _Told:
    """What a prediction adds to its detail."""

    gold: Any = None
    input_tokens: int | None = None
    output_tokens: int | None = None


_NOTHING = _Told()


class _Predictions:
    """Gold answers and token counts of predictions by their index; the outputs themselves are not held."""

    def __init__(self, files: Sequence[File], ledger: Ledger) -> None:
        self._files = files
        self._ledger = ledger
        self._told: dict[int, _Told] | None = None

    def of(self, index: int) -> _Told:
        """What is told of one prediction."""
        if self._told is None:
            self._told = dict(self._read())
        return self._told.get(index, _NOTHING)

    def _read(self) -> Iterator[tuple[int, _Told]]:
        before = 0
        for file in self._files:
            count = 0
            try:
                with file.open() as stream:
                    for key, _, value in read_members(stream, file.path):
                        count += 1
                        if not isinstance(value, dict) or not str(key).isdecimal() or len(str(key)) > _POSITION_DIGITS:
                            continue
                        gold = value.get("gold")
                        short = isinstance(gold, int | float) or (isinstance(gold, str) and len(gold) <= _SHORT)
                        told = _Told(
                            gold if short else None,
                            _tokens(value.get("all_input_length")),
                            _tokens(value.get("res_length")),
                        )
                        if told != _NOTHING:
                            yield before + int(str(key)), told
            except Unreadable as error:
                self._ledger.warn(f"gold answers and tokens are missing where predictions cannot be read: {error}")
            before += count  # a shard counts from 0 again


def _members(file: File, station: bool) -> Iterator[tuple[str | int, str | int | None, Any]]:
    """The members of a results file, its details one by one. A station's file is held as a whole."""
    if not station:
        with file.open() as stream:
            yield from read_members(stream, file.path, into={"details"})
        return
    value = read_file(file)
    results = value.get("results") if isinstance(value, dict) else None
    if not isinstance(results, dict):
        raise Unreadable(file.path, "has no results")
    yield "cfg", None, value.get("cfg")
    for key, member in results.items():
        if key == "details" and isinstance(member, list | dict):
            pairs = enumerate(member) if isinstance(member, list) else member.items()
            for inner, detail in pairs:
                yield key, inner, detail
        else:
            yield key, None, member


def _count(result: Results, detail: Mapping[str, Any]) -> None:
    result.rows += 1
    result.scored |= _first(detail, _CORRECT) is not None
    result.answers += _runs(detail, result) or 1
    if result.rows == 1:
        result.per_question = [name for name in detail if name.lstrip("m").startswith("G-Pass@")]
        abbr = detail.get("example_abbr")
        if isinstance(abbr, str) and result.dataset is None:
            result.dataset = abbr.rpartition("_")[0].removesuffix("_test") or None


def _question_id(detail: Mapping[str, Any], position: int) -> str:
    """The question's number in the data set, which `example_abbr` ends with."""
    number = str(detail.get("example_abbr", "")).rpartition("_")[2]
    return number if number.isdecimal() else str(position)


def _of_run(detail: Mapping[str, Any], run: int, runs: int) -> dict[str, Any]:
    """The values of one replica: each field has a list of them."""
    return {
        name: value[run] if isinstance(value, list) and len(value) == runs else value for name, value in detail.items()
    }


def _rank(name: str) -> int:
    return _MAIN_METRICS.index(name) if name in _MAIN_METRICS else len(_MAIN_METRICS)


def _abbr(config: object, of: str) -> str | None:
    match config:
        case {**parts}:
            match parts.get(of):
                case {"abbr": str() as abbr}:
                    return abbr or None
    return None


def _first(values: Mapping[str, Any], names: Sequence[str]) -> Any:  # noqa: ANN401
    return next((values[name] for name in names if values.get(name) is not None), None)


def _tokens(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
