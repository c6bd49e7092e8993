"""Wire models of `POST /comparison`: models or runs compared question by question."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.analysis import RunInfo, Values
from shared.statistics import Confidence, Correction, Draws, Names, Seed

_FROZEN = ConfigDict(frozen=True)
_STRICT = ConfigDict(frozen=True, extra="forbid")


class ComparisonRequest(BaseModel):
    """Two or more models, or runs, on the questions that they share of one or several benchmarks."""

    model_config = _STRICT

    benchmark: str | None = Field(default=None, examples=["mmlu-redux"])
    benchmarks: list[str] | None = Field(
        default=None, min_length=1, max_length=100, description="Instead of `benchmark`: several"
    )
    models: Names | None = Field(
        default=None, description="Models by id or alias; of each the latest run of each benchmark"
    )
    runs: Names | None = Field(default=None, description="Instead of `models`: results by their names")
    filters: dict[str, Values] = Field(default={}, max_length=100, description="Metadata field → the values to keep")
    cluster_by: str | None = Field(
        default=None, description="A metadata field whose questions are not independent, such as a passage"
    )
    weights: dict[str, Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False, strict=True)]] | None = Field(
        default=None,
        description="Benchmark → its weight in the difference; default: each question counts the same",
    )
    confidence: Confidence = 0.95
    correction: Correction = Correction.HOLM
    draws: Draws = 2000
    seed: Seed = 0
    contested: int = Field(default=20, ge=0, le=200, strict=True, description="Contested questions to tell")
    live: bool = Field(default=False, description="Let live runs, as far as they have come, count as `latest`")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.benchmark is None) == (self.benchmarks is None):
            raise ValueError("name either `benchmark` or `benchmarks`")
        if (self.models is None) == (self.runs is None):
            raise ValueError("name either `models` or `runs`")
        return self


class ComparedEntry(BaseModel):
    """One of those compared, over all of its own questions, and its place among them."""

    model_config = _FROZEN

    name: str
    """The model, or the result's name where runs are compared."""
    model: str
    runs: list[RunInfo]
    n: int
    """Scored attempts."""
    n_questions: int
    """Distinct questions with a scored attempt."""
    mean: float | None
    """Mean over questions of their attempts' mean; with weights, of benchmarks."""
    se: float | None
    ci_low: float | None
    ci_high: float | None
    method: str | None
    """Of the interval."""
    reason: str | None
    """Why something above is null."""
    rank: int | None
    """1 + how many have a higher mean over the questions that all share."""
    rank_low: int | None
    """The ranks that are not ruled out at the confidence, of all entries at once."""
    rank_high: int | None
    tie_group: int | None
    """Numbered from the top: whoever is not told apart from the first of a group is in it."""
    p_best: float | None
    """The share of joint bootstrap draws in which it was first."""


class PairComparison(BaseModel):
    """Two of them on the questions that both have a scored attempt at. Everything is a − b."""

    model_config = _FROZEN

    a: str
    b: str
    n_shared: int
    wins: int
    """Questions at which a's mean is higher."""
    losses: int
    ties: int
    mean_a: float | None
    mean_b: float | None
    """Over the shared questions."""
    delta: float | None
    se: float | None
    ci_low: float | None
    ci_high: float | None
    confidence: float
    method: str | None
    """Of the interval: `tango`, `paired t`, `clustered t (CR2)` …"""
    df: float | None
    """Degrees of freedom, where the method has them."""
    n_clusters: int | None
    p: float | None
    """Two-sided, of no difference."""
    test: str | None
    """What p comes from: `exact mcnemar`, `sign flips (exact)`, `sign flips (10,000)`, `sign flips (weighted)`,
    `paired t`, `clustered t` …"""
    p_adjusted: float | None
    significant: bool | None
    """Whether `p_adjusted` is at most 1 − confidence."""
    bootstrap_low: float | None
    bootstrap_high: float | None
    """Percentiles of Poisson bootstrap draws."""
    mde80: float | None
    """The smallest true difference that so many questions would have told with 80 % power, before correction."""
    questions_needed: int | None
    """So many shared questions would tell a true difference of `delta` with 80 % power."""
    reason: str | None
    """Why something above is null."""
    warnings: list[str]
    """What makes the two hard to compare: other harnesses, task versions, graders, prompts or texts of questions."""


class ContestedQuestion(BaseModel):
    """A question on which they are of different minds."""

    model_config = _FROZEN

    benchmark: str
    question_id: str
    content_hash: str | None
    scores: dict[str, float]
    """Name of an entry → the mean of its attempts."""
    metadata: dict[str, Any]


class ComparisonAnswer(BaseModel):
    """All pairs of what was asked for, corrected together."""

    model_config = _FROZEN

    benchmarks: list[str]
    entries: list[ComparedEntry]
    """By rank, then by name."""
    pairs: list[PairComparison]
    """Every pair once, as the entries stand in the request."""
    n_shared_by_all: int
    """Questions that all entries have a scored attempt at: ranks are about these."""
    n_tests: int
    """The p-values that were corrected together."""
    correction: Correction
    confidence: float
    draws: int
    seed: int
    contested: list[ContestedQuestion]
    """Those with the largest spread of scores, among the questions that all share."""
    n_contested: int
    """Shared by all and not scored the same by all."""
    warnings: list[str]
    data_version: str
