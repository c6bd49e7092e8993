"""What a group-by reads: packed sums of runs, and what their cells are about. Pure: numbers in, queries out.

Every read is one statement whatever is asked for: numbers stand in it as they are, so no engine's limit on parameters
divides them. That is safe for whole numbers, and for nothing else.
"""

from collections.abc import Collection, Iterable

from pypika import Order
from pypika.queries import QueryBuilder
from pypika.terms import ContainsCriterion, Criterion, Term

from analysis_service.database.dialect import Dialect
from analysis_service.queries.tables import SUMS, BenchmarkTables, field_column


class _Numbers(Term):
    """A list of whole numbers, rendered as such."""

    def __init__(self, numbers: Iterable[int]) -> None:
        super().__init__()
        self._numbers = sorted(numbers)

    def get_sql(self, **_: object) -> str:
        # NULL is in no list, and an empty list is not SQL.
        return f"({','.join(['%d' % number for number in self._numbers]) or 'NULL'})"  # noqa: UP031 - refuses text


def one_of(term: Term, numbers: Iterable[int]) -> Criterion:
    """Whether `term` is one of `numbers`, however many there are."""
    return ContainsCriterion(term, _Numbers(numbers))


def sums_query(dialect: Dialect, run_nos: Collection[int]) -> QueryBuilder:
    """Rows: run_no, scores — of these runs, by number."""
    query = dialect.query.from_(SUMS).select(SUMS.run_no, SUMS.scores).where(one_of(SUMS.run_no, run_nos))
    return query.orderby(SUMS.run_no, order=Order.asc)


def layouts_query(dialect: Dialect, benchmark: str, layout_nos: Collection[int]) -> QueryBuilder:
    """Rows: layout_no, cells."""
    table = BenchmarkTables(benchmark).layouts
    return dialect.query.from_(table).select(table.layout_no, table.cells).where(one_of(table.layout_no, layout_nos))


def question_sets_query(dialect: Dialect, benchmark: str, set_nos: Collection[int]) -> QueryBuilder:
    """Rows: set_no, members."""
    table = BenchmarkTables(benchmark).question_sets
    return dialect.query.from_(table).select(table.set_no, table.members).where(one_of(table.set_no, set_nos))


def combinations_query(dialect: Dialect, benchmark: str, fields: Iterable[str], first: int) -> QueryBuilder:
    """Rows: combination, its values of `fields` — from number `first` on, ascending."""
    table = BenchmarkTables(benchmark).combinations
    query = dialect.query.from_(table).select(table.combination, *(table.field(field_column(name)) for name in fields))
    return query.where(table.combination >= first).orderby(table.combination, order=Order.asc)
