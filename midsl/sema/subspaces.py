"""A subspace, and its parts inside and outside of what a weight can see (Makelov et al. 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from midsl.diagnostics.model import fail
from midsl.sema.lenses import make_lens
from midsl.sema.tensors import apply
from midsl.sema.values import LensesV, LensV, TensorV, Value
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.elaborate import Elaborator
    from midsl.sema.scope import Scope


def split_subspace(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
    """``split(v, by: W)``: a subspace, its row part and its null part, as labelled lenses.

    Each part is spanned by the projections of the subspace's directions on the span of W's columns, or on
    what is orthogonal to it; a part that is empty changes nothing.
    """
    given = {a.name or "v": e.eval(a.value, scope) for a in node.args}
    lens, by = given.get("v"), given.get("by")
    if not isinstance(lens, LensV) or not isinstance(by, TensorV):
        raise fail(
            "MI0207",
            "`split` takes a subspace and `by:` a weight",
            node.span,
            help="such as `split(v, by: m.blocks[8].mlp.W_out)`",
        )
    basis = lens.shows.get("decoder")
    space = lens.at.row.axes[-1]
    if (
        lens.code is None
        or not isinstance(basis, TensorV)
        or {lens.code.name, space} != set(basis.type.names)
    ):
        raise fail(
            "MI0301",
            "only a linear subspace can be split",
            node.span,
            label="this decomposition has no `decoder` with one direction for each of its code",
            help="give `lens` a `decoder:`, a tensor with the axes of the site and of the code",
        )
    if by.type.axis(space) is None or len(by.type.axes) != 2:
        raise fail(
            "MI0303",
            f"a subspace of `{space}` is split by a weight that reads `{space}`",
            node.span,
            label=f"this weight is {by.type}",
            help=f"such as a weight of `{space}` and one other axis: `m.blocks[8].mlp.W_out`",
        )
    code = lens.code.name
    row = apply("project", (basis, by), node.span, attrs=(("over", space),), drop=_other(by, space))
    parts = {"full": basis, "row": row, "null": apply("sub", (basis, row), node.span)}

    def member(directions: TensorV) -> LensV:
        unit = apply("orthonormal", (directions,), node.span, attrs=(("over", space),))

        def encode(x: TensorV) -> TensorV:
            return apply("dot", (x, unit), node.span, attrs=(("over", space),), drop=(space,))

        def decode(c: TensorV) -> TensorV:
            return apply("dot", (c, unit), node.span, attrs=(("over", code),), drop=(code,))

        return make_lens(lens.at, None, encode, decode, {"decoder": unit}, node.span)

    return LensesV({label: member(directions) for label, directions in parts.items()})


def _other(weight: TensorV, space: str) -> tuple[str, ...]:
    return tuple(a for a in weight.type.names if a != space)
