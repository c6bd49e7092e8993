"""The times that harnesses name their output folders by, such as `20250117_154119`."""

import re

from shared.timestamps import canonical_timestamp

_FOLDER_TIME = re.compile(r"(?<!\d)(\d{4})(\d{2})(\d{2})_(\d{2})(\d{2})(\d{2})(?!\d)", re.ASCII)

NO_ZONE = "the run's time is taken from the name of its folder, which tells no time zone: it was read as UTC"


def folder_time(text: str) -> str | None:
    """The last such time in `text`, taken as UTC; None if there is none that exists."""
    for parts in reversed(_FOLDER_TIME.findall(text)):
        year, month, day, hour, minute, second = parts
        try:
            return canonical_timestamp(f"{year}-{month}-{day}T{hour}:{minute}:{second}Z")
        except ValueError:
            continue
    return None
