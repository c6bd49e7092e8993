"""POST /analysis over the synthetic sample: shapes, orders, options, and what is refused."""

from typing import Any

import pytest

from scorehouse.sample import sample_documents
from tests.api.conftest import Stack
from tests.documents import expected_cells

ALL = [document for document in sample_documents() if document["benchmark_name"] == "math500"]


async def test_the_answers_shape(sample_stack: Stack) -> None:
    response = await sample_stack.analyze(benchmark="math500", level1="subject", level2="level")
    assert response.status_code == 200
    answer = response.json()
    assert set(answer) == {
        "benchmark", "group_by", "rows", "total_rows", "truncated", "runs", "warnings", "data_version",
    }  # fmt: skip
    assert answer["group_by"] == ["model", "subject", "level"]
    assert list(answer["rows"][0]) == ["model", "subject", "level", "n", "n_questions", "mean", "mean_by_question"]
    assert len(answer["runs"]) == len({run["model"] for run in answer["runs"]}) == 15
    assert all(run["coverage"] == 1 and run["registered"] for run in answer["runs"])


async def test_explaining_tells_the_plan(sample_stack: Stack) -> None:
    request: dict[str, Any] = {"benchmark": "math500", "level1": "subject", "runs": "all"}
    plain = (await sample_stack.analyze(**request)).json()
    response = await sample_stack.analyze(**request, explain=True)
    explained = response.json()
    plan = explained.pop("plan")
    assert explained == plain, "the answer is the same"
    assert (plan["kind"], plan["runs"], plan["answers"]) == ("sums", len(plain["runs"]), 0)
    assert plan["cells"] >= len(plain["rows"])
    assert {statement["name"] for statement in plan["statements"]} >= {"packed sums"}
    again = (await sample_stack.analyze(**request, explain=True)).json()["plan"]
    assert [statement["name"] for statement in again["statements"]] == ["packed sums"], "it really ran again"


async def test_shared_questions_are_those_of_all_chosen_runs(stack: Stack) -> None:
    def run_of(model: str, asked: range) -> dict[str, Any]:
        questions = [
            {"question_id": f"q{number}", "score": number / 10, "metadata": {"subject": "ab"[number % 2]}}
            for number in asked
        ]
        return {
            "run_id": model,
            "benchmark_name": "math500",
            "timestamp": "2024-01-01T00:00:00Z",
            "model_id": model,
            "source": "tests",
            "data": {"questions": questions},
        }

    await stack.push(run_of("gpt-4", range(6)), run_of("gpt-4o", range(3, 9)), run_of("deepseek-r1", range(8, 9)))
    request: dict[str, Any] = {"benchmark": "math500", "level1": "subject", "explain": True, "shared_questions": True}
    two = (await stack.analyze(**request, models=["gpt-4", "gpt-4o"])).json()
    assert two["plan"]["kind"] == "answers"
    for model in ("gpt-4", "gpt-4o"):
        rows = {row["subject"]: row for row in two["rows"] if row["model"] == model}
        assert {name: (row["n"], row["n_questions"], row["mean"]) for name, row in rows.items()} == {
            "a": (1, 1, 0.4), "b": (2, 2, 0.4),
        }  # fmt: skip
    one = (await stack.analyze(**request, models=["gpt-4"])).json()
    assert (one["plan"]["kind"], sum(row["n"] for row in one["rows"])) == ("sums", 6)
    none = (await stack.analyze(**request)).json()
    assert none["rows"] == []
    assert any("no question was asked by every chosen run of math500" in warning for warning in none["warnings"])


async def test_every_run_has_the_mean_of_its_answers(sample_stack: Stack) -> None:
    rows = (await sample_stack.analyze(benchmark="math500", level1="run", runs="all")).json()["rows"]
    runs = [
        (f"{document['timestamp']}-math500-{document['run_id']}", document["data"]["questions"]) for document in ALL
    ]
    expected = expected_cells(runs, [])
    assert {(row["run"],) for row in rows} == set(expected)
    for row in rows:
        assert {name: row[name] for name in ("n", "n_questions", "mean")} == pytest.approx(
            {name: expected[row["run"],][name] for name in ("n", "n_questions", "mean")}, abs=1e-9
        )


async def test_parts_add_up_to_the_whole(sample_stack: Stack) -> None:
    whole = (await sample_stack.analyze(benchmark="mmlu", level1="model")).json()["rows"]
    for field in ("category", "subject"):
        parts = (await sample_stack.analyze(benchmark="mmlu", level1=field, include_null=True)).json()["rows"]
        for row in whole:
            mine = [part for part in parts if part["model"] == row["model"]]
            assert sum(part["n"] for part in mine) == row["n"]
            assert sum(part["n"] * part["mean"] for part in mine) == pytest.approx(row["n"] * row["mean"], abs=1e-9)
            assert sum(part["n_questions"] for part in mine) == row["n_questions"]


async def test_order_and_limit(sample_stack: Stack) -> None:
    request: dict[str, Any] = {"benchmark": "math500", "level1": "level", "by_model": False}
    rows = (await sample_stack.analyze(**request)).json()["rows"]
    assert [row["level"] for row in rows] == [1, 2, 3, 4, 5]
    best = (await sample_stack.analyze(**request, order_by="-mean", limit=2)).json()
    assert [row["mean"] for row in best["rows"]] == sorted((row["mean"] for row in rows), reverse=True)[:2]
    assert (best["total_rows"], best["truncated"]) == (5, True)
    rows = (await sample_stack.analyze(**request, order_by="-level")).json()["rows"]
    assert [row["level"] for row in rows] == [5, 4, 3, 2, 1]


async def test_several_benchmarks_at_once(sample_stack: Stack) -> None:
    single = {}
    for name in ("mmlu", "mmlu-redux"):
        single[name] = (await sample_stack.analyze(benchmark=name, level1="category")).json()
    request: dict[str, Any] = {"benchmarks": ["mmlu-redux", "mmlu"], "level1": "category"}
    both = (await sample_stack.analyze(**request)).json()
    assert both["benchmark"] is None
    assert both["group_by"] == ["benchmark", "model", "category"]
    assert both["rows"] == [
        {"benchmark": name, **row} for name in request["benchmarks"] for row in single[name]["rows"]
    ]
    assert both["runs"] == [run for name in request["benchmarks"] for run in single[name]["runs"]]
    best = (await sample_stack.analyze(**request, order_by="-mean", limit=3)).json()
    assert best["rows"] == sorted(both["rows"], key=lambda row: -row["mean"])[:3]
    one = both["runs"][0]["result_name"]
    chosen = (await sample_stack.analyze(**request, runs=[one])).json()
    assert {row["benchmark"] for row in chosen["rows"]} == {"mmlu-redux"}
    for wrong, place in (
        ({"benchmarks": ["mmlu", "mmmlu"]}, "benchmarks[1]"),
        ({"benchmark": "mmlu"}, "benchmark"),
        ({"benchmarks": ["mmlu", "aime"]}, "level1"),
        ({"benchmarks": []}, "benchmarks"),
        ({"order_by": "benchmarks"}, "order_by"),
    ):
        response = await sample_stack.analyze(**(request | wrong))
        assert response.status_code == 422
        assert response.json()["faults"][0]["place"] == place


async def test_failures_count_as_the_policy_says(sample_stack: Stack) -> None:
    rows: dict[str, list[dict[str, Any]]] = {}
    for policy in ("exclude", "wrong", "bounds"):
        response = await sample_stack.analyze(benchmark="math500", level1="model", error_policy=policy)
        rows[policy] = response.json()["rows"]
    lost = 0
    for exclude, wrong, bounds in zip(*rows.values(), strict=True):
        assert wrong["n"] >= exclude["n"]
        lost += wrong["n"] - exclude["n"]
        assert wrong["mean"] * wrong["n"] == pytest.approx(exclude["mean"] * exclude["n"])
        assert bounds["mean_low"] <= exclude["mean"] <= bounds["mean_high"]
        assert bounds["mean"] == exclude["mean"]
    assert lost > 0, "the sample has failed attempts"


async def test_values_levels_and_filters_narrow(sample_stack: Stack) -> None:
    response = await sample_stack.analyze(
        benchmark="math500",
        level1="subject",
        level1_values=["Algebra", "Algebrra"],
        filters={"level": [1, 2], "vendor": ["OpenAI"]},
    )
    answer = response.json()
    assert {row["subject"] for row in answer["rows"]} == {"Algebra"}
    assert {run["model"] for run in answer["runs"]} <= {"gpt-4", "gpt-4o", "gpt-4o-mini"}
    assert any("Algebrra" in warning for warning in answer["warnings"])


async def test_metadata_and_options_agree_with_group_bys(sample_stack: Stack) -> None:
    metadata = (await sample_stack.analysis.get("/benchmarks/mmlu-redux/metadata")).json()
    for field in metadata["fields"]:
        response = await sample_stack.analyze(
            benchmark="mmlu-redux", level1=field["name"], by_model=False, runs="all", include_null=True
        )
        counts = {row[field["name"]]: row["n_questions"] for row in response.json()["rows"]}
        assert field["n_null"] == counts.pop(None, 0)
        assert [(value["value"], value["questions"]) for value in field["values"]] == list(counts.items())
    assert any(field["n_null"] for field in metadata["fields"]), "the sample has questions without a value"
    request = {"level1": "category", "level1_values": ["STEM"]}
    response = await sample_stack.analysis.post("/benchmarks/mmlu-redux/metadata/options", json=request)
    options = response.json()["options"]
    assert options[0]["field"] == "subject", "the field that refines the level comes first"
    assert {option["field"] for option in options} == {field["name"] for field in metadata["fields"]} - {"category"}
    assert 0 < len(options[0]["values"]) < 57
    request |= {"level2": "subject", "level2_values": [options[0]["values"][0]["value"]]}
    response = await sample_stack.analysis.post("/benchmarks/mmlu-redux/metadata/options", json=request)
    assert "subject" not in {option["field"] for option in response.json()["options"]}


async def test_titles_and_descriptions_in_korean(sample_stack: Stack) -> None:
    english = (await sample_stack.analysis.get("/benchmarks/aime/metadata")).json()
    korean = (await sample_stack.analysis.get("/benchmarks/aime/metadata?lang=ko")).json()
    assert english["description"].isascii()
    assert any("가" <= letter <= "힣" for letter in korean["description"])
    assert (await sample_stack.analysis.get("/benchmarks/aime/metadata?lang=fr")).status_code == 422


async def test_summary(sample_stack: Stack) -> None:
    summary = (await sample_stack.analysis.get("/analysis/summary")).json()
    assert [item["benchmark"] for item in summary["benchmarks"]] == [
        "aime", "ds-mmlu", "hle", "math500", "mmlu", "mmlu-redux",
    ]  # fmt: skip
    for item in summary["benchmarks"]:
        rows = (await sample_stack.analyze(benchmark=item["benchmark"], level1="model", order_by="-mean")).json()[
            "rows"
        ]
        assert item["models"] == 15
        assert item["best_model"] == {"model": rows[0]["model"], "mean": pytest.approx(rows[0]["mean"])}
        total = sum(row["n"] for row in rows)
        assert item["mean"] == pytest.approx(sum(row["n"] * row["mean"] for row in rows) / total)


async def test_the_owners_paths_answer_under_v1_too(sample_stack: Stack) -> None:
    request = {"benchmark": "math500", "level1": "model"}
    plain = (await sample_stack.analysis.post("/analysis", json=request)).json()
    assert (await sample_stack.analysis.post("/v1/analysis", json=request)).json() == plain
    for path in ("/analysis/summary", "/benchmarks/aime/metadata"):
        assert (await sample_stack.analysis.get(f"/v1{path}")).json() == (await sample_stack.analysis.get(path)).json()


BAD = [
    (b"", 422, "body: is required"),
    (b"{", 400, "line 1 column 1"),
    (b'{"benchmark": "mmlu",}', 400, "trailing comma at line 1 column 22"),
    (b'{"benchmark": NaN}', 400, "NaN and Infinity are not JSON"),
    (b'{"benchmark": "a", "benchmark": "b"}', 400, 'duplicate key "benchmark"'),
    (b"[]", 422, "body"),
    (b'{"benchmark": "mmlu"}', 422, "level1: is required"),
    (b'{"level1": "subject"}', 422, "benchmark: is required"),
    (b'{"benchmark": "mmlu", "level1": "subject", "levl2": "x"}', 422, "levl2: is not a field of this request"),
    (b'{"benchmark": "mmlu", "level1": 3}', 422, "level1: input should be a valid string"),
    (b'{"benchmark": "mmlu", "level1": "subject", "limit": 0}', 422, "limit: input should be greater"),
    (b'{"benchmark": "mmlu", "level1": "subject", "runs": "newest"}', 422, "runs"),
    (b'{"benchmark": "mmlu", "level1": "subject", "error_policy": "drop"}', 422, "'exclude', 'wrong' or 'bounds'"),
    (b'{"benchmark": "mmlu", "level1": "subject", "filters": {"subject": [null]}}', 422, "filters.subject[0]"),
    (b'{"benchmark": "mmlu", "level1": "subject", "filters": {"subject": "x"}}', 422, "filters.subject"),
    (b'{"benchmark": "mmluu", "level1": "subject"}', 422, "did you mean 'mmlu'"),
    (b'{"benchmark": "mmlu", "level1": "subjects"}', 422, "did you mean 'subject'"),
]


@pytest.mark.parametrize(("body", "status", "detail"), BAD)
async def test_bad_requests_are_told_what_and_where(sample_stack: Stack, body: bytes, status: int, detail: str) -> None:
    response = await sample_stack.analysis.post("/analysis", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == status, response.text
    problem = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["type"] == f"urn:scorehouse:problem:{'malformed-json' if status == 400 else 'invalid-request'}"
    assert problem["request_id"] == response.headers["x-request-id"]
    assert detail.lower() in problem["detail"].lower()


@pytest.mark.parametrize("label", ["text/plain", "application/x-www-form-urlencoded", None])
async def test_a_body_is_json_however_it_is_labelled(sample_stack: Stack, label: str | None) -> None:
    headers = {} if label is None else {"Content-Type": label}
    body = b'{"benchmark": "math500", "level1": "model"}'
    response = await sample_stack.analysis.post("/analysis", content=body, headers=headers)
    assert response.status_code == 200, response.text


async def test_unknown_things_in_paths_are_404(sample_stack: Stack) -> None:
    for path in ("/benchmarks/mmluu/metadata", "/nowhere"):
        response = await sample_stack.analysis.get(path)
        assert (response.status_code, response.json()["type"]) == (404, "urn:scorehouse:problem:not-found")
    assert "did you mean 'mmlu'" in (await sample_stack.analysis.get("/benchmarks/mmluu/metadata")).text
    response = await sample_stack.analysis.post("/benchmarks/mmluu/metadata/options", json={"level1": "x"})
    assert response.status_code == 404
    assert (await sample_stack.analysis.get("/analysis")).status_code == 405


async def test_documentation_needs_no_internet(sample_stack: Stack) -> None:
    page = (await sample_stack.analysis.get("/docs")).text
    assert "http://" not in page.replace("http://localhost", "")
    assert "https://" not in page
    schema = (await sample_stack.analysis.get("/openapi.json")).json()
    assert "/analysis" in schema["paths"]
    assert "/v1/analysis" not in schema["paths"]
