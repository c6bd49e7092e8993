"""Live runs over HTTP: opened, given parts, finished or discarded; who may, and what a crash leaves."""

import asyncio
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from results_service.feed import Feed
from results_service.live_records import LiveRecords
from results_service.store import ResultStore
from shared.problems import StoreUnavailable
from tests.api.test_results_feed import read_feed

if TYPE_CHECKING:
    import httpx

    from tests.conftest import ResultsUnderTest, StartResults

MakeResult = Callable[..., dict[str, Any]]
NAME = "2024-01-01T12:00:00Z-mmlu-run-1"
WHY = {"author": "ada@example.org", "reason": "The machine was lost."}
PROBLEM = "urn:scorehouse:problem:"


def questions(*names: str, score: float = 1.0) -> list[dict[str, Any]]:
    """Questions of a part."""
    return [{"question_id": name, "score": score} for name in names]


async def open_run(results: "ResultsUnderTest", make_result: MakeResult, **changes: Any) -> "httpx.Response":
    """POST /live_runs; fields as `make_result` has them."""
    return await results.client.post("/live_runs", json=make_result(data=None, **changes))


async def send(results: "ResultsUnderTest", number: int, *names: str, **changes: Any) -> "httpx.Response":
    """POST a part with these questions."""
    return await results.client.post(
        f"/live_runs/{NAME}/parts/{number}", json={"questions": questions(*names, **changes)}
    )


async def finish(results: "ResultsUnderTest", parts: int | None = None) -> "httpx.Response":
    """POST finish."""
    return await results.client.post(f"/live_runs/{NAME}/finish", json=None if parts is None else {"parts": parts})


async def read_run(results: "ResultsUnderTest") -> dict[str, Any]:
    """The live run NAME."""
    return dict((await results.client.get(f"/live_runs/{NAME}")).json())


def slug(answer: "httpx.Response") -> tuple[int, str]:
    """A problem's status and type."""
    return answer.status_code, answer.json()["type"].removeprefix(PROBLEM)


async def test_from_open_to_finished(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    opened = await open_run(results, make_result, provenance={"harness": "lm-eval"})
    assert (opened.status_code, opened.json()["unchanged"], opened.json()["warnings"]) == (201, False, [])
    again = await open_run(results, make_result, provenance={"harness": "lm-eval"})
    assert (again.status_code, again.json()["unchanged"]) == (200, True)
    assert await read_feed(results) == []

    second = b'{"questions" : [ {"question_id":"q2", "score":1.0, "odd": 1e2},\n {"question_id":"q3","score":0} ]}'
    sent = await results.client.post(f"/live_runs/{NAME}/parts/2", content=second)
    assert sent.status_code == 201, sent.text
    assert sent.json() == {
        "result_name": NAME,
        "part": 2,
        "status": "created",
        "unchanged": False,
        "sha256": sha256(second[second.index(b"[") + 1 : second.index(b"]")]).hexdigest(),
        "questions": 2,
        "warnings": ["kept but not read in questions: odd"],
    }
    repeated = await results.client.post(f"/live_runs/{NAME}/parts/2", content=second)
    assert (repeated.status_code, repeated.json()["unchanged"]) == (200, True)
    assert (await send(results, 1, "q1")).status_code == 201

    running = await read_run(results)
    assert (running["state"], running["parts"], running["part_numbers"], running["questions"]) == ("live", 2, [1, 2], 3)
    assert (running["abandoned"], running["owner"], running["model_id"]) == (False, None, "gpt-4")
    assert running["last_part_at"].endswith("Z")
    assert running["opened_at"] == opened.json()["opened_at"]

    texts = [second[second.index(b"[") + 1 : second.index(b"]")], b'{"question_id":"q1","score":1.0}']
    data = b'{"questions":[' + b",".join(texts[::-1]) + b"]}"
    so_far = await results.client.get(f"/live_runs/{NAME}/questions")
    assert data in so_far.content
    assert (so_far.json()["live"], so_far.json()["state"]) == ("live", "valid")
    assert so_far.json()["sha256"] == sha256(data).hexdigest()
    assert running["bytes"] == len(data)

    finished = await finish(results, parts=2)
    assert finished.status_code == 200, finished.text
    assert (finished.json()["state"], finished.json()["sha256"]) == ("finished", sha256(data).hexdigest())
    assert (await finish(results)).json() == finished.json()
    result = await results.client.get(f"/standardized_output/{NAME}")
    assert data in result.content
    assert (result.json()["questions"], result.json()["sha256"]) == (3, sha256(data).hexdigest())
    assert result.json()["provenance"]["harness"] == "lm-eval"

    entries = await read_feed(results)
    segment = NAME.replace(":", "%3A")
    assert [(entry["kind"], entry["href"]) for entry in entries] == [
        ("part", f"/live_runs/{segment}/questions"),
        ("part", f"/live_runs/{segment}/questions"),
        ("finished", f"/standardized_output/{segment}"),
    ]
    after = await results.client.get(f"/live_runs/{NAME}/questions")
    assert (after.json()["live"], after.json()["data"]) == ("finished", {})
    assert "live_parts" not in results.stored()


async def test_the_same_parts_after_the_end(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    await open_run(results, make_result)
    await send(results, 1, "q1")
    await finish(results)
    assert (await send(results, 1, "q1")).json()["unchanged"]
    assert slug(await send(results, 1, "q2")) == (409, "part-conflict")
    assert slug(await send(results, 2, "q2")) == (409, "live-run-closed")
    again = await open_run(results, make_result)  # a runner that was killed after it finished begins anew
    assert (again.status_code, again.json()["unchanged"], again.json()["state"]) == (200, True, "finished")
    assert slug(await results.client.post(f"/live_runs/{NAME}/discard", json=WHY)) == (409, "live-run-closed")
    assert [entry["kind"] for entry in await read_feed(results)] == ["part", "finished"]


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"questions": [{"score": 1}]}, "questions[0]"),
        ({"questions": [{"question_id": "q", "score": 7}]}, "questions[0].score"),
        ({"questions": questions("q", "q")}, "questions[1]"),
        (
            {"questions": [{"question_id": "q", "score": 1, "metadata": {"subject": 7}}]},
            "questions[0].metadata.subject",
        ),
        ({"questions": []}, "questions"),
        ({"questions": "[]"}, "questions"),
        ({}, "questions"),
        ({"questions": questions("q"), "data": 1}, "data"),
        ([], "body"),
    ],
)
async def test_refused_parts(results: "ResultsUnderTest", make_result: MakeResult, body: Any, place: str) -> None:
    await open_run(results, make_result)
    answer = await results.client.post(f"/live_runs/{NAME}/parts/1", json=body)
    assert slug(answer) == (422, "invalid-request")
    assert [fault["place"] for fault in answer.json()["faults"]] == [place]
    assert results.stored() == {"live_runs": 1}


@pytest.mark.parametrize("number", ["0", "-1", "x", str(2**40), str(2**70), "1.5"])
async def test_refused_numbers(results: "ResultsUnderTest", make_result: MakeResult, number: str) -> None:
    await open_run(results, make_result)
    answer = await results.client.post(f"/live_runs/{NAME}/parts/{number}", json={"questions": questions("q")})
    assert slug(answer) == (422, "invalid-request")
    finishing = await results.client.post(f"/live_runs/{NAME}/finish", content=f'{{"parts": {number}}}')
    assert finishing.status_code in (400, 422)


async def test_what_is_no_json(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    await open_run(results, make_result)
    url = f"/live_runs/{NAME}/parts/1"
    assert slug(await results.client.post(url, content=b'{"questions": [NaN]}')) == (400, "malformed-json")
    deep = b'{"questions": [{"question_id": "q", "score": 1, "answer": ' + b"[" * 198 + b"]" * 198 + b"}]}"
    assert slug(await results.client.post(url, content=deep)) == (400, "malformed-json")
    assert (await results.client.post(url, content=deep.replace(b"[[", b"[").replace(b"]]", b"]"))).status_code == 201


async def test_parts_that_contradict_others(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    await open_run(results, make_result)
    await send(results, 1, "q1", "q2")
    url = f"/live_runs/{NAME}/parts/1"
    spaced = await results.client.post(url, content=json.dumps({"questions": questions("q1", "q2")}, indent=1))
    assert (spaced.status_code, spaced.json()["unchanged"]) == (200, True)
    assert slug(await send(results, 1, "q1", "q2", score=0)) == (409, "part-conflict")
    double = await send(results, 2, "q3", "q2")
    assert slug(double) == (409, "part-conflict")
    [fault] = double.json()["faults"]
    assert fault["place"] == "questions[1]"
    assert "part 1 at questions[1]" in fault["detail"]
    attempt = {"questions": [{"question_id": "q2", "attempt": 1, "score": 1}]}
    assert (await results.client.post(f"/live_runs/{NAME}/parts/2", json=attempt)).status_code == 201
    assert (await read_run(results))["questions"] == 3


async def test_limits_of_a_part_and_of_a_run(start_results: "StartResults", make_result: MakeResult) -> None:
    async with start_results(max_line_bytes=200, max_body_bytes=2000) as results:
        await open_run(results, make_result)
        assert slug(await send(results, 1, "q" * 250)) == (413, "too-large")
        number = 1
        while (answer := await send(results, number, f"{number:0100}")).status_code == 201:
            number += 1
        assert slug(answer) == (413, "too-large")
        assert 1 < number < 20
        assert (await finish(results, parts=number - 1)).status_code == 200
        assert (await results.client.get(f"/standardized_output/{NAME}")).json()["bytes"] <= 2000


async def test_finish_says_how_many_parts_there_are(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    await open_run(results, make_result)
    assert slug(await finish(results)) == (409, "live-run-incomplete")
    for number in (1, 3, 5):
        await send(results, number, f"q{number}")
    incomplete = await finish(results, parts=4)
    assert slug(incomplete) == (409, "live-run-incomplete")
    assert "parts 2, 4 missing" in incomplete.json()["detail"]
    assert "part 5 beyond" in incomplete.json()["detail"]
    assert (await read_run(results))["state"] == "live"
    assert (await finish(results)).json()["parts"] == 3
    assert slug(await finish(results, parts=4)) == (409, "live-run-incomplete")


async def test_discard(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    await open_run(results, make_result)
    await send(results, 1, "q1")
    discarded = await results.client.post(f"/live_runs/{NAME}/discard", json=WHY)
    assert discarded.status_code == 200, discarded.text
    told = discarded.json()["discarded"]
    assert (discarded.json()["state"], told["author"], told["reason"]) == ("discarded", WHY["author"], WHY["reason"])
    again = await results.client.post(f"/live_runs/{NAME}/discard", json=WHY | {"author": "another"})
    assert again.json() == discarded.json()
    assert slug(await send(results, 2, "q2")) == (409, "live-run-closed")
    assert slug(await finish(results)) == (409, "live-run-closed")
    assert slug(await open_run(results, make_result)) == (409, "live-run-closed")
    assert [entry["kind"] for entry in await read_feed(results)] == ["part", "discarded"]
    assert (await results.client.get(f"/live_runs/{NAME}/questions")).json()["live"] == "discarded"
    assert results.database["live_runs"].count_documents({"settled": False}) == 0
    blank = await results.client.post(f"/live_runs/{NAME}/discard", json=WHY | {"reason": ""})
    assert slug(blank) == (422, "invalid-request")


async def test_names_that_are_taken(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    await open_run(results, make_result)
    assert slug(await open_run(results, make_result, model_id="other")) == (409, "result-name-taken")
    assert slug(await open_run(results, make_result, source="other")) == (409, "result-conflict")
    await results.client.post("/standardized_output", json=make_result(run_id="whole"))
    assert slug(await open_run(results, make_result, run_id="whole")) == (409, "result-conflict")
    unregistered = await open_run(results, make_result, benchmark_name="mine")
    assert "not registered" in unregistered.json()["warnings"][0]
    whole = await results.client.post("/live_runs", json=make_result())
    assert [fault["place"] for fault in whole.json()["faults"]] == ["data"]


async def test_unknown_live_runs(results: "ResultsUnderTest") -> None:
    assert slug(await send(results, 1, "q1")) == (404, "not-found")
    assert slug(await finish(results)) == (404, "not-found")
    assert slug(await results.client.post(f"/live_runs/{NAME}/discard", json=WHY)) == (404, "not-found")
    for path in (NAME, f"{NAME}/questions", "x", "..%2F..", "%00"):
        assert slug(await results.client.get(f"/live_runs/{path}")) == (404, "not-found")


async def test_a_whole_result_pushed_under_its_name(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    await open_run(results, make_result)
    await send(results, 1, "q1")
    assert (await results.client.post("/standardized_output", json=make_result())).status_code == 201
    refused = await finish(results)
    assert slug(refused) == (409, "result-conflict")
    assert "discard the live run" in refused.json()["detail"]
    assert (await read_run(results))["state"] == "live"
    assert (await results.client.post(f"/live_runs/{NAME}/discard", json=WHY)).status_code == 200
    assert [entry["kind"] for entry in await read_feed(results)] == ["part", "result", "discarded"]


async def test_a_whole_result_with_the_same_content(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    await open_run(results, make_result)
    await send(results, 1, "q1")
    await results.client.post("/standardized_output", json=make_result(data={"questions": questions("q1")}))
    finished = await finish(results)
    assert (finished.status_code, finished.json()["state"]) == (200, "finished")
    stored = (await results.client.get(f"/standardized_output/{NAME}")).json()
    assert stored["sha256"] == finished.json()["sha256"]
    assert [entry["kind"] for entry in await read_feed(results)] == ["part", "result"]


async def test_lists(start_results: "StartResults", make_result: MakeResult) -> None:
    async with start_results(live_run_abandoned_s=3600) as results:
        names = [f"2024-01-{day:02}T00:00:00Z-mmlu-run-1" for day in (3, 2, 1)]
        for day in (1, 3, 2):
            await open_run(results, make_result, timestamp=f"2024-01-{day:02}T00:00:00Z")
        await results.client.post(f"/live_runs/{names[2]}/discard", json=WHY)

        async def listed(**parameters: Any) -> list[str]:
            answer = await results.client.get("/live_runs", params=parameters)
            assert answer.status_code == 200, answer.text
            return [item["result_name"] for item in answer.json()["items"]]

        assert await listed() == names
        assert await listed(state="live") == names[:2]
        assert await listed(state="discarded") == names[2:]
        assert await listed(abandoned=True) == []
        assert await listed(abandoned=False) == names
        first = (await results.client.get("/live_runs", params={"limit": 2})).json()
        assert [item["result_name"] for item in first["items"]] == names[:2]
        assert await listed(limit=2, cursor=first["next_cursor"]) == names[2:]
        for bad in (
            {"cursor": "é"},
            {"state": "x"},
            {"limit": 0},
            {"abandoned": "x"},
            {"other": 1},
            {"state": ["x", "live"]},
        ):
            refused = await results.client.get("/live_runs", params=bad)
            assert slug(refused) == (422, "invalid-request")
    async with start_results(live_run_abandoned_s=1e-6) as results:
        assert await listed(abandoned=True) == names[:2]
        assert await listed(abandoned=True, state="discarded") == []
        assert await listed(abandoned=False) == names[2:]
        states = {
            item["result_name"]: item["abandoned"] for item in (await results.client.get("/live_runs")).json()["items"]
        }
        assert states == {names[0]: True, names[1]: True, names[2]: False}


async def test_only_its_owner(start_results: "StartResults", make_result: MakeResult, tmp_path: Path) -> None:
    keys = {"owner": ["results:write"], "other": ["results:write", "results:read"], "boss": ["admin"]}
    lines = [
        f'[[keys]]\nid = "{name}"\nsha256 = "{sha256(name.encode()).hexdigest()}"\nscopes = {json.dumps(scopes)}\n'
        for name, scopes in keys.items()
    ]
    (tmp_path / "keys.toml").write_text("".join(lines))
    async with start_results(auth="keys", api_keys_file=tmp_path / "keys.toml") as results:

        async def post(key: str, path: str, body: Any = None) -> "httpx.Response":
            headers = {"Authorization": f"Bearer {key}"}
            return await results.client.post(f"/live_runs{path}", json=body, headers=headers)

        opened = await post("owner", "", make_result(data=None))
        assert (opened.status_code, opened.json()["owner"]) == (201, "owner")
        assert slug(await post("other", "", make_result(data=None))) == (403, "not-owner")
        assert slug(await post("other", f"/{NAME}/parts/1", {"questions": questions("q1")})) == (403, "not-owner")
        assert (await post("owner", f"/{NAME}/parts/1", {"questions": questions("q1")})).status_code == 201
        assert (await post("boss", f"/{NAME}/parts/2", {"questions": questions("q2")})).status_code == 201
        assert slug(await post("other", f"/{NAME}/finish")) == (403, "not-owner")
        assert slug(await post("other", f"/{NAME}/discard", WHY)) == (403, "not-owner")
        assert (await read_run_as(results, "other"))["state"] == "live"
        assert (await post("owner", f"/{NAME}/finish")).json()["state"] == "finished"
        corrected = await results.client.post(
            f"/standardized_output/{NAME}/invalidation", json=WHY, headers={"Authorization": "Bearer other"}
        )
        assert corrected.json()["history"][0]["key"] == "other"
    async with start_results() as results:  # keys are disabled: anyone may
        assert (await finish(results)).status_code == 200


async def read_run_as(results: "ResultsUnderTest", key: str) -> dict[str, Any]:
    """The live run NAME, asked for with a key."""
    answer = await results.client.get(f"/live_runs/{NAME}", headers={"Authorization": f"Bearer {key}"})
    return dict(answer.json())


async def test_parts_at_once_from_two_instances(start_results: "StartResults", make_result: MakeResult) -> None:
    async with start_results() as one, start_results() as other:
        await open_run(one, make_result)
        answers = await asyncio.gather(
            *(send(results, number, f"q{number}") for number in range(1, 21) for results in (one, other)),
            *(send(results, 100 + number, "same") for number in range(5) for results in (one, other)),
        )
        plain, same = answers[:40], answers[40:]
        assert sorted(answer.status_code for answer in plain) == [200] * 20 + [201] * 20
        assert sorted(answer.status_code for answer in same) == [200] + [201] + [409] * 8
        entries = await read_feed(one)
        assert sorted(entry["kind"] for entry in entries) == ["part"] * 21
        assert one.database["live_runs"].count_documents({"settled": False}) == 0
        finished = await asyncio.gather(*(finish(results) for results in (one, other) for _ in range(3)))
        assert [answer.status_code for answer in finished] == [200] * 6
        assert len({answer.text for answer in finished}) == 1
        assert (await one.client.get(f"/standardized_output/{NAME}")).json()["questions"] == 21
        assert [entry["kind"] for entry in await read_feed(one)].count("finished") == 1


async def test_a_part_that_races_with_the_finish(start_results: "StartResults", make_result: MakeResult) -> None:
    async with start_results() as one, start_results() as other:
        for turn in range(10):
            name = NAME.replace("run-1", f"race-{turn}")
            await open_run(one, make_result, run_id=f"race-{turn}")
            url = f"/live_runs/{name}"
            await one.client.post(f"{url}/parts/1", json={"questions": questions("q1")})
            *sent, finished = await asyncio.gather(
                *(
                    results.client.post(f"{url}/parts/{number}", json={"questions": questions(f"q{number}")})
                    for number, results in ((2, one), (3, other), (4, one))
                ),
                other.client.post(f"{url}/finish"),
            )
            assert finished.status_code == 200, finished.text
            kept = {"q1"} | {f"q{number}" for number, answer in enumerate(sent, 2) if answer.status_code == 201}
            assert all(answer.status_code == 201 or slug(answer) == (409, "live-run-closed") for answer in sent)
            result = (await one.client.get(f"/standardized_output/{name}")).json()
            assert {question["question_id"] for question in result["data"]["questions"]} == kept


async def test_a_part_that_comes_while_a_finish_looks_is_in_the_result(
    start_results: "StartResults", make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start_results() as one, start_results() as other:
        await open_run(one, make_result)
        await send(one, 1, "q1")
        fetch = LiveRecords.fetch_newest
        sent: list[int] = []

        async def fetch_slowly(self: LiveRecords, name: str, projection: Any = None) -> Any:
            document = await fetch(self, name, projection)
            if projection is None and not sent:
                sent.append(2)
                assert (await send(one, 2, "q2")).status_code == 201
            return document

        monkeypatch.setattr(LiveRecords, "fetch_newest", fetch_slowly)
        assert (await finish(other)).json()["parts"] == 2
        assert sent
        result = (await one.client.get(f"/standardized_output/{NAME}")).json()
        assert result["data"]["questions"] == questions("q1", "q2")


async def test_a_part_that_comes_while_a_finish_removes_the_others_is_told_so(
    start_results: "StartResults", make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start_results() as one, start_results() as other:
        await open_run(one, make_result)
        await send(one, 1, "q1")
        texts = LiveRecords.texts
        finished: list[int] = []

        async def texts_late(self: LiveRecords, parts: Any, id_: str) -> Any:
            if not finished:
                finished.append(0)
                finished[0] = (await finish(one)).status_code
            async for part, text in texts(self, parts, id_):
                yield part, text

        monkeypatch.setattr(LiveRecords, "texts", texts_late)
        assert slug(await send(other, 2, "q2")) == (409, "live-run-closed")
        assert finished == [200]


async def test_what_a_fallen_primary_took_back_is_forgotten(
    start_results: "StartResults", make_result: MakeResult
) -> None:
    async with start_results() as one, start_results() as other:
        await open_run(one, make_result)
        await send(one, 1, "q1")
        before = one.database["live_runs"].find_one()
        assert before is not None
        await send(one, 2, "q2")
        one.database["live_runs"].replace_one({}, before)
        assert (await send(other, 2, "q3")).status_code == 201
        assert (await send(one, 3, "q2")).status_code == 201
        assert slug(await send(one, 2, "q2")) == (409, "part-conflict")
        assert (await finish(one)).json()["questions"] == 3


async def away(*_: Any, **__: Any) -> None:
    """Stands in for a store's method, as if the store, or this instance, were lost before it."""
    raise StoreUnavailable("away")


@pytest.mark.parametrize("mended_by", ["start", "again", "next part", "sweep"])
async def test_a_part_that_a_crash_kept_out_of_the_feed(
    start_results: "StartResults", make_result: MakeResult, monkeypatch: pytest.MonkeyPatch, mended_by: str
) -> None:
    expected = ["part"] * 3
    async with start_results() as crashed:
        await open_run(crashed, make_result)
        await send(crashed, 1, "q1")
        with monkeypatch.context() as patch:
            patch.setattr(Feed, "append", away)
            assert [(await send(crashed, number, f"q{number}")).status_code for number in (2, 3)] == [503, 503]
        match mended_by:
            case "again":
                assert (await send(crashed, 2, "q2")).json()["unchanged"]
            case "next part":
                await send(crashed, 4, "q4")
                expected.append("part")
            case "sweep":
                sweeping = asyncio.create_task(crashed.app.state.live_runs.keep_repaired(0.01))
                async with asyncio.timeout(10):
                    while crashed.database["live_runs"].count_documents({"settled": False}):
                        await asyncio.sleep(0.01)
                sweeping.cancel()
            case "start":
                assert [entry["kind"] for entry in await read_feed(crashed)] == ["part"]
        if mended_by != "start":
            assert [entry["kind"] for entry in await read_feed(crashed)] == expected
    async with start_results() as again:
        assert [entry["kind"] for entry in await read_feed(again)] == expected
        assert again.database["live_runs"].count_documents({"settled": False}) == 0


async def test_a_part_that_is_lost_while_another_is_entered_is_not_forgotten(
    start_results: "StartResults", make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = Feed.append
    calls: list[int] = []

    async def append_slowly(self: Feed, events: Any) -> None:
        calls.append(len(events))
        if len(calls) == 2:
            raise StoreUnavailable("away")
        await append(self, events)
        assert (await send(other, 3, "q3")).status_code == 503

    async with start_results() as one, start_results() as other:
        await open_run(one, make_result)
        with monkeypatch.context() as patch:
            patch.setattr(Feed, "append", append_slowly)
            assert (await send(one, 2, "q2")).status_code == 201
        assert len(calls) == 2
    async with start_results() as again:
        assert [entry["kind"] for entry in await read_feed(again)] == ["part", "part"]


@pytest.mark.parametrize("mended_by", ["start", "finish"])
@pytest.mark.parametrize("lost", [(ResultStore, "put"), (Feed, "append")], ids=["result", "entry"])
async def test_a_finish_that_a_crash_interrupted(
    start_results: "StartResults",
    make_result: MakeResult,
    monkeypatch: pytest.MonkeyPatch,
    lost: tuple[type, str],
    mended_by: str,
) -> None:
    async with start_results() as crashed:
        await open_run(crashed, make_result)
        await send(crashed, 2, "q2")
        await send(crashed, 1, "q1")
        with monkeypatch.context() as patch:
            patch.setattr(*lost, away)
            assert (await finish(crashed)).status_code == 503
        assert (await read_run(crashed))["state"] == "finishing"
        assert slug(await send(crashed, 3, "q3")) == (409, "live-run-closed")
        assert (await send(crashed, 2, "q2")).json()["unchanged"]
        if mended_by == "finish":
            assert (await finish(crashed)).status_code == 200
    async with start_results() as again:
        run = await read_run(again)
        result = (await again.client.get(f"/standardized_output/{NAME}")).json()
        assert (run["state"], run["sha256"]) == ("finished", result["sha256"])
        assert result["data"] == {"questions": questions("q1", "q2")}
        assert [entry["kind"] for entry in await read_feed(again)] == ["part", "part", "finished"]
        assert "live_parts" not in again.stored()


async def test_a_discard_that_a_crash_kept_out_of_the_feed(
    start_results: "StartResults", make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start_results() as crashed:
        await open_run(crashed, make_result)
        await send(crashed, 1, "q1")
        with monkeypatch.context() as patch:
            patch.setattr(Feed, "append", away)
            discarded = await crashed.client.post(f"/live_runs/{NAME}/discard", json=WHY)
            assert discarded.status_code == 503
    async with start_results() as again:
        assert [entry["kind"] for entry in await read_feed(again)] == ["part", "discarded"]
        assert again.database["live_runs"].count_documents({"settled": False}) == 0


async def test_parts_larger_together_than_a_chunk(
    results: "ResultsUnderTest", make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("results_service.live_finish.CHUNK_BYTES", 100)
    monkeypatch.setattr("results_service.parts.PAGE_BYTES", 100)
    await open_run(results, make_result)
    for number in range(9, 0, -1):
        await send(results, number, f"q{number}")
    finished = await finish(results, parts=9)
    result = await results.client.get(f"/standardized_output/{NAME}")
    assert (
        sha256(json.dumps(result.json()["data"], separators=(",", ":")).encode()).hexdigest()
        == finished.json()["sha256"]
    )
    assert [question["question_id"] for question in result.json()["data"]["questions"]] == [
        f"q{n}" for n in range(1, 10)
    ]
