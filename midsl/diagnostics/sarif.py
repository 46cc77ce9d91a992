"""Diagnostics as SARIF 2.1.0, the format that code-scanning services and editors read.

Only what every reader understands: one run, a rule per code that occurs (with its page of the catalogue),
a result per diagnostic, its notes as related locations.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from midsl import __version__
from midsl.diagnostics.codes import CODES, LINTS
from midsl.diagnostics.model import Diagnostic
from midsl.resources import resource_dir
from midsl.source import NO_SOURCE, Span

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def render_sarif(diagnostics: Iterable[Diagnostic]) -> dict[str, Any]:
    """Return a SARIF log: lines and columns count code points from 1, end columns are exclusive.

    >>> render_sarif([Diagnostic("MI0201", "unknown name `x`")])["runs"][0]["results"][0]["level"]
    'error'
    """
    found = list(diagnostics)
    codes = sorted({d.code for d in found})
    driver = {"name": "midsl", "version": __version__, "rules": [_rule(code) for code in codes]}
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(d, codes.index(d.code)) for d in found],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(code: str) -> dict[str, Any]:
    rule: dict[str, Any] = {"id": code, "shortDescription": {"text": (CODES | LINTS)[code]}}
    page = resource_dir("grammar") / "errors" / f"{code}.md"
    if page.is_file():
        text = page.read_text(encoding="utf-8")
        rule["help"] = {"text": text, "markdown": text}
    return rule


def _result(d: Diagnostic, rule: int) -> dict[str, Any]:
    said = [d.message, *([d.label] if d.label else []), *([f"help: {d.help}"] if d.help else [])]
    result: dict[str, Any] = {
        "ruleId": d.code,
        "ruleIndex": rule,
        "level": d.severity,
        "message": {"text": "\n".join(said)},
    }
    if d.span.source is not NO_SOURCE:
        result["locations"] = [{"physicalLocation": _place(d.span)}]
    related = [
        {"id": i, "physicalLocation": _place(n.span), "message": {"text": n.text}}
        for i, n in enumerate(d.notes)
        if n.span.source is not NO_SOURCE
    ]
    return result | ({"relatedLocations": related} if related else {})


def _place(span: Span) -> dict[str, Any]:
    line, col = span.source.line_col(span.start)
    end_line, end_col = span.source.line_col(max(span.end, span.start))
    region = {"startLine": line, "startColumn": col, "endLine": end_line, "endColumn": end_col}
    return {"artifactLocation": {"uri": quote(span.source.name)}, "region": region}
