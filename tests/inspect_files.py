"""A finished evaluation of Inspect of our own making, as its hooks and its log tell of it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MODEL = "acme/gull-7b"
PLAN = {"steps": [{"solver": "generate"}], "config": {}}


def inspect_spec(ids: Sequence[int | str], *, epochs: int = 1, task: str = "math500", **changes: Any) -> dict[str, Any]:
    """What is known of an evaluation when it begins."""
    return {
        "eval_id": "ev1", "run_id": "r1", "task_id": "t1", "created": "2026-03-01T10:00:00+00:00", "task": task,
        "task_version": 2, "task_args": {}, "dataset": {"name": "acme/sums", "sample_ids": list(ids)}, "model": MODEL,
        "model_generate_config": {"temperature": 0.5}, "config": {"epochs": epochs, "epochs_reducer": ["mean"]},
        "packages": {"inspect_ai": "0.3.285"}, "scorers": [{"name": "match"}],
    } | changes  # fmt: skip


def inspect_sample(id_: int | str, *, epoch: int = 1, value: Any = "C", **changes: Any) -> dict[str, Any]:
    """A sample that has ended."""
    made = {
        "id": id_, "epoch": epoch, "input": f"What is {id_} + {id_}?", "target": f"twice {id_}",
        "output": {"completion": f"twice {id_}", "choices": [{"message": {"content": "…"}, "stop_reason": "stop"}]},
        "scores": {"match": {"value": value, "answer": f"twice {id_}"}},
        "metadata": {"level": 1 + len(str(id_)) % 5, "subject": "Algebra"},
        "model_usage": {MODEL: {"input_tokens": 10, "output_tokens": 4, "total_tokens": 14}}, "working_time": 0.125,
    } | changes  # fmt: skip
    return {key: value for key, value in made.items() if value is not None}


def write_inspect_log(
    file: Path, spec: dict[str, Any], samples: Sequence[dict[str, Any]], *, status: str = "success"
) -> Path:
    """The log of it, its samples in Inspect's order."""

    def order(sample: dict[str, Any]) -> tuple[int, str]:
        return sample["epoch"], sample["id"] if isinstance(sample["id"], str) else str(sample["id"]).zfill(20)

    expected = len(spec["dataset"]["sample_ids"]) * spec["config"]["epochs"]
    figures = {"accuracy": {"name": "accuracy", "value": 0.5, "params": {}}}
    results: dict[str, Any] = {"total_samples": expected, "completed_samples": expected}
    results["scores"] = [{"name": "match", "scorer": "match", "params": {}, "metrics": figures}]
    log = {"version": 2, "status": status, "eval": spec, "plan": PLAN, "results": results}
    file.write_text(json.dumps(log | {"samples": sorted(samples, key=order)}), encoding="utf-8")
    return file
