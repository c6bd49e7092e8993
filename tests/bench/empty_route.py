"""The peer of the analysis service: a FastAPI POST route that has its answers ready, and does nothing else.

It reads the body and returns the answer prepared for it, of the size that the service's answer has. The file that
EMPTY_ROUTE_ANSWERS names maps bodies to sizes.
"""

import json
import os
from pathlib import Path

from fastapi import FastAPI, Request, Response

_SIZES: dict[str, int] = json.loads(Path(os.environ["EMPTY_ROUTE_ANSWERS"]).read_text(encoding="utf-8"))
_ANSWERS = {body.encode(): Response(b"x" * size, media_type="application/json") for body, size in _SIZES.items()}

app = FastAPI()


@app.post("/analysis")
async def post_analysis(request: Request) -> Response:
    """The answer prepared for this body."""
    return _ANSWERS[await request.body()]


@app.get("/health")
async def get_health() -> None:
    """That it is up."""
