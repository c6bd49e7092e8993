"""Names of reads: there is one for each, written where it is read."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from analysis_service.database.dialect import SQLITE, cap_rows, mysql_dialect, read_explanation
from analysis_service.database.mysql_session import MysqlSession, MysqlSnapshot
from analysis_service.database.sqlite import SqliteSession, SqliteSnapshot
from analysis_service.queries.tables import RUNS

ROOT = Path(__file__).parents[2]
READING = {"fetch", "stream"}
WORDS = re.compile(r"[a-z]+(?:[ -][a-z]+){0,5}")


def name_of(call: ast.Call) -> ast.expr | None:
    """The name that a call gives to a read of the SQL store; None for other calls."""
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in READING | {"in_stretches"}:
        return None
    return call.args[1] if len(call.args) >= 2 else None


def test_each_read_has_a_name_of_its_own() -> None:
    names: Counter[str] = Counter()
    for path in sorted((ROOT / "analysis_service").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            match name_of(node):
                # The rest of a formatted one is a table's or column's name: there are few of those, too.
                case ast.Constant(value=str(text)) | ast.JoinedStr(values=[ast.Constant(value=str(text)), *_]):
                    assert WORDS.fullmatch(text.strip()), f"{path}:{node.lineno}: {text!r}: a few lower-case words"
                    names[text] += 1
                case ast.JoinedStr():
                    raise AssertionError(f"{path}:{node.lineno}: the name of a read begins with what it is")
    assert len(names) > 20
    assert [name for name, times in names.items() if times > 1] == []


def test_a_snapshot_has_no_way_to_read_that_is_not_limited() -> None:
    for session, snapshot in ((MysqlSession, MysqlSnapshot), (SqliteSession, SqliteSnapshot)):
        public = {name for name in dir(snapshot) if not name.startswith("_")}
        # What writes, what asks for the schema, and what takes no query.
        others = {"execute", "insert", "define", "columns", "indexes", "begin", "end", "run"}
        assert public - others == READING, snapshot
        assert vars(snapshot).keys() >= READING, "its own, not those of transactions"
        assert "fetch" in vars(session)


def test_a_cap_is_one_more_than_is_allowed() -> None:
    query = SQLITE.query.from_(RUNS).select(RUNS.run_no)
    for asked, capped in ((None, 11), (3, 3), (11, 11), (12, 11), (5000, 11)):
        limited = query if asked is None else query.limit(asked)
        assert SQLITE.render(cap_rows(limited, 10))[0].endswith(f" LIMIT {capped}")
    assert "LIMIT" not in query.get_sql(), "the query is somebody else's"


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("10.11.14-MariaDB", "EXPLAIN SELECT `run_no` FROM `runs`"),
        ("9.4.0", "EXPLAIN FORMAT=TRADITIONAL SELECT `run_no` FROM `runs`"),
    ],
)
def test_to_explain_is_not_to_lock(version: str, expected: str) -> None:
    dialect = mysql_dialect(version)
    query = dialect.query.from_(RUNS).select(RUNS.run_no)
    for sql in (dialect.render(query)[0], dialect.render(query.for_update())[0]):
        assert dialect.explain(sql) == expected


def test_an_explanation_is_read_by_the_names_of_its_columns() -> None:
    mysql = ["id", "select_type", "table", "partitions", "type", "key", "ref", "rows", "filtered", "Extra"]
    assert read_explanation(mysql, [(1, "SIMPLE", "runs", None, "ALL", None, "const", 7, 10.0, "Using where")]) == [
        {"table": "runs", "type": "ALL", "rows": 7, "extra": "Using where"}
    ]
    sqlite = ["id", "parent", "notused", "detail"]
    assert read_explanation(sqlite, [(2, 0, 0, "SCAN runs")]) == [{"detail": "SCAN runs"}]
