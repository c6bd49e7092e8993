"""What a user of Scorehouse installs: the client, and the `scorehouse` command."""

from scorehouse.blocking import Scorehouse
from scorehouse.calls import ScorehouseError, StoredResult, UnreachableError
from scorehouse.client import AsyncScorehouse
from scorehouse.documents import FilePart
from scorehouse.retries import Retries
from scorehouse.spool import Flushed, Spool, Spooled, SpoolError

__all__ = [
    "AsyncScorehouse",
    "FilePart",
    "Flushed",
    "Retries",
    "Scorehouse",
    "ScorehouseError",
    "Spool",
    "SpoolError",
    "Spooled",
    "StoredResult",
    "UnreachableError",
]
