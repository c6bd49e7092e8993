"""Lists of results: from query parameters to a MongoDB filter, an order and an index; the indexes; the cursors. Pure.

`_id` sorts as time does, so an index on a field and `_id` is that field's list by time, and one on the field, `arrival`
and `_id` its list by arrival. A list of one filter has the filter's own index. Of several, each is counted some way
(`leads`), and the smallest decides: MongoDB's own choice is remembered by the names of the filters, so that it takes
for a rare value the index that was right for a frequent one.

A time range by arrival is the merged lists of the periods in it, some ten days each (`period_filter`). No index has
both orders; to go through all arrivals for those in the range took up to 2 s at a million results, this takes 15 ms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from bson import Int64
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationInfo, field_validator
from pymongo import ASCENDING, DESCENDING, IndexModel

from results_service.documents import period_of
from results_service.mongo import Document
from shared.cursors import seal, unseal
from shared.names import BenchmarkName, RunId, TextId
from shared.problems import Fault, invalid
from shared.results import ResultKind, ResultSort, ResultState
from shared.timestamps import canonical_timestamp, sort_key

Keys: TypeAlias = list[tuple[str, int]]

COUNTED = (1_000, 30_000)
"""How far filters are counted to see which is the rarest: a little way, and further if all of them go on."""
SORTED_MOST = 10_000
"""Results that are put in order without an index at most, which takes 20 ms."""
PERIODS_MERGED = 150
"""MongoDB merges up to 200 lists; of more it puts everything in order in memory."""

PICKED = ("benchmark_name", "model_id", "source")
"""Fields whose values pickers list."""
_FILTERS = (*PICKED, "run_id", "tokenizer_id", "state")
_ONLY: dict[str, Document] = {
    "tokenizer_id": {"tokenizer_id": {"$gt": ""}},
    "state": {"state": ResultState.INVALIDATED.value},
}
"""Which results the indexes of a field hold. Every insert pays for every index that holds it; most results name no
tokenizer, and nearly all are valid."""


def index_keys(lead: str | None, *, by_arrival: bool) -> Keys:
    """The index that lists by time or by arrival, of one value of `lead` or of everything.

    Those of the fields that are most often combined end with one another, so that a combination is found without
    reading documents that are none.
    """
    names = [*([lead] if lead else []), *(["arrival"] if by_arrival else []), "_id"]
    others = [name for name in PICKED if name != lead] if lead in PICKED else []
    return [(name, ASCENDING) for name in (*names, *others)]


PERIOD_KEYS: Keys = index_keys("period", by_arrival=True)
INVALIDATED_KEYS: Keys = [(name, ASCENDING) for name in ("state", *PICKED)]
"""The index that counts what was invalidated, for pickers."""


def list_indexes() -> list[IndexModel]:
    """The indexes of a collection of results."""
    listed = [
        _index(index_keys(lead, by_arrival=by_arrival), _ONLY.get(lead) if lead else None)
        for lead in (None, *_FILTERS)
        for by_arrival in (False, True)
        if lead or by_arrival  # everything by time is _id itself
    ]
    return [*listed, _index(PERIOD_KEYS, None), _index(INVALIDATED_KEYS, _ONLY["state"])]


def _index(keys: Keys, only: Document | None) -> IndexModel:
    return IndexModel(keys) if only is None else IndexModel(keys, partialFilterExpression=only)


def _check_moment(text: str) -> str:
    try:
        return canonical_timestamp(text)
    except ValueError as error:
        hint = "; in a URL '+' is written %2B" if " " in text else ""
        raise ValueError(f"{error}{hint}") from None


Moment = Annotated[str, AfterValidator(_check_moment)]


class ListQuery(BaseModel):
    """Which results, in which order, and how many of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    benchmark_name: BenchmarkName | None = None
    model_id: TextId | None = None
    source: TextId | None = None
    run_id: RunId | None = None
    tokenizer_id: TextId | None = None
    state: ResultState | None = None
    since: Moment | None = Field(default=None, description="Timestamps from here on (RFC 3339)")
    until: Moment | None = Field(default=None, description="Timestamps before this one (RFC 3339)")
    sort: ResultSort = Field(
        default=ResultSort.NEWEST, description="`-` is the newest first; `arrival` is when it came"
    )
    limit: int = Field(default=100, ge=1, description="At most as many as the setting MAX_PAGE")
    cursor: str | None = Field(default=None, description="`next_cursor` of the page before, all else as it was")
    total: bool = Field(default=False, description="Count all results of the list too; takes a while where it is long")

    @field_validator("until")
    @classmethod
    def _check_order(cls, until: str | None, info: ValidationInfo) -> str | None:
        since = info.data.get("since")
        if until and since and sort_key(until) < sort_key(since):
            raise ValueError(f"{until} is before since, {since}")
        return until

    @property
    def by_arrival(self) -> bool:
        """Whether the order is that of arrival."""
        return self.sort in (ResultSort.LAST_ARRIVED, ResultSort.FIRST_ARRIVED)

    @property
    def direction(self) -> int:
        """MongoDB's word for the direction of the order."""
        return DESCENDING if self.sort.startswith("-") else ASCENDING

    def equal(self) -> dict[str, str]:
        """Field → the value it must have."""
        return {name: str(value) for name in _FILTERS if (value := getattr(self, name)) is not None}

    def times(self) -> Document:
        """The time range as bounds on `_id`; nothing where there is none."""
        bounds = {"$gte": self.since, "$lt": self.until}
        keys = {operator: sort_key(moment) for operator, moment in bounds.items() if moment is not None}
        return {"_id": keys} if keys else {}


@dataclass(frozen=True, slots=True)
class PageQuery:
    """What MongoDB is asked for a page."""

    filter: Document
    sort: Keys
    hint: Keys
    """The index to use."""


@dataclass(frozen=True, slots=True)
class Lead:
    """A filter that an index can begin with, within the time range."""

    field: str
    filter: Document

    @property
    def hint(self) -> Keys:
        """The index that counts it."""
        return index_keys(self.field, by_arrival=False)


def total_filter(query: ListQuery) -> Document:
    """What all pages of a list have in common."""
    return query.equal() | query.times()


def leads(query: ListQuery) -> list[Lead]:
    """What has to be counted before the index of a page can be chosen; often nothing."""
    found = [Lead(name, {name: value} | query.times()) for name, value in _held(query).items()]
    return found if len(found) > 1 or (query.by_arrival and query.times()) else []


def _held(query: ListQuery) -> dict[str, str]:
    """The filters that have an index which holds such results."""
    return {name: value for name, value in query.equal().items() if value != ResultState.VALID.value or name != "state"}


def period_filter(query: ListQuery) -> Document | None:
    """The periods that have to be known before the index of a page can be chosen; None if none have."""
    times = query.times()
    if not times or not query.by_arrival or _held(query):
        return None
    operators = {"$gte": "$gte", "$lt": "$lte"}
    return {"period": {operators[operator]: period_of(moment) for operator, moment in times["_id"].items()}}


def page_query(
    query: ListQuery, counts: Sequence[tuple[Lead, int]], periods: Sequence[str], after: "Position | None"
) -> PageQuery:
    """The page after a position, given the counts of `leads(query)` and the periods of `period_filter(query)`.

    Results come from the index in their order, but for one combination: fewer than SORTED_MOST results of a value in a
    time range, listed by arrival, are read and put in order.
    """
    clauses = [total_filter(query)]
    rarest, count = min(counts, key=lambda counted: counted[1], default=(None, 0))
    lead = rarest.field if rarest else next(iter(_held(query)), None)
    by_arrival = query.by_arrival
    if by_arrival and query.times():
        if period_filter(query) and len(periods) <= PERIODS_MERGED:
            lead = "period"
            clauses.append({"period": {"$in": list(periods)}})
        elif rarest and count < SORTED_MOST:
            by_arrival = False
        else:
            clauses.append({"arrival": {"$gte": Int64(0)}})  # lets the index itself look at the times behind it
    if after is not None:
        clauses.append(after.beyond(query))
    filters = [clause for clause in clauses if clause]
    return PageQuery(
        filter=filters[0] if len(filters) == 1 else {"$and": filters} if filters else {},
        sort=[*([("arrival", query.direction)] if query.by_arrival else []), ("_id", query.direction)],
        hint=index_keys(lead, by_arrival=by_arrival),
    )


_IN_LIST = TypeAdapter(tuple[str, Annotated[int, Field(ge=0, lt=2**63)] | None, str])


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a list: the result that a page ended with."""

    id: str
    arrival: int | None
    """None in a list by time."""

    @classmethod
    def of(cls, document: Document, query: ListQuery) -> "Position":
        """The place of this envelope."""
        return cls(document["_id"], int(document["arrival"]) if query.by_arrival else None)

    @classmethod
    def from_cursor(cls, kind: ResultKind, query: ListQuery) -> "Position | None":
        """The place that the query's cursor names, if it has one; InvalidRequest if it is not of this list."""
        if query.cursor is None:
            return None
        sort, arrival, name = unseal(query.cursor, _list_of(kind, query), _IN_LIST)
        if sort != query.sort or (arrival is None) is query.by_arrival:
            detail = f"is of a list sorted by {sort[:20]!r}, this one is sorted by {query.sort.value!r}"
            raise invalid(Fault(place="query.cursor", detail=detail))
        return cls(name, arrival)

    def cursor(self, kind: ResultKind, query: ListQuery) -> str:
        """This place as an opaque word for URLs."""
        return seal([query.sort.value, self.arrival, self.id], _list_of(kind, query))

    def beyond(self, query: ListQuery) -> Document:
        """The filter of everything after this place; its first clause lets an index find it."""
        operator = "$lt" if query.direction == DESCENDING else "$gt"
        if self.arrival is None:
            return {"_id": {operator: self.id}}
        arrival = Int64(self.arrival)
        further = [{"arrival": {operator: arrival}}, {"_id": {operator: self.id}}]
        return {"arrival": {f"{operator}e": arrival}, "$or": further}


def _list_of(kind: ResultKind, query: ListQuery) -> list[object]:
    return [kind.value, query.equal(), query.since, query.until]
