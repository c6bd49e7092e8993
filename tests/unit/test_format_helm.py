"""HELM run folders: small ones made here, and the real ones where SCOREHOUSE_REAL_DATA is set."""

import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from shared.formats.harness import HarnessRun, Ledger, NotReadable, ReadOptions, Sample
from shared.formats.helm import HELM
from shared.formats.json_reading import BLOCK_BYTES, Unreadable
from shared.formats.tree import read_tree
from shared.submission import Status
from tests.real_data import REAL_DATA, needs_real_data

NAME = "mmlu:subject=astronomy,method=multiple_choice_joint,model=acme_tiny"
COLOURS = ["red", "green", "blue", "grey"]
ROBUST = {"name": "misspelling", "robustness": True, "fairness": False, "computed_on": "perturbed"}

Row = dict[str, Any]


def run_spec(name: str = NAME, **changes: Any) -> Row:
    return {
        "name": name,
        "scenario_spec": {"class_name": "helm.scenarios.Stars", "args": {"subject": "astronomy"}},
        "adapter_spec": {
            "method": "multiple_choice_joint",
            "instructions": "Pick one.",
            "num_train_trials": 1,
            "model": "acme/tiny",
            "model_deployment": "acme-cloud/tiny",
            "stop_sequences": ["\n"],
        },
        "metric_specs": [{"class_name": "helm.Basic", "args": {"names": ["exact_match", "quasi_exact_match"]}}],
        "groups": ["mmlu"],
        **changes,
    }


def request(id_: str, output: str = " B", **changes: Any) -> Row:
    """An element of `request_states`; `instance` and `result` add to what stands there."""
    references = [{"output": {"text": text}, "tags": ["correct"] * (text == "blue")} for text in COLOURS]
    instance = {
        "input": {"text": f"Which colour has star {id_}?"},
        "references": references,
        "split": "test",
        "id": id_,
    }
    result = {
        "success": True,
        "embedding": [],
        "completions": [{"text": output, "logprob": -0.5, "tokens": [{"text": output, "logprob": -0.5}]}],
        "cached": False,
        "request_time": 0.25,
        "request_datetime": 1_700_000_000,
    }
    row = {
        "instance": instance | changes.pop("instance", {}),
        "train_trial_index": 0,
        "output_mapping": dict(zip("ABCD", COLOURS, strict=True)),
        "request": {"model": "acme/tiny", "prompt": f"Pick one. Which colour has star {id_}?"},
        "result": result | changes.pop("result", {}),
    }
    return {key: value for key, value in (row | changes).items() if value is not None}


def stat(name: str, mean: float | None, split: str = "test", **more: Any) -> Row:
    figures = {"count": 1, "sum": mean, "mean": mean} if mean is not None else {"count": 0, "sum": 0}
    return {"name": {"name": name, "split": split, **more}, **figures}


def scored(
    id_: str, split: str = "test", trial: int = 0, perturbation: Row | None = None, **means: float | None
) -> Row:
    within = {} if perturbation is None else {"perturbation": perturbation}
    return {
        "instance_id": id_,
        **within,
        "train_trial_index": trial,
        "stats": [stat(name, mean, split, **within) for name, mean in means.items()],
    }


def write_run(folder: Path, **contents: Any) -> Path:
    """A run's folder; parts by the names of their files without `.json`."""
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content, indent=2))
    return folder


def small_run(folder: Path, **changes: Any) -> Path:
    """Two test rows, of which one is right, a row of `valid` and a perturbed copy, mixed."""
    requests = [
        request("id7", " C"),
        request("id8", instance={"split": "valid"}),
        request("id7", " A", instance={"perturbation": ROBUST}),
        request("id9", " B.", result={"request_datetime": 1_690_000_000}),
    ]
    contents = {
        "run_spec": run_spec(),
        "scenario": {"name": "mmlu", "description": "Stars.", "tags": [], "definition_path": "scenarios/stars.py"},
        "scenario_state": {"adapter_spec": run_spec()["adapter_spec"], "request_states": requests},
        "stats": [
            stat("exact_match", 0.5),
            stat("exact_match", 1.0, "valid"),
            stat("exact_match", 0.0, perturbation=ROBUST | {"computed_on": "worst"}),
            stat("perplexity", 3.0),
            stat("training_co2_cost", None),
            stat("num_instances", 2.0),
        ],
        "per_instance_stats": [
            scored("id7", exact_match=1.0, num_prompt_tokens=40.0, num_output_tokens=1.0),
            scored("id8", "valid", exact_match=1.0),
            scored("id7", perturbation=ROBUST, exact_match=0.0),
            scored("id9", exact_match=0.0),
        ],
    }
    return write_run(folder, **{name: part for name, part in (contents | changes).items() if part is not None})


def read(root: Path, **options: Any) -> HarnessRun:
    (finding,) = HELM.find(read_tree(root))
    (run,) = HELM.read(finding, ReadOptions(**options))
    assert isinstance(run, HarnessRun)
    return run


def take(run: HarnessRun) -> tuple[list[Sample], Ledger]:
    (task,) = run.tasks
    assert task.samples is not None
    ledger = Ledger()
    return list(task.samples(ledger)), ledger


def samples_of(root: Path, **options: Any) -> list[Sample]:
    return take(read(root, **options))[0]


def test_a_run_is_read(tmp_path: Path) -> None:
    run = read(small_run(tmp_path / "run"))
    samples, ledger = take(run)
    assert (run.model_id, run.run_key) == ("acme/tiny", None)
    assert run.config["model_deployment"] == "acme-cloud/tiny"
    assert run.config["stop_sequences"] == ["\n"]
    (task,) = run.tasks
    assert (task.metric, task.expected) == ("exact_match", 2)
    assert task.origin == {
        "scenario": {"args": {"subject": "astronomy"}},
        "run": {"subject": "astronomy"},
        "split": "test",
    }
    assert samples[0] == Sample(
        id="id7",
        score=1.0,
        answer="C",
        target="C",
        question="Which colour has star id7?",
        choices=COLOURS,
        latency_ms=250.0,
        input_tokens=40,
        output_tokens=1,
        metrics={"exact_match": 1.0, "num_prompt_tokens": 40.0, "num_output_tokens": 1.0},
    )
    assert samples[1].answer == "B."
    assert [sample.id for sample in samples] == ["id7", "id9"]
    assert ledger.left["request"] == 4
    assert ledger.left["result.completions.tokens"] == 4
    assert "instance" not in ledger.left


def test_validation_rows_and_perturbed_copies_are_passed_over(tmp_path: Path) -> None:
    _, ledger = take(read(small_run(tmp_path / "run")))
    assert ledger.passed_over == {"rows of the valid split": 1, "perturbed copies of instances": 1}
    assert not ledger.refused


def test_validation_rows_are_taken_where_nothing_was_evaluated_on_test(tmp_path: Path) -> None:
    run = read(
        small_run(
            tmp_path / "run",
            stats=[stat("exact_match", 1.0, "valid"), stat("exact_match", 0.0, "test", perturbation=ROBUST)],
            per_instance_stats=[scored("id8", "valid", exact_match=1.0)],
        )
    )
    samples, ledger = take(run)
    assert [(sample.id, sample.score) for sample in samples] == [("id8", 1.0)]
    assert ledger.passed_over["rows of the test split"] == 2
    assert any("valid" in warning for warning in run.warnings)
    assert run.tasks[0].origin["split"] == "valid"


def test_stated_means_are_those_of_the_rows(tmp_path: Path) -> None:
    run = read(small_run(tmp_path / "run"))
    samples, _ = take(run)
    stated = {item.metric: item for item in run.tasks[0].stated}
    assert stated.keys() == {"exact_match", "perplexity", "num_instances"}
    assert stated["exact_match"].value == sum(sample.metrics["exact_match"] for sample in samples) / 2
    assert (stated["exact_match"].kind, stated["exact_match"].count) == ("mean", 2)
    assert stated["perplexity"].kind != "mean"


@pytest.mark.parametrize("folder", [NAME, NAME.replace(":", "-"), NAME.replace(":", "_"), "copy"])
def test_folders_name_and_files_names_make_no_difference(tmp_path: Path, folder: str) -> None:
    expected = read(small_run(tmp_path / "a" / "run"))
    other = small_run(tmp_path / "b" / folder)
    for number, file in enumerate(sorted(other.iterdir())):
        file.rename(other / f"{number}.json")
    found = read(tmp_path / "b")
    assert (found.model_id, found.timestamp, found.config) == (expected.model_id, expected.timestamp, expected.config)
    assert found.tasks[0].names == expected.tasks[0].names
    assert take(found)[0] == take(expected)[0]


def test_folders_are_findings_of_their_own(tmp_path: Path) -> None:
    small_run(tmp_path / "one")
    small_run(tmp_path / "two")
    (tmp_path / "one" / "notes.json").write_text("{}")
    findings = list(HELM.find(read_tree(tmp_path)))
    assert [finding.place for finding in findings] == ["one/run_spec.json", "two/run_spec.json"]
    assert all(len(finding.files) == 5 for finding in findings)


def test_of_two_specifications_the_one_with_the_usual_name_counts(tmp_path: Path) -> None:
    folder = small_run(tmp_path / "run")
    for name in ("another", "the last"):
        (folder / f"{name}.json").write_text(json.dumps(run_spec("gsm:model=acme_tiny")))
    (finding,) = HELM.find(read_tree(folder))
    assert finding.place == "run_spec.json"


@pytest.mark.parametrize(
    "other",
    [
        {"run_id": "r", "benchmark_name": "mmlu", "timestamp": "2024-01-01T00:00:00Z", "model_id": "m", "data": {}},
        {"name": "a", "description": "scenario_spec", "data": []},
        {"results": {"mmlu": {"acc,none": 0.5}}, "configs": {}, "model_name": "m"},
        {"schema_version": 2, "name": "m@mmlu", "metrics": []},
        {"version": 2, "status": "success", "eval": {"task": "mmlu"}, "samples": []},
        [{"name": "a", "score": 1}],
        [{"instance_id": "django-1", "model_patch": "…"}],
        [],
    ],
)
def test_others_files_are_not_taken_for_helms(tmp_path: Path, other: Any) -> None:
    for name in ("run_spec", "scenario_state", "per_instance_stats", "stats"):
        (tmp_path / f"{name}.json").write_text(json.dumps(other))
    assert list(HELM.find(read_tree(tmp_path))) == []


def test_figures_of_other_rows_do_not_stand_in_for_a_rows_own(tmp_path: Path) -> None:
    own = scored("id7", exact_match=1.0)
    own["stats"] += [
        stat("exact_match", 0.25, split="valid"),
        stat("exact_match", 0.5, perturbation=ROBUST),
    ]
    [sample, *_] = samples_of(small_run(tmp_path / "run", per_instance_stats=[own]))
    assert (sample.id, sample.score) == ("id7", 1.0)


def test_figures_of_several_metric_classes_meet(tmp_path: Path) -> None:
    rows = [scored("id7", exact_match=1.0), scored("id9", exact_match=0.0), scored("id7", toxicity=0.25)]
    samples = samples_of(small_run(tmp_path / "run", per_instance_stats=rows))
    assert [sample.metrics for sample in samples] == [{"exact_match": 1.0, "toxicity": 0.25}, {"exact_match": 0.0}]


def test_dropped_figures_and_failed_requests_have_no_score(tmp_path: Path) -> None:
    state = {
        "adapter_spec": run_spec()["adapter_spec"],
        "request_states": [
            request("id1"),
            request("id2", result={"success": False, "completions": [], "error": "busy"}),
            request("id3"),
        ],
    }
    rows = [scored("id1", exact_match=None, f1=float("nan")), scored("id2", exact_match=0.0)]
    samples = samples_of(small_run(tmp_path / "run", scenario_state=state, per_instance_stats=rows))
    assert [(sample.status, sample.score) for sample in samples] == [
        (Status.UNSCORED, None),
        (Status.ERROR, None),
        (Status.UNSCORED, None),
    ]
    assert samples[0].metrics == {}
    assert samples[1].metrics == {"exact_match": 0.0}, "the stated mean counts it"
    assert samples[1].answer is None


def test_training_trials_are_attempts(tmp_path: Path) -> None:
    spec = run_spec()
    spec["adapter_spec"]["num_train_trials"] = 2
    requests = [request("id1", train_trial_index=trial) for trial in (0, 1)]
    run = read(
        small_run(
            tmp_path / "run",
            run_spec=spec,
            scenario_state={"adapter_spec": spec["adapter_spec"], "request_states": requests},
            per_instance_stats=[scored("id1", trial=trial, exact_match=float(trial)) for trial in (0, 1)],
            stats=[stat("exact_match", 0.5), stat("num_instances", 1.0)],
        )
    )
    assert [(sample.id, sample.attempt, sample.score) for sample in take(run)[0]] == [("id1", 0, 0.0), ("id1", 1, 1.0)]
    assert run.tasks[0].expected == 2


def test_requests_for_each_choice_are_one_row(tmp_path: Path) -> None:
    requests = [
        request("id1", "prompt red", output_mapping=None, reference_index=index, request_mode=mode)
        for mode in ("original", "calibration")
        for index in range(4)
    ]
    samples, ledger = take(
        read(
            small_run(
                tmp_path / "run",
                scenario_state={"adapter_spec": run_spec()["adapter_spec"], "request_states": requests},
                per_instance_stats=[scored("id1", exact_match=0.0, predicted_index=1.0)],
            )
        )
    )
    assert [(sample.answer, sample.target, sample.choices) for sample in samples] == [("green", "blue", COLOURS)]
    assert sum(ledger.passed_over.values()) == 7


def test_the_time_is_that_of_the_first_request(tmp_path: Path) -> None:
    assert read(small_run(tmp_path / "run")).timestamp == "2023-07-22T04:26:40Z"
    assert read(small_run(tmp_path / "without", scenario_state=None)).timestamp is None


def test_a_prompt_that_speaks_of_a_time_does_not_tell_it(tmp_path: Path) -> None:
    row = request("id7", request={"prompt": 'Complete: {"request_datetime": 1100000000, '})
    state = {"adapter_spec": {"method": "generation"}, "request_states": [row]}
    assert read(small_run(tmp_path / "run", scenario_state=state)).timestamp == "2023-11-14T22:13:20Z"


@pytest.mark.parametrize("cut", [-5, 0, 5, 9, 10])
def test_a_time_across_blocks_is_read_whole(tmp_path: Path, cut: int) -> None:
    """Also where nine of its ten digits are in the first block, which would be a time in 1975."""
    state = {"adapter_spec": {"method": "generation"}, "request_states": [request("id7")]}
    folder = small_run(tmp_path / "run", scenario_state=state)
    file = folder / "scenario_state.json"
    before, rows = file.read_bytes().split(b'"request_states"')
    digits = len(before) + len(b'"request_states"') + rows.index(b"1700000000")
    file.write_bytes(before + b" " * (BLOCK_BYTES - digits - cut) + b'"request_states"' + rows)
    assert read(folder).timestamp == "2023-11-14T22:13:20Z"


@pytest.mark.parametrize(
    ("name", "groups", "scenario", "names"),
    [
        (NAME, ["mmlu"], "mmlu", ["mmlu_astronomy", "mmlu"]),
        (
            "commonsense:dataset=hellaswag,method=multiple_choice_joint,model=acme_tiny",
            ["hellaswag"],
            "hellaswag",
            ["hellaswag", "commonsense_hellaswag"],
        ),
        ("narrative_qa:model=acme_tiny", ["narrative_qa"], "narrativeqa", ["narrative_qa", "narrativeqa"]),
        (
            "math:subject=algebra,level=1,use_official_examples=False,use_chain_of_thought=True,model=a_b",
            ["math_chain_of_thought"],
            None,
            ["math_algebra_1", "math", "math_chain_of_thought"],
        ),
        ("legal_support,method=multiple_choice_joint,model=a_b", [], None, ["legal_support"]),
        ("gsm", [], None, ["gsm"]),
    ],
)
def test_task_names(tmp_path: Path, name: str, groups: list[str], scenario: str | None, names: list[str]) -> None:
    described = scenario and {"name": scenario, "description": "", "tags": [], "definition_path": "x.py"}
    run = read(small_run(tmp_path / "run", run_spec=run_spec(name, groups=groups), scenario=described))
    assert run.tasks[0].names == names


@pytest.mark.parametrize(
    ("method", "groups", "metrics", "main"),
    [
        ("multiple_choice_joint", ["mmlu"], ["quasi_exact_match", "exact_match", "f1_score"], "exact_match"),
        ("multiple_choice_joint", ["med_qa"], ["exact_match", "quasi_exact_match"], "quasi_exact_match"),
        ("generation", ["narrative_qa"], ["exact_match", "quasi_exact_match", "f1_score", "rouge_l"], "f1_score"),
        ("generation", ["boolq"], ["exact_match", "quasi_exact_match"], "quasi_exact_match"),
        ("generation", ["wmt_14"], ["f1_score", "bleu_4"], "bleu_4"),
        ("generation", ["gsm"], ["exact_match", "final_number_exact_match"], "final_number_exact_match"),
        ("generation", ["custom"], ["num_bytes"], None),
    ],
)
def test_the_score_is_the_scenarios_main_metric(
    tmp_path: Path, method: str, groups: list[str], metrics: Sequence[str], main: str | None
) -> None:
    spec = run_spec(groups=groups, adapter_spec={"method": method, "model": "acme/tiny"})
    run = read(small_run(tmp_path / "run", run_spec=spec, stats=[stat(name, 0.5) for name in metrics]))
    assert run.tasks[0].metric == main
    assert bool(main) != any("say which" in warning for warning in run.warnings)


def test_another_metric_and_model_can_be_chosen(tmp_path: Path) -> None:
    rows = [
        scored("id7", exact_match=1.0, quasi_exact_match=0.0),
        scored("id9", exact_match=0.0, quasi_exact_match=0.5),
    ]
    folder = small_run(
        tmp_path / "run", per_instance_stats=rows, stats=[stat("exact_match", 0.5), stat("quasi_exact_match", 0.25)]
    )
    run = read(folder, metric="quasi_exact_match", model_id="tiny")
    assert [sample.score for sample in take(run)[0]] == [0.0, 0.5]
    assert (run.model_id, run.tasks[0].metric) == ("tiny", "quasi_exact_match")
    with pytest.raises(NotReadable, match=r"'bleu'.*exact_match, quasi_exact_match"):
        read(folder, metric="bleu")


def display() -> dict[str, Any]:
    """What `helm-summarize` adds to the small run."""
    instances = [request(id_)["instance"] for id_ in ("id7", "id9")]
    instances.append(request("id8", instance={"split": "valid"})["instance"])
    outputs = {"id7": " C", "id8": " B", "id9": " B."}
    scores = {"id7": 1.0, "id8": 1.0, "id9": 0.0}
    keys = {id_: {"instance_id": id_, "train_trial_index": 0} for id_ in outputs}
    return {
        "instances": instances,
        "display_predictions": [
            {**keys[id_], "predicted_text": text, "stats": {"exact_match": scores[id_]}}
            for id_, text in outputs.items()
        ],
        "display_requests": [{**key, "request": {"prompt": "Pick one."}} for key in keys.values()],
    }


def test_summarizing_changes_nothing(tmp_path: Path) -> None:
    before = list(HELM.find(read_tree(small_run(tmp_path / "before"))))
    after = list(HELM.find(read_tree(small_run(tmp_path / "after", **display()))))
    assert [file.path for file in after[0].files] == [file.path for file in before[0].files]


@pytest.mark.parametrize("missing", [["scenario_state"], ["scenario_state", "per_instance_stats", "stats"]])
def test_what_summarizing_wrote_stands_in(tmp_path: Path, missing: list[str]) -> None:
    expected = samples_of(small_run(tmp_path / "whole"))
    samples, ledger = take(read(small_run(tmp_path / "part", **display(), **dict.fromkeys(missing))))
    for sample, whole in zip(samples, expected, strict=True):
        assert (sample.id, sample.score, sample.answer, sample.target, sample.question, sample.choices) == (
            whole.id,
            whole.score,
            whole.answer,
            whole.target,
            whole.question,
            whole.choices,
        )
    assert ledger.passed_over == {"rows of the valid split": 1}


def test_scores_alone_are_rows(tmp_path: Path) -> None:
    run = read(small_run(tmp_path / "run", scenario_state=None, stats=None))
    samples, ledger = take(run)
    assert [(sample.id, sample.score, sample.answer) for sample in samples] == [("id7", 1.0, None), ("id9", 0.0, None)]
    assert sum(ledger.passed_over.values()) == 2
    assert any("scenario_state.json is missing" in warning for warning in run.warnings)


def test_answers_alone_are_unscored_rows(tmp_path: Path) -> None:
    run = read(small_run(tmp_path / "run", per_instance_stats=None, stats=None))
    assert [(sample.status, sample.answer) for sample in take(run)[0]] == [
        (Status.UNSCORED, "C"),
        (Status.UNSCORED, "B."),
    ]
    assert any("per_instance_stats.json is missing" in warning for warning in run.warnings)


def test_statistics_alone_are_stated(tmp_path: Path) -> None:
    (task,) = read(small_run(tmp_path / "run", scenario_state=None, per_instance_stats=None)).tasks
    assert task.samples is None
    assert (task.stated[0].metric, task.stated[0].value) == ("exact_match", 0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"run_spec": None}, "no run_spec.json"),
        ({"scenario_state": None, "per_instance_stats": None, "stats": None}, "scenario_state.json"),
        ({"run_spec": run_spec(adapter_spec={"method": "generation"})}, "model_id"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(NotReadable, match=message):
        read(small_run(tmp_path / "run", **changes))


def test_broken_statistics_are_said(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"stats\.json"):
        read(small_run(tmp_path / "run", stats=[{"name": {"name": "exact_match"}, "mean": "high"}]))


@pytest.mark.parametrize(
    ("name", "changes"), [("scenario_state", {}), ("per_instance_stats", {}), ("per_instance_stats", {"stats": None})]
)
def test_rows_before_a_cut_are_taken(tmp_path: Path, name: str, changes: dict[str, Any]) -> None:
    folder = small_run(tmp_path / "run", **changes)
    text = (folder / f"{name}.json").read_text()
    (folder / f"{name}.json").write_text(text[: text.rindex("id9") + 1])
    (task,) = read(folder).tasks
    assert task.samples is not None
    samples = task.samples(Ledger())
    first = next(samples)
    assert (first.id, first.score) == ("id7", 1.0)
    with pytest.raises(Unreadable, match=name):
        next(samples)


def test_numbers_that_are_none_are_no_count(tmp_path: Path) -> None:
    run = read(small_run(tmp_path / "run", stats=[stat("exact_match", 0.5), stat("num_instances", float("inf"))]))
    assert run.tasks[0].expected is None


def test_rows_of_another_shape_are_refused_with_their_place(tmp_path: Path) -> None:
    state = {
        "adapter_spec": run_spec()["adapter_spec"],
        "request_states": [{"instance": "id1"}, request("id7"), request("id9", instance={"id": 9})],
    }
    rows = [scored("id7", exact_match=1.0), {"instance_id": "id9", "train_trial_index": 0, "stats": [{"mean": 1}]}]
    samples, ledger = take(read(small_run(tmp_path / "run", scenario_state=state, per_instance_stats=rows)))
    assert [sample.id for sample in samples] == ["id7"]
    assert sorted(place for places in ledger.refused.values() for place in places) == [
        "per_instance_stats.json:[1]",
        "scenario_state.json:request_states[0]",
        "scenario_state.json:request_states[2]",
    ]


def test_long_prompts_are_not_held(tmp_path: Path) -> None:
    prompt = {"prompt": "Long ago, " * 20_000}
    state = {
        "adapter_spec": run_spec()["adapter_spec"],
        "request_states": [request(f"id{n}", request=prompt) for n in range(100)],
    }
    rows = [scored(f"id{n}", exact_match=1.0) for n in range(100)]
    folder = small_run(tmp_path / "run", scenario_state=state, per_instance_stats=rows)
    del state
    assert (folder / "scenario_state.json").stat().st_size > 20_000_000
    tracemalloc.start()
    try:
        (task,) = read(folder).tasks
        assert task.samples is not None
        assert sum(1 for _ in task.samples(Ledger())) == 100
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


REAL = {
    "commonsense": ("eleutherai/pythia-1b-v0", "2025-07-05T15:39:58Z", "hellaswag", 10, 3 / 10, "valid"),
    "mmlu": ("openai/gpt2", "2025-11-05T15:02:02Z", "mmlu_philosophy", 9, 1 / 9, "test"),
    "narrative_qa": ("openai/gpt2", "2025-11-18T15:21:36Z", "narrative_qa", 4, 0.17424242424242425, "test"),
}


@needs_real_data
def test_real_run_folders() -> None:
    """Nine folders: three runs, each under three spellings of its name."""
    findings = list(HELM.find(read_tree(REAL_DATA / "native")))
    assert len(findings) == 9
    for finding in findings:
        (run,) = HELM.read(finding, ReadOptions())
        assert isinstance(run, HarnessRun)
        samples, ledger = take(run)
        (task,) = run.tasks
        scenario = next(name for name in REAL if finding.files[0].folder.rpartition("/")[2].startswith(name))
        model, timestamp, name, count, mean, split = REAL[scenario]
        assert (run.model_id, run.timestamp, task.names[0], task.origin["split"]) == (model, timestamp, name, split)
        assert len(samples) == task.expected == count
        assert sum(sample.score or 0 for sample in samples) / count == pytest.approx(mean, abs=1e-12)
        assert not ledger.refused
        assert all(sample.question and sample.target and sample.input_tokens for sample in samples)
        compared = 0
        for stated in task.stated:
            if stated.kind == "mean":
                values = [sample.metrics[stated.metric] for sample in samples if stated.metric in sample.metrics]
                assert sum(values) / len(values) == pytest.approx(stated.value, rel=1e-9), stated.metric
                compared += 1
        assert compared >= 23
