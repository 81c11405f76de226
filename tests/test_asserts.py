"""The boot service runs without asserts (-OO): none of them may be a check of what comes in."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def checks(text: str) -> list[str]:
    """Return the asserts of a module that do more than tell mypy that something is there."""
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Assert) and not _narrows(node.test)
    ]


def _narrows(test: ast.expr) -> bool:
    """`name is not None`: with None the next line would fail all the same."""
    return (
        isinstance(test, ast.Compare)
        and isinstance(test.left, ast.Name | ast.Attribute)
        and len(test.ops) == 1
        and isinstance(test.ops[0], ast.IsNot)
        and isinstance(test.comparators[0], ast.Constant)
        and test.comparators[0].value is None
    )


def test_no_assert_checks_input():
    found = {
        str(path.relative_to(ROOT)): wrong
        for path in (ROOT / "agent").rglob("*.py")
        if (wrong := checks(path.read_text("utf-8")))
    }
    assert found == {}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("assert size < 100", 1),
        ("assert key", 1),
        ("assert found(key) is not None", 1),
        ("assert policy.camera is not None, 'no'", 0),
    ],
)
def test_a_planted_check_is_found(line: str, found: int):
    assert len(checks(f"def f():\n    {line}\n")) == found
