"""Literate type tests: pages whose `mi` blocks say, line by line, what has which type and what is refused.

``let x = ld(r)  #: Float[batch]<logit>`` says what a binding is, ``report y = x  #: (batch, value, n, se)``
what columns a table will have, and ``let z = x + n  #! MI0305 ...`` what is refused, and how. A page may
begin with a block ``mi head`` that stands before each of its others. Nothing is left out: an error on a
line that announces none fails, too. `pytest --update-golden` writes what is true now behind each line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from midsl.sema.check import check_source
from midsl.sema.filefacts import FileFacts
from midsl.sema.summary import lines, summarise
from midsl.sema.typenames import type_of
from midsl.sema.values import LateV, Value
from midsl.source import SourceFile, Span
from midsl.syntax import ast

FOLDER = Path(__file__).parent
PAGES = sorted(FOLDER.glob("*.md"))
FENCE = re.compile(r"^```mi( head)?\n(.*?)^```$", re.M | re.S)
MARK = re.compile(r"  +#[:!].*$")
FAMILIES = {
    *(
        "axes",
        "lifting",
        "units",
        "sites",
        "selections",
        "reductions",
        "runs",
        "edits",
        "columns",
        "functions",
    ),
    *("generics", "records", "lenses", "sweeps", "reports", "written", "aliases", "tables", "graphs"),
}


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """The head of a page, and each block that is checked behind it."""
    head = ""
    for is_head, text in FENCE.findall(page.read_text(encoding="utf-8")):
        if is_head:
            head = text
        else:
            yield head, text


CASES = [pytest.param(h, b, id=f"{p.stem}-{i}") for p in PAGES for i, (h, b) in enumerate(blocks(p))]


def statements(tree: ast.Module) -> Iterator[tuple[str, ast.Binding | ast.Report]]:
    """The bindings and reports of a file, and the experiment that each is in."""
    for decl in tree.decls:
        inside = decl.body if isinstance(decl, ast.Experiment) else (decl,)
        name = decl.name if isinstance(decl, ast.Experiment) else ""
        yield from ((name, s) for s in inside if isinstance(s, (ast.Binding, ast.Report)))


def annotated(head: str, block: str) -> str:
    """The block with what is true of each line behind it."""
    bare = [MARK.sub("", line) for line in block.splitlines()]
    above = head.count("\n")
    watch: dict[Span, Value] = {}
    checked = check_source(SourceFile("t.mi", head + "\n".join(bare) + "\n"), FileFacts(), watch=watch)
    said: dict[int, str] = {}
    for d in checked.bag.errors:
        line = d.span.source.line_col(d.span.start)[0] - above
        assert 1 <= line <= len(bare), f"an error outside of the block: {d.message}"
        said[line] = said.get(line, "  #!") + f" {d.code} {d.message};"
    columns = lines([s for s in summarise(checked) if "report" in s])
    assert checked.module is not None
    for experiment, s in statements(checked.module.tree):
        line = s.span.source.line_col(s.span.start)[0] - above
        if line < 1 or line in said or not MARK.search(block.splitlines()[line - 1]):
            continue
        if isinstance(s, ast.Binding):
            found = watch.get(s.name_span)
            said[line] = f"  #: {type_of(found)}" if found is not None else "  #: nothing"
            continue
        text = columns.get((experiment, s.name)) or columns.get((experiment, f"{s.name}_edges"))
        said[line] = f"  #: ({text.partition('(')[2]}" if text else "  #: nothing"
    return "".join(f"{line}{said.get(i, '').removesuffix(';')}\n" for i, line in enumerate(bare, 1))


@pytest.mark.parametrize(("head", "block"), CASES)
def test_each_line_is_what_it_says(head: str, block: str) -> None:
    assert annotated(head, block) == block


def test_update(request: pytest.FixtureRequest) -> None:
    """With `--update-golden`, the pages are written anew; without, nothing is to be done."""
    if not request.config.getoption("--update-golden"):
        pytest.skip("pytest --update-golden")
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for head, block in blocks(page):
            text = text.replace(f"```mi\n{block}```", f"```mi\n{annotated(head, block)}```")
        page.write_text(text, encoding="utf-8")


def test_there_is_a_page_for_each_family_and_cases_enough() -> None:
    assert {p.stem for p in PAGES} == FAMILIES
    marks = [m for p in PAGES for _, b in blocks(p) for m in re.findall(r"#[:!] \S+", b)]
    assert len(marks) >= 150
    assert sum(m.startswith("#!") for m in marks) >= 60
    assert "#: nothing" not in marks


@pytest.mark.parametrize(("head", "block"), CASES)
def test_what_a_value_is_can_be_written(head: str, block: str) -> None:
    """Messages tell the types of values and say to write them, so each must be one that its value has."""
    bare = "".join(f"{MARK.sub('', line)}\n" for line in block.splitlines())
    watch: dict[Span, Value] = {}
    checked = check_source(SourceFile("t.mi", head + bare), FileFacts(), watch=watch)
    assert checked.module is not None
    text = head + bare
    untyped = [s for _, s in statements(checked.module.tree) if isinstance(s, ast.Binding) and s.type is None]
    for s in sorted(untyped, key=lambda s: -s.span.start):
        found = watch.get(s.name_span)
        if found is not None and not isinstance(found, LateV):
            at = s.name_span.end
            text = f"{text[:at]}: {type_of(found)}{text[at:]}"
    again = check_source(SourceFile("t.mi", text), FileFacts()).bag.errors
    assert [d.message for d in again] == [d.message for d in checked.bag.errors]
