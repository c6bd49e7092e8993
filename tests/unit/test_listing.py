"""From query parameters to what MongoDB is asked, and cursors."""

import base64
import json
import re
from typing import Any

import pytest
from bson import Int64
from pydantic import ValidationError

from results_service.documents import stored_id
from results_service.listing import (
    COUNTED,
    PERIODS_MERGED,
    Keys,
    Lead,
    ListQuery,
    Position,
    leads,
    list_indexes,
    page_query,
    period_filter,
)
from shared.problems import InvalidRequest
from shared.results import ResultKind, ResultSort
from shared.timestamps import canonical_timestamp

KIND = ResultKind.STANDARDIZED
RANGE = {"since": "2024-01-01T09:00:00+09:00", "until": "2024-02-01T00:00:00.50Z"}
RANGE_IDS = {"_id": {"$gte": "2024-01-01T00:00:00", "$lt": "2024-02-01T00:00:00.5"}}
ALL_ARRIVALS = {"arrival": {"$gte": Int64(0)}}
PERIODS = {"period": {"$in": ["2024-01-0", "2024-01-1"]}}
MODEL_LED = ("benchmark_name", "source")
SOURCE_LED = ("benchmark_name", "model_id")


def keys(*names: str) -> Keys:
    return [(name, 1) for name in names]


@pytest.mark.parametrize(
    ("parameters", "wanted", "hint"),
    [
        ({}, {}, keys("_id")),
        ({"sort": "timestamp"}, {}, keys("_id")),
        ({"sort": "arrival"}, {}, keys("arrival", "_id")),
        ({"model_id": "m/1"}, {"model_id": "m/1"}, keys("model_id", "_id", *MODEL_LED)),
        ({"model_id": "m", "sort": "-arrival"}, {"model_id": "m"}, keys("model_id", "arrival", "_id", *MODEL_LED)),
        ({"tokenizer_id": "t"}, {"tokenizer_id": "t"}, keys("tokenizer_id", "_id")),
        ({"state": "invalidated"}, {"state": "invalidated"}, keys("state", "_id")),
        ({"state": "valid"}, {"state": "valid"}, keys("_id")),
        ({"state": "valid", "source": "s"}, {"source": "s", "state": "valid"}, keys("source", "_id", *SOURCE_LED)),
        (RANGE, RANGE_IDS, keys("_id")),
        (RANGE | {"run_id": "r"}, {"run_id": "r"} | RANGE_IDS, keys("run_id", "_id")),
        ({"since": "2024-01-01T00:00:00Z"}, {"_id": {"$gte": "2024-01-01T00:00:00"}}, keys("_id")),
    ],
)
def test_a_list_that_needs_no_counting(parameters: dict[str, Any], wanted: dict[str, Any], hint: Keys) -> None:
    query = ListQuery(**parameters)
    asked = page_query(query, [], [], None)
    assert (leads(query), period_filter(query)) == ([], None)
    assert (asked.filter, asked.hint) == (wanted, hint)


@pytest.mark.parametrize(
    ("parameters", "counts", "hint"),
    [
        # the rarest filter leads, whatever the order of the parameters
        ({"model_id": "m", "source": "s"}, {"model_id": 5, "source": 7}, keys("model_id", "_id", *MODEL_LED)),
        ({"model_id": "m", "source": "s"}, {"model_id": 7, "source": 5}, keys("source", "_id", *SOURCE_LED)),
        (
            {"model_id": "m", "source": "s", "sort": "arrival"},
            {"source": 5},
            keys("source", "arrival", "_id", *SOURCE_LED),
        ),
        ({"model_id": "m", "state": "invalidated"}, {"state": 5}, keys("state", "_id")),
        ({"run_id": "r", "benchmark_name": "b"} | RANGE, {"run_id": 1}, keys("run_id", "_id")),
        # none is rare
        ({"model_id": "m", "source": "s"}, {}, keys("model_id", "_id", *MODEL_LED)),
        # in a range by arrival, few are put in order, many are come upon
        (RANGE | {"sort": "arrival", "run_id": "r"}, {"run_id": 100}, keys("run_id", "_id")),
        (RANGE | {"sort": "arrival", "run_id": "r"}, {}, keys("run_id", "arrival", "_id")),
    ],
)
def test_what_is_rare_leads(parameters: dict[str, Any], counts: dict[str, int], hint: Keys) -> None:
    query = ListQuery(**parameters)
    counted = [(lead, counts.get(lead.field, COUNTED[-1])) for lead in leads(query)]
    assert counted
    assert page_query(query, counted, [], None).hint == hint


@pytest.mark.parametrize(
    ("times", "wanted"),
    [
        (RANGE, {"$gte": "2024-01-0", "$lte": "2024-02-0"}),
        ({"since": "2024-01-31T23:59:59Z"}, {"$gte": "2024-01-3"}),
        ({"until": "2024-01-10T00:00:00Z"}, {"$lte": "2024-01-1"}),
    ],
)
@pytest.mark.parametrize("sort", ["arrival", "-arrival"])
def test_a_range_by_arrival_is_merged_from_its_periods(
    times: dict[str, str], wanted: dict[str, str], sort: str
) -> None:
    query = ListQuery(**times, state="valid", sort=ResultSort(sort))
    assert leads(query) == []
    assert period_filter(query) == {"period": wanted}
    asked = page_query(query, [], ["2024-01-0", "2024-01-1"], None)
    assert asked.filter == {"$and": [{"state": "valid"} | query.times(), PERIODS]}
    assert asked.hint == keys("period", "arrival", "_id")


def test_too_many_periods_are_not_merged() -> None:
    query = ListQuery(**RANGE, sort="arrival")
    asked = page_query(query, [], [str(number) for number in range(PERIODS_MERGED + 1)], None)
    assert (asked.filter, asked.hint) == ({"$and": [RANGE_IDS, ALL_ARRIVALS]}, keys("arrival", "_id"))


@pytest.mark.parametrize("parameters", [{"sort": "arrival"}, RANGE, RANGE | {"sort": "arrival", "run_id": "r"}])
def test_other_lists_need_no_periods(parameters: dict[str, Any]) -> None:
    assert period_filter(ListQuery(**parameters)) is None


def test_counting_is_within_the_range() -> None:
    assert leads(ListQuery(**RANGE, model_id="m", source="s")) == [
        Lead("model_id", {"model_id": "m"} | RANGE_IDS),
        Lead("source", {"source": "s"} | RANGE_IDS),
    ]


@pytest.mark.parametrize(
    ("sort", "order", "beyond"),
    [
        ("-timestamp", [("_id", -1)], {"_id": {"$lt": "x"}}),
        ("timestamp", [("_id", 1)], {"_id": {"$gt": "x"}}),
        (
            "-arrival",
            [("arrival", -1), ("_id", -1)],
            {"arrival": {"$lte": 7}, "$or": [{"arrival": {"$lt": 7}}, {"_id": {"$lt": "x"}}]},
        ),
        (
            "arrival",
            [("arrival", 1), ("_id", 1)],
            {"arrival": {"$gte": 7}, "$or": [{"arrival": {"$gt": 7}}, {"_id": {"$gt": "x"}}]},
        ),
    ],
)
def test_orders(sort: str, order: Keys, beyond: dict[str, Any]) -> None:
    query = ListQuery(sort=ResultSort(sort))
    after = Position.of({"_id": "x", "arrival": Int64(7)}, query)
    assert page_query(query, [], [], after).sort == order
    assert page_query(query, [], [], after).filter == beyond
    filtered = query.model_copy(update={"model_id": "m"})
    assert page_query(filtered, [], [], after).filter == {"$and": [{"model_id": "m"}, beyond]}


TIMES = ["2024-01-01T00:00:00Z", "2024-01-01T00:00:00.2Z", "2024-01-01T00:00:00.25Z", "2024-01-01T00:00:01Z"]


@pytest.mark.parametrize("since", TIMES)
@pytest.mark.parametrize("until", TIMES)
def test_a_range_takes_in_its_first_moment_and_not_its_last(since: str, until: str) -> None:
    """Ids hold more than the time; what follows it must not matter."""
    if TIMES.index(since) > TIMES.index(until):
        with pytest.raises(ValidationError, match="is before since"):
            ListQuery(since=since, until=until)
        return
    bounds = ListQuery(since=since, until=until).times()["_id"]
    inside = [
        time
        for time in TIMES
        for run in ("!", "0", "~", "가")
        if bounds["$gte"] <= stored_id(f"{canonical_timestamp(time)}-{run}-{run}") < bounds["$lt"]
    ]
    assert inside == [time for time in TIMES[TIMES.index(since) : TIMES.index(until)] for _ in range(4)]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"benchmark_name": ""}, "must not be empty"),
        ({"model_id": "a\0b"}, "control characters"),
        ({"source": "x" * 301}, "at most 300 bytes"),
        ({"run_id": "a/b"}, "must not hold '/'"),
        ({"tokenizer_id": ""}, "must not be empty"),
        ({"state": "gone"}, "'valid' or 'invalidated'"),
        ({"sort": "-model_id"}, "'-timestamp', 'timestamp'"),
        ({"since": "2024-01-01"}, "RFC 3339"),
        ({"since": "2024-01-01T00:00:00 09:00"}, "'+' is written %2B"),
        ({"until": "2024-13-01T00:00:00Z"}, "no such time"),
        ({"limit": "0"}, "greater than or equal to 1"),
        ({"limit": "-5"}, "greater than or equal to 1"),
        ({"limit": "1e3"}, "valid integer"),
        ({"total": "perhaps"}, "valid boolean"),
        ({"benchmark": "mmlu"}, "not permitted"),
    ],
)
def test_refusals(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(said)):
        ListQuery(**parameters)


LISTS: list[dict[str, Any]] = [
    {},
    {"sort": "timestamp"},
    {"sort": "arrival"},
    {"sort": "-arrival"},
    {"model_id": "m"},
    {"source": "m"},
    {"model_id": "n"},
    {"since": "2024-01-01T00:00:00Z"},
    {"until": "2024-01-01T00:00:00Z"},
    {"state": "valid"},
]
HERE = Position("2024-01-01T00:00:00-b-가", 2**62)


def continued(parameters: dict[str, Any], cursor: str, kind: ResultKind = KIND) -> Position | None:
    return Position.from_cursor(kind, ListQuery(**parameters, cursor=cursor))


def cursor_of(parameters: dict[str, Any]) -> str:
    query = ListQuery(**parameters)
    return Position.of({"_id": HERE.id, "arrival": Int64(HERE.arrival or 0)}, query).cursor(KIND, query)


@pytest.mark.parametrize("parameters", LISTS, ids=str)
def test_a_cursor_leads_back_and_only_in_its_own_list(parameters: dict[str, Any]) -> None:
    cursor = cursor_of(parameters)
    found = continued(parameters | {"limit": 7, "total": True}, cursor)
    assert found is not None
    assert (found.id, found.arrival) == (HERE.id, HERE.arrival if "arrival" in parameters.get("sort", "") else None)
    for other in LISTS:
        if other != parameters:
            with pytest.raises(InvalidRequest, match="is of a"):
                continued(other, cursor)
    with pytest.raises(InvalidRequest, match="is of another list"):
        continued(parameters, cursor, ResultKind.RAW)


def test_a_cursor_of_another_order_says_so() -> None:
    with pytest.raises(InvalidRequest, match="sorted by '-timestamp', this one is sorted by 'arrival'"):
        continued({"sort": "arrival"}, cursor_of({}))


def word(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "가",
        "AAAA",
        "W10=",
        word({}),
        word(None),
        word([]),
        word([["-timestamp"], None, "x"]),
        word(["0" * 16, "-timestamp", None, "x"]),
        word(["0" * 16, "-timestamp", None, {"$gt": ""}]),
        word(["0" * 16, "arrival", 2**70, "x"]),
        word(["0" * 16, "arrival", -1, "x"]),
        word(["0" * 16, "arrival", True, "x"]),
        word(["0" * 16, "-timestamp", None, "x", "y"]),
        base64.urlsafe_b64encode(b'["0", "-timestamp", null, "\\ud800"]').decode(),
        base64.urlsafe_b64encode(b"[" * 100_000).decode(),
        "A" * 100_001,
    ],
    ids=lambda cursor: cursor[:40],
)
@pytest.mark.parametrize("sort", ["-timestamp", "arrival"])
def test_forged_cursors(cursor: str, sort: str) -> None:
    with pytest.raises(InvalidRequest, match=r"query\.cursor: is"):
        continued({"sort": sort}, cursor)


def test_a_changed_cursor_is_noticed() -> None:
    parts = json.loads(base64.urlsafe_b64decode(cursor_of({})))
    with pytest.raises(InvalidRequest, match="it was changed"):
        continued({}, word([*parts[:-1], "2020-01-01T00:00:00-b-x"]))


def test_indexes_are_few_for_an_ordinary_result() -> None:
    """Every insert pays for each. Ten in number, `_id` apart, hold a valid result without a tokenizer."""
    whole = [index for index in list_indexes() if "partialFilterExpression" not in index.document]
    assert len(whole) == 10
    assert len(list_indexes()) == len({json.dumps(dict(index.document["key"])) for index in list_indexes()})
