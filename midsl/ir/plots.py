"""The kinds of plots and the channels that each takes: what a spec is checked by, and what is drawn."""

from __future__ import annotations

from collections.abc import Collection, Mapping

PLOTS: dict[str, tuple[str, ...]] = {
    "heatmap": ("x", "y", "color", "facet"),
    "line": ("x", "y", "color", "facet"),
    "bar": ("x", "y", "color", "facet"),
    "scatter": ("x", "y", "color", "facet"),
    "strip": ("x", "y", "color", "facet"),
    "histogram": ("x", "color", "facet"),
    "hist2d": ("x", "y", "facet"),
    "tokens": ("x", "facet"),
    "graph": ("facet",),
}


def text_axis(columns: Collection[str], channels: Mapping[str, str]) -> str:
    """Along which axis the text of `tokens` runs: `pos`, or `key_pos` of what attention looks at.

    >>> text_axis(["example", "head", "key_pos"], {"facet": "head"})
    'key_pos'
    """
    return channels.get("x") or ("key_pos" if "key_pos" in columns and "pos" not in columns else "pos")
