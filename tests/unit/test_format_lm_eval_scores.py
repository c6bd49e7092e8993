"""lm-evaluation-harness: samples within results, and which of a task's figures and names are taken."""

import math
from pathlib import Path

from shared.formats.harness import Ledger
from shared.formats.mapping import map_task
from shared.registry.load import load_registry
from tests.lm_eval_files import DATE, read, results, row, samples, write


def test_what_simple_evaluate_gives_has_its_samples_within(tmp_path: Path) -> None:
    rows = {"sums": [row(1, exact_match=1.0), row(2, exact_match=0.0)], "more": [row(3, exact_match=1.0)]}
    figures = {"sums": {"exact_match,none": 0.5}, "more": {"exact_match,none": 1.0}}
    saved = write(tmp_path / "within" / "data.json", results(figures, samples=rows))
    for task, those in rows.items():
        write(tmp_path / "beside" / f"samples_{task}_{DATE}.jsonl", those)
    write(tmp_path / "beside" / f"results_{DATE}.json", results(figures))

    within, beside = read(tmp_path / "within"), read(tmp_path / "beside")

    assert {task.names[0]: samples(task) for task in within.tasks} == {
        task.names[0]: samples(task) for task in beside.tasks
    }
    assert [len(samples(task)) for task in within.tasks] == [2, 1]
    assert all([file.location for file in task.files] == [saved] for task in within.tasks)
    assert within.config == beside.config


def test_samples_within_results_are_not_yet_made_texts(tmp_path: Path) -> None:
    asked = {"arguments": [["Q", f" {letter}"] for letter in "AB"], "filtered_resps": [[-2.5, False], [-0.5, True]]}
    line = row(1, doc={"question": "?", "choices": ["x", "y"]}, target=1, metrics=["acc"], acc=1.0) | asked
    write(tmp_path / "data.json", results({"mc": {"acc,none": 1.0}}, samples={"mc": [line]}))

    [task] = read(tmp_path).tasks

    assert [(sample.answer, sample.target, sample.choices) for sample in samples(task)] == [("B", "B", ("x", "y"))]


def test_samples_within_results_are_read_beside_figures_that_are_none(tmp_path: Path) -> None:
    broken = row(2, exact_match=0.0) | {"resps": [["yes"]], "exact_match": "?"}
    content = results({"sums": {"exact_match,none": math.nan}}, samples={"sums": [row(1), broken, 3], "odd": None})
    write(tmp_path / "out.json", content)

    [task] = read(tmp_path).tasks
    ledger = Ledger()
    assert task.samples is not None
    found = list(task.samples(ledger))

    assert [sample.score for sample in found] == [1.0, None]
    assert ledger.refused == {"is not an object": ["out.json: samples.sums[2]"]}


def test_samples_beside_results_come_before_those_within(tmp_path: Path) -> None:
    content = results({"sums": {"exact_match,none": 1.0}}, samples={"sums": [row(1), row(2)]})
    write(tmp_path / f"results_{DATE}.json", content)
    write(tmp_path / f"samples_sums_{DATE}.jsonl", [row(5)])

    [task] = read(tmp_path).tasks

    assert [sample.target for sample in samples(task)] == ["10"]


def test_figures_of_squad_count_to_100(tmp_path: Path) -> None:
    figures = {"exact": 9.25, "f1": 19.5, "HasAns_exact": 18.5, "NoAns_exact": 0.37}
    write(tmp_path / "squad.json", results({"squad2": figures, "own": {"exact": 0.5}}))

    squad, own = read(tmp_path).tasks

    assert squad.metric == "exact"
    assert {stated.metric: stated.scale for stated in squad.stated} == {
        "exact": 100.0,
        "f1": 1.0,
        "HasAns_exact": 100.0,
        "NoAns_exact": 100.0,
    }
    assert (own.metric, own.stated[0].scale) == ("exact", 1.0)


def test_without_samples_only_a_mean_can_be_the_score(tmp_path: Path) -> None:
    write(tmp_path / "old.json", results({"cloze": {"f1": 0.77, "em": 0.637}, "cola": {"mcc": 0.25}}))

    cloze, cola = read(tmp_path).tasks

    assert (cloze.metric, cola.metric) == ("em", None)


def test_figures_of_the_chosen_filter_come_first(tmp_path: Path) -> None:
    figures = {"exact_match,strict": 0.25, "exact_match_stderr,strict": 0.1, "exact_match,flexible": 0.75}
    write(tmp_path / "data.json", results({"sums": figures}))

    [first], [asked] = read(tmp_path).tasks, read(tmp_path, filter="flexible").tasks

    assert [stated.value for stated in first.stated] == [0.25, 0.1, 0.75]
    assert [stated.value for stated in asked.stated] == [0.75, 0.25, 0.1]


def test_a_subset_is_not_taken_for_the_benchmark_of_its_name(tmp_path: Path) -> None:
    configs = {"probe_mmlu": {"dataset_path": "acme/collection", "dataset_name": "MMLU"}}
    write(tmp_path / "data.json", results({"probe_mmlu": {"acc,none": 0.5}}, configs=configs))

    [task] = read(tmp_path).tasks

    assert not map_task(task.names, load_registry()).registered
