"""The questions that both clients ask of the analysis: group-bys, comparisons, verdicts, courses over time, repeats.

A request is given whole, or by its fields; either way it is checked before it is sent.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from scorehouse.calls import Call, ScorehouseError, Service
from shared.analysis import AnalysisAnswer, AnalysisRequest, SummaryAnswer
from shared.comparisons import ComparisonAnswer, ComparisonRequest
from shared.problems import validation_faults
from shared.repeats import RepeatsAnswer, RepeatsRequest
from shared.significance import SignificanceAnswer, SignificanceRequest
from shared.time_series import TimeSeriesAnswer, TimeSeriesRequest

_T = TypeVar("_T")
_Request = TypeVar("_Request", bound=BaseModel)
_Answer = TypeVar("_Answer", bound=BaseModel)


class AnalysisCalls(ABC):
    """What is asked of the analysis, blocking.

    Fields that no request may have are a ScorehouseError that names them, before anything is sent.
    """

    @abstractmethod
    def _send(self, call: Call[_T]) -> _T:
        """The answer to a call."""

    def analyze(self, request: AnalysisRequest) -> AnalysisAnswer:
        """The rows of a group-by."""
        return self._send(_ask("/analysis", AnalysisAnswer, request))

    def summary(self) -> SummaryAnswer:
        """What is stored of each benchmark."""
        return self._send(_SUMMARY)

    def compare(self, request: ComparisonRequest | None = None, /, **fields: object) -> ComparisonAnswer:
        """Models, or runs, question by question: ranks with their intervals, and every pair.

        answer = house.compare(benchmark="mmlu-redux", models=["gpt-4o", "claude-3.5-sonnet"])
        for pair in answer.pairs:
            print(pair.a, pair.b, pair.delta, pair.ci_low, pair.ci_high, pair.p_adjusted)
        """
        return self._send(_ask("/comparison", ComparisonAnswer, _whole(ComparisonRequest, request, fields)))

    def significance(self, request: SignificanceRequest | None = None, /, **fields: object) -> SignificanceAnswer:
        """Whether a candidate may replace a baseline: better, worse, equivalent within a margin, or not told.

        answer = house.significance(benchmarks=["mmlu"], candidate={"model": "gpt-4o"}, baseline={"model": "gpt-4"})
        for verdict in answer.verdicts:
            print(verdict.sentence)
        """
        return self._send(_ask("/significance", SignificanceAnswer, _whole(SignificanceRequest, request, fields)))

    def time_series(self, request: TimeSeriesRequest | None = None, /, **fields: object) -> TimeSeriesAnswer:
        """Scores over time, with the steps that were found and the breaks between what cannot be compared.

        answer = house.time_series(benchmark="mmlu", family="gpt-4")
        for step in answer.series[0].steps:
            print(step.at, step.delta, step.p_adjusted)
        """
        return self._send(_ask("/timeseries", TimeSeriesAnswer, _whole(TimeSeriesRequest, request, fields)))

    def repeats(self, request: RepeatsRequest | None = None, /, **fields: object) -> RepeatsAnswer:
        """What several attempts at each question tell: pass@k, pass^k, majority, consistency.

        answer = house.repeats(benchmark="aime", models=["deepseek-r1"])
        print([(at.k, at.value) for at in answer.runs[0].pass_at])
        """
        return self._send(_ask("/repeats", RepeatsAnswer, _whole(RepeatsRequest, request, fields)))


class AwaitedAnalysisCalls(ABC):
    """The same, awaited."""

    @abstractmethod
    async def _send(self, call: Call[_T]) -> _T:
        """The answer to a call."""

    async def analyze(self, request: AnalysisRequest) -> AnalysisAnswer:
        """The rows of a group-by."""
        return await self._send(_ask("/analysis", AnalysisAnswer, request))

    async def summary(self) -> SummaryAnswer:
        """What is stored of each benchmark."""
        return await self._send(_SUMMARY)

    async def compare(self, request: ComparisonRequest | None = None, /, **fields: object) -> ComparisonAnswer:
        """Models, or runs, question by question: ranks with their intervals, and every pair.

        answer = await house.compare(benchmark="mmlu-redux", models=["gpt-4o", "claude-3.5-sonnet"])
        """
        return await self._send(_ask("/comparison", ComparisonAnswer, _whole(ComparisonRequest, request, fields)))

    async def significance(self, request: SignificanceRequest | None = None, /, **fields: object) -> SignificanceAnswer:
        """Whether a candidate may replace a baseline: better, worse, equivalent within a margin, or not told.

        ask = {"candidate": {"model": "gpt-4o"}, "baseline": {"model": "gpt-4"}}
        print((await house.significance(benchmarks=["mmlu"], **ask)).verdict)
        """
        return await self._send(_ask("/significance", SignificanceAnswer, _whole(SignificanceRequest, request, fields)))

    async def time_series(self, request: TimeSeriesRequest | None = None, /, **fields: object) -> TimeSeriesAnswer:
        """Scores over time, with the steps that were found and the breaks between what cannot be compared.

        answer = await house.time_series(benchmark="mmlu", family="gpt-4")
        """
        return await self._send(_ask("/timeseries", TimeSeriesAnswer, _whole(TimeSeriesRequest, request, fields)))

    async def repeats(self, request: RepeatsRequest | None = None, /, **fields: object) -> RepeatsAnswer:
        """What several attempts at each question tell: pass@k, pass^k, majority, consistency.

        answer = await house.repeats(benchmark="aime", models=["deepseek-r1"])
        """
        return await self._send(_ask("/repeats", RepeatsAnswer, _whole(RepeatsRequest, request, fields)))


_SUMMARY = Call(Service.ANALYSIS, "GET", "/analysis/summary", SummaryAnswer.model_validate_json)


def _ask(path: str, answer: type[_Answer], request: BaseModel) -> Call[_Answer]:
    body = request.model_dump_json(exclude_unset=True).encode()
    return Call(Service.ANALYSIS, "POST", path, answer.model_validate_json, body=body)


def _whole(kind: type[_Request], request: _Request | None, fields: Mapping[str, object]) -> _Request:
    """The request, or the one that these are the fields of; ScorehouseError if there is none such."""
    if request is not None and not fields:
        return request
    if request is not None:
        raise TypeError("give a request, or its fields, not both")
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        faults = "; ".join(f"{fault.place}: {fault.detail}" for fault in validation_faults(error))
        raise ScorehouseError(f"nothing can be asked like that: {faults}") from None
