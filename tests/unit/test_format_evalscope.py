"""EvalScope: reviews of both generations, reports of both forms, and what belongs together."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from shared.formats.evalscope import EVALSCOPE
from shared.formats.evalscope_reviews import metric_name
from shared.formats.folder_times import NO_ZONE, folder_time
from shared.formats.harness import Finding, HarnessRun, Ledger, NotReadable, ReadOptions, Sample
from shared.formats.tree import read_tree
from shared.submission import Status
from tests.harness_runs import agreements, compared, samples
from tests.real_data import REAL_DATA, needs_real_data

MODEL = "gull-7b"


def review(index: int = 0, acc: float | bool | None = 1.0, **changes: Any) -> dict[str, Any]:
    """A line as it is written today."""
    made: dict[str, Any] = {
        "index": index,
        "target": ["noon"],
        "messages": [
            {"role": "system", "content": "You know tides."},
            {"role": "user", "content": f"When is high tide {index}?"},
            {"role": "assistant", "content": "At noon.", "model": MODEL},
        ],
        "agent_trace": None,
        "sample_score": {
            "score": {
                "value": {} if acc is None else {"acc": acc},
                "status": "success",
                "extracted_prediction": "noon",
                "prediction": "At noon.",
                "main_score_name": "acc",
            },
            "sample_id": index,
            "group_id": index,
            "generation_index": 0,
            "sample_metadata": {"harbour": "Brest", "level": 3, "reasoning": "The moon.", "chart": [1]},
        },
    }
    return made | changes


def scored(index: int, *, score: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """A line with changes in its sample_score, and in the score in it."""
    made = review(index)
    made["sample_score"] |= changes
    made["sample_score"]["score"] |= score or {}
    return made


def old_review(index: int, *results: Any, **changes: Any) -> dict[str, Any]:
    """A line of the first generation, with a choice for each result."""
    made: dict[str, Any] = {
        "id": "chat-1",
        "object": "chat.completion",
        "created": 1736000060 + index,
        "model": MODEL,
        "choices": [
            {
                "index": number,
                "message": {"role": "assistant", "content": "B it is."},
                "review": {"gold": "B", "pred": "B", "result": value},
            }
            for number, value in enumerate(results)
        ],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7},
        "subset_name": "spring",
        "raw_input": {"question": f"Which tide {index}?", "A": "ebb", "B": "flood", "answer": "B", "sea": "North"},
        "reviewer_spec": {"metric": ["AverageAccuracy"]},
        "index": index,
    }
    return made | changes


def prediction(index: int, **usage: int) -> dict[str, Any]:
    return {"index": index, "model": MODEL, "model_output": {"usage": usage, "time": 0.5, "choices": []}}


def subset(name: str, score: float, num: int, **changes: Any) -> dict[str, Any]:
    return {"name": name, "score": score, "num": num} | changes


def category(*subsets: dict[str, Any], name: str = "default") -> dict[str, Any]:
    count = sum(part["num"] for part in subsets)
    micro = sum(part["score"] * part["num"] for part in subsets) / count
    macro = sum(part["score"] for part in subsets) / len(subsets)
    return {"name": [name], "num": count, "score": micro, "macro_score": macro, "subsets": list(subsets)}


def old_metric(name: str, *subsets: dict[str, Any]) -> dict[str, Any]:
    made = category(*subsets)
    return {"name": name, "num": made["num"], "score": made["score"], "categories": [made]}


def metric(name: str, aggregation: str, *categories: dict[str, Any], **changes: Any) -> dict[str, Any]:
    count = sum(part["num"] for part in categories)
    score = sum(part["score"] * part["num"] for part in categories) / count
    dimensions = changes.pop("dimensions", {})
    identity = {"name": name, "aggregation": aggregation, "dimensions": dimensions}
    return {"identity": identity, "num": count, "score": score, "categories": list(categories)} | changes


def report(*metrics: dict[str, Any], dataset: str = "tides", model: str = MODEL, **changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": f"{model}@{dataset}",
        "dataset_name": dataset,
        "dataset_description": "About tides.",
    }
    return made | {"model_name": model, "metrics": list(metrics)} | changes


def lines(*rows: Any) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def outputs(root: Path, files: dict[str, Any], model: str = MODEL) -> Path:
    """An outputs folder: {"reports/tides": …, "reviews/tides_spring": [rows]}."""
    for path, content in files.items():
        part, _, name = path.partition("/")
        folder = root / part / model
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if part == "reports":
            (folder / f"{name}.json").write_text(json.dumps(content, indent=4))
        else:
            (folder / f"{name}.jsonl").write_text(lines(*content))
    return root


def find(*roots: Path) -> list[Finding]:
    return list(EVALSCOPE.find(read_tree(*roots)))


def read(root: Path, **options: Any) -> HarnessRun:
    [finding] = find(root)
    [run] = EVALSCOPE.read(finding, ReadOptions(**options))
    return run


def test_a_review_is_a_sample(tmp_path: Path) -> None:
    stated = report(metric("accuracy", "mean", category(subset("spring", 1.0, 1))), schema_version=2)
    run = read(outputs(tmp_path, {"reports/tides": stated, "reviews/tides_spring": [review(4)]}))
    [task] = run.tasks
    assert (run.model_id, task.names, task.metric, task.expected) == (
        MODEL,
        ["tides_spring", "tides"],
        "accuracy",
        1,
    )
    assert task.origin == {"dataset": "tides", "subset": "spring"}
    ledger = Ledger()
    assert samples(run, ledger) == [
        Sample(
            id="4",
            score=1.0,
            answer="noon",
            target="noon",
            question="When is high tide 4?",
            origin={"metadata": {"harbour": "Brest", "level": 3}},
            metrics={"accuracy": 1.0},
        )
    ]
    assert ledger.left == Counter(["sample_metadata.reasoning", "sample_metadata.chart"])
    assert agreements(run) == {"accuracy mean of spring": True}


def test_a_line_of_the_first_generation_is_a_sample_for_each_choice(tmp_path: Path) -> None:
    stated = report(old_metric("AverageAccuracy", subset("spring", 0.5, 2)))
    run = read(outputs(tmp_path, {"reports/tides": stated, "reviews/tides_spring": [old_review(3, True, 0)]}))
    first, second = samples(run)
    assert first == Sample(
        id="3",
        score=1.0,
        answer="B",
        target="B",
        question="Which tide 3?",
        choices=["ebb", "flood"],
        origin={"metadata": {"sea": "North"}},
        metrics={"accuracy": 1.0},
    )
    assert (second.attempt, second.score, second.input_tokens) == (1, 0.0, None)
    assert run.timestamp == "2025-01-04T14:14:23Z"
    root = outputs(tmp_path, {"reviews/tides_autumn": [old_review(0, 1)], "reviews/tides_winter": [old_review(9, 1)]})
    assert read(root).timestamp == "2025-01-04T14:14:20Z"
    assert agreements(run) == {"AverageAccuracy of spring": True}
    assert samples(read(outputs(tmp_path, {"reviews/tides_spring": [old_review(0, 1)]})))[0].output_tokens == 7


def test_tokens_come_from_messages_else_from_predictions_whatever_their_order(tmp_path: Path) -> None:
    told = review(2)
    turns = [{"input_tokens": 5, "output_tokens": 2, "latency": 0.25}, {"input_tokens": 6, "output_tokens": 3}]
    told["messages"] += [{"role": "assistant", "content": "", "perf_metrics": turn} for turn in turns]
    files = {
        "reviews/tides_spring": [review(0), review(1), told, review(3)],
        "predictions/tides_spring": [prediction(1, input_tokens=21, output_tokens=1), prediction(0, input_tokens=20)],
    }
    found = {sample.id: sample for sample in samples(read(outputs(tmp_path, files)))}
    tokens = {key: (sample.input_tokens, sample.output_tokens, sample.latency_ms) for key, sample in found.items()}
    assert tokens == {"0": (20, None, 500.0), "1": (21, 1, 500.0), "2": (11, 5, 250.0), "3": (None, None, None)}


def test_repeats_are_attempts_at_the_group(tmp_path: Path) -> None:
    rows = [scored(n, group_id=n // 2, generation_index=position) for n, position in ((3, 1), (0, 0), (2, 0))]
    assert [(s.id, s.attempt) for s in samples(read(outputs(tmp_path / "a", {"reviews/tides_x": rows})))] == [
        ("1", 1), ("0", 0), ("1", 0),
    ]  # fmt: skip
    for row in rows:  # as they were before positions were written: the order of the lines tells them apart
        del row["sample_score"]["generation_index"]
    assert [(s.id, s.attempt) for s in samples(read(outputs(tmp_path / "b", {"reviews/tides_x": rows})))] == [
        ("1", 0), ("0", 0), ("1", 1),
    ]  # fmt: skip


def test_means_over_questions_and_pass_at_1_are_recomputed_and_pass_at_2_is_told(tmp_path: Path) -> None:
    rows = [scored(n, group_id=group, score={"value": {"acc": acc}}) for n, (group, acc) in enumerate(
        [(0, 1.0), (0, 0.0), (0, 0.0), (0, 0.0), (1, 1.0)]
    )]  # fmt: skip
    for position, row in enumerate(rows):
        row["sample_score"]["generation_index"] = position % 4
    part = category(subset("x", 0.4, 5))
    stated = report(
        metric("accuracy", "mean", part),
        metric("accuracy", "pass_at_k", category(subset("x", 0.625, 2)), dimensions={"k": 1}),
        metric("accuracy", "pass_at_k", category(subset("x", 0.75, 2)), dimensions={"k": 2}),
        old_metric("mean_acc_pass@1", subset("x", 0.625, 2)),
        old_metric("mean_acc_pass@2", subset("x", 0.75, 2)),
        old_metric("mean_acc_pass^2", subset("x", 0.5, 2)),
        old_metric("mean_acc", subset("x", 0.41, 5)),
    )
    run = read(outputs(tmp_path, {"reports/tides": stated, "reviews/tides_x": rows}))
    assert agreements(run) == {
        "accuracy mean of x": True,
        "accuracy pass_at_k k=1 of x": True,
        "accuracy pass_at_k k=2 of x": None,
        "mean_acc_pass@1 of x": True,
        "mean_acc_pass@2 of x": None,
        "mean_acc_pass^2 of x": None,
        "mean_acc of x": False,
    }


def test_totals_over_subsets_are_recomputed_by_samples_and_by_subsets(tmp_path: Path) -> None:
    sea, lake = subset("sea", 0.3333, 3), subset("lake", 1.0, 1)
    stated = report(metric("accuracy", "mean", category(sea, lake, name="wet")))
    files = {
        "reports/tides": stated,
        "reviews/tides_sea": [review(0, acc=1.0), review(1, acc=0.0), review(2, acc=0.0)],
        "reviews/tides_lake": [review(0)],
    }
    run = read(outputs(tmp_path, files))
    assert agreements(run) == {
        "accuracy mean of sea": True,
        "accuracy mean of lake": True,
        "accuracy mean of tides": True,
        "accuracy mean of tides, macro": True,
    }
    assert [task.origin["category"] for task in run.tasks] == ["wet", "wet"]
    stated["metrics"][0]["categories"][0]["macro_score"] = 0.5
    assert agreements(read(outputs(tmp_path, files)))["accuracy mean of tides, macro"] is False
    (tmp_path / "reviews" / MODEL / "tides_lake.jsonl").unlink()
    told = {aggregate.name: (aggregate.kind, aggregate.agrees) for aggregate in compared(read(tmp_path))}
    assert told["accuracy mean of sea"] == ("mean", True)
    assert told["accuracy mean of lake"] == told["accuracy mean of tides"] == ("mean of samples elsewhere", None)


def test_a_mean_over_parts_of_answers_is_told_and_not_recomputed(tmp_path: Path) -> None:
    """Old IFEval reports weigh each instruction, not each answer."""
    rows = [old_review(0, {"strict": False, "parts": [False, True, True]}), old_review(1, {"strict": 1, "parts": [0]})]
    stated = report(old_metric("strict", subset("spring", 0.5, 2)), old_metric("parts", subset("spring", 0.5, 2)))
    run = read(outputs(tmp_path, {"reports/tides": stated, "reviews/tides_spring": rows}))
    assert samples(run)[0].metrics == {"strict": 0.0, "parts": pytest.approx(2 / 3)}
    told = {aggregate.name: (aggregate.kind, aggregate.agrees) for aggregate in compared(run)}
    assert told == {
        "strict of spring": ("mean", True),
        "parts of spring": ("mean over parts of answers", None),
    }
    assert [stated.count for task in run.tasks for stated in task.stated] == [2, None]


def test_points_out_of_100_become_a_score_to_1(tmp_path: Path) -> None:
    points = metric("judge_score", "mean", category(subset("x", 72.5, 2)))
    points["semantics"] = {"value_range": {"min": 0.0, "max": 100.0}}
    stated = report(points, primary_metric_identity=points["identity"])
    rows = [scored(n, score={"value": {"words": 9, "judge_score": value}}) for n, value in enumerate((70.0, 75.0))]
    run = read(outputs(tmp_path, {"reports/tides": stated, "reviews/tides_x": rows}))
    assert [sample.score for sample in samples(run)] == [0.7, 0.75]
    assert samples(run)[0].metrics == {"words": 9.0, "judge_score": 0.7}
    assert agreements(run) == {"judge_score mean of x": True}


@pytest.mark.parametrize(
    ("score", "status"),
    [
        ({"value": {}, "status": "transport_error"}, Status.ERROR),
        ({"value": {}, "status": "parse_error"}, Status.UNSCORED),
        ({"value": {"acc": "NaN"}}, Status.UNSCORED),
        ({"value": {"other": 1.0}}, Status.UNSCORED),
        ({"value": {"acc": True}}, Status.SCORED),
    ],
)
def test_a_sample_without_the_score_is_none_with_zero(tmp_path: Path, score: dict[str, Any], status: Status) -> None:
    text = lines(review(0), scored(1, score=score)).replace('"NaN"', "NaN")
    run = read(outputs(tmp_path, {"reviews/tides_x": [text.strip()]}))
    _, sample = samples(run)
    assert (sample.status, sample.score) == (status, 1.0 if status is Status.SCORED else None)


def test_rows_that_cannot_be_taken_are_refused_with_their_place(tmp_path: Path) -> None:
    nameless = scored(7, sample_id=None) | {"index": None}
    rows = [review(0), {"index": 1}, review(0, acc=0.0), nameless, "[1]", json.dumps(review(5))[:40]]
    ledger = Ledger()
    run = read(outputs(tmp_path, {"reviews/tides_x": rows}))
    assert [(sample.id, sample.score) for sample in samples(run, ledger)] == [("0", 1.0)]
    assert {reason: [place.rpartition(":")[2] for place in places] for reason, places in ledger.refused.items()} == {
        "is no review that EvalScope writes": ["2", "5"],
        "is a second review of the same sample; the first was taken": ["3"],
        "says neither index nor sample_id": ["4"],
        "is not JSON": ["6"],
    }


@pytest.mark.parametrize("odd", [None, 7, True, "x", [1], {"a": 1}])
def test_what_is_no_object_where_one_is_expected_stops_nobody(tmp_path: Path, odd: Any) -> None:
    rows = [
        review(0, messages=odd, target=odd, trajectory=odd),
        review(1, messages=[{"role": "assistant", "perf_metrics": odd}, odd]),
        scored(2, sample_metadata=odd, generation_index=odd, score={"main_score_name": odd}),
        old_review(3, 1, usage=odd, reviewer_spec=odd, raw_input=odd),
        old_review(4, 1) | {"choices": [{"review": {"result": 1}, "message": odd}, odd]},
    ]
    asked = prediction(0) | {"model_output": odd}
    stated = report(metric("accuracy", "mean", category(subset("x", 1.0, 5)), dimensions=odd), execution_summary=odd)
    files = {"reports/tides": stated, "reviews/tides_x": rows, "predictions/tides_x": [asked]}
    ledger = Ledger()
    assert [sample.id for sample in samples(read(outputs(tmp_path, files)), ledger)] == ["0", "1", "2", "3", "4"]
    assert ledger.refused_counts == {"has no review": 1}


def test_the_old_input_text_is_the_question_without_its_heading(tmp_path: Path) -> None:
    row = review(0, messages=None, input="**System**: \nBe brief.\n\n**User**: \nWhen is the tide?\n")
    clean = scored(1, sample_metadata={"problem": "How high is the tide?"})
    run = read(outputs(tmp_path, {"reviews/tides_x": [row, clean]}), model_id="someone")
    assert [sample.question for sample in samples(run)] == ["When is the tide?", "How high is the tide?"]


def test_a_question_with_choices_is_taken_out_of_its_prompt(tmp_path: Path) -> None:
    asked = (
        "Answer the following multiple choice question. The last line of your response should be of the following "
        "format: 'ANSWER: [LETTER]' (without quotes) where [LETTER] is one of A,B. Think step by step before answering."
        "\n\nWhich tide?\n\nA) ebb\nB) flood"
    )
    made = review(0, messages=[{"role": "user", "content": asked}])
    run = read(outputs(tmp_path, {"reviews/tides_default": [made]}), model_id=MODEL)
    [sample] = samples(run)
    assert (sample.question, list(sample.choices)) == ("Which tide?", ["ebb", "flood"])


@pytest.mark.parametrize(
    ("source", "question", "choices"),
    [
        ({"input": "Which tide?", "A": "ebb", "B": "flood", "target": "B"}, "Which tide?", ["ebb", "flood"]),
        ({"Question": "Which tide?", "A": "ebb", "B": "flood", "Answer": "B"}, "Which tide?", ["ebb", "flood"]),
        ({"question": "Which tide?", "options": ["ebb", "flood"], "input": "?"}, "Which tide?", ["ebb", "flood"]),
    ],
)
def test_data_sets_of_the_first_generation_name_the_question_as_they_like(
    tmp_path: Path, source: dict[str, Any], question: str, choices: list[str]
) -> None:
    made = old_review(0, True, raw_input=source)
    run = read(outputs(tmp_path, {"reviews/tides_spring": [made]}))
    [sample] = samples(run)
    assert (sample.question, list(sample.choices)) == (question, choices)


def test_a_report_alone_is_aggregates(tmp_path: Path) -> None:
    sea, lake = subset("sea", 0.25, 4), subset("lake", 0.5, 2)
    (tmp_path / "data.json").write_text(json.dumps(report(metric("accuracy", "mean", category(sea, lake)))))
    run = read(tmp_path)
    assert [(task.names[0], task.samples, task.expected, task.metric) for task in run.tasks] == [
        ("tides_sea", None, 4, "accuracy"),
        ("tides_lake", None, 2, "accuracy"),
    ]
    assert [task.stated[0].value for task in run.tasks] == [0.25, 0.5]
    assert set(agreements(run).values()) == {None}


def test_reviews_without_reports_need_a_model_that_somebody_says(tmp_path: Path) -> None:
    row = review(0, messages=[], input="?")
    root = outputs(tmp_path, {"reviews/tides_x": [row]}, model="folder")
    with pytest.raises(NotReadable, match="name the model"):
        read(root)
    assert read(root, model_id="heron").model_id == "heron"
    outputs(tmp_path, {"predictions/tides_x": [prediction(0)]}, model="folder")
    assert read(root).model_id == MODEL


def test_what_belongs_together(tmp_path: Path) -> None:
    """A finding a model and outputs folder; the data set in a file's name may hold `_`, as its subset may."""
    stated = report(metric("accuracy", "mean", category(subset("low_tide", 1.0, 1))), dataset="sea_tides")
    files = {"reports/sea_tides": stated, "reviews/sea_tides_low_tide": [review()], "predictions/x": [prediction(0)]}
    outputs(tmp_path / "20250117_154119", files)
    outputs(tmp_path / "20250117_154119", files, model="org/tern")
    outputs(tmp_path / "20250118_000000", files)
    outputs(tmp_path / "20250119_000000", {"predictions/x": [prediction(0)]})
    (tmp_path / "20250117_154119" / "configs").mkdir()
    (tmp_path / "20250117_154119" / "configs" / "task_config_1a.yaml").write_text("limit: 10\n")
    found = find(tmp_path)
    assert [(finding.place.split("/")[0], len(finding.files)) for finding in found] == [
        ("20250117_154119", 4),
        ("20250117_154119", 3),
        ("20250118_000000", 3),
    ]
    [task] = EVALSCOPE.read(found[0], ReadOptions())[0].tasks
    assert task.names == ["sea_tides_low_tide", "sea_tides"]


def test_a_subset_with_a_slash_is_in_a_folder_of_its_own(tmp_path: Path) -> None:
    seas = [subset(name, 1.0, 1) for name in ("North/Baltic", "Red")]
    files = {
        "reports/tides": report(metric("accuracy", "mean", category(*seas))),
        "reviews/tides_North/Baltic": [review(0)],
        "reviews/tides_Red": [review(1)],
        "predictions/tides_North/Baltic": [prediction(0, input_tokens=5, output_tokens=2)],
    }
    run = read(outputs(tmp_path / "out", files))
    assert [(task.names, task.origin["subset"]) for task in run.tasks] == [
        (["tides_North/Baltic", "tides"], "North/Baltic"),
        (["tides_Red", "tides"], "Red"),
    ]
    assert [sample.input_tokens for sample in samples(run)] == [5, None]


def test_a_data_set_may_begin_like_another(tmp_path: Path) -> None:
    part = category(subset("low_tide", 1.0, 1))
    stated = {f"reports/{name}": report(metric("accuracy", "mean", part), dataset=name) for name in ("sea", "sea_salt")}
    files = stated | {"reviews/sea_low_tide": [review()], "reviews/sea_salt_low_tide": [review()]}
    tasks = read(outputs(tmp_path, files)).tasks
    assert [task.names for task in tasks] == [["sea_low_tide", "sea"], ["sea_salt_low_tide", "sea_salt"]]
    assert [len(task.stated) for task in tasks] == [1, 1]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("acc", "accuracy"),
        ("AverageAccuracy", "accuracy"),
        ("f1_score", "f1"),
        ("em", "exact_match"),
        ("Pass@1", "pass_1"),
        ("Rouge-L-R", "rouge_l_r"),
        ("prompt_level_strict", "prompt_level_strict"),
    ],
)
def test_metrics_have_one_name(text: str, name: str) -> None:
    assert metric_name(text) == name


def test_files_without_folders_are_put_together_by_their_model(tmp_path: Path) -> None:
    part = category(subset("x", 1.0, 1))
    for model in (MODEL, "tern"):
        (tmp_path / f"{model}.json").write_text(json.dumps(report(metric("accuracy", "mean", part), model=model)))
    (tmp_path / "tides_x.jsonl").write_text(lines(review()))
    assert [[file.path for file in finding.files] for finding in find(tmp_path)] == [
        [f"{MODEL}.json", "tides_x.jsonl"],
        ["tern.json"],
    ]
    (tmp_path / "tern.json").unlink()
    (tmp_path / "tides_x.jsonl").write_text(lines(review(messages=[], input="?")))
    assert agreements(read(tmp_path)) == {"accuracy mean of x": True}


OTHERS: Sequence[Any] = [
    {"run_id": "r", "benchmark_name": "mmlu", "timestamp": "2024-01-01T00:00:00Z", "model_id": "m", "data": {}},
    {"results": {"mmlu": {"acc,none": 0.5}}, "model_name": "m", "configs": {"mmlu": {"dataset_name": "x"}}},
    {"model_name": "m", "dataset_name": "x", "metrics": {"acc": 1}},
    {"model_name": "m", "dataset_name": "x", "metrics": [{"acc": 1}]},
    {"doc_id": 0, "doc": {}, "target": "x", "resps": [], "acc": 1.0},
    {"index": 0, "target": "x", "input": "y", "score": 1.0},
    {"accuracy": 50.0, "details": [{"pred": ["x"], "answer": ["x"], "correct": [True]}]},
    [review()],
    "x",
]


@pytest.mark.parametrize("other", OTHERS)
def test_what_is_not_evalscopes_is_left_alone(tmp_path: Path, other: Any) -> None:
    for folder in (tmp_path, tmp_path / "reports" / "m", tmp_path / "reviews" / "m"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "a.json").write_text(json.dumps(other))
        (folder / "b.jsonl").write_text(json.dumps(other) + "\n")
        (folder / "c.txt").write_text(json.dumps(review()))
    assert find(tmp_path) == []


def test_the_time_is_the_files_or_else_the_folders(tmp_path: Path) -> None:
    root = outputs(tmp_path / "20250117_154119", {"reviews/tides_x": [review()]})
    [finding] = find(tmp_path)
    [run] = EVALSCOPE.read(finding, ReadOptions())
    assert (run.timestamp, run.warnings) == ("2025-01-17T15:41:19Z", [NO_ZONE])
    [run] = EVALSCOPE.read(finding, ReadOptions(timestamp="2025-01-17T15:41:19+08:00"))
    assert (run.timestamp, run.warnings) == ("2025-01-17T15:41:19+08:00", [])
    (root / "configs").mkdir()
    (root / "configs" / "task_config.yaml").write_text("work_dir: ./outputs/20240229_120000\n")
    assert EVALSCOPE.read(find(tmp_path)[0], ReadOptions())[0].timestamp == "2024-02-29T12:00:00Z"
    assert read(outputs(tmp_path / "elsewhere", {"reviews/tides_x": [review()]})).timestamp is None


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("20250117_154119", "2025-01-17T15:41:19Z"),
        ("./outputs/20250117_154119/", "2025-01-17T15:41:19Z"),
        ("20250117_154119 20250118_000000", "2025-01-18T00:00:00Z"),
        ("20251317_154119", None),
        ("120250117_154119", None),
        ("run", None),
    ],
)
def test_folder_times(text: str, time: str | None) -> None:
    assert folder_time(text) == time


CONFIG = """\
analysis_report: false
api_key: SECRET-1
dataset_args:
  tides:
    description: 'Keys: hidden

      limit: 99

      '
    few_shot_num: 4
datasets:
- tides
evalscope_version: 1.2.0
evaluation_identity:
  benchmarks:
    tides:
      cache_source: null
      evaluation_version: v1.1
generation_config:
  do_sample: false
  temperature: 0.7
limit: 10
model_args:
  api_key: SECRET-2
model_id: gull-7b-config
seed: 42
use_cache: null
"""


def test_the_config_is_how_the_model_was_asked_and_no_secrets(tmp_path: Path) -> None:
    root = outputs(tmp_path, {"reviews/tides_x_y": [review()]})
    (root / "configs").mkdir()
    (root / "configs" / "task_config_1a.yaml").write_text(CONFIG)
    run = read(root)
    assert run.config == {
        "few_shot_num": {"tides": 4},
        "generation_config": {"do_sample": False, "temperature": 0.7},
        "limit": 10,
        "seed": 42,
    }
    assert (run.harness_version, run.tasks[0].names) == ("1.2.0", ["tides_x_y", "tides"])
    assert (run.model_id, run.tasks[0].version) == ("gull-7b-config", "v1.1")
    outputs(root, {"reports/tides": report(metric("accuracy", "mean", category(subset("x_y", 1.0, 1))), model="tern")})
    assert (read(root).model_id, read(root).config) == ("tern", {})


def test_a_metric_can_be_chosen(tmp_path: Path) -> None:
    main = scored(0, score={"value": {"words": 9, "acc": 0.5}})
    assert samples(read(outputs(tmp_path / "main", {"reviews/tides_x": [main]})))[0].score == 0.5
    rows = [scored(0, score={"value": {"acc": 0.0, "F1": 0.5}})]
    root = outputs(tmp_path / "chosen", {"reviews/tides_x": rows})
    chosen = read(root, metric="f1")
    assert (chosen.tasks[0].metric, samples(chosen)[0].score) == ("f1", 0.5)
    fallen_back = read(root, metric="bleu")
    assert fallen_back.tasks[0].metric == "accuracy"
    assert fallen_back.warnings == ["tides_x has no metric bleu; there are accuracy, f1"]


def test_a_run_cut_short_says_so(tmp_path: Path) -> None:
    summary = {
        "requested": 5, "succeeded": 1, "errored": 4, "incomplete": True,
        "subsets": {"x": {"requested": 5, "succeeded": 1, "errored": 4}},
    }  # fmt: skip
    stated = report(metric("accuracy", "mean", category(subset("x", 1.0, 1))), execution_summary=summary)
    run = read(outputs(tmp_path, {"reports/tides": stated, "reviews/tides_x": [review()]}))
    assert (run.incomplete, run.tasks[0].expected) == ("tides: 1 of 5 samples were answered", 5)


def test_a_copy_elsewhere_is_the_same(tmp_path: Path) -> None:
    stated = report(metric("accuracy", "mean", category(subset("x", 1.0, 1))))
    files = {"reports/tides": stated, "reviews/tides_x": [review(3), review(1)]}
    first, second = (read(outputs(tmp_path / name, files)) for name in ("a", "deeper/b"))
    assert samples(first) == samples(second) == samples(first)
    assert (first.model_id, first.timestamp, first.tasks[0].names) == (
        second.model_id,
        second.timestamp,
        second.tasks[0].names,
    )


@needs_real_data
class TestRealFiles:
    """Three outputs folders, of January 2025 and of two later versions."""

    def runs(self) -> list[HarnessRun]:
        findings = find(REAL_DATA / "native")
        return [run for finding in findings for run in EVALSCOPE.read(finding, ReadOptions())]

    def test_each_folder_is_one_run(self) -> None:
        runs = self.runs()
        assert [(run.model_id, run.timestamp, len(run.tasks)) for run in runs] == [
            ("Qwen2.5-0.5B-Instruct", "2025-01-17T07:41:27Z", 9),
            ("qwen-plus", None, 4),
            ("qwen2.5-14b-instruct", None, 5),
        ]
        for run in runs:
            ledger = Ledger()
            found = samples(run, ledger)
            assert (len(found), ledger.refused) == (10 * len(run.tasks), {})
            assert all(sample.score is not None and sample.question for sample in found)
            assert all(sample.output_tokens for sample in found)

    def test_every_stated_mean_is_recomputed_equal_but_those_over_instructions(self) -> None:
        found = [aggregate for run in self.runs() for aggregate in compared(run)]
        assert Counter(aggregate.agrees for aggregate in found) == {True: 34, None: 2}
        others = [aggregate.name for aggregate in found if not aggregate.agrees]
        assert all(re.fullmatch(r"inst_level_\w+ of default", name) for name in others)
