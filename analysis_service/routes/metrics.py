"""Figures for Prometheus."""

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

router = APIRouter(tags=["operations"])


@router.get("/metrics", summary="Figures in Prometheus' text format", response_class=PlainTextResponse)
async def get_metrics(request: Request) -> PlainTextResponse:
    """Counts since the service's start, and the state of its pools, its feed and its cache."""
    return PlainTextResponse(generate_latest(request.app.state.metrics), media_type=CONTENT_TYPE_PLAIN_0_0_4)
