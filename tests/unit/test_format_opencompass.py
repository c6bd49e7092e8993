"""OpenCompass: results with details of each form, replicas, shards, stations, and what belongs together."""

import json
from pathlib import Path
from typing import Any

import pytest

from shared.formats.folder_times import NO_ZONE
from shared.formats.harness import Finding, HarnessRun, Ledger, NotReadable, ReadOptions, Sample
from shared.formats.json_reading import Unreadable
from shared.formats.opencompass import OPENCOMPASS
from shared.formats.tree import read_tree
from shared.submission import Status
from tests.harness_runs import agreements, compared, samples

MODEL = "gull-7b-hf"
TIME = "20250117_154119"


def detail(number: int, *correct: Any, **changes: Any) -> dict[str, Any]:
    """A question's detail as it is written today: a list with a value for each replica."""
    runs = range(len(correct))
    made: dict[str, Any] = {
        "example_abbr": f"tides_{number}",
        "pred": [f"{number}.{run}" for run in runs],
        "answer": ["7" for _ in runs],
        "correct": list(correct),
    }
    return made | changes


def prediction(number: int, **changes: Any) -> dict[str, Any]:
    prompt = [{"role": "HUMAN", "prompt": f"Question {number}: answer in a box."}]
    return {"origin_prompt": prompt, "prediction": f"So it is {number}."} | changes


def outputs(root: Path, files: dict[str, Any], model: str = MODEL) -> Path:
    """An outputs folder: {"results/tides": …, "predictions/tides_0": …}."""
    for path, content in files.items():
        part, _, name = path.partition("/")
        folder = root / part / model
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(content, indent=4))
    return root


def find(root: Path) -> list[Finding]:
    return list(OPENCOMPASS.find(read_tree(root)))


def read(root: Path, **options: Any) -> HarnessRun:
    """The only run of a folder, or of the one that it lies in: its name says the time."""
    [finding] = find(root.parent if root.name.startswith("2025") else root)
    [run] = OPENCOMPASS.read(finding, ReadOptions(**options))
    return run


def test_percent_becomes_a_score_to_1(tmp_path: Path) -> None:
    result = {"accuracy": 50.0, "details": [detail(0, True), detail(1, False, why=["late"])]}
    run = read(outputs(tmp_path / TIME, {"results/tides": result, "predictions/tides": {"0": prediction(0)}}))
    assert (run.model_id, run.timestamp, run.warnings) == (MODEL, "2025-01-17T15:41:19Z", [NO_ZONE])
    [task] = run.tasks
    assert (task.names, task.metric, task.expected) == (["tides"], "accuracy", 2)
    ledger = Ledger()
    assert samples(run, ledger) == [
        Sample(id="0", score=1.0, answer="0.0", target="7", metrics={"accuracy": 1.0}),
        Sample(id="1", score=0.0, answer="1.0", target="7", metrics={"accuracy": 0.0}),
    ]
    assert ledger.left == {"details.why": 1}
    [aggregate] = compared(run)
    assert (aggregate.stated, aggregate.recomputed, aggregate.agrees) == (50.0, 50.0, True)
    assert agreements(read(outputs(tmp_path / TIME, {"results/tides": result | {"accuracy": 0.5}}))) == {
        "accuracy": False
    }


def test_replicas_are_attempts_and_their_predictions_follow_replica_by_replica(tmp_path: Path) -> None:
    result = {
        "accuracy (2 runs average)": 75.0,
        "tides/G-Pass@2_1.0": 50.0,
        "tides/mG-Pass@2": 51.0,
        "G-Pass@2_1.0": 50.0,
        "mG-Pass@2": 50.0,
        "details": [
            detail(0, True, True, **{"G-Pass@2_1.0": 1.0, "mG-Pass@2": 1.0}),
            detail(1, False, True, **{"G-Pass@2_1.0": 0.0, "mG-Pass@2": 0.0}),
        ],
    }
    asked = {str(index): prediction(index, res_length=10 + index, all_input_length=100) for index in range(4)}
    run = read(outputs(tmp_path / TIME, {"results/tides": result, "predictions/tides": asked}))
    found = [(sample.id, sample.attempt, sample.answer, sample.score, sample.output_tokens) for sample in samples(run)]
    assert found == [
        ("0", 0, "0.0", 1.0, 10), ("0", 1, "0.1", 1.0, 12), ("1", 0, "1.0", 0.0, 11), ("1", 1, "1.1", 1.0, 13),
    ]  # fmt: skip
    assert (run.tasks[0].metric, run.tasks[0].expected, samples(run)[0].input_tokens) == ("accuracy", 4, 100)
    assert agreements(run) == {
        "accuracy (2 runs average)": True,
        "tides/mG-Pass@2": None,  # of a subdivision, and not what the whole has
        "G-Pass@2_1.0": True,
        "mG-Pass@2": True,
    }


@pytest.mark.parametrize("name", ["correct", "is_correct", "cascade_correct"])
def test_each_spelling_of_correct_counts(tmp_path: Path, name: str) -> None:
    listed = [{"pred": "a", "refr": "b", name: False}, {"pred": "b", "refr": "b", name: True}]
    by_index = {str(index): value for index, value in enumerate(listed)}
    replicated = [{"example_abbr": "x_0", "pred": ["a", "b"], "refr": ["b", "b"], name: [False, True]}]
    for number, details in enumerate((listed, by_index, replicated)):
        run = read(outputs(tmp_path / str(number) / TIME, {"results/tides": {"accuracy": 50, "details": details}}))
        assert [(sample.score, sample.answer, sample.target) for sample in samples(run)] == [
            (0.0, "a", "b"),
            (1.0, "b", "b"),
        ]
        assert agreements(run) == {"accuracy": True}


def test_older_details_by_index_hold_one_answer_each(tmp_path: Path) -> None:
    """Formatted by OpenCompass itself, with replicas one after another; PPL has no answer but the likeliest label."""
    details: dict[str, Any] = {"type": "PPL"}
    for index, label in enumerate("AABB"):
        origin = {"A": {"PPL": 1.5}, "B": {"PPL": 2.5}}
        details[str(index)] = {
            "origin_prediction": origin, "predictions": label, "references": "A", "correct": label == "A",
        }  # fmt: skip
    result = {"accuracy (2 runs average)": 50.0, "details": details, "correct_bpb": 12.5}
    run = read(outputs(tmp_path / TIME, {"results/tides": result}))
    assert [(sample.id, sample.attempt, sample.answer, sample.score) for sample in samples(run)] == [
        ("0", 0, "A", 1.0), ("1", 0, "A", 1.0), ("0", 1, "B", 0.0), ("1", 1, "B", 0.0),
    ]  # fmt: skip
    assert agreements(run) == {"accuracy (2 runs average)": True, "correct_bpb": None}


def test_shards_are_one_and_counted_on(tmp_path: Path) -> None:
    """Shard 10 comes after shard 9, and indexes begin anew in each."""
    asked = {f"predictions/tides_{n}": {"0": prediction(0, gold=f"g{n}"), "1": prediction(1)} for n in range(11)}
    details = [{"pred": "x", "correct": True, "references": None} for _ in range(22)]
    run = read(outputs(tmp_path / TIME, {"results/tides": {"accuracy": 100.0, "details": details}, **asked}))
    assert run.incomplete is None
    assert [sample.target for sample in samples(run)][::2] == [f"g{n}" for n in range(11)]


def test_a_data_set_may_be_called_like_a_shard(tmp_path: Path) -> None:
    result = {"accuracy": 100.0, "details": [{"pred": "x", "correct": True, "ref": None}]}
    files = {f"results/math_{n}": result for n in (0, 1)}
    asked = {f"predictions/math_{n}": {"0": prediction(0, gold=f"g{n}")} for n in (0, 1)}
    run = read(outputs(tmp_path / TIME, {**files, **asked}))
    assert [(task.names, sample.target) for task in run.tasks if task.samples for sample in task.samples(Ledger())] == [
        (["math_0"], "g0"),
        (["math_1"], "g1"),
    ]


@pytest.mark.parametrize(
    ("result", "warning"),
    [
        ({"accuracy": 71.25}, None),
        ({"accuracy": 71.25, "details": {"type": "GEN", "0": {"predictions": "x", "references": "y"}}}, "do not say"),
        ({"accuracy": 71.25, "details": []}, None),
    ],
)
def test_without_scored_details_there_are_aggregates(tmp_path: Path, result: Any, warning: str | None) -> None:
    run = read(outputs(tmp_path / TIME, {"results/tides": result}), timestamp="2025-01-17T00:00:00Z")
    [task] = run.tasks
    assert (task.samples, [(said.metric, said.value, said.scale) for said in task.stated]) == (
        None,
        [("accuracy", 71.25, 100.0)],
    )
    assert [text for text in run.warnings if warning is None or warning not in text] == []
    assert len(run.warnings) == (warning is not None)


def test_what_could_not_be_scored_is_told(tmp_path: Path) -> None:
    files = {
        "results/tides": {"error": "preds and refrs have different length"},
        "predictions/ebb": {"0": prediction(0)},
    }
    run = read(outputs(tmp_path / TIME, files))
    assert "different length" in run.warnings[0]
    assert run.incomplete == "there are predictions without results: ebb"
    assert run.tasks[0].stated == []


def test_the_metric_is_the_one_that_the_summary_takes(tmp_path: Path) -> None:
    result = {"bp": 1.0, "extract_rate": 90.0, "f1": 40.0, "score": 60.0, "details": [detail(0, True)]}
    derived: dict[str, Any] = {"tides/G-Pass@2_1.0": 1.0, "G-Pass@2_1.0": 2.0, "solved": 50.0}
    derived |= {"details": [detail(0, True, False, **{"G-Pass@2_1.0": 0.0})]}
    assert read(outputs(tmp_path / "derived" / TIME, {"results/tides": derived})).tasks[0].metric == "solved"
    root = outputs(tmp_path / "whitelist" / TIME, {"results/tides": result})
    assert read(root).tasks[0].metric == "score"
    for other in ("bleu", "f1"):  # whether an answer is right is no part of f1
        fallen_back = read(root, metric=other)
        assert (fallen_back.tasks[0].metric, f"no metric {other}" in " ".join(fallen_back.warnings)) == ("score", True)
    del result["details"]
    assert read(outputs(tmp_path / "totals" / TIME, {"results/tides": result}), metric="f1").tasks[0].metric == "f1"


def test_a_figure_that_each_question_has_may_be_the_score(tmp_path: Path) -> None:
    figures = {"accuracy (2 runs average)": 75.0, "G-Pass@2_1.0": 50.0}
    details = [detail(0, True, True, **{"G-Pass@2_1.0": 1.0}), detail(1, True, False, **{"G-Pass@2_1.0": 0.0})]
    run = read(outputs(tmp_path / TIME, {"results/tides": figures | {"details": details}}), metric="G-Pass@2_1.0")
    assert run.tasks[0].metric == "G-Pass@2_1.0"
    assert [sample.score for sample in samples(run)] == [1.0, 1.0, 0.0, 0.0]


def test_runs_that_nobody_can_have_made_are_not_read(tmp_path: Path) -> None:
    result = {
        "accuracy (999999999 runs average)": 1.0,
        "details": [{"example_abbr": "tides_0", "pred": "1"}, detail(1, True)],
    }
    assert len(samples(read(outputs(tmp_path / TIME, {"results/tides": result})))) == 2


def test_a_detail_without_a_verdict_is_unscored_and_no_detail_is_refused(tmp_path: Path) -> None:
    details = [detail(0, True), detail(1, None), "lost", {"pred": "x", "answer": "y", "correct": float("nan")}]
    run = read(outputs(tmp_path / TIME, {"results/tides": {"accuracy": 100.0, "details": details}}))
    ledger = Ledger()
    assert [(sample.id, sample.status, sample.score) for sample in samples(run, ledger)] == [
        ("0", Status.SCORED, 1.0),
        ("1", Status.UNSCORED, None),
        ("0", Status.UNSCORED, None),
    ]
    assert ledger.refused_counts == {"is no detail of a question": 1}


def test_of_results_cut_short_the_beginning_is_taken(tmp_path: Path) -> None:
    result = {"accuracy": 100.0, "details": [detail(0, True), detail(1, True)]}
    root = outputs(tmp_path / TIME, {"results/tides": result, "results/ebb": result, "predictions/ebb": {}})
    path = root / "results" / MODEL / "tides.json"
    path.write_text(path.read_text()[:-10])
    run = read(root)
    [ebb, tides] = run.tasks
    assert (tides.names[0], tides.expected, ebb.expected) == ("tides", None, 2)
    assert tides.samples is not None
    rows = tides.samples(Ledger())
    assert next(rows).id == "0"
    with pytest.raises(Unreadable, match=r"tides\.json"):
        next(rows)
    path.write_text(path.read_text()[:150])
    assert [(task.samples is None) for task in read(root).tasks] == [False, True]
    assert any("tides.json: it cannot be read to the end" in warning for warning in read(root).warnings)


def test_what_belongs_together(tmp_path: Path) -> None:
    """A finding a model and outputs folder; without details the folders must be OpenCompass's."""
    files = {"results/tides": {"accuracy": 50.0}, "predictions/tides": {"0": prediction(0)}}
    outputs(tmp_path / "default" / TIME, files)
    outputs(tmp_path / "default" / TIME, files, model="org/tern")
    (tmp_path / "default" / TIME / "configs").mkdir()
    (tmp_path / "default" / TIME / "configs" / "20250117.py").write_text("models = []\n")
    outputs(tmp_path / "default" / "20250118_000000", {"predictions/tides": {"0": prediction(0)}})
    found = find(tmp_path)
    assert [(OPENCOMPASS.read(finding, ReadOptions())[0].model_id, len(finding.files)) for finding in found] == [
        (MODEL, 3),
        ("org/tern", 2),
    ]
    assert found[0].place == f"default/{TIME}/results/{MODEL}/tides.json"


OTHERS: list[Any] = [
    {"run_id": "r", "benchmark_name": "mmlu", "timestamp": "2024-01-01T00:00:00Z", "model_id": "m", "data": {}},
    {"run_id": "r", "data": {"details": [{"pred": "x", "answer": "x"}]}},
    {"results": {"mmlu": {"acc,none": 0.5}}, "details": [{"pred": "x", "answer": "x"}]},
    {"name": "m@x", "dataset_name": "x", "model_name": "m", "metrics": [{"name": "acc", "categories": []}]},
    {"version": 2, "status": "success", "eval": {}, "samples": []},
    {"schema_version": "0.3.0", "evaluation_results": []},
    {"score": 0.5, "details": "none"},
    [{"pred": "x", "answer": "x", "correct": True}],
    "x",
]


@pytest.mark.parametrize("other", OTHERS)
def test_what_is_not_opencompasss_is_left_alone(tmp_path: Path, other: Any) -> None:
    (tmp_path / "a.json").write_text(json.dumps(other))
    outputs(tmp_path, {"results/a": other, "predictions/a": other, "details/b": other}, model="m")
    assert find(tmp_path) == []


def test_figures_alone_are_nobodys_unless_the_folders_are_opencompasss(tmp_path: Path) -> None:
    outputs(tmp_path, {"results/a": {"accuracy": 50.0}})
    (tmp_path / "a.json").write_text('{"accuracy": 50.0}')
    (tmp_path / "b.json").write_text('{"accuracy": 50.0, "details": []}')
    assert find(tmp_path) == []
    (tmp_path / "summary").mkdir()
    (tmp_path / "summary" / f"summary_{TIME}.csv").write_text("dataset,version\n")
    assert read(tmp_path).timestamp == "2025-01-17T15:41:19Z"


def test_a_results_file_by_itself_is_known_by_its_details_and_needs_a_model(tmp_path: Path) -> None:
    result = {"accuracy": 100.0, "details": [detail(0, True)]}
    laid_out = read(outputs(tmp_path / "a" / TIME, {"results/tides": result}))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "data.json").write_text(json.dumps(result))
    with pytest.raises(NotReadable, match="name the model"):
        read(tmp_path / "b")
    alone = read(tmp_path / "b", model_id="gull")
    assert (alone.model_id, alone.tasks[0].names) == ("gull", ["tides"])
    assert samples(alone) == samples(laid_out)


CONFIG = f"""\
datasets = []
models = [
    dict(abbr='tern', path='org/tern'),
    dict(
        abbr='{MODEL}',
        generation_kwargs=dict(temperature=0.6, stop=['x']),
        key='SECRET',
        max_out_len=2048,
        path='acme/gull-7b',
        type='opencompass.models.HuggingFace'),
]
work_dir = 'outputs/default/20240229_120000'
"""


def test_the_config_is_read_and_never_run(tmp_path: Path) -> None:
    root = outputs(tmp_path / TIME, {"results/tides": {"accuracy": 50.0}})
    (root / "configs").mkdir()
    (root / "configs" / "a.py").write_text(CONFIG + "raise SystemExit\n")
    run = read(root)
    assert run.config == {
        "generation_kwargs": {"temperature": 0.6, "stop": ["x"]},
        "max_out_len": 2048,
        "path": "acme/gull-7b",
    }
    assert run.timestamp == "2024-02-29T12:00:00Z"
    assert read(root, timestamp="2024-03-01T00:00:00Z").timestamp == "2024-03-01T00:00:00Z"


def test_a_station_file_is_a_run(tmp_path: Path) -> None:
    station = {
        "predictions": [prediction(0), prediction(1)],
        "results": {"accuracy": 50.0, "details": [detail(0, True), detail(1, False)]},
        "cfg": {"models": {"abbr": MODEL, "path": "acme/gull-7b"}, "datasets": {"abbr": "tides"}},
    }
    (tmp_path / "tides").mkdir()
    (tmp_path / "tides" / "renamed.json").write_text(json.dumps(station, indent=4))
    (tmp_path / "other.json").write_text(json.dumps({"predictions": [{"label": 1}]}))
    run = read(tmp_path)
    assert (run.model_id, run.tasks[0].names) == (MODEL, ["tides"])
    assert [sample.score for sample in samples(run)] == [1.0, 0.0]
    assert agreements(run) == {"accuracy": True}
