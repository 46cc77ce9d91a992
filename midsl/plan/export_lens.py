"""Writing a decomposition of a spec, fitted or from a file, in the format of another package."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from midsl.artefacts.base import AXES, axes_of
from midsl.artefacts.write import Parts, write
from midsl.diagnostics.model import fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.fit.draw import entries, kept_tensor
from midsl.ir import nodes as ir
from midsl.plan.bind import Binder, check_bound
from midsl.plan.domains import Domains
from midsl.plan.evaluate import Evaluator
from midsl.plan.fits import Fitter
from midsl.plan.inputs import Rows
from midsl.plan.train import Trainer
from midsl.reach import NO_TRUST, Reach, Trust, working_in
from midsl.sema.check import Checked, read_source
from midsl.sema.values import ConstV, LensV, RecordV, SiteV, TensorV

_ABOUT = ("kind", "format", "heads", "skips", "config")


def export_lens(
    spec: Path, name: str, format: str, folder: Path, params: Mapping[str, str], trust: Trust = NO_TRUST
) -> Parts:
    """Write the decomposition that a spec binds to a name; fit it first, if that was not done before.

    Raises:
        MiError: what checking and binding find, MI0201 and MI0301 where there is no such decomposition,
            MI0514 where the format has no place for it.
    """
    source, folder = read_source(spec), folder.resolve()
    binder = Binder(reach=Reach(spec.resolve().parent, trust, params), trainer=Trainer(), fitter=Fitter())
    with working_in(binder.reach):
        checked = check_bound(source, binder, params)
        checked.require()
        made = _named(checked, name)
        parts = parts_of(made, binder, checked)
        write(format, folder, replace(parts, config=_config(made, format)))
    return parts


def _config(lens: LensV, format: str) -> dict[str, Any]:
    """The configuration that a decomposition came with, if it came in this format."""
    record = lens.shows["parts"]
    assert isinstance(record, RecordV)
    said = {n: v.value for n, v in record.fields.items() if isinstance(v, ConstV)}
    return dict(json.loads(str(said["config"]))) if said.get("format") == format else {}


def _named(checked: Checked, name: str) -> LensV:
    assert checked.module is not None
    scope = checked.module.scope
    found = scope.names.get(name)
    value = scope.find(name) if found is not None else None
    if value is None:
        lenses = [n for n in scope.names if isinstance(scope.find(n), LensV)]
        raise fail(
            "MI0201",
            f"the spec has no decomposition `{name}`",
            help=did_you_mean(name, lenses) or f"it has {', '.join(lenses) or 'none'}",
        )
    if not isinstance(value, LensV):
        raise fail("MI0301", f"`{name}` is a {value.kind}", help="name what `decomposition` binds")
    return value


def parts_of(lens: LensV, binder: Binder, checked: Checked) -> Parts:
    """What a lens is made of, if it says so (`parts`): MI0514 if it does not."""
    record = lens.shows.get("parts")
    if not isinstance(record, RecordV):
        raise fail(
            "MI0514",
            "this decomposition does not say what it is made of",
            help="what `parts:` a lens exposes is written: see std.decomp.dictionary",
        )
    source = lens.source or lens.at
    consts = {n: v.value for n, v in record.fields.items() if isinstance(v, ConstV)}
    own = {"in": _axes(source), "out": _axes(lens.at), "code": (lens.code.name if lens.code else "feature",)}
    if lens.at.joint:
        own |= {"layer": ("layer",), "target": ("target",)}
    evaluator = Evaluator(binder, Domains(), Rows({}, {}))  # type: ignore[arg-type]
    tensors = {n: _tensor(v, n, own, evaluator) for n, v in record.fields.items() if isinstance(v, TensorV)}
    joint = lens.at.joint
    sizes = {role: tensors[n].shape[i] for n in tensors for i, role in enumerate(axes_of(n, joint))}
    sizes = {"code": 0, **sizes, "out": sizes.get("out", sizes.get("new", 0))}
    for n in [n for n in consts if n in AXES]:  # a bias that is left out
        dtype = next(iter(tensors.values())).dtype
        tensors[n] = torch.full([sizes[r] for r in axes_of(n, joint)], float(consts.pop(n)), dtype=dtype)
    layer, hook = _hook(source)
    return Parts(
        str(consts["kind"]),
        sizes,
        {n: v for n, v in consts.items() if n not in _ABOUT},
        tensors,
        hook,
        _hook(lens.at)[1],
        layer,
        _model_name(source, checked),
        bool(consts.get("heads", False)),
        layers=sizes.get("layer", 0),
    )


def _axes(site: SiteV) -> tuple[str, ...]:
    gone = {a for a, i in site.site.select if not isinstance(i, (ir.Slice, ir.Star))}
    gone |= {"batch", "pos", *(("layer",) if site.joint else ())}
    return tuple(a for a in site.row.axes if a not in gone)


def _tensor(value: TensorV, name: str, own: Mapping[str, tuple[str, ...]], evaluator: Evaluator) -> Tensor:
    """The tensor in our order; one of a file in the precision that it has there."""
    if name not in AXES:
        help = f"parts are {', '.join(AXES)}"
        raise fail("MI0514", f"`{name}` is no part of a decomposition", value.node.span, help=help)
    node = value.node
    kept = _kept(node)
    found = evaluator.grid(node)
    wanted = axes_of(name, "layer" in own)
    roles = {r: own[r] for r in wanted if r in own}
    left = tuple(a for a in found.axes if a not in {x for axes in roles.values() for x in axes})
    roles["new"] = left
    found = found.permute_to([a for r in wanted for a in roles[r]])
    shape = [prod(found.size(a) for a in roles[r]) for r in wanted]
    data = found.data.reshape(shape).detach()
    return data.to(kept or torch.float32).contiguous()


def _kept(node: ir.Node) -> torch.dtype | None:
    """The precision of the file that a parameter is of; what is kept in it was only widened."""
    if not isinstance(node, ir.Param) or not isinstance(node.of, ir.Params):
        return None
    for name, how, _, settings in entries(node.of):
        if name == node.name and how == "file":
            return kept_tensor(settings, node.span).dtype
    return None


def _hook(site: SiteV) -> tuple[int, str]:
    """Where a site is, in TransformerLens' spelling: MI0514 if it is one head, or some blocks of several."""
    layer = site.site.index("layer")
    *path, last = site.site.name.split(".")
    if site.joint and isinstance(layer, ir.Star):
        return 0, ".".join(["blocks", "*", *path, f"hook_{last}"])
    if site.site.index("head") is not None or not (isinstance(layer, ir.Const) and type(layer.value) is int):
        help = "export a decomposition of a whole site, of one block or of all"
        raise fail("MI0514", f"no format names this `{site.site.name}`", site.site.span, help=help)
    return layer.value, ".".join(["blocks", str(layer.value), *path, f"hook_{last}"])


def _model_name(site: SiteV, checked: Checked) -> str:
    node: Any = site.model.node
    args = dict(node.args) if isinstance(node, ir.Model) else {}
    named = args.get("id") or args.get("path")
    return str(named) if named else checked.ctx.models.get(node.digest, "")
