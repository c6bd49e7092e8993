"""JSON read strictly: no bare NaN or Infinity, no duplicate keys, no lone surrogates, bounded depth.

`jiter` refuses each of them with line and column in one pass, which neither the standard library nor msgspec does.
`shared.json_stream` does the same for documents too large to be held.
"""

import json
import re
from typing import TypeAlias

import jiter

from shared.problems import SHOWN_MAX, MalformedJson

MAX_DEPTH = 200
"""Nesting of arrays and objects allowed in `data`; jiter's own limit is one more, for the envelope around it."""

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"


BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Malformed(ValueError):
    """What is wrong with a text, and where: line (from 1) and column, in bytes."""

    def __init__(self, said: str, line: int, column: int) -> None:
        super().__init__(f"{said} at line {line} column {column}")
        self.said, self.line, self.column = said, line, column

    def moved(self, columns: int, lines: int = 0) -> "Malformed":
        """The same, of a text that began elsewhere: `columns` matter on its first line."""
        return Malformed(self.said, self.line + lines, self.column + (columns if self.line == 1 else 0))


def read_json(text: bytes, *, place: str = "body", max_depth: int = MAX_DEPTH + 1) -> JsonValue:
    """Parse one JSON document. MalformedJson names `place`, line and column (1-based, in bytes).

    It may be as deep as a body whose data is as deep as allowed; `max_depth=MAX_DEPTH` is for such data by itself.
    Numbers with more than 4,300 digits before the point are allowed, and read as infinite.
    """
    if text.startswith(BYTE_ORDER_MARK):
        raise byte_order_mark(place)
    try:
        return parse(text, max_depth=max_depth)
    except Malformed as error:
        raise MalformedJson(f"{place}: {error}") from None


def parse(text: bytes, *, max_depth: int = MAX_DEPTH + 1) -> JsonValue:
    """The value that `text` writes. Malformed says what is wrong; a byte order mark is not looked for."""
    try:
        try:
            value = _parse(text)
        except ValueError as error:
            if not str(error).startswith("number out of range"):
                raise
            text = _LONG_NUMBER.sub(_beyond_floats, text)
            value = _parse(text)
    except ValueError as error:
        message, _, where = str(error).rpartition(" at line ")
        line, column = (int(word) for word in where.split(" column "))
        if message == "invalid unicode code point":
            line, column = _first_not_utf8(text)  # jiter counts in the string after its escapes were resolved
        raise Malformed(_explain(message, text, line, column), line, column) from None
    if max_depth <= MAX_DEPTH and text.count(b"[") + text.count(b"{") > max_depth:
        _check_depth(text, max_depth)
    return value


def _check_depth(text: bytes, max_depth: int) -> None:
    """jiter counts to `MAX_DEPTH` + 1: stand the difference around the text, and see whether it is still taken."""
    around = MAX_DEPTH + 1 - max_depth
    try:
        _parse(b"[" * around + text + b"]" * around)
    except ValueError as error:
        line, column = (int(word) for word in str(error).rpartition(" at line ")[2].split(" column "))
        raise Malformed(_TOO_DEEP, line, column).moved(-around) from None


def byte_order_mark(place: str) -> MalformedJson:
    """The problem of a text that begins with one."""
    return MalformedJson(f"{place}: begins with a byte order mark; send UTF-8 without one")


def _parse(text: bytes) -> JsonValue:
    value: JsonValue = jiter.from_json(text, allow_inf_nan=False, catch_duplicate_keys=True, cache_mode="keys")
    return value


def _first_not_utf8(text: bytes) -> tuple[int, int]:
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return text.count(b"\n", 0, error.start) + 1, error.start - text.rfind(b"\n", 0, error.start)
    raise AssertionError("jiter refused valid UTF-8")


# jiter takes no number of more than 4,300 digits before the point. It gets an infinite one of the same length instead,
# so that places stay; strings are passed over.
_LONG_NUMBER = re.compile(
    rb'"(?:[^"\\]++|\\.)*+"|(?<![0-9.eE+\-])-?[1-9][0-9]{4000,}+(?:\.[0-9]++)?(?:[eE][+\-]?[0-9]++)?', re.DOTALL
)


def _beyond_floats(token: re.Match[bytes]) -> bytes:
    text = token[0]
    return text if text.startswith(b'"') else b"1e999".ljust(len(text))


def same_content(left: bytes, right: bytes) -> bool:
    """Whether two valid documents say the same: keys in any order, numbers by their literal text."""
    return left == right or _LITERAL.decode(left.decode()) == _LITERAL.decode(right.decode())


# A one-element tuple equals no list and no string, so the number 1 stays apart from "1", [1] and 1.0.
_LITERAL = json.JSONDecoder(parse_int=lambda text: (text,), parse_float=lambda text: (text,))


def _explain(message: str, text: bytes, line: int, column: int) -> str:
    if message.startswith("recursion limit exceeded"):
        return _TOO_DEEP
    if message.startswith("Detected duplicate key") and len(message) > SHOWN_MAX:
        return message[:SHOWN_MAX] + '…"'
    if message.startswith(("expected value", "invalid number")) and _at(text, line, column).lstrip(b"-").startswith(
        (b"NaN", b"Infinity")
    ):
        return "NaN and Infinity are not JSON; use null"
    return _CLEARER.get(message, message)


_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"
_CLEARER = dict.fromkeys(
    ("unexpected end of hex escape", "lone leading surrogate in hex escape"),
    "half of a surrogate pair, which is no character,",
)


def _at(text: bytes, line: int, column: int) -> bytes:
    """The bytes around a place."""
    start = offset_of(text, line, column)
    return text[start - 1 if text[start - 1 : start] == b"-" else start :][:16]


def offset_of(text: bytes, line: int, column: int) -> int:
    """Where in `text` a place is that jiter names."""
    start = 0
    for _ in range(line - 1):
        start = text.index(b"\n", start) + 1
    return start + max(column - 1, 0)
