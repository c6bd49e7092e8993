"""MongoDB: the connection, what it promises, and the only place that names Motor."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import structlog
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection
from pydantic import SecretStr
from pymongo import ReadPreference
from pymongo.errors import BulkWriteError, ConfigurationError, ConnectionFailure, OperationFailure
from pymongo.read_concern import ReadConcern
from pymongo.topology_description import TopologyDescription
from pymongo.write_concern import WriteConcern

from shared.problems import StoreUnavailable
from shared.process import StartFailed

log = structlog.get_logger(__name__)

Document: TypeAlias = dict[str, Any]
Collection: TypeAlias = "AsyncIOMotorCollection[Document]"

_PING_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Mongo:
    """A connected database. Writes wait for a majority and its journals, reads see what a majority has."""

    client: "AsyncIOMotorClient[Document]"
    database: str
    timeout_s: float

    def collection(self, name: str) -> Collection:
        """A collection that is read with majority concern."""
        return self.client[self.database][name]

    def hasty(self, name: str) -> Collection:
        """The same, its writes not waited for by a majority: for what would be done again if it were lost."""
        return self.client[self.database].get_collection(name, write_concern=WriteConcern(w=1, j=False))

    def newest(self, name: str) -> Collection:
        """The same, read as the primary has it now: for looking at what a write collided with."""
        return self.client[self.database].get_collection(name, read_concern=ReadConcern("local"))

    @asynccontextmanager
    async def answering(self, timeout_s: float | None = None) -> AsyncIterator[None]:
        """Surrounds calls of the driver: failures, and calls over the time limit, become StoreUnavailable.

        The limit here also counts the wait for one of Motor's threads, all of which may hang on a dead server.
        """
        try:
            async with asyncio.timeout(timeout_s or self.timeout_s):
                yield
        except (ConnectionFailure, OperationFailure, TimeoutError) as error:
            log.warning("MongoDB failed", error=str(error) or type(error).__name__)
            raise StoreUnavailable(
                "MongoDB did not answer as it should, so nothing is promised of this request; send it again in a moment"
            ) from error

    async def ping(self) -> None:
        """Return if the primary answers; otherwise StoreUnavailable, soon."""
        async with self.answering(min(self.timeout_s, _PING_TIMEOUT_S)):
            await self.client.admin.command("ping")

    @property
    def address(self) -> str:
        """The hosts, for a sentence."""
        topology = cast("TopologyDescription", self.client.topology_description)  # a method, Motor's stubs say
        hosts = topology.server_descriptions()
        return "MongoDB at " + ", ".join(sorted(f"{host}:{port}" for host, port in hosts))


@dataclass(frozen=True, slots=True)
class Collision:
    """A document that was not inserted, for a unique key of it is taken."""

    index: int
    """Among the documents that were to be inserted."""
    keys: frozenset[str]
    """The fields of that key."""


def collisions(error: BulkWriteError) -> list[Collision]:
    """What was not inserted; raises `error` itself if anything but taken keys went wrong.

    A write concern that was not met is such a thing: what is in has then perhaps no majority.
    """
    faults = error.details["writeErrors"]
    if error.details["writeConcernErrors"] or any(fault["code"] != _DUPLICATE_KEY for fault in faults):
        raise error
    return [Collision(int(fault["index"]), frozenset(fault["keyPattern"])) for fault in faults]


_DUPLICATE_KEY = 11000


@asynccontextmanager
async def connect(url: SecretStr, database: str, timeout_s: float) -> AsyncIterator[Mongo]:
    """A client for `url`, closed at the end. It connects when first used, and again whenever it must."""
    milliseconds = int(timeout_s * 1000)
    try:
        client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(
            url.get_secret_value(),
            appname="scorehouse-results",
            tz_aware=True,
            # These outrank what the URL says: acknowledgements and the feed's order rest on them.
            w="majority",
            journal=True,
            readConcernLevel="majority",
            read_preference=ReadPreference.PRIMARY,
            serverSelectionTimeoutMS=milliseconds,
            connectTimeoutMS=milliseconds,
            timeoutMS=milliseconds,
        )
    except (ConfigurationError, ValueError) as error:
        raise StartFailed(f"MONGO_URL cannot be used: {error}") from None
    try:
        yield Mongo(client, database, timeout_s)
    finally:
        client.close()
