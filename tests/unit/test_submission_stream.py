"""Bodies in blocks: what is refused, kept, counted, summed up and warned of is as with a whole body."""

import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import shared.json_stream
import shared.submission_stream
from shared.problems import InvalidRequest, MalformedJson, Problem
from shared.registry.specs import BenchmarkSpec, Registry
from shared.submission import (
    Envelope,
    check_against,
    read_questions,
    read_submission,
    shape_warnings,
    summarize,
)
from shared.submission_stream import SubmissionStream

BENCHMARK = BenchmarkSpec.model_validate(
    {
        "name": "demo",
        "title": {"en": "Demo"},
        "description": {"en": "For tests"},
        "fields": [
            {"name": "subject", "type": "category", "description": {"en": "s"}},
            {"name": "level", "type": "integer", "description": {"en": "l"}},
        ],
    }
)
REGISTRY = Registry({"demo": BENCHMARK}, {})
ENVELOPE = {
    "run_id": "r",
    "benchmark_name": "demo",
    "timestamp": "2024-01-01T21:00:00+09:00",
    "model_id": "m",
    "source": "tests",
}


@dataclass(frozen=True)
class Told:
    """All that is told of a valid body."""

    envelope: Envelope
    data: bytes
    questions: int | None
    summary: Any
    warnings: list[str]


Outcome = Told | tuple[type[Problem], str, Any]


def read_whole(body: bytes, *, with_questions: bool = True) -> Outcome:
    """What the body as a whole tells, or what is wrong with it."""
    try:
        submission = read_submission(body)
        questions, warnings = None, []
        if with_questions:
            name = submission.envelope.benchmark_name
            benchmark = REGISTRY.benchmarks.get(name)
            questions = read_questions(submission.value)
            if benchmark is not None and questions is not None:
                check_against(benchmark, questions)
            warnings = shape_warnings(submission.value, questions, benchmark, name)
    except (MalformedJson, InvalidRequest) as problem:
        return type(problem), problem.detail, problem.faults
    number = None if questions is None else len(questions)
    return Told(submission.envelope, submission.data, number, summarize(submission.value), warnings)


def in_blocks(text: bytes, sizes: list[int]) -> Iterator[bytes]:
    """The text cut into blocks of these sizes, over and over."""
    position = number = 0
    while position < len(text):
        size = sizes[number % len(sizes)]
        yield text[position : position + size]
        position += size
        number += 1


def read_stream(body: bytes, sizes: list[int], *, with_questions: bool = True) -> Outcome:
    """The same of the body in blocks."""
    stream = SubmissionStream(with_questions=with_questions, registry=REGISTRY)
    try:
        data = b"".join([stream.feed(block) for block in in_blocks(body, sizes)])
        submission = stream.finish()
        if submission.questions_unread:
            questions = submission.second_pass()
            for block in in_blocks(data, sizes):
                questions.feed(block)
            submission = questions.finish()
            assert not submission.questions_unread
    except (MalformedJson, InvalidRequest) as problem:
        return type(problem), problem.detail, problem.faults
    return Told(submission.envelope, data, submission.questions, submission.summary, list(submission.warnings))


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([0.5, 2**70, "x", 'é\n"\\', "\U0001f600", "y" * 301, 1e300])
)
names = st.sampled_from(["", "a", "b", "data", "questions", "score", "q\n", "k" * 201, "\U0001f600"])
values: st.SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4), max_leaves=8
)


def questions(*, right: bool) -> st.SearchStrategy[Any]:
    """A list of questions, all of them right or some of them wrong."""

    def mostly(usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return usual if right else st.one_of(*[usual] * 12, values)

    fields = {"subject": st.sampled_from(["x", "é", None]), "level": st.integers(0, 3), "z": values, "other": values}
    question = st.fixed_dictionaries(
        {"question_id": mostly(st.integers(0, 99).map("q{}".format)), "score": mostly(st.sampled_from([0, 0.5, 1.0]))},
        optional={
            "attempt": mostly(st.integers(0, 2)),
            "status": mostly(st.sampled_from(["scored", "refused", "error"])),
            "answer": values,
            "target": values,
            "latency_ms": mostly(st.floats(0, 1000)),
            "metadata": mostly(st.fixed_dictionaries({}, optional={name: mostly(fields[name]) for name in fields})),
            "logprobs": values,
            "": values,
        },
    )
    if right:
        return st.lists(question, max_size=8, unique_by=lambda one: (one["question_id"], one.get("attempt", 0)))
    return mostly(st.lists(question, max_size=8))


def standardized(*, right: bool) -> st.SearchStrategy[Any]:
    """A result's data, its questions at any place."""
    around = st.dictionaries(names.filter(lambda name: name != "questions"), values, max_size=3)
    return st.builds(
        lambda before, rows, after: {**before, "questions": rows, **after}, around, questions(right=right), around
    )


edits = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 3), st.sampled_from([*b'[]{}",:\\ 01eE.-\n\xff\x00d'])), max_size=1
)
sizes = st.lists(st.integers(1, 200), min_size=1, max_size=3) | st.just([100_000])


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A POST's body: fields in any order, its data plain or in a string; right, or with some kind of fault."""
    fault = draw(st.sampled_from([None, None, None, "envelope", "questions", "data", "embedded", "body"]))
    data = draw(values if fault == "data" else standardized(right=fault != "questions"))
    if fault == "embedded" or draw(st.sampled_from([False, False, True])):
        text = json.dumps(data, ensure_ascii=draw(st.booleans())).encode()
        data = edit(text, draw(edits if fault == "embedded" else st.just([]))).decode("utf-8", "ignore")
    fields = (
        ENVELOPE
        | {"data": data}
        | draw(st.sampled_from([{}, {}, {"benchmark_name": "new"}, {"provenance": {"config": {"a": [1]}}}]))
    )
    if fault == "envelope":
        fields |= draw(st.sampled_from([{"run_id": "a/b"}, {"more": [1]}, {"source": None, "model_id": 5}]))
    document = dict(draw(st.permutations(list(fields.items()))))
    text = json.dumps(document, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1]))).encode()
    return edit(text, draw(edits)) if fault == "body" else text


def edit(text: bytes, changes: list[tuple[float, int, int]]) -> bytes:
    """The text with bytes put in, overwritten and taken out."""
    changed = bytearray(text)
    for where, cut, byte in changes:
        at = int(where * len(changed))
        changed[at : at + cut] = bytes([byte]) if cut < 3 else b""
    return bytes(changed)


@given(bodies(), sizes, st.booleans())
def test_as_with_a_whole_body(body: bytes, blocks: list[int], with_questions: bool) -> None:
    whole = read_whole(body, with_questions=with_questions)
    assert read_stream(body, blocks, with_questions=with_questions) == whole


@given(bodies(), sizes)
def test_valid_bodies_with_long_texts_in_pieces(body: bytes, blocks: list[int]) -> None:
    whole = read_whole(body)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared.json_stream, "TOKEN_BYTES", 210)  # longer keys are not summed up anyway
        patch.setattr(shared.json_stream, "GROUP_BYTES", 64)
        streamed = read_stream(body, blocks)
    if isinstance(whole, Told):
        assert streamed == whole
    else:
        assert isinstance(streamed, tuple)
        assert streamed[0] is whole[0]


def body(data: str, **envelope: Any) -> bytes:
    """A POST body with `data` as written, after the envelope."""
    return (json.dumps(ENVELOPE | envelope)[:-1] + f', "data": {data}}}').encode()


def test_data_is_complete_with_the_last_block() -> None:
    for data in ('{"a": [1, {"b": "c"}]} ', '[[], "x" ]', '"[1, \\"\\u00fc\\"] "'):
        text = body(data)
        for last in (1, 2, 7, len(text)):
            stream = SubmissionStream(with_questions=False, registry=REGISTRY)
            received = stream.feed(text[:-last]) + stream.feed(text[-last:])
            assert received == read_submission(text).data


def test_a_question_larger_than_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared.json_stream, "GROUP_BYTES", 512)
    monkeypatch.setattr(shared.json_stream, "TOKEN_BYTES", 512)
    filler = ["x" * 2000, list(range(500)), {f"k{number}": [number] for number in range(200)}, "y" * 700]
    large: dict[str, Any] = {
        "answer": filler,
        "unread": filler,
        "metadata": {
            "first": filler,
            "level": 3,
            "last": 1,
            **{f"m{number}": number for number in range(300)},
            "subject": "s",
        },
        "target": "z" * 5000,
        "question_id": "large",
        "score": 0.5,
    }
    small = {"question_id": "small", "score": 1}
    fine = body(json.dumps({"before": 1, "questions": [small, large, small | {"attempt": 1}], "after": 2}))
    told = read_whole(fine)
    assert isinstance(told, Told)
    assert told.questions == 3
    wrong: list[dict[str, Any]] = [
        {"metadata": large["metadata"] | {"level": "3"}},
        {"metadata": filler},
        {"score": filler},
        {"score": 2},
    ]
    wrong += [{"question_id": "small"}, {"question_id": None}, {"metadata": large["metadata"] | {"subject": filler}}]
    bodies = [fine, *(body(json.dumps({"questions": [small, large | change]})) for change in wrong)]
    for text in bodies:
        whole = read_whole(text)
        assert isinstance(whole, Told) == (text == fine)
        for size in (100, 1000, len(text)):
            assert read_stream(text, [size]) == whole


@pytest.mark.parametrize("placed", ["before", "after", "in a string"])
def test_a_benchmark_named_after_its_questions(placed: str) -> None:
    rows = [{"question_id": f"q{number}", "score": number, "metadata": {"level": "x", "z": 1}} for number in range(3)]
    data: Any = {"questions": rows}
    if placed == "in a string":
        data = json.dumps(data)
    fields = {key: ENVELOPE[key] for key in ENVELOPE if key != "benchmark_name"}
    name = {"benchmark_name": "demo"}
    text = json.dumps((name if placed == "before" else {}) | fields | {"data": data} | name).encode()
    whole = read_whole(text)
    assert isinstance(whole, tuple)
    assert [fault.place for fault in whole[2]] == [
        *("data.questions[0].metadata.level", "data.questions[1].metadata.level"),
        *("data.questions[2].score", "data.questions[2].metadata.level"),
    ]
    for size in (1, 50, 1000):
        assert read_stream(text, [size]) == whole


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared.submission_stream, "ENVELOPE_MAX_BYTES", 1000)
    monkeypatch.setattr(shared.submission_stream, "QUESTIONS_MAX", 3)
    outcome = read_stream(body("[]", provenance={"config": {"a": "x" * 2000}}), [100])
    assert isinstance(outcome, tuple)
    assert outcome[1] == "body: has more than 1,000 bytes besides data"
    assert isinstance(read_stream(body(json.dumps(["x" * 2000])), [100]), Told)
    rows = [{"question_id": f"q{number}", "score": 1} for number in range(4)]
    outcome = read_stream(body(json.dumps({"questions": rows})), [100])
    assert isinstance(outcome, tuple)
    assert outcome[1] == "data.questions: are more than 3; send several results"
    assert isinstance(read_stream(body(json.dumps({"questions": rows[:3]})), [100]), Told)


LARGE = {
    "rows": (
        '{"questions":[',
        '{"question_id":"%d","score":1,"answer":"some text","metadata":{"subject":"s"}},',
        '{"question_id":"","status":"error"}]}',
    ),
    "numbers": ("[", "1," * 40 + "%d,", "1]"),
    "objects": ("[", '{"a":[{}],"b":%d},', "1]"),
    "text": ('["', "one long text \\n\\u00fc %d ", '"]'),
    "embedded": ('"[', '{\\"a\\":%d},', '1]"'),
    "number": ("[", "12345678%d", "]"),
    "deep": ("[", "[" * 150 + "%d" + "]" * 150 + ",", "1]"),
    "white space": ("[", " " * 100 + "%d,", "1]"),
    "question": ('{"questions":[{"answer":[', '{"a":[%d]},', '1],"question_id":"","score":1}]}'),
    "keys of a question": ('{"questions":[{', '"k%d":[1],', '"question_id":"","score":1}]}'),
    "metadata": ('{"questions":[{"metadata":{"level":[', "%d,[1],", '1]},"question_id":"","score":1}]}'),
    "metadata fields": ('{"questions":[{"metadata":{', '"m%d":[1],', '"":1},"question_id":"","score":1}]}'),
    "object": ('{"a":{"b":[', "[%d],", "1]}}"),
    "text and more": ('["', "one long text %d ", '",1]'),
    "array as a body": ("[", "%d,[],", "1]"),
    "key": ('{"', "one long key %d", '":1}'),
}


@pytest.mark.parametrize("kind", LARGE)
def test_memory_does_not_grow_with_the_body(kind: str) -> None:
    begin, repeated, end = LARGE[kind]
    head, tail = body("@").split(b"@") if kind != "array as a body" else (b"[", b"]")
    stream = SubmissionStream(with_questions=True, registry=REGISTRY)
    number = 0

    def feed(size: int) -> int:
        """Feed so many bytes; how many are taken at the peak."""
        nonlocal number
        tracemalloc.reset_peak()
        while size > 0:
            block = "".join([repeated % more for more in range(number, number + 500)]).encode()
            number += 500
            size -= len(block)
            stream.feed(block)
        return tracemalloc.get_traced_memory()[1]

    tracemalloc.start()
    try:
        stream.feed(head + begin.encode())
        first, second = feed(600_000), feed(1_200_000)
    finally:
        tracemalloc.stop()
    known_keys = 26 * number if kind in ("metadata fields", "keys of a question") else 0
    assert second < first + 600_000 + known_keys
    stream.feed(end.encode() + tail)
    if "question" in end or kind == "array as a body":
        with pytest.raises(InvalidRequest, match=r"question_id: must not be empty|must be a JSON object"):
            stream.finish()
    else:
        stream.finish()


def test_depth_of_embedded_data() -> None:
    for depth in (200, 201):
        text = body(json.dumps("[" * depth + "]" * depth))
        whole = read_whole(text)
        assert isinstance(whole, Told) == (depth == 200)
        for size in (10, 1000):
            assert read_stream(text, [size]) == whole
