"""Answers of lm-evaluation-harness: what a model wrote, or which text it found likely.

Those of multiple choice are letters, as are their targets: the choice with the greatest likelihood, by length for the
metrics `acc_norm` and `acc_bytes`. Where the likelihood of one text was asked for, that text is the answer if the model
would have written it; if not, nobody knows what it would have.
"""

from collections.abc import Mapping, Sequence
from typing import Any


def read_answer(
    row: Mapping[str, Any], choices: tuple[str, ...], *, metric: str | None, rolling: bool
) -> tuple[tuple[str, ...], object, object]:
    """Choices, answer and target of a row, by what is known of its document's choices and of its task.

    The choices are those texts whose likelihood was asked for, where the document names none.
    """
    responses, target = row.get("filtered_resps"), row.get("target")
    if type(target) in (int, float):  # as it is before the harness writes it to a file
        target = str(target)
    if not isinstance(responses, list) or not responses:
        return choices, None, target
    if not _is_likelihood(responses[0]):
        answer = responses[0]
        if isinstance(answer, list) and len(answer) == 1:
            answer = answer[0]
        return choices, answer, None if rolling else target
    if len(responses) == 1:
        return choices, target if str(responses[0][1]) == "True" else None, target
    texts = _continuations(row)
    if not choices and len(set(texts)) == len(responses):
        choices = tuple(text.strip() for text in texts)
    if len(responses) == 2 * len(choices):
        responses = responses[: len(choices)]  # the rest is without the question, for acc_mutual_info
    best = _best(responses, texts, metric)
    if best is None or len(choices) != len(responses):
        return choices, None if best is None else str(best), target
    return choices, _letter(best), _target_letter(target, choices, texts)


def _is_likelihood(response: object) -> bool:
    return isinstance(response, list) and len(response) == 2 and str(response[1]) in ("True", "False")


def _continuations(row: Mapping[str, Any]) -> list[str]:
    """The texts whose likelihood was asked for."""
    arguments = row.get("arguments")
    if isinstance(arguments, dict):
        asked = [each.get("arg_1") for each in arguments.values() if isinstance(each, dict)]
    else:  # before v0.4.3 lists of two
        lists = arguments if isinstance(arguments, list) else []
        asked = [each[1] for each in lists if isinstance(each, list) and len(each) == 2]
    return [text for text in asked if isinstance(text, str)]


def _best(responses: Sequence[object], texts: Sequence[str], metric: str | None) -> int | None:
    try:
        values = [float(response[0]) for response in responses]  # type: ignore[index]
        if metric == "acc_norm" and len(texts) >= len(values):
            values = [value / len(text.removeprefix(" ")) for value, text in zip(values, texts, strict=False)]
        elif metric == "acc_bytes" and len(texts) >= len(values):
            values = [value / len(text.removeprefix(" ").encode()) for value, text in zip(values, texts, strict=False)]
    except (ValueError, TypeError, LookupError, ArithmeticError):
        return None
    return max(range(len(values)), key=values.__getitem__)


def _letter(index: int) -> str:
    return chr(ord("A") + index) if index < 26 else str(index)


def _target_letter(target: object, choices: Sequence[str], texts: Sequence[str]) -> object:
    """The choice that is meant by its index or its text; a target that is neither, or several, as it is."""
    if not isinstance(target, str):
        return target
    if len(target) < 4 and target.isdecimal() and int(target) < len(choices):
        return _letter(int(target))
    wanted = target.strip()
    for offered in (choices, texts[: len(choices)]):
        stripped = [text.strip() for text in offered]
        if stripped.count(wanted) == 1:
            return _letter(stripped.index(wanted))
    return target
