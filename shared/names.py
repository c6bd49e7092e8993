"""What names may look like: the limits of identifiers, and the words that no metadata field may take."""

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator

from shared.timestamps import canonical_timestamp

RUN_ID_MAX_BYTES = 200
TEXT_ID_MAX_BYTES = 300

FIELD_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)
BENCHMARK_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,47}", re.ASCII)
"""What a registered benchmark may be called: its name becomes part of table names."""

FACTS = ("vendor", "family")
"""Model facts that a level or a filter may name."""

LEVELS_BESIDE_FIELDS = ("model", "run", *FACTS)

ROW_KEYS = frozenset(
    {
        *LEVELS_BESIDE_FIELDS,
        *("benchmark", "question", "question_id", "attempt", "status", "score", "state", "coverage", "registered"),
        *("n", "n_questions", "n_asked", "n_answered", "n_scored", "n_refused", "n_truncated", "n_error"),
        *("n_unscored", "n_null", "n_clusters", "n_shared", "stated_score"),
        *("mean", "mean_low", "mean_high", "mean_by_question", "se", "ci_low", "ci_high", "method", "confidence"),
        *("macro_mean", "macro_se", "macro_ci_low", "macro_ci_high", "reason"),
        *("delta", "delta_se", "delta_ci_low", "delta_ci_high", "delta_method"),
        *("p", "p_adjusted", "significant", "baseline"),
        *("rank", "rank_low", "rank_high", "warnings", "value", "values", "total", "share"),
        *("latency_ms", "input_tokens", "output_tokens", "cost_usd", "timestamp", "period"),
    }
)
"""Keys that an answer's row may carry; a metadata field of the same name would be hidden by one, so it is refused."""


def check_text(text: str, *, max_bytes: int) -> str:
    """Return `text` if it is an identifier of 1 to `max_bytes` bytes of UTF-8 without control characters."""
    size = len(text.encode("utf-8", "surrogatepass"))
    if size == 0:
        raise ValueError("must not be empty")
    if size > max_bytes:
        raise ValueError(f"must be at most {max_bytes} bytes, is {size}")
    return check_characters(text)


def check_characters(text: str, *, controls: str = "") -> str:
    """Return `text` if it has no control characters but `controls`, and no halves of surrogate pairs."""
    if text.isprintable():
        return text  # as nearly all are; looking at each character takes long over the ids of a large result
    for position, character in enumerate(text):
        if unicodedata.category(character) in ("Cc", "Cs") and character not in controls:
            raise ValueError(f"must not hold control characters (U+{ord(character):04X} at {position})")
    return text


def check_run_id(text: str) -> str:
    """Return `text` if it can be a path segment and part of a result name."""
    check_text(text, max_bytes=RUN_ID_MAX_BYTES)
    if "/" in text:
        raise ValueError("must not hold '/'")
    if text != text.strip():
        raise ValueError("must not begin or end with a space")
    return text


def check_text_id(text: str) -> str:
    """Return `text` if it can be a model, source or question id."""
    return check_text(text, max_bytes=TEXT_ID_MAX_BYTES)


RunId = Annotated[str, AfterValidator(check_run_id)]
BenchmarkName = Annotated[str, AfterValidator(check_run_id)]
TextId = Annotated[str, AfterValidator(check_text_id)]
Timestamp = Annotated[str, AfterValidator(canonical_timestamp)]


def result_name(timestamp: str, benchmark_name: str, run_id: str) -> str:
    """The name of a result. It is an identity, never split again."""
    return f"{timestamp}-{benchmark_name}-{run_id}"


def table_suffix(benchmark: str) -> str:
    """The part that a registered benchmark gives its tables; benchmarks whose suffixes are equal exclude each other."""
    return re.sub(r"[^a-z0-9]", "_", benchmark)
