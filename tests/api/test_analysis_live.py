"""The way from a push to an answer: late registrations, corrections, stores that go away."""

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from analysis_service.app import create_app
from analysis_service.settings import AnalysisSettings
from tests.api.conftest import Stack, run_stack, until
from tests.conftest import Mongod

QUESTIONS = [{"question_id": f"q{n}", "score": n % 2, "metadata": {"subject": "Algebra", "level": 1}} for n in range(4)]


def result(run_id: str = "r1", **changes: Any) -> dict[str, Any]:
    document = {
        "run_id": run_id,
        "benchmark_name": "math500",
        "timestamp": "2024-01-01T12:00:00Z",
        "model_id": "gpt-4",
        "source": "tests",
        "data": {"questions": QUESTIONS},
    }
    return document | changes


async def test_an_empty_store_answers(stack: Stack) -> None:
    answer = (await stack.analyze(benchmark="mmlu", level1="subject")).json()
    assert (answer["rows"], answer["runs"], answer["total_rows"]) == ([], [], 0)
    assert (await stack.analysis.get("/analysis/summary")).json()["benchmarks"] == []
    metadata = (await stack.analysis.get("/benchmarks/mmlu/metadata")).json()
    assert all(field["values"] == [] and field["n_null"] == 0 for field in metadata["fields"])


async def test_a_pushed_result_is_soon_in_the_answers(stack: Stack) -> None:
    await stack.push(result("warm-up"))
    before = (await stack.analyze(benchmark="math500", level1="run", runs="all")).json()
    response = await stack.results.post("/standardized_output", json=result("r2", model_id="someone/new-model"))
    acknowledged = time.monotonic()
    assert response.status_code == 201

    async def visible() -> bool:
        return len((await stack.analyze(benchmark="math500", level1="run", runs="all")).json()["rows"]) == 2

    await until(visible)
    assert time.monotonic() - acknowledged < 1
    after = (await stack.analyze(benchmark="math500", level1="run", runs="all")).json()
    assert after["data_version"] != before["data_version"]
    [new] = [run for run in after["runs"] if run["model"] == "someone/new-model"]
    assert new["registered"] is False
    assert "not in the model registry: someone/new-model" in after["warnings"]


async def test_a_re_push_changes_nothing(stack: Stack) -> None:
    await stack.push(result())
    before = (await stack.analyze(benchmark="math500", level1="run", runs="all")).json()
    await stack.push(result())
    assert (await stack.analyze(benchmark="math500", level1="run", runs="all")).json() == before


async def test_a_stated_score_is_shown_but_never_averaged(stack: Stack) -> None:
    await stack.push(result(), result("stated", data={"accuracy": 0.99}))
    [row] = (await stack.analyze(benchmark="math500", level1="model", runs="all")).json()["rows"]
    assert (row["n"], row["mean"]) == (4, 0.5)
    [summary] = (await stack.analysis.get("/analysis/summary")).json()["benchmarks"]
    assert (summary["runs"], summary["stated_only_runs"]) == (1, 1)


async def test_an_alias_is_its_model_and_the_newest_run_counts(stack: Stack) -> None:
    worse = [question | {"score": 0} for question in QUESTIONS]
    await stack.push(
        result("newest", model_id="openai/gpt-4", timestamp="2024-03-01T00:00:00+09:00"),
        result("older", data={"questions": worse}, timestamp="2024-02-29T14:59:59.999Z"),
    )
    answer = (await stack.analyze(benchmark="math500", level1="model")).json()
    assert [(row["model"], row["mean"]) for row in answer["rows"]] == [("gpt-4", 0.5)]
    [row] = (await stack.analyze(benchmark="math500", level1="model", runs="all")).json()["rows"]
    assert (row["n"], row["n_questions"], row["mean"]) == (8, 4, 0.25)


async def test_options_leave_out_what_a_group_by_does(stack: Stack) -> None:
    await stack.push(
        result(),
        result(
            "r2",
            model_id="someone/new-model",
            data={
                "questions": [question | {"question_id": f"other {question['question_id']}"} for question in QUESTIONS]
            },
        ),
    )
    for level, questions in (("vendor", 4), ("model", 8)):
        path = "/benchmarks/math500/metadata/options"
        options = (await stack.analysis.post(path, json={"level1": level})).json()["options"]
        [subjects] = [option["values"] for option in options if option["field"] == "subject"]
        assert subjects == [{"value": "Algebra", "questions": questions}], level


UNREGISTERED = """
name = "new-bench"
title = {en = "New"}
description = {en = "A benchmark that came later."}
[[fields]]
name = "topic"
type = "category"
description = {en = "Topic"}
"""


async def test_results_pushed_before_their_benchmark_was_registered(
    mongo_url: str, mongo_database: str, tmp_path: Path
) -> None:
    questions = [{"question_id": f"q{n}", "score": 1, "metadata": {"topic": f"t{n % 2}"}} for n in range(4)]
    early = result(benchmark_name="new-bench", data={"questions": questions})
    async with run_stack(mongo_url, mongo_database, tmp_path / "a.sqlite") as stack:
        await stack.push(early)
        [waiting] = (await stack.analysis.get("/analysis/summary")).json()["benchmarks"]
        assert (waiting["registered"], waiting["parked"]) == (False, 1)
        assert (await stack.analyze(benchmark="new-bench", level1="topic")).status_code == 422
    (tmp_path / "new.toml").write_text(UNREGISTERED)
    folder = {"scorehouse_registry_dir": tmp_path}
    async with run_stack(mongo_url, mongo_database, tmp_path / "a.sqlite", **folder) as stack:

        async def applied() -> bool:
            [known] = (await stack.analysis.get("/analysis/summary")).json()["benchmarks"]
            return bool(known["parked"] == 0)

        await until(applied)
        rows = (await stack.analyze(benchmark="new-bench", level1="topic")).json()["rows"]
        assert [(row["topic"], row["n"]) for row in rows] == [("t0", 2), ("t1", 2)]


async def test_mongodb_away_is_waited_out(own_mongod: Mongod, tmp_path: Path) -> None:
    async with run_stack(own_mongod.url, "away", tmp_path / "a.sqlite", feed_wait_s=0.5) as stack:
        await stack.push(result())
        own_mongod.stop()

        async def behind() -> bool:
            health = (await stack.analysis.get("/health")).json()
            return health["status"] == "degraded" and health["feed"]["lag"] is None

        await until(behind)
        assert len((await stack.analyze(benchmark="math500", level1="run")).json()["rows"]) == 1, "answers go on"
        own_mongod.start()
        await until(lambda: _answers(stack.results))
        await stack.push(result("r2"))
        assert len((await stack.analyze(benchmark="math500", level1="run", runs="all")).json()["rows"]) == 2


async def _answers(client: httpx.AsyncClient) -> bool:
    return (await client.get("/health")).status_code == 200


async def test_an_exhausted_pool_is_503_with_retry_after(mongo_url: str, mongo_database: str, tmp_path: Path) -> None:
    timeout = {"db_pool_timeout_s": 0.3}
    async with run_stack(mongo_url, mongo_database, tmp_path / "a.sqlite", **timeout) as stack:
        database = stack.app.state.reader.database
        await until(lambda: _follows(stack))
        held = [database.snapshot() for _ in range(4)]
        await asyncio.gather(*(context.__aenter__() for context in held))
        response = await stack.analyze(benchmark="mmlu", level1="subject")
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert response.json()["type"] == "urn:scorehouse:problem:pool-exhausted"
        health = await stack.analysis.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "unavailable")
        assert health.json()["pool"]["in_use"] == 4
        for context in held:
            await context.__aexit__(None, None, None)
        assert (await stack.analyze(benchmark="mmlu", level1="subject")).status_code == 200


async def test_a_consumer_that_stopped_shows_in_health(stack: Stack) -> None:
    await until(lambda: _follows(stack))
    assert (await stack.analysis.get("/health")).json()["status"] == "ok"
    stack.app.state.progress.stopped = "entry 7 is of a kind that is not known"
    health = await stack.analysis.get("/health")
    assert (health.status_code, health.json()["status"]) == (200, "degraded")
    assert health.json()["feed"]["stopped"] == "entry 7 is of a kind that is not known"


async def _follows(stack: Stack) -> bool:
    return bool((await stack.analysis.get("/health")).json()["feed"]["lag"] == 0)


async def test_keys_and_scopes(tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    digest = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"  # of "foo"
    keys.write_text(f'[[keys]]\nid = "reader"\nsha256 = "{digest}"\nscopes = ["analysis:read"]\n')
    settings = AnalysisSettings(
        auth="keys",
        api_keys_file=keys,
        analysis_store="sqlite",
        sqlite_path=tmp_path / "a",
        results_url="http://127.0.0.1:1",
    )
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/docs")).status_code == 200
        for headers, status in (
            ({}, 401),
            ({"Authorization": "Bearer bar"}, 401),
            ({"Authorization": "Basic foo"}, 401),
            ({"Authorization": "Bearer foo"}, 200),
        ):
            response = await client.get("/analysis/summary", headers=headers)
            assert response.status_code == status, headers
        keys.write_text(keys.read_text().replace("analysis:read", "results:read"))

        async def refused() -> bool:
            response = await client.get("/analysis/summary", headers={"Authorization": "Bearer foo"})
            return response.is_error and bool(response.json()["type"] == "urn:scorehouse:problem:not-authorized")

        await until(refused, timeout_s=5)


def test_production_refuses_what_is_for_trying_out(tmp_path: Path) -> None:
    for settings in (
        {"auth": "disabled", "mysql_host": "db"},
        {"auth": "keys"},
        {"auth": "keys", "api_keys_file": tmp_path / "k"},
    ):
        with pytest.raises(ValueError, match=r"AUTH=disabled|API_KEYS_FILE|embedded SQLite"):
            AnalysisSettings(environment="production", **settings)
