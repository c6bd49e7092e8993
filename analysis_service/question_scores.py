"""Scores by question: what statistics read of a run, out of its packed answers.

Only scored attempts count; a question's score is the mean of its own. Runs share a question where it has the same
number, which is that of its text where one was sent.
"""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis_service.database import Row
from analysis_service.group_by.cells import Filters, kept_cells
from analysis_service.group_by.combinations import Combinations
from analysis_service.group_by.layouts import Cells
from analysis_service.group_by.measured_reads import MeasuredReads
from analysis_service.means import round_means
from analysis_service.projection.answers import STATUSES, ScoreColumns, unpack_scores
from analysis_service.queries.questions import scores_query
from analysis_service.reader import Reader, Snapshot
from analysis_service.runs import Run, layout_of
from shared.problems import TooManyGroups
from shared.registry.specs import BenchmarkSpec
from shared.submission import Status

ANSWERS_MAX = 10_000_000
"""Answers that one request may be about; their questions are all in memory at once, in 24 bytes each."""
ANSWERS_AT_ONCE = 200_000
"""Answers that are unpacked at once, or one run's."""

_SCORED = STATUSES.index(Status.SCORED)


@dataclass(frozen=True, slots=True)
class QuestionScores:
    """A run's questions with a scored attempt that passes the filters: one entry each, by number."""

    run: Run
    question_no: NDArray[np.int32]
    """Ascending, each once."""
    mean: NDArray[np.float64]
    """Of the question's scored attempts, without the digits that only the order of adding up has made."""
    count: NDArray[np.int32]
    """Scored attempts."""
    combination: NDArray[np.int32]
    """The metadata of its first such attempt."""
    place: NDArray[np.int32]
    """Where in the run its first such attempt stands: argsort gives the order in which questions were answered."""


class Aligned(NamedTuple):
    """Several runs over the same questions."""

    question_no: NDArray[np.int32]
    """Every question that any of them has, ascending."""
    mean: NDArray[np.float64]
    """Runs × questions; NaN where a run does not have one."""
    is_single: NDArray[np.bool_]
    """Runs × questions: whether it has no more than one scored attempt."""
    combination: NDArray[np.int32]
    """Of each question, as the first run that has it says."""


async def read_question_scores(
    reader: Reader,
    reads: MeasuredReads,
    snapshot: Snapshot,
    spec: BenchmarkSpec,
    runs: Sequence[Run],
    filters: Filters = (),
) -> list[QuestionScores]:
    """The scores of `runs` of `spec`, which have questions, in their order; by one statement, off the event loop.

    TooManyGroups if they are more than may be read, StoreUnavailable if the store lacks some of them.
    """
    check_answers(runs)
    if not runs:
        return []
    combinations = await read_combinations(reader, reads, snapshot, spec, runs) if filters else None
    by_number = {run.run_no: run for run in runs}
    sizes = {number: run.n_answers for number, run in by_number.items()}
    found: dict[int, QuestionScores] = {}

    def unpack(rows: Sequence[Row]) -> None:
        for run_no, packed in rows:
            found[run_no] = score_questions(by_number[run_no], unpack_scores(packed), spec, combinations, filters)

    query = scores_query(reader.dialect, sizes)
    async with aclosing(reads.in_stretches(query, "packed scores", sizes, at_once=ANSWERS_AT_ONCE)) as stretches:
        async for rows in stretches:
            await asyncio.to_thread(partial(unpack, rows))
    return [found[run.run_no] for run in runs]


def check_answers(runs: Sequence[Run]) -> None:
    """TooManyGroups if `runs` have more answers than one request may be about; no read is needed to tell."""
    answers = sum(run.n_answers for run in runs)
    if answers > ANSWERS_MAX:
        raise TooManyGroups(
            f"the answer needs {answers:,} single answers of {len(runs):,} runs, and {ANSWERS_MAX:,} may be read; "
            "ask for fewer runs, models or benchmarks"
        )


async def read_combinations(
    reader: Reader, reads: MeasuredReads, snapshot: Snapshot, spec: BenchmarkSpec, runs: Sequence[Run]
) -> Combinations:
    """The values of the metadata fields by the numbers that `combination` of these runs' questions has."""
    layouts = await reader.layouts.fetch(reads, reader.dialect, spec.name, {layout_of(run) for run in runs})
    needed = max((int(layout.combination.max()) for layout in layouts.values()), default=0)
    return await reader.combinations.fetch(reads, reader.dialect, spec, epoch=snapshot.catalog.epoch, needed=needed)


def score_questions(
    run: Run,
    answers: ScoreColumns,
    spec: BenchmarkSpec,
    combinations: Combinations | None = None,
    filters: Filters = (),
) -> QuestionScores:
    """The scores of one run's answers; `combinations` is needed where there are `filters`."""
    is_counted = (answers.status == _SCORED) & ~np.isnan(answers.score)
    if combinations is not None and filters:
        number = answers.combination.astype(np.int64)
        is_counted &= kept_cells(Cells({}, number, number), combinations, filters, ())
    place = np.flatnonzero(is_counted)
    # Stable, so that of each question the first attempt comes first; quick, as most runs are in order already.
    place = place[np.argsort(answers.question_no[place], kind="stable")]
    question_no = answers.question_no[place]
    begin = np.flatnonzero(np.diff(question_no, prepend=np.int32(-1)))
    count = np.diff(begin, append=len(place))
    total = np.add.reduceat(answers.score[place], begin) if len(begin) else np.zeros(0)
    first = place[begin]
    return QuestionScores(
        run=run,
        question_no=question_no[begin],
        mean=round_means(total / count, spec),
        count=count.astype(np.int32),
        combination=answers.combination[first],
        place=first.astype(np.int32),
    )


def align(some: Sequence[QuestionScores]) -> Aligned:
    """The scores of several runs side by side; there is at least one."""
    first = some[0]
    if all(np.array_equal(own.question_no, first.question_no) for own in some[1:]):
        mean, count = (np.stack(rows) for rows in zip(*((own.mean, own.count) for own in some), strict=True))
        return Aligned(first.question_no, mean, count == 1, first.combination)
    question_no = np.unique(np.concatenate([own.question_no for own in some]))
    mean = np.full((len(some), len(question_no)), np.nan)
    is_single = np.ones(mean.shape, dtype=np.bool_)
    combination = np.zeros(len(question_no), dtype=np.int32)
    # The other way round, so that the first run has the last word.
    for row in range(len(some) - 1, -1, -1):
        column = np.searchsorted(question_no, some[row].question_no)
        mean[row, column] = some[row].mean
        is_single[row, column] = some[row].count == 1
        combination[column] = some[row].combination
    return Aligned(question_no, mean, is_single, combination)
