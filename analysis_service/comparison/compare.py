"""Answers a comparison: who is compared is looked up, their scores are read, and the rest is computed off the loop."""

import asyncio
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations as pairs_of

import numpy as np
from numpy.typing import NDArray

from analysis_service.comparison.contested import describe_contested, find_contested
from analysis_service.comparison.other_texts import OtherTexts, read_other_texts
from analysis_service.comparison.own_means import measure_own
from analysis_service.comparison.pair import correct, tell_pair
from analysis_service.comparison.ranking import rank_entries
from analysis_service.comparison.resolve import Entry, Part, find_entries, find_parts
from analysis_service.comparison.score_table import ScoreTable, read_table
from analysis_service.comparison.warnings import differing_provenance, some_of, warn_of_runs
from analysis_service.comparison.weighted import compare_weighted
from analysis_service.group_by.measured_reads import MeasuredReads
from analysis_service.large_answers import check_place, make_answer
from analysis_service.long_work import compute_long
from analysis_service.means import ToldMean, round_means
from analysis_service.reader import Reader
from analysis_service.stats.matrix import AllCompared, compare_all
from analysis_service.stats.ranks import Ranks
from shared.comparisons import ComparedEntry, ComparisonAnswer, ComparisonRequest, ContestedQuestion, PairComparison
from shared.problems import TooFewShared, TooManyGroups
from shared.statistics import MIN_SHARED

STEPS_MAX = 30_000_000_000
"""Of bootstrap draws for one answer: to add up a question in a draw for an entry or a pair. They take ten seconds."""
STEPS_LONG = 3_000_000_000
"""From so many on, about a second, a comparison is made in the threads for long work."""
DRAWN_AS_ADDED = 25
"""To draw how often a question counts takes as long as to add up so many."""
PAIRS_OF_PASS = 64
"""Pairs that share what is drawn."""


async def compare(reader: Reader, request: ComparisonRequest) -> ComparisonAnswer:
    """Answer `request`.

    InvalidRequest says what is wrong with it, TooFewShared that no two share enough questions, TooManyGroups that it is
    about too much, TimeLimit that reading took too long, PoolExhausted that too many large answers are being made.
    """
    return await make_answer(reader, partial(_compare_entries, reader, request))


async def _compare_entries(reader: Reader, request: ComparisonRequest, *, has_place: bool) -> ComparisonAnswer:
    parts = find_parts(reader.registry, request)
    names = [part.spec.name for part in parts]
    async with reader.snapshot() as snapshot:
        reads = MeasuredReads(snapshot.session, time_limit_s=reader.plan_timeout_s)
        entries = find_entries(reader.registry, request, snapshot.catalog.by_benchmark, names)
        check_place((run for entry in entries for run in entry.runs.values()), has_place=has_place)
        table = await read_table(reader, reads, snapshot, parts, entries, request.cluster_by)
        columns, n_contested, is_long = await asyncio.to_thread(_look_over, request, parts, entries, table)
        contested = await describe_contested(reader, reads, snapshot, table, parts, entries, columns)
        other_texts, warnings = await read_other_texts(reader, reads, table, parts)
        data_version = snapshot.data_version(names)
    read = _Read(request, parts, entries, table, contested, n_contested, other_texts, warnings, data_version)
    if is_long:
        return await compute_long(reader, partial(_answer, read))
    return await asyncio.to_thread(_answer, read)


@dataclass(frozen=True, slots=True)
class _Read:
    """All that an answer is computed from."""

    request: ComparisonRequest
    parts: Sequence[Part]
    entries: Sequence[Entry]
    table: ScoreTable
    contested: list[ContestedQuestion]
    n_contested: int
    other_texts: Sequence[OtherTexts]
    warnings: Sequence[str]
    data_version: str


def _look_over(
    request: ComparisonRequest, parts: Sequence[Part], entries: Sequence[Entry], table: ScoreTable
) -> tuple[NDArray[np.intp], int, bool]:
    """The contested questions of a comparison that can be made, how many there are, and whether to make it is long."""
    _check_shared(table, entries, [part.spec.name for part in parts])
    steps = _count_steps(table, parts, request.draws)
    spans = [part.spec.score_max - part.spec.score_min for part in parts]
    return *find_contested(table, spans, request.contested), steps > STEPS_LONG


def _check_shared(table: ScoreTable, entries: Sequence[Entry], benchmarks: Sequence[str]) -> None:
    """TooFewShared if no two have enough questions in common."""
    is_scored = table.is_scored.astype(np.float32)  # of which a matrix product is quick, and exact up to 16 million
    n_shared = is_scored @ is_scored.T
    np.fill_diagonal(n_shared, -1)
    most = int(n_shared.max())
    if most < MIN_SHARED:
        a, b = (entries[int(place)].name for place in np.unravel_index(int(n_shared.argmax()), n_shared.shape))
        all_of = "no two of these share more" if len(entries) > 2 else "other questions tell nothing of the difference"
        raise TooFewShared(
            f"{a} and {b} share {most} scored questions of {', '.join(benchmarks[:5])}, and a comparison needs "
            f"{MIN_SHARED}; {all_of}"
        )


def _count_steps(table: ScoreTable, parts: Sequence[Part], draws: int) -> int:
    """The steps that bootstrap draws take; TooManyGroups if they would take too long.

    Pairs of right-or-wrong answers and of clustered ones need none that count; to see who is first, questions are drawn
    for all entries at once.
    """
    n_entries, n_questions = table.scores.shape
    ends = np.array([(part.spec.score_min, part.spec.score_max) for part in parts]).T[:, table.part]
    is_binary = bool((np.isnan(table.scores) | (table.scores == ends[0]) | (table.scores == ends[1])).all())
    is_free = table.clusters is not None or (is_binary and parts[0].weight is None)
    n_pairs = 0 if is_free else n_entries * (n_entries - 1) // 2
    passes = 1 + math.ceil(n_pairs / PAIRS_OF_PASS)
    steps: int = draws * n_questions * (n_entries + n_pairs + DRAWN_AS_ADDED * passes)
    if steps > STEPS_MAX:
        raise TooManyGroups(
            f"{draws:,} bootstrap draws of {n_questions:,} questions for {n_entries} entries take too long; ask for at "
            f"most {draws * STEPS_MAX // steps:,} draws, or compare fewer"
        )
    return steps


def _answer(read: _Read) -> ComparisonAnswer:
    request, entries, table = read.request, read.entries, read.table
    compared = _compare(read, table, draws=request.draws)
    pairs, n_tests = correct(list(_tell_pairs(read, compared)), request.correction, request.confidence)
    told = _tell_entries(read, compared)
    return ComparisonAnswer(
        benchmarks=[part.spec.name for part in read.parts],
        entries=sorted(told, key=lambda entry: (entry.rank or math.inf, entry.name)),
        pairs=pairs,
        n_shared_by_all=compared.n_shared_by_all,
        n_tests=n_tests,
        correction=request.correction,
        confidence=request.confidence,
        draws=request.draws,
        seed=request.seed,
        contested=read.contested,
        n_contested=read.n_contested,
        warnings=[*_warnings(read), *warn_of_runs([run for entry in entries for run in entry.runs.values()])],
        data_version=read.data_version,
    )


def _compare(read: _Read, table: ScoreTable, *, draws: int) -> AllCompared:
    """All pairs on the questions of `table`, each question counting the same or each benchmark by its weight."""
    confidence, seed = read.request.confidence, read.request.seed
    specs = [part.spec for part in read.parts]
    names = [entry.name for entry in read.entries]
    weights = _weights(read)
    if weights is not None:
        return compare_weighted(table, specs, weights, confidence=confidence, draws=draws, seed=seed, names=names)
    return compare_all(
        table.scores,
        confidence=confidence,
        draws=draws,
        seed=seed,
        clusters=table.clusters,
        single_attempts=table.is_single,
        lowest=specs[0].score_min,
        highest=specs[0].score_max,
        names=names,
    )


def _weights(read: _Read) -> list[float] | None:
    weights = [part.weight for part in read.parts if part.weight is not None]
    return weights or None


def _tell_pairs(read: _Read, compared: AllCompared) -> Iterator[PairComparison]:
    for (a, b), paired, bootstrap in zip(
        pairs_of(range(len(read.entries)), 2), compared.pairs, compared.bootstrap, strict=True
    ):
        own, other = read.entries[a], read.entries[b]
        yield tell_pair(
            (own.name, other.name),
            paired,
            bootstrap,
            confidence=read.request.confidence,
            warnings=list(_pair_warnings(read, a, b)),
        )


def _pair_warnings(read: _Read, a: int, b: int) -> Iterator[str]:
    own, other = read.entries[a].runs, read.entries[b].runs
    for benchmark, run in own.items():
        if benchmark in other:
            yield from differing_provenance(run, other[benchmark])
    for texts in read.other_texts:
        yield from texts.warn(a, b)


def _tell_entries(read: _Read, compared: AllCompared) -> list[ComparedEntry]:
    specs = [part.spec for part in read.parts]
    request = read.request
    own = measure_own(read.table, specs, _weights(read), cluster_by=request.cluster_by, confidence=request.confidence)
    ranks = _rank(read, compared)
    n_questions = read.table.is_scored.sum(axis=1).tolist()
    return [
        _tell_entry(entry, row, own[row], ranks, int(read.table.n_scored[row]), n_questions[row], compared)
        for row, entry in enumerate(read.entries)
    ]


def _rank(read: _Read, compared: AllCompared) -> Ranks | None:
    """Ranks over the questions that all share; None where these are too few."""
    if compared.n_shared_by_all < MIN_SHARED or np.isnan(compared.means).any():
        return None
    pairs = compared.pairs
    if any(pair.n != compared.n_shared_by_all for pair in pairs):
        pairs = _compare(read, read.table.among(read.table.is_shared_by_all), draws=0).pairs
    return rank_entries(round_means(compared.means, read.parts[0].spec), pairs, read.request.confidence)


def _tell_entry(
    entry: Entry, row: int, own: ToldMean, ranks: Ranks | None, n: int, n_questions: int, compared: AllCompared
) -> ComparedEntry:
    reasons = [own.reason] if own.reason is not None else []
    if ranks is None and compared.n_shared_by_all < MIN_SHARED:
        reasons.append(f"no rank: {compared.n_shared_by_all} questions are shared by all, and {MIN_SHARED} are needed")
    elif ranks is None:
        reasons.append("no rank: of a benchmark with a weight no question is shared by all")
    p_best = float(compared.p_best[row])
    if math.isnan(p_best) and ranks is not None:
        reasons.append("no bootstrap draws were asked for")
    return ComparedEntry(
        name=entry.name,
        model=entry.model,
        runs=[run.info for run in entry.runs.values()],
        n=n,
        n_questions=n_questions,
        mean=own.mean,
        se=own.se,
        ci_low=own.ci_low,
        ci_high=own.ci_high,
        method=own.method,
        reason="; ".join(reasons) or None,
        rank=None if ranks is None else int(ranks.rank[row]),
        rank_low=None if ranks is None else int(ranks.low[row]),
        rank_high=None if ranks is None else int(ranks.high[row]),
        tie_group=None if ranks is None else int(ranks.tie_group[row]),
        p_best=None if ranks is None else _known(p_best),
    )


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _warnings(read: _Read) -> Iterator[str]:
    yield from read.warnings
    for part in read.parts:
        without = [entry.name for entry in read.entries if part.spec.name not in entry.runs]
        if without and read.request.models is not None:
            yield f"{part.spec.name}: no run of {some_of(without)}"
    if read.table.without_cluster:
        count = f"{read.table.without_cluster:,} questions have"
        yield f"{count} no {read.request.cluster_by}: each of them counts as a cluster of its own"
