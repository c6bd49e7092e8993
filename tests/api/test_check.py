"""`scorehouse check` and the comparison at start, against both services over real HTTP."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pymongo
import pytest
from fastapi import FastAPI

from analysis_service.app import create_app as create_analysis
from analysis_service.database import Database
from analysis_service.packed_sums import COST_COLUMNS, SCORE_COLUMNS
from analysis_service.queries.tables import APPLIED, RUNS, SUMS
from analysis_service.settings import AnalysisSettings
from results_service.app import create_app as create_results
from results_service.settings import ResultsSettings
from scorehouse.calls import Service
from scorehouse.check_command import CheckOptions, run_check
from scorehouse.client import AsyncScorehouse
from tests.api.conftest import serve, until

MakeResult = Callable[..., dict[str, Any]]
KEYS = {"admin": "admin", "writer": "results:write", "analysis": "results:read"}


@dataclass(frozen=True)
class Services:
    """Both services, and a way to run the command against them."""

    results_url: str
    analysis_url: str
    analysis: FastAPI
    mongo: "pymongo.database.Database[dict[str, Any]]"

    async def check(self, **options: bool) -> int:
        """Run the command; its exit code."""
        return await asyncio.to_thread(run_check, CheckOptions(self.results_url, self.analysis_url, **options))

    async def push(self, document: dict[str, Any], key: str = "admin") -> None:
        async with httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}) as client:
            response = await client.post(f"{self.results_url}/standardized_output", json=document)
            assert response.status_code == 201, response.text

    async def settled(self) -> None:
        """Wait until the analysis has applied everything."""
        async with httpx.AsyncClient() as client:

            async def follows() -> bool:
                head = (await client.get(f"{self.results_url}/health")).json()["feed_head"]
                return bool((await client.get(f"{self.analysis_url}/health")).json()["feed"]["position"] == head)

            await until(follows)

    async def execute(self, make: Callable[[Database], Any]) -> None:
        """Change the SQL store behind the service's back."""
        database: Database = self.analysis.state.reader.database
        async with database.transaction() as session:
            await session.execute(make(database))


@pytest.fixture
def start_services(
    mongo_url: str, mongo_client: "pymongo.MongoClient[dict[str, Any]]", mongo_database: str, tmp_path: Path
) -> Callable[..., Any]:
    """Starts both services, with API keys or without."""

    @asynccontextmanager
    async def start(*, keys: bool = False) -> AsyncIterator[Services]:
        file = tmp_path / "keys.toml"
        file.write_text(
            "".join(
                f'[[keys]]\nid = "{key}"\nscopes = ["{scope}"]\nsha256 = "{sha256(key.encode()).hexdigest()}"\n'
                for key, scope in KEYS.items()
            )
        )
        auth: dict[str, Any] = {"auth": "keys", "api_keys_file": file} if keys else {"auth": "disabled"}
        results = create_results(ResultsSettings(mongo_url=mongo_url, mongo_database=mongo_database, **auth))
        async with serve(results) as results_url:
            analysis = create_analysis(
                AnalysisSettings(
                    analysis_store="sqlite",
                    sqlite_path=tmp_path / "analysis.sqlite",
                    results_url=results_url,
                    results_api_key="analysis",
                    feed_wait_s=0.2,
                    **auth,
                )
            )
            async with serve(analysis) as analysis_url:
                yield Services(results_url, analysis_url, analysis, mongo_client[mongo_database])

    return start


@pytest.fixture
async def services(start_services: Callable[..., Any], make_result: MakeResult) -> AsyncIterator[Services]:
    """Both services with three results."""
    async with start_services() as running:
        for number in range(3):
            await running.push(make_result(run_id=f"r{number}"))
        await running.settled()
        yield running


def name(number: int) -> str:
    return f"2024-01-01T12:00:00Z-mmlu-r{number}"


async def test_stores_that_agree(services: Services, capsys: pytest.CaptureFixture[str]) -> None:
    assert await services.check() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3:] == [
        "results service   3 results, 3 entries of the feed: no differences",
        "analysis service  3 results, 3 entries of the feed: no differences",
        "both stores agree",
    ]


async def test_differences_of_both_services_are_told_and_mended(
    services: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    services.mongo.feed.delete_one({"_id": 3})
    await services.execute(lambda store: store.dialect.query.from_(RUNS).delete().where(RUNS.result_name == name(0)))
    assert await services.check() == 1
    told = capsys.readouterr().out
    assert "event-missing" in told
    assert "run-damaged" in told
    assert f"{name(0)}: it has no run" in told
    assert "next: run `scorehouse check --repair`: it appends the event" in told
    assert "both stores agree" not in told
    assert await services.check(repair=True) == 0
    assert f"repaired {name(0)}: it has no run" in capsys.readouterr().out
    await services.settled()
    assert await services.check() == 0
    assert "both stores agree" in capsys.readouterr().out


async def test_what_cannot_be_mended_stays_told(services: Services, capsys: pytest.CaptureFixture[str]) -> None:
    services.mongo.standardized_output.delete_one({"run_id": "r1"})
    assert await services.check(repair=True) == 1
    told = capsys.readouterr().out
    assert "result-absent" in told
    assert "next: restore it from a backup, or push it again" in told


async def test_a_feed_that_went_back_is_told_and_mended(
    services: Services, make_result: MakeResult, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("results_service.feed.HEAD_TRUSTED_S", 0.0)  # to restore MongoDB takes longer than that
    services.mongo.feed.delete_one({"_id": 3})
    services.mongo.standardized_output.delete_one({"run_id": "r2"})
    assert await services.check() == 1
    told = capsys.readouterr().out
    assert "beyond-the-feed" in told
    assert "make sure of RESULTS_URL, then run `scorehouse check --repair`" in told
    assert await services.check(repair=True) == 0
    await services.push(make_result(run_id="r7"))
    await services.settled()
    assert await services.check() == 0


async def test_live_runs_and_corrections_are_no_differences(services: Services, make_result: MakeResult) -> None:
    signed = {"author": "tests", "reason": "tests"}
    async with httpx.AsyncClient(base_url=services.results_url) as client:

        async def post(path: str, body: dict[str, Any] | None = None) -> None:
            answer = await client.post(path, json=body)
            assert answer.is_success, answer.text
            await services.settled()
            assert await services.check() == 0

        for number in (10, 11):
            await post("/live_runs", make_result(run_id=f"r{number}", data=None))
            for part in (1, 2):
                questions = [{"question_id": f"q{part}", "score": 1.0}]
                await post(f"/live_runs/{name(number)}/parts/{part}", {"questions": questions})
        # The run of a live one is found lost, too.
        await services.execute(
            lambda store: store.dialect.query.from_(RUNS).delete().where(RUNS.result_name == name(11))
        )
        assert await services.check() == 1
        assert await services.check(repair=True) == 0
        await post(f"/live_runs/{name(10)}/finish")
        await post(f"/live_runs/{name(11)}/discard", signed)
        for step in ("invalidation", "restoration", "invalidation"):
            await post(f"/standardized_output/{name(10)}/{step}", signed)
        assert await services.check(repair=True) == 0


async def test_json_for_programs(services: Services, capsys: pytest.CaptureFixture[str]) -> None:
    await services.execute(
        lambda store: store.dialect.query.from_(APPLIED).delete().where(APPLIED.result_name == name(2))
    )
    capsys.readouterr()
    assert await services.check(as_json=True) == 1
    told = capsys.readouterr().out
    document = json.loads(told[told.index("{\n") :])
    assert document["agree"] is False
    assert document["results"]["differences"] == 0
    assert {finding["reason"] for finding in document["analysis"]["findings"]} == {"not-applied", "stray-rows"}
    assert document["analysis"]["first"][0]["result_name"] == name(2)
    assert document["feed"]["position"] == 3
    assert document["next_steps"]


async def test_nothing_to_do_writes_nothing(services: Services) -> None:
    request = {"benchmark": "mmlu", "level1": "subject", "include_null": True}
    async with httpx.AsyncClient() as client:
        before = (await client.post(f"{services.analysis_url}/analysis", json=request)).json()["data_version"]
        assert await services.check(repair=True) == 0
        assert (await client.post(f"{services.analysis_url}/analysis", json=request)).json()["data_version"] == before


async def test_a_start_mends_what_was_lost_while_it_was_down(
    start_services: Callable[..., Any], make_result: MakeResult
) -> None:
    async with start_services() as running:
        for number in range(3):
            await running.push(make_result(run_id=f"r{number}"))
        await running.settled()
        await running.execute(lambda store: store.dialect.query.from_(RUNS).delete().where(RUNS.result_name == name(1)))
    async with start_services() as running:
        database: Database = running.analysis.state.reader.database

        async def is_back() -> bool:
            async with database.snapshot() as session:
                query = database.dialect.query.from_(RUNS).select(RUNS.run_no).where(RUNS.result_name == name(1))
                return bool(await session.fetch(query, "rows of a test"))

        await until(is_back)
        assert await running.check() == 0


async def test_it_needs_a_key_with_the_scope_admin(
    start_services: Callable[..., Any],
    make_result: MakeResult,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with start_services(keys=True) as running:
        await running.push(make_result(run_id="r0"))
        await running.settled()
        for key in ("writer", "unknown", ""):
            monkeypatch.setenv("SCOREHOUSE_API_KEY", key)
            assert await running.check() == 1
            assert "'check' needs an API key with the scope admin" in capsys.readouterr().err
        # The analysis itself reads the results service with results:read alone.
        await running.execute(lambda store: store.dialect.query.from_(RUNS).delete())
        monkeypatch.setenv("SCOREHOUSE_API_KEY", "admin")
        assert await running.check() == 1
        assert await running.check(repair=True) == 0
        assert await running.check() == 0


async def test_a_results_service_that_goes_away_is_told(
    services: Services, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = CheckOptions("http://127.0.0.1:1", services.analysis_url)
    assert await asyncio.to_thread(run_check, nowhere) == 1
    assert "cannot reach the results service" in capsys.readouterr().err
    feed = services.analysis.state.reconciler.feed
    async with httpx.AsyncClient(base_url="http://127.0.0.1:1") as nobody:
        monkeypatch.setattr(feed, "_http", nobody)
        assert await services.check() == 1
        assert "the feed cannot be compared" in capsys.readouterr().err


async def test_sums_that_are_not_what_the_answers_come_to(
    services: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    database: Database = services.analysis.state.reader.database
    async with database.transaction() as session:
        await session.execute(database.dialect.query.from_(SUMS).delete().where(SUMS.run_no == 2))
        wrong = struct.pack("<d", 1.0) * len(SCORE_COLUMNS), struct.pack("<d", 0.0) * len(COST_COLUMNS)
        await session.insert(SUMS, ["run_no", "scores", "costs"], [(2, *wrong)])  # of a run with one cell
    assert await services.check(quick=True) == 0
    assert await services.check() == 1
    told = capsys.readouterr().out
    assert "other-sums" in told
    assert "run `scorehouse check --repair`" in told
    assert await services.check(repair=True) == 0
    assert await services.check() == 0


async def test_the_results_service_has_no_sums_to_be_asked_about(services: Services) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{services.results_url}/reconciliation", json={"sums": False})
        assert answer.status_code == 422
        answer = await client.post(f"{services.analysis_url}/reconciliation", json={"sums": "no"})
        assert answer.status_code == 422


async def test_lines_say_how_far_it_has_come(services: Services) -> None:
    async with AsyncScorehouse(services.results_url, services.analysis_url) as house:
        lines = [line async for line in house.reconcile(Service.ANALYSIS)]
        assert [line.phase for line in lines] == ["feed", "feed", "runs", "sums", "done"]
        assert (lines[1].done, lines[1].total) == (3, 3)
        lines = [line async for line in house.reconcile(Service.ANALYSIS, sums=False)]
        assert [line.phase for line in lines] == ["feed", "feed", "runs", "done"]
        lines = [line async for line in house.reconcile(Service.RESULTS, repair=True)]
        assert [line.phase for line in lines] == ["results", "results", "feed", "done"]
