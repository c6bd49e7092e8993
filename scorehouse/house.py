"""What both clients have in common: where they send, when they wait, when they give up. Nothing is sent here."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import httpx

from scorehouse import calls
from scorehouse.batches import NOT_A_LINE, Batch
from scorehouse.calls import Addresses, Call, ScorehouseError
from scorehouse.retries import Patience, Retries, retry_after_s
from shared.results import (
    BatchLine,
    ResultKind,
)

_T = TypeVar("_T")

NO_PROXY: dict[str, None] = {"all://localhost": None, "all://127.0.0.1": None, "all://[::1]": None}
"""A proxy for the outside world must not be asked for this machine's services."""
ACCEPT = {"Accept-Encoding": "gzip"}
"""Not zstd, also where httpx knows it: it fails on an answer of several frames, which large results are."""


@contextmanager
def environment_checked() -> Iterator[None]:
    """httpx reads proxies and certificates from the environment, and trips over them in many ways."""
    try:
        yield
    except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
        settings = "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY or SSL_CERT_FILE"
        raise ScorehouseError(f"what the environment has in {settings} cannot be used: {error}") from error


OnWait = Callable[[ScorehouseError, float], None]
"""Told of each failure that is waited out, and of the seconds until the next try."""


class House:
    """What both clients have in common: where they send, and when they give up."""

    def __init__(
        self,
        results_url: str | None,
        analysis_url: str | None,
        api_key: str | None,
        retries: Retries | None,
        on_wait: OnWait | None,
    ) -> None:
        self.addresses = Addresses.choose(results_url, analysis_url, api_key)
        self._retries = retries or Retries()
        self._on_wait = on_wait or (lambda _failure, _seconds: None)
        self._answered = False
        self._compresses = True

    def _wait_s(self, patience: Patience, failure: ScorehouseError, retry_after: str | None = None) -> float:
        """Seconds until the next try; raises `failure` when patience is at its end."""
        wait_s = patience.wait_s(retry_after)
        if wait_s is None:
            asked_s = retry_after_s(retry_after)
            raise (
                failure if not asked_s else ScorehouseError(f"{failure}; try again in {asked_s:.0f} s", failure.problem)
            )
        self._on_wait(failure, wait_s)
        return wait_s

    def _unreachable(self, call: Call[_T], error: httpx.RequestError) -> ScorehouseError:
        """What to tell while waiting for another try; raises it if none is due."""
        failure = call.unreachable(error, self.addresses)
        if not call.may_resend(error, answered=self._answered):
            raise failure from error
        return failure

    def _batch_call(self, kind: ResultKind, batch: Batch) -> Call[bytes]:
        batch.compressed = batch.compressed and self._compresses
        return calls.push_batch(kind, batch.body(), compressed=batch.compressed)

    def _check_is_ours(self, call: Call[bytes], response: httpx.Response) -> None:
        """Tell a page of somebody else (to sign in, say) from an answer that broke off."""
        media_type = response.headers.get("content-type", "application/x-ndjson")
        if not media_type.startswith("application/x-ndjson"):
            raise call.not_ours(response)

    def _taken(self, call: Call[bytes], batch: Batch, response: httpx.Response, block: bytes) -> list[BatchLine]:
        try:
            return batch.take(block)
        except NOT_A_LINE:
            raise call.not_ours(response) from None

    def _change_of_way(self, batch: Batch, refusal: ScorehouseError) -> None:
        """Prepare another way to send what was refused as a whole; raises the refusal if there is none."""
        if not batch.send_otherwise(refusal):
            raise refusal
        if refusal.status == 415:
            self._compresses = False
