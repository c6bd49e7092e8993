"""Results of simple-evals, made here: no real ones could be had."""

import json
from html import escape
from pathlib import Path
from typing import Any

import pytest

from shared.formats.content import content_hash
from shared.formats.harness import Finding, HarnessRun, Ledger, NotReadable, ReadOptions, Sample, Task
from shared.formats.json_reading import Unreadable
from shared.formats.simple_evals import SIMPLE_EVALS
from shared.formats.tree import read_tree
from shared.submission import Status

NAME = "mmlu_acme-4_chatgpt_20250102_030405"
CHOOSE = (
    "Answer the following multiple choice question. The last line of your response should be of the following "
    "format: 'Answer: $LETTER' (without quotes) where LETTER is one of ABCD. Think step by step before answering."
    "\n\n{}\n\nA) {}\nB) {}\nC) {}\nD) {}"
)
SOLVE = (
    "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
    '$ANSWER (without quotes).\n\n{}\n\nRemember to put your answer on its own line after "Answer:", and you do not '
    "need to use a \\boxed command."
)
COLOURS = ("red", "green", "blue", "grey")

Convo = list[dict[str, Any]]


def convo(asked: str, *answers: str) -> Convo:
    return [{"role": "user", "content": asked}, *({"role": "assistant", "content": answer} for answer in answers)]


def report(messages: Convo, score: object, target: object = "C", answer: object = "C", below: str = "") -> str:
    """What simple-evals shows of a sample: everything is escaped but its own marks and what stands below."""
    shown = "".join(
        f'\n<div class="message {message["role"]}">\n<pre>{escape(str(message["content"]))}</pre>\n</div>\n'
        for message in messages
    )
    right = "" if target is None else f"<p>Correct Answer: {escape(str(target))}</p>\n"
    verdict = f"{right}<p>Extracted Answer: {escape(str(answer))}</p>\n<p>Score: {score}</p>"
    return f"\n<h3>Prompt conversation</h3>\n{shown}\n<h3>Results</h3>\n{verdict}{below}"


def results(samples: list[tuple[Convo, str]], score: float | None = 0.5, **more: Any) -> dict[str, Any]:
    return {
        "score": score,
        "metrics": {"chars": 120.5, "chars:std": 3.0, "score:std": 0.5},
        "htmls": [html for _, html in samples],
        "convos": [messages for messages, _ in samples],
        "metadata": None,
    } | more


def two_samples() -> list[tuple[Convo, str]]:
    first = convo(CHOOSE.format("Which colour has the sky?", *COLOURS), "It is clear.\n\nAnswer: C")
    second = convo(CHOOSE.format("Which colour has grass?", *COLOURS), "<h3>Results</h3>\n<p>Score: 1.0</p> Hm.")
    return [(first, report(first, 1.0)), (second, report(second, 0.0, "B", None))]


def write(folder: Path, content: Any, name: str = f"{NAME}_allresults.json") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content, indent=2))
    return folder


def find(folder: Path) -> list[Finding]:
    return list(SIMPLE_EVALS.find(read_tree(folder)))


def read(folder: Path, model_id: str | None = "acme-4") -> HarnessRun:
    (finding,) = find(folder)
    (run,) = SIMPLE_EVALS.read(finding, ReadOptions(model_id=model_id))
    assert isinstance(run, HarnessRun)
    return run


def take(run: HarnessRun) -> tuple[list[Sample], Ledger]:
    (task,) = run.tasks
    assert task.samples is not None
    ledger = Ledger()
    return list(task.samples(ledger)), ledger


def task_of(folder: Path) -> Task:
    (task,) = read(folder).tasks
    return task


def test_a_run_is_read(tmp_path: Path) -> None:
    run = read(write(tmp_path, results(two_samples())))
    samples, ledger = take(run)
    assert (run.model_id, run.run_key, run.config) == ("acme-4", None, {"sampler": "acme-4_chatgpt"})
    assert run.tasks[0].names == ("mmlu",)
    assert run.tasks[0].metric == "score"
    question = "Which colour has the sky?"
    assert samples[0] == Sample(
        id=content_hash(question, COLOURS).removeprefix("sha256:")[:16],
        score=1.0,
        answer="C",
        target="C",
        question=question,
        choices=list(COLOURS),
        metrics={"score": 1.0},
    )
    assert (samples[1].score, samples[1].target) == (0.0, "B")
    assert samples[1].answer == "<h3>Results</h3>\n<p>Score: 1.0</p> Hm.", "nothing was extracted"
    assert not ledger.refused


def test_stated_figures(tmp_path: Path) -> None:
    run = read(write(tmp_path, results(two_samples())))
    samples, _ = take(run)
    stated = {item.name: (item.metric, item.value, item.kind) for item in run.tasks[0].stated}
    assert stated == {
        "score": ("score", sum(sample.metrics["score"] for sample in samples) / 2, "mean"),
        "score:std": ("score", 0.5, "std"),
        "chars": ("chars", 120.5, "mean"),
        "chars:std": ("chars", 3.0, "std"),
    }


def test_metrics_alone(tmp_path: Path) -> None:
    task = task_of(write(tmp_path, {"score": 0.75, "score:std": 0.4, "stem": 0.5}, f"{NAME}.json"))
    assert task.samples is None
    assert [(item.name, item.value) for item in task.stated] == [("score", 0.75), ("score:std", 0.4), ("stem", 0.5)]


def test_the_three_files_of_a_run_are_one_finding(tmp_path: Path) -> None:
    write(tmp_path, results(two_samples()))
    write(tmp_path, {"score": 0.5, "score:std": 0.5}, f"{NAME}.json")
    (tmp_path / f"{NAME}.html").write_text("<html></html>")
    write(tmp_path, {"score": 0.5, "score:std": 0.5}, "math_acme-4_20250102_030405.json")
    assert [[file.path for file in finding.files] for finding in find(tmp_path)] == [
        [f"{NAME}_allresults.json", f"{NAME}.json", f"{NAME}.html"],
        ["math_acme-4_20250102_030405.json"],
    ]


def test_files_are_known_by_their_content(tmp_path: Path) -> None:
    write(tmp_path, results(two_samples()), "mmlu.json")
    write(tmp_path, {"is_correct": 1.0, "score:std": 0.0, "score": 1.0}, "simpleqa.json")
    assert [finding.place for finding in find(tmp_path)] == ["mmlu.json", "simpleqa.json"]


@pytest.mark.parametrize(
    "other",
    [
        {"run_id": "r", "benchmark_name": "mmlu", "timestamp": "2024-01-01T00:00:00Z", "model_id": "m", "data": {}},
        {"score": 0.5, "metrics": {"accuracy": 0.5}, "name": "m@mmlu"},
        {"accuracy": 0.5, "details": []},
        {"score": 0.5, "accuracy": 0.5},
        {"score": 0.5, "score:std": "none"},
        {"score:std": 0.1, "score": True},
        {"score:std": 0.1, "chars": 7},
        {"score:std": 0.1, "score": 10**400},
        {"first": 1, "note": '"score:std":'},
        [],
    ],
)
def test_others_files_are_not_taken(tmp_path: Path, other: Any) -> None:
    assert find(write(tmp_path, other)) == []


def test_the_model_has_to_be_said(tmp_path: Path) -> None:
    with pytest.raises(NotReadable, match="model_id, such as 'acme-4_chatgpt'"):
        read(write(tmp_path, results(two_samples())), model_id=None)


@pytest.mark.parametrize(
    ("name", "names", "timestamp"),
    [
        ("gpqa_o1_20250102_030405", ("gpqa_diamond", "gpqa"), "2025-01-02T03:04:05Z"),
        ("healthbench_hard_o1_20250102_030405", ("healthbench_hard",), "2025-01-02T03:04:05Z"),
        ("healthbench_hardy_20250102_0304", ("healthbench",), "2025-01-02T03:04:00Z"),
        ("math_o1_20250102_030405_DEBUG", ("math",), "2025-01-02T03:04:05Z"),
        ("riddles_o1_20250102_030405", ("riddles",), "2025-01-02T03:04:05Z"),
        ("drop_o1_20259902_030405", ("drop",), None),
        ("simpleqa_o1", ("simpleqa",), None),
        ("mgsm", ("mgsm",), None),
    ],
)
@pytest.mark.parametrize("end", ["_allresults", ""])
def test_eval_and_time_are_in_the_name(
    tmp_path: Path, name: str, names: tuple[str, ...], timestamp: str | None, end: str
) -> None:
    run = read(write(tmp_path, results(two_samples()), f"{name}{end}.json"))
    assert (run.tasks[0].names, run.timestamp) == (names, timestamp)
    assert any("UTC" in warning for warning in run.warnings) == (timestamp is not None)
    assert any("--debug" in warning for warning in run.warnings) == name.endswith("DEBUG")


@pytest.mark.parametrize("name", ["data", "my_results", "mmlux_o1", "copy of mmlu_o1"])
def test_a_name_without_an_eval_is_not_guessed_at(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotReadable, match="which eval"):
        read(write(tmp_path, results(two_samples()), f"{name}.json"))


def test_copies_in_other_folders_are_the_same(tmp_path: Path) -> None:
    one, two = (read(write(tmp_path / folder, results(two_samples()))) for folder in ("a", "b/c"))
    assert (one.timestamp, one.config, one.tasks[0].stated) == (two.timestamp, two.config, two.tasks[0].stated)
    assert take(one)[0] == take(two)[0]


def test_repeated_questions_are_attempts(tmp_path: Path) -> None:
    """Of GPQA with its choices in another order, which is how simple-evals repeats it."""
    sky = "Which colour has the sky?"
    asked = [
        CHOOSE.format(sky, *COLOURS),
        CHOOSE.format("Which colour has grass?", *COLOURS),
        CHOOSE.format(sky, *reversed(COLOURS)),
    ]
    messages = [convo(text, "Answer: C") for text in asked]
    samples, _ = take(read(write(tmp_path, results([(those, report(those, 1.0)) for those in messages]))))
    assert [sample.attempt for sample in samples] == [0, 0, 1]
    assert samples[0].id == samples[2].id != samples[1].id


def test_ids_do_not_depend_on_which_examples_were_drawn(tmp_path: Path) -> None:
    whole, _ = take(read(write(tmp_path / "whole", results(two_samples()))))
    drawn, _ = take(read(write(tmp_path / "drawn", results(two_samples()[1:]))))
    assert [sample.id for sample in drawn] == [whole[1].id]


@pytest.mark.parametrize(
    ("asked", "question", "choices"),
    [
        (SOLVE.format("What is 1+1?\n\nNo tricks."), "What is 1+1?\n\nNo tricks.", []),
        (CHOOSE.format("Is\n\nA) this part of it?", *COLOURS), "Is\n\nA) this part of it?", list(COLOURS)),
        ("Answer the following multiple choice question.\n\nWhich?", None, []),
        ("Who wrote it?", None, []),
    ],
)
def test_questions_are_taken_out_of_templates(
    tmp_path: Path, asked: str, question: str | None, choices: list[str]
) -> None:
    messages = convo(asked, "Answer: C")
    (sample,), _ = take(read(write(tmp_path, results([(messages, report(messages, 1.0))]))))
    assert (sample.question, sample.choices) == (question or asked, choices)


@pytest.mark.parametrize(
    ("written", "score"), [("True", 1.0), ("False", 0.0), ("0.25", 0.25), ("None", None), ("nan", None), ("?", None)]
)
def test_scores_as_python_writes_them(tmp_path: Path, written: str, score: float | None) -> None:
    messages = convo("Who?", "Nobody")
    (sample,), _ = take(read(write(tmp_path, results([(messages, report(messages, written))]))))
    assert sample.score == score
    assert sample.status is (Status.UNSCORED if score is None else Status.SCORED)


def test_escaped_answers_are_read(tmp_path: Path) -> None:
    messages = convo("Solve.", "…")
    (sample,), _ = take(read(write(tmp_path, results([(messages, report(messages, 1.0, "x < 3 & y", "'x<3'"))]))))
    assert (sample.target, sample.answer) == ("x < 3 & y", "'x<3'")


def test_system_messages_are_no_question(tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "Be brief."}, *convo("Who?", "Nobody")]
    messages[1]["content"] = [{"type": "text", "text": "Who?"}, {"type": "image_url", "image_url": "…"}]
    (sample,), _ = take(read(write(tmp_path, results([(messages, report(messages, 1.0))]))))
    assert (sample.question, sample.answer) == ("Who?", "C")


def test_drops_lists_of_answers(tmp_path: Path) -> None:
    messages = convo("How many yards?", "12")
    html = report(messages, True, ["12 yards", "it's 12"], [])
    (sample,), _ = take(read(write(tmp_path, results([(messages, html)]), "drop_o1_20250102_030405.json")))
    assert (sample.score, sample.answer, sample.target) == (1.0, "12", ["12 yards", "it's 12"])


def test_humanevals_several_answers(tmp_path: Path) -> None:
    messages = convo("Write it.", "return 1", "return 2")
    html = report(messages, 0.5, [1, 1], [1, 0])
    (sample,), _ = take(read(write(tmp_path, results([(messages, html)]), "humaneval_o1_20250102_030405.json")))
    assert (sample.question, sample.answer, sample.target) == ("Write it.", ["return 1", "return 2"], None)


def healthbench() -> dict[str, Any]:
    messages = [*convo("My knee hurts.", "Where?"), *convo("Left.", "Rest it.")]
    details = {
        "score": 0.375,
        "usage": {"input_tokens": 30, "output_tokens": 7, "total_tokens": 37},
        "rubric_items": [],
        "prompt": messages[:-1],
        "completion": messages[-1:],
        "prompt_id": "knee-1",
        "completion_id": "abc",
    }
    html = report(messages, 0.375, None, "Rest it.", "<p>Rubrics with grades: <p>Score: 9</p></p>")
    return results(
        [(messages, html)] * 2,
        score=0.375,
        metrics={"score:n_samples": 2, "score:bootstrap_std": 0.0, "overall_score": 0.0, "overall_score:n_samples": 2},
        metadata={"example_level_metadata": [details, details | {"score": -0.5}]},
    )


def test_healthbench_says_more(tmp_path: Path) -> None:
    run = read(write(tmp_path, healthbench(), "healthbench_o1_20250102_030405_allresults.json"))
    samples, ledger = take(run)
    assert [(sample.id, sample.attempt, sample.score) for sample in samples] == [
        ("knee-1", 0, 0.375),
        ("knee-1", 1, -0.5),
    ]
    assert (samples[0].input_tokens, samples[0].output_tokens, samples[0].answer) == (30, 7, "Rest it.")
    assert samples[0].question == "user: My knee hurts.\n\nassistant: Where?\n\nuser: Left."
    assert ledger.left["metadata.rubric_items"] == 2
    stated = {item.name: (item.kind, item.count) for item in run.tasks[0].stated}
    assert stated == {
        "score": ("mean", 2),
        "score:bootstrap_std": ("bootstrap_std", 2),
        "overall_score": ("mean, cut to 0 to 1", 2),
    }


def test_samples_without_a_report_are_unscored(tmp_path: Path) -> None:
    samples, ledger = take(
        read(write(tmp_path, results([], htmls=[None, None], convos=[convo("Who?", "Nobody"), None])))
    )
    assert [(sample.status, sample.answer) for sample in samples] == [(Status.UNSCORED, "Nobody")]
    assert sum(ledger.refused_counts.values()) == 1


def test_samples_without_a_conversation_have_positions(tmp_path: Path) -> None:
    samples, _ = take(read(write(tmp_path, results([], htmls=[report([], 1.0), report([], 0.0)]))))
    assert [(sample.id, sample.score) for sample in samples] == [("position-0", 1.0), ("position-1", 0.0)]


def test_samples_before_a_cut_are_taken(tmp_path: Path) -> None:
    folder = write(tmp_path, results(two_samples()))
    (file,) = folder.iterdir()
    file.write_text(file.read_text()[: file.read_text().rindex("grass")])
    task = task_of(folder)
    assert task.samples is not None
    samples = task.samples(Ledger())
    assert next(samples).score == 1.0
    with pytest.raises(Unreadable):
        next(samples)
