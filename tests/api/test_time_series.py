"""POST /timeseries over both services: lines, intervals, breaks and steps, and what is refused."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis_service.time_series import search, trace
from scorehouse.sample import sample_documents
from tests.api.conftest import Stack
from tests.documents import Answer, make_answer

SUBJECTS = ("Algebra", "Geometry")
QUESTIONS = 120
"""Of each subject."""
AT = 5
"""The run from which on algebra is answered better."""
SHIFT = 0.2


def simulate(runs: int, *, shift: Mapping[str, float], at: int = AT, seed: int = 1) -> list[list[Answer]]:
    """Of each run, right-or-wrong answers to the same questions, better by `shift` of a subject from run `at` on."""
    random = np.random.default_rng(seed)
    chances = {subject: random.beta(2, 2, QUESTIONS) * 0.8 for subject in SUBJECTS}
    made = []
    for number in range(runs):
        answers = []
        for subject, chance in chances.items():
            better = shift.get(subject, 0.0) if number >= at else 0.0
            scores: NDArray[np.bool_] = random.random(QUESTIONS) < chance + better
            answers += [
                make_answer(f"{subject}/{place}", float(score), metadata={"subject": subject, "level": 1})
                for place, score in enumerate(scores)
            ]
        made.append(answers)
    return made


def result(number: int, answers: Sequence[Answer], model: str = "gpt-4o", **provenance: Any) -> dict[str, Any]:
    """The run of day `number`."""
    told = {"provenance": {"harness": "lm-eval", "harness_version": "0.4.8", **provenance}}
    return {
        "run_id": f"r{number}",
        "benchmark_name": "math500",
        "timestamp": f"2025-03-{number + 1:02}T00:00:00Z",
        "model_id": model,
        "source": "tests",
        "data": {"questions": list(answers)},
        **told,
    }


def name(number: int) -> str:
    return f"2025-03-{number + 1:02}T00:00:00Z-math500-r{number}"


async def trace_runs(stack: Stack, **request: Any) -> dict[str, Any]:
    response = await stack.analysis.post("/timeseries", json={"benchmark": "math500", "models": ["gpt-4o"], **request})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def slow_step(runs: Sequence[Sequence[Answer]], at: int) -> tuple[float, float]:
    """The difference that a step makes, and its standard error, by the definition."""
    before: defaultdict[str, list[float]] = defaultdict(list)
    after: defaultdict[str, list[float]] = defaultdict(list)
    for number, answers in enumerate(runs):
        for answer in answers:
            (after if number >= at else before)[answer["question_id"]].append(answer["score"])
    differences = [mean(after[question]) - mean(before[question]) for question in before]
    return mean(differences), stdev(differences) / len(differences) ** 0.5


async def test_a_planted_step_is_found_where_it_is(stack: Stack) -> None:
    runs = simulate(10, shift=dict.fromkeys(SUBJECTS, SHIFT))
    await stack.push(*(result(number, answers) for number, answers in enumerate(runs)))
    answer = await trace_runs(stack)
    assert list(answer) == [
        "benchmark", "level1", "by", "series", "runs", "n_tests", "correction", "confidence", "truncated", "warnings",
        "data_version",
    ]  # fmt: skip
    assert (answer["level1"], answer["n_tests"], answer["truncated"]) == (None, 1, False)
    [line] = answer["series"]
    assert (line["value"], line["breaks"]) == (None, [])
    [step] = line["steps"]
    delta, se = slow_step(runs, AT)
    assert (step["run"], step["at"], step["n_shared"]) == (name(AT), "2025-03-06T00:00:00Z", 2 * QUESTIONS)
    assert (step["delta"], step["se"]) == (pytest.approx(delta), pytest.approx(se))
    assert step["ci_low"] < SHIFT < step["ci_high"]
    assert step["p"] <= step["p_adjusted"] < 0.01
    assert step["significant"] is True
    # The points are those of the group-by.
    rows = (await stack.analyze(benchmark="math500", level1="run", runs="all")).json()["rows"]
    assert [(row["run"], row["n"], row["n_questions"], row["mean"]) for row in rows] == [
        (point["run"], point["n"], point["n_questions"], point["mean"]) for point in line["points"]
    ]
    first = line["points"][0]
    assert (first["at"], first["model"], first["method"]) == ("2025-03-01T00:00:00Z", "gpt-4o", "wilson")
    assert first["ci_low"] < first["mean"] < first["ci_high"]
    # A step is told for the same seed alike, and the answer is known by its tag.
    again = await stack.analysis.post("/v1/timeseries", json={"benchmark": "math500", "models": ["openai/gpt-4o"]})
    assert again.json() == answer


async def test_without_a_step_none_is_found(stack: Stack) -> None:
    await stack.push(*(result(number, answers) for number, answers in enumerate(simulate(10, shift={}))))
    answer = await trace_runs(stack, level1="subject")
    assert [(line["value"], line["steps"], line["breaks"]) for line in answer["series"]] == [
        ("Algebra", [], []),
        ("Geometry", [], []),
    ]
    assert answer["n_tests"] == 2
    assert answer["warnings"] == [
        f"under 95 % of the benchmark's questions: {', '.join(map(name, range(5)))} and 5 more"
    ]


async def test_lines_by_level_have_steps_of_their_own(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = simulate(8, shift={"Algebra": 0.3})
    await stack.push(*(result(number, answers) for number, answers in enumerate(runs)))
    answer = await trace_runs(stack, level1="subject")
    algebra, geometry = answer["series"]
    assert (algebra["value"], geometry["value"]) == SUBJECTS
    [step] = algebra["steps"]
    assert (step["run"], geometry["steps"], answer["n_tests"]) == (name(AT), [], 2)
    assert step["p_adjusted"] == pytest.approx(2 * step["p"])
    own = [[answer for answer in answers if answer["metadata"]["subject"] == "Algebra"] for answers in runs]
    assert step["delta"] == pytest.approx(slow_step(own, AT)[0])
    assert [point["mean"] for point in algebra["points"]] == [
        pytest.approx(mean(answer["score"] for answer in answers)) for answers in own
    ]
    bare = await trace_runs(stack, level1="subject", correction="none")
    [uncorrected] = bare["series"][0]["steps"]
    assert uncorrected["p"] == uncorrected["p_adjusted"]
    kept = await trace_runs(stack, level1="subject", level1_values=["Algebra", "Topology"])
    assert [line["value"] for line in kept["series"]] == ["Algebra"]
    assert "level1_values: no answers with subject Topology" in kept["warnings"]
    filtered = await trace_runs(stack, filters={"subject": ["Algebra"]})
    assert [point["mean"] for point in filtered["series"][0]["points"]] == [
        point["mean"] for point in algebra["points"]
    ]
    nothing = await trace_runs(stack, filters={"subject": ["Topology"]})
    assert (nothing["series"][0]["points"], nothing["n_tests"]) == ([], 0)
    assert "none of these runs has questions of what is asked for" in nothing["warnings"]
    monkeypatch.setattr(search, "FLIPS_MAX", 1000)
    cautious = await trace_runs(stack, level1="subject", confidence=0.999)
    assert "2 segments are searched, too many for any step to be significant" in str(cautious["warnings"])


async def test_a_line_breaks_where_the_measurement_changed(stack: Stack) -> None:
    runs = simulate(9, shift=dict.fromkeys(SUBJECTS, 0.3))
    told: list[dict[str, Any]] = [{}] * 2 + [{"config": {"shots": 5}}] * 2 + [{}] + [{"harness_version": "0.4.9"}] * 4
    documents = [result(number, answers, **told[number]) for number, answers in enumerate(runs)]
    documents[8]["data"]["questions"] = [
        *runs[8][3:], make_answer("new", 1.0, metadata={"subject": "Geometry", "level": 1})
    ]  # fmt: skip
    await stack.push(*documents)
    answer = await trace_runs(stack)
    [line] = answer["series"]
    assert [point["segment"] for point in line["points"]] == [0, 0, 1, 1, 2, 3, 3, 3, 4]
    assert [(own["after"], own["before"]) for own in line["breaks"]] == [
        (name(number), name(number + 1)) for number in (1, 3, 4, 7)
    ]
    config, back, version, questions = (own["reasons"] for own in line["breaks"])
    assert [reason.split(":")[0] for reason in (*config, *back)] == ["config_hash"] * 2
    assert config[0].startswith("config_hash: not told → ")
    assert version == ["harness_version: 0.4.8 → 0.4.9"]
    assert questions == ["questions: 1 of 238 are others, 2 fewer than before"]
    # The step lies where the harness changed, so nobody knows what made it.
    assert (line["steps"], answer["n_tests"]) == ([], 3)
    lines = (await trace_runs(stack, level1="subject"))["series"]
    assert [own["breaks"][-1]["reasons"] for own in lines] == [
        ["questions: 3 fewer than before"],
        ["questions: 1 of 121 are others"],
    ]


async def test_what_cannot_be_told_is_null_with_a_reason(stack: Stack) -> None:
    def answers(*scores: float | None) -> list[Answer]:
        return [
            make_answer(f"q{place}", score, metadata={"subject": "Algebra" if place else "Geometry"})
            if score is not None
            else make_answer(
                f"q{place}", None, status="error", metadata={"subject": "Algebra" if place else "Geometry"}
            )
            for place, score in enumerate(scores)
        ]

    repeated = [answer | {"attempt": attempt} for attempt in (0, 1) for answer in answers(0.0, 1.0, 1.0)]
    repeated[1]["score"] = 0.0
    await stack.push(
        result(0, answers(1.0, 1.0, 1.0)),
        result(1, answers(None, 0.5, 0.25)),
        result(2, answers(0.5, None, None)),
        result(3, repeated),
        result(4, answers(1.0, 0.5, 0.5)),
    )
    algebra, geometry = (await trace_runs(stack, level1="subject"))["series"]
    assert [point["method"] for point in algebra["points"]] == [
        "wilson", "t", None, "wilson on effective n", None
    ]  # fmt: skip
    assert [point["se"] for point in algebra["points"]] == [0.0, 0.125, None, 0.25, 0.0]
    assert [point["mean"] for point in algebra["points"]] == [1.0, 0.375, None, 0.75, 0.5]
    assert algebra["points"][4]["reason"] == "all scores are equal, which tells nothing of the error"
    failed = algebra["points"][2]
    assert (failed["n"], failed["n_questions"], failed["reason"]) == (0, 2, "no attempt was scored")
    alone = geometry["points"][0]
    assert (alone["se"], alone["reason"]) == (None, "one question tells nothing of the error")
    assert (alone["method"], alone["ci_high"]) == ("wilson", 1.0)
    assert [(point["method"], point["ci_low"], point["reason"]) for point in geometry["points"][1:4]] == [
        (None, None, "no attempt was scored"),
        (None, None, "one question tells nothing of the error"),
        (None, None, "one question tells nothing of the error"),
    ]


async def test_a_family_by_release(stack: Stack) -> None:
    old, new = simulate(2, shift=dict.fromkeys(SUBJECTS, 0.3), at=1)
    await stack.push(
        result(3, old, "gpt-4o", grader="ada"),
        result(0, new, "gpt-4o-mini"),
        result(1, new, "gpt-4o-mini", grader="ada"),
        result(2, new, "nobody/knows", grader="ada"),
        result(4, new, "deepseek-r1", grader="ada"),
    )
    answer = await trace_runs(stack, models=None, family="GPT-4o", by="release_date")
    [line] = answer["series"]
    assert [(point["at"], point["run"]) for point in line["points"]] == [
        ("2024-05-13", name(3)),
        ("2024-07-18", name(1)),
    ]
    [step] = line["steps"]
    assert (step["at"], step["significant"], line["breaks"]) == ("2024-07-18", True, [])
    models = ["deepseek-r1", "gpt-4o", "nobody/knows", "phi-4"]
    answer = await trace_runs(stack, models=models, by="release_date")
    assert [point["model"] for point in answer["series"][0]["points"]] == ["gpt-4o", "deepseek-r1"]
    assert "left out, as no release date is registered: nobody/knows" in answer["warnings"]
    assert "no finished run of math500 with questions is of phi-4" in answer["warnings"]
    answer = await trace_runs(stack, models=["gpt-4o", "gpt-4o-mini"])
    assert [point["segment"] for point in answer["series"][0]["points"]] == [0, 1, 1]
    assert "runs of 2 models share a line (gpt-4o, gpt-4o-mini): a step may be between models" in answer["warnings"]
    refused: list[tuple[dict[str, Any], str, str]] = [
        ({"models": ["nobody/knows"], "by": "release_date"}, "by", "no release date is registered of nobody/knows"),
        ({"models": ["phi-4", "gpt-4"]}, "models", "no finished run of math500 with questions is of gpt-4, phi-4"),
        ({"family": "Phi-4"}, "family", "no finished run of math500 with questions is of a model of 'Phi-4'"),
    ]
    for request, place, detail in refused:
        response = await stack.analysis.post("/timeseries", json={"benchmark": "math500", **request})
        assert response.status_code == 422, response.text
        [fault] = response.json()["faults"]
        assert (fault["place"], fault["detail"]) == (place, detail)


async def test_the_newest_points_are_kept(stack: Stack) -> None:
    await stack.push(*(result(number, answers) for number, answers in enumerate(simulate(4, shift={}))))
    answer = await trace_runs(stack, limit=2)
    assert ([point["run"] for point in answer["series"][0]["points"]], answer["truncated"]) == (
        [name(2), name(3)],
        True,
    )
    assert [run["result_name"] for run in answer["runs"]] == [name(2), name(3)]
    assert (await trace_runs(stack, limit=4))["truncated"] is False
    one = await trace_runs(stack, filters={"run": [name(2)]})
    assert (len(one["series"][0]["points"]), one["n_tests"]) == (1, 0)


FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({"benchmark": "mth500", "models": ["gpt-4"]}, "benchmark", "did you mean 'math500'?"),
    ({"family": "GPT-5"}, "family", "no family of registered models 'GPT-5'"),
    ({"family": "GPT-4o", "models": ["gpt-4"]}, "body", "either `family` or `models`"),
    ({}, "body", "either `family` or `models`"),
    ({"models": ["gpt-4", "gpt-9"]}, "models[1]", "no model 'gpt-9'"),
    ({"models": ["gpt-4"], "level1": "model"}, "level1", "no field of mmlu-redux 'model'"),
    ({"models": ["gpt-4"], "level1": "subjct"}, "level1", "did you mean 'subject'?"),
    ({"models": ["gpt-4"], "level1_values": ["x"]}, "level1_values", "needs level1"),
    ({"models": ["gpt-4"], "level1": "subject", "level1_values": [3]}, "level1_values[0]", "3 cannot be a value"),
    ({"models": ["gpt-4"], "filters": {"colour": ["red"]}}, "filters.colour", "no field of mmlu-redux 'colour'"),
    ({"models": ["gpt-4"], "filters": {"model": ["gpt-4o"]}}, "filters", "no run that models chooses passes them"),
    ({"models": ["gpt-4"], "seed": 2**70}, "seed", "less than or equal"),
    ({"models": ["gpt-4"], "confidence": "NaN"}, "confidence", "valid number"),
    ({"models": ["gpt-4"], "limit": 1}, "limit", "greater than or equal"),
]


@pytest.mark.parametrize(("request_", "place", "detail"), FAULTS)
async def test_refused(sample_stack: Stack, request_: dict[str, Any], place: str, detail: str) -> None:
    response = await sample_stack.analysis.post("/timeseries", json={"benchmark": "mmlu-redux", **request_})
    assert response.status_code == 422, response.text
    [fault] = response.json()["faults"]
    assert fault["place"] == place
    assert detail in fault["detail"]


async def test_too_many_lines_or_points(sample_stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    [model, *_] = [document["model_id"] for document in sample_documents()]
    request = {"benchmark": "mmlu-redux", "models": [model], "level1": "subject"}
    for limit in ("LINES_MAX", "POINTS_MAX"):
        with monkeypatch.context() as patch:
            patch.setattr(trace, limit, 1)
            response = await sample_stack.analysis.post("/timeseries", json=request)
        assert (response.status_code, response.json()["type"]) == (422, "urn:scorehouse:problem:too-many-groups")
    response = await sample_stack.analysis.post("/timeseries", json=request)
    assert response.status_code == 200, response.text
