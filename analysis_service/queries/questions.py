"""Looking up questions by the ids that they came under. Pure."""

from collections.abc import Sequence

from pypika import Order
from pypika.queries import QueryBuilder

from analysis_service.database.dialect import Dialect
from analysis_service.queries.tables import ANSWERS, BenchmarkTables, field_column

_AFTER_ALL = "\U0010ffff"
"""Sorts behind everything that ids hold: ids are compared by code point."""


def questions_query(dialect: Dialect, benchmark: str, question_id: str, limit: int) -> QueryBuilder:
    """Rows: question_no, question_key, the first question_id — of every question that came under this id."""
    tables = BenchmarkTables(benchmark)
    questions, names = tables.questions, tables.question_names
    query = dialect.query.from_(names).join(questions).on(questions.question_no == names.question_no)
    query = query.select(questions.question_no, questions.question_key, questions.question_id)
    return query.where(names.question_id == question_id).orderby(questions.question_no).limit(limit)


def keys_query(dialect: Dialect, benchmark: str, numbers: list[int]) -> QueryBuilder:
    """Rows: question_no, question_key."""
    questions = BenchmarkTables(benchmark).questions
    query = dialect.query.from_(questions).select(questions.question_no, questions.question_key)
    return query.where(questions.question_no.isin(numbers))


def ids_query(dialect: Dialect, benchmark: str, question_no: int, limit: int) -> QueryBuilder:
    """Rows: question_id — those that a question came under."""
    names = BenchmarkTables(benchmark).question_names
    query = dialect.query.from_(names).select(names.question_id).where(names.question_no == question_no)
    return query.orderby(names.question_id).limit(limit)


def names_query(dialect: Dialect, benchmark: str, name_nos: list[int]) -> QueryBuilder:
    """Rows: name_no, question_id."""
    names = BenchmarkTables(benchmark).question_names
    return dialect.query.from_(names).select(names.name_no, names.question_id).where(names.name_no.isin(name_nos))


def values_query(dialect: Dialect, benchmark: str, fields: Sequence[str], numbers: list[int]) -> QueryBuilder:
    """Rows: combination, then the values of `fields`."""
    table = BenchmarkTables(benchmark).combinations
    columns = [table.field(field_column(name)) for name in fields]
    return dialect.query.from_(table).select(table.combination, *columns).where(table.combination.isin(numbers))


def answers_query(dialect: Dialect, run_nos: list[int]) -> QueryBuilder:
    """Rows: run_no, packed."""
    return dialect.query.from_(ANSWERS).select(ANSWERS.run_no, ANSWERS.packed).where(ANSWERS.run_no.isin(run_nos))


def neighbours_query(dialect: Dialect, benchmark: str, question_id: str, limit: int, *, before: bool) -> QueryBuilder:
    """Rows: question_id — those next to it in their order, on one side."""
    names = BenchmarkTables(benchmark).question_names
    side = names.question_id < question_id if before else names.question_id > question_id
    query = dialect.query.from_(names).select(names.question_id).distinct().where(side)
    return query.orderby(names.question_id, order=Order.desc if before else Order.asc).limit(limit)


def list_query(
    dialect: Dialect, benchmark: str, prefix: str, after: tuple[str, int] | None, limit: int
) -> QueryBuilder:
    """Rows: question_id, question_no — by id, beyond the place `after`.

    From one index alone: joined with the questions, MariaDB sorts all of them for each page.
    """
    names = BenchmarkTables(benchmark).question_names
    query = dialect.query.from_(names).select(names.question_id, names.question_no)
    if prefix:
        query = query.where((names.question_id >= prefix) & (names.question_id < prefix + _AFTER_ALL))
    if after is not None:
        last, number = after
        # The first clause is what an index can begin at.
        query = query.where(names.question_id >= last)
        query = query.where((names.question_id > last) | (names.question_no > number))
    return query.orderby(names.question_id, names.question_no).limit(limit)
