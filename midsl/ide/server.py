"""`midsl lsp`: the protocol around the functions of this folder, and nothing else.

The last version of a file that could be checked is kept beside the newest, since completion is asked
for just when the newest is broken.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from lsprotocol import types as lsp
from pygls.lsp.server import LanguageServer
from pygls.uris import from_fs_path, to_fs_path

from midsl import __version__
from midsl.diagnostics.fixes import fixes_in
from midsl.diagnostics.model import Diagnostic, Fix, MiError
from midsl.ide import rename as renaming
from midsl.ide.analysis import Analysis, analyse
from midsl.ide.complete import complete
from midsl.ide.hover import hover
from midsl.ide.text import offset_at, place_of
from midsl.source import NO_SOURCE, Span
from midsl.syntax.fmt import format_source

_SEVERITY = {
    "error": lsp.DiagnosticSeverity.Error,
    "warning": lsp.DiagnosticSeverity.Warning,
    "note": lsp.DiagnosticSeverity.Information,
}
_KIND = {
    "name": lsp.CompletionItemKind.Variable,
    "field": lsp.CompletionItemKind.Field,
    "site": lsp.CompletionItemKind.Property,
    "option": lsp.CompletionItemKind.Property,
    "keyword": lsp.CompletionItemKind.Keyword,
}


class _Placed(Protocol):
    """A request about a place in a file."""

    text_document: lsp.TextDocumentIdentifier
    position: lsp.Position


class Server(LanguageServer):
    """A language server for `.mi` files: one analysis per open file, and the last good one."""

    def __init__(self) -> None:
        super().__init__("midsl", __version__)
        self.now: dict[str, Analysis] = {}
        self.good: dict[str, Analysis] = {}

    def refresh(self, uri: str) -> None:
        """Check a file as it is now, and tell the editor."""
        text = self.workspace.get_text_document(uri).source
        found = analyse(text, Path(to_fs_path(uri) or "untitled.mi"))
        self.now[uri] = found
        if not any(d.code.startswith("MI01") for d in found.diagnostics):
            self.good[uri] = found
        told = [_diagnostic(d, found) for d in found.diagnostics]
        self.text_document_publish_diagnostics(lsp.PublishDiagnosticsParams(uri, told))

    def at(self, params: _Placed) -> tuple[Analysis, int]:
        """The analysis a request is about, and the offset."""
        a = self.now[params.text_document.uri]
        return a, offset_at(a.source, params.position.line, params.position.character)


def _range(span: Span) -> lsp.Range:
    start, end = place_of(span.source, span.start), place_of(span.source, span.end)
    return lsp.Range(lsp.Position(*start), lsp.Position(*end))


def _diagnostic(d: Diagnostic, a: Analysis) -> lsp.Diagnostic:
    spans = (d.span, *(n.span for n in d.notes))  # what is wrong in another file shows where it is used
    here = next((s for s in spans if s.source.path == a.source.path and s.source is not NO_SOURCE), None)
    place = _range(here) if here is not None else lsp.Range(lsp.Position(0, 0), lsp.Position(0, 0))
    said = [d.message, *([d.label] if d.label else []), *([f"help: {d.help}"] if d.help else [])]
    return lsp.Diagnostic(place, "\n".join(said), severity=_SEVERITY[d.severity], code=d.code, source="midsl")


def _edit(fix: Fix) -> lsp.TextEdit:
    return lsp.TextEdit(_range(fix.span), fix.text)


def make_server() -> Server:
    """Return a server with every feature registered, ready to `start_io()`."""
    server = Server()

    @server.feature(lsp.TEXT_DOCUMENT_DID_OPEN)
    def opened(ls: Server, params: lsp.DidOpenTextDocumentParams) -> None:
        ls.refresh(params.text_document.uri)

    @server.feature(lsp.TEXT_DOCUMENT_DID_CHANGE)
    def changed(ls: Server, params: lsp.DidChangeTextDocumentParams) -> None:
        ls.refresh(params.text_document.uri)

    @server.feature(lsp.TEXT_DOCUMENT_DID_CLOSE)
    def closed(ls: Server, params: lsp.DidCloseTextDocumentParams) -> None:
        ls.now.pop(params.text_document.uri, None)
        ls.good.pop(params.text_document.uri, None)

    @server.feature(lsp.TEXT_DOCUMENT_HOVER)
    def hovered(ls: Server, params: lsp.HoverParams) -> lsp.Hover | None:
        found = hover(*ls.at(params))
        if found is None:
            return None
        return lsp.Hover(lsp.MarkupContent(lsp.MarkupKind.Markdown, found[1]), _range(found[0]))

    @server.feature(lsp.TEXT_DOCUMENT_COMPLETION, lsp.CompletionOptions(trigger_characters=[".", "("]))
    def completed(ls: Server, params: lsp.CompletionParams) -> lsp.CompletionList:
        a, offset = ls.at(params)
        found = complete(a, ls.good.get(params.text_document.uri, a), offset)
        items = [lsp.CompletionItem(c.label, kind=_KIND[c.kind], detail=c.detail or None) for c in found]
        return lsp.CompletionList(False, items)

    @server.feature(lsp.TEXT_DOCUMENT_DEFINITION)
    def defined(ls: Server, params: lsp.DefinitionParams) -> lsp.Location | None:
        a, offset = ls.at(params)
        span = renaming.definition(a, offset)
        path = span.source.path if span is not None else None
        uri = from_fs_path(str(path)) if path is not None else None
        if span is None or uri is None:
            return None
        return lsp.Location(params.text_document.uri if span.source is a.source else uri, _range(span))

    @server.feature(lsp.TEXT_DOCUMENT_REFERENCES)
    def referred(ls: Server, params: lsp.ReferenceParams) -> list[lsp.Location]:
        return [
            lsp.Location(params.text_document.uri, _range(s)) for s in renaming.references(*ls.at(params))
        ]

    @server.feature(lsp.TEXT_DOCUMENT_RENAME)
    def renamed(ls: Server, params: lsp.RenameParams) -> lsp.WorkspaceEdit | None:
        done = renaming.rename(*ls.at(params), params.new_name)
        if isinstance(done, str):
            ls.window_show_message(lsp.ShowMessageParams(lsp.MessageType.Warning, done))
            return None
        return lsp.WorkspaceEdit({params.text_document.uri: [_edit(f) for f in done]})

    @server.feature(lsp.TEXT_DOCUMENT_FORMATTING)
    def formatted(ls: Server, params: lsp.DocumentFormattingParams) -> list[lsp.TextEdit]:
        source = ls.now[params.text_document.uri].source
        try:
            text = format_source(source)
        except MiError:
            return []  # its errors are shown already
        return [] if text == source.text else [_edit(Fix(Span(source, 0, len(source.text)), text))]

    @server.feature(lsp.TEXT_DOCUMENT_CODE_ACTION)
    def acted(ls: Server, params: lsp.CodeActionParams) -> list[lsp.CodeAction]:
        a = ls.now[params.text_document.uri]
        start = offset_at(a.source, params.range.start.line, params.range.start.character)
        end = offset_at(a.source, params.range.end.line, params.range.end.character)
        # syntax errors point into a source of their own making, with the same text
        near = [d for d in a.diagnostics if d.span.start <= end and start <= d.span.end]
        out = []
        for d in near:
            for _, fix in fixes_in(d.span.source, [d]):
                change = {params.text_document.uri: [_edit(fix)]}
                title = f"Replace with `{fix.text.strip()}`" if fix.text.strip() else "Remove it"
                out.append(
                    lsp.CodeAction(
                        title,
                        lsp.CodeActionKind.QuickFix,
                        [_diagnostic(d, a)],
                        is_preferred=True,
                        edit=lsp.WorkspaceEdit(change),
                    )
                )
        return out

    return server
