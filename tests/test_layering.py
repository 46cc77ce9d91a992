"""The layers of the compiler, held to by reading the imports of every module.

A layer may import those named beside it and nothing else, so that the front end stays free of torch
and a reader who is in one folder knows which others can matter there.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from midsl.models.facts import _DESCRIBERS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "midsl"
MAX_LINES = 450

BASE = {"source", "cachedir", "resources", "reach", "unpack"}
FRONT = {*BASE, "diagnostics", "syntax", "ir"}
LAYERS: dict[str, set[str]] = {
    "source": set(),
    "cachedir": set(),
    "resources": set(),
    "reach": {"diagnostics"},
    "unpack": {"diagnostics"},
    "diagnostics": {"source", "cachedir", "resources"},
    "syntax": {*BASE, "diagnostics"},
    "ir": {*BASE, "diagnostics"},
    "data": {*BASE, "diagnostics"},
    "models": {*BASE, "diagnostics", "data"},
    "graph": {*BASE, "diagnostics", "data", "models"},
    "artefacts": {*BASE, "diagnostics"},
    "sema": {*FRONT, "artefacts", "data", "graph", "models"},
    "passes": {*FRONT, "sema"},
    "ops": {*BASE, "diagnostics"},
    "lib": {*BASE, "diagnostics", "artefacts"},
    "backends": {*BASE, "diagnostics", "graph", "ops"},
    "fit": {*FRONT, "artefacts", "ops"},
    "oracle": {*FRONT, "data", "graph", "ops"},
    "store": {*BASE, "diagnostics"},
    "show": {*BASE, "diagnostics", "store", "ir"},
    "plan": {
        *FRONT,
        "sema",
        "passes",
        "data",
        "graph",
        "models",
        "ops",
        "backends",
        "fit",
        "artefacts",
        "oracle",
        "store",
        "show",
    },
    "cli_common": {*BASE, "diagnostics"},
    "ide": {*FRONT, "sema", "graph"},
    "cli_edit": {*BASE, "diagnostics", "syntax", "sema", "ide", "cli_common"},
    "cli_library": {*BASE, "diagnostics", "plan", "show", "ide", "cli_common"},
    "api": {*BASE, "ir", "sema", "plan", "show", "store"},
    "serve": {*BASE, "diagnostics", "api", "plan", "show"},
    "cli_look": {*BASE, "api", "serve", "plan", "show", "cli_common"},
    "cli_setup": {*BASE, "diagnostics", "store", "show", "cli_common"},
    "notebook": {*BASE, "diagnostics", "api", "show"},
    "cli_results": {*BASE, "diagnostics", "store", "show", "ide", "cli_common", "cli_look"},
    "cli_cache": {*BASE, "show", "cli_common"},
    "cli": {
        *BASE,
        "diagnostics",
        "sema",
        "plan",
        "store",
        "show",
        "cli_common",
        "cli_edit",
        "cli_library",
        "cli_look",
        "cli_results",
        "cli_setup",
        "cli_cache",
    },
}
"""Folder (or module) of ``midsl`` -> those that it may import; the oracle knows nothing of the plan."""

NO_TORCH = {
    "source",
    "cachedir",
    "resources",
    "reach",
    "unpack",
    "diagnostics",
    "syntax",
    "ir",
    "sema",
    "passes",
    "store",
    "show",
    "ide",
    "cli_common",
    "cli_edit",
}
NO_TORCH_FILES = {
    "data.dataset",
    "data.spans",
    "graph.info",
    "graph.cache",
    "models.facts",
    "cli",
}
"""What `check`, `sql`, `ls` and an editor need: none of it may lead to torch, however indirectly."""


def module_name(path: Path) -> str:
    """``midsl/sema/check.py`` -> ``sema.check``; a folder's ``__init__`` is the folder."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(p): p for p in sorted(PACKAGE.rglob("*.py")) if "_data" not in p.parts}
SOURCES.pop("")


def imports(name: str, inside_functions: bool = True) -> Iterator[str]:
    """The modules that a module imports, type-checking imports left out."""
    tree = ast.parse(SOURCES[name].read_text(encoding="utf-8"))
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: write imports in full"
            module = node.module or ""
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                yield inner if inner.removeprefix("midsl.") in SOURCES else module
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not inside_functions:
            continue
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += node.orelse
        else:
            todo += ast.iter_child_nodes(node)


def own(name: str, inside_functions: bool = True) -> Iterator[str]:
    """The modules of midsl that a module imports, without the prefix."""
    for found in imports(name, inside_functions):
        if found.startswith("midsl."):
            yield found.removeprefix("midsl.")


def layer(name: str) -> str:
    return name.split(".")[0]


def way_to_torch(name: str, seen: set[str], inside_functions: bool) -> list[str]:
    """A chain of imports from a module to torch (or to transformers, which brings it), or nothing."""
    seen.add(name)
    for found in imports(name, inside_functions):
        if found.split(".")[0] in ("torch", "transformers", "safetensors"):
            return [name, found]
    for found in own(name, inside_functions):
        if found in SOURCES and found not in seen:
            rest = way_to_torch(found, seen, inside_functions)
            if rest:
                return [name, *rest]
    return []


@pytest.mark.parametrize("name", [n for n in SOURCES if n])
def test_imports_stay_within_their_layer(name: str) -> None:
    mine = layer(name)
    assert mine in LAYERS, f"{mine} has no place among the layers"
    allowed = LAYERS[mine] | {mine}
    wrong = {f for f in own(name) if layer(f) not in allowed}
    assert not wrong, f"midsl.{name} may not import {sorted(wrong)}"


def test_layers_have_an_order() -> None:
    done: set[str] = set()
    while len(done) < len(LAYERS):
        ready = {k for k, needs in LAYERS.items() if k not in done and needs <= done}
        assert ready, f"these import each other: {sorted(set(LAYERS) - done)}"
        done |= ready


@pytest.mark.parametrize("name", [n for n in SOURCES if layer(n) in NO_TORCH or n in NO_TORCH_FILES])
def test_front_end_does_not_lead_to_torch(name: str) -> None:
    """Nowhere, not even inside functions; the command line imports inside its commands and may."""
    chain = way_to_torch(name, set(), inside_functions=name != "cli")
    assert not chain, " -> ".join(chain)


@pytest.mark.parametrize("ref", sorted(_DESCRIBERS))
def test_describing_a_model_does_not_lead_to_torch(ref: str) -> None:
    """A describer stands beside its loader, whose function may import what it likes."""
    module = _DESCRIBERS[ref][0].removeprefix("midsl.")
    assert not way_to_torch(module, set(), inside_functions=False)


def test_the_walk_finds_torch_where_it_is() -> None:
    assert way_to_torch("plan.driver", set(), inside_functions=False)
    assert way_to_torch("cli", set(), inside_functions=True)


CHECK = """
import sys
from midsl.cli import main
try:
    main(["check", sys.argv[1]])
except SystemExit as done:
    code = done.code
heavy = sorted({m.split(".")[0] for m in sys.modules} & {"torch", "transformers", "duckdb", "safetensors"})
print("code", code, "heavy", heavy)
"""


@pytest.mark.parametrize("spec", sorted((ROOT / "examples").glob("*.mi")), ids=lambda p: p.name)
def test_check_loads_no_torch(spec: Path, tmp_path: Path) -> None:
    env = {**os.environ, "MIDSL_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", CHECK, str(spec)], capture_output=True, text=True, env=env)
    # an example whose model lies elsewhere is refused, which must not load torch either
    code = 0 if spec.name == "quickstart.mi" else "[02]"
    assert re.fullmatch(f"code {code} heavy \\[\\]", done.stdout.splitlines()[-1]), done.stdout + done.stderr


@pytest.mark.parametrize("name", list(SOURCES))
def test_files_are_short_and_say_why_they_exist(name: str) -> None:
    text = SOURCES[name].read_text(encoding="utf-8")
    assert text.count("\n") <= MAX_LINES, f"{name} has {text.count(chr(10))} lines: split it"
    assert ast.get_docstring(ast.parse(text)), f"{name} has no docstring"
