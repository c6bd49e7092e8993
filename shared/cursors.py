"""Places in lists as opaque words for URLs: `next_cursor` of a page, `cursor` of the next. Pure."""

import base64
import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated, TypeVar

from pydantic import Field, TypeAdapter

from shared.problems import Fault, invalid


def seal(place: Sequence[str | int | None], of: Sequence[object]) -> str:
    """A place in the list that `of` describes, as an opaque word for URLs."""
    parts = [_digest(place, of), *place]
    return base64.urlsafe_b64encode(json.dumps(parts, separators=(",", ":")).encode()).decode()


def unseal(cursor: str, of: Sequence[object], place: "TypeAdapter[_Place]") -> "_Place":
    """The place that `seal` made the word of; InvalidRequest if it is one of another list, or was never one.

    It is checked, but not kept secret: whoever forges one only begins the same list somewhere else.
    """
    try:
        digest, *parts = _ANY_PLACE.validate_json(base64.b64decode(cursor, altchars=b"-_", validate=True))
        found = place.validate_python(tuple(parts), strict=True)
    except ValueError:
        detail = "is not one that a list gave as next_cursor; leave it out to begin at the beginning"
        raise invalid(Fault(place="query.cursor", detail=detail)) from None
    if digest != _digest(parts, of):
        detail = "is of another list or of one with other filters, or it was changed; leave it out to begin again"
        raise invalid(Fault(place="query.cursor", detail=detail))
    return found


def _digest(place: Sequence[str | int | None], of: Sequence[object]) -> str:
    return sha256(json.dumps([*place, *of]).encode()).hexdigest()[:16]


_Place = TypeVar("_Place")
_ANY_PLACE = TypeAdapter(Annotated[list[str | int | None], Field(min_length=1)])
