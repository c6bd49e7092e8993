"""What has not changed is not computed or sent again: entity tags, 304, and instances that agree."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from analysis_service.answer_cache import AnswerCache
from analysis_service.app import create_app
from analysis_service.settings import AnalysisSettings
from tests.api.conftest import Stack, run_stack, serve

BENCHMARK = "math500"
GROUP_BY = {"benchmark": BENCHMARK, "level1": "level"}
ROUTES: dict[str, tuple[str, str, dict[str, Any] | None]] = {
    "analysis": ("POST", "/analysis", GROUP_BY),
    "summary": ("GET", "/analysis/summary?lang=ko", None),
    "options": ("POST", f"/benchmarks/{BENCHMARK}/metadata/options", {"level1": "level"}),
    "metadata": ("GET", f"/benchmarks/{BENCHMARK}/metadata", None),
    "questions": ("GET", f"/benchmarks/{BENCHMARK}/questions?limit=5", None),
    "question": ("GET", f"/benchmarks/{BENCHMARK}/questions/q/1", None),
}


def document(number: int, benchmark: str = BENCHMARK, score: float = 1.0) -> dict[str, Any]:
    questions = [
        {"question_id": f"q/{index}", "score": score if index else 0.0, "metadata": {"level": 1 + index % 2}}
        for index in range(4)
    ]
    return {
        "run_id": f"run-{number}",
        "benchmark_name": benchmark,
        "timestamp": f"2024-01-0{number}T00:00:00Z",
        "model_id": "gpt-4",
        "source": "tests",
        "data": {"questions": questions if benchmark == BENCHMARK else []},
    }


@pytest.fixture
async def caching(stack: Stack) -> Stack:
    await stack.push(document(1))
    return stack


def counts(stack: Stack) -> AnswerCache:
    answers: AnswerCache = stack.app.state.answers
    return answers


async def ask(client: httpx.AsyncClient, route: str, **headers: str) -> httpx.Response:
    method, path, body = ROUTES[route]
    return await client.request(method, path, json=body, headers={k.replace("_", "-"): v for k, v in headers.items()})


@pytest.mark.parametrize("route", ROUTES)
async def test_what_has_not_changed_is_neither_computed_nor_sent_again(caching: Stack, route: str) -> None:
    first = await ask(caching.analysis, route)
    assert first.status_code == 200, first.text
    assert first.headers["cache-control"] == "private, no-cache"
    assert first.headers["content-type"] == "application/json"
    misses = counts(caching).misses

    again = await ask(caching.analysis, route)
    assert (again.content, again.headers["etag"]) == (first.content, first.headers["etag"])
    unchanged = await ask(caching.analysis, route, if_none_match=first.headers["etag"])
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert unchanged.headers["etag"] == first.headers["etag"]
    assert unchanged.headers["cache-control"] == first.headers["cache-control"]
    assert unchanged.headers["x-request-id"] != first.headers["x-request-id"]
    assert not {"content-type", "content-length"} & set(unchanged.headers)
    assert counts(caching).misses == misses

    await caching.push(document(2, score=0.5))
    changed = await ask(caching.analysis, route, if_none_match=first.headers["etag"])
    assert changed.status_code == 200
    assert changed.headers["etag"] != first.headers["etag"]
    assert changed.json()["data_version"] != first.json()["data_version"]
    assert counts(caching).misses == misses + 1


@pytest.mark.parametrize("route", [route for route in ROUTES if route != "summary"])
async def test_another_benchmark_changes_nothing(caching: Stack, route: str) -> None:
    first = await ask(caching.analysis, route)
    await caching.push(document(3, "aime"))
    assert (await ask(caching.analysis, route, if_none_match=first.headers["etag"])).status_code == 304


async def test_the_summary_tells_of_whatever_was_applied(caching: Stack) -> None:
    async def parked() -> dict[str, int]:
        answer = await ask(caching.analysis, "summary")
        return {benchmark["benchmark"]: benchmark["parked"] for benchmark in answer.json()["benchmarks"]}

    assert await parked() == {BENCHMARK: 0}
    await caching.push(document(3, "nobody-knows-it"))
    assert await parked() == {BENCHMARK: 0, "nobody-knows-it": 1}
    response = await caching.results.post(
        f"/standardized_output/{quote('2024-01-03T00:00:00Z-nobody-knows-it-run-3')}/invalidation",
        json={"author": "tests", "reason": "a mistake"},
    )
    assert response.status_code == 200, response.text
    await caching.settle()
    assert await parked() == {BENCHMARK: 0, "nobody-knows-it": 0}


MATCHES: dict[str, tuple[Callable[[str], str], int]] = {
    "its-tag": (lambda tag: tag, 304),
    "weakly": (lambda tag: f"W/{tag}", 304),
    "in-a-list": (lambda tag: f'"other", W/{tag} , "a,b"', 304),
    "any": (lambda tag: " * ", 304),
    "another": (lambda tag: '"other"', 200),
    "without-quotes": (lambda tag: tag.strip('"'), 200),
    "its-beginning": (lambda tag: tag[:-2] + '"', 200),
    "empty": (lambda tag: "", 200),
}


@pytest.mark.parametrize("how", MATCHES)
@pytest.mark.parametrize("route", ["analysis", "metadata"])
async def test_how_a_caller_says_what_it_has(sample_stack: Stack, how: str, route: str) -> None:
    tag = (await ask(sample_stack.analysis, route)).headers["etag"]
    offer, status = MATCHES[how]
    assert (await ask(sample_stack.analysis, route, if_none_match=offer(tag))).status_code == status


async def test_however_it_is_spelled_it_is_one_question(caching: Stack) -> None:
    tags = set()
    for path, body in (
        ("/analysis", '{"benchmark": "math500", "level1": "level"}'),
        ("/v1/analysis", '{"level1":"level","benchmark":"math500","level2":null,"limit":1000}'),
    ):
        answer = await caching.analysis.post(path, content=body)
        assert answer.status_code == 200
        tags.add(answer.headers["etag"])
    assert len(tags) == 1
    assert (counts(caching).misses, counts(caching).hits) == (1, 1)


async def test_instances_agree_on_body_and_tag(mongo_url: str, mongo_database: str, tmp_path: Path) -> None:
    async with run_stack(mongo_url, mongo_database, tmp_path / "shared.sqlite") as first:
        await first.push(document(1), document(2, score=0.3))
        settings = AnalysisSettings(
            auth="disabled",
            analysis_store="sqlite",
            sqlite_path=tmp_path / "shared.sqlite",
            results_url=str(first.results.base_url),
        )
        app = create_app(settings)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as other,
        ):
            for route in ROUTES:
                here, there = await ask(first.analysis, route), await ask(other, route)
                assert (here.content, here.headers["etag"]) == (there.content, there.headers["etag"]), route
                tag = here.headers["etag"]
                assert (await ask(other, route, if_none_match=tag)).status_code == 304
            await first.push(document(3, score=0.1))  # whoever of the two applies it
            for route in ROUTES:
                here, there = await ask(first.analysis, route), await ask(other, route)
                assert here.content == there.content, route
                assert here.headers["etag"] == there.headers["etag"], route


async def test_requests_at_the_same_time_are_computed_once(caching: Stack) -> None:
    answers = await asyncio.gather(*(ask(caching.analysis, "analysis") for _ in range(50)))
    assert len({answer.content for answer in answers}) == 1
    assert len({answer.headers["x-request-id"] for answer in answers}) == 50
    found = counts(caching)
    assert found.misses == 1
    assert found.shared + found.hits == 49


@pytest.mark.parametrize("explain", [False, True])
async def test_what_nobody_waits_for_any_more_is_not_computed(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, explain: bool
) -> None:
    """The server tells that a caller has gone only to who listens."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def compute_for_ever(*_: object) -> None:
        begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    monkeypatch.setattr("analysis_service.routes.analysis.analyze_columns", compute_for_ever)
    file, results_url = tmp_path / "served.sqlite", str(stack.results.base_url)
    settings = AnalysisSettings(
        auth="disabled", analysis_store="sqlite", sqlite_path=file, results_url=results_url, feed_wait_s=0.1
    )
    async with serve(create_app(settings)) as url:
        _, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(url).port)
        body = json.dumps(GROUP_BY | {"explain": explain}).encode()
        head = f"POST /analysis HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        async with asyncio.timeout(5):
            await begun.wait()
            writer.transport.abort()
            await ended.wait()


@pytest.fixture
async def without_cache(mongo_url: str, mongo_database: str, tmp_path: Path) -> AsyncIterator[Stack]:
    async with run_stack(mongo_url, mongo_database, tmp_path / "a.sqlite", answer_cache_bytes=0) as running:
        await running.push(document(1))
        yield running


async def test_without_memory_for_answers_tags_still_save_sending(without_cache: Stack) -> None:
    first = await ask(without_cache.analysis, "analysis")
    assert (await ask(without_cache.analysis, "analysis", if_none_match=first.headers["etag"])).status_code == 304
    found = counts(without_cache)
    assert (found.entries, found.bytes, found.misses) == (0, 0, 2)


async def test_a_refusal_is_neither_kept_nor_tagged(caching: Stack) -> None:
    for _ in range(2):
        refused = await caching.analyze(**GROUP_BY, order_by="nothing")
        assert refused.status_code == 422
        assert "etag" not in refused.headers
        assert (await caching.analysis.get("/benchmarks/nothing/metadata")).status_code == 404
    assert (counts(caching).entries, counts(caching).misses) == (0, 4)


async def test_an_explained_answer_is_made_anew(caching: Stack) -> None:
    plain = await caching.analyze(**GROUP_BY)
    for _ in range(2):
        told = await caching.analyze(**GROUP_BY, explain=True)
        assert told.json()["plan"]["statements"]
        assert told.json()["rows"] == plain.json()["rows"]
        assert told.headers["cache-control"] == "no-store"
        assert "etag" not in told.headers
    assert (counts(caching).entries, counts(caching).misses) == (1, 1)


@pytest.mark.parametrize("path", ["/analysis", "/v1/analysis"])
@pytest.mark.parametrize(
    ("body", "status", "place"),
    [
        (b"", 422, "body"),
        (b"null", 422, "body"),
        (b"[]", 422, "body"),
        (b"3", 422, "body"),
        (b'{"benchmark": "math500"}', 422, "level1"),
        (b'{"benchmark": "math500", "level1": "level", "runs": []}', 422, "runs"),
        (b'{"benchmark": "math500", "level1": "level", "filters": {"level": [[1]]}}', 422, "filters.level[0]"),
        (b'{"benchmark": "math500", "level1": "level", "more": 1}', 422, "more"),
        (b'{"benchmark": "math500", "level1": "level", "limit": NaN}', 400, None),
        (b'{"benchmark": "math500", "level1": "level", "level1": "level"}', 400, None),
        (b'{"benchmark": "math500", "level1": "\xff"}', 400, None),
    ],
)
async def test_what_is_wrong_with_a_body_is_told_with_its_place(
    sample_stack: Stack, path: str, body: bytes, status: int, place: str | None
) -> None:
    for _ in range(2):  # also when it is read a second time
        refused = await sample_stack.analysis.post(path, content=body)
        assert refused.status_code == status, refused.text
        problem = refused.json()
        assert refused.headers["content-type"] == "application/problem+json"
        assert problem["request_id"] == refused.headers["x-request-id"]
        if place is not None:
            assert any(fault["place"].startswith(place) for fault in problem["faults"]), problem


async def test_the_documentation_tells_of_it(sample_stack: Stack) -> None:
    document = (await sample_stack.analysis.get("/openapi.json")).json()
    operation = document["paths"]["/analysis"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/AnalysisRequest"}
    assert operation["requestBody"]["required"] is True
    assert operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/AnalysisAnswer")
    for method, path, _ in ROUTES.values():
        template = path.partition("?")[0].replace(BENCHMARK, "{benchmark}").replace("q/1", "{question_id}")
        assert "304" in document["paths"][template][method.lower()]["responses"]
