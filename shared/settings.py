"""Settings that both services share, and how a mistake in the environment is told."""

import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, SecretStr, StringConstraints, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.bodies import BodyLimits
from shared.key_ring import KeyRing
from shared.problems import validation_faults
from shared.rate_limits import RateLimits, open_rate_limits

Rate = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,8}/(second|minute|hour|day)$")]
"""How often, such as `600/minute`."""


class ServiceSettings(BaseSettings):
    """Settings that both services have, read from the environment."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    environment: Literal["development", "production"] = "development"
    """`production` refuses embedded stores and disabled authentication."""
    auth: Literal["keys", "disabled"] = "keys"
    """`disabled` lets everyone in; without it `API_KEYS_FILE` is required."""
    api_keys_file: Path | None = None
    """TOML file of API keys, re-read when it changes."""
    scorehouse_registry_dir: Path | None = None
    """Folder of TOML files that add or override benchmarks and models."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    start_timeout_s: float = Field(default=60, gt=0)
    """How long the service tries to reach its store at start before it gives up with exit code 1."""
    body_timeout_s: float = Field(default=30, gt=0)
    """Longest wait for the next part of a request body; past it the answer is 408."""
    max_body_ratio: float = Field(default=200, ge=1)
    """How many times as large as sent a compressed body may become beyond its first MiB; 413 beyond."""
    rate_limit_reads: Rate | None = None
    """Reads that each API key, or address where keys are disabled, may make; 429 beyond."""
    rate_limit_writes: Rate | None = None
    """The same for writes."""
    rate_limit_store: SecretStr = SecretStr("memory://")
    """Where requests are counted: in this process, or in a store that several share. May hold a password."""

    @model_validator(mode="after")
    def _check_auth(self) -> Self:
        if self.environment == "production" and self.auth == "disabled":
            raise ValueError("AUTH=disabled is refused where ENVIRONMENT=production; set API_KEYS_FILE")
        if self.auth == "keys" and self.api_keys_file is None:
            raise ValueError("set API_KEYS_FILE to the file of API keys, or AUTH=disabled to let everyone in")
        return self

    def body_limits(self, max_bytes: int) -> BodyLimits:
        """What a request body may be."""
        return BodyLimits(max_bytes, self.max_body_ratio, self.body_timeout_s)

    def rate_limits(self) -> AbstractAsyncContextManager[RateLimits | None]:
        """What callers may do, for the lifespan; None inside where there are no limits."""
        store = self.rate_limit_store.get_secret_value()
        return open_rate_limits(store, reads=self.rate_limit_reads, writes=self.rate_limit_writes)

    def key_ring(self) -> KeyRing | None:
        """The API keys; None where authentication is disabled."""
        return None if self.auth == "disabled" or self.api_keys_file is None else KeyRing(self.api_keys_file)


_Settings = TypeVar("_Settings", bound=ServiceSettings)


def settings_or_exit(kind: type[_Settings]) -> _Settings:
    """`kind` from the environment; a mistake in it ends the process with a sentence for each, exit code 1."""
    try:
        return kind()
    except ValidationError as error:
        for fault in validation_faults(error):
            name = "" if fault.place == "body" else f"{fault.place.upper()}: "
            print(f"{kind.__module__.partition('.')[0]}: {name}{fault.detail}", file=sys.stderr)
        raise SystemExit(1) from None
