"""What the attempts at each question come to, row by row, out of packed answers as they come in. Pure."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis_service.group_by.slots import Slots
from analysis_service.packed_sums import Layout
from analysis_service.projection.answers import STATUSES, ScoreColumns
from shared.analysis import ErrorPolicy
from shared.submission import Status

QUESTIONS_MAX = 2_000_000
"""Questions of rows that may be in memory at once: 40 bytes each, and three times as much while they are compared."""

_FAILED = (Status.REFUSED, Status.TRUNCATED, Status.ERROR)
_COUNTED = {
    ErrorPolicy.EXCLUDE: (),
    ErrorPolicy.WRONG: _FAILED,
    ErrorPolicy.BOUNDS: (*_FAILED, Status.UNSCORED),
}
_IS_SCORED = np.array([status is Status.SCORED for status in STATUSES])
_HALF = np.int64(32)
_LOW = np.int64(0xFFFFFFFF)
_ADD_UP = 4
"""What has come is added up when it is so many times what was added up before."""


@dataclass(frozen=True, slots=True)
class QuestionEntries:
    """What a slot has of a question, an entry each."""

    slot: NDArray[np.int64]
    question: NDArray[np.int64]
    total: NDArray[np.float64]
    """Of the scores of scored attempts."""
    n: NDArray[np.float64]
    """Scored attempts."""
    unknown: NDArray[np.float64]
    """Attempts without a score that the error policy counts."""


def joined(parts: Sequence[QuestionEntries]) -> QuestionEntries:
    """All entries of several lists, one after the other."""
    number, told = np.zeros(0, dtype=np.int64), np.zeros(0)
    return QuestionEntries(
        np.concatenate([number, *(part.slot for part in parts)]),
        np.concatenate([number, *(part.question for part in parts)]),
        np.concatenate([told, *(part.total for part in parts)]),
        np.concatenate([told, *(part.n for part in parts)]),
        np.concatenate([told, *(part.unknown for part in parts)]),
    )


class QuestionTotals:
    """The totals of divisions whose rows have several attempts at a question; each is handed on when it is whole.

    The same runs in the same order give the same bits.
    """

    def __init__(
        self,
        slots: Slots,
        divisions: Iterable[int],
        policy: ErrorPolicy,
        take: Callable[[int, QuestionEntries], None],
    ) -> None:
        """`divisions` has that of each run to come; `take` is given each with its entries, by slot and question."""
        self._slots = slots
        self._to_come = Counter(divisions)
        self._take = take
        self._is_unknown = np.array([status in _COUNTED[policy] for status in STATUSES])
        self._open: dict[int, _Sums] = {}

    def add(
        self, division: int, layout_no: int, layout: Layout, answers: ScoreColumns, kept: NDArray[np.bool_] | None
    ) -> None:
        """Add a run's answers; of those, if told, the `kept` ones."""
        block = self._slots.blocks[division]
        slot = block.slot[layout_no][np.searchsorted(layout.combination, answers.combination)]
        scored = _IS_SCORED[answers.status] & ~np.isnan(answers.score)
        unknown = self._is_unknown[answers.status]
        counts = (slot < len(block.row)) & (scored | unknown)
        if kept is not None:
            counts &= kept
        scored, unknown = scored[counts], unknown[counts]
        key = (slot[counts] << _HALF) | answers.question_no[counts].astype(np.int64)
        columns = np.stack([np.where(scored, answers.score[counts], 0.0), scored, unknown])
        sums = self._open.setdefault(division, _Sums())
        sums.add(key, columns)
        self._to_come[division] -= 1
        if not self._to_come[division]:
            del self._open[division]
            keys, (total, n, unknowns) = sums.added_up()
            first = self._slots.first(division)
            self._take(division, QuestionEntries((keys >> _HALF) + first, keys & _LOW, total, n, unknowns))


class _Sums:
    """Columns by key, added up now and then."""

    def __init__(self) -> None:
        self._keys: list[NDArray[np.int64]] = []
        self._columns: list[NDArray[np.float64]] = []

    def add(self, key: NDArray[np.int64], columns: NDArray[np.float64]) -> None:
        self._keys.append(key)
        self._columns.append(columns)
        if len(self._keys) > 1 and sum(map(len, self._keys[1:])) > _ADD_UP * len(self._keys[0]):
            self.added_up()

    def added_up(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Each key once, ascending, with the sums of its columns."""
        key, columns = np.concatenate(self._keys), np.concatenate(self._columns, axis=1)
        order = np.argsort(key, kind="stable")
        key, columns = key[order], columns[:, order]
        is_first = np.diff(key, prepend=-1) != 0
        if not is_first.all():
            begins = np.flatnonzero(is_first)
            key, columns = key[begins], np.add.reduceat(columns, begins, axis=1)
        self._keys, self._columns = [key], [columns]
        return key, columns
