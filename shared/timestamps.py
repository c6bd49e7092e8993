"""RFC 3339 timestamps in one canonical spelling: UTC with `Z`, every digit of the fraction kept but trailing zeros."""

import re
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

_RFC3339 = re.compile(
    r"(?P<date>\d{4}-\d{2}-\d{2})[Tt](?P<time>\d{2}:\d{2}:\d{2})(?:\.(?P<fraction>\d{1,30}))?"
    r"(?P<offset>[Zz]|[+-]\d{2}:\d{2})",
    re.ASCII,
)

EXPECTED = "an RFC 3339 time with an offset, such as 2024-01-01T12:00:00Z or 2024-01-01T21:00:00+09:00"


@lru_cache(maxsize=4096)  # a sweep's results have one time, and a page of a list many of the same
def canonical_timestamp(text: str) -> str:
    """Return `text` as UTC with `Z`. A naive or impossible time raises ValueError."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"not {EXPECTED}, with at most 30 digits of a fraction")
    return _canonical(match)


def canonical_result_name(name: str) -> str:
    """Return `name` with the time it begins with made canonical; without such a time, `name` itself.

    Every spelling of the time finds the result; a name that is none will simply not be found.
    """
    match = _RFC3339.match(name)
    if match is None:
        return name
    try:
        return _canonical(match) + name[match.end() :]
    except ValueError:
        return name


def sort_key(timestamp: str) -> str:
    """A string that sorts as time does: without its `Z`, which would sort after the point of a fraction."""
    return timestamp.removesuffix("Z")


def timestamp_of(name: str) -> str:
    """The canonical time that the name of a result begins with."""
    return name[: name.index("Z") + 1]


def now() -> str:
    """The current time, canonical."""
    return canonical_timestamp(datetime.now(UTC).isoformat())


def from_microseconds(moment: int) -> str:
    """The time `moment` microseconds after 1970 began, canonical."""
    seconds, fraction = divmod(moment, 1_000_000)
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{fraction:06}".rstrip("0").rstrip(".") + "Z" if fraction else f"{text}Z"


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _canonical(match: re.Match[str]) -> str:
    try:
        moment = datetime.fromisoformat(f"{match['date']}T{match['time']}").replace(tzinfo=_zone(match["offset"]))
        moment = moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"no such time ({error}); expected {EXPECTED}") from None
    fraction = (match["fraction"] or "").rstrip("0")
    return (
        moment.strftime("%Y").zfill(4) + moment.strftime("-%m-%dT%H:%M:%S") + (f".{fraction}" if fraction else "") + "Z"
    )


def _zone(offset: str) -> timezone:
    if offset in "Zz":
        return UTC
    hours, minutes = int(offset[1:3]), int(offset[4:6])
    if hours > 23 or minutes > 59:
        raise ValueError("an offset is at most 23:59")
    delta = timedelta(hours=hours, minutes=minutes)
    return timezone(-delta if offset[0] == "-" else delta)
