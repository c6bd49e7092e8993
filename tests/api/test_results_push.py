"""Pushing results: created, unchanged, conflict; what is kept; what is refused, and that a refusal changes nothing."""

import asyncio
import gzip
import json
from collections.abc import Callable
from hashlib import sha256
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import pytest

from shared.compression import compress

if TYPE_CHECKING:
    from tests.conftest import ResultsUnderTest, StartResults

MakeResult = Callable[..., dict[str, Any]]
KINDS = ("raw_input", "standardized_output")
NAME = "2024-01-01T12:00:00Z-mmlu-run-1"


def with_data(document: dict[str, Any], data: bytes) -> bytes:
    """The document's JSON with `data` spliced in as it is."""
    rest = {key: value for key, value in document.items() if key != "data"}
    return json.dumps(rest).encode()[:-1] + b', "data": ' + data + b"}"


@pytest.mark.parametrize("kind", KINDS)
async def test_created_then_unchanged(results: "ResultsUnderTest", make_result: MakeResult, kind: str) -> None:
    body = with_data(make_result(), b'{"accuracy": 0.5}')
    first = await results.client.post(f"/{kind}", content=body)
    before = results.stored()
    second = await results.client.post(f"/{kind}", content=body)

    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["result_name"] == NAME
    assert first.json()["sha256"] == sha256(b'{"accuracy": 0.5}').hexdigest()
    assert (first.json()["status"], first.json()["unchanged"]) == ("created", False)
    assert (second.json()["status"], second.json()["unchanged"]) == ("unchanged", True)
    assert before == results.stored()
    assert before.get("feed", 0) == (1 if kind == "standardized_output" else 0)


async def test_same_content_in_another_spelling_is_unchanged(
    results: "ResultsUnderTest", make_result: MakeResult
) -> None:
    first = await results.client.post("/raw_input", content=with_data(make_result(), b'{"a": [1, 2.50], "b": "x"}'))
    again = make_result(timestamp="2024-01-01T21:00:00.000+09:00")
    second = await results.client.post("/raw_input", content=with_data(again, b'{"b":"\\u0078","a":[1,2.50]}'))
    kept = await results.client.get(f"/raw_input/{NAME}")

    assert (first.status_code, second.status_code) == (201, 200)
    assert b'{"a": [1, 2.50], "b": "x"}' in kept.content


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("changes", "data", "place"),
    [
        ({}, b'{"accuracy": 0.50}', "data"),
        ({}, b'{"accuracy": 0.5, "n": 1}', "data"),
        ({"source": "elsewhere"}, b'{"accuracy": 0.5}', "source"),
        ({"tokenizer_id": "tok"}, b'{"accuracy": 0.5}', "tokenizer_id"),
        ({"provenance": {"harness": "lm-eval"}}, b'{"accuracy": 0.5}', "provenance"),
    ],
)
async def test_other_content_is_a_conflict(
    results: "ResultsUnderTest", make_result: MakeResult, kind: str, changes: dict[str, Any], data: bytes, place: str
) -> None:
    await results.client.post(f"/{kind}", content=with_data(make_result(), b'{"accuracy": 0.5}'))
    before = results.stored()
    answer = await results.client.post(f"/{kind}", content=with_data(make_result(**changes), data))

    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (409, "urn:scorehouse:problem:result-conflict")
    assert [fault["place"] for fault in problem["faults"]] == [place]
    assert problem["result_name"] == NAME
    assert place in problem["detail"]
    assert "another run_id" in problem["detail"]
    assert results.stored() == before


@pytest.mark.parametrize(
    ("changes", "places"),
    [
        ({"model_id": "gpt-4o"}, ["model_id"]),
        ({"benchmark_name": "mmlu-run", "run_id": "1"}, ["benchmark_name", "run_id"]),
    ],
)
async def test_name_of_another_result(
    results: "ResultsUnderTest", make_result: MakeResult, changes: dict[str, Any], places: list[str]
) -> None:
    await results.client.post("/standardized_output", json=make_result())
    before = results.stored()
    answer = await results.client.post("/standardized_output", json=make_result(**changes))

    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (409, "urn:scorehouse:problem:result-name-taken")
    assert [fault["place"] for fault in problem["faults"]] == places
    for fault, place in zip(problem["faults"], places, strict=True):
        assert repr(make_result()[place]) in fault["detail"]
        assert repr(changes[place]) in fault["detail"]
    assert results.stored() == before


async def test_names_differing_in_case_accent_or_form_stay_apart(
    results: "ResultsUnderTest", make_result: MakeResult
) -> None:
    for run_id in ("run", "Run", "r\u00fcn", "ru\u0308n", "run.", "ｒun"):
        answer = await results.client.post("/standardized_output", json=make_result(run_id=run_id))
        assert answer.status_code == 201, run_id
    for model_id in ("Phi_4", "phi_4", "phi_4 "):
        answer = await results.client.post(
            "/raw_input", json=make_result(run_id=f"of-{model_id.strip()}", model_id=model_id)
        )
        assert answer.status_code == (409 if model_id.endswith(" ") else 201), model_id


VERBATIM = [
    b'{"n": [1, 1.0, 1e400, -0, -0.0, 1E5, 12345678901234567890123456789012345678901234567890]}',
    b'{"": 1, "$a": 2, "a.b": {"$set": 3}, "\\u0000": 4, "_id": 5}',
    '{"ü": "가나다 😀", "\\ud83d\\ude00": "\\/"}'.encode(),
    b'{\n\t"spaced" :  [ ]\r\n }',
    b"[1, [2, [3]]]",
    b"{}",
    b'{"deep": ' + b"[" * 198 + b"]" * 198 + b"}",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("data", VERBATIM)
async def test_data_comes_back_byte_for_byte(
    results: "ResultsUnderTest", make_result: MakeResult, kind: str, data: bytes
) -> None:
    pushed = await results.client.post(f"/{kind}", content=with_data(make_result(), data))
    kept = await results.client.get(f"/{kind}/{NAME}")
    listed = await results.client.get(f"/{kind}")

    assert pushed.status_code == 201, pushed.text
    assert kept.content.endswith(b',"data":' + data + b"}")
    assert kept.json()["sha256"] == sha256(data).hexdigest()
    assert listed.json()["items"][0]["bytes"] == len(data)


async def test_a_string_that_holds_json_is_kept_as_that_json(
    results: "ResultsUnderTest", make_result: MakeResult
) -> None:
    data = ' {"big": 123456789012345678901234567890, "one": 1.0}\n'
    await results.client.post("/standardized_output", json=make_result(data=data))
    kept = await results.client.get(f"/standardized_output/{NAME}")
    assert kept.content.endswith(b',"data":' + data.encode() + b"}")
    assert kept.json()["data"]["one"] == 1


async def test_data_beyond_mongodbs_document_limit(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    noise = b"".join(sha256(number.to_bytes(4)).hexdigest().encode() for number in range(330_000))
    data = b'{"noise": "' + noise + b'"}'
    assert len(data) > 20 * 1024 * 1024
    body = with_data(make_result(), data)
    first = await results.client.post("/raw_input", content=body)
    second = await results.client.post("/raw_input", content=body)
    kept = await results.client.get(f"/raw_input/{NAME}", headers={"Accept-Encoding": "identity"})

    assert (first.status_code, second.status_code) == (201, 200)
    assert int(kept.headers["content-length"]) == len(kept.content)
    assert kept.content.endswith(b',"data":' + data + b"}")
    assert results.stored()["blobs"] == 6  # of the first; what the second had stored before its name was known is gone


async def test_provenance_and_summary_survive(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    provenance = {"harness": "lm-eval", "config": {"$weird.key": 2**80, "": [1.5, None]}}
    data = {"accuracy": 0.5, "big": 2**80, "$a.b": "x", "": None, "flag": True, "nested": {"left": "out"}}
    await results.client.post("/standardized_output", json=make_result(provenance=provenance, data=data))
    item = (await results.client.get("/standardized_output")).json()["items"][0]

    assert item["summary"] == {"accuracy": 0.5, "big": 2**80, "$a.b": "x", "": None, "flag": True}
    assert {key: item["provenance"][key] for key in provenance} == provenance


async def test_many_at_once_store_one(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    same = [results.client.post("/standardized_output", json=make_result()) for _ in range(8)]
    other = [
        results.client.post("/standardized_output", json=make_result(data={"score": number / 10}))
        for number in range(4)
    ]
    answers = await asyncio.gather(*same, *other)

    codes = [answer.status_code for answer in answers]
    assert codes.count(201) == 1
    assert set(codes) <= {200, 201, 409}
    assert results.database["standardized_output"].count_documents({}) == 1
    assert results.database["feed"].count_documents({}) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_many_at_once_of_other_content_store_one_whole(
    results: "ResultsUnderTest", make_result: MakeResult, kind: str
) -> None:
    documents = [make_result(data={"text": token_hex(5000)}) for _ in range(6)]  # more than rides in an envelope
    answers = await asyncio.gather(*(results.client.post(f"/{kind}", json=document) for document in documents))
    kept = await results.client.get(f"/{kind}/{NAME}")

    codes = [answer.status_code for answer in answers]
    assert sorted(codes) == [201, 409, 409, 409, 409, 409]
    assert kept.json()["data"] == documents[codes.index(201)]["data"]
    assert results.stored()["blobs"] == 1


async def test_data_of_a_conflict_is_not_written(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    answers = [
        await results.client.post("/raw_input", json=make_result(data={"text": token_hex(5000)})) for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [201, 409]
    assert results.stored() == {"raw_input": 1, "blobs": 1}


async def test_the_same_data_under_two_names_at_once(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    data = {"text": token_hex(5000)}
    documents = [make_result(run_id=f"run-{number}", data=data) for number in range(6)]
    answers = await asyncio.gather(*(results.client.post("/standardized_output", json=each) for each in documents))
    assert {answer.status_code for answer in answers} == {201}
    for answer in answers:
        kept = await results.client.get(f"/standardized_output/{answer.json()['result_name']}")
        assert kept.json()["data"] == data
    assert results.stored() == {"standardized_output": 6, "feed": 6, "blobs": 1}


QUESTION = {"question_id": "q1", "score": 1.0}


def questions(*changes: dict[str, Any]) -> dict[str, Any]:
    """`data` with a question each of these."""
    return {"questions": [QUESTION | change for change in changes]}


MALFORMED = [
    ("cut short", b'{"run_id": "r", ', "line 1 column"),
    ("not JSON on line 2", b'{"run_id": "r",\n "timestamp": x}', "line 2 column"),
    ("bare NaN", b'{"data": {"score": NaN}}', "NaN and Infinity are not JSON"),
    ("bare Infinity", b'{"data": {"score": -Infinity}}', "NaN and Infinity are not JSON"),
    ("duplicate key", b'{"data": {"score": 1, "score": 2}}', 'duplicate key "score" at line 1'),
    ("lone surrogate", b'{"data": {"a": "\\ud800"}}', "line 1 column"),
    ("not UTF-8", b'{"data": {"a": "\xff"}}', "line 1 column"),
    ("too deep", b'{"data": ' + b"[" * 201 + b"]" * 201 + b"}", "deeper than 200"),
    ("empty", b"", "line 1 column 0"),
    ("byte order mark", b"\xef\xbb\xbf{}", "byte order mark"),
    ("more after the end", b"{} {}", "trailing characters"),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("body", "said"), [case[1:] for case in MALFORMED], ids=[case[0] for case in MALFORMED])
async def test_malformed_bodies(results: "ResultsUnderTest", kind: str, body: bytes, said: str) -> None:
    answer = await results.client.post(f"/{kind}", content=body)
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:scorehouse:problem:malformed-json")
    assert said in answer.json()["detail"]
    assert results.stored() == {}


INVALID: list[tuple[dict[str, Any], str, str]] = [
    ({"timestamp": "2024-01-01T12:00:00"}, "timestamp", "offset"),
    ({"timestamp": "2024-02-30T12:00:00Z"}, "timestamp", "no such time"),
    ({"timestamp": 1704110400}, "timestamp", "string"),
    ({"run_id": ""}, "run_id", "empty"),
    ({"run_id": "x" * 201}, "run_id", "at most 200 bytes, is 201"),
    ({"run_id": "가" * 67}, "run_id", "at most 200 bytes, is 201"),
    ({"run_id": "a/b"}, "run_id", "'/'"),
    ({"run_id": " a"}, "run_id", "space"),
    ({"run_id": "a\u0000b"}, "run_id", "U+0000 at 1"),
    ({"run_id": 7}, "run_id", "string"),
    ({"run_id": None}, "run_id", "is required"),
    ({"benchmark_name": "a/b"}, "benchmark_name", "'/'"),
    ({"model_id": "m" * 301}, "model_id", "at most 300 bytes"),
    ({"source": ""}, "source", "empty"),
    ({"extra": 1}, "extra", "is not a field"),
    ({"provenance": {"harnes": "x"}}, "provenance.harnes", "is not a field"),
    ({"provenance": {"config": {"a": "x" * 70_000}}}, "provenance.config", "at most 65,536 bytes"),
    ({"data": None}, "data", "is required"),
    ({"data": 3}, "data", "is a number"),
    ({"data": "no json"}, "data", "must hold JSON"),
    ({"data": '{"a": 1, "a": 2}'}, "data", 'duplicate key "a"'),
    ({"data": '"text"'}, "data", "is a string"),
    ({"data": questions({}, {})}, "data.questions[1]", "stands already at questions[0]"),
    ({"data": questions({"score": 1.5})}, "data.questions[0].score", "outside mmlu's scale 0…1"),
    ({"data": questions({"score": "1"})}, "data.questions[0].score", "'str'"),
    ({"data": questions({}, {"question_id": "q2", "score": None})}, "data.questions[1].score", "is required"),
    ({"data": questions({"question_id": ""})}, "data.questions[0].question_id", "empty"),
    ({"data": questions({"status": "wrong"})}, "data.questions[0].status", "'wrong'"),
    ({"data": questions({"metadata": {"subject": 4}})}, "data.questions[0].metadata.subject", "must be a string"),
    ({"data": {"questions": {}}}, "data.questions", "'array'"),
]


@pytest.mark.parametrize(("changes", "place", "said"), INVALID, ids=[f"{case[1]}: {case[2]}" for case in INVALID])
async def test_invalid_bodies(
    results: "ResultsUnderTest", make_result: MakeResult, changes: dict[str, Any], place: str, said: str
) -> None:
    document = {key: value for key, value in (make_result() | changes).items() if value is not None}
    answer = await results.client.post("/standardized_output", json=document)

    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (422, "urn:scorehouse:problem:invalid-request")
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["request_id"] == answer.headers["x-request-id"]
    fault = next(fault for fault in problem["faults"] if fault["place"] == place)
    assert said in fault["detail"]
    assert place in problem["detail"]
    assert results.stored() == {}


async def test_a_raw_input_may_hold_anything(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    answer = await results.client.post("/raw_input", json=make_result(data={"questions": "not ours"}))
    assert answer.status_code == 201
    assert (answer.json()["questions"], answer.json()["warnings"]) == (0, [])


async def test_what_is_accepted_but_not_read_is_said(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    data = questions({"metadata": {"colour": "red"}, "logprob": -1})
    known = await results.client.post("/standardized_output", json=make_result(data=data))
    unknown = await results.client.post("/standardized_output", json=make_result(benchmark_name="no-such-benchmark"))
    stated = await results.client.post("/standardized_output", json=make_result(run_id="r2", data={"accuracy": 0.9}))

    assert (known.status_code, unknown.status_code, stated.status_code) == (201, 201, 201)
    assert known.json()["questions"] == 1
    assert any("colour" in warning for warning in known.json()["warnings"])
    assert any("logprob" in warning for warning in known.json()["warnings"])
    assert any("'no-such-benchmark' is not registered" in warning for warning in unknown.json()["warnings"])
    assert any("no data.questions" in warning for warning in stated.json()["warnings"])


@pytest.mark.parametrize(("encoding", "encode"), [("gzip", gzip.compress), ("zstd", compress)])
async def test_encoded_bodies_are_stored_as_they_were_before(
    results: "ResultsUnderTest", make_result: MakeResult, encoding: str, encode: Callable[[bytes], bytes]
) -> None:
    body = json.dumps(make_result()).encode()
    headers = {"Content-Encoding": encoding}
    encoded = await results.client.post("/raw_input", content=encode(body), headers=headers)
    assert encoded.status_code == 201, encoded.text
    plain = await results.client.post("/raw_input", content=body)
    assert (plain.status_code, plain.json()["unchanged"]) == (200, True)
    assert plain.json()["sha256"] == encoded.json()["sha256"]


async def test_other_encodings_are_refused(results: "ResultsUnderTest") -> None:
    answer = await results.client.post("/raw_input", content=b"{}", headers={"Content-Encoding": "br"})
    assert (answer.status_code, answer.json()["type"]) == (415, "urn:scorehouse:problem:unsupported-media")
    assert answer.headers["accept-encoding"] == "gzip, zstd"


async def test_any_content_type_is_read(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    body = json.dumps(make_result()).encode()
    answer = await results.client.post("/raw_input", content=body, headers={"Content-Type": "text/plain"})
    assert answer.status_code == 201


async def test_too_large(start_results: "StartResults", make_result: MakeResult) -> None:
    async with start_results(max_body_bytes=1000) as small:
        declared = await small.client.post("/raw_input", content=b" " * 1001)

        async def unannounced() -> Any:
            for _ in range(3):
                yield b" " * 400

        streamed = await small.client.post("/raw_input", content=unannounced())
        fitting = await small.client.post("/raw_input", json=make_result())
    for answer in (declared, streamed):
        assert (answer.status_code, answer.json()["type"]) == (413, "urn:scorehouse:problem:too-large")
        assert "1,000 bytes" in answer.json()["detail"]
    assert fitting.status_code == 201


async def test_a_caller_who_goes_away_in_the_middle(results: "ResultsUnderTest") -> None:
    messages = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/raw_input", "query_string": b"", "headers": []}
    await results.app(scope, receive, send)
    assert sent == []  # no failure is answered, nor logged as one
    assert results.stored() == {}


async def test_on_a_standalone_server(
    start_results: "StartResults", make_result: MakeResult, standalone_mongod: Any
) -> None:
    async with start_results(mongo_url=standalone_mongod.url) as running:
        first = await running.client.post("/standardized_output", json=make_result())
        second = await running.client.post("/standardized_output", json=make_result())
        feed = await running.client.get("/feed")
        kept = await running.client.get(f"/standardized_output/{NAME}")
    assert (first.status_code, second.status_code, kept.status_code) == (201, 200, 200)
    assert len(feed.text.splitlines()) == 1
