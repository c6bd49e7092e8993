"""/metrics: what Prometheus reads, and that it is what happened; and the pool's settings as /health tells them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pypika import CustomFunction, MySQLQuery

from analysis_service.app import create_app
from analysis_service.database.mysql import MysqlAddress
from analysis_service.settings import AnalysisSettings
from shared.metrics import BOUNDS_S, UNMATCHED, Durations, RequestCounts
from shared.problems import PoolExhausted
from tests.api.conftest import Stack, run_stack, until
from tests.sql_servers import own_database

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
Figures: TypeAlias = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def result(run_id: str) -> dict[str, Any]:
    question = {"question_id": "q1", "score": 1.0, "metadata": {"subject": "Algebra", "level": 1}}
    return {
        "run_id": run_id,
        "benchmark_name": "math500",
        "timestamp": "2024-01-01T00:00:00Z",
        "model_id": "gpt-4",
        "source": "test",
        "data": {"questions": [question]},
    }


async def read_figures(client: httpx.AsyncClient) -> Figures:
    """(Name, labels) → value, as Prometheus would read them."""
    response = await client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def figure(figures: Figures, name: str, **labels: str) -> float | None:
    return figures.get((f"scorehouse_{name}", frozenset(labels.items())))


async def test_figures_are_what_happened(stack: Stack) -> None:
    await stack.push(result("r1"), result("r2"))
    for _ in range(3):
        assert (await stack.analyze(benchmark="math500", level1="subject")).status_code == 200
    assert (await stack.analyze(benchmark="nothing", level1="subject")).status_code == 422
    figures = await read_figures(stack.analysis)
    of_analysis = {"method": "POST", "route": "/analysis"}
    assert figure(figures, "request_seconds_count", **of_analysis, status="200") == 3
    assert figure(figures, "request_seconds_count", **of_analysis, status="422") == 1
    assert figure(figures, "request_seconds_bucket", **of_analysis, status="200", le="+Inf") == 3
    assert figure(figures, "feed_position") == 2
    assert (figure(figures, "feed_lag"), figure(figures, "feed_stopped")) == (0, 0)
    assert figure(figures, "results_applied_total") == 2
    assert figure(figures, "cache_requests_total", outcome="miss") == 2, "the refused one, too, was not there"
    assert figure(figures, "cache_requests_total", outcome="hit") == 2
    assert figure(figures, "cache_entries") == 1
    versions = figure(figures, "read_seconds_count", query="store version") or 0
    assert versions >= 1
    assert figure(figures, "read_rows_total", query="store version") == versions
    assert (figure(figures, "snapshots_total", host="sqlite", role="primary") or 0) >= versions
    assert (figure(figures, "pool_acquire_seconds_count", host="sqlite") or 0) >= versions
    assert figure(figures, "pool_size", host="sqlite") == 4
    assert (figures["process_resident_memory_bytes", frozenset()]) > 1e6


async def test_operations_has_each_figure_with_its_labels(stack: Stack) -> None:
    await stack.push(result("r1"))
    section = OPERATIONS.read_text(encoding="utf-8").partition("\n## Metrics\n")[2].partition("\n## ")[0]
    documented = {}
    for names, labels in re.findall(r"^\| (`[^|]*) \| ([^|]*) \|", section, flags=re.MULTILINE):
        for name, kind in re.findall(r"`(\w+)`( \(histogram\))?", names):
            documented[name, bool(kind)] = set(labels.replace("–", "").replace(",", " ").split())
    told: dict[tuple[str, bool], set[str]] = {}
    for family in text_string_to_metric_families((await stack.analysis.get("/metrics")).text):
        if family.name.startswith("scorehouse_"):
            name = family.name.removeprefix("scorehouse_") + ("_total" if family.type == "counter" else "")
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            told[name, family.type == "histogram"] = labels
    assert told.keys() == documented.keys()
    without_replicas = {("replica_up", False), ("replica_behind", False)}
    assert {key for key in told if told[key] != documented[key]} == without_replicas


async def test_another_application_counts_for_itself(sample_stack: Stack, stack: Stack) -> None:
    await stack.analysis.get("/analysis/summary")
    assert figure(await read_figures(stack.analysis), "feed_position") in (None, 0)
    assert (figure(await read_figures(sample_stack.analysis), "feed_position") or 0) > 0


async def test_routes_are_few_whatever_callers_ask_for(stack: Stack) -> None:
    for path in ("/benchmarks/mmlu/metadata", "/v1/benchmarks/hle/metadata", "/v1/benchmarks/nope/metadata"):
        await stack.analysis.get(path)
    for number in range(5):
        await stack.analysis.get(f"/nothing-{number}")
        await stack.analysis.request(f"VERB{number}", f"/nothing-{number}")
    await stack.analysis.post("/v1/analysis", json={"benchmark": "mmlu", "level1": "subject"})
    figures = await read_figures(stack.analysis)
    asked = {
        (labels["method"], labels["route"], labels["status"]): value
        for (name, pairs), value in figures.items()
        if name == "scorehouse_request_seconds_count" and (labels := dict(pairs))
    }
    assert asked == {
        ("GET", "/benchmarks/{benchmark}/metadata", "200"): 2,
        ("GET", "/benchmarks/{benchmark}/metadata", "404"): 1,
        ("GET", UNMATCHED, "404"): 5,
        ("other", UNMATCHED, "404"): 5,
        ("POST", "/analysis", "200"): 1,
    }


async def test_no_key_is_asked_for(mongo_url: str, mongo_database: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text("")
    changes = {"auth": "keys", "api_keys_file": keys}
    async with run_stack(mongo_url, mongo_database, tmp_path / "a.sqlite", **changes) as stack:
        assert (await stack.analysis.get("/analysis/summary")).status_code == 401
        await read_figures(stack.analysis)


async def test_the_settings_of_the_pool_are_those_of_the_environment(
    mariadb: MysqlAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    with own_database(mariadb) as address:
        environment = {
            "AUTH": "disabled",
            "MYSQL_HOST": address.host,
            "MYSQL_PORT": str(address.port),
            "MYSQL_USER": address.user,
            "MYSQL_PASSWORD": address.password,
            "MYSQL_DATABASE": address.database,
            "MYSQL_READ_HOSTS": f"127.0.0.1:1, [::1]:2,{address.host}",
            "MYSQL_READ_RETRY_S": "0.1",
            "DB_POOL_SIZE": "1",
            "DB_MAX_OVERFLOW": "2",
            "DB_POOL_TIMEOUT_S": "0.2",
            "DB_POOL_RECYCLE_S": "0.000001",
            "SLOW_QUERY_MS": "0.0001",
            "RESULTS_URL": "http://127.0.0.1:1",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        app = create_app(AnalysisSettings())
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            database = app.state.reader.database
            with pytest.raises(PoolExhausted, match=r"All 3 database connections stayed in use for 0\.2 s"):
                await _hold(database, 4)
            query = MySQLQuery.select(CustomFunction("CONNECTION_ID")())
            numbers = set()
            for _ in range(3):
                async with database.transaction() as session:
                    numbers |= set(await session.fetch(query, "rows of a test"))
            assert len(numbers) == 3, "each is too old when it is wanted again"
            await until(lambda: _is_idle(client))
            health = (await client.get("/health")).json()
            assert (health["pool"]["size"], health["pool"]["overflow"]) == (1, 0)
            primary = f"{address.host}:{address.port}"
            assert [(replica["host"], replica["used"]) for replica in health["replicas"][:2]] == [
                ("127.0.0.1:1", False),
                ("[::1]:2", False),
            ]
            assert health["replicas"][2]["host"] == primary
            figures = await read_figures(client)
            assert figure(figures, "replica_up", host="127.0.0.1:1") == 0
            assert figure(figures, "pool_size", host=primary) == 1
            assert (figure(figures, "slow_reads_total", query="feed state row") or 0) >= 1


async def _hold(database: Any, count: int) -> None:
    """Take so many connections at a time."""
    if count:
        async with database.transaction():
            await _hold(database, count - 1)


async def _is_idle(client: httpx.AsyncClient) -> bool:
    return bool((await client.get("/health")).json()["pool"]["in_use"] == 0)


@pytest.mark.parametrize(
    ("hosts", "read"),
    [
        (None, []),
        ("", []),
        ("db2", [("db2", 3307)]),
        ("db2:3310, db3,", [("db2", 3310), ("db3", 3307)]),
        ("db2:3310, db3", [("db2", 3310), ("db3", 3307)]),
        ("10.0.0.7,[fd00::7]:3306,[::1]", [("10.0.0.7", 3307), ("fd00::7", 3306), ("::1", 3307)]),
        ("db2:0", None),
        ("db2:70000", None),
        ("db2:", None),
        ("mysql://db2", None),
        ("fd00::7", None),
        ("db 2", None),
    ],
)
def test_read_hosts(hosts: str | None, read: list[tuple[str, int]] | None) -> None:
    given: dict[str, Any] = {"mysql_host": "db1", "mysql_port": 3307, "auth": "disabled", "mysql_read_hosts": hosts}
    if read is None:
        with pytest.raises(ValueError, match=r"MYSQL_READ_HOSTS: .* is no host; give host or host:port"):
            AnalysisSettings(**given)
    else:
        assert AnalysisSettings(**given).read_hosts == read


def test_read_hosts_need_a_primary() -> None:
    with pytest.raises(ValueError, match="MYSQL_READ_HOSTS are replicas of MYSQL_HOST"):
        AnalysisSettings(auth="disabled", mysql_read_hosts="db2")


def test_durations_fall_into_their_classes() -> None:
    durations = Durations()
    for seconds in (0.0, 0.001, 0.0011, 0.2, 10.0, 11.0):
        durations.add(seconds)
    cumulative = dict(durations.cumulative())
    assert [cumulative[bound] for bound in ("0.001", "0.0025", "0.1", "0.25", "10.0", "+Inf")] == [2, 3, 3, 4, 5, 6]
    assert (durations.count, len(cumulative)) == (6, len(BOUNDS_S) + 1)
    assert durations.total_s == pytest.approx(21.2021)


def test_requests_are_counted_by_kind() -> None:
    counts = RequestCounts()
    for method, status in (("GET", 200), ("GET", 200), ("GET", 404), ("BREW", 200)):
        counts.add(method, "/a", status, 0.1)
    assert {kind: durations.count for kind, durations in counts.by_kind().items()} == {
        ("GET", "/a", 200): 2,
        ("GET", "/a", 404): 1,
        ("other", "/a", 200): 1,
    }
