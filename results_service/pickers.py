"""Names for pickers: the benchmarks, models and sources that results are stored of, with how many.

Names and newest times take one jump in an index a name, counts take the index entries of the names on the page: about
0.2 s at a million results. An answer that took long is therefore given again for a while, ten times as long as it took
and `KEPT_S` at most, and whoever asks meanwhile waits for the same computation.
"""

import asyncio
import time
from dataclasses import dataclass

from pydantic import TypeAdapter
from pymongo import DESCENDING

from results_service.documents import result_name_of
from results_service.listing import INVALIDATED_KEYS, index_keys
from results_service.mongo import Document, Mongo
from results_service.read_time import ReadLimits, ReadTime
from shared.cursors import seal, unseal
from shared.results import ResultKind, ResultState, StoredName, StoredNamePage
from shared.timestamps import timestamp_of

KEPT_S = 5.0
_WORTH_KEEPING_S = 0.05
_KEPT_TIMES = 10
_KEPT_MOST = 100
_NAME = TypeAdapter(tuple[str])


@dataclass(slots=True)
class _Answer:
    coming: "asyncio.Task[StoredNamePage]"
    until: float = float("inf")


@dataclass(frozen=True, slots=True)
class _Question:
    kind: ResultKind
    field: str
    after: str
    limit: int


class Pickers:
    """Answers which names there are."""

    def __init__(self, mongo: Mongo, limits: ReadLimits) -> None:
        self._mongo = mongo
        self._limits = limits
        self._answers: dict[_Question, _Answer] = {}

    async def names(self, kind: ResultKind, picked: str, limit: int, cursor: str | None) -> StoredNamePage:
        """At most `limit` values of the field `picked`, in the order of their bytes, from `cursor` on.

        InvalidRequest for a limit or cursor that cannot be, TimeLimit. May be `KEPT_S` old.
        """
        self._limits.check_page(limit)
        after = "" if cursor is None else unseal(cursor, [kind.value, picked], _NAME)[0]
        question = _Question(kind, picked, after, limit)
        now = time.monotonic()
        known = self._answers.get(question)
        if known is None or known.until <= now:
            self._answers = {key: answer for key, answer in self._answers.items() if answer.until > now}
            known = _Answer(asyncio.create_task(self._timed(question)))
            if len(self._answers) < _KEPT_MOST:
                self._answers[question] = known
        return await asyncio.shield(known.coming)  # others wait for it too

    async def _timed(self, question: _Question) -> StoredNamePage:
        began = time.monotonic()
        kept_s = 0.0
        try:
            answer = await self._ask(question)
            took_s = time.monotonic() - began
            kept_s = min(_KEPT_TIMES * took_s, KEPT_S) if took_s > _WORTH_KEEPING_S else 0.0
        finally:
            known = self._answers.get(question)
            if known is not None and known.coming is asyncio.current_task():
                known.until = time.monotonic() + kept_s
        return answer

    async def _ask(self, question: _Question) -> StoredNamePage:
        reading = ReadTime(self._mongo, self._limits.timeout_s, "ask for fewer names with limit")
        async with reading.limited():
            newest = await self._newest(question, reading)
            names = list(newest)[: question.limit]
            invalidated = await self._invalidated(question, names, reading)
            items = [
                StoredName(
                    name=name,
                    results=await self._results(question, name, reading),
                    invalidated=invalidated.get(name, 0),
                    newest=timestamp_of(result_name_of(newest[name])),
                )
                for name in names
            ]
        more = len(newest) > len(names)
        cursor = seal([names[-1]], [question.kind.value, question.field]) if more else None
        return StoredNamePage(items=items, next_cursor=cursor)

    async def _newest(self, question: _Question, reading: ReadTime) -> dict[str, str]:
        """Name → the greatest `_id`, of one name more than are asked for."""
        order = {name: DESCENDING for name, _ in index_keys(question.field, by_arrival=False)}
        stages: list[Document] = [
            {"$match": {question.field: {"$gt": question.after}}},
            {"$sort": order},
            {"$group": {"_id": f"${question.field}", "newest": {"$first": "$_id"}}},
            {"$sort": {"_id": 1}},
            {"$limit": question.limit + 1},
        ]
        found = self._mongo.collection(question.kind).aggregate(stages, maxTimeMS=reading.left_ms())
        return {document["_id"]: document["newest"] for document in await found.to_list(None)}

    async def _invalidated(self, question: _Question, names: list[str], reading: ReadTime) -> dict[str, int]:
        if not names:
            return {}
        invalidated = {
            "state": ResultState.INVALIDATED.value,
            question.field: {"$gte": names[0], "$lte": names[-1]},
        }
        stages: list[Document] = [
            {"$match": invalidated},
            {"$group": {"_id": f"${question.field}", "count": {"$sum": 1}}},
        ]
        found = self._mongo.collection(question.kind).aggregate(
            stages, hint=dict(INVALIDATED_KEYS), maxTimeMS=reading.left_ms()
        )
        return {document["_id"]: document["count"] for document in await found.to_list(None)}

    async def _results(self, question: _Question, name: str, reading: ReadTime) -> int:
        return await self._mongo.collection(question.kind).count_documents(
            {question.field: name},
            hint=index_keys(question.field, by_arrival=False),
            maxTimeMS=reading.left_ms(),
        )
