"""Uploads that no result names, left by a crash or by a failure: they are removed after a day."""

from datetime import UTC, datetime, timedelta

import structlog

from results_service.blobs import IS_UPLOAD, delete_upload, uploads_begun
from results_service.mongo import Mongo
from shared.results import ResultKind

log = structlog.get_logger(__name__)

UPLOAD_MAX_AGE = timedelta(days=1)
"""An upload that is older and that no result names was abandoned. Generous: clocks disagree, bodies are slow."""


class AbandonedUploads:
    """The abandoned uploads of one database."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._judged = ""
        """The last upload that was looked at. Results are never deleted, so what is kept once is kept for ever, and
        each look is at those uploads alone that have become old enough since."""

    async def remove(self) -> None:
        """Remove those that are there now."""
        while old := await uploads_begun(self._mongo, self._judged, datetime.now(UTC) - UPLOAD_MAX_AGE):
            named: set[str] = set()
            for kind in ResultKind:
                wanted = {"$and": [IS_UPLOAD, {"blob": {"$in": old}}]}
                async with self._mongo.answering():
                    found = await self._mongo.newest(kind).find(wanted, {"_id": 0, "blob": 1}).to_list(None)
                named |= {document["blob"] for document in found}
            for blob in old:
                if blob not in named:
                    log.info("removing an upload that no result names", blob=blob)
                    await delete_upload(self._mongo, blob)
            self._judged = old[-1]
