"""The requests that both clients send: how each is built, how its answer is read, when it is sent again.

Nothing here touches the network, so the blocking and the async client differ in nothing but `await`.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, Self, TypeVar
from urllib.parse import quote

import httpx
import msgspec
from pydantic import ValidationError

from shared.analysis import AnalysisAnswer, AnalysisHealth, AnalysisRequest, SummaryAnswer
from shared.problems import ProblemDocument
from shared.results import ResultKind, ResultPage, ResultsHealth, ResultSummary, StoredAnswer

RESULTS_URL = "http://127.0.0.1:8000"
ANALYSIS_URL = "http://127.0.0.1:8001"
TIMEOUT = httpx.Timeout(120, connect=10)
"""Seconds; a large result is answered once a majority of the store has written it."""

_T = TypeVar("_T")


class Service(StrEnum):
    """Which of the two services a request goes to."""

    RESULTS = "results"
    ANALYSIS = "analysis"

    @property
    def setting(self) -> str:
        """The environment variable that holds its address."""
        return f"SCOREHOUSE_{self.name}_URL"


class ScorehouseError(Exception):
    """A service refused a request, or could not answer it. The message is a sentence for whoever reads it.

    `problem` is what the service answered: its `status`, its stable `type`, its `faults` with their places.
    It is None where there was no answer.
    """

    def __init__(self, message: str, problem: ProblemDocument | None = None) -> None:
        super().__init__(message)
        self.problem = problem

    @property
    def status(self) -> int | None:
        """The HTTP status of the answer, if there was one."""
        return self.problem.status if self.problem else None


class UnreachableError(ScorehouseError):
    """There was no answer: nobody listens there, or the connection broke."""


@dataclass(frozen=True, slots=True)
class Retries:
    """When a request is sent again. Every request of the client may be: a push is idempotent by its name."""

    attempts: int = 5
    first_wait_s: float = 0.5
    """Doubles with each attempt; a service's Retry-After goes before it."""
    longest_wait_s: float = 30

    def wait_s(self, attempt: int, retry_after: str | None = None) -> float | None:
        """Seconds to wait after the `attempt`-th failure (from 1); None to give up."""
        if attempt >= self.attempts:
            return None
        asked = (
            float(retry_after) if retry_after and retry_after.isdecimal() else self.first_wait_s * 2 ** (attempt - 1)
        )
        return min(asked, self.longest_wait_s)


BUSY = frozenset({429, 502, 503})
"""Statuses that say the same request may well succeed later."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the services are, and the headers that every request carries."""

    results: str
    analysis: str
    headers: Mapping[str, str] = field(repr=False)

    @classmethod
    def choose(cls, results_url: str | None, analysis_url: str | None, api_key: str | None) -> Self:
        """What was given, else what the environment says, else this machine."""
        key = _checked_key((api_key or os.environ.get("SCOREHOUSE_API_KEY") or "").strip())
        return cls(
            results=_checked(results_url or os.environ.get(Service.RESULTS.setting) or RESULTS_URL),
            analysis=_checked(analysis_url or os.environ.get(Service.ANALYSIS.setting) or ANALYSIS_URL),
            headers={"Authorization": f"Bearer {key}"} if key else {},
        )

    def of(self, service: Service) -> str:
        """The address of `service`, without a slash at its end."""
        return self.results if service is Service.RESULTS else self.analysis


def _checked_key(key: str) -> str:
    """The key; httpx would refuse another with the whole of it in its message."""
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ScorehouseError("the API key (SCOREHOUSE_API_KEY) has a space or a character that no API key has")
    return key


def _checked(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ScorehouseError(f"{url!r} is not an address: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ScorehouseError(f"{url!r} is not an address; give one like {RESULTS_URL}")
    return url.rstrip("/")


@dataclass(frozen=True, slots=True)
class Call(Generic[_T]):
    """One request, and how a good answer to it is read."""

    service: Service
    method: str
    path: str
    read: Callable[[bytes], _T]
    params: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    also_good: frozenset[int] = frozenset()
    """Error statuses that carry the usual answer."""

    def request(self, client: httpx.Client | httpx.AsyncClient, addresses: Addresses) -> httpx.Request:
        """The request as httpx sends it."""
        headers = dict(addresses.headers)
        if self.body is not None:
            headers["Content-Type"] = "application/json"
        return client.build_request(
            self.method,
            addresses.of(self.service) + self.path,
            params=dict(self.params) or None,
            content=self.body,
            headers=headers,
        )

    def may_retry(self, response: httpx.Response) -> bool:
        """Whether the answer says to come back later."""
        return response.status_code in BUSY and response.status_code not in self.also_good

    def answer(self, response: httpx.Response) -> _T:
        """The answer; ScorehouseError carries the problem if it is one."""
        if not response.is_success and response.status_code not in self.also_good:
            raise _refusal(self, response)
        try:
            return self.read(response.content)
        except (ValidationError, msgspec.DecodeError):
            raise ScorehouseError(_not_ours(self, response)) from None

    def unreachable(self, error: httpx.TransportError, addresses: Addresses) -> UnreachableError:
        """What to tell when there was no answer, with the next step."""
        where = _shown(httpx.URL(addresses.of(self.service)))
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return UnreachableError(
                f"cannot reach the {self.service} service at {where} ({error or 'no answer in time'}); "
                f"start it with 'scorehouse up', or set {self.service.setting} to where it runs"
            )
        reason = str(error) or type(error).__name__
        return UnreachableError(
            f"the connection to the {self.service} service at {where} broke ({reason}); "
            "sending the same again is safe: what was stored answers 'unchanged'"
        )


def _refusal(call: Call[_T], response: httpx.Response) -> ScorehouseError:
    try:
        problem = ProblemDocument.model_validate_json(response.content)
    except ValidationError:
        message = _not_ours(call, response)
        problem = ProblemDocument(
            type="about:blank", title=response.reason_phrase, status=response.status_code, detail=message
        )
        return ScorehouseError(message, problem)
    hint = (
        "; set SCOREHOUSE_API_KEY" if problem.status == 401 and "authorization" not in response.request.headers else ""
    )
    return ScorehouseError(f"{problem.title}: {problem.detail}{hint}", problem)


def _shown(url: httpx.URL) -> str:
    """The address without what may be secret in it."""
    return str(url.copy_with(query=None, userinfo=b""))


def _not_ours(call: Call[_T], response: httpx.Response) -> str:
    return (
        f"{_shown(response.request.url)} answered {response.status_code}, "
        f"but not as Scorehouse's {call.service} service does; check the address ({call.service.setting})"
    )


def push(kind: ResultKind, body: bytes) -> Call[StoredAnswer]:
    """Store one result; `body` is sent as it is."""
    return Call(Service.RESULTS, "POST", f"/{kind}", StoredAnswer.model_validate_json, body=body)


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A result as it is stored: what is known about it, and the bytes of `data` as they were pushed."""

    summary: ResultSummary
    data: bytes


def get_result(kind: ResultKind, result_name: str) -> Call[StoredResult]:
    """One result."""
    return Call(Service.RESULTS, "GET", f"/{kind}/{quote(result_name, safe='')}", _read_stored)


def _read_stored(body: bytes) -> StoredResult:
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    data = bytes(fields.pop("data", b""))
    return StoredResult(ResultSummary.model_validate_json(msgspec.json.encode(fields)), data)


def list_results(kind: ResultKind, filters: Mapping[str, str | None], cursor: str | None) -> Call[ResultPage]:
    """A page of a list."""
    params = {name: value for name, value in {**filters, "cursor": cursor}.items() if value is not None}
    return Call(Service.RESULTS, "GET", f"/{kind}", ResultPage.model_validate_json, params=params)


def results_health() -> Call[ResultsHealth]:
    """The results service's state, also where it is not well."""
    return Call(Service.RESULTS, "GET", "/health", ResultsHealth.model_validate_json, also_good=frozenset({503}))


def analyze(request: AnalysisRequest) -> Call[AnalysisAnswer]:
    """A group-by."""
    body = request.model_dump_json(exclude_unset=True).encode()
    return Call(Service.ANALYSIS, "POST", "/analysis", AnalysisAnswer.model_validate_json, body=body)


def summary() -> Call[SummaryAnswer]:
    """What is stored, by benchmark."""
    return Call(Service.ANALYSIS, "GET", "/analysis/summary", SummaryAnswer.model_validate_json)


def analysis_health() -> Call[AnalysisHealth]:
    """The analysis service's state, also where it is not well."""
    return Call(Service.ANALYSIS, "GET", "/health", AnalysisHealth.model_validate_json, also_good=frozenset({503}))
