"""Harnesses' output pushed and watched, by real commands to a real service. The last need SCOREHOUSE_REAL_DATA."""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymongo
import pytest

from shared.imports import ImportReport
from tests.end_to_end.test_spool import Service, wait_for
from tests.harness_files import lm_eval_files, write_files
from tests.real_data import REAL_DATA, needs_real_data

LIMIT_S = 120
OUTPUTS = 60


@pytest.fixture
def service(mongo_url: str, mongo_database: str, tmp_path: Path) -> Iterator[Service]:
    running = Service(mongo_url, mongo_database, tmp_path)
    running.start()
    yield running
    running.kill()


class Command:
    """One `scorehouse` command at work."""

    def __init__(self, service: Service, folder: Path, *words: object, **environment: str) -> None:
        self._out, self._err = folder / f"{words[0]}.out", folder / f"{words[0]}.err"
        command = [sys.executable, "-m", "scorehouse", *map(str, words)]
        environment |= {"SCOREHOUSE_RESULTS_URL": service.url, "XDG_STATE_HOME": str(folder / "state")}
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=out, stderr=err)

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def end(self) -> int:
        return self.process.wait(LIMIT_S)


def outputs(folder: Path, number: int = OUTPUTS) -> Path:
    for index in range(number):
        scores = random.Random(index).choices([0.0, 1.0], k=30)
        write_files(folder / f"{index:03}", lm_eval_files({"math_500": scores}, model=f"org/model-{index}"))
    return folder


class Store:
    """What the service has stored."""

    def __init__(self, client: "pymongo.MongoClient[dict[str, Any]]", database: str) -> None:
        self._database = client[database]

    def count(self, kind: str = "standardized_output") -> int:
        return self._database[kind].count_documents({})


@pytest.fixture
def store(mongo_client: "pymongo.MongoClient[dict[str, Any]]", mongo_database: str) -> Store:
    return Store(mongo_client, mongo_database)


def test_a_push_whose_service_is_killed_and_comes_back_stores_everything_once(
    service: Service, store: Store, tmp_path: Path
) -> None:
    folder = outputs(tmp_path / "out")
    push = Command(service, tmp_path, "push", folder, "--jobs", "2", "--report", tmp_path / "report.json")
    wait_for(lambda: store.count() >= 3, "some to be stored")
    service.kill()
    assert push.process.poll() is None
    service.start()
    assert push.end() == 0, push.out + push.err
    assert "trying again for up to 60 s" in push.err
    assert "the service answers again" in push.err
    assert (store.count(), store.count("raw_input")) == (OUTPUTS, OUTPUTS)
    report = ImportReport.model_validate_json((tmp_path / "report.json").read_bytes())
    assert (len(report.findings), report.complete) == (OUTPUTS, True)
    assert sum(finding.rows_taken for finding in report.findings) == OUTPUTS * 30

    again = Command(service, tmp_path, "push", folder)
    assert again.end() == 0
    assert again.out.endswith(f"{OUTPUTS} runs of harnesses: 0 stored, {OUTPUTS} unchanged\n")
    assert store.count() == OUTPUTS


def test_a_key_that_is_not_known_ends_a_large_upload_with_a_sentence(
    mongo_url: str, mongo_database: str, store: Store, tmp_path: Path
) -> None:
    class Guarded(Service):
        def __init__(self) -> None:
            super().__init__(mongo_url, mongo_database, tmp_path)
            self._environment |= {"AUTH": "keys", "API_KEYS_FILE": str(tmp_path / "keys.toml")}

    service = Guarded()
    made = Command(
        service, tmp_path, "keys", "create", "ci", "--file", tmp_path / "keys.toml", "--scope", "results:write"
    )
    assert made.end() == 0, made.err
    service.start()
    folder = tmp_path / "out"
    write_files(folder, lm_eval_files({"math_500": [1.0, 0.0]}))
    with next(folder.glob("samples*")).open("ab") as samples:  # more than lies in the buffers on the way
        samples.write(b"".join(os.urandom(500).hex().encode() + b"\n" for _ in range(40_000)))
    for key in ("", "wrong"):
        push = Command(service, tmp_path, "push", folder, "--patience", "5", SCOREHOUSE_API_KEY=key)
        assert push.end() == 1
        assert "API key" in push.err, push.err
        assert "trying again" not in push.err
    assert store.count() == 0
    right = Command(service, tmp_path, "push", folder, SCOREHOUSE_API_KEY=made.out.strip())
    assert right.end() == 1  # for the rows that are none
    assert store.count() == 1, right.out + right.err
    service.kill()


def test_a_watcher_pushes_what_comes_through_restarts_of_everything(
    service: Service, store: Store, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    quick = ("watch", folder, "--every", "0.1", "--settle", "0.2")
    watch = Command(service, tmp_path, *quick)
    wait_for(lambda: "watching" in watch.out, "the watcher to begin")
    outputs(folder, 3)
    wait_for(lambda: store.count() == 3, "three to be stored")

    print("# The service is away when the fourth comes.")
    service.kill()
    write_files(folder / "later", lm_eval_files({"aime24": [1.0]}))
    wait_for(lambda: "trying again until it answers" in watch.out, "the watcher to notice")
    service.start()
    wait_for(lambda: store.count() == 4, "the fourth to be stored")
    wait_for(lambda: "later/results" in watch.out, "it to be told")

    print("# The watcher is killed, and started again: what it pushed it pushes no more.")
    watch.process.kill()
    watch.end()
    write_files(folder / "last", lm_eval_files({"math_500": [0.0]}, model="last"))
    watch = Command(service, tmp_path, *quick)
    wait_for(lambda: store.count() == 5, "the fifth to be stored")
    wait_for(lambda: "last/results" in watch.out, "it to be told")
    watch.process.terminate()
    assert watch.end() == 0
    lines = watch.out.splitlines()
    assert len(lines) == 3, lines
    assert "out/last/results" in lines[1]

    once = Command(service, tmp_path, "watch", folder, "--once")
    assert (once.end(), once.out) == (0, "")


@needs_real_data
def test_real_results_of_all_harnesses_in_full(service: Service, store: Store, tmp_path: Path) -> None:
    native = REAL_DATA / "native"
    push = Command(service, tmp_path, "push", native, "--report", tmp_path / "report.json")
    assert push.end() == 0, push.out + push.err
    print(push.out)
    report = ImportReport.model_validate_json((tmp_path / "report.json").read_bytes())
    assert report.complete
    harnesses = {finding.format for finding in report.findings}
    assert harnesses == {"lm-eval", "inspect_ai", "helm", "evalscope", "every_eval_ever"}
    for finding in report.findings:
        assert finding.runs, finding.place
        assert (finding.rows_refused, finding.differing) == (0, 0), finding.place
        for run in finding.runs:
            assert run.status in ("created", "unchanged"), run
    for harness in harnesses - {"every_eval_ever"}:  # whose figures there are aggregates alone
        assert sum(finding.rows_taken for finding in report.findings if finding.format == harness) > 0, harness
        assert sum(finding.agreeing for finding in report.findings if finding.format == harness) > 0, harness
    assert store.count() == len({run.result_name for finding in report.findings for run in finding.runs})

    before = store.count(), store.count("raw_input")
    again = Command(service, tmp_path, "push", native)
    assert again.end() == 0
    runs = sum(len(finding.runs) for finding in report.findings)
    assert again.out.endswith(f"{runs:,} runs of harnesses: 0 stored, {runs:,} unchanged\n")
    assert (store.count(), store.count("raw_input")) == before


@needs_real_data
def test_a_real_log_that_comes_is_pushed(service: Service, store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    watch = Command(service, tmp_path, "watch", folder, "--every", "0.1", "--settle", "0.3")
    wait_for(lambda: "watching" in watch.out, "the watcher to begin")
    log = min((REAL_DATA / "native" / "inspect_ai").rglob("*.eval"))
    shutil.copy(log, folder)
    wait_for(lambda: log.name in watch.out, "the log to be pushed")
    watch.process.terminate()
    assert watch.end() == 0
    assert store.count() > 0
    [memory] = (tmp_path / "state").rglob("*.jsonl")
    assert json.loads(memory.read_text())["place"] == f"logs/{log.name}"
