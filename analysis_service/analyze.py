"""Answers a group-by: the request resolved, one query over sums, its rows folded."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from analysis_service.cells import answer_rows, fold_rows
from analysis_service.database import Row
from analysis_service.queries.group_by import group_by_query
from analysis_service.queries.tables import SUM_COLUMNS
from analysis_service.reader import Reader
from analysis_service.resolve import ResolvedAnalysis, find_benchmark, resolve_analysis
from analysis_service.runs import fetch_runs
from shared.analysis import AnalysisAnswer, AnalysisRequest, Value

OFF_LOOP_ROWS = 2000
"""From this many rows on, folding them takes so long that other requests would notice."""

_SET_COLUMN = -len(SUM_COLUMNS) - 1


async def analyze(reader: Reader, request: AnalysisRequest) -> AnalysisAnswer:
    """Answer `request`; InvalidRequest says what is wrong with it."""
    spec = find_benchmark(reader.registry, request.benchmark)
    async with reader.snapshot() as (session, data_version):
        runs = await fetch_runs(session, reader.dialect, reader.registry, spec.name)
        resolved = resolve_analysis(request, spec, reader.registry, runs, max_rows=reader.max_groups)
        rows: list[Row] = []
        if resolved.runs:
            rows = await session.fetch(group_by_query(reader.dialect, resolved.plan))
            reader.check_size(rows)
        sets = await reader.question_sets.fetch(session, reader.dialect, spec.name, {row[_SET_COLUMN] for row in rows})

    def fold() -> list[dict[str, Any]]:
        return answer_rows(fold_rows(rows, resolved), resolved, sets, request.error_policy)

    answer = await asyncio.to_thread(fold) if len(rows) > OFF_LOOP_ROWS else fold()
    return AnalysisAnswer(
        benchmark=spec.name,
        group_by=list(resolved.group_by),
        rows=answer[: request.limit],
        total_rows=len(answer),
        truncated=len(answer) > request.limit,
        runs=[run.info for run in resolved.runs],
        warnings=list(_warnings(request, resolved, answer)),
        data_version=data_version,
    )


def _warnings(request: AnalysisRequest, resolved: ResolvedAnalysis, rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    unregistered = sorted({run.model for run in resolved.runs if not run.registered})
    if unregistered:
        yield f"not in the model registry: {_some(unregistered)}"
    partial = sorted({run.result_name for run in resolved.runs if run.info.partial})
    if partial:
        yield f"under 95 % of the benchmark's questions: {_some(partial)}"
    wanted: tuple[tuple[str, str | None, Sequence[Value] | None], ...] = (
        ("level1_values", request.level1, request.level1_values),
        ("level2_values", request.level2, request.level2_values),
        ("level3_values", request.level3, request.level3_values),
    )
    for place, level, values in wanted:
        if level is not None and level in resolved.spec.by_name and values:
            missing = [str(value) for value in values if all(row[level] != value for row in rows)]
            if missing:
                yield f"{place}: no answers with {level} {_some(missing)}"


def _some(names: Sequence[str], most: int = 5) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
