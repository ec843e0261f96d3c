"""security.md §5: a field that is not on the list is dropped in production, so nobody would miss it there."""

import ast
from collections.abc import Iterator
from pathlib import Path

from qhronos_core.adapters.local.logs import ALLOWED

ROOT = Path(__file__).parents[2]


def fields_logged() -> Iterator[tuple[str, str]]:
    for file in (*(ROOT / "qhronos_core").rglob("*.py"), *(ROOT / "qhronos_mcp").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if isinstance(node.func.value, ast.Name) and node.func.value.id in {"_log", "_LOG"}:
                yield from ((f"{file.name}:{node.lineno}", each.arg) for each in node.keywords if each.arg)


def test_every_field_that_is_logged_is_on_the_list() -> None:
    found = list(fields_logged())
    assert len(found) > 20
    assert [(place, name) for place, name in found if name not in ALLOWED | {"exc_info"}] == []
