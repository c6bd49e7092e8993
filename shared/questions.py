"""Wire models of the analysis API's `/benchmarks/{benchmark}/questions`: a question through every model and harness."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_FROZEN = ConfigDict(frozen=True)
_STRICT = ConfigDict(frozen=True, extra="forbid")

TEXT_MAX = 2_000
"""Characters of an answer or target that are shown."""
ATTEMPTS_MAX = 50
"""Attempts of one run that are shown."""
IDS_MAX = 100
"""Ids of a question, and targets, that are shown."""


class QuestionQuery(BaseModel):
    """Which runs of a question, and how many of them at once."""

    model_config = _STRICT

    runs: Literal["latest", "all"] = Field(
        default="latest", description="`latest` is the latest run of each model through each harness (`source`)"
    )
    live: bool = Field(default=False, description="Let live runs, as far as they have come, count, too")
    model: list[str] = Field(default=[], max_length=100, description="Keep these models only; an alias names its model")
    source: list[str] = Field(default=[], max_length=100, description="Keep these sources only")
    limit: int = Field(default=20, ge=1, le=100, description="Runs at once")
    cursor: str | None = Field(default=None, description="`next_cursor` of the page before, all else as it was")


class QuestionAttempt(BaseModel):
    """One attempt at a question."""

    model_config = _FROZEN

    attempt: int
    status: str
    score: float | None
    answer: str | None
    """As sent if it was a string, else as JSON."""
    target: str | None
    truncated: bool
    """Whether answer or target is longer than what is shown here; the result itself has all of it."""
    latency_ms: float | None
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None


class QuestionRun(BaseModel):
    """What one run made of a question."""

    model_config = _FROZEN

    result_name: str
    question_id: str
    """The id that this run gave it."""
    model: str
    """The canonical model id."""
    registered: bool
    """Whether the registry knows the model."""
    source: str
    """Who measured: the harness, as a rule."""
    timestamp: str
    live: bool
    """Whether the run is still going on."""
    metadata: dict[str, Any]
    """The question's fields as this run sent them with its first attempt; fields without a value are left out."""
    n: int
    """Scored attempts."""
    mean: float | None
    """Of their scores."""
    n_attempts: int
    """All attempts; of many, the first are in `attempts`."""
    attempts: list[QuestionAttempt]


class QuestionDetail(BaseModel):
    """One question, known by its text or, where no text's hash was sent, by its id."""

    model_config = _FROZEN

    question_id: str
    """The id that it first came under."""
    question_ids: list[str]
    """Every id that it came under."""
    content_hash: str | None
    """Of its text; null where it is known by its id alone."""
    copy_no: int
    """1, and more where the benchmark holds a text several times."""
    runs_total: int
    """Runs that asked it, whatever `runs`, `model` and `source` keep."""
    targets: list[str]
    """The distinct targets of the attempts on this page; several mean that the runs were not scored alike."""
    runs: list[QuestionRun]
    """By model, then by time."""


class QuestionAnswer(BaseModel):
    """Each question that came under an id: several where runs sent the id with different texts.

    A page has `limit` runs, over all of them together; a question that no run is kept of is on it once, without runs.
    """

    model_config = _FROZEN

    benchmark: str
    question_id: str
    questions: list[QuestionDetail]
    questions_total: int
    """Questions that have this id, on all pages."""
    warnings: list[str]
    next_cursor: str | None
    data_version: str


class QuestionListQuery(BaseModel):
    """Which questions of a benchmark."""

    model_config = _STRICT

    prefix: str = Field(default="", max_length=300, description="Keep ids that begin so")
    limit: int = Field(default=100, ge=1, le=1000)
    cursor: str | None = Field(default=None, description="`next_cursor` of the page before, all else as it was")


class QuestionItem(BaseModel):
    """A question under one of its ids."""

    model_config = _FROZEN

    question_id: str
    content_hash: str | None
    copy_no: int
    runs: int
    """Finished runs that asked it, under whatever id."""


class QuestionPage(BaseModel):
    """A page of questions in the order of their ids. `next_cursor` is null on the last; others may be shorter."""

    model_config = _FROZEN

    benchmark: str
    items: list[QuestionItem]
    next_cursor: str | None
    data_version: str
