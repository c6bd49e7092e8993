"""One sample of an Inspect evaluation as ours. Pure: what was logged and what a running evaluation hands over alike."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from shared.formats.harness import Ledger, Sample
from shared.submission import Status

TEXT_MAX = 200
"""Characters of a text that could be metadata."""

USED = frozenset({
    "id", "epoch", "input", "choices", "target", "output", "score", "scores", "metadata", "model_usage", "total_time",
    "working_time", "error", "limit", "invalidation", "attachments", "error_retries",
})  # fmt: skip
"""The fields of a sample that have a place."""
FLAGS = frozenset({"error", "limit", "invalidation", "error_retries"})
"""Those of them, and all others, need no value, only to be true where there is something in it."""

_ATTACHMENT = "attachment://"
# Inspect's value_to_float: letters as they are, words in any case.
_LETTERS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
_WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
_CUT_SHORT = ("max_tokens", "model_length")
_SCORE_FIELDS = ("explanation", "metadata", "history")


@dataclass(frozen=True, slots=True)
class Scoring:
    """What of a log's head its samples are read by."""

    model: str
    """The evaluated one: tokens of others, such as graders, are not counted."""
    scorer: str | None = None
    """Whose score is the sample's; None for the first."""
    key: str | None = None
    """Which number of it, where a scorer gives several; None for the first."""

    @property
    def metric(self) -> str | None:
        """The name of the score among `Sample.metrics`, as far as it is known without a sample."""
        return f"{self.scorer}.{self.key}" if self.scorer and self.key else self.scorer

    def settled(self, sample: Mapping[str, Any]) -> "Scoring | None":
        """The same with what it leaves open taken from a sample, for all that follow it; None if it has no score."""
        scores = _scores(sample, self)
        name = self._name_in(scores)
        value = scores[name].get("value") if name is not None else None
        if value is None:
            return None
        key = next(iter(value), None) if self.key is None and isinstance(value, dict) else self.key
        return replace(self, scorer=self.scorer or name, key=key)

    def _name_in(self, scores: Mapping[str, Any]) -> str | None:
        if self.scorer is None:
            return next(iter(scores), None)
        if self.scorer in scores:
            return self.scorer
        # A log's head may name a scorer with its package, which its samples leave out.
        bare = self.scorer.rpartition("/")[2]
        return bare if bare in scores else None

    def main_score(self, scores: Mapping[str, Any]) -> tuple[str | None, Mapping[str, Any]]:
        """The metric's name and the whole score; None and an empty one where a sample has none."""
        name = self._name_in(scores)
        if name is None:
            return None, {}
        score = scores[name]
        value = score.get("value")
        if isinstance(value, dict):
            return f"{name}.{next(iter(value), None) if self.key is None else self.key}", score
        return name, score


def sample_of(sample: Mapping[str, Any], scoring: Scoring, ledger: Ledger) -> Sample:
    """An `EvalSample`, as JSON writes it, as one of ours. ValueError if it is none.

    What has no place is told to the ledger. The main score becomes `score`, on whatever scale the scorer has; every
    number goes into `metrics`, named `scorer`, or `scorer.key` where a scorer gives several.
    """
    number, epoch = sample.get("id"), sample.get("epoch")
    if type(number) not in (str, int) or (epoch is not None and type(epoch) is not int):
        raise ValueError("is no sample of Inspect: an id and an epoch are expected")
    scores = _scores(sample, scoring)
    metrics = _metrics(scores)
    name, main = scoring.main_score(scores)
    score = metrics.get(name) if name is not None else None
    _check_score(name, main.get("value"), score, ledger)
    output = _object(sample.get("output"))
    status = _status(sample, main, score, output, ledger)
    texts = _object(sample.get("attachments"))
    tokens = _usage(sample, output, scoring.model)
    metadata = _object(sample.get("metadata"))
    origin = {key: value for key, value in metadata.items() if is_short(value)}
    _leave(sample, scores, metadata, origin, ledger)
    seconds = sample.get("working_time")
    if seconds is None:
        seconds = sample.get("total_time")
    answer = main.get("answer")
    target = sample.get("target")
    if isinstance(target, list):
        target = target[0] if len(target) == 1 else target or None
    choices = sample.get("choices")
    return Sample(
        id=str(number),
        attempt=max(epoch - 1, 0) if epoch is not None else 0,
        status=status,
        score=score if status is Status.SCORED else None,
        answer=_resolved(answer if answer is not None else _completion(output), texts),
        target=_resolved(target, texts),
        question=_question(sample.get("input"), texts),
        choices=[str(_resolved(choice, texts)) for choice in choices] if isinstance(choices, list) else (),
        latency_ms=round(seconds * 1000, 3) if _is_amount(seconds) else None,
        input_tokens=tokens[0],
        output_tokens=tokens[1],
        cost_usd=tokens[2],
        origin={"metadata": origin} if origin else {},
        metrics=metrics,
    )


def number_of(value: object) -> float | None:
    """A score's value as Inspect's own metrics read it; None where it is none, which is how NaN says "unscored"."""
    if isinstance(value, str):
        known = _LETTERS.get(value)
        if known is None:
            known = _WORDS.get(value.lower())
        if known is not None:
            return known
    elif not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def is_short(value: object) -> bool:
    """Whether a value could be metadata: a number, a boolean, or a text of at most `TEXT_MAX` characters."""
    if isinstance(value, str):
        return len(value) <= TEXT_MAX
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def _scores(sample: Mapping[str, Any], scoring: Scoring) -> Mapping[str, Any]:
    scores = sample.get("scores")
    if scores is None and sample.get("score") is not None:  # before there could be several
        scores = {scoring.scorer or "score": sample["score"]}
    if not isinstance(scores, dict):
        return {}
    return scores if all(type(score) is dict for score in scores.values()) else {}


def _metrics(scores: Mapping[str, Any]) -> dict[str, float]:
    metrics = {}
    for name, score in scores.items():
        value = score.get("value")
        if isinstance(value, dict):
            for key, inner in value.items():
                if (number := number_of(inner)) is not None:
                    metrics[f"{name}.{key}"] = number
        elif (number := number_of(value)) is not None:
            metrics[name] = number
    return metrics


def _check_score(name: str | None, value: object, score: float | None, ledger: Ledger) -> None:
    if score is None:
        # A missing value and NaN are how a scorer says that it gave none.
        if value is not None and not isinstance(value, float | dict):
            ledger.warn(f"a value of the score {name!r} is neither a number nor one of C, I, P, N, yes, no: unscored")
    elif not 0 <= score <= 1:
        ledger.warn(f"the score {name!r} goes beyond 0 to 1: kept as it is; the benchmark's scale has to hold it")


def _status(
    sample: Mapping[str, Any], main: Mapping[str, Any], score: float | None, output: Mapping[str, Any], ledger: Ledger
) -> Status:
    if sample.get("error_retries"):
        ledger.warn("a sample was tried again after an error: the last try is taken")
    if sample.get("invalidation"):
        ledger.warn("a sample was invalidated: taken without its score")
        return Status.UNSCORED
    if score is not None:
        return Status.SCORED
    if sample.get("error"):
        return Status.ERROR
    choices = output.get("choices")
    stop = _object(choices[0]).get("stop_reason") if isinstance(choices, list) and choices else None
    if stop == "content_filter" or main.get("reason") == "refusal":
        return Status.REFUSED
    if stop in _CUT_SHORT or sample.get("limit"):
        return Status.TRUNCATED
    return Status.UNSCORED


def _usage(
    sample: Mapping[str, Any], output: Mapping[str, Any], model: str
) -> tuple[int | None, int | None, float | None]:
    """Input tokens with cached ones, output tokens with reasoning, dollars: of the evaluated model alone."""
    usages = _object(sample.get("model_usage"))
    usage = _object(usages.get(model) or output.get("usage"))
    asked, answered = usage.get("input_tokens"), usage.get("output_tokens")
    if not _is_count(asked) or not _is_count(answered):
        return None, None, None
    # Some providers count cached and reasoning tokens within these two, others beside them: the total tells.
    total = usage.get("total_tokens")
    rest = total - asked - answered if _is_count(total) else 0
    if rest > 0:
        cached = sum(filter(_is_count, (usage.get("input_tokens_cache_read"), usage.get("input_tokens_cache_write"))))
        if cached <= rest:
            asked, rest = asked + cached, rest - cached
        reasoning = usage.get("reasoning_tokens")
        if _is_count(reasoning) and reasoning <= rest:
            answered += reasoning
    cost = usage.get("total_cost")
    return asked, answered, cost if _is_amount(cost) else None


def _leave(
    sample: Mapping[str, Any],
    scores: Mapping[str, Any],
    metadata: Mapping[str, Any],
    origin: Mapping[str, Any],
    ledger: Ledger,
) -> None:
    left = [key for key, value in sample.items() if value and key not in USED]
    if len(metadata) > len(origin):
        left += [f"metadata.{key}" for key, value in metadata.items() if key not in origin and value is not None]
    if scores:
        left += [f"scores.{key}" for key in _SCORE_FIELDS if any(score.get(key) for score in scores.values())]
    ledger.leave(left)


def _completion(output: Mapping[str, Any]) -> str | None:
    text = output.get("completion")
    if text is None:  # older logs have it in the message alone
        choices = output.get("choices")
        first = _object(choices[0]) if isinstance(choices, list) and choices else {}
        text = _content(_object(first.get("message")).get("content"))
    return text if isinstance(text, str) and text else None


def _question(asked: object, texts: Mapping[str, Any]) -> str | None:
    """The input's text: of messages, the last of the user's."""
    if isinstance(asked, list):
        users = [message for message in asked if _object(message).get("role") == "user"]
        content = users[-1].get("content") if users else None
        if isinstance(content, list):
            content = [{**part, "text": _resolved(part.get("text"), texts)} for part in content if type(part) is dict]
        asked = _content(content)
    resolved = _resolved(asked, texts)
    return resolved if isinstance(resolved, str) else None


def _content(content: object) -> str | None:
    """The text of a message's content, which is one text or several parts."""
    if isinstance(content, list):
        parts = [_object(part).get("text") for part in content]
        return "\n".join(part for part in parts if isinstance(part, str)) or None
    return content if isinstance(content, str) else None


def _resolved(value: Any, texts: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """A text that stands among the attachments, where `value` only refers to it."""
    if isinstance(value, str) and value.startswith(_ATTACHMENT):
        return texts.get(value.removeprefix(_ATTACHMENT), value)
    if isinstance(value, list):
        return [_resolved(item, texts) for item in value]
    return value


def _object(value: Any) -> Mapping[str, Any]:  # noqa: ANN401
    return value if isinstance(value, dict) else {}


def _is_count(value: Any) -> TypeGuard[int]:  # noqa: ANN401
    return type(value) is int and value >= 0


def _is_amount(value: Any) -> TypeGuard[float]:  # noqa: ANN401
    return type(value) in (int, float) and 0 <= value < math.inf
