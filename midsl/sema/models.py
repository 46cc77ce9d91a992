"""What a model offers by name: blocks, sites, weights, sizes, and modules by path."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from midsl.diagnostics.model import fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.graph.info import SiteRow
from midsl.ir import nodes as ir
from midsl.ir.types import Axis, PlainType, TensorType
from midsl.sema.generic import STATE_SITES, WEIGHTS, generic_sites, heads_of
from midsl.sema.tensors import stack
from midsl.sema.unroll import Unroll
from midsl.sema.values import BlocksV, ConstV, ModelV, ModulesV, SiteV, TensorV, TokenizerV, Value
from midsl.source import Span

if TYPE_CHECKING:
    from midsl.sema.context import Context

SITE = PlainType("Site")


def rows_of(model: ModelV, ctx: Context) -> tuple[SiteRow, ...]:
    """The site table: the model's own where it is known, else the field's names."""
    info = ctx.facts.info(model.node)
    if info is None and "d_state" in model.sizes:
        return STATE_SITES
    return info.sites if info else generic_sites(model.sizes)


def model_field(model: ModelV, name: str, span: Span, ctx: Context) -> Value:
    """``m.name``: blocks, the tokenizer, a size, a weight, or a site outside the blocks."""
    if name == "blocks":
        return BlocksV(model)
    if name == "tokenizer":
        return TokenizerV(ir.Tokenizer(model.node, type=PlainType("Tokenizer"), span=span))
    if name in ("n_layers", "n_heads", "d_model", "d_head", "d_mlp", "d_vocab", "n_ctx"):
        return _size(model, name, span)
    if name == "module":
        return ModulesV(model)
    if name == "edges":
        from midsl.sema.edges import all_edges

        return all_edges(model, ctx, span)
    if name == "circuit":
        from midsl.sema.edgegates import known_circuit

        return known_circuit(model, ctx, span)
    if name in WEIGHTS:
        return weight(model, name, None, span, ctx)
    rows = rows_of(model, ctx)
    top = [r for r in rows if not r.per_block]
    row = next((r for r in top if r.name == name), None)
    if row is not None:
        return make_site(model, row, None, span, ctx)
    if any(r.name.startswith(name + ".") for r in top) and name not in WEIGHTS:
        return BlocksV(model, None, name)
    if any(r.per_block and r.name.split(".")[0] == name for r in rows):
        raise fail(
            "MI0401",
            f"`{name}` is inside a block",
            span,
            label="no block is named",
            help=f"write `m.blocks[*].{name}`",
        )
    names = ["blocks", "tokenizer", *[r.name.split(".")[0] for r in top], *WEIGHTS]
    end = "output" if "d_state" in model.sizes else "logits"
    help = did_you_mean(name, names) or f"what comes out of this model is `{end}`"
    raise fail("MI0401", f"the model has no site `{name}`", span, label="not a site", help=help)


def _size(model: ModelV, name: str, span: Span) -> Value:
    key = {"n_layers": "layer", "n_heads": "head", "d_vocab": "vocab", "n_ctx": "ctx"}.get(name, name)
    if key not in model.sizes:
        raise fail(
            "MI0601",
            f"`{name}` is not known before the model is loaded",
            span,
            help="write the number, or a param",
        )
    return ConstV(model.sizes[key])


def weight(model: ModelV, name: str, layer: int | None, span: Span, ctx: Context) -> TensorV:
    """``m.W_U``, ``m.blocks[3].mlp.W_out``: a weight as a tensor."""
    info = ctx.facts.info(model.node)
    row = next((w for w in info.weights if w.name == name), None) if info else None
    if info and info.weights and row is None:
        raise fail(
            "MI0401",
            f"the model has no weight `{name}`",
            span,
            label="not a weight of this model",
            help=did_you_mean(name, [w.name for w in info.weights]) or "it has other weights",
        )
    names = [a if a != "pos" else "ctx" for a in row.axes] if row else heads_of(WEIGHTS[name], model.sizes)
    axes = tuple(Axis(a, model.owner, model.sizes.get(a)) for a in names)
    return TensorV(ir.Weight(model.node, name, layer, type=TensorType(axes=axes), span=span))


def _block_weight(blocks: BlocksV, path: str, span: Span, ctx: Context) -> TensorV:
    """``m.blocks[3].mlp.W_out``; of several blocks, along the axis `layer`."""
    model, index = blocks.model, blocks.layer
    if isinstance(index, ir.Coord):
        raise Unroll(index.sweep)
    if isinstance(index, ir.Const) and isinstance(index.value, int):
        return weight(model, path, index.value, span, ctx)
    layers = index.value if isinstance(index, ir.Const) else range(model.sizes.get("layer", 0))
    if not layers or not isinstance(layers, (tuple, range)):
        raise fail(
            "MI0402",
            "how many layers there are is not known",
            span,
            help="name one layer: `m.blocks[3]`, or use a model whose configuration is there to be read",
        )
    every = [weight(model, path, int(i), span, ctx) for i in layers]  # type: ignore[arg-type]
    axis = Axis("layer", model.owner, len(every), tuple(int(i) for i in layers))  # type: ignore[arg-type]
    return stack(every, axis, span)


def blocks_field(blocks: BlocksV, name: str, span: Span, ctx: Context) -> Value:
    """A step further down: ``.attn``, ``.z``, ``.mlp.W_out``."""
    path = f"{blocks.path}.{name}" if blocks.path else name
    inside = blocks.path == "" or blocks.layer is not None
    if inside and blocks.layer is None:
        raise fail(
            "MI0401",
            "which blocks?",
            span,
            label="`blocks` needs a selection",
            help=f"write `blocks[*].{name}` or `blocks[3].{name}`",
        )
    rows = [r for r in rows_of(blocks.model, ctx) if r.per_block == inside]
    row = next((r for r in rows if r.name == path), None)
    if row is not None:
        return make_site(blocks.model, row, blocks.layer, span, ctx)
    if path in WEIGHTS:
        if not inside:
            return weight(blocks.model, path, None, span, ctx)
        return _block_weight(blocks, path, span, ctx)
    if any(r.name.startswith(path + ".") for r in rows) or any(w.startswith(path + ".") for w in WEIGHTS):
        return BlocksV(blocks.model, blocks.layer, path)
    start = blocks.path + "." if blocks.path else ""
    known = [r.name[len(start) :] for r in rows if r.name.startswith(start)]
    tails = [r.name.split(".")[-1] for r in rows]
    help = did_you_mean(name, known) or did_you_mean(name, tails)
    deeper = next((r.name for r in rows if r.name.split(".")[-1] == name), None)
    if deeper:
        help = f"the site is `blocks[..].{deeper}`"
    raise fail(
        "MI0401", f"there is no site `{path}` in a block of this model", span, label="not a site", help=help
    )


def make_site(model: ModelV, row: SiteRow, layer: ir.Node | None, span: Span, ctx: Context) -> SiteV:
    """A site with nothing selected but its layer."""
    if (
        row.per_block
        and row.layers is not None
        and isinstance(layer, ir.Const)
        and layer.value not in row.layers
    ):
        raise fail(
            "MI0401",
            f"block {layer.value} has no site `{row.name}`",
            span,
            help=f"layers that have it: {list(row.layers)}",
        )
    select = (("layer", layer),) if layer is not None else ()
    if "d_state" in model.sizes and "pos" in row.axes:  # a row is one state
        select = (*select, ("pos", ir.Const(0, span=span)))
    return SiteV(model, ir.Site(model.node, row.name, select, type=SITE, span=span), row)


def module_side(modules: ModulesV, side: str, span: Span, ctx: Context) -> SiteV:
    """``m.module["blocks.0.mlp"].output`` / ``.input``: what a module takes or gives."""
    if modules.path is None:
        raise fail("MI0401", "which module?", span, help='write `m.module["path"].output`')
    if side not in ("input", "output"):
        raise fail("MI0401", f"a module has no `{side}`", span, help="write `.input` or `.output`")
    name = f'module["{modules.path}"].{side}'
    info = ctx.facts.info(modules.model.node)
    row = info.site(name) if info else SiteRow(name=name, axes=(), per_block=False, kind="module")
    if row is None:
        assert info is not None
        known = [r.module for r in info.sites if r.name.startswith("module[")]
        why = "" if info.engine == "hooks" else "this model is exported: use its named sites"
        raise fail(
            "MI0401",
            f'there is no module "{modules.path}" to read here',
            span,
            label=why or "not a module of this model",
            help=did_you_mean(modules.path, known) if known else "`midsl sites` lists what there is",
        )
    return make_site(modules.model, row, None, span, ctx)


def annotated(site: SiteV, axes: tuple[str, ...], span: Span, ctx: Context) -> SiteV:
    """``site x: Site[batch, patch, d] = ...``: names for the axes of a module site."""
    states = "d_state" in site.model.sizes  # there a row is one state, of which nobody names the place
    known = tuple(a for a in site.row.axes if not (states and a == "pos"))
    if known and known != axes:
        raise fail(
            "MI0301",
            "the axes of this site are known",
            span,
            label=f"it has {', '.join(known)}",
            help="leave the type out, or write these axes",
        )
    if not axes or axes[0] != "batch" or len(set(axes)) < len(axes):
        raise fail(
            "MI0302",
            "the first axis of a site is `batch`, and each has its own name",
            span,
            help="such as `Site[batch, pos, d]`",
        )
    if not states:
        ctx.facts.name_axes(site.model.node, site.site.name, axes)
        return replace(site, row=replace(site.row, axes=axes))
    axes = ("batch", "pos", *axes[1:])
    ctx.facts.name_axes(site.model.node, site.site.name, axes)
    return make_site(site.model, replace(site.row, axes=axes), None, span, ctx)
