"""Every Eval Ever: aggregates of each schema version, their samples, and what names a run."""

import copy
import json
import math
from collections import Counter
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from shared.formats.every_eval_ever import EVERY_EVAL_EVER
from shared.formats.every_eval_ever_schema import read_time
from shared.formats.harness import Finding, HarnessRun, Ledger, NotReadable, ReadOptions, Sample, Stated, Task
from shared.formats.tree import read_tree
from shared.submission import Status
from tests.real_data import REAL_DATA, needs_real_data

FILE = "f0000000-0000-4000-8000-000000000001"


def result(name: str = "tides", score: float = 0.5, **changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "evaluation_name": name,
        "source_data": {"dataset_name": name, "source_type": "other"},
        "metric_config": {
            "evaluation_description": f"Accuracy on {name}", "lower_is_better": False,
            "score_type": "continuous", "min_score": 0.0, "max_score": 1.0,
        },
        "score_details": {"score": score},
    }  # fmt: skip
    return made | changes


def aggregate(*results: dict[str, Any], **changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "schema_version": "0.3.0",
        "evaluation_id": "harbour/acme_gull-7b/1750000000.5",
        "evaluation_timestamp": "1750000000",
        "retrieved_timestamp": "1750000001",
        "source_metadata": {
            "source_name": "Harbour", "source_type": "evaluation_run",
            "source_organization_name": "Acme", "evaluator_relationship": "first_party",
        },
        "eval_library": {"name": "tide-eval", "version": "2.1"},
        "model_info": {"name": "gull", "id": "acme/gull-7b", "additional_details": {"deployment_type": "unknown"}},
        "evaluation_results": list(results) or [result()],
    }  # fmt: skip
    return {key: value for key, value in (made | changes).items() if value is not None}


def row(sample_id: str = "q1", score: float = 1.0, **changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "schema_version": "0.3.0", "evaluation_id": "harbour/acme_gull-7b/1750000000.5", "model_id": "acme/gull-7b",
        "evaluation_name": "tides", "sample_id": sample_id, "interaction_type": "single_turn",
        "input": {"raw": f"When is high tide, {sample_id}?", "reference": ["noon"]},
        "output": {"raw": ["It is at noon."]},
        "answer_attribution": [
            {"turn_idx": 0, "source": "output.raw", "extracted_value": "noon", "extraction_method": "regex",
             "is_terminal": True}
        ],
        "evaluation": {"score": score, "is_correct": score == 1.0},
    }  # fmt: skip
    return made | changes


def write(folder: Path, document: Any, rows: Iterable[Any] | None = None, name: str = f"{FILE}.json") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(document))
    if rows is not None:
        samples = folder / f"{Path(name).stem}_samples.jsonl"
        samples.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in rows))
    return folder


def find(folder: Path) -> list[Finding]:
    return list(EVERY_EVAL_EVER.find(read_tree(folder)))


def read(folder: Path, **options: Any) -> HarnessRun:
    [finding] = find(folder)
    [run] = EVERY_EVAL_EVER.read(finding, ReadOptions(**options))
    assert isinstance(run, HarnessRun)
    return run


def samples(task: Task, ledger: Ledger | None = None) -> list[Sample]:
    assert task.samples is not None
    return list(task.samples(ledger or Ledger()))


def test_a_run_has_what_its_file_says(tmp_path: Path) -> None:
    run = read(write(tmp_path, aggregate()))
    assert (run.model_id, run.timestamp, run.harness_version) == ("acme/gull-7b", "2025-06-15T15:06:40Z", "0.3.0")
    assert run.config["eval_library"] == {"name": "tide-eval", "version": "2.1"}
    assert run.config["source_metadata"]["source_organization_name"] == "Acme"
    assert run.config["model_info"]["deployment_type"] == "unknown"
    [task] = run.tasks
    assert (list(task.names), task.metric, task.samples) == (["tides", "harbour"], "Accuracy", None)
    assert task.stated == [Stated("Accuracy", 0.5)]
    assert read(tmp_path, model_id="other", timestamp="2020-01-01T00:00:00Z").model_id == "other"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("questions.json", {"run_id": "r", "benchmark_name": "b", "timestamp": "t", "model_id": "m", "data": {}}),
        ("results.json", {"results": {"tides": {"acc,none": 0.5}}, "config": {}, "evaluation_id": "e"}),
        ("list.json", [aggregate()]),
        ("schema.json", {"properties": {"schema_version": {}, "evaluation_id": {}}, "title": "evaluation_results"}),
        ("data.txt", aggregate()),
    ],
)
def test_what_is_others_is_not_found(tmp_path: Path, name: str, content: Any) -> None:
    assert find(write(tmp_path, content, name=name)) == []


def test_it_is_known_by_its_keys_whatever_its_name_or_their_order(tmp_path: Path) -> None:
    document = aggregate()
    write(tmp_path, dict(reversed(document.items())), name="data.json")
    (tmp_path / "broken.json").write_text('{"schema_version": "0.3.0", "evaluation_id"')
    assert [finding.place for finding in find(tmp_path)] == ["data.json"]


@pytest.mark.parametrize(
    ("stated", "lies_at"),
    [
        (f"data/harbour/acme/gull/{FILE}_samples.jsonl", f"data/harbour/acme/gull/{FILE}_samples.jsonl"),
        (f"data/harbour/acme/gull/{FILE}_samples.jsonl", f"deeper/data/harbour/acme/gull/{FILE}_samples.jsonl"),
        ("instance_level_data/rows.jsonl", "instance_level_data/rows.jsonl"),
        ("elsewhere/rows.jsonl", "rows.jsonl"),
        (None, f"{FILE}_samples.jsonl"),
    ],
)
def test_samples_are_found_by_the_path_stated_or_the_name(tmp_path: Path, stated: str | None, lies_at: str) -> None:
    details = None if stated is None else {"format": "jsonl", "file_path": stated, "total_rows": 1}
    write(tmp_path, aggregate(detailed_evaluation_results=details))
    (tmp_path / lies_at).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / lies_at).write_text(json.dumps(row()) + "\n")
    [finding] = find(tmp_path)
    assert [file.path for file in finding.files] == [f"{FILE}.json", lies_at]
    [task] = read(tmp_path).tasks
    assert task.expected == (None if stated is None else 1)
    assert [file.path for file in task.files] == [lies_at]
    assert len(samples(task)) == 1


def test_a_samples_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    details = {"format": "jsonl", "file_path": "data/a/b/c/x_samples.jsonl"}
    run = read(write(tmp_path, aggregate(detailed_evaluation_results=details)))
    assert run.tasks[0].samples is None
    assert any("x_samples.jsonl is not among the files" in warning for warning in run.warnings)


def test_a_sample_has_what_its_row_says(tmp_path: Path) -> None:
    full = row(
        token_usage={"input_tokens": 12, "output_tokens": 5, "total_tokens": 17, "reasoning_tokens": 3},
        performance={"latency_ms": 80.5, "time_to_first_token_ms": 4},
        metadata={"subject": "physics", "essay": "x" * 500},
        sample_hash="abc",
    )
    full["input"] |= {"choices": ["noon", "night"], "formatted": "<user>…"}
    ledger = Ledger()
    [sample] = samples(read(write(tmp_path, aggregate(), [full])).tasks[0], ledger)
    assert sample == Sample(
        id="q1", score=1.0, answer="noon", target="noon", question="When is high tide, q1?", choices=["noon", "night"],
        latency_ms=80.5, input_tokens=12, output_tokens=5, origin={"metadata": {"subject": "physics"}},
        metrics={"Accuracy": 1.0},
    )  # fmt: skip
    assert set(ledger.left) == {
        "sample_hash", "input.formatted", "token_usage.reasoning_tokens", "performance.time_to_first_token_ms",
        "metadata.essay",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "noon"),
        ({"answer_attribution": []}, "It is at noon."),
        ({"answer_attribution": [], "output": {"raw": "before 0.3"}}, "before 0.3"),
        ({"answer_attribution": [], "output": {"raw": ["a", "b"]}}, ["a", "b"]),
        (
            {"answer_attribution": [{"extracted_value": "1", "is_terminal": True}, {"extracted_value": "2"}]},
            "1",
        ),
        (
            {"answer_attribution": [], "output": None, "interaction_type": "multi_turn",
             "messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "said"}]},
            "said",
        ),
        ({"answer_attribution": None, "output": None}, None),
    ],
)  # fmt: skip
def test_the_answer_is_what_was_extracted_last(tmp_path: Path, changes: dict[str, Any], expected: Any) -> None:
    [sample] = samples(read(write(tmp_path, aggregate(), [row(**changes)])).tasks[0])
    assert sample.answer == expected


@pytest.mark.parametrize(
    ("changes", "status", "score"),
    [
        ({"error": "timeout after 60 s"}, Status.ERROR, None),
        ({"error": "the model refused"}, Status.REFUSED, None),
        ({"evaluation": {"score": math.nan, "is_correct": False}}, Status.UNSCORED, None),
        ({"evaluation": {"score": True}}, Status.SCORED, 1.0),
        ({"error": None}, Status.SCORED, 1.0),
    ],
)
def test_a_row_with_an_error_has_no_score(
    tmp_path: Path, changes: dict[str, Any], status: Status, score: float | None
) -> None:
    [sample] = samples(read(write(tmp_path, aggregate(), [row(**changes)])).tasks[0])
    assert (sample.status, sample.score) == (status, score)


def test_repeated_rows_are_attempts_and_unusable_ones_are_refused(tmp_path: Path) -> None:
    rows: list[Any] = [row(), row("q2"), row(score=0.0), "{", "[1]", row(""), '{"cut": "he']
    ledger = Ledger()
    taken = samples(read(write(tmp_path, aggregate(), rows)).tasks[0], ledger)
    assert [(sample.id, sample.attempt, sample.score) for sample in taken] == [
        ("q1", 0, 1.0), ("q2", 0, 1.0), ("q1", 1, 0.0),
    ]  # fmt: skip
    assert ledger.refused_counts == {
        "the line is no JSON": 2, "the line is no JSON object": 1, "sample_id is missing or no text": 1,
    }  # fmt: skip


def test_several_results_take_their_own_rows_and_each_row_is_told_once(tmp_path: Path) -> None:
    document = aggregate(
        result("tides", evaluation_result_id="t/acc"),
        result("tides", 0.7, evaluation_result_id="t/f1", metric_config={"metric_id": "f1", "lower_is_better": False}),
        result("winds", 0.2),
    )
    rows = [
        row("q1", evaluation_result_id="t/acc"), row("q1", 0.5, evaluation_result_id="t/f1"),
        row("w1", 0.0, evaluation_name="winds"), row("x", evaluation_name="storms"),
        row("q2"),
    ]  # fmt: skip
    tides, winds = read(write(tmp_path, document, rows)).tasks
    ledger = Ledger()
    assert [sample.id for sample in samples(tides, ledger)] == ["q1", "q2"]
    assert [sample.id for sample in samples(winds, ledger)] == ["w1"]
    assert ledger.passed_over == {"another metric of the same answers": 1}
    assert sum(ledger.refused_counts.values()) == 1
    assert [(stated.metric, stated.value) for stated in tides.stated] == [("Accuracy", 0.5), ("f1", 0.7)]
    chosen = read(tmp_path, metric="f1").tasks[0]
    assert (chosen.metric, [sample.score for sample in samples(chosen)]) == ("f1", [0.5, 1.0])


def test_a_helm_name_is_a_task_and_a_metric(tmp_path: Path) -> None:
    names = ["MMLU - EM", "MMLU - # train", "Mean win rate", "Mean win rate", "NaturalQuestions (open-book) - F1"]
    results = [result(name, number / 10) for number, name in enumerate(names)]
    for entry in results:
        del entry["source_data"]
    results[0]["score_details"]["score"] = -1.0
    results[3]["score_details"]["details"] = {"tab": "Calibration"}
    run = read(write(tmp_path, aggregate(*results, evaluation_id="helm_lite/acme/1.5", schema_version="0.0.1")))
    assert [task.names[0] for task in run.tasks] == [
        "MMLU", "helm_lite:Mean win rate", "NaturalQuestions (open-book)",
    ]  # fmt: skip
    assert [stated.metric for task in run.tasks for stated in task.stated] == [
        "# train", "Accuracy", "Accuracy (Calibration)", "F1",
    ]  # fmt: skip
    assert run.tasks[0].metric == "EM"
    assert any("outside their own bounds" in warning for warning in run.warnings)


def test_an_inspect_name_is_a_scorer(tmp_path: Path) -> None:
    source = {"dataset_name": "ai2_arc", "hf_repo": "allenai/ai2_arc", "source_type": "hf_dataset"}
    results = [result("choice", source_data=source), result("f1", source_data=source)]
    document = aggregate(*results, source_metadata={"source_name": "inspect_ai", "source_type": "evaluation_run"})
    [task] = read(write(tmp_path, document, [row(evaluation_name="ai2_arc")])).tasks
    assert list(task.names[:2]) == ["ai2_arc", "allenai/ai2_arc"]
    assert len(samples(task)) == 1


def test_parts_of_a_dataset_are_tasks_of_it(tmp_path: Path) -> None:
    source = {"dataset_name": "tides-lite", "source_type": "other"}
    tasks = read(write(tmp_path, aggregate(*(result(name, source_data=source) for name in ("north", "south"))))).tasks
    assert [list(task.names[:2]) for task in tasks] == [
        ["tides-lite:north", "tides-lite"], ["tides-lite:south", "tides-lite"],
    ]  # fmt: skip
    assert tasks[0].origin == {"task": "north", "subset": "north"}


def test_parts_of_a_suite_are_called_the_same_before_datasets_were_named(tmp_path: Path) -> None:
    results = [result("Tides Lite"), result("Tides Lite North"), result("South")]
    for entry in results:
        del entry["source_data"]
    of_old = aggregate(*results, schema_version="0.0.1", evaluation_id="acme/tides-lite/2025-11-28T00:36:05Z")
    assert [task.names[0] for task in read(write(tmp_path, of_old)).tasks] == [
        "Tides Lite", "Tides Lite North", "tides-lite:South",
    ]  # fmt: skip


def test_a_row_that_could_be_of_several_parts_is_refused(tmp_path: Path) -> None:
    source = {"dataset_name": "tides-lite", "source_type": "other"}
    rows = [row("n", evaluation_name="north"), row("s", evaluation_name="south"), row(evaluation_name="tides-lite")]
    document = aggregate(*(result(name, source_data=source) for name in ("north", "south")))
    ledger = Ledger()
    taken = [[one.id for one in samples(task, ledger)] for task in read(write(tmp_path, document, rows)).tasks]
    assert (taken, sum(ledger.refused_counts.values()), dict(ledger.passed_over)) == ([["n"], ["s"]], 1, {})


@pytest.mark.parametrize(("rows_in", "expected"), [((0.0, 1.0), [0.0, 1.0]), ((100.0, 50.0, 1.0), [1.0, 0.5, 0.01])])
def test_percent_is_undone_in_samples_that_have_it(
    tmp_path: Path, rows_in: tuple[float, ...], expected: list[float]
) -> None:
    config = {"metric_id": "acc", "lower_is_better": False, "min_score": 0, "max_score": 100}
    rows = [row(f"q{number}", score) for number, score in enumerate(rows_in)]
    [task] = read(write(tmp_path, aggregate(result(score=50.0, metric_config=config)), rows)).tasks
    assert [sample.score for sample in samples(task)] == expected
    assert task.stated == [Stated("acc", 50.0, scale=100.0)]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"min_score": 1, "max_score": 10}, "is on a scale from 1 to 10: tides"),
        ({"lower_is_better": True}, "is better where it is less: tides"),
        ({"score_type": "levels", "level_names": ["low", "high"]}, "is a level: its numbers are those"),
    ],
)
def test_what_is_odd_about_a_scale_is_told(tmp_path: Path, config: dict[str, Any], expected: str) -> None:
    run = read(write(tmp_path, aggregate(result(score=3.0, metric_config=config))))
    assert any(expected in warning for warning in run.warnings)


def test_uncertainty_is_stated_by_its_kind(tmp_path: Path) -> None:
    uncertainty = {
        "standard_error": {"value": 0.1, "method": "analytic"}, "standard_deviation": 0.4, "num_samples": 16,
        "confidence_interval": {"lower": 0.3, "upper": 0.7},
    }  # fmt: skip
    [task] = read(write(tmp_path, aggregate(result(score_details={"score": 0.5, "uncertainty": uncertainty})))).tasks
    assert [(stated.kind, stated.value, stated.count) for stated in task.stated] == [
        ("mean", 0.5, 16), ("stderr", 0.1, None), ("standard deviation", 0.4, None),
        ("confidence interval, lower", 0.3, None), ("confidence interval, upper", 0.7, None),
    ]  # fmt: skip
    uncertainty["standard_error"] = {"value": 0.1, "method": "bootstrap"}
    [task] = read(write(tmp_path, aggregate(result(score_details={"score": 0.5, "uncertainty": uncertainty})))).tasks
    assert task.stated[1].kind == "stderr (bootstrap)"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1750000000", "2025-06-15T15:06:40Z"),
        (1750000000.25, "2025-06-15T15:06:40.25Z"),
        ("2025-06-15T17:06:40+02:00", "2025-06-15T15:06:40Z"),
        ("2025-06-15T15:06:40", None),
        ("2025-06-15", None),
        ("soon", None),
        ("NaN", None),
        ("1e400", None),
        (True, None),
        (None, None),
    ],
)
def test_a_time_is_an_instant_or_none(value: object, expected: str | None) -> None:
    assert read_time(value) == expected


def test_a_time_of_the_results_stands_in_and_a_naive_one_is_told(tmp_path: Path) -> None:
    of_result = aggregate(result(evaluation_timestamp="1750000002"), evaluation_timestamp=None)
    assert read(write(tmp_path, of_result)).timestamp == "2025-06-15T15:06:42Z"
    run = read(write(tmp_path, aggregate(evaluation_timestamp="2025-06-15T15:06:40")), timestamp="2024-01-01T00:00:00Z")
    assert run.timestamp == "2024-01-01T00:00:00Z"
    assert any("no time zone" in warning for warning in run.warnings)


def test_a_file_fetched_again_is_the_same_run_and_another_score_is_another(tmp_path: Path) -> None:
    def identity(name: str, document: dict[str, Any]) -> tuple[str | None, str | None]:
        run = read(write(tmp_path / name, document, [row()], name=f"{name}.json"))
        return run.run_key, run.timestamp

    first = identity("first", aggregate(evaluation_timestamp=None))
    again = aggregate(
        evaluation_timestamp=None, evaluation_id="harbour/acme_gull-7b/1790000000", retrieved_timestamp="1790000000",
        detailed_evaluation_results={"format": "jsonl", "file_path": "data/x/y/z/again_samples.jsonl"},
    )  # fmt: skip
    without = aggregate(evaluation_timestamp=None, detailed_evaluation_results={"format": "jsonl", "file_path": "o"})
    assert identity("again", again) == identity("without", without)
    assert first[0] is not None
    assert first[0].startswith("harbour-acme_gull-7b-")
    assert "175000" not in first[0]
    assert identity("other", aggregate(result(score=0.25), evaluation_timestamp=None)) != first


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("model_info",), [], "model_info"),
        (("model_info", "id"), 7, "model_info.id"),
        (("model_info",), {}, "model_info.id: is missing"),
        (("evaluation_results",), {}, "evaluation_results"),
        (("evaluation_results",), [], "evaluation_results: is empty"),
        (("evaluation_results", 0, "evaluation_name"), None, "evaluation_results[0].evaluation_name"),
        (("evaluation_results", 0, "score_details", "score"), "0.5", "evaluation_results[0].score_details.score"),
        (("schema_version",), 3, "schema_version"),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, path: tuple[Any, ...], value: Any, named: str) -> None:
    document = copy.deepcopy(aggregate())
    inner: Any = document
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    [finding] = find(write(tmp_path, document))
    with pytest.raises(NotReadable) as caught:
        EVERY_EVAL_EVER.read(finding, ReadOptions())
    assert named in str(caught.value)


def test_a_newer_version_is_told_and_nan_is_no_score(tmp_path: Path) -> None:
    run = read(write(tmp_path, aggregate(result(score=math.nan), schema_version="0.4.0")))
    assert run.tasks[0].stated == []
    assert any("0.4.0" in warning for warning in run.warnings)
    assert any("no finite numbers" in warning for warning in run.warnings)


def test_samples_within_the_aggregate_are_unscored(tmp_path: Path) -> None:
    inline = [{"sample_id": "1", "input": "?", "ground_truth": "A", "response": "B", "choices": ["x"], "prompt": "p"}]
    document = aggregate(schema_version="0.1.0", detailed_evaluation_results_per_samples=[*inline, {}])
    [task] = read(write(tmp_path, document)).tasks
    ledger = Ledger()
    [sample] = samples(task, ledger)
    assert (sample.status, sample.answer, sample.target) == (Status.UNSCORED, "B", "A")
    assert (ledger.left, sum(ledger.refused_counts.values())) == (Counter(prompt=1), 1)


def test_a_changed_samples_file_is_told(tmp_path: Path) -> None:
    text = json.dumps(row()) + "\n"
    for checksum, warns in ((sha256(text.encode()).hexdigest(), False), ("0" * 64, True)):
        details = {"format": "jsonl", "file_path": "x", "hash_algorithm": "sha256", "checksum": checksum}
        [task] = read(write(tmp_path, aggregate(detailed_evaluation_results=details), [row()])).tasks
        ledger = Ledger()
        samples(task, ledger)
        assert any("checksum" in warning for warning in ledger.warnings) is warns


@needs_real_data
class TestRealFiles:
    """What converters of four schema versions wrote."""

    def test_each_file_is_one_run(self) -> None:
        folder = REAL_DATA / "native"
        findings = find(folder)
        assert {finding.place.split("/")[0] for finding in findings} == {"every_eval_ever"}
        runs = [run for finding in findings for run in EVERY_EVAL_EVER.read(finding, ReadOptions())]
        assert len(runs) == len(findings) == 120
        versions = Counter(run.harness_version for run in runs if isinstance(run, HarnessRun))
        assert versions == {"0.0.1": 32, "0.1.0": 37, "0.2.0": 28, "0.2.2": 22, "0.3.0": 1}
        assert len({run.run_key for run in runs if isinstance(run, HarnessRun)}) == 120

    def test_every_stated_score_within_its_bounds_is_kept(self) -> None:
        for finding in find(REAL_DATA / "native" / "every_eval_ever"):
            document = json.loads(finding.files[0].location.read_bytes())
            expected = 0
            for entry in document["evaluation_results"]:
                score, config = entry["score_details"]["score"], entry["metric_config"]
                low, high = config.get("min_score"), config.get("max_score")
                expected += (low is None or score >= low) and (high is None or score <= high)
            [run] = EVERY_EVAL_EVER.read(finding, ReadOptions())
            assert isinstance(run, HarnessRun)
            means = [stated for task in run.tasks for stated in task.stated if stated.kind == "mean"]
            assert len(means) == expected
            for task in run.tasks:
                labels = [(stated.metric, stated.kind) for stated in task.stated]
                assert len(labels) == len(set(labels))
