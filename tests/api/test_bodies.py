"""Bodies over real connections: a caller sees why it was refused, also while it still sends."""

import asyncio
import gzip
import logging
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI, Request
from structlog.testing import capture_logs

from shared import bodies
from shared.bodies import BodyLimits, DuplexResponse
from shared.compression import compress
from shared.web import build_app
from tests.api.conftest import serve, until

MIB = 1024 * 1024
LIMITS = BodyLimits(max_bytes=MIB, max_ratio=200, timeout_s=0.3)


@asynccontextmanager
async def _no_resources(_: FastAPI) -> AsyncIterator[None]:
    yield


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """A served application that tells what it read at /body, and reads nothing at /refusing."""
    app = build_app(title="t", description="d", version="1", lifespan=_no_resources, body_limits=LIMITS)

    @app.post("/body")
    async def body(request: Request) -> dict[str, str | int]:
        content = await request.body()
        return {"bytes": len(content), "sha256": sha256(content).hexdigest()}

    @app.post("/refusing", status_code=403)
    async def refusing() -> str:
        return "no"

    @app.post("/echo")
    async def echo(request: Request) -> DuplexResponse:
        first = await anext(stream := request.stream())

        async def rest() -> AsyncIterator[bytes]:
            yield first
            async for block in stream:
                yield block

        return DuplexResponse(rest())

    async with serve(app) as address:
        yield address


async def endless() -> AsyncIterator[bytes]:
    """A body without an end."""
    while True:
        yield b"x" * 65_536


async def much() -> AsyncIterator[bytes]:
    """A body of 64 MiB."""
    for _ in range(1024):
        yield b"x" * 65_536


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_encoded_bodies_arrive_decoded(url: str, encoding: str) -> None:
    data = b"".join(b"%d\n" % number for number in range(100_000))
    sent = gzip.compress(data, mtime=0) if encoding == "gzip" else compress(data)
    async with httpx.AsyncClient(base_url=url) as client:
        answer = await client.post("/body", content=sent, headers={"Content-Encoding": encoding})
    assert answer.json() == {"bytes": len(data), "sha256": sha256(data).hexdigest()}


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/body", {}, 413),
        ("/body", {"Content-Encoding": "br"}, 415),
        ("/body", {"Content-Encoding": "zstd"}, 400),
        ("/refusing", {}, 403),
        ("/nowhere", {}, 404),
    ],
)
@pytest.mark.parametrize("says_length", [True, False])
async def test_a_caller_who_still_sends_sees_the_refusal(
    url: str, path: str, headers: dict[str, str], status: int, says_length: bool
) -> None:
    async with httpx.AsyncClient(base_url=url) as client:
        length = {"Content-Length": str(64 * MIB)} if says_length and status != 400 else {}
        answer = await client.post(path, content=much(), headers=headers | length)
        assert answer.status_code == status, answer.text
        assert answer.headers["connection"] == "close"
        if status == 415:
            assert answer.headers["accept-encoding"] == "gzip, zstd"
        assert (await client.post("/body", content=b"1")).status_code == 200


@pytest.mark.parametrize("expect", ["Expect: 100-continue", "Expect:"])
@pytest.mark.parametrize("chunked", [True, False])
async def test_curl_sees_the_refusal(url: str, tmp_path: Path, expect: str, chunked: bool) -> None:
    file = tmp_path / "body"
    file.write_bytes(bytes(32 * MIB))
    how = ["-T", str(file), "-X", "POST"] if chunked else ["--data-binary", f"@{file}"]
    more = ["-H", "Transfer-Encoding: chunked"] if chunked else []
    command = ["curl", "-sS", "-o", "-", "-w", "%{http_code}", "-H", expect, *how, *more, f"{url}/body"]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    assert b"urn:scorehouse:problem:too-large" in done.stdout
    assert done.stdout.endswith(b"413")


async def test_a_body_without_end_does_not_hold_the_connection(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "_LINGER_S", 0.2)
    async with httpx.AsyncClient(base_url=url) as client, asyncio.timeout(10):
        try:
            answer = await client.post("/body", content=endless())
        except httpx.HTTPError:
            return  # that the connection was closed on a sender who never stops is what matters
        assert answer.status_code == 413


@asynccontextmanager
async def connection(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A bare connection."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("headers", ["Content-Length: 100", "Content-Length: 900000", "Content-Encoding: gzip"])
async def test_a_slow_body_is_answered_408_and_closed(url: str, headers: str) -> None:
    if "gzip" in headers:
        headers += "\r\nTransfer-Encoding: chunked"
    async with connection(url) as (reader, writer), asyncio.timeout(10):
        writer.write(f"POST /body HTTP/1.1\r\nHost: h\r\n{headers}\r\n\r\n".encode())
        writer.write(b"2\r\n\x1f\x8b\r\n" if "chunked" in headers else b"ab")  # as gzip begins
        answer = await reader.read()  # up to the end: the server closes
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408")
    assert head.lower().count(b"connection: close") == 1
    assert b"BODY_TIMEOUT_S" in body


@pytest.mark.parametrize("headers", ["Content-Length: 100", "Content-Length: 900000", "Transfer-Encoding: chunked"])
async def test_an_early_disconnect_is_no_error(url: str, headers: str, caplog: pytest.LogCaptureFixture) -> None:
    with capture_logs() as lines, caplog.at_level(logging.WARNING):
        async with connection(url) as (_, writer):
            writer.write(f"POST /body HTTP/1.1\r\nHost: h\r\n{headers}\r\n\r\n".encode())
            writer.write(b"2\r\nab\r\n" if "chunked" in headers else b"ab")
            await writer.drain()

        async def is_logged() -> bool:
            return bool(lines)

        await until(is_logged)
    assert {line["log_level"] for line in lines} == {"info"}
    assert caplog.records == []


async def test_a_body_is_read_while_its_answer_is_sent(url: str) -> None:
    data = bytes(range(256)) * 3000
    async with httpx.AsyncClient(base_url=url) as client:

        async def blocks() -> AsyncIterator[bytes]:
            for start in range(0, len(data), 1000):
                yield data[start : start + 1000]

        answer = await client.post("/echo", content=blocks())
    assert answer.content == data
