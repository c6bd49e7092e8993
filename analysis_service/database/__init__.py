"""The SQL store behind one protocol: MySQL (or anything that speaks its protocol) and SQLite."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, TypeAlias, TypeVar

from pypika.queries import QueryBuilder
from pypika.queries import Table as PypikaTable

from analysis_service.database.dialect import Dialect

Row: TypeAlias = tuple[Any, ...]


class Session(Protocol):
    """One connection that belongs to one task, inside a transaction or a snapshot."""

    async def fetch(self, query: QueryBuilder) -> list[Row]:
        """The rows of a SELECT."""

    async def execute(self, query: QueryBuilder) -> None:
        """Run an UPDATE or DELETE."""

    async def insert(self, table: PypikaTable, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Insert `rows`, as few statements as the engine allows; nothing for no rows."""

    async def define(self, statement: str) -> None:
        """Run a statement of `analysis_service.schema`, which holds no values."""

    async def columns(self, table: str) -> list[str]:
        """The names of a table's columns; none if there is no such table."""

    async def indexes(self, table: str) -> list[str]:
        """The names of a table's indexes."""


MAX_PARAMETERS = 10_000
"""Values that one statement is given at most; SQLite may have been built to take no more than 32,766."""

_T = TypeVar("_T")


def in_batches(values: Iterable[_T]) -> Iterator[list[_T]]:
    """`values`, as many at a time as one statement takes."""
    rest = iter(values)
    while batch := list(islice(rest, MAX_PARAMETERS)):
        yield batch


@dataclass(frozen=True, slots=True)
class PoolState:
    """Connections: `size` may be kept, `overflow` of those open now are more than that."""

    size: int
    in_use: int
    free: int
    overflow: int
    waiting: int


class Database(Protocol):
    """A store that is open. Errors are problems: StoreUnavailable, PoolExhausted, TimeLimit."""

    dialect: Dialect

    def snapshot(self) -> AbstractAsyncContextManager[Session]:
        """Reads that all see one state of the store, each under the time limit."""

    def transaction(self) -> AbstractAsyncContextManager[Session]:
        """Writes that all happen, or on an exception none."""

    def alone(self, purpose: str) -> AbstractAsyncContextManager[Session]:
        """A session while no other instance is in one for the same purpose. Not a transaction on every engine."""

    async def ping(self) -> None:
        """Return if the store answers."""

    def pool_state(self) -> PoolState:
        """The connections as they are now."""
