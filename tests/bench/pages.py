"""Pages of the documentation that hold measured tables, each between two marks of its own."""

import sys
from datetime import UTC, datetime
from pathlib import Path


def write_table(page: Path, name: str, about: str, table: str) -> None:
    """Replace what is between the marks of `name` by a line that says when and on what it was measured, and a table."""
    before, after = split_page(page, name)
    page.write_text(f"{before}{about}; {datetime.now(UTC):%Y-%m-%d}.\n\n{table}{after}", encoding="utf-8")


def split_page(page: Path, name: str) -> tuple[str, str]:
    """What is before and after a table, its marks included; ends the program where the page has no place for it."""
    text = page.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        sys.exit(f"{page} has no place for {name}: it needs the marks {begin.strip()} and {end}")
    return before + begin, end + after
