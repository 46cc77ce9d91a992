"""What a library has to offer, read from its own text: modules, functions, their words and their tests.

The text is the one source: the signature is what was written, the documentation its `##` comment,
the example a `test` block that uses it (so an example is never one that does not run), the paper the end
of the comment from a line that begins with "Source:" on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from midsl.diagnostics.model import Bag, MiError
from midsl.resources import resource_dir
from midsl.sema.check import read_source
from midsl.sema.stdfiles import std_names
from midsl.source import SourceFile
from midsl.syntax import ast
from midsl.syntax.parse import parse

SOURCE = "Source:"


@dataclass(frozen=True)
class Entry:
    """One function of a module.

    Attributes:
        module: how the module is imported (`std.metrics`).
        name: the function's name.
        signature: how it was declared, its body left out.
        docs: its comment, without the line that names a paper.
        source: the paper, or "".
        examples: the text of the tests that use it.
    """

    module: str
    name: str
    signature: str
    docs: str
    source: str
    examples: tuple[str, ...]

    @property
    def summary(self) -> str:
        """The first sentence of its documentation."""
        return first_sentence(self.docs)


@dataclass(frozen=True)
class Library:
    """One module: its own comment, and its functions in the order written."""

    name: str
    tree: ast.Module

    @cached_property
    def docs(self) -> str:
        return module_docs(self.tree.source.text)

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        return tuple(self._entry(d) for d in self.tree.decls if isinstance(d, ast.Fn))

    def _entry(self, fn: ast.Fn) -> Entry:
        docs, _, paper = f"\n{fn.docs}".partition(f"\n{SOURCE}")
        tests = [d for d in self.tree.decls if isinstance(d, ast.Test)]
        used = tuple(t.span.text for t in tests if re.search(rf"\b{fn.name}\(", t.span.text))
        return Entry(self.name, fn.name, signature(fn), docs.strip(), " ".join(paper.split()), used)


def first_sentence(docs: str) -> str:
    """The first sentence of a comment.

    >>> first_sentence('One thing, and\\nanother. More.')
    'One thing, and another.'
    """
    text = " ".join(docs.split())
    found = re.match(r'.*?[.?!]["”]?(?= |$)', text)
    return found.group() if found else text


def module_docs(text: str) -> str:
    """The `##` comment that stands by itself at the top of a file: a file's own, not its first function's."""
    lines = [line.strip() for line in text.splitlines()]
    at = next((i for i, line in enumerate(lines) if line.startswith("##")), len(lines))
    before = [x for x in lines[:at] if x and not x.startswith("#")]
    end = at
    while end < len(lines) and lines[end].startswith("##"):
        end += 1
    alone = end >= len(lines) or not lines[end] or lines[end].startswith(("import", "from"))
    if len(before) > 1 or not alone:
        return ""
    return "\n".join(line.removeprefix("##").strip() for line in lines[at:end])


def signature(fn: ast.Fn) -> str:
    """A declaration up to its body, as it was written."""
    text = fn.span.text
    end = fn.returns.span.end - fn.span.start
    return re.sub(r"[ \t]+$", "", text[:end], flags=re.M)


def modules() -> tuple[Library, ...]:
    """The standard library, by name."""
    root = resource_dir("stdlib")
    return tuple(
        Library(name, read(root.joinpath(*name.split(".")[1:]).with_suffix(".mi"))) for name in std_names()
    )


def of_file(path: Path) -> Library:
    """A file of one's own.

    Raises:
        MiError: MI0504 if it cannot be read, 01xx if it cannot be parsed.
    """
    bag = Bag()
    tree = parse(read_source(path), bag)
    if tree is None or bag.errors:
        raise MiError(*bag.errors)
    return Library(str(path), tree)


def read(path: Path) -> ast.Module:
    """Parse a file of the library, once for as long as it stays as it is."""
    return _parsed(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=256)
def _parsed(path: Path, changed: int) -> ast.Module:
    bag = Bag()
    tree = parse(SourceFile(str(path), path.read_text(encoding="utf-8"), path), bag)
    assert tree is not None and not bag.errors, f"{path} is part of this install and does not parse"
    return tree
