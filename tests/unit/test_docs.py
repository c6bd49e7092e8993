"""The documentation against the code: settings, problems, links."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from analysis_service.settings import AnalysisSettings
from results_service.settings import ResultsSettings
from shared.formats.known import FORMATS
from shared.formats.scorehouse_parquet import SCOREHOUSE_PARQUET
from shared.problems import TYPE_PREFIX, all_problems
from shared.settings import ServiceSettings

ROOT = Path(__file__).parents[2]
OPERATIONS = ROOT / "docs" / "operations.md"
PROBLEMS = ROOT / "docs" / "problems.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

HEADINGS: dict[str, type[ServiceSettings]] = {
    "Both services": ServiceSettings,
    "Results service": ResultsSettings,
    "Analysis service": AnalysisSettings,
}


def tables(page: Path) -> Mapping[str, list[list[str]]]:
    """Heading → the cells of the table rows below it, heads and rules left out."""
    found: dict[str, list[list[str]]] = {}
    heading = ""
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("| `"):
            cells = [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            found.setdefault(heading, []).append(cells)
    return found


def default_in_words(field: FieldInfo) -> str:
    """A setting's default as the documentation writes it."""
    value: Any = None if field.is_required() else field.get_default()
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if field.is_required():
        return "required"
    if value is None:
        return "unset"
    return "empty" if value == "" else f"`{value}`"


@pytest.mark.parametrize("heading", HEADINGS)
def test_operations_has_each_setting_with_its_default(heading: str) -> None:
    kind = HEADINGS[heading]
    inherited = set() if kind is ServiceSettings else set(ServiceSettings.model_fields)
    expected = {
        f"`{name.upper()}`": default_in_words(field)
        for name, field in kind.model_fields.items()
        if name not in inherited
    }
    rows = tables(OPERATIONS)[heading]
    assert {row[0]: row[1] for row in rows} == expected
    assert len(rows) == len(expected)
    assert all(row[2].endswith(".") for row in rows)


def test_problems_has_each_type_with_its_status_and_title() -> None:
    rows = [row for section in tables(PROBLEMS).values() for row in section]
    documented = [(row[0], row[1], row[2]) for row in rows]
    assert documented == [(f"`{TYPE_PREFIX}{kind.slug}`", str(kind.status), kind.title) for kind in all_problems()]
    assert all(row[3].endswith(".") for row in rows)


def test_importing_names_each_harness_as_requests_do() -> None:
    rows = next(iter(tables(ROOT / "docs" / "importing.md").values()))
    assert {row[0].strip("`") for row in rows} == FORMATS.keys() - {SCOREHOUSE_PARQUET.name}


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings make."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def local_links(page: Path) -> Iterator[str]:
    """What a page links to in this repository."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in target and not target.startswith("mailto:"):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in local_links(page):
        path, _, anchor = target.partition("#")
        linked = (page.parent / path) if path else page
        assert linked.exists(), target
        assert linked.resolve().is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(linked), target


def test_decisions_are_numbered_and_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    pages = sorted(page for page in folder.glob("*.md") if page.name != "README.md")
    assert [page.name[:4] for page in pages] == [f"{number:04}" for number in range(1, len(pages) + 1)]
    assert set(local_links(folder / "README.md")) == {page.name for page in pages}
    for page in pages:
        assert {"context", "decision", "consequences"} <= anchors(page), page.name
