"""The group-by query: a plan in, SQL and parameters out."""

import pytest

from analysis_service.database.dialect import SQLITE, Dialect, mysql_dialect
from analysis_service.queries.group_by import GroupByPlan, RunKey, combinations_query, group_by_query
from analysis_service.queries.tables import RUNS, SUM_COLUMNS

MYSQL = mysql_dialect("8.4.0")
SUMS = ",".join(f"SUM({{q}}sums_mmlu_redux{{q}}.{{q}}{column}{{q}})" for column in SUM_COLUMNS)
NOTHING = GroupByPlan("mmlu-redux", (), RunKey.NONE, None, (), (), 10)
JOINED = (
    '"sums_mmlu_redux" JOIN "combinations_mmlu_redux"'
    ' ON "sums_mmlu_redux"."combination"="combinations_mmlu_redux"."combination"'
)
SUBJECT = '"combinations_mmlu_redux"."f_subject"'
SET_NO = '"sums_mmlu_redux"."set_no"'

CASES = [
    (NOTHING, 'SELECT "set_no",{plain} FROM "sums_mmlu_redux" GROUP BY "set_no" LIMIT 11', []),
    (
        GroupByPlan("mmlu-redux", ("subject",), RunKey.NONE, None, (), ("subject",), 10),
        f"SELECT {SUBJECT},{SET_NO},{{sums}} FROM {JOINED} WHERE NOT {SUBJECT} IS NULL"
        f" GROUP BY {SUBJECT},{SET_NO} LIMIT 11",
        [],
    ),
    (
        GroupByPlan("mmlu-redux", ("subject",), RunKey.RUN, (3, 5), (("category", ("a%s", "b\\'")),), (), 10),
        f'SELECT "sums_mmlu_redux"."run_no",{SUBJECT},{SET_NO},{{sums}} FROM {JOINED}'
        ' WHERE "sums_mmlu_redux"."run_no" IN (?,?) AND "combinations_mmlu_redux"."f_category" IN (?,?)'
        f' GROUP BY "sums_mmlu_redux"."run_no",{SUBJECT},{SET_NO} LIMIT 11',
        [3, 5, "a%s", "b\\'"],
    ),
    (
        GroupByPlan("mmlu-redux", (), RunKey.MODEL, (3,), (), (), 10),
        f'SELECT "runs"."model_id",{SET_NO},{{sums}} FROM "sums_mmlu_redux"'
        ' JOIN "runs" ON "runs"."run_no"="sums_mmlu_redux"."run_no" WHERE "sums_mmlu_redux"."run_no" IN (?)'
        f' GROUP BY "runs"."model_id",{SET_NO} LIMIT 11',
        [3],
    ),
]


@pytest.mark.parametrize(("plan", "sql", "parameters"), CASES)
@pytest.mark.parametrize("dialect", [SQLITE, MYSQL], ids=["sqlite", "mysql"])
def test_group_by_query(plan: GroupByPlan, sql: str, parameters: list[object], dialect: Dialect) -> None:
    expected = sql.format(sums=SUMS.format(q='"'), plain=SUMS.format(q='"').replace('"sums_mmlu_redux".', ""))
    if dialect is MYSQL:
        expected = expected.replace('"', "`").replace("?", "%s")
    assert dialect.render(group_by_query(dialect, plan)) == (expected, parameters)


def test_values_never_stand_in_the_sql() -> None:
    hostile = "x' OR 1=1; -- \\"
    plan = GroupByPlan("mmlu-redux", ("subject",), RunKey.NONE, (1,), (("subject", (hostile, 7)),), (), 10)
    for query in (group_by_query, combinations_query):
        for dialect in (SQLITE, MYSQL):
            sql, parameters = dialect.render(query(dialect, plan))
            assert hostile not in sql
            assert "7" not in sql
            assert parameters == [1, hostile, 7]


def test_time_limits_are_rendered_for_the_engine() -> None:
    sql, _ = MYSQL.render(MYSQL.query.from_(RUNS).select(RUNS.run_no))
    assert MYSQL.limit_time(sql, 1.5) == "SELECT /*+ MAX_EXECUTION_TIME(1500) */ `run_no` FROM `runs`"
    mariadb = mysql_dialect("10.11.14-MariaDB")
    assert mariadb.limit_time(sql, 1.5) == "SET STATEMENT max_statement_time=1.500 FOR SELECT `run_no` FROM `runs`"
    assert SQLITE.limit_time(sql, 1.5) == sql


def test_an_insert_is_one_that_aiomysql_batches() -> None:
    assert MYSQL.render_insert(RUNS, ["run_no", "seq"]) == "INSERT INTO `runs` (`run_no`,`seq`) VALUES (%s,%s)"
