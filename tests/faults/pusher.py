"""A client of a fault run, as a process: does one step of its plan after the other and tells its journal of each
acknowledgement, on disk, before it goes on. Killed and started again, it continues where the journal ends.

Ends with 0 when told to stop, with 1 where the service broke a promise; the last line of its output tells which.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, BinaryIO

import httpx

from tests.faults.workload import Expected, Plan, Step, Task, parts_of

PATIENCE_S = 60
"""How long one task may stay unanswered, however often it is tried: nothing is down for so long."""


class BrokenPromise(Exception):
    """The service answered what it must not."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """A line of a journal."""

    step: int
    key: str
    outcome: str
    tries: int


def read_journal(file: Path) -> Iterator[Acknowledgement]:
    """The acknowledgements in a journal. What was being written when the client was killed is none."""
    if file.exists():
        for line in file.read_bytes().split(b"\n")[:-1]:
            yield Acknowledgement(**json.loads(line))


class Journal:
    """A file of acknowledgements; what `tell` returned from is on disk."""

    def __init__(self, file: Path) -> None:
        whole = file.read_bytes().rpartition(b"\n")[:2] if file.exists() else (b"",)
        file.write_bytes(b"".join(whole))
        self.known = {line.key for line in read_journal(file)}
        self._stream: BinaryIO = file.open("ab", buffering=0)

    def tell(self, acknowledgement: Acknowledgement) -> None:
        """Write a line."""
        line = {name: getattr(acknowledgement, name) for name in ("step", "key", "outcome", "tries")}
        self._stream.write(json.dumps(line).encode() + b"\n")
        os.fsync(self._stream.fileno())
        self.known.add(acknowledgement.key)


class Client:
    """Does steps against several instances of the results service, each request at whichever is next."""

    def __init__(self, http: httpx.AsyncClient, urls: Sequence[str], journal: Journal) -> None:
        self._http = http
        self._urls = urls
        self._journal = journal
        self._turn = Random()

    async def do(self, step: Step) -> None:
        """Have all tasks of a step acknowledged."""
        tasks = [task for task in step.tasks if task.key not in self._journal.known]
        if step.is_batch:
            await self._push_batch(step, tasks)
        else:
            async with asyncio.TaskGroup() as group:
                for task in tasks:
                    group.create_task(self._do_one(step, task))

    async def _do_one(self, step: Step, task: Task) -> None:
        document = task.document
        match task.expected:
            case Expected.INVALIDATED | Expected.RESTORED:
                word = "invalidation" if task.expected is Expected.INVALIDATED else "restoration"
                body = json.dumps({"author": "fault run", "reason": task.key}).encode()
                answer, tries = await self._send(f"{document.path}/{word}", body)
                if answer.status_code not in (200, 201):
                    raise BrokenPromise(f"{task.key}: {answer.status_code} {answer.text}")
                outcome = str(task.expected)
            case Expected.FINISHED:
                answer, tries = await self._push_live(task)
                outcome = str(answer.json()["state"])
            case _:
                answer, tries = await self._send(f"/{document.kind}", document.body)
                outcome = outcome_of(answer.status_code, answer.json())
        self._take(step, task, outcome, answer.json(), tries)

    async def _push_live(self, task: Task) -> tuple[httpx.Response, int]:
        """Open a live run, send its parts in any order, finish it; each of these may have been done before."""
        path = task.document.path.replace("/standardized_output/", "/live_runs/")
        parts = list(enumerate(parts_of(task.document), start=1))
        self._turn.shuffle(parts)
        requests = [("/live_runs", task.document.body)]
        requests += [
            (f"{path}/parts/{number}", b'{"questions": [' + b",".join(questions) + b"]}") for number, questions in parts
        ]
        requests.append((f"{path}/finish", json.dumps({"parts": len(parts)}).encode()))
        tries = 0
        for path, body in requests:
            answer, tried = await self._send(path, body)
            tries += tried
            # One that is a result already is not opened again; to finish it once more is as good as the first time.
            is_result = path == "/live_runs" and answer.status_code == 409
            if answer.status_code not in (200, 201) and not is_result:
                raise BrokenPromise(f"{task.key}: {answer.status_code} {answer.text}")
        return answer, tries

    async def _push_batch(self, step: Step, tasks: list[Task]) -> None:
        tries = 0
        while tasks:
            body = b"".join(task.document.body + b"\n" for task in tasks)
            answer, tried = await self._send("/standardized_output/batch", body)
            tries += tried
            if answer.status_code != 200:
                raise BrokenPromise(f"batch {step.number}: {answer.status_code} {answer.text}")
            lines = [json.loads(line) for line in answer.content.split(b"\n") if line]
            if [line["line"] for line in lines] != list(range(1, len(tasks) + 1)):
                raise BrokenPromise(f"batch {step.number}: {len(lines)} lines for {len(tasks)}, or not in order")
            later = []
            for task, line in zip(tasks, lines, strict=True):
                if line["status"] == "failed":
                    later.append(task)
                else:
                    self._take(step, task, line["status"], line, tries)
            tasks = later

    def _take(self, step: Step, task: Task, outcome: str, answer: dict[str, Any], tries: int) -> None:
        if outcome not in _ALLOWED[task.expected] or (
            outcome == "created" and answer["sha256"] != task.document.sha256
        ):
            raise BrokenPromise(f"{task.key}, {task.document.name}: expected {task.expected}, not {outcome}: {answer}")
        self._journal.tell(Acknowledgement(step.number, task.key, outcome, tries))

    async def _send(self, path: str, body: bytes) -> tuple[httpx.Response, int]:
        """The first answer that is none of a service or a store that is away, and the number of tries."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE_S
        tries = 0
        while True:
            tries += 1
            try:
                answer = await self._http.post(self._turn.choice(self._urls) + path, content=body)
            except httpx.TransportError as error:
                failure = f"{type(error).__name__} {error}"
            else:
                if answer.status_code not in (503, 504):
                    return answer, tries
                failure = answer.text
                if answer.status_code == 503 and "retry-after" not in answer.headers:
                    raise BrokenPromise(f"503 without Retry-After: {failure}")
            if loop.time() > deadline:
                raise BrokenPromise(f"no answer in {PATIENCE_S} s to {path}: {failure}")
            await asyncio.sleep(self._turn.uniform(0.02, 0.3))


_ALLOWED = {
    Expected.STORED: {"created", "unchanged"},
    Expected.SHARED: {"created", "unchanged"},
    Expected.UNCHANGED: {"unchanged"},
    Expected.CONFLICT: {"conflict"},
    Expected.EITHER: {"created", "unchanged", "conflict"},
    Expected.INVALIDATED: {"invalidated"},
    Expected.RESTORED: {"restored"},
    Expected.FINISHED: {"finished"},
}


def outcome_of(status: int, answer: dict[str, Any]) -> str:
    """What an answer to a single push comes to, in a batch's words."""
    match status:
        case 201 if answer["status"] == "created" and not answer["unchanged"]:
            return "created"
        case 200 if answer["status"] == "unchanged" and answer["unchanged"]:
            return "unchanged"
        case 409 if answer["type"] == "urn:scorehouse:problem:result-conflict":
            return "conflict"
        case _:
            return f"{status} {answer}"


async def push(plan: Plan, urls: Sequence[str], folder: Path) -> None:
    """Do the plan's steps until there is a file `stop` in the folder above."""
    journal = Journal(folder / "journal")
    done = {line.step for line in read_journal(folder / "journal")}
    begun = max(done, default=0)
    async with httpx.AsyncClient(timeout=15, trust_env=False) as http:
        client = Client(http, urls, journal)
        for step in plan.steps():
            if step.number < begun:
                continue
            if step.number > begun and (folder.parent / "stop").exists():
                return
            await client.do(step)


def main() -> int:
    """The command: the plan by --seed and --client, and where to push."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", required=True)
    parser.add_argument("--client", type=int, required=True)
    parser.add_argument("--batches", action="store_true")
    parser.add_argument("--corrections", action="store_true")
    parser.add_argument("--live-runs", action="store_true")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("urls", nargs="+")
    told = parser.parse_args()
    plan = Plan(told.seed, told.client, told.batches, told.corrections, told.live_runs)
    code = 0
    try:
        asyncio.run(push(plan, told.urls, told.folder))
    except* BrokenPromise as broken:
        print(f"broken promise: {broken.exceptions[0]}")
        code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
