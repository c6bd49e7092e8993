"""GET /benchmarks/{benchmark}/questions over HTTP: paths, shapes, pages, refusals, and two harnesses that meet."""

from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.api.conftest import Stack, run_stack
from tests.documents import make_answer


def pushed(harness: str, model: str, answers: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """A result as a harness sends it."""
    envelope = {"run_id": f"{harness}-{model}", "benchmark_name": "mmlu", "timestamp": "2024-01-01T12:00:00Z"}
    return {**envelope, "model_id": model, "source": harness, "data": {"questions": answers}, **changes}


async def ask(stack: Stack, question_id: str, benchmark: str = "mmlu", **query: Any) -> dict[str, Any]:
    response = await stack.analysis.get(f"/benchmarks/{benchmark}/questions/{quote(question_id)}", params=query)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def test_what_each_model_and_harness_made_of_a_question(stack: Stack) -> None:
    same = {"content_hash": "sha256:ab", "metadata": {"subject": "anatomy"}}
    await stack.push(
        pushed("lm-eval", "gpt-4", [make_answer("mmlu_anatomy/0", 1, answer="B", target="B", **same)]),
        pushed("helm", "gpt-4", [make_answer("id11", 0, answer=" C", target=" B", output_tokens=3, **same)]),
        pushed("helm", "llama-x", [make_answer("id11", None, status="error", **same)]),
        pushed("helm", "old", [make_answer("id11", 1, content_hash="sha256:cd")]),
    )
    answer = await ask(stack, "mmlu_anatomy/0")
    assert list(answer) == [
        "benchmark", "question_id", "questions", "questions_total", "warnings", "next_cursor", "data_version",
    ]  # fmt: skip
    assert (answer["benchmark"], answer["questions_total"], answer["next_cursor"]) == ("mmlu", 1, None)
    [question] = answer["questions"]
    runs = question.pop("runs")
    assert question == {
        "question_id": "mmlu_anatomy/0", "question_ids": ["id11", "mmlu_anatomy/0"], "content_hash": "sha256:ab",
        "copy_no": 1, "runs_total": 3, "targets": [" B", "B"],
    }  # fmt: skip
    assert runs[1] == {
        "result_name": "2024-01-01T12:00:00Z-mmlu-helm-gpt-4",
        "question_id": "id11", "model": "gpt-4", "registered": True, "source": "helm",
        "timestamp": "2024-01-01T12:00:00Z", "live": False, "metadata": {"subject": "anatomy"},
        "n": 1, "mean": 0.0, "n_attempts": 1,
        "attempts": [
            {
                "attempt": 0, "status": "scored", "score": 0.0, "answer": " C", "target": " B", "truncated": False,
                "latency_ms": None, "input_tokens": None, "output_tokens": 3, "cost_usd": None,
            }
        ],
    }  # fmt: skip
    assert [(run["model"], run["source"], run["n"], run["mean"]) for run in runs] == [
        ("gpt-4", "lm-eval", 1, 1.0),
        ("gpt-4", "helm", 1, 0.0),
        ("llama-x", "helm", 0, None),
    ]
    both = await ask(stack, "id11", runs="all")
    assert [question["content_hash"] for question in both["questions"]] == ["sha256:ab", "sha256:cd"]
    assert both["warnings"] == ["2 questions have the id 'id11': runs sent it with different texts"]
    rows = (await stack.analyze(benchmark="mmlu", level1="subject", by_model=False, runs="all")).json()["rows"]
    assert [(row["subject"], row["n"], row["n_questions"]) for row in rows] == [("anatomy", 2, 1)]


async def test_a_corrected_run_leaves_the_question(stack: Stack) -> None:
    await stack.push(pushed("lm-eval", "a", [make_answer("q")]), pushed("lm-eval", "b", [make_answer("q")]))
    before = await ask(stack, "q")
    name = "2024-01-01T12:00:00Z-mmlu-lm-eval-a"
    correction = {"author": "tests", "reason": "tests"}
    response = await stack.results.post(f"/standardized_output/{name}/invalidation", json=correction)
    assert response.status_code in (200, 201), response.text
    await stack.settle()
    after = await ask(stack, "q")
    assert [[run["model"] for run in one["questions"][0]["runs"]] for one in (before, after)] == [["a", "b"], ["b"]]
    assert before["data_version"] != after["data_version"]


async def test_every_question_of_the_sample_is_listed_and_found(sample_stack: Stack) -> None:
    listed: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        response = await sample_stack.analysis.get("/benchmarks/math500/questions", params={"limit": 150, **cursor})
        page = response.json()
        assert set(page) == {"benchmark", "items", "next_cursor", "data_version"}
        listed += [item["question_id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    summary = (await sample_stack.analysis.get("/analysis/summary")).json()["benchmarks"]
    assert len(listed) == len(set(listed)) == next(b["questions"] for b in summary if b["benchmark"] == "math500")
    assert listed == sorted(listed)
    found = await ask(sample_stack, listed[7], benchmark="math500", limit=100)
    assert len(found["questions"][0]["runs"]) == 15
    some = await sample_stack.analysis.get("/benchmarks/math500/questions", params={"prefix": listed[7]})
    assert [item["question_id"] for item in some.json()["items"]] == [n for n in listed if n.startswith(listed[7])]


async def test_pages_and_the_other_path(sample_stack: Stack) -> None:
    path = "/benchmarks/math500/questions"
    first = (await sample_stack.analysis.get(path, params={"limit": 1})).json()
    assert (await sample_stack.analysis.get(f"/v1{path}", params={"limit": 1})).json() == first
    question_id = first["items"][0]["question_id"]
    whole = await ask(sample_stack, question_id, benchmark="math500", runs="all", limit=100)
    plain = await ask(sample_stack, question_id, benchmark="math500", limit=4)
    one = f"/v1{path}/{quote(question_id)}"
    assert (await sample_stack.analysis.get(one, params={"limit": 4})).json() == plain
    models, page = [], plain
    while True:
        models += [run["model"] for run in page["questions"][0]["runs"]]
        if page["next_cursor"] is None:
            break
        page = await ask(sample_stack, question_id, benchmark="math500", limit=4, cursor=page["next_cursor"])
    assert models == sorted({run["model"] for run in whole["questions"][0]["runs"]})


BAD = [
    ("", {"limit": 0}, 422, "query.limit"),
    ("", {"limit": 1001}, 422, "query.limit"),
    ("", {"cursor": "x"}, 422, "query.cursor"),
    ("", {"prefx": "x"}, 422, "query.prefx"),
    ("/{id}", {"limit": 101}, 422, "query.limit"),
    ("/{id}", {"runs": "newest"}, 422, "query.runs"),
    ("/{id}", {"cursor": "x"}, 422, "query.cursor"),
    ("/{id}", {"modle": "gpt-4"}, 422, "query.modle"),
    ("/{id}", {"model": "gpt-44"}, 422, "query.model[0]"),
    ("/{id}", {"model": ["gpt-4", "gpt-44"]}, 422, "query.model[1]"),
    ("/{id}", {"source": "nobody"}, 422, "query.source[0]"),
    ("/{id}x", {}, 404, "question_id"),
    ("/", {}, 404, "question_id"),
]


@pytest.mark.parametrize(("path", "query", "status", "place"), BAD)
async def test_refusals_say_what_and_where(
    sample_stack: Stack, path: str, query: dict[str, Any], status: int, place: str
) -> None:
    listed = (await sample_stack.analysis.get("/benchmarks/aime/questions")).json()["items"]
    path = path.format(id=quote(listed[0]["question_id"]))
    response = await sample_stack.analysis.get(f"/benchmarks/aime/questions{path}", params=query)
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    assert response.json()["faults"][0]["place"] == place


async def test_unknown_benchmarks_are_404(sample_stack: Stack) -> None:
    for path in ("", "/x"):
        response = await sample_stack.analysis.get(f"/benchmarks/aimee/questions{path}")
        assert response.status_code == 404
        assert "did you mean 'aime'" in response.json()["detail"]


@pytest.mark.parametrize(("scope", "status"), [("analysis:read", 200), ("results:read", 403)])
async def test_the_scope_is_analysis_read(
    mongo_url: str, mongo_database: str, tmp_path: Path, scope: str, status: int
) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[[keys]]\nid = "k"\nsha256 = "{sha256(b"foo").hexdigest()}"\nscopes = ["{scope}"]\n')
    file = tmp_path / "analysis.sqlite"
    async with run_stack(mongo_url, mongo_database, file, auth="keys", api_keys_file=keys) as stack:
        await stack.push(pushed("lm-eval", "a", [make_answer("q")]))
        for path in ("/benchmarks/mmlu/questions", "/benchmarks/mmlu/questions/q", "/v1/benchmarks/mmlu/questions/q"):
            assert (await stack.analysis.get(path)).status_code == 401
            response = await stack.analysis.get(path, headers={"Authorization": "Bearer foo"})
            assert response.status_code == status, response.text


async def test_the_documentation_names_both(sample_stack: Stack) -> None:
    schema = (await sample_stack.analysis.get("/openapi.json")).json()
    for path, model in (("", "QuestionPage"), ("/{question_id}", "QuestionAnswer")):
        answers = schema["paths"][f"/benchmarks/{{benchmark}}/questions{path}"]["get"]["responses"]
        assert answers["200"]["content"]["application/json"]["schema"]["$ref"].endswith(f"/{model}")
