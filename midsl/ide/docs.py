"""What `midsl doc` says: a name of the standard library, of the language, of a site, or a code, looked up."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from midsl.diagnostics.codes import CODES, LINTS
from midsl.diagnostics.model import fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.graph.names import BY_NAME
from midsl.ide.library import Entry, Library, first_sentence, modules, of_file
from midsl.resources import resource_dir
from midsl.sema.builtin_docs import BUILTIN_DOCS


@dataclass(frozen=True)
class Page:
    """What there is to say of one name.

    Attributes:
        name: the name in full (`std.metrics.kl`).
        kind: function, module, builtin, site or code.
        signature: how it is called, or "".
        docs: what it does.
        source: the paper it is from, or "".
        use: the line that makes it known to a spec, or "".
        examples: tests that use it.
        members: of a module, (name, first sentence) of each function.
    """

    name: str
    kind: str
    signature: str = ""
    docs: str = ""
    source: str = ""
    use: str = ""
    examples: tuple[str, ...] = ()
    members: tuple[tuple[str, str], ...] = field(default=())

    def as_json(self) -> dict[str, object]:
        """The page as a record."""
        return asdict(self)

    def as_text(self) -> str:
        """The page for a terminal."""
        blocks = [self.name if self.kind in ("function", "module", "code") else f"{self.name} ({self.kind})"]
        if self.signature:
            blocks.append(_indent(self.signature))
        blocks.append(self.docs)
        if self.members:
            wide = max(len(n) for n, _ in self.members)
            blocks.append("\n".join(f"  {n:{wide}}  {d}" for n, d in self.members))
        if self.use:
            blocks.append(_indent(self.use))
        if self.source:
            blocks.append(f"Source: {self.source}")
        if self.examples:
            blocks.append("It is tested by, for example,")
            blocks.append(_indent(self.examples[0]))
        return "\n\n".join(b for b in blocks if b) + "\n"


def contents() -> Page:
    """What there is to ask for: every module of the standard library."""
    members = tuple((m.name, first_sentence(m.docs)) for m in modules())
    docs = "The standard library. `midsl doc NAME` tells of a module, a function, a site or an error code."
    return Page("std", "module", docs=docs, members=members)


def look_up(name: str) -> list[Page]:
    """Every page that a name may stand for: `std.metrics`, `kl`, `mean`, `attn.z`, `MI0304`, or a file.

    Raises:
        MiError: MI0201 if there is none; MI0504 or 01xx for a file that cannot be read or parsed.
    """
    if name == "std":
        return [contents()]
    if name.endswith(".mi"):
        return [_module(of_file(Path(name)))]
    library = modules()
    found = [_module(m) for m in library if name in (m.name, m.name.removeprefix("std."))]
    found += [
        _function(e)
        for m in library
        for e in m.entries
        if name in (e.name, f"{m.name}.{e.name}", f"{m.name.removeprefix('std.')}.{e.name}")
    ]
    if name in BUILTIN_DOCS:
        signature, docs = BUILTIN_DOCS[name]
        found.append(Page(name, "builtin", signature, docs))
    for site in BY_NAME.values():
        if site.name == name:
            where = f"m.blocks[*].{name}" if site.per_block else f"m.{name}"
            found.append(Page(name, "site", f"{where}: Site[{', '.join(site.axes)}]", site.doc))
    if name.upper() in {**CODES, **LINTS}:
        path = resource_dir("grammar") / "errors" / f"{name.upper()}.md"
        title, _, text = path.read_text(encoding="utf-8").partition("\n")
        found.append(Page(title.removeprefix("# "), "code", docs=text.strip()))
    if not found:
        known = [n for m in library for n in (m.name, *(e.name for e in m.entries))]
        known += [*BUILTIN_DOCS, *(n.name for n in BY_NAME.values())]
        raise fail(
            "MI0201",
            f"there is nothing called `{name}` to tell of",
            help=did_you_mean(name, known) or "`midsl doc` lists the modules",
        )
    return found


def _module(m: Library) -> Page:
    return Page(m.name, "module", docs=m.docs, members=tuple((e.name, e.summary) for e in m.entries))


def _function(e: Entry) -> Page:
    use = f"from {e.module} import {e.name}"
    return Page(f"{e.module}.{e.name}", "function", e.signature, e.docs, e.source, use, e.examples)


def _indent(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())
