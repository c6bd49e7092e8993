"""What differs between the SQL engines, and the one place that renders PyPika's queries.

Values always travel as collected parameters: PyPika's inline rendering does not escape backslashes, which MySQL reads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from pypika import MySQLQuery, SQLLiteQuery, Table
from pypika.queries import QueryBuilder
from pypika.terms import FormatParameter, Parameter, QmarkParameter


class Engine(StrEnum):
    """The engines that the store suite runs on."""

    SQLITE = "sqlite"
    MYSQL = "mysql"
    MARIADB = "mariadb"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one engine wants its SQL."""

    engine: Engine
    query: type[MySQLQuery] | type[SQLLiteQuery]
    placeholder: str
    text: str
    """Column type of text of at most {n} characters: compared by code point, trailing spaces included."""
    long_text: str
    blob: str
    real: str
    table_options: str = ""
    begin_snapshot: str = "BEGIN"

    @property
    def locks_rows(self) -> bool:
        """Whether SELECT … FOR UPDATE is needed; SQLite has one writer at a time anyway."""
        return self.engine is not Engine.SQLITE

    def render(self, query: QueryBuilder) -> tuple[str, list[object]]:
        """The statement and its parameters, in order."""
        parameters = FormatParameter() if self.placeholder == "%s" else QmarkParameter()
        sql = query.get_sql(parameter=parameters)
        collected: list[object] = parameters.get_parameters()  # type: ignore[no-untyped-call]
        return sql, collected

    def render_insert(self, table: Table, columns: Sequence[str], *, replace: bool = False) -> str:
        """An INSERT or REPLACE with a placeholder a column; values go past PyPika, which would turn bytes into text."""
        placeholders = [Parameter(self.placeholder) for _ in columns]
        query = self.query.into(table).columns(*columns)
        return str((query.replace if replace else query.insert)(*placeholders).get_sql())

    def limit_time(self, sql: str, seconds: float) -> str:
        """`sql`, a SELECT, so that the server ends it after `seconds`; SQLite is interrupted by its session."""
        match self.engine:
            case Engine.MARIADB:
                return f"SET STATEMENT max_statement_time={seconds:.3f} FOR {sql}"
            case Engine.MYSQL:
                return sql.replace("SELECT", f"SELECT /*+ MAX_EXECUTION_TIME({seconds * 1000:.0f}) */", 1)
            case Engine.SQLITE:
                return sql

    def limit_session(self, seconds: float) -> str | None:
        """The statement that limits the time of all that a connection reads, so that no read carries its own limit."""
        match self.engine:
            case Engine.MARIADB:
                return f"SET SESSION max_statement_time={seconds:.3f}"
            case Engine.MYSQL:
                return f"SET SESSION max_execution_time={seconds * 1000:.0f}"
            case Engine.SQLITE:
                return None

    def explain(self, sql: str) -> str:
        """The statement that tells, as a table, how the engine reads `sql`. It takes no lock, as EXPLAIN else may."""
        sql = sql.removesuffix(" FOR UPDATE")
        match self.engine:
            case Engine.MARIADB:
                return f"EXPLAIN {sql}"
            case Engine.MYSQL:
                return f"EXPLAIN FORMAT=TRADITIONAL {sql}"
            case Engine.SQLITE:
                return f"EXPLAIN QUERY PLAN {sql}"


def cap_rows(query: QueryBuilder, max_rows: int) -> QueryBuilder:
    """`query`, which brings one row more than `max_rows` at most: enough to see that there are too many."""
    asked: int | None = query._limit  # noqa: SLF001 - PyPika has no other way to ask
    return query if asked is not None and asked <= max_rows + 1 else query.limit(max_rows + 1)


EXPLAINED = ("table", "type", "access_type", "possible_keys", "key", "rows", "extra", "detail")
"""What is kept of an engine's explanation; none of these holds a value of the query."""


def read_explanation(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[dict[str, object]]:
    """The steps of an explanation that came as a table, without what it leaves empty."""
    names = [column.lower() for column in columns]
    steps = [dict(zip(names, row, strict=True)) for row in rows]
    return [{name: step[name] for name in EXPLAINED if step.get(name) not in (None, "")} for step in steps]


SQLITE = Dialect(Engine.SQLITE, SQLLiteQuery, "?", "TEXT", "TEXT", "BLOB", "REAL")


def mysql_dialect(version: str) -> Dialect:
    """The dialect of a server by what it says of its version: MariaDB names itself there."""
    if "mariadb" in version.lower():
        engine, collation = Engine.MARIADB, "utf8mb4_nopad_bin"
    else:
        engine, collation = Engine.MYSQL, "utf8mb4_0900_bin"
    text = f"CHARACTER SET utf8mb4 COLLATE {collation}"
    # TiDB's grammar takes one of the two.
    read_only = "" if "tidb" in version.lower() else ", READ ONLY"
    return Dialect(
        engine, MySQLQuery, "%s", f"VARCHAR({{n}}) {text}", f"LONGTEXT {text}", "LONGBLOB", "DOUBLE",
        "ENGINE=InnoDB ROW_FORMAT=DYNAMIC", f"START TRANSACTION WITH CONSISTENT SNAPSHOT{read_only}",
    )  # fmt: skip
