"""The feed's consumer against a results service that misbehaves; the network is what is tested, so it is mocked."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import respx

from analysis_service.database.sqlite import open_sqlite
from analysis_service.projection import consumer
from analysis_service.projection.apply import Projection
from analysis_service.projection.consumer import Progress, follow_feed
from analysis_service.projection.feed_client import FeedClient, FeedUnavailable, open_feed
from analysis_service.queries.tables import APPLIED
from analysis_service.schema import prepare_schema
from shared.registry.load import load_registry
from tests.documents import document, make_answer

URL = "http://results"
REGISTRY = load_registry()


@dataclass
class FakeResults:
    """A results service whose feed is a list of lines."""

    entries: list[dict[str, object]] = field(default_factory=list)
    documents: dict[str, bytes] = field(default_factory=dict)
    away: bool = False
    asked: int = 0
    fetched: list[str] = field(default_factory=list)

    def add(self, run_id: str, *, kind: str = "result", seq: int | None = None, live: str | None = None) -> None:
        body = document([make_answer("q1", 1.0)], run_id=run_id, live=live)
        name = json.loads(body)["result_name"]
        href = f"/standardized_output/{name}" if live is None else f"/live_runs/{name}/questions"
        self.documents[href] = body
        seq = len(self.entries) + 1 if seq is None else seq
        self.entries.append({"seq": seq, "kind": kind, "result_name": name, "sha256": "0", "href": href})

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if self.away:
            raise httpx.ConnectError("refused")
        if request.url.path == "/feed":
            after = int(request.url.params["after"])
            lines = [json.dumps(entry) for entry in self.entries if int(str(entry["seq"])) > after]
            return httpx.Response(200, text="\n".join(lines), headers={"Feed-Head": str(len(self.entries))})
        self.fetched.append(request.url.path)
        if request.url.path in self.documents:
            return httpx.Response(200, content=self.documents[request.url.path])
        return httpx.Response(404, text="not found")


@pytest.fixture
def fake() -> Iterator[FakeResults]:
    results = FakeResults()
    with respx.mock(base_url=URL) as router:
        router.route().mock(side_effect=results.answer)
        yield results


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(consumer, "LONGEST_PAUSE_S", 0.05)


@asynccontextmanager
async def following(file: Path) -> AsyncIterator[Progress]:
    progress = Progress()
    async with open_sqlite(file) as database, open_feed(URL, None) as feed:
        await prepare_schema(database, REGISTRY)
        task = asyncio.create_task(
            follow_feed(feed, Projection(database, REGISTRY.hash), REGISTRY, progress, wait_s=0.01)
        )
        try:
            yield progress
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def reached(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_entries_are_applied_in_order_and_lag_is_told(fake: FakeResults, tmp_path: Path) -> None:
    for number in range(20):
        fake.add(f"r{number}")
    async with following(tmp_path / "a") as progress:
        await reached(lambda: progress.position == 20)
        assert progress.lag == 0
        fake.away = True
        await reached(lambda: progress.lag is None)
        fake.add("late")
        fake.away = False
        await reached(lambda: progress.position == 21)


async def test_of_the_parts_on_a_page_only_a_live_runs_last_is_fetched(fake: FakeResults, tmp_path: Path) -> None:
    for number in range(20):
        fake.add("a", kind="part", live="live")
        fake.add("b", kind="part", live="live")
        fake.add(f"r{number}")
    fake.add("b", kind="finished")
    fake.add("c", kind="part", live="finished")
    fake.add("d", kind="finished")
    fake.add("d", kind="part", live="finished")  # its sender was slow
    async with following(tmp_path / "a") as progress:
        await reached(lambda: progress.position == 64)
        assert len([path for path in fake.fetched if "live_runs" in path]) == 3
        assert len(fake.fetched) == 25
        fake.add("a", kind="discarded", live="discarded")
        await reached(lambda: progress.position == 65)
    async with open_sqlite(tmp_path / "a") as database, database.snapshot() as session:
        names = await session.fetch(database.dialect.query.from_(APPLIED).select(APPLIED.result_name), "rows of a test")
    assert len(names) == 22, "twenty results, b and d; a is discarded, of c the result is still to come"


async def test_an_unknown_kind_stops_visibly_and_is_not_skipped(fake: FakeResults, tmp_path: Path) -> None:
    fake.add("known")
    fake.add("strange", kind="renamed")
    fake.add("behind it")
    async with following(tmp_path / "a") as progress:
        await reached(lambda: progress.stopped)
        assert progress.stopped is not None
        assert "kind 'renamed'" in progress.stopped
        assert "upgrade" in progress.stopped
        assert progress.position == 1
        fake.entries[1]["kind"] = "result"  # as an upgrade would make it understood
        await reached(lambda: progress.position == 3)
        assert progress.stopped is None


async def test_a_gap_is_not_read_over(fake: FakeResults, tmp_path: Path) -> None:
    fake.add("first")
    fake.add("third", seq=3)
    async with open_feed(URL, None) as feed:
        with pytest.raises(FeedUnavailable, match="the feed has 3 where 2 is due"):
            await feed.read(after=0, wait_s=0)
    async with following(tmp_path / "a") as progress:
        await reached(lambda: progress.position == 0)
        assert progress.head is None
        del fake.entries[1]
        fake.add("second")
        await reached(lambda: progress.position == 2)


async def test_a_feed_that_ends_before_what_was_applied_is_another(fake: FakeResults, tmp_path: Path) -> None:
    for number in range(3):
        fake.add(f"r{number}")
    async with following(tmp_path / "a") as progress:
        await reached(lambda: progress.position == 3)
        kept = fake.entries.pop()
        await reached(lambda: progress.head is None)
        assert progress.lag is None
        fake.entries.append(kept)
        await reached(lambda: progress.lag == 0)


async def test_what_was_decided_under_another_registry_is_applied_anew_in_batches(
    fake: FakeResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "REAPPLY_PAGE", 2)
    for number in range(5):
        fake.add(f"r{number}")
    async with following(tmp_path / "a") as progress:
        await reached(lambda: progress.position == 5)
    async with open_sqlite(tmp_path / "a") as database, database.transaction() as session:
        await session.execute(database.dialect.query.update(APPLIED).set(APPLIED.registry_hash, "former"))
    fingerprints = {name: spec.fingerprint for name, spec in REGISTRY.benchmarks.items()}
    async with following(tmp_path / "a") as progress:
        await reached(progress.started.is_set)
        assert progress.results_applied == 5
    async with open_sqlite(tmp_path / "a") as database:
        assert await Projection(database, REGISTRY.hash).outdated(fingerprints, after=0, limit=10) == []


async def test_an_instance_whose_registry_is_not_the_newest_says_so(fake: FakeResults, tmp_path: Path) -> None:
    async with following(tmp_path / "a") as progress, open_sqlite(tmp_path / "a") as database:
        await reached(lambda: progress.position == 0)
        await Projection(database, "newer").take_over()
        fake.add("r1")
        await reached(lambda: progress.stopped)
        assert "registry was started later" in str(progress.stopped)
        assert progress.position == 0
        await Projection(database, REGISTRY.hash).take_over()
        await reached(lambda: progress.position == 1)
        await reached(lambda: progress.stopped is None)


async def test_the_registry_is_taken_over_once_however_often_the_start_fails(fake: FakeResults, tmp_path: Path) -> None:
    fake.add("r1")
    async with following(tmp_path / "a") as progress:
        await reached(lambda: progress.position == 1)
    async with open_sqlite(tmp_path / "a") as database, database.transaction() as session:
        await session.execute(database.dialect.query.update(APPLIED).set(APPLIED.registry_hash, "former"))
    fake.away = True  # the start cannot finish: what is outdated cannot be fetched
    async with following(tmp_path / "a") as progress, open_sqlite(tmp_path / "a") as database:
        await reached(lambda: fake.asked > 3)
        await Projection(database, "newer").take_over()
        fake.away = False
        await reached(lambda: progress.stopped)
        assert "registry was started later" in str(progress.stopped)


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(500, text="broken"),
        httpx.Response(200, text="<html>", headers={"Feed-Head": "1"}),
        httpx.Response(200, text='{"seq": "x"}', headers={"Feed-Head": "1"}),
        httpx.Response(200, text=""),
        httpx.Response(401, text="no key"),
    ],
)
async def test_what_is_not_a_feed_is_unavailable(response: httpx.Response) -> None:
    with respx.mock(base_url=URL) as router:
        router.get("/feed").mock(return_value=response)
        async with httpx.AsyncClient(base_url=URL) as http:
            with pytest.raises(FeedUnavailable):
                await FeedClient(http).read(after=0, wait_s=0)


async def test_the_key_is_sent() -> None:
    with respx.mock(base_url=URL) as router:
        route = router.get("/feed").mock(return_value=httpx.Response(200, headers={"Feed-Head": "0"}))
        async with open_feed(URL, "secret") as feed:
            await feed.read(after=0, wait_s=0)
        assert route.calls.last.request.headers["authorization"] == "Bearer secret"


@pytest.mark.parametrize("answer", [b"<html>", None], ids=["unreadable", "absent"])
async def test_what_cannot_be_applied_anew_is_named_and_keeps_nothing_new_waiting(
    fake: FakeResults, tmp_path: Path, answer: bytes | None
) -> None:
    for number in range(3):
        fake.add(f"r{number}")
    async with following(tmp_path / "a") as progress:
        await reached(lambda: progress.position == 3)
    async with open_sqlite(tmp_path / "a") as database, database.transaction() as session:
        await session.execute(database.dialect.query.update(APPLIED).set(APPLIED.registry_hash, "former"))
    href = str(fake.entries[1]["href"])
    whole = fake.documents.pop(href)
    if answer is not None:
        fake.documents[href] = answer
    async with following(tmp_path / "a") as progress:
        await reached(lambda: progress.stopped)
        assert "-r1" in str(progress.stopped)
        fake.add("new")
        await reached(lambda: progress.position == 4)
        assert not progress.started.is_set()
        fake.documents[href] = whole
        await reached(progress.started.is_set)
        await reached(lambda: progress.stopped is None)
