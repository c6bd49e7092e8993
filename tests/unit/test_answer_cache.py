"""The answer cache over a store that is a number: none older than its request, each computed once, bounded by bytes."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, cast

import pytest

from analysis_service.answer_cache import Answer, AnswerCache, Asked
from analysis_service.catalog import BenchmarkRuns, Catalog
from analysis_service.reader import Reader, data_version
from analysis_service.shared_reads import SharedReads
from shared.problems import TooManyGroups
from shared.registry.load import load_registry

REGISTRY = load_registry(None)
BENCHMARKS = ("aime", "mmlu")
NEVER = lambda: 0  # noqa: E731 - a pause of no turns


@dataclass(frozen=True)
class Said:
    """What a computation tells, as the wire models do."""

    text: str
    data_version: str

    def model_dump_json(self) -> str:
        return self.text


@dataclass
class Store:
    """A number a benchmark, and readers of it that take their time. It may go back."""

    pause: Callable[[], int] = NEVER
    version: int = 0
    epoch: int = 0
    changed: dict[str, int] = field(default_factory=lambda: dict.fromkeys(BENCHMARKS, 0))
    content: dict[str, int] = field(default_factory=lambda: dict.fromkeys(BENCHMARKS, 0))
    """What is stored: a count that never goes back, and never is the same again."""
    computed: int = 0
    newest: Catalog | None = None
    registry: Any = REGISTRY

    def __post_init__(self) -> None:
        self.reads = SharedReads(self._read)

    async def wait(self) -> None:
        for _ in range(self.pause()):
            await asyncio.sleep(0)

    def write(self, benchmark: str) -> None:
        self.version += 1
        self.changed[benchmark] = self.version
        self.content[benchmark] += 1

    def go_back(self) -> None:
        """To version 0: as if restored, with other content."""
        self.version, self.epoch = 0, self.epoch + 1
        for benchmark in BENCHMARKS:
            self.changed[benchmark] = 0
            self.content[benchmark] += 1

    def catalog(self) -> Catalog:
        by_benchmark = {name: BenchmarkRuns(name, self.changed[name], (), 0) for name in BENCHMARKS}
        return Catalog(self.version, 0, self.epoch, by_benchmark, {})

    async def _read(self) -> Catalog:
        await self.wait()
        seen = self.catalog()
        await self.wait()
        return seen

    async def current(self) -> Catalog:
        seen = await self.reads.next()
        if self.newest is None or (seen.epoch, seen.version) > (self.newest.epoch, self.newest.version):
            self.newest = seen
        return self.newest

    async def compute(self, *benchmarks: str) -> Said:
        """As answers are read: from one state, no older than the newest that was seen."""
        await self.wait()
        self.computed += 1
        seen, told = self.catalog(), [self.content[name] for name in benchmarks]
        if self.newest is None or (seen.epoch, seen.version) > (self.newest.epoch, self.newest.version):
            self.newest = seen
        await self.wait()
        return Said(" ".join(map(str, told)), data_version(seen, REGISTRY, benchmarks))


def cache(store: Store, max_bytes: int = 1_000_000) -> AnswerCache:
    return AnswerCache(cast("Reader", store), max_bytes)


def asked(*benchmarks: str, request: str = "") -> Asked:
    return Asked("test", (request,), benchmarks)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_what_has_not_changed_is_answered_again() -> None:
    store = Store()
    answers = cache(store)
    store.write("aime")
    first = await answers.fetch(asked("aime"), lambda: store.compute("aime"))
    store.write("mmlu")
    again = await answers.fetch(asked("aime"), lambda: store.compute("aime"))
    assert again is first
    store.write("aime")
    changed = await answers.fetch(asked("aime"), lambda: store.compute("aime"))

    assert (first.body, changed.body) == (b"1", b"2")
    assert first.etag != changed.etag
    assert (answers.hits, answers.misses, answers.shared, answers.entries, store.computed) == (1, 2, 0, 1, 2)


async def test_other_requests_have_other_answers() -> None:
    store = Store()
    answers = cache(store)
    store.write("aime")
    for kind in (asked("aime"), asked("mmlu"), asked("aime", "mmlu"), asked("aime", request="other")):
        await answers.fetch(kind, lambda kind=kind: store.compute(*kind.benchmarks))  # type: ignore[misc]
    assert (answers.hits, answers.misses) == (0, 4)


async def test_simultaneous_equal_requests_are_computed_once() -> None:
    store = Store(pause=lambda: 5)
    answers = cache(store, 0)
    told = await asyncio.gather(
        *(answers.fetch(asked("aime"), lambda: store.compute("aime")) for _ in range(100)),
        *(answers.fetch(asked("mmlu"), lambda: store.compute("mmlu")) for _ in range(100)),
    )
    assert len({id(answer) for answer in told}) == 2
    assert (store.computed, answers.misses, answers.shared, answers.hits) == (2, 2, 198, 0)


async def test_who_comes_after_a_change_does_not_share_the_answer_from_before() -> None:
    store = Store()
    answers = cache(store)
    may_go_on, computing = asyncio.Event(), asyncio.Event()

    async def compute_slowly() -> Said:
        said = await store.compute("aime")
        computing.set()
        await may_go_on.wait()
        return said

    first = asyncio.create_task(answers.fetch(asked("aime"), compute_slowly))
    await computing.wait()
    store.write("aime")
    second = asyncio.create_task(answers.fetch(asked("aime"), compute_slowly))
    await settle()
    may_go_on.set()
    assert [(await first).body, (await second).body] == [b"0", b"1"]
    assert (await answers.fetch(asked("aime"), compute_slowly)).body == b"1"
    assert store.computed == 2


async def test_an_answer_of_a_later_version_is_kept_as_one_of_that() -> None:
    store = Store()
    answers = cache(store)

    async def compute_later() -> Said:
        store.write("aime")
        return await store.compute("aime")

    first = await answers.fetch(asked("aime"), compute_later)
    assert first.body == b"1"
    assert await answers.fetch(asked("aime"), compute_later) is first
    assert answers.hits == 1


async def test_a_failure_goes_to_all_who_wait_and_is_not_kept() -> None:
    store = Store(pause=lambda: 5)
    answers = cache(store)

    async def fail() -> Said:
        await store.compute()
        raise TooManyGroups("too many")

    failed = await asyncio.gather(*(answers.fetch(asked("aime"), fail) for _ in range(10)), return_exceptions=True)
    assert {type(error) for error in failed} == {TooManyGroups}
    assert store.computed == 1
    assert (await answers.fetch(asked("aime"), lambda: store.compute("aime"))).body == b"0"


async def test_a_computation_ends_when_the_last_who_waits_goes_away() -> None:
    store = Store()
    answers = cache(store)
    ended: list[str] = []
    never = asyncio.Event()

    async def compute_for_ever() -> Said:
        try:
            await never.wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        raise AssertionError

    waiting = [asyncio.create_task(answers.fetch(asked("aime"), compute_for_ever)) for _ in range(3)]
    await settle()
    for task in waiting[:2]:
        task.cancel()
    await settle()
    assert ended == [], "one still waits"
    waiting[2].cancel()
    await settle()
    assert ended == ["cancelled"]
    assert (await answers.fetch(asked("aime"), lambda: store.compute("aime"))).body == b"0", "the next begins anew"


async def test_the_first_who_asked_may_go_away() -> None:
    store = Store(pause=lambda: 5)
    answers = cache(store)
    first, second = (asyncio.create_task(answers.fetch(asked("aime"), lambda: store.compute("aime"))) for _ in range(2))
    while not answers.misses:
        await asyncio.sleep(0)
    first.cancel()
    assert (await second).body == b"0"
    assert store.computed == 1


async def test_closing_ends_what_is_computed() -> None:
    store = Store()
    answers = cache(store)
    waiting = asyncio.create_task(answers.fetch(asked("aime"), asyncio.Event().wait))  # type: ignore[arg-type]
    await settle()
    await answers.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_memory_is_bounded_and_what_was_used_last_stays() -> None:
    store = Store()
    answers = cache(store, 100_000)

    async def fetch(request: str, size: int = 5_000) -> Answer:
        async def compute() -> Said:
            return Said("x" * size, (await store.compute("aime")).data_version)

        return await answers.fetch(asked("aime", request=request), compute)

    first = await fetch("first")
    for number in range(40):
        await fetch(str(number))
        assert await fetch("first") is first
        assert answers.bytes <= 100_000
    assert answers.evictions == 41 - answers.entries > 20
    await fetch("larger than an eighth", 20_000)
    assert await fetch("first") is first
    assert answers.entries + answers.evictions == 41, "it was not kept, and pushed nothing out"
    long = "q" * 90_000
    await fetch(long)
    assert answers.entries + answers.evictions == 41, "what was asked counts, too"


async def test_of_what_was_asked_only_the_latest_answer_is_kept() -> None:
    store = Store()
    answers = cache(store)
    for _ in range(3):
        await answers.fetch(asked("aime"), lambda: store.compute("aime"))
        of_one = answers.bytes
    for _ in range(20):
        store.write("aime")
        await answers.fetch(asked("aime"), lambda: store.compute("aime"))
    assert (answers.entries, answers.evictions, answers.misses) == (1, 0, 21)
    assert answers.bytes == of_one + 1, "two digits now"


async def test_nothing_from_before_a_restore_is_given_after_it() -> None:
    store = Store()
    answers = cache(store)
    for _ in range(2):
        store.write("aime")
        await answers.fetch(asked("aime"), lambda: store.compute("aime"))
    store.go_back()
    store.write("aime")
    assert (await answers.fetch(asked("aime"), lambda: store.compute("aime"))).body == b"4", "not 1, of the version 1"

    async def compute_across() -> Said:
        said = await store.compute("mmlu")
        store.go_back()
        await store.current()
        return said

    before = await answers.fetch(asked("mmlu"), compute_across)
    after = await answers.fetch(asked("mmlu"), lambda: store.compute("mmlu"))
    assert (before.body, after.body) == (b"1", b"2")


async def test_what_is_computed_alone_is_neither_kept_nor_from_what_is() -> None:
    store = Store()
    answers = cache(store)
    for _ in range(2):
        await answers.compute(lambda: store.compute("aime"))
    assert (store.computed, answers.entries, answers.hits, answers.misses) == (2, 0, 0, 0)


@pytest.mark.parametrize("max_bytes", [0, 10_000, 1_000_000])
@pytest.mark.parametrize("seed", range(15))
async def test_no_answer_is_older_than_its_request(seed: int, max_bytes: int) -> None:
    """Readers, writers, restores, failures and people who leave, in a random order; every answer is looked at."""
    random = Random(seed)
    store = Store(pause=lambda: random.randrange(6))
    answers = cache(store, max_bytes)
    told = 0

    async def ask(benchmarks: tuple[str, ...], request: str) -> None:
        nonlocal told
        fails = random.random() < 0.1

        async def compute() -> Said:
            said = await store.compute(*benchmarks)
            if fails:
                raise TooManyGroups("too many")
            return said

        known = [store.content[name] for name in benchmarks]
        try:
            answer = await answers.fetch(asked(*benchmarks, request=request), compute)
        except TooManyGroups:
            return
        seen = [int(word) for word in answer.body.split()]
        assert all(now >= then for now, then in zip(seen, known, strict=True)), "older than the request"
        told += 1

    tasks: list[asyncio.Task[None]] = []
    for _ in range(400):
        benchmarks = random.choice([("aime",), ("mmlu",), ("aime", "mmlu")])
        tasks.append(asyncio.create_task(ask(benchmarks, random.choice("ab"))))
        if random.random() < 0.15:
            store.write(random.choice(BENCHMARKS))
        if random.random() < 0.01:
            store.go_back()
        if random.random() < 0.1:
            random.choice(tasks).cancel()
        await store.wait()
    done = await asyncio.gather(*tasks, return_exceptions=True)

    assert [error for error in done if error is not None and not isinstance(error, asyncio.CancelledError)] == []
    assert told > 200
    assert bool(answers.hits) == bool(max_bytes)
    assert answers.shared > 20
    assert store.computed < answers.misses + 1, "each is computed once"
