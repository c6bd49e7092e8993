"""The group-bys that are asked, the client that asks them one after the other, and what their answers must be."""

import http.client
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from tests.bench.duckdb_peer import Cell
from tests.bench.mmlu import BENCHMARK, QUESTIONS_OF_SUBJECT, MadeUpMmlu

Request = dict[str, Any]

BY_MODEL: Request = {"benchmark": BENCHMARK, "level1": "category", "level2": "subject", "by_model": True}
"""Model × category × subject, the usual way to ask for it."""
THREE_LEVELS: Request = {"benchmark": BENCHMARK, "level1": "model", "level2": "category", "level3": "subject"}
"""The same rows, with each level named."""
ROWS = 15 * len(QUESTIONS_OF_SUBJECT)
DIFFERENT = 64


class Asker:
    """One client on one connection that stays open."""

    def __init__(self, port: int, path: str = "/analysis") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._path = path
        self._limit = ROWS

    def ask(self, request: Request) -> tuple[int, bytes]:
        """Status and body of the answer."""
        self._connection.request("POST", self._path, json.dumps(request), {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        return response.status, response.read()

    def ask_well(self, request: Request) -> bytes:
        """The body of an answer that must be a success."""
        status, answer = self.ask(request)
        if status != 200:
            sys.exit(f"{request} was answered {status}: {answer[:500]!r}")
        return answer

    def ask_anew(self, request: Request) -> tuple[float, bytes]:
        """Milliseconds until the answer was there, and its body; no two requests are the same to a cache of answers.

        Their `limit` differs, beyond the rows there are.
        """
        self._limit += 1
        body = {**request, "limit": self._limit}
        began = time.perf_counter()
        answer = self.ask_well(body)
        return (time.perf_counter() - began) * 1000, answer


def check_cells(answer: bytes, wanted: Sequence[Cell], what: str) -> None:
    """End the bench unless the answer's rows are the peer's cells: the same groups, counts, and means to 1e-9."""
    rows = json.loads(answer)["rows"]
    found = {(row["model"], row["category"], row["subject"]): row for row in rows}
    cells = {(model, category, subject): rest for model, category, subject, *rest in wanted}
    if found.keys() != cells.keys() or len(rows) != len(cells):
        sys.exit(f"{what}: {len(rows)} rows of {len(found)} groups, and the peer has {len(cells)}")
    for key, (count, mean, questions) in cells.items():
        row = found[key]
        if (row["n"], row["n_questions"]) != (count, questions) or not math.isclose(row["mean"], mean, abs_tol=1e-9):
            sys.exit(f"{what}: {row}, and the peer has {count} scored answers, mean {mean}, {questions} questions")


def different_requests(mmlu: MadeUpMmlu) -> list[Request]:
    """64 group-bys over latest runs, as a page of many people asks them: answers of 1 kB to more than 100 kB."""
    requests = [{"benchmark": BENCHMARK} | request for request in _different_requests(mmlu)]
    assert len(requests) == DIFFERENT
    assert len({json.dumps(request) for request in requests}) == DIFFERENT
    return requests


def _different_requests(mmlu: MadeUpMmlu) -> Iterator[Request]:
    categories = list(dict.fromkeys(mmlu.categories))
    for category in categories:
        yield {"level1": "subject", "filters": {"category": [category]}}
        yield {"level1": "subject", "filters": {"category": [category]}, "by_model": False}
        yield {"level1": "category", "level1_values": [category], "level2": "knowledge_source"}
    for model in mmlu.models:
        yield {"level1": "category", "level2": "subject", "models": [model]}
    for subject in list(QUESTIONS_OF_SUBJECT)[::4]:
        yield {"level1": "subject", "level1_values": [subject], "order_by": "-mean"}
    for policy in ("exclude", "wrong", "bounds"):
        for level in ("category", "knowledge_source", "model", "vendor", "family"):
            yield {"level1": level, "error_policy": policy}
    yield {"level1": "vendor", "level2": "category"}
    yield {"level1": "family", "level2": "subject", "by_model": False}
    yield {"level1": "run", "level2": "category"}
    yield {"level1": "category", "level2": "subject", "level3": "knowledge_source", "by_model": False}
    yield {"level1": "subject"}
    yield BY_MODEL
    yield {"level1": "knowledge_source", "level2": "category", "level3": "subject"}
