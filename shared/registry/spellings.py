"""How names and values of other hands are recognised: folded spellings, patterns of task names, values as types."""

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

Value = str | int | float
"""What a metadata field may hold."""

_SEPARATORS = re.compile(r"[\s_-]+")
_INTEGER = re.compile(r"(?<!\w)-[0-9]+|[0-9]+")
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_PART = re.compile(r"\{([^{}]*)\}")


def fold(text: str) -> str:
    """What spellings of one name have in common: without case, `-`, `_` and spaces alike, `&` as `and`."""
    return _SEPARATORS.sub("_", text.replace("&", " and ").casefold().strip()).strip("_")


def read_integer(value: object) -> int | None:
    """A whole number, or the only one in a text: 3 in "Level 3"; None in "2024-I-1"."""
    if isinstance(value, str):
        found = _INTEGER.findall(value)
        return int(found[0]) if len(found) == 1 and len(found[0]) < 20 else None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def read_number(value: object) -> int | float | None:
    """A finite number, or a text that is one."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if isinstance(value, int) or math.isfinite(value) else None


def read_boolean(value: object) -> bool | None:
    """True or false, or what stands for them: 1 and 0, "yes" and "no"."""
    text = value.strip().casefold() if isinstance(value, str) else show(value)
    return _TRUTHS.get(text.removesuffix(".0"))


def read_category(value: object) -> str | None:
    """A text without the spaces around it; numbers and truths as JSON writes them. None if nothing is left."""
    return (value.strip() if isinstance(value, str) else show(value)) or None


def show(value: object) -> str:
    """A scalar as a text; "" for what is none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return ""
    return str(value) if isinstance(value, str | int | float) else ""


@dataclass(frozen=True, slots=True)
class NamePattern:
    """A task name with places for values, such as `mmlu_{subject}`."""

    literals: int
    """Characters beside the values: of two patterns that fit, the one with more of them counts."""
    regex: re.Pattern[str]
    loose: re.Pattern[str]
    """Fits whatever stands in the places of the values: names that only look like the benchmark's."""

    def match(self, folded: str) -> Mapping[str, str] | None:
        """The values' texts by field, if a folded name fits."""
        found = self.regex.fullmatch(folded)
        return found.groupdict() if found else None


def pattern_fields(name: str) -> list[str]:
    """The fields that a harness name has places for; ValueError if it is written wrong."""
    fields = _PART.findall(name)
    rest = _PART.sub("\0", name)
    if "{" in rest or "}" in rest:
        raise ValueError(f"{name!r}: each '{{' needs its '}}'")
    if len(set(fields)) < len(fields):
        raise ValueError(f"{name!r} names a field twice")
    if "\0\0" in rest:
        raise ValueError(f"{name!r} needs something between two fields, to tell where one ends")
    if fields and not fold(rest.replace("\0", "")):
        raise ValueError(f"{name!r} would fit every name; write something beside the field")
    return fields


def fold_pattern(name: str) -> str:
    """A harness name as it is compared: folded, whatever its fields are called."""
    pieces = _PART.split(name)[::2]
    return "{}".join(_fold_piece(piece) for piece in pieces).strip("_")


def name_pattern(name: str, texts: Mapping[str, Collection[str]]) -> NamePattern:
    """The pattern that a harness name with fields is. `texts`: what may stand for a field, folded; none: anything."""
    pieces = _PART.split(name)
    exact, loose, literals = [], [], 0
    for index, piece in enumerate(pieces):
        if index % 2:
            known = "|".join(re.escape(text) for text in sorted(texts[piece], key=len, reverse=True))
            exact.append(f"(?P<{piece}>{known or '.+'})")
            loose.append(".+")
        else:
            literal = _fold_piece(piece)
            literals += len(literal)
            exact.append(re.escape(literal))
            loose.append(re.escape(literal))
    return NamePattern(literals, re.compile("".join(exact)), re.compile("".join(loose)))


def _fold_piece(text: str) -> str:
    """A part of a name, folded; unlike a whole one it keeps a separator at its ends."""
    return _SEPARATORS.sub("_", text.replace("&", " and ").casefold())
