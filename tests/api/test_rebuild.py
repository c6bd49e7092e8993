"""`scorehouse rebuild` and `/rebuild`, over real HTTP on each SQL store."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from analysis_service.app import create_app as create_analysis
from analysis_service.database import Database
from analysis_service.queries.tables import ANSWERS, APPLIED, RUNS, SUMS, BenchmarkTables
from analysis_service.settings import AnalysisSettings
from results_service.app import create_app as create_results
from results_service.settings import ResultsSettings
from scorehouse import rebuild_command
from scorehouse.check_command import CheckOptions, run_check
from scorehouse.rebuild_command import RebuildOptions, run_rebuild
from scorehouse.terminal import INTERRUPTED
from shared.rebuilds import RebuildState
from tests.api.conftest import serve, until
from tests.sql_servers import own_database

MakeResult = Callable[..., dict[str, Any]]
KEYS = {"admin": "admin", "reader": "analysis:read"}
BENCHMARKS = ("mmlu", "aime")
RUNS_EACH = 3
ANSWERS_EACH = 20
BY_SUBJECT = {"benchmark": "mmlu", "level1": "subject", "runs": "all"}


class Gate:
    """Keeps whoever fetches a certain result waiting."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._changed = asyncio.Condition()
        self._held: str | None = None

    async def hold(self, run: str | None) -> None:
        """Keep those waiting who want this run's result, such as `mmlu-r1`, and nobody else."""
        async with self._changed:
            self._held = run
            self._changed.notify_all()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The results service behind it."""
        if scope["type"] == "http" and scope["method"] == "GET":
            async with self._changed:
                await self._changed.wait_for(lambda: self._held is None or not scope["path"].endswith(self._held))
        await self._app(scope, receive, send)


@dataclass(frozen=True)
class Analysis:
    """A running analysis service."""

    url: str
    app: FastAPI

    async def rebuild(self, **options: Any) -> int:
        """Run the command; its exit code."""
        return await asyncio.to_thread(run_rebuild, RebuildOptions(self.url, **options))

    async def state(self) -> RebuildState:
        async with httpx.AsyncClient() as client:
            return RebuildState.model_validate_json((await client.get(f"{self.url}/rebuild")).content)

    async def post(self, body: dict[str, Any], key: str | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with httpx.AsyncClient(headers=headers) as client:
            return await client.post(f"{self.url}/rebuild", json=body)

    async def done(self) -> None:
        """Wait until all is applied."""

        async def is_done() -> bool:
            state = await self.state()
            return state.outdated == 0 and state.lag == 0

        await until(is_done)

    async def ask(self) -> dict[str, Any]:
        async with httpx.AsyncClient() as client:
            answer = await client.post(f"{self.url}/analysis", json=BY_SUBJECT)
            assert answer.status_code == 200, answer.text
            body: dict[str, Any] = answer.json()
            return body

    async def content(self) -> dict[str, list[Any]]:
        """All rows of the projection."""
        database: Database = self.app.state.reader.database
        tables = [APPLIED, RUNS, SUMS, ANSWERS]
        for benchmark in BENCHMARKS:
            its = BenchmarkTables(benchmark)
            tables += [its.questions, its.question_names, its.combinations, its.question_sets, its.layouts]
        async with database.snapshot() as session:
            return {
                table.get_table_name(): sorted(
                    map(repr, await session.fetch(database.dialect.query.from_(table).select("*"), "rows of a test"))
                )
                for table in tables
            }

    async def spoil(self, benchmark: str) -> None:
        """Make a benchmark's sums wrong."""
        database: Database = self.app.state.reader.database
        query = database.dialect.query
        async with database.transaction() as session:
            runs = await session.fetch(
                query.from_(SUMS).join(RUNS).on(RUNS.run_no == SUMS.run_no)
                .select(SUMS.run_no, SUMS.scores, SUMS.costs).where(RUNS.benchmark == benchmark),
                "rows of a test",
            )  # fmt: skip
            await session.execute(query.from_(SUMS).delete().where(SUMS.run_no.isin([run_no for run_no, *_ in runs])))
            rows = [(run_no, bytes(len(scores)), bytes(len(costs))) for run_no, scores, costs in runs]
            await session.insert(SUMS, ["run_no", "scores", "costs"], rows)


@dataclass(frozen=True)
class House:
    """A results service, and analysis services over one SQL store."""

    results_url: str
    gate: Gate
    settings: dict[str, Any]
    """Of the analysis service, by name."""
    make_result: MakeResult

    @asynccontextmanager
    async def analysis(self, **changes: Any) -> AsyncIterator[Analysis]:
        """Start an analysis service in this process."""
        app = create_analysis(AnalysisSettings(**(self.settings | changes)))
        async with serve(app) as url:
            yield Analysis(url, app)

    def start_process(self, port: int, log: Path) -> "subprocess.Popen[bytes]":
        """Start one in a process of its own, which can be killed."""
        environment = {name.upper(): str(value) for name, value in self.settings.items()}
        command = [sys.executable, "-m", "uvicorn", "analysis_service.main:app", "--port", str(port)]
        with log.open("ab") as out:
            return subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | environment)

    async def push(self, number: int, benchmark: str) -> None:
        questions = [
            {"question_id": f"q{item}", "score": (item + number) % 2, "metadata": {"subject": f"s{item % 3}"}}
            for item in range(ANSWERS_EACH)
        ]
        document = self.make_result(run_id=f"r{number}", benchmark_name=benchmark, data={"questions": questions})
        async with httpx.AsyncClient() as client:
            answer = await client.post(f"{self.results_url}/standardized_output", json=document)
            assert answer.status_code == 201, answer.text


on_every_engine = pytest.mark.parametrize("sql_settings", ["sqlite", "mariadb", "mysql"], indirect=True)


@pytest.fixture
def sql_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The settings that name an empty SQL store; SQLite unless the test is `on_every_engine`."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield {"analysis_store": "sqlite", "sqlite_path": tmp_path / "analysis.sqlite"}
        return
    with own_database(request.getfixturevalue(request.param)) as address:
        yield {
            "analysis_store": "mysql",
            "mysql_host": address.host,
            "mysql_port": address.port,
            "mysql_user": address.user,
            "mysql_password": address.password,
            "mysql_database": address.database,
        }


@pytest.fixture
async def house(
    sql_settings: dict[str, Any],
    mongo_url: str,
    mongo_database: str,
    make_result: MakeResult,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[House]:
    """A results service with three results of each of two benchmarks; pages of a rebuild are small."""
    monkeypatch.setattr("analysis_service.projection.consumer.REAPPLY_PAGE", 2)
    monkeypatch.setattr(rebuild_command, "LOOK_EVERY_S", 0.02)
    settings = ResultsSettings(mongo_url=mongo_url, mongo_database=mongo_database, auth="disabled")
    gate = Gate(create_results(settings))
    async with serve(gate) as url:  # type: ignore[arg-type]
        services = {"results_url": url, "auth": "disabled", "feed_wait_s": 0.2}
        running = House(url, gate, sql_settings | services, make_result)
        for number in range(RUNS_EACH):
            for benchmark in BENCHMARKS:
                await running.push(number, benchmark)
        yield running
        await gate.hold(None)


@on_every_engine
async def test_all_rows_come_out_bit_by_bit_as_they_were(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    async with house.analysis() as analysis:
        await analysis.done()
        content = await analysis.content()
        for benchmark in BENCHMARKS:
            await analysis.spoil(benchmark)
        assert await analysis.content() != content
        assert await analysis.rebuild() == 0
        assert await analysis.content() == content
    told = capsys.readouterr()
    assert "applying 6 results anew; answers stay right meanwhile" in told.err
    assert "6 results applied anew in" in told.out
    assert "everything is applied, up to entry 6 of the feed" in told.out


@on_every_engine
async def test_one_benchmark_leaves_the_others_alone(house: House) -> None:
    async with house.analysis() as analysis:
        await analysis.done()
        content = await analysis.content()
        for benchmark in BENCHMARKS:
            await analysis.spoil(benchmark)
        assert await analysis.rebuild(benchmark="aime") == 0
        sums = SUMS.get_table_name()
        assert len(set(content[sums]) - set((await analysis.content())[sums])) == RUNS_EACH
        assert await analysis.rebuild(benchmark="mmlu") == 0
        assert await analysis.content() == content


@on_every_engine
async def test_readers_are_answered_and_new_results_appear_meanwhile(house: House) -> None:
    async with house.analysis() as analysis:
        await analysis.done()
        before = await analysis.ask()
        await house.gate.hold("mmlu-r1")
        looking_on = asyncio.create_task(analysis.rebuild())
        await until(lambda: _has_left(analysis, 4))
        assert (await analysis.ask())["rows"] == before["rows"]
        await house.push(RUNS_EACH, "mmlu")
        await house.gate.hold("mmlu-r2")  # after a page of the rebuild, and what is new
        await until(lambda: _has_runs(analysis, RUNS_EACH + 1))
        assert (await analysis.state()).outdated == 2
        assert not looking_on.done()
        await house.gate.hold(None)
        assert await looking_on == 0


@pytest.mark.parametrize("sql_settings", ["mariadb", "mysql"], indirect=True)
async def test_tables_split_as_scaling_says(house: House) -> None:
    """The statements of the page as they stand there, at numbers that runs have here."""
    page = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text(encoding="utf-8")
    text = "".join(re.findall(r"^```sql\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE))
    for number, run_no in ((100_000, 3), (200_000, 5), (300_000, 7)):
        assert str(number) in text
        text = text.replace(str(number), str(run_no))
    async with house.analysis() as analysis:
        await analysis.done()
        content = await analysis.content()
        database: Database = analysis.app.state.reader.database
        async with database.alone("splitting") as session:
            for statement in text.split(";\n")[:-1]:
                await session.define(statement)
        assert await analysis.content() == content
        await analysis.spoil("mmlu")
        assert await analysis.rebuild() == 0
        assert await analysis.content() == content
        await house.push(RUNS_EACH, "mmlu")
        await until(lambda: _has_runs(analysis, RUNS_EACH + 1))
        options = CheckOptions(house.results_url, analysis.url)
        assert await asyncio.to_thread(run_check, options) == 0


async def test_it_goes_on_after_a_restart(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    async with house.analysis() as analysis:
        await analysis.done()
        content = await analysis.content()
        await analysis.spoil("mmlu")
        await house.gate.hold("mmlu-r1")
        assert (await analysis.post({})).status_code == 202
        await until(lambda: _has_left(analysis, 4))
    async with house.analysis() as analysis:
        assert (await analysis.state()).outdated == 4
        await house.gate.hold(None)
        assert await analysis.rebuild(only_watch=True) == 0
        assert await analysis.content() == content
    assert "everything is applied, up to entry 6 of the feed" in capsys.readouterr().out


@on_every_engine
async def test_it_goes_on_after_the_service_was_killed(
    house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with house.analysis() as analysis:
        await analysis.done()
        content = await analysis.content()
        await analysis.spoil("aime")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    process = house.start_process(port, tmp_path / "log")
    try:
        await until(lambda: _answers(url))
        await house.gate.hold("mmlu-r1")
        killed = Analysis(url, analysis.app)
        looking_on = asyncio.create_task(killed.rebuild(patience_s=30))
        await until(lambda: _has_left(killed, 4))
        process.kill()
        process.wait(30)
        await house.gate.hold(None)
        process = house.start_process(port, tmp_path / "log")
        assert await looking_on == 0
    finally:
        process.terminate()
        process.wait(30)
    told = capsys.readouterr()
    assert "trying again for up to 30 s" in told.err
    assert "the service answers again" in told.err
    assert "6 results applied anew" in told.out
    async with house.analysis() as analysis:
        await analysis.done()
        assert await analysis.content() == content


async def test_another_one_meanwhile_begins_anew_and_ends(house: House) -> None:
    async with house.analysis() as analysis:
        await analysis.done()
        content = await analysis.content()
        await house.gate.hold("mmlu-r2")
        assert RebuildState.model_validate_json((await analysis.post({})).content).outdated == 6
        await until(lambda: _has_left(analysis, 2))
        assert RebuildState.model_validate_json((await analysis.post({})).content).outdated == 6
        await analysis.spoil("mmlu")
        await house.gate.hold(None)
        await analysis.done()
        assert await analysis.content() == content


async def test_an_empty_store_fills_and_that_can_be_watched(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    async with house.analysis() as analysis:
        assert await analysis.rebuild(only_watch=True, as_json=True) == 0
        told = capsys.readouterr().out
        document, _ = json.JSONDecoder().raw_decode(told, told.index("{\n"))  # the service logs beside it
        assert (document["done"], document["rebuilt"], document["state"]["position"]) == (True, 0, 6)
        assert document["state"]["answers_applied"] == 6 * ANSWERS_EACH


async def test_what_stands_in_the_way_is_told(
    house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rebuild_command, "TROUBLE_S", 0.1)
    async with house.analysis() as analysis:
        await analysis.done()

        async def fail(*_: Any) -> None:
            raise RuntimeError("the disk is on fire")

        monkeypatch.setattr(analysis.app.state.reconciler.projection, "reapply", fail)
        assert await analysis.rebuild(patience_s=1) == 1
    told = capsys.readouterr()
    assert "the disk is on fire; it tries again by itself" in told.err
    assert "the disk is on fire (nothing has moved for 1 s)" in told.err
    assert "not all is applied: 6 results left to apply anew" in told.out


async def test_interrupting_only_stops_the_looking_on(
    house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    async with house.analysis() as analysis:
        await analysis.done()
        await house.gate.hold("mmlu-r0")
        with monkeypatch.context() as patched:
            patched.setattr(rebuild_command, "sleep", interrupt)
            assert await analysis.rebuild() == INTERRUPTED
        assert "See it with 'scorehouse rebuild --watch'" in capsys.readouterr().err
        assert (await analysis.state()).outdated == 6
        await house.gate.hold(None)
        await analysis.done()


async def test_an_unknown_benchmark_is_refused(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    async with house.analysis() as analysis:
        await analysis.done()
        answer = await analysis.post({"benchmark": "mmul"})
        assert answer.status_code == 422
        assert "mmlu" in answer.json()["detail"]
        assert (await analysis.post({"benchmark": "mmlu", "sums": True})).status_code == 422
        assert await analysis.rebuild(benchmark="mmul") == 1
        assert await analysis.rebuild(benchmark="a/b") == 1
        assert (await analysis.state()).outdated == 0
    assert "'mmul'" in capsys.readouterr().err


async def test_it_needs_a_key_with_the_scope_admin(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(
        "".join(
            f'[[keys]]\nid = "{key}"\nscopes = ["{scope}"]\nsha256 = "{sha256(key.encode()).hexdigest()}"\n'
            for key, scope in KEYS.items()
        )
    )
    async with house.analysis(auth="keys", api_keys_file=file) as analysis:
        for key, status in ((None, 401), ("nobody", 401), ("reader", 403), ("admin", 202)):
            assert (await analysis.post({}, key)).status_code == status
            monkeypatch.setenv("SCOREHOUSE_API_KEY", key or "")
            for only_watch in (False, True):
                assert await analysis.rebuild(only_watch=only_watch) == (0 if status == 202 else 1)
        assert capsys.readouterr().err.count("'rebuild' needs an API key with the scope admin") == 6


async def _has_left(analysis: Analysis, outdated: int) -> bool:
    return (await analysis.state()).outdated == outdated


async def _has_runs(analysis: Analysis, number: int) -> bool:
    return len((await analysis.ask())["runs"]) == number


async def _answers(url: str) -> bool:
    async with httpx.AsyncClient() as client:
        try:
            return (await client.get(f"{url}/health")).status_code == 200
        except httpx.TransportError:
            return False
