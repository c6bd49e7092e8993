"""Stored results taken to the disk and read from there: a result may be larger than memory."""

import asyncio
import mmap
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from tempfile import TemporaryFile
from typing import IO

import httpx

from scorehouse import calls
from scorehouse.calls import ScorehouseError
from scorehouse.client import AsyncScorehouse
from scorehouse.retries import Patience
from shared.results import ResultKind, ResultSummary
from shared.submission import Envelope

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FetchedResult:
    """A stored result, its data mapped from the disk."""

    summary: ResultSummary
    data: memoryview
    """The bytes of `data` as they were pushed."""

    @property
    def envelope(self) -> Envelope:
        """What was pushed beside the data."""
        return Envelope.model_validate(self.summary.model_dump(include=set(Envelope.model_fields)))


class ResultDownloads(AsyncScorehouse):
    """The client, and results streamed to a file."""

    async def download(self, kind: ResultKind, result: ResultSummary, file: IO[bytes]) -> None:
        """Write the answer with `result` to `file`, from its beginning; waits as the client does."""
        call = calls.get_result(kind, result.result_name)
        patience = Patience(self._retries)
        while True:
            file.seek(0)
            file.truncate()
            try:
                response = await self._http.send(call.request(self._http, self.addresses), stream=True)
                async with aclosing(response):
                    self._answered = True
                    if response.is_success:
                        async for block in response.aiter_bytes(_BLOCK_BYTES):
                            file.write(block)
                        file.flush()
                        return
                    await response.aread()
                    if not call.may_retry(response):
                        raise call.refusal(response)
                    wait_s = self._wait_s(patience, call.refusal(response), response.headers.get("retry-after"))
            except httpx.RequestError as error:
                wait_s = self._wait_s(patience, self._unreachable(call, error))
            await asyncio.sleep(wait_s)


@contextmanager
def temporary_file() -> Iterator[IO[bytes]]:
    """A file that is gone afterwards, for `ResultDownloads.download`."""
    with TemporaryFile(prefix="scorehouse-export-") as file:
        yield file


def read_fetched(result: ResultSummary, file: IO[bytes]) -> FetchedResult:
    """The result in a file that was downloaded. ScorehouseError if it is not the one that was asked for.

    The service writes `data` last, and says how long it is and what its digest is.
    """
    size = file.seek(0, 2)
    if size > result.bytes:
        # Not closed by hand: what is read of it are views, and it closes when the last of them is gone.
        whole = memoryview(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ))
        data = whole[size - 1 - result.bytes : size - 1]
        if sha256(data).hexdigest() == result.sha256:
            return FetchedResult(result, data)
    raise ScorehouseError(f"{result.result_name} did not arrive as it is stored: its digest differs; export it again")
