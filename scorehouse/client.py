"""The client: `Scorehouse` blocks, `AsyncScorehouse` is awaited; otherwise they are the same.

with Scorehouse() as house:
    house.push_standardized(Path("run.json").read_bytes())
    answer = house.analyze(AnalysisRequest(benchmark="mmlu-redux", level1="category"))
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TypeVar

import httpx

from scorehouse import calls
from scorehouse.calls import TIMEOUT, Addresses, Call, Retries, ScorehouseError, StoredResult
from shared.analysis import AnalysisAnswer, AnalysisHealth, AnalysisRequest, SummaryAnswer
from shared.results import ResultKind, ResultsHealth, ResultSummary, StoredAnswer

_T = TypeVar("_T")

_NO_PROXY: dict[str, None] = {"all://localhost": None, "all://127.0.0.1": None, "all://[::1]": None}
"""A proxy for the outside world must not be asked for this machine's services."""


@contextmanager
def _environment_checked() -> Iterator[None]:
    """httpx reads proxies and certificates from the environment, and trips over them in many ways."""
    try:
        yield
    except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
        settings = "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY or SSL_CERT_FILE"
        raise ScorehouseError(f"what the environment has in {settings} cannot be used: {error}") from error


class AsyncScorehouse:
    """Both services, awaited. Addresses and API key default to SCOREHOUSE_RESULTS_URL, SCOREHOUSE_ANALYSIS_URL and
    SCOREHOUSE_API_KEY, then to this machine's ports 8000 and 8001 without a key.

    Every method raises ScorehouseError with the service's problem, or UnreachableError where there was no answer.
    While a service is busy or its store away (503) a request is sent again, as `retries` says.
    """

    def __init__(
        self,
        results_url: str | None = None,
        analysis_url: str | None = None,
        api_key: str | None = None,
        *,
        retries: Retries | None = None,
    ) -> None:
        self._addresses = Addresses.choose(results_url, analysis_url, api_key)
        self._retries = retries or Retries()
        with _environment_checked():
            self._http = httpx.AsyncClient(timeout=TIMEOUT, mounts=_NO_PROXY)
        self._answered = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def push_standardized(self, body: bytes) -> StoredAnswer:
        """Store a standardized result; `body` is its JSON document, sent as it is."""
        return await self.push(ResultKind.STANDARDIZED, body)

    async def push_raw(self, body: bytes) -> StoredAnswer:
        """Store a raw input; `body` is its JSON document, sent as it is."""
        return await self.push(ResultKind.RAW, body)

    async def push(self, kind: ResultKind, body: bytes) -> StoredAnswer:
        """Store a result of either kind."""
        return await self._send(calls.push(kind, body))

    async def get_result(self, result_name: str, kind: ResultKind = ResultKind.STANDARDIZED) -> StoredResult:
        """A stored result; its `data` is what was pushed, byte for byte. Any spelling of the name's time will do."""
        return await self._send(calls.get_result(kind, result_name))

    async def list_results(
        self,
        kind: ResultKind = ResultKind.STANDARDIZED,
        *,
        benchmark_name: str | None = None,
        model_id: str | None = None,
        source: str | None = None,
        run_id: str | None = None,
    ) -> AsyncIterator[ResultSummary]:
        """Every result that passes the filters, newest first, page by page."""
        filters = {"benchmark_name": benchmark_name, "model_id": model_id, "source": source, "run_id": run_id}
        cursor = None
        while True:
            page = await self._send(calls.list_results(kind, filters, cursor))
            for item in page.items:
                yield item
            if page.next_cursor is None:
                return
            cursor = page.next_cursor

    async def analyze(self, request: AnalysisRequest) -> AnalysisAnswer:
        """The rows of a group-by."""
        return await self._send(calls.analyze(request))

    async def summary(self) -> SummaryAnswer:
        """What is stored of each benchmark."""
        return await self._send(calls.summary())

    async def results_health(self) -> ResultsHealth:
        """The results service's state, also where it answers 503; asked once, never again by itself."""
        return await self._send(calls.results_health())

    async def analysis_health(self) -> AnalysisHealth:
        """The analysis service's state, also where it answers 503; asked once, never again by itself."""
        return await self._send(calls.analysis_health())

    async def _send(self, call: Call[_T]) -> _T:
        attempt = 0
        while True:
            attempt += 1
            try:
                response = await self._http.send(call.request(self._http, self._addresses))
            except httpx.TransportError as error:
                wait_s = self._retries.wait_s(attempt) if self._answered and not call.also_good else None
                if wait_s is None:
                    raise call.unreachable(error, self._addresses) from error
            else:
                self._answered = True
                wait_s = self._retries.wait_s(attempt, response.headers.get("retry-after"))
                if wait_s is None or not call.may_retry(response):
                    return call.answer(response)
            await asyncio.sleep(wait_s)


class Scorehouse:
    """Both services, blocking. Everything else is as `AsyncScorehouse` says."""

    def __init__(
        self,
        results_url: str | None = None,
        analysis_url: str | None = None,
        api_key: str | None = None,
        *,
        retries: Retries | None = None,
    ) -> None:
        self._addresses = Addresses.choose(results_url, analysis_url, api_key)
        self._retries = retries or Retries()
        with _environment_checked():
            self._http = httpx.Client(timeout=TIMEOUT, mounts=_NO_PROXY)
        self._answered = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def push_standardized(self, body: bytes) -> StoredAnswer:
        """Store a standardized result; `body` is its JSON document, sent as it is."""
        return self.push(ResultKind.STANDARDIZED, body)

    def push_raw(self, body: bytes) -> StoredAnswer:
        """Store a raw input; `body` is its JSON document, sent as it is."""
        return self.push(ResultKind.RAW, body)

    def push(self, kind: ResultKind, body: bytes) -> StoredAnswer:
        """Store a result of either kind."""
        return self._send(calls.push(kind, body))

    def get_result(self, result_name: str, kind: ResultKind = ResultKind.STANDARDIZED) -> StoredResult:
        """A stored result; its `data` is what was pushed, byte for byte. Any spelling of the name's time will do."""
        return self._send(calls.get_result(kind, result_name))

    def list_results(
        self,
        kind: ResultKind = ResultKind.STANDARDIZED,
        *,
        benchmark_name: str | None = None,
        model_id: str | None = None,
        source: str | None = None,
        run_id: str | None = None,
    ) -> Iterator[ResultSummary]:
        """Every result that passes the filters, newest first, page by page."""
        filters = {"benchmark_name": benchmark_name, "model_id": model_id, "source": source, "run_id": run_id}
        cursor = None
        while True:
            page = self._send(calls.list_results(kind, filters, cursor))
            yield from page.items
            if page.next_cursor is None:
                return
            cursor = page.next_cursor

    def analyze(self, request: AnalysisRequest) -> AnalysisAnswer:
        """The rows of a group-by."""
        return self._send(calls.analyze(request))

    def summary(self) -> SummaryAnswer:
        """What is stored of each benchmark."""
        return self._send(calls.summary())

    def results_health(self) -> ResultsHealth:
        """The results service's state, also where it answers 503; asked once, never again by itself."""
        return self._send(calls.results_health())

    def analysis_health(self) -> AnalysisHealth:
        """The analysis service's state, also where it answers 503; asked once, never again by itself."""
        return self._send(calls.analysis_health())

    def _send(self, call: Call[_T]) -> _T:
        attempt = 0
        while True:
            attempt += 1
            try:
                response = self._http.send(call.request(self._http, self._addresses))
            except httpx.TransportError as error:
                wait_s = self._retries.wait_s(attempt) if self._answered and not call.also_good else None
                if wait_s is None:
                    raise call.unreachable(error, self._addresses) from error
            else:
                self._answered = True
                wait_s = self._retries.wait_s(attempt, response.headers.get("retry-after"))
                if wait_s is None or not call.may_retry(response):
                    return call.answer(response)
            time.sleep(wait_s)
