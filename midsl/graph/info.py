"""What the front end knows of a model: sizes, sites and what may be done with them.

`ModelInfo` is plain data (no torch), made once per architecture by ``midsl.graph`` and kept as JSON,
so that `check` can type a spec without weights. Dataclasses, since `check` waits for every import;
pydantic validates the files (see ``midsl.graph.cache``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

NO_MLP = "the block has no MLP"
"""Why a site of an MLP is not there, in a model of attention alone."""


@dataclass(frozen=True)
class SiteRow:
    """One row of the capability table: a site name and what holds for it."""

    name: str
    """Without the block: ``attn.z``, ``resid_pre``, ``embed``, ``logits``, ``ln_final.normalized``."""
    axes: tuple[str, ...]
    """Canonical axes of one example batch: ``("batch", "pos", "head", "d_head")``."""
    per_block: bool
    layers: tuple[int, ...] | None = None
    """Layers that have it; None = all (for per_block sites)."""
    module: str = ""
    """Module path, ``{layer}`` for the block index."""
    kind: Literal["node", "expansion", "module"] = "node"
    readable: bool = True
    writable: bool = True
    why: str = ""
    """Why it cannot be read or written, where it can't."""
    doc: str = ""


@dataclass(frozen=True)
class WeightRow:
    """A weight by its field name: ``W_U [d_model, vocab]``, ``mlp.W_out [d_mlp, d_model]``."""

    name: str
    axes: tuple[str, ...]
    per_block: bool


@dataclass(frozen=True)
class ModelInfo:
    """Sizes by axis name (`layer` = number of blocks), the site table, and how the model runs."""

    arch: str
    key: str
    """Hash of everything that decides the graph: architecture and configuration."""
    sizes: dict[str, int]
    sites: tuple[SiteRow, ...]
    weights: tuple[WeightRow, ...] = ()
    causal: bool = True
    engine: Literal["graph", "hooks"] = "graph"
    why: str = ""
    """Why the hook engine, where it is used."""
    max_pos: int | None = None
    aliases: tuple[tuple[tuple[str, int | None], tuple[str, int | None]], ...] = ()
    """Names of one address: ((name, layer), the (name, layer) that stands for the address)."""

    def address(self, name: str, layer: int | None) -> tuple[str, int | None]:
        """Return the (name, layer) that stands for a site's address: equal for two names of one place."""
        return dict(self.aliases).get((name, layer), (name, layer))

    def site(self, name: str) -> SiteRow | None:
        """Return the row of a site name, or None."""
        return next((s for s in self.sites if s.name == name), None)


def flowing(info: ModelInfo, sites: Iterable[tuple[str, int | None]]) -> set[tuple[str, int | None]]:
    """Those of the sites that must lie on the way to the logits for a gradient to reach them.

    What is only read may hang at the side, where each gradient would be zero: an expansion, and a node whose
    rows and positions are one dimension, which is read apart.
    """
    rows = {s: info.site(s[0]) for s in sites}
    return {s for s, r in rows.items() if r is not None and r.kind != "module" and r.writable}
