"""The requests that both clients send: how each is built, how its answer is read, when it is sent again.

Nothing here touches the network, so the blocking and the async client differ in nothing but `await`.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Generic, Self, TypedDict, TypeVar
from urllib.parse import quote

import httpx
import msgspec
from pydantic import BaseModel, ValidationError

from scorehouse.documents import Content, FilePart
from scorehouse.forms import FileForm
from scorehouse.retries import BUSY, Again
from shared.analysis import AnalysisHealth
from shared.attachments import FileList
from shared.imports import ImportReport
from shared.problems import ProblemDocument, validation_faults
from shared.rebuilds import RebuildRequest, RebuildState
from shared.reconciliation import ProjectionReconciliationRequest, ReconciliationLine, ReconciliationRequest
from shared.results import (
    CorrectionAction,
    CorrectionAnswer,
    CorrectionRequest,
    LiveRun,
    OpenedLiveRun,
    PartAnswer,
    ResultKind,
    ResultPage,
    ResultsHealth,
    ResultSort,
    ResultState,
    ResultSummary,
    StoredAnswer,
)
from shared.submission import Envelope

RESULTS_URL = "http://127.0.0.1:8000"
ANALYSIS_URL = "http://127.0.0.1:8001"
READ_TIMEOUT_S = 120
"""A large result is answered once a majority of the store has written it."""
IMPORT_TIMEOUT_S = 3600
"""An import is answered when all of it was read: gigabytes take minutes."""
TIMEOUT = httpx.Timeout(READ_TIMEOUT_S, connect=10)

_T = TypeVar("_T")
_Model = TypeVar("_Model", bound=BaseModel)


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

    @property
    def refused(self) -> bool:
        """Whether the service judged the document itself: sent again as it is, it fares no better."""
        return self.status in _REFUSED

    @property
    def concerns_document(self) -> bool:
        """Whether the next document may fare better: this one was refused, or the service failed over it."""
        return self.refused or self.status in (500, 504)

    @property
    def is_lasting(self) -> bool:
        """Whether waiting helps nothing: the API key is not allowed this, or nobody of ours is at that address."""
        return self.status is None or (300 <= self.status < 500 and self.status not in BUSY | _REFUSED)


_REFUSED = frozenset({400, 409, 413, 415, 422})


class UnreachableError(ScorehouseError):
    """There was no answer: nobody listens there, or the connection broke."""

    def __init__(self, message: str, *, is_lasting: bool = False) -> None:
        super().__init__(message)
        self._is_lasting = is_lasting

    @property
    def is_lasting(self) -> bool:
        """Whether it will be so every time: a certificate that nobody trusts, https where only http is spoken."""
        return self._is_lasting


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
    if (
        parsed.scheme not in ("http", "https")
        or not parsed.host
        or not 0 < (parsed.port or 80) < 65536
        or (parsed.query or parsed.fragment)
    ):
        shown = str(parsed.copy_with(userinfo=b""))
        raise ScorehouseError(f"{shown!r} is not an address; give one like {RESULTS_URL}")
    return url.rstrip("/")


@dataclass(frozen=True, slots=True)
class Call(Generic[_T]):
    """One request, how a good answer to it is read, and whether it may be sent again by itself."""

    service: Service
    method: str
    path: str
    read: Callable[[bytes], _T]
    params: Mapping[str, str] = field(default_factory=dict)
    body: Content | FileForm | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    also_good: frozenset[int] = frozenset()
    """Error statuses that carry the usual answer."""
    again: Again = Again.ONCE_ANSWERED
    read_timeout_s: float = READ_TIMEOUT_S

    def request(self, client: httpx.Client | httpx.AsyncClient, addresses: Addresses) -> httpx.Request:
        """The request as httpx sends it."""
        headers = dict(addresses.headers)
        content: bytes | Iterator[bytes] | AsyncIterator[bytes] | None
        if isinstance(self.body, FilePart | FileForm):
            content = self.body.blocks() if isinstance(client, httpx.Client) else _awaited(self.body.blocks())
            if self.body.length is not None:
                headers["Content-Length"] = str(self.body.length)
        else:
            content = self.body
        if isinstance(self.body, FileForm):
            headers["Content-Type"] = self.body.content_type
        elif self.body is not None:
            headers["Content-Type"] = "application/json"
        return client.build_request(
            self.method,
            addresses.of(self.service) + self.path,
            params=dict(self.params) or None,
            content=content,
            headers={**headers, **self.headers},
            timeout=httpx.Timeout(READ_TIMEOUT_S, connect=10, read=self.read_timeout_s),
        )

    def may_retry(self, response: httpx.Response) -> bool:
        """Whether the answer says to come back later.

        A 504 of our own is a query's time limit, which it would run into again; a proxy's says nothing of the kind.
        """
        if self.again is Again.NEVER:
            return False
        ours = response.headers.get("content-type", "").startswith("application/problem+json")
        return response.status_code in BUSY or (response.status_code == 504 and not ours)

    def may_resend(self, error: httpx.RequestError, *, answered: bool) -> bool:
        """Whether to try again after there was no answer; `answered`: there was one to an earlier request."""
        if _is_lasting(error):
            return False
        return self.again is Again.ALWAYS or (self.again is Again.ONCE_ANSWERED and answered)

    def answer(self, response: httpx.Response) -> _T:
        """The answer; ScorehouseError carries the problem if it is one."""
        if not response.is_success and response.status_code not in self.also_good:
            raise self.refusal(response)
        try:
            return self.read(response.content)
        except (ValidationError, msgspec.DecodeError):
            raise self.not_ours(response) from None

    def not_ours(self, response: httpx.Response) -> ScorehouseError:
        """What to tell of an answer that cannot be read."""
        return ScorehouseError(_not_ours(self, response))

    def refusal(self, response: httpx.Response) -> ScorehouseError:
        """What to tell of an answer that is a problem."""
        return _refusal(self, response)

    def unreachable(self, error: httpx.RequestError, addresses: Addresses) -> UnreachableError:
        """What to tell when there was no answer, with the next step."""
        where = _shown(httpx.URL(addresses.of(self.service)))
        if _is_lasting(error):
            step = "does it speak http, not https?" if _NO_TLS in str(error) else "check the address"
            return UnreachableError(
                f"cannot talk to the {self.service} service at {where} ({error}); {step} ({self.service.setting})",
                is_lasting=True,
            )
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


_NO_TLS = "WRONG_VERSION_NUMBER"


def _is_lasting(error: httpx.RequestError) -> bool:
    """Whether there will be no answer, however often one tries."""
    return (
        isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError)
        or "CERTIFICATE" in str(error)
        or _NO_TLS in str(error)
    )


_NAMELESS = frozenset(
    {f"/{kind}{end}" for kind in ResultKind for end in ("", "/batch")}
    | {"/import", "/live_runs", "/reconciliation", "/rebuild", "/analysis", "/analysis/summary"}
    | {"/comparison", "/significance", "/timeseries", "/repeats"}
)
"""Paths that are there whatever is stored: a 404 tells of another service, or another path before them."""


def _refusal(call: Call[_T], response: httpx.Response) -> ScorehouseError:
    try:
        problem = ProblemDocument.model_validate_json(response.content)
    except ValidationError:
        message = _not_ours(call, response)
        problem = ProblemDocument(
            type="about:blank", title=response.reason_phrase, status=response.status_code, detail=message
        )
        return ScorehouseError(message, problem)
    hint = ""
    if problem.status == 401 and "authorization" not in response.request.headers:
        hint = "; set SCOREHOUSE_API_KEY"
    elif problem.status in (404, 405) and call.path == "/import":
        hint = (
            f"; the {call.service} service there is older than this command and imports nothing yet, or it is at "
            f"another address ({call.service.setting})"
        )
    elif problem.status == 404 and call.path in _NAMELESS:
        hint = f"; is the {call.service} service at another address? ({call.service.setting})"
    return ScorehouseError(f"{problem.title}: {problem.detail}{hint}", problem)


def _shown(url: httpx.URL) -> str:
    """The address without what may be secret in it."""
    return str(url.copy_with(query=None, userinfo=b""))


def _not_ours(call: Call[_T], response: httpx.Response) -> str:
    if response.status_code in BUSY | {504}:
        return (
            f"{_shown(response.request.url)} answered {response.status_code} {response.reason_phrase}: "
            f"the {call.service} service, or a proxy before it, is busy or away"
        )
    return (
        f"{_shown(response.request.url)} answered {response.status_code}, "
        f"but not as Scorehouse's {call.service} service does; check the address ({call.service.setting})"
    )


async def _awaited(blocks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The same blocks, read on a thread."""
    while (block := await asyncio.to_thread(next, blocks, None)) is not None:
        yield block


def push(kind: ResultKind, body: Content) -> Call[StoredAnswer]:
    """Store one result; `body` is sent as it is. Repeated, it answers 'unchanged'."""
    return Call(Service.RESULTS, "POST", f"/{kind}", StoredAnswer.model_validate_json, body=body, again=Again.ALWAYS)


def push_batch(kind: ResultKind, body: bytes, *, compressed: bool) -> Call[bytes]:
    """Store several results, one a line of `body`; a line of the answer is a BatchLine."""
    headers = {"Content-Type": "application/x-ndjson"} | ({"Content-Encoding": "zstd"} if compressed else {})
    return Call(Service.RESULTS, "POST", f"/{kind}/batch", bytes, body=body, headers=headers, again=Again.ALWAYS)


def import_files(form: FileForm, parameters: Mapping[str, str]) -> Call[ImportReport]:
    """Import a harness's files. Repeated, what was stored answers 'unchanged'."""
    return Call(
        Service.RESULTS,
        "POST",
        "/import",
        ImportReport.model_validate_json,
        params=parameters,
        body=form,
        headers={"Content-Encoding": "zstd"} if form.is_compressed else {},
        again=Again.ALWAYS,
        read_timeout_s=IMPORT_TIMEOUT_S,
    )


def may_send_plain(form: FileForm, error: ScorehouseError) -> bool:
    """Whether the same files may be taken uncompressed: zstd is not read there, or honest repetition seems a bomb."""
    return form.is_compressed and error.status in (400, 413, 415)


def open_live_run(envelope: Envelope) -> Call[OpenedLiveRun]:
    """Begin a live run. Repeated with the same words, it answers that it is open."""
    return _write("/live_runs", OpenedLiveRun, envelope.model_dump_json(exclude_none=True).encode())


def push_part(result_name: str, number: int, questions: bytes) -> Call[PartAnswer]:
    """Store a part of a live run. Repeated, it answers 'unchanged'."""
    return _write(f"/live_runs/{_segment(result_name)}/parts/{number}", PartAnswer, b'{"questions":%b}' % questions)


def finish_live_run(result_name: str, parts: int | None) -> Call[LiveRun]:
    """Make a live run a result. Repeated, it answers the same."""
    body = b"{}" if parts is None else b'{"parts":%d}' % parts
    return _write(f"/live_runs/{_segment(result_name)}/finish", LiveRun, body)


def discard_live_run(result_name: str, author: str, reason: str) -> Call[LiveRun]:
    """Give a live run up. Repeated, it changes nothing."""
    return _write(f"/live_runs/{_segment(result_name)}/discard", LiveRun, _signed(author, reason))


def correct(
    kind: ResultKind, result_name: str, action: CorrectionAction, author: str, reason: str
) -> Call[CorrectionAnswer]:
    """Invalidate or restore a result. Repeated, it answers 'unchanged'."""
    step = {CorrectionAction.INVALIDATED: "invalidation", CorrectionAction.RESTORED: "restoration"}[action]
    return _write(f"/{kind}/{_segment(result_name)}/{step}", CorrectionAnswer, _signed(author, reason))


def _signed(author: str, reason: str) -> bytes:
    try:
        return CorrectionRequest(author=author, reason=reason).model_dump_json().encode()
    except ValidationError as error:
        faults = "; ".join(f"{fault.place}: {fault.detail}" for fault in validation_faults(error))
        raise ScorehouseError(f"author and reason are kept for ever, so they must be sayable: {faults}") from None


def _write(path: str, answer: type[_Model], body: bytes) -> Call[_Model]:
    return Call(Service.RESULTS, "POST", path, answer.model_validate_json, body=body, again=Again.ALWAYS)


def _segment(name: str, what: str = "result") -> str:
    """A name as one segment of a path; ScorehouseError if it cannot be one, and would lead elsewhere."""
    try:
        segment = quote(name, safe="")
    except UnicodeEncodeError:
        segment = ""
    if segment in ("", ".", ".."):
        like = "2024-01-01T12:00:00Z-mmlu-run-7" if what == "result" else "results/samples.jsonl"
        raise ScorehouseError(f"no {what} is called {name!r}; a name is like {like}")
    return segment


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A result as it is stored: what is known about it, and the bytes of `data` as they were pushed."""

    summary: ResultSummary
    data: bytes


def get_result(kind: ResultKind, result_name: str) -> Call[StoredResult]:
    """One result."""
    return Call(Service.RESULTS, "GET", f"/{kind}/{_segment(result_name)}", _read_stored)


def _read_stored(body: bytes) -> StoredResult:
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    data = bytes(fields.pop("data", b""))
    return StoredResult(ResultSummary.model_validate_json(msgspec.json.encode(fields)), data)


def list_files(result_name: str) -> Call[FileList]:
    """The files that are kept with a raw input."""
    return Call(Service.RESULTS, "GET", _files_path(result_name), FileList.model_validate_json)


def download_file(result_name: str, path: str, headers: Mapping[str, str]) -> Call[bytes]:
    """One of them, or as much of it as `headers` ask for."""
    where = f"{_files_path(result_name)}/{'/'.join(_segment(part, 'file') for part in path.split('/'))}"
    return Call(Service.RESULTS, "GET", where, bytes, headers=headers)


def _files_path(result_name: str) -> str:
    return f"/{ResultKind.RAW}/{_segment(result_name)}/files"


class ListFilters(TypedDict, total=False):
    """Which results a list has, and in which order; what is left out or None narrows nothing."""

    benchmark_name: str | None
    model_id: str | None
    source: str | None
    run_id: str | None
    tokenizer_id: str | None
    state: ResultState | None
    since: datetime | str | None
    """Timestamps from here on: RFC 3339, or a datetime with a time zone."""
    until: datetime | str | None
    """Timestamps before this one."""
    sort: ResultSort | None
    """By default the newest timestamp is first."""


def list_results(kind: ResultKind, filters: ListFilters, cursor: str | None) -> Call[ResultPage]:
    """A page of a list."""
    params = {name: _parameter(value) for name, value in {**filters, "cursor": cursor}.items() if value is not None}
    return Call(Service.RESULTS, "GET", f"/{kind}", ResultPage.model_validate_json, params=params)


def _parameter(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def results_health() -> Call[ResultsHealth]:
    """The results service's state, also where it is not well."""
    read = ResultsHealth.model_validate_json
    return Call(Service.RESULTS, "GET", "/health", read, also_good=frozenset({503}), again=Again.NEVER)


def analysis_health() -> Call[AnalysisHealth]:
    """The analysis service's state, also where it is not well."""
    read = AnalysisHealth.model_validate_json
    return Call(Service.ANALYSIS, "GET", "/health", read, also_good=frozenset({503}), again=Again.NEVER)


def begin_rebuild(benchmark: str | None) -> Call[RebuildState]:
    """Have results applied anew. Repeated, it begins anew."""
    try:
        wanted = RebuildRequest(benchmark=benchmark)
    except ValidationError as error:
        raise ScorehouseError("; ".join(fault.detail for fault in validation_faults(error))) from None
    body, read = wanted.model_dump_json().encode(), RebuildState.model_validate_json
    return Call(Service.ANALYSIS, "POST", "/rebuild", read, body=body, again=Again.NEVER)


def rebuild_state() -> Call[RebuildState]:
    """How far that has come."""
    return Call(Service.ANALYSIS, "GET", "/rebuild", RebuildState.model_validate_json)


def reconcile(service: Service, *, repair: bool, sums: bool) -> Call[ReconciliationLine]:
    """Compare the stores as `service` sees them; what is read is one line of the answer. Repeated, it finds less."""
    if service is Service.ANALYSIS:
        wanted: ReconciliationRequest = ProjectionReconciliationRequest(repair=repair, sums=sums)
    else:
        wanted = ReconciliationRequest(repair=repair)
    body = wanted.model_dump_json().encode()
    read = ReconciliationLine.model_validate_json
    return Call(service, "POST", "/reconciliation", read, body=body, again=Again.NEVER)
