"""The projection's tables, by name. `analysis_service.schema` creates them."""

from dataclasses import dataclass
from functools import cached_property

from pypika import Table

from shared.names import table_suffix

FEED_STATE = Table("feed_state")
APPLIED = Table("applied")
RUNS = Table("runs")
ANSWERS = Table("answers")
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
    def sums(self) -> Table:
        """One row a run and combination: counts, sums, and the set of its questions."""
        return Table(f"sums_{table_suffix(self.benchmark)}")


def field_column(field: str) -> str:
    """The column of a metadata field; the prefix keeps it apart from SQL's words and our own columns."""
    return f"f_{field}"


SUM_COLUMNS = (
    "n_scored", "n_refused", "n_truncated", "n_error", "n_unscored",
    "score_sum", "score_square_sum", "question_weight", "question_mean_sum",
    "latency_n", "latency_ms_sum", "input_tokens_n", "input_tokens_sum", "output_tokens_n", "output_tokens_sum",
    "cost_n", "cost_usd_sum",
)  # fmt: skip
"""What is summed of each (run, combination); a cell of any group-by is the column-wise sum of its rows."""

REAL_SUM_COLUMNS = frozenset(
    {
        "score_sum",
        "score_square_sum",
        "question_weight",
        "question_mean_sum",
        "latency_ms_sum",
        "input_tokens_sum",
        "output_tokens_sum",
        "cost_usd_sum",
    }
)
