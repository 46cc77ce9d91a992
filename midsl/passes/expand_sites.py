"""expand_sites: swept families become explicit, counted points.

Legal always: it only writes out what `*` means for this model and this data, and at which points a `where`
holds that is about coordinates alone. Required: later passes and the planner see points, never stars, in
the domain of a sweep.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from midsl.diagnostics.model import fail
from midsl.ir import nodes as ir
from midsl.ir.program import Program
from midsl.ir.types import Axis
from midsl.passes.base import Outcome
from midsl.passes.static import points_where
from midsl.sema.facts import Facts


def expand_sites(program: Program, facts: Facts, outcome: Outcome) -> Program:
    """Replace every `Family` domain by `Points`, in row-major order of its stars; conditions likewise."""
    users = _parts_of_sweeps(program)

    def expand(node: ir.Node) -> ir.Node:
        if isinstance(node, ir.Sweep) and isinstance(node.domain, ir.Top) and node.domain.k is None:
            held = points_where(node.domain.score)
            if held is None:
                return node
            if not held:
                raise fail(
                    "MI0402",
                    f"`where` holds at no point of the sweep over `{', '.join(node.columns)}`",
                    node.domain.score.span,
                    label="false at all points",
                    help="loosen the condition, or leave it out",
                )
            outcome.hits += 1
            return replace_sweep(node, held)
        if not (isinstance(node, ir.Sweep) and isinstance(node.domain, ir.Family)):
            return node
        points: list[tuple[ir.Scalar, ...]] = []
        for site in node.domain.sites:
            points += _members(site, node, facts, users)
        if not points:
            raise fail(
                "MI0402",
                f"the sweep over `{node.name}` has no members",
                node.span,
                help="`midsl sites` lists what the model has",
            )
        if len(set(points)) < len(points):
            raise fail(
                "MI0405",
                f"one site stands twice in the sweep over `{node.name}`",
                node.span,
                help="leave one of the two out",
            )
        outcome.hits += 1
        return replace_sweep(node, tuple(points))

    done = program.rewrite(expand)
    counts = {s.name: len(s.domain.points) for s in _sweeps(done) if isinstance(s.domain, ir.Points)}
    outcome.said = ", ".join(f"{n}: {c} points" for n, c in counts.items()) or "nothing swept"
    return done


def replace_sweep(sweep: ir.Sweep, points: tuple[tuple[ir.Scalar, ...], ...]) -> ir.Sweep:
    """The sweep with these points, its axes sized and labelled."""
    axes: tuple[Axis, ...]
    if len(sweep.axes) == len(sweep.columns) and (
        len(sweep.columns) > 1 or (len(points) > 0 and len(sweep.axes) == 1)
    ):
        dense = []
        for i, axis in enumerate(sweep.axes):
            labels = tuple(dict.fromkeys(p[i] for p in points))
            dense.append(replace(axis, size=len(labels), labels=labels))  # type: ignore[arg-type]
        axes = tuple(dense)
    else:
        axes = (replace(sweep.axes[0], size=len(points)),)
    domain = ir.Points(points, type=sweep.domain.type, span=sweep.domain.span)
    return ir.Sweep(sweep.name, sweep.columns, axes, domain, type=sweep.type, span=sweep.span)


def _sweeps(program: Program) -> list[ir.Sweep]:
    return [n for n in ir.walk(*program.roots) if isinstance(n, ir.Sweep)]


def _parts_of_sweeps(program: Program) -> dict[str, ir.Part]:
    """Sweep name to the data its sites are used on (for stars over positions)."""
    found: dict[str, ir.Part] = {}
    for n in ir.walk(*program.roots):
        if isinstance(n, ir.Forward):
            for edit in n.edits:
                for s in ir.sweeps_of(edit.site):
                    found.setdefault(s.digest, n.data)
        if isinstance(n, (ir.Read, ir.Grad)):
            for s in ir.sweeps_of(n.site):
                found.setdefault(s.digest, n.run.data)
    return found


def _members(
    site: ir.Site, sweep: ir.Sweep, facts: Facts, users: dict[str, ir.Part]
) -> list[tuple[ir.Scalar, ...]]:
    sizes = facts.sizes(site.model)
    ranges: list[tuple[ir.Scalar, ...]] = []
    names: list[str] = []
    for axis, index in site.select:
        if isinstance(index, ir.Const) and isinstance(index.value, int):
            ranges.append((index.value,))
        elif isinstance(index, ir.Star) and axis in ("pos", "key_pos"):
            part = users.get(sweep.digest)
            dataset = facts.dataset(part.data) if part else None
            if part is None or dataset is None:
                raise fail(
                    "MI0402",
                    "positions can only be swept on data that a run uses",
                    sweep.span,
                    help="edit or read the swept position in a run: `run m on d.clean do { x := clean }`",
                )
            ranges.append(tuple(range(int(dataset.part(part.side, part.split).lengths.max()))))
        elif isinstance(index, ir.Star):
            if axis not in sizes:
                raise fail(
                    "MI0601",
                    f"the size of `{axis}` is not known before the model is loaded",
                    sweep.span,
                    help="sweep a range with an end: `0..12`",
                )
            info = facts.info(site.model)
            row = info.site(site.name) if info else None
            layers = row.layers if axis == "layer" and row is not None and row.layers is not None else None
            ranges.append(tuple(layers) if layers is not None else tuple(range(sizes[axis])))
        else:
            continue
        names.append(axis)
    points = list(product(*ranges))
    taken = [_named(m, names) for m in site.minus]
    return [p for p in points if not any(_inside(p, t) for t in taken)]


def _named(site: ir.Site, names: list[str]) -> tuple[ir.Scalar, ...]:
    values: list[ir.Scalar] = []
    for n in names:
        index = site.index(n)
        values.append(index.value if isinstance(index, ir.Const) and isinstance(index.value, int) else None)
    return tuple(values)


def _inside(point: tuple[ir.Scalar, ...], taken: tuple[ir.Scalar, ...]) -> bool:
    return all(t is None or t == p for p, t in zip(point, taken, strict=True))
