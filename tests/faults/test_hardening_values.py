"""Values that nobody should send, wherever a value goes: each is answered as it must be, and stores nothing."""

import json
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.faults.conftest import Services

BIG = [2**40, 2**63, 2**64, 2**70]
INVALID, MALFORMED = (422, "invalid-request"), (400, "malformed-json")
numbers = count()
refused = pytest.mark.usefixtures("nothing_changes")


def document(question: Mapping[str, Any] | None = None, /, **changes: Any) -> dict[str, Any]:
    """A valid document of a name of its own, with some fields changed."""
    questions = [{"question_id": "q1", "score": 1.0, "metadata": {"level": 1}, **(question or {})}]
    envelope = {"run_id": f"hardening-{next(numbers)}", "benchmark_name": "math500", "model_id": "gpt-4", "source": "t"}
    return envelope | {"timestamp": "2024-01-01T12:00:00Z", "data": {"questions": questions}} | changes


def assert_problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """The problem that an answer is, which must be this one and no longer than a page."""
    assert answer.status_code == status, answer.text[:500]
    problem: dict[str, Any] = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["type"] == f"urn:scorehouse:problem:{slug}"
    assert problem["status"] == status
    assert len(answer.content) < 40_000
    return problem


def push(services: Services, content: dict[str, Any] | bytes, kind: str = "standardized_output") -> httpx.Response:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return services.results.post(f"/{kind}", content=body, timeout=30)


def numbers_in_questions() -> Iterator[tuple[str, int]]:
    """Numbers that are none for these fields."""
    limits = {"attempt": 32_767, "latency_ms": 10**15, "cost_usd": 10**15, "input_tokens": 2**53}
    limits |= {"output_tokens": 2**53, "score": 1, "question_id": -1, "content_hash": -1, "status": -1, "metadata": -1}
    for field, limit in limits.items():
        yield from ((field, number) for number in [*BIG, -1, -(2**70)] if not 0 <= number <= limit)


@refused
@pytest.mark.parametrize(("field", "number"), [*numbers_in_questions()])
def test_numbers_in_questions(field: str, number: int, open_services: Services) -> None:
    problem = assert_problem(push(open_services, document({field: number})), *INVALID)
    assert problem["faults"][0]["place"] == f"data.questions[0].{field}"


@refused
@pytest.mark.parametrize("number", [2**63, 2**64, 2**70, -(2**63) - 1])
def test_numbers_beyond_an_integer_column(number: int, open_services: Services) -> None:
    problem = assert_problem(push(open_services, document({"metadata": {"level": number}})), *INVALID)
    assert problem["faults"][0]["place"] == "data.questions[0].metadata.level"


@refused
@pytest.mark.parametrize("number", BIG)
@pytest.mark.parametrize(
    "field",
    ["run_id", "benchmark_name", "timestamp", "model_id", "source", "tokenizer_id", "provenance", "data", "other"],
)
def test_numbers_in_the_envelope(field: str, number: int, open_services: Services) -> None:
    problem = assert_problem(push(open_services, document(**{field: number})), *INVALID)
    assert problem["faults"][0]["place"] == field


@pytest.mark.parametrize("kind", ["raw_input", "standardized_output"])
@pytest.mark.parametrize("number", BIG)
def test_numbers_anywhere_else_come_back_as_they_went(number: int, kind: str, open_services: Services) -> None:
    question = {"answer": number, "target": {"deep": [number, float(number)]}, "metadata": {"foreign": number}}
    sent = document(question, provenance={"config": {"seed": number}})
    sent["data"] |= {"accuracy": number, "n": float(number), str(number): -number}
    answer = push(open_services, sent, kind)
    assert answer.status_code == 201, answer.text
    back = open_services.results.get(f"/{kind}/{quote(answer.json()['result_name'], safe='')}")
    assert back.content.endswith(b'"data":' + json.dumps(sent["data"]).encode() + b"}")
    assert back.json()["provenance"]["config"] == {"seed": number}
    assert back.json()["summary"]["accuracy"] == number


NOT_NAMES = ["a\r\nSet-Cookie: x=1", "a\nb", "a\0b", "\x1b[31m", "\x7f", "\x85", "", "a" * 301, "é" * 151]
NOT_IN_PATHS = ["../../etc/passwd", "/etc/passwd", "a/b", " a", "a ", "a" * 201, "</script>"]
ODD_NAMES = [
    "..",
    ".",
    "%2e%2e%2f",
    "%00",
    "$where",
    "'; DROP TABLE runs; --",
    '"',
    "{{7*7}}",
    "\u202e",
    "a\u2028b",
    "🏠",
]
ODD_NAMES += ["..\\..\\x", "?a=b", "#a", "a;b", "a&b", "batch", "%"]


@refused
@pytest.mark.parametrize("name", NOT_NAMES)
@pytest.mark.parametrize("field", ["run_id", "benchmark_name", "model_id", "source", "tokenizer_id"])
def test_names_that_are_none(field: str, name: str, open_services: Services) -> None:
    problem = assert_problem(push(open_services, document(**{field: name})), *INVALID)
    assert problem["faults"][0]["place"] == field


@refused
@pytest.mark.parametrize("name", NOT_IN_PATHS)
@pytest.mark.parametrize("field", ["run_id", "benchmark_name"])
def test_names_that_would_leave_their_path(field: str, name: str, open_services: Services) -> None:
    problem = assert_problem(push(open_services, document(**{field: name})), *INVALID)
    assert problem["faults"][0]["place"] == field


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_are_names(name: str, open_services: Services) -> None:
    sent = document(run_id=f"{name}{next(numbers)}", model_id=name, source=name)
    answer = push(open_services, sent)
    assert answer.status_code == 201, answer.text
    back = open_services.results.get(f"/standardized_output/{quote(answer.json()['result_name'], safe='')}")
    assert back.status_code == 200
    assert (back.json()["run_id"], back.json()["model_id"]) == (sent["run_id"], name)
    found = open_services.results.get("/standardized_output", params={"run_id": sent["run_id"]})
    assert [item["result_name"] for item in found.json()["items"]] == [answer.json()["result_name"]]


RAW = json.dumps(document()).encode()
BROKEN_BODIES = {
    "lone surrogate, escaped": RAW.replace(b'"q1"', rb'"\ud800"'),
    "lone low surrogate, escaped": RAW.replace(b'"q1"', rb'"\udc00x"'),
    "lone surrogate, raw": RAW.replace(b'"q1"', b'"\xed\xa0\x80"'),
    "lone surrogate in a key": RAW.replace(b'"score"', rb'"\udfff"'),
    "overlong slash": RAW.replace(b'"q1"', b'"\xc0\xaf"'),
    "overlong NUL": RAW.replace(b'"q1"', b'"\xc0\x80"'),
    "beyond Unicode": RAW.replace(b'"q1"', b'"\xf4\x90\x80\x80"'),
    "cut character": RAW.replace(b'"q1"', b'"\xe2\x82"'),
    "NUL in a string": RAW.replace(b'"q1"', b'"a\0b"'),
    "NUL behind": RAW + b"\0",
    "something behind": RAW + b"x",
    "twice": RAW + RAW,
    "UTF-16": RAW.decode().encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf" + RAW,
    "cut": RAW[:-1],
    "nothing": b"",
    "NaN": RAW.replace(b"1.0", b"NaN"),
    "-Infinity": RAW.replace(b"1.0", b"-Infinity"),
    "hexadecimal": RAW.replace(b"1.0", b"0x1"),
    "leading zero": RAW.replace(b"1.0", b"01"),
    "a key twice": RAW.replace(b'"score"', b'"question_id"'),
    "a key twice, escaped once": RAW.replace(b'"run_id"', rb'"source":"t","s\u006furce"'),
    "a comment": RAW.replace(b"1.0", b"1.0/*x*/"),
    "a comma too many": RAW.replace(b"1.0", b"1.0,"),
    "10,000 brackets": b"[" * 10_000,
}


@refused
@pytest.mark.parametrize("body", [*BROKEN_BODIES.values()], ids=BROKEN_BODIES)
@pytest.mark.parametrize("kind", ["raw_input", "standardized_output"])
def test_bodies_that_are_no_json(kind: str, body: bytes, open_services: Services) -> None:
    problem = assert_problem(push(open_services, body, kind), *MALFORMED)
    assert "line" in problem["detail"] or "byte order mark" in problem["detail"]


@refused
@pytest.mark.parametrize("body", [b"null", b"1", b'"text"', b"[]", b"{}", str(2**70).encode(), b"true"])
@pytest.mark.parametrize("kind", ["raw_input", "standardized_output"])
def test_json_that_is_no_document(kind: str, body: bytes, open_services: Services) -> None:
    assert_problem(push(open_services, body, kind), *INVALID)


def test_an_integer_of_5000_digits(open_services: Services) -> None:
    body = json.dumps(document()).encode().replace(b"1.0", b"9" * 5000)
    problem = assert_problem(push(open_services, body), *INVALID)
    assert problem["faults"][0]["place"] == "data.questions[0].score"
    answer = push(open_services, body, "raw_input")
    assert answer.status_code == 201
    name = quote(answer.json()["result_name"], safe="")
    assert b"9" * 5000 in open_services.results.get(f"/raw_input/{name}").content


KEYS: dict[str, Any] = {f"key-{number}": number for number in range(10_000)}


@refused
@pytest.mark.parametrize("where", ["envelope", "provenance", "config"])
def test_10_000_keys_where_few_belong(where: str, open_services: Services) -> None:
    changes: dict[str, Any] = {
        "envelope": KEYS,
        "provenance": {"provenance": KEYS},
        "config": {"provenance": {"config": KEYS}},
    }[where]
    assert_problem(push(open_services, document(**changes)), *INVALID)


@refused
def test_a_long_key_is_not_repeated(open_services: Services) -> None:
    assert_problem(push(open_services, document(**{"k" * 1_000_000: 1})), *INVALID)


@pytest.mark.parametrize("where", ["data", "question", "metadata", "answer"])
def test_10_000_keys_in_data(where: str, open_services: Services) -> None:
    changes: dict[str, Any] = {
        "data": {},
        "question": KEYS,
        "metadata": {"metadata": KEYS},
        "answer": {"answer": KEYS},
    }[where]
    sent = document(changes)
    if where == "data":
        sent["data"] |= KEYS
    answer = push(open_services, sent)
    assert answer.status_code == 201
    assert len(answer.content) < 40_000
    listed = open_services.results.get("/standardized_output", params={"run_id": sent["run_id"]})
    assert len(listed.content) < 40_000


LIMITS = [("limit", value) for value in (*BIG, -1, 0, "x", "1e3", "nan", "٣", "", "1;2")]


@refused
@pytest.mark.parametrize(("name", "value"), [*LIMITS, ("cursor", "x"), ("unknown", "1"), ("limit", ["1", "2"])])
@pytest.mark.parametrize("kind", ["raw_input", "standardized_output"])
def test_list_parameters(kind: str, name: str, value: Any, open_services: Services) -> None:
    problem = assert_problem(open_services.results.get(f"/{kind}", params={name: value}), *INVALID)
    assert problem["faults"][0]["place"] == f"query.{name}"


FEED = [*LIMITS, ("limit", 10_001), *(("after", value) for value in (2**63, 2**64, 2**70, -1, "x", 1.5))]
FEED += [("wait_s", value) for value in (*BIG, -1, "nan", "inf", 31)]


@refused
@pytest.mark.parametrize(("name", "value"), FEED)
def test_feed_parameters(name: str, value: Any, open_services: Services) -> None:
    problem = assert_problem(open_services.results.get("/feed", params={name: value}), *INVALID)
    assert problem["faults"][0]["place"] == f"query.{name}"


@refused
@pytest.mark.parametrize("after", [2**40, 2**53, 2**63 - 1])
def test_feed_far_beyond_its_end_is_empty(after: int, open_services: Services) -> None:
    answer = open_services.results.get("/feed", params={"after": after})
    assert (answer.status_code, answer.content) == (200, b"")


@refused
@pytest.mark.parametrize(
    "forge",
    [
        lambda cursor: cursor[:-4],
        lambda cursor: cursor[::-1],
        lambda cursor: cursor + "A",
        lambda cursor: cursor * 100,
        lambda cursor: cursor[0].swapcase() + cursor[1:],
        lambda _: "W10=",
        lambda _: "bnVsbA==",
        lambda _: "W251bGwsIG51bGxd",
        lambda _: "WyJhIiwgeyIkbmUiOiAxfV0=",  # ["a", {"$ne": 1}]
        lambda _: "A" * 8000,
        lambda _: "\0",
        lambda _: "%00",
        lambda _: "é",
    ],
)
def test_forged_cursors(forge: Any, open_services: Services) -> None:
    cursor = open_services.results.get("/standardized_output", params={"limit": 1}).json()["next_cursor"]
    parameters = {"limit": 1, "cursor": forge(cursor)}
    problem = assert_problem(open_services.results.get("/standardized_output", params=parameters), *INVALID)
    assert problem["faults"][0]["place"] == "query.cursor"


@refused
@pytest.mark.parametrize(("path", "more"), [("raw_input", {}), ("standardized_output", {"model_id": "gpt-4"})])
def test_foreign_cursors(path: str, more: dict[str, str], open_services: Services) -> None:
    cursor = open_services.results.get("/standardized_output", params={"limit": 1}).json()["next_cursor"]
    answer = open_services.results.get(f"/{path}", params={"limit": "1", "cursor": cursor, **more})
    assert_problem(answer, *INVALID)


PATHS = [
    str(2**70),
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e",
    "a%00b",
    "a%0d%0aSet-Cookie:%20x=1",
    "%ff",
    "%ed%a0%80",
    "%252e",
]
PATHS += ["a" * 8000, "$where", "-", "2024-01-01T12:00:00Z", "2024-99-99T99:99:99Z-a-b", "{}", "%7B%22$ne%22:1%7D"]


@refused
@pytest.mark.parametrize("path", PATHS)
def test_paths_that_lead_nowhere(path: str, open_services: Services) -> None:
    for kind in ("raw_input", "standardized_output"):
        assert_problem(open_services.results.get(f"/{kind}/{path}"), 404, "not-found")
    for version in ("", "/v1"):
        answer = open_services.analysis.get(f"{version}/benchmarks/{path}/metadata")
        assert_problem(answer, 404, "not-found")
        assert "set-cookie" not in answer.headers


QUESTIONS: list[dict[str, Any]] = [
    *({"limit": number} for number in (*BIG, -1, 0, 100_001)),
    *({"level1_values": [number]} for number in (2**63, 2**64, 2**70, -(2**70), 1.5, 1e300)),
    *({"filters": {"level": [number]}} for number in (2**63, 2**70, 1e300)),
    *({"filters": {"subject": [number]}} for number in BIG),
    *({name: 2**70} for name in ("level1", "level2", "runs", "models", "filters", "by_model", "order_by", "benchmark")),
    {"models": [2**70]},
    {"runs": [2**70]},
    {"models": ["a\0b"]},
    {"runs": ["a\0b"]},
    {"benchmark": "../x"},
    {"level1": "level; DROP TABLE runs"},
    {"level1": "level`"},
    {"order_by": "mean; DROP TABLE runs"},
    {"order_by": "-\0"},
    {"filters": {"level": [{"$ne": 1}]}},
    {"filters": KEYS},
    {"level1_values": list(range(5001))},
    {"benchmark": None},
    KEYS,
]


@refused
@pytest.mark.parametrize("changes", QUESTIONS, ids=lambda changes: json.dumps(changes)[:50])
@pytest.mark.parametrize("version", ["", "/v1"])
def test_questions_that_are_none(version: str, changes: dict[str, Any], open_services: Services) -> None:
    question = {"benchmark": "math500", "level1": "level"} | changes
    assert_problem(open_services.analysis.post(f"{version}/analysis", json=question), *INVALID)


@refused
@pytest.mark.parametrize("number", [2**63, 2**64, 2**70])
def test_options_of_no_number(number: int, open_services: Services) -> None:
    levels = {"level1": "level", "level1_values": [number]}
    answer = open_services.analysis.post("/benchmarks/math500/metadata/options", json=levels)
    assert_problem(answer, *INVALID)


@refused
@pytest.mark.parametrize(
    "body",
    [
        rb'{"benchmark":"math500","level1":"\ud800"}',
        b'{"benchmark":"math500","level1":"\xed\xa0\x80"}',
        b'{"benchmark":"math500","level1":"\xc0\xaf"}',
        b'{"benchmark":"math500","level1":"level","level1_values":[NaN]}',
        b'{"benchmark":"math500","benchmark":"aime","level1":"level"}',
        b"[" * 10_000,
        b"\0",
    ],
)
def test_questions_that_are_no_json(body: bytes, open_services: Services) -> None:
    assert_problem(open_services.analysis.post("/analysis", content=body), *MALFORMED)


@refused
@pytest.mark.parametrize("number", [2**40, -1, 2**63 - 1, -(2**63)])
def test_numbers_that_no_answer_has_find_none(number: int, open_services: Services) -> None:
    question = {"benchmark": "math500", "level1": "level", "level1_values": [number]}
    answer = open_services.analysis.post("/analysis", json=question)
    assert (answer.status_code, answer.json()["rows"]) == (200, [])
