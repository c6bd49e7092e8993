"""Whether each run has its row of `applied`, its answers and its sums, and whether these are of a run.

The engine compares; rows come back only where something is wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pypika import Case, Table
from pypika import functions as fn
from pypika.queries import QueryBuilder
from pypika.terms import Criterion

from analysis_service.database import Session, in_batches
from analysis_service.database.dialect import Dialect
from analysis_service.projection.apply import AppliedResult
from analysis_service.projection.prepare import AppliedState
from analysis_service.projection.removal import StrayRows
from analysis_service.queries.tables import ANSWERS, APPLIED, RUNS, BenchmarkTables
from shared.registry.specs import Registry


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with a stretch of runs, by number."""

    damaged: Sequence[tuple[AppliedResult, str]]
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
    applied_seq: int | None
    href: str | None
    state: str | None


async def fetch_damage(session: Session, dialect: Dialect, registry: Registry, *, after: int, limit: int) -> Damage:
    """Compare the runs of `limit` numbers beyond `after` with their parts."""
    query = dialect.query.from_(RUNS).select(fn.Min(RUNS.run_no), fn.Max(RUNS.run_no)).where(RUNS.run_no > after)
    [(least, greatest)] = await session.fetch(query)
    last = None if least is None or greatest < least + limit else int(least) + limit - 1
    here = _Stretch(after, last)
    runs = await _fetch_runs(session, dialect, here.of(RUNS) & _NOT_WHOLE)
    stray = [
        StrayRows(run.run_no, run.benchmark, RUNS, run.result_name)
        for run in runs
        if run.applied_seq is None or run.state != AppliedState.APPLIED
    ]
    strayed = {rows.run_no for rows in stray}
    lacking = {run.run_no: (run, _lack(run)) for run in runs if run.run_no not in strayed}
    named = await session.fetch(dialect.query.from_(RUNS).select(RUNS.benchmark).distinct().where(here.of(RUNS)))
    benchmarks = sorted(registry.benchmarks.keys() | {benchmark for (benchmark,) in named})
    stray += [StrayRows(run_no, None, ANSWERS, None) for run_no in await _strays(session, dialect, ANSWERS, here)]
    for benchmark in benchmarks:
        tables = BenchmarkTables(benchmark)
        wrong = await session.fetch(_wrongly_summed(dialect, tables, here))
        for some in in_batches(number for (number,) in wrong if number not in strayed | lacking.keys()):
            for run in await _fetch_runs(session, dialect, RUNS.run_no.isin(some)):
                lacking[run.run_no] = (run, f"its sums are not whole, or not over its {run.n_answers:,} answers")
        numbers = await _strays(session, dialect, tables.sums, here, RUNS.benchmark == benchmark)
        stray += [StrayRows(run_no, benchmark, tables.sums, None) for run_no in numbers]
    damaged = [
        (AppliedResult(run.result_name, run.applied_seq, run.href), detail)
        for run, detail in lacking.values()
        if run.applied_seq is not None and run.href is not None
    ]
    return Damage(damaged, stray, last, int(greatest or after))


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Run numbers beyond `after`, up to `last` if there is one."""

    after: int
    last: int | None

    def of(self, table: Table) -> Criterion:
        beyond: Criterion = table.run_no > self.after
        return beyond if self.last is None else beyond & (table.run_no <= self.last)


_NOT_WHOLE = (
    APPLIED.seq.isnull()
    | (APPLIED.state != AppliedState.APPLIED.value)
    | (APPLIED.seq != RUNS.seq)
    | (ANSWERS.run_no.isnull() & (RUNS.n_answers > 0))
    | (ANSWERS.run_no.notnull() & (RUNS.n_answers == 0))
)


def _lack(run: _Run) -> str:
    if run.seq != run.applied_seq:
        return f"its run is as of entry {run.seq}, its result as of {run.applied_seq}"
    return "it lacks its packed answers" if run.n_answers else "it has packed answers and should have none"


async def _fetch_runs(session: Session, dialect: Dialect, which: Criterion) -> list[_Run]:
    query = dialect.query.from_(RUNS).left_join(APPLIED).on(APPLIED.result_name == RUNS.result_name)
    query = query.left_join(ANSWERS).on(ANSWERS.run_no == RUNS.run_no)
    query = query.select(RUNS.run_no, RUNS.result_name, RUNS.benchmark, RUNS.seq, RUNS.n_answers)
    query = query.select(APPLIED.seq, APPLIED.href, APPLIED.state).where(which).orderby(RUNS.run_no)
    return [_Run(*row) for row in await session.fetch(query)]


def _wrongly_summed(dialect: Dialect, tables: BenchmarkTables, here: _Stretch) -> QueryBuilder:
    """The numbers of runs whose sums are over more or fewer answers than they have, or lack what they refer to."""
    sums, combinations, sets = tables.sums, tables.combinations, tables.question_sets
    counts = sums.n_scored + sums.n_refused + sums.n_truncated + sums.n_error + sums.n_unscored
    whole = Case().when(combinations.combination.notnull() & sets.set_no.notnull(), counts).else_(0)
    query = dialect.query.from_(RUNS).left_join(sums).on(sums.run_no == RUNS.run_no).select(RUNS.run_no)
    query = query.left_join(combinations).on(combinations.combination == sums.combination)
    query = query.left_join(sets).on(sets.set_no == sums.set_no)
    query = query.where(here.of(RUNS) & (RUNS.benchmark == tables.benchmark))
    query = query.groupby(RUNS.run_no, RUNS.n_answers, RUNS.n_scored)
    n_answers, n_scored = (fn.Coalesce(fn.Sum(what), 0) for what in (whole, sums.n_scored))  # type: ignore[no-untyped-call]
    return query.having((n_answers != RUNS.n_answers) | (n_scored != RUNS.n_scored))


async def _strays(
    session: Session, dialect: Dialect, table: Table, here: _Stretch, owner: Criterion | None = None
) -> list[int]:
    """The run numbers in `table` that no run has, or none that is an `owner`."""
    same: Criterion = RUNS.run_no == table.run_no
    query = dialect.query.from_(table).left_join(RUNS).on(same if owner is None else same & owner)
    query = query.select(table.run_no).distinct().where(here.of(table) & RUNS.run_no.isnull())
    return sorted(number for (number,) in await session.fetch(query))
