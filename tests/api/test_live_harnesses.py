"""The harnesses themselves, pushed live: `make harnesses` installs them into a venv of their own.

SCOREHOUSE_HARNESS_PYTHON says which Python has inspect-ai, lm-eval and this project.
"""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from scorehouse.live_journal import journals
from scorehouse.spool import Spool
from shared.results import StoreStatus
from tests.api.conftest import Stack, until
from tests.api.test_live_push import import_files_of, live_runs, url_of

PYTHON = os.environ.get("SCOREHOUSE_HARNESS_PYTHON")
pytestmark = pytest.mark.skipif(not PYTHON, reason="no harnesses: make harnesses, then SCOREHOUSE_HARNESS_PYTHON")

_INSPECT = """
import asyncio, os, sys
from inspect_ai import Task, eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import match
from inspect_ai.solver import generate, solver

SLOW = set(map(int, os.environ.get("SLOW", "").split()))
BAD = set(map(int, os.environ.get("BAD", "").split()))

@solver
def at_their_own_pace():
    async def solve(state, generate):
        if state.sample_id in BAD:
            raise ValueError("this one fails")
        await asyncio.sleep(600 if state.sample_id in SLOW else 0.01 * (state.sample_id * 7 % 5))
        return state
    return solve

def answer(messages, *_):
    number = int(messages[-1].text.split()[2])
    output = ModelOutput.from_content("mockllm/model", f"ANSWER: {2 * number if number % 4 else 5}")
    output.usage = ModelUsage(input_tokens=12, output_tokens=3, total_tokens=15)
    return output

samples = [
    Sample(id=i, input=f"What is {i} + {i}?", target=str(2 * i), metadata={"level": f"Level {i % 3}", "subject": "A"})
    for i in (5, 3, 12, 1, 2, 10, 8, 4)
]
task = Task(dataset=MemoryDataset(samples, name="math500"), solver=[at_their_own_pace(), generate()],
            scorer=match(numeric=True), name="math500")
model = get_model("mockllm/model", custom_outputs=answer)
[log] = eval(task, model=model, log_dir=sys.argv[1], epochs=2, max_samples=4, display="none",
             fail_on_error=False if BAD else None)
print("status", log.status)
"""


class Running:
    """A harness at work."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def printed(self) -> str:
        """All that it printed, at its end."""
        out, _ = await self.process.communicate()
        return out.decode()


async def start(*words: str, folder: Path, url: str, **environment: str) -> Running:
    assert PYTHON is not None
    own = {"SCOREHOUSE_RESULTS_URL": url, "SCOREHOUSE_SPOOL_DIR": str(folder / "spool"), "HF_HUB_OFFLINE": "1"}
    own |= {"HF_HOME": str(folder / "hf"), "INSPECT_TELEMETRY": ""}
    process = await asyncio.create_subprocess_exec(
        *(PYTHON, *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={key: value for key, value in os.environ.items() if key != "INSPECT_TELEMETRY"} | own | environment,
        cwd=folder,
    )
    return Running(process)


def spool_of(folder: Path, url: str) -> Spool:
    return Spool(folder / "spool" / url.removeprefix("http://").replace(":", "_"))


@pytest.mark.parametrize("bad", ["", "3 12"], ids=["all well", "samples with errors"])
async def test_an_evaluation_of_inspect_is_the_same_live_and_imported(stack: Stack, tmp_path: Path, bad: str) -> None:
    url = url_of(stack)
    running = await start("-c", _INSPECT, "logs", folder=tmp_path, url=url, BAD=bad)
    told = await running.printed()
    assert "status success" in told, told
    assert f"pushes live to {url}" in told
    [(state, questions)] = (await live_runs(stack)).values()
    assert (state, questions) == ("finished", 16), told
    report = await import_files_of(stack, tmp_path / "logs")
    [run] = report.findings[0].runs
    assert (run.status, run.questions) == (StoreStatus.UNCHANGED, 16)
    assert (report.findings[0].agreeing > 0, report.findings[0].differing) == (True, 0)
    assert journals(spool_of(tmp_path, url)) == []


async def test_an_evaluation_that_is_cancelled_is_stored_as_its_log_has_it(stack: Stack, tmp_path: Path) -> None:
    url = url_of(stack)
    running = await start("-c", _INSPECT, "logs", folder=tmp_path, url=url, SLOW="12")

    async def some_are_there() -> bool:
        return any(questions >= 7 for _, questions in (await live_runs(stack)).values())

    await until(some_are_there)
    running.process.send_signal(signal.SIGINT)
    told = await running.printed()
    [(state, _)] = (await live_runs(stack)).values()
    assert state == "discarded", told
    report = await import_files_of(stack, tmp_path / "logs")
    [run] = report.findings[0].runs
    assert run.status is StoreStatus.UNCHANGED, told
    assert run.questions >= 7


async def test_what_ended_before_inspect_was_killed_is_sent_by_the_next_run(stack: Stack, tmp_path: Path) -> None:
    url = url_of(stack)
    running = await start("-c", _INSPECT, "logs", folder=tmp_path, url="http://127.0.0.1:9", SLOW="12")

    def ended() -> int:
        lines = [
            journal.read_bytes().count(b'"line":"ended"') for journal in journals(spool_of(tmp_path, "127.0.0.1:9"))
        ]
        return sum(lines)

    async def some_ended() -> bool:
        return ended() >= 7

    await until(some_ended)
    running.process.kill()
    await running.printed()
    kept = ended()
    # The same service under the address that it had.
    spool_of(tmp_path, "127.0.0.1:9").folder.rename(spool_of(tmp_path, url).folder)
    running = await start("-c", _INSPECT, "logs", folder=tmp_path, url=url)
    told = await running.printed()
    assert "was left by a process that ended early" in told
    assert sorted((await live_runs(stack)).values()) == [("finished", 16), ("live", kept)]


_RETRIED = """
import asyncio, os
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import match
from inspect_ai.solver import generate, solver

@solver
def fails_once():
    async def solve(state, generate):
        if os.environ.get("BAD") and state.sample_id == 5:
            await asyncio.sleep(0.5)
            raise ValueError("this one fails")
        return state
    return solve

def answer(*_):
    output = ModelOutput.from_content("mockllm/model", "ANSWER: x")
    output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
    return output

@task
def math500():
    samples = [Sample(id=i, input=f"{i} + {i}?", target="x", metadata={"level": 1}) for i in range(1, 7)]
    model = get_model("mockllm/model", custom_outputs=answer)
    return Task(dataset=samples, solver=[fails_once(), generate()], scorer=match(), model=model)
"""


async def test_an_evaluation_that_takes_over_samples_of_an_earlier_try_has_them_all(
    stack: Stack, tmp_path: Path
) -> None:
    url = url_of(stack)
    (tmp_path / "task.py").write_text(_RETRIED)
    inspect = ("-m", "inspect_ai._cli.main")
    end = ("--log-dir", "logs", "--display", "plain")
    running = await start(*inspect, "eval", "task.py", *end, folder=tmp_path, url=url, BAD="5")
    told = await running.printed()
    assert "is stored, imported from the log" in told, told
    [log] = (tmp_path / "logs").iterdir()
    told = await (await start(*inspect, "eval-retry", str(log), *end, folder=tmp_path, url=url)).printed()
    assert sorted((await live_runs(stack)).values())[1] == ("finished", 6), told
    report = await import_files_of(stack, tmp_path / "logs")
    assert [run.status for finding in report.findings for run in finding.runs] == [StoreStatus.UNCHANGED] * 2


async def test_a_run_of_lm_eval_is_the_same_live_and_imported(stack: Stack, tmp_path: Path) -> None:
    url = url_of(stack)
    rows = [{"question": f"Is {n} odd?", "choices": ["yes", "no"], "answer": n % 2} for n in range(40)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "mmlu_anatomy.yaml").write_text(
        f"task: mmlu_anatomy\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {tmp_path}/data.jsonl}}}}\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_text: '{{question}}'\ndoc_to_choice: choices\n"
        "doc_to_target: answer\nmetric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
        "metadata: {version: 1.0}\n"
    )
    words = ("run", "--model", "dummy", "--tasks", "mmlu_anatomy", "--include_path", ".", "--output_path", "out")
    running = await start("-m", "scorehouse", "lm-eval", "--", *words, folder=tmp_path, url=url)
    told = await running.printed()
    assert running.process.returncode == 0, told
    assert list((await live_runs(stack)).values()) == [("finished", 40)], told
    report = await import_files_of(stack, tmp_path / "out")
    [run] = report.findings[0].runs
    assert (run.status, run.benchmark_name) == (StoreStatus.UNCHANGED, "mmlu")


async def test_without_an_address_nothing_is_pushed(tmp_path: Path) -> None:
    running = await start("-c", _INSPECT, "logs", folder=tmp_path, url="", SCOREHOUSE_LIVE="")
    told = await running.printed()
    assert "status success" in told
    assert "scorehouse:" not in told
    assert not (tmp_path / "spool").exists()
