"""Whether the service can answer, and how far it has come."""

import asyncio
from dataclasses import asdict

from fastapi import APIRouter, Request, Response

from analysis_service.database import Database
from analysis_service.projection.consumer import Progress
from shared.analysis import AnalysisHealth, FeedHealth, PoolHealth, ReplicaHealth
from shared.problems import Problem
from shared.results import StoreHealth
from shared.version import VERSION

router = APIRouter(tags=["operations"])

_PATIENCE_S = 2.0
"""Probes want an answer sooner than a question does."""


@router.get("/health", summary="State of the store, the pool and the feed", responses={503: {"model": AnalysisHealth}})
async def get_health(request: Request, response: Response) -> AnalysisHealth:
    """200 while questions can be answered; 503 with the same body while the SQL store is away."""
    database: Database = request.app.state.reader.database
    progress: Progress = request.app.state.progress
    detail = await _fault(database)
    if detail is not None:
        response.status_code = 503
        response.headers["Retry-After"] = "2"
    stopped = progress.stopped
    status = "unavailable" if detail else "degraded" if stopped or progress.head is None else "ok"
    replicas = [
        ReplicaHealth(host=host.host, used=host.is_used, behind=host.is_behind, pool=PoolHealth(**asdict(host.pool)))
        for host in database.hosts()
        if host.is_replica
    ]
    return AnalysisHealth(
        status=status,
        store=StoreHealth(engine=database.dialect.engine, reachable=detail is None, detail=detail),
        pool=PoolHealth(**asdict(database.pool_state())),
        replicas=replicas,
        feed=FeedHealth(position=progress.position, lag=progress.lag, applying=progress.applying, stopped=stopped),
        version=VERSION,
    )


async def _fault(database: Database) -> str | None:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await database.ping()
    except Problem as problem:
        return problem.detail
    except TimeoutError:
        return f"The SQL store did not answer within {_PATIENCE_S:g} s."
    return None
