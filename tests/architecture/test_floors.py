"""The floors of the house, as far as an import graph cannot see them: the graph's own rules stand in pyproject.toml."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("qhronos_core", "qhronos_mcp")
SOURCES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TREES = {path: ast.parse((ROOT / path).read_text(encoding="utf-8")) for path in SOURCES}

# A module, and the only places that may import it.
DOORS = {
    "aiohttp": set(),  # what we are measured against, no more
    "http.client": set(),
    "httptools": {"qhronos_core/adapters/http/"},
    "httpx": set(),
    "httpx2": {"qhronos_mcp/demo.py", "qhronos_mcp/mcp_server/bridge.py"},  # clients of the SDK's transport
    "psycopg": {"qhronos_core/adapters/postgres/"},
    "psycopg_pool": {"qhronos_core/adapters/postgres/"},
    "redis": {"qhronos_core/adapters/redis/"},
    "requests": set(),
    "smtplib": set(),
    "sqlite3": {"qhronos_core/adapters/sqlite/"},
    "urllib.request": set(),
    "urllib3": set(),
}
SQL = re.compile(
    r"\s*(--[^\n]*\n\s*)*(SELECT\s|INSERT\s+INTO\s|UPDATE\s+\w+\s+(AS\s+\w+\s+)?SET\s|DELETE\s+FROM\s|WITH\s+\w+.*\bAS\b)",
    re.S,
)


def places(path: Path, *, among: set[str]) -> bool:
    return any(path.as_posix().startswith(place) for place in among)


def imported_in(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{name.name}") for name in node.names)


def dotted(node: ast.AST) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join(reversed([*parts, node.id])) if isinstance(node, ast.Name) else ""


def docstrings_of(tree: ast.AST) -> set[int]:
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, owners)]
    return {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}


def test_every_module_stands_on_a_floor() -> None:
    """A module the `layers` contract does not name would be bound by nothing."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = next(c for c in settings["tool"]["importlinter"]["contracts"] if c["type"] == "layers")["layers"]
    named = set(re.findall(r"[a-z_.]+", " ".join(layers)))
    standing = {
        f"{package}.{path.stem}"
        for package in PACKAGES
        for path in (ROOT / package).iterdir()
        if (path.suffix == ".py" and path.stem not in {"__init__", "__main__"}) or (path / "__init__.py").exists()
    }
    assert standing <= named


@pytest.mark.parametrize("door", DOORS)
def test_a_driver_is_imported_behind_its_door_only(door: str) -> None:
    leaks = [
        f"{path}:{line}"
        for path, tree in TREES.items()
        if not places(path, among=DOORS[door])
        for line, name in imported_in(tree)
        if name == door or name.startswith(f"{door}.")
    ]
    assert leaks == []


def test_connections_are_opened_behind_the_one_door_only() -> None:
    """S23. The stores' drivers open their own, behind theirs."""
    opening = {"create_connection", "open_connection", "sock_connect", "start_tls", "open_unix_connection"}
    leaks = [
        f"{path}:{node.lineno}: {node.attr}"
        for path, tree in TREES.items()
        if not places(path, among={"qhronos_core/adapters/http/"})
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in opening
    ]
    assert leaks == []


def test_the_domain_reads_no_clock_and_no_environment() -> None:
    asked = {"os.environ", "os.getenv", "datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time"}
    leaks = [
        f"{path}:{node.lineno}: {dotted(node)}"
        for path, tree in TREES.items()
        if places(path, among={"qhronos_core/domain/"})
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and any(dotted(node).endswith(name) for name in asked)
    ]
    assert leaks == []


def test_the_machines_clock_is_read_in_one_file() -> None:
    asked = re.compile(r"(^|\.)((datetime|date)\.(now|utcnow|today)|time\.time(_ns)?)$")
    leaks = [
        f"{path}:{node.lineno}: {dotted(node)}"
        for path, tree in TREES.items()
        if path != Path("qhronos_core/adapters/clock.py")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and asked.search(dotted(node))
    ]
    assert leaks == []


def test_sql_lives_in_the_two_stores() -> None:
    stores = {"qhronos_core/adapters/postgres/", "qhronos_core/adapters/sqlite/"}
    leaks: list[str] = []
    for path, tree in TREES.items():
        if places(path, among=stores):
            continue
        prose = docstrings_of(tree)
        leaks += [
            f"{path}:{node.lineno}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose
            if SQL.match(node.value)
        ]
    assert leaks == []


@pytest.mark.parametrize(
    ("text", "is_sql"),
    [
        ("SELECT 1", True),
        ("\n    -- why\n    INSERT INTO events VALUES (?)", True),
        ("UPDATE occurrences AS o SET state = 1", True),
        ("WITH due AS MATERIALIZED (SELECT 1) SELECT 2", True),
        ("Select one of these", False),
        ("UPDATE is refused", False),
        ("With a token", False),
        ("DELETE", False),
    ],
)
def test_sql_is_told_from_prose(text: str, is_sql: bool) -> None:
    assert bool(SQL.match(text)) is is_sql


def test_private_names_of_the_sdk_are_used_in_one_file() -> None:
    """What the MCP SDK does not promise may change with any release; `compat.py` is where that is mended.

    Private members are ruff's to find (SLF001); here, that nobody told it to look away.
    """
    leaks: list[str] = []
    for path, tree in TREES.items():
        if path == Path("qhronos_mcp/mcp_server/compat.py"):
            continue
        leaks += [
            f"{path}:{line}: {name}"
            for line, name in imported_in(tree)
            if name.split(".")[0] in {"mcp", "mcp_types"}
            and any(part.startswith("_") and not part.startswith("__") for part in name.split("."))
        ]
        if "SLF" in (ROOT / path).read_text(encoding="utf-8"):
            leaks.append(f"{path}: SLF is switched off")
    assert leaks == []
