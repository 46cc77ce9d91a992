"""Vega-Lite specifications drawn as SVG, by vl-convert: one picture for a light page and a dark one.

Words and lines take the colour of the text around them, and what a mark says of itself to screen readers is
its tooltip too. Nothing is fetched: vl-convert holds Vega and Vega-Lite itself.
"""

from __future__ import annotations

import json
import re
from functools import cache
from types import ModuleType
from typing import Any

from midsl.diagnostics.model import fail

INK, GRID = "currentColor", "#8886"
CONFIG: dict[str, Any] = {
    "background": "transparent",
    "axis": {
        "labelColor": INK,
        "titleColor": INK,
        "domainColor": INK,
        "tickColor": INK,
        "gridColor": "#8886",
    },
    "title": {"color": INK, "subtitleColor": INK},
    "legend": {"labelColor": INK, "titleColor": INK},
    "header": {"labelColor": INK, "titleColor": INK},
    "view": {"stroke": GRID},
}
_MARK = re.compile(r'<path aria-label="([^"]*)"( role="graphics-symbol"[^>]*?)/>')


@cache
def _converter() -> ModuleType | None:
    try:
        import vl_convert
    except ModuleNotFoundError:
        return None
    return vl_convert


def can_draw() -> bool:
    """Whether vl-convert is installed."""
    return _converter() is not None


def svg(spec: dict[str, Any]) -> str:
    """Return a specification drawn as SVG.

    Raises:
        MI0808: vl-convert is not installed.
    """
    drawn = _needed().vegalite_to_svg(json.dumps(spec | {"config": CONFIG}), allowed_base_urls=[])
    return _MARK.sub(r'<path aria-label="\1"\2><title>\1</title></path>', drawn)


def png(spec: dict[str, Any], scale: float = 2.0) -> bytes:
    """Return a specification drawn as PNG, dark on white; `scale` is how many dots a point has.

    Raises:
        MI0808: vl-convert is not installed.
    """
    drawn: bytes = _needed().vegalite_to_png(
        json.dumps(spec | {"background": "white"}), scale=scale, allowed_base_urls=[]
    )
    return drawn


def _needed() -> ModuleType:
    draws = _converter()
    if draws is None:
        raise fail("MI0808", "drawing needs vl-convert-python", help='pip install "midsl[plot]"')
    return draws
