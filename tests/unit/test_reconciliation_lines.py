"""A comparison of the stores as lines: made by a service, read by the client."""

from collections.abc import AsyncGenerator

import httpx
import pytest
from fastapi.responses import StreamingResponse

from scorehouse.calls import ScorehouseError, Service, reconcile
from scorehouse.reconciliation_lines import ReconciliationLines
from shared.json_lines import in_lines
from shared.problems import StoreUnavailable
from shared.reconciliation import FIRST_MAX, Reason, ReconciliationLine, Tally

TALLY = Tally({"lost": Reason("it is lost", "look for it"), "odd": Reason("it is odd", "do nothing")})
CALL = reconcile(Service.ANALYSIS, repair=True, sums=True)
ANSWER = httpx.Response(200, request=httpx.Request("POST", "http://analysis/reconciliation"))


async def lines(*, fails_after: int | None = None) -> AsyncGenerator[ReconciliationLine, None]:
    for done in range(3):
        if done == fails_after:
            raise StoreUnavailable("the store is away")
        yield TALLY.progress("feed", done, 3)
    yield TALLY.report()


async def sent(response: StreamingResponse) -> bytes:
    return b"".join([bytes(block) async for block in response.body_iterator])  # type: ignore[arg-type]


async def test_lines_come_as_they_were_made() -> None:
    body = await sent(await in_lines(lines()))
    reader = ReconciliationLines(CALL, ANSWER)
    read = [line for position in range(0, len(body), 7) for line in reader.take(body[position : position + 7])]
    reader.end()
    assert read == [line async for line in lines()]


async def test_a_problem_before_the_first_line_is_the_answer() -> None:
    with pytest.raises(StoreUnavailable):
        await in_lines(lines(fails_after=0))


async def test_a_later_problem_is_the_last_line() -> None:
    body = await sent(await in_lines(lines(fails_after=2)))
    reader = ReconciliationLines(CALL, ANSWER)
    with pytest.raises(ScorehouseError, match="the store is away") as caught:
        reader.take(body)
    assert caught.value.status == 503


@pytest.mark.parametrize("body", [b"", b'{"phase": "feed", "done": 1, "total": 3}\n', b'{"phase": "done", "rep'])
def test_an_answer_that_breaks_off_is_told(body: bytes) -> None:
    reader = ReconciliationLines(CALL, ANSWER)
    reader.take(body)
    with pytest.raises(ScorehouseError, match="analysis service broke off"):
        reader.end()


def test_what_is_no_comparison_is_told() -> None:
    with pytest.raises(ScorehouseError, match="but not as Scorehouse's analysis service does"):
        ReconciliationLines(CALL, ANSWER).take(b"<html>\n")


def test_names_may_hold_what_python_calls_a_line_end() -> None:
    tally = Tally({"lost": Reason("", "")})
    tally.add("lost", "a\u2028b\x85c", "", repaired=False)
    body = tally.report().model_dump_json().encode() + b"\n"
    [line] = ReconciliationLines(CALL, ANSWER).take(body)
    assert line.report is not None
    assert line.report.first[0].result_name == "a\u2028b\x85c"


def test_a_tally_counts_all_and_keeps_the_first() -> None:
    tally = Tally({"lost": Reason("it is lost", "look for it"), "odd": Reason("it is odd", "do nothing")})
    for number in range(FIRST_MAX + 50):
        tally.add("lost", f"r{number}", "", repaired=number % 2 == 0)
    tally.add("odd", "entries 5 to 9", "", repaired=True, times=5)
    report = tally.report().report
    assert report is not None
    assert [(found.reason, found.found, found.repaired) for found in report.findings] == [
        ("lost", 150, 75),
        ("odd", 5, 5),
    ]
    assert (report.differences, report.repaired, report.remaining) == (155, 80, 75)
    assert [difference.result_name for difference in report.first] == [f"r{number}" for number in range(FIRST_MAX)]
