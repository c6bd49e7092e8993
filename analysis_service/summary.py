"""One line a benchmark: what is stored of it and how the models did, from the table of runs alone."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from pypika import functions as fn
from pyroaring import BitMap

from analysis_service.means import round_means
from analysis_service.projection.prepare import AppliedState
from analysis_service.queries.tables import APPLIED
from analysis_service.reader import Reader
from analysis_service.runs import Run, finished_runs, latest_runs, with_questions
from shared.analysis import BenchmarkSummary, ModelMean, SummaryAnswer
from shared.registry.specs import BenchmarkSpec


async def summarize(reader: Reader, language: str = "en") -> SummaryAnswer:
    """Every benchmark with results, registered ones first by name, then those that wait for a registry file."""
    async with reader.snapshot() as snapshot:
        session, known = snapshot.session, snapshot.catalog.by_benchmark
        query = reader.dialect.query.from_(APPLIED).select(APPLIED.benchmark, APPLIED.state, fn.Count("*"))
        rows = await session.fetch(query.groupby(APPLIED.benchmark, APPLIED.state), "results by state")
        by_benchmark: dict[str, Sequence[Run]] = {
            benchmark: known[benchmark].runs if benchmark in known else () for benchmark, _, _ in rows
        }
        questions = {}
        for benchmark, its_runs in by_benchmark.items():
            numbers = {run.set_no for run in finished_runs(its_runs) if run.set_no is not None}
            sets = await reader.question_sets.fetch(session, reader.dialect, benchmark, numbers)
            questions[benchmark] = len(BitMap.union(*sets.values())) if sets else 0
    states = Counter({(benchmark, state): int(count) for benchmark, state, count in rows})
    registered = reader.registry.benchmarks
    return SummaryAnswer(
        benchmarks=[
            _summarize(
                benchmark,
                by_benchmark[benchmark],
                spec=registered.get(benchmark),
                language=language,
                questions=questions[benchmark],
                parked=states[benchmark, AppliedState.PARKED],
                rejected=states[benchmark, AppliedState.REJECTED],
            )
            for benchmark in sorted(by_benchmark, key=lambda name: (name not in registered, name))
        ],
        data_version=snapshot.data_version(),
    )


def _summarize(
    benchmark: str,
    runs: Sequence[Run],
    *,
    spec: BenchmarkSpec | None,
    language: str,
    questions: int,
    parked: int,
    rejected: int,
) -> BenchmarkSummary:
    finished = finished_runs(runs)
    measured = with_questions(finished)
    latest = [run for run in latest_runs(measured) if run.n_scored]
    n_scored = np.array([run.n_scored for run in latest])
    score_sum = np.array([run.score_sum for run in latest])
    own, mean = score_sum / n_scored, None
    if spec is not None and latest:
        own = round_means(own, spec)
        mean = float(round_means(score_sum.sum(keepdims=True) / n_scored.sum(), spec)[0])
    best = min(zip((-own).tolist(), (run.model for run in latest), strict=True), default=None)
    return BenchmarkSummary(
        benchmark=benchmark,
        title=spec.title.read(language) if spec else benchmark,
        registered=spec is not None,
        models=len({run.model for run in measured}),
        runs=len(measured),
        questions=questions,
        answers=sum(run.n_answers for run in measured),
        mean=mean,
        best_model=ModelMean(model=best[1], mean=-best[0]) if best else None,
        newest_run=measured[-1].info if measured else None,
        stated_only_runs=len(finished) - len(measured),
        live_runs=len(runs) - len(finished),
        parked=parked,
        rejected=rejected,
    )
