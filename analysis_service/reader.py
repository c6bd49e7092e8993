"""What reading needs. Each answer is read in one snapshot, so that its parts fit together."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from analysis_service.database import Database, Row, Session
from analysis_service.database.dialect import Dialect
from analysis_service.queries.tables import FEED_STATE
from analysis_service.question_sets import QuestionSets
from analysis_service.schema import SCHEMA_VERSION
from shared.problems import TooManyGroups
from shared.registry.specs import Registry


@dataclass(frozen=True, slots=True)
class Reader:
    """The store, the registry, and what is kept in memory between requests."""

    database: Database
    registry: Registry
    max_groups: int
    question_sets: QuestionSets = field(default_factory=QuestionSets)

    @property
    def dialect(self) -> Dialect:
        """The store's dialect."""
        return self.database.dialect

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[tuple[Session, str]]:
        """A session, and the version of the data that it sees."""
        async with self.database.snapshot() as session:
            query = self.dialect.query.from_(FEED_STATE).select(FEED_STATE.position, FEED_STATE.version)
            [(position, version)] = await session.fetch(query)
            yield session, f"{position}.{version}-{self.registry.hash[:8]}-{SCHEMA_VERSION}"

    def check_size(self, rows: Sequence[Row]) -> None:
        """TooManyGroups if a query came back with more rows than it may; queries ask for one more than allowed."""
        if len(rows) > self.max_groups:
            raise TooManyGroups(
                f"the answer needs more than {self.max_groups:,} rows of sums (setting MAX_GROUPS); "
                "ask for fewer levels, or filter by runs, models or values"
            )
