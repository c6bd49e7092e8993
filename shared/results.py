"""Wire models of the results API: what it answers, and the feed."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from shared.names import check_characters
from shared.problems import ProblemDocument
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
    FAILED = "failed"
    """Not judged, since the store went away before it: to be sent again."""


class StandardizationState(StrEnum):
    """How far a raw input is on its way to standardized results."""

    QUEUED = "queued"
    DONE = "done"
    PARTLY = "partly"
    """Some of it is not stored; the report says what and why."""
    UNRECOGNISED = "unrecognised"
    """No reader knows it."""
    FAILED = "failed"
    """It could not be read; the report says why."""


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


class BatchLine(BaseModel):
    """What became of one line of a batch. What is stored has the fields of a StoredAnswer, anything else a problem."""

    model_config = _FROZEN

    line: int
    """Which line of the body, from 1; blank ones are counted."""
    status: StoreStatus
    result_name: str | None = None
    unchanged: bool | None = None
    sha256: str | None = None
    questions: int | None = None
    warnings: list[str] | None = None
    problem: ProblemDocument | None = None


class DescribedRun(BaseModel):
    """What was said of a run when it was pushed, whether it is finished or live."""

    model_config = _FROZEN

    result_name: str
    """Of the result that it is, or becomes."""
    run_id: str
    benchmark_name: str
    model_id: str
    tokenizer_id: str | None = None
    source: str
    timestamp: str
    provenance: Provenance | None = None


class ResultSummary(DescribedRun):
    """One result in a list; `data` is not touched to make it."""

    received_at: str
    questions: int
    summary: dict[str, Scalar]
    bytes: int
    sha256: str
    state: ResultState
    standardization: StandardizationState | None = None
    """Of a raw input that was to be standardized."""


class CorrectionAction(StrEnum):
    """What a correction does, by the word for what it then is."""

    INVALIDATED = "invalidated"
    RESTORED = "restored"


def _check_line(text: str) -> str:
    return check_characters(_check_not_blank(text))


def _check_lines(text: str) -> str:
    return check_characters(_check_not_blank(text), controls="\r\n")


def _check_not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


class CorrectionRequest(BaseModel):
    """Who corrects, and why; both are kept for ever."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    author: Annotated[str, AfterValidator(_check_line)] = Field(max_length=300, examples=["ada@example.org"])
    reason: Annotated[str, AfterValidator(_check_lines)] = Field(
        max_length=2000, examples=["The grader read the answers of another split."]
    )


class Correction(BaseModel):
    """One correction of a result: who, why, when, with which API key (null where keys are disabled)."""

    model_config = _FROZEN

    action: CorrectionAction
    author: str
    reason: str
    at: str
    key: str | None


class CorrectedResult(ResultSummary):
    """A result with every correction of it, oldest first."""

    history: list[Correction] = []


class CorrectionAnswer(CorrectedResult):
    """The answer to a correction; `unchanged` where the result was in that state already."""

    unchanged: bool


class ResultDetail(CorrectedResult):
    """One result with its data, which the service sends as the bytes it received."""

    data: dict[str, Any] | list[Any]


class ResultSort(StrEnum):
    """The order of a list; `-` begins with the newest."""

    NEWEST = "-timestamp"
    OLDEST = "timestamp"
    LAST_ARRIVED = "-arrival"
    FIRST_ARRIVED = "arrival"


class ResultPage(BaseModel):
    """A page of results; `next_cursor` is null on the last."""

    model_config = _FROZEN

    items: list[ResultSummary]
    next_cursor: str | None
    total: int | None = None
    """How many results the whole list has; null unless asked for."""


class StoredName(BaseModel):
    """A benchmark, model or source that results are stored of."""

    model_config = _FROZEN

    name: str
    results: int
    """How many, those that were invalidated among them."""
    invalidated: int
    newest: str
    """The newest timestamp."""


class StoredNamePage(BaseModel):
    """A page of names in the order of their bytes; `next_cursor` is null on the last."""

    model_config = _FROZEN

    items: list[StoredName]
    next_cursor: str | None


class FeedKind(StrEnum):
    """What happened to a result."""

    RESULT = "result"
    INVALIDATED = "invalidated"
    RESTORED = "restored"
    PART = "part"
    """Of a live run."""
    FINISHED = "finished"
    """A live run became a result."""
    DISCARDED = "discarded"
    """A live run will not become a result."""


LIVE_KINDS = frozenset({FeedKind.PART, FeedKind.DISCARDED})
"""What happens to live runs; everything else is about stored results."""


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


class LiveRunState(StrEnum):
    """What has become of a live run."""

    LIVE = "live"
    FINISHING = "finishing"
    """Takes no more parts; its result is being stored. Whatever interrupts that, it is completed later."""
    FINISHED = "finished"
    DISCARDED = "discarded"


class Discard(BaseModel):
    """Who discarded a live run, and why."""

    model_config = _FROZEN

    author: str
    reason: str
    at: str
    key: str | None


class LiveRun(DescribedRun):
    """A run whose questions come in parts."""

    state: LiveRunState
    abandoned: bool
    """Whether it is live, and nothing has come for longer than LIVE_RUN_ABANDONED_S."""
    owner: str | None
    """Id of the API key that opened it; null where keys were disabled."""
    opened_at: str
    last_part_at: str | None = None
    parts: int
    questions: int
    """Attempts at questions in all parts so far."""
    bytes: int
    """Of the data that it would be finished with now."""
    finished_at: str | None = None
    sha256: str | None = None
    """Of the finished result's data."""
    discarded: Discard | None = None


class LiveRunDetail(LiveRun):
    """A live run with the numbers of its parts, ascending."""

    part_numbers: list[int]


class OpenedLiveRun(LiveRun):
    """The answer to opening a live run: 201, or 200 and `unchanged` if it was open with the same words."""

    unchanged: bool
    warnings: list[str]


class LiveRunPage(BaseModel):
    """A page of live runs, newest timestamp first; `next_cursor` is null on the last."""

    model_config = _FROZEN

    items: list[LiveRun]
    next_cursor: str | None


class PartAnswer(BaseModel):
    """The answer to a part: 201 if created, 200 if the same part was there."""

    model_config = _FROZEN

    result_name: str
    part: int
    status: StoreStatus
    unchanged: bool
    sha256: str
    """Of the part's questions, as the bytes between the brackets of the array."""
    questions: int
    """In this part."""
    warnings: list[str]


class LiveQuestions(BaseModel):
    """All questions of a live run so far, shaped as a stored result, for those who keep a projection."""

    model_config = _FROZEN

    result_name: str
    run_id: str
    benchmark_name: str
    model_id: str
    source: str
    timestamp: str
    state: ResultState
    """Always valid: here so that the shape is a result's."""
    live: LiveRunState
    provenance: Provenance | None = None
    sha256: str
    """Of `data`."""
    data: dict[str, Any]
    """`{"questions": […]}` while it is live or finishing, else empty: a finished run is in its result."""
