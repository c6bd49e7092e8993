"""Whatever stands at any place of a harness's files, reading ends with a report, and with no other fault."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from shared.formats.harness import NotReadable, ReadOptions
from shared.formats.json_reading import Unreadable
from shared.formats.known import find_all, reader_of
from shared.formats.standardize import Standardized
from shared.formats.tree import read_tree
from shared.problems import InvalidRequest
from shared.registry.load import load_registry
from shared.submission_stream import SubmissionStream
from tests.harness_files import lm_eval_files, write_files

REGISTRY = load_registry()
TIME = "2026-01-02T03:04:05Z"
ODD: tuple[Any, ...] = (
    *(None, True, -1, 1e308, 10**400, "", "\ud800", "N/A", math.nan, -math.inf),
    *([], [None], {}, {"a": None}, ["\ud800"], {"\ud800": 1}),
)

LM_EVAL: dict[str, Any] = {
    name: [json.loads(line) for line in content.splitlines()] if name.endswith("l") else json.loads(content)
    for name, content in lm_eval_files({"math_500": [1.0, 0.0]}).items()
}
LM_EVAL[next(iter(LM_EVAL))] |= {"group_subtasks": {"all": ["math_500"]}, "groups": {"all": {"acc,none": 0.5}}}

_SAMPLE = {"id": 1, "epoch": 1, "input": "1+1?", "target": "2", "metadata": {"level": 3}, "total_time": 1.5}
INSPECT = {
    "log.json": {
        "version": 2,
        "status": "success",
        "eval": {"task": "math500", "model": "m", "dataset": {"name": "d"}, "created": TIME, "config": {"epochs": 1}},
        "results": {
            "total_samples": 1,
            "scores": [{"name": "s", "scorer": "s", "metrics": {"accuracy": {"value": 1}}}],
        },
        "samples": [
            _SAMPLE
            | {
                "scores": {"s": {"value": "C", "answer": "2"}},
                "model_usage": {"m": {"input_tokens": 1, "output_tokens": 2}},
            }
        ],
    }
}

_NAME = {"name": "exact_match", "split": "test"}
HELM = {
    "run/run_spec.json": {
        "name": "mmlu:subject=anatomy,model=m",
        "scenario_spec": {"args": {"subject": "anatomy"}},
        "adapter_spec": {"method": "multiple_choice_joint", "model": "m"},
        "groups": ["mmlu"],
    },
    "run/scenario_state.json": {
        "adapter_spec": {"method": "multiple_choice_joint", "model": "m"},
        "request_states": [
            {
                "instance": {
                    "input": {"text": "?"},
                    "references": [{"output": {"text": "a"}, "tags": ["correct"]}],
                    "split": "test",
                    "id": "id1",
                },
                "train_trial_index": 0,
                "output_mapping": {"A": "a"},
                "result": {"success": True, "completions": [{"text": "A"}], "request_datetime": 1767323045},
            }
        ],
    },
    "run/stats.json": [{"name": _NAME, "count": 1, "mean": 1.0}],
    "run/per_instance_stats.json": [
        {"instance_id": "id1", "train_trial_index": 0, "stats": [{"name": _NAME, "mean": 1.0}]}
    ],
}

OPENCOMPASS = {
    "20260102_030405/results/m/aime2024.json": {
        "accuracy (2 runs average)": 50.0,
        "details": [{"example_abbr": "aime2024_0", "pred": ["1", "2"], "answer": ["1", "1"], "correct": [True, False]}],
    },
    "20260102_030405/predictions/m/aime2024.json": {"0": {"origin_prompt": "?", "prediction": "1", "res_length": 3}},
}

EVALSCOPE = {
    "20260102_030405/reports/m/math_500.json": {
        "name": "m@math_500",
        "dataset_name": "math_500",
        "model_name": "m",
        "metrics": [
            {
                "identity": {"name": "acc", "aggregation": "mean", "dimensions": {}},
                "score": 1.0,
                "num": 1,
                "categories": [{"name": ["default"], "score": 1.0, "subsets": [{"name": "x", "score": 1.0, "num": 1}]}],
            }
        ],
    },
    "20260102_030405/reviews/m/math_500_x.jsonl": [
        {
            "index": 0,
            "target": "1",
            "messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "1", "model": "m"}],
            "sample_score": {
                "score": {"value": {"acc": 1.0}, "main_score_name": "acc", "prediction": "1"},
                "sample_id": 0,
                "group_id": 0,
                "generation_index": 0,
                "sample_metadata": {"level": 3, "question": "?"},
            },
        }
    ],
}

SIMPLE_EVALS = {
    "math_m_20260102_030405_allresults.json": {
        "score": 1.0,
        "metrics": {"score:std": 0.0, "score": 1.0},
        "htmls": ["<h3>Results</h3>\n<p>Correct Answer: 1</p>\n<p>Extracted Answer: 1</p>\n<p>Score: 1.0</p>"],
        "convos": [[{"role": "user", "content": "?"}, {"role": "assistant", "content": "1"}]],
        "metadata": {"example_level_metadata": [{"score": 1.0, "prompt_id": "p", "usage": {"input_tokens": 1}}]},
    }
}

EVERY_EVAL_EVER = {
    "a.json": {
        "schema_version": "0.3.0",
        "evaluation_id": "x/m/1750000000",
        "retrieved_timestamp": "1750000000",
        "source_metadata": {"source_name": "x"},
        "eval_library": {"name": "l", "version": "1"},
        "model_info": {"id": "m"},
        "evaluation_results": [
            {
                "evaluation_name": "math500",
                "evaluation_result_id": "r1",
                "score_details": {"score": 100.0, "uncertainty": {"standard_error": {"value": 0.1}, "num_samples": 1}},
                "metric_config": {"lower_is_better": False, "min_score": 0, "max_score": 100},
            },
            {"evaluation_name": "other", "evaluation_result_id": "r2", "score_details": {"score": 0.5}},
        ],
    },
    "a_samples.jsonl": [
        {
            "evaluation_name": "math500",
            "sample_id": "1",
            "evaluation_result_id": "r1",
            "input": {"raw": "?", "reference": ["1"]},
            "output": {"raw": ["1"]},
            "evaluation": {"score": 100.0},
            "token_usage": {"input_tokens": 1},
            "performance": {"latency_ms": 1.0},
            "metadata": {"level": "3"},
        }
    ],
}


def places(value: Any) -> Iterator[tuple[str | int, ...]]:
    """The path of each value in a document."""
    yield ()
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in members:
        yield from ((key, *rest) for rest in places(inner))


def replaced(document: Any, place: tuple[str | int, ...], by: Any) -> Any:
    """The document with another value at a place."""
    if not place:
        return by
    copy = document.copy()
    copy[place[0]] = replaced(document[place[0]], place[1:], by)
    return copy


def encode(name: str, document: Any) -> bytes:
    if name.endswith(".jsonl") and isinstance(document, list):
        return b"".join(json.dumps(line).encode() + b"\n" for line in document)
    return json.dumps(document).encode()


def import_all(folder: Path) -> tuple[int, int]:
    """How many rows are taken, and how many results are what a POST takes."""
    rows = results = 0
    for finding in find_all(read_tree(folder)):
        options = ReadOptions(model_id="m")
        try:
            runs = reader_of(finding).read(finding, options)
            plan = Standardized(finding, runs, digest="d" * 64, registry=REGISTRY, options=options)
        except (NotReadable, Unreadable) as error:
            str(error).encode()
            continue
        for result in plan.results:
            stream = SubmissionStream(with_questions=True, registry=REGISTRY)
            for piece in result.body():
                stream.feed(piece)
            stream.finish()
            rows += result.taken
            results += 1
        told = (plan.compare(), plan.ledger.left, plan.ledger.refused, plan.ledger.warnings, plan.incomplete)
        repr(told).encode()
    return rows, results


@pytest.mark.parametrize(
    "files",
    [LM_EVAL, INSPECT, HELM, OPENCOMPASS, EVALSCOPE, SIMPLE_EVALS, EVERY_EVAL_EVER],
    ids=lambda files: next(iter(files)),
)
def test_whatever_stands_somewhere_nothing_breaks(tmp_path: Path, files: Mapping[str, Any]) -> None:
    whole = {name: encode(name, document) for name, document in files.items()}
    write_files(tmp_path, whole)
    assert import_all(tmp_path)[0] > 0, "nothing of what stands here in full is taken"
    for name, document in files.items():
        for number, place in enumerate(places(document)):
            for value in ODD[number % 2 :: 2]:
                (tmp_path / name).write_bytes(encode(name, replaced(document, place, value)))
                try:
                    import_all(tmp_path)
                except InvalidRequest as problem:
                    raise AssertionError(f"one value refuses a whole result: {place} {value!r}: {problem}") from problem
                except Exception as error:
                    raise AssertionError(f"{name}: {place} {value!r}") from error
        (tmp_path / name).write_bytes(whole[name])
