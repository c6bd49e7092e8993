"""What the projection remembers of the tables that are only ever added to, so as not to ask for it each time.

It holds while nobody else writes. The token in `feed_state` tells: where it is not the one that was left, another
instance has written, or the store was restored or emptied, and everything is asked for anew.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from cachetools import LRUCache

from analysis_service.database import Row, Session
from analysis_service.database.dialect import Dialect
from analysis_service.projection.numbering import Numbering
from analysis_service.projection.prepare import PreparedRun, combinations_of
from analysis_service.projection.question_keys import hash_in, question_keys
from analysis_service.projection.sums import QuestionSheet, make_sheet
from analysis_service.queries.tables import BenchmarkTables, field_column
from shared.registry.specs import BenchmarkSpec

SHEETS_BYTES = 32 * 1024 * 1024
KEYS_MAX = 300_000
"""Keys of questions, names and combinations that are kept in memory, a quarter of a kilobyte each."""
STORED_MAX = 1_000_000


@dataclass(slots=True)
class BenchmarkNumbers:
    """The numbers of one benchmark's questions, of the ids they came under, and of combinations of metadata."""

    spec: BenchmarkSpec
    questions: Numbering = field(init=False)
    names: Numbering = field(init=False)
    combinations: Numbering = field(init=False)
    new_questions: dict[Row, int] = field(default_factory=dict)
    new_names: dict[Row, int] = field(default_factory=dict)
    new_combinations: dict[Row, int] = field(default_factory=dict)
    first_ids: dict[str, str] = field(default_factory=dict)
    """Key of a new question → the id that it came under first."""

    def __post_init__(self) -> None:
        tables = BenchmarkTables(self.spec.name)
        columns = [field_column(field.name) for field in self.spec.fields]
        self.questions = Numbering(tables.questions, "question_no", ("question_key",))
        self.names = Numbering(tables.question_names, "name_no", ("question_no", "question_id"))
        self.combinations = Numbering(tables.combinations, "combination", tuple(columns))

    @property
    def all(self) -> tuple[Numbering, Numbering, Numbering]:
        """The three."""
        return self.questions, self.names, self.combinations

    def number(self, run: PreparedRun) -> QuestionSheet:
        """The sheet of a run's questions; what had no number gets one. Off the event loop: it takes a while."""
        keys = question_keys(run.questions)
        question_no = self.questions.number_all(((key,) for key in keys), self.new_questions)
        for key, question in zip(keys, run.questions, strict=True):
            if (key,) in self.new_questions:
                self.first_ids.setdefault(key, question.question_id)
        ids = (question.question_id for question in run.questions)
        name_no = self.names.number_all(zip(question_no, ids, strict=True), self.new_names)
        combination = self.combinations.number_all(combinations_of(run.questions, self.spec), self.new_combinations)
        return make_sheet(
            np.array(question_no, dtype=np.int32),
            np.array(name_no, dtype=np.int32),
            np.array(combination, dtype=np.int32),
        )

    async def insert_new(self, session: Session) -> None:
        """Insert what got a number."""
        questions = [(number, key, self.first_ids[key], hash_in(key)) for (key,), number in self.new_questions.items()]
        columns = ["question_no", "question_key", "question_id", "content_hash"]
        await session.insert(self.questions.table, columns, questions)
        for numbering, new in ((self.names, self.new_names), (self.combinations, self.new_combinations)):
            rows = [(number, *key) for key, number in new.items()]
            await session.insert(numbering.table, [numbering.number, *numbering.keys], rows)

    def settle(self) -> None:
        """Take in what was inserted: it is committed."""
        for numbering, new in zip(self.all, (self.new_questions, self.new_names, self.new_combinations), strict=True):
            numbering.learn(new)
            new.clear()
        self.first_ids.clear()


class KnownNumbers:
    """All that is remembered, of every benchmark."""

    def __init__(self) -> None:
        self.sheets: LRUCache[bytes, QuestionSheet] = LRUCache(SHEETS_BYTES, getsizeof=lambda sheet: sheet.nbytes)
        """Digest of a run's questions → their numbers."""
        self.stored: dict[str, set[int]] = {}
        """Name of a table of sets or layouts → the numbers that it has for certain."""
        self.greatest_run: int | None = None
        """No run has a greater number; None where it is not known."""
        self._new_sheets: dict[bytes, QuestionSheet] = {}
        self._new_stored: dict[str, set[int]] = {}
        self._benchmarks: dict[str, BenchmarkNumbers] = {}

    def doubt(self) -> None:
        """Somebody else may have written."""
        self.greatest_run = None
        self.sheets.clear()
        self.stored.clear()
        self._new_sheets.clear()
        self._new_stored.clear()
        for numbers in self._benchmarks.values():
            for numbering in numbers.all:
                numbering.is_current = False
            for new in (numbers.new_questions, numbers.new_names, numbers.new_combinations, numbers.first_ids):
                new.clear()

    def settle(self) -> None:
        """What was added in the transaction is committed."""
        for numbers in self._benchmarks.values():
            numbers.settle()
        for digest, sheet in self._new_sheets.items():
            if sheet.nbytes <= SHEETS_BYTES:
                self.sheets[digest] = sheet
        for table, added in self._new_stored.items():
            self.stored.setdefault(table, set()).update(added)
        self._new_sheets.clear()
        self._new_stored.clear()
        self._shrink()

    def _shrink(self) -> None:
        if sum(map(len, self.stored.values())) > STORED_MAX:
            self.stored.clear()
        # The order of the dict is that of their last use.
        while len(self._benchmarks) > 1 and self._keys() > KEYS_MAX:
            del self._benchmarks[next(iter(self._benchmarks))]

    def _keys(self) -> int:
        return sum(len(numbering.known) for numbers in self._benchmarks.values() for numbering in numbers.all)

    async def prepare(self, session: Session, dialect: Dialect, runs: Sequence[PreparedRun]) -> None:
        """Learn what numbering these runs takes, of those whose sheets are not known."""
        for run in runs:
            if run.spec is None or run.digest in self.sheets:
                continue
            numbers = self._benchmarks.pop(run.benchmark, None)
            if numbers is None or numbers.spec != run.spec:
                numbers = BenchmarkNumbers(run.spec)
            self._benchmarks[run.benchmark] = numbers
            for numbering in numbers.all:
                await numbering.refresh(session, dialect)

    def sheet(self, run: PreparedRun) -> QuestionSheet:
        """The sheet of a run that `prepare` was given. Off the event loop."""
        sheet = self.sheets.get(run.digest) or self._new_sheets.get(run.digest)
        if sheet is None:
            sheet = self._new_sheets[run.digest] = self._benchmarks[run.benchmark].number(run)
        return sheet

    async def insert_new(self, session: Session) -> None:
        """Insert what got numbers."""
        for numbers in self._benchmarks.values():
            await numbers.insert_new(session)

    def absent(self, table: str, numbers: Mapping[int, object]) -> list[int]:
        """Those of `numbers` that `table` is not known to have."""
        known, new = self.stored.get(table, set()), self._new_stored.get(table, set())
        return [number for number in numbers if number not in known and number not in new]

    def store(self, table: str, numbers: Sequence[int]) -> None:
        """Take down that `table` has these now."""
        self._new_stored.setdefault(table, set()).update(numbers)
