"""Answers `POST /timeseries`: the runs resolved and read, and off the event loop their lines drawn and searched."""

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from analysis_service.group_by.cells import LEFT_OUT, Groups, group_cells
from analysis_service.group_by.combinations import Combinations
from analysis_service.group_by.layouts import join_layouts
from analysis_service.group_by.measured_reads import MeasuredReads
from analysis_service.group_by.plan import check_layouts
from analysis_service.large_answers import check_place, make_answer
from analysis_service.long_work import compute_long
from analysis_service.question_scores import QuestionScores, check_answers, read_question_scores
from analysis_service.reader import Reader, Snapshot
from analysis_service.runs import layout_of
from analysis_service.stats.steps import QUESTIONS_MIN
from analysis_service.time_series.lines import Line, LineValues, draw_lines, find_values
from analysis_service.time_series.points import Point, measure_points
from analysis_service.time_series.resolve import ResolvedSeries, find_benchmark, resolve_time_series, some
from analysis_service.time_series.search import METHOD, FoundStep, Searched, is_searchable, search_lines
from shared.problems import TooManyGroups
from shared.statistics import Correction
from shared.time_series import Series, SeriesBreak, SeriesPoint, SeriesStep, TimeSeriesAnswer, TimeSeriesRequest

ANSWERS_LONG = 300_000
"""From so many on the search for steps takes about a second, and is made in the threads for long work."""
LINES_MAX = 1_000
POINTS_MAX = 50_000
"""Of all lines together."""


async def trace_scores(reader: Reader, request: TimeSeriesRequest) -> TimeSeriesAnswer:
    """Answer `request`.

    InvalidRequest says what is wrong with it, TooManyGroups that it is about too much, TimeLimit that it took too long,
    PoolExhausted that too many large answers are being made.
    """
    return await make_answer(reader, partial(_trace_scores, reader, request))


async def _trace_scores(reader: Reader, request: TimeSeriesRequest, *, has_place: bool) -> TimeSeriesAnswer:
    spec = find_benchmark(reader.registry, request)
    async with reader.snapshot() as snapshot:
        reads = MeasuredReads(snapshot.session, time_limit_s=reader.plan_timeout_s)
        resolved = resolve_time_series(request, spec, reader.registry, snapshot.catalog.by_benchmark)
        check_answers(resolved.runs)
        check_place(resolved.runs, has_place=has_place)
        values = await _read_values(reader, reads, snapshot, resolved)
        scores = await read_question_scores(reader, reads, snapshot, spec, resolved.runs, resolved.filters)
        data_version = snapshot.data_version([spec.name])
    work = partial(_answer, request, resolved, values, scores, reads, data_version)
    is_long = sum(run.n_answers for run in resolved.runs) > ANSWERS_LONG
    return await (compute_long(reader, work) if is_long else asyncio.to_thread(work))


async def _read_values(
    reader: Reader, reads: MeasuredReads, snapshot: Snapshot, resolved: ResolvedSeries
) -> LineValues:
    spec, dialect = resolved.spec, reader.dialect
    fields = () if resolved.level is None else (resolved.level,)
    check_layouts(resolved.runs)
    layouts = await reader.layouts.fetch(reads, dialect, spec.name, {layout_of(run) for run in resolved.runs})
    cells = join_layouts(layouts)
    combinations: Combinations | None = None
    if fields or resolved.filters:
        combinations = await reader.combinations.fetch(
            reads, dialect, spec, epoch=snapshot.catalog.epoch, needed=int(cells.combination.max(initial=0))
        )
    groups = await asyncio.to_thread(group_cells, cells, combinations, fields, resolved.filters, fields)
    _check_lines(resolved, groups)
    set_nos = np.unique(cells.set_no[groups.of_cell != LEFT_OUT]).tolist()
    sets = await reader.question_sets.fetch(reads, dialect, spec.name, set_nos)
    return await asyncio.to_thread(find_values, cells, groups, combinations, resolved.level, sets)


def _check_lines(resolved: ResolvedSeries, groups: Groups) -> None:
    """TooManyGroups if there are more lines or points than an answer may have."""
    if resolved.level is None:
        return
    n_lines, n_runs = len(groups.codes[resolved.level]), len(resolved.runs)
    if n_lines > LINES_MAX:
        raise TooManyGroups(
            f"{resolved.level!r} has {n_lines:,} values among these questions, and an answer has at most "
            f"{LINES_MAX:,} lines; keep some by level1_values"
        )
    if n_lines * n_runs > POINTS_MAX:
        raise TooManyGroups(
            f"{n_lines:,} lines through {n_runs:,} runs may be {n_lines * n_runs:,} points, and an answer has at most "
            f"{POINTS_MAX:,}; ask for fewer values, or for fewer runs by limit"
        )


def _answer(
    request: TimeSeriesRequest,
    resolved: ResolvedSeries,
    values: LineValues,
    scores: Sequence[QuestionScores],
    reads: MeasuredReads,
    data_version: str,
) -> TimeSeriesAnswer:
    lines = draw_lines(values, resolved.runs)
    points = measure_points(scores, values, resolved.spec, request.confidence)
    searched = search_lines(
        lines,
        scores,
        confidence=request.confidence,
        correction=request.correction,
        seed=request.seed,
        check_time=reads.check_time,
    )
    series = [
        Series(
            value=line.value,
            points=_points(resolved, line, points, number),
            breaks=[
                SeriesBreak(
                    before=_name(resolved, line, place), after=_name(resolved, line, place - 1), reasons=reasons
                )
                for place, reasons in line.breaks
            ],
            steps=[_step(resolved, line, found, request.confidence) for found in searched.steps[number]],
        )
        for number, line in enumerate(lines)
    ]
    reads.check_time()
    return TimeSeriesAnswer(
        benchmark=resolved.spec.name,
        level1=resolved.level,
        by=request.by,
        series=series,
        runs=[run.info for run in resolved.runs],
        n_tests=searched.n_tests,
        correction=request.correction,
        confidence=request.confidence,
        truncated=resolved.truncated,
        warnings=[*resolved.warnings, *_warnings(request, resolved, lines, searched)],
        data_version=data_version,
    )


def _points(resolved: ResolvedSeries, line: Line, points: Sequence[Sequence[Point]], number: int) -> list[SeriesPoint]:
    told = []
    for segment, places in enumerate(line.segments):
        for place in places:
            among_all = line.places[place]
            run, point = resolved.runs[among_all], points[among_all][number]
            told.append(
                SeriesPoint(
                    at=resolved.at[among_all],
                    run=run.result_name,
                    model=run.model,
                    n_questions=len(line.asked[place]),
                    segment=segment,
                    n=point.n,
                    **point.told._asdict(),
                )
            )
    return told


def _step(resolved: ResolvedSeries, line: Line, found: FoundStep, confidence: float) -> SeriesStep:
    step = found.step
    return SeriesStep(
        run=_name(resolved, line, found.place),
        at=resolved.at[line.places[found.place]],
        n_shared=step.n_questions,
        delta=step.delta,
        se=step.se,
        ci_low=step.low,
        ci_high=step.high,
        p=step.p,
        p_adjusted=found.p_adjusted,
        method=METHOD,
        significant=found.p_adjusted <= 1 - confidence,
    )


def _name(resolved: ResolvedSeries, line: Line, place: int) -> str:
    return resolved.runs[line.places[place]].result_name


def _warnings(
    request: TimeSeriesRequest, resolved: ResolvedSeries, lines: Sequence[Line], searched: Searched
) -> Iterator[str]:
    if not any(line.places for line in lines):
        yield "none of these runs has questions of what is asked for"
    if resolved.level is not None and request.level1_values:
        stored = resolved.spec.by_name[resolved.level].type.stored
        known = {line.value for line in lines}
        missing = [str(value) for value in request.level1_values if stored(value) not in known]
        if missing:
            yield f"level1_values: no answers with {resolved.level} {some(missing)}"
    small = [
        resolved.spec.name if resolved.level is None else str(line.value)
        for line in lines
        if any(len(segment) > 1 and not is_searchable(line, segment) for segment in line.segments)
    ]
    if small:
        yield f"no steps are looked for where there are under {QUESTIONS_MIN} questions: {some(small)}"
    if request.correction is Correction.HOLM and searched.n_tests * searched.least_p > 1 - request.confidence:
        yield (
            f"{searched.n_tests:,} segments are searched, too many for any step to be significant at this confidence; "
            "ask for fewer lines"
        )
