"""Reading results back: lists and their pages, one result, what is not there, and who may ask."""

import itertools
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

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
    assert page["next_cursor"] is None
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
    }


async def test_pages_are_newest_first_and_stay_right_while_results_come_in(
    results: "ResultsUnderTest", make_result: MakeResult
) -> None:
    # Equal times, and a fraction: as text "…00.5Z" would sort before "…00Z".
    times = [f"2024-01-0{day}T00:00:00{fraction}Z" for day in (3, 1, 2) for fraction in ("", ".5", ".25")]
    for time, run in itertools.product(times, ("a", "b")):
        await push(results, make_result(timestamp=time, run_id=run, model_id="m"))
    expected = [
        name
        for time in sorted(set(times), key=lambda text: text.removesuffix("Z"), reverse=True)
        for name in (f"{time}-mmlu-a", f"{time}-mmlu-b")
    ]

    seen: list[str] = []
    cursor: str | None = None
    while True:
        parameters = {"limit": "4"} | ({"cursor": cursor} if cursor else {})
        page = (await results.client.get("/standardized_output", params=parameters)).json()
        seen += [item["result_name"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        await push(results, make_result(timestamp="2025-01-01T00:00:00Z", run_id=f"late-{len(seen)}"))
    assert seen == expected


@pytest.mark.parametrize(
    ("field", "value"),
    [("benchmark_name", "aime"), ("model_id", "Phi_4"), ("source", "elsewhere"), ("run_id", "Run-1")],
)
async def test_filters(results: "ResultsUnderTest", make_result: MakeResult, field: str, value: str) -> None:
    await push(results, make_result())
    wanted = await push(results, make_result(**({"timestamp": "2024-01-02T00:00:00Z"} | {field: value})))
    await push(results, make_result(timestamp="2024-01-03T00:00:00Z", model_id="phi_4"))

    found = (await results.client.get("/standardized_output", params={field: value})).json()
    none = (await results.client.get("/standardized_output", params={field: value + "x"})).json()
    assert [item["result_name"] for item in found["items"]] == [wanted]
    assert none == {"items": [], "next_cursor": None}


async def test_the_kinds_are_apart(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    await push(results, make_result(), "raw_input")
    assert (await results.client.get("/standardized_output")).json()["items"] == []
    await push(results, make_result(model_id="another"), "standardized_output")


async def test_lists_do_not_touch_data(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    await push(results, make_result())
    results.database["blobs"].drop()
    listed = await results.client.get("/standardized_output")
    read = await results.client.get(f"/standardized_output/{NAME}")
    assert (listed.status_code, len(listed.json()["items"])) == (200, 1)
    assert (read.status_code, read.json()["type"]) == (500, "urn:scorehouse:problem:internal")


async def test_lists_are_answered_from_an_index(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    await push(results, make_result())
    for filters in ({}, {"model_id": "gpt-4"}, {"benchmark_name": "mmlu"}, {"source": "tests"}, {"run_id": "run-1"}):
        plan = results.database["standardized_output"].find(filters).sort([("time_key", -1), ("_id", 1)]).explain()
        stages = json.dumps(plan["queryPlanner"]["winningPlan"], default=str)
        first_key = next(iter(filters), "time_key")
        assert f'"keyPattern": {{"{first_key}": ' in stages
        assert '"SORT"' not in stages


@pytest.mark.parametrize(
    ("parameters", "place", "said"),
    [
        ({"limit": "0"}, "query.limit", "greater than or equal to 1"),
        ({"limit": "1001"}, "query.limit", "less than or equal to 1000"),
        ({"limit": "x"}, "query.limit", "integer"),
        ({"cursor": "x"}, "query.cursor", "next_cursor"),
        ({"cursor": "WzEsMl0="}, "query.cursor", "next_cursor"),
        ({"benchmark": "mmlu"}, "query.benchmark", "is not a field"),
    ],
)
async def test_list_refusals(results: "ResultsUnderTest", parameters: dict[str, str], place: str, said: str) -> None:
    answer = await results.client.get("/raw_input", params=parameters)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:scorehouse:problem:invalid-request")
    (fault,) = answer.json()["faults"]
    assert fault["place"] == place
    assert said in fault["detail"]


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
