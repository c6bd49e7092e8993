"""DuckDB in this process over the same answers: a table in memory with a row an answer, two threads.

Names are text, as they are where a file or a data frame was read, or enums, which somebody made them for speed. A run's
answers follow one another, and the runs to take are given by name, so that most of the table is passed over.
"""

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Literal

import duckdb
import numpy as np
import pyarrow as pa

from tests.bench.mmlu import STATUSES, MadeUpMmlu, MadeUpRun, Numbers

RUNS_AT_ONCE = 64
Cell = tuple[str, str, str, int, float, int]
"""Model, category, subject; scored answers, their mean; distinct questions asked."""


class DuckdbPeer:
    """The table, and the group-by that the service is measured by."""

    def __init__(self, mmlu: MadeUpMmlu, names: Literal["text", "enums"], threads: int = 2) -> None:
        self._mmlu = mmlu
        self._connection = duckdb.connect(":memory:", config={"threads": threads})
        values = {
            "model": mmlu.models,
            "category": mmlu.categories,
            "subject": mmlu.subjects,
            "question": mmlu.ids,
            "status": STATUSES,
        }
        types = dict.fromkeys(values, "VARCHAR")
        if names == "enums":
            listed = {name: ", ".join(f"'{value}'" for value in dict.fromkeys(values[name])) for name in values}
            types = {name: f"ENUM ({of_name})" for name, of_name in listed.items()}
        columns = ", ".join(f"{name} {of_name}" for name, of_name in types.items())
        self._connection.execute(f"CREATE TABLE answers (run VARCHAR, {columns}, score DOUBLE)")
        self.answers = 0

    def __enter__(self) -> "DuckdbPeer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def add(self, runs: Iterable[MadeUpRun]) -> None:
        """Append runs' answers, in their order."""
        waiting: list[MadeUpRun] = []
        for run in runs:
            waiting.append(run)
            if len(waiting) == RUNS_AT_ONCE:
                self._append(waiting)
                waiting = []
        if waiting:
            self._append(waiting)

    def _append(self, runs: Sequence[MadeUpRun]) -> None:
        asked = np.concatenate([run.asked for run in runs])
        of_run = np.repeat(np.arange(len(runs)), [len(run.asked) for run in runs])
        scores = np.concatenate([run.scores for run in runs])
        columns = {
            "run": _named(of_run, [run.result_name for run in runs]),
            "model": _named(of_run, [run.model for run in runs]),
            "category": _named(asked, self._mmlu.categories),
            "subject": _named(asked, self._mmlu.subjects),
            "question": _named(asked, self._mmlu.ids),
            "status": _named(np.concatenate([run.statuses for run in runs]), STATUSES),
            "score": pa.array(scores, mask=np.isnan(scores)),
        }
        self._connection.register("more", pa.table(columns))
        self._connection.execute("INSERT INTO answers SELECT * FROM more")
        self._connection.unregister("more")
        self.answers += len(asked)

    def group(self, runs: Sequence[str] | None = None) -> None:
        """Model × category × subject: scored answers and their mean; of these runs, or of all."""
        self._ask("count(score), avg(score)", runs)

    def group_with_questions(self, runs: Sequence[str] | None = None) -> list[Cell]:
        """The same with the distinct questions, which the service's answers have too."""
        return self._ask("count(score), avg(score), count(DISTINCT question)", runs)

    def _ask(self, measures: str, runs: Sequence[str] | None) -> list[Cell]:
        chosen = "" if runs is None else "WHERE run IN (" + ", ".join("?" for _ in runs) + ")"
        query = f"SELECT model, category, subject, {measures} FROM answers {chosen} GROUP BY ALL ORDER BY ALL"
        return self._connection.execute(query, list(runs or ())).fetchall()


def _named(numbers: Numbers, names: Sequence[str]) -> pa.DictionaryArray:
    """A column of names, by their numbers."""
    unique = list(dict.fromkeys(names))
    index = {name: number for number, name in enumerate(unique)}
    codes = np.array([index[name] for name in names], dtype=np.int32)
    return pa.DictionaryArray.from_arrays(codes[numbers], unique)
