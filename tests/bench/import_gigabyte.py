"""Importing a gigabyte of samples through `POST /import`: how long it takes, and the service's memory meanwhile."""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from scorehouse.client import AsyncScorehouse
from shared.formats.tree import File, read_tree
from tests.bench.figures import Figure, limited, print_figures
from tests.bench.servers import mongod, peak_memory_mb, results_service

SAMPLES_BYTES = 1_000_000_000
PEAK_LIMIT_MB = 300
_SUBJECTS = ("anatomy", "virology", "philosophy", "astronomy")


def main() -> int:
    """Print the figures; 1 if one is missed."""
    figures = measure()
    print_figures("Importing a gigabyte", figures)
    return int(not all(figure.is_met for figure in figures))


def measure(size: int = SAMPLES_BYTES) -> list[Figure]:
    """Time and memory of one import of `size` bytes of lm-evaluation-harness samples."""
    with TemporaryDirectory() as folder:
        rows = write_outputs(Path(folder) / "outputs", size)
        with mongod(Path(folder)) as mongo_url, results_service(Path(folder), mongo_url) as service:
            files = list(read_tree(Path(folder) / "outputs").values())
            began = time.perf_counter()
            taken = asyncio.run(_import(service.url, files))
            seconds = time.perf_counter() - began
            peak_mb = peak_memory_mb(service.pid)
    if taken != rows:
        sys.exit(f"{rows:,} samples were written, and {taken:,} imported")
    what = f"import of {size / 1e9:.3g} GB, {rows:,} samples, upload included ({size / seconds / 1e6:.0f} MB/s)"
    return [
        limited(what, seconds, None, "s"),
        limited("peak memory of the service meanwhile", peak_mb, PEAK_LIMIT_MB, "MB"),
    ]


async def _import(url: str, files: Sequence[File]) -> int:
    async with AsyncScorehouse(url) as house:
        report = await house.import_files(files)
    if not report.complete:
        sys.exit(report.model_dump_json(indent=1))
    return sum(finding.rows_taken for finding in report.findings)


def write_outputs(folder: Path, size: int) -> int:
    """Results and samples of MMLU's shape, of about `size` bytes; how many samples."""
    folder.mkdir()
    stamp = "2026-01-02T03-04-05.000000"
    tasks = [f"mmlu_{subject}" for subject in _SUBJECTS]
    rows = 0
    for task in tasks:
        with (folder / f"samples_{task}_{stamp}.jsonl").open("w", encoding="utf-8") as stream:
            while stream.tell() < size / len(tasks):
                stream.writelines(_sample(task, number) for number in range(rows, rows + 1000))
                rows += 1000
    of_task = {task: {"alias": task, "acc,none": 0.5, "acc_stderr,none": "N/A"} for task in tasks}
    head = {
        "results": of_task,
        "configs": {task: {"task": task, "metric_list": [{"metric": "acc"}]} for task in tasks},
        "versions": dict.fromkeys(tasks, 1),
        "n-shot": dict.fromkeys(tasks, 0),
        "config": {"model": "hf", "model_args": "pretrained=org/model"},
        "date": 1767323045.0,
        "lm_eval_version": "0.4.9",
        "model_name": "org/model",
    }
    (folder / f"results_{stamp}.json").write_text(json.dumps(head), encoding="utf-8")
    return rows


def _sample(task: str, number: int) -> str:
    question = f"Question {number} of {task}: which of these is it? " + "Some words of a question. " * 12
    row = {
        "doc_id": number,
        "doc": {"question": question, "choices": ["one", "two", "three", "four"], "answer": 0},
        "target": "0",
        "arguments": {f"gen_args_{n}": {"arg_0": question[:180], "arg_1": f" {n}"} for n in range(4)},
        "resps": [[["-0.5", "False"]], [["-1.5", "False"]], [["-2.5", "False"]], [["-3.5", "False"]]],
        "filtered_resps": [["-0.5", "False"], ["-1.5", "False"], ["-2.5", "False"], ["-3.5", "False"]],
        "filter": "none",
        "metrics": ["acc"],
        "doc_hash": sha256(f"{task}{number}".encode()).hexdigest(),
        "prompt_hash": "0" * 64,
        "target_hash": "1" * 64,
        "acc": float(number % 2),
    }
    return json.dumps(row) + "\n"


if __name__ == "__main__":
    sys.exit(main())
