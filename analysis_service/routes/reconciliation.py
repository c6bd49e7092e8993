"""`/reconciliation`: the projection compared with the feed."""

from fastapi import APIRouter, Request

from analysis_service.reconcile import Mending, Reconciler
from shared.guard import require
from shared.json_lines import JsonLineStream, in_lines
from shared.keys import Scope
from shared.reconciliation import ProjectionReconciliationRequest, ReconciliationLine
from shared.web import StrictRoute

router = APIRouter(route_class=StrictRoute, tags=["operations"])


@router.post(
    "/reconciliation",
    summary="Compare the projection with the feed, and mend it",
    response_class=JsonLineStream,
    responses={200: {"model": ReconciliationLine, "description": "A line for each step, then the report"}},
    dependencies=[require(Scope.ADMIN)],
)
async def post_reconciliation(wanted: ProjectionReconciliationRequest, request: Request) -> JsonLineStream:
    """What is applied against the feed up to the position, and runs' sums against their answers.

    `repair` applies anew, and removes what the feed lacks.
    """
    reconciler: Reconciler = request.app.state.reconciler
    mending = Mending.ALL if wanted.repair else Mending.NONE
    return await in_lines(reconciler.compare(mending, sums=wanted.sums))
