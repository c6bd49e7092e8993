"""The clients: what they send, how a problem comes back, when they try again."""

import asyncio
import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx

from scorehouse import AsyncScorehouse, FilePart, Retries, Scorehouse, ScorehouseError, UnreachableError
from scorehouse.batches import ALONE_BYTES, BATCH_BYTES, BATCH_LINES, LINE_BYTES
from scorehouse.retries import Patience, retry_after_s
from shared.analysis import AnalysisRequest
from shared.problems import (
    Fault,
    InvalidRequest,
    MethodNotAllowed,
    NotAuthorized,
    NotFound,
    Problem,
    ResultConflict,
    StoreUnavailable,
    TimeLimit,
    TooLarge,
    TooManyRequests,
    UnsupportedMedia,
)
from shared.results import BatchLine, ResultKind, StoredAnswer, StoreStatus
from shared.submission import Envelope
from tests.results_double import ResultsDouble, batch_line, batch_lines, problem_answer, stored

RESULTS = "http://results.test"
ANALYSIS = "http://analysis.test"
AT_ONCE = Retries(patience_s=0.2, first_wait_s=0.001)
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
SERIES = ("list_results", "push_batch")


@pytest.fixture(params=["blocking", "async"])
def ask(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Calls a method of either client by its name; both must pass every test here."""
    for name in ("SCOREHOUSE_API_KEY", "SCOREHOUSE_RESULTS_URL", "SCOREHOUSE_ANALYSIS_URL"):
        monkeypatch.delenv(name, raising=False)

    def blocking(method: str, *arguments: Any, api_key: str | None = None, **options: Any) -> Any:
        with Scorehouse(RESULTS, ANALYSIS, api_key, retries=AT_ONCE) as house:
            answer = getattr(house, method)(*arguments, **options)
            return list(answer) if method in SERIES else answer

    async def awaited(method: str, *arguments: Any, api_key: str | None = None, **options: Any) -> Any:
        async with AsyncScorehouse(RESULTS, ANALYSIS, api_key, retries=AT_ONCE) as house:
            answer = getattr(house, method)(*arguments, **options)
            return [item async for item in answer] if method in SERIES else await answer

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


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://h", "http://", "8000", "http://h:99999", "http://h/?a=1", "http://h/#a"]
)
def test_an_address_that_is_none_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(ScorehouseError, match="is not an address"):
        Scorehouse(url)


def test_a_password_in_what_is_no_address_is_not_shown() -> None:
    with pytest.raises(ScorehouseError, match="is not an address") as caught:
        Scorehouse("http://ada:secret@h:99999")
    assert "secret" not in str(caught.value)


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
@pytest.mark.parametrize("method", ["push_raw", "push_batch"])
def test_an_answer_that_cannot_be_unpacked_is_one_that_broke(ask: Ask, method: str) -> None:
    def damaged(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(b"no gzip"))

    respx.post(url__startswith=RESULTS).mock(side_effect=damaged)
    with pytest.raises(UnreachableError, match="broke") as caught:
        ask(method, *((b"{}",) if method == "push_raw" else (ResultKind.RAW, [b"{}", b"[]"])))
    assert not caught.value.is_lasting


@respx.mock
def test_another_service_is_told_from_a_result_that_is_not_there(ask: Ask) -> None:
    problem = problem_answer(NotFound("nothing is there"))
    respx.post(f"{RESULTS}/raw_input").mock(return_value=problem)
    respx.get(f"{RESULTS}/standardized_output/n").mock(return_value=problem)
    with pytest.raises(ScorehouseError, match=r"results service at another address.*SCOREHOUSE_RESULTS_URL"):
        ask("push_raw", b"{}")
    with pytest.raises(ScorehouseError, match=r"nothing is there$"):
        ask("get_result", "n")


@pytest.mark.parametrize("name", ["", ".", "..", "\ud800"])
def test_a_name_that_would_lead_elsewhere_is_not_sent(ask: Ask, name: str) -> None:
    with respx.mock, pytest.raises(ScorehouseError, match="no result is called"):
        ask("get_result", name)


@respx.mock
def test_a_proxy_that_is_busy_is_not_taken_for_a_wrong_address(ask: Ask) -> None:
    respx.post(f"{RESULTS}/raw_input").respond(503, headers={"Retry-After": "3600"}, text="<html>nginx</html>")
    with pytest.raises(ScorehouseError, match=r"503.*busy or away; try again in 3600 s") as caught:
        ask("push_raw", b"{}")
    assert not caught.value.is_lasting


@respx.mock
def test_nobody_there_is_told_at_once_with_the_next_step(ask: Ask) -> None:
    route = respx.post(f"{ANALYSIS}/analysis").mock(side_effect=httpx.ConnectError("Connection refused"))
    with pytest.raises(UnreachableError, match=r"analysis service.*scorehouse up.*SCOREHOUSE_ANALYSIS_URL"):
        ask("analyze", AnalysisRequest(benchmark="aime", level1="year"))
    assert route.call_count == 1


@respx.mock
@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_a_busy_service_is_asked_again(ask: Ask, status: int) -> None:
    busy = httpx.Response(status, headers={"Retry-After": "0"}, json=StoreUnavailable("away").document().model_dump())
    route = respx.post(f"{RESULTS}/raw_input").mock(side_effect=[busy, busy, httpx.Response(201, json=STORED)])
    assert ask("push_raw", b"{}").result_name == "n"
    assert route.call_count == 3


@respx.mock
def test_it_gives_up_when_its_patience_is_at_an_end(ask: Ask) -> None:
    away = problem_answer(StoreUnavailable("away", retry_after_s=0))
    route = respx.post(f"{RESULTS}/raw_input").mock(return_value=away)
    with pytest.raises(ScorehouseError, match="away") as caught:
        ask("push_raw", b"{}")
    assert caught.value.status == 503
    assert route.call_count > 2


@respx.mock
def test_a_retry_after_beyond_its_patience_ends_it_at_once(ask: Ask) -> None:
    route = respx.post(f"{RESULTS}/raw_input").mock(return_value=problem_answer(TooManyRequests("x", retry_after_s=9)))
    with pytest.raises(ScorehouseError, match="Too many requests"):
        ask("push_raw", b"{}")
    assert route.call_count == 1


@respx.mock
@pytest.mark.parametrize("problem", [InvalidRequest("x"), ResultConflict("x"), NotAuthorized("x"), TooLarge("x")])
def test_a_refusal_is_not_sent_again(ask: Ask, problem: Problem) -> None:
    route = respx.post(f"{RESULTS}/raw_input").mock(return_value=problem_answer(problem))
    with pytest.raises(ScorehouseError, match="x"):
        ask("push_raw", b"{}")
    assert route.call_count == 1


@respx.mock
def test_a_query_that_ran_into_its_time_limit_is_not_sent_again(ask: Ask) -> None:
    route = respx.post(f"{ANALYSIS}/analysis").mock(return_value=problem_answer(TimeLimit("x")))
    with pytest.raises(ScorehouseError, match="too long"):
        ask("analyze", AnalysisRequest(benchmark="aime", level1="year"))
    assert route.call_count == 1


@respx.mock
@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), httpx.ReadTimeout(""), httpx.ReadError("reset")])
def test_what_is_written_waits_for_a_service_that_never_answered(ask: Ask, error: Exception) -> None:
    """A runner starts while the service restarts: it must not lose its first result."""
    route = respx.post(f"{RESULTS}/raw_input").mock(side_effect=[error, error, httpx.Response(201, json=STORED)])
    assert ask("push_raw", b"{}").result_name == "n"
    assert route.call_count == 3


@respx.mock
@pytest.mark.parametrize(
    "error", [httpx.UnsupportedProtocol("x"), httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED]")]
)
def test_what_fails_every_time_is_told_at_once(ask: Ask, error: Exception) -> None:
    route = respx.post(f"{RESULTS}/raw_input").mock(side_effect=error)
    with pytest.raises(UnreachableError):
        ask("push_raw", b"{}")
    assert route.call_count == 1


@respx.mock
def test_waiting_is_told() -> None:
    away = problem_answer(StoreUnavailable("away", retry_after_s=0))
    respx.post(f"{RESULTS}/raw_input").mock(side_effect=[away, httpx.Response(201, json=STORED)])
    told: list[str] = []
    with Scorehouse(RESULTS, retries=AT_ONCE, on_wait=lambda failure, _: told.append(str(failure))) as house:
        house.push_raw(b"{}")
    assert told == ["The store is not available: away"]


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


class Clock:
    """A clock that moves when it is told, and draws that are as long as they may be."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("scorehouse.retries.monotonic", lambda: self.now)
        monkeypatch.setattr("scorehouse.retries.random.uniform", lambda _, longest: longest)

    def wait_out(self, patience: Patience, retry_after: str | None = None) -> float | None:
        """The next wait, which then is over."""
        wait_s = patience.wait_s(retry_after)
        self.now += wait_s or 0
        return wait_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_waits_grow_to_their_longest_and_fill_the_patience(clock: Clock) -> None:
    patience = Patience(Retries(patience_s=10, first_wait_s=0.5, longest_wait_s=3))
    assert [clock.wait_out(patience) for _ in range(7)] == [0.5, 1, 2, 3, 3, 0.5, None]


def test_an_answer_begins_a_new_row_of_failures(clock: Clock) -> None:
    patience = Patience(Retries(patience_s=1, first_wait_s=1))
    assert [clock.wait_out(patience), clock.wait_out(patience)] == [1, None]
    patience.start_again()
    assert clock.wait_out(patience) == 1


def test_a_request_that_took_long_to_fail_has_its_patience_yet(clock: Clock) -> None:
    patience = Patience(Retries(patience_s=1, first_wait_s=1))
    clock.now += 120
    assert clock.wait_out(patience) == 1


def test_no_patience_is_one_try() -> None:
    assert Patience(Retries(patience_s=0)).wait_s() is None


def test_retry_after_is_the_least_wait(clock: Clock) -> None:
    patience = Patience(Retries(first_wait_s=0.5))
    assert clock.wait_out(patience, "7") == 7.5
    assert clock.wait_out(patience, "61") is None


def test_waits_are_spread() -> None:
    waits = [Patience(Retries(first_wait_s=1)).wait_s() or 0 for _ in range(200)]
    assert all(0 <= wait <= 1 for wait in waits)
    assert min(waits) < 0.2
    assert max(waits) > 0.8


@pytest.mark.parametrize("header", [None, "", "soon", "-1", "1.5", "1e9", "²", "Wed, 21 Oct 2015 07:28:00 GMT", "Mon,"])
def test_a_retry_after_that_asks_for_nothing(header: str | None) -> None:
    assert retry_after_s(header) == 0


@pytest.mark.parametrize("zone", ["GMT", "-0000"])
def test_a_retry_after_may_be_a_date(zone: str) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True).replace("GMT", zone)
    assert 28 < retry_after_s(date) <= 30


# ------------------------------------------------------------------------------------------------------- batches


def documents(number: int, *, size: int = 10) -> list[bytes]:
    return [b'{"n": %d, "x": "%b"}' % (index, b"x" * size) for index in range(number)]


def outcomes(lines: list[BatchLine]) -> list[tuple[int, str]]:
    return [(line.line, line.status.value) for line in lines]


@pytest.fixture
def service() -> ResultsDouble:
    return ResultsDouble(RESULTS)


@respx.mock
def test_small_documents_share_a_compressed_request(ask: Ask, service: ResultsDouble) -> None:
    service.listen()
    lines = ask("push_batch", ResultKind.STANDARDIZED, iter(documents(40)))
    assert service.requests == [documents(40)]
    assert service.encodings == ["zstd"]
    assert outcomes(lines) == [(number, "created") for number in range(1, 41)]
    assert [line.questions for line in lines] == [10] * 40
    assert respx.calls.last.request.headers["content-type"] == "application/x-ndjson"


@respx.mock
def test_batches_are_bounded_in_lines_and_bytes(ask: Ask, service: ResultsDouble) -> None:
    service.listen()
    sent = documents(BATCH_LINES + 1) + documents(9, size=ALONE_BYTES // 2)
    assert len(ask("push_batch", ResultKind.STANDARDIZED, sent)) == len(sent)
    assert service.documents == sent
    assert max(len(request) for request in service.requests) == BATCH_LINES
    assert max(sum(map(len, request)) for request in service.requests) <= BATCH_BYTES


@respx.mock
def test_what_does_not_fit_a_line_goes_alone_byte_for_byte(ask: Ask, service: ResultsDouble, tmp_path: Path) -> None:
    """A pretty-printed document keeps its line breaks: the bytes of `data` are kept for ever."""
    service.listen()
    file = tmp_path / "big.json"
    file.write_bytes(b" " + b"0123456789" * 20_000 + b"rest")
    pretty, large, blank = b'{\n  "n": 1\n}', documents(1, size=ALONE_BYTES)[0], b" "
    sent = [b"{}", b"{}", pretty, large, FilePart(file, 1, 200_000), blank, b'{"last": 1}']
    lines = ask("push_batch", ResultKind.STANDARDIZED, sent)
    assert outcomes(lines) == [(number, "created") for number in range(1, 8)]
    alone = [b"0123456789" * 20_000, blank, b'{"last": 1}']
    assert service.requests == [[b"{}", b"{}"], [pretty], [large], *([document] for document in alone)]


@respx.mock
def test_a_large_document_is_streamed_and_streamed_again(ask: Ask, service: ResultsDouble, tmp_path: Path) -> None:
    service.listen()
    service.away = [httpx.ReadError("reset")]
    file = tmp_path / "big.json.gz"
    file.write_bytes(gzip.compress(b"  " + b"0123456789" * 20_000))
    ask("push_standardized", FilePart(file, 2))
    assert service.documents == [b"0123456789" * 20_000] * 2
    file.write_bytes(gzip.compress(b"short"))
    with pytest.raises(OSError, match="became shorter"):
        ask("push_standardized", FilePart(file, 2, 10))


@respx.mock
def test_each_line_tells_of_its_document(ask: Ask, service: ResultsDouble) -> None:
    def judge(document: bytes) -> StoredAnswer | Problem:
        match json.loads(document)["n"]:
            case 1:
                return InvalidRequest("bad")
            case 2:
                return ResultConflict("other")
            case _:
                return stored(unchanged=True)

    service.judge = judge
    service.listen()
    lines = ask("push_batch", ResultKind.STANDARDIZED, documents(4))
    assert outcomes(lines) == [(1, "unchanged"), (2, "refused"), (3, "conflict"), (4, "unchanged")]
    assert [line.problem.status for line in lines if line.problem] == [422, 409]


@respx.mock
@pytest.mark.parametrize("broken", [httpx.ReadError("reset"), None])
def test_only_what_is_unanswered_is_sent_again(ask: Ask, broken: Exception | None) -> None:
    """The connection breaks in the middle of a line, or the answer just ends; then the store goes away for a while."""

    class Answer(httpx.SyncByteStream, httpx.AsyncByteStream):
        def __iter__(self) -> Any:
            yield batch_line(1, stored()) + batch_line(2, InvalidRequest("bad"))[:30]
            yield batch_line(2, InvalidRequest("bad"))[30:] + batch_line(3, stored())[:9]
            if broken:
                raise broken

        async def __aiter__(self) -> Any:
            for block in self:
                yield block

    away = StoreUnavailable("away", retry_after_s=0)
    failed = batch_line(1, stored()) + batch_line(2, away) + batch_line(3, away)
    sent: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        lines = batch_lines(request)
        sent.append(len(lines))
        if len(sent) == 1:
            return httpx.Response(200, stream=Answer())
        if len(sent) == 2:
            return httpx.Response(200, content=failed)
        return httpx.Response(200, content=batch_line(1, stored()) + batch_line(2, stored(unchanged=True)))

    respx.post(f"{RESULTS}/standardized_output/batch").mock(side_effect=answer)
    lines = ask("push_batch", ResultKind.STANDARDIZED, documents(5))
    assert outcomes(lines) == [(1, "created"), (2, "refused"), (3, "created"), (4, "created"), (5, "unchanged")]
    assert sent == [5, 3, 2]


@respx.mock
def test_a_batch_that_gets_on_is_not_given_up(ask: Ask, clock: "Clock") -> None:
    """A service that falls over again and again, but stores something each time."""
    away = StoreUnavailable("away", retry_after_s=0)

    def answer(request: httpx.Request) -> httpx.Response:
        clock.now += AT_ONCE.patience_s * 0.7
        rest = b"".join(batch_line(number, away) for number in range(2, len(batch_lines(request)) + 1))
        return httpx.Response(200, content=batch_line(1, stored()) + rest)

    route = respx.post(f"{RESULTS}/standardized_output/batch").mock(side_effect=answer)
    assert len(ask("push_batch", ResultKind.STANDARDIZED, documents(6))) == 6
    assert route.call_count == 6


@respx.mock
def test_a_batch_gives_up_when_there_is_no_progress(ask: Ask, service: ResultsDouble) -> None:
    service.judge = lambda _: StoreUnavailable("the store is away", retry_after_s=0)
    service.listen()
    with pytest.raises(ScorehouseError, match="the store is away"):
        ask("push_batch", ResultKind.STANDARDIZED, documents(2))
    assert len(service.requests) > 2


@respx.mock
def test_a_service_that_reads_no_zstd_is_sent_plain_from_then_on(ask: Ask, service: ResultsDouble) -> None:
    service.listen()
    service.away = [problem_answer(UnsupportedMedia("no"))]
    assert len(ask("push_batch", ResultKind.STANDARDIZED, documents(BATCH_LINES + 2))) == BATCH_LINES + 2
    assert service.encodings == ["zstd", None, None]


@respx.mock
@pytest.mark.parametrize("problem", [TooLarge("x"), MethodNotAllowed("x")])
def test_a_service_that_takes_no_such_batch_gets_its_documents_one_by_one(
    ask: Ask, service: ResultsDouble, problem: Problem
) -> None:
    service.listen()
    respx.post(f"{RESULTS}/standardized_output/batch").mock(return_value=problem_answer(problem))
    assert len(ask("push_batch", ResultKind.STANDARDIZED, documents(3))) == 3
    assert service.requests == [[document] for document in documents(3)]


@respx.mock
def test_lines_beyond_what_a_batch_may_have_go_by_themselves(ask: Ask, service: ResultsDouble) -> None:
    service.listen()
    content = batch_line(1, stored()) + batch_line(2, TooLarge("at most 1 line"))
    respx.post(f"{RESULTS}/standardized_output/batch").respond(200, content=content)
    lines = ask("push_batch", ResultKind.STANDARDIZED, documents(3))
    assert outcomes(lines) == [(1, "created"), (2, "created"), (3, "created")]
    assert service.requests == [[document] for document in documents(3)[1:]]


@respx.mock
def test_a_batch_that_the_key_does_not_allow_is_not_tried_otherwise(ask: Ask, service: ResultsDouble) -> None:
    service.listen()
    service.away = [problem_answer(NotAuthorized("no"))]
    with pytest.raises(ScorehouseError, match="no") as caught:
        ask("push_batch", ResultKind.STANDARDIZED, documents(3))
    assert caught.value.status == 403
    assert len(service.requests) == 1


@respx.mock
@pytest.mark.parametrize(
    "answer",
    [
        b"<html>\n",
        b'{"line": 9, "status": "created"}\n',
        b'{"line": 0, "status": "created"}\n',
        b'{"line": 1}\n',
        b"x" * (LINE_BYTES + 1),
    ],
)
def test_a_batch_answer_that_is_not_ours_is_told(ask: Ask, answer: bytes) -> None:
    respx.post(f"{RESULTS}/standardized_output/batch").respond(200, content=answer)
    with pytest.raises(ScorehouseError, match="SCOREHOUSE_RESULTS_URL"):
        ask("push_batch", ResultKind.STANDARDIZED, documents(2))


@respx.mock
def test_a_page_to_sign_in_is_no_batch_answer_that_ended_early(ask: Ask) -> None:
    route = respx.post(f"{RESULTS}/standardized_output/batch").respond(200, html="sign in")
    with pytest.raises(ScorehouseError, match="SCOREHOUSE_RESULTS_URL"):
        ask("push_batch", ResultKind.STANDARDIZED, documents(2))
    assert route.call_count == 1


@respx.mock
def test_a_service_that_fails_over_one_document_goes_on_with_the_next(ask: Ask, service: ResultsDouble) -> None:
    service.judge = lambda document: Problem("bug") if b"\n" in document else stored()
    service.listen()
    lines = ask("push_batch", ResultKind.STANDARDIZED, [b"{\n}", b"{}"])
    assert outcomes(lines) == [(1, "failed"), (2, "created")]


# --------------------------------------------------------------------------------- live runs and corrections


LIVE = {
    **{key: SUMMARY[key] for key in ("result_name", "run_id", "benchmark_name", "model_id", "source", "timestamp")},
    "state": "live",
    "abandoned": False,
    "owner": None,
    "opened_at": "t",
    "parts": 0,
    "questions": 0,
    "bytes": 0,
}
NAME = "2024-01-01T00:00:00Z-aime-a b"
PATH = "2024-01-01T00%3A00%3A00Z-aime-a%20b"
CORRECTED = {**SUMMARY, "state": "invalidated", "history": [], "unchanged": False}
SIGNED = '{"author":"ada","reason":"wrong key"}'
PART = {**STORED, "part": 3}


@respx.mock
@pytest.mark.parametrize(
    ("method", "arguments", "path", "body", "answer"),
    [
        ("push_part", (3, b"[1]"), f"/live_runs/{PATH}/parts/3", '{"questions":[1]}', PART),
        ("finish_live_run", (), f"/live_runs/{PATH}/finish", "{}", LIVE),
        ("finish_live_run", (4,), f"/live_runs/{PATH}/finish", '{"parts":4}', LIVE),
        ("discard_live_run", ("ada", "wrong key"), f"/live_runs/{PATH}/discard", SIGNED, LIVE),
        ("invalidate", ("ada", "wrong key"), f"/standardized_output/{PATH}/invalidation", SIGNED, CORRECTED),
        ("restore", ("ada", "wrong key", ResultKind.RAW), f"/raw_input/{PATH}/restoration", SIGNED, CORRECTED),
    ],
)
def test_writes_that_name_a_run_are_sent_again_as_they_are(
    ask: Ask, method: str, arguments: tuple[Any, ...], path: str, body: str, answer: dict[str, Any]
) -> None:
    lost = httpx.RemoteProtocolError("Server disconnected")
    route = respx.post(url__startswith=RESULTS).mock(side_effect=[lost, httpx.Response(200, json=answer)])
    assert ask(method, NAME, *arguments).result_name == "n"
    assert [call.request.url.raw_path.decode() for call in route.calls] == [path] * 2
    assert [call.request.content.decode() for call in route.calls] == [body] * 2


@respx.mock
def test_a_live_run_is_opened_with_an_envelope(ask: Ask) -> None:
    route = respx.post(f"{RESULTS}/live_runs").respond(201, json={**LIVE, "unchanged": False, "warnings": []})
    envelope = Envelope(run_id="r", benchmark_name="aime", timestamp="2024-01-01T00:00:00Z", model_id="m", source="s")
    assert ask("open_live_run", envelope).result_name == "n"
    assert json.loads(route.calls.last.request.content) == envelope.model_dump(exclude_none=True)


@respx.mock
def test_a_correction_without_an_author_is_refused_before_it_is_sent(ask: Ask) -> None:
    with pytest.raises(ScorehouseError, match="author: must not be blank"):
        ask("invalidate", "n", "", "why")


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
