"""Wire models of the results API: what it answers, and the feed."""

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict

from shared.submission import Provenance, Scalar

_FROZEN = ConfigDict(frozen=True)


class ResultKind(StrEnum):
    """The two kinds of result, by the paths they are pushed to."""

    RAW = "raw_input"
    STANDARDIZED = "standardized_output"


class StoreStatus(StrEnum):
    """What became of a pushed result."""

    CREATED = "created"
    UNCHANGED = "unchanged"
    CONFLICT = "conflict"
    REFUSED = "refused"


class ResultState(StrEnum):
    """Whether a stored result counts."""

    VALID = "valid"
    INVALIDATED = "invalidated"


class StoredAnswer(BaseModel):
    """The answer to a POST: 201 if created, 200 if unchanged."""

    model_config = _FROZEN

    result_name: str
    status: StoreStatus
    unchanged: bool
    sha256: str
    questions: int
    warnings: list[str]


class ResultSummary(BaseModel):
    """One result in a list; `data` is not touched to make it."""

    model_config = _FROZEN

    result_name: str
    run_id: str
    benchmark_name: str
    model_id: str
    tokenizer_id: str | None = None
    source: str
    timestamp: str
    received_at: str
    provenance: Provenance | None = None
    questions: int
    summary: dict[str, Scalar]
    bytes: int
    sha256: str
    state: ResultState


class ResultDetail(ResultSummary):
    """One result with its data, which the service sends as the bytes it received."""

    data: dict[str, Any] | list[Any]


class ResultPage(BaseModel):
    """A page of results, newest first; `next_cursor` is null on the last."""

    model_config = _FROZEN

    items: list[ResultSummary]
    next_cursor: str | None


class FeedKind(StrEnum):
    """What happened to a result."""

    RESULT = "result"
    INVALIDATED = "invalidated"
    RESTORED = "restored"
    PART = "part"
    FINISHED = "finished"


class FeedEntry(BaseModel):
    """One line of the feed. `seq` has no gaps; `href` is where the result is to be had."""

    model_config = _FROZEN

    seq: int
    kind: str
    """A `FeedKind`; a string here, so that a newer service's kind can be told from damage."""
    result_name: str
    sha256: str
    href: str


class StoreHealth(BaseModel):
    """The state of the store behind a service."""

    model_config = _FROZEN

    engine: str
    reachable: bool
    detail: str | None = None


class ResultsHealth(BaseModel):
    """The answer of the results service's `/health`."""

    model_config = _FROZEN

    status: str
    store: StoreHealth
    feed_head: int | None
    """The greatest seq of the feed; null while the store is away."""
    version: str
