"""API keys: a TOML file of ids, SHA-256 digests, scopes and expiries, re-read when it changes.

[[keys]]
id = "nightly-runner"
sha256 = "…"                    # of the key itself, which stands nowhere
scopes = ["results:write"]
expires = 2027-01-01T00:00:00Z  # optional
"""

import hmac
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import structlog
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from shared.names import TextId
from shared.problems import NotAuthenticated, NotAuthorized, validation_faults

log = structlog.get_logger(__name__)


class Scope(StrEnum):
    """What a key allows."""

    RESULTS_WRITE = "results:write"
    RESULTS_READ = "results:read"
    ANALYSIS_READ = "analysis:read"
    ADMIN = "admin"
    """Allows everything."""


class Key(BaseModel):
    """One key, by its digest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: TextId
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    scopes: frozenset[Scope] = Field(min_length=1)
    expires: AwareDatetime | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: tuple[Key, ...] = ()


class KeyFileError(ValueError):
    """A key file that cannot be used."""


@dataclass(frozen=True, slots=True)
class _Stamp:
    modified_ns: int
    size: int
    inode: int


class KeyRing:
    """The keys of a file. A change is seen at the next request; a broken change keeps the keys read before."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stamp = self._look()
        self._keys = self._read()

    def authorize(self, token: str | None, scope: Scope) -> Key:
        """The key that `token` is, if it allows `scope`; otherwise NotAuthenticated or NotAuthorized."""
        self._refresh()
        if token is None:
            raise NotAuthenticated("send your API key as 'Authorization: Bearer <key>'")
        digest = sha256(token.encode()).hexdigest()
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
            raise KeyFileError(f"API_KEYS_FILE {self._file}: {error.strerror}") from None
        return _Stamp(stat.st_mtime_ns, stat.st_size, stat.st_ino)

    def _read(self) -> tuple[Key, ...]:
        try:
            return _File.model_validate(tomllib.loads(self._file.read_text(encoding="utf-8"))).keys
        except ValidationError as error:
            faults = "; ".join(f"{fault.place}: {fault.detail}" for fault in validation_faults(error))
            raise KeyFileError(f"API_KEYS_FILE {self._file}: {faults}") from None
        except (ValueError, OSError) as error:
            raise KeyFileError(f"API_KEYS_FILE {self._file}: {error}") from None

    def _refresh(self) -> None:
        try:
            stamp = self._look()
            if stamp != self._stamp:
                self._keys = self._read()
                self._stamp = stamp
                log.info("API keys re-read", keys=len(self._keys))
        except KeyFileError as error:
            log.error("API keys not re-read; the former ones hold", error=str(error))  # noqa: TRY400
