"""Corrections over HTTP, and through both services: an invalidated result leaves the analysis."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from results_service import corrections
from results_service.feed import Feed
from shared.problems import StoreUnavailable
from tests.api.test_results_feed import read_feed

if TYPE_CHECKING:
    from tests.conftest import ResultsUnderTest, StartResults

MakeResult = Callable[..., dict[str, Any]]
NAME = "2024-01-01T12:00:00Z-mmlu-run-1"
WHY = {"author": "ada@example.org", "reason": "The grader was wrong.\nSee the log."}


async def correct(
    results: "ResultsUnderTest", what: str, kind: str = "standardized_output", **changes: Any
) -> dict[str, Any]:
    """POST a correction of the result NAME, which is answered 200."""
    answer = await results.client.post(f"/{kind}/{NAME}/{what}", json=WHY | changes)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.mark.parametrize("kind", ["standardized_output", "raw_input"])
async def test_invalidate_and_restore(results: "ResultsUnderTest", make_result: MakeResult, kind: str) -> None:
    pushed = (await results.client.post(f"/{kind}", json=make_result())).json()
    before = (await results.client.get(f"/{kind}/{NAME}")).json()
    assert (before["state"], before["history"]) == ("valid", [])

    invalidated = await correct(results, "invalidation", kind)
    assert (invalidated["state"], invalidated["unchanged"]) == ("invalidated", False)
    assert (invalidated["result_name"], invalidated["sha256"]) == (NAME, pushed["sha256"])
    restored = await correct(results, "restoration", kind, reason="It was right.")
    assert (restored["state"], restored["unchanged"]) == ("valid", False)
    assert [(c["action"], c["author"], c["reason"], c["key"]) for c in restored["history"]] == [
        ("invalidated", WHY["author"], WHY["reason"], None),
        ("restored", WHY["author"], "It was right.", None),
    ]
    assert restored["history"][0] == invalidated["history"][0]
    assert all(c["at"].endswith("Z") for c in restored["history"])

    detail = (await results.client.get(f"/{kind}/{NAME}")).json()
    assert (detail["state"], detail["history"], detail["data"]) == ("valid", restored["history"], before["data"])


async def test_the_state_it_is_in_already_is_kept(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    await results.client.post("/standardized_output", json=make_result())
    assert (await correct(results, "restoration"))["history"] == []
    first = await correct(results, "invalidation")
    again = await correct(results, "invalidation", author="another", reason="another")
    assert (first["unchanged"], again["unchanged"]) == (False, True)
    assert again["history"] == first["history"]
    assert [entry["kind"] for entry in await read_feed(results)] == ["result", "invalidated"]


async def test_every_correction_is_in_the_feed(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    await results.client.post("/raw_input", json=make_result())
    await results.client.post("/standardized_output", json=make_result())
    await correct(results, "invalidation", "raw_input")
    for what in ("invalidation", "restoration", "invalidation"):
        await correct(results, what)
    entries = await read_feed(results)
    assert [entry["kind"] for entry in entries] == ["result", "invalidated", "restored", "invalidated"]
    assert {(entry["href"], entry["sha256"]) for entry in entries} == {(entries[0]["href"], entries[0]["sha256"])}
    assert results.database["standardized_output"].count_documents({"settled": False}) == 0


async def test_the_name_in_another_spelling(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    await results.client.post("/standardized_output", json=make_result())
    other = "2024-01-01T21:00:00%2B09:00-mmlu-run-1"
    answer = await results.client.post(f"/standardized_output/{other}/invalidation", json=WHY)
    assert (answer.status_code, answer.json()["state"]) == (200, "invalidated")


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"author": "a"}, "reason"),
        ({"reason": "r"}, "author"),
        (WHY | {"author": ""}, "author"),
        (WHY | {"author": " "}, "author"),
        (WHY | {"author": "a\nb"}, "author"),
        (WHY | {"author": "x" * 301}, "author"),
        (WHY | {"author": 7}, "author"),
        (WHY | {"reason": "x" * 2001}, "reason"),
        (WHY | {"reason": "\0"}, "reason"),
        (WHY | {"reason": "\n"}, "reason"),
        (WHY | {"state": "valid"}, "state"),
    ],
)
async def test_refused_words(
    results: "ResultsUnderTest", make_result: MakeResult, body: dict[str, Any], place: str
) -> None:
    await results.client.post("/standardized_output", json=make_result())
    answer = await results.client.post(f"/standardized_output/{NAME}/invalidation", json=body)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:scorehouse:problem:invalid-request")
    assert [fault["place"] for fault in answer.json()["faults"]] == [place]
    assert (await results.client.get(f"/standardized_output/{NAME}")).json()["state"] == "valid"


async def test_an_unknown_result(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    await results.client.post("/raw_input", json=make_result())
    answer = await results.client.post(f"/standardized_output/{NAME}/invalidation", json=WHY)
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:scorehouse:problem:not-found")


async def test_a_result_that_is_stored_while_it_is_looked_for(
    results: "ResultsUnderTest", make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = corrections._fetch_newest  # noqa: SLF001 - the moment between its two looks is what this is about

    async def push_first(*where: Any) -> Any:
        await results.client.post("/standardized_output", json=make_result())
        return await fetch(*where)

    monkeypatch.setattr(corrections, "_fetch_newest", push_first)
    answer = await results.client.post(f"/standardized_output/{NAME}/invalidation", json=WHY)
    assert (answer.status_code, answer.json()["state"]) == (200, "invalidated")


async def test_a_history_has_an_end(
    results: "ResultsUnderTest", make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("results_service.corrections.MAX_CORRECTIONS", 2)
    await results.client.post("/standardized_output", json=make_result())
    await correct(results, "invalidation")
    await correct(results, "restoration")
    answer = await results.client.post(f"/standardized_output/{NAME}/invalidation", json=WHY)
    assert (answer.status_code, answer.json()["faults"][0]["place"]) == (422, "history")


async def test_the_same_content_pushed_again_stays_invalidated(
    results: "ResultsUnderTest", make_result: MakeResult
) -> None:
    await results.client.post("/standardized_output", json=make_result())
    await correct(results, "invalidation")
    again = await results.client.post("/standardized_output", json=make_result())
    assert (again.status_code, again.json()["unchanged"]) == (200, True)
    assert (await results.client.get(f"/standardized_output/{NAME}")).json()["state"] == "invalidated"
    changed = await results.client.post("/standardized_output", json=make_result(source="elsewhere"))
    assert changed.status_code == 409
    assert f"/standardized_output/{NAME}/invalidation" in changed.json()["detail"]


async def test_two_instances_at_once_keep_one_order(start_results: "StartResults", make_result: MakeResult) -> None:
    async with start_results() as one, start_results() as other:
        await one.client.post("/standardized_output", json=make_result())

        async def toggle(results: "ResultsUnderTest", what: str) -> None:
            for _ in range(10):
                await correct(results, what)

        await asyncio.gather(
            *(toggle(results, what) for results in (one, other) for what in ("invalidation", "restoration"))
        )
        detail = (await one.client.get(f"/standardized_output/{NAME}")).json()
        actions = [correction["action"] for correction in detail["history"]]
        assert actions == ["invalidated", "restored"] * (len(actions) // 2) + ["invalidated"] * (len(actions) % 2)
        assert detail["state"] == ("invalidated" if len(actions) % 2 else "valid")
        kinds = [entry["kind"] for entry in await read_feed(other)]
        assert (kinds.count("invalidated"), kinds.count("restored")) == (
            actions.count("invalidated"),
            actions.count("restored"),
        )
        assert one.database["standardized_output"].count_documents({"settled": False}) == 0


async def away(*_: Any, **__: Any) -> None:
    """Stands in for `Feed.append`, as if the store, or this instance, were lost before it."""
    raise StoreUnavailable("away")


@pytest.mark.parametrize("mended_by", ["start", "again", "opposite", "push"])
@pytest.mark.parametrize("entered", [0, 1, 2])
async def test_what_a_crash_kept_out_of_the_feed(
    start_results: "StartResults",
    make_result: MakeResult,
    monkeypatch: pytest.MonkeyPatch,
    mended_by: str,
    entered: int,
) -> None:
    expected = ["result", "invalidated", "restored"]
    async with start_results() as crashed:
        steps: list[tuple[str, dict[str, Any]]] = [("/standardized_output", make_result())]
        steps += [(f"/standardized_output/{NAME}/{what}", WHY) for what in ("invalidation", "restoration")]
        for path, body in steps[:entered]:
            assert (await crashed.client.post(path, json=body)).status_code in (200, 201)
        with monkeypatch.context() as patch:
            patch.setattr(Feed, "append", away)
            for path, body in steps[entered:]:
                assert (await crashed.client.post(path, json=body)).status_code == 503
        match mended_by:
            case "again":
                assert (await correct(crashed, "restoration"))["unchanged"]
            case "opposite":
                await correct(crashed, "invalidation")
                expected.append("invalidated")
            case "push":
                assert (await crashed.client.post("/standardized_output", json=make_result())).status_code == 200
        found = [entry["kind"] for entry in await read_feed(crashed)]
        assert found == (expected[:entered] if mended_by == "start" else expected)
    async with start_results() as again:
        assert [entry["kind"] for entry in await read_feed(again)] == expected
        assert again.database["standardized_output"].count_documents({"settled": False}) == 0


async def test_a_push_that_settles_late_does_not_hide_a_correction(
    results: "ResultsUnderTest", make_result: MakeResult
) -> None:
    """It read the result before it was corrected, and must not say that the correction's entry is made."""
    store = results.app.state.store
    await results.client.post("/standardized_output", json=make_result())
    [before] = results.database["standardized_output"].find()
    results.database["standardized_output"].update_one(
        {},
        {
            "$set": {
                "state": "invalidated",
                "settled": False,
                "history": [{"action": "invalidated", **WHY, "at": "2024-01-01T12:00:00Z", "key": None}],
            }
        },
    )
    await store._settle_before_answer("standardized_output", {before["_id"]: before})  # noqa: SLF001 - as `put` does,
    await store._settle([before["_id"]])  # noqa: SLF001 - only later
    assert results.database["standardized_output"].count_documents({"settled": False}) == 1
    await store.repair()
    assert [entry["kind"] for entry in await read_feed(results)] == ["result", "invalidated"]
