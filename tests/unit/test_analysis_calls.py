"""What both clients ask of the analysis: requests whole or by their fields, and answers as models."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
import respx

from scorehouse import AsyncScorehouse, Scorehouse, ScorehouseError
from shared.comparisons import ComparisonAnswer, ComparisonRequest
from shared.repeats import RepeatsAnswer
from shared.significance import SignificanceAnswer
from shared.time_series import TimeSeriesAnswer

ANALYSIS = "http://analysis.test"
Ask = Callable[..., Any]
LIKE = {"warnings": [], "data_version": "v", "confidence": 0.95, "n_tests": 0, "correction": "holm"}
COMPARISON: dict[str, Any] = LIKE | {
    "benchmarks": ["mmlu"],
    "entries": [],
    "pairs": [],
    "contested": [],
    "n_shared_by_all": 0,
    "draws": 0,
    "seed": 0,
    "n_contested": 0,
}
CASES: list[tuple[str, str, type[Any], dict[str, Any], dict[str, Any]]] = [
    ("compare", "/comparison", ComparisonAnswer, {"benchmark": "mmlu", "models": ["a", "b"]}, COMPARISON),
    (
        "significance",
        "/significance",
        SignificanceAnswer,
        {"benchmarks": ["mmlu"], "candidate": {"model": "a"}, "baseline": {"run": "r"}, "margin": 0.02},
        LIKE | {"verdict": "equivalent", "verdicts": [], "margin": 0.02},
    ),
    (
        "time_series",
        "/timeseries",
        TimeSeriesAnswer,
        {"benchmark": "mmlu", "family": "gpt-4"},
        LIKE | {"benchmark": "mmlu", "level1": None, "by": "run_time", "series": [], "runs": [], "truncated": False},
    ),
    (
        "repeats",
        "/repeats",
        RepeatsAnswer,
        {"benchmark": "aime", "ks": [1, 4]},
        {"benchmark": "aime", "runs": [], "confidence": 0.95, "warnings": [], "data_version": "v"},
    ),
]


@pytest.fixture(params=["blocking", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Calls a method of either client by its name."""

    def blocking(method: str, *arguments: Any, **fields: Any) -> Any:
        with Scorehouse(None, ANALYSIS) as house:
            return getattr(house, method)(*arguments, **fields)

    async def awaited(method: str, *arguments: Any, **fields: Any) -> Any:
        async with AsyncScorehouse(None, ANALYSIS) as house:
            return await getattr(house, method)(*arguments, **fields)

    if request.param == "blocking":
        return blocking
    return lambda *arguments, **fields: asyncio.run(awaited(*arguments, **fields))


@respx.mock
@pytest.mark.parametrize(("method", "path", "kind", "fields", "answer"), CASES, ids=[case[0] for case in CASES])
def test_what_is_asked_by_fields_is_sent_and_no_more(
    ask: Ask, method: str, path: str, kind: type[Any], fields: dict[str, Any], answer: dict[str, Any]
) -> None:
    route = respx.post(ANALYSIS + path).respond(200, json=answer)
    assert isinstance(ask(method, **fields), kind)
    assert json.loads(route.calls.last.request.content) == fields


@respx.mock
def test_a_request_given_whole_is_the_same(ask: Ask) -> None:
    route = respx.post(f"{ANALYSIS}/comparison").respond(200, json=COMPARISON)
    fields: dict[str, Any] = {"benchmark": "mmlu", "models": ["a", "b"], "correction": "bh", "seed": 2**62}
    ask("compare", **fields)
    ask("compare", ComparisonRequest.model_validate(fields))
    by_fields, whole = (json.loads(call.request.content) for call in route.calls)
    assert by_fields == whole == fields


@respx.mock
@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"models": ["a", "b"]}, "body: name either `benchmark` or `benchmarks`"),
        ({"benchmark": "mmlu", "models": ["a", "b"], "seed": 2**70}, "seed: "),
        ({"benchmark": "mmlu", "models": ["a", "b"], "weights": {"mmlu": float("nan")}}, "weights.mmlu: "),
        ({"benchmark": "mmlu", "models": ["a", "b"], "colour": 1}, "colour: is not a field of this request"),
    ],
)
def test_what_no_request_may_have_is_told_before_anything_is_sent(ask: Ask, fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ScorehouseError) as raised:
        ask("compare", **fields)
    assert str(raised.value).startswith(f"nothing can be asked like that: {told}")


def test_a_request_and_fields_are_one_too_many(ask: Ask) -> None:
    with pytest.raises(TypeError):
        ask("compare", ComparisonRequest(benchmark="mmlu", models=["a", "b"]), seed=1)


@respx.mock
def test_a_service_that_has_no_comparisons_yet_is_told_of(ask: Ask) -> None:
    problem = {"type": "about:blank", "title": "Not Found", "status": 404, "detail": "Nothing is here."}
    respx.post(f"{ANALYSIS}/comparison").respond(404, json=problem)
    with pytest.raises(ScorehouseError, match="is the analysis service at another address"):
        ask("compare", benchmark="mmlu", models=["a", "b"])
