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


def direct_endpoints(router: APIRouter) -> dict[tuple[str, str], Endpoint]:
    """The endpoints of a router's direct routes by method and path."""
    return {
        (method, route.path): route.endpoint
        for route in router.routes
        if isinstance(route, DirectRoute)
        for method in route.methods or ()
    }


class DirectRoutes:
    """Serves direct routes, and leaves everything else to the application."""

    def __init__(self, app: ASGIApp, endpoints: dict[tuple[str, str], Endpoint]) -> None:
        self.app = app
        self.endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        endpoint = self.endpoints.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if endpoint is None:
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive, send)
        try:
            response = await endpoint(request)
        except Problem as problem:
            response = problem_response(problem, request.state.request_id)
        await response(scope, receive, send)
