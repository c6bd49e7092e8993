"""What the READMEs show can be done as shown, and both languages show the same."""

import json
import re
from pathlib import Path

import pytest

from analysis_service.comparison.resolve import find_parts
from analysis_service.group_by.resolve import find_benchmarks, resolve_analysis
from shared.analysis import AnalysisRequest
from shared.comparisons import ComparisonRequest
from shared.registry.load import load_registry
from shared.submission import check_against, read_questions, read_submission, shape_warnings

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "README.ko.md")
REGISTRY = load_registry()


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_the_document_shown_is_accepted_without_a_warning(page: str) -> None:
    [text] = blocks(page, "json")
    submission = read_submission(text.encode())
    questions = read_questions(submission.value)
    assert questions is not None
    spec = REGISTRY.benchmarks[submission.envelope.benchmark_name]
    check_against(spec, questions)
    assert shape_warnings(submission.value, questions, spec, spec.name) == []


@pytest.mark.parametrize("page", PAGES)
def test_the_questions_shown_can_be_answered(page: str) -> None:
    bodies = [found for block in blocks(page, "sh") for found in re.findall(r"-d '(\{.*?\})'", block)]
    group_by, comparison = map(json.loads, bodies)
    request = AnalysisRequest.model_validate(group_by)
    [spec] = find_benchmarks(REGISTRY, request)
    assert resolve_analysis(request, spec, REGISTRY, []).group_by == ("model", "category", "subject")
    compared = ComparisonRequest.model_validate(comparison)
    assert [part.spec.name for part in find_parts(REGISTRY, compared)] == ["mmlu-redux"]
    assert set(compared.models or ()) <= REGISTRY.models.keys()


@pytest.mark.parametrize("page", PAGES)
def test_every_field_of_a_request_is_explained(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", text))
    ranges = {"level2", "level2_values", "level3_values"}  # "`level1` … `level3`"
    assert set(AnalysisRequest.model_fields) - ranges <= named


def test_both_languages_show_the_same_commands_documents_and_figures() -> None:
    english, korean = ((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
    for language in ("json", "sh", "python"):
        without_comments = [[re.sub(r"\s*#.*", "", block) for block in blocks(page, language)] for page in PAGES]
        assert without_comments[0] == without_comments[1]
    figures = r"\| (\d+\.?\d*) ?(?:ms|s|초)(?= \|)"
    assert re.findall(figures, english) == re.findall(figures, korean) != []
