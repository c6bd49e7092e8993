"""Downloads by either client: what breaks off goes on, what is not the stored file is not kept."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
import respx

from scorehouse import AsyncScorehouse, Retries, Scorehouse, ScorehouseError, UnreachableError
from shared.problems import NotFound, StoreUnavailable
from tests.results_double import problem_answer

URL = "http://results.test"
FILE = f"{URL}/raw_input/n/files/a/b.zip"
CONTENT = bytes(range(256)) * 10_000
TAG = f'"{sha256(CONTENT).hexdigest()}"'
MIB = 1024 * 1024
SOON = Retries(patience_s=5, first_wait_s=0, longest_wait_s=0)
Fetch = Callable[..., None]


class Broken(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body whose connection is lost."""

    def __init__(self, sent: bytes) -> None:
        self._sent = sent

    def __iter__(self) -> Iterator[bytes]:
        yield self._sent
        raise httpx.ReadError("reset")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._sent
        raise httpx.ReadError("reset")


@pytest.fixture(params=["blocking", "async"])
def fetch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Fetch:
    """Downloads a/b.zip of n by either client."""
    monkeypatch.delenv("SCOREHOUSE_API_KEY", raising=False)

    def blocking(to: Path, path: str = "a/b.zip", name: str = "n") -> None:
        with Scorehouse(URL, retries=SOON) as house:
            house.download_file(name, path, to)

    async def awaited(to: Path, path: str = "a/b.zip", name: str = "n") -> None:
        async with AsyncScorehouse(URL, retries=SOON) as house:
            await house.download_file(name, path, to)

    return blocking if request.param == "blocking" else lambda *given, **named: asyncio.run(awaited(*given, **named))


def broken_at(size: int, start: int = 0) -> httpx.Response:
    headers = {"ETag": TAG, "Content-Length": str(len(CONTENT) - start)}
    if start:
        headers["Content-Range"] = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
    return httpx.Response(206 if start else 200, headers=headers, stream=Broken(CONTENT[start:size]))


def rest(start: int) -> httpx.Response:
    headers = {"ETag": TAG, "Content-Range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"}
    return httpx.Response(206, headers=headers, content=CONTENT[start:])


@respx.mock
def test_a_download_that_breaks_off_goes_on_where_it_was(fetch: Fetch, tmp_path: Path) -> None:
    route = respx.get(FILE).mock(
        side_effect=[
            broken_at(MIB + 5),
            problem_answer(StoreUnavailable("away")),
            broken_at(2 * MIB + 7, MIB),
            rest(2 * MIB),
        ]
    )
    fetch(tmp_path / "b.zip")
    assert (tmp_path / "b.zip").read_bytes() == CONTENT
    assert [file.name for file in tmp_path.iterdir()] == ["b.zip"]
    asked = [call.request.headers for call in route.calls]
    assert [headers.get("range") for headers in asked] == [None, *(f"bytes={MIB * n}-" for n in (1, 1, 2))]
    assert {headers.get("if-range") for headers in asked[1:]} == {TAG}
    assert {headers["accept-encoding"] for headers in asked} == {"identity"}


@respx.mock
def test_a_server_that_begins_anew_is_followed(fetch: Fetch, tmp_path: Path) -> None:
    whole = httpx.Response(200, headers={"ETag": TAG}, content=CONTENT)
    respx.get(FILE).mock(side_effect=[broken_at(MIB + 5), whole])
    fetch(tmp_path / "b.zip")
    assert (tmp_path / "b.zip").read_bytes() == CONTENT


@respx.mock
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda: httpx.Response(200, headers={"ETag": TAG}, content=CONTENT[:-1]), "is not what is stored"),
        (lambda: httpx.Response(200, text="<html>sign in</html>"), "not as Scorehouse's results service does"),
        (lambda: rest(9), "not as Scorehouse's results service does"),
        (lambda: problem_answer(NotFound("n has no file 'a/b.zip'")), "n has no file"),
    ],
)
def test_what_is_not_the_file_is_not_kept(
    fetch: Fetch, tmp_path: Path, answer: Callable[[], httpx.Response], told: str
) -> None:
    (tmp_path / "b.zip").write_bytes(b"as before")
    respx.get(FILE).mock(return_value=answer())
    with pytest.raises(ScorehouseError, match=told):
        fetch(tmp_path / "b.zip")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"b.zip": b"as before"}


@respx.mock
def test_who_is_not_there_is_told_at_once(fetch: Fetch, tmp_path: Path) -> None:
    route = respx.get(FILE).mock(side_effect=httpx.ConnectError("refused"))
    with pytest.raises(UnreachableError):
        fetch(tmp_path / "b.zip")
    assert route.call_count == 1
    assert list(tmp_path.iterdir()) == []


@respx.mock
def test_paths_are_sent_as_they_are(fetch: Fetch, tmp_path: Path) -> None:
    route = respx.get(url__startswith=URL).respond(200, headers={"ETag": TAG}, content=CONTENT)
    fetch(tmp_path / "x", "a b/결과?#.zip", "2024-01-01T00:00:00Z-aime-r")
    sent = route.calls.last.request.url.raw_path.decode()
    assert sent == "/raw_input/2024-01-01T00%3A00%3A00Z-aime-r/files/a%20b/%EA%B2%B0%EA%B3%BC%3F%23.zip"


@pytest.mark.parametrize("path", ["", "../x", "a/./b", "a//b", "/x"])
def test_a_path_that_would_lead_elsewhere_is_not_sent(fetch: Fetch, tmp_path: Path, path: str) -> None:
    with respx.mock, pytest.raises(ScorehouseError, match="no file is called"):
        fetch(tmp_path / "x", path)
    assert list(tmp_path.iterdir()) == []
