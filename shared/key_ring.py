"""The API keys that a service knows: those of its file, re-read when that changes."""

import hmac
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from shared.keys import Key, KeyFileError, Scope, digest_of, read_keys
from shared.problems import NotAuthenticated, NotAuthorized

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 1.0
"""How often requests look at the file, at most: a look takes as long as all else about a key."""


@dataclass(frozen=True, slots=True)
class _Stamp:
    modified_ns: int
    size: int
    inode: int


class KeyRing:
    """The keys of a file. A change is seen within LOOK_EVERY_S; a broken change keeps the keys read before."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._look_again_at = time.monotonic() + LOOK_EVERY_S
        self._stamp = self._look()
        self._keys = self._read()

    def authorize(self, token: str | None, scope: Scope) -> Key:
        """The key that `token` is, if it allows `scope`; otherwise NotAuthenticated or NotAuthorized."""
        self._refresh()
        if token is None:
            raise NotAuthenticated("send your API key as 'Authorization: Bearer <key>'")
        digest = digest_of(token)
        found = None
        for key in self._keys:  # all of them, so that the time taken tells nothing
            if hmac.compare_digest(key.sha256, digest):
                found = key
        if found is None:
            raise NotAuthenticated("this API key is not known here")
        if found.expires is not None and found.expires <= datetime.now(UTC):
            raise NotAuthenticated(f"the API key {found.id!r} expired at {found.expires.isoformat()}")
        if not found.scopes & {scope, Scope.ADMIN}:
            raise NotAuthorized(f"the API key {found.id!r} has {', '.join(sorted(found.scopes))}; this needs {scope}")
        return found

    def _look(self) -> _Stamp:
        try:
            stat = self._file.stat()
        except OSError as error:
            step = "; 'scorehouse keys create' makes it" if isinstance(error, FileNotFoundError) else ""
            raise KeyFileError(f"API_KEYS_FILE {self._file}: {error.strerror}{step}") from None
        return _Stamp(stat.st_mtime_ns, stat.st_size, stat.st_ino)

    def _read(self) -> tuple[Key, ...]:
        try:
            return read_keys(self._file.read_text(encoding="utf-8"), self._file)
        except KeyFileError as error:
            raise KeyFileError(f"API_KEYS_FILE {error}") from None
        except (ValueError, OSError) as error:
            raise KeyFileError(f"API_KEYS_FILE {self._file}: {error}") from None

    def _refresh(self) -> None:
        now = time.monotonic()
        if now < self._look_again_at:
            return
        self._look_again_at = now + LOOK_EVERY_S
        try:
            stamp = self._look()
            if stamp != self._stamp:
                self._keys = self._read()
                self._stamp = stamp
                log.info("API keys re-read", keys=len(self._keys))
        except KeyFileError as error:
            log.error("API keys not re-read; the former ones hold", error=str(error))  # noqa: TRY400
