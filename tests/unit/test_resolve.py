"""What a request may ask, and what it is told otherwise."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from analysis_service.catalog import BenchmarkRuns
from analysis_service.group_by.resolve import ResolvedAnalysis, find_benchmarks, resolve_analysis
from analysis_service.runs import Run, latest_runs
from shared.analysis import AnalysisRequest
from shared.problems import FAULTS_MAX, InvalidRequest, unknown_value
from shared.registry.load import load_registry

REGISTRY = load_registry()


def run(number: int, model_id: str = "gpt-4", *, coverage: float = 1.0, **changes: Any) -> Run:
    facts = REGISTRY.model(model_id)
    values: dict[str, Any] = {
        "run_no": number,
        "result_name": f"2024-01-0{number}T00:00:00Z-mmlu-redux-r{number}",
        "benchmark": "mmlu-redux",
        "model_id": model_id,
        "model": REGISTRY.canonical_model(model_id),
        "vendor": facts.vendor if facts else None,
        "family": facts.family if facts else None,
        "registered": facts is not None,
        "source": "tests",
        "timestamp": f"2024-01-0{number}T00:00:00Z",
        "time_key": f"2024-01-0{number}T00:00:00",
        "seq": number,
        "set_no": 1,
        "layout_no": 1,
        "n_cells": 3,
        "n_questions": 10,
        "n_answers": 10,
        "n_scored": 10,
        "score_sum": 5.0,
        "stated_score": None,
        **dict.fromkeys(("harness", "harness_version", "task_version", "grader", "config_hash")),
        "coverage": coverage,
        "live": False,
    }
    return Run(**(values | changes))


STORED = [
    run(1),
    run(2, "openai/gpt-4"),
    run(3, "some/model"),
    run(4, "gpt-4o", n_questions=0, coverage=0.0),
    run(5, "gpt-4o"),
]


def resolve(stored: Sequence[Run] = STORED, **request: Any) -> ResolvedAnalysis:
    asked = AnalysisRequest.model_validate({"benchmark": "mmlu-redux", "level1": "category", **request})
    [spec] = find_benchmarks(REGISTRY, asked)
    return resolve_analysis(asked, spec, REGISTRY, [BenchmarkRuns(spec.name, 1, tuple(stored), 10)])


MANY = [str(number) for number in range(4000)]

FAULTS = [
    ({"level1_values": MANY, "filters": {"subject": MANY, "error_type": MANY}}, "filters", "10,000 values together"),
    ({"level1": "subjct"}, "level1", "did you mean 'subject'?"),
    ({"level1": "f_subject"}, "level1", "no field of mmlu-redux"),
    ({"level2": "year"}, "level2", "no field of mmlu-redux 'year'"),
    ({"level2": "category"}, "level2", "'category' is level1 already"),
    ({"level1": "model", "level2": "subject", "level3": "model"}, "level3", "'model' is level1 already"),
    ({"level3": "subject"}, "level3", "needs a level2 above it"),
    ({"level2_values": ["x"]}, "level2_values", "needs level2"),
    ({"level1_values": []}, "level1_values", "at least one value"),
    ({"level1_values": [1]}, "level1_values[0]", "1 cannot be a value of 'category', which takes a string"),
    ({"filters": {"foo": ["x"]}}, "filters.foo", "no field of mmlu-redux 'foo'"),
    ({"filters": {"subject": [True]}}, "filters.subject[0]", "which takes a string"),
    ({"filters": {"model": [3]}}, "filters.model[0]", "3 cannot be a model"),
    ({"filters": {"vendor": ["OpenAl"]}}, "filters.vendor[0]", "did you mean 'OpenAI'?"),
    ({"models": ["gpt4"]}, "models[0]", "'gpt-4'"),
    ({"models": []}, "models", "at least one value"),
    ({"runs": ["2024-01-09T00:00:00Z-mmlu-redux-r9"]}, "runs[0]", "no valid run"),
    ({"runs": ["2024-01-04T00:00:00Z-mmlu-redux-r4"]}, "runs[0]", "holds no questions"),
    ({"order_by": "-meen"}, "order_by", "did you mean 'mean'?"),
    ({"order_by": "mean_low"}, "order_by", "no column 'mean_low'"),
    ({"order_by": "subject"}, "order_by", "no column 'subject'"),
]


@pytest.mark.parametrize(("request_part", "place", "detail"), FAULTS)
def test_what_cannot_be_answered(request_part: dict[str, Any], place: str, detail: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        resolve(**request_part)
    [fault] = caught.value.faults
    assert fault.place == place
    assert detail in fault.detail
    if fault.detail.startswith("no "):
        assert fault.allowed, "an unknown name is told with what would be allowed"


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(InvalidRequest) as caught:
        resolve(level1="a", level3="b", models=["c"])
    assert [fault.place for fault in caught.value.faults] == ["level1", "level3", "level3", "models[0]"]


@pytest.mark.parametrize(
    "request_part",
    [
        {"runs": [f"r{number}" for number in range(5000)]},
        {"models": [f"m{number}" for number in range(5000)]},
        {"level1_values": [1] * 5000},
    ],
)
def test_of_a_long_list_of_faults_the_first_are_told(request_part: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        resolve(**request_part)
    assert len(caught.value.faults) == FAULTS_MAX


def test_unknown_benchmark() -> None:
    with pytest.raises(InvalidRequest, match=r"no benchmark 'mmlu-reduxx'; did you mean 'mmlu-redux'"):
        find_benchmarks(REGISTRY, AnalysisRequest(benchmark="mmlu-reduxx", level1="subject"))


@pytest.mark.parametrize(
    ("request_part", "group_by", "fields"),
    [
        ({}, ("model", "category"), ("category",)),
        ({"by_model": False}, ("category",), ("category",)),
        ({"level1": "model"}, ("model",), ()),
        ({"level1": "run", "level2": "subject"}, ("run", "subject"), ("subject",)),
        ({"level1": "run", "by_model": True}, ("model", "run"), ()),
        ({"level1": "vendor", "by_model": False}, ("vendor",), ()),
        ({"level1": "vendor", "level2": "run", "level3": "subject"}, ("vendor", "run", "subject"), ("subject",)),
    ],
)
def test_what_is_grouped_by(request_part: dict[str, Any], group_by: tuple[str, ...], fields: tuple[str, ...]) -> None:
    resolved = resolve(**request_part)
    assert resolved.group_by == group_by
    assert resolved.fields == fields
    assert set(resolved.run_levels) == set(group_by) - set(fields)


def test_filters_on_fields_are_left_to_the_cells_and_others_choose_runs() -> None:
    resolved = resolve(
        level1_values=["STEM"], filters={"error_type": ["ok", "ok"], "model": ["gpt-4o"]}, include_null=True
    )
    assert resolved.filters == (("category", ("STEM",)), ("error_type", ("ok",)))
    assert [taken.run_no for taken in resolved.runs] == [5]
    assert resolved.include_null


@pytest.mark.parametrize(
    ("request_part", "runs"),
    [
        ({}, [5, 2, 3]),  # by model; 1 is older than 2, which an alias names
        ({"runs": "all"}, [1, 2, 3, 5]),
        ({"runs": ["2024-01-01T09:00:00+09:00-mmlu-redux-r1"]}, [1]),
        ({"filters": {"run": ["2024-01-01T09:00:00+09:00-mmlu-redux-r1"]}, "runs": "all"}, [1]),
        ({"models": ["openai/gpt-4"], "runs": "all"}, [1, 2]),
        ({"filters": {"family": ["GPT-4"]}, "runs": "all"}, None),
        ({"models": ["deepseek-r1"]}, []),
    ],
)
def test_which_runs_are_taken(request_part: dict[str, Any], runs: list[int] | None) -> None:
    if runs is None:
        family = REGISTRY.models["gpt-4"].family
        request_part = {**request_part, "filters": {"family": [family]}}
        runs = [stored.run_no for stored in STORED if stored.family == family and stored.n_questions]
    resolved = resolve(**request_part)
    assert sorted(taken.run_no for taken in resolved.runs) == sorted(runs)


@pytest.mark.parametrize(
    ("runs", "latest"),
    [
        ([run(1), run(2)], 2),
        ([run(2), run(1)], 2),
        ([run(1), run(2, coverage=0.94)], 1),
        ([run(1), run(2, coverage=0.95)], 2),
        ([run(1, coverage=0.5), run(2, coverage=0.4)], 1),
        ([run(1, coverage=0.5), run(2, coverage=0.5)], 2),
        ([run(1, seq=9), run(2, time_key="2024-01-01T00:00:00", seq=8)], 1),
        ([run(1), run(2, n_questions=0, coverage=0.0)], 1),
    ],
)
def test_latest_run(runs: list[Run], latest: int) -> None:
    assert [chosen.run_no for chosen in latest_runs(runs)] == [latest]
    assert latest_runs([run(1, n_questions=0)]) == [], "a stated score is nobody's latest run"


def test_benchmarks_go_together_where_a_level_is_of_one_type(tmp_path: Path) -> None:
    for name, kind in (("graded", "integer"), ("labelled", "category")):
        text = f'name = "{name}"\ntitle = {{en = "T"}}\ndescription = {{en = "D"}}\n[[fields]]\nname = "grade"\n'
        (tmp_path / f"{name}.toml").write_text(f'{text}type = "{kind}"\ndescription = {{en = "D"}}\n')
    registry = load_registry(tmp_path)
    request = AnalysisRequest(benchmarks=["graded", "labelled", "graded"], level1="model")
    assert [spec.name for spec in find_benchmarks(registry, request)] == ["graded", "labelled"]
    with pytest.raises(InvalidRequest, match="level1: 'grade' is category here and integer there"):
        find_benchmarks(registry, request.model_copy(update={"level1": "grade"}))


LIVE = run(6, "gpt-4", coverage=0.1, live=True)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({}, [2]),
        ({"runs": "latest"}, [2]),
        ({"runs": "all"}, [1, 2]),
        ({"runs": "all", "filters": {"run": [LIVE.result_name]}}, []),
        ({"runs": [LIVE.result_name]}, [6]),
        ({"live": True}, [6]),
        ({"live": True, "runs": "all"}, [1, 2, 6]),
    ],
)
def test_live_runs_count_only_where_asked_for(request_: dict[str, Any], expected: list[int]) -> None:
    resolved = resolve([run(1), run(2), LIVE], **request_)
    assert [chosen.run_no for chosen in resolved.runs] == expected
    assert [chosen.info.live for chosen in resolved.runs] == [number == 6 for number in expected]


def test_of_many_names_the_likely_ones_are_found_without_comparing_all() -> None:
    many = [f"2024-01-01T00:00:00Z-mmlu-run-{number:06}" for number in range(100_000)]
    began = time.perf_counter()
    fault = unknown_value("runs[0]", "2024-01-01T00:00:00Z-mmlu-run-054321x", many, what="valid run")
    assert time.perf_counter() - began < 1, "comparing all takes a minute, in which nobody else is answered"
    assert fault.allowed is None, "nor are all of them sent"
    assert fault.nearest is not None
    assert fault.nearest[0] == "2024-01-01T00:00:00Z-mmlu-run-054321"
