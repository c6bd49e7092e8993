"""The stored results against the feed: each way in which they can differ is made by hand, found, mended, and gone."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from results_service import reconcile
from results_service.corrections import correct
from results_service.documents import stored_id
from shared.reconciliation import Reconciliation, ReconciliationLine
from shared.results import CorrectionAction, CorrectionRequest, ResultKind
from tests.conftest import ResultsUnderTest, StartResults

MakeResult = Callable[..., dict[str, Any]]


async def compare(client: httpx.AsyncClient, *, repair: bool = False) -> Reconciliation:
    """The report of a comparison."""
    response = await client.post("/reconciliation", json={"repair": repair})
    assert response.status_code == 200, response.text
    lines = [ReconciliationLine.model_validate_json(line) for line in response.content.split(b"\n") if line]
    assert all(line.report is None for line in lines[:-1])
    assert lines[-1].report is not None, lines[-1].problem
    return lines[-1].report


def found(report: Reconciliation) -> dict[str, int]:
    """Reason → how often."""
    return {finding.reason: finding.found for finding in report.findings}


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that every test has several of them; and nobody trusts what was written to be there, for it is taken away."""
    monkeypatch.setattr("results_service.feed.HEAD_TRUSTED_S", 0.0)
    monkeypatch.setattr(reconcile, "RESULTS_PAGE", 4)
    monkeypatch.setattr(reconcile, "FEED_PAGE", 3)
    monkeypatch.setattr(reconcile, "PATIENCE_S", 0.1)


@pytest.fixture
async def ten(results: ResultsUnderTest, make_result: MakeResult) -> ResultsUnderTest:
    """A service with ten results, r0 to r9, in the order of their seqs; r3 invalidated and restored."""
    for number in range(10):
        response = await results.client.post("/standardized_output", json=make_result(run_id=f"r{number}"))
        assert response.status_code == 201, response.text
    for action in CorrectionAction:
        request = CorrectionRequest(author="tests", reason="tests")
        state = results.app.state
        await correct(state.mongo, state.feed, ResultKind.STANDARDIZED, name(3), action, request, None)
    await results.app.state.store.finish()
    return results


def name(number: int) -> str:
    return f"2024-01-01T12:00:00Z-mmlu-r{number}"


def feed_of(results: ResultsUnderTest) -> list[tuple[int, str, str]]:
    """(seq, kind, result_name) of every entry."""
    return [
        (entry["_id"], entry["kind"], entry["result_name"]) for entry in results.database.feed.find(sort=[("_id", 1)])
    ]


async def test_what_is_whole_is_left_alone(ten: ResultsUnderTest) -> None:
    before = feed_of(ten)
    report = await compare(ten.client, repair=True)
    assert (report.differences, report.results, report.entries) == (0, 10, 12)
    assert feed_of(ten) == before


async def test_nothing_stored_is_whole(results: ResultsUnderTest) -> None:
    report = await compare(results.client)
    assert (report.differences, report.results, report.entries) == (0, 0, 0)


async def test_lost_entries_at_the_end_are_appended(ten: ResultsUnderTest) -> None:
    ten.database.feed.delete_many({"_id": {"$gte": 9}})  # r8, r9 and both corrections
    report = await compare(ten.client)
    assert found(report) == {"event-missing": 4}
    assert {difference.result_name for difference in report.first} == {name(8), name(9), name(3)}
    assert report.remaining == 4
    assert len(feed_of(ten)) == 8, "a comparison alone writes nothing"
    report = await compare(ten.client, repair=True)
    assert (report.differences, report.repaired) == (4, 4)
    assert Counter(kind for _, kind, _ in feed_of(ten)) == {"result": 10, "invalidated": 1, "restored": 1}
    assert [kind for _, kind, of in feed_of(ten) if of == name(3)] == ["result", "invalidated", "restored"]
    assert (await compare(ten.client)).differences == 0


async def test_lost_entries_in_the_middle_are_appended_and_their_places_filled(ten: ResultsUnderTest) -> None:
    ten.database.feed.delete_many({"_id": {"$in": [1, 5, 6, 7]}})
    report = await compare(ten.client)
    assert found(report) == {"event-missing": 4, "feed-gap": 4}
    report = await compare(ten.client, repair=True)
    assert report.remaining == 0
    entries = feed_of(ten)
    assert [seq for seq, _, _ in entries] == list(range(1, 17)), "no gaps"
    assert {of for _, _, of in entries} == {name(number) for number in range(10)}
    page = await ten.client.get("/feed", params={"limit": 100})
    assert [json.loads(line)["seq"] for line in page.text.splitlines()] == list(range(1, 17))
    assert (await compare(ten.client)).differences == 0


async def test_a_gap_over_many_pages_is_filled(ten: ResultsUnderTest) -> None:
    last = ten.database.feed.find_one_and_delete({"_id": 12})
    assert last is not None
    ten.database.feed.insert_one(last | {"_id": 32})
    report = await compare(ten.client, repair=True)
    assert found(report) == {"feed-gap": 20}
    assert report.first[0].result_name == "entries 12 to 31"
    assert [seq for seq, _, _ in feed_of(ten)] == list(range(1, 33))
    assert (await compare(ten.client)).differences == 0


async def test_the_whole_feed_lost_is_written_again(ten: ResultsUnderTest) -> None:
    ten.database.feed.delete_many({})
    report = await compare(ten.client, repair=True)
    assert found(report) == {"event-missing": 12}
    assert [seq for seq, _, _ in feed_of(ten)] == list(range(1, 13))
    assert (await compare(ten.client)).differences == 0


async def test_a_lost_result_is_told_and_pushing_it_again_mends_it(
    ten: ResultsUnderTest, make_result: MakeResult
) -> None:
    ten.database.standardized_output.delete_one({"_id": stored_id(name(4))})
    report = await compare(ten.client, repair=True)
    assert found(report) == {"result-absent": 1}
    assert (report.remaining, report.first[0].result_name) == (1, name(4))
    assert "push it again" in report.findings[0].next_step
    await ten.client.post("/standardized_output", json=make_result(run_id="r4"))
    assert (await compare(ten.client)).differences == 0


async def test_a_result_that_came_back_with_other_content_is_told_once_more(
    ten: ResultsUnderTest, make_result: MakeResult
) -> None:
    ten.database.standardized_output.delete_one({"_id": stored_id(name(3))})
    other = make_result(run_id="r3", data={"questions": [{"question_id": "q1", "score": 0.0}]})
    answer = (await ten.client.post("/standardized_output", json=other)).json()
    report = await compare(ten.client, repair=True)
    assert found(report) == {"other-sha256": 1}
    last = ten.database.feed.find_one(sort=[("_id", -1)])
    assert last is not None
    assert (last["result_name"], last["kind"], last["sha256"]) == (name(3), "result", answer["sha256"])
    assert (await compare(ten.client)).differences == 0


async def test_what_a_crash_left_unsettled_is_found(ten: ResultsUnderTest) -> None:
    ten.database.feed.delete_one({"_id": 12})
    ten.database.standardized_output.update_one({"_id": stored_id(name(3))}, {"$set": {"settled": False}})
    report = await compare(ten.client, repair=True)
    assert found(report) == {"event-missing": 1}
    assert (await compare(ten.client)).differences == 0


async def test_a_write_under_way_is_no_difference(ten: ResultsUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = ten.database.feed.find_one_and_delete({"_id": 12})
    assert entry is not None
    ten.database.standardized_output.update_one({"_id": stored_id(name(3))}, {"$set": {"settled": False}})
    waits = 0

    async def finish_meanwhile(_seconds: float) -> None:
        nonlocal waits
        waits += 1
        if waits == 2:
            ten.database.feed.insert_one(entry)

    monkeypatch.setattr(reconcile, "sleep", finish_meanwhile)
    assert (await compare(ten.client)).differences == 0
    assert waits == 2


async def test_writes_under_way_in_every_page_are_no_differences(
    ten: ResultsUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [ten.database.feed.find_one_and_delete({"_id": seq}) for seq in (1, 5, 9)]
    ten.database.standardized_output.update_many({}, {"$set": {"settled": False}})

    async def finish_one(_seconds: float) -> None:
        if (entry := entries.pop()) is not None:
            ten.database.feed.insert_one(entry)

    monkeypatch.setattr(reconcile, "sleep", finish_one)
    assert (await compare(ten.client)).differences == 0
    assert entries == []


async def test_a_gap_before_a_part_is_not_filled_with_the_digest_of_the_part(
    ten: ResultsUnderTest, make_result: MakeResult
) -> None:
    envelope = {key: value for key, value in make_result(run_id="live").items() if key != "data"}
    opened = await ten.client.post("/live_runs", json=envelope)
    path = f"/live_runs/{opened.json()['result_name']}"
    await ten.client.post(f"{path}/parts/1", json=make_result()["data"])
    assert (await ten.client.post(f"{path}/finish")).status_code == 200
    ten.database.feed.delete_many({"_id": {"$in": [11, 12]}})  # so that part and finish are on one page
    assert (await compare(ten.client, repair=True)).remaining == 0
    told = ten.database.feed.find({"event": {"$regex": "^gap:"}}).to_list()
    assert len(told) == 2
    for entry in told:
        stored = ten.database.standardized_output.find_one({"_id": stored_id(entry["result_name"])})
        assert stored is not None
        assert entry["sha256"] == stored["sha256"]


async def test_live_runs_are_no_results(ten: ResultsUnderTest) -> None:
    for seq, kind in ((13, "part"), (14, "discarded")):
        entry = {"_id": seq, "event": f"{kind}:x:1", "kind": kind, "result_name": "2024-01-01T12:00:00Z-mmlu-live"}
        ten.database.feed.insert_one(entry | {"sha256": "0"})
    assert (await compare(ten.client)).differences == 0


async def test_two_instances_mend_at_once(ten: ResultsUnderTest, start_results: StartResults) -> None:
    ten.database.feed.delete_many({"_id": {"$in": [2, 3, 11, 12]}})
    async with start_results() as other:
        await asyncio.gather(compare(ten.client, repair=True), compare(other.client, repair=True))
    assert [seq for seq, _, _ in feed_of(ten)] == list(range(1, len(feed_of(ten)) + 1))
    events = [entry["event"] for entry in ten.database.feed.find()]
    assert len(events) == len(set(events))
    assert (await compare(ten.client)).differences == 0


async def test_the_first_hundred_are_told_and_all_are_counted(
    results: ResultsUnderTest, make_result: MakeResult
) -> None:
    for number in range(120):
        await results.client.post("/standardized_output", json=make_result(run_id=f"r{number}"))
    results.database.feed.delete_many({})
    report = await compare(results.client)
    assert (report.differences, len(report.first)) == (120, 100)


@pytest.mark.parametrize("body", ['{"repair": "yes"}', '{"repare": true}', "[]", ""])
async def test_what_is_no_request_is_refused(results: ResultsUnderTest, body: str) -> None:
    response = await results.client.post("/reconciliation", content=body)
    assert response.status_code in (400, 422)


async def test_it_needs_the_scope_admin(start_results: StartResults, tmp_path: Path) -> None:
    keys = "".join(
        f'[[keys]]\nid = "{scope}"\nsha256 = "{sha256(scope.encode()).hexdigest()}"\nscopes = ["{scope}"]\n'
        for scope in ("admin", "results:write", "results:read")
    )
    file = tmp_path / "keys.toml"
    file.write_text(keys)
    async with start_results(auth="keys", api_keys_file=file) as running:
        for scope, status in (("admin", 200), ("results:write", 403), ("results:read", 403)):
            headers = {"Authorization": f"Bearer {scope}"}
            response = await running.client.post("/reconciliation", json={}, headers=headers)
            assert response.status_code == status, response.text
