"""What both services' HTTP faces have in common: request ids, problems, strict JSON bodies, documentation offline."""

import os
import re
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from secrets import token_hex
from types import MappingProxyType
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from fastapi.telemetry import TelemetryConfig
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.bodies import BodyLimits, BodyReader
from shared.direct_routes import DirectRoutes
from shared.guard import Requirement, admit
from shared.metrics import UNMATCHED, RequestCounts
from shared.problem_answers import answer_problems, problem_response
from shared.problems import Problem, ProblemDocument
from shared.strict_json import read_json

log = structlog.get_logger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_QUIET_PATHS = ("/health", "/metrics", "/feed")
"""Asked for so often that a line each, when all is well, would drown the log."""

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def build_app(
    *,
    title: str,
    description: str,
    version: str,
    lifespan: Lifespan,
    body_limits: BodyLimits,
    limits_by_path: Mapping[str, BodyLimits] = MappingProxyType({}),
) -> FastAPI:
    """An application without routes. Its state is filled by `lifespan`; `state.direct_routes` takes direct ones.

    `state.requests` counts what is asked of it.

    Paths with bodies of another kind have limits of their own.
    """
    app = FastAPIOffline(
        title=title,
        description=description,
        version=version,
        lifespan=lifespan,
        redoc_url=None,
        responses={"4XX": {"model": ProblemDocument}, "5XX": {"model": ProblemDocument}},
        telemetry=None if _is_telemetry_set_up() else _NO_TELEMETRY,
    )
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _correct(describe(), has_keys=app.state.keys is not None)
        return describe()

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documentation has it so
    answer_problems(app)
    app.add_middleware(BodyReader, limits=body_limits, by_path=limits_by_path)
    requests = app.state.requests = RequestCounts()
    app.add_middleware(RequestContext, requests=requests)
    direct = app.state.direct_routes = DirectRoutes()
    build_stack = app.build_middleware_stack

    def with_direct_routes() -> ASGIApp:
        return direct.before(build_stack(), served=RequestContext(BodyReader(direct, body_limits), requests))

    app.build_middleware_stack = with_direct_routes  # type: ignore[method-assign]  # where all middleware comes together
    return app


_NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}


def _is_telemetry_set_up() -> bool:
    """Whether the environment configures OpenTelemetry. FastAPI would find out anew at each request, which takes as
    long as to read a small result.
    """
    return any(name.startswith("OTEL_") for name in os.environ)


def _correct(document: dict[str, Any], *, has_keys: bool) -> None:
    """Say in an OpenAPI document what FastAPI does not: how problems are typed, and where no key is asked for."""
    for operations in document["paths"].values():
        for operation in operations.values():
            for status in ("4XX", "5XX"):
                answer = operation["responses"][status]
                [model] = answer["content"].values()
                answer["content"] = {"application/problem+json": model}
            for answer in operation["responses"].values():
                for content in answer.get("content", {}).values():
                    if "$ref" in content.get("schema", {}):  # beside it FastAPI says "string" of what it does not make
                        content["schema"].pop("type", None)
            if not has_keys:
                operation.pop("security", None)


class StrictRoute(APIRoute):
    """A route whose JSON body is read by `read_json`: FastAPI's own reading takes NaN and duplicate keys.

    And only of who may make the request: FastAPI reads it before it solves dependencies.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, over a request that reads strictly."""
        handler = super().get_route_handler()
        calls = [dependant.call for dependant in self.dependant.dependencies]
        scopes = [call.scope for call in calls if isinstance(call, Requirement)]

        async def handle(request: Request) -> Response:
            for scope in scopes:
                await admit(request, scope)
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
    """Gives each request an id (the caller's `X-Request-ID` if it is a plain word), logs and counts it, catches what
    nobody did.

    Pure ASGI: Starlette's BaseHTTPMiddleware would buffer streams and cost a task a request.
    """

    def __init__(self, app: ASGIApp, requests: RequestCounts) -> None:
        self.app = app
        self.requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        offered = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"x-request-id"), "")
        request_id = offered if _REQUEST_ID.fullmatch(offered) else token_hex(16)
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id.encode())]
            await send(message)

        began = time.perf_counter()
        # Each request has a task of its own, and with it this context: nothing is left to be unbound.
        structlog.contextvars.bind_contextvars(request_id=request_id)
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
        seconds = time.perf_counter() - began
        route = scope.get("route")
        self.requests.add(scope["method"], UNMATCHED if route is None else route.path, status, seconds)
        if status >= 400 or scope["path"] not in _QUIET_PATHS:
            key_id = scope["state"].get("key_id")
            log.info(
                "request",
                **({"key": key_id} if key_id else {}),
                method=scope["method"],
                path=scope["path"],
                status=status,
                ms=round(seconds * 1000, 1),
            )
