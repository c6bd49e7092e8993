"""JSON of any size read as strictly as by `strict_json`, in little memory, while it arrives.

The text is cut into groups at a comma or bracket outside strings (inside a string or a number only where that is long).
A group is no document, but becomes one when what is open before it is opened in front and what is open after it is
closed behind: `…,3],"b":[4` is read as `{"a":[0,3],"b":[4]}`. So jiter checks every byte, with the same words and
places as it checks a whole document, and here are known only brackets, quotes, and the keys of open objects.
"""

import json
import math
import secrets
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import cast

from shared.first_seen import FirstSeen
from shared.json_cuts import CLOSING, NUMBERS, RESUMED, Cut, Pause, find_cut
from shared.problems import Fault, MalformedJson, invalid
from shared.strict_json import (
    BYTE_ORDER_MARK,
    MAX_DEPTH,
    JsonValue,
    Malformed,
    byte_order_mark,
    offset_of,
    parse,
)

GROUP_BYTES = 256 * 1024
TOKEN_BYTES = 16 * 1024
"""Bytes that a key or string at the end of a block is waited for; longer ones are taken in pieces."""
KEY_KEPT = 300
"""Characters kept of a key that arrives in pieces; `LONG_KEY` follows them."""
TEXT_KEPT = 1024 * 1024
"""Characters kept of a string that arrives in pieces, besides the newest piece."""
KEYS_MAX = 2_000_000
"""Keys remembered of objects that are open at once, beyond what one group holds of them."""


# A name that no document has. It stands for keys that came before, and for the part of a key that is not there.
_STAND_IN = LONG_KEY = secrets.token_hex(8)
_NAME = f'"{_STAND_IN}"'.encode()
_TO_COME = secrets.token_hex(8)  # the same for what comes after
_NAME_SHOWN = 64

# What stands behind a text that ends with a pause.
_ENDED = {Pause.KEY: b":0", Pause.COLON: b"0", Pause.IN_KEY: f'{_TO_COME}":0'.encode(), Pause.IN_TEXT: b'"'}
_IN_SCALAR = (Pause.IN_TEXT, *NUMBERS)
_WITH_KEY = (Pause.KEY, Pause.COLON, *_IN_SCALAR)


@dataclass(slots=True, eq=False)
class Level:
    """A container that is open: its entries so far, but what the reader took out."""

    value: "list[JsonValue] | dict[str, JsonValue]"
    key: str = ""
    """In an object, the key of the entry that is not complete."""
    seen: FirstSeen | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """A part of the text, as it was read: `document[start:end]` of a document that is valid by itself.

    `text` is the part as received; digits of a long number are in it and not in the document, which may be empty.
    """

    document: bytes
    start: int
    end: int
    text: bytes


class JsonStream:
    """One document, read block by block.

    Between groups, `levels` are the open containers, the outermost first; levels[0] is a list that holds the document.
    Who reads takes out of them what is complete, or memory fills.
    Of a long string `TEXT_KEPT` characters are kept besides the newest piece, of a long key `KEY_KEPT` and `LONG_KEY`;
    a long number reads as infinite.
    """

    def __init__(self, place: str = "body", *, max_depth: int = MAX_DEPTH + 1) -> None:
        """Names of places begin with `place`; `max_depth` is as in `read_json`."""
        self._document: list[JsonValue] = []
        self.levels = [Level(self._document)]
        self.pause = Pause.OPENED
        self._place = place
        self._max_depth = max_depth
        self._rest = b""
        self._line, self._column = 1, 0
        self._at_start = True
        self._long_key = blake2b()
        self._long_key_begins = ""
        self._keys = 0

    @property
    def value(self) -> JsonValue:
        """The document, as far as it was read and not taken out; None at first."""
        return self._document[0] if self._document else None

    @property
    def in_entry(self) -> bool:
        """Whether the last entry of the innermost level goes on in the next group, as that of each level around it."""
        return self.pause in _WITH_KEY

    def feed(self, block: bytes) -> Iterator[Group]:
        """Read on: a group at a time, as they are asked for. MalformedJson names place, line and column."""
        for start in range(0, len(block), GROUP_BYTES):
            text = self._rest + block[start : start + GROUP_BYTES]
            if self._at_start and len(text) < len(BYTE_ORDER_MARK):
                self._rest = text
                continue
            self._refuse_byte_order_mark(text)
            digits = 0
            if self.pause in NUMBERS:
                digits = len(text) - len(text.lstrip(b"0123456789"))
                self._column += digits
            group = self._read(text[digits:])
            used = digits + (group.end - group.start if group else 0)
            self._rest = text[used:]
            if used:
                yield Group(*((group.document, group.start, group.end) if group else (b"", 0, 0)), text[:used])

    def finish(self) -> None:
        """There is no more. MalformedJson where that is too early."""
        self._refuse_byte_order_mark(self._rest)
        _add(self.levels[0], [self._parse(self._opening(), self._rest, b"")], self.pause)
        self._rest = b""

    def _refuse_byte_order_mark(self, text: bytes) -> None:
        if self._at_start and text.startswith(BYTE_ORDER_MARK):
            raise byte_order_mark(self._place)
        self._at_start = False

    def _read(self, text: bytes) -> Group | None:
        """Read as much of `text` as can be; None if nothing yet."""
        cut = self._cut(text, TOKEN_BYTES)
        text = text[: cut.end]
        if not text:
            return None
        start, end, root = b"", b"", None
        if len(self.levels) > 1 or self.pause is not Pause.OPENED or text.strip(b" \t\r\n"):
            start = self._opening()
            end = self._ending(cut) if cut.balanced else b""
            root = self._parse(start, text, end)
            pieces = self._continued(root)
            self._refuse_keys_again(pieces, text, end, cut)
            self._join(pieces, cut)
        lines = text.count(b"\n")
        self._line += lines
        self._column = len(text) - text.rindex(b"\n") - 1 if lines else self._column + len(text)
        return Group(start + text + end, len(start), len(start) + len(text), text)

    def _parse(self, start: bytes, text: bytes, end: bytes) -> JsonValue:
        document = start + text + end
        try:
            return parse(document, max_depth=self._max_depth)
        except Malformed as error:
            at = offset_of(document, error.line, error.column) - len(start)
            self._refuse_keys_before(text[: max(at, 0)])
            raise self._refusal(error, len(start)) from None

    def _refusal(self, error: Malformed, start: int) -> MalformedJson:
        error = error.moved(self._column - start, self._line - 1)
        return MalformedJson(f"{self._place}: {error}".replace(_STAND_IN, "…").replace(_TO_COME, "…"))

    # Where to cut, and what makes a document of what was cut out

    def _cut(self, text: bytes, patience: int) -> Cut:
        return find_cut(text, self.pause, self._brackets(self.levels), patience)

    @staticmethod
    def _brackets(levels: Iterable[Level]) -> bytes:
        return b"".join(b"{" if isinstance(level.value, dict) else b"[" for level in levels)

    def _opening(self, again: "dict[int, list[str]] | None" = None) -> bytes:
        """All that is open, to stand before the text that follows. With `again`, keys to be refused, by level."""
        parts = []
        for depth, level in enumerate(self.levels):
            innermost = depth == len(self.levels) - 1
            if isinstance(level.value, dict):
                parts.append(b"{")
                parts += [json.dumps(key).encode() + b":0," for key in (again or {}).get(depth, ())]
                if not innermost or self.pause in _WITH_KEY:
                    parts.append(json.dumps(level.key).encode() if len(level.key) <= _NAME_SHOWN else _NAME)
                    parts.append(b"" if innermost and self.pause is Pause.KEY else b":")
                elif self.pause is Pause.IN_KEY:
                    parts.append(_NAME[:-1])
                elif self.pause is not Pause.OPENED:
                    parts.append(_NAME + b":")
            elif depth:
                parts.append(b"[")
        return b"".join(parts) + RESUMED[self.pause]

    def _ending(self, cut: Cut) -> bytes:
        """All that is still open after `cut`, closed."""
        kinds = self._brackets(self.levels[1 : len(self.levels) - cut.closed]) + cut.opened
        last = _ENDED.get(cut.pause, b"")
        if cut.pause is Pause.COMMA:
            last = f'"{_TO_COME}":0'.encode() if kinds.endswith(b"{") else b"0"
        return last + kinds[::-1].translate(CLOSING)

    # What a group adds to the open containers

    def _continued(self, root: JsonValue) -> "list[list[JsonValue] | dict[str, JsonValue]]":
        """For each open container what the group has of it; its first entry belongs to what stands in front."""
        piece: JsonValue = [root]
        pieces: list[list[JsonValue] | dict[str, JsonValue]] = []
        for level in self.levels:
            assert isinstance(piece, type(level.value))  # noqa: S101 - for the type checker: it was opened so
            pieces.append(piece)
            if level is not self.levels[-1]:
                piece = piece[0] if isinstance(piece, list) else next(iter(piece.values()))
        return pieces

    def _new_keys(self, depth: int, piece: Iterable[str], cut: Cut) -> list[str]:
        """The keys that a group completes in one open object."""
        keys = list(piece)
        if cut.pause in (Pause.COMMA, Pause.IN_KEY) and not cut.opened and depth == len(self.levels) - 1 - cut.closed:
            keys.pop()
        innermost = depth == len(self.levels) - 1
        if not (innermost and self.pause in (Pause.OPENED, Pause.IN_KEY)):
            del keys[:1]
        return keys

    def _marks(self, keys: list[str]) -> list[Hashable]:
        """What keys are remembered by: themselves, or if they are long what tells them apart whether whole or cut."""
        longest = TOKEN_BYTES // 16
        marks: list[Hashable] = [key if len(key) <= longest else blake2b(key.encode()).digest() for key in keys]
        if self.pause is Pause.IN_KEY and keys and keys[0].startswith(_STAND_IN):
            whole = self._long_key.copy()
            whole.update(keys[0].removeprefix(_STAND_IN).encode())
            marks[0] = whole.digest()
        return marks

    def _refuse_keys_again(
        self, pieces: "list[list[JsonValue] | dict[str, JsonValue]]", text: bytes, end: bytes, cut: Cut
    ) -> None:
        """Remember the keys of open objects; refuse those that came before, with jiter's words and at its place."""
        again: dict[int, list[str]] = {}
        for depth, (level, piece) in enumerate(zip(self.levels, pieces, strict=True)):
            if isinstance(piece, dict):
                found = self._remember(level, self._new_keys(depth, piece, cut))
                if found:
                    again[depth] = found
        if again:
            start = self._opening(again)
            try:
                parse(start + text + end)
            except Malformed as error:
                raise self._refusal(error, len(start)) from None

    def _remember(self, level: Level, keys: list[str]) -> list[str]:
        """Remember an object's keys; those that it had."""
        seen = level.seen = level.seen or FirstSeen()
        before = len(seen)
        again = []
        for number, (key, mark) in enumerate(zip(keys, self._marks(keys), strict=True), before):
            if seen.setdefault(mark, number) != number:
                again.append(key)
        self._keys += len(seen) - before
        if self._keys > KEYS_MAX:
            raise invalid(Fault(place=self._place, detail=f"has objects of more than {KEYS_MAX:,} keys"))
        return again

    def _refuse_keys_before(self, text: bytes) -> None:
        """The same for a text that ends before another fault."""
        for patience in (0, len(text)):
            cut = self._cut(text, patience)
            if not cut.balanced:
                return
            if cut.pause is Pause.KEY:  # a key is one only with its colon
                continue
            start, end = self._opening(), self._ending(cut)
            try:
                root = parse(start + text[: cut.end] + end)
            except Malformed:
                continue
            self._refuse_keys_again(self._continued(root), text[: cut.end], end, cut)
            return

    def _join(self, pieces: "list[list[JsonValue] | dict[str, JsonValue]]", cut: Cut) -> None:
        kept = len(self.levels) - cut.closed
        in_same_key = (
            self.pause is cut.pause is Pause.IN_KEY and not cut.closed and not cut.opened and len(pieces[-1]) == 1
        )
        if in_same_key:
            self._extend_key(next(iter(cast("dict[str, JsonValue]", pieces[-1]))))
            return
        for level, piece in zip(self.levels, pieces, strict=True):
            if self.pause is Pause.IN_KEY and level is self.levels[-1]:
                level.key = self._long_key_begins + LONG_KEY
            _add(level, piece, self.pause if level is self.levels[-1] else None)
        for level in self.levels[kept:]:
            self._keys -= len(level.seen or ())
        del self.levels[kept:]
        for number, _ in enumerate(cut.opened, 1):
            outer = self.levels[-1]
            outer.key, value = _last(outer.value)
            level = Level(value)  # type: ignore[arg-type]
            self.levels.append(level)
            if isinstance(value, dict):
                keys = list(value)
                if number == len(cut.opened) and cut.pause in (Pause.COMMA, Pause.IN_KEY):
                    keys.pop()
                self._remember(level, keys)
        self._begin(cut.pause)

    def _begin(self, pause: Pause) -> None:
        """Put away what was made up to end the group."""
        level = self.levels[-1]
        key = ""
        if pause in (Pause.COMMA, Pause.IN_KEY):
            if isinstance(level.value, dict):
                key, _ = level.value.popitem()
            else:
                level.value.pop()
        elif pause in _WITH_KEY:
            level.key, _ = _last(level.value)
        if pause is Pause.IN_KEY:
            self._long_key = blake2b()
            self._long_key_begins = ""
            self._extend_key(key)
        self.pause = pause

    def _extend_key(self, more: str) -> None:
        more = more.removeprefix(_STAND_IN).removesuffix(_TO_COME)
        self._long_key.update(more.encode())
        self._long_key_begins += more[: KEY_KEPT - len(self._long_key_begins)]


def _add(level: Level, piece: "list[JsonValue] | dict[str, JsonValue]", pause: Pause | None) -> None:
    """Add what a group has of a container; `pause` is given for the innermost, whose first entry it explains."""
    if isinstance(level.value, list) and isinstance(piece, list):
        if pause in _IN_SCALAR:
            level.value[-1:] = [_continue(level.value[-1] if level.value else "", piece[0], pause)]
        level.value += piece if pause is Pause.OPENED else piece[1:]
    elif isinstance(level.value, dict) and isinstance(piece, dict):
        if pause is not Pause.OPENED:
            key, value = next(iter(piece.items()))
            del piece[key]
            if pause in (Pause.KEY, Pause.COLON):
                level.value[level.key] = value
            elif pause in _IN_SCALAR:
                level.value[level.key] = _continue(level.value.get(level.key, ""), value, pause)
            elif pause is Pause.IN_KEY:
                level.value.pop(level.key, None)  # of another that begins alike
                level.value[level.key] = value
        level.value.update(piece)


def _continue(begun: JsonValue, more: JsonValue, pause: Pause | None) -> JsonValue:
    if pause is Pause.IN_TEXT and isinstance(begun, str) and isinstance(more, str):
        return begun[:TEXT_KEPT] + more
    return math.inf


def _last(value: "list[JsonValue] | dict[str, JsonValue]") -> tuple[str, JsonValue]:
    return next(reversed(value.items())) if isinstance(value, dict) else ("", value[-1])
