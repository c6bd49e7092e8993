"""The questions on which those compared are of different minds."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analysis_service.comparison.resolve import Entry, Part
from analysis_service.comparison.score_table import ScoreTable
from analysis_service.group_by.measured_reads import MeasuredReads
from analysis_service.projection.question_keys import hash_in
from analysis_service.queries.questions import described_query
from analysis_service.reader import Reader, Snapshot
from shared.comparisons import ContestedQuestion


def find_contested(table: ScoreTable, spans: Sequence[float], most: int) -> tuple[NDArray[np.intp], int]:
    """The columns with the largest spread of scores among those that all share, `most` at the utmost; and how many
    have any.

    `spans` are the lengths of the parts' scales, on which a spread is measured. Of equal spreads the question on which
    they are divided most evenly comes first.
    """
    columns = np.flatnonzero(table.is_shared_by_all)
    scores = table.scores[:, columns] / np.asarray(spans)[table.part[columns]]
    if not len(columns):
        return columns, 0
    spread = scores.max(axis=0) - scores.min(axis=0)
    order = np.lexsort((columns, -np.round(scores.var(axis=0), 12), -np.round(spread, 12)))
    n_contested = int((spread > 0).sum())
    return columns[order[: min(most, n_contested)]], n_contested


async def describe_contested(
    reader: Reader,
    reads: MeasuredReads,
    snapshot: Snapshot,
    table: ScoreTable,
    parts: Sequence[Part],
    entries: Sequence[Entry],
    columns: NDArray[np.intp],
) -> list[ContestedQuestion]:
    """These columns with their ids and metadata, in their order."""
    described: dict[int, ContestedQuestion] = {}
    for number, part in enumerate(parts):
        own = columns[table.part[columns] == number]
        if not len(own):
            continue
        query = described_query(reader.dialect, part.spec.name, table.question_no[own].tolist())
        known = {row[0]: row[1:] for row in await reads.fetch(query, "contested questions")}
        combination = table.combination[own]
        combinations = await reader.combinations.fetch(
            reads, reader.dialect, part.spec, epoch=snapshot.catalog.epoch, needed=int(combination.max())
        )
        for column, combination_no in zip(own.tolist(), combination.tolist(), strict=True):
            key, question_id = known[int(table.question_no[column])]
            values = {name: field.values[field.codes[combination_no]] for name, field in combinations.fields.items()}
            described[column] = ContestedQuestion(
                benchmark=part.spec.name,
                question_id=question_id,
                content_hash=hash_in(key),
                scores={entry.name: float(table.scores[row, column]) for row, entry in enumerate(entries)},
                metadata={name: value for name, value in values.items() if value is not None},
            )
    return [described[column] for column in columns.tolist()]
