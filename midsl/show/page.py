"""A run as one page of HTML that fetches nothing: to read, to mail, to put beside a paper.

It holds what was asked, the spec, the verdicts, pictures, tables, the plan, and what the run was made with.
All of it is plain HTML and SVG without scripts: it works from a file, by keyboard, on light and dark screens,
and in print.
"""

from __future__ import annotations

import html
import json
import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from midsl.show.features import passes, section
from midsl.show.results import heading
from midsl.show.stored import facts, verdict
from midsl.show.style import STYLE
from midsl.show.svg import can_draw, svg
from midsl.show.table import column_text, is_number
from midsl.store.rows import CheckRow, ResultTable
from midsl.store.runs import VERIFYING, StoredRun
from midsl.store.wide import WideTable, side_by_side

MOST_ROWS, MOST_MARKS = 200, 20_000
"""Rows of a table and of a picture that a page holds; what is left out is told."""

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""What a browser is told: whatever a page holds, nothing is fetched and no script runs."""

Highlight = Callable[[str], str]
"""A spec's text as HTML, its words in spans."""


def page(run: StoredRun, highlight: Highlight, styles: tuple[str, str]) -> str:
    """Return the page of a run.

    Args:
        styles: CSS of the highlighted spec, on a light page and on a dark one.
    """
    spec = run.row["spec_name"]
    parts = [
        ("question", "Question", _paragraphs(question(run.source))),
        ("claims", "Claims", _claims(run)),
        ("results", "Results", _results(run)),
        ("units", "Units where they are largest", _units(run)),
        ("views", "Seen beside them", _views(run)),
        ("spec", "Spec", f'<pre tabindex="0"><code>{highlight(run.source)}</code></pre>'),
        ("plan", "Plan", _plan(run)),
        ("environment", "Made with", _environment(run)),
        ("again", "Run it again, and cite it", _again(run)),
    ]
    shown = [(name, title, body) for name, title, body in parts if body]
    links = "".join(f'<li><a href="#{name}">{title}</a></li>' for name, title, _ in shown)
    body = "".join(
        f'<section id="{name}" aria-labelledby="{name}-h"><h2 id="{name}-h">{title}</h2>{body}</section>'
        for name, title, body in shown
    )
    light, dark = styles
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{_esc(spec)}: {_esc(run.row['status'])}</title>"
        f"<style>{STYLE}{light}@media (prefers-color-scheme: dark) {{{dark}}}</style></head><body>"
        f'<a class="skip" href="#results">To the results</a><header><h1>{_esc(spec)}</h1>'
        f"<p>{_badge(run)} {_esc(run.row['run_uuid'])}</p><nav><ul>{links}</ul></nav></header>"
        f"<main>{body}</main></body></html>\n"
    )


def question(source: str) -> str:
    """Return the first comment of a spec that is there to be read, as text.

    >>> question("language mi 1\\n## What do heads do?\\n## Two lines.\\nimport x\\n## not this")
    'What do heads do? Two lines.'
    """
    lines: list[str] = []
    for line in source.splitlines():
        if line.startswith("##"):
            lines.append(line.removeprefix("##").strip())
        elif lines:
            break
    return " ".join(lines)


def _badge(run: StoredRun) -> str:
    failed = sum(not c.passed for c in run.checks)
    total = len(run.checks)
    hold = "agree" if run.row["status"] in VERIFYING else "expects hold"
    words = f"{run.row['status']}, {total - failed} of {total} {hold}" if total else str(run.row["status"])
    good = run.row["status"] in ("done", "verified")
    return f'<strong class="{"good" if good else "bad"}">{_esc(words)}</strong>'


def _claims(run: StoredRun) -> str:
    rows = [
        f'<tr><td class="{"good" if c.passed else "bad"}">{_said(c)}</td>'
        f"<td>{_esc(c.experiment)}</td><td><code>{_esc(c.text)}</code></td><td>{_esc(c.observed)}</td>"
        f"<td>{_esc(c.message)}</td></tr>"
        for c in run.checks
    ]
    table = _html_table(["", "experiment", "expect", "seen", "because"], rows) if rows else ""
    return table + _verified(run)


def _said(c: CheckRow) -> str:
    good, bad = ("✓ agrees", "✗ differs") if c.kind == "verify" else ("✓ holds", "✗ fails")
    return good if c.passed else bad


def _verified(run: StoredRun) -> str:
    """What `midsl verify` found of the same spec on the same weights and rows."""
    by = run.verified
    if by is None or by.row == run.row:
        return ""
    rows = [
        f'<tr><td class="{"good" if c.passed else "bad"}">{_said(c)}</td>'
        f"<td><code>{_esc(c.text)}</code></td><td>{_esc(c.observed)}</td><td>{_esc(c.message)}</td></tr>"
        for c in by.checks
    ]
    table = _html_table(["", "what", "seen", "how"], rows)
    return f"<p>Verified: {_esc(verdict(by))}.</p>{_folded(f'{len(rows)} comparisons', table)}"


def _results(run: StoredRun) -> str:
    out = []
    for table in side_by_side(run.tables):
        held = list(table.parts.values()) if isinstance(table, WideTable) else [table]
        figures = [_figure(kind, t, spec) for kind, t, _, spec in run.plots if any(t is h for h in held)]
        body = "".join(figures) + _rows(table, bool(figures))
        title = table.title if isinstance(table, WideTable) else heading(table)
        out.append(f"<article><h3>{_esc(title)}</h3>{body}</article>")
    return "".join(out)


def _units(run: StoredRun) -> str:
    """What `contexts` found, unit by unit."""
    spec = run.row["spec_name"]
    found = [
        f"<article><h3>{_esc(f'{p.experiment}.{p.name}')}</h3>{section(p, spec)}</article>"
        for p in passes(run.tables)
    ]
    return "".join(found)


def _views(run: StoredRun) -> str:
    """What the spec's `view`s showed: rows as tokens, columns, values."""
    out = []
    for v in run.views:
        note = f"<p>The first {MOST_ROWS} of {len(v.rows)} rows.</p>" if len(v.rows) > MOST_ROWS else ""
        body = note + _plain_table(v.columns, v.rows[:MOST_ROWS])
        out.append(f"<article><h3>{_esc(f'{v.experiment}: {v.title}')}</h3>{body}</article>")
    return "".join(out)


def _figure(kind: str, table: ResultTable, spec: dict[str, Any]) -> str:
    title = f"{kind} of {table.title}"
    if len(table) > MOST_MARKS:
        return f"<p>{_esc(title)}: {len(table)} rows are more than a page draws ({MOST_MARKS}).</p>"
    if not can_draw():
        return f'<p>{_esc(title)}: not drawn, for <code>pip install "midsl[plot]"</code> was not done.</p>'
    held = json.dumps(spec, ensure_ascii=False).replace("<", "\\u003c")
    return (
        f'<figure tabindex="0" aria-label="{_esc(title)}">{svg(spec)}<figcaption>{_esc(title)}</figcaption>'
        f'<script type="application/json">{held}</script></figure>'
    )


def _rows(table: ResultTable | WideTable, folded: bool) -> str:
    first = table.first if isinstance(table, WideTable) else table
    if first is table and not first.keys and len(table) == 1:
        return ""
    picked, note = np.arange(len(table)), ""
    if len(table) > MOST_ROWS:
        size = np.where(np.isnan(first.value), -1.0, np.abs(first.value))
        picked = np.sort(np.argsort(-size, kind="stable")[:MOST_ROWS])
        note = f"<p>The {MOST_ROWS} largest by size of {len(table)} rows; the store has all of them.</p>"
    body = note + _plain_table(table.columns, table.rows(int(i) for i in picked))
    return _folded(f"{len(table)} rows", body, opened=not folded and len(table) <= 40)


def _plain_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    texts = [column_text([row[i] for row in rows]) for i in range(len(columns))]
    right = [all(row[i] is None or is_number(row[i]) for row in rows) for i in range(len(columns))]
    lines = [
        "<tr>"
        + "".join(f"<td{' class=num' if r else ''}>{_esc(t)}</td>" for t, r in zip(line, right, strict=True))
        + "</tr>"
        for line in zip(*texts, strict=True)
    ]
    return _html_table(columns, lines)


def _html_table(columns: Iterable[str], lines: Iterable[str]) -> str:
    head = "".join(f'<th scope="col">{_esc(c)}</th>' for c in columns)
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return f'<div class="wide" tabindex="0"><table>{body}</table></div>'


def _plan(run: StoredRun) -> str:
    plan = run.one("plans")
    naive, optimised = json.loads(plan["naive"]), json.loads(plan["optimised"])
    rows = [
        (
            what,
            naive[what],
            optimised[what],
            f"{naive[what] / optimised[what]:.1f}x" if optimised[what] else "-",
        )
        for what in naive
    ]
    table = _plain_table(["", "a run for every point", "as planned", "less"], rows) if rows else ""
    if not plan["explain"]:
        return table
    explained = f'<pre tabindex="0">{_esc(plan["explain"])}</pre>'
    return table + _folded("midsl explain", explained)


def _environment(run: StoredRun) -> str:
    lines = "".join(f"<dt>{_esc(what)}</dt><dd>{_esc(value)}</dd>" for what, value in facts(run))
    packages = run.environment.get("packages", {})
    told = ", ".join(f"{k} {v}" for k, v in packages.items())
    more = _folded(f"{len(packages)} packages", _paragraphs(told)) if packages else ""
    found = [
        f"<li>{_esc(d['severity'])}[{_esc(d['code'])}]: {_esc(d['message'])}"
        + (f" ({_esc(d['file'])}:{d['line']})" if d["file"] else "")
        + "</li>"
        for d in run.rows("diagnostics")
    ]
    said = _folded(f"{len(found)} warnings", f"<ul>{''.join(found)}</ul>") if found else ""
    return f"<dl>{lines}</dl>{more}{said}"


def _again(run: StoredRun) -> str:
    r, env = run.row, run.environment
    command = shlex.join(["midsl", *r["argv"]]) if r["argv"] else f"midsl run {shlex.quote(r['spec_path'])}"
    version, year = env.get("midsl"), f"{r['started_at']:%Y}"
    made = f"midsl {version}, torch {env.get('torch')}"
    cite = (
        f"@misc{{{r['spec_name']}_{r['run_uuid'][-8:]},\n"
        f"  title = {{{r['spec_name']}: a midsl run}},\n"
        f"  year = {{{year}}},\n"
        f"  note = {{run {r['run_uuid']}, spec sha256 {r['spec_hash']}, {made}}}\n}}"
    )
    return (
        f"<p>The text above, in a file, and this command give these rows again:</p>"
        f'<pre tabindex="0">{_esc(command)}</pre><pre tabindex="0">{_esc(cite)}</pre>'
    )


def _folded(title: str, body: str, opened: bool = False) -> str:
    return f"<details{' open' if opened else ''}><summary>{_esc(title)}</summary>{body}</details>"


def _paragraphs(text: str) -> str:
    return f"<p>{_esc(text)}</p>" if text else ""


def _esc(text: object) -> str:
    return html.escape(str(text))
