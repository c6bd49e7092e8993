"""Journals and parts of live runs: whatever the order and whenever it is killed, the result has all questions once."""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scorehouse import live_push
from scorehouse.blocking import Scorehouse
from scorehouse.calls import UnreachableError
from scorehouse.live_journal import Close, Ended, Journal, journals
from scorehouse.live_push import LivePush
from scorehouse.spool import Spool
from shared.submission import Envelope

ENVELOPE = Envelope(
    run_id="r1", benchmark_name="math500", timestamp="2026-03-01T10:00:00Z", model_id="m", source="inspect_ai"
)


@dataclass
class HouseDouble:
    """Remembers parts as the service does: one number, one content."""

    parts: dict[int, bytes] = field(default_factory=dict)
    failures: list[bool] = field(default_factory=list)
    """Whether the next requests fail."""
    is_finished: bool = False

    def open_live_run(self, _: Envelope) -> None:
        self._fail()

    def push_part(self, _: str, number: int, questions: bytes) -> None:
        assert self.parts.setdefault(number, questions) == questions
        self._fail()  # the answer is lost: it is there all the same

    def finish_live_run(self, _: str) -> None:
        self._fail()
        self.is_finished = True

    def _fail(self) -> None:
        if self.failures and self.failures.pop(0):
            raise UnreachableError("away")

    def client(self) -> Scorehouse:
        return cast("Scorehouse", self)

    def questions(self) -> list[Any]:
        return [question for number in sorted(self.parts) for question in json.loads(self.parts[number])]


OPEN: list[Journal] = []


def journal(folder: Path, name: str = "run") -> Journal:
    made = Journal.create(folder, name)
    assert made is not None
    OPEN.append(made)
    return made


@pytest.fixture(autouse=True)
def _closed_at_the_end() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


def question(rank: int) -> bytes:
    return b'{"question_id":"q%d","score":1}' % rank


def test_what_ended_comes_back_and_a_torn_line_does_not(tmp_path: Path) -> None:
    first = journal(tmp_path)
    first.add([Ended(rank, question(rank)) for rank in range(3)])  # type: ignore[arg-type]
    first.close()
    with first.path.open("ab") as file:
        file.write(b'{"line":"ended","rank":3,"quest')
    again = journal(tmp_path)
    assert [line.rank for line in again.read() if isinstance(line, Ended)] == [0, 1, 2]
    again.add([Ended(7, question(7))])  # type: ignore[arg-type]
    assert [line.rank for line in again.read() if isinstance(line, Ended)] == [0, 1, 2, 7]


def test_a_journal_has_one_owner(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    owner = journal(tmp_path / "live")
    assert journals(spool) == [owner.path]
    assert Journal.take(owner.path) is None
    owner.close()
    taken = Journal.take(owner.path)
    assert taken is not None
    taken.remove()
    assert Journal.take(owner.path) is None
    assert journals(spool) == []


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_happens_the_result_has_all_questions_once_in_their_order(data: st.DataObject) -> None:
    total = data.draw(st.integers(1, 40), "total")
    order = data.draw(st.permutations(range(total)), "order")
    steps = data.draw(st.lists(st.sampled_from(["send", "kill", "nothing"]), min_size=total, max_size=total), "steps")
    house = HouseDouble(failures=data.draw(st.lists(st.booleans(), max_size=30), "failures"))
    parts_max = data.draw(st.sampled_from([3, 1000]), "parts_max")
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_push, "PARTS_MAX", parts_max)
        patch.setattr(live_push, "PART_QUESTIONS", 4)
        run = LivePush(journal(Path(folder)))
        run.open(ENVELOPE, total, may_open=True)
        for rank, step in zip(order, steps, strict=True):
            run.add(rank, question(rank))
            if step == "send":
                _try_to_send(run, house)
            elif step == "kill":
                run.journal.close()
                run = LivePush.restore(journal(Path(folder)))
        run.close(Close("finish"))
        house.failures.clear()
        run.end(house.client())
        assert [question["question_id"] for question in house.questions()] == [f"q{rank}" for rank in range(total)]
        assert house.is_finished
        assert not list(Path(folder).iterdir())
        assert parts_max == 1000 or len(house.parts) <= -(-total // -(-total // parts_max))


def _try_to_send(run: LivePush, house: HouseDouble) -> None:
    with suppress(UnreachableError):
        run.send(house.client())


def test_neighbours_go_together_and_what_may_come_between_keeps_apart(tmp_path: Path) -> None:
    house = HouseDouble()
    run = LivePush(journal(tmp_path))
    run.open(ENVELOPE, 10, may_open=True)
    for rank in (5, 0, 1, 2, 6):
        run.add(rank, question(rank))
    run.send(house.client())
    assert {number: len(json.loads(part)) for number, part in house.parts.items()} == {1: 3, 6: 2}
    for rank in (3, 4, 9):
        run.add(rank, question(rank))
    run.send(house.client())
    assert {number: len(json.loads(part)) for number, part in house.parts.items()} == {1: 3, 6: 2, 4: 2, 10: 1}


def test_nothing_is_sent_before_it_is_known_what_the_run_is(tmp_path: Path) -> None:
    house = HouseDouble()
    run = LivePush(journal(tmp_path))
    run.open(ENVELOPE, 2, may_open=False)
    run.add(0, question(0))
    assert not run.send(house.client())
    assert house.parts == {}


def test_a_killed_run_is_sent_as_far_as_it_came_and_not_finished(tmp_path: Path) -> None:
    run = LivePush(journal(tmp_path))
    run.open(ENVELOPE, 5, may_open=False)
    for rank in (4, 1):
        run.add(rank, question(rank))
    run.journal.close()
    house = HouseDouble()
    LivePush.restore(journal(tmp_path)).end(house.client())
    assert [question["question_id"] for question in house.questions()] == ["q1", "q4"]
    assert not house.is_finished
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("result", "fits"),
    [
        ([(0, "q0"), (1, "q1"), (2, "q2")], True),
        ([(0, "q0"), (1, "other"), (2, "q2")], False),
        ([(0, "q0"), (2, "q2")], False),
        ([(1, "q1"), (0, "q0"), (2, "q2")], False),
        ([(0, "q0"), (1, "q1"), (2, "late"), (3, "q3")], True),
        ([(0, "q0"), (1, "q1"), (None, "unknown"), (2, "q2")], False),
    ],
    ids=["the same", "another score", "one is missing", "another order", "more, and what was not sent", "unknown"],
)
def test_the_parts_are_compared_with_the_finished_result(
    tmp_path: Path, result: Sequence[tuple[int | None, str]], fits: bool
) -> None:
    house = HouseDouble()
    run = LivePush(journal(tmp_path))
    run.open(ENVELOPE, 4, may_open=True)
    for rank in (0, 1):
        run.add(rank, question(rank))
    run.send(house.client())
    run.add(2, question(2))
    rows = [(rank, b'{"question_id":"%s","score":1}' % name.encode()) for rank, name in result]
    assert run.is_part_of(rows) is fits
    if fits:
        run.close(Close("finish"))
        run.journal.close()  # and killed before it is sent
        LivePush.restore(journal(tmp_path)).end(house.client())
        assert [question["question_id"] for question in house.questions()] == [name for _, name in result]


def test_a_full_disk_is_told_and_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = LivePush(journal(tmp_path))
    run.open(ENVELOPE, 3, may_open=True)
    run.add(0, question(0))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("scorehouse.live_journal.os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            run.add(1, question(1))
    run.add(2, question(2))
    run.journal.close()
    house = HouseDouble()
    LivePush.restore(journal(tmp_path)).end(house.client())
    assert [question["question_id"] for question in house.questions()] == ["q0", "q2"]
