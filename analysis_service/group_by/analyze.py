"""Answers a group-by: the request resolved and planned, its sums read in one statement and added up, its rows made."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from analysis_service.database import Row
from analysis_service.database.read_log import plan_kind
from analysis_service.group_by.answer_rows import AnswerColumns, row_columns
from analysis_service.group_by.benchmark_part import BenchmarkPart, off_loop, prepare_part
from analysis_service.group_by.column_answer import ColumnAnswer
from analysis_service.group_by.measured_reads import MeasuredReads
from analysis_service.group_by.plan import PlanKind, check_cost, check_layouts
from analysis_service.group_by.resolve import agree_on_macro_field, find_benchmarks, resolve_analysis
from analysis_service.group_by.resolve_statistics import check_baseline
from analysis_service.group_by.statistics_columns import add_correction, statistics_warnings
from analysis_service.large_answers import NeedsPlace, make_answer
from analysis_service.queries.questions import scores_query
from analysis_service.queries.sums import sums_query
from analysis_service.reader import Reader
from shared.analysis import AnalysisAnswer, AnalysisPlan, AnalysisRequest, PlanStatement, RunInfo, Value

CELLS_AT_ONCE = 250_000
"""Cells of sums that are in memory at once, or one run's: 72 bytes each."""
ANSWERS_AT_ONCE = 200_000
"""Answers that are in memory at once, or one run's."""
LARGE_ROWS = 5_000
"""An answer of more rows takes tens of megabytes while it is made, so it needs a place."""
LARGE_QUESTIONS = 300_000
"""The same of an answer whose statistics have so many questions in memory."""
_STATISTICS_ROWS = 2
"""A row with statistics takes as long to make as so many without."""
_CELLS_OF_ROW = 10
"""Making a row takes about as long as adding up so many cells."""


async def analyze(reader: Reader, request: AnalysisRequest) -> AnalysisAnswer:
    """`analyze_columns`, with its rows as dicts."""
    return (await analyze_columns(reader, request)).with_rows()


async def analyze_columns(reader: Reader, request: AnalysisRequest) -> ColumnAnswer:
    """Answer `request`.

    InvalidRequest says what is wrong with it, TooManyGroups that it is about too much, TimeLimit that it took too long,
    PoolExhausted that too many large answers are being made.
    """
    return await make_answer(reader, partial(_analyze, reader, request))


async def _analyze(reader: Reader, request: AnalysisRequest, *, has_place: bool) -> ColumnAnswer:
    began = time.perf_counter()
    specs = find_benchmarks(reader.registry, request)
    async with reader.snapshot() as snapshot:
        reads = MeasuredReads(snapshot.session, time_limit_s=reader.plan_timeout_s)
        stored = [snapshot.runs_of(spec.name) for spec in specs]
        asked = [resolve_analysis(request, spec, reader.registry, stored) for spec in specs]
        asked = agree_on_macro_field(asked)
        check_baseline(request, reader.registry, (run for resolved in asked for run in resolved.runs))
        check_layouts(run for resolved in asked for run in resolved.runs)
        parts: list[BenchmarkPart] = []
        rows = questions = 0
        weight = _STATISTICS_ROWS if request.statistics else 1
        for resolved in asked:
            part = await prepare_part(reader, reads, snapshot, resolved, request.error_policy, rows_before=rows)
            parts.append(part)
            rows += len(part.rows)
            if part.statistics is not None:
                questions += part.statistics.questions_at_once
            if not has_place and (rows * weight > LARGE_ROWS or questions > LARGE_QUESTIONS):
                raise NeedsPlace
        plans = [part.plan for part in parts]
        check_cost(plans, max_cells=reader.max_cells)
        kind = PlanKind.ANSWERS if any(plan.kind is PlanKind.ANSWERS for plan in plans) else PlanKind.SUMS
        plan_kind.set(kind)
        await _add_stored_sums(reader, reads, parts)
        await _add_answers(reader, reads, parts)
        data_version = snapshot.data_version([spec.name for spec in specs])
    size = _CELLS_OF_ROW * rows * weight + sum(plan.answers for plan in plans)
    answer = await off_loop(partial(_answer, request, parts, data_version), cells=size)
    if not request.explain:
        return answer
    plan = _explain(parts, kind, reads, time.perf_counter() - began)
    return replace(answer, head=answer.head.model_copy(update={"plan": plan}))


async def _add_stored_sums(reader: Reader, reads: MeasuredReads, parts: Sequence[BenchmarkPart]) -> None:
    """Read and add the stored sums of all parts, in one statement."""
    sizes = {run.run_no: run.n_cells for part in parts for run in part.plan.from_sums}
    if not sizes:
        return

    def add(rows: Sequence[Row]) -> None:
        for part in parts:
            part.add_stored_sums(rows)

    query = sums_query(reader.dialect, sizes)
    async with aclosing(reads.in_stretches(query, "packed sums", sizes, at_once=CELLS_AT_ONCE)) as stretches:
        async for rows in stretches:
            await off_loop(partial(add, rows), cells=sum(sizes[run_no] for run_no, _ in rows))


async def _add_answers(reader: Reader, reads: MeasuredReads, parts: Sequence[BenchmarkPart]) -> None:
    """Read and add up the packed answers of all parts, in one statement."""
    sizes = {run.run_no: run.n_answers for part in parts for run in part.plan.read.values()}
    if not sizes:
        return

    def add(rows: Sequence[Row]) -> None:
        for part in parts:
            part.add_answers(rows)

    query = scores_query(reader.dialect, sizes)
    async with aclosing(reads.in_stretches(query, "packed answers", sizes, at_once=ANSWERS_AT_ONCE)) as stretches:
        async for rows in stretches:
            await asyncio.to_thread(add, rows)


def _answer(request: AnalysisRequest, parts: Sequence[BenchmarkPart], data_version: str) -> ColumnAnswer:
    several = request.benchmarks is not None
    asked = [part.resolved for part in parts]
    columns = {part.resolved.spec.name if several else None: part.columns() for part in parts}
    told, n_tests = asked[0].statistics, None
    if request.baseline_model is not None:
        n_tests = add_correction([own.measures for own in columns.values()], request.correction, request.confidence)
    total = sum(len(part.rows) for part in parts)
    runs = [run.info for resolved in asked for run in resolved.runs]
    # Not validated again: it is made of what was validated, and rows are many.
    head = AnalysisAnswer.model_construct(
        benchmark=request.benchmark,
        group_by=[*(["benchmark"] if several else []), *asked[0].group_by],
        rows=[],
        total_rows=total,
        truncated=total > request.limit,
        runs=runs,
        warnings=[
            *_warnings(request, parts, runs, list(columns.values())),
            *statistics_warnings(request, asked, [own.measures for own in columns.values()]),
        ],
        data_version=data_version,
        macro_over=None if told is None else told.macro_over,
        baseline_model=None if told is None else told.baseline,
        correction=None if n_tests is None else request.correction,
        n_tests=n_tests,
        plan=None,
    )
    return ColumnAnswer(head, row_columns(columns, asked[0], limit=request.limit), request.statistics)


def _warnings(
    request: AnalysisRequest, parts: Sequence[BenchmarkPart], runs: Sequence[RunInfo], columns: Sequence[AnswerColumns]
) -> Iterator[str]:
    unregistered = sorted({run.model for run in runs if not run.registered})
    if unregistered:
        yield f"not in the model registry: {_some(unregistered)}"
    live = sorted({run.result_name for run in runs if run.live})
    if live:
        yield f"still going on: {_some(live)}"
    partial = sorted({run.result_name for run in runs if run.partial and not run.live})
    if partial:
        yield f"under 95 % of the benchmark's questions: {_some(partial)}"
    apart = [part.resolved.spec.name for part in parts if part.n_shared == 0]
    if apart:
        yield f"no question was asked by every chosen run of {_some(apart)}; choose fewer runs or models"
    wanted: tuple[tuple[str, str | None, Sequence[Value] | None], ...] = (
        ("level1_values", request.level1, request.level1_values),
        ("level2_values", request.level2, request.level2_values),
        ("level3_values", request.level3, request.level3_values),
    )
    for place, level, values in wanted:
        if level is not None and level in parts[0].resolved.spec.by_name and values:
            found = {value for own in columns for value in own.groups[level]}
            stored = parts[0].resolved.spec.by_name[level].type.stored
            missing = [str(value) for value in values if stored(value) not in found]
            if missing:
                yield f"{place}: no answers with {level} {_some(missing)}"


def _some(names: Sequence[str], most: int = 5) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _explain(parts: Sequence[BenchmarkPart], kind: PlanKind, reads: MeasuredReads, seconds: float) -> AnalysisPlan:
    plans = [part.plan for part in parts]
    reasons = {part.resolved.spec.name: part.plan.reason for part in parts}
    same = len(set(reasons.values())) == 1
    return AnalysisPlan(
        kind=kind.value,
        reason=plans[0].reason if same else "; ".join(f"{name}: {reason}" for name, reason in reasons.items()),
        runs=sum(len(plan.from_sums) + len(plan.from_answers) for plan in plans),
        cells=sum(plan.cells for plan in plans),
        answers=sum(plan.answers for plan in plans),
        layouts=sum(len(part.layouts) for part in parts),
        layouts_read=reads.rows_of("layouts"),
        question_sets=sum(part.n_sets for part in parts),
        question_sets_read=reads.rows_of("question sets"),
        combinations_read=reads.rows_of("combinations"),
        statements=[PlanStatement(name=name, rows=rows, ms=ms) for name, rows, ms in reads.statements],
        ms=round(seconds * 1000, 3),
    )
