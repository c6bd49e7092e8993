"""Tolerant JSON: what harnesses write is read as far as it can be, whole or member by member."""

import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.formats import json_reading
from shared.formats.json_reading import Unreadable, finite_number, read_file, read_lines, read_members, read_value
from shared.formats.tree import File

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def file_of(tmp_path: Path, content: bytes, name: str = "a.jsonl") -> File:
    location = tmp_path / name
    location.write_bytes(content)
    return File(name, location, len(content))


@pytest.mark.parametrize("text", [b"[NaN, Infinity, -Infinity]", b"\xef\xbb\xbf[NaN, Infinity, -Infinity]"])
def test_bare_nan_and_infinity_are_numbers(text: bytes) -> None:
    nan, infinity, negative = read_value(text)
    assert math.isnan(nan)
    assert (infinity, negative) == (math.inf, -math.inf)


def test_a_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unreadable) as caught:
        read_file(file_of(tmp_path, b'{"a": 1,'))
    assert caught.value.place == "a.jsonl"
    assert "is not JSON" in str(caught.value)


def test_lines_are_read_one_by_one_and_a_bad_one_stands_in_its_place(tmp_path: Path) -> None:
    found = list(read_lines(file_of(tmp_path, b'{"a":1}\r\n\n{"a":NaN}\nnonsense\n{"a":2}\n{"a":')))
    assert [place for place, _ in found] == [f"a.jsonl:{number}" for number in (1, 3, 4, 5, 6)]
    assert found[0][1] == {"a": 1}
    assert isinstance(found[2][1], Unreadable)
    assert found[3][1] == {"a": 2}
    assert isinstance(found[4][1], Unreadable)
    assert "ends within this line" in found[4][1].reason


def test_an_array_is_read_as_if_its_elements_were_lines(tmp_path: Path) -> None:
    found = list(read_lines(file_of(tmp_path, b' [\n{"a":1},\n{"a":NaN}]')))
    assert [place for place, _ in found] == ["a.jsonl:[0]", "a.jsonl:[1]"]


def test_a_line_that_would_not_fit_in_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_reading, "VALUE_MAX_BYTES", 20)
    with pytest.raises(Unreadable, match="more than 20 bytes"):
        list(read_lines(file_of(tmp_path, b'{"a":1}\n{"a":"%s"}\n' % (b"x" * 30))))


@pytest.mark.parametrize("block", [1, 2, 3, 7, 64, 1 << 20])
@given(document=st.dictionaries(st.text(), VALUES, max_size=5) | st.lists(VALUES, max_size=5))
def test_members_are_those_of_the_whole_whatever_the_blocks(block: int, document: Any) -> None:
    text = json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")
    try:
        text.decode()
    except UnicodeDecodeError:
        return  # half of a surrogate pair is in no file
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(json_reading, "BLOCK_BYTES", block)
        found = list(read_members(io.BytesIO(text), "f"))
    expected = document.items() if isinstance(document, dict) else enumerate(document)
    assert [(key, value) for key, _, value in found] == list(expected)


def test_named_members_come_element_by_element() -> None:
    text = b'{"version": 2, "samples": [{"id": 1}, {"id": 2}], "by": {"k": NaN}, "none": [], "late": "x"}'
    found = list(read_members(io.BytesIO(text), "f", into={"samples", "by", "none"}))
    assert found[:3] == [("version", None, 2), ("samples", 0, {"id": 1}), ("samples", 1, {"id": 2})]
    assert found[3][:2] == ("by", "k")
    assert math.isnan(found[3][2])
    assert found[4:] == [("late", None, "x")]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "ends too early"),
        (b'{"a": 1', "ends too early"),
        (b'{"a": "xyz', "ends too early"),
        (b'{"a": 1,}', "a key is expected"),
        (b"[1 2]", ", or ] is expected"),
        (b"[1] x", "something follows the end"),
        (b"5", "[ or { is expected"),
        (b'{"a": [1, tru], "b": "long enough to see the fault"}', "expecting value"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a": "\xff"}', "is not UTF-8"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=r"^f") as caught:
        list(read_members(io.BytesIO(text), "f"))
    assert reason in str(caught.value)


@pytest.mark.parametrize("block", [1, 5, 64, 1 << 20])
def test_a_value_that_would_take_far_more_memory_than_its_text_is_refused(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_reading, "CONTAINERS_MAX", 10)
    monkeypatch.setattr(json_reading, "BLOCK_BYTES", block)
    few, many = b"[[],[],[],[]]", b"[" + b"{}," * 40 + b"[]]"
    assert read_value(few) == [[]] * 4
    with pytest.raises(ValueError, match="more than 10 lists and objects"):
        read_value(many)
    members = read_members(io.BytesIO(b'{"a": %b, "b": %b, "c": %b, "d": 1}' % (few, few, many)), "f")
    assert [next(members)[2], next(members)[2]] == [[[]] * 4] * 2
    with pytest.raises(Unreadable, match="more than 10 lists and objects"):
        list(members)
    rows = b"[" + b",".join([few] * 50) + b"]"  # which have so many together only
    assert len(list(read_members(io.BytesIO(rows), "f"))) == 50


def test_halves_of_characters_and_endless_numbers_are_read(tmp_path: Path) -> None:
    text = b'{"a\\ud83d": ["\\ud83d\\ude00", "\\udead", 1%b, -1%b], "n": NaN}' % (b"0" * 5000, b"0" * 400)
    expected = {"a\ufffd": ["\U0001f600", "\ufffd", math.inf, -math.inf]}
    for found in (read_value(text), {key: value for key, _, value in read_members(io.BytesIO(text), "f")}):
        assert math.isnan(found.pop("n"))
        assert found == expected
    [(_, line)] = read_lines(file_of(tmp_path, text))
    assert line["a\ufffd"] == expected["a\ufffd"]


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, 1.0),
        (True, 1.0),
        (0.5, 0.5),
        (10**400, None),
        (math.nan, None),
        (-math.inf, None),
        ("1", None),
        (None, None),
    ],
)
def test_finite_numbers(value: object, number: float | None) -> None:
    assert finite_number(value) == number


def test_members_before_a_fault_are_handed_out() -> None:
    members = read_members(io.BytesIO(b'[{"a": 1}, {"a": 2}, {"a"'), "f")
    assert [next(members)[2], next(members)[2]] == [{"a": 1}, {"a": 2}]
    with pytest.raises(Unreadable):
        next(members)
