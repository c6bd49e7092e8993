"""Files as lm-evaluation-harness writes them, and what is read of them."""

import hashlib
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared.formats.harness import Finding, HarnessRun, Ledger, ReadOptions, Sample, Stated, Task
from shared.formats.lm_eval import LM_EVAL
from shared.formats.tree import read_tree

DATE = "2025-03-04T05-06-07.123456"
MODEL = {"model": "hf", "model_args": "pretrained=acme/tiny-1,dtype=float16"}


def hashed(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def row(number: int, **fields: Any) -> dict[str, Any]:
    """A line of samples of a generation task, with one metric."""
    doc = fields.pop("doc", {"question": f"What is {number} + {number}?", "level": number % 3, "answer": 2 * number})
    prompt = f"Q: {number}"
    line = {
        "doc_id": number,
        "doc": doc,
        "target": str(2 * number),
        "arguments": {"gen_args_0": {"arg_0": prompt, "arg_1": {"until": ["\n"]}}},
        "resps": [[f"It is {2 * number}."]],
        "filtered_resps": [str(2 * number)],
        "filter": "none",
        "metrics": ["exact_match"],
        "doc_hash": hashed(doc),
        "prompt_hash": hashed(prompt),
        "target_hash": hashed(str(2 * number)),
        "exact_match": 1.0,
        **fields,
    }
    return {name: value for name, value in line.items() if value is not None}


def choice_row(likelihoods: Sequence[float], target: str, texts: Sequence[str] = (), **fields: Any) -> dict[str, Any]:
    """A line of samples of a multiple-choice task."""
    texts = texts or ["A", "B", "C", "D"][: len(likelihoods)]
    pairs = [[str(value), "False"] for value in likelihoods]
    return row(
        fields.pop("number", 1),
        target=target,
        arguments={f"gen_args_{at}": {"arg_0": "Q", "arg_1": f" {text}"} for at, text in enumerate(texts)},
        resps=[[pair] for pair in pairs],
        filtered_resps=pairs,
        **{"metrics": ["acc"], "acc": 1.0, "exact_match": None, **fields},
    )


def results(tasks: dict[str, dict[str, Any]], **members: Any) -> dict[str, Any]:
    """A results file of v0.4."""
    return {
        "results": {task: {"alias": task, **figures} for task, figures in tasks.items()},
        "group_subtasks": {task: [] for task in tasks},
        "configs": {task: {"task": task, "output_type": "generate_until"} for task in tasks},
        "versions": dict.fromkeys(tasks, 2.0),
        "n-shot": dict.fromkeys(tasks, 5),
        "higher_is_better": {},
        "n-samples": {},
        "config": MODEL,
        "git_hash": "0a1b2c3",
        "date": 1741064767.123456,
        "lm_eval_version": "0.4.8",
        "model_name": "acme/tiny-1",
        **members,
    }


def write(path: Path, content: Any) -> Path:
    """A file: JSON lines of a list, text and bytes as they are, anything else as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, list):
        content = "".join(f"{json.dumps(line)}\n" for line in content)
    if isinstance(content, dict):
        content = json.dumps(content, indent=2)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def find(folder: Path) -> list[Finding]:
    return list(LM_EVAL.find(read_tree(folder)))


def read(folder: Path, **options: str) -> HarnessRun:
    (finding,) = find(folder)
    (run,) = LM_EVAL.read(finding, ReadOptions(**options))
    return run


def samples(task: Task, ledger: Ledger | None = None) -> list[Sample]:
    assert task.samples is not None
    return list(task.samples(ledger or Ledger()))


def read_rows(folder: Path, lines: Any, figures: dict[str, Any] | None = None, **members: Any) -> HarnessRun:
    """The run of one task, `sums`, with these lines as its samples."""
    write(folder / f"results_{DATE}.json", results({"sums": figures or {"exact_match,none": 1.0}}, **members))
    write(folder / f"samples_sums_{DATE}.jsonl", lines)
    return read(folder)


def recompute(run: HarnessRun, stated: Stated, task: Task) -> float:
    """A stated figure, out of the samples."""
    of_tasks = [
        [sample.metrics[stated.metric] for sample in samples(other) if stated.metric in sample.metrics]
        for other in run.tasks
        if other.names[0] in (stated.tasks or (task.names[0],))
    ]
    if stated.per_task:
        return statistics.fmean(map(statistics.fmean, of_tasks))
    numbers = [number for of_task in of_tasks for number in of_task]
    return statistics.fmean(numbers) if stated.kind == "mean" else statistics.stdev(numbers) / len(numbers) ** 0.5
