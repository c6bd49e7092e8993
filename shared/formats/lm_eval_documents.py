"""Documents of lm-evaluation-harness: a dataset's rows, whose fields each dataset names as it likes.

By the names of the fields it is told which are the question, its choices and its solution; what else is short may be
metadata. What the names mean is worked out once for all documents with the same fields.
"""

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

SCALAR_MAX_CHARACTERS = 200
"""Of a text that could be metadata."""

CONTEXTS = ("passage", "paragraph", "context", "support", "article", "story", "body", "premise", "sentence1")
"""Fields that stand before the question, and without which it is another one."""
QUESTIONS = (
    *("question", "problem", "query", "prompt", "input_question", "input", "question_text", "text", "goal", "ctx"),
    *("question_stem", "qtext", "hypothesis", "sentence2", "sentence", "instruction", "page"),
)
"""Fields that hold the question: the first of them that is a text."""
CHOICES = ("choices", "options", "endings", "candidates", "answer_choices", "mc1_targets")
LETTERED = re.compile(r"((?:options?|choice|ending|sol|op|mc_answer)_?|answer_?(?=[a-j]$))([a-j]|\d{1,2})")
"""Fields that hold one choice each, such as option1 and opa; a letter alone is one if it is large."""
SOLUTIONS = frozenset(
    {
        *("answer", "answers", "answerkey", "answer_key", "answer_index", "answer_idx", "correct", "correct_option"),
        *("cop", "gold", "gold_labels", "label", "target", "targets", "solution", "final_answer", "best_answer"),
        *("explanation", "rationale", "reasoning", "cot", "original_answer", "original_problem"),
    }
)
"""Fields that repeat the target, or lead to it."""


@dataclass(frozen=True, slots=True)
class Document:
    """What a document holds."""

    question: str | None
    choices: tuple[str, ...]
    metadata: Mapping[str, Any]
    """Its short scalars, and those one level deeper, by the document's own names."""
    dropped: tuple[str, ...]
    """Fields that are nothing of these."""


@dataclass(frozen=True, slots=True)
class _Fields:
    contexts: tuple[str, ...]
    questions: tuple[str, ...]
    choices: tuple[str, ...]
    lettered: tuple[str, ...]
    others: tuple[str, ...]
    solutions: tuple[str, ...]


@lru_cache(maxsize=1024)
def _sort(names: tuple[str, ...]) -> _Fields:
    """Which fields are which; large and small letters are the same, but of two such fields the small one is meant."""
    by_name = {}
    for name in sorted(names):
        by_name[name.lower().replace(" ", "_")] = name
    single: dict[str, list[str]] = defaultdict(list)
    for name in names:
        if len(name) == 1 and "A" <= name <= "J":
            single[""].append(name)
        elif found := LETTERED.fullmatch(name.lower()):
            single[found[1]].append(name)
    lettered = next((tuple(those) for those in single.values() if len(those) > 1), ())

    def named(wanted: Sequence[str]) -> tuple[str, ...]:
        return tuple(by_name[each] for each in wanted if each in by_name)

    contexts, questions, choices = named(CONTEXTS), named(QUESTIONS), named(CHOICES)
    special = {*contexts, *questions, *choices, *lettered}
    solutions = tuple(
        name
        for lowered, name in ((name.lower().replace(" ", "_"), name) for name in names if name not in special)
        if lowered in SOLUTIONS or lowered in QUESTIONS or "correct_answer" in lowered
    )
    others = tuple(name for name in names if name not in special and name not in solutions)
    return _Fields(contexts, questions, choices, lettered, others, solutions)


def read_document(value: object) -> Document:
    """What is in a document; a text is a question."""
    if not isinstance(value, dict):
        return Document(value if isinstance(value, str) else None, (), {}, ())
    doc: dict[str, Any] = value
    fields = _sort(tuple(doc))
    dropped = list(fields.solutions)
    question = _question(doc, fields, dropped)
    choices = next((found for name in fields.choices if (found := _texts(doc[name]))), ())
    if not choices and fields.lettered:
        choices = _texts([doc[name] for name in fields.lettered])
    metadata: dict[str, Any] = {}
    for name in fields.others:
        kept = doc[name]
        if kept is None:
            continue
        if type(kept) is dict:
            kept = {key: each for key, each in kept.items() if _is_scalar(each)} or None
        if kept is None or not (type(kept) is dict or _is_scalar(kept)):
            dropped.append(name)
        else:
            metadata[name] = kept
    return Document(question, choices, metadata, tuple(dropped))


def _question(doc: Mapping[str, Any], fields: _Fields, dropped: list[str]) -> str | None:
    question = None
    for name in fields.questions:
        text = doc[name]
        if question is None and isinstance(text, str) and text:
            question = text
        elif text:
            dropped.append(name)
    if not fields.contexts:
        return question
    texts = []
    for name in fields.contexts:
        if isinstance(doc[name], str):
            texts.append(doc[name])
        elif doc[name]:
            dropped.append(name)
    return "\n\n".join([*filter(None, texts), *([] if question is None else [question])]) or None


def _is_scalar(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= SCALAR_MAX_CHARACTERS
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def _texts(value: object) -> tuple[str, ...]:
    """Choices, as a list of texts or of {"text"}, as {"text": […], "label": […]}, or as {"A": …}; else none."""
    if isinstance(value, dict):
        inner = next((value[key] for key in ("text", "choices") if isinstance(value.get(key), list)), None)
        value = list(value.values()) if inner is None else inner
    if not isinstance(value, list):
        return ()
    texts = [each.get("text") if isinstance(each, dict) else each for each in value]
    if not all(isinstance(text, str | int | float) for text in texts):
        return ()
    return tuple(map(str, texts))
