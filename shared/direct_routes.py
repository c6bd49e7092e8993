"""Routes for what is asked thousands of times a second: their endpoints read the request and make the answer.

FastAPI documents them as any others. To find one, to solve its dependencies and to write its response model would take
longer than storing a small result, so they are served before FastAPI is asked, by exact method and path.
"""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.problem_answers import problem_response
from shared.problems import Problem

Endpoint = Callable[[Request], Awaitable[Response]]


class DirectRoute(APIRoute):
    """A route that is served by DirectRoutes. Its path has no parameters.

    Nobody solves its dependencies: the endpoint calls `admit`, and `require` only tells the documentation.
    """


class DirectJson(Response):
    """JSON that is text already, without the headers and cookies that Starlette's own prepares for."""

    def __init__(self, body: bytes, status: int) -> None:
        self.status_code = status
        self.body = body
        self.background = None
        self.raw_headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]


class DirectRoutes:
    """An ASGI application of nothing but direct routes."""

    def __init__(self) -> None:
        self.endpoints: dict[tuple[str, str], Endpoint] = {}

    def before(self, app: ASGIApp, *, served: ASGIApp) -> ASGIApp:
        """An application that gives these routes to `served` and everything else to `app`."""

        async def choose(scope: Scope, receive: Receive, send: Send) -> None:
            is_direct = scope["type"] == "http" and (scope["method"], scope["path"]) in self.endpoints
            await (served if is_direct else app)(scope, receive, send)

        return choose

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request that it takes."""
        request = Request(scope, receive, send)
        try:
            response = await self.endpoints[scope["method"], scope["path"]](request)
        except Problem as problem:
            response = problem_response(problem, request.state.request_id)
        await response(scope, receive, send)

    def include(self, router: APIRouter) -> None:
        """Serve the direct routes of `router`."""
        for route in router.routes:
            if isinstance(route, DirectRoute):
                self.endpoints |= {(method, route.path): route.endpoint for method in route.methods or ()}
