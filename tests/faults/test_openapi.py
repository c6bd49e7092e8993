"""Schemathesis over both OpenAPI documents: whatever a caller sends, no 5xx and no answer outside its description.

FAULT_EXAMPLES is the number of random cases an operation gets beside the fixed ones; more in `make faults`.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    ignored_auth,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from analysis_service.app import create_app as create_analysis
from analysis_service.settings import AnalysisSettings
from results_service.app import create_app as create_results
from results_service.settings import ResultsSettings
from tests.faults.conftest import Services

EXAMPLES = int(os.environ.get("FAULT_EXAMPLES", "10"))
SEED = 20_260
CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    allow_header_conformance,
]
BOUNDED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@schemathesis.serializer("application/x-ndjson")
def _one_line(_context: Any, value: Any) -> bytes:
    """A body of one line: what Schemathesis makes for this type is one document."""
    return value if isinstance(value, bytes) else json.dumps(value).encode() + b"\n"


def _schema(document: dict[str, Any]) -> Any:
    project = ProjectConfig(generation=GenerationConfig(deterministic=True, database="none"))
    projects = ProjectsConfig(default=project)
    return schemathesis.openapi.from_dict(document, config=SchemathesisConfig(seed=SEED, projects=projects))


RESULTS = _schema(create_results(ResultsSettings(mongo_url="mongodb://nowhere", auth="disabled")).openapi())
ANALYSIS = _schema(create_analysis(AnalysisSettings(auth="disabled")).openapi())

cases: Counter[str] = Counter()


@pytest.fixture(scope="module", autouse=True)
def counts(request: pytest.FixtureRequest) -> Iterator[None]:
    """Says at the end how much was tried."""
    yield
    capture = request.config.pluginmanager.get_plugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():
        print(f"\nschemathesis: {len(cases)} operations, {cases.total()} cases")


def _try(case: Any, client: httpx.Client, headers: dict[str, str], *checks: Any) -> None:
    cases[f"{case.operation.label} {'with key' if headers else 'open'}"] += 1
    if isinstance(case.query.get("wait_s"), int | float) and 0 < case.query["wait_s"] <= 30:
        case.query["wait_s"] = 0.01  # a long poll is meant to take long
    response = case.call(base_url=str(client.base_url), headers=headers)
    wanted = [*CHECKS, *checks]
    if case.operation.path.endswith("/batch"):
        wanted.remove(negative_data_rejection)  # its lines are refused one by one, in an answer that is a 200
    case.validate_response(response, checks=wanted, headers=headers)


@RESULTS.parametrize()  # type: ignore[untyped-decorator]
@BOUNDED
def test_results(case: Any, open_services: Services) -> None:
    _try(case, open_services.results, {}, unsupported_method)


@ANALYSIS.parametrize()  # type: ignore[untyped-decorator]
@BOUNDED
def test_analysis(case: Any, open_services: Services) -> None:
    _try(case, open_services.analysis, {}, unsupported_method)


@RESULTS.parametrize()  # type: ignore[untyped-decorator]
@BOUNDED
def test_results_with_keys(case: Any, keyed_services: Services) -> None:
    _try(case, keyed_services.results, keyed_services.headers("admin"), ignored_auth)


@ANALYSIS.parametrize()  # type: ignore[untyped-decorator]
@BOUNDED
def test_analysis_with_keys(case: Any, keyed_services: Services) -> None:
    _try(case, keyed_services.analysis, keyed_services.headers("reader"), ignored_auth)
