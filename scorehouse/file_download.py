"""A file on its way from the service to disk. What asks and waits is the client."""

import re
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from scorehouse.calls import Call, ScorehouseError

BLOCK_BYTES = 1024 * 1024
_TAG = re.compile(r'"([0-9a-f]{64})"')
_RANGE = re.compile(r"bytes (\d+)-\d+/\d+", re.ASCII)


class FileDownload:
    """Takes the file block by block, as `<name>.part` until it is whole; that is removed if it never is."""

    def __init__(self, to: Path) -> None:
        self._to = to
        self._part = to.with_name(f"{to.name}.part")
        self._sha256: str | None = None
        """Of the whole, as the service says."""
        self._restart()

    def _restart(self) -> None:
        self._taken = 0
        self._digest = sha256()

    def __enter__(self) -> Self:
        self._file = self._part.open("wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is not None:
            self._part.unlink()

    @property
    def headers(self) -> dict[str, str]:
        """What the next request asks for: what is still wanted of the file, if that is the same by then."""
        wanted = {"Accept-Encoding": "identity"}
        return wanted | {"Range": f"bytes={self._taken}-", "If-Range": f'"{self._sha256}"'} if self._taken else wanted

    def begin(self, call: Call[bytes], response: httpx.Response) -> None:
        """Prepare for what `response` holds: the rest, or all of it. ScorehouseError if it is none of ours."""
        tag = _TAG.fullmatch(response.headers.get("etag", ""))
        first = 0
        if response.status_code == httpx.codes.PARTIAL_CONTENT:
            told = _RANGE.fullmatch(response.headers.get("content-range", ""))
            first = int(told[1]) if told else -1
        if tag is None or first not in (0, self._taken):
            raise call.not_ours(response)
        if first == 0:
            self._file.seek(0)
            self._file.truncate()
            self._restart()
        self._sha256 = tag[1]

    def take(self, block: bytes) -> None:
        """Write the next bytes."""
        self._file.write(block)
        self._digest.update(block)
        self._taken += len(block)

    def finish(self) -> None:
        """Give the file its name. ScorehouseError if its bytes are not those that are stored."""
        if self._digest.hexdigest() != self._sha256:
            raise ScorehouseError(f"what arrived as {self._to.name} is not what is stored; download it again")
        self._file.close()
        self._part.replace(self._to)
