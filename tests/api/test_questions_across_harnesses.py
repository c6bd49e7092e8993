"""The same questions through two harnesses: one question each in the analysis, found by either harness's id."""

import json
from typing import Any

from tests.api.conftest import Stack
from tests.harness_files import TIME, lm_eval_files

QUESTION = "What is 0 of mmlu_anatomy?"
"""The first one of `lm_eval_files`."""


def inspect_log(model: str, answers: dict[str, str]) -> bytes:
    """A log of Inspect, with these answers by sample id to that question, whose first choice is right."""
    samples = [
        {
            "id": id_,
            "epoch": 1,
            "input": f"  {QUESTION}\n",
            "choices": ["one", "two"],
            "target": "A",
            "messages": [],
            "output": {"model": model, "choices": [], "completion": answer},
            "scores": {"choice": {"value": "C" if answer == "A" else "I", "answer": answer}},
            "metadata": {"subject": "anatomy"},
        }
        for id_, answer in answers.items()
    ]
    spec = {
        "eval_id": "eval1",
        "run_id": "run1",
        "created": TIME,
        "task": "inspect_evals/mmlu_0_shot",
        "task_id": "task1",
        "task_version": 1,
        "dataset": {"name": "cais/mmlu", "samples": len(samples)},
        "model": model,
        "config": {},
    }
    mean = sum(answer == "A" for answer in answers.values()) / len(answers)
    scores = [{"name": "choice", "scorer": "choice", "metrics": {"accuracy": {"name": "accuracy", "value": mean}}}]
    results = {"total_samples": len(samples), "completed_samples": len(samples), "scores": scores}
    log = {"version": 2, "status": "success", "eval": spec, "plan": {}, "results": results, "stats": {}}
    return json.dumps(log | {"samples": samples}).encode()


async def import_files(stack: Stack, files: dict[str, bytes]) -> dict[str, Any]:
    answer = await stack.results.post("/import", files=[("files", (name, body)) for name, body in files.items()])
    report: dict[str, Any] = answer.json()
    assert report["complete"], report
    return report


async def test_a_question_through_two_harnesses_is_one(stack: Stack) -> None:
    await import_files(stack, lm_eval_files({"mmlu_anatomy": [0.0, 1.0]}, model="org/first"))
    await import_files(stack, {"log.json": inspect_log("org/second", {"test/1": "A"})})
    await stack.settle()

    items = (await stack.analysis.get("/benchmarks/mmlu/questions")).json()["items"]
    shared = [item["question_id"] for item in items if item["runs"] == 2]
    assert shared == ["anatomy/mmlu_anatomy0", "test/1"]
    for id_ in shared:
        [question] = (await stack.analysis.get(f"/benchmarks/mmlu/questions/{id_}")).json()["questions"]
        found = {run["model"]: (run["source"], run["mean"]) for run in question["runs"]}
        assert found == {"org/first": ("lm-eval", 0.0), "org/second": ("inspect_ai", 1.0)}

    both = (await stack.analyze(benchmark="mmlu", level1="subject", by_model=False)).json()
    assert [(row["subject"], row["n"], row["n_questions"]) for row in both["rows"]] == [("anatomy", 3, 2)]
