"""Who may make a request: holders of a key with the right scope, or, where keys are disabled, whoever is here."""

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from shared.key_ring import KeyRing
from shared.keys import Key, Scope
from shared.problems import ForeignSite
from shared.rate_limits import RateLimits

_bearer = HTTPBearer(auto_error=False, description="An API key. Not needed where the service runs with AUTH=disabled.")


@dataclass(frozen=True, slots=True)
class Requirement:
    """A dependency of FastAPI's: whoever makes the request must have this scope."""

    scope: Scope

    async def __call__(
        self, request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
    ) -> Key | None:
        """The key that the request is made with."""
        return await admit(request, self.scope)


def require(scope: Scope) -> Any:  # noqa: ANN401 - what FastAPI calls a dependency
    """A dependency: the request's API key must have `scope`; where keys are disabled, a foreign page may not ask."""
    return Depends(Requirement(scope))


async def admit(request: Request, scope: Scope) -> Key | None:
    """The key that the request is made with, which has `scope`; None where keys are disabled. Counts the request.

    For routes that read their requests themselves; others declare `require(scope)`.
    """
    ring: KeyRing | None = request.app.state.keys
    if ring is None:
        _refuse_other_sites(request)
        key = None
    else:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        # Servers leave the spaces after a header's value to us.
        key = ring.authorize(token.strip() if scheme.lower() == "bearer" and token.strip() else None, scope)
        request.state.key_id = key.id  # for the log
    limits: RateLimits | None = request.app.state.rate_limits
    if limits is not None:
        await _count(request, limits, key, scope)
    return key


async def _count(request: Request, limits: RateLimits, key: Key | None, scope: Scope) -> None:
    if request.scope.setdefault("scorehouse.counted", False):
        return  # a second dependency of the same request
    request.scope["scorehouse.counted"] = True
    address = request.client.host if request.client else "unknown"
    caller = f"the API key {key.id!r}" if key else f"the address {address}"
    await limits.count(caller, writes=scope in (Scope.RESULTS_WRITE, Scope.ADMIN))


def _refuse_other_sites(request: Request) -> None:
    """Without keys, reaching the service is all it takes, and any page can make a browser on this machine reach it.

    A browser names the page's site in `Origin` where it does more than read. A name that was made to point at this
    machine after the page was loaded is the same site to the browser, but not one of this machine's own names.
    """
    first = dict(reversed(request.scope["headers"]))
    host = first.get(b"host", b"").decode("latin-1")
    origin = first[b"origin"].decode("latin-1") if b"origin" in first else f"//{host}"
    # The server's end too: the caller's is what X-Forwarded-For says, which a page may set.
    client, server = request.scope.get("client"), request.scope.get("server")
    if not _is_own_page(host, origin, client[0] if client else None, server[0] if server else None):
        raise ForeignSite(f"a page of {origin} may not use this service; only its own pages at {host} may")


@lru_cache(maxsize=256)
def _is_own_page(host: str, origin: str, client: str | None, server: str | None) -> bool:
    is_local = _is_loopback(client) or _is_loopback(server)
    return origin.partition("//")[2] == host and (not is_local or _is_loopback(_host_name(host)))


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
