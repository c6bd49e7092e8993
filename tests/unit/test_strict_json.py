"""JSON read strictly: what is refused, and where it says the fault is; what counts as the same content."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.problems import MalformedJson
from shared.strict_json import MAX_DEPTH, read_json, same_content

REFUSED = [
    (b"", "EOF while parsing a value at line 1 column 0"),
    (b"{", "line 1 column 1"),
    (b'{"a": 1,}', "line 1 column 9"),
    (b"{'a': 1}", "line 1 column 2"),
    (b"[1] [2]", "trailing characters at line 1 column 5"),
    (b'{\n "a": 1,\n "b": x}', "line 3 column 7"),
    (b"NaN", "NaN and Infinity are not JSON; use null at line 1"),
    (b'{"a": NaN}', "NaN and Infinity are not JSON; use null at line 1"),
    (b"[1,\n Infinity]", "NaN and Infinity are not JSON; use null at line 2"),
    (b'{"a": -Infinity}', "NaN and Infinity are not JSON; use null at line 1"),
    (b'{"a": 1, "b": 2, "a": 3}', 'duplicate key "a" at line 1 column'),
    (b'{"x": {"a": 1, "\\u0061": 3}}', 'duplicate key "a"'),
    (b'["\\ud800"]', "half of a surrogate pair, which is no character, at line 1 column"),
    (b'["\\udc00\\ud800"]', "half of a surrogate pair, which is no character, at line 1 column"),
    (b"[" + b"1" * 4301 + b",\n x]", "expected value at line 2 column 2"),
    (b"[" + b"1" * 4301 + b"x]", "expected `,` or `]` at line 1 column 4303"),
    (b"[0" + b"1" * 4301 + b", " + b"1" * 4301 + b"]", "invalid number at line 1 column 3"),
    (b'["\\n\xff"]', "invalid unicode code point at line 1 column 5"),
    (b'{"' + b"k" * 5000 + b'": 1, "' + b"k" * 5000 + b'": 1}', 'k…" at line 1 column 10012'),
    (b'["\xff"]', "line 1 column 3"),
    (b'["\xed\xa0\x80"]', "line 1 column 3"),
    (b'["a\nb"]', "line 2 column 0"),
    (b"[01]", "invalid number at line 1 column 3"),
    (b"[1.]", "line 1 column"),
    (b"[+1]", "line 1 column 2"),
    (b"\xef\xbb\xbf{}", "byte order mark"),
    (b"\xff\xfe{\x00}\x00", "line 1 column 1"),
    (b"[" * 202 + b"]" * 202, f"nested deeper than {MAX_DEPTH} levels"),
]


@pytest.mark.parametrize(("text", "said"), REFUSED)
def test_refused(text: bytes, said: str) -> None:
    with pytest.raises(MalformedJson) as refusal:
        read_json(text, place="here")
    assert refusal.value.detail.startswith("here: ")
    assert said.lower() in refusal.value.detail.lower()


@pytest.mark.parametrize(
    "text",
    [
        b'{"big": 123456789012345678901234567890, "": [], "\\u0000": {}, "$a.b": -0.0}',
        b' [true, false, null, "\\ud83d\\ude00", 1e5, 1E-5]\r\n\t',
        b'"text"',
        b"[" * 201 + b"]" * 201,
    ],
)
def test_read_as_python_does(text: bytes) -> None:
    assert read_json(text) == json.loads(text)


@pytest.mark.parametrize("number", ["1" * 4301, "-" + "1" * 9000, "1" * 5000 + ".5", "1" * 5000 + "e-2"])
def test_numbers_too_long_for_jiter_are_infinite(number: str) -> None:
    text = f'{{"{number}": [{number}, 1], "b": "\\"{number}", "c":{number}}}'
    infinite = float("inf")
    assert read_json(text.encode()) == {number: [infinite, 1], "b": '"' + number, "c": infinite}
    assert same_content(text.encode(), text.encode() + b" ")


SAME = [
    (b'{"a": 1, "b": [1.0, "x"]}', b'{"b":[1.0,"\\u0078"],"a":1}'),
    (b"{}", b" { } "),
    (b'{"a": {"b": 1, "c": 2}}', b'{"a": {"c": 2, "b": 1}}'),
]
DIFFERENT = [
    (b"[1]", b"[1.0]"),
    (b"[1.0]", b"[1.00]"),
    (b"[1e2]", b"[100]"),
    (b"[1e400]", b"[1e401]"),
    (b"[0]", b"[-0]"),
    (b"[1]", b"[true]"),
    (b"[0]", b"[false]"),
    (b"[1]", b'["1"]'),
    (b"[1]", b'[["1"]]'),
    (b"[1, 2]", b"[2, 1]"),
    (b'{"a": null}', b"{}"),
    (b"[]", b"{}"),
    (b'"a"', b'"A"'),
    (b'"\\u00fc"', b'"u\\u0308"'),
    (b"[12345678901234567890123]", b"[12345678901234567890124]"),
    (b"[0.1000000000000000055511151231257827]", b"[0.1]"),
]


@pytest.mark.parametrize(("left", "right"), SAME)
def test_same_content(left: bytes, right: bytes) -> None:
    assert same_content(left, right)
    assert same_content(right, left)


@pytest.mark.parametrize(("left", "right"), DIFFERENT)
def test_other_content(left: bytes, right: bytes) -> None:
    assert not same_content(left, right)
    assert not same_content(right, left)


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_whatever_python_writes_is_read_back(value: Any) -> None:
    plain = json.dumps(value).encode()
    spaced = json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True).encode()
    assert read_json(plain) == value
    assert read_json(spaced) == value
    assert same_content(plain, spaced)


@given(st.binary(max_size=60))
def test_other_bytes_are_refused_and_never_fail_otherwise(text: bytes) -> None:
    try:
        value = read_json(text)
    except MalformedJson as refusal:
        assert refusal.detail  # noqa: PT017 - bytes that happen to be JSON are fine
    else:
        assert value == json.loads(text)
