"""lm-evaluation-harness: which files are its own, what a run was, and what is stated of it."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared.formats.harness import Finding, NotReadable, ReadOptions, Stated
from shared.formats.json_reading import Unreadable
from shared.formats.lm_eval import LM_EVAL, _model_id
from shared.formats.lm_eval_stated import read_groups
from shared.formats.tree import read_tree
from tests.lm_eval_files import DATE, MODEL, find, hashed, read, read_rows, recompute, results, row, samples, write
from tests.real_data import REAL_DATA, needs_real_data

# --- which files it knows


def paths(findings: Iterable[Finding]) -> list[list[str]]:
    return [[file.path for file in finding.files] for finding in findings]


def test_results_and_samples_of_one_date_are_one_finding(tmp_path: Path) -> None:
    other = "2025-03-04T09-00-00.000001"
    for date in (DATE, other):
        write(tmp_path / "acme__tiny-1" / f"results_{date}.json", results({"sums": {"exact_match,none": 1.0}}))
        write(tmp_path / "acme__tiny-1" / f"samples_sums_{date}.jsonl", [row(1)])
        write(tmp_path / "acme__tiny-1" / f"samples_not_in_results_{date}.jsonl", [row(1)])
    assert paths(find(tmp_path)) == [
        [
            f"acme__tiny-1/results_{date}.json",
            f"acme__tiny-1/samples_not_in_results_{date}.jsonl",
            f"acme__tiny-1/samples_sums_{date}.jsonl",
        ]
        for date in (DATE, other)
    ]


@pytest.mark.parametrize(
    ("content", "is_found"),
    [
        pytest.param(results({"sums": {"exact_match,none": 1.0}}), True, id="v0.4"),
        pytest.param(json.dumps(results({"sums": {}}), sort_keys=True), True, id="keys sorted"),
        pytest.param(json.dumps(results({"t": {"mae,none": float("inf")}})), True, id="Infinity"),
        pytest.param("\ufeff" + json.dumps(results({"sums": {}})), True, id="byte order mark"),
        pytest.param({"results": {"sums": {"acc": 1}}, "versions": {"sums": 0}, "config": MODEL}, True, id="v0.3"),
        pytest.param(
            {"results": {"sums": {}}, "versions": {}, "config_general": {}, "configs": {}}, False, id="lighteval"
        ),
        pytest.param({"config_general": {}, "results": {}, "versions": {}}, False, id="lighteval, as it writes"),
        pytest.param({"results": {"sums": {"acc": 1}}, "versions": {"sums": 0}}, False, id="no configuration"),
        pytest.param({"version": 2, "status": "success", "eval": {}, "results": {}}, False, id="inspect"),
        pytest.param({"results": [1], "versions": {}, "configs": {}}, False, id="results are a list"),
        pytest.param({"run_id": "r", "benchmark_name": "b", "timestamp": "t", "data": {}}, False, id="our own"),
        pytest.param({"results": {}, "versions": {}, "configs": {}}, False, id="of nothing"),
        pytest.param('{"results": {', False, id="broken"),
        pytest.param([row(1)], True, id="samples"),
        pytest.param(json.dumps([row(1), row(2)], indent=1), True, id="samples in a list"),
        pytest.param([{"index": 0, "doc": "x", "target": "A", "sample_score": {}}], False, id="lines of another"),
        pytest.param("", False, id="empty"),
    ],
)
def test_known_by_content(tmp_path: Path, content: Any, is_found: bool) -> None:
    write(tmp_path / "data.json", content)
    assert paths(find(tmp_path)) == ([["data.json"]] if is_found else [])


@pytest.mark.parametrize("name", ["results_{}.json", "data.json"])
@pytest.mark.parametrize(
    "samples_name", ["samples_sums_{}.jsonl", "samples_sums.jsonl", "acme__tiny_sums.jsonl", "x.json"]
)
def test_renamed_copies_are_the_same_run(tmp_path: Path, name: str, samples_name: str) -> None:
    lines = [row(1), row(2)]
    hashes = "".join(line["doc_hash"] + line["prompt_hash"] + line["target_hash"] for line in lines)
    content = results({"sums": {"exact_match,none": 1.0}}, task_hashes={"sums": hashed(hashes)})
    write(tmp_path / "a" / f"results_{DATE}.json", content)
    write(tmp_path / "a" / f"samples_sums_{DATE}.jsonl", lines)
    write(tmp_path / "b" / name.format(DATE), content)
    write(tmp_path / "b" / samples_name.format(DATE), lines)
    one, other = read(tmp_path / "a"), read(tmp_path / "b")
    assert [samples(task) for task in one.tasks] == [samples(task) for task in other.tasks]
    assert replace(one, tasks=()) == replace(other, tasks=())
    assert [replace(task, samples=None, files=()) for task in one.tasks] == [
        replace(task, samples=None, files=()) for task in other.tasks
    ]


def test_samples_that_could_be_of_two_runs_stay_alone(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        write(tmp_path / name, results({"sums": {"exact_match,none": 1.0}}))
    write(tmp_path / "samples_sums.jsonl", [row(1)])
    assert paths(find(tmp_path)) == [["a.json"], ["b.json"], ["samples_sums.jsonl"]]


def test_samples_that_have_a_run_are_not_mixed_with_a_copy(tmp_path: Path) -> None:
    write(tmp_path / f"results_{DATE}.json", results({"sums": {"exact_match,none": 1.0}}))
    write(tmp_path / f"samples_sums_{DATE}.jsonl", [row(1)])
    write(tmp_path / "samples_sums.jsonl", [row(1)])
    assert paths(find(tmp_path)) == [[f"results_{DATE}.json", f"samples_sums_{DATE}.jsonl"], ["samples_sums.jsonl"]]


def test_results_without_a_date_do_not_gather_samples_of_two_runs(tmp_path: Path) -> None:
    write(tmp_path / "data.json", results({"sums": {"exact_match,none": 1.0}, "more": {"exact_match,none": 1.0}}))
    names = [f"samples_more_{DATE}.jsonl", "samples_sums_2025-03-05T00-00-00.000001.jsonl"]
    for name in names:
        write(tmp_path / name, [row(1)])
    assert paths(find(tmp_path)) == [["data.json"], *([name] for name in names)]


def test_samples_of_v040_are_named_by_model_and_task(tmp_path: Path) -> None:
    write(
        tmp_path / "results.json", results({"sums": {"exact_match,none": 1.0}, "more_sums": {"exact_match,none": 1.0}})
    )
    write(tmp_path / "pretrained__acme__tiny_more_sums.jsonl", [row(1)])
    sums, more_sums = read(tmp_path).tasks
    assert sums.samples is None
    assert len(samples(more_sums)) == 1


def test_samples_without_results_need_a_model(tmp_path: Path) -> None:
    write(tmp_path / f"samples_sums_{DATE}.jsonl", [row(1)])
    with pytest.raises(NotReadable, match="model_id"):
        read(tmp_path)
    run = read(tmp_path, model_id="acme/tiny-1")
    (task,) = run.tasks
    assert (run.model_id, task.names, task.stated) == ("acme/tiny-1", ("sums",), ())
    assert [sample.score for sample in samples(task)] == [1.0]


def test_a_broken_results_file_is_told_of(tmp_path: Path) -> None:
    write(tmp_path / f"results_{DATE}.json", '{"results": {"sums": {"exact_match,none": 0.')
    with pytest.raises(Unreadable, match="is not JSON"):
        read(tmp_path)


def test_results_of_aliases_alone_hold_nothing(tmp_path: Path) -> None:
    write(tmp_path / "data.json", results({"group": {}, "sums": {"acc,none": "N/A"}}))
    with pytest.raises(NotReadable, match="neither samples"):
        read(tmp_path)


# --- the run


@pytest.mark.parametrize(
    ("members", "model"),
    [
        ({}, "acme/tiny-1"),
        ({"model_name": None}, "acme/tiny-1"),
        ({"model_name": None, "config": {"model": "vllm", "model_args": {"pretrained": "acme/b"}}}, "acme/b"),
        ({"model_name": None, "config": {"model": "openai", "model_args": "model=gpt-x,seed=1"}}, "gpt-x"),
        ({"model_name": None, "config": {"model": "hf", "model_args": "pretrained=a/b,peft=c/d"}}, "c/d"),
        ({"model_name": "x7k2m9qa", "config": {"model": "dummy", "model_args": ""}}, "dummy"),
        ({"model_name": "llama3.1", "config": {"model": "hf", "model_args": ""}}, "llama3.1"),
        ({"model_name": "/models/LLaMA/7B"}, "/models/LLaMA/7B"),
        ({"model_name": "/hub/models--acme--tiny-1/snapshots/0a1b2c"}, "acme/tiny-1"),
    ],
)
def test_model(tmp_path: Path, members: dict[str, Any], model: str) -> None:
    write(tmp_path / "data.json", results({"sums": {"acc,none": 1.0}}, **members))
    run = read(tmp_path)
    assert run.model_id == model
    assert any("path" in warning for warning in run.warnings) is model.startswith("/")
    assert read(tmp_path, model_id="better").model_id == "better"


@pytest.mark.parametrize(
    ("date", "name", "option", "timestamp"),
    [
        (1741064767.123456, "data.json", None, "2025-03-04T05:06:07.123456Z"),
        (1741064767, "data.json", "2020-01-01T00:00:00Z", "2025-03-04T05:06:07Z"),
        (None, f"results_{DATE}.json", None, "2025-03-04T05:06:07.123456Z"),
        (None, f"results_{DATE}.json", "2020-01-01T00:00:00Z", "2020-01-01T00:00:00Z"),
        (None, "results_2025-13-04T05-06-07.json", None, None),
        (None, "data.json", None, None),
        (1e300, "data.json", None, None),
    ],
)
def test_time(tmp_path: Path, date: float | None, name: str, option: str | None, timestamp: str | None) -> None:
    write(tmp_path / name, results({"sums": {"acc,none": 1.0}}, date=date))
    (finding,) = find(tmp_path)
    (run,) = LM_EVAL.read(finding, ReadOptions(timestamp=option))
    assert run.timestamp == timestamp
    assert any("zone" in warning for warning in run.warnings) is (
        date is None and option is None and timestamp is not None
    )


def test_configuration_tells_how_it_was_asked_and_no_secrets(tmp_path: Path) -> None:
    config = {
        "model": "local-completions",
        "model_args": "model=acme/tiny-1,api_key=s3,token=s3,hf_token=s3,add_bos_token=True,tokenizer=acme/t",
        "limit": 20.0,
        "fewshot_seed": 1234,
        "device": None,
    }
    configs = {name: {"task": name, "generation_kwargs": {"temperature": 0.0}} for name in ("a", "b")}
    write(
        tmp_path / "data.json",
        results(
            {"a": {"acc,none": 1.0}, "b": {"acc,none": 1.0}},
            config=config,
            configs=configs,
            task_hashes={"a": "f" * 64},
            chat_template="{% long %}",
            chat_template_sha="abc",
            **{"n-shot": {"a": 0, "b": 5}},
        ),
    )
    run = read(tmp_path)
    assert run.tokenizer_id == "acme/t"
    assert run.harness_version == "0.4.8"
    assert run.config == {
        "model": "local-completions",
        "model_args": {"model": "acme/tiny-1", "add_bos_token": "True", "tokenizer": "acme/t"},
        "limit": 20.0,
        "fewshot_seed": 1234,
        "git_hash": "0a1b2c3",
        "chat_template_sha": "abc",
        "num_fewshot": {"a": 0, "b": 5},
        "generation_kwargs": {"temperature": 0.0},
        "task_hashes": {"a": "f" * 16},
    }


def test_v03(tmp_path: Path) -> None:
    config = {"model": "hf-causal", "model_args": "pretrained=/x/7B", "num_fewshot": 8, "limit": None}
    rows = {"gsm8k": {"acc": 0.08, "acc_stderr": 0.007}, "lambada": {"ppl": 3653.5, "ppl_stderr": 197.0, "acc": 0.5}}
    write(tmp_path / "7B_gsm8k.json", {"results": rows, "versions": {"gsm8k": 0, "lambada": 1}, "config": config})
    run = read(tmp_path)
    assert (run.model_id, run.timestamp, run.config["num_fewshot"]) == ("/x/7B", None, 8)
    gsm8k, lambada = run.tasks
    assert (gsm8k.names, gsm8k.samples, gsm8k.metric, gsm8k.version) == (("gsm8k",), None, "acc", "0")
    assert gsm8k.stated == (Stated("acc", 0.08), Stated("acc", 0.007, "stderr"))
    assert lambada.metric == "acc"
    assert [stated.kind for stated in lambada.stated] == ["perplexity", "perplexity stderr", "mean"]


def test_names_of_a_task(tmp_path: Path) -> None:
    configs = {
        "mmlu_anatomy": {"dataset_path": "cais/mmlu", "dataset_name": "anatomy"},
        "own": {"dataset_path": "json", "dataset_name": None},
    }
    content = results(
        {"mmlu_anatomy": {"acc,none": 0.5}, "own": {"acc,none": 0.5}, "mmlu_stem": {"acc,none": 0.5}, "mmlu": {}},
        configs=configs,
        group_subtasks={"mmlu": ["mmlu_stem", "mmlu_other"], "mmlu_stem": ["mmlu_anatomy"], "mmlu_other": ["x"]},
    )
    write(tmp_path / "data.json", content)
    anatomy, own = read(tmp_path).tasks
    assert anatomy.names == ("mmlu_anatomy", "cais/mmlu:anatomy", "cais/mmlu", "mmlu_stem", "mmlu")
    assert anatomy.origin == {"task": "mmlu_anatomy", "subset": "anatomy", "group": "mmlu_stem"}
    assert own.names == ("own",)


# --- what is stated


def test_stated_figures_and_their_kinds(tmp_path: Path) -> None:
    metric_list = [
        {"metric": "acc", "aggregation": "mean"},
        {"metric": "f1"},
        {"metric": "own", "aggregation": "def macro(items):\n    return 1"},
    ]
    run = read_rows(
        tmp_path,
        [row(1)],
        {
            "name": "sums",
            "sample_len": 7,
            " ": " ",
            "acc,none": 0.5,
            "acc_stderr,none": 0.1,
            "f1,none": 0.25,
            "f1_stderr,none": 0.125,
            "own,none": 0.75,
            "own_stderr,none": "N/A",
            "late,none": 1,
            "broken,none": None,
        },
        configs={"sums": {"metric_list": metric_list}},
    )
    (task,) = run.tasks
    assert task.expected == 7
    assert task.stated == (
        Stated("acc,none", 0.5, "mean", count=7),
        Stated("acc,none", 0.1, "stderr", count=7),
        Stated("f1,none", 0.25, "f1", count=7),
        Stated("f1,none", 0.125, "f1 stderr", count=7),
        Stated("own,none", 0.75, "macro", count=7),
        Stated("late,none", 1.0, "mean", count=7),
    )


@pytest.mark.parametrize(("mean", "per_task"), [(0.8, False), (0.75, True), (0.123, False)])
def test_group_means_weighted_by_size_or_not(tmp_path: Path, mean: float, per_task: bool) -> None:
    tasks: dict[str, dict[str, Any]] = {
        "a": {"acc,none": 1.0, "acc_stderr,none": 0.0},
        "b": {"acc,none": 0.5, "acc_stderr,none": "N/A"},
        "other": {"f1,none": 0.5},
        "g": {"acc,none": mean, "acc_stderr,none": 0.1},
        "only_alias": {},
    }
    content = results(
        tasks,
        group_subtasks={"g": ["inner", "b"], "inner": ["a", "other"], "only_alias": ["a"], "a": []},
        **{"n-samples": {"a": {"original": 9, "effective": 3}, "b": {"original": 2, "effective": 2}}},
    )
    write(tmp_path / f"results_{DATE}.json", content)
    for task, scores in {"a": [1, 1, 1], "b": [1, 0]}.items():
        lines = [row(at, metrics=["acc"], acc=score, exact_match=None) for at, score in enumerate(scores)]
        write(tmp_path / f"samples_{task}_{DATE}.jsonl", lines)
    run = read(tmp_path)
    assert [task.names[0] for task in run.tasks] == ["a", "b", "other"]
    (group, error) = (stated for stated in run.tasks[0].stated if stated.tasks)
    assert group == Stated("acc,none", mean, "mean", name="g: acc,none", tasks=("a", "b"), per_task=per_task, count=5)
    assert (error.kind, error.value) == ("pooled stderr", 0.1)
    if mean != 0.123:
        assert recompute(run, group, run.tasks[0]) == pytest.approx(mean)


def test_groups_that_are_reached_by_very_many_ways_are_gone_through_once(tmp_path: Path) -> None:
    levels = 60  # 2^60 ways from the first to the last
    below = {f"{side}{level}": [f"a{level + 1}", f"b{level + 1}"] for level in range(levels) for side in "ab"}
    below |= {f"{side}{levels}": ["leaf", "a0"] for side in "ab"}
    assert read_groups({"group_subtasks": below}) == dict.fromkeys(below, ("leaf",))


def test_a_models_name_of_any_length_is_read_in_no_time() -> None:
    """A pattern that takes hours holds the interpreter, and with it the whole service."""
    name = "x/models--" + "-" * 1_000_000
    assert _model_id({"model_name": name}, ReadOptions(), [], "here") == name


def test_a_mean_of_what_is_no_mean_is_not_called_one(tmp_path: Path) -> None:
    content = results({"a": {"f1,none": 0.5}, "g": {"f1,none": 0.5}}, group_subtasks={"g": ["a"]})
    write(tmp_path / "data.json", content)
    (task,) = read(tmp_path).tasks
    assert [(stated.name, stated.kind) for stated in task.stated] == [(None, "f1"), ("g: f1,none", "mean of f1")]


# --- what the harness really wrote


@needs_real_data
def test_real_files() -> None:
    """All of its files are known and no others, and what is stated of whole samples files is recomputed equal."""
    tree = read_tree(REAL_DATA / "native")
    findings = list(LM_EVAL.find(tree))
    own = {path for path in tree if path.startswith("lm-evaluation-harness/")}
    assert {file.path for finding in findings for file in finding.files} == own
    counted: Counter[str] = Counter()
    for finding in findings:
        (run,) = LM_EVAL.read(finding, ReadOptions())
        for task in run.tasks:
            whole = task.samples is not None and len(samples(task)) == task.expected
            for stated in task.stated:
                if whole and stated.kind in ("mean", "stderr") and stated.value == stated.value < float("inf"):
                    assert recompute(run, stated, task) == pytest.approx(stated.value, rel=1e-9)
                    counted[stated.kind] += 1
            counted["samples"] += len(samples(task)) if task.samples else 0
    assert counted["samples"] == 474
    assert counted["mean"] >= 20
