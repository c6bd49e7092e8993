"""What a user of Scorehouse installs: the client, and the `scorehouse` command."""

from scorehouse.calls import Retries, ScorehouseError, StoredResult, UnreachableError
from scorehouse.client import AsyncScorehouse, Scorehouse

__all__ = ["AsyncScorehouse", "Retries", "Scorehouse", "ScorehouseError", "StoredResult", "UnreachableError"]
