"""A harness's output of our own making, for tests that are not about its format: lm-evaluation-harness, version 0.4."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

TIME = "2026-01-02T03:04:05Z"
"""When the runs of `write_outputs` began."""
_UNIX = 1767323045.0
_STAMP = "2026-01-02T03-04-05.000000"


def lm_eval_files(
    scores: Mapping[str, Iterable[float]], *, model: str = "org/model", stated: float | None = None
) -> dict[str, bytes]:
    """Results and samples by name: of each task these scores, and as its accuracy their mean or what is `stated`."""
    results, files = {}, {}
    for task, of_task in scores.items():
        given = list(of_task)
        mean = sum(given) / len(given)
        results[task] = {"alias": task, "acc,none": mean if stated is None else stated, "acc_stderr,none": "N/A"}
        files[f"samples_{task}_{_STAMP}.jsonl"] = b"".join(
            json.dumps(
                {
                    "doc_id": number,
                    "doc": {"question": f"What is {number} of {task}?", "choices": ["one", "two"], "answer": 0},
                    "target": "0",
                    "arguments": {"gen_args_0": {"arg_0": "…", "arg_1": " one"}},
                    "resps": [[["-0.5", "False"]], [["-1.5", "False"]]],
                    "filtered_resps": [["-0.5", "False"], ["-1.5", "False"]],
                    "filter": "none",
                    "metrics": ["acc"],
                    "doc_hash": f"{task}{number}",
                    "prompt_hash": "p",
                    "target_hash": "t",
                    "acc": score,
                }
            ).encode()
            + b"\n"
            for number, score in enumerate(given)
        )
    head = {
        "results": results,
        "configs": {task: {"task": task, "num_fewshot": 0, "metric_list": [{"metric": "acc"}]} for task in scores},
        "versions": dict.fromkeys(scores, 1),
        "n-shot": dict.fromkeys(scores, 0),
        "n-samples": {task: {"original": len(list(of)), "effective": len(list(of))} for task, of in scores.items()},
        "config": {"model": "hf", "model_args": f"pretrained={model}"},
        "date": _UNIX,
        "lm_eval_version": "0.4.9",
        "model_name": model,
    }
    return {f"results_{_STAMP}.json": json.dumps(head).encode(), **files}


def write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    """The files, in a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder
