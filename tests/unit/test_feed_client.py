"""The feed's client: how it reads pages, and that it goes straight to its service."""

import asyncio
import gc
import tracemalloc

import pytest
import respx

from analysis_service.projection.feed_client import open_feed
from shared.results import FeedEntry


@respx.mock
@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0c", "\x1e", "é"])
async def test_a_line_ends_at_a_line_feed_and_nothing_else(character: str) -> None:
    """Python's own splitting of lines knows ten more ends, and a name may hold some of them unescaped."""
    entries = [
        FeedEntry(seq=seq, kind="result", result_name=f"t-mmlu-a{character}{seq}", sha256="0", href="/x")
        for seq in (1, 2)
    ]
    lines = "".join(entry.model_dump_json() + "\n" for entry in entries)
    respx.get("http://results.test/feed").respond(200, content=lines.encode(), headers={"Feed-Head": "2"})
    async with open_feed("http://results.test", None) as feed:
        page = await feed.read(after=0, wait_s=0)
    assert page.entries == tuple(entries)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
async def test_no_proxy_stands_between_the_services(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """A proxy for the outside world cannot reach a service that listens on this machine alone."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nFeed-Head: 7\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    monkeypatch.setenv(variable, "http://127.0.0.1:1")
    async with await asyncio.start_server(answer, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        async with open_feed(f"http://127.0.0.1:{port}", None) as feed:
            assert (await feed.read(after=0, wait_s=0)).head == 7


async def test_what_was_fetched_is_not_held_until_cycles_are_collected() -> None:
    """The service collects them seldom, and results are large: in reserve it would hold hundreds of them."""
    size = 1_000_000

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode() + b"x" * size)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        async with open_feed(f"http://127.0.0.1:{port}", None) as feed:
            assert len(await feed.fetch("/result")) == size
            gc.disable()
            tracemalloc.start()
            try:
                for _ in range(10):
                    await feed.fetch("/result")
                held, _ = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
                gc.enable()
    assert held < size
