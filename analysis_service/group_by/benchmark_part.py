"""The part of a request that is about one benchmark, up to where its sums are read: what is needed, and what for."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from pyroaring import BitMap

from analysis_service.database import Row
from analysis_service.group_by.answer_rows import AnswerColumns, Divisions, answer_columns, divide_runs, needed_columns
from analysis_service.group_by.cells import LEFT_OUT, Groups, Rows, RunningSums, SetSizes, group_cells, lay_rows
from analysis_service.group_by.combinations import Combinations
from analysis_service.group_by.layouts import Cells, join_layouts
from analysis_service.group_by.measured_reads import MeasuredReads
from analysis_service.group_by.plan import Plan, plan_of
from analysis_service.group_by.resolve import ResolvedAnalysis
from analysis_service.group_by.shared_questions import SharedMask, cut_cells, find_shared, shared_mask
from analysis_service.packed_sums import SCORE_COLUMNS, Layout, unpack_columns
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
    """Where answers are read."""
    n_shared: int | None
    """Questions that all chosen runs were asked; None where these are all that any was, or where all count."""
    n_sets: int
    """Question sets that are counted."""
    sums: RunningSums
    """The only thing here that changes."""

    def add_stored_sums(self, rows: Sequence[Row]) -> None:
        """Add the packed sums (run_no, scores) of those runs that are this part's."""
        mine = [(self._place(run_no), packed) for run_no, packed in rows if run_no in self.divisions.of_run]
        if mine:
            self.sums.add([place for place, _ in mine], [unpack_columns([own], SCORE_COLUMNS)[0] for _, own in mine])

    def add_answers(self, rows: Sequence[Row]) -> None:
        """Add up the packed answers (run_no, packed) of those runs that are this part's."""
        for run_no, packed in rows:
            if run_no in self.divisions.of_run and self.shared is not None:
                division, layout = self._place(run_no)
                self.sums.add([(division, layout)], [self.shared.sum_answers(packed, self.layouts[layout])])

    def columns(self) -> AnswerColumns:
        """The rows, when all has been added."""
        return answer_columns(
            self.resolved,
            self.combinations,
            self.divisions,
            self.groups.codes,
            self.rows,
            self.sums.by_column(),
            self.policy,
        )

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
    if layouts and (resolved.fields or resolved.filters):
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
    return BenchmarkPart(
        resolved=resolved,
        policy=policy,
        divisions=divisions,
        layouts=layouts,
        combinations=combinations,
        groups=groups,
        rows=rows,
        plan=plan_of(resolved, divisions.of_run, shared, cut),
        shared=shared_mask(shared) if shared is not None and cut else None,
        n_shared=None if shared is None else len(shared),
        n_sets=len(sets),
        sums=RunningSums(rows, needed_columns(policy)),
    )
