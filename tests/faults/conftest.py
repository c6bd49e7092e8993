"""Both services as processes over real stores, for tests that treat them badly."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from scorehouse.sample import sample_documents
from tests.faults.fleet import Member, free_port, mongo_url, mongod_member, service_member, wait_until

SCOPES = {"writer": ("results:write",), "reader": ("results:read", "analysis:read"), "admin": ("admin",)}


@dataclass(frozen=True)
class Services:
    """Clients of both services, which have the sample in them; `keys` has a key of each kind, or nothing."""

    results: httpx.Client
    analysis: httpx.Client
    keys: dict[str, str]
    members: dict[str, Member]

    def headers(self, key: str) -> dict[str, str]:
        """What a request with this key carries."""
        return {"Authorization": f"Bearer {self.keys[key]}"} if self.keys else {}


def _start(stack: ExitStack, folder: Path, database: str, mongod: Member, mongod_url: str, *, keys: bool) -> Services:
    secrets = {name: f"{name}-{database}-key-of-a-good-length" for name in SCOPES} if keys else {}
    auth = {"AUTH": "disabled"}
    if keys:
        file = folder / "keys.toml"
        file.write_text(
            "".join(
                f'[[keys]]\nid = "{name}"\nsha256 = "{sha256(secrets[name].encode()).hexdigest()}"\n'
                f"scopes = {json.dumps(SCOPES[name])}\n"
                for name in secrets
            )
        )
        auth = {"AUTH": "keys", "API_KEYS_FILE": str(file), "RESULTS_API_KEY": secrets["reader"]}
    ports = {name: free_port() for name in ("results", "analysis")}
    urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    settings = {
        "results": {"MONGO_URL": mongod_url, "MONGO_DATABASE": database},
        "analysis": {"SQLITE_PATH": str(folder / "analysis.sqlite"), "RESULTS_URL": urls["results"]},
    }
    members = {"mongod": mongod}
    for name, own in settings.items():
        member = service_member(name, folder / name, ports[name], own | auth)
        stack.callback(member.stop)
        member.start()
        members[name] = member
    clients = {
        name: stack.enter_context(httpx.Client(base_url=url, timeout=30, trust_env=False)) for name, url in urls.items()
    }
    services = Services(clients["results"], clients["analysis"], secrets, members)
    for member in members.values():
        wait_until(member.is_ready, f"{member.name} is ready")
    for document in sample_documents():
        body = json.dumps(document)
        answer = services.results.post("/standardized_output", content=body, headers=services.headers("admin"))
        assert answer.status_code == 201, answer.text
        if document["benchmark_name"] == "aime":
            services.results.post("/raw_input", content=body, headers=services.headers("admin"))
    wait_until(lambda: _lag(services) == 0, "the sample is applied")
    return services


def _lag(services: Services) -> int | None:
    head = services.results.get("/health").json()["feed_head"]
    position = services.analysis.get("/health").json()["feed"]["position"]
    return None if position is None else int(head - position)


@pytest.fixture(scope="session")
def mongod_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Member, str]]:
    """A mongod for this folder's tests, and its URL."""
    port = free_port()
    mongod = mongod_member(tmp_path_factory.mktemp("mongod"), port)
    mongod.start()
    try:
        wait_until(mongod.is_ready, "mongod is ready")
        yield mongod, mongo_url(port, replica_set=True)
    finally:
        mongod.stop()


@pytest.fixture(scope="session")
def open_services(mongod_process: tuple[Member, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Services that let everyone in."""
    with ExitStack() as stack:
        yield _start(stack, tmp_path_factory.mktemp("open"), "open", *mongod_process, keys=False)


@pytest.fixture(scope="session")
def keyed_services(mongod_process: tuple[Member, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Services that ask for keys."""
    with ExitStack() as stack:
        yield _start(stack, tmp_path_factory.mktemp("keyed"), "keyed", *mongod_process, keys=True)


@dataclass(frozen=True)
class Stored:
    """What is in a store, as far as a list and the feed tell."""

    names: frozenset[str]
    feed_head: int


def stored(services: Services) -> Stored:
    """Everything that the results service has."""
    headers = services.headers("admin")
    names: set[str] = set()
    for kind in ("raw_input", "standardized_output"):
        cursor: dict[str, str] = {}
        while True:
            answer = services.results.get(f"/{kind}", params={"limit": "1000", **cursor}, headers=headers)
            page = answer.json()
            names |= {f"{kind}/{item['result_name']} {item['sha256']} {item['state']}" for item in page["items"]}
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
    return Stored(frozenset(names), services.results.get("/health").json()["feed_head"])


@pytest.fixture
def nothing_changes(open_services: Services) -> Iterator[None]:
    """Around a test that may not store anything; afterwards both services still answer."""
    before = stored(open_services)
    yield
    assert stored(open_services) == before
    assert open_services.analysis.get("/health").json()["status"] == "ok"
