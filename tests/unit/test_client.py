"""The clients: what they send, how a problem comes back, when they try again."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import respx

from scorehouse import AsyncScorehouse, Retries, Scorehouse, ScorehouseError, UnreachableError
from shared.analysis import AnalysisRequest
from shared.problems import Fault, InvalidRequest, StoreUnavailable
from shared.results import ResultKind, StoreStatus

RESULTS = "http://results.test"
ANALYSIS = "http://analysis.test"
AT_ONCE = Retries(attempts=3, first_wait_s=0)
STORED = {
    "result_name": "n",
    "status": "created",
    "unchanged": False,
    "sha256": "0",
    "questions": 1,
    "warnings": [],
}
SUMMARY: dict[str, Any] = {
    "result_name": "n",
    "run_id": "r",
    "benchmark_name": "aime",
    "model_id": "m",
    "source": "s",
    "timestamp": "2024-01-01T00:00:00Z",
    "received_at": "2024-01-01T00:00:01Z",
    "questions": 0,
    "summary": {"accuracy": 0.5},
    "bytes": 2,
    "sha256": "0",
    "state": "valid",
}
ANSWER: dict[str, Any] = {
    "benchmark": "aime",
    "group_by": ["model", "year"],
    "rows": [],
    "total_rows": 0,
    "truncated": False,
    "runs": [],
    "warnings": [],
    "data_version": "v",
}
Ask = Callable[..., Any]


@pytest.fixture(params=["blocking", "async"])
def ask(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Calls a method of either client by its name; both must pass every test here."""
    for name in ("SCOREHOUSE_API_KEY", "SCOREHOUSE_RESULTS_URL", "SCOREHOUSE_ANALYSIS_URL"):
        monkeypatch.delenv(name, raising=False)

    def blocking(method: str, *arguments: Any, api_key: str | None = None, **options: Any) -> Any:
        with Scorehouse(RESULTS, ANALYSIS, api_key, retries=AT_ONCE) as house:
            answer = getattr(house, method)(*arguments, **options)
            return list(answer) if method == "list_results" else answer

    async def awaited(method: str, *arguments: Any, api_key: str | None = None, **options: Any) -> Any:
        async with AsyncScorehouse(RESULTS, ANALYSIS, api_key, retries=AT_ONCE) as house:
            answer = getattr(house, method)(*arguments, **options)
            return [item async for item in answer] if method == "list_results" else await answer

    if request.param == "blocking":
        return blocking
    return lambda method, *arguments, **options: asyncio.run(awaited(method, *arguments, **options))


@respx.mock
def test_a_document_is_sent_as_its_own_bytes(ask: Ask) -> None:
    route = respx.post(f"{RESULTS}/standardized_output").respond(201, json=STORED)
    body = b'{"run_id" : "r", "n": 1.0, "big": 123456789012345678901234567890}'
    answer = ask("push_standardized", body)
    assert route.calls.last.request.content == body
    assert route.calls.last.request.headers["content-type"] == "application/json"
    assert "authorization" not in route.calls.last.request.headers
    assert (answer.status, answer.unchanged) == (StoreStatus.CREATED, False)


@respx.mock
def test_raw_input_has_its_own_path(ask: Ask) -> None:
    route = respx.post(f"{RESULTS}/raw_input").respond(200, json={**STORED, "status": "unchanged", "unchanged": True})
    assert ask("push_raw", b"{}").unchanged
    assert route.called


@respx.mock
def test_the_key_comes_from_the_environment_or_by_hand(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    route = respx.post(f"{RESULTS}/raw_input").respond(201, json=STORED)
    monkeypatch.setenv("SCOREHOUSE_API_KEY", "from-environment")
    ask("push_raw", b"{}")
    assert route.calls.last.request.headers["authorization"] == "Bearer from-environment"
    ask("push_raw", b"{}", api_key="by-hand")
    assert route.calls.last.request.headers["authorization"] == "Bearer by-hand"


@respx.mock
def test_addresses_come_from_the_environment_without_their_last_slash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCOREHOUSE_RESULTS_URL", "https://house.test/results/")
    monkeypatch.setenv("SCOREHOUSE_ANALYSIS_URL", "https://house.test/analysis")
    respx.post("https://house.test/results/raw_input").respond(201, json=STORED)
    respx.post("https://house.test/analysis/analysis").respond(200, json=ANSWER)
    with Scorehouse() as house:
        house.push_raw(b"{}")
        house.analyze(AnalysisRequest(benchmark="aime", level1="year"))


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://h", "http://", "8000"])
def test_an_address_that_is_none_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(ScorehouseError, match="is not an address"):
        Scorehouse(url)


@pytest.mark.parametrize("key", ["sec ret", "sec\nret", "secrét", "sec\x7fret"])
def test_a_key_that_is_none_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("SCOREHOUSE_API_KEY", key)
    with pytest.raises(ScorehouseError, match="SCOREHOUSE_API_KEY") as caught:
        Scorehouse(RESULTS)
    assert "sec" not in str(caught.value)


@respx.mock
def test_what_is_around_a_key_is_left_out(ask: Ask) -> None:
    """A key read from a file comes with its line's end."""
    route = respx.post(f"{RESULTS}/raw_input").respond(201, json=STORED)
    ask("push_raw", b"{}", api_key=" secret\r\n")
    assert route.calls.last.request.headers["authorization"] == "Bearer secret"


@respx.mock
def test_a_password_in_an_address_is_not_shown() -> None:
    respx.post("http://results.test/raw_input").respond(404, text="<html>")
    respx.get("http://results.test/health").mock(side_effect=httpx.ConnectError("refused"))
    with Scorehouse("http://me:secret@results.test", retries=AT_ONCE) as house:
        with pytest.raises(ScorehouseError, match=r"http://results.test/raw_input answered") as caught:
            house.push_raw(b"{}")
        assert "secret" not in str(caught.value)
        with pytest.raises(UnreachableError, match=r"at http://results.test") as caught:
            house.results_health()
        assert "secret" not in str(caught.value)


@respx.mock
def test_a_problem_is_raised_with_its_document(ask: Ask) -> None:
    problem = InvalidRequest("the detail", faults=[Fault(place="data.questions[3].score", detail="is 7")])
    respx.post(f"{RESULTS}/raw_input").respond(422, json=problem.document("id-1").model_dump())
    with pytest.raises(ScorehouseError, match="the detail") as caught:
        ask("push_raw", b"{}")
    assert caught.value.status == 422
    assert caught.value.problem is not None
    assert caught.value.problem.request_id == "id-1"
    assert caught.value.problem.faults == problem.faults


@respx.mock
def test_a_missing_key_is_told_with_the_next_step(ask: Ask) -> None:
    problem = {"type": "t", "title": "A valid API key is needed", "status": 401, "detail": "send it"}
    respx.post(f"{RESULTS}/raw_input").respond(401, json=problem)
    with pytest.raises(ScorehouseError, match="SCOREHOUSE_API_KEY"):
        ask("push_raw", b"{}")
    with pytest.raises(ScorehouseError) as caught:
        ask("push_raw", b"{}", api_key="wrong")
    assert "SCOREHOUSE_API_KEY" not in str(caught.value)


@respx.mock
@pytest.mark.parametrize(("status", "body"), [(404, "<html>nginx</html>"), (200, "<html>hello</html>"), (200, "{}")])
def test_an_answer_that_is_not_ours_names_address_and_setting(ask: Ask, status: int, body: str) -> None:
    respx.post(f"{RESULTS}/raw_input").respond(status, text=body)
    with pytest.raises(ScorehouseError, match=f"{RESULTS}/raw_input answered {status}.*SCOREHOUSE_RESULTS_URL"):
        ask("push_raw", b"{}")


@respx.mock
def test_nobody_there_is_told_at_once_with_the_next_step(ask: Ask) -> None:
    route = respx.post(f"{ANALYSIS}/analysis").mock(side_effect=httpx.ConnectError("Connection refused"))
    with pytest.raises(UnreachableError, match=r"analysis service.*scorehouse up.*SCOREHOUSE_ANALYSIS_URL"):
        ask("analyze", AnalysisRequest(benchmark="aime", level1="year"))
    assert route.call_count == 1


@respx.mock
@pytest.mark.parametrize("status", [429, 502, 503])
def test_a_busy_service_is_asked_again(ask: Ask, status: int) -> None:
    busy = httpx.Response(status, headers={"Retry-After": "0"}, json=StoreUnavailable("away").document().model_dump())
    route = respx.post(f"{RESULTS}/raw_input").mock(side_effect=[busy, busy, httpx.Response(201, json=STORED)])
    assert ask("push_raw", b"{}").result_name == "n"
    assert route.call_count == 3


@respx.mock
def test_it_gives_up_after_as_many_attempts_as_were_set(ask: Ask) -> None:
    busy = httpx.Response(503, headers={"Retry-After": "0"}, json=StoreUnavailable("away").document().model_dump())
    route = respx.post(f"{RESULTS}/raw_input").mock(return_value=busy)
    with pytest.raises(ScorehouseError, match="away") as caught:
        ask("push_raw", b"{}")
    assert (caught.value.status, route.call_count) == (503, AT_ONCE.attempts)


@respx.mock
def test_a_connection_lost_after_an_answer_is_tried_again(ask: Ask) -> None:
    busy = httpx.Response(503, headers={"Retry-After": "0"})
    lost = httpx.RemoteProtocolError("Server disconnected")
    route = respx.post(f"{RESULTS}/raw_input").mock(side_effect=[busy, lost, httpx.Response(201, json=STORED)])
    assert ask("push_raw", b"{}").result_name == "n"
    assert route.call_count == 3


@respx.mock
def test_health_is_read_also_from_a_503_and_asked_once(ask: Ask) -> None:
    health = {
        "status": "unavailable",
        "store": {"engine": "mongodb", "reachable": False},
        "feed_head": None,
        "version": "1",
    }
    route = respx.get(f"{RESULTS}/health").respond(503, json=health)
    assert not ask("results_health").store.reachable
    assert route.call_count == 1


@respx.mock
def test_a_list_goes_on_from_page_to_page(ask: Ask) -> None:
    pages = [
        {"items": [{**SUMMARY, "result_name": name} for name in names], "next_cursor": cursor}
        for names, cursor in (("ab", "c+/="), ("d", None))
    ]
    route = respx.get(f"{RESULTS}/standardized_output").mock(
        side_effect=[httpx.Response(200, json=page) for page in pages]
    )
    assert [found.result_name for found in ask("list_results", model_id="phi 4")] == ["a", "b", "d"]
    assert dict(route.calls.last.request.url.params) == {"model_id": "phi 4", "cursor": "c+/="}


@respx.mock
def test_a_result_name_is_one_path_segment_and_its_bytes_come_back(ask: Ask) -> None:
    data = b'{"a" : 1.0, "deep": ' + b"[" * 199 + b"]" * 199 + b', "big": 123456789012345678901234567890}'
    body = json.dumps(SUMMARY).encode()[:-1] + b', "data":' + data + b"}"
    route = respx.get(url__startswith=f"{RESULTS}/raw_input/").respond(200, content=body)
    got = ask("get_result", "2024-01-01T00:00:00Z-aime-a b?ü%2F", ResultKind.RAW)
    assert got.data == data
    assert got.summary.summary == {"accuracy": 0.5}
    assert route.calls.last.request.url.raw_path == b"/raw_input/2024-01-01T00%3A00%3A00Z-aime-a%20b%3F%C3%BC%252F"


@respx.mock
def test_only_what_was_asked_for_is_sent(ask: Ask) -> None:
    route = respx.post(f"{ANALYSIS}/analysis").respond(200, json=ANSWER)
    ask("analyze", AnalysisRequest(benchmark="aime", level1="year", filters={"year": [2024]}))
    assert route.calls.last.request.content == b'{"benchmark":"aime","level1":"year","filters":{"year":[2024]}}'


@pytest.mark.parametrize(
    ("attempt", "retry_after", "wait_s"),
    [
        (1, None, 0.5),
        (3, None, 2),
        (1, "7", 7),
        (1, "3600", 30),
        (1, "Wed, 21 Oct 2026 07:28:00 GMT", 0.5),
        (5, "1", None),
    ],
)
def test_waits_between_attempts(attempt: int, retry_after: str | None, wait_s: float | None) -> None:
    assert Retries().wait_s(attempt, retry_after) == wait_s


@pytest.mark.parametrize(
    ("variable", "value"),
    [("ALL_PROXY", "socks5://127.0.0.1:9"), ("HTTPS_PROXY", "ftp://h"), ("SSL_CERT_FILE", "/absent.pem")],
)
@pytest.mark.parametrize("client", [Scorehouse, AsyncScorehouse])
def test_settings_of_the_environment_that_cannot_be_used_are_told(
    monkeypatch: pytest.MonkeyPatch, client: type[Scorehouse] | type[AsyncScorehouse], variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ScorehouseError, match=variable):
        client(RESULTS)


def test_this_machine_is_never_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port where nobody listens must be told as that, not as a proxy's trouble."""
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:3128")
    monkeypatch.setenv("ALL_PROXY", "http://proxy.invalid:3128")
    with (
        Scorehouse("http://127.0.0.1:9", retries=AT_ONCE) as house,
        pytest.raises(UnreachableError, match="refused"),
    ):
        house.results_health()
