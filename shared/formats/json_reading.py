"""JSON as harnesses write it: with bare NaN and Infinity, cut short, or larger than memory.

What is stored is read strictly (`shared.strict_json`); here it is what somebody else wrote, and what can be read of it
is taken.
"""

import codecs
import json
import math
import re
from collections.abc import Collection, Iterator
from typing import Any, BinaryIO

import jiter
import msgspec

from shared.formats.tree import File

BLOCK_BYTES = 1024 * 1024
VALUE_MAX_BYTES = 256 * 1024 * 1024
"""One value, or one line, that has to be in memory as a whole."""
CONTAINERS_MAX = 2_000_000
"""Lists and objects in one value: of 3 bytes in a file, `[],`, each takes 70 in memory."""


class Unreadable(Exception):
    """What is wrong with a file, and where in it."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place, self.reason = place, reason


class TooManyContainers(ValueError):
    """A value that is not read, although it may well be JSON."""


def read_value(text: bytes) -> Any:  # noqa: ANN401
    """The value that `text` writes; ValueError if it is no JSON even with NaN and Infinity allowed.

    Halves of surrogate pairs, which are in no text that can be stored, become U+FFFD.
    """
    check_containers(text)
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = text.removeprefix(codecs.BOM_UTF8)
        if _HALF.search(text) is None:
            return jiter.from_json(text, allow_inf_nan=True)
    try:
        return _mended(_DECODER.decode(text.decode()))
    except RecursionError:
        raise ValueError("is nested too deep") from None


def check_containers(text: bytes) -> None:
    """TooManyContainers if a value would take far more memory than its text; brackets within texts count, too."""
    if len(text) > CONTAINERS_MAX and text.count(b"[") + text.count(b"{") > CONTAINERS_MAX:
        raise TooManyContainers(f"has more than {CONTAINERS_MAX:,} lists and objects")


def finite_number(value: object) -> float | None:
    """A number as a float, true and false as 1 and 0; None for what is none, is not finite or is too large for one."""
    if not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def read_file(file: File) -> Any:  # noqa: ANN401
    """A file that holds one value. Unreadable if it is none, or too large to be in memory."""
    if file.size > VALUE_MAX_BYTES:
        raise Unreadable(file.path, f"is larger than {VALUE_MAX_BYTES:,} bytes")
    with file.open() as stream:
        try:
            return read_value(stream.read())
        except ValueError as error:
            raise Unreadable(file.path, f"is not JSON: {error}") from None


def read_lines(file: File) -> Iterator[tuple[str, Any]]:
    """Place and value of each line of a file of JSON lines; Unreadable stands in for the value of one that is none.

    Blank lines are left out. A file that holds one array is read as if each element were a line.
    """
    if file.head(64).removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"[":
        with file.open() as stream:
            for key, _, value in read_members(stream, file.path):
                yield f"{file.path}:[{key}]", value
        return
    with file.open() as stream:
        number = 0
        while line := stream.readline(VALUE_MAX_BYTES):
            number += 1
            place = f"{file.path}:{number}"
            if not line.endswith(b"\n") and len(line) == VALUE_MAX_BYTES:
                raise Unreadable(place, f"has more than {VALUE_MAX_BYTES:,} bytes")
            try:
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                if line.strip():
                    yield place, read_value(line)
            except ValueError as error:
                cut = " (the file ends within this line)" if not line.endswith(b"\n") else ""
                yield place, Unreadable(place, f"is not JSON: {error}{cut}")


def read_members(
    stream: BinaryIO, name: str, *, into: Collection[str] = ()
) -> Iterator[tuple[str | int, str | int | None, Any]]:
    """The members of one large object or array, one by one: (key or index, None, value).

    Members named in `into` are not held either: each element comes by itself, as (member's key, its own key or index,
    value). Unreadable, after what could be read, where the text is no JSON or ends too early.
    """
    yield from _Members(stream, name).read(into)


class _Members:
    """A cursor in a text that is read as it is needed."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream = stream
        self._name = name
        self._text = ""
        self._at = 0
        self._before = 0
        self._ahead: list[bytes] = []
        """What was read and is not looked at yet, the next of it last."""
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._ended = False

    def read(self, into: Collection[str]) -> Iterator[tuple[str | int, str | int | None, Any]]:
        for key in self._keys():
            if key in into and self._peek() in "[{":
                for inner in self._keys():
                    yield key, inner, self._value()
            else:
                yield key, None, self._value()
        if self._peek():
            raise self._fault("something follows the end")

    def _keys(self) -> Iterator[str | int]:
        """Keys or indexes of the container that begins here; the caller reads each one's value before the next."""
        opening = self._take("[{")
        closing = "]" if opening == "[" else "}"
        if self._peek() == closing:
            self._take(closing)
            return
        index = 0
        while True:
            yield index if opening == "[" else self._key()
            if self._take("," + closing) == closing:
                return
            index += 1

    def _key(self) -> str:
        if self._peek() != '"':
            raise self._fault("a key is expected")
        key = str(self._value())
        self._take(":")
        return key

    def _value(self) -> Any:  # noqa: ANN401
        self._peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
                if self._ended or end < len(self._text) - _CUT_AT_MOST or self._text[end : end + 1] in _AFTER_VALUES:
                    begin, self._at = self._at, end  # else it may be the beginning of a number that goes on
                    return _mended(value) if _HALF_IN_TEXT.search(self._text, begin, end) else value
            except RecursionError:
                raise self._fault("is nested too deep") from None
            except ValueError as error:
                # Where the fault lies before the text's last characters, more of it would not mend that.
                if _is_lasting(error, len(self._text)):
                    raise self._fault(str(error).partition(": line ")[0].lower()) from None
                if self._ended:
                    self._at = len(self._text)
                    raise self._fault("") from None
            self._more(len(self._text) - self._at)

    def _peek(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in " \t\r\n":
                    return self._text[self._at]
                self._at += 1
            if self._ended:
                return ""
            self._more(0)

    def _take(self, allowed: str) -> str:
        mark = self._peek()
        if not mark or mark not in allowed:
            raise self._fault(f"{' or '.join(allowed)} is expected")
        self._at += 1
        return mark

    def _more(self, held: int) -> None:
        """Read on: at least as much as is held of a value that goes on, so that reading it again stays cheap."""
        if held > VALUE_MAX_BYTES:
            raise self._fault(f"holds a value of more than {VALUE_MAX_BYTES:,} bytes")
        if held > CONTAINERS_MAX and _containers(self._text, self._at) > CONTAINERS_MAX:
            raise self._fault(f"holds a value of more than {CONTAINERS_MAX:,} lists and objects")
        block = self._ahead.pop() if self._ahead else self._stream.read(max(BLOCK_BYTES, held))
        while len(block) > CONTAINERS_MAX and block.count(b"[") + block.count(b"{") > CONTAINERS_MAX:
            middle = len(block) // 2
            self._ahead.append(block[middle:])
            block = block[:middle]
        try:
            more = self._decode(block, final=not block)
        except UnicodeDecodeError as error:
            raise self._fault(f"is not UTF-8: {error.reason}") from None
        self._ended = not block
        self._before += self._at
        self._text = self._text[self._at :] + more
        self._at = 0

    def _fault(self, reason: str) -> Unreadable:
        if self._ended and self._at >= len(self._text.rstrip()):
            return Unreadable(self._name, "ends too early")
        return Unreadable(f"{self._name}, character {self._before + self._at + 1:,}", reason)


def _containers(text: str, begin: int) -> int:
    return text.count("[", begin) + text.count("{", begin)


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) < _DIGITS_MAX else float(digits)


_DIGITS_MAX = 300
"""Of a number that is read as a whole one: longer ones are too large for anything, and slow."""
_DECODER = json.JSONDecoder(parse_int=_whole)
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
_HALF_IN_TEXT = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATES = re.compile(r"[\ud800-\udfff]")


def _mended(value: Any) -> Any:  # noqa: ANN401
    """A value without halves of surrogate pairs, in its keys neither."""
    match value:
        case str():
            return _SURROGATES.sub("\ufffd", value)
        case list():
            return [_mended(item) for item in value]
        case dict():
            return {_mended(key): _mended(item) for key, item in value.items()}
    return value


_AFTER_VALUES = frozenset(",]} \t\r\n")
_CUT_AT_MOST = 12
"""Characters that a cut within a number, an escape or a word such as `-Infinity` leaves at the end, at most."""


def _is_lasting(error: ValueError, length: int) -> bool:
    """Whether a fault stays, however the text goes on."""
    if not isinstance(error, json.JSONDecodeError):
        return True  # a number of more digits than Python reads
    return not error.msg.startswith("Unterminated string") and error.pos < length - _CUT_AT_MOST
