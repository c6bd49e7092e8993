"""`/health`: whether results can be stored and read just now."""

from fastapi import APIRouter, Response

from results_service.routes.dependencies import TheFeed
from shared.problems import StoreUnavailable
from shared.results import ResultsHealth, StoreHealth
from shared.version import VERSION

router = APIRouter(tags=["health"])

_PATIENCE_S = 2.0
"""Probes and people want an answer sooner than a write does."""


@router.get("/health", responses={503: {"model": ResultsHealth, "description": "MongoDB is away"}})
async def health(feed: TheFeed, response: Response) -> ResultsHealth:
    """The state of MongoDB, asked now. 503 with the same body while it is away."""
    try:
        head = await feed.head(timeout_s=_PATIENCE_S)
    except StoreUnavailable as problem:
        response.status_code = problem.status
        response.headers["Retry-After"] = str(problem.retry_after_s)
        away = StoreHealth(engine="mongodb", reachable=False, detail="MongoDB does not answer; the log tells why")
        return ResultsHealth(status="unavailable", store=away, feed_head=None, version=VERSION)
    return ResultsHealth(
        status="ok", store=StoreHealth(engine="mongodb", reachable=True), feed_head=head, version=VERSION
    )
