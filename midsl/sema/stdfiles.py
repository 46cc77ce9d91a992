"""Modules of the standard library as text and tree: found by name, read once in a process, tests left out.

Whoever imports a module has no use for its tests, which are half of its text; they are kept for `midsl test`,
which reads the file itself. The files are set in the one layout (a test holds them to it), so a test block
begins and ends with its line.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from midsl.diagnostics.model import Bag
from midsl.resources import resource_dir
from midsl.source import SourceFile
from midsl.syntax import ast
from midsl.syntax.parse import parse

_FN = re.compile(r"^(?:extern )?fn (\w+)", re.M)
_TEST = re.compile(r'^test "[^\n]*\{\n(?:(?!\}).*\n)*\}\n', re.M)


def is_std(source: SourceFile) -> bool:
    """Whether a file is one of the standard library: what its `extern fn`s name is trusted."""
    return source.path is not None and resource_dir("stdlib") in source.path.parents


def std_names() -> list[str]:
    """How the modules are imported: `std.metrics`, ..."""
    root = resource_dir("stdlib")
    paths = sorted(root.rglob("*.mi"))
    return [".".join(("std", *p.relative_to(root).with_suffix("").parts)) for p in paths]


def where_from(name: str) -> str:
    """How to get a name from the module of the library that has it; "" where none has."""
    found = _functions().get(name)
    return f"write `from {found} import {name}`" if found else ""


@cache
def _functions() -> dict[str, str]:
    """The functions of the library by name, and the module of each."""
    root = resource_dir("stdlib")
    texts = {m: root.joinpath(*m.split(".")[1:]).with_suffix(".mi").read_text("utf-8") for m in std_names()}
    return {name: m for m, text in texts.items() for name in _FN.findall(text)}


def std_tree(path: Path) -> tuple[ast.Module | None, Bag]:
    """The tree of a module without its tests, and what parsing said."""
    return _tree(path, path.stat().st_mtime_ns)


@cache
def _tree(path: Path, changed: int) -> tuple[ast.Module | None, Bag]:
    bag = Bag()
    text = path.read_text(encoding="utf-8")
    return parse(SourceFile(f"std/{path.name}", without_tests(text), path), bag), bag


def without_tests(text: str) -> str:
    """A text with its test blocks blanked out, all other lines where they were.

    >>> without_tests('let a = 1\\ntest "x" {\\n  expect a == 1\\n}\\nlet b = 2\\n')
    'let a = 1\\n\\n\\n\\nlet b = 2\\n'
    """
    return _TEST.sub(lambda m: "\n" * m.group().count("\n"), text)
