"""Reads the results service: its feed, and the results that entries name. Any fault is a FeedUnavailable."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
from pydantic import ValidationError

from shared.results import FeedEntry

PAGE = 500


class FeedUnavailable(Exception):
    """The results service cannot be reached or does not answer as it should; the message says how."""


class ResultAbsent(FeedUnavailable):
    """The results service does not have what an entry names."""


@dataclass(frozen=True, slots=True)
class FeedPage:
    """Entries after a position, in order, and the feed's greatest seq when they were read."""

    entries: tuple[FeedEntry, ...]
    head: int


class FeedClient:
    """The results service as its consumer sees it."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def read(self, *, after: int, wait_s: float, limit: int = PAGE) -> FeedPage:
        """The next entries after `after`, at most `limit`; waits up to `wait_s` seconds for the first."""
        parameters: dict[str, str | int | float] = {"after": after, "limit": limit, "wait_s": wait_s}
        body, headers = await self._get("/feed", params=parameters, timeout_s=wait_s + 30)
        try:
            # Not str.splitlines: it also splits at U+2028 and U+0085, which a name may hold and JSON need not escape.
            entries = tuple(FeedEntry.model_validate_json(line) for line in body.split(b"\n") if line)
            head = int(headers["feed-head"])
        except (ValidationError, KeyError, ValueError) as error:
            raise FeedUnavailable(
                f"{self._http.base_url.join('feed')} answered something that is not a feed: {error}"
            ) from error
        if head < after:
            raise FeedUnavailable(
                f"the feed ends at {head}, but {after} entries are applied; is RESULTS_URL another service, or was its "
                "store replaced? The SQL store of a feed that is gone must be emptied"
            )
        expected = after
        for entry in entries:
            expected += 1
            if entry.seq != expected:
                raise FeedUnavailable(
                    f"the feed has {entry.seq} where {expected} is due; is RESULTS_URL another service?"
                )
        return FeedPage(entries, head)

    async def fetch(self, href: str) -> bytes:
        """The body of the result at `href`, as entries name it."""
        body, _ = await self._get(href)
        return body

    async def _get(
        self, path: str, *, params: dict[str, str | int | float] | None = None, timeout_s: float = 60
    ) -> tuple[bytes, httpx.Headers]:
        """The body and headers of an answer 200.

        Streamed, because a response that httpx has read whole holds its body until the next collection of cycles, and
        those are far apart: hundreds of megabytes of results that were long applied.
        """
        try:
            async with self._http.stream("GET", path, params=params, timeout=timeout_s) as response:
                body = b"".join([chunk async for chunk in response.aiter_bytes()])
        except httpx.HTTPError as error:
            raise FeedUnavailable(f"the results service does not answer: {error or type(error).__name__}") from error
        if response.status_code != 200:
            fault = ResultAbsent if response.status_code == 404 else FeedUnavailable
            told = body[:1000].decode(errors="replace")[:300]
            raise fault(f"the results service answered {response.status_code} to GET {path}: {told}")
        return body, response.headers


@asynccontextmanager
async def open_feed(results_url: str, api_key: str | None) -> AsyncIterator[FeedClient]:
    """A client of the results service at `results_url`, which is asked directly, whatever proxy the environment names.

    A transport of its own makes httpx leave proxies alone and still honours SSL_CERT_FILE; `trust_env` would drop both.
    """
    # Compressed answers of large results are several zstd frames, which httpx fails on where it knows zstd.
    headers = {"Accept-Encoding": "gzip"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
    transport = httpx.AsyncHTTPTransport()
    async with httpx.AsyncClient(base_url=results_url, headers=headers, transport=transport) as http:
        yield FeedClient(http)
