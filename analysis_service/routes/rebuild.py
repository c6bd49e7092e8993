"""`/rebuild`: every result applied anew from the results service, and how far that has come."""

from fastapi import APIRouter, Request

from analysis_service.projection.apply import Projection
from analysis_service.projection.consumer import Progress
from analysis_service.reader import Reader
from shared.guard import require
from shared.keys import Scope
from shared.problems import invalid, unknown_value
from shared.rebuilds import RebuildRequest, RebuildState
from shared.web import StrictRoute

router = APIRouter(route_class=StrictRoute, dependencies=[require(Scope.ADMIN)], tags=["operations"])


@router.post("/rebuild", status_code=202, summary="Apply results anew from the results service")
async def post_rebuild(wanted: RebuildRequest, request: Request) -> RebuildState:
    """Begins, and answers at once. It goes on in the background, after a restart too; answers stay right meanwhile."""
    projection: Projection = request.app.state.reconciler.projection
    progress: Progress = request.app.state.progress
    await _mark(projection, request.app.state.reader, wanted.benchmark)
    progress.begin_rebuild()
    return await _state(request)


@router.get("/rebuild", summary="How far applying has come")
async def get_rebuild(request: Request) -> RebuildState:
    """What is still to be applied anew, and the feed."""
    return await _state(request)


async def _mark(projection: Projection, reader: Reader, benchmark: str | None) -> None:
    registered = reader.registry.benchmarks
    if benchmark is not None and benchmark not in registered:
        raise invalid(unknown_value("benchmark", benchmark, registered, what="benchmark"))
    await projection.mark_outdated(benchmark)


async def _state(request: Request) -> RebuildState:
    progress: Progress = request.app.state.progress
    projection: Projection = request.app.state.reconciler.projection
    reader: Reader = request.app.state.reader
    fingerprints = {name: spec.fingerprint for name, spec in reader.registry.benchmarks.items()}
    return RebuildState(
        outdated=await projection.count_outdated(fingerprints),
        position=progress.position,
        head=progress.head,
        lag=progress.lag,
        results_applied=progress.results_applied,
        answers_applied=progress.answers_applied,
        applying=progress.applying,
        stopped=progress.stopped,
    )
