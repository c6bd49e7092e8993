"""The synthetic sample is what the results service takes without a word, and says what it is."""

import itertools
import json
import time
from collections import defaultdict
from typing import Any

import pytest

from scorehouse.sample import ABILITIES, MEASURED_TWICE, SOURCE, sample_documents
from shared.enums import Benchmark, Model
from shared.registry.load import load_registry
from shared.submission import Question, Status, check_against, read_questions, read_submission, shape_warnings

QUESTIONS = {"aime": 30, "mmlu": 570, "mmlu-redux": 570, "hle": 250, "ds-mmlu": 240, "math500": 500}
REGISTRY = load_registry()

Document = dict[str, Any]


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return list(sample_documents())


def _questions(document: Document) -> list[Question]:
    questions = read_questions(document["data"])
    assert questions is not None
    return questions


def test_every_document_is_accepted_without_a_warning(documents: list[Document]) -> None:
    names = set()
    for document in documents:
        submission = read_submission(json.dumps(document).encode())
        questions = read_questions(submission.value)
        assert questions
        name = submission.envelope.benchmark_name
        check_against(REGISTRY.benchmarks[name], questions)
        assert shape_warnings(submission.value, questions, REGISTRY.benchmarks[name], name) == []
        names.add(submission.envelope.result_name)
    assert len(names) == len(documents)


def test_every_document_says_that_it_is_synthetic(documents: list[Document]) -> None:
    for document in documents:
        assert document["source"] == SOURCE == "scorehouse synthetic sample"
        assert document["run_id"].startswith("synthetic-")
        assert all(question.question_id.startswith("synthetic/") for question in _questions(document))


def test_all_benchmarks_and_models_are_there(documents: list[Document]) -> None:
    assert set(ABILITIES) == set(Model)
    models = defaultdict(list)
    for document in documents:
        models[document["benchmark_name"]].append(REGISTRY.canonical_model(document["model_id"]))
    assert set(models) == set(Benchmark)
    for runs in models.values():
        assert sorted(runs) == sorted([*Model, *MEASURED_TWICE])


def test_the_earlier_runs_go_by_another_name_of_the_model(documents: list[Document]) -> None:
    earlier = {document["model_id"] for document in documents if document["timestamp"] < "2025-06"}
    assert {REGISTRY.canonical_model(name) for name in earlier} == set(MEASURED_TWICE)
    assert not earlier & set(Model)


def test_runs_of_a_benchmark_ask_the_same_questions(documents: list[Document]) -> None:
    for document in documents:
        questions = _questions(document)
        attempts = 4 if document["benchmark_name"] == "aime" else 1
        assert len({question.question_id for question in questions}) == QUESTIONS[document["benchmark_name"]]
        assert len(questions) == attempts * QUESTIONS[document["benchmark_name"]]
    asked = defaultdict(set)
    for document in documents:
        key = json.dumps([[q.question_id, q.content_hash, q.target, q.metadata] for q in _questions(document)])
        asked[document["benchmark_name"]].add(key)
    assert {name: len(variants) for name, variants in asked.items()} == dict.fromkeys(Benchmark, 1)


@pytest.mark.parametrize("benchmark", Benchmark)
def test_every_metadata_field_is_in_use(benchmark: Benchmark, documents: list[Document]) -> None:
    first = next(document for document in documents if document["benchmark_name"] == benchmark)
    values = defaultdict(set)
    for question in _questions(first):
        for name, value in question.metadata.items():
            values[name].add(value)
    fields = REGISTRY.benchmarks[benchmark].by_name
    assert set(values) == set(fields)
    for name, field in fields.items():
        assert values[name] <= set(field.values) or not field.values
        assert len(values[name]) > 1


def test_statuses_other_than_scored_are_few_and_carry_no_score(documents: list[Document]) -> None:
    by_status = defaultdict(list)
    for question in itertools.chain.from_iterable(map(_questions, documents)):
        by_status[question.status].append(question)
    assert set(by_status) == {Status.SCORED, Status.REFUSED, Status.TRUNCATED, Status.ERROR}
    scored = by_status.pop(Status.SCORED)
    assert all((question.score == 1.0) == (question.answer == question.target) for question in scored)
    others = list(itertools.chain.from_iterable(by_status.values()))
    assert all(question.score is None and question.answer is None for question in others)
    assert 0.005 < len(others) / len(scored) < 0.03


def test_costs_follow_the_list_price_and_are_absent_without_one(documents: list[Document]) -> None:
    for document in documents:
        facts = REGISTRY.model(document["model_id"])
        assert facts is not None
        for question in _questions(document):
            assert question.latency_ms is not None
            if facts.input_usd_per_mtok is None or facts.output_usd_per_mtok is None:
                assert (question.input_tokens, question.output_tokens, question.cost_usd) == (None, None, None)
            else:
                assert question.input_tokens is not None
                assert question.output_tokens is not None
                cost = question.input_tokens * facts.input_usd_per_mtok
                cost += question.output_tokens * facts.output_usd_per_mtok
                assert question.cost_usd == pytest.approx(cost / 1e6, abs=1e-8)


def test_better_models_score_higher_and_none_below_chance(documents: list[Document]) -> None:
    means: dict[tuple[str, str], float] = {}
    for document in documents:
        if document["timestamp"] >= "2025-06":
            scores = [question.score for question in _questions(document) if question.score is not None]
            means[document["model_id"], document["benchmark_name"]] = sum(scores) / len(scores)
    for benchmark in Benchmark:
        assert (
            means[Model.DEEPSEEK_R1, benchmark]
            > means[Model.GPT_4O, benchmark]
            > means[Model.GEMMA_2_27B_IT, benchmark]
        )
        chance = REGISTRY.benchmarks[benchmark].chance_level or 0.0
        assert all(chance < means[model, benchmark] < 1.0 for model in Model)


def test_it_is_the_same_every_time_small_and_quick(documents: list[Document]) -> None:
    started = time.perf_counter()
    again = list(sample_documents())
    assert time.perf_counter() - started < 3
    assert again == documents
    assert sum(len(document["data"]["questions"]) for document in documents) <= 60_000
    assert next(sample_documents(seed=8))["data"] != documents[0]["data"]
