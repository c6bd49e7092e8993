"""The answer to a group-by while its rows are still columns, and how it is written."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from analysis_service.group_by.answer_rows import rows_of
from shared.analysis import AnalysisAnswer

_NO_ROWS = '"rows":[]'
"""As an answer without rows has it. No text before it can hold that: quotes have backslashes there."""


@dataclass(frozen=True, slots=True)
class ColumnAnswer:
    """An answer whose rows are columns: with statistics, to make a dict of each would take longer than all else."""

    head: AnalysisAnswer
    """All but the rows."""
    columns: Mapping[str, list[Any]]
    has_statistics: bool

    @property
    def data_version(self) -> str:
        """As `AnalysisAnswer` has it."""
        return self.head.data_version

    def with_rows(self) -> AnalysisAnswer:
        """The answer with a dict a row."""
        return self.head.model_copy(update={"rows": rows_of(self.columns)})

    def model_dump_json(self) -> str:
        """The body of the answer."""
        if not self.has_statistics:
            # msgspec writes 1e20 where pydantic writes 1e+20, and these are told as they always were.
            return self.with_rows().model_dump_json()
        rows = msgspec.json.encode([*map(_row_type(tuple(self.columns)), *self.columns.values())]).decode()
        return self.head.model_dump_json().replace(_NO_ROWS, f'"rows":{rows}', 1)


@lru_cache(maxsize=500)
def _row_type(names: tuple[str, ...]) -> type[msgspec.Struct]:
    """A row with these keys, which may be words of Python."""
    fields = [f"f{number}" for number in range(len(names))]
    # Rows hold no other objects, so there is nothing in them for the garbage collector.
    return msgspec.defstruct("Row", fields, rename=dict(zip(fields, names, strict=True)), gc=False)
