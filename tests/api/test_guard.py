"""Where keys are disabled, a page of another site that somebody's browser shows may not use the services."""

import re
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from shared.keys import Scope, digest_of
from tests.api.conftest import run_stack
from tests.conftest import ResultsUnderTest, StartResults

OWN = "http://127.0.0.1:8000"


def client_of(app: FastAPI, url: str, address: str = "127.0.0.1") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, client=(address, 50_000))
    return httpx.AsyncClient(transport=transport, base_url=url)


@pytest.mark.parametrize(
    ("url", "address", "origin", "passes"),
    [
        (OWN, "127.0.0.1", None, True),
        (OWN, "127.0.0.1", OWN, True),
        ("http://localhost:8000", "::1", "http://localhost:8000", True),
        ("http://[::1]:8000", "::1", "http://[::1]:8000", True),
        (OWN, "127.0.0.1", "http://evil.example", False),
        (OWN, "127.0.0.1", "http://127.0.0.1:9000", False),
        (OWN, "127.0.0.1", "null", False),
        ("http://evil.example:8000", "127.0.0.1", "http://evil.example:8000", False),  # its name was made to point here
        ("http://127.0.0.1.evil.example", "127.0.0.1", "http://127.0.0.1.evil.example", False),
        ("http://scores.lan:8000", "192.0.2.7", "http://scores.lan:8000", True),
        ("http://scores.lan:8000", "192.0.2.7", "http://evil.example", False),
    ],
)
async def test_pages_of_other_sites(
    results: ResultsUnderTest, make_result: Any, url: str, address: str, origin: str | None, passes: bool
) -> None:
    headers = {} if origin is None else {"Origin": origin}
    async with client_of(results.app, url, address) as client:
        response = await client.post("/raw_input", json=make_result(), headers=headers)
    assert response.status_code == (201 if passes else 403)
    assert bool(results.stored()) is passes
    if not passes:
        assert response.json()["type"] == "urn:scorehouse:problem:foreign-site"


@pytest.mark.parametrize(
    ("host", "headers", "passes"),
    [
        ("127.0.0.1:8000", {}, True),
        ("evil.example:8000", {}, False),  # a page may read its own site without an Origin
        ("evil.example:8000", {"X-Forwarded-For": "192.0.2.7"}, False),
        ("[::1", {}, False),
        ("127.0.0.1:8000", {"Origin": "http://[::1"}, False),
    ],
)
async def test_names_that_were_made_to_point_here(
    results: ResultsUnderTest, host: str, headers: dict[str, str], passes: bool
) -> None:
    app: Any = results.app
    served: Any = ProxyHeadersMiddleware(app, trusted_hosts="127.0.0.1")  # as uvicorn does of itself
    transport = httpx.ASGITransport(served, client=("127.0.0.1", 50_000))
    async with httpx.AsyncClient(transport=transport, base_url=OWN) as client:
        response = await client.get("/raw_input", headers={"Host": host, **headers})
    assert response.status_code == (200 if passes else 403), response.text


def operations(schema: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method, path): operation for path, methods in schema["paths"].items() for method, operation in methods.items()
    }


async def test_every_route_of_the_analysis_asks_for_a_key_before_it_reads(
    mongo_url: str, mongo_database: str, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text("")
    file = tmp_path / "analysis.sqlite"
    async with run_stack(mongo_url, mongo_database, file, auth="keys", api_keys_file=keys) as stack:
        found = operations((await stack.analysis.get("/openapi.json")).json())
        assert {"/analysis", "/comparison", "/significance", "/timeseries", "/repeats"} <= {path for _, path in found}
        for (method, path), prefix in product(found, ("", "/v1")):
            filled = prefix + re.sub(r"\{\w+\}", "1", path)
            for content in (b"{}", b"{"):
                answer = await stack.analysis.request(method, filled, content=content if method == "post" else None)
                is_there = not prefix or answer.status_code != 404
                is_open = path in ("/health", "/metrics")  # told in docs/operations.md
                assert not is_there or answer.status_code == (200 if is_open else 401), (method, filled)


async def test_every_route_but_health_asks_for_a_key_and_says_so(start_results: StartResults, tmp_path: Path) -> None:
    """Direct routes check their keys themselves, so that each does is not a matter of course."""
    keys = tmp_path / "keys.toml"
    keys.write_text("")
    async with start_results(auth="keys", api_keys_file=keys) as results:
        schema = (await results.client.get("/openapi.json")).json()
        assert schema["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
        assert {path for (_, path), operation in operations(schema).items() if "security" not in operation} == {
            "/health"
        }
        for method, path in operations(schema):
            filled = re.sub(r"\{\w+\}", "1", path)
            for content in (b"{}", b"{"):  # nothing is read of who may not ask
                response = await results.client.request(method, filled, content=content if method == "post" else None)
                assert response.status_code == (200 if path == "/health" else 401), (method, path)
        assert results.stored() == {}


@pytest.mark.parametrize("scope", Scope)
async def test_what_each_scope_allows(start_results: StartResults, tmp_path: Path, scope: Scope) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[[keys]]\nid = "one"\nsha256 = "{digest_of("k")}"\nscopes = ["{scope}"]\n')
    async with start_results(auth="keys", api_keys_file=keys) as results:
        for method, path in operations((await results.client.get("/openapi.json")).json()):
            filled = re.sub(r"\{\w+\}", "1", path)
            content = b"{}" if method == "post" else None
            headers = {"Authorization": "bearer  k "}
            params = {"wait_s": "0"} if path == "/feed" else None
            answer = await results.client.request(method, filled, content=content, headers=headers, params=params)
            reads = Scope.RESULTS_READ if method == "get" else Scope.RESULTS_WRITE
            needed = Scope.ADMIN if path == "/reconciliation" else reads
            is_let_in = path == "/health" or scope in (needed, Scope.ADMIN)
            assert (answer.status_code not in (401, 403)) == is_let_in, (method, path, answer.text)


async def test_the_log_names_the_key(
    start_results: StartResults, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[[keys]]\nid = "nightly"\nsha256 = "{digest_of("sh_secret")}"\nscopes = ["results:read"]\n')
    async with start_results(auth="keys", api_keys_file=keys) as results:
        with structlog.testing.capture_logs() as lines:
            await results.client.get("/raw_input", headers={"Authorization": "Bearer sh_secret"})
            await results.client.get("/raw_input", headers={"Authorization": "Bearer sh_other"})
    assert [line.get("key") for line in lines if line["event"] == "request"] == ["nightly", None]
    assert "sh_" not in repr(lines) + "".join(capfd.readouterr())


async def test_without_keys_the_documentation_asks_for_none(results: ResultsUnderTest) -> None:
    schema = (await results.client.get("/openapi.json")).json()
    assert not [name for name, operation in operations(schema).items() if "security" in operation]
