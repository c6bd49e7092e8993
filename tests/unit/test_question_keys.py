"""What makes a question the same one in all runs: a table, and laws against the slow reference."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis_service.projection.question_keys import copy_in, hash_in, question_keys
from shared.submission import Question
from tests.documents import make_answer, reference_keys

CASES: list[tuple[str, list[tuple[str, str | None]], list[str]]] = [
    ("no hashes", [("a", None), ("b", None), ("a", None)], ["id:a", "id:b", "id:a"]),
    ("hashes", [("a", "h1"), ("b", "h2")], ["1:h1", "1:h2"]),
    ("some hashes", [("a", "h1"), ("b", None)], ["1:h1", "id:b"]),
    ("a text twice", [("b", "h"), ("a", "h"), ("b", "h"), ("c", "h")], ["1:h", "2:h", "1:h", "3:h"]),
    ("an id with two texts", [("a", "h1"), ("a", "h2"), ("a", "h1")], ["1:h1", "1:h2", "1:h1"]),
    (
        "an attempt without its hash",
        [("a", None), ("a", "h1"), ("a", "h2"), ("a", None)],
        ["1:h1"] * 2 + ["1:h2", "1:h1"],
    ),
    ("an empty hash", [("a", ""), ("b", "h")], ["id:a", "1:h"]),
    ("one that looks like another's key", [("2:h", None), ("a", "id:2:h"), ("b", "h")], ["id:2:h", "1:id:2:h", "1:h"]),
]


def keys_of(attempts: list[tuple[str, str | None]]) -> list[str]:
    return list(question_keys([Question(question_id=name, content_hash=told) for name, told in attempts]))


@pytest.mark.parametrize(("attempts", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_keys(attempts: list[tuple[str, str | None]], expected: list[str]) -> None:
    assert keys_of(attempts) == expected


ID = st.sampled_from(["a", "b", "1:h", "id:a", "h"])
HASH = st.none() | st.sampled_from(["", "h", "g", "id:a", "1:h", "2:h"])


@given(st.lists(st.tuples(ID, HASH), max_size=12))
def test_two_attempts_have_one_key_where_the_definition_says_so(attempts: list[tuple[str, str | None]]) -> None:
    reference = reference_keys([make_answer(name, content_hash=told) for name, told in attempts])
    keys = keys_of(attempts)
    assert len(set(zip(keys, reference, strict=True))) == len(set(keys)) == len(set(reference))
    for key, (kind, *parts) in zip(keys, reference, strict=True):
        assert hash_in(key) == (parts[0] if kind == "text" else None)
        assert copy_in(key) == (int(parts[1]) + 1 if kind == "text" else 1)


@given(st.lists(st.tuples(ID, HASH), max_size=8), st.lists(st.tuples(ID, HASH), max_size=8))
def test_runs_meet_where_the_definition_says_so(
    one: list[tuple[str, str | None]], other: list[tuple[str, str | None]]
) -> None:
    pairs = set()
    for attempts in (one, other):
        reference = reference_keys([make_answer(name, content_hash=told) for name, told in attempts])
        pairs |= set(zip(keys_of(attempts), reference, strict=True))
    assert len(pairs) == len({key for key, _ in pairs}) == len({key for _, key in pairs})
