"""From a harness's run to results: merged by benchmark, named by content, with an account of what got lost."""

import itertools
import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.formats.content import content_hash
from shared.formats.harness import (
    FIELDS_MAX,
    Finding,
    HarnessRun,
    Ledger,
    NotReadable,
    ReadOptions,
    Sample,
    Stated,
    Task,
    shown,
)
from shared.formats.json_reading import Unreadable
from shared.formats.rows import TEXT_MAX
from shared.formats.standardize import UNTOLD_TIME, Standardized
from shared.formats.tree import File
from shared.registry.load import load_registry
from shared.submission import Status, read_submission

REGISTRY = load_registry()
TIME = "2026-01-02T03:04:05Z"
FINDING = Finding("some-harness", [File("out/results.json", Path("nowhere"), 10)])


def samples_of(*samples: Sample, ends: Exception | None = None, log: Sequence[str] = ()) -> Any:
    def read(ledger: Ledger) -> Iterator[Sample]:
        for field in log:
            ledger.leave([field])
        yield from samples
        if ends:
            raise ends

    return read


def sample(id_: str, score: float | None = 1.0, **more: Any) -> Sample:
    return Sample(id=id_, score=score, metrics={} if score is None else {"acc": score}, **more)


def task(name: str, *samples: Sample, **more: Any) -> Task:
    return Task(names=[name], samples=samples_of(*samples), **{"metric": "acc", **more})


def run(*tasks: Task, **more: Any) -> HarnessRun:
    return HarnessRun(**{"model_id": "m", "tasks": tasks, "timestamp": TIME, **more})


def standardized(
    *runs: HarnessRun, options: ReadOptions | None = None, digest: str = "d" * 64, usual: Sequence[HarnessRun] = ()
) -> Standardized:
    return Standardized(FINDING, runs, digest=digest, registry=REGISTRY, options=options or ReadOptions(), usual=usual)


def documents(plan: Standardized) -> list[dict[str, Any]]:
    return [json.loads(b"".join(result.body())) for result in plan.results]


def questions(plan: Standardized) -> list[dict[str, Any]]:
    [document] = documents(plan)
    found: list[dict[str, Any]] = document["data"]["questions"]
    return found


def test_a_result_is_one_that_a_post_takes() -> None:
    plan = standardized(run(task("math_500", sample("q1", answer="5", origin={"doc": {"level": "Level 3"}}))))
    submission = read_submission(b"".join(plan.results[0].body()))
    assert submission.envelope.result_name == f"{TIME}-math500-some-harness-{'d' * 16}"
    assert submission.envelope.source == "some-harness"
    assert submission.envelope.provenance is not None
    assert submission.envelope.provenance.raw_input == f"{TIME}-math500-some-harness-{'d' * 16}"
    assert submission.envelope.provenance.grader == "acc"
    assert submission.value == {
        "questions": [{"question_id": "q1", "score": 1.0, "answer": "5", "metadata": {"level": 3}}]
    }


def test_tasks_of_one_benchmark_are_one_result_and_their_questions_stay_apart() -> None:
    plan = standardized(run(task("mmlu_anatomy", sample("0")), task("mmlu_virology", sample("0", 0.0))))
    found = questions(plan)
    assert [question["question_id"] for question in found] == ["anatomy/0", "virology/0"]
    assert [question["metadata"] for question in found] == [
        {"subject": "anatomy", "category": "Other"},
        {"subject": "virology", "category": "Other"},
    ]
    assert plan.results[0].tasks == ["mmlu_anatomy", "mmlu_virology"]


def test_tasks_of_several_benchmarks_are_several_results_of_one_raw_input() -> None:
    plan = standardized(run(task("mmlu_anatomy", sample("0")), task("winogrande", sample("0"))))
    found = documents(plan)
    assert [document["benchmark_name"] for document in found] == ["mmlu", "winogrande"]
    assert plan.raw is not None
    assert (plan.raw.benchmark_name, plan.raw.model_id) == ("several", "m")
    assert {document["provenance"]["raw_input"] for document in found} == {plan.raw.result_name}


def test_two_results_that_would_have_one_name_are_numbered() -> None:
    plan = standardized(run(task("t", sample("0")), run_key="k"), run(task("t", sample("0")), run_key="k"))
    assert [result.envelope.run_id for result in plan.results] == ["k", "k-2"]


def test_the_run_id_is_the_harness_own_or_that_of_the_content() -> None:
    assert standardized(run(task("t"), run_key="abc")).results[0].envelope.run_id == "abc"
    assert standardized(run(task("t"))).results[0].envelope.run_id == f"some-harness-{'d' * 16}"
    cut = standardized(run(task("t"), run_key="abc", incomplete="cut short"))
    assert cut.results[0].envelope.run_id == f"abc-{'d' * 16}"


def test_what_was_chosen_of_a_run_is_a_result_of_its_own_only_where_it_is_another() -> None:
    options = ReadOptions(metric="acc norm", filter="strict")
    graded = run(task("t", metric="acc norm,strict"), run_key="abc")
    for usual, run_id in ((task("t"), "abc-acc_norm_strict"), (task("t", metric="acc norm,strict"), "abc")):
        plan = standardized(graded, options=options, usual=[run(usual, run_key="abc")])
        assert plan.results[0].envelope.run_id == run_id
    several = run(task("t", metric="f1"), task("u", metric="em"), run_key="abc")
    plan = standardized(several, options=ReadOptions(filter="strict"), usual=[run(task("t"), task("u"))])
    assert re.fullmatch(r"abc-strict-[0-9a-f]{8}", plan.results[0].envelope.run_id)
    other = standardized(run(task("t"), run_key="abc"), options=ReadOptions(metric="f1"))
    assert other.results[0].envelope.run_id == "abc"


def test_a_run_without_a_time_has_always_the_same() -> None:
    plan = standardized(run(task("t"), timestamp=None))
    assert plan.results[0].envelope.timestamp == UNTOLD_TIME
    assert any("--timestamp" in warning for warning in plan.ledger.warnings)
    told = standardized(run(task("t"), timestamp=None), options=ReadOptions(timestamp=TIME))
    assert told.results[0].envelope.timestamp == TIME


def test_what_no_envelope_can_hold_is_not_readable() -> None:
    with pytest.raises(NotReadable, match="model_id must not be empty"):
        standardized(run(task("t"), model_id=""))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (sample("q", 1.5), "its score is outside math500's scale 0…1"),
        (sample("q", attempt=40_000), "its attempt is not a number from 0 to 32,767"),
        (sample("q" * 400), "it cannot be stored: must be at most 300 bytes, is 400"),
        (sample("q", answer="\ud800"), "it cannot be stored: 'utf-8' codec can't encode character"),
        (sample("q", answer=["\ud800"]), "it cannot be stored: 'utf-8' codec can't encode character"),
        (sample("q", attempt=True), "its attempt is not a number from 0 to 32,767"),
        (sample("good"), "the same attempt at the same question is there already"),
    ],
)
def test_a_row_that_cannot_be_taken_is_refused_by_itself(bad: Sample, reason: str) -> None:
    plan = standardized(run(task("math500", sample("good"), bad, sample("last"))))
    assert [question["question_id"] for question in questions(plan)] == ["good", "last"]
    [(told, count)] = plan.ledger.refused_counts.items()
    assert told.startswith(reason)
    assert count == 1
    assert plan.ledger.refused[told] == [shown(f"math500, sample {bad.id}")]


def test_numbers_that_no_question_can_have_are_left_out() -> None:
    odd = sample("q", math.nan, latency_ms=-1.0, input_tokens=-5, cost_usd=math.inf, answer=[math.nan])
    [question] = questions(standardized(run(task("math500", odd))))
    assert question == {"question_id": "q", "status": Status.UNSCORED.value, "answer": [None]}


def test_one_id_with_other_words_is_another_question() -> None:
    plan = standardized(run(task("t", sample("1", question="What?"), sample("1", question="Who?"))))
    [one, other] = questions(plan)
    assert one["question_id"] == "1"
    assert other["question_id"] == f"1~{content_hash('Who?').rpartition(':')[2][:8]}"
    assert one["content_hash"] != other["content_hash"]


def test_many_questions_of_one_id_are_told_apart_though_their_hashes_begin_alike() -> None:
    words = [f"sha256:{'0' * 8}{number:056x}" for number in range(4)]
    rows = [sample("1", content_hash=each) for each in words]
    rows.insert(1, sample(f"1~{'0' * 8}", content_hash=f"sha256:{'f' * 64}"))  # whose own id looks like one
    found = questions(standardized(run(task("t", *rows))))
    assert len({question["question_id"] for question in found}) == len(found) == 5
    assert sorted(question["content_hash"] for question in found) == sorted([*words, f"sha256:{'f' * 64}"])


def test_an_answer_that_is_nested_deeper_than_a_result_may_be_is_kept_as_text() -> None:
    deep: list[Any] = []
    for _ in range(300):
        deep = [deep]
    plan = standardized(run(task("t", sample("1", answer=deep), sample("2", answer=[["a"]]))))
    body = b"".join(plan.results[0].body())
    assert read_submission(body).envelope.benchmark_name == "t"
    answers = [question["answer"] for question in json.loads(body)["data"]["questions"]]
    assert answers == ["[" * 301 + "]" * 301, [["a"]]]


def test_settings_that_are_nested_deeper_than_a_result_may_be_are_kept_as_text() -> None:
    deep: list[Any] = []
    for _ in range(300):
        deep = [deep]
    plan = standardized(run(task("t", sample("1")), config={"deep": deep, "flat": {"a": [1]}}))
    provenance = read_submission(b"".join(plan.results[0].body())).envelope.provenance
    assert provenance is not None
    assert provenance.config == {"deep": "[" * 301 + "]" * 301, "flat": {"a": [1]}}


def test_no_more_answers_are_read_than_a_result_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.formats.rows.QUESTIONS_MAX", 3)
    read: list[str] = []

    def endless(_: Ledger) -> Iterator[Sample]:
        for number in itertools.count():
            read.append(str(number))
            yield sample(str(number))

    plan = standardized(run(Task(names=["t"], samples=endless, stated=[Stated("acc", 0.5)])))
    assert len(questions(plan)) == 3
    assert len(read) == 4
    assert plan.ledger.refused == {"cannot be taken from here on: a result has at most 3 answers": ["t, sample 3"]}
    assert plan.compare()[0].note == "the samples could not be read to the end"


def test_results_of_one_finding_are_so_many_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.formats.standardize.RESULTS_MAX", 2)
    assert len(standardized(run(task("a"), task("b"))).results) == 2
    with pytest.raises(NotReadable, match="has 3 tasks that are benchmarks of their own; at most 2"):
        standardized(run(task("a"), task("b"), task("c")))


def test_names_with_a_number_behind_are_not_given_twice() -> None:
    keys = ("x", "x-2", "x", "x")
    plan = standardized(*(run(task("t"), run_key=key) for key in keys))
    assert [result.envelope.run_id for result in plan.results] == ["x", "x-2", "x-3", "x-4"]


def test_what_is_told_stays_bounded() -> None:
    ledger = Ledger()
    for number in range(5000):
        ledger.refuse("p" * 5000, f"reason {number}")
        ledger.warn(f"warning {number}")
        ledger.leave([f"field {number}", "common"])
    ledger.gather_rare()
    assert max(len(ledger.refused), len(ledger.warnings), len(ledger.left)) <= FIELDS_MAX + 1
    assert (ledger.refused_counts.total(), ledger.left.total(), ledger.left["common"]) == (5000, 10_000, 5000)
    assert len(ledger.refused["reason 0"][0]) < 400


def test_several_attempts_at_a_question_are_kept() -> None:
    plan = standardized(run(task("t", *(sample("1", attempt=number, question="What?") for number in range(3)))))
    assert [question.get("attempt", 0) for question in questions(plan)] == [0, 1, 2]


def test_long_answers_are_cut_and_that_is_told() -> None:
    [question] = questions(plan := standardized(run(task("t", sample("1", answer="x" * 5000)))))
    assert question["answer"] == "x" * TEXT_MAX + "…"
    assert plan.ledger.warnings


def test_a_file_that_ends_too_early_gives_what_could_be_read() -> None:
    broken = Task(names=["t"], samples=samples_of(sample("1"), ends=Unreadable("a.json", "ends too early")))
    plan = standardized(run(broken))
    assert len(questions(plan)) == 1
    assert plan.ledger.refused == {"cannot be read from here on: ends too early": ["a.json"]}


def test_a_task_without_samples_is_a_stated_score() -> None:
    stated = [Stated("acc", 0.25, count=100), Stated("acc", 0.04, kind="stderr"), Stated("f1", math.nan)]
    [document] = documents(standardized(run(Task(names=["t"], samples=None, stated=stated, metric="acc"))))
    assert document["data"] == {"score": 0.25, "stated": {"t": {"acc": 0.25, "acc (stderr)": 0.04, "f1": None}}}


@pytest.mark.parametrize(
    ("metric", "stated", "score"),
    [
        ("rouge", [Stated("length", -1.0)], None),
        ("rouge", [Stated("length", 0.7), Stated("rouge", 20.0, scale=100)], 0.2),
        ("acc", [Stated("acc_norm,none", 0.7), Stated("acc,none", 0.2)], 0.2),
        ("acc", [Stated("acc", 0.7, kind="stderr"), Stated("acc", math.nan)], None),
        (None, [Stated("ppl", 9.5), Stated("acc", 0.2)], 0.2),
        (None, [Stated("ppl", 9.5)], None),
    ],
)
def test_a_stated_score_is_that_of_the_metric(metric: str | None, stated: list[Stated], score: float | None) -> None:
    [document] = documents(standardized(run(Task(names=["t"], samples=None, stated=stated, metric=metric))))
    assert document["data"].get("score") == score


def test_stated_scores_of_several_tasks_are_weighted_by_their_samples() -> None:
    tasks = [
        Task(names=[f"mmlu_{name}"], samples=None, stated=[Stated("acc", value, scale=100)], expected=count)
        for name, value, count in (("anatomy", 50.0, 100), ("virology", 100.0, 300))
    ]
    [document] = documents(standardized(run(*tasks)))
    assert document["data"]["score"] == 0.875
    assert document["data"]["score_of"] == "2 tasks, weighted by their samples"


def test_the_stated_score_is_the_metrics_that_it_is_said_to_be() -> None:
    stated = [Stated("f1,none", 0.1), Stated("acc,none", 0.9)]
    [document] = documents(standardized(run(Task(names=["t"], samples=None, stated=stated, metric="acc"))))
    assert document["data"]["score"] == 0.9


def test_different_metrics_have_no_mean() -> None:
    tasks = [
        Task(names=[f"mmlu_{name}"], samples=None, stated=[Stated(metric, value)], metric=metric)
        for name, metric, value in (("anatomy", "acc", 0.5), ("virology", "f1", 1.0))
    ]
    [document] = documents(standardized(run(*tasks)))
    assert set(document["data"]) == {"stated"}


def test_fields_without_a_place_are_counted() -> None:
    rows = [sample(str(number), origin={"doc": {"level": 1, "author": "ada"}, "n": 3}) for number in range(5)]
    plan = standardized(run(Task(names=["math500"], samples=samples_of(*rows, log=["arguments"]))))
    questions(plan)
    assert plan.ledger.left == {"doc.author": 5, "n": 5, "arguments": 1}


# --- Stated figures against the rows ---------------------------------------------------------------------------------


def compared(stated: Stated, *scores: float, **more: Any) -> tuple[float | None, bool | None, str | None]:
    rows = [sample(str(number), score) for number, score in enumerate(scores)]
    plan = standardized(run(task("t", *rows, stated=[stated], **more)))
    documents(plan)
    [figure] = plan.compare()
    return figure.recomputed, figure.agrees, figure.note


@pytest.mark.parametrize(
    ("stated", "recomputed", "agrees"),
    [
        (Stated("acc", 2 / 3), 2 / 3, True),
        (Stated("acc", 0.6667, decimals=4), 2 / 3, True),
        (Stated("acc", 0.6667), 2 / 3, False),
        (Stated("acc", 66.67, scale=100, decimals=2), 200 / 3, True),
        (Stated("acc", 1 / 3, kind="stderr"), 1 / 3, True),
        (Stated("acc", 0.9), 2 / 3, False),
        (Stated("acc", 0.5, kind="median"), None, None),
        (Stated("f1", 0.5), None, None),
        (Stated("acc", math.nan), None, None),
        (Stated("acc", 0.5, tasks=["t", "elsewhere"]), None, None),
    ],
)
def test_a_stated_figure_is_recomputed(stated: Stated, recomputed: float | None, agrees: bool | None) -> None:
    found = compared(stated, 1.0, 1.0, 0.0)
    assert found[0] == pytest.approx(recomputed)
    assert found[1] is agrees
    assert (found[2] is None) == (agrees is not None)


@pytest.mark.parametrize("kind", ["mean", "stderr"])
def test_figures_too_large_to_be_added_up_are_not_called_equal(kind: str) -> None:
    rows = [Sample(id=str(number), score=1.0, metrics={"cost": 1e308}) for number in range(9)]
    plan = standardized(run(task("t", *rows, stated=[Stated("cost", 0.0, kind=kind)])))
    documents(plan)
    [figure] = plan.compare()
    assert (figure.recomputed, figure.agrees) == (None, None)
    assert figure.note == "the samples' figures are too large to be added up"


def test_a_figure_over_more_samples_than_there_are_says_so() -> None:
    _, agrees, note = compared(Stated("acc", 0.5, count=1000), 1.0)
    assert agrees is False
    assert note == "it is stated over 1,000 samples, and 1 are in the files"
    assert compared(Stated("acc", 0.5), 1.0, expected=40)[2] == "40 samples were expected, and 1 are in the files"


def test_means_of_groups_weigh_samples_or_tasks() -> None:
    group = [
        Stated("acc", 0.25, name="by samples", tasks=["a", "b"]),
        Stated("acc", 0.5, name="by tasks", tasks=["a", "b"], per_task=True),
    ]
    plan = standardized(
        run(
            task("a", sample("1"), stated=group),
            task("b", *(sample(str(number), 0.0) for number in range(3))),
        )
    )
    documents(plan)
    assert [figure.agrees for figure in plan.compare()] == [True, True]


def test_a_mean_over_questions_takes_the_mean_of_each_ones_attempts() -> None:
    stated = Stated("acc", 0.75, per_question=True)
    rows = [sample("1", 1.0), sample("1", 0.0, attempt=1), sample("2", 1.0)]
    plan = standardized(run(task("t", *rows, stated=[stated])))
    documents(plan)
    assert plan.compare()[0].recomputed == 0.75


@given(scores=st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=2, max_size=40))
def test_means_and_their_errors_come_out_of_any_scores(scores: list[float]) -> None:
    mean = sum(scores) / len(scores)
    variance = sum((score - mean) ** 2 for score in scores) / (len(scores) - 1)
    assert compared(Stated("acc", mean), *scores)[1]
    assert compared(Stated("acc", math.sqrt(variance / len(scores)), kind="stderr"), *scores)[1]


# --- Content ---------------------------------------------------------------------------------------------------------


def test_white_space_and_the_order_of_choices_make_no_other_question() -> None:
    assert content_hash("What\n is  it? ", ["a", "b "]) == content_hash("What is it?", ["b", "a"])
    assert content_hash("e\u0301") == content_hash("\u00e9")


@pytest.mark.parametrize(("one", "other"), [(("x²",), ("x2",)), (("a", ["b"]), ("a",)), (("A",), ("a",))])
def test_other_words_are_another_question(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    assert content_hash(*one) != content_hash(*other)
