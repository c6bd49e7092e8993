"""What must hold when a fault run has come to rest: the clients' journals against both services and the SQL store."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from math import isclose
from typing import Any
from urllib.parse import quote

import httpx
import msgspec

from tests.faults.fleet import Fleet
from tests.faults.pusher import Acknowledgement
from tests.faults.workload import BENCHMARK, Document, Expected, Plan, sums_of

SHOWN = 5


@dataclass(slots=True)
class Ledger:
    """What clients were told, and what they may have stored without hearing of it."""

    stored: dict[str, Document] = field(default_factory=dict)
    """Path → what was acknowledged."""
    possible: dict[str, list[Document]] = field(default_factory=dict)
    """Path → what was under way when its client went for good."""
    refused: list[Document] = field(default_factory=list)
    """What was answered with a conflict."""
    invalid: set[str] = field(default_factory=set)
    """Paths."""
    unsure: set[str] = field(default_factory=set)
    """Paths whose correction was under way."""
    created: Counter[str] = field(default_factory=Counter)
    """Path → how often its client was told that it had created it."""

    def take(self, plan: Plan, journal: Iterable[Acknowledgement]) -> None:
        """Add one client's."""
        told = {line.key: line for line in journal}
        last = max((line.step for line in told.values()), default=-1)
        for step in plan.steps():
            for task in step.tasks:
                self._take(task.expected, task.document, told[task.key].outcome if task.key in told else None)
            if step.number > last:
                return

    def _take(self, expected: Expected, document: Document, outcome: str | None) -> None:
        path = document.path
        match expected, outcome:
            case ((Expected.INVALIDATED | Expected.RESTORED), None):
                self.unsure.add(path)
            case Expected.INVALIDATED, _:
                self.invalid.add(path)
            case Expected.RESTORED, _:
                self.invalid.discard(path)
            case ((Expected.UNCHANGED | Expected.CONFLICT), _):
                if expected is Expected.CONFLICT:
                    self.refused.append(document)  # also what was never answered must not have replaced anything
            case _, None:
                self.possible.setdefault(path, []).append(document)
            case _, "conflict":
                self.refused.append(document)
            case _:
                before = self.stored.setdefault(path, document)
                assert before.data == document.data, f"two clients were told that theirs is stored: {document.name}"
                self.created[path] += outcome == "created"


@dataclass(frozen=True, slots=True)
class Found:
    """A result as the service gave it."""

    name: str
    sha256: str
    state: str
    data: bytes
    received_at: str


class _Detail(msgspec.Struct):
    result_name: str
    sha256: str
    state: str
    received_at: str
    data: msgspec.Raw


async def check(fleet: Fleet, ledger: Ledger) -> dict[str, int]:
    """Counts of what was compared; AssertionError tells what is not as it must be."""
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
        found = await _read_all(http, fleet)
        valid = _check_stored(found, ledger)
        feed = await _check_feed(http, fleet, found)
        _check_projection(fleet, found, await _live(http, fleet))
        for url in fleet.analysis_urls:
            await _check_sums(http, url, valid)
    return {"results": len(found), "feed entries": feed, "runs applied": len(valid)}


async def _read_all(http: httpx.AsyncClient, fleet: Fleet) -> dict[str, Found]:
    """Path → result, as both instances of the service list them."""
    paths: list[list[str]] = []
    for url in fleet.results_urls:
        paths.append([path for kind in ("raw_input", "standardized_output") async for path in _walk(http, url, kind)])
        twice = [path for path, times in Counter(paths[-1]).items() if times > 1]
        assert not twice, f"listed twice: {twice[:SHOWN]}"
    assert set(paths[0]) == set(paths[1]), "the instances list different results"
    places = asyncio.Semaphore(8)

    async def read(path: str) -> Found:
        async with places:
            answer = await http.get(fleet.results_urls[0] + path)
        assert answer.status_code == 200, f"{path} is listed, and read: {answer.status_code} {answer.text[:300]}"
        detail = msgspec.json.decode(answer.content, type=_Detail)
        return Found(detail.result_name, detail.sha256, detail.state, bytes(detail.data), detail.received_at)

    return dict(zip(paths[0], await asyncio.gather(*map(read, paths[0])), strict=True))


async def _walk(http: httpx.AsyncClient, url: str, kind: str) -> Any:
    cursor: dict[str, str] = {}
    while True:
        page = (await http.get(f"{url}/{kind}", params={"limit": "200", **cursor})).json()
        for item in page["items"]:
            yield f"/{kind}/{quote(item['result_name'], safe='')}"
        if page["next_cursor"] is None:
            return
        cursor = {"cursor": page["next_cursor"]}


def _check_stored(found: Mapping[str, Found], ledger: Ledger) -> dict[str, Document]:
    """The documents that are valid and standardized, by name."""
    lost = sorted(ledger.stored.keys() - found.keys())
    assert not lost, f"{len(lost)} acknowledged, and lost: {lost[:SHOWN]}"
    foreign = sorted(found.keys() - ledger.stored.keys() - ledger.possible.keys())
    assert not foreign, f"{len(foreign)} that nobody pushed: {foreign[:SHOWN]}"
    valid = {}
    for path, result in found.items():
        candidates = [ledger.stored[path]] if path in ledger.stored else ledger.possible.get(path, [])
        document = next((one for one in candidates if one.data == result.data), None)
        assert document is not None, f"{path} has other data than was pushed"
        assert result.sha256 == sha256(result.data).hexdigest(), f"{path} has another digest than its data"
        if path not in ledger.unsure:
            assert (result.state == "invalidated") == (path in ledger.invalid), f"{path} is {result.state}"
        if document.kind == "standardized_output" and result.state == "valid":
            valid[document.name] = document
    replaced = [one.name for one in ledger.refused if one.path in found and found[one.path].data == one.data]
    assert not replaced, f"answered with a conflict, and stored: {replaced[:SHOWN]}"
    often = [path for path, times in ledger.created.items() if times > 1]
    assert not often, f"created more than once: {often[:SHOWN]}"
    return valid


async def _check_feed(http: httpx.AsyncClient, fleet: Fleet, found: Mapping[str, Found]) -> int:
    """The number of entries."""
    entries: list[dict[str, Any]] = []
    while True:
        answer = await http.get(f"{fleet.results_urls[0]}/feed", params={"after": len(entries), "limit": 1000})
        lines = [json.loads(line) for line in answer.content.split(b"\n") if line]
        if not lines:
            break
        entries += lines
    assert [entry["seq"] for entry in entries] == list(range(1, len(entries) + 1)), "the feed has gaps"
    told = Counter(entry["href"] for entry in entries if entry["kind"] in ("result", "finished"))
    standardized = {path for path in found if path.startswith("/standardized_output/")}
    assert set(told) == standardized, f"not in the feed: {sorted(standardized - told.keys())[:SHOWN]}"
    assert set(told.values()) <= {1}, f"in the feed more than once: {told.most_common(SHOWN)}"
    about = [entry for entry in entries if entry["href"] in found]
    assert all(found[entry["href"]].sha256 == entry["sha256"] for entry in about), "an entry has another digest"
    parts = Counter((entry["result_name"], entry["sha256"]) for entry in entries if entry["kind"] == "part")
    assert set(parts.values()) <= {1}, f"parts in the feed more than once: {parts.most_common(SHOWN)}"
    return len(entries)


async def _live(http: httpx.AsyncClient, fleet: Fleet) -> set[str]:
    """The names of the live runs that have parts and are not finished: those whose client went for good."""
    answer = await http.get(f"{fleet.results_urls[0]}/live_runs", params={"state": "live", "limit": 1000})
    if answer.status_code == 404:
        return set()
    return {item["result_name"] for item in answer.json()["items"] if item["parts"]}


def _check_projection(fleet: Fleet, found: Mapping[str, Found], live: set[str]) -> None:
    standardized = {one.name: one for path, one in found.items() if path.startswith("/standardized_output/")}
    applied = dict(fleet.rows("SELECT result_name, state FROM applied"))
    expected = {name: "applied" if one.state == "valid" else "invalidated" for name, one in standardized.items()}
    expected |= dict.fromkeys(live, "applied")
    wrong = {name for name in applied.keys() | expected.keys() if applied.get(name) != expected.get(name)}
    assert not wrong, (
        f"applied otherwise than stored: {[(n, applied.get(n), expected.get(n)) for n in sorted(wrong)[:SHOWN]]}"
    )
    runs = Counter(name for (name,) in fleet.rows("SELECT result_name FROM runs"))
    assert set(runs) == {name for name, state in expected.items() if state == "applied"}, "runs without a valid result"
    assert set(runs.values()) <= {1}, f"runs applied twice: {runs.most_common(SHOWN)}"


async def _check_sums(http: httpx.AsyncClient, url: str, valid: Mapping[str, Document]) -> None:
    """The service's group-bys against our own arithmetic, over all runs and run by run."""
    cells = await _analyze(http, url, level1="subject", level2="level")
    own = sums_of(list(valid.values()))
    got = {(row["model"], row["subject"], row["level"]): (row["n"], row["mean"]) for row in cells}
    wrong = {
        key
        for key in got.keys() | own.keys()
        if key not in got or key not in own or got[key][0] != own[key][0] or not _is_same(got[key][1], own[key][1])
    }
    assert not wrong, _difference(got, own)
    rows = await _analyze(http, url, level1="run")
    got_runs = {row["run"]: (row["n"], row["n_questions"]) for row in rows}
    own_runs = {
        name: (sum(answer.score is not None for answer in one.answers), len(one.answers)) for name, one in valid.items()
    }
    assert got_runs == own_runs, _difference(got_runs, own_runs)


def _is_same(told: float | None, own: float | None) -> bool:
    """Whether a mean is ours, but for the digits that the service does not tell."""
    return told == own if told is None or own is None else isclose(told, own, rel_tol=1e-12, abs_tol=1e-12)


def _difference(got: Mapping[Any, Any], own: Mapping[Any, Any]) -> str:
    keys = [key for key in got.keys() | own.keys() if got.get(key) != own.get(key)]
    return f"{len(keys)} sums differ: " + "; ".join(
        f"{key}: {got.get(key)}, not {own.get(key)}" for key in keys[:SHOWN]
    )


async def _analyze(http: httpx.AsyncClient, url: str, **levels: str) -> Sequence[dict[str, Any]]:
    request = {"benchmark": BENCHMARK, "runs": "all", "limit": 100_000, **levels}
    answer = await http.post(f"{url}/analysis", json=request)
    assert answer.status_code == 200, answer.text
    assert answer.json()["truncated"] is False
    rows: list[dict[str, Any]] = answer.json()["rows"]
    return rows
