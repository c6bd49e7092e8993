"""Questions that two runs know by the same id and do not share, since their texts are not the same or not told."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis_service.comparison.resolve import Part
from analysis_service.comparison.score_table import ScoreTable
from analysis_service.group_by.measured_reads import MeasuredReads
from analysis_service.queries.questions import all_ids_query
from analysis_service.reader import Reader

LOOKED_AT_MAX = 50_000
"""Questions of one benchmark that some have and others do not, up to which their ids are looked at."""


@dataclass(frozen=True, slots=True)
class OtherTexts:
    """The ids of one benchmark's questions that not everyone has."""

    benchmark: str
    is_scored: NDArray[np.bool_]
    """Entries × ids' questions."""
    id_code: NDArray[np.int64]
    """Which id each is."""

    def count(self, a: int, b: int) -> int:
        """The ids under which one of two entries has a question and the other has another one."""
        size = int(self.id_code.max(initial=-1)) + 1
        own, other = self.is_scored[a], self.is_scored[b]
        of_a = np.bincount(self.id_code[own & ~other], minlength=size)
        of_b = np.bincount(self.id_code[other & ~own], minlength=size)
        return int(((of_a > 0) & (of_b > 0)).sum())

    def warn(self, a: int, b: int) -> Iterator[str]:
        """What to say of two entries that have any."""
        count = self.count(a, b)
        if count:
            yield (
                f"{self.benchmark}: {count:,} questions of the same id are not shared: their texts differ, or only one "
                "of the two says what they are"
            )


async def read_other_texts(
    reader: Reader, reads: MeasuredReads, table: ScoreTable, parts: Sequence[Part]
) -> tuple[list[OtherTexts], list[str]]:
    """Of each benchmark where not all have the same questions; and warnings of those with too many to look at."""
    found, warnings = [], []
    is_scored = table.is_scored
    # A question that one entry alone has, or several do: only with one that others have can it share an id.
    is_partial = is_scored.any(axis=0) & ~is_scored.all(axis=0)
    for number, part in enumerate(parts):
        columns = np.flatnonzero(is_partial & (table.part == number))
        if not len(columns):
            continue
        if len(columns) > LOOKED_AT_MAX:
            warnings.append(
                f"{part.spec.name}: {len(columns):,} questions are not shared by all; so many are not looked at for "
                "others of the same id"
            )
            continue
        query = all_ids_query(reader.dialect, part.spec.name, table.question_no[columns].tolist())
        rows = await reads.fetch(query, "ids of unshared questions")
        if not rows:
            continue
        place = np.searchsorted(table.question_no[columns], [question_no for question_no, _ in rows])
        _, id_code = np.unique(np.array([question_id for _, question_id in rows], dtype=object), return_inverse=True)
        found.append(OtherTexts(part.spec.name, is_scored[:, columns[place]], id_code))
    return found, warnings
