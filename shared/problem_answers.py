"""How problems are answered, whoever found them: our code, FastAPI's validation, or its routing."""

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from shared.problems import InvalidRequest, MethodNotAllowed, NotFound, Problem, error_faults


def answer_problems(app: FastAPI) -> None:
    """Let `app` answer everything that goes wrong as `application/problem+json`."""
    app.add_exception_handler(Problem, _answer_problem)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)


def problem_response(problem: Problem, request_id: str | None) -> Response:
    """`problem` as an `application/problem+json` response."""
    headers = {"WWW-Authenticate": "Bearer"} if problem.status == 401 else {}
    body = problem.document(request_id).model_dump_json(exclude_none=True)
    return Response(body, problem.status, headers | problem.headers, "application/problem+json")


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
    response.headers.update(error.headers or {})
    if error.status_code == 405:  # Starlette names the methods of one route of this path, which may have several
        response.headers["Allow"] = ", ".join(sorted(_methods(request.app, path)))
    return response


def _methods(app: FastAPI, path: str) -> set[str]:
    described = app.openapi()["paths"]
    path = path.removeprefix("/v1")
    fitting = [path] if path in described else [name for name in described if compile_path(name)[0].fullmatch(path)]
    return {method.upper() for name in fitting for method in described[name]} or {
        "GET"
    }  # the documentation's own pages
