"""Whether each run has its row of `applied`, its answers and its sums, and whether the sums are those of the answers.

Quickly, the engine compares what belongs together, and rows come back only where something is wrong. Thoroughly, every
run's sums are made again from its packed answers and compared bit by bit.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import numpy as np
from pypika import Table
from pypika import functions as fn
from pypika.functions import Length
from pypika.queries import QueryBuilder
from pypika.terms import Criterion

from analysis_service.database import Database, Row, Session, in_batches
from analysis_service.database.dialect import Dialect
from analysis_service.packed_sums import COST_COLUMNS, SCORE_COLUMNS, pack_columns, pack_layout, unpack_layout
from analysis_service.projection.answers import unpack, unpack_scores
from analysis_service.projection.apply import ResultEntry
from analysis_service.projection.prepare import AppliedState
from analysis_service.projection.removal import StrayRows
from analysis_service.projection.sums import sheet_of, sum_answers
from analysis_service.queries.tables import ANSWERS, APPLIED, RUNS, SUMS, BenchmarkTables

_NUMBER_BYTES = 8
ANSWERS_AT_ONCE = 200_000
"""Answers that are read at once, or one run's."""


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with a stretch of runs, by number."""

    damaged: Sequence[tuple[ResultEntry, str]]
    """Results whose run is not whole, and what it lacks."""
    stray: Sequence[StrayRows]
    next_after: int | None
    """Where the next stretch begins; None after the last."""
    greatest: int
    """The greatest run number, or where there are none beyond, where this stretch began."""


@dataclass(frozen=True, slots=True)
class _Run:
    run_no: int
    result_name: str
    benchmark: str
    seq: int
    n_answers: int
    set_no: int | None
    layout_no: int | None
    applied_seq: int | None
    href: str | None
    state: str | None


async def fetch_damage(session: Session, dialect: Dialect, *, after: int, limit: int) -> Damage:
    """Compare the runs of `limit` numbers beyond `after` with their parts."""
    query = dialect.query.from_(RUNS).select(fn.Min(RUNS.run_no), fn.Max(RUNS.run_no)).where(RUNS.run_no > after)
    [(least, greatest)] = await session.fetch(query, "least and greatest run numbers")
    last = None if least is None or greatest < least + limit else int(least) + limit - 1
    here = _Stretch(after, last)
    runs = await _fetch_runs(session, dialect, here.of(RUNS) & _NOT_WHOLE)
    stray = [
        StrayRows(run.run_no, RUNS, run.result_name)
        for run in runs
        if run.applied_seq is None or run.state != AppliedState.APPLIED
    ]
    strayed = {rows.run_no for rows in stray}
    lacking = {run.run_no: (run, _lack(run)) for run in runs if run.run_no not in strayed}
    for table in (ANSWERS, SUMS):
        stray += [StrayRows(run_no, table, None) for run_no in await _strays(session, dialect, table, here)]
    for run in await _without_content(session, dialect, here):
        if run.run_no not in strayed:
            lacking.setdefault(run.run_no, (run, "what its sums refer to is not whole"))
    damaged = [
        (ResultEntry(run.result_name, run.applied_seq, run.href), detail)
        for run, detail in lacking.values()
        if run.applied_seq is not None and run.href is not None
    ]
    return Damage(damaged, stray, last, int(greatest or after))


async def fetch_wrong_sums(
    database: Database, *, after: int, limit: int
) -> AsyncIterator[tuple[int, list[tuple[ResultEntry, str]]]]:
    """Make the sums of runs beyond `after` again from their answers, `limit` at most.

    Yields, stretch by stretch, the last number looked at and the results whose stored sums are others.
    """
    dialect = database.dialect
    while True:
        async with database.snapshot() as session:
            query = dialect.query.from_(RUNS).select(RUNS.run_no, RUNS.n_answers).where(RUNS.run_no > after)
            coming = await session.fetch(query.orderby(RUNS.run_no).limit(limit), "runs to check")
            numbers = _some(coming)
            rows = await session.fetch(_parts_query(dialect, numbers), "parts of runs") if numbers else []
            layouts = await _fetch_layouts(session, dialect, {(row[2], row[4]) for row in rows})
        if not numbers:
            return
        wrong = await asyncio.to_thread(_compare, rows, layouts)
        after = numbers[-1]
        yield after, wrong


def _some(runs: Sequence[Row]) -> list[int]:
    """The numbers of as many runs, of those that come, as are read at once."""
    numbers: list[int] = []
    answers = 0
    for run_no, n_answers in runs:
        if numbers and answers + n_answers > ANSWERS_AT_ONCE:
            break
        numbers.append(run_no)
        answers += n_answers
    return numbers


def _parts_query(dialect: Dialect, numbers: Sequence[int]) -> QueryBuilder:
    """Rows: run_no, result_name, benchmark, set_no, layout_no, counts, the packed parts, seq, href, scores."""
    query = dialect.query.from_(RUNS).join(ANSWERS).on(ANSWERS.run_no == RUNS.run_no)
    query = query.join(SUMS).on(SUMS.run_no == RUNS.run_no).join(APPLIED).on(APPLIED.result_name == RUNS.result_name)
    query = query.select(RUNS.run_no, RUNS.result_name, RUNS.benchmark, RUNS.set_no, RUNS.layout_no, RUNS.n_cells)
    query = query.select(RUNS.n_questions, RUNS.n_answers, RUNS.n_scored, RUNS.score_sum)
    query = query.select(ANSWERS.packed, SUMS.scores, SUMS.costs, APPLIED.seq, APPLIED.href, ANSWERS.scores)
    return query.where(RUNS.run_no.isin(list(numbers)))


async def _fetch_layouts(
    session: Session, dialect: Dialect, wanted: set[tuple[str, int]]
) -> dict[tuple[str, int], bytes]:
    found: dict[tuple[str, int], bytes] = {}
    for benchmark in sorted({benchmark for benchmark, _ in wanted}):
        table = BenchmarkTables(benchmark).layouts
        numbers = sorted(number for name, number in wanted if name == benchmark)
        query = dialect.query.from_(table).select(table.layout_no, table.cells).where(table.layout_no.isin(numbers))
        found |= {(benchmark, row[0]): bytes(row[1]) for row in await session.fetch(query, "layouts of runs")}
    return found


def _compare(rows: Sequence[Row], layouts: dict[tuple[str, int], bytes]) -> list[tuple[ResultEntry, str]]:
    wrong = []
    for row in rows:
        name, benchmark, layout_no, seq, href = row[1], row[2], row[4], row[13], row[14]
        detail = _difference(row, layouts.get((benchmark, layout_no)))
        if detail is not None:
            wrong.append((ResultEntry(name, seq, href), detail))
    return wrong


def _difference(row: Row, layout: bytes | None) -> str | None:
    """What of a run's sums is not what its packed answers come to."""
    try:
        columns, scores = unpack(row[10]), unpack_scores(row[15])
        sheet = sheet_of(columns)
        sums = sum_answers(columns, sheet)
    except Exception as error:  # noqa: BLE001 - damaged bytes raise whatever they like
        return f"its packed answers cannot be read: {type(error).__name__}"
    counts = (sheet.set_no, sheet.layout_no, len(sheet.layout.combination), sheet.n_questions, len(columns.question_no))
    if tuple(row[3:10]) != (*counts, sums.n_scored, sums.score_sum):
        return "its counts are not those of its answers"
    if any(
        not np.array_equal(getattr(scores, name), getattr(columns, name), equal_nan=True)
        for name in ("question_no", "combination", "status", "score")
    ):
        return "its scores by themselves are not those of its answers"
    if layout != pack_layout(sheet.layout):
        return "the layout of its sums is not that of its answers"
    if (bytes(row[11]), bytes(row[12])) != (pack_columns(sums.scores), pack_columns(sums.costs)):
        return "its sums are not those of its answers"
    return None


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Run numbers beyond `after`, up to `last` if there is one."""

    after: int
    last: int | None

    def of(self, table: Table) -> Criterion:
        beyond: Criterion = table.run_no > self.after
        return beyond if self.last is None else beyond & (table.run_no <= self.last)


def _has_bytes(packed: Table, column: str, columns: Sequence[str]) -> Criterion:
    return Length(packed.field(column)) == RUNS.n_cells * (len(columns) * _NUMBER_BYTES)


_NOT_WHOLE = (
    APPLIED.seq.isnull()
    | (APPLIED.state != AppliedState.APPLIED.value)
    | (APPLIED.seq != RUNS.seq)
    | (ANSWERS.run_no.isnull() & (RUNS.n_answers > 0))
    | (ANSWERS.run_no.notnull() & (RUNS.n_answers == 0))
    | (SUMS.run_no.isnull() & (RUNS.n_answers > 0))
    | (SUMS.run_no.notnull() & (RUNS.n_answers == 0))
    | (SUMS.run_no.notnull() & ~(_has_bytes(SUMS, "scores", SCORE_COLUMNS) & _has_bytes(SUMS, "costs", COST_COLUMNS)))
)


def _lack(run: _Run) -> str:
    if run.seq != run.applied_seq:
        return f"its run is as of entry {run.seq}, its result as of {run.applied_seq}"
    return "its answers or sums are not whole" if run.n_answers else "it has answers or sums and should have none"


async def _fetch_runs(session: Session, dialect: Dialect, which: Criterion) -> list[_Run]:
    query = dialect.query.from_(RUNS).left_join(APPLIED).on(APPLIED.result_name == RUNS.result_name)
    query = query.left_join(ANSWERS).on(ANSWERS.run_no == RUNS.run_no).left_join(SUMS).on(SUMS.run_no == RUNS.run_no)
    query = query.select(RUNS.run_no, RUNS.result_name, RUNS.benchmark, RUNS.seq, RUNS.n_answers)
    query = query.select(RUNS.set_no, RUNS.layout_no, APPLIED.seq, APPLIED.href, APPLIED.state)
    query = query.where(which).orderby(RUNS.run_no)
    return [_Run(*row) for row in await session.fetch(query, "runs that are not whole")]


async def _without_content(session: Session, dialect: Dialect, here: _Stretch) -> list[_Run]:
    """The runs whose layout is not there, or any of the question sets and combinations that they refer to."""
    used = dialect.query.from_(RUNS).select(RUNS.benchmark, RUNS.layout_no, RUNS.set_no).distinct()
    rows = await session.fetch(used.where(here.of(RUNS) & RUNS.layout_no.notnull()), "layouts and sets in use")
    lacking: list[Criterion] = []
    for benchmark in sorted({benchmark for benchmark, _, _ in rows}):
        tables = BenchmarkTables(benchmark)
        layouts = await _fetch_layouts(
            session, dialect, {(name, layout) for name, layout, _ in rows if name == benchmark}
        )
        refers: dict[int, tuple[set[int], set[int]]] = {}
        for (_, layout_no), cells in layouts.items():
            layout = unpack_layout(cells)
            refers[layout_no] = set(layout.combination.tolist()), set(layout.set_no.tolist())
        wanted = [(layout, set_no) for name, layout, set_no in rows if name == benchmark]
        sets = set().union(*(its_sets for _, its_sets in refers.values()), (set_no for _, set_no in wanted))
        combinations = set().union(*(its for its, _ in refers.values()))
        no_set = sets - await _existing(session, dialect, tables.question_sets, "set_no", sets)
        no_combination = combinations - await _existing(
            session, dialect, tables.combinations, "combination", combinations
        )
        for layout_no, set_no in wanted:
            its_combinations, its_sets = refers.get(layout_no, (set(), set()))
            if layout_no not in refers or its_combinations & no_combination or (its_sets | {set_no}) & no_set:
                same = (RUNS.benchmark == benchmark) & (RUNS.layout_no == layout_no) & (RUNS.set_no == set_no)
                lacking.append(same)
    found: list[_Run] = []
    for some in in_batches(lacking, 100):
        found += await _fetch_runs(session, dialect, here.of(RUNS) & Criterion.any(some))
    return found


async def _existing(session: Session, dialect: Dialect, table: Table, column: str, numbers: set[int]) -> set[int]:
    found: set[int] = set()
    number = table.field(column)
    for some in in_batches(sorted(numbers)):
        query = dialect.query.from_(table).select(number).where(number.isin(some))
        found |= {row[0] for row in await session.fetch(query, f"existing numbers of {column}")}
    return found


async def _strays(session: Session, dialect: Dialect, table: Table, here: _Stretch) -> list[int]:
    """The run numbers in `table` that no run has."""
    query = dialect.query.from_(table).left_join(RUNS).on(RUNS.run_no == table.run_no)
    query = query.select(table.run_no).distinct().where(here.of(table) & RUNS.run_no.isnull())
    return sorted(number for (number,) in await session.fetch(query, "strays of a table"))
