"""The kinds of plots and the channels that each takes: what a spec is checked by, and what is drawn."""

from __future__ import annotations

PLOTS: dict[str, tuple[str, ...]] = {
    "heatmap": ("x", "y", "color", "facet"),
    "line": ("x", "y", "color", "facet"),
    "bar": ("x", "y", "color", "facet"),
    "scatter": ("x", "y", "color", "facet"),
    "strip": ("x", "y", "color", "facet"),
    "histogram": ("x", "color", "facet"),
    "hist2d": ("x", "y", "facet"),
    "tokens": ("facet",),
    "graph": ("facet",),
}
