"""What several attempts at each question tell, run by run."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from functools import partial

import numpy as np
from numpy.typing import NDArray

from analysis_service.catalog import BenchmarkRuns
from analysis_service.chosen_runs import find_models, find_runs, lacks_run, places_of
from analysis_service.database import Row
from analysis_service.group_by.cells import Filters, kept_cells
from analysis_service.group_by.combinations import Combinations
from analysis_service.group_by.layouts import Cells
from analysis_service.group_by.measured_reads import MeasuredReads
from analysis_service.group_by.resolve import apply_filters
from analysis_service.large_answers import check_place, make_answer
from analysis_service.projection.answers import STATUSES, AnswerColumns, unpack
from analysis_service.queries.questions import answers_query
from analysis_service.question_scores import check_answers, read_combinations
from analysis_service.reader import Reader
from analysis_service.run_repeats import ScoredAttempts, measure_run
from analysis_service.runs import Run
from shared.problems import FAULTS_MAX, Fault, TooManyGroups, invalid, unknown_value
from shared.registry.specs import BenchmarkSpec, Registry
from shared.repeats import RepeatsAnswer, RepeatsRequest, RunRepeats
from shared.submission import Status, shortened

RUNS_MAX = 100
"""Runs of one answer: each has two lists of estimates."""
ANSWERS_AT_ONCE = 20_000
"""Answers that are unpacked at once with their texts, or one run's."""

_SCORED = STATUSES.index(Status.SCORED)


async def measure_repeats(reader: Reader, request: RepeatsRequest) -> RepeatsAnswer:
    """Answer `request`: one statement for the answers, computed off the event loop.

    InvalidRequest names every fault, a k above the attempts stored among them; TooManyGroups if it is about too much,
    TimeLimit if it takes too long, PoolExhausted if too many large answers are being made.
    """
    return await make_answer(reader, partial(_measure_repeats, reader, request))


async def _measure_repeats(reader: Reader, request: RepeatsRequest, *, has_place: bool) -> RepeatsAnswer:
    if request.benchmark not in reader.registry.benchmarks:
        raise invalid(unknown_value("benchmark", request.benchmark, reader.registry.benchmarks, what="benchmark"))
    spec = reader.registry.benchmarks[request.benchmark]
    async with reader.snapshot() as snapshot:
        reads = MeasuredReads(snapshot.session, time_limit_s=reader.plan_timeout_s)
        runs, filters = _resolve(request, spec, reader.registry, snapshot.catalog.by_benchmark)
        check_answers(runs)
        check_place(runs, has_place=has_place)
        combinations = await read_combinations(reader, reads, snapshot, spec, runs) if filters and runs else None
        measured: list[RunRepeats] = []
        by_number = {run.run_no: run for run in runs}
        sizes = {run.run_no: run.n_answers for run in runs}

        def measure(rows: Sequence[Row]) -> list[RunRepeats]:
            return [
                measure_run(
                    by_number[run_no].info,
                    _scored(unpack(packed), combinations, filters),
                    spec,
                    ks=request.ks,
                    confidence=request.confidence,
                )
                for run_no, packed in rows
            ]

        if runs:
            query = answers_query(reader.dialect, sizes)
            async with aclosing(
                reads.in_stretches(query, "repeated answers", sizes, at_once=ANSWERS_AT_ONCE)
            ) as stretches:
                async for rows in stretches:
                    measured += await asyncio.to_thread(partial(measure, rows))
        data_version = snapshot.data_version([spec.name])
    _check_ks(request, measured)
    measured.sort(key=lambda own: (own.run.model, own.run.result_name))
    return RepeatsAnswer(
        benchmark=spec.name,
        runs=measured,
        confidence=request.confidence,
        warnings=list(_warnings(measured)),
        data_version=data_version,
    )


def _resolve(
    request: RepeatsRequest, spec: BenchmarkSpec, registry: Registry, stored: Mapping[str, BenchmarkRuns]
) -> tuple[list[Run], Filters]:
    """The runs that are asked for, each once, and the filters on metadata."""
    faults: list[Fault] = []
    own = stored[spec.name]
    chosen = list(own.latest)
    if request.runs is not None:
        chosen = list(find_runs(places_of("runs", request.runs), stored, [spec.name], faults).values())
    elif request.models is not None:
        models = find_models(places_of("models", request.models), registry, stored, [spec.name], faults)
        faults += [lacks_run(place, found.model, [own]) for place, found in models.items() if not found.runs]
        chosen = [run for found in models.values() for run in found.runs.values()]
    chosen = list({run.run_no: run for run in chosen}.values())
    wanted = [(f"filters.{shortened(name)}", name, values) for name, values in request.filters.items()]
    kept, filters = apply_filters(spec, registry, wanted, chosen, own.runs, faults)
    if faults:
        raise invalid(*faults[:FAULTS_MAX])
    if len(kept) > RUNS_MAX:
        raise TooManyGroups(f"{len(kept):,} models have a run of {spec.name}; name at most {RUNS_MAX} in `models`")
    return kept, filters


def _scored(columns: AnswerColumns, combinations: Combinations | None, filters: Filters) -> ScoredAttempts:
    kept = (columns.status == _SCORED) & ~np.isnan(columns.score)
    if combinations is not None and filters:
        number = columns.combination.astype(np.int64)
        kept &= kept_cells(Cells({}, number, number), combinations, filters, ())
    rows = np.flatnonzero(kept)
    _, question = np.unique(columns.question_no[rows], return_inverse=True)
    return ScoredAttempts(question, columns.score[rows], _number_answers(columns.answer, rows))


def _number_answers(answers: Sequence[str | None], rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """The same number where the texts are equal but for white space around them; -1 where there is none."""
    numbers: dict[str, int] = {}
    told = (answers[row] for row in rows.tolist())
    return np.array(
        [-1 if text is None else numbers.setdefault(text.strip(), len(numbers)) for text in told], dtype=np.intp
    )


def _check_ks(request: RepeatsRequest, measured: Sequence[RunRepeats]) -> None:
    most = max((own.attempts_max for own in measured), default=0)
    if most:  # else each run says that nothing was scored
        faults = [
            Fault(place=f"ks[{index}]", detail=f"is {k:,}, and no question has more than {most:,} scored attempts")
            for index, k in enumerate(request.ks or ())
            if k > most
        ]
        if faults:
            raise invalid(*faults[:FAULTS_MAX])


def _warnings(measured: Sequence[RunRepeats]) -> Iterator[str]:
    for own in measured:
        if own.attempts_min < own.attempts_max:
            yield (
                f"{own.run.result_name}: from {own.attempts_min:,} to {own.attempts_max:,} attempts at a question were "
                f"scored, so pass@k and pass^k are over fewer questions where k is above {own.attempts_min:,}"
            )
