"""Question sets by number, kept in memory: a set never changes once its number is known."""

from collections.abc import Iterable, Mapping

from cachetools import LRUCache
from pyroaring import BitMap

from analysis_service.database import Session, in_batches
from analysis_service.database.dialect import Dialect
from analysis_service.queries.tables import BenchmarkTables

CACHE_BYTES = 64 * 1024 * 1024
_OVERHEAD_BYTES = 200


class QuestionSets:
    """A cache of question sets, bounded by bytes."""

    def __init__(self) -> None:
        self._sets: LRUCache[tuple[str, int], BitMap] = LRUCache(CACHE_BYTES, getsizeof=_size)

    async def fetch(
        self, session: Session, dialect: Dialect, benchmark: str, numbers: Iterable[int]
    ) -> Mapping[int, BitMap]:
        """The sets of these numbers; those not known yet are read in as few statements as there may be."""
        wanted = set(numbers)
        found = {number: known for number in wanted if (known := self._sets.get((benchmark, number))) is not None}
        table = BenchmarkTables(benchmark).question_sets
        query = dialect.query.from_(table).select(table.set_no, table.members)
        for missing in in_batches(sorted(wanted - found.keys())):
            for number, members in await session.fetch(query.where(table.set_no.isin(missing))):
                found[number] = BitMap.deserialize(members)
                self._sets[benchmark, number] = found[number]
        return found


def _size(members: BitMap) -> int:
    return _OVERHEAD_BYTES + 2 * len(members)
