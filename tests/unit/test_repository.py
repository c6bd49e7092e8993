"""What holds for the whole tree: its top level, its locks, and what no file may say."""

import re
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from shared.version import VERSION

ROOT = Path(__file__).parents[2]
IMAGE_LOCKS = [f"deploy/requirements-{name}.lock" for name in ("results", "analysis", "build")]
LOCKS = ["requirements.lock", "tests/requirements-harnesses.lock", *IMAGE_LOCKS]

FIXED = (
    *("analysis_service", "results_service", "shared", "scorehouse", "deploy", "tests", "docs/decisions", ".ci/run"),
    *("Makefile", "pyproject.toml", "requirements.lock", "requirements.txt"),
    *("README.md", "README.ko.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"),
)

# In pieces, so that this file does not say what it looks for.
FORBIDDEN = {
    "a package index's host": re.compile(
        "|".join(map(re.escape, ["pypi" + ".org", "python" + "hosted", "npm" + "js."]))
    ),
    "a Debian mirror's host": re.compile(re.escape("deb" + ".debian.")),
    "a home folder": re.compile(r"(?<![\w.}])/(?:" + "home|Users" + r")/\w|(?<![\w.}])/" + "root/"),
    "an index option": re.compile("--(?:extra-)?index" + "-url|--find" + "-links"),
}


@cache
def files() -> list[Path]:
    """Every text file that git has or would take."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("this is not a git checkout")
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:8192]]


@pytest.mark.parametrize("name", FIXED)
def test_top_level_is_as_promised(name: str) -> None:
    assert (ROOT / name).exists()


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_says(what: str) -> None:
    assert files()
    assert [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if FORBIDDEN[what].search(line)
    ] == []


def test_changelog_knows_the_version() -> None:
    assert f"## [{VERSION}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


# ------------------------------------------------------------------------------------------------------- locks


def locked(lock: str) -> Iterator[tuple[Requirement, list[str]]]:
    """Each requirement of a lock with its hashes."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / lock).read_text(encoding="utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    for line in filter(None, text.splitlines()):
        requirement, *hashes = line.split(" --hash=")
        yield Requirement(requirement.strip()), [value.strip() for value in hashes]


def versions(lock: str) -> Mapping[str, set[str]]:
    """Name → versions; several where they differ by Python."""
    found: dict[str, set[str]] = {}
    for requirement, _ in locked(lock):
        found.setdefault(canonicalize_name(requirement.name), set()).add(str(requirement.specifier).removeprefix("=="))
    return found


def asked_for(*extras: str) -> list[Requirement]:
    """What pyproject.toml asks for, with these extras and those that they name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = [Requirement(line) for line in project["dependencies"]]
    for extra in extras:
        for requirement in map(Requirement, project["optional-dependencies"][extra]):
            found += asked_for(*requirement.extras) if requirement.name == project["name"] else [requirement]
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_is_hashed_and_names_no_place(lock: str) -> None:
    entries = list(locked(lock))
    assert entries
    for requirement, hashes in entries:
        assert [str(part.operator) for part in requirement.specifier] == ["=="], requirement
        assert requirement.url is None
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes)
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"(?<!\w)/\w", text)
    assert not re.search(r"^--?\w", text, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("lock", "extras"),
    [
        ("requirements.lock", ("dev",)),
        ("tests/requirements-harnesses.lock", ("inspect", "parquet")),
        ("deploy/requirements-results.lock", ("results", "parquet")),
        ("deploy/requirements-analysis.lock", ("analysis",)),
    ],
)
def test_lock_has_what_the_project_asks_for(lock: str, extras: tuple[str, ...]) -> None:
    have = versions(lock)
    for requirement in asked_for(*extras):
        found = have.get(canonicalize_name(requirement.name))
        assert found, f"{requirement} is not in {lock}: run make lock"
        assert all(requirement.specifier.contains(version) for version in found), f"{requirement}: run make lock"


@pytest.mark.parametrize("lock", IMAGE_LOCKS)
def test_images_run_what_was_tested(lock: str) -> None:
    whole = versions("requirements.lock")
    assert {name: found for name, found in versions(lock).items() if not found <= whole.get(name, set())} == {}


def test_images_leave_the_other_store_and_the_tools_out() -> None:
    results, analysis = versions("deploy/requirements-results.lock"), versions("deploy/requirements-analysis.lock")
    assert not {"aiomysql", "numpy", "pytest"} & set(results)
    assert not {"motor", "pymongo", "pytest"} & set(analysis)


def test_pymysql_is_held_where_bytes_work() -> None:
    for lock in ("requirements.lock", "deploy/requirements-analysis.lock"):
        assert all(Version(version) <= Version("1.2.0") for version in versions(lock)["pymysql"])
        assert "cryptography" in versions(lock)  # MySQL 8's login without TLS


def test_plain_pip_installs_the_local_kind() -> None:
    assert (ROOT / "requirements.txt").read_text(encoding="utf-8").split() == [".[local]"]
