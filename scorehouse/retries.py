"""When a request is sent again, and how long it is waited before. Pure: what waits and sends is the client.

No retry library is used: what needs thought here is which failure may be tried again, a Retry-After that is a lower
bound, and one budget over the many requests of a batch. A library would take over the sleep and leave us these.
"""

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from time import monotonic

BUSY = frozenset({408, 429, 502, 503})
"""Statuses that say the same request may well succeed later. 408 is a body that stalled on its way: a time-out."""


class Again(Enum):
    """Whether a request may be sent again by itself; each `Call` says it of its own."""

    NEVER = "never"
    """It asks how things are at this moment."""
    ONCE_ANSWERED = "once answered"
    """It reads: whoever asks is told at once that nobody is there, but a service that was there is waited for."""
    ALWAYS = "always"
    """It writes, and repeating it changes nothing: what is written must not be lost to a restart."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How patient a client is. `Retries(patience_s=0)` tries everything once.

    Waits grow from `first_wait_s` to `longest_wait_s`, each drawn at random between nothing and that (full jitter),
    so that many runners do not come back at the same moment. A service's Retry-After goes before the draw.
    """

    patience_s: float = 60
    """Seconds from the first of a row of failures until giving up. An answer begins a new row."""
    first_wait_s: float = 0.25
    longest_wait_s: float = 5


class Patience:
    """The failures in a row of one piece of work: one request, or the requests of one batch."""

    def __init__(self, retries: Retries) -> None:
        self._retries = retries
        self.start_again()

    def start_again(self) -> None:
        """There was progress: the next failure is the first of its row."""
        self._failures = 0
        self._began = 0.0

    def wait_s(self, retry_after: str | None = None) -> float | None:
        """Seconds to wait after another failure; None to give up.

        `retry_after` is the answer's header. One that lies beyond what patience is left ends the waiting now, since
        sooner there would be no use in asking.
        """
        now = monotonic()
        self._began = self._began if self._failures else now
        left = self._retries.patience_s - (now - self._began)
        asked = retry_after_s(retry_after)
        if left <= 0 or asked > left:
            return None
        longest = min(self._retries.longest_wait_s, self._retries.first_wait_s * 2 ** min(self._failures, 30))
        self._failures += 1
        return min(asked + random.uniform(0, longest), left)  # noqa: S311 - spreads load, guards nothing


def retry_after_s(header: str | None) -> float:
    """The seconds that a Retry-After header asks for, as seconds or as an HTTP date; 0 where it says neither."""
    text = (header or "").strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return 0
    return max(0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
