"""`/benchmarks`, `/models`, `/sources`: names with counts."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from results_service.pickers import Pickers
from results_service.read_time import ReadLimits
from shared.results import ResultKind

if TYPE_CHECKING:
    from tests.conftest import ResultsUnderTest

MakeResult = Callable[..., dict[str, Any]]
FIELDS = {"/benchmarks": "benchmark_name", "/models": "model_id", "/sources": "source"}


async def push(results: "ResultsUnderTest", document: dict[str, Any], kind: str = "standardized_output") -> str:
    """Push a document that must be new; its result name."""
    answer = await results.client.post(f"/{kind}", json=document)
    assert answer.status_code == 201, answer.text
    name: str = answer.json()["result_name"]
    return name


@pytest.mark.parametrize("path", FIELDS)
async def test_names_with_counts(results: "ResultsUnderTest", make_result: MakeResult, path: str) -> None:
    assert (await results.client.get(path)).json() == {"items": [], "next_cursor": None}
    times = ["2024-03-01T00:00:00Z", "2024-03-01T00:00:00.25Z", "2023-01-01T00:00:00Z"]
    for name in ("가", "B"):
        await push(results, make_result(**{"timestamp": times[0], "run_id": name, FIELDS[path]: name}))
    for time in times:
        wrong = await push(results, make_result(**{"timestamp": time, "run_id": "b", FIELDS[path]: "b"}))
    await push(results, make_result(**{FIELDS[path]: "raw"}), "raw_input")
    await results.client.post(f"/standardized_output/{wrong}/invalidation", json={"author": "a", "reason": "r"})

    items = (await results.client.get(path)).json()["items"]
    assert [tuple(item.values()) for item in items] == [
        ("B", 1, 0, times[0]),
        ("b", 3, 1, times[1]),
        ("가", 1, 0, times[0]),
    ]
    assert list(items[0]) == ["name", "results", "invalidated", "newest"]
    raw = (await results.client.get(path, params={"kind": "raw_input"})).json()
    assert [item["name"] for item in raw["items"]] == ["raw"]


async def test_pages(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    names = sorted(f"team/{number}" for number in range(7))
    for name in names:
        await push(results, make_result(source=name, run_id=name.replace("/", "-")))
    seen: list[str] = []
    parameters: dict[str, str] = {"limit": "3"}
    pages = 0
    while parameters.get("cursor", "") is not None:
        page = (await results.client.get("/sources", params=parameters)).json()
        seen += [item["name"] for item in page["items"]]
        parameters = parameters | {"cursor": page["next_cursor"]}
        pages += 1
    assert (seen, pages) == (names, 3)


@pytest.mark.parametrize(
    ("parameters", "place"),
    [
        ({"kind": "raw"}, "query.kind"),
        ({"kind": ""}, "query.kind"),
        ({"limit": "0"}, "query.limit"),
        ({"limit": "1001"}, "query.limit"),
        ({"limit": str(2**70)}, "query.limit"),
        ({"limit": ["1", "2"]}, "query.limit"),
        ({"cursor": ""}, "query.cursor"),
        ({"cursor": "abc"}, "query.cursor"),
        ({"name": "mmlu"}, "query.name"),
    ],
)
@pytest.mark.parametrize("path", FIELDS)
async def test_refusals(results: "ResultsUnderTest", path: str, parameters: dict[str, Any], place: str) -> None:
    answer = await results.client.get(path, params=parameters)
    assert answer.status_code == 422
    assert [fault["place"] for fault in answer.json()["faults"]] == [place]


async def test_a_cursor_is_good_for_its_own_names_alone(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    for number in range(3):
        await push(results, make_result(source=f"s{number}", model_id=f"m{number}", run_id=f"r{number}"))
    cursor = (await results.client.get("/sources", params={"limit": "1"})).json()["next_cursor"]
    for path, parameters in (("/models", {}), ("/sources", {"kind": "raw_input"}), ("/standardized_output", {})):
        answer = await results.client.get(path, params=parameters | {"cursor": cursor})
        assert (answer.status_code, answer.json()["faults"][0]["place"]) == (422, "query.cursor")
    assert (await results.client.get("/sources", params={"cursor": cursor, "limit": "5"})).status_code == 200


async def test_an_answer_that_took_long_is_given_again(
    results: "ResultsUnderTest", make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    await push(results, make_result())
    pickers = Pickers(results.app.state.mongo, ReadLimits(timeout_s=5, page=1000))

    async def names() -> list[str]:
        page = await pickers.names(ResultKind.STANDARDIZED, "source", 10, None)
        return [item.name for item in page.items]

    assert await names() == ["tests"]
    await push(results, make_result(source="another", run_id="another"))
    assert await names() == ["another", "tests"]  # nothing is kept that is quickly found

    monkeypatch.setattr("results_service.pickers._WORTH_KEEPING_S", 0)
    monkeypatch.setattr("results_service.pickers._KEPT_TIMES", 1_000_000)
    await names()
    await push(results, make_result(source="a third", run_id="third"))
    assert await names() == ["another", "tests"]
    monkeypatch.setattr("results_service.pickers.KEPT_S", 0)
    assert [
        item.name
        for item in (
            await Pickers(results.app.state.mongo, ReadLimits(5, 10)).names(ResultKind.STANDARDIZED, "source", 10, None)
        ).items
    ] == ["a third", "another", "tests"]


async def test_many_who_ask_wait_for_one_computation(
    results: "ResultsUnderTest", make_result: MakeResult, mongo_client: Any
) -> None:
    await push(results, make_result())
    before = mongo_client.admin.command("serverStatus")["metrics"]["commands"]["aggregate"]["total"]
    answers = await asyncio.gather(*(results.client.get("/models") for _ in range(30)))
    after = mongo_client.admin.command("serverStatus")["metrics"]["commands"]["aggregate"]["total"]
    assert {answer.text for answer in answers} == {answers[0].text}
    assert after - before < 15  # each by itself would be three
