"""Timestamps: one canonical spelling, an order that text keeps, and names that any spelling finds."""

from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.timestamps import canonical_result_name, canonical_timestamp, now, sort_key

CANONICAL = [
    ("2024-01-01T12:00:00Z", "2024-01-01T12:00:00Z"),
    ("2024-01-01t12:00:00z", "2024-01-01T12:00:00Z"),
    ("2024-01-01T12:00:00+00:00", "2024-01-01T12:00:00Z"),
    ("2024-01-01T12:00:00-00:00", "2024-01-01T12:00:00Z"),
    ("2024-01-01T21:00:00+09:00", "2024-01-01T12:00:00Z"),
    ("2023-12-31T20:30:00-15:30", "2024-01-01T12:00:00Z"),
    ("2024-01-01T12:00:00.000Z", "2024-01-01T12:00:00Z"),
    ("2024-01-01T12:00:00.120Z", "2024-01-01T12:00:00.12Z"),
    ("2024-01-01T12:00:00.123456789012345678901234567891Z", "2024-01-01T12:00:00.123456789012345678901234567891Z"),
    ("2024-02-29T23:59:59.9-00:01", "2024-03-01T00:00:59.9Z"),
    ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
    ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
]


@pytest.mark.parametrize(("text", "canonical"), CANONICAL)
def test_canonical(text: str, canonical: str) -> None:
    assert canonical_timestamp(text) == canonical
    assert canonical_timestamp(canonical) == canonical
    assert (
        canonical_result_name(f"{text}-mmlu-2024-01-01T21:00:00+09:00") == f"{canonical}-mmlu-2024-01-01T21:00:00+09:00"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024-01-01",
        "2024-01-01T12:00:00",
        "2024-01-01 12:00:00Z",
        "2024-01-01T12:00Z",
        "2024-1-1T12:00:00Z",
        "2024-01-01T12:00:00.Z",
        "2024-01-01T12:00:00,5Z",
        "2024-01-01T12:00:00+0900",
        "2024-01-01T12:00:00+09:60",
        "2024-01-01T12:00:00+24:00",
        "2024-01-01T12:00:00Z ",
        "2024-01-01T12:00:00Z\n",
        "2024-02-30T12:00:00Z",
        "2023-02-29T12:00:00Z",
        "2024-13-01T12:00:00Z",
        "2024-01-01T24:00:00Z",
        "2024-01-01T12:00:60Z",
        "2024-01-01T12:00:00-00:60",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "0000-01-01T00:00:00Z",
        "２０２４-01-01T12:00:00Z",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(ValueError, match="RFC 3339"):
        canonical_timestamp(text)


@pytest.mark.parametrize("name", ["", "mmlu-run", "2024-01-01T12:00:00-mmlu-run", "2024-02-30T12:00:00Z-mmlu-run"])
def test_names_without_a_time_stay(name: str) -> None:
    assert canonical_result_name(name) == name


def test_now() -> None:
    before = datetime.now(UTC)
    text = now()
    assert canonical_timestamp(text) == text
    assert before <= datetime.fromisoformat(text) <= datetime.now(UTC)


offsets = st.integers(-(23 * 60 + 59), 23 * 60 + 59)
moments = st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1)).map(  # noqa: DTZ001
    lambda moment: moment.replace(microsecond=0)
)
fractions = st.text("0123456789", max_size=30)


def spelled(moment: datetime, fraction: str, offset_minutes: int) -> str:
    """`moment` (UTC) as a wall clock at this offset shows it."""
    zone = timezone(timedelta(minutes=offset_minutes))
    wall = moment.replace(tzinfo=UTC).astimezone(zone).replace(tzinfo=None).isoformat()
    sign = "-" if offset_minutes < 0 else "+"
    hours, minutes = divmod(abs(offset_minutes), 60)
    return f"{wall}{'.' + fraction if fraction else ''}{sign}{hours:02}:{minutes:02}"


@given(moments, fractions, offsets, offsets)
def test_every_offset_gives_the_same(moment: datetime, fraction: str, one: int, other: int) -> None:
    assert canonical_timestamp(spelled(moment, fraction, one)) == canonical_timestamp(spelled(moment, fraction, other))


@given(st.tuples(moments, fractions), st.tuples(moments, fractions))
def test_keys_sort_as_time_does(left: tuple[datetime, str], right: tuple[datetime, str]) -> None:
    keys = [sort_key(canonical_timestamp(spelled(moment, fraction, 0))) for moment, fraction in (left, right)]
    times = [(moment, Fraction(f"0.{fraction}0")) for moment, fraction in (left, right)]
    assert (keys[0] < keys[1]) == (times[0] < times[1])
    assert (keys[0] == keys[1]) == (times[0] == times[1])
