"""Takes out of the projection what the feed does not know: under the lock of applying, and only what is still so."""

from dataclasses import dataclass

from pypika import Table

from analysis_service.database.dialect import Dialect
from analysis_service.projection.apply import FeedGap, Projection
from analysis_service.projection.prepare import AppliedState
from analysis_service.queries.tables import APPLIED, RUNS


@dataclass(frozen=True, slots=True)
class StrayRows:
    """Rows of a run number in `table` that belong to no applied result."""

    run_no: int
    table: Table
    result_name: str | None
    """Of a row of `runs`."""

    @property
    def place(self) -> str:
        """What to call them."""
        return self.result_name or f"run {self.run_no}"

    @property
    def detail(self) -> str:
        """What is wrong with them."""
        if self.result_name is not None:
            return f"it has run {self.run_no}, but is not applied"
        return f"{self.table.get_table_name()} has rows of it, but there is no such run"


async def remove_result(projection: Projection, dialect: Dialect, result_name: str, *, found: int) -> bool:
    """Take a result out; False, and nothing happens, if it is not applied as of the entry `found` any more."""
    async with projection.locked() as writing:
        session = writing.session
        its_row = APPLIED.result_name == result_name
        applied = dialect.query.from_(APPLIED).select(APPLIED.seq, APPLIED.benchmark).where(its_row)
        rows = await session.fetch(applied, "entry and benchmark of a result")
        if [seq for seq, _ in rows] != [found]:
            return False
        runs = dialect.query.from_(RUNS).select(RUNS.run_no, RUNS.benchmark).where(RUNS.result_name == result_name)
        await writing.delete_runs(dict(await session.fetch(runs, "runs of a result")))
        await session.execute(dialect.query.from_(APPLIED).delete().where(its_row))
        writing.changed((), [benchmark for _, benchmark in rows])
        return True


async def remove_stray(projection: Projection, dialect: Dialect, stray: StrayRows) -> bool:
    """Take rows out that belong to no result; False, and nothing happens, if by now they do."""
    async with projection.locked() as writing:
        session = writing.session
        owners = dialect.query.from_(RUNS).select(RUNS.run_no, RUNS.benchmark).where(RUNS.run_no == stray.run_no)
        owned: dict[int, str] = dict(await session.fetch(owners, "benchmark of a run"))
        if stray.result_name is None:
            if owned:
                return False
            await session.execute(dialect.query.from_(stray.table).delete().where(stray.table.run_no == stray.run_no))
            return True
        applied = (APPLIED.result_name == stray.result_name) & (APPLIED.state == AppliedState.APPLIED.value)
        query = dialect.query.from_(APPLIED).select(APPLIED.seq).where(applied)
        if await session.fetch(query, "applied state of a result"):
            return False
        await writing.delete_runs(owned)
        return True


async def go_back(projection: Projection, position: int, *, to: int) -> bool:
    """Set the position back, where the feed went back; False if it is not `position` any more."""
    try:
        async with projection.locked(expected=position) as writing:
            writing.position = to
    except FeedGap:
        return False
    return True
