"""BodyReader: what whoever reads a body is given, and what is refused how early."""

import asyncio
import gzip
import random
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from shared.bodies import BodyLimits, BodyReader
from shared.compression import compress
from shared.problems import BodyTimeout, Problem, TooLarge, UndecodableBody, UnsupportedMedia

MIB = 1024 * 1024
TEXT = b"".join(b'{"question_id": "anatomy/%d", "score": 1.0}\n' % number for number in range(40_000))
NOISE = random.Random(1).randbytes(3 * MIB)


@dataclass
class Reading:
    """What came of a request whose body was read to its end, or to the problem."""

    body: bytes = b""
    largest: int = 0
    """Of the messages."""
    problem: Problem | None = None
    headers: dict[bytes, bytes] = field(default_factory=dict)
    """As the reader saw them."""
    taken: int = 0
    """Bytes that were taken from the caller."""
    answer: list[Message] = field(default_factory=list)


async def read(
    blocks: Iterable[bytes],
    *headers: tuple[bytes, bytes],
    keep: bool = True,
    disconnects: bool = False,
    max_bytes: int = 100 * MIB,
    max_ratio: float = 200,
    timeout_s: float = 5,
) -> Reading:
    """Read a body that comes in these blocks."""
    reading = Reading()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        reading.headers = dict(scope["headers"])
        more = True
        try:
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    break
                reading.largest = max(reading.largest, len(message["body"]))
                reading.body += message["body"] if keep else b""
                more = message["more_body"]
        except Problem as problem:
            reading.problem = problem
        status = 200 if reading.problem is None else reading.problem.status
        await send({"type": "http.response.start", "status": status, "headers": [(b"x", b"y")]})
        await send({"type": "http.response.body", "body": b"answer"})

    async def sent() -> AsyncIterator[Message]:
        for block in blocks:
            reading.taken += len(block)
            yield {"type": "http.request", "body": block, "more_body": True}
        if disconnects:
            yield {"type": "http.disconnect"}
        yield {"type": "http.request", "body": b"", "more_body": False}

    messages = sent()

    async def send(message: Message) -> None:
        reading.answer.append(message)

    limits = BodyLimits(max_bytes=max_bytes, max_ratio=max_ratio, timeout_s=timeout_s)
    scope: dict[str, Any] = {"type": "http", "method": "POST", "headers": list(headers)}
    await BodyReader(app, limits)(scope, messages.__anext__, send)
    return reading


def in_blocks(data: bytes, size: int) -> list[bytes]:
    """`data` in blocks of a size."""
    return [data[start : start + size] for start in range(0, len(data), size)]


def length(number: int) -> tuple[bytes, bytes]:
    """A Content-Length."""
    return b"content-length", str(number).encode()


def encoding(name: str) -> tuple[bytes, bytes]:
    """A Content-Encoding."""
    return b"content-encoding", name.encode()


@pytest.mark.parametrize("size", [1, 60_000, 200_000])
@pytest.mark.parametrize("says_length", [True, False])
async def test_plain_bodies_pass_as_they_are(size: int, says_length: bool) -> None:
    headers = [length(len(TEXT))] if says_length else [(b"transfer-encoding", b"chunked")]
    data = TEXT[:1000] if size == 1 else TEXT
    reading = await read(in_blocks(data, size), *headers)
    assert (reading.problem, reading.body) == (None, data)
    assert list(reading.headers.items()) == headers


@pytest.mark.parametrize(
    ("name", "stream", "data"),
    [
        ("gzip", gzip.compress(TEXT, mtime=0), TEXT),
        ("x-gzip", gzip.compress(TEXT, mtime=0), TEXT),
        (" GZip ", gzip.compress(TEXT, mtime=0), TEXT),
        ("zstd", compress(TEXT), TEXT),
        ("zstd", compress(NOISE), NOISE),
        ("gzip", gzip.compress(NOISE, 1), NOISE),
        ("gzip", gzip.compress(b"a", mtime=0) + gzip.compress(b"b", mtime=0), b"ab"),
        ("zstd", compress(b"a") + compress(b"b"), b"ab"),
        ("identity", TEXT, TEXT),
        ("", TEXT, TEXT),
        ("gzip", b"", b""),
        ("zstd", compress(b""), b""),
    ],
)
@pytest.mark.parametrize("size", [7, 5000, 10**9])
async def test_encoded_bodies_are_read_decoded(name: str, stream: bytes, data: bytes, size: int) -> None:
    if len(stream) // size > 10_000:
        size = 1000
    headers = [(b"host", b"h"), length(len(stream)), encoding(name)]
    reading = await read(in_blocks(stream, size), *headers)
    assert reading.problem is None
    assert reading.body == data
    decoded = name not in {"", "identity"} and stream
    assert reading.headers == ({b"host": b"h"} if decoded else dict(headers))


@pytest.mark.parametrize("headers", [["br"], ["gzip, zstd"], ["gzip", "zstd"], ["gzip, identity"], ["deflate"]])
async def test_other_encodings_are_refused_and_the_known_ones_named(headers: list[str]) -> None:
    reading = await read([TEXT], length(len(TEXT)), *map(encoding, headers))
    assert isinstance(reading.problem, UnsupportedMedia)
    assert reading.problem.headers == {"Accept-Encoding": "gzip, zstd"}


@pytest.mark.parametrize("name", ["gzip", "zstd"])
@pytest.mark.parametrize(
    ("fault", "says"), [("cut off", "ends in the middle"), ("plain", "not"), ("followed by text", "not")]
)
async def test_what_cannot_be_decoded_is_refused(name: str, fault: str, says: str) -> None:
    good = gzip.compress(NOISE[:50_000]) if name == "gzip" else compress(NOISE[:50_000])
    stream = {"cut off": good[:-1], "plain": TEXT, "followed by text": good + b"text"}[fault]
    reading = await read(in_blocks(stream, 30_000), encoding(name))
    assert isinstance(reading.problem, UndecodableBody)
    assert says in reading.problem.detail
    assert name in reading.problem.detail


async def test_a_length_over_the_limit_is_refused_before_a_byte_is_read() -> None:
    reading = await read([b"x" * 10], length(11), max_bytes=10)
    assert isinstance(reading.problem, TooLarge)
    assert "10 bytes" in reading.problem.detail
    assert reading.body == b""
    assert (await read([b"x" * 10], length(10), max_bytes=10)).problem is None


async def test_a_body_without_a_length_is_refused_when_it_passes_the_limit() -> None:
    reading = await read([b"x" * 4] * 9, (b"transfer-encoding", b"chunked"), max_bytes=10)
    assert isinstance(reading.problem, TooLarge)
    assert reading.body == b"x" * 8


def _bomb(name: str, decoded: int) -> bytes:
    return gzip.compress(bytes(decoded)) if name == "gzip" else compress(bytes(decoded))


@pytest.mark.parametrize("name", ["gzip", "zstd"])
async def test_a_bomb_is_refused_early_and_in_little_memory(name: str) -> None:
    bombs = _bomb(name, 40 * MIB) * 5
    blocks = in_blocks(bombs, 65_536)
    tracemalloc.start()
    try:
        reading = await read(blocks, encoding(name), keep=False)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(reading.problem, TooLarge)
    assert "MAX_BODY_RATIO" in reading.problem.detail
    assert peak < 6 * MIB


@pytest.mark.parametrize("name", ["gzip", "zstd"])
async def test_the_limit_holds_for_the_decoded_body(name: str) -> None:
    stream = _bomb(name, 40 * MIB)
    reading = await read([stream], encoding(name), keep=False, max_bytes=20 * MIB, max_ratio=1e6)
    assert isinstance(reading.problem, TooLarge)
    assert "MAX_BODY_BYTES" in reading.problem.detail
    assert (await read([stream], encoding(name), keep=False, max_bytes=40 * MIB, max_ratio=1e6)).problem is None


async def test_the_ratio_is_not_asked_of_small_bodies() -> None:
    stream = compress(bytes(MIB))
    assert MIB / len(stream) > 10_000
    assert (await read([stream], encoding("zstd"))).body == bytes(MIB)


@pytest.mark.parametrize("name", ["gzip", "zstd"])
async def test_large_bodies_pass_in_bounded_memory(name: str) -> None:
    part = gzip.compress(NOISE, 1) if name == "gzip" else compress(NOISE)
    blocks = in_blocks(part * 10, 65_536)
    tracemalloc.start()
    try:
        reading = await read(blocks, encoding(name), keep=False)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reading.problem is None
    assert reading.largest <= 2 * MIB
    assert peak < 6 * MIB


@pytest.mark.parametrize("name", ["gzip", "zstd"])
async def test_what_one_block_decodes_to_is_handed_on_in_parts(name: str) -> None:
    data = TEXT * 5
    sent = gzip.compress(data, mtime=0) if name == "gzip" else compress(data)
    reading = await read([sent], encoding(name), max_ratio=1e6)
    assert reading.body == data
    assert reading.largest <= MIB + 64 * 1024


@pytest.mark.parametrize("name", ["gzip", "zstd"])
async def test_many_empty_frames_take_no_longer_than_their_number(name: str) -> None:
    empty = gzip.compress(b"", mtime=0) if name == "gzip" else compress(b"")
    frames = empty * (2 * MIB // len(empty))
    began = time.process_time()
    assert (await read([frames], encoding(name))).body == b""
    assert time.process_time() - began < 4  # far more where each frame copies all that follow it


@pytest.mark.parametrize(
    "headers", [[length(100)], [length(10**6)], [encoding("gzip")]], ids=["small", "large", "gzip"]
)
async def test_a_silence_is_ended(headers: list[tuple[bytes, bytes]]) -> None:
    problems = []

    async def app(_: Scope, receive: Receive, __: Send) -> None:
        await receive()
        try:
            await receive()
        except BodyTimeout as problem:
            problems.append(problem)

    async def silent() -> Message:
        if not said:
            said.append(True)
            return {"type": "http.request", "body": gzip.compress(b"part", mtime=0), "more_body": True}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(_: Message) -> None: ...

    said: list[bool] = []
    scope = {"type": "http", "method": "POST", "headers": headers}
    await BodyReader(app, BodyLimits(max_bytes=10**9, max_ratio=9, timeout_s=0.02))(scope, silent, send)
    assert [problem.headers for problem in problems] == [{"Connection": "close"}]


async def test_a_cancelled_reader_is_cancelled() -> None:
    async def app(_: Scope, receive: Receive, __: Send) -> None:
        await receive()

    async def silent() -> Message:
        waiting.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(_: Message) -> None: ...

    waiting = asyncio.Event()
    scope = {"type": "http", "method": "POST", "headers": [length(10)]}
    task = asyncio.ensure_future(BodyReader(app, BodyLimits(100, 9, 60))(scope, silent, send))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_what_comes_after_the_body_may_take_its_time(method: str) -> None:
    async def app(_: Scope, receive: Receive, __: Send) -> None:
        assert not (await receive())["more_body"]
        assert (await receive())["type"] == "http.disconnect"

    async def receive() -> Message:
        if not said:
            said.append(True)
            return {"type": "http.request", "body": b"", "more_body": False}
        await asyncio.sleep(0.05)  # longer than the time-out
        return {"type": "http.disconnect"}

    async def send(_: Message) -> None: ...

    said: list[bool] = []
    scope = {"type": "http", "method": method, "headers": [length(1)] if method == "POST" else []}
    await BodyReader(app, BodyLimits(100, 9, 0.01))(scope, receive, send)
    assert said


@pytest.mark.parametrize("name", ["gzip", "identity"])
async def test_a_caller_who_goes_away(name: str) -> None:
    reading = await read([gzip.compress(NOISE, mtime=0)[:MIB]], encoding(name), disconnects=True)
    assert reading.problem is None
    assert reading.body


async def test_the_end_of_a_refusal_waits_for_the_body() -> None:
    reading = await read([b"x" * 1000] * 20, (b"transfer-encoding", b"chunked"), max_bytes=5000)
    assert reading.taken == 20_000
    start, body, end = reading.answer
    assert start["status"] == 413
    assert start["headers"] == [(b"x", b"y"), (b"connection", b"close")]
    assert (body["body"], body["more_body"]) == (b"answer", True)
    assert not end.get("more_body", False)


async def test_an_answer_after_the_body_is_left_alone() -> None:
    reading = await read([b"x" * 1000] * 20, (b"transfer-encoding", b"chunked"))
    assert reading.answer == [
        {"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]},
        {"type": "http.response.body", "body": b"answer"},
    ]
