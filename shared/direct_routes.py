"""Routes for what is asked thousands of times a second: their endpoints read the request and make the answer.

FastAPI documents them as any others. To find one, to solve its dependencies and to write its response model would take
longer than storing a small result, so they are served before FastAPI is asked, by exact method and path.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.problem_answers import problem_response
from shared.problems import Fault, Problem, invalid, validation_faults
from shared.strict_json import read_json

Endpoint = Callable[[Request], Awaitable[Response]]
_Model = TypeVar("_Model", bound=BaseModel)


class DirectRoute(APIRoute):
    """A route that is served by DirectRoutes. Its path has no parameters.

    Nobody solves its dependencies: the endpoint calls `admit`, and `require` only tells the documentation.
    """


class DirectJson(Response):
    """JSON that is text already, without the headers and cookies that Starlette's own prepares for."""

    def __init__(self, body: bytes, status: int, *headers: tuple[bytes, bytes]) -> None:
        self.status_code = status
        self.body = body
        self.background = None
        self.raw_headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json"), *headers]


def read_body(body: bytes, model: type[_Model]) -> _Model:
    """The document in a body, as a StrictRoute reads it; MalformedJson or InvalidRequest say what is wrong with it."""
    value = read_json(body) if body else None
    if value is None:
        raise invalid(Fault(place="body", detail="is required"))
    try:
        return model.model_validate(value, from_attributes=True)  # as FastAPI does
    except ValidationError as error:
        raise invalid(*validation_faults(error)) from None


class DirectRoutes:
    """An ASGI application of nothing but direct routes."""

    def __init__(self) -> None:
        self.endpoints: dict[tuple[str, str], Endpoint] = {}
        self._routes: dict[tuple[str, str], DirectRoute] = {}

    def before(self, app: ASGIApp, *, served: ASGIApp) -> ASGIApp:
        """An application that gives these routes to `served` and everything else to `app`."""

        async def choose(scope: Scope, receive: Receive, send: Send) -> None:
            is_direct = scope["type"] == "http" and (scope["method"], scope["path"]) in self.endpoints
            await (served if is_direct else app)(scope, receive, send)

        return choose

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request that it takes."""
        request = Request(scope, receive, send)
        kind = (scope["method"], scope["path"])
        scope["route"] = self._routes[kind]  # as FastAPI does, for who counts requests by route
        try:
            response = await self.endpoints[kind](request)
        except Problem as problem:
            response = problem_response(problem, request.state.request_id)
        await response(scope, receive, send)

    def include(self, router: APIRouter, prefix: str = "") -> None:
        """Serve the direct routes of `router`, below `prefix`."""
        for route in router.routes:
            if isinstance(route, DirectRoute):
                kinds = [(method, prefix + route.path) for method in route.methods or ()]
                self.endpoints |= dict.fromkeys(kinds, route.endpoint)
                self._routes |= dict.fromkeys(kinds, route)
