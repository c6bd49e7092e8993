"""Decides what becomes of a fetched result, before any SQL: pure, and run off the event loop."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b

import msgspec
import numpy as np

from analysis_service.projection.provenance import SentProvenance, StoredProvenance, read_provenance
from shared.problems import Problem
from shared.registry.specs import BenchmarkSpec, Registry
from shared.results import LiveRunState, ResultState
from shared.strict_json import read_json
from shared.submission import Question, Status, check_against, learn, read_questions, stated_score
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
    provenance: SentProvenance | None = None
    live: LiveRunState | None = None
    """Of a live run, whose data are its questions so far while it goes on, and nothing after."""


class _Asked(msgspec.Struct):
    """Data that are questions, read without a step in between."""

    questions: list[Question]


learn(StoredDocument, _Asked)


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
    questions: Sequence[Question]
    digest: bytes
    """Of the benchmark and the ids, hashes and metadata of the questions in their order: the same for most runs of a
    benchmark, so that what follows from these is worked out once."""
    stated_score: float | None
    provenance: StoredProvenance
    live: LiveRunState | None
    """None of a result."""


def _unknown(_digest: bytes) -> bool:
    return False


def prepare_run(body: bytes, registry: Registry, is_known: Callable[[bytes], bool] = _unknown) -> PreparedRun:
    """Decide about the result or live run in `body`, the answer of GET at an entry's href.

    `is_known` says of a digest whether questions with it were found valid before; only their scores are checked then.
    """
    document = msgspec.json.decode(body, type=StoredDocument)
    spec = registry.benchmarks.get(document.benchmark_name)
    questions: Sequence[Question] = ()
    digest = b""
    stated: float | None = None
    state, reason = AppliedState.APPLIED, None
    if document.state is ResultState.INVALIDATED:
        state = AppliedState.INVALIDATED
    elif spec is None:
        state = AppliedState.PARKED
        reason = f"benchmark {document.benchmark_name!r} is not registered"
    else:
        try:
            questions, digest, stated = _read(document.data, spec, is_known)
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
        digest=digest,
        stated_score=stated,
        provenance=read_provenance(document.provenance),
        live=document.live,
    )


def _read(
    data: msgspec.Raw, spec: BenchmarkSpec, is_known: Callable[[bytes], bool]
) -> tuple[Sequence[Question], bytes, float | None]:
    """The questions and their digest, or the score stated in their place. A Problem says why they cannot be taken."""
    try:
        asked: Sequence[Question] = msgspec.json.decode(data, type=_Asked).questions
    except (msgspec.MsgspecError, RecursionError):
        pass  # no questions, or what the strict reading has words for
    else:
        digest = _digest(asked, spec)
        if is_known(digest) and _are_scores_valid(asked, spec):
            return asked, digest, None
    value = read_json(bytes(data))
    if not isinstance(value, dict | list):
        raise TypeError("the results service keeps only objects and arrays as data")
    questions = read_questions(value) or []
    check_against(spec, questions)
    return questions, _digest(questions, spec), None if questions else stated_score(value)


def _digest(questions: Sequence[Question], spec: BenchmarkSpec) -> bytes:
    asked = [
        (question.question_id, question.attempt, question.content_hash, question.metadata) for question in questions
    ]
    # Two benchmarks may have one fingerprint, and number their questions apart.
    return blake2b(msgspec.json.encode((spec.name, spec.fingerprint, asked)), digest_size=16).digest()


def _are_scores_valid(questions: Sequence[Question], spec: BenchmarkSpec) -> bool:
    scores = np.array([question.score for question in questions], dtype=np.float64)
    is_absent = np.isnan(scores)
    is_scored = np.array([question.status is Status.SCORED for question in questions], dtype=np.bool_)
    return not (is_absent & is_scored).any() and bool(
        (is_absent | ((scores >= spec.score_min) & (scores <= spec.score_max))).all()
    )


Combination = tuple[str | int | float | None, ...]
"""The values of a benchmark's fields as the SQL store keeps them."""


def combinations_of(questions: Sequence[Question], spec: BenchmarkSpec) -> list[Combination]:
    """Of each question the combination of its metadata."""
    fields = [(field.name, field.type.stored) for field in spec.fields]
    return [
        tuple(None if (value := question.metadata.get(name)) is None else stored(value) for name, stored in fields)
        for question in questions
    ]
