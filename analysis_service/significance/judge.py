"""Answers `POST /significance`: two runs a benchmark are found, read and compared, and what that comes to is told."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from analysis_service.comparison.clusters import count_without_value, label_clusters
from analysis_service.comparison.other_texts import read_other_texts
from analysis_service.comparison.pair import compare_two, correct
from analysis_service.comparison.resolve import Part
from analysis_service.comparison.score_table import lay_table
from analysis_service.comparison.warnings import differing_provenance, warn_of_runs
from analysis_service.group_by.combinations import Combinations
from analysis_service.group_by.measured_reads import MeasuredReads
from analysis_service.large_answers import check_place, make_answer
from analysis_service.question_scores import (
    QuestionScores,
    align,
    check_answers,
    read_combinations,
    read_question_scores,
)
from analysis_service.reader import Reader, Snapshot
from analysis_service.significance.contenders import Match, find_matches
from analysis_service.significance.live import judge_live
from analysis_service.significance.sentences import tell_live, tell_verdict
from analysis_service.significance.verdicts import (
    Interval,
    margin_interval,
    overall_verdict,
    verdict_of,
    within_margin,
)
from analysis_service.stats.paired import is_binary
from shared.comparisons import PairComparison
from shared.problems import TooManyGroups
from shared.registry.specs import FieldType
from shared.significance import BenchmarkVerdict, SignificanceAnswer, SignificanceRequest

DRAWN_MAX = 500_000_000
"""Numbers drawn for one answer: questions × draws, which take some seconds where scores are not right or wrong."""
_GOING_ON = "still going on: p and interval are those of a single look; `live` allows for any number of looks"


@dataclass(frozen=True, slots=True)
class _Measured:
    """A match with its scores."""

    match: Match
    candidate: QuestionScores
    baseline: QuestionScores
    combinations: Combinations | None
    """Where clusters or the order of questions are looked at."""
    warnings: Sequence[str]
    """Of questions that are not shared though their ids are the same."""


async def judge(reader: Reader, request: SignificanceRequest) -> SignificanceAnswer:
    """Answer `request`.

    InvalidRequest says what is wrong with it, TooManyGroups that it is about too much, TimeLimit that it took too long,
    PoolExhausted that too many large answers are being made.
    """
    return await make_answer(reader, partial(_judge_matches, reader, request))


async def _judge_matches(reader: Reader, request: SignificanceRequest, *, has_place: bool) -> SignificanceAnswer:
    async with reader.snapshot() as snapshot:
        reads = MeasuredReads(snapshot.session, time_limit_s=reader.plan_timeout_s)
        matches = find_matches(reader.registry, request, snapshot.catalog.by_benchmark)
        runs = [run for match in matches for run in (match.candidate, match.baseline)]
        check_answers(runs)
        check_place(runs, has_place=has_place)
        measured = [await _measure(reader, reads, snapshot, match, request.cluster_by) for match in matches]
        data_version = snapshot.data_version(match.spec.name for match in matches)
    return await asyncio.to_thread(partial(_answer, request, measured, data_version))


async def _measure(
    reader: Reader, reads: MeasuredReads, snapshot: Snapshot, match: Match, cluster_by: str | None
) -> _Measured:
    runs = [match.candidate, match.baseline]
    scores = await read_question_scores(reader, reads, snapshot, match.spec, runs, match.filters)
    combinations = None
    if cluster_by is not None or match.candidate.live:
        combinations = await read_combinations(reader, reads, snapshot, match.spec, runs)
    candidate, baseline = scores
    warnings: list[str] = []
    # Where either lacks nothing that the other has, as a run does that is going on, no question can have two texts.
    if min(len(_beyond(candidate, baseline)), len(_beyond(baseline, candidate))):
        part = Part(match.spec, match.filters, None)
        other_texts, warnings = await read_other_texts(reader, reads, lay_table(scores), [part])
        warnings += [warning for texts in other_texts for warning in texts.warn(0, 1)]
    return _Measured(match, candidate, baseline, combinations, warnings)


def _beyond(own: QuestionScores, other: QuestionScores) -> NDArray[np.int32]:
    """The questions that only `own` has."""
    return np.setdiff1d(own.question_no, other.question_no, assume_unique=True)


def _answer(request: SignificanceRequest, measured: Sequence[_Measured], data_version: str) -> SignificanceAnswer:
    _check_draws(measured, request.draws)
    pairs = [_compare(request, own) for own in measured]
    n_tests = 0
    # A live candidate was named as a run, which is of one benchmark alone: nothing is to be corrected, and its p has no
    # say, as it is one of many looks.
    if not any(own.match.candidate.live for own in measured):
        pairs, n_tests = correct(pairs, request.correction, request.confidence)
    verdicts = [
        _judge_live(request, own, pair) if own.match.candidate.live else _judge(request, own, pair, n_tests)
        for own, pair in zip(measured, pairs, strict=True)
    ]
    return SignificanceAnswer(
        verdict=overall_verdict([verdict.verdict for verdict in verdicts]),
        verdicts=verdicts,
        n_tests=n_tests,
        correction=request.correction,
        confidence=request.confidence,
        margin=request.margin,
        warnings=list(warn_of_runs([run for own in measured for run in (own.match.candidate, own.match.baseline)])),
        data_version=data_version,
    )


def _check_draws(measured: Sequence[_Measured], draws: int) -> None:
    """TooManyGroups if bootstrap draws would take too long; of right-or-wrong answers they take next to no time."""
    n_questions = 0
    for own in measured:
        ends = own.match.spec.score_min, own.match.spec.score_max
        if not (is_binary(own.candidate.mean, *ends) and is_binary(own.baseline.mean, *ends)):
            n_questions += min(len(own.candidate.mean), len(own.baseline.mean))
    if draws * n_questions > DRAWN_MAX:
        raise TooManyGroups(
            f"{draws:,} bootstrap draws of {n_questions:,} questions take too long; ask for at most "
            f"{DRAWN_MAX // n_questions:,} draws, or for fewer benchmarks"
        )


def _compare(request: SignificanceRequest, own: _Measured) -> PairComparison:
    candidate, baseline = own.match.candidate, own.match.baseline
    warnings = [*differing_provenance(candidate, baseline), *own.warnings]
    clusters: NDArray[np.intp] | None = None
    if request.cluster_by is not None and own.combinations is not None:
        aligned = align([own.candidate, own.baseline])
        clusters = label_clusters(aligned.combination, own.combinations, request.cluster_by)
        without = count_without_value(aligned.combination, own.combinations, request.cluster_by)
        if without:
            warnings.append(f"{without:,} questions have no {request.cluster_by} and are a cluster each")
    if candidate.live:
        warnings.append(_GOING_ON)
    return compare_two(
        own.candidate,
        own.baseline,
        own.match.spec,
        names=(
            candidate.result_name if request.candidate.run is not None else candidate.model,
            baseline.result_name if request.baseline.run is not None else baseline.model,
        ),
        confidence=request.confidence,
        draws=request.draws,
        seed=request.seed,
        clusters=clusters,
        warnings=warnings,
    )


def _judge(request: SignificanceRequest, own: _Measured, pair: PairComparison, n_tests: int) -> BenchmarkVerdict:
    """The verdict on finished runs."""
    spec, margin = own.match.spec, request.margin
    interval = margin_interval(pair, spec)
    tests = within_margin(interval, margin)
    verdict = verdict_of(pair, is_within=tests.within)
    return BenchmarkVerdict(
        benchmark=spec.name,
        verdict=verdict,
        within_margin=tests.within,
        not_worse=tests.not_worse,
        pair=pair,
        ci_within_low=None if interval is None else interval.low,
        ci_within_high=None if interval is None else interval.high,
        candidate_runs=[own.match.candidate.info],
        baseline_runs=[own.match.baseline.info],
        live=None,
        sentence=tell_verdict(verdict, pair, interval, spec, margin=margin, n_tests=n_tests),
    )


def _judge_live(request: SignificanceRequest, own: _Measured, pair: PairComparison) -> BenchmarkVerdict:
    """The verdict on a candidate whose run is going on."""
    spec, margin = own.match.spec, request.margin
    live = judge_live(
        own.candidate,
        own.baseline,
        spec,
        confidence=request.confidence,
        margin=margin,
        blocks=_first_category(own),
    )
    if request.cluster_by is not None:
        told = f"the questions of one {request.cluster_by} count as independent of each other in `live`"
        live = live.model_copy(update={"warnings": [*live.warnings, told]})
    last = Interval(live.path[-1].ci_low, live.path[-1].ci_high) if live.path else None
    tests = within_margin(last, margin)
    return BenchmarkVerdict(
        benchmark=spec.name,
        verdict=live.verdict,
        within_margin=tests.within,
        not_worse=tests.not_worse,
        pair=pair,
        ci_within_low=None,
        ci_within_high=None,
        candidate_runs=[own.match.candidate.info],
        baseline_runs=[own.match.baseline.info],
        live=live,
        sentence=tell_live(live, pair.a, pair.b, spec, margin=margin, confidence=request.confidence),
    )


def _first_category(own: _Measured) -> tuple[str, NDArray[np.int32]] | None:
    """The benchmark's first category, and its value's code of each of the candidate's questions."""
    name = next((field.name for field in own.match.spec.fields if field.type is FieldType.CATEGORY), None)
    if name is None or own.combinations is None:
        return None
    return name, own.combinations.fields[name].codes[own.candidate.combination]
