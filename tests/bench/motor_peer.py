"""What the bare driver does: Motor into a plain collection, with majority and journal.

    python -m tests.bench.motor_peer URL insert_one|insert_many --count 6000

insert_one: 64 tasks, each its next document when the former is acknowledged; documents like those of `load.py`.
insert_many: a document a question, 5,700 at a time. Prints the seconds as JSON.
"""

import argparse
import asyncio
import json
import time
from typing import Any
from uuid import uuid4

import uvloop
from motor.motor_asyncio import AsyncIOMotorClient

from tests.bench.load import document

TASKS = 64
QUESTIONS = 10
MANY = 5700


async def insert_one(collection: Any, count: int) -> float:
    """Seconds for `count` documents from 64 tasks."""
    documents = iter([{"_id": f"{number}", **document(f"run-{number}", QUESTIONS)} for number in range(count)])

    async def insert_next() -> None:
        for item in documents:
            await collection.insert_one(item)

    began = time.perf_counter()
    await asyncio.gather(*(insert_next() for _ in range(TASKS)))
    return time.perf_counter() - began


async def insert_many(collection: Any, count: int) -> float:
    """Seconds for `count` questions, a document each."""
    run = document("run", MANY)
    envelope = {key: value for key, value in run.items() if key != "data"}
    groups = [
        [{**envelope, "run_id": f"run-{start}", **question} for question in run["data"]["questions"][: count - start]]
        for start in range(0, count, MANY)
    ]
    began = time.perf_counter()
    for group in groups:
        await collection.insert_many(group)
    return time.perf_counter() - began


async def measure(url: str, how: str, count: int) -> float:
    """Seconds, on a collection of its own that is dropped afterwards."""
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(url, w="majority", journal=True)
    collection = client["peer"][uuid4().hex]
    try:
        await collection.insert_one({})
        return await (insert_one if how == "insert_one" else insert_many)(collection, count)
    finally:
        await collection.drop()
        client.close()


def main() -> None:
    """Insert, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("url")
    parser.add_argument("how", choices=["insert_one", "insert_many"])
    parser.add_argument("--count", type=int, default=6000)
    options = parser.parse_args()
    print(json.dumps({"seconds": uvloop.run(measure(options.url, options.how, options.count))}))


if __name__ == "__main__":
    main()
