"""Who may make a request: holders of a key with the right scope, or, where keys are disabled, whoever is here."""

from ipaddress import ip_address
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from shared.keys import KeyRing, Scope
from shared.problems import ForeignSite

_bearer = HTTPBearer(auto_error=False, description="An API key. Not needed where the service runs with AUTH=disabled.")


def require(scope: Scope) -> Any:  # noqa: ANN401 - what FastAPI calls a dependency
    """A dependency: the request's API key must have `scope`; where keys are disabled, a foreign page may not ask."""

    async def check(
        request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
    ) -> None:
        ring: KeyRing | None = request.app.state.keys
        if ring is None:
            _refuse_other_sites(request)
        else:
            ring.authorize(credentials.credentials if credentials else None, scope)

    return Depends(check)


def _refuse_other_sites(request: Request) -> None:
    """Without keys, reaching the service is all it takes, and any page can make a browser on this machine reach it.

    A browser names the page's site in `Origin` where it does more than read. A name that was made to point at this
    machine after the page was loaded is the same site to the browser, but not one of this machine's own names.
    """
    host = request.headers.get("host", "")
    origin = request.headers.get("origin", f"//{host}")
    # The server's end too: the caller's is what X-Forwarded-For says, which a page may set.
    ends = (request.scope.get("client"), request.scope.get("server"))
    is_local = any(end is not None and _is_loopback(end[0]) for end in ends)
    if origin.partition("//")[2] != host or (is_local and not _is_loopback(_host_name(host))):
        raise ForeignSite(f"a page of {origin} may not use this service; only its own pages at {host} may")


def _host_name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:  # an open bracket
        return None


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return False
