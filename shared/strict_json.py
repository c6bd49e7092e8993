"""JSON read strictly: no bare NaN or Infinity, no duplicate keys, no lone surrogates, bounded depth.

`jiter` refuses each of them with line and column in one pass, which neither the standard library nor msgspec does.
"""

import json
from typing import TypeAlias

import jiter

from shared.problems import MalformedJson

MAX_DEPTH = 200
"""Nesting of arrays and objects allowed in `data`; jiter's own limit is one more, for the envelope around it."""

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"


def read_json(text: bytes, *, place: str = "body") -> JsonValue:
    """Parse one JSON document. MalformedJson names `place`, line and column (1-based, in bytes)."""
    if text.startswith(b"\xef\xbb\xbf"):
        raise MalformedJson(f"{place}: begins with a byte order mark; send UTF-8 without one")
    try:
        value: JsonValue = jiter.from_json(text, allow_inf_nan=False, catch_duplicate_keys=True, cache_mode="keys")
    except ValueError as error:
        raise MalformedJson(f"{place}: {_explain(str(error), text)}") from None
    return value


def same_content(left: bytes, right: bytes) -> bool:
    """Whether two valid documents say the same: keys in any order, numbers by their literal text."""
    return left == right or _LITERAL.decode(left.decode()) == _LITERAL.decode(right.decode())


# A one-element tuple equals no list and no string, so the number 1 stays apart from "1", [1] and 1.0.
_LITERAL = json.JSONDecoder(parse_int=lambda text: (text,), parse_float=lambda text: (text,))


def _explain(message: str, text: bytes) -> str:
    if message.startswith("recursion limit exceeded"):
        return f"nested deeper than {MAX_DEPTH} levels{message.removeprefix('recursion limit exceeded')}"
    if message.startswith(("expected value", "invalid number")) and _at(message, text).lstrip(b"-").startswith(
        (b"NaN", b"Infinity")
    ):
        return f"NaN and Infinity are not JSON; use null{message[message.index(' at line') :]}"
    for begins, instead in _CLEARER.items():
        if message.startswith(begins):
            return instead + message[message.index(" at line") :]
    return message


_CLEARER = {
    "number out of range": "an integer of more than 4,300 digits",
    "unexpected end of hex escape": "half of a surrogate pair, which is no character,",
    "lone leading surrogate in hex escape": "half of a surrogate pair, which is no character,",
}


def _at(message: str, text: bytes) -> bytes:
    """The bytes around the place that a message names."""
    line, column = (int(word) for word in message.rsplit(" at line ", 1)[1].split(" column "))
    start = 0
    for _ in range(line - 1):
        start = text.index(b"\n", start) + 1
    start += max(column - 1, 0)
    return text[start - 1 if text[start - 1 : start] == b"-" else start :][:16]
