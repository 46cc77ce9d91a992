"""Pages of units: the places where each is largest, as text on the colour of its values, and what it does.

What ``contexts`` leaves in a run is tables that belong together: ``f_features``, ``f_top``, ``f_tokens`` and,
where effects were given, ``f_promoted`` and ``f_suppressed``. A page draws some units, says which, and how to
ask for the others.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from midsl.diagnostics.visible import visible
from midsl.store.rows import ResultTable
from midsl.store.views import view_name

MOST_UNITS, MOST_PLACES = 24, 10
"""Units of a pass that a page draws, and places of each; what is left out is told."""
FEATURES, TOP, TOKENS = "_features", "_top", "_tokens"
EFFECTS = {"_promoted": "promotes", "_suppressed": "suppresses"}
PLACE_KEYS = ("rank", "example", "pos", "token")

Unit = tuple[Any, ...]


@dataclass(frozen=True)
class Pass:
    """The tables of one pass over the rows, by the ends of their names."""

    experiment: str
    name: str
    keys: tuple[str, ...]
    """The columns that tell units apart."""
    tables: dict[str, ResultTable]

    @property
    def units(self) -> list[Unit]:
        """All units, from the largest value down; those without a place come last."""
        of = self.tables[f"{FEATURES}.largest"]
        size = [-math.inf if math.isnan(v) else float(v) for v in of.value]
        every = list(zip(*(of.keys[k] for k in self.keys), strict=True))
        return [every[i] for i in sorted(range(len(every)), key=lambda i: -size[i])]

    def of(self, end: str, chosen: set[Unit], columns: Sequence[str]) -> dict[Unit, list[tuple[Any, ...]]]:
        """Rows of one table, by unit: some key columns, then the value (None where there is none)."""
        found: dict[Unit, list[tuple[Any, ...]]] = {}
        t = self.tables.get(end)
        if t is None:
            return found
        units = zip(*(t.keys[k] for k in self.keys), strict=True)
        for i, unit in enumerate(units):
            if unit in chosen:
                value = None if math.isnan(t.value[i]) else float(t.value[i])
                found.setdefault(unit, []).append((*(t.keys[c][i] for c in columns), value))
        return found


def passes(tables: Sequence[ResultTable]) -> list[Pass]:
    """The passes over rows of which a run has the tables, in their order."""
    by_title = {(t.experiment, t.report): t for t in tables}
    found = []
    for (experiment, report), top in by_title.items():
        name = report.removesuffix(TOP)
        keys = tuple(top.keys)
        if name == report or keys[-len(PLACE_KEYS) :] != PLACE_KEYS:
            continue
        ends = [TOP, TOKENS, *EFFECTS, *(f"{FEATURES}.{c}" for c in ("density", "mean", "largest"))]
        held = {e: t for e in ends if (t := by_title.get((experiment, name + e))) is not None}
        if f"{FEATURES}.largest" in held and TOKENS in held:
            found.append(Pass(experiment, name, keys[: -len(PLACE_KEYS)], held))
    return found


def section(p: Pass, spec: str) -> str:
    """The units of a pass as HTML: some of them, each folded but the first."""
    every = p.units
    live = sum(1 for v in p.tables[f"{FEATURES}.largest"].value if not math.isnan(v))
    shown = every[: min(live, MOST_UNITS)]
    chosen = set(shown)
    numbers = {
        c: {u: rows[0][-1] for u, rows in p.of(f"{FEATURES}.{c}", chosen, ()).items()}
        for c in ("density", "mean", "largest")
    }
    places = p.of(TOP, chosen, ("rank", "example", "pos", "token"))
    around = p.of(TOKENS, chosen, ("rank", "shift", "token"))
    effects = {e: p.of(e, chosen, ("token",)) for e in EFFECTS if e in p.tables}
    body = "".join(
        _unit(
            p.keys,
            unit,
            [numbers[c].get(unit) for c in ("density", "mean", "largest")],
            places.get(unit, []),
            around.get(unit, []),
            {e: rows.get(unit, []) for e, rows in effects.items()},
            opened=i == 0,
        )
        for i, unit in enumerate(shown)
    )
    return f"{_told(p, spec, len(every), live, shown)}{body}"


def _told(p: Pass, spec: str, every: int, live: int, shown: Sequence[Unit]) -> str:
    """How many units there are, which are drawn, and how to ask for one that is not."""
    view = view_name(spec, p.experiment, p.name + TOKENS)
    features = view_name(spec, p.experiment, p.name + FEATURES)
    one = shown[-1] if shown else (0,) * len(p.keys)
    where = " AND ".join(f"{k} = {v!r}" for k, v in zip(p.keys, one, strict=True))
    columns = ", ".join(p.keys)
    asks = (
        f"SELECT {columns} FROM {features} ORDER BY largest DESC LIMIT {MOST_UNITS}",
        f"SELECT rank, shift, token, value FROM {view} WHERE {where} ORDER BY rank, shift",
    )
    lines = "".join(f'<pre tabindex="0">midsl sql "{_esc(ask)}"</pre>' for ask in asks)
    return (
        f"<p>{len(shown)} of {every} units are drawn, {live} are ever active: those with the greatest "
        f"values, from the greatest down. This lists them, and this shows any other:</p>{lines}"
    )


def _unit(
    keys: Sequence[str],
    unit: Unit,
    numbers: Sequence[float | None],
    places: Sequence[tuple[Any, ...]],
    around: Sequence[tuple[Any, ...]],
    effects: dict[str, list[tuple[Any, ...]]],
    opened: bool,
) -> str:
    name = ", ".join(f"{k} {v}" for k, v in zip(keys, unit, strict=True))
    density, mean, largest = numbers
    words = (
        f"on at {_share(density)} of positions, {_number(mean)} there on average, {_number(largest)} at most"
    )
    top = max((abs(r[-1]) for r in around if r[-1] is not None), default=1.0) or 1.0
    texts: dict[int, list[tuple[Any, ...]]] = {}
    for row in around:
        texts.setdefault(row[0], []).append(row)
    lines = "".join(
        f'<li><span class="num">{_number(value)}</span> <span class="soft">row {row}, position {pos}</span> '
        f'<span class="context">{_text(texts.get(rank, []), top)}</span></li>'
        for rank, row, pos, _, value in places[:MOST_PLACES]
    )
    more = f"<p>{MOST_PLACES} of {len(places)} places.</p>" if len(places) > MOST_PLACES else ""
    told = "".join(f"<p>{EFFECTS[e]} {_tokens(rows)}</p>" for e, rows in effects.items())
    return (
        f'<details class="unit"{" open" if opened else ""}><summary>{_esc(name)}: {words}</summary>'
        f'{told}<ol class="places">{lines}</ol>{more}</details>'
    )


def _text(row: Sequence[tuple[Any, ...]], top: float) -> str:
    """Tokens on the colour of their values: orange above 0, blue below; the place itself is marked."""
    out = []
    for _, shift, token, value in sorted(row, key=lambda r: r[1]):
        strength = 0.55 * min(1.0, abs(value or 0.0) / top)
        hue = "200, 90, 0" if (value or 0.0) >= 0 else "30, 90, 220"
        style = f' style="background: rgba({hue}, {strength:.2f})"' if strength >= 0.005 else ""
        tag = "mark" if shift == 0 else "span"
        out.append(f'<{tag} title="{_number(value)}"{style}>{_word(token)}</{tag}>')
    return "".join(out)


def _tokens(rows: Sequence[tuple[Any, ...]]) -> str:
    return ", ".join(f"<code>{_word(token)}</code> {_number(value, '+')}" for token, value in rows)


def _word(token: object) -> str:
    """A token as it stands in a text, with what has no shape made visible."""
    return _esc(visible(str(token).replace("\n", "↵")))


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.3g}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.3g} %"


def _esc(text: object) -> str:
    return html.escape(str(text))
