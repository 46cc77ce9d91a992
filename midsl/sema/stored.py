"""``stored("folder", at: x)``: a decomposition that is on disk, its tensors as parameters.

What it gives is a record: how it encodes (`kind`), what that needs (`subtract`, `k`, ..), and tensors. What
to make of them is written in `.mi` (``std.decomp``). A file that does not fit the site is refused here.
"""

from __future__ import annotations

import json
import re
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from midsl.artefacts.base import Artefact, Kept, axes_of, content
from midsl.artefacts.find import read
from midsl.diagnostics.model import MiError, fail
from midsl.ir import nodes as ir
from midsl.ir.types import Axis, TensorType
from midsl.sema.arguments import Args
from midsl.sema.lenses import PARAMS, is_star, place, probe
from midsl.sema.values import ConstV, RecordV, SiteV, TensorV, Value
from midsl.source import Span
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.elaborate import Elaborator
    from midsl.sema.scope import Scope


def stored(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
    """What a folder or file says, and its tensors along the axes of the site."""
    args = Args(e, "stored", node, scope, ("path", "at", "from", "layer", "elsewhere"))
    path = args.literal("path", str)
    at = place(args.value("at"), args.expr("at").span)
    source = place(args.value("from"), args.expr("from").span) if "from" in args.given else at
    layer = args.literal("layer", int) if "layer" in args.given else None
    assert isinstance(path, str) and (layer is None or isinstance(layer, int))
    elsewhere = args.value("elsewhere") if "elsewhere" in args.given else ConstV(False)
    span = e.ctx.calls[0] if e.ctx.calls else args.expr("path").span  # the library's own text says little
    try:
        found = read(Path(path), layer if layer is None or layer >= 0 else None)
    except MiError as err:
        raise err.at(span) from None
    own = {"in": _axes(source, found, "in", span), "out": _axes(at, found, "out", span)}
    if found.layers:
        own |= {"layer": own["in"][:1], "in": own["in"][1:], "out": own["out"][1:]}
    if not (isinstance(elsewhere, ConstV) and elsewhere.value is True):
        _check_hook(found.hook, source, span)
        _check_hook(found.hook_out, at, span)
    return _record(found, own, span)


def _axes(site: SiteV, found: Artefact, role: str, span: Span) -> tuple[Axis, ...]:
    """The axes of a site that a decomposition is about; MI0515 if they are not as long as its vectors."""
    if found.layers:
        what, wanted, where = "all layers together", ["layer", ""], "`m.blocks[*].mlp_out`, of all layers"
    elif found.heads:
        what, wanted, where = "all heads together", ["", ""], "`m.blocks[..].attn.z`"
    else:
        what, wanted, where = "vectors", [""], "a site of the stream or of an MLP"
    axes = tuple(a for a in probe(site).type.axes if a.name not in ("batch", "pos"))
    if len(axes) != len(wanted) or any(w and a.name != w for a, w in zip(axes, wanted, strict=True)):
        raise fail(
            "MI0515",
            f"this decomposition is of {what}",
            span,
            label=f"the site has {', '.join(a.name for a in axes) or 'numbers'}",
            help=f"give it {where}",
        )
    if found.layers and (axes[0].size or found.layers) != found.layers:
        raise fail(
            "MI0515",
            f"this decomposition is of {found.layers} layers",
            span,
            label=f"there are {axes[0].size} here",
            help="put it at the model that it was made for",
        )
    own = axes[1:] if found.layers else axes
    length = prod(a.size or 0 for a in own)
    if length and length != found.sizes[role]:  # 0: the model's sizes are not known yet
        raise fail(
            "MI0515",
            f"this decomposition {'reads' if role == 'in' else 'writes'} vectors of {found.sizes[role]}",
            span,
            label=f"`{' x '.join(a.name for a in own)}` is {length} long here",
            help="put it at the model and the site that it was made for",
        )
    return axes


def _check_hook(hook: str, site: SiteV, span: Span) -> None:
    """MI0515 where a file names another place than this one; a name that says nothing is let be."""
    match = re.match(r"^blocks\.(\d+|\*)(?:\.(.+?))?(?:\.(\d+))?$", hook)
    if match is None:
        return
    layer, name, head = match.groups()
    layers = site.site.index("layer")
    here = layers.value if isinstance(layers, ir.Const) else None
    if layers is not None and is_star(layers):
        here = "*"
    there = (_plain(name) if name else site.site.name, layer if layer == "*" else int(layer))
    heads = site.site.index("head")
    same = head is None or (isinstance(heads, ir.Const) and heads.value == int(head))
    if not same or _one_name(*there) != _one_name(site.site.name, here):
        raise fail(
            "MI0515",
            f"this decomposition is of `{hook}`",
            span,
            label=f"and is put at `{site.site.name}`" + ("" if here is None else f" of layer {here}"),
            help="say `elsewhere: true` if you mean it",
        )


def _plain(hook: str) -> str:
    """TransformerLens' name of a site below its block as ours: ``attn.hook_z`` -> ``attn.z``."""
    return ".".join(p.removeprefix("hook_") for p in hook.split("."))


def _one_name(name: str, layer: object) -> tuple[str, object]:
    """What a block reads is what the one before it leaves: one address, one name."""
    if name == "resid_pre" and isinstance(layer, int) and layer > 0:
        return "resid_post", layer - 1
    return name, layer


def _record(found: Artefact, own: dict[str, tuple[Axis, ...]], span: Span) -> RecordV:
    """The settings, and each tensor as a parameter along the axes of the site and of the code."""

    def axes(name: str, owner: str) -> tuple[Axis, ...]:
        made = {
            **own,
            "code": (Axis("feature", owner, found.sizes["code"]),),
            "target": (Axis("target", owner, found.layers),),
            "new": (Axis("out", owner, found.sizes["out"]),),
        }
        return tuple(a for role in axes_of(name, bool(found.layers)) for a in made[role])

    drawn: tuple[ir.Json, ...] = tuple(
        (name, "file", tuple((a.name, a.size) for a in axes(name, "")), _settings(found, name))
        for name in found.tensors
    )
    made = ir.Params(drawn, 0, type=PARAMS, span=span)
    owner = f"lens:{made.digest[:8]}"
    tensors = {
        name: TensorV(ir.Param(made, name, type=TensorType(axes=axes(name, owner)), span=span))
        for name in found.tensors
    }
    about = {
        "kind": found.kind,
        "format": found.format,
        "heads": found.heads,
        "skips": "skip" in tensors,
        "config": json.dumps(found.config),
        **found.settings,
    }
    return RecordV({**{k: ConstV(v) for k, v in about.items()}, **tensors})


def _settings(found: Artefact, name: str) -> tuple[tuple[str, ir.Json], ...]:
    """What is needed to read a tensor: of each layer, where it is at several."""
    kept = found.tensors[name]
    if isinstance(kept, Kept):
        return _file(found, kept, axes_of(name, layered=False))
    own = axes_of(name, layered=True)[1:]
    return (("layers", tuple(_file(found, one, own, at) for at, one in enumerate(kept))),)


def _file(
    found: Artefact, kept: Kept, ours: tuple[str, ...], layer: int = 0
) -> tuple[tuple[str, ir.Json], ...]:
    """A tensor's file with what that must hold, and the order of its axes."""
    whole = [k for each in found.tensors.values() for k in ((each,) if isinstance(each, Kept) else each)]
    keys = tuple(sorted(k.key for k in whole if k.path == kept.path))
    sizes = {**found.sizes, "new": found.sizes["out"], "target": found.layers - layer}
    return (
        ("path", str(kept.path)),
        ("sha256", content(kept.path)),
        ("key", kept.key),
        ("order", tuple(kept.axes.index(a) for a in ours)),
        ("shape", tuple(sizes[a] for a in kept.axes)),
        ("wanted", keys),
        ("also", (*found.also, *found.fixed)),
        ("fixed", tuple(found.fixed.items())),
        *(() if kept.least is None else (("least", kept.least),)),
    )
