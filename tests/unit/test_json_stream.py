"""JSON in blocks: refused as a whole document is, with the same words and places; whatever is long goes in pieces."""

import json
import math
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import shared.json_cuts
import shared.json_stream
from shared.first_seen import FirstSeen
from shared.json_stream import LONG_KEY, JsonStream
from shared.problems import InvalidRequest, MalformedJson
from shared.strict_json import MAX_DEPTH, read_json


def in_blocks(text: bytes, sizes: list[int]) -> Iterator[bytes]:
    """The text cut into blocks of these sizes, over and over."""
    position = number = 0
    while position < len(text):
        size = sizes[number % len(sizes)]
        yield text[position : position + size]
        position += size
        number += 1


def read_stream(text: bytes, sizes: list[int]) -> Any:
    """The value of a document in blocks, with nothing taken out on the way; or what is wrong with it."""
    stream = JsonStream("here")
    passed = b""
    try:
        for block in in_blocks(text, sizes):
            passed += b"".join(group.text for group in stream.feed(block))
        stream.finish()
    except MalformedJson as problem:
        return problem.detail
    assert text.startswith(passed)
    return [stream.value]


def read_whole(text: bytes) -> Any:
    """The same of the whole document."""
    try:
        return [read_json(text, place="here")]
    except MalformedJson as problem:
        return problem.detail


keys = st.text(max_size=4) | st.sampled_from(["a", "b", 'q"uo\\te', "a longer key\n", "\U0001f600"])
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | keys,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=30,
)
sizes = st.lists(st.integers(1, 40), min_size=1, max_size=4) | st.just([10_000])
edits = st.lists(
    st.tuples(
        st.floats(0, 1), st.integers(0, 3), st.sampled_from([*b'[]{}",:\\ 01eE.-+ntfuNI\n\r\xff\xc3\x80\x00dD8'])
    ),
    max_size=2,
)


def write(value: Any, *, ascii_only: bool, indent: int | None) -> bytes:
    """A document, as some writer would."""
    return json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "replace")


documents = st.builds(write, values, ascii_only=st.booleans(), indent=st.sampled_from([None, 1]))


def edit(text: bytes, changes: list[tuple[float, int, int]]) -> bytes:
    """The text with bytes put in, overwritten and taken out."""
    changed = bytearray(text)
    for where, cut, byte in changes:
        at = int(where * len(changed))
        changed[at : at + cut] = bytes([byte]) if cut < 3 else b""
    return bytes(changed)


@given(documents, edits, sizes)
@example(b'{"a": 1, "b": [1, 2], "a": nul}', [], [5])
@example(b'[1, {"a": 1, "b": 2, "b" 3}]', [], [7])
@example(b'{"a": [1, 2], "b": 3, "a": 4, "c": NaN}', [], [6])
@example(b"[1] [2]", [], [3])
@example(b"[1]2", [], [3])
@example(b"[[1}]", [], [2])
@example(b"\xef\xbb\xbf[]", [], [1])
def test_refused_and_read_as_a_whole_document(
    text: bytes, changes: list[tuple[float, int, int]], blocks: list[int]
) -> None:
    text = edit(text, changes)
    assert read_stream(text, blocks) == read_whole(text)


@given(documents, edits, sizes)
def test_long_keys_and_strings_in_pieces(text: bytes, changes: list[tuple[float, int, int]], blocks: list[int]) -> None:
    text = edit(text, changes)
    whole = read_whole(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared.json_stream, "TOKEN_BYTES", 3)
        patch.setattr(shared.json_stream, "GROUP_BYTES", 16)
        streamed = read_stream(text, blocks)
    # Of two faults in one string the other may be told, and a key in pieces has another name.
    assert isinstance(streamed, str) == isinstance(whole, str)
    if not isinstance(whole, str) and LONG_KEY not in repr(streamed):
        assert streamed == whole


NASTY = [
    # Two spaces are between documents, and "_" is one in them.
    *rb"""[  ]  {  }  "  \  [\]  [,]  [1,]  [,1]  {,}  {"a":1,}  {"a"}  {"a":}  {"a"_1}  {a:1}  {1:1}  {"a":1_"b":2}
        [1_2]  [1}  {"a":[}]  {"a":1]  [[]  []]  {}}  []x  []_[]  [][][]  1_2  "a"_"b"  tru  12  [01]  [-]  [+1]  [.5]
        [5.]  [1e]  [1e+]  [0x1]  [1f0]  [--1]  [1.2.3]  [1e2e3]  [-_1]  [1_.5]  [1e400]  [-0]  [1E5]  [NaN]  [nul]
        [-Infinity]  [Infinity]  [True]  [truefalse]  ['a']  [/*c*/1]  [1]//c  ["\x"]  ["\u12"]  ["\u12G4"]  ["a  ["a\
        ["\ud800"]  ["\ud800\u0041"]  ["\udc00"]  {"\ud800":1}  {"a":1,"a":1}  {"":1,"":1}  {"a":{"b":1,"b":1}}
        {"a":1,"\u0061":1}  [{"a":1},{"a":1}]""".replace(b"\n", b"").replace(b"_", b" ").split(b"  "),
    *(b" ", b"\n\n", b"[1\r\n,\r2]", b"[\x0c1]", b"[1\xc2\xa0]", b"[\xff]", b"\xef\xbb\xbf[]", b"\xff\xfe[\x00]\x00"),
    *(b'["\x00"]', b'["\t"]', b'["\x7f"]', b'["\xff"]', b'["\xc3"]', b'["\xc0\x80"]', b'["\xed\xa0\x80"]'),
    *(b'["\xf4\x90\x80\x80"]', b"[" * 201 + b"]" * 201, b"[" * 202 + b"]" * 202, b'{"a":' * 202),
    *(b"[%s]" % (b"7" * 4299), b"[%s]" % (b"7" * 4301), b"[-%s.5e-3]" % (b"7" * 9000), b'["%s"]' % (b"7" * 9000)),
    *(b"[0%s]" % (b"7" * 9000), b"[%sx]" % (b"7" * 9000), b'{"a": %s, "a": 1}' % (b"7" * 9000)),
]  # fmt: skip


@pytest.mark.parametrize("text", NASTY, ids=lambda text: repr(text[:20]))
def test_nasty_documents(text: bytes) -> None:
    whole = read_whole(text)
    for size in (1, 2, 3, 7, 10_000) if len(text) < 1000 else (1000, 3):
        assert read_stream(text, [size]) == whole


def test_a_key_that_comes_again_much_later() -> None:
    before = b'{"a": [{"x": 0}], ' + b", ".join(b'"k%d": %d' % (number, number) for number in range(3000))
    for again in (b"a", b"k7", b"k2999"):
        text = before + b',\n "new": 1, "' + again + b'": ['
        said = f'here: Detected duplicate key "{again.decode()}" at line 2 column '
        assert read_whole(text) == read_stream(text, [100]) == said + str(15 + len(again))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long begins early."""
    monkeypatch.setattr(shared.json_stream, "TOKEN_BYTES", 32)
    monkeypatch.setattr(shared.json_stream, "KEY_KEPT", 32)
    monkeypatch.setattr(shared.json_cuts, "NUMBER_BYTES", 32)
    monkeypatch.setattr(shared.json_stream, "GROUP_BYTES", 64)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_long_keys(size: int) -> None:
    first, second = ("long " * 30 + end for end in "ab")
    text = json.dumps({first: {"x": 1}, second: 2, "c": 3})
    assert read_stream(text.encode(), [size]) != read_whole(text.encode()), "the keys should have been cut"
    for key in (first, second, "c"):
        twice = f'{text[:-1]}, "{key}": 4}}'
        refusal = read_stream(twice.encode(), [size])
        assert "duplicate key" in refusal
        assert refusal.rpartition(" at ")[2] == read_whole(twice.encode()).rpartition(" at ")[2]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    "number",
    [
        "-" + "1" * 200,
        "1" * 200 + ".5",
        "0." + "1" * 200,
        "1.5E+" + "1" * 200,
        "1e" + "1" * 200,
        "2." + "1" * 200 + "e-5",
    ],
)
@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_long_numbers(number: str, size: int) -> None:
    text = f'{{"a": {number}, "b": [{number}, 5]}}'.encode()
    assert read_stream(text, [size]) == [{"a": math.inf, "b": [math.inf, 5]}]
    for wrong in (number + "x", number + "-", number + ".", number + "e", number + ".5e5e5", number + " 5"):
        assert isinstance(read_stream(f"[{wrong}]".encode(), [size]), str)
        assert isinstance(read_stream(wrong.encode(), [size]), str)
    assert read_stream(number.encode(), [size]) == [math.inf]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_long_white_space(size: int) -> None:
    gap = " \r\n\t" * 50
    text = '{"a":[1,{"b":"c"}],"d":true}'
    spaced = "".join(gap + character if character in '{}[],:"' else character for character in text.replace('"', "'"))
    spaced = spaced.replace(gap + "'", "'").replace("'", '"') + gap
    assert read_stream(spaced.encode(), [size]) == [json.loads(text)]
    assert "EOF" in read_stream(gap.encode(), [size])
    assert read_stream((gap + spaced + "x").encode(), [size]) == read_whole((gap + spaced + "x").encode())


def feed_all(stream: JsonStream, text: bytes, size: int) -> None:
    """Read a text in blocks."""
    for block in in_blocks(text, [size]):
        list(stream.feed(block))


def test_depth() -> None:
    shallow, deep = (b"[" * depth + b"]" * depth for depth in (MAX_DEPTH, MAX_DEPTH + 1))
    said = "here: nested deeper than 200 levels at line 1 column 201"
    for size in (1, 50, 1000):
        feed_all(JsonStream("here", max_depth=MAX_DEPTH), shallow, size)
        with pytest.raises(MalformedJson, match=said):
            feed_all(JsonStream("here", max_depth=MAX_DEPTH), deep, size)
    with pytest.raises(MalformedJson, match=said):
        read_json(deep, place="here", max_depth=MAX_DEPTH)


def test_too_many_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared.json_stream, "KEYS_MAX", 100)
    fine = b"[" + b",".join(b'{"a":{"k%d":1,"b":1},"c":1}' % number for number in range(200)) + b"]"
    assert read_stream(fine, [9]) == read_whole(fine)
    with pytest.raises(InvalidRequest, match="more than 100 keys"):
        read_stream(b'{"a":{' + b",".join(b'"k%d":1' % number for number in range(200)), [9])


def test_first_seen_is_like_a_dict() -> None:
    random = Random(5)
    plain: dict[str, int] = {}
    packed = FirstSeen()
    for position in range(20_000):
        key = f"k{random.randrange(10_000)}"
        assert packed.setdefault(key, position) == plain.setdefault(key, position)
    assert len(packed) == len(plain)
