"""Live pushes against real services: an evaluation of Inspect, a service that is away, a process that is killed."""

import asyncio
import os
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from results_service.app import create_app
from results_service.settings import ResultsSettings
from scorehouse.blocking import Scorehouse
from scorehouse.inspect_live import LiveEvaluation, journal_name
from scorehouse.live_journal import Journal, journal_folder, journals
from scorehouse.live_replay import Replayed, replay
from scorehouse.live_sender import LiveSender
from scorehouse.retries import Retries
from scorehouse.spool import Spool
from shared.formats.tree import read_tree
from shared.imports import ImportReport
from shared.registry.load import load_registry
from shared.results import StoreStatus
from tests.api.conftest import Stack, until
from tests.inspect_files import PLAN, inspect_sample, inspect_spec, write_inspect_log

REGISTRY = load_registry()


def evaluation(spool: Spool, spec: dict[str, Any]) -> LiveEvaluation:
    """An evaluation that begins."""
    journal = Journal.create(journal_folder(spool), journal_name(spec))
    assert journal is not None
    return LiveEvaluation(spec, PLAN, REGISTRY, journal)


def sender(url: str, spool: Spool, told: list[str]) -> LiveSender:
    return LiveSender(url, spool, told.append, every_s=0.02)


def url_of(stack: Stack) -> str:
    return str(stack.results.base_url)


async def import_files_of(stack: Stack, path: Path) -> ImportReport:
    """Import a file, or all in a folder."""
    files = await asyncio.to_thread(
        lambda: [(file.path, file.location.read_bytes()) for file in read_tree(path).values()]
    )
    answer = await stack.results.post("/import", files=[("files", file) for file in files])
    assert answer.status_code == 200, answer.text
    return ImportReport.model_validate_json(answer.content)


async def live_runs(stack: Stack) -> dict[str, tuple[str, int]]:
    """State and questions of each, by run id."""
    items = (await stack.results.get("/live_runs")).json()["items"]
    return {item["run_id"]: (item["state"], item["questions"]) for item in items}


async def replayed(url: str, spool: Spool, told: list[str] | None = None) -> Replayed:
    def send() -> Replayed:
        with Scorehouse(url, retries=Retries(patience_s=0)) as house:
            return replay(house, spool, (told if told is not None else []).append)

    return await asyncio.to_thread(send)


async def test_an_evaluation_is_seen_while_it_goes_on_and_importing_its_log_changes_nothing(
    stack: Stack, tmp_path: Path
) -> None:
    ids = [3, 1, 10, 2]
    spec = inspect_spec(ids, epochs=2)
    samples = [
        inspect_sample(id_, epoch=epoch, value="C" if id_ > 2 else "I", error={"message": "x"} if id_ == 1 else None)
        for epoch in (1, 2)
        for id_ in ids
    ]
    ended = random.Random(7).sample(samples, len(samples))
    spool, told = Spool(tmp_path / "spool"), list[str]()
    live = evaluation(spool, spec)
    sending = sender(url_of(stack), spool, told)
    sending.start()
    sending.follow(live.push)

    for sample in ended[:5]:
        await asyncio.to_thread(live.add, sample)

    async def five_are_there() -> bool:
        return (await live_runs(stack)) == {"ev1": ("live", 5)}

    await until(five_are_there)
    await stack.settle()
    answer = (await stack.analyze(benchmark="math500", level1="model", live=True)).json()
    assert [(run["partial"], run["live"]) for run in answer["runs"]] == [(True, True)]
    assert answer["rows"][0]["n"] == 5
    assert (await stack.analyze(benchmark="math500", level1="model")).json()["rows"] == []

    for sample in ended[5:]:
        await asyncio.to_thread(live.add, sample)
    log = write_inspect_log(tmp_path / "log.json", spec, samples)
    await asyncio.to_thread(live.finish, log)
    await asyncio.to_thread(sending.end, live.push)
    await asyncio.to_thread(sending.stop)
    assert told[-1].endswith("is stored")
    assert journals(spool) == []
    await stack.settle()
    answer = (await stack.analyze(benchmark="math500", level1="model")).json()
    assert (answer["rows"][0]["n"], answer["runs"][0]["live"]) == (8, False)

    report = await import_files_of(stack, log)
    assert report.complete
    [run] = report.findings[0].runs
    assert (run.status, run.questions) == (StoreStatus.UNCHANGED, 8)
    assert (await import_files_of(stack, log)).findings[0].runs[0].status is StoreStatus.UNCHANGED
    assert await live_runs(stack) == {"ev1": ("finished", 8)}


@pytest.mark.parametrize("fault", ["failed", "edited", "reused", "imported meanwhile", "refused"])
async def test_where_the_finished_log_says_something_else_it_is_what_counts(
    stack: Stack, tmp_path: Path, fault: str
) -> None:
    spec = inspect_spec([1, 2, 3])
    samples = [inspect_sample(id_) for id_ in (1, 2, 3)]
    spool, told = Spool(tmp_path / "spool"), list[str]()
    live = evaluation(spool, spec)
    sending = sender(url_of(stack), spool, told)
    for sample in samples[1:] if fault == "reused" else samples:
        live.add(sample)

    def send() -> None:
        with Scorehouse(url_of(stack)) as house:
            live.push.send(house)

    await asyncio.to_thread(send)
    if fault in ("edited", "refused"):
        samples[0] = inspect_sample(1, value="I")
    log = write_inspect_log(tmp_path / "log.json", spec, samples, status="error" if fault == "failed" else "success")
    if fault in ("imported meanwhile", "refused"):  # a folder is watched, too; or the scores were mended and imported
        await import_files_of(stack, log)
    await asyncio.to_thread(live.finish, log)
    await asyncio.to_thread(sending.end, live.push)

    assert journals(spool) == []
    states = await live_runs(stack)
    assert states["ev1"][0] == ("finished" if fault == "reused" else "discarded")
    report = await import_files_of(stack, log)
    [run] = report.findings[0].runs
    assert (run.status, run.questions) == (StoreStatus.UNCHANGED, 3)
    await stack.settle()
    answer = (await stack.analyze(benchmark="math500", level1="run", live=True, runs="all")).json()
    assert [row["run"] for row in answer["rows"]] == [run.result_name]


class Service:
    """A results service on one port, which can be stopped and started again."""

    def __init__(self, app_settings: ResultsSettings) -> None:
        self._settings = app_settings
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[httpx.AsyncClient]:
        app: FastAPI = create_app(self._settings)
        server = uvicorn.Server(uvicorn.Config(app, port=self.port, log_config=None, lifespan="on"))
        task = asyncio.create_task(server.serve())

        async def has_started() -> bool:
            return server.started or task.done()

        await until(has_started)
        async with httpx.AsyncClient(base_url=self.url) as client:
            yield client
        server.should_exit = True
        await task


@pytest.fixture
def service(mongo_url: str, mongo_database: str) -> Service:
    """A service that does not run yet."""
    return Service(ResultsSettings(mongo_url=mongo_url, mongo_database=mongo_database, auth="disabled"))


async def stored_questions(client: httpx.AsyncClient) -> dict[str, list[str]]:
    """The question ids of each standardized result, in its order."""
    items = (await client.get("/standardized_output")).json()["items"]
    found = {}
    for item in items:
        data = (await client.get(f"/standardized_output/{item['result_name']}")).json()["data"]
        found[item["run_id"]] = [question["question_id"] for question in data["questions"]]
    return found


async def test_a_service_that_is_away_at_the_start_in_the_middle_and_at_the_end_misses_nothing(
    service: Service, tmp_path: Path
) -> None:
    ids = list(range(1, 9))
    spec, samples = inspect_spec(ids), [inspect_sample(id_) for id_ in ids]
    spool, told = Spool(tmp_path / "spool"), list[str]()
    sending = sender(service.url, spool, told)
    sending.start()
    live = evaluation(spool, spec)
    sending.follow(live.push)

    async def is_told(what: str) -> None:
        async def said() -> bool:
            return any(what in text for text in told)

        await until(said)
        told.clear()

    for sample in samples[:3]:
        await asyncio.to_thread(live.add, sample)
    await is_told("cannot reach")
    async with service.running() as client:
        await is_told("answers again")
        assert (await client.get("/live_runs")).json()["items"][0]["questions"] == 3
    for sample in samples[3:]:
        await asyncio.to_thread(live.add, sample)
    await is_told("what ends is kept")
    await asyncio.to_thread(live.finish, write_inspect_log(tmp_path / "log.json", spec, samples))
    await asyncio.to_thread(sending.end, live.push)
    await is_told(f"waits in {spool.folder}")
    await asyncio.to_thread(sending.stop)

    async with service.running() as client:
        again = sender(service.url, spool, told)
        again.start()
        await is_told("left by an earlier process, and is stored")
        await asyncio.to_thread(again.stop)
        assert await stored_questions(client) == {"ev1": [str(id_) for id_ in ids]}
    assert journals(spool) == []


_KILLED = """
import os, signal, sys
from pathlib import Path
from scorehouse.blocking import Scorehouse
from scorehouse.spool import Spool
from tests.api.test_live_push import evaluation
from tests.inspect_files import inspect_sample, inspect_spec
url, folder = sys.argv[1:]
live = evaluation(Spool(Path(folder)), inspect_spec(range(1, 7)))
with Scorehouse(url) as house:
    for id_ in (1, 2, 5):
        live.add(inspect_sample(id_))
    live.push.send(house)
    for id_ in (3, 6):
        live.add(inspect_sample(id_))
    os.kill(os.getpid(), signal.SIGKILL)
"""


async def run_killed(url: str, folder: Path) -> None:
    """Three samples are sent, two more end, then it is killed."""
    root = Path(__file__).parents[2]
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _KILLED, url, str(folder), cwd=root)
    assert await process.wait() == -signal.SIGKILL


async def test_what_ended_before_a_kill_is_sent_by_whoever_comes_next(stack: Stack, tmp_path: Path) -> None:
    spool, told = Spool(tmp_path / "spool"), list[str]()
    await run_killed(url_of(stack), spool.folder)
    assert await live_runs(stack) == {"ev1": ("live", 3)}
    assert (await replayed(url_of(stack), spool, told)).done == 1
    assert "is partial" in told[0]
    assert await live_runs(stack) == {"ev1": ("live", 5)}
    assert (await replayed(url_of(stack), spool)).done == 0
    name = (await stack.results.get("/live_runs")).json()["items"][0]["result_name"]
    questions = (await stack.results.get(f"/live_runs/{name}/questions")).json()["data"]["questions"]
    assert [question["question_id"] for question in questions] == ["1", "2", "3", "5", "6"]


async def test_flush_sends_what_a_kill_left(stack: Stack, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    await run_killed(url_of(stack), spool.folder)
    code, listed = await command("spool", "list", "--spool-dir", str(spool.folder))
    assert (code, "1 run in" in listed) == (0, True), listed
    flush = ("spool", "flush", "--spool-dir", str(spool.folder), "--patience", "0")
    code, told = await command(*flush, "--url", "http://127.0.0.1:9")
    assert (code, "1 run waiting" in told) == (1, True), told
    code, told = await command(*flush, "--url", url_of(stack))
    assert (code, "is partial" in told) == (0, True), told
    assert await live_runs(stack) == {"ev1": ("live", 5)}
    assert journals(spool) == []


async def command(*words: str, **environment: str) -> tuple[int, str]:
    """Exit code and all that `scorehouse` printed."""

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "scorehouse", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **environment},
    )
    printed, _ = await process.communicate()
    return process.returncode or 0, printed.decode()


async def test_a_journal_that_the_service_refuses_is_put_aside_with_the_reason(stack: Stack, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    live = evaluation(spool, inspect_spec([1]))
    live.push.open(live.push.envelope, 1, may_open=True)  # type: ignore[arg-type]
    live.push.add(0, b'{"question_id":"1","score":7}')
    live.push.journal.close()
    found = await replayed(url_of(stack), spool)
    [rejected] = found.rejected
    assert rejected.exists()
    assert journals(spool) == []
    code, listed = await command("spool", "list", "--spool-dir", str(spool.folder))
    assert (code, "outside" in listed or "scale" in listed) == (0, True), listed
