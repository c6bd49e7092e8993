"""Answers a group-by: the request resolved, one query over sums a benchmark, its rows folded."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyroaring import BitMap

from analysis_service.cells import answer_rows, fold_rows, order_rows
from analysis_service.database import Row, Session
from analysis_service.queries.group_by import group_by_query
from analysis_service.queries.tables import SUM_COLUMNS
from analysis_service.reader import Reader
from analysis_service.resolve import ResolvedAnalysis, find_benchmarks, resolve_analysis
from analysis_service.runs import fetch_runs
from shared.analysis import AnalysisAnswer, AnalysisRequest, Value

OFF_LOOP_ROWS = 2000
"""From this many rows on, folding them takes so long that other requests would notice."""

_SET_COLUMN = -len(SUM_COLUMNS) - 1


@dataclass(frozen=True, slots=True)
class _Part:
    """What was read for one benchmark."""

    resolved: ResolvedAnalysis
    rows: Sequence[Row]
    question_sets: Mapping[int, BitMap]


async def analyze(reader: Reader, request: AnalysisRequest) -> AnalysisAnswer:
    """Answer `request`; InvalidRequest says what is wrong with it."""
    specs = find_benchmarks(reader.registry, request)
    async with reader.snapshot() as (session, data_version):
        runs = await fetch_runs(session, reader.dialect, reader.registry, [spec.name for spec in specs])
        plans = [resolve_analysis(request, spec, reader.registry, runs, max_rows=reader.max_groups) for spec in specs]
        parts = [await _read(reader, session, resolved) for resolved in plans]

    def fold() -> list[dict[str, Any]]:
        return _fold(parts, request)

    many = sum(len(part.rows) for part in parts) > OFF_LOOP_ROWS
    rows = await asyncio.to_thread(fold) if many else fold()
    several = request.benchmarks is not None
    return AnalysisAnswer(
        benchmark=request.benchmark,
        group_by=[*(["benchmark"] if several else []), *plans[0].group_by],
        rows=rows[: request.limit],
        total_rows=len(rows),
        truncated=len(rows) > request.limit,
        runs=[run.info for resolved in plans for run in resolved.runs],
        warnings=list(_warnings(request, plans, rows)),
        data_version=data_version,
    )


async def _read(reader: Reader, session: Session, resolved: ResolvedAnalysis) -> _Part:
    if not resolved.runs:
        return _Part(resolved, (), {})
    rows = await session.fetch(group_by_query(reader.dialect, resolved.plan))
    reader.check_size(rows)
    numbers = {row[_SET_COLUMN] for row in rows}
    return _Part(resolved, rows, await reader.question_sets.fetch(session, reader.dialect, resolved.spec.name, numbers))


def _fold(parts: Sequence[_Part], request: AnalysisRequest) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for part in parts:
        cells = fold_rows(part.rows, part.resolved)
        own = answer_rows(cells, part.resolved, part.question_sets, request.error_policy)
        named = {} if request.benchmarks is None else {"benchmark": part.resolved.spec.name}
        rows += [named | row for row in own] if named else own
    return order_rows(rows, parts[0].resolved)


def _warnings(
    request: AnalysisRequest, plans: Sequence[ResolvedAnalysis], rows: Sequence[dict[str, Any]]
) -> Iterator[str]:
    runs = [run for resolved in plans for run in resolved.runs]
    unregistered = sorted({run.model for run in runs if not run.registered})
    if unregistered:
        yield f"not in the model registry: {_some(unregistered)}"
    live = sorted({run.result_name for run in runs if run.live})
    if live:
        yield f"still going on: {_some(live)}"
    partial = sorted({run.result_name for run in runs if run.info.partial and not run.live})
    if partial:
        yield f"under 95 % of the benchmark's questions: {_some(partial)}"
    wanted: tuple[tuple[str, str | None, Sequence[Value] | None], ...] = (
        ("level1_values", request.level1, request.level1_values),
        ("level2_values", request.level2, request.level2_values),
        ("level3_values", request.level3, request.level3_values),
    )
    for place, level, values in wanted:
        if level is not None and level in plans[0].spec.by_name and values:
            found = {row[level] for row in rows}
            missing = [str(value) for value in values if value not in found]
            if missing:
                yield f"{place}: no answers with {level} {_some(missing)}"


def _some(names: Sequence[str], most: int = 5) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
