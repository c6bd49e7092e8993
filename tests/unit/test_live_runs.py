"""The pure parts of live runs: pages of parts, what is missing, cursors."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from results_service import parts
from results_service.live_run_documents import check_complete, cursor_after, list_filter
from results_service.parts import PartsKnown, StoredPart, attempts_in, in_pages, read_part
from shared.cursors import seal
from shared.problems import InvalidRequest, LiveRunIncomplete, PartConflict
from shared.registry.load import load_registry
from shared.results import LiveRunState

REGISTRY = load_registry()
MIB = 1024 * 1024


@given(sizes=st.lists(st.integers(1, 9 * MIB), max_size=1200))
def test_pages_keep_the_order_and_stay_small(sizes: list[int]) -> None:
    stored = [StoredPart(number, str(number), b"", size) for number, size in enumerate(sizes, start=1)]
    pages = list(in_pages(stored))
    assert [part for page in pages for part in page] == stored
    for page in pages:
        assert len(page) <= parts.PAGE_PARTS
        assert len(page) == 1 or sum(part.size for part in page) <= parts.PAGE_BYTES


@pytest.mark.parametrize(
    ("there", "said", "told"),
    [
        ([], None, "has no parts"),
        ([], 1, "has no parts"),
        ([1, 3], None, None),
        ([3, 1, 2], 3, None),
        ([1, 3], 3, "part 2 missing"),
        ([2, 5, 6], 3, "parts 1, 3 missing; parts 5, 6 beyond the 3 that you name"),
        ([1, 2], 1, "part 2 beyond the 1 that you name"),
        ([30], 30, "15, 16, 17, 18, 19, 20 and 9 more missing"),
    ],
)
def test_what_is_missing(there: list[int], said: int | None, told: str | None) -> None:
    listed = [{"n": number, "id": str(number), "sha256": b"", "bytes": 1} for number in there]
    document = {"_id": "2024-01-01T12:00:00-mmlu-r", "parts": listed}
    if told is None:
        check_complete(document, said)
    else:
        with pytest.raises(LiveRunIncomplete, match=told):
            check_complete(document, said)


def test_a_part_keeps_its_bytes() -> None:
    part = read_part(
        b'{ "questions" :\n[ {"question_id":"a","score":1.0},{"question_id":"b","attempt":2,"score":0}\n] }',
        "mmlu",
        REGISTRY,
    )
    assert part.text == b' {"question_id":"a","score":1.0},{"question_id":"b","attempt":2,"score":0}\n'
    assert part.attempts == (("a", 0), ("b", 2))
    assert tuple(attempts_in(part.text)) == part.attempts
    assert part.warnings == ()


def test_the_same_attempt_in_two_parts_is_told_with_both_places() -> None:
    known = PartsKnown()
    known.add(StoredPart(4, "x", b"", 1), [("a", 0), ("b", 0)])
    known.check_attempts([("a", 1), ("c", 0)])
    with pytest.raises(PartConflict) as raised:
        known.check_attempts([("c", 0), ("b", 0)])
    [fault] = raised.value.faults
    assert (fault.place, "part 4 at questions[1]" in fault.detail) == ("questions[1]", True)
    with pytest.raises(PartConflict) as raised:
        known.check_attempts([("a", 0)] * 100)
    assert len(raised.value.faults) == parts.FAULTS_MAX


def test_cursors() -> None:
    now = datetime.now(UTC)
    document = {"_id": "2024-01-01T12:00:00-mmlu-ü"}
    cursor = cursor_after(document, None, None)
    assert list_filter(None, None, cursor, now) == {"$and": [{"_id": {"$lt": "2024-01-01T12:00:00-mmlu-ü"}}]}
    assert list_filter(None, None, None, now) == {}
    of_results = seal(["-timestamp", None, "2024-01-01T12:00:00-mmlu-ü"], ["standardized_output", {}, None, None])
    others = (cursor_after(document, LiveRunState.LIVE, None), cursor_after(document, None, True), of_results)
    for forged in ("!", "é", "/w==", "a", "MjAyNA==", *others):
        with pytest.raises(InvalidRequest, match=r"next_cursor|another list"):
            list_filter(None, None, forged, now)
