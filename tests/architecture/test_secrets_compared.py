"""S3: whoever is let in by a secret is let in by a comparison whose time tells nothing."""

import ast
import re
from collections.abc import Iterator

from tests.architecture.test_floors import TREES

SECRET = re.compile(r"(^|_)(secrets?|tokens?|digests?|signatures?|passwords?|credentials?|hash|mac)$", re.IGNORECASE)

# Where nobody is let in by it.
NOT_A_DOOR = {
    "auth.master_token == auth.jwt_secret": "an operator's own secrets, at the start",
    "previous == auth.jwt_secret": "likewise",
    "secret != before.hmac_secret": "whether a caller changes the secret of its own event",
    "old != secret": "likewise",
    "secrets == before": "likewise",
    "secrets != EventSecrets()": "whether there is anything to seal",
    "event.secrets == was.secrets": "whether the sealed bytes are to be written",
    "save.event.secrets == save.was.secrets": "likewise",
}


def names_in(side: ast.expr) -> str:
    return side.attr if isinstance(side, ast.Attribute) else side.id if isinstance(side, ast.Name) else ""


def plain_comparisons() -> Iterator[str]:
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Compare) or not any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
                continue
            sides = [node.left, *node.comparators]
            with_a_constant = any(isinstance(side, ast.Constant) for side in sides)
            if not with_a_constant and any(SECRET.search(names_in(side)) for side in sides):
                yield f"{path}:{node.lineno}: {ast.unparse(node)}"


def test_no_secret_is_compared_by_equality() -> None:
    found = [line for line in plain_comparisons() if line.split(": ", 1)[1] not in NOT_A_DOOR]
    assert found == []


def test_no_exception_outlives_its_line() -> None:
    assert {line.split(": ", 1)[1] for line in plain_comparisons()} == set(NOT_A_DOOR)


def test_the_master_token_is_compared_in_one_place() -> None:
    places = [
        f"{path}:{node.lineno}"
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and "compare_digest" in ast.unparse(node.func) and "master" in ast.unparse(node)
    ]
    assert len(places) == 1
    assert places[0].startswith("qhronos_core/usecases/tokens.py:")
