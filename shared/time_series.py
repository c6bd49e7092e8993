"""Wire models of `POST /timeseries`: scores over time, with the steps and breaks between them."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.analysis import RunInfo, Values
from shared.names import TextId
from shared.statistics import Confidence, Correction, Names, Seed

_FROZEN = ConfigDict(frozen=True)
_STRICT = ConfigDict(frozen=True, extra="forbid")


class TimeSeriesRequest(BaseModel):
    """A family, or some models, on one benchmark over time; a line for each value of a level, if one is asked for."""

    model_config = _STRICT

    benchmark: str
    family: TextId | None = Field(default=None, description="All models of this family")
    models: Names | None = Field(default=None, description="Instead of `family`: these models")
    by: Literal["run_time", "release_date"] = Field(
        default="run_time",
        description="`run_time`: every run when it was made; `release_date`: the latest run of each model, by release",
    )
    level1: str | None = Field(default=None, description="A metadata field: a line for each of its values")
    level1_values: Values | None = None
    filters: dict[str, Values] = Field(default={}, max_length=100)
    confidence: Confidence = 0.95
    correction: Correction = Correction.HOLM
    seed: Seed = 0
    limit: int = Field(default=500, ge=2, le=5000, strict=True, description="Points a line; the newest are kept")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.family is None) == (self.models is None):
            raise ValueError("name either `family` or `models`")
        return self


class SeriesPoint(BaseModel):
    """One run, as far as it is of this line."""

    model_config = _FROZEN

    at: str
    """A timestamp, or a date of release."""
    run: str
    model: str
    n: int
    n_questions: int
    mean: float | None
    se: float | None
    ci_low: float | None
    ci_high: float | None
    method: str | None
    reason: str | None
    """Why something above is null."""
    segment: int
    """Counted from 0; points of one segment are about the same questions, asked and graded in the same way."""


class SeriesBreak(BaseModel):
    """The line is broken here: what lies on both sides is not the same measurement."""

    model_config = _FROZEN

    before: str
    """The run after the break."""
    after: str
    """The run before it."""
    reasons: list[str]
    """`harness_version: 0.4.8 → 0.4.9`, `questions: 31 of 500 are others` …"""


class SeriesStep(BaseModel):
    """A change within a segment: the mean of its runs from `run` on against those before, paired by question."""

    model_config = _FROZEN

    run: str
    """The first after the step."""
    at: str
    n_shared: int
    delta: float
    se: float | None
    ci_low: float | None
    ci_high: float | None
    p: float
    """Allowing for the search: the chance of so large a step anywhere in the segment if there were none."""
    p_adjusted: float
    """And for the number of lines and segments."""
    method: str
    significant: bool


class Series(BaseModel):
    """A line."""

    model_config = _FROZEN

    value: Any
    """Of `level1`; null where none was asked for."""
    points: list[SeriesPoint]
    breaks: list[SeriesBreak]
    steps: list[SeriesStep]
    """Those that were found, significant or not; a segment without any has been searched in vain."""


class TimeSeriesAnswer(BaseModel):
    """Lines in the order of their values."""

    model_config = _FROZEN

    benchmark: str
    level1: str | None
    by: str
    series: list[Series]
    runs: list[RunInfo]
    n_tests: int
    correction: Correction
    confidence: float
    truncated: bool
    """Whether older points were left out."""
    warnings: list[str]
    data_version: str
