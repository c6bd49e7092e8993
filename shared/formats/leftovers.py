"""A JSON object told by fields of another format, and what of it they do not tell.

`leftover` compares what the fields are read back as with the object, value by value and numbers by their literal text;
what differs is kept as JSON beside them, so `restore` gives the same object again, whatever was in it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

import msgspec

from shared.formats.json_reading import Unreadable
from shared.strict_json import same_content

Members: TypeAlias = Mapping[str, bytes]
"""An object: the JSON text of each of its values, by key."""


class _Leftover(msgspec.Struct):
    set: dict[str, msgspec.Raw] = {}
    drop: Sequence[str] = ()


_OBJECTS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LEFTOVERS = msgspec.json.Decoder(_Leftover)
_ARRAYS = msgspec.json.Decoder(list[msgspec.Raw])


def read_members(text: "bytes | memoryview | msgspec.Raw") -> dict[str, bytes]:
    """The members of an object; msgspec.DecodeError if it is none."""
    return {key: bytes(value) for key, value in _OBJECTS.decode(text).items()}


def split_questions(data: "bytes | memoryview") -> tuple[dict[str, bytes], list[msgspec.Raw]] | None:
    """What a result's data has besides its questions, and these, as views of the text; None where it has none."""
    if _OBJECT.match(data) is None:
        return None
    members = _OBJECTS.decode(data)
    questions = members.pop("questions", None)
    if questions is None:
        return None
    return {key: bytes(value) for key, value in members.items()}, _ARRAYS.decode(questions)


_OBJECT = re.compile(rb"[ \t\r\n]*\{")


def write_members(members: Members) -> bytes:
    """The object as JSON text."""
    return msgspec.json.encode({key: msgspec.Raw(value) for key, value in members.items()})


def write_text(text: str) -> bytes:
    """A string as JSON text."""
    return msgspec.json.encode(text)


def join_questions(questions: Iterable[bytes], besides: Members, *, written: int, path: str) -> Iterator[bytes]:
    """The text of `data` again, of its questions and what it has besides, piece by piece.

    Unreadable where there are not as many questions in the file at `path` as were `written`.
    """
    yield b'{"questions":['
    number = 0
    for question in questions:
        yield b"," + question if number else question
        number += 1
    if number != written:
        raise Unreadable(path, f"has {number:,} rows, and was written with {written:,}")
    yield b"]"
    for key, value in besides.items():
        yield b",%b:%b" % (write_text(key), value)
    yield b"}"


def leftover(members: Members, told: Members) -> str | None:
    """JSON text of what `told` does not tell of `members`, or tells wrongly; None if they are the same."""
    differing = {key: value for key, value in members.items() if key not in told or not same_content(told[key], value)}
    too_many = [key for key in told if key not in members]
    if not differing and not too_many:
        return None
    parts = [b'"set":' + write_members(differing)] if differing else []
    parts += [b'"drop":' + msgspec.json.encode(too_many)] if too_many else []
    return (b"{%b}" % b",".join(parts)).decode()


def restore(told: Members, left: str | None) -> dict[str, bytes]:
    """The members that `leftover` was given; msgspec.DecodeError or ValidationError if `left` was not made by it."""
    if left is None:
        return dict(told)
    rest = _LEFTOVERS.decode(left.encode())
    members = {key: value for key, value in told.items() if key not in rest.drop}
    return members | {key: bytes(value) for key, value in rest.set.items()}
