"""`/reconciliation`: the stored results compared with the feed."""

from fastapi import APIRouter, Request

from results_service.feed import Feed
from results_service.reconcile import reconcile
from shared.guard import require
from shared.json_lines import JsonLineStream, in_lines
from shared.keys import Scope
from shared.reconciliation import ReconciliationLine, ReconciliationRequest
from shared.web import StrictRoute

router = APIRouter(route_class=StrictRoute, tags=["operations"])


@router.post(
    "/reconciliation",
    response_class=JsonLineStream,
    responses={200: {"model": ReconciliationLine, "description": "A line for each step, then the report"}},
    dependencies=[require(Scope.ADMIN)],
)
async def post_reconciliation(wanted: ReconciliationRequest, request: Request) -> JsonLineStream:
    """Compare each stored result with the feed, and with `repair` append what it lacks."""
    feed: Feed = request.app.state.feed
    return await in_lines(reconcile(request.app.state.mongo, feed, repair=wanted.repair))
