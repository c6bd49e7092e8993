"""The row that says which version a store has: read first in every snapshot, and alone many times a second."""

from pypika.queries import QueryBuilder
from pypika.terms import Function

from analysis_service.database import Row, StoreVersion
from analysis_service.database.dialect import Dialect, Engine
from analysis_service.queries.tables import FEED_STATE
from shared.problems import StoreUnavailable

NAME = "store version"
"""What its reads are called."""

_COLUMNS = ("position", "version", "token", "registry_hash", "schema_version")


def version_query(dialect: Dialect) -> QueryBuilder:
    """The one row. On MySQL it is one text: to describe five columns takes longer than everything else about it."""
    columns = [FEED_STATE.field(name) for name in _COLUMNS]
    query = dialect.query.from_(FEED_STATE).where(FEED_STATE.id == 1).limit(1)
    if dialect.engine is Engine.SQLITE:
        return query.select(*columns)
    return query.select(Function("CONCAT_WS", " ", *columns))


def store_version(rows: list[Row]) -> StoreVersion:
    """The version that the row tells. StoreUnavailable if it is not there."""
    if not rows:
        raise StoreUnavailable("The SQL store has lost its state (table feed_state); restart the analysis service.")
    [row] = rows
    position, version, token, registry_hash, schema_version = row if len(row) > 1 else row[0].split(" ")
    return StoreVersion(int(position), int(version), int(token), registry_hash, int(schema_version))
