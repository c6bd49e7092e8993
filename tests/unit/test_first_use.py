"""Types that msgspec decodes are learned at import: two threads that use one first at once would end the process."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _modules() -> Iterator[ast.Module]:
    """What services run."""
    for folder in ("shared", "results_service", "analysis_service"):
        for file in (ROOT / folder).rglob("*.py"):
            yield ast.parse(file.read_text(encoding="utf-8"))


def _structs(module: ast.Module) -> dict[str, set[str]]:
    """The names of a module's structs, each with the names in its fields."""
    return {
        node.name: {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
        for node in ast.walk(module)
        if isinstance(node, ast.ClassDef) and "msgspec.Struct" in map(ast.unparse, node.bases)
    }


def _learned(module: ast.Module, structs: dict[str, set[str]]) -> set[str]:
    """What a module gives to `learn`, and what is learned with it: the structs in fields."""
    calls = [node for node in ast.walk(module) if isinstance(node, ast.Call) and ast.unparse(node.func) == "learn"]
    # A decoder that a module makes at import has learned its type, too.
    made = [node.value for node in module.body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)]
    calls += [call for call in made if ast.unparse(call.func) == "msgspec.json.Decoder"]
    waiting = [ast.unparse(argument) for call in calls for argument in call.args]
    learned: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in learned:
            learned.add(name)
            waiting += structs.get(name, set()) & structs.keys()
    return learned


def test_structs_are_learned_where_they_are_defined() -> None:
    found = [(structs, _learned(module, structs)) for module in _modules() if (structs := _structs(module))]
    assert len(found) > 5
    assert [name for structs, learned in found for name in structs.keys() - learned] == []
