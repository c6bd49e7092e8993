"""The group-by over sums as one query. Pure: a plan in, a query out.

The query also groups by question set, because distinct questions cannot be added up: a cell's number of questions is
the size of the union of its sets, which `analysis_service.cells` takes.
"""

from dataclasses import dataclass
from enum import StrEnum

from pypika import functions as fn
from pypika.queries import QueryBuilder

from analysis_service.database.dialect import Dialect
from analysis_service.queries.tables import RUNS, SUM_COLUMNS, BenchmarkTables, field_column


class RunKey(StrEnum):
    """What of the run the query groups by."""

    NONE = "none"
    MODEL = "model_id"
    RUN = "run_no"


@dataclass(frozen=True, slots=True)
class GroupByPlan:
    """A group-by in the terms of the tables; every name in it comes from the registry."""

    benchmark: str
    fields: tuple[str, ...]
    """Metadata fields to group by."""
    run_key: RunKey
    run_nos: tuple[int, ...] | None
    """Runs to read; None for all of the benchmark's."""
    filters: tuple[tuple[str, tuple[str | int | float, ...]], ...]
    """Metadata field and the values to keep."""
    drop_null: tuple[str, ...]
    """Fields whose rows without a value are left out."""
    max_rows: int


def group_by_query(dialect: Dialect, plan: GroupByPlan) -> QueryBuilder:
    """Rows: the run key (if any), the fields, set_no, then `SUM_COLUMNS`; at most `max_rows` + 1 of them."""
    tables = BenchmarkTables(plan.benchmark)
    sums, combinations = tables.sums, tables.combinations
    keys = [combinations.field(field_column(name)) for name in plan.fields]
    query = dialect.query.from_(sums)
    if plan.fields or plan.filters or plan.drop_null:
        query = query.join(combinations).on(sums.combination == combinations.combination)
    match plan.run_key:
        case RunKey.MODEL:
            query = query.join(RUNS).on(RUNS.run_no == sums.run_no)
            keys.insert(0, RUNS.model_id)
        case RunKey.RUN:
            keys.insert(0, sums.run_no)
        case RunKey.NONE:
            pass
    keys.append(sums.set_no)
    query = query.select(*keys, *(fn.Sum(sums.field(column)) for column in SUM_COLUMNS)).groupby(*keys)
    return _narrow(query, plan)


def combinations_query(dialect: Dialect, plan: GroupByPlan) -> QueryBuilder:
    """Rows: the fields, set_no — which questions have which values, each pair once."""
    tables = BenchmarkTables(plan.benchmark)
    sums, combinations = tables.sums, tables.combinations
    keys = [combinations.field(field_column(name)) for name in plan.fields]
    query = dialect.query.from_(sums).join(combinations).on(sums.combination == combinations.combination)
    return _narrow(query.select(*keys, sums.set_no).distinct(), plan)


def _narrow(query: QueryBuilder, plan: GroupByPlan) -> QueryBuilder:
    tables = BenchmarkTables(plan.benchmark)
    if plan.run_nos is not None:
        query = query.where(tables.sums.run_no.isin(plan.run_nos))
    for name, values in plan.filters:
        query = query.where(tables.combinations.field(field_column(name)).isin(values))
    for name in plan.drop_null:
        query = query.where(tables.combinations.field(field_column(name)).notnull())
    return query.limit(plan.max_rows + 1)
