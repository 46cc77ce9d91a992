"""Whether what is written is a type: its name, and that all it says of itself means something."""

from __future__ import annotations

from collections.abc import Iterator

from midsl.diagnostics.model import MiError, fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.sema.scope import Scope
from midsl.sema.typenames import OTHERS, TENSORS, UNITS, written
from midsl.sema.values import TypeV
from midsl.sema.written import unknown_type
from midsl.syntax import ast

AXES = frozenset({*TENSORS, "Pos", "Span", "Label", "Site", "Sites", "Lens", "Basis", "Data", "Table"})
"""Types that may name axes (of a `Data`: sides)."""
OF_ROWS = frozenset({"Pos", "Span", "Label"})
LENGTHS = AXES - OF_ROWS - {"Data"}
"""Types whose axes may have lengths."""
MEASURED = frozenset({"Float", "Int", "Number"})
"""Types that may have a unit."""


def check_names(t: ast.Type, scope: Scope) -> None:
    """Refuse what is no type (MI0320), no unit (MI0305), no axis (MI0302), or one axis twice (MI0204)."""
    for part in _refs(t):
        known = part.name in TENSORS or part.name in OTHERS
        if not known and not isinstance(scope.find(part.name), TypeV):
            raise unknown_type(part, scope)
        _parts(part, f"an alias is whole: write what `{part.name}` stands for" if not known else "")
        _unit(part)
        _axes(part)


def _parts(t: ast.TypeRef, help: str) -> None:
    """Axes, a unit, columns or `of` where they mean nothing."""
    extra = {
        "axes": bool(t.axes) and t.name not in AXES,
        "unit": t.unit is not None and t.name not in MEASURED,
        "columns": bool(t.columns) and t.name not in ("Data", "Table"),
        "`of`": t.of is not None and t.name != "Sites",
    }
    for what, stands in extra.items():
        if stands:
            raise _no(t, f"`{t.name}` takes no {what}", help or f"write `{t.name}` alone")
    site = t.of if isinstance(t.of, ast.TypeRef) and t.of.name in ("Site", "Float") else None
    if t.of is not None and (site is None or site.unit is not None):
        help = f"write `{written(ast.TypeRef('Sites', t.axes))} of Site[batch, ..]`"
        raise _no(t, "a family is of sites", help)


def _no(t: ast.TypeRef, message: str, help: str) -> MiError:
    return fail("MI0320", message, t.span, label="not a type", help=help)


def _unit(t: ast.TypeRef) -> None:
    if t.unit is not None and t.unit not in UNITS:
        raise fail(
            "MI0305",
            f"there is no unit <{t.unit}>",
            t.span,
            label="not a unit",
            help=did_you_mean(t.unit, UNITS) or f"units are {', '.join(UNITS)}; all else has none",
        )


def _axes(t: ast.TypeRef) -> None:
    names = [a.name for a in t.axes]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        help = "name the axes of a value apart: `sweep h in z as src`"
        raise fail("MI0204", f"the type has the axis `{twice}` twice", t.span, label="named twice", help=help)
    for a in t.axes:
        if t.name in OF_ROWS and (a.name != "batch" or a.rest):
            help = f"write `{t.name}[batch]`"
            raise fail("MI0302", f"a `{t.name}` is one for each row", a.span, label="not its axis", help=help)
        if a.rest and t.name not in (*TENSORS, "Site", "Sites"):
            help = f"name the axes, or write `{t.name}` alone"
            raise fail(
                "MI0302", f"`{t.name}` has no further axes", a.span, label="no further axes", help=help
            )
        if a.size is not None and t.name not in LENGTHS:
            raise fail(
                "MI0302", f"`{a.name}` has no length here", a.span, label="no length", help="leave it out"
            )


def _refs(t: ast.Type) -> Iterator[ast.TypeRef]:
    """Every named type inside a written one; what the columns of data are of is no type of values."""
    if isinstance(t, ast.FnType):
        for p in (*t.params, t.returns):
            yield from _refs(p)
    elif isinstance(t, ast.RecordType):
        for _, f in t.fields:
            yield from _refs(f)
    elif isinstance(t, ast.TypeRef):
        yield t
        if t.of is not None:
            yield from _refs(t.of)
