"""The language server, driven by a client without an editor, and the functions under it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pygls")

from lsprotocol import types as lsp
from pygls.lsp.client import LanguageClient

from midsl.ide.analysis import analyse
from midsl.ide.complete import complete
from midsl.ide.hover import hover
from midsl.ide.rename import definition, rename
from midsl.ide.server import _diagnostic

TEXT = """language mi 1
import std.models as models
from std.tasks import induction
from std.metrics import logit_diff

model  m  = models.toy(layers: 2, heads: 4, d_model: 32, vocab: 32, ctx: 24)
data   d  = induction(m.tokenizer, n: 4, period: 4)
site   z  = m.blocks[*].attn.z[head: *]
metric ld = logit_diff(correct: .answer, wrong: .wrong)

experiment patching {
  sweep h in z
  let clean   = run m on d.clean
  let corrupt = run m on d.corrupt
  let patched = run m on d.corrupt do { h := clean }
  report effect = mean(ld(patched) - ld(corrupt), over: batch)
  expect mean(ld(clean), over: batch) > 0, "the model does the task"
}
"""


def at(piece: str, inside: str = "", text: str = TEXT) -> int:
    """The offset of a piece of the text, or of something inside it."""
    return text.index(piece) + (piece.index(inside) if inside else 0)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lsp") / "a.mi"


def test_what_is_wrong_inside_the_library_shows_where_it_is_used(file: Path) -> None:
    call = "topk_sae(at: z, d_sae: 0, k: 2)"
    text = TEXT.replace("experiment", f"decomposition sae = {call}\nexperiment", 1).replace(
        "from std.tasks", "from std.decomp import topk_sae\nfrom std.tasks"
    )
    a = analyse(text, file)
    (error,) = (d for d in a.diagnostics if d.severity == "error")
    assert error.span.source is not a.source
    line = text[: text.index(call)].count("\n")
    assert _diagnostic(error, a).range.start == lsp.Position(line, len("decomposition sae = "))


@pytest.mark.parametrize(
    ("piece", "inside", "said"),
    [
        ("clean   = run", "", "Run on clean"),
        ("ld(patched)", "patched", "Run on corrupt with edits"),
        (
            "z  = m.blocks",
            "",
            "Site[batch, pos, head, d_head] (head 4, d_head 8), one for each layer and head",
        ),
        ("run m on d.clean", "m", "Model ("),
        ("effect = mean", "", "report effect: Float[layer, head]"),
        ("ld(patched)", "ld", "metric ld"),
        ("= induction(", "induction", "fn induction(tokenizer: Tokenizer"),
        ("= logit_diff(", "logit_diff", "logit(correct) - logit(wrong) at `pos`"),
        ("effect = mean", "mean", "The mean over the named axes"),
    ],
)
def test_hover(file: Path, piece: str, inside: str, said: str) -> None:
    found = hover(analyse(TEXT, file), at(piece, inside))
    assert found is not None and said in found[1]


def labels(text: str, file: Path) -> dict[str, str]:
    """Proposals at the `|` of a text, as label -> kind; types come from the whole file."""
    offset = text.index("|")
    broken = analyse(text.replace("|", ""), file)
    return {c.label: c.kind for c in complete(broken, analyse(TEXT, file), offset)}


def test_completion(file: Path) -> None:
    def typed(line: str) -> dict[str, str]:
        return labels(TEXT.replace("  report effect", f"  {line}\n  report effect"), file)

    assert {"clean", "corrupt", "h", "z", "ld", "m"} <= set(typed("let q = |"))
    assert "h" not in labels(TEXT + "let q = |\n", file), "not outside its experiment"
    assert {"resid_pre", "resid_post", "attn"} <= set(typed("let q = clean[m.blocks[0].|]"))
    assert {"z", "pattern", "q"} <= set(typed("let q = clean[m.blocks[0].attn.|]"))
    assert typed("let q = m.|")["blocks"] == "field"
    assert {"clean", "corrupt", "answer"} <= set(typed("let q = d.|"))
    assert set(typed("let q = clean.|")) == {"logits", "data"}
    assert {"toy", "hf"} <= set(typed("let q = models.|"))
    assert typed("let q = models.toy(|)")["layers:"] == "option"
    assert typed("let q = induction(m.tokenizer, per|)")["period:"] == "option"


def test_definition(file: Path) -> None:
    a = analyse(TEXT, file)
    own = definition(a, at("ld(patched)", "patched"))
    assert own is not None and own.start == at("patched = run")
    for piece, inside, name in (
        ("= induction(", "induction", "tasks.mi"),
        ("models.toy", "toy", "models.mi"),
    ):
        span = definition(a, at(piece, inside))
        assert span is not None and span.source.path is not None and span.source.path.name == name
        assert f"fn {inside}(" in span.text


def test_rename(file: Path) -> None:
    a = analyse(TEXT, file)
    done = rename(a, at("let clean", "clean"), "pure")
    assert not isinstance(done, str)
    assert [f.span.start for f in done] == [
        at("clean   = run"),
        at("h := clean", "clean"),
        at("ld(clean)", "clean"),
    ]
    for new, why in (("corrupt", "already"), ("if", "cannot"), ("No", "cannot")):
        assert why in str(rename(a, at("let clean", "clean"), new))
    assert "module" in str(rename(a, at("ld = logit_diff", "logit_diff"), "x"))


def test_a_swept_name_is_one_name(file: Path) -> None:
    found = rename(analyse(TEXT, file), at("sweep h in z", "h in"), "one")
    assert not isinstance(found, str) and len(found) == 2


# ---------------------------------------------------------------- end to end


class Editor(LanguageClient):
    """A client that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__("test", "1")
        self.told: asyncio.Queue[lsp.PublishDiagnosticsParams] = asyncio.Queue()

        @self.feature(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)  # type: ignore[untyped-decorator]
        def keep(params: lsp.PublishDiagnosticsParams) -> None:
            self.told.put_nowait(params)

        @self.feature(lsp.WINDOW_SHOW_MESSAGE)  # type: ignore[untyped-decorator]
        def shown(params: lsp.ShowMessageParams) -> None:
            pass


def drive(session: Callable[[Editor, str], Awaitable[None]], uri: str) -> None:
    """Start the server as an editor does, open the text, hold a session, shut down."""

    async def whole() -> None:
        editor = Editor()
        await editor.start_io(sys.executable, "-m", "midsl.cli", "lsp")
        await editor.initialize_async(lsp.InitializeParams(lsp.ClientCapabilities(), root_uri=None))
        editor.initialized(lsp.InitializedParams())
        item = lsp.TextDocumentItem(uri, "mi", 1, TEXT)
        editor.text_document_did_open(lsp.DidOpenTextDocumentParams(item))
        await session(editor, uri)
        await editor.shutdown_async(None)
        editor.exit(None)
        await editor.stop()  # type: ignore[no-untyped-call]

    asyncio.run(asyncio.wait_for(whole(), 60))


def where(piece: str, inside: str = "") -> lsp.Position:
    before = TEXT[: at(piece, inside)]
    return lsp.Position(before.count("\n"), len(before) - before.rfind("\n") - 1)


def test_a_session(tmp_path: Path) -> None:
    async def session(editor: Editor, uri: str) -> None:
        document = lsp.TextDocumentIdentifier(uri)
        assert not (await editor.told.get()).diagnostics

        def change(text: str, version: int) -> None:
            editor.text_document_did_change(
                lsp.DidChangeTextDocumentParams(
                    lsp.VersionedTextDocumentIdentifier(version, uri),
                    [lsp.TextDocumentContentChangeWholeDocument(text)],
                )
            )

        change(TEXT.replace("ld(patched)", "ld(pached)"), 2)
        (wrong,) = (await editor.told.get()).diagnostics
        assert wrong.code == "MI0201" and wrong.range.start == where("ld(patched)", "patched")
        context = lsp.CodeActionContext([wrong])
        actions: Any = await editor.text_document_code_action_async(
            lsp.CodeActionParams(document, wrong.range, context)
        )
        (edit,) = actions[0].edit.changes[uri]
        assert edit.new_text == "patched"
        change(TEXT.replace("model  m", "model m"), 3)
        await editor.told.get()
        (whole,) = await editor.text_document_formatting_async(  # type: ignore[misc]
            lsp.DocumentFormattingParams(document, lsp.FormattingOptions(2, True))
        )
        assert whole.new_text == TEXT
        change(TEXT, 4)
        await editor.told.get()
        shown = await editor.text_document_hover_async(lsp.HoverParams(document, where("effect = mean")))
        assert shown is not None and "Float[layer, head]" in shown.contents.value  # type: ignore[union-attr]
        place: Any = await editor.text_document_definition_async(
            lsp.DefinitionParams(document, where("models.toy", "toy"))
        )
        assert place.uri.endswith("models.mi")
        renamed = await editor.text_document_rename_async(
            lsp.RenameParams(document, where("clean   = run"), "pure")
        )
        assert renamed is not None and renamed.changes is not None and len(renamed.changes[uri]) == 3
        used: Any = await editor.text_document_references_async(
            lsp.ReferenceParams(lsp.ReferenceContext(True), document, where("clean   = run"))
        )
        assert len(used) == 3
        found: Any = await editor.text_document_completion_async(
            lsp.CompletionParams(document, where("ld(patched)", "patched"))
        )
        assert {"clean", "corrupt"} <= {i.label for i in found.items}

    drive(session, (tmp_path / "a.mi").as_uri())


def test_three_hundred_lines_are_checked_while_typing(file: Path) -> None:
    """Against the time this machine takes for plain work, as speed is told elsewhere."""
    body = TEXT[TEXT.index("experiment") :]
    text = TEXT + "".join(body.replace("patching", f"patching_{i}") for i in range(36))
    assert text.count("\n") > 300
    analyse(text, file)  # warm: tables, standard library

    def best(work: Callable[[], object]) -> float:
        times = []
        for _ in range(3):
            start = time.process_time()
            work()
            times.append(time.process_time() - start)
        return min(times)

    yardstick = best(lambda: sum(i * i for i in range(1_000_000)))  # some 50 ms where this was written
    taken = best(lambda: analyse(text, file))
    print(f"{taken * 1e3:.0f} ms, yardstick {yardstick * 1e3:.0f} ms")
    assert taken < 8 * yardstick, "100 ms where the yardstick takes 30; the rest is slack for busy machines"


def test_a_control_goes_by_the_name_that_it_stands_in_for(file: Path) -> None:
    text = TEXT + "let strength = 1.0\ncontrol strength = 0.0\n"
    found = rename(analyse(text, file), text.index("strength"), "dose")
    assert not isinstance(found, str)
    assert [f.span.start for f in found] == [text.index("strength"), text.index("strength = 0.0")]
