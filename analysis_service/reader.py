"""What reading needs. Each answer is read in one snapshot, so that its parts fit together."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from analysis_service.catalog import BenchmarkRuns, Catalog, read_catalog, refresh_catalog
from analysis_service.database import (
    Database,
    SnapshotSession,
    StoreVersion,
    survive_lost_replicas,
)
from analysis_service.database.dialect import Dialect
from analysis_service.group_by.combinations import CombinationMemory
from analysis_service.group_by.layouts import Layouts
from analysis_service.group_by.question_sets import QuestionSets
from analysis_service.schema import SCHEMA_VERSION
from analysis_service.shared_reads import SharedReads
from shared.registry.specs import Registry

LARGE_AT_ONCE = 2
LONG_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One state of the store: a session that reads it, and its runs."""

    session: SnapshotSession
    catalog: Catalog
    registry: Registry

    def runs_of(self, benchmark: str) -> BenchmarkRuns:
        """The runs of a registered benchmark."""
        return self.catalog.by_benchmark[benchmark]

    def data_version(self, benchmarks: Iterable[str] | None = None) -> str:
        """An opaque word: another one once anything is stored of these benchmarks, or with None of any."""
        return data_version(self.catalog, self.registry, benchmarks)


def data_version(catalog: Catalog, registry: Registry, benchmarks: Iterable[str] | None) -> str:
    """The word that answers about these benchmarks have; equal ones mean the same data, registry and tables."""
    return f"{catalog.newest_change(benchmarks)}-{registry.hash[:8]}-{SCHEMA_VERSION}"


@dataclass(eq=False, slots=True)
class Reader:
    """The store, the registry, and what is kept in memory between requests."""

    database: Database
    registry: Registry
    max_groups: int
    """Groups that an answer may have."""
    max_cells: int = 20_000_000
    """Cells of stored sums that an answer may be made of."""
    plan_timeout_s: float = 10
    """Time limit of all reads of an answer together."""
    question_sets: QuestionSets = field(default_factory=QuestionSets)
    layouts: Layouts = field(default_factory=Layouts)
    combinations: CombinationMemory = field(default_factory=CombinationMemory)
    large_answers: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LARGE_AT_ONCE))
    """Places for answers of many rows."""
    long_work: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(LONG_AT_ONCE, "long-work"))
    """Threads for what is computed for seconds."""
    _versions: SharedReads[StoreVersion] = field(init=False)
    _newest: Catalog | None = field(default=None, init=False)
    # Two locks: whoever waits for `_refreshing` holds a connection, so whoever has it must not wait for one.
    _becoming_current: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _refreshing: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    def __post_init__(self) -> None:
        self._versions = SharedReads(self.database.fetch_version)

    @property
    def dialect(self) -> Dialect:
        """The store's dialect."""
        return self.database.dialect

    async def current(self) -> Catalog:
        """A catalog that is not older than this call, by one small read of the primary that many calls share.

        Snapshots that begin after it are not older, either.
        """
        before = self._newest
        stored = await self._versions.next()
        if (known := self._newest_since(before, stored)) is not None:
            return known
        async with self._becoming_current:
            return self._newest_since(before, stored) or await self._refresh(stored.version)

    @asynccontextmanager
    async def snapshot(self, at_least: int | None = None) -> AsyncIterator[Snapshot]:
        """One state of the store, no older than the newest that was seen here, nor than the version `at_least`."""
        while True:
            floor = at_least if self._newest is None else max(self._newest.version, at_least or 0)
            async with self.database.snapshot(floor) as session:
                catalog = await self._catalog_of(session, floor)
                if catalog is not None:
                    yield Snapshot(session, catalog, self.registry)
                    return

    async def close(self) -> None:
        """End what is under way."""
        await self._versions.close()
        self.long_work.shutdown(wait=False, cancel_futures=True)

    def _newest_since(self, before: Catalog | None, stored: StoreVersion) -> Catalog | None:
        """The newest catalog if it is of this version, or was made since `before` of a later one; else None.

        One of a later version that was there before is of a store that went back: it was restored, or made anew.
        """
        known = self._newest
        if known is None:
            return None
        is_later = known is not before and known.version > stored.version
        return known if is_later or _is_of(known, stored) else None

    @survive_lost_replicas
    async def _refresh(self, at_least: int) -> Catalog:
        async with self.snapshot(at_least) as snapshot:
            return snapshot.catalog

    async def _catalog_of(self, session: SnapshotSession, floor: int | None) -> Catalog | None:
        """The catalog of what `session` sees; None if others have seen a later state since it began."""
        seen = session.version
        if self._newest is not None and _is_of(self._newest, seen):
            return self._newest
        async with self._refreshing:
            known = self._newest
            if known is not None and _is_of(known, seen):
                return known
            if known is not None and (floor or 0) <= seen.version < known.version:
                return None
            version, token = seen.version, seen.token
            if known is not None and known.version < version:
                newest = await refresh_catalog(
                    session, self.dialect, self.registry, known, version=version, token=token
                )
            else:  # the first; or the store went back, to a version older than it had or to another of the same number
                epoch = 0 if known is None else known.epoch + 1
                newest = await read_catalog(
                    session, self.dialect, self.registry, version=version, token=token, epoch=epoch
                )
            self._newest = newest
            return newest


def _is_of(catalog: Catalog, stored: StoreVersion) -> bool:
    return catalog.version == stored.version and catalog.token == stored.token
