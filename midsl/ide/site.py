"""`midsl doc --site DIR`: manual, language, library and codes as pages that fetch nothing."""

from __future__ import annotations

import html
from pathlib import Path

from markdown_it import MarkdownIt

from midsl.ide.docs import Page, look_up
from midsl.ide.library import modules
from midsl.ide.pygments_lexer import highlight_styles, highlighted
from midsl.resources import resource_dir

_STYLE = """
body { max-width: 48rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; }
pre, code { font: .9em/1.4 ui-monospace, monospace; }
pre { overflow-x: auto; padding: .6rem; background: #8881; }
table { border-collapse: collapse; }
td, th { border: 1px solid #8886; padding: .2rem .5rem; text-align: left; }
nav a { margin-right: 1rem; } :root { color-scheme: light dark; }
"""


def write_site(folder: Path) -> list[Path]:
    """Write all pages into a folder, `index.html` first; return their paths."""
    pages: dict[str, tuple[str, str]] = {}
    grammar = resource_dir("grammar")
    for path in sorted((grammar / "manual").glob("*.md")):
        pages[f"manual-{path.stem}"] = _markdown(path)
    pages["language"] = _markdown(grammar / "SPEC.md")
    for module in modules():
        pages[module.name] = (module.name, "".join(map(_entry, _of_module(module.name))))
    for path in sorted((grammar / "errors").glob("*.md")):
        pages[path.stem] = _markdown(path)
    for path in sorted((grammar / "decisions").glob("*.md")):
        pages[f"decision-{path.stem}"] = _markdown(path)
    pages = {"index": ("midsl", _contents(pages)), **pages}
    folder.mkdir(parents=True, exist_ok=True)
    light, dark = highlight_styles()
    style = f"{_STYLE}{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}"
    written = []
    for name, (title, body) in pages.items():
        file = folder / f"{name}.html"
        file.write_text(_page(title, body, style), encoding="utf-8")
        written.append(file)
    return written


def _of_module(name: str) -> list[Page]:
    whole = look_up(name)[0]
    return [whole, *(look_up(f"{name}.{member}")[0] for member, _ in whole.members)]


def _entry(page: Page) -> str:
    """One function, or the head of a module."""
    parts = [f'<h2 id="{_text(page.name)}">{_text(page.name)}</h2>' if page.kind == "function" else ""]
    parts.append(f"<pre>{highlighted(page.signature)}</pre>" if page.signature else "")
    parts.append("".join(f"<p>{_text(p)}</p>" for p in page.docs.split("\n\n")))
    parts.append(f"<p>Source: {_text(page.source)}</p>" if page.source else "")
    parts.append(f"<pre>{highlighted(page.examples[0])}</pre>" if page.examples else "")
    return "".join(parts)


def _markdown(path: Path) -> tuple[str, str]:
    """The title and the body of a page that is written in Markdown; HTML in it is text."""
    text = path.read_text(encoding="utf-8")
    title = text.splitlines()[0].lstrip("# ")
    made = MarkdownIt("commonmark", {"html": False, "highlight": _code}).enable("table").render(text)
    return title, _linked(made)


def _code(text: str, language: str, attributes: str) -> str:
    return highlighted(text) if language == "mi" else html.escape(text)


def _linked(body: str) -> str:
    """Links from one page of the manual to another lead to its HTML."""
    for path in (resource_dir("grammar") / "manual").glob("*.md"):
        body = body.replace(f'href="{path.name}"', f'href="manual-{path.stem}.html"')
    return body


def _contents(pages: dict[str, tuple[str, str]]) -> str:
    groups = {
        "Manual": [n for n in pages if n.startswith("manual-") or n == "language"],
        "Library": [n for n in pages if n.startswith("std.")],
        "Codes": [n for n in pages if n[:2] == "MI" or (n[0] == "L" and n[1:].isdigit())],
        "Decisions": [n for n in pages if n.startswith("decision-")],
    }
    return "".join(
        f"<h2>{group}</h2><ul>"
        + "".join(f'<li><a href="{n}.html">{_text(pages[n][0])}</a></li>' for n in names)
        + "</ul>"
        for group, names in groups.items()
    )


def _page(title: str, body: str, style: str) -> str:
    head = "" if body.startswith("<h1") else f"<h1>{_text(title)}</h1>"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{_text(title)}</title>'
        '<meta name="viewport" content="width=device-width">'
        f'<style>{style}</style><nav><a href="index.html">midsl</a></nav><main>{head}{body}</main></html>\n'
    )


def _text(text: str) -> str:
    return html.escape(text)
