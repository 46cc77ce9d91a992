"""Every `test` block of the standard library holds, and means in the plan what it means in the oracle."""

from __future__ import annotations

from pathlib import Path

import pytest

from midsl.ide.library import Library, modules, read
from midsl.plan.selftest import library, run_tests, titles
from midsl.resources import resource_dir
from midsl.sema.builtin_docs import BUILTIN_DOCS
from midsl.sema.builtins import BUILTINS
from midsl.sema.stdfiles import std_tree, without_tests
from midsl.syntax import ast

FILES = {str(p.relative_to(resource_dir("stdlib"))): p for p in library()}
TESTED = (
    "std.actions",
    "std.alignment",
    "std.attribution",
    "std.edits",
    "std.features",
    "std.geometry",
    "std.graphs",
    "std.interactions",
    "std.linalg",
    "std.matching",
    "std.metrics",
    "std.planted",
    "std.scores",
    "std.scores.geometry",
    "std.scores.probing",
    "std.scores.table",
    "std.spatial",
    "std.states",
    "std.stats",
    "std.tables",
    "std.tasks",
)
"""Modules whose every function is used in a test of its own."""
FROM_FILES = ("facts", "read_table", "table", "texts", "prompts", "graph_file")
"""Those that read a file, which the library has none of: tests/data and tests/artefacts have theirs."""


@pytest.mark.parametrize("name", FILES)
def test_its_tests_hold(name: str) -> None:
    done = run_tests(FILES[name], against_oracle=True)
    assert {d.code for d in done.diagnostics} <= {"MI0512"}, [d.message for d in done.diagnostics]
    assert tuple(t.title for t in done.done) == titles(FILES[name])
    failed = {t.title: [c.text for c in t.checks if not c.passed] for t in done.done if not t.passed}
    assert not failed
    assert all(t.verdicts for t in done.done), "each was compared with the oracle"


@pytest.mark.parametrize("module", modules(), ids=lambda m: m.name)
def test_its_words_are_there(module: Library) -> None:
    assert module.docs, "a module says what it is for"
    for e in module.entries:
        assert e.docs and e.summary.endswith((".", "?")), e.name
        assert e.signature.startswith((f"fn {e.name}", f"extern fn {e.name}")), e.name
        assert ' = "' not in e.signature.rpartition("->")[2], "a body is not part of it"
        if module.name.startswith(TESTED) and e.name not in FROM_FILES:
            assert e.examples, f"{e.name} has no test"


def test_each_function_of_the_language_is_documented() -> None:
    assert set(BUILTIN_DOCS) == set(BUILTINS)
    for name, (signature, docs) in BUILTIN_DOCS.items():
        assert signature.startswith(f"{name}(") and docs.endswith(".")


def test_a_file_is_told_from_its_first_function(tmp_path: Path) -> None:
    from midsl.ide.library import module_docs

    assert (
        module_docs("language mi 1\n\n## The file.\n\n## The function.\nfn f() -> Int = 1\n") == "The file."
    )
    assert module_docs("language mi 1\n## The function.\nfn f() -> Int = 1\n") == ""
    assert module_docs("language mi 1\n## The\n## file.\nimport std.models\n") == "The\nfile."
    assert module_docs("language mi 1\nimport std.models\n\n## Late.\n\nfn f() -> Int = 1\n") == ""


def test_who_imports_a_module_reads_all_but_its_tests() -> None:
    for path in resource_dir("stdlib").rglob("*.mi"):
        whole, (tree, bag) = read(path), std_tree(path)
        assert tree is not None and not list(bag)
        kept = [d for d in whole.decls if not isinstance(d, ast.Test)]
        assert list(tree.decls) == kept and (tree.decls or tree.imports)
        assert [str(d.span) for d in tree.decls] == [
            str(d.span).replace(str(path), f"std/{path.name}") for d in kept
        ]
    one_line = 'let a = 1\ntest "x" { expect 1 < 2 }\nfn f() -> Int {\n  return 1\n}\n'
    assert without_tests(one_line) == one_line, "it is not worth the risk"
