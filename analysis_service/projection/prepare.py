"""Decides what becomes of a fetched result, before any SQL: pure, and run off the event loop."""

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from analysis_service.projection.question_keys import question_keys
from shared.problems import Problem
from shared.registry.specs import BenchmarkSpec, Registry
from shared.results import LiveRunState, ResultState
from shared.strict_json import read_json
from shared.submission import Question, check_against, learn, read_questions, stated_score
from shared.timestamps import sort_key

REASON_MAX = 2000


class AppliedState(StrEnum):
    """What the projection made of a result."""

    APPLIED = "applied"
    PARKED = "parked"
    """Its benchmark is not registered; it comes back when it is."""
    REJECTED = "rejected"
    """It does not fit its benchmark as registered here; the reason is told, and another registry may take it."""
    INVALIDATED = "invalidated"


class StoredDocument(msgspec.Struct, frozen=True):
    """What the results service answers for one result, or for a live run."""

    result_name: str
    run_id: str
    benchmark_name: str
    timestamp: str
    model_id: str
    source: str
    sha256: str
    state: ResultState
    data: msgspec.Raw
    live: LiveRunState | None = None
    """Of a live run, whose data are its questions so far while it goes on, and nothing after."""


learn(StoredDocument)


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """A result's envelope, and what is to be made of it."""

    result_name: str
    benchmark: str
    run_id: str
    model_id: str
    source: str
    timestamp: str
    time_key: str
    sha256: str
    state: AppliedState
    reason: str | None
    registry_hash: str
    """The benchmark's fingerprint that this was decided by; empty where it is not registered."""
    spec: BenchmarkSpec | None
    questions: tuple[Question, ...]
    keys: tuple[str, ...]
    """Of each question, what makes it the same one in all runs."""
    combinations: tuple[tuple[str | int | float | None, ...], ...]
    """Of each question, the values of the benchmark's fields as the SQL store keeps them."""
    stated_score: float | None
    live: LiveRunState | None
    """None of a result."""


def prepare_run(body: bytes, registry: Registry) -> PreparedRun:
    """Decide about the result or live run in `body`, the answer of GET at an entry's href."""
    document = msgspec.json.decode(body, type=StoredDocument)
    spec = registry.benchmarks.get(document.benchmark_name)
    questions: tuple[Question, ...] = ()
    stated: float | None = None
    state, reason = AppliedState.APPLIED, None
    if document.state is ResultState.INVALIDATED:
        state = AppliedState.INVALIDATED
    elif spec is None:
        state = AppliedState.PARKED
        reason = f"benchmark {document.benchmark_name!r} is not registered"
    else:
        try:
            value = read_json(bytes(document.data))
            if not isinstance(value, dict | list):
                raise TypeError("the results service keeps only objects and arrays as data")
            questions = tuple(read_questions(value) or ())
            check_against(spec, questions)
            stated = stated_score(value) if not questions else None
        except Problem as problem:
            state, reason, questions = AppliedState.REJECTED, problem.detail[:REASON_MAX], ()
    return PreparedRun(
        result_name=document.result_name,
        benchmark=document.benchmark_name,
        run_id=document.run_id,
        model_id=document.model_id,
        source=document.source,
        timestamp=document.timestamp,
        time_key=sort_key(document.timestamp),
        sha256=document.sha256,
        state=state,
        reason=reason,
        registry_hash=spec.fingerprint if spec else "",
        spec=spec,
        questions=questions,
        keys=question_keys(questions),
        combinations=tuple(_combination(question, spec) for question in questions) if spec else (),
        stated_score=stated,
        live=document.live,
    )


def _combination(question: Question, spec: BenchmarkSpec) -> tuple[str | int | float | None, ...]:
    return tuple(
        None if (value := question.metadata.get(field.name)) is None else field.type.stored(value)
        for field in spec.fields
    )
