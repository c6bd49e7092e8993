"""Queries are values: what is asked for in, SQL and parameters out."""

from collections.abc import Callable

import pytest
from pypika.queries import QueryBuilder

from analysis_service.database.dialect import SQLITE, Dialect, mysql_dialect
from analysis_service.queries.questions import answers_query, scores_query
from analysis_service.queries.sums import combinations_query, layouts_query, one_of, question_sets_query, sums_query
from analysis_service.queries.tables import RUNS

MYSQL = mysql_dialect("8.4.0")

CASES: list[tuple[Callable[[Dialect], QueryBuilder], str, list[object]]] = [
    (
        lambda dialect: sums_query(dialect, {5, 3}),
        'SELECT "run_no","scores" FROM "sums" WHERE "run_no" IN (3,5) ORDER BY "run_no" ASC',
        [],
    ),
    (
        lambda dialect: answers_query(dialect, [3]),
        'SELECT "run_no","packed" FROM "answers" WHERE "run_no" IN (3) ORDER BY "run_no"',
        [],
    ),
    (
        lambda dialect: scores_query(dialect, [3]),
        'SELECT "run_no","scores" FROM "answers" WHERE "run_no" IN (3) ORDER BY "run_no"',
        [],
    ),
    (
        lambda dialect: layouts_query(dialect, "mmlu-redux", [2**62]),
        'SELECT "layout_no","cells" FROM "layouts_mmlu_redux" WHERE "layout_no" IN (4611686018427387904)',
        [],
    ),
    (
        lambda dialect: question_sets_query(dialect, "mmlu-redux", []),
        'SELECT "set_no","members" FROM "question_sets_mmlu_redux" WHERE "set_no" IN (NULL)',
        [],
    ),
    (
        lambda dialect: combinations_query(dialect, "mmlu-redux", ["subject"], 7),
        'SELECT "combination","f_subject" FROM "combinations_mmlu_redux" WHERE "combination">=?'
        ' ORDER BY "combination" ASC',
        [7],
    ),
]


@pytest.mark.parametrize(("make", "sql", "parameters"), CASES)
@pytest.mark.parametrize("dialect", [SQLITE, MYSQL], ids=["sqlite", "mysql"])
def test_what_group_bys_read(
    make: Callable[[Dialect], QueryBuilder], sql: str, parameters: list[object], dialect: Dialect
) -> None:
    if dialect is MYSQL:
        sql = sql.replace('"', "`").replace("?", "%s")
    assert dialect.render(make(dialect)) == (sql, parameters)


def test_only_whole_numbers_stand_in_a_statement() -> None:
    for hostile in ("1) OR (1=1", "%s"):
        query = SQLITE.query.from_(RUNS).select(RUNS.run_no).where(one_of(RUNS.run_no, [hostile]))  # type: ignore[list-item]
        with pytest.raises(TypeError):
            SQLITE.render(query)


def test_time_limits_are_rendered_for_the_engine() -> None:
    sql, _ = MYSQL.render(MYSQL.query.from_(RUNS).select(RUNS.run_no))
    assert MYSQL.limit_time(sql, 1.5) == "SELECT /*+ MAX_EXECUTION_TIME(1500) */ `run_no` FROM `runs`"
    mariadb = mysql_dialect("10.11.14-MariaDB")
    assert mariadb.limit_time(sql, 1.5) == "SET STATEMENT max_statement_time=1.500 FOR SELECT `run_no` FROM `runs`"
    assert SQLITE.limit_time(sql, 1.5) == sql


def test_tidb_is_told_from_mysql_where_its_grammar_is_another() -> None:
    assert MYSQL.begin_snapshot == "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"
    assert mysql_dialect("8.0.11-TiDB-v8.5.3").begin_snapshot == "START TRANSACTION WITH CONSISTENT SNAPSHOT"


def test_an_insert_is_one_that_aiomysql_batches() -> None:
    assert MYSQL.render_insert(RUNS, ["run_no", "seq"]) == "INSERT INTO `runs` (`run_no`,`seq`) VALUES (%s,%s)"
