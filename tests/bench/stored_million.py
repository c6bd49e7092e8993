"""How quickly lists, single results and pickers are answered over a million stored results.

    python -m tests.bench.stored_million [--results 1000000] [--calls 40]

The results are written into an embedded mongod as the service itself would write them, then the service is started on
them and asked over HTTP, one question after the other.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pymongo

from results_service.documents import envelope_document
from results_service.intake import NewResult
from results_service.listing import list_indexes
from shared.compression import compress
from shared.results import ResultKind, ResultSort
from shared.submission import Envelope
from tests.bench.figures import Figure, limited, print_figures
from tests.bench.servers import mongod, results_service

FIRST = datetime(2024, 1, 1, tzinfo=UTC)
EVERY_S = 60
MODELS, BENCHMARKS, SOURCES, TOKENIZERS = 15, 30, 20, 5
LIST_LIMIT_MS, DETAIL_LIMIT_MS, MEGABYTE_LIMIT_MS = 20.0, 10.0, 50.0

Document = dict[str, Any]


def made_up(results: int, seed: int = 0) -> Iterator[Document]:
    """Envelopes as the service stores them, in the order of their arrival.

    Few benchmarks, models and sources have most of the results. Nine in ten arrive within a day, the others are filled
    in later; one in three names a tokenizer, one in two hundred was invalidated. Every run is its own.
    """
    chance = random.Random(seed)
    benchmarks = chance.choices([f"benchmark-{n}" for n in range(BENCHMARKS)], _weights(BENCHMARKS), k=results)
    models = chance.choices([f"vendor-{n % 5}/model-{n}" for n in range(MODELS)], _weights(MODELS), k=results)
    sources = chance.choices([f"team-{n}/harness" for n in range(SOURCES)], _weights(SOURCES), k=results)
    data = b'{"accuracy":0.731,"n":100,"categories":{"STEM":0.7,"Humanities":0.76}}'
    packed, digest = compress(data), sha256(data).hexdigest()
    for number, (benchmark, model, source) in enumerate(zip(benchmarks, models, sources, strict=True)):
        arrived = FIRST + timedelta(seconds=EVERY_S * number)
        late_s = chance.randrange(86_400) if chance.random() < 0.9 else chance.randrange(EVERY_S * number + 1)
        result = NewResult(
            kind=ResultKind.STANDARDIZED,
            envelope=Envelope(
                run_id=f"run-{number:07}",
                benchmark_name=benchmark,
                timestamp=(arrived - timedelta(seconds=late_s)).isoformat(),
                model_id=model,
                tokenizer_id=f"tokenizer-{number % TOKENIZERS}" if number % 3 == 0 else None,
                source=source,
            ),
            content=packed,
            size=len(data),
            sha256=digest,
            questions=100,
            summary={"accuracy": 0.731, "n": 100},
            warnings=(),
        )
        document = envelope_document(result, arrival=int(arrived.timestamp()) * 1_000_000) | {"settled": True}
        if number % 200 == 100:
            correction = {
                "action": "invalidated",
                "author": "a",
                "reason": "r",
                "at": "2026-01-01T00:00:00Z",
                "key": None,
            }
            document |= {"state": "invalidated", "history": [correction]}
        yield document


def _weights(count: int) -> list[float]:
    return [1 / (n + 1) for n in range(count)]


def fill(collection: "pymongo.collection.Collection[Document]", results: int) -> None:
    """Write that many results, then make the indexes, which is quicker than the other way around."""
    batch: list[Document] = []
    for document in made_up(results):
        batch.append(document)
        if len(batch) == 5000:
            collection.insert_many(batch, ordered=False)
            batch = []
    if batch:
        collection.insert_many(batch, ordered=False)
    collection.create_indexes(list_indexes())


@contextmanager
def filled_mongod(folder: Path, results: int) -> Iterator[str]:
    """An embedded mongod with that many results; its URL."""
    with mongod(folder) as url:
        with pymongo.MongoClient[Document](url) as client:
            fill(client["scorehouse"][ResultKind.STANDARDIZED], results)
        yield url


@contextmanager
def client_of_service(folder: Path, url: str) -> Iterator[httpx.Client]:
    """A client of the results service over that store."""
    with (
        results_service(folder, url) as service,
        httpx.Client(base_url=service.url, timeout=60, headers={"Accept-Encoding": "identity"}) as client,
    ):
        yield client


@dataclass(frozen=True, slots=True)
class Measured:
    """Milliseconds of each call of one kind."""

    what: str
    times_ms: list[float]
    limit_ms: float | None

    @property
    def p95_ms(self) -> float:
        """95th percentile."""
        return statistics.quantiles(self.times_ms, n=20)[-1]

    @property
    def figure(self) -> Figure:
        """As it is told."""
        what = f"{self.what} (median {statistics.median(self.times_ms):.1f} ms)"
        return limited(what, self.p95_ms, self.limit_ms, "ms")


def list_filters(chance: random.Random, results: int) -> dict[str, dict[str, str]]:
    """What a list is narrowed to, in words → parameters, values drawn anew each time."""

    def moment(second: float) -> str:
        return (FIRST + timedelta(seconds=int(second))).isoformat().replace("+00:00", "Z")

    span_s = EVERY_S * results
    benchmark = {"benchmark_name": f"benchmark-{chance.randrange(BENCHMARKS)}"}
    model = {"model_id": f"vendor-{(n := chance.randrange(MODELS)) % 5}/model-{n}"}
    day = chance.randrange(max(1, span_s - 86_400))
    since = chance.randrange(span_s // 2)
    return {
        "everything": {},
        "benchmark_name": benchmark,
        "model_id": model,
        "source": {"source": f"team-{chance.randrange(SOURCES)}/harness"},
        "run_id": {"run_id": f"run-{chance.randrange(results):07}"},
        "tokenizer_id": {"tokenizer_id": f"tokenizer-{chance.randrange(TOKENIZERS)}"},
        "state=valid": {"state": "valid"},
        "state=invalidated": {"state": "invalidated"},
        "a day": {"since": moment(day), "until": moment(day + 86_400)},
        "half of the time": {"since": moment(since), "until": moment(since + span_s // 2)},
        "benchmark and a day": benchmark | {"since": moment(day), "until": moment(day + 86_400)},
        "benchmark and model": benchmark | model,
        "benchmark and run": benchmark | {"run_id": f"run-{chance.randrange(results):07}"},
    }


NOT_PROMISED = ("benchmark and model",)
"""Of two frequent values the rarer one's index is gone through; how far depends on the two."""


def measure_lists(client: httpx.Client, results: int, calls: int) -> Iterator[Measured]:
    """Pages of 100 for each filter and order: the first, and one further on."""
    for what in list_filters(random.Random(0), results):
        for sort in ResultSort:
            chance = random.Random(1)
            times = []
            for _ in range(calls // 2):
                parameters = list_filters(chance, results)[what] | {"sort": sort.value}
                first_ms, page = timed(client, "/standardized_output", parameters)
                times.append(first_ms)
                cursor = json.loads(page)["next_cursor"]
                if cursor:
                    times.append(timed(client, "/standardized_output", parameters | {"cursor": cursor})[0])
            limit_ms = None if what in NOT_PROMISED else LIST_LIMIT_MS
            yield Measured(f"list of {what}, slowest order", times, limit_ms)


def measure_walk(client: httpx.Client, sort: ResultSort, pages: int) -> Measured:
    """Page after page of everything, 1,000 results each; the limit is that of pages of 100."""
    times = []
    parameters = {"sort": sort.value, "limit": "1000"}
    for _ in range(pages):
        took_ms, page = timed(client, "/standardized_output", parameters)
        times.append(took_ms)
        cursor = json.loads(page)["next_cursor"]
        if cursor is None:
            break
        parameters |= {"cursor": cursor}
    return Measured(f"pages of 1,000 of everything, {sort.value}", times, None)


def measure_details(client: httpx.Client, results: int, calls: int) -> Iterator[Measured]:
    """Single results: small ones drawn from all, and ones with a megabyte of data that are pushed for it."""
    chance = random.Random(2)
    wanted = {chance.randrange(results) for _ in range(calls * 5)}
    names = [
        json.loads(timed(client, "/standardized_output", {"run_id": f"run-{number:07}"})[1])["items"][0]["result_name"]
        for number in wanted
    ]
    yield Measured(
        "a small result", [timed(client, f"/standardized_output/{name}")[0] for name in names], DETAIL_LIMIT_MS
    )
    large = [client.post("/raw_input", content=megabyte(number)).raise_for_status().json() for number in range(calls)]
    for encoding in ("identity", "zstd"):
        headers = {"Accept-Encoding": encoding}
        times = [timed(client, f"/raw_input/{answer['result_name']}", headers=headers)[0] for answer in large]
        yield Measured(f"a result with 1 MB of data, {encoding}", times, MEGABYTE_LIMIT_MS)


def megabyte(number: int) -> bytes:
    """A raw input with a megabyte of data that compresses as answers of models do."""
    chance = random.Random(number)
    words = [f"{chance.getrandbits(30):x}" for _ in range(5000)]
    answers = [" ".join(chance.choices(words, k=12)) for _ in range(11_000)]
    data = json.dumps(answers)[:1_000_000].rpartition(",")[0] + "]"
    envelope = {"run_id": f"large-{number}", "benchmark_name": "mmlu", "timestamp": "2026-01-01T00:00:00Z"}
    envelope |= {"model_id": "gpt-4o", "source": "bench"}
    return json.dumps(envelope).encode()[:-1] + b',"data":' + data.encode() + b"}"


def measure_pickers(client: httpx.Client, calls: int) -> Iterator[Measured]:
    """Names with counts: computed, and as they are answered while the computed ones hold."""
    for path in ("/benchmarks", "/models", "/sources"):
        # Another limit is another question, so nothing is known yet.
        computed = [timed(client, path, {"limit": str(500 + call)})[0] for call in range(5)]
        yield Measured(f"{path}, computed", computed, None)
        timed(client, path)
        yield Measured(f"{path}, again", [timed(client, path)[0] for _ in range(calls)], LIST_LIMIT_MS)


def timed(
    client: httpx.Client, path: str, parameters: dict[str, str] | None = None, headers: dict[str, str] | None = None
) -> tuple[float, bytes]:
    """Milliseconds until the whole answer is there, and the answer as it came; anything but a 200 ends the program."""
    began = time.perf_counter()
    with client.stream("GET", path, params=parameters, headers=headers) as answer:
        body = b"".join(answer.iter_raw())
    took_ms = (time.perf_counter() - began) * 1000
    if answer.status_code != 200:
        sys.exit(f"{path} {parameters} answered {answer.status_code}: {body[:500]!r}")
    return took_ms, body


def main() -> int:
    """Fill, measure, print a table, and return 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--results", type=int, default=1_000_000, help="how many are stored")
    parser.add_argument("--calls", type=int, default=40, help="how many calls of each kind are timed")
    options = parser.parse_args()
    figures = measure(options.results, options.calls)
    print_figures(f"{options.results:,} stored results, 95th percentiles", figures)
    return 0 if all(figure.is_met for figure in figures) else 1


def measure(results: int = 1_000_000, calls: int = 40) -> list[Figure]:
    """Every figure of this module: 95th percentiles, of lists that of the slowest of the four orders."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with filled_mongod(folder, results) as url, client_of_service(folder, url) as client:
            lists = list(measure_lists(client, results, calls))
            others = [
                measure_walk(client, ResultSort.NEWEST, 50),
                measure_walk(client, ResultSort.FIRST_ARRIVED, 50),
                *measure_details(client, results, calls),
                *measure_pickers(client, calls),
            ]
    slowest: dict[str, Measured] = {}
    for listed in lists:
        if listed.what not in slowest or listed.p95_ms > slowest[listed.what].p95_ms:
            slowest[listed.what] = listed
    return [measured.figure for measured in (*slowest.values(), *others)]


if __name__ == "__main__":
    sys.exit(main())
