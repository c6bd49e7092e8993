"""Where a piece of JSON text may be cut, so that each part can be read by itself.

Only commas, brackets and quotes are looked at. Malformed text is cut at some place behind its first fault or before it,
never so that the fault is hidden.
"""

import re
from dataclasses import dataclass
from enum import Enum, auto

NUMBER_BYTES = 16 * 1024
"""Bytes of a number that is waited for; a longer one is cut, and reads as infinite."""


class Pause(Enum):
    """What came last before a cut."""

    OPENED = auto()
    VALUE = auto()
    COMMA = auto()
    KEY = auto()
    COLON = auto()
    IN_KEY = auto()
    IN_TEXT = auto()
    IN_WHOLE = auto()
    IN_FRACTION = auto()
    IN_EXPONENT = auto()


# What stands before a text that goes on after a pause (in an object behind a key), and behind one that ends with it.
RESUMED = {
    Pause.OPENED: b"", Pause.VALUE: b"0 ", Pause.COMMA: b"0,", Pause.KEY: b"", Pause.COLON: b"",
    Pause.IN_KEY: b"", Pause.IN_TEXT: b'"',
    Pause.IN_WHOLE: b"1", Pause.IN_FRACTION: b"1.0", Pause.IN_EXPONENT: b"1e0",
}  # fmt: skip
NUMBERS = (Pause.IN_WHOLE, Pause.IN_FRACTION, Pause.IN_EXPONENT)
CLOSING = bytes.maketrans(b"[{", b"]}")

_AFTER = {b",": Pause.COMMA, b"[": Pause.OPENED, b"{": Pause.OPENED, b"]": Pause.VALUE, b"}": Pause.VALUE}
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_SPACE = re.compile(rb"[ \t\r\n]*+")
_SCALAR = re.compile(rb'[^ \t\r\n"\[\]{}:,]++')
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*+)(\.[0-9]*+)?([eE][+-]?[0-9]*+)?")
_HIGH_SURROGATE = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}")


@dataclass(frozen=True, slots=True)
class Cut:
    """The first `end` bytes of a text, and what is open after them."""

    end: int
    pause: Pause
    closed: int
    """Containers open before the text that are closed in it."""
    opened: bytes
    """Opening brackets of those that are open after it."""
    balanced: bool
    """Whether each closing bracket has its like; the text is malformed otherwise."""


def find_cut(text: bytes, pause: Pause, open_brackets: bytes, patience: int) -> Cut:
    """Where to cut a text that goes on after `pause` within `open_brackets`: as late as can be.

    A key, string or number of up to `patience` bytes at the end is not cut off from what follows.
    """
    masked = text.replace(b"\\\\", b"__").replace(b'\\"', b"__")
    pieces = masked.split(b'"')
    first = 1 if pause in (Pause.IN_TEXT, Pause.IN_KEY) else 0  # of the pieces outside strings
    brackets = _unbalanced(b"".join(pieces[first::2]).translate(None, _NO_BRACKETS))
    opened = brackets.lstrip(b"]}")
    closed = len(brackets) - len(opened)
    if (
        closed >= len(open_brackets)
        or opened.strip(b"[{")
        or open_brackets[::-1].translate(CLOSING)[:closed] != brackets[:closed]
    ):
        return Cut(len(text), Pause.VALUE, 0, b"", balanced=False)
    end, pause = _last_mark(pieces, first, len(text)) or (0, pause)
    if len(text) - end > patience:
        still_open = open_brackets[: len(open_brackets) - closed] + opened
        end, pause = _walk(masked, end, pause, in_object=still_open.endswith(b"{"))
    return Cut(end, pause, closed, opened, balanced=True)


def _unbalanced(brackets: bytes) -> bytes:
    """The brackets without those that have their like."""
    for _ in range(8):  # as deep as usual; each removes a level
        fewer = brackets.replace(b"{}", b"").replace(b"[]", b"")
        if len(fewer) == len(brackets):
            return brackets
        brackets = fewer
    left = bytearray()
    for bracket in brackets:
        if left and left[-1] == bracket - 2:  # as in ASCII: [ \ ] and { | }
            left.pop()
        else:
            left.append(bracket)
    return bytes(left)


def _last_mark(pieces: list[bytes], first: int, length: int) -> tuple[int, Pause] | None:
    """The end of the last comma or bracket in the pieces outside strings, and the pause after it."""
    for number in range(len(pieces) - 1, -1, -1):
        piece = pieces[number]
        if number % 2 == first:
            at = max(map(piece.rfind, _AFTER))
            if at >= 0:
                return length - len(piece) + at + 1, _AFTER[piece[at : at + 1]]
        length -= len(piece) + 1
    return None


def _walk(masked: bytes, at: int, pause: Pause, *, in_object: bool) -> tuple[int, Pause]:
    """Go on from a pause over a key, a colon and a value (between commas there is no more), as far as can be."""
    end = len(masked)
    while True:
        if pause in (Pause.IN_TEXT, Pause.IN_KEY):
            quote = masked.find(b'"', at)
            if quote < 0:
                return _whole_characters(masked, at), pause
            at, pause = quote + 1, Pause.KEY if pause is Pause.IN_KEY else Pause.VALUE
        space = _SPACE.match(masked, at)
        at = space.end() if space else at
        if at == end:
            return at, pause
        if masked[at : at + 1] == b'"':
            as_key = in_object and pause in (Pause.OPENED, Pause.COMMA)
            at, pause = at + 1, Pause.IN_KEY if as_key else Pause.IN_TEXT
        elif masked[at : at + 1] == b":":
            at, pause = at + 1, Pause.COLON
        elif (scalar := _SCALAR.match(masked, at)) and scalar.end() == end:
            return _in_number(scalar[0], at, pause)
        else:
            at, pause = scalar.end() if scalar else at + 1, Pause.VALUE


def _in_number(scalar: bytes, at: int, pause: Pause) -> tuple[int, Pause]:
    """Where a number that goes on may be cut: after a digit. A shorter one is left for the next time."""
    before = RESUMED[pause] if pause in NUMBERS else b""
    number = _NUMBER.fullmatch(before + scalar)
    digits = len(scalar.rstrip(b"+-.eE"))
    if digits <= NUMBER_BYTES:
        return at, pause
    if number is None:
        return at + len(scalar), Pause.VALUE  # malformed: to be refused at once
    if number[2] and number.start(2) < len(before) + digits:
        return at + digits, Pause.IN_EXPONENT
    if number[1] and number.start(1) < len(before) + digits:
        return at + digits, Pause.IN_FRACTION
    return at + digits, Pause.IN_WHOLE


def _whole_characters(masked: bytes, start: int) -> int:
    """Where a string that begins at `start` may be cut: not in an escape, a surrogate pair or a UTF-8 sequence."""
    end = len(masked)
    escape = masked.find(b"\\", max(start, end - 12))
    if escape >= 0:
        if masked.rfind(b"\\u", max(start, escape - 5), escape) >= 0:
            return end  # malformed: to be refused at once
        pair = escape - 6
        return pair if pair >= start and _HIGH_SURROGATE.match(masked, pair) else escape
    for back in range(1, min(3, end - start) + 1):
        byte = masked[end - back]
        if byte >= 0xC0:
            return end - back if back < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4) else end
        if byte < 0x80:
            break
    return end
