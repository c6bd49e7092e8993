"""The scores of all that is compared, side by side: an entry a row, a question a column."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis_service.comparison.clusters import count_without_value, label_clusters
from analysis_service.comparison.resolve import Entry, Part
from analysis_service.group_by.measured_reads import MeasuredReads
from analysis_service.question_scores import (
    QuestionScores,
    align,
    check_answers,
    read_combinations,
    read_question_scores,
)
from analysis_service.reader import Reader, Snapshot

F = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """What is compared, over the questions of all parts."""

    scores: F
    """Entries × questions: the mean of the question's scored attempts, NaN where there is none."""
    part: NDArray[np.intp]
    """Of each question, which part it is of; ascending."""
    question_no: NDArray[np.int32]
    combination: NDArray[np.int32]
    """Of each question, the metadata that the first entry with it says."""
    clusters: NDArray[np.intp] | None
    """Of each question, its own; no cluster is of two parts. None where questions are independent."""
    without_cluster: int
    """Questions that have no value of the field, and so are a cluster each."""
    is_single: NDArray[np.bool_]
    """Entries × questions: whether it has no more than one scored attempt."""
    n_scored: NDArray[np.int64]
    """Of each entry, scored attempts."""

    @property
    def is_scored(self) -> NDArray[np.bool_]:
        """Entries × questions."""
        return ~np.isnan(self.scores)

    @property
    def is_shared_by_all(self) -> NDArray[np.bool_]:
        """Of each question, whether every entry has it."""
        return np.asarray(self.is_scored.all(axis=0))

    def rows(self, rows: Sequence[int]) -> "ScoreTable":
        """The same of these entries alone."""
        kept = list(rows)
        return replace(self, scores=self.scores[kept], is_single=self.is_single[kept], n_scored=self.n_scored[kept])

    def among(self, kept: NDArray[np.bool_]) -> "ScoreTable":
        """The same over these questions alone."""
        return replace(
            self,
            scores=self.scores[:, kept],
            is_single=self.is_single[:, kept],
            part=self.part[kept],
            question_no=self.question_no[kept],
            combination=self.combination[kept],
            clusters=None if self.clusters is None else self.clusters[kept],
        )


async def read_table(
    reader: Reader,
    reads: MeasuredReads,
    snapshot: Snapshot,
    parts: Sequence[Part],
    entries: Sequence[Entry],
    cluster_by: str | None,
) -> ScoreTable:
    """Read and lay out the scores of `entries`; TooManyGroups if they are more than may be read."""
    check_answers([run for entry in entries for run in entry.runs.values()])
    laid: list[_LaidPart] = []
    for part in parts:
        name = part.spec.name
        present = [row for row, entry in enumerate(entries) if name in entry.runs]
        if not present:
            continue
        runs = [entries[row].runs[name] for row in present]
        read = await read_question_scores(reader, reads, snapshot, part.spec, runs, part.filters)
        own = _lay_part(len(entries), present, read)
        if cluster_by is not None:
            combinations = await read_combinations(reader, reads, snapshot, part.spec, runs)
            own.clusters = label_clusters(own.combination, combinations, cluster_by)
            own.without_cluster = count_without_value(own.combination, combinations, cluster_by)
        own.number = parts.index(part)
        laid.append(own)
    return _join(laid, is_clustered=cluster_by is not None)


def lay_table(read: Sequence[QuestionScores]) -> ScoreTable:
    """The scores of some runs of one benchmark, an entry each."""
    return _join([_lay_part(len(read), range(len(read)), read)], is_clustered=False)


@dataclass(slots=True)
class _LaidPart:
    scores: F
    question_no: NDArray[np.int32]
    combination: NDArray[np.int32]
    is_single: NDArray[np.bool_]
    n_scored: NDArray[np.int64]
    number: int = 0
    clusters: NDArray[np.intp] | None = None
    without_cluster: int = 0


def _lay_part(n_entries: int, present: Sequence[int], read: Sequence[QuestionScores]) -> _LaidPart:
    aligned = align(read)
    scores = np.full((n_entries, len(aligned.question_no)), np.nan)
    is_single, n_scored = np.ones(scores.shape, dtype=np.bool_), np.zeros(n_entries, dtype=np.int64)
    scores[present] = aligned.mean
    is_single[present] = aligned.is_single
    n_scored[present] = [int(own.count.sum()) for own in read]
    return _LaidPart(scores, aligned.question_no, aligned.combination, is_single, n_scored)


def _join(laid: Sequence[_LaidPart], *, is_clustered: bool) -> ScoreTable:
    clusters: list[NDArray[np.intp]] = []
    first = 0
    for own in laid:
        if own.clusters is not None:
            clusters.append(own.clusters + first)
            first += int(own.clusters.max(initial=-1)) + 1
    return ScoreTable(
        scores=np.concatenate([own.scores for own in laid], axis=1),
        part=np.repeat([own.number for own in laid], [len(own.question_no) for own in laid]),
        question_no=np.concatenate([own.question_no for own in laid]),
        combination=np.concatenate([own.combination for own in laid]),
        clusters=np.concatenate(clusters) if is_clustered else None,
        without_cluster=sum(own.without_cluster for own in laid),
        is_single=np.concatenate([own.is_single for own in laid], axis=1),
        n_scored=np.sum([own.n_scored for own in laid], axis=0),
    )
