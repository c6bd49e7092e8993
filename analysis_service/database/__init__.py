"""The SQL store behind one protocol: MySQL (or anything that speaks its protocol) and SQLite."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from itertools import islice
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar

from pypika.queries import QueryBuilder
from pypika.queries import Table as PypikaTable

from analysis_service.database.dialect import Dialect
from analysis_service.database.read_log import ReadLog
from shared.metrics import Durations
from shared.problems import StoreUnavailable, TooManyGroups

Row: TypeAlias = tuple[Any, ...]

MAX_ROWS = 1_000_000
"""Rows that a read in a snapshot may bring unless its caller allows fewer; more is TooManyGroups."""


@dataclass(frozen=True, slots=True)
class StoreVersion:
    """What the one row of `feed_state` says: how far the store has come, and by whose registry."""

    position: int
    """The seq of the last feed entry applied."""
    version: int
    """Grows by one with each transaction that changes what answers are made of."""
    token: int
    """Another one with each of those transactions: a version of the same number in another history has another."""
    registry_hash: str
    schema_version: int


class Session(Protocol):
    """One connection that belongs to one task, inside a transaction or a snapshot."""

    async def fetch(self, query: QueryBuilder, name: str, *, max_rows: int = MAX_ROWS) -> list[Row]:
        """The rows of a SELECT, which is called `name` in logs and metrics: a few lower-case words.

        In a snapshot it is TimeLimit past QUERY_TIMEOUT_S, and TooManyGroups beyond `max_rows`. In a transaction it is
        neither: half of what a write goes by would be written, and a write that is refused is refused again each time
        it comes, so the feed would stop at it.
        """

    async def execute(self, query: QueryBuilder) -> None:
        """Run an UPDATE or DELETE."""

    async def insert(
        self, table: PypikaTable, columns: Sequence[str], rows: Sequence[Row], *, replace: bool = False
    ) -> None:
        """Insert `rows`, as few statements as the engine allows; nothing for no rows.

        With `replace` in place of the rows that have their keys, else there are none.
        """

    async def define(self, statement: str) -> None:
        """Run a statement of `analysis_service.schema`, which holds no values."""

    async def columns(self, table: str) -> list[str]:
        """The names of a table's columns; none if there is no such table."""

    async def indexes(self, table: str) -> list[str]:
        """The names of a table's indexes."""


def check_rows(rows: list[Row], name: str, max_rows: int) -> list[Row]:
    """`rows`. TooManyGroups if they are more than they may be; a read in a snapshot asks for one more to see that."""
    check_count(len(rows), name, max_rows)
    return rows


def check_count(rows: int, name: str, max_rows: int) -> None:
    """TooManyGroups if a read brings more `rows` than it may."""
    if rows > max_rows:
        raise TooManyGroups(
            f"the answer needs more than {max_rows:,} rows of {name!r}; ask for fewer levels, runs or models, or filter"
        )


class SnapshotSession(Session, Protocol):
    """A session whose reads all see one state of the store."""

    @property
    def version(self) -> StoreVersion:
        """The version of that state; it was the first thing read."""

    def stream(self, query: QueryBuilder, name: str, *, max_rows: int = MAX_ROWS) -> AsyncGenerator[Row, None]:
        """The rows of a SELECT as they come, limited as by `fetch`; the time it takes to use them counts.

        For what is too much for memory. Nothing else can be read before its end. Close it (`aclosing`); one that is
        closed before its end ends the snapshot.
        """


MAX_PARAMETERS = 10_000
"""Values that one statement is given at most; SQLite may have been built to take no more than 32,766."""

_T = TypeVar("_T")


def in_batches(values: Iterable[_T], size: int = MAX_PARAMETERS) -> Iterator[list[_T]]:
    """`values`, `size` at a time, or as many as one statement takes."""
    rest = iter(values)
    while batch := list(islice(rest, size)):
        yield batch


@dataclass(frozen=True, slots=True)
class PoolState:
    """Connections: `size` may be kept, `overflow` of those open now are more than that."""

    size: int
    in_use: int
    free: int
    overflow: int
    waiting: int


@dataclass(frozen=True, slots=True)
class HostState:
    """A server of the store, and what this process has asked of it."""

    host: str
    is_replica: bool
    is_used: bool
    """False while a replica is left alone: it is gone, or behind."""
    is_behind: bool
    snapshots: int
    """Begun since the start."""
    pool: PoolState
    acquiring: Durations
    """How long connections were waited for."""


class ReplicaLost(StoreUnavailable):
    """The replica that a snapshot read from went away in the middle. To read again is to read from another."""


class Database(Protocol):
    """A store that is open. Errors are problems: StoreUnavailable, PoolExhausted, TimeLimit."""

    @property
    def dialect(self) -> Dialect:
        """How its engine wants SQL."""

    @property
    def reads(self) -> ReadLog:
        """What was read, by the names of reads."""

    def snapshot(self, at_least: int | None = None) -> AbstractAsyncContextManager[SnapshotSession]:
        """Reads that all see one state of the store, each under a time limit and a cap on its rows.

        `at_least` is a version that the state is not older than; a replica that has come that far may answer then,
        and where it goes away in the middle, ReplicaLost is raised (`survive_lost_replicas`). Without it the primary
        is read, which has every version.
        """

    async def fetch_version(self) -> StoreVersion:
        """The primary's version now."""

    def transaction(self) -> AbstractAsyncContextManager[Session]:
        """Writes that all happen, or on an exception none."""

    def alone(self, purpose: str) -> AbstractAsyncContextManager[Session]:
        """A session while no other instance is in one for the same purpose. Not a transaction on every engine."""

    async def ping(self) -> None:
        """Return if the store answers."""

    def pool_state(self) -> PoolState:
        """The primary's connections as they are now."""

    def hosts(self) -> Sequence[HostState]:
        """Every server, the primary first."""


_P = ParamSpec("_P")


read_primary: ContextVar[bool] = ContextVar("read_primary", default=False)
"""Whether this task leaves replicas alone: one was lost under it."""


def survive_lost_replicas(read: Callable[_P, Awaitable[_T]]) -> Callable[_P, Awaitable[_T]]:
    """`read`, begun anew on the primary when the replica under it is lost: a coroutine function that changes nothing.

    Not on another replica: what was lost in the middle looks well again soon, and several might take turns for ever.
    """

    @wraps(read)
    async def read_again(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return await read(*args, **kwargs)
        except ReplicaLost:
            token = read_primary.set(True)
        try:
            return await read(*args, **kwargs)
        finally:
            read_primary.reset(token)

    return read_again
