"""API keys: a TOML file of ids, SHA-256 digests, scopes and expiries. `scorehouse keys` writes it.

[[keys]]
id = "nightly-runner"
sha256 = "…"                    # of the key itself, which stands nowhere
scopes = ["results:write"]
created = 2026-01-01T00:00:00Z  # optional, as is expires
expires = 2027-01-01T00:00:00Z
"""

import tomllib
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from shared.names import TextId
from shared.problems import validation_faults


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
    created: AwareDatetime | None = None
    expires: AwareDatetime | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: tuple[Key, ...] = ()

    @field_validator("keys")
    @classmethod
    def _check_ids(cls, keys: tuple[Key, ...]) -> tuple[Key, ...]:
        ids = [key.id for key in keys]
        if twice := {name for name in ids if ids.count(name) > 1}:
            raise ValueError(f"the id {min(twice)!r} is there twice")
        return keys


class KeyFileError(ValueError):
    """A key file that cannot be used."""


def digest_of(token: str) -> str:
    """What a file says of the key `token`: the SHA-256 of its text."""
    return sha256(token.encode()).hexdigest()


def read_keys(text: str, file: Path) -> tuple[Key, ...]:
    """The keys in `text`, which is that of `file`; KeyFileError says what is wrong with it."""
    try:
        return _File.model_validate(tomllib.loads(text)).keys
    except ValidationError as error:
        faults = "; ".join(f"{fault.place}: {fault.detail}" for fault in validation_faults(error))
        raise KeyFileError(f"{file}: {faults}") from None
    except ValueError as error:
        raise KeyFileError(f"{file}: {error}") from None
