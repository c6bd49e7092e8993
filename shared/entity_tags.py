"""Entity tags: a caller that has an answer already says so, and is told that it still holds. RFC 9110."""

import re
from hashlib import sha256

from starlette.requests import HTTPConnection

_TAG = re.compile(r'(?:W/)?("[^"]*")')


def entity_tag(content: bytes, variant: str = "") -> str:
    """A strong tag of `content`; `variant` tells apart what is sent in different encodings."""
    return f'"{sha256(content).hexdigest()[:32]}{variant}"'


def is_known(request: HTTPConnection, tag: str) -> bool:
    """Whether `If-None-Match` says that the caller has this already."""
    offered = [value for name, value in request.scope["headers"] if name == b"if-none-match"]
    if not offered:
        return False
    known = b",".join(offered).decode("latin-1")
    return known.strip() == "*" or tag in _TAG.findall(known)
