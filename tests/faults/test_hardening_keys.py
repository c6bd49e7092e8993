"""API keys that are almost right, and ones that are right in the wrong place: each is refused, and stores nothing."""

import json
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256

import httpx
import pytest

from tests.faults.conftest import Services, stored
from tests.faults.test_hardening_values import document


@pytest.fixture
def nothing_changes_with_keys(keyed_services: Services) -> Iterator[None]:
    """Around a test that may not store anything; afterwards the services still answer whoever has a key."""
    before = stored(keyed_services)
    yield
    assert stored(keyed_services) == before


pytestmark = pytest.mark.usefixtures("nothing_changes_with_keys")

WRONG_KEYS: dict[str, Callable[[str], str]] = {
    "of the right length": lambda key: "x" * len(key),
    "wrong in its first character": lambda key: "x" + key[1:],
    "wrong in its last character": lambda key: key[:-1] + "x",
    "in upper case": str.upper,
    "without its end": lambda key: key[:-1],
    "twice": lambda key: key + key,
    "with a comma and another": lambda key: f"{key},{key}",
    "its own digest": lambda key: sha256(key.encode()).hexdigest(),
    "quoted": lambda key: f'"{key}"',
    "with NUL in words": lambda key: key + "%00",
    "a digest of the right length": lambda _: "0" * 64,
    "of letters beyond ASCII": lambda key: key[:-1] + "é",
    "very long": lambda key: key * 1000,
    "a key of the file's syntax": lambda _: '"]]\n[[keys]]'.replace("\n", " "),
}


def requests(services: Services, headers: Mapping[str, str] | Mapping[bytes, bytes]) -> Iterator[httpx.Response]:
    """Something of every kind that needs a key."""
    body = json.dumps(document())
    question = {"benchmark": "math500", "level1": "level"}
    yield services.results.post("/standardized_output", content=body, headers=headers)
    yield services.results.post("/raw_input", content=body, headers=headers)
    yield services.results.post("/standardized_output/batch", content=body, headers=headers)
    yield services.results.get("/raw_input", headers=headers)
    yield services.results.get("/standardized_output/x", headers=headers)
    yield services.results.get("/feed", headers=headers)
    yield services.results.post("/standardized_output/x/invalidation", content="{}", headers=headers)
    yield services.results.post("/live_runs", content=body, headers=headers)
    yield services.analysis.post("/analysis", json=question, headers=headers)
    yield services.analysis.post("/v1/analysis", json=question, headers=headers)
    yield services.analysis.get("/analysis/summary", headers=headers)
    yield services.analysis.get("/benchmarks/math500/metadata", headers=headers)


def assert_unknown(answer: httpx.Response) -> None:
    assert answer.status_code == 401, answer.text
    assert answer.json()["type"] == "urn:scorehouse:problem:not-authenticated"
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("wrong", WRONG_KEYS)
def test_keys_that_are_almost_right(wrong: str, keyed_services: Services) -> None:
    for key in keyed_services.keys.values():
        for answer in requests(keyed_services, {b"Authorization": f"Bearer {WRONG_KEYS[wrong](key)}".encode()}):
            assert_unknown(answer)
            assert key not in answer.text


@pytest.mark.parametrize("form", ["{}", "Basic {}", "Token {}", "Bearer", "Bearer{}", "Bearer x {}", "Bearer,{}"])
def test_right_keys_in_the_wrong_form(form: str, keyed_services: Services) -> None:
    for answer in requests(keyed_services, {"Authorization": form.format(keyed_services.keys["admin"])}):
        assert_unknown(answer)


def test_right_keys_in_the_wrong_place(keyed_services: Services) -> None:
    key = keyed_services.keys["admin"]
    for place in ("X-API-Key", "Cookie", "Proxy-Authorization", "X-Authorization", "Authorization-Bearer"):
        for answer in requests(keyed_services, {place: f"Bearer {key}"}):
            assert_unknown(answer)
    assert_unknown(keyed_services.results.get("/raw_input", params={"api_key": key, "access_token": key}))


def test_no_key(keyed_services: Services) -> None:
    for answer in requests(keyed_services, {}):
        assert_unknown(answer)


def test_headers_of_proxies_open_nothing(keyed_services: Services) -> None:
    trusted = {
        "X-Forwarded-For": "127.0.0.1",
        "X-Real-IP": "127.0.0.1",
        "X-Forwarded-User": "admin",
        "Host": "localhost",
    }
    trusted |= {"X-Original-URL": "/health", "X-Rewrite-URL": "/health", "X-HTTP-Method-Override": "GET"}
    for answer in requests(keyed_services, {**trusted}):
        assert_unknown(answer)


@pytest.mark.parametrize(("key", "written", "read"), [("writer", 201, 403), ("reader", 403, 200)])
def test_keys_do_what_their_scope_says(key: str, written: int, read: int, keyed_services: Services) -> None:
    headers = keyed_services.headers(key)
    refused = json.dumps(document()) if written == 403 else "not json"
    answer = keyed_services.results.post("/standardized_output", content=refused, headers=headers)
    assert answer.status_code == (403 if written == 403 else 400)
    for client, path in ((keyed_services.results, "/raw_input"), (keyed_services.analysis, "/analysis/summary")):
        answer = client.get(path, headers=headers)
        assert answer.status_code == read
        if read == 403:
            assert answer.json()["type"] == "urn:scorehouse:problem:not-authorized"


def test_health_and_documentation_need_none(keyed_services: Services) -> None:
    for client in (keyed_services.results, keyed_services.analysis):
        for path in ("/health", "/docs", "/openapi.json"):
            assert client.get(path).status_code == 200
