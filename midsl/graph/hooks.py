"""The hook engine: models that cannot become a graph, run as they are with module hooks.

Its sites are what modules take and give: `resid_pre` and `resid_post` of each block, and the input
and output of any module by path. A run is a whole forward; nothing is sliced, shared or narrowed.
`info.engine` is ``"hooks"`` and `info.why` says why, so that a plan can tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from midsl.graph.info import ModelInfo, SiteRow
from midsl.graph.names import EMULATOR
from midsl.graph.sites import Loaded, SiteConflict

Site = tuple[str, int | None]
Edit = Callable[[Tensor], Tensor]
_STREAM = ("batch", "pos", "d_model")


def module_site(path: str, side: str) -> str:
    """Return the name of a module's input or output as a site: ``module["h.0.mlp"].output``."""
    return f'module["{path}"].{side}'


@dataclass
class HookModel:
    """A model on the hook engine.

    Attributes:
        info: its table: module sites, of which only blocks have named axes.
        forward: the module that runs.
        blocks_path: path of the list of blocks inside `forward`; None where there is none.
    """

    info: ModelInfo
    forward: nn.Module
    blocks_path: str | None

    def run(
        self,
        ids: Tensor,
        mask: Tensor,
        edits: Mapping[Site, Edit] | None = None,
        reads: Iterable[Site] = (),
    ) -> dict[Site, Tensor]:
        """Run once and return the values of `reads`, after the edits; ``("logits", None)`` is one of them
        (of a model of states ``("output", None)``).

        Shapes: ids and mask int64 [batch, pos]; values as the modules give them.

        Raises:
            SiteConflict: if a site is not in the table, or its module was not called, called more
                than once, or handled something else than one tensor first.
        """
        edits = dict(edits or {})
        end: Site = ("logits" if self.info.site("output") is None else "output", None)
        wanted = list(dict.fromkeys(reads))
        points: dict[tuple[str, str], _Point] = {}
        for site in [*wanted, *edits]:
            if site != end:
                points.setdefault(self._place(site), _Point()).sites.append(site)
        for site, edit in edits.items():
            if site != end:
                points[self._place(site)].edits.append(edit)
        modules = dict(self.forward.named_modules())
        handles = []
        try:
            for (path, side), point in points.items():
                if side == "input":
                    hook = partial(_before, point)
                    handles.append(modules[path].register_forward_pre_hook(hook, with_kwargs=True))
                else:
                    handles.append(modules[path].register_forward_hook(partial(_after, point)))
            with torch.no_grad():
                made: Tensor = self.forward(ids, mask)
        finally:
            for handle in handles:
                handle.remove()
        if end in edits:
            made = edits[end](made)
        out: dict[Site, Tensor] = {}
        for place, point in points.items():
            if point.calls != 1 or point.value is None:
                raise SiteConflict(f"module `{place[0]}` was called {point.calls} times in one forward")
            out |= {site: point.value for site in point.sites if site in wanted}
        return out | ({end: made} if end in wanted else {})

    def _place(self, site: Site) -> tuple[str, str]:
        """Return the module path and side of a site."""
        name, layer = site
        row = self.info.site(name)
        if row is None or row.per_block != (layer is not None):
            raise SiteConflict(f"the hook engine has no site {name}")
        if layer is None:
            return row.module, "output" if name == "state" else name.rsplit(".", 1)[1]
        if not 0 <= layer < self.info.sizes["layer"]:
            raise SiteConflict(f"there is no block {layer}")
        return row.module.replace("{layer}", str(layer)), "input" if name == "resid_pre" else "output"


class _Point:
    """What happens at one side of one module."""

    def __init__(self) -> None:
        self.sites: list[Site] = []
        self.edits: list[Edit] = []
        self.value: Tensor | None = None
        self.calls = 0

    def take(self, value: Any) -> Tensor:
        if not isinstance(value, Tensor):
            raise SiteConflict(f"a module handles {type(value).__name__} where a tensor was expected")
        self.calls += 1
        for edit in self.edits:
            value = edit(value)
        self.value = value
        assert isinstance(value, Tensor)
        return value


def _before(point: _Point, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if args:
        return (point.take(args[0]), *args[1:]), kwargs
    name = next(iter(kwargs), None)
    if name is None:
        raise SiteConflict("the module takes no input")
    return args, kwargs | {name: point.take(kwargs[name])}


def _after(point: _Point, _module: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
    if isinstance(output, (tuple, list)) and output:
        return type(output)((point.take(output[0]), *output[1:]))
    return point.take(output)


def hook_model(loaded: Loaded, why: str, sizes: Mapping[str, int] | None = None) -> HookModel:
    """Make the hook engine's model, with the reason for it (`ExportFailed.reason`).

    `sizes` are axis sizes known from elsewhere (a configuration); `layer` is counted.
    """
    modules = dict(loaded.forward.named_modules())
    known = dict(sizes or {})
    rows: list[SiteRow] = []
    path = loaded.blocks_path
    if path is not None and isinstance(modules.get(path), nn.ModuleList):
        known["layer"] = len(modules[path])
        block = f"{path}.{{layer}}"
        for name, side in (("resid_pre", "enters"), ("resid_post", "leaves")):
            doc = f"what {side} the block"
            rows.append(
                SiteRow(name=name, axes=_STREAM, per_block=True, module=block, kind="module", doc=doc)
            )
    for name in modules:
        if name:
            rows += [
                SiteRow(name=module_site(name, side), axes=(), per_block=False, module=name, kind="module")
                for side in ("input", "output")
            ]
    if hasattr(loaded.forward, "d_state"):  # what looks a state up is a module of that name
        for end, module in ((EMULATOR[0], "state"), (EMULATOR[-1], "")):
            rows.append(
                SiteRow(
                    name=end.name, axes=end.axes, per_block=False, module=module, kind="module", doc=end.doc
                )
            )
    else:
        axes = ("batch", "pos", "vocab")
        doc = "the model's output"
        rows.append(SiteRow(name="logits", axes=axes, per_block=False, kind="module", doc=doc))
    info = ModelInfo(
        arch=loaded.arch,
        key=loaded.key,
        sizes=known,
        sites=tuple(rows),
        causal=False,
        engine="hooks",
        why=why,
        max_pos=loaded.max_pos,
    )
    loaded.forward.eval()
    return HookModel(info, loaded.forward, path)
