"""lm-evaluation-harness: what becomes of its samples and their documents."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.formats.harness import Ledger, ReadOptions, Sample, Stated
from shared.formats.json_reading import Unreadable
from shared.formats.lm_eval import LM_EVAL
from shared.formats.lm_eval_documents import SCALAR_MAX_CHARACTERS, read_document
from shared.formats.lm_eval_samples import PEEKED_ROWS
from shared.submission import Status
from tests.lm_eval_files import DATE, choice_row, find, hashed, read, read_rows, recompute, results, row, samples, write


def test_infinity_is_stated_and_no_sample_has_it(tmp_path: Path) -> None:
    lines = "".join(
        json.dumps(row(at, metrics=["mae"], mae=value, exact_match=None)) + "\n"
        for at, value in enumerate([float("inf"), float("nan"), 0.25])
    )
    figures = {"mae,none": float("inf"), "mae_stderr,none": float("nan")}
    run = read_rows(tmp_path, lines, figures, higher_is_better={"sums": {"mae": False}})
    (task,) = run.tasks
    assert (task.metric, task.stated[0]) == (None, Stated("mae,none", float("inf")))
    ledger = Ledger()
    assert [dict(sample.metrics) for sample in samples(task, ledger)] == [{}, {}, {"mae,none": 0.25}]
    assert {sample.status for sample in samples(task)} == {Status.UNSCORED}
    assert sum(ledger.warnings.values()) == 1  # and not once a sample
    assert ledger.left["mae"] == 2


def test_a_sample_in_full(tmp_path: Path) -> None:
    doc = {"question": "How many?", "level": "Level 3", "answer": "4", "solution": "Count.", "n": 1, "rate": 0.5}
    doc |= {
        "ok": True,
        "text": "unused",
        "long": "x" * 201,
        "list": [1],
        "meta": {"year": 2024, "tags": []},
        "none": None,
    }
    run = read_rows(tmp_path, [row(1, doc=doc, repeats=1)])
    (task,) = run.tasks
    ledger = Ledger()
    (sample,) = samples(task, ledger)
    assert sample == Sample(
        id=hashed(doc)[:16],
        score=1.0,
        answer="2",
        target="2",
        question="How many?",
        origin={"doc": {"level": "Level 3", "n": 1, "rate": 0.5, "ok": True, "meta": {"year": 2024}}},
        metrics={"exact_match,none": 1.0},
    )
    assert ledger.left == Counter(
        dict.fromkeys(
            [
                *("doc_id", "arguments", "resps", "prompt_hash", "target_hash", "repeats"),
                *("doc.answer", "doc.solution", "doc.text", "doc.long", "doc.list"),
            ],
            1,
        )
    )
    assert (task.metric, task.version, task.origin) == ("exact_match", "2.0", {"task": "sums"})


FILTERS = {"filter_list": [{"name": "strict"}, {"name": "flexible"}], "metric_list": [{"metric": "exact_match"}]}
FILTER_FIGURES = {
    "exact_match,strict": 1 / 3,
    "exact_match_stderr,strict": (1 / 9) ** 0.5,
    "exact_match,flexible": 2 / 3,
    "exact_match_stderr,flexible": (1 / 9) ** 0.5,
}


def filter_lines(*, named: bool) -> list[dict[str, Any]]:
    """Three documents under two filters, one block after the other."""
    return [
        row(at, filter=name if named else None, exact_match=float(score), filtered_resps=[f"{name} {at}"])
        for name, scores in {"strict": [1, 0, 0], "flexible": [1, 1, 0]}.items()
        for at, score in enumerate(scores)
    ]


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(
    ("option", "taken", "other"), [(None, "strict", "flexible"), ("flexible", "flexible", "strict")]
)
def test_one_filter_is_taken_and_the_figures_of_all_are_recomputed(
    tmp_path: Path, named: bool, option: str | None, taken: str, other: str
) -> None:
    write(tmp_path / f"results_{DATE}.json", results({"sums": FILTER_FIGURES}, configs={"sums": FILTERS}))
    write(tmp_path / f"samples_sums_{DATE}.jsonl", filter_lines(named=named))
    (finding,) = find(tmp_path)
    (run,) = LM_EVAL.read(finding, ReadOptions(filter=option))
    (task,) = run.tasks
    ledger = Ledger()
    assert [sample.answer for sample in samples(task, ledger)] == [f"{taken} {at}" for at in range(3)]
    assert ledger.passed_over == {f"the same answers under another filter: {other}": 3}
    assert not ledger.refused
    for stated in task.stated:
        assert recompute(run, stated, task) == pytest.approx(stated.value)


def test_other_filters_are_matched_by_document(tmp_path: Path) -> None:
    """Rows that one filter lacks, or that stand in another order, do not shift the others."""
    lines = filter_lines(named=True)
    write(tmp_path / f"results_{DATE}.json", results({"sums": FILTER_FIGURES}, configs={"sums": FILTERS}))
    write(tmp_path / f"samples_sums_{DATE}.jsonl", [*lines[:3], lines[5], lines[3]])
    (task,) = read(tmp_path).tasks
    assert [sample.metrics.get("exact_match,flexible") for sample in samples(task)] == [1.0, None, 0.0]


@pytest.mark.parametrize(("option", "metric", "score"), [(None, "acc", 1.0), ("acc_norm", "acc_norm", 0.0)])
def test_metric_may_be_chosen(tmp_path: Path, option: str | None, metric: str, score: float) -> None:
    write(tmp_path / f"samples_sums_{DATE}.jsonl", [row(1, metrics=["acc", "acc_norm"], acc=True, acc_norm=0)])
    (finding,) = find(tmp_path)
    (run,) = LM_EVAL.read(finding, ReadOptions(model_id="m", metric=option))
    assert run.tasks[0].metric == metric
    assert [sample.score for sample in samples(run.tasks[0])] == [score]


def test_unknown_choices_are_told(tmp_path: Path) -> None:
    write(tmp_path / f"samples_sums_{DATE}.jsonl", [row(1)])
    run = read(tmp_path, model_id="m", metric="bleu", filter="loose")
    assert [warning.split(": ", 1)[1] for warning in run.warnings if "zone" not in warning] == [
        "has no filter loose, only none: none is taken",
        "has no metric bleu, only exact_match: exact_match is taken",
    ]
    assert [sample.score for sample in samples(run.tasks[0])] == [1.0]


@pytest.mark.parametrize(
    ("values", "scores"),
    [
        pytest.param([1, 0], [1.0, 0.0], id="integers"),
        pytest.param([True, False], [1.0, 0.0], id="booleans"),
        pytest.param([0.25, None], [0.25, None], id="one without"),
        pytest.param([[1, 2], [0, 1]], [None, None], id="lists"),
        pytest.param([0.5, 17.0], [None, None], id="beyond one, at the second row"),
        pytest.param([0.5] * PEEKED_ROWS + [17.0], [0.5] * PEEKED_ROWS + [None], id="beyond one, late"),
    ],
)
def test_scores(tmp_path: Path, values: list[Any], scores: list[float | None]) -> None:
    lines = [row(at, metrics=["m"], exact_match=None, m=value) for at, value in enumerate(values)]
    (task,) = read_rows(tmp_path, lines, {"x": "N/A"}).tasks
    found = samples(task)
    assert [sample.score for sample in found] == scores
    assert [sample.status for sample in found] == [
        Status.UNSCORED if score is None else Status.SCORED for score in scores
    ]


def test_the_score_is_the_first_metric_that_can_be_one(tmp_path: Path) -> None:
    fields = {"metrics": ["brier", "pairs", "ok"], "brier": 0.25, "pairs": [[0], [1]], "ok": 1.0, "exact_match": None}
    run = read_rows(tmp_path, [row(1, **fields)], {"ok,none": 1.0}, higher_is_better={"sums": {"brier": False}})
    assert run.tasks[0].metric == "ok"


@pytest.mark.parametrize(
    ("line", "choices", "answer", "target"),
    [
        pytest.param(choice_row([-3, -1, -2], "1"), ("A", "B", "C"), "B", "B", id="index"),
        pytest.param(
            choice_row([-3, -1], "no", ["yes", "no"]), ("yes", "no"), "B", "B", id="texts of the continuations"
        ),
        pytest.param(
            choice_row([-1, -2], "0", doc={"question": "q", "choices": ["red", "blue"]}),
            ("red", "blue"),
            "A",
            "A",
            id="choices of the document",
        ),
        pytest.param(
            choice_row([-1, -2], "B", doc={"question": "q", "choices": ["red", "blue"]}),
            ("red", "blue"),
            "A",
            "B",
            id="a letter that was asked for",
        ),
        pytest.param(choice_row([-1, -2], "[0, 1]"), ("A", "B"), "A", "[0, 1]", id="several targets"),
        pytest.param(choice_row([-1, -2], "7"), ("A", "B"), "A", "7", id="target out of range"),
        pytest.param(
            choice_row([-1, -3, -9, -1], "0", ["x", "y", "x", "y"], doc={"question": "q", "choices": ["x", "y"]}),
            ("x", "y"),
            "A",
            "A",
            id="with those without the question",
        ),
        pytest.param(
            choice_row([-4, -6], "1", ["no", "certainly"], metrics=["acc_norm"], acc=None, acc_norm=1.0),
            ("no", "certainly"),
            "B",
            "B",
            id="by length",
        ),
        pytest.param(choice_row([-1, -2], "0", ["same", "same"]), (), "0", "0", id="one text after several questions"),
        pytest.param(row(1, filtered_resps=[["-0.1", "True"]], target="nine"), (), "nine", "nine", id="likely text"),
        pytest.param(row(1, filtered_resps=[[-9.1, "False"]], target="nine"), (), None, "nine", id="unlikely text"),
        pytest.param(row(1, filtered_resps=[["a", "b", "c"]]), (), ["a", "b", "c"], "2", id="repeats"),
        pytest.param(row(1, filtered_resps=[["a"]]), (), "a", "2", id="one of a list"),
        pytest.param(row(1, filtered_resps=[]), (), None, "2", id="nothing"),
    ],
)
def test_answers(
    tmp_path: Path, line: dict[str, Any], choices: tuple[str, ...], answer: object, target: object
) -> None:
    write(tmp_path / f"samples_sums_{DATE}.jsonl", [line])
    (sample,) = samples(read(tmp_path, model_id="m").tasks[0])
    assert (sample.choices, sample.answer, sample.target) == (choices, answer, target)
    assert sample.score == 1.0


def test_a_page_whose_likelihood_was_asked_for_is_not_repeated_as_its_target(tmp_path: Path) -> None:
    line = row(1, doc={"page": "Once upon a time."}, target="Once upon a time.", filtered_resps=["-12.5"])
    run = read_rows(tmp_path, [line], configs={"sums": {"output_type": "loglikelihood_rolling"}})
    (sample,) = samples(run.tasks[0])
    assert (sample.question, sample.answer, sample.target) == ("Once upon a time.", "-12.5", None)


# --- ids


def test_ids_do_not_depend_on_place_nor_on_whether_the_harness_wrote_the_hash(tmp_path: Path) -> None:
    doc = {"question": "Wie groß?", "rate": 0.5, "list": [1, None, {"a": True}]}
    lines = [row(1, doc=doc), row(2)]
    moved = [row(2, doc_id=0, doc_hash=None), row(1, doc=doc, doc_id=40, doc_hash=None)]
    first = [sample.id for sample in samples(read_rows(tmp_path / "a", lines).tasks[0])]
    assert first[::-1] == [sample.id for sample in samples(read_rows(tmp_path / "b", moved).tasks[0])]
    assert len(set(first)) == 2


def test_the_same_document_again_is_an_attempt_and_the_same_line_is_refused(tmp_path: Path) -> None:
    doc = {"question": "How many?"}
    lines = [row(3, doc=doc), row(7, doc=doc), row(9, doc=doc), row(7, doc=doc), row(3, doc=doc), row(4)]
    ledger = Ledger()
    found = samples(read_rows(tmp_path, lines).tasks[0], ledger)
    assert [sample.attempt for sample in found] == [0, 1, 2, 0]
    assert len({sample.id for sample in found}) == 2
    (places,) = ledger.refused.values()
    assert [place.rpartition(":")[2] for place in places] == ["4", "5"]


def test_the_same_document_without_places_is_always_an_attempt(tmp_path: Path) -> None:
    lines = [row(1, doc_id=None)] * 4
    assert [sample.attempt for sample in samples(read_rows(tmp_path, lines).tasks[0])] == [0, 1, 2, 3]


# --- broken files


def test_lines_that_cannot_be_taken_are_told_by_place(tmp_path: Path) -> None:
    good, bare = json.dumps(row(1)), json.dumps(row(2, doc=None, doc_hash=None, doc_id=None))
    text = f'{good}\n\n{{"doc_id": 1, oops}}\n[1]\n{bare}\n{json.dumps(row(3, doc=None, doc_hash=None))}\n{good[:50]}'
    (task,) = read_rows(tmp_path, text).tasks
    ledger = Ledger()
    assert [sample.id for sample in samples(task, ledger)] == [row(1)["doc_hash"][:16], "3"]
    name = f"samples_sums_{DATE}.jsonl"
    assert ledger.refused == {
        "is not JSON": [f"{name}:3"],
        "is not an object": [f"{name}:4"],
        "has neither doc_hash, doc nor doc_id": [f"{name}:5"],
        "is cut short": [f"{name}:7"],
    }


def test_a_list_is_read_as_lines_and_what_is_before_a_fault_is_taken(tmp_path: Path) -> None:
    text = json.dumps([row(at) for at in range(3)], indent=1)
    assert len(samples(read_rows(tmp_path / "whole", text).tasks[0])) == 3
    (task,) = read_rows(tmp_path / "cut", text[:-40]).tasks
    assert task.samples is not None
    reading = task.samples(Ledger())
    assert [next(reading).attempt, next(reading).attempt] == [0, 0]
    with pytest.raises(Unreadable, match="ends too early"):
        next(reading)


def test_what_was_left_is_told_even_if_nobody_reads_on(tmp_path: Path) -> None:
    (task,) = read_rows(tmp_path, [row(1), row(2)]).tasks
    assert task.samples is not None
    ledger = Ledger()
    reading = iter(task.samples(ledger))
    next(reading)
    reading.close()  # type: ignore[attr-defined]
    assert ledger.left["arguments"] == 1


# --- documents


@pytest.mark.parametrize(
    ("doc", "question", "choices"),
    [
        ({"question": "q", "input": "i"}, "q", ()),
        ({"Question": "Q", "Domain": "d"}, "Q", ()),
        ({"Question": "large", "question": "small"}, "small", ()),
        ({"question": {"stem": "?"}, "problem": "p"}, "p", ()),
        ({"passage": "It rained.", "question": "Did it?"}, "It rained.\n\nDid it?", ()),
        ({"paragraph": "It rained.", "question": "Did it?"}, "It rained.\n\nDid it?", ()),
        ({"question_stem": "q", "choices": {"text": ["x", "y"]}}, "q", ("x", "y")),
        ({"question": "q", "answerA": "x", "answerB": "y", "answer1": "y"}, "q", ("x", "y")),
        ({"question": "q", "options_A": "x", "options_B": "y"}, "q", ("x", "y")),
        ({"question": "q", "mc_answer1": "x", "mc_answer2": "y"}, "q", ("x", "y")),
        ({"question": "q", "candidates": ["x", "y"]}, "q", ("x", "y")),
        ({"premise": "A dog.", "hypothesis": "An animal."}, "A dog.\n\nAn animal.", ()),
        ({"premise": "It fell.", "choice1": "a", "choice2": "b"}, "It fell.", ("a", "b")),
        ({"query": "q", "choices": ["x", "y"]}, "q", ("x", "y")),
        ({"question": "q", "choices": {"text": ["x", "y"], "label": ["A", "B"]}}, "q", ("x", "y")),
        ({"question": "q", "options": {"A": "x", "B": "y"}}, "q", ("x", "y")),
        ({"question": "q", "options": [{"text": "x"}, {"text": "y"}]}, "q", ("x", "y")),
        ({"question": "q", "choices": [1, 2.5]}, "q", ("1", "2.5")),
        ({"question": "q", "choices": "a ) 1 , b ) 2"}, "q", ()),
        ({"question": "q", "A": "x", "B": "y", "answer": "A"}, "q", ("x", "y")),
        ({"question": "q", "opa": "x", "opb": "y", "cop": 1}, "q", ("x", "y")),
        ({"goal": "g", "sol1": "x", "sol2": "y"}, "g", ("x", "y")),
        ({"question": "q", "mc1_targets": {"choices": ["x", "y"], "labels": [1, 0]}}, "q", ("x", "y")),
        ({"idx": 3}, None, ()),
        ("just text", "just text", ()),
        ([1], None, ()),
        (None, None, ()),
    ],
)
def test_questions_and_choices(doc: object, question: str | None, choices: tuple[str, ...]) -> None:
    document = read_document(doc)
    assert (document.question, document.choices) == (question, choices)


def test_no_solution_becomes_metadata() -> None:
    solutions = [
        "answer",
        "answerKey",
        "Correct Answer",
        "Incorrect Answer 1",
        "gold",
        "label",
        "solution",
        "rationale",
    ]
    document = read_document({"question": "q", "level": 1, "answer_type": "exact", **dict.fromkeys(solutions, "x")})
    assert document.metadata == {"level": 1, "answer_type": "exact"}
    assert set(document.dropped) == set(solutions)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=10,
)
FIELD_NAMES = (
    st.sampled_from(["question", "context", "choices", "options", "A", "B", "answer", "level", "x"]) | st.text()
)


@given(st.dictionaries(FIELD_NAMES, JSON_VALUES, max_size=8))
def test_any_document_can_be_read_and_each_field_is_accounted_for(doc: dict[str, Any]) -> None:
    document = read_document(doc)
    assert not set(document.metadata) & set(document.dropped)
    assert set(document.metadata) | set(document.dropped) <= set(doc)
    for value in document.metadata.values():
        for scalar in value.values() if isinstance(value, dict) else [value]:
            assert isinstance(scalar, str | int | float)
            assert not isinstance(scalar, str) or len(scalar) <= SCALAR_MAX_CHARACTERS
