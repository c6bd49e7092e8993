"""Answers to reads: JSON that is text already, and what a caller takes. RFC 9110."""

import re

from fastapi import Request, Response

from shared.entity_tags import entity_tag, is_known
from shared.problems import Fault, invalid

_WEIGHT = re.compile(r"(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)", re.ASCII)


class Json(Response):
    """JSON that is text already."""

    media_type = "application/json"


def refuse_repeats(request: Request) -> None:
    """A dependency: InvalidRequest if a query parameter is given twice, where one of the two would be ignored."""
    names = [name for name, _ in request.query_params.multi_items()]
    repeated = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if repeated:
        raise invalid(*(Fault(place=f"query.{name[:100]}", detail="is given more than once") for name in repeated[:10]))


def read_flag(request: Request, name: str) -> bool:
    """A query parameter that is `true` or `false`, and false where it is not given. InvalidRequest otherwise.

    For routes that read their query themselves.
    """
    value = request.query_params.get(name, "false")
    if value not in ("true", "false"):
        raise invalid(Fault(place=f"query.{name}", detail=f"must be true or false, is {value[:100]!r}"))
    return value == "true"


def takes_zstd(request: Request) -> bool:
    """Whether the caller takes zstd, and nothing else rather."""
    weights = _weights(",".join(request.headers.getlist("accept-encoding")))
    identity = weights.get("identity")
    # "*" alone is sent by those who do not care, and then do not always know zstd.
    zstd = weights.get("zstd", weights.get("*", 0) if identity == 0 else 0)
    return zstd > 0 and zstd >= (identity or 0)


def _weights(header: str) -> dict[str, float]:
    weights = {}
    for entry in header.lower().split(","):
        coding, *parameters = (part.strip() for part in entry.split(";"))
        weight = next((text.removeprefix("q=") for text in parameters if text.startswith("q=")), "1")
        weights[coding] = float(weight) if _WEIGHT.fullmatch(weight) else 0
    return weights


def answer_json(request: Request, body: bytes) -> Response:
    """`body`, or 304 if the caller has it already."""
    headers = {"ETag": entity_tag(body), "Cache-Control": "no-cache"}
    if is_known(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    if request.method == "HEAD":
        return Json(headers=headers | {"Content-Length": str(len(body))})
    return Json(body, headers=headers)
