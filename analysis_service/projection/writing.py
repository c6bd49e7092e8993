"""A transaction that changes the projection: what it changed gets its version as the transaction ends."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from analysis_service.database import Session
from analysis_service.database.dialect import Dialect
from analysis_service.queries.tables import ANSWERS, BENCHMARK_VERSIONS, FEED_STATE, RUN_VERSIONS, RUNS, SUMS


@dataclass(slots=True)
class Writing:
    """The transaction, held under the lock that lets one write at a time."""

    session: Session
    dialect: Dialect
    version: int
    """What the version of the data is once this is committed."""
    runs: set[int] = field(default_factory=set)
    """The numbers of the runs that it has written or taken out."""
    benchmarks: set[str] = field(default_factory=set)
    """The benchmarks of which it has changed anything."""
    position: int | None = None
    """Where the position goes; None to leave it."""

    @property
    def is_changed(self) -> bool:
        """Whether it has changed anything that answers are made of, or the position."""
        return bool(self.runs or self.benchmarks) or self.position is not None

    async def delete_runs(self, benchmarks: Mapping[int, str]) -> None:
        """Delete runs, by number and with the benchmark that each is of, with their answers and sums."""
        if not benchmarks:
            return
        for table in (RUNS, ANSWERS, SUMS):
            query = self.dialect.query.from_(table).delete()
            await self.session.execute(query.where(table.run_no.isin(sorted(benchmarks))))
        self.changed(benchmarks, benchmarks.values())

    def changed(self, runs: Collection[int], benchmarks: Collection[str]) -> None:
        """Take down that these runs, and anything of these benchmarks, are not what they were."""
        self.runs.update(runs)
        self.benchmarks.update(benchmarks)

    async def finish(self, token: int) -> None:
        """Give what was changed its version."""
        dialect = self.dialect
        for table, key, changed in (
            (RUN_VERSIONS, "run_no", sorted(self.runs)),
            (BENCHMARK_VERSIONS, "benchmark", sorted(self.benchmarks)),
        ):
            rows = [(one, self.version) for one in changed]
            await self.session.insert(table, [key, "version"], rows, replace=True)
        update = dialect.query.update(FEED_STATE).set(FEED_STATE.version, self.version).set(FEED_STATE.token, token)
        if self.position is not None:
            update = update.set(FEED_STATE.position, self.position)
        await self.session.execute(update)
