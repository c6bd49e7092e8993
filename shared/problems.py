"""Problems as RFC 9457 describes them: one base class whose attributes carry status, type and title.

Raise one where the fault is known; `shared.web` turns it into the answer. `docs/problems.md` lists every type.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

SHOWN_MAX = 300
"""Characters of a caller's value that a problem repeats."""

FAULTS_MAX = 20
"""Faults that an answer lists; a body may have thousands."""

ALLOWED_MAX = 300
"""Names that a fault lists as allowed."""

TYPE_PREFIX = "urn:scorehouse:problem:"


class Fault(BaseModel):
    """One thing that is wrong with a request, and where."""

    model_config = ConfigDict(frozen=True)

    place: str
    """Where: a path into the body (`data.questions[3].score`), a query parameter, or a line and column."""
    detail: str
    allowed: tuple[str, ...] | None = None
    nearest: tuple[str, ...] | None = None


class ProblemDocument(BaseModel):
    """The body of an `application/problem+json` answer."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str | None = None
    result_name: str | None = None
    retry_after_s: int | None = None
    """As in the header Retry-After, which a batch's answer has no room for."""
    faults: tuple[Fault, ...] | None = None


class Problem(Exception):
    """Base of everything that ends a request early. `detail` is a sentence for the caller."""

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"

    def __init__(
        self,
        detail: str,
        *,
        faults: Iterable[Fault] = (),
        result_name: str | None = None,
        retry_after_s: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.faults = tuple(faults)
        self.result_name = result_name
        self.retry_after_s = retry_after_s
        self.headers = dict(headers or {})
        """What its answer has beyond the headers of every problem."""
        if retry_after_s is not None:
            self.headers["Retry-After"] = str(retry_after_s)

    def document(self, request_id: str | None = None) -> ProblemDocument:
        """This problem as it is sent."""
        return ProblemDocument(
            type=TYPE_PREFIX + self.slug,
            title=self.title,
            status=self.status,
            detail=self.detail,
            request_id=request_id,
            result_name=self.result_name,
            retry_after_s=self.retry_after_s,
            faults=self.faults or None,
        )


class MalformedJson(Problem):
    """The body is not JSON; the detail says where."""

    status, slug, title = 400, "malformed-json", "The body is not valid JSON"


class UndecodableBody(Problem):
    """The body is not what its Content-Encoding says, or is damaged or cut off."""

    status, slug, title = 400, "undecodable-body", "The body cannot be decoded"


class InvalidRequest(Problem):
    """The body or a parameter has a value that is not allowed; `faults` names each."""

    status, slug, title = 422, "invalid-request", "The request has values that are not allowed"


class NotFound(Problem):
    """The path names something that is not there."""

    status, slug, title = 404, "not-found", "Not found"


class MethodNotAllowed(Problem):
    """The path exists, the method does not."""

    status, slug, title = 405, "method-not-allowed", "Method not allowed"


class NotAuthenticated(Problem):
    """No API key, or one that is not known or has expired."""

    status, slug, title = 401, "not-authenticated", "A valid API key is needed"


class NotAuthorized(Problem):
    """The API key lacks the scope."""

    status, slug, title = 403, "not-authorized", "The API key does not allow this"


class NotOwner(Problem):
    """The live run was opened with another API key."""

    status, slug, title = 403, "not-owner", "The live run belongs to another API key"


class ForeignSite(Problem):
    """Keys are disabled, and a page of another site sent the request through somebody's browser."""

    status, slug, title = 403, "foreign-site", "Pages of other sites may not use this service"


class BodyTimeout(Problem):
    """The caller stopped sending in the middle of the body."""

    status, slug, title = 408, "body-timeout", "The body did not arrive in time"


class ResultConflict(Problem):
    """The same result was stored before with other content."""

    status, slug, title = 409, "result-conflict", "This result is stored with other content"


class ResultNameTaken(Problem):
    """Another model's, benchmark's or run's result has this name."""

    status, slug, title = 409, "result-name-taken", "Another result has this name"


class LiveRunClosed(Problem):
    """The live run is finished or discarded."""

    status, slug, title = 409, "live-run-closed", "The live run is closed"


class LiveRunIncomplete(Problem):
    """The live run has other parts than its finish says."""

    status, slug, title = 409, "live-run-incomplete", "The live run does not have exactly these parts"


class PartConflict(Problem):
    """The part contradicts what is stored of its live run."""

    status, slug, title = 409, "part-conflict", "The part contradicts what is stored"


class TooLarge(Problem):
    """The body is larger than the service's setting allows."""

    status, slug, title = 413, "too-large", "The body is too large"


class UnsupportedMedia(Problem):
    """The body's content type or encoding is not one that is read here."""

    status, slug, title = 415, "unsupported-media", "The body's type or encoding is not supported"


class RangeNotSatisfiable(Problem):
    """The `Range` that was asked for begins beyond the end of what is there."""

    status, slug, title = 416, "range-not-satisfiable", "There is nothing in this range"


class TooManyRequests(Problem):
    """The API key, or the address where keys are disabled, has made as many requests as it may for now."""

    status, slug, title = 429, "too-many-requests", "Too many requests"


class StoreUnavailable(Problem):
    """The store behind the service cannot be reached; trying again later may work."""

    status, slug, title = 503, "store-unavailable", "The store is not available"

    def __init__(self, detail: str, *, retry_after_s: int = 2) -> None:
        super().__init__(detail, retry_after_s=retry_after_s)


class PoolExhausted(Problem):
    """Every connection stayed in use for the whole acquire time-out."""

    status, slug, title = 503, "pool-exhausted", "All database connections are in use"


class TimeLimit(Problem):
    """The query ran into its time limit."""

    status, slug, title = 504, "time-limit", "The query took too long"


class UnrecognisedFormat(Problem):
    """No reader knows what was sent, or none of it."""

    status, slug, title = 422, "unrecognised-format", "Nothing in the files is a known harness's output"


class UnsafeArchive(Problem):
    """An archive holds what is not unpacked: paths that lead out of it, links, more than it may."""

    status, slug, title = 422, "unsafe-archive", "The archive cannot be unpacked"


class TooManyGroups(Problem):
    """The answer would have more groups than the service's setting allows."""

    status, slug, title = 422, "too-many-groups", "The answer would be too large"


class TooFewShared(Problem):
    """Those compared have too few questions in common."""

    status, slug, title = 422, "too-few-shared-questions", "Too few shared questions to compare"


def unknown_value(place: str, value: str, allowed: Iterable[str], *, what: str, compared: int = ALLOWED_MAX) -> Fault:
    """The fault of naming something unknown: what it was, what would be allowed, and the nearest of those.

    Of more than `compared`, as runs may be, none is listed, and the nearest are of those that begin alike: to compare
    all takes seconds, in which nobody else is answered.
    """
    choices = tuple(sorted(allowed))
    is_long = len(choices) > compared
    start = max(0, bisect_left(choices, value) - compared // 2) if is_long else 0
    likely = choices[start : start + compared]
    nearest = tuple(get_close_matches(value[:SHOWN_MAX], likely, n=3, cutoff=0.5))
    hint = f"; did you mean {' or '.join(map(repr, nearest))}?" if nearest else ""
    shown = repr(value if len(value) <= SHOWN_MAX else value[:SHOWN_MAX] + "…")
    return Fault(
        place=place, detail=f"no {what} {shown}{hint}", allowed=None if is_long else choices, nearest=nearest or None
    )


def invalid(*faults: Fault) -> InvalidRequest:
    """An InvalidRequest whose detail is its faults in one line."""
    return InvalidRequest("; ".join(f"{fault.place}: {fault.detail}" for fault in faults), faults=faults)


def validation_faults(error: ValidationError) -> list[Fault]:
    """A pydantic error's places and messages in our words."""
    return error_faults(error.errors(include_url=False, include_context=False))


def error_faults(errors: Iterable[ErrorDetails]) -> list[Fault]:
    """The same for the list that pydantic and FastAPI make of an error; the first FAULTS_MAX of a long one."""
    faults = []
    told = tuple(errors)
    for item in told[:FAULTS_MAX]:
        message = item["msg"]
        if item["type"] == "value_error":  # a validator of ours, whose message may well begin with a setting's name
            detail = message.removeprefix("Value error, ")
        else:
            detail = _PYDANTIC_WORDS.get(item["type"], message[:1].lower() + message[1:])
        faults.append(Fault(place=_place(item["loc"]), detail=detail))
    if len(told) > FAULTS_MAX:
        faults.append(Fault(place="…", detail=f"and {len(told) - FAULTS_MAX:,} more"))
    return faults


_PYDANTIC_WORDS = {"missing": "is required", "extra_forbidden": "is not a field of this request"}


def _place(path: Iterable[str | int]) -> str:
    place = ""
    steps = tuple(path)
    if len(steps) > 1 and steps[0] == "body":  # FastAPI says so of every fault in one
        steps = steps[1:]
    for step in steps:
        if isinstance(step, int):
            place += f"[{step}]"
        else:  # a key of the caller's, it may be
            place += ("." if place else "") + step[:SHOWN_MAX]
    return place or "body"


def all_problems() -> tuple[type[Problem], ...]:
    """Every concrete kind of problem, for documentation and its test."""
    kinds = (kind for kind in Problem.__subclasses__() if kind.__module__ == __name__)
    return tuple(sorted(kinds, key=lambda kind: (kind.status, kind.slug)))
