"""EvalScope's reviews, a line for each attempt at a question, in the forms that its versions have written.

Up to 0.x of early 2025 a line was the model's answer as the API gave it, with a `review` in each of its `choices` and
the data set's row as `raw_input`. Since then it has a `sample_score`, beside `input` and later `messages`.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shared.formats.evalscope_prompts import read_prompt
from shared.formats.harness import Ledger, Sample
from shared.formats.json_reading import Unreadable, finite_number, read_lines
from shared.formats.tree import File
from shared.submission import Status

_SHORT = 200
_QUESTION_FIELDS = ("question", "problem", "prompt", "query")
_ANSWER_FIELDS = ("input", "answer", "answerkey", "target", "solution", "canonical_solution", "explanation")
_NOT_METADATA = frozenset({*_QUESTION_FIELDS, *_ANSWER_FIELDS, "reasoning", "rationale", "test", *"abcdefghij"})
"""Fields of a data set's row that are its question, its options or its answer, in small letters."""
_TAKEN_FIELDS = frozenset({*_QUESTION_FIELDS, "choices", "options", "answer", "answerkey", "target", *"abcdefghij"})
"""Those that a sample's question, choices and target are, or are the same as."""
_TAKEN = frozenset({"index", "target", "messages", "input", "sample_score"})
_TAKEN_OF_OLD = frozenset(
    {"index", "choices", "raw_input", "usage", "model", "created", "subset_name", "reviewer_spec"}
)
"""Members of a line that something is made of."""
_SAME_METRIC = {"acc": "accuracy", "average_accuracy": "accuracy", "f1_score": "f1", "em": "exact_match"}
_NO_CHOICES: Sequence[str] = ()
_NO_REVIEW = "is no review that EvalScope writes"

Usage = tuple[int | None, int | None, float | None]
"""Input tokens, output tokens, milliseconds."""


def metric_name(text: str) -> str:
    """The one name for a metric whose spelling differs between reviews and reports (`acc`, `AverageAccuracy`)."""
    snake = re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text).lower()).strip("_")
    return _SAME_METRIC.get(snake, snake)


def is_review(row: object) -> bool:
    """Whether a line is a review of either form."""
    match row:
        case {"sample_score": {"score": {"value": dict()}}}:
            return True
        case {"raw_input": _, "choices": [{"review": dict()}, *_]}:
            return True
    return False


def is_prediction(row: object) -> bool:
    """Whether a line is a prediction of either form, which has no score yet."""
    match row:
        case {"index": _, "model": str(), "model_output": _}:
            return True
        case {"raw_input": _, "answer_id": _, "choices": [dict(), *_]}:
            return not is_review(row)
    return False


def first_row(file: File) -> dict[str, Any]:
    """The first line that can be read as an object; {} if there is none."""
    try:
        return next((row for _, row in read_lines(file) if isinstance(row, dict)), {})
    except Unreadable:
        return {}


def model_of(row: Mapping[str, Any]) -> str | None:
    """The model that a review or a prediction says it is of."""
    model = row.get("model") or next((m.get("model") for m in reversed(_messages(row)) if m.get("model")), None)
    return model if isinstance(model, str) else None


def metrics_of(row: Mapping[str, Any]) -> tuple[list[str], frozenset[str]]:
    """Names of a review's metrics, the main one first, and those of them that are means over parts of the answer.

    Reports of the old form count each part (IFEval's instructions) once, not each answer.
    """
    if is_review(row) and "sample_score" in row:
        score = row["sample_score"]["score"]
        names = [metric_name(name) for name in score["value"]]
        main = metric_name(str(score.get("main_score_name") or ""))
        return sorted(names, key=lambda name: name != main), frozenset()
    for choice in row.get("choices", ()) if is_review(row) else ():
        results = _old_results(row, choice["review"].get("result"))
        return list(results), frozenset(name for name, value in results.items() if isinstance(value, list))
    return [], frozenset()


def read_reviews(
    reviews: File, predictions: File | None, metric: str | None, scales: Mapping[str, float], ledger: Ledger
) -> Iterator[Sample]:
    """The samples in a file of reviews, in its order; `metric` is the score, `scales` what a full score is
    of the metrics where it is not 1.

    Tokens and time are looked up in `predictions` where the reviews do not tell them. Unreadable if a file ends midway.
    """
    attempts: Counter[str] = Counter()
    seen: set[str] = set()
    usage: Mapping[str, Usage] | None = None
    for place, row in read_lines(reviews):
        if isinstance(row, Unreadable):
            ledger.refuse(place, "is not JSON")
        elif not is_review(row):
            ledger.refuse(place, _NO_REVIEW)
        elif (key := _row_id(row)) is None:
            ledger.refuse(place, "says neither index nor sample_id")
        elif key in seen:
            ledger.refuse(place, "is a second review of the same sample; the first was taken")
        elif "sample_score" not in row:
            seen.add(key)
            yield from _old_samples(row, key, metric, scales, ledger)
        else:
            seen.add(key)
            told = _usage_of_messages(row)
            if told is None and predictions is not None:
                usage = _read_usage(predictions, ledger) if usage is None else usage
                told = usage.get(key)
            yield _sample(row, key, told or (None, None, None), attempts, metric, scales, ledger)


def _sample(
    row: dict[str, Any],
    key: str,
    usage: Usage,
    attempts: Counter[str],
    metric: str | None,
    scales: Mapping[str, float],
    ledger: Ledger,
) -> Sample:
    scored = row["sample_score"]
    score = scored["score"]
    group = key if scored.get("group_id") is None else str(scored["group_id"])
    position = scored.get("generation_index")
    if type(position) is not int:
        # Before positions were written, the order of the lines was all there was to tell attempts apart.
        position = attempts[group]
        attempts[group] += 1
    metrics = _metrics({metric_name(name): value for name, value in score["value"].items()}, scales)
    chosen = metrics.get(metric) if metric else None
    metadata = _object(scored.get("sample_metadata"))
    short, left = _split(metadata, "sample_metadata")
    question, choices = _question_in(metadata), _NO_CHOICES
    if question is None and (asked := _asked(row)) is not None:
        question, choices = read_prompt(asked)
    left += [name for name, value in row.items() if value and name not in _TAKEN]
    left += [f"score.{name}" for name in ("explanation", "metadata", "judge_summary") if score.get(name)]
    ledger.leave(left)
    return Sample(
        id=group,
        attempt=position,
        status=_status(chosen, score.get("status")),
        score=chosen,
        answer=score.get("extracted_prediction") or score.get("prediction"),
        target=_target(row.get("target")),
        question=question,
        choices=choices,
        input_tokens=usage[0],
        output_tokens=usage[1],
        latency_ms=usage[2],
        origin={"metadata": short} if short else {},
        metrics=metrics,
    )


def _old_samples(
    row: dict[str, Any], key: str, metric: str | None, scales: Mapping[str, float], ledger: Ledger
) -> Iterator[Sample]:
    source = _object(row["raw_input"])
    short, left = _split(source, "raw_input")
    left += [name for name, value in row.items() if value and name not in _TAKEN_OF_OLD]
    tokens = _object(row.get("usage"))
    question = _question_in(source) or _text(source.get("input"))
    one = len(row["choices"]) == 1
    for attempt, choice in enumerate(row["choices"]):
        review = _object(choice).get("review")
        if not isinstance(review, dict):
            ledger.refuse(f"sample {key}, choice {attempt}", "has no review")
            continue
        results = _old_results(row, review.get("result"))
        metrics = _metrics(results, scales)
        chosen = metrics.get(metric) if metric else None
        gold = review.get("gold")
        ledger.leave([*left, "review.gold"] if isinstance(gold, dict) else left)
        yield Sample(
            id=key,
            attempt=attempt,
            status=_status(chosen, None),
            score=chosen,
            answer=review.get("pred") or _object(choice.get("message")).get("content"),
            target=None if isinstance(gold, dict) else _target(gold),
            question=question,
            choices=_options(source),
            # One count for all choices together: it is nobody's if there are several.
            input_tokens=_count(tokens.get("prompt_tokens")) if one else None,
            output_tokens=_count(tokens.get("completion_tokens")) if one else None,
            origin={"metadata": short} if short else {},
            metrics=metrics,
        )


def _old_results(row: Mapping[str, Any], result: object) -> dict[str, Any]:
    """Results by metric: one that has no name of its own is the reviewer's."""
    if isinstance(result, dict):
        return {metric_name(name): value for name, value in result.items()}
    match row.get("reviewer_spec"):
        case {"metric": [str() as name, *_]} | {"metric": str() as name}:
            return {metric_name(name): result}
    return {"accuracy": result}


def _row_id(row: Mapping[str, Any]) -> str | None:
    for value in (_object(row.get("sample_score")).get("sample_id"), row.get("index")):
        if isinstance(value, int | str):
            return str(value)
    return None


def _read_usage(predictions: File, ledger: Ledger) -> Mapping[str, Usage]:
    """Tokens and time by index: predictions stand in another order than reviews. Some 200 bytes are held for each."""
    found: dict[str, Usage] = {}
    try:
        for _, row in read_lines(predictions):
            match row:
                case {"index": int() | str() as index, "model_output": dict() as output}:
                    usage = _object(output.get("usage"))
                    latency = output.get("time") or _object(output.get("perf_metrics")).get("latency")
                    found[str(index)] = (
                        _count(usage.get("input_tokens")),
                        _count(usage.get("output_tokens")),
                        _milliseconds(latency),
                    )
    except Unreadable as error:
        ledger.warn(f"tokens and time are missing where the predictions cannot be read: {error}")
    return found


def _usage_of_messages(row: Mapping[str, Any]) -> Usage | None:
    """The sums over the model's turns; None if no turn has any."""
    turns = [turn for message in _messages(row) if (turn := _object(message.get("perf_metrics")))]
    if not turns:
        return None

    def total(name: str) -> float | None:
        numbers = [number for turn in turns if (number := finite_number(turn.get(name))) is not None]
        return sum(numbers) if numbers else None

    return _count(total("input_tokens")), _count(total("output_tokens")), _milliseconds(total("latency"))


def _messages(row: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    messages = row.get("messages")
    return [message for message in messages if isinstance(message, dict)] if isinstance(messages, list) else []


def _asked(row: Mapping[str, Any]) -> str | None:
    """What the user said last before the model spoke. EvalScope keeps the question only with its instructions."""
    asked = None
    for message in _messages(row):
        if message.get("role") == "assistant":
            break
        if message.get("role") == "user":
            asked = message.get("content")
    if isinstance(asked, list):
        parts = [part.get("text") for part in asked if isinstance(part, dict)]
        asked = "\n".join(part for part in parts if isinstance(part, str))
    if asked is None and isinstance(row.get("input"), str):
        asked = row["input"].rpartition("**User**:")[2].strip()
    return _text(asked)


def _split(fields: Mapping[str, Any], prefix: str) -> tuple[dict[str, Any], list[str]]:
    """What of a data set's row may be metadata, and the names of the rest."""
    short: dict[str, Any] = {}
    left = []
    for name, value in fields.items():
        known = name.lower() in _NOT_METADATA
        if not known and (isinstance(value, int | float) or (isinstance(value, str) and 0 < len(value) <= _SHORT)):
            short[name] = value
        elif value not in (None, "", [], {}) and name.lower() not in _TAKEN_FIELDS:
            left.append(f"{prefix}.{name}")
    return short, left


def _question_in(fields: Mapping[str, Any]) -> str | None:
    """The question in a data set's row, whether its fields are written in small or in large letters."""
    by_name = {name.lower(): value for name, value in fields.items()}
    return next((text for name in _QUESTION_FIELDS if (text := _text(by_name.get(name))) is not None), None)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _options(source: Mapping[str, Any]) -> list[str]:
    match source.get("choices", source.get("options")):
        case {"text": [*options]} | [*options]:
            return [option for option in options if isinstance(option, str)]
    return [source[letter] for letter in "ABCDEFGHIJ" if isinstance(source.get(letter), str)]


def _target(value: object) -> object:
    if isinstance(value, list) and len(value) == 1:
        return value[0]
    return None if value in ("", []) else value


def _status(score: float | None, said: object) -> Status:
    if score is not None:
        return Status.SCORED
    return Status.ERROR if said == "transport_error" else Status.UNSCORED


def _metrics(values: Mapping[str, Any], scales: Mapping[str, float]) -> dict[str, float]:
    """The numbers among the values, on a scale to 1; of a list, one number for each part of the answer, its mean."""
    found = {}
    for name, value in values.items():
        parts = value if isinstance(value, list) else [value]
        numbers = [number for part in parts if (number := finite_number(part)) is not None]
        if numbers:
            found[name] = sum(numbers) / len(numbers) / scales.get(name, 1.0)
    return found


def _object(value: Any) -> Mapping[str, Any]:  # noqa: ANN401
    """The value if it is an object, else an empty one: what stands where an object is expected may be anything."""
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int | None:
    number = finite_number(value)
    return int(number) if number is not None and number >= 0 else None


def _milliseconds(seconds: object) -> float | None:
    number = finite_number(seconds)
    return None if number is None or number < 0 else number * 1000
