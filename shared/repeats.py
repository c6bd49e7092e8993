"""Wire models of `POST /repeats`: what several attempts at each question tell."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.analysis import RunInfo, Values
from shared.statistics import Confidence, Names

_FROZEN = ConfigDict(frozen=True)
_STRICT = ConfigDict(frozen=True, extra="forbid")

KS_MAX = 200
"""Of pass@k; of a run with more attempts at a question the first are told unless others are named."""


class RepeatsRequest(BaseModel):
    """Models, or runs, whose questions were attempted several times."""

    model_config = _STRICT

    benchmark: str
    models: Names | None = Field(default=None, description="Default: all that have a run")
    runs: Names | None = Field(default=None, description="Instead of `models`: results by their names")
    ks: list[Annotated[int, Field(ge=1, le=2**31, strict=True)]] | None = Field(
        default=None,
        min_length=1,
        max_length=KS_MAX,
        description="The k of pass@k and pass^k; default: each up to the attempts stored",
    )
    filters: dict[str, Values] = Field(default={}, max_length=100)
    confidence: Confidence = 0.95

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.models is not None and self.runs is not None:
            raise ValueError("name either `models` or `runs`")
        return self


class KEstimate(BaseModel):
    """An estimate at one k, over the questions with at least k scored attempts."""

    model_config = _FROZEN

    k: int
    n_questions: int
    value: float
    se: float | None
    ci_low: float | None
    ci_high: float | None
    method: str | None


class Variance(BaseModel):
    """Of a run's scores: how far questions differ, and how far attempts at the same question do."""

    model_config = _FROZEN

    question: float | None
    """Between questions' true means, attempts' noise taken out (it may come out as 0)."""
    attempt: float | None
    """Between attempts at one question, pooled over questions."""
    reason: str | None


class RunRepeats(BaseModel):
    """One run."""

    model_config = _FROZEN

    run: RunInfo
    n: int
    """Scored attempts."""
    n_questions: int
    attempts_min: int
    """Scored attempts of the question that has fewest, and of the one that has most."""
    attempts_max: int
    avg: KEstimate | None
    """avg@n: the mean over questions of their attempts' mean; k is `attempts_max`."""
    pass_at: list[KEstimate]
    """pass@k: the chance that of k attempts at least one is right, which is to have the highest score."""
    pass_all: list[KEstimate]
    """pass^k: the chance that all of k attempts are right."""
    maj: KEstimate | None
    """maj@n: the score of the most frequent answer of a question's attempts; equally frequent ones count as their
    share. k is `attempts_max`."""
    consistency: KEstimate | None
    """The chance that two attempts at one question have the same answer; k is 2."""
    variance: Variance
    reasons: list[str]
    """Why something above is null or empty."""


class RepeatsAnswer(BaseModel):
    """Runs by model, then by name."""

    model_config = _FROZEN

    benchmark: str
    runs: list[RunRepeats]
    confidence: float
    warnings: list[str]
    data_version: str
