"""`midsl sites`: the capability table of a spec's models, or the members of one site expression."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from midsl.diagnostics.model import MiError, fail
from midsl.graph.info import ModelInfo, WeightRow
from midsl.ir import nodes as ir
from midsl.plan.bind import Binder
from midsl.plan.train import Trainer
from midsl.reach import NO_TRUST, Reach, Trust, working_in
from midsl.sema.check import check_source, read_source
from midsl.sema.elaborate import Elaborator
from midsl.sema.scope import Lazy
from midsl.sema.values import ModelV, PoisonError, SiteV
from midsl.syntax.parse import parse_expression


def list_sites(
    spec: Path, expression: str, params: Mapping[str, str], trust: Trust = NO_TRUST
) -> list[dict[str, Any]]:
    """Rows of the site table: path, module, axes with sizes, readable, writable, why not."""
    source = read_source(spec)
    binder = Binder(reach=Reach(spec.resolve().parent, trust, params), trainer=Trainer())
    with working_in(binder.reach):
        checked = check_source(source, binder, params, trust)
        if checked.module is None:
            checked.require()
        assert checked.module is not None
        scope = checked.module.scope
        if expression:
            value = _evaluate(expression, checked.ctx, scope)
            if not isinstance(value, SiteV):
                raise fail(
                    "MI0410",
                    f"`{expression}` is not a site",
                    help="write it as in a spec: `m.blocks[0].attn.z`",
                )
            return [_row("", value.model, value.row.name, binder, _layers(value))]
        rows: list[dict[str, Any]] = []
        for name, bound in scope.names.items():
            found = bound.get() if isinstance(bound, Lazy) else bound
            if isinstance(found, ModelV):
                info = binder.info(found.node)
                assert info is not None
                rows += [_row(name, found, r.name, binder, None) for r in info.sites]
                rows += [_weight(name, info, w) for w in info.weights]
        if not rows:
            checked.require()
        return rows


def _evaluate(expression: str, ctx: Any, scope: Any) -> Any:
    tree = parse_expression(expression, "<command line>")
    try:
        return Elaborator(ctx).eval(tree, scope)
    except PoisonError:
        raise MiError(*ctx.bag.errors) from None


def _layers(value: SiteV) -> list[int] | None:
    index = value.site.index("layer")
    if isinstance(index, ir.Const):
        return [int(i) for i in index.value] if isinstance(index.value, tuple) else [int(index.value)]  # type: ignore[arg-type]
    return None


def _row(prefix: str, model: ModelV, name: str, binder: Binder, layers: list[int] | None) -> dict[str, Any]:
    info = binder.info(model.node)
    assert info is not None
    row = info.site(name)
    assert row is not None
    where = layers if layers is not None else list(row.layers) if row.layers is not None else None
    every = list(range(info.sizes.get("layer", 0))) if row.per_block else []
    shown = "*" if where is None or where == every else ",".join(map(str, where))
    path = f"blocks[{shown}].{name}" if row.per_block else name
    return {
        "path": f"{prefix}.{path}" if prefix else path,
        "module": row.module,
        "axes": {a: info.sizes.get(a) for a in row.axes},
        "members": len(where if where is not None else every) if row.per_block else 1,
        "readable": row.readable,
        "writable": row.writable,
        "why": row.why,
        "doc": row.doc,
    }


def _weight(prefix: str, info: ModelInfo, weight: WeightRow) -> dict[str, Any]:
    path = f"blocks[*].{weight.name}" if weight.per_block else weight.name
    norm = weight.name.startswith("ln")
    return {
        "path": f"{prefix}.{path}",
        "module": "",
        "axes": {a: info.sizes.get("ctx" if a == "pos" else a) for a in weight.axes},
        "members": info.sizes.get("layer", 0) if weight.per_block else 1,
        "readable": True,
        "writable": not norm,
        "why": "of a norm: write what it gives" if norm else "",
        "doc": "a weight: no part of a run, and written for a whole run",
    }


def sites_text(rows: list[dict[str, Any]]) -> str:
    """The rows as aligned text."""
    lines = []
    width = max(len(r["path"]) for r in rows)
    for r in rows:
        axes = ", ".join(f"{a} {n}" if n is not None else a for a, n in r["axes"].items())
        may = ("r" if r["readable"] else "-") + ("w" if r["writable"] else "-")
        why = f"  ({r['why']})" if r["why"] else ""
        lines.append(f"{r['path']:<{width}}  {may}  [{axes}]  {r['module']}{why}")
    return "\n".join(lines)
