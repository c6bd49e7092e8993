"""Reads of the runs themselves: all of them, or what has changed since a version."""

from dataclasses import fields

from pypika import Table
from pypika.queries import QueryBuilder
from pypika.terms import Field

from analysis_service.database.dialect import Dialect
from analysis_service.queries.tables import BENCHMARK_VERSIONS, RUN_VERSIONS, RUNS
from analysis_service.runs import StoredRun


def runs_query(dialect: Dialect) -> QueryBuilder:
    """Rows: run_no, then a `StoredRun` — of every run."""
    return dialect.query.from_(RUNS).select(RUNS.run_no, *_columns(RUNS))


def changed_runs_query(dialect: Dialect, after: int) -> QueryBuilder:
    """Rows: run_no, then a `StoredRun`, all null if it was removed — of what was written after a version."""
    query = dialect.query.from_(RUN_VERSIONS).left_join(RUNS).on(RUNS.run_no == RUN_VERSIONS.run_no)
    return query.select(RUN_VERSIONS.run_no, *_columns(RUNS)).where(RUN_VERSIONS.version > after)


def benchmark_versions_query(dialect: Dialect, after: int) -> QueryBuilder:
    """Rows: benchmark, version — of benchmarks that changed after a version."""
    table = BENCHMARK_VERSIONS
    return dialect.query.from_(table).select(table.benchmark, table.version).where(table.version > after)


def _columns(runs: Table) -> list[Field]:
    return [runs.field(column.name) for column in fields(StoredRun)]
