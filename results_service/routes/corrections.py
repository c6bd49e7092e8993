"""`POST …/{result_name}/invalidation` and `…/restoration`: whether a stored result counts."""

from typing import Annotated

from fastapi import APIRouter, Request

from results_service.corrections import correct
from results_service.routes.dependencies import TheFeed
from shared.guard import require
from shared.keys import Key, Scope
from shared.results import CorrectionAction, CorrectionAnswer, CorrectionRequest, ResultKind
from shared.web import StrictRoute

WriterKey = Annotated[Key | None, require(Scope.RESULTS_WRITE)]


def corrections_router(kind: ResultKind) -> APIRouter:
    """The corrections of one kind of result."""
    router = APIRouter(prefix=f"/{kind}", tags=[kind.value], route_class=StrictRoute)

    @router.post("/{result_name}/invalidation")
    async def invalidate_result(
        result_name: str, correction: CorrectionRequest, key: WriterKey, request: Request, feed: TheFeed
    ) -> CorrectionAnswer:
        """Say that a result does not count. It stays as it is, and leaves every analysis within a second.

        200 with `unchanged` if it was invalidated already.
        """
        mongo = request.app.state.mongo
        return await correct(mongo, feed, kind, result_name, CorrectionAction.INVALIDATED, correction, key)

    @router.post("/{result_name}/restoration")
    async def restore_result(
        result_name: str, correction: CorrectionRequest, key: WriterKey, request: Request, feed: TheFeed
    ) -> CorrectionAnswer:
        """Say that an invalidated result counts after all. 200 with `unchanged` if it is valid already."""
        mongo = request.app.state.mongo
        return await correct(mongo, feed, kind, result_name, CorrectionAction.RESTORED, correction, key)

    return router
