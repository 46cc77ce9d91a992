"""Every diagnostic says what to write instead: of the whole front end, and of what loads and plans."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import midsl

ROOT = Path(midsl.__file__).parent
FOLDERS = ("sema", "syntax", "data", "artefacts", "models", "fit", "passes", "plan", "show")
FILES = sorted(p for folder in FOLDERS for p in (ROOT / folder).rglob("*.py"))
NOBODYS_FAULT = {"MI0901"}
"""Internal errors: nothing can be written instead."""


def helpless(text: str) -> list[str]:
    """The lines of calls that make an error and give no help."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args):
            continue
        code = node.args[0]
        known = node.func.id == "fail" or (node.func.id == "Diagnostic" and len(node.args) < 6)
        if not (known and isinstance(code, ast.Constant) and isinstance(code.value, str)):
            continue
        if code.value not in NOBODYS_FAULT and not any(k.arg == "help" for k in node.keywords):
            found.append(f"{node.lineno}: {code.value}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_error_says_what_to_write_instead(path: Path) -> None:
    assert not helpless(path.read_text(encoding="utf-8"))


def test_one_without_help_is_found() -> None:
    assert helpless('raise fail("MI0301", "no", span)\nraise fail("MI0301", "no", span, help="x")') == [
        "1: MI0301"
    ]
