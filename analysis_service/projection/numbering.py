"""The numbers that rows of the append-only tables have, kept in memory while nobody else can have written."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from pypika import Order, Table

from analysis_service.database import Row, Session
from analysis_service.database.dialect import Dialect


@dataclass(slots=True)
class Numbering:
    """The numbers of a table's rows by their keys. Rows are only ever added, so it is refreshed from its end."""

    table: Table
    number: str
    keys: tuple[str, ...]
    known: dict[Row, int] = field(default_factory=dict)
    newest: Row = (0,)
    """The last row that was read; without keys before the first."""
    is_current: bool = False
    """Whether nobody can have written since it was read."""

    @property
    def last(self) -> int:
        """The greatest number that is known to be taken."""
        return int(self.newest[0])

    async def refresh(self, session: Session, dialect: Dialect) -> bool:
        """Learn the rows that were committed since. False if rows that were known are gone, so that all is new."""
        if self.is_current:
            return True
        rows = await self._read(session, dialect)
        # Else the store lost what it had committed: it was restored or emptied, or fell back to a replica behind it.
        is_continued = not self.last or (bool(rows) and rows[0] == self.newest)
        if not is_continued:
            self.known.clear()
            self.newest = (0,)
            rows = await self._read(session, dialect)
        for row in rows:
            self.known[row[1:]] = row[0]
            self.newest = row
        self.is_current = True
        return is_continued

    async def _read(self, session: Session, dialect: Dialect) -> list[Row]:
        number = self.table.field(self.number)
        query = dialect.query.from_(self.table).select(number, *(self.table.field(key) for key in self.keys))
        query = query.where(number >= self.last).orderby(number, order=Order.asc)
        return await session.fetch(query, f"numbers of {self.number}")

    def number_all(self, keys: Iterable[Row], new: dict[Row, int]) -> list[int]:
        """A number for each key. Those without one get the next, and are added to `new`."""
        numbers = []
        for key in keys:
            number = self.known.get(key) or new.get(key)
            if number is None:
                number = new[key] = self.last + len(new) + 1
            numbers.append(number)
        return numbers

    def learn(self, new: dict[Row, int]) -> None:
        """Take in what `number_all` gave out, once it is committed."""
        for key, number in new.items():
            self.known[key] = number
            self.newest = (number, *key)
