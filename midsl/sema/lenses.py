"""Lenses: `encode` and `decode` as maps, `code` and `error` as sites (the lens law).

They are typed and lowered here; running one needs its fit, which the planner refuses for now.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from midsl.diagnostics.model import fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.ir import nodes as ir
from midsl.ir.types import Axis, TensorType
from midsl.sema import tensors
from midsl.sema.values import BuiltinV, LensesV, LensV, TensorV, Value
from midsl.source import Span
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.elaborate import Elaborator
    from midsl.sema.scope import Scope


def space_axis(lens: LensV) -> Axis:
    """The axis of the site that the lens reads through."""
    name = lens.at.row.axes[-1]
    return Axis(name, lens.at.model.owner, lens.at.model.sizes.get(name))


def lens_field(e: Elaborator, lens: LensV, name: str, span: Span) -> Value:
    """``sae.code``, ``sae.error``, ``sae.encode``, ``sae.decode``, ``sae.decoder``."""
    site = lens.at.site
    if name in ("code", "error"):
        row = lens.at.row
        if name == "code":
            row = replace(row, axes=(*row.axes[:-1], lens.code.name))
        view = ir.Site(
            site.model, site.name, site.select, lens.node, name, site.minus, type=site.type, span=span
        )
        return replace(lens.at, site=view, row=row)
    if name in ("encode", "decode"):
        return BuiltinV(name, lambda e2, node, scope: _apply(e2, lens, name, node, scope))
    if name == "decoder":
        t = TensorType(axes=(lens.code, space_axis(lens)))
        return TensorV(ir.Apply("decoder", (lens.node,), type=t, span=span))
    raise fail(
        "MI0205",
        f"a decomposition has no `{name}`",
        span,
        help=did_you_mean(name, ["code", "error", "encode", "decode", "decoder"]),
    )


def _apply(e: Elaborator, lens: LensV, name: str, node: ast.Call, scope: Scope) -> Value:
    if len(node.args) != 1 or node.args[0].name:
        raise fail("MI0207", f"`{name}` takes one value", node.span)
    value = tensors.as_tensor(e.eval(node.args[0].value, scope), node.args[0].span)
    source, target = (space_axis(lens), lens.code) if name == "encode" else (lens.code, space_axis(lens))
    axis = tensors.find_axis(value.type, source.name, node.args[0].span, name)
    axes = tuple(target if a is axis else a for a in value.type.axes)
    return TensorV(ir.Apply(name, (lens.node, value.node), type=TensorType(axes=axes), span=node.span))


def split_subspace(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
    """``split(v, by: W)``: a subspace, its row part and its null part, as labelled lenses."""
    given = {a.name or "v": e.eval(a.value, scope) for a in node.args}
    lens, by = given.get("v"), given.get("by")
    if not isinstance(lens, LensV) or not isinstance(by, TensorV):
        raise fail("MI0207", "`split_subspace` takes a subspace and `by:` a weight", node.span)
    members = {}
    for label in ("full", "row", "null"):
        fit = ir.Fit(
            "split",
            (("lens", lens.node), ("by", by.node), ("part", label)),
            type=lens.node.type,
            span=node.span,
        )
        e.ctx.codes[fit.digest] = lens.code
        members[label] = replace(lens, node=fit)
    return LensesV(members)
