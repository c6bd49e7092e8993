"""What both services' HTTP faces have in common: request ids, problems, strict JSON bodies, documentation offline."""

import re
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import uuid4

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.problems import (
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    Problem,
    ProblemDocument,
    TooLarge,
    error_faults,
)
from shared.strict_json import read_json

log = structlog.get_logger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_QUIET_PATHS = ("/health", "/feed")
"""Asked for so often that a line each, when all is well, would drown the log."""

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def build_app(*, title: str, description: str, version: str, lifespan: Lifespan, max_body_bytes: int) -> FastAPI:
    """An application without routes. Its state is filled by `lifespan`."""
    app = FastAPIOffline(
        title=title,
        description=description,
        version=version,
        lifespan=lifespan,
        redoc_url=None,
        responses={"4XX": {"model": ProblemDocument}, "5XX": {"model": ProblemDocument}},
    )
    app.add_exception_handler(Problem, _answer_problem)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_middleware(BodyLimit, max_bytes=max_body_bytes)
    app.add_middleware(RequestContext)
    return app


class StrictRoute(APIRoute):
    """A route whose JSON body is read by `read_json`: FastAPI's own reading takes NaN and duplicate keys."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, over a request that reads strictly."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(_StrictRequest(_as_json(request.scope), request.receive))
            except HTTPException as error:
                # FastAPI turns whatever reading the body raises into a plain 400.
                if isinstance(error.__cause__, Problem):
                    raise error.__cause__ from None
                raise

        return handle


def _as_json(scope: Scope) -> Scope:
    """The request as one of JSON, however it is labelled: nothing else is taken, and `curl -d` labels it a form."""
    headers = [(name, value) for name, value in scope["headers"] if name != b"content-type"]
    return {**scope, "headers": [*headers, (b"content-type", b"application/json")]}


class _StrictRequest(Request):
    async def json(self) -> Any:  # noqa: ANN401 - as Starlette declares it
        return read_json(await self.body())


class RequestContext:
    """Gives each request an id (the caller's `X-Request-ID` if it is a plain word), logs it, catches what nobody did.

    Pure ASGI: Starlette's BaseHTTPMiddleware would buffer streams and cost a task a request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        offered = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        request_id = offered if _REQUEST_ID.fullmatch(offered) else uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id.encode())]
            await send(message)

        began = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, send_with_id)
            except ClientDisconnect:
                log.info("the caller went away", method=scope["method"], path=scope["path"])
                return
            except Exception:
                log.exception("request failed", method=scope["method"], path=scope["path"])
                if status:
                    raise  # the answer has begun; only breaking it off can tell the caller
                await problem_response(Problem("The service failed; its log tells why."), request_id)(
                    scope, receive, send_with_id
                )
            if status >= 400 or scope["path"] not in _QUIET_PATHS:
                log.info(
                    "request",
                    method=scope["method"],
                    path=scope["path"],
                    status=status,
                    ms=round((time.perf_counter() - began) * 1000, 1),
                )


class BodyLimit:
    """Refuses bodies over `max_bytes`: by their Content-Length before a byte is read, else as soon as they pass it."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self.max_bytes:
            await problem_response(self._problem(), scope["state"]["request_id"])(scope, receive, send)
            return
        received = 0

        async def receive_limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                raise self._problem()
            return message

        await self.app(scope, receive_limited, send)

    def _problem(self) -> TooLarge:
        return TooLarge(f"a body may have at most {self.max_bytes:,} bytes (setting MAX_BODY_BYTES)")


def problem_response(problem: Problem, request_id: str | None) -> Response:
    """`problem` as an `application/problem+json` response."""
    headers = {} if problem.retry_after_s is None else {"Retry-After": str(problem.retry_after_s)}
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body = problem.document(request_id).model_dump_json(exclude_none=True)
    return Response(body, problem.status, headers, "application/problem+json")


async def _answer_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 - registered for Problem alone
    return problem_response(error, request.state.request_id)


async def _answer_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it alone
    faults = error_faults(error.errors())
    detail = "; ".join(f"{fault.place}: {fault.detail}" for fault in faults)
    return problem_response(InvalidRequest(detail, faults=faults), request.state.request_id)


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it alone
    path = request.url.path
    match error.status_code:
        case 404:
            problem: Problem = NotFound(f"nothing is at {path}; GET /docs shows what is")
        case 405:
            problem = MethodNotAllowed(f"{path} does not take {request.method}")
        case _:
            problem = InvalidRequest(str(error.detail))
    response = problem_response(problem, request.state.request_id)
    response.headers.update(error.headers or {})  # with a 405, the methods that are allowed
    return response
