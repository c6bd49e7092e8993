"""What MongoDB does for lists, as its profiler tells of what the service asks: which index, how many documents."""

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pymongo
import pytest
from pymongo.database import Database

from results_service.app import create_app
from results_service.listing import COUNTED, ListQuery, leads, list_indexes, page_query, total_filter
from results_service.settings import ResultsSettings
from shared.results import ResultKind, ResultSort
from tests.bench.stored_million import fill

RESULTS = 20_000
KIND = ResultKind.STANDARDIZED.value

FILTERS: dict[str, dict[str, str]] = {
    "everything": {},
    "benchmark_name": {"benchmark_name": "benchmark-3"},
    "model_id": {"model_id": "vendor-1/model-6"},
    "source": {"source": "team-2/harness"},
    "run_id": {"run_id": "run-0000777"},
    "tokenizer_id": {"tokenizer_id": "tokenizer-3"},
    "valid": {"state": "valid"},
    "invalidated": {"state": "invalidated"},
    "from": {"since": "2024-01-02T00:00:00Z"},
    "before": {"until": "2024-01-06T12:00:00Z"},
    "range": {"since": "2024-01-01T12:00:00Z", "until": "2024-01-06T12:00:00Z"},
    "hour": {"since": "2024-01-03T00:00:00Z", "until": "2024-01-03T01:00:00Z"},
}


@dataclass(frozen=True)
class Populated:
    """A service over many results, and its database."""

    client: httpx.AsyncClient
    database: "Database[dict[str, Any]]"


@pytest.fixture(scope="module")
async def populated(mongo_url: str, mongo_client: "pymongo.MongoClient[dict[str, Any]]") -> AsyncIterator[Populated]:
    """The service over as many results as fit into a moment; only for tests that change nothing."""
    database = mongo_client["listing_indexes"]
    fill(database[KIND], RESULTS)
    settings = ResultsSettings(mongo_url=mongo_url, mongo_database=database.name, auth="disabled")
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        yield Populated(client, database)
    mongo_client.drop_database(database.name)


@contextmanager
def profiled(database: "Database[dict[str, Any]]") -> Iterator[list[dict[str, Any]]]:
    """Fills the list with what MongoDB tells of the questions that are asked inside, in order."""
    told: list[dict[str, Any]] = []
    database.command("profile", 0)
    database["system.profile"].drop()
    database.command("profile", 2)
    try:
        yield told
    finally:
        database.command("profile", 0)
        # What repair asks in the background may come in between.
        reads = {"ns": f"{database.name}.{KIND}", "op": {"$in": ["query", "command"]}}
        reads |= {"command.filter.settled": {"$exists": False}}
        told += database["system.profile"].find(reads).sort("ts")


def stages(plan: dict[str, Any]) -> list[str]:
    """The names of a plan's stages."""
    inner = [plan[key] for key in ("inputStage",) if key in plan] + plan.get("inputStages", [])
    return [plan["stage"], *(name for stage in inner for name in stages(stage))]


@pytest.mark.parametrize("sort", ResultSort)
@pytest.mark.parametrize("what", FILTERS)
async def test_every_filter_and_order_has_an_index(populated: Populated, what: str, sort: ResultSort) -> None:
    parameters = FILTERS[what] | {"sort": sort.value, "limit": "50"}
    with profiled(populated.database) as told:
        first = (await populated.client.get(f"/{KIND}", params=parameters)).json()
        pages = [first["items"]]
        if first["next_cursor"]:
            second = await populated.client.get(f"/{KIND}", params=parameters | {"cursor": first["next_cursor"]})
            pages.append(second.json()["items"])

    found = [question for question in told if question["op"] == "query"]
    for question, page in zip(found, pages, strict=True):
        # One more than the page tells whether there is another; the few that are invalidated are passed over.
        assert question["docsExamined"] <= len(page) + 3
        assert {"COLLSCAN", "SORT"}.isdisjoint(stages(question["execStats"]))
        if "_id" not in str(question["command"]["filter"]) or sort.endswith("timestamp"):
            assert question["keysExamined"] <= len(page) + 3
    for question in told:
        assert question["planSummary"].startswith(("IXSCAN", "COUNT_SCAN", "DISTINCT_SCAN"))
        assert not question.get("hasSortStage")
    assert len(pages[0]) == (1 if what == "run_id" else 50)


async def test_few_of_a_value_in_a_range_are_put_in_order(populated: Populated) -> None:
    """The one exception, a combination: to go through all arrivals of the value would take longer."""
    wanted = {"benchmark_name": "benchmark-0", "since": "2024-01-03T00:00:00Z", "until": "2024-01-03T01:00:00Z"}
    with profiled(populated.database) as told:
        page = (await populated.client.get(f"/{KIND}", params=wanted | {"sort": "-arrival"})).json()
    (found,) = [question for question in told if question["op"] == "query"]
    assert page["items"] == sorted(page["items"], key=lambda item: item["received_at"], reverse=True)
    in_range = populated.database[KIND].count_documents(total_filter(ListQuery(**wanted)))
    assert 0 < len(page["items"]) == found["docsExamined"] == in_range < 200
    assert "IXSCAN" in stages(found["execStats"])


PAIRS = [
    ({"benchmark_name": "benchmark-0", "run_id": "run-0000777"}, "run_id"),
    ({"model_id": "vendor-0/model-0", "benchmark_name": "benchmark-29"}, "benchmark_name"),
    ({"model_id": "vendor-4/model-14", "benchmark_name": "benchmark-0"}, "model_id"),
    ({"model_id": "vendor-1/model-1", "benchmark_name": "benchmark-0"}, "model_id"),  # both frequent
    ({"source": "nobody", "benchmark_name": "benchmark-0"}, "source"),
    ({"state": "invalidated", "model_id": "vendor-0/model-0", "benchmark_name": "benchmark-0"}, "state"),
    ({"tokenizer_id": "none-such", "model_id": "vendor-0/model-0"}, "tokenizer_id"),
]


@pytest.mark.parametrize("sort", ResultSort)
@pytest.mark.parametrize(("parameters", "lead"), PAIRS)
async def test_the_rarest_filter_leads(
    populated: Populated, parameters: dict[str, str], lead: str, sort: ResultSort
) -> None:
    collection = populated.database[KIND]
    counts = {name: collection.count_documents({name: value}) for name, value in parameters.items()}
    assert min(counts, key=lambda name: counts[name]) == lead
    # MongoDB by itself would remember an index by the names of the filters, right for a value or wrong.
    for _ in range(2):
        with profiled(populated.database) as told:
            answer = await populated.client.get(f"/{KIND}", params=parameters | {"sort": sort.value})
        shown = len(answer.json()["items"])
        (found,) = [question for question in told if question["op"] == "query"]
        assert found["planSummary"].startswith(f"IXSCAN {{ {lead}: 1")
        counted = [question for question in told if question["op"] == "command"]
        assert all(question["keysExamined"] <= COUNTED[counts[lead] >= COUNTED[0]] for question in counted)
        # Fields that are often combined are in each other's indexes, so that no document is read in vain.
        assert found["docsExamined"] <= (counts[lead] if lead in ("run_id", "state", "tokenizer_id") else shown + 1)
        assert "SORT" not in stages(found["execStats"])


async def test_totals_are_counted_in_an_index(populated: Populated) -> None:
    for parameters in FILTERS.values():
        with profiled(populated.database) as told:
            page = await populated.client.get(f"/{KIND}", params=parameters | {"limit": "1", "total": "true"})
        expected = populated.database[KIND].count_documents(total_filter(ListQuery(**parameters)))
        assert page.json()["total"] == expected
        for question in told:
            assert question["planSummary"].startswith(("IXSCAN", "COUNT_SCAN", "DISTINCT_SCAN"))
            assert question["docsExamined"] <= 3


@pytest.mark.parametrize("path", ["/benchmarks", "/models", "/sources"])
async def test_pickers_read_no_documents(populated: Populated, path: str) -> None:
    with profiled(populated.database) as told:
        page = (await populated.client.get(path, params={"limit": "7"})).json()
    assert len(page["items"]) == 7
    assert sum(item["invalidated"] for item in page["items"]) > 0
    assert len(told) == 2 + 7
    for question in told:
        assert question["docsExamined"] == 0
        assert question["planSummary"].startswith(("IXSCAN", "COUNT_SCAN", "DISTINCT_SCAN"))


def test_no_index_is_there_in_vain(populated: Populated) -> None:
    """Each is the answer to some list; what is not would cost every insert for nothing."""
    made = set(populated.database[KIND].index_information()) - {"_id_", "settled_1", "blob_1"}
    used = {"state_1_benchmark_name_1_model_id_1_source_1"}  # the pickers'
    for parameters, sort in itertools.product(FILTERS.values(), ResultSort):
        query = ListQuery(**parameters, sort=sort)
        hint = page_query(query, [(lead, COUNTED[-1]) for lead in leads(query)], [], None).hint
        used.add("_".join(f"{name}_{direction}" for name, direction in hint))
    assert made == used - {"_id_1"}
    assert len(list_indexes()) == len(made)


async def test_a_read_over_its_time_limit(populated: Populated, mongo_url: str) -> None:
    """MongoDB itself ends it; that is a 504, not a store that is away."""
    settings = ResultsSettings(
        mongo_url=mongo_url, mongo_database=populated.database.name, auth="disabled", read_timeout_s=0.004
    )
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        # Every document is read for it: no index has the state beside the benchmark.
        slow = {"total": "true", "state": "valid", "benchmark_name": "benchmark-0", "tokenizer_id": "tokenizer-0"}
        answer = await client.get(f"/{KIND}", params=slow)
    assert (answer.status_code, answer.json()["type"]) == (504, "urn:scorehouse:problem:time-limit")
    assert "within 0.004 s (setting READ_TIMEOUT_S); narrow the list" in answer.json()["detail"]
    assert "retry-after" not in answer.headers
