"""The part of a request that is about one benchmark, up to where its sums are read: what is needed, and what for."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from analysis_service.database import Row
from analysis_service.group_by.answer_rows import AnswerColumns, Divisions, answer_columns, divide_runs, needed_columns
from analysis_service.group_by.cells import LEFT_OUT, Groups, Rows, RunningSums, SetSizes, group_cells, lay_rows
from analysis_service.group_by.combinations import Combinations
from analysis_service.group_by.layouts import Cells, join_layouts
from analysis_service.group_by.measured_reads import MeasuredReads
from analysis_service.group_by.plan import Plan, QuestionReads, plan_of
from analysis_service.group_by.question_needs import count_questions, find_question_needs
from analysis_service.group_by.resolve import ResolvedAnalysis
from analysis_service.group_by.resolve_statistics import StatisticsAsked
from analysis_service.group_by.row_statistics import RowStatistics
from analysis_service.group_by.shared_questions import SharedMask, cut_cells, find_shared, shared_mask, sum_kept
from analysis_service.group_by.slots import Slots, lay_slots
from analysis_service.packed_sums import SCORE_COLUMNS, Layout, unpack_columns
from analysis_service.projection.answers import unpack_scores
from analysis_service.reader import Reader, Snapshot
from shared.analysis import ErrorPolicy

OFF_LOOP_CELLS = 20_000
"""From this many cells on, computing takes so long that other requests would notice."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class BenchmarkPart:
    """What is asked of one benchmark, with its sums as far as they were added."""

    resolved: ResolvedAnalysis
    policy: ErrorPolicy
    divisions: Divisions
    layouts: Mapping[int, Layout]
    combinations: Combinations | None
    groups: Groups
    rows: Rows
    plan: Plan
    shared: SharedMask | None
    """Where sums are made anew of answers."""
    n_shared: int | None
    """Questions that all chosen runs were asked; None where these are all that any was, or where all count."""
    n_sets: int
    """Question sets that are counted."""
    sums: RunningSums
    """With `statistics` the only thing here that changes."""
    statistics: RowStatistics | None

    def add_stored_sums(self, rows: Sequence[Row]) -> None:
        """Add the packed sums (run_no, scores) of those runs that are this part's."""
        mine = [(self._place(run_no), packed) for run_no, packed in rows if run_no in self.divisions.of_run]
        if mine:
            self._add([place for place, _ in mine], [unpack_columns([own], SCORE_COLUMNS)[0] for _, own in mine])

    def add_answers(self, rows: Sequence[Row]) -> None:
        """Add up the packed answers (run_no, packed) of those runs that are this part's."""
        summed = {run.run_no for run in self.plan.from_answers}
        by_question = {run.run_no for run in self.plan.by_question}
        for run_no, packed in rows:
            if run_no not in self.divisions.of_run:
                continue
            division, layout_no = self._place(run_no)
            answers, layout = unpack_scores(packed), self.layouts[layout_no]
            kept = None if self.shared is None else self.shared.kept(answers)
            if kept is not None and run_no in summed:
                self._add([(division, layout_no)], [sum_kept(answers, kept, layout)])
            if self.statistics is not None and self.statistics.questions is not None and run_no in by_question:
                self.statistics.questions.add(division, layout_no, layout, answers, kept)

    def columns(self) -> AnswerColumns:
        """The rows, when all has been added; without what corrects their tests for one another."""
        sums, group = self.sums.by_column(), self.rows.group
        statistics = None
        if self.statistics is not None:
            statistics = self.statistics.columns(sums, group=group, is_baseline=self._is_baseline())
        return answer_columns(
            self.resolved,
            self.combinations,
            self.divisions,
            self.groups.codes,
            self.rows,
            sums,
            self.policy,
            statistics,
        )

    def _is_baseline(self) -> NDArray[np.bool_] | None:
        asked = self.resolved.statistics
        if asked is None or asked.baseline is None:
            return None
        models = np.array([model == asked.baseline for model in self.divisions.values["model"]], dtype=np.bool_)
        return models[self.divisions.codes["model"]][self.rows.division]

    def _add(self, places: Sequence[tuple[int, int]], scores: Sequence[NDArray[np.float64]]) -> None:
        self.sums.add(places, scores)
        if self.statistics is not None and self.statistics.sums is not None:
            self.statistics.sums.add(places, scores)

    def _place(self, run_no: int) -> tuple[int, int]:
        return self.divisions.of_run[run_no], self.divisions.layout_of_run[run_no]


async def off_loop(work: Callable[[], _T], *, cells: int) -> _T:
    """What `work` returns, done in a thread if it is about many `cells`."""
    return await asyncio.to_thread(work) if cells > OFF_LOOP_CELLS else work()


async def prepare_part(
    reader: Reader,
    reads: MeasuredReads,
    snapshot: Snapshot,
    resolved: ResolvedAnalysis,
    policy: ErrorPolicy,
    *,
    rows_before: int,
) -> BenchmarkPart:
    """Find out which rows there will be, and how their sums are come by.

    TooManyGroups if they are more than an answer may have, with the `rows_before` of other benchmarks.
    """
    spec, dialect = resolved.spec, reader.dialect
    divisions = divide_runs(resolved)
    numbers = {number for numbers in divisions.layouts for number in numbers}
    layouts = await reader.layouts.fetch(reads, dialect, spec.name, numbers)
    cells = join_layouts(layouts)
    combinations = None
    if layouts and (resolved.fields or resolved.filters or resolved.has_slots):
        combinations = await reader.combinations.fetch(
            reads, dialect, spec, epoch=snapshot.catalog.epoch, needed=int(cells.combination.max())
        )

    def group() -> tuple[Groups, set[int]]:
        drop_null = () if resolved.include_null else resolved.fields
        groups = group_cells(cells, combinations, resolved.fields, resolved.filters, drop_null)
        return groups, set(np.unique(cells.set_no[groups.of_cell != LEFT_OUT]).tolist())

    groups, set_nos = await off_loop(group, cells=len(cells.combination))
    if resolved.shared_questions:
        set_nos |= {run.set_no for run in resolved.runs if run.set_no is not None}
    sets = await reader.question_sets.fetch(reads, dialect, spec.name, set_nos)

    def lay() -> BenchmarkPart:
        return _lay(
            resolved, policy, divisions, layouts, cells, combinations, groups, sets, reader.max_groups, rows_before
        )

    part = await off_loop(lay, cells=len(cells.combination))
    reads.check_time()
    return part


def _lay(
    resolved: ResolvedAnalysis,
    policy: ErrorPolicy,
    divisions: Divisions,
    layouts: Mapping[int, Layout],
    cells: Cells,
    combinations: Combinations | None,
    groups: Groups,
    sets: Mapping[int, BitMap],
    max_rows: int,
    rows_before: int,
) -> BenchmarkPart:
    shared = find_shared(resolved.runs, sets) if resolved.shared_questions else None
    cut: frozenset[int] = frozenset()
    if shared is not None:
        found = cut_cells(cells, groups, sets, shared)
        groups, cut = found.groups, found.cut
    rows = lay_rows(
        divisions.layouts, cells, groups, SetSizes(sets, shared), max_rows=max_rows, rows_before=rows_before
    )
    statistics, needs = None, None
    if resolved.statistics is not None:
        statistics, needs = _lay_statistics(
            resolved, resolved.statistics, policy, divisions, cells, combinations, groups, rows
        )
    return BenchmarkPart(
        resolved=resolved,
        policy=policy,
        divisions=divisions,
        layouts=layouts,
        combinations=combinations,
        groups=groups,
        rows=rows,
        plan=plan_of(resolved, divisions.of_run, shared, cut, needs),
        shared=shared_mask(shared) if shared is not None and cut else None,
        n_shared=None if shared is None else len(shared),
        n_sets=len(sets),
        sums=RunningSums(rows, needed_columns(policy) if statistics is None else SCORE_COLUMNS),
        statistics=statistics,
    )


def _lay_statistics(
    resolved: ResolvedAnalysis,
    asked: StatisticsAsked,
    policy: ErrorPolicy,
    divisions: Divisions,
    cells: Cells,
    combinations: Combinations | None,
    groups: Groups,
    rows: Rows,
) -> tuple[RowStatistics, QuestionReads | None]:
    def lay() -> Slots:
        return lay_slots(
            divisions.layouts,
            cells,
            groups,
            rows,
            combinations,
            macro_over=asked.macro_over,
            cluster_by=asked.cluster_by,
        )

    slots = lay() if resolved.has_slots else None
    needs = find_question_needs(asked, resolved.runs, divisions.of_run, slots)
    questions = 0
    if needs is not None:
        questions = count_questions(asked, needs.reads, resolved.runs, divisions.of_run)
        slots = slots or lay()
    statistics = RowStatistics(resolved, asked, policy, slots, needs, divisions.of_run, questions_at_once=questions)
    return statistics, None if needs is None else needs.reads
