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

    def render_insert(self, table: Table, columns: Sequence[str]) -> str:
        """An INSERT with a placeholder a column; values go past PyPika, which would turn bytes into text."""
        placeholders = [Parameter(self.placeholder) for _ in columns]
        return str(self.query.into(table).columns(*columns).insert(*placeholders).get_sql())

    def limit_time(self, sql: str, seconds: float) -> str:
        """`sql`, a SELECT, so that the server ends it after `seconds`; SQLite is interrupted by its session."""
        match self.engine:
            case Engine.MARIADB:
                return f"SET STATEMENT max_statement_time={seconds:.3f} FOR {sql}"
            case Engine.MYSQL:
                return sql.replace("SELECT", f"SELECT /*+ MAX_EXECUTION_TIME({seconds * 1000:.0f}) */", 1)
            case Engine.SQLITE:
                return sql


SQLITE = Dialect(Engine.SQLITE, SQLLiteQuery, "?", "TEXT", "TEXT", "BLOB", "REAL")


def mysql_dialect(version: str) -> Dialect:
    """The dialect of a server by what it says of its version: MariaDB names itself there."""
    if "mariadb" in version.lower():
        engine, collation = Engine.MARIADB, "utf8mb4_nopad_bin"
    else:
        engine, collation = Engine.MYSQL, "utf8mb4_0900_bin"
    text = f"CHARACTER SET utf8mb4 COLLATE {collation}"
    return Dialect(
        engine, MySQLQuery, "%s", f"VARCHAR({{n}}) {text}", f"LONGTEXT {text}", "LONGBLOB", "DOUBLE",
        "ENGINE=InnoDB ROW_FORMAT=DYNAMIC",
    )  # fmt: skip
