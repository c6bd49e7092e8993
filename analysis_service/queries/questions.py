"""Looking up questions by the ids that they came under. Pure."""

from collections.abc import Collection, Sequence

from pypika import Order
from pypika.analytics import RowNumber
from pypika.queries import QueryBuilder

from analysis_service.database.dialect import Dialect
from analysis_service.queries.sums import one_of
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


def described_query(dialect: Dialect, benchmark: str, numbers: Collection[int]) -> QueryBuilder:
    """Rows: question_no, question_key, the first question_id — of these questions."""
    questions = BenchmarkTables(benchmark).questions
    query = dialect.query.from_(questions)
    query = query.select(questions.question_no, questions.question_key, questions.question_id)
    return query.where(one_of(questions.question_no, numbers))


def all_ids_query(dialect: Dialect, benchmark: str, numbers: Collection[int]) -> QueryBuilder:
    """Rows: question_no, question_id — every id that each of these questions came under."""
    names = BenchmarkTables(benchmark).question_names
    query = dialect.query.from_(names).select(names.question_no, names.question_id)
    return query.where(one_of(names.question_no, numbers))


def ids_query(dialect: Dialect, benchmark: str, numbers: list[int], limit: int) -> QueryBuilder:
    """Rows: question_no, question_id — those that each of these questions came under, at most `limit` of each."""
    names = BenchmarkTables(benchmark).question_names
    place = RowNumber().over(names.question_no).orderby(names.question_id).as_("place")  # type: ignore[no-untyped-call]
    placed = dialect.query.from_(names).select(names.question_no, names.question_id, place)
    placed = placed.where(names.question_no.isin(numbers))
    query = dialect.query.from_(placed).select(placed.question_no, placed.question_id).where(placed.place <= limit)
    return query.orderby(placed.question_no, placed.question_id)


def names_query(dialect: Dialect, benchmark: str, name_nos: list[int]) -> QueryBuilder:
    """Rows: name_no, question_id."""
    names = BenchmarkTables(benchmark).question_names
    return dialect.query.from_(names).select(names.name_no, names.question_id).where(names.name_no.isin(name_nos))


def values_query(dialect: Dialect, benchmark: str, fields: Sequence[str], numbers: list[int]) -> QueryBuilder:
    """Rows: combination, then the values of `fields`."""
    table = BenchmarkTables(benchmark).combinations
    columns = [table.field(field_column(name)) for name in fields]
    return dialect.query.from_(table).select(table.combination, *columns).where(table.combination.isin(numbers))


def answers_query(dialect: Dialect, run_nos: Collection[int]) -> QueryBuilder:
    """Rows: run_no, packed — of these runs, by number."""
    query = dialect.query.from_(ANSWERS).select(ANSWERS.run_no, ANSWERS.packed)
    return query.where(one_of(ANSWERS.run_no, run_nos)).orderby(ANSWERS.run_no)


def scores_query(dialect: Dialect, run_nos: Collection[int]) -> QueryBuilder:
    """Rows: run_no, scores — of these runs' answers, packed without the rest, by number."""
    query = dialect.query.from_(ANSWERS).select(ANSWERS.run_no, ANSWERS.scores)
    return query.where(one_of(ANSWERS.run_no, run_nos)).orderby(ANSWERS.run_no)


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
