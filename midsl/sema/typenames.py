"""Types as text: of values, as messages and editors show them, and of what is written."""

from __future__ import annotations

from midsl.ir import nodes as ir
from midsl.ir.crossing import is_single
from midsl.ir.types import Axis, TensorType
from midsl.sema.placed import ContextsV
from midsl.sema.values import (
    ColumnV,
    ConstV,
    DataV,
    FnV,
    GraphV,
    Late,
    LateV,
    LensV,
    ListV,
    PartV,
    RecordV,
    SitesV,
    SiteV,
    TensorV,
    Value,
    ViewV,
)
from midsl.syntax import ast

UNITS = ("logit", "nat", "bit", "prob")
TENSORS = {
    "Float": "float",
    "Int": "int",
    "Bool": "bool",
    "Token": "token",
    "Number": "float",
    "State": "float",
}
"""Written types of tensors, by the kind of their elements. A column of numbers is a `Number`, one of rows of
numbers a `State`."""
OTHERS = (
    *("Any", "String", "Pos", "Span", "Label", "Axis", "Axes"),
    *("Model", "Blocks", "Tokenizer", "Data", "Run", "Edits", "Site", "Sites", "Selection"),
    *("Lens", "Lenses", "Basis", "Fit", "Optim", "Record", "List", "Range", "Table", "Graph", "Contexts"),
)
_NAMES = {"optimiser": "Optim", "computed selection": "Selection", "function": "fn"}


def written(t: ast.Type) -> str:
    """A written type on one line.

    >>> batch = ast.AxisRef("batch")
    >>> written(ast.TypeRef("Float", (batch, ast.AxisRef("d", 16)), unit="logit"))
    'Float[batch, d=16]<logit>'
    """
    if isinstance(t, ast.FnType):
        return f"fn({', '.join(map(written, t.params))}) -> {written(t.returns)}"
    if isinstance(t, ast.RecordType):
        return _columns(t.fields)
    assert isinstance(t, ast.TypeRef)
    axes = ("*" * a.rest + a.name + (f"={a.size}" if a.size is not None else "") for a in t.axes)
    text = t.name + (f"[{', '.join(axes)}]" if t.axes else "") + (f"<{t.unit}>" if t.unit else "")
    text += f" of {written(t.of)}" if t.of is not None else ""
    return text + (_columns(t.columns) if t.columns else "")


def _columns(fields: tuple[tuple[str, ast.Type], ...]) -> str:
    return "{ " + ", ".join(f"{n}: {written(t)}" for n, t in fields) + " }"


def type_of(value: Value) -> str:
    """The type of a value, as it could be written.

    >>> type_of(ConstV(3))
    'Int'
    """
    if isinstance(value, ConstV):
        return value.kind
    if isinstance(value, TensorV):
        return str(value.type)
    if isinstance(value, ColumnV):
        t = value.node.type
        axes = f"[{', '.join(map(str, t.axes))}]" if isinstance(t, TensorType) else "[batch]"
        return value.column_kind.capitalize() + axes
    if isinstance(value, SitesV):
        return f"Sites[{', '.join(family_axes(value))}]"
    if isinstance(value, (SiteV, ViewV)):
        family = family_axes(value)
        axes = f"[{', '.join(str(a) for a in place_axes(value))}]"
        return f"Sites[{', '.join(family)}] of Site{axes}" if family else f"Site{axes}"
    if isinstance(value, LensV):
        return f"Lens[{', '.join(str(a) for a in lens_axes(value))}]"
    if isinstance(value, FnV):
        params = ", ".join("Any" if value.returns is None else written(p.type) for p in value.params)
        return f"fn({params})" + (f" -> {written(value.returns)}" if value.returns is not None else "")
    if isinstance(value, DataV):
        return f"Data[{', '.join(value.sides)}]" if value.sides else "Data"
    if isinstance(value, PartV):
        return "Data"
    if isinstance(value, (GraphV, ContextsV)):
        return value.kind
    if isinstance(value, RecordV):
        return "{ " + ", ".join(f"{n}: {type_of(v)}" for n, v in value.fields.items()) + " }"
    if isinstance(value, ListV):
        return "List"
    if isinstance(value, LateV):
        return f".{value.name}"
    return _NAMES.get(value.kind) or value.kind[:1].upper() + value.kind[1:]


def family_axes(value: SiteV | SitesV | ViewV) -> tuple[str, ...]:
    """The axes that the members of a family are told apart by, in order; none for a single place."""
    if isinstance(value, SitesV):
        first = value.members[0].site
        return tuple(a for a, i in first.select if isinstance(i, ir.Star) or _one(i))
    if isinstance(value, ViewV):
        code = value.lens.code
        starred = isinstance(value.index, ir.Star) and code is not None
        return (*value.at.stars, *((code.name,) if starred and code is not None else ()))
    return value.stars


def place_axes(value: SiteV | ViewV) -> tuple[Axis, ...]:
    """The axes that a place has in a run, as far as they do not depend on the run; `batch` of no data set."""
    if isinstance(value, ViewV):
        axes = place_axes(value.at)
        if value.part == "error":
            return axes
        code = value.lens.code
        kept = code is not None and value.index is None
        return (*axes[:-1], *((code,) if kept and code is not None else ()))
    names = [n for n, i in value.site.select if n == "layer" and not _one(i) and not isinstance(i, ir.Star)]
    for name in value.row.axes:
        index = value.site.index(name)
        if index is None or not (isinstance(index, ir.Star) or _one(index)):
            names.append(name)
    return tuple(own_axis(value, n) for n in names)


def own_axis(site: SiteV, name: str) -> Axis:
    """An axis of a site by its name; those of the data have no owner before the site meets a run."""
    shared = name in ("batch", "pos", "key_pos")
    return Axis(name, "" if shared else site.model.owner, site.model.sizes.get(name))


def _one(index: ir.Node) -> bool:
    """Whether an index takes its axis away; a late-bound column does, if it is of positions."""
    return isinstance(index, Late) or is_single(index)


def lens_axes(value: LensV) -> tuple[Axis, ...]:
    """The axis that a lens decomposes, and that of its code where it has one."""
    at = value.at
    space = Axis(at.row.axes[-1], at.model.owner, at.model.sizes.get(at.row.axes[-1]))
    return (space, *((value.code,) if value.code is not None else ()))
