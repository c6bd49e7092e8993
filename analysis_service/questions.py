"""One question through every model and harness: found by an id, told from packed answers.

Work is bounded by the page: the runs that asked a question are found by their question sets, and of these as many are
unpacked as the page shows, some at a time, off the event loop.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter
from pyroaring import BitMap

from analysis_service.database import Row, SnapshotSession
from analysis_service.group_by.measured_reads import MeasuredReads
from analysis_service.options import benchmark_in_path
from analysis_service.projection.question_keys import copy_in, hash_in
from analysis_service.queries.questions import (
    answers_query,
    ids_query,
    names_query,
    neighbours_query,
    questions_query,
    values_query,
)
from analysis_service.question_attempts import Attempts, find_attempts
from analysis_service.reader import Reader
from analysis_service.runs import Run, finished_runs, latest_runs
from shared.cursors import seal, unseal
from shared.problems import Fault, NotFound, invalid, unknown_value
from shared.questions import (
    IDS_MAX,
    QuestionAnswer,
    QuestionDetail,
    QuestionQuery,
    QuestionRun,
)
from shared.registry.specs import BenchmarkSpec, FieldType, Registry
from shared.submission import shortened

SAME_ID_MAX = 1_000
"""Questions of one id that are looked at."""
ANSWERS_AT_ONCE = 20_000
"""Answers that are unpacked at once, or one run's."""
_NEIGHBOURS = 1_000
"""Ids on each side of an unknown one among which the nearest is looked for."""

_Place = tuple[int, str, str, int]
_PLACE = TypeAdapter(_Place)


@dataclass(frozen=True, slots=True)
class _Question:
    number: int
    key: str
    first_id: str
    runs_total: int


@dataclass(frozen=True, slots=True)
class _Item:
    """A line of the whole list: what a run made of a question, or with None that no run is kept of it."""

    question: _Question
    run: Run | None

    @property
    def place(self) -> _Place:
        if self.run is None:
            return (self.question.number, "", "", 0)
        return (self.question.number, self.run.model, self.run.time_key, self.run.seq)


async def fetch_question(reader: Reader, benchmark: str, question_id: str, query: QuestionQuery) -> QuestionAnswer:
    """What runs made of the questions that came under this id; NotFound if none did that a run still has."""
    spec = benchmark_in_path(reader.registry, benchmark)
    list_of = [spec.name, question_id, query.model_dump(exclude={"limit", "cursor"})]
    after = unseal(query.cursor, list_of, _PLACE) if query.cursor is not None else None
    async with reader.snapshot() as snapshot:
        session, runs = snapshot.session, snapshot.runs_of(spec.name).measured
        kept = choose_runs(runs, query, reader.registry)
        numbers = {run.set_no for run in runs if run.set_no is not None}
        sets = await reader.question_sets.fetch(session, reader.dialect, spec.name, numbers)
        rows = await session.fetch(
            questions_query(reader.dialect, spec.name, question_id, SAME_ID_MAX + 1), "questions of an id"
        )
        found = [
            _Question(number, key, first_id, _count_runs(number, runs, sets))
            for number, key, first_id in rows[:SAME_ID_MAX]
        ]
        questions = [question for question in found if question.runs_total]
        if not questions:
            raise await _unknown(session, reader, spec, question_id)
        items = [item for item in _list_items(questions, kept, sets) if after is None or item.place > after]
        page = items[: query.limit]
        details = await _describe(session, reader, spec, page)
    return QuestionAnswer(
        benchmark=spec.name,
        question_id=question_id,
        questions=details,
        questions_total=len(questions),
        warnings=list(_warnings(question_id, questions, is_cut=len(rows) > SAME_ID_MAX)),
        next_cursor=seal(page[-1].place, list_of) if len(items) > len(page) else None,
        data_version=snapshot.data_version([spec.name]),
    )


def choose_runs(runs: Sequence[Run], query: QuestionQuery, registry: Registry) -> list[Run]:
    """The runs that `query` keeps; InvalidRequest if it names models or sources that nobody knows."""
    sources = {run.source for run in runs}
    models = {run.model for run in runs} | set(registry.models)
    wanted = {registry.canonical_model(name) for name in query.model}
    faults = [
        unknown_value(f"query.model[{index}]", name, models, what="model")
        for index, name in enumerate(query.model)
        if registry.canonical_model(name) not in models
    ]
    faults += [
        unknown_value(f"query.source[{index}]", name, sources, what="source")
        for index, name in enumerate(query.source)
        if name not in sources
    ]
    if faults:
        raise invalid(*faults)
    kept = [
        run
        for run in (runs if query.live else finished_runs(runs))
        if (not wanted or run.model in wanted) and (not query.source or run.source in query.source)
    ]
    if query.runs == "all":
        return kept
    by_source: dict[str, list[Run]] = {}
    for run in kept:
        by_source.setdefault(run.source, []).append(run)
    return [run for its_runs in by_source.values() for run in latest_runs(its_runs)]


def _count_runs(number: int, runs: Sequence[Run], sets: Mapping[int, BitMap]) -> int:
    return sum(number in sets[run.set_no] for run in runs if run.set_no is not None)


def _list_items(questions: Sequence[_Question], runs: Sequence[Run], sets: Mapping[int, BitMap]) -> Iterator[_Item]:
    """Every line, in the order of their places."""
    by_model = sorted(runs, key=lambda run: (run.model, run.time_key, run.seq))
    for question in questions:
        asked = [run for run in by_model if run.set_no is not None and question.number in sets[run.set_no]]
        yield from [_Item(question, run) for run in asked] or [_Item(question, None)]


async def _describe(
    session: SnapshotSession, reader: Reader, spec: BenchmarkSpec, page: Sequence[_Item]
) -> list[QuestionDetail]:
    """The questions of a page, with their runs on it."""
    attempts = await _read_attempts(session, reader, page)
    dialect = reader.dialect
    ids: dict[int, str] = {}
    values: dict[int, dict[str, Any]] = {}
    if attempts:
        names = sorted({found.name_no for found in attempts.values()})
        ids = dict(await session.fetch(names_query(dialect, spec.name, names), "names of questions"))
        combinations = sorted({found.combination for found in attempts.values()})
        fields = [field.name for field in spec.fields]
        rows = await session.fetch(values_query(dialect, spec.name, fields, combinations), "values of combinations")
        values = {row[0]: _metadata(spec, row[1:]) for row in rows}
    questions = list(dict.fromkeys(item.question for item in page))
    known_as: dict[int, list[str]] = {question.number: [] for question in questions}
    if known_as:
        named = await session.fetch(ids_query(dialect, spec.name, list(known_as), IDS_MAX), "ids of questions")
        for number, question_id in named:
            known_as[number].append(question_id)
    details = []
    for question in questions:
        runs = [
            _run_of(run, found, ids[found.name_no], values[found.combination])
            for item in page
            if item.question == question
            and (run := item.run) is not None
            and (found := attempts.get((run.run_no, question.number))) is not None
        ]
        told = (attempt.target for run in runs for attempt in run.attempts if attempt.target is not None)
        details.append(
            QuestionDetail(
                question_id=question.first_id,
                question_ids=known_as[question.number],
                content_hash=hash_in(question.key),
                copy_no=copy_in(question.key),
                runs_total=question.runs_total,
                targets=sorted(set(told))[:IDS_MAX],
                runs=runs,
            )
        )
    return details


async def _read_attempts(
    session: SnapshotSession, reader: Reader, page: Sequence[_Item]
) -> Mapping[tuple[int, int], Attempts]:
    """(run_no, question number) → the attempts, for the lines of a page."""
    runs = {item.run.run_no: item.run for item in page if item.run is not None}
    wanted: dict[int, list[int]] = {}
    for item in page:
        if item.run is not None:
            wanted.setdefault(item.run.run_no, []).append(item.question.number)

    def find(rows: Sequence[Row]) -> dict[tuple[int, int], Attempts]:
        return {
            (run_no, number): found
            for run_no, packed in rows
            for number, found in find_attempts(packed, wanted[run_no]).items()
        }

    attempts: dict[tuple[int, int], Attempts] = {}
    if runs:
        reads = MeasuredReads(session, time_limit_s=reader.plan_timeout_s)
        sizes = {run.run_no: run.n_answers for run in runs.values()}
        query = answers_query(reader.dialect, sizes)
        async with aclosing(reads.in_stretches(query, "answers", sizes, at_once=ANSWERS_AT_ONCE)) as stretches:
            async for rows in stretches:
                attempts |= await asyncio.to_thread(find, rows)
    return attempts


def _run_of(run: Run, found: Attempts, question_id: str, metadata: dict[str, Any]) -> QuestionRun:
    return QuestionRun(
        result_name=run.result_name,
        question_id=question_id,
        model=run.model,
        registered=run.registered,
        source=run.source,
        timestamp=run.timestamp,
        live=run.live,
        metadata=metadata,
        n=found.n,
        mean=found.mean,
        n_attempts=found.total,
        attempts=found.shown,
    )


def _metadata(spec: BenchmarkSpec, values: Row) -> dict[str, Any]:
    told = zip(spec.fields, values, strict=True)
    return {
        field.name: bool(value) if field.type is FieldType.BOOLEAN else value
        for field, value in told
        if value is not None
    }


def _warnings(question_id: str, questions: Sequence[_Question], *, is_cut: bool) -> Iterator[str]:
    if len(questions) > 1:
        yield f"{len(questions):,} questions have the id {shortened(question_id)!r}: runs sent it with different texts"
    if is_cut:
        yield f"only the first {SAME_ID_MAX:,} questions of this id are shown"


async def _unknown(session: SnapshotSession, reader: Reader, spec: BenchmarkSpec, question_id: str) -> NotFound:
    """The problem that there is no such question, naming the nearest of those next to it."""
    near: list[str] = []
    for before in (True, False):
        query = neighbours_query(reader.dialect, spec.name, question_id, _NEIGHBOURS, before=before)
        near += [name for (name,) in await session.fetch(query, "questions next to an id")]
    fault = await asyncio.to_thread(
        unknown_value, "question_id", question_id, near, what=f"question of {spec.name}", compared=len(near)
    )
    listed = f"GET /benchmarks/{spec.name}/questions lists them"
    fault = Fault(place=fault.place, detail=f"{fault.detail}; {listed}", nearest=fault.nearest)
    return NotFound(fault.detail, faults=[fault])
