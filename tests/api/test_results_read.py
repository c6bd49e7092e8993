"""Reading results back: lists and their pages, one result, what is not there, and who may ask."""

import itertools
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import pytest

from results_service.documents import stored_id
from scorehouse.calls import ListFilters, ScorehouseError
from scorehouse.client import AsyncScorehouse
from shared.results import ResultSort, ResultState
from tests.api.conftest import serve

if TYPE_CHECKING:
    from tests.conftest import ResultsUnderTest, StartResults

MakeResult = Callable[..., dict[str, Any]]
NAME = "2024-01-01T12:00:00Z-mmlu-run-1"


async def push(results: "ResultsUnderTest", document: dict[str, Any], kind: str = "standardized_output") -> str:
    """Push a document that must be new; its result name."""
    answer = await results.client.post(f"/{kind}", json=document)
    assert answer.status_code == 201, answer.text
    name: str = answer.json()["result_name"]
    return name


async def test_a_list_item(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    before = datetime.now(UTC)
    await push(results, make_result(tokenizer_id="tok"))
    page = (await results.client.get("/standardized_output")).json()
    (item,) = page["items"]
    received_at = datetime.fromisoformat(item.pop("received_at"))

    data = json.dumps(make_result()["data"], separators=(",", ":")).encode()
    assert before <= received_at <= datetime.now(UTC)
    assert (page["next_cursor"], page["total"]) == (None, None)
    assert item == {
        "result_name": NAME,
        "run_id": "run-1",
        "benchmark_name": "mmlu",
        "model_id": "gpt-4",
        "tokenizer_id": "tok",
        "source": "tests",
        "timestamp": "2024-01-01T12:00:00Z",
        "provenance": None,
        "questions": 2,
        "summary": {},
        "bytes": len(data),
        "sha256": sha256(data).hexdigest(),
        "state": "valid",
        "standardization": None,
    }


# Equal times, and fractions: as text "…00.5Z" would sort before "…00Z".
TIMES = [f"2024-01-0{day}T00:00:00{fraction}Z" for day in (3, 1, 2) for fraction in ("", ".5", ".25")]


async def walk(results: "ResultsUnderTest", between: Callable[[], Awaitable[object]], **parameters: str) -> list[str]:
    """The names on all pages of a list; something happens after each page but the last."""
    seen: list[str] = []
    cursor: str | None = None
    while True:
        wanted = {"limit": "4"} | parameters | ({"cursor": cursor} if cursor else {})
        answer = await results.client.get("/standardized_output", params=wanted)
        assert answer.status_code == 200, answer.text
        seen += [item["result_name"] for item in answer.json()["items"]]
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            return seen
        await between()


@pytest.mark.parametrize(
    "filters", [{}, {"model_id": "m"}, {"since": "2024-01-01T00:00:00Z", "until": "2024-01-03T00:00:00.1Z"}]
)
@pytest.mark.parametrize("sort", ["-timestamp", "timestamp", "-arrival", "arrival"])
async def test_pages_stay_right_while_results_come_in(
    results: "ResultsUnderTest", make_result: MakeResult, sort: str, filters: dict[str, str]
) -> None:
    arrived = [
        await push(results, make_result(timestamp=time, run_id=run, model_id="m"))
        for time, run in itertools.product(TIMES, ("b", "a"))
    ]
    present = sorted(arrived, key=stored_id) if sort.endswith("timestamp") else arrived
    if sort.startswith("-"):
        present = present[::-1]
    if "since" in filters:
        present = [name for name in present if name.partition("Z")[0] < "2024-01-03T00:00:00.1"]

    late = itertools.count()

    async def more() -> None:
        for time in ("2020-01-01T00:00:00Z", "2024-01-02T00:00:00Z", "2030-01-01T00:00:00Z"):
            await push(results, make_result(timestamp=time, run_id=f"late-{next(late)}", model_id="m"))

    seen = await walk(results, more, sort=sort, **filters)
    assert len(seen) == len(set(seen))
    assert [name for name in seen if "late" not in name] == present


async def test_the_newest_is_first(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    for time in ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00.5Z", "2023-12-31T23:59:59.9Z"):
        await push(results, make_result(timestamp=time))
    page = (await results.client.get("/standardized_output")).json()
    assert [item["timestamp"][-5:] for item in page["items"]] == ["00.5Z", "0:00Z", "59.9Z"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("benchmark_name", "aime"),
        ("model_id", "Phi_4"),
        ("source", "elsewhere"),
        ("run_id", "Run-1"),
        ("tokenizer_id", "tok/2"),
    ],
)
async def test_filters(results: "ResultsUnderTest", make_result: MakeResult, field: str, value: str) -> None:
    await push(results, make_result())
    wanted = await push(results, make_result(**({"timestamp": "2024-01-02T00:00:00Z"} | {field: value})))
    await push(results, make_result(timestamp="2024-01-03T00:00:00Z", model_id="phi_4"))

    for sort in ("-timestamp", "arrival"):
        found = (await results.client.get("/standardized_output", params={field: value, "sort": sort})).json()
        none = (await results.client.get("/standardized_output", params={field: value + "x", "sort": sort})).json()
        assert [item["result_name"] for item in found["items"]] == [wanted]
        assert none == {"items": [], "next_cursor": None, "total": None}


async def test_filters_narrow_each_other(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    for model, source, day in itertools.product(("a", "b"), ("s", "t"), (1, 2, 3)):
        run = f"{model}{source}{day}"
        document = make_result(model_id=model, source=source, run_id=run, timestamp=f"2024-01-0{day}T00:00:00Z")
        await push(results, document)
    invalidation = {"author": "ada", "reason": "wrong"}
    name = "2024-01-02T00:00:00Z-mmlu-at2"
    await results.client.post(f"/standardized_output/{name}/invalidation", json=invalidation)

    async def runs(**parameters: str) -> set[str]:
        page = (await results.client.get("/standardized_output", params=parameters | {"total": "true"})).json()
        assert page["total"] == len(page["items"])
        return {item["run_id"] for item in page["items"]}

    assert await runs(model_id="a", source="t") == {"at1", "at2", "at3"}
    assert await runs(model_id="a", source="t", state="valid") == {"at1", "at3"}
    assert await runs(state="invalidated", sort="arrival") == {"at2"}
    assert await runs(state="invalidated", model_id="b") == set()
    since = {"since": "2024-01-02T09:00:00+09:00"}
    assert await runs(model_id="a", **since) == {"as2", "as3", "at2", "at3"}
    assert await runs(model_id="a", until="2024-01-03T00:00:00Z", sort="-arrival", **since) == {"as2", "at2"}


async def test_totals_only_on_request(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    for number in range(5):
        await push(results, make_result(run_id=f"r{number}"))
    for parameters, total in (({}, None), ({"total": "false"}, None), ({"total": "true"}, 5)):
        page = (await results.client.get("/standardized_output", params=parameters | {"limit": "2"})).json()
        assert page["total"] == total
        further = parameters | {"limit": "2", "cursor": page["next_cursor"]}
        assert (await results.client.get("/standardized_output", params=further)).json()["total"] == total


async def test_the_kinds_are_apart(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    await push(results, make_result(), "raw_input")
    assert (await results.client.get("/standardized_output")).json()["items"] == []
    await push(results, make_result(model_id="another"), "standardized_output")


async def test_lists_do_not_touch_data(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    questions = [{"question_id": f"q{number}", "answer": sha256(b"%d" % number).hexdigest()} for number in range(200)]
    await push(results, make_result(data={"questions": [question | {"score": 1} for question in questions]}))
    results.database["blobs"].drop()
    listed = await results.client.get("/standardized_output")
    read = await results.client.get(f"/standardized_output/{NAME}")
    assert (listed.status_code, len(listed.json()["items"])) == (200, 1)
    assert (read.status_code, read.json()["type"]) == (500, "urn:scorehouse:problem:internal")


@pytest.mark.parametrize(
    ("parameters", "place", "said"),
    [
        ({"limit": "0"}, "query.limit", "greater than or equal to 1"),
        ({"limit": "1001"}, "query.limit", "at most 1,000 (setting MAX_PAGE)"),
        ({"limit": str(2**70)}, "query.limit", "at most 1,000"),
        ({"limit": "9" * 5000}, "query.limit", "integer"),
        ({"limit": "x"}, "query.limit", "integer"),
        ({"limit": ["1", "2"]}, "query.limit", "more than once"),
        ({"model_id": ["a", "b"]}, "query.model_id", "more than once"),
        ({"model_id": ""}, "query.model_id", "must not be empty"),
        ({"source": "a\0b"}, "query.source", "control characters"),
        ({"state": "deleted"}, "query.state", "'valid' or 'invalidated'"),
        ({"sort": "model_id"}, "query.sort", "'-timestamp', 'timestamp'"),
        ({"since": "yesterday"}, "query.since", "RFC 3339"),
        ({"until": "2024-01-01T00:00:00"}, "query.until", "RFC 3339"),
        ({"since": "2024-01-02T00:00:00Z", "until": "2024-01-01T00:00:00Z"}, "query.until", "is before since"),
        ({"total": "maybe"}, "query.total", "boolean"),
        ({"cursor": ""}, "query.cursor", "next_cursor"),
        ({"cursor": "x"}, "query.cursor", "next_cursor"),
        ({"cursor": "WzEsMl0="}, "query.cursor", "next_cursor"),
        ({"benchmark": "mmlu"}, "query.benchmark", "is not a field"),
    ],
)
async def test_list_refusals(results: "ResultsUnderTest", parameters: dict[str, Any], place: str, said: str) -> None:
    answer = await results.client.get("/raw_input", params=parameters)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:scorehouse:problem:invalid-request")
    (fault,) = answer.json()["faults"]
    assert fault["place"] == place
    assert said in fault["detail"]


async def test_a_cursor_is_good_for_its_own_list_alone(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    for number in range(3):
        await push(results, make_result(run_id=f"r{number}"))
        await push(results, make_result(run_id=f"r{number}"), "raw_input")
    cursor = (await results.client.get("/raw_input", params={"limit": "1"})).json()["next_cursor"]
    others: list[tuple[str, dict[str, str], str]] = [
        ("/standardized_output", {}, "another list"),
        ("/raw_input", {"model_id": "gpt-4"}, "other filters"),
        ("/raw_input", {"sort": "arrival"}, "sorted by '-timestamp'"),
        ("/sources", {"kind": "raw_input"}, "not one that a list gave"),
    ]
    for path, parameters, said in others:
        answer = await results.client.get(path, params=parameters | {"cursor": cursor})
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:scorehouse:problem:invalid-request")
        assert said in answer.json()["detail"]
    assert (await results.client.get("/raw_input", params={"cursor": cursor, "limit": "2"})).status_code == 200


async def test_the_longest_page_is_a_setting(start_results: "StartResults") -> None:
    async with start_results(max_page=5) as running:
        for path in ("/raw_input", "/models"):
            assert (await running.client.get(path, params={"limit": "5"})).status_code == 200
            too_long = await running.client.get(path, params={"limit": "6"})
            assert too_long.json()["detail"] == "query.limit: must be at most 5 (setting MAX_PAGE)"


async def test_the_client_takes_the_same_filters(start_results: "StartResults", make_result: MakeResult) -> None:
    async with start_results() as running, serve(running.app) as url, AsyncScorehouse(url) as house:
        for model, day in itertools.product(("a", "b"), (1, 2, 3)):
            document = make_result(
                model_id=model, tokenizer_id="t", timestamp=f"2024-01-0{day}T00:00:00Z", run_id=model
            )
            await push(running, document)

        async def names(**filters: Unpack[ListFilters]) -> list[str]:
            return [result.result_name async for result in house.list_results(**filters)]

        assert len(await names()) == 6
        assert await names(
            model_id="a",
            tokenizer_id="t",
            source=None,
            state=ResultState.VALID,
            since=datetime(2024, 1, 1, 9, tzinfo=timezone(timedelta(hours=9))),
            until="2024-01-03T00:00:00Z",
            sort=ResultSort.FIRST_ARRIVED,
        ) == ["2024-01-01T00:00:00Z-mmlu-a", "2024-01-02T00:00:00Z-mmlu-a"]
        with pytest.raises(ScorehouseError, match=r"query\.since"):
            await names(since="yesterday")


@pytest.mark.parametrize(
    "spelling",
    [
        NAME,
        "2024-01-01T12:00:00.000Z-mmlu-run-1",
        "2024-01-01t12:00:00z-mmlu-run-1",
        "2024-01-01T21:00:00%2B09:00-mmlu-run-1",
        "2024-01-01T21:00:00+09:00-mmlu-run-1",
        "2024-01-01T04:00:00-08:00-mmlu-run-1",
    ],
)
async def test_every_spelling_of_the_time_finds_it(
    results: "ResultsUnderTest", make_result: MakeResult, spelling: str
) -> None:
    await push(results, make_result())
    answer = await results.client.get(f"/standardized_output/{spelling}")
    assert (answer.status_code, answer.json()["result_name"]) == (200, NAME)
    assert answer.json()["data"] == make_result()["data"]


@pytest.mark.parametrize("run_id", ["a b", "%2F", "run?x=1#y", "가나", "-", "..", "2024-01-01T00:00:00Z"])
async def test_odd_run_ids_are_reached_by_the_feeds_href(
    results: "ResultsUnderTest", make_result: MakeResult, run_id: str
) -> None:
    name = await push(results, make_result(run_id=run_id))
    entry = json.loads((await results.client.get("/feed")).text)
    answer = await results.client.get(entry["href"])
    assert (answer.status_code, answer.json()["result_name"], answer.json()["run_id"]) == (200, name, run_id)


async def test_nothing_there(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    await push(results, make_result(), "raw_input")
    absent = await results.client.get("/raw_input/no-such")
    other = await results.client.get(f"/standardized_output/{NAME}")
    for answer in (absent, other):
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:scorehouse:problem:not-found")
    assert "GET /raw_input lists" in absent.json()["detail"]
    assert "under /raw_input" in other.json()["detail"]


async def test_other_methods_and_paths(results: "ResultsUnderTest") -> None:
    method = await results.client.delete("/raw_input")
    path = await results.client.get("/nowhere")
    assert (method.status_code, method.json()["type"]) == (405, "urn:scorehouse:problem:method-not-allowed")
    assert method.headers["allow"]
    assert (path.status_code, path.json()["type"]) == (404, "urn:scorehouse:problem:not-found")


async def test_health(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    empty = (await results.client.get("/health")).json()
    await push(results, make_result())
    answer = await results.client.get("/health")
    assert answer.status_code == 200
    assert empty["feed_head"] == 0
    assert answer.json() == {
        "status": "ok",
        "store": {"engine": "mongodb", "reachable": True, "detail": None},
        "feed_head": 1,
        "version": empty["version"],
    }


KEYS = {"writer": "results:write", "reader": "results:read", "analyst": "analysis:read", "boss": "admin"}
EXPIRED = "late"


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    """API keys, one for each scope, and one that has expired."""
    entry = '[[keys]]\nid = "{0}"\nsha256 = "{1}"\nscopes = ["{2}"]\n'
    text = "".join(entry.format(name, sha256(name.encode()).hexdigest(), scope) for name, scope in KEYS.items())
    past = (datetime.now(UTC) - timedelta(days=1)).isoformat(timespec="seconds")
    text += entry.format(EXPIRED, sha256(EXPIRED.encode()).hexdigest(), "admin") + f"expires = {past}\n"
    file = tmp_path / "keys.toml"
    file.write_text(text)
    return file


WRITES = [("POST", "/raw_input"), ("POST", "/standardized_output")]
READS = [("GET", "/raw_input"), ("GET", "/standardized_output"), ("GET", f"/raw_input/{NAME}"), ("GET", "/feed")]


async def test_keys(start_results: "StartResults", make_result: MakeResult, keys_file: Path) -> None:
    async with start_results(auth="keys", api_keys_file=keys_file) as guarded:

        async def ask(method: str, path: str, key: str | None) -> tuple[int, str]:
            headers = {} if key is None else {"Authorization": f"Bearer {key}"}
            body = json.dumps(make_result()).encode() if method == "POST" else b""
            answer = await guarded.client.request(method, path, headers=headers, content=body)
            return answer.status_code, "" if answer.is_success else answer.json()["type"].rpartition(":")[2]

        for method, path in WRITES + READS:
            for key in (None, "stranger", EXPIRED):
                assert await ask(method, path, key) == (401, "not-authenticated"), (method, path, key)
            assert await ask(method, path, "analyst") == (403, "not-authorized")
            assert await ask(method, path, "reader" if method == "POST" else "writer") == (403, "not-authorized")
        assert guarded.stored() == {}
        for method, path in WRITES:
            assert (await ask(method, path, "writer"))[0] == 201
            assert (await ask(method, path, "boss"))[0] == 200
        for method, path in READS:
            assert (await ask(method, path, "reader"))[0] == 200
        for path in ("/health", "/docs", "/openapi.json"):
            assert (await ask("GET", path, None))[0] == 200


async def test_the_documentation_is_whole(results: "ResultsUnderTest") -> None:
    document = (await results.client.get("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    text = json.dumps(document)
    referenced = {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert referenced <= set(schemas)
    assert "#/$defs" not in text
    for kind in ("/raw_input", "/standardized_output"):
        body = document["paths"][kind]["post"]["requestBody"]["content"]["application/json"]
        assert set(body["schema"]["required"]) <= set(body["example"]) <= set(body["schema"]["properties"])
        pushed = await results.client.post(kind, json=body["example"])
        assert (pushed.status_code, pushed.json()["warnings"]) == (201, [])
        answers = document["paths"][kind]["post"]["responses"]
        assert {"200", "201", "4XX", "5XX"} <= set(answers)
    assert document["paths"]["/feed"]["get"]["responses"]["200"]["content"].keys() == {"application/x-ndjson"}
