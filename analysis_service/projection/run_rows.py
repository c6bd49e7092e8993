"""The rows of runs: their answers packed, their sums, and the sets and layouts that these refer to."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import TypeVar

from pypika import Table

from analysis_service.database import in_batches
from analysis_service.packed_sums import pack_columns, pack_layout
from analysis_service.projection.answers import answer_columns, pack, pack_scores
from analysis_service.projection.numbers import KnownNumbers
from analysis_service.projection.prepare import PreparedRun
from analysis_service.projection.sums import QuestionSheet, RunSums, set_members, sum_answers
from analysis_service.projection.writing import Writing
from analysis_service.queries.tables import ANSWERS, RUNS, SUMS, BenchmarkTables

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Summed:
    """What a run's answers come to."""

    sheet: QuestionSheet
    packed_scores: bytes
    packed: bytes
    sums: RunSums


async def insert_runs(writing: Writing, known: KnownNumbers, runs: Sequence[tuple[PreparedRun, int, int]]) -> None:
    """Insert runs, each as of an entry's seq and under a number that is free."""
    asked = [run for run, _, _ in runs if run.questions]
    await known.prepare(writing.session, writing.dialect, asked)
    summed = dict(zip(map(id, asked), await asyncio.to_thread(_sum_up, asked, known), strict=True)) if asked else {}
    await known.insert_new(writing.session)
    by_benchmark: dict[str, list[QuestionSheet]] = {}
    for run in asked:
        by_benchmark.setdefault(run.benchmark, []).append(summed[id(run)].sheet)
    for benchmark, sheets in by_benchmark.items():
        await _insert_sheets(writing, known, BenchmarkTables(benchmark), sheets)
    measured = [(run_no, summed[id(run)]) for run, _, run_no in runs if run.questions]
    session = writing.session
    answers = [(run_no, its.packed_scores, its.packed) for run_no, its in measured]
    await session.insert(ANSWERS, ["run_no", "scores", "packed"], answers)
    sums = [(run_no, pack_columns(its.sums.scores), pack_columns(its.sums.costs)) for run_no, its in measured]
    await session.insert(SUMS, ["run_no", "scores", "costs"], sums)
    await session.insert(
        RUNS,
        [
            *("run_no", "result_name", "benchmark", "run_id", "model_id", "source", "timestamp", "time_key", "seq"),
            *("set_no", "layout_no", "n_cells", "n_questions", "n_answers", "n_scored", "score_sum"),
            *("stated_score", "harness", "harness_version", "task_version", "grader", "config_hash", "live"),
        ],
        [
            (
                *(run_no, run.result_name, run.benchmark, run.run_id, run.model_id, run.source),
                *(run.timestamp, run.time_key, seq, *_asked_and_scored(run, summed.get(id(run)))),
                *(run.stated_score, *astuple(run.provenance), int(run.live is not None)),
            )
            for run, seq, run_no in runs
        ],
    )
    writing.changed([run_no for _, _, run_no in runs], {run.benchmark for run, _, _ in runs})


def _asked_and_scored(run: PreparedRun, summed: _Summed | None) -> tuple[int | float | None, ...]:
    if summed is None:
        return (None, None, 0, 0, 0, 0, 0.0)
    sheet, sums = summed.sheet, summed.sums
    cells = len(sheet.layout.combination)
    counts = (sheet.set_no, sheet.layout_no, cells, sheet.n_questions, len(run.questions))
    return (*counts, sums.n_scored, sums.score_sum)


def _sum_up(runs: Sequence[PreparedRun], known: KnownNumbers) -> list[_Summed]:
    """All the computing for some runs, in one go, off the event loop."""
    found = []
    for run in runs:
        sheet = known.sheet(run)
        columns = answer_columns(run.questions, sheet.question_no, sheet.name_no, sheet.combination)
        found.append(_Summed(sheet, pack_scores(columns), pack(columns), sum_answers(columns, sheet)))
    return found


async def _insert_sheets(
    writing: Writing, known: KnownNumbers, tables: BenchmarkTables, sheets: Sequence[QuestionSheet]
) -> None:
    """Insert the layouts and question sets that are not there yet."""
    layouts = {sheet.layout_no: sheet.layout for sheet in sheets}
    is_layout_new = set(known.absent(tables.layouts.get_table_name(), layouts))
    is_set_new = set(known.absent(tables.question_sets.get_table_name(), {sheet.set_no: sheet for sheet in sheets}))
    new = [sheet for sheet in sheets if sheet.layout_no in is_layout_new or sheet.set_no in is_set_new]
    sets = {number: questions for sheet in new for number, questions in sheet.question_sets.items()}
    await _insert_absent(writing, known, tables.question_sets, ("set_no", "members"), sets, set_members)
    await _insert_absent(writing, known, tables.layouts, ("layout_no", "cells"), layouts, pack_layout)


async def _insert_absent(
    writing: Writing,
    known: KnownNumbers,
    table: Table,
    columns: tuple[str, str],
    content: Mapping[int, _T],
    pack_one: Callable[[_T], bytes],
) -> None:
    """Insert what is stored by the number of its content, and is not there yet, or not as it should be."""
    absent = known.absent(table.get_table_name(), content)
    number = table.field(columns[0])
    query = writing.dialect.query.from_(table).select(*(table.field(column) for column in columns))
    packed = {number: pack_one(content[number]) for number in absent}
    for some in in_batches(absent):
        rows = await writing.session.fetch(query.where(number.isin(some)), f"known content by {columns[0]}")
        for found, its_content in rows:
            if its_content == packed[found]:
                del packed[found]
    await writing.session.insert(table, columns, list(packed.items()), replace=True)
    known.store(table.get_table_name(), absent)
