"""Wire models of the analysis API: requests as they are sent, answers as they come back."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationInfo,
    field_validator,
)

from shared.names import FACTS
from shared.results import StoreHealth
from shared.statistics import Confidence, Correction

_FROZEN = ConfigDict(frozen=True)
_STRICT = ConfigDict(frozen=True, extra="forbid")

Value = StrictStr | StrictBool | StrictInt | StrictFloat
"""A metadata value as JSON has it; strings are not read as numbers."""

Values = Annotated[list[Value], Field(max_length=5000)]


class ErrorPolicy(StrEnum):
    """How attempts that were refused, truncated or ended in an error count."""

    EXCLUDE = "exclude"
    """They do not: `n` is the scored attempts."""
    WRONG = "wrong"
    """As the scale's lowest score."""
    BOUNDS = "bounds"
    """`mean` as for exclude; `mean_low` and `mean_high`: these, and the unscored, all lowest or all highest."""


RunChoice = Literal["latest", "all"] | Annotated[list[str], Field(min_length=1, max_length=5000)]


class AnalysisRequest(BaseModel):
    """A group-by over one benchmark, or over several that have the same fields; one to three levels deep."""

    model_config = _STRICT

    benchmark: str | None = Field(default=None, examples=["mmlu-redux"])
    benchmarks: list[str] | None = Field(
        default=None, min_length=1, max_length=100, description="Instead of `benchmark`: several, named in the rows"
    )
    level1: str = Field(
        description="A metadata field, `model`, `run`, or " + " or ".join(f"`{fact}`" for fact in FACTS)
    )
    level2: str | None = None
    level3: str | None = None
    level1_values: Values | None = Field(default=None, description="Keep these values of level 1 only")
    level2_values: Values | None = None
    level3_values: Values | None = None
    models: list[str] | None = Field(
        default=None, max_length=5000, description="Keep these models only; an alias names its model"
    )
    filters: dict[str, Values] = Field(default={}, max_length=100, description="Field → the values to keep")
    runs: RunChoice = "latest"
    live: bool = Field(
        default=False,
        description="Let live runs, as far as they have come, count as `latest` and among `all`; named ones always do",
    )
    by_model: bool | None = Field(
        default=None, description="One row a model; default true, false where a level is `model` or `run`"
    )
    include_null: bool = Field(default=False, description="Keep rows whose level has no value")
    error_policy: ErrorPolicy = ErrorPolicy.EXCLUDE
    order_by: str | None = Field(
        default=None, description="A column, `-` before it for descending; default: the groups in their order"
    )
    limit: int = Field(default=1000, ge=1, le=100_000)
    shared_questions: bool = Field(
        default=False, description="Only questions that every chosen run of the benchmark was asked"
    )
    explain: bool = Field(default=False, description="Tell in `plan` how the answer was made")
    statistics: bool = Field(
        default=False,
        description="Give each row its uncertainty and how many attempts ended how; see the answer's rows",
    )
    confidence: Confidence = 0.95
    cluster_by: str | None = Field(
        default=None, description="A metadata field whose questions are not independent, such as a passage"
    )
    macro_over: str | None = Field(
        default=None, description="The metadata field that `macro_mean` is over; default: the one below the last level"
    )
    baseline_model: str | None = Field(
        default=None, description="Tell of each row the difference to this model, question by question; an alias does"
    )
    correction: Correction = Field(
        default=Correction.HOLM, description="How p-values allow for all cells of the request, shown or not"
    )

    @field_validator("confidence", "cluster_by", "macro_over", "baseline_model", "correction")
    @classmethod
    def _check_statistics(cls, value: object, info: ValidationInfo) -> object:
        if value is not None and not info.data.get("statistics"):
            raise ValueError("needs statistics: true")
        return value


class RunInfo(BaseModel):
    """A run that an answer is made of."""

    model_config = _FROZEN

    result_name: str
    model: str
    """The canonical model id."""
    registered: bool
    """Whether the registry knows the model."""
    timestamp: str
    coverage: float
    """Distinct questions of this run / questions of the benchmark."""
    partial: bool
    """Whether coverage is under 95 %."""
    live: bool
    """Whether the run is still going on."""


class PlanStatement(BaseModel):
    """A statement that the SQL store was asked."""

    model_config = _FROZEN

    name: str
    """What was read."""
    rows: int
    ms: float


class AnalysisPlan(BaseModel):
    """How an answer was made."""

    model_config = _FROZEN

    kind: Literal["sums", "answers"]
    """`sums`: from stored sums; `answers`: of some runs from single answers."""
    reason: str
    runs: int
    """Runs that were read."""
    cells: int
    """Cells of stored sums that were read."""
    answers: int
    """Single answers that were read."""
    layouts: int
    """Different sets of metadata and questions that the runs have."""
    layouts_read: int
    """Those that were not in memory."""
    question_sets: int
    """Sets of questions that were counted."""
    question_sets_read: int
    """Those that were not in memory."""
    combinations_read: int
    """Combinations of metadata values that were not in memory."""
    statements: list[PlanStatement]
    """In order; the store was asked nothing else but for its version and the runs that changed."""
    ms: float
    """The whole answer."""


def _is_none(value: object) -> bool:
    return value is None


class AnalysisAnswer(BaseModel):
    """Rows of a group-by. A row has the keys of `group_by`, then n, n_questions, mean and other measures.

    With `statistics` a row has besides: `se` of `mean`, its interval `ci_low` … `ci_high`, the `method` of this and its
    `confidence`, `n_clusters` where it is clustered, and `reason` why any of a row is null; the unweighted mean
    `macro_mean` over the values of `macro_over` with `macro_se`, `macro_ci_low`, `macro_ci_high`; and the attempts:
    `n_asked` = `n_answered` + `n_refused` + `n_truncated` + `n_error`, of which those answered are `n_scored` +
    `n_unscored`. With `baseline_model` also `n_shared` questions with it, the mean difference `delta` over these, with
    `delta_se`, `delta_ci_low`, `delta_ci_high`, `delta_method`, `p`, `p_adjusted` and `significant`.
    """

    model_config = _FROZEN

    benchmark: str | None
    """The benchmark asked for; null where `benchmarks` was, which the rows then name."""
    group_by: list[str]
    rows: list[dict[str, Any]]
    total_rows: int
    truncated: bool
    runs: list[RunInfo]
    warnings: list[str]
    data_version: str
    macro_over: str | None = Field(default=None, exclude_if=_is_none)
    """The field that macro means are over; not there without one, or without `statistics`."""
    baseline_model: str | None = Field(default=None, exclude_if=_is_none)
    """The canonical id of the model that deltas are to."""
    correction: Correction | None = Field(default=None, exclude_if=_is_none)
    n_tests: int | None = Field(default=None, exclude_if=_is_none)
    """The p-values that were corrected together: of all rows, shown or not."""
    plan: AnalysisPlan | None = Field(default=None, exclude_if=_is_none)
    """Only where `explain` was asked for."""


class OptionsRequest(BaseModel):
    """The levels chosen so far, with the values kept of each; the answer is about the level below them."""

    model_config = _STRICT

    level1: str
    level1_values: Values | None = None
    level2: str | None = None
    level2_values: Values | None = None


class ValueCount(BaseModel):
    """A value and the number of distinct questions that have it."""

    model_config = _FROZEN

    value: Any
    questions: int


class FieldOptions(BaseModel):
    """The values of a field, in the registry's order, and how many questions have none."""

    model_config = _FROZEN

    field: str
    values: list[ValueCount]
    n_null: int


class OptionsAnswer(BaseModel):
    """Options for the next level."""

    model_config = _FROZEN

    benchmark: str
    options: list[FieldOptions]
    data_version: str


class MetadataField(BaseModel):
    """A metadata field with the values that stored questions have."""

    model_config = _FROZEN

    name: str
    type: str
    description: str
    parent: str | None
    values: list[ValueCount]
    n_null: int


class MetadataAnswer(BaseModel):
    """What a benchmark can be grouped by."""

    model_config = _FROZEN

    benchmark: str
    title: str
    description: str
    fields: list[MetadataField]
    data_version: str


class ModelMean(BaseModel):
    """A model and its mean score."""

    model_config = _FROZEN

    model: str
    mean: float


class BenchmarkSummary(BaseModel):
    """What is stored of one benchmark, over the latest run of each model."""

    model_config = _FROZEN

    benchmark: str
    title: str
    registered: bool
    models: int
    runs: int
    questions: int
    answers: int
    mean: float | None
    best_model: ModelMean | None
    newest_run: RunInfo | None
    stated_only_runs: int
    live_runs: int
    """Runs still going on; the other numbers leave them out."""
    parked: int
    rejected: int


class SummaryAnswer(BaseModel):
    """The answer of `/analysis/summary`."""

    model_config = _FROZEN

    benchmarks: list[BenchmarkSummary]
    data_version: str


class PoolHealth(BaseModel):
    """The connection pool's state."""

    model_config = _FROZEN

    size: int
    in_use: int
    free: int
    overflow: int
    waiting: int


class ReplicaHealth(BaseModel):
    """A read replica of the SQL store."""

    model_config = _FROZEN

    host: str
    used: bool
    """False while it is left alone: it is gone, or behind."""
    behind: bool
    pool: PoolHealth


class FeedHealth(BaseModel):
    """How far the projection has come."""

    model_config = _FROZEN

    position: int | None
    lag: int | None
    """Entries of the feed not yet applied; null while one side is away."""
    applying: str | None
    stopped: str | None = None
    """Why the consumer stopped for good, if it did."""


class AnalysisHealth(BaseModel):
    """The answer of the analysis service's `/health`."""

    model_config = _FROZEN

    status: str
    store: StoreHealth
    pool: PoolHealth
    """Connections to the primary."""
    replicas: list[ReplicaHealth] = []
    feed: FeedHealth
    version: str
