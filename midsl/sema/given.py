"""What somebody hands over from Python: names that stand for a model, a table or a function of theirs.

It takes the place of a declaration of that name, where the file has one, as a control does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from midsl.diagnostics.model import Diagnostic
from midsl.diagnostics.suggest import did_you_mean
from midsl.ir import nodes as ir
from midsl.sema.values import ConstV, Value
from midsl.source import NO_SPAN, SourceFile
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.context import Context


@dataclass(frozen=True)
class Given:
    """Names that a spec finds bound.

    Attributes:
        models: recipes that stand for modules in memory.
        tables: what stands for a table wherever a file of one may.
        functions: for the `extern fn` of a name, the reference to call instead; whoever gave it trusts it.
    """

    models: Mapping[str, ir.Model] = field(default_factory=dict)
    tables: Mapping[str, str] = field(default_factory=dict)
    functions: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    """Texts of files that are imported, by path, in the place of what is on disk."""

    @property
    def names(self) -> tuple[str, ...]:
        """Those that stand for objects of the caller's."""
        return (*self.models, *self.tables, *self.functions)

    def values(self, ctx: Context) -> dict[str, Value]:
        """The models and tables as values."""
        found: dict[str, Value] = {name: ConstV(table) for name, table in self.tables.items()}
        for name, node in self.models.items():
            value = found[name] = ctx.model(node)
            ctx.models.setdefault(node.digest, name)
            ctx.owners.setdefault(value.owner[:8], name)
        return found

    def refuse_unused(self, source: SourceFile, tree: ast.Module, ctx: Context) -> None:
        """Say which names nothing in a file is called by (MI0209)."""
        words = set(re.findall(r"[^\W\d]\w*", source.text))
        externs = {d.name for d in tree.decls if isinstance(d, ast.Fn) and d.extern is not None}
        for name in (*self.models, *self.tables):
            if name not in words:
                help = did_you_mean(name, words) or "the names of `bind` are those that the spec uses"
                ctx.bag.add(Diagnostic("MI0209", f"the spec has no use for `{name}`", NO_SPAN, help=help))
        for name in self.functions:
            if name not in externs:
                help = f'declare it: `extern fn {name}(...) -> Data = "bind:{name}"`'
                ctx.bag.add(Diagnostic("MI0209", f"the spec has no `extern fn {name}`", NO_SPAN, help=help))
