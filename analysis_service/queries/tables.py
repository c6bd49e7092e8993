"""The projection's tables, by name. `analysis_service.schema` creates them."""

from dataclasses import dataclass
from functools import cached_property

from pypika import Table

from shared.names import table_suffix

FEED_STATE = Table("feed_state")
APPLIED = Table("applied")
RUNS = Table("runs")
SUMS = Table("sums")
ANSWERS = Table("answers")
RUN_VERSIONS = Table("run_versions")
BENCHMARK_VERSIONS = Table("benchmark_versions")
BENCHMARK_FIELDS = Table("benchmark_fields")


@dataclass(frozen=True)
class BenchmarkTables:
    """The tables of one registered benchmark."""

    benchmark: str

    @cached_property
    def questions(self) -> Table:
        """question_no ↔ question_key; the id that it first came under, and the hash of its text, if one was sent."""
        return Table(f"questions_{table_suffix(self.benchmark)}")

    @cached_property
    def question_names(self) -> Table:
        """name_no ↔ (question_no, question_id): each id that a question came under."""
        return Table(f"question_names_{table_suffix(self.benchmark)}")

    @cached_property
    def combinations(self) -> Table:
        """The combinations of metadata values that occur, a column a field (`f_` + its name)."""
        return Table(f"combinations_{table_suffix(self.benchmark)}")

    @cached_property
    def question_sets(self) -> Table:
        """Sets of question numbers, each stored once, as roaring bitmaps."""
        return Table(f"question_sets_{table_suffix(self.benchmark)}")

    @cached_property
    def layouts(self) -> Table:
        """What the columns of packed sums are about, cell by cell; each stored once, whatever runs have it."""
        return Table(f"layouts_{table_suffix(self.benchmark)}")


def field_column(field: str) -> str:
    """The column of a metadata field; the prefix keeps it apart from SQL's words and our own columns."""
    return f"f_{field}"
