"""What a runner pushes: bodies, questions, the checks against a benchmark, warnings and summaries."""

import json
import math
from typing import Any

import pytest

from shared.problems import InvalidRequest, MalformedJson
from shared.registry.specs import BenchmarkSpec
from shared.submission import (
    SUMMARY_MAX_SCALARS,
    WARNINGS_MAX,
    Question,
    Status,
    check_against,
    read_questions,
    read_submission,
    shape_warnings,
    stated_score,
    summarize,
)

ENVELOPE = {
    "run_id": "r",
    "benchmark_name": "demo",
    "timestamp": "2024-01-01T21:00:00.50+09:00",
    "model_id": "vendor/model",
    "source": "tests",
}

BENCHMARK = BenchmarkSpec.model_validate(
    {
        "name": "demo",
        "title": {"en": "Demo"},
        "description": {"en": "For tests"},
        "score_min": -1.0,
        "score_max": 2.0,
        "fields": [
            {"name": name, "type": name.removeprefix("of_"), "description": {"en": name}}
            for name in ("of_category", "of_integer", "of_number", "of_boolean")
        ],
    }
)


def body(data: str, **envelope: Any) -> bytes:
    """A POST body with `data` as written."""
    return (json.dumps(ENVELOPE | envelope)[:-1] + f', "data": {data}}}').encode()


def faults_of(problem: InvalidRequest) -> dict[str, str]:
    """Place → detail."""
    return {fault.place: fault.detail for fault in problem.faults}


def test_a_body() -> None:
    submission = read_submission(body('{ "a" : 1.0 }'))
    assert submission.data == b'{ "a" : 1.0 }'
    assert submission.value == {"a": 1.0}
    assert submission.envelope.result_name == "2024-01-01T12:00:00.5Z-demo-r"
    assert submission.envelope.tokenizer_id is None


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        ("[]", b"[]"),
        ('{"data": {"data": 1}}', b'{"data": {"data": 1}}'),
        ('"{\\"a\\": 1.0}"', b'{"a": 1.0}'),
        ('" [1]\\n"', b" [1]\n"),
        ('"{\\"\\\\u00fc\\": \\"ü\\"}"', '{"\\u00fc": "ü"}'.encode()),
        ("[" * 200 + "]" * 200, b"[" * 200 + b"]" * 200),
        ('"' + "[" * 200 + "]" * 200 + '"', b"[" * 200 + b"]" * 200),
    ],
)
def test_data_is_kept_as_it_came(data: str, kept: bytes) -> None:
    assert read_submission(body(data)).data == kept


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ('"nothing"', "must hold JSON"),
        ('""', "must hold JSON"),
        ('"{\\"a\\": NaN}"', "NaN and Infinity"),
        ('"{\\"a\\": 1, \\"a\\": 2}"', "uplicate key"),
        ('"\\"{}\\""', "is a string"),
        ('"3"', "is a number"),
        ("3", "is a number"),
        ("true", "is a boolean"),
        ("null", "is null"),
        ('"' + "[" * 201 + "]" * 201 + '"', "deeper than 200"),
    ],
)
def test_data_that_is_none(data: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        read_submission(body(data))
    assert said in faults_of(refusal.value)["data"]


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(InvalidRequest) as refusal:
        read_submission(json.dumps({"run_id": "", "timestamp": "noon", "other": 1}).encode())
    assert set(faults_of(refusal.value)) == {
        "run_id", "timestamp", "other", "benchmark_name", "model_id", "source", "data"
    }  # fmt: skip


@pytest.mark.parametrize("document", [b"[]", b'"x"', b"1", b"null"])
def test_a_body_that_is_no_object(document: bytes) -> None:
    with pytest.raises(InvalidRequest, match="must be a JSON object"):
        read_submission(document)


def test_deeper_than_allowed() -> None:
    with pytest.raises(MalformedJson, match="deeper than 200"):
        read_submission(body("[" * 201 + "]" * 201))


def test_a_config_must_be_writable_again() -> None:
    good = read_submission(body("{}", provenance={"config": {"a": [2**70, 1.5, None], "": {}}}))
    assert good.envelope.provenance is not None
    infinite = body("{}", provenance={"config": {"a": "@"}}).replace(b'"@"', b"1e400")
    with pytest.raises(InvalidRequest) as refusal:
        read_submission(infinite)
    assert "1.8e308" in faults_of(refusal.value)["provenance.config"]


@pytest.mark.parametrize("nothing", [{}, {"harness": None}, None])
def test_a_provenance_that_tells_nothing_is_none(nothing: Any) -> None:
    assert read_submission(body("{}", provenance=nothing)).envelope == read_submission(body("{}")).envelope


def test_questions() -> None:
    value = read_submission(
        body(
            '{"questions": [{"question_id": "a/1", "score": 1, "answer": {"any": 1}, "metadata": {"x": [1]}},'
            '{"question_id": "a/1", "attempt": 1, "status": "error"}]}'
        )
    ).value
    first, second = read_questions(value) or []
    assert (first.score, first.status, first.attempt, first.answer) == (1.0, Status.SCORED, 0, {"any": 1})
    assert (second.score, second.status, second.attempt, second.metadata) == (None, Status.ERROR, 1, {})


@pytest.mark.parametrize("data", ["[]", "{}", '{"score": 1}', '[{"questions": []}]'])
def test_without_questions(data: str) -> None:
    assert read_questions(read_submission(body(data)).value) is None


QUESTION = {"question_id": "q", "score": 0.5}
BAD_QUESTIONS: list[tuple[list[Any], str, str]] = [
    ([{"score": 1}], "data.questions[0]", "question_id"),
    ([QUESTION | {"question_id": 1}], "data.questions[0].question_id", "'str'"),
    ([QUESTION | {"question_id": ""}], "data.questions[0].question_id", "empty"),
    ([QUESTION | {"question_id": "é" * 151}], "data.questions[0].question_id", "at most 300 bytes, is 302"),
    ([QUESTION | {"question_id": "a\u0007"}], "data.questions[0].question_id", "U+0007 at 1"),
    ([QUESTION | {"question_id": "a\u200b\u0085"}], "data.questions[0].question_id", "U+0085 at 2"),
    ([QUESTION, QUESTION], "data.questions[1]", "attempt 0, stands already at questions[0]"),
    ([QUESTION, QUESTION | {"attempt": 1}, QUESTION | {"attempt": 1}], "data.questions[2]", "questions[1]"),
    ([{"question_id": "q"}], "data.questions[0].score", "is required where status is 'scored'"),
    ([QUESTION | {"score": None}], "data.questions[0].score", "is required"),
    ([QUESTION | {"score": True}], "data.questions[0].score", "'bool'"),
    ([QUESTION | {"score": "0.5"}], "data.questions[0].score", "'str'"),
    ([QUESTION | {"status": "ok"}], "data.questions[0].status", "'ok'"),
    ([QUESTION | {"attempt": -1}], "data.questions[0].attempt", ">= 0"),
    ([QUESTION | {"attempt": 0.5}], "data.questions[0].attempt", "'int'"),
    ([QUESTION | {"latency_ms": -1}], "data.questions[0].latency_ms", ">= 0"),
    ([QUESTION | {"input_tokens": 2**60}], "data.questions[0].input_tokens", "<="),
    ([QUESTION | {"metadata": None}], "data.questions[0].metadata", "'object'"),
    (["q"], "data.questions[0]", "'object'"),
]


@pytest.mark.parametrize(("rows", "place", "said"), BAD_QUESTIONS)
def test_bad_questions(rows: list[Any], place: str, said: str) -> None:
    submission = read_submission(body(json.dumps({"questions": rows})))
    with pytest.raises(InvalidRequest) as refusal:
        read_questions(submission.value)
    assert said in faults_of(refusal.value)[place]


@pytest.mark.parametrize("number", ["1e400", "-1e999"])
def test_a_score_beyond_floats(number: str) -> None:
    submission = read_submission(body(f'{{"questions": [{{"question_id": "q", "score": {number}}}]}}'))
    with pytest.raises(InvalidRequest, match=r"questions\[0\].score: must be a finite number"):
        read_questions(submission.value)


def test_faults_are_bounded() -> None:
    rows = [{"question_id": f"q{number}"} for number in range(1000)]
    with pytest.raises(InvalidRequest) as refusal:
        read_questions({"questions": rows})  # type: ignore[dict-item]
    assert len(refusal.value.faults) == WARNINGS_MAX


FITTING = [
    {"of_category": "x" * 300, "of_integer": -(2**63), "of_number": 1, "of_boolean": True},
    {"of_category": "", "of_integer": 2**63 - 1, "of_number": 1.5, "of_boolean": False},
    {"of_category": None, "unknown": object()},
    {},
]


@pytest.mark.parametrize("metadata", FITTING)
@pytest.mark.parametrize("score", [-1, 0, 2, None])
def test_what_fits_a_benchmark(metadata: dict[str, Any], score: float | None) -> None:
    check_against(BENCHMARK, [Question("q", score=score, metadata=metadata)])


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("of_category", 1, "must be a string, is a number"),
        ("of_category", ["x"], "is an array"),
        ("of_category", "x" * 301, "at most 300 characters, is 301"),
        ("of_integer", "1", "must be a whole number, is a string"),
        ("of_integer", 1.0, "must be a whole number"),
        ("of_integer", True, "is a boolean"),
        ("of_integer", 2**63, "must be a whole number"),
        ("of_number", "1.5", "must be a number, is a string"),
        ("of_number", math.inf, "must be a number"),
        ("of_number", False, "is a boolean"),
        ("of_boolean", 1, "must be true or false, is a number"),
        ("of_boolean", "true", "is a string"),
    ],
)
def test_metadata_of_another_type(field: str, value: Any, said: str) -> None:
    fine = Question("fine", score=0)
    with pytest.raises(InvalidRequest) as refusal:
        check_against(BENCHMARK, [fine, Question("q7", score=0, metadata={field: value})])
    detail = faults_of(refusal.value)[f"data.questions[1].metadata.{field}"]
    assert said in detail
    assert "'q7'" in detail


@pytest.mark.parametrize("score", [-1.001, 2.001, 1e300])
def test_a_score_outside_the_scale(score: float) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        check_against(BENCHMARK, [Question("q7", score=score)])
    assert "demo's scale -1…2 (question 'q7')" in faults_of(refusal.value)["data.questions[0].score"]


@pytest.mark.parametrize(
    ("data", "registered", "said"),
    [
        ('{"questions": [{"question_id": "q", "score": 1}]}', True, []),
        ('{"questions": [{"question_id": "q", "score": 1}]}', False, ["'demo' is not registered"]),
        ("{}", True, ["no data.questions"]),
        ('{"questions": []}', True, ["is empty"]),
        ('{"questions": [{"question_id": "q", "score": 1, "logprob": 0}]}', True, ["not read in questions: logprob"]),
        (
            '{"questions": [{"question_id": "q", "score": 1, "metadata": {"z": 1, "of_integer": 1, "a": 1}}]}',
            True,
            ["not in demo's registry, so not to be grouped by: a, z"],
        ),
    ],
)
def test_warnings(data: str, registered: bool, said: list[str]) -> None:
    value = read_submission(body(data)).value
    warnings = shape_warnings(value, read_questions(value), BENCHMARK if registered else None, "demo")
    assert len(warnings) == len(said)
    for warning, words in zip(warnings, said, strict=True):
        assert words in warning


@pytest.mark.parametrize(
    ("data", "summary"),
    [
        ('{"a": 1, "b": 0.5, "c": "x", "d": true, "e": null}', {"a": 1, "b": 0.5, "c": "x", "d": True, "e": None}),
        ('{"list": [], "object": {}, "long": "' + "x" * 201 + '", "infinite": 1e400}', {}),
        ("[1, 2]", {}),
    ],
)
def test_summaries(data: str, summary: dict[str, Any]) -> None:
    assert summarize(read_submission(body(data)).value) == summary


def test_a_summary_is_bounded() -> None:
    assert len(summarize({f"k{number}": number for number in range(1000)})) == SUMMARY_MAX_SCALARS


@pytest.mark.parametrize(
    ("data", "score"),
    [
        ('{"score": 0.5, "accuracy": 0.9}', 0.5),
        ('{"accuracy": 1}', 1.0),
        ('{"score": "0.5", "accuracy": 0.9}', 0.9),
        ('{"score": true}', None),
        ('{"score": 1e400}', None),
        ("{}", None),
        ("[0.5]", None),
    ],
)
def test_stated_scores(data: str, score: float | None) -> None:
    assert stated_score(read_submission(body(data)).value) == score
