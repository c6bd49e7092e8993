"""Types that msgspec decodes are learned at import: two threads that use one first at once would end the process."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _called(node: ast.Call) -> str:
    return ast.unparse(node.func)


def _decoded_and_learned() -> tuple[set[str], set[str]]:
    """The names of the types that are decoded to, in what services run, and of those that `learn` is given."""
    decoded: set[str] = set()
    learned: set[str] = set()
    for folder in ("shared", "results_service", "analysis_service"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call):
                    continue
                if _called(node) == "learn":
                    learned |= {ast.unparse(argument) for argument in node.args}
                elif _called(node) == "msgspec.convert":
                    decoded.add(ast.unparse(node.args[1]))
                elif _called(node) == "msgspec.json.decode":
                    decoded |= {ast.unparse(word.value) for word in node.keywords if word.arg == "type"}
    return decoded, learned


def test_types_are_learned_before_they_are_used() -> None:
    decoded, learned = _decoded_and_learned()
    assert decoded
    assert {name.removeprefix("list[").removesuffix("]") for name in decoded} <= learned
