"""How fast the analysis service takes a full results store into an empty database, and what readers notice of it."""

import csv
import gzip
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec

from shared.timestamps import canonical_timestamp
from tests.bench.group_bys import Asker
from tests.bench.servers import Service

PUSHED_AT_ONCE = 16
LIMIT_S = 1200
LOOK_EVERY_S = 0.05
REGISTRY = {
    "mmlu-pro": ("MMLU-Pro", {"category": "category", "src": "category"}),
    "gsm8k": ("GSM8K", {"answered": "boolean"}),
}
"""Title, fields and their types of the benchmarks that the real data has and the registry does not ship."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one reader met."""

    moment: float
    """Seconds since the epoch, when the answer was whole."""
    elapsed_ms: float
    status: int


def push(results: Service, documents: Iterable[bytes]) -> int:
    """Push documents in batches; how many there were."""
    count = 0
    with httpx.Client(base_url=results.url, timeout=120) as client:
        for batch in _batches(documents):
            answer = client.post("/standardized_output/batch", content=(line + b"\n" for line in batch))
            created = sum(json.loads(line)["status"] == "created" for line in answer.text.splitlines())
            if created != len(batch):
                sys.exit(f"{created} results of a batch of {len(batch)} were stored: {answer.text[:500]}")
            count += created
    return count


def _batches(documents: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    for document in documents:
        batch.append(document)
        if len(batch) == PUSHED_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def follow(analysis: Service, last: int) -> Iterator[tuple[float, int]]:
    """Moment and feed position, again and again, until the entry `last` is applied."""
    deadline = time.monotonic() + LIMIT_S
    with httpx.Client(base_url=analysis.url, timeout=30) as client:
        while True:
            feed = client.get("/health").json()["feed"]
            yield time.time(), feed["position"] or 0
            if (feed["position"] or 0) >= last:
                return
            if feed["stopped"] or time.monotonic() > deadline:
                sys.exit(f"the analysis service did not take all {last} results: {feed}")
            time.sleep(LOOK_EVERY_S)


def catch_up(analysis: Service, last: int) -> None:
    """Return when the entry `last` is applied."""
    for _ in follow(analysis, last):
        pass


@contextmanager
def readers(analysis: Service, bodies: Path, clients: int, folder: Path) -> Iterator[list[Reading]]:
    """So many clients that each ask ten times a second; the list has what they met after the end of the context."""
    told = folder / "readings.txt"
    command = [sys.executable, "-m", "tests.bench.readers", "paced", str(analysis.port), str(bodies)]
    found: list[Reading] = []
    with told.open("wb") as out:
        process = subprocess.Popen([*command, "--clients", str(clients)], stdin=subprocess.PIPE, stdout=out)
        try:
            yield found
        finally:
            process.communicate(timeout=60)
    if process.returncode:
        sys.exit(f"the readers ended with code {process.returncode}")
    for line in told.read_text(encoding="ascii").splitlines():
        moment, elapsed_ms, status = line.split()
        found.append(Reading(float(moment), float(elapsed_ms), int(status)))


def write_registry(folder: Path) -> None:
    """A registry file for each benchmark of the real data that does not ship."""
    folder.mkdir()
    for name, (title, fields) in REGISTRY.items():
        told = [f'name = "{name}"', f'title = {{ en = "{title}" }}', f'description = {{ en = "{title}" }}']
        for field, kind in fields.items():
            told += ["[[fields]]", f'name = "{field}"', f'type = "{kind}"', f'description = {{ en = "{field}" }}']
        (folder / f"{name}.toml").write_text("\n".join(told) + "\n", encoding="utf-8")


def real_documents(real_data: Path, copies: int) -> Iterator[tuple[bytes, int]]:
    """Each real run as often as wanted, under new names and a day apart, and how many answers it has."""
    for file in sorted((real_data / "runs").glob("*.ndjson.gz")):
        with gzip.open(file) as lines:
            runs = [_Document(line) for line in lines if line.strip()]
        for copy in range(copies):
            for run in runs:
                yield run.copy(copy), run.answers


class _Document:
    """A run, ready to be copied: all but name and time stays as its bytes."""

    def __init__(self, line: bytes) -> None:
        self._fields = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
        self._run_id = msgspec.json.decode(self._fields["run_id"], type=str)
        self._moment = datetime.fromisoformat(msgspec.json.decode(self._fields["timestamp"], type=str))
        self.answers = len(msgspec.json.decode(self._fields["data"], type=dict[str, list[msgspec.Raw]])["questions"])

    def copy(self, number: int) -> bytes:
        moment = (self._moment + timedelta(days=number)).isoformat()
        renamed = {"run_id": f"{self._run_id}-copy{number}", "timestamp": canonical_timestamp(moment)}
        return msgspec.json.encode(self._fields | renamed)


def check_real(analysis: Service, real_data: Path, copies: int) -> None:
    """End the bench unless every copy of every real run has its published count and mean."""
    asker = Asker(analysis.port)
    with (real_data / "expected_accuracy.csv").open(encoding="utf-8") as file:
        expected = {(row["benchmark"], row["run_id"]): row for row in csv.DictReader(file)}
    for benchmark in sorted({benchmark for benchmark, _ in expected}):
        request = {"benchmark": benchmark, "level1": "run", "runs": "all", "limit": 100_000}
        found = {_copied(row["run"], benchmark): row for row in json.loads(asker.ask_well(request))["rows"]}
        wanted = {run_id: row for (name, run_id), row in expected.items() if name == benchmark}
        if len(found) != len(wanted) * copies:
            sys.exit(f"{benchmark}: {len(found)} runs where {len(wanted) * copies} were pushed")
        for (run_id, copy), row in found.items():
            _check_run(f"{run_id}, copy {copy}", row, wanted[run_id])


def _copied(result_name: str, benchmark: str) -> tuple[str, str]:
    run_id, _, copy = result_name.split(f"-{benchmark}-", 1)[1].rpartition("-copy")
    return run_id, copy


def _check_run(what: str, found: dict[str, Any], wanted: dict[str, str]) -> None:
    if found["n"] != int(wanted["rows"]) or abs(found["mean"] - float(wanted["mean_score"])) > 1e-9:
        sys.exit(f"{what}: {found}, and what is published is {wanted}")
