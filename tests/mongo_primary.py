"""Whether a mongod takes writes, for tests that start one; a new replica set of one is initiated on the way."""

from typing import Any

import pymongo
from pymongo.errors import ConnectionFailure, OperationFailure


def takes_writes(port: int) -> bool:
    """Whether the mongod on this port is a primary, or a standalone, by now. Ask until it is."""
    options: dict[str, Any] = {"directConnection": True, "serverSelectionTimeoutMS": 200}
    with pymongo.MongoClient[dict[str, Any]](port=port, **options) as client:
        try:
            if client.admin.command("hello")["isWritablePrimary"]:
                return True
            members = [{"_id": 0, "host": f"127.0.0.1:{port}"}]
            client.admin.command("replSetInitiate", {"_id": "rs0", "members": members})
        except (ConnectionFailure, OperationFailure):
            pass  # not up yet, or initiated already and electing
    return False
