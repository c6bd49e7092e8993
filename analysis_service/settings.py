"""The analysis service's settings, read from the environment."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, StringConstraints, model_validator

from shared.settings import ServiceSettings


class AnalysisSettings(ServiceSettings):
    """Every setting of the analysis service; docs/operations.md has a line for each."""

    analysis_store: Literal["mysql", "sqlite"] | None = None
    """Which engine; unset, it is mysql where MYSQL_HOST is set and sqlite elsewhere."""
    sqlite_path: Path = Path("scorehouse-data/analysis.sqlite")
    """The embedded store's file."""
    mysql_host: str | None = None
    """Host of MySQL 8+ or MariaDB 10.6+."""
    mysql_port: int = 3306
    """Its port."""
    mysql_user: str = "scorehouse"
    """Its user, who may create and alter tables in the database."""
    mysql_password: SecretStr = SecretStr("")
    """The user's password."""
    mysql_database: str = "scorehouse"
    """The database, which exists already."""
    mysql_read_hosts: str | None = None
    """Replicas that answer reads: host or host:port, with commas between; user, password and database are the same."""
    mysql_read_timeout_s: float = Field(default=1, gt=0)
    """How long a replica may take to begin a read before another server is asked."""
    mysql_read_retry_s: float = Field(default=5, gt=0)
    """For how long a replica that is gone or behind is left alone at most."""
    db_pool_size: int = Field(default=20, ge=1)
    """Connections that are kept open."""
    db_max_overflow: int = Field(default=30, ge=0)
    """Connections that may be opened beyond those and are closed after use."""
    db_pool_timeout_s: float = Field(default=10, gt=0)
    """How long a request waits for a connection before it is answered 503."""
    db_pool_recycle_s: float = Field(default=1800, gt=0)
    """Age at which an idle connection is replaced; keep it below the server's wait_timeout."""
    query_timeout_s: float = Field(default=10, ge=0.001)
    """Time limit of each read, kept by the SQL server; past it the answer is 504."""
    slow_query_ms: float = Field(default=200, ge=0)
    """Reads that take longer are logged, in milliseconds; 0 logs none."""
    answer_cache_bytes: int = Field(default=64 * 1024 * 1024, ge=0)
    """Memory for answers, which are given again while nothing has changed; 0 keeps none."""
    max_groups: int = Field(default=200_000, ge=1)
    """Groups that an answer may have, shown or not; more is answered 422."""
    max_cells: int = Field(default=20_000_000, ge=1)
    """Cells of stored sums that one answer may be made of; more is answered 422."""
    results_url: Annotated[str, StringConstraints(pattern=r"^https?://")] = "http://127.0.0.1:8000"
    """Where the results service is."""
    results_api_key: SecretStr | None = None
    """API key with results:read for it."""
    feed_wait_s: float = Field(default=20, gt=0, le=30)
    """How long one look at an idle feed stays open."""
    max_body_bytes: int = Field(default=1024 * 1024, ge=1024)
    """Largest request body."""

    @property
    def engine(self) -> Literal["mysql", "sqlite"]:
        """The engine that is used."""
        return self.analysis_store or ("mysql" if self.mysql_host else "sqlite")

    @property
    def read_hosts(self) -> list[tuple[str, int]]:
        """Host and port of each replica. ValueError naming what is no host."""
        return [_host_and_port(item, self.mysql_port) for item in (self.mysql_read_hosts or "").split(",") if item]

    @model_validator(mode="after")
    def _check_store(self) -> Self:
        if self.engine == "sqlite" and self.environment == "production":
            raise ValueError("the embedded SQLite store is refused where ENVIRONMENT=production; set MYSQL_HOST")
        if self.engine == "mysql" and self.mysql_host is None:
            raise ValueError("ANALYSIS_STORE=mysql needs MYSQL_HOST")
        if self.read_hosts and self.engine == "sqlite":
            raise ValueError("MYSQL_READ_HOSTS are replicas of MYSQL_HOST, which is not set")
        return self


_HOST = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?")


def _host_and_port(text: str, port: int) -> tuple[str, int]:
    found = _HOST.fullmatch(text.strip())
    if found is None or not 0 < int(found["port"] or port) < 65536:
        raise ValueError(
            f"MYSQL_READ_HOSTS: {text.strip()!r} is no host; give host or host:port (an IPv6 address as [::1]:3306), "
            "with commas between"
        )
    return found["v6"] or found["name"], int(found["port"] or port)
