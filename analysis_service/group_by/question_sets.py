"""Question sets by number, kept in memory."""

from pyroaring import BitMap

from analysis_service.group_by.contents import Contents
from analysis_service.queries.sums import question_sets_query

KEPT_BYTES = 64 * 1024 * 1024
_OVERHEAD_BYTES = 200


class QuestionSets(Contents[BitMap]):
    """The numbers of the questions in each set."""

    def __init__(self, max_bytes: int = KEPT_BYTES) -> None:
        super().__init__("question sets", question_sets_query, BitMap.deserialize, _size, max_bytes)


def _size(members: BitMap) -> int:
    return _OVERHEAD_BYTES + 2 * len(members)
