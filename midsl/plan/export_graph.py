"""Writing a graph that a run reported in the format of another package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from midsl.artefacts.base import read_json
from midsl.artefacts.graphs import graphml, mib, neuronpedia, tracer
from midsl.artefacts.graphs.base import GraphFile, Number
from midsl.diagnostics.model import fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.store.db import Store
from midsl.store.rows import Key
from midsl.store.runs import find_run
from midsl.store.wide import WideTable, side_by_side

WRITERS: dict[str, Callable[[GraphFile, Path], None]] = {
    neuronpedia.FORMAT: neuronpedia.write,
    tracer.FORMAT: tracer.write,
    mib.FORMAT: mib.write,
    graphml.FORMAT: graphml.write,
}


def export_graph(
    store: Path, run: str, name: str, format: str, to: Path, at: Mapping[str, str], about: Path | None
) -> GraphFile:
    """Write a graph of a run, ``experiment.name``, to a file; return it.

    Args:
        at: column -> value, where the graph was reported for several points of a sweep.
        about: a JSON object of what the format says besides the graph.

    Raises:
        MiError: MI0807 if there is no such run or graph or it is one of several, MI0514 where the
            format has no place for it.
    """
    with Store(store).reading() as (con, _):
        found = find_run(con, run)
        tables = {t.title: t for t in side_by_side(found.tables) if isinstance(t, WideTable)}
    graphs = [t.removesuffix("_edges") for t in tables if t.endswith("_edges")]
    if f"{name}_edges" not in tables:
        has = ", ".join(graphs) or "none"
        help = did_you_mean(name, graphs) or f"its graphs: {has}"
        raise fail("MI0807", f"{found.name} has no graph `{name}`", help=help)
    told = read_json(about) if about is not None else {}
    made = _graph(tables[f"{name}_edges"], tables[f"{name}_nodes"], at, told)
    WRITERS[format](made, to)
    return made


def _graph(edges: WideTable, nodes: WideTable, at: Mapping[str, str], about: Mapping[str, Any]) -> GraphFile:
    have = {k for t in (edges, nodes) for k in t.first.keys} - {"node", "src", "dst"}
    for key in at:
        if key not in have:
            help = f"it has {', '.join(sorted(have)) or 'none'}"
            raise fail("MI0807", f"the graph has no column `{key}`", help=help)
    there = _rows(nodes, at, ("node",))
    names = tuple(str(r["node"]) for r in there)
    place = {n: i for i, n in enumerate(names)}
    between = _rows(edges, at, ("src", "dst"))
    columns: dict[str, list[Number]] = {c: [_number(r[c]) for r in there] for c in nodes.parts}
    columns["kept"] = [bool(v) for v in columns["kept"]]
    weights: dict[str, list[Number]] = {c: [_number(r[c]) for r in between] for c in edges.parts}
    return GraphFile(
        "midsl",
        names,
        columns,
        [place[str(r["src"])] for r in between],
        [place[str(r["dst"])] for r in between],
        {**weights, "kept": [True] * len(between)},
        about,
    )


def _rows(table: WideTable, at: Mapping[str, str], own: tuple[str, ...]) -> list[dict[str, Key]]:
    """The rows of one graph of a table."""
    more = [k for k in table.first.keys if k not in own]
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows()]
    picked = [r for r in rows if all(str(r[k]) == v for k, v in at.items() if k in more)]
    if picked and any(r[k] != picked[0][k] for r in picked for k in more):
        left = next(k for k in more if any(r[k] != picked[0][k] for r in picked))
        values = ", ".join(dict.fromkeys(str(r[left]) for r in picked))
        raise fail(
            "MI0807",
            f"`{table.title}` is a graph for each `{left}`",
            help=f"say which: --at {left}=.. ({values})",
        )
    for k in more:  # edges there may be none of, but then at a value that there is
        if k in at and not any(str(r[k]) == at[k] for r in rows):
            values = ", ".join(dict.fromkeys(str(r[k]) for r in rows))
            help = f"its values: {values or 'none'}"
            raise fail("MI0807", f"`{table.title}` has no `{k}` of {at[k]}", help=help)
    return picked


def _number(value: Key) -> float:
    return float("nan") if value is None else float(value)  # a value that is none is no number
