"""The projection against the feed of a real results service, on every engine: each way in which they can differ."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
from pypika import Table

from analysis_service import reconcile
from analysis_service.database import Database, Row
from analysis_service.projection.answers import pack_scores, unpack_scores
from analysis_service.projection.apply import Projection
from analysis_service.projection.consumer import Progress, follow_feed
from analysis_service.projection.feed_client import FeedClient
from analysis_service.projection.prepare import prepare_run
from analysis_service.projection.removal import StrayRows, go_back, remove_result, remove_stray
from analysis_service.queries.tables import ANSWERS, APPLIED, FEED_STATE, RUNS, SUMS, BenchmarkTables
from analysis_service.reconcile import Mending, Reconciler
from analysis_service.schema import prepare_schema
from results_service.corrections import correct
from shared.problems import StoreUnavailable
from shared.reconciliation import Reconciliation
from shared.registry.load import load_registry
from shared.results import CorrectionAction, CorrectionRequest, ResultKind
from tests.conftest import ResultsUnderTest
from tests.store.conftest import OpenStore

REGISTRY = load_registry()
TABLES = BenchmarkTables("mmlu")
RESULTS = 10

MakeResult = Callable[..., dict[str, Any]]


def name(number: int) -> str:
    return f"2024-01-01T12:00:00Z-mmlu-r{number}"


@dataclass(frozen=True)
class Pair:
    """A results service, and a projection that has applied its feed."""

    results: ResultsUnderTest
    database: Database
    make_result: MakeResult

    @property
    def feed(self) -> FeedClient:
        return FeedClient(self.results.client)

    @property
    def reconciler(self) -> Reconciler:
        return Reconciler(self.database, Projection(self.database, REGISTRY.hash), self.feed, REGISTRY)

    async def push(self, number: int, **changes: Any) -> None:
        document = self.make_result(run_id=f"r{number}", **changes)
        response = await self.results.client.post("/standardized_output", json=document)
        assert response.status_code == 201, response.text

    async def correct(self, number: int, action: CorrectionAction) -> None:
        request = CorrectionRequest(author="tests", reason="tests")
        state = self.results.app.state
        await correct(state.mongo, state.feed, ResultKind.STANDARDIZED, name(number), action, request, None)

    async def catch_up(self, projection: Projection | None = None) -> None:
        """Apply the whole feed."""
        progress = Progress()
        projection = projection or Projection(self.database, REGISTRY.hash)
        task = asyncio.create_task(follow_feed(self.feed, projection, REGISTRY, progress, wait_s=0.01))
        head = (await self.feed.read(after=0, wait_s=0)).head
        async with asyncio.timeout(20):
            while progress.position != head:
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def compare(self, mending: Mending = Mending.NONE, *, sums: bool = True) -> Reconciliation:
        report = None
        async for line in self.reconciler.compare(mending, sums=sums):
            report = line.report
        assert report is not None
        return report

    async def change(self, *queries: Any) -> None:
        async with self.database.transaction() as session:
            for query in queries:
                await session.execute(query)

    def delete(self, table: Table, condition: Any) -> Any:
        return self.database.dialect.query.from_(table).delete().where(condition)

    def update(self, table: Table, column: str, value: object, condition: Any) -> Any:
        return self.database.dialect.query.update(table).set(table[column], value).where(condition)

    async def run_no(self, number: int) -> int:
        async with self.database.snapshot() as session:
            query = self.database.dialect.query.from_(RUNS).select(RUNS.run_no)
            return int((await session.fetch(query.where(RUNS.result_name == name(number)), "rows of a test"))[0][0])

    async def version(self) -> Row:
        async with self.database.snapshot() as session:
            query = self.database.dialect.query.from_(FEED_STATE).select(FEED_STATE.position, FEED_STATE.version)
            return (await session.fetch(query, "rows of a test"))[0]

    async def content(self) -> dict[str, list[Row]]:
        """All that answers are made of, runs by their results' names."""
        names = {await self.run_no(number): name(number) for number in range(RESULTS) if number not in (3, 4)}
        found: dict[str, list[Row]] = {}
        async with self.database.snapshot() as session:
            for table, columns in (
                (APPLIED, ["result_name", "seq", "sha256", "href", "state"]),
                (RUNS, ["run_no", "result_name", "seq", "n_answers", "score_sum"]),
                (ANSWERS, ["run_no", "scores", "packed"]),
                (SUMS, ["run_no", "scores", "costs"]),
            ):
                rows = await session.fetch(
                    self.database.dialect.query.from_(table).select(*(table[column] for column in columns)),
                    "rows of a test",
                )
                found[table.get_table_name()] = sorted(
                    ((names.get(row[0], row[0]), *row[1:]) for row in rows), key=repr
                )
        return found


def found(report: Reconciliation) -> dict[str, int]:
    """Reason → how often."""
    return {finding.reason: finding.found for finding in report.findings}


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that every test has several of them."""
    monkeypatch.setattr(reconcile, "FEED_PAGE", 4)
    monkeypatch.setattr(reconcile, "RUNS_PAGE", 3)
    monkeypatch.setattr(reconcile, "START_PAUSE_S", 0.01)
    monkeypatch.setattr(reconcile, "PATIENCE_S", 0.0)


@pytest.fixture
async def pair(results: ResultsUnderTest, store: Database, make_result: MakeResult) -> Pair:
    """r0 to r9 applied (seq 1 to 10); r3 invalidated (11), r2 that and restored (12, 13); r4 is parked."""
    await prepare_schema(store, REGISTRY)
    made = Pair(results, store, make_result)
    for number in range(RESULTS):
        changes = {"benchmark_name": "unheard-of"} if number == 4 else {}
        await made.push(number, **changes)
    await made.correct(3, CorrectionAction.INVALIDATED)
    await made.correct(2, CorrectionAction.INVALIDATED)
    await made.correct(2, CorrectionAction.RESTORED)
    await made.catch_up()
    return made


async def mended(pair: Pair, differences: dict[str, int], *, by: Mending = Mending.ALL) -> None:
    """The differences are found, nothing is written; they are mended; then there are none, and all is as it was."""
    before = await pair.version()
    assert found(await pair.compare()) == differences
    assert await pair.version() == before
    report = await pair.compare(by)
    assert report.remaining == 0, report
    assert found(await pair.compare()) == {}


async def test_what_agrees_is_left_alone(pair: Pair) -> None:
    before, content = await pair.version(), await pair.content()
    report = await pair.compare(Mending.ALL)
    assert (report.differences, report.results, report.entries) == (0, RESULTS, 13)
    assert await pair.version() == before
    assert await pair.content() == content


async def test_an_empty_projection_agrees(results: ResultsUnderTest, store: Database, make_result: MakeResult) -> None:
    await prepare_schema(store, REGISTRY)
    pair = Pair(results, store, make_result)
    await pair.push(1)
    assert found(await pair.compare()) == {}, "what is not applied yet is for the consumer"


@pytest.mark.parametrize("number", [0, 2, 3, 4, 9])
async def test_a_lost_result_is_applied_anew(pair: Pair, number: int) -> None:
    content = await pair.content()
    lost = name(number) if number != 4 else name(4).replace("mmlu", "unheard-of")
    await pair.change(pair.delete(APPLIED, APPLIED.result_name == lost))
    if number not in (3, 4):  # they have no runs
        assert found(await pair.compare()) == {"not-applied": 1, "stray-rows": 1}
        await pair.change(pair.delete(RUNS, RUNS.result_name == lost))
        assert found(await pair.compare()) == {"not-applied": 1, "stray-rows": 2}
        await mended(pair, {"not-applied": 1, "stray-rows": 2}, by=Mending.REAPPLY)
    else:
        await mended(pair, {"not-applied": 1}, by=Mending.REAPPLY)
    assert await pair.content() == content


async def test_everything_lost_but_the_position_is_applied_anew(pair: Pair) -> None:
    content = await pair.content()
    query = pair.database.dialect.query
    await pair.change(*(query.from_(table).delete() for table in (APPLIED, RUNS, ANSWERS, SUMS)))
    await mended(pair, {"not-applied": RESULTS}, by=Mending.REAPPLY)
    assert await pair.content() == content


@pytest.mark.parametrize("table", [RUNS, ANSWERS, SUMS], ids=lambda table: table.get_table_name())
async def test_a_run_that_lost_a_part_is_applied_anew(pair: Pair, table: Table) -> None:
    content = await pair.content()
    newest = await pair.run_no(9)
    await pair.change(pair.delete(table, table.run_no == newest))
    # The answers and sums of a run that is gone are still under the number that the next run takes.
    await mended(pair, {"run-damaged": 1} | ({"stray-rows": 2} if table is RUNS else {}), by=Mending.REAPPLY)
    assert await pair.content() == content


@pytest.mark.parametrize("column", ["scores", "costs"])
async def test_sums_cut_short_are_made_anew(pair: Pair, column: str) -> None:
    content = await pair.content()
    async with pair.database.transaction() as session:
        await session.execute(pair.delete(SUMS, SUMS.run_no == await pair.run_no(5)))
        parts = {"scores": b"\0" * 72, "costs": b"\0" * 64} | {column: b"\0" * 8}
        await session.insert(SUMS, ["run_no", *parts], [(await pair.run_no(5), *parts.values())])
    await mended(pair, {"run-damaged": 1, "other-sums": 1}, by=Mending.REAPPLY)
    assert await pair.content() == content


@pytest.mark.parametrize("column", ["scores", "costs"])
async def test_sums_that_are_not_those_of_the_answers_are_made_anew(pair: Pair, column: str) -> None:
    """One number of a blob, by one bit: as damaged memory or a fault of ours would make it."""
    content = await pair.content()
    run_no = await pair.run_no(5)
    async with pair.database.transaction() as session:
        query = pair.database.dialect.query.from_(SUMS).select(SUMS.scores, SUMS.costs).where(SUMS.run_no == run_no)
        [row] = await session.fetch(query, "rows of a test")
        parts = dict(zip(("scores", "costs"), map(bytes, row), strict=True))
        parts[column] = bytes([parts[column][0] ^ 1]) + parts[column][1:]
        await session.execute(pair.delete(SUMS, SUMS.run_no == run_no))
        await session.insert(SUMS, ["run_no", *parts], [(run_no, *parts.values())])
    assert found(await pair.compare(sums=False)) == {}, "nothing is missing"
    await mended(pair, {"other-sums": 1}, by=Mending.REAPPLY)
    assert await pair.content() == content


@pytest.mark.parametrize("column", ["n_scored", "n_questions", "n_cells", "set_no", "score_sum"])
async def test_a_run_that_counts_what_its_answers_do_not_is_made_anew(pair: Pair, column: str) -> None:
    content = await pair.content()
    await pair.change(pair.update(RUNS, column, 7, RUNS.result_name == name(5)))
    report = await pair.compare(Mending.REAPPLY)
    assert (report.differences > 0, report.remaining) == (True, 0)
    assert found(await pair.compare()) == {}
    assert await pair.content() == content


@pytest.mark.parametrize("column", ["scores", "packed"])
async def test_answers_that_cannot_be_read_are_packed_anew(pair: Pair, column: str) -> None:
    content = await pair.content()
    await replace_answers(pair, await pair.run_no(5), column, b"no zstd")
    await mended(pair, {"other-sums": 1}, by=Mending.REAPPLY)
    assert await pair.content() == content


async def test_scores_that_are_not_those_of_the_answers_are_packed_anew(pair: Pair) -> None:
    """Statistics are made of these, sums of the whole."""
    content = await pair.content()
    other = unpack_scores((await replace_answers(pair, await pair.run_no(6), "scores", b""))["scores"])
    changed = pack_scores(replace(other, score=other.score + 1))
    await replace_answers(pair, await pair.run_no(6), "scores", changed)
    assert found(await pair.compare(sums=False)) == {}, "nothing is missing"
    await mended(pair, {"other-sums": 1}, by=Mending.REAPPLY)
    assert await pair.content() == content


async def replace_answers(pair: Pair, run_no: int, column: str, value: bytes) -> dict[str, bytes]:
    """Write a column of a run's answers; what they were before."""
    async with pair.database.transaction() as session:
        query = pair.database.dialect.query.from_(ANSWERS).select(ANSWERS.scores, ANSWERS.packed)
        [row] = await session.fetch(query.where(ANSWERS.run_no == run_no), "rows of a test")
        before = dict(zip(("scores", "packed"), map(bytes, row), strict=True))
        after = before | {column: value}
        await session.execute(pair.delete(ANSWERS, ANSWERS.run_no == run_no))
        await session.insert(ANSWERS, ["run_no", *after], [(run_no, *after.values())])
    return before


@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.parametrize("what", ["combinations", "question_sets", "layouts"])
async def test_what_sums_refer_to_is_written_again(pair: Pair, what: str, place: int) -> None:
    projection = Projection(pair.database, REGISTRY.hash)
    await pair.push(10, data={"questions": [{"question_id": "q1", "score": 1.0, "metadata": {"subject": "law"}}]})
    await pair.catch_up(projection)  # which then knows the numbers by heart
    table = {"combinations": TABLES.combinations, "question_sets": TABLES.question_sets, "layouts": TABLES.layouts}[
        what
    ]
    column = {"combinations": "combination", "question_sets": "set_no", "layouts": "layout_no"}[what]
    async with pair.database.snapshot() as session:
        numbers = await session.fetch(pair.database.dialect.query.from_(table).select(table[column]), "rows of a test")
    lost = sorted(numbers)[place][0]
    await pair.change(pair.delete(table, table[column] == lost))
    reports = [
        line.report
        async for line in Reconciler(pair.database, projection, pair.feed, REGISTRY).compare(
            Mending.REAPPLY, sums=False
        )
    ]
    assert reports[-1] is not None
    assert set(found(reports[-1])) == {"run-damaged"}
    assert (reports[-1].remaining, reports[-1].differences > 0) == (0, True)
    assert found(await pair.compare()) == {}


async def test_a_run_of_an_earlier_entry_is_made_anew(pair: Pair) -> None:
    content = await pair.content()
    await pair.change(pair.update(RUNS, "seq", 1, RUNS.result_name == name(5)))
    await mended(pair, {"run-damaged": 1}, by=Mending.REAPPLY)
    assert await pair.content() == content


async def test_answers_of_a_run_without_any_are_told(pair: Pair) -> None:
    await pair.change(
        pair.update(RUNS, "n_answers", 0, RUNS.result_name == name(5)),
        pair.delete(SUMS, SUMS.run_no == await pair.run_no(5)),
    )
    await mended(pair, {"run-damaged": 1}, by=Mending.REAPPLY)


async def test_what_has_its_place_by_now_is_not_removed(pair: Pair) -> None:
    content = await pair.content()
    projection, dialect = Projection(pair.database, REGISTRY.hash), pair.database.dialect
    assert not await remove_result(projection, dialect, name(5), found=5)
    run_no = await pair.run_no(5)
    assert not await remove_stray(projection, dialect, StrayRows(run_no, ANSWERS, None))
    assert not await remove_stray(projection, dialect, StrayRows(run_no, SUMS, None))
    assert not await remove_stray(projection, dialect, StrayRows(run_no, RUNS, name(5)))
    assert not await go_back(projection, 12, to=3)
    assert await pair.content() == content


async def test_rows_of_no_run_are_removed(pair: Pair) -> None:
    content = await pair.content()
    async with pair.database.transaction() as session:
        await session.insert(ANSWERS, ["run_no", "scores", "packed"], [(500, b"x", b"x")])
        await session.insert(SUMS, ["run_no", "scores", "costs"], [(501, b"", b"")])
    await mended(pair, {"stray-rows": 2}, by=Mending.REAPPLY)
    assert await pair.content() == content


async def test_a_correction_that_was_not_applied_is(pair: Pair) -> None:
    content = await pair.content()
    await pair.change(
        pair.update(APPLIED, "seq", 3, APPLIED.result_name == name(2)),
        pair.update(RUNS, "seq", 3, RUNS.result_name == name(2)),
    )
    await mended(pair, {"outdated": 1}, by=Mending.REAPPLY)
    assert await pair.content() == content


@pytest.mark.parametrize(("number", "state"), [(3, "parked"), (1, "invalidated"), (2, "invalidated")])
async def test_a_wrong_state_is_put_right(pair: Pair, number: int, state: str) -> None:
    content = await pair.content()
    run_no = None if number == 3 else await pair.run_no(number)
    await pair.change(pair.update(APPLIED, "state", state, APPLIED.result_name == name(number)))
    if run_no is not None:
        await pair.change(*(pair.delete(table, table.run_no == run_no) for table in (RUNS, ANSWERS, SUMS)))
    await mended(pair, {"other-state": 1}, by=Mending.REAPPLY)
    assert await pair.content() == content


async def test_a_result_that_was_invalidated_before_it_was_applied_is_right(pair: Pair) -> None:
    await pair.push(20)
    await pair.correct(20, CorrectionAction.INVALIDATED)
    [entry, _] = (await pair.feed.read(after=13, wait_s=0)).entries
    run = await asyncio.to_thread(prepare_run, await pair.feed.fetch(entry.href), REGISTRY)
    await Projection(pair.database, REGISTRY.hash).apply(entry, run)
    assert found(await pair.compare()) == {}, "its entry tells of a valid result, the next one will not"


async def test_another_sha256_is_applied_anew(pair: Pair) -> None:
    content = await pair.content()
    await pair.change(pair.update(APPLIED, "sha256", "0" * 64, APPLIED.result_name == name(6)))
    await mended(pair, {"other-sha256": 1}, by=Mending.REAPPLY)
    assert await pair.content() == content


async def test_other_content_behind_an_entry_is_not_called_mended(pair: Pair) -> None:
    pair.results.database.feed.update_one({"_id": 6}, {"$set": {"sha256": "0" * 64}})
    before = await pair.version()
    report = await pair.compare(Mending.ALL)
    assert (found(report), report.repaired) == ({"other-sha256": 1}, 0)
    assert await pair.version() == before


async def test_a_row_at_the_place_of_another_is_put_right(pair: Pair) -> None:
    content = await pair.content()
    await pair.change(
        pair.update(APPLIED, "seq", 8, APPLIED.result_name == name(0)),
        pair.update(RUNS, "seq", 8, RUNS.result_name == name(0)),
    )
    await mended(pair, {"misplaced": 1}, by=Mending.REAPPLY)
    assert await pair.content() == content


async def test_a_row_at_an_earlier_place_of_another_is_told_once(pair: Pair) -> None:
    content = await pair.content()
    await pair.change(
        pair.update(APPLIED, "seq", 1, APPLIED.result_name == name(8)),
        pair.update(RUNS, "seq", 1, RUNS.result_name == name(8)),
    )
    await mended(pair, {"outdated": 1}, by=Mending.REAPPLY)
    assert await pair.content() == content


@pytest.mark.parametrize("seq", [-1, 0, 5, 14, 2**40])
async def test_a_result_that_the_feed_does_not_know_is_removed(pair: Pair, seq: int) -> None:
    content = await pair.content()
    row = ("2020-01-01T00:00:00Z-mmlu-x", seq, "mmlu", "0", "/standardized_output/x", "applied", None, "")
    columns = ["result_name", "seq", "benchmark", "sha256", "href", "state", "reason", "registry_hash"]
    query = pair.database.dialect.query
    async with pair.database.transaction() as session:
        await session.insert(APPLIED, columns, [row])
        # With a run, so that it counts in answers.
        columns = await session.columns("runs")
        of_r1 = query.from_(RUNS).select(*(RUNS[column] for column in columns)).where(RUNS.result_name == name(1))
        [run] = await session.fetch(of_r1, "rows of a test")
        values = dict(zip(columns, run, strict=True)) | {"run_no": 77, "result_name": row[0], "seq": seq}
        values |= {"n_answers": 0, "n_questions": 0, "n_scored": 0, "n_cells": 0, "layout_no": None}
        await session.insert(RUNS, columns, [tuple(values[column] for column in columns)])
    report = await pair.compare(Mending.REAPPLY)
    assert (found(report), report.repaired) == ({"not-in-feed": 1}, 0), "a start removes no result"
    await mended(pair, {"not-in-feed": 1})
    assert await pair.content() == content


async def test_a_feed_that_went_back_is_followed_again(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """MongoDB was restored to before r7, and then took something else."""
    monkeypatch.setattr("results_service.feed.HEAD_TRUSTED_S", 0.0)  # to restore takes longer than that
    gone = [name(number) for number in (7, 8, 9)]
    pair.results.database.feed.delete_many({"_id": {"$gte": 8}})
    pair.results.database.standardized_output.delete_many({"run_id": {"$in": ["r7", "r8", "r9"]}})
    pair.results.database.standardized_output.update_many({}, {"$set": {"state": "valid"}, "$unset": {"history": 1}})
    # r2 and r3 are where they were corrected, r7 to r9 are gone.
    differences = {"misplaced": 2, "not-in-feed": 3, "beyond-the-feed": 1}
    report = await pair.compare(Mending.REAPPLY)
    assert (found(report), report.remaining) == (differences, 4), "a start does not go back"
    [beyond] = [finding for finding in report.findings if finding.reason == "beyond-the-feed"]
    assert "RESULTS_URL" in beyond.next_step
    assert (await pair.compare(Mending.ALL)).remaining == 0
    assert (await pair.version())[0] == 7
    await pair.push(7, data={"questions": [{"question_id": "new", "score": 1.0}]})
    await pair.catch_up()
    assert found(await pair.compare()) == {}
    async with pair.database.snapshot() as session:
        rows = await session.fetch(
            pair.database.dialect.query.from_(APPLIED).select(APPLIED.result_name), "rows of a test"
        )
    assert {row[0] for row in rows} & set(gone) == {name(7)}


async def test_a_feed_that_went_back_and_grew_past_is_taken_over(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """MongoDB was restored to before r5 and has taken more since than it lost: the consumer notices nothing."""
    monkeypatch.setattr("results_service.feed.HEAD_TRUSTED_S", 0.0)
    pair.results.database.feed.delete_many({"_id": {"$gte": 6}})
    pair.results.database.standardized_output.delete_many({"run_id": {"$in": ["r5", "r6", "r7", "r8", "r9"]}})
    pair.results.database.standardized_output.update_many({}, {"$set": {"state": "valid"}, "$unset": {"history": 1}})
    for number in (8, 20, 21, 22, 23, 24, 25, 26, 27, 5, 28, 29):
        await pair.push(number)
    await pair.catch_up()
    report = await pair.compare()
    assert report.differences > 0
    assert (await pair.compare(Mending.ALL)).remaining == 0
    assert found(await pair.compare()) == {}
    async with pair.database.snapshot() as session:
        query = pair.database.dialect.query.from_(APPLIED).select(APPLIED.result_name, APPLIED.seq)
        rows: dict[str, int] = dict(await session.fetch(query, "rows of a test"))
    entries = (await pair.feed.read(after=0, wait_s=0)).entries
    assert rows == {entry.result_name: entry.seq for entry in entries}


async def test_an_older_backup_just_follows(pair: Pair) -> None:
    """The SQL store as it was at position 4: what it lacks is for the consumer."""
    content = await pair.content()
    later = [await pair.run_no(number) for number in (2, 5, 6, 7, 8, 9)]
    await pair.change(
        *(pair.delete(table, table.run_no.isin(later)) for table in (RUNS, ANSWERS, SUMS)),
        pair.delete(APPLIED, APPLIED.seq > 4),
        pair.database.dialect.query.update(FEED_STATE).set(FEED_STATE.position, 4),
    )
    await pair.push(3000)
    assert found(await pair.compare()) == {"not-applied": 2}, "r2 and r3 are still to be applied as they were at 4"
    await pair.catch_up()
    assert found(await pair.compare()) == {}
    rows = (await pair.content())["applied"]
    assert [row for row in rows if "r3000" not in row[0]] == content["applied"]


@pytest.mark.parametrize("write", [1, 3, 5, 7])
async def test_an_application_that_is_cut_off_leaves_no_difference(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, write: int
) -> None:
    content = await pair.content()
    await pair.correct(3, CorrectionAction.RESTORED)
    [entry] = (await pair.feed.read(after=13, wait_s=0)).entries
    run = await asyncio.to_thread(prepare_run, await pair.feed.fetch(entry.href), REGISTRY)
    async with pair.database.transaction() as session:
        sessions = type(session)
    writes = 0

    def cut_off(method: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def counted(*arguments: Any, **named: Any) -> None:
            nonlocal writes
            writes += 1
            await method(*arguments, **named)
            if writes == write:
                raise ConnectionAbortedError("killed")

        return counted

    with monkeypatch.context() as patched:
        for method in ("execute", "insert"):
            patched.setattr(sessions, method, cut_off(getattr(sessions, method)))
        with pytest.raises(ConnectionAbortedError):
            await Projection(pair.database, REGISTRY.hash).apply(entry, run)
    assert found(await pair.compare()) == {}
    assert await pair.content() == content
    await pair.catch_up()
    assert found(await pair.compare()) == {}


async def test_another_feed_is_said_to_be_one(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "MISPLACED_MAX", 3)
    for number in range(RESULTS):
        await pair.change(pair.update(APPLIED, "result_name", f"other-{number}", APPLIED.seq == number + 1))
    before = await pair.version()
    report = await pair.compare(Mending.REAPPLY)
    assert "other-history" in found(report)
    assert report.remaining > 0
    assert before[0] == (await pair.version())[0]


async def test_what_the_results_service_lost_is_not_called_mended(pair: Pair) -> None:
    pair.results.database.standardized_output.delete_one({"run_id": "r6"})
    await pair.change(pair.delete(APPLIED, APPLIED.result_name == name(6)))
    report = await pair.compare(Mending.ALL)
    assert found(report)["not-applied"] == 1
    assert "not-applied" in {difference.reason for difference in report.first if not difference.repaired}


async def test_two_instances_mend_each_difference_once(pair: Pair, open_store: OpenStore) -> None:
    content = await pair.content()
    before = await pair.version()
    query = pair.database.dialect.query
    await pair.change(*(query.from_(table).delete() for table in (APPLIED, RUNS, ANSWERS, SUMS)))
    async with open_store() as other_store:
        other = Pair(pair.results, other_store, pair.make_result)
        reports = await asyncio.gather(pair.compare(Mending.ALL), other.compare(Mending.ALL))
    assert sum(report.repaired for report in reports) == RESULTS
    assert (await pair.version())[1] - before[1] == RESULTS
    assert found(await pair.compare()) == {}
    assert await pair.content() == content


async def test_a_correction_on_its_way_is_no_difference(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    await pair.push(10)
    await pair.correct(10, CorrectionAction.INVALIDATED)
    [entry, _] = (await pair.feed.read(after=13, wait_s=0)).entries
    run = prepare_run(await pair.feed.fetch(entry.href), REGISTRY)
    await Projection(pair.database, REGISTRY.hash).apply(entry, run)  # as invalidated, which a later entry tells
    await pair.correct(10, CorrectionAction.RESTORED)
    waits: list[float] = []

    async def catch_up(seconds: float) -> None:
        waits.append(seconds)
        await pair.catch_up()

    monkeypatch.setattr(reconcile, "PATIENCE_S", 20.0)
    monkeypatch.setattr(reconcile, "sleep", catch_up)
    assert found(await pair.compare()) == {}
    assert waits


async def test_it_stays_right_beside_a_consumer(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "PATIENCE_S", 20.0)
    task = asyncio.create_task(
        follow_feed(pair.feed, Projection(pair.database, REGISTRY.hash), REGISTRY, Progress(), wait_s=0.01)
    )
    try:
        for round_no in range(5):
            await pair.push(100 + round_no)
            await pair.correct(5, CorrectionAction.INVALIDATED)
            first = asyncio.create_task(pair.compare(Mending.ALL))
            await pair.correct(5, CorrectionAction.RESTORED)
            assert found(await first) == {}
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_an_instance_with_an_older_registry_does_not_mend(pair: Pair) -> None:
    await pair.change(pair.delete(APPLIED, APPLIED.result_name == name(6)))
    await Projection(pair.database, "newer").take_over()
    with pytest.raises(StoreUnavailable, match="an instance with another registry"):
        await pair.compare(Mending.ALL)
    assert found(await pair.compare())["not-applied"] == 1


async def test_a_results_service_that_is_away_ends_it(pair: Pair) -> None:
    async with httpx.AsyncClient(base_url="http://127.0.0.1:1") as nobody:
        reconciler = Reconciler(pair.database, Projection(pair.database, ""), FeedClient(nobody), REGISTRY)
        with pytest.raises(StoreUnavailable, match="does not answer"):
            await anext(reconciler.compare(Mending.ALL))


async def test_a_start_compares_once_the_consumer_has_begun(pair: Pair) -> None:
    content = await pair.content()
    await pair.change(pair.delete(SUMS, SUMS.run_no == await pair.run_no(5)))
    progress = Progress()
    task = asyncio.create_task(pair.reconciler.compare_at_start(progress))
    assert await asyncio.wait([task], timeout=0.3) == (set(), {task})
    assert await pair.content() != content
    progress.started.set()
    await task
    assert await pair.content() == content


async def test_the_index_is_made_for_tables_that_lack_it(store: Database) -> None:
    await prepare_schema(store, REGISTRY)
    async with store.alone("schema") as session:
        await session.define("DROP INDEX applied_seq" + (" ON applied" if store.dialect.locks_rows else ""))
        assert "applied_seq" not in await session.indexes("applied")
    await prepare_schema(store, REGISTRY)
    await prepare_schema(store, REGISTRY)
    async with store.snapshot() as session:
        assert "applied_seq" in await session.indexes("applied")
