"""The questions of a benchmark, by the ids that they came under."""

import asyncio
from collections import Counter

from pydantic import TypeAdapter

from analysis_service.options import benchmark_in_path
from analysis_service.projection.question_keys import copy_in, hash_in
from analysis_service.queries.questions import keys_query, list_query
from analysis_service.reader import Reader
from shared.cursors import seal, unseal
from shared.questions import QuestionItem, QuestionListQuery, QuestionPage

_PLACE = TypeAdapter(tuple[str, int])


async def list_questions(reader: Reader, benchmark: str, query: QuestionListQuery) -> QuestionPage:
    """A page of a benchmark's questions, by the ids that they came under; those of no finished run are left out."""
    spec = benchmark_in_path(reader.registry, benchmark)
    list_of = [spec.name, "questions", query.prefix]
    after = unseal(query.cursor, list_of, _PLACE) if query.cursor is not None else None
    async with reader.snapshot() as snapshot:
        session = snapshot.session
        asked = Counter(run.set_no for run in snapshot.runs_of(spec.name).finished if run.set_no is not None)
        sets = await reader.question_sets.fetch(session, reader.dialect, spec.name, asked)
        rows = await session.fetch(
            list_query(reader.dialect, spec.name, query.prefix, after, query.limit + 1), "page of question ids"
        )
        page = rows[: query.limit]
        numbers = sorted({number for _, number in page})
        named = await session.fetch(keys_query(reader.dialect, spec.name, numbers), "question keys") if page else []

    keys: dict[int, str] = dict(named)

    def describe() -> list[QuestionItem]:
        items = []
        for question_id, number in page:
            times = sum(count for set_no, count in asked.items() if number in sets[set_no])
            if times:
                key = keys[number]
                items.append(
                    QuestionItem(question_id=question_id, content_hash=hash_in(key), copy_no=copy_in(key), runs=times)
                )
        return items

    return QuestionPage(
        benchmark=spec.name,
        items=await asyncio.to_thread(describe),
        next_cursor=seal(page[-1], list_of) if len(rows) > len(page) else None,
        data_version=snapshot.data_version([spec.name]),
    )
