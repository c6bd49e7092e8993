"""`/feed`: what happened to results, for those who keep a projection of them."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from results_service.routes.dependencies import TheFeed
from shared.guard import require
from shared.keys import Scope
from shared.results import FeedEntry

router = APIRouter(tags=["feed"])


class JsonLines(Response):
    """One JSON document a line."""

    media_type = "application/x-ndjson"


class FeedQuery(BaseModel):
    """From where on, and how patiently."""

    model_config = ConfigDict(extra="forbid")

    after: int = Field(default=0, ge=0, le=2**63 - 1, description="The last seq you have; 0 begins at the beginning")
    limit: int = Field(default=1000, ge=1, le=10_000)
    wait_s: float = Field(default=0, ge=0, le=30, description="How long to wait for an entry where there is none yet")


@router.get(
    "/feed",
    response_class=JsonLines,
    responses={200: {"model": FeedEntry, "description": "An entry a line; empty if there is none yet"}},
    dependencies=[require(Scope.RESULTS_READ)],
)
async def read_feed(query: Annotated[FeedQuery, Query()], request: Request, feed: TheFeed) -> JsonLines:
    """Entries after a seq, in order and without gaps: whoever has seen n has seen all below it.

    The header `Feed-Head` has the greatest seq there is, so that a reader knows how far behind it is.
    """
    entries = await feed.read(query.after, query.limit, wait_s=query.wait_s, is_gone=request.is_disconnected)
    head = max(await feed.head(), entries[-1].seq if entries else 0)
    lines = b"".join(entry.model_dump_json().encode() + b"\n" for entry in entries)
    return JsonLines(lines, headers={"Feed-Head": str(head)})
