"""Wire models of `POST /significance`: whether a candidate may replace a baseline."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.analysis import RunInfo, Values
from shared.comparisons import PairComparison
from shared.names import TextId
from shared.statistics import Confidence, Correction, Draws, Seed, Verdict

_FROZEN = ConfigDict(frozen=True)
_STRICT = ConfigDict(frozen=True, extra="forbid")


class Contender(BaseModel):
    """A model, by its latest run of each benchmark, or one run by its name."""

    model_config = _STRICT

    model: TextId | None = None
    run: TextId | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.model is None) == (self.run is None):
            raise ValueError("name either `model` or `run`")
        return self


class SignificanceRequest(BaseModel):
    """A candidate against a baseline, benchmark by benchmark."""

    model_config = _STRICT

    benchmarks: list[str] = Field(min_length=1, max_length=100, examples=[["mmlu-redux", "math500"]])
    candidate: Contender
    baseline: Contender
    margin: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False, strict=True)] = Field(
        default=0.01, description="Differences up to this, on the benchmark's scale, do not matter"
    )
    filters: dict[str, Values] = Field(default={}, max_length=100)
    cluster_by: str | None = None
    confidence: Confidence = 0.95
    correction: Correction = Correction.HOLM
    draws: Draws = 2000
    seed: Seed = 0


class LookedAt(BaseModel):
    """A confidence sequence, which may be looked at after every question."""

    model_config = _FROZEN

    n: int
    """Shared questions so far, in the order in which the candidate answered them."""
    delta: float
    ci_low: float
    ci_high: float


class LiveVerdict(BaseModel):
    """What can be said of a run that is going on, however often it is looked at."""

    model_config = _FROZEN

    verdict: Verdict
    decided_at: int | None
    """The shared question after which the sequence first excluded no difference, or lay within the margin."""
    method: str
    of: int | None
    """Shared questions that there will be: those of the baseline's run."""
    path: list[LookedAt]
    """At most 200 of the questions so far, the last one among them."""
    warnings: list[str]


class BenchmarkVerdict(BaseModel):
    """The verdict on one benchmark."""

    model_config = _FROZEN

    benchmark: str
    verdict: Verdict
    within_margin: bool
    """Whether the two one-sided tests for the margin are both significant, whatever the verdict; of a live candidate,
    whether the sequence lies within the margin."""
    not_worse: bool
    """Whether the candidate is told to be at most the margin below the baseline."""
    pair: PairComparison
    """The candidate as a, the baseline as b."""
    ci_within_low: float | None
    ci_within_high: float | None
    """The interval of the two one-sided tests: of confidence 1 − 2 × (1 − confidence); null where the pair's
    difference has no interval, as its reason says, and for a live candidate."""
    candidate_runs: list[RunInfo]
    baseline_runs: list[RunInfo]
    live: LiveVerdict | None
    """Where the candidate's run is going on; the verdict is this one's then."""
    sentence: str
    """The verdict in words."""


class SignificanceAnswer(BaseModel):
    """A verdict for each benchmark, and the worst of them."""

    model_config = _FROZEN

    verdict: Verdict
    """`worse` if any is; else `inconclusive` if any is; else `better` if any is; else `equivalent`."""
    verdicts: list[BenchmarkVerdict]
    n_tests: int
    """P-values that were corrected together; of a live candidate none."""
    correction: Correction
    confidence: float
    margin: float
    warnings: list[str]
    data_version: str


Accepted = Literal["better", "equivalent", "inconclusive", "not-worse"]
"""What a gate lets through."""
