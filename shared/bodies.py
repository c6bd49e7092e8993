"""Request bodies: how large, how slow and how far compressed they may be; whoever reads one reads it decoded."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType

from starlette.responses import StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.compression import CompressionError, Decoder, GzipDecoder, ZstdDecoder
from shared.problems import SHOWN_MAX, BodyTimeout, Problem, TooLarge, UndecodableBody, UnsupportedMedia

_DECODERS: dict[bytes, Callable[[], Decoder]] = {b"gzip": GzipDecoder, b"x-gzip": GzipDecoder, b"zstd": ZstdDecoder}
_ENCODINGS = "gzip, zstd"

_SMALL_BYTES = 64 * 1024
"""A body that the server has read whole before anyone asks: it needs no watching, and no answer waits for it."""
_MESSAGE_BYTES = 1024 * 1024
"""Decoded bytes handed on at a time."""
_ON_LOOP_BYTES = 8 * 1024
_ON_LOOP_DECODED_BYTES = 256 * 1024
"""A block of at most so many bytes is decoded on the event loop until it has given so many; the rest on a thread."""
_SLICE_BYTES = 16 * 1024
"""What a decoder is given at a time: of many tiny frames each copies what follows it; the ratio is exact to this."""
_RATIO_FREE_BYTES = 1024 * 1024
"""Decoded bytes before the ratio is judged: small bodies may well be the same line many times."""
_LINGER_SILENCE_S = 2.0
_LINGER_S = 30.0


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """What a body may be."""

    max_bytes: int
    """Decoded, and as sent."""
    max_ratio: float
    """Decoded bytes for each byte sent, beyond the first MiB."""
    timeout_s: float
    """The longest wait for its next part."""
    setting: str = "MAX_BODY_BYTES"
    """What to set for a larger `max_bytes`."""


class BodyReader:
    """Lets applications read bodies decoded and within limits.

    What is wrong with a body is raised where it is read, as a Problem: a caller without a key hears of the key first.
    An answer that comes before the body's end waits for it a while, reading and dropping: a server that closes on
    unread data resets the connection, and the caller may never see what was wrong.
    """

    def __init__(
        self, app: ASGIApp, limits: BodyLimits, by_path: Mapping[str, BodyLimits] = MappingProxyType({})
    ) -> None:
        self.app = app
        self.limits = limits
        self.by_path = by_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limits = self.by_path.get(scope["path"], self.limits) if self.by_path else self.limits
        length: int | None = None
        encoding, is_chunked = b"", False
        for name, value in scope["headers"]:
            if name == b"content-length":
                length = int(value[:20]) if value.isdigit() else None  # of so many digits it is too large anyway
            elif name == b"content-encoding":
                encoding += b"," + value if encoding else value
            elif name == b"transfer-encoding":
                is_chunked = True
        if length is None and not is_chunked and scope["method"] in ("GET", "HEAD"):
            length = 0
        if not length and length is not None:
            await self.app(scope, receive, send)
        elif not encoding and length is not None and length <= _SMALL_BYTES and length <= limits.max_bytes:
            await self.app(scope, _SmallBody(receive, limits.timeout_s).receive, send)
        else:
            body = _Body(receive, send, limits, length, encoding.strip().lower())
            await self.app(body.scope_for_reader(scope), body.receive, body.send)


class DuplexResponse(StreamingResponse):
    """An answer that is sent while the body is still being read.

    Starlette's own listens for the caller's disconnect meanwhile, and so takes messages that belong to the reader. Here
    the reader is who hears of it: ClientDisconnect.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        await self.stream_response(send)


class _SmallBody:
    """A body whose size needs no watching."""

    __slots__ = ("_has_ended", "_receive", "_timeout_s")

    def __init__(self, receive: Receive, timeout_s: float) -> None:
        self._receive = receive
        self._timeout_s = timeout_s
        self._has_ended = False

    async def receive(self) -> Message:
        if self._has_ended:
            return await self._receive()  # waits for the caller to go away, however long that takes
        message = await _within(self._receive, self._timeout_s)
        self._has_ended = not message.get("more_body", False)
        return message


class _Body:
    """A body that is watched, and decoded where it is encoded."""

    def __init__(self, receive: Receive, send: Send, limits: BodyLimits, length: int | None, encoding: bytes) -> None:
        self._receive = receive
        self._send = send
        self._limits = limits
        self._encoding = encoding.decode("latin-1")
        self._decoder = _DECODERS[encoding]() if encoding in _DECODERS else None
        self._refusal: Problem | None = None
        if self._decoder is None and encoding not in (b"", b"identity"):
            self._refusal = UnsupportedMedia(
                f"Content-Encoding {self._encoding[:SHOWN_MAX]!r} is not read here; send {_ENCODINGS}, or none",
                headers={"Accept-Encoding": _ENCODINGS},
            )
        elif length is not None and length > limits.max_bytes:
            self._refusal = self._too_large()
        self._received = 0
        self._has_ended = False
        """Whether the caller has sent all of it, or is gone."""
        self._is_read = False
        """Whether whoever reads it has seen that end."""
        self._pieces: Iterator[bytes] | None = None
        """What is left to decode of the block at hand."""
        self._block_is_small = False
        self._fed = 0
        """Bytes given to the decoder."""
        self._decoded = 0

    def scope_for_reader(self, scope: Scope) -> Scope:
        """`scope` as if the body had been sent as it is read."""
        if self._decoder is None:
            return scope
        hidden = (b"content-encoding", b"content-length")
        return {**scope, "headers": [(name, value) for name, value in scope["headers"] if name not in hidden]}

    async def receive(self) -> Message:
        """The body's next message; a Problem where it passes a limit or cannot be decoded, then and ever after."""
        if self._refusal is not None:
            raise self._refusal
        if self._is_read:
            return await self._receive()
        try:
            message = await (self._next() if self._decoder is None else self._next_decoded(self._decoder))
        except Problem as problem:
            self._refusal = problem
            self._has_ended |= isinstance(problem, BodyTimeout)  # nothing comes, so nothing is waited for
            raise
        self._is_read = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Pass on a message of the answer; its last waits for the body's end."""
        if message["type"] == "http.response.start" and message["status"] >= 400 and not self._has_ended:
            # Tells a caller who listens while sending to stop, and keeps a body without end from outlasting the answer.
            headers = [header for header in message.get("headers", ()) if header[0] != b"connection"]
            message = {**message, "headers": [*headers, (b"connection", b"close")]}
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if not is_last or self._has_ended:
            await self._send(message)
            return
        await self._send({**message, "more_body": True})
        with suppress(TimeoutError, BodyTimeout):
            async with asyncio.timeout(_LINGER_S):
                while not self._has_ended:
                    rest = await _within(self._receive, _LINGER_SILENCE_S)
                    self._has_ended = not rest.get("more_body", False)
        await self._send({"type": "http.response.body", "body": b""})

    async def _next(self) -> Message:
        message = await _within(self._receive, self._limits.timeout_s)
        self._has_ended = not message.get("more_body", False)  # which a disconnect does not have
        self._received += len(message.get("body", b""))
        if self._received > self._limits.max_bytes:
            raise self._too_large()
        return message

    async def _next_decoded(self, decoder: Decoder) -> Message:
        data = b""
        while not data:
            if self._pieces is None:
                message = await self._next()
                if message["type"] == "http.disconnect":
                    return message
                block = message.get("body", b"")
                self._pieces = self._decode(decoder, block)
                self._block_is_small = len(block) <= _ON_LOOP_BYTES
            if self._block_is_small:
                self._block_is_small = False
                data, has_more = _take(self._pieces, _ON_LOOP_DECODED_BYTES)
            else:
                data, has_more = await asyncio.to_thread(_take, self._pieces, _MESSAGE_BYTES)
            if has_more:
                continue
            self._pieces = None
            if self._has_ended:
                if self._fed and not decoder.is_complete():
                    raise UndecodableBody(f"the {self._encoding} body ends in the middle; send it again, whole")
                return {"type": "http.request", "body": data, "more_body": False}
        return {"type": "http.request", "body": data, "more_body": True}

    def _decode(self, decoder: Decoder, block: bytes) -> Iterator[bytes]:
        for start in range(0, len(block), _SLICE_BYTES):
            part = block[start : start + _SLICE_BYTES]
            self._fed += len(part)
            try:
                for piece in decoder.decode(part):
                    self._decoded += len(piece)
                    self._check_decoded()
                    yield piece
            except CompressionError as error:
                where = f"within its first {self._fed:,} bytes"
                raise UndecodableBody(f"the {self._encoding} body is {error}, {where}") from None

    def _check_decoded(self) -> None:
        if self._decoded > self._limits.max_bytes:
            raise self._too_large()
        if self._decoded > _RATIO_FREE_BYTES and self._decoded > self._limits.max_ratio * self._fed:
            raise TooLarge(
                f"decoded, the body is more than {self._limits.max_ratio:g} times as large as sent"
                " (setting MAX_BODY_RATIO); send it as it is"
            )

    def _too_large(self) -> TooLarge:
        as_decoded = "" if self._decoder is None else ", also when decoded"
        limit = f"{self._limits.max_bytes:,} bytes{as_decoded}"
        return TooLarge(f"a body may have at most {limit} (setting {self._limits.setting}); send it in several")


def _take(pieces: Iterator[bytes], enough: int) -> tuple[bytes, bool]:
    """Some `pieces` in one, and whether more may be left."""
    taken = []
    size = 0
    for piece in pieces:
        taken.append(piece)
        size += len(piece)
        if size >= enough:
            return b"".join(taken), True
    return b"".join(taken), False


async def _within(receive: Receive, timeout_s: float) -> Message:
    """What `receive` gives; BodyTimeout if it takes longer.

    As asyncio.timeout does it, in a third of its time: this is done once or more in every request.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - coroutines run in tasks
    cancels = task.cancelling()
    is_late = False

    def give_up() -> None:
        nonlocal is_late
        is_late = True
        task.cancel()

    timer = asyncio.get_running_loop().call_later(timeout_s, give_up)
    try:
        return await receive()
    except asyncio.CancelledError:
        if is_late and task.uncancel() <= cancels:
            raise BodyTimeout(
                f"no part of the body came for {timeout_s:g} s (setting BODY_TIMEOUT_S)",
                headers={"Connection": "close"},
            ) from None
        raise
    finally:
        timer.cancel()
