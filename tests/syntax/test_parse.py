"""Trees, spans, documentation, words that are names and keywords, and the table cache."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from midsl.diagnostics.model import Bag
from midsl.source import SourceFile
from midsl.syntax import ast, tables
from midsl.syntax.dump import dump
from midsl.syntax.parse import parse
from tests.conftest import Golden

TESTS = Path(__file__).parents[1]
CORPUS = sorted((TESTS / "corpus").glob("*.mi"))
GOLDEN = TESTS / "golden" / "ast"


def good(text: str) -> ast.Module:
    bag = Bag()
    module = parse(SourceFile("t.mi", "language mi 1\n" + text), bag)
    assert module is not None and not bag.items, bag.items
    assert not module.broken
    return module


def expr(text: str) -> ast.Expr:
    (decl,) = good(f"let it = {text}").decls
    assert isinstance(decl, ast.Binding)
    return decl.value


@pytest.mark.parametrize("path", CORPUS, ids=lambda p: p.stem)
def test_corpus_trees(path: Path, golden: Golden) -> None:
    bag = Bag()
    module = parse(SourceFile(path.name, path.read_text()), bag)
    assert module is not None and not bag.items, bag.items
    golden(GOLDEN / f"{path.stem}.txt", dump(module))


def test_no_tree_without_a_program() -> None:
    assert {p.stem for p in GOLDEN.glob("*.txt")} == {p.stem for p in CORPUS}


def nodes(node: object) -> Iterator[ast.Node]:
    if isinstance(node, ast.Node):
        yield node
        for name in node.__dataclass_fields__:
            yield from nodes(getattr(node, name))
    elif isinstance(node, tuple):
        for child in node:
            yield from nodes(child)


@pytest.mark.parametrize("path", CORPUS, ids=lambda p: p.stem)
def test_spans_hold_exactly_their_node(path: Path) -> None:
    """The text of an expression's span, parsed alone, is that expression."""
    module = parse(SourceFile(path.name, path.read_text()), Bag())
    seen = 0
    for node in nodes(module):
        text = node.span.text
        assert text == text.strip()
        if isinstance(node, ast.Binding):
            assert node.name_span.text == node.name
        if isinstance(node, ast.Field):
            assert node.name_span.text == node.name
        if isinstance(node, ast.Expr) and not isinstance(node, (ast.All, ast.Range, ast.Edits)):
            assert expr(text) == node
            seen += 1
    assert seen > 20


def test_keywords_are_names_where_no_keyword_fits() -> None:
    soft = [w for w in tables.load_tables().keywords if w not in tables.load_tables().reserved]
    assert len(soft) > 30
    for word in soft:
        assert expr(word) == ast.Name(word)
        assert expr(f"f({word}: {word}).{word}[{word}: 1]") == ast.Index(
            ast.Field(ast.Call(ast.Name("f"), (ast.Arg(word, ast.Name(word)),)), word),
            (ast.Item(word, ast.Literal_(1)),),
        )
        assert expr(f"{{ {word}: 1 }}") == ast.Record(((word, ast.Literal_(1)),))
        (decl,) = good(f"let {word} = 1").decls
        assert isinstance(decl, ast.Binding) and decl.name == word


def test_keyword_at_the_start_of_a_line_inside_a_call() -> None:
    text = "f(\n  model: 1,\n  data,\n  report + site,\n  from: 2)"
    value = expr(text)
    assert isinstance(value, ast.Call) and [a.name for a in value.args] == ["model", None, None, "from"]


def test_words_are_not_split() -> None:
    bag = Bag()
    parse(SourceFile("t.mi", "language mi 1\nletm = 3"), bag)
    assert [d.code for d in bag] == ["MI0101"]
    assert expr("lets + runs + iffy + nothing") == expr("(lets + runs) + iffy + nothing")


@pytest.mark.parametrize(
    ("loose", "tight"),
    [
        ("a or b and c", "a or (b and c)"),
        ("not a and b", "(not a) and b"),
        ("not a == b", "not (a == b)"),
        ("a | b == c", "(a | b) == c"),
        ("a + b * c", "a + (b * c)"),
        ("a - b - c", "(a - b) - c"),
        ("-a ** b", "-(a ** b)"),
        ("a ** -b ** c", "a ** (-(b ** c))"),
        ("l - 5..r + 5", "(l - 5)..(r + 5)"),
        ("a.b(c)[d]", "((a.b)(c))[d]"),
        ("run m on d.x - b", "(run m on (d.x)) - b"),
        ("fn (x) => x or y", "fn (x) => (x or y)"),
        ("if a then b else c + d", "if a then b else (c + d)"),
        ("a in b or c", "(a in b) or c"),
        ("a + b in 0..3 by 2", "(a + b) in (0..3 by 2)"),
    ],
)
def test_precedence(loose: str, tight: str) -> None:
    assert expr(loose) == expr(tight)


def test_values_of_literals() -> None:
    def value(text: str) -> object:
        e = expr(text)
        assert isinstance(e, ast.Literal_)
        return e.value

    assert value("10_000") == 10_000 and type(value("10_000")) is int
    assert value("1e3") == 1000.0 and type(value("1e3")) is float
    assert value("true") is True
    assert value(r'"a\n\"\\\u{2192}"') == 'a\n"\\→'
    assert value('"# not a comment"') == "# not a comment"


def test_documentation() -> None:
    module = good(
        "## far away\n\n## one\n## two\nparam n: Int = 1  ## three\n"
        "let a = 1  let b = 2  ## of b\n"
        "let c = [1,  ## inside\n  2]\n"
        "experiment e {   ## of e\n"
        "  sweep h in z   ## of nothing\n"
        "  ## above r\n  report r = 1 ## behind r\n"
        "  # plain\n  report s = 1\n"
        "}\n"
        "let d = 4\n## after the end"
    )
    docs = {d.name: d.docs for d in module.decls if isinstance(d, (ast.Param, ast.Binding, ast.Experiment))}
    assert docs == {"n": "one\ntwo\nthree", "a": "", "b": "of b", "c": "inside", "e": "of e", "d": ""}
    body = next(d for d in module.decls if isinstance(d, ast.Experiment)).body
    assert [s.docs for s in body if isinstance(s, ast.Report)] == ["above r\nbehind r", ""]


def test_windows_line_ends_and_byte_order_mark() -> None:
    text = (TESTS / "corpus" / "forms.mi").read_text()
    plain = parse(SourceFile("a", text), Bag())
    bag = Bag()
    other = parse(SourceFile("b", "\ufeff" + text.replace("\n", "\r\n")), bag)
    assert not bag.items and other == plain


def test_nesting_that_people_write_is_deep_enough() -> None:
    assert expr("(" * 150 + "a" + ")" * 150) == ast.Name("a")
    assert isinstance(expr("f([" * 40 + "a" + "])" * 40), ast.Call)


def test_long_files_take_time_in_proportion() -> None:
    """Ten times the text may not take a hundred times the time, good or bad."""
    line = "let a = f(x, y: [1, 2, 3]).z[head: *] + b\n"

    def cost(text: str) -> float:
        start = time.process_time()
        parse(SourceFile("t.mi", "language mi 1\n" + text), Bag())
        return time.process_time() - start

    cost(line)
    small, large = cost(line * 100), cost(line * 1000)
    assert large < 40 * small
    assert cost(line * 1000 + "let = 3\n" * 24) < 40 * cost(line * 100 + "let = 3\n" * 24)


# ---------------------------------------------------------------- the cache of tables


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("MIDSL_CACHE_DIR", str(tmp_path / "cache"))
    tables.load_tables.cache_clear()
    yield tmp_path / "cache"
    tables.load_tables.cache_clear()


def _reads_the_corpus() -> bool:
    tables.load_tables.cache_clear()
    source = SourceFile("forms.mi", (TESTS / "corpus" / "forms.mi").read_text())
    bag = Bag()
    module = parse(source, bag)
    return not bag.items and module is not None and len(module.decls) == 36


def test_cache_is_written_used_and_mended(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _reads_the_corpus()
    (path,) = fresh.iterdir()
    whole = path.read_bytes()
    for damage in (b"", b"\xff\xfe", whole[: len(whole) // 2], whole.replace(b":3", b":4", 1), b"x\n{}"):
        path.write_bytes(damage)
        assert _reads_the_corpus()
        assert len(path.read_bytes()) > len(whole) // 2 and path.read_bytes() != damage
    assert list(fresh.iterdir()) == [path]
    monkeypatch.setattr(tables, "_generate", lambda grammar: pytest.fail("a good cache was not used"))
    assert _reads_the_corpus()


def test_a_cache_that_cannot_be_written_costs_only_time(fresh: Path) -> None:
    fresh.write_text("a file where the folder should be")
    assert tables.load_tables().states


def test_a_warm_parse_imports_neither_lark_nor_torch() -> None:
    code = (
        "import sys\nfrom midsl.diagnostics.model import Bag\nfrom midsl.source import SourceFile\n"
        "from midsl.syntax.parse import parse\nparse(SourceFile('a', 'language mi 1'), Bag())\n"
        "print([m for m in ('lark', 'torch', 'numpy') if m in sys.modules])"
    )
    tables.load_tables()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
