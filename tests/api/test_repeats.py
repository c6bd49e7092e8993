"""POST /repeats: attempts counted by a slow script, what cannot be told, and refusals."""

import gzip
import json
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable
from itertools import combinations
from math import comb
from pathlib import Path
from statistics import fmean, variance
from typing import Any

import pytest

from analysis_service import repeats as repeats_module
from tests.api.conftest import Stack, run_stack
from tests.documents import Answer, make_answer
from tests.real_data import REAL_DATA, needs_real_data

NAME = "2024-01-01T12:00:00Z-aime-{}".format


def pushed(run_id: str, model: str, answers: list[Answer], **changes: Any) -> dict[str, Any]:
    """A result of AIME."""
    envelope = {"run_id": run_id, "benchmark_name": "aime", "timestamp": "2024-01-01T12:00:00Z", "source": "tests"}
    return {**envelope, "model_id": model, "data": {"questions": answers}, **changes}


def attempts_at(questions: int, attempts: int, *, seed: int) -> list[Answer]:
    """Answers to questions of different difficulty; some attempts fail, some have no answer."""
    draw = random.Random(seed)
    made = []
    for number in range(1, questions + 1):
        chance = draw.random()
        for attempt in range(attempts):
            year = 2024 + number % 2
            common: Answer = {"attempt": attempt, "metadata": {"year": year, "problem_number": number}}
            if draw.random() < 0.1:
                # What a grader made of a failed attempt does not count.
                score = draw.choice([None, 1.0])
                made.append(make_answer(f"q{number}", score, status="error", answer="204", **common))
                continue
            right = draw.random() < chance
            text = "204" if right else str(draw.choice([1, 2]))
            padded = None if draw.random() < 0.05 else f" {text}\n" if draw.random() < 0.3 else text
            made.append(make_answer(f"q{number}", float(right), answer=padded, **common))
    draw.shuffle(made)
    return made


def recount(answers: Iterable[Answer]) -> dict[str, Any]:
    """What the answer must say of the scores, by the definitions: means over questions, and their standard errors."""
    groups = [[one["score"] for one in group] for group in by_question(answers)]
    most = max(map(len, groups))
    told: dict[str, Any] = {"n": sum(map(len, groups)), "n_questions": len(groups), "attempts_max": most}
    told["attempts_min"] = min(map(len, groups))
    told["avg"] = mean_and_error(list(map(fmean, groups)))
    told["pass_at"], told["pass_all"] = [], []
    for k in range(1, most + 1):
        enough = [(len(group), int(sum(group))) for group in groups if len(group) >= k]
        told["pass_at"].append(mean_and_error([1 - comb(n - c, k) / comb(n, k) for n, c in enough]))
        told["pass_all"].append(mean_and_error([comb(c, k) / comb(n, k) for n, c in enough]))
    return told


def recount_votes(answers: Iterable[Answer]) -> dict[str, Any]:
    """The same of the answers."""
    majorities, alike = [], []
    for group in by_question(answers):
        texts = [one["answer"].strip() for one in group if one.get("answer") is not None]
        votes = Counter(texts)
        if votes:
            best = [text for text, count in votes.items() if count == max(votes.values())]
            majorities.append(sum(text == "204" for text in best) / len(best))
        if len(texts) > 1:
            alike.append(fmean(a == b for a, b in combinations(texts, 2)))
    return {"maj": mean_and_error(majorities), "consistency": mean_and_error(alike)}


def by_question(answers: Iterable[Answer]) -> list[list[Answer]]:
    """The scored attempts of each question."""
    groups: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        if answer.get("status", "scored") == "scored":
            groups[answer["question_id"]].append(answer)
    return list(groups.values())


def mean_and_error(values: list[float]) -> tuple[int, float, float | None]:
    """(n, mean, standard error), from the differences between questions."""
    n = len(values)
    return n, fmean(values), (variance(values) / n) ** 0.5 if n > 1 else None


def check(estimate: dict[str, Any], expected: tuple[int, float, float | None]) -> None:
    n, mean, error = expected
    if error is not None and estimate["method"] == "wilson":  # of right or wrong the variance is known from the mean
        error *= ((n - 1) / n) ** 0.5
    assert (estimate["n_questions"], estimate["value"]) == (n, pytest.approx(mean, abs=1e-12))
    assert estimate["se"] == (None if error is None else pytest.approx(error, abs=1e-12))
    if n > 1:
        assert 0 <= estimate["ci_low"] <= mean + 1e-12
        assert mean - 1e-12 <= estimate["ci_high"] <= 1
        assert estimate["ci_low"] < estimate["ci_high"]
        assert estimate["method"] is not None


async def ask(stack: Stack, **request: Any) -> dict[str, Any]:
    response = await stack.analysis.post("/repeats", json={"benchmark": "aime", **request})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def refusal(stack: Stack, **request: Any) -> list[dict[str, Any]]:
    response = await stack.analysis.post("/repeats", json={"benchmark": "aime", **request})
    assert response.status_code == 422, response.text
    faults: list[dict[str, Any]] = response.json().get("faults", [])
    return faults


MANY = attempts_at(30, 8, seed=1)
ODD = [
    make_answer(f"q{number}", score, attempt=attempt, metadata={"year": 2024, "problem_number": number})
    for number, scores in enumerate([[0.5, 1.0], [0.25, 0.0]], start=1)
    for attempt, score in enumerate(scores)
]


@pytest.fixture(scope="module")
async def aime(mongo_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Runs of AIME with all kinds of attempts; nothing here changes them."""
    file = tmp_path_factory.mktemp("repeats") / "analysis.sqlite"
    async with run_stack(mongo_url, "repeats", file) as running:
        await running.push(
            pushed("old", "openai/gpt-4", attempts_at(30, 3, seed=2), timestamp="2023-01-01T00:00:00Z"),
            pushed("many", "gpt-4", MANY),
            pushed(
                "wrong", "wrong", [make_answer(f"q{q}", 0, attempt=a, answer="7") for q in range(9) for a in range(4)]
            ),
            pushed("single", "single", [make_answer(f"q{q}", q % 2, answer="7") for q in range(10)]),
            pushed("one", "one", [make_answer("q1", a % 2, attempt=a, answer=str(a % 2)) for a in range(4)]),
            pushed("odd", "odd", ODD),
            pushed("failed", "failed", [make_answer("q1", None, status="refused", attempt=a) for a in range(3)]),
            pushed("stated", "gpt-4o", [], data={"accuracy": 0.5}),
        )
        yield running


async def test_every_number_is_what_counting_gives(aime: Stack) -> None:
    answer = await ask(aime, models=["gpt-4"])
    assert list(answer) == ["benchmark", "runs", "confidence", "warnings", "data_version"]
    [run] = answer["runs"]
    expected = recount(MANY) | recount_votes(MANY)
    assert run["run"]["result_name"] == NAME("many")
    for name in ("n", "n_questions", "attempts_min", "attempts_max"):
        assert run[name] == expected[name], name
    assert expected["attempts_min"] < expected["attempts_max"] == 8
    assert [[one["k"] for one in run[name]] for name in ("pass_at", "pass_all")] == [[*range(1, 9)]] * 2
    for name in ("pass_at", "pass_all"):
        for estimate, wanted in zip(run[name], expected[name], strict=True):
            check(estimate, wanted)
    for name, k in (("avg", 8), ("maj", 8), ("consistency", 2)):
        check(run[name], expected[name])
        assert run[name]["k"] == k
    # Two ways to the same: the chance that one attempt is right.
    assert run["pass_at"][0] == run["pass_all"][0]
    assert run["pass_at"][0]["value"] == run["avg"]["value"]
    assert run["reasons"] == []
    least = expected["attempts_min"]
    assert answer["warnings"] == [
        f"{NAME('many')}: from {least} to 8 attempts at a question were scored, so pass@k and pass^k are over fewer "
        f"questions where k is above {least}"
    ]


async def test_the_variances_of_attempts_and_questions(aime: Stack) -> None:
    [run] = (await ask(aime, models=["gpt-4"]))["runs"]
    groups = [[one["score"] for one in group] for group in by_question(MANY)]
    sizes = list(map(len, groups))
    n, a = sum(sizes), len(sizes)
    total = fmean(score for group in groups for score in group)
    within = sum((score - fmean(group)) ** 2 for group in groups for score in group) / (n - a)
    between = sum(len(group) * (fmean(group) - total) ** 2 for group in groups) / (a - 1)
    expected = (between - within) / ((n - sum(size**2 for size in sizes) / n) / (a - 1))
    assert run["variance"]["attempt"] == pytest.approx(within, abs=1e-12)
    assert run["variance"]["question"] == pytest.approx(expected, abs=1e-12)
    assert run["variance"]["reason"] is None


async def test_avg_is_the_mean_of_a_group_by(aime: Stack) -> None:
    response = await aime.analyze(benchmark="aime", level1="run", runs=[NAME("many")])
    assert response.status_code == 200, response.text
    [row] = response.json()["rows"]
    [run] = (await ask(aime, runs=[NAME("many")]))["runs"]
    assert run["avg"]["value"] == row["mean_by_question"]


async def test_which_runs(aime: Stack) -> None:
    every = (await ask(aime))["runs"]
    assert [run["run"]["model"] for run in every] == ["failed", "gpt-4", "odd", "one", "single", "wrong"]
    alias = await ask(aime, models=["openai/gpt-4", "gpt-4", "one"])
    assert [run["run"]["result_name"] for run in alias["runs"]] == [NAME("many"), NAME("one")]
    older = await ask(aime, runs=["2023-01-01T02:00:00+02:00-aime-old"])
    assert [run["attempts_max"] for run in older["runs"]] == [3]
    assert (await aime.analysis.post("/v1/repeats", json={"benchmark": "aime"})).json()["runs"] == every


async def test_the_ks_that_were_asked_for(aime: Stack) -> None:
    answer = await ask(aime, models=["gpt-4", "one"], ks=[8, 2, 8])
    many, one = answer["runs"]
    assert [estimate["k"] for estimate in many["pass_at"]] == [2, 8]
    assert [estimate["k"] for estimate in one["pass_at"]] == [2]
    assert "no question has 8 scored attempts: at most 4" in one["reasons"]
    whole = recount(MANY)
    check(many["pass_at"][1], whole["pass_at"][7])


async def test_filters_keep_questions(aime: Stack) -> None:
    [run] = (await ask(aime, models=["gpt-4"], filters={"year": [2025]}))["runs"]
    wanted = [one for one in MANY if one["metadata"]["year"] == 2025]
    kept = recount(wanted) | recount_votes(wanted)
    assert run["n"] == kept["n"]
    check(run["pass_at"][3], kept["pass_at"][3])
    check(run["maj"], kept["maj"])
    by_run = await ask(aime, filters={"model": ["one", "gpt-4"], "problem_number": [1]})
    assert [(run["run"]["model"], run["n_questions"]) for run in by_run["runs"]] == [("gpt-4", 1), ("one", 0)]
    nothing = by_run["runs"][1]
    assert (nothing["avg"], nothing["pass_at"], nothing["reasons"]) == (None, [], ["no attempt was scored"])
    assert (await ask(aime, models=["one"], filters={"model": ["gpt-4"]}))["runs"] == []


async def test_all_wrong(aime: Stack) -> None:
    [run] = (await ask(aime, models=["wrong"]))["runs"]
    for estimate in (run["avg"], run["maj"], *run["pass_at"], *run["pass_all"]):
        assert (estimate["value"], estimate["se"], estimate["ci_low"]) == (0, 0, 0)
        assert 0.2 < estimate["ci_high"] < 0.4
    assert run["consistency"]["value"] == 1
    assert run["variance"] == {"question": 0, "attempt": 0, "reason": None}


async def test_one_attempt_a_question(aime: Stack) -> None:
    [run] = (await ask(aime, models=["single"]))["runs"]
    assert (run["maj"], run["consistency"]) == (None, None)
    assert run["variance"] == {
        "question": None,
        "attempt": None,
        "reason": "questions and attempts can be told apart only where a question has several scored attempts",
    }
    assert [estimate["k"] for estimate in run["pass_at"]] == [1]
    assert (run["avg"]["value"], run["avg"]["method"]) == (0.5, "wilson")
    assert run["reasons"] == ["maj@n and consistency need several scored attempts at a question"]


async def test_one_question(aime: Stack) -> None:
    [run] = (await ask(aime, models=["one"]))["runs"]
    assert run["avg"] == {
        "k": 4, "n_questions": 1, "value": 0.5, "se": None, "ci_low": None, "ci_high": None, "method": None,
    }  # fmt: skip
    assert [estimate["value"] for estimate in run["pass_at"]] == pytest.approx([1 / 2, 5 / 6, 1, 1])
    assert [estimate["value"] for estimate in run["pass_all"]] == pytest.approx([1 / 2, 1 / 6, 0, 0])
    assert (run["maj"]["value"], run["consistency"]["value"]) == (0.5, pytest.approx(1 / 3))
    assert run["variance"]["question"] is None
    assert run["variance"]["attempt"] == pytest.approx(1 / 3)
    assert run["variance"]["reason"] == "one question alone does not differ from others"
    assert run["reasons"] == ["one question tells nothing of the error"]


async def test_scores_between_right_and_wrong_and_no_answers(aime: Stack) -> None:
    [run] = (await ask(aime, models=["odd"]))["runs"]
    assert (run["pass_at"], run["pass_all"], run["maj"], run["consistency"]) == ([], [], None, None)
    assert run["avg"]["value"] == pytest.approx((0.75 + 0.125) / 2)
    assert run["reasons"] == [
        "pass@k and pass^k need attempts that are right or wrong; some scores lie between 0 and 1",
        "maj@n and consistency need answers, and none were sent",
    ]


async def test_nothing_scored(aime: Stack) -> None:
    [run] = (await ask(aime, models=["failed"], ks=[3]))["runs"]
    assert (run["n"], run["attempts_max"], run["avg"], run["pass_at"]) == (0, 0, None, [])
    assert run["reasons"] == ["no attempt was scored"]


@pytest.mark.parametrize(
    ("request_", "place", "detail"),
    [
        ({"benchmark": "aimee"}, "benchmark", "no benchmark 'aimee'; did you mean 'aime'?"),
        ({"models": ["gpt-4", "singel"]}, "models[1]", "no model 'singel'; did you mean 'single'?"),
        ({"models": ["gpt-4o"]}, "models[0]", "'gpt-4o' has no finished run with questions of aime"),
        ({"runs": [NAME("manie")]}, "runs[0]", "no valid run of aime"),
        ({"runs": [NAME("stated")]}, "runs[0]", "states a score but holds no questions"),
        ({"ks": [2, 9]}, "ks[1]", "is 9, and no question has more than 8 scored attempts"),
        ({"models": ["one"], "ks": [5]}, "ks[0]", "is 5, and no question has more than 4 scored attempts"),
        ({"ks": [0]}, "ks[0]", "greater than or equal to 1"),
        ({"ks": ["2"]}, "ks[0]", "valid integer"),
        ({"ks": []}, "ks", "at least 1 item"),
        ({"filters": {"jear": [2024]}}, "filters.jear", "no field of aime 'jear'; did you mean 'year'?"),
        ({"filters": {"year": ["x"]}}, "filters.year[0]", "cannot be a value of 'year'"),
        ({"filters": {"model": ["x"]}}, "filters.model[0]", "no model 'x'"),
        ({"models": ["one"], "runs": [NAME("one")]}, "body", "name either `models` or `runs`"),
        ({"confidence": 1.0}, "confidence", "less than or equal to 0.9999"),
        ({"k": 3}, "k", "is not a field of this request"),
    ],
)
async def test_refusals_name_the_place(aime: Stack, request_: dict[str, Any], place: str, detail: str) -> None:
    [fault] = await refusal(aime, **request_)
    assert fault["place"] == place
    assert detail in fault["detail"]


async def test_too_many_models(aime: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats_module, "RUNS_MAX", 5)
    response = await aime.analysis.post("/repeats", json={"benchmark": "aime", "confidence": 0.9})
    assert response.status_code == 422
    assert response.json()["type"].endswith(":too-many-groups")
    assert response.json()["detail"] == "6 models have a run of aime; name at most 5 in `models`"


async def test_many_answers_are_unpacked_some_at_a_time(aime: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = await ask(aime, confidence=0.8)
    monkeypatch.setattr(repeats_module, "ANSWERS_AT_ONCE", 20)
    assert await ask(aime, confidence=0.8, filters={}, ks=[1]) != whole
    in_parts = await ask(aime, confidence=0.81)
    assert [run["n"] for run in in_parts["runs"]] == [run["n"] for run in whole["runs"]]
    assert [run["avg"] and run["avg"]["value"] for run in in_parts["runs"]] == [
        run["avg"] and run["avg"]["value"] for run in whole["runs"]
    ]


async def test_it_is_kept_until_something_changes(stack: Stack) -> None:
    await stack.push(pushed("r", "m", [make_answer("q1"), make_answer("q2", 0)]))
    path, body = "/repeats", {"benchmark": "aime"}
    first = await stack.analysis.post(path, json=body)
    known = {"If-None-Match": first.headers["etag"]}
    assert (await stack.analysis.post(path, json=body, headers=known)).status_code == 304
    await stack.push(pushed("r2", "n", [make_answer("q1", attempt=a) for a in range(2)]))
    later = await stack.analysis.post(path, json=body, headers=known)
    assert later.status_code == 200
    assert [run["run"]["model"] for run in later.json()["runs"]] == ["m", "n"]


@needs_real_data
async def test_real_attempts(mongo_url: str, mongo_database: str, tmp_path: Path) -> None:
    """Four attempts of 16 models at AIME 2025 I, and runs of one attempt: answers were not published, scores were."""
    with gzip.open(REAL_DATA / "runs" / "aime.ndjson.gz") as lines:
        documents = [json.loads(line) for line in lines]
    async with run_stack(mongo_url, mongo_database, tmp_path / "analysis.sqlite") as stack:
        await stack.push(*documents)
        names = [f"{one['timestamp']}-aime-{one['run_id']}" for one in documents]
        runs = {run["run"]["result_name"]: run for run in (await ask(stack, runs=names))["runs"]}
    assert len(runs) == len(documents) == 23
    for name, document in zip(names, documents, strict=True):
        run, expected = runs[name], recount(document["data"]["questions"])
        assert (run["n"], run["attempts_max"]) == (expected["n"], expected["attempts_max"])
        for kind in ("pass_at", "pass_all"):
            for estimate, wanted in zip(run[kind], expected[kind], strict=True):
                check(estimate, wanted)
        assert run["maj"] is None
