"""The answer of a service that compares its stores, as it comes. Pure."""

import httpx
from pydantic import ValidationError

from scorehouse.calls import Call, ScorehouseError
from shared.reconciliation import ReconciliationLine


class ReconciliationLines:
    """Makes lines of blocks. ScorehouseError if they are none, if one is a problem, or if the report is missing."""

    def __init__(self, call: Call[ReconciliationLine], response: httpx.Response) -> None:
        self._call = call
        self._response = response
        self._rest = b""
        self._reported = False

    def take(self, block: bytes) -> list[ReconciliationLine]:
        """The lines that this block completes."""
        # Not str.splitlines: it also splits at U+2028, which a name may hold.
        *lines, self._rest = (self._rest + block).split(b"\n")
        return [self._read(line) for line in lines if line]

    def end(self) -> None:
        """There are no more blocks."""
        if not self._reported:
            raise ScorehouseError(
                f"the {self._call.service} service broke off its comparison; its log tells why. Comparing again is safe"
            )

    def _read(self, text: bytes) -> ReconciliationLine:
        try:
            line = self._call.read(text)
        except ValidationError:
            raise self._call.not_ours(self._response) from None
        if line.problem is not None:
            raise ScorehouseError(f"{line.problem.title}: {line.problem.detail}", line.problem)
        self._reported = line.report is not None
        return line
